//! A GGUF becomes a Hugging Face model directory. What differs between architectures is in `architecture`.
//!
//! llama.cpp stores the query and key rows of a LLaMA's head with its rotary pairs side by side, Hugging Face with their first halves
//! before their second; the rows are put back (`rows.rs`). It stores the gains of norms, Gemma's directories these minus 1. The configuration that the metadata make (`configuration.rs`) is read by
//! [`families`] before a tensor is: the checkpoint's names and shapes are checked against what zprune itself expects.
//!
//! One tensor is in memory at a time, in its final type; nothing appears under the final name unless all is well.

use super::architecture::{ROPE_FACTORS, size};
use super::configuration::{config, refuse_other_models};
use super::dequantise::BlockType;
use super::rows::paired_row;
use super::tokenizer::{self, Converted};
use super::{Gguf, Tensor, mapped};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{CLASS, Shards, class_of, emitted};
use crate::model::families;
use crate::progress::Progress;
use crate::spec::ModelSpec;
use crate::tensor::StorageType;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Size of a weight file in bytes beyond which the next tensor begins another one (Hugging Face's "5GB").
const SHARD_BYTES: u64 = 5_000_000_000;

/// What an import is free to choose.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions {
    /// How the directory stores weights. `f32` holds every block format's values exactly.
    pub dtype: StorageType,
    /// Bytes of a weight file beyond which the next tensor begins another one.
    pub shard_bytes: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions {
            dtype: StorageType::F32,
            shard_bytes: SHARD_BYTES,
        }
    }
}

/// What an import wrote, for what the user is told.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The model directory that was made.
    pub folder: PathBuf,
    /// Number of tensors in the directory.
    pub tensors: usize,
    /// Number of weights in all tensors together.
    pub parameters: u64,
    /// Number of bytes of all weights.
    pub bytes: u64,
    /// Number of weight files in the directory.
    pub files: usize,
    /// The number format in which the weights are stored.
    pub dtype: StorageType,
    /// Number of tokens in the vocabulary of the tokenizer.
    pub tokens: usize,
    /// Block formats of the imported tensors, with the number of tensors in each.
    pub found: BTreeMap<BlockType, usize>,
    /// Bits of a weight in the file, on average over the tensors that are stored in blocks; `None` if there are no such.
    pub bits: Option<f64>,
}

/// Name of the file that tells readers of a directory what the weights were made from.
const README: &str = "README.md";

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: Vec<String> = self
            .found
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        writeln!(f, "wrote {}", self.folder.display())?;
        writeln!(f, "  read        {}", found.join(", "))?;
        writeln!(f, "  tensors     {}", self.tensors)?;
        writeln!(f, "  parameters  {}", self.parameters)?;
        writeln!(
            f,
            "  weights     {} bytes of {}, in {} file{}",
            self.bytes,
            self.dtype.name(),
            self.files,
            if self.files == 1 { "" } else { "s" }
        )?;
        write!(f, "  tokenizer   {} tokens", self.tokens)?;
        match self.bits {
            Some(bits) => write!(f, "\n{}", dequantised(bits, &self.found)),
            None => Ok(()),
        }
    }
}

/// What is to be known of a model whose weights had so many bits.
fn dequantised(bits: f64, found: &BTreeMap<BlockType, usize>) -> String {
    let kinds = found.keys().filter(|kind| kind.is_quantised());
    let kinds: Vec<String> = kinds.map(|kind| kind.to_string()).collect();
    format!(
        "The file is quantised: {bits:.1} bits a weight ({}). The folder has the values that these bits stand for. So \"dense\" in \
         reports is the quantised model, not the one that it was made from; the two have different perplexities.",
        kinds.join(", ")
    )
}

/// Imports the GGUF file `path` into the new directory `folder`.
///
/// # Errors
/// The file cannot be read or carried over exactly, `folder` exists, or the disk refuses. Nothing is left
/// behind then.
pub fn import(path: &Path, folder: &Path, options: ImportOptions, progress: &dyn Progress) -> Result<Imported> {
    progress.stage("reading the metadata");
    let map = mapped(path)?;
    let gguf = Gguf::parse(&map).at(path.display())?;
    let model = Model::read(&gguf, options.dtype).at(path.display())?;
    let staging = Staging::new(folder)?;
    model.write(path, &staging, options, progress)?;

    // What was written must load: nothing else is worth a name.
    progress.stage("reading it back");
    let whole = staging.path("");
    let loaded = families::read_spec(&whole).and_then(|spec| Checkpoint::open(&whole, spec));
    let loaded = loaded.and_then(|_| Tokenizer::load(&whole).at(path.display()));
    loaded.map_err(|error| staging.renamed(error))?;
    staging.commit()?;
    Ok(model.summary(folder, options))
}

