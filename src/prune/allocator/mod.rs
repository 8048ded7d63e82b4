//! Allocators: how much is removed from which layer.
//!
//! An allocator says which share of its weights each layer should lose, before anything is pruned; what it says is made to fit
//! the whole by [`shares`](crate::prune::shares). It may ask for a survey: a number that it measures of every layer of the dense
//! model. It may try shares out, too, on calibration text that is held out for it. Adding one is a file here and a line in
//! [`ALLOCATORS`]; a program adds its own with [`ALLOCATORS.register`](Components::register).

mod alpha_pruning;
mod atp;
mod dlp;
mod error;
mod file;
mod owl;
mod step;
mod table;
mod uniform;
mod wanda_scores;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub use alpha_pruning::{AlphaPruning, LowerBound};
pub use atp::Atp;
pub use dlp::{Dlp, DlpStatistic};
pub use error::{LeastError, SharedBy};
pub use file::FileShares;
pub use owl::Owl;
pub use step::{Allocator, PlacedLinear, Question, Survey, Trial};
pub use table::ShareTable;
pub use uniform::Uniform;

/// All allocators.
pub static ALLOCATORS: Components<dyn Allocator> = Components::new(
    "allocator",
    |allocator| allocator.validate(),
    &[
        Entry {
            name: "uniform",
            summary: "the same pattern in every layer",
            item: &|table| parsed(table, |it: Uniform| Box::new(it)),
        },
        Entry {
            name: "owl",
            summary: "blocks with more outliers among Wanda's scores keep more (arXiv 2310.05175); parameters m, lambda",
            item: &|table| parsed(table, |it: Owl| Box::new(it)),
        },
        Entry {
            name: "alpha-pruning",
            summary: "blocks whose spectra have heavier tails keep more (NeurIPS 2024); parameters epsilon, lower_bound",
            item: &|table| parsed(table, |it: AlphaPruning| Box::new(it)),
        },
        Entry {
            name: "dlp",
            summary: "blocks with smaller scores by Wanda keep more (ICML 2025); parameters statistic, alpha",
            item: &|table| parsed(table, |it: Dlp| Box::new(it)),
        },
        Entry {
            name: "atp",
            summary: "each block loses beta more than the one before; beta is chosen on held-out calibration text (ICML 2025); \
                      parameters beta, step, trials",
            item: &|table| parsed(table, |it: Atp| Box::new(it)),
        },
        Entry {
            name: "error",
            summary: "layers or blocks that lose much of their output at half sparsity, even with least squares, keep more; parameters by, lambda",
            item: &|table| parsed(table, |it: LeastError| Box::new(it)),
        },
        Entry {
            name: "table",
            summary: "shares by block or by pattern of names, such as { \"mlp.*\" = 0.6 }; parameter shares",
            item: &|table| parsed(table, |it: ShareTable| Box::new(it)),
        },
        Entry {
            name: "file",
            summary: "the shares of another run, from its runs.jsonl or pruning.json, or a file of shares; parameters path, cell",
            item: &file::build,
        },
    ],
);
