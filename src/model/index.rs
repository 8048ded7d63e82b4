//! `model.safetensors.index.json`: which file of a checkpoint in several files has which tensor.

use crate::error::{Error, Result};
use crate::files::{input, json};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file that says which weight file has which tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// The name of the file of every tensor, by the tensor's name, as the index in the folder `dir` says.
///
/// # Errors
/// The index cannot be read, is none, or names a tensor twice.
pub fn read(dir: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: json::Unique<String>,
    }
    let path = dir.join(INDEX);
    let text = input::read_text(&path, input::SMALL)?;
    let index: Index = serde_json::from_str(&json::standard(&text)).map_err(|error| {
        let message = error.to_string();
        let hint = match message.contains(json::TWICE) {
            true => " of the map; remove the entry that is out of date",
            false => "; get it again from where the model is from",
        };
        Error::input(format!("not a shard index: {message}{hint}")).at(path.display())
    })?;
    Ok(index.weight_map.0.into_iter().collect())
}

/// An index `text` with another map of tensors to files, whose tensors have so many bytes. What else it says stays.
///
/// # Errors
/// The text is no index.
pub fn reindexed(text: &str, places: Map<String, Value>, bytes: u64) -> Result<String> {
    let mut index: Map<String, Value> = serde_json::from_str(&json::standard(text))
        .map_err(|error| Error::input(format!("not a shard index: {error}")))?;
    let metadata = index.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("total_size".to_string(), json!(bytes));
    }
    index.insert("weight_map".to_string(), Value::Object(places));
    Ok(format!("{:#}\n", Value::Object(index)))
}
