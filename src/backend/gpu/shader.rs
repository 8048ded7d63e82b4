//! Shaders: plain WGSL files, specialised by naming element types and constants.
//!
//! Before a shader is compiled, its `#for` and `#define` blocks are written out (`expand.rs`), and three kinds of
//! lines may be replaced: `alias Name = type;`, `const NAME: u32 = value;` and what a function of one line returns,
//! `fn name(...) -> type { return ...; }`. Nothing else varies.

use super::expand::expand;
use std::fmt::Write;

/// One shader file in the folder `shaders/`.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// Name of the file.
    pub name: &'static str,
    /// Text of the file and of the common files that it uses.
    pub text: &'static str,
}

impl PartialEq for Shader {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

macro_rules! shaders {
    ($($(#[$doc:meta])* $name:ident = $file:literal $(+ $common:literal)*;)*) => {
        $($(#[$doc])* pub const $name: Shader = Shader {
            name: $file,
            // Functions that files share come last.
            text: concat!(
                include_str!(concat!("../../../shaders/", $file)),
                $(include_str!(concat!("../../../shaders/", $common)),)*
            ),
        };)*
        /// All shaders, for the tests.
        pub const ALL: &[Shader] = &[$($name),*];
    };
}

shaders! {
    /// Copies rows of a matrix in another order.
    ROWS = "rows.wgsl" + "common_index.wgsl";
    /// Operations element by element: sums, factors, activations, columns, positions.
    ELEMENTWISE = "elementwise.wgsl" + "common_elementwise.wgsl" + "common_activation.wgsl" + "common_index.wgsl";
    /// Operations element by element, four at a time.
    ELEMENTWISE_FOUR = "elementwise_four.wgsl" + "common_elementwise.wgsl" + "common_activation.wgsl" + "common_index.wgsl";
    /// RMS norms and layer norms.
    NORMALISE = "normalise.wgsl" + "common_total.wgsl";
    /// Gradients of RMS norms and layer norms.
    NORMALISE_BACKWARD = "normalise_backward.wgsl" + "common_total.wgsl";
    /// Rotation of heads by position.
    ROTATE = "rotate.wgsl" + "common_index.wgsl";
    /// `x W^T` for matrices of any shape.
    MATMUL_ANY = "matmul_any.wgsl";
    /// `x W^T` for widths that are multiples of 4.
    MATMUL_F32 = "matmul_f32.wgsl" + "common_tiles.wgsl";
    /// `x W^T` in half precision on cooperative matrices.
    MATMUL_COOPERATIVE = "matmul_cooperative.wgsl" + "common_tiles.wgsl" + "common_halves.wgsl";
    /// Sums of outer products `x^T y`, Gram matrices among them, in half precision on cooperative matrices.
    OUTER_COOPERATIVE = "outer_cooperative.wgsl" + "common_tiles.wgsl" + "common_halves.wgsl";
    /// Gram matrices for widths that are multiples of 4.
    GRAM_F32 = "gram_f32.wgsl" + "common_tiles.wgsl";
    /// Causal attention computed in tiles.
    ATTENTION = "attention.wgsl";
    /// Causal attention in half precision on cooperative matrices.
    ATTENTION_COOPERATIVE = "attention_cooperative.wgsl" + "common_halves.wgsl";
    /// Gradients of causal attention, computed in tiles.
    ATTENTION_BACKWARD = "attention_backward.wgsl";
    /// Gradients of causal attention in half precision on cooperative matrices.
    ATTENTION_BACKWARD_COOPERATIVE = "attention_backward_cooperative.wgsl" + "common_halves.wgsl";
    /// Log-likelihoods of rows of logits.
    LIKELIHOOD = "likelihood.wgsl";
    /// Gradients of log-likelihoods with respect to logits.
    LIKELIHOOD_BACKWARD = "likelihood_backward.wgsl" + "common_total.wgsl";
    /// Divergences between rows of logits.
    DIVERGENCE = "divergence.wgsl" + "common_total.wgsl";
    /// Sums of squares of matrices and of their differences.
    DISTANCE = "distance.wgsl" + "common_total.wgsl";
    /// Sums of squares of pieces of columns.
    SQUARES = "squares.wgsl" + "common_moments.wgsl";
    /// Sums and Gram matrices.
    MOMENTS = "moments.wgsl" + "common_moments.wgsl";
    /// Changes every weight, and checks weights.
    WEIGH = "weigh.wgsl" + "common_index.wgsl";
    /// Counts what masks remove.
    TALLY = "tally.wgsl" + "common_index.wgsl";
    /// Adds up formulas over weights.
    SUMS = "sums.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// Computes a matrix from a formula.
    MAP = "map.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// Moves entries of a matrix to other places.
    MOVES = "moves.wgsl" + "common_index.wgsl";
    /// Turns masks into matrices and back.
    MASKS = "masks.wgsl" + "common_index.wgsl";
    /// Computes scores and stores them as keys.
    SCORE = "score.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// Finds and marks the lowest keys.
    SELECT = "select.wgsl" + "common_index.wgsl";
    /// Computes the factor of an inverse matrix.
    FACTOR = "factor.wgsl";
    /// Finds the lowest values of rows.
    LOWEST = "lowest.wgsl";
    /// Swaps kept and removed entries of rows.
    SWAP = "swap.wgsl";
    /// SparseGPT's update of a block of columns.
    OBS = "obs.wgsl" + "common_formula.wgsl" + "common_index.wgsl";
}

/// The lines of a shader that are replaced before it is compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Names and new types of lines `alias NAME = TYPE;`
    pub types: Vec<(&'static str, &'static str)>,
    /// Names and new values of lines `const NAME: u32 = VALUE;`
    pub constants: Vec<(&'static str, u32)>,
    /// Names and new expressions of lines `fn NAME(...) -> ... { return EXPRESSION; }`
    pub functions: Vec<(&'static str, String)>,
}

impl Shader {
    /// The text that the compiler gets: with blocks written out and the lines of the variant replaced.
    ///
    /// # Panics
    /// A block is not closed, or the file has no such line: mistakes in this program that `tests/shaders.rs` finds.
    pub fn specialise(&self, variant: &Variant) -> String {
        let expanded = expand(self.text).unwrap_or_else(|error| panic!("shaders/{}: {error}", self.name));
        let mut text = String::with_capacity(expanded.len());
        if variant.types.iter().any(|(_, kind)| kind.contains("f16")) && !self.text.contains("enable f16;") {
            text.push_str("enable f16;\n");
        }
        let mut replaced = 0;
        for line in expanded.lines() {
            let alias = variant
                .types
                .iter()
                .find(|(name, _)| line.starts_with(&format!("alias {name} = ")));
            let constant = variant
                .constants
                .iter()
                .find(|(name, _)| line.starts_with(&format!("const {name}: u32 = ")));
            let function = line.split_once(" { return ").and_then(|(head, _)| {
                let mut functions = variant.functions.iter();
                let (_, expression) = functions.find(|(name, _)| head.starts_with(&format!("fn {name}(")))?;
                Some((head, expression))
            });
            let written = match (alias, constant, function) {
                (Some((name, kind)), ..) => writeln!(text, "alias {name} = {kind};"),
                (_, Some((name, value)), _) => writeln!(text, "const {name}: u32 = {value}u;"),
                (.., Some((head, expression))) => writeln!(text, "{head} {{ return {expression}; }}"),
                (None, None, None) => writeln!(text, "{line}"),
            };
            written.expect("a string grows");
            replaced += usize::from(alias.is_some() || constant.is_some() || function.is_some());
        }
        let wanted = variant.types.len() + variant.constants.len() + variant.functions.len();
        assert_eq!(
            replaced, wanted,
            "{}: {variant:?} names a line that is not there",
            self.name
        );
        text
    }
}
