//! The end of a layer: its columns back in their places, its weights rounded, and what is checked of it.

use super::super::{Concluded, Concluding, Ending, Finished, elsewhere, inverse};
use super::piece::{Piece, WALKERS};
use super::reports::{Reports, Unranked};
use crate::backend::Backend;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES};
use crate::backend::gpu::{Gpu, Tensor, Weight, grid, shader};
use crate::error::{Error, Result};
use crate::prune::mask::{PackedMask, wrong_count};
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Target, removed};
use std::sync::Arc;

/// A finished layer, with what the device counts of it.
pub struct Ended {
    /// Number of rows and of columns.
    dim: (usize, usize),
    /// The order in which the columns were pruned, if it was not their own.
    order: Option<Vec<usize>>,
    mask: Option<Arc<Memory>>,
    /// Zeros, then weights that are not finite or were removed and are not 0.
    counts: Memory,
    /// What is counted in the mask, if the layer is checked.
    tally: Option<Tally>,
    /// As in [`Piece`].
    reports: Reports,
}

/// What the device counts in a mask.
struct Tally {
    /// What the mask should be.
    target: Target,
    /// The weights that are removed, the groups of a row that are wrong, then the weights that each group of columns lost.
    counts: Memory,
    /// Number of groups of columns that are counted over all rows; 0 if groups are parts of a row.
    over_rows: usize,
}

impl Piece<'_> {
    /// Ends the layer, and has it checked if there is a target.
    pub fn ended(&mut self, target: Option<&Target>) -> Result<Ended> {
        // Matrices are as large as the layer and would have to stay.
        if self.reports.unranked.as_ref().is_some_and(Unranked::has_matrices) {
            self.bring(&[])?;
            self.reports.unranked = None;
        }
        // Groups are those of the order in which the columns are now.
        let tally = target.map(|target| self.tallied(target)).transpose()?;
        let order = self.order.take();
        if let Some(order) = &order {
            let places = self.places(&inverse(order))?;
            self.move_columns(&places)?;
        }
        let (rows, columns) = self.size();
        if self.working.is_some() {
            self.weigh("narrow", None, self.each())?;
            self.working = None;
        }
        let counts = self.cleared(2)?;
        let groups = grid((rows * columns).div_ceil(LANES).min(WALKERS));
        self.weigh("finish", Some(&counts), groups)?;
        Ok(Ended {
            dim: (rows, columns),
            order,
            mask: self.mask.clone(),
            counts,
            tally,
            reports: std::mem::take(&mut self.reports),
        })
    }

    /// Has the mask counted in the groups of a target.
    fn tallied(&self, target: &Target) -> Result<Tally> {
        let (rows, columns) = self.size();
        let (width, wanted, by_columns) = match (target.pattern, target.group) {
            (Pattern::NofM { keep, of }, _) => (of, of - keep, false),
            (Pattern::Unstructured { sparsity }, Group::Row) => (columns, removed(columns, sparsity), false),
            (Pattern::Unstructured { .. }, _) => (COLUMN_BLOCK, 0, true),
        };
        let parts = columns.div_ceil(width);
        let over_rows = if by_columns { parts } else { 0 };
        let counts = self.cleared(2 + over_rows)?;
        let mask = match &self.mask {
            Some(mask) => mask.clone(),
            None => Arc::new(self.cleared(rows * self.words())?),
        };
        let parameters = parameters::Tally {
            rows: rows as u32,
            columns: columns as u32,
            words: self.words() as u32,
            width: width as u32,
            wanted: wanted as u32,
            over_rows: u32::from(by_columns),
        };
        self.gpu.hardware().run(
            &Kernel::new(shader::TALLY, "tally"),
            &parameters,
            &[read(&mask), write(&counts)],
            grid((rows * parts).div_ceil(LANES)),
        )?;
        Ok(Tally {
            target: *target,
            counts,
            over_rows,
        })
    }
}

impl Tally {
    /// Number of words that are counted.
    fn length(&self) -> usize {
        2 + self.over_rows
    }

