//! The backend contract: the dozen operations a transformer needs, and their adjoints, on row-major activations.
//!
//! An activation is a matrix `(tokens, features)` holding whole sequences one after the other. There
//! are no strides, views, data types or key/value caches here: the program scores text, it does not
//! chat. An operation that a backend lacks does not compile, and nothing falls back from one backend
//! to another.
//!
//! How closely two backends must agree is declared per operation in [`OPERATIONS`], and one contract
//! test (`tests/backend_contract`) holds every operation of every backend against a plain `f64` loop.

pub mod choice;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod gradient;
pub mod moments;
#[cfg(not(feature = "gpu"))]
#[path = "no_adapter.rs"]
pub mod adapter;
pub mod timed;

use crate::error::{Error, Result};
use crate::spec::{Activation, AttentionSpec, NormKind};
#[cfg(feature = "gpu")]
pub use gpu::adapter;
use gradient::Gradient;
use moments::{Moments, Needs};
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// How closely an operation must agree with its `f64` reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Agreement {
    /// The result must be the same, bit for bit.
    Exact,
    /// The result must be close: `|got - want| <= abs + rel * max|want|`.
    Close {
        /// Allowed absolute difference.
        abs: f64,
        /// Allowed difference relative to the largest magnitude in the wanted result.
        rel: f64,
    },
}

/// Every operation of [`Backend`] by name, and how closely it must agree with its reference.
pub const OPERATIONS: &[(&str, Agreement)] = &[
    ("upload and download", Agreement::Exact),
    ("upload_weight and download_weight", Agreement::Exact),
    ("embed", Agreement::Exact),
    ("add_positions", Agreement::Close { abs: 0.0, rel: 1e-7 }),
    ("add", Agreement::Close { abs: 0.0, rel: 1e-7 }),
    ("scale", Agreement::Close { abs: 0.0, rel: 1e-7 }),
    ("scale_rows", Agreement::Close { abs: 0.0, rel: 1e-7 }),
    ("columns", Agreement::Exact),
    ("rows", Agreement::Exact),
    ("normalise", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("linear", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("rotate", Agreement::Close { abs: 0.0, rel: 1e-6 }),
    ("attention", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("activate", Agreement::Close { abs: 1e-7, rel: 1e-6 }),
    ("gate", Agreement::Close { abs: 1e-7, rel: 1e-6 }),
    ("log_likelihoods", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("divergences", Agreement::Close { abs: 2e-6, rel: 1e-5 }),
    ("likeliest", Agreement::Exact),
    ("distances", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("accumulate squares", Agreement::Close { abs: 0.0, rel: 5e-7 }),
    ("accumulate gram", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("accumulate cross", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("accumulate sums", Agreement::Close { abs: 0.0, rel: 5e-7 }),
    ("interleave", Agreement::Exact),
    ("normalise_backward", Agreement::Close { abs: 0.0, rel: 1e-5 }),
    ("linear_backward", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("attention_backward", Agreement::Close { abs: 0.0, rel: 2e-5 }),
    ("activate_backward", Agreement::Close { abs: 1e-7, rel: 5e-6 }),
    ("gate_backward", Agreement::Close { abs: 1e-7, rel: 5e-6 }),
    ("log_likelihoods_backward", Agreement::Close { abs: 0.0, rel: 1e-5 }),
    ("accumulate_gradient", Agreement::Close { abs: 0.0, rel: 1e-5 }),
];

/// The number format in which weights and activations are stored and multiplied. Sums have 32 bits or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Single precision (f32) throughout.
    #[default]
    F32,
    /// Half precision, as the papers' code; the residual stream stays in single precision. GPU only.
    F16,
    /// bfloat16 operands of products, everything else in single precision. CPU only.
    Bf16,
}

impl Compute {
    /// The format's name in experiments, records and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Compute::F32 => "f32",
            Compute::F16 => "f16",
            Compute::Bf16 => "bf16",
        }
    }

    /// Whether this is single precision: the default, which records leave out.
    pub fn is_default(&self) -> bool {
        *self == Compute::default()
    }
}

/// Runs of columns to copy: `count` runs of `width` columns each. The first run begins at column `first`, each
/// further one `stride` columns after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Index of the first column of the first run.
    pub first: usize,
    /// Number of columns per run.
    pub width: usize,
    /// Number of columns from the start of one run to the start of the next.
    pub stride: usize,
    /// Number of runs to copy.
    pub count: usize,
}

/// Sines and cosines of rotary positions, each with one row per position and one column per pair of features.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTable {
    /// The values `cos(position * frequency)`.
    pub cosines: Array2<f32>,
    /// The values `sin(position * frequency)`.
    pub sines: Array2<f32>,
}

impl RotaryTable {
    /// The table of positions `0..length` for one angular frequency per pair.
    pub fn new(frequencies: &[f32], length: usize) -> Self {
        // The angle is rounded to f32 first, as in the reference implementations.
        let angle = |position: usize, pair: usize| f64::from(position as f32 * frequencies[pair]);
        let shape = (length, frequencies.len());
        RotaryTable {
            cosines: Array2::from_shape_fn(shape, |(position, pair)| angle(position, pair).cos() as f32),
            sines: Array2::from_shape_fn(shape, |(position, pair)| angle(position, pair).sin() as f32),
        }
    }

    /// The table that rotates back. A rotation's inverse is its adjoint, so gradients are rotated with it.
    #[must_use]
    pub fn inverse(&self) -> Self {
        RotaryTable {
            cosines: self.cosines.clone(),
            sines: -&self.sines,
        }
    }
}

/// How likely a model finds a token after the tokens before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Log-likelihood of the token, in nats.
    pub log: f64,
    /// Whether no other token of the vocabulary is more likely.
    pub greatest: bool,
}

/// How far the next token's distribution in one model is from that in the dense model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Kullback-Leibler divergence `sum p ln(p / q)` of the other model's probabilities `q` from the dense model's `p`, in nats.
    pub kl: f64,
    /// Whether both models find the same token likeliest; of equally likely ones the first counts.
    pub agrees: bool,
}

/// How far a matrix is from another one of the same size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The sum of the squares of the first matrix' entries.
    pub all: f64,
    /// The sum of the squares of the differences of the entries.
    pub away: f64,
}

