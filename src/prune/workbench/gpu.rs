//! Pruning on the GPU: weights, scores, masks and updates stay on the device; what criteria ask for comes
//! back as vectors, and at the end the mask, as bits.
//!
//! The inverse factor is computed on the device too, once per tap, and shared by the tap's layers.

use super::{AxisSums, Finished, LayerView, WeightSums, Workbench, Workpiece};
use crate::backend::Backend;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, ABSENT, LANES, SUM_ROWS, TERMS, TIED, TIED_ROWS, TOGETHER};
use crate::backend::gpu::shader;
use crate::backend::gpu::{DeviceFactor, DeviceMoments, Element, Gpu, Tensor, grid};
use crate::calibrate::statistics::{Diagonal, damped};
use crate::error::{Error, Result};
use crate::linalg::Provider;
use crate::prune::mask::PackedMask;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target, removed};
use crate::prune::score::{Power, Score, Term};
use crate::tensor::StorageType;
use std::sync::{Arc, OnceLock};

/// Workgroups of kernels that walk over a matrix in strides: enough for the largest devices.
const WALKERS: usize = 1024;

/// Statistics of a tap: vectors on the host, matrices on the device.
pub struct Statistics {
    sequences: usize,
    squared_norms: Vec<f64>,
    gram: Option<Arc<Memory>>,
    factor: OnceLock<std::result::Result<Factor, Error>>,
}

/// The factor of a damped inverse Hessian.
struct Factor {
    there: DeviceFactor,
    damping: f64,
    dead: Vec<bool>,
}

impl Statistics {
    /// Computed when it is first asked for.
    fn inverse_factor(&self, gpu: &Gpu) -> Result<&Factor> {
        let factor = self.factor.get_or_init(|| self.factorise(gpu));
        factor.as_ref().map_err(Error::clone)
    }

    fn factorise(&self, gpu: &Gpu) -> Result<Factor> {
        let gram = self
            .gram
            .as_ref()
            .ok_or_else(|| Error::numeric("the Gram matrix of this layer was not accumulated"))?;
        // The Hessian is 2 / sequences times the Gram matrix, whose diagonal is the sums of squares.
        let diagonal = Diagonal::new(self.squared_norms.iter().map(|norm| 2.0 * norm).collect());
        let scale = 2.0 / self.sequences as f64;
        let inputs = self.squared_norms.len();
        let (there, damping) = damped(|damping| gpu.inverse_factor(gram, inputs, scale, damping * diagonal.mean))?;
        let dead = diagonal.dead;
        Ok(Factor { there, damping, dead })
    }
}

impl Workbench for Gpu {
    type Statistics = Statistics;

    fn statistics(&self, moments: &DeviceMoments, sequences: usize, _provider: Provider) -> Result<Statistics> {
        let squares = self.read_squares(moments)?;
        squares.check_finite()?;
        let squares = squares.squares.iter();
        Ok(Statistics {
            sequences,
            squared_norms: squares.map(|sum| sum / sequences as f64).collect(),
            gram: moments.gram.clone(),
            factor: OnceLock::new(),
        })
    }

    fn no_statistics(&self, inputs: usize) -> Statistics {
        Statistics {
            sequences: 1,
            squared_norms: vec![1.0; inputs],
            gram: None,
            factor: OnceLock::new(),
        }
    }

    fn workpiece<'a>(
        &'a self,
        weight: &'a mut Tensor,
        storage: StorageType,
        statistics: &'a Statistics,
    ) -> Box<dyn Workpiece + 'a> {
        Box::new(Piece {
            gpu: self,
            weight,
            working: None,
            mask: None,
            storage,
            statistics,
        })
    }
}

/// A layer on the device.
struct Piece<'a> {
    gpu: &'a Gpu,
    weight: &'a mut Tensor,
    /// A copy in single precision, while weights in half precision are updated.
    working: Option<Tensor>,
    /// Rows of whole words, bit `j mod 32` of word `j / 32` set where column `j` is removed.
    mask: Option<Memory>,
    storage: StorageType,
    statistics: &'a Statistics,
}

/// A score as the kernels read it.
struct Packed {
    /// Two entries a term; see `common_score.wgsl`.
    terms: [[u32; 4]; 2 * TERMS],
    term_count: u32,
    /// All vectors of all terms, one after the other.
    factors: Memory,
}

