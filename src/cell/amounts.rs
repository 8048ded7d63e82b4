//! How much there is of every text, task and prompt, for those who plan: counted in the files that are on this machine.

use super::generations::PreparedGeneration;
use super::tasks::PreparedTask;
use super::tokens::{check_calibration, evaluation_ids, evaluation_windows};
use crate::data::table;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::experiment::inputs::{self, ConfiguredModel, Inputs};
use crate::experiment::origin::Part;
use crate::experiment::plan::Experiment;
use crate::progress::Progress;
use std::path::Path;

/// So many of so many: windows, documents or prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Number of those that every cell uses.
    pub used: usize,
    /// Number of those that the file has.
    pub there: usize,
}

/// What a model sees when it is measured.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Windows of every evaluation; `None` where the text or the tokenizer is not there.
    pub windows: Vec<Option<Amount>>,
    /// Tokens of all tasks' documents, about; `None` where data or the tokenizer is not there.
    pub task_tokens: Option<usize>,
}

impl Seen {
    /// Of an experiment whose texts were not read.
    pub fn nothing(experiment: &Experiment) -> Seen {
        Seen {
            windows: vec![None; experiment.evaluations.len()],
            task_tokens: None,
        }
    }
}

/// How much every cell of an experiment measures.
#[derive(Debug, Clone)]
pub struct Amounts {
    /// Documents of every zero-shot task; `None` where its data are not there.
    pub tasks: Vec<Option<Amount>>,
    /// Prompts of every generation; `None` where they are not there.
    pub prompts: Vec<Option<Amount>>,
    /// One per model.
    pub models: Vec<Seen>,
}

impl Amounts {
    /// Reads and tokenises what is there.
    ///
    /// # Errors
    /// A file cannot be used: it is malformed, or too short for the windows that the experiment asks for.
    pub fn new(experiment: &Experiment, inputs: &Inputs, progress: &dyn Progress) -> Result<Amounts> {
        let tasks = experiment.tasks.iter().zip(&inputs.tasks);
        let tasks = tasks.map(|(plan, file)| file.as_ref().map(|file| rows(&file.path, plan.limit)).transpose());
        let prompts = experiment.generations.iter().zip(&inputs.generations);
        let prompts = prompts.map(|(plan, files)| {
            let file = files.as_ref().map(|files| &files.prompts);
            file.map(|file| rows(&file.path, plan.settings.limit)).transpose()
        });
        let models = experiment.models.iter().zip(&inputs.folders).enumerate();
        let models = models.map(|(index, (plan, folder))| {
            let Some(folder) = folder else {
                return Ok(Seen::nothing(experiment));
            };
            progress.stage(&format!("tokenising for {}", plan.name));
            check_calibration(experiment, inputs, index)?;
            if inputs::all(&inputs.generations).is_some() {
                // What cannot be asked is refused here as in a run.
                PreparedGeneration::all(experiment, inputs, folder)?;
            }
            seen(experiment, inputs, folder)
        });
        let amounts = Amounts {
            tasks: tasks.collect::<Result<_>>()?,
            prompts: prompts.collect::<Result<_>>()?,
            models: models.collect::<Result<_>>()?,
        };
        progress.finish();
        Ok(amounts)
    }
}

/// Rows of a table, of which the first `limit` are used.
fn rows(path: &Path, limit: Option<usize>) -> Result<Amount> {
    let there = table::read(path)?.len();
    let used = limit.unwrap_or(there).min(there);
    Ok(Amount { used, there })
}

fn seen(experiment: &Experiment, inputs: &Inputs, folder: &ConfiguredModel) -> Result<Seen> {
    let texts = experiment.evaluations.iter().any(|plan| plan.corpus.is_some());
    let tokenizer = texts.then(|| Tokenizer::load(&folder.path)).transpose()?;
    let windows = experiment
        .evaluations
        .iter()
        .zip(&inputs.evaluations)
        .map(|(plan, file)| {
            let Some(file) = file else { return Ok(None) };
            let placed = |error| inputs.placed(&Part::Evaluation(plan.name.clone()), error);
            let ids = evaluation_ids(plan, file, experiment.bos, folder, tokenizer.as_ref()).map_err(placed)?;
            let windows = evaluation_windows(plan, &ids, inputs, folder)?;
            Ok(Some(Amount {
                used: windows.count(),
                there: ids.len() / windows.length(),
            }))
        });
    let windows = windows.collect::<Result<_>>()?;
    let task_tokens = match inputs::all(&inputs.tasks) {
        Some(_) => {
            let tasks = PreparedTask::all(experiment, inputs, folder)?;
            Some(tasks.iter().map(PreparedTask::tokens).sum())
        }
        None => None,
    };
    Ok(Seen { windows, task_tokens })
}