impl Distance {
    /// The sum of squared differences in units of the first matrix' squares; `None` if all its entries are 0.
    pub fn relative(self) -> Option<f64> {
        (self.all > 0.0).then(|| self.away / self.all)
    }
}

/// What a model predicts after every row of `x`: the softmax of the logits `x head^T`, bounded by `softcap` where there is one.
pub struct Predictions<'a, W, T> {
    /// The model's head.
    pub head: &'a W,
    /// The bound of its logits.
    pub softcap: Option<f32>,
    /// The inputs of the head.
    pub x: &'a T,
}

/// The place of the greatest of a row's logits, the first of equals.
///
/// # Errors
/// A logit is not finite.
fn greatest(logits: impl Iterator<Item = f64>) -> Result<u32> {
    let mut best = (0, f64::NEG_INFINITY);
    for (place, logit) in logits.enumerate() {
        if !logit.is_finite() {
            return Err(Error::numeric(format!("the logit of token {place} is {logit}")));
        }
        if logit > best.1 {
            best = (place as u32, logit);
        }
    }
    Ok(best.0)
}

/// The size of a tensor in a backend's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of rows of the tensor.
    pub rows: usize,
    /// Number of columns of the tensor.
    pub columns: usize,
    /// Number of bytes of all elements.
    pub bytes: usize,
}

/// Most tokens that move through a block together on a GPU: enough to fill the largest devices.
pub const GPU_BATCH: usize = 16384;

/// The operations; see the module documentation for the conventions.
pub trait Backend: Send + Sync {
    /// A matrix, or a vector as a matrix of one row, in this backend's memory.
    type Tensor: Send + Sync + 'static;

    /// A weight matrix of a linear layer, the head or the embedding, laid out as this backend's products want it. Only
    /// products and look-ups take one, so its layout is the backend's own affair.
    type Weight: Send + Sync;

    /// Streaming moments of a linear layer's inputs, in this backend's memory.
    type Moments: Send + Sync;

    /// The backend's name in records and listings.
    fn name(&self) -> &'static str;

    /// The device with driver and abilities, for records; `None` if the record's description of the machine says it
    /// already.
    fn device(&self) -> Option<String>;

    /// The most bytes of its own memory that were in use at the same time; `None` if it has none of its own.
    fn peak_bytes(&self) -> Option<u64> {
        None
    }

    /// The bytes of its own memory that nobody uses, as far as this program can tell; `None` if it has none of its own, or does not
    /// tell how much.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Waits until all work so far is done, so that the time of each stage can be measured.
    ///
    /// # Errors
    /// The device was lost.
    fn wait(&self) -> Result<()>;

    /// The best number of tokens to move through a block at a time, if its widest activation has `widest` features.
    fn batch_tokens(&self, widest: usize) -> usize;

