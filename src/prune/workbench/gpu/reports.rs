//! What kernels report when something that they were given is wrong. Every way back from the device waits for it, so a report is
//! looked at with the next results that come back, and with those of the end of the layer at the latest.

use super::super::cpu::score_of;
use crate::backend::Backend;
use crate::backend::gpu::device::Memory;
use crate::backend::gpu::parameters::{APART, NOT_ZERO};
use crate::backend::gpu::{Gpu, Tensor};
use crate::error::{Error, Result};
use crate::prune::matrix::Matrix;
use crate::prune::values::Values;
use std::sync::OnceLock;

/// What kernels reported of a layer, where they did.
#[derive(Default)]
pub struct Reports {
    /// Places that name no column: `misplaced` of `moves.wgsl`. There from the first use on.
    pub misplaced: OnceLock<Memory>,
    /// A score that cannot be used, of all that [`LayerView::choose`](crate::prune::workbench::LayerView::choose) was given: a loop of
    /// thousands of choices must not wait for the device in each. There from the first use on.
    pub unusable: OnceLock<Memory>,
    /// The same of the last selection, with its score.
    pub unchecked: Option<(Memory, Values)>,
    /// Scores that are the same in every comparison group, if the device found that.
    pub unranked: Option<Unranked>,
}

impl Reports {
    /// The words to bring back, each with its number of bytes.
    pub fn parts(&self) -> impl Iterator<Item = (&Memory, u64)> {
        let misplaced = self.misplaced.get().into_iter();
        let unusable = self.unusable.get().into_iter();
        let unchecked = self.unchecked.iter().map(|(unusable, _)| unusable);
        let unranked = self.unranked.iter().map(|unranked| &unranked.found);
        let all = misplaced.chain(unusable).chain(unchecked).chain(unranked);
        all.map(|memory| (memory, 4))
    }

    /// Checks what came back of [`Reports::parts`]. `weights` are those of the layer.
    ///
    /// # Errors
    /// A place that was given to `gather` or `scatter` before is wrong, or a score that was selected by is unusable, or ranks nothing.
    pub fn check(&self, gpu: &Gpu, weights: &Tensor, brought: &[Vec<u32>]) -> Result<()> {
        let mut words = brought.iter().map(|words| words[0]);
        let mut next = |there: bool| if there { words.next().unwrap_or(0) } else { 0 };
        check_places(next(self.misplaced.get().is_some()))?;
        let place = |reported: u32| (u32::MAX - reported) as usize;
        match next(self.unusable.get().is_some()) {
            0 => {}
            reported => return Err(unusable(place(reported), weights.columns)),
        }
        if let Some((_, score)) = &self.unchecked {
            check_score(gpu, weights, next(true), score)?;
        }
        match &self.unranked {
            Some(unranked) => unranked.check(gpu, next(true)),
            None => Ok(()),
        }
    }
}

/// The error of a score that the host does not know.
fn unusable(place: usize, columns: usize) -> Error {
    let (row, column) = (place / columns, place % columns);
    Error::numeric(format!(
        "the score at row {row}, column {column} is negative or not finite"
    ))
}

/// Checks what kernels reported about places that name no column.
fn check_places(reported: u32) -> Result<()> {
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
            Err(unusable(place, weights.columns))
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
