//! A score is a formula over what is known of a layer: its weights, sums over them, statistics of its inputs.
//!
//! A criterion writes down the formula ([`Score`]); what it needs of calibration is read off the formula, and what does
//! not depend on single weights is computed once, in `f64` on the host ([`resolve`]). What is left is one value per weight
//! in `f32`, which every workbench evaluates where the weights are ([`Values`]). A solver that changes weights evaluates
//! the same score again on the changed ones.

use super::formula::{Binary, Formula};
use crate::backend::gradient::{GradientNeeds, GradientSum};
use crate::backend::moments::Needs;
use crate::calibrate::gradients::{LayerGradients, Loss, WeightValues, not_gathered};
use crate::error::{Error, Result};
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::LayerView;
use ndarray::{ArcArray2, ArrayView2};
use std::fmt;
use std::rc::Rc;

/// How important each weight of a layer is, as a formula; the lowest values are removed first.
pub type Score = Formula<Quantity>;

/// What the formula of a score can use.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    /// The layer's weights, one value per weight.
    Weight,
    /// `||x_j||^2 / sequences` of each input feature `j`: one value per column.
    InputSquares,
    /// The mean of each input feature over all calibration tokens: one value per column.
    InputMeans,
    /// The variance of each input feature over all calibration tokens, with `n - 1` in the denominator: one value per
    /// column.
    InputVariances,
    /// `U_jj` of the damped inverse Hessian's factor, `H^-1 = U^T U`: one value per column, infinite where the feature was
    /// zero on every calibration token.
    Pivots,
    /// `||y_i||^2 / sequences` of each output feature `i` of the layer with its weights as they are: one value per row.
    OutputSquares,
    /// The number of rows (outputs).
    Rows,
    /// The number of columns (inputs).
    Columns,
    /// Sums of a formula over rows, columns or the values of a vector.
    Sum(Over, Box<Score>),
    /// The least or the greatest value of a formula over all weights of the layer.
    Extreme(Extreme, Box<Score>),
    /// A sum over calibration sequences of the gradient of a loss, one value per weight.
    Gradient(Loss, GradientSum),
    /// The number of calibration sequences whose gradients were added up.
    Sequences,
    /// The place of the layer's block: 0 for the first, 1 for the last.
    Depth,
    /// The values of the criterion's file, one per weight.
    FromFile,
    /// Values that somebody else computed, one per weight.
    Given(Given),
}

/// Values that somebody else computed, one per weight. Copies share them, so that they are compared and uploaded once.
#[derive(Debug, Clone, PartialEq)]
pub struct Given(WeightValues);

impl From<ArcArray2<f32>> for Given {
    fn from(values: ArcArray2<f32>) -> Self {
        Given(WeightValues::Host(values))
    }
}

/// Which end of a formula's values is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    /// The least value.
    Least,
    /// The greatest value.
    Greatest,
}

/// The layer's weights, one value per weight.
pub fn weight() -> Score {
    Formula::Leaf(Quantity::Weight)
}

/// `||x_j||^2 / sequences` of each input feature `j`: one value per column.
pub fn input_squares() -> Score {
    Formula::Leaf(Quantity::InputSquares)
}

/// The mean of each input feature over all calibration tokens: one value per column.
pub fn input_means() -> Score {
    Formula::Leaf(Quantity::InputMeans)
}

/// The variance of each input feature over all calibration tokens, with `n - 1` in the denominator: one value per column.
pub fn input_variances() -> Score {
    Formula::Leaf(Quantity::InputVariances)
}

/// `U_jj` of the factor of the damped inverse Hessian: one value per column.
pub fn pivots() -> Score {
    Formula::Leaf(Quantity::Pivots)
}

/// `||y_i||^2 / sequences` of each output feature `i`, from the Gram matrix of the inputs: one value per row.
pub fn output_squares() -> Score {
    Formula::Leaf(Quantity::OutputSquares)
}

/// Number of weights in the layer.
pub fn entries() -> Score {
    Formula::Leaf(Quantity::Rows) * Formula::Leaf(Quantity::Columns)
}

/// The sum of `of` over each row: one value per row.
pub fn row_sums(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Row, Box::new(of)))
}

/// The sum of `of` over each column: one value per column.
pub fn column_sums(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Column, Box::new(of)))
}

/// The sum over all values of a vector, which has one value per row or per column.
pub fn sum(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Vector, Box::new(of)))
}

/// The least value of `of` over all weights of the layer.
pub fn least(of: Score) -> Score {
    Formula::Leaf(Quantity::Extreme(Extreme::Least, Box::new(of)))
}

