//! Records: what one cell of an experiment did and found, one JSON object per line.
//!
//! `runs.jsonl` only grows: a cell's record is appended, and synchronised to disk, the moment the cell
//! ends. Several processes may append to one file; a cell gets no second good record. A program killed while
//! writing leaves at most an unfinished last line, which the next to append removes; any other damage is
//! refused with its line, and nothing is written over.
//!
//! A line ends in a checksum of everything before it ([`Record::line`]), and what is read must obey the rules that hold of every record
//! (`invariants`): a number that was edited is refused, not reported.

mod invariants;
pub(crate) mod journal;

use crate::data::digest;
use crate::error::{Error, Result, json_in_line};
use crate::experiment::identity::Identity;
use crate::files::{create_whole, write_whole};
use crate::prune::layer::LayerRecord;
use journal::{Journal, Locked};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Version of the record's layout. It rises when records gain a field, because older versions of zprune refuse fields
/// that they do not know; with the version they can say why.
///
/// 1: perplexity. 2: tasks. 3: a checksum, and records that withdraw others. 4: the pattern of each layer.
/// 5: the order of its columns, and the goal of its solver.
pub const SCHEMA: u32 = 5;

/// The first layout in which records have a checksum.
const CHECKED: u32 = 3;

/// The oldest layout that can be read. Fields that were added later are absent from older records.
pub const OLDEST_SCHEMA: u32 = 1;

/// The text that the line of every record begins with.
const BEGINNING: &str = "{\"schema\":";

/// How the run of a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The cell has a result: all numbers are there.
    Ok,
    /// It failed; `error` says why. A rerun tries it again.
    Failed,
    /// The good record that the cell had so far cannot be trusted; `error` says why. A rerun makes another.
    Withdrawn,
}

/// The result of one cell: one line of `runs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`] of the zprune that wrote it.
    pub schema: u32,
    /// Id of the cell, computed from its content.
    pub id: String,
    /// How the run of the cell ended.
    pub status: Status,
    /// Why the cell failed, or why its good record was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Names that the experiment gave the cell; they are not part of the id.
    pub label: Label,
    /// All settings and inputs that decide the cell's numbers; the id is computed from them.
    pub cell: Identity,
    /// Fraction of prunable weights removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<String>,
    /// Perplexities, one entry per evaluation of the experiment.
    pub evaluations: Vec<EvaluationRecord>,
    /// Zero-shot results, one entry per task of the experiment.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tasks: Vec<TaskRecord>,
    /// What pruning did to each layer.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub layers: Vec<LayerRecord>,
    /// Where and when the cell ran. Reruns of the same cell differ only here.
    pub run: RunInfo,
    /// Checksum of all other fields, as it stands in the file; absent in memory, and before schema 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

impl Record {
    /// The record as a line of `runs.jsonl`, without the line end: JSON whose last key, `check`, is the checksum of the rest. The
    /// checksum is that of the record as zprune writes it, so spaces and other spellings of the same numbers do not change it.
    ///
    /// # Errors
    /// It breaks a rule, and could not be read again.
    pub fn line(&self) -> Result<String> {
        invariants::check(self).map_err(|broken| Error::numeric(format!("cell {}: {broken}", self.id)))?;
        let checked = Record {
            check: (self.schema >= CHECKED).then(|| self.checksum()),
            ..self.clone()
        };
        Ok(checked.text())
    }

    /// The first sixteen hexadecimal digits of the SHA-256 of the record without its `check`.
    fn checksum(&self) -> String {
        let without = match &self.check {
            None => self.text(),
            Some(_) => Record {
                check: None,
                ..self.clone()
            }
            .text(),
        };
        digest::of_bytes(without.as_bytes())[..16].to_string()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("a record holds nothing that JSON cannot")
    }
}

/// The names that the experiment gives a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Name of the model.
    pub model: String,
    /// Name of the method; `dense` for the unpruned model.
    pub method: String,
    /// Name of the protocol, if the experiment uses one. The settings that it implies are part of `cell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// The perplexity of a cell's model in one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRecord {
    /// Name of the evaluation in the experiment.
    pub name: String,
    /// `exp` of the mean of `windows`; lower is better.
    pub perplexity: f64,
    /// Number of tokens in all windows.
    pub tokens: usize,
    /// SHA-256 of the tokens, as little-endian 32-bit words.
    pub token_digest: String,
    /// Mean negative log-likelihood of every window, in nats per predicted token.
    pub windows: Vec<f64>,
}

