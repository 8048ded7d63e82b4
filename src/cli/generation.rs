//! The arguments of `zprune eval --generate`.

use super::choice::choice;
use super::piped;
use crate::error::{Error, Result};
use crate::eval::matching::Match;
use crate::experiment::raw::RawGeneration;
use crate::experiment::single::typed;
use crate::files::names::plain;
use clap::Args;
use std::path::PathBuf;

/// Which prompts a model answers, and what is right.
#[derive(Debug, Args)]
pub struct Generation {
    /// Prompts to answer instead of a text: JSONL or parquet, with the template's fields and an `answer` in each row
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "tokens", "join", "length", "windows", "against", "tasks", "format"])]
    generate: Option<PathBuf>,
    /// Examples: a file of the same kind. They stand before every prompt, with their answers
    #[arg(long, value_name = "FILE", requires = "generate")]
    examples: Option<PathBuf>,
    /// Number of examples [default: all of their file]
    #[arg(long, value_name = "N", requires = "examples")]
    shots: Option<usize>,
    /// How a row becomes a prompt: `{field}` stands for a field of the row [default: {prompt}]
    #[arg(long, value_name = "TEXT", requires = "generate")]
    template: Option<String>,
    /// Write prompt and examples as turns of a conversation, with the chat template of the model's tokenizer
    #[arg(long, requires = "generate")]
    chat: bool,
    /// An answer has at most this many tokens [default: 64]
    #[arg(long, value_name = "N", requires = "generate")]
    max_tokens: Option<usize>,
    /// A text that ends an answer; can be given several times
    #[arg(long, value_name = "TEXT", requires = "generate")]
    stop: Vec<String>,
    /// Which part of the model's text must be equal to the answer [default: last-number]
    #[arg(long = "match", requires = "generate", value_parser = choice::<Match>(&[
        "The last number, as in GSM8K; `1,080`, `$1080` and `1080.0` are the same number",
        "The whole text, except white space at its ends",
    ]))]
    matching: Option<Match>,
}

impl Generation {
    /// The prompts as an experiment file would name them, of which at most `limit` are answered; `None` if there are none.
    ///
    /// # Errors
    /// A file is standard input, or has no name.
    pub fn raw(&self, limit: Option<usize>) -> Result<Option<RawGeneration>> {
        piped::refuse("--generate", self.generate.as_deref())?;
        piped::refuse("--examples", self.examples.as_deref())?;
        let Some(prompts) = &self.generate else {
            // clap leaves out its `requires` where another option excludes the one that is required.
            let given = [
                ("--examples", self.examples.is_some()),
                ("--shots", self.shots.is_some()),
                ("--template", self.template.is_some()),
                ("--chat", self.chat),
                ("--max-tokens", self.max_tokens.is_some()),
                ("--stop", !self.stop.is_empty()),
                ("--match", self.matching.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(Error::config(format!(
                    "{option} belongs to --generate, which is not given; leave {option} out"
                ))),
                None => Ok(None),
            };
        };
        let name = prompts.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| Error::config("--generate names no file"))?;
        Ok(Some(RawGeneration {
            name: plain(name.split('.').next().unwrap_or(&name)),
            prompts: typed(prompts.clone()),
            examples: self.examples.clone().map(typed),
            obtain: None,
            shots: self.shots,
            template: self.template.clone(),
            chat: self.chat,
            max_tokens: self.max_tokens.unwrap_or(64),
            stop: self.stop.clone(),
            matching: self.matching.unwrap_or(Match::LastNumber),
            limit,
        }))
    }
}
