//! An architecture as data: everything the forward pass needs to know about a decoder-only language model.
//!
//! Shapes are `(rows, columns)`; a linear layer's weight is `(outputs, inputs)`, as in Hugging Face
//! checkpoints. This module owns no weights and reads no files.

/// A whole model: embedding, equal blocks, head.
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
    /// What every block looks like.
    pub block: BlockSpec,
    /// Norm between the last block and the head; post-norm models have none.
    pub final_norm: Option<NormSpec>,
    /// Where the logits come from.
    pub head: HeadSpec,
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
}

/// The output head: an optional projection and the matrix `(vocabulary, embedding width)`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// Bias-free linear `(embedding width, model width)` applied before the head.
    pub project: Option<String>,
    /// Tensor name; `None` when the head is the embedding table.
    pub tensor: Option<String>,
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
    /// Rotary embedding of queries and keys, pairing feature `i` with `i + head_dim / 2`.
    Rotary {
        /// One angular frequency per pair, in radians per token, scaling already applied.
        frequencies: Vec<f32>,
    },
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
}

/// The shape of one block's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
}

/// One decoder block. Tensor names are relative to the block's prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Prefix of block `b`, with `{}` standing for its number.
    pub prefix: &'static str,
    /// Attention heads.
    pub attention: AttentionSpec,
    /// Norm of the attention sub-layer.
    pub attention_norm: NormSpec,
    /// Norm of the MLP sub-layer.
    pub mlp_norm: NormSpec,
    /// True when norms act on a sub-layer's input, false when they act on the residual sum after it.
    pub norm_first: bool,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// The linear layers, in the order pruning papers visit them.
    pub linears: Vec<LinearSpec>,
}

/// What a linear layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
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

/// The four places of a block where a linear layer reads its input. Calibration statistics belong to
/// a tap, so layers that read the same activations share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tap {
    /// Input of queries, keys and values.
    AttentionIn,
    /// Input of the attention output projection.
    AttentionOut,
    /// Input of the MLP's gate and up projections.
    MlpIn,
    /// Input of the MLP's down projection.
    MlpMiddle,
}

impl Tap {
    /// All taps, in the order a forward pass reaches them.
    pub const ALL: [Tap; 4] = [Tap::AttentionIn, Tap::AttentionOut, Tap::MlpIn, Tap::MlpMiddle];
}

impl Role {
    /// The tap this role reads.
    pub fn tap(self) -> Tap {
        match self {
            Role::Query | Role::Key | Role::Value => Tap::AttentionIn,
            Role::Output => Tap::AttentionOut,
            Role::Gate | Role::Up => Tap::MlpIn,
            Role::Down => Tap::MlpMiddle,
        }
    }
}

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
}

impl BlockSpec {
    /// The tensor prefix of block `index`.
    pub fn prefix_of(&self, index: usize) -> String {
        self.prefix.replace("{}", &index.to_string())
    }

    /// The number of input features at a tap.
    pub fn tap_width(&self, tap: Tap) -> usize {
        self.linears
            .iter()
            .find(|linear| linear.role.tap() == tap)
            .map_or(0, |linear| linear.inputs)
    }
}

impl ModelSpec {
    /// Every tensor the forward pass reads, with its shape. Made one block at a time: a configuration that
    /// claims a billion blocks costs no more than looking for the first one that is not there.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
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
        let blocks = (0..self.blocks).flat_map(|index| self.block_tensors(index));
        before.into_iter().chain(blocks).chain(after)
    }

    /// The tensors of block `index`, with their shapes.
    pub fn block_tensors(&self, index: usize) -> Vec<(String, Vec<usize>)> {
        let prefix = self.block.prefix_of(index);
        let mut tensors = Vec::new();
        push_norm(&mut tensors, &prefix, &self.block.attention_norm, self.width);
        push_norm(&mut tensors, &prefix, &self.block.mlp_norm, self.width);
        for linear in &self.block.linears {
            let name = format!("{prefix}{}", linear.tensor);
            tensors.push((format!("{name}.weight"), vec![linear.outputs, linear.inputs]));
            if linear.bias {
                tensors.push((format!("{name}.bias"), vec![linear.outputs]));
            }
        }
        tensors
    }

    /// Number of weights that pruning may remove: all linear layers of all blocks.
    pub fn prunable(&self) -> usize {
        self.blocks
            * self
                .block
                .linears
                .iter()
                .map(|linear| linear.outputs * linear.inputs)
                .sum::<usize>()
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
