//! A model with everything that its cells need but a backend.

use super::generations::PreparedGeneration;
use super::size::parameters;
use super::tasks::PreparedTask;
use super::tokens::ModelTokens;
use crate::data::windows::TokenWindows;
use crate::error::{Located, Result};
use crate::experiment::forecast::Forecast;
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::Machine;
use crate::experiment::plan::Experiment;
use crate::experiment::work::Measured;
use crate::memory::Room;
use crate::model::layer_file::{Content, LayerFile};
use crate::model::pruned_before::PrunedBefore;
use crate::model::source::WeightSource;
use crate::progress::Progress;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model with every token that it will see.
pub struct Prepared<'a> {
    /// Its weights.
    pub source: &'a dyn WeightSource,
    /// Calibration windows by seed.
    pub calibration: BTreeMap<u64, TokenWindows>,
    /// The texts whose perplexity every cell measures, in the order of the findings.
    pub evaluations: Vec<PreparedText>,
    /// The zero-shot tasks that every cell is scored on.
    pub tasks: Vec<PreparedTask>,
    /// The prompts that every cell's model answers.
    pub generations: Vec<PreparedGeneration>,
    /// The gradients of its loss, if they are read from a file.
    pub gradients: Option<Arc<LayerFile>>,
    /// Memory that is left for activations.
    pub room: Room,
    /// Bytes of all its tensors as they are stored.
    pub stored: u64,
    /// Its zeros, if it has many already.
    pub pruned_before: Option<PrunedBefore>,
}

/// A text that perplexity is measured on.
pub struct PreparedText {
    /// Its label.
    pub name: String,
    /// Its tokens.
    pub windows: TokenWindows,
    /// Whether the predictions of pruned models are compared with the dense model's.
    pub compare_to_dense: bool,
}

impl<'a> Prepared<'a> {
    /// A model that is not calibrated, not measured, and may use all memory; the fields say what else there is.
    pub fn new(source: &'a dyn WeightSource) -> Self {
        Prepared {
            source,
            calibration: BTreeMap::new(),
            evaluations: Vec::new(),
            tasks: Vec::new(),
            generations: Vec::new(),
            gradients: None,
            room: Room::unlimited(),
            stored: 4 * parameters(source.spec()),
            pruned_before: None,
        }
    }

    /// The model at `index` of an experiment, all of whose files are there: reads and tokenises its texts, and looks
    /// through its weights.
    ///
    /// # Errors
    /// A text is too short or cannot be tokenised, a weight is not finite, or the machine's memory will not do.
    pub fn of(
        experiment: &Experiment,
        machine: Machine,
        inputs: &'a Inputs,
        index: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let missing = || inputs.lacks();
        let folder = inputs.folders[index].as_ref().ok_or_else(missing)?;
        let checkpoint = &inputs.models[index].as_ref().ok_or_else(missing)?.checkpoint;
        let name = &experiment.models[index].name;
        progress.stage(&format!("tokenising for {name}"));
        let tokens = ModelTokens::new(experiment, inputs, index)?;
        let tasks = PreparedTask::all(experiment, inputs, folder)?;
        let generations = PreparedGeneration::all(experiment, inputs, folder)?;
        let measured = measured(&mut tokens.evaluations.iter(), &tasks);
        let room = Forecast::new(experiment, checkpoint.spec(), measured.tokens())?
            .room(experiment, machine)
            .at(name)?;
        progress.stage(&format!("checking the weights of {name}"));
        let zeros = checkpoint.check_finite()?;
        let gradients = match &inputs.gradients {
            Some(file) => {
                progress.stage(&format!("checking the gradients for {name}"));
                let file = LayerFile::open_whole(&file.path, checkpoint.spec(), Content::Gradients)?;
                Some(Arc::new(file))
            }
            None => None,
        };
        let named = experiment.evaluations.iter().zip(tokens.evaluations);
        Ok(Prepared {
            source: checkpoint,
            calibration: tokens.calibration,
            evaluations: named
                .map(|(plan, windows)| PreparedText {
                    name: plan.name.clone(),
                    windows,
                    compare_to_dense: plan.compare_to_dense,
                })
                .collect(),
            tasks,
            generations,
            gradients,
            room,
            stored: checkpoint.stored_bytes()?,
            pruned_before: PrunedBefore::of(checkpoint, zeros, &folder.path),
        })
    }

    /// The tokens that its cells are measured on.
    pub fn measured(&self) -> Measured {
        measured(&mut self.evaluations.iter().map(|text| &text.windows), &self.tasks)
    }
}

fn measured(texts: &mut dyn Iterator<Item = &TokenWindows>, tasks: &[PreparedTask]) -> Measured {
    Measured {
        evaluations: texts.map(|windows| windows.ids().len()).collect(),
        tasks: tasks.iter().map(PreparedTask::tokens).sum(),
    }
}
