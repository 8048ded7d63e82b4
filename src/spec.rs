//! An architecture as data: everything the forward pass needs to know about a decoder-only language model.
//!
//! Shapes are `(rows, columns)`; a linear layer's weight is `(outputs, inputs)`, as in Hugging Face
//! checkpoints. This module owns no weights and reads no files.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A whole model: embedding, blocks, head.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Registry name of the family that read the configuration.
    pub family: &'static str,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Largest context the model was made for, in tokens.
    pub max_positions: usize,
    /// The longest window this forward pass can score faithfully, or `None` when positions have no end.
    pub longest_window: Option<usize>,
    /// Token embedding.
    pub embedding: EmbeddingSpec,
    /// How a token knows its place.
    pub positions: Positions,
    /// What each block looks like: [`ModelSpec::block`].
    pub shapes: Shapes,
    /// What each block's attention reaches. A list shorter than the blocks repeats: one entry serves
    /// all blocks, and a period of six makes every sixth block different.
    pub reaches: Vec<Reach>,
    /// Prefix that checkpoints of the bare model (without a head) leave out of every tensor name.
    pub base_prefix: &'static str,
    /// Norm between the last block and the head; post-norm models have none.
    pub final_norm: Option<NormSpec>,
    /// Where the logits come from.
    pub head: HeadSpec,
}

/// What each block of a model looks like. Most models have equal blocks, which share one specification; a model from which
/// heads or neurons were removed may have blocks that differ in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// The specification of block 0 and of all blocks but the others.
    usual: Arc<BlockSpec>,
    /// Blocks that differ from block 0, by their place: equal models have equal lists.
    others: BTreeMap<usize, Arc<BlockSpec>>,
}

impl From<BlockSpec> for Shapes {
    /// Equal blocks.
    fn from(block: BlockSpec) -> Self {
        Shapes {
            usual: Arc::new(block),
            others: BTreeMap::new(),
        }
    }
}

/// Token embedding, `(vocabulary, width)`, and the optional projection to the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSpec {
    /// Tensor name.
    pub tensor: String,
    /// Columns of the table; differs from the model's width only when `project` is set.
    pub width: usize,
    /// Bias-free linear `(model width, embedding width)` applied after look-up.
    pub project: Option<String>,
    /// Factor applied after look-up (Gemma); a tied head does not see it.
    pub scale: Option<f32>,
}

/// The output head: an optional projection and the matrix `(vocabulary, embedding width)`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// Bias-free linear `(embedding width, model width)` applied before the head.
    pub project: Option<String>,
    /// Tensor name; `None` when the head is the embedding table.
    pub tensor: Option<String>,
    /// The names under which checkpoints store a head, tied or not. A tied one may be stored as the head only.
    pub stored: &'static [&'static str],
    /// Bound `c` of the logits: each becomes `c tanh(x / c)` (Gemma 2).
    pub softcap: Option<f32>,
}

/// Position information.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned table added to the embeddings; position `t` reads row `t + offset`.
    Learned {
        /// Tensor name; shape `(max_positions + offset, width)`.
        tensor: String,
        /// Rows skipped at the start of the table.
        offset: usize,
    },
    /// Rotary embedding of queries and keys. With `n` frequencies, feature `i` of a head is paired with
    /// `i + n` for `i < n`, and features from `2 n` on are left alone.
    Rotary {
        /// One angular frequency per pair, in radians per token, scaling already applied; one list per
        /// kind of block, see [`Reach::rotary`].
        frequencies: Vec<Vec<f32>>,
    },
}

/// What the attention of a block reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// A token attends to itself and the `window - 1` tokens before it; `None` to all before it.
    pub window: Option<usize>,
    /// Which list of [`Positions::Rotary`] turns its queries and keys.
    pub rotary: usize,
}

/// The two kinds of normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`, times a gain.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`, times a gain, plus a bias.
    Layer,
}

