//! The scores of every document on a cell's zero-shot tasks, kept under `samples/` in the results folder.

use crate::cell::TaskFindings;
use crate::error::{Error, Result};
use crate::experiment::plan::Experiment;
use crate::files::{Access, OutputFile, input, no_links};
use crate::record::TaskRecord;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Writes `samples/<cell>/<task>.jsonl` into a results folder, each file whole.
pub(crate) fn write_samples(folder: &Path, cell: &str, tasks: &[TaskFindings]) -> Result<()> {
    for task in tasks {
        let path = samples_path(folder, cell, &task.record.name);
        let mut text = String::new();
        for sample in &task.samples {
            text += &serde_json::to_string(sample).map_err(|error| Error::output(&path, error))?;
            text.push('\n');
        }
        own(folder, &path)?;
        samples_file(&path).write(text.as_bytes())?;
    }
    Ok(())
}

/// Copies a cell's samples from one results folder into another, as far as there are any.
pub(crate) fn copy_samples(from: &Path, into: &Path, cell: &str, tasks: &[TaskRecord]) -> Result<()> {
    for task in tasks {
        let [from, path] = [from, into].map(|folder| samples_path(folder, cell, &task.name));
        if from.exists() {
            let text = input::read_text(&from, input::TOKENIZER)?;
            own(into, &path)?;
            samples_file(&path).write(text.as_bytes())?;
        }
    }
    Ok(())
}

/// Checks before a cell is run that its samples can be written.
pub(crate) fn check_samples(folder: &Path, cell: &str, experiment: &Experiment) -> Result<()> {
    let paths = experiment.answered().map(|task| samples_path(folder, cell, task));
    for path in paths {
        own(folder, &path)?;
        if path.exists() {
            samples_file(&path).check()?;
        }
    }
    Ok(())
}

/// Refuses a file of samples that would be elsewhere than in the results folder.
fn own(folder: &Path, path: &Path) -> Result<()> {
    no_links(folder, path.strip_prefix(folder).unwrap_or(path))
}

fn samples_path(folder: &Path, cell: &str, task: &str) -> PathBuf {
    folder.join("samples").join(cell).join(format!("{task}.jsonl"))
}

/// A file of samples, which replaces nothing but an earlier one.
fn samples_file(path: &Path) -> OutputFile<'_> {
    OutputFile {
        path,
        inputs: &[],
        force: false,
        ours: |path| {
            let mut line = String::new();
            let read = File::open(path).and_then(|file| BufReader::new(file).read_line(&mut line));
            read.is_ok() && line.starts_with("{\"doc\":")
        },
        access: Access::OPEN,
    }
}
