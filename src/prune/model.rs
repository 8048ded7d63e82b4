//! The loop over blocks, taps and layers.

use super::allocation::{allocate, survey};
use super::criterion::WithGradients;
use super::layer::{LayerRecord, Pruned, prune_layer};
use super::pattern::Pattern;
use super::recipe::Recipe;
use super::score::no_file;
use super::transform::{Change, Known, Masked, Transform, learn};
use super::workbench::{Concluded, Concluding, Workbench};
use crate::backend::moments::Needs;
use crate::backend::{Backend, Distance};
use crate::calibrate::Stage;
use crate::calibrate::gradients::{LayerGradients, ModelGradients, not_gathered, regional};
use crate::calibrate::passes;
use crate::calibrate::statistics::Factoring;
use crate::calibrate::{BlockMoments, Samples};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::model::blocks;
use crate::model::checkpoint::LinearWeights;
use crate::model::forward::{Before, Block, Ends, Hidden};
use crate::model::layer_file::LayerFile;
use crate::model::source::WeightSource;
use crate::spec::{LinearId, ModelSpec, Tap};
use crate::tensor::StorageType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a model's calibration statistics come from.
pub enum Calibration<'a, B: Workbench> {
    /// The method needs no statistics.
    Nothing,
    /// The windows, which move through the pruned blocks: [`Stage::Block`].
    Windows(&'a TokenWindows),
    /// As `Windows`, if the statistics of block 0 are known already: nothing is pruned before it, so they are the
    /// same for every method and pattern.
    Continued {
        /// The windows that move through the pruned blocks.
        windows: &'a TokenWindows,
        /// The statistics of block 0, from [`first_statistics`].
        first: &'a TapStatistics<B>,
    },
    /// The windows, with statistics gathered again for each tap of a block: [`Stage::Staged`].
    Staged(&'a TokenWindows),
    /// The windows, which move through the dense blocks, with statistics gathered again for each tap of a block:
    /// [`Stage::Separate`].
    Separate(&'a TokenWindows),
    /// Moments from one pass through the dense model: [`Stage::Dense`].
    Dense {
        /// Moments of the taps, one entry per block.
        moments: &'a [BlockMoments<B>],
        /// Number of sequences in the pass.
        sequences: usize,
    },
}

impl<'a, B: Workbench> Calibration<'a, B> {
    /// The windows that move through the blocks while these are pruned.
    fn windows(&self) -> Option<&'a TokenWindows> {
        match self {
            Calibration::Windows(windows)
            | Calibration::Staged(windows)
            | Calibration::Separate(windows)
            | Calibration::Continued { windows, .. } => Some(windows),
            Calibration::Nothing | Calibration::Dense { .. } => None,
        }
    }

    /// The moments of a dense pass, and its number of sequences.
    fn dense(&self) -> Option<(&'a [BlockMoments<B>], usize)> {
        match self {
            Calibration::Dense { moments, sequences } => Some((moments, *sequences)),
            _ => None,
        }
    }
}

/// Values for each weight that a criterion uses and that are not computed on the way through the blocks.
#[derive(Clone, Copy, Default)]
pub struct Supplied<'a> {
    /// The gradients of the dense model's loss.
    pub gradients: Option<&'a ModelGradients>,
    /// The criterion's file.
    pub file: Option<&'a LayerFile>,
}

/// Statistics of the inputs of a block's layers, by tap.
pub struct TapStatistics<B: Workbench> {
    of: BTreeMap<Tap, B::Statistics>,
    samples: Samples<B>,
}

/// Time that each stage of pruning takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneTime {
    /// Looking at the dense model and trying shares out, for allocators that ask for it.
    pub allocate: Duration,
    /// The gradients of the dense model's loss, for criteria that use them.
    pub gradients: Duration,
    /// Waiting for weights, which are read, converted and uploaded while the previous block is pruned.
    pub upload: Duration,
    /// Forward passes for statistics, and computing the statistics.
    pub calibrate: Duration,
    /// Scoring, selecting and updating weights.
    pub prune: Duration,
    /// Forward passes through pruned blocks, for the calibration of later ones.
    pub propagate: Duration,
}

