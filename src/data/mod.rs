//! Data: corpora become texts, texts become tokens, tokens become windows.
//!
//! Owns file formats, joins, tokenisation, window cutting and calibration sampling. Everything random
//! here is CPython's generator, so that a seed selects the same windows as in the papers' own code.

pub mod answers;
pub mod chat;
pub mod corpus;
pub mod digest;
pub mod guard;
pub mod prompts;
pub mod python_random;
pub mod sampler;
pub mod stamp;
pub mod table;
mod text_file;
pub mod tokenizer;
pub mod windows;
