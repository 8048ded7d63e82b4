//! The texts of an experiment: what it calibrates with, and what models are measured on.

use super::file_names::SEED;
use super::protocol::Length;
use crate::calibrate::Stage;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::eval::matching::Match;
use crate::eval::tasks::{Harness, TASKS};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// More calibration tokens than this are a slip: 67 million, where papers take 262 thousand. The activations of a model
/// of width 4096 would take a terabyte.
const MOST_CALIBRATION_TOKENS: usize = 1 << 26;

/// Of all seeds together, and of an evaluation: their ids are in memory at once and take 1 GiB.
const MOST_TOKENS: usize = 1 << 28;

/// Where the windows come from on which statistics are gathered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPlan {
    /// The file that windows are drawn from, or `hub:` and what it is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus; `{seed}` stands for the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// File with the gradients of the model's loss, which are computed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<PathBuf>,
    /// How the user can get what is missing: a sentence for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// How the corpus's rows become one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// How windows are drawn from the corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Number of windows that are drawn for each seed.
    pub sequences: usize,
    /// Number of tokens in a window.
    pub length: Length,
    /// What a layer's statistics are gathered on.
    #[serde(rename = "propagate")]
    pub stage: Stage,
}

/// A text on which perplexity is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationPlan {
    /// Label of the evaluation in tables.
    pub name: String,
    /// The file with the text, or `hub:` and what it is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// How the user can get what is missing: a sentence for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// How the corpus's rows become one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Number of rows of the corpus, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Number of tokens in a window.
    pub length: Length,
    /// Number of windows, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
    /// Whether the predictions of pruned models are compared with the dense model's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compare_to_dense: bool,
}

/// Whether a setting that is off by default is off; then it is left out.
pub(super) fn is_false(setting: &bool) -> bool {
    !setting
}

/// A zero-shot task that models are scored on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// File, folder of files, or `hub:` and what it is there.
    pub data: PathBuf,
    /// How the user can get what is missing: a sentence for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// Number of documents, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The generation of lm-evaluation-harness whose scores are reproduced.
    pub harness: Harness,
}

/// Prompts that a model answers in its own words, which are compared with the answers that are expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationPlan {
    /// Label in tables.
    pub name: String,
    /// File with the prompts, or `hub:` and what it is there.
    pub prompts: PathBuf,
    /// File with the examples before every prompt, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<PathBuf>,
    /// How the user can get what is missing: a sentence for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// What decides the result beside the files.
    #[serde(flatten)]
    pub settings: GenerationSettings,
}

/// What decides, beside the files, which answers are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationSettings {
    /// Number of examples, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
    /// How a row becomes a prompt.
    pub template: String,
    /// Whether prompt and examples are turns of a conversation, written with the chat template of the model's tokenizer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// The most tokens that an answer has.
    pub max_tokens: usize,
    /// Texts that end an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Which part of the model's text must be equal to the answer.
    #[serde(rename = "match")]
    pub matching: Match,
    /// Number of prompts, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl GenerationPlan {
    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.prompts.as_path()).chain(self.examples.as_deref())
    }
}

impl CalibrationPlan {
    /// Checks the numbers on their own.
    ///
    /// # Errors
    /// No window, windows too short to predict anything, or more tokens than anybody means.
    pub fn validate(&self) -> Result<()> {
        let (sequences, length) = (self.sequences, self.length);
        self.check_size(length.fixed().unwrap_or(1), 1)?;
        if sequences == 0 || length.fixed().is_some_and(|length| length < 2) {
            return Err(Error::config(
                "calibration needs at least one window of at least 2 tokens",
            ));
        }
        Ok(())
    }

    /// Checks that the windows of so many seeds, each of `length` tokens, can be held.
    ///
    /// # Errors
    /// They are more tokens than anybody means.
    pub fn check_size(&self, length: usize, seeds: usize) -> Result<()> {
        let sequences = self.sequences;
        let tokens = sequences.checked_mul(length);
        if tokens.is_none_or(|tokens| tokens > MOST_CALIBRATION_TOKENS) {
            return Err(Error::config(format!(
                "{sequences} windows of {length} tokens are more than {MOST_CALIBRATION_TOKENS} calibration tokens"
            )));
        }
        let all = tokens.and_then(|tokens| tokens.checked_mul(seeds));
        if all.is_none_or(|tokens| tokens > MOST_TOKENS) {
            return Err(Error::config(format!(
                "{sequences} windows of {length} tokens for each of {seeds} seeds are more than {MOST_TOKENS} \
                 calibration tokens"
            )));
        }
        Ok(())
    }
}

impl EvaluationPlan {
    /// Checks the numbers on their own.
    ///
    /// # Errors
    /// No window, windows too short to predict anything, or more tokens than can be held.
    pub fn validate(&self) -> Result<()> {
        if self.length.fixed().is_some_and(|length| length < 2) || self.windows == Some(0) {
            return Err(Error::config(
                "an evaluation needs a `length` of at least 2, and at least one window",
            ));
        }
        self.check_size(self.length.fixed().unwrap_or(1))
    }

    /// Checks that the windows, each of `length` tokens, can be held.
    ///
    /// # Errors
    /// They are more tokens than anybody means.
    pub fn check_size(&self, length: usize) -> Result<()> {
        let windows = self.windows.unwrap_or(1);
        if windows.checked_mul(length).is_none_or(|tokens| tokens > MOST_TOKENS) {
            let message = format!("{windows} windows of {length} tokens are more than {MOST_TOKENS} tokens");
            return Err(Error::config(message));
        }
        Ok(())
    }
}

impl CalibrationPlan {
    /// The file that a seed's windows come from.
    pub fn file(&self, seed: u64) -> PathBuf {
        match (&self.corpus, &self.tokens) {
            (None, Some(tokens)) => tokens.to_string_lossy().replace(SEED, &seed.to_string()).into(),
            (corpus, _) => corpus.clone().unwrap_or_default(),
        }
    }

    /// The file as the experiment names it, for messages.
    pub fn source(&self) -> &Path {
        named(&self.corpus, &self.tokens)
    }
}

impl TaskPlan {
    /// The file that the documents come from: in a folder, the one named after the task.
    pub fn file(&self) -> PathBuf {
        let files = TASKS.find(&self.name).map_or(&[][..], |entry| entry.item.files);
        let named = || {
            let endings = ["jsonl", "json", "jsonl.gz", "json.gz", "parquet"];
            files
                .iter()
                .flat_map(move |file| endings.map(|ending| self.data.join(format!("{file}.{ending}"))))
        };
        match self.data.is_dir() {
            false => self.data.clone(),
            true => named()
                .find(|path| path.exists())
                .or(named().next())
                .unwrap_or_default(),
        }
    }
}

impl EvaluationPlan {
    /// The file that the windows come from.
    pub fn source(&self) -> &Path {
        named(&self.corpus, &self.tokens)
    }
}

/// A resolved plan has exactly one of the two; one edited by hand may have none, and then no file is there.
fn named<'a>(corpus: &'a Option<PathBuf>, tokens: &'a Option<PathBuf>) -> &'a Path {
    let file = corpus.as_deref().or(tokens.as_deref());
    file.unwrap_or(Path::new(""))
}
