//! What pruning asks of a workbench, timed.

use super::{
    Concluded, Concluding, Factored, Finished, Grams, LayerView, Matrices, Swapped, Swapping, Workbench, Workpiece,
};
use crate::backend::Backend;
use crate::backend::timed::Timed;
use crate::calibrate::statistics::{Factoring, Means};
use crate::calibrate::variables::InputChange;
use crate::error::Result;
use crate::prune::limits::Limits;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::Target;
use crate::prune::values::{Over, Values};
use crate::tensor::StorageType;
use ndarray::{Array2, ArrayView2};

impl<B: Workbench> Workbench for Timed<'_, B> {
    type Statistics = B::Statistics;

    fn statistics(
        &self,
        moments: &Self::Moments,
        sequences: usize,
        factoring: impl Into<Factoring>,
    ) -> Result<B::Statistics> {
        self.time("statistics", 0.0, 0, |inner| {
            inner.statistics(&moments.0, sequences, factoring)
        })
    }

    fn with_goal(&self, statistics: B::Statistics, goal: &Self::Moments) -> Result<B::Statistics> {
        self.time("statistics", 0.0, 0, |inner| inner.with_goal(statistics, &goal.0))
    }

    fn no_statistics(&self) -> B::Statistics {
        self.inner().no_statistics()
    }

    fn concluded(&self, pieces: Vec<(Concluding, &B::Weight)>) -> Result<Vec<Result<Concluded>>> {
        self.time("checks", 0.0, 0, |inner| inner.concluded(pieces))
    }

    fn limits(&self) -> Limits {
        self.inner().limits()
    }

    fn workpiece<'a>(
        &'a self,
        weight: &'a mut B::Weight,
        storage: StorageType,
        statistics: &'a B::Statistics,
    ) -> Box<dyn Workpiece + 'a> {
        let bytes = self.weight_extent(weight).bytes;
        let inner = self.inner().workpiece(weight, storage, statistics);
        Box::new(TimedPiece {
            bench: self,
            bytes,
            inner,
        })
    }
}

struct TimedPiece<'a, B> {
    bench: &'a Timed<'a, B>,
    /// Number of bytes of the weights.
    bytes: usize,
    inner: Box<dyn Workpiece + 'a>,
}

