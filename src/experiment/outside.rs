//! What other programs computed, looked through before anything is computed with it.

use super::inputs::Inputs;
use super::plan::{Cell, Experiment};
use crate::error::{Error, Located, Result};
use crate::model::layer_file::{Content, LayerFile, MODEL_WEIGHTS};
use crate::model::lineage::{check_lineage, turned_round};
use crate::progress::Progress;
use crate::prune::found;
use std::collections::BTreeSet;

/// Looks through what these cells take from other programs: every value, and whether masks have the cells' patterns.
///
/// # Errors
/// Names the method, the file and the tensor.
pub fn check_outside<'c>(
    experiment: &Experiment,
    inputs: &Inputs,
    cells: impl Iterator<Item = &'c Cell>,
    progress: &dyn Progress,
) -> Result<()> {
    let (mut seen, mut seen_checkpoints) = (BTreeSet::new(), BTreeSet::new());
    for cell in cells {
        if let Some((path, _)) = experiment.checkpoint(cell)?
            && let Some(input) = inputs.checkpoints.get(&path)
            && seen_checkpoints.insert((cell.model, path.clone()))
        {
            progress.stage(&format!("checking {}", path.display()));
            input.checkpoint.check_finite()?;
            if let (Some(model), false) = (&inputs.models[cell.model], experiment.retrained(cell)) {
                let made = check_lineage(&model.checkpoint, &input.checkpoint);
                made.at(path.display())
                    .at(format_args!("method {}", experiment.method_name(cell)))?;
            }
        }
        let (Some((path, content)), Some(pruning)) = (experiment.file(cell), cell.pruning) else {
            continue;
        };
        if !seen.insert((cell.model, pruning.method, path.clone(), pruning.pattern.to_string())) {
            continue;
        }
        let method = format!("method {}", experiment.method_name(cell));
        progress.stage(&format!("checking {}", path.display()));
        let folder = inputs.folders[cell.model].as_ref();
        let folder = folder.ok_or_else(|| inputs.lacks())?;
        let file = LayerFile::open(&path, &folder.spec, content).at(&method)?;
        let model = inputs.models[cell.model].as_ref();
        if let (Some(model), Some(made_for)) = (model, file.made_for()) {
            of_this_model(made_for, &model.identity.weights)
                .at(path.display())
                .at(&method)?;
        }
        if let (Content::Mask, Some(model)) = (content, model)
            && let Some(times) = turned_round(&model.checkpoint, &file).at(&method)?
        {
            tracing::warn!(
                "{method}: {}: removes larger weights than it keeps, on average {times:.1} times as large or more in every layer of the \
                 first, the middle and the last block; does it have 1 for what is removed? It is 1 for what is kept",
                path.display()
            );
        }
        let Some(recipe) = experiment.recipe(pruning.method)? else {
            continue;
        };
        // Both look at every value.
        match content {
            Content::Mask => found::patterns(&file, &recipe, pruning.pattern).map(drop),
            _ => found::check_scores(&file, &recipe, pruning.pattern),
        }
        .at(&method)?;
    }
    Ok(())
}

/// Refuses a file that says that it was made for other weights than the model's.
fn of_this_model(made_for: &str, weights: &str) -> Result<()> {
    if made_for == weights {
        return Ok(());
    }
    Err(Error::input(format!(
        "it was made for another model: `{MODEL_WEIGHTS}` in its metadata is {made_for}, but the hash of this model's weights is \
         {weights}; make it again for this model"
    )))
}
