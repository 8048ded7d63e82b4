//! Pruning: a method is a product of criterion, solver, allocator and comparison group.
//!
//! This module owns the loop over blocks and the checks that follow every layer, whatever its solver
//! did: the mask satisfies the pattern exactly, masked weights are 0, all weights are finite. The parts
//! live in [`criterion`], [`solver`], [`allocator`]; what they share in [`score`], [`pattern`], [`mask`].

pub mod allocator;
pub mod criterion;
pub mod formula;
pub mod mask;
pub mod pattern;
pub mod score;
pub mod solver;
pub mod workbench;

use crate::backend::moments::Needs;
use crate::calibrate::statistics::LayerStatistics;
use crate::calibrate::{BlockMoments, Samples};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::linalg::Provider;
use crate::model::checkpoint::LinearWeights;
use crate::model::forward::{Block, Ends, Hidden};
use crate::model::source::WeightSource;
use crate::registry;
use crate::spec::{ModelSpec, Tap};
use allocator::Allocator;
use criterion::Criterion;
use ndarray::{Array2, ArrayView2};
use pattern::{Group, Pattern, Selection, Target};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use solver::Solver;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use workbench::{Workbench, Workpiece};

/// One linear layer on the host.
pub struct Layer<'a> {
    /// `(outputs, inputs)`.
    pub weight: ArrayView2<'a, f32>,
    /// Statistics of the layer's inputs.
    pub statistics: &'a LayerStatistics,
}

/// A component made from its parameter table, with the parameters it ended up with.
pub struct Built<T: ?Sized> {
    /// All parameters, defaults filled in.
    pub parameters: serde_json::Value,
    /// The component.
    pub component: Box<T>,
}

/// Makes a component from the table a user wrote.
pub type Build<T> = fn(&toml::Table) -> Result<Built<T>>;

/// Parses a component's parameters; `boxed` only names the trait it becomes.
fn parsed<P, T>(table: &toml::Table, boxed: fn(P) -> Box<T>) -> Result<Built<T>>
where
    P: DeserializeOwned + Serialize,
    T: ?Sized,
{
    let component: P = registry::parameters(table)?;
    let parameters = serde_json::to_value(&component)
        .map_err(|error| Error::config(format!("parameters cannot be recorded: {error}")))?;
    Ok(Built {
        parameters,
        component: boxed(component),
    })
}

/// As [`parsed`], for criteria, whose parameters have legal ranges.
fn built<P>(table: &toml::Table, boxed: fn(P) -> Box<dyn Criterion>) -> Result<Built<dyn Criterion>>
where
    P: DeserializeOwned + Serialize,
{
    let built = parsed(table, boxed)?;
    built.component.validate()?;
    Ok(built)
}

/// A pruning method.
pub struct Method {
    /// What to remove.
    pub criterion: Box<dyn Criterion>,
    /// How to make up for it.
    pub solver: Box<dyn Solver>,
    /// From where.
    pub allocator: Box<dyn Allocator>,
    /// Among which weights.
    pub group: Group,
    /// What happens to ties.
    pub selection: Selection,
    /// Who factors matrices.
    pub provider: Provider,
}

impl Method {
    /// The statistics this method asks for.
    pub fn needs(&self) -> Needs {
        self.criterion.needs().and(self.solver.needs())
    }
}

/// Whose output a block's calibration inputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Propagate {
    /// Inputs come from the already pruned earlier blocks, as in the papers.
    #[default]
    Block,
    /// Inputs come from the dense model; one pass serves every method and pattern of a sweep.
    Dense,
}

/// Where a model's calibration statistics come from.
pub enum Calibration<'a, B: Workbench> {
    /// The method needs none.
    Nothing,
    /// These windows, moved through the pruned blocks: [`Propagate::Block`].
    Windows(&'a TokenWindows),
    /// The same, where the statistics of block 0 are known: nothing is pruned before it, so every method and
    /// pattern finds the same ones there.
    Continued {
        /// The windows.
        windows: &'a TokenWindows,
        /// As [`first_statistics`] makes them.
        first: &'a TapStatistics<B>,
    },
    /// One dense pass over this many sequences: [`Propagate::Dense`].
    Dense {
        /// Per block.
        moments: &'a [BlockMoments<B>],
        /// Sequences in the pass.
        sequences: usize,
    },
}

/// What is known of the inputs of a block's layers.
pub struct TapStatistics<B: Workbench> {
    of: BTreeMap<Tap, B::Statistics>,
    samples: Samples<B>,
}

/// What pruning did to one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Tensor name.
    pub tensor: String,
    /// `[outputs, inputs]`.
    pub shape: [usize; 2],
    /// Weights the mask removed.
    pub removed: usize,
    /// Zeros in the pruned weight; more than `removed` only where the checkpoint had zeros already, a
    /// feature was never active, or a weight was rounded to zero.
    pub zeros: usize,
    /// Damping of the Hessian as a fraction of its mean diagonal, where one was factored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// What pruning did to the layer's output, `||X (W - W')^T||^2 / ||X W^T||^2` over [`SAMPLE`](crate::calibrate::SAMPLE) calibration tokens,
    /// where there was calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_error: Option<f64>,
}

