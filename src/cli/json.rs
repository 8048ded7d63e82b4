//! Results as JSON in a file that the user names.

use crate::error::{Error, Result};
use crate::files::{Access, OutputFile};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The file of `--json`, if one was named.
pub(super) struct JsonOutput<'a>(Option<OutputFile<'a>>);

impl<'a> JsonOutput<'a> {
    /// Checks before the work that the result can be written to `path`; see [`OutputFile`].
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

    /// Writes the result, if a file was named for it.
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

/// What a JSON file holds, if it is one of this kind.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_reader(BufReader::new(File::open(path).ok()?)).ok()
}
