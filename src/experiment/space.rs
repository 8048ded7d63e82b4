//! A space of methods as it was typed: a `[[method]]` in which values may be choices, `["row", "matrix"]`, or ranges,
//! `{ from = 0.0, to = 1.0 }`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;
use std::borrow::Cow;
use std::fmt;

/// A value of a space.
#[derive(Debug, Clone)]
pub enum Node {
    /// The value itself: a text, a number, or `true` or `false`.
    Value(toml::Value),
    /// One of several values.
    Choice(Vec<Spanned<Node>>),
    /// A number between two others.
    Range(RawRange),
    /// A component with its parameters.
    Table(Vec<(String, Spanned<Node>)>),
}

/// A number between two others: `{ from = 0.0, to = 1.0 }`. Between whole numbers, a whole number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawRange {
    /// The least value.
    pub from: f64,
    /// The greatest value.
    pub to: f64,
    /// Whether both ends were written as whole numbers.
    pub whole: bool,
    /// Whether the logarithms of values are evenly distributed.
    pub log: bool,
    /// Only so many values, evenly distributed, both ends among them.
    pub steps: Option<i64>,
}

/// The keys of a range.
const RANGE: [&str; 4] = ["from", "to", "log", "steps"];

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value, a list of values to choose from, or a range such as { from = 0.0, to = 1.0 }")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Node, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Node::Choice)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut keys: Vec<(String, Spanned<Node>)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                match keys.iter().any(|(key, _)| key == "from" || key == "to") {
                    true => range(&keys).map(Node::Range).map_err(de::Error::custom),
                    false => Ok(Node::Table(keys)),
                }
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

/// The range that these keys describe.
fn range(keys: &[(String, Spanned<Node>)]) -> Result<RawRange, String> {
    if let Some((key, _)) = keys.iter().find(|(key, _)| !RANGE.contains(&key.as_str())) {
        return Err(format!(
            "a range has `from` and `to`, and may have `log` and `steps`, but not `{key}`"
        ));
    }
    let value = |key: &str| {
        let found = keys.iter().find(|(known, _)| known == key);
        found.map(|(_, node)| match node.get_ref() {
            Node::Value(value) => value.clone(),
            _ => toml::Value::String(String::new()),
        })
    };
    let number = |key: &str| match value(key) {
        None => Err(format!("a range has both ends: `{key}` is missing")),
        Some(toml::Value::Integer(value)) => Ok((value as f64, true)),
        Some(toml::Value::Float(value)) => Ok((value, false)),
        Some(_) => Err(format!("`{key}` of a range must be a number")),
    };
    let ((from, first), (to, second)) = (number("from")?, number("to")?);
    let log = match value("log") {
        None => false,
        Some(toml::Value::Boolean(log)) => log,
        Some(_) => return Err("`log` of a range must be `true` or `false`".to_string()),
    };
    let steps = match value("steps") {
        None => None,
        Some(toml::Value::Integer(steps)) => Some(steps),
        Some(_) => return Err("`steps` of a range must be a whole number".to_string()),
    };
    Ok(RawRange {
        from,
        to,
        whole: first && second,
        log,
        steps,
    })
}

impl JsonSchema for Node {
    fn schema_name() -> Cow<'static, str> {
        "SpaceValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let choices = generator.subschema_for::<Node>();
        json_schema!({
            "description": "A value, a list of values to choose from, or a range: { from = 0.0, to = 1.0, log = true, steps = 5 }.",
            "anyOf": [
                { "type": ["string", "number", "boolean", "object"] },
                { "type": "array", "items": choices },
            ],
        })
    }
}

/// A space of methods, `[[search.method]]`: the keys of a `[[method]]`. For a step that a method may do without, `"none"` is a choice.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSpace {
    /// How its methods are called, before their numbers; `trial` by default.
    #[schemars(with = "Option<String>")]
    pub name: Option<Spanned<String>>,
    /// A recipe by name, whose steps are used where none are typed here.
    #[schemars(with = "Option<Node>")]
    pub recipe: Option<Spanned<Node>>,
    /// Decides how important each weight is.
    #[schemars(with = "Option<Node>")]
    pub criterion: Option<Spanned<Node>>,
    /// Computes the new values of the weights that are kept.
    #[schemars(with = "Option<Node>")]
    pub solver: Option<Spanned<Node>>,
    /// Chooses the variables in which layers are pruned.
    #[schemars(with = "Option<Node>")]
    pub transform: Option<Spanned<Node>>,
    /// Decides how much is removed from each layer.
    #[schemars(with = "Option<Node>")]
    pub allocator: Option<Spanned<Node>>,
    /// Decides which columns share an N:M group.
    #[schemars(with = "Option<Node>")]
    pub permutation: Option<Spanned<Node>>,
    /// Looks for a better mask of the same size.
    #[schemars(with = "Option<Node>")]
    pub refine: Option<Spanned<Node>>,
    /// Changes the bias to make up for removed weights.
    #[schemars(with = "Option<Node>")]
    pub compensate: Option<Spanned<Node>>,
    /// The group of weights among which the lowest scores are removed.
    #[schemars(with = "Option<Node>")]
    pub group: Option<Spanned<Node>>,
    /// What a layer's statistics are gathered on.
    #[schemars(with = "Option<Node>")]
    pub stage: Option<Spanned<Node>>,
    /// Whose outputs the solver reproduces.
    #[schemars(with = "Option<Node>")]
    pub target: Option<Spanned<Node>>,
    /// In place of a criterion: removes whole heads, neurons or blocks.
    #[schemars(with = "Option<Node>")]
    pub units: Option<Spanned<Node>>,
    /// Beside `units`: whether blocks have equal sizes afterwards.
    #[schemars(with = "Option<Node>")]
    pub widths: Option<Spanned<Node>>,
}

impl RawSpace {
    /// The keys that were typed, without the name.
    pub fn keys(&self) -> Vec<(&'static str, &Spanned<Node>)> {
        let keys = [
            ("recipe", &self.recipe),
            ("criterion", &self.criterion),
            ("solver", &self.solver),
            ("transform", &self.transform),
            ("allocator", &self.allocator),
            ("permutation", &self.permutation),
            ("refine", &self.refine),
            ("compensate", &self.compensate),
            ("group", &self.group),
            ("stage", &self.stage),
            ("target", &self.target),
            ("units", &self.units),
            ("widths", &self.widths),
        ];
        keys.into_iter()
            .filter_map(|(key, node)| Some((key, node.as_ref()?)))
            .collect()
    }
}

/// The spaces of a search: one table, `[search.method]`, or several, `[[search.method]]`.
#[derive(Debug, Clone, Default)]
pub struct RawSpaces(pub Vec<RawSpace>);

impl<'de> Deserialize<'de> for RawSpaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpacesVisitor;

        impl<'de> Visitor<'de> for SpacesVisitor {
            type Value = RawSpaces;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a section [search.method], or several [[search.method]]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawSpaces, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawSpaces)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSpaces, A::Error> {
                let space = RawSpace::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawSpaces(vec![space]))
            }
        }

        deserializer.deserialize_any(SpacesVisitor)
    }
}

impl JsonSchema for RawSpaces {
    fn schema_name() -> Cow<'static, str> {
        "RawSpaces".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let space = generator.subschema_for::<RawSpace>();
        json_schema!({ "anyOf": [space.clone(), { "type": "array", "items": space }] })
    }
}
