//! Pruning on the GPU: weights, scores, masks and updates stay on the device; what criteria ask for comes
//! back as vectors, and at the end the mask, as bits.
//!
//! The inverse factor is computed on the device too, once per tap, and shared by the tap's layers.

mod matrices;
mod written;

use super::cpu::score_of;
use super::{Finished, LayerView, Matrices, Workbench, Workpiece, inverse, reordered};
use crate::backend::Backend;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES, NUMBERS, SUM_ROWS, TIED, TIED_ROWS, TOGETHER, VECTORS};
use crate::backend::gpu::shader;
use crate::backend::gpu::{DeviceFactor, DeviceMoments, Element, Gpu, Tensor, Weight, grid};
use crate::calibrate::statistics::{DAMPING, Diagonal, Factoring, Means, damped, not_gathered};
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::limits::Limits;
use crate::prune::mask::PackedMask;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target, removed};
use crate::prune::values::{Operand, Over, Values};
use crate::tensor::StorageType;
use ndarray::Array2;
use std::sync::{Arc, OnceLock};
use written::{MATRICES, Written, fit};

/// Number of formulas that one kernel can add up: one per component of a vector.
const SUMMED: usize = 4;

/// Most workgroups of a kernel that goes over a matrix in strides; enough for the largest devices.
const WALKERS: usize = 1024;

/// Statistics of the inputs at one tap: vectors on the host, matrices on the device.
pub struct Statistics {
    sequences: usize,
    /// What is added to the Hessian's diagonal before it is factorised, as a fraction of its mean.
    damping: f64,
    squared_norms: Option<Vec<f64>>,
    means: Option<Means>,
    gram: Option<Arc<Memory>>,
    /// The sum of products with the dense model's inputs.
    cross: Option<Arc<Tensor>>,
    /// The Gram matrix with both triangles, divided by the number of sequences.
    full: OnceLock<std::result::Result<Arc<Tensor>, Error>>,
    factor: OnceLock<std::result::Result<Factor, Error>>,
}

/// The factor of a damped inverse Hessian, on the device.
struct Factor {
    there: DeviceFactor,
    damping: f64,
    dead: Vec<bool>,
}

impl Statistics {
    /// The factor of the damped inverse Hessian; computed at the first call.
    fn inverse_factor(&self, gpu: &Gpu) -> Result<&Factor> {
        let factor = self.factor.get_or_init(|| self.factorise(gpu));
        factor.as_ref().map_err(Error::clone)
    }

    fn full_gram(&self, gpu: &Gpu) -> Result<Arc<Tensor>> {
        let gram = self.gram.as_ref().ok_or_else(|| not_gathered("Gram matrix"))?;
        let inputs = self.squared_norms()?.len();
        matrices::symmetric(gpu, gram, inputs, 1.0 / self.sequences as f64).map(Arc::new)
    }

    fn squared_norms(&self) -> Result<&[f64]> {
        self.squared_norms
            .as_deref()
            .ok_or_else(|| not_gathered("sums of squares"))
    }

    fn factorise(&self, gpu: &Gpu) -> Result<Factor> {
        let gram = self.gram.as_ref().ok_or_else(|| not_gathered("Gram matrix"))?;
        // The Hessian is 2 / sequences times the Gram matrix, whose diagonal is the sums of squares.
        let norms = self.squared_norms()?;
        let diagonal = Diagonal::new(norms.iter().map(|norm| 2.0 * norm).collect());
        let scale = 2.0 / self.sequences as f64;
        let inputs = norms.len();
        let (there, damping) = damped(self.damping, |damping| {
            gpu.inverse_factor(gram, inputs, scale, damping * diagonal.mean)
        })?;
        let dead = diagonal.dead;
        Ok(Factor { there, damping, dead })
    }
}

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
            gram: moments.gram.clone(),
            cross: moments.cross.clone(),
            full: OnceLock::new(),
            factor: OnceLock::new(),
        })
    }

    fn no_statistics(&self) -> Statistics {
        Statistics {
            sequences: 1,
            damping: DAMPING,
            squared_norms: None,
            means: None,
            gram: None,
            cross: None,
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
            misplaced: OnceLock::new(),
            storage,
            statistics,
            reordered: None,
            order: None,
        })
    }
}

