//! Parameters of a method that do not stand in their step's table, and steps that are tables without a name: which line is meant.

use super::known::{KnownRecipe, stands_for};
use super::raw::{RawComponent, RawMethod, STEPS};
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::UNITS;
use serde_spanned::Spanned;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Most components that are listed where several could be meant.
const MOST: usize = 6;

/// What to say of a mistake that the reader of keys found at `span`, if it is one of these; `message` is the reader's own.
pub(super) fn said(text: &str, file: &DeTable, span: &Range<usize>, message: &str) -> Option<String> {
    let mut methods = methods(file);
    if message.starts_with("unknown field") {
        return methods.find_map(|method| {
            let (key, value) = method.iter().find(|(key, _)| key.span() == *span)?;
            beside(text, method, key.get_ref(), &text[value.span()])
        });
    }
    if message != "missing field `name`" {
        return None;
    }
    methods.find_map(|method| {
        let (key, value) = method.iter().find(|(_, value)| value.span() == *span)?;
        let DeValue::Table(typed) = value.get_ref() else {
            return None;
        };
        without_name(text, method, key.get_ref(), typed)
    })
}

/// The tables of all methods of a file.
fn methods<'a, 'i>(file: &'a DeTable<'i>) -> impl Iterator<Item = &'a DeTable<'i>> {
    let lists = ["method", "methods"]
        .into_iter()
        .filter_map(|key| match file.get(key)?.get_ref() {
            DeValue::Array(list) => Some(list),
            _ => None,
        });
    let elements = lists.flat_map(|list| list.iter());
    elements.filter_map(|element| match element.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}

/// What to say of a key beside the steps of a method that is a parameter.
fn beside(text: &str, method: &DeTable, key: &str, value: &str) -> Option<String> {
    let value = if value.contains('\n') { "..." } else { value };
    if key == "expression" {
        return Some(format!(
            "unknown key `expression` here: a formula is a criterion; write `criterion = {{ expression = {value} }}`, with the values of its \
             parameters in the same braces"
        ));
    }
    let steps = steps(text, method);
    if let Some(step) = steps.iter().find(|step| has(step.key, &step.name, key)) {
        let line = step.line(Some(&format!("{key} = {value}")));
        let criterion = &step.of_sum.as_ref().filter(|_| step.key == "solver");
        let instead = criterion.map_or(String::new(), |name| format!("`criterion = \"{name}\"` and "));
        return Some(format!(
            "unknown key `{key}` here: it is a parameter of {} `{}`; write {instead}`{line}`",
            step.key, step.name
        ));
    }
    let owners = owners(key);
    let (more, owners) = (owners.len() > MOST, owners.into_iter().take(MOST).collect::<Vec<_>>());
    (!owners.is_empty()).then(|| {
        format!(
            "unknown key `{key}` here: no step of this method has such a parameter; it is one of {}{}",
            owners.join(", "),
            if more { " and others" } else { "" }
        )
    })
}

/// What to say of a step whose table has parameters and no name.
fn without_name(text: &str, method: &DeTable, key: &str, typed: &DeTable) -> Option<String> {
    let step = keys().find(|step| *step == key)?;
    let parameters: Vec<&str> = typed.iter().map(|(key, _)| &**key.get_ref()).collect();
    if parameters.is_empty() {
        return None;
    }
    let fits = |name: &str| parameters.iter().all(|parameter| has(step, name, parameter));
    let of_recipe = steps(text, method)
        .into_iter()
        .find(|own| own.key == step && fits(&own.name));
    let named = |name: String| Step {
        key: step,
        name,
        parameters: parameters_of(text, typed),
        of_sum: None,
    };
    let names: Vec<String> = match of_recipe {
        Some(own) => vec![own.name],
        None => all(step)
            .into_iter()
            .filter(|name| fits(name))
            .map(str::to_string)
            .collect(),
    };
    match names.len() {
        0 => None,
        1 => names
            .into_iter()
            .next()
            .map(|name| format!("`name` is missing: write `{}`", named(name).line(None))),
        _ => Some(format!(
            "`name` is missing: {} have such parameters; write, for example, `{}`",
            in_backquotes(&names),
            named(names[0].clone()).line(None)
        )),
    }
}

fn in_backquotes(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > MOST { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A step of a method as it was typed, or as its recipe says it.
struct Step {
    key: &'static str,
    name: String,
    /// `key = value`, each.
    parameters: Vec<String>,
    /// The criterion of `criterion+solver`, if the method was typed so.
    of_sum: Option<String>,
}

impl Step {
    /// The line of a file, perhaps with one more parameter.
    fn line(&self, more: Option<&str>) -> String {
        let name = format!("name = \"{}\"", self.name);
        let parameters = self.parameters.iter().map(String::as_str).chain(more);
        let inside: Vec<&str> = std::iter::once(name.as_str()).chain(parameters).collect();
        format!("{} = {{ {} }}", self.key, inside.join(", "))
    }
}

/// The keys whose values are components.
fn keys() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().chain(["units"])
}

/// The steps of a method that have a name: those that were typed, and those of its recipe.
fn steps(text: &str, method: &DeTable) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    let mut whole: Option<RawMethod> = None;
    let mut of_sum = None;
    if let Some(DeValue::String(name)) = method.get("recipe").map(Spanned::get_ref) {
        whole = KnownRecipe::find(name).map(KnownRecipe::method);
    }
    for key in keys() {
        let Some(typed) = method.get(key).map(Spanned::get_ref) else {
            continue;
        };
        let (name, parameters) = match typed {
            DeValue::String(name) => (name.to_string(), Vec::new()),
            DeValue::Table(table) => match table.get("name").map(Spanned::get_ref) {
                Some(DeValue::String(name)) => (name.to_string(), parameters_of(text, table)),
                // A formula has no parameters but those of the user.
                _ => continue,
            },
            _ => continue,
        };
        if key == "criterion" && CRITERIA.find(&name).is_err() {
            of_sum = name.split_once('+').map(|(criterion, _)| criterion.trim().to_string());
            whole = whole.or_else(|| stands_for(&name));
            continue;
        }
        found.push(Step {
            key,
            name,
            parameters,
            of_sum: None,
        });
    }
    let Some(whole) = whole else {
        return found;
    };
    let of_recipe = [
        ("criterion", whole.criterion),
        ("solver", whole.solver),
        ("allocator", whole.allocator),
        ("transform", whole.transform),
        ("permutation", whole.permutation),
        ("refine", whole.refine),
        ("compensate", whole.compensate),
    ];
    for (key, component) in of_recipe {
        let typed = found.iter().any(|step| step.key == key);
        if let Some(RawComponent { name, parameters }) = component.filter(|_| !typed).map(Spanned::into_inner) {
            let parameters = parameters.iter().map(|(key, value)| format!("{key} = {value}"));
            found.push(Step {
                key,
                name,
                parameters: parameters.collect(),
                of_sum: of_sum.clone(),
            });
        }
    }
    found
}

/// The parameters in a step's table, as they were typed.
fn parameters_of(text: &str, table: &DeTable) -> Vec<String> {
    let parameters = table.iter().filter(|(key, _)| key.get_ref() != "name");
    parameters
        .map(|(key, value)| format!("{} = {}", key.get_ref(), &text[value.span()]))
        .collect()
}

/// Whether the component of a step has such a parameter.
fn has(step: &str, name: &str, parameter: &str) -> bool {
    fn of<T: ?Sized>(components: &Components<T>, name: &str, parameter: &str) -> bool {
        let parameters = components.parameters(name).unwrap_or_default();
        parameters.iter().any(|it| it.name == parameter)
    }
    match step {
        "criterion" => of(&CRITERIA, name, parameter),
        "solver" => of(&SOLVERS, name, parameter),
        "allocator" => of(&ALLOCATORS, name, parameter),
        "transform" => of(&TRANSFORMS, name, parameter),
        "permutation" => of(&PERMUTATIONS, name, parameter),
        "refine" => of(&REFINERS, name, parameter),
        "compensate" => of(&COMPENSATIONS, name, parameter),
        "units" => of(&UNITS, name, parameter),
        _ => false,
    }
}

/// The names of all components of a step.
fn all(step: &str) -> Vec<&'static str> {
    fn of<T: ?Sized>(components: &Components<T>) -> Vec<&'static str> {
        components.entries().iter().map(|entry| entry.name).collect()
    }
    match step {
        "criterion" => of(&CRITERIA),
        "solver" => of(&SOLVERS),
        "allocator" => of(&ALLOCATORS),
        "transform" => of(&TRANSFORMS),
        "permutation" => of(&PERMUTATIONS),
        "refine" => of(&REFINERS),
        "compensate" => of(&COMPENSATIONS),
        "units" => of(&UNITS),
        _ => Vec::new(),
    }
}

