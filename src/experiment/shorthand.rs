//! Patterns and components as people type them: in full, or shorter.

use crate::prune::criterion::key_of_the_table;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::fmt;

/// A sparsity pattern: `{ sparsity = 0.5 }` or `{ keep = 2, of = 4 }`; or shorter `0.5`, `"50%"`, `"2:4"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawPattern {
    /// Fraction of the weights that is removed.
    pub sparsity: Option<f64>,
    /// Number of weights that are kept in each group.
    pub keep: Option<usize>,
    /// Number of weights in each group.
    pub of: Option<usize>,
}

impl RawPattern {
    fn of_sparsity(sparsity: f64) -> Self {
        RawPattern {
            sparsity: Some(sparsity),
            keep: None,
            of: None,
        }
    }

    /// The pattern that a text stands for: `2:4`, `50%`, or a fraction.
    pub(super) fn typed(text: &str) -> Option<Self> {
        if let Some((keep, of)) = text.split_once(':') {
            return Some(RawPattern {
                sparsity: None,
                keep: Some(keep.trim().parse().ok()?),
                of: Some(of.trim().parse().ok()?),
            });
        }
        let text = text.trim();
        if half_a_percent(text) {
            return None;
        }
        let number = match text.strip_suffix('%') {
            // Read as a decimal number with another exponent, so that "33.3%" is the same number as 0.333.
            Some(percent) if !percent.contains(['e', 'E']) => format!("{}e-2", percent.trim()),
            Some(_) => return None,
            None => text.to_string(),
        };
        Some(RawPattern::of_sparsity(number.parse().ok()?))
    }

    /// What to write for a text that stands for no pattern, in words that follow it; empty if nobody knows what is meant.
    pub(super) fn meant(text: &str) -> String {
        if half_a_percent(text.trim()) {
            let number = text.trim().trim_end_matches('%').trim();
            let share: f64 = format!("{number}e-2").parse().unwrap_or_default();
            return format!(
                " is less than one percent. Do you mean {number}? Write it without the percent sign. To remove less than one percent, \
                 write a number: {share}"
            );
        }
        let meant = match text.contains(',') {
            true => text.replace(',', "."),
            false => text.replace(" of ", ":").replace(['/', '-', 'x'], ":"),
        };
        match RawPattern::typed(&meant) {
            Some(_) => format!(" is no pattern; did you mean \"{meant}\"?"),
            None => String::new(),
        }
    }
}

/// Whether a text is a percentage below one: somebody wrote a fraction and a percent sign.
fn half_a_percent(text: &str) -> bool {
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok());
    number.is_some_and(|number| number > 0.0 && number < 1.0)
}

