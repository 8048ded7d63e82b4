//! Columns in another order: weights, mask and statistics together.

use super::super::{LayerView, Matrices, Workpiece, reordered};
use super::piece::Piece;
use super::statistics::Statistics;
use crate::error::Result;
use crate::prune::matrix::Matrix;
use ndarray::Array2;

impl Piece<'_> {
    /// See [`Workpiece::reorder`].
    pub fn reorder_columns(&mut self, order: &[usize]) -> Result<()> {
        self.order = reordered(self.order.as_deref(), order, self.size().1)?;
        let places = self.places(order)?;
        self.move_columns(&places)?;
        let now = self.statistics();
        let vector = |values: &Vec<f64>| order.iter().map(|from| values[*from]).collect();
        let products = self.products_in_other_variables(&mut |_, there| {
            let matrix = Matrix::shared((there.rows, there.columns), there);
            let columns = self.transpose(&self.gather(&matrix, &places)?)?;
            self.transpose(&self.gather(&columns, &places)?)
        })?;
        self.changed = Some(Statistics {
            squared_norms: now.squared_norms.as_ref().map(vector),
            means: now.means.as_ref().map(|means| means.reordered(order)),
            goal_means: now.goal_means.as_ref().map(vector),
            ..products
        });
        Ok(())
    }

    /// Puts the columns of the weights and of the mask into another order.
    pub fn move_columns(&mut self, places: &Matrix) -> Result<()> {
        let weight = self.gather(&self.weight()?, places)?;
        self.set_weight(&weight)?;
        if self.mask.is_some() {
            let kept = self.gather(&self.kept()?, places)?;
            self.keep(&kept)?;
        }
        Ok(())
    }

    /// An order of columns as places for [`Matrices::gather`].
    pub fn places(&self, order: &[usize]) -> Result<Matrix> {
        self.matrix(Array2::from_shape_fn((1, order.len()), |(_, column)| order[column] as f32).view())
    }
}