impl PruneTime {
    /// Time of all forward passes, which is what calibration costs.
    pub fn passes(&self) -> Duration {
        self.allocate + self.gradients + self.calibrate + self.propagate
    }
}

impl std::ops::AddAssign for PruneTime {
    fn add_assign(&mut self, other: PruneTime) {
        self.allocate += other.allocate;
        self.gradients += other.gradients;
        self.upload += other.upload;
        self.calibrate += other.calibrate;
        self.prune += other.prune;
        self.propagate += other.propagate;
    }
}

/// The statistics that block 0 has under [`Stage::Block`]; they do not depend on how it is pruned.
///
/// # Errors
/// The checkpoint is unusable, an activation is not finite, or the backend fails.
pub fn first_statistics<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
    factoring: Factoring,
) -> Result<TapStatistics<B>> {
    let hidden = Hidden::embed(backend, source.spec(), ends, windows)?;
    let block = Block::load(backend, source, 0)?;
    let found = observed(
        backend,
        source.spec(),
        (&hidden, &block),
        None,
        &block.spec().taps(),
        needs,
        windows,
        factoring,
    );
    found.at("block 0")
}

/// A block that has just been pruned, as the caller of [`prune_model`] receives it.
pub struct PrunedBlock<'a, B: Workbench> {
    /// Index of the block in the model.
    pub index: usize,
    /// The pruned block in the backend's memory.
    pub block: &'a Block<B>,
    /// What pruning did to its linear layers, in their order.
    pub layers: &'a [LayerRecord],
    /// Time that the block took, by stage.
    pub time: PruneTime,
    backend: &'a B,
    source: &'a dyn WeightSource,
    updated: bool,
}

impl<B: Workbench> PrunedBlock<'_, B> {
    /// The block's linear layers as they are saved, one at a time, with the biases that compensation left. If the solver only removes weights, all others are
    /// exactly those of the checkpoint, in whatever precision the backend computes.
    ///
    /// # Errors
    /// The backend fails.
    pub fn weights(&self) -> impl Iterator<Item = Result<LinearWeights>> + '_ {
        self.block.spec().layers().map(|(id, spec)| {
            let mut linear = self.source.linear(self.index, spec)?;
            let pruned = self.backend.download_weight(self.block.weight(id))?;
            linear.bias = self.block.bias(id).cloned();
            if self.updated {
                linear.weight = pruned.mapv_into(|weight| linear.storage.round(weight));
            } else {
                linear.weight.zip_mut_with(&pruned, |weight, pruned| {
                    if *pruned == 0.0 {
                        *weight = 0.0;
                    }
                });
            }
            Ok(linear)
        })
    }
}

/// Prunes a whole model block by block. `pruned` receives each block as soon as it is ready, in order.
///
/// # Errors
/// The checkpoint is unusable, arithmetic breaks down, the allocator tries shares out, for which there is no text here, or
/// `pruned` fails.
pub fn prune_model<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    recipe: &Recipe,
    pattern: Pattern,
    calibration: &Calibration<B>,
    pruned: impl FnMut(PrunedBlock<B>) -> Result<()>,
) -> Result<(Vec<LayerRecord>, PruneTime)> {
    let started = Instant::now();
    let (allocator, windows, known) = (recipe.allocator.as_ref(), calibration.windows(), calibration.dense());
    // Before the stream is there, so that there is only one at a time.
    let survey = survey(backend, source, ends, allocator, recipe.provider, windows, known)?;
    let refused = "the allocator tries shares out on text that is held out; a sweep and `zprune prune` have some";
    let mut trial = |_: &[Pattern]| Err(Error::config(refused));
    let patterns = allocate(recipe, source.spec(), pattern, &survey, &mut trial)?;
    let allocate = started.elapsed();
    let started = Instant::now();
    let gradients = match windows {
        Some(windows) if recipe.gradients().anything() => Some(ModelGradients::gather(
            backend,
            source,
            ends,
            windows,
            recipe.gradients(),
        )?),
        _ => None,
    };
    let gathered = started.elapsed();
    let supplied = Supplied {
        gradients: gradients.as_ref(),
        file: None,
    };
    let (records, mut time) = prune_allocated(backend, source, ends, recipe, &patterns, calibration, supplied, pruned)?;
    time.allocate += allocate;
    time.gradients += gathered;
    Ok((records, time))
}