impl<B: Backend> Matrices for TimedPiece<'_, B> {
    fn matrix(&self, host: ArrayView2<f32>) -> Result<Matrix> {
        self.bench
            .time("matrix", 0.0, 4 * host.len(), |_| self.inner.matrix(host))
    }

    fn read(&self, matrix: &Matrix) -> Result<Array2<f32>> {
        self.bench.time("read", 0.0, size(matrix), |_| self.inner.read(matrix))
    }

    fn map(&self, dim: (usize, usize), values: &Values) -> Result<Matrix> {
        let bytes = 4 * dim.0 * dim.1 + values.matrices.iter().map(size).sum::<usize>();
        self.bench.time("map", 0.0, bytes, |_| self.inner.map(dim, values))
    }

    fn reduce(&self, dim: (usize, usize), over: Over, values: &Values) -> Result<Matrix> {
        let bytes = values.matrices.iter().map(size).sum();
        self.bench
            .time("reduce", 0.0, bytes, |_| self.inner.reduce(dim, over, values))
    }

    fn total(&self, dim: (usize, usize), values: &Values) -> Result<f64> {
        let bytes = values.matrices.iter().map(size).sum();
        self.bench.time("total", 0.0, bytes, |_| self.inner.total(dim, values))
    }

    fn asks_at(&self, step: usize) -> bool {
        self.inner.asks_at(step)
    }

    fn product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        let flops = 2.0 * a.dim().0 as f64 * a.dim().1 as f64 * b.dim().0 as f64;
        self.bench
            .time("product", flops, size(a) + size(b), |_| self.inner.product(a, b))
    }

    fn rough_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        let flops = 2.0 * a.dim().0 as f64 * a.dim().1 as f64 * b.dim().0 as f64;
        self.bench.time("rough product", flops, size(a) + size(b), |_| {
            self.inner.rough_product(a, b)
        })
    }

    fn sparse_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        // How many operations it takes depends on the zeros.
        self.bench.time("sparse product", 0.0, size(a) + size(b), |_| {
            self.inner.sparse_product(a, b)
        })
    }

    fn transpose(&self, a: &Matrix) -> Result<Matrix> {
        self.bench
            .time("transpose", 0.0, 2 * size(a), |_| self.inner.transpose(a))
    }

    fn gather(&self, a: &Matrix, places: &Matrix) -> Result<Matrix> {
        let bytes = 3 * size(places);
        self.bench.time("gather", 0.0, bytes, |_| self.inner.gather(a, places))
    }

    fn scatter(&self, a: &Matrix, places: &Matrix, columns: usize) -> Result<Matrix> {
        let bytes = 3 * size(a);
        self.bench
            .time("scatter", 0.0, bytes, |_| self.inner.scatter(a, places, columns))
    }

    fn inverse_factor(&self, gram: &Matrix, damping: f64) -> Result<Matrix> {
        self.bench
            .time("factor", 0.0, 0, |_| self.inner.inverse_factor(gram, damping))
    }

    fn lowest(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<Matrix> {
        let bytes = 4 * dim.0 * dim.1 + values.matrices.iter().map(size).sum::<usize>();
        self.bench
            .time("lowest", 0.0, bytes, |_| self.inner.lowest(dim, values, count))
    }

    fn extremes(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<[Matrix; 2]> {
        let bytes = 4 * dim.0 * dim.1 + values.matrices.iter().map(size).sum::<usize>();
        self.bench
            .time("extremes", 0.0, bytes, |_| self.inner.extremes(dim, values, count))
    }

    fn swap(&self, a: &Matrix, kept: &Matrix, gram: &Matrix, swapping: Swapping) -> Result<Swapped> {
        // The product of the removed entries with G; how many swaps follow is not known before.
        let flops = 2.0 * a.dim().0 as f64 * a.dim().1 as f64 * a.dim().1 as f64;
        let bytes = 2 * size(a) + size(gram);
        self.bench
            .time("swap", flops, bytes, |_| self.inner.swap(a, kept, gram, swapping))
    }

    fn solve(&self, factor: &Matrix, b: &Matrix) -> Result<Matrix> {
        let flops = 2.0 * b.dim().0 as f64 * b.dim().1 as f64 * b.dim().1 as f64;
        let bytes = size(factor) + size(b);
        self.bench.time("solve", flops, bytes, |_| self.inner.solve(factor, b))
    }

    fn solve_free(&self, matrix: &Matrix, free: &Matrix, b: &Matrix) -> Result<Option<Matrix>> {
        // How many operations it takes depends on how many unknowns are free.
        let bytes = size(matrix) + 2 * size(b);
        self.bench
            .time("solve free", 0.0, bytes, |_| self.inner.solve_free(matrix, free, b))
    }
}

/// Number of bytes of a matrix.
fn size(matrix: &Matrix) -> usize {
    4 * matrix.dim().0 * matrix.dim().1
}

impl<B: Backend> LayerView for TimedPiece<'_, B> {
    fn dim(&self) -> (usize, usize) {
        self.inner.dim()
    }

    fn order(&self) -> Option<&[usize]> {
        self.inner.order()
    }

    fn squared_norms(&self) -> Result<&[f64]> {
        self.inner.squared_norms()
    }

    fn means(&self) -> Result<&Means> {
        self.inner.means()
    }

    fn goal_means(&self) -> Result<&[f64]> {
        self.inner.goal_means()
    }

    fn weight(&self) -> Result<Matrix> {
        let bytes = 2 * self.bytes;
        self.bench.time("copy", 0.0, bytes, |_| self.inner.weight())
    }

    fn kept(&self) -> Result<Matrix> {
        self.bench.time("copy", 0.0, self.bytes, |_| self.inner.kept())
    }

    fn gram(&self) -> Result<Matrix> {
        self.bench.time("Gram matrix", 0.0, 0, |_| self.inner.gram())
    }

    fn cross(&self) -> Result<Matrix> {
        self.bench.time("Gram matrix", 0.0, 0, |_| self.inner.cross())
    }

    fn centred(&self) -> Result<Grams> {
        self.bench.time("Gram matrix", 0.0, 0, |_| self.inner.centred())
    }

    fn goal_gram(&self) -> Result<Matrix> {
        self.bench.time("Gram matrix", 0.0, 0, |_| self.inner.goal_gram())
    }

    fn choose(&self, score: &Values, target: &Target) -> Result<Matrix> {
        let bytes = 2 * self.bytes;
        self.bench
            .time("score and select", 0.0, bytes, |_| self.inner.choose(score, target))
    }

    fn sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>> {
        self.bench
            .time("score: sums", 0.0, self.bytes, |_| self.inner.sums(wanted))
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        self.factor()?;
        self.inner.pivots()
    }

    fn factored(&self) -> Result<Factored> {
        self.factor()?;
        self.bench.time("copy", 0.0, 0, |_| self.inner.factored())
    }
}

