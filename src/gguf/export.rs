//! A Hugging Face model directory becomes a GGUF file that llama.cpp runs: the way back of `import.rs`.
//!
//! Where all blocks have the same sizes, the architecture is `llama`, which everything that reads GGUF knows. Where they differ, it is
//! `deci`, whose metadata have a list of sizes. Whatever changes a model's answers and has no key in these architectures is refused
//! before anything is written.
//!
//! One tensor is in memory at a time, and once more in the format that is written. The file gets its name after this program has read it
//! again and has found the same values and tokens.

use super::architecture::{Architecture, DECI, LLAMA, ROPE_FACTORS, bands};
use super::dequantise::BlockType;
use super::import::{Model, Source as Read};
use super::quantise::quantise;
use super::rows::parted_row;
use super::vocabulary::describe;
use super::write::{Announced, GgufFile, Metadata};
use super::{Gguf, Tensor, mapped};
use crate::data::tokenizer::{Bos, Tokenizer};
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging, input, json};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::CONFIG;
use crate::model::families::read_spec;
use crate::progress::Progress;
use crate::spec::{Activation, ModelSpec, Positions};
use crate::tensor::StorageType;
use rayon::prelude::*;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Families whose blocks are a LLaMA's. llama.cpp turns the pairs of their rotary positions as the order of rows says.
const FAMILIES: [&str; 4] = ["granite", "llama", "mistral", "qwen2"];

/// Neurons that a block without MLP gets, all 0: llama.cpp forgets the attention of a `deci` block that has none.
const NO_NEURONS: usize = 32;

/// Heads that the first block gets if it has no attention, with weights of 0: llama.cpp finds the size of all heads there.
const NO_HEADS: usize = 1;

/// Name of the file while it is unfinished.
const FILE: &str = "model.gguf";

/// The folder in which the tokenizer is read again.
const TOKENIZER: &str = "tokenizer";

/// A text with everything in which ways of cutting text differ.
const PROBE: &str = "The quick brown fox's 12 dogs; 3456 cats don't (ASK) na\u{ef}ve caf\u{e9}s, 4\u{20ac}\u{2014}\u{4f60}\u{597d} \
                     \u{1f642}\n\n  two  spaces,\ta tab\r\nand WE'LL x=a+b*c; 1234567 end ";

/// What was written, for what the user is told.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The file that was made.
    pub file: PathBuf,
    /// The architecture that it names.
    pub architecture: &'static str,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights in all tensors together.
    pub parameters: u64,
    /// Number of bytes of all weights.
    pub bytes: u64,
    /// Block formats of the tensors, with the number of tensors in each.
    pub kinds: BTreeMap<BlockType, usize>,
    /// Names of matrices that have another format than was asked for, since their rows are no whole blocks of it.
    pub others: Vec<String>,
    /// The kind of tokenizer, as llama.cpp names it.
    pub tokenizer: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        writeln!(f, "wrote {}", self.file.display())?;
        let why = match self.architecture == DECI.name {
            true => " (blocks have different sizes)",
            false => "",
        };
        writeln!(f, "  architecture  {}{why}", self.architecture)?;
        writeln!(f, "  tensors       {}: {}", self.tensors, kinds.join(", "))?;
        writeln!(f, "  parameters    {}", self.parameters)?;
        writeln!(f, "  weights       {} bytes", self.bytes)?;
        write!(f, "  tokenizer     {}", self.tokenizer)?;
        if let Some(first) = self.others.first() {
            write!(
                f,
                "\n{} matrices are {}, since the lengths of their rows are not multiples of 32 (the first: {first})",
                self.others.len(),
                BlockType::F16
            )?;
        }
        Ok(())
    }
}

/// Writes the model in `folder` to the new GGUF file `out`, its matrices as `kind`.
///
/// # Errors
/// The model cannot be read or said in GGUF, something is at `out`, or the disk refuses. Nothing is left behind then.
pub fn export(folder: &Path, out: &Path, kind: BlockType, progress: &dyn Progress) -> Result<Exported> {
    progress.stage("reading the model");
    let spec = read_spec(folder)?;
    let path = folder.join(CONFIG);
    let config = json_of(&path)?;
    refuse_other_models(&spec).at(path.display())?;
    let checkpoint = Checkpoint::open(folder, spec)?;
    let tokenizer = Tokenizer::load(folder)?;
    let plan = Plan::new(&checkpoint, &tokenizer, &config, folder, kind)?;
    let staging = Staging::for_file(out, FILE)?;
    plan.write(&checkpoint, &staging, folder, progress)?;
    progress.stage("reading it back");
    plan.check(&checkpoint, &tokenizer, &staging)
        .map_err(|error| staging.renamed(error).at(out.display()))?;
    staging.commit()?;
    progress.finish();
    Ok(plan.summary(out))
}

