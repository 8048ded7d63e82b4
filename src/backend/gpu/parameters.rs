//! What Rust and WGSL both know: the parameters of each dispatch, one structure per shader, and sizes.
//!
//! `tests/shaders.rs` compares every field's name, type and place, and every constant, with the shader's.

use super::shader::{self, Shader};
use bytemuck::{Pod, Zeroable};

/// Invocations of the kernels that give each element one: `LANES` of `common_index.wgsl`.
pub const LANES: usize = 256;

/// Rows and columns of a tile of the large products: `TILE` of `common_tiles.wgsl`.
pub const TILE: usize = 128;

/// Vectors of four that the attention kernel exchanges at a time: `EXCHANGE` of `attention.wgsl`.
pub const EXCHANGE: usize = 512;

/// Rows whose squares one workgroup adds up: `ROWS` of `moments.wgsl`.
pub const SQUARE_ROWS: usize = 256;

/// Rows that one workgroup adds up per column: `ROWS` of `sums.wgsl`.
pub const SUM_ROWS: usize = 256;

/// Words of a selection's state before the ties of each column: `TIED` of `select.wgsl`.
pub const TIED: usize = 2056;

/// Rows whose ties one workgroup counts: `TIED_ROWS` of `select.wgsl`.
pub const TIED_ROWS: usize = 256;

/// Rows that go through a block of columns together: `TOGETHER` of `obs.wgsl`.
pub const TOGETHER: usize = 8;

/// Every constant that stands in a shader too.
pub const MIRRORED: &[(Shader, &str, u32)] = &[
    (shader::ELEMENTWISE, "LANES", LANES as u32),
    (shader::MATMUL_F32, "TILE", TILE as u32),
    (shader::ATTENTION, "EXCHANGE", EXCHANGE as u32),
    (shader::MOMENTS, "ROWS", SQUARE_ROWS as u32),
    (shader::SUMS, "ROWS", SUM_ROWS as u32),
    (shader::SELECT, "TIED", TIED as u32),
    (shader::SELECT, "TIED_ROWS", TIED_ROWS as u32),
    (shader::OBS, "TOGETHER", TOGETHER as u32),
];

/// Constants of a formula that the kernels have room for.
pub const NUMBERS: usize = 16;

/// Vectors of a formula that the kernels have room for.
pub const VECTORS: usize = 8;

/// The type of a field as WGSL sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// `u32`.
    U32,
    /// `f32`.
    F32,
    /// `array<vec4<u32>, n>`.
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

impl<const N: usize> Field for [[u32; 4]; N] {
    const TYPE: FieldType = FieldType::Vectors(N);
}

/// A structure's fields as the test compares them with a shader's: name, offset in bytes, type.
pub struct Layout {
    /// The shaders whose `Parameters` it is.
    pub shaders: &'static [Shader],
    /// In order.
    pub fields: &'static [(&'static str, usize, FieldType)],
}

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident of $($shader:ident)+ {
        $($(#[$field_doc:meta])* $field:ident: $kind:ty,)*
    })*) => {
        $($(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        })*

        /// Every structure.
        pub const ALL: &[Layout] = &[$(Layout {
            shaders: &[$(shader::$shader),+],
            fields: &[$((stringify!($field), std::mem::offset_of!($name, $field), <$kind as Field>::TYPE)),*],
        }),*];
    };
}

