//! What one command does to one model: prune it ([`prune`]), tell its readers ([`card`]), measure it ([`eval`], and
//! [`harness`] for its scores in another layout), check it ([`verify`]) against what is recorded ([`provenance`]), store it in
//! less space ([`archive`]), make it smaller ([`mod@shrink`]), turn it ([`mod@rotate`]), time it ([`mod@bench`], [`mod@bench_units`]), write the
//! tokens it sees ([`tokens`]), or statistics of its layers' inputs ([`statistics`]). One joins results folders ([`mod@merge`]).
//!
//! A job is an experiment of one cell, so that a command and a sweep cannot differ in what they do; what
//! it adds is its output: a model directory, a JSON file, a verdict.

pub mod archive;
mod begins;
pub mod bench;
pub mod bench_units;
pub mod card;
mod directory;
mod factors;
pub mod eval;
pub mod harness;
pub mod provenance;
pub mod merge;
pub mod prune;
pub mod rotate;
mod seal;
pub mod shrink;
pub mod statistics;
pub mod structure;
pub mod tokens;
pub mod verify;
