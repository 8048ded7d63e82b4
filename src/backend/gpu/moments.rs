//! Moments of the inputs of layers, gathered and kept on the device.

use super::device::{Kernel, Memory, read, write};
use super::open::{Gpu, grid};
use super::parameters::{self, Elementwise, LANES, SQUARE_ROWS, TILE};
use super::product::Outer;
use super::shader;
use super::tensor::{Element, Tensor};
use crate::backend::moments::{Moments, Needs, SequenceSums};
use crate::error::Result;
use std::sync::Arc;

/// Moments of a layer's inputs on the device.
pub struct DeviceMoments {
    inputs: usize,
    tokens: usize,
    /// For each feature a sum and the part of it that rounding removed.
    squares: Option<Memory>,
    /// The Gram matrix `(inputs, inputs)`, with only the lower triangle filled; statistics share it.
    pub(crate) gram: Option<Arc<Memory>>,
    /// Products with the dense model's inputs `(inputs, inputs)`, in single precision.
    pub(crate) cross: Option<Arc<Tensor>>,
    /// Products of the dense model's inputs with themselves `(inputs, inputs)`, in single precision.
    pub(crate) goal: Option<Arc<Tensor>>,
    /// The sums over sequences, if they were asked for.
    sums: Option<DeviceSums>,
}

/// Sums over sequences that are still on the device.
#[derive(Default)]
struct DeviceSums {
    /// Sums of pieces of sequences `(sequences, pieces, inputs)`, batch by batch, with the number of sequences and
    /// of pieces.
    batches: Vec<(Memory, usize, usize)>,
    /// The weight of each sequence.
    weights: Vec<f64>,
}

impl Gpu {
    /// Empty accumulators; see [`Backend::moments`](crate::backend::Backend::moments).
    pub(super) fn empty_moments(&self, inputs: usize, needs: Needs) -> Result<DeviceMoments> {
        let zeros = |elements: usize| {
            let memory = self.device.allocate((elements * 4) as u64)?;
            self.device.clear(&memory)?;
            Ok(memory)
        };
        let products = |wanted: bool| -> Result<Option<Arc<Tensor>>> {
            if !wanted {
                return Ok(None);
            }
            let sum = self.tensor(inputs, inputs, Element::F32)?;
            self.device.clear(&sum.memory)?;
            Ok(Some(Arc::new(sum)))
        };
        Ok(DeviceMoments {
            inputs,
            tokens: 0,
            squares: needs.squares.then(|| zeros(2 * inputs)).transpose()?,
            gram: needs.gram.then(|| zeros(inputs * inputs).map(Arc::new)).transpose()?,
            cross: products(needs.cross)?,
            goal: products(needs.goal_gram)?,
            sums: needs.means.then(DeviceSums::default),
        })
    }

    /// Adds the rows of `x`; see [`Backend::accumulate`](crate::backend::Backend::accumulate).
    pub(super) fn add_moments(&self, moments: &mut DeviceMoments, x: &Tensor) -> Result<()> {
        let element = x.element.name();
        let pieces = x.rows.div_ceil(SQUARE_ROWS);
        let parameters = parameters::Moments {
            rows: x.rows as u32,
            width: x.columns as u32,
            pieces: pieces as u32,
            length: x.rows as u32,
        };
        if let Some(squares) = &moments.squares {
            let sums = self.device.allocate((pieces * x.columns * 4) as u64)?;
            let four = x.columns.is_multiple_of(4);
            let columns = if four { x.columns / 4 } else { x.columns };
            let kernel = Kernel::new(shader::SQUARES, "squares").of_features(&[("X", x.element)], four);
            let groups = [columns.div_ceil(64) as u32, pieces as u32, 1];
            self.device
                .run(&kernel, &parameters, &[read(&x.memory), write(&sums)], groups)?;
            let kernel = Kernel::new(shader::MOMENTS, "collect");
            let groups = [x.columns.div_ceil(LANES) as u32, 1, 1];
            self.device
                .run(&kernel, &parameters, &[read(&sums), write(squares)], groups)?;
        }
        if let Some(gram) = &moments.gram {
            let bound = [read(&x.memory), write(gram)];
            if self.multiplies_outer([x, x]) {
                self.add_outer([x, x], (0, x.rows), gram, Outer::Triangle)?;
            } else if x.columns.is_multiple_of(4) {
                let kernel = Kernel::new(shader::GRAM_F32, "gram").with_type("X4", x.element.four());
                let tiles = x.columns.div_ceil(TILE);
                let parameters = parameters::Gram {
                    rows: x.rows as u32,
                    columns: x.columns as u32,
                    tiles: tiles as u32,
                };
                self.device
                    .run(&kernel, &parameters, &bound, grid(tiles * (tiles + 1) / 2))?;
            } else {
                let tiles = x.columns.div_ceil(64) as u32;
                let kernel = Kernel::new(shader::MOMENTS, "gram").with_type("X", element);
                self.device.run(&kernel, &parameters, &bound, [tiles, tiles, 1])?;
            }
        }
        moments.tokens += x.rows;
        Ok(())
    }

