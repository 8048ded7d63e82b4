//! Criteria: how important is each weight?
//!
//! A criterion writes down a formula over the weights of one layer and the statistics of its inputs: a
//! [`Score`]. It selects nothing and changes nothing. Its struct is also its parameter table in the
//! experiment file. Adding one is a file here and a line in [`CRITERIA`].

mod magnitude;
mod obs;
mod ria;
mod wanda;
mod z_pruner;

use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::component::{Build, Built, parsed};
use crate::prune::pattern::Group;
use crate::prune::score::{self, Score};
use crate::registry::{Entry, Registry};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Scores the weights of a layer.
pub trait Criterion: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The comparison group of the paper's own code.
    fn group(&self) -> Group;

    /// True when the score is meant for the weights that remain while a solver updates them, so that
    /// the solver evaluates it again on each column block (or N:M group) it reaches.
    fn follows_update(&self) -> bool {
        false
    }

    /// The importance of every weight, as a formula; the lowest are removed. What it needs of calibration is read off it.
    fn score(&self) -> Score;

    /// The statistics that the score asks for.
    fn needs(&self) -> Needs {
        score::needs(&self.score())
    }
}

/// All criteria.
pub const CRITERIA: Registry<Build<dyn Criterion>> = Registry {
    kind: "criterion",
    entries: &[
        Entry {
            name: "magnitude",
            summary: "|w|; needs no calibration; group matrix",
            item: |table| built(table, |it: magnitude::Magnitude| Box::new(it)),
        },
        Entry {
            name: "wanda",
            summary: "|w| times the norm of its input (arXiv 2306.11695); group row",
            item: |table| built(table, |it: wanda::Wanda| Box::new(it)),
        },
        Entry {
            name: "ria",
            summary: "relative importance and activations (ICLR 2024); group matrix; parameter activation_power",
            item: |table| built(table, |it: ria::Ria| Box::new(it)),
        },
        Entry {
            name: "z-pruner",
            summary: "cubed z-scores of normalised weights (arXiv 2508.15828); group matrix; 4 parameters",
            item: |table| built(table, |it: z_pruner::ZPruner| Box::new(it)),
        },
        Entry {
            name: "obs",
            summary: "optimal brain surgeon saliency w^2 / [H^-1]_jj of the remaining problem (arXiv 2301.00774); group column-block",
            item: |table| built(table, |it: obs::Obs| Box::new(it)),
        },
    ],
};

/// A criterion made from its parameters, which are checked.
fn built<P>(table: &toml::Table, boxed: fn(P) -> Box<dyn Criterion>) -> Result<Built<dyn Criterion>>
where
    P: DeserializeOwned + Serialize,
{
    let built = parsed(table, boxed)?;
    built.component.validate()?;
    Ok(built)
}

/// Refuses a parameter that is not a finite number of at least `least`.
fn at_least(name: &str, value: f64, least: f64) -> Result<()> {
    if value.is_finite() && value >= least {
        Ok(())
    } else {
        Err(Error::config(format!(
            "parameter `{name}` = {value} must be a number of at least {least}"
        )))
    }
}
