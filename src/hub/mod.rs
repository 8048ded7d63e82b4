//! Models and corpora of the Hugging Face hub, kept in the cache that every Hugging Face program shares.
//!
//! The hub and its mirrors are not trusted: what they answer is checked ([`answers`], [`names`]) before it becomes part
//! of a path, every content is held against its hash, and every conversation ends (`client`, which the feature `hub` brings). The environment is the
//! Python library's (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, ...), and so is the cache with its locks.
//!
//! A model of a branch is looked up on the hub every time and taken from the cache when the hub cannot be
//! reached; one of a commit never changes and, once in the cache, needs no network at all.

#[doc(hidden)]
pub mod address;
#[doc(hidden)]
pub mod answers;
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(not(feature = "hub"))]
#[path = "no_client.rs"]
mod client;
pub mod datasets;
mod download;
mod explain;
mod failure;
mod file;
mod limits;
mod model;
#[doc(hidden)]
pub mod names;
mod repository;
mod settings;

pub use limits::RequestLimits;
pub use model::{Parts, Snapshot};
pub use repository::{Kind, Repository};
pub use settings::Hub;
