//! One open GPU: what it is, its memory, and the work it is given.
//!
//! Everything runs in the order it was asked for. Faults that the device reports later (a lost device, memory that ran
//! out) are kept and returned by the next call that can fail.

use super::adapter::{self, Choice, Tier};
pub use super::kernel::{Bound, Kernel, read, write};
pub use super::memory::Memory;
use super::memory::{GRANULE, Pool};
use super::pipeline::Pipelines;
use super::recorder::Recorder;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::threads::lock;
use bytemuck::{Pod, bytes_of};
use std::sync::{Arc, Mutex, OnceLock};
use wgpu::{
    Buffer, BufferDescriptor, BufferUsages, DeviceDescriptor, ErrorFilter, ExperimentalFeatures, Limits, MemoryHints,
    PollType, SubmissionIndex,
};

/// An open GPU: its memory, its kernels and the work recorded for it.
pub struct Device {
    pub(super) device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
    driver: String,
    tier: Tier,
    limits: Limits,
    /// Bytes of the device's own memory, if it tells.
    memory: Option<u64>,
    /// The buffer that is bound if a kernel's optional input is absent.
    nothing: OnceLock<Memory>,
    pub(super) recorder: Mutex<Recorder>,
    /// Buffers that results were read through, kept for reuse, the newest last.
    pub(super) staging: Mutex<Vec<Buffer>>,
    pool: Arc<Mutex<Pool>>,
    pipelines: Pipelines,
    /// The first error after which the device cannot be used any more.
    fault: Arc<OnceLock<String>>,
}

