//! Results as JSON in a file that the user names.

use crate::error::{Error, Result};
use crate::files::{Access, OutputFile};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The output file of `--json`, if the option was given.
pub(super) struct JsonOutput<'a>(Option<OutputFile<'a>>);

impl<'a> JsonOutput<'a> {
    /// Checks, before the work begins, that the result can be written to `path`; see [`OutputFile`].
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn new(
        path: Option<&'a Path>,
        inputs: &'a [PathBuf],
        force: bool,
        ours: fn(&Path) -> bool,
    ) -> Result<Self> {
        let file = path.map(|path| OutputFile {
            path,
            inputs,
            force,
            ours,
            access: Access::OPEN,
        });
        if let Some(file) = &file {
            file.check()?;
        }
        Ok(JsonOutput(file))
    }

    /// Writes the result to the file, if the option was given.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, result: &impl Serialize) -> Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(result).map_err(|error| Error::writing(file.path, error))?;
        file.write((text + "\n").as_bytes())
    }
}

/// The content of a JSON file; `None` if it is not of type `T`.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_reader(BufReader::new(File::open(path).ok()?)).ok()
}
