//! Masks on the device as matrices, and matrices as masks.

use crate::backend::gpu::device::{Bound, Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES};
use crate::backend::gpu::{Element, Gpu, Tensor, grid, shader};
use crate::error::Result;

/// A packed mask as a matrix of ones (kept) and zeros (removed).
pub fn unpacked(gpu: &Gpu, mask: &Memory, dim: (usize, usize)) -> Result<Tensor> {
    let into = gpu.tensor(dim.0, dim.1, Element::F32)?;
    let bound = [write(mask), write(&into.memory)];
    masked(gpu, "unpack", dim, &bound, dim.0 * dim.1)?;
    Ok(into)
}

/// Packs a matrix of ones (kept) and zeros (removed) into a mask.
pub fn packed(gpu: &Gpu, kept: &Tensor, mask: &Memory) -> Result<()> {
    let bound = [write(mask), read(&kept.memory)];
    let words = kept.rows * kept.columns.div_ceil(32);
    masked(gpu, "pack", (kept.rows, kept.columns), &bound, words)
}

/// Runs a kernel of `masks.wgsl` with one invocation for each of `count` results.
fn masked(
    gpu: &Gpu,
    entry: &'static str,
    (rows, columns): (usize, usize),
    bound: &[Bound],
    count: usize,
) -> Result<()> {
    let parameters = parameters::Masks {
        rows: rows as u32,
        columns: columns as u32,
        words: columns.div_ceil(32) as u32,
    };
    let kernel = Kernel::new(shader::MASKS, entry);
    gpu.hardware()
        .run(&kernel, &parameters, bound, grid(count.div_ceil(LANES)))
}
