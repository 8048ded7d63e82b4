//! An open GPU as a backend: its tensors, and what all operations on them share.

use super::adapter::{Choice, Tier};
use super::device::{Device, Kernel, Memory, read, write};
use super::parameters::{self, Elementwise, LANES};
use super::shader;
use super::tensor::{Element, Tensor};
use crate::backend::{Compute, RotaryTable};
use crate::error::{Error, Result};
use crate::threads::lock;
use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::ArrayView2;
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Most workgroups along one axis of a grid; every device allows this many.
const AXIS: usize = 65535;

/// The backend that computes on a GPU.
pub struct Gpu {
    pub(super) device: Device,
    stored: Element,
    /// The last rotary tables that were uploaded, the newest last; all blocks of the same kind use the same.
    rotary: Mutex<Vec<(RotaryTable, Arc<Memory>)>>,
}

/// Number of rotary tables that are kept: two kinds of blocks, there and back.
const TABLES: usize = 4;

/// The kernels of `elementwise_four.wgsl`.
const FOUR: [&str; 7] = [
    "activate",
    "activate_backward",
    "add",
    "convert",
    "gate",
    "gate_backward",
    "scale",
];

/// Most bytes for logits at one time.
const LOGITS: u64 = 256 << 20;

impl Gpu {
    /// Opens a GPU.
    ///
    /// # Errors
    /// There is none that fits, or it lacks what `compute` needs.
    pub fn open(choice: &Choice, compute: Compute) -> Result<Gpu> {
        let device = Device::open(choice)?;
        if compute == Compute::F16 && device.tier() < Tier::F16 {
            return Err(Error::config(format!(
                "compute = \"f16\": {} has no half precision in shaders (tier {}); use compute = \"f32\"",
                device.name(),
                device.tier()
            )));
        }
        let stored = match compute {
            Compute::F32 => Element::F32,
            Compute::F16 => Element::F16,
            Compute::Bf16 => {
                let message = "compute = \"bf16\": shaders have no bfloat16; use \"f16\" or \"f32\"";
                return Err(Error::config(message));
            }
        };
        Ok(Gpu {
            device,
            stored,
            rotary: Mutex::default(),
        })
    }

    /// The device that the backend computes on.
    pub fn hardware(&self) -> &Device {
        &self.device
    }

    /// The number format of activations and weights on the device.
    pub(super) fn stored(&self) -> Element {
        self.stored
    }

    pub(crate) fn tensor(&self, rows: usize, columns: usize, element: Element) -> Result<Tensor> {
        Ok(Tensor {
            memory: self.device.allocate((rows * columns * element.bytes()) as u64)?,
            rows,
            columns,
            element,
        })
    }

    pub(crate) fn upload_as(&self, host: ArrayView2<f32>, element: Element) -> Result<Tensor> {
        let (rows, columns) = host.dim();
        let tensor = self.tensor(rows, columns, element)?;
        let host = host.as_standard_layout();
        let values = host.as_slice().expect("standard layout is contiguous");
        match element {
            Element::F32 => self.device.upload(&tensor.memory, cast_slice(values))?,
            Element::F16 => {
                // Whole words, for an odd number of elements too.
                let mut halves = vec![f16::ZERO; values.len().next_multiple_of(2)];
                halves
                    .par_chunks_mut(1 << 16)
                    .zip(values.par_chunks(1 << 16))
                    .for_each(|(halves, values)| halves[..values.len()].convert_from_f32_slice(values));
                self.device.upload(&tensor.memory, cast_slice(&halves))?;
            }
        }
        Ok(tensor)
    }

    /// Whether a tensor can be an operand of cooperative matrices.
    pub(super) fn cooperates(&self, x: &Tensor) -> bool {
        x.element == Element::F16 && self.device.tier() >= Tier::Cooperative
    }

    /// Runs a kernel over all elements of `x`, with one invocation per element, or per four where that kernel exists and they come
    /// out even.
    pub(super) fn each(
        &self,
        entry: &'static str,
        x: &Tensor,
        z: Option<&Tensor>,
        parameters: Elementwise,
    ) -> Result<()> {
        self.each_of([x].as_slice(), entry, z, parameters)
    }