/// A layer that is being pruned on the device.
struct Piece<'a> {
    gpu: &'a Gpu,
    weight: &'a mut Tensor,
    /// A copy of the weights in single precision, which is used while weights in half precision are updated.
    working: Option<Tensor>,
    /// The mask as bits, row after row, each row beginning with a new word: bit `j mod 32` of word `j / 32` is set if
    /// column `j` is removed.
    mask: Option<Arc<Memory>>,
    /// What kernels reported about places that name no column: `misplaced` of `moves.wgsl`. There from the first use on.
    misplaced: OnceLock<Memory>,
    storage: StorageType,
    statistics: &'a Statistics,
    /// The statistics in the present order of the columns, if it is not their own.
    reordered: Option<Statistics>,
    /// The order of the columns, if it is not their own.
    order: Option<Vec<usize>>,
}

impl Piece<'_> {
    fn size(&self) -> (usize, usize) {
        (self.weight.rows, self.weight.columns)
    }

    /// The statistics of the columns in their present order.
    fn statistics(&self) -> &Statistics {
        self.reordered.as_ref().unwrap_or(self.statistics)
    }

    /// Puts the columns of the weights and of the mask into another order.
    fn move_columns(&mut self, places: &Matrix) -> Result<()> {
        let weight = self.gather(&self.weight()?, places)?;
        self.set_weight(&weight)?;
        if self.mask.is_some() {
            let kept = self.gather(&self.kept()?, places)?;
            self.keep(&kept)?;
        }
        Ok(())
    }

    /// An order of columns as places for [`Matrices::gather`].
    fn places(&self, order: &[usize]) -> Result<Matrix> {
        self.matrix(Array2::from_shape_fn((1, order.len()), |(_, column)| order[column] as f32).view())
    }

    fn words(&self) -> usize {
        self.weight.columns.div_ceil(32)
    }

    fn current(&self) -> &Tensor {
        self.working.as_ref().unwrap_or(self.weight)
    }

    /// The first bytes of each of these buffers, copied to the host together, since every way back waits for the device.
    /// All results of a piece come through here.
    ///
    /// # Errors
    /// A place that was given to `gather` or `scatter` before is wrong, or the device fails.
    fn bring(&self, parts: &[(&Memory, u64)]) -> Result<Vec<Vec<u8>>> {
        let Some(misplaced) = self.misplaced.get() else {
            return self.gpu.hardware().download_all(parts);
        };
        let mut parts = parts.to_vec();
        parts.push((misplaced, 4));
        let mut brought = self.gpu.hardware().download_all(&parts)?;
        let reported = brought.pop().expect("one copy of each buffer");
        match bytemuck::pod_read_unaligned::<u32>(&reported) {
            0 => Ok(brought),
            reported => {
                let entry = u32::MAX - reported;
                Err(Error::numeric(format!(
                    "entry {entry} of the places for a gather or scatter, counted row after row, is neither negative nor the \
                     number of a column"
                )))
            }
        }
    }

    /// Where kernels report places that are wrong.
    fn misplaced(&self) -> Result<&Memory> {
        if self.misplaced.get().is_none() {
            let _ = self.misplaced.set(self.cleared(1)?);
        }
        Ok(self.misplaced.get().expect("it was just made"))
    }

    fn values(&self, memory: &Memory, count: usize) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.bring(&[(memory, 4 * count as u64)])?[0]))
    }

    fn words_of(&self, memory: &Memory, count: usize) -> Result<Vec<u32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.bring(&[(memory, 4 * count as u64)])?[0]))
    }

    fn cleared(&self, words: usize) -> Result<Memory> {
        let memory = self.gpu.hardware().allocate((words * 4) as u64)?;
        self.gpu.hardware().clear(&memory)?;
        Ok(memory)
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

    /// Runs a kernel of `sums.wgsl`: sums of up to four formulas over a matrix of `dim`. The result has the sums of
    /// each row, or of each column in each group of [`SUM_ROWS`] rows.
    fn add_up(&self, dim: (usize, usize), over: Over, formulas: &[&Values], into: &Memory) -> Result<()> {
        let (rows, columns) = dim;
        let device = self.gpu.hardware();
        let written = Written::new(self.gpu, formulas, dim)?;
        let mut parts = written.expressions.clone();
        parts.resize(SUMMED, "0.0".to_string());
        let (entry, groups) = match over {
            Over::Row => ("row_sums", grid(rows)),
            _ => (
                "column_sums",
                [columns.div_ceil(64) as u32, rows.div_ceil(SUM_ROWS) as u32, 1],
            ),
        };
        let weight = if written.reads_weight {
            "f32(weights[place])"
        } else {
            "0.0"
        };
        let kernel = Kernel::new(shader::SUMS, entry)
            .with_type("W", self.current().element.name())
            .with_constant("COUNT", formulas.len() as u32)
            .with_function("values", format!("vec4({})", parts.join(", ")))
            .with_function("weight_at", weight.to_string());
        let parameters = parameters::Sums {
            formula: written.parameters,
            rows: rows as u32,
            columns: columns as u32,
            words: columns.div_ceil(32) as u32,
        };
        let nothing = device.nothing();
        let mask = self.mask_for(&written)?;
        let weights = if written.reads_weight {
            &self.current().memory
        } else {
            nothing
        };
        let mask = read(mask.as_ref().map_or(nothing, |mask| mask));
        let mut bound = vec![read(weights), read(&written.factors), write(into), mask];
        bound.extend(written.bound(nothing));
        device.run(&kernel, &parameters, &bound, groups)
    }

    /// Sums of up to four formulas over the weights, copied to the host.
    fn added(&self, over: Over, formulas: &[&Values]) -> Result<Vec<Vec<f64>>> {
        let (rows, columns) = self.size();
        let count = formulas.len();
        let (pieces, length) = match over {
            Over::Row => (1, rows),
            _ => (rows.div_ceil(SUM_ROWS), columns),
        };
        let sums = self.gpu.hardware().allocate((count * pieces * length * 4) as u64)?;
        self.add_up((rows, columns), over, formulas, &sums)?;
        let sums = self.values(&sums, count * pieces * length)?;
        let of = |which: usize, place: usize| {
            let parts = (0..pieces).map(|piece| f64::from(sums[count * (piece * length + place) + which]));
            parts.sum()
        };
        Ok((0..count)
            .map(|which| (0..length).map(|place| of(which, place)).collect())
            .collect())
    }

    /// The mask, if the formulas use it and there is one; without a mask all weights are kept.
    fn mask_for(&self, written: &Written) -> Result<Option<Arc<Memory>>> {
        match (&self.mask, written.reads_mask) {
            (_, false) => Ok(None),
            (Some(mask), true) => Ok(Some(mask.clone())),
            (None, true) => Ok(Some(Arc::new(self.cleared(self.weight.rows * self.words())?))),
        }
    }

    /// The number of workgroups for one invocation per weight.
    fn each(&self) -> [u32; 3] {
        let (rows, columns) = self.size();
        grid((rows * columns).div_ceil(LANES))
    }

    /// Computes keys of the scores of `width` columns, beginning with column `first`.
    fn keys(&self, score: &Written, first: usize, width: usize, unusable: &Memory) -> Result<Memory> {
        let (rows, columns) = self.size();
        let device = self.gpu.hardware();
        let keys = device.allocate((rows * width * 4) as u64)?;
        let current = self.current();
        let kernel = Kernel::new(shader::SCORE, "score")
            .with_type("W", current.element.name())
            .with_function("value", score.expressions[0].clone());
        let parameters = parameters::Score {
            formula: score.parameters,
            rows: rows as u32,
            columns: columns as u32,
            first: first as u32,
            width: width as u32,
            words: columns.div_ceil(32) as u32,
        };
        let mask = self.mask_for(score)?;
        let mask = read(mask.as_ref().map_or(device.nothing(), |mask| mask));
        let mut bound = vec![
            read(&current.memory),
            read(&score.factors),
            write(&keys),
            write(unusable),
            mask,
        ];
        bound.extend(score.bound(device.nothing()));
        let groups = grid((rows * width.div_ceil(4)).div_ceil(LANES));
        device.run(&kernel, &parameters, &bound, groups)?;
        Ok(keys)
    }

    /// Checks what kernels reported about scores that cannot be used.
    fn check_scores(&self, unusable: &Memory, score: &Values) -> Result<()> {
        match self.words_of(unusable, 1)?[0] {
            0 => Ok(()),
            reported => {
                let place = (u32::MAX - reported) as usize;
                let (row, column) = (place / self.weight.columns, place % self.weight.columns);
                // Where the host finds it usable, the device's rounding made it overflow.
                self.score_at(score, row, column)?;
                Err(Error::numeric(format!(
                    "the score at row {row}, column {column} is not finite"
                )))
            }
        }
    }

    /// The score of one weight, computed on the host.
    ///
    /// # Errors
    /// It is NaN, infinite or negative.
    fn score_at(&self, score: &Values, row: usize, column: usize) -> Result<f32> {
        let mut there = score.clone();
        for matrix in &mut there.matrices {
            let host = self.gpu.download(matrix.there()?)?;
            *matrix = Matrix::new(host.dim(), host);
        }
        let weights = self.gpu.download(self.current())?;
        score_of(&there, weights.view(), (row, column))
    }

    /// Runs a kernel of `select.wgsl` over the keys of `width` columns.
    fn pick(&self, entry: &'static str, run: &Selecting, shift: u32, work: &Memory, groups: [u32; 3]) -> Result<()> {
        let parameters = parameters::Select {
            rows: self.weight.rows as u32,
            width: run.width as u32,
            shift,
            count: run.count as u32,
            reference: u32::from(run.reference),
            first_word: (run.first / 32) as u32,
            words: self.words() as u32,
            keep: run.keep as u32,
            group_size: run.of as u32,
        };
        let bound = [read(run.keys), write(run.state), write(work)];
        self.gpu
            .hardware()
            .run(&Kernel::new(shader::SELECT, entry), &parameters, &bound, groups)
    }

    /// Marks the lowest keys of `width` columns, which form one comparison group.
    fn select_together(&self, run: &Selecting, mask: &Memory) -> Result<()> {
        let rows = self.weight.rows;
        // Sixteen keys an invocation at least, since every workgroup clears and adds up all bins.
        let walkers = grid((rows * run.width).div_ceil(16 * LANES).min(WALKERS));
        let one = [1, 1, 1];
        self.pick("start", run, 0, mask, one)?;
        for shift in [20, 10, 0] {
            self.pick("histogram", run, shift, mask, walkers)?;
            self.pick("pick", run, shift, mask, one)?;
        }
        if !run.reference {
            let groups = [run.width.div_ceil(64) as u32, rows.div_ceil(TIED_ROWS) as u32, 1];
            self.pick("tied_columns", run, 0, mask, groups)?;
            self.pick("tied_boundary", run, 0, mask, one)?;
        }
        let words = rows * run.width.div_ceil(32);
        self.pick("mark", run, 0, mask, grid(words.div_ceil(LANES)))
    }
}

