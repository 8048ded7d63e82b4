//! zprune removes weights from trained language models without retraining, and measures what that costs.
//!
//! # Data flow
//!
//! ```text
//! experiment TOML -> plan of cells -> model -> calibrate -> prune, block by block -> evaluate -> record -> statistics -> report
//! ```
//!
//! Everything left of "model" needs no weights and opens no GPU; everything right of "record" needs no model. What is between is one
//! [`cell`].
//!
//! # Four ideas
//!
//! 1. **The backend speaks transformer** ([`backend`]): a dozen operations on `[tokens, features]` matrices, and their adjoints.
//! 2. **An architecture is data** ([`spec`]): `config.json` becomes a [`spec::ModelSpec`]; there is one forward pass, and one way back.
//! 3. **A score is a formula** ([`prune::score`]): what it needs is read off it, and it runs where the weights are.
//! 4. **A method is a recipe** ([`prune::recipe`]): allocate, transform, score, permute, select, refine, solve,
//!    compensate.
//!
//! # Numbers
//!
//! Weights may be stored as f32, f16 or bf16; activations are f32; Gram matrices, factorisations and statistics are f64. Updated
//! weights are rounded to the checkpoint's type before they are evaluated. Results do not depend on the number of threads.
//!
//! # Features
//!
//! - `cli` (on): the program, and its command line as [`cli::main`]; needs `report`.
//! - `embedded` (on): the model and the texts of the quickstart, as a part of the program ([`embedded`]): 10 MB.
//! - `hub` (on): downloads from the Hugging Face hub. Without it, what is in its cache can be used.
//! - `report` (on): tables, plots and pages of an experiment's records.
//! - `gpu` (on): computing on a GPU.
//! - `lapack` (off): LAPACK through ndarray-linalg and the system's OpenBLAS as a second provider of factorisations.
//!
//! # What the package has not
//!
//! A package has at most 10 MB. That of crates.io has the program, the library, the experiments, and the model and texts of the quickstart.
//! The guides of `docs` (but for `docs/methods`, which the program prints), the tests with what they compare with, the tools and the other
//! models are in the repository only. Its address is not in the manifest yet, since it has no public one.
//!
//! # Pruning one layer
//!
//! ```
//! use ndarray::array;
//! use zprune::backend::moments::{Moments, Needs};
//! use zprune::calibrate::statistics::LayerStatistics;
//! use zprune::linalg::Provider;
//! use zprune::prune::criterion::Wanda;
//! use zprune::prune::layer::{Layer, solve};
//! use zprune::prune::pattern::{Group, Pattern, Selection, Target};
//! use zprune::prune::recipe::Steps;
//! use zprune::prune::solver::OneShot;
//!
//! # fn main() -> zprune::error::Result<()> {
//! let weight = array![[0.1f32, -2.0, 0.3, 0.4], [1.0, 0.2, -0.3, 0.1]];
//! // One calibration token whose third feature is large.
//! let mut moments = Moments::new(4, Needs::SQUARES);
//! moments.squares = vec![1.0, 1.0, 100.0, 1.0];
//! let statistics = LayerStatistics::new(&moments, 1, Provider::Faer);
//! let layer = Layer { weight: weight.view(), statistics: &statistics };
//!
//! let target = Target {
//!     pattern: Pattern::Unstructured { sparsity: 0.5 },
//!     group: Group::Row,
//!     selection: Selection::Exact,
//! };
//! let pruned = solve(&layer, Steps::new(&Wanda {}, &OneShot {}), &target)?;
//! // Wanda keeps the small weights that read the large feature.
//! assert_eq!(pruned.weight, array![[0.0, -2.0, 0.3, 0.0], [1.0, 0.0, -0.3, 0.0]]);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! Each module uses only those listed after it (`tests/architecture.rs` holds that).

#[cfg(feature = "cli")]
pub mod cli;
pub mod jobs;
pub mod submit;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "report")]
pub mod search;
pub mod run;
pub mod cell;
#[cfg(feature = "report")]
pub mod report;
pub mod stats;
pub mod record;
pub mod experiment;
pub mod hub;
pub mod gguf;
pub mod progress;
pub mod eval;
pub mod prune;
pub mod calibrate;
pub mod model;
pub mod backend;
pub mod spec;
pub mod linalg;
pub mod data;
pub mod tensor;
pub mod files;
pub mod memory;
pub mod processor;
pub mod threads;
pub mod choices;
pub mod registry;
pub mod error;
