//! DSnoT (Zhang et al., ICLR 2024, arXiv 2310.08915; reference: zyxxmu/DSnoT, `lib/prune.py`).
//!
//! With `m_j` the sum of input feature `j` over the tokens of a sequence, averaged over sequences, `D_ij = w_ij m_j` is what
//! weight `ij` adds to the sum of its output. In each row, `e` is the sum of `D` over the removed weights. As long as `|e|` is above
//! a threshold, the removed weight with the largest `D / var` (the smallest, if `e` is negative) is restored, and of the kept
//! weights whose `D` has the other sign the one with the lowest Wanda score is removed: `e` becomes `e + D_removed - D_restored`. `var` is the
//! variance of a feature within a sequence, averaged over sequences. A weight takes part in one swap at most. With N:M patterns the
//! weight that is removed is the lowest Wanda score of the restored weight's own group, whatever its sign.
//!
//! The guard ends a row before a swap that would change the sign of `e`. In the released code it is on for N:M patterns and cannot be
//! turned on for others, and only the attention's layers are refined; `sign_guard` and `layers` choose otherwise.
//!
//! Deviations: a row ends when no candidate of the needed sign is left, where the released loop goes on with weights that are
//! kept already and ends with another number of weights. Features without variance are never candidates; the released
//! code divides by their variance of 0, and restores the weights of dead features first. With N:M patterns a restored
//! weight whose group has no other weight left to remove is passed over.

use super::step::Refiner;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{Group, Pattern, Target};
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::Workpiece;
use crate::spec::{Role, TapPlace};
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The refiner DSnoT. Its defaults are those of the released code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dsnot {
    /// Which layers are refined: `attention` or `all`. The others keep the mask that they have.
    pub layers: Layers,
    /// Whether a row ends before a swap that changes the sign of its error. Without it: with N:M patterns only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_guard: Option<bool>,
    /// Most swaps in a row: 50.
    pub max_cycles: usize,
    /// A row ends when the magnitude of its error is no more than this: 0.1.
    pub threshold: f64,
    /// Power of the variance that contributions are divided by before the largest is restored: 1.
    pub variance_power: f64,
}

/// The layers that [`Dsnot`] refines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layers {
    /// Projections of the attention.
    #[default]
    Attention,
    /// All of them.
    All,
}

impl Default for Dsnot {
    fn default() -> Self {
        Dsnot {
            layers: Layers::Attention,
            sign_guard: None,
            max_cycles: 50,
            threshold: 0.1,
            variance_power: 1.0,
        }
    }
}

impl Refiner for Dsnot {
    fn validate(&self) -> Result<()> {
        if self.max_cycles == 0 {
            return Err(Error::config("parameter `max_cycles` = 0 must be at least 1"));
        }
        for (name, value) in [("threshold", self.threshold), ("variance_power", self.variance_power)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::config(format!(
                    "parameter `{name}` = {value} must be at least 0"
                )));
            }
        }
        Ok(())
    }

    fn check(&self, target: &Target) -> Result<()> {
        match (target.pattern, target.group) {
            (Pattern::Unstructured { .. }, Group::ColumnBlock) => Err(Error::config(
                "dsnot swaps weights of a whole row, which changes how many weights a block of columns keeps; use group = \"row\" or \
                 \"matrix\", or refine with sparse-swaps",
            )),
            _ => Ok(()),
        }
    }

    fn refines(&self, role: Role) -> bool {
        match role.place() {
            TapPlace::AttentionIn | TapPlace::AttentionOut => true,
            TapPlace::MlpIn | TapPlace::MlpMiddle => self.layers == Layers::All,
        }
    }

    fn needs(&self) -> Needs {
        Needs::MEANS.and(Needs::SQUARES)
    }

    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()> {
        let known = Known::new(piece, self.variance_power)?;
        let errors = piece.sums(&[(Over::Row, known.values(weight() * removed() * column(SUMS)))])?;
        let errors = errors.into_iter().next().unwrap_or_default();
        let most = self.max_cycles.min(piece.dim().1);
        let restored = known.candidates(piece, weight() * removed() * column(PULL), false, most)?;
        let guard = self
            .sign_guard
            .unwrap_or(matches!(target.pattern, Pattern::NofM { .. }));
        let walk = |row: usize, gone: &mut dyn FnMut(Restored) -> Option<Candidate>| {
            let restored = [0, 1].map(|side: usize| restored[side][row].as_slice());
            self.walk(errors[row], guard, restored, gone)
        };
        let rows = (0..errors.len()).into_par_iter();
        let swaps: Vec<Vec<Swap>> = match target.pattern {
            Pattern::Unstructured { .. } => {
                let rank = kept() * weight().sign() * weight().abs().inverse() * column(RANK);
                let gone = known.candidates(piece, rank, true, most)?;
                rows.map(|row| {
                    let mut left = [0, 1].map(|side: usize| gone[side][row].iter().copied());
                    walk(row, &mut |restored| left[1 - restored.side as usize].next())
                })
                .collect()
            }
            Pattern::NofM { of, .. } => {
                let groups = [
                    known.groups(piece, &restored[Side::Negative as usize], of)?,
                    known.groups(piece, &restored[Side::Positive as usize], of)?,
                ];
                rows.map(|row| {
                    let mut gone = Vec::new();
                    walk(row, &mut |restored| {
                        let first = restored.column / of * of;
                        let (weight, kept) = &groups[restored.side as usize];
                        let at = |column: usize| [row, restored.place * of + column - first];
                        let stay = (first..first + of).filter(|column| {
                            kept[at(*column)] == 1.0 && known.variance[*column] > 0.0 && !gone.contains(column)
                        });
                        let score = |column: usize| f64::from(weight[at(column)].abs()) * known.squares[column].sqrt();
                        let column = stay.min_by(|a, b| score(*a).total_cmp(&score(*b)))?;
                        gone.push(column);
                        Some(Candidate {
                            column,
                            contribution: f64::from(weight[at(column)]) * known.sums[column],
                        })
                    })
                })
                .collect()
            }
        };
        carry_out(piece, &swaps)
    }
}