/// The greatest value of `of` over all weights of the layer.
pub fn greatest(of: Score) -> Score {
    Formula::Leaf(Quantity::Extreme(Extreme::Greatest, Box::new(of)))
}

/// A sum over calibration sequences of the gradient of a loss: one value per weight.
pub fn gradients(loss: Loss, sum: GradientSum) -> Score {
    Formula::Leaf(Quantity::Gradient(loss, sum))
}

/// The number of calibration sequences whose gradients were added up.
pub fn sequences() -> Score {
    Formula::Leaf(Quantity::Sequences)
}

/// The place of the layer's block: 0 for the first, 1 for the last.
pub fn depth() -> Score {
    Formula::Leaf(Quantity::Depth)
}

/// The values of the criterion's file: one value per weight.
pub fn from_file() -> Score {
    Formula::Leaf(Quantity::FromFile)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantity::Weight => write!(f, "w"),
            Quantity::InputSquares => write!(f, "input_squares"),
            Quantity::InputMeans => write!(f, "input_means"),
            Quantity::InputVariances => write!(f, "input_variances"),
            Quantity::Pivots => write!(f, "pivots"),
            Quantity::OutputSquares => write!(f, "output_squares"),
            Quantity::Rows => write!(f, "rows"),
            Quantity::Columns => write!(f, "columns"),
            Quantity::Sum(Over::Row, of) => write!(f, "row_sums({of})"),
            Quantity::Sum(Over::Column, of) => write!(f, "column_sums({of})"),
            Quantity::Sum(Over::Vector, of) => write!(f, "sum({of})"),
            Quantity::Extreme(Extreme::Least, of) => write!(f, "least({of})"),
            Quantity::Extreme(Extreme::Greatest, of) => write!(f, "greatest({of})"),
            Quantity::Gradient(loss, sum) => {
                let sum = match sum {
                    GradientSum::Plain => "gradients",
                    GradientSum::Squares => "gradient_squares",
                    GradientSum::Magnitudes => "gradient_magnitudes",
                };
                match loss {
                    Loss::Likelihood => write!(f, "{sum}"),
                    Loss::Outputs => write!(f, "block_{sum}"),
                }
            }
            Quantity::Sequences => write!(f, "sequences"),
            Quantity::Depth => write!(f, "depth"),
            Quantity::FromFile => write!(f, "from_file"),
            Quantity::Given(Given(values)) => write!(f, "given[{} x {}]", values.dim().0, values.dim().1),
        }
    }
}

/// The statistics that a score uses.
pub fn needs(score: &Score) -> Needs {
    let mut needs = Needs::NOTHING;
    score.leaves(&mut |quantity| {
        needs = needs.and(match quantity {
            Quantity::InputSquares => Needs::SQUARES,
            Quantity::InputMeans | Quantity::InputVariances => Needs::MEANS,
            Quantity::Pivots | Quantity::OutputSquares => Needs::GRAM,
            Quantity::Sum(_, of) | Quantity::Extreme(_, of) => self::needs(of),
            Quantity::Weight
            | Quantity::Rows
            | Quantity::Columns
            | Quantity::Gradient(..)
            | Quantity::Sequences
            | Quantity::Depth
            | Quantity::FromFile
            | Quantity::Given(_) => Needs::NOTHING,
        });
    });
    needs
}

/// The sums of gradients of a loss that a score uses. The number of their sequences is known where some were gathered: a score that
/// uses it without any gradients has the loss's gathered.
pub fn gradient_needs(score: &Score, loss: Loss) -> GradientNeeds {
    let none = |loss| !gradients_in(score, loss).anything();
    match loss == Loss::Likelihood && counts_sequences(score) && none(loss) && none(Loss::Outputs) {
        true => GradientNeeds::SUM,
        false => gradients_in(score, loss),
    }
}

fn counts_sequences(score: &Score) -> bool {
    let mut found = false;
    score.leaves(&mut |quantity| {
        found |= match quantity {
            Quantity::Sequences => true,
            Quantity::Sum(_, of) | Quantity::Extreme(_, of) => counts_sequences(of),
            _ => false,
        };
    });
    found
}

fn gradients_in(score: &Score, loss: Loss) -> GradientNeeds {
    let mut needs = GradientNeeds::NOTHING;
    score.leaves(&mut |quantity| {
        needs = needs.and(match quantity {
            Quantity::Gradient(of, sum) if *of == loss => GradientNeeds::only(*sum),
            Quantity::Sum(_, of) | Quantity::Extreme(_, of) => gradients_in(of, loss),
            _ => GradientNeeds::NOTHING,
        });
    });
    needs
}

