//! One weight file of a model becomes one of an archive.
//!
//! The file is read twice, in pieces: once to hash it and to count what is not zero, so that the new header can be
//! written, and once to write the parts. What comes back from them is held against the hashes afterwards, so a file
//! that changes between the two readings is found.

use super::layout::{BITMASK, COMPRESSED, MARK, PIECE, ROW_OFFSETS, SHAPE, Sizes, StoredMatrix};
use super::manifest::Archived;
use super::rival::Rival;
use crate::data::digest::{FileDigest, RunningDigest};
use crate::error::{Error, Located, Result};
use crate::files::header::{Header, HeaderEntry};
use crate::files::{Access, Staging, input};
use crate::model::export::TensorFile;
use crate::model::folder::Found;
use safetensors::Dtype;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// How a tensor is stored.
enum Plan<'a> {
    Plain,
    /// Compressed; the number is that of its elements that are not zero.
    Compressed(StoredMatrix<'a>, usize),
}

/// A weight file that is being read.
struct Source<'a> {
    found: &'a Found,
    reader: BufReader<File>,
    piece: Vec<u8>,
}

/// Writes the archive's file for the weight file `found`, called `name`, with the access rights `access`. Returns
/// what is needed to restore it, and its digest.
///
/// # Errors
/// The file cannot be read or is malformed, or the disk refuses.
pub(super) fn pack(
    found: &Found,
    name: &str,
    access: Access,
    staging: &Staging,
    sizes: &mut Sizes,
    rival: &mut Rival,
) -> Result<(Archived, FileDigest)> {
    let place = found.place.display();
    let file = input::open(&found.place)?;
    let length = file
        .metadata()
        .map_err(|source| Error::reading(&found.place, source))?
        .len();
    let mut source = Source {
        found,
        reader: BufReader::with_capacity(PIECE, file),
        piece: Vec::new(),
    };
    let header = Header::read(&mut source.reader, length).at(&place)?;
    let names: HashSet<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();

    let mut whole = RunningDigest::default();
    whole.update(&header.stored());
    let mut tensors = BTreeMap::new();
    let mut plans = Vec::new();
    for tensor in &header.tensors {
        let matrix = StoredMatrix::of(tensor);
        let mut kept = 0;
        let mut running = RunningDigest::default();
        // Pieces end where elements do: a piece has a power of two bytes, and so has an element.
        source.each(tensor.bytes(), |bytes| {
            whole.update(bytes);
            running.update(bytes);
            rival.see(bytes);
            kept += matrix.as_ref().map_or(0, |matrix| count(bytes, matrix.width));
            Ok(())
        })?;
        tensors.insert(tensor.name.clone(), running.finish().sha256);
        plans.push(plan(tensor, matrix, kept, &names, sizes));
    }

    let announced: Vec<_> = header
        .tensors
        .iter()
        .zip(&plans)
        .flat_map(|(tensor, plan)| parts(tensor, plan))
        .collect();
    let listed = announced
        .iter()
        .map(|(part, dtype, shape)| (part.as_str(), *dtype, shape.as_slice()));
    let mut file = staging.tensors_after(MARK, name, listed, &header.metadata, access)?;
    source
        .reader
        .seek(SeekFrom::Start(header.data()))
        .map_err(|error| Error::reading(&found.place, error))?;
    for (tensor, plan) in header.tensors.iter().zip(&plans) {
        match plan {
            Plan::Plain => source.each(tensor.bytes(), |bytes| file.append(&tensor.name, bytes))?,
            Plan::Compressed(matrix, _) => source.compress(matrix, &mut file)?,
        }
    }
    file.finish()?;
    let archived = Archived {
        archived: FileDigest::of_file(&staging.path(name)).map_err(|error| staging.renamed(error))?,
        header: header.text,
        tensors,
    };
    Ok((archived, whole.finish()))
}

/// Whether an element is the zero that pruning writes. A negative zero is not, since it must be restored as it is.
fn is_zero(element: &[u8]) -> bool {
    element.iter().all(|byte| *byte == 0)
}

