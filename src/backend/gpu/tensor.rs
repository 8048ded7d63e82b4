//! Matrices in a device's memory.

use super::device::Memory;
pub use super::element::Element;

/// A row-major matrix on the device.
pub struct Tensor {
    pub(crate) memory: Memory,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) element: Element,
}

impl Tensor {
    pub(super) fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// A weight on the device, stored as activations are.
pub struct Weight(pub(crate) Tensor);
