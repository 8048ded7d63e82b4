//! What the card of a model with zeros says.

use super::described::{Base, Described, component, plain};
use crate::choices;
use crate::experiment::identity::{CalibrationIdentity, PruningIdentity, PruningKind, RecipeIdentity};
use crate::experiment::plan::{ComponentPlan, StepPlans};
use crate::jobs::provenance::PruningFile;
use crate::model::export::PRUNING;

/// The description of a model that `zprune prune` made.
pub(super) fn described(file: &PruningFile) -> Described<'_> {
    let pattern = file.cell.pruning.as_ref().map(|pruning| pruning.pattern().to_string());
    Described {
        base: Base {
            name: file.base_model.as_deref(),
            revision: file.base_revision.as_deref(),
        },
        title: format!("{} pruned by {}", pattern.unwrap_or_default(), plain(&file.method)),
        tag: "sparse",
        made: format!("pruned with zprune {}", file.zprune),
        result: format!(
            "{:.2} % of the weights of its linear layers are zero.",
            100.0 * file.sparsity
        ),
        rows: file
            .cell
            .pruning
            .iter()
            .flat_map(|pruning| settings(file, pruning))
            .collect(),
        note: format!(
            "The zeros are stored like any other value: the model loads like the original, and takes as much memory and time. `{PRUNING}` \
             has all settings, what was done to each layer, and the SHA-256 of every file; `zprune verify` checks the files."
        ),
    }
}

/// How the model was pruned: each step with its setting.
fn settings(file: &PruningFile, pruning: &PruningIdentity) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("method", format!("`{}`", file.method)),
        ("pattern", pruning.pattern().to_string()),
    ];
    match &pruning.kind {
        PruningKind::Recipe(recipe) => rows.extend(steps(recipe)),
        PruningKind::Units(units) => rows.push(("whole units", component(&units.plan.units))),
        PruningKind::Checkpoint(of) => rows.push(("checkpoint of another program", of.checkpoint.weights.clone())),
    }
    if let Some(calibration) = &pruning.calibration {
        rows.push(("calibration", calibrated(file, calibration)));
    }
    if let Some(protocol) = &file.protocol {
        rows.push(("protocol", format!("`{protocol}`")));
    }
    rows
}

/// The steps of a recipe with their settings.
fn steps(recipe: &RecipeIdentity) -> Vec<(&'static str, String)> {
    let StepPlans {
        transform,
        permutation,
        refine,
        compensate,
    } = &recipe.steps;
    let mut rows = vec![("criterion", component(&recipe.criterion))];
    if let Some(group) = &recipe.group {
        rows.push(("comparison group", choices::name(group)));
    }
    rows.push(("allocator", component(&recipe.allocator)));
    let given = |(step, plan): (&'static str, &Option<ComponentPlan>)| Some((step, component(plan.as_ref()?)));
    rows.extend(given(("transform", transform)));
    rows.extend(
        [("permutation", permutation), ("mask refinement", refine)]
            .into_iter()
            .filter_map(given),
    );
    rows.push(("solver", component(&recipe.solver)));
    rows.extend(given(("compensation", compensate)));
    rows
}

fn calibrated(file: &PruningFile, calibration: &CalibrationIdentity) -> String {
    let corpus = file.calibration_corpus.as_ref();
    let corpus = corpus.map_or(String::new(), |corpus| format!(" from `{corpus}`"));
    let sampling = calibration.sampling.as_ref();
    let sampling = sampling.map_or(String::new(), |sampling| {
        format!(", sampling `{}`", choices::name(sampling))
    });
    format!(
        "{} windows of {} tokens{corpus}{sampling}, seed {}, stage `{}`",
        calibration.sequences,
        calibration.length,
        calibration.seed,
        choices::name(&calibration.stage)
    )
}
