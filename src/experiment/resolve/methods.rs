//! Methods and patterns: components looked up, defaults filled in.

use crate::backend::moments::Needs;
use crate::calibrate::Goal;
use crate::calibrate::gradients::Loss;
use crate::error::{Error, Result};
use crate::experiment::default_name;
use crate::experiment::file_names::varies;
use crate::experiment::known::{KNOWN, KnownRecipe, filled};
use crate::experiment::plan::{
    CheckpointPlan, ComponentPlan, MethodKind, MethodPlan, RecipePlan, StepPlans, UnitsPlan,
};
use crate::experiment::problems::{AtKey, Keyed, Problems};
use crate::experiment::protocol::{Named, agree};
use crate::experiment::raw::{RawComponent, RawMethod, RawPattern};
use crate::model::layer_file::Content;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::{Built, Components};
use crate::prune::criterion::CRITERIA;
use crate::prune::pattern::{Group, Pattern};
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::UNITS;
use crate::registry;
use serde::Deserialize;
use serde_spanned::Spanned;
use std::ops::Range;
use std::path::PathBuf;

/// The pattern that was typed.
pub fn pattern(raw: &RawPattern) -> Result<Pattern> {
    let pattern = match (raw.sparsity, raw.keep, raw.of) {
        (Some(sparsity), None, None) => Pattern::Unstructured { sparsity },
        (None, Some(keep), Some(of)) => Pattern::NofM { keep, of },
        _ => {
            return Err(Error::config(
                "a pattern is either { sparsity = 0.5 } or { keep = 2, of = 4 }, not both and not half of one; shorter: 0.5, \"2:4\"",
            ));
        }
    };
    pattern.validate()?;
    Ok(pattern)
}

/// Looks a component up and builds it once, to check its parameters; `typed` is where the name stands.
fn component<T: ?Sized>(
    components: &Components<T>,
    typed: &Spanned<RawComponent>,
    problems: &mut Problems,
) -> Option<(ComponentPlan, Built<T>)> {
    let raw = typed.get_ref();
    let built = match components.find(&raw.name) {
        Ok(_) => components.build(&raw.name, &raw.parameters),
        Err(error) => {
            let criterion = components.kind() == CRITERIA.kind();
            let named = || if criterion { unknown_method(&raw.name) } else { error };
            Err(of_another_step(components.kind(), &raw.name).unwrap_or_else(named))
        }
    };
    let place = match &built {
        Err(error) => parameter_place(&typed.span(), raw, error, problems),
        Ok(_) => typed.span(),
    };
    let built = problems.take(&place, built)?;
    let plan = ComponentPlan {
        name: raw.name.clone(),
        version: built.version,
        parameters: built.parameters.clone(),
    };
    Some((plan, built))
}

/// The keys that say what a method is.
const NAMING: [&str; 6] = ["criterion", "recipe", "units", "scores", "mask", "checkpoint"];

/// The keys that an error of a whole method may be about, the likeliest first: those that it names, or whose component it names, and those
/// that say what the method is.
pub fn keys_of(raw: &RawMethod, error: &Error) -> Vec<&'static str> {
    let said = error.to_string();
    let steps = [
        ("pattern", None),
        ("seed", None),
        ("refine", raw.refine.as_ref()),
        ("permutation", raw.permutation.as_ref()),
        ("transform", raw.transform.as_ref()),
        ("compensate", raw.compensate.as_ref()),
        ("allocator", raw.allocator.as_ref()),
        ("widths", None),
        ("target", None),
        ("stage", None),
        ("group", None),
    ];
    let named = steps.into_iter().filter(|(key, step)| {
        let component = step.is_some_and(|step| said.contains(&step.get_ref().name));
        component || said.contains(&format!("`{key}`")) || said.contains(&format!("{key} = "))
    });
    named.map(|(key, _)| key).chain(NAMING).collect()
}

/// Where the error of a component stands: at the parameter that it names in backquotes, if there is one, or else at the component.
fn parameter_place(component: &Range<usize>, raw: &RawComponent, error: &Error, problems: &Problems) -> Range<usize> {
    let said = error.to_string();
    let named = said.split('`').skip(1).step_by(2);
    let mut named = named.filter(|name| raw.parameters.contains_key(*name));
    // A formula is called as its key is, which every error of it begins with.
    let first = named.next();
    let key = first.filter(|first| *first != raw.name).or(named.next()).or(first);
    match key {
        Some(key) if said.contains("unknown key") => problems.key_place(component, key),
        Some(key) => problems.place(component, &[key]),
        None => component.clone(),
    }
}