/// One selection: which keys take part, and how many weights are removed.
struct Selecting<'a> {
    keys: &'a Memory,
    state: &'a Memory,
    first: usize,
    width: usize,
    count: usize,
    reference: bool,
    keep: usize,
    of: usize,
}

impl LayerView for Piece<'_> {
    fn dim(&self) -> (usize, usize) {
        self.size()
    }

    fn squared_norms(&self) -> Result<&[f64]> {
        self.statistics().squared_norms()
    }

    fn means(&self) -> Result<&Means> {
        let means = self.statistics().means.as_ref();
        means.ok_or_else(|| not_gathered("means"))
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
        let Some(cross) = &self.statistics().cross else {
            return self.gram();
        };
        let sum = Matrix::shared((cross.rows, cross.columns), cross.clone());
        let scale = 1.0 / self.statistics().sequences as f64;
        self.map(sum.dim(), &Values::over([&sum], |[sum]| sum * scale))
    }

    fn choose(&self, score: &Values, target: &Target) -> Result<Matrix> {
        matrices::unpacked(self.gpu, &self.chosen(score, target)?, self.size())
    }

    fn sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>> {
        let mut sums = vec![Vec::new(); wanted.len()];
        for over in [Over::Row, Over::Column] {
            let places: Vec<usize> = (0..wanted.len()).filter(|place| wanted[*place].0 == over).collect();
            let mut rest = &places[..];
            while !rest.is_empty() {
                // One kernel adds up as many as it has room for the operands of, and one at least.
                let formulas: Vec<&Values> = rest.iter().take(SUMMED).map(|place| &wanted[*place].1).collect();
                let fitting = (2..=formulas.len()).rev().find(|count| fit(&formulas[..*count]));
                let (now, later) = rest.split_at(fitting.unwrap_or(1));
                for (place, found) in now.iter().zip(self.added(over, &formulas[..now.len()])?) {
                    sums[*place] = found;
                }
                rest = later;
            }
        }
        Ok(sums)
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        let factor = self.statistics().inverse_factor(self.gpu)?;
        let pivots = factor.there.pivots.iter().zip(&factor.dead);
        Ok(pivots
            .map(|(pivot, dead)| (!dead).then_some(f64::from(*pivot)))
            .collect())
    }
}

