//! Scores of the units of a block.

use crate::error::{Error, Located, Result};
use crate::model::source::WeightSource;
use crate::spec::Role;
use ndarray::Array2;

/// How important each unit of a block is.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitScores {
    /// One score for each query head.
    pub heads: Vec<f64>,
    /// One score for each key-value head with its query heads.
    pub groups: Vec<f64>,
    /// One score for each neuron.
    pub neurons: Vec<f64>,
}

/// The weight of the layer of a role in a block.
///
/// # Errors
/// The block has no such layer, or the tensor is unusable.
pub fn weight(source: &dyn WeightSource, index: usize, role: Role) -> Result<Array2<f32>> {
    let block = source.spec().block(index).clone();
    let linear = block.linears.iter().find(|linear| linear.role == role);
    let missing = || Error::config(format!("it has no layer of role {role:?}"));
    let linear = linear.ok_or_else(missing).at(format_args!("block {index}"))?;
    Ok(source.linear(index, linear)?.weight)
}

/// Indices of all but the `count` lowest scores, in ascending order. Of equal scores the one with the lower index is removed first.
pub fn without_lowest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut kept = order.split_off(count.min(scores.len()));
    kept.sort_unstable();
    kept
}
