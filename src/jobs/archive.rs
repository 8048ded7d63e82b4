//! A smaller file for the same weights: zeros are left out, a bit says where they were.
//!
//! The layout of every compressed tensor is the one that compressed-tensors called `sparse-bitmask` (its
//! releases up to 0.14 read it): `X.weight` becomes `X.compressed` (the non-zero elements, row-major),
//! `X.bitmask` (rows of bits, lowest bit first), `X.row_offsets` and `X.shape`. It saves storage and
//! nothing else: programs expand it before they compute. Owns both directions, which undo each other bit
//! for bit; a matrix that would not become smaller is left as it is.

use crate::error::{Error, Located, Result};
use crate::files::Staging;
use crate::model::export::copy_companions;
use crate::model::weights::{INDEX, StoredFile, StoredTensor, WeightFiles};
use crate::progress::Progress;
use safetensors::Dtype;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const WEIGHT: &str = ".weight";
const COMPRESSED: &str = ".compressed";
const BITMASK: &str = ".bitmask";
const ROW_OFFSETS: &str = ".row_offsets";
const SHAPE: &str = ".shape";

/// What an archive takes, in bytes of tensor data.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
}

/// A tensor to be written.
struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Archives the model directory `folder` in `out`.
///
/// # Errors
/// The directory cannot be read, holds an archive already, or the disk refuses.
pub fn compress(folder: &Path, out: &Path, progress: &dyn Progress) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    rewrite(folder, out, progress, |stored| {
        if let Some(tensor) = stored.tensors.iter().find(|tensor| tensor.name.ends_with(BITMASK)) {
            let message = format!("holds an archive already (tensor `{}`)", tensor.name);
            return Err(Error::input(message).at(stored.name));
        }
        Ok(stored
            .tensors
            .iter()
            .flat_map(|tensor| pack(tensor, &mut sizes))
            .collect())
    })?;
    Ok(sizes)
}

/// Restores in `out` the model directory that the archive `folder` was made from.
///
/// # Errors
/// The directory cannot be read, an archived tensor contradicts itself, or the disk refuses.
pub fn expand(folder: &Path, out: &Path, progress: &dyn Progress) -> Result<usize> {
    let mut expanded = 0;
    rewrite(folder, out, progress, |stored| {
        let tensors: BTreeMap<&str, &StoredTensor> = stored.tensors.iter().map(|it| (it.name, it)).collect();
        let mut parts = Vec::new();
        for tensor in &stored.tensors {
            if let Some(stem) = tensor.name.strip_suffix(COMPRESSED) {
                let bitmask = tensors.get(&*format!("{stem}{BITMASK}"));
                let shape = tensors.get(&*format!("{stem}{SHAPE}"));
                if let Some((bitmask, shape)) = bitmask.zip(shape) {
                    parts.push(unpack(stem, tensor, bitmask, shape).at(stored.name)?);
                    expanded += 1;
                    continue;
                }
            }
            let belongs = [BITMASK, ROW_OFFSETS, SHAPE].into_iter().any(|ending| {
                let stem = tensor.name.strip_suffix(ending);
                stem.is_some_and(|stem| tensors.contains_key(&*format!("{stem}{COMPRESSED}")))
            });
            if !belongs {
                parts.push(plain(tensor));
            }
        }
        Ok(parts)
    })?;
    Ok(expanded)
}

