//! The GPU backend: WGSL compute shaders through wgpu, on Vulkan, Metal or DirectX 12.
//!
//! Weights go up once per block; activations, statistics, scores and masks stay on the device, and only
//! vectors, masks and scalars come back. In half precision (`compute = "f16"`) weights and activations are
//! stored in 16 bits, sums are kept in 32, and so is the residual stream.
//!
//! [`adapter`] knows which devices there are, [`device`] runs kernels, `shaders/` holds them, and this
//! file says which kernel with which grid computes each operation.

pub mod adapter;
pub mod device;
mod download;
mod expand;
mod factor;
mod kernel;
mod memory;
pub mod parameters;
mod pipeline;
mod recorder;
pub mod shader;

use crate::backend::moments::{Moments, Needs, SequenceSums};
use crate::backend::{Backend, Columns, Compute, Extent, Likelihood, RotaryTable};
use crate::error::Result;
use crate::spec::{Activation, AttentionSpec, NormKind};
use adapter::{Choice, Tier};
use bytemuck::cast_slice;
use device::{Device, Kernel, Memory, read, write};
pub use factor::DeviceFactor;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array2, ArrayView1, ArrayView2};
use parameters::{EXCHANGE, Elementwise, LANES, SQUARE_ROWS, TILE};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Most workgroups along one axis of a grid; every device allows this many.
const AXIS: usize = 65535;

/// Most bytes for logits at one time.
const LOGITS: u64 = 256 << 20;

/// The backend that computes on a GPU.
pub struct Gpu {
    device: Device,
    stored: Element,
    /// The last rotary table that was uploaded; all blocks of the same kind use it.
    rotary: Mutex<Option<(RotaryTable, Arc<Memory>)>>,
}

/// The number format of a tensor's elements on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Single precision, 32 bits per element.
    F32,
    /// Half precision, 16 bits per element.
    F16,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
        }
    }

    /// The WGSL type of a vector of four elements.
    fn four(self) -> &'static str {
        match self {
            Element::F32 => "vec4<f32>",
            Element::F16 => "vec4<f16>",
        }
    }

    /// The WGSL type of one element.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
        }
    }
}

/// A row-major matrix on the device.
pub struct Tensor {
    pub(crate) memory: Memory,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) element: Element,
}

