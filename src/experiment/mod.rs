//! Experiments, in two stages: what was typed ([`source`], [`raw`]) and what it means ([`resolve`] makes a [`plan`] of it, the same on
//! every machine); then what this machine has ([`machine`]), what the files it names contain ([`inputs`]), and the
//! content-derived id of every cell ([`identity`]).
//!
//! Reading an experiment loads no weights. Contradictions are refused here, before the first expensive
//! step, all of a file at once ([`problems`]); acting code sees only the resolved stage.

pub mod asked;
pub mod axes;
pub mod axis;
pub mod default_name;
pub mod draw;
pub mod edited;
pub mod file_names;
pub mod forecast;
pub mod identity;
pub mod inputs;
pub mod known;
pub mod machine;
pub mod method;
mod misplaced;
pub mod on_device;
pub mod origin;
pub mod outside;
pub mod plan;
pub mod plan_file;
pub mod problems;
pub mod protocol;
pub mod raw;
pub mod resolve;
pub mod schema;
pub mod search;
pub mod single;
pub mod shorthand;
pub mod source;
mod syntax;
pub mod space;
pub mod texts;
pub mod work;