/// Time spent in the stages of pruning.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneTime {
    /// Waiting for weights that are read, converted and uploaded while the block before is under work.
    pub upload: Duration,
    /// Forward passes for statistics, and those.
    pub calibrate: Duration,
    /// Scoring, selecting, updating.
    pub prune: Duration,
    /// Forward passes through pruned blocks, for the calibration of later ones.
    pub propagate: Duration,
}

impl PruneTime {
    /// All forward passes: what calibration costs.
    pub fn passes(&self) -> Duration {
        self.calibrate + self.propagate
    }
}

impl std::ops::AddAssign for PruneTime {
    fn add_assign(&mut self, other: PruneTime) {
        self.upload += other.upload;
        self.calibrate += other.calibrate;
        self.prune += other.prune;
        self.propagate += other.propagate;
    }
}

/// One dense pass: the moments of every block.
///
/// # Errors
/// The checkpoint is unusable or the backend fails.
pub fn dense_moments<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
) -> Result<Vec<BlockMoments<B>>> {
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    (0..spec.blocks)
        .map(|index| {
            let block = Block::load(backend, source, index)?;
            let mut moments = BlockMoments::new(backend, spec, needs, windows.length())?;
            hidden.advance(backend, spec, &block, |tap, x| moments.accumulate(backend, tap, x))?;
            Ok(moments)
        })
        .collect()
}

/// The statistics that block 0 has under [`Propagate::Block`], whatever is done to it.
///
/// # Errors
/// The checkpoint is unusable, an activation is not finite, or the backend fails.
pub fn first_statistics<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
    provider: Provider,
) -> Result<TapStatistics<B>> {
    let hidden = Hidden::embed(backend, source.spec(), ends, windows)?;
    let block = Block::load(backend, source, 0)?;
    let found = observed(backend, source.spec(), &hidden, &block, needs, windows, provider);
    found.at("block 0")
}

/// The statistics of a block's inputs.
fn observed<B: Workbench>(
    backend: &B,
    spec: &ModelSpec,
    hidden: &Hidden<B>,
    block: &Block<B>,
    needs: Needs,
    windows: &TokenWindows,
    provider: Provider,
) -> Result<TapStatistics<B>> {
    let mut moments = BlockMoments::new(backend, spec, needs, windows.length())?;
    hidden.observe(backend, spec, block, |tap, x| moments.accumulate(backend, tap, x))?;
    backend.wait()?;
    block_statistics(backend, &moments, windows.count(), provider)
}

/// A block that has just been pruned.
pub struct PrunedBlock<'a, B: Workbench> {
    /// Its place in the model.
    pub index: usize,
    /// On the backend.
    pub block: &'a Block<B>,
    /// What the block took.
    pub time: PruneTime,
    backend: &'a B,
    source: &'a dyn WeightSource,
    updated: bool,
}