    /// Size of a tensor: rows, columns and bytes.
    fn extent(&self, tensor: &Self::Tensor) -> Extent;

    /// Rows, columns and bytes of a weight as it was given; copies in other layouts do not count.
    fn weight_extent(&self, weight: &Self::Weight) -> Extent;

    /// Copies a weight `(outputs, inputs)` to the backend.
    ///
    /// # Errors
    /// There is no room.
    fn upload_weight(&self, host: Array2<f32>) -> Result<Self::Weight>;

    /// Copies a weight to the host.
    ///
    /// # Errors
    /// The backend fails.
    fn download_weight(&self, weight: &Self::Weight) -> Result<Array2<f32>>;

    /// Copies a host matrix to the backend.
    fn upload(&self, host: ArrayView2<f32>) -> Result<Self::Tensor>;

    /// As [`Backend::upload`], for a matrix that the caller does not need any more.
    fn take(&self, host: Array2<f32>) -> Result<Self::Tensor> {
        self.upload(host.view())
    }

    /// Copies a host vector to the backend, as one row.
    fn upload_vector(&self, host: ArrayView1<f32>) -> Result<Self::Tensor> {
        self.upload(host.insert_axis(ndarray::Axis(0)))
    }

    /// Copies a matrix to the host.
    fn download(&self, tensor: &Self::Tensor) -> Result<Array2<f32>>;

    /// Row `ids[t]` of `table` for every token `t`.
    fn embed(&self, table: &Self::Weight, ids: &[u32]) -> Result<Self::Tensor>;

    /// Adds row `offset + t mod length` of `table` to token `t`, in place.
    fn add_positions(&self, x: &mut Self::Tensor, table: &Self::Tensor, offset: usize, length: usize) -> Result<()>;

    /// `x` in the format in which products read their operands, for a matrix that several of them read; `None` if it is in that
    /// format.
    fn as_operand(&self, _x: &Self::Tensor) -> Result<Option<Self::Tensor>> {
        Ok(None)
    }

    /// Adds in place: `x += y`.
    fn add(&self, x: &mut Self::Tensor, y: &Self::Tensor) -> Result<()>;

    /// Multiplies in place: `x *= factor`.
    fn scale(&self, x: &mut Self::Tensor, factor: f32) -> Result<()>;

    /// Multiplies each row in place by a factor of its own; there are as many factors as rows.
    fn scale_rows(&self, x: &mut Self::Tensor, factors: &[f32]) -> Result<()>;

    /// The chosen columns of `x`, side by side.
    fn columns(&self, x: &Self::Tensor, columns: Columns) -> Result<Self::Tensor>;

    /// The chosen rows of `x`, one below the other, stored as `x` is.
    fn rows(&self, x: &Self::Tensor, rows: &[u32]) -> Result<Self::Tensor>;

