//! How an archive stores a matrix: the names of its parts, its bits, and how much of it is in memory at a time.

use crate::files::header::HeaderEntry;
use std::path::PathBuf;

pub const WEIGHT: &str = ".weight";
pub const COMPRESSED: &str = ".compressed";
pub const BITMASK: &str = ".bitmask";
pub const ROW_OFFSETS: &str = ".row_offsets";
pub const SHAPE: &str = ".shape";

/// About how many bytes of a tensor are in memory at a time.
pub const PIECE: usize = 1 << 20;

/// The sizes of an archive, in bytes of tensor data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sizes {
    /// Size if every element is stored.
    pub dense: u64,
    /// Size in the archive.
    pub stored: u64,
    /// A lower bound for every code that stores the non-zero elements as they are, if each element of a matrix is
    /// zero independently of the others.
    pub bound: f64,
    /// Number of tensors that were compressed.
    pub compressed: usize,
    /// Number of tensors that were stored as they are.
    pub plain: usize,
    /// Folders in the directory that do not belong to the model and are not in the archive.
    pub left_out: Vec<PathBuf>,
}

/// A matrix of the original that the archive stores compressed.
pub struct StoredMatrix<'a> {
    /// Name of its tensor without the ending [`WEIGHT`].
    pub stem: &'a str,
    /// Number of rows (outputs).
    pub rows: usize,
    /// Number of columns (inputs).
    pub columns: usize,
    /// Number of bytes per element.
    pub width: usize,
}

impl<'a> StoredMatrix<'a> {
    /// The matrix of a tensor; `None` if the tensor cannot be compressed.
    pub fn of(tensor: &'a HeaderEntry) -> Option<Self> {
        let stem = tensor.name.strip_suffix(WEIGHT)?;
        let [rows, columns] = tensor.shape[..] else {
            return None;
        };
        let width = tensor.dtype.bitsize() / 8;
        let whole = tensor.dtype.bitsize().is_multiple_of(8);
        (whole && tensor.bytes() > 0).then_some(StoredMatrix {
            stem,
            rows,
            columns,
            width,
        })
    }

    /// The name of one of the tensors that the archive stores for the matrix.
    pub fn part(&self, ending: &str) -> String {
        format!("{}{ending}", self.stem)
    }

    /// Number of bytes for the bits of one row, one bit per column.
    pub fn row_bytes(&self) -> usize {
        self.columns.div_ceil(8)
    }

    /// Number of columns of one row that are in memory at a time; their bits fill whole bytes.
    pub fn step(&self) -> usize {
        (PIECE / self.width).next_multiple_of(8)
    }
}
