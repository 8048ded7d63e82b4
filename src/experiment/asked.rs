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
pub const FEW_TOKENS: usize = 4;

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
