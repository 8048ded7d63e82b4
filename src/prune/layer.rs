//! One layer through the steps of a recipe.

use super::compensation::outputs;
use super::mask::Mask;
use super::pattern::{Pattern, Target};
use super::recipe::Steps;
use super::score::{Score, resolve};
use super::transform::Change;
use super::values::Values;
use super::workbench::{Concluding, Workbench, Workpiece};
use crate::backend::cpu::Cpu;
use crate::calibrate::statistics::LayerStatistics;
use crate::error::Result;
use crate::tensor::StorageType;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// One linear layer in the host's memory, as input of pruning.
pub struct Layer<'a> {
    /// The weights, with one row per output and one column per input.
    pub weight: ArrayView2<'a, f32>,
    /// Statistics of the layer's inputs.
    pub statistics: &'a LayerStatistics,
}

/// What pruning did to one layer, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Name of the weight tensor.
    pub tensor: String,
    /// Number of outputs (rows) and inputs (columns).
    pub shape: [usize; 2],
    /// The pattern that the allocator chose for the layer. Records of earlier versions lack it; all their layers had
    /// the same pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// The order in which columns were pruned, if it was not their own: the `j`-th was column `permutation[j]`. Groups of
    /// columns are groups of this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permutation: Option<Vec<usize>>,
    /// Whether the columns stand in the order `permutation` in the file that was written, and with them the rows of the layers before:
    /// neighbours in the file share a group then. Only the second layer of an MLP can be written so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// Number of weights that refinement removed in place of as many others; absent without a refinement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refined: Option<usize>,
    /// Number of weights that the mask removed.
    pub removed: usize,
    /// Number of zeros in the pruned weight. There are more than `removed` only if the checkpoint had zeros already,
    /// a feature was never active, or a weight was rounded to zero.
    pub zeros: usize,
    /// The solver's damping, as a fraction of a mean diagonal: of `obs` that with which the Hessian was factorised, of solvers
    /// with equations of their own their parameter; absent if the solver has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// Root mean square of what compensation, or a transform that shifts inputs, added to the bias; absent where the bias is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensated: Option<f64>,
    /// Relative change of the layer's output, `||X (W - W')^T||^2 / ||X W^T||^2` over
    /// [`SAMPLE`](crate::calibrate::SAMPLE) calibration tokens, with what compensation added; absent without calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_error: Option<f64>,
}

/// The result of pruning one layer on the host.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The new weights, with one row per output; removed weights are 0.
    pub weight: Array2<f32>,
    /// Which weights were removed.
    pub mask: Mask,
    /// The solver's damping, as in [`LayerRecord::damping`].
    pub damping: Option<f64>,
    /// What is to be added to the bias, one value per output, if there is a compensation or a transform that shifts inputs.
    pub bias: Option<Vec<f64>>,
}

/// Prunes one layer on the host, without rounding its weights.
///
/// # Errors
/// As [`run_steps`].
pub fn solve(layer: &Layer, steps: Steps, target: &Target) -> Result<Solution> {
    let mut weight = layer.weight.to_owned();
    let prune = |piece: &mut dyn Workpiece, change: Option<&Change>| {
        let Taken { damping, .. } = run_changed(piece, steps, change, target)?;
        Ok((piece.finish()?.mask.unpacked(), damping))
    };
    let layer = (&mut weight, StorageType::F32, layer.statistics);
    let ((mask, damping), bias) = compensated(&Cpu, layer, steps, prune)?;
    Ok(Solution {
        weight,
        mask,
        damping,
        bias,
    })
}

/// The scores of a layer's weights on the host, as a matrix of the same shape.
///
/// # Errors
/// The score asks for a statistic that was not gathered.
pub fn scores_of(layer: &Layer, score: &Score) -> Result<Array2<f32>> {
    let mut weight = layer.weight.to_owned();
    let piece = Cpu.workpiece(&mut weight, StorageType::F32, layer.statistics);
    let values = resolve(score, piece.as_ref())?;
    piece.read(&piece.map(piece.dim(), &values)?)
}

/// What the steps of a recipe say about a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// The solver's damping, as in [`LayerRecord::damping`].
    pub damping: Option<f64>,
    /// Number of weights that refinement removed in place of as many others, if there was a refinement.
    pub refined: Option<usize>,
}

