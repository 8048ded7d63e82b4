//! Methods that have another name than before because a parameter changed, and are the same method otherwise.
//!
//! A method without a name of its own is called after its parameters. So it gets another name when one of them changes.

use super::version::Version;
use crate::record::Record;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The cells of a method under a model and a pattern, as texts without parameters.
type Shape = BTreeMap<(String, String), String>;

/// Gives the cells of methods that are there no more the names of the new methods that differ from them in parameters only, and says
/// which ones these are. Nothing is done where it is not clear which method became which.
pub(super) fn pair<'a>(before: &mut [Version<'a>], after: &[Version<'a>]) -> Vec<String> {
    let (gone, new) = (alone(before, after), alone(after, before));
    let mut said = Vec::new();
    let mut names = BTreeMap::new();
    for (old, shape) in &gone {
        let likely: Vec<&str> = like(shape, &new).collect();
        let [name] = likely[..] else { continue };
        if like(&new[name], &gone).count() == 1 {
            names.insert(*old, name);
            let ids = |versions: &[Version], method: &str| -> BTreeSet<String> {
                let of = versions.iter().filter(|it| it.place.method == method);
                of.map(|it| it.record.id.clone()).collect()
            };
            said.push(match ids(before, old).is_disjoint(&ids(after, name)) {
                true => format!("`{name}` is compared with `{old}` of before: they differ in parameters only."),
                false => format!("`{name}` was called `{old}` before."),
            });
        }
    }
    for version in before.iter_mut() {
        if let Some(name) = names.get(version.place.method) {
            version.place.method = name;
        }
    }
    said
}

/// The methods that `these` have and `others` have not, with their shapes.
fn alone<'a>(these: &[Version<'a>], others: &[Version]) -> BTreeMap<&'a str, Shape> {
    let known: BTreeSet<&str> = others.iter().map(|it| it.place.method).collect();
    let mut found: BTreeMap<&str, Shape> = BTreeMap::new();
    for version in these.iter().filter(|it| !known.contains(it.place.method)) {
        let (Some(pattern), Some(shape)) = (version.place.pattern, without_parameters(version.record)) else {
            continue;
        };
        let place = (version.place.model.to_string(), pattern.to_string());
        found.entry(version.place.method).or_default().insert(place, shape);
    }
    found
}

/// The methods of the same shape: they have a model and a pattern in common, and differ in parameters only wherever they do.
fn like<'a>(shape: &Shape, others: &BTreeMap<&'a str, Shape>) -> impl Iterator<Item = &'a str> {
    let alike = |other: &Shape| {
        let mut common = shape
            .iter()
            .filter_map(|(place, own)| Some((own, other.get(place)?)))
            .peekable();
        common.peek().is_some() && common.all(|(own, others)| own == others)
    };
    let others = others.iter().filter(move |(_, other)| alike(other));
    others.map(|(name, _)| *name)
}

/// What was done in a cell without parameters and calibration, which the other methods of a version have in common with it.
fn without_parameters(record: &Record) -> Option<String> {
    let mut kind = serde_json::to_value(&record.cell.pruning.as_ref()?.kind).ok()?;
    strip(&mut kind);
    Some(kind.to_string())
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("parameters");
            fields.values_mut().for_each(strip);
        }
        Value::Array(parts) => parts.iter_mut().for_each(strip),
        _ => {}
    }
}
