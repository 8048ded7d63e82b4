//! The weights outside the blocks in a backend's memory, and what is done with them: the beginning and the end of a forward pass.

use super::block::{Norm, normalise, normalise_backward, upload_norm};
use crate::backend::{Backend, Extent, Predictions};
use crate::error::Result;
use crate::memory::Room;
use crate::model::source::WeightSource;
use crate::spec::{ModelSpec, NormSpec, Positions};

/// The weights outside the blocks in a backend's memory: embedding, positions, final norm, head.
pub struct Ends<B: Backend> {
    width: usize,
    embedding: B::Weight,
    project_in: Option<B::Weight>,
    pub(super) positions: Option<B::Tensor>,
    final_norm: Option<(NormSpec, Norm<B::Tensor>)>,
    project_out: Option<B::Weight>,
    head: Option<B::Weight>,
    pub(super) softcap: Option<f32>,
    pub(super) room: Room,
}

impl<B: Backend> Ends<B> {
    /// Limits the memory for residual streams that are made with these weights to `room`; without this call there is
    /// no limit.
    #[must_use]
    pub fn within(self, room: Room) -> Self {
        Ends { room, ..self }
    }

    /// The memory for residual streams.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Bytes of an element of a weight in the backend's memory.
    pub fn weight_bytes(&self, backend: &B) -> u64 {
        let Extent { rows, columns, bytes } = backend.weight_extent(&self.embedding);
        (bytes / (rows * columns)) as u64
    }

    /// Loads and uploads the weights outside the blocks.
    ///
    /// # Errors
    /// A tensor is unusable, or the backend has no room.
    pub fn upload(backend: &B, weights: &dyn WeightSource) -> Result<Self> {
        let spec = weights.spec();
        let matrix = |name: &String| backend.upload_weight(weights.matrix(name)?);
        let final_norm = match &spec.final_norm {
            Some(norm) => Some((norm.clone(), upload_norm(backend, &weights.norm("", norm)?)?)),
            None => None,
        };
        Ok(Ends {
            width: spec.width,
            embedding: matrix(&spec.embedding.tensor)?,
            project_in: spec.embedding.project.as_ref().map(matrix).transpose()?,
            positions: match &spec.positions {
                Positions::Learned { tensor, .. } => Some(backend.take(weights.matrix(tensor)?)?),
                Positions::Rotary { .. } => None,
            },
            final_norm,
            project_out: spec.head.project.as_ref().map(matrix).transpose()?,
            head: spec.head.tensor.as_ref().map(matrix).transpose()?,
            softcap: spec.head.softcap,
            room: Room::unlimited(),
        })
    }

    /// The input of the head: `x` after the final norm and the output projection. `None` if the model has neither.
    pub(super) fn before_head(&self, backend: &B, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        let normed = match &self.final_norm {
            Some((spec, norm)) => Some(normalise(backend, spec, self.width, norm, x)?),
            None => None,
        };
        match &self.project_out {
            Some(project) => backend.linear(project, None, normed.as_ref().unwrap_or(x)).map(Some),
            None => Ok(normed),
        }
    }

    /// The log-likelihoods of the tokens after those of `x`, the stream after the last block, and the gradient with respect to `x`
    /// of their sum, in which each counts as much as `factors` say.
    pub(super) fn likelihoods_backward(
        &self,
        backend: &B,
        x: &B::Tensor,
        targets: &[u32],
        factors: &[f32],
    ) -> Result<(Vec<f64>, B::Tensor)> {
        let before = self.before_head(backend, x)?;
        let input = before.as_ref().unwrap_or(x);
        let (likelihoods, mut gradient) =
            backend.log_likelihoods_backward(self.head(), self.softcap, input, targets, factors)?;
        if let Some(project) = &self.project_out {
            gradient = backend.linear_backward(project, &gradient)?;
        }
        if let Some((spec, norm)) = &self.final_norm {
            gradient = normalise_backward(backend, spec, self.width, norm, x, &gradient)?;
        }
        Ok((likelihoods, gradient))
    }

    /// What the head makes of its input `x`.
    pub(super) fn predictions<'a>(&'a self, x: &'a B::Tensor) -> Predictions<'a, B::Weight, B::Tensor> {
        Predictions {
            head: self.head(),
            softcap: self.softcap,
            x,
        }
    }

    /// Bytes that a number of a weight takes in the backend's memory.
    pub fn bytes_per_weight(&self, backend: &B) -> usize {
        let extent = backend.weight_extent(&self.embedding);
        extent.bytes / (extent.rows * extent.columns).max(1)
    }

    pub(super) fn head(&self) -> &B::Weight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Looks up the tokens' embeddings, without learned positions.
    pub(super) fn embed(&self, backend: &B, spec: &ModelSpec, ids: &[u32]) -> Result<B::Tensor> {
        let mut x = backend.embed(&self.embedding, ids)?;
        if let Some(factor) = spec.embedding.scale {
            backend.scale(&mut x, factor)?;
        }
        match &self.project_in {
            Some(project) => backend.linear(project, None, &x),
            None => Ok(x),
        }
    }
}
