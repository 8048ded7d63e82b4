//! What Rust and WGSL both know: the parameters of each dispatch, one structure per shader, and sizes.
//!
//! `tests/shaders.rs` compares every field's name, type and place, and every constant, with the shader's.

use super::shader::{self, Shader};
use bytemuck::{Pod, Zeroable};

/// Invocations per workgroup in kernels with one invocation per element: `LANES` of `common_index.wgsl`.
pub const LANES: usize = 256;

/// Number of rows and of columns in a tile of the large products: `TILE` of `common_tiles.wgsl`.
pub const TILE: usize = 128;

/// Number of queries and of keys in a tile of the gradients of attention: `TILE` of `attention_backward.wgsl`.
pub const SCORE_TILE: usize = 32;

/// Number of four-component vectors that the attention kernel exchanges at a time: `EXCHANGE` of `attention.wgsl`.
pub const EXCHANGE: usize = 512;

/// Number of heads that one invocation rotates features of: `HEADS` of `rotate.wgsl`.
pub const ROTATED_HEADS: usize = 8;

/// Number of rows that one workgroup adds up, or their squares: `ROWS` of `common_moments.wgsl`.
pub const SQUARE_ROWS: usize = 256;

/// Number of rows that one workgroup adds up per column: `ROWS` of `sums.wgsl`.
pub const SUM_ROWS: usize = 256;

/// Number of words in a selection's state before the counts of ties per column: `TIED` of `select.wgsl`.
pub const TIED: usize = 2056;

/// Number of rows whose ties one workgroup counts: `TIED_ROWS` of `select.wgsl`.
pub const TIED_ROWS: usize = 256;

/// Number of rows that go through a block of columns together: `TOGETHER` of `obs.wgsl`.
pub const TOGETHER: usize = 8;

/// Number of columns whose correlations have one bound: `BLOCK` of `swap.wgsl`.
pub const SWAP_BLOCK: usize = 64;

/// What the kernel that compares scores says if two scores of a comparison group differ: `APART` of `score.wgsl`.
pub const APART: u32 = 1;

/// What it says if a weight is not 0: `NOT_ZERO` of `score.wgsl`.
pub const NOT_ZERO: u32 = 2;

/// All constants that a shader has, too: shader, name in the shader, value. A test compares them.
pub const MIRRORED: &[(Shader, &str, u32)] = &[
    (shader::ELEMENTWISE, "LANES", LANES as u32),
    (shader::MATMUL_F32, "TILE", TILE as u32),
    (shader::ATTENTION, "EXCHANGE", EXCHANGE as u32),
    (shader::ATTENTION_BACKWARD, "TILE", SCORE_TILE as u32),
    (shader::ROTATE, "HEADS", ROTATED_HEADS as u32),
    (shader::MOMENTS, "ROWS", SQUARE_ROWS as u32),
    (shader::SUMS, "ROWS", SUM_ROWS as u32),
    (shader::SELECT, "TIED", TIED as u32),
    (shader::SELECT, "TIED_ROWS", TIED_ROWS as u32),
    (shader::OBS, "TOGETHER", TOGETHER as u32),
    (shader::SWAP, "BLOCK", SWAP_BLOCK as u32),
    (shader::SCORE, "APART", APART),
    (shader::SCORE, "NOT_ZERO", NOT_ZERO),
];

/// Most constants of a formula that the kernels accept.
pub const NUMBERS: usize = 16;

/// Most vectors of a formula that the kernels accept.
pub const VECTORS: usize = 8;

/// The type of a field as WGSL sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// An unsigned integer of 32 bits, `u32`.
    U32,
    /// A single-precision number, `f32`.
    F32,
    /// An array of `n` vectors of four integers, `array<vec4<u32>, n>`.
    Vectors(usize),
}

/// A Rust type that a field of a uniform can have.
trait Field {
    const TYPE: FieldType;
}

impl Field for u32 {
    const TYPE: FieldType = FieldType::U32;
}

impl Field for f32 {
    const TYPE: FieldType = FieldType::F32;
}

/// The place of a field in a structure: its name, its offset in bytes and its type.
pub type FieldPlace = (&'static str, usize, FieldType);

/// The fields of a structure, which the test compares with those of a shader.
pub struct ParameterLayout {
    /// The shaders whose `Parameters` have this structure.
    pub shaders: &'static [Shader],
    /// All fields in their order: those of the part that the structure begins with, if it has one, and its own.
    pub fields: &'static [&'static [FieldPlace]],
}

