//! The gradients of the dense model's loss on calibration text with respect to every weight that pruning may remove, for criteria that
//! use them. They are gathered once, before anything is pruned.

use crate::backend::Backend;
use crate::backend::gradient::{GradientNeeds, GradientSum};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::memory::{Reserved, Room, ScratchFile};
use crate::model::backward;
use crate::model::forward::Ends;
use crate::model::source::WeightSource;
use crate::spec::LinearId;
use ndarray::{ArcArray2, Array2};
use std::collections::BTreeMap;

/// The sums of gradients of all linear layers of a model: in memory as far as the room has a place for them, the rest in a scratch
/// file.
pub struct ModelGradients {
    layers: BTreeMap<(usize, LinearId), [Option<Stored>; 3]>,
    scratch: Option<ScratchFile>,
    /// Number of elements in the scratch file.
    spilled: usize,
    needs: GradientNeeds,
    sequences: usize,
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
        let mut all = ModelGradients {
            layers: BTreeMap::new(),
            scratch: None,
            spilled: 0,
            needs,
            sequences: windows.count(),
        };
        backward::gradients(backend, source, ends, windows, needs, |index, block, sums| {
            for (id, sums) in sums.into_layers() {
                let mut store = |sum: Option<B::Tensor>| {
                    let host = sum.map(|sum| backend.download(&sum)).transpose()?;
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
        Ok(all)
    }

    fn store(&mut self, room: &Room, host: Array2<f32>) -> Result<Stored> {
        let dim = host.dim();
        if let Some(wrong) = host.iter().find(|value| !value.is_finite()) {
            let message = format!(
                "a sum of gradients is {wrong}; use compute = \"f32\" if the backend computes in half precision, else look at the weights"
            );
            return Err(Error::numeric(message));
        }
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

    /// Whether there is what a method needs.
    pub fn cover(&self, needs: GradientNeeds) -> bool {
        self.needs.cover(needs)
    }

    /// The sums of one layer.
    ///
    /// # Errors
    /// The scratch file cannot be read.
    ///
    /// # Panics
    /// The model has no such layer.
    pub fn layer(&self, block: usize, id: LinearId) -> Result<LayerGradients> {
        let stored = self.layers.get(&(block, id)).expect("a layer of the model");
        let load = |stored: &Option<Stored>| match stored {
            None => Ok(None),
            Some(Stored::Kept { values, .. }) => Ok(Some(values.clone())),
            Some(Stored::Spilled { start, dim }) => {
                let values = self.file().get(*start, dim.0 * dim.1)?;
                let values = Array2::from_shape_vec(*dim, values).expect("as many as were written");
                Ok(Some(values.into_shared()))
            }
        };
        let [sum, squares, magnitudes] = stored;
        Ok(LayerGradients {
            sums: [load(sum)?, load(squares)?, load(magnitudes)?],
            sequences: self.sequences,
        })
    }
}

/// The sums of gradients of one layer, each `(outputs, inputs)`.
#[derive(Debug, Clone)]
pub struct LayerGradients {
    sums: [Option<ArcArray2<f32>>; 3],
    sequences: usize,
}

impl LayerGradients {
    /// Sums over so many sequences: of gradients, of their squares and of their magnitudes, as far as they are known.
    pub fn new(sums: [Option<ArcArray2<f32>>; 3], sequences: usize) -> Self {
        LayerGradients { sums, sequences }
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

/// Says that a score uses gradients that are not there.
pub(crate) fn not_gathered() -> Error {
    Error::config(
        "the score uses gradients of the model's loss, which were not gathered: a model that is pruned needs calibration windows for \
         them, and a single layer gets them through `WithGradients`",
    )
}
