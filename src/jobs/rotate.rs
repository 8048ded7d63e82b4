//! Turning one model by orthogonal matrices: the directory of a model with other weights that computes the same.
//!
//! Before it gets its name it is opened as a loader opens it. Its logits before they were rounded to the stored type are those of the
//! original but for rounding; how far those of the stored weights are from them is told.

use super::directory::{Directory, storage};
use crate::backend::Compute;
use crate::backend::cpu::Cpu;
use crate::cell::size::{difference, logits, parameters, sample, tolerance};
use crate::error::{Error, Located, Result};
use crate::files::{Staging, input, json};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::CONFIG;
use crate::model::families::{parse_spec, read_spec};
use crate::model::folder::Links;
use crate::model::forward::Ends;
use crate::model::rotated::{Rotated, Rotation};
use crate::model::source::WeightSource;
use crate::progress::Progress;
use crate::spec::{ModelSpec, NormPlace};
use crate::tensor::StorageType;
use ndarray::Array2;
use serde_json::{Map, Value};
use std::path::Path;

/// The key that says whether the head is the embedding.
const TIED: &str = "tie_word_embeddings";

/// The share of weights that are 0 above which a model counts as pruned. In a model that was trained hardly any are.
const MOST_ZEROS: f64 = 0.01;

/// What was done to a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turned {
    /// Number of blocks whose values were turned, too.
    pub values: usize,
    /// The share of the original's prunable weights that were 0.
    pub zeros: f64,
    /// Whether the head was the embedding, and is a matrix of its own now.
    pub untied: bool,
    /// The type in which the weights are stored.
    pub storage: StorageType,
    /// The largest difference of logits before weights were rounded to their type, as a fraction of the largest logit.
    pub difference: f64,
    /// The same of the model that was written.
    pub stored_difference: f64,
}

/// Turns the model in a directory by the rotation in a file, and writes it to the directory `out`.
///
/// # Errors
/// The model or the rotation cannot be used ([`Rotation::read`], [`Rotated::new`]), the model is pruned and nobody said `lose_zeros`, or
/// the disk refuses; nothing is left under `out` then.
pub fn rotate(
    model: &Path,
    rotation: &Path,
    out: &Path,
    (links, lose_zeros): (Links, bool),
    progress: &dyn Progress,
) -> Result<Turned> {
    let staging = Staging::new(out)?;
    let done =
        turn(model, rotation, &staging, (links, lose_zeros), progress).map_err(|error| staging.renamed(error))?;
    staging.commit()?;
    progress.finish();
    Ok(done)
}

fn turn(
    folder: &Path,
    rotation: &Path,
    staging: &Staging,
    (links, lose_zeros): (Links, bool),
    progress: &dyn Progress,
) -> Result<Turned> {
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let spec = checkpoint.spec();
    let begins = format!(
        "{} is turned: {} blocks, {} parameters",
        folder.display(),
        spec.blocks,
        parameters(spec)
    );
    progress.begins(&begins, None);
    progress.stage("checking the weights");
    checkpoint.check_finite()?;
    let storage = storage(&checkpoint).at(folder.display())?;
    let zeros = zeros(&checkpoint)?;
    if zeros > MOST_ZEROS && !lose_zeros {
        let message = format!(
            "{:.1} % of the prunable weights are 0, and turning the model makes them other numbers: turn the original model and prune the \
             result, or allow the loss with --lose-zeros",
            100.0 * zeros
        );
        return Err(Error::config(message).at(folder.display()));
    }
    progress.stage("reading the rotation");
    let rotation = Rotation::read(rotation, checkpoint.spec())?;
    let rotated = Rotated::new(&checkpoint, &rotation).at(folder.display())?;
    progress.stage("comparing the models");
    let sample = sample(None, checkpoint.spec())?;
    let of =
        |model: &dyn WeightSource| -> Result<Array2<f32>> { logits(&Cpu, model, &Ends::upload(&Cpu, model)?, &sample) };
    let dense = of(&checkpoint)?;
    let apart = difference(&of(&rotated)?, &dense);
    let most = tolerance(Compute::F32, checkpoint.spec().blocks);
    if apart > most {
        return Err(Error::numeric(format!(
            "the turned model's logits differ by {apart:.1e} of the largest from the original's, but rounding explains at most \
             {most:.0e}; nothing was kept"
        ))
        .at(folder.display()));
    }
    progress.stage("writing");
    let path = folder.join(CONFIG);
    let text = input::read_text(&path, input::SMALL)?;
    let config = configuration(&text, checkpoint.spec(), rotated.spec()).at(path.display())?;
    let directory = Directory {
        checkpoint: &checkpoint,
        folder,
        links,
        staging,
        storage,
    };
    directory.write(&rotated, &config, &|index, name| other(&rotated, index, name))?;
    progress.stage("reading it back");
    let written = staging.path("");
    let reopened = Checkpoint::open(&written, read_spec(&written)?)?;
    Ok(Turned {
        values: rotation.blocks(),
        zeros,
        untied: rotated.spec() != checkpoint.spec(),
        storage,
        difference: apart,
        stored_difference: difference(&of(&reopened)?, &dense),
    })
}

