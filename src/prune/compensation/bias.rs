//! The mean of what was removed goes into the bias.
//!
//! With the means `m` of the inputs over all calibration tokens, the bias of output `i` becomes
//!
//! ```text
//! b_i + sum_j (w_ij - v_ij) m_j
//! ```
//!
//! for dense weights `w` and pruned ones `v`, whatever became of those that are kept: the mean of the output is what it was. The
//! error that is left is that of inputs without their means, so that a criterion (`stade`) and a solver (`least-squares` with
//! `centred = true`) can look at these alone.
//!
//! FLAP (arXiv 2312.11983, for whole channels of the layers that write to the stream: `layers = "outputs"`) and STADE (Coello et
//! al.) do this after removing weights; here it follows any solver. Where the dense model's outputs are the goal, `w` meets the
//! means of the dense model's inputs.

use super::step::Compensation;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::LayerView;
use crate::spec::{LinearSpec, Role};
use serde::{Deserialize, Serialize};

/// The compensation by the means of outputs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bias {
    /// Which layers' biases are changed: `all`, `outputs` or `biased`.
    pub layers: Layers,
}

/// The layers whose biases [`Bias`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layers {
    /// All of them.
    #[default]
    All,
    /// The attention's output projection and the last layer of the MLP, which write to the residual stream.
    Outputs,
    /// Those that have a bias before.
    Biased,
}

impl Compensation for Bias {
    fn compensates(&self, linear: &LinearSpec) -> bool {
        match self.layers {
            Layers::All => true,
            Layers::Outputs => matches!(linear.role, Role::Output | Role::Down),
            Layers::Biased => linear.bias,
        }
    }

    fn needs(&self) -> Needs {
        Needs::MEANS
    }

    fn wanted(&self, layer: &dyn LayerView) -> Result<Vec<f64>> {
        outputs(layer, layer.goal_means()?)
    }

    fn given(&self, layer: &dyn LayerView) -> Result<Vec<f64>> {
        outputs(layer, &layer.means()?.mean)
    }
}

/// The outputs that a layer's weights give for one input.
pub(in crate::prune) fn outputs(layer: &dyn LayerView, input: &[f64]) -> Result<Vec<f64>> {
    let values = Values {
        vectors: vec![input.iter().map(|value| *value as f32).collect()],
        ..Values::from(Formula::Leaf(Operand::Weight) * Formula::Leaf(Operand::Column(0)))
    };
    let sums = layer.sums(&[(Over::Row, values)])?;
    Ok(sums.into_iter().flatten().collect())
}
