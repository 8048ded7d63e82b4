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
                "dsnot swaps weights of a whole row, which changes how many a block of columns keeps; use group = \"row\" or \
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
        let known = Known::new(piece)?;
        let errors = piece.sums(&[(Over::Row, known.values(contribution() * removed()))])?;
        let errors = errors.into_iter().next().unwrap_or_default();
        let most = self.max_cycles.min(piece.dim().1);
        let order = || contribution() * self.spread() * removed();
        let restored = [
            known.candidates(piece, (order(), false), Side::Negative, most)?,
            known.candidates(piece, (-order(), false), Side::Positive, most)?,
        ];
        let guard = self
            .sign_guard
            .unwrap_or(matches!(target.pattern, Pattern::NofM { .. }));
        let walk = |row: usize, gone: &mut dyn FnMut(Side, usize) -> Option<Candidate>| {
            self.walk(
                errors[row],
                guard,
                [0, 1].map(|side: usize| restored[side][row].as_slice()),
                gone,
            )
        };
        let rows = (0..errors.len()).into_par_iter();
        let swaps: Vec<Vec<Swap>> = match target.pattern {
            Pattern::Unstructured { .. } => {
                let rank = || -(weight().abs() * squares().root()).inverse() * kept() * varies();
                let (negative, positive) = (contribution().below(0.0), (-contribution()).below(0.0));
                let gone = [
                    known.candidates(piece, (rank() * negative, true), Side::Negative, most)?,
                    known.candidates(piece, (rank() * positive, true), Side::Positive, most)?,
                ];
                rows.map(|row| {
                    let mut left = [0, 1].map(|side: usize| gone[side][row].iter().copied());
                    walk(row, &mut |restored, _| left[1 - restored as usize].next())
                })
                .collect()
            }
            Pattern::NofM { of, .. } => {
                let (weight, kept) = (piece.read(&known.weight)?, piece.read(&known.kept)?);
                rows.map(|row| {
                    let (weight, kept) = (weight.row(row), kept.row(row));
                    let mut gone = Vec::new();
                    walk(row, &mut |_, restored| {
                        let first = restored / of * of;
                        let stay = (first..first + of).filter(|column| {
                            kept[*column] == 1.0 && known.variance[*column] > 0.0 && !gone.contains(column)
                        });
                        let score = |column: usize| f64::from(weight[column].abs()) * known.squares[column].sqrt();
                        let column = stay.min_by(|a, b| score(*a).total_cmp(&score(*b)))?;
                        gone.push(column);
                        Some(Candidate {
                            column,
                            contribution: f64::from(weight[column]) * known.sums[column],
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

/// A weight that is restored and one that is removed in its place.
struct Swap {
    restored: usize,
    removed: usize,
}

impl Dsnot {
    /// The factor of a contribution where the largest is looked for; 0 for features without variance.
    fn spread(&self) -> Formula<Operand> {
        if self.variance_power == 1.0 {
            variance().inverse()
        } else {
            variance().power(self.variance_power).inverse() * varies()
        }
    }

    /// The swaps of a row whose removed weights contribute `error`. `restored` has the candidates of both sides in their
    /// order; `gone` finds the weight that makes room for one of them, given its side and its column.
    fn walk(
        &self,
        mut error: f64,
        guard: bool,
        restored: [&[Candidate]; 2],
        gone: &mut dyn FnMut(Side, usize) -> Option<Candidate>,
    ) -> Vec<Swap> {
        let positive = error > 0.0;
        let mut left = restored.map(|side| side.iter());
        let mut swaps = Vec::new();
        while swaps.len() < self.max_cycles && error.abs() > self.threshold {
            let side = if error > 0.0 { Side::Positive } else { Side::Negative };
            let found = left[side as usize].find_map(|back| Some((back, gone(side, back.column)?)));
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
}

// The vectors of `Known::values`, and what formulas make of them.
const SUMS: usize = 0;
const VARIANCE: usize = 1;
const SQUARES: usize = 2;

fn weight() -> Formula<Operand> {
    Formula::Leaf(Operand::Weight)
}

fn kept() -> Formula<Operand> {
    Formula::Leaf(Operand::Kept)
}

fn removed() -> Formula<Operand> {
    1.0 - kept()
}

fn contribution() -> Formula<Operand> {
    weight() * Formula::Leaf(Operand::Column(SUMS))
}

fn variance() -> Formula<Operand> {
    Formula::Leaf(Operand::Column(VARIANCE))
}

/// 1 for features with variance, else 0.
fn varies() -> Formula<Operand> {
    (-variance()).below(0.0)
}

fn squares() -> Formula<Operand> {
    Formula::Leaf(Operand::Column(SQUARES))
}

impl Known {
    fn new(piece: &dyn Workpiece) -> Result<Self> {
        let means = piece.means()?;
        Ok(Known {
            weight: piece.weight()?,
            kept: piece.kept()?,
            sums: means.mean.iter().map(|mean| mean * means.length).collect(),
            variance: means.within.clone(),
            squares: piece.squared_norms()?.to_vec(),
        })
    }

    fn values(&self, formula: Formula<Operand>) -> Values {
        let vectors = [&self.sums, &self.variance, &self.squares];
        Values {
            formula,
            matrices: Vec::new(),
            vectors: vectors
                .map(|vector| vector.iter().map(|value| *value as f32).collect())
                .to_vec(),
        }
    }

    /// In each row, up to `most` kept or removed weights on one side, those with the lowest values of a formula first. The
    /// formula is negative for such weights and 0 for all others.
    fn candidates(
        &self,
        piece: &dyn Workpiece,
        (formula, of_kept): (Formula<Operand>, bool),
        side: Side,
        most: usize,
    ) -> Result<Vec<Vec<Candidate>>> {
        let places = piece.lowest(piece.dim(), &self.values(formula), most)?;
        let weights = piece.read(&piece.gather(&self.weight, &places)?)?;
        let kept = piece.read(&piece.gather(&self.kept, &places)?)?;
        let places = piece.read(&places)?;
        let rows = places.outer_iter().zip(weights.outer_iter()).zip(kept.outer_iter());
        Ok(rows
            .map(|((places, weights), kept)| {
                // Where a row has fewer of them, others follow.
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
}

/// Changes the mask by the swaps of each row.
fn carry_out(piece: &mut dyn Workpiece, swaps: &[Vec<Swap>]) -> Result<()> {
    let most = swaps.iter().map(Vec::len).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let (rows, columns) = piece.dim();
    let ones = piece.map((rows, most), &Values::from(Formula::Number(1.0)))?;
    let marked = |column: fn(&Swap) -> usize| {
        let place = |(row, index): (usize, usize)| swaps[row].get(index).map_or(-1.0, |swap| column(swap) as f32);
        let places = piece.matrix(Array2::from_shape_fn((rows, most), place).view())?;
        piece.scatter(&ones, &places, columns)
    };
    let (restored, removed) = (marked(|swap| swap.restored)?, marked(|swap| swap.removed)?);
    let changed = Values::over([&piece.kept()?, &restored, &removed], |[kept, restored, removed]| {
        kept + restored - removed
    });
    let kept = piece.map((rows, columns), &changed)?;
    piece.keep(&kept)
}