/// A tensor of the directory and where its values come from.
pub(super) struct Planned<'a> {
    pub(super) name: String,
    shape: Vec<usize>,
    pub(super) source: Source<'a>,
}

pub(super) enum Source<'a> {
    /// A tensor of the file, by its name there.
    Stored {
        name: String,
        tensor: &'a Tensor<'a>,
        /// Length of the heads whose rotary pairs must be put apart.
        rotary: Option<usize>,
        /// Whether 1 must be subtracted from it.
        minus_one: bool,
    },
    /// Zeros: a bias that the file leaves out beside others that it has.
    Zeros,
}

/// Everything the directory will hold, checked.
pub(super) struct Model<'a> {
    /// The text of a `config.json` that says what the metadata do.
    config: String,
    pub(super) spec: ModelSpec,
    pub(super) tokenizer: Converted,
    pub(super) tensors: Vec<Planned<'a>>,
}

impl<'a> Model<'a> {
    /// Reads the metadata, and finds every tensor that they imply.
    ///
    /// # Errors
    /// Names the key or the tensor that is missing, or cannot be carried over.
    pub(super) fn read(gguf: &'a Gguf<'a>, dtype: StorageType) -> Result<Self> {
        let architecture = refuse_other_models(gguf)?;
        let longest = size(gguf, &architecture.key("context_length"))?;
        let tokenizer = tokenizer::convert(gguf, longest)?;
        let config = config(gguf, architecture, &tokenizer, longest, dtype)?.to_string();
        let spec = families::parse_spec(&config).at("the configuration its metadata describe")?;
        let head = spec.block(0).attention.head_dim;
        let mut used = BTreeSet::new();
        if architecture.rope_factors {
            used.insert(ROPE_FACTORS.to_string());
        }
        let mut tensors = Vec::new();
        for (name, shape) in spec.tensors() {
            let stored = architecture.stored_name(&name);
            let source = match gguf.tensors().get(stored.as_str()) {
                Some(tensor) if tensor.shape == shape => Source::Stored {
                    name: stored.clone(),
                    tensor,
                    rotary: architecture.is_paired(&stored).then_some(head),
                    minus_one: architecture.is_minus_one(&stored),
                },
                Some(tensor) => {
                    return Err(Error::input(format!(
                        "tensor `{stored}` has shape {:?}, but the metadata imply {shape:?}",
                        tensor.shape
                    )));
                }
                None if stored.ends_with(".bias") => Source::Zeros,
                None => return Err(Error::input(format!("tensor `{stored}` is missing"))),
            };
            used.insert(stored);
            tensors.push(Planned { name, shape, source });
        }
        if let Some(name) = gguf.tensors().keys().find(|name| !used.contains(**name)) {
            return Err(Error::input(format!(
                "tensor `{name}` has no counterpart in a model of architecture \"{}\" and this configuration",
                architecture.name
            )));
        }
        Ok(Model {
            config,
            spec,
            tokenizer,
            tensors,
        })
    }

    fn write(&self, path: &Path, staging: &Staging, options: ImportOptions, progress: &dyn Progress) -> Result<()> {
        let access = Access::of(path)?;
        let json = |name: &str, value: &serde_json::Value| {
            let text = serde_json::to_string_pretty(value).map_err(|error| Error::input(error).at(name))?;
            staging.write(name, (text + "\n").as_bytes(), access)
        };
        let blocks: Vec<usize> = (0..self.spec.blocks).collect();
        let config = emitted(&self.config, &self.spec, &blocks).at(path.display())?;
        staging.write("config.json", config.as_bytes(), access)?;
        if let Some(class) = class_of(&self.spec) {
            staging.write(CLASS, class.as_bytes(), access)?;
        }
        json("generation_config.json", &self.tokenizer.ids.clone().into())?;
        json("tokenizer.json", &self.tokenizer.tokenizer)?;
        json("tokenizer_config.json", &self.tokenizer.config)?;
        json("special_tokens_map.json", &self.tokenizer.special)?;

        if let Some(bits) = self.bits() {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let text = format!(
                "Made from `{file}` by zprune {}.\n\n{}\n",
                env!("CARGO_PKG_VERSION"),
                dequantised(bits, &self.found())
            );
            staging.write(README, text.as_bytes(), access)?;
        }

        let mut tensors = self.tensors.iter();
        progress.start(0, self.tensors.len());
        self.shards(options).write(staging, access, |name, _| {
            let tensor = tensors.next().expect("as many as were announced");
            progress.stage(name);
            let bytes = tensor.bytes(options.dtype).at(path.display())?;
            progress.step()?;
            Ok(bytes)
        })?;
        progress.finish();
        Ok(())
    }