/// The result of a cell's model on one zero-shot task. It has the outcome of every document, so that two cells can be
/// compared on the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// Version number that the harness gives the task.
    pub version: u32,
    /// SHA-256 of the data file.
    pub data_digest: String,
    /// Number of documents that were scored.
    pub documents: usize,
    /// Metrics by name: `acc`, `acc_norm`, `perplexity`.
    pub metrics: BTreeMap<String, Metric>,
    /// One character per document: `1` if the right choice has the highest log-likelihood (`acc`), otherwise `0`.
    pub correct: String,
    /// The same for log-likelihoods divided by the choices' lengths (`acc_norm`), if the task has that metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_norm: Option<String>,
    /// For each document the number of its source (a passage, a video), which documents can share; absent if the data
    /// does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<u32>>,
}

/// A metric with its uncertainty over documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Value of the metric; an accuracy is a fraction.
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
    /// Version of zprune that ran the cell.
    pub version: String,
    /// Operating system, processor architecture and number of cores used.
    pub machine: String,
    /// The GPU that was used, with driver and tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Date and time (UTC) at which the run ended.
    pub finished: String,
    /// Seconds spent in forward passes, for statistics and to move calibration data through pruned blocks.
    pub calibrate_seconds: f64,
    /// Seconds spent on scoring, selecting and updating weights.
    pub prune_seconds: f64,
    /// Seconds for the whole cell.
    pub total_seconds: f64,
    /// The largest resident set while the cell ran, in bytes; absent if the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_resident_bytes: Option<u64>,
    /// Bytes of activations written to scratch files, counted each time they are written; absent if everything fitted
    /// in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spilled_bytes: Option<u64>,
}

/// An open `runs.jsonl`, to which other processes may append as well, and which other programs may replace.
pub struct RecordFile {
    journal: Journal,
    known: Known,
    /// The records that were added since the file was opened, by this process and others. If another file replaces
    /// the open one and lacks some of these records, they are written again. Older records are not restored.
    fresh: Vec<Record>,
    /// The file in which records were saved when they could not be written to the record file.
    saved: Option<PathBuf>,
}

/// What has been read of the file so far.
#[derive(Default)]
struct Known {
    records: Vec<Record>,
    /// For each record, the number of its line.
    lines: Vec<usize>,
    /// Number of lines read so far.
    read: usize,
    /// For each cell with a good record, the index of that record.
    good: HashMap<String, usize>,
    /// For each record, its checksum.
    sums: Vec<String>,
}

impl Known {
    /// Reads the lines in `news`, which follow the ones read before.
    fn extend(&mut self, path: &Path, news: &[u8]) -> Result<()> {
        for line in news.split_inclusive(|byte| *byte == b'\n') {
            self.read += 1;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if !line.is_empty() {
                let record = record(line).and_then(|(record, sum)| self.add(record, sum));
                record.map_err(|error| error.at(format_args!("{}:{}", path.display(), self.read)))?;
            }
        }
        Ok(())
    }

    /// Adds the record in the line that was read last.
    fn add(&mut self, record: Record, sum: String) -> Result<()> {
        match (record.status, self.good.get(&record.id)) {
            (Status::Ok, Some(first)) if !invariants::agree(&self.records[*first], &record) => {
                return Err(Error::input(format!(
                    "the record contradicts the good record of the same cell ({}) in line {}; equal cells have equal numbers, so one \
                     of the two is wrong: remove its line",
                    record.id, self.lines[*first]
                )));
            }
            (Status::Ok, _) => {
                self.good.insert(record.id.clone(), self.records.len());
            }
            (Status::Withdrawn, _) => {
                self.good.remove(&record.id);
            }
            (Status::Failed, _) => {}
        }
        self.sums.push(sum);
        self.lines.push(self.read);
        self.records.push(record);
        Ok(())
    }

    /// Adds a record that this process has just written.
    fn wrote(&mut self, record: Record) -> Result<()> {
        self.read += 1;
        let sum = record.checksum();
        self.add(record, sum)
    }
}

