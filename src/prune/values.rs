//! Formulas of one value per entry of a matrix, with what they are evaluated from.

use super::formula::Formula;
use super::matrix::Matrix;

/// What a sum runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Each row: one sum per row.
    Row,
    /// Each column: one sum per column.
    Column,
    /// The values of a vector: one sum.
    Vector,
}

/// What a formula of one value per weight is evaluated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The current weight.
    Weight,
    /// 1 where the weight is kept, 0 where the mask removes it.
    Kept,
    /// One of [`Values::matrices`]; one of a single row or column is repeated.
    Matrix(usize),
    /// One of [`Values::vectors`], a value for each row.
    Row(usize),
    /// One of [`Values::vectors`], a value for each column.
    Column(usize),
}

/// A formula of one value per weight, with what it is evaluated from.
#[derive(Debug, Clone)]
pub struct Values {
    /// The formula.
    pub formula: Formula<Operand>,
    /// Matrices on the workbench.
    pub matrices: Vec<Matrix>,
    /// Vectors on the host.
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
    /// A formula over matrices: `formula` is given a leaf for each, in their order.
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
