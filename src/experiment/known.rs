//! Recipes that have a name of their own: the methods of papers, and the one that our search found.
//!
//! `recipe = "fistapruner"` in a `[[method]]`, or `--method fistapruner`, stands for the lines below; what is typed beside it
//! takes the place of the recipe's own.

use super::raw::{RawComponent, RawMethod};
use crate::error::Error;
use crate::prune::criterion::CRITERIA;
use crate::registry;
use serde_spanned::Spanned;
use std::ops::Range;

/// A recipe by name.
pub struct KnownRecipe {
    /// The name that is typed.
    pub name: &'static str,
    /// What it is and where it comes from.
    pub source: &'static str,
    /// Lines of a `[[method]]`.
    lines: &'static str,
}

impl RawMethod {
    /// Its criterion and solver as they are typed.
    fn steps_in_words(&self) -> String {
        let steps = [("criterion", &self.criterion), ("solver", &self.solver)].into_iter();
        let steps = steps.filter_map(|(key, step)| Some(format!("{key} = \"{}\"", step.as_ref()?.get_ref().name)));
        steps.collect::<Vec<_>>().join(", ")
    }
}

/// All recipes that have a name.
pub const KNOWN: [KnownRecipe; 6] = [
    KnownRecipe {
        name: "sparsegpt",
        source: "arXiv 2301.00774",
        lines: "criterion = \"obs\"\nsolver = \"obs\"",
    },
    KnownRecipe {
        name: "admm",
        source: "arXiv 2401.02938",
        lines: "criterion = \"wanda\"\nsolver = \"admm\"",
    },
    KnownRecipe {
        name: "alps",
        source: "arXiv 2406.07831",
        lines: "criterion = \"wanda\"\nsolver = \"alps\"",
    },
    KnownRecipe {
        name: "fistapruner",
        source: "arXiv 2408.03728, its setting for LLaMA",
        lines: "criterion = \"wanda\"\nsolver = { name = \"fista\", round = \"magnitude\" }\nstage = \"separate\"\n\
                target = \"dense\"",
    },
    KnownRecipe {
        name: "thanos",
        source: "arXiv 2504.05346",
        lines: "criterion = \"wanda\"\nsolver = { name = \"obs\", order = \"rescore\" }",
    },
    KnownRecipe {
        name: "swap-solve",
        source: "zprune's own, found by a search",
        lines: "criterion = \"wanda\"\nrefine = \"sparse-swaps\"\nsolver = { name = \"least-squares\", damping = 0.001 }\n\
                stage = \"separate\"\ntarget = \"dense\"",
    },
];

impl KnownRecipe {
    /// The recipe of this name, if there is one.
    pub fn find(name: &str) -> Option<&'static KnownRecipe> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// Its steps in one line, for lists.
    pub fn line(&self) -> String {
        self.lines.replace('\n', ", ")
    }

    /// Its lines, as if they had been typed.
    pub fn method(&self) -> RawMethod {
        toml::from_str(self.lines).expect("the lines of a recipe are a method")
    }
}

/// The steps that a name stands for which is no criterion's: those of a recipe (`sparsegpt`), or of a criterion and a solver
/// (`ria+obs`).
pub fn stands_for(name: &str) -> Option<RawMethod> {
    if let Some(known) = KnownRecipe::find(name) {
        return Some(known.method());
    }
    let (criterion, solver) = name.split_once('+')?;
    let step = |name: &str| {
        let step = RawComponent {
            name: name.trim().to_string(),
            parameters: toml::Table::new(),
        };
        Some(Spanned::new(0..0, step))
    };
    Some(RawMethod {
        criterion: step(criterion),
        solver: step(solver),
        ..RawMethod::default()
    })
}