impl RecordFile {
    /// Opens (or creates) the file in a results folder, removes an unfinished last line and reads the others.
    ///
    /// # Errors
    /// The file cannot be written or locked, or a line is damaged or was edited.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut journal = Journal::open(folder.join("runs.jsonl"), BEGINNING)?;
        let news = std::mem::take(&mut journal.lock()?.news);
        let mut known = Known::default();
        known.extend(journal.path(), &news)?;
        Ok(RecordFile {
            journal,
            known,
            fresh: Vec::new(),
            saved: None,
        })
    }

    /// Reads what other processes have appended since the last read. If the file was replaced, the records that it
    /// lacks are written to it.
    ///
    /// # Errors
    /// The file cannot be read, locked or written, or a line is damaged or was edited.
    pub fn refresh(&mut self) -> Result<()> {
        match self.journal.is_current() {
            true => Ok(()),
            false => self.caught_up(None, |_, _| Ok(())),
        }
    }

    /// Reads the whole file again and makes sure that it has every record that was added since it was opened.
    ///
    /// # Errors
    /// As [`RecordFile::refresh`].
    pub fn settle(&mut self) -> Result<()> {
        self.journal.rewind();
        self.refresh()
    }

    /// Locks the file, reads what is new, and then calls the given function. `next` is a record that is about to be
    /// written: if nothing can be written any more, it is saved elsewhere.
    fn caught_up<T>(
        &mut self,
        next: Option<&Record>,
        then: impl FnOnce(&mut Known, &mut Locked) -> Result<T>,
    ) -> Result<T> {
        let path = self.journal.path().to_path_buf();
        let RecordFile {
            journal,
            known,
            fresh,
            saved,
        } = self;
        let mut locked = match journal.lock() {
            Ok(locked) => locked,
            Err(error) => return Err(rescued(error, &path, saved, fresh.iter().chain(next))),
        };
        let news = std::mem::take(&mut locked.news);
        if !locked.anew {
            let before = known.records.len();
            let read = known.extend(&path, &news);
            fresh.extend_from_slice(&known.records[before..]);
            read.map_err(|error| rescued(error, &path, saved, fresh.iter().chain(next)))?;
            return then(known, &mut locked);
        }
        let mut there = Known::default();
        if let Err(error) = there.extend(&path, &news) {
            drop(locked);
            // The next to look at the file finds it as damaged as now.
            journal.rewind();
            return Err(rescued(error, &path, saved, fresh.iter().chain(next)));
        }
        let before: HashSet<&String> = known.sums.iter().collect();
        let others = there.records.iter().zip(&there.sums);
        let others = others.filter(|(_, sum)| !before.contains(sum));
        fresh.extend(others.map(|(record, _)| record.clone()));
        let sums: HashSet<&String> = there.sums.iter().collect();
        let needless = |record: &Record| record.status != Status::Withdrawn && there.good.contains_key(&record.id);
        let lacks = |record: &&Record| !sums.contains(&record.checksum()) && !needless(record);
        let lacking: Vec<Record> = fresh.iter().filter(lacks).cloned().collect();
        *known = there;
        if !lacking.is_empty() {
            tracing::warn!(
                "{}: lacks {} of this sweep's records, because they could not be written before or another program changed the \
                 file; they are written again",
                path.display(),
                lacking.len()
            );
        }
        for (index, record) in lacking.iter().enumerate() {
            if let Err(error) = locked.append(&record.line()?) {
                return Err(rescued(error, &path, saved, lacking[index..].iter().chain(next)));
            }
            known.wrote(record.clone())?;
        }
        then(known, &mut locked)
    }

    /// All records of the file, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.known.records
    }

    /// The records that were added since the file was opened, by this process and others.
    pub fn fresh(&self) -> &[Record] {
        &self.fresh
    }

    /// The good record of the cell with this id, if there is one.
    pub fn good(&self, id: &str) -> Option<&Record> {
        self.known.good.get(id).map(|place| &self.known.records[*place])
    }

    /// Whether a cell has a good record.
    pub fn has(&self, id: &str) -> bool {
        self.good(id).is_some()
    }

    /// Appends a record and waits until it is on disk; `false`, and nothing is written, if the cell has a good
    /// record by now that this one does not withdraw.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the file is cut back to whole lines.
    pub fn append(&mut self, record: Record) -> Result<bool> {
        let line = record.line()?;
        let wrote = self.caught_up(Some(&record), |known, locked| {
            if known.good.contains_key(&record.id) && record.status != Status::Withdrawn {
                return Ok(false);
            }
            locked.append(&line)?;
            known.wrote(record.clone())?;
            Ok(true)
        });
        if wrote.is_err() {
            // Whoever looks at the file next puts it there, or saves it elsewhere with the others.
            self.fresh.push(record);
            return wrote;
        }
        let wrote = wrote?;
        if wrote {
            self.fresh.push(record);
            // Another program may have put its file in place while the line was written.
            self.refresh()?;
        }
        Ok(wrote)
    }
}

/// Saves records that cannot be written to their file in a file of their own, and says so in the error. `saved` is
/// the file in which they were saved before.
fn rescued<'a>(
    error: Error,
    path: &Path,
    saved: &mut Option<PathBuf>,
    records: impl Iterator<Item = &'a Record>,
) -> Error {
    let lines: Vec<String> = records.filter_map(|record| record.line().ok()).collect();
    if lines.is_empty() {
        return error;
    }
    let text = lines.join("\n") + "\n";
    let again = saved.take().filter(|place| write_whole(place, text.as_bytes()).is_ok());
    *saved = again.or_else(|| set_aside(path, text.as_bytes()));
    match saved {
        Some(place) => {
            let (count, place) = (lines.len(), place.display());
            let kind = error.kind();
            let records = if count == 1 { "record" } else { "records" };
            let message = format!(
                "{error}; what it may lack of this run, {count} {records}, is in {place}: mend the file, append them"
            );
            Error::new(kind, message)
        }
        // The first error is the cause.
        None => error,
    }
}

