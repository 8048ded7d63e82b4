//! One weight file of an archive becomes the original's again.
//!
//! Everything is checked while it passes: the parts of a matrix against each other, every tensor and the file against
//! the manifest's hashes. Memory holds pieces of rows, whatever an archive says of its sizes.

use super::layout::{ArchivedFile, BITMASK, COMPRESSED, PIECE, ROW_OFFSETS, SHAPE, StoredMatrix};
use super::manifest::{Archived, MANIFEST};
use crate::data::digest::{FileDigest, RunningDigest};
use crate::error::{Error, Located, Result};
use crate::files::header::{Header, HeaderEntry};
use safetensors::Dtype;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The archived tensors that a matrix is restored from.
struct Parts<'a> {
    values: &'a HeaderEntry,
    bits: &'a HeaderEntry,
    offsets: &'a HeaderEntry,
    shape: &'a HeaderEntry,
}

/// How a tensor of the original is restored.
enum Plan<'a> {
    Plain(&'a HeaderEntry),
    Compressed(StoredMatrix<'a>, Parts<'a>),
}

/// Collects the restored bytes, hashes them and writes them.
struct Output<'a> {
    write: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    pending: Vec<u8>,
    whole: RunningDigest,
    tensor: RunningDigest,
}

impl Output<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.whole.update(bytes);
        self.tensor.update(bytes);
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        (self.write)(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

/// The data of one tensor of the archived file, read through its own reader.
struct Part<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    /// Number of bytes that have not been read yet.
    left: u64,
}

impl<'a> Part<'a> {
    fn open(path: &'a Path, stored: &ArchivedFile, entry: &HeaderEntry) -> Result<Self> {
        let fail = |source| Error::reading(path, source);
        let mut file = File::open(path).map_err(fail)?;
        file.seek(SeekFrom::Start(stored.data + entry.start)).map_err(fail)?;
        Ok(Part {
            path,
            reader: BufReader::with_capacity(PIECE, file),
            left: entry.bytes(),
        })
    }

    /// Reads as many bytes as `bytes` has; false if the tensor has fewer left.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool> {
        if self.left < bytes.len() as u64 {
            return Ok(false);
        }
        self.left -= bytes.len() as u64;
        let read = self.reader.read_exact(bytes);
        read.map_err(|source| Error::reading(self.path, source))?;
        Ok(true)
    }

    /// Reads the next whole number; `None` at the end of the data.
    fn number(&mut self) -> Result<Option<i64>> {
        let mut bytes = [0; 8];
        Ok(self.fill(&mut bytes)?.then(|| i64::from_le_bytes(bytes)))
    }
}

/// Restores a weight file from its archived form at `path`, which begins with a mark since format 3; `write` receives its bytes in
/// order. Returns the number of tensors that were expanded.
///
/// # Errors
/// The archived file cannot be read, or something in it is not what was archived; those of `write`.
pub(super) fn unpack(
    path: &Path,
    archived: &Archived,
    digest: &FileDigest,
    marked: bool,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    let found = FileDigest::of_file(path)?;
    let stored = ArchivedFile::read(path, found.bytes, marked)?;
    let original = archived.header().at(MANIFEST)?;
    let mut output = Output {
        write,
        pending: Vec::new(),
        whole: RunningDigest::default(),
        tensor: RunningDigest::default(),
    };
    output.push(&original.stored())?;
    let mut expanded = 0;
    for (tensor, plan) in original
        .tensors
        .iter()
        .zip(plans(&original, &stored.header).at(path.display())?)
    {
        output.tensor = RunningDigest::default();
        let refuse = |what: String| {
            Error::input(what)
                .at(format!("tensor `{}`", tensor.name))
                .at(path.display())
        };
        let open = |entry: &HeaderEntry| Part::open(path, &stored, entry);
        match plan {
            Plan::Plain(entry) => {
                let mut part = open(entry)?;
                let mut piece = vec![0; PIECE.min(part.left as usize)];
                while part.left > 0 {
                    let bytes = piece.len().min(part.left as usize);
                    part.fill(&mut piece[..bytes])?;
                    output.push(&piece[..bytes])?;
                }
            }
            Plan::Compressed(matrix, parts) => {
                let mut shape = open(parts.shape)?;
                let sizes = [shape.number()?, shape.number()?];
                if sizes != [matrix.rows, matrix.columns].map(|size| i64::try_from(size).ok()) {
                    let wanted = [matrix.rows, matrix.columns];
                    return Err(refuse(format!("is {wanted:?}, but its archived shape says otherwise")));
                }
                let parts = [open(parts.values)?, open(parts.bits)?, open(parts.offsets)?];
                if let Some(fault) = expand(&matrix, parts, &mut output)? {
                    return Err(refuse(fault));
                }
                expanded += 1;
            }
        }
        let now = std::mem::take(&mut output.tensor).finish().sha256;
        if archived.tensors.get(&tensor.name) != Some(&now) {
            return Err(refuse("is not what was archived: it has another SHA-256".to_string()));
        }
    }
    output.flush()?;
    let restored = output.whole.finish();
    if restored != *digest {
        let message = format!("restores {restored}, but {MANIFEST} says {digest}");
        return Err(Error::input(message).at(path.display()));
    }
    if found != archived.archived {
        let message = format!(
            "its tensors are what was archived, but its header or its metadata are not: it has {found}, but {MANIFEST} says {}",
            archived.archived
        );
        return Err(Error::input(message).at(path.display()));
    }
    Ok(expanded)
}