    /// How the tensors are shared out among weight files.
    fn shards(&self, options: ImportOptions) -> Shards {
        let tensors = self.tensors.iter();
        let announced = tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
        Shards::new(announced, options.dtype, options.shard_bytes)
    }

    /// The tensors of the file.
    fn stored(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.tensors.iter().filter_map(|planned| match &planned.source {
            Source::Stored { tensor, .. } => Some(*tensor),
            Source::Zeros => None,
        })
    }

    /// Block formats of the tensors, with the number of tensors in each.
    fn found(&self) -> BTreeMap<BlockType, usize> {
        let mut found = BTreeMap::new();
        for tensor in self.stored() {
            *found.entry(tensor.kind).or_default() += 1;
        }
        found
    }

    /// Bits of a weight in the file; see [`Imported::bits`].
    fn bits(&self) -> Option<f64> {
        let blocks = self.stored().filter(|tensor| tensor.kind.is_quantised());
        let (bytes, weights) = blocks.fold((0, 0), |(bytes, weights), tensor| {
            (
                bytes + tensor.data.len(),
                weights + tensor.shape.iter().product::<usize>(),
            )
        });
        (weights > 0).then(|| 8.0 * bytes as f64 / weights as f64)
    }

    fn summary(&self, folder: &Path, options: ImportOptions) -> Imported {
        let shards = self.shards(options);
        Imported {
            folder: folder.to_path_buf(),
            tensors: self.tensors.len(),
            parameters: shards.parameters(),
            bytes: shards.bytes(),
            files: shards.count(),
            dtype: options.dtype,
            tokens: self.tokenizer.tokens,
            found: self.found(),
            bits: self.bits(),
        }
    }
}

impl Planned<'_> {
    fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    /// The tensor's values in `dtype`, little-endian.
    ///
    /// # Errors
    /// One is not finite there.
    pub(super) fn bytes(&self, dtype: StorageType) -> Result<Vec<u8>> {
        let columns = self.shape.last().copied().unwrap_or(1);
        let width = dtype.bytes();
        let mut bytes = vec![0; self.elements() as usize * width];
        let Source::Stored {
            name,
            tensor,
            rotary,
            minus_one,
        } = &self.source
        else {
            return Ok(bytes);
        };
        let row_of = |row: usize| rotary.map_or(row, |head| paired_row(row, head));
        // A vector (a bias, if it has heads) is one row whose elements move; a matrix has rows that move.
        let wrong = if self.shape.len() == 1 {
            let mut values = vec![0.0; columns];
            tensor.kind.dequantise(tensor.data, &mut values);
            let less = if *minus_one { 1.0 } else { 0.0 };
            let moved: Vec<f32> = (0..columns).map(|element| values[row_of(element)] - less).collect();
            encode(&moved, dtype, &mut bytes)
        } else {
            let stored = columns / tensor.kind.elements() * tensor.kind.bytes();
            bytes
                .par_chunks_mut(columns * width)
                .enumerate()
                .find_map_first(|(row, bytes)| {
                    let mut values = vec![0.0; columns];
                    tensor
                        .kind
                        .dequantise(&tensor.data[row_of(row) * stored..][..stored], &mut values);
                    let (position, value) = encode(&values, dtype, bytes)?;
                    Some((row_of(row) * columns + position, value))
                })
        };
        match wrong {
            None => Ok(bytes),
            Some((position, value)) if value.is_finite() => Err(Error::input(format!(
                "tensor `{name}`: element {position} is {value}, too large for {}; choose --dtype f32 or bf16",
                dtype.name()
            ))),
            Some((position, value)) => Err(Error::input(format!("tensor `{name}`: element {position} is {value}"))),
        }
    }
}

/// Rounds values to `dtype`, ties to even. Returns the first one that is not finite there, with its position.
fn encode(values: &[f32], dtype: StorageType, bytes: &mut [u8]) -> Option<(usize, f32)> {
    bytes.copy_from_slice(&dtype.encode(values.iter().copied()));
    let position = values.iter().position(|value| !dtype.round(*value).is_finite())?;
    Some((position, values[position]))
}
