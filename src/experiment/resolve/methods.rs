//! Methods and patterns: components looked up, defaults filled in.

use crate::backend::moments::Needs;
use crate::calibrate::Goal;
use crate::choices;
use crate::error::{Error, Located, Result};
use crate::experiment::known::filled;
use crate::experiment::plan::{ComponentPlan, MethodPlan, StepPlans};
use crate::experiment::protocol::{Named, agree};
use crate::experiment::raw::{RawComponent, RawMethod, RawPattern};
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::{Built, Components};
use crate::prune::criterion::CRITERIA;
use crate::prune::pattern::Pattern;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use serde_spanned::Spanned;

/// The pattern that was typed.
pub fn pattern(raw: &RawPattern) -> Result<Pattern> {
    let pattern = match (raw.sparsity, raw.keep, raw.of) {
        (Some(sparsity), None, None) => Pattern::Unstructured { sparsity },
        (None, Some(keep), Some(of)) => Pattern::NofM { keep, of },
        _ => {
            return Err(Error::config(
                "a pattern is either { sparsity = 0.5 } or { keep = 2, of = 4 }, not both and not half of one",
            ));
        }
    };
    pattern.validate()?;
    Ok(pattern)
}

/// Looks a component up and builds it once, to check its parameters.
fn component<T: ?Sized>(components: &Components<T>, raw: &RawComponent) -> Result<(ComponentPlan, Built<T>)> {
    let built = components.build(&raw.name, &raw.parameters)?;
    let plan = ComponentPlan {
        name: raw.name.clone(),
        version: built.version,
        parameters: built.parameters.clone(),
    };
    Ok((plan, built))
}

/// Resolves a method; `target` is the calibration's, and `at` turns a byte offset of the file into a place.
pub fn method(
    raw: &Spanned<RawMethod>,
    target: Option<Goal>,
    protocol: Option<Named>,
    at: &dyn Fn(usize) -> String,
) -> Result<MethodPlan> {
    let whole = at(raw.span().start);
    let raw = &filled(raw.get_ref(), at)?;
    let Some(typed) = &raw.criterion else {
        return Err(Error::config("missing field `criterion`, or `recipe`")).at(whole);
    };
    let place = |raw: &Spanned<RawComponent>| at(raw.span().start);
    let default = |name: &str| RawComponent {
        name: name.to_string(),
        parameters: toml::Table::new(),
    };
    let (criterion, score) = component(&CRITERIA, typed.get_ref()).at(place(typed))?;
    let (solver, solve) = match &raw.solver {
        Some(solver) => component(&SOLVERS, solver.get_ref()).at(place(solver))?,
        None => component(&SOLVERS, &default("one-shot"))?,
    };
    let (allocator, share) = match &raw.allocator {
        Some(allocator) => component(&ALLOCATORS, allocator.get_ref()).at(place(allocator))?,
        None => component(&ALLOCATORS, &default("uniform"))?,
    };
    let surveyed = share
        .component
        .survey()
        .map_or(Needs::NOTHING, |question| question.needs);
    let mut needs = score.component.needs().and(solve.component.needs()).and(surveyed);
    let mut steps = StepPlans::default();
    if let Some(raw) = &raw.permutation {
        let (plan, built) = component(&PERMUTATIONS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.permutation = Some(plan);
    }
    if let Some(raw) = &raw.refine {
        let (plan, built) = component(&REFINERS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.refine = Some(plan);
    }
    if let Some(raw) = &raw.compensate {
        let (plan, built) = component(&COMPENSATIONS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.compensate = Some(plan);
    }
    let reproduces = solve.component.updates() || steps.compensate.is_some();
    if raw.target == Some(Goal::Dense) && !reproduces {
        let message = format!(
            "target = \"dense\": solver `{}` only removes weights and reproduces no outputs; leave `target` out",
            solver.name
        );
        return Err(Error::config(message)).at(place(typed));
    }
    let target = raw.target.or(target).filter(|_| reproduces).unwrap_or_default();
    // A criterion that follows a solver's updates is scored block by block; no paper compares it otherwise.
    // Nor is one whose solver chooses the mask a one-shot method.
    let own = solve.component.group().unwrap_or(score.component.group());
    let one_shot = !score.component.follows_update() && solve.component.group().is_none();
    let group = agree(protocol, "group", raw.group, |it| {
        it.one_shot.filter(|_| one_shot).unwrap_or(own)
    });
    let mut plan = MethodPlan {
        name: String::new(),
        group: group.at(place(typed))?.unwrap_or(own),
        calibrated: needs.anything() || share.component.tries(),
        criterion,
        solver,
        allocator,
        steps,
        stage: raw.stage,
        target,
    };
    plan.name = raw.name.clone().unwrap_or_else(|| label(&plan));
    Ok(plan)
}

/// A method's label where the experiment gives none: its steps in their order, and what is unlike the usual.
fn label(plan: &MethodPlan) -> String {
    let StepPlans {
        permutation,
        refine,
        compensate,
    } = &plan.steps;
    let solver = Some(&plan.solver).filter(|solver| solver.name != "one-shot");
    let steps = [
        Some(&plan.criterion),
        permutation.as_ref(),
        refine.as_ref(),
        solver,
        compensate.as_ref(),
    ];
    let steps: Vec<&str> = steps.into_iter().flatten().map(|step| step.name.as_str()).collect();
    let steps = match steps[..] {
        ["obs", "obs"] => "sparsegpt".to_string(),
        _ => steps.join("+"),
    };
    let allocator = Some(plan.allocator.name.clone()).filter(|name| name != "uniform");
    let stage = plan.stage.map(|stage| choices::name(&stage));
    let target = Some("target dense".to_string()).filter(|_| !plan.target.is_default());
    let unusual: Vec<String> = [allocator, stage, target].into_iter().flatten().collect();
    match unusual.is_empty() {
        true => steps,
        false => format!("{steps} ({})", unusual.join(", ")),
    }
}
