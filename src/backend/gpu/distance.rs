//! How far matrices are from others, computed on the device and read back together.

use super::device::{Kernel, read, write};
use super::open::Gpu;
use super::parameters;
use super::shader;
use super::tensor::Tensor;
use crate::backend::Distance;
use crate::error::Result;

/// Entries of a matrix that an invocation adds up in single precision, about.
const RUN: usize = 64;

/// Invocations of a workgroup: `THREADS` of `common_total.wgsl`.
const THREADS: usize = 256;

/// Most workgroups for a matrix.
const PARTS: usize = 256;

impl Gpu {
    /// See [`Backend::distances`](crate::backend::Backend::distances).
    pub(super) fn all_distances(&self, pairs: &[[&Tensor; 2]]) -> Result<Vec<Distance>> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let parts = |x: &Tensor| x.len().div_ceil(RUN * THREADS).clamp(1, PARTS);
        let all: usize = pairs.iter().map(|[x, _]| parts(x)).sum();
        let results = self.device.allocate((all * 8) as u64)?;
        let mut first = 0;
        for [x, z] in pairs {
            let kernel = Kernel::new(shader::DISTANCE, "distance")
                .with_type("X", x.element.name())
                .with_type("Z", z.element.name());
            let count = parts(x);
            let parameters = parameters::Distance {
                count: x.len() as u32,
                parts: count as u32,
                first: first as u32,
            };
            let bound = [read(&x.memory), read(&z.memory), write(&results)];
            self.device.run(&kernel, &parameters, &bound, [count as u32, 1, 1])?;
            first += count;
        }
        let values = self.values(&results, 2 * all)?;
        let mut values = values.chunks_exact(2);
        let sums = |[x, _]: &[&Tensor; 2]| {
            let mut sum = Distance { all: 0.0, away: 0.0 };
            for part in values.by_ref().take(parts(x)) {
                sum.all += part[0];
                sum.away += part[1];
            }
            sum
        };
        Ok(pairs.iter().map(sums).collect())
    }
}
