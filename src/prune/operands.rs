//! What a score leaves for a workbench to hold when everything that does not depend on single weights is computed:
//! known from the formula alone, before there are any numbers.

use super::formula::Formula;
use super::formula::written::shortened;
use super::limits::Limits;
use super::score::{Quantity, Score, Shape, shape};
use crate::error::{Error, Result};

/// The parts of a score that become operands of a workbench's formula.
#[derive(Debug, Default)]
struct Operands<'s> {
    constants: Vec<&'s Score>,
    vectors: Vec<&'s Score>,
    matrices: usize,
}

/// Checks that a workbench can evaluate a score and the sums in it. `follows` says whether it is computed again while
/// weights are updated.
///
/// # Errors
/// It has more constants, vectors or matrices than there is room for.
pub fn check(score: &Score, follows: bool, limits: &Limits) -> Result<()> {
    let mut inner = Ok(());
    score.leaves(&mut |quantity| {
        if let (Quantity::Sum(_, of) | Quantity::Extreme(_, of), Ok(())) = (quantity, &inner) {
            inner = check(of, false, limits);
        }
    });
    inner?;
    let mut operands = Operands::default();
    operands.collect(score);
    let matrices = match follows {
        true => limits.matrices.min(limits.followed_matrices),
        false => limits.matrices,
    };
    for (what, got, room) in [
        ("constants", operands.constants.len(), limits.constants),
        ("vectors", operands.vectors.len(), limits.vectors),
        ("matrices", operands.matrices, matrices),
    ] {
        if got > room {
            return Err(Error::config(format!(
                "the score `{}` has {got} {what}; the GPU backend has room for {room}; use backend = \"cpu\"",
                shortened(&score.to_string())
            )));
        }
    }
    Ok(())
}

impl<'s> Operands<'s> {
    fn collect(&mut self, score: &'s Score) {
        match (shape(score), score) {
            (Shape::One, _) => once(&mut self.constants, score),
            (Shape::PerRow | Shape::PerColumn, _) => once(&mut self.vectors, score),
            (Shape::PerWeight, Formula::Leaf(Quantity::Given(_) | Quantity::FromFile | Quantity::Gradient(..))) => {
                self.matrices += 1;
            }
            (Shape::PerWeight, Formula::Leaf(_) | Formula::Number(_)) => {}
            (Shape::PerWeight, Formula::Unary(_, of)) => self.collect(of),
            (Shape::PerWeight, Formula::Binary(_, a, b)) => {
                self.collect(a);
                self.collect(b);
            }
        }
    }
}

fn once<'s>(known: &mut Vec<&'s Score>, score: &'s Score) {
    if !known.contains(&score) {
        known.push(score);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::score::{column_sums, input_squares, row_sums, weight};

    const SMALL: Limits = Limits {
        constants: 1,
        vectors: 2,
        matrices: 1,
        followed_matrices: 0,
        ..Limits::NONE
    };

    fn refused(score: &Score) -> String {
        check(score, false, &Limits::NONE).expect("no limit");
        check(score, false, &SMALL).expect_err("too much").to_string()
    }

    #[test]
    fn what_is_known_beforehand_counts_as_one_vector_however_it_is_made() {
        let one = (input_squares() + 1.0) * (input_squares() + 2.0) * input_squares();
        check(&(weight().abs() * one.clone()), false, &SMALL).expect("one vector");
        check(&(weight().abs() * one.clone() + weight() * one), false, &SMALL).expect("the same vector twice");
    }

    #[test]
    fn too_many_operands_are_refused_in_sums_too() {
        let vectors = (row_sums(weight()) + weight()) * (column_sums(weight()) + weight()) * input_squares().square();
        let vectors = vectors + weight() * input_squares();
        assert!(refused(&vectors).contains("4 vectors"), "{}", refused(&vectors));
        let constants = (weight() + 1.0) * (weight() + 2.0);
        assert!(refused(&constants).contains("2 constants"));
        let inside = weight().abs() * row_sums(constants);
        assert!(refused(&inside).contains("2 constants"));
    }

    #[test]
    fn a_score_that_follows_updates_has_limits_of_its_own() {
        let given = Formula::Leaf(Quantity::Given(ndarray::ArcArray2::zeros((2, 2)).into()));
        check(&given, false, &SMALL).expect("one matrix");
        let error = check(&given, true, &SMALL)
            .expect_err("none while it follows")
            .to_string();
        assert!(error.contains("1 matrices"), "{error}");
    }
}
