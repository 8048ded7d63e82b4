//! What a check found.

use crate::error::{Error, ErrorKind, Result};
use std::path::Path;

/// What was found in one prunable tensor of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFinding {
    /// Name of the tensor.
    pub tensor: String,
    /// Number of outputs (rows) and inputs (columns).
    pub shape: (usize, usize),
    /// Number of elements that are zero.
    pub zeros: usize,
    /// The N:M patterns that the tensor satisfies, out of those that hardware and papers use.
    pub patterns: Vec<String>,
}

/// The result of checking a directory.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Findings for every prunable tensor.
    pub tensors: Vec<TensorFinding>,
    /// What `pruning.json` or `structure.json` says was done, if there is one.
    pub claimed: Option<String>,
    /// Number of files whose SHA-256 is the one in `pruning.json` or `structure.json`.
    pub files: Option<usize>,
    /// Number of tensors that are not prunable and are the same as in the other directory, bit for bit.
    pub identical: Option<usize>,
    /// Number of prunable tensors whose kept weights are the same as in the other directory, bit for bit.
    pub kept: Option<usize>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// Everything that is wrong, one message each.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Fraction of prunable weights that are zero.
    pub fn sparsity(&self) -> f64 {
        let zeros: usize = self.tensors.iter().map(|it| it.zeros).sum();
        let all: usize = self.tensors.iter().map(|it| it.shape.0 * it.shape.1).sum();
        zeros as f64 / all.max(1) as f64
    }

    /// Turns a verdict with faults into an error, which decides the exit code.
    ///
    /// # Errors
    /// Lists the faults.
    pub fn check(&self, folder: &Path) -> Result<()> {
        match self.listed() {
            None => Ok(()),
            Some(faults) => Err(Error::new(ErrorKind::Mismatch, faults).at(folder.display())),
        }
    }

    /// The faults as text, one per line; only the first ones if there are many.
    pub(crate) fn listed(&self) -> Option<String> {
        const MOST: usize = 20;
        let mut lines: Vec<String> = self.faults.iter().take(MOST).cloned().collect();
        if self.faults.len() > MOST {
            lines.push(format!("and {} more", self.faults.len() - MOST));
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}
