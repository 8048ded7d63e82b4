//! What the CPU will have to compute: the operations of a cell, from the shape of its model alone, and how many of them a second this
//! machine does.
//!
//! Matrix products and factorisations count, and nothing else. These are estimates; runs record what they took.

use super::asked::gradient_cells;
use super::forecast::tap_widths;
use super::plan::{Cell, Experiment};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::error::Result;
use crate::spec::{BlockSpec, ModelSpec};
use ndarray::Array2;
use std::time::Instant;

/// Tokens that a cell's model is measured on.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Those of each evaluation.
    pub evaluations: Vec<usize>,
    /// Those of all zero-shot tasks.
    pub tasks: usize,
}

impl Measured {
    /// All of them.
    pub fn tokens(&self) -> usize {
        self.evaluations.iter().copied().fold(self.tasks, usize::saturating_add)
    }
}

/// Operations of single precision that the products and factorisations of a cell take; those of double precision
/// count twice.
///
/// # Errors
/// As [`Experiment::method`].
pub fn operations(experiment: &Experiment, spec: &ModelSpec, cell: &Cell, measured: &Measured) -> Result<f64> {
    // Multiplications of all blocks for a token, with its look at half a window, on average, twice: for scores and for values.
    let passing = |length: usize| -> f64 {
        let of = |(block, count): (&BlockSpec, usize)| {
            let mixed = block.attention.heads * block.attention.head_dim;
            count as f64 * (2.0 * block.prunable() as f64 + 2.0 * length as f64 * mixed as f64)
        };
        spec.kinds().map(of).sum()
    };
    let head = 2.0 * (spec.vocabulary * spec.embedding.width) as f64;
    // Documents of tasks are so short that their looks at each other do not count.
    let mut total = measured.tasks as f64 * (passing(0) + head);
    for (plan, tokens) in experiment.evaluations.iter().zip(&measured.evaluations) {
        let heads = match plan.compare_to_dense && cell.pruning.is_some() {
            true => 3.0,
            false => 1.0,
        };
        total += *tokens as f64 * (passing(plan.length.of(spec)) + heads * head);
    }
    let Some((pruning, plan)) = cell.pruning.as_ref().zip(experiment.calibration.as_ref()) else {
        return Ok(total);
    };
    let length = plan.length.of(spec);
    let tokens = plan.sequences as f64 * length as f64;
    let Some(recipe) = experiment.recipe(pruning.method)? else {
        // Once through the dense model, and back for methods that ask for gradients, which takes twice as long.
        let passes = if experiment.methods[pruning.method].calibrated {
            3.0
        } else {
            0.0
        };
        return Ok(total + passes * tokens * passing(length));
    };
    let needs = recipe.needs();
    if recipe.gradients().anything() && plan.gradients.is_none() {
        // Forwards, and for each product once more forwards and two backwards; once for all cells of a seed that use them.
        let sharing = gradient_cells(experiment)?.max(1) as f64;
        let head = 6.0 * (spec.vocabulary * spec.embedding.width) as f64;
        total += tokens * (4.0 * passing(length) + head) / sharing;
    }
    if recipe.regional().anything() {
        total += 4.0 * tokens * passing(length);
    }
    if !needs.anything() && !recipe.gradients().and(recipe.regional()).anything() {
        return Ok(total);
    }
    // Once for statistics, once through the pruned block.
    total += 2.0 * tokens * passing(length);
    // Once more through the dense model where the allocator looks at its activations.
    if recipe
        .allocator
        .survey()
        .is_some_and(|question| question.needs.anything())
    {
        total += tokens * passing(length);
    }
    if needs.gram {
        for (block, count) in spec.kinds() {
            let widths = tap_widths(block).map(|width| width as f64);
            let squared: f64 = widths.iter().map(|width| width.powi(2)).sum();
            let cubed: f64 = widths.iter().map(|width| width.powi(3)).sum();
            let linears = block.linears.iter();
            let updates: f64 = linears
                .map(|linear| linear.outputs as f64 * (linear.inputs as f64).powi(2))
                .sum();
            let updates = updates * (2 * recipe.solver.products()).max(1) as f64;
            total += count as f64 * (2.0 * tokens * squared + 2.0 * 2.0 / 3.0 * cubed + updates);
        }
    }
    Ok(total)
}

/// Operations per second that a matrix product reaches here and now, in a few hundredths of a second.
///
/// # Errors
/// Never on the CPU.
pub fn rate() -> Result<f64> {
    const ROWS: usize = 1024;
    const WIDTH: usize = 1024;
    let weight = Array2::from_elem((WIDTH, WIDTH), 0.5f32);
    let x = Array2::from_elem((ROWS, WIDTH), 0.25f32);
    let mut best = f64::INFINITY;
    // The first one wakes the threads.
    for _ in 0..4 {
        let started = Instant::now();
        Cpu.linear(&weight, None, &x)?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(2.0 * (ROWS * WIDTH * WIDTH) as f64 / best)
}
