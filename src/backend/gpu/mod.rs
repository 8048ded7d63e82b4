//! The GPU backend: WGSL compute shaders through wgpu, on Vulkan, Metal or DirectX 12.
//!
//! Weights go up once per block; activations, statistics, scores and masks stay on the device, and only
//! vectors, masks and scalars come back. In half precision (`compute = "f16"`) weights and activations are
//! stored in 16 bits, sums are kept in 32, and so is the residual stream.
//!
//! [`adapter`] knows which devices there are, [`device`] runs kernels, `shaders/` holds them, and `operations` says
//! which kernel with which grid computes each operation.

pub mod adapter;
mod attention;
mod backward;
pub mod device;
mod distance;
mod download;
mod element;
mod expand;
mod factor;
mod kernel;
mod memory;
mod moments;
mod open;
mod operations;
pub mod parameters;
mod pipeline;
mod product;
mod recorder;
pub mod shader;
mod tensor;
mod visible;

pub use factor::DeviceFactor;
pub use moments::DeviceMoments;
pub use open::Gpu;
pub(crate) use open::grid;
pub(crate) use product::Filled;
pub use tensor::{Element, Tensor, Weight};
