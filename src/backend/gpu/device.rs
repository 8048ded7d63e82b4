//! One open GPU: buffers that are used again, pipelines that are made once, and a recorder that collects
//! work and hands it over in pieces.
//!
//! Everything runs in the order it was asked for, so a buffer may be used again as soon as its owner is
//! gone, without waiting. Faults that the device reports later (a lost device, memory that ran out) are
//! kept and returned by the next call that can fail.

use super::adapter::{self, Choice, Tier};
use super::shader::{Shader, Variant};
use crate::error::{Error, ErrorKind, Result};
use bytemuck::{Pod, bytes_of};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingResource,
    BindingType, Buffer, BufferBinding, BufferBindingType, BufferDescriptor, BufferUsages, CommandEncoder, ComputePass,
    ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, DeviceDescriptor, ErrorFilter,
    ExperimentalFeatures, Limits, MapMode, MemoryHints, PipelineCompilationOptions, PipelineLayoutDescriptor, PollType,
    ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource, ShaderStages,
};

/// Number of kernels that are recorded before they are submitted: enough that the GPU never waits for the CPU, few
/// enough that no submission runs into a driver's time limit.
const DISPATCHES: usize = 128;

/// Number of bytes for a kernel's parameters; also an alignment that every device accepts.
const SLOT: usize = 256;

/// The largest buffer for reading results that is kept, in bytes.
const KEPT: u64 = 64 << 20;

/// How long to wait for an answer that has arrived in another thread; microseconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bindings that are kept for reuse.
const BINDINGS: usize = 4096;

/// Sizes of buffers are multiples of this number of bytes.
const GRANULE: u64 = 256;

/// A kernel: an entry point of a shader with its constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The shader file that has the kernel.
    pub shader: Shader,
    /// The lines that are replaced in the shader's text.
    pub variant: Variant,
    /// Name of the function in the shader.
    pub entry: &'static str,
}

impl PartialEq for Shader {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Kernel {
    /// The plain kernel `entry` of a shader.
    pub fn new(shader: Shader, entry: &'static str) -> Self {
        Kernel {
            shader,
            variant: Variant::default(),
            entry,
        }
    }

    /// The kernel with another type in place of `name`.
    #[must_use]
    pub fn with_type(mut self, name: &'static str, kind: &'static str) -> Self {
        self.variant.types.push((name, kind));
        self
    }

    /// The kernel with another value of the constant `name`.
    #[must_use]
    pub fn with_constant(mut self, name: &'static str, value: u32) -> Self {
        self.variant.constants.push((name, value));
        self
    }

    /// The kernel with another expression in the function `name`, which has one line.
    #[must_use]
    pub fn with_function(mut self, name: &'static str, expression: String) -> Self {
        self.variant.functions.push((name, expression));
        self
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.shader.name, self.entry, &self.variant).hash(&mut hasher);
        hasher.finish()
    }
}

/// A buffer bound to a kernel.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    memory: &'a Memory,
    writable: bool,
    /// The part that is bound, as start and length in bytes; `None` for the whole buffer.
    part: Option<(u64, u64)>,
}

/// A buffer that the kernel only reads.
pub fn read(memory: &Memory) -> Bound<'_> {
    Bound {
        memory,
        writable: false,
        part: None,
    }
}

/// A buffer that the kernel reads and writes.
pub fn write(memory: &Memory) -> Bound<'_> {
    Bound {
        memory,
        writable: true,
        part: None,
    }
}

impl<'a> Bound<'a> {
    /// Binds only a part of the buffer; `start` must be a multiple of 256 bytes.
    #[must_use]
    pub fn part(self, start: u64, bytes: u64) -> Bound<'a> {
        debug_assert_eq!(start % SLOT as u64, 0);
        Bound {
            part: Some((start, bytes)),
            ..self
        }
    }
}

/// Memory of a device, which goes back to the device's pool when it is dropped.
pub struct Memory {
    buffer: Option<Buffer>,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Default)]
struct Pool {
    free: HashMap<u64, Vec<Buffer>>,
    /// Number of bytes in `free`.
    idle: u64,
    /// Number of bytes allocated in all, used or not.
    held: u64,
    peak: u64,
}

impl Memory {
    fn buffer(&self) -> &Buffer {
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
            let mut pool = lock(&self.pool);
            pool.idle += buffer.size();
            pool.free.entry(buffer.size()).or_default().push(buffer);
        }
    }
}

