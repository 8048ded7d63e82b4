//! Methods side by side: their values on the axes, and which of them are alike on all but some.

use super::axis::Axis;
use super::method::{ComponentPlan, MethodKind, MethodPlan};
use super::plan::Experiment;
use super::raw::RawComponent;
use crate::choices;
use crate::prune::pattern::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// A method's value on the axis, as tables show it: the name of a component, with the parameters that are not the same
/// wherever the experiment's methods have this component; `none` for a step that is left out.
pub fn value(axis: Axis, method: &MethodPlan, experiment: &Experiment) -> String {
    match axis {
        Axis::Group => return method.group(),
        Axis::Stage => return choices::name(&experiment.stage(method)),
        Axis::Target => return choices::name(&method.recipe().map(|recipe| recipe.target).unwrap_or_default()),
        _ => {}
    }
    let Some(component) = axis.component(method) else {
        // What another program did is one thing, whatever its steps were.
        return match (axis, &method.kind) {
            (Axis::Criterion, MethodKind::Checkpoint(plan)) => plan.checkpoint.display().to_string(),
            _ => "none".to_string(),
        };
    };
    let others = experiment.methods.iter().filter_map(|other| axis.component(other));
    let others: Vec<&ComponentPlan> = others.filter(|other| other.name == component.name).collect();
    let differs = |name: &&String| {
        let value = |plan: &ComponentPlan| plan.parameters.get(name.as_str()).cloned();
        others.iter().any(|other| value(other) != value(component))
    };
    let names: BTreeSet<&String> = others
        .iter()
        .filter_map(|other| other.parameters.as_object())
        .flat_map(|it| it.keys())
        .collect();
    let shown = names
        .into_iter()
        .filter(differs)
        .map(|name| match component.parameters.get(name.as_str()) {
            Some(serde_json::Value::Object(part)) => match part.get("name").and_then(|name| name.as_str()) {
                Some(of) => format!("{name} = {of}"),
                None => format!("{name} = {}", serde_json::Value::Object(part.clone())),
            },
            Some(value) => format!("{name} = {value}"),
            None => format!("no {name}"),
        });
    let shown: Vec<String> = shown.collect();
    match shown.is_empty() {
        true => component.name.clone(),
        false => format!("{} ({})", component.name, shown.join(", ")),
    }
}

/// The values on the axis of the methods that have this component for it, with these parameters among theirs.
pub fn values_of(axis: Axis, typed: &RawComponent, experiment: &Experiment) -> BTreeSet<String> {
    let has = |method: &&MethodPlan| {
        axis.component(method).is_some_and(|component| {
            let same = |(key, value): (&String, &toml::Value)| {
                let own = component.parameters.get(key.as_str());
                own.is_some_and(|own| is_written_as(own, value))
            };
            component.name == typed.name && typed.parameters.iter().all(same)
        })
    };
    let methods = experiment.methods.iter().filter(has);
    methods.map(|method| value(axis, method, experiment)).collect()
}

/// Whether a parameter has the value that was typed; `1` is `1.0`.
fn is_written_as(own: &serde_json::Value, typed: &toml::Value) -> bool {
    let number = match typed {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        _ => None,
    };
    match number {
        Some(number) => own.as_f64() == Some(number),
        None => serde_json::to_value(typed).is_ok_and(|typed| typed == *own),
    }
}

/// The axes that methods must be alike on when they are compared on `axes`. The group has no say in N:M patterns.
fn others(axes: &[Axis], experiment: &Experiment) -> Vec<Axis> {
    let mut patterns = experiment.patterns.iter();
    let grouped = patterns.any(|pattern| matches!(pattern, Pattern::Unstructured { .. }));
    let counts = |axis: &Axis| !axes.contains(axis) && (grouped || *axis != Axis::Group);
    Axis::ALL.into_iter().filter(counts).collect()
}

/// Pairs of methods that differ on one axis only, where the second has one of the `against` values: the first and the second
/// method's places among the experiment's.
pub fn pairs(axis: Axis, against: &[String], experiment: &Experiment) -> Vec<(usize, usize)> {
    paired(axis, against, experiment, &others(&[axis], experiment))
}

/// What to do where there is no such pair: names two methods that would be one if their groups were the same.
pub fn nearly(axis: Axis, against: &[String], experiment: &Experiment) -> String {
    let others: Vec<Axis> = others(&[axis], experiment);
    let others: Vec<Axis> = others.into_iter().filter(|axis| *axis != Axis::Group).collect();
    match paired(axis, against, experiment, &others).first() {
        None => String::new(),
        Some((first, second)) => {
            let [first, second] = [first, second].map(|place| &experiment.methods[*place]);
            format!(
                "; `{}` and `{}` also differ in `group` ({} and {}): give both the same",
                first.name,
                second.name,
                first.group(),
                second.group()
            )
        }
    }
}

fn paired(axis: Axis, against: &[String], experiment: &Experiment, others: &[Axis]) -> Vec<(usize, usize)> {
    let methods = &experiment.methods;
    let rest =
        |method: &MethodPlan| -> Vec<String> { others.iter().map(|axis| value(*axis, method, experiment)).collect() };
    let mut pairs = Vec::new();
    for (first, ours) in methods.iter().enumerate() {
        for (second, other) in methods.iter().enumerate() {
            let [mine, reference] = [ours, other].map(|method| value(axis, method, experiment));
            if mine != reference
                && against.contains(&reference)
                && !against.contains(&mine)
                && rest(ours) == rest(other)
            {
                pairs.push((first, second));
            }
        }
    }
    pairs
}

/// Methods that are alike on all axes but two, with their values on those others that are not the same for all methods. A
/// method that is alone is left out.
pub fn alike(axes: [Axis; 2], experiment: &Experiment) -> BTreeMap<Vec<String>, Vec<&MethodPlan>> {
    let methods = &experiment.methods;
    let differs = |axis: &Axis| {
        let mut values = methods.iter().map(|method| value(*axis, method, experiment));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let others: Vec<Axis> = others(&axes, experiment).into_iter().filter(differs).collect();
    let mut groups: BTreeMap<Vec<String>, Vec<&MethodPlan>> = BTreeMap::new();
    for method in methods {
        let rest = others
            .iter()
            .map(|axis| format!("{axis} {}", value(*axis, method, experiment)));
        groups.entry(rest.collect()).or_default().push(method);
    }
    groups.retain(|_, methods| methods.len() > 1);
    groups
}
