//! What a mask must look like: how many weights go, and which weights compete with each other.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many weights are removed: a fraction of each comparison group, or a fixed number of each few consecutive
/// inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// A fraction of the weights, at any place.
    Unstructured {
        /// Fraction of the weights that is removed, between 0 and 1.
        sparsity: f64,
    },
    /// Of each `of` consecutive inputs of an output, `keep` are kept.
    NofM {
        /// Number of weights that are kept in each group.
        keep: usize,
        /// Number of weights in each group.
        of: usize,
    },
}

/// The comparison group: the weights among which the lowest scores are removed. It changes results
/// more than most criteria do, so it is an axis of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// All weights of a matrix (magnitude, RIA, Z-Pruner).
    Matrix,
    /// The inputs of one output (Wanda).
    Row,
    /// 128 consecutive columns of all rows (SparseGPT).
    ColumnBlock,
    /// The inputs of one output, of which every output gives up the same share of its sum of scores, not of their number
    /// (Wanda's variant): rows whose scores are unequal lose more weights.
    RowShare,
}

/// Number of columns of a [`Group::ColumnBlock`]: SparseGPT's block size.
pub const COLUMN_BLOCK: usize = 128;

/// How far from the wanted sparsity the released search for the share of [`Group::RowShare`] may stop.
pub const SHARE_TOLERANCE: f64 = 1e-3;

/// How far the sparsity of a layer with so many inputs may be from what is wanted after that search: in small layers one
/// weight of every row is more than [`SHARE_TOLERANCE`].
pub fn searched_tolerance(columns: usize) -> f64 {
    SHARE_TOLERANCE.max(1.0 / columns as f64)
}

/// How many weights of a group are removed if scores are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// Exactly `trunc(n * sparsity)`; of equal scores the one in the lower column is removed first, then the one in
    /// the lower row.
    #[default]
    Exact,
    /// As in the papers' code. In groups `matrix` and `column-block` every score is removed that is not above the
    /// value at sorted index `trunc(n * sparsity)`: at least one more than with `exact`, and all equal ones. In rows
    /// and N:M groups the count is exact in the papers' code, too. In the group `row-share` the share is searched for
    /// until the sparsity is within [`SHARE_TOLERANCE`].
    Reference,
}

/// A pattern, the group that it is applied in, and the rule for equal scores: everything that a mask is checked
/// against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// How many weights are removed.
    pub pattern: Pattern,
    /// Which weights are compared with each other; with N:M patterns it is always the `of` weights of a group.
    pub group: Group,
    /// How many weights are removed if scores are equal.
    pub selection: Selection,
}

impl Target {
    /// Number of neighbouring columns within which two weights of a row can be swapped without a change of how many any
    /// group keeps, in a layer of `columns` columns.
    pub fn width(&self, columns: usize) -> usize {
        match (self.pattern, self.group) {
            (Pattern::NofM { of, .. }, _) => of,
            (_, Group::ColumnBlock) => COLUMN_BLOCK,
            (_, Group::Row | Group::Matrix | Group::RowShare) => columns,
        }
    }
}

impl Pattern {
    /// Fraction of the weights that the pattern removes.
    pub fn sparsity(&self) -> f64 {
        match self {
            Pattern::Unstructured { sparsity } => *sparsity,
            Pattern::NofM { keep, of } => 1.0 - *keep as f64 / *of as f64,
        }
    }

