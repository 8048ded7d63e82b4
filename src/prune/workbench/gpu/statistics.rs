//! Statistics of the inputs of layers, with their matrices on the device.

use super::moves::symmetric;
use crate::backend::gpu::device::Memory;
use crate::backend::gpu::{DeviceFactor, Element, Gpu, Tensor};
use crate::calibrate::statistics::{Diagonal, Means, damped, not_gathered};
use crate::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Statistics of the inputs at one tap: vectors on the host, matrices on the device.
pub struct Statistics {
    /// Number of sequences that the statistics were gathered on.
    pub sequences: usize,
    /// What is added to the Hessian's diagonal before it is factorised, as a fraction of its mean.
    pub damping: f64,
    /// `||x_j||^2 / sequences` for each input feature `j`.
    pub squared_norms: Option<Vec<f64>>,
    /// Means and variances of the input features.
    pub means: Option<Means>,
    /// Means of the dense model's inputs, where its outputs are to be reproduced and means were asked for.
    pub goal_means: Option<Vec<f64>>,
    /// The Gram matrix as it was gathered: a sum, of which only the lower triangle is filled.
    pub gram: Option<Arc<Memory>>,
    /// The sum of products with the dense model's inputs.
    pub cross: Option<Arc<Tensor>>,
    /// The sum of products of the dense model's inputs with themselves.
    pub goal: Option<Arc<Tensor>>,
    /// The Gram matrix with both triangles, divided by the number of sequences.
    pub full: OnceLock<std::result::Result<Arc<Tensor>, Error>>,
    /// The factor of the damped inverse Hessian, once it was asked for.
    pub factor: OnceLock<std::result::Result<Factor, Error>>,
}

/// The factor of a damped inverse Hessian, on the device.
pub struct Factor {
    /// The factor itself, an upper triangular matrix in single precision.
    pub upper: Arc<Tensor>,
    /// Its diagonal, on the host.
    pub pivots: Vec<f32>,
    /// What was added to the Hessian's diagonal.
    pub damping: f64,
    /// For each input feature, whether it was zero on every calibration token.
    pub dead: Vec<bool>,
}

impl Statistics {
    /// The factor of the damped inverse Hessian; computed at the first call.
    pub fn inverse_factor(&self, gpu: &Gpu) -> Result<&Factor> {
        let factor = self.factor.get_or_init(|| self.factorise(gpu));
        factor.as_ref().map_err(Error::clone)
    }

    pub fn full_gram(&self, gpu: &Gpu) -> Result<Arc<Tensor>> {
        let gram = self.gram.as_ref().ok_or_else(|| not_gathered("Gram matrix"))?;
        let inputs = self.squared_norms()?.len();
        symmetric(gpu, gram, inputs, 1.0 / self.sequences as f64).map(Arc::new)
    }

    pub fn squared_norms(&self) -> Result<&[f64]> {
        self.squared_norms
            .as_deref()
            .ok_or_else(|| not_gathered("sums of squares"))
    }

    pub fn factorise(&self, gpu: &Gpu) -> Result<Factor> {
        let gram = self.gram.as_ref().ok_or_else(|| not_gathered("Gram matrix"))?;
        // The Hessian is 2 / sequences times the Gram matrix, whose diagonal is the sums of squares.
        let norms = self.squared_norms()?;
        let diagonal = Diagonal::new(norms.iter().map(|norm| 2.0 * norm).collect());
        let scale = 2.0 / self.sequences as f64;
        let inputs = norms.len();
        let (DeviceFactor { upper, pivots }, damping) = damped(self.damping, |damping| {
            gpu.inverse_factor(gram, inputs, scale, damping * diagonal.mean)
        })?;
        Ok(Factor {
            upper: Arc::new(Tensor {
                memory: upper,
                rows: inputs,
                columns: inputs,
                element: Element::F32,
            }),
            pivots,
            damping,
            dead: diagonal.dead,
        })
    }
}
