//! Where an experiment was written: its file, and the places in it that name other files.

use super::problems::{Problems, WHOLE, shown};
use crate::error::Error;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of an experiment that names files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The model with this label.
    Model(String),
    /// The calibration text.
    Calibration,
    /// The gradients of the model's loss.
    Gradients,
    /// The evaluation with this label.
    Evaluation(String),
    /// The number of windows of the evaluation with this label.
    Windows(String),
    /// The zero-shot task with this name.
    Task(String),
    /// The prompts of the generation with this label.
    Prompts(String),
    /// The examples of the generation with this label.
    Examples(String),
    /// The method with this label.
    Method(String),
}

/// The file of an experiment; nothing, if it was typed as arguments or made by a program. It decides nothing, so all are equal.
#[derive(Debug, Clone, Default)]
pub struct Origin(Option<Arc<Written>>);

#[derive(Debug)]
struct Written {
    path: PathBuf,
    text: String,
    /// Where parts name their files.
    places: Vec<(Part, Range<usize>)>,
}

impl PartialEq for Origin {
    fn eq(&self, _other: &Origin) -> bool {
        true
    }
}

impl Origin {
    /// A file with this text, in which parts name their files at these places.
    pub fn new(path: &Path, text: &str, places: Vec<(Part, Range<usize>)>) -> Origin {
        Origin(Some(Arc::new(Written {
            path: path.to_path_buf(),
            text: text.to_string(),
            places,
        })))
    }

    /// Whether the experiment is that of a file.
    pub fn is_file(&self) -> bool {
        self.0.is_some()
    }

    /// An error about a part's files, with the place in the file where the part names them.
    pub fn placed(&self, part: &Part, error: Error) -> Error {
        let place = self.0.as_ref().and_then(|written| {
            let place = written.places.iter().find(|(known, _)| known == part);
            place.map(|(_, span)| (written, span))
        });
        match place {
            None => error,
            Some((written, span)) => Error::new(error.kind(), shown(&written.path, &written.text, span, &error)),
        }
    }

    /// The error about files that are not there, each with what is said of it, and with the place in the file where it is named.
    pub(super) fn lacks<'a>(&self, missing: impl Iterator<Item = (&'a Part, &'a str)>) -> Error {
        let Some(written) = &self.0 else {
            let each: Vec<&str> = missing.map(|(_, said)| said).collect();
            return Error::input(each.join("\n"));
        };
        // One name may stand for several files.
        let mut places: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
        let mut count = 0;
        for (missing, said) in missing {
            let place = written.places.iter().find(|(part, _)| part == missing);
            let span = place.map_or(&WHOLE, |(_, span)| span);
            places.entry((span.start, span.end)).or_default().push(said);
            count += 1;
        }
        let mut problems = Problems::default();
        for ((start, end), said) in places {
            problems.add(start..end, Error::input(said.join("\n")));
        }
        let heading = |_places: usize| format!("{}: {count} files or folders are not there", written.path.display());
        let said = problems.told(&written.path, &written.text, heading);
        said.unwrap_or_else(|| Error::input("files are missing"))
    }
}
