//! Named components: one slice of [`Entry`] per kind of thing, look-up that suggests near names, and
//! parameter tables that refuse unknown keys.
//!
//! Adding a family or a task is one file and one line in its registry; listings (`zprune list`) and error messages are made
//! from the same slices, so they cannot go stale. What programs may add to is in `prune::component`.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;

/// One named component of a registry.
pub struct Entry<T> {
    /// The name that users type in files and arguments.
    pub name: &'static str,
    /// A description of one line, which `zprune list` shows.
    pub summary: &'static str,
    /// What is needed to build or use the component.
    pub item: T,
}

/// A registry: what its entries are called in messages, and the entries.
pub struct Registry<T: 'static> {
    /// Singular noun for messages, for example `criterion`.
    pub kind: &'static str,
    /// All components, in listing order.
    pub entries: &'static [Entry<T>],
}

impl<T> Registry<T> {
    /// Finds an entry by its exact name.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one and the whole list.
    pub fn find(&self, name: &str) -> Result<&'static Entry<T>> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name).collect();
            unknown(self.kind, name, &names)
        })
    }
}

/// The error of a name that is none of the known ones.
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Error {
    match known {
        [] => Error::config(format!("unknown {kind} `{name}`: there is none yet; leave it out")),
        known => Error::config(format!("unknown {kind} `{name}`{}", suggestion(name, known))),
    }
}

/// The tail of an "unknown name" message: the nearest known name, if one is near, and all of them.
pub fn suggestion(unknown: &str, known: &[&str]) -> String {
    let list = known
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest(unknown, known) {
        Some(near) => format!("; did you mean `{near}`? (known: {list})"),
        None => format!(" (known: {list})"),
    }
}

/// The known name most similar to `unknown`, when any is similar enough to be a likely slip.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&unknown.to_lowercase(), name), *name))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Reads a component's own parameters from the table the user wrote.
///
/// # Errors
/// Unknown keys (the type must `deny_unknown_fields`) and wrong types are refused by name.
pub fn parameters<P: DeserializeOwned>(table: &toml::Table) -> Result<P> {
    table.clone().try_into().map_err(|error: toml::de::Error| {
        let message = error.message();
        // A wrong type is reported without its key; the full text adds "in `key`", which an unknown key
        // is not in need of.
        if message.starts_with("unknown ") {
            Error::config(with_suggestion(message))
        } else {
            Error::config(error.to_string().trim_end().replace('\n', " "))
        }
    })
}

/// Appends the nearest known name to serde's "unknown field" and "unknown variant" messages.
pub fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next();
    let known: Vec<&str> = quoted.collect();
    match unknown.and_then(|unknown| nearest(unknown, &known)) {
        Some(near) if message.starts_with("unknown ") => format!("{message}; did you mean `{near}`?"),
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURS: Registry<u32> = Registry {
        kind: "colour",
        entries: &[
            Entry {
                name: "red",
                summary: "",
                item: 1,
            },
            Entry {
                name: "green",
                summary: "",
                item: 2,
            },
        ],
    };

    #[test]
    fn an_unknown_name_is_answered_with_a_near_one_and_the_list() {
        let error = COLOURS.find("gren").err().expect("gren is not a colour");
        assert_eq!(
            error.to_string(),
            "unknown colour `gren`; did you mean `green`? (known: `red`, `green`)"
        );
        let error = COLOURS.find("xylophone").err().expect("not a colour");
        assert_eq!(error.to_string(), "unknown colour `xylophone` (known: `red`, `green`)");
    }

    #[test]
    fn serde_messages_gain_a_suggestion() {
        let message = "unknown field `sparsty`, expected one of `keep`, `of`, `sparsity`";
        assert_eq!(with_suggestion(message), format!("{message}; did you mean `sparsity`?"));
        assert_eq!(
            with_suggestion("invalid type: string \"a\""),
            "invalid type: string \"a\""
        );
    }
}
