//! Streaming moments of a layer's inputs, in `f64`.

use crate::error::{Error, Result};
use ndarray::{ArcArray2, Array2};

/// The statistics of a layer's inputs that a method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Whether the sum of squares of each input feature is needed.
    pub squares: bool,
    /// Whether the Gram matrix of the inputs is needed.
    pub gram: bool,
    /// Whether the sum of each input feature over each sequence is needed, for means and variances.
    pub means: bool,
    /// Whether the products of the inputs with those of the dense model are needed, for solvers that reproduce the dense
    /// model's outputs.
    pub cross: bool,
    /// Whether the means of the dense model's inputs are needed, for steps that reproduce the means of its outputs.
    pub goal_means: bool,
    /// Whether the Gram matrix of the dense model's inputs is needed beside these products, for errors that are held against
    /// the size of the dense model's outputs.
    pub goal_gram: bool,
}

impl Needs {
    /// No statistics: the method looks at weights only.
    pub const NOTHING: Needs = Needs {
        squares: false,
        gram: false,
        means: false,
        cross: false,
        goal_means: false,
        goal_gram: false,
    };
    /// Only the sums of squares.
    pub const SQUARES: Needs = Needs {
        squares: true,
        ..Needs::NOTHING
    };
    /// The Gram matrix, and the sums of squares, which are its diagonal.
    pub const GRAM: Needs = Needs {
        squares: true,
        gram: true,
        ..Needs::NOTHING
    };
    /// The sums over each sequence, and the sums of squares, which variances are made of, too.
    pub const MEANS: Needs = Needs {
        squares: true,
        means: true,
        ..Needs::NOTHING
    };

    /// What two components need together.
    #[must_use]
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            squares: self.squares || other.squares,
            gram: self.gram || other.gram,
            means: self.means || other.means,
            cross: self.cross || other.cross,
            goal_means: self.goal_means || other.goal_means,
            goal_gram: self.goal_gram || other.goal_gram,
        }
    }

    /// The part of these needs that one model's inputs meet: without anything that is gathered beside the dense model's.
    #[must_use]
    pub fn of_one_model(self) -> Needs {
        Needs {
            cross: false,
            goal_means: false,
            goal_gram: false,
            ..self
        }
    }

    /// Whether statistics gathered for these needs are enough for `other`.
    pub fn cover(self, other: Needs) -> bool {
        self.and(other) == self
    }

    /// Whether calibration is needed at all.
    pub fn anything(self) -> bool {
        self != Needs::NOTHING
    }
}

/// Moments of `inputs` features over the tokens seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Number of tokens that were added.
    pub tokens: usize,
    /// Sum of squares of each feature over the tokens.
    pub squares: Vec<f64>,
    /// Sum of outer products `x x^T`, `(inputs, inputs)`; only the lower triangle is filled. It may be the largest
    /// array of a run, so it is shared and not copied.
    pub gram: Option<ArcArray2<f64>>,
    /// Sum of outer products `x d^T`, `(inputs, inputs)`, of the inputs `x` with the dense model's inputs `d` of the same
    /// tokens, if they were asked for.
    pub cross: Option<ArcArray2<f64>>,
    /// Sum of outer products `d d^T`, `(inputs, inputs)`, of the dense model's inputs, if they were asked for.
    pub goal: Option<ArcArray2<f64>>,
    /// The sum of each feature over each sequence, if means were asked for.
    pub sums: Option<SequenceSums>,
}

/// The sums of features over the tokens of each sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceSums {
    /// One row per sequence, with a value per feature.
    pub sums: Vec<Vec<f64>>,
    /// The weight of each sequence: its number of tokens if all of them count alike.
    pub weights: Vec<f64>,
}

impl SequenceSums {
    /// The mean of each feature over all tokens, counted by their weights.
    pub fn means(&self) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        let mut means = vec![0.0; self.sums.first().map_or(0, Vec::len)];
        for sequence in &self.sums {
            means
                .iter_mut()
                .zip(sequence)
                .for_each(|(mean, sum)| *mean += sum / total);
        }
        means
    }
}

impl Moments {
    /// Moments of `inputs` features before any token was added.
    pub fn new(inputs: usize, needs: Needs) -> Self {
        Moments {
            tokens: 0,
            squares: vec![0.0; inputs],
            gram: needs.gram.then(|| Array2::zeros((inputs, inputs)).into_shared()),
            cross: needs.cross.then(|| Array2::zeros((inputs, inputs)).into_shared()),
            goal: needs.goal_gram.then(|| Array2::zeros((inputs, inputs)).into_shared()),
            sums: needs.means.then(SequenceSums::default),
        }
    }

    /// Checks that all sums are finite.
    ///
    /// # Errors
    /// Names the first such feature.
    pub fn check_finite(&self) -> Result<()> {
        match self.squares.iter().position(|sum| !sum.is_finite()) {
            None => Ok(()),
            Some(feature) => Err(Error::numeric(format!(
                "calibration activations are not finite (feature {feature})"
            ))),
        }
    }
}
