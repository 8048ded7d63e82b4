//! The power fails: whatever was not synchronised may be gone, at every moment of every command.
//!
//! What is left then: every record that was reported as done, as a whole line; under a final name a whole file or a whole
//! directory, or nothing; other people's files. The same command goes on from there to the same end. What a command has
//! reported as made is all there.

use crate::disk::{Disk, Left};
use crate::jobs::{self, CELLS, Job, Tree, lay_out, tree};
use crate::traced::{self, Operation, Traced};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::path::Path;

/// States with some of the unsynchronised left, for every moment.
const STATES: usize = 3;

/// States of a job from which the command is run again.
const RERUNS: usize = 12;

const RECORDS: &str = "results/tiny/runs.jsonl";

struct Run<'a> {
    job: &'a Job,
    before: Tree,
    after: Tree,
    made: Tree,
    run: Traced,
}

impl<'a> Run<'a> {
    /// Holds every moment of a job against what may be left.
    fn hold(job: &'a Job) {
        let folder = job.folder();
        let root = jobs::root(&folder);
        let before = tree(&root);
        let mut disk = Disk::of(&root);
        let run = traced::run(&root, &job.arguments(), "none");
        assert_eq!(run.code, 0, "{}", run.stderr);
        let this = Run {
            job,
            before,
            after: tree(&root),
            made: job.made(&root),
            run,
        };
        let mut random = ChaCha8Rng::seed_from_u64(17);
        let mut said = 0;
        let all = this.run.operations.len() * (2 + STATES);
        let chosen: BTreeSet<usize> = (0..RERUNS).map(|_| random.random_range(0..all)).collect();
        let (mut count, mut states) = (0, Vec::new());
        for (moment, operation) in this.run.operations.iter().enumerate() {
            disk.apply(operation);
            if let Operation::Said(text) = operation {
                said += text.lines().filter(|line| line.contains(": perplexity novel")).count();
            }
            let mut left = vec![
                disk.after_power_loss(Left::Nothing),
                disk.after_power_loss(Left::Everything),
            ];
            left.extend((0..STATES).map(|_| disk.after_power_loss(Left::Some(&mut random))));
            for state in left {
                if let Err(reason) = this.check(&state, said) {
                    panic!("power lost after operation {moment}, {operation:.200?}: {reason}");
                }
                if chosen.contains(&count) {
                    states.push(state);
                }
                count += 1;
            }
        }
        assert_eq!(
            said,
            if job.name() == "run" { CELLS } else { 0 },
            "cells reported as done"
        );
        let left = disk.after_power_loss(Left::Nothing);
        let gone: Vec<_> = this.made.keys().filter(|path| !left.contains_key(*path)).collect();
        assert!(gone.is_empty(), "the command has ended well, but {gone:?} may be gone");
        for (path, content) in &left {
            let temporary = !this.after.contains_key(path);
            let whole = this.after.get(path) == Some(content);
            assert!(
                temporary || whole,
                "the command has ended well, but bytes of {} may be gone",
                path.display()
            );
        }
        states.iter().for_each(|state| this.go_on(state));
        println!("{}: {} moments, {count} states", job.name(), this.run.operations.len());
    }

    /// Whether a state is one that may be; `said` is the number of cells reported as done.
    fn check(&self, state: &Tree, said: usize) -> Result<(), String> {
        for (path, content) in &self.before {
            if state.get(path) != Some(content) && !path.starts_with(self.job.makes) {
                return Err(format!("{} is not what it was", path.display()));
            }
        }
        for (path, content) in state.iter().filter(|(path, _)| !self.before.contains_key(*path)) {
            // A temporary file may hold anything.
            let Some(last) = self.after.get(path) else {
                continue;
            };
            let appended = path.extension().is_some_and(|ending| ending == "jsonl");
            let legal = match (content, last) {
                (Some(content), Some(last)) if appended => last.starts_with(content),
                (content, last) => content == last,
            };
            if !legal {
                return Err(format!("{} is not whole", path.display()));
            }
        }
        if self.is_one_piece() && state.contains_key(Path::new(self.job.makes)) {
            let missing = self.made.keys().find(|path| !state.contains_key(*path));
            if let Some(missing) = missing {
                return Err(format!("{} is there, {} is not", self.job.makes, missing.display()));
            }
        }
        let recorded = state.get(Path::new(RECORDS)).cloned().flatten().unwrap_or_default();
        let recorded = recorded.iter().filter(|byte| **byte == b'\n').count();
        if recorded < said {
            return Err(format!("{said} cells were reported as done, {recorded} are recorded"));
        }
        Ok(())
    }

    /// Whether the job makes a directory or a file that appears whole.
    fn is_one_piece(&self) -> bool {
        ["prune", "compress", "expand", "import", "export"].contains(&self.job.name())
    }

    fn go_on(&self, state: &Tree) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        lay_out(state, folder.path());
        let is_there = |name: &str| state.contains_key(Path::new(name));
        if is_there(RECORDS) && is_there("results/tiny/plan.toml") {
            let report = traced::run(folder.path(), &["report", "results/tiny"], "none");
            assert_eq!(report.code, 0, "{}", report.stderr);
        }
        if !(self.is_one_piece() && is_there(self.job.makes)) {
            let again = traced::run(folder.path(), &self.job.arguments(), "none");
            assert_eq!(again.code, 0, "{}", again.stderr);
        }
        let mut made = self.job.made(folder.path());
        // Who removes what was never a file of ours to be named is for the next run of a sweep only.
        made.retain(|path, _| self.made.contains_key(path));
        assert!(
            made == self.made,
            "it does not end as an undisturbed run does: {:?}",
            made.keys()
        );
    }
}

#[test]
fn records_and_reports_survive() {
    Run::hold(&jobs::SWEEP);
}

#[test]
fn a_report_survives() {
    Run::hold(&jobs::REPORT);
}

#[test]
fn a_merge_survives() {
    Run::hold(&jobs::MERGE);
}

#[test]
fn a_pruned_model_survives() {
    Run::hold(&jobs::PRUNING);
}

#[test]
fn a_card_survives() {
    Run::hold(&jobs::CARD);
}

#[test]
fn an_archive_survives() {
    Run::hold(&jobs::ARCHIVE);
}

#[test]
fn an_expanded_archive_survives() {
    Run::hold(&jobs::EXPANSION);
}

#[test]
fn token_windows_survive() {
    Run::hold(&jobs::TOKENS);
}

#[test]
fn exported_statistics_survive() {
    Run::hold(&jobs::STATISTICS);
}

#[test]
fn a_rotation() {
    Run::hold(&jobs::ROTATION);
}

#[test]
fn an_imported_model_survives() {
    Run::hold(&jobs::IMPORT);
}

#[test]
fn an_exported_model_survives() {
    Run::hold(&jobs::EXPORT);
}

#[test]
fn an_evaluation_survives() {
    Run::hold(&jobs::EVALUATION);
}
