//! Causal attention: which kernel with which tiles.

use super::device::{Kernel, read, write};
use super::open::Gpu;
use super::parameters::{self, EXCHANGE};
use super::shader;
use super::tensor::Tensor;
use crate::error::Result;
use crate::spec::AttentionSpec;

impl Gpu {
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
        let (scale, window) = (shape.scale, window.unwrap_or(0) as u32);
        let softcap = shape.softcap.unwrap_or(0.0);
        let [tokens, heads, kv_heads, head_dim] =
            [length, shape.heads, shape.kv_heads, shape.head_dim].map(|count| count as u32);
        let room = self.device.workgroup_memory() >> 10;
        if self.cooperates(queries) && head_dim.is_multiple_of(16) && head_dim <= 128 && room >= 48 {
            let subgroups = if head_dim <= 64 { 4 } else { 8 };
            let kernel = Kernel::new(shader::ATTENTION_COOPERATIVE, "attention")
                .with_constant("HEAD_DIM", head_dim)
                .with_constant("SUBGROUPS", subgroups);
            let parameters = parameters::AttentionCooperative {
                length: tokens,
                heads,
                kv_heads,
                window,
                scale,
                softcap,
            };
            let groups = [tokens.div_ceil(16 * subgroups), heads, sequences as u32];
            self.device.run(&kernel, &parameters, &bound, groups)?;
            return Ok(y);
        }
        // Workgroup memory decides how many queries and keys meet at a time.
        let (tile, keys_tile) = match room {
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
        let parameters = parameters::Attention {
            length: tokens,
            heads,
            kv_heads,
            head_dim,
            window,
            scale,
            softcap,
        };
        let groups = [length.div_ceil(tile), shape.heads * parts, sequences].map(|count| count as u32);
        self.device.run(&kernel, &parameters, &bound, groups)?;
        Ok(y)
    }
}
