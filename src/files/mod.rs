//! Files of other people: what zprune reads.

pub mod input;
