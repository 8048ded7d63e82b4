//! Paths of an experiment file: they are relative to the folder of the file.

use crate::error::{Error, Result};
use crate::experiment::file_names::varies;
use crate::experiment::problems::Problems;
use crate::experiment::raw::{ListedMethod, RawComponent, RawExperiment, RawMethod};
use crate::experiment::source::{STANDARD_INPUT, Source};
use crate::hub::datasets::PREFIX;
use serde_spanned::Spanned;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// Makes every path of an experiment, which is relative to the folder of its file, one that can be opened from the working
/// directory.
pub fn place(raw: &mut RawExperiment, file: &Path, problems: &mut Problems) {
    let folder = file.parent().unwrap_or(Path::new(""));
    for path in of_sections(raw) {
        place_path(path, folder, problems);
    }
    if let Some(scratch) = &mut raw.compute.scratch {
        place_path(scratch, folder, problems);
    }
    for method in of_methods(raw) {
        place_method(method, folder, problems);
    }
}

/// The paths in all sections but methods.
fn of_sections(raw: &mut RawExperiment) -> Vec<&mut Spanned<PathBuf>> {
    let mut paths: Vec<&mut Spanned<PathBuf>> = Vec::new();
    for model in &mut raw.model {
        paths.extend(&mut model.get_mut().path);
    }
    if let Some(calibration) = &mut raw.calibration {
        let calibration = calibration.get_mut();
        paths.extend(&mut calibration.corpus);
        paths.extend(&mut calibration.tokens);
        paths.extend(&mut calibration.gradients);
    }
    for evaluation in &mut raw.evaluation {
        let evaluation = evaluation.get_mut();
        paths.extend(&mut evaluation.corpus);
        paths.extend(&mut evaluation.tokens);
    }
    for task in &mut raw.task {
        paths.extend(&mut task.get_mut().data);
    }
    for generation in &mut raw.generation {
        let generation = generation.get_mut();
        paths.push(&mut generation.prompts);
        paths.extend(&mut generation.examples);
    }
    paths
}

/// The paths of an experiment at which nothing is, with their places. They were [placed](place). What each cell fills in, and what the
/// hub has, is not looked for.
pub fn absent(raw: &mut RawExperiment) -> Vec<(Range<usize>, PathBuf)> {
    let mut found = Vec::new();
    let mut look = |path: &Spanned<PathBuf>| {
        let text = path.get_ref().to_string_lossy();
        let elsewhere = text.starts_with(PREFIX) || varies(&text) || text.is_empty() || text == STANDARD_INPUT;
        if !elsewhere && !path.get_ref().exists() {
            found.push((path.span(), path.get_ref().clone()));
        }
    };
    of_sections(raw).into_iter().for_each(|path| look(path));
    of_methods(raw).flat_map(outside).for_each(|path| look(path));
    found
}

/// Says of these paths that nothing is there, each with its line.
pub fn besides(source: &Source, absent: &[(Range<usize>, PathBuf)]) -> String {
    let lines = absent.iter().map(|(span, path)| {
        let before = source.text.get(..span.start).unwrap_or(&source.text);
        format!("  line {}: `{}`", before.matches('\n').count() + 1, path.display())
    });
    let lines: Vec<String> = lines.collect();
    format!("Besides, nothing is at these paths of the file:\n{}", lines.join("\n"))
}

/// The methods whose keys were typed.
fn of_methods(raw: &mut RawExperiment) -> impl Iterator<Item = &mut RawMethod> {
    let listed = raw.methods.iter_mut().filter_map(|method| match method.get_mut() {
        ListedMethod::Keys(method) => Some(&mut **method),
        ListedMethod::Name(_) => None,
    });
    raw.method.iter_mut().map(Spanned::get_mut).chain(listed)
}

/// What another program made for a method.
fn outside(method: &mut RawMethod) -> impl Iterator<Item = &mut Spanned<PathBuf>> {
    [&mut method.scores, &mut method.mask, &mut method.checkpoint]
        .into_iter()
        .flatten()
}

/// Criteria that read a file.
const CRITERIA_OF_FILES: [&str; 2] = ["scores", "mask"];

fn place_path(path: &mut Spanned<PathBuf>, folder: &Path, problems: &mut Problems) {
    let placed = placed(folder, path.get_ref());
    if let Some(placed) = problems.take(&path.span(), placed) {
        *path.get_mut() = placed;
    }
}

/// The same for the paths of a method.
pub fn place_method(method: &mut RawMethod, folder: &Path, problems: &mut Problems) {
    place_component(&mut method.allocator, &["file"], folder, problems);
    place_component(&mut method.criterion, &CRITERIA_OF_FILES, folder, problems);
    for path in outside(method) {
        place_path(path, folder, problems);
    }
}

/// The parameter `path` of components that read a file.
fn place_component(
    component: &mut Option<Spanned<RawComponent>>,
    readers: &[&str],
    folder: &Path,
    problems: &mut Problems,
) {
    let Some(component) = component else {
        return;
    };
    let span = component.span();
    let Some(path) = file_of(component.get_mut(), readers) else {
        return;
    };
    if let Some(placed) = problems.take(&span, placed(folder, Path::new(path))) {
        *path = placed.to_string_lossy().into_owned();
    }
}

/// The parameter `path` of a component that is one of those that read a file.
fn file_of<'a>(component: &'a mut RawComponent, readers: &[&str]) -> Option<&'a mut String> {
    match component.parameters.get_mut("path") {
        Some(toml::Value::String(path)) if readers.contains(&component.name.as_str()) => Some(path),
        _ => None,
    }
}

