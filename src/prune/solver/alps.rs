//! ALPS (Meng, Behdin, Wang and Mazumder, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language
//! Models", NeurIPS 2024, arXiv 2406.07831; reference: mazumder-lab/ALPS): ADMM on the least-squares problem with at most so
//! many weights, a penalty that grows until the mask stands still, then conjugate gradients on that mask.
//!
//! In inputs divided by the roots of the damped Gram matrix' diagonal, with `T = B + V / ρ` for unknowns `B` and dual
//! variables `V`, an iteration is
//!
//! ```text
//! B = (goal - V + ρ D) (Ĝ + ρ I)^-1
//! D = the largest |T|, others 0;  V = ρ (T - D)
//! ```
//!
//! Every third iteration compares the mask with the one before: if more than a tenth of the kept weights differ, `ρ` grows by
//! 1.3; more than 0.005, by 1.2; any, by 1.1. If too few differ before it ever grew, it is divided by 5, and if any does,
//! everything starts again. It ends when nothing differs, or from iteration 30 on less than 0.0003 of the kept weights.
//!
//! Deviations: the code takes the eigenvalues of `Ĝ` once and a product of three matrices for every new `ρ`; here `Ĝ + ρ I` is
//! factored again, which takes a fraction of the time. The code keeps `round(n (1 - s))` weights of a
//! matrix: so does ADMM here, but of the result as many go as with every other method. All comparison groups are possible, not
//! only the whole matrix.

use super::normal_equations::{LEAST_DAMPING, NormalEquations, kept};
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{Group, Pattern, Target};
use crate::prune::range::within;
use crate::prune::values::{Over, Values};
use crate::prune::workbench::{LayerView, Workpiece};
use serde::{Deserialize, Serialize};

/// The ALPS solver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alps {
    /// What is added to the diagonal of the Gram matrix, as a fraction of its mean diagonal.
    pub damping: f64,
    /// The penalty `ρ` of the first iterations. The released code always begins with 0.1, whatever its option says.
    pub penalty: f64,
    /// Most iterations of ADMM.
    pub iterations: usize,
    /// Steps of conjugate gradients on the final mask.
    pub refit_steps: usize,
}

impl Default for Alps {
    fn default() -> Self {
        Alps {
            damping: 0.01,
            penalty: 0.1,
            iterations: 300,
            refit_steps: 10,
        }
    }
}

/// The mask is compared with the one of so many iterations before.
const BETWEEN: usize = 3;
/// By what the penalty is multiplied if more than this fraction of the kept weights differs.
const STEPS: [(f64, f64); 2] = [(0.1, 1.3), (0.005, 1.2)];
/// By what the penalty is multiplied if fewer weights differ.
const LAST_STEP: f64 = 1.1;
/// By what a penalty that was too large from the beginning is divided.
const BACK: f64 = 5.0;
/// The largest penalty.
const MOST: f64 = 1e6;
/// From this iteration on, a mask of which less than [`STILL`] changes is final.
const SETTLED: usize = 30;
const STILL: f64 = 3e-4;
/// The square of what single precision tells apart, relative to the right-hand side.
const ROUNDING: f64 = 1e-14;

impl Solver for Alps {
    fn validate(&self) -> Result<()> {
        within("damping", self.damping, 0.0..=1.0)?;
        within("penalty", self.penalty, 1e-6..=MOST)?;
        within("iterations", self.iterations as f64, 1.0..=1e4)?;
        within("refit_steps", self.refit_steps as f64, 0.0..=1e4)
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        // The Gram matrix, the scaled one and its factor, which is computed in double precision.
        4 * 10 * weights + (4 * 3 + 16) * inputs.pow(2)
    }

    fn products(&self) -> usize {
        SETTLED + self.refit_steps + 1
    }

    fn group(&self) -> Option<Group> {
        Some(Group::Matrix)
    }

    fn replaces_mask(&self) -> bool {
        true
    }

