//! An axis that methods differ in: a step of a recipe, or what its statistics are gathered on.

use super::method::{ComponentPlan, MethodKind, MethodPlan};
use crate::choices;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An axis of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// In which variables layers are pruned.
    Transform,
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
    pub const ALL: [Axis; 10] = [
        Axis::Transform,
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

    /// The component that a method has for this step; none for a step that is left out, and for what is no component. What removes whole
    /// units stands for the criterion.
    pub fn component(self, method: &MethodPlan) -> Option<&ComponentPlan> {
        let recipe = match &method.kind {
            MethodKind::Recipe(recipe) => recipe,
            MethodKind::Units(plan) => return Some(&plan.units).filter(|_| self == Axis::Criterion),
            MethodKind::Checkpoint(_) => return None,
        };
        match self {
            Axis::Criterion => Some(&recipe.criterion),
            Axis::Transform => recipe.steps.transform.as_ref(),
            Axis::Permutation => recipe.steps.permutation.as_ref(),
            Axis::Refine => recipe.steps.refine.as_ref(),
            Axis::Solver => Some(&recipe.solver),
            Axis::Compensate => recipe.steps.compensate.as_ref(),
            Axis::Allocator => Some(&recipe.allocator),
            Axis::Group | Axis::Stage | Axis::Target => None,
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&choices::name(self))
    }
}
