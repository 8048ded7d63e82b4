//! An architecture as data: everything the forward pass needs to know about a decoder-only language model.
//!
//! Shapes are `(rows, columns)`; a linear layer's weight is `(outputs, inputs)`, as in Hugging Face
//! checkpoints. This module owns no weights and reads no files.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A whole model: embedding, blocks, head.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Name of the family that read the configuration.
    pub family: &'static str,
    /// Number of different token ids.
    pub vocabulary: usize,
    /// Number of features of the residual stream.
    pub width: usize,
    /// Number of blocks in the model.
    pub blocks: usize,
    /// Largest context the model was made for, in tokens.
    pub max_positions: usize,
    /// The longest window that the forward pass can score correctly, in tokens; `None` if positions have no limit.
    pub longest_window: Option<usize>,
    /// How token ids become vectors.
    pub embedding: EmbeddingSpec,
    /// How the model encodes the position of a token.
    pub positions: Positions,
    /// What each block looks like: [`ModelSpec::block`].
    pub shapes: Shapes,
    /// Which tokens the attention of each block can see. A list that is shorter than the number of blocks is
    /// repeated: one entry is for all blocks, six entries begin again with the seventh block.
    pub reaches: Vec<Reach>,
    /// The prefix of all tensor names that checkpoints of the model without a head leave out.
    pub base_prefix: &'static str,
    /// Norm between the last block and the head; post-norm models have none.
    pub final_norm: Option<NormSpec>,
    /// How logits are computed.
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

/// The token embedding `(vocabulary, width)`, and an optional projection to the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSpec {
    /// Name of the table's tensor.
    pub tensor: String,
    /// Number of columns of the table; differs from the model's width only if `project` is set.
    pub width: usize,
    /// A linear layer without bias, `(model width, embedding width)`, that is applied after look-up; its tensor's
    /// name.
    pub project: Option<String>,
    /// A factor that is applied after look-up (Gemma). A tied head uses the table without it.
    pub scale: Option<f32>,
}

/// The output head: an optional projection and the matrix `(vocabulary, embedding width)`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// A linear layer without bias, `(embedding width, model width)`, that is applied before the head; its tensor's
    /// name.
    pub project: Option<String>,
    /// Name of the matrix's tensor; `None` if the head is the embedding table.
    pub tensor: Option<String>,
    /// The names under which checkpoints store a head, tied or not. A tied matrix may be stored only under one of
    /// these.
    pub stored: &'static [&'static str],
    /// Bound `c` of the logits: each becomes `c tanh(x / c)` (Gemma 2).
    pub softcap: Option<f32>,
}

/// How a model encodes the position of a token.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned table added to the embeddings; position `t` reads row `t + offset`.
    Learned {
        /// Name of the table's tensor, whose shape is `(max_positions + offset, width)`.
        tensor: String,
        /// Number of rows at the start of the table that are not used.
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

/// Which tokens the attention of a block can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Number of tokens that a token can see: itself and the `window - 1` before it. `None` if it can see all before
    /// it.
    pub window: Option<usize>,
    /// Index of the block's frequencies in [`Positions::Rotary`].
    pub rotary: usize,
}

/// The formula of a norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`, times a gain.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`, times a gain, plus a bias.
    Layer,
}

/// One normalisation layer of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct NormSpec {
    /// The formula that the norm computes.
    pub kind: NormKind,
    /// A number that is added to the variance (or mean square) before the root is taken.
    pub epsilon: f32,
    /// Prefix of the tensors' names within the norm's scope; `.weight` and, for [`NormKind::Layer`], `.bias` are
    /// appended. `None` for a norm without parameters.
    pub tensor: Option<String>,
    /// Whether the gain is 1 plus the stored value (Gemma).
    pub unit_offset: bool,
}

/// The activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The rectifier, `max(x, 0)`.
    Relu,
    /// The sigmoid linear unit, `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)` with the exact normal distribution function.
    Gelu,
    /// GELU's approximation by the hyperbolic tangent, `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// The shape of one block's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Number of query heads; 0 in a block without attention.
    pub heads: usize,
    /// Number of key heads and of value heads; divides `heads`, and is 0 if that is.
    pub kv_heads: usize,
    /// Number of features per head.
    pub head_dim: usize,
    /// The factor that scores are multiplied by, usually `head_dim^-1/2`.
    pub scale: f32,
    /// Bound `c` of the scaled scores: each becomes `c tanh(x / c)` (Gemma 2).
    pub softcap: Option<f32>,
}

impl AttentionSpec {
    /// Attention with the usual factor `head_dim^-1/2` and without a bound.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: None,
        }
    }

    /// Number of query heads that read a key-value head.
    pub fn heads_of_group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }
}

/// One decoder block. Tensor names are relative to the block's prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Prefix of a block's tensor names, in which `{}` stands for the block's number.
    pub prefix: &'static str,
    /// Numbers and sizes of the attention's heads.
    pub attention: AttentionSpec,
    /// The norms and their places; at a place without a norm, the block does not normalise.
    pub norms: Vec<(NormPlace, NormSpec)>,
    /// Whether [`NormPlace::Attention`] and [`NormPlace::Mlp`] normalise the input of a sub-layer; otherwise they
    /// normalise the residual sum after it.
    pub norm_first: bool,
    /// Whether attention and MLP both read the block's input and their outputs are added together (GPT-NeoX).
    /// Otherwise the MLP reads the sum after attention.
    pub parallel: bool,
    /// The activation function of the MLP.
    pub activation: Activation,
    /// The linear layers, in the order in which pruning papers go through them. A block from which attention or MLP was removed
    /// has none of theirs: [`BlockSpec::without`].
    pub linears: Vec<LinearSpec>,
}

