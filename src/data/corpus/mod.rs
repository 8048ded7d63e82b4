//! Corpora: plain text, JSONL (either also gzipped) and parquet become documents, documents become one text.
//!
//! Owns file formats and joins. A join is part of the protocol, since it changes the tokens: the
//! papers' WikiText-2 perplexity joins the hub's rows with a blank line, and a row keeps its own newline.

mod pages;
pub(super) mod parquet;
pub(super) mod room;

use super::text_file::TextFile;
use crate::choices;
use crate::error::{Error, Located, Result, json_in_line};
use crate::files::{input, json};
use room::TextRoom;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// Endings of plain text files, as the papers' corpora have them.
const PLAIN: [&str; 4] = ["txt", "text", "raw", "tokens"];

/// How the rows of a corpus become one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A text file is left as it is, except that line ends become `\n`; JSONL and parquet documents are joined
    /// without anything between them.
    None,
}

impl Join {
    /// How the rows of a corpus become one text, as experiments write it, behind a comma; empty for what has no rows.
    pub fn setting(join: Option<Join>) -> String {
        join.map_or(String::new(), |join| format!(", join = \"{}\"", choices::name(&join)))
    }

    /// The text between two rows.
    pub fn separator(self) -> &'static str {
        match self {
            Join::Wikitext => "\n\n",
            Join::Lines => "\n",
            Join::Spaces => " ",
            Join::None => "",
        }
    }
}

/// The documents of a corpus, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    documents: Vec<String>,
}

impl Corpus {
    /// Reads a corpus. The format follows the file name: `.jsonl` and `.json` hold one object with a
    /// string `text` per line, `.parquet` has a string column `text`, `sentence` or `content`, `.txt`, `.text`, `.raw`
    /// and `.tokens` are plain UTF-8 text cut into rows by `join`; `.gz` behind any but `.parquet` is unpacked first.
    /// Line ends are those of Python's text mode; a byte order mark is left out.
    ///
    /// # Errors
    /// A missing file, one that is no regular file or has another ending, text that is not UTF-8 (with its line) or
    /// does not fit in memory, broken JSON (with its line and field), a parquet file that is truncated, has no such
    /// column or a null in it (with its row), no text at all.
    pub fn read(path: &Path, join: Join) -> Result<Self> {
        let documents = if path.to_string_lossy().to_lowercase().ends_with(".parquet") {
            input::open(path).and_then(|file| parquet::rows(file).at(path.display()))?
        } else {
            let file = TextFile::open(path)?;
            let ending = Path::new(&file.stem).extension().unwrap_or_default().to_string_lossy();
            match &*ending {
                "jsonl" | "json" => json_lines(file).at(path.display())?,
                plain if PLAIN.contains(&plain) => text_rows(file, join).at(path.display())?,
                _ => return Err(unknown_ending(&ending).at(path.display())),
            }
        };
        if documents.iter().all(|document| document.trim().is_empty()) {
            return Err(Error::input("contains no text").at(path.display()));
        }
        Ok(Corpus { documents })
    }

    /// The documents of the corpus, in file order.
    pub fn documents(&self) -> &[String] {
        &self.documents
    }

    /// The documents of the corpus, in file order, without a copy.
    pub fn into_documents(self) -> Vec<String> {
        self.documents
    }

    /// Keeps the first `rows` documents and removes the others.
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

    /// All documents joined to one text.
    pub fn joined(&self, join: Join) -> String {
        self.documents.join(join.separator())
    }

    /// As [`Corpus::joined`], without a copy if there is only one document.
    pub fn into_joined(mut self, join: Join) -> String {
        match (self.documents.pop(), &self.documents[..]) {
            (Some(only), []) => only,
            (last, _) => {
                self.documents.extend(last);
                self.joined(join)
            }
        }
    }
}

fn unknown_ending(ending: &str) -> Error {
    let found = match ending {
        "" => "has no ending that says what it holds".to_string(),
        other => format!("`.{other}` is not a format of texts"),
    };
    let plain = PLAIN.map(|ending| format!(".{ending}")).join(", ");
    Error::input(format!(
        "{found}: plain text ends in {plain}, JSON lines in .jsonl or .json (either also .gz), Parquet in .parquet; \
         give the file, or a link to it, the ending of its format"
    ))
}

