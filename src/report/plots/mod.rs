//! Plots in SVG and PNG, with their numbers as CSV. Returns text and bytes, opens no file.

mod accuracies;
mod canvas;
mod crossed;
mod curve;
mod forest;
mod front;
mod layers;
mod look;
mod plot;
pub mod raster;
mod rows;
mod seeds;

use super::comparison::ComparisonFamily;
use super::csv::csv;
use super::labels::Labels;
use super::results::{Measure, Results, Section, to_dense};
use crate::error::Result;
use crate::experiment::plan::Experiment;
use crate::files::names::plain;
use front::Clock;
use look::Looks;
pub use plot::Plot;
use plot::{Cast, Drawn};

/// The kind of the plots that show all tasks of a model.
const ACCURACY: &str = "accuracy";

/// All plots of a report that are not empty.
///
/// # Errors
/// The drawing library fails.
pub fn all(results: &Results, families: &[ComparisonFamily]) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    let experiment = &results.plan.experiment;
    let methods: Vec<&str> = experiment.methods.iter().map(|it| it.name.as_str()).collect();
    let cast = Cast {
        looks: Looks::of(&methods),
        labels: Labels::of(experiment),
        methods,
    };
    let confidence = experiment.confidence;
    for section in &results.sections {
        let of = |kind: &str, time: bool, drawn: Option<Drawn>| {
            let name = name(kind, &section.model, Some(&section.measure));
            drawn.map(|drawn| plot(name, time, drawn)).transpose()
        };
        if matches!(section.measure, Measure::Perplexity { .. }) {
            plots.extend(of("perplexity", false, curve::plot(section, &cast, confidence)?)?);
            for (kind, drawn) in crossed::plots(section, experiment)? {
                plots.extend(of(&kind, false, Some(drawn))?);
            }
        }
        if !matches!(section.measure, Measure::Accuracy { .. }) {
            for (index, family) in families.iter().enumerate() {
                plots.extend(of(
                    &differences(index, families.len()),
                    false,
                    forest::plot(&[section], family, &cast.labels, confidence)?,
                )?);
            }
        }
        if matches!(section.measure, Measure::Perplexity { .. }) {
            plots.extend(of("seeds", false, seeds::plot(section, &cast)?)?);
            plots.extend(of("time", true, front::plot(section, &cast, Clock::Pruning)?)?);
            plots.extend(of("speed", true, front::plot(section, &cast, Clock::Scoring)?)?);
        }
    }
    let mut models: Vec<&str> = Vec::new();
    for section in &results.sections {
        if models.contains(&section.model.as_str()) {
            continue;
        }
        models.push(&section.model);
        let tasks = results.sections.iter().filter(|it| it.model == section.model);
        let tasks: Vec<&Section> = tasks
            .filter(|it| matches!(it.measure, Measure::Accuracy { .. }))
            .collect();
        let of = |kind: &str, drawn: Option<Drawn>| {
            let name = name(kind, &section.model, None);
            drawn.map(|drawn| plot(name, false, drawn)).transpose()
        };
        plots.extend(of(ACCURACY, accuracies::plot(&tasks, &cast, confidence)?)?);
        for (index, family) in families.iter().enumerate() {
            let kind = format!("{}-{ACCURACY}", differences(index, families.len()));
            plots.extend(of(&kind, forest::plot(&tasks, family, &cast.labels, confidence)?)?);
        }
        for quantity in &layers::QUANTITIES {
            plots.extend(of(quantity.name, layers::plot(section, &cast, quantity)?)?);
        }
    }
    Ok(plots)
}

fn plot(name: String, time: bool, drawn: Drawn) -> Result<Plot> {
    let Drawn { caption, svg, data } = drawn;
    let data = csv(&data, &name)?;
    Ok(Plot {
        name,
        caption,
        time,
        svg,
        data,
    })
}

/// The file name of a plot, without ending.
fn name(kind: &str, model: &str, measure: Option<&Measure>) -> String {
    match measure {
        Some(measure) => plain(&format!("{kind}-{model}-{}", measure.label())),
        None => plain(&format!("{kind}-{model}")),
    }
}

/// The name of a plot's kind, for the differences of one family.
fn differences(index: usize, families: usize) -> String {
    match families {
        1 => "differences".to_string(),
        _ => format!("differences-{}", index + 1),
    }
}

/// The file names of all plots that an experiment may get, each with the labels that it comes from.
pub fn names(experiment: &Experiment) -> Vec<(String, String)> {
    let families = experiment.comparisons.len().max(1);
    let differences: Vec<String> = (0..families).map(|index| differences(index, families)).collect();
    let crossed = crossed::names(experiment);
    let mut names = Vec::new();
    for model in experiment.models.iter().map(|model| &model.name) {
        for evaluation in &experiment.evaluations {
            let measure = Measure::Perplexity {
                evaluation: evaluation.name.clone(),
            };
            let labels = format!("model `{model}` with evaluation `{}`", evaluation.name);
            let own = ["perplexity", "seeds", "time", "speed"].into_iter();
            let kinds = own.chain(differences.iter().map(String::as_str));
            let kinds = kinds.chain(crossed.iter().map(String::as_str));
            names.extend(kinds.map(|kind| (name(kind, model, Some(&measure)), labels.clone())));
        }
        for measure in to_dense(experiment) {
            let labels = format!("model `{model}` with {}", measure.label());
            let kinds = differences.iter();
            names.extend(kinds.map(|kind| (name(kind, model, Some(&measure)), labels.clone())));
        }
        if experiment.answered().next().is_some() {
            let labels = format!("model `{model}` with all tasks");
            let kinds = differences.iter().map(|kind| format!("{kind}-{ACCURACY}"));
            let kinds = kinds.chain([ACCURACY.to_string()]);
            names.extend(kinds.map(|kind| (name(&kind, model, None), labels.clone())));
        }
        for quantity in &layers::QUANTITIES {
            names.push((name(quantity.name, model, None), format!("model `{model}`")));
        }
    }
    names
}
