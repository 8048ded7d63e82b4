//! What a check found.

use crate::error::{Error, ErrorKind, Result};
use std::path::Path;

/// What was found in one prunable tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFinding {
    /// Tensor name.
    pub tensor: String,
    /// `(outputs, inputs)`.
    pub shape: (usize, usize),
    /// Elements that are zero.
    pub zeros: usize,
    /// The N:M patterns it satisfies, of those that hardware and papers use.
    pub patterns: Vec<String>,
}

/// What was found in a directory.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Every prunable tensor.
    pub tensors: Vec<TensorFinding>,
    /// What `pruning.json` says was done, if there is one.
    pub claimed: Option<String>,
    /// Files that are what `pruning.json` says, by their SHA-256.
    pub files: Option<usize>,
    /// Tensors outside the prunable ones that are bit for bit those of the other directory.
    pub identical: Option<usize>,
    /// Prunable tensors whose weights that stayed are bit for bit those of the other directory.
    pub kept: Option<usize>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// Everything that is not as it should be.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Fraction of prunable weights that are zero.
    pub fn sparsity(&self) -> f64 {
        let zeros: usize = self.tensors.iter().map(|it| it.zeros).sum();
        let all: usize = self.tensors.iter().map(|it| it.shape.0 * it.shape.1).sum();
        zeros as f64 / all.max(1) as f64
    }

    /// An error when anything is not as it should be, for the exit code.
    ///
    /// # Errors
    /// Lists the faults.
    pub fn check(&self, folder: &Path) -> Result<()> {
        match self.listed() {
            None => Ok(()),
            Some(faults) => Err(Error::new(ErrorKind::Mismatch, faults).at(folder.display())),
        }
    }

    /// The faults, one a line, as many as somebody may want to read.
    pub(crate) fn listed(&self) -> Option<String> {
        const MOST: usize = 20;
        let mut lines: Vec<String> = self.faults.iter().take(MOST).cloned().collect();
        if self.faults.len() > MOST {
            lines.push(format!("and {} more", self.faults.len() - MOST));
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}
