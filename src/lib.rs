//! zprune
#![deny(missing_docs)]
pub mod backend;
pub mod calibrate;
pub mod data;
pub mod error;
pub mod linalg;
pub mod model;
pub mod prune;
pub mod registry;
pub mod tensor;