/// A weight that may be restored or removed.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    column: usize,
    /// What the weight adds to the sum of its output.
    contribution: f64,
}

/// The sign of contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Negative,
    Positive,
}

/// The candidates of every row on both sides, indexed by [`Side`], those that are taken first in front.
type Candidates = [Vec<Vec<Candidate>>; 2];

/// A weight that is about to be restored.
struct Restored {
    side: Side,
    /// Its place among the candidates of its row and side.
    place: usize,
    column: usize,
}

/// A weight that is restored and one that is removed in its place.
struct Swap {
    restored: usize,
    removed: usize,
}

impl Dsnot {
    /// The swaps of a row whose removed weights contribute `error`. `restored` has the candidates of both sides in their
    /// order; `gone` finds the weight that makes room for one of them.
    fn walk(
        &self,
        mut error: f64,
        guard: bool,
        restored: [&[Candidate]; 2],
        gone: &mut dyn FnMut(Restored) -> Option<Candidate>,
    ) -> Vec<Swap> {
        let positive = error > 0.0;
        let mut left = restored.map(|side| side.iter().enumerate());
        let mut swaps = Vec::new();
        while swaps.len() < self.max_cycles && error.abs() > self.threshold {
            let side = if error > 0.0 { Side::Positive } else { Side::Negative };
            let found = left[side as usize].find_map(|(place, back)| {
                let column = back.column;
                Some((back, gone(Restored { side, place, column })?))
            });
            let Some((back, out)) = found else { break };
            let after = error + out.contribution - back.contribution;
            let same_sign = if positive { after > 0.0 } else { after < 0.0 };
            if guard && !same_sign {
                break;
            }
            error = after;
            swaps.push(Swap {
                restored: back.column,
                removed: out.column,
            });
        }
        swaps
    }
}

/// What is known of the layer: weights, mask, and of its inputs one value per feature.
struct Known {
    weight: Matrix,
    /// 1 for weights that the mask keeps at the start, else 0.
    kept: Matrix,
    /// Sum over the tokens of a sequence, averaged over sequences.
    sums: Vec<f64>,
    /// Variance within a sequence, averaged over sequences.
    variance: Vec<f64>,
    /// Sums of squares.
    squares: Vec<f64>,
    /// What formulas read.
    vectors: [Vec<f32>; 3],
}

// The vectors of `Known::values`.
const SUMS: usize = 0;
/// The factor of a weight where the largest contribution is looked for: the sum over a power of the variance.
const PULL: usize = 1;
/// The sign of the sum, over the norm: with a weight's sign over its size, its contribution's sign over its Wanda score.
const RANK: usize = 2;

fn weight() -> Formula<Operand> {
    Formula::Leaf(Operand::Weight)
}

fn kept() -> Formula<Operand> {
    Formula::Leaf(Operand::Kept)
}

fn removed() -> Formula<Operand> {
    1.0 - kept()
}

fn column(vector: usize) -> Formula<Operand> {
    Formula::Leaf(Operand::Column(vector))
}

