//! The gradient of a loss with respect to the residual stream between two blocks, in the batches of the stream itself.

use super::adjoint::{Adjoint, Computed};
use super::batches::Batches;
use super::block::Block;
use super::ends::Ends;
use super::hidden::Hidden;
use super::pass::{Order, Pass, copy, rotary_tables};
use crate::backend::moments::Needs;
use crate::backend::{Backend, RotaryTable};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::memory::{Reserved, Room};
use crate::spec::{LinearId, ModelSpec};
use std::collections::BTreeMap;

/// What the way back needs of a forward pass: the residual stream before every block, in memory as far as the room has a place for it,
/// the rest in scratch files; and, where there is memory for it, what blocks computed of it, which is computed again otherwise.
pub struct Tape<B: Backend> {
    passed: Vec<Passed<B>>,
    keep: Option<Room>,
}

/// A block that was passed.
struct Passed<B: Backend> {
    inputs: Batches<B>,
    /// What it computed of some of the batches, and the memory that was reserved for that.
    computed: BTreeMap<usize, (Computed<B::Tensor>, Reserved)>,
}

impl<B: Backend> Default for Tape<B> {
    fn default() -> Self {
        Tape {
            passed: Vec::new(),
            keep: None,
        }
    }
}

impl<B: Backend> Tape<B> {
    /// A tape that keeps what blocks compute, as far as this room has a place for it. That changes no digit.
    pub fn keeping(room: Room) -> Self {
        Tape {
            passed: Vec::new(),
            keep: Some(room),
        }
    }

    /// Keeps a copy of the stream, and moves the stream through a block.
    ///
    /// # Errors
    /// The backend fails, or there is no place for the copy.
    pub fn advance(
        &mut self,
        backend: &B,
        ends: &Ends<B>,
        spec: &ModelSpec,
        hidden: &mut Hidden<B>,
        block: &Block<B>,
    ) -> Result<()> {
        let mut inputs = Batches::default();
        let mut computed = BTreeMap::new();
        let keep = &mut self.keep;
        hidden.change(backend, spec, block, |pass, index, x| {
            let Some(room) = keep else {
                inputs.push(backend, &ends.room, copy(backend, x)?)?;
                return pass.run(x, &mut |_, _| Ok(()));
            };
            let adjoint = Adjoint {
                pass: *pass,
                back: None,
            };
            let (y, found) = adjoint.forwards(x)?;
            inputs.push(backend, &ends.room, std::mem::replace(x, y))?;
            let found = found.light();
            match room.reserve(found.bytes(backend) as u64) {
                Some(place) => {
                    computed.insert(index, (found, place));
                }
                // Other blocks take as much.
                None => *keep = None,
            }
            Ok(())
        })?;
        self.passed.push(Passed { inputs, computed });
        Ok(())
    }
}

/// The gradient of a loss with respect to the residual stream between two blocks.
pub struct Backward<B: Backend> {
    batches: Batches<B>,
    tape: Tape<B>,
    length: usize,
    rotary: Vec<RotaryTable>,
    back: Vec<RotaryTable>,
}

