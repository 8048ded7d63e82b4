//! What every method of whole units can do, and what it can ask of the dense model.

use super::survey::BlockFeatures;
use super::turning::{Tokens, Turning};
use crate::backend::gradient::GradientNeeds;
use crate::error::Result;
use crate::model::edit::Edit;
use crate::model::source::WeightSource;
use crate::spec::Role;
use ndarray::Array2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

    /// Checks that the method can leave such widths.
    ///
    /// # Errors
    /// It cannot; says why.
    fn check(&self, _widths: Widths) -> Result<()> {
        Ok(())
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
