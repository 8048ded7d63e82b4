//! Writing the tokens that models see, for other programs.

use crate::cell::ModelTokens;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::{Experiment, ModelPlan};
use crate::files::names::{self, plain};
use crate::files::{Access, OutputFile};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
                let message = "the file exists and has other tokens; choose another --out, or replace it with --force";
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
