//! What a method is called if its experiment does not say: by its steps, or its recipe; and by every parameter, `stage` and `target` that is
//! not what it is by default. So two methods that differ in one of these have different names, and a name shows what is unusual.

use super::method::{ComponentPlan, RecipePlan, StepPlans, UnitsPlan};
use crate::choices;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::{UNITS, Widths};
use serde_json::Value;

/// A value with more characters than this is no part of a name: it is a formula, a path, or a list of shares.
const LONGEST: usize = 24;

/// The name of a method that is a recipe. `known` is the recipe's own name, if nothing but an allocator was written beside it.
pub fn of_recipe(plan: &RecipePlan, known: Option<&str>) -> String {
    let StepPlans {
        transform,
        permutation,
        refine,
        compensate,
    } = &plan.steps;
    let (criterion, solver) = (Some(&plan.criterion), Some(&plan.solver));
    let [transform, permutation] = [transform, permutation].map(Option::as_ref);
    let [refine, compensate] = [refine, compensate].map(Option::as_ref);
    let steps = [
        Step::of("transform", transform, &TRANSFORMS),
        Step::of("criterion", criterion, &CRITERIA),
        Step::of("permutation", permutation, &PERMUTATIONS),
        Step::of("refine", refine, &REFINERS),
        Step::of("solver", solver.filter(|solver| solver.name != "one-shot"), &SOLVERS),
        Step::of("compensate", compensate, &COMPENSATIONS),
    ];
    let steps: Vec<Step> = steps.into_iter().flatten().collect();
    let allocator = Step::of("allocator", Some(&plan.allocator), &ALLOCATORS).filter(|step| step.name != "uniform");
    let mut unusual = Vec::new();
    if known.is_none() {
        unusual.extend(parameters(&steps));
    }
    if let Some(allocator) = allocator {
        unusual.push(allocator.name.clone());
        unusual.extend(parameters(&[allocator]));
    }
    if known.is_none() {
        unusual.extend(plan.stage.map(|stage| choices::name(&stage)));
        unusual.extend((!plan.target.is_default()).then(|| "target dense".to_string()));
    }
    let called = known.map_or_else(|| joined(&steps), str::to_string);
    in_brackets(called, &unusual)
}

/// The name of a method of whole units.
pub fn of_units(plan: &UnitsPlan) -> String {
    let step = Step::of("units", Some(&plan.units), &UNITS);
    let mut unusual = parameters(step.as_slice());
    unusual.extend((plan.widths == Widths::PerBlock).then(|| "per block".to_string()));
    in_brackets(plan.units.name.clone(), &unusual)
}

/// The name of a parameter as people say it.
pub fn spoken(key: &str) -> String {
    key.replace('_', " ")
}

/// The value of a parameter as people say it.
pub fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_string(),
        Value::Bool(true) => "yes".to_string(),
        Value::Bool(false) => "no".to_string(),
        Value::Array(parts) => parts.iter().map(said).collect::<Vec<_>>().join(" and "),
        Value::Object(parts) => {
            let named = parts.iter().filter(|(key, _)| *key != "name");
            let named: Vec<String> = named
                .map(|(key, value)| format!("{} {}", spoken(key), said(value)))
                .collect();
            let name = parts.get("name").map(said);
            name.into_iter().chain(named).collect::<Vec<_>>().join(" ")
        }
        Value::Number(number) => number.to_string(),
    }
}

/// A step of a method: its key in a `[[method]]`, its component, and what is unusual about that one.
struct Step {
    key: &'static str,
    name: String,
    /// All parameters of the component.
    parameters: Vec<String>,
    /// Those that are not what they are by default, as people say them.
    changed: Vec<(String, String)>,
}

impl Step {
    fn of<T: ?Sized>(key: &'static str, plan: Option<&ComponentPlan>, components: &Components<T>) -> Option<Step> {
        let plan = plan?;
        let table = plan.parameters.as_object();
        let keys = table.into_iter().flatten().map(|(key, _)| key.clone());
        Some(Step {
            key,
            name: plan.name.clone(),
            parameters: keys.collect(),
            changed: changed(plan, components),
        })
    }
}

/// The parameters of a component that have another value than they have by default, and those without a default.
fn changed<T: ?Sized>(plan: &ComponentPlan, components: &Components<T>) -> Vec<(String, String)> {
    let Ok(table) = toml::Table::try_from(&plan.parameters) else {
        return Vec::new();
    };
    let differs = |key: &String, value: &Value| {
        let mut others = table.clone();
        others.remove(key);
        match components.build(&plan.name, &others) {
            Ok(built) => built.parameters.get(key) != Some(value),
            // What has no default decides as much; a text is a path or a formula then.
            Err(_) => value.is_number() || value.is_boolean(),
        }
    };
    let parameters = plan.parameters.as_object().into_iter().flatten();
    parameters
        // The group is beside the names of methods in every table.
        .filter(|(key, value)| *key != "group" && differs(key, value))
        .map(|(key, value)| (key.clone(), said(value)))
        .filter(|(_, value)| value.chars().count() <= LONGEST)
        .collect()
}

/// The changed parameters of steps. The key of the step stands before one that several steps have.
fn parameters(steps: &[Step]) -> Vec<String> {
    let mut found = Vec::new();
    for step in steps {
        for (key, value) in &step.changed {
            let several = steps.iter().filter(|step| step.parameters.contains(key)).count() > 1;
            let of_step = if several {
                format!("{} ", step.key)
            } else {
                String::new()
            };
            found.push(format!("{of_step}{} {value}", spoken(key)));
        }
    }
    found
}

/// The names of the steps in their order.
fn joined(steps: &[Step]) -> String {
    let names = steps.iter().map(|step| match step.key {
        // A criterion can have the same name.
        "permutation" => format!("{}-permutation", step.name),
        _ => step.name.clone(),
    });
    let names: Vec<String> = names.collect();
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["obs", "obs"] => "sparsegpt".to_string(),
        _ => names.join("+"),
    }
}

fn in_brackets(name: String, unusual: &[String]) -> String {
    match unusual.is_empty() {
        true => name,
        false => format!("{name} ({})", unusual.join(", ")),
    }
}
