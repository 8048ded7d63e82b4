//! Checkpoints: weight files that fit an architecture.
//!
//! Owns finding a tensor, checking its shape, type and values, and widening it to `f32`. A checkpoint
//! that lacks a tensor, has another shape than the configuration says, or holds a NaN or an infinity is
//! refused with the file and the tensor; weights are never written here.

use crate::error::{Error, Located, Result};
use crate::model::factored::{FACTORS, Narrow, are_features, branch_of, factors_of, places, spread, spread_vector};
use crate::model::narrow::{Branch, Factors};
use crate::model::weights::{Location, WeightFiles};
use crate::spec::{BlockSpec, LinearSpec, ModelSpec, NormSpec, Role, SubLayer};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An open checkpoint whose tensors have the names and shapes that the model's specification asks for.
pub struct Checkpoint {
    spec: ModelSpec,
    files: WeightFiles,
    /// What the files say beside tensors, if they are a factored form.
    narrow: Option<Narrow>,
}

/// The weights of one linear layer in the host's memory.
#[derive(Debug, Clone)]
pub struct LinearWeights {
    /// The layer's place in its block.
    pub role: Role,
    /// Full name of the weight tensor.
    pub name: String,
    /// The weights, with one row per output and one column per input.
    pub weight: Array2<f32>,
    /// The bias, one value per output, if the layer has one.
    pub bias: Option<Array1<f32>>,
    /// The number format of the weight in the checkpoint.
    pub storage: StorageType,
    /// The number format of the bias; the weight's where there is no bias.
    pub bias_storage: StorageType,
    /// Whether the checkpoint stores the weight transposed, as `(inputs, outputs)`.
    pub transposed: bool,
}

/// What a block of a factored form has in place of whole matrices; nothing by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NarrowSizes {
    /// The ranks of layers that are products of narrow matrices.
    pub ranks: BTreeMap<Role, usize>,
    /// For each key-value head, the features of its values that are left; empty if all are.
    pub values: Vec<Vec<usize>>,
    /// The rank of the branch beside the MLP.
    pub branch: Option<usize>,
}

