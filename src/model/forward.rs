//! The one forward pass, generic over the backend, with taps where linear layers read their input.
//!
//! The residual stream of many sequences ([`Hidden`]) moves through the model block by block, so only
//! one block's weights are needed at a time, and calibration, propagation and evaluation are the same
//! loop with different listeners.

mod batches;
mod packed;

pub use packed::{Layout, Packed};

use crate::backend::{Backend, Columns, RotaryTable};
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::memory::Room;
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::source::WeightSource;
use crate::spec::{BlockSpec, Fusion, LinearId, ModelSpec, NormPlace, NormSpec, Positions, Reach, Role, Tap, TapPlace};
use crate::tensor::StorageType;
use batches::Batches;
use ndarray::{Array2, s};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A linear layer in a backend's memory.
struct Linear<B: Backend> {
    name: String,
    storage: StorageType,
    weight: B::Weight,
    bias: Option<B::Tensor>,
}

/// A norm's parameters in a backend's memory.
struct Norm<T> {
    gain: Option<T>,
    bias: Option<T>,
}

/// The weights of one block in a backend's memory.
pub struct Block<B: Backend> {
    spec: Arc<BlockSpec>,
    reach: Reach,
    norms: Vec<(NormPlace, Norm<B::Tensor>)>,
    /// As the specification lists them.
    linears: Vec<(LinearId, Linear<B>)>,
}

impl<B: Backend> Block<B> {
    /// Reads and uploads block `index` layer by layer, so that no second copy of the block exists at any time.
    ///
    /// # Errors
    /// A tensor is unusable, or the backend has no room.
    pub fn load(backend: &B, source: &dyn WeightSource, index: usize) -> Result<Self> {
        let spec = source.spec();
        let norms = source.norms(index)?;
        let norms = norms
            .iter()
            .map(|(place, norm)| Ok((*place, upload_norm(backend, norm)?)));
        let norms = norms.collect::<Result<_>>()?;
        let linears = spec.block(index).layers().map(|(id, linear)| {
            let LinearWeights {
                name,
                weight,
                bias,
                storage,
                ..
            } = source.linear(index, linear)?;
            let linear = Linear {
                name,
                storage,
                weight: backend.upload_weight(weight)?,
                bias: upload_optional(backend, bias.as_ref())?,
            };
            Ok((id, linear))
        });
        Ok(Block {
            spec: spec.block(index).clone(),
            reach: spec.reach(index),
            norms,
            linears: linears.collect::<Result<_>>()?,
        })
    }

    /// What the block looks like.
    pub fn spec(&self) -> &BlockSpec {
        &self.spec
    }

    /// Its linear layers, with the names of their weights and how the checkpoint stores those.
    pub fn layers(&self) -> Vec<(LinearId, String, StorageType)> {
        let of = |(id, linear): &(LinearId, Linear<B>)| (*id, linear.name.clone(), linear.storage);
        self.linears.iter().map(of).collect()
    }

    /// The weight of a linear layer, with one row per output.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight(&self, id: LinearId) -> &B::Weight {
        let linear = self.linears.iter().find(|(known, _)| *known == id);
        &linear
            .expect("a layer is asked for by what its own block calls it")
            .1
            .weight
    }

    /// The weight of a linear layer for changing it.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn weight_mut(&mut self, id: LinearId) -> &mut B::Weight {
        let linear = self.linears.iter_mut().find(|(known, _)| *known == id);
        &mut linear
            .expect("a layer is asked for by what its own block calls it")
            .1
            .weight
    }

    fn apply(&self, backend: &B, role: Role, x: &B::Tensor) -> Result<B::Tensor> {
        let serves = |(id, _): &&(LinearId, Linear<B>)| self.spec.linear(*id).role == role;
        let (_, linear) = self
            .linears
            .iter()
            .find(serves)
            .expect("a family lists every role that its forward pass uses");
        backend.linear(&linear.weight, linear.bias.as_ref(), x)
    }

    fn has(&self, role: Role) -> bool {
        self.spec.linears.iter().any(|linear| linear.role == role)
    }

    fn fusion(&self) -> Option<Fusion> {
        self.spec.linears.iter().find_map(|linear| match linear.role {
            Role::Fused(fusion) => Some(fusion),
            _ => None,
        })
    }

    fn norm(&self, place: NormPlace) -> Option<&Norm<B::Tensor>> {
        self.norms.iter().find(|(at, _)| *at == place).map(|(_, norm)| norm)
    }
}

fn upload_optional<B: Backend>(backend: &B, vector: Option<&ndarray::Array1<f32>>) -> Result<Option<B::Tensor>> {
    vector.map(|vector| backend.upload_vector(vector.view())).transpose()
}

fn upload_norm<B: Backend>(backend: &B, norm: &NormWeights) -> Result<Norm<B::Tensor>> {
    Ok(Norm {
        gain: upload_optional(backend, norm.gain.as_ref())?,
        bias: upload_optional(backend, norm.bias.as_ref())?,
    })
}