    /// As [`Gpu::each`], with one or two matrices of a shape that the kernel changes.
    pub(super) fn each_of(
        &self,
        changed: &[&Tensor],
        entry: &'static str,
        z: Option<&Tensor>,
        parameters: Elementwise,
    ) -> Result<()> {
        let x = changed[0];
        let together = if FOUR.contains(&entry) && x.len().is_multiple_of(4) {
            4
        } else {
            1
        };
        let mut kernel = match together {
            4 => Kernel::new(shader::ELEMENTWISE_FOUR, entry).with_type("X4", x.element.four()),
            _ => Kernel::new(shader::ELEMENTWISE, entry).with_type("X", x.element.name()),
        };
        if let Some(z) = z {
            kernel = match together {
                4 => kernel.with_type("Z4", z.element.four()),
                _ => kernel.with_type("Z", z.element.name()),
            };
        }
        let count = x.len() / together;
        let parameters = Elementwise {
            count: count as u32,
            width: x.columns as u32,
            ..parameters
        };
        let mut bound = vec![write(&x.memory), read(z.map_or(self.nothing(), |z| &z.memory))];
        bound.extend(changed[1..].iter().map(|y| write(&y.memory)));
        self.device
            .run(&kernel, &parameters, &bound, grid(count.div_ceil(LANES)))
    }

    /// The same elements in a number format.
    pub(super) fn converted(&self, x: &Tensor, element: Element) -> Result<Tensor> {
        let y = self.tensor(x.rows, x.columns, element)?;
        self.each("convert", &y, Some(x), Elementwise::default())?;
        Ok(y)
    }

    pub(super) fn values(&self, memory: &Memory, count: usize) -> Result<Vec<f64>> {
        let bytes = self.device.download(memory, (count * 4) as u64)?;
        let values = bytes.as_chunks().0.iter();
        Ok(values.map(|b| f64::from(f32::from_le_bytes(*b))).collect())
    }

    /// A rotary table on the device, cosine and sine side by side.
    pub(super) fn rotary_table(&self, table: &RotaryTable) -> Result<Arc<Memory>> {
        let mut known = lock(&self.rotary);
        if let Some((_, memory)) = known.iter().find(|(same, _)| same == table) {
            return Ok(memory.clone());
        }
        let pairs: Vec<f32> = table
            .cosines
            .iter()
            .zip(&table.sines)
            .flat_map(|(cosine, sine)| [*cosine, *sine])
            .collect();
        let memory = Arc::new(self.device.allocate((pairs.len() * 4) as u64)?);
        self.device.upload(&memory, cast_slice(&pairs))?;
        if known.len() == TABLES {
            known.remove(0);
        }
        known.push((table.clone(), memory.clone()));
        Ok(memory)
    }

    /// Number of rows whose logits exist at one time; a multiple of 64, so that every part is aligned.
    pub(super) fn logit_rows(&self, vocabulary: usize, rows: usize) -> usize {
        let room = LOGITS.min(self.device.largest()) as usize / (4 * vocabulary);
        (room / 64 * 64).clamp(64, rows.next_multiple_of(64))
    }

    /// A buffer to bind if a kernel's optional input is absent.
    pub(super) fn nothing(&self) -> &Memory {
        self.device.nothing()
    }

    pub(super) fn rows_as(&self, x: &Tensor, rows: &[u32], element: Element) -> Result<Tensor> {
        let y = self.tensor(rows.len(), x.columns, element)?;
        let there = self.device.allocate((rows.len() * 4) as u64)?;
        self.device.upload(&there, cast_slice(rows))?;
        let kernel = Kernel::new(shader::ROWS, "rows")
            .with_type("X", x.element.name())
            .with_type("Y", y.element.name());
        self.device.run(
            &kernel,
            &parameters::Rows {
                count: rows.len() as u32,
                width: x.columns as u32,
            },
            &[read(&x.memory), read(&there), write(&y.memory)],
            grid(y.len().div_ceil(LANES)),
        )?;
        Ok(y)
    }
}

/// A grid of at least `groups` workgroups; kernels number its workgroups row by row.
pub(crate) fn grid(groups: usize) -> [u32; 3] {
    let rows = groups.div_ceil(AXIS).max(1);
    [groups.div_ceil(rows).max(1) as u32, rows as u32, 1]
}
