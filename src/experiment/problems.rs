//! What is wrong with an experiment: all of it at once, each mistake with its place.

use crate::error::{Error, ErrorKind, Result, around};
use ariadne::{Config, IndexType, Label, Report, ReportKind};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// The place of what concerns the whole file; keys that stand before the first section are in the table of this place.
pub const WHOLE: Range<usize> = 0..0;

/// More mistakes than this are not shown.
const MOST: usize = 25;

/// The most characters of a line that are shown whole.
const LONG: usize = 200;

/// A value, or what is wrong and the key of a table that it is about.
pub type Keyed<T> = std::result::Result<T, (&'static str, Error)>;

/// Says which key of a table an error is about.
pub trait AtKey<T> {
    /// The same result, whose error is about this key.
    ///
    /// # Errors
    /// The result's own.
    fn at_key(self, key: &'static str) -> Keyed<T>;
}

impl<T> AtKey<T> for Result<T> {
    fn at_key(self, key: &'static str) -> Keyed<T> {
        self.map_err(|error| (key, error))
    }
}

/// The mistakes that were found so far, with their places in the text.
#[derive(Default)]
pub struct Problems {
    found: Vec<(Range<usize>, Error)>,
    /// Where keys and their values stand, by the place of their table and the key; elements of a list have their numbers as keys.
    values: BTreeMap<(usize, usize, String), [Range<usize>; 2]>,
    /// Keys that were there and could not be read, with the place of their table: they are not missing.
    lost: Vec<(Range<usize>, String)>,
}

impl Problems {
    /// Takes a mistake; `span` is its place in bytes.
    pub fn add(&mut self, span: Range<usize>, error: Error) {
        let same = |(at, other): &(Range<usize>, Error)| *at == span && other.to_string() == error.to_string();
        if !self.found.iter().any(same) {
            self.found.push((span, error));
        }
    }

    /// The value of a result; its error is taken as a mistake at this place.
    pub fn take<T>(&mut self, span: &Range<usize>, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(span.clone(), error)).ok()
    }

    /// The same for an error about a key of the table at `table`: its place is that of the key's value.
    pub fn take_keyed<T>(&mut self, table: &Range<usize>, result: Keyed<T>) -> Option<T> {
        result
            .map_err(|(key, error)| self.add(self.place(table, &[key]), error))
            .ok()
    }

    /// Takes note of where a key of the table at `table` and its value stand.
    pub fn note(&mut self, table: &Range<usize>, key: &str, places: [Range<usize>; 2]) {
        self.values.insert((table.start, table.end, key.to_string()), places);
    }

    fn noted(&self, table: &Range<usize>, key: &str) -> Option<&[Range<usize>; 2]> {
        self.values.get(&(table.start, table.end, key.to_string()))
    }

    /// Where a key of the table at `table` stands; the table's own place, if it has none.
    pub fn key_place(&self, table: &Range<usize>, key: &str) -> Range<usize> {
        self.noted(table, key).map_or(table, |[key, _]| key).clone()
    }

    /// Where the value of the first of these keys stands that the table at `table` has; the table's own place, if it has none of them.
    pub fn place(&self, table: &Range<usize>, keys: &[&str]) -> Range<usize> {
        let noted = keys.iter().find_map(|key| self.noted(table, key));
        noted.map_or(table, |[_, value]| value).clone()
    }

    /// Where an element of the list stands that is the value of a key of the table at `table`.
    pub fn element(&self, table: &Range<usize>, key: &str, index: usize) -> Range<usize> {
        self.place(&self.place(table, &[key]), &[&index.to_string()])
    }

    /// Takes note that a key of the table at `table` could not be read.
    pub fn lose(&mut self, table: Range<usize>, key: &str) {
        self.lost.push((table, key.to_string()));
    }

    /// Whether a key of the table at `table` was there, but could not be read.
    pub fn lost(&self, table: &Range<usize>, key: &str) -> bool {
        self.lost.iter().any(|(at, lost)| at == table && lost == key)
    }

    /// Whether any key of the table at `table` could not be read.
    pub fn lost_any(&self, table: &Range<usize>) -> bool {
        self.lost.iter().any(|(at, _)| at == table)
    }

    /// Takes as a mistake that a key of the table at `table` is missing, unless it was there and could not be read.
    pub fn missing(&mut self, table: &Range<usize>, key: &str, message: impl std::fmt::Display) {
        if !self.lost(table, key) {
            self.add(table.clone(), Error::config(message));
        }
    }

    /// Takes the mistakes of something that was looked at by itself; `said` is put before each of them. Those that are in `told` are left
    /// out, and the others are put there.
    pub fn join(&mut self, others: Problems, said: &str, told: &mut BTreeSet<(usize, String)>) {
        for (span, error) in others.found {
            if told.insert((span.start, error.to_string())) {
                self.add(span, error.at(said));
            }
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// All mistakes as one error, each with the line it is in; `Ok` if there are none.
    ///
    /// # Errors
    /// There is a mistake.
    pub fn in_file(self, path: &Path, text: &str) -> Result<()> {
        let heading = |count: usize| format!("{} has {count} mistakes", path.display());
        self.told(path, text, heading).map_or(Ok(()), Err)
    }

    /// The same, where several are under this heading; `None` if there are none.
    pub fn told(mut self, path: &Path, text: &str, heading: impl Fn(usize) -> String) -> Option<Error> {
        self.found.sort_by_key(|(span, _)| span.start);
        let shown = |(span, error): &(Range<usize>, Error)| shown(path, text, span, error);
        match &self.found[..] {
            [] => None,
            [only] => Some(Error::new(only.1.kind(), shown(only))),
            several => {
                let mut said = heading(several.len());
                for problem in several.iter().take(MOST) {
                    said.push_str("\n\n");
                    said.push_str(&shown(problem));
                }
                if several.len() > MOST {
                    said.push_str(&format!("\n\nand {} more", several.len() - MOST));
                }
                Some(Error::new(ErrorKind::Config, said))
            }
        }
    }

    /// All mistakes as one error, where there is no file: `place` says which argument they are in.
    ///
    /// # Errors
    /// There is a mistake.
    pub fn in_argument(self, place: &str) -> Result<()> {
        let mut found = self.found.into_iter().map(|(_, error)| error);
        let Some(first) = found.next() else {
            return Ok(());
        };
        let said = found.fold(first.to_string(), |said, error| format!("{said}\n{place}: {error}"));
        Err(Error::new(first.kind(), said).at(place))
    }
}

/// An error with its place in a file, and with the line it is in.
pub(super) fn shown(path: &Path, text: &str, span: &Range<usize>, error: &Error) -> String {
    let name = path.display().to_string();
    match *span == WHOLE {
        true => format!("{name}: {error}"),
        false => format!(
            "{}: {error}\n{}",
            place(&name, text, span.start),
            excerpt(&name, text, span)
        ),
    }
}

/// `file:line:column` of a byte offset.
fn place(name: &str, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}")
}

/// The line at a place, with the place marked.
fn excerpt(name: &str, text: &str, span: &Range<usize>) -> String {
    // Marks stay within a line: the end of a value of many lines says nothing.
    let rest = text.get(span.clone()).unwrap_or_default();
    let end = span.start + rest.find('\n').unwrap_or(rest.len());
    let (cut, marked) = without_ends(text, span.start..end);
    let config = Config::new().with_color(false).with_index_type(IndexType::Byte);
    let label = Label::new((name, marked.clone())).with_message("here");
    let report = Report::build(ReportKind::Error, (name, marked.clone()))
        .with_config(config)
        .with_label(label);
    let mut drawn = Vec::new();
    // It writes to memory, and its source is there: it cannot fail.
    let _ = report.finish().write((name, ariadne::Source::from(&cut)), &mut drawn);
    let drawn = String::from_utf8_lossy(&drawn);
    let drawn = drawn.replacen(&place(name, &cut, marked.start), &place(name, text, span.start), 1);
    // The first line would be the message, which stands before the place already.
    let lines = drawn.lines().skip(1).map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_string()
}

/// The text with only what is around a place of its line, if that is long, and where the place is then.
fn without_ends(text: &str, span: Range<usize>) -> (String, Range<usize>) {
    let (Some(before), Some(behind)) = (text.get(..span.start), text.get(span.end..)) else {
        return (text.to_string(), span);
    };
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = span.end + behind.find('\n').unwrap_or(behind.len());
    let line = &text[start..end];
    if line.chars().count() <= LONG {
        return (text.to_string(), span);
    }
    let (shown, marked) = around(line, span.start - start..span.end - start);
    let text = format!("{}{shown}{}", &text[..start], &text[end..]);
    (text, start + marked.start..start + marked.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_shown_in_the_order_of_the_text_with_their_lines_marked() {
        let text = "name = \"x\"\nsparsty = 0.5\n[sweep]\nseeds = [\n 0.5 ]\n";
        let mut problems = Problems::default();
        problems.add(41..50, Error::config("no seeds"));
        problems.add(11..18, Error::config("unknown key"));
        problems.add(11..18, Error::config("unknown key"));
        problems.add(WHOLE, Error::config("no model"));
        let said = problems
            .in_file(Path::new("x.toml"), text)
            .expect_err("mistakes")
            .to_string();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["x.toml has 3 mistakes", "", "x.toml: no model"], "{said}");
        assert_eq!(lines[4], "x.toml:2:1: unknown key", "{said}");
        assert_eq!(lines[7], " 2 │ sparsty = 0.5", "{said}");
        assert!(lines[8].contains("───┬───"), "{said}");
        assert!(
            said.contains("x.toml:4:9: no seeds") && said.contains(" 4 │ seeds = ["),
            "{said}"
        );
        assert!(!said.contains('\u{1b}'), "{said}");
    }

    #[test]
    fn of_a_long_line_only_what_is_around_the_mistake_is_shown() {
        let value = "1234567890".repeat(1000);
        for (before, at) in [("x", "x.toml:2:5: no"), (value.as_str(), "x.toml:2:10004: no")] {
            let text = format!("name = \"x\"\n{before} = {value}, {value}\nseeds = 1\n");
            let mut problems = Problems::default();
            let start = 11 + before.len() + 3;
            problems.add(start..start + value.len(), Error::config("no"));
            let told = problems.in_file(Path::new("x.toml"), &text).expect_err("a mistake");
            let told = told.to_string();
            let lines: Vec<&str> = told.lines().collect();
            assert_eq!(lines[0], at);
            assert!(lines[1].contains(at.strip_suffix(": no").expect("so")), "{told}");
            assert!(lines.iter().all(|line| line.chars().count() < 200), "{told}");
            assert!(
                lines[3].ends_with("1234567890...") && lines[3].contains("= 1234567890"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_mistake_stands_at_the_value_of_its_key_or_else_at_its_table() {
        let mut problems = Problems::default();
        problems.note(&(0..7), "seeds", [8..13, 16..22]);
        problems.note(&(16..22), "1", [20..21, 20..21]);
        assert_eq!(problems.key_place(&(0..7), "seeds"), 8..13);
        assert_eq!(problems.place(&(0..7), &["confirm", "seeds"]), 16..22);
        assert_eq!(problems.element(&(0..7), "seeds", 1), 20..21);
        assert_eq!(problems.element(&(0..7), "seeds", 2), 16..22);
        assert_eq!(problems.place(&(0..7), &["patterns"]), 0..7);
        let wrong: Keyed<()> = Err(("seeds", Error::config("no seeds")));
        assert_eq!(problems.take_keyed(&(0..7), wrong), None);
        assert_eq!(problems.found[0].0, 16..22);
    }

    #[test]
    fn what_could_not_be_read_is_not_missing() {
        let mut problems = Problems::default();
        problems.lose(4..9, "length");
        problems.missing(&(4..9), "length", "`length` is missing");
        assert!(problems.is_empty());
        problems.missing(&(4..9), "sequences", "`sequences` is missing");
        assert_eq!(problems.count(), 1);
    }
}
