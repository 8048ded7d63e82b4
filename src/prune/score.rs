//! A score is a formula over what is known of a layer: its weights, sums over them, statistics of its inputs.
//!
//! A criterion writes down the formula ([`Score`]); what it needs of calibration is read off the formula, and what does
//! not depend on single weights is computed once, in `f64` on the host ([`resolve`]). What is left is one value per weight
//! in `f32`, which every workbench evaluates where the weights are ([`Values`]). A solver that changes weights evaluates
//! the same score again on the changed ones.

use super::formula::Formula;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::LayerView;
use ndarray::ArcArray2;
use std::fmt;

/// How important each weight of a layer is, as a formula; the lowest values are removed first.
pub type Score = Formula<Quantity>;

/// What a score speaks of.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    /// The weight at each place.
    Weight,
    /// `||x_j||^2 / sequences` of each input feature `j`: one value per column.
    InputSquares,
    /// `U_jj` of the damped inverse Hessian's factor, `H^-1 = U^T U`: one value per column, infinite where the feature was
    /// zero on every calibration token.
    Pivots,
    /// The number of rows (outputs).
    Rows,
    /// The number of columns (inputs).
    Columns,
    /// Sums of a formula over the weights.
    Sum(Over, Box<Score>),
    /// One value per weight that somebody else computed.
    Given(ArcArray2<f32>),
}

/// The weight at each place.
pub fn weight() -> Score {
    Formula::Leaf(Quantity::Weight)
}

/// `||x_j||^2 / sequences` of each input feature.
pub fn input_squares() -> Score {
    Formula::Leaf(Quantity::InputSquares)
}

/// `U_jj` of the damped inverse Hessian's factor of each input feature.
pub fn pivots() -> Score {
    Formula::Leaf(Quantity::Pivots)
}

/// The number of weights.
pub fn entries() -> Score {
    Formula::Leaf(Quantity::Rows) * Formula::Leaf(Quantity::Columns)
}

/// Sums over each row.
pub fn row_sums(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Row, Box::new(of)))
}

/// Sums over each column.
pub fn column_sums(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Column, Box::new(of)))
}

/// The sum of the values of a vector (one value per row, or per column).
pub fn sum(of: Score) -> Score {
    Formula::Leaf(Quantity::Sum(Over::Vector, Box::new(of)))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantity::Weight => write!(f, "w"),
            Quantity::InputSquares => write!(f, "input_squares"),
            Quantity::Pivots => write!(f, "pivots"),
            Quantity::Rows => write!(f, "rows"),
            Quantity::Columns => write!(f, "columns"),
            Quantity::Sum(Over::Row, of) => write!(f, "row_sums({of})"),
            Quantity::Sum(Over::Column, of) => write!(f, "column_sums({of})"),
            Quantity::Sum(Over::Vector, of) => write!(f, "sum({of})"),
            Quantity::Given(values) => write!(f, "given[{} x {}]", values.nrows(), values.ncols()),
        }
    }
}

/// The statistics that a score asks for.
pub fn needs(score: &Score) -> Needs {
    let mut needs = Needs::NOTHING;
    score.leaves(&mut |quantity| {
        needs = needs.and(match quantity {
            Quantity::InputSquares => Needs::SQUARES,
            Quantity::Pivots => Needs::GRAM,
            Quantity::Sum(_, of) => self::needs(of),
            Quantity::Weight | Quantity::Rows | Quantity::Columns | Quantity::Given(_) => Needs::NOTHING,
        });
    });
    needs
}

/// Computes everything of a score that does not depend on single weights.
///
/// # Errors
/// A statistic was not gathered, the Hessian cannot be factored, a given matrix or a sum does not fit, or the backend
/// fails.
pub fn resolve(score: &Score, layer: &dyn LayerView) -> Result<Values> {
    let mut resolving = Resolving {
        layer,
        sums: Vec::new(),
    };
    resolving.values(score)
}

/// A value that does not depend on single weights.
#[derive(Debug, Clone)]
enum Known {
    One(f64),
    Rows(Vec<f64>),
    Columns(Vec<f64>),
}

struct Resolving<'a> {
    layer: &'a dyn LayerView,
    /// Sums over rows and columns that are known.
    sums: Vec<(Over, &'a Score, Vec<f64>)>,
}

impl<'a> Resolving<'a> {
    fn values<'s: 'a>(&mut self, score: &'s Score) -> Result<Values> {
        self.add_up(score)?;
        let mut values = Values::from(Formula::Number(0.0));
        values.formula = self.lowered(score, &mut values.matrices, &mut values.vectors)?;
        Ok(values)
    }

