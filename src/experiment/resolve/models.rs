//! Models: where they are, and what is expected of them.

use crate::error::{Error, Result};
use crate::experiment::plan::{EvaluationPlan, Expected};
use crate::experiment::problems::{AtKey, Keyed};
use crate::experiment::raw::RawModel;
use crate::hub::{Repository, datasets};
use crate::registry::suggestion;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a model is: its path as shown and, for one of the hub, its repository.
pub fn model_place(model: &RawModel) -> Keyed<(PathBuf, Option<Repository>)> {
    match (&model.path, &model.hub) {
        (Some(path), None) if model.revision.is_none() => {
            let path = path.get_ref();
            if let Some(repository) = path.to_str().and_then(|path| path.strip_prefix(datasets::PREFIX)) {
                let message = format!("a model of the hub is written `hub = \"{repository}\"`, not as a path");
                return Err(("path", Error::config(message)));
            }
            Ok((path.clone(), None))
        }
        (None, Some(name)) => {
            Repository::model(name, None).map_err(|error| ("hub", instead(name, error)))?;
            let repository = Repository::model(name, model.revision.as_deref()).at_key("revision")?;
            Ok((format!("{}{name}", datasets::PREFIX).into(), Some(repository)))
        }
        (Some(_), None) => {
            let message = "`revision` belongs to a model of the `hub`, not to a `path`";
            Err(("revision", Error::config(message)))
        }
        (Some(_), Some(_)) => {
            let message = "a model has either `path` or `hub`, not both";
            Err(("hub", Error::config(message)))
        }
        (None, None) => {
            let message = "`path` is missing: the folder of a model, or `hub = \"org/name\"` in its place";
            Err(("path", Error::config(message)))
        }
    }
}

/// The error of a name that is none of the hub, with what was meant: a folder, or what follows the hub's own address.
fn instead(name: &str, error: Error) -> Error {
    let repository = name
        .split_once("huggingface.co/")
        .map(|(_, rest)| rest.trim_end_matches('/'));
    match repository {
        Some(repository) => Error::config(format!("{error}; write `hub = \"{repository}\"`")),
        None => Error::config(format!(
            "{error}; a folder of this machine is written `path = \"{name}\"`"
        )),
    }
}

/// Checks what is expected of a model.
pub fn expectations(expected: &BTreeMap<String, Expected>, evaluations: &[EvaluationPlan]) -> Result<()> {
    let known: Vec<&str> = evaluations.iter().map(|it| it.name.as_str()).collect();
    for (name, Expected { perplexity, tolerance }) in expected {
        if !known.contains(&name.as_str()) {
            let message = format!("`expected` names no evaluation `{name}`{}", suggestion(name, &known));
            return Err(Error::config(message));
        }
        if !(*perplexity >= 1.0 && *tolerance >= 0.0 && perplexity.is_finite() && *tolerance < 1.0) {
            return Err(Error::config(format!(
                "expected.{name}: a perplexity is at least 1, and its tolerance a fraction of it below 1"
            )));
        }
    }
    Ok(())
}