impl Piece<'_> {
    /// The mask that a target selects by the scores of the current weights.
    fn chosen(&self, score: &Values, target: &Target) -> Result<Memory> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        let mask = self.cleared(rows * self.words())?;
        let unusable = self.cleared(1)?;
        let written = Written::new(self.gpu, &[score], (rows, columns))?;
        let keys = self.keys(&written, 0, columns, &unusable)?;
        let state = self.gpu.hardware().allocate(((TIED + columns) * 4) as u64)?;
        let whole = Selecting {
            keys: &keys,
            state: &state,
            first: 0,
            width: columns,
            count: 0,
            reference: target.selection == Selection::Reference,
            keep: 0,
            of: 0,
        };
        match (target.pattern, target.group) {
            (Pattern::NofM { keep, of }, _) => {
                let run = Selecting { keep, of, ..whole };
                self.pick(
                    "structured",
                    &run,
                    0,
                    &mask,
                    grid((rows * self.words()).div_ceil(LANES)),
                )?;
            }
            (Pattern::Unstructured { sparsity }, Group::Row) => {
                let count = removed(columns, sparsity);
                if count > 0 {
                    self.pick("rows", &Selecting { count, ..whole }, 0, &mask, grid(rows))?;
                }
            }
            (Pattern::Unstructured { sparsity }, Group::Matrix) => {
                let count = removed(rows * columns, sparsity);
                if count > 0 || whole.reference {
                    self.select_together(&Selecting { count, ..whole }, &mask)?;
                }
            }
            (Pattern::Unstructured { sparsity }, Group::ColumnBlock) => {
                for first in (0..columns).step_by(COLUMN_BLOCK) {
                    let width = COLUMN_BLOCK.min(columns - first);
                    let count = removed(rows * width, sparsity);
                    if count == 0 && !whole.reference {
                        continue;
                    }
                    let keys = self.keys(&written, first, width, &unusable)?;
                    let run = Selecting {
                        keys: &keys,
                        first,
                        width,
                        count,
                        ..whole
                    };
                    self.select_together(&run, &mask)?;
                }
            }
        }
        self.check_scores(&unusable, score)?;
        Ok(mask)
    }
}

