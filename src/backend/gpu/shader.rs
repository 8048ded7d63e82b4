//! Shaders: plain WGSL files, specialised by naming element types and constants.
//!
//! Before a shader is compiled, its `#for` and `#define` blocks are written out (`expand.rs`), and three kinds of
//! lines may be replaced: `alias Name = type;`, `const NAME: u32 = value;` and what a function of one line returns,
//! `fn name(...) -> type { return ...; }`. Nothing else varies.

use super::expand::expand;
use std::fmt::Write;

/// One file under `shaders/`.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// File name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
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
        /// Every shader.
        pub const ALL: &[Shader] = &[$($name),*];
    };
}

shaders! {
    /// Rows of a matrix in another order.
    ROWS = "rows.wgsl" + "common_index.wgsl";
    /// Element by element: sums, factors, activations, columns, positions.
    ELEMENTWISE = "elementwise.wgsl" + "common_index.wgsl";
    /// RMS and layer norms.
    NORMALISE = "normalise.wgsl";
    /// Rotary positions.
    ROTATE = "rotate.wgsl" + "common_index.wgsl";
    /// `x W^T`, any shape.
    MATMUL_ANY = "matmul_any.wgsl";
    /// `x W^T` for widths that are multiples of 4.
    MATMUL_F32 = "matmul_f32.wgsl" + "common_tiles.wgsl";
    /// `x W^T` in half precision on cooperative matrices.
    MATMUL_COOPERATIVE = "matmul_cooperative.wgsl" + "common_tiles.wgsl" + "common_halves.wgsl";
    /// Gram matrices in half precision on cooperative matrices.
    GRAM_COOPERATIVE = "gram_cooperative.wgsl" + "common_tiles.wgsl" + "common_halves.wgsl";
    /// Gram matrices for widths that are multiples of 4.
    GRAM_F32 = "gram_f32.wgsl" + "common_tiles.wgsl";
    /// Causal attention in tiles.
    ATTENTION = "attention.wgsl";
    /// The same in half precision on cooperative matrices.
    ATTENTION_COOPERATIVE = "attention_cooperative.wgsl" + "common_halves.wgsl";
    /// Log-likelihoods of rows of logits.
    LIKELIHOOD = "likelihood.wgsl";
    /// Sums of squares and Gram matrices.
    MOMENTS = "moments.wgsl";
    /// Changes of every weight, and checks.
    WEIGH = "weigh.wgsl" + "common_index.wgsl";
    /// Sums of formulas over weights.
    SUMS = "sums.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// Matrices from formulas.
    MAP = "map.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// Matrices with the entries of another in other places.
    MOVES = "moves.wgsl" + "common_index.wgsl";
    /// Scores as keys.
    SCORE = "score.wgsl" + "common_formula.wgsl" + "common_kept.wgsl" + "common_index.wgsl";
    /// The lowest keys.
    SELECT = "select.wgsl" + "common_index.wgsl";
    /// Inverse factors.
    FACTOR = "factor.wgsl";
    /// SparseGPT's update.
    OBS = "obs.wgsl" + "common_formula.wgsl" + "common_index.wgsl";
}

/// What a shader's replaceable lines become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    /// `alias NAME = TYPE;`
    pub types: Vec<(&'static str, &'static str)>,
    /// `const NAME: u32 = VALUE;`
    pub constants: Vec<(&'static str, u32)>,
    /// `fn NAME(...) -> ... { return EXPRESSION; }`
    pub functions: Vec<(&'static str, String)>,
}

impl Shader {
    /// The text a compiler reads: blocks written out, and a variant's lines replaced.
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
