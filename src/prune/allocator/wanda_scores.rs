//! Wanda's scores of all layers of a block together, which OWL and DLP look at.

use crate::error::Result;
use crate::prune::criterion::{Criterion, Wanda};
use crate::prune::formula::Formula;
use crate::prune::score::resolve;
use crate::prune::values::{Operand, Values};
use crate::prune::workbench::Workpiece;

/// The scores of the linear layers of a block; they are computed again each time they are added up or counted.
pub struct WandaScores<'a, 'p> {
    layers: Vec<(&'a (dyn Workpiece + 'p), Values)>,
    /// Number of scores.
    pub count: f64,
}

impl<'a, 'p> WandaScores<'a, 'p> {
    /// The scores of a block.
    ///
    /// # Errors
    /// No sums of squares were gathered.
    pub fn new(block: &'a [Box<dyn Workpiece + 'p>]) -> Result<Self> {
        let score = Wanda {}.score();
        let layers = block
            .iter()
            .map(|layer| Ok((layer.as_ref(), resolve(&score, layer.as_ref())?)));
        let weights = |(rows, columns): (usize, usize)| (rows * columns) as f64;
        Ok(WandaScores {
            layers: layers.collect::<Result<_>>()?,
            count: block.iter().map(|layer| weights(layer.dim())).sum(),
        })
    }

    /// The mean of the scores.
    ///
    /// # Errors
    /// The backend fails.
    pub fn mean(&self) -> Result<f64> {
        Ok(self.total(Formula::clone)? / self.count)
    }

    /// Number of scores above a limit.
    ///
    /// # Errors
    /// The backend fails.
    pub fn above(&self, limit: f64) -> Result<f64> {
        self.total(|score| Formula::Number(limit).below(score.clone()))
    }

    /// The median of the scores, the lower of two in the middle, to seven digits of the mean: found by counting how many are below a
    /// limit that is moved, so that the scores need not be sorted, or leave a device.
    ///
    /// # Errors
    /// The backend fails.
    pub fn median(&self) -> Result<f64> {
        let mean = self.mean()?;
        let middle = ((self.count - 1.0) / 2.0).floor();
        // No more than half of all can be above twice the mean.
        let (mut low, mut high) = (0.0, 2.0001 * mean);
        while high - low > 1e-7 * mean {
            let limit = 0.5 * (low + high);
            match self.total(|score| score.clone().below(limit))? > middle {
                true => high = limit,
                false => low = limit,
            }
        }
        Ok(0.5 * (low + high))
    }

    /// The sum of a formula of the score over all layers.
    fn total(&self, of: impl Fn(&Formula<Operand>) -> Formula<Operand>) -> Result<f64> {
        let sum = |(layer, scores): &(&(dyn Workpiece + 'p), Values)| {
            let values = Values {
                formula: of(&scores.formula),
                ..scores.clone()
            };
            layer.total(layer.dim(), &values)
        };
        self.layers.iter().map(sum).sum()
    }
}
