//! FISTAPruner (Zhao and others, "A Convex-optimization-based Layer-wise Post-training Pruner for Large Language Models", EMNLP
//! 2025, arXiv 2408.03728; no code is public): sparse weights by an L1 penalty, rounded to the pattern.
//!
//! A round takes `steps` steps of FISTA from the best weights so far on
//! `1/2 ||(V - W) X||^2 + λ Σ|V|`, with step 1 / L for the largest eigenvalue `L` of the Gram matrix:
//!
//! ```text
//! V' = soft(Y - (Y - W) G / L, λ / L);   Y = V' + (t - 1) / t' (V' - V);   t' = (1 + sqrt(1 + 4 t^2)) / 2
//! ```
//!
//! then keeps the largest weights that the target allows. Weights whose error is smaller than the best by more than
//! [`Fista::gain`] become the best. If rounding made up more than [`Fista::share`] of the error, λ was too small and is raised,
//! else lowered, by bisection of its logarithm between 1e-8 and 1 of `max |W G|`, the smallest λ under which all weights are
//! 0. It ends after `patience` rounds in a row without a gain.
//!
//! With the dense model's output as the goal, `(Y - W) G` becomes `Y G - W C` for the cross-Gram matrix `C`.
//!
//! The first best weights are those of the start: the criterion's mask on the dense weights, or what the solver `start` leaves.
//!
//! The paper does not say how λ starts, in which group weights are compared, nor how the share is computed; the choices
//! here, with what they are based on, stand in `docs/methods/fista.md`. The paper compares magnitudes (`round = "magnitude"`); by
//! default weights are compared as they count in the output, times the norm of their input.

use super::least_squares::LeastSquares;
use super::normal_equations::{kept, weight};
use super::start::Start;
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::Result;
use crate::prune::limits::Limits;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{Group, Pattern, Selection, Target};
use crate::prune::range::within;
use crate::prune::values::Values;
use crate::prune::workbench::{LayerView, Matrices, Workpiece};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// The FISTA solver.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fista {
    /// What weights are compared by when they are rounded to the pattern.
    pub round: Rounding,
    /// Steps of FISTA in a round.
    pub steps: usize,
    /// Most rounds.
    pub rounds: usize,
    /// Rounds without a gain, one after the other, after which it ends.
    pub patience: usize,
    /// The error must become smaller by more than this fraction to count as a gain.
    pub gain: f64,
    /// The share of the error that rounding may make up before λ is raised.
    pub share: f64,
    /// λ of the first round, as a fraction of the smallest λ that makes all weights 0.
    pub lambda: f64,
    /// Whether the weights are computed by least squares on the final mask.
    pub refit: bool,
    /// A solver that runs first, whose mask and weights are the first best ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// What weights are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// `|v|`, as in the paper.
    Magnitude,
    /// `|v|` times the norm of the input.
    Wanda,
}

impl Default for Fista {
    fn default() -> Self {
        Fista {
            round: Rounding::Wanda,
            steps: 20,
            rounds: 30,
            patience: 3,
            gain: 1e-3,
            share: 0.3,
            lambda: 1e-4,
            refit: false,
            start: None,
        }
    }
}

/// Where λ is looked for, as fractions of the smallest λ that makes all weights 0.
const LEAST_LAMBDA: f64 = 1e-8;

impl Solver for Fista {
    fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("steps", self.steps),
            ("rounds", self.rounds),
            ("patience", self.patience),
        ] {
            within(name, value as f64, 1.0..=1e4)?;
        }
        within("gain", self.gain, 0.0..=1.0)?;
        within("share", self.share, 0.0..=1.0)?;
        within("lambda", self.lambda, LEAST_LAMBDA..=1.0)
    }

    fn needs(&self) -> Needs {
        let start = self.start.as_ref().map(|start| start.solver().needs());
        let own = Needs {
            goal_gram: true,
            ..Needs::GRAM
        };
        own.and(start.unwrap_or(Needs::NOTHING))
    }

    fn damping(&self) -> f64 {
        self.start.as_ref().map_or(DAMPING, |start| start.solver().damping())
    }

    fn updates(&self) -> bool {
        true
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        // The Gram matrix; the old weights, the best and their slope, four of FISTA and two masks.
        let own = 4 * 9 * weights + 4 * inputs.pow(2);
        let start = self
            .start
            .as_ref()
            .map_or(0, |start| start.solver().room(weights, inputs));
        own.max(4 * weights + start)
    }

    fn products(&self) -> usize {
        self.rounds * (self.steps + 1)
    }

    fn follows(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().follows())
    }

    fn rescores(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().rescores())
    }

    fn replaces_mask(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.solver().replaces_mask())
    }

    fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        match &self.start {
            Some(start) => start.solver().check(pattern, limits),
            None => Ok(()),
        }
    }

    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        let old = piece.weight()?;
        if let Some(start) = &self.start {
            start.solver().solve(piece, follow, target)?;
        }
        let (best, mask) = self.search(piece, &old, target)?;
        piece.keep(&mask)?;
        if self.refit {
            piece.set_weight(&old)?;
            return LeastSquares::default().solve(piece, None, target);
        }
        let dim = piece.dim();
        let new = Values::over([&old, &best, &mask], |[old, best, kept]| (old + best) * kept);
        piece.set_weight(&piece.map(dim, &new)?)?;
        Ok(None)
    }
}

