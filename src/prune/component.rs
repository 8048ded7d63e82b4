//! The components that steps of a recipe are made of, by name: the built-in ones, and those that a program adds.
//!
//! Each kind of step has one list of them, such as [`CRITERIA`](crate::prune::criterion::CRITERIA). What a program adds
//! there is known by its name everywhere from then on: in experiment files, on the command line and in `zprune list`.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use zprune::prune::component::Name;
//! use zprune::prune::criterion::{CRITERIA, Criterion};
//! use zprune::prune::pattern::Group;
//! use zprune::prune::score::{Score, input_squares, weight};
//!
//! /// The struct is the parameter table of the experiment file.
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Powered {
//!     power: f64,
//! }
//!
//! impl Default for Powered {
//!     fn default() -> Self {
//!         Powered { power: 0.25 }
//!     }
//! }
//!
//! impl Criterion for Powered {
//!     fn group(&self) -> Group {
//!         Group::Row
//!     }
//!
//!     fn score(&self) -> Score {
//!         weight().abs() * input_squares().power(self.power)
//!     }
//! }
//!
//! # fn main() -> zprune::error::Result<()> {
//! let name = Name { name: "powered", version: 1, summary: "|w| times a power of the input's sum of squares" };
//! CRITERIA.register(name, |it: Powered| Box::new(it))?;
//! let made = CRITERIA.build("powered", &toml::toml! { power = 0.5 })?;
//! assert_eq!(made.parameters["power"], 0.5);
//! # Ok(())
//! # }
//! ```

use crate::error::{Error, Located, Result};
use crate::registry::{self, Entry, unknown};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{PoisonError, RwLock};

/// A component made from its parameter table, with what decides its numbers.
pub struct Built<T: ?Sized> {
    /// The version that the program gave a component it added; built-in ones change with zprune's own numbers.
    pub version: Option<u32>,
    /// All parameters, with defaults for those that the user left out; they go into the record.
    pub parameters: serde_json::Value,
    /// The component itself, such as a criterion or a solver.
    pub component: Box<T>,
}

/// The function that makes a component from the table of parameters that a user wrote.
pub type Build<T> = &'static (dyn Fn(&toml::Table) -> Result<Built<T>> + Send + Sync);

/// What a component that a program adds is called.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    /// The name in experiment files and on the command line: letters, digits, `-` and `_`.
    pub name: &'a str,
    /// Part of every cell's id, with the name and the parameters. Raise it when the component's numbers change, so that old
    /// records are not taken for new ones.
    pub version: u32,
    /// One line for listings.
    pub summary: &'a str,
}

/// All components for one kind of step.
pub struct Components<T: ?Sized + 'static> {
    kind: &'static str,
    built_in: &'static [Entry<Build<T>>],
    check: fn(&T) -> Result<()>,
    added: RwLock<Vec<&'static Entry<Build<T>>>>,
}

impl<T: ?Sized> Components<T> {
    /// Built-in components. `kind` is a singular noun for messages, `check` refuses parameters out of range.
    pub(super) const fn new(
        kind: &'static str,
        check: fn(&T) -> Result<()>,
        built_in: &'static [Entry<Build<T>>],
    ) -> Self {
        Components {
            kind,
            built_in,
            check,
            added: RwLock::new(Vec::new()),
        }
    }

    /// The singular noun for one of them in messages, such as `criterion`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// All of them, those that the program added last.
    pub fn entries(&self) -> Vec<&'static Entry<Build<T>>> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        self.built_in.iter().chain(added.iter().copied()).collect()
    }

    /// Finds a component by its exact name.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one and the whole list.
    pub fn find(&self, name: &str) -> Result<&'static Entry<Build<T>>> {
        let entries = self.entries();
        let found = entries.iter().find(|entry| entry.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
            unknown(self.kind, name, &names)
        })
    }

    /// Makes a component from the table a user wrote.
    ///
    /// # Errors
    /// The name is unknown, or a parameter is unknown, of another type or out of range.
    pub fn build(&self, name: &str, parameters: &toml::Table) -> Result<Built<T>> {
        let entry = self.find(name)?;
        let built = (entry.item)(parameters).and_then(|built| (self.check)(&built.component).map(|()| built));
        built.at(format_args!("{} `{name}`", self.kind))
    }

    /// Adds a component whose struct is its parameter table, as the built-in ones' are. A component without parameters is
    /// `struct X {}`. To be done before experiments are read.
    ///
    /// # Errors
    /// There is one of this name, or the name cannot be typed everywhere.
    pub fn register<P>(&self, name: Name, boxed: fn(P) -> Box<T>) -> Result<()>
    where
        P: DeserializeOwned + Serialize + 'static,
    {
        self.register_with(name, move |table| parsed(table, boxed))
    }

    /// As [`Components::register`], for a component that is made in another way. What decides its numbers goes into
    /// [`Built::parameters`], an object that `make` can make the same component from again.
    ///
    /// # Errors
    /// As [`Components::register`].
    pub fn register_with(
        &self,
        name: Name,
        make: impl Fn(&toml::Table) -> Result<Built<T>> + Send + Sync + 'static,
    ) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.name.is_empty() || !name.name.chars().all(plain) {
            let message = format!(
                "{} `{}` cannot be added: a name has letters, digits, `-` and `_`",
                self.kind, name.name
            );
            return Err(Error::config(message));
        }
        let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
        if self
            .built_in
            .iter()
            .chain(added.iter().copied())
            .any(|entry| entry.name == name.name)
        {
            let message = format!(
                "{} `{}` cannot be added: there is one of this name",
                self.kind, name.name
            );
            return Err(Error::config(message));
        }
        let version = Some(name.version);
        let item = move |table: &toml::Table| make(table).map(|built| Built { version, ..built });
        // Components stay as long as the program runs, as the built-in ones do.
        added.push(Box::leak(Box::new(Entry {
            name: String::leak(name.name.to_string()),
            summary: String::leak(name.summary.to_string()),
            item: Box::leak(Box::new(item)) as Build<T>,
        })));
        Ok(())
    }
}

