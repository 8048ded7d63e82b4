//! Corpora of the hub: those the papers use by name, any other by its path.
//!
//! `hub:wikitext2` is a named corpus, in the split its use implies; `hub:wikitext2:train` names the split;
//! `hub:org/name/path/file.parquet` is any file of a data set, `hub:org/name@revision/path/file.parquet` at
//! a revision.

use super::names::FileName;
use super::repository::Repository;
use crate::data::corpus::Join;
use crate::error::{Error, Result};
use crate::registry::{Entry, Registry, suggestion};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a path into the hub begins with.
pub const PREFIX: &str = "hub:";

/// A corpus with a name of its own, such as `wikitext2`.
#[derive(Debug)]
pub struct Dataset {
    /// Repository of the hub, `org/name`.
    pub repository: &'static str,
    /// Branch, tag or commit of the repository.
    pub revision: &'static str,
    /// Names of the splits, each with the path of its file in the repository.
    pub splits: &'static [(&'static str, &'static str)],
    /// The split that is used for calibration if none is named.
    pub calibration: &'static str,
    /// The split that is used for evaluation if none is named.
    pub evaluation: &'static str,
    /// How the papers join its rows to one text.
    pub join: Join,
}

/// The corpora with a name. Their splits and joins are those of SparseGPT's data loader and its descendants;
/// its Penn Treebank is the hub's parquet conversion of a data set that is a script otherwise.
pub const DATASETS: Registry<Dataset> = Registry {
    kind: "corpus",
    entries: &[
        Entry {
            name: "wikitext2",
            summary: "WikiText-2 raw: Salesforce/wikitext, splits train, validation, test; join wikitext",
            item: Dataset {
                repository: "Salesforce/wikitext",
                revision: "main",
                splits: &[
                    ("train", "wikitext-2-raw-v1/train-00000-of-00001.parquet"),
                    ("validation", "wikitext-2-raw-v1/validation-00000-of-00001.parquet"),
                    ("test", "wikitext-2-raw-v1/test-00000-of-00001.parquet"),
                ],
                calibration: "train",
                evaluation: "test",
                join: Join::Wikitext,
            },
        },
        Entry {
            name: "ptb",
            summary: "Penn Treebank: ptb-text-only/ptb_text_only, splits train, validation, test; join spaces",
            item: Dataset {
                repository: "ptb-text-only/ptb_text_only",
                revision: "refs/convert/parquet",
                splits: &[
                    ("train", "penn_treebank/train/0000.parquet"),
                    ("validation", "penn_treebank/validation/0000.parquet"),
                    ("test", "penn_treebank/test/0000.parquet"),
                ],
                calibration: "train",
                evaluation: "test",
                join: Join::Spaces,
            },
        },
        Entry {
            name: "c4",
            summary: "C4 en: the first shards of allenai/c4, splits train, validation; join spaces",
            item: Dataset {
                repository: "allenai/c4",
                revision: "main",
                splits: &[
                    ("train", "en/c4-train.00000-of-01024.json.gz"),
                    ("validation", "en/c4-validation.00000-of-00008.json.gz"),
                ],
                calibration: "train",
                evaluation: "validation",
                join: Join::Spaces,
            },
        },
    ],
};

/// What a corpus is used for; decides which split a name without a split means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// For calibration statistics.
    Calibration,
    /// For measuring perplexity.
    Evaluation,
}

/// One file of a data set on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFile {
    /// The repository of the data set, at a revision.
    pub repository: Repository,
    /// Path of the file in the repository.
    pub file: String,
}

impl fmt::Display for DatasetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.file, self.repository)
    }
}

/// What a text is called, without the folder that it is in: a path of the hub as it is, of any other path its last part.
pub fn name(text: &Path) -> String {
    let whole = text.to_string_lossy();
    match (whole.starts_with(PREFIX), text.file_name()) {
        (false, Some(last)) => last.to_string_lossy().into_owned(),
        _ => whole.into_owned(),
    }
}

/// Completes a corpus as the user names it: adds the split, and the join that a named corpus implies. A path of the
/// file system stays as it is.
///
/// # Errors
/// It begins with `hub:`, but names no corpus, split or file.
pub fn spelled_out(corpus: &Path, purpose: Use) -> Result<(PathBuf, Option<Join>)> {
    let Some(reference) = reference(corpus)? else {
        return Ok((corpus.to_path_buf(), None));
    };
    if reference.contains('/') {
        file(corpus)?;
        return Ok((corpus.to_path_buf(), None));
    }
    let (name, split) = name_and_split(reference);
    let dataset = &DATASETS.find(name)?.item;
    let implied = match purpose {
        Use::Calibration => dataset.calibration,
        Use::Evaluation => dataset.evaluation,
    };
    let corpus: PathBuf = format!("{PREFIX}{name}:{}", split.unwrap_or(implied)).into();
    file(&corpus)?;
    Ok((corpus, Some(dataset.join)))
}