/// The JSON in a file of the model.
fn json_of(path: &Path) -> Result<Value> {
    let text = input::read_text(path, input::SMALL)?;
    serde_json::from_str(&json::standard(&text))
        .map_err(|error| Error::input(format!("not valid JSON: {error}")).at(path.display()))
}

/// Refuses what changes a model's answers and has no key in the architectures that are written.
fn refuse_other_models(spec: &ModelSpec) -> Result<()> {
    let refused = |key: &str, why: String| Err(Error::input(format!("key `{key}`: {why}")));
    if !FAMILIES.contains(&spec.family) {
        let why = format!(
            "the family `{}` cannot be written as GGUF (possible: {}); llama.cpp's own convert_hf_to_gguf.py may know it",
            spec.family,
            FAMILIES.join(", ")
        );
        return refused("model_type", why);
    }
    let windows = (0..spec.reaches.len()).filter_map(|block| spec.reach(block).window);
    if let Some(window) = windows.min().filter(|window| *window < spec.max_positions) {
        let why = format!(
            "a GGUF file cannot say that attention has a window of {window} tokens; if your texts are no longer than that, set \
             `max_position_embeddings` to {window}"
        );
        return refused("sliding_window", why);
    }
    if let Some(factor) = spec.embedding.scale {
        return refused(
            "embedding_multiplier",
            format!("{factor} cannot be written to a GGUF file, which can only have 1"),
        );
    }
    for (block, _) in spec.kinds() {
        let usual = 1.0 / (block.attention.head_dim as f32).sqrt();
        let scale = block.attention.scale;
        // A decimal in a file is the number to its last digit or the one beside it.
        if (scale / usual - 1.0).abs() > 4.0 * f32::EPSILON {
            let why = format!(
                "{scale} cannot be written to a GGUF file, which can only have {usual}, the inverse root of `head_dim`"
            );
            return refused("attention_multiplier", why);
        }
        if block.activation != Activation::Silu {
            return refused("hidden_act", "a GGUF file can only express silu".to_string());
        }
    }
    Ok(())
}

/// Where the values of a tensor come from.
enum Source {
    /// The checkpoint's tensor of the same name.
    Stored,
    /// This number everywhere.
    All(f32),
    /// These numbers.
    Given(Vec<f32>),
}

/// A tensor of the file.
struct Planned {
    /// The name in Hugging Face's directory.
    name: String,
    /// The name in the file.
    stored: String,
    /// Slowest dimension first.
    shape: Vec<usize>,
    kind: BlockType,
    /// Length of the heads whose rotary pairs must be put together.
    rotary: Option<usize>,
    source: Source,
}

