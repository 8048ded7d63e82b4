//! Whether what a model wrote is the answer.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which part of the model's text must be equal to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// The last number, as in GSM8K. `1,080`, `$1080` and `1080.0` are the same number.
    LastNumber,
    /// All of it, but for white space at its ends.
    Exact,
}

impl Match {
    /// What counts of a text; `None` if nothing does.
    pub fn of(self, text: &str) -> Option<String> {
        match self {
            Match::LastNumber => last_number(text),
            Match::Exact => Some(text.trim().to_string()),
        }
    }

    /// What counts of an answer.
    ///
    /// # Errors
    /// Nothing does, so no text could be right.
    pub fn wanted(self, answer: &str) -> Result<String> {
        self.of(answer).filter(|wanted| !wanted.is_empty()).ok_or_else(|| {
            let what = match self {
                Match::LastNumber => {
                    "has no number, and match = \"last-number\" compares numbers; match = \"exact\" compares texts"
                }
                Match::Exact => "is empty",
            };
            Error::input(format!("field `answer` {what}"))
        })
    }
}

/// The last number of a text in normal form: no commas between digits, no zeros that say nothing, no plus sign. A minus sign counts
/// where no word or number ends before it.
fn last_number(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let digit = |place: usize| chars.get(place).is_some_and(char::is_ascii_digit);
    let mut last = None;
    let mut place = 0;
    while place < chars.len() {
        // A point behind a number begins no other: `3.14.15` ends in 15.
        let behind = place.checked_sub(1).is_some_and(digit);
        let begins = digit(place) || chars[place] == '.' && digit(place + 1) && !behind;
        if !begins {
            place += 1;
            continue;
        }
        let start = place;
        let (mut whole, mut part, mut in_part) = (String::new(), String::new(), false);
        loop {
            match chars.get(place) {
                Some(c) if c.is_ascii_digit() && in_part => part.push(*c),
                Some(c) if c.is_ascii_digit() => whole.push(*c),
                Some(',') if !in_part && digit(place + 1) => {}
                Some('.') if !in_part && digit(place + 1) => in_part = true,
                _ => break,
            }
            place += 1;
        }
        last = Some((start, whole, part));
    }
    let (start, whole, part) = last?;
    let before = |count: usize| start.checked_sub(count).map(|place| chars[place]);
    // The sign may stand on either side of a currency's.
    let currency = usize::from(before(1) == Some('$'));
    let sign = 1 + currency;
    let free = before(sign + 1).is_none_or(|c| !c.is_alphanumeric());
    let negative = before(sign) == Some('-') && free;
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let mut number = String::new();
    if negative && !(whole.is_empty() && part.is_empty()) {
        number.push('-');
    }
    number.push_str(if whole.is_empty() { "0" } else { whole });
    if !part.is_empty() {
        number.push('.');
        number.push_str(part);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_found_as_people_write_it() {
        for (text, number) in [
            ("so 3 + 4 = 7 apples.", Some("7")),
            ("#### 1,080", Some("1080")),
            ("It costs $18.00.", Some("18")),
            ("-5", Some("-5")),
            ("a loss of -$5", Some("-5")),
            ("a loss of $-5", Some("-5")),
            ("from 3-5", Some("5")),
            ("x-5", Some("5")),
            ("007 and .50", Some("0.5")),
            ("-0.0", Some("0")),
            ("1, 2, 3", Some("3")),
            ("3.14.15", Some("15")),
            ("12,", Some("12")),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(last_number(text).as_deref(), number, "{text}");
        }
    }

    #[test]
    fn an_answer_must_have_what_counts() {
        assert_eq!(Match::LastNumber.wanted("#### 18").expect("a number"), "18");
        assert!(Match::LastNumber.wanted("many").is_err());
        assert_eq!(Match::Exact.wanted(" yes\n").expect("a text"), "yes");
        assert!(Match::Exact.wanted("  ").is_err());
    }
}
