//! What every compensation can do.

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::workbench::LayerView;
use crate::spec::LinearSpec;

/// The step of a recipe that changes a layer's bias to make up for removed weights: it adds what is [`wanted`](Self::wanted) less
/// what is [`given`](Self::given).
pub trait Compensation: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the bias of this layer is changed; it must be one that can have a bias. The others are pruned as without the step.
    fn compensates(&self, _linear: &LinearSpec) -> bool {
        true
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// What the outputs are to be, one value per output, without the bias. Asked of the dense layer.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn wanted(&self, layer: &dyn LayerView) -> Result<Vec<f64>>;

    /// What the outputs are, one value per output, without the bias. Asked of the pruned layer, whose weights are as they are stored.
    ///
    /// # Errors
    /// As [`wanted`](Self::wanted).
    fn given(&self, layer: &dyn LayerView) -> Result<Vec<f64>>;
}
