//! The work of one block on one batch backwards: from the gradient of a loss with respect to the block's output to that with
//! respect to its input, past every linear layer.
//!
//! What the forward pass computed is computed again from the block's input, with the forward pass's own steps, so nothing but that
//! input has to be kept. Where there is memory, what took long to compute is kept ([`Computed`]).

use super::block::normalise_backward;
use super::pass::{Pass, copy};
use crate::backend::{Backend, RotaryTable};
use crate::error::Result;
use crate::spec::{Fusion, LinearId, NormPlace, Role, SubLayer};

/// A function that receives of each linear layer its input, and the gradient with respect to its output.
pub(super) type Listener<'a, T> = &'a mut dyn FnMut(LinearId, &T, &T) -> Result<()>;

/// What attention computed on its way.
struct Attention<T> {
    /// The normalised input, if it is normalised. What is kept of attention lacks it.
    entered: Option<T>,
    /// Queries and keys before their norms, if they have norms.
    before: [Option<T>; 2],
    /// Queries, keys and values as attention reads them.
    heads: [T; 3],
    /// The input of the output projection.
    mixed: T,
    /// The result of the output projection, if it is normalised and known.
    output: Option<T>,
}

/// What the MLP computed on its way.
struct Mlp<T> {
    /// The normalised input, if it is normalised. What is kept of an MLP lacks it.
    entered: Option<T>,
    up: T,
    gate: Option<T>,
    /// The input of the down projection. What is kept of an MLP lacks it.
    middle: Option<T>,
    /// The result of the down projection, if it is normalised and known.
    output: Option<T>,
}

/// What a block computed of a batch on its way forwards.
pub(super) struct Computed<T> {
    attention: Option<Attention<T>>,
    mlp: Option<Mlp<T>>,
    /// The stream between the sub-layers, unless these are parallel.
    sum: Option<T>,
    /// The stream that the MLP gets, where that is normalised. What is kept lacks it.
    normed: Option<T>,
    /// The stream before the block's last norm, if there is one and it is known.
    last: Option<T>,
}

impl<T> Computed<T> {
    /// The same without what norms and activations make of the rest in no time.
    pub(super) fn light(self) -> Self {
        Computed {
            attention: self.attention.map(|it| Attention { entered: None, ..it }),
            mlp: self.mlp.map(|it| Mlp {
                entered: None,
                middle: None,
                ..it
            }),
            normed: None,
            ..self
        }
    }