impl Workpiece for Piece<'_> {
    fn select(&mut self, score: &Values, target: &Target) -> Result<()> {
        self.mask = Some(Arc::new(self.chosen(score, target)?));
        Ok(())
    }

    fn keep(&mut self, kept: &Matrix) -> Result<()> {
        let (rows, columns) = self.size();
        matrices::fits(kept.dim(), (rows, columns))?;
        let mask = self.cleared(rows * self.words())?;
        matrices::packed(self.gpu, kept.there()?, &mask)?;
        self.mask = Some(Arc::new(mask));
        Ok(())
    }

    fn reorder(&mut self, order: &[usize]) -> Result<()> {
        self.order = reordered(self.order.as_deref(), order, self.size().1)?;
        let places = self.places(order)?;
        self.move_columns(&places)?;
        let both_ways = |there: Arc<Tensor>| -> Result<Tensor> {
            let matrix = Matrix::shared((there.rows, there.columns), there);
            let columns = self.transpose(&self.gather(&matrix, &places)?)?;
            self.transpose(&self.gather(&columns, &places)?)?.into_there()
        };
        let now = self.statistics();
        let vector = |values: &Vec<f64>| order.iter().map(|from| values[*from]).collect();
        let gram = match &now.gram {
            Some(gram) => {
                let whole = matrices::symmetric(self.gpu, gram, order.len(), 1.0)?;
                Some(Arc::new(both_ways(Arc::new(whole))?.memory))
            }
            None => None,
        };
        let cross = match &now.cross {
            Some(cross) => Some(Arc::new(both_ways(cross.clone())?)),
            None => None,
        };
        let reordered = Statistics {
            sequences: now.sequences,
            damping: now.damping,
            squared_norms: now.squared_norms.as_ref().map(vector),
            means: now.means.as_ref().map(|means| means.reordered(order)),
            gram,
            cross,
            full: OnceLock::new(),
            factor: OnceLock::new(),
        };
        self.reordered = Some(reordered);
        Ok(())
    }

    fn set_weight(&mut self, weight: &Matrix) -> Result<()> {
        matrices::fits(weight.dim(), self.size())?;
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

    fn reconstruct(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        if self.weight.element != Element::F32 && self.working.is_none() {
            self.working = Some(self.gpu.tensor(rows, columns, Element::F32)?);
            self.weigh("widen", None, self.each())?;
        }
        if self.mask.is_none() {
            self.mask = Some(Arc::new(self.cleared(rows * self.words())?));
        }
        let mask = self.mask.as_ref().expect("there is a mask now");
        let factor = self.statistics().inverse_factor(self.gpu)?;
        let upper = &factor.there.upper;
        let device = self.gpu.hardware();
        let current = self.current();
        let unusable = self.cleared(1)?;
        let errors = device.allocate((rows * COLUMN_BLOCK * 4) as u64)?;
        let state = device.allocate(((TIED + columns) * 4) as u64)?;
        let none = Values::from(Formula::Number(0.0));
        let written = Written::new(self.gpu, &[follow.unwrap_or(&none)], (rows, columns))?;
        if written.has_matrices() {
            let message =
                "a score that follows the update cannot read other matrices on the GPU; use backend = \"cpu\"";
            return Err(Error::config(message));
        }
        let (block_width, keep, of) = match target.pattern {
            Pattern::Unstructured { .. } => (COLUMN_BLOCK, 0, 0),
            Pattern::NofM { keep, of } if of > COLUMN_BLOCK => {
                let message =
                    format!("pattern {keep}:{of} with an update needs groups of at most {COLUMN_BLOCK} on the GPU");
                return Err(Error::config(message));
            }
            Pattern::NofM { keep, of } => (COLUMN_BLOCK / of * of, keep, of),
        };
        let on_the_way = follow.is_some() && of > 0;
        let kernel = |entry| {
            let kernel = Kernel::new(shader::OBS, entry);
            kernel.with_function("value", written.expressions[0].clone())
        };
        let parameters = |first: usize, width: usize| parameters::Obs {
            formula: written.parameters,
            rows: rows as u32,
            columns: columns as u32,
            first: first as u32,
            width: width as u32,
            words: self.words() as u32,
            keep: keep as u32,
            group_size: if on_the_way { of as u32 } else { 0 },
        };
        let mut bound = [
            write(&current.memory),
            read(upper),
            write(mask),
            write(&errors),
            read(&written.factors),
            write(&unusable),
        ];
        let dead: Vec<f32> = factor.dead.iter().map(|dead| f32::from(u8::from(*dead))).collect();
        let dead_memory = device.allocate((columns * 4) as u64)?;
        if factor.dead.contains(&true) {
            device.upload(&dead_memory, bytemuck::cast_slice(&dead))?;
            bound[4] = read(&dead_memory);
            device.run(&kernel("clear_dead"), &parameters(0, 0), &bound, self.each())?;
            bound[4] = read(&written.factors);
        }
        for first in (0..columns).step_by(block_width) {
            let width = block_width.min(columns - first);
            if let (Some(_), Pattern::Unstructured { sparsity }) = (follow, target.pattern) {
                let count = removed(rows * width, sparsity);
                let reference = target.selection == Selection::Reference;
                if count > 0 || reference {
                    let keys = self.keys(&written, first, width, &unusable)?;
                    let run = Selecting {
                        keys: &keys,
                        state: &state,
                        first,
                        width,
                        count,
                        reference,
                        keep: 0,
                        of: 0,
                    };
                    self.select_together(&run, mask)?;
                }
            }
            let groups = [rows.div_ceil(TOGETHER) as u32, 1, 1];
            device.run(&kernel("block"), &parameters(first, width), &bound, groups)?;
            let later = columns - first - width;
            if later > 0 {
                let groups = [later.div_ceil(64) as u32, rows.div_ceil(64) as u32, 1];
                device.run(&kernel("propagate"), &parameters(first, width), &bound, groups)?;
            }
        }
        if let Some(score) = follow {
            self.check_scores(&unusable, score)?;
        }
        Ok(factor.damping)
    }

    fn finish(&mut self) -> Result<Finished> {
        let order = self.order.take();
        if let Some(order) = &order {
            let places = self.places(&inverse(order))?;
            self.move_columns(&places)?;
        }
        let (rows, columns) = self.size();
        if self.working.is_some() {
            self.weigh("narrow", None, self.each())?;
            self.working = None;
        }
        let counts = self.cleared(2)?;
        let groups = grid((rows * columns).div_ceil(LANES).min(WALKERS));
        self.weigh("finish", Some(&counts), groups)?;
        let length = rows * self.words();
        let mut parts = vec![(&counts, 8)];
        parts.extend(self.mask.as_deref().map(|mask| (mask, 4 * length as u64)));
        let brought = self.bring(&parts)?;
        let counts: Vec<u32> = bytemuck::pod_collect_to_vec(&brought[0]);
        let words = brought.get(1).map_or_else(|| vec![0; length], |words| bytemuck::pod_collect_to_vec(words));
        let mask = PackedMask::from_words((rows, columns), words);
        let fault = if counts[1] == 0 {
            None
        } else {
            let weights = self.gpu.download(self.weight)?;
            let fault = |weight: f32, removed: bool| !weight.is_finite() || (removed && weight != 0.0);
            let mut places = weights.indexed_iter();
            places
                .find(|((row, column), weight)| fault(**weight, mask.removes(*row, *column)))
                .map(|(place, weight)| (place, *weight))
        };
        Ok(Finished {
            mask,
            zeros: counts[0] as usize,
            order,
            fault,
        })
    }
}