/// The error of a name that stands for a component of another step than the one it is typed for, if it does.
fn of_another_step(kind: &str, name: &str) -> Option<Error> {
    let steps = [
        ("criterion", CRITERIA.kind(), CRITERIA.find(name).is_ok()),
        ("solver", SOLVERS.kind(), SOLVERS.find(name).is_ok()),
        ("allocator", ALLOCATORS.kind(), ALLOCATORS.find(name).is_ok()),
        ("transform", TRANSFORMS.kind(), TRANSFORMS.find(name).is_ok()),
        ("permutation", PERMUTATIONS.kind(), PERMUTATIONS.find(name).is_ok()),
        ("refine", REFINERS.kind(), REFINERS.find(name).is_ok()),
        ("compensate", COMPENSATIONS.kind(), COMPENSATIONS.find(name).is_ok()),
        ("units", UNITS.kind(), UNITS.find(name).is_ok()),
    ];
    let (key, other, _) = steps.into_iter().find(|(_, _, known)| *known)?;
    let article = if other.starts_with(['a', 'o']) { "an" } else { "a" };
    let message = format!("`{name}` is no {kind}; it is {article} {other}: write `{key} = \"{name}\"`");
    Some(Error::config(message))
}

/// The error of a name where a criterion, a recipe or a method of whole units is expected.
fn unknown_method(name: &str) -> Error {
    if name.trim().contains(['(', '*', '/', ' ']) {
        return Error::config(format!(
            "`{name}` is not the name of a method; a formula is written {{ expression = \"{name}\" }}"
        ));
    }
    let names = CRITERIA.entries().into_iter().map(|entry| entry.name);
    let names = names.chain(KNOWN.iter().map(|known| known.name));
    let names: Vec<&str> = names
        .chain(UNITS.entries().into_iter().map(|entry| entry.name))
        .collect();
    registry::unknown("method", name, &names)
}

/// A step that a method may do without; `Some(None)` if it does.
fn optional<T: ?Sized>(
    components: &Components<T>,
    typed: &Option<Spanned<RawComponent>>,
    problems: &mut Problems,
) -> Option<Option<(ComponentPlan, Built<T>)>> {
    match typed {
        None => Some(None),
        Some(typed) => component(components, typed, problems).map(Some),
    }
}

/// Says what a method without a criterion lacks.
fn without_criterion(span: &Range<usize>, raw: &RawMethod, problems: &mut Problems) {
    let label = raw.name.as_deref().unwrap_or_default();
    let message = match (CRITERIA.find(label).is_ok(), KnownRecipe::find(label).is_some()) {
        (true, _) => format!("`name` is only a label: write `criterion = \"{label}\"`"),
        (_, true) => format!("`name` is only a label: write `recipe = \"{label}\"`"),
        _ => "a method needs a criterion or a recipe: write `criterion = \"wanda\"` or `recipe = \"sparsegpt\"`; or what another \
              program made: `scores`, `mask` or `checkpoint`"
            .to_string(),
    };
    for key in ["recipe", "criterion"] {
        if problems.lost(span, key) {
            return;
        }
    }
    // A label that was meant as something else is the mistake.
    let key = if message.starts_with("`name`") { "name" } else { "" };
    problems.add(problems.place(span, &[key]), Error::config(message));
}

/// A method whose file of another program, if it has one, is its criterion.
///
/// # Errors
/// It has another criterion beside it.
fn with_file(raw: &RawMethod) -> Keyed<RawMethod> {
    let mut raw = raw.clone();
    let (key, path) = match (raw.scores.take(), raw.mask.take()) {
        (None, None) => return Ok(raw),
        (Some(_), Some(_)) => {
            let message = "`scores` and `mask` both say which weights are removed; leave out one of them";
            return Err(("mask", Error::config(message)));
        }
        (Some(path), None) => ("scores", path),
        (None, Some(path)) => ("mask", path),
    };
    if raw.criterion.is_some() {
        let message = format!("`{key}` takes the place of a criterion; leave out `criterion`, or `{key}`");
        return Err(("criterion", Error::config(message)));
    }
    let file = toml::Value::String(path.get_ref().to_string_lossy().into_owned());
    let component = RawComponent {
        name: key.to_string(),
        parameters: [("path".to_string(), file)].into_iter().collect(),
    };
    raw.criterion = Some(Spanned::new(path.span(), component));
    Ok(raw)
}

/// The only pattern that a method is run with; `Some(None)` for all.
fn only_pattern(raw: &RawMethod, problems: &mut Problems) -> Option<Option<Pattern>> {
    match &raw.pattern {
        None => Some(None),
        Some(typed) => problems.take(&typed.span(), pattern(typed.get_ref())).map(Some),
    }
}