/// Parses a line that must hold a JSON object. (A list could stand for a struct otherwise.)
///
/// # Errors
/// Something else, or an object that does not fit `T`.
pub(super) fn json_object<T: DeserializeOwned>(line: &str, wanted: &str) -> Result<T> {
    let fail = |message: &str| Error::input(format!("not {wanted}: {message}"));
    match line.trim_start().chars().next() {
        Some('[') => {
            return Err(fail(
                "a list; every line holds one object, and the file is no list of them",
            ));
        }
        Some(input::BYTE_ORDER_MARK) => {
            return Err(fail(
                "there is a byte order mark before it, perhaps because files were joined; remove it",
            ));
        }
        Some('{') | None => {}
        Some(_) => return Err(fail("it does not begin with `{`")),
    }
    serde_json::from_str(line.trim_end()).map_err(|error| {
        let message = json_in_line(&error);
        let hint = if message.contains("surrogate") || message.contains("hex escape") {
            "; half of a character in UTF-16, which is none: write `\\ufffd` in its place"
        } else if matches!(json::standard(line), Cow::Owned(_))
            && serde_json::from_str::<Value>(&json::standard(line)).is_ok()
        {
            "; `NaN` and `Infinity` are not JSON: write null in their place"
        } else {
            ""
        };
        fail(&(message + hint))
    })
}

fn json_lines(file: TextFile) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Row {
        text: String,
    }
    let mut documents = Vec::new();
    let mut room = TextRoom::new();
    for line in file.lines() {
        let (number, line) = line?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = json_object(&line, "an object with a string `text`").at(format_args!("line {number}"))?;
        room.take(row.text.len())?;
        documents.push(row.text);
    }
    Ok(documents)
}

fn text_rows(file: TextFile, join: Join) -> Result<Vec<String>> {
    let mut room = TextRoom::new();
    let mut rows = Vec::new();
    let mut whole = String::new();
    for line in file.lines() {
        let (_, mut row) = line?;
        room.take(row.len())?;
        match join {
            Join::None => whole.push_str(&row),
            Join::Lines | Join::Spaces => {
                row.truncate(row.trim_end_matches('\n').len());
                rows.push(row);
            }
            Join::Wikitext => rows.push(if row.trim().is_empty() { String::new() } else { row }),
        }
    }
    if join == Join::None {
        rows.push(whole);
    }
    Ok(rows)
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
    fn plain_text_is_left_alone_but_for_its_line_ends() {
        let (_dir, path) = file("novel.txt", "a\r\n\r\nb\u{e9}".as_bytes());
        let corpus = Corpus::read(&path, Join::None).expect("readable");
        assert_eq!(corpus.into_joined(Join::None), "a\n\nb\u{e9}");
        let corpus = Corpus::read(&path, Join::Lines).expect("readable");
        assert_eq!(corpus.joined(Join::Lines), "a\n\nb\u{e9}");
        let corpus = Corpus::read(&path, Join::Spaces).expect("readable");
        assert_eq!(corpus.joined(Join::Spaces), "a  b\u{e9}");
    }

    #[test]
    fn rows_are_the_same_whatever_ends_their_lines() {
        let text = " \n = Title = \n \n Text , more . \n\n end";
        let marked = format!("\u{feff}{text}");
        for join in [Join::Wikitext, Join::Lines, Join::Spaces, Join::None] {
            let (_dir, path) = file("x.raw", text.as_bytes());
            let want = Corpus::read(&path, join).expect("readable");
            for other in [&text.replace('\n', "\r\n"), &text.replace('\n', "\r"), &marked] {
                let (_dir, path) = file("x.raw", other.as_bytes());
                assert_eq!(
                    Corpus::read(&path, join).expect("readable"),
                    want,
                    "{join:?}: {other:?}"
                );
            }
        }
        let (_dir, path) = file(
            "x.jsonl",
            b"\xef\xbb\xbf{\"text\": \"one\\r\\n\"}\r\n{\"text\": \"two\"}\r\n",
        );
        let corpus = Corpus::read(&path, Join::None).expect("readable");
        assert_eq!(
            corpus.documents(),
            ["one\r\n", "two"],
            "what a document holds is its own"
        );
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
