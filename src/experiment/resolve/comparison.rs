//! Families of comparisons: which differences an experiment is about, said before it runs.
//!
//! Everything in a family is corrected together (Holm), so a family must be fixed beforehand and be no larger than the
//! question. Families are part of no cell's id: declaring one throws no result away.

use super::methods::pattern;
use super::names::known;
use crate::error::{Error, Located, Result};
use crate::experiment::axes;
use crate::experiment::axis::Axis;
use crate::experiment::plan::{Comparison, DENSE, Experiment};
use crate::experiment::problems::{AtKey, Keyed};
use crate::experiment::raw::RawComparison;
use crate::files::input;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Reads the families of comparisons that a file declares for a report of several experiments, which is `experiment`. Entries with the same
/// name are one family.
///
/// # Errors
/// The file cannot be read or has something else, an entry has an axis, or names what the experiments do not have.
pub fn families(path: &Path, experiment: &Experiment) -> Result<Vec<Comparison>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Families {
        comparison: Vec<RawComparison>,
    }
    let text = input::read_text(path, input::SMALL)?;
    let read = || -> Result<Vec<Comparison>> {
        let declared: Families = toml::from_str(&text).map_err(|error| {
            Error::config(format!(
                "a file of families has [[comparison]] and nothing else: {}",
                error.message()
            ))
        })?;
        let mut families: Vec<Comparison> = Vec::new();
        for raw in &declared.comparison {
            let new = of_several(raw, experiment).at(format_args!("family `{}`", raw.family))?;
            match families.iter_mut().find(|family| family.family == new.family) {
                None => families.push(new),
                Some(family) => joined(family, new)?,
            }
        }
        Ok(families)
    };
    read().at(path.display())
}

/// A family of methods of several experiments, as pairs. Along an axis methods of different experiments would be paired, which differ in
/// more.
fn of_several(raw: &RawComparison, experiment: &Experiment) -> Result<Comparison> {
    if raw.axis.is_some() {
        let message =
            "methods of several experiments are compared by name: write `ours` and `against` in place of `axis`";
        return Err(Error::config(message));
    }
    let mut family = comparison(raw, experiment).map_err(|(_, error)| error)?;
    let ours = std::mem::take(&mut family.ours);
    let against = std::mem::take(&mut family.against);
    family.pairs = against.into_iter().map(|other| (ours.clone(), other)).collect();
    Ok(family)
}

/// Adds the pairs of another entry of a family.
fn joined(family: &mut Comparison, new: Comparison) -> Result<()> {
    let without_pairs = |it: &Comparison| Comparison {
        pairs: Vec::new(),
        ..it.clone()
    };
    if without_pairs(family) != without_pairs(&new) {
        let message = "its entries have different models, patterns, evaluations or tasks; give them different names";
        return Err(Error::config(message).at(format_args!("family `{}`", new.family)));
    }
    if let Some((ours, other)) = new.pairs.iter().find(|pair| family.pairs.contains(pair)) {
        let message = format!("`{ours}` is compared with `{other}` twice");
        return Err(Error::config(message).at(format_args!("family `{}`", new.family)));
    }
    family.pairs.extend(new.pairs);
    Ok(())
}

