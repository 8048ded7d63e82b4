//! Inputs less their means.
//!
//! With the means `m` of the inputs, a layer is pruned for the inputs `x - m`: norms and Gram matrices are those of the centred
//! inputs, `G - n m m^T` for `n` tokens. What was removed is made up for by
//!
//! ```text
//! b_i + sum_j (w_ij - v_ij) m_j
//! ```
//!
//! for dense weights `w` and pruned ones `v`, so that the means of outputs stay. It is the same change of the bias as that of the
//! compensation `bias`; here every step sees the error that is left after it. After a variant of Sparsity Induction (arXiv 2602.21652)
//! that needs no training. Where the dense model's outputs are the goal, `w` meets the means of the dense model's inputs.

use super::step::{Change, Transform};
use crate::backend::moments::Needs;
use crate::calibrate::variables::{InputChange, Shifts};
use crate::error::Result;
use crate::prune::compensation::{Bias, Compensation, Layers};
use crate::prune::workbench::LayerView;
use crate::spec::LinearSpec;
use serde::{Deserialize, Serialize};

/// The transform by means of inputs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Centre {
    /// Which layers are pruned so, which changes their biases: `all`, `outputs` or `biased`.
    pub layers: Layers,
}

impl Transform for Centre {
    fn transforms(&self, linear: &LinearSpec) -> bool {
        Bias { layers: self.layers }.compensates(linear)
    }

    fn shifts(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs::MEANS
    }

    fn change(&self, layer: &dyn LayerView) -> Result<Change> {
        let own = layer.means()?.mean.clone();
        Ok(Change {
            scales: None,
            inputs: InputChange {
                factors: vec![1.0; own.len()],
                shifts: Some(Shifts {
                    goal: layer.goal_means()?.to_vec(),
                    own,
                }),
            },
        })
    }
}
