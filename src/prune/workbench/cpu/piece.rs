//! A layer while it is pruned on the host.

use crate::calibrate::statistics::LayerStatistics;
use crate::prune::mask::Mask;
use crate::tensor::StorageType;
use ndarray::Array2;
use std::borrow::Cow;

/// A layer that is being pruned on the host.
pub struct Piece<'a> {
    /// The weights, which change in place.
    pub weight: &'a mut Array2<f32>,
    /// The weights that are removed; none at first.
    pub mask: Mask,
    /// The number format of the checkpoint, to which the weights are rounded at the end.
    pub storage: StorageType,
    /// Statistics of the layer's inputs, in the order of the columns.
    pub statistics: Cow<'a, LayerStatistics>,
    /// The order of the columns, if it is not their own.
    pub order: Option<Vec<usize>>,
}

impl<'a> Piece<'a> {
    /// A layer of which nothing was removed yet.
    pub fn new(weight: &'a mut Array2<f32>, storage: StorageType, statistics: &'a LayerStatistics) -> Self {
        Piece {
            mask: Mask::keep_all(weight.dim()),
            weight,
            storage,
            statistics: Cow::Borrowed(statistics),
            order: None,
        }
    }

    /// Puts the columns of the weights and of the mask into another order.
    pub fn move_columns(&mut self, order: &[usize]) {
        let dim = self.weight.dim();
        let (weight, mask) = (&self.weight, self.mask.entries());
        let weight = Array2::from_shape_fn(dim, |(row, column)| weight[[row, order[column]]]);
        self.mask = Mask::from_entries(Array2::from_shape_fn(dim, |(row, column)| mask[[row, order[column]]]));
        *self.weight = weight;
    }
}
