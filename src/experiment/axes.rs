//! The axes that methods differ in: the steps of a recipe and what its statistics are gathered on.

use super::method::{ComponentPlan, MethodPlan};
use crate::choices;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An axis of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Which weights are removed.
    Criterion,
    /// Among which weights.
    Group,
    /// Which columns share an N:M group.
    Permutation,
    /// How the mask is improved.
    Refine,
    /// How the kept weights are updated.
    Solver,
    /// What a bias makes up for.
    Compensate,
    /// How much is removed from which layer.
    Allocator,
    /// What statistics are gathered on.
    Stage,
    /// Which outputs a solver reproduces.
    Target,
}

impl Axis {
    /// All axes, in the order of the steps.
    pub const ALL: [Axis; 9] = [
        Axis::Criterion,
        Axis::Group,
        Axis::Permutation,
        Axis::Refine,
        Axis::Solver,
        Axis::Compensate,
        Axis::Allocator,
        Axis::Stage,
        Axis::Target,
    ];

    /// A method's value on the axis, as tables show it: the name of a component, with its parameters if another of the
    /// `methods` has the same component with others; `none` for a step that is left out.
    pub fn value(self, method: &MethodPlan, methods: &[MethodPlan]) -> String {
        match self {
            Axis::Group => return choices::name(&method.group),
            Axis::Stage => {
                return method
                    .stage
                    .map_or("as calibrated".to_string(), |stage| choices::name(&stage));
            }
            Axis::Target => return choices::name(&method.target),
            _ => {}
        }
        let Some(component) = self.component(method) else {
            return "none".to_string();
        };
        let others = methods.iter().filter_map(|other| self.component(other));
        let alike = |other: &ComponentPlan| other.name != component.name || other.parameters == component.parameters;
        match others.into_iter().all(alike) {
            true => component.name.clone(),
            false => format!("{} {}", component.name, parameters(component)),
        }
    }

    fn component(self, method: &MethodPlan) -> Option<&ComponentPlan> {
        match self {
            Axis::Criterion => Some(&method.criterion),
            Axis::Permutation => method.steps.permutation.as_ref(),
            Axis::Refine => method.steps.refine.as_ref(),
            Axis::Solver => Some(&method.solver),
            Axis::Compensate => method.steps.compensate.as_ref(),
            Axis::Allocator => Some(&method.allocator),
            Axis::Group | Axis::Stage | Axis::Target => None,
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&choices::name(self))
    }
}

/// The parameters of a component, as `name = value` in parentheses.
fn parameters(component: &ComponentPlan) -> String {
    let table = component.parameters.as_object();
    let pairs = table
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} = {value}"));
    format!("({})", pairs.collect::<Vec<_>>().join(", "))
}

/// Pairs of methods that differ on one axis only, where the second has one of the `against` values: the first and the second
/// method's places in `methods`.
pub fn pairs(axis: Axis, against: &[String], methods: &[MethodPlan]) -> Vec<(usize, usize)> {
    let rest = |method: &MethodPlan| -> Vec<String> {
        let others = Axis::ALL.into_iter().filter(|other| *other != axis);
        others.map(|axis| axis.value(method, methods)).collect()
    };
    let mut pairs = Vec::new();
    for (first, ours) in methods.iter().enumerate() {
        for (second, other) in methods.iter().enumerate() {
            let (value, reference) = (axis.value(ours, methods), axis.value(other, methods));
            if value != reference
                && against.contains(&reference)
                && !against.contains(&value)
                && rest(ours) == rest(other)
            {
                pairs.push((first, second));
            }
        }
    }
    pairs
}