    /// Normalises each run of `width` features of a row on its own; `width` divides the number of columns. Gain and
    /// bias have `width` elements and are used for every run. Without a gain it is 1, without a bias 0.
    fn normalise(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Self::Tensor>,
        bias: Option<&Self::Tensor>,
        x: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// `x W^T + b` for a weight `(outputs, inputs)`.
    fn linear(&self, weight: &Self::Weight, bias: Option<&Self::Tensor>, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Rotates the first `2 pairs` features of every head of `x`, in place; token `t` is at position
    /// `t mod length`.
    fn rotate(&self, x: &mut Self::Tensor, table: &RotaryTable, head_dim: usize, length: usize) -> Result<()>;

    /// Causal attention within sequences of `length` tokens; query head `h` reads key/value head
    /// `h / (heads / kv_heads)`. With a window, a token sees itself and the `window - 1` before it.
    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &Self::Tensor,
        keys: &Self::Tensor,
        values: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// Applies the activation function to every element, in place.
    fn activate(&self, activation: Activation, x: &mut Self::Tensor) -> Result<()>;

    /// Multiplies in place by the activated gate: `up *= activation(gate)`.
    fn gate(&self, activation: Activation, gate: &Self::Tensor, up: &mut Self::Tensor) -> Result<()>;

    /// `log softmax(x head^T)[target]` for every row of `x`, the logits bounded by `softcap` where there
    /// is one, and whether the target's logit is the greatest; the full logits are never kept.
    fn log_likelihoods(
        &self,
        head: &Self::Weight,
        softcap: Option<f32>,
        x: &Self::Tensor,
        targets: &[u32],
    ) -> Result<Vec<Likelihood>>;

    /// How far `other` is from `dense` after every row; both have the same rows and the same vocabulary. The full logits are never
    /// kept.
    fn divergences(
        &self,
        dense: Predictions<Self::Weight, Self::Tensor>,
        other: Predictions<Self::Weight, Self::Tensor>,
    ) -> Result<Vec<Divergence>>;

    /// The likeliest token after every row; of equally likely ones the first.
    ///
    /// # Errors
    /// A logit is not finite, or the backend fails.
    fn likeliest(&self, model: Predictions<Self::Weight, Self::Tensor>) -> Result<Vec<u32>>;

    /// How far the first matrix of every pair is from the second. All pairs come at once, since every way back to the host waits.
    fn distances(&self, pairs: &[[&Self::Tensor; 2]]) -> Result<Vec<Distance>>;

    /// Empty accumulators of moments for `inputs` features.
    fn moments(&self, inputs: usize, needs: Needs) -> Result<Self::Moments>;

    /// Adds the rows of `x` to the sums of squares and the Gram matrix, as far as they were asked for.
    fn accumulate(&self, moments: &mut Self::Moments, x: &Self::Tensor) -> Result<()>;

    /// Adds the products of the rows of `x` with the dense model's inputs `dense` of the same tokens, and of these with
    /// themselves, as far as they were asked for.
    fn accumulate_cross(&self, moments: &mut Self::Moments, x: &Self::Tensor, dense: &Self::Tensor) -> Result<()>;

    /// Adds the sums over sequences, if they were asked for. `x` has the tokens of `weights.len()` sequences of equal
    /// length, and `weights` is how much each sequence counts.
    fn accumulate_sums(&self, moments: &mut Self::Moments, x: &Self::Tensor, weights: &[f64]) -> Result<()>;

    /// Copies moments to the host, without their matrices of products.
    fn read_moments(&self, moments: &Self::Moments) -> Result<Moments>;

    /// A matrix of zeros in single precision, for sums.
    fn zeros(&self, rows: usize, columns: usize) -> Result<Self::Tensor>;

    /// Runs of `run` columns of each part in turn, side by side: the first run of each, then the second of each, and so
    /// on. Takes together what [`Backend::columns`] takes apart; all parts have the same shape.
    fn interleave(&self, parts: &[&Self::Tensor], run: usize) -> Result<Self::Tensor>;

    /// The gradient with respect to the input `x` of [`Backend::normalise`], given the gradient `dy` with respect to its
    /// result. A bias does not matter to it.
    fn normalise_backward(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Self::Tensor>,
        x: &Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// The gradient with respect to the input of [`Backend::linear`], `dy W`.
    fn linear_backward(&self, weight: &Self::Weight, dy: &Self::Tensor) -> Result<Self::Tensor>;

    /// The gradients with respect to queries, keys and values of [`Backend::attention`], which are `heads`, given its
    /// `result` and the gradient `dy` with respect to that. Scores exist for a tile of queries at a time.
    fn attention_backward(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        heads: [&Self::Tensor; 3],
        result: &Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<[Self::Tensor; 3]>;

    /// Multiplies in place by the slope of the activation function at `x`: turns the gradient with respect to the result of
    /// [`Backend::activate`] into that with respect to its input `x`.
    fn activate_backward(&self, activation: Activation, x: &Self::Tensor, dy: &mut Self::Tensor) -> Result<()>;

    /// Replaces `gate` and `up`, the inputs of [`Backend::gate`], by the gradients with respect to them, given the gradient
    /// `dy` with respect to its result.
    fn gate_backward(
        &self,
        activation: Activation,
        gate: &mut Self::Tensor,
        up: &mut Self::Tensor,
        dy: &Self::Tensor,
    ) -> Result<()>;

    /// The log-likelihoods of [`Backend::log_likelihoods`], and the gradient with respect to `x` of their sum in which each
    /// counts as much as `factors` say. The logits of all rows never exist together.
    fn log_likelihoods_backward(
        &self,
        head: &Self::Weight,
        softcap: Option<f32>,
        x: &Self::Tensor,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, Self::Tensor)>;

    /// Adds the gradient of each sequence with respect to the weight of a linear layer, times `factor`, to the sums that
    /// were asked for. The rows of the layer's inputs `x`, and of the gradient `dy` with respect to its outputs, are the tokens
    /// of so many `sequences` of equal length.
    fn accumulate_gradient(
        &self,
        gradient: &mut Gradient<Self::Tensor>,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        sequences: usize,
        factor: f32,
    ) -> Result<()>;
}