impl<B: Backend> Backward<B> {
    /// Begins at the head, with the stream after the last block: the gradient of the sum of all tokens' negative
    /// log-likelihoods, times `scale`. Also returns, for each window, the mean over its tokens 1, 2, ... of their negative
    /// log-likelihoods given the tokens before them. Where tokens have weights, both are as [`TokenWindows::predictions`] says.
    ///
    /// # Errors
    /// The backend fails.
    pub fn of_likelihood(
        backend: &B,
        ends: &Ends<B>,
        spec: &ModelSpec,
        tape: Tape<B>,
        hidden: Hidden<B>,
        windows: &TokenWindows,
        scale: f32,
    ) -> Result<(Vec<f64>, Self)> {
        let length = windows.length();
        let (mut ids, counts) = (windows.ids(), windows.predictions());
        let mut counts = counts.as_slice();
        let mut losses = Vec::with_capacity(windows.count());
        let mut batches = hidden.into_batches();
        batches.change(backend, |_, x| {
            let (batch, rest) = ids.split_at(backend.extent(x).rows);
            ids = rest;
            // The last token of a window predicts nothing, so its target does not matter.
            let mut targets = batch[1..].to_vec();
            targets.push(batch[0]);
            let (of_batch, rest) = counts.split_at(batch.len());
            counts = rest;
            let factors: Vec<f32> = of_batch.iter().map(|count| -scale * count).collect();
            let (likelihoods, gradient) = ends.likelihoods_backward(backend, x, &targets, &factors)?;
            let windows = likelihoods.chunks_exact(length).zip(of_batch.chunks_exact(length));
            losses.extend(windows.map(|(window, counts)| {
                let predicted = window.iter().zip(counts).take(length - 1);
                let sum: f64 = predicted
                    .map(|(likelihood, count)| likelihood * f64::from(*count))
                    .sum();
                -sum / (length - 1) as f64
            }));
            *x = gradient;
            Ok(())
        })?;
        Ok((losses, Backward::new(spec, tape, batches, length)))
    }

    /// Begins after the last block that the stream `output` has passed: the gradient of half the squared distance between it and
    /// `wanted`, a stream of the same windows.
    ///
    /// # Errors
    /// The backend fails.
    pub fn of_difference(
        backend: &B,
        spec: &ModelSpec,
        tape: Tape<B>,
        output: Hidden<B>,
        wanted: &Hidden<B>,
    ) -> Result<Self> {
        let length = output.length();
        let mut batches = output.into_batches();
        batches.change(backend, |index, x| {
            wanted.batches().with(backend, index, |wanted| {
                let mut away = copy(backend, wanted)?;
                backend.scale(&mut away, -1.0)?;
                backend.add(x, &away)
            })
        })?;
        Ok(Backward::new(spec, tape, batches, length))
    }

    fn new(spec: &ModelSpec, tape: Tape<B>, batches: Batches<B>, length: usize) -> Self {
        let rotary = rotary_tables(spec, length);
        Backward {
            batches,
            tape,
            length,
            back: rotary.iter().map(RotaryTable::inverse).collect(),
            rotary,
        }
    }

    /// Moves the gradient back through the last block that the tape knows, which is `block`, and forgets the block's input.
    /// `listen` receives for every linear layer its input, the gradient with respect to its output, and how many windows the rows
    /// of both are, batch by batch.
    ///
    /// # Errors
    /// The backend or the listener fails, or the tape knows no block any more.
    pub fn retreat(
        &mut self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        mut listen: impl FnMut(LinearId, &B::Tensor, &B::Tensor, usize) -> Result<()>,
    ) -> Result<()> {
        let passed = self.tape.passed.pop().ok_or_else(|| {
            Error::config(
                "the gradient is moved back through more blocks than the tape knows; go back through each block once",
            )
        })?;
        let Passed { inputs, mut computed } = passed;
        let length = self.length;
        let adjoint = Adjoint {
            pass: Pass::new(
                backend,
                spec,
                block,
                self.rotary.get(block.reach.rotary),
                Order::Windows(length),
            ),
            back: self.back.get(block.reach.rotary),
        };
        self.batches.change(backend, |index, gradient| {
            inputs.with(backend, index, |x| {
                let windows = backend.extent(x).rows / length;
                let mut listen = |id, x: &B::Tensor, dy: &B::Tensor| listen(id, x, dy, windows);
                match computed.remove(&index) {
                    Some((found, _)) => adjoint.back(x, found, gradient, &mut listen),
                    None => adjoint.run(x, gradient, &mut listen),
                }
            })
        })
    }
}

