//! A GGUF of the LLaMA architecture becomes a Hugging Face model directory.
//!
//! Owns the names, the order of rows and the configuration. llama.cpp stores the query and key rows of a
//! head with its rotary pairs side by side, Hugging Face with their first halves before their second; the
//! rows are put back. What the metadata ask of the mathematics and a LLaMA `config.json` cannot say is
//! refused. The configuration made here is read by [`families`] before a tensor is: the checkpoint's names
//! and shapes are checked against what zprune itself expects.
//!
//! One tensor is in memory at a time, in its final type; nothing appears under the final name unless all is well.

use super::dequantise::BlockType;
use super::tokenizer::{self, Converted};
use super::{Gguf, Tensor, required};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging, input};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::Shards;
use crate::model::families;
use crate::progress::Progress;
use crate::tensor::StorageType;
use memmap2::Mmap;
use rayon::prelude::*;
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::TAU;
use std::fmt;
use std::path::{Path, PathBuf};

/// Size of a weight file in bytes beyond which the next tensor begins another one (Hugging Face's "5GB").
const SHARD_BYTES: u64 = 5_000_000_000;

/// llama.cpp's factors of the rotary frequencies, where LLaMA 3.1 scales them.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What an import is free to choose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How the directory stores weights. `f32` holds every block format's values exactly.
    pub dtype: StorageType,
    /// Bytes of a weight file beyond which the next tensor begins another one.
    pub shard_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dtype: StorageType::F32,
            shard_bytes: SHARD_BYTES,
        }
    }
}

/// What an import wrote.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The directory.
    pub folder: PathBuf,
    /// Number of tensors in it.
    pub tensors: usize,
    /// Number of weights in it.
    pub parameters: u64,
    /// Bytes of all its weights.
    pub bytes: u64,
    /// Number of weight files.
    pub files: usize,
    /// How the weights are stored.
    pub dtype: StorageType,
    /// Number of tokens of its tokenizer.
    pub tokens: usize,
    /// Block formats of the imported tensors, with the number of tensors in each.
    pub found: BTreeMap<BlockType, usize>,
}

impl fmt::Display for Summary {
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
        write!(f, "  tokenizer   {} tokens", self.tokens)
    }
}

/// Imports the GGUF file `path` into the new directory `folder`.
///
/// # Errors
/// The file cannot be read or carried over exactly, `folder` exists, or the disk refuses. Nothing is left
/// behind then.
pub fn import(path: &Path, folder: &Path, options: Options, progress: &dyn Progress) -> Result<Summary> {
    progress.stage("reading the metadata");
    let file = input::open(path)?;
    // SAFETY: the map is read-only and private to this process's view of the file. As with checkpoints,
    // another process truncating the file meanwhile is outside what can be defended against; every length
    // is checked against the map's own.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::reading(path, source))?;
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
struct Planned<'a> {
    name: String,
    shape: Vec<usize>,
    source: Source<'a>,
}

enum Source<'a> {
    /// A tensor of the file, by its name there.
    Stored {
        name: String,
        tensor: &'a Tensor<'a>,
        /// Length of the heads whose rotary pairs must be put apart.
        rotary: Option<usize>,
    },
    /// Zeros: a bias that the file leaves out beside others that it has.
    Zeros,
}

/// Everything the directory will hold, checked.
struct Model<'a> {
    config: serde_json::Value,
    tokenizer: Converted,
    tensors: Vec<Planned<'a>>,
}

