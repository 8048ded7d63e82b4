//! Statistics of a layer's inputs after a change of their variables: from those of the inputs as they were, by exact formulas.

use super::statistics::{LayerStatistics, Means, not_gathered};
use crate::error::Result;
use ndarray::{ArcArray2, Array2, Axis};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Other variables for the inputs of a layer: of feature `j`, `own[j]` is subtracted, and the rest is multiplied by `factors[j]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputChange {
    /// One factor per input feature.
    pub factors: Vec<f64>,
    /// What is subtracted before; nothing without.
    pub shifts: Option<Shifts>,
}

/// What is subtracted from the inputs of a layer, one value per input feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Shifts {
    /// From the layer's own inputs.
    pub own: Vec<f64>,
    /// From the inputs whose outputs are to be reproduced: the same, unless the dense model's outputs are the goal.
    pub goal: Vec<f64>,
}

/// For products of two inputs, with means `m` and shifts `d`: what is subtracted is the product of the first less that of the second.
pub struct ProductShift {
    /// The means.
    pub means: Vec<f64>,
    /// The means that are left, `m - d`.
    pub left: Vec<f64>,
}

impl ProductShift {
    /// Of these means and shifts, times `factor`.
    pub fn new(means: &[f64], shifts: &[f64], factor: f64) -> Self {
        let left = means.iter().zip(shifts);
        ProductShift {
            means: means.iter().map(|mean| factor * mean).collect(),
            left: left.map(|(mean, shift)| factor * (mean - shift)).collect(),
        }
    }
}

impl InputChange {
    /// Sums of squares, or sums divided by the number of sequences, of inputs with such means; `length` is the number of tokens that
    /// were added up, divided in the same way.
    ///
    /// # Errors
    /// The change has shifts, and there are no means.
    pub fn squares(&self, squares: &[f64], means: Option<&Means>) -> Result<Vec<f64>> {
        let mut changed: Vec<f64> = match &self.shifts {
            None => squares.to_vec(),
            Some(shifts) => {
                let means = means.ok_or_else(|| not_gathered("means"))?;
                let shift = ProductShift::new(&means.mean, &shifts.own, means.length.sqrt());
                let parts = squares.iter().zip(shift.means.iter().zip(&shift.left));
                parts
                    .map(|(square, (mean, left))| (square - mean * mean + left * left).max(0.0))
                    .collect()
            }
        };
        let scaled = changed.iter_mut().zip(&self.factors);
        scaled.for_each(|(square, factor)| *square *= factor * factor);
        Ok(changed)
    }

    /// The means and variances.
    pub fn means(&self, means: &Means) -> Means {
        let scaled = |values: &[f64]| {
            let scaled = values.iter().zip(&self.factors);
            scaled.map(|(value, factor)| value * factor * factor).collect()
        };
        Means {
            mean: self.moved(&means.mean, self.shifts.as_ref().map(|shifts| &shifts.own[..])),
            variance: scaled(&means.variance),
            within: scaled(&means.within),
            length: means.length,
        }
    }

    /// The means of the inputs whose outputs are to be reproduced.
    pub fn of_goal(&self, means: &[f64]) -> Vec<f64> {
        self.moved(means, self.shifts.as_ref().map(|shifts| &shifts.goal[..]))
    }

    fn moved(&self, means: &[f64], shifts: Option<&[f64]>) -> Vec<f64> {
        let at = |index: usize| means[index] - shifts.map_or(0.0, |shifts| shifts[index]);
        let factors = self.factors.iter().enumerate();
        factors.map(|(index, factor)| at(index) * factor).collect()
    }
}

impl LayerStatistics {
    /// The statistics of the same inputs in other variables.
    ///
    /// # Errors
    /// The change has shifts, and no means were gathered.
    pub fn changed(&self, change: &InputChange) -> Result<Self> {
        let squared_norms = self.squared_norms.as_ref();
        let squared_norms = squared_norms.map(|squares| change.squares(squares, self.means.as_ref()));
        let shift = |goal: bool| -> Result<Option<ProductShift>> {
            let Some(shifts) = &change.shifts else {
                return Ok(None);
            };
            let means = self.means()?;
            // The root of the number of tokens: products have it twice.
            let root = (means.length * self.sequences as f64).sqrt();
            Ok(Some(match goal {
                true => ProductShift::new(self.goal_means()?, &shifts.goal, root),
                false => ProductShift::new(&means.mean, &shifts.own, root),
            }))
        };
        let (own, goal) = (shift(false)?, shift(true)?);
        let sums = |sum: &ArcArray2<f64>, rows: &Option<ProductShift>, columns: &Option<ProductShift>, lower: bool| {
            let mut changed = Array2::zeros(sum.dim());
            let each = changed.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
            each.for_each(|(row, mut values)| {
                let end = if lower { row + 1 } else { values.len() };
                for (column, value) in values.iter_mut().enumerate().take(end) {
                    let mut product = sum[[row, column]];
                    if let (Some(rows), Some(columns)) = (rows, columns) {
                        product -= rows.means[row] * columns.means[column] - rows.left[row] * columns.left[column];
                    }
                    *value = product * (change.factors[row] * change.factors[column]);
                }
            });
            changed.into_shared()
        };
        Ok(LayerStatistics {
            sequences: self.sequences,
            squared_norms: squared_norms.transpose()?,
            gram: self.gram.as_ref().map(|gram| sums(gram, &own, &own, true)),
            cross: self.cross.as_ref().map(|cross| sums(cross, &own, &goal, false)),
            goal: self.goal.as_ref().map(|gram| sums(gram, &goal, &goal, false)),
            means: self.means.as_ref().map(|means| change.means(means)),
            goal_means: self.goal_means.as_ref().map(|means| change.of_goal(means)),
            factoring: self.factoring,
            full: OnceLock::new(),
            factor: OnceLock::new(),
        })
    }
}
