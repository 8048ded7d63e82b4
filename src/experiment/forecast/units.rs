//! What methods of whole units need beside what all methods do.

use crate::backend::gradient::GradientNeeds;
use crate::experiment::plan::Experiment;
use crate::prune::units::UnitMethod;
use crate::spec::ModelSpec;

/// About how many tokens a model and what is left of it are compared and timed on.
pub const TIMED_TOKENS: usize = 512;

/// How many windows of this length these are, of the `count` that there are.
pub fn timed_windows(length: usize, count: usize) -> usize {
    TIMED_TOKENS.div_ceil(length.max(1)).min(count)
}

/// What the methods of whole units of an experiment need together.
pub(super) struct Removing {
    /// The gradients of one block.
    pub(super) gradients: GradientNeeds,
    /// Bytes that one of them holds.
    pub(super) room: u128,
    /// Whether what is left is written and read again, with its own embedding and head.
    pub(super) writes: bool,
    /// Whether there are any.
    any: bool,
    /// Bytes of the logits with which a model that is written is compared with the original; 0 where none is written.
    logits: u128,
}

impl Removing {
    /// The methods of a sweep, which measures what is left as any other model.
    pub(super) fn in_sweep<'a>(spec: &ModelSpec, methods: impl Iterator<Item = &'a dyn UnitMethod>) -> Self {
        let mut removing = Removing {
            gradients: GradientNeeds::NOTHING,
            room: 0,
            writes: false,
            any: false,
            logits: 0,
        };
        for method in methods {
            removing.any = true;
            removing.gradients = removing.gradients.and(method.gradients());
            removing.room = removing.room.max(u128::from(method.room(spec)));
        }
        removing
    }

    /// A method whose result is written, and compared with the original.
    pub(super) fn and_writing(experiment: &Experiment, spec: &ModelSpec, method: &dyn UnitMethod) -> Self {
        let compared = experiment.calibration.as_ref().map_or(TIMED_TOKENS, |plan| {
            let length = plan.length.of(spec);
            length * timed_windows(length, plan.sequences)
        });
        Removing {
            writes: true,
            logits: 4 * compared as u128 * spec.vocabulary as u128,
            ..Self::in_sweep(spec, std::iter::once(method))
        }
    }

    /// Bytes of the sums of this many features over each sequence.
    pub(super) fn sums(&self, features: u128, sequences: usize) -> u128 {
        match self.any {
            true => 8 * features * sequences as u128,
            false => 0,
        }
    }

    /// The bytes of a batch that passes a block, beside the logits that are kept meanwhile; or those of logits that are put together,
    /// of which a batch has `batch` bytes, beside those of the other model.
    pub(super) fn beside(&self, passing: u128, batch: u128) -> u128 {
        (passing + self.logits).max(if self.writes { batch + 3 * self.logits } else { 0 })
    }
}