/// As [`prune_model`], with the pattern of every linear layer, in their order, and what the recipe's criterion uses for each weight.
///
/// # Errors
/// There are no gradients, or there is no file, where the recipe needs some, the checkpoint is unusable, the model cannot have the biases that the recipe
/// wants, arithmetic breaks down, or `pruned` fails.
///
/// # Panics
/// There are fewer patterns than layers.
#[expect(clippy::too_many_arguments, reason = "each is another thing that decides the result")]
pub fn prune_allocated<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    recipe: &Recipe,
    patterns: &[Pattern],
    calibration: &Calibration<B>,
    supplied: Supplied,
    mut pruned: impl FnMut(PrunedBlock<B>) -> Result<()>,
) -> Result<(Vec<LayerRecord>, PruneTime)> {
    let staged = match calibration {
        Calibration::Staged(_) => Stage::Staged,
        Calibration::Separate(_) => Stage::Separate,
        _ => Stage::Block,
    };
    if recipe.reproduces_dense() {
        recipe.goal.check(staged)?;
    }
    let spec = source.spec();
    recipe.biased(spec)?;
    let mut records = Vec::new();
    let mut time = PruneTime::default();
    let embed = |windows| Ok((Hidden::embed(backend, spec, ends, windows)?, windows));
    let mut stream = calibration.windows().map(embed).transpose()?;
    let separate = matches!(calibration, Calibration::Separate(_));
    let twice = separate || recipe.reproduces_dense();
    // Where blocks are separate, the stream before a block is the dense model's.
    let mut dense_stream = match calibration.windows() {
        Some(windows) if twice && !separate => Some(embed(windows)?),
        _ => None,
    };
    let read = |index: usize| Loaded::read(backend, source, index, twice);
    blocks::ahead(spec.blocks, read, |index, loaded, waited| {
        let Loaded { mut block, dense } = loaded;
        let mut took = PruneTime {
            upload: waited,
            ..PruneTime::default()
        };
        let mut turn = Turn {
            backend,
            spec,
            recipe,
            patterns: &patterns[records.len()..],
            index,
            supplied,
            stream: stream.as_ref().map(|(hidden, windows)| (hidden, *windows)),
            dense: dense
                .as_ref()
                .filter(|_| recipe.reproduces_dense())
                .zip(dense_stream.as_ref().or(stream.as_ref()).map(|(hidden, _)| hidden)),
            took: &mut took,
        };
        let first = records.len();
        records.extend(turn.prune(&mut block, calibration)?);

        let started = Instant::now();
        if index + 1 < spec.blocks {
            let before = dense.as_ref().filter(|_| separate).unwrap_or(&block);
            let dense = dense.as_ref().zip(dense_stream.as_mut());
            let streams = stream.iter_mut().map(|(hidden, _)| (before, hidden));
            for (block, hidden) in streams.chain(dense.map(|(block, (hidden, _))| (block, hidden))) {
                hidden.advance(backend, spec, block, |_, _| Ok(()))?;
                backend.wait()?;
            }
        }
        took.propagate = started.elapsed();
        time += took;
        pruned(PrunedBlock {
            index,
            block: &block,
            layers: &records[first..],
            time: took,
            backend,
            source,
            updated: recipe.solver.updates(),
        })?;
        // What the caller asked of the backend is not the next block's time.
        backend.wait()
    })?;
    Ok((records, time))
}

