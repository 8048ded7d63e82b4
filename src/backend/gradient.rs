//! Sums over sequences of the gradient with respect to a weight.

use crate::error::Result;

/// One of the sums over sequences of the gradient with respect to a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GradientSum {
    /// The sum of the gradients.
    Plain,
    /// The sum of their squares, entry by entry.
    Squares,
    /// The sum of their magnitudes, entry by entry.
    Magnitudes,
}

/// The sums over sequences of the gradient of a loss that a method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GradientNeeds {
    /// Whether the sum of the gradients is needed.
    pub sum: bool,
    /// Whether the sum of their squares is needed, entry by entry.
    pub squares: bool,
    /// Whether the sum of their magnitudes is needed, entry by entry.
    pub magnitudes: bool,
}

impl GradientNeeds {
    /// Only the sum of the gradients.
    pub const SUM: GradientNeeds = GradientNeeds {
        sum: true,
        ..GradientNeeds::NOTHING
    };
    /// No gradients at all.
    pub const NOTHING: GradientNeeds = GradientNeeds {
        sum: false,
        squares: false,
        magnitudes: false,
    };

    /// One of the sums.
    pub fn only(sum: GradientSum) -> Self {
        GradientNeeds {
            sum: sum == GradientSum::Plain,
            squares: sum == GradientSum::Squares,
            magnitudes: sum == GradientSum::Magnitudes,
        }
    }

    /// What two components need together.
    #[must_use]
    pub fn and(self, other: GradientNeeds) -> GradientNeeds {
        GradientNeeds {
            sum: self.sum || other.sum,
            squares: self.squares || other.squares,
            magnitudes: self.magnitudes || other.magnitudes,
        }
    }

    /// Whether sums gathered for these needs are enough for `other`.
    pub fn cover(self, other: GradientNeeds) -> bool {
        self.and(other) == self
    }

    /// Whether gradients are needed at all.
    pub fn anything(self) -> bool {
        self != GradientNeeds::NOTHING
    }

    /// Number of sums that are needed.
    pub fn count(self) -> usize {
        [self.sum, self.squares, self.magnitudes]
            .into_iter()
            .map(usize::from)
            .sum()
    }
}

/// Sums over sequences of the gradient with respect to a weight, each `(outputs, inputs)` in single precision.
pub struct Gradient<T> {
    /// The sum of the gradients of all sequences, if it was asked for.
    pub sum: Option<T>,
    /// The sum of their squares, if it was asked for.
    pub squares: Option<T>,
    /// The sum of their magnitudes, if it was asked for.
    pub magnitudes: Option<T>,
}

impl<T> Gradient<T> {
    /// The sums that are needed, before any sequence was added: each is one of the matrices of zeros that `zeros` makes, as large
    /// as the weight.
    ///
    /// # Errors
    /// `zeros` fails.
    pub fn new(needs: GradientNeeds, zeros: impl Fn() -> Result<T>) -> Result<Self> {
        let zeros = |wanted: bool| wanted.then(&zeros).transpose();
        Ok(Gradient {
            sum: zeros(needs.sum)?,
            squares: zeros(needs.squares)?,
            magnitudes: zeros(needs.magnitudes)?,
        })
    }
}
