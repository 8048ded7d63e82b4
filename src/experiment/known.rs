//! Recipes that have a name of their own: the methods of papers.
//!
//! `recipe = "fistapruner"` in a `[[method]]`, or `--method fistapruner`, stands for the lines below; what is typed beside it
//! takes the place of the recipe's own.

use super::raw::{RawComponent, RawMethod};
use crate::error::{Located, Result};
use crate::registry;
use serde_spanned::Spanned;

/// A recipe by name.
pub struct KnownRecipe {
    /// The name that is typed.
    pub name: &'static str,
    /// What it is and where it comes from.
    pub source: &'static str,
    /// Lines of a `[[method]]`.
    lines: &'static str,
}

/// All recipes that have a name.
pub const KNOWN: [KnownRecipe; 5] = [
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

/// A method with the steps of its recipe, if it names one, where it has none of its own. Errors in these name the place of the
/// recipe's name.
///
/// # Errors
/// There is no such recipe; lists those there are.
pub fn filled(raw: &RawMethod, at: &dyn Fn(usize) -> String) -> Result<RawMethod> {
    let mut raw = raw.clone();
    let Some(name) = &raw.recipe else {
        return Ok(raw);
    };
    let Some(known) = KnownRecipe::find(name.get_ref()) else {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        return Err(registry::unknown("recipe", name.get_ref(), &names)).at(at(name.span().start));
    };
    let whole = known.method();
    let here = name.span();
    let alone = {
        let steps = [
            &raw.criterion,
            &raw.solver,
            &raw.allocator,
            &raw.permutation,
            &raw.refine,
            &raw.compensate,
        ];
        steps.iter().all(|step| step.is_none()) && raw.stage.is_none() && raw.target.is_none()
    };
    if alone {
        raw.name = raw.name.or(Some(known.name.to_string()));
    }
    let or = |own: Option<Spanned<RawComponent>>, of_recipe: Option<Spanned<RawComponent>>| {
        own.or_else(|| of_recipe.map(|step| Spanned::new(here.clone(), step.into_inner())))
    };
    raw.criterion = or(raw.criterion, whole.criterion);
    raw.solver = or(raw.solver, whole.solver);
    raw.allocator = or(raw.allocator, whole.allocator);
    raw.permutation = or(raw.permutation, whole.permutation);
    raw.refine = or(raw.refine, whole.refine);
    raw.compensate = or(raw.compensate, whole.compensate);
    raw.group = raw.group.or(whole.group);
    raw.stage = raw.stage.or(whole.stage);
    raw.target = raw.target.or(whole.target);
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::resolve::methods::method;

    #[test]
    fn every_recipe_resolves_and_what_is_typed_beside_it_wins() {
        for known in &KNOWN {
            let raw: RawMethod = toml::from_str(&format!("recipe = \"{}\"", known.name)).expect("a method");
            let plan = method(&Spanned::new(0..0, raw), None, None, &|_| "here".to_string()).expect("resolves");
            assert_eq!(plan.name, known.name);
        }
        let typed = "recipe = \"fistapruner\"\nsolver = { name = \"fista\", rounds = 3 }\nstage = \"staged\"";
        let raw: RawMethod = toml::from_str(typed).expect("a method");
        let plan = method(&Spanned::new(0..0, raw), None, None, &|_| "here".to_string()).expect("resolves");
        assert_eq!(plan.name, "wanda+fista (staged, target dense)");
        assert_eq!(plan.solver.parameters["round"], "wanda");
        let raw: RawMethod = toml::from_str("recipe = \"fistaprunner\"").expect("a method");
        let error = method(&Spanned::new(0..0, raw), None, None, &|at| format!("byte {at}")).expect_err("unknown");
        assert!(
            error
                .to_string()
                .contains("byte 9: unknown recipe `fistaprunner`; did you mean"),
            "{error}"
        );
    }
}
