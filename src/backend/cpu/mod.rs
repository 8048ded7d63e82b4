//! The CPU backend: ndarray for storage, faer and own tiles for products, rayon over rows. It is the reference,
//! written to be read.
//!
//! Work is cut into pieces of fixed size, never by the number of threads, and partial results are
//! added in order: the same input gives the same bits on one core and on many.

mod attention;
mod attention_backward;
mod bf16;
mod divergence;
mod elements;
mod elementwise;
mod elementwise_backward;
mod gram;
mod instructions;
mod kernel;
mod packed;
mod panels;
pub(crate) mod product;
mod product_backward;
pub(crate) mod simd;

/// Sizes of what exists for a while inside an operation: forecasts of memory count with them.
pub use self::{
    attention::TILE as SCORE_ROWS, gram::WIDENED_ROWS, kernel::Bf16Kernel, packed::Packed, product::LOGIT_ROWS,
    product_backward::LOGIT_ROWS as GRADIENT_LOGIT_ROWS,
};

use crate::backend::gradient::Gradient;
use crate::backend::moments::{Moments, Needs};
use crate::backend::{Backend, Columns, Distance, Divergence, Extent, Likelihood, Predictions, RotaryTable};
use crate::choices;
use crate::error::{Error, Result};
use crate::spec::{Activation, AttentionSpec, NormKind};
use ndarray::{Array2, ArrayView2, s};
use std::ops::Range;

/// Number of tokens in a batch: enough to keep every core busy, and few enough that the activations of one batch are
/// small compared with the residual stream.
const BATCH_TOKENS: usize = 4096;

/// Names a kernel for products of bfloat16 numbers.
const VARIABLE: &str = "ZPRUNE_BF16_KERNEL";

/// Computes on this machine's cores, in single precision.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

/// Computes on this machine's cores; the operands of linear layers, of attention's two products and of the head are
/// rounded to bfloat16, sums and everything else stay in single precision.
#[derive(Debug, Clone, Copy)]
pub struct CpuBf16(kernel::Kernel);

impl CpuBf16 {
    /// Uses the fastest kernel that this processor has.
    pub fn new() -> Self {
        CpuBf16(kernel::Kernel::best())
    }

    /// Uses a certain kernel.
    ///
    /// # Errors
    /// This processor does not have it.
    pub fn with(kernel: Bf16Kernel) -> Result<Self> {
        let found = kernel::Kernel::here(kernel).map(CpuBf16);
        found.ok_or_else(|| {
            let name = choices::name(&kernel);
            let here: Vec<String> = Bf16Kernel::ALL
                .into_iter()
                .filter(|kernel| kernel::Kernel::here(*kernel).is_some())
                .map(|kernel| choices::name(&kernel))
                .collect();
            Error::config(format!(
                "{VARIABLE} = {name}: this processor has no {}, or the system does not let programs use it; it has: {}",
                kernel.describe(),
                here.join(", ")
            ))
        })
    }

    /// Uses the kernel that `ZPRUNE_BF16_KERNEL` names, or the fastest.
    ///
    /// # Errors
    /// The variable names no kernel, or one that this processor does not have.
    pub fn or_environment() -> Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => {
                let kernel = choices::named("kernel", &name.to_lowercase());
                kernel.map_err(|error| error.at(VARIABLE)).and_then(CpuBf16::with)
            }
            _ => Ok(CpuBf16::new()),
        }
    }

    /// The kernel that computes.
    pub fn kernel(&self) -> Bf16Kernel {
        self.0.name()
    }
}

impl Default for CpuBf16 {
    fn default() -> Self {
        CpuBf16::new()
    }
}

/// The matrix products of a CPU backend; all other operations, and all adjoints, are the same in every precision.
pub trait Products: Send + Sync {
    /// A weight as these products take it.
    type Weight: Send + Sync;

    /// Makes a weight of a row-major matrix.
    fn weight(values: Array2<f32>) -> Self::Weight;

