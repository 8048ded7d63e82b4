//! Plots in SVG and PNG. Returns text and bytes, opens no file.

mod canvas;
mod curve;
mod forest;
mod front;
mod layers;
pub mod raster;
mod seeds;

use super::comparison::Family;
use super::results::{Measure, Results, Section};
use crate::error::Result;

/// A plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// Name of its files, without folder and ending.
    pub name: String,
    /// What it shows, in a sentence: for those who cannot see it, and below it in the page.
    pub caption: String,
    /// Whether it shows durations, which differ from run to run.
    pub time: bool,
    /// The picture.
    pub svg: String,
}

/// All plots that have something to show.
///
/// # Errors
/// The drawing library fails.
pub fn all(results: &Results, families: &[Family]) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    let methods: Vec<&str> = results
        .plan
        .experiment
        .methods
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let confidence = results.plan.experiment.confidence;
    for section in &results.sections {
        let place = format!("{}-{}", section.model, section.measure.label());
        let of = |kind: &str, time: bool, drawn: Option<(String, String)>| {
            drawn.map(|(caption, svg)| Plot {
                name: file_name(&format!("{kind}-{place}")),
                caption,
                time,
                svg,
            })
        };
        if matches!(section.measure, Measure::Perplexity { .. }) {
            plots.extend(of("perplexity", false, curve::plot(section, &methods, confidence)?));
        }
        for (index, family) in families.iter().enumerate() {
            let kind = match families.len() {
                1 => "differences".to_string(),
                _ => format!("differences-{}", index + 1),
            };
            plots.extend(of(&kind, false, forest::plot(section, family, confidence)?));
        }
        if matches!(section.measure, Measure::Perplexity { .. }) {
            plots.extend(of("seeds", false, seeds::plot(section, &methods)?));
            plots.extend(of("time", true, front::plot(section, &methods)?));
        }
    }
    let mut models: Vec<&str> = Vec::new();
    for section in &results.sections {
        if models.contains(&section.model.as_str()) {
            continue;
        }
        models.push(&section.model);
        for quantity in &layers::QUANTITIES {
            let drawn = layers::plot(section, &methods, quantity)?;
            plots.extend(drawn.map(|(caption, svg)| Plot {
                name: file_name(&format!("{}-{}", quantity.name, section.model)),
                caption,
                time: false,
                svg,
            }));
        }
    }
    Ok(plots)
}

/// A label as part of a file name.
fn file_name(label: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
        true => c,
        false => '_',
    };
    label.chars().map(plain).collect()
}

/// A section in the heading of a plot.
fn heading(section: &Section) -> String {
    format!("{} on {}", section.model, section.measure.label())
}
