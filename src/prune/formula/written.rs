//! Formulas as people write them: `abs(w) * sqrt(x2)`, read into a tree that knows where each part stands.
//!
//! Numbers, names, `+ - * / ^`, unary minus, parentheses, and calls of functions. What a name means is decided by whoever
//! reads the tree.

use crate::error::{Error, Result, around};
use std::fmt;

/// The longest formula, in bytes.
const LONGEST: usize = 16384;

/// How deep parentheses and calls may be nested.
const DEEPEST: usize = 64;

/// The most numbers, names and calls: a long sum is a deep tree.
const MOST_PARTS: usize = 1500;

/// A part of a written formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What it is.
    pub part: Part,
    /// Byte at which it begins.
    pub place: usize,
}

/// What a part of a formula is.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A number.
    Number(f64),
    /// A name that stands for a value.
    Name(String),
    /// A function of some values.
    Call(String, Vec<Written>),
    /// The negative of a value.
    Negative(Box<Written>),
    /// Two values and the sign between them.
    Pair(Sign, Box<[Written; 2]>),
}

/// A sign between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Over,
    /// `^`
    Power,
}

impl Sign {
    fn of(byte: u8) -> Option<Sign> {
        Some(match byte {
            b'+' => Sign::Plus,
            b'-' => Sign::Minus,
            b'*' => Sign::Times,
            b'/' => Sign::Over,
            b'^' => Sign::Power,
            _ => return None,
        })
    }

    fn rank(self) -> u8 {
        match self {
            Sign::Plus | Sign::Minus => 1,
            Sign::Times | Sign::Over => 2,
            Sign::Power => 4,
        }
    }
}

/// The error of a formula, with the place marked. Of a long formula, only what is around the place is shown.
pub fn wrong(text: &str, place: usize, what: &str) -> Error {
    let before = text.get(..place).unwrap_or(text).chars().count();
    let (shown, marked) = around(text, place..place);
    let mark = shown[..marked.start].chars().count();
    Error::config(format!("character {}: {what}\n  {shown}\n  {:mark$}^", before + 1, ""))
}

/// A formula as a message shows it: a long one without its end.
pub fn shortened(text: &str) -> String {
    around(text, 0..0).0
}

