//! Inverse factors on the device, from Gram matrices that never leave it.
//!
//! In double precision where the device has it and the matrix fits, as on the host; else in single
//! precision, as SparseGPT's own code.

use super::device::{Kernel, Memory, read, write};
use super::open::{Gpu, grid};
use super::{parameters, shader};
use crate::error::Result;
use crate::linalg::SolveFailure;

/// The factor `U` of `H^-1 = U^T U` on the device.
pub struct DeviceFactor {
    /// The upper triangular matrix `(inputs, inputs)` in single precision.
    pub(crate) upper: Memory,
    /// The diagonal of `upper`, on the host.
    pub pivots: Vec<f32>,
}

impl Gpu {
    /// The inverse factor of `H = scale * gram + damping`, for a Gram matrix `(inputs, inputs)` of which the
    /// lower triangle is read. Features that were never active count with 1 on the diagonal.
    ///
    /// # Errors
    /// The device fails. The inner error: the pivot at which `H` turned out not to be positive definite.
    pub fn inverse_factor(
        &self,
        gram: &Memory,
        inputs: usize,
        scale: f64,
        damping: f64,
    ) -> Result<std::result::Result<DeviceFactor, SolveFailure>> {
        let device = &self.device;
        let bytes = |doubles: bool| if doubles { 8 } else { 4 };
        let doubles = device.doubles() && (inputs * inputs * bytes(true)) as u64 <= device.largest();
        let element = bytes(doubles);
        let room = device.workgroup_memory() as usize;
        let block: usize = if (64 * 65 + 64) * element <= room { 64 } else { 32 };
        let threads = block * block / 16;
        let work = device.allocate((inputs * inputs * element) as u64)?;
        let inverse = device.allocate((2 * block * block * element) as u64)?;
        let lines = device.allocate((inputs * block * element) as u64)?;
        let upper = device.allocate((inputs * inputs * 4) as u64)?;
        let pivots = device.allocate(((inputs + 1) * 4) as u64)?;
        device.clear(&pivots)?;
        let run = |entry: &'static str, first: usize, groups: [u32; 3]| {
            let kernel = Kernel::new(shader::FACTOR, entry)
                .with_type("F", if doubles { "f64" } else { "f32" })
                .with_constant("BLOCK", block as u32)
                .with_constant("THREADS", threads as u32);
            let parameters = parameters::Factor {
                inputs: inputs as u32,
                block: first as u32,
                scale: scale as f32,
                damping: damping as f32,
            };
            let bound = [
                read(gram),
                write(&work),
                write(&inverse),
                write(&lines),
                write(&upper),
                write(&pivots),
            ];
            device.run(&kernel, &parameters, &bound, groups)
        };
        let blocks = inputs.div_ceil(block);
        let all = blocks as u32;
        run("load", 0, [all, all, 1])?;
        for first in 0..blocks {
            run("pivot", first, [1, 1, 1])?;
            if blocks > 1 {
                run("panel", first, [all, 1, 1])?;
            }
            if first + 1 < blocks {
                run("update", first, [all, (blocks - first - 1) as u32, 1])?;
            }
        }
        run("unload", 0, grid((inputs * inputs).div_ceil(threads)))?;
        let bytes = device.download(&pivots, ((inputs + 1) * 4) as u64)?;
        let mut pivots: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(match pivots.pop() {
            Some(failed) if failed > 0.0 => Err(SolveFailure::NotPositiveDefinite {
                pivot: failed as usize - 1,
            }),
            _ => Ok(DeviceFactor { upper, pivots }),
        })
    }
}
