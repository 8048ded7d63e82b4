//! Which files of a results folder zprune may replace: those it wrote, unchanged since.
//!
//! Before a report writes a file, its path and hash are appended to `written.jsonl`; a file with another hash is the user's, and
//! stays. Reports of zprune 0.1.0 have no such list: their files are known by how they begin.

use super::plots::{self, raster};
use super::{data, html, latex};
use crate::data::digest;
use crate::error::{Error, Result};
use crate::experiment::plan::Experiment;
use crate::experiment::plan_file::PlanFile;
use crate::files::{create_folders, names, no_links, only_plain, remove_unfinished, write_whole};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the results folder that lists what reports wrote.
const LIST: &str = "written.jsonl";

/// Names of the table files of a report, without ending.
const TABLES: [&str; 9] = [
    "perplexity",
    "axes",
    "accuracy",
    "to_dense",
    "sizes",
    "published",
    "comparisons",
    "uncertainty",
    "power",
];

/// A line of the list: one file that was written.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Path relative to the results folder, with `/`.
    file: String,
    sha256: String,
}

/// What the list contains.
#[derive(Default)]
struct Known {
    /// Path and hash of every file content that was written.
    written: BTreeSet<(String, String)>,
    /// Whether the last line of the list is complete.
    whole: bool,
}

/// Checks, before a sweep, that its report can be written: that labels give different file names, and that none of
/// the report's paths has a file that zprune did not write.
///
/// # Errors
/// Names the labels, or the file.
pub fn check(experiment: &Experiment, folder: &Path) -> Result<()> {
    let files = possible(experiment);
    names::check(&files)?;
    match folder.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::writing(folder, error)),
        Ok(there) if !there.is_dir() => return Err(Error::output(folder, "it is not a folder")),
        Ok(_) => {}
    }
    PlanFile::check(folder)?;
    let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
    check_files(&names, folder, &experiment.name)
}

/// Checks that no file with one of these names belongs to somebody else.
pub(super) fn check_files(files: &[&str], folder: &Path, experiment: &str) -> Result<()> {
    only_plain(&folder.join(LIST))?;
    // Best effort: another process may be writing its report, and lists files before it writes them.
    let list = File::open(folder.join(LIST));
    let _waited = list.map(|list| list.lock_shared().map(|()| list));
    let known = Known::read(folder)?;
    let mut files = files.iter();
    files.try_for_each(|file| known.older(folder, file, experiment).map(drop))
}

/// Every file that the report of an experiment may have, with `/` in its path, and the labels that its name comes
/// from.
fn possible(experiment: &Experiment) -> Vec<(String, String)> {
    let fixed = |file: String| (file, "the report".to_string());
    let mut files: Vec<(String, String)> = ["report.html", "report.json"].map(String::from).map(fixed).into();
    for table in TABLES {
        files.extend(["md", "tex", "csv"].map(|ending| fixed(format!("tables/{table}.{ending}"))));
    }
    for (name, labels) in plots::names(experiment) {
        files.extend(["svg", "png", "csv"].map(|ending| (format!("plots/{name}.{ending}"), labels.clone())));
    }
    files
}

/// Writes the files of a report, each completely or not at all. Files that have the right content already are not
/// touched.
///
/// # Errors
/// A file there is somebody else's (nothing is written then), or the disk refuses.
pub(super) fn write(files: &[(PathBuf, Vec<u8>)], folder: &Path, experiment: &str) -> Result<()> {
    let differs = |(file, content): &&(PathBuf, Vec<u8>)| {
        let path = folder.join(file);
        let plain = path.symlink_metadata().is_ok_and(|there| there.is_file());
        !(plain && std::fs::read(&path).is_ok_and(|old| old == *content))
    };
    let files: Vec<&(PathBuf, Vec<u8>)> = files.iter().filter(differs).collect();
    if files.is_empty() {
        return Ok(());
    }
    // Before anything is made, the list included.
    let names: Vec<&str> = files.iter().filter_map(|(file, _)| file.to_str()).collect();
    check_files(&names, folder, experiment)?;
    create_folders(folder)?;
    for written in ["", "tables", "plots"] {
        if no_links(folder, written).is_ok() {
            remove_unfinished(&folder.join(written));
        }
    }
    let path = folder.join(LIST);
    let fail = |error| Error::writing(&path, error);
    let mut list = File::options().append(true).create(true).open(&path).map_err(fail)?;
    // Where files cannot be locked, runs are refused elsewhere; reports of finished ones still can be written.
    let _ = list.lock();
    let known = Known::read(folder)?;
    let mut lines = String::new();
    // A line that a killed process began is not to be continued.
    if !known.whole {
        lines.push('\n');
    }
    for (file, content) in &files {
        let file = file.to_string_lossy();
        // With the older content in the list as well, a process may be killed between any two files.
        let older = known.older(folder, &file, experiment)?;
        for content in older.iter().chain([content]) {
            let (file, sha256) = (file.to_string(), digest::of_bytes(content));
            if !known.written.contains(&(file.clone(), sha256.clone())) {
                let line =
                    serde_json::to_string(&Line { file, sha256 }).map_err(|error| Error::writing(&path, error))?;
                lines.push_str(&line);
                lines.push('\n');
            }
        }
    }
    let listed = list.write_all(lines.as_bytes()).and_then(|()| list.sync_all());
    listed.map_err(fail)?;
    let mut files = files.into_iter();
    files.try_for_each(|(file, content)| write_whole(&folder.join(file), content))
}