impl<B> TimedPiece<'_, B>
where
    B: Backend,
{
    /// Computes the factor of the inverse if no layer of the tap has asked for it yet, so that its time is counted
    /// separately.
    fn factor(&self) -> Result<()> {
        self.bench.time("factor", 0.0, 0, |_| self.inner.pivots()).map(drop)
    }
}

impl<B: Backend> Workpiece for TimedPiece<'_, B> {
    fn select(&mut self, score: &Values, target: &Target) -> Result<()> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("score and select", 0.0, bytes, |_| self.inner.select(score, target))
    }

    fn check_ranking(&mut self, score: &Values, target: &Target, given_by: &str) -> Result<()> {
        // It looks at a few scores only, unless they are the same.
        let bench = self.bench;
        bench.time("score and select", 0.0, 0, |_| {
            self.inner.check_ranking(score, target, given_by)
        })
    }

    fn reorder(&mut self, order: &[usize]) -> Result<()> {
        let (bench, bytes) = (self.bench, 2 * self.bytes);
        bench.time("reorder", 0.0, bytes, |_| self.inner.reorder(order))
    }

    fn change_inputs(&mut self, change: &InputChange) -> Result<()> {
        let bench = self.bench;
        bench.time("change of variables", 0.0, 0, |_| self.inner.change_inputs(change))
    }

    fn keep(&mut self, kept: &Matrix) -> Result<()> {
        let bench = self.bench;
        bench.time("copy", 0.0, size(kept), |_| self.inner.keep(kept))
    }

    fn set_weight(&mut self, weight: &Matrix) -> Result<()> {
        let bench = self.bench;
        bench.time("copy", 0.0, 2 * size(weight), |_| self.inner.set_weight(weight))
    }

    fn remove(&mut self) -> Result<()> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("remove", 0.0, 2 * bytes, |_| self.inner.remove())
    }

    fn reconstruct(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64> {
        self.factor()?;
        let (bench, bytes) = (self.bench, self.bytes);
        let (rows, columns) = self.dim();
        let flops = rows as f64 * columns as f64 * columns as f64;
        bench.time("update", flops, 2 * bytes, |_| self.inner.reconstruct(follow, target))
    }

    fn finish(&mut self) -> Result<Finished> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("finish", 0.0, 2 * bytes, |_| self.inner.finish())
    }

    fn conclude(&mut self, target: &Target) -> Result<Concluding> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("finish", 0.0, 2 * bytes, |_| self.inner.conclude(target))
    }
}
