//! The arguments that say what a model is calibrated on.

use super::choice::{JOINS, choice};
use super::piped::{self, PipedText};
use super::sweep::drawn;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::Result;
use crate::experiment::plan::Experiment;
use crate::experiment::protocol::Length;
use crate::experiment::raw::RawCalibration;
use crate::experiment::single::typed;
use std::path::{Path, PathBuf};

/// What a model is calibrated on.
#[derive(Debug, clap::Args)]
pub(super) struct CalibrationText {
    /// Calibration corpus: text, JSONL, gzipped JSONL or parquet, or `hub:c4`; `-` reads text or JSONL from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    calibration: Option<PathBuf>,
    /// Calibration windows: safetensors with `input_ids` [n, length]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How documents become one text for --sampling packed [default: the named corpus's own, else none]
    #[arg(long, value_parser = choice::<Join>(&JOINS))]
    join: Option<Join>,
    /// How windows are drawn [default: the protocol's, or documents]
    #[arg(long, value_parser = choice::<Sampling>(&[
        "Draw a document, with replacement, until one is longer than a window; then draw a start in it. The papers' sampling of C4",
        "Join and tokenise the whole corpus once; draw starts in the token stream",
        "Draw prompts with answers (JSON lines with `prompt`, `answer` and perhaps `weight`); only the answers' tokens count",
    ]))]
    sampling: Option<Sampling>,
    /// Calibration windows [default: 128, or all of --tokens]
    #[arg(long, value_name = "N")]
    sequences: Option<usize>,
    /// Tokens per calibration window [default: the protocol's, that of --tokens, or 2048, but no more than the model was made for]
    #[arg(long, value_name = "L")]
    length: Option<usize>,
    /// Seed that the calibration windows are drawn with
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

impl CalibrationText {
    /// The corpus, read from standard input if it comes from there.
    ///
    /// # Errors
    /// Standard input cannot be read, or token windows would come from there.
    pub(super) fn read(&self) -> Result<PipedText> {
        piped::refuse("--tokens", self.tokens.as_deref())?;
        piped::text(self.calibration.as_deref())
    }

    /// Calibration on this corpus as an experiment file would say it. Without a protocol (`free`), windows are drawn as the papers draw
    /// them.
    pub(super) fn raw(&self, corpus: Option<&Path>, free: bool) -> RawCalibration {
        let drawn = self.tokens.is_none();
        RawCalibration {
            corpus: corpus.map(|path| typed(path.to_path_buf())),
            tokens: self.tokens.clone().map(typed),
            gradients: None,
            obtain: None,
            join: self.join,
            sampling: self.sampling.or((drawn && free).then_some(Sampling::Documents)),
            sequences: self.sequences.or(drawn.then_some(128)),
            length: self
                .length
                .map(Length::Tokens)
                .or((drawn && free).then_some(Length::USUAL)),
            stage: None,
            target: None,
        }
    }
}

/// How an experiment's calibration windows are drawn, in words that follow what they are.
pub(super) fn how_drawn(experiment: &Experiment) -> String {
    experiment.calibration.as_ref().map_or(String::new(), drawn)
}
