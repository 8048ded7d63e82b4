//! Parquet: one string column becomes the documents of a corpus, all columns the rows of a table.
//!
//! For a corpus, row group by row group through the low-level reader, so that a file's other columns (URLs, timestamps)
//! are never decoded. A row is taken as it is: the hub's WikiText rows keep their newline, and its blank
//! rows are empty strings already.

use super::pages::{self, Counted};
use super::room::TextRoom;
use crate::data::guard::guarded;
use crate::error::{Error, Located, Result};
use ::parquet::basic::{ConvertedType, LogicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::record::reader::TreeBuilder;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::ColumnDescriptor;
use serde_json::Value;
use std::fs::File;

/// Names of columns that hold a corpus's text, in the order in which they are looked for: most data sets, the Penn
/// Treebank, code.
const COLUMNS: [&str; 3] = ["text", "sentence", "content"];

/// Most rows that are decoded at a time.
const BATCH: usize = 1024;

/// Reads the text column, one string per row.
///
/// # Errors
/// The file is truncated or malformed, has no text column, or a null in it.
pub fn rows(file: File) -> Result<Vec<String>> {
    let room = room(&file)?;
    guarded(|| read(file, room)).unwrap_or_else(|message| Err(Error::input(format!("malformed parquet: {message}"))))
}

/// The memory for what the file unpacks to.
fn room(file: &File) -> Result<TextRoom> {
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Error::input(format!("cannot read: {error}")))?;
    Ok(TextRoom::unpacked(metadata.len()))
}

/// Rows of columns with such pages that may be decoded at once: a page's value can be as long as the page, and a few bytes can
/// stand for it.
fn rows_at_once(room: &TextRoom, largest: u64) -> usize {
    usize::try_from(room.times(largest)).unwrap_or(BATCH).clamp(1, BATCH)
}

pub(super) fn read(file: File, mut room: TextRoom) -> Result<Vec<String>> {
    let broken = |error: ParquetError| Error::input(format!("not a readable parquet file (is it whole?): {error}"));
    let pages = file
        .try_clone()
        .map_err(|error| Error::input(format!("cannot read: {error}")))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = text_column(schema.columns())?;
    let mut rows: Vec<String> = Vec::new();
    for index in 0..reader.num_row_groups() {
        let group = Counted(reader.get_row_group(index).map_err(broken)?);
        let largest = pages::largest(&pages, group.metadata().column(column), &room);
        let at_once = rows_at_once(&room, largest.at(format_args!("row group {index}"))?);
        let expected = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let before = rows.len();
        let ColumnReader::ByteArrayColumnReader(strings) = group.get_column_reader(column).map_err(broken)? else {
            return Err(Error::input(format!(
                "row group {index}: the text is not stored as strings"
            )));
        };
        append(
            strings,
            schema.column(column).max_def_level(),
            at_once,
            &mut rows,
            &mut room,
        )
        .at(format_args!("row group {index}"))?;
        let found = rows.len() - before;
        if found != expected {
            let message = format!("row group {index} holds {found} rows, but its header says {expected}");
            return Err(Error::input(message));
        }
    }
    Ok(rows)
}

/// Reads every row with all its columns, as JSON values.
///
/// # Errors
/// The file is truncated or malformed, or has a column of a type that no task uses (dates, binary data).
pub fn objects(file: File) -> Result<Vec<serde_json::Map<String, Value>>> {
    let room = room(&file)?;
    objects_within(file, room)
}

pub(super) fn objects_within(file: File, mut room: TextRoom) -> Result<Vec<serde_json::Map<String, Value>>> {
    let read = || {
        let broken = |error: ParquetError| Error::input(format!("not a readable parquet file (is it whole?): {error}"));
        let pages = file
            .try_clone()
            .map_err(|error| Error::input(format!("cannot read: {error}")))?;
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut objects = Vec::new();
        for index in 0..reader.num_row_groups() {
            let group = Counted(reader.get_row_group(index).map_err(broken)?);
            let columns = group.metadata().columns().iter();
            let largest = columns
                .map(|column| pages::largest(&pages, column, &room))
                .sum::<Result<u64>>();
            let at_once = rows_at_once(&room, largest.at(format_args!("row group {index}"))?);
            let tree = TreeBuilder::new().with_batch_size(at_once);
            for row in tree.as_iter(schema.clone(), &group).map_err(broken)? {
                let fields = object(&row.map_err(broken)?).at(format_args!("row {}", objects.len() + 1))?;
                room.take(fields.values().map(size).sum())?;
                objects.push(fields);
            }
        }
        Ok(objects)
    };
    guarded(read).unwrap_or_else(|message| Err(Error::input(format!("malformed parquet: {message}"))))
}

