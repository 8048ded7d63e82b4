//! The work of one block on one batch, with taps where linear layers read their input.

use super::block::{Block, Norm, normalise};
use super::layout::Layout;
use crate::backend::{Backend, Columns, RotaryTable};
use crate::error::Result;
use crate::spec::{Fusion, ModelSpec, NormPlace, NormSpec, Positions, Role, SubLayer, Tap, TapPlace};

/// The tables of sines and cosines for positions below `length`, one per kind of rotary positions; none for learned
/// positions.
pub(super) fn rotary_tables(spec: &ModelSpec, length: usize) -> Vec<RotaryTable> {
    match &spec.positions {
        Positions::Rotary { frequencies } => frequencies
            .iter()
            .map(|frequencies| RotaryTable::new(frequencies, length))
            .collect(),
        Positions::Learned { .. } => Vec::new(),
    }
}

/// A copy of a matrix.
pub(crate) fn copy<B: Backend>(backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
    let width = backend.extent(x).columns;
    let whole = Columns {
        first: 0,
        width,
        stride: width,
        count: 1,
    };
    backend.columns(x, whole)
}

/// A function that receives the inputs of linear layers, each with its tap.
pub(super) type Listener<'a, T> = &'a mut dyn FnMut(Tap, &T) -> Result<()>;

/// How the tokens of a batch form sequences.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    /// Windows of this many tokens, one after the other.
    Windows(usize),
    /// Sequences that share the tokens at their beginning.
    Packed(&'a Layout),
}

/// The work of one block on one batch.
pub(super) struct Pass<'a, B: Backend> {
    pub(super) backend: &'a B,
    spec: &'a ModelSpec,
    pub(super) block: &'a Block<B>,
    pub(super) rotary: Option<&'a RotaryTable>,
    order: Order<'a>,
}

impl<B: Backend> Clone for Pass<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Pass<'_, B> {}

impl<'a, B: Backend> Pass<'a, B> {
    pub(super) fn new(
        backend: &'a B,
        spec: &'a ModelSpec,
        block: &'a Block<B>,
        rotary: Option<&'a RotaryTable>,
        order: Order<'a>,
    ) -> Self {
        Pass {
            backend,
            spec,
            block,
            rotary,
            order,
        }
    }

    pub(super) fn run(&self, x: &mut B::Tensor, listen: Listener<B::Tensor>) -> Result<()> {
        let attended = self.attention(x, listen)?;
        if self.block.spec.parallel {
            let transformed = self.mlp(x, listen)?;
            let added = attended.iter().chain(&transformed);
            return added.into_iter().try_for_each(|y| self.backend.add(x, y));
        }
        self.join(x, attended.as_ref(), NormPlace::Attention)?;
        let transformed = self.mlp(x, listen)?;
        self.join(x, transformed.as_ref(), NormPlace::Mlp)
    }

    /// As [`Pass::run`], but only up to the tap `last`, since nothing after it is needed.
    pub(super) fn observe(&self, x: &B::Tensor, last: Tap, listen: Listener<B::Tensor>) -> Result<()> {
        match last.place {
            TapPlace::AttentionIn => return self.attention_input(x, listen).map(drop),
            TapPlace::AttentionOut => return self.mixed(x, listen).map(drop),
            TapPlace::MlpIn | TapPlace::MlpMiddle => {}
        }
        if self.block.spec.parallel {
            if self.block.spec.has(SubLayer::Attention) {
                self.mixed(x, listen)?;
            }
            return self.observe_mlp(x, last, listen);
        }
        let attended = self.attention(x, listen)?;
        // A copy of the stream, not the attention's output, takes the sum: it may be stored more precisely.
        let mut sum = copy(self.backend, x)?;
        self.join(&mut sum, attended.as_ref(), NormPlace::Attention)?;
        self.observe_mlp(&sum, last, listen)
    }

    fn observe_mlp(&self, x: &B::Tensor, last: Tap, listen: Listener<B::Tensor>) -> Result<()> {
        match last.place {
            TapPlace::MlpMiddle => self.mlp_middle(x, listen).map(drop),
            _ => self.mlp_input(x, listen).map(drop),
        }
    }

