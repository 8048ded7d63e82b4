//! Products `x W^T + b`, and transposed matrices: which kernel with which tiles.

use super::device::{Kernel, Memory, read, write};
use super::open::{Gpu, grid};
use super::parameters::{self, TILE};
use super::shader;
use super::tensor::{Element, Tensor};
use crate::error::Result;

/// Which part of a matrix is not zero; the numbers are those of `matmul_f32.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Any entry may have a value.
    Everywhere = 0,
    /// The diagonal and what is right of it.
    Upper = 1,
    /// The diagonal and what is left of it.
    Lower = 2,
}

/// What is added to a sum of the outer products `x^T y`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outer<'a> {
    /// The products themselves, on and below the diagonal: `x` and `y` are the same matrix.
    Triangle,
    /// What an expression of `outer_cooperative.wgsl` makes of the product `v` and a factor, `p.factor`.
    Each(&'a str, f32),
}

impl Gpu {
    /// The transposed matrix, in single precision.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn transposed(&self, x: &Tensor) -> Result<Tensor> {
        self.transposed_as(x, (0, x.rows), Element::F32)
    }

    /// The transposed matrix of some rows, in a number format.
    pub(super) fn transposed_as(&self, x: &Tensor, (first, rows): (usize, usize), element: Element) -> Result<Tensor> {
        let into = self.tensor(x.columns, rows, element)?;
        let parameters = parameters::Moves {
            rows: into.rows as u32,
            columns: into.columns as u32,
            width: x.columns as u32,
            first: (first * x.columns) as u32,
            ..parameters::Moves::default()
        };
        let kernel = Kernel::new(shader::MOVES, "transpose")
            .with_type("X", x.element.name())
            .with_type("Y", into.element.name());
        let bound = [read(&x.memory), write(&into.memory)];
        let squares = into.rows.div_ceil(32) * into.columns.div_ceil(32);
        self.device.run(&kernel, &parameters, &bound, grid(squares))?;
        Ok(into)
    }

    /// Whether [`Gpu::add_outer`] takes these matrices.
    pub(super) fn multiplies_outer(&self, [x, y]: [&Tensor; 2]) -> bool {
        [x, y].iter().all(|x| self.cooperates(x) && x.columns.is_multiple_of(8))
    }

    /// Adds the outer products `x^T y` of some rows to a matrix in single precision, on cooperative matrices.
    pub(super) fn add_outer(
        &self,
        [x, y]: [&Tensor; 2],
        (first, rows): (usize, usize),
        sums: &Memory,
        what: Outer,
    ) -> Result<()> {
        let tiles = [x, y].map(|x| x.columns.div_ceil(TILE));
        let mut kernel = Kernel::new(shader::OUTER_COOPERATIVE, "outer");
        let (count, factor) = match what {
            Outer::Triangle => {
                kernel = kernel.with_constant("TRIANGLE", 1);
                (tiles[0] * (tiles[0] + 1) / 2, 1.0)
            }
            Outer::Each(expression, factor) => {
                kernel = kernel.with_function("added", expression.to_string());
                (tiles[0] * tiles[1], factor)
            }
        };
        let parameters = parameters::Outer {
            rows: rows as u32,
            first: first as u32,
            x_columns: x.columns as u32,
            y_columns: y.columns as u32,
            row_tiles: tiles[0] as u32,
            column_tiles: tiles[1] as u32,
            factor,
        };
        let bound = [read(&x.memory), read(&y.memory), write(sums)];
        self.device.run(&kernel, &parameters, &bound, grid(count))
    }

    /// Computes `x W^T + b`.
    pub(crate) fn multiply(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        x: &Tensor,
        result: Element,
    ) -> Result<Tensor> {
        let y = self.tensor(x.rows, weight.rows, result)?;
        self.multiply_into((weight, Filled::Everywhere), bias, x, (0, x.rows), (&y, 0))?;
        Ok(y)
    }

    /// Computes `x W^T` in single precision for a triangular `W`, passing over its zeros.
    pub(crate) fn multiply_triangle(&self, weight: &Tensor, filled: Filled, x: &Tensor) -> Result<Tensor> {
        let y = self.tensor(x.rows, weight.rows, Element::F32)?;
        self.multiply_into((weight, filled), None, x, (0, x.rows), (&y, 0))?;
        Ok(y)
    }

    /// Computes `x W^T + b` for some rows of `x`, and writes the result to `y` from row `to` on.
    pub(super) fn multiply_into(
        &self,
        (weight, filled): (&Tensor, Filled),
        bias: Option<&Tensor>,
        x: &Tensor,
        (first, rows): (usize, usize),
        (y, to): (&Tensor, usize),
    ) -> Result<()> {
        // The bytes of these rows of a matrix.
        let part = |of: &Tensor, first: usize| {
            let line = (of.columns * of.element.bytes()) as u64;
            (first as u64 * line, (rows as u64 * line).next_multiple_of(4))
        };
        let x_bound = match first == 0 && rows == x.rows {
            true => read(&x.memory),
            false => {
                let (start, bytes) = part(x, first);
                read(&x.memory).part(start, bytes)
            }
        };
        let weight_bound = read(&weight.memory);
        let bias_bound = read(bias.map_or(self.nothing(), |bias| &bias.memory));
        let y_bound = match to {
            0 => write(&y.memory),
            _ => {
                let (start, bytes) = part(y, to);
                write(&y.memory).part(start, bytes)
            }
        };
        let (inputs, outputs) = (x.columns, weight.rows);
        let has_bias = u32::from(bias.is_some());
        let cooperative = self.cooperates(x) && weight.element == Element::F16 && inputs.is_multiple_of(8);
        if !inputs.is_multiple_of(4) || !outputs.is_multiple_of(4) || y.columns != outputs {
            debug_assert_eq!(y.columns, outputs);
            let kernel = Kernel::new(shader::MATMUL_ANY, "matmul")
                .with_type("X", x.element.name())
                .with_type("W", weight.element.name())
                .with_type("Y", y.element.name());
            let parameters = parameters::MatmulAny {
                rows: rows as u32,
                inputs: inputs as u32,
                outputs: outputs as u32,
                has_bias,
            };
            let bound = [x_bound, weight_bound, bias_bound, y_bound];
            let groups = [outputs.div_ceil(64) as u32, rows.div_ceil(64) as u32, 1];
            return self.device.run(&kernel, &parameters, &bound, groups);
        }
        let kernel = if cooperative {
            Kernel::new(shader::MATMUL_COOPERATIVE, "matmul").with_type("Y4", y.element.four())
        } else {
            Kernel::new(shader::MATMUL_F32, "matmul")
                .with_type("X4", x.element.four())
                .with_type("W4", weight.element.four())
                .with_type("Y4", y.element.four())
        };
        let tiles = (rows.div_ceil(TILE), outputs.div_ceil(TILE));
        let parameters = parameters::Matmul {
            rows: rows as u32,
            columns: outputs as u32,
            inner: inputs as u32,
            has_bias,
            row_tiles: tiles.0 as u32,
            column_tiles: tiles.1 as u32,
            stride: outputs as u32,
            filled: filled as u32,
        };
        let bound = [x_bound, weight_bound, y_bound, bias_bound];
        self.device.run(&kernel, &parameters, &bound, grid(tiles.0 * tiles.1))
    }
}