impl Planned {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn announced(&self) -> Announced<'_> {
        Announced {
            name: &self.stored,
            shape: &self.shape,
            kind: self.kind,
        }
    }

    fn values<'a>(&'a self, checkpoint: &Checkpoint) -> Result<Cow<'a, [f32]>> {
        Ok(match &self.source {
            Source::Stored => Cow::Owned(checkpoint.elements(&self.name)?),
            Source::All(value) => Cow::Owned(vec![*value; self.elements()]),
            Source::Given(values) => Cow::Borrowed(values),
        })
    }

    /// The values as they stand in the file.
    fn bytes(&self, values: &[f32]) -> Result<Vec<u8>> {
        let columns = self.shape.last().copied().unwrap_or(1);
        let bytes_of = |elements: usize| elements / self.kind.elements() * self.kind.bytes();
        let mut bytes = vec![0; bytes_of(values.len())];
        let row_of = |row: usize| self.rotary.map_or(row, |head| parted_row(row, head));
        // A vector (a bias, if it has heads) is one row whose elements move; a matrix has rows that move.
        let wrong = match self.shape.len() {
            1 => {
                let moved: Vec<f32> = (0..columns).map(|element| values[row_of(element)]).collect();
                quantise(self.kind, &moved, &mut bytes).map(row_of)
            }
            _ => {
                let rows = bytes.par_chunks_mut(bytes_of(columns)).enumerate();
                rows.find_map_first(|(row, bytes)| {
                    let first = row_of(row) * columns;
                    let wrong = quantise(self.kind, &values[first..][..columns], bytes)?;
                    Some(first + wrong)
                })
            }
        };
        match wrong {
            None => Ok(bytes),
            Some(place) => Err(Error::input(format!(
                "tensor `{}`: element {place} is {}, too large for {}; choose --dtype f32 or bf16",
                self.name, values[place], self.kind
            ))),
        }
    }

    /// Whether a value that was read from the file is the one that was written.
    fn same(&self, written: f32, read: f32, largest: f32) -> bool {
        match self.kind {
            BlockType::F32 => written.to_bits() == read.to_bits(),
            BlockType::F16 => StorageType::F16.round(written) == read,
            BlockType::BF16 => StorageType::BF16.round(written) == read,
            // Half a step, and the scale's rounding to half precision, which below its normal numbers is half of the smallest.
            _ => (written - read).abs() <= 0.57 * largest / 127.0 + 4e-6,
        }
    }
}

/// Everything that the file will hold, checked.
struct Plan {
    architecture: &'static Architecture,
    metadata: Metadata,
    tensors: Vec<Planned>,
    /// Names of matrices whose rows are no whole blocks of the format that was asked for.
    others: Vec<String>,
    tokenizer: String,
}

impl Plan {
    fn new(
        checkpoint: &Checkpoint,
        tokenizer: &Tokenizer,
        config: &Value,
        folder: &Path,
        kind: BlockType,
    ) -> Result<Self> {
        let spec = checkpoint.spec();
        let architecture = match spec.kinds().all(|(block, _)| block == spec.block(0).as_ref()) {
            true => &LLAMA,
            false => &DECI,
        };
        let mut metadata = Metadata::default();
        metadata.text("general.architecture", architecture.name);
        metadata.text("general.type", "model");
        if let Some(name) = folder.file_name().and_then(|name| name.to_str()) {
            metadata.text("general.name", name);
        }
        metadata.count("general.file_type", file_type(kind))?;
        metadata.count("general.quantization_version", 2)?;
        describe_model(spec, architecture, &mut metadata)?;
        let factors = describe_rotary(spec, architecture, config, &mut metadata).at(folder.join(CONFIG).display())?;
        let name = describe(tokenizer, spec.vocabulary, &mut metadata).at(folder.join("tokenizer.json").display())?;
        if let Some(template) = chat_template(folder)? {
            metadata.text("tokenizer.chat_template", &template);
        }
        let mut plan = Plan {
            architecture,
            metadata,
            tensors: Vec::new(),
            others: Vec::new(),
            tokenizer: format!("{name}, {} tokens", spec.vocabulary),
        };
        let head = spec.block(0).attention.head_dim;
        for (name, shape) in spec.tensors() {
            plan.push(name, shape, Source::Stored, kind, head);
        }
        if spec.block(0).attention.heads == 0 {
            for (name, shape, value) in no_heads(spec) {
                plan.push(name, shape, Source::All(value), kind, head);
            }
        }
        for index in (0..spec.blocks).filter(|index| spec.block(*index).neurons() == 0) {
            for (name, shape, value) in no_neurons(spec, index) {
                plan.push(name, shape, Source::All(value), kind, head);
            }
        }
        if let Some(factors) = factors {
            let shape = vec![factors.len()];
            plan.push(ROPE_FACTORS.to_string(), shape, Source::Given(factors), kind, head);
        }
        Ok(plan)
    }

    fn push(&mut self, name: String, shape: Vec<usize>, source: Source, wanted: BlockType, head: usize) {
        let stored = match name == ROPE_FACTORS {
            true => name.clone(),
            false => self.architecture.stored_name(&name),
        };
        let whole = shape
            .last()
            .is_some_and(|columns| columns.is_multiple_of(wanted.elements()));
        let kind = match (shape.len(), whole) {
            // Norms and biases are read as single precision only.
            (1, _) => BlockType::F32,
            (_, true) => wanted,
            (_, false) => {
                self.others.push(stored.clone());
                BlockType::F16
            }
        };
        self.tensors.push(Planned {
            rotary: self.architecture.is_paired(&stored).then_some(head),
            name,
            stored,
            shape,
            kind,
            source,
        });
    }

