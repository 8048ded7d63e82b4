//! A residual stream between two blocks: batches in the backend's memory as far as the room has a place for them, and as far as a
//! device has memory beside what it works with; the others in a scratch file, from which they come back one at a time.

use crate::backend::Backend;
use crate::error::Result;
use crate::memory::{Reserved, Room, ScratchFile};
use crate::spec::ModelSpec;
use ndarray::Array2;

/// The batches of a residual stream, in order, in memory or in a scratch file.
pub(super) struct Batches<B: Backend> {
    batches: Vec<Batch<B::Tensor>>,
    scratch: Option<ScratchFile>,
    /// Number of elements in the scratch file.
    spilled: usize,
}

/// Where a batch is between two blocks.
enum Batch<T> {
    /// In the memory of the backend.
    Kept {
        /// The batch; `None` only while a block works on it.
        tensor: Option<T>,
        /// The memory that was reserved for it.
        _place: Reserved,
    },
    /// In the scratch file, because memory did not suffice.
    Spilled {
        /// Index of the batch's first element in the file.
        start: usize,
        /// Number of rows and of columns.
        dim: (usize, usize),
    },
}

impl<B: Backend> Default for Batches<B> {
    fn default() -> Self {
        Batches {
            batches: Vec::new(),
            scratch: None,
            spilled: 0,
        }
    }
}

impl<B: Backend> Batches<B> {
    /// Adds a batch.
    ///
    /// # Errors
    /// Neither the room nor the scratch file has a place for it.
    pub(super) fn push(&mut self, backend: &B, room: &Room, x: B::Tensor) -> Result<()> {
        let extent = backend.extent(&x);
        // On a device `x` is in use already.
        let fits = backend.free_bytes().is_none_or(|free| free >= room.left_on_device());
        if let Some(place) = fits.then(|| room.reserve(extent.bytes as u64)).flatten() {
            let tensor = Some(x);
            self.batches.push(Batch::Kept { tensor, _place: place });
            return Ok(());
        }
        if self.scratch.is_none() {
            self.scratch = Some(room.scratch()?);
        }
        let (start, dim) = (self.spilled, (extent.rows, extent.columns));
        self.batches.push(Batch::Spilled { start, dim });
        self.store(backend, self.batches.len() - 1, x)?;
        self.spilled += extent.rows * extent.columns;
        Ok(())
    }

    /// Calls `work` with every batch and its index, in order, so that it can change the batch.
    ///
    /// # Errors
    /// `work` fails, or a batch cannot be moved.
    pub(super) fn change(
        &mut self,
        backend: &B,
        mut work: impl FnMut(usize, &mut B::Tensor) -> Result<()>,
    ) -> Result<()> {
        for index in 0..self.batches.len() {
            let mut x = match &mut self.batches[index] {
                Batch::Kept { tensor, .. } => tensor.take().expect("a batch that was taken is brought back"),
                Batch::Spilled { .. } => self.read(backend, index)?,
            };
            work(index, &mut x)?;
            self.store(backend, index, x)?;
        }
        Ok(())
    }

    /// Calls `look` with every batch, in order.
    ///
    /// # Errors
    /// `look` fails, or a batch cannot be moved.
    pub(super) fn each(&self, backend: &B, mut look: impl FnMut(&B::Tensor) -> Result<()>) -> Result<()> {
        (0..self.batches.len()).try_for_each(|index| self.with(backend, index, &mut look))
    }

    /// Calls `look` with one batch.
    ///
    /// # Errors
    /// `look` fails, or the batch cannot be moved.
    pub(super) fn with<R>(&self, backend: &B, index: usize, look: impl FnOnce(&B::Tensor) -> Result<R>) -> Result<R> {
        match &self.batches[index] {
            Batch::Kept { tensor, .. } => look(tensor.as_ref().expect("a batch that was taken is brought back")),
            Batch::Spilled { .. } => look(&self.read(backend, index)?),
        }
    }

    fn store(&mut self, backend: &B, index: usize, x: B::Tensor) -> Result<()> {
        match &mut self.batches[index] {
            Batch::Kept { tensor, .. } => *tensor = Some(x),
            Batch::Spilled { start, .. } => {
                let start = *start;
                let host = backend.download(&x)?;
                let values = host
                    .as_slice()
                    .expect("what a backend hands out is row-major and contiguous");
                self.file().put(start, values)?;
            }
        }
        Ok(())
    }

    /// Reads a batch from the scratch file and uploads it.
    fn read(&self, backend: &B, index: usize) -> Result<B::Tensor> {
        let Batch::Spilled { start, dim } = self.batches[index] else {
            panic!("batch {index} is in memory");
        };
        let values = self.file().get(start, dim.0 * dim.1)?;
        backend.take(Array2::from_shape_vec(dim, values).expect("as many as were written"))
    }

    fn file(&self) -> &ScratchFile {
        self.scratch.as_ref().expect("a spilled batch has a file")
    }
}

/// The best number of tokens to move through a block at a time.
pub(super) fn batch_tokens<B: Backend>(backend: &B, spec: &ModelSpec) -> usize {
    let linears = spec.kinds().flat_map(|(block, _)| &block.linears);
    let outputs = linears.map(|linear| linear.outputs);
    backend.batch_tokens(outputs.max().unwrap_or(0).max(spec.width))
}
