//! A layer while it is pruned on the device.

use super::reports::Reports;
use super::statistics::Statistics;
use super::written::Written;
use crate::backend::gpu::device::Memory;
use crate::backend::gpu::parameters::LANES;
use crate::backend::gpu::{Gpu, Tensor, grid};
use crate::error::Result;
use crate::tensor::StorageType;
use std::sync::{Arc, OnceLock};

/// Most workgroups of a kernel that goes over a matrix in strides; enough for the largest devices.
pub const WALKERS: usize = 1024;

/// A layer that is being pruned on the device.
pub struct Piece<'a> {
    /// The backend that the layer is on.
    pub gpu: &'a Gpu,
    /// The weights, as the model stores them on the device.
    pub weight: &'a mut Tensor,
    /// A copy of the weights in single precision, which is used while weights in half precision are updated.
    pub working: Option<Tensor>,
    /// The mask as bits, row after row, each row beginning with a new word: bit `j mod 32` of word `j / 32` is set if
    /// column `j` is removed.
    pub mask: Option<Arc<Memory>>,
    /// What kernels reported, looked at with the next results that come back.
    pub reports: Reports,
    /// The number format of the checkpoint, to which the weights are rounded at the end.
    pub storage: StorageType,
    /// Statistics of the layer's inputs, with the columns in their own order.
    pub statistics: &'a Statistics,
    /// The statistics in the present order of the columns and in the present variables, if these are not their own.
    pub changed: Option<Statistics>,
    /// The order of the columns, if it is not their own.
    pub order: Option<Vec<usize>>,
}

impl Piece<'_> {
    /// Number of rows and of columns of the layer.
    pub fn size(&self) -> (usize, usize) {
        (self.weight.rows, self.weight.columns)
    }

    /// The statistics of the columns in their present order and variables.
    pub fn statistics(&self) -> &Statistics {
        self.changed.as_ref().unwrap_or(self.statistics)
    }

    /// Number of words in a row of the mask.
    pub fn words(&self) -> usize {
        self.weight.columns.div_ceil(32)
    }

    /// The weights as they are now: the copy in single precision where there is one.
    pub fn current(&self) -> &Tensor {
        self.working.as_ref().unwrap_or(self.weight)
    }

    /// The first bytes of each of these buffers as words, copied to the host together, since every way back waits for the device.
    /// All results of a piece come through here.
    ///
    /// # Errors
    /// What kernels reported before is an error ([`Reports::check`]), or the device fails.
    pub fn bring(&self, parts: &[(&Memory, u64)]) -> Result<Vec<Vec<u32>>> {
        let mut all = parts.to_vec();
        all.extend(self.reports.parts());
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let mut brought = self.gpu.hardware().download_all(&all)?;
        let reported = brought.split_off(parts.len());
        self.reports.check(self.gpu, self.current(), &reported)?;
        Ok(brought)
    }

    /// Where kernels report something: a word that is 0 before the first report.
    pub fn report<'a>(&self, word: &'a OnceLock<Memory>) -> Result<&'a Memory> {
        if word.get().is_none() {
            let _ = word.set(self.cleared(1)?);
        }
        Ok(word.get().expect("it was just made"))
    }

    /// The first `count` numbers of a buffer, copied to the host.
    pub fn values(&self, memory: &Memory, count: usize) -> Result<Vec<f32>> {
        Ok(bytemuck::cast_vec(self.words_of(memory, count)?))
    }

    /// The first `count` words of a buffer, copied to the host.
    pub fn words_of(&self, memory: &Memory, count: usize) -> Result<Vec<u32>> {
        let mut brought = self.bring(&[(memory, 4 * count as u64)])?;
        Ok(brought.pop().expect("one copy of one buffer"))
    }

    /// A new buffer of so many words, all 0.
    pub fn cleared(&self, words: usize) -> Result<Memory> {
        let memory = self.gpu.hardware().allocate((words * 4) as u64)?;
        self.gpu.hardware().clear(&memory)?;
        Ok(memory)
    }

    /// The mask, if the formulas use it and there is one; without a mask all weights are kept.
    pub fn mask_for(&self, written: &Written) -> Result<Option<Arc<Memory>>> {
        match (&self.mask, written.reads_mask) {
            (_, false) => Ok(None),
            (Some(mask), true) => Ok(Some(mask.clone())),
            (None, true) => Ok(Some(Arc::new(self.cleared(self.weight.rows * self.words())?))),
        }
    }

    /// The number of workgroups for one invocation per weight.
    pub fn each(&self) -> [u32; 3] {
        let (rows, columns) = self.size();
        grid((rows * columns).div_ceil(LANES))
    }
}