impl<B: Workbench> PrunedBlock<'_, B> {
    /// The block's linear layers as they would be saved, one at a time. A solver that only removes leaves every
    /// other weight exactly as the checkpoint has it, whatever precision the backend computes in.
    ///
    /// # Errors
    /// The backend fails.
    pub fn weights(&self) -> impl Iterator<Item = Result<LinearWeights>> + '_ {
        self.source.spec().block.linears.iter().map(|spec| {
            let mut linear = self.source.linear(self.index, spec)?;
            let pruned = self.backend.download(self.block.weight(linear.role))?;
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

/// Prunes a whole model, block by block. `pruned` receives every block as soon as it is ready, in order.
///
/// # Errors
/// The checkpoint is unusable, arithmetic breaks down, or `pruned` fails.
pub fn prune_model<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    method: &Method,
    pattern: Pattern,
    calibration: &Calibration<B>,
    mut pruned: impl FnMut(PrunedBlock<B>) -> Result<()>,
) -> Result<(Vec<LayerRecord>, PruneTime)> {
    let spec = source.spec();
    let mut records = Vec::new();
    let mut time = PruneTime::default();
    let mut stream = match calibration {
        Calibration::Windows(windows) | Calibration::Continued { windows, .. } => {
            Some((Hidden::embed(backend, spec, ends, windows)?, *windows))
        }
        _ => None,
    };
    thread::scope(|scope| {
        // Where the system starts no more threads, a block is read when its turn comes.
        let ahead = |index: usize| {
            let thread = thread::Builder::new();
            thread
                .spawn_scoped(scope, move || Block::load(backend, source, index))
                .ok()
        };
        let mut next = ahead(0);
        for index in 0..spec.blocks {
            let mut took = PruneTime::default();
            let started = Instant::now();
            let mut block = match next.take() {
                Some(coming) => coming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                None => Block::load(backend, source, index)?,
            };
            if index + 1 < spec.blocks {
                next = ahead(index + 1);
            }
            took.upload = started.elapsed();

            let started = Instant::now();
            let known = match calibration {
                Calibration::Continued { first, .. } if index == 0 => Some(*first),
                _ => None,
            };
            let mut found = match (&stream, calibration) {
                _ if known.is_some() => TapStatistics::none([]),
                (Some((hidden, windows)), _) => {
                    observed(backend, spec, hidden, &block, method.needs(), windows, method.provider)
                        .at(format_args!("block {index}"))?
                }
                (None, Calibration::Dense { moments, sequences }) => {
                    block_statistics(backend, &moments[index], *sequences, method.provider)
                        .at(format_args!("block {index}"))?
                }
                (None, _) => TapStatistics::none(Tap::ALL.map(|tap| (tap, backend.no_statistics()))),
            };
            took.calibrate = started.elapsed();

            let started = Instant::now();
            let mut measuring = Duration::ZERO;
            let layers = block.layers();
            for (place, (role, name, storage)) in layers.iter().enumerate() {
                let target = Target {
                    pattern: method.allocator.layer(spec, index, *role, pattern)?,
                    group: method.group,
                    selection: method.selection,
                };
                let tap = role.tap();
                let statistics = known.unwrap_or(&found);
                let output = |block: &Block<B>, measuring: &mut Duration| {
                    let started = Instant::now();
                    let of = |x: &Arc<B::Tensor>| backend.download(&backend.linear(block.weight(*role), None, x)?);
                    let output = statistics.samples.get(&tap).map(of).transpose();
                    *measuring += started.elapsed();
                    output
                };
                let dense = output(&block, &mut measuring)?;
                let mut piece = backend.workpiece(block.weight_mut(*role), *storage, &statistics.of[&tap]);
                let mut record = prune_layer(piece.as_mut(), name, method, &target).at(name)?;
                drop(piece);
                let sparse = output(&block, &mut measuring)?;
                record.output_error = dense.zip(sparse).and_then(|(dense, sparse)| relative(&dense, &sparse));
                records.push(record);
                // A Gram matrix and its factor are as large as the layers: nobody asks for them again.
                if layers[place + 1..].iter().all(|(later, ..)| later.tap() != tap) {
                    found.of.remove(&tap);
                }
            }
            took.prune = started.elapsed().saturating_sub(measuring);
            took.calibrate += measuring;

            let started = Instant::now();
            if let Some((hidden, _)) = &mut stream
                && index + 1 < spec.blocks
            {
                hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
                backend.wait()?;
            }
            took.propagate = started.elapsed();
            time += took;
            pruned(PrunedBlock {
                index,
                block: &block,
                time: took,
                backend,
                source,
                updated: method.solver.updates(),
            })?;
            // What the caller asked of the backend is not the next block's time.
            backend.wait()?;
        }
        Ok((records, time))
    })
}

fn block_statistics<B: Workbench>(
    backend: &B,
    moments: &BlockMoments<B>,
    sequences: usize,
    provider: Provider,
) -> Result<TapStatistics<B>> {
    let of = |tap| {
        let statistics = backend.statistics(moments.tap(tap), sequences, provider);
        Ok((tap, statistics.at(format_args!("tap {tap:?}"))?))
    };
    Ok(TapStatistics {
        of: Tap::ALL.into_iter().map(of).collect::<Result<_>>()?,
        samples: moments.samples().clone(),
    })
}

impl<B: Workbench> TapStatistics<B> {
    /// Statistics that come from no inputs.
    fn none<const TAPS: usize>(of: [(Tap, B::Statistics); TAPS]) -> Self {
        TapStatistics {
            of: of.into(),
            samples: Samples::<B>::new(),
        }
    }
}

/// `||dense - sparse||^2 / ||dense||^2`; `None` where the output was 0 all over.
fn relative(dense: &Array2<f32>, sparse: &Array2<f32>) -> Option<f64> {
    let square = |value: f64| value * value;
    let pairs = dense.iter().zip(sparse);
    let error: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let all: f64 = dense.iter().map(|value| square(f64::from(*value))).sum();
    (all > 0.0).then(|| error / all)
}

/// Prunes one layer in place and holds its solver to its promises.
fn prune_layer(piece: &mut dyn Workpiece, name: &str, method: &Method, target: &Target) -> Result<LayerRecord> {
    let (rows, columns) = piece.dim();
    let damping = method.solver.solve(piece, method.criterion.as_ref(), target)?;
    // What is evaluated is what would be saved: updated weights are rounded to the checkpoint's type.
    let finished = piece.finish()?;
    finished.mask.check(target)?;
    if let Some((place, weight)) = finished.fault {
        let what = if weight.is_finite() { "removed" } else { "pruned" };
        return Err(Error::numeric(format!("the {what} weight at {place:?} is {weight}")));
    }
    Ok(LayerRecord {
        tensor: name.to_string(),
        shape: [rows, columns],
        removed: finished.mask.removed(),
        zeros: finished.zeros,
        damping,
        output_error: None,
    })
}
