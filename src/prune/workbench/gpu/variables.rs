//! Statistics on the device in other variables.

use super::super::{LayerView, Matrices};
use super::moves::symmetric;
use super::piece::Piece;
use super::statistics::Statistics;
use crate::backend::gpu::Tensor;
use crate::calibrate::variables::{InputChange, ProductShift};
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Values};
use std::sync::{Arc, OnceLock};

/// Which inputs the rows and the columns of a matrix of products belong to.
#[derive(Clone, Copy)]
pub enum Products {
    /// Both to the layer's own.
    Own,
    /// The rows to the layer's own, the columns to those whose outputs are to be reproduced.
    Cross,
    /// Both to those whose outputs are to be reproduced.
    Goal,
}

impl Piece<'_> {
    /// See [`Workpiece::change_inputs`](super::super::Workpiece::change_inputs).
    pub fn change_variables(&mut self, change: &InputChange) -> Result<()> {
        let now = self.statistics();
        let shift = |goal: bool| -> Result<Option<ProductShift>> {
            let Some(shifts) = &change.shifts else {
                return Ok(None);
            };
            let means = self.means()?;
            let root = (means.length * now.sequences as f64).sqrt();
            Ok(Some(match goal {
                true => ProductShift::new(self.goal_means()?, &shifts.goal, root),
                false => ProductShift::new(&means.mean, &shifts.own, root),
            }))
        };
        let (own, goal) = (shift(false)?, shift(true)?);
        let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let products = self.products_in_other_variables(&mut |of, there| {
            let (rows, columns) = match of {
                Products::Own => (&own, &own),
                Products::Cross => (&own, &goal),
                Products::Goal => (&goal, &goal),
            };
            let matrix = Matrix::shared((there.rows, there.columns), there);
            let mut vectors = vec![single(&change.factors)];
            let values = Values::over([&matrix], |[sum]| {
                let mut sum = sum;
                if let (Some(rows), Some(columns)) = (rows, columns) {
                    vectors.extend([&rows.means, &columns.means, &rows.left, &columns.left].map(|it| single(it)));
                    let product =
                        |row, column| Formula::Leaf(Operand::Row(row)) * Formula::Leaf(Operand::Column(column));
                    sum = sum - (product(1, 2) - product(3, 4));
                }
                sum * (Formula::Leaf(Operand::Row(0)) * Formula::Leaf(Operand::Column(0)))
            });
            self.map(matrix.dim(), &Values { vectors, ..values })
        })?;
        let squared_norms = now.squared_norms.as_ref();
        let squared_norms = squared_norms.map(|squares| change.squares(squares, now.means.as_ref()));
        self.changed = Some(Statistics {
            squared_norms: squared_norms.transpose()?,
            means: now.means.as_ref().map(|means| change.means(means)),
            goal_means: now.goal_means.as_ref().map(|means| change.of_goal(means)),
            ..products
        });
        Ok(())
    }

    /// Statistics whose matrices `change` makes from the present ones, without any vectors.
    pub fn products_in_other_variables(
        &self,
        change: &mut dyn FnMut(Products, Arc<Tensor>) -> Result<Matrix>,
    ) -> Result<Statistics> {
        let now = self.statistics();
        let gram = match &now.gram {
            Some(gram) => {
                let inputs = self.size().1;
                let whole = symmetric(self.gpu, gram, inputs, 1.0)?;
                let changed: Tensor = change(Products::Own, Arc::new(whole))?.into_there()?;
                Some(Arc::new(changed.memory))
            }
            None => None,
        };
        let mut of = |of: Products, sum: &Option<Arc<Tensor>>| -> Result<Option<Arc<Tensor>>> {
            let changed = sum.as_ref().map(|sum| change(of, sum.clone())?.into_there());
            Ok(changed.transpose()?.map(Arc::new))
        };
        Ok(Statistics {
            sequences: now.sequences,
            damping: now.damping,
            squared_norms: None,
            means: None,
            goal_means: None,
            gram,
            cross: of(Products::Cross, &now.cross)?,
            goal: of(Products::Goal, &now.goal)?,
            full: OnceLock::new(),
            factor: OnceLock::new(),
        })
    }
}