    /// The values of a weight, as they were given.
    fn values(weight: &Self::Weight) -> &Array2<f32>;

    /// The values of a weight, to change.
    fn values_mut(weight: &mut Self::Weight) -> &mut Array2<f32>;

    /// The implementation's name, if the machine's name does not tell it.
    fn device(&self) -> Option<String>;

    /// The product of [`Backend::linear`].
    fn linear(&self, weight: &Self::Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32>;

    /// [`Backend::attention`], of `[queries, keys, values]`.
    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Array2<f32>; 3],
    ) -> Array2<f32>;

    /// The product of [`Backend::log_likelihoods`].
    fn log_likelihoods(
        &self,
        head: &Self::Weight,
        softcap: Option<f32>,
        x: &Array2<f32>,
        targets: &[u32],
    ) -> Vec<Likelihood>;
}

impl Products for Cpu {
    /// Products in single precision take a matrix as it is.
    type Weight = Array2<f32>;

    fn weight(values: Array2<f32>) -> Array2<f32> {
        values
    }

    fn values(weight: &Array2<f32>) -> &Array2<f32> {
        weight
    }

    fn values_mut(weight: &mut Array2<f32>) -> &mut Array2<f32> {
        weight
    }

    fn device(&self) -> Option<String> {
        None
    }

    fn linear(&self, weight: &Self::Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32> {
        product::linear(weight, bias, x)
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        [queries, keys, values]: [&Array2<f32>; 3],
    ) -> Array2<f32> {
        let heads = attention::Single {
            shape,
            length,
            keys,
            values,
        };
        attention::causal(&heads, shape, window, length, queries)
    }

    fn log_likelihoods(
        &self,
        head: &Self::Weight,
        softcap: Option<f32>,
        x: &Array2<f32>,
        targets: &[u32],
    ) -> Vec<Likelihood> {
        product::log_likelihoods(head, softcap, x, targets)
    }
}

impl Products for CpuBf16 {
    type Weight = bf16::Weight;

    fn weight(values: Array2<f32>) -> bf16::Weight {
        bf16::Weight::new(values)
    }

    fn values(weight: &bf16::Weight) -> &Array2<f32> {
        weight.values()
    }

    fn values_mut(weight: &mut bf16::Weight) -> &mut Array2<f32> {
        weight.values_mut()
    }

    fn device(&self) -> Option<String> {
        Some(self.0.name().describe().to_string())
    }

    fn linear(&self, weight: &Self::Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32> {
        bf16::linear(self.0, weight, bias, x)
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Array2<f32>; 3],
    ) -> Array2<f32> {
        bf16::attention(self.0, shape, window, length, heads)
    }

