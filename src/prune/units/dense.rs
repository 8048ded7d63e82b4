//! The dense model on a backend, with calibration text.

use super::in_turn::in_turn;
use super::step::{BlockInTurn, DenseModel, RoleGradient};
use super::survey::{BlockFeatures, neuron_norms, survey};
use super::turning::{Tokens, Turning, turning};
use crate::backend::Backend;
use crate::backend::gradient::GradientNeeds;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::model::backward::gradients;
use crate::model::blocks;
use crate::model::edit::{BlockEdit, Edit, Edited};
use crate::model::forward::{Ends, Hidden};
use crate::model::source::WeightSource;
use crate::spec::SubLayer;
use ndarray::Array2;

/// A dense model on a backend.
pub struct Dense<'a, B: Backend> {
    /// The backend that computes.
    pub backend: &'a B,
    /// The model's weights.
    pub source: &'a dyn WeightSource,
    /// Its embedding and its head, on the backend.
    pub ends: &'a Ends<B>,
    /// Calibration text, if there is some.
    pub windows: Option<&'a TokenWindows>,
}

impl<B: Backend> Dense<'_, B> {
    fn windows(&self) -> Result<&TokenWindows> {
        self.windows
            .ok_or_else(|| Error::config("the method looks at calibration text, and there is none"))
    }
}

impl<B: Backend> DenseModel for Dense<'_, B> {
    fn source(&self) -> &dyn WeightSource {
        self.source
    }

    fn features(&self) -> Result<Vec<BlockFeatures>> {
        survey(self.backend, self.source, self.ends, self.windows()?)
    }

    fn turning(&self, run: usize, tokens: Tokens) -> Result<Turning> {
        turning(self.backend, self.source, self.ends, self.windows()?, run, tokens)
    }

    fn gradients(
        &self,
        needs: GradientNeeds,
        take: &mut dyn FnMut(usize, &[RoleGradient]) -> Result<()>,
    ) -> Result<()> {
        let windows = self.windows()?;
        let count = windows.count() as f32;
        let read = |sum: &Option<B::Tensor>| -> Result<Option<Array2<f32>>> {
            let sum = sum.as_ref().map(|sum| self.backend.download(sum)).transpose()?;
            Ok(sum.map(|sum| sum / count))
        };
        gradients(
            self.backend,
            self.source,
            self.ends,
            windows,
            needs,
            |index, block, found| {
                let layers = found.into_layers().into_iter().map(|(id, gradient)| {
                    Ok(RoleGradient {
                        role: block.spec().linear(id).role,
                        mean: read(&gradient.sum)?,
                        squares: read(&gradient.squares)?,
                    })
                });
                take(index, &layers.collect::<Result<Vec<_>>>()?)
            },
        )?;
        Ok(())
    }

    fn perplexity(&self, edit: &Edit) -> Result<f64> {
        let edited = Edited::new(self.source, edit)?;
        let windows = self.windows()?;
        let mut hidden = Hidden::embed(self.backend, edited.spec(), self.ends, windows)?;
        blocks::each(self.backend, &edited, |_, block| {
            hidden.advance(self.backend, edited.spec(), &block, |_, _| Ok(()))
        })?;
        perplexity(self.backend, self.ends, &hidden, windows)
    }

    fn in_turn(&self, start: &Edit, choose: &mut dyn FnMut(&dyn BlockInTurn) -> Result<BlockEdit>) -> Result<Edit> {
        in_turn(self.backend, self.source, self.ends, self.windows()?, start, choose)
    }

    fn neuron_norms(&self) -> Result<Vec<Vec<f64>>> {
        neuron_norms(self.backend, self.source, self.ends, self.windows()?)
    }

    fn without_attention(&self, edit: &Edit, windows: usize) -> Result<Vec<(usize, f64)>> {
        let edited = Edited::new(self.source, edit)?;
        let (backend, spec) = (self.backend, edited.spec());
        let all = self.windows()?;
        if windows > all.count() {
            return Err(Error::config(format!(
                "parameter `windows` = {windows}, and the calibration text has {}",
                all.count()
            )));
        }
        let windows = all.part(0..windows)?;
        let mut hidden = Hidden::embed(backend, spec, self.ends, &windows)?;
        // One sweep for all: each stream leaves the common one where its block loses its attention.
        let mut others: Vec<(usize, Hidden<B>)> = Vec::new();
        blocks::each(backend, &edited, |index, block| {
            for (_, other) in &mut others {
                other.advance(backend, spec, &block, |_, _| Ok(()))?;
            }
            let own = match block.spec().has(SubLayer::Attention) {
                true => Some(hidden.fork(backend, self.ends)?),
                false => None,
            };
            hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
            if let Some(mut own) = own {
                let block = block.without(SubLayer::Attention);
                own.advance(backend, spec, &block, |_, _| Ok(()))?;
                others.push((index, own));
            }
            Ok(())
        })?;
        let measured =
            |(index, other): (usize, Hidden<B>)| Ok((index, perplexity(backend, self.ends, &other, &windows)?));
        others.into_iter().map(measured).collect()
    }
}

/// The perplexity of windows whose stream has passed all blocks.
fn perplexity<B: Backend>(backend: &B, ends: &Ends<B>, hidden: &Hidden<B>, windows: &TokenWindows) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0);
    hidden.log_likelihoods(backend, ends, windows, |windows| {
        for window in windows {
            sum += window.iter().sum::<f64>();
            count += window.len();
        }
    })?;
    Ok((-sum / count as f64).exp())
}
