//! The work of one block on one batch, with taps where linear layers read their input.

use super::block::{Block, normalise};
use super::layout::Layout;
use crate::backend::{Backend, Columns, RotaryTable};
use crate::error::Result;
use crate::spec::{Fusion, ModelSpec, NormPlace, Positions, Role, Tap, TapPlace};

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
    backend: &'a B,
    spec: &'a ModelSpec,
    block: &'a Block<B>,
    rotary: Option<&'a RotaryTable>,
    order: Order<'a>,
}

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
            self.backend.add(x, &attended)?;
            return self.backend.add(x, &transformed);
        }
        self.join(x, &attended, NormPlace::Attention)?;
        let transformed = self.mlp(x, listen)?;
        self.join(x, &transformed, NormPlace::Mlp)
    }

    /// As [`Pass::run`], but only up to the tap `last`, since nothing after it is needed.
    pub(super) fn observe(&self, x: &B::Tensor, last: Tap, listen: Listener<B::Tensor>) -> Result<()> {
        match last.place {
            TapPlace::AttentionIn => return self.attention_input(x, listen).map(drop),
            TapPlace::AttentionOut => return self.mixed(x, listen).map(drop),
            TapPlace::MlpIn | TapPlace::MlpMiddle => {}
        }
        if self.block.spec.parallel {
            self.mixed(x, listen)?;
            return self.observe_mlp(x, last, listen);
        }
        let attended = self.attention(x, listen)?;
        // A copy of the stream, not the attention's output, takes the sum: it may be stored more precisely.
        let mut sum = copy(self.backend, x)?;
        self.join(&mut sum, &attended, NormPlace::Attention)?;
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

    /// Adds `y` to `x`; in post-norm models, the sum is normalised.
    fn join(&self, x: &mut B::Tensor, y: &B::Tensor, place: NormPlace) -> Result<()> {
        self.backend.add(x, y)?;
        if !self.block.spec.norm_first
            && let Some(normed) = self.normed(place, x)?
        {
            *x = normed;
        }
        Ok(())
    }

    /// The input of a sub-layer: the normalised stream in pre-norm models, the stream itself in post-norm models
    /// (`None`).
    fn enter(&self, x: &B::Tensor, place: NormPlace) -> Result<Option<B::Tensor>> {
        if self.block.spec.norm_first {
            self.normed(place, x)
        } else {
            Ok(None)
        }
    }

    /// `x` after the norm at a place; `None` if the model has no norm there.
    fn normed(&self, place: NormPlace, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        let Pass { backend, block, .. } = self;
        let width = block.spec.norm_width(place, self.spec.width);
        block
            .spec
            .norm(place)
            .zip(block.norm(place))
            .map(|(spec, norm)| normalise(*backend, spec, width, norm, x))
            .transpose()
    }

    /// Computes queries, keys and values; each row has the heads of one token.
    fn project(&self, input: &B::Tensor) -> Result<[B::Tensor; 3]> {
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

    /// Computes attention up to the input of its output projection.
    fn mixed(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let backend = self.backend;
        let entered = self.attention_input(x, listen)?;
        let input = entered.as_ref().unwrap_or(x);
        let [mut queries, mut keys, mut values] = self.project(input)?;
        let length = match self.order {
            Order::Windows(length) => length,
            Order::Packed(layout) => {
                values = backend.rows(&values, layout.spread())?;
                layout.length()
            }
        };
        for (place, heads) in [(NormPlace::Query, &mut queries), (NormPlace::Key, &mut keys)] {
            if let Some(normed) = self.normed(place, heads)? {
                *heads = normed;
            }
            if let Order::Packed(layout) = self.order {
                *heads = backend.rows(heads, layout.spread())?;
            }
            if let Some(table) = self.rotary {
                backend.rotate(heads, table, self.block.spec.attention.head_dim, length)?;
            }
        }
        let window = self.block.reach.window;
        let mut mixed = backend.attention(self.block.spec.attention, window, length, &queries, &keys, &values)?;
        if let Order::Packed(layout) = self.order {
            mixed = backend.rows(&mixed, layout.gather())?;
        }
        self.hear(TapPlace::AttentionOut, listen, &mixed)?;
        Ok(mixed)
    }

    fn attention(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let mixed = self.mixed(x, listen)?;
        let output = self.block.apply(self.backend, Role::Output, &mixed)?;
        Ok(self.normed(NormPlace::AttentionOutput, &output)?.unwrap_or(output))
    }

    /// The input of gate and up projections; `None` if it is `x` itself.
    fn mlp_input(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<Option<B::Tensor>> {
        let entered = self.enter(x, NormPlace::Mlp)?;
        self.hear(TapPlace::MlpIn, listen, entered.as_ref().unwrap_or(x))?;
        Ok(entered)
    }

    fn mlp_middle(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let Pass { backend, block, .. } = self;
        let entered = self.mlp_input(x, listen)?;
        let input = entered.as_ref().unwrap_or(x);
        let mut middle = block.apply(backend, Role::Up, input)?;
        let activation = self.block.spec.activation;
        if block.has(Role::Gate) {
            let gate = block.apply(backend, Role::Gate, input)?;
            backend.gate(activation, &gate, &mut middle)?;
        } else {
            backend.activate(activation, &mut middle)?;
        }
        self.hear(TapPlace::MlpMiddle, listen, &middle)?;
        Ok(middle)
    }

    fn mlp(&self, x: &B::Tensor, listen: Listener<B::Tensor>) -> Result<B::Tensor> {
        let middle = self.mlp_middle(x, listen)?;
        let output = self.block.apply(self.backend, Role::Down, &middle)?;
        Ok(self.normed(NormPlace::MlpOutput, &output)?.unwrap_or(output))
    }
}
