//! What a device is told to run: a kernel, and the buffers that are bound to it.

use super::element::Element;
use super::memory::{GRANULE, Memory};
use super::shader::{Shader, Variant};
use std::hash::{DefaultHasher, Hash, Hasher};

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

    /// The kernel of a shader that may take four neighbouring features at a time, with the number formats of the arrays `types`.
    #[must_use]
    pub(super) fn of_features(mut self, types: &[(&'static str, Element)], four: bool) -> Self {
        for (name, element) in types {
            let kind = if four { element.four() } else { element.name() };
            self.variant.types.push((name, kind));
        }
        if !four {
            return self;
        }
        self.with_type("F", "vec4<f32>").with_constant("TOGETHER", 4)
    }

    /// A number that tells kernels apart, all but surely.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.shader.name, self.entry, &self.variant).hash(&mut hasher);
        hasher.finish()
    }
}

/// A buffer bound to a kernel.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    pub(super) memory: &'a Memory,
    pub(super) writable: bool,
    /// The part that is bound, as start and length in bytes; `None` for the whole buffer.
    pub(super) part: Option<(u64, u64)>,
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
        debug_assert_eq!(start % GRANULE, 0);
        Bound {
            part: Some((start, bytes)),
            ..self
        }
    }
}
