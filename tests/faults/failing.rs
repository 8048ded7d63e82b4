//! File operations that fail: full disk, quota, read-only, no permission, input/output error, half a write.
//!
//! After every failure: no panic, a message that names the file, whole files or none under every name, other people's files
//! as they were, no temporary file that could be removed; and the same command without the failure ends as if it had never
//! been disturbed.

use crate::jobs::{self, Job, Tree, lay_out, tree};
use crate::traced::{self, Traced};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// The errors, and how they come: `tracer.c` says what these mean.
const FAULTS: [(&str, &str); 10] = [
    ("ENOSPC", "once"),
    ("ENOSPC", "on"),
    ("ENOSPC", "short"),
    ("EDQUOT", "on"),
    ("EROFS", "once"),
    ("EROFS", "on"),
    ("EACCES", "once"),
    ("EACCES", "on"),
    ("EIO", "once"),
    ("EIO", "on"),
];

/// The operations of an error that are tried, where there are more.
const MOST: usize = 12;

/// What a job does undisturbed.
struct Undisturbed<'a> {
    job: &'a Job,
    before: Tree,
    /// Everything there is afterwards.
    after: Tree,
    made: Tree,
}

impl<'a> Undisturbed<'a> {
    fn new(job: &'a Job) -> Self {
        let folder = job.folder();
        let root = jobs::root(&folder);
        let before = tree(&root);
        let done = traced::run(&root, &job.arguments(), "none");
        assert_eq!(done.code, 0, "{}", done.stderr);
        Undisturbed {
            job,
            before,
            after: tree(&root),
            made: job.made(&root),
        }
    }

    /// Tries a job with every fault, or with some of them.
    fn hold(&self) {
        let all = std::env::var("ZPRUNE_FAULTS").is_ok_and(|which| which == "all");
        let seed = std::env::var("ZPRUNE_FAULT_SEED").map_or(16, |seed| seed.parse().expect("a number"));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut tried, mut wrong) = (0, Vec::new());
        for (error, mode) in FAULTS {
            let counted = self.with(&format!("{error}:{}:{mode}", i64::MAX)).0.failable;
            let stride = if all { 1 } else { counted.div_ceil(MOST) };
            let first = random.random_range(1..=stride.max(1));
            for nth in (first..=counted).step_by(stride.max(1)) {
                let fault = format!("{error}:{nth}:{mode}");
                tried += 1;
                if let Err(reason) = self.try_fault(&fault) {
                    wrong.push(format!("{fault}: {reason}"));
                }
            }
        }
        let name = self.job.name();
        println!("{name}: {tried} failures tried, seed {seed}");
        assert!(tried > 0, "nothing failed");
        assert!(
            wrong.is_empty(),
            "{name}, {} of {tried} (seed {seed}):\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }

    fn with(&self, fault: &str) -> (Traced, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        lay_out(&self.before, folder.path());
        (traced::run(folder.path(), &self.job.arguments(), fault), folder)
    }

    fn try_fault(&self, fault: &str) -> Result<(), String> {
        let (run, folder) = self.with(fault);
        let root = folder.path();
        let first = run
            .failed()
            .next()
            .map(|(what, path)| (what.to_string(), path.to_path_buf()));
        let Some((what, path)) = first else {
            return Err("nothing failed, though it did when operations were counted".to_string());
        };
        let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
        let said = |reason: String| {
            format!(
                "{what} {}: {reason}\n  {}",
                name.display(),
                run.stderr.trim().replace('\n', "\n  ")
            )
        };
        if run.stderr.contains("panicked") || !(0..=3).contains(&run.code) {
            return Err(said(format!("ended with {}", run.code)));
        }
        if run.code != 0 && !self.is_named(root, &run) {
            return Err(said(format!(
                "exit code {}, and the message does not name the file",
                run.code
            )));
        }
        self.check(root, &run).map_err(said)?;
        // Without the failure the same command goes on to the same end; a directory that is whole is not made again.
        let finished = difference(&self.job.made(root), &self.made).is_none();
        let unsynced =
            what.starts_with("S ") && path.is_dir() && path == root.join(self.job.makes).parent().unwrap_or(root);
        if finished && run.code != 0 && unsynced && !run.stderr.contains("could not confirm that its name is on disk") {
            return Err(said("does not say that it is whole".to_string()));
        }
        let again = traced::run(root, &self.job.arguments(), "none");
        if again.code != 0 && !finished {
            return Err(said(format!("the next run ends with {}: {}", again.code, again.stderr)));
        }
        if let Some(different) = difference(&self.job.made(root), &self.made) {
            return Err(said(format!("after the next run, {different}")));
        }
        let mut left = tree(root);
        left.retain(|path, content| {
            // What could not be removed is removed by the next run that writes there, if it is not empty.
            let harmless = again.code != 0 || content.as_ref().is_some_and(Vec::is_empty);
            let excused = jobs::is_rescued(path) || harmless && could_not_be_removed(&run, root, path);
            !excused && !self.after.contains_key(path)
        });
        if !left.is_empty() {
            return Err(said(format!("the next run leaves {:?}", left.keys())));
        }
        Ok(())
    }

    /// Whether a message names one of the paths that failed, a folder that it is in, or what was to be made.
    fn is_named(&self, root: &Path, run: &Traced) -> bool {
        let named = |name: &Path| {
            let mut names = name.ancestors().filter(|it| !it.as_os_str().is_empty());
            names.any(|it| run.stderr.contains(&*it.to_string_lossy()))
        };
        let mut failed = run.failed().filter_map(|(_, path)| path.strip_prefix(root).ok());
        failed.any(named) || run.stderr.contains(self.job.makes)
    }

    /// What a failed run may leave behind.
    fn check(&self, root: &Path, run: &Traced) -> Result<(), String> {
        let found = tree(root);
        let made = self.job.made(root);
        if run.code == 0
            && let Some(different) = difference(&made, &self.made)
        {
            return Err(format!("exit code 0, but {different}"));
        }
        for (path, content) in &self.before {
            if found.get(path) != Some(content) && !path.starts_with(self.job.makes) {
                return Err(format!("{} is not what it was", path.display()));
            }
        }
        for (path, content) in &found {
            if let Some(before) = self.before.get(path)
                && content == before
            {
                continue;
            }
            let whole = match path.file_name().and_then(|name| name.to_str()) {
                Some("runs.jsonl") => self.are_true(content.as_deref().unwrap_or_default()),
                _ if jobs::is_rescued(path) => self.are_true(content.as_deref().unwrap_or_default()),
                // Their lines are checked by what reads them; claims hold nothing.
                Some("events.jsonl" | "written.jsonl" | "claims") => true,
                Some(name) if name.ends_with(".lock") => true,
                _ => self.after.get(path) == Some(content),
            };
            let claim = path.components().any(|part| part.as_os_str() == "claims");
            let known = self.after.contains_key(path) || claim || jobs::is_rescued(path);
            if !known && !could_not_be_removed(run, root, path) {
                return Err(format!("{} is left", path.display()));
            }
            if known && !whole {
                return Err(format!("{} is neither as before nor as it is to be", path.display()));
            }
        }
        Ok(())
    }

    /// Whether records are among those of an undisturbed run, or say that their cell failed or that its record does not count.
    fn are_true(&self, lines: &[u8]) -> bool {
        let records = Path::new("results/tiny/runs.jsonl");
        let Some(Some(expected)) = self.after.get(records) else {
            return false;
        };
        let expected = jobs::timeless(expected);
        let mut found = jobs::timeless(lines).into_iter();
        found.all(|record| expected.contains(&record) || !jobs::is_good(&record))
    }
}

/// Whether the removal of a path failed, or of the unfinished folder that it is in, or looking for what is in that.
fn could_not_be_removed(run: &Traced, root: &Path, path: &Path) -> bool {
    let mut above = path.ancestors();
    let unfinished = above.find(|it| {
        it.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".zprune-"))
    });
    let under = root.join(unfinished.unwrap_or(path));
    let mut failed = run.failed().filter(|(what, _)| what.starts_with(['U', 'Q', 'O']));
    failed.any(|(_, failed)| failed.starts_with(&under))
}

