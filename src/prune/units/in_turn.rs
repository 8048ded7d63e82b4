//! Blocks that are edited one after the other, each on the inputs that the edited blocks before it give.

use super::regression::Regression;
use super::step::{BlockInTurn, Observed, OfMlp, Wanted};
use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::model::blocks;
use crate::model::edit::{BlockEdit, Edit, Edited};
use crate::model::forward::{Block, Ends, Hidden, copy};
use crate::model::source::WeightSource;
use crate::spec::{LinearId, ModelSpec, Role, TapPlace};
use ndarray::Axis;
use std::collections::BTreeMap;

/// Asks `choose` for the edit of every block of `start`, in order.
///
/// # Errors
/// An edit is impossible, the checkpoint is unusable, the backend or `choose` fails.
pub fn in_turn<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    start: &Edit,
    choose: &mut dyn FnMut(&dyn BlockInTurn) -> Result<BlockEdit>,
) -> Result<Edit> {
    let before = Edited::new(source, start)?;
    let mut edit = start.clone();
    let mut hidden = Hidden::embed(backend, before.spec(), ends, windows)?;
    blocks::each(backend, &before, |index, block| {
        let spec = before.spec();
        let chosen = choose(&InTurn {
            backend,
            windows,
            spec,
            hidden: &hidden,
            index,
            block: &block,
        })?;
        if chosen == start.blocks[index] {
            return hidden.advance(backend, spec, &block, |_, _| Ok(()));
        }
        drop(block);
        edit.blocks[index] = chosen;
        let after = Edited::new(source, &edit)?;
        let block = Block::load(backend, &after, index)?;
        hidden.advance(backend, after.spec(), &block, |_, _| Ok(()))
    })?;
    Ok(edit)
}

/// A block whose turn it is.
struct InTurn<'a, B: Backend> {
    backend: &'a B,
    windows: &'a TokenWindows,
    spec: &'a ModelSpec,
    hidden: &'a Hidden<B>,
    index: usize,
    block: &'a Block<B>,
}

impl<B: Backend> InTurn<'_, B> {
    fn layer(&self, role: Role) -> Result<LinearId> {
        let found = self.block.spec().layers().find(|(_, linear)| linear.role == role);
        let missing =
            || Error::config(format!("it has no layer of role {role:?}")).at(format_args!("block {}", self.index));
        found.map(|(id, _)| id).ok_or_else(missing)
    }
}

impl<B: Backend> BlockInTurn for InTurn<'_, B> {
    fn index(&self) -> usize {
        self.index
    }

    fn observe(&self, wanted: Wanted) -> Result<Observed> {
        let (backend, block) = (self.backend, self.block);
        let squares_of = |width| backend.moments(width, Needs::SQUARES);
        let mut inputs: BTreeMap<TapPlace, B::Moments> = BTreeMap::new();
        for tap in block.spec().taps() {
            inputs.insert(tap.place, squares_of(tap.width)?);
        }
        let (output, down) = (self.layer(Role::Output)?, self.layer(Role::Down)?);
        let mut outputs = squares_of(block.spec().linear(output).outputs)?;
        let bias_of = |id| {
            block
                .bias(id)
                .map(|bias| backend.upload_vector(bias.view()))
                .transpose()
        };
        let output_bias = bias_of(output)?;
        // What the regression is on: the whole MLP, or a part without bias.
        let (part, mlp_bias) = match wanted.mlp {
            Some(OfMlp::These(neurons)) => {
                let mut weight = backend.download_weight(block.weight(down))?;
                let mut chosen = vec![false; weight.ncols()];
                neurons.iter().for_each(|neuron| chosen[*neuron] = true);
                for (mut column, _) in weight
                    .axis_iter_mut(Axis(1))
                    .zip(&chosen)
                    .filter(|(_, chosen)| !**chosen)
                {
                    column.fill(0.0);
                }
                (Some(backend.upload_weight(weight)?), None)
            }
            Some(OfMlp::All) => (None, bias_of(down)?),
            None => (None, None),
        };
        let mut regression = wanted.mlp.map(|_| Regression::new(self.spec.width));
        let mut entered = None;
        let last = block.spec().tap(TapPlace::MlpMiddle);
        let last = last.ok_or_else(|| Error::config("it has no MLP").at(format_args!("block {}", self.index)))?;
        self.hidden
            .observe(backend, self.spec, block, None, last, |tap, x, _| {
                if let Some(moments) = inputs.get_mut(&tap.place) {
                    backend.accumulate(moments, x)?;
                }
                match (tap.place, &mut regression) {
                    (TapPlace::AttentionOut, _) if wanted.output => {
                        let y = backend.linear(block.weight(output), output_bias.as_ref(), x)?;
                        backend.accumulate(&mut outputs, &y)
                    }
                    (TapPlace::MlpIn, Some(_)) => {
                        entered = Some(copy(backend, x)?);
                        Ok(())
                    }
                    (TapPlace::MlpMiddle, Some(regression)) => {
                        let weight = part.as_ref().unwrap_or_else(|| block.weight(down));
                        let y = backend.linear(weight, mlp_bias.as_ref(), x)?;
                        match entered.take() {
                            Some(x) => regression.add(&backend.download(&x)?, &backend.download(&y)?),
                            None => Ok(()),
                        }
                    }
                    _ => Ok(()),
                }
            })?;
        let count = self.windows.count() as f64;
        let read = |moments: &B::Moments| -> Result<Vec<f64>> {
            let found = backend.read_moments(moments)?;
            found.check_finite().at(format_args!("block {}", self.index))?;
            Ok(found.squares.iter().map(|sum| sum / count).collect())
        };
        let inputs = inputs.iter().map(|(place, moments)| Ok((*place, read(moments)?)));
        Ok(Observed {
            squares: inputs.collect::<Result<_>>()?,
            output: if wanted.output { read(&outputs)? } else { Vec::new() },
            mlp: regression,
        })
    }
}
