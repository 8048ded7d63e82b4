//! A backend that measures another: every operation is waited for, timed, and counted with the arithmetic and
//! the memory traffic that it cannot do without.
//!
//! Waiting costs a little; whole runs are timed without it.

use crate::backend::gradient::Gradient;
use crate::backend::moments::{Moments, Needs};
use crate::backend::{Backend, Columns, Distance, Divergence, Extent, Likelihood, Predictions, RotaryTable};
use crate::error::Result;
use crate::spec::{Activation, AttentionSpec, NormKind};
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// Time and work of one kind of operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tally {
    /// How often the operation ran.
    pub calls: u64,
    /// Seconds for all its runs together.
    pub seconds: f64,
    /// Number of multiplications and additions in all runs.
    pub flops: f64,
    /// Bytes of operands and results, each counted once per run.
    pub bytes: f64,
}

/// A backend that passes every operation to another one and measures its time.
pub struct Timed<'a, B> {
    inner: &'a B,
    tallies: Mutex<BTreeMap<&'static str, Tally>>,
}

impl<'a, B: Backend> Timed<'a, B> {
    /// Wraps a backend; nothing is measured yet.
    pub fn new(inner: &'a B) -> Self {
        Timed {
            inner,
            tallies: Mutex::default(),
        }
    }

    /// The backend that computes the operations.
    pub(crate) fn inner(&self) -> &'a B {
        self.inner
    }

    /// The measurements so far, by name of the operation.
    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        self.tallies
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Runs one operation and adds its time and work to the measurements.
    pub(crate) fn time<T>(
        &self,
        name: &'static str,
        flops: f64,
        bytes: usize,
        operation: impl FnOnce(&'a B) -> Result<T>,
    ) -> Result<T> {
        self.inner.wait()?;
        let started = Instant::now();
        let result = operation(self.inner)?;
        self.inner.wait()?;
        let seconds = started.elapsed().as_secs_f64();
        let mut tallies = self.tallies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let tally = tallies.entry(name).or_default();
        tally.calls += 1;
        tally.seconds += seconds;
        tally.flops += flops;
        tally.bytes += bytes as f64;
        Ok(result)
    }

    fn bytes(&self, tensors: &[&B::Tensor]) -> usize {
        tensors.iter().map(|tensor| self.inner.extent(tensor).bytes).sum()
    }
}

