//! A model whose residual stream, and perhaps the values of its attention, are turned by orthogonal matrices. It computes what the
//! original computes, with other weights.
//!
//! With an orthogonal `Q`, a stream `x` becomes `Q^T x`. A norm without mean and gain commutes with that, so that gains are first
//! multiplied into the layers that read the norm's output: `W` becomes `W diag(g) Q` where the stream is read, `Q^T W` where it is
//! written (with `Q^T b` for a bias), and `E Q` for the embedding. A head that was the embedding becomes a matrix of its own.

use crate::error::{Error, Located, Result};
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::edit::LowRank;
use crate::model::source::WeightSource;
use crate::model::weights::{StoredTensor, WeightFiles};
use crate::spec::{LinearSpec, ModelSpec, NormKind, NormPlace, NormSpec, Positions, Role, TapPlace};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use rayon::prelude::*;
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// The largest entry of `Q^T Q - I` that is taken for rounding.
const TOLERANCE: f64 = 1e-4;

/// The tensor that turns the residual stream.
const RESIDUAL: &str = "residual";

/// Rows that are multiplied at a time.
const ROWS: usize = 64;

/// The matrices that turn a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// For the residual stream, `(width, width)`.
    residual: Array2<f64>,
    /// For the values of a block's key-value heads, `(head_dim, head_dim)` each.
    values: BTreeMap<usize, Vec<Array2<f64>>>,
}

impl Rotation {
    /// Checks the matrices of a rotation against a model, and makes them orthogonal to double precision.
    ///
    /// # Errors
    /// A matrix has another shape than the model needs, or is not orthogonal; with its name.
    pub fn new(residual: Array2<f64>, values: BTreeMap<usize, Vec<Array2<f64>>>, spec: &ModelSpec) -> Result<Self> {
        let residual = orthogonal(residual, spec.width).at(format_args!("tensor `{RESIDUAL}`"))?;
        let turned = values.into_iter().map(|(index, heads)| {
            let name = format!("tensor `{}`", value_name(index));
            check_block(index, spec).at(&name)?;
            let dim = spec.block(index).attention.head_dim;
            let heads = heads.into_iter().enumerate();
            let heads = heads.map(|(head, matrix)| orthogonal(matrix, dim).at(format_args!("head {head}")));
            let heads: Vec<Array2<f64>> = heads.collect::<Result<_>>().at(&name)?;
            turning(&heads)
                .check(spec.block(index))
                .map_err(|message| Error::input(message).at(name))?;
            Ok((index, heads))
        });
        Ok(Rotation {
            residual,
            values: turned.collect::<Result<_>>()?,
        })
    }

    /// Reads a safetensors file with `residual`, a matrix `(width, width)`, and for any block `N` perhaps `blocks.N.value`, with a matrix
    /// for each key-value head, `(kv_heads, head_dim, head_dim)`; F32 or F64.
    ///
    /// # Errors
    /// The file is missing or malformed, has other tensors or types, or as [`Rotation::new`].
    pub fn read(path: &Path, spec: &ModelSpec) -> Result<Self> {
        let file = WeightFiles::one(path)?;
        let read = || {
            let (mut residual, mut values) = (None, BTreeMap::new());
            for stored in file.each() {
                for tensor in &stored.tensors {
                    let place = || format!("tensor `{}`", tensor.name);
                    if tensor.name == RESIDUAL {
                        let read = matrices(tensor, &[spec.width, spec.width]).at(place())?;
                        residual = read.into_iter().next();
                        continue;
                    }
                    let index = block_of(tensor.name).ok_or_else(|| {
                        Error::input(format!(
                            "does not belong in a rotation, which has `{RESIDUAL}` and `blocks.N.value`"
                        ))
                        .at(place())
                    })?;
                    check_block(index, spec).at(place())?;
                    let attention = &spec.block(index).attention;
                    let shape = [attention.kv_heads, attention.head_dim, attention.head_dim];
                    values.insert(index, matrices(tensor, &shape).at(place())?);
                }
            }
            let residual = residual.ok_or_else(|| {
                Error::input(format!(
                    "tensor `{RESIDUAL}` is missing: the matrix, with {0} rows and columns, that turns the residual stream; the identity \
                     leaves it as it is",
                    spec.width
                ))
            })?;
            Rotation::new(residual, values, spec)
        };
        read().at(path.display())
    }

    /// Number of blocks whose values are turned.
    pub fn blocks(&self) -> usize {
        self.values.len()
    }
}

fn value_name(index: usize) -> String {
    format!("blocks.{index}.value")
}