struct Pipeline {
    kernel: Kernel,
    pipeline: ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// What identifies a binding: address of the pipeline, then each buffer with start and length of its bound part.
type Binding = (usize, Vec<(Buffer, u64, u64)>);

/// Work that has been recorded and not submitted. Dispatches share a pass until another kind of command is recorded.
struct Recorder {
    pass: Option<ComputePass<'static>>,
    encoder: Option<CommandEncoder>,
    slots: Vec<u8>,
    /// Bindings that were made before: a loop over a matrix binds the same buffers again and again.
    groups: HashMap<Binding, BindGroup>,
}

impl Recorder {
    /// The encoder for a command outside a pass; ends the current pass.
    fn encoder(&mut self, device: &wgpu::Device) -> &mut CommandEncoder {
        self.pass = None;
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    fn dispatch(&mut self, device: &wgpu::Device, pipeline: &Pipeline, bound: &BindGroup, groups: [u32; 3]) {
        let offset = self.slots.len() as u32 - SLOT as u32;
        let encoder = self
            .encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()));
        let pass = self.pass.get_or_insert_with(|| {
            let pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            pass.forget_lifetime()
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, bound, &[offset]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
    }
}

/// An open GPU: its memory, its kernels and the work recorded for it.
pub struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
    driver: String,
    tier: Tier,
    limits: Limits,
    parameters: Buffer,
    /// The buffer that is bound if a kernel's optional input is absent.
    nothing: OnceLock<Memory>,
    recorder: Mutex<Recorder>,
    /// The buffer that the last result was read through, kept for reuse.
    staging: Mutex<Option<Buffer>>,
    pool: Arc<Mutex<Pool>>,
    pipelines: Mutex<HashMap<u64, Arc<Pipeline>>>,
    /// The first error after which the device cannot be used any more.
    fault: Arc<OnceLock<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned lock means that another thread panicked, which ends the program anyway.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
        let parameters = device.create_buffer(&BufferDescriptor {
            label: Some("parameters"),
            size: (DISPATCHES * SLOT) as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let opened = Device {
            device,
            queue,
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            tier,
            limits,
            parameters,
            nothing: OnceLock::new(),
            recorder: Mutex::new(Recorder {
                pass: None,
                encoder: None,
                slots: Vec::with_capacity(DISPATCHES * SLOT),
                groups: HashMap::new(),
            }),
            staging: Mutex::default(),
            pool: Arc::default(),
            pipelines: Mutex::default(),
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

    /// The most bytes that were allocated at the same time.
    pub fn peak_bytes(&self) -> u64 {
        lock(&self.pool).peak
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
                "{} MiB are needed in one piece, but {} allows {} MiB; a smaller context, fewer tokens per batch or \
                 backend = \"cpu\" needs less",
                size >> 20,
                self.name,
                self.largest() >> 20
            )));
        }
        let used = self.pool.clone();
        let taken = {
            let mut pool = lock(&used);
            let taken = pool.free.get_mut(&size).and_then(Vec::pop);
            if taken.is_some() {
                pool.idle -= size;
            }
            taken
        };
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
        Ok(Memory {
            buffer: Some(buffer),
            pool: self.pool.clone(),
        })
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
        let mut pool = lock(&self.pool);
        pool.held += size;
        pool.peak = pool.peak.max(pool.held);
        Some(buffer)
    }

    fn no_room(&self, size: u64) -> Error {
        let held = lock(&self.pool).held;
        failure(format!(
            "{} has no room for {} MiB beside the {} MiB in use; fewer calibration sequences, a shorter context or \
             backend = \"cpu\" needs less",
            self.name,
            size >> 20,
            held >> 20
        ))
    }

    /// Returns unused memory to the driver.
    fn trim(&self) {
        // Bindings keep their buffers.
        lock(&self.recorder).groups.clear();
        let mut pool = lock(&self.pool);
        pool.held -= pool.idle;
        pool.idle = 0;
        pool.free.clear();
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
        let parameters = bytes_of(parameters);
        assert!(parameters.len() <= SLOT, "{}: too many parameters", kernel.shader.name);
        let pipeline = self.pipeline(kernel, bound)?;
        let parts = bound.iter().map(|bound| {
            let buffer = bound.memory.buffer();
            let (start, bytes) = bound.part.unwrap_or((0, buffer.size()));
            (buffer.clone(), start, bytes)
        });
        let binding: Binding = (Arc::as_ptr(&pipeline) as usize, parts.collect());
        let mut recorder = lock(&self.recorder);
        let known = recorder.groups.get(&binding).cloned();
        let group = known.unwrap_or_else(|| {
            if recorder.groups.len() == BINDINGS {
                recorder.groups.clear();
            }
            let group = self.bind(&pipeline, &binding);
            recorder.groups.insert(binding, group.clone());
            group
        });
        let end = recorder.slots.len() + SLOT;
        recorder.slots.extend_from_slice(parameters);
        recorder.slots.resize(end, 0);
        recorder.dispatch(&self.device, &pipeline, &group, groups);
        if end == DISPATCHES * SLOT {
            self.hand_over(&mut recorder);
        }
        Ok(())
    }

