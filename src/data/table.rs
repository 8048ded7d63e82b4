//! Tables: JSONL (also gzipped) and parquet become rows of named fields, each of which knows its place in the
//! file, so that whatever is wrong with a field can be said with file, line and field.

use super::corpus::room::TextRoom;
use super::corpus::{json_object, parquet};
use super::text_file::TextFile;
use crate::error::{Error, Located, Result};
use crate::files::input;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// One row of a task's data, and its place in the file for messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    place: String,
    fields: Map<String, Value>,
}

/// Reads all rows of a `.jsonl`, `.json` (one object per line; either also `.gz`) or `.parquet` file.
///
/// # Errors
/// A missing file, another format, broken JSON (with its line), a malformed parquet file, no rows.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let rows = if path.to_string_lossy().to_lowercase().ends_with(".parquet") {
        parquet::objects(input::open(path)?).map(|rows| {
            let placed = rows.into_iter().enumerate();
            placed
                .map(|(index, fields)| Row::new(format!("row {}", index + 1), fields))
                .collect()
        })
    } else {
        let file = TextFile::open(path)?;
        if file.stem.ends_with(".jsonl") || file.stem.ends_with(".json") {
            json_rows(file)
        } else {
            Err(Error::input(
                "is neither JSON lines (.jsonl, .json, either also .gz) nor .parquet",
            ))
        }
    };
    let rows: Vec<Row> = rows.at(path.display())?;
    if rows.is_empty() {
        return Err(Error::input("has no rows").at(path.display()));
    }
    Ok(rows)
}

fn json_rows(file: TextFile) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut room = TextRoom::new();
    for line in file.lines() {
        let (number, line) = line?;
        if line.trim().is_empty() {
            continue;
        }
        // A parsed row takes a few times the room of its text.
        room.take(line.len())?;
        let place = format!("line {number}");
        let Fields(fields) = json_object(&line, "a JSON object").at(&place)?;
        rows.push(Row::new(place, fields));
    }
    Ok(rows)
}

/// A JSON object in which no key occurs twice, since it would not be clear which value is meant.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if fields.contains_key(&key) {
                        return Err(de::Error::custom(format!("field `{key}` occurs twice")));
                    }
                    fields.insert(key, value);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl Row {
    /// A row of a file; `place` says where it stands, such as `line 3` or `row 3`.
    pub fn new(place: String, fields: Map<String, Value>) -> Self {
        Row { place, fields }
    }

    /// Where the row stands in its file, such as `line 3`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether there is a field of that name that is not null.
    pub fn has(&self, field: &str) -> bool {
        self.value(field).is_ok()
    }

    /// The text in a field.
    ///
    /// # Errors
    /// The field is missing or is not a string.
    pub fn text(&self, field: &str) -> Result<&str> {
        let value = self.value(field)?;
        value.as_str().ok_or_else(|| wrong(field, "a string", value))
    }

    /// What is in a field as text: a text as it is, a number as it is written in JSON; not empty.
    ///
    /// # Errors
    /// The field is missing, is neither a string nor a number, or is empty.
    pub fn worded(&self, field: &str) -> Result<Cow<'_, str>> {
        match self.value(field)? {
            Value::String(text) if text.is_empty() => Err(Error::input(format!("field `{field}` is empty"))),
            Value::String(text) => Ok(Cow::Borrowed(text)),
            Value::Number(number) => Ok(Cow::Owned(number.to_string())),
            value => Err(wrong(field, "a string or a number", value)),
        }
    }

    /// The list of texts in a field; none may be empty. `a.b` is field `b` of the object `a`.
    ///
    /// # Errors
    /// The field is missing, is not a list of strings, has no elements or an empty one.
    pub fn texts(&self, field: &str) -> Result<Vec<&str>> {
        let value = self.value(field)?;
        let list = value
            .as_array()
            .ok_or_else(|| wrong(field, "a list of strings", value))?;
        if list.is_empty() {
            return Err(Error::input(format!("field `{field}` is an empty list")));
        }
        list.iter()
            .enumerate()
            .map(|(index, value)| match value.as_str() {
                Some("") => Err(Error::input(format!("field `{field}`: element {index} is empty"))),
                Some(text) => Ok(text),
                None => Err(wrong(&format!("{field}[{index}]"), "a string", value)),
            })
            .collect()
    }

    /// The text in a field; it may not be empty.
    ///
    /// # Errors
    /// The field is missing, is not a string, or is empty.
    pub fn choice(&self, field: &str) -> Result<&str> {
        match self.text(field)? {
            "" => Err(Error::input(format!("field `{field}` is empty"))),
            text => Ok(text),
        }
    }

    /// The number in a field, which must be below `count`; it is written as a number or as a text of digits.
    ///
    /// # Errors
    /// The field is missing, is no such number, or is out of range.
    pub fn label(&self, field: &str, count: usize) -> Result<usize> {
        let value = self.value(field)?;
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let number = number.ok_or_else(|| wrong(field, "a whole number", value))?;
        match usize::try_from(number) {
            Ok(label) if label < count => Ok(label),
            _ => {
                let hint = if number == -1 {
                    "; is it a split without labels?"
                } else {
                    ""
                };
                let last = count - 1;
                Err(Error::input(format!(
                    "field `{field}`: {number} is not in 0..={last}{hint}"
                )))
            }
        }
    }

    /// The value of a field; `a.b` is field `b` of the object `a`.
    fn value(&self, field: &str) -> Result<&Value> {
        let found = match field.split_once('.') {
            Some((outer, inner)) => self.fields.get(outer).and_then(|outer| outer.get(inner)),
            None => self.fields.get(field),
        };
        if found.is_some_and(Value::is_null) {
            return Err(Error::input(format!("field `{field}` is null")));
        }
        found.ok_or_else(|| {
            let names: Vec<String> = self.fields.keys().map(|name| format!("`{name}`")).collect();
            Error::input(format!("has no field `{field}`; its fields are {}", names.join(", ")))
        })
    }
}

fn wrong(field: &str, wanted: &str, found: &Value) -> Error {
    let mut text = found.to_string();
    if let Some((cut, _)) = text.char_indices().nth(40) {
        text.truncate(cut);
        text.push_str("...");
    }
    Error::input(format!("field `{field}` is not {wanted}: {text}"))
}
