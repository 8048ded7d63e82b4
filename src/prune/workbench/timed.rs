//! What pruning asks of a workbench, timed.

use super::{Finished, LayerView, WeightSums, Workbench, Workpiece};
use crate::backend::Backend;
use crate::backend::timed::Timed;
use crate::error::Result;
use crate::linalg::Provider;
use crate::prune::pattern::Target;
use crate::prune::score::Score;
use crate::tensor::StorageType;

impl<B: Workbench> Workbench for Timed<'_, B> {
    type Statistics = B::Statistics;

    fn statistics(&self, moments: &Self::Moments, sequences: usize, provider: Provider) -> Result<B::Statistics> {
        self.time("statistics", 0.0, 0, |inner| {
            inner.statistics(&moments.0, sequences, provider)
        })
    }

    fn no_statistics(&self, inputs: usize) -> B::Statistics {
        self.inner().no_statistics(inputs)
    }

    fn workpiece<'a>(
        &'a self,
        weight: &'a mut B::Tensor,
        storage: StorageType,
        statistics: &'a B::Statistics,
    ) -> Box<dyn Workpiece + 'a> {
        let bytes = self.extent(weight).bytes;
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
    /// Of the weights.
    bytes: usize,
    inner: Box<dyn Workpiece + 'a>,
}

impl<B: Backend> LayerView for TimedPiece<'_, B> {
    fn dim(&self) -> (usize, usize) {
        self.inner.dim()
    }

    fn squared_norms(&self) -> &[f64] {
        self.inner.squared_norms()
    }

    fn sums(&self) -> Result<WeightSums> {
        self.bench.time("score: sums", 0.0, self.bytes, |_| self.inner.sums())
    }

    fn count_below(&self, bound: f64) -> Result<usize> {
        self.bench
            .time("score: count below", 0.0, self.bytes, |_| self.inner.count_below(bound))
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        self.factor()?;
        self.inner.pivots()
    }
}

impl<B> TimedPiece<'_, B>
where
    B: Backend,
{
    /// The factor of the inverse, which the first of a tap's layers to ask for it makes.
    fn factor(&self) -> Result<()> {
        self.bench.time("factor", 0.0, 0, |_| self.inner.pivots()).map(drop)
    }
}

impl<B: Backend> Workpiece for TimedPiece<'_, B> {
    fn select(&mut self, score: &Score, target: &Target) -> Result<()> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("score and select", 0.0, bytes, |_| self.inner.select(score, target))
    }

    fn remove(&mut self) -> Result<()> {
        let (bench, bytes) = (self.bench, self.bytes);
        bench.time("remove", 0.0, 2 * bytes, |_| self.inner.remove())
    }

    fn reconstruct(&mut self, follow: Option<&Score>, target: &Target) -> Result<f64> {
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
}
