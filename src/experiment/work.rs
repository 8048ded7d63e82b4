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
use std::iter::Sum;
use std::ops::Add;
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

/// Operations of single precision, by what they are for; those of double precision count twice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Passes over calibration tokens, with statistics and gradients.
    pub calibration: f64,
    /// Factorisations of what calibration found, and updates of weights.
    pub solving: f64,
    /// Perplexities.
    pub perplexity: f64,
    /// Zero-shot tasks.
    pub tasks: f64,
}

impl Work {
    /// All parts, each with its name.
    pub fn parts(&self) -> [(&'static str, f64); 4] {
        [
            ("calibration", self.calibration),
            ("solving", self.solving),
            ("perplexity", self.perplexity),
            ("tasks", self.tasks),
        ]
    }

    /// All operations.
    pub fn all(&self) -> f64 {
        self.parts().iter().map(|(_, operations)| operations).sum()
    }
}

impl Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work {
            calibration: self.calibration + other.calibration,
            solving: self.solving + other.solving,
            perplexity: self.perplexity + other.perplexity,
            tasks: self.tasks + other.tasks,
        }
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Work>>(parts: I) -> Work {
        parts.fold(Work::default(), Add::add)
    }
}

/// What the products and factorisations of a cell take.
///
/// # Errors
/// As [`Experiment::method`].
pub fn operations(experiment: &Experiment, spec: &ModelSpec, cell: &Cell, measured: &Measured) -> Result<Work> {
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
    let mut work = Work {
        tasks: measured.tasks as f64 * (passing(0) + head),
        ..Work::default()
    };
    for (plan, tokens) in experiment.evaluations.iter().zip(&measured.evaluations) {
        let heads = match plan.compare_to_dense && cell.pruning.is_some() {
            true => 3.0,
            false => 1.0,
        };
        work.perplexity += *tokens as f64 * (passing(plan.length.of(spec)) + heads * head);
    }
    let Some((pruning, plan)) = cell.pruning.as_ref().zip(experiment.calibration.as_ref()) else {
        return Ok(work);
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
        work.calibration = passes * tokens * passing(length);
        return Ok(work);
    };
    let needs = recipe.needs();
    if recipe.gradients().anything() && plan.gradients.is_none() {
        // Forwards, and for each product once more forwards and two backwards; once for all cells of a seed that use them.
        let sharing = gradient_cells(experiment)?.max(1) as f64;
        let head = 6.0 * (spec.vocabulary * spec.embedding.width) as f64;
        work.calibration += tokens * (4.0 * passing(length) + head) / sharing;
    }
    if recipe.regional().anything() {
        work.calibration += 4.0 * tokens * passing(length);
    }
    if !needs.anything() && !recipe.gradients().and(recipe.regional()).anything() {
        return Ok(work);
    }
    // Once for statistics, once through the pruned block.
    work.calibration += 2.0 * tokens * passing(length);
    // Once more through the dense model where the allocator looks at its activations.
    if recipe
        .allocator
        .survey()
        .is_some_and(|question| question.needs.anything())
    {
        work.calibration += tokens * passing(length);
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
            work.calibration += count as f64 * 2.0 * tokens * squared;
            work.solving += count as f64 * (2.0 * 2.0 / 3.0 * cubed + updates);
        }
    }
    Ok(work)
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
