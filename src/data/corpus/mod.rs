//! Corpora: plain text, JSONL (either also gzipped) and parquet become documents, documents become one text.
//!
//! Owns file formats and joins. A join is part of the protocol, since it changes the tokens: the
//! papers' WikiText-2 perplexity joins the hub's rows with a blank line, and a row keeps its own newline.

pub(super) mod parquet;

use crate::error::{Error, Located, Result, json_in_line};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// How the rows of a corpus become one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Rows as in the hub's `wikitext-2-raw-v1` (each keeps its newline, a blank row is the empty
    /// string), joined with two newlines. JSONL and parquet documents are joined with two newlines.
    Wikitext,
    /// Rows without their newline, joined with one newline. JSONL and parquet documents are left as they are.
    Lines,
    /// Rows without their newline, joined with one space, as the papers do with the Penn Treebank. JSONL and
    /// parquet documents are left as they are.
    Spaces,
    /// A text file as it is; JSONL and parquet documents one after the other.
    None,
}

impl Join {
    /// What stands between two rows.
    pub fn separator(self) -> &'static str {
        match self {
            Join::Wikitext => "\n\n",
            Join::Lines => "\n",
            Join::Spaces => " ",
            Join::None => "",
        }
    }
}

/// The documents of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    documents: Vec<String>,
}

impl Corpus {
    /// Reads a corpus. The format follows the file name: `.jsonl` and `.json` hold one object with a
    /// string `text` per line, `.gz` is unpacked first, `.parquet` has a string column `text`, `sentence` or
    /// `content`, anything else is plain UTF-8 text cut into rows by `join`.
    ///
    /// # Errors
    /// A missing file, text that is not UTF-8 (with its line), broken JSON (with its line and field), a parquet
    /// file that is truncated, has no such column or a null in it (with its row), no text at all.
    pub fn read(path: &Path, join: Join) -> Result<Self> {
        let name = path.to_string_lossy().to_lowercase();
        let file = std::fs::File::open(path).map_err(|source| Error::reading(path, source))?;
        let documents = if name.ends_with(".parquet") {
            parquet::rows(file)
        } else {
            let (reader, stem): (Box<dyn Read>, &str) = match name.strip_suffix(".gz") {
                Some(stem) => (Box::new(MultiGzDecoder::new(file)), stem),
                None => (Box::new(file), &name),
            };
            let mut reader = BufReader::new(reader);
            if stem.ends_with(".jsonl") || stem.ends_with(".json") {
                json_lines(&mut reader)
            } else {
                text_rows(&mut reader, join)
            }
        }
        .at(path.display())?;
        if documents.iter().all(|document| document.trim().is_empty()) {
            return Err(Error::input("contains no text").at(path.display()));
        }
        Ok(Corpus { documents })
    }

    /// The documents, in file order.
    pub fn documents(&self) -> &[String] {
        &self.documents
    }

    /// Leaves the first `rows` documents.
    ///
    /// # Errors
    /// There are fewer.
    pub fn keep(&mut self, rows: usize) -> Result<()> {
        let found = self.documents.len();
        if found < rows {
            return Err(Error::input(format!("has {found} rows, but `rows` asks for {rows}")));
        }
        self.documents.truncate(rows);
        Ok(())
    }

    /// All documents as one text.
    pub fn joined(&self, join: Join) -> String {
        self.documents.join(join.separator())
    }
}

fn json_lines(reader: &mut dyn BufRead) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        text: String,
    }
    let mut documents = Vec::new();
    for (index, line) in lines(reader).enumerate() {
        let place = format!("line {}", index + 1);
        let line = line.at(&place)?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(line.trim_end()).map_err(|error| {
            Error::input(format!("not an object with a string `text`: {}", json_in_line(&error))).at(&place)
        })?;
        documents.push(row.text);
    }
    Ok(documents)
}

fn text_rows(reader: &mut dyn BufRead, join: Join) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for (index, line) in lines(reader).enumerate() {
        rows.push(line.at(format_args!("line {}", index + 1))?);
    }
    Ok(match join {
        Join::None => vec![rows.concat()],
        Join::Lines | Join::Spaces => rows
            .iter()
            .map(|row| row.trim_end_matches(['\n', '\r']).to_string())
            .collect(),
        Join::Wikitext => rows
            .into_iter()
            .map(|row| if row.trim().is_empty() { String::new() } else { row })
            .collect(),
    })
}

/// The lines of a reader, each with its line end.
pub(super) fn lines(reader: &mut dyn BufRead) -> impl Iterator<Item = Result<String>> + '_ {
    std::iter::from_fn(move || {
        let mut bytes = Vec::new();
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8(bytes).map_err(|_| Error::input("not valid UTF-8"))),
            Err(source) => Some(Err(Error::input(format!("cannot read: {source}")))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a small file");
        (dir, path)
    }

    #[test]
    fn wikitext_rows_keep_their_newline_and_blank_rows_are_empty() {
        let (_dir, path) = file("wiki.test.raw", b" \n = Title = \n \n Text . \n");
        let corpus = Corpus::read(&path, Join::Wikitext).expect("readable");
        assert_eq!(corpus.documents(), ["", " = Title = \n", "", " Text . \n"]);
        assert_eq!(corpus.joined(Join::Wikitext), "\n\n = Title = \n\n\n\n\n Text . \n");
    }

    #[test]
    fn plain_text_is_left_alone() {
        let (_dir, path) = file("novel.txt", "a\r\n\r\nb\u{e9}".as_bytes());
        let corpus = Corpus::read(&path, Join::None).expect("readable");
        assert_eq!(corpus.joined(Join::None), "a\r\n\r\nb\u{e9}");
        let corpus = Corpus::read(&path, Join::Lines).expect("readable");
        assert_eq!(corpus.joined(Join::Lines), "a\n\nb\u{e9}");
        let corpus = Corpus::read(&path, Join::Spaces).expect("readable");
        assert_eq!(corpus.joined(Join::Spaces), "a  b\u{e9}");
    }

    #[test]
    fn gzipped_json_lines_are_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed
            .write_all(b"{\"text\": \"one\"}\n{\"text\": \"two\", \"url\": 3}\n")
            .expect("in memory");
        let (_dir, path) = file("c4.json.gz", &packed.finish().expect("in memory"));
        let corpus = Corpus::read(&path, Join::Wikitext).expect("readable");
        assert_eq!(corpus.documents(), ["one", "two"]);
    }

    #[test]
    fn broken_json_is_reported_with_its_line() {
        let (_dir, path) = file("x.jsonl", b"{\"text\": \"one\"}\n{\"txt\": \"two\"}\n");
        let error = Corpus::read(&path, Join::Wikitext)
            .expect_err("line 2 has no text")
            .to_string();
        assert!(
            error.contains("x.jsonl: line 2: ") && error.contains("missing field `text`"),
            "{error}"
        );
    }
}
