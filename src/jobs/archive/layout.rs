//! How an archive stores a matrix: the names of its parts, its bits, and how much of it is in memory at a time.

use crate::files::header::Entry;
use std::path::PathBuf;

pub const WEIGHT: &str = ".weight";
pub const COMPRESSED: &str = ".compressed";
pub const BITMASK: &str = ".bitmask";
pub const ROW_OFFSETS: &str = ".row_offsets";
pub const SHAPE: &str = ".shape";

/// Bytes of a tensor in memory at a time, about.
pub const PIECE: usize = 1 << 20;

/// What an archive takes, in bytes of tensor data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sizes {
    /// Every element stored.
    pub dense: u64,
    /// As archived.
    pub stored: u64,
    /// The least that any code could take that stores the non-zero elements as they are and their places
    /// as if each element of a matrix were zero independently.
    pub bound: f64,
    /// Tensors that were compressed.
    pub compressed: usize,
    /// Tensors that were left as they are.
    pub plain: usize,
    /// Folders of the directory that are no part of the model and not in the archive.
    pub left_out: Vec<PathBuf>,
}

/// A matrix of the original as the archive has it.
pub struct Matrix<'a> {
    /// Its name without [`WEIGHT`].
    pub stem: &'a str,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// Bytes per element.
    pub width: usize,
}

impl<'a> Matrix<'a> {
    /// A tensor that could be compressed.
    pub fn of(tensor: &'a Entry) -> Option<Self> {
        let stem = tensor.name.strip_suffix(WEIGHT)?;
        let [rows, columns] = tensor.shape[..] else {
            return None;
        };
        let width = tensor.dtype.bitsize() / 8;
        let whole = tensor.dtype.bitsize().is_multiple_of(8);
        (whole && tensor.bytes() > 0).then_some(Matrix {
            stem,
            rows,
            columns,
            width,
        })
    }

    /// The name of one of its four parts.
    pub fn part(&self, ending: &str) -> String {
        format!("{}{ending}", self.stem)
    }

    /// Bytes of bits for one row.
    pub fn row_bytes(&self) -> usize {
        self.columns.div_ceil(8)
    }

    /// Columns of one row that are in memory together: whole bytes of bits.
    pub fn step(&self) -> usize {
        (PIECE / self.width).next_multiple_of(8)
    }
}
