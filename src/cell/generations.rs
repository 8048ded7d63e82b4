//! Prompts within a cell: tokenised once per model, answered by the model whose blocks are all there, and compared with the answers that
//! are expected. The result is that of a task, so that everything that counts documents counts these.

use super::tasks::{Sample, TaskFindings, WrittenSample, accuracy, digits};
use crate::backend::Backend;
use crate::data::chat::Turn;
use crate::data::prompts::{self, Prompt, Template};
use crate::data::tokenizer::{Bos, Tokenizer};
use crate::error::{Error, Located, Result};
use crate::eval::generate::Greedy;
use crate::experiment::inputs::{self, ConfiguredModel, Inputs};
use crate::experiment::plan::{Experiment, GenerationPlan};
use crate::progress::{Progress, Running};
use crate::record::TaskRecord;
use crate::stats::proportion::Accuracy;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of how answers are made and compared, for records.
const VERSION: u32 = 1;

/// Prompts in a model's tokens.
pub struct PreparedGeneration {
    plan: GenerationPlan,
    digest: String,
    tokenizer: Arc<Tokenizer>,
    /// The tokens that end an answer.
    ends: Vec<u32>,
    /// The most tokens that the model sees at once.
    context: usize,
    prompts: Vec<Asked>,
    /// Level of the interval that is shown while prompts are answered.
    confidence: f64,
}

/// A prompt in tokens.
struct Asked {
    row: usize,
    text: String,
    tokens: Vec<u32>,
    /// What must be found in what the model writes.
    wanted: String,
}

/// Examples and a prompt as a conversation.
fn turns<'a>(examples: &'a [(String, String)], prompt: &'a str) -> Vec<Turn<'a>> {
    let user = |content| Turn { role: "user", content };
    let assistant = |content| Turn {
        role: "assistant",
        content,
    };
    let examples = examples
        .iter()
        .flat_map(|(asked, answer)| [user(asked.as_str()), assistant(answer.as_str())]);
    examples.chain([user(prompt)]).collect()
}

impl PreparedGeneration {
    /// Reads and tokenises all prompts of an experiment for one of its models.
    ///
    /// # Errors
    /// A file is missing, has rows that cannot be used, or a prompt leaves no room for an answer in the model's context.
    pub fn all(experiment: &Experiment, inputs: &Inputs, folder: &ConfiguredModel) -> Result<Vec<PreparedGeneration>> {
        if experiment.generations.is_empty() {
            return Ok(Vec::new());
        }
        let missing = || inputs.lacks();
        let files = inputs::all(&inputs.generations).ok_or_else(missing)?;
        let tokenizer = Arc::new(Tokenizer::load(&folder.path)?);
        let spec = &folder.spec;
        let context = spec.longest_window.unwrap_or(usize::MAX).min(spec.max_positions);
        let each = experiment.generations.iter().zip(files);
        each.map(|(plan, files)| {
            let settings = &plan.settings;
            let template = Template::parse(&settings.template)?;
            let examples = files.examples.as_ref().map(|file| (file.path.as_path(), settings.shots));
            let read = prompts::read(&files.prompts.path, examples, &template, settings.limit)?;
            for doubt in read.doubts() {
                tracing::warn!("{}: {doubt}", files.prompts.path.display());
            }
            let before = read.before();
            let written = |prompt: &Prompt| match &folder.chat {
                Some(chat) if settings.chat => Ok((chat.write(&turns(&read.examples, &prompt.text))?, Bos::Never)),
                _ => Ok((format!("{before}{}", prompt.text), Bos::Tokenizer)),
            };
            let asked = |prompt: &Prompt| {
                let asked = || {
                    let (text, bos) = written(prompt)?;
                    let tokens = tokenizer.encode(&text, bos, spec.vocabulary)?;
                    if tokens.is_empty() || tokens.len() >= context {
                        return Err(Error::input(format!(
                            "its prompt has {} tokens, which leaves no place for the answer: prompt and answer together have at most \
                             {context} tokens. Shorten the prompt, or set `shots` to fewer examples",
                            tokens.len()
                        )));
                    }
                    Ok(Asked {
                        row: prompt.row,
                        text,
                        tokens,
                        wanted: settings.matching.wanted(&prompt.answer)?,
                    })
                };
                asked().at(&prompt.place)
            };
            // All of them first, so that the error is that of the first prompt that has one, whatever thread is faster.
            let asked: Vec<Result<Asked>> = read.prompts.par_iter().map(asked).collect();
            let asked = asked.into_iter().collect::<Result<Vec<Asked>>>();
            Ok(PreparedGeneration {
                plan: plan.clone(),
                digest: files.prompts.digest.clone(),
                tokenizer: tokenizer.clone(),
                ends: folder.ends.clone(),
                context,
                prompts: asked.at(files.prompts.path.display())?,
                confidence: experiment.confidence,
            })
        })
        .collect()
    }

