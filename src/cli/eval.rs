//! `zprune eval`.

use super::{Display, print};
use crate::data::corpus::Join;
use crate::error::{Error, Result};
use crate::experiment::protocol::Length;
use crate::experiment::raw::RawEvaluation;
use crate::experiment::single;
use crate::jobs;
use crate::record::write_whole;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune eval`.
#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    common: super::Common,
    /// Evaluation corpus: text, JSONL, gzipped JSONL or parquet, or `hub:wikitext2`
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "tokens",
        required_unless_present = "tokens"
    )]
    corpus: Option<PathBuf>,
    /// Evaluation windows: safetensors with `input_ids` [n, length]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How the corpus's rows become one text [default: the data set's or the protocol's way, or none]
    #[arg(long, value_enum)]
    join: Option<Join>,
    /// Tokens per window [default: the protocol's, that of --tokens, or 2048]
    #[arg(long, value_name = "L")]
    length: Option<usize>,
    /// Number of windows; all by default
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// File for the result as JSON, with the mean negative log-likelihood of every window
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Eval) -> Result<()> {
    let free = arguments.common.protocol.is_none() && arguments.tokens.is_none();
    let raw = RawEvaluation {
        name: "perplexity".to_string(),
        corpus: arguments.corpus.clone(),
        tokens: arguments.tokens.clone(),
        obtain: None,
        join: arguments.join,
        rows: None,
        length: arguments.length.or(free.then_some(2048)).map(Length::Tokens),
        windows: arguments.windows,
    };
    let common = arguments.common.resolved();
    let experiment = single::measuring(&common, raw)?;
    let found = jobs::eval::eval(&experiment, &Display::new())?;
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&found).map_err(|error| Error::output(path, error))?;
        text.push('\n');
        write_whole(path, text.as_bytes())?;
    }
    print(&format!(
        "perplexity {:.4} ({} windows of {} tokens, {})",
        found.perplexity,
        found.windows.len(),
        found.tokens / found.windows.len(),
        common.model.display(),
    ))
}