impl Fista {
    /// The best pruned weights, as their difference from the old ones, and their mask.
    fn search(&self, layer: &dyn LayerView, old: &Matrix, target: &Target) -> Result<(Matrix, Matrix)> {
        let dim = layer.dim();
        let aim = Aim::new(layer, old)?;
        let norms = layer.squared_norms()?;
        let norms: Vec<f32> = norms.iter().map(|square| square.sqrt() as f32).collect();
        let norms = layer.matrix(ArrayView2::from_shape((1, dim.1), &norms).expect("one norm per input"))?;
        let curvature = largest_eigenvalue(layer, &aim.gram)?;
        let scale = largest_magnitude(layer, &layer.product(old, &layer.cross()?)?)?;
        let start = Values::over([old], |[old]| weight() * kept() - old);
        let mut best = layer.map(dim, &start)?;
        let mut mask = layer.kept()?;
        let (mut slope, mut least) = aim.error(layer, &best)?;
        if curvature <= 0.0 || scale <= 0.0 {
            return Ok((best, mask));
        }
        let (mut below, mut above, mut lambda) = (LEAST_LAMBDA, 1.0, self.lambda);
        let mut idle = 0;
        for _ in 0..self.rounds {
            let shrunk = self.descend(layer, (old, &best, &slope), &aim, (curvature, lambda * scale))?;
            let (_, before) = aim.error(layer, &shrunk)?;
            let key = match self.round {
                Rounding::Magnitude => Values::over([old, &shrunk], |[old, shrunk]| (old + shrunk).abs()),
                Rounding::Wanda => Values::over([old, &shrunk, &norms], |[old, shrunk, norms]| {
                    (old + shrunk).abs() * norms
                }),
            };
            let chosen = layer.choose(&key, target)?;
            let rounded = Values::over([old, &shrunk, &chosen], |[old, shrunk, kept]| {
                (old.clone() + shrunk) * kept - old
            });
            let rounded = layer.map(dim, &rounded)?;
            drop(shrunk);
            let (next_slope, after) = aim.error(layer, &rounded)?;
            if after < least * (1.0 - self.gain) {
                (best, mask, slope, least) = (rounded, chosen, next_slope, after);
                idle = 0;
            } else {
                idle += 1;
                if idle == self.patience {
                    break;
                }
            }
            if after - before > self.share * after {
                below = lambda;
            } else {
                above = lambda;
            }
            lambda = (below * above).sqrt();
        }
        Ok((best, mask))
    }

    /// A round of FISTA from weights and the slope of the error there. Weights stand as their difference from the old ones.
    fn descend(
        &self,
        layer: &dyn LayerView,
        (old, from, slope): (&Matrix, &Matrix, &Matrix),
        aim: &Aim,
        (curvature, lambda): (f64, f64),
    ) -> Result<Matrix> {
        let dim = layer.dim();
        let threshold = lambda / curvature;
        let (mut at, mut ahead, mut slope) = (from.clone(), from.clone(), slope.clone());
        let mut momentum = 1.0f64;
        for step in 1..=self.steps {
            let stepped = Values::over([old, &ahead, &slope], |[old, ahead, slope]| {
                let free = old.clone() + (ahead - slope * (1.0 / curvature));
                free.clone().sign() * (free.abs() - threshold).maximum(0.0) - old
            });
            let next = layer.map(dim, &stepped)?;
            if step == self.steps {
                return Ok(next);
            }
            let larger = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
            let weight = (momentum - 1.0) / larger;
            momentum = larger;
            let extrapolated = Values::over([&next, &at], |[next, at]| next.clone() + weight * (next - at));
            ahead = layer.map(dim, &extrapolated)?;
            at = next;
            slope = aim.add_offset(layer, layer.rough_product(&ahead, &aim.gram)?)?;
        }
        Ok(at)
    }
}

/// What new weights are held against: the output that is aimed at.
struct Aim {
    gram: Matrix,
    /// `W (G - C)` and the square of the error at the old weights, if the goal has inputs of its own.
    offset: Option<(Matrix, f64)>,
}

