//! Whether scores tell weights apart, on the device.

use super::piece::Piece;
use super::reports::Unranked;
use super::written::Written;
use crate::backend::gpu::device::{Kernel, read, write};
use crate::backend::gpu::parameters::{self, LANES};
use crate::backend::gpu::{grid, shader};
use crate::error::{Error, Result};
use crate::prune::compared::{Compared, ranks_nothing};
use crate::prune::pattern::Target;
use crate::prune::values::Values;

/// Most workgroups that compare scores: as a rule each invocation looks at two.
const COMPARERS: usize = 64;

impl Piece<'_> {
    /// See [`Workpiece::check_ranking`](super::super::Workpiece::check_ranking).
    pub fn compare(&mut self, score: &Values, target: &Target, given_by: &str) -> Result<()> {
        let (rows, columns) = self.size();
        let Some(compared) = Compared::of(target, (rows, columns)) else {
            return Ok(());
        };
        let device = self.gpu.hardware();
        let written = Written::new(self.gpu, &[score], (rows, columns))?;
        let current = self.current();
        let kernel = Kernel::new(shader::SCORE, "compare")
            .with_type("W", current.element.name())
            .with_function("value", written.expressions[0].clone());
        let parameters = parameters::Score {
            formula: written.parameters,
            rows: rows as u32,
            columns: columns as u32,
            first: 0,
            width: compared.width as u32,
            words: self.words() as u32,
            over_rows: u32::from(compared.over_rows),
        };
        // Keys are another kernel's, and something must be bound in their place.
        let spare = device.allocate(16)?;
        let found = self.cleared(1)?;
        let mask = self.mask_for(&written)?;
        let mut bound = vec![
            read(&current.memory),
            read(&written.factors),
            write(&spare),
            write(&found),
            read(mask.as_ref().map_or(device.nothing(), |mask| mask)),
        ];
        bound.extend(written.bound(device.nothing()));
        let groups = grid((rows * columns).div_ceil(LANES).min(COMPARERS));
        device.run(&kernel, &parameters, &bound, groups)?;
        self.reports.unranked = Some(Unranked {
            found,
            score: score.clone(),
            error: Error::numeric(ranks_nothing(target, given_by)),
        });
        Ok(())
    }
}
