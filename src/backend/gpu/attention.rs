//! Causal attention and its gradients: which kernel with which tiles.

use super::device::{Kernel, read, write};
use super::open::Gpu;
use super::parameters::{self, EXCHANGE, SCORE_TILE};
use super::shader;
use super::tensor::{Element, Tensor};
use crate::error::Result;
use crate::spec::AttentionSpec;

/// Subgroups of a workgroup of the gradients of attention on cooperative matrices.
const SUBGROUPS: usize = 8;

/// The parameters of the kernels on cooperative matrices.
fn cooperative(shape: AttentionSpec, window: Option<usize>, length: usize) -> parameters::AttentionCooperative {
    parameters::AttentionCooperative {
        length: length as u32,
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        window: window.unwrap_or(0) as u32,
        scale: shape.scale,
        softcap: shape.softcap.unwrap_or(0.0),
    }
}

/// The parameters of the other kernels.
fn plain(shape: AttentionSpec, window: Option<usize>, length: usize) -> parameters::Attention {
    parameters::Attention {
        length: length as u32,
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        head_dim: shape.head_dim as u32,
        window: window.unwrap_or(0) as u32,
        scale: shape.scale,
        softcap: shape.softcap.unwrap_or(0.0),
    }
}

impl Gpu {
    /// Whether attention to these queries is computed on cooperative matrices.
    fn attends_cooperatively(&self, shape: AttentionSpec, queries: &Tensor) -> bool {
        let fits = shape.head_dim.is_multiple_of(16) && shape.head_dim <= 128;
        self.cooperates(queries) && fits && self.device.workgroup_memory() >= 48 << 10
    }

    /// Causal attention within sequences; see [`Backend::attention`](crate::backend::Backend::attention).
    pub(super) fn attend(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let y = self.tensor(queries.rows, queries.columns, queries.element)?;
        let bound = [
            read(&queries.memory),
            read(&keys.memory),
            read(&values.memory),
            write(&y.memory),
        ];
        let sequences = queries.rows / length;
        if self.attends_cooperatively(shape, queries) {
            let subgroups = if shape.head_dim <= 64 { 4 } else { 8 };
            let kernel = Kernel::new(shader::ATTENTION_COOPERATIVE, "attention")
                .with_constant("HEAD_DIM", shape.head_dim as u32)
                .with_constant("SUBGROUPS", subgroups as u32);
            let groups = [length.div_ceil(16 * subgroups), shape.heads, sequences].map(|count| count as u32);
            let parameters = cooperative(shape, window, length);
            self.device.run(&kernel, &parameters, &bound, groups)?;
            return Ok(y);
        }
        // Workgroup memory decides how many queries and keys meet at a time.
        let (tile, keys_tile) = match self.device.workgroup_memory() >> 10 {
            48.. => (128, 64),
            32.. => (64, 64),
            _ => (32, 32),
        };
        let lanes = keys_tile / 4;
        let vectors = shape.head_dim.div_ceil(4);
        // An invocation has room for two vectors; wider heads are computed in parts.
        let parts = vectors.div_ceil(2 * lanes);
        let vectors = vectors.div_ceil(parts);
        // Values of as many keys as `EXCHANGE` has room for, in stages of equal size.
        let staged = 1 << (EXCHANGE / vectors).min(keys_tile).ilog2();
        let kernel = Kernel::new(shader::ATTENTION, "attention")
            .with_type("X", queries.element.name())
            .with_constant("QUERIES", tile as u32)
            .with_constant("KEYS", keys_tile as u32)
            .with_constant("LANES", lanes as u32)
            .with_constant("THREADS", (tile / 8 * lanes) as u32)
            .with_constant("DEPTH", (keys_tile / 2) as u32)
            .with_constant("VALUES", staged as u32)
            .with_constant("VECTORS", vectors as u32)
            .with_constant("OWNED", vectors.div_ceil(lanes) as u32)
            .with_constant("PARTS", parts as u32);
        let parameters = plain(shape, window, length);
        let groups = [length.div_ceil(tile), shape.heads * parts, sequences].map(|count| count as u32);
        self.device.run(&kernel, &parameters, &bound, groups)?;
        Ok(y)
    }

    /// See [`Backend::attention_backward`](crate::backend::Backend::attention_backward).
    pub(super) fn attend_backward(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Tensor; 3],
        result: &Tensor,
        dy: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let converted = self.as_stored(dy)?;
        let dy = converted.as_ref().unwrap_or(dy);
        let [queries, keys, values] = heads;
        let like = |x: &Tensor| self.tensor(x.rows, x.columns, Element::F32);
        let slopes = [like(queries)?, like(keys)?, like(values)?];
        let sequences = queries.rows / length;
        // Two numbers for every query of a head; on cooperative matrices also for every sequence of a head of keys.
        let known = queries.rows * shape.heads + sequences * shape.kv_heads;
        let known = self.device.allocate((known * 8) as u64)?;
        let bound = |into: &[usize]| {
            let mut bound = [queries, keys, values, result, dy].map(|x| read(&x.memory)).to_vec();
            bound.push(write(&known));
            bound.extend(into.iter().map(|index| write(&slopes[*index].memory)));
            bound
        };
        let groups = |tile: usize, heads: usize| [length.div_ceil(tile), heads, sequences].map(|count| count as u32);
        if self.attends_cooperatively(shape, queries) {
            let parameters = cooperative(shape, window, length);
            let run = |entry, into: &[usize], tile: usize, heads: usize| {
                let kernel = Kernel::new(shader::ATTENTION_BACKWARD_COOPERATIVE, entry)
                    .with_constant("HEAD_DIM", shape.head_dim as u32)
                    .with_constant("SUBGROUPS", SUBGROUPS as u32);
                self.device.run(&kernel, &parameters, &bound(into), groups(tile, heads))
            };
            // A subgroup has 16 rows for its own, or shares them with another one.
            run("reach", &[], length, shape.kv_heads)?;
            run("marks", &[], 16 * SUBGROUPS, shape.heads)?;
            run("for_queries", &[0], 8 * SUBGROUPS, shape.heads)?;
            run("for_keys", &[1, 2], 8 * SUBGROUPS, shape.kv_heads)?;
        } else {
            let parameters = plain(shape, window, length);
            let run = |entry, into: &[usize], heads: usize| {
                let kernel = Kernel::new(shader::ATTENTION_BACKWARD, entry).with_type("X", queries.element.name());
                self.device
                    .run(&kernel, &parameters, &bound(into), groups(SCORE_TILE, heads))
            };
            run("marks", &[], shape.heads)?;
            run("for_queries", &[0], shape.heads)?;
            run("for_keys", &[1, 2], shape.kv_heads)?;
        }
        Ok(slopes)
    }
}
