//! What the card of a model without some of its units says.

use super::described::{Base, Described, component, plain};
use crate::choices;
use crate::experiment::plan::ComponentPlan;
use crate::jobs::structure::{Loaders, Structure};
use crate::model::export::STRUCTURE;

/// The description of a model that `zprune shrink` made.
pub(super) fn described(structure: &Structure) -> Described<'_> {
    let [before, after] = [&structure.before, &structure.after];
    let less = |before: u64, after: u64| 100.0 * (1.0 - after as f64 / before as f64);
    let millions = |count: u64| count as f64 / 1e6;
    let loads = match structure.loaders {
        Loaders::Stock => "All blocks have the same sizes, so every loader of its architecture takes it.",
        Loaders::Class => {
            "Blocks have different sizes, which stock classes of transformers refuse. `modeling_zprune.py` has a class for them: \
             `AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)`. zprune reads the model without it, and `zprune export` \
             writes it as GGUF for llama.cpp."
        }
        Loaders::Zprune => "transformers refuses this number of heads; zprune reads the model.",
    };
    Described {
        base: Base {
            name: structure.base_model.as_deref(),
            revision: structure.base_revision.as_deref(),
        },
        title: format!("made smaller by {}", plain(&structure.method)),
        tag: "structured-pruning",
        made: format!("made smaller with zprune {}", structure.zprune),
        result: format!(
            "It has {:.1} of {:.1} million parameters, and {:.1} % fewer multiply-adds for a token.",
            millions(after.parameters),
            millions(before.parameters),
            less(before.multiply_adds, after.multiply_adds)
        ),
        rows: settings(structure),
        note: format!(
            "{loads} `{STRUCTURE}` says what is left of each block, with the original's numbers, and has the SHA-256 of every file; \
             `zprune verify` checks the files."
        ),
    }
}

fn settings(structure: &Structure) -> Vec<(&'static str, String)> {
    let method = ComponentPlan {
        name: structure.method.clone(),
        version: None,
        parameters: structure.parameters.clone(),
    };
    let mut rows = vec![
        ("method", component(&method)),
        (
            "removed",
            format!(
                "{:.2} % of the weights of the blocks' linear layers ({:.2} % were asked for)",
                100.0 * structure.removed,
                100.0 * structure.share
            ),
        ),
        ("widths", format!("`{}`", choices::name(&structure.widths))),
    ];
    if let (Some(text), Some(seed)) = (&structure.calibration, structure.seed) {
        let tokens = structure.calibration_tokens;
        rows.push(("calibration", format!("{tokens} tokens from `{text}`, seed {seed}")));
    }
    rows
}
