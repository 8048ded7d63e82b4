//! Records: what one cell of an experiment did and found, one JSON object per line.
//!
//! `runs.jsonl` only grows: a cell's record is appended, and synchronised to disk, the moment the cell
//! ends. A program killed while writing leaves at most an unfinished last line, which the next run
//! removes; any other damage is refused with its line, and nothing is written over.

use crate::error::{Error, Result, json_in_line};
use crate::experiment::identity::Identity;
use crate::prune::LayerRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Version of the record's layout.
pub const SCHEMA: u32 = 1;

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All numbers are there.
    Ok,
    /// It failed; `error` says why. A rerun tries it again.
    Failed,
}

/// One cell's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Content-derived id of the cell.
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Labels the experiment gave it; they are not part of the id.
    pub label: Label,
    /// Everything that decides its numbers.
    pub cell: Identity,
    /// Fraction of prunable weights removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<String>,
    /// What was measured.
    pub evaluations: Vec<EvaluationRecord>,
    /// Accuracy on zero-shot tasks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tasks: Vec<TaskRecord>,
    /// What happened to every layer.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub layers: Vec<LayerRecord>,
    /// Where and when it ran. Reruns of the same cell differ here and nowhere else.
    pub run: RunInfo,
}

/// Labels of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Model.
    pub model: String,
    /// Method, `dense` for the unpruned model.
    pub method: String,
    /// The protocol that the experiment named, if any; what it sets is part of `cell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// One evaluation's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRecord {
    /// Label.
    pub name: String,
    /// `exp` of the mean of `windows`; lower is better.
    pub perplexity: f64,
    /// Tokens in all windows.
    pub tokens: usize,
    /// SHA-256 of the tokens, as little-endian 32-bit words.
    pub token_digest: String,
    /// Mean negative log-likelihood of every window, in nats per predicted token.
    pub windows: Vec<f64>,
}

/// One zero-shot task's result. Document by document, so that two cells can be compared on the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Registry name, as lm-evaluation-harness calls it.
    pub name: String,
    /// The harness's version number of the task.
    pub version: u32,
    /// SHA-256 of the data file.
    pub data_digest: String,
    /// Documents scored.
    pub documents: usize,
    /// By name of the metric: `acc`, `acc_norm`, `perplexity`.
    pub metrics: BTreeMap<String, Metric>,
    /// Per document, `1` where the highest log-likelihood is the right choice's (`acc`), else `0`.
    pub correct: String,
    /// The same with log-likelihoods divided by the choices' lengths (`acc_norm`), where the task has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_norm: Option<String>,
    /// Per document, the number of the source it shares with others (a passage, a video), where the data says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<u32>>,
}

/// A metric with its uncertainty over documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Accuracies as fractions.
    pub value: f64,
    /// Standard error as the harness computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// 95 % Wilson interval of an accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

/// Where and when a cell ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Version of zprune.
    pub version: String,
    /// Operating system, processor architecture and number of cores used.
    pub machine: String,
    /// The GPU that computed, with driver and tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When it ended, UTC.
    pub finished: String,
    /// Forward passes for statistics and propagation, in seconds.
    pub calibrate_seconds: f64,
    /// Scoring, selecting, updating, in seconds.
    pub prune_seconds: f64,
    /// Everything, in seconds.
    pub total_seconds: f64,
}

/// An open `runs.jsonl`, locked against a second writer.
pub struct RecordFile {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
}

impl RecordFile {
    /// Opens (or creates) the file in a results folder, locks it and reads what is there.
    ///
    /// # Errors
    /// Another process holds the lock, or a line other than an unfinished last one is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("runs.jsonl");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| Error::output(&path, error))?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => Error::output(&path, "another zprune is writing to it"),
            std::fs::TryLockError::Error(error) => Error::output(&path, error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|source| Error::reading(&path, source))?;
        let records = parse(&path, &bytes)?;
        let whole = whole_lines(&bytes);
        if whole < bytes.len() {
            tracing::warn!("{}: removed an unfinished last line", path.display());
            file.set_len(whole as u64)
                .map_err(|error| Error::output(&path, error))?;
            file.seek(SeekFrom::End(0))
                .map_err(|error| Error::output(&path, error))?;
        }
        Ok(RecordFile { path, file, records })
    }

    /// All records, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether a cell has a good record.
    pub fn has(&self, id: &str) -> bool {
        self.records
            .iter()
            .any(|record| record.id == id && record.status == Status::Ok)
    }

    /// Appends a record and waits until it is on disk.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the file is cut back to whole lines.
    pub fn append(&mut self, record: Record) -> Result<()> {
        let mut line = serde_json::to_string(&record).map_err(|error| Error::output(&self.path, error))?;
        line.push('\n');
        let length = self
            .file
            .metadata()
            .map_err(|error| Error::output(&self.path, error))?
            .len();
        if let Err(error) = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
        {
            // Best effort: a partial line that cannot be removed now is removed by the next run.
            let _ = self.file.set_len(length);
            return Err(Error::output(&self.path, error));
        }
        self.records.push(record);
        Ok(())
    }
}

/// Reads a results folder's records without locking or changing anything.
///
/// # Errors
/// The file is missing, or a line other than an unfinished last one is damaged.
pub fn read(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join("runs.jsonl");
    let bytes = std::fs::read(&path).map_err(|source| Error::reading(&path, source))?;
    parse(&path, &bytes)
}

/// Length of the part of a file that ends with a line end.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    let whole = &bytes[..whole_lines(bytes)];
    let mut records = Vec::new();
    for (index, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let fail = |message: String| Error::input(message).at(format!("{}:{}", path.display(), index + 1));
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let schema = serde_json::from_slice(line).map(|versioned: Versioned| versioned.schema);
        if let Some(newer) = schema.ok().filter(|schema| *schema != SCHEMA) {
            return Err(fail(format!(
                "the record has schema {newer}, but this zprune reads schema {SCHEMA}; use the zprune that wrote it, \
                 or another results folder"
            )));
        }
        let record: Record =
            serde_json::from_slice(line).map_err(|error| fail(format!("not a record: {}", json_in_line(&error))))?;
        if record.cell.id() != record.id {
            return Err(fail(format!(
                "the record's id {} is not the hash of its cell; it was edited",
                record.id
            )));
        }
        records.push(record);
    }
    Ok(records)
}

/// Writes a file under a temporary name beside its place, then renames it: readers see the old content
/// or the new, never a part.
///
/// # Errors
/// The folder cannot be written to.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = |error: std::io::Error| Error::output(path, error);
    std::fs::create_dir_all(folder).map_err(fail)?;
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let mut file = tempfile::Builder::new()
        .suffix(".tmp")
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(fail)?;
    }
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
