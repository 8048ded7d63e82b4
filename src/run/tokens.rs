//! The tokens that models see: texts become windows, for a run and for other programs.
//!
//! Needs tokenizers and texts, no weights.

use crate::data::corpus::Corpus;
use crate::data::sampler::CalibrationSource;
use crate::data::tokenizer::Tokenizer;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::{Experiment, ModelPlan};
use crate::files::names::{self, plain};
use crate::files::{Access, OutputFile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
        let missing = || Error::input(inputs.missing.join("\n"));
        let folder = inputs.folders[index].as_ref().ok_or_else(missing)?;
        let files = inputs.evaluations.as_ref().ok_or_else(missing)?;
        let texts = experiment.reads_texts();
        let tokenizer = texts.then(|| Tokenizer::load(&folder.path)).transpose()?;
        let tokenizer = || tokenizer.as_ref().ok_or_else(missing);
        let vocabulary = folder.spec.vocabulary;
        let bos = experiment.bos;
        let evaluations = experiment
            .evaluations
            .iter()
            .zip(files)
            .map(|(plan, file)| match plan.join {
                None => stored(&file.path, plan.length.of(&folder.spec), plan.windows, vocabulary),
                Some(join) => {
                    let mut corpus = Corpus::read(&file.path, join)?;
                    if let Some(rows) = plan.rows {
                        corpus.keep(rows).at(plan.source().display())?;
                    }
                    let text = corpus.into_joined(join);
                    let ids = tokenizer()?.encode(&text, bos, vocabulary)?;
                    TokenWindows::consecutive(&ids, plan.length.of(&folder.spec), plan.windows)
                        .at(plan.source().display())
                }
            })
            .collect::<Result<_>>()?;
        let mut calibration = BTreeMap::new();
        if let Some(plan) = &experiment.calibration
            && experiment.methods.iter().any(|method| method.calibrated)
        {
            let mut source = None;
            let length = plan.length.of(&folder.spec);
            for seed in &experiment.seeds {
                let file = inputs.calibration.get(seed).ok_or_else(missing)?;
                let (Some(join), Some(sampling)) = (plan.join, plan.sampling) else {
                    let windows = stored(&file.path, length, Some(plan.sequences), vocabulary)?;
                    calibration.insert(*seed, windows);
                    continue;
                };
                // One corpus serves all seeds; it is read and tokenised once.
                if source.is_none() {
                    let corpus = Corpus::read(&file.path, join)?;
                    source = Some(CalibrationSource::new(
                        corpus,
                        join,
                        sampling,
                        bos,
                        tokenizer()?,
                        vocabulary,
                    )?);
                }
                let source = source.as_ref().expect("the source was just made");
                let windows = source.draw(tokenizer()?, vocabulary, *seed, plan.sequences, length);
                calibration.insert(*seed, windows.at(plan.source().display())?);
            }
        }
        Ok(ModelTokens {
            evaluations,
            calibration,
        })
    }
}

/// The first `count` windows (all by default) of a token windows file.
fn stored(path: &Path, length: usize, count: Option<usize>, vocabulary: usize) -> Result<TokenWindows> {
    let windows = TokenWindows::read(path)?;
    windows.check_vocabulary(vocabulary).at(path.display())?;
    if windows.length() != length {
        let message = format!("windows have {} tokens, but `length` is {length}", windows.length());
        return Err(Error::input(message).at(path.display()));
    }
    TokenWindows::consecutive(windows.ids(), length, count).at(path.display())
}

/// Writes the tokens every model of an experiment sees, for other programs: per model a folder with
/// `calibration_seed<seed>.safetensors` and `evaluation_<name>.safetensors`. Needs no weights. With `force`,
/// a file that is there is replaced whatever it holds; without, only if it holds these tokens. One of `reads`, which the
/// experiment reads, is never replaced. Returns the files.
///
/// # Errors
/// Unusable inputs, labels that share a file, and files that are not to be replaced (nothing is written then), and files that
/// cannot be written.
pub fn write_tokens(
    experiment: &Experiment,
    inputs: &Inputs,
    folder: &Path,
    reads: &[PathBuf],
    force: bool,
) -> Result<Vec<PathBuf>> {
    inputs.require_all()?;
    let named = names_of(experiment);
    names::check(named.iter().flatten())?;
    fn output<'a>(path: &'a Path, inputs: &'a [PathBuf], force: bool, access: Access) -> OutputFile<'a> {
        OutputFile {
            path,
            inputs,
            force,
            ours: |path| TokenWindows::read(path).is_ok(),
            access,
        }
    }
    for (name, _) in named.iter().flatten() {
        output(&folder.join(name), reads, force, Access::OPEN).check()?;
    }
    let mut files = Vec::new();
    for (index, named) in named.iter().enumerate() {
        let tokens = ModelTokens::new(experiment, inputs, index)?;
        let calibration = tokens.calibration.iter();
        let calibration = calibration.map(|(seed, windows)| (&inputs.calibration[seed], windows));
        let evaluations = inputs.evaluations.iter().flatten().zip(&tokens.evaluations);
        for ((name, _), (text, windows)) in named.iter().zip(calibration.chain(evaluations)) {
            let (path, content) = (folder.join(name), windows.file()?);
            // Tokens are the text to whoever has the tokenizer.
            let access = Access::of(&text.path)?;
            if !force && TokenWindows::read(&path).is_ok_and(|there| there != *windows) {
                let message =
                    "the file exists and holds other tokens; choose another --out, or replace it with --force";
                return Err(Error::output(&path, message));
            }
            files.push((path, content, access));
        }
    }
    for (path, content, access) in &files {
        output(path, reads, force, *access).write(content)?;
    }
    Ok(files.into_iter().map(|(path, ..)| path).collect())
}

/// The files of every model, with `/`, in the order of its tokens, each with the labels it is named after.
fn names_of(experiment: &Experiment) -> Vec<Vec<(String, String)>> {
    let calibrates = experiment.calibration.is_some() && experiment.methods.iter().any(|method| method.calibrated);
    // As a map of seeds has them.
    let seeds: BTreeSet<u64> = experiment.seeds.iter().copied().filter(|_| calibrates).collect();
    let of_model = |model: &ModelPlan| {
        let (folder, label) = (plain(&model.name), format!("model `{}`", model.name));
        let calibration = seeds
            .iter()
            .map(|seed| (format!("{folder}/calibration_seed{seed}.safetensors"), label.clone()));
        let evaluations = experiment.evaluations.iter().map(|it| {
            let name = format!("{folder}/evaluation_{}.safetensors", plain(&it.name));
            (name, format!("{label} with evaluation `{}`", it.name))
        });
        calibration.chain(evaluations).collect()
    };
    experiment.models.iter().map(of_model).collect()
}