impl Aim {
    fn new(layer: &dyn LayerView, old: &Matrix) -> Result<Self> {
        let (gram, cross) = (layer.gram()?, layer.cross()?);
        if gram.is(&cross) {
            return Ok(Aim { gram, offset: None });
        }
        let goal = layer.goal_gram()?;
        // `W (G - C)`, and `tr(W (G - 2 C + D) W^T)` with the goal's own Gram matrix `D`; the inputs are nearly alike, so
        // differences are taken first.
        let apart = Values::over([&gram, &cross], |[gram, cross]| gram - cross);
        let offset = layer.product(old, &layer.map(gram.dim(), &apart)?)?;
        let apart = Values::over([&gram, &cross, &goal], |[gram, cross, goal]| {
            (gram - cross.clone()) - (cross - goal)
        });
        let form = layer.product(old, &layer.map(gram.dim(), &apart)?)?;
        let square = layer.total(layer.dim(), &Values::over([old, &form], |[old, form]| old * form))?;
        Ok(Aim {
            gram,
            offset: Some((offset, square)),
        })
    }

    /// The slope of the error from `D G`, for a difference `D` from the old weights.
    fn add_offset(&self, layer: &dyn LayerView, slope: Matrix) -> Result<Matrix> {
        match &self.offset {
            None => Ok(slope),
            Some((offset, _)) => {
                let sum = Values::over([&slope, offset], |[slope, offset]| slope + offset);
                layer.map(layer.dim(), &sum)
            }
        }
    }

    /// The slope at a difference `D` from the old weights, and the root of the error of the layer's output, `tr(D G D^T)` where
    /// the old weights have none.
    fn error(&self, layer: &dyn LayerView, difference: &Matrix) -> Result<(Matrix, f64)> {
        let slope = self.add_offset(layer, layer.product(difference, &self.gram)?)?;
        let (form, square) = match &self.offset {
            None => (
                Values::over([difference, &slope], |[difference, slope]| difference * slope),
                0.0,
            ),
            Some((offset, square)) => {
                let form = Values::over([difference, &slope, offset], |[difference, slope, offset]| {
                    difference * (slope + offset)
                });
                (form, *square)
            }
        };
        let error = (layer.total(layer.dim(), &form)? + square).max(0.0).sqrt();
        Ok((slope, error))
    }
}

/// The largest magnitude in a matrix of the layer's size.
fn largest_magnitude(layer: &dyn LayerView, values: &Matrix) -> Result<f64> {
    let dim = layer.dim();
    let all = (dim.0 * dim.1) as f64;
    let magnitude = || Values::over([values], |[value]| value.abs());
    let but_one = Target {
        pattern: Pattern::Unstructured {
            sparsity: (all - 0.5) / all,
        },
        group: Group::Matrix,
        selection: Selection::Exact,
    };
    let one = layer.choose(&magnitude(), &but_one)?;
    layer.total(dim, &Values::over([values, &one], |[value, kept]| value.abs() * kept))
}

/// Most steps of Lanczos' method.
const LANCZOS: usize = 64;

/// The largest eigenvalue of a symmetric matrix whose eigenvalues are not negative, by Lanczos' method with full
/// orthogonalisation. The matrix is multiplied where it is; vectors are on the host.
///
/// # Errors
/// The backend fails.
fn largest_eigenvalue(matrices: &dyn Matrices, of: &Matrix) -> Result<f64> {
    let size = of.dim().0;
    // Any vector that is not orthogonal to the eigenvector will do: this one is like no other one.
    let mut vector: Vec<f64> = (0..size)
        .map(|place| 1.0 + (place as f64 * 0.754_877_666).fract())
        .collect();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut largest = 0.0;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for _ in 0..LANCZOS.min(size) {
        let length = dot(&vector, &vector).sqrt();
        if length <= f64::EPSILON * largest {
            break;
        }
        if !basis.is_empty() {
            beside.push(length);
        }
        vector.iter_mut().for_each(|value| *value /= length);
        let single = Array2::from_shape_fn((1, size), |(_, place)| vector[place] as f32);
        let image = matrices.read(&matrices.product(&matrices.matrix(single.view())?, of)?)?;
        let mut image: Vec<f64> = image.iter().map(|value| f64::from(*value)).collect();
        diagonal.push(dot(&image, &vector));
        basis.push(std::mem::take(&mut vector));
        for known in &basis {
            let part = dot(&image, known);
            image
                .iter_mut()
                .zip(known)
                .for_each(|(value, known)| *value -= part * known);
        }
        vector = image;
        let before = largest;
        largest = largest_of_tridiagonal(&diagonal, &beside);
        // Values of the matrix have about seven digits.
        if largest - before <= 1e-7 * largest {
            break;
        }
    }
    Ok(largest)
}