/// What one has and the other has not, in words.
fn difference(found: &Tree, expected: &Tree) -> Option<String> {
    let missing = expected.keys().find(|path| !found.contains_key(*path));
    let extra = found.keys().find(|path| !expected.contains_key(*path));
    let other = found
        .iter()
        .find(|(path, content)| expected.get(*path).is_some_and(|it| it != *content));
    let say = |path: &Path, what: &str| format!("{} {what}", path.display());
    missing
        .map(|path| say(path, "is missing"))
        .or(extra.map(|path| say(path, "is too much")))
        .or(other.map(|(path, _)| say(path, "has other content")))
}

#[test]
fn a_sweep() {
    Undisturbed::new(&jobs::SWEEP).hold();
}

#[test]
fn a_report() {
    Undisturbed::new(&jobs::REPORT).hold();
}

#[test]
fn a_merge() {
    Undisturbed::new(&jobs::MERGE).hold();
}

#[test]
fn a_pruned_model() {
    Undisturbed::new(&jobs::PRUNING).hold();
}

#[test]
fn a_card() {
    Undisturbed::new(&jobs::CARD).hold();
}

#[test]
fn an_archive() {
    Undisturbed::new(&jobs::ARCHIVE).hold();
}

#[test]
fn an_expanded_archive() {
    Undisturbed::new(&jobs::EXPANSION).hold();
}

#[test]
fn token_windows() {
    Undisturbed::new(&jobs::TOKENS).hold();
}

#[test]
fn exported_statistics() {
    Undisturbed::new(&jobs::STATISTICS).hold();
}

#[test]
fn a_rotation() {
    Undisturbed::new(&jobs::ROTATION).hold();
}

#[test]
fn an_imported_model() {
    Undisturbed::new(&jobs::IMPORT).hold();
}

#[test]
fn an_exported_model() {
    Undisturbed::new(&jobs::EXPORT).hold();
}

#[test]
fn an_evaluation() {
    Undisturbed::new(&jobs::EVALUATION).hold();
}