impl<'a> Model<'a> {
    fn read(gguf: &'a Gguf<'a>, dtype: StorageType) -> Result<Self> {
        refuse_other_models(gguf)?;
        let longest = count(gguf, "llama.context_length")?;
        let tokenizer = tokenizer::convert(gguf, longest)?;
        let config = config(gguf, &tokenizer, longest, dtype)?;
        let spec = families::parse_spec(&config.to_string()).at("the configuration its metadata describe")?;
        let head = spec.block(0).attention.head_dim;

        // Every tensor has a norm, so a model of more blocks than tensors lacks one; said before a list is made.
        if spec.blocks > gguf.tensors().len() {
            return Err(Error::input(format!(
                "key `llama.block_count` = {}, but there are only {} tensors",
                spec.blocks,
                gguf.tensors().len()
            )));
        }
        let mut used = BTreeSet::from([ROPE_FACTORS.to_string()]);
        let mut tensors = Vec::new();
        for (name, shape) in spec.tensors() {
            let stored = stored_name(&name);
            let rotary = ["attn_q.", "attn_k."].iter().any(|part| stored.contains(part));
            let source = match gguf.tensors().get(stored.as_str()) {
                Some(tensor) if tensor.shape == shape => Source::Stored {
                    name: stored.clone(),
                    tensor,
                    rotary: rotary.then_some(head),
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
                "tensor `{name}` has no counterpart in a LLaMA model of this configuration"
            )));
        }
        Ok(Model {
            config,
            tokenizer,
            tensors,
        })
    }

    fn write(&self, path: &Path, staging: &Staging, options: Options, progress: &dyn Progress) -> Result<()> {
        let access = Access::of(path)?;
        let json = |name: &str, value: &serde_json::Value| {
            let text = serde_json::to_string_pretty(value).map_err(|error| Error::input(error).at(name))?;
            staging.write(name, (text + "\n").as_bytes(), access)
        };
        json("config.json", &self.config)?;
        json("generation_config.json", &self.tokenizer.ids.clone().into())?;
        json("tokenizer.json", &self.tokenizer.tokenizer)?;
        json("tokenizer_config.json", &self.tokenizer.config)?;
        json("special_tokens_map.json", &self.tokenizer.special)?;

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

    /// The weight files.
    fn shards(&self, options: Options) -> Shards {
        let tensors = self.tensors.iter();
        let announced = tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
        Shards::new(announced, options.dtype, options.shard_bytes)
    }

    fn summary(&self, folder: &Path, options: Options) -> Summary {
        let mut found = BTreeMap::new();
        for tensor in &self.tensors {
            if let Source::Stored { tensor, .. } = &tensor.source {
                *found.entry(tensor.kind).or_default() += 1;
            }
        }
        let shards = self.shards(options);
        Summary {
            folder: folder.to_path_buf(),
            tensors: self.tensors.len(),
            parameters: shards.parameters(),
            bytes: shards.bytes(),
            files: shards.count(),
            dtype: options.dtype,
            tokens: self.tokenizer.tokens,
            found,
        }
    }
}

