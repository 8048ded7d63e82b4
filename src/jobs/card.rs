//! `README.md` of a model that was pruned or made smaller: the card that the Hugging Face hub shows.
//!
//! Owns its text: what hubs read (front matter), how the model was made, and what was measured. A card is made with the model.
//! Afterwards only the part between two marks is ever replaced, so people may edit the rest.

mod described;
mod measured;
mod pruned;
mod smaller;

use super::provenance::PruningFile;
use super::structure::Structure;
use crate::data::{digest, tokenizer};
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::ModelIdentity;
use crate::files::{Access, OutputFile, input};
use crate::model::export::{CONFIG, PRUNING, STRUCTURE};
use crate::model::weights::WeightFiles;
use described::{BEGIN, Described, END};
use measured::{EvalResult, Measure, earlier, table};
use std::path::{Path, PathBuf};

/// Name of the card's file.
pub const CARD: &str = "README.md";

/// The longest result of `zprune eval --json` that is read, in bytes: the likelihoods of all documents of all tasks.
const LARGEST: u64 = 1 << 30;

/// The card of a model that was just pruned. `original` is the card of the model it was made from, if that has one.
pub fn of_pruned(file: &PruningFile, original: Option<&str>) -> String {
    pruned::described(file).card(original)
}

/// A card as it was made, without what [`update`] put into it; none if it has no place for that.
pub fn as_made(card: &str) -> Option<String> {
    described::unmeasured(card)
}

/// As [`of_pruned`], of a model that lost whole units.
pub fn of_smaller(structure: &Structure, original: Option<&str>) -> String {
    smaller::described(structure).card(original)
}

/// Puts what `zprune eval --json` found into the card of the model in `folder`: of this model and, in a column beside it,
/// of the original. What the card has of other measures stays. A card that is not there is made.
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
    let path = folder.join(CARD);
    let card = match path.exists() {
        true => input::read_text(&path, input::SMALL)?,
        false => made.described().card(None),
    };
    let (begin, end) = described::place(&card).ok_or_else(|| {
        let message =
            format!("has no place for what was measured; put these two lines where it belongs:\n{BEGIN}\n{END}");
        Error::input(message).at(path.display())
    })?;
    let mut rows: Vec<Measure> = earlier(&card[begin..end]);
    for result_file in results {
        let text = input::read_text(result_file, LARGEST)?;
        let result: EvalResult = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("is no result of `zprune eval --json`: {error}")))
            .at(result_file.display())?;
        let column = match &result.model {
            model if *model == own => 1,
            model if model == made.original() => 0,
            _ => {
                let message = format!(
                    "was measured on a model that is neither {} nor the one it was made from, by the SHA-256 of their files",
                    folder.display()
                );
                return Err(Error::input(message).at(result_file.display()));
            }
        };
        for (what, value) in result.values().at(result_file.display())? {
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
