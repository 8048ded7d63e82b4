//! What every method of whole units can do, and what it can ask of the dense model.

use super::regression::Regression;
use super::survey::BlockFeatures;
use super::turning::{Tokens, Turning};
use crate::backend::gradient::GradientNeeds;
use crate::error::Result;
use crate::model::edit::{BlockEdit, Edit};
use crate::model::source::WeightSource;
use crate::spec::{ModelSpec, Role, TapPlace};
use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether blocks have the same numbers of heads and neurons afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Widths {
    /// All blocks have the same, in numbers that every loader takes: see [`uniform`](super::uniform).
    #[default]
    Uniform,
    /// Each block has what the method gives it.
    PerBlock,
}

/// A method that decides which units are left.
pub trait UnitMethod: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it looks at calibration text.
    fn calibrates(&self) -> bool;

    /// Whether weights of calibration tokens count in what it computes. Without them all tokens count alike.
    fn weighs_tokens(&self) -> bool {
        false
    }

    /// Checks that the method can leave such widths.
    ///
    /// # Errors
    /// It cannot; says why.
    fn check(&self, _widths: Widths) -> Result<()> {
        Ok(())
    }

    /// Checks, before anything is computed, that such a model can lose `share` of the weights of its blocks' linear layers.
    ///
    /// # Errors
    /// It cannot; says why, and what can be.
    fn check_model(&self, _spec: &ModelSpec, _share: f64, _widths: Widths) -> Result<()> {
        Ok(())
    }

    /// Checks, before anything is computed, that a configuration of the model's family can describe what would be left; with `pad`, zeros
    /// make the blocks equal. What depends on scores is only known afterwards.
    ///
    /// # Errors
    /// It cannot; says why, and what helps.
    fn check_writing(&self, _spec: &ModelSpec, _share: f64, _widths: Widths, _pad: bool) -> Result<()> {
        Ok(())
    }

    /// The gradients that it asks for ([`DenseModel::gradients`]), for forecasts of memory.
    fn gradients(&self) -> GradientNeeds {
        GradientNeeds::NOTHING
    }

    /// About how many bytes it holds at most, beside the text and what computing a block takes, for forecasts of memory.
    fn room(&self, _spec: &ModelSpec) -> u64 {
        0
    }

    /// What is left of a model whose blocks' linear layers lose `share` of their weights.
    ///
    /// # Errors
    /// The model has no such units, weights are unusable, or the backend fails.
    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit>;
}

/// The gradients with respect to the weight of one linear layer, `(outputs, inputs)`.
#[derive(Debug, Clone)]
pub struct RoleGradient {
    /// The layer's task in its block.
    pub role: Role,
    /// The gradient of the mean over sequences of the loss, if it was asked for.
    pub mean: Option<Array2<f32>>,
    /// The mean over sequences of the square of each one's gradient, if it was asked for.
    pub squares: Option<Array2<f32>>,
}

/// What is looked at in a block, beside its layers' inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Whether the attention's output is.
    pub output: bool,
    /// Of what the MLP gives, what least squares are to predict from its input.
    pub mlp: Option<OfMlp<'a>>,
}

/// A part of what an MLP gives.
#[derive(Debug, Clone, Copy)]
pub enum OfMlp<'a> {
    /// All, with its bias.
    All,
    /// What these neurons give.
    These(&'a [usize]),
}

/// What was seen in a block.
#[derive(Debug, Clone)]
pub struct Observed {
    /// For each input of the block's layers, the mean over sequences of the sum of squares.
    pub squares: BTreeMap<TapPlace, Vec<f64>>,
    /// The same of the outputs of the attention's last layer, if it was asked for.
    pub output: Vec<f64>,
    /// Least squares from the MLP's input, if they were asked for.
    pub mlp: Option<Regression>,
}

/// A block whose turn it is to be edited.
pub trait BlockInTurn {
    /// Its place.
    fn index(&self) -> usize;

    /// Looks at the calibration text in the block as it was before its edit, on the inputs that the edited blocks before it give.
    ///
    /// # Errors
    /// The block has no attention or no MLP, or the backend fails.
    fn observe(&self, wanted: Wanted) -> Result<Observed>;
}

/// What methods can ask of the dense model, on whatever backend it runs.
pub trait DenseModel {
    /// Its weights.
    fn source(&self) -> &dyn WeightSource;

    /// The inputs of every block's layers, over the calibration text.
    ///
    /// # Errors
    /// There are less than two windows, the checkpoint is unusable, or the backend fails.
    fn features(&self) -> Result<Vec<BlockFeatures>>;

    /// How much every run of so many blocks turns the residual stream, over the calibration text.
    ///
    /// # Errors
    /// The checkpoint is unusable, or the backend fails.
    fn turning(&self, run: usize, tokens: Tokens) -> Result<Turning>;

    /// The gradients of the mean loss on the calibration text with respect to the weights of every block's linear layers, from the last
    /// block to the first.
    ///
    /// # Errors
    /// The checkpoint is unusable, the backend or `take` fails.
    fn gradients(&self, needs: GradientNeeds, take: &mut dyn FnMut(usize, &[RoleGradient]) -> Result<()>)
    -> Result<()>;

    /// Edits the blocks that `start` leaves one after the other: `choose` gives the edit of each, on the inputs that the edited blocks
    /// before it give.
    ///
    /// # Errors
    /// An edit is impossible, the checkpoint is unusable, the backend or `choose` fails.
    fn in_turn(&self, start: &Edit, choose: &mut dyn FnMut(&dyn BlockInTurn) -> Result<BlockEdit>) -> Result<Edit>;

    /// The norms of every block's neurons over the calibration text: see [`neuron_norms`](super::survey::neuron_norms).
    ///
    /// # Errors
    /// The checkpoint is unusable, or the backend fails.
    fn neuron_norms(&self) -> Result<Vec<Vec<f64>>>;

    /// The perplexity of the calibration text after an edit.
    ///
    /// # Errors
    /// The edit is impossible, the checkpoint is unusable, or the backend fails.
    fn perplexity(&self, edit: &Edit) -> Result<f64>;

    /// The perplexity of the first `windows` windows of the calibration text after an edit that also removes the whole attention of a
    /// block, for every block that has one left, by its place among those that are left.
    ///
    /// # Errors
    /// As [`DenseModel::perplexity`], or there are not so many windows.
    fn without_attention(&self, edit: &Edit, windows: usize) -> Result<Vec<(usize, f64)>>;
}
