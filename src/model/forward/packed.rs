//! The residual stream of sequences of different lengths that share their beginnings; see [`Layout`].

use super::batches::{Batches, batch_tokens};
use super::block::Block;
use super::ends::Ends;
use super::layout::Layout;
use super::pass::{Order, Pass, rotary_tables};
use crate::backend::{Backend, Likelihood, RotaryTable};
use crate::error::Result;
use crate::spec::{ModelSpec, Positions};

/// The residual stream of packed sequences, in batches.
pub struct Packed<B: Backend> {
    layouts: Vec<Layout>,
    batches: Batches<B>,
    rotary: Vec<RotaryTable>,
}

impl<B: Backend> Packed<B> {
    /// Number of tokens that a batch should have, both of distinct tokens and of places that attention sees.
    pub fn batch_tokens(backend: &B, spec: &ModelSpec) -> usize {
        batch_tokens(backend, spec)
    }

    /// Embeds the tokens of every batch: the input of block 0.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn embed(backend: &B, spec: &ModelSpec, ends: &Ends<B>, layouts: Vec<Layout>) -> Result<Self> {
        let longest = layouts.iter().map(Layout::length).max().unwrap_or(0);
        let mut batches = Batches::default();
        for layout in &layouts {
            let mut x = ends.embed(backend, spec, &layout.ids)?;
            if let (Some(table), Positions::Learned { offset, .. }) = (&ends.positions, &spec.positions) {
                let rows: Vec<u32> = layout.positions.iter().map(|at| at + *offset as u32).collect();
                backend.add(&mut x, &backend.rows(table, &rows)?)?;
            }
            batches.push(backend, &ends.room, x)?;
        }
        Ok(Packed {
            layouts,
            batches,
            rotary: rotary_tables(spec, longest),
        })
    }

    /// Moves the stream through a block.
    ///
    /// # Errors
    /// The backend fails.
    pub fn advance(&mut self, backend: &B, spec: &ModelSpec, block: &Block<B>) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let layouts = &self.layouts;
        self.batches.change(backend, |index, x| {
            let pass = Pass::new(backend, spec, block, rotary, Order::Packed(&layouts[index]));
            pass.run(x, &mut |_, _| Ok(()))
        })
    }

    /// To be called after the last block: the likelihood of `targets[i]` as the token after distinct token `rows[i]`
    /// of a batch.
    ///
    /// # Errors
    /// The backend fails.
    pub fn likelihoods(
        &self,
        backend: &B,
        ends: &Ends<B>,
        batch: usize,
        rows: &[u32],
        targets: &[u32],
    ) -> Result<Vec<Likelihood>> {
        let x = self.batches.with(backend, batch, |x| backend.rows(x, rows))?;
        let before = ends.before_head(backend, &x)?;
        backend.log_likelihoods(ends.head(), ends.softcap, before.as_ref().unwrap_or(&x), targets)
    }

    /// To be called after the last block: the likeliest token after distinct token `rows[i]` of a batch.
    ///
    /// # Errors
    /// The backend fails, or a logit is not finite.
    pub fn likeliest(&self, backend: &B, ends: &Ends<B>, batch: usize, rows: &[u32]) -> Result<Vec<u32>> {
        let x = self.batches.with(backend, batch, |x| backend.rows(x, rows))?;
        let before = ends.before_head(backend, &x)?;
        backend.likeliest(ends.predictions(before.as_ref().unwrap_or(&x)))
    }
}
