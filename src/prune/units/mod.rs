//! Whole units: which heads, neurons and blocks of a model are left, so that it becomes smaller and not only sparser.
//!
//! A method looks at the dense model ([`survey`]), and answers with an [`Edit`](crate::model::edit::Edit). Adding one is a file
//! here and a line in [`UNITS`]; a program adds its own with [`UNITS.register`](Components::register).

pub mod cost;
pub mod dense;
pub mod drop;
pub mod flap;
mod in_turn;
pub mod llm_pruner;
pub mod olica;
pub mod regression;
pub mod scores;
mod step;
pub mod survey;
pub mod turning;
mod two_ssp;
pub mod uniform;
mod unit_sum;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
use drop::BlockDrop;
use flap::Flap;
use llm_pruner::LlmPruner;
use olica::Olica;
pub use step::{BlockInTurn, DenseModel, Observed, OfMlp, RoleGradient, UnitMethod, Wanted, Widths};
pub use two_ssp::TwoSsp;
pub use unit_sum::{Summed, UnitSum};

/// All methods of whole units.
pub static UNITS: Components<dyn UnitMethod> = Components::new(
    "method of whole units",
    |method| method.validate(),
    &[
        Entry {
            name: "flap",
            summary: "heads and neurons whose inputs change least (arXiv 2312.11983); biases make up for their mean; \
                      parameters metric, structure, group, remove_heads, bias",
            item: &|table| parsed(table, |it: Flap| Box::new(it)),
        },
        Entry {
            name: "llm-pruner",
            summary: "heads and neurons by first-order expansions of the loss (arXiv 2305.11627); parameters taylor, gqa, first, end",
            item: &|table| parsed(table, |it: LlmPruner| Box::new(it)),
        },
        Entry {
            name: "unit-sum",
            summary: "heads and neurons with the smallest sums of Wanda's scores or magnitudes; parameter score",
            item: &|table| parsed(table, |it: UnitSum| Box::new(it)),
        },
        Entry {
            name: "olica",
            summary: "low-rank queries and keys, fewer features of values, fewer neurons, and a linear branch that makes up for them \
                      (arXiv 2506.08436); parameters rule, k, calibrated, ratio, ridge, guard, floor",
            item: &|table| parsed(table, |it: Olica| Box::new(it)),
        },
        Entry {
            name: "two-ssp",
            summary: "neurons with the smallest norms, then whole attentions by perplexity (arXiv 2501.17771); parameters alpha, windows",
            item: &|table| parsed(table, |it: TwoSsp| Box::new(it)),
        },
        Entry {
            name: "block-drop",
            summary: "blocks that turn the residual stream least (arXiv 2403.03853), a run of them (2403.17887), or by perplexity; \
                      parameters by, tokens",
            item: &|table| parsed(table, |it: BlockDrop| Box::new(it)),
        },
    ],
);
