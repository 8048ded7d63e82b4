//! Formulas as kernels read them: text, constants, vectors.

use crate::backend::gpu::device::{Bound, Memory, read};
use crate::backend::gpu::parameters::{FormulaParameters, NUMBERS, VECTORS};
use crate::backend::gpu::{Gpu, Tensor};
use crate::error::{Error, Result};
use crate::prune::formula::wgsl;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Values};

/// Most matrices that a kernel can read in addition to the weights.
pub const MATRICES: usize = 3;

/// Formulas over one layer, prepared for a kernel.
pub struct Written<'a> {
    /// One WGSL expression per formula.
    pub expressions: Vec<String>,
    /// Constants of the formulas, and where each vector begins in `factors`.
    pub parameters: FormulaParameters,
    /// The values of all vectors, one vector after the other.
    pub factors: Memory,
    /// Whether a formula reads the weights.
    pub reads_weight: bool,
    /// Whether a formula reads the mask.
    pub reads_mask: bool,
    matrices: Vec<&'a Tensor>,
}

impl<'a> Written<'a> {
    /// Prepares formulas over a matrix of `dim` for a kernel.
    ///
    /// # Errors
    /// They have more constants, vectors or matrices than there is room for, an operand does not fit, or there is no
    /// room on the device.
    pub fn new(gpu: &Gpu, formulas: &[&'a Values], dim: (usize, usize)) -> Result<Self> {
        let mut numbers: Vec<u32> = Vec::new();
        let mut vectors: Vec<&[f32]> = Vec::new();
        let mut matrices: Vec<&Tensor> = Vec::new();
        let mut fault = None;
        let (mut reads_weight, mut reads_mask) = (false, false);
        let mut expressions = Vec::new();
        for values in formulas {
            let mut leaf = |operand: &Operand| match *operand {
                Operand::Weight => {
                    reads_weight = true;
                    "weight".to_string()
                }
                Operand::Kept => {
                    reads_mask = true;
                    "kept(row, column)".to_string()
                }
                Operand::Identity => "f32(row == column)".to_string(),
                Operand::Row(index) => vector(&mut vectors, &values.vectors[index], "row"),
                Operand::Column(index) => vector(&mut vectors, &values.vectors[index], "column"),
                Operand::Matrix(index) => match matrix(&mut matrices, &values.matrices[index], dim) {
                    Ok(text) => text,
                    Err(error) => {
                        fault = Some(error);
                        String::new()
                    }
                },
            };
            let mut number = |value: f64| {
                let bits = (value as f32).to_bits();
                format!("number({}u)", placed(&mut numbers, bits))
            };
            expressions.push(wgsl::expression(&values.formula, &mut leaf, &mut number));
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        for (what, got, room) in [
            ("constants", numbers.len(), NUMBERS),
            ("vectors", vectors.len(), VECTORS),
            ("matrices", matrices.len(), MATRICES),
        ] {
            if got > room {
                let message =
                    format!("a formula with {got} {what}; the GPU backend has room for {room}; use backend = \"cpu\"");
                return Err(Error::config(message));
            }
        }
        let mut factors: Vec<f32> = Vec::new();
        let mut parameters = FormulaParameters::default();
        for (start, vector) in parameters.starts.as_flattened_mut().iter_mut().zip(vectors) {
            *start = factors.len() as u32;
            factors.extend(vector);
        }
        let memory = gpu.hardware().allocate((factors.len().max(1) * 4) as u64)?;
        if !factors.is_empty() {
            gpu.hardware().upload(&memory, bytemuck::cast_slice(&factors))?;
        }
        parameters.numbers.as_flattened_mut()[..numbers.len()].copy_from_slice(&numbers);
        Ok(Written {
            expressions,
            parameters,
            factors: memory,
            reads_weight,
            reads_mask,
            matrices,
        })
    }

    /// The matrices as a kernel binds them; `nothing` is bound in place of those that are absent.
    pub fn bound(&self, nothing: &'a Memory) -> [Bound<'a>; MATRICES] {
        std::array::from_fn(|index| read(self.matrices.get(index).map_or(nothing, |matrix| &matrix.memory)))
    }

    /// Whether a formula reads matrices in addition to the weights.
    pub fn has_matrices(&self) -> bool {
        !self.matrices.is_empty()
    }
}

/// Whether one kernel has room for the operands of all of these formulas.
pub fn fit(formulas: &[&Values]) -> bool {
    let (mut numbers, mut vectors, mut matrices): (Vec<u32>, Vec<&[f32]>, usize) = Default::default();
    for values in formulas {
        let mut leaf = |operand: &Operand| {
            match *operand {
                Operand::Row(index) | Operand::Column(index) => {
                    placed(&mut vectors, values.vectors[index].as_slice());
                }
                Operand::Matrix(_) => matrices += 1,
                Operand::Weight | Operand::Kept | Operand::Identity => {}
            }
            String::new()
        };
        let mut number = |value: f64| {
            placed(&mut numbers, (value as f32).to_bits());
            String::new()
        };
        wgsl::expression(&values.formula, &mut leaf, &mut number);
    }
    numbers.len() <= NUMBERS && vectors.len() <= VECTORS && matrices <= MATRICES
}

fn vector<'a>(vectors: &mut Vec<&'a [f32]>, values: &'a [f32], along: &str) -> String {
    format!("vector({}u, {along})", placed(vectors, values))
}

fn matrix<'a>(matrices: &mut Vec<&'a Tensor>, matrix: &'a Matrix, dim: (usize, usize)) -> Result<String> {
    let there: &Tensor = matrix.there()?;
    let known = matrices.iter().position(|known| std::ptr::eq(*known, there));
    let index = known.unwrap_or_else(|| {
        matrices.push(there);
        matrices.len() - 1
    });
    let place = match matrix.dim() {
        of if of == dim => "row * p.columns + column",
        (1, 1) => "0u",
        (rows, 1) if rows == dim.0 => "row",
        (1, columns) if columns == dim.1 => "column",
        of => {
            return Err(Error::numeric(format!(
                "a matrix of {of:?} does not fit one of {dim:?}"
            )));
        }
    };
    Ok(format!("matrix{index}[{place}]"))
}

fn placed<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    match items.iter().position(|known| *known == item) {
        Some(index) => index,
        None => {
            items.push(item);
            items.len() - 1
        }
    }
}