/// Removes the tables and plots of earlier reports that are not among `files`, as far as they are unchanged: beside the others they would
/// show what the experiment does not have any more.
///
/// # Errors
/// A file cannot be removed, or the list is not zprune's.
pub(super) fn remove_others(files: &[(PathBuf, Vec<u8>)], folder: &Path) -> Result<()> {
    let known = Known::read(folder)?;
    let own: BTreeSet<Cow<str>> = files.iter().map(|(file, _)| file.to_string_lossy()).collect();
    let listed: BTreeSet<&str> = known.written.iter().map(|(file, _)| file.as_str()).collect();
    for file in listed
        .into_iter()
        .filter(|file| !own.contains(*file) && in_a_report(file))
    {
        let path = folder.join(file);
        // What is not as zprune wrote it, or leads out of the folder, is the user's.
        let content = no_links(folder, file).and_then(|()| plain_content(&path));
        let Ok(Some(content)) = content else { continue };
        if known.written.contains(&(file.to_string(), digest::of_bytes(&content))) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::writing(&path, error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a path of the list is one of a table or a plot. The list may come from anywhere, and must not name files outside of the folder.
fn in_a_report(file: &str) -> bool {
    let in_folder = |folder: &str, endings: &[&str]| {
        let name = file.strip_prefix(folder).and_then(|name| name.strip_prefix('/'));
        let parts = name
            .filter(|name| !name.contains(['/', '\\']))
            .and_then(|name| name.rsplit_once('.'));
        parts.is_some_and(|(stem, ending)| !stem.is_empty() && endings.contains(&ending))
    };
    in_folder("tables", &["md", "tex", "csv"]) || in_folder("plots", &["svg", "png", "csv"])
}

impl Known {
    /// Reads the list of a results folder; empty if there is no list.
    fn read(folder: &Path) -> Result<Known> {
        let path = folder.join(LIST);
        let Some(content) = plain_content(&path)? else {
            return Ok(Known {
                whole: true,
                ..Known::default()
            });
        };
        let mut known = Known {
            whole: content.last().is_none_or(|last| *last == b'\n'),
            ..Known::default()
        };
        for line in content.split(|byte| *byte == b'\n') {
            if let Ok(Line { file, sha256 }) = serde_json::from_slice(line) {
                known.written.insert((file, sha256));
            }
        }
        // A process may have been killed at any line, so only a list without a single one is foreign.
        let begun = content.starts_with(b"{\"file\":") || b"{\"file\":".starts_with(&content);
        if known.written.is_empty() && !begun {
            return Err(foreign(&path));
        }
        Ok(known)
    }

    /// The content of a file that a report of zprune 0.1.0 wrote; `None` if there is no file, or one that is in the
    /// list.
    fn older(&self, folder: &Path, file: &str, experiment: &str) -> Result<Option<Vec<u8>>> {
        no_links(folder, file)?;
        let path = folder.join(file);
        let Some(content) = plain_content(&path)? else {
            return Ok(None);
        };
        if self.written.contains(&(file.to_string(), digest::of_bytes(&content))) {
            return Ok(None);
        }
        if self.written.iter().any(|(listed, _)| listed == file) {
            let message = "it was changed since zprune wrote it; rename or remove it, so that it can be written again";
            return Err(Error::output(&path, message));
        }
        match is_older(folder, file, &content, experiment) {
            true => Ok(Some(content)),
            false => Err(foreign(&path)),
        }
    }
}

/// The content of a plain file; `None` if nothing is there.
fn plain_content(path: &Path) -> Result<Option<Vec<u8>>> {
    only_plain(path)?;
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::writing(path, error)),
    }
}

fn foreign(path: &Path) -> Error {
    let message = "zprune did not write it and does not replace it; rename it, or choose another results folder";
    Error::output(path, message)
}

/// Whether a file is empty or begins as files of zprune 0.1.0 do.
fn is_older(folder: &Path, file: &str, content: &[u8], experiment: &str) -> bool {
    let begins = |with: &str| content.starts_with(with.as_bytes());
    match file.rsplit_once('.') {
        // There is nothing in it to lose.
        _ if content.is_empty() => true,
        _ if file == "report.html" => begins(html::BEGINNING),
        _ if file == "report.json" => begins("{\n  \"experiment\": "),
        Some((_, "md")) => begins(&format!("# {experiment}\n")),
        Some((_, "tex")) => begins(latex::BEGINNING),
        Some((_, "csv")) => data::BEGINNINGS.iter().any(|columns| begins(columns)),
        Some((_, "svg")) => is_plot(content),
        // A picture has no text; it is known by the plot beside it, whose size it doubles.
        Some((stem, "png")) => {
            let svg = plain_content(&folder.join(format!("{stem}.svg"))).ok().flatten();
            svg.is_some_and(|svg| is_plot(&svg) && begins_as_png(content, &svg))
        }
        _ => false,
    }
}

/// Whether an SVG file begins as every plot does: with its size and a white background.
fn is_plot(svg: &[u8]) -> bool {
    const BACKGROUND: &[u8] = b"opacity=\"1\" fill=\"#FFFFFF\" stroke=\"none\"/>\n";
    let mut parts = svg.windows(BACKGROUND.len()).take(400);
    size(svg).is_some() && parts.any(|part| part == BACKGROUND)
}

/// Width and height of an SVG file that begins with them.
fn size(svg: &[u8]) -> Option<[u32; 2]> {
    let beginning = String::from_utf8_lossy(&svg[..svg.len().min(100)]).into_owned();
    let (width, rest) = beginning.strip_prefix("<svg width=\"")?.split_once("\" height=\"")?;
    let (height, _) = rest.split_once('"')?;
    Some([width.parse().ok()?, height.parse().ok()?])
}

/// Whether a PNG file has the size that the SVG file gives.
fn begins_as_png(png: &[u8], svg: &[u8]) -> bool {
    let at = |scale: f32| size(svg).map(|size| size.map(|length| (length as f32 * scale) as u32));
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR");
    let found = header.and_then(|header| header.first_chunk::<8>());
    let found = found.map(|bytes| {
        [&bytes[..4], &bytes[4..]].map(|part| part.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    });
    found.is_some() && raster::SCALES.into_iter().any(|scale| found == at(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary folder with these files: name and content of each.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (file, content) in files {
            let path = folder.path().join(file);
            create_folders(path.parent().expect("it is in the folder")).expect("writable");
            std::fs::write(path, content).expect("writable");
        }
        folder
    }

    fn content(folder: &tempfile::TempDir, file: &str) -> Vec<u8> {
        std::fs::read(folder.path().join(file)).expect("readable")
    }

    fn report(text: &str) -> Vec<(PathBuf, Vec<u8>)> {
        ["report.html", "tables/perplexity.md"]
            .map(|file| (file.into(), text.as_bytes().to_vec()))
            .into()
    }

    #[test]
    fn a_report_replaces_its_own_files_and_no_others() {
        let folder = folder(&[("tables/notes.md", b"mine")]);
        for text in ["first", "second", "second"] {
            write(&report(text), folder.path(), "name").expect("its own files");
            assert_eq!(content(&folder, "report.html"), text.as_bytes());
        }
        std::fs::write(folder.path().join("tables/perplexity.md"), "second, with my notes").expect("writable");
        let error = write(&report("third"), folder.path(), "name").expect_err("it was changed");
        assert!(
            error
                .to_string()
                .contains("tables/perplexity.md: cannot write: it was changed"),
            "{error}"
        );
        assert_eq!(content(&folder, "report.html"), b"second", "nothing is written");
        assert_eq!(content(&folder, "tables/perplexity.md"), b"second, with my notes");
        assert_eq!(content(&folder, "tables/notes.md"), b"mine");
    }

    #[test]
    fn tables_and_plots_of_an_earlier_report_are_removed_if_nobody_changed_them() {
        let folder = folder(&[("tables/notes.md", b"mine"), ("secret", b"mine")]);
        let names = [
            "report.html",
            "tables/axes.md",
            "tables/power.md",
            "plots/time-a.svg",
            "plots/front-a.svg",
        ];
        let files: Vec<(PathBuf, Vec<u8>)> = names.map(|file| (file.into(), file.as_bytes().to_vec())).into();
        write(&files, folder.path(), "name").expect("nothing is there");
        std::fs::write(folder.path().join("tables/power.md"), "with my notes").expect("writable");
        // A list that somebody made names a file that is no part of a report.
        let hash = digest::of_bytes(b"mine");
        let line = |file: &str| format!("{{\"file\":\"{file}\",\"sha256\":\"{hash}\"}}\n");
        let list = [
            &content(&folder, LIST)[..],
            line("tables/../secret").as_bytes(),
            line("secret").as_bytes(),
        ]
        .concat();
        std::fs::write(folder.path().join(LIST), list).expect("writable");
        let now = &files[..1];
        write(now, folder.path(), "name").expect("its own files");
        remove_others(now, folder.path()).expect("removable");
        let there = |file: &str| folder.path().join(file).exists();
        assert!(!there("tables/axes.md") && !there("plots/time-a.svg") && !there("plots/front-a.svg"));
        for file in ["report.html", "tables/power.md", "tables/notes.md", "secret"] {
            assert!(there(file), "{file}");
        }
        remove_others(now, folder.path()).expect("nothing is left to remove");
    }

    #[test]
    fn a_foreign_file_stops_the_report_before_it_writes() {
        for (file, text) in [
            ("report.html", "<!doctype html>\n<html><title>mine</title>"),
            ("tables/perplexity.md", "# my own notes"),
            ("written.jsonl", "a list of mine\n"),
        ] {
            let folder = folder(&[(file, text.as_bytes())]);
            let error = write(&report("new"), folder.path(), "name").expect_err(file);
            assert!(error.to_string().contains("zprune did not write it"), "{error}");
            assert_eq!(content(&folder, file), text.as_bytes());
            assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
        }
    }

    #[test]
    fn files_of_zprune_0_1_are_known_by_how_they_begin() {
        let svg = b"<svg width=\"64\" height=\"32\" viewBox=\"0 0 64 32\">\n<rect opacity=\"1\" fill=\"#FFFFFF\" stroke=\"none\"/>\n";
        let png = |width: u8| {
            [
                &b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0"[..],
                &[width],
                &[0, 0, 0, 64, 8, 6],
            ]
            .concat()
        };
        let page = format!("{}name</title>", html::BEGINNING);
        for (file, text, older) in [
            ("report.html", page.as_bytes(), true),
            ("report.json", b"{\n  \"experiment\": \"name\",", true),
            ("report.json", b"{\"mine\": 1}", false),
            ("tables/perplexity.md", b"# name\n\n## tiny", true),
            ("tables/perplexity.md", b"# other\n", false),
            (
                "tables/perplexity.tex",
                b"% Written by zprune. Needs \\usepackage",
                true,
            ),
            ("tables/perplexity.tex", b"\\begin{table}", false),
            ("tables/perplexity.csv", b"model,evaluation,method,pattern,target", true),
            ("tables/perplexity.csv", b"model,evaluation\n", false),
            ("tables/comparisons.csv", b"", true),
            ("plots/time-a.svg", svg, true),
            ("plots/time-a.svg", b"<svg width=\"64\" height=\"32\"><circle/>", false),
            ("plots/plot.png", &png(128), true),
            ("plots/plot.png", &png(127), false),
            ("plots/alone.png", &png(128), false),
        ] {
            let folder = folder(&[("plots/plot.svg", svg)]);
            let found = is_older(folder.path(), file, text, "name");
            assert_eq!(found, older, "{file}: {}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_process_killed_among_the_files_leaves_a_folder_that_can_be_written() {
        let page = format!("{}name</title>", html::BEGINNING);
        let folder = folder(&[("report.html", page.as_bytes()), ("tables/perplexity.md", b"# name\n")]);
        write(&report("new"), folder.path(), "name").expect("older files");
        // As if the page had not been written, and a line only begun.
        std::fs::write(folder.path().join("report.html"), &page).expect("writable");
        let list = content(&folder, LIST);
        std::fs::write(folder.path().join(LIST), [&list[..], b"{\"file\":\"rep"].concat()).expect("writable");
        write(&report("newer"), folder.path(), "name").expect("all of them are listed");
        write(&report("newest"), folder.path(), "name").expect("the line is not continued");
        assert_eq!(content(&folder, "report.html"), b"newest");
    }
}