impl Known {
    fn new(piece: &dyn Workpiece, variance_power: f64) -> Result<Self> {
        let means = piece.means()?;
        let sums: Vec<f64> = means.mean.iter().map(|mean| mean * means.length).collect();
        let variance = means.within.clone();
        let squares = piece.squared_norms()?.to_vec();
        // Features without variance are never candidates.
        let vector = |value: &dyn Fn(usize) -> f64| {
            let of = |feature| if variance[feature] > 0.0 { value(feature) } else { 0.0 };
            // Values beyond the range are its ends, not infinite, so that 0 times them is 0.
            (0..sums.len())
                .map(|feature| (of(feature) as f32).clamp(f32::MIN, f32::MAX))
                .collect()
        };
        let vectors = [
            sums.iter().map(|sum| *sum as f32).collect(),
            vector(&|feature| sums[feature] / variance[feature].powf(variance_power)),
            vector(&|feature| {
                if sums[feature] == 0.0 {
                    0.0
                } else {
                    sums[feature].signum() / squares[feature].sqrt()
                }
            }),
        ];
        Ok(Known {
            weight: piece.weight()?,
            kept: piece.kept()?,
            sums,
            variance,
            squares,
            vectors,
        })
    }

    fn values(&self, formula: Formula<Operand>) -> Values {
        Values {
            formula,
            matrices: Vec::new(),
            vectors: self.vectors.to_vec(),
        }
    }

    /// In each row, up to `most` kept or removed weights on either side, in their order. The formula has the sign of the contribution
    /// for such weights, and its magnitude is larger for those that come first; for all others it is 0.
    fn candidates(
        &self,
        piece: &dyn Workpiece,
        formula: Formula<Operand>,
        of_kept: bool,
        most: usize,
    ) -> Result<Candidates> {
        let [negative, positive] = piece.extremes(piece.dim(), &self.values(formula), most)?;
        Ok([
            self.sided(piece, &negative, Side::Negative, of_kept)?,
            self.sided(piece, &positive, Side::Positive, of_kept)?,
        ])
    }

    /// Those of the weights at the given places of each row that are on the side and kept (or removed). Where a row has fewer of them
    /// than places, others follow.
    fn sided(&self, piece: &dyn Workpiece, places: &Matrix, side: Side, of_kept: bool) -> Result<Vec<Vec<Candidate>>> {
        let weights = piece.read(&piece.gather(&self.weight, places)?)?;
        let kept = piece.read(&piece.gather(&self.kept, places)?)?;
        let places = piece.read(places)?;
        let rows = places.outer_iter().zip(weights.outer_iter()).zip(kept.outer_iter());
        Ok(rows
            .map(|((places, weights), kept)| {
                let meant = |column: usize, contribution: f64, kept: f32| {
                    let sided = match side {
                        Side::Negative => contribution < 0.0,
                        Side::Positive => contribution > 0.0,
                    };
                    sided && (kept == 1.0) == of_kept && self.variance[column] > 0.0
                };
                let candidate = |((place, weight), kept): ((&f32, &f32), &f32)| {
                    let column = *place as usize;
                    let contribution = f64::from(*weight) * self.sums[column];
                    meant(column, contribution, *kept).then_some(Candidate { column, contribution })
                };
                places.iter().zip(weights).zip(kept).map_while(candidate).collect()
            })
            .collect())
    }

    /// Weights and mask in the N:M groups of each row's candidates, group after group.
    fn groups(
        &self,
        piece: &dyn Workpiece,
        candidates: &[Vec<Candidate>],
        of: usize,
    ) -> Result<(Array2<f32>, Array2<f32>)> {
        let most = candidates.iter().map(Vec::len).max().unwrap_or(0);
        let mut places = Array2::from_elem((candidates.len(), most * of), -1.0);
        for (mut places, candidates) in places.outer_iter_mut().zip(candidates) {
            for (place, candidate) in candidates.iter().enumerate() {
                let first = candidate.column / of * of;
                for column in 0..of {
                    places[place * of + column] = (first + column) as f32;
                }
            }
        }
        if places.is_empty() {
            return Ok((places.clone(), places));
        }
        let places = piece.matrix(places.view())?;
        let at = |of: &Matrix| piece.read(&piece.gather(of, &places)?);
        Ok((at(&self.weight)?, at(&self.kept)?))
    }
}

/// Changes the mask by the swaps of each row.
fn carry_out(piece: &mut dyn Workpiece, swaps: &[Vec<Swap>]) -> Result<()> {
    let most = swaps.iter().map(Vec::len).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let (rows, columns) = piece.dim();
    // Restored weights, and then removed ones; a place is -1 where a row has fewer swaps.
    let changes = Array2::from_shape_fn((rows, 2 * most), |(_, index)| if index < most { 1.0 } else { -1.0 });
    let place = |(row, index): (usize, usize)| {
        let swap: Option<&Swap> = swaps[row].get(index % most);
        swap.map_or(
            -1.0,
            |swap| if index < most { swap.restored } else { swap.removed } as f32,
        )
    };
    let places = piece.matrix(Array2::from_shape_fn((rows, 2 * most), place).view())?;
    let changes = piece.scatter(&piece.matrix(changes.view())?, &places, columns)?;
    let changed = Values::over([&piece.kept()?, &changes], |[kept, change]| kept + change);
    let kept = piece.map((rows, columns), &changed)?;
    piece.keep(&kept)
}
