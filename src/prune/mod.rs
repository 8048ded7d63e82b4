//! Pruning: a method is a recipe of steps, each of them a component of its own.
//!
//! [`recipe`] says which steps there are, [`layer`] takes one layer through them and holds them to their promises (the mask
//! satisfies the pattern exactly, masked weights are 0, all weights are finite), [`model`] goes through the blocks. The
//! components live in [`allocator`], [`transform`], [`criterion`], [`permutation`], [`refiner`], [`solver`] and [`compensation`];
//! what they share in [`formula`], [`score`], [`pattern`], [`mask`] and [`workbench`]. [`limits`] are a workbench's own.

pub mod units;
pub mod model;
pub mod found;
pub mod layer;
pub mod allocation;
pub mod recipe;
pub mod allocator;
pub mod shares;
pub mod permutation;
pub mod refiner;
pub mod solver;
pub mod transform;
pub mod compensation;
pub mod criterion;
mod ranking;
pub mod operands;
pub mod score;
pub mod workbench;
pub mod limits;
pub mod values;
pub mod matrix;
pub mod formula;
pub mod described;
pub mod component;
pub mod mask;
pub mod compared;
pub mod pattern;
mod range;
