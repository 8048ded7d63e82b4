//! Settings of a few named values, such as `block`, `staged` or `dense`.
//!
//! A type's names stand once, where serde reads them; messages, environment variables and the command line take them from
//! there.

use crate::error::Result;
use crate::registry::unknown;
use serde::de::value::Error as Unread;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, Serialize, forward_to_deserialize_any};

/// The names of an enum's values, in their order; none of a type that is no plain enum.
pub fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always fails: it is there to be told which names there are.
    let _ = T::deserialize(Asked(&mut names));
    names
}

/// The value with a name.
///
/// # Errors
/// No value has it; says which names there are. `kind` is what a value is called, such as `tier`.
pub fn named<T: DeserializeOwned>(kind: &str, name: &str) -> Result<T> {
    let value: std::result::Result<T, Unread> = T::deserialize(name.into_deserializer());
    value.map_err(|_| unknown(kind, name, names::<T>()))
}

/// A value's name; empty for a type that is no plain enum.
pub fn name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A deserializer that has no value, and keeps the names that it is asked for.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> std::result::Result<V::Value, Unread> {
        Err(Unread::custom("there is no value"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> std::result::Result<V::Value, Unread> {
        *self.0 = variants;
        Err(Unread::custom("there is no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Size {
        Small,
        VeryLarge,
    }

    #[test]
    fn names_are_those_of_serde() {
        assert_eq!(names::<Size>(), ["small", "very-large"]);
        assert_eq!(names::<String>(), [""; 0]);
        assert_eq!(named::<Size>("size", "very-large").expect("a size"), Size::VeryLarge);
        assert_eq!(name(&Size::VeryLarge), "very-large");
        let error = named::<Size>("size", "smal").expect_err("no size");
        assert_eq!(
            error.to_string(),
            "unknown size `smal`; did you mean `small`? (known: `small`, `very-large`)"
        );
    }
}
