//! What `zprune eval --json` found, as rows of a card.

use super::described::plain;
use crate::error::{Error, Result};
use crate::experiment::identity::EvaluationIdentity;
use crate::experiment::inputs::ModelIdentity;
use crate::record::TaskRecord;
use serde::Deserialize;

/// One measure of the original and of the model that was made from it.
pub(super) struct Measure {
    pub(super) what: String,
    pub(super) values: [Option<String>; 2],
}

/// The heading of the column of measures.
const HEADING: &str = "measure";

/// The rows as a table in Markdown.
pub(super) fn table(rows: &[Measure]) -> String {
    let mut text = format!("## Measured\n\n| {HEADING} | original | this model |\n|---|---:|---:|\n");
    for row in rows {
        let value = |column: usize| row.values[column].as_deref().unwrap_or("");
        let what = row.what.replace('|', "\\|");
        text.push_str(&format!("| {what} | {} | {} |\n", value(0), value(1)));
    }
    text.push_str("\nMeasured with `zprune eval`.\n");
    text
}

/// The rows of a table that [`table`] wrote. Lines that are none are left out.
pub(super) fn earlier(text: &str) -> Vec<Measure> {
    let rows = text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        // A `|` within a cell is written with a backslash, which no text begins with.
        let line = line.replace("\\|", "\0");
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect();
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        let [what, values @ ..] = &cells[..] else { return None };
        let values: [&str; 2] = values.try_into().ok()?;
        let heading = *what == HEADING || what.chars().all(|c| c == '-');
        let value = |value: &str| (!value.is_empty()).then(|| value.to_string());
        (!heading).then(|| Measure {
            what: (*what).to_string(),
            values: values.map(value),
        })
    });
    rows.collect()
}

/// What is read of a result of `zprune eval --json`, of perplexity or of tasks.
#[derive(Deserialize)]
pub(super) struct EvalResult {
    pub(super) model: ModelIdentity,
    perplexity: Option<f64>,
    corpus: Option<String>,
    #[serde(default)]
    tasks: Vec<TaskRecord>,
    windows: Option<Vec<f64>>,
    protocol: serde_json::Value,
}

impl EvalResult {
    /// What was measured, in words, and the values.
    pub(super) fn values(&self) -> Result<Vec<(String, String)>> {
        let mut values = Vec::new();
        if let Some(perplexity) = self.perplexity {
            let protocol: EvaluationIdentity = serde_json::from_value(self.protocol.clone())
                .map_err(|error| Error::input(format!("is no result of `zprune eval --json`: {error}")))?;
            let text = protocol.corpus.as_ref().or(protocol.tokens.as_ref());
            // Earlier versions did not say what the text was called.
            let known = || text.map_or(String::new(), |digest| digest.chars().take(12).collect());
            let text = self.corpus.clone().unwrap_or_else(known);
            let windows = self.windows.as_ref().map_or(0, Vec::len);
            let what = format!(
                "perplexity on `{text}`, {windows} windows of {} tokens{}",
                protocol.length,
                settings(
                    &self.protocol,
                    &["corpus", "tokens", "length", "windows", "compare_to_dense"]
                )
            );
            values.push((plain(&what), format!("{perplexity:.2}")));
        }
        for task in &self.tasks {
            let protocols = self.protocol.as_array().into_iter().flatten();
            let protocol = protocols.into_iter().find(|it| it["name"] == task.name.as_str());
            let settings = protocol.map_or(String::new(), |it| settings(it, &["name", "version", "data", "limit"]));
            for (name, metric) in &task.metrics {
                let what = format!("{} {name}, {} documents{settings}", task.name, task.documents);
                let value = match name.starts_with("acc") {
                    true => format!("{:.1} %", 100.0 * metric.value),
                    false => format!("{:.2}", metric.value),
                };
                values.push((plain(&what), value));
            }
        }
        match values.is_empty() {
            true => Err(Error::input("has neither a perplexity nor results of tasks")),
            false => Ok(values),
        }
    }
}

/// What a result was measured with that is not the default, except for these keys: values with other settings are not of one row.
fn settings(protocol: &serde_json::Value, said: &[&str]) -> String {
    let all = protocol.as_object().into_iter().flatten();
    let other = all.filter(|(key, value)| !said.contains(&key.as_str()) && !value.is_null() && *value != "none");
    let words = other.map(|(key, value)| match value {
        serde_json::Value::String(text) => format!(", {key} {}", text.chars().take(12).collect::<String>()),
        value => format!(", {key} {value}"),
    });
    let mut words: Vec<String> = words.collect();
    words.sort();
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_the_settings_that_are_not_the_default() {
        let settings = |text: &str| settings(&serde_json::from_str(text).expect("JSON"), &["length", "name"]);
        assert_eq!(settings(r#"{ "join": "none", "length": 256 }"#), "");
        assert_eq!(
            settings(r#"{ "join": "wikitext", "bos": "never", "length": 256 }"#),
            ", bos never, join wikitext"
        );
        assert_eq!(
            settings(r#"{ "name": "piqa", "harness": "0.3", "shots": 5 }"#),
            ", harness 0.3, shots 5"
        );
    }

    #[test]
    fn rows_keep_their_columns() {
        let rows = [Measure {
            what: "a | b c".to_string(),
            values: [None, Some("5.00".to_string())],
        }];
        let text = table(&rows);
        assert!(text.contains("\n| a \\| b c |  | 5.00 |\n"), "{text}");
        let [Measure { what, values }] = &earlier(&text)[..] else {
            panic!("one row: {text}")
        };
        assert_eq!((what.as_str(), values), ("a | b c", &rows[0].values));
        assert!(earlier("<!-- Nothing yet. -->\nmy | own | words\n").is_empty());
    }
}
