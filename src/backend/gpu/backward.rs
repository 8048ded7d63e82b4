//! The adjoints of a transformer's operations on the GPU: which kernels with which grids compute each of them.
//!
//! In half precision, gradients are stored in 16 bits where products read them; the residual stream's, and what norms and attention
//! make of them, have 32.

use super::device::{Kernel, read, write};
use super::open::{Gpu, grid};
use super::operations::{activated, norm_kernel};
use super::parameters::{self, Elementwise};
use super::product::{Filled, Outer};
use super::shader;
use super::tensor::{Element, Tensor};
use crate::backend::gradient::Gradient;
use crate::error::Result;
use crate::spec::{Activation, NormKind};
use bytemuck::cast_slice;

impl Gpu {
    /// A matrix in the format that products read, if it is in another one.
    pub(super) fn as_stored(&self, x: &Tensor) -> Result<Option<Tensor>> {
        if x.element == self.stored() {
            return Ok(None);
        }
        self.converted(x, self.stored()).map(Some)
    }

    /// See [`Backend::interleave`](crate::backend::Backend::interleave).
    pub(super) fn put_together(&self, parts: &[&Tensor], run: usize) -> Result<Tensor> {
        let like = parts[0];
        let y = self.tensor(like.rows, like.columns * parts.len(), like.element)?;
        for (index, part) in parts.iter().enumerate() {
            let parameters = Elementwise {
                first: (index * run) as u32,
                run: run as u32,
                stride: (parts.len() * run) as u32,
                source_width: part.columns as u32,
                ..Elementwise::default()
            };
            self.each("interleave", &y, Some(part), parameters)?;
        }
        Ok(y)
    }

    /// See [`Backend::normalise_backward`](crate::backend::Backend::normalise_backward).
    pub(super) fn norm_slopes(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Tensor>,
        x: &Tensor,
        dy: &Tensor,
    ) -> Result<Tensor> {
        let dx = self.tensor(x.rows, x.columns, Element::F32)?;
        let runs = x.len() / width;
        let types = [("X", x.element), ("Z", dy.element)];
        let kernel = norm_kernel(shader::NORMALISE_BACKWARD, "normalise_backward", width, &types);
        let parameters = parameters::Normalise {
            runs: runs as u32,
            width: width as u32,
            centred: u32::from(kind == NormKind::Layer),
            epsilon,
            has_gain: u32::from(gain.is_some()),
            has_bias: 0,
        };
        let bound = [
            read(&x.memory),
            read(gain.map_or(self.nothing(), |gain| &gain.memory)),
            read(&dy.memory),
            write(&dx.memory),
        ];
        self.device.run(&kernel, &parameters, &bound, grid(runs))?;
        Ok(dx)
    }

    /// See [`Backend::gate_backward`](crate::backend::Backend::gate_backward).
    pub(super) fn gate_slopes(&self, activation: Activation, gate: &Tensor, up: &Tensor, dy: &Tensor) -> Result<()> {
        self.each_of(&[gate, up], "gate_backward", Some(dy), activated(activation))
    }

    /// See [`Backend::log_likelihoods_backward`](crate::backend::Backend::log_likelihoods_backward).
    pub(super) fn likelihood_slopes(
        &self,
        head: &Tensor,
        softcap: Option<f32>,
        x: &Tensor,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, Tensor)> {
        let upload = |bytes: &[u8]| {
            let memory = self.device.allocate(bytes.len() as u64)?;
            self.device.upload(&memory, bytes).map(|()| memory)
        };
        let (targets_there, factors_there) = (upload(cast_slice(targets))?, upload(cast_slice(factors))?);
        let results = self.device.allocate((targets.len() * 4) as u64)?;
        let rows = self.logit_rows(head.rows, x.rows);
        let logits = self.tensor(rows, head.rows, Element::F32)?;
        let slopes = self.tensor(rows, head.rows, self.stored())?;
        let back = self.transposed_as(head, (0, head.rows), head.element)?;
        let dx = self.tensor(x.rows, x.columns, Element::F32)?;
        let kernel =
            Kernel::new(shader::LIKELIHOOD_BACKWARD, "likelihood_backward").with_type("Y", slopes.element.name());
        for first in (0..x.rows).step_by(rows) {
            let count = rows.min(x.rows - first);
            self.multiply_into((head, Filled::Everywhere), None, x, (first, count), (&logits, 0))?;
            let parameters = parameters::Likelihood {
                rows: count as u32,
                vocabulary: head.rows as u32,
                softcap: softcap.unwrap_or(0.0),
                first: first as u32,
            };
            let bound = [
                read(&logits.memory),
                read(&targets_there),
                read(&factors_there),
                write(&results),
                write(&slopes.memory),
            ];
            self.device.run(&kernel, &parameters, &bound, grid(count))?;
            self.multiply_into((&back, Filled::Everywhere), None, &slopes, (0, count), (&dx, first))?;
        }
        Ok((self.values(&results, targets.len())?, dx))
    }

    /// See [`Backend::accumulate_gradient`](crate::backend::Backend::accumulate_gradient).
    pub(super) fn add_gradient(
        &self,
        gradient: &Gradient<Tensor>,
        dy: &Tensor,
        x: &Tensor,
        sequences: usize,
        factor: f32,
    ) -> Result<()> {
        let Gradient {
            sum,
            squares,
            magnitudes,
        } = gradient;
        // The sum of all is one product.
        let sequences = if squares.is_none() && magnitudes.is_none() {
            1
        } else {
            sequences
        };
        let length = x.rows / sequences;
        let converted = if self.cooperates(x) { self.as_stored(dy)? } else { None };
        let dy = converted.as_ref().unwrap_or(dy);
        if self.multiplies_outer([dy, x]) {
            let sums = [
                ("p.factor * v", sum),
                ("(p.factor * v) * (p.factor * v)", squares),
                ("abs(p.factor * v)", magnitudes),
            ];
            for (added, sums) in sums {
                let Some(sums) = sums else { continue };
                for first in (0..x.rows).step_by(length) {
                    self.add_outer([dy, x], (first, length), &sums.memory, Outer::Each(added, factor))?;
                }
            }
            return Ok(());
        }
        let parameters = Elementwise {
            factor,
            ..Elementwise::default()
        };
        for first in (0..x.rows).step_by(length) {
            let right = self.transposed_as(x, (first, length), self.stored())?;
            let left = self.transposed_as(dy, (first, length), self.stored())?;
            let product = self.multiply(&right, None, &left, Element::F32)?;
            let sums = [
                ("add_scaled", sum),
                ("add_squares", squares),
                ("add_magnitudes", magnitudes),
            ];
            for (entry, sums) in sums {
                if let Some(sums) = sums {
                    self.each(entry, sums, Some(&product), parameters)?;
                }
            }
        }
        Ok(())
    }
}
