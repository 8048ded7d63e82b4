//! What the methods of an experiment ask of calibration, together.

use super::plan::Experiment;
use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::recipe::Recipe;

/// What the methods of an experiment ask of calibration together.
///
/// # Errors
/// As [`Experiment::method`].
pub fn needs(experiment: &Experiment) -> Result<Needs> {
    let recipes = experiment.recipes()?;
    Ok(recipes
        .iter()
        .fold(Needs::NOTHING, |needs, recipe| needs.and(recipe.needs())))
}

/// The gradients of the model's loss that the methods of an experiment ask for together; none where they are read from a file.
///
/// # Errors
/// As [`Experiment::method`].
pub fn gradients(experiment: &Experiment) -> Result<GradientNeeds> {
    if experiment.calibration.iter().any(|plan| plan.gradients.is_some()) {
        return Ok(GradientNeeds::NOTHING);
    }
    let recipes = experiment.recipes()?;
    let needs = recipes.iter().map(Recipe::gradients);
    Ok(needs.fold(GradientNeeds::NOTHING, GradientNeeds::and))
}

/// Cells of a model and a seed that use the same gradients of the model's loss.
///
/// # Errors
/// As [`Experiment::method`].
pub fn gradient_cells(experiment: &Experiment) -> Result<usize> {
    let recipes = experiment.recipes()?;
    let methods = recipes.iter().filter(|recipe| recipe.gradients().anything());
    Ok(methods.count() * experiment.patterns.len())
}

/// Calibration tokens for each input of the widest layer below which methods that use the Hessian of a layer's inputs do clearly
/// worse: with 2.7 they did, with 10.7 more tokens brought little (`docs/study/calibration.md`).
const FEW_TOKENS: usize = 4;

/// That so many calibration tokens are few for methods, with commas between them, that use the Hessian of a layer's inputs, if the widest
/// layer has so many inputs; without a full stop, and `None` if they are not few.
pub fn few_tokens(tokens: usize, widest: usize, methods: &str) -> Option<String> {
    if tokens < widest {
        Some(format!(
            "{tokens} calibration tokens are fewer than the {widest} inputs of the widest layer. This is a disadvantage for methods that use \
             the Hessian of these inputs ({methods}): it is singular there, and the result depends on the damping that is added to it"
        ))
    } else if tokens < widest.saturating_mul(FEW_TOKENS) {
        Some(format!(
            "{tokens} calibration tokens are {:.1} for each of the {widest} inputs of the widest layer. With ten for each, methods that use \
             the Hessian of these inputs ({methods}) had clearly lower perplexities in zprune's study",
            tokens as f64 / widest as f64
        ))
    } else {
        None
    }
}

/// Whether a method uses the Hessian of a layer's inputs, which few tokens determine badly.
///
/// # Errors
/// As [`Experiment::method`].
pub fn uses_hessian(experiment: &Experiment, method: usize) -> Result<bool> {
    Ok(experiment
        .recipe(method)?
        .is_some_and(|recipe| recipe.layer_needs().gram))
}

/// The gradients of blocks' outputs that the methods of an experiment ask for together.
///
/// # Errors
/// As [`Experiment::method`].
pub fn regional(experiment: &Experiment) -> Result<GradientNeeds> {
    let recipes = experiment.recipes()?;
    let needs = recipes.iter().map(Recipe::regional);
    Ok(needs.fold(GradientNeeds::NOTHING, GradientNeeds::and))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tokens_are_told_up_to_four_for_each_input() {
        let said = |tokens| few_tokens(tokens, 100, "sparsegpt");
        let fewer = said(99).expect("few");
        assert!(
            fewer.contains("99 calibration tokens are fewer than the 100 inputs"),
            "{fewer}"
        );
        for (tokens, each) in [(100, "1.0"), (267, "2.7"), (399, "4.0")] {
            let said = said(tokens).expect("few");
            let wanted =
                format!("{tokens} calibration tokens are {each} for each of the 100 inputs of the widest layer");
            assert!(said.contains(&wanted) && said.contains("(sparsegpt)"), "{said}");
            assert!(!said.contains("fewer than"), "{said}");
        }
        assert_eq!(said(400), None);
    }
}
