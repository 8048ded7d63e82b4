//! Streaming second moments of a layer's inputs, in `f64`.

use crate::error::{Error, Result};
use ndarray::{ArcArray2, Array2};

/// The statistics of a layer's inputs that a method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Whether the sum of squares of each input feature is needed.
    pub squares: bool,
    /// Whether the Gram matrix of the inputs is needed.
    pub gram: bool,
}

impl Needs {
    /// No statistics: the method looks at weights only.
    pub const NOTHING: Needs = Needs {
        squares: false,
        gram: false,
    };
    /// Only the sums of squares.
    pub const SQUARES: Needs = Needs {
        squares: true,
        gram: false,
    };
    /// The Gram matrix, and the sums of squares, which are its diagonal.
    pub const GRAM: Needs = Needs {
        squares: true,
        gram: true,
    };

    /// What two components need together.
    #[must_use]
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            squares: self.squares || other.squares,
            gram: self.gram || other.gram,
        }
    }

    /// Whether statistics gathered for these needs are enough for `other`.
    pub fn cover(self, other: Needs) -> bool {
        self.and(other) == self
    }

    /// Whether calibration is needed at all.
    pub fn anything(self) -> bool {
        self.squares || self.gram
    }
}

/// Second moments of `inputs` features over the tokens seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Number of tokens that were added.
    pub tokens: usize,
    /// Sum of squares of each feature over the tokens.
    pub squares: Vec<f64>,
    /// Sum of outer products `x x^T`, `(inputs, inputs)`; only the lower triangle is filled. It may be the largest
    /// array of a run, so it is shared and not copied.
    pub gram: Option<ArcArray2<f64>>,
}

impl Moments {
    /// Moments of `inputs` features before any token was added.
    pub fn new(inputs: usize, needs: Needs) -> Self {
        Moments {
            tokens: 0,
            squares: vec![0.0; inputs],
            gram: needs.gram.then(|| Array2::zeros((inputs, inputs)).into_shared()),
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