/// The block whose values a tensor turns.
fn block_of(name: &str) -> Option<usize> {
    let index = name.strip_prefix("blocks.")?.strip_suffix(".value")?.parse().ok()?;
    (value_name(index) == name).then_some(index)
}

fn check_block(index: usize, spec: &ModelSpec) -> Result<()> {
    match index < spec.blocks {
        true => Ok(()),
        false => Err(Error::input(format!(
            "the blocks of the model are 0 to {}",
            spec.blocks.saturating_sub(1)
        ))),
    }
}

/// The matrix of a tensor of this shape, or those of a list of matrices.
fn matrices(tensor: &StoredTensor, shape: &[usize]) -> Result<Vec<Array2<f64>>> {
    let elements: Vec<f64> = match tensor.dtype {
        _ if tensor.shape != shape => {
            let found = tensor.shape;
            return Err(Error::input(format!(
                "has shape {found:?}, and for this model it would have {shape:?}"
            )));
        }
        Dtype::F64 => tensor
            .bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect(),
        Dtype::F32 => StorageType::F32
            .decode(tensor.bytes)
            .into_iter()
            .map(f64::from)
            .collect(),
        other => {
            return Err(Error::input(format!(
                "has type {other:?}; a rotation is F32 or F64, since in half precision it would not be orthogonal"
            )));
        }
    };
    let size = shape.last().copied().unwrap_or(0);
    let each = elements.chunks_exact((size * size).max(1));
    each.map(|part| Array2::from_shape_vec((size, size), part.to_vec()).map_err(Error::input))
        .collect()
}

/// The orthogonal matrix that is nearest to one with `width` rows and columns that is orthogonal but for rounding.
///
/// # Errors
/// It has another shape, or is not orthogonal.
fn orthogonal(matrix: Array2<f64>, width: usize) -> Result<Array2<f64>> {
    if matrix.dim() != (width, width) {
        let (rows, columns) = matrix.dim();
        return Err(Error::input(format!(
            "has {rows} rows and {columns} columns, and for this model {width} of each are needed"
        )));
    }
    let mut square = times(matrix.t(), &matrix);
    square.diag_mut().mapv_inplace(|value| value - 1.0);
    // The largest, or one that is no number.
    let worst = square.indexed_iter().fold(((0, 0), 0.0f64), |worst, (place, value)| {
        let off = value.abs();
        if off <= worst.1 || worst.1.is_nan() {
            worst
        } else {
            (place, off)
        }
    });
    let ((row, column), off) = worst;
    if !off.is_finite() || off > TOLERANCE {
        return Err(Error::input(format!(
            "is not orthogonal: entry ({row}, {column}) of Q^T Q is off by {off:.1e}, but rounding explains at most {TOLERANCE:.0e}; \
             compute Q by a QR factorisation in double precision"
        )));
    }
    // Two steps of Newton's iteration, Q (3 I - Q^T Q) / 2, each of which squares the error.
    let mut matrix = matrix;
    for _ in 0..2 {
        let mut factor = times(matrix.t(), &matrix).mapv(|value| -0.5 * value);
        factor.diag_mut().mapv_inplace(|value| value + 1.5);
        matrix = times(matrix.view(), &factor);
    }
    Ok(matrix)
}

/// The product of two matrices in double precision.
fn times(a: ArrayView2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let pieces: Vec<ArrayView2<f64>> = a.axis_chunks_iter(Axis(0), ROWS).collect();
    let pieces: Vec<Array2<f64>> = pieces.par_iter().map(|piece| piece.dot(b)).collect();
    let views: Vec<ArrayView2<f64>> = pieces.iter().map(|piece| piece.view()).collect();
    concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, b.ncols())))
}

/// The matrices of key-value heads as what is done to a block's values.
fn turning(heads: &[Array2<f64>]) -> LowRank {
    LowRank {
        basis: heads.to_vec(),
        ..LowRank::default()
    }
}

/// The model that a rotation makes of another one. Its numbers are not rounded to the other's storage type.
pub struct Rotated<'a> {
    source: &'a dyn WeightSource,
    rotation: &'a Rotation,
    spec: ModelSpec,
}

impl<'a> Rotated<'a> {
    /// The turned model.
    ///
    /// # Errors
    /// The architecture has something with which the stream cannot be turned, such as norms that subtract a mean; it is named.
    pub fn new(source: &'a dyn WeightSource, rotation: &'a Rotation) -> Result<Self> {
        let mut spec = source.spec().clone();
        if let Some(why) = unturnable(&spec) {
            return Err(Error::config(format!(
                "models of the family {} cannot be turned: {why}",
                spec.family
            )));
        }
        if spec.head.tensor.is_none() {
            let stored = spec.head.stored.first().copied();
            let name = stored
                .ok_or_else(|| Error::config("this family has no head of its own, which a turned model needs"))?;
            spec.head.tensor = Some(name.to_string());
        }
        Ok(Rotated { source, rotation, spec })
    }

