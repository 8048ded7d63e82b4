//! Whether a formula can rank the weights that are compared with each other: without weights, from the kind of its values. With
//! weights, [`check_ranking`](super::workbench::Workpiece::check_ranking) tells.

use super::compared::within;
use super::formula::written::shortened;
use super::formula::{Binary, Formula, Unary};
use super::pattern::{Group, Pattern, Target};
use super::score::{Quantity, Score, Shape, shape};
use crate::backend::gradient::GradientSum;
use crate::error::{Error, Result};

/// Refuses a score that is the same for all weights of a comparison group.
///
/// # Errors
/// Shows the formula, and says which weights would all have the same score.
pub(super) fn check(score: &Score, target: &Target) -> Result<()> {
    let by_row = matches!(target.pattern, Pattern::NofM { .. }) || matches!(target.group, Group::Row | Group::RowShare);
    let why = match (told_apart(score), within(target).filter(|_| by_row)) {
        (Shape::One, _) => {
            "this is one number for the whole layer, so that all its weights have the same score".to_string()
        }
        (Shape::PerRow, Some(within)) => {
            format!("this is one number for each output (row), and {within}, so that these have the same score")
        }
        _ => return Ok(()),
    };
    Err(Error::config(format!(
        "the formula cannot rank weights: {why}; use a value that is different for each weight, such as `w`, or for each input, such as \
         `x2`\n  {}\n  ^",
        shortened(&score.to_string())
    )))
}

/// How many different values a score has. As its shape, but parts that cancel are one number, whatever they hold.
pub(super) fn told_apart(score: &Score) -> Shape {
    let zero = |part: &Score| matches!(part, Formula::Number(value) if *value == 0.0);
    match score {
        Formula::Binary(Binary::Power, _, exponent) if zero(exponent) => Shape::One,
        Formula::Binary(Binary::Multiply, a, b) if zero(a) || zero(b) => Shape::One,
        Formula::Binary(Binary::Subtract | Binary::Divide | Binary::Below, a, b) if a == b => Shape::One,
        Formula::Binary(_, a, b) => told_apart(a).with(told_apart(b)),
        Formula::Unary(_, of) => told_apart(of),
        leaf => shape(leaf),
    }
}

/// The sign of a score where it is known, for every weight that is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SignOf {
    /// Whether it changes with the sign of the weight.
    weight: bool,
    /// Whether it is the other one: below 0, or that of the negative weight.
    other: bool,
}

impl SignOf {
    const POSITIVE: SignOf = SignOf {
        weight: false,
        other: false,
    };

    fn flipped(self) -> SignOf {
        SignOf {
            other: !self.other,
            ..self
        }
    }
}

/// Which weights a score is surely negative for, in any layer that has such weights; `None` where that depends on more than the sign of a
/// weight.
pub(super) fn below_zero(score: &Score) -> Option<&'static str> {
    match sign(score)? {
        SignOf { weight: true, other } => Some(if other {
            "every weight above 0"
        } else {
            "every weight below 0"
        }),
        SignOf { other: true, .. } => Some("weights"),
        _ => None,
    }
}

