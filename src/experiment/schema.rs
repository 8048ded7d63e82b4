//! The JSON Schema of experiment files, with which editors complete keys, explain them and mark mistakes.
//!
//! It is made from the types that files are read into ([`super::raw`]) and from the lists of components, so that it cannot know
//! other keys. `experiments/experiment.schema.json` is what `zprune schema` prints.

use super::axis::Axis;
use super::known::KNOWN;
use super::machine::Wanted;
use super::plan::Expected;
use super::protocol::{Length, PROTOCOLS};
use super::raw::{ListedMethod, RawComponent, RawExperiment, RawMethod, RawPattern};
use crate::backend::Compute;
use crate::calibrate::{Goal, Stage};
use crate::choices::names;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::eval::matching::Match;
use crate::eval::tasks::{Harness, TASKS};
use crate::linalg::Provider;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::pattern::{Group, Selection};
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The schema.
pub fn schema() -> Value {
    let mut schema = Value::from(schema_for!(RawExperiment));
    schema["title"] = json!("An experiment of zprune");
    schema["required"] = json!(["model", "sweep"]);
    let protocols: Vec<&str> = PROTOCOLS.entries.iter().map(|entry| entry.name).collect();
    schema["properties"]["protocol"]["enum"] = json!(protocols);
    let tasks: Vec<&str> = TASKS.entries.iter().map(|entry| entry.name).collect();
    let definitions = &mut schema["$defs"];
    definitions["RawTask"]["properties"]["name"]["enum"] = json!(tasks);
    let recipes: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let method = &mut definitions["RawMethod"]["properties"];
    method["recipe"]["enum"] = json!(recipes);
    let criteria = [known(&CRITERIA), recipes].concat();
    one_of(&mut method["criterion"], &criteria);
    if let Some(ways) = method["criterion"]["anyOf"].as_array_mut() {
        ways.push(json!({ "type": "string", "pattern": "^[^+]+[+][^+]+$" }));
    }
    one_of(&mut method["solver"], &known(&SOLVERS));
    one_of(&mut method["allocator"], &known(&ALLOCATORS));
    one_of(&mut method["transform"], &known(&TRANSFORMS));
    one_of(&mut method["permutation"], &known(&PERMUTATIONS));
    one_of(&mut method["refine"], &known(&REFINERS));
    one_of(&mut method["compensate"], &known(&COMPENSATIONS));
    schema
}

/// The sections of an experiment file that have a key, as they are typed: `[compute]`, `[[task]]`; empty for the top of the file.
pub(super) fn sections_with(key: &str) -> Vec<String> {
    let schema = Value::from(schema_for!(RawExperiment));
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    let has = |of: &Value| {
        let name = of["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.is_some_and(|name| schema["$defs"][name]["properties"].get(key).is_some())
    };
    let top = properties.contains_key(key).then(String::new);
    let sections = properties.iter().filter_map(|(section, of)| {
        let alone = has(of) || of["anyOf"].as_array().is_some_and(|ways| ways.iter().any(has));
        match (alone, has(&of["items"])) {
            (true, _) => Some(format!("[{section}]")),
            (false, true) => Some(format!("[[{section}]]")),
            (false, false) => None,
        }
    });
    top.into_iter().chain(sections).collect()
}

/// The names of the components of a step.
fn known<T: ?Sized>(components: &Components<T>) -> Vec<&'static str> {
    components.entries().iter().map(|entry| entry.name).collect()
}

/// Makes a key take one of these names, or a table with one and parameters; its description stays.
fn one_of(key: &mut Value, names: &[&str]) {
    let description = key["description"].take();
    *key = json!({
        "description": description,
        "anyOf": [
            { "enum": names },
            { "type": "object", "properties": { "name": { "enum": names } }, "required": ["name"] },
        ],
    });
}

/// Types of a few named values.
macro_rules! named {
    ($($type:ident),* $(,)?) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": names::<$type>() })
            }
        })*
    };
}

named![
    Axis, Bos, Compute, Goal, Group, Harness, Join, Match, Provider, Sampling, Selection, Stage, Wanted
];

impl JsonSchema for Length {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 2 },
            { "enum": [Length::MaxPositions.to_string()] },
            { "type": "string", "pattern": "^min\\([0-9]+, max_position_embeddings\\)$" },
        ] })
    }
}

impl JsonSchema for Expected {
    fn schema_name() -> Cow<'static, str> {
        "Expected".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "perplexity": { "type": "number" }, "tolerance": { "type": "number" } },
            "required": ["perplexity", "tolerance"],
            "additionalProperties": false,
        })
    }
}

