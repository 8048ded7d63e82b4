//! The vocabulary over matrices on the device.

use super::super::{Matrices, Swapped, Swapping};
use super::masks::{packed, unpacked};
use super::moves::moved;
use super::piece::{Piece, WALKERS};
use super::swap::swapped;
use super::written::Written;
use crate::backend::gpu::adapter::Tier;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES, SUM_ROWS};
use crate::backend::gpu::{Element, Filled, Tensor, grid, shader};
use crate::error::{Error, Result};
use crate::prune::matrix::Matrix;
use crate::prune::values::{Over, Values};
use ndarray::{Array2, ArrayView2};
/// Wraps a tensor in single precision as a [`Matrix`].
pub fn handle(tensor: Tensor) -> Matrix {
    Matrix::new((tensor.rows, tensor.columns), tensor)
}

impl Piece<'_> {
    /// Runs a kernel of `map.wgsl`.
    fn mapped(
        &self,
        entry: &'static str,
        dim: (usize, usize),
        values: &Values,
        (into, element): (&Memory, Element),
        groups: [u32; 3],
    ) -> Result<()> {
        let device = self.gpu.hardware();
        let written = Written::new(self.gpu, &[values], dim)?;
        if (written.reads_weight || written.reads_mask) && dim != self.size() {
            return Err(unfit(dim, self.size()));
        }
        let weight = if written.reads_weight {
            "f32(weights[place])"
        } else {
            "0.0"
        };
        let kernel = Kernel::new(shader::MAP, entry)
            .with_type("W", self.current().element.name())
            .with_type("Y", element.name())
            .with_function("value", written.expressions[0].clone())
            .with_function("weight_at", weight.to_string());
        let parameters = parameters::Map {
            formula: written.parameters,
            rows: dim.0 as u32,
            columns: dim.1 as u32,
            words: dim.1.div_ceil(32) as u32,
        };
        let nothing = device.nothing();
        let mask = self.mask_for(&written)?;
        let weights = if written.reads_weight {
            &self.current().memory
        } else {
            nothing
        };
        let mut bound = vec![
            read(weights),
            read(&written.factors),
            read(mask.as_ref().map_or(nothing, |mask| mask)),
            write(into),
        ];
        bound.extend(written.bound(nothing));
        device.run(&kernel, &parameters, &bound, groups)
    }

    /// The values of a formula, stored as `element`.
    fn computed(&self, dim: (usize, usize), values: &Values, element: Element) -> Result<Tensor> {
        let into = self.gpu.tensor(dim.0, dim.1, element)?;
        let groups = grid((dim.0 * dim.1).div_ceil(LANES));
        self.mapped("map", dim, values, (&into.memory, element), groups)?;
        Ok(into)
    }

    /// Gathers or scatters entries, as the kernel `entry` says.
    fn placed(&self, entry: &'static str, a: &Matrix, places: &Matrix, columns: usize) -> Result<Matrix> {
        let (rows, width) = a.dim();
        let place_rows = places.dim().0;
        if place_rows != rows && place_rows != 1 {
            return Err(unfit(places.dim(), a.dim()));
        }
        let into = self.gpu.tensor(rows, columns, Element::F32)?;
        let count = if entry == "scatter" {
            self.gpu.hardware().clear(&into.memory)?;
            rows * width
        } else {
            rows * columns
        };
        let parameters = parameters::Moves {
            rows: rows as u32,
            columns: columns as u32,
            width: width as u32,
            place_rows: place_rows as u32,
            ..parameters::Moves::default()
        };
        let (a, places): (&Tensor, &Tensor) = (a.there()?, places.there()?);
        let bound = [
            read(&a.memory),
            write(&into.memory),
            read(&places.memory),
            write(self.report(&self.reports.misplaced)?),
        ];
        moved(self.gpu, entry, &parameters, &bound, count)?;
        Ok(handle(into))
    }
}