/// The file of the hub that a corpus stands for; `None` for a path of the file system.
///
/// # Errors
/// It begins with `hub:`, but names no corpus, split or file.
pub fn file(corpus: &Path) -> Result<Option<DatasetFile>> {
    let Some(reference) = reference(corpus)? else {
        return Ok(None);
    };
    if reference.contains('/') {
        return explicit(reference).map(Some);
    }
    let (name, split) = name_and_split(reference);
    let dataset = &DATASETS.find(name)?.item;
    let splits: Vec<&str> = dataset.splits.iter().map(|(split, _)| *split).collect();
    let split = split.unwrap_or(dataset.evaluation);
    let found = dataset.splits.iter().find(|(known, _)| *known == split);
    let (_, file) =
        found.ok_or_else(|| Error::config(format!("`{name}` has no split `{split}`{}", suggestion(split, &splits))))?;
    Ok(Some(DatasetFile {
        repository: Repository::dataset(dataset.repository, Some(dataset.revision))?,
        file: file.to_string(),
    }))
}

fn reference(corpus: &Path) -> Result<Option<&str>> {
    match corpus.to_str() {
        Some(text) => Ok(text.strip_prefix(PREFIX)),
        None => Ok(None),
    }
}

fn name_and_split(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once(':') {
        Some((name, split)) => (name, Some(split)),
        None => (reference, None),
    }
}

/// `org/name/path/in/repository`, or `org/name@revision/path/in/repository`. A revision is one part, but
/// `refs/convert/parquet`, `refs/pr/1` and the like are three.
fn explicit(reference: &str) -> Result<DatasetFile> {
    let shape = || {
        let message = format!(
            "`{PREFIX}{reference}` is not `{PREFIX}org/name/path/in/repository.parquet` (`{PREFIX}org/name@revision/path` at a revision)"
        );
        Error::config(message)
    };
    let (organisation, rest) = reference.split_once('/').ok_or_else(shape)?;
    let (name, rest) = rest.split_once('/').ok_or_else(shape)?;
    let (name, revision, file) = match name.split_once('@') {
        None => (name, None, rest.to_string()),
        Some((name, "refs")) => {
            let parts: Vec<&str> = rest.splitn(3, '/').collect();
            let [kind, revision, file] = parts[..] else {
                return Err(shape());
            };
            (name, Some(format!("refs/{kind}/{revision}")), file.to_string())
        }
        Some((name, revision)) => (name, Some(revision.to_string()), rest.to_string()),
    };
    if FileName::parse(&file).is_err() {
        return Err(shape());
    }
    Ok(DatasetFile {
        repository: Repository::dataset(&format!("{organisation}/{name}"), revision.as_deref())?,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_the_split_its_use_implies() {
        let named = |corpus: &str, purpose| spelled_out(Path::new(corpus), purpose).map_err(|error| error.to_string());
        let expect = |corpus: &str, join| Ok((PathBuf::from(corpus), join));
        assert_eq!(
            named("hub:wikitext2", Use::Evaluation),
            expect("hub:wikitext2:test", Some(Join::Wikitext))
        );
        assert_eq!(
            named("hub:c4", Use::Calibration),
            expect("hub:c4:train", Some(Join::Spaces))
        );
        assert_eq!(
            named("hub:ptb:validation", Use::Calibration),
            expect("hub:ptb:validation", Some(Join::Spaces))
        );
        assert_eq!(named("c4.jsonl", Use::Calibration), expect("c4.jsonl", None));
        let error = named("hub:wikitext3", Use::Evaluation).expect_err("unknown");
        assert!(
            error.contains("unknown corpus `wikitext3`; did you mean `wikitext2`?"),
            "{error}"
        );
        let error = named("hub:c4:test", Use::Evaluation).expect_err("no such split");
        assert!(error.contains("`c4` has no split `test`"), "{error}");
    }

    #[test]
    fn a_file_of_any_data_set_can_be_spelled_out() {
        let found = |corpus: &str| file(Path::new(corpus)).map(|file| file.expect("on the hub").to_string());
        let text = found("hub:org/name@refs/convert/parquet/a/b.parquet").expect("three parts of revision");
        assert_eq!(text, "a/b.parquet of data set org/name (revision refs/convert/parquet)");
        let text = found("hub:org/name/b.parquet").expect("the main branch");
        assert_eq!(text, "b.parquet of data set org/name (revision main)");
        for bad in [
            "hub:org/name",
            "hub:org/name/",
            "hub:org/name/../x",
            "hub:../name/x",
            "hub:org/name@/x",
        ] {
            assert!(found(bad).is_err(), "{bad}");
        }
    }
}
