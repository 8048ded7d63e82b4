//! `README.md` of a model that was pruned or made smaller: the card that the Hugging Face hub shows.
//!
//! Owns its text: what hubs read (front matter), how the model was made, and what was measured. A card is made with the model.
//! Afterwards only the part between two marks is ever replaced, so people may edit the rest.

mod measured;
mod pruned;
mod smaller;

use super::provenance::PruningFile;
use super::structure::Structure;
use crate::data::{digest, tokenizer};
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::ModelIdentity;
use crate::experiment::plan::ComponentPlan;
use crate::files::{Access, OutputFile, input};
use crate::model::export::{CONFIG, PRUNING, STRUCTURE};
use crate::model::weights::WeightFiles;
use measured::{EvalResult, Measure, table};
use std::path::{Path, PathBuf};

/// Name of the card's file.
pub const CARD: &str = "README.md";

/// Keys of the original's front matter that hold for a pruned model, too.
const KEPT: [&str; 6] = [
    "license",
    "license_name",
    "license_link",
    "language",
    "pipeline_tag",
    "library_name",
];

/// The lines that what was measured stands between.
const BEGIN: &str = "<!-- Measured: written by `zprune card`. -->";
const END: &str = "<!-- End of what was measured. -->";

/// The longest result of `zprune eval --json` that is read, in bytes: the likelihoods of all documents of all tasks.
const LARGEST: u64 = 1 << 30;

/// The card of a model that was just pruned. `original` is the card of the model it was made from, if that has one.
pub fn of_pruned(file: &PruningFile, original: Option<&str>) -> String {
    pruned::described(file).card(original)
}

/// As [`of_pruned`], of a model that lost whole units.
pub fn of_smaller(structure: &Structure, original: Option<&str>) -> String {
    smaller::described(structure).card(original)
}

/// Puts what `zprune eval --json` found into the card of the model in `folder`: of this model and, in a column beside it,
/// of the original. A card that is not there is made.
///
/// # Errors
/// zprune did not make the model, a result is none or is of another model, the card has no place for it, or it cannot be
/// written.
pub fn update(folder: &Path, results: &[PathBuf]) -> Result<()> {
    let made = Made::read(folder)?;
    let own = ModelIdentity {
        config: digest::of_file(&folder.join(CONFIG))?,
        weights: WeightFiles::open(folder)?.digest()?,
        tokenizer: tokenizer::digest(folder)?,
    };
    let mut rows: Vec<Measure> = Vec::new();
    for path in results {
        let text = input::read_text(path, LARGEST)?;
        let result: EvalResult = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("is no result of `zprune eval --json`: {error}")))
            .at(path.display())?;
        let column = match &result.model {
            model if *model == own => 1,
            model if model == made.original() => 0,
            _ => {
                let message = format!(
                    "was measured on a model that is neither {} nor the one it was made from, by the SHA-256 of their files",
                    folder.display()
                );
                return Err(Error::input(message).at(path.display()));
            }
        };
        for (what, value) in result.values().at(path.display())? {
            match rows.iter_mut().find(|row| row.what == what) {
                Some(row) => row.values[column] = Some(value),
                None => {
                    let mut values = [None, None];
                    values[column] = Some(value);
                    rows.push(Measure { what, values });
                }
            }
        }
    }
    let path = folder.join(CARD);
    let card = match path.exists() {
        true => input::read_text(&path, input::SMALL)?,
        false => made.described().card(None),
    };
    let places = card.find(BEGIN).zip(card.find(END)).filter(|(begin, end)| begin < end);
    let (begin, end) = places.ok_or_else(|| {
        let message =
            format!("has no place for what was measured; put these two lines where it is to stand:\n{BEGIN}\n{END}");
        Error::input(message).at(path.display())
    })?;
    let text = format!("{}{BEGIN}\n{}{}", &card[..begin], table(&rows), &card[end..]);
    let output = OutputFile {
        path: &path,
        inputs: &[],
        // It was just read, and only the part between the marks is another.
        force: true,
        ours: |_| true,
        access: Access::of(&folder.join(made.record()))?,
    };
    output.write(text.as_bytes())
}

/// Keys of a card's front matter that a pruned model keeps, each with its lines as they stand there.
fn kept(card: &str) -> Vec<(String, String)> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let mut keys: Vec<(String, String)> = Vec::new();
    for line in lines {
        let line = line.trim_end();
        if line == "---" {
            keys.retain(|(key, _)| KEPT.contains(&key.as_str()));
            return keys;
        }
        let begins = !line.starts_with([' ', '\t', '-', '#']);
        match (line.split_once(':'), keys.last_mut()) {
            (Some((key, _)), _) if begins => keys.push((key.to_string(), format!("{line}\n"))),
            (_, Some((_, lines))) if !line.is_empty() => lines.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    // It never ended, so it is no front matter.
    Vec::new()
}

/// The original of a model.
struct Base<'a> {
    name: Option<&'a str>,
    revision: Option<&'a str>,
}

impl<'a> Base<'a> {
    /// The name, if it is one of the hub.
    fn hub(&self) -> Option<&'a str> {
        self.name.filter(|name| name.contains('/'))
    }

    /// The original in words, with a link where the hub has it.
    fn in_words(&self) -> String {
        match (self.hub(), self.revision, self.name) {
            (Some(name), Some(commit), _) => {
                let short: String = commit.chars().take(7).collect();
                format!(
                    "[{name}](https://huggingface.co/{name}) at commit [{short}](https://huggingface.co/{name}/tree/{commit})"
                )
            }
            (Some(name), None, _) => format!("[{name}](https://huggingface.co/{name})"),
            (None, _, Some(name)) => format!("`{}`", plain(name)),
            (None, _, None) => "a model".to_string(),
        }
    }
}

