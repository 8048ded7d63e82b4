//! Least squares: the weights that give the smallest error of the layer's output under a mask.
//!
//! For every output, with the kept inputs `K`, the solution of `(G_KK + γ I) v_K = (G_K: + γ I_K:) w`, where `γ` is a fraction
//! of the mean diagonal of `G`. The normal equations of all outputs are solved at once by conjugate gradients with
//! Jacobi's preconditioner (`normal_equations`). They begin at the weights that are kept, as they are, so that nothing changes
//! where nothing is to be gained, and where a singular matrix leaves a choice it falls on the weights closest to these.
//!
//! With `centred`, `G` is that of the inputs less their means (`G - n m m^T`): the weights that are best where a bias sees to the means of
//! the outputs, as `compensate = "bias"` does.
//!
//! The mask comes from the criterion and the refiner, or from a solver that runs first (`start`).

use super::normal_equations::{LEAST_DAMPING, NormalEquations, kept, weight};
use super::start::Start;
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::limits::Limits;
use crate::prune::pattern::{Pattern, Target};
use crate::prune::range::within;
use crate::prune::values::{Over, Values};
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The least-squares solver.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeastSquares {
    /// What is added to the diagonal of the Gram matrix, as a fraction of its mean diagonal; 1e-6 if it is less.
    pub damping: f64,
    /// Most steps of conjugate gradients; each is one product of the weights with the Gram matrix.
    pub steps: usize,
    /// An output is solved when the norm of its residual is at most this fraction of the norm of its right-hand side.
    pub tolerance: f64,
    /// Whether only what inputs are beside their means counts, since a compensation sees to the means of outputs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// A solver that runs first and leaves its mask, and its weights as the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

impl Default for LeastSquares {
    fn default() -> Self {
        LeastSquares {
            damping: 0.01,
            steps: 300,
            tolerance: 3e-7,
            centred: false,
            start: None,
        }
    }
}

/// How often the residual is computed anew from the unknowns, since the one that conjugate gradients carry along drifts
/// away from it in single precision.
const REPLACEMENTS: usize = 3;

/// Steps that a layer with more tokens than inputs takes, about.
const USUAL_STEPS: usize = 50;

impl Solver for LeastSquares {
    fn validate(&self) -> Result<()> {
        within("damping", self.damping, 0.0..=1.0)?;
        within("tolerance", self.tolerance, 0.0..=0.1)?;
        within("steps", self.steps as f64, 1.0..=1e5)
    }

    fn needs(&self) -> Needs {
        let start = self.start.as_ref().map(|start| start.solver().needs());
        let means = if self.centred { Needs::MEANS } else { Needs::NOTHING };
        Needs::GRAM.and(means).and(start.unwrap_or(Needs::NOTHING))
    }

    fn centres(&self) -> bool {
        self.centred
    }

    fn damping(&self) -> f64 {
        self.start.as_ref().map_or(DAMPING, |start| start.solver().damping())
    }

    fn updates(&self) -> bool {
        true
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        // The Gram matrix and the scaled one; goal, beginning, correction, residual, direction, pull and what replaces two.
        // A start has the goal beside it.
        let matrices = if self.centred { 3 } else { 2 };
        let own = 4 * 8 * weights + 4 * matrices * inputs.pow(2);
        let start = self
            .start
            .as_ref()
            .map_or(0, |start| start.solver().room(weights, inputs));
        own.max(4 * weights + start)
    }

    fn products(&self) -> usize {
        self.steps.min(USUAL_STEPS) + REPLACEMENTS + self.start.as_ref().map_or(0, |start| start.solver().products())
    }

    fn follows(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().follows())
    }

    fn rescores(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().rescores())
    }

    fn replaces_mask(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().replaces_mask())
    }

    fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        match &self.start {
            Some(start) => start.solver().check(pattern, limits),
            None => Ok(()),
        }
    }

    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        let equations = NormalEquations::damped(piece, self.damping, self.centred)?;
        if let Some(start) = &self.start {
            start.solver().solve(piece, follow, target)?;
        }
        let dim = piece.dim();
        let square = Values::over([&equations.goal], |[goal]| goal.square() * self.tolerance.powi(2));
        let bounds = piece.reduce(dim, Over::Row, &square)?;
        // A correction of the weights that are kept, so that those that are right stay as they are to the last digit.
        let begin = Values::over([&equations.old, &equations.sizes], |[old, sizes]| {
            old - weight() * kept() * sizes
        });
        let begin = piece.map(dim, &begin)?;
        let mut correction = piece.map(dim, &Values::from(Formula::Number(0.0)))?;
        let mut left = self.steps;
        for _ in 0..REPLACEMENTS {
            let less = Values::over([&begin, &correction], |[begin, correction]| begin - correction);
            let residual = equations.residual(piece, &piece.map(dim, &less)?)?;
            let (better, steps) = equations.descend(piece, (correction, residual), left, &bounds)?;
            correction = better;
            left -= steps;
            if steps == 0 || left == 0 {
                break;
            }
        }
        let new = Values::over([&correction, &equations.sizes], |[correction, sizes]| {
            weight() * kept() + correction / sizes
        });
        piece.set_weight(&piece.map(dim, &new)?)?;
        // What was added, whatever was asked for.
        Ok(Some(self.damping.max(LEAST_DAMPING)))
    }
}