impl Tensor {
    fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// A weight on the device, stored as activations are.
pub struct Weight(pub(crate) Tensor);

/// Moments of a layer's inputs on the device.
pub struct DeviceMoments {
    inputs: usize,
    tokens: usize,
    /// For each feature a sum and the part of it that rounding removed.
    squares: Option<Memory>,
    /// The Gram matrix `(inputs, inputs)`, with only the lower triangle filled; statistics share it.
    pub(crate) gram: Option<Arc<Memory>>,
    /// Products with the dense model's inputs `(inputs, inputs)`, in single precision.
    pub(crate) cross: Option<Arc<Tensor>>,
    /// The sums over sequences, if they were asked for.
    sums: Option<DeviceSums>,
}

/// Sums over sequences that are still on the device.
#[derive(Default)]
struct DeviceSums {
    /// Sums of pieces of sequences `(sequences, pieces, inputs)`, batch by batch, with the number of sequences and
    /// of pieces.
    batches: Vec<(Memory, usize, usize)>,
    /// The weight of each sequence.
    weights: Vec<f64>,
}

impl Gpu {
    /// Opens a GPU.
    ///
    /// # Errors
    /// There is none that fits, or it lacks what `compute` needs.
    pub fn open(choice: &Choice, compute: Compute) -> Result<Gpu> {
        let device = Device::open(choice)?;
        if compute == Compute::F16 && device.tier() < Tier::F16 {
            return Err(crate::error::Error::config(format!(
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
                return Err(crate::error::Error::config(message));
            }
        };
        Ok(Gpu {
            device,
            stored,
            rotary: Mutex::new(None),
        })
    }

    /// The device that the backend computes on.
    pub fn hardware(&self) -> &Device {
        &self.device
    }

    /// The number format of activations and weights on the device.
    fn stored(&self) -> Element {
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
    fn cooperates(&self, x: &Tensor) -> bool {
        x.element == Element::F16 && self.device.tier() >= Tier::Cooperative
    }

    /// Runs a kernel over all elements of `x`, with one invocation per element.
    fn each(&self, entry: &'static str, x: &Tensor, z: Option<&Tensor>, parameters: Elementwise) -> Result<()> {
        let mut kernel = Kernel::new(shader::ELEMENTWISE, entry).with_type("X", x.element.name());
        let other = match z {
            Some(z) => {
                kernel = kernel.with_type("Z", z.element.name());
                read(&z.memory)
            }
            None => read(self.nothing()),
        };
        let parameters = Elementwise {
            count: x.len() as u32,
            width: x.columns as u32,
            ..parameters
        };
        self.device.run(
            &kernel,
            &parameters,
            &[write(&x.memory), other],
            grid(x.len().div_ceil(LANES)),
        )
    }

    /// The transposed matrix, in single precision.
    fn transposed(&self, x: &Tensor) -> Result<Tensor> {
        let into = self.tensor(x.columns, x.rows, Element::F32)?;
        let parameters = parameters::Moments {
            rows: x.rows as u32,
            width: x.columns as u32,
            ..parameters::Moments::default()
        };
        let kernel = Kernel::new(shader::MOMENTS, "transposed").with_type("X", x.element.name());
        let groups = [x.rows.div_ceil(64) as u32, x.columns.div_ceil(4) as u32, 1];
        self.device
            .run(&kernel, &parameters, &[read(&x.memory), write(&into.memory)], groups)?;
        Ok(into)
    }

    /// Reads moments without their Gram matrix.
    pub(crate) fn read_squares(&self, moments: &DeviceMoments) -> Result<Moments> {
        let squares = match &moments.squares {
            Some(memory) => self
                .values(memory, 2 * moments.inputs)?
                .chunks_exact(2)
                .map(|pair| pair[0] + pair[1])
                .collect(),
            None => vec![0.0; moments.inputs],
        };
        Ok(Moments {
            tokens: moments.tokens,
            squares,
            gram: None,
            cross: None,
            sums: moments
                .sums
                .as_ref()
                .map(|sums| self.read_sums(sums, moments.inputs))
                .transpose()?,
        })
    }

    /// The sums over sequences, with the pieces of each added up in double precision.
    fn read_sums(&self, found: &DeviceSums, inputs: usize) -> Result<SequenceSums> {
        let mut sums = Vec::with_capacity(found.weights.len());
        for (memory, sequences, pieces) in &found.batches {
            let values = self.values(memory, sequences * pieces * inputs)?;
            for sequence in values.chunks_exact(pieces * inputs) {
                let mut sum = vec![0.0; inputs];
                for piece in sequence.chunks_exact(inputs) {
                    sum.iter_mut().zip(piece).for_each(|(sum, piece)| *sum += piece);
                }
                sums.push(sum);
            }
        }
        Ok(SequenceSums {
            sums,
            weights: found.weights.clone(),
        })
    }

    fn values(&self, memory: &Memory, count: usize) -> Result<Vec<f64>> {
        let bytes = self.device.download(memory, (count * 4) as u64)?;
        let values = bytes.as_chunks().0.iter();
        Ok(values.map(|b| f64::from(f32::from_le_bytes(*b))).collect())
    }

    /// A buffer to bind if a kernel's optional input is absent.
    fn nothing(&self) -> &Memory {
        self.device.nothing()
    }

    fn rows_as(&self, x: &Tensor, rows: &[u32], element: Element) -> Result<Tensor> {
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

    pub(crate) fn multiply(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        x: &Tensor,
        result: Element,
    ) -> Result<Tensor> {
        let y = self.tensor(x.rows, weight.rows, result)?;
        self.multiply_into(weight, bias, x, (0, x.rows), &y)?;
        Ok(y)
    }

    /// Computes `x W^T + b` for some rows of `x`, and writes the result to the first rows of `y`.
    fn multiply_into(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        x: &Tensor,
        (first, rows): (usize, usize),
        y: &Tensor,
    ) -> Result<()> {
        let line = (x.columns * x.element.bytes()) as u64;
        let x_bound = match first == 0 && rows == x.rows {
            true => read(&x.memory),
            false => read(&x.memory).part(first as u64 * line, (rows as u64 * line).next_multiple_of(4)),
        };
        let weight_bound = read(&weight.memory);
        let bias_bound = read(bias.map_or(self.nothing(), |bias| &bias.memory));
        let y_bound = write(&y.memory);
        let (inputs, outputs) = (x.columns, weight.rows);
        let has_bias = u32::from(bias.is_some());
        let cooperative = self.cooperates(x) && weight.element == Element::F16 && inputs.is_multiple_of(8);
        if !inputs.is_multiple_of(4) || !outputs.is_multiple_of(4) || y.columns != outputs {
            debug_assert_eq!(y.columns, outputs);
            let kernel = Kernel::new(shader::MATMUL_ANY, "matmul")
                .with_type("X", x.element.name())
                .with_type("W", weight.element.name())
                .with_type("Y", y.element.name());
            let parameters = parameters::MatmulAny {
                rows: rows as u32,
                inputs: inputs as u32,
                outputs: outputs as u32,
                has_bias,
            };
            let bound = [x_bound, weight_bound, bias_bound, y_bound];
            let groups = [outputs.div_ceil(64) as u32, rows.div_ceil(64) as u32, 1];
            return self.device.run(&kernel, &parameters, &bound, groups);
        }
        let kernel = if cooperative {
            Kernel::new(shader::MATMUL_COOPERATIVE, "matmul").with_type("Y4", y.element.four())
        } else {
            Kernel::new(shader::MATMUL_F32, "matmul")
                .with_type("X4", x.element.four())
                .with_type("W4", weight.element.four())
                .with_type("Y4", y.element.four())
        };
        let tiles = (rows.div_ceil(TILE), outputs.div_ceil(TILE));
        let parameters = parameters::Matmul {
            rows: rows as u32,
            columns: outputs as u32,
            inner: inputs as u32,
            has_bias,
            row_tiles: tiles.0 as u32,
            column_tiles: tiles.1 as u32,
            stride: outputs as u32,
        };
        let bound = [x_bound, weight_bound, y_bound, bias_bound];
        self.device.run(&kernel, &parameters, &bound, grid(tiles.0 * tiles.1))
    }
}

/// A grid of at least `groups` workgroups; kernels number its workgroups row by row.
pub(crate) fn grid(groups: usize) -> [u32; 3] {
    let rows = groups.div_ceil(AXIS).max(1);
    [groups.div_ceil(rows).max(1) as u32, rows as u32, 1]
}

/// The parameter that tells `elementwise.wgsl` which activation function to apply.
fn activated(activation: Activation) -> Elementwise {
    let activation = match activation {
        Activation::Relu => 0,
        Activation::Silu => 1,
        Activation::Gelu => 2,
        Activation::GeluTanh => 3,
    };
    Elementwise {
        activation,
        ..Elementwise::default()
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Weight = Weight;
    type Moments = DeviceMoments;

    fn name(&self) -> &'static str {
        "gpu"
    }

    fn device(&self) -> Option<String> {
        let device = &self.device;
        Some(format!(
            "{}, {}, tier {}",
            device.name(),
            device.driver(),
            device.tier()
        ))
    }

    fn wait(&self) -> Result<()> {
        self.device.wait()
    }

    fn batch_tokens(&self, widest: usize) -> usize {
        // As many as fit one binding with room to spare, and enough to fill the largest devices.
        let fit = self.device.largest() as usize / 4 / widest.max(1);
        fit.clamp(1, 16384)
    }

    fn extent(&self, tensor: &Tensor) -> Extent {
        Extent {
            rows: tensor.rows,
            columns: tensor.columns,
            bytes: tensor.len() * tensor.element.bytes(),
        }
    }

    fn weight_extent(&self, weight: &Weight) -> Extent {
        self.extent(&weight.0)
    }

    fn upload_weight(&self, host: Array2<f32>) -> Result<Weight> {
        self.upload(host.view()).map(Weight)
    }

    fn download_weight(&self, weight: &Weight) -> Result<Array2<f32>> {
        self.download(&weight.0)
    }

    fn upload(&self, host: ArrayView2<f32>) -> Result<Tensor> {
        self.upload_as(host, self.stored())
    }

    fn upload_vector(&self, host: ArrayView1<f32>) -> Result<Tensor> {
        self.upload_as(host.insert_axis(ndarray::Axis(0)), Element::F32)
    }

    fn download(&self, tensor: &Tensor) -> Result<Array2<f32>> {
        let bytes = self
            .device
            .download(&tensor.memory, (tensor.len() * tensor.element.bytes()) as u64)?;
        let values: Vec<f32> = match tensor.element {
            Element::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Element::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
        };
        Ok(Array2::from_shape_vec((tensor.rows, tensor.columns), values).expect("a tensor has its elements"))
    }

    fn embed(&self, table: &Weight, ids: &[u32]) -> Result<Tensor> {
        // The residual stream is kept in 32 bits whatever the weights are.
        self.rows_as(&table.0, ids, Element::F32)
    }

    fn add_positions(&self, x: &mut Tensor, table: &Tensor, offset: usize, length: usize) -> Result<()> {
        let parameters = Elementwise {
            offset: offset as u32,
            length: length as u32,
            ..Elementwise::default()
        };
        self.each("add_positions", x, Some(table), parameters)
    }

    fn add(&self, x: &mut Tensor, y: &Tensor) -> Result<()> {
        self.each("add", x, Some(y), Elementwise::default())
    }

    fn scale(&self, x: &mut Tensor, factor: f32) -> Result<()> {
        let parameters = Elementwise {
            factor,
            ..Elementwise::default()
        };
        self.each("scale", x, None, parameters)
    }

    fn columns(&self, x: &Tensor, columns: Columns) -> Result<Tensor> {
        let y = self.tensor(x.rows, columns.width * columns.count, x.element)?;
        let Columns {
            first, width, stride, ..
        } = columns;
        let parameters = Elementwise {
            first: first as u32,
            run: width as u32,
            stride: stride as u32,
            source_width: x.columns as u32,
            ..Elementwise::default()
        };
        self.each("columns", &y, Some(x), parameters)?;
        Ok(y)
    }

    fn rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        self.rows_as(x, rows, x.element)
    }

    fn normalise(
        &self,
        kind: NormKind,
        epsilon: f32,
        width: usize,
        gain: Option<&Tensor>,
        bias: Option<&Tensor>,
        x: &Tensor,
    ) -> Result<Tensor> {
        let y = self.tensor(x.rows, x.columns, self.stored())?;
        let runs = x.len() / width;
        let threads = if width <= 128 { 32 } else { 256 };
        let kernel = Kernel::new(shader::NORMALISE, "normalise")
            .with_type("X", x.element.name())
            .with_type("Y", y.element.name())
            .with_constant("THREADS", threads);
        let parameters = parameters::Normalise {
            runs: runs as u32,
            width: width as u32,
            centred: u32::from(kind == NormKind::Layer),
            epsilon,
            has_gain: u32::from(gain.is_some()),
            has_bias: u32::from(bias.is_some()),
        };
        let bound = [
            read(&x.memory),
            read(gain.map_or(self.nothing(), |gain| &gain.memory)),
            read(bias.map_or(self.nothing(), |bias| &bias.memory)),
            write(&y.memory),
        ];
        self.device.run(&kernel, &parameters, &bound, grid(runs))?;
        Ok(y)
    }

    fn linear(&self, weight: &Weight, bias: Option<&Tensor>, x: &Tensor) -> Result<Tensor> {
        self.multiply(&weight.0, bias, x, self.stored())
    }

    fn rotate(&self, x: &mut Tensor, table: &RotaryTable, head_dim: usize, length: usize) -> Result<()> {
        let there = {
            let mut known = self.rotary.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match &*known {
                Some((same, memory)) if same == table => memory.clone(),
                _ => {
                    let pairs: Vec<f32> = table
                        .cosines
                        .iter()
                        .zip(&table.sines)
                        .flat_map(|(cosine, sine)| [*cosine, *sine])
                        .collect();
                    let memory = Arc::new(self.device.allocate((pairs.len() * 4) as u64)?);
                    self.device.upload(&memory, cast_slice(&pairs))?;
                    *known = Some((table.clone(), memory.clone()));
                    memory
                }
            }
        };
        let (heads, pairs) = (x.columns / head_dim, table.cosines.ncols());
        let kernel = Kernel::new(shader::ROTATE, "rotate").with_type("X", x.element.name());
        let parameters = parameters::Rotate {
            tokens: x.rows as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            pairs: pairs as u32,
            length: length as u32,
        };
        let count = x.rows * pairs;
        self.device.run(
            &kernel,
            &parameters,
            &[write(&x.memory), read(&there)],
            grid(count.div_ceil(LANES)),
        )
    }

    fn attention(
        &self,
        shape: AttentionSpec,
        window: Option<usize>,
        length: usize,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let y = self.tensor(queries.rows, queries.columns, queries.element)?;
        let bound = [
            read(&queries.memory),
            read(&keys.memory),
            read(&values.memory),
            write(&y.memory),
        ];
        let sequences = queries.rows / length;
        let (scale, window) = (shape.scale, window.unwrap_or(0) as u32);
        let softcap = shape.softcap.unwrap_or(0.0);
        let [tokens, heads, kv_heads, head_dim] =
            [length, shape.heads, shape.kv_heads, shape.head_dim].map(|count| count as u32);
        let room = self.device.workgroup_memory() >> 10;
        if self.cooperates(queries) && head_dim.is_multiple_of(16) && head_dim <= 128 && room >= 48 {
            let subgroups = if head_dim <= 64 { 4 } else { 8 };
            let kernel = Kernel::new(shader::ATTENTION_COOPERATIVE, "attention")
                .with_constant("HEAD_DIM", head_dim)
                .with_constant("SUBGROUPS", subgroups);
            let parameters = parameters::AttentionCooperative {
                length: tokens,
                heads,
                kv_heads,
                window,
                scale,
                softcap,
            };
            let groups = [tokens.div_ceil(16 * subgroups), heads, sequences as u32];
            self.device.run(&kernel, &parameters, &bound, groups)?;
            return Ok(y);
        }
        // Workgroup memory decides how many queries and keys meet at a time.
        let (tile, keys_tile) = match room {
            48.. => (128, 64),
            32.. => (64, 64),
            _ => (32, 32),
        };
        let lanes = keys_tile / 4;
        let vectors = shape.head_dim.div_ceil(4);
        // An invocation has room for two vectors; wider heads are computed in parts.
        let parts = vectors.div_ceil(2 * lanes);
        let vectors = vectors.div_ceil(parts);
        // Values of as many keys as `EXCHANGE` has room for, in stages of equal size.
        let staged = 1 << (EXCHANGE / vectors).min(keys_tile).ilog2();
        let kernel = Kernel::new(shader::ATTENTION, "attention")
            .with_type("X", queries.element.name())
            .with_constant("QUERIES", tile as u32)
            .with_constant("KEYS", keys_tile as u32)
            .with_constant("LANES", lanes as u32)
            .with_constant("THREADS", (tile / 8 * lanes) as u32)
            .with_constant("DEPTH", (keys_tile / 2) as u32)
            .with_constant("VALUES", staged as u32)
            .with_constant("VECTORS", vectors as u32)
            .with_constant("OWNED", vectors.div_ceil(lanes) as u32)
            .with_constant("PARTS", parts as u32);
        let parameters = parameters::Attention {
            length: tokens,
            heads,
            kv_heads,
            head_dim,
            window,
            scale,
            softcap,
        };
        let groups = [length.div_ceil(tile), shape.heads * parts, sequences].map(|count| count as u32);
        self.device.run(&kernel, &parameters, &bound, groups)?;
        Ok(y)
    }

    fn activate(&self, activation: Activation, x: &mut Tensor) -> Result<()> {
        self.each("activate", x, None, activated(activation))
    }

    fn gate(&self, activation: Activation, gate: &Tensor, up: &mut Tensor) -> Result<()> {
        self.each("gate", up, Some(gate), activated(activation))
    }

    fn log_likelihoods(
        &self,
        Weight(head): &Weight,
        softcap: Option<f32>,
        x: &Tensor,
        targets: &[u32],
    ) -> Result<Vec<Likelihood>> {
        let there = self.device.allocate((targets.len() * 4) as u64)?;
        self.device.upload(&there, cast_slice(targets))?;
        let results = self.device.allocate((targets.len() * 8) as u64)?;
        // Logits exist for a few rows at a time; 64 rows keep every part aligned.
        let room = LOGITS.min(self.device.largest()) as usize / (4 * head.rows);
        let rows = (room / 64 * 64).clamp(64, x.rows.next_multiple_of(64));
        let logits = self.tensor(rows, head.rows, Element::F32)?;
        let kernel = Kernel::new(shader::LIKELIHOOD, "likelihood");
        for first in (0..x.rows).step_by(rows) {
            let count = rows.min(x.rows - first);
            self.multiply_into(head, None, x, (first, count), &logits)?;
            let parameters = parameters::Likelihood {
                rows: count as u32,
                vocabulary: head.rows as u32,
                softcap: softcap.unwrap_or(0.0),
                first: first as u32,
            };
            let bound = [read(&logits.memory), read(&there), write(&results)];
            self.device.run(&kernel, &parameters, &bound, grid(count))?;
        }
        let values = self.values(&results, 2 * targets.len())?;
        Ok(values
            .chunks_exact(2)
            .map(|pair| Likelihood {
                log: pair[0],
                greatest: pair[1] >= 0.0,
            })
            .collect())
    }

    fn moments(&self, inputs: usize, needs: Needs) -> Result<DeviceMoments> {
        let zeros = |elements: usize| {
            let memory = self.device.allocate((elements * 4) as u64)?;
            self.device.clear(&memory)?;
            Ok(memory)
        };
        Ok(DeviceMoments {
            inputs,
            tokens: 0,
            squares: needs.squares.then(|| zeros(2 * inputs)).transpose()?,
            gram: needs.gram.then(|| zeros(inputs * inputs).map(Arc::new)).transpose()?,
            cross: match needs.cross {
                true => {
                    let cross = self.tensor(inputs, inputs, Element::F32)?;
                    self.device.clear(&cross.memory)?;
                    Some(Arc::new(cross))
                }
                false => None,
            },
            sums: needs.means.then(DeviceSums::default),
        })
    }

    fn accumulate(&self, moments: &mut DeviceMoments, x: &Tensor) -> Result<()> {
        let element = x.element.name();
        let pieces = x.rows.div_ceil(SQUARE_ROWS);
        let parameters = parameters::Moments {
            rows: x.rows as u32,
            width: x.columns as u32,
            pieces: pieces as u32,
            length: x.rows as u32,
        };
        if let Some(squares) = &moments.squares {
            let sums = self.device.allocate((pieces * x.columns * 4) as u64)?;
            let kernel = Kernel::new(shader::MOMENTS, "squares").with_type("X", element);
            let groups = [x.columns.div_ceil(64) as u32, pieces as u32, 1];
            self.device
                .run(&kernel, &parameters, &[read(&x.memory), write(&sums)], groups)?;
            let kernel = Kernel::new(shader::MOMENTS, "collect");
            let groups = [x.columns.div_ceil(LANES) as u32, 1, 1];
            self.device
                .run(&kernel, &parameters, &[read(&sums), write(squares)], groups)?;
        }
        if let Some(gram) = &moments.gram {
            let bound = [read(&x.memory), write(gram)];
            let cooperative = self.cooperates(x) && x.columns.is_multiple_of(8);
            if cooperative || x.columns.is_multiple_of(4) {
                let kernel = match cooperative {
                    true => Kernel::new(shader::GRAM_COOPERATIVE, "gram"),
                    false => Kernel::new(shader::GRAM_F32, "gram").with_type("X4", x.element.four()),
                };
                let tiles = x.columns.div_ceil(TILE);
                let parameters = parameters::Gram {
                    rows: x.rows as u32,
                    columns: x.columns as u32,
                    tiles: tiles as u32,
                };
                self.device
                    .run(&kernel, &parameters, &bound, grid(tiles * (tiles + 1) / 2))?;
            } else {
                let tiles = x.columns.div_ceil(64) as u32;
                let kernel = Kernel::new(shader::MOMENTS, "gram").with_type("X", element);
                self.device.run(&kernel, &parameters, &bound, [tiles, tiles, 1])?;
            }
        }
        moments.tokens += x.rows;
        Ok(())
    }

    fn accumulate_cross(&self, moments: &mut DeviceMoments, x: &Tensor, dense: &Tensor) -> Result<()> {
        let Some(cross) = &moments.cross else {
            return Ok(());
        };
        let product = self.multiply(&self.transposed(dense)?, None, &self.transposed(x)?, Element::F32)?;
        self.each("add", cross, Some(&product), Elementwise::default())
    }

    fn accumulate_sums(&self, moments: &mut DeviceMoments, x: &Tensor, weights: &[f64]) -> Result<()> {
        let Some(found) = &mut moments.sums else {
            return Ok(());
        };
        let length = x.rows / weights.len();
        let pieces = length.div_ceil(SQUARE_ROWS);
        let parameters = parameters::Moments {
            rows: x.rows as u32,
            width: x.columns as u32,
            pieces: pieces as u32,
            length: length as u32,
        };
        let groups = [x.columns.div_ceil(64) as u32, (weights.len() * pieces) as u32, 1];
        let sums = self.device.allocate((weights.len() * pieces * x.columns * 4) as u64)?;
        let kernel = Kernel::new(shader::MOMENTS, "sequence_sums").with_type("X", x.element.name());
        self.device
            .run(&kernel, &parameters, &[read(&x.memory), write(&sums)], groups)?;
        found.batches.push((sums, weights.len(), pieces));
        found.weights.extend(weights);
        Ok(())
    }
}
