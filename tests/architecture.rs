//! Claims about the source tree itself: module arrows point one way, and what is promised exists.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crate's modules, in the order of `lib.rs`.
fn modules() -> Vec<String> {
    read(&root().join("src/lib.rs"))
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(String::from))
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the source tree") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn modules_use_only_those_listed_after_them() {
    let modules = modules();
    assert!(modules.len() > 15, "lib.rs lists only {modules:?}");
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&source).expect("files are in src").with_extension("");
        let own = inside
            .iter()
            .next()
            .expect("a path has a part")
            .to_string_lossy()
            .into_owned();
        let Some(place) = modules.iter().position(|module| *module == own) else {
            continue;
        };
        for (number, line) in read(file).lines().enumerate() {
            for after in line.split("crate::").skip(1) {
                let used: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if let Some(target) = modules.iter().position(|module| *module == used)
                    && target < place
                {
                    wrong.push(format!("{}:{}: {own} uses {used}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_shipped_experiment_is_listed_and_resolves() {
    let folder = root().join("experiments");
    let listing = read(&folder.join("README.md"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("experiments are in the repository") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path
                .file_name()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            assert!(
                listing.contains(&format!("`{name}`")),
                "experiments/README.md does not mention {name}"
            );
            zprune::experiment::resolve::read(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} experiments");
}

#[test]
fn the_changelog_has_an_entry_for_this_version() {
    let changelog = read(&root().join("CHANGELOG.md"));
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    let first = changelog
        .lines()
        .find(|line| line.starts_with("## ") && *line != "## Unreleased")
        .expect("the changelog has entries");
    assert_eq!(first, heading);
}
