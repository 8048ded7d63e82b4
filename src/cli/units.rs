//! What models say about methods of whole units before a sweep begins.

use crate::error::Result;
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::Experiment;
use crate::prune::pattern::Pattern;

/// Describes what cannot be removed from a model, and what can be measured but not written; for each method and each model whose
/// configuration can be read, the first pattern of which that is true.
///
/// # Errors
/// As [`Experiment::method`].
pub fn notes(experiment: &Experiment, inputs: &Inputs) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for (index, removal) in experiment.removals()? {
        let plan = &experiment.methods[index];
        for (model, folder) in experiment.models.iter().zip(&inputs.folders) {
            let Some(folder) = folder else { continue };
            let note = experiment.patterns.iter().find_map(|pattern| {
                let Pattern::Unstructured { sparsity: share } = *pattern else {
                    return None;
                };
                let (method, spec, widths) = (&removal.method, &folder.spec, removal.widths);
                let what = match method.check_model(spec, share, widths) {
                    Err(error) => format!("its cells will fail: {error}"),
                    Ok(()) => {
                        let error = method.check_writing(spec, share, widths, false).err()?;
                        format!("its cells are measured, but `zprune shrink` could not write such a model: {error}")
                    }
                };
                Some(format!("note: {}, {}, {pattern}: {what}", model.name, plan.name))
            });
            notes.extend(note);
        }
    }
    Ok(notes)
}
