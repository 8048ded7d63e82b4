//! What is measured beside perplexity and zero-shot tasks: distances from the dense model, and answers to prompts.

use super::{Findings, Runner};
use crate::cell::dense::DenseStreams;
use crate::cell::tasks::TaskFindings;
use crate::error::{Located, Result};
use crate::eval::generate::Greedy;
use crate::eval::perplexity::PerplexityScorer;
use crate::model::forward::{Block, Ends};
use crate::model::source::WeightSource;
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::record::{EvaluationRecord, ToDenseRecord};
use crate::spec::ModelSpec;

impl<B: Workbench> Runner<'_, B> {
    /// Whether the predictions of pruned models are compared with the dense model's.
    pub(super) fn compares(&self) -> bool {
        self.model.evaluations.iter().any(|text| text.compare_to_dense)
    }

    /// Measures the model as it is, and compares its predictions with those of another one, whose streams of the same texts and whose
    /// ends `dense` are.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_against(&self, dense: (&DenseStreams<B>, &Ends<B>), progress: &dyn Progress) -> Result<Findings> {
        let (found, scorers) = self.scored(self.model.source, &self.ends, progress)?;
        Ok(Findings {
            evaluations: self.compared(found.evaluations, (&scorers, &self.ends), Some(dense))?,
            ..found
        })
    }

    /// Makes sure that the dense model's streams are there, if pruned models are compared with it.
    pub(super) fn share_streams(&mut self, progress: &dyn Progress) -> Result<()> {
        if self.compares() && self.streams.is_none() {
            let (source, texts) = (self.model.source, &self.model.evaluations);
            self.streams = Some(DenseStreams::new(self.backend, source, &self.ends, texts, progress)?);
        }
        Ok(())
    }

    /// What pruned models are compared with: they have the dense model's ends.
    pub(super) fn dense_streams(&self) -> Option<(&DenseStreams<B>, &Ends<B>)> {
        Some((self.streams.as_ref()?, &self.ends))
    }

    /// What was found of a pruned model, with how far it is from the dense one where that is asked for.
    pub(super) fn compared(
        &self,
        found: Vec<EvaluationRecord>,
        (scorers, own): (&[PerplexityScorer<B>], &Ends<B>),
        dense: Option<(&DenseStreams<B>, &Ends<B>)>,
    ) -> Result<Vec<EvaluationRecord>> {
        let each = found.into_iter().zip(scorers).enumerate();
        each.map(|(index, (found, scorer))| {
            let dense = dense.and_then(|(streams, ends)| Some((streams.of(index)?, ends)));
            let compare = |dense| scorer.to_dense(self.backend, own, dense);
            let to_dense = dense.map(compare).transpose().at(&found.name)?;
            Ok(EvaluationRecord {
                to_dense: to_dense.map(ToDenseRecord::of),
                ..found
            })
        })
        .collect()
    }

    /// Whether the model answers prompts, for which all its blocks must be there together.
    pub(super) fn answers(&self) -> bool {
        !self.model.generations.is_empty()
    }

    /// What a model with these blocks answers.
    pub(super) fn answered(
        &self,
        (spec, ends): (&ModelSpec, &Ends<B>),
        blocks: &[Block<B>],
        progress: &dyn Progress,
    ) -> Result<Vec<TaskFindings>> {
        let model = Greedy {
            backend: self.backend,
            spec,
            ends,
            blocks,
        };
        let each = self.model.generations.iter();
        each.map(|prompts| prompts.answered(&model, progress)).collect()
    }

    /// What a model answers that can be loaded again.
    pub(super) fn answered_by(
        &self,
        source: &dyn WeightSource,
        ends: &Ends<B>,
        progress: &dyn Progress,
    ) -> Result<Vec<TaskFindings>> {
        if !self.answers() {
            return Ok(Vec::new());
        }
        let spec = source.spec();
        let blocks = (0..spec.blocks).map(|index| Block::load(self.backend, source, index));
        self.answered((spec, ends), &blocks.collect::<Result<Vec<_>>>()?, progress)
    }
}
