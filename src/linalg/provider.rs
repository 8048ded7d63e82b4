//! The libraries that factorise, and why a matrix could not be factorised.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The library that factorises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The crate faer: pure Rust.
    #[default]
    Faer,
    /// The LAPACK of the system; needs the feature `lapack`.
    Lapack,
}

impl Provider {
    /// Whether this build contains the provider.
    pub fn available(self) -> bool {
        match self {
            Provider::Faer => true,
            Provider::Lapack => cfg!(feature = "lapack"),
        }
    }
}

/// Why a matrix could not be factorised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolveFailure {
    /// A pivot was not positive, so the matrix is not positive definite.
    NotPositiveDefinite {
        /// Index of the pivot's row and column in the matrix as given, if the provider tells.
        pivot: usize,
    },
    /// The eigenvalues were not found after very many steps.
    NoConvergence,
    /// The provider is not part of this build.
    ProviderMissing(Provider),
}

impl fmt::Display for SolveFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SolveFailure::NotPositiveDefinite { pivot } => {
                write!(f, "the Hessian is not positive definite (pivot {pivot})")
            }
            SolveFailure::NoConvergence => write!(f, "the search for eigenvalues does not converge"),
            SolveFailure::ProviderMissing(provider) => write!(
                f,
                "linear algebra provider {provider:?} is not part of this build (cargo feature `lapack`)"
            ),
        }
    }
}

impl std::error::Error for SolveFailure {}