    /// Whether these counts are what the target demands of a layer of this size.
    fn is_as_demanded(&self, (rows, columns): (usize, usize), counts: &[u32]) -> bool {
        let target = &self.target;
        let fine =
            |sparsity: f64, got: u32, all: usize| wrong_count((target, sparsity), columns, got as usize, all).is_none();
        match (target.pattern, target.group) {
            (Pattern::Unstructured { sparsity }, Group::ColumnBlock) => {
                counts[2..].iter().enumerate().all(|(block, got)| {
                    let width = COLUMN_BLOCK.min(columns - block * COLUMN_BLOCK);
                    fine(sparsity, *got, rows * width)
                })
            }
            (Pattern::Unstructured { sparsity }, Group::Matrix | Group::RowShare) => {
                fine(sparsity, counts[0], rows * columns)
            }
            (Pattern::Unstructured { .. }, Group::Row) | (Pattern::NofM { .. }, _) => counts[1] == 0,
        }
    }
}

impl Ended {
    /// What comes back of it, as buffers with their numbers of bytes.
    fn parts(&self) -> Vec<(&Memory, u64)> {
        let mut parts = vec![(&self.counts, 8)];
        parts.extend(
            self.tally
                .iter()
                .map(|tally| (&tally.counts, 4 * tally.length() as u64)),
        );
        parts.extend(self.reports.parts());
        parts
    }

    /// Checks what kernels reported; `brought` is what came back.
    fn check_reports(&self, gpu: &Gpu, weight: &Tensor, brought: &[Vec<u32>]) -> Result<()> {
        let counts = 1 + usize::from(self.tally.is_some());
        self.reports.check(gpu, weight, &brought[counts..])
    }

    /// The result, with the mask on the host.
    pub fn finished(&self, gpu: &Gpu, weight: &Tensor) -> Result<Finished> {
        let (rows, columns) = self.dim;
        let length = rows * columns.div_ceil(32);
        let mut parts = self.parts();
        let reports = parts.len();
        parts.extend(self.mask.as_deref().map(|mask| (mask, 4 * length as u64)));
        let mut brought = gpu.hardware().download_all(&parts)?;
        let words = brought.split_off(reports).pop().unwrap_or_else(|| vec![0; length]);
        self.check_reports(gpu, weight, &brought)?;
        let mask = PackedMask::from_words((rows, columns), words);
        let [zeros, faults] = [brought[0][0], brought[0][1]];
        let fault = if faults == 0 {
            None
        } else {
            let weights = gpu.download(weight)?;
            let fault = |weight: f32, removed: bool| !weight.is_finite() || (removed && weight != 0.0);
            let mut places = weights.indexed_iter();
            places
                .find(|((row, column), weight)| fault(**weight, mask.removes(*row, *column)))
                .map(|(place, weight)| (place, *weight))
        };
        Ok(Finished {
            mask,
            zeros: zeros as usize,
            order: self.order.clone(),
            fault,
        })
    }

    /// What was found, from what came back of it.
    fn concluded(self, gpu: &Gpu, weight: &Tensor, brought: &[Vec<u32>]) -> Result<Concluded> {
        self.check_reports(gpu, weight, brought)?;
        let Some(tally) = &self.tally else {
            return Err(Error::numeric("a layer was finished without its checks"));
        };
        let [zeros, faults] = [brought[0][0], brought[0][1]];
        if faults == 0 && tally.is_as_demanded(self.dim, &brought[1]) {
            return Ok(Concluded {
                removed: brought[1][0] as usize,
                zeros: zeros as usize,
                order: self.order,
            });
        }
        // What is wrong is found on the host.
        self.finished(gpu, weight)?.concluded(&tally.target)
    }
}

/// What was found of all these layers, each with its weights.
pub fn all_concluded(gpu: &Gpu, pieces: Vec<(Concluding, &Weight)>) -> Result<Vec<Result<Concluded>>> {
    let mut all: Vec<(Ended, &Tensor)> = Vec::with_capacity(pieces.len());
    for (Concluding(ending), Weight(weight)) in pieces {
        let Ending::There(ended) = ending else {
            return Err(elsewhere());
        };
        all.push((*ended.downcast().map_err(|_| elsewhere())?, weight));
    }
    let parts: Vec<_> = all.iter().flat_map(|(ended, _)| ended.parts()).collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let mut brought = gpu.hardware().download_all(&parts)?;
    let mut found = Vec::with_capacity(all.len());
    for (ended, weight) in all {
        let later = brought.split_off(ended.parts().len());
        let own = std::mem::replace(&mut brought, later);
        found.push(ended.concluded(gpu, weight, &own));
    }
    Ok(found)
}