/// Writes a directory whose weight files are made from those of another, one by one.
fn rewrite(
    folder: &Path,
    out: &Path,
    progress: &dyn Progress,
    mut parts_of: impl FnMut(&StoredFile<'_>) -> Result<Vec<Part>>,
) -> Result<()> {
    let staging = Staging::new(out)?;
    let files = WeightFiles::open(folder)?;
    copy_companions(folder, &staging)?;
    staging.copy_pruning(folder)?;
    let sharded = files.each().count() > 1;
    progress.start(1, files.each().count());
    let mut places = BTreeMap::new();
    let mut total = 0;
    for stored in files.each() {
        progress.cell(stored.name);
        let parts = parts_of(&stored).at(folder.display())?;
        let announced = parts
            .iter()
            .map(|part| (part.name.as_str(), part.dtype, &part.shape[..]));
        let mut file = staging.tensors(stored.name, announced, stored.metadata)?;
        for part in &parts {
            file.put(&part.name, &part.bytes)?;
            total += part.bytes.len();
            places.insert(part.name.clone(), stored.name.to_string());
        }
        file.finish()?;
        progress.step()?;
    }
    if sharded {
        let index = json!({"metadata": {"total_size": total}, "weight_map": places});
        let text = format!("{index:#}\n");
        staging.write(INDEX, text.as_bytes())?;
    }
    staging.commit()?;
    progress.finish();
    Ok(())
}

fn plain(tensor: &StoredTensor) -> Part {
    Part {
        name: tensor.name.to_string(),
        dtype: tensor.dtype,
        shape: tensor.shape.to_vec(),
        bytes: tensor.bytes.to_vec(),
    }
}

/// Whether an element is the zero that pruning writes; a negative zero is not, since it has to come back.
fn is_zero(element: &[u8]) -> bool {
    element.iter().all(|byte| *byte == 0)
}

fn pack(tensor: &StoredTensor, sizes: &mut Sizes) -> Vec<Part> {
    sizes.dense += tensor.bytes.len() as u64;
    let (stem, width) = match (
        tensor.name.strip_suffix(WEIGHT),
        tensor.shape,
        tensor.dtype.bitsize() / 8,
    ) {
        (Some(stem), [_, columns], width @ 1..) if *columns > 0 && !tensor.bytes.is_empty() => (stem, width),
        _ => return leave(tensor, sizes),
    };
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let kept = tensor
        .bytes
        .chunks_exact(width)
        .filter(|element| !is_zero(element))
        .count();
    let row_bytes = columns.div_ceil(8);
    let stored = kept * width + rows * row_bytes + 8 * rows + 16;
    if stored >= tensor.bytes.len() {
        return leave(tensor, sizes);
    }
    let mut values = Vec::with_capacity(kept * width);
    let mut bits = vec![0u8; rows * row_bytes];
    let mut offsets = Vec::with_capacity(rows * 8);
    for (row, elements) in tensor.bytes.chunks_exact(columns * width).enumerate() {
        offsets.extend((values.len() as i64 / width as i64).to_le_bytes());
        for (column, element) in elements.chunks_exact(width).enumerate() {
            if !is_zero(element) {
                values.extend_from_slice(element);
                bits[row * row_bytes + column / 8] |= 1 << (column % 8);
            }
        }
    }
    sizes.stored += stored as u64;
    sizes.compressed += 1;
    sizes.bound += (kept * width) as f64 + entropy(kept, rows * columns) / 8.0;
    let shape: Vec<u8> = [rows as i64, columns as i64]
        .into_iter()
        .flat_map(i64::to_le_bytes)
        .collect();
    let part = |ending: &str, dtype, shape: &[usize], bytes: Vec<u8>| Part {
        name: format!("{stem}{ending}"),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    vec![
        part(COMPRESSED, tensor.dtype, &[kept], values),
        part(BITMASK, Dtype::U8, &[rows, row_bytes], bits),
        part(ROW_OFFSETS, Dtype::I64, &[rows], offsets),
        part(SHAPE, Dtype::I64, &[2], shape),
    ]
}

fn leave(tensor: &StoredTensor, sizes: &mut Sizes) -> Vec<Part> {
    sizes.stored += tensor.bytes.len() as u64;
    sizes.bound += tensor.bytes.len() as f64;
    sizes.plain += 1;
    vec![plain(tensor)]
}

/// Bits that say which `kept` of `all` independent elements are there.
fn entropy(kept: usize, all: usize) -> f64 {
    let share = |part: usize| {
        let p = part as f64 / all as f64;
        if part == 0 { 0.0 } else { -p * p.log2() }
    };
    all as f64 * (share(kept) + share(all - kept))
}

/// Every size is checked against the others before anything is allocated.
fn unpack(stem: &str, values: &StoredTensor, bitmask: &StoredTensor, shape: &StoredTensor) -> Result<Part> {
    let refuse = |what: &str| Error::input(format!("tensor `{stem}{COMPRESSED}`: {what}"));
    let width = values.dtype.bitsize() / 8;
    let numbers: Vec<i64> = shape
        .bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| i64::from_le_bytes(*b))
        .collect();
    let (rows, columns) = match (shape.dtype, &numbers[..]) {
        (Dtype::I64, [rows, columns]) if *rows > 0 && *columns > 0 => (*rows as usize, *columns as usize),
        _ => return Err(refuse("its shape is not two positive numbers")),
    };
    let row_bytes = columns.div_ceil(8);
    if bitmask.dtype != Dtype::U8 || rows.checked_mul(row_bytes) != Some(bitmask.bytes.len()) {
        return Err(refuse("its bitmask does not fit its shape"));
    }
    let ones: usize = bitmask.bytes.iter().map(|byte| byte.count_ones() as usize).sum();
    if width == 0 || ones.checked_mul(width) != Some(values.bytes.len()) {
        return Err(refuse("its bitmask does not have one bit for each value"));
    }
    // The bitmask is there, with a bit for each element, so the matrix is at most 64 times its size.
    let mut bytes = vec![0u8; rows * columns * width];
    let mut next = values.bytes.chunks_exact(width);
    for (row, bits) in bitmask.bytes.chunks_exact(row_bytes).enumerate() {
        for column in 0..8 * row_bytes {
            if bits[column / 8] >> (column % 8) & 1 == 0 {
                continue;
            }
            if column >= columns {
                return Err(refuse("its bitmask marks columns it does not have"));
            }
            let start = (row * columns + column) * width;
            bytes[start..start + width].copy_from_slice(next.next().expect("there are as many values as bits"));
        }
    }
    Ok(Part {
        name: format!("{stem}{WEIGHT}"),
        dtype: values.dtype,
        shape: vec![rows, columns],
        bytes,
    })
}
