//! Records: what one cell of an experiment did and found, one JSON object per line.
//!
//! `runs.jsonl` only grows: a cell's record is appended, and synchronised to disk, the moment the cell
//! ends. Several processes may append to one file; a cell gets no second good record. A program killed while
//! writing leaves at most an unfinished last line, which the next to append removes; any other damage is
//! refused with its line, and nothing is written over.

pub(crate) mod journal;

use crate::error::{Error, Result, json_in_line};
use crate::experiment::identity::Identity;
use crate::prune::LayerRecord;
use journal::Journal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the record's layout. It rises when records gain a field, since older versions of zprune refuse fields
/// that they do not know: so they say why.
///
/// 1: perplexity. 2: tasks.
pub const SCHEMA: u32 = 2;

/// The oldest layout that is read. Fields that came later are absent from older records.
pub const OLDEST_SCHEMA: u32 = 1;

/// How the line of every record begins.
const BEGINNING: &str = "{\"schema\":";

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
    /// [`SCHEMA`] of the zprune that wrote it.
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
    /// The largest resident set while the cell ran, in bytes; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_resident_bytes: Option<u64>,
    /// Bytes of activations that went to a scratch file, every time they did; absent where all had room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spilled_bytes: Option<u64>,
}

/// An open `runs.jsonl`, to which other processes may append as well.
pub struct RecordFile {
    journal: Journal,
    known: Known,
}

/// What has been read of a file.
#[derive(Default)]
struct Known {
    records: Vec<Record>,
    lines: usize,
}

impl Known {
    /// Reads the lines that come next.
    fn extend(&mut self, path: &Path, news: &[u8]) -> Result<()> {
        self.records.extend(parse(path, news, self.lines)?);
        self.lines += news.iter().filter(|byte| **byte == b'\n').count();
        Ok(())
    }
}

impl RecordFile {
    /// Opens (or creates) the file in a results folder, removes an unfinished last line and reads the others.
    ///
    /// # Errors
    /// The file cannot be written or locked, or a line is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut file = RecordFile {
            journal: Journal::open(folder.join("runs.jsonl"), BEGINNING)?,
            known: Known::default(),
        };
        let news = std::mem::take(&mut file.journal.lock()?.news);
        file.known.extend(file.journal.path(), &news)?;
        Ok(file)
    }

    /// Reads what other processes have appended since.
    ///
    /// # Errors
    /// The file cannot be read or locked, or a line is damaged.
    pub fn refresh(&mut self) -> Result<()> {
        let news = self.journal.news()?;
        self.known.extend(self.journal.path(), &news)
    }

    /// All records, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.known.records
    }

    /// Whether a cell has a good record.
    pub fn has(&self, id: &str) -> bool {
        is_done(&self.known.records, id)
    }

    /// Appends a record and waits until it is on disk; `false`, and nothing is written, if the cell has a good
    /// record by now.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the file is cut back to whole lines.
    pub fn append(&mut self, record: Record) -> Result<bool> {
        let line = serde_json::to_string(&record).map_err(|error| Error::output(self.journal.path(), error))?;
        let RecordFile { journal, known } = self;
        let path = journal.path().to_path_buf();
        let mut locked = journal.lock()?;
        known.extend(&path, &locked.news)?;
        if is_done(&known.records, &record.id) {
            return Ok(false);
        }
        locked.append(&line)?;
        known.lines += 1;
        known.records.push(record);
        Ok(true)
    }
}

/// Whether a cell has a good record among these.
pub fn is_done(records: &[Record], id: &str) -> bool {
    let mut of_cell = records.iter().filter(|record| record.id == id);
    of_cell.any(|record| record.status == Status::Ok)
}

/// Reads a results folder's records, changing nothing.
///
/// # Errors
/// The file is missing, or a line other than an unfinished last one is damaged.
pub fn read(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join("runs.jsonl");
    parse(&path, &journal::read(&path)?, 0)
}

/// The same for a folder in which nothing may have been recorded yet.
///
/// # Errors
/// A line other than an unfinished last one is damaged.
pub fn read_if_any(folder: &Path) -> Result<Vec<Record>> {
    match folder.join("runs.jsonl").exists() {
        true => read(folder),
        false => Ok(Vec::new()),
    }
}

/// The records in `bytes`, which are whole lines and follow `before` other lines of the file at `path`.
fn parse(path: &Path, bytes: &[u8], before: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let place = format!("{}:{}", path.display(), before + index + 1);
        let fail = |message: String| Error::input(message).at(&place);
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let schema = serde_json::from_slice(line).map(|versioned: Versioned| versioned.schema);
        if let Some(other) = schema.ok().filter(|schema| !(OLDEST_SCHEMA..=SCHEMA).contains(schema)) {
            return Err(fail(format!(
                "the record has schema {other}, but this zprune reads schemas {OLDEST_SCHEMA} to {SCHEMA}; use the zprune \
                 that wrote it, or another results folder"
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
