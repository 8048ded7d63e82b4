//! A formula over the entries of matrices, as data: what a criterion scores, what a sum adds up, what an elementwise
//! step of a solver computes. It is written once in Rust's own operators; [`program`] evaluates it on the host and
//! [`wgsl`] writes it into a kernel.
//!
//! ```
//! use zprune::prune::formula::Formula;
//!
//! let (w, x) = (|| Formula::leaf("w"), || Formula::leaf("x"));
//! let wanda = w().abs() * x();
//! assert_eq!(wanda.to_string(), "abs(w) * x");
//! ```

pub mod program;
pub mod wgsl;
pub mod written;

use crate::error::Result;
use ndarray::NdFloat;
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A formula whose leaves are of type `L`.
#[derive(Debug, Clone, PartialEq)]
pub enum Formula<L> {
    /// A value that is given when the formula is evaluated.
    Leaf(L),
    /// A constant that is part of the formula.
    Number(f64),
    /// A function of one value.
    Unary(Unary, Box<Formula<L>>),
    /// A function of two values.
    Binary(Binary, Box<Formula<L>>, Box<Formula<L>>),
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    /// The negative, `-x`.
    Negate,
    /// The absolute value, `|x|`.
    Abs,
    /// The second power, `x x`.
    Square,
    /// The third power, `x x x`.
    Cube,
    /// The square root of `x`.
    Root,
    /// `1 / x` if `x` is above 0, otherwise 0, so that a row or column without weights has the share 0 and not NaN.
    Inverse,
    /// The sign of `x`: -1, 0 or 1.
    Sign,
    /// The exponential function of `x`.
    Exp,
    /// The natural logarithm of `x`.
    Log,
}

/// A function of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// The sum, `a + b`.
    Add,
    /// The difference, `a - b`.
    Subtract,
    /// The product, `a b`.
    Multiply,
    /// The quotient, `a / b`.
    Divide,
    /// The smaller of `a` and `b`.
    Minimum,
    /// The larger of `a` and `b`.
    Maximum,
    /// `a` to the power `b`: NaN if `a` is negative and `b` is not whole.
    Power,
    /// 1 if `a < b`, otherwise 0.
    Below,
}

impl Unary {
    /// The value of the function at `x`: NaN where that is NaN.
    #[inline(always)]
    pub fn of<T: NdFloat>(self, x: T) -> T {
        match self {
            Unary::Negate => -x,
            Unary::Abs => x.abs(),
            Unary::Square => x * x,
            Unary::Cube => x * x * x,
            Unary::Root => x.sqrt(),
            Unary::Inverse if x > T::zero() => T::one() / x,
            Unary::Inverse if x.is_nan() => x,
            Unary::Inverse => T::zero(),
            Unary::Sign if x > T::zero() => T::one(),
            Unary::Sign if x < T::zero() => -T::one(),
            Unary::Sign => x,
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
        }
    }
}

impl Binary {
    /// The value of the function at `a` and `b`: NaN where one of them is NaN, whichever comes first.
    #[inline(always)]
    pub fn of<T: NdFloat>(self, a: T, b: T) -> T {
        match self {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
            Binary::Minimum if b < a || b.is_nan() => b,
            Binary::Maximum if b > a || b.is_nan() => b,
            Binary::Minimum | Binary::Maximum => a,
            // `powf` has 1 for NaN to the power of 0, and for 1 to the power of NaN.
            Binary::Power | Binary::Below if a.is_nan() => a,
            Binary::Power | Binary::Below if b.is_nan() => b,
            Binary::Power => a.powf(b),
            Binary::Below if a < b => T::one(),
            Binary::Below => T::zero(),
        }
    }
}

impl<L> Formula<L> {
    /// A value that the formula is given.
    pub fn leaf(leaf: L) -> Self {
        Formula::Leaf(leaf)
    }

    fn unary(self, function: Unary) -> Self {
        Formula::Unary(function, Box::new(self))
    }

    fn binary(self, function: Binary, other: impl Into<Self>) -> Self {
        Formula::Binary(function, Box::new(self), Box::new(other.into()))
    }

    /// The absolute value, `|x|`.
    #[must_use]
    pub fn abs(self) -> Self {
        self.unary(Unary::Abs)
    }

    /// The second power, `x^2`.
    #[must_use]
    pub fn square(self) -> Self {
        self.unary(Unary::Square)
    }

    /// The third power, `x^3`.
    #[must_use]
    pub fn cube(self) -> Self {
        self.unary(Unary::Cube)
    }

    /// The square root of the value.
    #[must_use]
    pub fn root(self) -> Self {
        self.unary(Unary::Root)
    }

    /// `1 / x` if `x` is above 0, otherwise 0.
    #[must_use]
    pub fn inverse(self) -> Self {
        self.unary(Unary::Inverse)
    }

    /// The sign of the value: -1, 0 or 1.
    #[must_use]
    pub fn sign(self) -> Self {
        self.unary(Unary::Sign)
    }

    /// The exponential function of the value.
    #[must_use]
    pub fn exp(self) -> Self {
        self.unary(Unary::Exp)
    }

    /// The natural logarithm of the value.
    #[must_use]
    pub fn log(self) -> Self {
        self.unary(Unary::Log)
    }

