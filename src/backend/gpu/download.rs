//! Reading results back from a device.

use super::device::{Device, failure};
use super::memory::Memory;
use crate::error::Result;
use crate::threads::lock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use wgpu::{Buffer, BufferAsyncError, BufferDescriptor, BufferUsages, ErrorFilter, MapMode, SubmissionIndex};

/// The largest buffer for reading results that is kept, in bytes.
const KEPT: u64 = 64 << 20;

/// Number of buffers for reading results that are kept: one is read while the other is filled.
const BUFFERS: usize = 2;

/// Most bytes of one matrix that are read at a time.
const PIECE: u64 = 32 << 20;

/// How long to wait for an answer that has arrived in another thread; microseconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// Results that are on their way to the host.
struct Coming {
    staging: Buffer,
    bytes: u64,
    submission: SubmissionIndex,
    mapped: Receiver<std::result::Result<(), BufferAsyncError>>,
}

impl Device {
    /// Copies the first `bytes` of memory to the host.
    ///
    /// # Errors
    /// The device was lost, or has no room for the copy.
    pub fn download(&self, memory: &Memory, bytes: u64) -> Result<Vec<u8>> {
        let mut copy = Vec::new();
        let coming = self.send(&[(memory, 0, bytes)])?;
        self.receive(coming, |view| copy.extend_from_slice(&view[..bytes as usize]))?;
        Ok(copy)
    }

    /// Copies the first bytes of several buffers to the host, as words of 32 bits. This waits for the device once, not once for each.
    ///
    /// # Errors
    /// The device was lost, or has no room for the copy.
    pub fn download_all(&self, parts: &[(&Memory, u64)]) -> Result<Vec<Vec<u32>>> {
        let whole: Vec<_> = parts.iter().map(|(memory, bytes)| (*memory, 0, *bytes)).collect();
        let coming = self.send(&whole)?;
        let mut copies = Vec::with_capacity(parts.len());
        self.receive(coming, |view| {
            let mut place = 0;
            for (_, bytes) in parts {
                copies.push(bytemuck::pod_collect_to_vec(&view[place..place + *bytes as usize]));
                place += room(*bytes) as usize;
            }
        })?;
        Ok(copies)
    }

    /// Reads the first `bytes` of memory in pieces: `take` gets each piece, with its place in bytes, while the next one is copied.
    /// Places are multiples of 4.
    ///
    /// # Errors
    /// The device was lost, or has no room for the copies.
    pub fn read(&self, memory: &Memory, bytes: u64, mut take: impl FnMut(usize, &[u8])) -> Result<()> {
        let piece = |place: u64| {
            let bytes = PIECE.min(bytes - place);
            self.send(&[(memory, place, bytes)]).map(|coming| (coming, bytes))
        };
        let mut next = Some(piece(0)?);
        let mut place = 0;
        while let Some((coming, here)) = next.take() {
            let after = place + here;
            if after < bytes {
                next = Some(piece(after)?);
            }
            self.receive(coming, |view| take(place as usize, &view[..here as usize]))?;
            place = after;
        }
        Ok(())
    }

    /// Has parts of buffers copied to where the host can read them, one after the other: each with its first byte and number of bytes.
    fn send(&self, parts: &[(&Memory, u64, u64)]) -> Result<Coming> {
        let bytes = parts.iter().map(|(.., bytes)| room(*bytes)).sum();
        let staging = self.staging(bytes)?;
        let submission = {
            let mut recorder = lock(&self.recorder);
            let encoder = recorder.encoder(&self.device);
            let mut place = 0;
            for (memory, first, bytes) in parts {
                encoder.copy_buffer_to_buffer(memory.buffer(), *first, &staging, place, Some(room(*bytes)));
                place += room(*bytes);
            }
            self.submit_now(&mut recorder)?
        };
        let (sender, mapped) = channel();
        staging.map_async(MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone only when this call has failed already.
            let _ = sender.send(result);
        });
        Ok(Coming {
            staging,
            bytes,
            submission,
            mapped,
        })
    }

    /// Waits for results and hands them to `take`.
    fn receive(&self, coming: Coming, take: impl FnOnce(&[u8])) -> Result<()> {
        let Coming {
            staging,
            bytes,
            submission,
            mapped,
        } = coming;
        self.wait_for(submission)?;
        // Another thread that polls may have taken the answer and be about to hand it over, so it is waited for.
        match mapped.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            other => return Err(failure(format!("a result cannot be read back: {other:?}"))),
        }
        let view = staging
            .get_mapped_range(0..bytes)
            .map_err(|error| failure(format!("a result cannot be read back: {error}")))?;
        take(&view);
        drop(view);
        staging.unmap();
        let mut kept = lock(&self.staging);
        if staging.size() <= KEPT {
            if kept.len() == BUFFERS {
                kept.remove(0);
            }
            kept.push(staging);
        }
        Ok(())
    }

    /// A buffer of at least `bytes` for reading results. Making one is slow, so some are kept.
    fn staging(&self, bytes: u64) -> Result<Buffer> {
        {
            let mut kept = lock(&self.staging);
            if let Some(fits) = kept.iter().position(|staging| staging.size() >= bytes) {
                return Ok(kept.remove(fits));
            }
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

/// The bytes that a result takes in a buffer for reading.
fn room(bytes: u64) -> u64 {
    bytes.max(4).next_multiple_of(4)
}