/// A block that is going to be pruned, and the same block as it stays in the dense model where that is needed.
struct Loaded<B: Backend> {
    block: Block<B>,
    dense: Option<Block<B>>,
}

impl<B: Backend> Loaded<B> {
    fn read(backend: &B, source: &dyn WeightSource, index: usize, twice: bool) -> Result<Self> {
        Ok(Loaded {
            block: Block::load(backend, source, index)?,
            dense: twice.then(|| Block::load(backend, source, index)).transpose()?,
        })
    }
}

/// Outputs of a layer on a few inputs, before and after it was pruned, if there are inputs.
type Compared<T> = Option<(T, T)>;

/// The work on one block of the model.
struct Turn<'a, B: Workbench> {
    backend: &'a B,
    spec: &'a ModelSpec,
    recipe: &'a Recipe,
    /// The patterns of the block's layers, and of those of later blocks.
    patterns: &'a [Pattern],
    index: usize,
    /// What the criterion uses for each weight.
    supplied: Supplied<'a>,
    /// The residual stream before the block, if calibration windows move through the model.
    stream: Option<(&'a Hidden<B>, &'a TokenWindows)>,
    /// The dense block, and the residual stream before it in the dense model, if its outputs are reproduced.
    dense: Option<(&'a Block<B>, &'a Hidden<B>)>,
    took: &'a mut PruneTime,
}

