//! Sizes that the pages of a parquet file claim, against the room there is, and numbers of values against the page that holds
//! them: the library makes room for whatever a file claims, and unpacks gzip to its end.

use super::room::TextRoom;
use crate::error::{Error, Result};
use ::parquet::basic::{Compression, Encoding, Type};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use ::parquet::file::reader::RowGroupReader;
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{ColumnDescPtr, Type as SchemaType};
use bytesize::ByteSize;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

type Parsed<T> = std::result::Result<T, ParquetError>;

/// Most levels of structs inside structs; a header has two.
const DEEPEST: usize = 8;

/// The parts of a page's header that are used here.
#[derive(Debug, Default)]
struct Header {
    unpacked: i64,
    packed: i64,
    values: i64,
    /// Number of bytes before the packed ones, in pages of version 2.
    levels: i64,
}

/// Holds every page of a column against the room there is, and returns what the largest unpacks to, in bytes. Nothing is
/// unpacked, but for gzip, which is counted.
///
/// # Errors
/// There is no room for a page, or a page unpacks to more than its header says, or a header cannot be read.
pub(super) fn largest(file: &File, column: &ColumnChunkMetaData, room: &TextRoom) -> Result<u64> {
    let unreadable = |error: io::Error| Error::input(format!("not a readable parquet file (is it whole?): {error}"));
    let (start, length) = column.byte_range();
    let end = start.saturating_add(length);
    let mut reader = BufReader::new(file.try_clone().map_err(unreadable)?);
    let mut at = reader.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    let (mut largest, mut values) = (0, 0);
    // Some writers count more bytes than the pages have.
    while at < end && values < column.num_values() {
        let header = header(&mut reader).map_err(unreadable)?;
        let data = reader.stream_position().map_err(unreadable)?;
        let [unpacked, packed, levels] =
            [header.unpacked, header.packed, header.levels].map(|size| u64::try_from(size).unwrap_or(0));
        if packed > end.saturating_sub(data) {
            // So does the library, when it comes to it.
            return Err(Error::input("malformed or truncated: a page is longer than its column"));
        }
        room.holds(unpacked).map_err(|error| error.at("a page"))?;
        if matches!(column.compression(), Compression::GZIP(_)) {
            let mut page = reader.by_ref().take(packed);
            let skipped = io::copy(&mut page.by_ref().take(levels), &mut io::sink()).map_err(unreadable)?;
            let more = unpacked.saturating_sub(skipped) + 1;
            // What is not gzip is refused by the library.
            let count = io::copy(&mut MultiGzDecoder::new(page).take(more), &mut io::sink()).unwrap_or(0);
            if count == more {
                let size = ByteSize(unpacked);
                let message = format!("malformed: a page unpacks to more than the {size} that its header says");
                return Err(Error::input(message));
            }
        }
        largest = largest.max(unpacked);
        values = values.saturating_add(header.values.max(0));
        at = reader.seek(SeekFrom::Start(data + packed)).map_err(unreadable)?;
    }
    Ok(largest)
}

