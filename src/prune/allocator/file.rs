//! The shares of another run, from a file.
//!
//! The file is a results folder's `runs.jsonl` (with `cell`, the id of the cell, where there are several), the `pruning.json` of a pruned model, or
//! a file of shares by tensor name in TOML or JSON. What is read becomes the component's parameters: the cell's id says which
//! shares they were, and a resolved plan needs no file.

use super::step::{Allocator, PlacedLinear, Survey, Trial};
use super::table::check_mean;
use crate::error::{Error, Located, Result};
use crate::files::input;
use crate::prune::component::{Built, parsed};
use crate::prune::pattern::Pattern;
use crate::prune::range::within;
use crate::prune::shares::MOST;
use crate::registry::parameters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The allocator of shares that were read from a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileShares {
    /// The fraction of its weights that each layer loses, by the name of its weight's tensor.
    pub shares: BTreeMap<String, f64>,
}

impl Allocator for FileShares {
    fn validate(&self) -> Result<()> {
        let mut each = self.shares.iter();
        each.try_for_each(|(name, share)| within(name, *share, 0.0..=MOST))
    }

    fn allocate(&self, layers: &[PlacedLinear], sparsity: f64, _: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        let unknown = self
            .shares
            .keys()
            .find(|name| layers.iter().all(|layer| layer.tensor != **name));
        if let Some(name) = unknown {
            return Err(Error::config(format!(
                "the file has a share for `{name}`, which the model does not have"
            )));
        }
        let share = |layer: &PlacedLinear| {
            let share = self.shares.get(&layer.tensor).copied();
            share.ok_or_else(|| Error::config(format!("the file has no share for `{}`", layer.tensor)))
        };
        let shares: Vec<f64> = layers.iter().map(share).collect::<Result<_>>()?;
        let weights = |layer: &PlacedLinear| layer.weights() as f64;
        let all: f64 = layers.iter().map(weights).sum();
        let lost: f64 = layers
            .iter()
            .zip(&shares)
            .map(|(layer, share)| share * weights(layer))
            .sum();
        check_mean(lost / all, sparsity)?;
        Ok(shares)
    }
}

/// The parameters as a user writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// The file.
    path: PathBuf,
    /// The id of a cell, where the file has several.
    cell: Option<String>,
}

/// Makes the allocator from the table of parameters: from the file that it names, or from the shares that were read before.
///
/// # Errors
/// The file cannot be read, has no shares, or has those of several cells and none is named.
pub(super) fn build(table: &toml::Table) -> Result<Built<dyn Allocator>> {
    let boxed = |it: FileShares| -> Box<dyn Allocator> { Box::new(it) };
    if table.contains_key("shares") {
        return parsed(table, boxed);
    }
    let Place { path, cell } = parameters(table)?;
    let text = input::read_text(&path, LARGEST)?;
    let shares = read(&text, cell.as_deref()).at(path.display())?;
    let mut table = toml::Table::new();
    let shares = shares
        .into_iter()
        .map(|(name, share)| (name, toml::Value::Float(share)));
    table.insert("shares".to_string(), toml::Value::Table(shares.collect()));
    parsed(&table, boxed)
}

/// Size limit of the file in bytes; the records of a large sweep are some hundred megabytes.
const LARGEST: u64 = 2 << 30;

/// A record or a `pruning.json`, as far as it tells about shares.
#[derive(Deserialize)]
struct Recorded {
    id: Option<String>,
    status: Option<String>,
    cell: Option<RecordedCell>,
    #[serde(default)]
    layers: Vec<RecordedLayer>,
}

#[derive(Deserialize)]
struct RecordedCell {
    pruning: Option<RecordedPruning>,
}

#[derive(Deserialize)]
struct RecordedPruning {
    pattern: Pattern,
}

#[derive(Deserialize)]
struct RecordedLayer {
    tensor: String,
    pattern: Option<Pattern>,
}

