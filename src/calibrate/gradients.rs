//! Gradients on calibration text with respect to every weight that pruning may remove, for criteria that use them: those of the dense
//! model's loss ([`ModelGradients`]), which are gathered once, before anything is pruned, or read from a file; and those of the norm of
//! a block's outputs ([`regional`]), block by block.

use crate::backend::Backend;
use crate::backend::gradient::{Gradient, GradientNeeds, GradientSum};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::memory::{Reserved, Room, ScratchFile};
use crate::model::backward;
use crate::model::forward::{Block, Ends, Hidden};
use crate::model::layer_file::LayerFile;
use crate::model::source::WeightSource;
use crate::spec::{LinearId, ModelSpec};
use ndarray::{ArcArray2, Array2};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A loss whose gradients a criterion may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Of the dense model on a calibration sequence: the mean over its tokens of their negative log-likelihoods.
    Likelihood,
    /// Of a block that is still dense: the norm of its outputs on a calibration sequence, over all tokens and features, for the inputs
    /// that statistics are gathered on.
    Outputs,
}

/// The sums of gradients of all linear layers of a model: in memory as far as the room has a place for them, the rest in a scratch
/// file.
pub struct ModelGradients {
    found: Found,
    needs: GradientNeeds,
    sequences: usize,
}

/// Where gradients come from.
enum Found {
    /// They were computed here.
    Gathered(Gathered),
    /// Another program computed them.
    Read(Arc<LayerFile>),
}

/// Sums that were computed here.
#[derive(Default)]
struct Gathered {
    layers: BTreeMap<(usize, LinearId), [Option<Stored>; 3]>,
    scratch: Option<ScratchFile>,
    /// Number of elements in the scratch file.
    spilled: usize,
}

/// A sum of gradients, and where it is.
enum Stored {
    Kept {
        values: ArcArray2<f32>,
        /// The memory that was reserved for it.
        _place: Reserved,
    },
    Spilled {
        /// Index of its first element in the file.
        start: usize,
        dim: (usize, usize),
    },
}

impl ModelGradients {
    /// Gathers sums over the windows of the gradients of each one's loss: the mean over its tokens 1, 2, ... of their negative
    /// log-likelihoods.
    ///
    /// # Errors
    /// As [`backward::gradients`]; or a disk is full.
    pub fn gather<B: Backend>(
        backend: &B,
        source: &dyn WeightSource,
        ends: &Ends<B>,
        windows: &TokenWindows,
        needs: GradientNeeds,
    ) -> Result<Self> {
        let mut all = Gathered::default();
        backward::gradients(backend, source, ends, windows, needs, |index, block, sums| {
            for (id, sums) in sums.into_layers() {
                let mut store = |sum: Option<B::Tensor>| {
                    let host = sum.map(|sum| finite(backend, &sum)).transpose()?;
                    host.map(|host| all.store(ends.room(), host)).transpose()
                };
                let stored = [sums.sum, sums.squares, sums.magnitudes];
                let [sum, squares, magnitudes] = stored.map(&mut store);
                let stored = || Ok([sum?, squares?, magnitudes?]);
                let stored = stored().at(block.spec().weight_of(index, block.spec().linear(id)))?;
                all.layers.insert((index, id), stored);
            }
            Ok(())
        })?;
        Ok(ModelGradients {
            found: Found::Gathered(all),
            needs,
            sequences: windows.count(),
        })
    }

    /// Gradients from a file: what it has for a weight is taken for the gradient of one sequence.
    pub fn read(file: Arc<LayerFile>) -> Self {
        ModelGradients {
            found: Found::Read(file),
            needs: GradientNeeds {
                sum: true,
                squares: true,
                magnitudes: true,
            },
            sequences: 1,
        }
    }

    /// Whether there is what a method needs.
    pub fn cover(&self, needs: GradientNeeds) -> bool {
        self.needs.cover(needs)
    }

    /// The sums of one layer that a method needs.
    ///
    /// # Errors
    /// A file cannot be read.
    ///
    /// # Panics
    /// The model has no such layer.
    pub fn layer(&self, block: usize, id: LinearId, needs: GradientNeeds) -> Result<LayerGradients> {
        let sums = match &self.found {
            Found::Gathered(gathered) => gathered.layer(block, id, needs)?,
            Found::Read(file) => {
                let gradient = file.layer(block, file.spec().block(block).linear(id))?;
                let of = |needed: bool, of: &dyn Fn(f32) -> f32| needed.then(|| gradient.mapv(of).into_shared());
                let (squares, magnitudes) = (of(needs.squares, &|g| g * g), of(needs.magnitudes, &f32::abs));
                [needs.sum.then(|| gradient.into_shared()), squares, magnitudes]
            }
        };
        Ok(LayerGradients::new(Loss::Likelihood, sums, self.sequences))
    }
}