impl Piece<'_> {
    fn size(&self) -> (usize, usize) {
        (self.weight.rows, self.weight.columns)
    }

    fn words(&self) -> usize {
        self.weight.columns.div_ceil(32)
    }

    fn current(&self) -> &Tensor {
        self.working.as_ref().unwrap_or(self.weight)
    }

    fn values(&self, memory: &Memory, count: usize) -> Result<Vec<f32>> {
        let bytes = self.gpu.hardware().download(memory, (count * 4) as u64)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn words_of(&self, memory: &Memory, count: usize) -> Result<Vec<u32>> {
        let bytes = self.gpu.hardware().download(memory, (count * 4) as u64)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn cleared(&self, words: usize) -> Result<Memory> {
        let memory = self.gpu.hardware().allocate((words * 4) as u64)?;
        self.gpu.hardware().clear(&memory)?;
        Ok(memory)
    }

    /// A kernel of `weigh.wgsl` over the weights.
    fn weigh(
        &self,
        entry: &'static str,
        bound: f32,
        outputs: (Option<&Memory>, Option<&Memory>),
        groups: [u32; 3],
    ) -> Result<()> {
        let (rows, columns) = self.size();
        let storage = match self.storage {
            StorageType::F32 => 0,
            StorageType::F16 => 1,
            StorageType::BF16 => 2,
        };
        let (sums, counts) = outputs;
        let device = self.gpu.hardware();
        // Bindings that an entry point does not use still need something of the right kind bound, and
        // nothing may be bound for writing twice.
        let spare = [device.allocate(4)?, device.allocate(4)?, device.allocate(4)?];
        let wide = self.working.as_ref().filter(|_| entry == "widen" || entry == "narrow");
        let kernel = Kernel::new(shader::WEIGH, entry)
            .with_type("W", self.weight.element.name())
            .with_type("S", "f32");
        let parameters = parameters::Weigh {
            rows: rows as u32,
            columns: columns as u32,
            words: self.words() as u32,
            bound,
            storage,
        };
        let bound = [
            write(&self.weight.memory),
            write(sums.unwrap_or(&spare[0])),
            write(counts.unwrap_or(&spare[1])),
            read(self.mask.as_ref().unwrap_or(device.nothing())),
            write(wide.map_or(&spare[2], |wide| &wide.memory)),
        ];
        device.run(&kernel, &parameters, &bound, groups)
    }

    /// One invocation per weight.
    fn each(&self) -> [u32; 3] {
        let (rows, columns) = self.size();
        grid((rows * columns).div_ceil(LANES))
    }

    fn packed(&self, terms: &[Term]) -> Result<Packed> {
        if terms.len() > TERMS {
            let message = format!("a score of {} terms; the GPU backend has room for {TERMS}", terms.len());
            return Err(Error::config(message));
        }
        let mut factors: Vec<f32> = Vec::new();
        let mut packed = [[0; 4]; 2 * TERMS];
        for (term, [places, rest]) in terms.iter().zip(packed.as_chunks_mut().0) {
            let vectors = [&term.row, &term.column, &term.inner_row, &term.inner_column];
            *places = vectors.map(|vector| {
                vector.as_ref().map_or(ABSENT, |vector| {
                    let start = factors.len();
                    factors.extend(vector);
                    start as u32
                })
            });
            let power = match term.power {
                Power::One => 1,
                Power::Two => 2,
                Power::Three => 3,
            };
            *rest = [term.shift.to_bits(), power, 0, 0];
        }
        let memory = self.gpu.hardware().allocate((factors.len().max(1) * 4) as u64)?;
        if !factors.is_empty() {
            self.gpu.hardware().upload(&memory, bytemuck::cast_slice(&factors))?;
        }
        Ok(Packed {
            terms: packed,
            term_count: terms.len() as u32,
            factors: memory,
        })
    }

    /// Keys of the scores of `width` columns from `first` on.
    fn keys(&self, score: &Score, first: usize, width: usize, unusable: &Memory) -> Result<Memory> {
        let (rows, columns) = self.size();
        let device = self.gpu.hardware();
        let keys = device.allocate((rows * width * 4) as u64)?;
        match score {
            Score::Terms(terms) => {
                let packed = self.packed(terms)?;
                self.score(&packed, &keys, first, width, unusable)?;
            }
            Score::Dense(scores) => {
                debug_assert_eq!(scores.dim(), (rows, columns));
                let part = scores.slice(ndarray::s![.., first..first + width]);
                let bits: Vec<u32> = part.iter().map(|score| (score + 0.0).to_bits()).collect();
                if let Some(place) = bits.iter().position(|bits| *bits >= f32::INFINITY.to_bits()) {
                    let place = (place / width, first + place % width);
                    return Err(self.unusable(score, place)?);
                }
                device.upload(&keys, bytemuck::cast_slice(&bits))?;
            }
        }
        Ok(keys)
    }

    fn score(&self, packed: &Packed, keys: &Memory, first: usize, width: usize, unusable: &Memory) -> Result<()> {
        let (rows, columns) = self.size();
        let current = self.current();
        let kernel = Kernel::new(shader::SCORE, "score").with_type("W", current.element.name());
        let parameters = parameters::Score {
            terms: packed.terms,
            term_count: packed.term_count,
            rows: rows as u32,
            columns: columns as u32,
            first: first as u32,
            width: width as u32,
        };
        let bound = [
            read(&current.memory),
            read(&packed.factors),
            write(keys),
            write(unusable),
        ];
        self.gpu.hardware().run(
            &kernel,
            &parameters,
            &bound,
            grid((rows * width.div_ceil(4)).div_ceil(LANES)),
        )
    }

    /// The error of a score that cannot be ordered, with the value at its place.
    fn unusable(&self, score: &Score, (row, column): (usize, usize)) -> Result<Error> {
        let weights = self.gpu.download(self.current())?;
        Ok(match score.evaluate_one(weights[[row, column]], row, column) {
            Err(error) => error,
            // The device's rounding made it overflow where the host's did not.
            Ok(_) => Error::numeric(format!("the score at row {row}, column {column} is not finite")),
        })
    }

    /// Reads what kernels reported about unusable scores.
    fn check_scores(&self, unusable: &Memory, score: &Score) -> Result<()> {
        match self.words_of(unusable, 1)?[0] {
            0 => Ok(()),
            reported => {
                let place = (u32::MAX - reported) as usize;
                let columns = self.weight.columns;
                Err(self.unusable(score, (place / columns, place % columns))?)
            }
        }
    }

    /// A kernel of `select.wgsl` over keys of `width` columns.
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

    /// Marks the lowest keys of `width` columns as one comparison group.
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

/// One selection: which keys, how many go.
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

    fn squared_norms(&self) -> &[f64] {
        &self.statistics.squared_norms
    }

    fn sums(&self) -> Result<WeightSums> {
        let (rows, columns) = self.size();
        let pieces = rows.div_ceil(SUM_ROWS);
        let device = self.gpu.hardware();
        let by_row = device.allocate((3 * rows * 4) as u64)?;
        let by_column = device.allocate((3 * pieces * columns * 4) as u64)?;
        self.weigh("row_sums", 0.0, (Some(&by_row), None), grid(rows))?;
        let groups = [columns.div_ceil(64) as u32, pieces as u32, 1];
        self.weigh("column_sums", 0.0, (Some(&by_column), None), groups)?;
        let by_row = self.values(&by_row, 3 * rows)?;
        let by_column = self.values(&by_column, 3 * pieces * columns)?;
        let of_row = |which: usize| (0..rows).map(|row| f64::from(by_row[3 * row + which])).collect();
        let of_column = |which: usize| {
            (0..columns)
                .map(|column| {
                    (0..pieces)
                        .map(|piece| f64::from(by_column[3 * (piece * columns + column) + which]))
                        .sum()
                })
                .collect()
        };
        Ok(WeightSums {
            rows: AxisSums {
                value: of_row(0),
                magnitude: of_row(1),
                square: of_row(2),
            },
            columns: AxisSums {
                value: of_column(0),
                magnitude: of_column(1),
                square: of_column(2),
            },
        })
    }

    fn count_below(&self, bound: f64) -> Result<usize> {
        let (rows, columns) = self.size();
        // The smallest f32 that is not below the bound counts as below it, as it does in f64.
        let narrow = bound as f32;
        let narrow = if f64::from(narrow) < bound {
            narrow.next_up()
        } else {
            narrow
        };
        let counts = self.cleared(1)?;
        let groups = grid((rows * columns).div_ceil(LANES).min(WALKERS));
        self.weigh("count_below", narrow, (None, Some(&counts)), groups)?;
        Ok(self.words_of(&counts, 1)?[0] as usize)
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        let factor = self.statistics.inverse_factor(self.gpu)?;
        let pivots = factor.there.pivots.iter().zip(&factor.dead);
        Ok(pivots
            .map(|(pivot, dead)| (!dead).then_some(f64::from(*pivot)))
            .collect())
    }
}

impl Workpiece for Piece<'_> {
    fn select(&mut self, score: &Score, target: &Target) -> Result<()> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        let mask = self.cleared(rows * self.words())?;
        let unusable = self.cleared(1)?;
        let keys = self.keys(score, 0, columns, &unusable)?;
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
            (Pattern::Structured { keep, of }, _) => {
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
                    let keys = self.keys(score, first, width, &unusable)?;
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
        self.mask = Some(mask);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.weigh("remove", 0.0, (None, None), self.each())
    }

    fn reconstruct(&mut self, follow: Option<&Score>, target: &Target) -> Result<f64> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        let factor = self.statistics.inverse_factor(self.gpu)?;
        let upper = &factor.there.upper;
        let device = self.gpu.hardware();
        if self.weight.element != Element::F32 {
            self.working = Some(self.gpu.tensor(rows, columns, Element::F32)?);
            self.weigh("widen", 0.0, (None, None), self.each())?;
        }
        if self.mask.is_none() {
            self.mask = Some(self.cleared(rows * self.words())?);
        }
        let mask = self.mask.as_ref().expect("there is a mask now");
        let current = self.current();
        let unusable = self.cleared(1)?;
        let errors = device.allocate((rows * COLUMN_BLOCK * 4) as u64)?;
        let state = device.allocate(((TIED + columns) * 4) as u64)?;
        let terms = match follow {
            Some(Score::Terms(terms)) => terms.as_slice(),
            Some(Score::Dense(_)) => {
                return Err(Error::config(
                    "a score that follows the update must be made of terms on the GPU; use backend = \"cpu\"",
                ));
            }
            None => &[],
        };
        let packed = self.packed(terms)?;
        let (block_width, keep, of) = match target.pattern {
            Pattern::Unstructured { .. } => (COLUMN_BLOCK, 0, 0),
            Pattern::Structured { keep, of } if of > COLUMN_BLOCK => {
                let message =
                    format!("pattern {keep}:{of} with an update needs groups of at most {COLUMN_BLOCK} on the GPU");
                return Err(Error::config(message));
            }
            Pattern::Structured { keep, of } => (COLUMN_BLOCK / of * of, keep, of),
        };
        let on_the_way = follow.is_some() && of > 0;
        let kernel = |entry| Kernel::new(shader::OBS, entry);
        let parameters = |first: usize, width: usize| parameters::Obs {
            terms: packed.terms,
            term_count: packed.term_count,
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
            read(&packed.factors),
            write(&unusable),
        ];
        let dead: Vec<f32> = factor.dead.iter().map(|dead| f32::from(u8::from(*dead))).collect();
        let dead_memory = device.allocate((columns * 4) as u64)?;
        if factor.dead.contains(&true) {
            device.upload(&dead_memory, bytemuck::cast_slice(&dead))?;
            bound[4] = read(&dead_memory);
            device.run(&kernel("clear_dead"), &parameters(0, 0), &bound, self.each())?;
            bound[4] = read(&packed.factors);
        }
        for first in (0..columns).step_by(block_width) {
            let width = block_width.min(columns - first);
            if let (Some(_), Pattern::Unstructured { sparsity }) = (follow, target.pattern) {
                let count = removed(rows * width, sparsity);
                let reference = target.selection == Selection::Reference;
                if count > 0 || reference {
                    let keys = device.allocate((rows * width * 4) as u64)?;
                    self.score(&packed, &keys, first, width, &unusable)?;
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
        let (rows, columns) = self.size();
        if self.working.is_some() {
            self.weigh("narrow", 0.0, (None, None), self.each())?;
            self.working = None;
        }
        let counts = self.cleared(2)?;
        let groups = grid((rows * columns).div_ceil(LANES).min(WALKERS));
        self.weigh("finish", 0.0, (None, Some(&counts)), groups)?;
        let length = rows * self.words();
        // Mask and counts come back together: every way back waits for the device.
        let device = self.gpu.hardware();
        let both = self.cleared(length + 2)?;
        if let Some(mask) = &self.mask {
            device.copy(mask, (&both, 0), (length * 4) as u64)?;
        }
        device.copy(&counts, (&both, (length * 4) as u64), 8)?;
        let mut words = self.words_of(&both, length + 2)?;
        let counts = words.split_off(length);
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
            fault,
        })
    }
}