/// Reads the header of a page. Known fields are read as the type that they must have, whatever type the file gives,
/// as the library does.
fn header<R: BufRead>(reader: &mut R) -> io::Result<Header> {
    let mut header = Header::default();
    structure(reader, DEEPEST, &mut |field, reader| {
        match field {
            // The type of the page and a checksum.
            1 | 4 => drop(number(reader)?),
            2 => header.unpacked = whole(reader)?,
            3 => header.packed = whole(reader)?,
            5 => structure(reader, DEEPEST - 1, &mut |field, reader| {
                if field == 1 {
                    header.values = whole(reader)?;
                }
                Ok(field == 1)
            })?,
            6 | 7 => structure(reader, DEEPEST - 1, &mut |_, _| Ok(false))?,
            8 => {
                header.levels = 0;
                structure(reader, DEEPEST - 1, &mut |field, reader| {
                    match field {
                        1 => header.values = whole(reader)?,
                        5 | 6 => header.levels += whole(reader)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(header)
}

fn malformed() -> io::Error {
    io::Error::other("a header of a page is malformed")
}

/// Reads a struct in Thrift's compact protocol. `known` reads the fields that it knows and returns whether it did;
/// other fields are skipped.
fn structure<R: BufRead>(
    reader: &mut R,
    depth: usize,
    known: &mut dyn FnMut(i16, &mut R) -> io::Result<bool>,
) -> io::Result<()> {
    let mut field = 0i16;
    loop {
        let head = byte(reader)?;
        let kind = head & 15;
        if kind == 0 {
            return Ok(());
        }
        field = match head >> 4 {
            0 => i16::try_from(signed(number(reader)?)).map_err(|_| malformed())?,
            step => field.checked_add(i16::from(step)).ok_or_else(malformed)?,
        };
        if !known(field, reader)? {
            pass(reader, kind, depth.checked_sub(1).ok_or_else(malformed)?)?;
        }
    }
}

/// Skips the value of a field of this kind.
fn pass<R: BufRead>(reader: &mut R, kind: u8, depth: usize) -> io::Result<()> {
    let deeper = depth.checked_sub(1).ok_or_else(malformed);
    match kind {
        // A truth value, which is its own type.
        1 | 2 => Ok(()),
        3 => byte(reader).map(drop),
        4..=6 => number(reader).map(drop),
        7 => over(reader, 8),
        8 => {
            let length = number(reader)?;
            over(reader, length)
        }
        9 | 10 => {
            let head = byte(reader)?;
            let length = match head >> 4 {
                15 => number(reader)?,
                length => u64::from(length),
            };
            (0..length).try_for_each(|_| element(reader, head & 15, deeper.as_ref().map_or(0, |depth| *depth)))
        }
        11 => {
            let length = number(reader)?;
            let kinds = if length > 0 { byte(reader)? } else { 0 };
            let deeper = deeper?;
            (0..length).try_for_each(|_| {
                element(reader, kinds >> 4, deeper)?;
                element(reader, kinds & 15, deeper)
            })
        }
        12 => structure(reader, deeper?, &mut |_, _| Ok(false)),
        _ => Err(malformed()),
    }
}

/// Skips an element of a list or a map, in which a truth value takes a byte.
fn element<R: BufRead>(reader: &mut R, kind: u8, depth: usize) -> io::Result<()> {
    match kind {
        1 | 2 => byte(reader).map(drop),
        other => pass(reader, other, depth),
    }
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut one = [0];
    reader.read_exact(&mut one)?;
    Ok(one[0])
}

fn over(reader: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut reader.take(length), &mut io::sink())? == length {
        true => Ok(()),
        false => Err(malformed()),
    }
}

/// Reads a number of variable length.
fn number(reader: &mut impl Read) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(reader)?;
        value |= u64::from(next & 127) << shift;
        if next < 128 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn signed(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads a number of 32 bits; higher bits are ignored, as in the library.
fn whole(reader: &mut impl Read) -> io::Result<i64> {
    Ok(i64::from(signed(number(reader)?) as i32))
}

/// A row group whose pages say how many values they have only if they can have them.
pub(super) struct Counted<'a>(pub(super) Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for Counted<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Parsed<Box<dyn PageReader>> {
        let pages = self.0.get_column_page_reader(column)?;
        let column = self.metadata().schema_descr().column(column);
        Ok(Box::new(CountedPages { pages, column }))
    }

    fn get_column_bloom_filter(&self, column: usize) -> Option<&Sbbf> {
        self.0.get_column_bloom_filter(column)
    }

    fn get_row_iter(&self, projection: Option<SchemaType>) -> Parsed<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct CountedPages {
    pages: Box<dyn PageReader>,
    column: ColumnDescPtr,
}

impl CountedPages {
    fn check(&self, page: &Page) -> Parsed<()> {
        let too_many =
            |what: &str| ParquetError::General(format!("a page says that it has more {what} than it can have"));
        if let Page::DictionaryPage { buf, num_values, .. } = page {
            let least = if self.column.physical_type() == Type::BYTE_ARRAY {
                4
            } else {
                1
            };
            return match (*num_values as usize).saturating_mul(least) <= buf.len() {
                true => Ok(()),
                false => Err(too_many("values")),
            };
        }
        let lists = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => return Ok(()),
        };
        let mut rest = self.values(page).ok_or_else(|| too_many("levels"))?;
        // A page of nulls alone has none.
        let lists = if rest.is_empty() { 0 } else { lists };
        for _ in 0..lists {
            let (count, length) = packed_numbers(rest).ok_or_else(|| too_many("lengths"))?;
            if count > u64::from(page.num_values()) {
                return Err(too_many("lengths"));
            }
            rest = &rest[length..];
        }
        Ok(())
    }

    /// The bytes of a data page after its levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPage { buf, .. } => {
                let levels = [self.column.max_rep_level(), self.column.max_def_level()];
                let mut rest: &[u8] = buf;
                for _ in levels.into_iter().filter(|most| *most > 0) {
                    let (length, behind) = rest.split_first_chunk::<4>()?;
                    rest = behind.get(u32::from_le_bytes(*length) as usize..)?;
                }
                Some(rest)
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => buf.get((*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?..),
            Page::DictionaryPage { .. } => None,
        }
    }
}

/// The number of values that a list in the encoding DELTA_BINARY_PACKED claims to have, and its bytes.
fn packed_numbers(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut rest = bytes;
    let [block, parts, count, _first] = [(); 4].map(|()| number(&mut rest).ok());
    let (block, parts, count) = (block?, parts?, count?);
    let each = block.checked_div(parts)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        number(&mut rest).ok()?;
        let (widths, behind) = rest.split_at_checked(usize::try_from(parts).ok()?)?;
        rest = behind;
        for width in widths {
            if left == 0 {
                break;
            }
            let length = each.checked_mul(u64::from(*width))? / 8;
            rest = rest.get(usize::try_from(length).ok()?..)?;
            left = left.saturating_sub(each.max(1));
        }
    }
    Some((count, bytes.len() - rest.len()))
}

impl Iterator for CountedPages {
    type Item = Parsed<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CountedPages {
    fn get_next_page(&mut self) -> Parsed<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Parsed<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Parsed<()> {
        self.pages.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parquet::{objects_within, read};
    use super::*;
    use ::parquet::basic::{GzipLevel, ZstdLevel};
    use ::parquet::data_type::{ByteArray, ByteArrayType};
    use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::io::Write;
    use std::sync::Arc;

    const PLENTY: u64 = 1 << 30;

    /// A parquet file with one column of one page, for tests.
    fn file(texts: &[String], packed: Compression, encoding: Option<Encoding>, version: WriterVersion) -> Vec<u8> {
        let schema = parse_message_type("message m { required binary text (UTF8); }").expect("a schema");
        let properties = WriterProperties::builder()
            .set_compression(packed)
            .set_dictionary_enabled(encoding.is_none())
            .set_encoding(encoding.unwrap_or(Encoding::PLAIN))
            .set_writer_version(version)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_data_page_size_limit(1 << 30)
            .set_write_batch_size(1 << 20);
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties.build())).expect("a writer");
        let mut group = writer.next_row_group().expect("in memory");
        let mut column = group.next_column().expect("in memory").expect("one column");
        let values: Vec<ByteArray> = texts.iter().map(|text| text.as_str().into()).collect();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, None, None).expect("in memory");
        column.close().expect("in memory");
        group.close().expect("in memory");
        writer.close().expect("in memory");
        bytes
    }

    fn opened(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("writable");
        file
    }

    /// What is said of the file, both as a corpus and as a table.
    fn refused(bytes: &[u8], most: u64) -> [String; 2] {
        [
            read(opened(bytes), TextRoom::of(most))
                .expect_err("a corpus")
                .to_string(),
            objects_within(opened(bytes), TextRoom::of(most))
                .expect_err("a table")
                .to_string(),
        ]
    }

    /// Replaces bytes that stand behind the file's first four.
    fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
        let place = bytes.windows(old.len()).rposition(|window| window == old);
        let place = place.unwrap_or_else(|| panic!("{old:?} is not in the file"));
        let mut bytes = bytes.to_vec();
        bytes.splice(place..place + old.len(), new.iter().copied());
        bytes
    }

    fn gzip() -> Compression {
        Compression::GZIP(GzipLevel::default())
    }

    #[test]
    fn every_encoding_and_packing_is_read_as_it_was_written() {
        let texts: Vec<String> = (0..3000).map(|index| format!("text {}", index % 700)).collect();
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for packed in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip(), zstd] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                let delta = [
                    Encoding::DELTA_LENGTH_BYTE_ARRAY,
                    Encoding::DELTA_BYTE_ARRAY,
                    Encoding::PLAIN,
                ];
                for encoding in delta.into_iter().map(Some).chain([None]) {
                    let bytes = file(&texts, packed, encoding, version);
                    let rows = read(opened(&bytes), TextRoom::of(PLENTY)).expect("a corpus");
                    assert!(rows == texts, "{packed:?}, {encoding:?}");
                    let table = objects_within(opened(&bytes), TextRoom::of(PLENTY)).expect("a table");
                    let column: Vec<&str> = table.iter().filter_map(|row| row["text"].as_str()).collect();
                    assert!(column == texts, "{packed:?}, {encoding:?}");
                }
            }
        }
    }

    #[test]
    fn pages_that_do_not_fit_are_not_unpacked() {
        let text = ["a".repeat(3_000_000)];
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for packed in [Compression::SNAPPY, gzip(), zstd] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                let bytes = file(&text, packed, Some(Encoding::PLAIN), version);
                for error in refused(&bytes, 2_000_000) {
                    assert!(error.contains("row group 0: a page: has more than 1.9 MiB"), "{error}");
                }
                // The header says 120 MiB, and the page has 3.
                let honest = [0x15, 0x88, 0x9b, 0xee, 0x02];
                let bytes = patched(&bytes, &honest, &[0x15, 0x88, 0x9b, 0xee, 0x79]);
                for error in refused(&bytes, 50_000_000) {
                    assert!(error.contains("a page: has more than"), "{error}");
                }
            }
        }
        let file = opened(&file(&text, zstd, Some(Encoding::PLAIN), WriterVersion::PARQUET_1_0));
        let error = read(file, TextRoom::unpacked(100)).map(|rows| rows.len());
        assert_eq!(error.expect("less than any file may unpack to"), 1);
    }

    #[test]
    fn a_small_file_that_unpacks_to_much_is_refused() {
        let bytes = file(
            &["a".repeat(70 << 20)],
            gzip(),
            Some(Encoding::PLAIN),
            WriterVersion::PARQUET_1_0,
        );
        let size = bytes.len() as u64;
        assert!(size < 200_000, "{size} bytes");
        let error = read(opened(&bytes), TextRoom::unpacked(size))
            .expect_err("too much")
            .to_string();
        assert!(
            error.contains("unpack to more than 64.0 MiB, this part alone to 70.0 MiB"),
            "{error}"
        );
    }

    #[test]
    fn gzip_that_goes_on_behind_what_its_header_says_is_not_unpacked() {
        let text = ["a".repeat(3_000_000)];
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let bytes = file(&text, gzip(), Some(Encoding::PLAIN), version);
            let honest = [0x15, 0x88, 0x9b, 0xee, 0x02];
            let bytes = patched(&bytes, &honest, &[0x15, 0x88, 0x9b, 0xee, 0x01]);
            for error in refused(&bytes, PLENTY) {
                assert!(error.contains("a page unpacks to more than the"), "{error}");
            }
        }
    }

    #[test]
    fn numbers_of_values_that_a_page_cannot_have_are_refused() {
        let texts: Vec<String> = (0..100).map(|index| format!("text {index}")).collect();
        let plain = Compression::UNCOMPRESSED;
        let version = WriterVersion::PARQUET_1_0;
        // A dictionary of 100 values that says 8100.
        let bytes = file(&texts, plain, None, version);
        let dictionary = patched(&bytes, &[0x4c, 0x15, 0xc8, 0x01], &[0x4c, 0x15, 0xc8, 0x7e]);
        for error in refused(&dictionary, PLENTY) {
            assert!(error.contains("more values than it can have"), "{error}");
        }
        // Blocks of 128 in 4 parts, 100 lengths; 127 are said.
        for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
            let bytes = file(&texts, plain, Some(encoding), version);
            let lied = patched(&bytes, &[0x80, 0x01, 0x04, 0x64], &[0x80, 0x01, 0x04, 0x7f]);
            for error in refused(&lied, PLENTY) {
                assert!(error.contains("more lengths than it can have"), "{encoding:?}: {error}");
            }
        }
    }

    #[test]
    fn rows_that_stand_for_much_are_counted() {
        let texts = vec!["a".repeat(10_000); 3000];
        let bytes = file(&texts, Compression::UNCOMPRESSED, None, WriterVersion::PARQUET_1_0);
        assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
        for error in refused(&bytes, 1_000_000) {
            assert!(error.contains("has more than 976.6 KiB of text"), "{error}");
            assert!(!error.contains("a page"), "{error}");
        }
    }

    #[test]
    fn headers_that_never_end_are_refused() {
        let deep = [0x5c; 100];
        let (endless, list) = ([0xff; 30], [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1]);
        for bytes in [&deep[..], &endless, &list, b"", b"\x15"] {
            assert!(header(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
