//! SparseGPT's pass over the columns, on the device.

use super::piece::Piece;
use super::selection::Selecting;
use super::written::Written;
use crate::backend::gpu::device::{Kernel, read, write};
use crate::backend::gpu::parameters::{self, TIED, TOGETHER};
use crate::backend::gpu::{Element, shader};
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::pattern::{COLUMN_BLOCK, Pattern, Selection, Target, removed};
use crate::prune::values::Values;
use std::sync::Arc;

impl Piece<'_> {
    /// See [`Workpiece::reconstruct`](super::super::Workpiece::reconstruct).
    pub fn update(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        if self.weight.element != Element::F32 && self.working.is_none() {
            self.working = Some(self.gpu.tensor(rows, columns, Element::F32)?);
            self.weigh("widen", None, self.each())?;
        }
        if self.mask.is_none() {
            self.mask = Some(Arc::new(self.cleared(rows * self.words())?));
        }
        let mask = self.mask.as_ref().expect("there is a mask now");
        let factor = self.statistics().inverse_factor(self.gpu)?;
        let upper = &factor.upper.memory;
        let device = self.gpu.hardware();
        let current = self.current();
        let unusable = self.cleared(1)?;
        let errors = device.allocate((rows * COLUMN_BLOCK * 4) as u64)?;
        let state = device.allocate(((TIED + columns) * 4) as u64)?;
        let none = Values::from(Formula::Number(0.0));
        let written = Written::new(self.gpu, &[follow.unwrap_or(&none)], (rows, columns))?;
        if written.has_matrices() {
            let message =
                "a score that follows the update cannot read other matrices on the GPU; use backend = \"cpu\"";
            return Err(Error::config(message));
        }
        let (block_width, keep, of) = match target.pattern {
            Pattern::Unstructured { .. } => (COLUMN_BLOCK, 0, 0),
            Pattern::NofM { keep, of } if of > COLUMN_BLOCK => {
                let message =
                    format!("pattern {keep}:{of} with an update needs groups of at most {COLUMN_BLOCK} on the GPU");
                return Err(Error::config(message));
            }
            Pattern::NofM { keep, of } => (COLUMN_BLOCK / of * of, keep, of),
        };
        let on_the_way = follow.is_some() && of > 0;
        let kernel = |entry| {
            let kernel = Kernel::new(shader::OBS, entry);
            kernel.with_function("value", written.expressions[0].clone())
        };
        let parameters = |first: usize, width: usize| parameters::Obs {
            formula: written.parameters,
            rows: rows as u32,
            columns: columns as u32,
            first: first as u32,
            width: width as u32,
            words: self.words() as u32,
            keep: keep as u32,
            group_size: if on_the_way { of as u32 } else { 0 },
        };
        let mut bound = [
            write(&current.memory),
            read(upper),
            write(mask),
            write(&errors),
            read(&written.factors),
            write(&unusable),
        ];
        let dead: Vec<f32> = factor.dead.iter().map(|dead| f32::from(u8::from(*dead))).collect();
        let dead_memory = device.allocate((columns * 4) as u64)?;
        if factor.dead.contains(&true) {
            device.upload(&dead_memory, bytemuck::cast_slice(&dead))?;
            bound[4] = read(&dead_memory);
            device.run(&kernel("clear_dead"), &parameters(0, 0), &bound, self.each())?;
            bound[4] = read(&written.factors);
        }
        for first in (0..columns).step_by(block_width) {
            let width = block_width.min(columns - first);
            if let (Some(_), Pattern::Unstructured { sparsity }) = (follow, target.pattern) {
                let count = removed(rows * width, sparsity);
                let reference = target.selection == Selection::Reference;
                if count > 0 || reference {
                    let keys = self.keys(&written, first, width, &unusable)?;
                    let run = Selecting {
                        keys: &keys,
                        state: &state,
                        first,
                        width,
                        count,
                        reference,
                        keep: 0,
                        of: 0,
                    };
                    self.select_together(&run, mask)?;
                }
            }
            let groups = [rows.div_ceil(TOGETHER) as u32, 1, 1];
            device.run(&kernel("block"), &parameters(first, width), &bound, groups)?;
            let later = columns - first - width;
            if later > 0 {
                let groups = [later.div_ceil(64) as u32, rows.div_ceil(64) as u32, 1];
                device.run(&kernel("propagate"), &parameters(first, width), &bound, groups)?;
            }
        }
        if let Some(score) = follow {
            self.check_scores(&unusable, score)?;
        }
        Ok(factor.damping)
    }
}