/// The score with a layer's gradients in place of what asks for those of their loss.
///
/// # Errors
/// A sum was not gathered.
pub fn with_gradients(score: &Score, gradients: &LayerGradients) -> Result<Score> {
    score.substitute(&mut |quantity| {
        Ok(match quantity {
            Quantity::Gradient(loss, sum) if *loss == gradients.loss() => {
                Formula::Leaf(Quantity::Given(Given(gradients.values(*sum)?)))
            }
            Quantity::Sequences => Formula::Number(gradients.sequences() as f64),
            Quantity::Sum(over, of) => Formula::Leaf(Quantity::Sum(*over, Box::new(with_gradients(of, gradients)?))),
            Quantity::Extreme(end, of) => {
                Formula::Leaf(Quantity::Extreme(*end, Box::new(with_gradients(of, gradients)?)))
            }
            other => Formula::Leaf(other.clone()),
        })
    })
}

/// The score of a layer whose block has this place: 0 for the first block, 1 for the last.
///
/// # Errors
/// Never.
pub fn at_depth(score: &Score, depth: f64) -> Result<Score> {
    score.substitute(&mut |quantity| {
        Ok(match quantity {
            Quantity::Depth => Formula::Number(depth),
            Quantity::Sum(over, of) => Formula::Leaf(Quantity::Sum(*over, Box::new(at_depth(of, depth)?))),
            Quantity::Extreme(end, of) => Formula::Leaf(Quantity::Extreme(*end, Box::new(at_depth(of, depth)?))),
            other => Formula::Leaf(other.clone()),
        })
    })
}

/// The score with the values that a layer has in the criterion's file.
///
/// # Errors
/// Never.
pub fn with_file(score: &Score, values: &Given) -> Result<Score> {
    score.substitute(&mut |quantity| {
        Ok(Formula::Leaf(match quantity {
            Quantity::FromFile => Quantity::Given(values.clone()),
            Quantity::Sum(over, of) => Quantity::Sum(*over, Box::new(with_file(of, values)?)),
            Quantity::Extreme(end, of) => Quantity::Extreme(*end, Box::new(with_file(of, values)?)),
            other => other.clone(),
        }))
    })
}

/// Computes all parts of a score that do not depend on single weights.
///
/// # Errors
/// A statistic was not gathered, the Hessian cannot be factored, a given matrix or a sum does not fit, or the backend
/// fails.
pub fn resolve(score: &Score, layer: &dyn LayerView) -> Result<Values> {
    let mut resolving = Resolving {
        layer,
        given: Vec::new(),
        sums: Vec::new(),
        known: Vec::new(),
    };
    resolving.add_up(score)?;
    resolving.values(score)
}

/// How many values a score, or a part of one, has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    PerRow,
    PerColumn,
    PerWeight,
}

impl Shape {
    pub(super) fn with(self, other: Shape) -> Shape {
        match (self, other) {
            (Shape::One, shape) | (shape, Shape::One) => shape,
            (a, b) if a == b => a,
            _ => Shape::PerWeight,
        }
    }
}

pub(super) fn shape(score: &Score) -> Shape {
    match score {
        Formula::Number(_)
        | Formula::Leaf(
            Quantity::Rows
            | Quantity::Columns
            | Quantity::Sequences
            | Quantity::Depth
            | Quantity::Extreme(..)
            | Quantity::Sum(Over::Vector, _),
        ) => Shape::One,
        Formula::Leaf(Quantity::OutputSquares | Quantity::Sum(Over::Row, _)) => Shape::PerRow,
        Formula::Leaf(
            Quantity::InputSquares
            | Quantity::InputMeans
            | Quantity::InputVariances
            | Quantity::Pivots
            | Quantity::Sum(Over::Column, _),
        ) => Shape::PerColumn,
        Formula::Leaf(Quantity::Weight | Quantity::Gradient(..) | Quantity::FromFile | Quantity::Given(_)) => {
            Shape::PerWeight
        }
        Formula::Unary(_, of) => shape(of),
        Formula::Binary(_, a, b) => shape(a).with(shape(b)),
    }
}

/// The values of a score that does not depend on single weights: one value, or one per row or column.
type Known = Rc<[f64]>;

