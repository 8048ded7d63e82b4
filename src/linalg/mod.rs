//! Factorisations, in `f64`, behind one function each and two providers: faer (always there) and,
//! with the feature `lapack`, LAPACK through ndarray-linalg.
//!
//! A factorisation that fails says at which pivot; it never returns something else in its place.

#[cfg(feature = "lapack")]
mod lapack;
mod provider;
mod pure;

use ndarray::{Array2, ArrayView2};
pub use provider::{Provider, SolveFailure};

/// The upper triangular `U` with `H^-1 = U^T U`, for a symmetric positive definite `H`; only the lower triangle of
/// `H` is read. `U[j][j]^2` is the leading entry of the inverse of `H[j.., j..]`, which SparseGPT needs. `H` is
/// passed by value so that no more than two matrices of its size exist at a time.
///
/// # Errors
/// The pivot at which `H` turned out not to be positive definite.
pub fn inverse_factor(provider: Provider, h: Array2<f64>) -> Result<Array2<f64>, SolveFailure> {
    match provider {
        Provider::Faer => pure::inverse_factor(h),
        #[cfg(feature = "lapack")]
        Provider::Lapack => lapack::inverse_factor(h.view()),
        #[cfg(not(feature = "lapack"))]
        Provider::Lapack => Err(SolveFailure::ProviderMissing(provider)),
    }
}

/// The solution `X` of `A X = B` for a symmetric positive definite `A`, of which only the lower triangle is read.
///
/// # Errors
/// The pivot at which `A` turned out not to be positive definite.
pub fn solve(a: Array2<f64>, b: ArrayView2<f64>) -> Result<Array2<f64>, SolveFailure> {
    pure::solve(a, b)
}

/// The singular values of `A` in descending order, with a left singular vector of each as a column: the eigenvectors of `A A^T`. Vectors
/// of singular values below `1e-8` of the largest are only orthogonal to the others. In each the entry of largest size is positive.
///
/// # Errors
/// The eigenvalues are not found, which no finite matrix is known to cause.
pub fn left_singular(a: ArrayView2<f64>) -> Result<(Vec<f64>, Array2<f64>), SolveFailure> {
    pure::left_singular(a)
}

