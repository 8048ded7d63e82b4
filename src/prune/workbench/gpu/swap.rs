//! Swaps of a kept entry for a removed one on the device; see `swap.wgsl`.

use super::super::Swapping;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, SWAP_BLOCK};
use crate::backend::gpu::{Gpu, Tensor, grid, shader};
use crate::error::Result;

/// Most swaps of a row in one run of the kernel, so that no run takes long and finished rows make room for others.
const STEPS: u32 = 64;

/// Largest group in which every pair is looked at; must be less than a row.
const SMALL: usize = 256;

/// The bit of a row's count that says that nothing is left to swap.
const FINISHED: u32 = 1 << 31;

/// Changes a mask by swaps in every row of `a`; `pulls` is `r G` of the removed entries and is changed, too. Returns the
/// number of swaps in each row.
///
/// # Errors
/// There is no room, or the device fails.
pub fn swapped(
    gpu: &Gpu,
    a: &Tensor,
    gram: &Tensor,
    (pulls, mask): (&Tensor, &Memory),
    swapping: Swapping,
) -> Result<Vec<u32>> {
    let (rows, columns) = (a.rows, a.columns);
    if rows == 0 || columns == 0 {
        return Ok(vec![0; rows]);
    }
    let device = gpu.hardware();
    let blocks = columns.div_ceil(SWAP_BLOCK);
    let bounds = device.allocate((columns * (blocks + 2) * 4) as u64)?;
    let swaps = device.allocate((rows * 4) as u64)?;
    device.clear(&swaps)?;
    let unfinished = device.allocate(4)?;
    let width = swapping.width.clamp(1, columns);
    let parameters = parameters::Swap {
        rows: rows as u32,
        columns: columns as u32,
        words: columns.div_ceil(32) as u32,
        width: width as u32,
        most: u32::try_from(swapping.most).unwrap_or(FINISHED - 1).min(FINISHED - 1),
        steps: STEPS,
        blocks: blocks as u32,
    };
    let bound = [
        read(&a.memory),
        read(&gram.memory),
        write(&bounds),
        write(&pulls.memory),
        write(mask),
        write(&swaps),
        write(&unfinished),
    ];
    let run = |entry, groups| device.run(&Kernel::new(shader::SWAP, entry), &parameters, &bound, groups);
    run("correlations", grid(columns))?;
    let entry = if width < columns && width <= SMALL {
        "small_groups"
    } else {
        "large_groups"
    };
    loop {
        device.clear(&unfinished)?;
        run(entry, grid(rows))?;
        let left = device.download(&unfinished, 4)?;
        if left.iter().all(|byte| *byte == 0) {
            break;
        }
    }
    let swaps = device.download(&swaps, (rows * 4) as u64)?;
    let swaps: Vec<u32> = bytemuck::pod_collect_to_vec(&swaps);
    Ok(swaps.into_iter().map(|count| count & !FINISHED).collect())
}
