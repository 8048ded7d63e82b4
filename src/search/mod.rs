//! Searches: the best method of a space, by successive halving on held-out calibration text.
//!
//! Every rung is an ordinary experiment with a results folder of its own, so that it may be interrupted, and shared by several
//! processes. What is computed here is only which windows are held out ([`windows`]), who goes on ([`halving`]), and what is said of it
//! ([`told`]).

pub mod found;
pub mod halving;
mod rungs;
pub mod told;
pub mod windows;

pub use found::{Found, Rung, Tried};
pub use rungs::run;
