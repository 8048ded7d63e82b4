//! Dropping whole blocks: by how little they turn the residual stream (ShortGPT, Men et al., arXiv 2403.03853), in a run that turns it
//! least from end to end (Gromov et al., arXiv 2403.17887), or by the perplexity without them.

use super::step::{DenseModel, UnitMethod, Widths};
use super::turning::Tokens;
use super::uniform::MOST_UNITS;
use crate::error::{Error, Result};
use crate::model::edit::{BlockEdit, Edit};
use crate::prune::range::within;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};

/// Dropping blocks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockDrop {
    /// What blocks are chosen by: `influence`.
    pub by: Chosen,
    /// The tokens that are compared: `all`.
    pub tokens: Tokens,
}

/// What blocks are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chosen {
    /// The influence of each.
    #[default]
    Influence,
    /// The angle by which a run of consecutive blocks turns the stream.
    Angle,
    /// The perplexity of the calibration text without them, one block after the other.
    Perplexity,
}

impl UnitMethod for BlockDrop {
    fn calibrates(&self) -> bool {
        true
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, _: Widths) -> Result<()> {
        count(spec, share).map(drop)
    }

    fn check_writing(&self, spec: &ModelSpec, share: f64, _: Widths, _: bool) -> Result<()> {
        match count(spec, share)? {
            0 => Err(Error::config(format!(
                "parameter `units` = {share}: nothing would be removed, since that is less than half of one of {} blocks; give at least {:.3}",
                spec.blocks,
                (500.0 / spec.blocks as f64).ceil() / 1e3
            ))),
            _ => Ok(()),
        }
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, _: Widths) -> Result<Edit> {
        let spec = model.source().spec();
        let count = count(spec, share)?;
        if count == 0 {
            return Ok(Edit::whole(spec));
        }
        let dropped: Vec<usize> = match self.by {
            Chosen::Influence => least(&model.turning(1, self.tokens)?.influence, count),
            Chosen::Angle => {
                let angle = model.turning(count, self.tokens)?.angle;
                let first = (0..angle.len())
                    .min_by(|a, b| angle[*a].total_cmp(&angle[*b]))
                    .unwrap_or(0);
                (first..first + count).collect()
            }
            Chosen::Perplexity => {
                let removed = greedy(spec, count, |edit| model.perplexity(edit))?;
                removed.into_iter().map(|(block, _)| block).collect()
            }
        };
        Ok(without(spec, &dropped))
    }
}

/// How many blocks go. Blocks are nearly always equal; where they are not, their number counts.
///
/// # Errors
/// The share is out of range, or no block would be left.
fn count(spec: &ModelSpec, share: f64) -> Result<usize> {
    within("units", share, 0.0..=MOST_UNITS)?;
    if spec.blocks == 1 && share > 0.0 {
        return Err(Error::config("the model has only one block, which must be left"));
    }
    let blocks = spec.blocks as f64;
    let count = (share * blocks).round() as usize;
    match count < spec.blocks {
        true => Ok(count),
        false => Err(Error::config(format!(
            "parameter `units` = {share}: rounded to whole blocks that is all {}, and one must be left: give less than {:.2}",
            spec.blocks,
            (blocks - 0.5) / blocks
        ))),
    }
}

/// The model without these blocks.
pub fn without(spec: &ModelSpec, dropped: &[usize]) -> Edit {
    let left = (0..spec.blocks).filter(|block| !dropped.contains(block));
    Edit {
        blocks: left.map(|block| BlockEdit::whole(block, spec.block(block))).collect(),
    }
}

/// The `count` blocks with the lowest influence, in ascending order; of equal ones, the first.
pub fn least(influence: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..influence.len()).collect();
    order.sort_by(|a, b| influence[*a].total_cmp(&influence[*b]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Removes `count` blocks one after the other, each time the one without which `measure` (a perplexity) is lowest; of equal ones, the
/// first. Returns them in this order, each with what was measured.
///
/// # Errors
/// All blocks are to be removed, or a measurement fails.
pub fn greedy(
    spec: &ModelSpec,
    count: usize,
    mut measure: impl FnMut(&Edit) -> Result<f64>,
) -> Result<Vec<(usize, f64)>> {
    if count >= spec.blocks {
        return Err(Error::config(format!(
            "{count} blocks to remove, and the model has {}",
            spec.blocks
        )));
    }
    let mut removed: Vec<(usize, f64)> = Vec::new();
    while removed.len() < count {
        let mut best: Option<(usize, f64)> = None;
        for block in 0..spec.blocks {
            let mut dropped: Vec<usize> = removed.iter().map(|(block, _)| *block).collect();
            if dropped.contains(&block) {
                continue;
            }
            dropped.push(block);
            let found = measure(&without(spec, &dropped))?;
            if best.is_none_or(|(_, least)| found < least) {
                best = Some((block, found));
            }
        }
        removed.extend(best);
    }
    Ok(removed)
}