    /// Adds products with the dense model's inputs; see [`Backend::accumulate_cross`](crate::backend::Backend::accumulate_cross).
    pub(super) fn add_cross(&self, moments: &mut DeviceMoments, x: &Tensor, dense: &Tensor) -> Result<()> {
        if moments.cross.is_none() && moments.goal.is_none() {
            return Ok(());
        }
        let right = self.transposed(dense)?;
        let add = |sum: &Option<Arc<Tensor>>, left: &Tensor| match sum {
            None => Ok(()),
            Some(sum) => {
                let product = self.multiply(&right, None, left, Element::F32)?;
                self.each("add", sum, Some(&product), Elementwise::default())
            }
        };
        add(&moments.cross, &self.transposed(x)?)?;
        add(&moments.goal, &right)
    }

    /// Adds sums over sequences; see [`Backend::accumulate_sums`](crate::backend::Backend::accumulate_sums).
    pub(super) fn add_sums(&self, moments: &mut DeviceMoments, x: &Tensor, weights: &[f64]) -> Result<()> {
        let Some(found) = &mut moments.sums else {
            return Ok(());
        };
        let length = x.rows / weights.len();
        let pieces = length.div_ceil(SQUARE_ROWS);
        let parameters = parameters::Moments {
            rows: x.rows as u32,
            width: x.columns as u32,
            pieces: pieces as u32,
            length: length as u32,
        };
        let groups = [x.columns.div_ceil(64) as u32, (weights.len() * pieces) as u32, 1];
        let sums = self.device.allocate((weights.len() * pieces * x.columns * 4) as u64)?;
        let kernel = Kernel::new(shader::MOMENTS, "sequence_sums").with_type("X", x.element.name());
        self.device
            .run(&kernel, &parameters, &[read(&x.memory), write(&sums)], groups)?;
        found.batches.push((sums, weights.len(), pieces));
        found.weights.extend(weights);
        Ok(())
    }

    /// Reads moments without their Gram matrix.
    pub(crate) fn read_squares(&self, moments: &DeviceMoments) -> Result<Moments> {
        let squares = match &moments.squares {
            Some(memory) => self
                .values(memory, 2 * moments.inputs)?
                .chunks_exact(2)
                .map(|pair| pair[0] + pair[1])
                .collect(),
            None => vec![0.0; moments.inputs],
        };
        Ok(Moments {
            tokens: moments.tokens,
            squares,
            gram: None,
            cross: None,
            goal: None,
            sums: moments
                .sums
                .as_ref()
                .map(|sums| self.read_sums(sums, moments.inputs))
                .transpose()?,
        })
    }

    /// The sums over sequences, with the pieces of each added up in double precision.
    fn read_sums(&self, found: &DeviceSums, inputs: usize) -> Result<SequenceSums> {
        let mut sums = Vec::with_capacity(found.weights.len());
        for (memory, sequences, pieces) in &found.batches {
            let values = self.values(memory, sequences * pieces * inputs)?;
            for sequence in values.chunks_exact(pieces * inputs) {
                let mut sum = vec![0.0; inputs];
                for piece in sequence.chunks_exact(inputs) {
                    sum.iter_mut().zip(piece).for_each(|(sum, piece)| *sum += piece);
                }
                sums.push(sum);
            }
        }
        Ok(SequenceSums {
            sums,
            weights: found.weights.clone(),
        })
    }
}