/// Resolves a family against the models, methods, patterns, evaluations and tasks of its experiment.
///
/// # Errors
/// Names and patterns the experiment does not have, a method against itself, nothing to compare.
pub fn comparison(raw: &RawComparison, experiment: &Experiment) -> Keyed<Comparison> {
    let others = against(raw, experiment).at_key("against")?;
    if let Some(twice) = (1..others.len()).find(|index| others[..*index].contains(&others[*index])) {
        let message = format!("`{}` is listed twice in `against`", others[twice]);
        return Err(("against", Error::config(message)));
    }
    let (ours, against, pairs) = match (&raw.ours, raw.axis) {
        (Some(ours), None) => {
            labelled(ours, &others, experiment)?;
            (ours.clone(), others, Vec::new())
        }
        (None, Some(axis)) => {
            let pairs = along(axis, &others, experiment).at_key("against")?;
            (String::new(), Vec::new(), pairs)
        }
        _ => {
            let message = "a comparison has either `ours`, the label of a method, or an `axis`";
            return Err(("axis", Error::config(message)));
        }
    };
    let models: Vec<&str> = experiment.models.iter().map(|it| it.name.as_str()).collect();
    let evaluations: Vec<&str> = experiment.evaluations.iter().map(|it| it.name.as_str()).collect();
    let tasks: Vec<&str> = experiment.answered().collect();
    let patterns = match &raw.patterns {
        None => experiment.patterns.clone(),
        Some(patterns) => patterns.iter().map(pattern).collect::<Result<_>>().at_key("patterns")?,
    };
    if let Some(unknown) = patterns.iter().find(|it| !experiment.patterns.contains(it)) {
        let message = format!("pattern {unknown} is none of the sweep's: add it to `sweep.patterns`");
        return Err(("patterns", Error::config(message)));
    }
    let comparison = Comparison {
        family: raw.family.clone(),
        ours,
        against,
        pairs,
        models: labels("model", &raw.models, &models).at_key("models")?,
        patterns,
        evaluations: labels("evaluation", &raw.evaluations, &evaluations).at_key("evaluations")?,
        tasks: labels("task", &raw.tasks, &tasks).at_key("tasks")?,
    };
    let measured = !(comparison.evaluations.is_empty() && comparison.tasks.is_empty());
    let paired = !(comparison.against.is_empty() && comparison.pairs.is_empty());
    let compared = paired && !comparison.models.is_empty();
    if !(measured && compared) || comparison.patterns.is_empty() {
        let message = format!("family `{}` has no two methods to compare", comparison.family);
        return Err(("family", Error::config(message)));
    }
    Ok(comparison)
}

/// What `against` names: labels of methods, or values of the axis as tables show them. A component with parameters, as it is written in a
/// method, stands for every value of its name that has these parameters.
fn against(raw: &RawComparison, experiment: &Experiment) -> Result<Vec<String>> {
    let mut named = Vec::new();
    for typed in &raw.against {
        if typed.parameters.is_empty() {
            named.push(typed.name.clone());
            continue;
        }
        let Some(axis) = raw.axis else {
            let message = format!(
                "`against` has labels of methods beside `ours`, and `{}` has parameters; with `axis` in place of `ours`, `against` has \
                 values of the axis",
                typed.name
            );
            return Err(Error::config(message));
        };
        let values = axes::values_of(axis, typed, experiment);
        if values.is_empty() {
            return Err(Error::config(format!(
                "no method has `{}` with these parameters as its {axis}; write them as in the method",
                typed.name
            )));
        }
        named.extend(values);
    }
    Ok(named)
}

/// Checks the labels of a method and of those that it is compared with.
fn labelled(ours: &str, against: &[String], experiment: &Experiment) -> Keyed<()> {
    let methods: Vec<&str> = experiment.methods.iter().map(|it| it.name.as_str()).collect();
    known("method", ours, &methods).at_key("ours")?;
    let others: Vec<&str> = methods.iter().copied().chain([DENSE]).collect();
    for name in against {
        known("method", name, &others).at_key("against")?;
        if name == ours {
            return Err(("against", Error::config(format!("`{name}` is compared with itself"))));
        }
    }
    Ok(())
}

/// The labels of methods that are compared along an axis with those that have one of the values `against`.
fn along(axis: Axis, against: &[String], experiment: &Experiment) -> Result<Vec<(String, String)>> {
    let methods = &experiment.methods;
    let values: BTreeSet<String> = methods
        .iter()
        .map(|method| axes::value(axis, method, experiment))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for value in against {
        known(&axis.to_string(), value, &values)?;
    }
    let label = |place: usize| methods[place].name.clone();
    let pairs = axes::pairs(axis, against, experiment).into_iter();
    let pairs: Vec<(String, String)> = pairs.map(|(first, second)| (label(first), label(second))).collect();
    match pairs.is_empty() {
        false => Ok(pairs),
        true => Err(Error::config(format!(
            "no two methods are alike but for `{axis}`, with {} on one side{}",
            against.join(" or "),
            axes::nearly(axis, against, experiment)
        ))),
    }
}

/// The labels that were named, or all.
fn labels(what: &str, named: &Option<Vec<String>>, all: &[&str]) -> Result<Vec<String>> {
    match named {
        None => Ok(all.iter().map(|name| name.to_string()).collect()),
        Some(named) => {
            named.iter().try_for_each(|name| known(what, name, all))?;
            Ok(named.clone())
        }
    }
}
