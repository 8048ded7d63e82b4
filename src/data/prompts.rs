//! Prompts with the answers that are expected of a model: rows of a file, put into words by a template, behind examples.

use super::table::{self, Row};
use crate::error::{Error, Located, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// What stands between an example and what follows it.
const BETWEEN: &str = "\n\n";

/// The prompts of a file, and the examples that stand before each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// The examples, in order: what was asked, and the answer.
    pub examples: Vec<(String, String)>,
    /// The prompts.
    pub prompts: Vec<Prompt>,
}

impl Prompts {
    /// The examples as a text, to which a prompt's own text is added.
    pub fn before(&self) -> String {
        let mut before = String::new();
        for (text, answer) in &self.examples {
            let space = if text.ends_with(char::is_whitespace) { "" } else { " " };
            before.push_str(&format!("{text}{space}{answer}{BETWEEN}"));
        }
        before
    }

    /// What makes the share of right answers say less than it seems to, a sentence each: prompts that are examples, too, and prompts that
    /// are there more than once.
    pub fn doubts(&self) -> Vec<String> {
        let shown: BTreeSet<&str> = self.examples.iter().map(|(text, _)| text.as_str()).collect();
        let mut seen = BTreeSet::new();
        let (mut known, mut again): (Vec<&Prompt>, Vec<&Prompt>) = Default::default();
        for prompt in &self.prompts {
            if shown.contains(prompt.text.as_str()) {
                known.push(prompt);
            }
            if !seen.insert(prompt.text.as_str()) {
                again.push(prompt);
            }
        }
        let told = |which: &[&Prompt], what: &str| {
            let first = &which.first()?.place;
            Some(format!(
                "{} of {} prompts {what} (the first: {first})",
                which.len(),
                self.prompts.len()
            ))
        };
        let known = told(&known, "are among the examples before them, with their answers");
        let again = told(
            &again,
            "repeat earlier prompts; each counts as a document, which makes intervals too narrow",
        );
        known.into_iter().chain(again).collect()
    }
}

/// A prompt and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Position among the rows of the file, from 0.
    pub row: usize,
    /// Where the row stands in its file, such as `line 3`.
    pub place: String,
    /// What the model is given, behind the examples.
    pub text: String,
    /// What is expected of it.
    pub answer: String,
}

/// How a row becomes a prompt: a text in which `{field}` stands for a field of the row; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A brace that does not belong to a field, and a template without any field.
    pub fn parse(text: &str) -> Result<Template> {
        let wrong = |what: &str| Error::config(format!("template {text:?}: {what}; a brace itself is written twice"));
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(place) = rest.find(['{', '}']) {
            plain.push_str(&rest[..place]);
            let brace = &rest[place..=place];
            rest = &rest[place + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(wrong("a closing brace has no opening one"));
            }
            let Some((field, behind)) = rest.split_once('}') else {
                return Err(wrong("a brace is not closed"));
            };
            if field.is_empty() || field.contains('{') {
                return Err(wrong("write the name of a field between braces"));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(field.to_string()));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        match parts.iter().any(|part| matches!(part, Part::Field(_))) {
            true => Ok(Template(parts)),
            false => Err(wrong("it uses no field of the prompts' file, such as {prompt}")),
        }
    }

    /// The prompt that a row becomes.
    ///
    /// # Errors
    /// The row has no such field, or no text in it.
    fn fill(&self, row: &Row) -> Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            text.push_str(match part {
                Part::Text(plain) => plain,
                Part::Field(field) => row.text(field)?,
            });
        }
        Ok(text)
    }
}

