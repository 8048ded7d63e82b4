//! A model's blocks in their order, each read while the one before it is worked on.

use super::forward::Block;
use super::source::WeightSource;
use crate::backend::Backend;
use crate::error::Result;
use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

/// Calls `each` with every block and its index.
///
/// # Errors
/// A tensor is unusable, the backend has no room, or `each` fails.
pub fn each<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    mut each: impl FnMut(usize, Block<B>) -> Result<()>,
) -> Result<()> {
    let read = |index: usize| Block::load(backend, source, index);
    ahead(source.spec().blocks, read, |index, block, _| each(index, block))
}

/// Calls `each` with what `read` makes of each of `count` blocks, with the block's index, and how long it was waited for. What
/// is read is one block ahead.
///
/// # Errors
/// `read` or `each` fails.
pub fn ahead<T: Send>(
    count: usize,
    read: impl Fn(usize) -> Result<T> + Sync,
    each: impl FnMut(usize, T, Duration) -> Result<()>,
) -> Result<()> {
    far_ahead(1, count, read, each)
}

/// As [`ahead`], with so many blocks that are read ahead, at the same time: for work that takes less time than reading.
///
/// # Errors
/// As [`ahead`].
pub fn far_ahead<T: Send>(
    blocks: usize,
    count: usize,
    read: impl Fn(usize) -> Result<T> + Sync,
    mut each: impl FnMut(usize, T, Duration) -> Result<()>,
) -> Result<()> {
    let read = &read;
    thread::scope(|scope| {
        // Where the system starts no more threads, a block is read when its turn comes.
        let ahead = |index: usize| thread::Builder::new().spawn_scoped(scope, move || read(index)).ok();
        let mut coming: VecDeque<_> = (0..blocks.min(count)).map(ahead).collect();
        for index in 0..count {
            let started = Instant::now();
            let found = match coming.pop_front().flatten() {
                Some(coming) => coming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                None => read(index)?,
            };
            if index + blocks < count {
                coming.push_back(ahead(index + blocks));
            }
            each(index, found, started.elapsed())?;
        }
        Ok(())
    })
}
