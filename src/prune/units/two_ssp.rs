//! 2SSP: neurons by the norms of their activations, then whole attentions by perplexity (Sandri, Cunegatti and Iacca, TMLR 2025, arXiv
//! 2501.17771; reference: FabrizioSandri/2SSP).
//!
//! Of `B` blocks with `A` weights of attention and `M` of the MLP, `B s^(M / (alpha A))` lose their attention, rounded, where `s` is
//! the share of the weights that is to go. MLPs lose the rest, each as many neurons: those whose norms over a window's tokens are
//! smallest, on average over windows. Attentions are removed after that and one by one, each time the one without which the
//! perplexity is lowest.
//!
//! Deviations: `s` is a share of the weights of linear layers (the released code counts norms too); the released code stops where
//! attentions would be more than is to go, here fewer of them are removed; with uniform widths the number of neurons is a multiple of
//! [`multiple`].

use super::cost::Cost;
use super::scores::without_lowest;
use super::step::{DenseModel, UnitMethod, Widths};
use super::uniform::{MOST_UNITS, blocks_are_whole, equal_block, multiple};
use crate::error::{Error, Result};
use crate::model::edit::Edit;
use crate::model::families::FAMILIES;
use crate::prune::range::within;
use crate::spec::{ModelSpec, SubLayer};
use serde::{Deserialize, Serialize};

/// 2SSP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TwoSsp {
    /// How much attention goes: the more, the larger it is; 1.5.
    pub alpha: f64,
    /// Number of windows of the calibration text, from its first, whose perplexity chooses attentions; 1.
    pub windows: usize,
}

impl Default for TwoSsp {
    fn default() -> Self {
        TwoSsp { alpha: 1.5, windows: 1 }
    }
}

impl UnitMethod for TwoSsp {
    fn validate(&self) -> Result<()> {
        within("alpha", self.alpha, 0.01..=100.0)?;
        match self.windows {
            0 => Err(Error::config("`windows` must be at least 1")),
            _ => Ok(()),
        }
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<()> {
        self.budget(spec, share, widths).map(drop)
    }

    fn check_writing(&self, spec: &ModelSpec, share: f64, widths: Widths, pad: bool) -> Result<()> {
        let Budget { attentions, .. } = self.budget(spec, share, widths)?;
        if pad || attentions == 0 {
            return Ok(());
        }
        let fewer = "remove less, give a lower `alpha`, or write zeros in place of what was removed (--pad)";
        if FAMILIES.find(spec.family)?.item.sizes.heads.is_none() {
            return Err(Error::config(format!(
                "{attentions} of {} blocks would lose their attention, but a `{}` configuration has no key for that; {fewer}",
                spec.blocks, spec.family
            )));
        }
        match attentions == spec.blocks {
            true => Err(Error::config(format!(
                "all {attentions} blocks would lose their attention, but a configuration cannot say that; {fewer}"
            ))),
            false => Ok(()),
        }
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit> {
        let spec = model.source().spec();
        let Budget { attentions, neurons } = self.budget(spec, share, widths)?;
        let mut edit = Edit::whole(spec);
        if neurons > 0 {
            for (edit, norms) in edit.blocks.iter_mut().zip(model.neuron_norms()?) {
                edit.neurons = without_lowest(&norms, neurons);
            }
        }
        for _ in 0..attentions {
            let measured = model.without_attention(&edit, self.windows)?;
            // Of equal ones, the first.
            if let Some((place, _)) = measured
                .into_iter()
                .reduce(|best, next| if next.1 < best.1 { next } else { best })
            {
                edit.blocks[place].remove(SubLayer::Attention);
            }
        }
        Ok(edit)
    }
}

/// What goes.
struct Budget {
    /// Number of blocks that lose their attention.
    attentions: usize,
    /// Number of neurons that every MLP loses.
    neurons: usize,
}

impl TwoSsp {
    fn budget(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<Budget> {
        within("units", share, 0.0..=MOST_UNITS)?;
        blocks_are_whole(spec)?;
        let block = equal_block(spec)?;
        let attention: usize = (block.linears.iter())
            .filter(|linear| linear.role.sub_layer() == SubLayer::Attention)
            .map(|linear| linear.outputs * linear.inputs)
            .sum();
        let mlp = block.prunable() - attention;
        let ratio = mlp as f64 / attention as f64;
        let lost = share * spec.prunable() as f64;
        let whole = (spec.blocks as f64 * share.powf(ratio / self.alpha)).round() as usize;
        let whole = whole.min((lost / attention as f64) as usize);
        let neurons = block.neurons();
        let each = (lost - (whole * attention) as f64) / spec.blocks as f64;
        let kept = neurons as f64 - each / Cost::of(block).neuron as f64;
        let step = match widths {
            Widths::Uniform if share > 0.0 => multiple(neurons),
            _ => 1,
        };
        let kept = ((kept / step as f64).round() as usize).max(1) * step;
        Ok(Budget {
            attentions: whole,
            neurons: neurons.saturating_sub(kept),
        })
    }
}
