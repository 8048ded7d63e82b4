//! Models: how a `config.json` becomes a [`ModelSpec`](crate::spec::ModelSpec) ([`families`]), where the
//! weights come from ([`source`]: a [`checkpoint`], or [`random`] numbers), and the one forward pass ([`forward`]), which [`blocks`] go through one by one, and
//! its way back ([`backward`]).
//!
//! A family is data: it names tensors and picks among the options of the spec. It contains
//! no forward code, so the taps at which calibration reads exist once, for all of them.

pub mod alike;
pub mod backward;
pub mod blocks;
pub mod checkpoint;
pub mod edit;
pub mod ending;
pub mod export;
pub mod factored;
pub mod families;
pub mod folder;
pub mod forward;
pub mod found;
pub mod index;
pub mod layer_file;
pub mod lineage;
pub mod narrow;
pub mod neurons;
pub mod padded;
pub mod pruned_before;
pub mod random;
pub mod rotated;
pub mod source;
pub mod weights;