    /// Lets `listen` see the input of the layers that read at a place.
    fn hear(&self, place: TapPlace, listen: Listener<B::Tensor>, x: &B::Tensor) -> Result<()> {
        match self.block.spec.tap(place) {
            Some(tap) => listen(tap, x),
            None => Ok(()),
        }
    }

    /// Adds what a sub-layer gave to `x`, if the block has the sub-layer; in post-norm models, the sum is normalised.
    fn join(&self, x: &mut B::Tensor, y: Option<&B::Tensor>, place: NormPlace) -> Result<()> {
        if let Some(y) = y {
            self.backend.add(x, y)?;
        }
        if !self.block.spec.norm_first
            && let Some(normed) = self.normed(place, x)?
        {
            *x = normed;
        }
        Ok(())
    }

    /// The input of a sub-layer: the normalised stream in pre-norm models, the stream itself in post-norm models
    /// (`None`).
    pub(super) fn enter(&self, x: &B::Tensor, place: NormPlace) -> Result<Option<B::Tensor>> {
        if self.block.spec.norm_first {
            self.normed(place, x)
        } else {
            Ok(None)
        }
    }

    /// `x` after the norm at a place; `None` if the model has no norm there.
    pub(super) fn normed(&self, place: NormPlace, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        let normed = self
            .norm(place)
            .map(|(spec, width, norm)| normalise(self.backend, spec, width, norm, x));
        normed.transpose()
    }

    /// The norm at a place: how it is computed, of how many features together, and its parameters.
    pub(super) fn norm(&self, place: NormPlace) -> Option<(&NormSpec, usize, &Norm<B::Tensor>)> {
        let block = self.block;
        let (spec, norm) = block.spec.norm(place).zip(block.norm(place))?;
        Some((spec, block.spec.norm_width(place, self.spec.width), norm))
    }

