//! The work of one block on one batch backwards: from the gradient of a loss with respect to the block's output to that with
//! respect to its input, past every linear layer.
//!
//! What the forward pass computed is computed again from the block's input, with the forward pass's own steps, so nothing but that
//! input has to be kept.

use super::block::normalise_backward;
use super::pass::{Pass, copy};
use crate::backend::{Backend, RotaryTable};
use crate::error::Result;
use crate::spec::{Fusion, LinearId, NormPlace, Role, SubLayer};

/// A function that receives of each linear layer its input, and the gradient with respect to its output.
pub(super) type Listener<'a, T> = &'a mut dyn FnMut(LinearId, &T, &T) -> Result<()>;

/// What attention computed on its way.
struct Attention<T> {
    /// The normalised input, if it is normalised.
    entered: Option<T>,
    /// Queries and keys before their norms, if they have norms.
    before: [Option<T>; 2],
    /// Queries, keys and values as attention reads them.
    heads: [T; 3],
    /// The input of the output projection.
    mixed: T,
}

/// What the MLP computed on its way.
struct Mlp<T> {
    /// The normalised input, if it is normalised.
    entered: Option<T>,
    up: T,
    gate: Option<T>,
    /// The input of the down projection.
    middle: T,
}

/// The work of one block on one batch, forwards and backwards.
pub(super) struct Adjoint<'a, B: Backend> {
    /// The forward pass of the same batch.
    pub(super) pass: Pass<'a, B>,
    /// The table that rotates back, for models with rotary positions.
    pub(super) back: Option<&'a RotaryTable>,
}

