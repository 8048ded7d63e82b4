//! Which weights are compared with each other, and whether their scores tell them apart.

use super::pattern::{Group, Pattern, Target, removed};

/// How far two scores may be apart, as a fraction of the larger, and count as the same. Backends round the last digits differently.
pub const SAME: f32 = 1e-6;

/// Two scores count as the same, too, if their difference is less than any normal number in single precision. A GPU may take smaller
/// numbers for 0.
pub const NOTHING: f32 = f32::MIN_POSITIVE;

/// Whether a score says that its weight is more or less important than one with the score `b`. A score that cannot be used is told apart
/// from everything: whoever selects by it refuses it.
pub fn differ(score: f32, b: f32) -> bool {
    let usable = score.is_finite() && score >= 0.0;
    !usable || (score - b).abs() > (SAME * score.abs().max(b.abs())).max(NOTHING)
}

/// The comparison groups of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Number of neighbouring columns of a group; the last group may have fewer.
    pub width: usize,
    /// Whether a group has these columns of all rows, and not of one row alone.
    pub over_rows: bool,
}

impl Compared {
    /// Whether two scores of a group differ, as far as a row tells: each score is compared with the first of its group, which is in
    /// `first_row` if groups have the columns of all rows.
    pub fn apart_in(&self, row: &[f32], first_row: &[f32]) -> bool {
        let first = if self.over_rows { first_row } else { row };
        let mut groups = row.chunks(self.width).zip(first.chunks(self.width));
        groups.any(|(group, first)| group.iter().any(|score| differ(*score, first[0])))
    }

    /// The groups of a layer of `dim` weights, if a target removes some weights of a group and keeps others.
    pub fn of(target: &Target, (rows, columns): (usize, usize)) -> Option<Self> {
        let over_rows = match (target.pattern, target.group) {
            (Pattern::NofM { .. }, _) | (_, Group::Row | Group::RowShare) => false,
            (Pattern::Unstructured { .. }, Group::Matrix | Group::ColumnBlock) => true,
        };
        let width = target.width(columns).min(columns);
        let weights = width * if over_rows { rows } else { 1 };
        let gone = match target.pattern {
            Pattern::NofM { keep, of } => of.saturating_sub(keep),
            Pattern::Unstructured { sparsity } => removed(weights, sparsity),
        };
        (gone > 0 && gone < weights).then_some(Compared { width, over_rows })
    }
}

/// Says which weights a target compares with each other, if these are not all weights of a layer.
pub fn within(target: &Target) -> Option<String> {
    match (target.pattern, target.group) {
        (Pattern::NofM { of, .. }, _) => Some(format!(
            "under {} the {of} neighbouring inputs of an output are compared with each other",
            target.pattern
        )),
        (Pattern::Unstructured { .. }, Group::Row | Group::RowShare) => Some(format!(
            "with group = \"{}\" the inputs of one output are compared with each other",
            target.group
        )),
        (Pattern::Unstructured { .. }, Group::ColumnBlock) => Some(format!(
            "with group = \"{}\" {} neighbouring inputs of all outputs are compared with each other",
            target.group,
            target.width(usize::MAX)
        )),
        (Pattern::Unstructured { .. }, Group::Matrix) => None,
    }
}

/// What is wrong with scores that are the same in every group. `given_by` is what gives them, such as a formula.
pub fn ranks_nothing(target: &Target, given_by: &str) -> String {
    let which = match within(target) {
        None => "all weights of this layer have the same score".to_string(),
        Some(within) => format!("{within}, and in this layer all scores of such a group are the same"),
    };
    format!(
        "{given_by} cannot rank weights: {which}. Check for a factor that is 0 here (`depth` is 0 in the first block), for a number so \
         large that adding something does not change it, and for values too small for single precision (below {NOTHING:.0e})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::pattern::Selection;

    #[test]
    fn scores_are_the_same_up_to_rounding_and_what_is_too_small_is_nothing() {
        for (a, b, apart) in [
            (1.0, 1.0, false),
            (1.0, 1.0 + f32::EPSILON, false),
            (1.0, 1.00001, true),
            (1e9, 1e9 + 64.0, false),
            (0.0, 1e-39, false),
            (0.0, 1e-30, true),
            (-0.0, 0.0, false),
            (f32::NAN, f32::NAN, true),
            (f32::INFINITY, f32::INFINITY, true),
            (-1.0, -1.0, true),
        ] {
            assert_eq!((differ(a, b), differ(b, a)), (apart, apart), "{a} and {b}");
        }
    }

    #[test]
    fn groups_are_those_of_the_mask() {
        let half = Pattern::Unstructured { sparsity: 0.5 };
        let none = Pattern::Unstructured { sparsity: 0.0 };
        let all = Pattern::Unstructured { sparsity: 1.0 };
        for (pattern, group, dim, width, over_rows) in [
            (half, Group::Matrix, (3, 300), Some(300), true),
            (half, Group::ColumnBlock, (3, 300), Some(128), true),
            (half, Group::ColumnBlock, (3, 20), Some(20), true),
            (half, Group::Row, (3, 300), Some(300), false),
            (half, Group::RowShare, (3, 300), Some(300), false),
            (
                Pattern::NofM { keep: 2, of: 4 },
                Group::Matrix,
                (3, 300),
                Some(4),
                false,
            ),
            (half, Group::Row, (300, 1), None, false),
            (half, Group::Matrix, (300, 1), Some(1), true),
            (none, Group::Matrix, (3, 300), None, true),
            (all, Group::Row, (3, 300), None, false),
        ] {
            let target = Target {
                pattern,
                group,
                selection: Selection::Exact,
            };
            let wanted = width.map(|width| Compared { width, over_rows });
            assert_eq!(Compared::of(&target, dim), wanted, "{target:?} of {dim:?}");
        }
    }
}