/// The shares in a file's text.
fn read(text: &str, cell: Option<&str>) -> Result<BTreeMap<String, f64>> {
    let text = text.trim_start_matches('\u{feff}');
    if !text.trim_start().starts_with('{') {
        let shares = toml::from_str(text);
        return shares
            .map_err(|error| Error::input(format!("not a table of shares by tensor name: {}", error.message())));
    }
    let mut found: Vec<Recorded> = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        let value = value.map_err(|error| Error::input(format!("not JSON: {error}")))?;
        if value.get("layers").is_none() && value.get("schema").is_none() {
            let shares = serde_json::from_value(value);
            return shares.map_err(|error| Error::input(format!("not shares by tensor name: {error}")));
        }
        let recorded: Recorded =
            serde_json::from_value(value).map_err(|error| Error::input(format!("not a record: {error}")))?;
        let good = recorded.status.as_deref().is_none_or(|status| status == "ok");
        let wanted = cell.is_none_or(|cell| recorded.id.as_deref() == Some(cell));
        if good && wanted && !recorded.layers.is_empty() {
            found.push(recorded);
        }
    }
    let Some(last) = found.last() else {
        return Err(Error::input(match cell {
            Some(cell) => format!("there is no good record of a pruned cell `{cell}`"),
            None => "there is no good record of a pruned cell".to_string(),
        }));
    };
    if found.iter().any(|other| other.id != last.id) {
        let ids = found.iter().filter_map(|other| other.id.as_deref());
        let some: Vec<&str> = ids.take(3).collect();
        return Err(Error::config(format!(
            "{} records of pruned cells; name one: cell = \"{}\" (known: {}, ...)",
            found.len(),
            some.first().unwrap_or(&""),
            some.join(", ")
        )));
    }
    let whole = last
        .cell
        .as_ref()
        .and_then(|cell| cell.pruning.as_ref())
        .map(|pruning| pruning.pattern);
    let share = |layer: &RecordedLayer| {
        // Before a record had the pattern of each layer, all had the same.
        let pattern = layer.pattern.or(whole);
        let missing = || Error::input(format!("no pattern of `{}`", layer.tensor));
        Ok((layer.tensor.clone(), pattern.ok_or_else(missing)?.sparsity()))
    };
    last.layers.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = r#"{"schema":4,"id":"a","status":"ok","cell":{"pruning":{"pattern":{"sparsity":0.5}}},"layers":[{"tensor":"x","pattern":{"keep":1,"of":4}},{"tensor":"y"}]}
{"schema":4,"id":"b","status":"failed","layers":[]}
{"schema":4,"id":"c","status":"ok","cell":{"pruning":{"pattern":{"sparsity":0.5}}},"layers":[{"tensor":"x","pattern":{"sparsity":0.25}}]}
"#;

    #[test]
    fn shares_are_read_from_records_and_tables() {
        let of = |text: &str, cell| read(text, cell).map(|shares| shares.into_iter().collect::<Vec<_>>());
        let pair = |name: &str, share| (name.to_string(), share);
        assert_eq!(
            of(RECORDS, Some("a")).expect("there"),
            [pair("x", 0.75), pair("y", 0.5)]
        );
        assert_eq!(of(RECORDS, Some("c")).expect("there"), [pair("x", 0.25)]);
        assert_eq!(
            of("x = 0.3\n\"a.b\" = 0.4\n", None).expect("there"),
            [pair("a.b", 0.4), pair("x", 0.3)]
        );
        assert_eq!(of("{\"x\": 0.3}", None).expect("there"), [pair("x", 0.3)]);
        let message = |text: &str, cell| read(text, cell).expect_err("refused").to_string();
        assert!(
            message(RECORDS, None).contains("cell = \"a\""),
            "{}",
            message(RECORDS, None)
        );
        assert!(message(RECORDS, Some("b")).contains("no good record"));
        assert!(message("{\"x\": \"much\"}", None).contains("not shares"));
        assert!(message("x = y", None).contains("not a table of shares"));
        assert!(message("{\"schema\":", None).contains("not JSON"));
    }
}
