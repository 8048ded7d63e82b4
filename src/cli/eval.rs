//! `zprune eval`.

use super::{Display, print};
use crate::data::corpus::Join;
use crate::error::{Error, Result};
use crate::experiment::plan::EvaluationPlan;
use crate::experiment::single;
use crate::jobs;
use crate::record::write_whole;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// Hugging Face model directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Evaluation corpus: text, JSONL or gzipped JSONL
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
    /// How the corpus's rows become one text
    #[arg(long, value_enum, default_value_t = Join::Wikitext)]
    join: Join,
    /// Tokens per window
    #[arg(long, default_value_t = 2048, value_name = "L")]
    length: usize,
    /// Number of windows; all by default
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// File for the result as JSON, with the mean negative log-likelihood of every window
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Eval) -> Result<()> {
    let corpus = arguments.corpus.clone().unwrap_or_default();
    let plan = EvaluationPlan {
        name: "perplexity".to_string(),
        corpus,
        obtain: None,
        join: arguments.join,
        length: arguments.length,
        windows: arguments.windows,
    };
    let experiment = single::evaluation(&arguments.model, plan)?;
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
        arguments.model.display(),
    ))
}