/// Makes a component from its parameters; `boxed` only names the trait it becomes.
///
/// # Errors
/// A parameter is unknown or of another type.
pub fn parsed<P, T>(table: &toml::Table, boxed: fn(P) -> Box<T>) -> Result<Built<T>>
where
    P: DeserializeOwned + Serialize,
    T: ?Sized,
{
    let component: P = registry::parameters(table)?;
    let parameters = serde_json::to_value(&component)
        .map_err(|error| Error::config(format!("parameters cannot be recorded: {error}")).caused_by(error))?;
    Ok(Built {
        version: None,
        parameters,
        component: boxed(component),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// What the tests add.
    trait Shape: Send + Sync {
        fn side(&self) -> f64;
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Square {
        side: f64,
    }

    impl Shape for Square {
        fn side(&self) -> f64 {
            self.side
        }
    }

    fn shapes() -> Components<dyn Shape> {
        let check: fn(&dyn Shape) -> Result<()> = |shape| match shape.side() > 0.0 {
            true => Ok(()),
            false => Err(Error::config("a side is positive")),
        };
        Components::new(
            "shape",
            check,
            &[Entry {
                name: "square",
                summary: "",
                item: &|table| parsed(table, |it: Square| Box::new(it)),
            }],
        )
    }

    fn message<V>(result: Result<V>) -> String {
        result.err().expect("refused").to_string()
    }

    const TILE: Name = Name {
        name: "tile",
        version: 3,
        summary: "a square",
    };

    #[test]
    fn what_is_added_is_found_by_name_and_brings_its_version() {
        let shapes = shapes();
        assert!(message(shapes.find("tile")).ends_with("(known: `square`)"));
        shapes.register(TILE, |it: Square| Box::new(it)).expect("a new name");
        let table = toml::toml! { side = 2.0 };
        let made = shapes.build("tile", &table).expect("legal");
        assert_eq!((made.version, made.component.side()), (Some(3), 2.0));
        assert_eq!(made.parameters, serde_json::json!({"side": 2.0}));
        assert_eq!(shapes.build("square", &table).expect("legal").version, None);
        let names: Vec<&str> = shapes.entries().iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["square", "tile"]);
        assert_eq!(
            message(shapes.build("tyle", &table)),
            "unknown shape `tyle`; did you mean `tile`? (known: `square`, `tile`)"
        );
    }

    #[test]
    fn names_that_clash_or_cannot_be_typed_are_refused() {
        let shapes = shapes();
        let add = |name| shapes.register(Name { name, ..TILE }, |it: Square| Box::new(it));
        assert!(message(add("square")).contains("there is one of this name"));
        add("tile").expect("a new name");
        assert!(message(add("tile")).contains("there is one of this name"));
        for name in ["", "a+b", "a.b", "two words", "\u{fc}"] {
            assert!(message(add(name)).contains("letters, digits"), "{name}");
        }
        assert_eq!(shapes.entries().len(), 2);
    }

    #[test]
    fn parameters_are_checked_whoever_added_the_component() {
        let shapes = shapes();
        shapes.register(TILE, |it: Square| Box::new(it)).expect("a new name");
        for name in ["square", "tile"] {
            let negative = message(shapes.build(name, &toml::toml! { side = -1.0 }));
            assert_eq!(negative, format!("shape `{name}`: a side is positive"));
            let unknown = message(shapes.build(name, &toml::toml! { sied = 1.0 }));
            assert!(unknown.contains("unknown key `sied`"), "{unknown}");
        }
    }
}
