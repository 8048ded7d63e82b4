//! The tokens that models see: texts become windows.
//!
//! Needs tokenizers and texts, no weights.

use crate::data::answers;
use crate::data::corpus::Corpus;
use crate::data::sampler::{CalibrationSource, Sampling};
use crate::data::tokenizer::{Bos, Tokenizer};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, ConfiguredModel, FileInput, Inputs};
use crate::experiment::origin::Part;
use crate::experiment::plan::{EvaluationPlan, Experiment};
use std::collections::BTreeMap;
use std::path::Path;

/// Every token a model sees in an experiment.
pub struct ModelTokens {
    /// One per evaluation.
    pub evaluations: Vec<TokenWindows>,
    /// The calibration windows of every seed; empty where no method calibrates.
    pub calibration: BTreeMap<u64, TokenWindows>,
}

impl ModelTokens {
    /// Tokenises an experiment's texts, or reads its token windows files, for the model at `index`. Needs
    /// its folder and all texts in `inputs`.
    ///
    /// # Errors
    /// Something is missing, a text is too short for its windows, or a token windows file does not fit
    /// the experiment or the vocabulary.
    pub fn new(experiment: &Experiment, inputs: &Inputs, index: usize) -> Result<Self> {
        let missing = || inputs.lacks();
        let folder = inputs.folders[index].as_ref().ok_or_else(missing)?;
        let files = inputs::all(&inputs.evaluations).ok_or_else(missing)?;
        let texts = experiment.reads_texts();
        let tokenizer = texts.then(|| Tokenizer::load(&folder.path)).transpose()?;
        let evaluations = experiment.evaluations.iter().zip(files).map(|(plan, file)| {
            let ids = evaluation_ids(plan, file, experiment.bos, folder, tokenizer.as_ref());
            let ids = ids.map_err(|error| inputs.placed(&Part::Evaluation(plan.name.clone()), error))?;
            evaluation_windows(plan, &ids, inputs, folder)
        });
        let evaluations = evaluations.collect::<Result<_>>()?;
        let calibrated = experiment.methods.iter().any(|method| method.calibrated);
        let calibration = match calibrated {
            true => placed(experiment, inputs, index, tokenizer, Draw::Everything)?,
            false => BTreeMap::new(),
        };
        Ok(ModelTokens {
            evaluations,
            calibration,
        })
    }
}

/// All tokens of an evaluation's file for a model, of which the evaluation takes the first windows. Texts need the model's tokenizer.
///
/// # Errors
/// The file cannot be read or tokenised, or its windows do not fit the plan or the vocabulary.
pub(super) fn evaluation_ids(
    plan: &EvaluationPlan,
    file: &FileInput,
    bos: Bos,
    folder: &ConfiguredModel,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<u32>> {
    let vocabulary = folder.spec.vocabulary;
    let Some(join) = plan.join else {
        return Ok(stored(&file.path, plan.length.of(&folder.spec), vocabulary)?
            .ids()
            .to_vec());
    };
    let no_tokenizer = || Error::input("a tokenizer is needed").at(folder.path.display());
    let tokenizer = tokenizer.ok_or_else(no_tokenizer)?;
    let mut corpus = Corpus::read(&file.path, join)?;
    if let Some(rows) = plan.rows {
        corpus.keep(rows).at(plan.source().display())?;
    }
    tokenizer.encode(&corpus.into_joined(join), bos, vocabulary)
}

/// The windows of an evaluation in its tokens.
///
/// # Errors
/// The text is too short.
pub(super) fn evaluation_windows(
    plan: &EvaluationPlan,
    ids: &[u32],
    inputs: &Inputs,
    folder: &ConfiguredModel,
) -> Result<TokenWindows> {
    let windows = TokenWindows::consecutive(ids, plan.length.of(&folder.spec), plan.windows);
    let windows = windows.at(plan.source().display());
    windows.map_err(|error| inputs.placed(&Part::Windows(plan.name.clone()), error))
}

/// The calibration windows of every seed of an experiment for the model at `index`; none where there is no calibration.
///
/// # Errors
/// As [`ModelTokens::new`].
pub fn calibration_windows(
    experiment: &Experiment,
    inputs: &Inputs,
    index: usize,
) -> Result<BTreeMap<u64, TokenWindows>> {
    placed(experiment, inputs, index, None, Draw::Everything)
}

/// The windows that [`drawn`] draws; an error about them has its place in the experiment's file.
fn placed(
    experiment: &Experiment,
    inputs: &Inputs,
    index: usize,
    tokenizer: Option<Tokenizer>,
    draw: Draw,
) -> Result<BTreeMap<u64, TokenWindows>> {
    let there = experiment
        .seeds
        .iter()
        .all(|seed| inputs.calibration.contains_key(seed));
    if experiment.calibration.is_some() && !(there && inputs.folders[index].is_some()) {
        return Err(inputs.lacks());
    }
    let drawn = drawn(experiment, inputs, index, tokenizer, draw);
    drawn.map_err(|error| inputs.placed(&Part::Calibration, error))
}

/// Checks for the model at `index` that the calibration windows of an experiment can be had, if a method calibrates and their files are
/// there; draws as few as show that.
///
/// # Errors
/// As [`ModelTokens::new`].
pub(super) fn check_calibration(experiment: &Experiment, inputs: &Inputs, index: usize) -> Result<()> {
    let calibrated = experiment.methods.iter().any(|method| method.calibrated);
    let there = experiment
        .seeds
        .iter()
        .all(|seed| inputs.calibration.contains_key(seed));
    if calibrated && there {
        placed(experiment, inputs, index, None, Draw::Trial)?;
    }
    Ok(())
}

/// How many windows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draw {
    /// Those of all seeds.
    Everything,
    /// As few as show that all of them can be had.
    Trial,
}

