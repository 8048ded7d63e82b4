//! A layer's normal equations in inputs of equal size, and conjugate gradients on them.
//!
//! New weights `V` of a layer are to give on its inputs what was aimed at, which the old weights `W` give on the inputs of
//! the goal. With the Gram matrix `G` of the inputs, the cross-Gram matrix `C` (equal to `G` unless the goal has inputs of
//! its own) and a diagonal `D` of damping, the best `V` solves
//!
//! ```text
//! V (G + D) = W (C + D)
//! ```
//!
//! on the weights that are kept. Damping stands on both sides: it keeps `V` close to `W`. Inputs differ in size by factors
//! of thousands, so everything is divided by a size `n_j` of every input: the unknowns are `V N`, the matrix is
//! `N^-1 (G + D) N^-1` and the goal `W (C + D) N^-1`. With `n_j^2 = G_jj + D_jj` the matrix has ones on its diagonal,
//! and plain conjugate gradients are those with Jacobi's preconditioner.

use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::{Grams, LayerView};
use ndarray::ArrayView2;

/// The layer's weight, as it is when the formula is evaluated.
pub fn weight() -> Formula<Operand> {
    Formula::Leaf(Operand::Weight)
}

/// 1 where the layer's mask keeps a weight, else 0.
pub fn kept() -> Formula<Operand> {
    Formula::Leaf(Operand::Kept)
}

/// The least damping, as a fraction of the mean diagonal. In single precision the Gram matrix of fewer tokens than inputs has
/// eigenvalues below 0, along which weights would grow without end.
pub const LEAST_DAMPING: f64 = 1e-6;

/// The products of a layer's inputs, of these as they are or of what is left of them without their means (`centred`).
///
/// # Errors
/// No Gram matrix was gathered, or no means, or there is no room.
pub fn grams(layer: &dyn LayerView, centred: bool) -> Result<Grams> {
    match centred {
        true => layer.centred(),
        false => Ok(Grams {
            gram: layer.gram()?,
            cross: layer.cross()?,
        }),
    }
}

/// Normal equations for unknowns `V N`.
pub struct NormalEquations {
    /// The sizes `n_j` of the inputs: one row.
    pub sizes: Matrix,
    /// `N^-1 (G + D) N^-1`, symmetric.
    pub matrix: Matrix,
    /// The old weights as unknowns, `W N`.
    pub old: Matrix,
    /// `W (C + D) N^-1`, with a row per output.
    pub goal: Matrix,
    /// `W (C - G) N^-1`, where `C` is not `G`.
    offset: Option<Matrix>,
}

impl NormalEquations {
    /// The equations of a layer whose weights are still the old ones. `sizes` are those of the inputs, none of them 0;
    /// `damping` is the diagonal `D`.
    ///
    /// # Errors
    /// No Gram matrix was gathered, or there is no room.
    pub fn new(layer: &dyn LayerView, sizes: &[f64], damping: &[f64]) -> Result<Self> {
        NormalEquations::of(layer, grams(layer, false)?, sizes, damping)
    }

    /// The same, in whatever the products of the inputs are.
    fn of(layer: &dyn LayerView, grams: Grams, sizes: &[f64], damping: &[f64]) -> Result<Self> {
        let dim = layer.dim();
        let inputs = dim.1;
        let single = |values: &[f64]| -> Vec<f32> { values.iter().map(|value| *value as f32).collect() };
        let (sizes, damping) = (single(sizes), single(damping));
        let Grams { gram, cross } = grams;
        let column = |index| Formula::Leaf(Operand::Column(index));
        let mut matrix = Values::over([&gram], |[g]| {
            (g + column(0) * Formula::Leaf(Operand::Identity)) / (column(1) * Formula::Leaf(Operand::Row(1)))
        });
        matrix.vectors = vec![damping, sizes];
        let sizes = &matrix.vectors[1];
        let sizes = layer.matrix(ArrayView2::from_shape((1, inputs), sizes).expect("one size per input"))?;
        let matrix = layer.map((inputs, inputs), &matrix)?;
        let old = layer.map(dim, &Values::over([&sizes], |[sizes]| weight() * sizes))?;
        let mut goal = layer.product(&old, &matrix)?;
        let mut offset = None;
        if !gram.is(&cross) {
            let now = layer.weight()?;
            let (here, there) = (layer.product(&now, &gram)?, layer.product(&now, &cross)?);
            let apart = Values::over([&here, &there, &sizes], |[here, there, sizes]| (there - here) / sizes);
            let apart = layer.map(dim, &apart)?;
            goal = layer.map(dim, &Values::over([&goal, &apart], |[goal, apart]| goal + apart))?;
            offset = Some(apart);
        }
        Ok(NormalEquations {
            sizes,
            matrix,
            old,
            goal,
            offset,
        })
    }