/// What a card says of a model.
struct Described<'a> {
    base: Base<'a>,
    /// Behind the original's name in the heading.
    title: String,
    /// A tag of its own, beside those of all models of zprune.
    tag: &'static str,
    /// How it was made from the original: `pruned with zprune 0.2.0`.
    made: String,
    /// What came of it, in a sentence.
    result: String,
    /// The steps with their settings.
    rows: Vec<(&'static str, String)>,
    /// What its users must know.
    note: String,
}

impl Described<'_> {
    /// The card. `original` is the card of the model it was made from, if that has one.
    fn card(&self, original: Option<&str>) -> String {
        let kept = original.map(kept).unwrap_or_default();
        let short = self.base.name.unwrap_or("model");
        let short = short.rsplit('/').next().unwrap_or(short);
        let mut text = String::from("---\n");
        let hub = self.base.hub();
        if let Some(name) = hub {
            text.push_str(&format!("base_model: {name}\n"));
        }
        kept.iter().for_each(|(_, lines)| text.push_str(lines));
        let has = |key: &str| kept.iter().any(|(kept, _)| kept == key);
        if !has("library_name") {
            text.push_str("library_name: transformers\n");
        }
        if !has("pipeline_tag") {
            text.push_str("pipeline_tag: text-generation\n");
        }
        text.push_str(&format!("tags:\n- zprune\n- pruning\n- {}\n", self.tag));
        text.push_str(&format!("---\n\n# {short}, {}\n\n", self.title));
        let mut missing = Vec::new();
        if !has("license") {
            missing.push("`license`, which the original's card does not name here");
        }
        if hub.is_none() {
            missing.push("`base_model`, the original's name on the hub (`org/name`)");
        }
        if !missing.is_empty() {
            let missing = missing.join("; ");
            text.push_str(&format!(
                "<!-- Before you publish it, add to the lines above: {missing}. -->\n\n"
            ));
        }
        text.push_str(&format!(
            "This is {}, {} and not trained afterwards. {}\n\n",
            self.base.in_words(),
            self.made,
            self.result
        ));
        if !self.rows.is_empty() {
            text.push_str("| step | setting |\n|---|---|\n");
            for (step, setting) in &self.rows {
                text.push_str(&format!("| {step} | {} |\n", plain(setting).replace('|', "\\|")));
            }
        }
        text.push_str(&format!(
            "\n{}\n\n{BEGIN}\n<!-- Nothing yet. `zprune eval --model DIR --corpus FILE --json found.json` measures, and \
             `zprune card DIR --measured found.json` writes it here. -->\n{END}\n",
            self.note
        ));
        text
    }
}

/// A model that has a card: how zprune made it.
enum Made {
    Pruned(Box<PruningFile>),
    Smaller(Box<Structure>),
}

impl Made {
    fn read(folder: &Path) -> Result<Made> {
        if let Some(file) = PruningFile::read(folder)? {
            return Ok(Made::Pruned(Box::new(file)));
        }
        match Structure::read(folder)? {
            Some(structure) => Ok(Made::Smaller(Box::new(structure))),
            None => {
                let message = format!(
                    "has no {PRUNING} and no {STRUCTURE}, so it was not made by `zprune prune` or `zprune shrink`"
                );
                Err(Error::input(message).at(folder.display()))
            }
        }
    }

    fn described(&self) -> Described<'_> {
        match self {
            Made::Pruned(file) => pruned::described(file),
            Made::Smaller(structure) => smaller::described(structure),
        }
    }

    /// The hashes of the original's files.
    fn original(&self) -> &ModelIdentity {
        match self {
            Made::Pruned(file) => &file.cell.model,
            Made::Smaller(structure) => &structure.original,
        }
    }

    /// The name of the file that says how it was made.
    fn record(&self) -> &'static str {
        match self {
            Made::Pruned(_) => PRUNING,
            Made::Smaller(_) => STRUCTURE,
        }
    }
}

/// A component with its parameters.
fn component(plan: &ComponentPlan) -> String {
    let parameters = plan.parameters.as_object();
    let parameters: Vec<String> = parameters
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    match parameters.is_empty() {
        true => format!("`{}`", plan.name),
        false => format!("`{}` ({})", plan.name, parameters.join(", ")),
    }
}

/// A text without line ends, so that it stays in its row.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_for_a_pruned_model_is_kept_of_a_card() {
        let card = "\u{feff}---\r\nlicense: other\r\nlicense_name: ours\r\n# a remark\r\nlanguage:\r\n- en\r\n  - de\r\nbase_model: a/b\r\n\
                    tags:\r\n- license\r\nextra_gated_prompt: >-\r\n  license: mine\r\nlicense_link: https://x/y\r\n---\r\nlicense: no\r\n";
        let kept = kept(card);
        let keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["license", "license_name", "language", "license_link"]);
        assert_eq!(kept[2].1, "language:\n- en\n  - de\n");
        for none in [
            "",
            "license: mit\n",
            "---\nlicense: mit\n",
            "# Title\n---\nlicense: mit\n---\n",
        ] {
            assert!(super::kept(none).is_empty(), "{none}");
        }
    }
}
