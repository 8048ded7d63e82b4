//! Least squares from the inputs of an MLP to what it gives, over calibration tokens.

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::moments::{Moments, Needs};
use crate::error::{Error, Result};
use crate::linalg::solve;
use ndarray::{Array2, ArrayView2};

/// Sums over tokens of inputs `x` and outputs `y`, which have as many features.
#[derive(Debug, Clone)]
pub struct Regression {
    moments: Moments,
    /// The sums of inputs and of outputs, and that of the outputs' squares.
    sums: [Vec<f64>; 3],
}

/// A solution of least squares.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// `M` with `x^T M` near `y^T`, `(inputs, outputs)`.
    pub solution: Array2<f64>,
    /// For each output, the correlation of prediction and output, times `(tokens - 1) / tokens` as in Olica's code.
    pub correlations: Vec<f64>,
}

impl Fitted {
    /// The mean correlation over outputs.
    pub fn mean(&self) -> f64 {
        self.correlations.iter().sum::<f64>() / self.correlations.len().max(1) as f64
    }
}

impl Regression {
    /// No tokens of `width` features.
    pub fn new(width: usize) -> Self {
        let needs = Needs {
            cross: true,
            ..Needs::GRAM
        };
        Regression {
            moments: Moments::new(width, needs),
            sums: [0; 3].map(|_| vec![0.0; width]),
        }
    }

    /// Adds tokens, one per row of inputs and of outputs.
    ///
    /// # Errors
    /// Never on the CPU.
    pub fn add(&mut self, x: &Array2<f32>, y: &Array2<f32>) -> Result<()> {
        Cpu.accumulate(&mut self.moments, x)?;
        Cpu.accumulate_cross(&mut self.moments, x, y)?;
        let [inputs, outputs, squares] = &mut self.sums;
        add_rows(inputs, x.view(), |value| value);
        add_rows(outputs, y.view(), |value| value);
        add_rows(squares, y.view(), |value| value * value);
        Ok(())
    }

    /// The solution of `(X^T X + l I) M = X^T Y` without a constant, where `l` is `ridge` times the mean of the diagonal.
    ///
    /// # Errors
    /// Inputs are not finite, or 0 everywhere.
    pub fn fit(&self, ridge: f64) -> Result<Fitted> {
        self.moments.check_finite()?;
        let (Some(gram), Some(cross)) = (&self.moments.gram, &self.moments.cross) else {
            return Err(Error::numeric("the products of inputs were not gathered"));
        };
        let width = gram.nrows();
        let ridge = ridge * self.moments.squares.iter().sum::<f64>() / width as f64;
        let mut damped = gram.to_owned();
        damped.diag_mut().iter_mut().for_each(|value| *value += ridge);
        let solution = solve(damped, cross.view()).map_err(|failure| {
            Error::numeric(format!("least squares from the MLP's input to its output: {failure}"))
        })?;
        let tokens = self.moments.tokens as f64;
        let [inputs, outputs, squares] = &self.sums;
        let correlations = solution.columns().into_iter().enumerate().map(|(output, column)| {
            let predicted: f64 = column.iter().zip(inputs).map(|(m, sum)| m * sum).sum();
            let (mut both, mut own) = (0.0, 0.0);
            for (m, product) in column.iter().zip(cross.column(output)) {
                both += m * product;
                // The products of the Gram matrix with the solution are those of the right-hand side less the ridge.
                own += m * (product - ridge * m);
            }
            let covariance = both - predicted * outputs[output] / tokens;
            let spread = (own - predicted * predicted / tokens) * (squares[output] - outputs[output].powi(2) / tokens);
            match spread > 0.0 {
                true => covariance / spread.sqrt() * (tokens - 1.0) / tokens,
                false => 0.0,
            }
        });
        Ok(Fitted {
            correlations: correlations.collect(),
            solution,
        })
    }
}

fn add_rows(sums: &mut [f64], rows: ArrayView2<f32>, of: fn(f64) -> f64) {
    for row in rows.rows() {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += of(f64::from(*value)));
    }
}
