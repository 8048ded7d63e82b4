//! Checkpoints: weight files that fit an architecture.
//!
//! Owns finding a tensor, checking its shape, type and values, and widening it to `f32`. A checkpoint
//! that lacks a tensor, has another shape than the configuration says, or holds a NaN or an infinity is
//! refused with the file and the tensor; weights are never written here.

use crate::error::{Error, Located, Result};
use crate::model::weights::{Location, WeightFiles};
use crate::spec::{LinearSpec, ModelSpec, NormSpec, Role};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use std::path::Path;

/// An opened checkpoint whose tensors fit the model's specification.
pub struct Checkpoint {
    spec: ModelSpec,
    files: WeightFiles,
}

/// A linear layer's weights on the host.
#[derive(Debug, Clone)]
pub struct LinearWeights {
    /// What the layer is for.
    pub role: Role,
    /// Full tensor name of the weight.
    pub name: String,
    /// `(outputs, inputs)`.
    pub weight: Array2<f32>,
    /// Length `outputs`.
    pub bias: Option<Array1<f32>>,
    /// How the checkpoint stores the weight.
    pub storage: StorageType,
    /// Whether the checkpoint stores the weight as `(inputs, outputs)`.
    pub transposed: bool,
}

/// A norm's parameters on the host; both absent for a norm without parameters.
#[derive(Debug, Clone, Default)]
pub struct NormWeights {
    /// Gain.
    pub gain: Option<Array1<f32>>,
    /// Bias.
    pub bias: Option<Array1<f32>>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir` and checks that every tensor of `spec` is there with its shape.
    ///
    /// # Errors
    /// Missing, truncated or malformed files; missing tensors; wrong shapes; unsupported element types.
    pub fn open(dir: &Path, spec: ModelSpec) -> Result<Self> {
        let files = WeightFiles::open(dir)?;
        if dir.join("adapter_config.json").exists() {
            tracing::warn!(
                "{}: holds an adapter (adapter_config.json) beside the weights, which is not applied",
                dir.display()
            );
        }
        let checkpoint = Checkpoint { spec, files };
        for (name, shape) in checkpoint.spec.tensors() {
            checkpoint.check(&name, &shape).at(dir.display())?;
        }
        checkpoint.check_tie().at(dir.display())?;
        Ok(checkpoint)
    }

    /// The architecture this checkpoint was opened with.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The weight files, as they are stored.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// The stored name and place of a tensor of the specification. Programs that store a shared matrix once may store
    /// it as the head's.
    fn find(&self, name: &str) -> Result<(&str, &Location)> {
        let head = self.spec.head.tensor.as_ref().unwrap_or(&self.spec.embedding.tensor);
        let stored = self.spec.head.stored.iter().filter(|_| name == head);
        self.files
            .get(name)
            .or_else(|| self.files.get(name.strip_prefix(self.spec.base_prefix)?))
            .or_else(|| stored.copied().find_map(|stored| self.files.get(stored)))
            .ok_or_else(|| {
                let promised = self.files.promised(name);
                let promised = promised.map(|file| format!(": the index says it is in `{file}`, but it is not"));
                Error::input(format!("tensor `{name}` is missing{}", promised.unwrap_or_default()))
            })
    }

    fn locate(&self, name: &str) -> Result<&Location> {
        self.find(name).map(|(_, location)| location)
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let location = self.locate(name)?;
        let shard = self.files.path(location).display();
        if location.shape != shape {
            let got = &location.shape;
            let message = format!("tensor `{name}` has shape {got:?}, but config.json implies {shape:?}");
            return Err(Error::input(message).at(shard));
        }
        if StorageType::of(location.dtype).is_none() {
            let dtype = location.dtype;
            let message = format!("tensor `{name}` has type {dtype:?}; only F32, F16 and BF16 weights can be pruned");
            return Err(Error::input(message).at(shard));
        }
        Ok(())
    }

    /// A tied head that is stored all the same must equal the embedding: where they differ,
    /// transformers silently unties them, so either reading would be a guess.
    fn check_tie(&self) -> Result<()> {
        let mut heads = self.spec.head.stored.iter().filter(|_| self.spec.head.tensor.is_none());
        let Some((stored, head)) = heads.find_map(|name| self.files.get(name)) else {
            return Ok(());
        };
        let embedding = self.locate(&self.spec.embedding.tensor)?;
        if self.files.read(head)? == self.files.read(embedding)? {
            return Ok(());
        }
        let message = format!("`tie_word_embeddings` is true, but tensor `{stored}` differs from the embedding");
        Err(Error::input(message).at(self.files.path(head).display()))
    }

    /// The name under which a tensor of the specification is stored.
    ///
    /// # Errors
    /// The tensor is missing.
    pub fn stored_name(&self, name: &str) -> Result<&str> {
        self.find(name).map(|(name, _)| name)
    }

    /// How the checkpoint stores a tensor.
    ///
    /// # Errors
    /// The tensor is missing or of an unsupported type.
    pub fn storage(&self, name: &str) -> Result<StorageType> {
        let location = self.locate(name)?;
        StorageType::of(location.dtype)
            .ok_or_else(|| Error::input(format!("tensor `{name}` has type {:?}", location.dtype)))
    }

    /// A tensor's elements, widened to `f32`, row-major.
    ///
    /// # Errors
    /// The tensor is missing, or an element is NaN or infinite.
    pub fn elements(&self, name: &str) -> Result<Vec<f32>> {
        let location = self.locate(name)?;
        let storage = self.storage(name)?;
        let values = storage.decode(&self.files.read(location)?);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(position) => Err(self.not_finite(name, location, position, values[position])),
        }
    }

    fn not_finite(&self, name: &str, location: &Location, position: usize, value: f32) -> Error {
        Error::input(format!("tensor `{name}`: element {position} is {value}")).at(self.files.path(location).display())
    }

    /// A two-dimensional tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::elements`], and when the tensor is not two-dimensional.
    pub fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let shape = self.locate(name)?.shape.clone();
        let [rows, columns] = shape[..] else {
            return Err(Error::input(format!(
                "tensor `{name}` has shape {shape:?}, but a matrix is needed"
            )));
        };
        Array2::from_shape_vec((rows, columns), self.elements(name)?)
            .map_err(|error| Error::input(format!("tensor `{name}`: {error}")))
    }

    /// A one-dimensional tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::elements`].
    pub fn vector(&self, name: &str) -> Result<Array1<f32>> {
        Ok(Array1::from_vec(self.elements(name)?))
    }

    /// The parameters of a norm whose tensors start with `prefix`.
    ///
    /// # Errors
    /// As [`Checkpoint::elements`].
    pub fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        let Some(name) = &norm.tensor else {
            return Ok(NormWeights::default());
        };
        let bias = format!("{prefix}{name}.bias");
        let has_bias = norm.kind == crate::spec::NormKind::Layer;
        let mut gain = self.vector(&format!("{prefix}{name}.weight"))?;
        if norm.unit_offset {
            gain += 1.0;
        }
        Ok(NormWeights {
            gain: Some(gain),
            bias: has_bias.then(|| self.vector(&bias)).transpose()?,
        })
    }

    /// One linear layer of block `index`.
    ///
    /// # Errors
    /// As [`Checkpoint::elements`].
    pub fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let stem = format!("{}{}", self.spec.block(index).prefix_of(index), linear.tensor);
        let name = format!("{stem}.weight");
        let bias = linear.bias.then(|| self.vector(&format!("{stem}.bias"))).transpose()?;
        let stored = self.matrix(&name)?;
        Ok(LinearWeights {
            role: linear.role,
            weight: if linear.transposed {
                stored.t().as_standard_layout().into_owned()
            } else {
                stored
            },
            storage: self.storage(&name)?,
            transposed: linear.transposed,
            name,
            bias,
        })
    }

    /// Checks that every weight of the model is finite.
    ///
    /// # Errors
    /// Names the file, the tensor and the first offending element.
    pub fn check_finite(&self) -> Result<()> {
        /// Elements widened at a time.
        const PIECE: usize = 1 << 18;
        for (name, _) in self.spec.tensors() {
            let location = self.locate(&name)?;
            let storage = self.storage(&name)?;
            let bytes = self.files.read(location)?;
            let pieces = bytes.par_chunks(PIECE * storage.bytes());
            let found = pieces.enumerate().find_map_first(|(piece, bytes)| {
                let values = storage.decode(bytes);
                let position = values.iter().position(|value| !value.is_finite())?;
                Some((piece * PIECE + position, values[position]))
            });
            if let Some((position, value)) = found {
                return Err(self.not_finite(&name, location, position, value));
            }
        }
        Ok(())
    }
}