/// Writes lines to a new file beside the record file. If that fails, in the system's folder for temporary files:
/// often only one disk is full.
fn set_aside(path: &Path, lines: &[u8]) -> Option<PathBuf> {
    /// Number of file names that are tried: earlier processes with the same number may have left files.
    const MOST: usize = 1000;
    let process = std::process::id();
    let folders = [path.parent().map(Path::to_path_buf), Some(std::env::temp_dir())];
    folders.into_iter().flatten().find_map(|folder| {
        let names = (1..=MOST).map(|number| match number {
            1 => format!("runs.rescued-{process}.jsonl"),
            _ => format!("runs.rescued-{process}-{number}.jsonl"),
        });
        for place in names.map(|name| folder.join(name)) {
            match create_whole(&place, lines) {
                Ok(true) => return Some(place),
                Ok(false) => {}
                Err(_) => return None,
            }
        }
        None
    })
}

/// The record that counts for every cell: its latest good record unless that was withdrawn, otherwise the latest one,
/// which says why there is none.
pub fn standing(records: &[Record]) -> HashMap<&str, &Record> {
    let mut standing: HashMap<&str, &Record> = HashMap::new();
    for record in records {
        let good = standing
            .get(record.id.as_str())
            .is_some_and(|old| old.status == Status::Ok);
        if record.status != Status::Failed || !good {
            standing.insert(&record.id, record);
        }
    }
    standing
}

/// Reads the records of a results folder and changes nothing.
///
/// # Errors
/// The file is missing, or a line other than an unfinished last one is damaged or was edited.
pub fn read(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join("runs.jsonl");
    parse(&path, &journal::read(&path)?)
}

/// As [`read`], for a folder in which nothing may have been recorded yet: then the result is empty.
///
/// # Errors
/// A line other than an unfinished last one is damaged or was edited.
pub fn read_if_any(folder: &Path) -> Result<Vec<Record>> {
    match folder.join("runs.jsonl").exists() {
        true => read(folder),
        false => Ok(Vec::new()),
    }
}

/// The records in the whole lines `bytes`; `path` is what errors name. For [`read`] and the fuzzer.
///
/// # Errors
/// A line is damaged or was edited, or two records contradict each other.
#[doc(hidden)]
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    let mut known = Known::default();
    known.extend(path, bytes)?;
    Ok(known.records)
}

/// What the user can do about a line that was edited.
const MEND: &str = "put the line back from a copy, or remove it, and the same experiment runs its cell again";

/// The record in a line and its checksum. The record must be as zprune wrote it.
fn record(line: &[u8]) -> Result<(Record, String)> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let schema = serde_json::from_slice(line).map(|versioned: Versioned| versioned.schema);
    if let Some(other) = schema.ok().filter(|schema| !(OLDEST_SCHEMA..=SCHEMA).contains(schema)) {
        return Err(Error::input(format!(
            "the record has schema {other}, but this zprune reads schemas {OLDEST_SCHEMA} to {SCHEMA}; use the zprune \
             that wrote it, or another results folder"
        )));
    }
    let not_a_record = |error| Error::input(format!("not a record: {}", json_in_line(&error)));
    let mut record: Record = serde_json::from_slice(line).map_err(not_a_record)?;
    if record.cell.id() != record.id {
        let message = format!(
            "the record's id {} is not the hash of its cell; it was edited: {MEND}",
            record.id
        );
        return Err(Error::input(message));
    }
    let check = record.check.take();
    let newer = record.cell.is_sealed() || record.status == Status::Withdrawn || check.is_some();
    if record.schema < CHECKED && newer {
        return Err(Error::input(format!(
            "the record has schema {}, but what is in it came with schema {CHECKED}; it was edited: {MEND}",
            record.schema
        )));
    }
    if check.is_none() && record.schema >= CHECKED {
        return Err(Error::input(format!(
            "the record has no checksum (`check`); it was edited: {MEND}"
        )));
    }
    let sum = record.checksum();
    if let Some(check) = check.filter(|check| *check != sum) {
        let message = format!("the record's checksum {check} does not fit it; it was edited or damaged: {MEND}");
        return Err(Error::input(message));
    }
    invariants::check(&record)
        .map_err(|broken| Error::input(format!("the record cannot be what zprune wrote: {broken}; {MEND}")))?;
    Ok((record, sum))
}