    /// What a sub-layer adds to the stream, given the input of its last layer; and what was normalised, where the model
    /// normalises it.
    pub(super) fn leave(&self, last: Role, x: &B::Tensor) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let output = self.block.apply(self.backend, last, x)?;
        let place = match last {
            Role::Down => NormPlace::MlpOutput,
            _ => NormPlace::AttentionOutput,
        };
        Ok(match self.normed(place, &output)? {
            Some(normed) => (normed, Some(output)),
            None => (output, None),
        })
    }

    /// Computes queries, keys and values; each row has the heads of one token.
    pub(super) fn project(&self, input: &B::Tensor) -> Result<[B::Tensor; 3]> {
        let Pass { backend, block, .. } = self;
        let Some(fusion) = block.fusion() else {
            return Ok([
                block.apply(backend, Role::Query, input)?,
                block.apply(backend, Role::Key, input)?,
                block.apply(backend, Role::Value, input)?,
            ]);
        };
        let fused = block.apply(backend, Role::Fused(fusion), input)?;
        let attention = &self.block.spec.attention;
        let part = |index: usize| {
            let columns = match fusion {
                Fusion::Sections => {
                    let width = attention.heads * attention.head_dim;
                    Columns {
                        first: index * width,
                        width,
                        stride: width,
                        count: 1,
                    }
                }
                Fusion::Heads => Columns {
                    first: index * attention.head_dim,
                    width: attention.head_dim,
                    stride: 3 * attention.head_dim,
                    count: attention.heads,
                },
            };
            backend.columns(&fused, columns)
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// The input of queries, keys and values; `None` if it is `x` itself.
    fn attention_input(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<Option<B::Tensor>> {
        let entered = self.enter(x, NormPlace::Attention)?;
        self.hear(TapPlace::AttentionIn, listen, entered.as_ref().unwrap_or(x))?;
        Ok(entered)
    }

    /// Number of tokens in a sequence as attention sees it.
    pub(super) fn length(&self) -> usize {
        match self.order {
            Order::Windows(length) => length,
            Order::Packed(layout) => layout.length(),
        }
    }

    /// The tokens of a batch in the sequences that attention sees.
    fn spread(&self, x: B::Tensor) -> Result<B::Tensor> {
        match self.order {
            Order::Windows(_) => Ok(x),
            Order::Packed(layout) => self.backend.rows(&x, layout.spread()),
        }
    }

    /// Queries or keys as attention reads them: normalised, put into sequences and rotated. What was normalised comes with
    /// them.
    pub(super) fn placed(&self, place: NormPlace, heads: B::Tensor) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let normed = self.normed(place, &heads)?;
        let (heads, before) = match normed {
            Some(normed) => (normed, Some(heads)),
            None => (heads, None),
        };
        let mut heads = self.spread(heads)?;
        if let Some(table) = self.rotary {
            let head_dim = self.block.spec.attention.head_dim;
            self.backend.rotate(&mut heads, table, head_dim, self.length())?;
        }
        Ok((heads, before))
    }

    /// What attention computes of queries, keys and values in sequences.
    pub(super) fn attend(&self, queries: &B::Tensor, keys: &B::Tensor, values: &B::Tensor) -> Result<B::Tensor> {
        let (shape, window) = (self.block.spec.attention, self.block.reach.window);
        self.backend
            .attention(shape, window, self.length(), queries, keys, values)
    }

    /// Computes attention up to the input of its output projection.
    fn mixed(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let entered = self.attention_input(x, listen)?;
        let [queries, keys, values] = self.project(entered.as_ref().unwrap_or(x))?;
        let values = self.spread(values)?;
        let (queries, _) = self.placed(NormPlace::Query, queries)?;
        let (keys, _) = self.placed(NormPlace::Key, keys)?;
        let mut mixed = self.attend(&queries, &keys, &values)?;
        if let Order::Packed(layout) = self.order {
            mixed = self.backend.rows(&mixed, layout.gather())?;
        }
        self.hear(TapPlace::AttentionOut, listen, &mixed)?;
        Ok(mixed)
    }

    /// What attention adds to the stream; `None` in a block without it.
    fn attention(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<Option<B::Tensor>> {
        if !self.block.spec.has(SubLayer::Attention) {
            return Ok(None);
        }
        let mixed = self.mixed(x, listen)?;
        Ok(Some(self.leave(Role::Output, &mixed)?.0))
    }

    /// The input of gate and up projections; `None` if it is `x` itself.
    fn mlp_input(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<Option<B::Tensor>> {
        let entered = self.enter(x, NormPlace::Mlp)?;
        self.hear(TapPlace::MlpIn, listen, entered.as_ref().unwrap_or(x))?;
        Ok(entered)
    }

    /// The up projection of the MLP's input, and its gate in gated MLPs.
    pub(super) fn expand(&self, input: &B::Tensor) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let Pass { backend, block, .. } = self;
        let up = block.apply(backend, Role::Up, input)?;
        let gate = block.has(Role::Gate).then(|| block.apply(backend, Role::Gate, input));
        Ok((up, gate.transpose()?))
    }

    /// Makes the input of the down projection of the up projection, in place.
    pub(super) fn activate(&self, up: &mut B::Tensor, gate: Option<&B::Tensor>) -> Result<()> {
        let activation = self.block.spec.activation;
        match gate {
            Some(gate) => self.backend.gate(activation, gate, up),
            None => self.backend.activate(activation, up),
        }
    }

    fn mlp_middle(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let entered = self.mlp_input(x, listen)?;
        let (mut middle, gate) = self.expand(entered.as_ref().unwrap_or(x))?;
        self.activate(&mut middle, gate.as_ref())?;
        drop(gate);
        self.hear(TapPlace::MlpMiddle, listen, &middle)?;
        Ok(middle)
    }

    /// What the MLP adds to the stream; `None` in a block without it.
    fn mlp(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<Option<B::Tensor>> {
        if !self.block.spec.has(SubLayer::Mlp) {
            return Ok(None);
        }
        let middle = self.mlp_middle(x, listen)?;
        Ok(Some(self.leave(Role::Down, &middle)?.0))
    }
}
