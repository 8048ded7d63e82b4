//! A score is data.
//!
//! `S_ij = sum_t g_i h_j |w_ij r_i c_j + shift|^p` covers magnitude, Wanda, RIA, Z-Pruner and the OBS
//! saliency, so one loop here (and one kernel on a GPU) evaluates them all, and a solver that changes
//! weights can evaluate the same score again on the changed ones. A dense matrix is the way out for
//! anything else.

use crate::backend::cpu::simd::vectorised;
use crate::error::{Error, Result};
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

/// One summand. An absent factor is 1 everywhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Term {
    /// `g`: factor of a row, outside the power.
    pub row: Option<Vec<f32>>,
    /// `h`: factor of a column, outside the power.
    pub column: Option<Vec<f32>>,
    /// `r`: factor of a row, inside the power.
    pub inner_row: Option<Vec<f32>>,
    /// `c`: factor of a column, inside the power.
    pub inner_column: Option<Vec<f32>>,
    /// Added inside the power.
    pub shift: f32,
    /// `p`.
    pub power: Power,
}

/// The exponents that scores use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Power {
    /// `|x|`.
    #[default]
    One,
    /// `x^2`.
    Two,
    /// `|x|^3`.
    Three,
}

/// How important each weight of a layer is; the lowest go first.
#[derive(Debug, Clone, PartialEq)]
pub enum Score {
    /// A sum of terms.
    Terms(Vec<Term>),
    /// One value per weight.
    Dense(Array2<f32>),
}

impl Score {
    /// The scores of a whole layer, `(outputs, inputs)`.
    ///
    /// # Errors
    /// A score is NaN, infinite or negative; names the row and the column.
    pub fn evaluate(&self, weight: ArrayView2<f32>) -> Result<Array2<f32>> {
        self.evaluate_columns(weight, 0)
    }

    /// The scores of some consecutive columns, of which `weight` holds the current values and
    /// `first` is the index of the first within the layer.
    ///
    /// # Errors
    /// As [`Score::evaluate`].
    pub fn evaluate_columns(&self, weight: ArrayView2<f32>, first: usize) -> Result<Array2<f32>> {
        let columns = weight.ncols();
        let scores = match self {
            Score::Dense(scores) => scores.slice(s![.., first..first + columns]).to_owned(),
            Score::Terms(terms) => {
                let mut scores = Array2::zeros(weight.dim());
                let factors: Vec<_> = terms.iter().map(|term| term.columns(first, columns)).collect();
                scores
                    .axis_iter_mut(Axis(0))
                    .into_par_iter()
                    .zip(weight.axis_iter(Axis(0)))
                    .enumerate()
                    .for_each(|(row, (mut scores, weight))| {
                        let scores = scores.as_slice_mut().expect("a fresh array is contiguous");
                        let copied;
                        let weight = match weight.as_slice() {
                            Some(weight) => weight,
                            None => {
                                copied = weight.to_vec();
                                &copied
                            }
                        };
                        vectorised(
                            #[inline(always)]
                            || {
                                for (term, (h, c)) in terms.iter().zip(&factors) {
                                    term.add_row(scores, weight, row, h, c);
                                }
                            },
                        );
                    });
                scores
            }
        };
        refuse_unusable(&scores, first)?;
        Ok(scores)
    }
}

impl Score {
    /// The score of one weight whose current value is `weight`.
    ///
    /// # Errors
    /// The score is NaN, infinite or negative.
    pub fn evaluate_one(&self, weight: f32, row: usize, column: usize) -> Result<f32> {
        let value = match self {
            Score::Dense(scores) => scores[[row, column]],
            Score::Terms(terms) => terms.iter().map(|term| term.value(weight, row, column)).sum(),
        };
        if usable(value) {
            Ok(value)
        } else {
            Err(unusable(value, row, column))
        }
    }
}

/// Selection orders scores by their bits, which is right only for finite values that are not negative.
fn usable(value: f32) -> bool {
    value.is_finite() && value >= 0.0
}

