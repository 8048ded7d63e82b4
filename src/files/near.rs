//! Names that are nearly those of files that are there, for messages about files that are not.

use crate::registry::nearest;
use std::path::{Path, PathBuf};

/// Of so many entries of a folder it is looked whether they have a file.
const MOST_FOLDERS: usize = 200;

/// The name in the folder of `path` that is most like its own, if one is. A longer name of the same kind, such as `c4_sample.jsonl` for
/// `c4.jsonl`, is like it, too. A name that differs in nothing but a number is another file, such as that of another seed.
pub fn near(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let shape = without_numbers(name);
    names.retain(|other| without_numbers(other) != shape);
    names.sort();
    let (stem, kind) = parts(name);
    let (same, others): (Vec<&str>, Vec<&str>) = names.iter().map(String::as_str).partition(|it| parts(it).1 == kind);
    // An ending that both have says nothing of how alike two names are.
    let stems: Vec<&str> = same.iter().map(|it| parts(it).0).collect();
    let of_kind = nearest(stem, &stems).and_then(|stem| same.iter().copied().find(|it| parts(it).0 == stem));
    let longer = || same.iter().copied().find(|it| it.starts_with(stem));
    let found = of_kind.or_else(|| nearest(name, &others)).or_else(longer);
    found.map(str::to_string)
}

/// The name before its ending, and the ending.
fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ""))
}

/// The parts of a name between its numbers.
fn without_numbers(name: &str) -> Vec<&str> {
    let parts = name.split(|c: char| c.is_ascii_digit());
    parts.filter(|part| !part.is_empty()).collect()
}

/// Asks whether that name was meant, or the same name in a folder below.
pub fn meant(path: &Path) -> Option<String> {
    let beside = near(path).map(|name| format!("did you mean `{name}`, which is in the same folder?"));
    beside.or_else(|| below(path).map(|place| format!("did you mean `{}`?", place.display())))
}

/// The place of the same name in one of the folders beside a path.
fn below(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let shown = if folder == Path::new("") {
        Path::new(".")
    } else {
        folder
    };
    let entries = std::fs::read_dir(shown).ok()?.flatten().take(MOST_FOLDERS);
    let mut places: Vec<PathBuf> = entries
        .map(|entry| folder.join(entry.file_name()).join(name))
        .filter(|place| place.exists())
        .collect();
    places.sort();
    places.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_same_folder_is_found_by_its_likeness_or_as_a_longer_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "SmolLM2-135M-Instruct",
            "smol.toml",
            "sample_of_c4.jsonl",
            "c4_sample2.jsonl",
        ] {
            std::fs::write(folder.path().join(name), "").expect("writable");
        }
        let found = |name: &str| near(&folder.path().join(name));
        assert_eq!(found("SmolLM2-135M").as_deref(), Some("SmolLM2-135M-Instruct"));
        assert_eq!(found("smol.tml").as_deref(), Some("smol.toml"));
        assert_eq!(found("c4.jsonl").as_deref(), Some("c4_sample2.jsonl"));
        assert_eq!(found("quite another"), None);
        assert_eq!(near(&folder.path().join("nowhere/smol.tml")), None);
    }

    #[test]
    fn the_file_of_another_seed_is_another_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "windows-0.safetensors",
            "windows-10.safetensors",
            "mask-0.5-1.safetensors",
        ] {
            std::fs::write(folder.path().join(name), "").expect("writable");
        }
        let found = |name: &str| near(&folder.path().join(name));
        for other in [
            "windows-1.safetensors",
            "windows-2.safetensors",
            "mask-0.5-0.safetensors",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(found("window-0.safetensors").as_deref(), Some("windows-0.safetensors"));
    }

    #[test]
    fn the_same_name_in_a_folder_below_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["data/tasks", "data/other"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("writable");
        }
        std::fs::write(folder.path().join("data/tasks/piqa.jsonl"), "").expect("writable");
        let asked = meant(&folder.path().join("data/piqa.jsonl")).expect("it is below");
        let place = folder.path().join("data/tasks/piqa.jsonl");
        assert_eq!(asked, format!("did you mean `{}`?", place.display()));
        assert_eq!(meant(&folder.path().join("data/hellaswag.jsonl")), None);
    }
}
