//! Symmetric systems of which every row has only some unknowns, solved directly.

use crate::backend::cpu::simd::vectorised;
use ndarray::{Array2, ArrayView1, Axis};
use rayon::prelude::*;

/// A pivot that is at most this fraction of its diagonal entry is rounding: the unknown depends on the ones before it.
const DEPENDENT: f32 = 1e-6;

/// `X` with `X M = B` in the entries where `free` is not 0, and 0 elsewhere, for a symmetric positive definite `M`.
pub fn solve_free(matrix: &Array2<f32>, free: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    let mut solved = Array2::zeros(b.dim());
    solved
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(free.axis_iter(Axis(0)))
        .zip(b.axis_iter(Axis(0)))
        .for_each_init(System::default, |system, ((mut solved, free), b)| {
            system.take(matrix, free, b);
            system.eliminate();
            system.substitute();
            for (place, value) in system.places.iter().zip(&system.unknowns) {
                solved[*place] = *value;
            }
        });
    solved
}

/// The system of one row, whose memory is used again for the next.
#[derive(Default)]
struct System {
    /// The columns of the row's unknowns.
    places: Vec<usize>,
    /// The upper triangle row by row, each with its entry of the right-hand side at the end: first that of `M`, then that of `U`
    /// with `M = U^T U`.
    rows: Vec<f32>,
    /// Where the rows begin.
    starts: Vec<usize>,
    /// The diagonal of `M`.
    diagonal: Vec<f32>,
    unknowns: Vec<f32>,
}

impl System {
    fn take(&mut self, matrix: &Array2<f32>, free: ArrayView1<f32>, b: ArrayView1<f32>) {
        self.places.clear();
        let places = free.iter().enumerate().filter(|(_, free)| **free != 0.0);
        self.places.extend(places.map(|(place, _)| place));
        self.rows.clear();
        self.starts.clear();
        self.diagonal.clear();
        for (index, place) in self.places.iter().enumerate() {
            self.starts.push(self.rows.len());
            let entries = matrix.row(*place);
            let entries = entries.as_slice().expect("a matrix of the workbench is contiguous");
            self.diagonal.push(entries[*place]);
            self.rows
                .extend(self.places[index..].iter().map(|column| entries[*column]));
            self.rows.push(b[*place]);
        }
    }

    /// Cholesky's factorisation, which turns the right-hand side into `U^-T b` on the way.
    fn eliminate(&mut self) {
        let count = self.places.len();
        vectorised(
            #[inline(always)]
            || {
                for pivot in 0..count {
                    let (done, later) = self.rows.split_at_mut(self.starts[pivot] + count - pivot + 1);
                    let row = &mut done[self.starts[pivot]..];
                    let scale = match row[0] > DEPENDENT * self.diagonal[pivot] {
                        true => row[0].sqrt().recip(),
                        // This unknown is 0, and tells the others nothing.
                        false => 0.0,
                    };
                    row.iter_mut().for_each(|value| *value *= scale);
                    let mut later = later;
                    for index in pivot + 1..count {
                        let (first, rest) = later.split_at_mut(count - index + 1);
                        later = rest;
                        let factor = row[index - pivot];
                        let pairs = first.iter_mut().zip(&row[index - pivot..]);
                        pairs.for_each(|(value, pull)| *value -= factor * pull);
                    }
                }
            },
        );
    }

    /// `U x = U^-T b`, from the last unknown to the first.
    fn substitute(&mut self) {
        let count = self.places.len();
        self.unknowns.clear();
        self.unknowns.resize(count, 0.0);
        for index in (0..count).rev() {
            let row = &self.rows[self.starts[index]..][..count - index + 1];
            if row[0] == 0.0 {
                continue;
            }
            let known = row[1..count - index].iter().zip(&self.unknowns[index + 1..]);
            let sum: f32 = known.map(|(entry, unknown)| entry * unknown).sum();
            self.unknowns[index] = (row[count - index] - sum) / row[0];
        }
    }
}
