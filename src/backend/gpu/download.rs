//! Reading results back from a device.

use super::device::{Device, failure};
use super::memory::Memory;
use crate::error::Result;
use crate::threads::lock;
use std::time::Duration;
use wgpu::{Buffer, BufferDescriptor, BufferUsages, ErrorFilter, MapMode};

/// The largest buffer for reading results that is kept, in bytes.
const KEPT: u64 = 64 << 20;

/// How long to wait for an answer that has arrived in another thread; microseconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

impl Device {
    /// Copies the first `bytes` of memory to the host.
    ///
    /// # Errors
    /// The device was lost, or has no room for the copy.
    pub fn download(&self, memory: &Memory, bytes: u64) -> Result<Vec<u8>> {
        let mut copies = self.download_all(&[(memory, bytes)])?;
        Ok(copies.pop().expect("one copy of one buffer"))
    }

    /// Copies the first bytes of several buffers to the host. This waits for the device once, not once for each.
    ///
    /// # Errors
    /// The device was lost, or has no room for the copy.
    pub fn download_all(&self, parts: &[(&Memory, u64)]) -> Result<Vec<Vec<u8>>> {
        let room = |bytes: u64| bytes.max(4).next_multiple_of(4);
        let padded = parts.iter().map(|(_, bytes)| room(*bytes)).sum();
        let staging = self.staging(padded)?;
        {
            let mut recorder = lock(&self.recorder);
            let encoder = recorder.encoder(&self.device);
            let mut place = 0;
            for (memory, bytes) in parts {
                encoder.copy_buffer_to_buffer(memory.buffer(), 0, &staging, place, Some(room(*bytes)));
                place += room(*bytes);
            }
        }
        self.submit()?;
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(MapMode::Read, 0..padded, move |result| {
            // The receiver is gone only when this call has failed already.
            let _ = sender.send(result);
        });
        self.wait()?;
        // Another thread that polls may have taken the answer and be about to hand it over, so it is waited for.
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            other => return Err(failure(format!("a result cannot be read back: {other:?}"))),
        }
        let view = staging
            .get_mapped_range(0..padded)
            .map_err(|error| failure(format!("a result cannot be read back: {error}")))?;
        let mut place = 0;
        let mut copies = Vec::with_capacity(parts.len());
        for (_, bytes) in parts {
            copies.push(view[place..place + *bytes as usize].to_vec());
            place += room(*bytes) as usize;
        }
        drop(view);
        staging.unmap();
        if staging.size() <= KEPT {
            *lock(&self.staging) = Some(staging);
        }
        Ok(copies)
    }

    /// A buffer of at least `bytes` for reading results. Making one is slow, so one is kept.
    fn staging(&self, bytes: u64) -> Result<Buffer> {
        if let Some(kept) = lock(&self.staging).take()
            && kept.size() >= bytes
        {
            return Ok(kept);
        }
        let size = if bytes <= KEPT {
            bytes.next_power_of_two()
        } else {
            bytes
        };
        let scope = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let staging = self.device.create_buffer(&BufferDescriptor {
            label: Some("download"),
            size,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            Some(_) => Err(self.no_room(size)),
            None => Ok(staging),
        }
    }
}