/// The components that have a parameter, with their steps.
fn owners(parameter: &str) -> Vec<String> {
    let of_step = |step: &'static str| {
        let names = all(step).into_iter().filter(move |name| has(step, name, parameter));
        names.map(move |name| format!("{step} `{name}`"))
    };
    keys().flat_map(of_step).collect()
}

#[cfg(test)]
mod tests {
    use super::super::problems::Problems;
    use super::super::source::Source;

    #[test]
    fn a_parameter_beside_its_step_is_answered_with_the_line_that_is_meant() {
        for (method, said) in [
            (
                "recipe = \"sparsegpt\"\ndamping = 0.02",
                "unknown key `damping` here: it is a parameter of solver `obs`; write `solver = { name = \"obs\", damping = 0.02 }`",
            ),
            (
                "criterion = \"sparsegpt\"\ndamping = 0.02",
                "write `solver = { name = \"obs\", damping = 0.02 }`",
            ),
            (
                "criterion = \"ria+obs\"\ndamping = 0.02",
                "write `criterion = \"ria\"` and `solver = { name = \"obs\", damping = 0.02 }`",
            ),
            (
                "recipe = \"thanos\"\ndamping = 0.02",
                "write `solver = { name = \"obs\", order = \"rescore\", damping = 0.02 }`",
            ),
            (
                "criterion = \"ria\"\nsolver = { name = \"obs\", order = \"loss\" }\ndamping = 0.02",
                "write `solver = { name = \"obs\", order = \"loss\", damping = 0.02 }`",
            ),
            (
                "criterion = \"ria\"\nactivation_power = 1.0",
                "write `criterion = { name = \"ria\", activation_power = 1.0 }`",
            ),
            (
                "units = \"llm-pruner\"\ntaylor = \"vectorize\"",
                "write `units = { name = \"llm-pruner\", taylor = \"vectorize\" }`",
            ),
            (
                "criterion = \"wanda\"\nactivation_power = 1.0",
                "no step of this method has such a parameter; it is one of criterion `ria`",
            ),
            (
                "expression = \"abs(w)\"",
                "write `criterion = { expression = \"abs(w)\" }`",
            ),
            (
                "recipe = \"sparsegpt\"\nsolver = { damping = 0.02 }",
                "`name` is missing: write `solver = { name = \"obs\", damping = 0.02 }`",
            ),
            (
                "criterion = \"wanda\"\nallocator = { m = 7 }",
                "`name` is missing: write `allocator = { name = \"owl\", m = 7 }`",
            ),
            (
                "criterion = \"wanda\"\nsolver = { damping = 0.02 }",
                "have such parameters; write, for example, `solver = { name = \"",
            ),
            (
                "criterion = \"wanda\"\nslover = \"obs\"",
                "unknown key `slover`; did you mean `solver`?",
            ),
        ] {
            for text in [
                format!("[[method]]\n{method}\n"),
                format!("methods = [{{ {} }}]\n", method.replace('\n', ", ")),
            ] {
                let source = Source {
                    path: "x.toml".into(),
                    text,
                };
                let mut problems = Problems::default();
                source.parse(&mut problems);
                let told = problems.in_file(&source.path, &source.text);
                let told = told.expect_err(method).to_string();
                assert!(told.contains(said), "no `{said}` in:\n{told}");
            }
        }
    }
}