    /// The smaller of two values.
    #[must_use]
    pub fn minimum(self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Minimum, other)
    }

    /// The larger of two values.
    #[must_use]
    pub fn maximum(self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Maximum, other)
    }

    /// A power of the value: NaN if that is negative and the exponent not whole.
    #[must_use]
    pub fn power(self, exponent: impl Into<Self>) -> Self {
        self.binary(Binary::Power, exponent)
    }

    /// 1 if the value is below `other`, otherwise 0.
    #[must_use]
    pub fn below(self, other: impl Into<Self>) -> Self {
        self.binary(Binary::Below, other)
    }

    /// The same formula with every leaf replaced by a formula over other leaves.
    ///
    /// # Errors
    /// `replace` fails.
    pub fn substitute<M>(&self, replace: &mut dyn FnMut(&L) -> Result<Formula<M>>) -> Result<Formula<M>> {
        Ok(match self {
            Formula::Leaf(leaf) => replace(leaf)?,
            Formula::Number(value) => Formula::Number(*value),
            Formula::Unary(function, of) => of.substitute(replace)?.unary(*function),
            Formula::Binary(function, a, b) => {
                let a = a.substitute(replace)?;
                a.binary(*function, b.substitute(replace)?)
            }
        })
    }

    /// Calls `see` with every leaf, from left to right.
    pub fn leaves<'a>(&'a self, see: &mut dyn FnMut(&'a L)) {
        match self {
            Formula::Leaf(leaf) => see(leaf),
            Formula::Number(_) => {}
            Formula::Unary(_, of) => of.leaves(see),
            Formula::Binary(_, a, b) => {
                a.leaves(see);
                b.leaves(see);
            }
        }
    }
}

impl<L> From<f64> for Formula<L> {
    fn from(value: f64) -> Self {
        Formula::Number(value)
    }
}

impl<L, R: Into<Formula<L>>> Add<R> for Formula<L> {
    type Output = Self;

    fn add(self, other: R) -> Self {
        self.binary(Binary::Add, other)
    }
}

impl<L, R: Into<Formula<L>>> Sub<R> for Formula<L> {
    type Output = Self;

    fn sub(self, other: R) -> Self {
        self.binary(Binary::Subtract, other)
    }
}

impl<L, R: Into<Formula<L>>> Mul<R> for Formula<L> {
    type Output = Self;

    fn mul(self, other: R) -> Self {
        self.binary(Binary::Multiply, other)
    }
}

impl<L, R: Into<Formula<L>>> Div<R> for Formula<L> {
    type Output = Self;

    fn div(self, other: R) -> Self {
        self.binary(Binary::Divide, other)
    }
}

impl<L> Add<Formula<L>> for f64 {
    type Output = Formula<L>;

    fn add(self, other: Formula<L>) -> Formula<L> {
        Formula::Number(self) + other
    }
}

impl<L> Sub<Formula<L>> for f64 {
    type Output = Formula<L>;

    fn sub(self, other: Formula<L>) -> Formula<L> {
        Formula::Number(self) - other
    }
}

impl<L> Mul<Formula<L>> for f64 {
    type Output = Formula<L>;

    fn mul(self, other: Formula<L>) -> Formula<L> {
        Formula::Number(self) * other
    }
}

impl<L> Neg for Formula<L> {
    type Output = Self;

    fn neg(self) -> Self {
        self.unary(Unary::Negate)
    }
}

impl<L: fmt::Display> Formula<L> {
    /// Precedence of the outermost operation: 1 for sums, 2 for products, 3 for a minus sign, 4 for everything else.
    fn rank(&self) -> u8 {
        match self {
            Formula::Binary(Binary::Add | Binary::Subtract, ..) => 1,
            Formula::Binary(Binary::Multiply | Binary::Divide, ..) => 2,
            Formula::Unary(Unary::Negate, _) => 3,
            _ => 4,
        }
    }

    /// The formula as text, in parentheses if its precedence is lower than `rank`.
    fn within(&self, rank: u8) -> String {
        if self.rank() < rank {
            format!("({self})")
        } else {
            self.to_string()
        }
    }
}

impl<L: fmt::Display> fmt::Display for Formula<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Formula::Leaf(leaf) => write!(f, "{leaf}"),
            Formula::Number(value) => write!(f, "{value}"),
            Formula::Unary(Unary::Negate, of) => write!(f, "-{}", of.within(4)),
            Formula::Unary(function, of) => write!(f, "{}({of})", format!("{function:?}").to_lowercase()),
            Formula::Binary(Binary::Add, a, b) => write!(f, "{} + {}", a.within(1), b.within(2)),
            Formula::Binary(Binary::Subtract, a, b) => write!(f, "{} - {}", a.within(1), b.within(2)),
            Formula::Binary(Binary::Multiply, a, b) => write!(f, "{} * {}", a.within(2), b.within(3)),
            Formula::Binary(Binary::Divide, a, b) => write!(f, "{} / {}", a.within(2), b.within(3)),
            Formula::Binary(function, a, b) => write!(f, "{}({a}, {b})", format!("{function:?}").to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_print_as_they_are_read() {
        let x = || Formula::leaf("x");
        let formula = (x() - (x() - 1.0)) * -x() / (x() * 2.0) + x().square().inverse().below(0.5);
        let text = "(x - (x - 1)) * -x / (x * 2) + below(inverse(square(x)), 0.5)";
        assert_eq!(formula.to_string(), text);
        // Sums and products are not the same in another order.
        assert_eq!((x() + (x() + x())).to_string(), "x + (x + x)");
        assert_eq!((x() * (x() * x())).to_string(), "x * (x * x)");
        assert_eq!((-(-x() * x())).to_string(), "-(-x * x)");
    }
}
