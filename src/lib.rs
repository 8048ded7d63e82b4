//! zprune
#![deny(missing_docs)]
pub mod backend;
pub mod calibrate;
pub mod cli;
pub mod data;
pub mod error;
pub mod eval;
pub mod experiment;
pub mod linalg;
pub mod model;
pub mod progress;
pub mod prune;
pub mod record;
pub mod registry;
pub mod report;
pub mod run;
pub mod stats;
pub mod tensor;