    fn log_likelihoods(
        &self,
        head: &Self::Weight,
        softcap: Option<f32>,
        x: &Array2<f32>,
        targets: &[u32],
    ) -> Vec<Likelihood> {
        bf16::log_likelihoods(self.0, head, softcap, x, targets)
    }
}

/// Some rows of a model's logits.
fn logits<P: Products>(products: &P, model: &Predictions<P::Weight, Array2<f32>>, rows: Range<usize>) -> Array2<f32> {
    let x = model.x.slice(s![rows, ..]).to_owned();
    divergence::bounded(Products::linear(products, model.head, None, &x), model.softcap)
}

impl<P: Products> Backend for P {
    type Tensor = Array2<f32>;
    type Weight = P::Weight;
    type Moments = Moments;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn device(&self) -> Option<String> {
        Products::device(self)
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn batch_tokens(&self, _widest: usize) -> usize {
        BATCH_TOKENS
    }

    fn weight_extent(&self, weight: &P::Weight) -> Extent {
        self.extent(P::values(weight))
    }

    fn upload_weight(&self, host: Array2<f32>) -> Result<P::Weight> {
        self.take(host).map(P::weight)
    }

    fn download_weight(&self, weight: &P::Weight) -> Result<Array2<f32>> {
        self.download(P::values(weight))
    }

    fn extent(&self, tensor: &Array2<f32>) -> Extent {
        Extent {
            rows: tensor.nrows(),
            columns: tensor.ncols(),
            bytes: 4 * tensor.len(),
        }
    }

    fn upload(&self, host: ArrayView2<f32>) -> Result<Array2<f32>> {
        Ok(host.as_standard_layout().into_owned())
    }

    fn take(&self, host: Array2<f32>) -> Result<Array2<f32>> {
        if host.is_standard_layout() {
            return Ok(host);
        }
        self.upload(host.view())
    }

    fn download(&self, tensor: &Array2<f32>) -> Result<Array2<f32>> {
        Ok(tensor.clone())
    }

    fn embed(&self, table: &P::Weight, ids: &[u32]) -> Result<Array2<f32>> {
        Ok(elementwise::rows(P::values(table), ids))
    }

    fn add_positions(&self, x: &mut Array2<f32>, table: &Array2<f32>, offset: usize, length: usize) -> Result<()> {
        elementwise::add_positions(x, table, offset, length);
        Ok(())
    }

    fn add(&self, x: &mut Array2<f32>, y: &Array2<f32>) -> Result<()> {
        elementwise::add(x, y);
        Ok(())
    }

    fn scale(&self, x: &mut Array2<f32>, factor: f32) -> Result<()> {
        elementwise::scale(x, factor);
        Ok(())
    }

    fn scale_rows(&self, x: &mut Array2<f32>, factors: &[f32]) -> Result<()> {
        elementwise::scale_rows(x, factors);
        Ok(())
    }

    fn columns(&self, x: &Array2<f32>, columns: Columns) -> Result<Array2<f32>> {
        Ok(elementwise::columns(x, columns))
    }

    fn rows(&self, x: &Array2<f32>, rows: &[u32]) -> Result<Array2<f32>> {
        Ok(elementwise::rows(x, rows))
    }

    fn normalise(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Array2<f32>>,
        bias: Option<&Array2<f32>>,
        x: &Array2<f32>,
    ) -> Result<Array2<f32>> {
        Ok(elementwise::normalise(kind, epsilon, width, gain, bias, x))
    }

    fn linear(&self, weight: &P::Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Result<Array2<f32>> {
        Ok(Products::linear(self, weight, bias, x))
    }

    fn rotate(&self, x: &mut Array2<f32>, table: &RotaryTable, head_dim: usize, length: usize) -> Result<()> {
        elementwise::rotate(x, table, head_dim, length);
        Ok(())
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &Array2<f32>,
        keys: &Array2<f32>,
        values: &Array2<f32>,
    ) -> Result<Array2<f32>> {
        Ok(Products::attention(
            self,
            shape,
            window,
            length,
            [queries, keys, values],
        ))
    }

    fn activate(&self, activation: Activation, x: &mut Array2<f32>) -> Result<()> {
        elementwise::activate(activation, x);
        Ok(())
    }

    fn gate(&self, activation: Activation, gate: &Array2<f32>, up: &mut Array2<f32>) -> Result<()> {
        elementwise::gate(activation, gate, up);
        Ok(())
    }

    fn log_likelihoods(
        &self,
        head: &P::Weight,
        softcap: Option<f32>,
        x: &Array2<f32>,
        targets: &[u32],
    ) -> Result<Vec<Likelihood>> {
        Ok(Products::log_likelihoods(self, head, softcap, x, targets))
    }

    fn divergences(
        &self,
        dense: Predictions<P::Weight, Array2<f32>>,
        other: Predictions<P::Weight, Array2<f32>>,
    ) -> Result<Vec<Divergence>> {
        let of = |rows| logits(self, &dense, rows);
        Ok(divergence::divergences(other.x.nrows(), &of, &|rows| {
            logits(self, &other, rows)
        }))
    }

    fn likeliest(&self, model: Predictions<P::Weight, Array2<f32>>) -> Result<Vec<u32>> {
        divergence::likeliest(model.x.nrows(), &|rows| logits(self, &model, rows))
    }

    fn distances(&self, pairs: &[[&Array2<f32>; 2]]) -> Result<Vec<Distance>> {
        let square = |value: f64| value * value;
        let of = |[x, z]: &[&Array2<f32>; 2]| Distance {
            all: x.iter().map(|value| square(f64::from(*value))).sum(),
            away: x
                .iter()
                .zip(*z)
                .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
                .sum(),
        };
        Ok(pairs.iter().map(of).collect())
    }

    fn moments(&self, inputs: usize, needs: Needs) -> Result<Moments> {
        Ok(Moments::new(inputs, needs))
    }

    fn accumulate(&self, moments: &mut Moments, x: &Array2<f32>) -> Result<()> {
        gram::accumulate(moments, x);
        Ok(())
    }

    fn accumulate_cross(&self, moments: &mut Moments, x: &Array2<f32>, dense: &Array2<f32>) -> Result<()> {
        gram::accumulate_cross(moments, x, dense);
        Ok(())
    }

    fn accumulate_sums(&self, moments: &mut Moments, x: &Array2<f32>, weights: &[f64]) -> Result<()> {
        gram::accumulate_sums(moments, x, weights);
        Ok(())
    }

    fn read_moments(&self, moments: &Moments) -> Result<Moments> {
        Ok(Moments {
            gram: None,
            cross: None,
            goal: None,
            ..moments.clone()
        })
    }

    fn zeros(&self, rows: usize, columns: usize) -> Result<Array2<f32>> {
        Ok(Array2::zeros((rows, columns)))
    }

    fn interleave(&self, parts: &[&Array2<f32>], run: usize) -> Result<Array2<f32>> {
        Ok(elementwise::interleave(parts, run))
    }

    fn normalise_backward(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Array2<f32>>,
        x: &Array2<f32>,
        dy: &Array2<f32>,
    ) -> Result<Array2<f32>> {
        Ok(elementwise_backward::normalise(kind, epsilon, width, gain, x, dy))
    }

    fn linear_backward(&self, weight: &P::Weight, dy: &Array2<f32>) -> Result<Array2<f32>> {
        Ok(product_backward::linear(P::values(weight), dy))
    }

    fn attention_backward(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Array2<f32>; 3],
        result: &Array2<f32>,
        dy: &Array2<f32>,
    ) -> Result<[Array2<f32>; 3]> {
        Ok(attention_backward::causal(&attention_backward::Given {
            shape,
            window,
            length,
            heads,
            result,
            dy,
        }))
    }

    fn activate_backward(&self, activation: Activation, x: &Array2<f32>, dy: &mut Array2<f32>) -> Result<()> {
        elementwise_backward::activate(activation, x, dy);
        Ok(())
    }

    fn gate_backward(
        &self,
        activation: Activation,
        gate: &mut Array2<f32>,
        up: &mut Array2<f32>,
        dy: &Array2<f32>,
    ) -> Result<()> {
        elementwise_backward::gate(activation, gate, up, dy);
        Ok(())
    }

    fn log_likelihoods_backward(
        &self,
        head: &P::Weight,
        softcap: Option<f32>,
        x: &Array2<f32>,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, Array2<f32>)> {
        Ok(product_backward::log_likelihoods(
            P::values(head),
            softcap,
            x,
            targets,
            factors,
        ))
    }

    fn accumulate_gradient(
        &self,
        gradient: &mut Gradient<Array2<f32>>,
        dy: &Array2<f32>,
        x: &Array2<f32>,
        sequences: usize,
        factor: f32,
    ) -> Result<()> {
        product_backward::accumulate(gradient, dy, x, sequences, factor);
        Ok(())
    }
}