/// One normalisation layer.
#[derive(Debug, Clone, PartialEq)]
pub struct NormSpec {
    /// Which formula.
    pub kind: NormKind,
    /// Added to the variance (or mean square) before the root.
    pub epsilon: f32,
    /// Tensor prefix within its scope; `.weight` and, for [`NormKind::Layer`], `.bias` follow. `None` for a norm without parameters.
    pub tensor: Option<String>,
    /// Whether the gain is 1 plus what is stored (Gemma).
    pub unit_offset: bool,
}

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)` with the exact normal distribution function.
    Gelu,
    /// GELU's approximation by a hyperbolic tangent, `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// The shape of one block's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Factor of the scores, usually `head_dim^-1/2`.
    pub scale: f32,
    /// Bound `c` of the scaled scores: each becomes `c tanh(x / c)` (Gemma 2).
    pub softcap: Option<f32>,
}

impl AttentionSpec {
    /// Attention scaled by `head_dim^-1/2`, without a bound.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: None,
        }
    }
}

/// One decoder block. Tensor names are relative to the block's prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Prefix of block `b`, with `{}` standing for its number.
    pub prefix: &'static str,
    /// Attention heads.
    pub attention: AttentionSpec,
    /// The norms, each at its place; a family without one at some place does not normalise there.
    pub norms: Vec<(NormPlace, NormSpec)>,
    /// True when [`NormPlace::Attention`] and [`NormPlace::Mlp`] act on a sub-layer's input, false when
    /// they act on the residual sum after it.
    pub norm_first: bool,
    /// Whether both sub-layers read the block's input and their outputs are added together (GPT-NeoX),
    /// instead of the MLP reading the sum after attention.
    pub parallel: bool,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// The linear layers, in the order pruning papers visit them.
    pub linears: Vec<LinearSpec>,
}

/// Where a norm acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormPlace {
    /// The attention sub-layer's input, or the sum after it: [`BlockSpec::norm_first`].
    Attention,
    /// The features of every query head, before rotation.
    Query,
    /// The features of every key head, before rotation.
    Key,
    /// The attention sub-layer's output, before it is added.
    AttentionOutput,
    /// The MLP's input, or the sum after it: [`BlockSpec::norm_first`].
    Mlp,
    /// The MLP's output, before it is added.
    MlpOutput,
}

/// How one linear layer holds queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fusion {
    /// All queries, then all keys, then all values (GPT-2).
    Sections,
    /// Head by head: its query, its key, its value (GPT-NeoX).
    Heads,
}

/// What a linear layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Queries, keys and values of as many heads each, in one matrix. Pruned as the one matrix it is.
    Fused(Fusion),
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Attention output.
    Output,
    /// MLP gate (gated MLPs only).
    Gate,
    /// MLP first layer.
    Up,
    /// MLP second layer.
    Down,
}

/// The four places of a block where linear layers read their input, in the order a forward pass reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TapPlace {
    /// Input of queries, keys and values.
    AttentionIn,
    /// Input of the attention output projection.
    AttentionOut,
    /// Input of the MLP's gate and up projections.
    MlpIn,
    /// Input of the MLP's down projection.
    MlpMiddle,
}

impl TapPlace {
    /// All places, in the order a forward pass reaches them.
    pub const ALL: [TapPlace; 4] = [
        TapPlace::AttentionIn,
        TapPlace::AttentionOut,
        TapPlace::MlpIn,
        TapPlace::MlpMiddle,
    ];
}

/// The input of some linear layers of a block. Calibration statistics belong to a tap, so layers that read the same
/// activations share them. Taps of one block are in the order a forward pass reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tap {
    /// Where in the block it is.
    pub place: TapPlace,
    /// Features of a token there.
    pub width: usize,
}

impl Role {
    /// Where layers of this role read their input.
    pub fn place(self) -> TapPlace {
        match self {
            Role::Fused(_) | Role::Query | Role::Key | Role::Value => TapPlace::AttentionIn,
            Role::Output => TapPlace::AttentionOut,
            Role::Gate | Role::Up => TapPlace::MlpIn,
            Role::Down => TapPlace::MlpMiddle,
        }
    }
}

