//! The weights of one block in a backend's memory.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::source::WeightSource;
use crate::spec::{BlockSpec, Fusion, LinearId, NormPlace, NormSpec, Reach, Role, SubLayer};
use crate::tensor::StorageType;
use ndarray::Array1;
use std::sync::Arc;

/// A linear layer in a backend's memory.
struct Linear<B: Backend> {
    name: String,
    storage: StorageType,
    weight: B::Weight,
    bias: Option<Bias<B::Tensor>>,
    bias_storage: StorageType,
}

/// A bias in the host's memory and in a backend's.
struct Bias<T> {
    host: Array1<f32>,
    there: T,
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
                bias_storage,
                ..
            } = source.linear(index, linear)?;
            let linear = Linear {
                name,
                storage,
                weight: backend.upload_weight(weight)?,
                bias: bias.map(|host| Bias::new(backend, host)).transpose()?,
                bias_storage,
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

    /// A copy in the backend's memory.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn copy(&self, backend: &B) -> Result<Self> {
        // Vectors have a precision of their own, which activations may lack.
        let vector = |x: &Option<B::Tensor>| {
            let host = x.as_ref().map(|x| backend.download(x)).transpose()?;
            host.map(|host| backend.upload_vector(host.row(0))).transpose()
        };
        let norms = self.norms.iter().map(|(place, norm)| {
            let copied = Norm {
                gain: vector(&norm.gain)?,
                bias: vector(&norm.bias)?,
            };
            Ok((*place, copied))
        });
        let linears = self.linears.iter().map(|(id, linear)| {
            let bias = linear.bias.as_ref();
            let copied = Linear {
                name: linear.name.clone(),
                storage: linear.storage,
                weight: backend.upload_weight(backend.download_weight(&linear.weight)?)?,
                bias: bias.map(|bias| Bias::new(backend, bias.host.clone())).transpose()?,
                bias_storage: linear.bias_storage,
            };
            Ok((*id, copied))
        });
        Ok(Block {
            spec: self.spec.clone(),
            reach: self.reach,
            norms: norms.collect::<Result<_>>()?,
            linears: linears.collect::<Result<_>>()?,
        })
    }

    /// The same block without its attention or its MLP.
    pub fn without(self, part: SubLayer) -> Self {
        let spec = Arc::new(self.spec.without(part));
        let left = self
            .linears
            .into_iter()
            .filter(|(id, _)| self.spec.linear(*id).role.sub_layer() != part)
            .map(|(_, linear)| linear);
        let linears = spec.layers().map(|(id, _)| id).zip(left).collect();
        Block {
            norms: self.norms,
            reach: self.reach,
            linears,
            spec,
        }
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

    fn linear(&self, id: LinearId) -> &Linear<B> {
        let linear = self.linears.iter().find(|(known, _)| *known == id);
        &linear.expect("a layer is asked for by what its own block calls it").1
    }

    fn linear_mut(&mut self, id: LinearId) -> &mut Linear<B> {
        let linear = self.linears.iter_mut().find(|(known, _)| *known == id);
        &mut linear.expect("a layer is asked for by what its own block calls it").1
    }

    /// The weight of a linear layer, with one row per output.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight(&self, id: LinearId) -> &B::Weight {
        &self.linear(id).weight
    }

    /// The weight of a linear layer for changing it.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight_mut(&mut self, id: LinearId) -> &mut B::Weight {
        &mut self.linear_mut(id).weight
    }

    /// The bias of a linear layer, one value per output, if it has one.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn bias(&self, id: LinearId) -> Option<&Array1<f32>> {
        self.linear(id).bias.as_ref().map(|bias| &bias.host)
    }

    /// Adds one value per output to the bias of a linear layer, which has one from then on, as precisely as the checkpoint stores
    /// it. Returns by how much it changed.
    ///
    /// # Errors
    /// A value is none that the checkpoint's number format has, or the backend has no room.
    ///
    /// # Panics
    /// The block has no such layer, or it has another number of outputs.
    pub fn add_to_bias(&mut self, backend: &B, id: LinearId, added: &[f64]) -> Result<Array1<f32>> {
        let linear = self.linear_mut(id);
        let before = match linear.bias.take() {
            Some(bias) => bias.host,
            None => Array1::zeros(added.len()),
        };
        assert_eq!(before.len(), added.len(), "one value per output");
        let sums = before
            .iter()
            .zip(added)
            .map(|(before, added)| f64::from(*before) + added);
        let storage = linear.bias_storage;
        let after: Array1<f32> = sums.map(|sum| storage.round(sum as f32)).collect();
        if let Some((output, value)) = after.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(Error::numeric(format!(
                "the bias of output {output} is {value} when it makes up for what was removed"
            )));
        }
        let change = &after - &before;
        linear.bias = Some(Bias::new(backend, after)?);
        Ok(change)
    }

    /// Gives a linear layer another bias, in single precision.
    ///
    /// # Errors
    /// The backend has no room.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn replace_bias(&mut self, backend: &B, id: LinearId, bias: Array1<f32>) -> Result<()> {
        self.linear_mut(id).bias = Some(Bias::new(backend, bias)?);
        Ok(())
    }

    /// The weights of its linear layers for changing them, in the order of [`Block::layers`].
    pub fn weights_mut(&mut self) -> impl Iterator<Item = &mut B::Weight> {
        self.linears.iter_mut().map(|(_, linear)| &mut linear.weight)
    }

    /// The linear layer with a task, and what the specification calls it.
    fn serving(&self, role: Role) -> (LinearId, &Linear<B>) {
        let serves = |(id, _): &&(LinearId, Linear<B>)| self.spec.linear(*id).role == role;
        let found = self.linears.iter().find(serves);
        let (id, linear) = found.expect("a family lists every role that its forward pass uses");
        (*id, linear)
    }

    pub(super) fn apply(&self, backend: &B, role: Role, x: &B::Tensor) -> Result<B::Tensor> {
        let (_, linear) = self.serving(role);
        backend.linear(&linear.weight, linear.bias.as_ref().map(|bias| &bias.there), x)
    }

    /// The name of a layer, and the gradient with respect to its input, given that with respect to its output.
    pub(super) fn apply_backward(&self, backend: &B, role: Role, dy: &B::Tensor) -> Result<(LinearId, B::Tensor)> {
        let (id, linear) = self.serving(role);
        Ok((id, backend.linear_backward(&linear.weight, dy)?))
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

impl<T> Bias<T> {
    fn new<B: Backend<Tensor = T>>(backend: &B, host: Array1<f32>) -> Result<Self> {
        let there = backend.upload_vector(host.view())?;
        Ok(Bias { host, there })
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

/// The gradient with respect to the input `x` of a norm, given that with respect to its result.
pub(super) fn normalise_backward<B: Backend>(
    backend: &B,
    spec: &NormSpec,
    width: usize,
    norm: &Norm<B::Tensor>,
    x: &B::Tensor,
    dy: &B::Tensor,
) -> Result<B::Tensor> {
    backend.normalise_backward(spec.kind, spec.epsilon, width, norm.gain.as_ref(), x, dy)
}