/// The parameters of a norm in the host's memory; both are absent if the norm has no parameters.
#[derive(Debug, Clone, Default)]
pub struct NormWeights {
    /// The factor for each feature.
    pub gain: Option<Array1<f32>>,
    /// The value that is added to each feature.
    pub bias: Option<Array1<f32>>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir` and checks that every tensor of `spec` is there with its shape.
    ///
    /// # Errors
    /// Missing, truncated or malformed files; missing tensors; wrong shapes; unsupported element types.
    pub fn open(dir: &Path, spec: ModelSpec) -> Result<Self> {
        let files = WeightFiles::open(dir)?;
        Self::of(files, dir, spec)
    }

    /// Opens the factored form in `dir`, though there may be the dense equivalent beside it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; or it is no factored form.
    pub fn open_factored(dir: &Path, spec: ModelSpec) -> Result<Self> {
        let path = dir.join(FACTORS);
        let checkpoint = Self::of(WeightFiles::one(&path)?, dir, spec)?;
        match checkpoint.narrow {
            Some(_) => Ok(checkpoint),
            None => Err(Error::input("is not a factored form that zprune wrote").at(path.display())),
        }
    }

    fn of(files: WeightFiles, dir: &Path, spec: ModelSpec) -> Result<Self> {
        if dir.join("adapter_config.json").exists() {
            tracing::warn!(
                "{}: holds an adapter (adapter_config.json) beside the weights, which is not applied",
                dir.display()
            );
        }
        let narrow = files
            .each()
            .map(|file| Narrow::of(file.metadata).at(dir.join(file.name).display()));
        let narrow = narrow.collect::<Result<Vec<_>>>()?.into_iter().flatten().next();
        let checkpoint = Checkpoint { spec, files, narrow };
        match &checkpoint.narrow {
            None => {
                for (name, shape) in checkpoint.spec.tensors() {
                    checkpoint.check(&name, &shape).at(dir.display())?;
                }
            }
            Some(narrow) => checkpoint.check_narrow(narrow).at(dir.join(FACTORS).display())?,
        }
        checkpoint.check_tie().at(dir.display())?;
        Ok(checkpoint)
    }

    /// The architecture that the checkpoint was opened with.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The weight files of the checkpoint.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// The name and place under which a tensor of the specification is stored. Programs that store a shared matrix
    /// only once may store it as the head.
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
                let narrow = self.narrow.as_ref().map(|_| {
                    format!(": {FACTORS} has narrow matrices in its place; this needs the dense equivalent that `zprune shrink` wrote beside it")
                });
                let why = promised.or(narrow).unwrap_or_default();
                Error::input(format!("tensor `{name}` is missing{why}"))
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
            let message = format!(
                "tensor `{name}` has type {dtype:?}; only F32, F16 and BF16 weights can be pruned: save the model in one of these, as \
                 `model.float()` or `model.bfloat16()` do in PyTorch"
            );
            return Err(Error::input(message).at(shard));
        }
        Ok(())
    }

    /// Checks that a tied head that is stored equals the embedding. If they differ, transformers silently unties
    /// them, so it would not be clear which one is meant.
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

    /// The number format in which the checkpoint stores a tensor.
    ///
    /// # Errors
    /// The tensor is missing or of an unsupported type.
    pub fn storage(&self, name: &str) -> Result<StorageType> {
        let location = self.locate(name)?;
        StorageType::of(location.dtype)
            .ok_or_else(|| Error::input(format!("tensor `{name}` has type {:?}", location.dtype)))
    }

    /// Bytes of all tensors of the model as they are stored.
    ///
    /// # Errors
    /// As [`Checkpoint::storage`].
    pub fn stored_bytes(&self) -> Result<u64> {
        if self.narrow.is_some() {
            return Ok(self
                .files
                .each()
                .flat_map(|file| file.tensors)
                .map(|it| it.bytes.len() as u64)
                .sum());
        }
        let bytes = self.spec().tensors().map(|(name, shape)| {
            let elements: usize = shape.iter().product();
            Ok((elements * self.storage(&name)?.bytes()) as u64)
        });
        bytes.sum()
    }

    /// The elements of a tensor in row-major order, converted to `f32`.
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
        if let Some(narrow) = &self.narrow {
            let name = self.spec.block(index).weight_of(index, linear);
            return self
                .multiplied(narrow, index, linear)
                .at(format_args!("tensor `{name}`"));
        }
        let stem = format!("{}{}", self.spec.block(index).prefix_of(index), linear.tensor);
        let name = format!("{stem}.weight");
        let bias_name = format!("{stem}.bias");
        let bias = linear.bias.then(|| self.vector(&bias_name)).transpose()?;
        let stored = self.matrix(&name)?;
        let storage = self.storage(&name)?;
        Ok(LinearWeights {
            role: linear.role,
            weight: if linear.transposed {
                stored.t().as_standard_layout().into_owned()
            } else {
                stored
            },
            bias_storage: match &bias {
                Some(_) => self.storage(&bias_name)?,
                None => storage,
            },
            storage,
            transposed: linear.transposed,
            name,
            bias,
        })
    }

    /// Number of elements of all tensors of a factored form; `None` if the files are none.
    pub fn factored_parameters(&self) -> Option<u64> {
        let tensors = self.files.each().flat_map(|file| file.tensors);
        let elements = tensors.map(|tensor| tensor.shape.iter().product::<usize>() as u64);
        self.narrow.as_ref().map(|_| elements.sum())
    }

    /// What block `index` of a factored form has in place of whole matrices; nothing if the files are none.
    pub fn narrow_sizes(&self, index: usize) -> NarrowSizes {
        let Some(narrow) = &self.narrow else {
            return NarrowSizes::default();
        };
        let block = self.spec.block(index);
        let rank = |first: &str| {
            self.files
                .get(first)
                .and_then(|(_, location)| location.shape.first().copied())
        };
        let ranks = block.linears.iter().filter_map(|linear| {
            let [first, _] = factors_of(&block.weight_of(index, linear));
            Some((linear.role, rank(&first)?))
        });
        NarrowSizes {
            ranks: ranks.collect(),
            values: narrow.values.get(&index).cloned().unwrap_or_default(),
            branch: rank(&branch_of(&block.prefix_of(index))[0]),
        }
    }

    /// Checks that a factored form has all that the model needs.
    fn check_narrow(&self, narrow: &Narrow) -> Result<()> {
        for (index, values) in &narrow.values {
            if *index >= self.spec.blocks || !are_features(values, &self.spec.block(*index).attention) {
                return Err(Error::input(format!(
                    "its metadata name features of values that block {index} does not have"
                )));
            }
        }
        for (name, shape) in self.spec.outer_tensors().iter().flatten() {
            self.check(name, shape)?;
        }
        for index in 0..self.spec.blocks {
            let block = self.spec.block(index);
            for (name, shape) in self.spec.norm_tensors(index) {
                self.check(&name, &shape)?;
            }
            for linear in &block.linears {
                let name = block.weight_of(index, linear);
                if self.files.get(&factors_of(&name)[0]).is_none() {
                    self.locate(&name)?;
                }
            }
        }
        Ok(())
    }

    /// One linear layer of a factored form, as it is in the dense equivalent.
    fn multiplied(&self, narrow: &Narrow, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let block = self.spec.block(index);
        let name = block.weight_of(index, linear);
        let misfit = || Error::input("what is stored does not have the shape that config.json implies");
        let values = narrow.values.get(&index);
        let left = values.and_then(|values| places(values, &block.attention, linear.role));
        let shape = (linear.outputs, linear.inputs);
        let [first, second] = factors_of(&name);
        let stored_as = match self.files.get(&first) {
            Some(_) => &first,
            None => &name,
        };
        let storage = self.storage(stored_as)?;
        let mut weight = match stored_as == &first {
            true => {
                let factors = Factors {
                    first: self.matrix(&first)?,
                    second: self.matrix(&second)?,
                };
                if !factors.fits(linear.outputs, linear.inputs) {
                    return Err(misfit());
                }
                factors.product().mapv(|value| storage.round(value))
            }
            false => {
                let stored = self.matrix(&name)?;
                match &left {
                    Some((axis, left)) => spread(&stored, *axis, left, shape).ok_or_else(misfit)?,
                    None => stored,
                }
            }
        };
        let bias_name = format!("{}.bias", name.strip_suffix(".weight").unwrap_or(&name));
        let mut bias = match self.files.get(&bias_name) {
            Some(_) => {
                let stored = self.vector(&bias_name)?;
                Some(match &left {
                    Some((Axis(0), left)) => spread_vector(&stored, left, linear.outputs).ok_or_else(misfit)?,
                    _ => stored,
                })
            }
            None => None,
        };
        if let Some(branch) = self.branch(index, block, linear.role)? {
            Branch::of(&branch, block).append(linear.role, &mut weight, &mut bias, storage)?;
        }
        // Biases that a configuration gives to several layers, and that only some of them need.
        let bias = linear
            .bias
            .then(|| bias.unwrap_or_else(|| Array1::zeros(linear.outputs)));
        if weight.dim() != shape || bias.as_ref().is_some_and(|bias| bias.len() != linear.outputs) {
            return Err(misfit());
        }
        Ok(LinearWeights {
            role: linear.role,
            name,
            weight,
            bias,
            storage,
            bias_storage: storage,
            transposed: linear.transposed,
        })
    }

    /// The branch beside the MLP that a layer of a factored form belongs to, if there is one.
    fn branch(&self, index: usize, block: &BlockSpec, role: Role) -> Result<Option<Factors>> {
        let [first, second] = branch_of(&block.prefix_of(index));
        if role.sub_layer() != SubLayer::Mlp || self.files.get(&first).is_none() {
            return Ok(None);
        }
        let factors = Factors {
            first: self.matrix(&first)?,
            second: self.matrix(&second)?,
        };
        match factors.fits(self.spec.width, self.spec.width) {
            true => Ok(Some(factors)),
            false => Err(Error::input(format!("tensors `{first}` and `{second}` do not fit"))),
        }
    }

    /// Checks that every weight of the model is finite. The result is the number of exact zeros among the weights of the blocks' linear
    /// layers.
    ///
    /// # Errors
    /// Names the file, the tensor and the first offending element.
    pub fn check_finite(&self) -> Result<usize> {
        let blocks = (0..self.spec.blocks).map(|index| (index, self.spec.block(index)));
        let mut linears =
            blocks.flat_map(|(index, block)| block.linears.iter().map(move |linear| (index, block, linear)));
        if self.narrow.is_some() {
            for tensor in self.files.each().flat_map(|file| file.tensors) {
                self.check_finite_of(tensor.name)?;
            }
            // The weights of the model are products of what is stored.
            return linears.try_fold(0, |zeros, (index, _, linear)| {
                let weight = self.linear(index, linear)?.weight;
                Ok(zeros + weight.iter().filter(|weight| **weight == 0.0).count())
            });
        }
        let linears: BTreeSet<String> = linears
            .map(|(index, block, linear)| block.weight_of(index, linear))
            .collect();
        let mut zeros = 0;
        for (name, _) in self.spec.tensors() {
            let found = self.check_finite_of(&name)?;
            zeros += if linears.contains(&name) { found } else { 0 };
        }
        Ok(zeros)
    }

    /// Checks that every element of a tensor is finite, and counts those that are zero.
    fn check_finite_of(&self, name: &str) -> Result<usize> {
        /// Number of elements that are converted at a time.
        const PIECE: usize = 1 << 18;
        let location = self.locate(name)?;
        let storage = self.storage(name)?;
        let bytes = self.files.read(location)?;
        let pieces = bytes.par_chunks(PIECE * storage.bytes());
        let zeros = AtomicUsize::new(0);
        let found = pieces.enumerate().find_map_first(|(piece, bytes)| {
            let values = storage.decode(bytes);
            let Some(position) = values.iter().position(|value| !value.is_finite()) else {
                let count = values.iter().filter(|value| **value == 0.0).count();
                zeros.fetch_add(count, Ordering::Relaxed);
                return None;
            };
            Some((piece * PIECE + position, values[position]))
        });
        match found {
            Some((position, value)) => Err(self.not_finite(name, location, position, value)),
            None => Ok(zeros.into_inner()),
        }
    }
}
