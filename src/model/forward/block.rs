//! The weights of one block in a backend's memory.

use crate::backend::Backend;
use crate::error::Result;
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::source::WeightSource;
use crate::spec::{BlockSpec, Fusion, LinearId, NormPlace, NormSpec, Reach, Role};
use crate::tensor::StorageType;
use ndarray::Array1;
use std::sync::Arc;

/// A linear layer in a backend's memory.
struct Linear<B: Backend> {
    name: String,
    storage: StorageType,
    weight: B::Weight,
    bias: Option<B::Tensor>,
}

/// A norm's parameters in a backend's memory.
pub(super) struct Norm<T> {
    gain: Option<T>,
    bias: Option<T>,
}

/// The weights of one block in a backend's memory.
pub struct Block<B: Backend> {
    pub(super) spec: Arc<BlockSpec>,
    pub(super) reach: Reach,
    norms: Vec<(NormPlace, Norm<B::Tensor>)>,
    /// As the specification lists them.
    linears: Vec<(LinearId, Linear<B>)>,
}

impl<B: Backend> Block<B> {
    /// Reads and uploads block `index` layer by layer, so that no second copy of the block exists at any time.
    ///
    /// # Errors
    /// A tensor is unusable, or the backend has no room.
    pub fn load(backend: &B, source: &dyn WeightSource, index: usize) -> Result<Self> {
        let spec = source.spec();
        let norms = source.norms(index)?;
        let norms = norms
            .iter()
            .map(|(place, norm)| Ok((*place, upload_norm(backend, norm)?)));
        let norms = norms.collect::<Result<_>>()?;
        let linears = spec.block(index).layers().map(|(id, linear)| {
            let LinearWeights {
                name,
                weight,
                bias,
                storage,
                ..
            } = source.linear(index, linear)?;
            let linear = Linear {
                name,
                storage,
                weight: backend.upload_weight(weight)?,
                bias: upload_optional(backend, bias.as_ref())?,
            };
            Ok((id, linear))
        });
        Ok(Block {
            spec: spec.block(index).clone(),
            reach: spec.reach(index),
            norms,
            linears: linears.collect::<Result<_>>()?,
        })
    }

    /// What the block looks like.
    pub fn spec(&self) -> &BlockSpec {
        &self.spec
    }

    /// Its linear layers, with the names of their weights and how the checkpoint stores those.
    pub fn layers(&self) -> Vec<(LinearId, String, StorageType)> {
        let of = |(id, linear): &(LinearId, Linear<B>)| (*id, linear.name.clone(), linear.storage);
        self.linears.iter().map(of).collect()
    }

    /// The weight of a linear layer, with one row per output.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight(&self, id: LinearId) -> &B::Weight {
        let linear = self.linears.iter().find(|(known, _)| *known == id);
        &linear
            .expect("a layer is asked for by what its own block calls it")
            .1
            .weight
    }

    /// The weight of a linear layer for changing it.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight_mut(&mut self, id: LinearId) -> &mut B::Weight {
        let linear = self.linears.iter_mut().find(|(known, _)| *known == id);
        &mut linear
            .expect("a layer is asked for by what its own block calls it")
            .1
            .weight
    }

    /// The weights of its linear layers for changing them, in the order of [`Block::layers`].
    pub fn weights_mut(&mut self) -> impl Iterator<Item = &mut B::Weight> {
        self.linears.iter_mut().map(|(_, linear)| &mut linear.weight)
    }

    pub(super) fn apply(&self, backend: &B, role: Role, x: &B::Tensor) -> Result<B::Tensor> {
        let serves = |(id, _): &&(LinearId, Linear<B>)| self.spec.linear(*id).role == role;
        let (_, linear) = self
            .linears
            .iter()
            .find(serves)
            .expect("a family lists every role that its forward pass uses");
        backend.linear(&linear.weight, linear.bias.as_ref(), x)
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.spec.linears.iter().any(|linear| linear.role == role)
    }

    pub(super) fn fusion(&self) -> Option<Fusion> {
        self.spec.linears.iter().find_map(|linear| match linear.role {
            Role::Fused(fusion) => Some(fusion),
            _ => None,
        })
    }

    pub(super) fn norm(&self, place: NormPlace) -> Option<&Norm<B::Tensor>> {
        self.norms.iter().find(|(at, _)| *at == place).map(|(_, norm)| norm)
    }
}

pub(super) fn upload_optional<B: Backend>(backend: &B, vector: Option<&Array1<f32>>) -> Result<Option<B::Tensor>> {
    vector.map(|vector| backend.upload_vector(vector.view())).transpose()
}

pub(super) fn upload_norm<B: Backend>(backend: &B, norm: &NormWeights) -> Result<Norm<B::Tensor>> {
    Ok(Norm {
        gain: upload_optional(backend, norm.gain.as_ref())?,
        bias: upload_optional(backend, norm.bias.as_ref())?,
    })
}

/// Applies a norm; the tensor's runs of `width` features are normalised each on its own.
pub(super) fn normalise<B: Backend>(
    backend: &B,
    spec: &NormSpec,
    width: usize,
    norm: &Norm<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    backend.normalise(
        spec.kind,
        spec.epsilon,
        width,
        norm.gain.as_ref(),
        norm.bias.as_ref(),
        x,
    )
}