    fn write(&self, checkpoint: &Checkpoint, staging: &Staging, folder: &Path, progress: &dyn Progress) -> Result<()> {
        let mut access = Access::of(&folder.join(CONFIG))?.and(Access::of(&folder.join("tokenizer.json"))?);
        for path in checkpoint.files().paths() {
            access = access.and(Access::of(path)?);
        }
        let announced: Vec<Announced> = self.tensors.iter().map(Planned::announced).collect();
        let file = staging.create(FILE, access.of_data())?;
        let mut file = GgufFile::begin(file, staging.named(Path::new(FILE)), &self.metadata, &announced)?;
        progress.start(0, self.tensors.len());
        for tensor in &self.tensors {
            progress.stage(&tensor.name);
            let bytes = tensor.bytes(&tensor.values(checkpoint)?).at(folder.display())?;
            file.put(&bytes)?;
            progress.step()?;
        }
        file.finish()
    }

    /// Reads the file that was written as an import does, and compares it with the model.
    fn check(&self, checkpoint: &Checkpoint, tokenizer: &Tokenizer, staging: &Staging) -> Result<()> {
        let mistake = |what: &str| Error::numeric(format!("{what}; this is a mistake of zprune, and nothing was kept"));
        let map = mapped(&staging.path(FILE))?;
        let gguf = Gguf::parse(&map)?;
        let model = Model::read(&gguf, StorageType::F32)?;
        let spec = checkpoint.spec();
        if let Some(what) = different(spec, &model.spec) {
            return Err(mistake(&format!("the file says another {what} than the model has")));
        }
        let mut left: BTreeMap<&str, &Planned> = self.tensors.iter().map(|it| (it.name.as_str(), it)).collect();
        left.remove(ROPE_FACTORS);
        for tensor in &model.tensors {
            if let Read::Zeros = tensor.source {
                continue;
            }
            let name = tensor.name.as_str();
            let missing = || mistake(&format!("tensor `{name}` was read and not written"));
            let planned = left.remove(name).ok_or_else(missing)?;
            let read = StorageType::F32.decode(&tensor.bytes(StorageType::F32)?);
            let written = planned.values(checkpoint)?;
            let block = match planned.kind.elements() {
                1 => 1 << 10,
                elements => elements,
            };
            let pairs = written.par_chunks(block).zip(read.par_chunks(block));
            let all = pairs.all(|(written, read)| {
                let largest = written.iter().map(|value| value.abs()).fold(0.0, f32::max);
                let mut both = written.iter().zip(read);
                both.all(|(written, read)| planned.same(*written, *read, largest))
            });
            if !all || written.len() != read.len() {
                return Err(mistake(&format!(
                    "tensor `{name}` was read with other values than it was written with"
                )));
            }
        }
        if let Some(name) = left.keys().next() {
            return Err(mistake(&format!("tensor `{name}` was written and not read")));
        }
        // The tokenizer is read as the files that an import makes of it.
        staging.folder(TOKENIZER, Access::OWN)?;
        for (name, value) in [
            ("tokenizer.json", &model.tokenizer.tokenizer),
            ("tokenizer_config.json", &model.tokenizer.config),
            ("special_tokens_map.json", &model.tokenizer.special),
        ] {
            staging.write(
                Path::new(TOKENIZER).join(name),
                value.to_string().as_bytes(),
                Access::OWN,
            )?;
        }
        let again = Tokenizer::load(&staging.path(TOKENIZER))?;
        let [ours, theirs] = [tokenizer, &again].map(|it| it.encode(PROBE, Bos::Tokenizer, spec.vocabulary));
        if ours? != theirs? {
            return Err(Error::input(
                "the tokenizer in it would cut a text into other tokens than tokenizer.json does; convert the model with llama.cpp's own \
                 convert_hf_to_gguf.py",
            ));
        }
        Ok(())
    }

