//! The dense model's streams after its last block, which pruned models are compared with.

use super::prepared::PreparedText;
use crate::backend::Backend;
use crate::error::Result;
use crate::eval::perplexity::PerplexityScorer;
use crate::model::blocks;
use crate::model::forward::{Ends, Hidden};
use crate::model::source::WeightSource;
use crate::progress::Progress;

/// The dense model's streams after its last block, of the texts on which pruned models are compared with it.
pub struct DenseStreams<B: Backend>(Vec<Option<Hidden<B>>>);

impl<B: Backend> DenseStreams<B> {
    /// Moves the texts through the model.
    ///
    /// # Errors
    /// The weights are unusable, the backend fails, or `progress` stops it.
    pub fn new(
        backend: &B,
        source: &dyn WeightSource,
        ends: &Ends<B>,
        texts: &[PreparedText],
        progress: &dyn Progress,
    ) -> Result<Self> {
        let embed = |text: &PreparedText| Hidden::embed(backend, source.spec(), ends, &text.windows);
        let streams = texts
            .iter()
            .map(|text| text.compare_to_dense.then(|| embed(text)).transpose());
        let mut streams = streams.collect::<Result<Vec<_>>>()?;
        blocks::each(backend, source, |_, block| {
            for stream in streams.iter_mut().flatten() {
                stream.advance(backend, source.spec(), &block, |_, _| Ok(()))?;
            }
            progress.tried()
        })?;
        Ok(DenseStreams(streams))
    }

    /// The streams of a scored dense model.
    pub(super) fn scored(texts: &[PreparedText], scorers: Vec<PerplexityScorer<B>>) -> Self {
        let each = texts.iter().zip(scorers);
        DenseStreams(
            each.map(|(text, scorer)| text.compare_to_dense.then(|| scorer.into_stream()))
                .collect(),
        )
    }

    /// The stream of the text at `index`, if it is compared.
    pub fn of(&self, index: usize) -> Option<&Hidden<B>> {
        self.0.get(index)?.as_ref()
    }
}
