//! A criterion for one layer, whose gradients and values from a file are known.

use super::step::Criterion;
use crate::calibrate::gradients::LayerGradients;
use crate::error::Result;
use crate::prune::pattern::Group;
use crate::prune::score::{Given, Score, at_depth, with_file, with_gradients};

/// A criterion with the gradients of one layer in its score.
pub struct WithGradients<'a> {
    criterion: &'a dyn Criterion,
    score: Score,
}

impl<'a> WithGradients<'a> {
    /// Puts a layer's gradients, those of each loss, into a criterion's score.
    ///
    /// # Errors
    /// They do not have what the criterion needs.
    pub fn new(criterion: &'a dyn Criterion, gradients: &[LayerGradients]) -> Result<Self> {
        let mut each = gradients.iter();
        let score = each.try_fold(criterion.score(), |score, gradients| with_gradients(&score, gradients))?;
        Ok(WithGradients { criterion, score })
    }

    /// The same for a layer whose block has this place: 0 for the first block, 1 for the last.
    ///
    /// # Errors
    /// Never.
    pub fn at_depth(self, depth: f64) -> Result<Self> {
        let score = at_depth(&self.score, depth)?;
        Ok(WithGradients { score, ..self })
    }
}

impl WithGradients<'_> {
    /// The same with the values that the layer has in the criterion's file.
    ///
    /// # Errors
    /// Never.
    pub fn with_file(self, values: Given) -> Result<Self> {
        let score = with_file(&self.score, &values)?;
        Ok(WithGradients { score, ..self })
    }
}

impl Criterion for WithGradients<'_> {
    fn group(&self) -> Group {
        self.criterion.group()
    }

    fn follows_update(&self) -> bool {
        self.criterion.follows_update()
    }

    fn given_by(&self) -> Option<String> {
        self.criterion.given_by()
    }

    fn score(&self) -> Score {
        self.score.clone()
    }
}
