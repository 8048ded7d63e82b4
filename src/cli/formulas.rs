//! The words of formulas, as `zprune list expression` prints them.

use crate::prune::criterion::words::{FUNCTIONS, Function, VALUES};

/// How values are joined, for people.
const SIGNS: &str = "+ - * / ^ ( )";

/// What is said of [`SIGNS`].
const OF_SIGNS: &str = "`-a ^ 2` is `-(a ^ 2)`; a negative value has whole powers only, `w ^ 4` but not `w ^ 0.5`";

/// Headings of the functions: those that leave one value for each weight, and those that do not.
const OF_EACH: &str = "functions, of each value";
const REDUCING: &str = "functions that make one value of many: of a row, a column, the layer, or a vector with one value for each \
                        row or column";

/// All values, signs and functions, a line each.
pub(super) fn words() -> String {
    let mut text = "values, and for what each has one number\n".to_string();
    for value in VALUES {
        let (names, each) = (value.names.join(", "), value.each);
        text.push_str(&format!("  {names:<25}  {each:<14}  {}\n", value.meaning));
    }
    text.push_str(&format!("signs\n  {SIGNS:<25}  {OF_SIGNS}\n"));
    for (heading, functions) in by_kind() {
        text.push_str(&format!("{heading}\n"));
        for function in functions {
            text.push_str(&format!("  {:<25}  {}\n", calls(function), function.meaning));
        }
    }
    text.push_str("every other name in a formula is a parameter; write its value beside the formula\n");
    text
}

/// The functions of each kind, with the heading of the kind.
fn by_kind() -> [(&'static str, Vec<&'static Function>); 2] {
    let of = |reduces: bool| FUNCTIONS.iter().filter(|it| it.reduces == reduces).collect();
    [(OF_EACH, of(false)), (REDUCING, of(true))]
}

/// How a function is called, and its other names.
fn calls(function: &Function) -> String {
    let others = function.names[1..].iter().map(|name| format!(", {name}"));
    format!("{}{}", function.call(), others.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docs/methods/expression.md has of them.
    fn tables() -> String {
        let code = |name: &&str| format!("`{name}`");
        let mut text = "| name | one for each | what it is |\n|---|---|---|\n".to_string();
        for value in VALUES {
            let names: Vec<String> = value.names.iter().map(code).collect();
            let names = names.join(", ");
            text.push_str(&format!("| {names} | {} | {} |\n", value.each, value.meaning));
        }
        text.push_str(&format!(
            "\n## Functions\n\n| name | what it is |\n|---|---|\n| `{SIGNS}` | {OF_SIGNS} |\n"
        ));
        for function in by_kind().into_iter().flat_map(|(_, functions)| functions) {
            let others = function.names[1..].iter().map(|name| format!(", `{name}`"));
            let others: String = others.collect();
            text.push_str(&format!("| `{}`{others} | {} |\n", function.call(), function.meaning));
        }
        text
    }

    #[test]
    fn the_page_has_the_tables_that_formulas_are_read_with() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/methods/expression.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let tables = tables();
        assert!(
            page.contains(&tables),
            "docs/methods/expression.md has not these tables:\n{tables}"
        );
    }

    #[test]
    fn every_word_is_told() {
        let told = words();
        let values = VALUES.iter().flat_map(|value| value.names);
        for name in values.chain(FUNCTIONS.iter().flat_map(|function| function.names)) {
            assert!(told.contains(name), "{name}");
        }
        assert!(told.contains("row_mean(a)") && told.contains("below(a, b)"), "{told}");
    }
}