/// A part of a block that reads the residual stream and adds to it. A block has both, unless a whole one was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubLayer {
    /// Tokens look at others.
    Attention,
    /// Each token for itself.
    Mlp,
}

impl SubLayer {
    /// Both.
    pub const ALL: [SubLayer; 2] = [SubLayer::Attention, SubLayer::Mlp];
}

/// The place in a block where a norm acts.
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

impl NormPlace {
    /// The part of the block that it belongs to.
    pub fn sub_layer(self) -> SubLayer {
        match self {
            NormPlace::Attention | NormPlace::Query | NormPlace::Key | NormPlace::AttentionOutput => {
                SubLayer::Attention
            }
            NormPlace::Mlp | NormPlace::MlpOutput => SubLayer::Mlp,
        }
    }
}

/// How one matrix holds queries, keys and values together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fusion {
    /// All queries, then all keys, then all values (GPT-2).
    Sections,
    /// Head by head: its query, its key, its value (GPT-NeoX).
    Heads,
}

impl Fusion {
    /// Which feature of all heads side by side a row of the matrix gives, as query, key or value.
    pub fn feature_of(self, row: usize, attention: &AttentionSpec) -> usize {
        let dim = attention.head_dim;
        match self {
            Fusion::Sections => row % (attention.heads * dim),
            Fusion::Heads => row / (3 * dim) * dim + row % dim,
        }
    }
}

/// The task of a linear layer in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Queries, keys and values with the same number of heads, in one matrix, which is pruned as one.
    Fused(Fusion),
    /// Projection of the stream to queries.
    Query,
    /// Projection of the stream to keys.
    Key,
    /// Projection of the stream to values.
    Value,
    /// Output projection of the attention.
    Output,
    /// Gate of the MLP (only in gated MLPs).
    Gate,
    /// First layer of the MLP.
    Up,
    /// Second layer of the MLP.
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

    /// The part of the block that it belongs to.
    pub fn sub_layer(self) -> SubLayer {
        match self {
            Role::Fused(_) | Role::Query | Role::Key | Role::Value | Role::Output => SubLayer::Attention,
            Role::Gate | Role::Up | Role::Down => SubLayer::Mlp,
        }
    }
}

/// Names a linear layer within its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinearId(usize);

/// One linear layer of a block: role, names and shape.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearSpec {
    /// The layer's task in its block.
    pub role: Role,
    /// Prefix of the tensors' names within the block; `.weight` and, with a bias, `.bias` are appended.
    pub tensor: &'static str,
    /// Number of outputs: rows of the weight.
    pub outputs: usize,
    /// Number of inputs: columns of the weight.
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

    /// The shape in which the checkpoint stores the weight.
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

    /// The name of a layer's weight in block `index`.
    pub fn weight_of(&self, index: usize, linear: &LinearSpec) -> String {
        format!("{}{}.weight", self.prefix_of(index), linear.tensor)
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

    /// Whether it has a part: it has its linear layers.
    pub fn has(&self, part: SubLayer) -> bool {
        self.linears.iter().any(|linear| linear.role.sub_layer() == part)
    }

    /// The same block without a part: without its linear layers, and without its norms but for those that normalise the sum after
    /// it, whatever was added.
    pub fn without(&self, part: SubLayer) -> Self {
        let mut block = self.clone();
        block.linears.retain(|linear| linear.role.sub_layer() != part);
        block.norms.retain(|(place, _)| {
            let of_sum = !self.norm_first && matches!(place, NormPlace::Attention | NormPlace::Mlp);
            of_sum || place.sub_layer() != part
        });
        if part == SubLayer::Attention {
            (block.attention.heads, block.attention.kv_heads) = (0, 0);
        }
        block
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

    /// The norm at a place of the block, if there is one.
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

    /// Every tensor that the forward pass reads, with its shape. The list is made block by block, so that a
    /// configuration that claims too many blocks only costs the search for the first missing tensor.
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
        let mut tensors = self.norms_of(block, index);
        for linear in &block.linears {
            let name = format!("{prefix}{}", linear.tensor);
            tensors.push((format!("{name}.weight"), linear.stored_shape().to_vec()));
            if linear.bias {
                tensors.push((format!("{name}.bias"), vec![linear.outputs]));
            }
        }
        tensors
    }

    /// The tensors of the norms of block `index`, with their shapes.
    pub fn norm_tensors(&self, index: usize) -> Vec<(String, Vec<usize>)> {
        self.norms_of(self.block(index), index)
    }

    fn norms_of(&self, block: &BlockSpec, index: usize) -> Vec<(String, Vec<usize>)> {
        let prefix = block.prefix_of(index);
        let mut tensors = Vec::new();
        for (place, norm) in &block.norms {
            push_norm(&mut tensors, &prefix, norm, block.norm_width(*place, self.width));
        }
        tensors
    }

    /// Which tokens the attention of block `index` can see.
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
