//! How an archive stores weights: the names of its files, of the parts of a matrix, its bits, and how much is in memory at a time.

use crate::error::{Error, Located, Result};
use crate::files::header::{Header, HeaderEntry};
use crate::files::input;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// What an archive adds to the name of a weight file, so that no other program takes it for weights.
pub const ENDING: &str = ".zprune";

/// The beginning of an archived weight file, for people and programs that look into it. A safetensors file follows.
pub const MARK: &[u8; 64] = b"zprune archive, not a model: `zprune expand` restores the model\n";

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
    /// About what zstd makes of the tensors at its usual level, for comparison.
    pub zstd: u64,
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

/// An archived weight file whose header was read.
pub struct ArchivedFile {
    /// The header of the safetensors file in it.
    pub header: Header,
    /// Position in the file where the tensors' data begin.
    pub data: u64,
}

impl ArchivedFile {
    /// Reads the header of the archived file at `path`, which is `bytes` long. Archives of older formats have no [`MARK`].
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn read(path: &Path, bytes: u64, marked: bool) -> Result<Self> {
        let mut file = input::open(path)?;
        let before = match marked {
            true => MARK.len() as u64,
            false => 0,
        };
        let mut mark = Vec::new();
        let read = Read::by_ref(&mut file).take(before).read_to_end(&mut mark);
        read.map_err(|source| Error::reading(path, source))?;
        if marked && mark != MARK {
            let message = "is no archived weight file of this format: it does not begin as one";
            return Err(Error::input(message).at(path.display()));
        }
        let header = Header::read(file, bytes.saturating_sub(before)).at(path.display())?;
        Ok(ArchivedFile {
            data: before + header.data(),
            header,
        })
    }
}