impl<B: Workbench> Turn<'_, B> {
    /// Prunes the block's layers in their order.
    fn prune(&mut self, block: &mut Block<B>, calibration: &Calibration<B>) -> Result<Vec<LayerRecord>> {
        let (backend, index) = (self.backend, self.index);
        let started = Instant::now();
        let known = match calibration {
            Calibration::Continued { first, .. } if index == 0 => Some(*first),
            _ => None,
        };
        let mut found = match calibration {
            _ if known.is_some() => TapStatistics::none([]),
            Calibration::Nothing => {
                let taps = block.spec().taps().into_iter();
                TapStatistics::none(taps.map(|tap| (tap, backend.no_statistics())))
            }
            Calibration::Windows(_) | Calibration::Continued { .. } => self.observed(block, &block.spec().taps())?,
            // Each tap is observed when its layers' turn comes.
            Calibration::Staged(_) | Calibration::Separate(_) => TapStatistics::none([]),
            Calibration::Dense { moments, sequences } => {
                let found = block_statistics(backend, &moments[index], *sequences, self.recipe.factoring());
                found.at(format_args!("block {index}"))?
            }
        };
        let mut regional = match self.recipe.regional() {
            needs if needs.anything() => {
                let stream = self.stream.ok_or_else(not_gathered)?;
                let found = regional(backend, self.spec, stream, block, needs);
                found.at(format_args!("block {index}"))?
            }
            _ => BTreeMap::new(),
        };
        let mut learned = self.learned(block).at(format_args!("block {index}"))?;
        self.took.calibrate += started.elapsed();

        let layers = block.layers();
        let mut records = Vec::with_capacity(layers.len());
        let mut endings = Vec::with_capacity(layers.len());
        let mut outputs = Vec::with_capacity(layers.len());
        for (place, (id, name, storage)) in layers.iter().enumerate() {
            let tap = block.spec().linear(*id).tap();
            if known.is_none() && !found.of.contains_key(&tap) {
                let started = Instant::now();
                found = self.observed(block, &[tap])?;
                self.took.calibrate += started.elapsed();
            }
            let statistics = known.unwrap_or(&found);
            let known = (regional.remove(id), learned.remove(id));
            let (record, concluding, compared) =
                self.layer(block, (*id, name, *storage), self.patterns[place], statistics, known)?;
            records.push(record);
            endings.push((*id, concluding));
            outputs.push(compared);
            // A Gram matrix and its factor are as large as the layers: nobody asks for them again.
            let later = |(id, ..): &(LinearId, _, _)| block.spec().linear(*id).tap();
            if layers[place + 1..].iter().all(|layer| later(layer) != tap) {
                found.of.remove(&tap);
            }
        }
        // A device is waited for once, and not for each layer.
        let started = Instant::now();
        let endings = endings.into_iter().map(|(id, ending)| (ending, block.weight(id)));
        let found = backend.concluded(endings.collect())?;
        for (record, found) in records.iter_mut().zip(found) {
            let Concluded { removed, zeros, order } = found.at(&record.tensor)?;
            (record.removed, record.zeros, record.permutation) = (removed, zeros, order);
        }
        self.took.prune += started.elapsed();
        let started = Instant::now();
        let pairs: Vec<_> = outputs
            .iter()
            .flatten()
            .map(|(dense, sparse)| [dense, sparse])
            .collect();
        let mut distances = backend.distances(&pairs)?.into_iter();
        for (record, _) in records
            .iter_mut()
            .zip(&outputs)
            .filter(|(_, compared)| compared.is_some())
        {
            record.output_error = distances.next().and_then(Distance::relative);
        }
        self.took.calibrate += started.elapsed();
        Ok(records)
    }

    /// The place of the block: 0 for the first, 1 for the last.
    fn depth(&self) -> f64 {
        self.index as f64 / self.spec.blocks.saturating_sub(1).max(1) as f64
    }

    /// The variables of the block's layers that are learned from its outputs, before anything of it is pruned.
    fn learned(&self, block: &mut Block<B>) -> Result<BTreeMap<LinearId, Change>> {
        let transform = self.recipe.transform.as_deref();
        let Some(learning) = transform.and_then(Transform::learning) else {
            return Ok(BTreeMap::new());
        };
        let no_text = || {
            Error::config(
                "the transform learns from the outputs of blocks, and there are no calibration windows to learn on",
            )
        };
        let stream = self.stream.ok_or_else(no_text)?;
        let layers = block.layers().into_iter().zip(self.patterns);
        let layers = layers.map(|((id, _, storage), pattern)| Masked {
            id,
            storage,
            target: self.recipe.target(*pattern),
            learns: self.recipe.steps_for(block.spec().linear(id)).transform.is_some(),
        });
        let layers: Vec<Masked> = layers.collect();
        let criterion = WithGradients::new(self.recipe.criterion.as_ref(), &[])?.at_depth(self.depth())?;
        let factoring = self.recipe.factoring();
        let found = learn(
            self.backend,
            self.spec,
            stream,
            block,
            &layers,
            &criterion,
            &learning,
            factoring,
        )?;
        tracing::info!(
            "block {}: squared distance of the masked block's outputs by epoch: {:?}",
            self.index,
            found.losses
        );
        Ok(found.changes)
    }

    /// Prunes one layer. Also returns what is still to be found of it, and its outputs on a few inputs before and after that, if there
    /// are inputs.
    fn layer(
        &mut self,
        block: &mut Block<B>,
        (id, name, storage): (LinearId, &str, StorageType),
        pattern: Pattern,
        statistics: &TapStatistics<B>,
        (regional, learned): (Option<LayerGradients>, Option<Change>),
    ) -> Result<(LayerRecord, Concluding, Compared<B::Tensor>)> {
        let Turn { backend, recipe, .. } = *self;
        let tap = block.spec().linear(id).tap();
        let target = recipe.target(pattern);
        // Of the bias only the change counts.
        let output = |block: &Block<B>, change: Option<&B::Tensor>| {
            let of = |x: &Arc<B::Tensor>| backend.linear(block.weight(id), change, x);
            statistics.samples.get(&tap).map(of).transpose()
        };
        let started = Instant::now();
        let dense = output(block, None)?;
        self.took.calibrate += started.elapsed();

        let mut steps = recipe.steps_for(block.spec().linear(id));
        let learned = learned.map(Known);
        if let Some(known) = &learned {
            steps.transform = Some(known);
        }
        let started = Instant::now();
        let mut gradients: Vec<LayerGradients> = regional.into_iter().collect();
        if recipe.gradients().anything() {
            let of_model = self.supplied.gradients.ok_or_else(not_gathered)?;
            gradients.push(of_model.layer(self.index, id, recipe.gradients())?);
        }
        let criterion = WithGradients::new(steps.criterion, &gradients).and_then(|it| it.at_depth(self.depth()));
        let mut criterion = criterion.at(name)?;
        if recipe.criterion.file().is_some() {
            let file = self.supplied.file.ok_or_else(no_file)?;
            let values = file.layer(self.index, block.spec().linear(id))?;
            criterion = criterion.with_file(values.into_shared().into())?;
        }
        steps.criterion = &criterion;
        let weight = (block.weight_mut(id), storage);
        let pruned = prune_layer(backend, weight, &statistics.of[&tap], name, steps, &target);
        let Pruned {
            mut record,
            concluding,
            lacking,
        } = pruned.at(name)?;
        let mut change = None;
        if let Some(lacking) = lacking {
            let added = block.add_to_bias(backend, id, &lacking).at(name)?;
            let squares: f64 = added.iter().map(|added| f64::from(*added).powi(2)).sum();
            record.compensated = Some((squares / added.len() as f64).sqrt());
            change = Some(backend.upload_vector(added.view())?);
        }
        self.took.prune += started.elapsed();

        let started = Instant::now();
        let outputs = dense.zip(output(block, change.as_ref())?);
        self.took.calibrate += started.elapsed();
        Ok((record, concluding, outputs))
    }

    /// The statistics of the block's inputs at these taps, with the block in its present state.
    fn observed(&self, block: &Block<B>, taps: &[Tap]) -> Result<TapStatistics<B>> {
        let Some((hidden, windows)) = self.stream else {
            return Ok(TapStatistics::none([]));
        };
        let found = observed(
            self.backend,
            self.spec,
            (hidden, block),
            self.dense.map(|(block, hidden)| (hidden, block)),
            taps,
            self.recipe.layer_needs(),
            windows,
            self.recipe.factoring(),
        );
        found.at(format_args!("block {}", self.index))
    }
}

