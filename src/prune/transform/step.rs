//! What every transform can do, and how a change of variables is made and undone.

use super::learning::Learning;
use crate::backend::moments::Needs;
use crate::calibrate::variables::InputChange;
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Values};
use crate::prune::workbench::{LayerView, Workpiece};
use crate::spec::LinearSpec;
use ndarray::{ArrayView1, Axis};

/// The step of a recipe that chooses the variables in which a layer is pruned.
pub trait Transform: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Whether this layer is pruned in other variables. The others are pruned as without the step.
    fn transforms(&self, _linear: &LinearSpec) -> bool {
        true
    }

    /// Whether inputs are shifted, so that the biases of the layers change.
    fn shifts(&self) -> bool {
        false
    }

    /// How the variables are learned from the outputs of blocks, if they are. Those of [`change`](Self::change) are where it starts.
    fn learning(&self) -> Option<Learning> {
        None
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// The variables in which the layer is pruned.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn change(&self, layer: &dyn LayerView) -> Result<Change>;
}

/// Other variables for a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What the columns of the weights are multiplied by, one positive number per input feature; without, they stay as they are.
    pub scales: Option<Vec<f32>>,
    /// What becomes of the inputs.
    pub inputs: InputChange,
}

/// The weights of a layer before and after their columns were scaled.
pub struct Applied {
    scales: Vec<f32>,
    original: Matrix,
    scaled: Matrix,
}

impl Change {
    /// Puts a layer into the new variables. `None` if its weights stay as they are.
    ///
    /// # Errors
    /// There are shifts and no means were gathered, or the backend has no room.
    pub fn apply(&self, piece: &mut dyn Workpiece) -> Result<Option<Applied>> {
        piece.change_inputs(&self.inputs)?;
        let Some(scales) = &self.scales else {
            return Ok(None);
        };
        let scaled = Values {
            vectors: vec![scales.clone()],
            ..Values::from(Formula::Leaf(Operand::Weight) * Formula::Leaf(Operand::Column(0)))
        };
        let (original, scaled) = (piece.weight()?, piece.map(piece.dim(), &scaled)?);
        piece.set_weight(&scaled)?;
        Ok(Some(Applied {
            scales: scales.clone(),
            original,
            scaled,
        }))
    }
}

impl Applied {
    /// Puts a pruned layer back: weights that nobody changed are bit for bit what they were, the others are divided by the scales. The
    /// columns may be in another order now.
    ///
    /// # Errors
    /// The backend fails.
    pub fn undo(self, piece: &mut dyn Workpiece) -> Result<()> {
        let Applied {
            mut scales,
            mut original,
            mut scaled,
        } = self;
        if let Some(order) = piece.order() {
            scales = order.iter().map(|from| scales[*from]).collect();
            let places: Vec<f32> = order.iter().map(|from| *from as f32).collect();
            let places = piece.matrix(ArrayView1::from(&places).insert_axis(Axis(0)))?;
            original = piece.gather(&original, &places)?;
            scaled = piece.gather(&scaled, &places)?;
        }
        let mut values = Values::over([&original, &scaled], |[original, scaled]| {
            let now = || Formula::Leaf(Operand::Weight);
            let changed = now().below(scaled.clone()) + scaled.below(now());
            // What is not finite stays so, whichever it is compared with.
            (1.0 - changed.clone()) * original + changed * (now() / Formula::Leaf(Operand::Column(0)))
        });
        values.vectors = vec![scales];
        let back = piece.map(piece.dim(), &values)?;
        piece.set_weight(&back)?;
        // A scaled weight may be 0 where the weight itself is not.
        piece.remove()
    }
}
