//! What methods are called where people read: by their names, with the parameters that tell two of them apart.

use crate::choices;
use crate::experiment::axis::Axis;
use crate::experiment::default_name::{said, spoken};
use crate::experiment::method::MethodPlan;
use crate::experiment::plan::Experiment;
use std::collections::BTreeMap;

/// The label of every method of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels of an experiment's methods. A method that another one differs from in parameters only has these
    /// parameters behind its name, unless the name has their values already.
    pub fn of(experiment: &Experiment) -> Labels {
        let methods = &experiment.methods;
        let label = |method: &MethodPlan| {
            let mut shown: Vec<(String, String)> = Vec::new();
            for other in methods.iter().filter(|other| alike(method, other)) {
                for (key, value) in differing(method, other) {
                    if !shown.iter().any(|(known, _)| *known == key) && !method.name.contains(&value) {
                        shown.push((key, value));
                    }
                }
            }
            let shown: Vec<String> = shown.iter().map(|(key, value)| format!("{key} {value}")).collect();
            match shown.is_empty() {
                true => method.name.clone(),
                false => format!("{} ({})", method.name, shown.join(", ")),
            }
        };
        Labels(
            methods
                .iter()
                .map(|method| (method.name.clone(), label(method)))
                .collect(),
        )
    }

    /// The label of a method; its name if it is none of the experiment's, as the dense model.
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }
}

/// Whether two methods have the same components for all steps, and the same settings that are no components.
fn alike(first: &MethodPlan, second: &MethodPlan) -> bool {
    let names = |method: &MethodPlan| -> Vec<Option<String>> {
        let components = Axis::ALL.iter().map(|axis| axis.component(method));
        components.map(|it| it.map(|it| it.name.clone())).collect()
    };
    let settings = |method: &MethodPlan| {
        let recipe = method.recipe();
        let stage = recipe.and_then(|recipe| recipe.stage.as_ref()).map(choices::name);
        (
            method.group(),
            stage,
            recipe.map(|recipe| choices::name(&recipe.target)),
        )
    };
    first.name != second.name && names(first) == names(second) && settings(first) == settings(second)
}

/// The parameters of the first method whose values the second has not.
fn differing(first: &MethodPlan, second: &MethodPlan) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for axis in Axis::ALL {
        let (Some(ours), Some(others)) = (axis.component(first), axis.component(second)) else {
            continue;
        };
        for (key, value) in ours.parameters.as_object().into_iter().flatten() {
            if others.parameters.get(key) != Some(value) {
                found.push((spoken(key), said(value)));
            }
        }
    }
    found
}
