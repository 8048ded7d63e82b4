//! Experiments of one cell, from the command line instead of a file: what `zprune prune` and `zprune eval` run.

use super::plan::{CalibrationPlan, EvaluationPlan, Experiment, MethodPlan, ModelPlan, method};
use super::raw::{RawComponent, RawMethod};
use crate::error::{Error, Located, Result};
use crate::linalg::Provider;
use crate::prune::pattern::{Group, Pattern, Selection};
use serde_spanned::Spanned;
use std::path::Path;

/// A method as the command line names it: `wanda`, `sparsegpt`, `ria+obs`, and settings `key=value`.
///
/// # Errors
/// Unknown names and keys, wrong types, with the nearest known name.
pub fn named_method(name: &str, settings: &[String], group: Option<Group>) -> Result<MethodPlan> {
    let (criterion, solver) = match name.split_once('+') {
        Some((criterion, solver)) => (criterion, solver),
        None if name == "sparsegpt" => ("obs", "obs"),
        None => (name, "one-shot"),
    };
    let mut criterion = component(criterion);
    let mut solver = component(solver);
    let mut allocator = component("uniform");
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::config(format!("--set {setting} is not of the form key=value")))?;
        let (part, key) = match key.trim().split_once('.') {
            Some(("solver", key)) => (&mut solver, key),
            Some(("allocator", key)) => (&mut allocator, key),
            Some(("criterion", key)) => (&mut criterion, key),
            _ => (&mut criterion, key.trim()),
        };
        part.parameters.insert(key.to_string(), value_of(value.trim()));
    }
    let spanned = |component| Spanned::new(0..0, component);
    let raw = RawMethod {
        name: Some(name.to_string()),
        criterion: spanned(criterion),
        solver: Some(spanned(solver)),
        allocator: Some(spanned(allocator)),
        group,
    };
    method(&raw, &|_| "--method".to_string())
}

fn component(name: &str) -> RawComponent {
    RawComponent {
        name: name.to_string(),
        parameters: toml::Table::new(),
    }
}

/// A value as it would stand in TOML; what is none there is a string.
fn value_of(text: &str) -> toml::Value {
    let table: std::result::Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_string()))
}

fn empty(model: &Path) -> Experiment {
    Experiment {
        name: "single".to_string(),
        description: String::new(),
        confidence: 0.95,
        backend: super::plan::BACKENDS[0].to_string(),
        linear_algebra: Provider::Faer,
        selection: Selection::Exact,
        seeds: Vec::new(),
        patterns: Vec::new(),
        calibration: None,
        models: vec![ModelPlan {
            name: model.display().to_string(),
            path: model.to_path_buf(),
            obtain: None,
        }],
        methods: Vec::new(),
        evaluations: Vec::new(),
    }
}

/// One model pruned once.
///
/// # Errors
/// The pattern is impossible, or the method calibrates and there is nothing to calibrate on.
pub fn pruning(
    model: &Path,
    method: MethodPlan,
    pattern: Pattern,
    selection: Selection,
    calibration: Option<CalibrationPlan>,
    seed: u64,
) -> Result<Experiment> {
    pattern.validate()?;
    if method.calibrated {
        match &calibration {
            Some(calibration) => calibration.validate().at("--calibration")?,
            None => {
                let name = &method.name;
                return Err(Error::config(format!(
                    "method `{name}` looks at activations: give --calibration FILE, or --tokens FILE"
                )));
            }
        }
    }
    Ok(Experiment {
        selection,
        seeds: if method.calibrated { vec![seed] } else { Vec::new() },
        patterns: vec![pattern],
        calibration: calibration.filter(|_| method.calibrated),
        methods: vec![method],
        ..empty(model)
    })
}

/// One model measured as it is.
///
/// # Errors
/// The evaluation is impossible.
pub fn evaluation(model: &Path, evaluation: EvaluationPlan) -> Result<Experiment> {
    evaluation.validate()?;
    Ok(Experiment {
        evaluations: vec![evaluation],
        ..empty(model)
    })
}
