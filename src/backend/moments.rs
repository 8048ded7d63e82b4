//! Streaming second moments of a layer's inputs, in `f64`.

use crate::error::{Error, Result};
use ndarray::{ArcArray2, Array2};

/// Which statistics a method asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Sum of squares per input feature.
    pub squares: bool,
    /// The Gram matrix of the inputs.
    pub gram: bool,
}

impl Needs {
    /// No statistics: the method looks at weights only.
    pub const NOTHING: Needs = Needs {
        squares: false,
        gram: false,
    };
    /// Sums of squares.
    pub const SQUARES: Needs = Needs {
        squares: true,
        gram: false,
    };
    /// Gram matrix (and the sums of squares, which are its diagonal).
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

    /// Whether statistics made for these needs serve the others.
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
    /// Tokens added.
    pub tokens: usize,
    /// Sum of squares per feature.
    pub squares: Vec<f64>,
    /// Sum of outer products `x x^T`, `(inputs, inputs)`; only the lower triangle is filled. Shared, since it may
    /// be the largest array of a run: what is made of it does not copy it.
    pub gram: Option<ArcArray2<f64>>,
}

impl Moments {
    /// Empty moments.
    pub fn new(inputs: usize, needs: Needs) -> Self {
        Moments {
            tokens: 0,
            squares: vec![0.0; inputs],
            gram: needs.gram.then(|| Array2::zeros((inputs, inputs)).into_shared()),
        }
    }

    /// Refuses sums that are not finite.
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
