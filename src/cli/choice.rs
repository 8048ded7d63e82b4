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
    "Each row keeps its newline, and two newlines stand between rows: WikiText-2 as on the hub",
    "Rows without their newline, joined with one newline",
    "Rows without their newline, joined with one space: the papers' Penn Treebank",
    "Text as it is, documents one after the other",
];