    /// Checks that the numbers of the pattern make sense, for a layer of any size.
    ///
    /// # Errors
    /// A sparsity outside `(0, 1)`, or a `keep` that is not between 1 and `of - 1`.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Pattern::Unstructured { sparsity } if !(sparsity > 0.0 && sparsity < 1.0) => {
                let percent = match sparsity > 1.0 && sparsity < 100.0 {
                    true => format!("; {sparsity} % is written {} or \"{sparsity}%\"", sparsity / 100.0),
                    false => String::new(),
                };
                Err(Error::config(format!(
                    "sparsity {sparsity} is not between 0 and 1; it is the fraction of weights removed, for example 0.5{percent}"
                )))
            }
            Pattern::NofM { keep, of } if keep == 0 || keep >= of => Err(Error::config(format!(
                "keep = {keep}, of = {of}: keep must be at least 1 and less than of; 2:4 is keep = 2, of = 4"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that a layer with `inputs` columns can have this pattern.
    ///
    /// # Errors
    /// The columns are not a multiple of `of`.
    pub fn fits(&self, inputs: usize) -> Result<()> {
        match *self {
            Pattern::NofM { keep, of } if !inputs.is_multiple_of(of) => Err(Error::config(format!(
                "pattern {keep}:{of} needs input features in multiples of {of}, but a layer has {inputs}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Most digits after the point of a percentage that is not close to 0 or 100.
const DIGITS: usize = 6;
const MOST_DIGITS: usize = 325;

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Unstructured { sparsity } => {
                // A percentage without trailing zeros: 50 %, 62.5 %. It takes more digits to tell some from nothing and all.
                let with = |digits: usize| {
                    let percent = format!("{:.digits$}", sparsity * 100.0);
                    percent.trim_end_matches('0').trim_end_matches('.').to_string()
                };
                let told = |percent: &String| percent != "0" && percent != "100";
                let percent = (DIGITS..MOST_DIGITS).map(with).find(told);
                write!(f, "{} %", percent.unwrap_or_else(|| with(DIGITS)))
            }
            Pattern::NofM { keep, of } => write!(f, "{keep}:{of}"),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Matrix => "matrix",
            Group::Row => "row",
            Group::ColumnBlock => "column-block",
            Group::RowShare => "row-share",
        })
    }
}

/// How many of `n` weights a sparsity removes: truncated, as in the papers' code (`int(n * sparsity)`).
pub fn removed(n: usize, sparsity: f64) -> usize {
    (n as f64 * sparsity) as usize
}

/// The sparsity that removes exactly `count` of `n` weights.
pub fn sparsity_of(count: usize, n: usize) -> f64 {
    let n = n.max(1);
    let mut sparsity = count as f64 / n as f64;
    while removed(n, sparsity) < count {
        sparsity = sparsity.next_up();
    }
    sparsity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_print_as_papers_write_them() {
        assert_eq!(Pattern::Unstructured { sparsity: 0.5 }.to_string(), "50 %");
        assert_eq!(Pattern::Unstructured { sparsity: 0.625 }.to_string(), "62.5 %");
        assert_eq!(Pattern::Unstructured { sparsity: 0.1 }.to_string(), "10 %");
        assert_eq!(Pattern::Unstructured { sparsity: 1.0 / 3.0 }.to_string(), "33.333333 %");
        assert_eq!(Pattern::NofM { keep: 2, of: 4 }.to_string(), "2:4");
    }

    #[test]
    fn hardly_anything_is_not_nothing_and_nearly_all_is_not_all() {
        let shown = |sparsity: f64| Pattern::Unstructured { sparsity }.to_string();
        assert_eq!(shown(1e-9), "0.0000001 %");
        assert_eq!(shown(0.999999999), "99.9999999 %");
        for sparsity in [f64::MIN_POSITIVE, 5e-324, 1.0 - f64::EPSILON / 2.0, 0.99999999] {
            let text = shown(sparsity);
            assert!(text != "0 %" && text != "100 %", "{sparsity:e}: {text}");
        }
    }

    #[test]
    fn impossible_patterns_are_refused() {
        for pattern in [
            Pattern::Unstructured { sparsity: 0.0 },
            Pattern::Unstructured { sparsity: 1.0 },
            Pattern::Unstructured { sparsity: f64::NAN },
            Pattern::NofM { keep: 0, of: 4 },
            Pattern::NofM { keep: 4, of: 4 },
        ] {
            assert!(pattern.validate().is_err(), "{pattern:?}");
        }
        assert!(Pattern::NofM { keep: 2, of: 4 }.fits(6).is_err());
    }
}