/// The statistics of a block's inputs at these taps.
#[expect(clippy::too_many_arguments, reason = "each is another thing, and two places call it")]
fn observed<B: Workbench>(
    backend: &B,
    spec: &ModelSpec,
    at: Before<B>,
    dense: Option<Before<B>>,
    taps: &[Tap],
    needs: Needs,
    windows: &TokenWindows,
    factoring: Factoring,
) -> Result<TapStatistics<B>> {
    let moments = passes::observe(backend, spec, at, dense, taps, needs, windows)?;
    backend.wait()?;
    block_statistics(backend, &moments, windows.count(), factoring)
}

fn block_statistics<B: Workbench>(
    backend: &B,
    all: &BlockMoments<B>,
    sequences: usize,
    factoring: Factoring,
) -> Result<TapStatistics<B>> {
    let of = |(tap, moments): (Tap, &B::Moments)| {
        let statistics = backend.statistics(moments, sequences, factoring);
        let with_goal = |statistics| match all.goal(tap) {
            Some(goal) => backend.with_goal(statistics, goal),
            None => Ok(statistics),
        };
        let statistics = statistics.and_then(with_goal);
        Ok((tap, statistics.at(format_args!("tap {:?}", tap.place))?))
    };
    Ok(TapStatistics {
        of: all.taps().map(of).collect::<Result<_>>()?,
        samples: all.samples().clone(),
    })
}

impl<B: Workbench> TapStatistics<B> {
    /// Statistics for methods that use no inputs.
    fn none(of: impl IntoIterator<Item = (Tap, B::Statistics)>) -> Self {
        TapStatistics {
            of: of.into_iter().collect(),
            samples: Samples::<B>::new(),
        }
    }
}
