//! Least-squares error at half sparsity: what a layer cannot do without keeps more (an idea of LSA, ICLR 2026; no code was compared).
//!
//! Every layer of the dense model loses half of its weights by Wanda's mask, and its kept weights are solved by least squares (the
//! solver `least-squares` with its defaults). What error is left, relative to the layer's output, is its importance: no
//! compensation makes up for it. Shares fall linearly with it and differ by `2 lambda` at most, by block or by layer.
//!
//! Our choices, where the paper's are not known: the mask, the spread, and that a block's error is the mean of its layers'.

use super::step::{Allocator, PlacedLinear, Question, Survey, Trial};
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::criterion::{Criterion, Wanda};
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{Group, Pattern, Selection, Target};
use crate::prune::range::within;
use crate::prune::score::resolve;
use crate::prune::shares::falling;
use crate::prune::solver::{LeastSquares, Solver};
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The error allocator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeastError {
    /// Whether the layers of a block have the same share: `block`.
    pub by: SharedBy,
    /// `lambda`: shares differ by at most twice this; 0.08.
    pub lambda: f64,
}

/// What has a share of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedBy {
    /// Each block: all its layers have the same.
    Block,
    /// Each layer.
    Layer,
}

impl Default for LeastError {
    fn default() -> Self {
        LeastError {
            by: SharedBy::Block,
            lambda: 0.08,
        }
    }
}

/// How much each layer loses for the measurement.
const HALF: Target = Target {
    pattern: Pattern::Unstructured { sparsity: 0.5 },
    group: Group::Row,
    selection: Selection::Exact,
};

impl Allocator for LeastError {
    fn validate(&self) -> Result<()> {
        within("lambda", self.lambda, 0.0..=0.5)
    }

    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: "least-squares error at half sparsity".to_string(),
            needs: Needs::GRAM,
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        block.iter_mut().map(|layer| error(layer.as_mut())).collect()
    }

    fn allocate(&self, layers: &[PlacedLinear], _: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        Ok(match self.by {
            SharedBy::Block => falling(&survey.by_block(layers)?, self.lambda),
            SharedBy::Layer => falling(survey.values(), self.lambda),
        })
    }
}

/// `||X (W - V)^T||^2 / ||X W^T||^2` of the best `V` under Wanda's mask of half of the weights; 0 for a layer without outputs.
fn error(layer: &mut dyn Workpiece) -> Result<f64> {
    let dense = layer.weight()?;
    let score = resolve(&Wanda {}.score(), layer)?;
    layer.select(&score, &HALF)?;
    LeastSquares::default().solve(layer, None, &HALF)?;
    let lost = Values::over([&dense, &layer.weight()?], |[dense, solved]| dense - solved);
    let lost = layer.map(layer.dim(), &lost)?;
    let (lost, all) = (size(layer, &lost)?, size(layer, &dense)?);
    Ok(if all > 0.0 { (lost / all).max(0.0) } else { 0.0 })
}

/// `tr(E G E^T)`: the square of what weights make of the layer's inputs.
fn size(layer: &dyn Workpiece, weights: &Matrix) -> Result<f64> {
    let pulled = layer.product(weights, &layer.gram()?)?;
    layer.total(
        layer.dim(),
        &Values::over([weights, &pulled], |[weights, pulled]| weights * pulled),
    )
}