fn sign(score: &Score) -> Option<SignOf> {
    let positive = Some(SignOf::POSITIVE);
    match score {
        Formula::Number(value) if *value < 0.0 => Some(SignOf::POSITIVE.flipped()),
        Formula::Number(_) => positive,
        Formula::Leaf(leaf) => match leaf {
            Quantity::Weight => Some(SignOf {
                weight: true,
                other: false,
            }),
            Quantity::InputSquares
            | Quantity::InputVariances
            | Quantity::OutputSquares
            | Quantity::Pivots
            | Quantity::Rows
            | Quantity::Columns
            | Quantity::Sequences
            | Quantity::Depth
            | Quantity::Gradient(_, GradientSum::Squares | GradientSum::Magnitudes) => positive,
            // What is added up must have the same sign for every weight.
            Quantity::Sum(_, of) | Quantity::Extreme(_, of) => sign(of).filter(|sign| !sign.weight),
            Quantity::InputMeans
            | Quantity::Gradient(_, GradientSum::Plain)
            | Quantity::FromFile
            | Quantity::Given(_) => None,
        },
        Formula::Unary(function, of) => match function {
            Unary::Abs | Unary::Square | Unary::Inverse | Unary::Exp => positive,
            Unary::Negate => sign(of).map(SignOf::flipped),
            Unary::Cube | Unary::Sign => sign(of),
            Unary::Root => sign(of).filter(|sign| *sign == SignOf::POSITIVE),
            Unary::Log => None,
        },
        Formula::Binary(function, a, b) => match function {
            Binary::Below => positive,
            Binary::Multiply | Binary::Divide => {
                let (a, b) = (sign(a)?, sign(b)?);
                Some(SignOf {
                    weight: a.weight != b.weight,
                    other: a.other != b.other,
                })
            }
            Binary::Add | Binary::Minimum | Binary::Maximum => sign(a).filter(|found| sign(b) == Some(*found)),
            Binary::Subtract => sign(a).filter(|found| sign(b).map(SignOf::flipped) == Some(*found)),
            Binary::Power => match (sign(a)?, b.as_ref()) {
                (SignOf::POSITIVE, _) => positive,
                (_, Formula::Number(exponent)) if exponent % 2.0 == 0.0 => positive,
                (sign, Formula::Number(exponent)) if exponent.abs() % 2.0 == 1.0 => Some(sign),
                _ => None,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::pattern::Selection;
    use crate::prune::score::{column_sums, depth, input_squares, output_squares, row_sums, sum, weight};

    #[test]
    fn what_is_the_same_for_a_whole_group_is_refused() {
        let half = Pattern::Unstructured { sparsity: 0.5 };
        let pairs = Pattern::NofM { keep: 2, of: 4 };
        let groups = [Group::Matrix, Group::Row, Group::ColumnBlock, Group::RowShare];
        let by_row = |group| matches!(group, Group::Row | Group::RowShare);
        let one: Vec<Score> = vec![
            depth(),
            sum(row_sums(weight().abs())),
            weight() - weight(),
            weight().abs().power(0.0),
            weight().abs().power(0.0) * depth(),
            weight().abs() * 0.0,
            (input_squares() / input_squares()).root(),
        ];
        let rows: Vec<Score> = vec![
            output_squares(),
            row_sums(weight().abs()) * depth(),
            output_squares() + (weight() - weight()),
        ];
        let others: Vec<Score> = vec![
            weight().abs(),
            input_squares(),
            column_sums(weight().square()),
            output_squares() * input_squares(),
            weight() - weight().abs(),
            input_squares().power(0.5),
        ];
        for group in groups {
            for pattern in [half, pairs] {
                let target = Target {
                    pattern,
                    group,
                    selection: Selection::Exact,
                };
                for score in &one {
                    let error = check(score, &target).expect_err("one number").to_string();
                    assert!(error.contains("one number for the whole layer"), "{error}");
                    assert!(error.ends_with(&format!("\n  {score}\n  ^")), "{error}");
                }
                for score in &rows {
                    let told = check(score, &target).map_err(|error| error.to_string());
                    match pattern == pairs || by_row(group) {
                        false => assert_eq!(told, Ok(()), "{score} by {group}"),
                        true => {
                            let error = told.expect_err("one number for each row");
                            assert!(error.contains("one number for each output (row)"), "{error}");
                            let says = if pattern == pairs {
                                "under 2:4 the 4"
                            } else {
                                "with group = \"row"
                            };
                            assert!(error.contains(says), "{error}");
                        }
                    }
                }
                for score in &others {
                    check(score, &target).expect("scores differ");
                }
            }
        }
    }

    #[test]
    fn scores_that_are_surely_negative_are_known_before_there_are_weights() {
        let (w, x) = (weight, input_squares);
        for (score, which) in [
            (w(), "every weight below 0"),
            (w() * x().root(), "every weight below 0"),
            (-(w() / row_sums(w().abs())), "every weight above 0"),
            (w() * -2.0 * x(), "every weight above 0"),
            (w().cube() + w(), "every weight below 0"),
            (w().power(3.0), "every weight below 0"),
            (w() * w() * w(), "every weight below 0"),
            (-w().abs(), "weights"),
            (-1.0 - w().square(), "weights"),
        ] {
            assert_eq!(below_zero(&score), Some(which), "{score}");
        }
        for score in [
            w().abs() * x(),
            w() * w(),
            w().power(2.0),
            -w() * -w(),
            w().exp(),
            // Only weights can tell.
            w() + 1.0,
            w() - w().abs(),
            w() * row_sums(w()),
            w() * crate::prune::score::input_means(),
            x().log() * w(),
            w().maximum(0.0),
        ] {
            assert_eq!(below_zero(&score), None, "{score}");
        }
    }
}
