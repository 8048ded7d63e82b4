//! Memory of a device: buffers that are used again.
//!
//! Everything runs in the order it was asked for, so a buffer may be used again as soon as its owner is gone, without
//! waiting.

use crate::threads::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use wgpu::Buffer;

/// Sizes of buffers, and places in them that are bound, are multiples of this number of bytes; every device accepts it.
pub const GRANULE: u64 = 256;

/// Memory of a device, which goes back to the device's pool when it is dropped.
pub struct Memory {
    buffer: Option<Buffer>,
    pool: Arc<Mutex<Pool>>,
}

impl Memory {
    /// A buffer that goes back to this pool.
    pub(super) fn new(buffer: Buffer, pool: Arc<Mutex<Pool>>) -> Self {
        Memory {
            buffer: Some(buffer),
            pool,
        }
    }

    pub(super) fn buffer(&self) -> &Buffer {
        self.buffer
            .as_ref()
            .expect("memory keeps its buffer until it is dropped")
    }

    /// Size in bytes, which may be larger than was asked for.
    pub fn size(&self) -> u64 {
        self.buffer().size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            lock(&self.pool).give_back(buffer);
        }
    }
}

/// The buffers of a device that nobody uses, by size, and how much there is of all.
#[derive(Default)]
pub(super) struct Pool {
    free: HashMap<u64, Vec<Buffer>>,
    /// Number of bytes in `free`.
    idle: u64,
    /// Number of bytes allocated in all, used or not.
    held: u64,
    peak: u64,
}

impl Pool {
    /// An unused buffer of exactly this size, if there is one.
    pub(super) fn take(&mut self, size: u64) -> Option<Buffer> {
        let taken = self.free.get_mut(&size).and_then(Vec::pop);
        if taken.is_some() {
            self.idle -= size;
            self.note();
        }
        taken
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.idle += buffer.size();
        self.free.entry(buffer.size()).or_default().push(buffer);
    }

    /// Counts a buffer that was made.
    pub(super) fn made(&mut self, size: u64) {
        self.held += size;
        self.note();
    }

    fn note(&mut self) {
        self.peak = self.peak.max(self.used());
    }

    /// Returns unused buffers to the driver.
    pub(super) fn trim(&mut self) {
        self.held -= self.idle;
        self.idle = 0;
        self.free.clear();
    }

    /// Number of bytes allocated in all.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Number of bytes that are in use.
    pub(super) fn used(&self) -> u64 {
        self.held - self.idle
    }

    /// The most bytes that were in use at the same time.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}
