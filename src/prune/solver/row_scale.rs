//! Row scale: each output's kept weights times the number that is best for its error, the cheapest update there is.
//!
//! For the dense weights `w` of an output and the weights `v` that are left of them, the error `|| X (w - c v) ||^2` is smallest at
//!
//! ```text
//! c = (w G v) / (v G v)
//! ```
//!
//! with the Gram matrix `G` of the inputs (`w C v` where the dense model's outputs are the goal, with the cross-Gram matrix `C`); the
//! error is never larger than before. Scaling every output so is the row part of the energy compensation of CVR+EC (arXiv
//! 2602.07375, which was not at hand).
//!
//! It is a solver and no compensation, because it changes weights and not biases: it follows any mask or another solver (`start`), a
//! bias may follow it, and with `centred` it is the best scale where one does.

use super::normal_equations::{grams, weight};
use super::start::Start;
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::limits::Limits;
use crate::prune::pattern::{Pattern, Target};
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The solver that scales rows.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowScale {
    /// Whether only what inputs are beside their means counts, since a compensation sees to the means of outputs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// A solver that runs first and leaves its mask and its weights; without it, the kept weights are the dense ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

impl RowScale {
    fn before(&self) -> Option<&dyn Solver> {
        self.start.as_ref().map(Start::solver)
    }
}

impl Solver for RowScale {
    fn needs(&self) -> Needs {
        let means = if self.centred { Needs::MEANS } else { Needs::NOTHING };
        let start = self.before().map_or(Needs::NOTHING, |start| start.needs());
        Needs::GRAM.and(means).and(start)
    }

    fn updates(&self) -> bool {
        true
    }

    fn centres(&self) -> bool {
        self.centred || self.before().is_some_and(|start| start.centres())
    }

    fn damping(&self) -> f64 {
        self.before().map_or(DAMPING, |start| start.damping())
    }

    fn follows(&self) -> bool {
        self.before().is_some_and(|start| start.follows())
    }

    fn rescores(&self) -> bool {
        self.before().is_some_and(|start| start.rescores())
    }

    fn replaces_mask(&self) -> bool {
        self.before().is_some_and(|start| start.replaces_mask())
    }

    fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        self.before().map_or(Ok(()), |start| start.check(pattern, limits))
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        // The dense weights, the weights that are left, and a product; the Gram matrix, and the centred one.
        let own = 4 * 3 * weights + 4 * 2 * inputs.pow(2);
        own.max(4 * weights + self.before().map_or(0, |start| start.room(weights, inputs)))
    }

    fn products(&self) -> usize {
        2 + self.before().map_or(0, |start| start.products())
    }

    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        let dense = piece.weight()?;
        let damping = match self.before() {
            Some(start) => start.solve(piece, follow, target)?,
            None => {
                piece.remove()?;
                None
            }
        };
        let products = grams(piece, self.centred)?;
        // What the outputs of the weights that are left have of a product.
        let along = |product| {
            let values = Values::over([&product], |[product]| product * weight());
            Ok(piece
                .sums(&[(Over::Row, values)])?
                .into_iter()
                .flatten()
                .collect::<Vec<f64>>())
        };
        let wanted: Vec<f64> = along(piece.product(&dense, &products.cross)?)?;
        drop(dense);
        let given: Vec<f64> = along(piece.product(&piece.weight()?, &products.gram)?)?;
        let scale = |(wanted, given): (f64, f64)| match given > 0.0 {
            true => (wanted / given) as f32,
            // Nothing is left of the output, or nothing that calibration ever met.
            false => 1.0,
        };
        let scaled = Values {
            vectors: vec![wanted.into_iter().zip(given).map(scale).collect()],
            ..Values::from(weight() * Formula::Leaf(Operand::Row(0)))
        };
        let scaled = piece.map(piece.dim(), &scaled)?;
        piece.set_weight(&scaled)?;
        Ok(damping)
    }
}