    /// Bytes in a backend's memory.
    pub(super) fn bytes<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        let attention = self.attention.iter().flat_map(|it| {
            let Attention {
                entered,
                before,
                heads,
                mixed,
                output,
            } = it;
            let there = entered.iter().chain(before.iter().flatten()).chain(heads);
            there.chain([mixed]).chain(output)
        });
        let mlp = self.mlp.iter().flat_map(|it| {
            let Mlp {
                entered,
                up,
                gate,
                middle,
                output,
            } = it;
            entered.iter().chain([up]).chain(gate).chain(middle).chain(output)
        });
        let streams = self.sum.iter().chain(&self.normed).chain(&self.last);
        let all = attention.chain(mlp).chain(streams);
        all.map(|tensor| backend.extent(tensor).bytes).sum()
    }
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
        self.back(x, self.computed(x)?, gradient, listen)
    }

    /// As [`Adjoint::run`], with what the block computed of `x`, or what is kept of it.
    pub(super) fn back(
        &self,
        x: &B::Tensor,
        computed: Computed<B::Tensor>,
        gradient: &mut B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<()> {
        let (backend, spec) = (self.pass.backend, &self.pass.block.spec);
        let Computed {
            attention,
            mlp,
            sum,
            normed,
            last,
        } = computed;
        let Some(sum) = sum else {
            let through_mlp = mlp.map(|mlp| self.mlp_backward(x, mlp, gradient, listen));
            let through_mlp = through_mlp.transpose()?;
            let through_attention = attention.map(|it| self.attention_backward(x, it, gradient, listen));
            let through = through_mlp.into_iter().chain(through_attention.transpose()?);
            return through.into_iter().try_for_each(|part| backend.add(gradient, &part));
        };
        let normed = normed.map_or_else(|| self.between(&sum), |normed| Ok(Some(normed)))?;
        let stream = normed.as_ref().unwrap_or(&sum);
        let mut mlp = mlp;
        if !spec.norm_first && self.pass.norm(NormPlace::Mlp).is_some() {
            let last = last.map_or_else(|| self.after_mlp(stream, mlp.as_mut()), Ok)?;
            self.unnorm(NormPlace::Mlp, &last, gradient)?;
        }
        if let Some(mlp) = mlp {
            let through = self.mlp_backward(stream, mlp, gradient, listen)?;
            backend.add(gradient, &through)?;
        }
        if !spec.norm_first {
            self.unnorm(NormPlace::Attention, &sum, gradient)?;
        }
        drop((normed, sum));
        match attention {
            Some(attention) => {
                let through = self.attention_backward(x, attention, gradient, listen)?;
                backend.add(gradient, &through)
            }
            None => Ok(()),
        }
    }

    /// What the block computes of its input `x` before the MLP's last layer.
    fn computed(&self, x: &B::Tensor) -> Result<Computed<B::Tensor>> {
        let backend = self.pass.backend;
        let mut attention = self.attention(x)?;
        if self.pass.block.spec.parallel {
            return Ok(Computed {
                attention,
                mlp: self.mlp(x)?,
                sum: None,
                normed: None,
                last: None,
            });
        }
        let mut sum = copy(backend, x)?;
        if let Some(attention) = &mut attention {
            let (attended, output) = self.pass.leave(Role::Output, &attention.mixed)?;
            backend.add(&mut sum, &attended)?;
            attention.output = output;
        }
        let normed = self.between(&sum)?;
        Ok(Computed {
            attention,
            mlp: self.mlp(normed.as_ref().unwrap_or(&sum))?,
            sum: Some(sum),
            normed,
            last: None,
        })
    }

    /// The forward pass of the block: its output, and what it computed of its input `x`.
    pub(super) fn forwards(&self, x: &B::Tensor) -> Result<(B::Tensor, Computed<B::Tensor>)> {
        let (backend, pass) = (self.pass.backend, &self.pass);
        let mut computed = self.computed(x)?;
        let Some(sum) = &computed.sum else {
            let mut y = copy(backend, x)?;
            if let Some(attention) = &mut computed.attention {
                let (attended, output) = pass.leave(Role::Output, &attention.mixed)?;
                backend.add(&mut y, &attended)?;
                attention.output = output;
            }
            if let Some(mlp) = &mut computed.mlp {
                backend.add(&mut y, &self.leave_mlp(mlp)?)?;
            }
            return Ok((y, computed));
        };
        let mut y = self.after_mlp(computed.normed.as_ref().unwrap_or(sum), computed.mlp.as_mut())?;
        if !pass.block.spec.norm_first
            && let Some(normed) = pass.normed(NormPlace::Mlp, &y)?
        {
            computed.last = Some(std::mem::replace(&mut y, normed));
        }
        Ok((y, computed))
    }

    /// The stream between the sub-layers after its norm in post-norm models.
    fn between(&self, sum: &B::Tensor) -> Result<Option<B::Tensor>> {
        match self.pass.block.spec.norm_first {
            true => Ok(None),
            false => self.pass.normed(NormPlace::Attention, sum),
        }
    }

    /// The stream that the MLP gets, with what it adds to it.
    fn after_mlp(&self, stream: &B::Tensor, mlp: Option<&mut Mlp<B::Tensor>>) -> Result<B::Tensor> {
        let mut sum = copy(self.pass.backend, stream)?;
        if let Some(mlp) = mlp {
            self.pass.backend.add(&mut sum, &self.leave_mlp(mlp)?)?;
        }
        Ok(sum)
    }

    /// What the MLP adds to the stream.
    fn leave_mlp(&self, mlp: &mut Mlp<B::Tensor>) -> Result<B::Tensor> {
        let made;
        let middle = match &mlp.middle {
            Some(middle) => middle,
            None => {
                made = self.middle(&mlp.up, mlp.gate.as_ref())?;
                &made
            }
        };
        let (transformed, output) = self.pass.leave(Role::Down, middle)?;
        mlp.output = output;
        Ok(transformed)
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
            output: None,
        }))
    }

    /// What the MLP computes up to the input of its last layer; `None` in a block without it.
    fn mlp(&self, x: &B::Tensor) -> Result<Option<Mlp<B::Tensor>>> {
        let pass = &self.pass;
        if !pass.block.spec.has(SubLayer::Mlp) {
            return Ok(None);
        }
        let entered = pass.enter(x, NormPlace::Mlp)?;
        let (up, gate) = pass.expand(entered.as_ref().unwrap_or(x))?;
        Ok(Some(Mlp {
            entered,
            middle: Some(self.middle(&up, gate.as_ref())?),
            up,
            gate,
            output: None,
        }))
    }

    /// The input of the down projection.
    fn middle(&self, up: &B::Tensor, gate: Option<&B::Tensor>) -> Result<B::Tensor> {
        let mut middle = copy(self.pass.backend, up)?;
        self.pass.activate(&mut middle, gate)?;
        Ok(middle)
    }

    /// The gradient with respect to the MLP's input `x`, given that with respect to what it adds to the stream.
    fn mlp_backward(
        &self,
        x: &B::Tensor,
        mlp: Mlp<B::Tensor>,
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        let Mlp {
            entered,
            mut up,
            gate,
            middle,
            output,
        } = mlp;
        let middle = middle.map_or_else(|| self.middle(&up, gate.as_ref()), Ok)?;
        let entered = self.entered(entered, x, NormPlace::Mlp)?;
        let mut for_middle = self.last_backward(Role::Down, &middle, output, dy, listen)?;
        drop(middle);
        let input = entered.as_ref().unwrap_or(x);
        let activation = block.spec.activation;
        let mut back = |role, dy: &B::Tensor| self.layer_backward(role, input, dy, listen);
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
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        let Attention {
            entered,
            before,
            heads: [queries, keys, values],
            mixed,
            output,
        } = attention;
        let entered = self.entered(entered, x, NormPlace::Attention)?;
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
        let mut back = |role, dy: &B::Tensor| self.layer_backward(role, input, dy, listen);
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
        self.layer_backward(last, input, normed.as_ref().unwrap_or(dy), listen)
    }

    /// The gradient with respect to the `input` of a linear layer, given that with respect to its output; and tells the listener.
    fn layer_backward(
        &self,
        role: Role,
        input: &B::Tensor,
        dy: &B::Tensor,
        listen: Listener<B::Tensor>,
    ) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self.pass;
        // Two products read it.
        let converted = backend.as_operand(dy)?;
        let dy = converted.as_ref().unwrap_or(dy);
        let (id, dx) = block.apply_backward(backend, role, dy)?;
        listen(id, input, dy)?;
        Ok(dx)
    }

    /// The normalised input of a sub-layer, if it is normalised: what is known of it, or computed again.
    fn entered(&self, known: Option<B::Tensor>, x: &B::Tensor, place: NormPlace) -> Result<Option<B::Tensor>> {
        known.map_or_else(|| self.pass.enter(x, place), |known| Ok(Some(known)))
    }

    /// Turns the gradient with respect to the result of a norm into that with respect to its input `x`, if there is such a norm.
    fn unnorm(&self, place: NormPlace, x: &B::Tensor, gradient: &mut B::Tensor) -> Result<()> {
        if let Some((spec, width, norm)) = self.pass.norm(place) {
            *gradient = normalise_backward(self.pass.backend, spec, width, norm, x, gradient)?;
        }
        Ok(())
    }
}
