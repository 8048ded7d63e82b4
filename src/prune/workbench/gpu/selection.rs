//! Selection of the lowest scores on the device.

use super::super::Matrices;
use super::piece::{Piece, WALKERS};
use super::reports::check_score;
use super::written::Written;
use crate::backend::gpu::device::{Kernel, Memory, read, write};
use crate::backend::gpu::parameters::{self, LANES, TIED, TIED_ROWS};
use crate::backend::gpu::{grid, shader};
use crate::error::Result;
use crate::prune::mask::select;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target, removed};
use crate::prune::values::Values;

/// One selection: which keys take part, and how many weights are removed.
pub struct Selecting<'a> {
    pub keys: &'a Memory,
    pub state: &'a Memory,
    pub first: usize,
    pub width: usize,
    pub count: usize,
    pub reference: bool,
    pub keep: usize,
    pub of: usize,
}

impl Piece<'_> {
    /// Computes keys of the scores of `width` columns, beginning with column `first`.
    pub fn keys(&self, score: &Written, first: usize, width: usize, unusable: &Memory) -> Result<Memory> {
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
            over_rows: 0,
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
    pub fn check_scores(&self, unusable: &Memory, score: &Values) -> Result<()> {
        check_score(self.gpu, self.current(), self.words_of(unusable, 1)?[0], score)
    }

    /// Runs a kernel of `select.wgsl` over the keys of `width` columns.
    pub fn pick(
        &self,
        entry: &'static str,
        run: &Selecting,
        shift: u32,
        work: &Memory,
        groups: [u32; 3],
    ) -> Result<()> {
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
    pub fn select_together(&self, run: &Selecting, mask: &Memory) -> Result<()> {
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

impl Piece<'_> {
    /// The mask that a target selects by the scores of the current weights. A score that cannot be used is reported in `unusable`.
    pub fn chosen(&self, score: &Values, target: &Target, unusable: &Memory) -> Result<Memory> {
        let (rows, columns) = self.size();
        target.pattern.fits(columns)?;
        let mask = self.gpu.hardware().allocate((rows * self.words() * 4) as u64)?;
        let remove_none = || self.gpu.hardware().clear(&mask);
        let written = Written::new(self.gpu, &[score], (rows, columns))?;
        let keys = self.keys(&written, 0, columns, unusable)?;
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
                match count {
                    0 => remove_none()?,
                    _ => self.pick("rows", &Selecting { count, ..whole }, 0, &mask, grid(rows))?,
                }
            }
            (Pattern::Unstructured { sparsity }, Group::Matrix) => {
                let count = removed(rows * columns, sparsity);
                match count == 0 && !whole.reference {
                    true => remove_none()?,
                    false => self.select_together(&Selecting { count, ..whole }, &mask)?,
                }
            }
            (Pattern::Unstructured { .. }, Group::RowShare) => {
                // Each row is sorted and added up, which no kernel does; the mask goes back as bits.
                let scores = self.read(&self.map(self.size(), score)?)?;
                let chosen = select(scores.view(), target)?.packed();
                let words = bytemuck::cast_slice(chosen.words());
                self.gpu.hardware().upload(&mask, words)?;
            }
            (Pattern::Unstructured { sparsity }, Group::ColumnBlock) => {
                remove_none()?;
                for first in (0..columns).step_by(COLUMN_BLOCK) {
                    let width = COLUMN_BLOCK.min(columns - first);
                    let count = removed(rows * width, sparsity);
                    if count == 0 && !whole.reference {
                        continue;
                    }
                    let keys = self.keys(&written, first, width, unusable)?;
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
        Ok(mask)
    }
}