/// The gradient of the sum over windows of the norms of a block's outputs, each over all tokens and features of a window, times `scale`.
/// `hidden` is the stream before the block, and stays there. `listen` receives what [`Backward::retreat`] tells.
///
/// # Errors
/// The backend or the listener fails.
pub fn of_norms<B: Backend>(
    backend: &B,
    spec: &ModelSpec,
    hidden: &Hidden<B>,
    block: &Block<B>,
    scale: f32,
    mut listen: impl FnMut(LinearId, &B::Tensor, &B::Tensor, usize) -> Result<()>,
) -> Result<()> {
    let length = hidden.length();
    let rotary = rotary_tables(spec, length);
    let back: Vec<RotaryTable> = rotary.iter().map(RotaryTable::inverse).collect();
    let adjoint = Adjoint {
        pass: Pass::new(
            backend,
            spec,
            block,
            rotary.get(block.reach.rotary),
            Order::Windows(length),
        ),
        back: back.get(block.reach.rotary),
    };
    hidden.batches().each(backend, |x| {
        let windows = backend.extent(x).rows / length;
        let mut gradient = copy(backend, x)?;
        adjoint.pass.run(&mut gradient, &mut |_, _| Ok(()))?;
        let mut factors = Vec::with_capacity(windows * length);
        for window in 0..windows {
            let rows: Vec<u32> = (window * length..(window + 1) * length).map(|row| row as u32).collect();
            let mut moments = backend.moments(spec.width, Needs::SQUARES)?;
            backend.accumulate(&mut moments, &backend.rows(&gradient, &rows)?)?;
            let norm = backend.read_moments(&moments)?.squares.iter().sum::<f64>().sqrt();
            let factor = if norm > 0.0 { f64::from(scale) / norm } else { 0.0 };
            factors.extend(std::iter::repeat_n(factor as f32, length));
        }
        backend.scale_rows(&mut gradient, &factors)?;
        adjoint.run(x, &mut gradient, &mut |id, x, dy| listen(id, x, dy, windows))
    })
}

/// For one window of the stream before a block: the gradient of half the squared distance between the outputs of the block as it is
/// (the second) and those of another state of it (the first). `listen` receives, for every linear layer, its input, the gradient with
/// respect to its output, and the factor that this gradient is still to be multiplied by. Returns the squared distance.
///
/// # Errors
/// The backend or the listener fails.
pub fn of_distance<B: Backend>(
    backend: &B,
    spec: &ModelSpec,
    hidden: &Hidden<B>,
    (wanted, block): (&Block<B>, &Block<B>),
    window: usize,
    mut listen: impl FnMut(LinearId, &B::Tensor, &B::Tensor, f32) -> Result<()>,
) -> Result<f64> {
    let length = hidden.length();
    let rotary = rotary_tables(spec, length);
    let back: Vec<RotaryTable> = rotary.iter().map(RotaryTable::inverse).collect();
    let pass = |block| {
        Pass::new(
            backend,
            spec,
            block,
            rotary.get(wanted.reach.rotary),
            Order::Windows(length),
        )
    };
    let x = hidden.window(backend, window)?;
    let mut away = copy(backend, &x)?;
    pass(wanted).run(&mut away, &mut |_, _| Ok(()))?;
    backend.scale(&mut away, -1.0)?;
    let adjoint = Adjoint {
        pass: pass(block),
        back: back.get(block.reach.rotary),
    };
    let mut gradient = copy(backend, &x)?;
    adjoint.pass.run(&mut gradient, &mut |_, _| Ok(()))?;
    backend.add(&mut gradient, &away)?;
    drop(away);
    let mut moments = backend.moments(spec.width, Needs::SQUARES)?;
    backend.accumulate(&mut moments, &gradient)?;
    let squares: f64 = backend.read_moments(&moments)?.squares.iter().sum();
    if squares > 0.0 && squares.is_finite() {
        // As large as 1 on average, so that it keeps its digits in half precision; a power of two changes none in single precision.
        let scale = ((length * spec.width) as f64 / squares).sqrt().log2().round().exp2() as f32;
        backend.scale(&mut gradient, scale)?;
        adjoint.run(&x, &mut gradient, &mut |id, x, dy| listen(id, x, dy, 1.0 / scale))?;
    }
    Ok(squares)
}