    /// The equations damped by a fraction of the Gram matrix' mean diagonal, with ones on the diagonal; those of inputs less their
    /// means, if they are to be `centred`.
    ///
    /// # Errors
    /// As [`NormalEquations::new`]; and no means were gathered.
    pub fn damped(layer: &dyn LayerView, fraction: f64, centred: bool) -> Result<Self> {
        let mut squares = layer.squared_norms()?.to_vec();
        if centred {
            let means = layer.means()?;
            let less = squares.iter_mut().zip(&means.mean);
            // Rounding may leave less than nothing of an input that never changes.
            less.for_each(|(square, mean)| *square = (*square - means.length * mean * mean).max(0.0));
        }
        let damping = fraction.max(LEAST_DAMPING) * squares.iter().sum::<f64>() / squares.len() as f64;
        // An input that was never active has no size; its weights have no influence.
        let size = |square: &f64| match square + damping {
            0.0 => 1.0,
            square => square.sqrt(),
        };
        let sizes: Vec<f64> = squares.iter().map(size).collect();
        NormalEquations::of(layer, grams(layer, centred)?, &sizes, &vec![damping; sizes.len()])
    }

    /// Unknowns as weights.
    ///
    /// # Errors
    /// There is no room.
    pub fn weights(&self, layer: &dyn LayerView, unknowns: &Matrix) -> Result<Matrix> {
        let values = Values::over([unknowns, &self.sizes], |[unknowns, sizes]| unknowns / sizes);
        layer.map(layer.dim(), &values)
    }

    /// What the equations of the weights that the layer's mask keeps still lack, for unknowns that are smaller than the old ones
    /// by `less`; 0 elsewhere. A difference is given, since single precision keeps more digits of it than of unknowns.
    ///
    /// # Errors
    /// There is no room.
    pub fn residual(&self, layer: &dyn LayerView, less: &Matrix) -> Result<Matrix> {
        let lacking = layer.product(less, &self.matrix)?;
        let values = match &self.offset {
            None => Values::over([&lacking], |[lacking]| lacking * kept()),
            Some(offset) => Values::over([&lacking, offset], |[lacking, offset]| (lacking + offset) * kept()),
        };
        layer.map(layer.dim(), &values)
    }

    /// Conjugate gradients over the weights that the layer's mask keeps, see [`descend`].
    ///
    /// # Errors
    /// There is no room.
    pub fn descend(
        &self,
        layer: &dyn LayerView,
        start: (Matrix, Matrix),
        steps: usize,
        bounds: &Matrix,
    ) -> Result<(Matrix, usize)> {
        descend(layer, &self.matrix, Free::Kept, start, steps, bounds)
    }
}

/// Which unknowns may change.
#[derive(Clone, Copy)]
pub enum Free<'a> {
    /// Those of the weights that the layer's mask keeps.
    Kept,
    /// Those with 1 in a matrix of ones and zeros.
    Ones(&'a Matrix),
}

/// What is divided by is at least this: residuals that have become 0 have no direction any more.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// Conjugate gradients for all rows of unknowns `X` at once, on `X M = B` in the unknowns that are free: at most `steps` steps from
/// unknowns `from` with this residual, which is 0 elsewhere. A row stops when its squared residual is not above its entry of
/// `bounds` (one column). Returns the new unknowns, and how many steps it took.
///
/// # Errors
/// There is no room.
pub fn descend(
    layer: &dyn LayerView,
    matrix: &Matrix,
    free: Free,
    (from, residual): (Matrix, Matrix),
    steps: usize,
    bounds: &Matrix,
) -> Result<(Matrix, usize)> {
    let dim = residual.dim();
    let one = (dim.0, 1);
    let squares = |of: &Matrix| layer.reduce(dim, Over::Row, &Values::over([of], |[of]| of.square()));
    let (mut at, mut residual) = (from, residual);
    let mut direction = residual.clone();
    let mut left = squares(&residual)?;
    for step in 0..steps {
        // More steps leave an output that is solved as it is.
        if layer.asks_at(step) {
            let unsolved = Values::over([bounds, &left], |[bound, left]| bound.below(left));
            if layer.total(one, &unsolved)? == 0.0 {
                return Ok((at, step));
            }
        }
        let pull = layer.product(&direction, matrix)?;
        let pull = match free {
            Free::Kept => pull,
            Free::Ones(free) => layer.map(dim, &Values::over([&pull, free], |[pull, free]| pull * free))?,
        };
        let along = Values::over([&direction, &pull], |[direction, pull]| direction * pull);
        let along = layer.reduce(dim, Over::Row, &along)?;
        let length = Values::over([&left, &along, bounds], |[left, along, bound]| {
            left.clone() * along.maximum(TINY).inverse() * bound.below(left)
        });
        let length = layer.map(one, &length)?;
        let moved = Values::over([&at, &length, &direction], |[at, length, direction]| {
            at + length * direction
        });
        at = layer.map(dim, &moved)?;
        let remaining = Values::over([&residual, &length, &pull], |[residual, length, pull]| {
            let remaining = residual - length * pull;
            match free {
                Free::Kept => remaining * kept(),
                Free::Ones(_) => remaining,
            }
        });
        residual = layer.map(dim, &remaining)?;
        let now = squares(&residual)?;
        let ratio = Values::over([&now, &left], |[now, left]| now * left.maximum(TINY).inverse());
        let ratio = layer.map(one, &ratio)?;
        let next = Values::over([&residual, &ratio, &direction], |[residual, ratio, direction]| {
            residual + ratio * direction
        });
        direction = layer.map(dim, &next)?;
        left = now;
    }
    Ok((at, steps))
}
