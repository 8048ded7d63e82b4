//! Checkpoints: `model.safetensors`, or shards with `model.safetensors.index.json`, read through
//! memory maps.
//!
//! Owns finding a tensor, checking its shape, type and values, and widening it to `f32`. A checkpoint
//! that lacks a tensor, has another shape than the configuration says, is truncated, or holds a NaN or
//! an infinity is refused with the file and the tensor; weights are never written here.

use crate::error::{Error, Located, Result};
use crate::spec::{BlockSpec, ModelSpec, NormPlace, NormSpec, Reach, Role};
use crate::tensor::StorageType;
use memmap2::Mmap;
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

/// The only weight file of a small checkpoint.
pub const SINGLE: &str = "model.safetensors";
/// Which tensor is in which shard.
pub const INDEX: &str = "model.safetensors.index.json";

/// An opened checkpoint whose tensors fit the model's specification.
pub struct Checkpoint {
    spec: ModelSpec,
    shards: Vec<Shard>,
    tensors: HashMap<String, Location>,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    /// `__metadata__` of the header.
    metadata: BTreeMap<String, String>,
    /// Tensor names in the order of their data.
    order: Vec<String>,
}

/// One weight file of a checkpoint, as it is stored.
pub struct StoredFile<'a> {
    /// File name.
    pub name: &'a str,
    /// `__metadata__` of the header.
    pub metadata: &'a BTreeMap<String, String>,
    /// Its tensors, in the order of their data; also those the forward pass does not read.
    pub tensors: Vec<StoredTensor<'a>>,
}

/// A tensor as it is stored.
pub struct StoredTensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Shape in the file.
    pub shape: &'a [usize],
    /// Its data.
    pub bytes: &'a [u8],
}

