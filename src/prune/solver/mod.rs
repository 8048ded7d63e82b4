//! Solvers: given a layer and a mask, what should the weights that are kept be?
//!
//! A solver leaves the arithmetic to the [`Workpiece`](crate::prune::workbench::Workpiece), so that it runs on every backend. It does not decide how many
//! weights are removed; the caller checks the mask, the zeros and that all weights are finite. Adding one is a file here
//! and a line in [`SOLVERS`]; a program adds its own with [`SOLVERS.register`](Components::register).

mod admm;
mod alps;
mod fista;
mod least_squares;
mod normal_equations;
mod obs;
mod one_shot;
mod rescore;
mod row_scale;
mod start;
mod step;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub use admm::{Admm, Schedule};
pub use alps::Alps;
pub use fista::{Fista, Rounding};
pub use least_squares::LeastSquares;
pub use obs::Obs;
pub use one_shot::OneShot;
pub use row_scale::RowScale;
pub use start::Start;
pub use step::Solver;

/// All solvers.
pub static SOLVERS: Components<dyn Solver> = Components::new(
    "solver",
    |solver| solver.validate(),
    &[
        Entry {
            name: "one-shot",
            summary: "remove the lowest scores, leave the other weights as they are",
            item: &|table| parsed(table, |it: OneShot| Box::new(it)),
        },
        Entry {
            name: "obs",
            summary: "SparseGPT's update: the kept weights make up for the removed ones (arXiv 2301.00774); \
                      parameters damping, order",
            item: &|table| parsed(table, |it: Obs| Box::new(it)),
        },
        Entry {
            name: "least-squares",
            summary: "the weights with the smallest error of the layer's output under the mask; \
                      parameters damping, steps, tolerance, centred, start",
            item: &|table| parsed(table, |it: LeastSquares| Box::new(it)),
        },
        Entry {
            name: "row-scale",
            summary: "each output's kept weights times the number that is best for its error; parameters centred, start",
            item: &|table| parsed(table, |it: RowScale| Box::new(it)),
        },
        Entry {
            name: "admm",
            summary: "mask and weights alternately by ADMM (arXiv 2401.02938); chooses the mask itself; \
                      parameters damping, penalty, iterations, mask_iterations, schedule",
            item: &|table| parsed(table, |it: Admm| Box::new(it)),
        },
        Entry {
            name: "alps",
            summary: "ADMM with a growing penalty, then least squares (arXiv 2406.07831); chooses the mask itself; \
                      parameters damping, penalty, iterations, refit_steps",
            item: &|table| parsed(table, |it: Alps| Box::new(it)),
        },
        Entry {
            name: "fista",
            summary: "an L1 penalty, rounded to the pattern (arXiv 2408.03728); changes the mask it starts from; \
                      parameters round, steps, rounds, patience, gain, share, lambda, refit, start",
            item: &|table| parsed(table, |it: Fista| Box::new(it)),
        },
    ],
);