/// The same with the model's tokenizer, if it was loaded.
fn drawn(
    experiment: &Experiment,
    inputs: &Inputs,
    index: usize,
    mut tokenizer: Option<Tokenizer>,
    draw: Draw,
) -> Result<BTreeMap<u64, TokenWindows>> {
    let missing = || inputs.lacks();
    let folder = inputs.folders[index].as_ref().ok_or_else(missing)?;
    let mut calibration = BTreeMap::new();
    let Some(plan) = &experiment.calibration else {
        return Ok(calibration);
    };
    let (vocabulary, bos) = (folder.spec.vocabulary, experiment.bos);
    let length = plan.length.of(&folder.spec);
    let mut source = None;
    for seed in &experiment.seeds {
        let file = inputs.calibration.get(seed).ok_or_else(missing)?;
        let (Some(join), Some(sampling)) = (plan.join, plan.sampling) else {
            let windows = stored(&file.path, length, vocabulary)?;
            let windows = TokenWindows::consecutive(windows.ids(), length, Some(plan.sequences));
            calibration.insert(*seed, windows.at(file.path.display())?);
            continue;
        };
        // One corpus serves all seeds; it is read and tokenised once.
        if source.is_none() {
            let tokenizer = match tokenizer.take() {
                Some(tokenizer) => tokenizer,
                None => Tokenizer::load(&folder.path)?,
            };
            let made = match sampling {
                Sampling::Answers => CalibrationSource::of_answers(answers::read(&file.path)?, bos),
                _ => {
                    let corpus = Corpus::read(&file.path, join)?;
                    CalibrationSource::new(corpus, join, sampling, bos, &tokenizer, vocabulary)?
                }
            };
            if let Some(said) = made.repeats(&tokenizer, vocabulary, plan.sequences, length)? {
                tracing::warn!("{}: {said}", plan.source().display());
            }
            source = Some((made, tokenizer));
        }
        let (source, tokenizer) = source.as_ref().expect("the source was just made");
        // Windows are drawn with replacement, so that one can be had if all can; answers are not.
        let count = match draw {
            Draw::Trial if sampling != Sampling::Answers => 1,
            _ => plan.sequences,
        };
        let windows = source.draw(tokenizer, vocabulary, *seed, count, length);
        calibration.insert(*seed, windows.at(plan.source().display())?);
        if draw == Draw::Trial {
            break;
        }
    }
    Ok(calibration)
}

/// The windows of a token windows file, which must have this length.
fn stored(path: &Path, length: usize, vocabulary: usize) -> Result<TokenWindows> {
    let windows = TokenWindows::read(path)?;
    windows.check_vocabulary(vocabulary).at(path.display())?;
    if windows.length() != length {
        let message = format!("windows have {} tokens, but `length` is {length}", windows.length());
        return Err(Error::input(message).at(path.display()));
    }
    Ok(windows)
}
