//! The operations of a transformer on the GPU: which kernel with which grid computes each of them.

use super::device::{Kernel, read, write};
use super::moments::DeviceMoments;
use super::open::{Gpu, grid};
use super::parameters::{self, Elementwise, LANES, ROTATED_HEADS};
use super::product::Filled;
use super::shader::{self, Shader};
use super::tensor::{Element, Tensor, Weight};
use crate::backend::gradient::Gradient;
use crate::backend::moments::{Moments, Needs};
use crate::backend::{
    Backend, Columns, Distance, Divergence, Extent, GPU_BATCH, Likelihood, Predictions, RotaryTable, greatest,
};
use crate::error::Result;
use crate::spec::{Activation, AttentionSpec, NormKind};
use bytemuck::cast_slice;
use half::f16;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

/// The parameter that tells `elementwise.wgsl` which activation function to apply.
pub(super) fn activated(activation: Activation) -> Elementwise {
    let activation = match activation {
        Activation::Relu => 0,
        Activation::Silu => 1,
        Activation::Gelu => 2,
        Activation::GeluTanh => 3,
    };
    Elementwise {
        activation,
        ..Elementwise::default()
    }
}

/// A kernel that normalises runs of `width` features, or computes gradients of that.
pub(super) fn norm_kernel(
    shader: Shader,
    entry: &'static str,
    width: usize,
    types: &[(&'static str, Element)],
) -> Kernel {
    let four = width.is_multiple_of(4);
    let threads = if width <= 128 { 32 } else { 256 };
    let kernel = Kernel::new(shader, entry)
        .with_constant("THREADS", threads)
        .of_features(types, four);
    match four {
        true => kernel.with_function("added", "v.x + v.y + v.z + v.w".to_string()),
        false => kernel,
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Weight = Weight;
    type Moments = DeviceMoments;
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn device(&self) -> Option<String> {
        let device = &self.device;
        Some(format!(
            "{}, {}, tier {}",
            device.name(),
            device.driver(),
            device.tier()
        ))
    }

    fn peak_bytes(&self) -> Option<u64> {
        Some(self.device.peak_bytes())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.device.free_bytes()
    }

    fn wait(&self) -> Result<()> {
        self.device.wait()
    }

    fn batch_tokens(&self, widest: usize) -> usize {
        // As many as fit one binding with room to spare.
        let fit = self.device.largest() as usize / 4 / widest.max(1);
        fit.clamp(1, GPU_BATCH)
    }

    fn extent(&self, tensor: &Tensor) -> Extent {
        Extent {
            rows: tensor.rows,
            columns: tensor.columns,
            bytes: tensor.len() * tensor.element.bytes(),
        }
    }

    fn weight_extent(&self, weight: &Weight) -> Extent {
        self.extent(&weight.0)
    }

    fn upload_weight(&self, host: Array2<f32>) -> Result<Weight> {
        self.upload(host.view()).map(Weight)
    }

    fn download_weight(&self, weight: &Weight) -> Result<Array2<f32>> {
        self.download(&weight.0)
    }

    fn upload(&self, host: ArrayView2<f32>) -> Result<Tensor> {
        self.upload_as(host, self.stored())
    }

    fn upload_vector(&self, host: ArrayView1<f32>) -> Result<Tensor> {
        self.upload_as(host.insert_axis(ndarray::Axis(0)), Element::F32)
    }

    fn download(&self, tensor: &Tensor) -> Result<Array2<f32>> {
        let size = tensor.element.bytes();
        let mut values = vec![0.0f32; tensor.len()];
        self.device
            .read(&tensor.memory, (tensor.len() * size) as u64, |place, piece| {
                let into = &mut values[place / size..][..piece.len() / size];
                // In parallel, because memory that is written for the first time is slow.
                into.par_chunks_mut(1 << 16)
                    .zip(piece.par_chunks(size << 16))
                    .for_each(|(into, piece)| match tensor.element {
                        Element::F32 => {
                            let piece = piece.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                            into.iter_mut().zip(piece).for_each(|(into, value)| *into = value);
                        }
                        Element::F16 => {
                            let piece = piece.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
                            into.iter_mut().zip(piece).for_each(|(into, value)| *into = value);
                        }
                    });
            })?;
        Ok(Array2::from_shape_vec((tensor.rows, tensor.columns), values).expect("a tensor has its elements"))
    }

    fn embed(&self, table: &Weight, ids: &[u32]) -> Result<Tensor> {
        // The residual stream is kept in 32 bits whatever the weights are.
        self.rows_as(&table.0, ids, Element::F32)
    }

    fn add_positions(&self, x: &mut Tensor, table: &Tensor, offset: usize, length: usize) -> Result<()> {
        let parameters = Elementwise {
            offset: offset as u32,
            length: length as u32,
            ..Elementwise::default()
        };
        self.each("add_positions", x, Some(table), parameters)
    }

    fn as_operand(&self, x: &Tensor) -> Result<Option<Tensor>> {
        self.as_stored(x)
    }

    fn add(&self, x: &mut Tensor, y: &Tensor) -> Result<()> {
        self.each("add", x, Some(y), Elementwise::default())
    }

    fn scale(&self, x: &mut Tensor, factor: f32) -> Result<()> {
        let parameters = Elementwise {
            factor,
            ..Elementwise::default()
        };
        self.each("scale", x, None, parameters)
    }

    fn scale_rows(&self, x: &mut Tensor, factors: &[f32]) -> Result<()> {
        let factors = ArrayView2::from_shape((factors.len(), 1), factors).expect("one column");
        let factors = self.upload_as(factors, Element::F32)?;
        self.each("scale_rows", x, Some(&factors), Elementwise::default())
    }

    fn columns(&self, x: &Tensor, columns: Columns) -> Result<Tensor> {
        let Columns {
            first, width, stride, ..
        } = columns;
        if (first, width) == (0, x.columns) {
            return self.converted(x, x.element);
        }
        let y = self.tensor(x.rows, width * columns.count, x.element)?;
        let parameters = Elementwise {
            first: first as u32,
            run: width as u32,
            stride: stride as u32,
            source_width: x.columns as u32,
            ..Elementwise::default()
        };
        self.each("columns", &y, Some(x), parameters)?;
        Ok(y)
    }

    fn rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        self.rows_as(x, rows, x.element)
    }

    fn normalise(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Tensor>,
        bias: Option<&Tensor>,
        x: &Tensor,
    ) -> Result<Tensor> {
        let y = self.tensor(x.rows, x.columns, self.stored())?;
        let runs = x.len() / width;
        let kernel = norm_kernel(
            shader::NORMALISE,
            "normalise",
            width,
            &[("X", x.element), ("Y", y.element)],
        );
        let parameters = parameters::Normalise {
            runs: runs as u32,
            width: width as u32,
            centred: u32::from(kind == NormKind::Layer),
            epsilon,
            has_gain: u32::from(gain.is_some()),
            has_bias: u32::from(bias.is_some()),
        };
        let bound = [
            read(&x.memory),
            read(gain.map_or(self.nothing(), |gain| &gain.memory)),
            read(bias.map_or(self.nothing(), |bias| &bias.memory)),
            write(&y.memory),
        ];
        self.device.run(&kernel, &parameters, &bound, grid(runs))?;
        Ok(y)
    }

    fn linear(&self, weight: &Weight, bias: Option<&Tensor>, x: &Tensor) -> Result<Tensor> {
        self.multiply(&weight.0, bias, x, self.stored())
    }

    fn rotate(&self, x: &mut Tensor, table: &RotaryTable, head_dim: usize, length: usize) -> Result<()> {
        let there = self.rotary_table(table)?;
        let (heads, pairs) = (x.columns / head_dim, table.cosines.ncols());
        let four = pairs.is_multiple_of(4) && head_dim.is_multiple_of(4);
        let mut kernel = Kernel::new(shader::ROTATE, "rotate").of_features(&[("X", x.element)], four);
        if four {
            let each = |part: &str| {
                let place = |offset: usize| format!("table[at + {offset}u].{part}");
                format!("vec4({}, {}, {}, {})", place(0), place(1), place(2), place(3))
            };
            kernel = kernel
                .with_function("cosines", each("x"))
                .with_function("sines", each("y"));
        }
        let parameters = parameters::Rotate {
            tokens: x.rows as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            pairs: pairs as u32,
            length: length as u32,
        };
        let count = x.rows * heads.div_ceil(ROTATED_HEADS) * if four { pairs / 4 } else { pairs };
        self.device.run(
            &kernel,
            &parameters,
            &[write(&x.memory), read(&there)],
            grid(count.div_ceil(LANES)),
        )
    }

    fn activate(&self, activation: Activation, x: &mut Tensor) -> Result<()> {
        self.each("activate", x, None, activated(activation))
    }

    fn gate(&self, activation: Activation, gate: &Tensor, up: &mut Tensor) -> Result<()> {
        self.each("gate", up, Some(gate), activated(activation))
    }

    fn log_likelihoods(
        &self,
        Weight(head): &Weight,
        softcap: Option<f32>,
        x: &Tensor,
        targets: &[u32],
    ) -> Result<Vec<Likelihood>> {
        let there = self.device.allocate((targets.len() * 4) as u64)?;
        self.device.upload(&there, cast_slice(targets))?;
        let results = self.device.allocate((targets.len() * 8) as u64)?;
        let rows = self.logit_rows(head.rows, x.rows);
        let logits = self.tensor(rows, head.rows, Element::F32)?;
        let kernel = Kernel::new(shader::LIKELIHOOD, "likelihood");
        for first in (0..x.rows).step_by(rows) {
            let count = rows.min(x.rows - first);
            self.multiply_into((head, Filled::Everywhere), None, x, (first, count), (&logits, 0))?;
            let parameters = parameters::Likelihood {
                rows: count as u32,
                vocabulary: head.rows as u32,
                softcap: softcap.unwrap_or(0.0),
                first: first as u32,
            };
            let bound = [read(&logits.memory), read(&there), write(&results)];
            self.device.run(&kernel, &parameters, &bound, grid(count))?;
        }
        let values = self.values(&results, 2 * targets.len())?;
        Ok(values
            .chunks_exact(2)
            .map(|pair| Likelihood {
                log: pair[0],
                greatest: pair[1] >= 0.0,
            })
            .collect())
    }

    fn divergences(
        &self,
        dense: Predictions<Weight, Tensor>,
        other: Predictions<Weight, Tensor>,
    ) -> Result<Vec<Divergence>> {
        let (Weight(dense_head), Weight(head)) = (dense.head, other.head);
        let (all, vocabulary) = (other.x.rows, head.rows);
        let results = self.device.allocate((all * 8) as u64)?;
        let rows = self.logit_rows(vocabulary, all);
        let dense_logits = self.tensor(rows, vocabulary, Element::F32)?;
        let logits = self.tensor(rows, vocabulary, Element::F32)?;
        let kernel = Kernel::new(shader::DIVERGENCE, "divergence");
        for first in (0..all).step_by(rows) {
            let part = (first, rows.min(all - first));
            self.multiply_into(
                (dense_head, Filled::Everywhere),
                None,
                dense.x,
                part,
                (&dense_logits, 0),
            )?;
            self.multiply_into((head, Filled::Everywhere), None, other.x, part, (&logits, 0))?;
            let parameters = parameters::Divergence {
                rows: part.1 as u32,
                vocabulary: vocabulary as u32,
                dense_softcap: dense.softcap.unwrap_or(0.0),
                softcap: other.softcap.unwrap_or(0.0),
                first: first as u32,
            };
            let bound = [read(&dense_logits.memory), read(&logits.memory), write(&results)];
            self.device.run(&kernel, &parameters, &bound, grid(part.1))?;
        }
        let values = self.values(&results, 2 * all)?;
        let pairs = values.chunks_exact(2);
        let of = |pair: &[f64]| Divergence {
            kl: pair[0],
            agrees: pair[1] > 0.0,
        };
        Ok(pairs.map(of).collect())
    }

    fn likeliest(&self, model: Predictions<Weight, Tensor>) -> Result<Vec<u32>> {
        let Weight(head) = model.head;
        let (all, vocabulary) = (model.x.rows, head.rows);
        let rows = self.logit_rows(vocabulary, all);
        let logits = self.tensor(rows, vocabulary, Element::F32)?;
        let mut tokens = Vec::with_capacity(all);
        for first in (0..all).step_by(rows) {
            let count = rows.min(all - first);
            self.multiply_into((head, Filled::Everywhere), None, model.x, (first, count), (&logits, 0))?;
            // These are the last tokens of a few sequences, so that a kernel of its own would save little.
            let values = self.values(&logits.memory, count * vocabulary)?;
            for row in values.chunks_exact(vocabulary) {
                let bounded = row.iter().map(|logit| match model.softcap {
                    None => *logit,
                    Some(bound) => f64::from(bound) * (logit / f64::from(bound)).tanh(),
                });
                tokens.push(greatest(bounded)?);
            }
        }
        Ok(tokens)
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        self.attend(shape, window, length, queries, keys, values)
    }

    fn distances(&self, pairs: &[[&Tensor; 2]]) -> Result<Vec<Distance>> {
        self.all_distances(pairs)
    }

    fn moments(&self, inputs: usize, needs: Needs) -> Result<DeviceMoments> {
        self.empty_moments(inputs, needs)
    }

    fn accumulate(&self, moments: &mut DeviceMoments, x: &Tensor) -> Result<()> {
        self.add_moments(moments, x)
    }

    fn accumulate_cross(&self, moments: &mut DeviceMoments, x: &Tensor, dense: &Tensor) -> Result<()> {
        self.add_cross(moments, x, dense)
    }

    fn accumulate_sums(&self, moments: &mut DeviceMoments, x: &Tensor, weights: &[f64]) -> Result<()> {
        self.add_sums(moments, x, weights)
    }

    fn read_moments(&self, moments: &DeviceMoments) -> Result<Moments> {
        self.read_squares(moments)
    }

    fn zeros(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let zeros = self.tensor(rows, columns, Element::F32)?;
        self.device.clear(&zeros.memory)?;
        Ok(zeros)
    }

    fn interleave(&self, parts: &[&Tensor], run: usize) -> Result<Tensor> {
        self.put_together(parts, run)
    }

    fn normalise_backward(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Tensor>,
        x: &Tensor,
        dy: &Tensor,
    ) -> Result<Tensor> {
        self.norm_slopes(kind, epsilon, width, gain, x, dy)
    }

    fn linear_backward(&self, Weight(weight): &Weight, dy: &Tensor) -> Result<Tensor> {
        let weight = self.transposed_as(weight, (0, weight.rows), weight.element)?;
        let converted = self.as_stored(dy)?;
        self.multiply(&weight, None, converted.as_ref().unwrap_or(dy), self.stored())
    }

    fn attention_backward(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Tensor; 3],
        result: &Tensor,
        dy: &Tensor,
    ) -> Result<[Tensor; 3]> {
        self.attend_backward(shape, window, length, heads, result, dy)
    }

    fn activate_backward(&self, activation: Activation, x: &Tensor, dy: &mut Tensor) -> Result<()> {
        self.each("activate_backward", dy, Some(x), activated(activation))
    }

    fn gate_backward(&self, activation: Activation, gate: &mut Tensor, up: &mut Tensor, dy: &Tensor) -> Result<()> {
        self.gate_slopes(activation, gate, up, dy)
    }

    fn log_likelihoods_backward(
        &self,
        Weight(head): &Weight,
        softcap: Option<f32>,
        x: &Tensor,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, Tensor)> {
        self.likelihood_slopes(head, softcap, x, targets, factors)
    }

    fn accumulate_gradient(
        &self,
        gradient: &mut Gradient<Tensor>,
        dy: &Tensor,
        x: &Tensor,
        sequences: usize,
        factor: f32,
    ) -> Result<()> {
        self.add_gradient(gradient, dy, x, sequences, factor)
    }
}
