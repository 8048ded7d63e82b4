//! Work that is collected for a device and handed over in pieces.

use super::kernel::Bound;
use super::pipeline::Pipeline;
use std::collections::HashMap;
use std::sync::Arc;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor,
    BufferSize, BufferUsages, CommandEncoder, ComputePass, ComputePassDescriptor, Device, Queue, SubmissionIndex,
};

/// Number of kernels that are recorded before they are submitted: enough that the GPU never waits for the CPU, few
/// enough that no submission runs into a driver's time limit.
const DISPATCHES: usize = 128;

/// Number of bytes for a kernel's parameters; also an alignment that every device accepts.
const SLOT: usize = 256;

/// Most bindings that are kept for reuse.
const BINDINGS: usize = 4096;

/// What identifies a binding: address of the pipeline, then each buffer with start and length of its bound part.
type Binding = (usize, Vec<(Buffer, u64, u64)>);

/// Work that has been recorded and not submitted. Dispatches share a pass until another kind of command is recorded.
pub struct Recorder {
    pass: Option<ComputePass<'static>>,
    encoder: Option<CommandEncoder>,
    /// The parameters of every kernel that was recorded, in slots of equal size.
    slots: Vec<u8>,
    /// The buffer that the slots go to before the kernels run.
    parameters: Buffer,
    /// Bindings that were made before: a loop over a matrix binds the same buffers again and again.
    groups: HashMap<Binding, BindGroup>,
}

impl Recorder {
    /// A recorder for a device, with nothing in it.
    pub fn new(device: &Device) -> Self {
        let parameters = device.create_buffer(&BufferDescriptor {
            label: Some("parameters"),
            size: (DISPATCHES * SLOT) as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            pass: None,
            encoder: None,
            slots: Vec::with_capacity(DISPATCHES * SLOT),
            parameters,
            groups: HashMap::new(),
        }
    }

    /// The encoder for a command outside a pass; ends the current pass.
    pub fn encoder(&mut self, device: &Device) -> &mut CommandEncoder {
        self.pass = None;
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// Records a run of a kernel. Returns whether the recorder is full and must be handed over.
    pub fn dispatch(
        &mut self,
        device: &Device,
        pipeline: &Arc<Pipeline>,
        parameters: &[u8],
        bound: &[Bound],
        groups: [u32; 3],
    ) -> bool {
        let name = pipeline.kernel.shader.name;
        assert!(parameters.len() <= SLOT, "{name}: too many parameters");
        let binding = self.binding(device, pipeline, bound);
        let offset = self.slots.len();
        self.slots.extend_from_slice(parameters);
        self.slots.resize(offset + SLOT, 0);
        let encoder = self
            .encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()));
        let pass = self.pass.get_or_insert_with(|| {
            let pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            pass.forget_lifetime()
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &binding, &[offset as u32]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        self.slots.len() == DISPATCHES * SLOT
    }

    /// The buffers bound to a pipeline, as before if they were bound before.
    fn binding(&mut self, device: &Device, pipeline: &Arc<Pipeline>, bound: &[Bound]) -> BindGroup {
        let parts = bound.iter().map(|bound| {
            let buffer = bound.memory.buffer();
            let (start, bytes) = bound.part.unwrap_or((0, buffer.size()));
            (buffer.clone(), start, bytes)
        });
        let binding: Binding = (Arc::as_ptr(pipeline) as usize, parts.collect());
        if let Some(known) = self.groups.get(&binding) {
            return known.clone();
        }
        if self.groups.len() == BINDINGS {
            self.groups.clear();
        }
        let group = self.bind(device, pipeline, &binding);
        self.groups.insert(binding, group.clone());
        group
    }

    fn bind(&self, device: &Device, pipeline: &Pipeline, (_, parts): &Binding) -> BindGroup {
        let entry = |binding, buffer, offset, bytes| BindGroupEntry {
            binding,
            resource: BindingResource::Buffer(BufferBinding {
                buffer,
                offset,
                size: BufferSize::new(bytes),
            }),
        };
        let mut entries = vec![entry(0, &self.parameters, 0, SLOT as u64)];
        let numbered = parts.iter().zip(1..);
        entries.extend(numbered.map(|((buffer, start, bytes), binding)| entry(binding, buffer, *start, *bytes)));
        device.create_bind_group(&BindGroupDescriptor {
            label: Some(pipeline.kernel.entry),
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    /// Submits everything that was recorded, if anything was.
    pub fn hand_over(&mut self, queue: &Queue) -> Option<SubmissionIndex> {
        self.pass = None;
        let encoder = self.encoder.take()?;
        if !self.slots.is_empty() {
            queue.write_buffer(&self.parameters, 0, &self.slots);
            self.slots.clear();
        }
        Some(queue.submit([encoder.finish()]))
    }

    /// Gives up bindings that are kept: they keep their buffers.
    pub fn forget_bindings(&mut self) {
        self.groups.clear();
    }
}