fn object(row: &Row) -> Result<serde_json::Map<String, Value>> {
    row.get_column_iter()
        .map(|(name, field)| Ok((name.clone(), value(field).at(format_args!("field `{name}`"))?)))
        .collect()
}

/// About how many bytes a value takes in memory.
fn size(value: &Value) -> usize {
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    };
    size_of::<Value>() + inner
}

fn value(field: &Field) -> Result<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        Field::Group(row) => Value::Object(object(row)?),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect::<Result<_>>()?),
        other => {
            return Err(Error::input(format!(
                "holds {other}, which is of a type that is not read"
            )));
        }
    })
}

/// The position of the text column among the file's columns.
fn text_column<T: AsRef<ColumnDescriptor>>(columns: &[T]) -> Result<usize> {
    let described = || {
        let names = columns.iter().map(|column| {
            let column = column.as_ref();
            let kind = if is_text(column) {
                "string".to_string()
            } else {
                column.physical_type().to_string()
            };
            format!("`{}` ({kind})", column.path().string())
        });
        names.collect::<Vec<_>>().join(", ")
    };
    for name in COLUMNS {
        // A nested column's path has several parts and never equals a plain name.
        let named = |column: &T| column.as_ref().path().parts() == [name];
        if let Some(position) = columns.iter().position(named) {
            let column = columns[position].as_ref();
            if is_text(column) && column.max_rep_level() == 0 {
                return Ok(position);
            }
            let message = format!("column `{name}` does not hold strings; the columns are {}", described());
            return Err(Error::input(message));
        }
    }
    Err(Error::input(format!(
        "has none of the columns {}; its columns are {}",
        COLUMNS.map(|name| format!("`{name}`")).join(", "),
        described()
    )))
}

fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), Some(LogicalType::String)) || column.converted_type() == ConvertedType::UTF8
}

/// Appends the strings of one row group.
fn append(
    mut reader: ColumnReaderImpl<ByteArrayType>,
    max_level: i16,
    at_once: usize,
    rows: &mut Vec<String>,
    room: &mut TextRoom,
) -> Result<()> {
    let mut values: Vec<ByteArray> = Vec::new();
    let mut levels: Vec<i16> = Vec::new();
    loop {
        values.clear();
        levels.clear();
        let nullable = (max_level > 0).then_some(&mut levels);
        let (records, _, _) = reader
            .read_records(at_once, nullable, None, &mut values)
            .map_err(|error| Error::input(format!("malformed or truncated: {error}")).caused_by(error))?;
        if records == 0 {
            return Ok(());
        }
        // Levels below the greatest are nulls; values are packed, so only before the first null do they line up.
        if let Some(null) = levels.iter().position(|level| *level < max_level) {
            let message = format!("row {} is null, not a text", rows.len() + null + 1);
            return Err(Error::input(message));
        }
        for value in &values {
            let text = std::str::from_utf8(value.data())
                .map_err(|_| Error::input("not valid UTF-8").at(format_args!("row {}", rows.len() + 1)))?;
            // A few bytes can stand for any number of equal rows.
            room.take(text.len())?;
            rows.push(text.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_rows_are_decoded_at_once_where_a_page_is_large() {
        for (room, largest, rows) in [
            (1 << 40, 1 << 20, BATCH),
            (100, 30, 3),
            (100, 300, 1),
            (0, 0, 1),
            (100, 0, 100),
        ] {
            assert_eq!(rows_at_once(&TextRoom::of(room), largest), rows, "{room}, {largest}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_in_memory_are_refused() {
        let open = |name: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
            File::open(folder.join(name)).expect("a fixture")
        };
        read(open("ptb.parquet"), TextRoom::of(1 << 20)).expect("it fits");
        let error = read(open("ptb.parquet"), TextRoom::of(100))
            .expect_err("too long")
            .to_string();
        assert!(
            error.contains("row group 0: a page: has more than 100 B of text"),
            "{error}"
        );
        objects_within(open("arc_easy.parquet"), TextRoom::of(1 << 20)).expect("it fits");
        let error = objects_within(open("arc_easy.parquet"), TextRoom::of(100))
            .expect_err("too long")
            .to_string();
        assert!(error.contains("has more than 100 B of text"), "{error}");
    }
}
