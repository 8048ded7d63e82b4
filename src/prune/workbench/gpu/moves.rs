//! Entries of matrices on the device in other places.

use crate::backend::gpu::device::{Bound, Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES};
use crate::backend::gpu::{Element, Gpu, Tensor, grid, shader};
use crate::error::Result;

/// Runs a kernel of `moves.wgsl` with one invocation for each of `count` entries.
pub fn moved(
    gpu: &Gpu,
    entry: &'static str,
    parameters: &parameters::Moves,
    bound: &[Bound],
    count: usize,
) -> Result<()> {
    let kernel = Kernel::new(shader::MOVES, entry);
    gpu.hardware()
        .run(&kernel, parameters, bound, grid(count.div_ceil(LANES)))
}

/// A symmetric matrix with both triangles, from its lower triangle `lower`; all entries are multiplied by `factor`.
pub fn symmetric(gpu: &Gpu, lower: &Memory, inputs: usize, factor: f64) -> Result<Tensor> {
    let into = gpu.tensor(inputs, inputs, Element::F32)?;
    let parameters = parameters::Moves {
        rows: inputs as u32,
        columns: inputs as u32,
        factor: factor as f32,
        ..parameters::Moves::default()
    };
    let bound = [read(lower), write(&into.memory)];
    moved(gpu, "symmetric", &parameters, &bound, inputs * inputs)?;
    Ok(into)
}
