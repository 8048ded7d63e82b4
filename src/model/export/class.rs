//! The Python class with which transformers loads a model whose blocks have different sizes.
//!
//! No stock class builds such a model. The class stands beside the weights, and `config.json` names it; transformers runs it where
//! `trust_remote_code=True` is given. `tools/make_golden_own_sizes.py` checks it, and makes the values that our forward pass is held
//! against.

use crate::spec::ModelSpec;
use serde_json::{Map, Value, json};

/// Name of the file with the class.
pub const CLASS: &str = "modeling_zprune.py";

/// The class, for a family that is named in place of [`FAMILY`].
const TEXT: &str = include_str!("modeling_zprune.py");

/// What stands for the family's name in [`TEXT`].
const FAMILY: &str = "\"FAMILY\"";

/// The key of `config.json` that names classes in files beside it.
const MAP: &str = "auto_map";

/// The text of [`CLASS`] for a model whose blocks differ; `None` where they are equal.
pub fn class_of(spec: &ModelSpec) -> Option<String> {
    let differ = spec.kinds().count() > 1;
    differ.then(|| TEXT.replace(FAMILY, &format!("\"{}\"", spec.family)))
}

/// Names the class in a configuration, or takes its name out.
pub(super) fn name(config: &mut Map<String, Value>, needed: bool) {
    let module = CLASS.strip_suffix(".py").unwrap_or(CLASS);
    if needed {
        let map = json!({
            "AutoConfig": format!("{module}.BlocksConfig"),
            "AutoModelForCausalLM": format!("{module}.BlocksForCausalLM"),
        });
        config.insert(MAP.to_string(), map);
        return;
    }
    let of_ours = |class: &Value| {
        let class = class.as_str().and_then(|class| class.strip_prefix(module));
        class.is_some_and(|class| class.starts_with('.'))
    };
    let Some(Value::Object(map)) = config.get_mut(MAP) else {
        return;
    };
    map.retain(|_, class| !of_ours(class));
    if map.is_empty() {
        config.shift_remove(MAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_class_comes_and_goes() {
        let theirs = json!({"AutoTokenizer": ["theirs.Tokenizer", null]});
        let mut config = Map::from_iter([(MAP.to_string(), theirs.clone())]);
        name(&mut config, false);
        assert_eq!(config[MAP], theirs, "another's names stay");
        name(&mut config, true);
        for class in config[MAP].as_object().expect("an object").values() {
            let class = class.as_str().and_then(|name| name.strip_prefix("modeling_zprune."));
            let class = class.expect("in the file");
            assert!(TEXT.contains(&format!("\nclass {class}(")), "{class}");
        }
        name(&mut config, false);
        assert!(config.is_empty());
        assert_eq!(TEXT.matches(FAMILY).count(), 1);
    }
}
