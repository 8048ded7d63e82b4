//! Kernels as a device runs them: compiled once, and kept.

use super::kernel::{Bound, Kernel};
use crate::error::{Error, ErrorKind, Result};
use crate::threads::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipeline,
    ComputePipelineDescriptor, Device, ErrorFilter, PipelineCompilationOptions, PipelineLayoutDescriptor,
    ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource, ShaderStages,
};

/// A kernel that was compiled for a device.
pub struct Pipeline {
    /// The kernel that it is.
    pub kernel: Kernel,
    /// What the driver made of it.
    pub pipeline: ComputePipeline,
    /// What kinds of buffers it wants bound.
    pub layout: BindGroupLayout,
}

/// The kernels that a device has compiled.
#[derive(Default)]
pub struct Pipelines {
    known: Mutex<HashMap<u64, Arc<Pipeline>>>,
}

impl Pipelines {
    /// The compiled kernel; `bound` says which of its buffers it writes.
    ///
    /// # Errors
    /// It does not compile for the device.
    pub fn get(&self, device: &Device, kernel: &Kernel, bound: &[Bound]) -> Result<Arc<Pipeline>> {
        let digest = kernel.digest();
        if let Some(pipeline) = lock(&self.known).get(&digest)
            && pipeline.kernel == *kernel
        {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(compiled(device, kernel, bound)?);
        lock(&self.known).insert(digest, pipeline.clone());
        Ok(pipeline)
    }
}

/// Compiles a kernel.
///
/// # Errors
/// It does not compile; names the file and the function.
fn compiled(device: &Device, kernel: &Kernel, bound: &[Bound]) -> Result<Pipeline> {
    let scopes = [ErrorFilter::Internal, ErrorFilter::Validation].map(|filter| device.push_error_scope(filter));
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
    let layout = device.create_bind_group_layout(&BindGroupLayoutDescriptor {
        label: Some(kernel.entry),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
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
    let module = unsafe { device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) };
    let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
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
        let message = format!(
            "shaders/{}, function {}, does not compile: {error}",
            kernel.shader.name, kernel.entry
        );
        return Err(Error::new(ErrorKind::Device, message));
    }
    Ok(Pipeline {
        kernel: kernel.clone(),
        pipeline,
        layout,
    })
}