    /// Computes the sums over the weights that a score asks for: those whose own formulas are known go together.
    fn add_up<'s: 'a>(&mut self, score: &'s Score) -> Result<()> {
        let mut wanted: Vec<(Over, &'s Score)> = Vec::new();
        sums_of(score, &mut wanted);
        wanted.retain(|(over, of)| !self.sums.iter().any(|(known, sum, _)| known == over && sum == of));
        while !wanted.is_empty() {
            let known = |(over, of): &(Over, &Score)| self.sums.iter().any(|(o, s, _)| o == over && s == of);
            let (ready, later): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, of)| {
                let mut inner = Vec::new();
                sums_of(of, &mut inner);
                inner.iter().all(known)
            });
            let requests = ready.iter().map(|(over, of)| {
                let mut values = Values::from(Formula::Number(0.0));
                values.formula = self.lowered(of, &mut values.matrices, &mut values.vectors)?;
                Ok((*over, values))
            });
            let requests: Vec<(Over, Values)> = requests.collect::<Result<_>>()?;
            let found = self.layer.sums(&requests)?;
            for ((over, of), sums) in ready.into_iter().zip(found) {
                self.sums.push((over, of, sums));
            }
            wanted = later;
        }
        Ok(())
    }

    /// The part of a score that depends on single weights, over operands that hold the rest.
    fn lowered(
        &self,
        score: &Score,
        matrices: &mut Vec<Matrix>,
        vectors: &mut Vec<Vec<f32>>,
    ) -> Result<Formula<Operand>> {
        if let Some(known) = self.known(score)? {
            return Ok(match known {
                Known::One(value) => Formula::Number(value),
                Known::Rows(values) => Formula::Leaf(Operand::Row(placed(vectors, values))),
                Known::Columns(values) => Formula::Leaf(Operand::Column(placed(vectors, values))),
            });
        }
        Ok(match score {
            Formula::Leaf(Quantity::Given(values)) => {
                if values.dim() != self.layer.dim() {
                    let message = format!(
                        "scores of {:?} weights for a layer of {:?}",
                        values.dim(),
                        self.layer.dim()
                    );
                    return Err(Error::config(message));
                }
                matrices.push(self.layer.matrix(values.view())?);
                Formula::Leaf(Operand::Matrix(matrices.len() - 1))
            }
            Formula::Leaf(_) => Formula::Leaf(Operand::Weight),
            Formula::Number(value) => Formula::Number(*value),
            Formula::Unary(function, of) => Formula::Unary(*function, Box::new(self.lowered(of, matrices, vectors)?)),
            Formula::Binary(function, a, b) => {
                let a = Box::new(self.lowered(a, matrices, vectors)?);
                Formula::Binary(*function, a, Box::new(self.lowered(b, matrices, vectors)?))
            }
        })
    }

    /// The value of a score that does not depend on single weights; `None` where it does.
    fn known(&self, score: &Score) -> Result<Option<Known>> {
        Ok(match score {
            Formula::Number(value) => Some(Known::One(*value)),
            Formula::Leaf(quantity) => match quantity {
                Quantity::Weight | Quantity::Given(_) => None,
                Quantity::InputSquares => Some(Known::Columns(self.layer.squared_norms()?.to_vec())),
                Quantity::Pivots => {
                    let pivots = self.layer.pivots()?.into_iter();
                    Some(Known::Columns(
                        pivots.map(|pivot| pivot.unwrap_or(f64::INFINITY)).collect(),
                    ))
                }
                Quantity::Rows => Some(Known::One(self.layer.dim().0 as f64)),
                Quantity::Columns => Some(Known::One(self.layer.dim().1 as f64)),
                Quantity::Sum(Over::Vector, of) => match self.known(of)? {
                    Some(Known::Rows(values) | Known::Columns(values)) => {
                        Some(Known::One(values.iter().fold(0.0, |sum, value| sum + value)))
                    }
                    _ => {
                        return Err(Error::config(format!(
                            "`sum({of})`: only a vector has such a sum; take row_sums or column_sums first"
                        )));
                    }
                },
                Quantity::Sum(over, of) => {
                    let found = self
                        .sums
                        .iter()
                        .find(|(known, sum, _)| known == over && *sum == of.as_ref());
                    let (_, _, values) = found.expect("sums over the weights are computed before they are used");
                    Some(match over {
                        Over::Row => Known::Rows(values.clone()),
                        _ => Known::Columns(values.clone()),
                    })
                }
            },
            Formula::Unary(function, of) => self.known(of)?.map(|known| known.map(|value| function.of(value))),
            Formula::Binary(function, a, b) => match (self.known(a)?, self.known(b)?) {
                (Some(a), Some(b)) => a.with(b, |a, b| function.of(a, b)),
                _ => None,
            },
        })
    }
}

/// The sums over rows and columns in a score, inner ones too.
fn sums_of<'s>(score: &'s Score, into: &mut Vec<(Over, &'s Score)>) {
    score.leaves(&mut |quantity| {
        if let Quantity::Sum(over, of) = quantity {
            sums_of(of, into);
            let sum = (*over, of.as_ref());
            if *over != Over::Vector && !into.contains(&sum) {
                into.push(sum);
            }
        }
    });
}

/// The index of a vector among those of a formula, in single precision.
fn placed(vectors: &mut Vec<Vec<f32>>, values: Vec<f64>) -> usize {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    match vectors.iter().position(|known| *known == values) {
        Some(index) => index,
        None => {
            vectors.push(values);
            vectors.len() - 1
        }
    }
}

impl Known {
    fn map(self, function: impl Fn(f64) -> f64) -> Known {
        let all = |values: Vec<f64>| values.into_iter().map(&function).collect();
        match self {
            Known::One(value) => Known::One(function(value)),
            Known::Rows(values) => Known::Rows(all(values)),
            Known::Columns(values) => Known::Columns(all(values)),
        }
    }

    /// `None` where one has a value per row and the other one per column: together they have one per weight.
    fn with(self, other: Known, function: impl Fn(f64, f64) -> f64) -> Option<Known> {
        let pairs = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect();
        Some(match (self, other) {
            (Known::One(a), b) => b.map(|b| function(a, b)),
            (a, Known::One(b)) => a.map(|a| function(a, b)),
            (Known::Rows(a), Known::Rows(b)) => Known::Rows(pairs(a, b)),
            (Known::Columns(a), Known::Columns(b)) => Known::Columns(pairs(a, b)),
            _ => return None,
        })
    }
}