/// Names a linear layer within its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinearId(usize);

/// One linear layer of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearSpec {
    /// What it is for.
    pub role: Role,
    /// Tensor prefix within the block; `.weight` and perhaps `.bias` follow.
    pub tensor: &'static str,
    /// Output features: rows of the weight.
    pub outputs: usize,
    /// Input features: columns of the weight.
    pub inputs: usize,
    /// Whether a bias of length `outputs` is added.
    pub bias: bool,
    /// Whether the checkpoint stores the weight as `(inputs, outputs)` (GPT-2's `Conv1D`).
    pub transposed: bool,
}

impl LinearSpec {
    /// The tap it reads.
    pub fn tap(&self) -> Tap {
        Tap {
            place: self.role.place(),
            width: self.inputs,
        }
    }

    /// The weight's shape in the checkpoint.
    pub fn stored_shape(&self) -> [usize; 2] {
        if self.transposed {
            [self.inputs, self.outputs]
        } else {
            [self.outputs, self.inputs]
        }
    }
}

impl BlockSpec {
    /// The tensor prefix of block `index`.
    pub fn prefix_of(&self, index: usize) -> String {
        self.prefix.replace("{}", &index.to_string())
    }

    /// The linear layers with the names that they have in this block, in the order of [`BlockSpec::linears`].
    pub fn layers(&self) -> impl Iterator<Item = (LinearId, &LinearSpec)> {
        let named = self.linears.iter().enumerate();
        named.map(|(place, linear)| (LinearId(place), linear))
    }

    /// A linear layer by its name.
    ///
    /// # Panics
    /// The name is another block's, and this one has fewer layers.
    pub fn linear(&self, id: LinearId) -> &LinearSpec {
        &self.linears[id.0]
    }

    /// The tap at a place; `None` where no layer of the block reads there.
    pub fn tap(&self, place: TapPlace) -> Option<Tap> {
        let at = |linear: &&LinearSpec| linear.role.place() == place;
        self.linears.iter().find(at).map(LinearSpec::tap)
    }

    /// All taps, in the order a forward pass reaches them.
    pub fn taps(&self) -> Vec<Tap> {
        TapPlace::ALL.into_iter().filter_map(|place| self.tap(place)).collect()
    }

    /// Hidden features of the MLP.
    pub fn neurons(&self) -> usize {
        self.tap(TapPlace::MlpMiddle).map_or(0, |tap| tap.width)
    }

    /// Number of weights that pruning may remove: all linear layers.
    pub fn prunable(&self) -> usize {
        self.linears.iter().map(|linear| linear.outputs * linear.inputs).sum()
    }

    /// Features a norm acts on together: a head's for queries and keys, else those of the residual stream, `width`.
    pub fn norm_width(&self, place: NormPlace, width: usize) -> usize {
        match place {
            NormPlace::Query | NormPlace::Key => self.attention.head_dim,
            _ => width,
        }
    }

    /// The norm at a place, if there is one.
    pub fn norm(&self, place: NormPlace) -> Option<&NormSpec> {
        self.norms.iter().find(|(at, _)| *at == place).map(|(_, norm)| norm)
    }
}

impl ModelSpec {
    /// What block `index` looks like.
    pub fn block(&self, index: usize) -> &Arc<BlockSpec> {
        self.shapes.others.get(&index).unwrap_or(&self.shapes.usual)
    }

