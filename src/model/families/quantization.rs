//! Whether the weights of a checkpoint are quantised or packed, which nothing here can read.
//!
//! llm-compressor leaves its settings behind in dense checkpoints too: `format` is then `dense` and no group of layers
//! is quantised.

use super::configuration::Config;
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Keys under which settings of quantisation and of packed sparsity have been stored over time.
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "sparsity_config"];

/// Refuses checkpoints whose weights are not stored as one number per weight.
///
/// # Errors
/// Names the key and the method.
pub fn refuse(config: &mut Config) -> Result<()> {
    for key in KEYS {
        let Some(value) = config.get(key) else { continue };
        let Some(settings) = value.as_object() else {
            return Err(Error::input(format!("key `{key}` must be an object, but is {value}")));
        };
        if let Some(reason) = compressed(settings) {
            return Err(Error::input(format!(
                "key `{key}`: the weights are quantised or packed ({reason}), and only dense weights in F32, F16 or BF16 \
                 can be pruned; take the original checkpoint, or write this one out again dense"
            )));
        }
        tracing::info!("config.json: key `{key}` is left over: nothing is quantised");
    }
    Ok(())
}

/// The setting that shows that something is compressed; `None` if nothing is.
fn compressed(settings: &Map<String, Value>) -> Option<String> {
    let told = |key: &str| settings.get(key).filter(|value| !is_nothing(value));
    // Other methods have no dense form: their checkpoints are always quantised.
    let method = told("quant_method").map(|value| value.as_str().unwrap_or("?"));
    if let Some(method) = method.filter(|method| *method != "compressed-tensors") {
        return Some(format!("quant_method {method}"));
    }
    let dense = |format: &Value| format == "dense";
    if let Some(format) = told("format").filter(|format| !dense(format)) {
        return Some(format!("format {format}"));
    }
    for (name, group) in told("config_groups").and_then(Value::as_object).into_iter().flatten() {
        let parts = ["weights", "input_activations", "output_activations"];
        if let Some(part) = parts
            .iter()
            .find(|part| group.get(part).is_some_and(|value| !is_nothing(value)))
        {
            return Some(format!("config_groups.{name} has {part}"));
        }
    }
    if let Some(key) = ["kv_cache_scheme", "transform_config"]
        .iter()
        .find(|key| told(key).is_some())
    {
        return Some(key.to_string());
    }
    if let Some(sparsity) = told("sparsity_config") {
        let format = sparsity.get("format").unwrap_or(&Value::Null);
        if !is_nothing(format) && !dense(format) {
            return Some(format!("sparsity_config.format {format}"));
        }
    }
    // Settings of a method that is not named and that says more than the above.
    let known = [
        "quant_method",
        "format",
        "config_groups",
        "kv_cache_scheme",
        "transform_config",
        "sparsity_config",
        "ignore",
        "quantization_status",
        "global_compression_ratio",
        "version",
        "global_sparsity",
        "sparsity_structure",
        "targets",
        "registry_requires_subclass",
    ];
    let other = settings
        .iter()
        .find(|(key, value)| !known.contains(&key.as_str()) && !is_nothing(value));
    other.map(|(key, value)| format!("{key} {value}"))
}

/// Whether a value is null, false or empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
