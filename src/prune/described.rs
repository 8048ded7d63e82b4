//! What the parameters of a component are: names, defaults and legal values, as the component itself tells them.
//!
//! There is no second list of parameters that could differ from what is read: a table with a wrong key or a wrong value is tried,
//! and the refusal names what is legal.

use crate::error::Result;
use crate::prune::component::Components;
use serde_json::Value;

/// A parameter of a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The key in the component's table.
    pub name: String,
    /// The value where the user gives none; `None` if there is no such value.
    pub default: Option<Value>,
    /// What it may be, in words: `a number, between 0 and 1`.
    pub legal: String,
}

/// The key and the text that are tried, which no component knows.
const TRIED: &str = "?";

impl<T: ?Sized> Components<T> {
    /// The parameters of a component, in its own order.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn parameters(&self, name: &str) -> Result<Vec<Parameter>> {
        self.find(name)?;
        let defaults = self.build(name, &toml::Table::new()).map(|built| built.parameters);
        let defaults = defaults.unwrap_or_default();
        let refusal = self.refusal(name, TRIED, true.into()).unwrap_or_default();
        let known = refusal.split_once("(known: ").map_or("", |(_, known)| known);
        let describe = |key: &str| Parameter {
            name: key.to_string(),
            default: defaults.get(key).filter(|value| !value.is_null()).cloned(),
            legal: self.legal(name, key),
        };
        Ok(quoted(known).map(describe).collect())
    }

    /// What a parameter may be, in words.
    fn legal(&self, name: &str, key: &str) -> String {
        let Some(refusal) = self.refusal(name, key, true.into()) else {
            return "`true` or `false`".to_string();
        };
        let refusal = match refusal.contains("a name in quotes") {
            true => self.refusal(name, key, TRIED.into()).unwrap_or_default(),
            false => refusal,
        };
        if let Some((_, known)) = refusal.split_once("(known: ") {
            let known: Vec<String> = quoted(known).map(|name| format!("\"{name}\"")).collect();
            return known.join(" or ");
        }
        let Some((_, needed)) = refusal.split_once(&format!("parameter `{key}` must be ")) else {
            return "a text in quotes".to_string();
        };
        let kind = needed.split(", not ").next().unwrap_or(needed);
        let (what, tried): (&str, [toml::Value; 3]) = match kind {
            kind if kind.starts_with("a number") => ("a number", [1e300.into(), (-1e300).into(), 0.0.into()]),
            kind if kind.starts_with("a whole number") => ("a whole number", [i64::MAX.into(), 0.into(), 1.into()]),
            kind => return kind.to_string(),
        };
        let refusals = tried.into_iter().filter_map(|value| self.refusal(name, key, value));
        let range = refusals.filter_map(|refusal| range(&refusal)).next();
        range.map_or(what.to_string(), |range| format!("{what}, {range}"))
    }

    /// Why a value of one parameter is refused; `None` if it is legal.
    fn refusal(&self, name: &str, key: &str, value: toml::Value) -> Option<String> {
        let mut table = toml::Table::new();
        table.insert(key.to_string(), value);
        self.build(name, &table).err().map(|error| error.to_string())
    }
}

/// The range in a refusal that says what a number must be.
fn range(refusal: &str) -> Option<String> {
    let (_, range) = refusal.split_once(" must be ")?;
    let range = range.split(';').next().unwrap_or(range).trim();
    Some(range.strip_prefix("a number of ").unwrap_or(range).to_string())
}

/// The texts between pairs of backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::allocator::ALLOCATORS;
    use crate::prune::compensation::COMPENSATIONS;
    use crate::prune::criterion::CRITERIA;
    use crate::prune::permutation::PERMUTATIONS;
    use crate::prune::refiner::REFINERS;
    use crate::prune::solver::SOLVERS;
    use crate::prune::transform::TRANSFORMS;

    /// Each parameter in a line: name, default, what is legal.
    fn lines<T: ?Sized>(components: &Components<T>, name: &str) -> Vec<String> {
        let parameters = components.parameters(name).expect("a component");
        let line = |it: Parameter| {
            let default = it.default.map_or("none".to_string(), |value| value.to_string());
            format!("{} | {default} | {}", it.name, it.legal)
        };
        parameters.into_iter().map(line).collect()
    }

    #[test]
    fn components_tell_their_parameters() {
        assert_eq!(
            lines(&SOLVERS, "fista"),
            [
                "round | \"wanda\" | \"magnitude\" or \"wanda\"",
                "steps | 20 | a whole number, between 1 and 10000",
                "rounds | 30 | a whole number, between 1 and 10000",
                "patience | 3 | a whole number, between 1 and 10000",
                "gain | 0.001 | a number, between 0 and 1",
                "share | 0.3 | a number, between 0 and 1",
                "lambda | 0.0001 | a number, between 0.00000001 and 1",
                "refit | false | `true` or `false`",
                "start | none | the name of a solver, or a table with its `name` and its parameters",
            ]
        );
        assert_eq!(
            lines(&CRITERIA, "ria"),
            ["activation_power | 0.5 | a number, at least 0"]
        );
        assert_eq!(lines(&CRITERIA, "wanda"), [""; 0]);
        assert_eq!(
            lines(&REFINERS, "sparse-swaps"),
            ["max_swaps | none | a whole number, at least 1"]
        );
        assert_eq!(
            lines(&ALLOCATORS, "atp")[1],
            "step | 0.002 | a number, above 0 and at most 1"
        );
        let file = lines(&ALLOCATORS, "file");
        assert_eq!(
            file,
            ["path | none | a text in quotes", "cell | none | a text in quotes"]
        );
    }

    /// Calls a function with every kind of components, whose type differs.
    macro_rules! every_kind {
        ($check:ident) => {
            $check(&CRITERIA);
            $check(&SOLVERS);
            $check(&ALLOCATORS);
            $check(&PERMUTATIONS);
            $check(&REFINERS);
            $check(&TRANSFORMS);
            $check(&COMPENSATIONS);
        };
    }

    #[test]
    fn every_number_has_a_range() {
        fn check<T: ?Sized>(components: &Components<T>) {
            for entry in components.entries() {
                for parameter in components.parameters(entry.name).expect("a component") {
                    let Parameter { name, legal, .. } = &parameter;
                    assert!(!legal.is_empty() && !legal.contains(TRIED), "{}: {name}", entry.name);
                    assert!(!legal.ends_with("number"), "{}: {name} has no range", entry.name);
                }
            }
        }
        every_kind!(check);
    }
}