/// A method with the steps of its recipe, if it names one, where it has none of its own; and the recipe's name, if all steps but the
/// allocator are the recipe's. A criterion that is the name of a recipe, or `criterion+solver`, stands for these steps. An error has its
/// place in the file.
///
/// # Errors
/// There is no such recipe; lists those there are. A method has a recipe twice, or parameters for one.
pub fn filled(raw: &RawMethod) -> std::result::Result<(RawMethod, Option<String>), (Range<usize>, Error)> {
    let mut raw = raw.clone();
    let short = raw
        .criterion
        .as_ref()
        .filter(|typed| CRITERIA.find(&typed.get_ref().name).is_err());
    let short = short.map(|typed| (typed.span(), typed.get_ref().clone()));
    let (here, name, whole) = match (&raw.recipe, short) {
        (None, None) => return Ok((raw, None)),
        (Some(name), None) => {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            let unknown = || (name.span(), registry::unknown("recipe", name.get_ref(), &names));
            let known = KnownRecipe::find(name.get_ref()).ok_or_else(unknown)?;
            (name.span(), name.get_ref().clone(), known.method())
        }
        (recipe, Some((span, typed))) => {
            // What stands for nothing is reported where criteria are looked up.
            let Some(whole) = stands_for(&typed.name) else {
                return Ok((raw, None));
            };
            let mut message = None;
            if recipe.is_some() {
                message = Some(format!(
                    "`{}` is a recipe, and `recipe` names another; leave out one of them",
                    typed.name
                ));
            } else if !typed.parameters.is_empty() {
                message = Some(format!(
                    "`{}` stands for several steps, and parameters must be written with their step: {}",
                    typed.name,
                    whole.steps_in_words()
                ));
            } else if raw.solver.is_some() && typed.name.contains('+') {
                message = Some(format!("`{}` names a solver already; leave `solver` out", typed.name));
            }
            if let Some(message) = message {
                return Err((span, Error::config(message)));
            }
            raw.criterion = None;
            (span, typed.name, whole)
        }
    };
    let as_it_is = {
        let steps = [
            &raw.criterion,
            &raw.solver,
            &raw.transform,
            &raw.permutation,
            &raw.refine,
            &raw.compensate,
        ];
        steps.iter().all(|step| step.is_none()) && raw.stage.is_none() && raw.target.is_none()
    };
    let known = Some(name).filter(|name| as_it_is && KnownRecipe::find(name).is_some());
    let or = |own: Option<Spanned<RawComponent>>, of_recipe: Option<Spanned<RawComponent>>| {
        own.or_else(|| of_recipe.map(|step| Spanned::new(here.clone(), step.into_inner())))
    };
    raw.criterion = or(raw.criterion, whole.criterion);
    raw.solver = or(raw.solver, whole.solver);
    raw.allocator = or(raw.allocator, whole.allocator);
    raw.transform = or(raw.transform, whole.transform);
    raw.permutation = or(raw.permutation, whole.permutation);
    raw.refine = or(raw.refine, whole.refine);
    raw.compensate = or(raw.compensate, whole.compensate);
    raw.group = raw.group.or(whole.group);
    raw.stage = raw.stage.or(whole.stage);
    raw.target = raw.target.or(whole.target);
    Ok((raw, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::method::MethodPlan;
    use crate::experiment::problems::Problems;
    use crate::experiment::resolve::methods::method;

    fn resolved(text: &str) -> std::result::Result<MethodPlan, String> {
        let raw: RawMethod = toml::from_str(text).expect("a method");
        let mut problems = Problems::default();
        let plan = method(&Spanned::new(0..0, raw), None, None, &mut problems);
        problems
            .in_file("x.toml".as_ref(), text)
            .map_err(|error| error.to_string())?;
        Ok(plan.expect("a method without a problem"))
    }

    #[test]
    fn every_recipe_resolves_and_what_is_typed_beside_it_wins() {
        for known in &KNOWN {
            let plan = resolved(&format!("recipe = \"{}\"", known.name)).expect("resolves");
            assert_eq!(plan.name, known.name);
        }
        let plan = resolved("recipe = \"fistapruner\"\nallocator = \"owl\"").expect("resolves");
        assert_eq!(plan.name, "fistapruner (owl)");
        let plan = resolved("criterion = \"ria\"\npermutation = \"ria\"").expect("resolves");
        assert_eq!(plan.name, "ria+ria-permutation");
        let typed = "recipe = \"fistapruner\"\nsolver = { name = \"fista\", rounds = 3 }\nstage = \"staged\"";
        let plan = resolved(typed).expect("resolves");
        assert_eq!(plan.name, "wanda+fista (rounds 3, staged, target dense)");
        assert_eq!(plan.recipe().expect("a recipe").solver.parameters["round"], "wanda");
        for (typed, name) in [
            (
                "criterion = { name = \"ria\", activation_power = 1 }",
                "ria (activation power 1.0)",
            ),
            ("criterion = { name = \"ria\", activation_power = 0.5 }", "ria"),
            (
                "recipe = \"sparsegpt\"\nsolver = { name = \"obs\", damping = 0.02 }",
                "sparsegpt (damping 0.02)",
            ),
            (
                "criterion = \"wanda\"\nsolver = { name = \"obs\", order = \"loss\" }",
                "wanda+obs (order loss)",
            ),
            (
                "recipe = \"alps\"\nallocator = { name = \"owl\", m = 7 }",
                "alps (owl, m 7.0)",
            ),
            (
                "recipe = \"thanos\"\nstage = \"dense\"",
                "wanda+obs (order rescore, dense)",
            ),
            (
                "criterion = { expression = \"abs(w) * x2 ^ a\", a = 0.25, group = \"row\" }",
                "expression (a 0.25)",
            ),
            ("scores = \"scores.safetensors\"", "scores"),
            (
                "units = { name = \"llm-pruner\", taylor = \"vectorize\" }\nwidths = \"per-block\"",
                "llm-pruner (taylor vectorize, per block)",
            ),
            (
                "name = \"mine\"\ncriterion = { name = \"ria\", activation_power = 1 }",
                "mine",
            ),
        ] {
            assert_eq!(resolved(typed).expect(typed).name, name, "{typed}");
        }
        let error = resolved("recipe = \"fistaprunner\"").expect_err("unknown");
        assert!(
            error.contains("x.toml:1:10: unknown recipe `fistaprunner`; did you mean"),
            "{error}"
        );
    }

    #[test]
    fn a_criterion_may_be_a_recipe_or_name_its_solver() {
        for known in &KNOWN {
            let by_criterion = resolved(&format!("criterion = \"{}\"", known.name));
            assert_eq!(by_criterion, resolved(&format!("recipe = \"{}\"", known.name)));
        }
        let plan = resolved("criterion = \"sparsegpt\"\nsolver = \"obs\"").expect("SparseGPT");
        let criterion = &plan.recipe().expect("a recipe").criterion.name;
        assert_eq!((plan.name.as_str(), criterion.as_str()), ("sparsegpt", "obs"));
        let long = resolved("criterion = \"ria\"\nsolver = \"obs\"");
        assert_eq!(resolved("criterion = \"ria+obs\""), long);
        for (wrong, said) in [
            (
                "criterion = \"ria+obs\"\nsolver = \"obs\"",
                "`ria+obs` names a solver already",
            ),
            ("criterion = \"alps\"\nrecipe = \"admm\"", "`recipe` names another"),
            (
                "criterion = { name = \"sparsegpt\", damping = 0.1 }",
                "parameters must be written with their step: criterion = \"obs\", solver = \"obs\"",
            ),
            (
                "criterion = \"least-squares\"",
                "it is a solver: write `solver = \"least-squares\"`",
            ),
            (
                "name = \"wanda\"",
                "`name` is only a label: write `criterion = \"wanda\"`",
            ),
            (
                "criterion = \"flap\"",
                "it is a method of whole units: write `units = \"flap\"`",
            ),
            ("criterion = \"wanda\"\nunits = \"flap\"", "leave out `criterion`"),
            (
                "criterion = \"wanda\"\nwidths = \"uniform\"",
                "it belongs to a method with `units`",
            ),
            (
                "units = { name = \"flap\", metric = \"x\" }",
                "parameter `metric`: unknown value `x`",
            ),
            (
                "criterion = \"ria+osb\"",
                "unknown solver `osb` (known: `one-shot`, `obs`",
            ),
        ] {
            let error = resolved(wrong).expect_err(wrong);
            assert!(error.contains(said), "no `{said}` in:\n{error}");
        }
    }
}