/// The weights outside the blocks in a backend's memory: embedding, positions, final norm, head.
pub struct Ends<B: Backend> {
    width: usize,
    embedding: B::Weight,
    project_in: Option<B::Weight>,
    positions: Option<B::Tensor>,
    final_norm: Option<(NormSpec, Norm<B::Tensor>)>,
    project_out: Option<B::Weight>,
    head: Option<B::Weight>,
    softcap: Option<f32>,
    room: Room,
}

impl<B: Backend> Ends<B> {
    /// Limits the memory for residual streams that are made with these weights to `room`; without this call there is
    /// no limit.
    #[must_use]
    pub fn within(self, room: Room) -> Self {
        Ends { room, ..self }
    }

    /// Loads and uploads the weights outside the blocks.
    ///
    /// # Errors
    /// A tensor is unusable, or the backend has no room.
    pub fn upload(backend: &B, weights: &dyn WeightSource) -> Result<Self> {
        let spec = weights.spec();
        let matrix = |name: &String| backend.upload_weight(weights.matrix(name)?);
        let final_norm = match &spec.final_norm {
            Some(norm) => Some((norm.clone(), upload_norm(backend, &weights.norm("", norm)?)?)),
            None => None,
        };
        Ok(Ends {
            width: spec.width,
            embedding: matrix(&spec.embedding.tensor)?,
            project_in: spec.embedding.project.as_ref().map(matrix).transpose()?,
            positions: match &spec.positions {
                Positions::Learned { tensor, .. } => Some(backend.take(weights.matrix(tensor)?)?),
                Positions::Rotary { .. } => None,
            },
            final_norm,
            project_out: spec.head.project.as_ref().map(matrix).transpose()?,
            head: spec.head.tensor.as_ref().map(matrix).transpose()?,
            softcap: spec.head.softcap,
            room: Room::unlimited(),
        })
    }

    /// The input of the head: `x` after the final norm and the output projection. `None` if the model has neither.
    fn before_head(&self, backend: &B, x: &B::Tensor) -> Result<Option<B::Tensor>> {
        let normed = match &self.final_norm {
            Some((spec, norm)) => Some(normalise(backend, spec, self.width, norm, x)?),
            None => None,
        };
        match &self.project_out {
            Some(project) => backend.linear(project, None, normed.as_ref().unwrap_or(x)).map(Some),
            None => Ok(normed),
        }
    }

    fn head(&self) -> &B::Weight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Looks up the tokens' embeddings, without learned positions.
    fn embed(&self, backend: &B, spec: &ModelSpec, ids: &[u32]) -> Result<B::Tensor> {
        let mut x = backend.embed(&self.embedding, ids)?;
        if let Some(factor) = spec.embedding.scale {
            backend.scale(&mut x, factor)?;
        }
        match &self.project_in {
            Some(project) => backend.linear(project, None, &x),
            None => Ok(x),
        }
    }
}

/// The best number of tokens to move through a block at a time.
fn batch_tokens<B: Backend>(backend: &B, spec: &ModelSpec) -> usize {
    let linears = spec.kinds().flat_map(|(block, _)| &block.linears);
    let outputs = linears.map(|linear| linear.outputs);
    backend.batch_tokens(outputs.max().unwrap_or(0).max(spec.width))
}

/// The tables of sines and cosines for positions below `length`, one per kind of rotary positions; none for learned
/// positions.
fn rotary_tables(spec: &ModelSpec, length: usize) -> Vec<RotaryTable> {
    match &spec.positions {
        Positions::Rotary { frequencies } => frequencies
            .iter()
            .map(|frequencies| RotaryTable::new(frequencies, length))
            .collect(),
        Positions::Learned { .. } => Vec::new(),
    }
}

/// The residual stream of token windows between two blocks, in batches of whole windows.
pub struct Hidden<B: Backend> {
    batches: Batches<B>,
    per_batch: usize,
    length: usize,
    rotary: Vec<RotaryTable>,
}

/// A residual stream and the block that it comes to next.
pub type Before<'a, B> = (&'a Hidden<B>, &'a Block<B>);