    /// Number of its prompts.
    pub fn count(&self) -> usize {
        self.prompts.len()
    }

    /// What a model answers, and how often it is right.
    ///
    /// # Errors
    /// The backend fails, or `progress` stops it.
    pub(super) fn answered<B: Backend>(&self, model: &Greedy<B>, progress: &dyn Progress) -> Result<TaskFindings> {
        let settings = &self.plan.settings;
        let prompts: Vec<&[u32]> = self.prompts.iter().map(|asked| asked.tokens.as_slice()).collect();
        let mut written: BTreeMap<usize, WrittenSample> = BTreeMap::new();
        let found = model.generate(&prompts, settings.max_tokens, |index, tokens| {
            let ended = tokens.last().is_some_and(|last| self.ends.contains(last));
            let tokens = &tokens[..tokens.len() - usize::from(ended)];
            let full = tokens.len() == settings.max_tokens || prompts[index].len() + tokens.len() == self.context;
            if !(ended || full) && settings.stop.is_empty() {
                return Ok(true);
            }
            let text = self.tokenizer.decode(tokens)?;
            let stopped = settings.stop.iter().filter_map(|stop| text.find(stop)).min();
            if !(ended || full) && stopped.is_none() {
                return Ok(true);
            }
            let text = text[..stopped.unwrap_or(text.len())].to_string();
            let asked = &self.prompts[index];
            let found = settings.matching.of(&text);
            let sample = WrittenSample {
                doc: asked.row,
                prompt: asked.text.clone(),
                tokens: tokens.to_vec(),
                right: found.as_ref() == Some(&asked.wanted),
                text,
                found,
                gold: asked.wanted.clone(),
            };
            written.insert(index, sample);
            self.show(&written, progress);
            progress.tried()?;
            Ok(false)
        });
        found.at(&self.plan.name)?;
        let correct: Vec<bool> = written.values().map(|sample| sample.right).collect();
        Ok(TaskFindings {
            record: TaskRecord {
                name: self.plan.name.clone(),
                version: VERSION,
                data_digest: self.digest.clone(),
                documents: correct.len(),
                metrics: BTreeMap::from([("acc".to_string(), accuracy(&correct, None))]),
                correct: digits(&correct),
                correct_norm: None,
                sources: None,
            },
            samples: written.into_values().map(Sample::Written).collect(),
        })
    }

    /// Shows the accuracy so far.
    fn show(&self, written: &BTreeMap<usize, WrittenSample>, progress: &dyn Progress) {
        let outcomes: Vec<f64> = written.values().map(|it| f64::from(u8::from(it.right))).collect();
        if let Some(found) = Accuracy::of(&outcomes, None, self.confidence) {
            progress.answered(&Running {
                task: &self.plan.name,
                metric: "acc",
                done: outcomes.len(),
                total: self.prompts.len(),
                accuracy: found.value,
                interval: [found.interval.low, found.interval.high],
            });
        }
    }
}
