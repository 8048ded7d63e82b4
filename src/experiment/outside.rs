//! What other programs computed, looked through before anything is computed with it.

use super::inputs::Inputs;
use super::plan::{Cell, Experiment};
use crate::error::{Error, Located, Result};
use crate::model::layer_file::LayerFile;
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
            && seen_checkpoints.insert(path.clone())
        {
            progress.stage(&format!("checking {}", path.display()));
            input.checkpoint.check_finite()?;
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
        let folder = folder.ok_or_else(|| Error::input(inputs.missing.join("\n")))?;
        let file = LayerFile::open_whole(&path, &folder.spec, content).at(&method)?;
        if let Some(recipe) = experiment.recipe(pruning.method)?.filter(|recipe| recipe.takes_mask()) {
            found::patterns(&file, &recipe, pruning.pattern).at(&method)?;
        }
    }
    Ok(())
}
