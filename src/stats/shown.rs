//! Numbers for people.

use std::fmt;

/// Numbers from this one on are shown with a power of ten: a perplexity can have hundreds of digits, and none of them
/// is significant.
const LONG: f64 = 1e12;

/// A number as tables and messages show it: with the number of digits after the point that the format asks for, or as
/// `1.234e200` if it would have too many digits before the point.
pub struct Shown(pub f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.abs() >= LONG && self.0.is_finite(), f.sign_plus()) {
            (false, _) => fmt::Display::fmt(&self.0, f),
            (true, false) => write!(f, "{:.3e}", self.0),
            (true, true) => write!(f, "{:+.3e}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_numbers_are_shown_by_their_power() {
        assert_eq!(format!("{:.2}", Shown(12345.678)), "12345.68");
        assert_eq!(format!("{:+.1} %", Shown(-3.25)), "-3.2 %");
        assert_eq!(format!("{:.2}", Shown(1e200)), "1.000e200");
        assert_eq!(format!("{:+.0}", Shown(2.5e15)), "+2.500e15");
        assert_eq!(format!("{:.4}", Shown(f64::INFINITY)), "inf");
    }
}
