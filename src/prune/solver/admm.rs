//! ADMM pruning (Boža, "Fast and Effective Weight Update for Pruned Large Language Models", TMLR 2024, arXiv 2401.02938;
//! reference: fmfi-compbio/admm-pruning): the weights that solve the least-squares problem and the mask, in turn.
//!
//! In inputs divided by their norms, with `S = V + U` for weights `V` and scaled dual variables `U`, an iteration is
//!
//! ```text
//! K = the largest |S|            (during the first `mask_iterations`, afterwards as it was)
//! V = (goal + ρ S (2 K - 1)) (Ĝ + ρ I)^-1
//! S = V + S (1 - K)
//! ```
//!
//! which is the paper's `Z = S K`, `U = S - Z`, `V = (goal + ρ (Z - U)) (Ĝ + ρ I)^-1`. The result is `Z` after the last iteration. Since
//! inputs have norm 1, the largest `|S|` are Wanda's scores of the current weights: the criterion's own mask does not count.
//!
//! The paper removes weights step by step, in a cubic schedule; its code does so by row and for N:M only, and
//! compares whole matrices with the final sparsity from the first iteration on. `schedule = "released"` is the code,
//! `"cubic"` the paper, `"constant"` is never gradual. In N:M patterns the gradual part removes, of the
//! smallest of each group, the smallest of the matrix. The code has 2:4 only; here every N:M pattern is done in the same way.

use super::normal_equations::NormalEquations;
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{Group, Pattern, Selection, Target};
use crate::prune::range::within;
use crate::prune::values::Values;
use crate::prune::workbench::{LayerView, Workpiece};
use serde::{Deserialize, Serialize};

/// The ADMM solver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admm {
    /// What is added to the diagonal of the Gram matrix of the normalised inputs, as a fraction of its mean diagonal.
    pub damping: f64,
    /// The penalty `ρ` for weights that differ from the pruned ones.
    pub penalty: f64,
    /// Number of iterations.
    pub iterations: usize,
    /// Number of iterations in which the mask is chosen again.
    pub mask_iterations: usize,
    /// Whether the mask becomes sparse gradually.
    pub schedule: Schedule,
}

/// How the sparsity of the mask grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// As in the paper's code: gradually by row and with N:M patterns, at once in whole matrices.
    Released,
    /// Gradually, by the cube of the iterations that are left.
    Cubic,
    /// At once.
    Constant,
}

impl Default for Admm {
    fn default() -> Self {
        Admm {
            damping: 0.1,
            penalty: 1.0,
            iterations: 20,
            mask_iterations: 15,
            schedule: Schedule::Released,
        }
    }
}

/// What the paper's code adds to the norm of an input, so that it can be divided by.
const LEAST_NORM: f64 = 1e-8;

/// More than any score, so that what has it added is removed last.
const ABOVE_ALL: f64 = 1e30;

impl Solver for Admm {
    fn validate(&self) -> Result<()> {
        within("damping", self.damping, 0.0..=10.0)?;
        within("penalty", self.penalty, 1e-6..=1e6)?;
        within("iterations", self.iterations as f64, 1.0..=1e4)?;
        within("mask_iterations", self.mask_iterations as f64, 1.0..=1e4)
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        // The Gram matrix, the scaled one and its factor, which is computed in double precision.
        4 * 7 * weights + (4 * 3 + 16) * inputs.pow(2)
    }

    fn products(&self) -> usize {
        self.iterations + 1
    }

    fn group(&self) -> Option<Group> {
        Some(Group::Matrix)
    }

    fn replaces_mask(&self) -> bool {
        true
    }

    fn solve(&self, piece: &mut dyn Workpiece, _follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        let dim = piece.dim();
        let squares = piece.squared_norms()?;
        let sizes: Vec<f64> = squares.iter().map(|square| square.sqrt() + LEAST_NORM).collect();
        let unit = |(square, size): (&f64, &f64)| square / size.powi(2);
        let diagonal: f64 = squares.iter().zip(&sizes).map(unit).sum();
        let damping = self.damping * diagonal / sizes.len() as f64;
        let damping: Vec<f64> = sizes.iter().map(|size| damping * size.powi(2)).collect();
        let equations = NormalEquations::new(piece, &sizes, &damping)?;
        let factor = piece.inverse_factor(&equations.matrix, self.penalty)?;
        let mut sum = equations.old.clone();
        let mut mask = self.mask(piece, &sum, target, 0)?;
        for iteration in 1..=self.iterations {
            let right = Values::over([&equations.goal, &sum, &mask], |[goal, sum, kept]| {
                goal + sum * (2.0 * self.penalty * kept - self.penalty)
            });
            let solved = piece.solve(&factor, &piece.map(dim, &right)?)?;
            let next = Values::over([&solved, &sum, &mask], |[solved, sum, kept]| {
                solved + sum * (1.0 - kept)
            });
            sum = piece.map(dim, &next)?;
            if iteration < self.mask_iterations {
                mask = self.mask(piece, &sum, target, iteration)?;
            }
        }
        piece.keep(&mask)?;
        let pruned = Values::over([&sum, &mask, &equations.sizes], |[sum, kept, sizes]| sum * kept / sizes);
        piece.set_weight(&piece.map(dim, &pruned)?)?;
        Ok(Some(self.damping))
    }
}

impl Admm {
    /// The mask of an iteration, counted from 0: ones for the largest values.
    fn mask(&self, layer: &dyn LayerView, values: &Matrix, target: &Target, iteration: usize) -> Result<Matrix> {
        let magnitude = Values::over([values], |[value]| value.abs());
        let left = 1.0 - (iteration + 1) as f64 / self.last_choice() as f64;
        let gradual = match (self.schedule, target.pattern, target.group) {
            (Schedule::Cubic, ..) | (Schedule::Released, Pattern::NofM { .. }, _) => true,
            (Schedule::Released, Pattern::Unstructured { .. }, group) => group == Group::Row,
            (Schedule::Constant, ..) => false,
        };
        if !gradual || left <= 0.0 {
            return layer.choose(&magnitude, target);
        }
        let sparsity = target.pattern.sparsity();
        let now = Target {
            pattern: Pattern::Unstructured {
                sparsity: sparsity - sparsity * left.powi(3),
            },
            selection: Selection::Exact,
            ..*target
        };
        match target.pattern {
            Pattern::Unstructured { .. } => layer.choose(&magnitude, &now),
            Pattern::NofM { .. } => {
                let largest = layer.choose(&magnitude, target)?;
                let candidates = Values::over([values, &largest], |[value, largest]| value.abs() + largest * ABOVE_ALL);
                let matrix = Target {
                    group: Group::Matrix,
                    ..now
                };
                layer.choose(&candidates, &matrix)
            }
        }
    }

    /// Number of iterations that choose a mask.
    fn last_choice(&self) -> usize {
        self.mask_iterations.min(self.iterations)
    }
}