/// The share of the prunable weights that are 0.
fn zeros(checkpoint: &Checkpoint) -> Result<f64> {
    let spec = checkpoint.spec();
    let mut zeros = 0;
    for index in 0..spec.blocks {
        for layer in &spec.block(index).linears {
            let weight = checkpoint.linear(index, layer)?.weight;
            zeros += weight.iter().filter(|weight| **weight == 0.0).count();
        }
    }
    Ok(zeros as f64 / spec.prunable().max(1) as f64)
}

/// The values of a tensor of the turned model that is no linear layer's.
fn other(model: &Rotated, index: Option<usize>, name: &str) -> Result<Vec<f32>> {
    let spec = model.spec();
    let Some(index) = index else {
        let of_norm = spec.final_norm.as_ref().filter(|norm| {
            let tensor = norm.tensor.as_ref();
            tensor.is_some_and(|tensor| name == format!("{tensor}.weight"))
        });
        return match of_norm {
            Some(norm) => stored_gain(
                model.norm("", norm)?.gain.map(|gain| gain.to_vec()),
                norm.unit_offset,
                name,
            ),
            None => Ok(model.matrix(name)?.into_iter().collect()),
        };
    };
    let block = spec.block(index);
    let prefix = block.prefix_of(index);
    let is_it = |place: NormPlace| {
        let tensor = block.norm(place).and_then(|norm| norm.tensor.as_ref());
        tensor.is_some_and(|tensor| name == format!("{prefix}{tensor}.weight"))
    };
    let norms = model.norms(index)?;
    let found = norms.into_iter().find(|(place, _)| is_it(*place));
    let offset = found.as_ref().and_then(|(place, _)| block.norm(*place));
    let offset = offset.is_some_and(|norm| norm.unit_offset);
    stored_gain(
        found.and_then(|(_, norm)| norm.gain).map(|gain| gain.to_vec()),
        offset,
        name,
    )
}

/// A norm's gain as checkpoints of the family store it.
fn stored_gain(gain: Option<Vec<f32>>, unit_offset: bool, name: &str) -> Result<Vec<f32>> {
    let mut gain = gain.ok_or_else(|| Error::input(format!("tensor `{name}` is none of this model's")))?;
    if unit_offset {
        gain.iter_mut().for_each(|gain| *gain -= 1.0);
    }
    Ok(gain)
}

/// The text of a `config.json`, changed so that the head is a matrix of its own if the turned model has one.
fn configuration(text: &str, before: &ModelSpec, turned: &ModelSpec) -> Result<String> {
    if before == turned {
        return Ok(text.to_string());
    }
    let mut config: Map<String, Value> = serde_json::from_str(&json::standard(text))
        .map_err(|error| Error::input(format!("not valid JSON: {error}")))?;
    config.insert(TIED.to_string(), false.into());
    let text = format!("{:#}\n", Value::Object(config));
    match parse_spec(&text)? == *turned {
        true => Ok(text),
        false => Err(Error::input(
            "this configuration cannot say that the head is a matrix of its own, which the turned model has",
        )),
    }
}