    fn solve(&self, piece: &mut dyn Workpiece, _follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        let dim = piece.dim();
        let equations = NormalEquations::damped(piece, self.damping, false)?;
        let found = self.admm(piece, &equations, &rounded(target, dim))?;
        piece.keep(&largest(piece, &found, target)?)?;
        let begin = piece.map(dim, &Values::over([&found], |[found]| found * kept()))?;
        drop(found);
        let less = Values::over([&equations.old, &begin], |[old, begin]| old - begin);
        let residual = equations.residual(piece, &piece.map(dim, &less)?)?;
        // Below, a residual is rounding, and so would be the next direction.
        let rounding = Values::over([&equations.goal], |[goal]| goal.square() * ROUNDING);
        let rounding = piece.reduce(dim, Over::Row, &rounding)?;
        let (best, _) = equations.descend(piece, (begin, residual), self.refit_steps, &rounding)?;
        piece.set_weight(&equations.weights(piece, &best)?)?;
        // What was added, whatever was asked for.
        Ok(Some(self.damping.max(LEAST_DAMPING)))
    }
}

/// The target of the code: the number of kept weights is rounded, not that of removed ones truncated. A weight more or less
/// changes the path.
fn rounded(target: &Target, (rows, columns): (usize, usize)) -> Target {
    let count = match target.group {
        Group::Matrix | Group::RowShare => rows * columns,
        Group::Row => columns,
        Group::ColumnBlock => return *target,
    } as f64;
    match target.pattern {
        Pattern::Unstructured { sparsity } => {
            let kept = ((1.0 - sparsity) * count).round_ties_even().max(1.0);
            Target {
                pattern: Pattern::Unstructured {
                    sparsity: (count - kept + 0.5) / count,
                },
                ..*target
            }
        }
        Pattern::NofM { .. } => *target,
    }
}

/// Ones for the largest values that a target keeps.
fn largest(layer: &dyn LayerView, values: &Matrix, target: &Target) -> Result<Matrix> {
    layer.choose(&Values::over([values], |[value]| value.abs()), target)
}

impl Alps {
    /// The unknowns when the mask stands still, not pruned yet.
    fn admm(&self, layer: &dyn LayerView, equations: &NormalEquations, target: &Target) -> Result<Matrix> {
        let dim = layer.dim();
        let old = &equations.old;
        let first = largest(layer, old, target)?;
        let count = layer.total(dim, &Values::over([&first], |[kept]| kept))?;
        let mut penalty = self.penalty;
        // `sum` is B + V / ρ, of which the mask keeps D; what it removes, times `dual`, is V.
        let (mut unknowns, mut sum, mut mask, mut dual) = (old.clone(), old.clone(), first.clone(), 0.0);
        let mut before = mask.clone();
        let mut raised = false;
        let mut factor = layer.inverse_factor(&equations.matrix, penalty)?;
        for iteration in 1..=self.iterations {
            let right = Values::over([&equations.goal, &sum, &mask], |[goal, sum, kept]| {
                goal + sum * ((penalty + dual) * kept - dual)
            });
            unknowns = layer.solve(&factor, &layer.map(dim, &right)?)?;
            let next = Values::over([&unknowns, &sum, &mask], |[unknowns, sum, kept]| {
                unknowns + sum * ((1.0 - kept) * (dual / penalty))
            });
            sum = layer.map(dim, &next)?;
            dual = penalty;
            mask = largest(layer, &sum, target)?;
            if !iteration.is_multiple_of(BETWEEN) {
                continue;
            }
            let differ = Values::over([&mask, &before], |[mask, before]| (mask - before).abs());
            let changed = layer.total(dim, &differ)?;
            // Nothing is kept of a small layer at a high sparsity. Then nothing changes either.
            let share = changed / count.max(1.0);
            before = mask.clone();
            let last = penalty;
            match STEPS.iter().find(|(least, _)| share > *least) {
                Some((_, step)) => {
                    penalty *= step;
                    raised = true;
                }
                None if raised && changed > 0.5 => penalty *= LAST_STEP,
                None if raised => break,
                None => {
                    penalty /= BACK;
                    if changed > 0.5 {
                        (unknowns, sum, mask, dual) = (old.clone(), old.clone(), first.clone(), 0.0);
                        before = first.clone();
                    }
                }
            }
            if iteration >= SETTLED && share < STILL {
                break;
            }
            penalty = penalty.min(MOST);
            if penalty != last {
                factor = layer.inverse_factor(&equations.matrix, penalty)?;
            }
        }
        Ok(unknowns)
    }
}
