//! The settings of an experiment in words, for people who read its report.

use super::format::counted;
use crate::calibrate::{Goal, Stage};
use crate::choices;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::experiment::default_name::{said, spoken};
use crate::experiment::method::{ComponentPlan, MethodKind, MethodPlan, RecipePlan, UnitsPlan};
use crate::experiment::plan_file::PlanFile;
use crate::prune::pattern::{COLUMN_BLOCK, Group};
use crate::prune::units::Widths;

/// Every setting that matters for the numbers: its name, and what it is.
pub fn settings(plan: &PlanFile) -> Vec<(String, String)> {
    let experiment = &plan.experiment;
    let mut items = vec![("zprune".to_string(), format!("version {}", plan.zprune))];
    let compute = experiment
        .machine
        .compute
        .map(|compute| format!(", {}", compute.name()));
    items.push((
        "backend".to_string(),
        format!(
            "{}{}",
            choices::name(&experiment.machine.backend),
            compute.unwrap_or_default()
        ),
    ));
    if let Some(protocol) = &experiment.protocol {
        items.push(("protocol".to_string(), format!("the settings of {protocol}'s code")));
    }
    for model in &experiment.models {
        items.push((format!("model {}", model.name), model.path.display().to_string()));
    }
    if let Some(calibration) = &experiment.calibration {
        let seeds: Vec<String> = experiment.seeds.iter().map(u64::to_string).collect();
        items.push((
            "calibration".to_string(),
            format!(
                "{} of {} tokens from {}{}, drawn {}with {}; {}",
                counted(calibration.sequences, "window"),
                calibration.length,
                calibration.source().display(),
                Join::setting(calibration.join),
                drawn(calibration.sampling),
                match seeds.as_slice() {
                    [] => "no seed".to_string(),
                    [seed] => format!("seed {seed}"),
                    several => format!("seeds {}", several.join(", ")),
                },
                gathered(calibration.stage)
            ),
        ));
    }
    for method in &experiment.methods {
        items.push((format!("method {}", method.name), in_words(method)));
    }
    for evaluation in &experiment.evaluations {
        let windows = evaluation
            .windows
            .map_or("all windows".to_string(), |windows| counted(windows, "window"));
        items.push((
            format!("evaluation {}", evaluation.name),
            format!(
                "{windows} of {} tokens from {}{}",
                evaluation.length,
                evaluation.source().display(),
                Join::setting(evaluation.join)
            ),
        ));
    }
    for task in &experiment.tasks {
        let documents = task.limit;
        let documents = documents.map_or("all documents".to_string(), |limit| counted(limit, "document"));
        items.push((
            format!("task {}", task.name),
            format!(
                "{documents} from {}, as lm-evaluation-harness {} scores them",
                task.data.display(),
                choices::name(&task.harness)
            ),
        ));
    }
    items
}

/// How windows are drawn from a calibration corpus.
fn drawn(sampling: Option<Sampling>) -> &'static str {
    match sampling {
        None => "",
        Some(Sampling::Packed) => "from one stream of tokens ",
        Some(Sampling::Documents) => "from its documents ",
        Some(Sampling::Answers) => "as prompts with answers ",
    }
}

/// What a method does, step by step.
fn in_words(method: &MethodPlan) -> String {
    let mut parts = match &method.kind {
        MethodKind::Recipe(recipe) => steps(recipe),
        MethodKind::Units(plan) => whole_units(plan),
        MethodKind::Checkpoint(plan) => {
            let measured = format!(
                "pruned by another program, and measured as it is: {}",
                plan.checkpoint.display()
            );
            let unlike = "said to be trained, so that it need not resemble the model (`retrained`)";
            let unlike = plan.retrained.then(|| unlike.to_string());
            std::iter::once(measured).chain(unlike).collect()
        }
    };
    if !method.calibrated && method.outside().is_none() {
        parts.push("without calibration".to_string());
    }
    parts.join("; ")
}

fn whole_units(plan: &UnitsPlan) -> Vec<String> {
    let widths = match plan.widths {
        Widths::Uniform => "all blocks keep equal sizes",
        Widths::PerBlock => "blocks may have different sizes",
    };
    let what = format!("removes whole heads, neurons or blocks by {}", component(&plan.units));
    vec![what, widths.to_string()]
}

fn steps(method: &RecipePlan) -> Vec<String> {
    let group = match method.group {
        Group::Matrix => "all weights of a matrix".to_string(),
        Group::Row => "the inputs of each output".to_string(),
        Group::ColumnBlock => format!("{COLUMN_BLOCK} columns of all rows"),
        Group::RowShare => "the inputs of each output, and each output loses the same share of its scores".to_string(),
    };
    let mut parts = vec![format!(
        "removes the weights with the lowest scores by {} among {group}",
        component(&method.criterion)
    )];
    parts.push(match method.allocator.name.as_str() {
        "uniform" => "the same share from every layer".to_string(),
        _ => format!(
            "from each layer the share that {} gives it",
            component(&method.allocator)
        ),
    });
    if let Some(transform) = &method.steps.transform {
        parts.push(format!("in the variables of {}", component(transform)));
    }
    if let Some(permutation) = &method.steps.permutation {
        parts.push(format!(
            "columns that share an N:M group chosen by {}",
            component(permutation)
        ));
    }
    if let Some(refine) = &method.steps.refine {
        parts.push(format!("the choice improved by {}", component(refine)));
    }
    parts.push(match method.solver.name.as_str() {
        "one-shot" => "the other weights stay as they are".to_string(),
        _ => format!("the other weights updated by {}", component(&method.solver)),
    });
    if let Some(compensate) = &method.steps.compensate {
        parts.push(format!("biases changed by {}", component(compensate)));
    }
    if let Some(stage) = method.stage {
        parts.push(gathered(stage).to_string());
    }
    if method.target == Goal::Dense {
        parts.push("aiming at the outputs of the dense model".to_string());
    }
    parts
}

/// A component with its parameters.
fn component(plan: &ComponentPlan) -> String {
    let parameters = plan.parameters.as_object().into_iter().flatten();
    let parameters: Vec<String> = parameters
        .map(|(key, value)| format!("{} {}", spoken(key), said(value)))
        .collect();
    match parameters.is_empty() {
        true => plan.name.clone(),
        false => format!("{} ({})", plan.name, parameters.join(", ")),
    }
}

/// What statistics are gathered on.
fn gathered(stage: Stage) -> &'static str {
    match stage {
        Stage::Block => "statistics of a block before it is pruned, on inputs from pruned blocks",
        Stage::Staged => "statistics of each group of layers on what was pruned before it",
        Stage::Separate => {
            "statistics of each group of layers on what was pruned in its block, on inputs from dense blocks"
        }
        Stage::Dense => "statistics of the dense model",
    }
}