impl Device {
    /// Opens the adapter that fits the choice.
    ///
    /// # Errors
    /// None fits, or it refuses.
    pub fn open(choice: &Choice) -> Result<Device> {
        let adapter = adapter::find(choice)?;
        let info = adapter.get_info();
        let best = adapter::tier(&adapter);
        let tier = choice.tier.map_or(best, |wanted| wanted.min(best));
        let limits = adapter::limits(tier, &adapter);
        let experimental_features = if tier >= Tier::Cooperative {
            // SAFETY: the cooperative matrix kernels were validated by naga and run on hardware; wgpu asks
            // for this acknowledgement because its own checks of them are not complete yet.
            #[allow(unsafe_code)]
            unsafe {
                ExperimentalFeatures::enabled()
            }
        } else {
            ExperimentalFeatures::disabled()
        };
        let descriptor = DeviceDescriptor {
            label: Some("zprune"),
            required_features: adapter::features(tier, &adapter),
            required_limits: limits.clone(),
            experimental_features,
            memory_hints: MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| failure(format!("{} cannot be opened: {error}", info.name)))?;
        let fault = Arc::new(OnceLock::new());
        let seen = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping a device is announced the same way.
            if reason != wgpu::DeviceLostReason::Destroyed {
                let _ = seen.set(format!("the GPU was lost: {message}"));
            }
        });
        let seen = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            let _ = seen.set(format!("the GPU reports: {error}"));
        }));
        let opened = Device {
            recorder: Mutex::new(Recorder::new(&device)),
            device,
            queue,
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            tier,
            limits,
            memory: adapter::memory(&adapter),
            nothing: OnceLock::new(),
            staging: Mutex::default(),
            pool: Arc::default(),
            pipelines: Pipelines::default(),
            fault,
        };
        let nothing = opened.allocate(GRANULE)?;
        let _ = opened.nothing.set(nothing);
        Ok(opened)
    }

    /// A buffer to bind if a kernel's optional input is absent.
    pub fn nothing(&self) -> &Memory {
        self.nothing.get().expect("an open device has it")
    }

    /// Name of the adapter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and version of the driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The tier: what kernels may use.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The largest size of a buffer that kernels can see completely, in bytes.
    pub fn largest(&self) -> u64 {
        self.limits
            .max_storage_buffer_binding_size
            .min(self.limits.max_buffer_size)
    }

    /// Whether kernels can use double precision.
    pub fn doubles(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F64)
    }

    /// Memory of a workgroup, in bytes.
    pub fn workgroup_memory(&self) -> u32 {
        self.limits.max_compute_workgroup_storage_size
    }

    /// The most bytes that were in use at the same time.
    pub fn peak_bytes(&self) -> u64 {
        lock(&self.pool).peak()
    }

    /// The bytes that are left of what the device has, if it tells how much it has.
    pub fn free_bytes(&self) -> Option<u64> {
        // The driver and other programs want some.
        let usable = self.memory? / 16 * 15;
        Some(usable.saturating_sub(lock(&self.pool).used()))
    }

    /// Allocates memory of at least `bytes` bytes; its content is not defined.
    ///
    /// # Errors
    /// More than a kernel can see at once, or more than there is.
    pub fn allocate(&self, bytes: u64) -> Result<Memory> {
        self.check()?;
        let size = bytes.max(4).next_multiple_of(GRANULE);
        if size > self.largest() {
            return Err(failure(format!(
                "{} MiB are needed in one piece, but {} allows {} MiB; use a smaller context, fewer tokens per batch, or backend = \"cpu\"",
                size >> 20,
                self.name,
                self.largest() >> 20
            )));
        }
        // A statement of its own: the pool must not stay locked while a buffer is made.
        let taken = lock(&self.pool).take(size);
        let buffer = match taken {
            Some(buffer) => buffer,
            None => match self.create(size) {
                Some(buffer) => buffer,
                None => {
                    // What earlier layers left behind may make room.
                    self.wait()?;
                    self.trim();
                    self.create(size).ok_or_else(|| self.no_room(size))?
                }
            },
        };
        Ok(Memory::new(buffer, self.pool.clone()))
    }

    fn create(&self, size: u64) -> Option<Buffer> {
        let scope = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&BufferDescriptor {
            label: None,
            size,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if pollster::block_on(scope.pop()).is_some() {
            return None;
        }
        lock(&self.pool).made(size);
        Some(buffer)
    }

    /// The error of a buffer that there is no room for.
    pub(super) fn no_room(&self, size: u64) -> Error {
        let held = lock(&self.pool).held();
        failure(format!(
            "{} has no room for {} MiB beside the {} MiB in use; use fewer calibration sequences, a shorter context, or backend = \"cpu\"",
            self.name,
            size >> 20,
            held >> 20
        ))
    }

    /// Returns unused memory to the driver.
    fn trim(&self) {
        lock(&self.recorder).forget_bindings();
        lock(&self.pool).trim();
    }

    /// Copies bytes to memory.
    ///
    /// # Errors
    /// The device was lost.
    pub fn upload(&self, memory: &Memory, bytes: &[u8]) -> Result<()> {
        // The copy must not overtake kernels that still read what the memory held before.
        self.submit()?;
        self.queue.write_buffer(memory.buffer(), 0, bytes);
        Ok(())
    }

    /// Records a run of a kernel with `groups` workgroups. `parameters` and `bound` must be what the shader declares,
    /// in the same order, the parameters first.
    ///
    /// # Errors
    /// The shader does not compile here, or the device was lost.
    pub fn run(&self, kernel: &Kernel, parameters: &impl Pod, bound: &[Bound], groups: [u32; 3]) -> Result<()> {
        self.check()?;
        let pipeline = self.pipelines.get(&self.device, kernel, bound);
        let pipeline = pipeline.at(format_args!("{} ({})", self.name, self.driver))?;
        let mut recorder = lock(&self.recorder);
        if recorder.dispatch(&self.device, &pipeline, bytes_of(parameters), bound, groups) {
            self.hand_over(&mut recorder);
        }
        Ok(())
    }

    /// Copies the first `bytes` of `from` to position `place` (in bytes) of `to`; both numbers are multiples of 4.
    ///
    /// # Errors
    /// The device was lost.
    pub fn copy(&self, from: &Memory, (to, place): (&Memory, u64), bytes: u64) -> Result<()> {
        self.check()?;
        lock(&self.recorder).encoder(&self.device).copy_buffer_to_buffer(
            from.buffer(),
            0,
            to.buffer(),
            place,
            Some(bytes),
        );
        Ok(())
    }

    /// Sets all bytes of the memory to 0.
    ///
    /// # Errors
    /// The device was lost.
    pub fn clear(&self, memory: &Memory) -> Result<()> {
        self.check()?;
        let mut recorder = lock(&self.recorder);
        recorder.encoder(&self.device).clear_buffer(memory.buffer(), 0, None);
        Ok(())
    }

    /// Submits the recorded work to the GPU.
    pub(super) fn submit(&self) -> Result<()> {
        self.check()?;
        self.hand_over(&mut lock(&self.recorder));
        Ok(())
    }

    /// Submits what this recorder has, for a caller that waits for it.
    pub(super) fn submit_now(&self, recorder: &mut Recorder) -> Result<SubmissionIndex> {
        self.check()?;
        self.hand_over(recorder)
            .ok_or_else(|| failure(format!("{}: there was nothing to wait for", self.name)))
    }

    fn hand_over(&self, recorder: &mut Recorder) -> Option<SubmissionIndex> {
        let submission = recorder.hand_over(&self.queue);
        // Lets the driver take back what finished work used; does not wait.
        let _ = self.device.poll(PollType::Poll);
        submission
    }

    /// Makes the device unusable, as a driver does that resets it: everything after this fails. For tests.
    pub fn destroy(&self) {
        self.device.destroy();
        let _ = self.fault.set("the GPU was given up".to_string());
    }

    /// Waits until all work is done; the thread sleeps in the meantime.
    ///
    /// # Errors
    /// The device was lost.
    pub fn wait(&self) -> Result<()> {
        self.submit()?;
        self.poll(PollType::wait_indefinitely())
    }

    /// Waits until this work is done, whatever was submitted after it.
    pub(super) fn wait_for(&self, submission: SubmissionIndex) -> Result<()> {
        self.poll(PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        })
    }

    fn poll(&self, until: PollType) -> Result<()> {
        if let Err(error) = self.device.poll(until) {
            let _ = self.fault.set(format!("the GPU does not answer: {error}"));
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        match self.fault.get() {
            None => Ok(()),
            Some(fault) => Err(Error::new(ErrorKind::DeviceLost, format!("{}: {fault}", self.name))),
        }
    }
}

/// The error for a failure of the device.
pub(super) fn failure(message: String) -> Error {
    Error::new(ErrorKind::Device, message)
}
