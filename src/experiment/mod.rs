//! Experiments, in two stages: what was typed ([`raw`]) and what it means ([`plan`]); then what the
//! files it names contain ([`inputs`]) and the content-derived id of every cell ([`identity`]).
//!
//! Reading an experiment loads no weights. Contradictions are refused here, before the first expensive
//! step; acting code sees only the resolved stage.

pub mod forecast;
pub mod comparison;
pub mod identity;
pub mod inputs;
pub mod machine;
pub mod plan;
pub mod protocol;
pub mod raw;
pub mod reference;
pub mod single;