/// Resolves a method; `target` is the calibration's. `None` if it has a problem.
pub fn method(
    raw: &Spanned<RawMethod>,
    target: Option<Goal>,
    protocol: Option<Named>,
    problems: &mut Problems,
) -> Option<MethodPlan> {
    let span = raw.span();
    if let Some(typed) = &raw.get_ref().units {
        return of_units(&span, raw.get_ref(), typed, problems);
    }
    if let Some(typed) = &raw.get_ref().checkpoint {
        return of_checkpoint(&span, raw.get_ref(), typed, problems);
    }
    if raw.get_ref().widths.is_some() {
        let message =
            "`widths` is about the sizes that remain when whole units are removed; it belongs to a method with `units`";
        problems.add(problems.place(&span, &["widths"]), Error::config(message));
        return None;
    }
    if raw.get_ref().retrained {
        let message = "`retrained` says that a checkpoint no longer resembles its model; it belongs to a method with `checkpoint`";
        problems.add(problems.place(&span, &["retrained"]), Error::config(message));
        return None;
    }
    let raw = problems.take_keyed(&span, with_file(raw.get_ref()))?;
    let only = only_pattern(&raw, problems)?;
    let (raw, known) = match filled(&raw) {
        Ok(filled) => filled,
        Err((span, error)) => {
            problems.add(span, error);
            return None;
        }
    };
    let Some(typed) = &raw.criterion else {
        without_criterion(&span, &raw, problems);
        return None;
    };
    let default = |name: &str| {
        let component = RawComponent {
            name: name.to_string(),
            parameters: toml::Table::new(),
        };
        Spanned::new(span.clone(), component)
    };
    // All steps are looked up before the first problem ends it.
    let criterion = component(&CRITERIA, typed, problems);
    let solver = raw.solver.clone().unwrap_or_else(|| default("one-shot"));
    let solver = component(&SOLVERS, &solver, problems);
    let allocator = raw.allocator.clone().unwrap_or_else(|| default("uniform"));
    let allocator = component(&ALLOCATORS, &allocator, problems);
    let transform = optional(&TRANSFORMS, &raw.transform, problems);
    let permutation = optional(&PERMUTATIONS, &raw.permutation, problems);
    let refine = optional(&REFINERS, &raw.refine, problems);
    let compensate = optional(&COMPENSATIONS, &raw.compensate, problems);
    let ((criterion, score), (solver, solve), (allocator, share)) = (criterion?, solver?, allocator?);
    let surveyed = share
        .component
        .survey()
        .map_or(Needs::NOTHING, |question| question.needs);
    let mut needs = score.component.needs().and(solve.component.needs()).and(surveyed);
    let mut steps = StepPlans::default();
    let mut shifts = false;
    if let Some((plan, built)) = transform? {
        needs = needs.and(built.component.needs());
        shifts = built.component.shifts();
        steps.transform = Some(plan);
    }
    if let Some((plan, built)) = permutation? {
        needs = needs.and(built.component.needs());
        steps.permutation = Some(plan);
    }
    if let Some((plan, built)) = refine? {
        needs = needs.and(built.component.needs());
        steps.refine = Some(plan);
    }
    if let Some((plan, built)) = compensate? {
        needs = needs.and(built.component.needs());
        steps.compensate = Some(plan);
    }
    let reproduces = solve.component.updates() || steps.compensate.is_some() || shifts;
    if raw.target == Some(Goal::Dense) && !reproduces {
        let message = format!(
            "target = \"dense\": solver `{}` only removes weights and reproduces no outputs; leave `target` out",
            solver.name
        );
        problems.add(
            problems.place(&span, &["target", "recipe", "criterion"]),
            Error::config(message),
        );
        return None;
    }
    let target = raw.target.or(target).filter(|_| reproduces).unwrap_or_default();
    // A criterion that follows a solver's updates is scored block by block; no paper compares it otherwise.
    // Nor is one whose solver chooses the mask a one-shot method.
    let own = solve.component.group().unwrap_or(score.component.group());
    let takes_mask = matches!(score.component.file(), Some(file) if file.content == Content::Mask);
    let one_shot = !score.component.follows_update() && solve.component.group().is_none() && !takes_mask;
    let group = agree(protocol, "group", own_group(&raw, typed, problems)?, |it| {
        it.one_shot.filter(|_| one_shot).unwrap_or(own)
    });
    let mut losses = [Loss::Likelihood, Loss::Outputs].into_iter();
    let with_gradients = losses.any(|loss| score.component.gradients(loss).anything());
    let plan = RecipePlan {
        group: problems.take_keyed(&span, group.at_key("group"))?.unwrap_or(own),
        criterion,
        solver,
        allocator,
        steps,
        stage: raw.stage,
        target,
    };
    Some(MethodPlan {
        name: raw
            .name
            .clone()
            .unwrap_or_else(|| default_name::of_recipe(&plan, known.as_deref())),
        calibrated: needs.anything() || with_gradients || share.component.tries(),
        pattern: only,
        seed: raw.seed,
        kind: MethodKind::Recipe(Box::new(plan)),
    })
}