    fn bind(&self, pipeline: &Pipeline, (_, parts): &Binding) -> BindGroup {
        let whole = |buffer, offset, bytes| {
            BindingResource::Buffer(BufferBinding {
                buffer,
                offset,
                size: wgpu::BufferSize::new(bytes),
            })
        };
        let mut entries = vec![BindGroupEntry {
            binding: 0,
            resource: whole(&self.parameters, 0, SLOT as u64),
        }];
        entries.extend(
            parts
                .iter()
                .zip(1..)
                .map(|((buffer, start, bytes), binding)| BindGroupEntry {
                    binding,
                    resource: whole(buffer, *start, *bytes),
                }),
        );
        self.device.create_bind_group(&BindGroupDescriptor {
            label: Some(pipeline.kernel.entry),
            layout: &pipeline.layout,
            entries: &entries,
        })
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
    fn submit(&self) -> Result<()> {
        self.check()?;
        self.hand_over(&mut lock(&self.recorder));
        Ok(())
    }

    fn hand_over(&self, recorder: &mut Recorder) {
        recorder.pass = None;
        if let Some(encoder) = recorder.encoder.take() {
            if !recorder.slots.is_empty() {
                self.queue.write_buffer(&self.parameters, 0, &recorder.slots);
                recorder.slots.clear();
            }
            self.queue.submit([encoder.finish()]);
        }
        // Lets the driver take back what finished work used; does not wait.
        let _ = self.device.poll(PollType::Poll);
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
        if let Err(error) = self.device.poll(PollType::wait_indefinitely()) {
            let _ = self.fault.set(format!("the GPU does not answer: {error}"));
        }
        self.check()
    }

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

    fn check(&self) -> Result<()> {
        match self.fault.get() {
            None => Ok(()),
            Some(fault) => Err(failure(format!("{}: {fault}", self.name))),
        }
    }

    fn pipeline(&self, kernel: &Kernel, bound: &[Bound]) -> Result<Arc<Pipeline>> {
        let digest = kernel.digest();
        if let Some(pipeline) = lock(&self.pipelines).get(&digest)
            && pipeline.kernel == *kernel
        {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.compile(kernel, bound)?);
        lock(&self.pipelines).insert(digest, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, kernel: &Kernel, bound: &[Bound]) -> Result<Pipeline> {
        let scopes =
            [ErrorFilter::Internal, ErrorFilter::Validation].map(|filter| self.device.push_error_scope(filter));
        let entry = |binding: u32, kind: BufferBindingType| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty: kind,
                // Every dispatch has its own parameters in one buffer.
                has_dynamic_offset: binding == 0,
                min_binding_size: None,
            },
            count: None,
        };
        let mut entries = vec![entry(0, BufferBindingType::Uniform)];
        entries.extend(bound.iter().zip(1..).map(|(bound, binding)| {
            let read_only = !bound.writable;
            entry(binding, BufferBindingType::Storage { read_only })
        }));
        let layout = self.device.create_bind_group_layout(&BindGroupLayoutDescriptor {
            label: Some(kernel.entry),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: Some(kernel.entry),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let descriptor = ShaderModuleDescriptor {
            label: Some(kernel.shader.name),
            source: ShaderSource::Wgsl(kernel.shader.specialise(&kernel.variant).into()),
        };
        // SAFETY: the kernels check their own bounds, loops end, and no divisor is 0; the contract test runs
        // each at sizes that are no multiple of any tile.
        #[allow(unsafe_code)]
        let module = unsafe {
            self.device
                .create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked())
        };
        let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(kernel.entry),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..PipelineCompilationOptions::default()
            },
            cache: None,
        });
        let [internal, validation] = scopes;
        let errors = [pollster::block_on(validation.pop()), pollster::block_on(internal.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(failure(format!(
                "shaders/{}, function {}, does not compile for {} ({}): {error}",
                kernel.shader.name, kernel.entry, self.name, self.driver
            )));
        }
        Ok(Pipeline {
            kernel: kernel.clone(),
            pipeline,
            layout,
        })
    }
}

/// The error for a failure of the device.
fn failure(message: String) -> Error {
    Error::new(ErrorKind::Device, message)
}