impl Gathered {
    fn store(&mut self, room: &Room, host: Array2<f32>) -> Result<Stored> {
        let dim = host.dim();
        if let Some(place) = room.reserve(4 * host.len() as u64) {
            let values = host.into_shared();
            return Ok(Stored::Kept { values, _place: place });
        }
        if self.scratch.is_none() {
            self.scratch = Some(room.scratch()?);
        }
        let start = self.spilled;
        let values = host
            .as_slice()
            .expect("what a backend hands out is row-major and contiguous");
        self.file().put(start, values)?;
        self.spilled += host.len();
        Ok(Stored::Spilled { start, dim })
    }

    fn file(&self) -> &ScratchFile {
        self.scratch.as_ref().expect("what was spilled has a file")
    }

    fn layer(&self, block: usize, id: LinearId, needs: GradientNeeds) -> Result<[Option<ArcArray2<f32>>; 3]> {
        let stored = self.layers.get(&(block, id)).ok_or_else(not_gathered)?;
        let load = |stored: &Option<Stored>, needed: bool| match stored.as_ref().filter(|_| needed) {
            None => Ok(None),
            Some(Stored::Kept { values, .. }) => Ok(Some(values.clone())),
            Some(Stored::Spilled { start, dim }) => {
                let values = self.file().get(*start, dim.0 * dim.1)?;
                let values = Array2::from_shape_vec(*dim, values).expect("as many as were written");
                Ok(Some(values.into_shared()))
            }
        };
        let [sum, squares, magnitudes] = stored;
        Ok([
            load(sum, needs.sum)?,
            load(squares, needs.squares)?,
            load(magnitudes, needs.magnitudes)?,
        ])
    }
}

/// The sums of gradients of one layer, each `(outputs, inputs)`.
#[derive(Debug, Clone)]
pub struct LayerGradients {
    loss: Loss,
    sums: [Option<ArcArray2<f32>>; 3],
    sequences: usize,
}

impl LayerGradients {
    /// Sums over so many sequences of the gradients of a loss: of gradients, of their squares and of their magnitudes, as far as they are
    /// known.
    pub fn new(loss: Loss, sums: [Option<ArcArray2<f32>>; 3], sequences: usize) -> Self {
        LayerGradients { loss, sums, sequences }
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// One of the sums.
    ///
    /// # Errors
    /// It was not gathered.
    pub fn sum(&self, sum: GradientSum) -> Result<ArcArray2<f32>> {
        let found = match sum {
            GradientSum::Plain => &self.sums[0],
            GradientSum::Squares => &self.sums[1],
            GradientSum::Magnitudes => &self.sums[2],
        };
        found.clone().ok_or_else(not_gathered)
    }

    /// Number of sequences that were added up.
    pub fn sequences(&self) -> usize {
        self.sequences
    }
}

/// The gradients of [`Loss::Outputs`] of a block's layers, before anything of the block is pruned. `hidden` is the stream before the
/// block.
///
/// # Errors
/// As [`backward::of_outputs`]; or a sum is not finite.
pub fn regional<B: Backend>(
    backend: &B,
    spec: &ModelSpec,
    (hidden, windows): (&Hidden<B>, &TokenWindows),
    block: &Block<B>,
    needs: GradientNeeds,
) -> Result<BTreeMap<LinearId, LayerGradients>> {
    let sums = backward::of_outputs(backend, spec, (hidden, windows), block, needs)?.into_layers();
    let layer = |(id, sums): (LinearId, Gradient<B::Tensor>)| {
        let host = |sum: Option<B::Tensor>| sum.map(|sum| Ok(finite(backend, &sum)?.into_shared())).transpose();
        let host = || Ok([host(sums.sum)?, host(sums.squares)?, host(sums.magnitudes)?]);
        let sums = host().at(block.spec().linear(id).tensor)?;
        Ok((id, LayerGradients::new(Loss::Outputs, sums, windows.count())))
    };
    sums.into_iter().map(layer).collect()
}

/// A sum in the host's memory.
fn finite<B: Backend>(backend: &B, sum: &B::Tensor) -> Result<Array2<f32>> {
    let host = backend.download(sum)?;
    let values = host
        .as_slice()
        .expect("what a backend hands out is row-major and contiguous");
    let wrong = values
        .par_chunks(1 << 16)
        .find_map_first(|part| part.iter().find(|value| !value.is_finite()));
    match wrong {
        None => Ok(host),
        Some(wrong) => Err(Error::numeric(format!(
            "a sum of gradients is {wrong}; use compute = \"f32\" if the backend computes in half precision, else look at the weights"
        ))),
    }
}

/// Says that a score uses gradients that are not there.
pub(crate) fn not_gathered() -> Error {
    Error::config(
        "the score uses gradients of the model's loss or of a block's outputs, which were not gathered: a model that is pruned needs \
         calibration windows for them, and a single layer gets them through `WithGradients`",
    )
}