#[derive(Clone)]
struct Location {
    shard: usize,
    storage: Option<StorageType>,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
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

/// One block's weights on the host.
#[derive(Debug, Clone)]
pub struct BlockWeights {
    /// What the block's attention reaches.
    pub reach: Reach,
    /// The norms, in the order of [`BlockSpec::norms`].
    pub norms: Vec<(NormPlace, NormWeights)>,
    /// The linear layers, in the order of [`BlockSpec::linears`].
    pub linears: Vec<LinearWeights>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir` and checks that every tensor of `spec` is there with its shape.
    ///
    /// # Errors
    /// Missing, truncated or malformed files; missing tensors; wrong shapes; unsupported element types.
    pub fn open(dir: &Path, spec: ModelSpec) -> Result<Self> {
        let mut checkpoint = Checkpoint {
            spec,
            shards: Vec::new(),
            tensors: HashMap::new(),
        };
        if dir.join(SINGLE).exists() {
            checkpoint.add_shard(dir.join(SINGLE))?;
        } else if dir.join(INDEX).exists() {
            checkpoint.add_index(dir)?;
        } else {
            return Err(Error::input(format!("holds neither {SINGLE} nor {INDEX}")).at(dir.display()));
        }
        for (name, shape) in checkpoint.spec.tensors() {
            checkpoint.check(&name, &shape).at(dir.display())?;
        }
        checkpoint.check_tie().at(dir.display())?;
        Ok(checkpoint)
    }

    /// Whether `dir` holds a checkpoint, whole or not.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(SINGLE).exists() || dir.join(INDEX).exists()
    }

    /// The architecture this checkpoint was opened with.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<()> {
        let file = std::fs::File::open(&path).map_err(|source| Error::reading(&path, source))?;
        // SAFETY: the map is read-only and private to this process's view of the file. As with every
        // memory-mapped checkpoint reader, another process truncating the file meanwhile is outside
        // what can be defended against; shards are checked for size when they are opened.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::reading(&path, source))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| Error::input(explain(&error)).at(path.display()))?;
        // The format: eight bytes of header length, the header, then the data the offsets count from.
        let data = 8 + header;
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let location = Location {
                shard,
                storage: storage(info.dtype),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + info.data_offsets.0,
                end: data + info.data_offsets.1,
            };
            self.tensors.insert(name, location);
        }
        let order = metadata.offset_keys();
        let metadata = metadata.metadata().clone().unwrap_or_default();
        self.shards.push(Shard {
            path,
            map,
            metadata: metadata.into_iter().collect(),
            order,
        });
        Ok(())
    }

    fn add_index(&mut self, dir: &Path) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let path = dir.join(INDEX);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::reading(&path, source))?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("not a shard index: {error}")).at(path.display()))?;
        let mut files: Vec<&String> = index.weight_map.values().collect();
        files.sort();
        files.dedup();
        for file in files {
            // `..` and `/` are single components too, but they lead out of the folder.
            if !matches!(
                Path::new(file).components().collect::<Vec<_>>()[..],
                [Component::Normal(_)]
            ) {
                let message = format!("shard `{file}` is not a plain file name");
                return Err(Error::input(message).at(path.display()));
            }
            self.add_shard(dir.join(file))?;
        }
        for (name, file) in &index.weight_map {
            let found = self
                .tensors
                .get(name)
                .is_some_and(|location| self.shards[location.shard].path.file_name() == Some(file.as_ref()));
            if !found {
                let message = format!("tensor `{name}` is not in `{file}` as the index says");
                return Err(Error::input(message).at(path.display()));
            }
        }
        Ok(())
    }

    fn locate(&self, name: &str) -> Result<&Location> {
        self.tensors
            .get(name)
            .or_else(|| self.tensors.get(name.strip_prefix(self.spec.base_prefix)?))
            .ok_or_else(|| missing(name))
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let location = self.locate(name)?;
        let shard = self.shards[location.shard].path.display();
        if location.shape != shape {
            let got = &location.shape;
            let message = format!("tensor `{name}` has shape {got:?}, but config.json implies {shape:?}");
            return Err(Error::input(message).at(shard));
        }
        if location.storage.is_none() {
            let dtype = location.dtype;
            let message = format!("tensor `{name}` has type {dtype:?}; only F32, F16 and BF16 weights can be pruned");
            return Err(Error::input(message).at(shard));
        }
        Ok(())
    }

    /// A tied head that is stored all the same must equal the embedding: where they differ,
    /// transformers silently unties them, so either reading would be a guess.
    fn check_tie(&self) -> Result<()> {
        const HEAD: &str = "lm_head.weight";
        let Some(head) = self.tensors.get(HEAD).filter(|_| self.spec.head.tensor.is_none()) else {
            return Ok(());
        };
        let embedding = self.locate(&self.spec.embedding.tensor)?;
        if self.bytes(head) == self.bytes(embedding) {
            return Ok(());
        }
        let message = format!("`tie_word_embeddings` is true, but tensor `{HEAD}` differs from the embedding");
        Err(Error::input(message).at(self.shards[head.shard].path.display()))
    }

    fn bytes(&self, location: &Location) -> &[u8] {
        &self.shards[location.shard].map[location.start..location.end]
    }

    /// The weight files, as they are stored.
    pub fn files(&self) -> impl Iterator<Item = StoredFile<'_>> {
        self.shards.iter().enumerate().map(|(index, shard)| {
            let stored = |name: &'_ String| {
                let (name, location) = self.tensors.get_key_value(name)?;
                // A tensor that two shards hold is read from the later one, and belongs to it alone.
                (location.shard == index).then(|| StoredTensor {
                    name,
                    dtype: location.dtype,
                    shape: &location.shape,
                    bytes: self.bytes(location),
                })
            };
            StoredFile {
                name: shard.path.file_name().and_then(|name| name.to_str()).unwrap_or(SINGLE),
                metadata: &shard.metadata,
                tensors: shard.order.iter().filter_map(stored).collect(),
            }
        })
    }

    /// The name under which a tensor of the specification is stored.
    ///
    /// # Errors
    /// The tensor is missing.
    pub fn stored_name(&self, name: &str) -> Result<&str> {
        let stored = |name: &str| self.tensors.get_key_value(name).map(|(name, _)| name.as_str());
        stored(name)
            .or_else(|| stored(name.strip_prefix(self.spec.base_prefix)?))
            .ok_or_else(|| missing(name))
    }

    /// How the checkpoint stores a tensor.
    ///
    /// # Errors
    /// The tensor is missing or of an unsupported type.
    pub fn storage(&self, name: &str) -> Result<StorageType> {
        let location = self.locate(name)?;
        location
            .storage
            .ok_or_else(|| Error::input(format!("tensor `{name}` has type {:?}", location.dtype)))
    }

    /// A tensor's elements, widened to `f32`, row-major.
    ///
    /// # Errors
    /// The tensor is missing, or an element is NaN or infinite.
    pub fn elements(&self, name: &str) -> Result<Vec<f32>> {
        let location = self.locate(name)?;
        let shard = &self.shards[location.shard];
        let values = self.storage(name)?.decode(self.bytes(location));
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let message = format!("tensor `{name}`: element {position} is {}", values[position]);
            return Err(Error::input(message).at(shard.path.display()));
        }
        Ok(values)
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

    /// All weights of block `index`.
    ///
    /// # Errors
    /// As [`Checkpoint::elements`].
    pub fn block(&self, index: usize) -> Result<BlockWeights> {
        let block: &BlockSpec = &self.spec.block;
        let prefix = block.prefix_of(index);
        let linears = block
            .linears
            .iter()
            .map(|linear| {
                let stem = format!("{prefix}{}", linear.tensor);
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
            })
            .collect::<Result<_>>()?;
        let norms = block
            .norms
            .iter()
            .map(|(place, norm)| Ok((*place, self.norm(&prefix, norm)?)))
            .collect::<Result<_>>()?;
        Ok(BlockWeights {
            reach: self.spec.reach(index),
            norms,
            linears,
        })
    }

    /// Checks that every weight of the model is finite.
    ///
    /// # Errors
    /// Names the file, the tensor and the first offending element.
    pub fn check_finite(&self) -> Result<()> {
        let tensors: Vec<_> = self.spec.tensors().collect();
        tensors
            .par_iter()
            .map(|(name, _)| self.elements(name).map(drop))
            .collect()
    }

    /// SHA-256 of all weight files, in order of their names.
    pub fn digest(&self) -> String {
        let mut order: Vec<&Shard> = self.shards.iter().collect();
        order.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = Sha256::new();
        for shard in order {
            hash.update(&shard.map[..]);
        }
        crate::data::digest::hexadecimal(&hash.finalize())
    }
}

fn missing(name: &str) -> Error {
    Error::input(format!("tensor `{name}` is missing"))
}

fn storage(dtype: Dtype) -> Option<StorageType> {
    match dtype {
        Dtype::F32 => Some(StorageType::F32),
        Dtype::F16 => Some(StorageType::F16),
        Dtype::BF16 => Some(StorageType::BF16),
        _ => None,
    }
}

fn explain(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as Cause;
    let reason = match error {
        Cause::HeaderTooSmall => "the file is shorter than a header",
        Cause::HeaderTooLarge | Cause::InvalidHeaderLength => "the header's length does not fit the file",
        Cause::InvalidHeader(_) | Cause::InvalidHeaderDeserialization(_) => "the header is not valid",
        Cause::MetadataIncompleteBuffer => "the data does not fill the file as the header says",
        Cause::TensorInvalidInfo => "a tensor's offsets do not fit its shape and type",
        Cause::InvalidOffset(name) => {
            return format!("truncated or corrupt safetensors file: tensor `{name}` overlaps or leaves a gap");
        }
        _ => return format!("truncated or corrupt safetensors file: {error}"),
    };
    format!("truncated or corrupt safetensors file: {reason}")
}
