//! Number formats on a device.

/// The number format of a tensor's elements on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Single precision, 32 bits per element.
    F32,
    /// Half precision, 16 bits per element.
    F16,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
        }
    }

    /// The WGSL type of a vector of four elements.
    pub(super) fn four(self) -> &'static str {
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