/// The path as it is from the working directory; a name of the hub stays as it is.
///
/// # Errors
/// It is empty, it is there from the working directory but not from the file's folder, or it is standard input.
fn placed(folder: &Path, path: &Path) -> Result<PathBuf> {
    if path.to_string_lossy().starts_with(PREFIX) {
        return Ok(path.to_path_buf());
    }
    if path == Path::new("") {
        return Err(Error::config("this path is empty: it names a file or a folder"));
    }
    if path == Path::new(STANDARD_INPUT) {
        return Err(Error::config(
            "standard input can be read only once, and every run of an experiment reads its files again: write it to a file, and name \
             the file",
        ));
    }
    let whole = folder.join(path);
    if varies(&path.to_string_lossy()) || whole.exists() || !path.exists() {
        return Ok(shortest(&whole));
    }
    let from_file = from(folder, path).unwrap_or_else(|| path.to_path_buf());
    Err(Error::config(format!(
        "`{}` is not in the folder of this file, and paths are relative to the file that they stand in: write \"{}\"",
        path.display(),
        from_file.display()
    )))
}

/// The path without steps back (`experiments/../models` is `models`), if it leads to the same place.
fn shortest(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match (part, short.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                short.pop();
            }
            (Component::CurDir, _) => {}
            (part, _) => short.push(part),
        }
    }
    // Where a folder is a link, a step back from it leads elsewhere.
    let same = match (path.canonicalize(), short.canonicalize()) {
        (Ok(long), Ok(short)) => long == short,
        (Ok(_), Err(_)) => false,
        _ => true,
    };
    match same && short != Path::new("") {
        true => short,
        false => path.to_path_buf(),
    }
}

/// What leads from a folder to a path that is there, by the names that are typed where these lead there, since a link has a name that its
/// owner chose; `None` if there is no way, as between drives. The empty path is the working directory.
pub fn from(folder: &Path, path: &Path) -> Option<PathBuf> {
    let folder = match folder == Path::new("") {
        true => Path::new("."),
        false => folder,
    };
    let there = path.canonicalize().ok()?;
    let typed = || way(&stepped(folder)?, &stepped(path)?);
    let leads = |way: &PathBuf| folder.join(way).canonicalize().is_ok_and(|place| place == there);
    typed()
        .filter(leads)
        .or_else(|| way(&folder.canonicalize().ok()?, &there))
}

/// The whole path, in which steps back are taken by name.
fn stepped(path: &Path) -> Option<PathBuf> {
    let mut whole = PathBuf::new();
    for part in std::path::absolute(path).ok()?.components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    Some(whole)
}

/// The steps from one whole path to another; `None` if they have nothing in common.
fn way(here: &Path, there: &Path) -> Option<PathBuf> {
    let shared = here
        .components()
        .zip(there.components())
        .take_while(|(a, b)| a == b)
        .count();
    if shared == 0 {
        return None;
    }
    let back = here.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = back.chain(there.components().skip(shared)).collect();
    match way == Path::new("") {
        true => Some(PathBuf::from(".")),
        false => Some(way),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_folder_of_the_file() {
        let place = |folder: &str, path: &str| placed(Path::new(folder), Path::new(path)).expect("a path");
        assert_eq!(place("experiments", "../models/x"), Path::new("models/x"));
        assert_eq!(place("", "models/x"), Path::new("models/x"));
        assert_eq!(place("a/b", "./c"), Path::new("a/b/c"));
        assert_eq!(place("a", "../../c"), Path::new("../c"));
        assert_eq!(place("a", "/c/d"), Path::new("/c/d"));
        assert_eq!(place("a", "hub:c4"), Path::new("hub:c4"));
        assert_eq!(place("a", "./-"), Path::new("a/-"));
        let error = placed(Path::new("a"), Path::new("-")).expect_err("no file").to_string();
        assert!(error.starts_with("standard input can be read only once"), "{error}");
        let top = tempfile::tempdir().expect("a temporary folder");
        for folder in ["experiments", "models/x"] {
            std::fs::create_dir_all(top.path().join(folder)).expect("a temporary folder");
        }
        let way = from(&top.path().join("experiments"), &top.path().join("models/x"));
        assert_eq!(way, Some("../models/x".into()));
        let way = from(&top.path().join("models/x"), &top.path().join("models/x"));
        assert_eq!(way, Some(".".into()));
    }

    #[cfg(unix)]
    #[test]
    fn the_way_to_a_link_has_the_name_of_the_link() {
        let top = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| top.path().join(name);
        for folder in ["files/experiments", "far/blob-1234"] {
            std::fs::create_dir_all(at(folder)).expect("a temporary folder");
        }
        std::os::unix::fs::symlink(at("far/blob-1234"), at("files/my-model")).expect("a link");
        std::os::unix::fs::symlink(at("files/experiments"), at("far/experiments")).expect("a link");
        let model = at("files/my-model");
        assert_eq!(from(&at("files/experiments"), &model), Some("../my-model".into()));
        assert_eq!(
            from(&at("files"), &at("files/experiments/../my-model/")),
            Some("my-model".into())
        );
        // From where a step back by name leads elsewhere, it is the way of the real folders.
        let way = from(&at("far/experiments"), &at("far/blob-1234")).expect("a way");
        assert_eq!(way, Path::new("../../far/blob-1234"));
    }

    #[cfg(unix)]
    #[test]
    fn a_step_back_from_a_link_is_kept() {
        let top = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| top.path().join(name);
        for folder in ["far/experiments", "far/models", "near/models"] {
            std::fs::create_dir_all(at(folder)).expect("a temporary folder");
        }
        std::os::unix::fs::symlink(at("far/experiments"), at("near/experiments")).expect("a link");
        let found = placed(&at("near/experiments"), Path::new("../models")).expect("a path");
        let real = |path: &Path| path.canonicalize().expect("it is there");
        assert_eq!(real(&found), real(&at("far/models")));
    }
}