impl<B: Backend> Backend for Timed<'_, B> {
    type Tensor = B::Tensor;
    type Weight = B::Weight;
    type Moments = (B::Moments, Needs);

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn device(&self) -> Option<String> {
        self.inner.device()
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.inner.peak_bytes()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn wait(&self) -> Result<()> {
        self.inner.wait()
    }

    fn batch_tokens(&self, widest: usize) -> usize {
        self.inner.batch_tokens(widest)
    }

    fn extent(&self, tensor: &B::Tensor) -> Extent {
        self.inner.extent(tensor)
    }

    fn weight_extent(&self, weight: &B::Weight) -> Extent {
        self.inner.weight_extent(weight)
    }

    fn upload_weight(&self, host: Array2<f32>) -> Result<B::Weight> {
        // As uploads of tensors.
        self.inner.upload_weight(host)
    }

    fn download_weight(&self, weight: &B::Weight) -> Result<Array2<f32>> {
        let bytes = self.weight_extent(weight).bytes;
        self.time("download", 0.0, bytes, |inner| inner.download_weight(weight))
    }

    fn upload(&self, host: ArrayView2<f32>) -> Result<B::Tensor> {
        // Uploads run beside other work, so their time would be counted twice.
        self.inner.upload(host)
    }

    fn upload_vector(&self, host: ArrayView1<f32>) -> Result<B::Tensor> {
        self.inner.upload_vector(host)
    }

    fn download(&self, tensor: &B::Tensor) -> Result<Array2<f32>> {
        self.time("download", 0.0, self.bytes(&[tensor]), |inner| inner.download(tensor))
    }

    fn embed(&self, table: &B::Weight, ids: &[u32]) -> Result<B::Tensor> {
        let bytes = 8 * ids.len() * self.weight_extent(table).columns;
        self.time("embed", 0.0, bytes, |inner| inner.embed(table, ids))
    }

    fn add_positions(&self, x: &mut B::Tensor, table: &B::Tensor, offset: usize, length: usize) -> Result<()> {
        self.time("add_positions", 0.0, 2 * self.bytes(&[x]), |inner| {
            inner.add_positions(x, table, offset, length)
        })
    }

    fn as_operand(&self, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        self.time("as operand", 0.0, 2 * self.bytes(&[x]), |inner| inner.as_operand(x))
    }

    fn add(&self, x: &mut B::Tensor, y: &B::Tensor) -> Result<()> {
        self.time("add", 0.0, self.bytes(&[x, x, y]), |inner| inner.add(x, y))
    }

    fn scale(&self, x: &mut B::Tensor, factor: f32) -> Result<()> {
        self.time("scale", 0.0, 2 * self.bytes(&[x]), |inner| inner.scale(x, factor))
    }

    fn scale_rows(&self, x: &mut B::Tensor, factors: &[f32]) -> Result<()> {
        self.time("scale rows", 0.0, 2 * self.bytes(&[x]), |inner| {
            inner.scale_rows(x, factors)
        })
    }

    fn columns(&self, x: &B::Tensor, columns: Columns) -> Result<B::Tensor> {
        let Extent {
            columns: all, bytes, ..
        } = self.extent(x);
        let moved = 2 * bytes / all * (columns.width * columns.count);
        self.time("columns", 0.0, moved, |inner| inner.columns(x, columns))
    }

    fn rows(&self, x: &B::Tensor, rows: &[u32]) -> Result<B::Tensor> {
        let Extent { rows: all, bytes, .. } = self.extent(x);
        let moved = 2 * bytes / all * rows.len();
        self.time("rows", 0.0, moved, |inner| inner.rows(x, rows))
    }

    fn normalise(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&B::Tensor>,
        bias: Option<&B::Tensor>,
        x: &B::Tensor,
    ) -> Result<B::Tensor> {
        self.time("normalise", 0.0, 2 * self.bytes(&[x]), |inner| {
            inner.normalise(kind, epsilon, width, gain, bias, x)
        })
    }

    fn linear(&self, weight: &B::Weight, bias: Option<&B::Tensor>, x: &B::Tensor) -> Result<B::Tensor> {
        let (w, rows) = (self.weight_extent(weight), self.extent(x).rows);
        let flops = 2.0 * (rows * w.rows) as f64 * w.columns as f64;
        let results = w.bytes / w.columns * rows;
        self.time("linear", flops, w.bytes + self.bytes(&[x]) + results, |inner| {
            inner.linear(weight, bias, x)
        })
    }

    fn rotate(&self, x: &mut B::Tensor, table: &RotaryTable, head_dim: usize, length: usize) -> Result<()> {
        self.time("rotate", 0.0, 2 * self.bytes(&[x]), |inner| {
            inner.rotate(x, table, head_dim, length)
        })
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &B::Tensor,
        keys: &B::Tensor,
        values: &B::Tensor,
    ) -> Result<B::Tensor> {
        let rows = self.extent(queries).rows;
        let seen: usize = (1..=length).map(|tokens| tokens.min(window.unwrap_or(tokens))).sum();
        let flops = 4.0 * (rows / length * seen) as f64 * (shape.heads * shape.head_dim) as f64;
        let bytes = self.bytes(&[queries, queries, keys, values]);
        self.time("attention", flops, bytes, |inner| {
            inner.attention(shape, window, length, queries, keys, values)
        })
    }

    fn activate(&self, activation: Activation, x: &mut B::Tensor) -> Result<()> {
        self.time("activate", 0.0, 2 * self.bytes(&[x]), |inner| {
            inner.activate(activation, x)
        })
    }

    fn gate(&self, activation: Activation, gate: &B::Tensor, up: &mut B::Tensor) -> Result<()> {
        self.time("gate", 0.0, self.bytes(&[gate, up, up]), |inner| {
            inner.gate(activation, gate, up)
        })
    }

    fn log_likelihoods(
        &self,
        head: &B::Weight,
        softcap: Option<f32>,
        x: &B::Tensor,
        targets: &[u32],
    ) -> Result<Vec<Likelihood>> {
        let w = self.weight_extent(head);
        let flops = 2.0 * (targets.len() * w.rows) as f64 * w.columns as f64;
        self.time("log_likelihoods", flops, w.bytes + self.bytes(&[x]), |inner| {
            inner.log_likelihoods(head, softcap, x, targets)
        })
    }

    fn divergences(
        &self,
        dense: Predictions<B::Weight, B::Tensor>,
        other: Predictions<B::Weight, B::Tensor>,
    ) -> Result<Vec<Divergence>> {
        let rows = self.extent(other.x).rows;
        let heads = [dense.head, other.head].map(|head| self.weight_extent(head));
        let flops: f64 = heads
            .iter()
            .map(|w| 2.0 * (rows * w.rows) as f64 * w.columns as f64)
            .sum();
        let bytes = heads.iter().map(|w| w.bytes).sum::<usize>() + self.bytes(&[dense.x, other.x]);
        self.time("divergences", flops, bytes, |inner| inner.divergences(dense, other))
    }

    fn likeliest(&self, model: Predictions<B::Weight, B::Tensor>) -> Result<Vec<u32>> {
        let w = self.weight_extent(model.head);
        let flops = 2.0 * (self.extent(model.x).rows * w.rows) as f64 * w.columns as f64;
        let bytes = w.bytes + self.bytes(&[model.x]);
        self.time("likeliest", flops, bytes, |inner| inner.likeliest(model))
    }

    fn distances(&self, pairs: &[[&B::Tensor; 2]]) -> Result<Vec<Distance>> {
        let bytes = pairs.iter().map(|pair| self.bytes(pair)).sum();
        self.time("distances", 0.0, bytes, |inner| inner.distances(pairs))
    }

    fn moments(&self, inputs: usize, needs: Needs) -> Result<Self::Moments> {
        Ok((self.inner.moments(inputs, needs)?, needs))
    }

    fn accumulate(&self, moments: &mut Self::Moments, x: &B::Tensor) -> Result<()> {
        let Extent { rows, columns, bytes } = self.extent(x);
        let (moments, needs) = moments;
        // The triangle, and the sums of squares.
        let gram = if needs.gram { (columns + 1) * columns } else { 0 };
        let name = if needs.gram {
            "accumulate gram"
        } else {
            "accumulate squares"
        };
        self.time(name, rows as f64 * (gram + 2 * columns) as f64, bytes, |inner| {
            inner.accumulate(moments, x)
        })
    }

    fn accumulate_cross(&self, moments: &mut Self::Moments, x: &B::Tensor, dense: &B::Tensor) -> Result<()> {
        let Extent { rows, columns, bytes } = self.extent(x);
        let flops = 2.0 * rows as f64 * (columns * columns) as f64;
        self.time("accumulate cross", flops, 2 * bytes, |inner| {
            inner.accumulate_cross(&mut moments.0, x, dense)
        })
    }

    fn accumulate_sums(&self, moments: &mut Self::Moments, x: &B::Tensor, weights: &[f64]) -> Result<()> {
        let Extent { rows, columns, bytes } = self.extent(x);
        self.time("accumulate sums", (rows * columns) as f64, bytes, |inner| {
            inner.accumulate_sums(&mut moments.0, x, weights)
        })
    }

    fn read_moments(&self, moments: &Self::Moments) -> Result<Moments> {
        self.time("read moments", 0.0, 0, |inner| inner.read_moments(&moments.0))
    }

    fn zeros(&self, rows: usize, columns: usize) -> Result<B::Tensor> {
        self.time("zeros", 0.0, 4 * rows * columns, |inner| inner.zeros(rows, columns))
    }

    fn interleave(&self, parts: &[&B::Tensor], run: usize) -> Result<B::Tensor> {
        self.time("interleave", 0.0, 2 * self.bytes(parts), |inner| {
            inner.interleave(parts, run)
        })
    }

    fn normalise_backward(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&B::Tensor>,
        x: &B::Tensor,
        dy: &B::Tensor,
    ) -> Result<B::Tensor> {
        self.time("normalise_backward", 0.0, self.bytes(&[x, dy, dy]), |inner| {
            inner.normalise_backward(kind, epsilon, width, gain, x, dy)
        })
    }

    fn linear_backward(&self, weight: &B::Weight, dy: &B::Tensor) -> Result<B::Tensor> {
        let (w, rows) = (self.weight_extent(weight), self.extent(dy).rows);
        let flops = 2.0 * (rows * w.rows) as f64 * w.columns as f64;
        let results = w.bytes / w.rows * rows;
        self.time(
            "linear_backward",
            flops,
            w.bytes + self.bytes(&[dy]) + results,
            |inner| inner.linear_backward(weight, dy),
        )
    }

    fn attention_backward(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&B::Tensor; 3],
        result: &B::Tensor,
        dy: &B::Tensor,
    ) -> Result<[B::Tensor; 3]> {
        let rows = self.extent(dy).rows;
        let seen: usize = (1..=length).map(|tokens| tokens.min(window.unwrap_or(tokens))).sum();
        // Five products: scores once more, and one for each of weights, queries, keys and values.
        let flops = 10.0 * (rows / length * seen) as f64 * (shape.heads * shape.head_dim) as f64;
        let bytes = 2 * self.bytes(&heads) + self.bytes(&[result, dy]);
        self.time("attention_backward", flops, bytes, |inner| {
            inner.attention_backward(shape, window, length, heads, result, dy)
        })
    }

    fn activate_backward(&self, activation: Activation, x: &B::Tensor, dy: &mut B::Tensor) -> Result<()> {
        self.time("activate_backward", 0.0, self.bytes(&[x, dy, dy]), |inner| {
            inner.activate_backward(activation, x, dy)
        })
    }

    fn gate_backward(
        &self,
        activation: Activation,
        gate: &mut B::Tensor,
        up: &mut B::Tensor,
        dy: &B::Tensor,
    ) -> Result<()> {
        let bytes = 2 * self.bytes(&[gate, up]) + self.bytes(&[dy]);
        self.time("gate_backward", 0.0, bytes, |inner| {
            inner.gate_backward(activation, gate, up, dy)
        })
    }

    fn log_likelihoods_backward(
        &self,
        head: &B::Weight,
        softcap: Option<f32>,
        x: &B::Tensor,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, B::Tensor)> {
        let w = self.weight_extent(head);
        let flops = 4.0 * (targets.len() * w.rows) as f64 * w.columns as f64;
        let bytes = w.bytes + self.bytes(&[x, x]);
        self.time("log_likelihoods_backward", flops, bytes, |inner| {
            inner.log_likelihoods_backward(head, softcap, x, targets, factors)
        })
    }

    fn accumulate_gradient(
        &self,
        gradient: &mut Gradient<B::Tensor>,
        dy: &B::Tensor,
        x: &B::Tensor,
        sequences: usize,
        factor: f32,
    ) -> Result<()> {
        let Extent { rows, columns, .. } = self.extent(x);
        let outputs = self.extent(dy).columns;
        let sums = [&gradient.sum, &gradient.squares, &gradient.magnitudes];
        let sums: usize = sums.into_iter().flatten().map(|sum| self.extent(sum).bytes).sum();
        let flops = 2.0 * (rows * columns) as f64 * outputs as f64;
        let bytes = self.bytes(&[dy, x]) + 2 * sums;
        self.time("accumulate_gradient", flops, bytes, |inner| {
            inner.accumulate_gradient(gradient, dy, x, sequences, factor)
        })
    }
}
