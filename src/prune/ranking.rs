//! Whether a formula can rank the weights that are compared with each other: without weights, from the kind of its values. With
//! weights, [`check_ranking`](super::workbench::Workpiece::check_ranking) tells.

use super::compared::within;
use super::formula::{Binary, Formula};
use super::pattern::{Group, Pattern, Target};
use super::score::{Score, Shape, shape};
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
         `x2`\n  {score}\n  ^"
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
}
