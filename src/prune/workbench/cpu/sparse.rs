//! Products of a matrix of which most entries are 0, on the host.

use crate::backend::cpu::simd::vectorised;
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows of `B` whose columns are laid side by side: what is kept of a column fits in a few cache lines, and what is kept of
/// all columns in a processor's own cache.
const TILE: usize = 32;

/// The largest share of entries that are not 0 for which looking for them is faster, as one over it.
const SPARSE: usize = 8;

/// The nonzero entries of a matrix, row by row.
struct Entries {
    /// Where each row begins; one more than there are rows.
    begins: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Entries {
    /// `None` if there are too many of them.
    fn of(a: &Array2<f32>) -> Option<Self> {
        let rows = a.as_slice().expect("matrices of the workbench are contiguous");
        let counts = rows.par_chunks(a.ncols().max(1));
        let counts: Vec<usize> = counts
            .map(|row| row.iter().map(|value| usize::from(*value != 0.0)).sum())
            .collect();
        let total: usize = counts.iter().sum();
        if total * SPARSE > a.len() {
            return None;
        }
        let mut entries = Entries {
            begins: Vec::with_capacity(a.nrows() + 1),
            columns: Vec::with_capacity(total),
            values: Vec::with_capacity(total),
        };
        entries.begins.push(0);
        for row in rows.chunks(a.ncols().max(1)) {
            for (column, value) in row.iter().enumerate() {
                if *value != 0.0 {
                    entries.columns.push(column as u32);
                    entries.values.push(*value);
                }
            }
            entries.begins.push(entries.columns.len());
        }
        Some(entries)
    }

    fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.begins[row]..self.begins[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }
}

/// `A B^T` if most entries of `A` are 0; else `None`. Both are contiguous and fit each other.
pub fn sparse_product(a: &Array2<f32>, b: &Array2<f32>) -> Option<Array2<f32>> {
    let entries = Entries::of(a)?;
    let (rows, inputs, outputs) = (a.nrows(), a.ncols(), b.nrows());
    let mut into = Array2::zeros((rows, outputs));
    if into.is_empty() || inputs == 0 {
        return Some(into);
    }
    let b = b.as_slice().expect("matrices of the workbench are contiguous");
    let tiles = b.par_chunks(TILE * inputs).map(|rows_of_b| {
        let mut tile = vec![[0.0f32; TILE]; inputs];
        for (lane, row) in rows_of_b.chunks_exact(inputs).enumerate() {
            for (tile, value) in tile.iter_mut().zip(row) {
                tile[lane] = *value;
            }
        }
        let mut sums = vec![[0.0f32; TILE]; rows];
        for (row, sums) in sums.iter_mut().enumerate() {
            let (columns, values) = entries.row(row);
            vectorised(
                #[inline(always)]
                || *sums = combined(&tile, columns, values),
            );
        }
        sums
    });
    let tiles: Vec<Vec<[f32; TILE]>> = tiles.collect();
    let all = into.as_slice_mut().expect("a fresh array is contiguous");
    all.par_chunks_mut(outputs).enumerate().for_each(|(row, into)| {
        for (into, tile) in into.chunks_mut(TILE).zip(&tiles) {
            into.copy_from_slice(&tile[row][..into.len()]);
        }
    });
    Some(into)
}

/// The sum of some rows of a tile, times factors.
#[inline(always)]
fn combined(tile: &[[f32; TILE]], columns: &[u32], values: &[f32]) -> [f32; TILE] {
    let mut sums = [0.0f32; TILE];
    for (column, value) in columns.iter().zip(values) {
        let row = &tile[*column as usize];
        for (sum, entry) in sums.iter_mut().zip(row) {
            *sum += value * entry;
        }
    }
    sums
}
