//! Handles of matrices in a workbench's memory.

use crate::error::{Error, Result};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A matrix in a workbench's memory. It never changes; every computation makes a new one.
#[derive(Clone)]
pub struct Matrix {
    dim: (usize, usize),
    there: Arc<dyn Any + Send + Sync>,
}

impl Matrix {
    /// A matrix of shape `dim` (rows, columns), held in the workbench's own type.
    pub(in crate::prune) fn new<T: Any + Send + Sync>(dim: (usize, usize), there: T) -> Self {
        Matrix {
            dim,
            there: Arc::new(there),
        }
    }

    /// Number of rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        self.dim
    }

    /// A matrix whose memory others hold, too.
    pub(in crate::prune) fn shared<T: Any + Send + Sync>(dim: (usize, usize), there: Arc<T>) -> Self {
        Matrix { dim, there }
    }

    /// A matrix that is in the workbench's memory already, in its own type.
    pub(in crate::prune) fn known(dim: (usize, usize), there: Arc<dyn Any + Send + Sync>) -> Self {
        Matrix { dim, there }
    }

    /// The matrix itself, if nobody else holds it.
    ///
    /// # Errors
    /// It is on another workbench, or somebody else holds it, too.
    #[cfg(feature = "gpu")]
    pub(in crate::prune) fn into_there<T: Any + Send + Sync>(self) -> Result<T> {
        let there = self.there.downcast().ok().and_then(Arc::into_inner);
        there
            .ok_or_else(|| Error::numeric("a matrix of another workbench, or one that is shared, cannot be taken over"))
    }

    /// Whether both are the same memory.
    pub fn is(&self, other: &Matrix) -> bool {
        Arc::ptr_eq(&self.there, &other.there)
    }

    /// The matrix in the type of the workbench that made it.
    ///
    /// # Errors
    /// It is on another workbench.
    pub(in crate::prune) fn there<T: Any>(&self) -> Result<&T> {
        let there = self.there.downcast_ref();
        there.ok_or_else(|| Error::numeric("a matrix of another workbench was given to this one"))
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} x {})", self.dim.0, self.dim.1)
    }
}