    /// A matrix that reads the stream, `(outputs, width)`, behind a norm with this gain.
    fn reading(&self, weight: &Array2<f32>, gain: Option<&Array1<f32>>) -> Array2<f32> {
        let mut wide = weight.mapv(f64::from);
        if let Some(gain) = gain {
            wide *= &gain.mapv(f64::from);
        }
        times(wide.view(), &self.rotation.residual).mapv(|value| value as f32)
    }

    /// A matrix that writes to the stream, `(width, inputs)`.
    fn writing(&self, weight: &Array2<f32>) -> Array2<f32> {
        let wide = weight.mapv(f64::from);
        times(self.rotation.residual.t(), &wide).mapv(|value| value as f32)
    }
}

/// Why the stream of a model cannot be turned, if it cannot.
fn unturnable(spec: &ModelSpec) -> Option<&'static str> {
    let of_norm = |norm: &NormSpec| match norm.kind {
        NormKind::Layer => {
            Some("a LayerNorm subtracts the mean of the features, and turned features have another mean")
        }
        NormKind::Rms => None,
    };
    for (block, _) in spec.kinds() {
        for (place, norm) in &block.norms {
            let why = match place {
                NormPlace::Query | NormPlace::Key => None,
                NormPlace::AttentionOutput | NormPlace::MlpOutput => {
                    Some("a norm behind attention or MLP multiplies features of the stream, and turning would mix them")
                }
                NormPlace::Attention | NormPlace::Mlp => of_norm(norm),
            };
            if why.is_some() {
                return why;
            }
        }
        if !block.norm_first {
            return Some("a norm behind the sum multiplies features of the stream, and turning would mix them");
        }
    }
    if spec.embedding.project.is_some()
        || spec.head.project.is_some()
        || matches!(spec.positions, Positions::Learned { .. })
    {
        return Some("its embedding is projected, or has learned positions");
    }
    spec.final_norm.as_ref().and_then(of_norm)
}

impl WeightSource for Rotated<'_> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let before = self.source.spec();
        if Some(name) == self.spec.head.tensor.as_deref() {
            let head = before.head.tensor.as_ref().unwrap_or(&before.embedding.tensor);
            let norm = before
                .final_norm
                .as_ref()
                .map(|norm| self.source.norm("", norm))
                .transpose()?;
            return Ok(self.reading(&self.source.matrix(head)?, norm.and_then(|norm| norm.gain).as_ref()));
        }
        let matrix = self.source.matrix(name)?;
        Ok(match name == self.spec.embedding.tensor {
            true => self.reading(&matrix, None),
            false => matrix,
        })
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.source.norm(prefix, norm).map(without_gain)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let mut weights = self.source.linear(index, linear)?;
        let norm_of = |wanted: NormPlace| -> Result<Option<Array1<f32>>> {
            let norms = self.source.norms(index)?;
            let found = norms.into_iter().find(|(place, _)| *place == wanted);
            Ok(found.and_then(|(_, norm)| norm.gain))
        };
        match linear.role.place() {
            TapPlace::AttentionIn => {
                weights.weight = self.reading(&weights.weight, norm_of(NormPlace::Attention)?.as_ref());
            }
            TapPlace::MlpIn => weights.weight = self.reading(&weights.weight, norm_of(NormPlace::Mlp)?.as_ref()),
            TapPlace::AttentionOut | TapPlace::MlpMiddle => {
                weights.weight = self.writing(&weights.weight);
                if let Some(bias) = &mut weights.bias {
                    let turned = self.rotation.residual.t().dot(&bias.mapv(f64::from));
                    *bias = turned.mapv(|value| value as f32);
                }
            }
        }
        (weights.storage, weights.bias_storage) = (StorageType::F32, StorageType::F32);
        if let Some(heads) = self.rotation.values.get(&index)
            && matches!(linear.role, Role::Value | Role::Output)
        {
            turning(heads).apply(&mut weights, &self.spec.block(index).attention);
        }
        Ok(weights)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let norms = self.source.norms(index)?.into_iter();
        let norms = norms.map(|(place, norm)| match place {
            NormPlace::Query | NormPlace::Key => (place, norm),
            _ => (place, without_gain(norm)),
        });
        Ok(norms.collect())
    }
}

/// A norm whose gain was multiplied into the layers that read its output.
fn without_gain(norm: NormWeights) -> NormWeights {
    NormWeights {
        gain: norm.gain.map(|gain| Array1::ones(gain.len())),
        ..norm
    }
}