impl Matrices for Piece<'_> {
    fn matrix(&self, host: ArrayView2<f32>) -> Result<Matrix> {
        Ok(handle(self.gpu.upload_as(host, Element::F32)?))
    }

    fn read(&self, matrix: &Matrix) -> Result<Array2<f32>> {
        let there: &Tensor = matrix.there()?;
        let values = self.values(&there.memory, there.rows * there.columns)?;
        Ok(Array2::from_shape_vec(matrix.dim(), values).expect("a matrix has its entries"))
    }

    fn map(&self, dim: (usize, usize), values: &Values) -> Result<Matrix> {
        Ok(handle(self.computed(dim, values, Element::F32)?))
    }

    fn reduce(&self, dim: (usize, usize), over: Over, values: &Values) -> Result<Matrix> {
        let (rows, columns) = dim;
        let (length, mut pieces) = match over {
            Over::Row => (rows, 1),
            Over::Column => (columns, rows.div_ceil(SUM_ROWS)),
            Over::Vector => return Err(Error::config("a matrix is reduced over its rows or its columns")),
        };
        let mut sums = self.gpu.tensor(pieces, length, Element::F32)?;
        self.add_up(dim, over, &[values], &sums.memory)?;
        while pieces > 1 {
            let parts = handle(sums);
            let dim = parts.dim();
            pieces = dim.0.div_ceil(SUM_ROWS);
            sums = self.gpu.tensor(pieces, length, Element::F32)?;
            let whole = Values::over([&parts], |[part]| part);
            self.add_up(dim, Over::Column, &[&whole], &sums.memory)?;
        }
        if over == Over::Row {
            (sums.rows, sums.columns) = (rows, 1);
        }
        Ok(handle(sums))
    }

    fn total(&self, dim: (usize, usize), values: &Values) -> Result<f64> {
        let groups = (dim.0 * dim.1).div_ceil(LANES).min(WALKERS);
        let sums = self.gpu.hardware().allocate((2 * groups * 4) as u64)?;
        self.mapped("total", dim, values, (&sums, Element::F32), [groups as u32, 1, 1])?;
        let parts = self.values(&sums, 2 * groups)?;
        Ok(parts.iter().map(|part| f64::from(*part)).sum())
    }

    fn asks_at(&self, step: usize) -> bool {
        step == 0 || step.is_power_of_two() || step.is_multiple_of(16)
    }

    fn product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        let (x, weight): (&Tensor, &Tensor) = (a.there()?, b.there()?);
        if x.columns != weight.columns {
            return Err(unfit(b.dim(), a.dim()));
        }
        Ok(handle(self.gpu.multiply(weight, None, x, Element::F32)?))
    }

    fn sparse_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        self.product(a, b)
    }

    fn rough_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        let (rows, inputs) = a.dim();
        if self.gpu.hardware().tier() < Tier::Cooperative || !inputs.is_multiple_of(8) || b.dim().1 != inputs {
            return self.product(a, b);
        }
        // Rows are divided by their root mean square, so that no entry is too large or too small for half precision.
        let size = |of: &Matrix| {
            let squares = Values::over([of], |[of]| of.square() / inputs as f64);
            let mean = self.reduce(of.dim(), Over::Row, &squares)?;
            self.map(mean.dim(), &Values::over([&mean], |[mean]| mean.root()))
        };
        let (of_a, of_b) = (size(a)?, size(b)?);
        let halves = |of: &Matrix, size: &Matrix| {
            let values = Values::over([of, size], |[of, size]| of * size.inverse());
            self.computed(of.dim(), &values, Element::F16)
        };
        let product = self
            .gpu
            .multiply(&halves(b, &of_b)?, None, &halves(a, &of_a)?, Element::F32)?;
        let of_b = self.transpose(&of_b)?;
        let whole = Values::over([&handle(product), &of_a, &of_b], |[product, a, b]| product * a * b);
        self.map((rows, b.dim().0), &whole)
    }

    fn transpose(&self, a: &Matrix) -> Result<Matrix> {
        Ok(handle(self.gpu.transposed(a.there()?)?))
    }

    fn gather(&self, a: &Matrix, places: &Matrix) -> Result<Matrix> {
        self.placed("gather", a, places, places.dim().1)
    }

    fn scatter(&self, a: &Matrix, places: &Matrix, columns: usize) -> Result<Matrix> {
        if places.dim().1 != a.dim().1 {
            return Err(unfit(places.dim(), a.dim()));
        }
        self.placed("scatter", a, places, columns)
    }

    fn inverse_factor(&self, gram: &Matrix, damping: f64) -> Result<Matrix> {
        let there: &Tensor = gram.there()?;
        let factor = self.gpu.inverse_factor(&there.memory, there.columns, 1.0, damping)?;
        let factor = factor.map_err(|failure| Error::numeric(failure.to_string()))?;
        Ok(handle(Tensor {
            memory: factor.upper,
            rows: there.rows,
            columns: there.columns,
            element: Element::F32,
        }))
    }

    fn solve(&self, factor: &Matrix, b: &Matrix) -> Result<Matrix> {
        fits(factor.dim(), (b.dim().1, b.dim().1))?;
        let half = self.gpu.multiply_triangle(factor.there()?, Filled::Upper, b.there()?)?;
        let lower = self.transpose(factor)?;
        let solution = self.gpu.multiply_triangle(lower.there()?, Filled::Lower, &half)?;
        Ok(handle(solution))
    }

    fn lowest(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<Matrix> {
        let count = count.min(dim.1);
        let values = self.map(dim, values)?;
        let values: &Tensor = values.there()?;
        let into = self.gpu.tensor(dim.0, count, Element::F32)?;
        let parameters = parameters::Lowest {
            rows: dim.0 as u32,
            columns: dim.1 as u32,
            count: count as u32,
        };
        let bound = [read(&values.memory), write(&into.memory)];
        let kernel = Kernel::new(shader::LOWEST, "lowest");
        self.gpu.hardware().run(&kernel, &parameters, &bound, grid(dim.0))?;
        Ok(handle(into))
    }

    fn swap(&self, a: &Matrix, kept: &Matrix, gram: &Matrix, swapping: Swapping) -> Result<Swapped> {
        fits(kept.dim(), a.dim())?;
        fits(gram.dim(), (a.dim().1, a.dim().1))?;
        let removed = self.map(a.dim(), &Values::over([a, kept], |[a, kept]| a * (1.0 - kept)))?;
        let pulls = self.product(&removed, gram)?;
        drop(removed);
        let mask = self.cleared(a.dim().0 * a.dim().1.div_ceil(32))?;
        packed(self.gpu, kept.there()?, &mask)?;
        let swaps = swapped(self.gpu, a.there()?, gram.there()?, (pulls.there()?, &mask), swapping)?;
        Ok(Swapped {
            kept: handle(unpacked(self.gpu, &mask, a.dim())?),
            swaps,
        })
    }
}

/// Checks that a matrix has the wanted size.
///
/// # Errors
/// The sizes differ.
pub fn fits(got: (usize, usize), want: (usize, usize)) -> Result<()> {
    if got == want { Ok(()) } else { Err(unfit(got, want)) }
}

fn unfit(got: (usize, usize), want: (usize, usize)) -> Error {
    Error::numeric(format!("a matrix of {got:?} does not fit one of {want:?}"))
}
