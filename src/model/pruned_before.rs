//! Whether a model was pruned before anything is done to it here: methods then remove first what is zero already.

use crate::files::{input, names};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{PRUNING, STRUCTURE};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A model with fewer zeros than this share is not called pruned: rounding to a short number format makes a few.
const LEAST: f64 = 0.01;

/// The longest name of a method that is repeated to the user, in characters.
const LONGEST_NAME: usize = 100;

/// What is known of a model that had many zeros before zprune changed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunedBefore {
    /// The share of exact zeros among the weights of the linear layers of all blocks.
    pub zeros: f64,
    /// The method that made them, if a file of zprune in the model's folder names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl PrunedBefore {
    /// What is known of the model in `folder`, which has so many zeros in its linear layers; `None` if these are few.
    pub fn of(checkpoint: &Checkpoint, zeros: usize, folder: &Path) -> Option<Self> {
        let share = zeros as f64 / checkpoint.spec().prunable() as f64;
        (share > LEAST).then(|| PrunedBefore {
            zeros: share,
            method: [PRUNING, STRUCTURE].iter().find_map(|name| method(&folder.join(name))),
        })
    }

    /// That a model has these zeros already, without a full stop.
    pub fn said(&self) -> String {
        let percent = 100.0 * self.zeros;
        let by = self.method.as_ref();
        let by = by.map_or(String::new(), |method| format!(" (pruned with {method})"));
        format!("{percent:.2} % of the weights of its linear layers are zeros already{by}")
    }
}

/// The method that a file of zprune names. The file may come from elsewhere, and nothing but this name is taken from it.
fn method(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        method: String,
    }
    let text = path.is_file().then(|| input::read_text(path, input::SMALL).ok())??;
    let Named { method } = serde_json::from_str(&text).ok()?;
    let fit = !method.is_empty() && method.chars().count() <= LONGEST_NAME && !method.contains(names::is_hidden);
    fit.then_some(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_read_from_files_of_zprune_and_nothing_else_is_repeated() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(PRUNING);
        assert_eq!(method(&path), None);
        let long = format!("{{\"method\": \"{}\"}}", "a".repeat(LONGEST_NAME + 1));
        for (text, found) in [
            (
                "{\"schema\": 7, \"method\": \"ria+obs\", \"layers\": []}",
                Some("ria+obs"),
            ),
            ("{\"method\": \"\"}", None),
            ("{\"method\": 3}", None),
            ("{\"method\": \"a\\u001b[31m\"}", None),
            ("not JSON", None),
            (long.as_str(), None),
        ] {
            std::fs::write(&path, text).expect("writable");
            assert_eq!(method(&path).as_deref(), found, "{text}");
        }
    }

    #[test]
    fn the_share_and_the_method_are_said() {
        let of = |method: Option<&str>| PrunedBefore {
            zeros: 0.5,
            method: method.map(String::from),
        };
        assert_eq!(
            of(None).said(),
            "50.00 % of the weights of its linear layers are zeros already"
        );
        assert!(of(Some("wanda")).said().ends_with("already (pruned with wanda)"));
    }
}