impl JsonSchema for RawPattern {
    fn schema_name() -> Cow<'static, str> {
        "RawPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json!({ "type": "integer", "minimum": 1 });
        json_schema!({
            "description": "A sparsity pattern: 0.5, \"50%\", \"2:4\", { sparsity = 0.5 } or { keep = 2, of = 4 }.",
            "anyOf": [
                { "type": "number" },
                { "type": "string", "pattern": "^ *[0-9.]+ *(%|: *[0-9]+)? *$" },
                {
                    "type": "object",
                    "properties": { "sparsity": { "type": "number" } },
                    "required": ["sparsity"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "keep": number.clone(), "of": number },
                    "required": ["keep", "of"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for ListedMethod {
    fn schema_name() -> Cow<'static, str> {
        "ListedMethod".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The name of a criterion or of a recipe, `criterion+solver`, or a table with the keys of a [[method]].",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<RawMethod>()],
        })
    }
}

impl JsonSchema for RawComponent {
    fn schema_name() -> Cow<'static, str> {
        "RawComponent".into()
    }

    /// Without names: [`schema`] fills in those of each step.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "object"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What of a value does not fit a schema; knows the words that the schema of experiments has.
    fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointed = root.pointer(reference.strip_prefix('#').expect("within the file"));
            return misfit(root, pointed.expect("a definition"), value);
        }
        if let Some(ways) = schema["anyOf"].as_array() {
            let misfits: Vec<String> = ways.iter().filter_map(|way| misfit(root, way, value)).collect();
            return (misfits.len() == ways.len()).then(|| misfits.join("; "));
        }
        let of_type = |name: &str| match name {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            other => panic!("the schema has a type `{other}`"),
        };
        let fits = match &schema["type"] {
            Value::Null => true,
            Value::String(name) => of_type(name),
            names => names
                .as_array()
                .expect("types")
                .iter()
                .any(|name| of_type(name.as_str().expect("a type"))),
        };
        if !fits {
            return Some(format!("{value} is not of type {}", schema["type"]));
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            return Some(format!("{value} is none of {}", schema["enum"]));
        }
        if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
            let fits = match pattern.contains("[+]") {
                true => text.contains('+'),
                false => text.chars().all(|c| c.is_ascii_digit() || ".:% ".contains(c)),
            };
            if !fits {
                return Some(format!("{value} does not match {pattern}"));
            }
        }
        if value
            .as_f64()
            .zip(schema["minimum"].as_f64())
            .is_some_and(|(value, least)| value < least)
        {
            return Some(format!("{value} is less than {}", schema["minimum"]));
        }
        for item in value.as_array().into_iter().flatten() {
            if let Some(misfit) = schema.get("items").and_then(|items| misfit(root, items, item)) {
                return Some(misfit);
            }
        }
        let object = value.as_object()?;
        let required = schema["required"].as_array().into_iter().flatten();
        for key in required.filter_map(Value::as_str) {
            if !object.contains_key(key) {
                return Some(format!("`{key}` is missing"));
            }
        }
        object.iter().find_map(|(key, value)| {
            let own = schema["properties"].get(key).or(schema.get("additionalProperties"));
            match own {
                Some(Value::Bool(false)) => Some(format!("`{key}` is unknown")),
                Some(schema) if schema.is_object() => {
                    misfit(root, schema, value).map(|misfit| format!("{key}: {misfit}"))
                }
                _ => None,
            }
        })
    }

    fn checked(text: &str) -> Option<String> {
        let schema = schema();
        let value: Value = toml::from_str(text).expect("TOML");
        misfit(&schema, &schema, &value)
    }

    #[test]
    fn the_file_in_the_repository_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/experiment.schema.json");
        let text = std::fs::read_to_string(path).expect("the file is in the repository");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        assert!(
            kept == schema(),
            "make it again: zprune schema > experiments/experiment.schema.json"
        );
    }

    #[test]
    fn the_examples_fit_the_schema() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("experiments are in the repository") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let text = std::fs::read_to_string(&path).expect("readable");
                assert_eq!(checked(&text), None, "{}", path.display());
                count += 1;
            }
        }
        assert!(count > 6);
        let short = "methods = [\"wanda\", { recipe = \"alps\" }]\n[[model]]\npath = \"m\"\n[sweep]\npatterns = [0.5, \"2:4\", \"50%\"]\n\
                     [[method]]\ncriterion = \"sparsegpt\"\n[[method]]\ncriterion = { name = \"ria\", activation_power = 1 }\n";
        assert_eq!(checked(short), None);
    }

    #[test]
    fn what_cannot_be_read_does_not_fit() {
        let right = "[[model]]\npath = \"m\"\n[sweep]\npatterns = [0.5]\n[[method]]\ncriterion = \"wanda\"\n";
        assert_eq!(checked(right), None);
        for (part, wrong) in [
            ("[sweep]", "[swep]"),
            ("path = \"m\"", "path = 3"),
            ("[0.5]", "[{ sparsty = 0.5 }]"),
            ("[0.5]", "[true]"),
            ("\"wanda\"", "\"wnada\""),
            ("\"wanda\"", "{ power = 1 }"),
            ("criterion", "criterium"),
            ("patterns", "seeds = [-1]\npatterns"),
            ("patterns", "selection = \"most\"\npatterns"),
        ] {
            assert!(right.contains(part));
            assert!(checked(&right.replace(part, wrong)).is_some(), "{wrong}");
        }
    }
}
