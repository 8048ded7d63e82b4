//! Evaluation: what the pruned model still knows.

pub mod perplexity;