impl<'de> Deserialize<'de> for RawPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        /// The pattern as a table.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            sparsity: Option<f64>,
            keep: Option<usize>,
            of: Option<usize>,
            units: Option<f64>,
        }

        struct PatternVisitor;

        impl<'de> Visitor<'de> for PatternVisitor {
            type Value = RawPattern;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a pattern, such as 0.5, \"50%\" or \"2:4\"")
            }

            fn visit_f64<E: de::Error>(self, sparsity: f64) -> std::result::Result<RawPattern, E> {
                Ok(RawPattern::of_sparsity(sparsity))
            }

            fn visit_i64<E: de::Error>(self, sparsity: i64) -> std::result::Result<RawPattern, E> {
                Ok(RawPattern::of_sparsity(sparsity as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<RawPattern, E> {
                RawPattern::typed(text).ok_or_else(|| match RawPattern::meant(text) {
                    meant if meant.is_empty() => E::invalid_value(de::Unexpected::Str(text), &self),
                    meant => E::custom(format_args!("`{text}`{meant}")),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<RawPattern, A::Error> {
                let Table {
                    sparsity,
                    keep,
                    of,
                    units,
                } = Table::deserialize(MapAccessDeserializer::new(map))?;
                match units {
                    Some(share) => Err(de::Error::custom(format_args!(
                        "a pattern has no key `units`: write {share} here, and `units = \"flap\"` (or another method of whole units) in a \
                         [[method]]"
                    ))),
                    None => Ok(RawPattern { sparsity, keep, of }),
                }
            }
        }

        deserializer.deserialize_any(PatternVisitor)
    }
}

/// The criterion that is a formula, and the key of the formula.
const EXPRESSION: &str = "expression";

/// A component by name, `"ria"`, or with parameters, `{ name = "ria", activation_power = 1.0 }`. A formula needs no name:
/// `{ expression = "abs(w) * sqrt(x2)" }`.
#[derive(Debug, Clone)]
pub struct RawComponent {
    /// The name by which the component is registered.
    pub name: String,
    /// Everything else that was typed.
    pub parameters: toml::Table,
}

impl<'de> Deserialize<'de> for RawComponent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ComponentVisitor;

        impl<'de> Visitor<'de> for ComponentVisitor {
            type Value = RawComponent;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name, or a table with `name` and parameters")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<RawComponent, E> {
                Ok(RawComponent {
                    name: name.to_string(),
                    parameters: toml::Table::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawComponent, A::Error> {
                let mut parameters = toml::Table::new();
                while let Some((key, value)) = map.next_entry::<String, toml::Value>()? {
                    parameters.insert(key, value);
                }
                match parameters.remove("name") {
                    Some(toml::Value::String(name)) => Ok(RawComponent { name, parameters }),
                    Some(_) if parameters.contains_key(EXPRESSION) => Err(de::Error::custom(key_of_the_table("name"))),
                    Some(_) => Err(de::Error::custom("`name` of a component must be a string")),
                    None if parameters.contains_key(EXPRESSION) => Ok(RawComponent {
                        name: EXPRESSION.to_string(),
                        parameters,
                    }),
                    None => Err(de::Error::missing_field("name")),
                }
            }
        }

        deserializer.deserialize_any(ComponentVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn patterns_are_read_as_people_type_them() {
        #[derive(Deserialize)]
        struct File {
            patterns: Vec<RawPattern>,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.patterns);
        let half = RawPattern::of_sparsity(0.5);
        let typed = "patterns = [0.5, \"0.5\", \"50%\", \"50 %\", { sparsity = 0.5 }]";
        assert_eq!(read(typed).expect("patterns"), [half; 5]);
        let third = read("patterns = [\"33.3%\", 0.333]").expect("patterns");
        assert_eq!(third[0], third[1]);
        let groups = read("patterns = [\"2:4\", \"2 : 4\", { keep = 2, of = 4 }]").expect("patterns");
        assert!(groups.iter().all(|it| *it == groups[2]), "{groups:?}");
        assert_eq!((groups[0].keep, groups[0].of), (Some(2), Some(4)));
        for wrong in ["half", "2:", "2:4:8", "%", "5e1%", "", "0.5%"] {
            assert!(read(&format!("patterns = [\"{wrong}\"]")).is_err(), "{wrong}");
        }
        for (wrong, said) in [
            ("2/4", "did you mean \"2:4\"?"),
            ("0,5", "did you mean \"0.5\"?"),
            (
                "0.5%",
                "Write it without the percent sign. To remove less than one percent, write a number: 0.005",
            ),
        ] {
            let error = read(&format!("patterns = [\"{wrong}\"]")).expect_err(wrong).to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = read("patterns = [{ units = 0.2 }]")
            .expect_err("no pattern")
            .to_string();
        assert!(error.contains("write 0.2 here"), "{error}");
    }

    #[test]
    fn a_parameter_of_a_formula_that_is_called_name_is_told() {
        let read = |text: &str| toml::from_str::<BTreeMap<String, RawComponent>>(text);
        let error = read("criterion = { expression = \"abs(w) * name\", name = 0.5 }").expect_err("no name");
        let says = "`name` is the name of the criterion, and cannot be a parameter of the formula";
        assert!(error.to_string().contains(says), "{error}");
        let error = read("criterion = { name = 0.5 }").expect_err("no name").to_string();
        assert!(error.contains("`name` of a component must be a string"), "{error}");
    }
}