/// Reads prompts: all rows of a file, or the first `limit`, behind the first `shots` examples of another file, or all of them.
///
/// # Errors
/// A file cannot be read, has fewer examples, or has a row without the template's fields, without text in `answer`, or with nothing in
/// its prompt; with file, line and field.
pub fn read(
    prompts: &Path,
    examples: Option<(&Path, Option<usize>)>,
    template: &Template,
    limit: Option<usize>,
) -> Result<Prompts> {
    let mut all = Vec::new();
    if let Some((path, shots)) = examples {
        let rows = table::read(path)?;
        if let Some(shots) = shots.filter(|shots| *shots > rows.len()) {
            let message = format!("has {} examples, fewer than shots = {shots}", rows.len());
            return Err(Error::input(message).at(path.display()));
        }
        for row in rows.iter().take(shots.unwrap_or(rows.len())) {
            all.push(worded(row, template).at(path.display())?);
        }
    }
    let rows = table::read(prompts)?;
    let chosen = rows.iter().enumerate().take(limit.unwrap_or(rows.len()));
    let prompt = |(index, row): (usize, &Row)| {
        let (text, answer) = worded(row, template)?;
        Ok(Prompt {
            row: index,
            place: row.place().to_string(),
            text,
            answer,
        })
    };
    Ok(Prompts {
        examples: all,
        prompts: chosen.map(prompt).collect::<Result<_>>().at(prompts.display())?,
    })
}

/// A row's own prompt and answer.
fn worded(row: &Row, template: &Template) -> Result<(String, String)> {
    let worded = || {
        let text = template.fill(row)?;
        match text.trim().is_empty() {
            true => Err(Error::input("its prompt is empty")),
            false => Ok((text, row.worded("answer")?.into_owned())),
        }
    };
    worded().at(row.place())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_fields_and_braces() {
        let row = serde_json::json!({ "a": "x", "b": { "c": "y" }, "n": 3 });
        let row = Row::new("line 1".to_string(), row.as_object().expect("an object").clone());
        let filled = |text: &str| Template::parse(text).and_then(|template| template.fill(&row));
        assert_eq!(filled("Q: {a}{b.c} {{}}\nA:").expect("filled"), "Q: xy {}\nA:");
        for (text, wrong) in [
            ("no field", "no field"),
            ("{a", "not closed"),
            ("a}", "no opening"),
            ("{}", "name of a field"),
            ("{d}", "has no field `d`"),
            ("{n}", "not a string"),
        ] {
            let error = filled(text).expect_err(text).to_string();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn prompts_that_say_little_are_told() {
        let prompt = |row: usize, text: &str| Prompt {
            row,
            place: format!("line {}", row + 1),
            text: text.to_string(),
            answer: "x".to_string(),
        };
        let read = |texts: &[&str]| Prompts {
            examples: vec![("a".to_string(), "x".to_string())],
            prompts: texts.iter().enumerate().map(|(row, text)| prompt(row, text)).collect(),
        };
        assert!(read(&["b", "c", "A"]).doubts().is_empty());
        let doubts = read(&["b", "a", "b", "c", "b"]).doubts();
        assert_eq!(doubts.len(), 2);
        assert!(doubts[0].starts_with("1 of 5 prompts are among the examples") && doubts[0].ends_with("line 2)"));
        assert!(doubts[1].starts_with("2 of 5 prompts repeat earlier prompts") && doubts[1].ends_with("line 3)"));
    }

    #[test]
    fn answers_are_texts_or_numbers() {
        let template = Template::parse("{q}").expect("a template");
        let worded = |answer: serde_json::Value| {
            let row = serde_json::json!({ "q": "1 + 1", "answer": answer });
            super::worded(
                &Row::new("line 1".to_string(), row.as_object().expect("an object").clone()),
                &template,
            )
        };
        for (answer, text) in [
            (serde_json::json!("2"), "2"),
            (serde_json::json!(2), "2"),
            (serde_json::json!(-0.5), "-0.5"),
        ] {
            assert_eq!(worded(answer).expect(text).1, text);
        }
        for (answer, wrong) in [
            (serde_json::json!(""), "field `answer` is empty"),
            (serde_json::json!([2]), "is not a string or a number"),
            (serde_json::json!(true), "is not a string or a number"),
        ] {
            let error = worded(answer).expect_err(wrong).to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