/// The group that was typed: beside the criterion, or in the table of a formula. `None` if they are different ones.
fn own_group(raw: &RawMethod, typed: &Spanned<RawComponent>, problems: &mut Problems) -> Option<Option<Group>> {
    let inside = typed.get_ref().parameters.get("group").cloned();
    let inside = inside.and_then(|group| Group::deserialize(group).ok());
    match (raw.group, inside) {
        (Some(beside), Some(inside)) if beside != inside => {
            let message = format!(
                "the table of the formula says group = \"{inside}\", and the method group = \"{beside}\"; leave out one of them"
            );
            problems.add(typed.span(), Error::config(message));
            None
        }
        (beside, inside) => Some(beside.or(inside)),
    }
}

/// Resolves a method that removes whole units. `None` if it has a problem.
fn of_units(
    span: &Range<usize>,
    raw: &RawMethod,
    typed: &Spanned<RawComponent>,
    problems: &mut Problems,
) -> Option<MethodPlan> {
    let there = steps_of(raw);
    if !there.is_empty() {
        let message = format!(
            "a method with `units` removes whole units and has no steps; leave out {}, or write another [[method]] with it",
            in_backquotes(&there)
        );
        problems.add(problems.place(span, &there), Error::config(message));
    }
    let only = only_pattern(raw, problems)?;
    let (units, built) = component(&UNITS, typed, problems)?;
    there.is_empty().then(|| {
        let widths = raw.widths.unwrap_or_default();
        let plan = UnitsPlan { units, widths };
        MethodPlan {
            name: raw.name.clone().unwrap_or_else(|| default_name::of_units(&plan)),
            calibrated: built.component.calibrates(),
            pattern: only,
            seed: raw.seed,
            kind: MethodKind::Units(plan),
        }
    })
}

/// Resolves a method that is the checkpoint of another program. `None` if it has a problem.
fn of_checkpoint(
    span: &Range<usize>,
    raw: &RawMethod,
    typed: &Spanned<PathBuf>,
    problems: &mut Problems,
) -> Option<MethodPlan> {
    let mut there = steps_of(raw);
    there.extend(raw.widths.map(|_| "widths"));
    if !there.is_empty() {
        let message = format!(
            "a method with `checkpoint` is measured as another program made it, and has no steps; leave out {}, or write another \
             [[method]] with it",
            in_backquotes(&there)
        );
        problems.add(problems.place(span, &there), Error::config(message));
    }
    let checkpoint = typed.get_ref().clone();
    let only = only_pattern(raw, problems)?;
    let label = || {
        let text = checkpoint.to_string_lossy();
        let last = checkpoint.file_name().map(|name| name.to_string_lossy().into_owned());
        match varies(&text) {
            true => "checkpoint".to_string(),
            false => last.unwrap_or_else(|| "checkpoint".to_string()),
        }
    };
    let name = raw.name.clone().unwrap_or_else(label);
    there.is_empty().then_some(MethodPlan {
        name,
        calibrated: false,
        pattern: only,
        seed: raw.seed,
        kind: MethodKind::Checkpoint(CheckpointPlan {
            checkpoint,
            retrained: raw.retrained,
        }),
    })
}

/// The keys of a recipe that a method has.
fn steps_of(raw: &RawMethod) -> Vec<&'static str> {
    let steps = [
        ("recipe", raw.recipe.is_some()),
        ("criterion", raw.criterion.is_some()),
        ("scores", raw.scores.is_some()),
        ("mask", raw.mask.is_some()),
        ("checkpoint", raw.checkpoint.is_some() && raw.units.is_some()),
        ("solver", raw.solver.is_some()),
        ("allocator", raw.allocator.is_some()),
        ("transform", raw.transform.is_some()),
        ("permutation", raw.permutation.is_some()),
        ("refine", raw.refine.is_some()),
        ("compensate", raw.compensate.is_some()),
        ("group", raw.group.is_some()),
        ("stage", raw.stage.is_some()),
        ("target", raw.target.is_some()),
    ];
    let there = steps.iter().filter(|(_, there)| *there);
    there.map(|(key, _)| *key).collect()
}

fn in_backquotes(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}