/// Number of elements that are not zero; `width` is the number of bytes per element.
fn count(bytes: &[u8], width: usize) -> usize {
    bytes.chunks_exact(width).filter(|element| !is_zero(element)).count()
}

fn plan<'a>(
    tensor: &HeaderEntry,
    matrix: Option<StoredMatrix<'a>>,
    kept: usize,
    names: &HashSet<&str>,
    sizes: &mut Sizes,
) -> Plan<'a> {
    sizes.dense += tensor.bytes();
    if let Some(matrix) = matrix {
        let (rows, width) = (matrix.rows, matrix.width);
        let stored = (kept * width + rows * matrix.row_bytes() + 8 * rows + 16) as u64;
        let taken =
            [COMPRESSED, BITMASK, ROW_OFFSETS, SHAPE].map(|ending| names.contains(matrix.part(ending).as_str()));
        if stored < tensor.bytes() && !taken.contains(&true) {
            sizes.stored += stored;
            sizes.compressed += 1;
            return Plan::Compressed(matrix, kept);
        }
    }
    sizes.stored += tensor.bytes();
    sizes.plain += 1;
    Plan::Plain
}

/// The entries for a tensor in the header of the archive's file.
fn parts(tensor: &HeaderEntry, plan: &Plan) -> Vec<(String, Dtype, Vec<usize>)> {
    match plan {
        Plan::Plain => vec![(tensor.name.clone(), tensor.dtype, tensor.shape.clone())],
        Plan::Compressed(matrix, kept) => vec![
            (matrix.part(COMPRESSED), tensor.dtype, vec![*kept]),
            (matrix.part(BITMASK), Dtype::U8, vec![matrix.rows, matrix.row_bytes()]),
            (matrix.part(ROW_OFFSETS), Dtype::I64, vec![matrix.rows]),
            (matrix.part(SHAPE), Dtype::I64, vec![2]),
        ],
    }
}

impl Source<'_> {
    /// Reads the next bytes of the file.
    fn next(&mut self, bytes: usize) -> Result<&[u8]> {
        self.piece.resize(bytes, 0);
        let read = self.reader.read_exact(&mut self.piece);
        read.map_err(|error| Error::reading(&self.found.place, error))?;
        Ok(&self.piece)
    }

    /// Reads the next `bytes` of the file and passes them on piece by piece.
    fn each(&mut self, bytes: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(PIECE as u64);
            take(self.next(piece as usize)?)?;
            left -= piece;
        }
        Ok(())
    }

    /// Writes the parts of a matrix whose data is next in the file.
    fn compress(&mut self, matrix: &StoredMatrix, file: &mut TensorFile) -> Result<()> {
        let names = [COMPRESSED, BITMASK, ROW_OFFSETS].map(|ending| matrix.part(ending));
        let mut parts: [Vec<u8>; 3] = Default::default();
        let mut seen: i64 = 0;
        for _ in 0..matrix.rows {
            parts[2].extend(seen.to_le_bytes());
            for first in (0..matrix.columns).step_by(matrix.step()) {
                let columns = matrix.step().min(matrix.columns - first);
                let elements = self.next(columns * matrix.width)?;
                let [values, bits, _] = &mut parts;
                for eight in elements.chunks(8 * matrix.width) {
                    let mut byte = 0u8;
                    for (bit, element) in eight.chunks_exact(matrix.width).enumerate() {
                        if !is_zero(element) {
                            values.extend_from_slice(element);
                            byte |= 1 << bit;
                            seen += 1;
                        }
                    }
                    bits.push(byte);
                }
                for (name, part) in names.iter().zip(&mut parts).filter(|(_, part)| part.len() >= PIECE) {
                    file.append(name, part)?;
                    part.clear();
                }
            }
        }
        for (name, part) in names.iter().zip(&parts) {
            file.append(name, part)?;
        }
        let shape = [matrix.rows, matrix.columns].map(|size| (size as i64).to_le_bytes());
        file.append(&matrix.part(SHAPE), shape.as_flattened())
    }
}
