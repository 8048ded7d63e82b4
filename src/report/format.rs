//! How numbers are written in tables.

use crate::prune::pattern::Pattern;
pub use crate::registry::counted;
use crate::stats::Shown;

/// Changes of a perplexity from this on, in percent, are told as factors: nobody reads six digits of a percentage.
pub const AS_FACTOR: f64 = 1000.0;

/// A change in percent as the factor that it is, such as `×1411`, with about three digits.
pub fn factor(percent: f64) -> String {
    let factor = 1.0 + percent / 100.0;
    let digits = match factor {
        large if large >= 100.0 => 0,
        medium if medium >= 10.0 => 1,
        _ => 2,
    };
    format!("×{:.digits$}", Shown(factor))
}

/// A confidence level as text, such as `95 %`.
pub fn percent(confidence: f64) -> String {
    Pattern::Unstructured { sparsity: confidence }.to_string()
}

/// Things in a row: `a`, `a and b`, `a, b and c`.
pub fn list(things: &[String]) -> String {
    match things {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The same text with a capital letter at its beginning.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}

/// Number of digits after the point for a value of this size: about five digits in all.
pub fn digits(value: f64) -> usize {
    match value.abs() {
        small if small < 100.0 => 2,
        medium if medium < 1000.0 => 1,
        _ => 0,
    }
}

/// A p-value as tables show it.
pub fn p_value(p: f64) -> String {
    match p {
        tiny if tiny < 0.0001 => "< 0.0001".to_string(),
        small if small < 0.01 => format!("{small:.4}"),
        other => format!("{other:.3}"),
    }
}
