//! Criteria: how important is each weight?
//!
//! A criterion writes down a formula over the weights of one layer and the statistics of its inputs: a
//! [`Score`]. It selects nothing and changes nothing. Its struct is also its parameter table in the
//! experiment file. Adding one is a file here and a line in [`CRITERIA`]; a program adds its own with
//! [`CRITERIA.register`](Components::register) or [`register_formula`].

mod d2prune;
mod expression;
mod gblm;
mod magnitude;
mod mask;
mod nowag;
mod obs;
mod pruner_zero;
mod ria;
mod scored;
mod scores;
mod stade;
mod step;
mod taylor;
mod wanda;
mod wanda_pp;
mod wanda_variant;
mod z_pruner;

use crate::error::{Error, Result};
use crate::prune::component::{Built, Components, Name, parsed};
use crate::prune::pattern::Group;
use crate::prune::score::Score;
use crate::registry::Entry;
pub use d2prune::{D2Base, D2Prune};
use expression::Expression;
pub use expression::{key_of_the_table, normal_form, words};
pub use gblm::{Gblm, GradientNorm};
pub use magnitude::Magnitude;
pub use mask::MaskFile;
pub use nowag::NoWag;
pub use obs::Obs;
pub use pruner_zero::PrunerZero;
pub use ria::Ria;
pub use scored::WithGradients;
pub use scores::Scores;
pub use stade::Stade;
pub use step::{Criterion, ValueFile};
pub use taylor::{Taylor, TaylorForm};
pub use wanda::Wanda;
pub use wanda_pp::WandaPp;
pub use wanda_variant::WandaVariant;
pub use z_pruner::ZPruner;

/// All criteria.
pub static CRITERIA: Components<dyn Criterion> = Components::new(
    "criterion",
    |criterion| criterion.validate(),
    &[
        Entry {
            name: "magnitude",
            summary: "|w|; needs no calibration; group matrix",
            item: &|table| parsed(table, |it: Magnitude| Box::new(it)),
        },
        Entry {
            name: "wanda",
            summary: "|w| times the norm of its input (arXiv 2306.11695); group row",
            item: &|table| parsed(table, |it: Wanda| Box::new(it)),
        },
        Entry {
            name: "ria",
            summary: "relative importance and activations (ICLR 2024); group matrix; parameter activation_power",
            item: &|table| parsed(table, |it: Ria| Box::new(it)),
        },
        Entry {
            name: "z-pruner",
            summary: "cubed z-scores of normalised weights (arXiv 2508.15828); group matrix; \
                      parameters row_weight, small_share, small_threshold, activation_power",
            item: &|table| parsed(table, |it: ZPruner| Box::new(it)),
        },
        Entry {
            name: "obs",
            summary: "optimal brain surgeon saliency w^2 / [H^-1]_jj of the remaining problem (arXiv 2301.00774); group column-block",
            item: &|table| parsed(table, |it: Obs| Box::new(it)),
        },
        Entry {
            name: "wanda-variant",
            summary: "wanda, but every row loses the same share of its scores (arXiv 2306.11695); group row-share",
            item: &|table| parsed(table, |it: WandaVariant| Box::new(it)),
        },
        Entry {
            name: "stade",
            summary: "w^2 times the variance of its input, for use with a bias (arXiv 2503.22451); group row",
            item: &|table| parsed(table, |it: Stade| Box::new(it)),
        },
        Entry {
            name: "nowag",
            summary: "wanda on normalised columns and rows (arXiv 2504.14569); group matrix",
            item: &|table| parsed(table, |it: NoWag| Box::new(it)),
        },
        Entry {
            name: "d2prune",
            summary: "obs or wanda with a term for the outputs' size (arXiv 2601.09176); group column-block or row; \
                      parameters base, lambda1, lambda2, scale",
            item: &|table| parsed(table, |it: D2Prune| Box::new(it)),
        },
        Entry {
            name: "taylor",
            summary: "|w| times the gradient of the loss (LLM-Pruner, arXiv 2305.11627); group matrix; parameter form",
            item: &|table| parsed(table, |it: Taylor| Box::new(it)),
        },
        Entry {
            name: "gblm",
            summary: "wanda, with gradients of the loss added to the norms of inputs (arXiv 2311.04902); group row; \
                      parameters norm, scale, activations",
            item: &|table| parsed(table, |it: Gblm| Box::new(it)),
        },
        Entry {
            name: "pruner-zero",
            summary: "w^2 times gradients scaled to 0..1 (arXiv 2406.02924); group row; parameter norm",
            item: &|table| parsed(table, |it: PrunerZero| Box::new(it)),
        },
        Entry {
            name: "wanda-pp",
            summary: "wanda, with gradients of each block's outputs added to the norms of inputs (Wanda++'s score, arXiv 2503.04992); \
                      group row; parameter alpha",
            item: &|table| parsed(table, |it: WandaPp| Box::new(it)),
        },
        Entry {
            name: "expression",
            summary: "a formula of your own; parameters expression, group, and the names in the formula; group row",
            item: &|table| parsed(table, |it: Expression| Box::new(it)),
        },
        Entry {
            name: "scores",
            summary: "the scores of another program, from a file; parameter path; group row",
            item: &|table| parsed(table, |it: Scores| Box::new(it)),
        },
        Entry {
            name: "mask",
            summary: "the mask of another program, from a file; parameter path; group matrix",
            item: &|table| parsed(table, |it: MaskFile| Box::new(it)),
        },
    ],
);

/// Adds a criterion that is one formula without parameters. The formula is part of every cell's id, so that there is no need
/// to raise the version when it changes.
///
/// ```
/// use zprune::prune::component::Name;
/// use zprune::prune::criterion::register_formula;
/// use zprune::prune::pattern::Group;
/// use zprune::prune::score::{input_squares, weight};
///
/// # fn main() -> zprune::error::Result<()> {
/// let name = Name { name: "squared", version: 1, summary: "w^2 times its input's sum of squares" };
/// register_formula(name, Group::Row, weight().square() * input_squares())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Components::register`].
pub fn register_formula(name: Name, group: Group, score: Score) -> Result<()> {
    let written = score.to_string();
    CRITERIA.register_with(name, move |table| {
        let known = |(key, value): (&String, &toml::Value)| key == "formula" && value.as_str() == Some(&written);
        if !table.iter().all(known) {
            return Err(Error::config(format!(
                "it has no parameters; its formula is `{written}`"
            )));
        }
        Ok(Built {
            version: None,
            parameters: serde_json::json!({ "formula": written }),
            component: Box::new(Fixed {
                group,
                score: score.clone(),
            }),
        })
    })
}

/// A criterion that is one formula.
struct Fixed {
    group: Group,
    score: Score,
}

impl Criterion for Fixed {
    fn group(&self) -> Group {
        self.group
    }

    fn given_by(&self) -> Option<String> {
        Some(format!("the formula `{}`", self.score))
    }

    fn score(&self) -> Score {
        self.score.clone()
    }
}
