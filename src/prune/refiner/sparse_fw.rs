//! SparseFW (arXiv 2510.13713; no reference code was used, this follows the paper's formulas).
//!
//! The mask is relaxed to values between 0 and 1, with the same sum in every group, and the error of the layer's output,
//! `tr(R G R^T)` with `R = W (1 - M)` and `G = X X^T`, is minimised over it by Frank and Wolfe's method: in step `t` the mask
//! moves by `2 / (t + 2)` of the way towards the mask of 0 and 1 along which the error falls fastest, the one with the largest values
//! of `W (R G)` (half the negative gradient) in every group. At the end the largest values of the relaxed mask are kept.
//!
//! Of the weights that the start mask keeps, 90 % in each row, those with the highest Wanda scores, stay kept all along; without
//! that the result is worse than the start (the paper says so, too). A weight whose removal does not hurt (its value of
//! `W (R G)` is not positive) is not moved towards, so that a step may keep fewer weights than a group has.
//!
//! `R G` is not computed anew in each step: it is linear in the mask, and the masks of 0 and 1 of two successive steps differ in few
//! places, so that their difference times `G` is a product with a matrix of which most entries are 0.
//!
//! Deviations: groups are those of the recipe (the paper has rows and N:M); in the group `matrix` or `column-block`, the 90 %
//! are taken in that group. If the error of the new mask is above that of the start mask, the start mask is kept.

use super::step::Refiner;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target, removed};
use crate::prune::values::{Operand, Values};
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The refiner SparseFW. Its defaults are the paper's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparseFw {
    /// Number of steps: 2000.
    pub iterations: usize,
    /// Share of the kept weights that stay kept: 0.9.
    pub fixed_share: f64,
}

impl Default for SparseFw {
    fn default() -> Self {
        SparseFw {
            iterations: 2000,
            fixed_share: 0.9,
        }
    }
}

/// A score that no other reaches, so that a weight is kept.
const ALWAYS: f64 = 1e30;

impl Refiner for SparseFw {
    fn validate(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::config("parameter `iterations` = 0 must be at least 1"));
        }
        if !(0.0..1.0).contains(&self.fixed_share) {
            return Err(Error::config(format!(
                "parameter `fixed_share` = {} must be at least 0 and less than 1",
                self.fixed_share
            )));
        }
        Ok(())
    }

    fn check(&self, target: &Target) -> Result<()> {
        let exact = target.selection == Selection::Exact || target.group == Group::Row;
        match target.pattern {
            Pattern::Unstructured { .. } if !exact => Err(Error::config(
                "sparse-fw finds masks of an exact size; with selection = \"reference\" the size of a mask depends on ties; use \
                 selection = \"exact\" or group = \"row\"",
            )),
            _ => Ok(()),
        }
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()> {
        let dim = piece.dim();
        let (weight, start, gram) = (piece.weight()?, piece.kept()?, piece.gram()?);
        let exact = Target {
            selection: Selection::Exact,
            ..*target
        };
        let fixed = self.fixed(piece, &start, target)?;
        // R G of the relaxed mask, and of the mask that the last step moved towards.
        let (mut relaxed, mut last) = (start.clone(), start.clone());
        let mut of_last = pull(piece, &weight, &start, &gram)?;
        let mut pull = of_last.clone();
        for step in 0..self.iterations {
            // Half the negative gradient where it is positive.
            let slope = Values::over([&fixed, &weight, &pull], |[fixed, weight, pull]| {
                ALWAYS * fixed + (weight * pull).maximum(0.0)
            });
            let slope = piece.map(dim, &slope)?;
            let towards = piece.choose(&Values::over([&slope], |[slope]| slope), &exact)?;
            let gains = Values::over([&towards, &slope], |[towards, slope]| towards * (-slope).below(0.0));
            let towards = piece.map(dim, &gains)?;
            let share = 2.0 / (step as f64 + 2.0);
            let mix = |from: &Matrix, to: &Matrix| {
                let mixed = Values::over([from, to], |[from, to]| (1.0 - share) * from + share * to);
                piece.map(dim, &mixed)
            };
            relaxed = mix(&relaxed, &towards)?;
            // Successive steps move towards masks that differ in few places, and `R G` is linear in the mask.
            let less = Values::over([&weight, &last, &towards], |[weight, last, towards]| {
                weight * (last - towards)
            });
            let change = piece.sparse_product(&piece.map(dim, &less)?, &gram)?;
            of_last = piece.map(
                dim,
                &Values::over([&of_last, &change], |[of_last, change]| of_last + change),
            )?;
            pull = mix(&pull, &of_last)?;
            last = towards;
        }
        let rounded = Values::over([&relaxed, &fixed], |[relaxed, fixed]| relaxed + 2.0 * fixed);
        let rounded = piece.choose(&rounded, &exact)?;
        if error(piece, &weight, &rounded, &gram)? <= error(piece, &weight, &start, &gram)? {
            piece.keep(&rounded)?;
        }
        Ok(())
    }
}

impl SparseFw {
    /// A matrix with 1 for the weights that stay kept.
    fn fixed(&self, piece: &dyn Workpiece, kept: &Matrix, target: &Target) -> Result<Matrix> {
        let (rows, columns) = piece.dim();
        let group = match target.pattern {
            Pattern::NofM { .. } => Group::Row,
            Pattern::Unstructured { .. } => target.group,
        };
        let size = match group {
            Group::Row => columns,
            Group::Matrix | Group::RowShare => rows * columns,
            Group::ColumnBlock => rows * columns.min(COLUMN_BLOCK),
        };
        let left = match target.pattern {
            Pattern::NofM { keep, of } => size / of * keep,
            Pattern::Unstructured { sparsity } => size - removed(size, sparsity),
        };
        let stay = (left as f64 * self.fixed_share) as usize;
        if stay == 0 {
            return piece.map(piece.dim(), &Values::from(Formula::Number(0.0)));
        }
        let salient = Target {
            // Half a weight more, so that rounding does not decide how many there are.
            pattern: Pattern::Unstructured {
                sparsity: ((size - stay) as f64 + 0.5) / size as f64,
            },
            group,
            selection: Selection::Exact,
        };
        let squares = piece.squared_norms()?.iter().map(|square| *square as f32).collect();
        let weight = Formula::Leaf(Operand::Weight);
        let score = Values {
            formula: weight.abs() * Formula::Leaf(Operand::Column(0)).root() * Formula::Leaf(Operand::Kept),
            matrices: Vec::new(),
            vectors: vec![squares],
        };
        let chosen = piece.choose(&score, &salient)?;
        // Where all scores are 0, removed weights may be among them.
        piece.map(
            piece.dim(),
            &Values::over([&chosen, kept], |[chosen, kept]| chosen * kept),
        )
    }
}

/// `W (1 - M) G`.
fn pull(piece: &dyn Workpiece, weight: &Matrix, mask: &Matrix, gram: &Matrix) -> Result<Matrix> {
    let removed = Values::over([weight, mask], |[weight, mask]| weight * (1.0 - mask));
    piece.product(&piece.map(piece.dim(), &removed)?, gram)
}

/// The error of the layer's output, `tr(R G R^T)`.
fn error(piece: &dyn Workpiece, weight: &Matrix, mask: &Matrix, gram: &Matrix) -> Result<f64> {
    let pull = pull(piece, weight, mask, gram)?;
    let parts = Values::over([weight, mask, &pull], |[weight, mask, pull]| {
        weight * (1.0 - mask) * pull
    });
    piece.total(piece.dim(), &parts)
}