/// The largest eigenvalue of a symmetric tridiagonal matrix, by bisection with Sturm's counts.
fn largest_of_tridiagonal(diagonal: &[f64], beside: &[f64]) -> f64 {
    let next_to = |place: usize| {
        let left = if place > 0 { beside[place - 1].abs() } else { 0.0 };
        left + beside.get(place).map_or(0.0, |value| value.abs())
    };
    let bound = |sign: f64| (0..diagonal.len()).map(move |place| diagonal[place] + sign * next_to(place));
    let mut below = bound(-1.0).fold(f64::INFINITY, f64::min);
    let mut above = bound(1.0).fold(f64::NEG_INFINITY, f64::max);
    for _ in 0..100 {
        let middle = 0.5 * (below + above);
        // All pivots of T - middle I are negative exactly if all eigenvalues are below the middle.
        let mut pivot = 1.0;
        let all_below = (0..diagonal.len()).all(|place| {
            let coupling = if place > 0 {
                beside[place - 1].powi(2) / pivot
            } else {
                0.0
            };
            pivot = diagonal[place] - middle - coupling;
            pivot < 0.0
        });
        if all_below {
            above = middle;
        } else {
            below = middle;
        }
    }
    0.5 * (below + above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::moments::Moments;
    use crate::calibrate::statistics::LayerStatistics;
    use crate::linalg::Provider;
    use crate::prune::formula::Formula;
    use crate::prune::workbench::Workbench;
    use crate::tensor::StorageType;
    use ndarray::array;

    fn with_gram(gram: &Array2<f64>, weight: &Array2<f32>, test: impl FnOnce(&dyn Workpiece)) {
        let mut moments = Moments::new(gram.nrows(), Needs::GRAM);
        moments.squares = gram.diag().to_vec();
        moments.gram = Some(gram.to_shared());
        let statistics = LayerStatistics::new(&moments, 1, Provider::Faer);
        let mut weight = weight.clone();
        test(Cpu.workpiece(&mut weight, StorageType::F32, &statistics).as_ref());
    }

    #[test]
    fn a_penalty_shrinks_weights_as_its_conditions_say() {
        // With both weights positive, V G - W G + λ = 0 gives V = W - λ 1 G^-1.
        let (gram, weight) = (array![[2.0, 1.0], [1.0, 2.0]], array![[1.0f32, 0.5]]);
        with_gram(&gram, &weight, |piece| {
            let old = piece.weight().expect("room");
            let none = piece.map((1, 2), &Values::from(Formula::Number(0.0))).expect("room");
            let solver = Fista {
                steps: 300,
                ..Fista::default()
            };
            let aim = Aim::new(piece, &old).expect("room");
            let curvature = largest_eigenvalue(piece, &aim.gram).expect("computes");
            assert!((curvature - 3.0).abs() < 1e-6, "{curvature}");
            let got = solver
                .descend(piece, (&old, &none, &none), &aim, (curvature, 0.6))
                .expect("room");
            let got = piece.read(&got).expect("there") + &weight;
            assert!(
                (&got - &array![[0.8f32, 0.3]]).iter().all(|off| off.abs() < 1e-5),
                "{got}"
            );
            // From 0, the smallest penalty under which all weights are 0 leaves them 0.
            let dropped = piece.map((1, 2), &Values::over([&old], |[old]| -old)).expect("room");
            let (slope, _) = aim.error(piece, &dropped).expect("computes");
            let most = largest_magnitude(piece, &piece.product(&old, &aim.gram).expect("fits")).expect("usable");
            assert_eq!(most, 2.5);
            let got = solver
                .descend(piece, (&old, &dropped, &slope), &aim, (curvature, most))
                .expect("room");
            assert_eq!(piece.read(&got).expect("there") + &weight, array![[0.0, 0.0]]);
        });
    }

    #[test]
    fn the_largest_eigenvalue_is_found_among_many() {
        // Q D Q with a reflection Q: eigenvalues 1, 2, ... 60, and 61.5.
        let size = 61;
        let axis: Vec<f64> = (0..size).map(|place| ((place * place + 3) as f64).sin()).collect();
        let square: f64 = axis.iter().map(|value| value * value).sum();
        let reflect = Array2::from_shape_fn((size, size), |(i, j)| {
            f64::from(u8::from(i == j)) - 2.0 * axis[i] * axis[j] / square
        });
        let values = Array2::from_shape_fn((size, size), |(i, j)| match (i == j, i) {
            (false, _) => 0.0,
            (true, 60) => 61.5,
            (true, place) => place as f64 + 1.0,
        });
        let gram = reflect.dot(&values).dot(&reflect);
        with_gram(&gram, &Array2::ones((1, size)), |piece| {
            let found = largest_eigenvalue(piece, &piece.gram().expect("gathered")).expect("computes");
            assert!((found - 61.5).abs() < 1e-3, "{found}");
        });
    }
}
