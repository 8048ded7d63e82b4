//! How a step of a recipe is made from what a user wrote.

use crate::error::{Error, Result};
use crate::registry;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A component made from its parameter table, with the parameters it ended up with.
pub struct Built<T: ?Sized> {
    /// All parameters, defaults filled in.
    pub parameters: serde_json::Value,
    /// The component.
    pub component: Box<T>,
}

/// Makes a component from the table a user wrote.
pub type Build<T> = fn(&toml::Table) -> Result<Built<T>>;

/// Parses a component's parameters; `boxed` only names the trait it becomes.
pub(super) fn parsed<P, T>(table: &toml::Table, boxed: fn(P) -> Box<T>) -> Result<Built<T>>
where
    P: DeserializeOwned + Serialize,
    T: ?Sized,
{
    let component: P = registry::parameters(table)?;
    let parameters = serde_json::to_value(&component)
        .map_err(|error| Error::config(format!("parameters cannot be recorded: {error}")))?;
    Ok(Built {
        parameters,
        component: boxed(component),
    })
}