    fn summary(&self, out: &Path) -> Exported {
        let mut kinds = BTreeMap::new();
        for tensor in &self.tensors {
            *kinds.entry(tensor.kind).or_default() += 1;
        }
        Exported {
            file: out.to_path_buf(),
            architecture: self.architecture.name,
            tensors: self.tensors.len(),
            parameters: self.tensors.iter().map(|tensor| tensor.elements() as u64).sum(),
            bytes: self.tensors.iter().map(|tensor| tensor.announced().bytes()).sum(),
            kinds,
            others: self.others.clone(),
            tokenizer: self.tokenizer.clone(),
        }
    }
}

/// llama.cpp's number for files whose matrices have this format.
fn file_type(kind: BlockType) -> usize {
    match kind {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::BF16 => 32,
        _ => 7,
    }
}

/// The sizes that a block has in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    neurons: usize,
}

impl Sizes {
    fn of(spec: &ModelSpec, index: usize) -> Self {
        let block = spec.block(index);
        let attention = block.attention;
        let (heads, kv_heads) = match (index, attention.heads) {
            (0, 0) => (NO_HEADS, NO_HEADS),
            _ => (attention.heads, attention.kv_heads),
        };
        Sizes {
            heads,
            kv_heads,
            head_dim: attention.head_dim,
            neurons: match block.neurons() {
                0 => NO_NEURONS,
                neurons => neurons,
            },
        }
    }
}

/// Writes the sizes of a model.
fn describe_model(spec: &ModelSpec, architecture: &Architecture, metadata: &mut Metadata) -> Result<()> {
    let sizes: Vec<Sizes> = (0..spec.blocks).map(|index| Sizes::of(spec, index)).collect();
    let all = |of: fn(&Sizes) -> usize| -> Vec<usize> { sizes.iter().map(of).collect() };
    let attention = spec.block(0).attention;
    metadata.count(&architecture.key("vocab_size"), spec.vocabulary)?;
    metadata.count(&architecture.key("context_length"), spec.max_positions)?;
    metadata.count(&architecture.key("embedding_length"), spec.width)?;
    metadata.count(&architecture.key("block_count"), spec.blocks)?;
    let lists: [(&str, Vec<usize>); 3] = [
        ("feed_forward_length", all(|sizes| sizes.neurons)),
        ("attention.head_count", all(|sizes| sizes.heads)),
        ("attention.head_count_kv", all(|sizes| sizes.kv_heads)),
    ];
    for (name, sizes) in lists {
        match architecture.blocks_differ {
            true => metadata.counts(&architecture.key(name), &sizes)?,
            false => metadata.count(&architecture.key(name), sizes[0])?,
        }
    }
    for name in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        metadata.count(&architecture.key(name), attention.head_dim)?;
    }
    if let Some(epsilon) = epsilon(spec) {
        metadata.number(&architecture.key("attention.layer_norm_rms_epsilon"), epsilon);
    }
    Ok(())
}

/// The number that is added to the mean square of every norm.
fn epsilon(spec: &ModelSpec) -> Option<f32> {
    spec.final_norm.as_ref().map(|norm| norm.epsilon)
}

/// The frequencies of a model's rotary positions.
fn frequencies(spec: &ModelSpec) -> &[f32] {
    match &spec.positions {
        Positions::Rotary { frequencies } => frequencies.first().map_or(&[], Vec::as_slice),
        Positions::Learned { .. } => &[],
    }
}