/// Defines the structures and [`ALL`]. One that says `with formula` begins with the fields of a [`FormulaParameters`].
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident of $($shader:ident)+ $(, with $part:ident)? {
        $($(#[$field_doc:meta])* $field:ident: $kind:ty,)*
    })*) => {
        $($(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
        pub struct $name {
            $(
                /// The constants and vectors of the formula.
                pub $part: FormulaParameters,
            )?
            $($(#[$field_doc])* pub $field: $kind,)*
        })*

        /// The layouts of all structures in this module, for the test.
        pub const ALL: &[ParameterLayout] = &[$(ParameterLayout {
            shaders: &[$(shader::$shader),+],
            fields: &[
                $(fields_of!($part),)?
                &[$((stringify!($field), std::mem::offset_of!($name, $field), <$kind as Field>::TYPE)),*],
            ],
        }),*];
    };
}

/// The fields of the part that a structure begins with.
macro_rules! fields_of {
    (formula) => {
        FORMULA
    };
}

/// What every kernel with a formula is told of it: `formula` of `common_formula.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
pub struct FormulaParameters {
    /// Constants of the formula, as bits of `f32`.
    pub numbers: [[u32; 4]; NUMBERS / 4],
    /// For each vector of the formula, the index of its first value.
    pub starts: [[u32; 4]; VECTORS / 4],
    /// Always 0, which the shader's compiler cannot know.
    pub zero: u32,
}

/// The fields of a [`FormulaParameters`].
const FORMULA: &[FieldPlace] = &[
    (
        "numbers",
        std::mem::offset_of!(FormulaParameters, numbers),
        FieldType::Vectors(NUMBERS / 4),
    ),
    (
        "starts",
        std::mem::offset_of!(FormulaParameters, starts),
        FieldType::Vectors(VECTORS / 4),
    ),
    ("zero", std::mem::offset_of!(FormulaParameters, zero), FieldType::U32),
];

parameters! {
    /// Parameters of the kernels that copy rows of a matrix in another order.
    Rows of ROWS {
        /// Number of rows of the result.
        count: u32,
        /// Number of columns of the result.
        width: u32,
    }

    /// Parameters of operations element by element; each kernel reads the fields that it needs.
    Elementwise of ELEMENTWISE ELEMENTWISE_FOUR {
        /// Number of elements of the matrix that is changed, or of groups of four.
        count: u32,
        /// Number of columns of that matrix.
        width: u32,
        /// Number of the activation function; see `numbered`.
        activation: u32,
        /// The factor that elements are multiplied by.
        factor: f32,
        /// First row to use of the table of positions.
        offset: u32,
        /// Number of tokens per sequence.
        length: u32,
        /// Index of the first column to copy.
        first: u32,
        /// Number of neighbouring columns in a run to copy.
        run: u32,
        /// Number of columns from the start of one run to the start of the next.
        stride: u32,
        /// Number of columns of the matrix that is copied from.
        source_width: u32,
    }

    /// Parameters of RMS norms and layer norms.
    Normalise of NORMALISE NORMALISE_BACKWARD {
        /// Number of runs of features; each run is normalised on its own.
        runs: u32,
        /// Number of features in a run.
        width: u32,
        /// 1 for layer norm, which subtracts the mean, otherwise 0.
        centred: u32,
        /// The epsilon that is added to the variance.
        epsilon: f32,
        /// 1 if there is a gain, otherwise 0.
        has_gain: u32,
        /// 1 if there is a bias, otherwise 0.
        has_bias: u32,
    }

    /// Parameters of the rotation by position (rotary embedding).
    Rotate of ROTATE {
        /// Number of rows of the matrix, one per token.
        tokens: u32,
        /// Number of heads in a row.
        heads: u32,
        /// Number of features per head.
        head_dim: u32,
        /// Number of pairs of features per head that are rotated.
        pairs: u32,
        /// Number of tokens per sequence.
        length: u32,
    }

    /// Parameters of `x W^T + b` for matrices of any shape.
    MatmulAny of MATMUL_ANY {
        /// Number of rows of `x`.
        rows: u32,
        /// Number of columns of `x` (inputs of the layer).
        inputs: u32,
        /// Number of rows of `W` (outputs of the layer).
        outputs: u32,
        /// 1 if there is a bias, otherwise 0.
        has_bias: u32,
    }

    /// Parameters of `x W^T + b` computed in tiles.
    Matmul of MATMUL_F32 MATMUL_COOPERATIVE {
        /// Number of rows of `x`.
        rows: u32,
        /// Number of rows of `W`, which is the number of columns of the result.
        columns: u32,
        /// Number of columns of `x` and of `W`.
        inner: u32,
        /// 1 if there is a bias, otherwise 0.
        has_bias: u32,
        /// Number of tiles from top to bottom of the result.
        row_tiles: u32,
        /// Number of tiles from left to right of the result.
        column_tiles: u32,
        /// Number of columns that a row of the result takes in memory.
        stride: u32,
        /// Which part of `W` is not zero: 0 all of it, 1 from the diagonal to the right, 2 up to the diagonal.
        filled: u32,
    }

    /// Parameters of Gram matrices computed in tiles.
    Gram of GRAM_F32 {
        /// Number of rows of `x`.
        rows: u32,
        /// Number of columns of `x`.
        columns: u32,
        /// Number of tiles along one side of the Gram matrix.
        tiles: u32,
    }

    /// Parameters of sums of outer products `x^T y` computed in tiles.
    Outer of OUTER_COOPERATIVE {
        /// Number of rows of `x` and of `y` that are added up.
        rows: u32,
        /// Index of the first of them.
        first: u32,
        /// Number of columns of `x`, which is the number of rows of the result.
        x_columns: u32,
        /// Number of columns of `y`, which is the number of columns of the result.
        y_columns: u32,
        /// Number of tiles from top to bottom of the result.
        row_tiles: u32,
        /// Number of tiles from left to right of the result.
        column_tiles: u32,
        /// The factor that products are multiplied by, where they are.
        factor: f32,
    }

    /// Parameters of sums, sums of squares, and Gram matrices of any width.
    Moments of MOMENTS SQUARES {
        /// Number of rows of `x`.
        rows: u32,
        /// Number of columns of `x`.
        width: u32,
        /// Number of pieces that all rows (for squares) or the rows of a sequence (for sums) are divided into; each
        /// is added up separately.
        pieces: u32,
        /// Number of rows of a sequence.
        length: u32,
    }

    /// Parameters of causal attention computed in tiles, and of its gradients.
    Attention of ATTENTION ATTENTION_BACKWARD {
        /// Number of tokens per sequence.
        length: u32,
        /// Number of query heads.
        heads: u32,
        /// Number of heads of keys and of values.
        kv_heads: u32,
        /// Number of features per head.
        head_dim: u32,
        /// Number of keys that a query sees, including its own; 0 if it sees all before it.
        window: u32,
        /// The factor that scores are multiplied by.
        scale: f32,
        /// Bound of the scores (softcap); 0 for none.
        softcap: f32,
    }

    /// Parameters of the same on cooperative matrices, where the number of features per head is a constant.
    AttentionCooperative of ATTENTION_COOPERATIVE ATTENTION_BACKWARD_COOPERATIVE {
        /// Number of tokens per sequence.
        length: u32,
        /// Number of query heads.
        heads: u32,
        /// Number of heads of keys and of values.
        kv_heads: u32,
        /// Number of keys that a query sees, including its own; 0 if it sees all before it.
        window: u32,
        /// The factor that scores are multiplied by.
        scale: f32,
        /// Bound of the scores (softcap); 0 for none.
        softcap: f32,
    }

    /// Parameters of log-likelihoods from rows of logits, and of their gradients.
    Likelihood of LIKELIHOOD LIKELIHOOD_BACKWARD {
        /// Number of rows of logits.
        rows: u32,
        /// Number of logits in a row.
        vocabulary: u32,
        /// Bound of the logits (softcap); 0 for none.
        softcap: f32,
        /// Index of the result of the first row.
        first: u32,
    }

    /// Parameters of divergences between rows of logits.
    Divergence of DIVERGENCE {
        /// Number of rows of logits.
        rows: u32,
        /// Number of logits in a row.
        vocabulary: u32,
        /// Bound of the dense model's logits (softcap); 0 for none.
        dense_softcap: f32,
        /// Bound of the other model's logits; 0 for none.
        softcap: f32,
        /// Index of the result of the first row.
        first: u32,
    }

    /// Parameters of sums of squares of differences.
    Distance of DISTANCE {
        /// Number of entries of either matrix.
        count: u32,
        /// Number of workgroups, which share the entries.
        parts: u32,
        /// The place of the first workgroup's results.
        first: u32,
    }

    /// Parameters of the kernels that add up weights or change each of them.
    Weigh of WEIGH {
        /// Number of rows of the weight.
        rows: u32,
        /// Number of columns of the weight.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// Number format of the checkpoint: 0 for f32, 1 for f16, 2 for bf16.
        storage: u32,
    }

    /// Parameters of sums of formulas over weights.
    Sums of SUMS, with formula {
        /// Number of rows of the weight.
        rows: u32,
        /// Number of columns of the weight.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
    }

    /// Parameters of the kernel that computes a matrix from a formula.
    Map of MAP, with formula {
        /// Number of rows of the result.
        rows: u32,
        /// Number of columns of the result.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
    }

    /// Parameters of the kernels that move entries of a matrix to other places.
    Moves of MOVES {
        /// Number of rows of the result.
        rows: u32,
        /// Number of columns of the result.
        columns: u32,
        /// Number of columns of the source.
        width: u32,
        /// Number of rows of the places: as many as the source has, or 1.
        place_rows: u32,
        /// The factor that entries are multiplied by.
        factor: f32,
        /// Number of entries of the source before the first one to move.
        first: u32,
    }

    /// Parameters of the kernels that turn masks into matrices and back.
    Masks of MASKS {
        /// Number of rows of the mask.
        rows: u32,
        /// Number of columns of the mask.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
    }

    /// Parameters of the kernel that counts what a mask removes.
    Tally of TALLY {
        /// Number of rows of the mask.
        rows: u32,
        /// Number of columns of the mask.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// Number of columns of a group.
        width: u32,
        /// Number of weights that a group of a row should lose.
        wanted: u32,
        /// 1 if groups are counted over all rows, too.
        over_rows: u32,
    }

    /// Parameters of the kernel that computes scores and stores them as keys.
    Score of SCORE, with formula {
        /// Number of rows of the weight.
        rows: u32,
        /// Number of columns of the weight.
        columns: u32,
        /// Index of the first column to score.
        first: u32,
        /// Number of columns to score, or of columns of a comparison group.
        width: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// 1 if a comparison group has the columns of all rows.
        over_rows: u32,
    }

    /// Parameters of the kernels that find and mark the lowest keys.
    Select of SELECT {
        /// Number of rows of keys.
        rows: u32,
        /// Number of columns of keys.
        width: u32,
        /// Number of bits below those that this round looks at.
        shift: u32,
        /// Number of weights to remove.
        count: u32,
        /// 1 for the papers' threshold rule, 0 for the exact count.
        reference: u32,
        /// Index of the word in a row of the mask where these columns begin.
        first_word: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// Number of weights kept in each N:M group.
        keep: u32,
        /// Number of weights in each N:M group.
        group_size: u32,
    }

    /// Parameters of the factor of an inverse matrix.
    Factor of FACTOR {
        /// Number of rows and of columns of the matrix.
        inputs: u32,
        /// Index of the block that is eliminated.
        block: u32,
        /// The factor that the Gram matrix is multiplied by.
        scale: f32,
        /// The value that is added to the diagonal.
        damping: f32,
    }

    /// Parameters of the kernel that finds the lowest values of rows.
    Lowest of LOWEST {
        /// Number of rows.
        rows: u32,
        /// Number of columns.
        columns: u32,
        /// Number of values to find in each row; at most the number of columns.
        count: u32,
    }

    /// Parameters of the kernels that swap kept and removed entries of rows.
    Swap of SWAP {
        /// Number of rows of the matrix.
        rows: u32,
        /// Number of columns of the matrix.
        columns: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// Number of neighbouring columns that form a group.
        width: u32,
        /// Most swaps in a row.
        most: u32,
        /// Most swaps in a row during this run of the kernel.
        steps: u32,
        /// Number of blocks of columns whose correlations with a column have one bound.
        blocks: u32,
    }

    /// Parameters of SparseGPT's update of a block of columns.
    Obs of OBS, with formula {
        /// Number of rows of the weight.
        rows: u32,
        /// Number of columns of the weight.
        columns: u32,
        /// Index of the block's first column.
        first: u32,
        /// Number of columns of the block.
        width: u32,
        /// Number of words in a row of the mask.
        words: u32,
        /// Number of weights kept in each N:M group.
        keep: u32,
        /// Number of weights in each N:M group that is chosen during the update; 0 if the mask has been chosen
        /// before.
        group_size: u32,
    }
}