impl<B: Backend> Hidden<B> {
    /// Embeds the tokens, which gives the input of block 0.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn embed(backend: &B, spec: &ModelSpec, ends: &Ends<B>, windows: &TokenWindows) -> Result<Self> {
        let length = windows.length();
        let per_batch = (batch_tokens(backend, spec) / length).max(1) * length;
        let mut batches = Batches::default();
        for ids in windows.ids().chunks(per_batch) {
            let mut x = ends.embed(backend, spec, ids)?;
            if let (Some(table), Positions::Learned { offset, .. }) = (&ends.positions, &spec.positions) {
                backend.add_positions(&mut x, table, *offset, length)?;
            }
            batches.push(backend, &ends.room, x)?;
        }
        Ok(Hidden {
            batches,
            per_batch,
            length,
            rotary: rotary_tables(spec, length),
        })
    }

    /// Moves the stream through a block. `listen` receives the input of every linear layer, batch by batch.
    ///
    /// # Errors
    /// The backend or the listener fails.
    pub fn advance(
        &mut self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        mut listen: impl FnMut(Tap, &B::Tensor) -> Result<()>,
    ) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let pass = Pass::new(backend, spec, block, rotary, Order::Windows(self.length));
        self.batches.change(backend, |_, x| pass.run(x, &mut listen))
    }

    /// Passes the inputs of a block's linear layers up to the tap `last` to `listen`, without moving the stream. With
    /// another stream of the same windows and another state of the block, `listen` receives the input there at `last`, too.
    ///
    /// # Errors
    /// The backend or the listener fails.
    pub fn observe(
        &self,
        backend: &B,
        spec: &ModelSpec,
        block: &Block<B>,
        other: Option<Before<B>>,
        last: Tap,
        mut listen: impl FnMut(Tap, &B::Tensor, Option<&B::Tensor>) -> Result<()>,
    ) -> Result<()> {
        let rotary = self.rotary.get(block.reach.rotary);
        let pass = |block| Pass::new(backend, spec, block, rotary, Order::Windows(self.length));
        let mut index = 0;
        self.batches.each(backend, |x| {
            let mut there: BTreeMap<Tap, B::Tensor> = BTreeMap::new();
            if let Some((hidden, block)) = other {
                let keep = &mut |tap, x: &B::Tensor| {
                    if tap == last {
                        there.insert(tap, copy(backend, x)?);
                    }
                    Ok(())
                };
                hidden
                    .batches
                    .with(backend, index, |x| pass(block).observe(x, last, keep))?;
            }
            index += 1;
            pass(block).observe(x, last, &mut |tap, x| listen(tap, x, there.get(&tap)))
        })
    }

    /// To be called after the last block: the log-likelihood of every window's tokens 1, 2, ... given the tokens
    /// before them, `length - 1` per window. `take` receives the windows in order, a batch at a time.
    ///
    /// # Errors
    /// The backend fails.
    pub fn log_likelihoods(
        &self,
        backend: &B,
        ends: &Ends<B>,
        windows: &TokenWindows,
        mut take: impl FnMut(&[&[f64]]),
    ) -> Result<()> {
        let mut ids = windows.ids();
        self.batches.each(backend, |x| {
            let before = ends.before_head(backend, x)?;
            let x = before.as_ref().unwrap_or(x);
            let (batch, rest) = ids.split_at(self.per_batch.min(ids.len()));
            ids = rest;
            // The last token of a window predicts nothing; giving it any target keeps rows and targets aligned.
            let mut targets = batch[1..].to_vec();
            targets.push(batch[0]);
            let likelihoods = backend.log_likelihoods(ends.head(), ends.softcap, x, &targets)?;
            let likelihoods: Vec<f64> = likelihoods.iter().map(|it| it.log).collect();
            let windows = likelihoods.chunks_exact(self.length);
            let windows: Vec<&[f64]> = windows.map(|window| &window[..self.length - 1]).collect();
            take(&windows);
            Ok(())
        })
    }

    /// To be called after the last block: the logits of every token, `(tokens, vocabulary)`. For tests and small
    /// texts.
    ///
    /// # Errors
    /// The backend fails.
    pub fn logits(&self, backend: &B, ends: &Ends<B>) -> Result<Array2<f32>> {
        let mut parts = Vec::new();
        self.batches.each(backend, |x| {
            let before = ends.before_head(backend, x)?;
            let mut logits = backend.download(&backend.linear(ends.head(), None, before.as_ref().unwrap_or(x))?)?;
            if let Some(bound) = ends.softcap {
                logits.mapv_inplace(|x| bound * (x / bound).tanh());
            }
            parts.push(logits);
            Ok(())
        })?;
        let columns = parts.first().map_or(0, |part: &Array2<f32>| part.ncols());
        let mut all = Array2::zeros((parts.iter().map(|part| part.nrows()).sum(), columns));
        let mut row = 0;
        for part in parts {
            all.slice_mut(s![row..row + part.nrows(), ..]).assign(&part);
            row += part.nrows();
        }
        Ok(all)
    }
}

fn normalise<B: Backend>(
    backend: &B,
    spec: &NormSpec,
    width: usize,
    norm: &Norm<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    backend.normalise(
        spec.kind,
        spec.epsilon,
        width,
        norm.gain.as_ref(),
        norm.bias.as_ref(),
        x,
    )
}

/// A copy of a matrix.
fn copy<B: Backend>(backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
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
type Listener<'a, T> = &'a mut dyn FnMut(Tap, &T) -> Result<()>;

/// How the tokens of a batch form sequences.
#[derive(Clone, Copy)]
enum Order<'a> {
    /// Windows of this many tokens, one after the other.
    Windows(usize),
    /// Sequences that share the tokens at their beginning.
    Packed(&'a Layout),
}

/// The work of one block on one batch.
struct Pass<'a, B: Backend> {
    backend: &'a B,
    spec: &'a ModelSpec,
    block: &'a Block<B>,
    rotary: Option<&'a RotaryTable>,
    order: Order<'a>,
}

impl<'a, B: Backend> Pass<'a, B> {
    fn new(
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

    fn run(&self, x: &mut B::Tensor, listen: Listener<B::Tensor>) -> Result<()> {
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
    fn observe(&self, x: &B::Tensor, last: Tap, listen: Listener<B::Tensor>) -> Result<()> {
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