/// Writes the base of the rotary frequencies, and how they are scaled. Returns the numbers by which the frequencies are divided, where
/// they are not all the same.
///
/// # Errors
/// The scaling is not one that the import of such a file knows.
fn describe_rotary(
    spec: &ModelSpec,
    architecture: &Architecture,
    config: &Value,
    metadata: &mut Metadata,
) -> Result<Option<Vec<f32>>> {
    /// What single precision leaves of a quotient of two frequencies.
    const TOLERANCE: f64 = 3e-7;
    let of = |settings: &Value| settings["rope_theta"].as_f64();
    let settings = ["rope_scaling", "rope_parameters"].map(|key| &config[key]);
    let settings = settings
        .into_iter()
        .find(|it| it.as_object().is_some_and(|it| !it.is_empty()));
    let theta = settings.and_then(of).or_else(|| of(config)).unwrap_or(10_000.0);
    metadata.number(&architecture.key("rope.freq_base"), theta as f32);
    let turns = frequencies(spec);
    let head = spec.block(0).attention.head_dim;
    let divisors = turns.iter().enumerate().map(|(pair, turn)| {
        let plain = f64::from(theta.powf(-2.0 * pair as f64 / head as f64) as f32);
        plain / f64::from(*turn)
    });
    let divisors: Vec<f64> = divisors.collect();
    let factor = divisors.first().map_or(1.0, |first| *first as f32);
    let same = |divisor: &f64| (divisor / f64::from(factor) - 1.0).abs() <= TOLERANCE;
    if divisors.iter().all(same) {
        if factor != 1.0 {
            metadata.text(&architecture.key("rope.scaling.type"), "linear");
            metadata.number(&architecture.key("rope.scaling.factor"), factor);
        }
        return Ok(None);
    }
    let settings = settings.unwrap_or(&Value::Null);
    let original = [config, settings].map(|map| map["original_max_position_embeddings"].as_u64());
    let original = original
        .into_iter()
        .flatten()
        .next()
        .map_or(spec.max_positions, |original| original as usize);
    metadata.count(&architecture.key("rope.scaling.original_context_length"), original)?;
    let factors: Vec<f32> = divisors.iter().map(|divisor| *divisor as f32).collect();
    let data: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
    let tensor = Tensor {
        kind: BlockType::F32,
        shape: vec![factors.len()],
        data: &data,
    };
    bands(&tensor, head, theta, Some(original)).at("key `rope_scaling`")?;
    Ok(Some(factors))
}

/// The tensors of an attention that adds nothing, with their values, in the first block.
fn no_heads(spec: &ModelSpec) -> Vec<(String, Vec<usize>, f32)> {
    let block = spec.block(0);
    let features = NO_HEADS * block.attention.head_dim;
    let [inner, outer] = [vec![features, spec.width], vec![spec.width, features]];
    [
        ("input_layernorm", vec![spec.width], 1.0),
        ("self_attn.q_proj", inner.clone(), 0.0),
        ("self_attn.k_proj", inner.clone(), 0.0),
        ("self_attn.v_proj", inner, 0.0),
        ("self_attn.o_proj", outer, 0.0),
    ]
    .map(|(tensor, shape, value)| (format!("{}{tensor}.weight", block.prefix_of(0)), shape, value))
    .to_vec()
}

/// The tensors of an MLP that adds nothing, with their values, in a block that has none.
fn no_neurons(spec: &ModelSpec, index: usize) -> Vec<(String, Vec<usize>, f32)> {
    let prefix = spec.block(index).prefix_of(index);
    let [inner, outer] = [vec![NO_NEURONS, spec.width], vec![spec.width, NO_NEURONS]];
    [
        ("post_attention_layernorm", vec![spec.width], 1.0),
        ("mlp.gate_proj", inner.clone(), 0.0),
        ("mlp.up_proj", inner, 0.0),
        ("mlp.down_proj", outer, 0.0),
    ]
    .map(|(tensor, shape, value)| (format!("{prefix}{tensor}.weight"), shape, value))
    .to_vec()
}

/// The template of conversations, if the model has one.
fn chat_template(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
    if let Some(text) = input::read_text_if_there(&path, input::SMALL)? {
        return Ok(Some(text));
    }
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    Ok(json_of(&path)?["chat_template"].as_str().map(str::to_string))
}

/// What differs between a model and what was read of it, in words.
fn different(model: &ModelSpec, read: &ModelSpec) -> Option<&'static str> {
    let close = |(one, other): (&f32, &f32)| (one / other - 1.0).abs() <= 1e-5;
    let sizes = |spec: &ModelSpec| [spec.vocabulary, spec.width, spec.blocks, spec.max_positions];
    if sizes(model) != sizes(read) {
        return Some("size");
    }
    if (0..model.blocks).any(|index| Sizes::of(model, index) != Sizes::of(read, index)) {
        return Some("size of a block");
    }
    if model.head.tensor != read.head.tensor {
        return Some("head");
    }
    if epsilon(model) != epsilon(read) {
        return Some("`rms_norm_eps`");
    }
    let (own, other) = (frequencies(model), frequencies(read));
    match own.len() == other.len() && own.iter().zip(other).all(close) {
        true => None,
        false => Some("rotary frequency"),
    }
}
