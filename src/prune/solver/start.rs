//! A solver that runs before another one, as a parameter of that other: its name, or a table with its name and its
//! parameters.

use super::SOLVERS;
use super::step::Solver;
use crate::error::Error;
use crate::prune::component::Built;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A solver with its name and parameters: `start = "obs"`, or `start = { name = "least-squares", damping = 0.1 }`.
pub struct Start {
    name: String,
    built: Built<dyn Solver>,
}

impl Start {
    /// The solver.
    pub fn solver(&self) -> &dyn Solver {
        self.built.component.as_ref()
    }

    fn new(name: &str, mut parameters: toml::Table) -> Result<Self, Error> {
        // Records have the version, too; the component says it again.
        parameters.remove(VERSION);
        let built = SOLVERS.build(name, &parameters)?;
        if built.component.reorders() {
            return Err(Error::config(format!(
                "solver `{name}` with these parameters changes the order of columns, so no other solver can run after it"
            )));
        }
        Ok(Start {
            name: name.to_string(),
            built,
        })
    }
}

const NAME: &str = "name";
const VERSION: &str = "version";

impl Serialize for Start {
    /// All parameters, so that a record tells what ran.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serde_json::Map::new();
        all.insert(NAME.to_string(), self.name.clone().into());
        if let Some(version) = self.built.version {
            all.insert(VERSION.to_string(), version.into());
        }
        if let Some(parameters) = self.built.parameters.as_object() {
            all.extend(parameters.clone());
        }
        all.serialize(serializer)
    }
}

/// An error of the solver that is to run first.
fn wrong<E: de::Error>(error: Error) -> E {
    E::custom(format_args!("start: {error}"))
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StartVisitor;

        impl<'de> Visitor<'de> for StartVisitor {
            type Value = Start;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a solver, or a table with its `name` and its parameters")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Start, E> {
                Start::new(name, toml::Table::new()).map_err(wrong)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Start, A::Error> {
                let mut table = toml::Table::deserialize(MapAccessDeserializer::new(map))?;
                match table.remove(NAME) {
                    Some(toml::Value::String(name)) => Start::new(&name, table).map_err(wrong),
                    _ => Err(de::Error::custom("a table of a solver needs its `name`, a text")),
                }
            }
        }

        deserializer.deserialize_any(StartVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Table {
        start: Start,
    }

    fn read(text: &str) -> Result<Table, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_string())
    }

    #[test]
    fn a_name_or_a_table_is_the_same_solver() {
        let by_name = read("start = \"least-squares\"").map(|it| serde_json::to_value(it).expect("a table"));
        let by_table = read("start = { name = \"least-squares\", damping = 0.01 }")
            .map(|it| serde_json::to_value(it).expect("a table"));
        assert_eq!(by_name, by_table);
        let written = by_name.expect("known");
        assert_eq!(written["start"]["name"], "least-squares");
        assert_eq!(written["start"]["damping"], 0.01);
        let again: Table = serde_json::from_value(written.clone()).expect("a record is read again");
        assert_eq!(serde_json::to_value(again).expect("a table"), written);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| read(text).err().expect("refused");
        assert!(error("start = \"obz\"").contains("did you mean `obs`?"));
        assert!(error("start = { name = \"obs\", dampnig = 1 }").contains("unknown key `dampnig`"));
        assert!(error("start = { name = \"least-squares\", damping = -1.0 }").contains("damping"));
        assert!(error("start = { name = \"obs\", order = \"loss\" }").contains("changes the order of columns"));
        assert!(error("start = { damping = 1 }").contains("`name`"));
        assert!(error("start = 3").contains("the name of a solver"));
    }
}