    /// Gives block `index` another specification than it has.
    ///
    /// # Panics
    /// There is no such block.
    pub fn set_block(&mut self, index: usize, block: BlockSpec) {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let Shapes { usual, others } = &mut self.shapes;
        if index == 0 {
            let before = std::mem::replace(usual, Arc::new(block));
            for place in 1..self.blocks {
                others.entry(place).or_insert_with(|| before.clone());
            }
            others.retain(|_, other| other != usual);
            return;
        }
        if block == **usual {
            others.remove(&index);
            return;
        }
        // Runs of equal blocks share one; a search among all would cost too much where none are equal.
        let nearest = others.range(..index).next_back().map(|(_, other)| other);
        let same = nearest.filter(|other| ***other == block).cloned();
        others.insert(index, same.unwrap_or_else(|| Arc::new(block)));
    }

    /// The specifications there are, each with the number of blocks that have it. Costs what differs, not what there is: a
    /// configuration may claim many blocks.
    pub fn kinds(&self) -> impl Iterator<Item = (&BlockSpec, usize)> {
        let Shapes { usual, others } = &self.shapes;
        let usual = (usual.as_ref(), self.blocks - others.len());
        let others = others.values().map(|block| (block.as_ref(), 1));
        std::iter::once(usual).chain(others)
    }

    /// Every tensor the forward pass reads, with its shape. Made one block at a time: a configuration that
    /// claims more blocks than there are costs no more than looking for the first one that is not there.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let [before, after] = self.outer_tensors();
        let blocks = (0..self.blocks).flat_map(|index| self.block_tensors(index));
        before.into_iter().chain(blocks).chain(after)
    }

    /// The tensors before the blocks and those after them, with their shapes.
    pub fn outer_tensors(&self) -> [Vec<(String, Vec<usize>)>; 2] {
        let mut before = vec![(
            self.embedding.tensor.clone(),
            vec![self.vocabulary, self.embedding.width],
        )];
        if let Some(name) = &self.embedding.project {
            before.push((name.clone(), vec![self.width, self.embedding.width]));
        }
        if let Positions::Learned { tensor, offset } = &self.positions {
            before.push((tensor.clone(), vec![self.max_positions + offset, self.width]));
        }
        let mut after = Vec::new();
        if let Some(norm) = &self.final_norm {
            push_norm(&mut after, "", norm, self.width);
        }
        if let Some(name) = &self.head.project {
            after.push((name.clone(), vec![self.embedding.width, self.width]));
        }
        if let Some(name) = &self.head.tensor {
            after.push((name.clone(), vec![self.vocabulary, self.embedding.width]));
        }
        [before, after]
    }

    /// The tensors of block `index`, with their shapes.
    pub fn block_tensors(&self, index: usize) -> Vec<(String, Vec<usize>)> {
        self.tensors_of(self.block(index), index)
    }

    /// The tensors that a block would have as block `index`, with their shapes.
    pub fn tensors_of(&self, block: &BlockSpec, index: usize) -> Vec<(String, Vec<usize>)> {
        let prefix = block.prefix_of(index);
        let mut tensors = Vec::new();
        for (place, norm) in &block.norms {
            push_norm(&mut tensors, &prefix, norm, block.norm_width(*place, self.width));
        }
        for linear in &block.linears {
            let name = format!("{prefix}{}", linear.tensor);
            tensors.push((format!("{name}.weight"), linear.stored_shape().to_vec()));
            if linear.bias {
                tensors.push((format!("{name}.bias"), vec![linear.outputs]));
            }
        }
        tensors
    }

    /// What block `index`'s attention reaches.
    pub fn reach(&self, index: usize) -> Reach {
        self.reaches[index % self.reaches.len()]
    }

    /// Number of weights that pruning may remove: all linear layers of all blocks.
    pub fn prunable(&self) -> usize {
        self.kinds().map(|(block, count)| count * block.prunable()).sum()
    }
}

fn push_norm(tensors: &mut Vec<(String, Vec<usize>)>, prefix: &str, norm: &NormSpec, width: usize) {
    if let Some(name) = &norm.tensor {
        tensors.push((format!("{prefix}{name}.weight"), vec![width]));
        if norm.kind == NormKind::Layer {
            tensors.push((format!("{prefix}{name}.bias"), vec![width]));
        }
    }
}
