//! Sums over sequences of the gradient with respect to a weight.

use crate::error::Result;

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
        squares: false,
        magnitudes: false,
    };
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