/// Reads a formula.
///
/// # Errors
/// It is none, with the place where it stops being one.
pub fn read(text: &str) -> Result<Written> {
    if text.len() > LONGEST {
        return Err(Error::config(format!(
            "the formula has {} bytes; at most {LONGEST} are read",
            text.len()
        )));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(Error::config(format!(
            "the formula has the character {control:?}; write it in one line"
        )));
    }
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
        parts: 0,
    };
    let found = reader.sum()?;
    match reader.peek() {
        None => Ok(found),
        Some(_) => Err(reader.wrong("the formula could end here, or go on with + - * / ^")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    parts: usize,
}

impl Reader<'_> {
    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> Error {
        wrong(self.text, self.at, what)
    }

    fn pair(sign: Sign, a: Written, b: Written) -> Written {
        Written {
            place: a.place,
            part: Part::Pair(sign, Box::new([a, b])),
        }
    }

    /// Parts joined by signs of one rank, from the left.
    fn chain(&mut self, rank: u8, part: fn(&mut Self) -> Result<Written>) -> Result<Written> {
        let mut found = part(self)?;
        while let Some(sign) = self.peek().and_then(Sign::of).filter(|sign| sign.rank() == rank) {
            self.at += 1;
            found = Self::pair(sign, found, part(self)?);
        }
        Ok(found)
    }

    fn sum(&mut self) -> Result<Written> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(&format!("parts are nested more than {DEEPEST} deep")));
        }
        let found = self.chain(1, Self::product)?;
        self.depth -= 1;
        Ok(found)
    }

    fn product(&mut self) -> Result<Written> {
        self.chain(2, Self::negative)
    }

    fn negative(&mut self) -> Result<Written> {
        if self.peek() != Some(b'-') {
            return self.power();
        }
        let place = self.at;
        let mut signs = 0;
        while self.peek() == Some(b'-') {
            self.at += 1;
            signs += 1;
        }
        let of = self.power()?;
        let part = match of.part {
            _ if signs % 2 == 0 => of.part,
            Part::Number(value) => Part::Number(-value),
            _ => Part::Negative(Box::new(of)),
        };
        Ok(Written { part, place })
    }

    /// A power binds more tightly than a minus before it, and to the right: `-a^b^c` is `-(a^(b^c))`.
    fn power(&mut self) -> Result<Written> {
        let base = self.single()?;
        if self.peek() != Some(b'^') {
            return Ok(base);
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(&format!("parts are nested more than {DEEPEST} deep")));
        }
        let exponent = self.negative()?;
        self.depth -= 1;
        Ok(Self::pair(Sign::Power, base, exponent))
    }

    fn single(&mut self) -> Result<Written> {
        let next = self.peek();
        let place = self.at;
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(self.wrong(&format!("the formula has more than {MOST_PARTS} parts")));
        }
        let part = match next {
            Some(b'(') => {
                self.at += 1;
                let found = self.sum()?;
                self.close()?;
                return Ok(found);
            }
            Some(b'0'..=b'9' | b'.') => self.number()?,
            Some(first) if first.is_ascii_alphabetic() || first == b'_' => self.named()?,
            None => return Err(self.wrong("a number, a name or `(` is missing")),
            Some(b'|') => return Err(self.wrong("expected a number, a name or `(`; for |x| write abs(x)")),
            Some(b'*') => return Err(self.wrong("expected a number, a name or `(`; a power is written with ^")),
            Some(_) => return Err(self.wrong("expected a number, a name or `(`")),
        };
        Ok(Written { part, place })
    }

    fn close(&mut self) -> Result<()> {
        match self.peek() {
            Some(b')') => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.wrong("`)` is missing")),
        }
    }

    fn number(&mut self) -> Result<Part> {
        let bytes = self.text.as_bytes();
        let mut end = self.at;
        while let Some(byte) = bytes.get(end) {
            let exponent = end > self.at && matches!(bytes[end - 1], b'e' | b'E');
            match byte {
                b'0'..=b'9' | b'.' | b'e' | b'E' => end += 1,
                b'+' | b'-' if exponent => end += 1,
                _ => break,
            }
        }
        let value: Option<f64> = self.text[self.at..end].parse().ok();
        match value.filter(|value| value.is_finite()) {
            Some(value) => {
                self.at = end;
                Ok(Part::Number(value))
            }
            None => Err(self.wrong("this is no finite number")),
        }
    }

    fn named(&mut self) -> Result<Part> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let name = rest[..length].to_string();
        self.at += length;
        if self.peek() != Some(b'(') {
            return Ok(Part::Name(name));
        }
        self.at += 1;
        let mut arguments = vec![self.sum()?];
        while self.peek() == Some(b',') {
            self.at += 1;
            arguments.push(self.sum()?);
        }
        self.close()?;
        Ok(Part::Call(name, arguments))
    }
}

/// A number with more digits is written with an exponent.
const DIGITS: usize = 12;

impl Written {
    /// The same with other names; `renamed` gets each name and, of a call, the number of values.
    #[must_use]
    pub fn renamed(&self, renamed: &dyn Fn(&str, Option<usize>) -> String) -> Written {
        let part = match &self.part {
            Part::Number(value) => Part::Number(*value),
            Part::Name(name) => Part::Name(renamed(name, None)),
            Part::Call(name, values) => Part::Call(
                renamed(name, Some(values.len())),
                values.iter().map(|value| value.renamed(renamed)).collect(),
            ),
            Part::Negative(of) => Part::Negative(Box::new(of.renamed(renamed))),
            Part::Pair(sign, pair) => Part::Pair(*sign, Box::new(pair.each_ref().map(|part| part.renamed(renamed)))),
        };
        Written {
            part,
            place: self.place,
        }
    }

    fn rank(&self) -> u8 {
        match &self.part {
            Part::Pair(sign, _) => sign.rank(),
            Part::Negative(_) => 3,
            Part::Number(value) if value.is_sign_negative() => 3,
            _ => 5,
        }
    }

    fn within(&self, rank: u8) -> String {
        match self.rank() < rank {
            true => format!("({self})"),
            false => self.to_string(),
        }
    }
}

