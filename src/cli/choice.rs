//! Options that take one of a few names.

use crate::choices;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;

/// Takes the names of a setting's values, as experiment files have them. `meanings` are what the help says of each, in
/// the order of the values.
pub(super) fn choice<T>(meanings: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let names = choices::names::<T>();
    assert_eq!(names.len(), meanings.len(), "{names:?} have a meaning each");
    let values = names.iter().zip(meanings);
    let values = values.map(|(name, meaning)| PossibleValue::new(*name).help(*meaning));
    PossibleValuesParser::new(values).try_map(|name| choices::named("value", &name))
}

/// How the rows of a corpus become one text.
pub(super) const JOINS: [&str; 4] = [
    "Rows as in the hub's `wikitext-2-raw-v1` (each keeps its newline, a blank row is the empty string), joined with two \
     newlines. JSONL and parquet documents are joined with two newlines",
    "Rows without their newline, joined with one newline. JSONL and parquet documents are left as they are",
    "Rows without their newline, joined with one space, as the papers do with the Penn Treebank. JSONL and parquet documents \
     are left as they are",
    "A text file unchanged, except line ends, which become `\\n`; JSONL and parquet documents one after the other",
];
