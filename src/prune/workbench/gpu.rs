//! Pruning on the GPU: weights, scores, masks and updates stay on the device; what criteria ask for comes
//! back as vectors, and at the end the mask, as bits.
//!
//! The inverse factor is computed on the device too, once per tap, and shared by the tap's layers.

mod masks;
mod ended;
mod matrices;
mod moves;
mod order;
mod piece;
mod ranking;
mod reports;
mod selection;
mod statistics;
mod sums;
mod update;
mod variables;
mod swap;
mod written;

use super::{
    Concluded, Concluding, Ending, Factored, Finished, Grams, LayerView, Matrices, Workbench, Workpiece, of_features,
};
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, NUMBERS, VECTORS};
use crate::backend::gpu::shader;
use crate::backend::gpu::{DeviceMoments, Element, Gpu, Tensor, Weight};
use crate::calibrate::statistics::{DAMPING, Factoring, Means, not_gathered};
use crate::calibrate::variables::InputChange;
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::limits::Limits;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Target};
use crate::prune::values::{Operand, Over, Values};
use crate::tensor::StorageType;
use ended::all_concluded;
use matrices::{fits, handle};
use piece::Piece;
use reports::Reports;
use statistics::Statistics;
use std::sync::{Arc, OnceLock};
use written::MATRICES;

impl Workbench for Gpu {
    type Statistics = Statistics;

    fn statistics(
        &self,
        moments: &DeviceMoments,
        sequences: usize,
        factoring: impl Into<Factoring>,
    ) -> Result<Statistics> {
        let found = self.read_squares(moments)?;
        found.check_finite()?;
        Ok(Statistics {
            sequences,
            damping: factoring.into().damping,
            squared_norms: Some(found.squares.iter().map(|sum| sum / sequences as f64).collect()),
            means: found.sums.as_ref().map(|sums| Means::new(&found.squares, sums)),
            goal_means: None,
            gram: moments.gram.clone(),
            cross: moments.cross.clone(),
            goal: moments.goal.clone(),
            full: OnceLock::new(),
            factor: OnceLock::new(),
        })
    }

    fn with_goal(&self, statistics: Statistics, goal: &DeviceMoments) -> Result<Statistics> {
        let found = self.read_squares(goal)?;
        let sums = found.sums.as_ref().ok_or_else(|| not_gathered("sums"))?;
        Ok(Statistics {
            goal_means: Some(sums.means()),
            ..statistics
        })
    }

    fn no_statistics(&self) -> Statistics {
        Statistics {
            sequences: 1,
            damping: DAMPING,
            squared_norms: None,
            means: None,
            goal_means: None,
            gram: None,
            cross: None,
            goal: None,
            full: OnceLock::new(),
            factor: OnceLock::new(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            updated_group: COLUMN_BLOCK,
            constants: NUMBERS,
            vectors: VECTORS,
            matrices: MATRICES,
            followed_matrices: 0,
        }
    }

    fn concluded(&self, pieces: Vec<(Concluding, &Weight)>) -> Result<Vec<Result<Concluded>>> {
        all_concluded(self, pieces)
    }

    fn workpiece<'a>(
        &'a self,
        Weight(weight): &'a mut Weight,
        storage: StorageType,
        statistics: &'a Statistics,
    ) -> Box<dyn Workpiece + 'a> {
        Box::new(Piece {
            gpu: self,
            weight,
            working: None,
            mask: None,
            reports: Reports::default(),
            storage,
            statistics,
            changed: None,
            order: None,
        })
    }
}

impl Piece<'_> {
    /// A sum of products divided by the number of sequences; without one the inputs' own.
    fn products(&self, sum: &Option<Arc<Tensor>>) -> Result<Matrix> {
        let Some(sum) = sum else {
            return self.gram();
        };
        let sum = Matrix::shared((sum.rows, sum.columns), sum.clone());
        let scale = 1.0 / self.statistics().sequences as f64;
        self.map(sum.dim(), &Values::over([&sum], |[sum]| sum * scale))
    }

    /// Runs a kernel of `weigh.wgsl` over the weights.
    fn weigh(&self, entry: &'static str, counts: Option<&Memory>, groups: [u32; 3]) -> Result<()> {
        let (rows, columns) = self.size();
        let storage = match self.storage {
            StorageType::F32 => 0,
            StorageType::F16 => 1,
            StorageType::BF16 => 2,
        };
        let device = self.gpu.hardware();
        // Bindings that an entry point does not use still need something of the right kind bound, and
        // nothing may be bound for writing twice.
        let spare = [device.allocate(4)?, device.allocate(4)?];
        let wide = self.working.as_ref().filter(|_| entry == "widen" || entry == "narrow");
        // Weights are removed where they will be read from; all other kernels use both places.
        let weight = if entry == "remove" {
            self.current()
        } else {
            &*self.weight
        };
        let kernel = Kernel::new(shader::WEIGH, entry)
            .with_type("W", weight.element.name())
            .with_type("S", "f32");
        let parameters = parameters::Weigh {
            rows: rows as u32,
            columns: columns as u32,
            words: self.words() as u32,
            storage,
        };
        let bound = [
            write(&weight.memory),
            write(counts.unwrap_or(&spare[0])),
            read(self.mask.as_ref().map_or(device.nothing(), |mask| mask)),
            write(wide.map_or(&spare[1], |wide| &wide.memory)),
        ];
        device.run(&kernel, &parameters, &bound, groups)
    }
}

