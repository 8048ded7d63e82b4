//! Evaluation: what the pruned model still knows.
//!
//! [`perplexity`] by the papers' protocol, the distance [`to_dense`], and accuracy on zero-shot [`tasks`] by lm-evaluation-harness's:
//! [`choice`] scores, [`metrics`] sums up. Answers that a model writes itself: [`generate`] and [`matching`].

pub mod choice;
pub mod generate;
pub mod matching;
pub mod metrics;
pub mod perplexity;
pub mod tasks;
pub mod to_dense;