/// The formula in its normal form: one blank around signs, and only the parentheses that it needs. Read again, it is the same tree.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            // Without an exponent, 1e300 would have 301 digits.
            Part::Number(value) if value.to_string().len() > DIGITS => write!(f, "{value:e}"),
            Part::Number(value) => write!(f, "{value}"),
            Part::Name(name) => f.write_str(name),
            Part::Call(name, arguments) => {
                let arguments: Vec<String> = arguments.iter().map(Written::to_string).collect();
                write!(f, "{name}({})", arguments.join(", "))
            }
            Part::Negative(of) => write!(f, "-{}", of.within(4)),
            Part::Pair(sign, pair) => {
                let [a, b] = pair.as_ref();
                let (left, right) = match sign {
                    Sign::Plus | Sign::Minus => (1, 2),
                    Sign::Times | Sign::Over => (2, 3),
                    Sign::Power => (5, 3),
                };
                let (a, b) = (a.within(left), b.within(right));
                match sign {
                    Sign::Plus => write!(f, "{a} + {b}"),
                    Sign::Minus => write!(f, "{a} - {b}"),
                    Sign::Times => write!(f, "{a} * {b}"),
                    Sign::Over => write!(f, "{a} / {b}"),
                    Sign::Power => write!(f, "{a} ^ {b}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_form_is_read_as_the_same_formula() {
        for (typed, normal) in [
            ("abs( w )*sqrt(x2)", "abs(w) * sqrt(x2)"),
            ("a-(b-c)-d", "a - (b - c) - d"),
            ("a/(b*c)/d", "a / (b * c) / d"),
            ("-a^2", "-a ^ 2"),
            ("(-a)^2", "(-a) ^ 2"),
            ("a^b^c", "a ^ b ^ c"),
            ("(a^b)^c", "(a ^ b) ^ c"),
            ("a^-1", "a ^ -1"),
            ("2 * -3", "2 * -3"),
            ("(-3)^2", "(-3) ^ 2"),
            ("--a", "a"),
            ("1e-3*w + .5", "0.001 * w + 0.5"),
            ("1e300 * w / 1.5e-200", "1e300 * w / 1.5e-200"),
            ("(-0)^2", "(-0) ^ 2"),
            ("max(w, row_sum(abs(w)), 2)", "max(w, row_sum(abs(w)), 2)"),
            ("-(a + b)", "-(a + b)"),
            ("-(a * b)", "-(a * b)"),
        ] {
            let read_once = read(typed).expect(typed);
            assert_eq!(read_once.to_string(), normal);
            assert_eq!(read(normal).expect(normal).to_string(), normal, "{typed}");
        }
    }

    #[test]
    fn what_is_no_formula_is_marked() {
        let deep = format!("{}w{}", "(".repeat(70), ")".repeat(70));
        let powers = "w^".repeat(70) + "w";
        let long = "w+".repeat(9000) + "w";
        let many = "w+".repeat(1500) + "w";
        for (text, says) in [
            ("", "character 1: a number, a name or `(` is missing"),
            ("abs(w", "character 6: `)` is missing"),
            ("w w", "character 3: the formula could end here"),
            ("w * ", "character 5: a number, a name or `(` is missing"),
            ("w * %", "character 5: expected a number"),
            ("1e999", "character 1: this is no finite number"),
            ("1.2.3", "character 1: this is no finite number"),
            ("abs()", "character 5: expected a number"),
            ("w\n", "write it in one line"),
            ("ä", "character 1: expected a number"),
            (deep.as_str(), "nested more than 64 deep"),
            (powers.as_str(), "nested more than 64 deep"),
            (long.as_str(), "at most 16384 are read"),
            (many.as_str(), "more than 1500 parts"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(says), "no `{says}` in {error}");
        }
        let error = read("abs(w) * !").expect_err("no formula").to_string();
        assert!(error.ends_with("\n  abs(w) * !\n           ^"), "{error}");
    }

    #[test]
    fn of_a_long_formula_only_what_is_around_the_mistake_is_shown() {
        for (before, behind) in [
            (0, 5000),
            (1, 5000),
            (61, 200),
            (64, 64),
            (1250, 1250),
            (400, 1),
            (2500, 0),
        ] {
            let text = format!("{}!{}", "w + ".repeat(before), " + w".repeat(behind));
            let error = wrong(&text, 4 * before, "here").to_string();
            let lines: Vec<&str> = error.lines().collect();
            assert_eq!(lines.len(), 3, "{error}");
            assert!(
                lines[0].ends_with(&format!("character {}: here", 4 * before + 1)),
                "{error}"
            );
            assert!(lines[1].len() <= 130, "{error}");
            let mark = lines[2].find('^').expect("a mark");
            assert_eq!(lines[1].chars().nth(mark), Some('!'), "{error}");
        }
        assert_eq!(shortened("abs(w) * sqrt(x2)"), "abs(w) * sqrt(x2)");
        assert_eq!(shortened(&"ä".repeat(500)), format!("{}...", "ä".repeat(60)));
    }
}