/// Lets `prune` prune a layer to its end, and returns with what it says what is to be added to the bias, one value per output.
fn compensated<B: Workbench, T>(
    backend: &B,
    (weight, storage, statistics): (&mut B::Weight, StorageType, &B::Statistics),
    steps: Steps,
    prune: impl FnOnce(&mut dyn Workpiece, Option<&Change>) -> Result<T>,
) -> Result<(T, Option<Vec<f64>>)> {
    let mut piece = backend.workpiece(weight, storage, statistics);
    let change = steps.transform.map(|it| it.change(piece.as_ref())).transpose()?;
    let shifts = change.as_ref().and_then(|change| change.inputs.shifts.as_ref());
    // A compensation says what the means of outputs are to be, whatever was subtracted from the inputs.
    let wanted = match (steps.compensation, shifts) {
        (Some(compensation), _) => Some(compensation.wanted(piece.as_ref())?),
        (None, Some(shifts)) => Some(outputs(piece.as_ref(), &shifts.goal)?),
        (None, None) => None,
    };
    let done = prune(piece.as_mut(), change.as_ref())?;
    drop(piece);
    let Some(wanted) = wanted else {
        return Ok((done, None));
    };
    // Of the weights as they are stored, so that what rounding took from the means is made up for, too.
    let piece = backend.workpiece(weight, storage, statistics);
    let given = match (steps.compensation, shifts) {
        (Some(compensation), _) => compensation.given(piece.as_ref())?,
        (None, shifts) => shifts.map_or(Ok(Vec::new()), |shifts| outputs(piece.as_ref(), &shifts.own))?,
    };
    let lacking = wanted.iter().zip(given).map(|(wanted, given)| wanted - given);
    Ok((done, Some(lacking.collect())))
}

/// Applies the steps up to the solver to a layer, without rounding its weights. Of a transform that shifts inputs, the change of the
/// bias is left to the caller.
///
/// # Errors
/// A score is unusable, a factorisation fails, or a step asks for a statistic that it did not declare.
pub fn run_steps(piece: &mut dyn Workpiece, steps: Steps, target: &Target) -> Result<Taken> {
    let change = steps.transform.map(|it| it.change(piece)).transpose()?;
    run_changed(piece, steps, change.as_ref(), target)
}

/// As [`run_steps`], with what the transform says already known.
fn run_changed(piece: &mut dyn Workpiece, steps: Steps, change: Option<&Change>, target: &Target) -> Result<Taken> {
    let applied = change.map(|change| change.apply(piece)).transpose()?.flatten();
    let taken = run_in_order(piece, steps, target)?;
    match applied {
        Some(applied) => applied.undo(piece).map(|()| taken),
        None => Ok(taken),
    }
}

/// The steps after the transform.
fn run_in_order(piece: &mut dyn Workpiece, steps: Steps, target: &Target) -> Result<Taken> {
    let score = steps.criterion.score();
    if let (Some(permutation), Pattern::NofM { keep, of }) = (steps.permutation, target.pattern) {
        target.pattern.fits(piece.dim().1)?;
        let order = permutation.order(piece, &resolve(&score, piece)?, keep, of)?;
        piece.reorder(&order)?;
    }
    let score = resolve(&score, piece)?;
    let follows = steps.follows(target);
    // Nothing depends on what is removed where inputs are 0, if the score uses them.
    let idle =
        || steps.criterion.needs().anything() && piece.squared_norms().is_ok_and(|it| it.iter().all(|it| *it == 0.0));
    if let Some(given_by) = steps.criterion.given_by().filter(|_| !idle()) {
        piece.check_ranking(&score, target, &given_by)?;
    }
    let mut refined = None;
    if !follows {
        piece.select(&score, target)?;
        if let Some(refiner) = steps.refiner {
            let before = piece.kept()?;
            refiner.refine(piece, target)?;
            let moved = Values::over([&before, &piece.kept()?], |[before, after]| (before - after).abs());
            refined = Some((piece.total(piece.dim(), &moved)? / 2.0) as usize);
        }
    }
    let damping = steps.solver.solve(piece, follows.then_some(&score), target)?;
    Ok(Taken { damping, refined })
}

/// A layer that was pruned in place. Its record lacks what [`Workbench::concluded`] tells.
pub(super) struct Pruned {
    pub record: LayerRecord,
    pub concluding: Concluding,
    /// What is to be added to its bias, one value per output, if it is compensated or its inputs were shifted.
    pub lacking: Option<Vec<f64>>,
}

/// Prunes one layer in place, and has it checked that its steps did what they promise.
///
/// # Errors
/// As [`run_steps`]; and the mask is not what the target demands, or a weight is not finite, if that is known at once.
pub(super) fn prune_layer<B: Workbench>(
    backend: &B,
    (weight, storage): (&mut B::Weight, StorageType),
    statistics: &B::Statistics,
    name: &str,
    steps: Steps,
    target: &Target,
) -> Result<Pruned> {
    let prune = |piece: &mut dyn Workpiece, change: Option<&Change>| {
        let (rows, columns) = piece.dim();
        let Taken { damping, refined } = run_changed(piece, steps, change, target)?;
        // What is evaluated is what would be saved: updated weights are rounded to the checkpoint's type.
        let concluding = piece.conclude(target)?;
        let record = LayerRecord {
            tensor: name.to_string(),
            shape: [rows, columns],
            pattern: Some(target.pattern),
            removed: 0,
            zeros: 0,
            damping,
            permutation: None,
            folded: false,
            refined,
            compensated: None,
            output_error: None,
        };
        Ok((record, concluding))
    };
    let ((record, concluding), lacking) = compensated(backend, (weight, storage, statistics), steps, prune)?;
    Ok(Pruned {
        record,
        concluding,
        lacking,
    })
}