/// The squares of the singular values of a matrix, in ascending order: the eigenvalues of its product with its own transpose, on the
/// shorter side. Those far below the largest are known to `1e-15` of it, and may come out negative.
///
/// # Errors
/// The eigenvalues are not found, which no finite matrix is known to cause.
pub fn squared_singular_values(a: ArrayView2<f32>) -> Result<Vec<f64>, SolveFailure> {
    pure::squared_singular_values(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// A random symmetric positive definite matrix with condition number of some thousands.
    fn positive_definite(n: usize, seed: u64) -> Array2<f64> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let x = Array2::from_shape_fn((2 * n, n), |(_, column)| {
            (random.random::<f64>() - 0.5) * (1.0 + 10.0 * (column as f64 / n as f64))
        });
        x.t().dot(&x) + Array2::<f64>::eye(n) * 0.01
    }

    fn providers() -> Vec<Provider> {
        [Provider::Faer, Provider::Lapack]
            .into_iter()
            .filter(|provider| provider.available())
            .collect()
    }

    #[test]
    fn the_factor_inverts_the_matrix() {
        for provider in providers() {
            for n in [1, 2, 17, 64, 130] {
                let h = positive_definite(n, n as u64);
                let u = inverse_factor(provider, h.clone()).expect("positive definite");
                let product = u.t().dot(&u).dot(&h);
                let error = (&product - &Array2::<f64>::eye(n))
                    .mapv(f64::abs)
                    .into_iter()
                    .fold(0.0, f64::max);
                assert!(error < 1e-8, "{provider:?}, n = {n}: U^T U H differs from I by {error}");
                let below = u
                    .indexed_iter()
                    .filter(|((i, j), _)| i > j)
                    .all(|(_, value)| *value == 0.0);
                assert!(below, "{provider:?}: U has entries below the diagonal");
            }
        }
    }

    #[test]
    fn only_the_lower_triangle_is_read() {
        for provider in providers() {
            let h = positive_definite(20, 5);
            let mut lower = h.clone();
            for ((i, j), value) in lower.indexed_iter_mut() {
                if j > i {
                    *value = f64::NAN;
                }
            }
            let full = inverse_factor(provider, h.clone()).expect("positive definite");
            assert_eq!(
                inverse_factor(provider, lower.clone()).expect("positive definite"),
                full
            );
        }
    }

    #[test]
    fn squared_singular_values_are_those_of_a_rotated_diagonal() {
        // A rotation of two columns changes none of them.
        let (cos, sin) = (0.6f32, 0.8f32);
        let wide = ndarray::array![[3.0 * cos, 3.0 * sin, 0.0], [-2.0 * sin, 2.0 * cos, 0.0]];
        for matrix in [wide.view(), wide.t()] {
            let found = squared_singular_values(matrix).expect("converges");
            assert!(
                (found[0] - 4.0).abs() < 1e-5 && (found[1] - 9.0).abs() < 1e-5,
                "{found:?}"
            );
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn systems_are_solved_from_the_lower_triangle() {
        for n in [1, 2, 17, 130] {
            let a = positive_definite(n, 3 + n as u64);
            let x = Array2::from_shape_fn((n, 3), |(row, column)| (row as f64 + 1.0) * 0.1 - column as f64);
            let mut lower = a.clone();
            for ((i, j), value) in lower.indexed_iter_mut() {
                if j > i {
                    *value = f64::NAN;
                }
            }
            let found = solve(lower, a.dot(&x).view()).expect("positive definite");
            let error = (&found - &x).mapv(f64::abs).into_iter().fold(0.0, f64::max);
            assert!(error < 1e-8, "n = {n}: {error}");
        }
        let indefinite = ndarray::array![[1.0, 2.0], [2.0, 1.0]];
        let failure = solve(indefinite, ndarray::array![[1.0], [1.0]].view()).expect_err("indefinite");
        assert_eq!(failure, SolveFailure::NotPositiveDefinite { pivot: 1 });
    }

    #[test]
    fn left_singular_vectors_are_orthogonal_and_diagonalise() {
        for (rows, columns) in [(1, 1), (5, 3), (12, 40), (60, 60)] {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(rows as u64);
            let a = Array2::from_shape_fn((rows, columns), |_| random.random::<f64>() - 0.5);
            let (values, vectors) = left_singular(a.view()).expect("converges");
            assert_eq!((values.len(), vectors.dim()), (rows, (rows, rows)));
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "{values:?}");
            let turned = vectors.t().dot(&a);
            let (gram, unit) = (turned.dot(&turned.t()), vectors.t().dot(&vectors));
            for i in 0..rows {
                for j in 0..rows {
                    let want = if i == j { values[i] * values[i] } else { 0.0 };
                    assert!((gram[[i, j]] - want).abs() < 1e-10, "{rows} x {columns}");
                    assert!((unit[[i, j]] - f64::from(u8::from(i == j))).abs() < 1e-10);
                }
                let column = vectors.column(i);
                let largest = column.iter().fold(
                    0.0f64,
                    |most, value| if value.abs() > most.abs() { *value } else { most },
                );
                assert!(largest > 0.0, "{column}");
            }
        }
    }

    #[test]
    fn an_indefinite_matrix_is_refused_with_its_pivot() {
        for provider in providers() {
            let mut h = Array2::<f64>::eye(6);
            h[[3, 3]] = -1.0;
            let failure = inverse_factor(provider, h.clone()).expect_err("indefinite");
            assert_eq!(failure, SolveFailure::NotPositiveDefinite { pivot: 3 }, "{provider:?}");
        }
    }

    #[cfg(feature = "lapack")]
    #[test]
    fn faer_agrees_with_lapack() {
        for n in [5, 48, 200] {
            let h = positive_definite(n, 7 + n as u64);
            let ours = inverse_factor(Provider::Faer, h.clone()).expect("positive definite");
            let oracle = inverse_factor(Provider::Lapack, h.clone()).expect("positive definite");
            let scale = oracle.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            let error = (&ours - &oracle).mapv(f64::abs).into_iter().fold(0.0, f64::max);
            assert!(error < 1e-9 * scale, "n = {n}: {error}");
        }
    }
}
