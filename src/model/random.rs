//! Seeded random weights of a model's shape, made when they are asked for: what benchmarks prune. Or written out as
//! a checkpoint, to try a size without its files.
//!
//! Every tensor is a function of the seed and its name. Weights are uniform with the standard deviation that
//! transformers initialises with, norms do nothing, biases are 0.

use crate::error::{Error, Result};
use crate::files::{Access, Staging};
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::export::Shards;
use crate::model::source::WeightSource;
use crate::spec::{LinearSpec, ModelSpec, NormKind, NormPlace, NormSpec};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Standard deviation of the weights: transformers' `initializer_range`.
const DEVIATION: f32 = 0.02;

/// Number of elements that one random generator makes.
const PIECE: usize = 1 << 16;

/// Random weights for a model's shape, for benchmarks.
pub struct RandomWeights {
    spec: ModelSpec,
    seed: u64,
    storage: StorageType,
}

impl RandomWeights {
    /// Random weights for the shape of `spec`, rounded to the number format `storage`.
    pub fn new(spec: ModelSpec, seed: u64, storage: StorageType) -> Self {
        RandomWeights { spec, seed, storage }
    }

    fn values(&self, name: &str, rows: usize, columns: usize) -> Array2<f32> {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(name);
        let key: [u8; 32] = hash.finalize().into();
        let bound = DEVIATION * 3f32.sqrt();
        let mut values = vec![0.0f32; rows * columns];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            let mut random = ChaCha8Rng::from_seed(key);
            random.set_stream(piece as u64);
            for value in values {
                *value = self.storage.round(random.random_range(-bound..bound));
            }
        });
        Array2::from_shape_vec((rows, columns), values).expect("as many as there are")
    }
}

/// When a written file has this many bytes of tensors, another file is begun.
const SHARD_BYTES: u64 = 2 << 30;

impl RandomWeights {
    /// Writes the weight files of a checkpoint, and their index, into a folder under construction.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, staging: &Staging) -> Result<()> {
        let shards = Shards::new(self.spec.tensors(), self.storage, SHARD_BYTES);
        shards.write(staging, Access::OPEN, |tensor, shape| {
            let values = match *shape {
                [rows, columns] => self.values(tensor, rows, columns),
                _ if tensor.ends_with(".weight") => Array2::ones((1, shape[0])),
                _ => Array2::zeros((1, shape[0])),
            };
            Ok(self.storage.encode(values.into_iter()))
        })
    }
}

impl WeightSource for RandomWeights {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let shape = self.spec.tensors().find(|(known, _)| known == name);
        match shape.as_ref().map(|(_, shape)| shape.as_slice()) {
            Some(&[rows, columns]) => Ok(self.values(name, rows, columns)),
            _ => Err(Error::input(format!("`{name}` is not a matrix of this model"))),
        }
    }

    fn norm(&self, _prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        Ok(neutral(norm, self.spec.width))
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let name = format!("{}{}.weight", self.spec.block(index).prefix_of(index), linear.tensor);
        Ok(LinearWeights {
            role: linear.role,
            weight: self.values(&name, linear.outputs, linear.inputs),
            bias: linear.bias.then(|| Array1::zeros(linear.outputs)),
            storage: self.storage,
            bias_storage: self.storage,
            transposed: false,
            name,
        })
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let block = self.spec.block(index);
        let neutral = |(place, norm): &(NormPlace, NormSpec)| {
            let width = block.norm_width(*place, self.spec.width);
            (*place, neutral(norm, width))
        };
        Ok(block.norms.iter().map(neutral).collect())
    }
}

/// The parameters of a norm that changes nothing after normalising.
fn neutral(norm: &NormSpec, width: usize) -> NormWeights {
    NormWeights {
        gain: norm.tensor.is_some().then(|| Array1::ones(width)),
        bias: (norm.tensor.is_some() && norm.kind == NormKind::Layer).then(|| Array1::zeros(width)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_depend_on_seed_and_name_and_have_the_deviation() {
        let text = include_str!("../../models/tiny-llama/config.json");
        let spec = crate::model::families::parse_spec(text).expect("the embedded model's");
        let of = |seed| RandomWeights::new(spec.clone(), seed, StorageType::F16).values("a", 300, 301);
        let once = of(1);
        assert_eq!(once, of(1));
        assert_ne!(once, of(2));
        let variance = once.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / once.len() as f64;
        assert!(
            (variance.sqrt() / f64::from(DEVIATION) - 1.0).abs() < 0.01,
            "{variance}"
        );
        let source = RandomWeights::new(spec.clone(), 1, StorageType::F16);
        let weights = |id: usize| source.linear(0, &spec.block(0).linears[id]).expect("made").weight;
        assert_ne!(weights(0), weights(3));
    }
}