impl LayerView for Piece<'_> {
    fn dim(&self) -> (usize, usize) {
        self.size()
    }

    fn order(&self) -> Option<&[usize]> {
        self.order.as_deref()
    }

    fn squared_norms(&self) -> Result<&[f64]> {
        self.statistics().squared_norms()
    }

    fn means(&self) -> Result<&Means> {
        let means = self.statistics().means.as_ref();
        means.ok_or_else(|| not_gathered("means"))
    }

    fn goal_means(&self) -> Result<&[f64]> {
        match &self.statistics().goal_means {
            Some(means) => Ok(means),
            None => Ok(&self.means()?.mean),
        }
    }

    fn weight(&self) -> Result<Matrix> {
        self.map(self.size(), &Values::from(Formula::Leaf(Operand::Weight)))
    }

    fn kept(&self) -> Result<Matrix> {
        self.map(self.size(), &Values::from(Formula::Leaf(Operand::Kept)))
    }

    fn gram(&self) -> Result<Matrix> {
        let gram = self
            .statistics()
            .full
            .get_or_init(|| self.statistics().full_gram(self.gpu));
        let gram = gram.as_ref().map_err(Error::clone)?;
        Ok(Matrix::shared((gram.rows, gram.columns), gram.clone()))
    }

    fn cross(&self) -> Result<Matrix> {
        self.products(&self.statistics().cross)
    }

    fn goal_gram(&self) -> Result<Matrix> {
        let Statistics { cross, goal, .. } = self.statistics();
        match cross.is_some() && goal.is_none() {
            true => Err(not_gathered("Gram matrix of the dense model's inputs")),
            false => self.products(goal),
        }
    }

    fn centred(&self) -> Result<Grams> {
        let (gram, cross, means) = (self.gram()?, self.cross()?, self.means()?);
        let root = means.length.sqrt();
        let scaled = |means: &[f64]| means.iter().map(|mean| (mean * root) as f32).collect();
        let less = |sum: &Matrix, goal: &[f64]| {
            let product = || Formula::Leaf(Operand::Row(0)) * Formula::Leaf(Operand::Column(1));
            let mut values = Values::over([sum], |[sum]| sum - product());
            values.vectors = vec![scaled(&means.mean), scaled(goal)];
            self.map(sum.dim(), &values)
        };
        let centred = less(&gram, &means.mean)?;
        Ok(Grams {
            cross: match gram.is(&cross) {
                true => centred.clone(),
                false => less(&cross, self.goal_means()?)?,
            },
            gram: centred,
        })
    }

    fn choose(&self, score: &Values, target: &Target) -> Result<Matrix> {
        let mask = self.chosen(score, target, self.report(&self.reports.unusable)?)?;
        masks::unpacked(self.gpu, &mask, self.size()).map(handle)
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        let factor = self.statistics().inverse_factor(self.gpu)?;
        let pivots = factor.pivots.iter().zip(&factor.dead);
        Ok(pivots
            .map(|(pivot, dead)| (!dead).then_some(f64::from(*pivot)))
            .collect())
    }

    fn factored(&self) -> Result<Factored> {
        let factor = self.statistics().inverse_factor(self.gpu)?;
        let upper = &factor.upper;
        Ok(Factored {
            upper: Matrix::shared((upper.rows, upper.columns), upper.clone()),
            dead: factor.dead.clone(),
            damping: factor.damping,
        })
    }

    fn sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>> {
        self.all_sums(wanted)
    }
}

impl Workpiece for Piece<'_> {
    fn select(&mut self, score: &Values, target: &Target) -> Result<()> {
        // What an earlier selection found is not forgotten.
        if self.reports.unchecked.is_some() {
            self.bring(&[])?;
        }
        let unusable = self.cleared(1)?;
        let mask = self.chosen(score, target, &unusable)?;
        self.mask = Some(Arc::new(mask));
        // Matrices are as large as the layer and would have to stay until the end.
        if score.matrices.is_empty() {
            self.reports.unchecked = Some((unusable, score.clone()));
            return Ok(());
        }
        self.reports.unchecked = None;
        self.check_scores(&unusable, score)
    }

    fn check_ranking(&mut self, score: &Values, target: &Target, given_by: &str) -> Result<()> {
        self.compare(score, target, given_by)
    }

    fn keep(&mut self, kept: &Matrix) -> Result<()> {
        let (rows, columns) = self.size();
        fits(kept.dim(), (rows, columns))?;
        let mask = self.cleared(rows * self.words())?;
        masks::packed(self.gpu, kept.there()?, &mask)?;
        self.mask = Some(Arc::new(mask));
        Ok(())
    }

    fn set_weight(&mut self, weight: &Matrix) -> Result<()> {
        fits(weight.dim(), self.size())?;
        let there: &Tensor = weight.there()?;
        if self.weight.element == Element::F32 {
            let bytes = (there.rows * there.columns * 4) as u64;
            return self.gpu.hardware().copy(&there.memory, (&self.weight.memory, 0), bytes);
        }
        // Written back, rounded, when the piece is finished.
        let (rows, columns) = self.size();
        let working = self.gpu.tensor(rows, columns, Element::F32)?;
        let bytes = (rows * columns * 4) as u64;
        self.gpu.hardware().copy(&there.memory, (&working.memory, 0), bytes)?;
        self.working = Some(working);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.weigh("remove", None, self.each())
    }

    fn finish(&mut self) -> Result<Finished> {
        self.ended(None)?.finished(self.gpu, self.weight)
    }

    fn conclude(&mut self, target: &Target) -> Result<Concluding> {
        Ok(Concluding(Ending::There(Box::new(self.ended(Some(target))?))))
    }

    fn reorder(&mut self, order: &[usize]) -> Result<()> {
        self.reorder_columns(order)
    }

    fn change_inputs(&mut self, change: &InputChange) -> Result<()> {
        of_features(change, self.size().1)?;
        self.change_variables(change)
    }

    fn reconstruct(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64> {
        self.update(follow, target)
    }
}