fn unusable(value: f32, row: usize, column: usize) -> Error {
    Error::numeric(format!("the score at row {row}, column {column} is {value}"))
}

fn refuse_unusable(scores: &Array2<f32>, first: usize) -> Result<()> {
    let rows = scores.axis_iter(Axis(0)).into_par_iter().enumerate();
    let worst = rows.find_map_first(|(row, scores)| {
        // Counted, not searched: a loop without a way out is vectorised.
        let unusable: usize = scores.iter().map(|value| usize::from(!usable(*value))).sum();
        let place = || {
            scores
                .iter()
                .position(|value| !usable(*value))
                .map(|column| (row, column))
        };
        (unusable > 0).then(place).flatten()
    });
    match worst {
        None => Ok(()),
        Some((row, column)) => Err(unusable(scores[[row, column]], row, first + column)),
    }
}

impl Term {
    /// The factors of `count` columns from `first` on, outside and inside the power.
    fn columns(&self, first: usize, count: usize) -> (Vec<f32>, Vec<f32>) {
        let of = |factors: &Option<Vec<f32>>| match factors {
            Some(factors) => factors[first..first + count].to_vec(),
            None => vec![1.0; count],
        };
        (of(&self.column), of(&self.inner_column))
    }

    /// Adds this term's scores of one row, given the factors of its columns.
    #[inline(always)]
    fn add_row(&self, scores: &mut [f32], weight: &[f32], row: usize, h: &[f32], c: &[f32]) {
        let (outer, inner) = (at(&self.row, row), at(&self.inner_row, row));
        for (((score, weight), h), c) in scores.iter_mut().zip(weight).zip(h).zip(c) {
            *score += self.combine(*weight, outer * h, inner * c);
        }
    }

    fn value(&self, weight: f32, row: usize, column: usize) -> f32 {
        let outer = at(&self.row, row) * at(&self.column, column);
        self.combine(weight, outer, at(&self.inner_row, row) * at(&self.inner_column, column))
    }

    #[inline(always)]
    fn combine(&self, weight: f32, outer: f32, inner: f32) -> f32 {
        let x = weight * inner + self.shift;
        outer
            * match self.power {
                Power::One => x.abs(),
                Power::Two => x * x,
                Power::Three => (x * x * x).abs(),
            }
    }
}

/// An absent factor is 1.
fn at(factors: &Option<Vec<f32>>, index: usize) -> f32 {
    factors.as_ref().map_or(1.0, |factors| factors[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_term_is_what_its_formula_says() {
        let term = Term {
            row: Some(vec![2.0, 3.0]),
            column: Some(vec![1.0, 10.0, 100.0]),
            inner_row: Some(vec![0.5, 1.0]),
            inner_column: Some(vec![1.0, 2.0, 4.0]),
            shift: 1.0,
            power: Power::Three,
        };
        let weight = array![[2.0f32, -2.0, 1.0], [0.0, 1.0, -1.0]];
        let scores = Score::Terms(vec![term.clone()])
            .evaluate(weight.view())
            .expect("finite");
        // 2*1*|2*.5*1+1|^3 = 16; 2*10*|-2*.5*2+1|^3 = 20; 2*100*|1*.5*4+1|^3 = 5400; 3; 3*10*27; 3*100*27.
        assert_eq!(scores, array![[16.0, 20.0, 5400.0], [3.0, 810.0, 8100.0]]);
        let part = Score::Terms(vec![term])
            .evaluate_columns(weight.slice(s![.., 1..]), 1)
            .expect("finite");
        assert_eq!(part, scores.slice(s![.., 1..]));
    }

    #[test]
    fn a_nan_score_is_refused_with_its_place() {
        let error =
            Score::Dense(array![[0.0, 1.0], [f32::NAN, 0.0]]).evaluate(array![[0.0f32, 0.0], [0.0, 0.0]].view());
        assert_eq!(
            error.expect_err("NaN").to_string(),
            "the score at row 1, column 0 is NaN"
        );
    }
}
