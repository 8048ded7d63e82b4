//! Formulas of one value per entry of a matrix, with what they are evaluated from.

use super::formula::Formula;
use super::matrix::Matrix;

/// The values that a sum adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The values of each row: one sum per row.
    Row,
    /// The values of each column: one sum per column.
    Column,
    /// All values of a vector: one sum.
    Vector,
}

/// A value that a formula with one result per weight can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The weight itself, as it is now.
    Weight,
    /// 1 where the weight is kept, 0 where the mask removes it.
    Kept,
    /// The matrix with this index in [`Values::matrices`]; a matrix with only one row or column is repeated.
    Matrix(usize),
    /// The vector with this index in [`Values::vectors`], which has one value per row.
    Row(usize),
    /// The vector with this index in [`Values::vectors`], which has one value per column.
    Column(usize),
    /// 1 where the row has the same number as the column, 0 elsewhere: the identity matrix.
    Identity,
}

/// A formula with one result per weight, and the matrices and vectors that it uses.
#[derive(Debug, Clone)]
pub struct Values {
    /// The formula; its leaves say which value they use.
    pub formula: Formula<Operand>,
    /// Matrices in the workbench's memory, used by [`Operand::Matrix`].
    pub matrices: Vec<Matrix>,
    /// Vectors on the host, used by [`Operand::Row`] and [`Operand::Column`].
    pub vectors: Vec<Vec<f32>>,
}

impl From<Formula<Operand>> for Values {
    fn from(formula: Formula<Operand>) -> Self {
        Values {
            formula,
            matrices: Vec::new(),
            vectors: Vec::new(),
        }
    }
}

impl Values {
    /// A formula over matrices only: `formula` receives one leaf per matrix, in the same order.
    pub fn over<const N: usize>(
        matrices: [&Matrix; N],
        formula: impl FnOnce([Formula<Operand>; N]) -> Formula<Operand>,
    ) -> Self {
        Values {
            formula: formula(std::array::from_fn(|index| Formula::Leaf(Operand::Matrix(index)))),
            matrices: matrices.map(Clone::clone).to_vec(),
            vectors: Vec::new(),
        }
    }
}