/// How each tensor of the original is restored, in the order of their data. Checks that every tensor of the archived
/// file is used.
fn plans<'a>(original: &'a Header, stored: &'a Header) -> Result<Vec<Plan<'a>>> {
    let names: HashSet<&str> = original.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut entries: HashMap<&str, &HeaderEntry> = stored
        .tensors
        .iter()
        .map(|entry| (entry.name.as_str(), entry))
        .collect();
    let mut plans = Vec::new();
    for tensor in &original.tensors {
        let refuse = |what: &str| Err(Error::input(what).at(format!("tensor `{}`", tensor.name)));
        let plain = entries.remove(tensor.name.as_str());
        let matrix = StoredMatrix::of(tensor);
        let parts = matrix.as_ref().map(|matrix| {
            [COMPRESSED, BITMASK, ROW_OFFSETS, SHAPE].map(|ending| {
                let name = matrix.part(ending);
                // A tensor that the original calls so is no part of another one.
                entries.remove(name.as_str()).filter(|_| !names.contains(name.as_str()))
            })
        });
        plans.push(match (plain, matrix.zip(parts)) {
            (Some(_), Some((_, parts))) if parts.iter().any(Option::is_some) => {
                return refuse("is archived twice: as it is, and compressed");
            }
            (Some(entry), _) if (entry.dtype, &entry.shape) == (tensor.dtype, &tensor.shape) => Plan::Plain(entry),
            (None, Some((matrix, [Some(values), Some(bits), Some(offsets), Some(shape)]))) => {
                let fits = [
                    values.dtype == tensor.dtype && values.shape.len() == 1,
                    (bits.dtype, &bits.shape[..]) == (Dtype::U8, &[matrix.rows, matrix.row_bytes()]),
                    (offsets.dtype, &offsets.shape[..]) == (Dtype::I64, &[matrix.rows]),
                    (shape.dtype, &shape.shape[..]) == (Dtype::I64, &[2]),
                ];
                let places = [COMPRESSED, BITMASK, ROW_OFFSETS, SHAPE].iter().zip(fits);
                if let Some((part, _)) = places.into_iter().find(|(_, fits)| !fits) {
                    return refuse(&format!("its part `{}` has another shape or type", matrix.part(part)));
                }
                let parts = Parts {
                    values,
                    bits,
                    offsets,
                    shape,
                };
                Plan::Compressed(matrix, parts)
            }
            (Some(_), _) => return refuse("has another shape or type than the one that was archived"),
            (None, _) => return refuse("is missing from the archive, whole or in part"),
        });
    }
    match entries.keys().min() {
        Some(name) => Err(Error::input("was not in the archived model").at(format!("tensor `{name}`"))),
        None => Ok(plans),
    }
}

/// Restores a matrix with its zeros, row by row. Returns what is wrong with its parts, if anything is.
fn expand(matrix: &StoredMatrix, parts: [Part<'_>; 3], output: &mut Output) -> Result<Option<String>> {
    let [mut values, mut bits, mut offsets] = parts;
    let (width, columns) = (matrix.width, matrix.columns);
    let step = matrix.step().min(columns);
    let mut marks = vec![0u8; step.div_ceil(8)];
    let mut elements = vec![0u8; step * width];
    let mut taken = Vec::new();
    let mut seen = 0i64;
    for row in 0..matrix.rows {
        let uneven = || {
            Some(format!(
                "its bitmask does not have one bit for each value (output {row})"
            ))
        };
        match offsets.number()? {
            Some(offset) if offset == seen => {}
            Some(offset) if row == 0 => return Ok(Some(format!("its values begin at {offset}, not at 0"))),
            _ => {
                let before = row.saturating_sub(1);
                return Ok(Some(format!(
                    "its bitmask does not have one bit for each value that its row offsets say (output {before})"
                )));
            }
        }
        for first in (0..columns).step_by(step) {
            let here = step.min(columns - first);
            let marks = &mut marks[..here.div_ceil(8)];
            if !bits.fill(marks)? {
                return Ok(uneven());
            }
            let kept: u32 = marks.iter().map(|byte| byte.count_ones()).sum();
            if here % 8 > 0 && marks[here / 8] >> (here % 8) > 0 {
                return Ok(Some(format!(
                    "its bitmask marks columns it does not have (output {row})"
                )));
            }
            taken.resize(kept as usize * width, 0);
            if !values.fill(&mut taken)? {
                return Ok(uneven());
            }
            seen += i64::from(kept);
            let elements = &mut elements[..here * width];
            elements.fill(0);
            let mut next = taken.chunks_exact(width);
            for (column, element) in elements.chunks_exact_mut(width).enumerate() {
                if marks[column / 8] >> (column % 8) & 1 == 1
                    && let Some(value) = next.next()
                {
                    element.copy_from_slice(value);
                }
            }
            output.push(elements)?;
        }
    }
    let rest = values.left;
    Ok((rest > 0).then(|| "its bitmask does not have one bit for each value: values are left over".to_string()))
}
