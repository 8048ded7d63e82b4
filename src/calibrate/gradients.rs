//! Gradients on calibration text with respect to every weight that pruning may remove, for criteria that use them: those of the dense
//! model's loss ([`ModelGradients`]), which are gathered once, before anything is pruned, or read from a file; and those of the norm of
//! a block's outputs ([`regional`]), block by block.

use crate::backend::gradient::{Gradient, GradientNeeds, GradientSum};
use crate::backend::moments::Needs;
use crate::backend::{Backend, Extent};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::memory::{Reserved, Room, ScratchFile};
use crate::model::backward::{self, Way};
use crate::model::forward::{Block, Ends, Hidden};
use crate::model::layer_file::LayerFile;
use crate::model::source::WeightSource;
use crate::spec::{LinearId, ModelSpec};
use ndarray::{ArcArray2, Array2};
use rayon::prelude::*;
use std::any::Any;
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

/// A value for every weight of a layer, `(outputs, inputs)`. Copies share the values.
#[derive(Debug, Clone)]
pub enum WeightValues {
    /// In the host's memory.
    Host(ArcArray2<f32>),
    /// In the memory of the backend that computed them, as a tensor of that backend in single precision.
    There {
        /// Number of rows and columns.
        dim: (usize, usize),
        /// The tensor.
        tensor: Arc<dyn Any + Send + Sync>,
    },
}

impl WeightValues {
    /// Number of rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        match self {
            WeightValues::Host(values) => values.dim(),
            WeightValues::There { dim, .. } => *dim,
        }
    }
}

impl PartialEq for WeightValues {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (WeightValues::Host(a), WeightValues::Host(b)) => {
                let same = a.as_ptr() == b.as_ptr() && a.dim() == b.dim();
                (same && a.strides() == b.strides()) || a == b
            }
            (WeightValues::There { tensor: a, .. }, WeightValues::There { tensor: b, .. }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// The sums of gradients of all linear layers of a model: where they were computed, if they take at most half of the memory there;
/// else in the host's memory as far as the room has a place for them, and the rest in a scratch file.
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
        values: WeightValues,
        /// The part of the room that was reserved for it, if it is in the host's memory.
        _place: Option<Reserved>,
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
        let way = Way::best(backend, source.spec(), ends, windows, needs);
        let bytes = 4 * (needs.count() * source.spec().prunable()) as u64;
        let stay = matches!(way, Way::InRounds { .. }) && backend.free_bytes().is_some_and(|free| bytes <= free / 2);
        backward::gradients_by(way, backend, source, ends, windows, needs, |index, block, sums| {
            for (id, sums) in sums.into_layers() {
                let mut store = |sum: Option<B::Tensor>| match sum {
                    None => Ok(None),
                    Some(sum) if stay => kept_there(backend, sum).map(Some),
                    Some(sum) => all.store(ends.room(), finite(backend, &sum)?).map(Some),
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
        match &self.found {
            Found::Gathered(gathered) => Ok(LayerGradients {
                loss: Loss::Likelihood,
                sums: gathered.layer(block, id, needs)?,
                sequences: self.sequences,
            }),
            Found::Read(file) => {
                let gradient = file.layer(block, file.spec().block(block).linear(id))?;
                let of = |needed: bool, of: &dyn Fn(f32) -> f32| needed.then(|| gradient.mapv(of).into_shared());
                let (squares, magnitudes) = (of(needs.squares, &|g| g * g), of(needs.magnitudes, &f32::abs));
                let sums = [needs.sum.then(|| gradient.into_shared()), squares, magnitudes];
                Ok(LayerGradients::new(Loss::Likelihood, sums, self.sequences))
            }
        }
    }
}

impl Gathered {
    fn store(&mut self, room: &Room, host: Array2<f32>) -> Result<Stored> {
        let dim = host.dim();
        if let Some(place) = room.reserve(4 * host.len() as u64) {
            let values = WeightValues::Host(host.into_shared());
            return Ok(Stored::Kept {
                values,
                _place: Some(place),
            });
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

    fn layer(&self, block: usize, id: LinearId, needs: GradientNeeds) -> Result<[Option<WeightValues>; 3]> {
        let stored = self.layers.get(&(block, id)).ok_or_else(not_gathered)?;
        let load = |stored: &Option<Stored>, needed: bool| match stored.as_ref().filter(|_| needed) {
            None => Ok(None),
            Some(Stored::Kept { values, .. }) => Ok(Some(values.clone())),
            Some(Stored::Spilled { start, dim }) => {
                let values = self.file().get(*start, dim.0 * dim.1)?;
                let values = Array2::from_shape_vec(*dim, values).expect("as many as were written");
                Ok(Some(WeightValues::Host(values.into_shared())))
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
    sums: [Option<WeightValues>; 3],
    sequences: usize,
}

impl LayerGradients {
    /// Sums over so many sequences of the gradients of a loss: of gradients, of their squares and of their magnitudes, as far as they are
    /// known.
    pub fn new(loss: Loss, sums: [Option<ArcArray2<f32>>; 3], sequences: usize) -> Self {
        LayerGradients {
            loss,
            sums: sums.map(|sum| sum.map(WeightValues::Host)),
            sequences,
        }
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// One of the sums, in the host's memory.
    ///
    /// # Errors
    /// It was not gathered, or is in the memory of the backend that computed it.
    pub fn sum(&self, sum: GradientSum) -> Result<ArcArray2<f32>> {
        match self.values(sum)? {
            WeightValues::Host(values) => Ok(values),
            WeightValues::There { .. } => Err(Error::numeric("the sum of gradients is in the memory of a backend")),
        }
    }

    /// One of the sums, wherever it is.
    ///
    /// # Errors
    /// It was not gathered.
    pub fn values(&self, sum: GradientSum) -> Result<WeightValues> {
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

/// A sum that stays in the backend's memory.
fn kept_there<B: Backend>(backend: &B, sum: B::Tensor) -> Result<Stored> {
    let Extent { rows, columns, .. } = backend.extent(&sum);
    // One number of every column comes to the host. A sum over a column is a number if all of its entries are, unless it overflows.
    let mut moments = backend.moments(columns, Needs::MEANS)?;
    backend.accumulate_sums(&mut moments, &sum, &[rows as f64])?;
    let sums = backend.read_moments(&moments)?.sums;
    if !sums.iter().flat_map(|it| &it.sums).flatten().all(|sum| sum.is_finite()) {
        finite(backend, &sum)?;
    }
    Ok(Stored::Kept {
        values: WeightValues::There {
            dim: (rows, columns),
            tensor: Arc::new(sum),
        },
        _place: None,
    })
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
            "a sum of gradients is {wrong}; if compute is half precision, use compute = \"f32\"; else check the weights"
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