impl<B: Backend> Adjoint<'_, B> {
    /// Turns the gradient with respect to the block's output into that with respect to its input `x`.
    pub(super) fn run(&self, x: &B::Tensor, gradient: &mut B::Tensor, listen: Listener<B::Tensor>) -> Result<()> {
        let (backend, spec) = (self.pass.backend, &self.pass.block.spec);
        let attention = self.attention(x)?;
        if spec.parallel {
            let mlp = self.mlp(x)?;
            let through_mlp = mlp.map(|mlp| self.mlp_backward(x, mlp, None, gradient, listen));
            let through_mlp = through_mlp.transpose()?;
            let through_attention = attention.map(|it| self.attention_backward(x, it, None, gradient, listen));
            let through = through_mlp.into_iter().chain(through_attention.transpose()?);
            return through.into_iter().try_for_each(|part| backend.add(gradient, &part));
        }
        // The stream between the sub-layers.
        let mut sum = copy(backend, x)?;
        let mut attention_output = None;
        if let Some(attention) = &attention {
            let (attended, output) = self.pass.leave(Role::Output, &attention.mixed)?;
            backend.add(&mut sum, &attended)?;
            attention_output = output;
        }
        let normed = match spec.norm_first {
            true => None,
            false => self.pass.normed(NormPlace::Attention, &sum)?,
        };
        let stream = normed.as_ref().unwrap_or(&sum);
        let mlp = self.mlp(stream)?;
        let mut mlp_output = None;
        if !spec.norm_first && self.pass.norm(NormPlace::Mlp).is_some() {
            let mut last = copy(backend, stream)?;
            if let Some(mlp) = &mlp {
                let (transformed, output) = self.pass.leave(Role::Down, &mlp.middle)?;
                backend.add(&mut last, &transformed)?;
                mlp_output = output;
            }
            self.unnorm(NormPlace::Mlp, &last, gradient)?;
        }
        if let Some(mlp) = mlp {
            let through = self.mlp_backward(stream, mlp, mlp_output, gradient, listen)?;
            backend.add(gradient, &through)?;
        }
        if !spec.norm_first {
            self.unnorm(NormPlace::Attention, &sum, gradient)?;
        }
        drop((normed, sum));
        match attention {
            Some(attention) => {
                let through = self.attention_backward(x, attention, attention_output, gradient, listen)?;
                backend.add(gradient, &through)
            }
            None => Ok(()),
        }
    }

    /// What attention computes; `None` in a block without it.
    fn attention(&self, x: &B::Tensor) -> Result<Option<Attention<B::Tensor>>> {
        let pass = &self.pass;
        if !pass.block.spec.has(SubLayer::Attention) {
            return Ok(None);
        }
        let entered = pass.enter(x, NormPlace::Attention)?;
        let [queries, keys, values] = pass.project(entered.as_ref().unwrap_or(x))?;
        let (queries, queries_before) = pass.placed(NormPlace::Query, queries)?;
        let (keys, keys_before) = pass.placed(NormPlace::Key, keys)?;
        Ok(Some(Attention {
            entered,
            before: [queries_before, keys_before],
            mixed: pass.attend(&queries, &keys, &values)?,
            heads: [queries, keys, values],
        }))
    }

    /// What the MLP computes; `None` in a block without it.
    fn mlp(&self, x: &B::Tensor) -> Result<Option<Mlp<B::Tensor>>> {
        let pass = &self.pass;
        if !pass.block.spec.has(SubLayer::Mlp) {
            return Ok(None);
        }
        let entered = pass.enter(x, NormPlace::Mlp)?;
        let (up, gate) = pass.expand(entered.as_ref().unwrap_or(x))?;
        let mut middle = copy(pass.backend, &up)?;
        pass.activate(&mut middle, gate.as_ref())?;
        Ok(Some(Mlp {
            entered,
            up,
            gate,
            middle,
        }))
    }

    /// The gradient with respect to the MLP's input `x`, given that with respect to what it adds to the stream. `output` is the
    /// result of the last layer before its norm, if there is a norm and the result is known.
    fn mlp_backward(
        &self,
        x: &B::Tensor,
        mlp: Mlp<B::Tensor>,
        output: Option<B::Tensor>,
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        let Mlp {
            entered,
            mut up,
            gate,
            middle,
        } = mlp;
        let mut for_middle = self.last_backward(Role::Down, &middle, output, dy, listen)?;
        drop(middle);
        let input = entered.as_ref().unwrap_or(x);
        let activation = block.spec.activation;
        let mut back = |role, dy: &B::Tensor| -> Result<B::Tensor> {
            let (id, dx) = block.apply_backward(backend, role, dy)?;
            listen(id, input, dy)?;
            Ok(dx)
        };
        let mut dx = match gate {
            Some(mut gate) => {
                backend.gate_backward(activation, &mut gate, &mut up, &for_middle)?;
                drop(for_middle);
                let mut dx = back(Role::Up, &up)?;
                backend.add(&mut dx, &back(Role::Gate, &gate)?)?;
                dx
            }
            None => {
                backend.activate_backward(activation, &up, &mut for_middle)?;
                back(Role::Up, &for_middle)?
            }
        };
        if entered.is_some() {
            self.unnorm(NormPlace::Mlp, x, &mut dx)?;
        }
        Ok(dx)
    }

    /// As [`Adjoint::mlp_backward`], of the attention.
    fn attention_backward(
        &self,
        x: &B::Tensor,
        attention: Attention<B::Tensor>,
        output: Option<B::Tensor>,
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        let Attention {
            entered,
            before,
            heads: [queries, keys, values],
            mixed,
        } = attention;
        let for_mixed = self.last_backward(Role::Output, &mixed, output, dy, listen)?;
        let (shape, window, length) = (block.spec.attention, block.reach.window, self.pass.length());
        let heads = [&queries, &keys, &values];
        let mut heads = backend.attention_backward(shape, window, length, heads, &mixed, &for_mixed)?;
        drop((queries, keys, values, mixed, for_mixed));
        for ((dy, before), place) in heads.iter_mut().zip(&before).zip([NormPlace::Query, NormPlace::Key]) {
            if let Some(table) = self.back {
                backend.rotate(dy, table, shape.head_dim, length)?;
            }
            if let Some(before) = before {
                self.unnorm(place, before, dy)?;
            }
        }
        let input = entered.as_ref().unwrap_or(x);
        let mut back = |role, dy: &B::Tensor| -> Result<B::Tensor> {
            let (id, dx) = block.apply_backward(backend, role, dy)?;
            listen(id, input, dy)?;
            Ok(dx)
        };
        let mut dx = match block.fusion() {
            Some(fusion) => {
                let run = match fusion {
                    Fusion::Sections => shape.heads * shape.head_dim,
                    Fusion::Heads => shape.head_dim,
                };
                let fused = backend.interleave(&heads.each_ref(), run)?;
                back(Role::Fused(fusion), &fused)?
            }
            None => {
                let [queries, keys, values] = &heads;
                let mut dx = back(Role::Query, queries)?;
                backend.add(&mut dx, &back(Role::Key, keys)?)?;
                backend.add(&mut dx, &back(Role::Value, values)?)?;
                dx
            }
        };
        if entered.is_some() {
            self.unnorm(NormPlace::Attention, x, &mut dx)?;
        }
        Ok(dx)
    }

    /// The gradient with respect to the input of a sub-layer's last layer, given that with respect to what the sub-layer adds to
    /// the stream.
    fn last_backward(
        &self,
        last: Role,
        input: &B::Tensor,
        output: Option<B::Tensor>,
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        let place = match last {
            Role::Down => NormPlace::MlpOutput,
            _ => NormPlace::AttentionOutput,
        };
        let mut normed = None;
        if let Some((spec, width, norm)) = self.pass.norm(place) {
            let output = output.map_or_else(|| block.apply(backend, last, input), Ok)?;
            normed = Some(normalise_backward(backend, spec, width, norm, &output, dy)?);
        }
        let dy = normed.as_ref().unwrap_or(dy);
        let (id, dx) = block.apply_backward(backend, last, dy)?;
        listen(id, input, dy)?;
        Ok(dx)
    }

    /// Turns the gradient with respect to the result of a norm into that with respect to its input `x`, if there is such a norm.
    fn unnorm(&self, place: NormPlace, x: &B::Tensor, gradient: &mut B::Tensor) -> Result<()> {
        if let Some((spec, width, norm)) = self.pass.norm(place) {
            *gradient = normalise_backward(self.pass.backend, spec, width, norm, x, gradient)?;
        }
        Ok(())
    }
}
