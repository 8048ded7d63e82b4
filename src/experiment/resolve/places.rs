//! Where the parts of an experiment name their files.

use crate::experiment::origin::Part;
use crate::experiment::plan::Experiment;
use crate::experiment::problems::Problems;
use crate::experiment::raw::{RawExperiment, RawMethod};
use serde_spanned::Spanned;
use std::ops::Range;

/// The places of the values that name files, or, where a default is meant, of what the part is called; `methods` are those of `raw`, in
/// the order of the experiment's.
pub fn of_files(
    raw: &RawExperiment,
    methods: &[Spanned<RawMethod>],
    experiment: &Experiment,
    problems: &Problems,
) -> Vec<(Part, Range<usize>)> {
    let mut places = Vec::new();
    for (plan, raw) in experiment.models.iter().zip(&raw.model) {
        let place = problems.place(&raw.span(), &["path", "hub"]);
        places.push((Part::Model(plan.name.clone()), place));
    }
    if let Some(raw) = &raw.calibration {
        let span = raw.span();
        places.push((Part::Calibration, problems.place(&span, &["corpus", "tokens"])));
        places.push((Part::Gradients, problems.place(&span, &["gradients"])));
    }
    for (plan, raw) in experiment.evaluations.iter().zip(&raw.evaluation) {
        let place = problems.place(&raw.span(), &["corpus", "tokens"]);
        places.push((Part::Evaluation(plan.name.clone()), place));
        let place = problems.place(&raw.span(), &["windows", "corpus", "tokens"]);
        places.push((Part::Windows(plan.name.clone()), place));
    }
    for (plan, raw) in experiment.tasks.iter().zip(&raw.task) {
        let place = problems.place(&raw.span(), &["data", "name"]);
        places.push((Part::Task(plan.name.clone()), place));
    }
    for (plan, raw) in experiment.generations.iter().zip(&raw.generation) {
        let (span, name) = (raw.span(), || plan.name.clone());
        places.push((Part::Prompts(name()), problems.place(&span, &["prompts"])));
        places.push((Part::Examples(name()), problems.place(&span, &["examples"])));
    }
    for (plan, raw) in experiment.methods.iter().zip(methods) {
        let place = problems.place(&raw.span(), &["scores", "mask", "checkpoint", "criterion"]);
        places.push((Part::Method(plan.name.clone()), place));
    }
    places
}
