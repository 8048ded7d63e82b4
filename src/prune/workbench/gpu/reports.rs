//! What kernels report when something that they were given is wrong.

use super::super::cpu::score_of;
use crate::backend::Backend;
use crate::backend::gpu::device::Memory;
use crate::backend::gpu::parameters::{APART, NOT_ZERO};
use crate::backend::gpu::{Gpu, Tensor};
use crate::error::{Error, Result};
use crate::prune::matrix::Matrix;
use crate::prune::values::Values;

/// Checks what kernels reported about places that name no column.
pub fn check_places(reported: u32) -> Result<()> {
    match reported {
        0 => Ok(()),
        reported => {
            let entry = u32::MAX - reported;
            Err(Error::numeric(format!(
                "entry {entry} of the places for a gather or scatter, counted row after row, is neither negative nor the \
                 number of a column"
            )))
        }
    }
}

/// Checks what kernels reported about a score of these weights.
pub fn check_score(gpu: &Gpu, weights: &Tensor, reported: u32, score: &Values) -> Result<()> {
    match reported {
        0 => Ok(()),
        reported => {
            let place = (u32::MAX - reported) as usize;
            let (row, column) = (place / weights.columns, place % weights.columns);
            // Where the host finds it usable, the device's rounding made it overflow, or the weights have changed since.
            score_at(gpu, weights, score, (row, column))?;
            Err(Error::numeric(format!(
                "the score at row {row}, column {column} is negative or not finite"
            )))
        }
    }
}

/// The score of one weight, computed on the host.
///
/// # Errors
/// It is NaN, infinite or negative.
fn score_at(gpu: &Gpu, weights: &Tensor, score: &Values, place: (usize, usize)) -> Result<f32> {
    let mut there = score.clone();
    for matrix in &mut there.matrices {
        let host = gpu.download(matrix.there()?)?;
        *matrix = Matrix::new(host.dim(), host);
    }
    score_of(&there, gpu.download(weights)?.view(), place)
}

/// Scores that were compared on the device.
pub struct Unranked {
    /// What the kernel found.
    pub found: Memory,
    /// The scores.
    pub score: Values,
    /// What is wrong if they are all the same.
    pub error: Error,
}

impl Unranked {
    /// Whether it keeps matrices in the device's memory.
    pub fn has_matrices(&self) -> bool {
        !self.score.matrices.is_empty()
    }

    /// Checks what came back of [`Unranked::found`].
    pub fn check(&self, gpu: &Gpu, found: u32) -> Result<()> {
        if found & APART != 0 || found & NOT_ZERO == 0 {
            return Ok(());
        }
        for matrix in &self.score.matrices {
            let values = gpu.download(matrix.there()?)?;
            if values.iter().all(|value| *value == 0.0) {
                return Ok(());
            }
        }
        Err(self.error.clone())
    }
}
