//! Sums of formulas on the device.

use super::piece::Piece;
use super::written::{Written, fit};
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, SUM_ROWS};
use crate::backend::gpu::{grid, shader};
use crate::error::Result;
use crate::prune::values::{Over, Values};

/// Number of formulas that one kernel can add up: one per component of a vector.
const SUMMED: usize = 4;

impl Piece<'_> {
    /// Runs a kernel of `sums.wgsl`: sums of up to four formulas over a matrix of `dim`. The result has the sums of
    /// each row, or of each column in each group of [`SUM_ROWS`] rows.
    pub fn add_up(&self, dim: (usize, usize), over: Over, formulas: &[&Values], into: &Memory) -> Result<()> {
        let (rows, columns) = dim;
        let device = self.gpu.hardware();
        let written = Written::new(self.gpu, formulas, dim)?;
        let mut parts = written.expressions.clone();
        parts.resize(SUMMED, "0.0".to_string());
        let (entry, groups) = match over {
            Over::Row => ("row_sums", grid(rows)),
            _ => (
                "column_sums",
                [columns.div_ceil(64) as u32, rows.div_ceil(SUM_ROWS) as u32, 1],
            ),
        };
        let weight = if written.reads_weight {
            "f32(weights[place])"
        } else {
            "0.0"
        };
        let kernel = Kernel::new(shader::SUMS, entry)
            .with_type("W", self.current().element.name())
            .with_constant("COUNT", formulas.len() as u32)
            .with_function("values", format!("vec4({})", parts.join(", ")))
            .with_function("weight_at", weight.to_string());
        let parameters = parameters::Sums {
            formula: written.parameters,
            rows: rows as u32,
            columns: columns as u32,
            words: columns.div_ceil(32) as u32,
        };
        let nothing = device.nothing();
        let mask = self.mask_for(&written)?;
        let weights = if written.reads_weight {
            &self.current().memory
        } else {
            nothing
        };
        let mask = read(mask.as_ref().map_or(nothing, |mask| mask));
        let mut bound = vec![read(weights), read(&written.factors), write(into), mask];
        bound.extend(written.bound(nothing));
        device.run(&kernel, &parameters, &bound, groups)
    }

    /// Has sums of up to four formulas over the weights made.
    fn adding(&self, over: Over, formulas: &[&Values]) -> Result<Adding> {
        let (rows, columns) = self.size();
        let count = formulas.len();
        let (pieces, length) = match over {
            Over::Row => (1, rows),
            _ => (rows.div_ceil(SUM_ROWS), columns),
        };
        let sums = self.gpu.hardware().allocate((count * pieces * length * 4) as u64)?;
        self.add_up((rows, columns), over, formulas, &sums)?;
        Ok(Adding {
            sums,
            count,
            pieces,
            length,
        })
    }

    /// The sums of formulas over the rows or columns of the weights; see [`LayerView::sums`](super::super::LayerView::sums). They come
    /// back together.
    pub fn all_sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>> {
        let mut coming: Vec<(&[usize], Adding)> = Vec::new();
        let places = [Over::Row, Over::Column]
            .map(|over| -> Vec<usize> { (0..wanted.len()).filter(|place| wanted[*place].0 == over).collect() });
        for (over, places) in [Over::Row, Over::Column].into_iter().zip(&places) {
            let mut rest = &places[..];
            while !rest.is_empty() {
                // One kernel adds up as many as it has room for the operands of, and one at least.
                let formulas: Vec<&Values> = rest.iter().take(SUMMED).map(|place| &wanted[*place].1).collect();
                let fitting = (2..=formulas.len()).rev().find(|count| fit(&formulas[..*count]));
                let (now, later) = rest.split_at(fitting.unwrap_or(1));
                coming.push((now, self.adding(over, &formulas[..now.len()])?));
                rest = later;
            }
        }
        let parts: Vec<_> = coming
            .iter()
            .map(|(_, adding)| (&adding.sums, adding.bytes()))
            .collect();
        let brought = self.bring(&parts)?;
        let mut sums = vec![Vec::new(); wanted.len()];
        for ((places, adding), words) in coming.iter().zip(&brought) {
            for (place, found) in places.iter().zip(adding.added(bytemuck::cast_slice(words))) {
                sums[*place] = found;
            }
        }
        Ok(sums)
    }
}

/// Sums of some formulas on their way.
struct Adding {
    sums: Memory,
    /// Number of formulas.
    count: usize,
    /// Number of pieces that each sum consists of.
    pieces: usize,
    /// Number of rows or columns with a sum.
    length: usize,
}

impl Adding {
    fn bytes(&self) -> u64 {
        (self.count * self.pieces * self.length * 4) as u64
    }

    /// The sums of each formula, with their pieces added up.
    fn added(&self, sums: &[f32]) -> Vec<Vec<f64>> {
        let mut added = vec![vec![0.0; self.length]; self.count];
        // In the order in which they lie in memory.
        for piece in sums.chunks_exact(self.count * self.length) {
            for (which, added) in added.iter_mut().enumerate() {
                let parts = piece[which..].iter().step_by(self.count);
                added
                    .iter_mut()
                    .zip(parts)
                    .for_each(|(added, part)| *added += f64::from(*part));
            }
        }
        added
    }
}