parameters! {
    /// Rows of a matrix in another order.
    Rows of ROWS {
        /// Rows of the result.
        count: u32,
        /// Columns.
        width: u32,
    }

    /// Operations element by element; each reads the fields it needs.
    Elementwise of ELEMENTWISE {
        /// Elements of the matrix that is changed.
        count: u32,
        /// Its columns.
        width: u32,
        /// Which activation; see `numbered`.
        activation: u32,
        /// What elements are multiplied by.
        factor: f32,
        /// First row of the table of positions.
        offset: u32,
        /// Tokens per sequence.
        length: u32,
        /// First column that is taken.
        first: u32,
        /// Columns that are taken together.
        run: u32,
        /// Columns from one run to the next.
        stride: u32,
        /// Columns of the matrix they are taken from.
        source_width: u32,
    }

    /// RMS and layer norms.
    Normalise of NORMALISE {
        /// Runs of features, normalised one by one.
        runs: u32,
        /// Features in a run.
        width: u32,
        /// 1 for layer norm, which subtracts the mean.
        centred: u32,
        /// Added to the variance.
        epsilon: f32,
        /// 1 if there is a gain.
        has_gain: u32,
        /// 1 if there is a bias.
        has_bias: u32,
    }

    /// Rotary positions.
    Rotate of ROTATE {
        /// Rows of the matrix.
        tokens: u32,
        /// Heads in a row.
        heads: u32,
        /// Features of a head.
        head_dim: u32,
        /// Pairs of features that are rotated.
        pairs: u32,
        /// Tokens per sequence.
        length: u32,
    }

    /// `x W^T + b` of any shape.
    MatmulAny of MATMUL_ANY {
        /// Rows of `x`.
        rows: u32,
        /// Columns of `x`.
        inputs: u32,
        /// Rows of `W`.
        outputs: u32,
        /// 1 if there is a bias.
        has_bias: u32,
    }

    /// `x W^T + b` in tiles.
    Matmul of MATMUL_F32 MATMUL_COOPERATIVE {
        /// Rows of `x`.
        rows: u32,
        /// Rows of `W`.
        columns: u32,
        /// Columns of `x`.
        inner: u32,
        /// 1 if there is a bias.
        has_bias: u32,
        /// Tiles from top to bottom.
        row_tiles: u32,
        /// Tiles from left to right.
        column_tiles: u32,
        /// Columns of the result in memory.
        stride: u32,
    }

    /// Gram matrices in tiles.
    Gram of GRAM_F32 GRAM_COOPERATIVE {
        /// Rows of `x`.
        rows: u32,
        /// Columns of `x`.
        columns: u32,
        /// Tiles along one side.
        tiles: u32,
    }

    /// Sums of squares, and Gram matrices of any width.
    Moments of MOMENTS {
        /// Rows of `x`.
        rows: u32,
        /// Columns of `x`.
        width: u32,
        /// Pieces of rows whose squares are added up apart.
        pieces: u32,
    }

    /// Causal attention in tiles.
    Attention of ATTENTION {
        /// Tokens per sequence.
        length: u32,
        /// Heads of the queries.
        heads: u32,
        /// Heads of keys and values.
        kv_heads: u32,
        /// Features of a head.
        head_dim: u32,
        /// Keys a query sees, itself included; 0 for all before it.
        window: u32,
        /// What scores are multiplied by.
        scale: f32,
        /// Bound of the scores; 0 for none.
        softcap: f32,
    }

    /// The same on cooperative matrices, where the head size is a constant.
    AttentionCooperative of ATTENTION_COOPERATIVE {
        /// Tokens per sequence.
        length: u32,
        /// Heads of the queries.
        heads: u32,
        /// Heads of keys and values.
        kv_heads: u32,
        /// Keys a query sees, itself included; 0 for all before it.
        window: u32,
        /// What scores are multiplied by.
        scale: f32,
        /// Bound of the scores; 0 for none.
        softcap: f32,
    }

    /// Log-likelihoods of rows of logits.
    Likelihood of LIKELIHOOD {
        /// Rows of logits.
        rows: u32,
        /// Logits in a row.
        vocabulary: u32,
        /// Bound of the logits; 0 for none.
        softcap: f32,
        /// Where the rows' results start.
        first: u32,
    }

    /// Sums over weights, and changes of every weight.
    Weigh of WEIGH {
        /// Rows of the weight.
        rows: u32,
        /// Columns of the weight.
        columns: u32,
        /// Words per row of the mask.
        words: u32,
        /// Type the checkpoint stores: 0 f32, 1 f16, 2 bf16.
        storage: u32,
    }

    /// Sums of formulas over weights.
    Sums of SUMS {
        /// Constants of the formulas, as bits.
        numbers: [[u32; 4]; NUMBERS / 4],
        /// Where each vector of the formulas begins.
        starts: [[u32; 4]; VECTORS / 4],
        /// 0, which a compiler does not know.
        zero: u32,
        /// Rows of the weight.
        rows: u32,
        /// Columns of the weight.
        columns: u32,
        /// Words per row of the mask.
        words: u32,
    }

    /// Matrices from formulas.
    Map of MAP {
        /// Constants of the formula, as bits.
        numbers: [[u32; 4]; NUMBERS / 4],
        /// Where each vector of the formula begins.
        starts: [[u32; 4]; VECTORS / 4],
        /// 0, which a compiler does not know.
        zero: u32,
        /// Rows of the result.
        rows: u32,
        /// Columns of the result.
        columns: u32,
        /// Words per row of the mask.
        words: u32,
    }

    /// Matrices with the entries of another in other places.
    Moves of MOVES {
        /// Rows of the result.
        rows: u32,
        /// Columns of the result.
        columns: u32,
        /// Columns of the source.
        width: u32,
        /// Rows of the places: those of the source, or 1.
        place_rows: u32,
        /// Words per row of a mask.
        words: u32,
        /// What entries are multiplied by.
        factor: f32,
    }

    /// Scores as keys.
    Score of SCORE {
        /// Constants of the formula, as bits.
        numbers: [[u32; 4]; NUMBERS / 4],
        /// Where each vector of the formula begins.
        starts: [[u32; 4]; VECTORS / 4],
        /// 0, which a compiler does not know.
        zero: u32,
        /// Rows of the weight.
        rows: u32,
        /// Columns of the weight.
        columns: u32,
        /// First column that is scored.
        first: u32,
        /// Columns that are scored.
        width: u32,
        /// Words per row of the mask.
        words: u32,
    }

    /// The lowest keys.
    Select of SELECT {
        /// Rows of keys.
        rows: u32,
        /// Columns of keys.
        width: u32,
        /// Bits below the ones of this round.
        shift: u32,
        /// How many are removed.
        count: u32,
        /// 1 for the papers' threshold rule.
        reference: u32,
        /// Word of a mask's row where these columns start.
        first_word: u32,
        /// Words per row of the mask.
        words: u32,
        /// Weights kept in each N:M group.
        keep: u32,
        /// Weights in each N:M group.
        group_size: u32,
    }

    /// Inverse factors.
    Factor of FACTOR {
        /// Rows and columns of the matrix.
        inputs: u32,
        /// The block to eliminate.
        block: u32,
        /// What the Gram matrix is multiplied by.
        scale: f32,
        /// Added to the diagonal.
        damping: f32,
    }

    /// SparseGPT's update.
    Obs of OBS {
        /// Constants of the formula, as bits.
        numbers: [[u32; 4]; NUMBERS / 4],
        /// Where each vector of the formula begins.
        starts: [[u32; 4]; VECTORS / 4],
        /// 0, which a compiler does not know.
        zero: u32,
        /// Rows of the weight.
        rows: u32,
        /// Columns of the weight.
        columns: u32,
        /// First column of the block.
        first: u32,
        /// Columns of the block.
        width: u32,
        /// Words per row of the mask.
        words: u32,
        /// Weights kept in each N:M group.
        keep: u32,
        /// Weights in each N:M group that is chosen on the way; 0 if the mask is there already.
        group_size: u32,
    }
}
