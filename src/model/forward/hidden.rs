//! The residual stream of token windows between two blocks, in batches of whole windows.

use super::batches::{Batches, batch_tokens};
use super::block::Block;
use super::ends::Ends;
use super::pass::{Order, Pass, copy, rotary_tables};
use crate::backend::{Backend, Divergence, RotaryTable};
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::spec::{ModelSpec, Positions, Tap};
use ndarray::{Array2, s};
use std::collections::BTreeMap;

/// The residual stream of token windows between two blocks, in batches of whole windows.
pub struct Hidden<B: Backend> {
    batches: Batches<B>,
    per_batch: usize,
    length: usize,
    rotary: Vec<RotaryTable>,
}

/// A residual stream and the block that it comes to next.
pub type Before<'a, B> = (&'a Hidden<B>, &'a Block<B>);

impl<B: Backend> Hidden<B> {
    /// Embeds the tokens, which gives the input of block 0.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn embed(backend: &B, spec: &ModelSpec, ends: &Ends<B>, windows: &TokenWindows) -> Result<Self> {
        let batch = Self::windows_of_a_batch(backend, spec, windows.length());
        Self::embed_by(batch, backend, spec, ends, windows)
    }

    /// As [`Hidden::embed`], in batches of so many windows.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn embed_by(
        batch: usize,
        backend: &B,
        spec: &ModelSpec,
        ends: &Ends<B>,
        windows: &TokenWindows,
    ) -> Result<Self> {
        let length = windows.length();
        let per_batch = batch * length;
        let mut batches = Batches::default();
        for ids in windows.ids().chunks(per_batch) {
            let mut x = ends.embed(backend, spec, ids)?;
            if let (Some(table), Positions::Learned { offset, .. }) = (&ends.positions, &spec.positions) {
                backend.add_positions(&mut x, table, *offset, length)?;
            }
            batches.push(backend, &ends.room, x)?;
        }
        Ok(Hidden {
            batches,
            per_batch,
            length,
            rotary: rotary_tables(spec, length),
        })
    }

    /// Number of windows of `length` tokens that move through a block together.
    pub fn windows_of_a_batch(backend: &B, spec: &ModelSpec, length: usize) -> usize {
        (batch_tokens(backend, spec) / length).max(1)
    }

    /// A copy, which other blocks can move.
    ///
    /// # Errors
    /// The backend fails, or there is no place for the copy.
    pub fn fork(&self, backend: &B, ends: &Ends<B>) -> Result<Self> {
        let mut batches = Batches::default();
        self.batches
            .each(backend, |x| batches.push(backend, &ends.room, copy(backend, x)?))?;
        Ok(Hidden {
            batches,
            per_batch: self.per_batch,
            length: self.length,
            rotary: self.rotary.clone(),
        })
    }

    /// Number of tokens in a window.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// A copy of the stream of one window.
    pub(super) fn window(&self, backend: &B, window: usize) -> Result<B::Tensor> {
        let (batch, place) = (
            window * self.length / self.per_batch,
            window * self.length % self.per_batch,
        );
        let rows: Vec<u32> = (place..place + self.length).map(|row| row as u32).collect();
        self.batches.with(backend, batch, |x| backend.rows(x, &rows))
    }

    pub(super) fn batches(&self) -> &Batches<B> {
        &self.batches
    }

    pub(super) fn into_batches(self) -> Batches<B> {
        self.batches
    }

    /// Calls `work` with the forward pass of a block on every batch, the batch's number, and the batch, which it may change.
    pub(super) fn change<'a>(
        &'a mut self,
        backend: &'a B,
        spec: &'a ModelSpec,
        block: &'a Block<B>,
        mut work: impl FnMut(&Pass<'a, B>, usize, &mut B::Tensor) -> Result<()>,
    ) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let pass = Pass::new(backend, spec, block, rotary, Order::Windows(self.length));
        self.batches.change(backend, |index, x| work(&pass, index, x))
    }

    /// Moves the stream through a block. `listen` receives the input of every linear layer, batch by batch.
    ///
    /// # Errors
    /// The backend or the listener fails.
    pub fn advance(
        &mut self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        mut listen: impl FnMut(Tap, &B::Tensor) -> Result<()>,
    ) -> Result<()> {
        self.change(backend, spec, block, |pass, _, x| pass.run(x, &mut listen))
    }

    /// As [`Hidden::observe`], with the first batch alone.
    ///
    /// # Errors
    /// The backend or the listener fails.
    pub fn observe_first(
        &self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        last: Tap,
        mut listen: impl FnMut(Tap, &B::Tensor) -> Result<()>,
    ) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let pass = Pass::new(backend, spec, block, rotary, Order::Windows(self.length));
        self.batches.with(backend, 0, |x| pass.observe(x, last, &mut listen))
    }

    /// Passes the inputs of a block's linear layers up to the tap `last` to `listen`, without moving the stream. With
    /// another stream of the same windows and another state of the block, `listen` receives the input there at `last`, too.
    ///
    /// # Errors
    /// The backend or the listener fails.
    pub fn observe(
        &self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        other: Option<Before<B>>,
        last: Tap,
        mut listen: impl FnMut(Tap, &B::Tensor, Option<&B::Tensor>) -> Result<()>,
    ) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let pass = |block| Pass::new(backend, spec, block, rotary, Order::Windows(self.length));
        let mut index = 0;
        self.batches.each(backend, |x| {
            let mut there: BTreeMap<Tap, B::Tensor> = BTreeMap::new();
            if let Some((hidden, block)) = other {
                let keep = &mut |tap, x: &B::Tensor| {
                    if tap == last {
                        there.insert(tap, copy(backend, x)?);
                    }
                    Ok(())
                };
                hidden
                    .batches
                    .with(backend, index, |x| pass(block).observe(x, last, keep))?;
            }
            index += 1;
            pass(block).observe(x, last, &mut |tap, x| listen(tap, x, there.get(&tap)))
        })
    }

    /// To be called after the last block: the log-likelihood of every window's tokens 1, 2, ... given the tokens
    /// before them, `length - 1` per window. `take` receives the windows in order, a batch at a time.
    ///
    /// # Errors
    /// The backend fails.
    pub fn log_likelihoods(
        &self,
        backend: &B,
        ends: &Ends<B>,
        windows: &TokenWindows,
        mut take: impl FnMut(&[&[f64]]),
    ) -> Result<()> {
        let mut ids = windows.ids();
        self.batches.each(backend, |x| {
            let before = ends.before_head(backend, x)?;
            let x = before.as_ref().unwrap_or(x);
            let (batch, rest) = ids.split_at(self.per_batch.min(ids.len()));
            ids = rest;
            // The last token of a window predicts nothing; giving it any target keeps rows and targets aligned.
            let mut targets = batch[1..].to_vec();
            targets.push(batch[0]);
            let likelihoods = backend.log_likelihoods(ends.head(), ends.softcap, x, &targets)?;
            let likelihoods: Vec<f64> = likelihoods.iter().map(|it| it.log).collect();
            let windows = likelihoods.chunks_exact(self.length);
            let windows: Vec<&[f64]> = windows.map(|window| &window[..self.length - 1]).collect();
            take(&windows);
            Ok(())
        })
    }

    /// To be called after the last block, with the stream of the same windows after the dense model's last block and with that model's
    /// ends: how far the predictions of every window's tokens 1, 2, ... are from the dense model's, `length - 1` per window. `take`
    /// receives the windows in order, a batch at a time.
    ///
    /// # Errors
    /// The backend fails.
    pub fn divergences(
        &self,
        backend: &B,
        ends: &Ends<B>,
        (dense, dense_ends): (&Hidden<B>, &Ends<B>),
        mut take: impl FnMut(&[&[Divergence]]),
    ) -> Result<()> {
        let mut first = 0;
        self.batches.each(backend, |x| {
            let rows = backend.extent(x).rows;
            let mut done = 0;
            // Batches of models of other widths have other sizes; all have whole windows.
            while done < rows {
                let (index, place) = ((first + done) / dense.per_batch, (first + done) % dense.per_batch);
                done += dense.batches.with(backend, index, |dense| {
                    let count = (backend.extent(dense).rows - place).min(rows - done);
                    let (there, here) = (run(backend, dense, place, count)?, run(backend, x, done, count)?);
                    let (there, here) = (there.as_ref().unwrap_or(dense), here.as_ref().unwrap_or(x));
                    let (dense_before, before) = (
                        dense_ends.before_head(backend, there)?,
                        ends.before_head(backend, here)?,
                    );
                    let dense = dense_ends.predictions(dense_before.as_ref().unwrap_or(there));
                    let divergences = backend.divergences(dense, ends.predictions(before.as_ref().unwrap_or(here)))?;
                    let windows = divergences.chunks_exact(self.length);
                    let windows: Vec<&[Divergence]> = windows.map(|window| &window[..self.length - 1]).collect();
                    take(&windows);
                    Ok(count)
                })?;
            }
            first += rows;
            Ok(())
        })
    }

    /// The stream as it is now, one row per token; with `place`, only that token of every window.
    ///
    /// # Errors
    /// The backend fails.
    pub fn states(&self, backend: &B, place: Option<usize>) -> Result<Array2<f32>> {
        let mut parts = Vec::new();
        self.batches.each(backend, |x| {
            let part = match place {
                None => backend.download(x)?,
                Some(place) => {
                    let windows = 0..backend.extent(x).rows / self.length;
                    let rows: Vec<u32> = windows.map(|window| (window * self.length + place) as u32).collect();
                    backend.download(&backend.rows(x, &rows)?)?
                }
            };
            parts.push(part);
            Ok(())
        })?;
        Ok(stacked(&parts))
    }

    /// To be called after the last block: the logits of every token, `(tokens, vocabulary)`. For tests and small
    /// texts.
    ///
    /// # Errors
    /// The backend fails.
    pub fn logits(&self, backend: &B, ends: &Ends<B>) -> Result<Array2<f32>> {
        let mut parts = Vec::new();
        self.batches.each(backend, |x| {
            let before = ends.before_head(backend, x)?;
            let mut logits = backend.download(&backend.linear(ends.head(), None, before.as_ref().unwrap_or(x))?)?;
            if let Some(bound) = ends.softcap {
                logits.mapv_inplace(|x| bound * (x / bound).tanh());
            }
            parts.push(logits);
            Ok(())
        })?;
        Ok(stacked(&parts))
    }
}

/// Some neighbouring rows of `x`; `None` if these are all.
fn run<B: Backend>(backend: &B, x: &B::Tensor, first: usize, count: usize) -> Result<Option<B::Tensor>> {
    if count == backend.extent(x).rows {
        return Ok(None);
    }
    let rows: Vec<u32> = (first..first + count).map(|row| row as u32).collect();
    backend.rows(x, &rows).map(Some)
}

/// Matrices of equal width, one below the other.
fn stacked(parts: &[Array2<f32>]) -> Array2<f32> {
    let columns = parts.first().map_or(0, Array2::ncols);
    let mut all = Array2::zeros((parts.iter().map(Array2::nrows).sum(), columns));
    let mut row = 0;
    for part in parts {
        all.slice_mut(s![row..row + part.nrows(), ..]).assign(part);
        row += part.nrows();
    }
    all
}