impl Planned<'_> {
    fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    /// The tensor's values in `dtype`, little-endian.
    fn bytes(&self, dtype: StorageType) -> Result<Vec<u8>> {
        let columns = self.shape.last().copied().unwrap_or(1);
        let width = dtype.bytes();
        let mut bytes = vec![0; self.elements() as usize * width];
        let Source::Stored { name, tensor, rotary } = &self.source else {
            return Ok(bytes);
        };
        let row_of = |row: usize| rotary.map_or(row, |head| paired_row(row, head));
        // A vector (a bias, if it has heads) is one row whose elements move; a matrix has rows that move.
        let wrong = if self.shape.len() == 1 {
            let mut values = vec![0.0; columns];
            tensor.kind.dequantise(tensor.data, &mut values);
            let moved: Vec<f32> = (0..columns).map(|element| values[row_of(element)]).collect();
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

/// Where llama.cpp keeps row `row` of a query or key projection whose heads are `head` rows long: rows `i`
/// and `i + head / 2` of a head are rows `2 i` and `2 i + 1` there.
fn paired_row(row: usize, head: usize) -> usize {
    let (start, inside) = (row / head * head, row % head);
    let half = head / 2;
    start + 2 * (inside % half) + inside / half
}

/// llama.cpp's name of a Hugging Face tensor.
fn stored_name(name: &str) -> String {
    const WHOLE: [(&str, &str); 3] = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    const IN_BLOCK: [(&str, &str); 9] = [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let find = |names: &[(&str, &str)], stem: &str| {
        let found = names.iter().find(|(theirs, _)| *theirs == stem);
        found.map_or_else(|| stem.to_string(), |(_, ours)| ours.to_string())
    };
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
    let block = stem.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    match block {
        Some((index, stem)) => format!("blk.{index}.{}.{kind}", find(&IN_BLOCK, stem)),
        None => format!("{}.{kind}", find(&WHOLE, stem)),
    }
}

fn count(gguf: &Gguf, key: &str) -> Result<usize> {
    match required(key, gguf.count(key)?)? {
        0 => Err(Error::input(format!("key `{key}` must be positive, but is 0"))),
        count => Ok(count),
    }
}

/// Metadata that change the mathematics in ways a LLaMA configuration cannot say, with the number that
/// switches each one off.
const MATHEMATICAL: &[(&str, f64)] = &[
    ("llama.expert_count", 0.0),
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.scale", 0.0),
    ("llama.attention.temperature_scale", 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.final_logit_softcapping", 0.0),
    ("llama.embedding_scale", 1.0),
    ("llama.residual_scale", 1.0),
    ("llama.logit_scale", 1.0),
    ("llama.rope.scaling.attn_factor", 1.0),
    ("split.count", 1.0),
];

/// Metadata of the architecture that are read here or concern other things than mathematics.
const KNOWN: &[&str] = &[
    "llama.attention.causal",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.layer_norm_epsilon",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.sliding_window",
    "llama.attention.value_length",
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.expert_used_count",
    "llama.feed_forward_length",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.type",
    "llama.tensor_data_layout",
    "llama.use_parallel_residual",
    "llama.vocab_size",
];

fn refuse_other_models(gguf: &Gguf) -> Result<()> {
    const ARCHITECTURE: &str = "general.architecture";
    let architecture = required(ARCHITECTURE, gguf.text(ARCHITECTURE)?)?;
    if architecture != "llama" {
        return Err(Error::input(format!(
            "key `{ARCHITECTURE}`: architecture \"{architecture}\" is not supported (supported: llama)"
        )));
    }
    for (key, off) in MATHEMATICAL {
        // `split.count` is 0 or 1 in a file that is whole.
        match gguf.number(key)? {
            Some(value) if value != *off && value != 0.0 => {
                return Err(Error::input(format!("key `{key}` = {value} is not supported")));
            }
            _ => {}
        }
    }
    for (key, off) in [("llama.use_parallel_residual", false), ("llama.attention.causal", true)] {
        if gguf.flag(key)?.is_some_and(|value| value != off) {
            return Err(Error::input(format!("key `{key}` = {} is not supported", !off)));
        }
    }
    for key in gguf.metadata().keys().filter(|key| key.starts_with("llama.")) {
        if !KNOWN.contains(key) && !MATHEMATICAL.iter().any(|(name, _)| name == key) {
            tracing::warn!("GGUF key `{key}` is unknown and was ignored");
        }
    }
    Ok(())
}

/// The content of config.json.
fn config(gguf: &Gguf, tokenizer: &Converted, longest: usize, dtype: StorageType) -> Result<serde_json::Value> {
    const EMBEDDING: &str = "token_embd.weight";
    const EPSILON: &str = "llama.attention.layer_norm_rms_epsilon";
    let width = count(gguf, "llama.embedding_length")?;
    let heads = count(gguf, "llama.attention.head_count")?;
    let kv_heads = gguf.count("llama.attention.head_count_kv")?.unwrap_or(heads);
    let head = head_dim(gguf, width, heads)?;
    let (theta, scaling) = rotary(gguf, head)?;
    if let Some(window) = gguf.count("llama.attention.sliding_window")?
        && window > 0
        && window < longest
    {
        return Err(Error::input(format!(
            "key `llama.attention.sliding_window` = {window} is not supported"
        )));
    }
    let embedding = gguf
        .tensors()
        .get(EMBEDDING)
        .ok_or_else(|| Error::input(format!("tensor `{EMBEDDING}` is missing")))?;
    let vocabulary = embedding.shape[0];
    match gguf.count("llama.vocab_size")? {
        Some(size) if size != vocabulary => {
            return Err(Error::input(format!(
                "key `llama.vocab_size` = {size}, but tensor `{EMBEDDING}` has {vocabulary} rows"
            )));
        }
        _ if tokenizer.tokens > vocabulary => {
            return Err(Error::input(format!(
                "the tokenizer has {} tokens, but tensor `{EMBEDDING}` has {vocabulary} rows",
                tokenizer.tokens
            )));
        }
        _ => {}
    }
    let bias = |part: &str| {
        let mut names = gguf.tensors().keys();
        names.any(|name| name.starts_with("blk.") && name.contains(part) && name.ends_with(".bias"))
    };

    let mut config = Map::new();
    let mut set = |key: &str, value: serde_json::Value| {
        config.insert(key.to_string(), value);
    };
    set("architectures", json!(["LlamaForCausalLM"]));
    set("model_type", json!("llama"));
    set("hidden_size", json!(width));
    set("intermediate_size", json!(count(gguf, "llama.feed_forward_length")?));
    set("num_hidden_layers", json!(count(gguf, "llama.block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(kv_heads));
    set("head_dim", json!(head));
    set("hidden_act", json!("silu"));
    set("max_position_embeddings", json!(longest));
    set(
        "rms_norm_eps",
        json!(shortest(required(EPSILON, gguf.number(EPSILON)?)?)),
    );
    set("rope_theta", json!(theta));
    set("rope_scaling", scaling);
    set("attention_bias", json!(bias(".attn_")));
    set("mlp_bias", json!(bias(".ffn_")));
    set("attention_dropout", json!(0.0));
    set("initializer_range", json!(0.02));
    set("pretraining_tp", json!(1));
    set("use_cache", json!(true));
    set("vocab_size", json!(vocabulary));
    set(
        "tie_word_embeddings",
        json!(!gguf.tensors().contains_key("output.weight")),
    );
    set("torch_dtype", json!(dtype.torch_name()));
    config.extend(tokenizer.ids.clone());
    Ok(serde_json::Value::Object(config))
}

/// The shortest decimal that is this number in single precision, as which the metadata hold it:
/// 0.00001 and not 0.000009999999747378752.
fn shortest(number: f64) -> f64 {
    let decimal: Option<f64> = (number as f32).to_string().parse().ok();
    // Only a file that holds double precision can leave the range; its number stands as it is.
    decimal.filter(|decimal| decimal.is_finite()).unwrap_or(number)
}

fn head_dim(gguf: &Gguf, width: usize, heads: usize) -> Result<usize> {
    const KEY: &str = "llama.attention.key_length";
    const ROTARY: &str = "llama.rope.dimension_count";
    let rotary = gguf.count(ROTARY)?;
    let head = match gguf.count(KEY)?.or(rotary) {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(Error::input(format!(
                "key `{KEY}` is missing, and {width} features are not divisible by {heads} heads"
            )));
        }
    };
    for key in [ROTARY, "llama.attention.value_length"] {
        if let Some(other) = gguf.count(key)?
            && other != head
        {
            return Err(Error::input(format!(
                "key `{key}` = {other}, but heads have {head} features; that is not supported"
            )));
        }
    }
    Ok(head)
}

/// `rope_theta` and `rope_scaling`.
fn rotary(gguf: &Gguf, head: usize) -> Result<(f64, serde_json::Value)> {
    const KIND: &str = "llama.rope.scaling.type";
    const FACTOR: &str = "llama.rope.scaling.factor";
    const OLD_FACTOR: &str = "llama.rope.scale_linear";
    let theta = shortest(gguf.number("llama.rope.freq_base")?.unwrap_or(10_000.0));
    // A factor of 0 means none, and one without a type is linear (llama.cpp's defaults).
    let factor = match gguf.number(FACTOR)? {
        None => gguf.number(OLD_FACTOR)?,
        factor => factor,
    };
    let factor = factor.map(shortest).filter(|factor| *factor != 0.0 && *factor != 1.0);
    let scaling = match (gguf.text(KIND)?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => serde_json::Value::Null,
        ("linear", Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (other, _) => {
            return Err(Error::input(format!(
                "key `{KIND}`: rotary scaling \"{other}\" is not supported (supported: none, linear)"
            )));
        }
    };
    let Some(tensor) = gguf.tensors().get(ROPE_FACTORS) else {
        return Ok((theta, scaling));
    };
    let original = gguf.count("llama.rope.scaling.original_context_length")?;
    let bands = bands(tensor, head, theta, original.filter(|original| *original > 0))
        .at(format_args!("tensor `{ROPE_FACTORS}`"))?;
    match (bands, scaling) {
        (None, scaling) => Ok((theta, scaling)),
        (Some(bands), serde_json::Value::Null) => Ok((theta, bands)),
        (Some(_), _) => Err(Error::input(format!(
            "tensor `{ROPE_FACTORS}` and linear rotary scaling together are not supported"
        ))),
    }
}

/// LLaMA 3.1's scaling, found again from the factors llama.cpp divides the rotary frequencies by; `None` if
/// all are 1. The file does not hold the settings themselves, so all published models' are tried.
fn bands(tensor: &Tensor, head: usize, theta: f64, original: Option<usize>) -> Result<Option<serde_json::Value>> {
    /// Settings of LLaMA 3.1, 3.2 and 3.3.
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL: usize = 8192;
    /// llama.cpp computes the factors in single precision.
    const TOLERANCE: f64 = 1e-5;
    if head == 0 || tensor.shape != [head / 2] {
        return Err(Error::input(format!(
            "has shape {:?}, but heads of {head} features need [{}]",
            tensor.shape,
            head / 2
        )));
    }
    let mut stored = vec![0.0f32; head / 2];
    tensor.kind.dequantise(tensor.data, &mut stored);
    if stored.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let factor = stored.iter().copied().fold(1.0f32, f32::max);
    let (factor, original) = (f64::from(factor), original.unwrap_or(ORIGINAL));
    let expected = |pair: usize| {
        let length = original as f64;
        let wavelength = TAU * theta.powf(2.0 * pair as f64 / head as f64);
        if wavelength < length / HIGH {
            1.0
        } else if wavelength > length / LOW {
            factor
        } else {
            let kept = (length / wavelength - LOW) / (HIGH - LOW);
            1.0 / ((1.0 - kept) / factor + kept)
        }
    };
    let fits = |(pair, stored): (usize, &f32)| (f64::from(*stored) / expected(pair) - 1.0).abs() <= TOLERANCE;
    if !stored.iter().enumerate().all(fits) {
        return Err(Error::input(format!(
            "these factors are not LLaMA 3.1's (low {LOW}, high {HIGH}, original context {original}); others are not supported"
        )));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": original,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_put_apart() {
        let rows: Vec<usize> = (0..8).map(|row| paired_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn names_are_translated() {
        for (theirs, ours) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.12.self_attn.o_proj.bias", "blk.12.attn_output.bias"),
            (
                "model.layers.0.post_attention_layernorm.weight",
                "blk.0.ffn_norm.weight",
            ),
            ("lm_head.weight", "output.weight"),
        ] {
            assert_eq!(stored_name(theirs), ours);
        }
    }

    #[test]
    fn llama_3_scaling_is_found_again_and_nothing_else() {
        let (head, theta) = (64, 500_000.0);
        let stored = |scale: &dyn Fn(f64) -> f64| -> Vec<u8> {
            let wavelength = |pair: usize| TAU * f64::powf(theta, 2.0 * pair as f64 / head as f64);
            (0..head / 2)
                .flat_map(|pair| (scale(wavelength(pair)) as f32).to_le_bytes())
                .collect()
        };
        let find = |bytes: &[u8]| {
            let tensor = Tensor {
                kind: BlockType::F32,
                shape: vec![head / 2],
                data: bytes,
            };
            bands(&tensor, head, theta, None)
        };
        let llama = stored(&|wavelength| {
            let kept = ((8192.0 / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
            1.0 / ((1.0 - kept) / 32.0 + kept)
        });
        let found = find(&llama).expect("LLaMA 3.2's factors").expect("they are not 1");
        assert_eq!(found["factor"], 32.0);
        assert!(find(&stored(&|_| 1.0)).expect("no scaling").is_none());
        assert!(find(&stored(&|wavelength| 1.0 + wavelength)).is_err());
    }
}
