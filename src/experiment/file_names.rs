//! Names of files that another program wrote, one for each cell: `masks/{model}-{pattern}-{seed}.safetensors`.

use crate::prune::pattern::Pattern;

/// Stands for the seed in the name of a file.
pub const SEED: &str = "{seed}";

/// Stands for the pattern in the name of a file: `0.5`, or `2-4` for 2:4.
const PATTERN: &str = "{pattern}";

/// Stands for the model's label in the name of a file.
const MODEL: &str = "{model}";

/// Whether the name is another one for each seed, pattern or model.
pub fn varies(name: &str) -> bool {
    [SEED, PATTERN, MODEL].iter().any(|part| name.contains(part))
}

/// What a name has between braces that stands for nothing, with what is known, if there is any.
pub fn unknown(name: &str) -> Option<String> {
    let mut rest = name;
    while let Some((_, behind)) = rest.split_once('{') {
        let (inside, behind) = behind.split_once('}')?;
        let part = format!("{{{inside}}}");
        if ![SEED, PATTERN, MODEL].contains(&part.as_str()) {
            return Some(format!(
                "{part} has no meaning here; {MODEL}, {PATTERN} and {SEED} have"
            ));
        }
        rest = behind;
    }
    None
}

/// Whether a name says for which pattern it is.
pub fn names_pattern(name: &str) -> bool {
    name.contains(PATTERN)
}

/// The name for a cell. `:` and what else not every system allows in a file's name become `-`.
pub fn filled(name: &str, model: &str, pattern: &Pattern, seed: Option<u64>) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let model: String = model.chars().map(plain).collect();
    let pattern = match pattern {
        Pattern::Unstructured { sparsity } => sparsity.to_string(),
        Pattern::NofM { keep, of } => format!("{keep}-{of}"),
    };
    // The label may hold braces of its own, so it comes last.
    let name = match seed {
        Some(seed) => name.replace(SEED, &seed.to_string()),
        None => name.to_string(),
    };
    name.replace(PATTERN, &pattern).replace(MODEL, &model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_with_what_a_cell_is() {
        let half = Pattern::Unstructured { sparsity: 0.5 };
        let pairs = Pattern::NofM { keep: 2, of: 4 };
        let name = "m/{model}_{pattern}.{seed}.safetensors";
        assert_eq!(filled(name, "org/tiny", &half, Some(3)), "m/org-tiny_0.5.3.safetensors");
        assert_eq!(filled("{pattern}", "", &pairs, None), "2-4");
        assert_eq!(filled("same", "x", &pairs, Some(1)), "same");
        assert_eq!(unknown(name), None);
        let wrong = unknown("m-{seed}-{sed}.safetensors").expect("a name that nothing knows");
        assert!(wrong.starts_with("{sed} has no meaning here; {model}"), "{wrong}");
        assert!(varies(name) && !varies("same") && names_pattern(name) && !names_pattern("{seed}"));
    }
}
