//! The same numbers of heads and neurons for all blocks, so that every loader takes the model.
//!
//! Each block loses the same number of key-value heads, with their query heads: the share of them, rounded to a number that loaders of
//! the family take, or none where its configuration cannot say that there are fewer. The neurons make up for what rounding did, in a
//! number that matrix products like ([`multiple`]).

use super::cost::Cost;
use super::scores::{UnitScores, without_lowest};
use crate::error::{Error, Result};
use crate::model::edit::Edit;
use crate::model::families::FAMILIES;
use crate::prune::range::within;
use crate::spec::{BlockSpec, ModelSpec, SubLayer};

/// The largest share of weights that can be removed as whole units.
pub const MOST_UNITS: f64 = 0.95;

/// Of what the number of neurons that are left is a multiple, for a model with so many.
pub fn multiple(neurons: usize) -> usize {
    match neurons {
        4096.. => 256,
        256.. => 32,
        _ => 1,
    }
}

/// What all blocks of a model are.
///
/// # Errors
/// They differ.
pub fn equal_block(spec: &ModelSpec) -> Result<&BlockSpec> {
    let mut kinds = spec.kinds();
    match (kinds.next(), kinds.next()) {
        (Some((block, _)), None) => Ok(block),
        _ => Err(Error::config(format!(
            "the model's blocks have different sizes already, so they cannot all lose the same number of units; {}",
            takers(first_lack(spec).is_none())
        ))),
    }
}

/// Checks that every block has attention and MLP.
///
/// # Errors
/// A block lacks one.
pub fn blocks_are_whole(spec: &ModelSpec) -> Result<()> {
    match first_lack(spec) {
        None => Ok(()),
        Some((index, part)) => Err(Error::config(format!(
            "block {index} has no {part}, but the method needs attention and MLP in every block; {}",
            takers(false)
        ))),
    }
}

/// The first block that has no attention or no MLP, and what it lacks.
fn first_lack(spec: &ModelSpec) -> Option<(usize, &'static str)> {
    (0..spec.blocks).find_map(|index| {
        let block = spec.block(index);
        let part = SubLayer::ALL.into_iter().find(|part| !block.has(*part))?;
        let name = match part {
            SubLayer::Attention => "attention",
            SubLayer::Mlp => "MLP",
        };
        Some((index, name))
    })
}

/// Which methods make a model smaller whose blocks differ; `whole` says whether all have attention and MLP.
fn takers(whole: bool) -> &'static str {
    match whole {
        true => "`flap` and `llm-pruner` with --widths per-block, and `block-drop`, can make such a model smaller",
        false => "`llm-pruner` with --widths per-block, and `block-drop`, can make such a model smaller",
    }
}

/// Checks that a configuration can say that a block has fewer heads than the original's; with `pad`, zeros are written in their place.
///
/// # Errors
/// The family has no key for the size of a head.
pub fn heads_are_sayable(spec: &ModelSpec, pad: bool) -> Result<()> {
    match pad || FAMILIES.find(spec.family)?.item.sizes.heads.is_some() {
        true => Ok(()),
        false => Err(Error::config(format!(
            "heads would be removed, but a `{}` configuration has no key for the size of a head; use --widths uniform, which removes \
             neurons only, or write zeros in place of what was removed (--pad)",
            spec.family
        ))),
    }
}

/// What is left of a model whose blocks all lose the units with the lowest scores, `share` of their weights.
///
/// # Errors
/// The share is out of range, or blocks are not of equal size.
pub fn uniform(spec: &ModelSpec, scores: &[UnitScores], share: f64) -> Result<Edit> {
    within("units", share, 0.0..=MOST_UNITS)?;
    let block = equal_block(spec)?;
    let mut edit = Edit::whole(spec);
    if share == 0.0 {
        return Ok(edit);
    }
    let cost = Cost::of(block);
    let (groups, neurons) = (block.attention.kv_heads, block.neurons());
    let sizes = &FAMILIES.find(spec.family)?.item.sizes;
    let heads = |fewer: usize| (groups - fewer) * block.attention.heads_of_group();
    let taken = (0..groups).filter(|fewer| sizes.takes(heads(*fewer), block.attention.heads, spec.width));
    let far = |fewer: usize| (fewer as f64 - share * groups as f64).abs();
    // The nearest; of two that are equally near, the larger.
    let nearest = taken.min_by(|a, b| far(*a).total_cmp(&far(*b)).then(b.cmp(a)));
    let fewer = nearest.unwrap_or(0);
    let left = (1.0 - share) * (groups * cost.group + neurons * cost.neuron) as f64;
    let wanted = (left - ((groups - fewer) * cost.group) as f64) / cost.neuron as f64;
    let step = multiple(neurons);
    let kept = ((wanted / step as f64).round() as usize).max(1) * step;
    let kept = kept.min(neurons);
    for (edit, scores) in edit.blocks.iter_mut().zip(scores) {
        edit.keep_groups(&without_lowest(&scores.groups, fewer), block);
        edit.neurons = without_lowest(&scores.neurons, neurons - kept);
    }
    Ok(edit)
}