struct Resolving<'a> {
    layer: &'a dyn LayerView,
    /// The given values that are in the workbench's memory, in the order of its columns.
    given: Vec<(&'a Given, Matrix)>,
    /// The sums over rows and columns that have been computed.
    sums: Vec<(Over, &'a Score, Known)>,
    /// All other values that have been computed, since criteria use the same factor more than once.
    known: Vec<(&'a Score, Known)>,
}

impl<'a> Resolving<'a> {
    fn values(&mut self, score: &'a Score) -> Result<Values> {
        let mut values = Values::from(Formula::Number(0.0));
        values.formula = self.lowered(score, &mut values.matrices, &mut values.vectors)?;
        Ok(values)
    }

    /// Computes the sums over weights that a score uses. Sums whose own formulas are known are computed in one pass.
    fn add_up(&mut self, score: &'a Score) -> Result<()> {
        let mut wanted: Vec<(Over, &'a Score)> = Vec::new();
        sums_of(score, &mut wanted);
        while !wanted.is_empty() {
            let (ready, later): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, of)| {
                let mut inner = Vec::new();
                sums_of(of, &mut inner);
                inner.iter().all(|(over, of)| self.sum(*over, of).is_some())
            });
            let mut requests = Vec::with_capacity(ready.len());
            for (over, of) in &ready {
                requests.push((*over, self.values(of)?));
            }
            let found = self.layer.sums(&requests)?;
            for ((over, of), sums) in ready.into_iter().zip(found) {
                self.sums.push((over, of, sums.into()));
            }
            wanted = later;
        }
        Ok(())
    }

    fn sum(&self, over: Over, of: &Score) -> Option<&Known> {
        let mut sums = self.sums.iter();
        sums.find(|(known, sum, _)| *known == over && *sum == of)
            .map(|(.., sums)| sums)
    }

    /// The part of a score that depends on single weights, as a formula; everything else is computed and becomes its
    /// operands.
    fn lowered(
        &mut self,
        score: &'a Score,
        matrices: &mut Vec<Matrix>,
        vectors: &mut Vec<Vec<f32>>,
    ) -> Result<Formula<Operand>> {
        match shape(score) {
            Shape::One => return Ok(Formula::Number(self.known(score)?[0])),
            Shape::PerRow => return Ok(Formula::Leaf(Operand::Row(placed(vectors, &self.known(score)?)))),
            Shape::PerColumn => return Ok(Formula::Leaf(Operand::Column(placed(vectors, &self.known(score)?)))),
            Shape::PerWeight => {}
        }
        Ok(match score {
            Formula::Leaf(Quantity::Given(given)) => {
                matrices.push(self.given(given)?);
                Formula::Leaf(Operand::Matrix(matrices.len() - 1))
            }
            Formula::Leaf(Quantity::Gradient(..)) => return Err(not_gathered()),
            Formula::Leaf(Quantity::FromFile) => return Err(no_file()),
            Formula::Leaf(_) => Formula::Leaf(Operand::Weight),
            Formula::Number(value) => Formula::Number(*value),
            Formula::Unary(function, of) => Formula::Unary(*function, Box::new(self.lowered(of, matrices, vectors)?)),
            Formula::Binary(function, a, b) => {
                let a = Box::new(self.lowered(a, matrices, vectors)?);
                Formula::Binary(*function, a, Box::new(self.lowered(b, matrices, vectors)?))
            }
        })
    }

    /// Given values in the workbench's memory.
    fn given(&mut self, given: &'a Given) -> Result<Matrix> {
        if let Some((_, matrix)) = self.given.iter().find(|(known, _)| *known == given) {
            return Ok(matrix.clone());
        }
        let values = &given.0;
        if values.dim() != self.layer.dim() {
            let message = format!(
                "scores of {:?} weights for a layer of {:?}",
                values.dim(),
                self.layer.dim()
            );
            return Err(Error::config(message));
        }
        let mut matrix = match values {
            WeightValues::Host(values) => self.layer.matrix(values.view())?,
            WeightValues::There { dim, tensor } => Matrix::known(*dim, tensor.clone()),
        };
        if let Some(order) = self.layer.order() {
            let places: Vec<f32> = order.iter().map(|place| *place as f32).collect();
            let places = ArrayView2::from_shape((1, places.len()), &places).expect("one row");
            matrix = self.layer.gather(&matrix, &self.layer.matrix(places)?)?;
        }
        self.given.push((given, matrix.clone()));
        Ok(matrix)
    }

    /// `||y_i||^2 / sequences`: the diagonal of `W G W^T`.
    fn outputs(&self) -> Result<Vec<f64>> {
        let weight = self.layer.weight()?;
        let product = self.layer.product(&weight, &self.layer.gram()?)?;
        let products = Values::over([&product, &weight], |[product, weight]| product * weight);
        let sums = self.layer.sums(&[(Over::Row, products)])?;
        // Rounding may leave less than nothing of an output that is always 0.
        Ok(sums
            .into_iter()
            .flatten()
            .map(|sum| Binary::Maximum.of(sum, 0.0))
            .collect())
    }

    /// The least or greatest value of a formula over all weights.
    fn extreme(&mut self, end: Extreme, of: &'a Score) -> Result<f64> {
        let (layer, dim) = (self.layer, self.layer.dim());
        let mut values = self.values(of)?;
        let sign = match end {
            Extreme::Least => 1.0,
            Extreme::Greatest => -1.0,
        };
        values.formula = sign * values.formula;
        let lowest = layer.lowest(dim, &values, 1)?;
        let lowest = layer.read(&layer.gather(&layer.map(dim, &values)?, &lowest)?)?;
        let lowest = lowest.iter().fold(f32::INFINITY, |a, b| Binary::Minimum.of(a, *b));
        Ok(sign * f64::from(lowest))
    }

    /// The values of a score that does not depend on single weights.
    fn known(&mut self, score: &'a Score) -> Result<Known> {
        if let Some((_, values)) = self.known.iter().find(|(known, _)| *known == score) {
            return Ok(values.clone());
        }
        let (rows, columns) = self.layer.dim();
        let values: Known = match score {
            Formula::Number(value) => [*value].into(),
            Formula::Leaf(quantity) => match quantity {
                Quantity::InputSquares => self.layer.squared_norms()?.into(),
                Quantity::InputMeans => self.layer.means()?.mean.as_slice().into(),
                Quantity::InputVariances => self.layer.means()?.variance.as_slice().into(),
                Quantity::Pivots => {
                    let pivots = self.layer.pivots()?.into_iter();
                    pivots.map(|pivot| pivot.unwrap_or(f64::INFINITY)).collect()
                }
                Quantity::OutputSquares => self.outputs()?.into(),
                Quantity::Rows => [rows as f64].into(),
                Quantity::Columns => [columns as f64].into(),
                Quantity::Sum(Over::Vector, of) if shape(of) == Shape::PerWeight || shape(of) == Shape::One => {
                    let message =
                        format!("`sum({of})`: only a vector has such a sum; take row_sums or column_sums first");
                    return Err(Error::config(message));
                }
                Quantity::Sum(Over::Vector, of) => [self.known(of)?.iter().fold(0.0, |sum, value| sum + value)].into(),
                Quantity::Sum(over, of) => {
                    let sums = self.sum(*over, of);
                    sums.expect("sums over the weights are computed before they are used")
                        .clone()
                }
                Quantity::Extreme(end, of) => [self.extreme(*end, of)?].into(),
                Quantity::Sequences => return Err(not_gathered()),
                Quantity::Depth => {
                    let message = "`depth` is known where whole models are pruned, and this is a layer alone";
                    return Err(Error::config(message));
                }
                Quantity::Weight | Quantity::Gradient(..) | Quantity::FromFile | Quantity::Given(_) => {
                    let message =
                        format!("`{score}` has a value for each weight, where one for each row or column is asked for");
                    return Err(Error::config(message));
                }
            },
            Formula::Unary(function, of) => self.known(of)?.iter().map(|value| function.of(*value)).collect(),
            Formula::Binary(function, a, b) => {
                let (a, b) = (self.known(a)?, self.known(b)?);
                // One value stands for all.
                let at = |values: &Known, index: usize| values[if values.len() == 1 { 0 } else { index }];
                let length = a.len().max(b.len());
                (0..length)
                    .map(|index| function.of(at(&a, index), at(&b, index)))
                    .collect()
            }
        };
        self.known.push((score, values.clone()));
        Ok(values)
    }
}

/// The error of a score whose file nobody has opened.
pub(crate) fn no_file() -> Error {
    Error::config(
        "the score has the values of a file, and no file was opened for it: an experiment and `zprune prune` open it, and a program \
         that uses the library gives it to the `Treatment`",
    )
}

/// The sums over rows and columns in a score, including those inside other sums.
fn sums_of<'s>(score: &'s Score, into: &mut Vec<(Over, &'s Score)>) {
    score.leaves(&mut |quantity| {
        if let Quantity::Extreme(_, of) = quantity {
            sums_of(of, into);
        }
        if let Quantity::Sum(over, of) = quantity {
            sums_of(of, into);
            let sum = (*over, of.as_ref());
            if *over != Over::Vector && !into.contains(&sum) {
                into.push(sum);
            }
        }
    });
}

/// Adds a vector to those of a formula, in single precision, and returns its index.
fn placed(vectors: &mut Vec<Vec<f32>>, values: &[f64]) -> usize {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    match vectors.iter().position(|known| *known == values) {
        Some(index) => index,
        None => {
            vectors.push(values);
            vectors.len() - 1
        }
    }
}
