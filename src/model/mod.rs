//! Models: what an architecture is ([`spec`]), how a `config.json` becomes one ([`families`]), where
//! the weights come from ([`checkpoint`]), and the one forward pass ([`forward`]).
//!
//! A family is data: it names tensors and picks among the options of [`spec::ModelSpec`]. It contains
//! no forward code, so the taps at which calibration reads exist once, for all of them.

pub mod checkpoint;
pub mod families;
pub mod forward;
pub mod spec;
