//! Taylor's expansion of the loss, as in LLM-Pruner (Ma et al., NeurIPS 2023, arXiv 2305.11627; reference: horseee/LLM-Pruner,
//! `LLMPruner/pruner/hf_llama_pruner.py`): how much the loss is expected to change if a weight is removed.
//!
//! With the gradient `g` of the mean loss of all calibration sequences and the mean `h` over sequences of the square of each one's
//! gradient: `|w g|` (`form = "first"`, the reference's `param_first`), `w^2 h` (`"second"`, `param_second`) and `|w g - w^2 h / 2|`
//! (`"mixed"`, `param_mix`), compared over the matrix.
//!
//! Deviation: LLM-Pruner adds these up over heads and neurons and removes whole ones. Here they are scores of single weights.

use super::step::Criterion;
use crate::backend::gradient::GradientSum;
use crate::calibrate::gradients::Loss;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, gradients, sequences, weight};
use serde::{Deserialize, Serialize};

/// The Taylor criterion and its parameter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Taylor {
    /// The terms of the expansion that are used: `first`.
    pub form: TaylorForm,
}

/// Terms of Taylor's expansion of the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaylorForm {
    /// The first order, `|w g|`.
    #[default]
    First,
    /// The second order, `w^2 h`.
    Second,
    /// Both, `|w g - w^2 h / 2|`.
    Mixed,
}

impl Criterion for Taylor {
    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        let first = || weight() * gradients(Loss::Likelihood, GradientSum::Plain) * sequences().inverse();
        let second = || weight().square() * gradients(Loss::Likelihood, GradientSum::Squares) * sequences().inverse();
        match self.form {
            TaylorForm::First => first().abs(),
            TaylorForm::Second => second(),
            TaylorForm::Mixed => (first() - second() * 0.5).abs(),
        }
    }
}
