//! Pruning: a method is a product of criterion, solver, allocator and comparison group.
//!
//! This module owns the loop over blocks and the checks that follow every layer, whatever its solver
//! did: the mask satisfies the pattern exactly, masked weights are 0, all weights are finite. The parts
//! live in [`criterion`], [`solver`], [`allocator`]; what they share in [`score`], [`pattern`], [`mask`].

pub mod allocator;
pub mod criterion;
pub mod mask;
pub mod pattern;
pub mod score;
pub mod solver;

use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::calibrate::BlockMoments;
use crate::calibrate::statistics::LayerStatistics;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::linalg::Provider;
use crate::model::checkpoint::{BlockWeights, Checkpoint, LinearWeights};
use crate::model::forward::{Block, Ends, Hidden};
use crate::registry;
use crate::spec::{ModelSpec, Tap};
use allocator::Allocator;
use criterion::Criterion;
use ndarray::ArrayView2;
use pattern::{Group, Pattern, Selection, Target};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use solver::{Solution, Solver};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a criterion and a solver see of one linear layer.
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
pub enum Calibration<'a> {
    /// The method needs none.
    Nothing,
    /// These windows, moved through the pruned blocks: [`Propagate::Block`].
    Windows(&'a TokenWindows),
    /// One dense pass over this many sequences: [`Propagate::Dense`].
    Dense {
        /// Per block.
        moments: &'a [BlockMoments],
        /// Sequences in the pass.
        sequences: usize,
    },
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
}

/// Time spent in the stages of pruning.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneTime {
    /// Forward passes for statistics and propagation.
    pub calibrate: Duration,
    /// Scoring, selecting, updating.
    pub prune: Duration,
}

/// One dense pass: the moments of every block.
///
/// # Errors
/// The checkpoint is unusable or activations are not finite.
pub fn dense_moments<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
) -> Result<Vec<BlockMoments>> {
    let spec = checkpoint.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    (0..spec.blocks)
        .map(|index| {
            let block = Block::upload(backend, &checkpoint.block(index)?)?;
            let mut moments = BlockMoments::new(spec, needs);
            hidden.advance(backend, spec, &block, |tap, x| {
                backend.accumulate(moments.tap_mut(tap), x)
            })?;
            refuse_infinite(&moments).at(format_args!("block {index}"))?;
            Ok(moments)
        })
        .collect()
}

/// Prunes a whole model, block by block. `pruned` receives every block as soon as it is ready, on the
/// backend and on the host, in order.
///
/// # Errors
/// The checkpoint is unusable, arithmetic breaks down, or `pruned` fails.
pub fn prune_model<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    ends: &Ends<B>,
    method: &Method,
    pattern: Pattern,
    calibration: &Calibration,
    mut pruned: impl FnMut(usize, &Block<B>, &BlockWeights) -> Result<()>,
) -> Result<(Vec<LayerRecord>, PruneTime)> {
    let spec = checkpoint.spec();
    let mut records = Vec::new();
    let mut time = PruneTime::default();
    let mut stream = match calibration {
        Calibration::Windows(windows) => Some((Hidden::embed(backend, spec, ends, windows)?, windows.count())),
        _ => None,
    };
    for index in 0..spec.blocks {
        let mut weights = checkpoint.block(index)?;
        let started = Instant::now();
        let statistics = match (&stream, calibration) {
            (Some((hidden, sequences)), _) => {
                let dense = Block::upload(backend, &weights)?;
                let mut moments = BlockMoments::new(spec, method.needs());
                hidden.observe(backend, spec, &dense, |tap, x| {
                    backend.accumulate(moments.tap_mut(tap), x)
                })?;
                refuse_infinite(&moments).at(format_args!("block {index}"))?;
                block_statistics(&moments, *sequences, method.provider)
            }
            (None, Calibration::Dense { moments, sequences }) => {
                block_statistics(&moments[index], *sequences, method.provider)
            }
            (None, _) => Tap::ALL
                .into_iter()
                .map(|tap| (tap, LayerStatistics::none(spec.block.tap_width(tap))))
                .collect(),
        };
        time.calibrate += started.elapsed();

        let started = Instant::now();
        for linear in &mut weights.linears {
            let statistics = &statistics[&linear.role.tap()];
            let record = prune_layer(spec, index, linear, statistics, method, pattern).at(&linear.name)?;
            records.push(record);
        }
        time.prune += started.elapsed();

        let block = Block::upload(backend, &weights)?;
        let started = Instant::now();
        if let Some((hidden, _)) = &mut stream
            && index + 1 < spec.blocks
        {
            hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
        }
        time.calibrate += started.elapsed();
        pruned(index, &block, &weights)?;
    }
    Ok((records, time))
}

fn block_statistics(moments: &BlockMoments, sequences: usize, provider: Provider) -> BTreeMap<Tap, LayerStatistics> {
    Tap::ALL
        .into_iter()
        .map(|tap| (tap, LayerStatistics::new(moments.tap(tap), sequences, provider)))
        .collect()
}

fn refuse_infinite(moments: &BlockMoments) -> Result<()> {
    for tap in Tap::ALL {
        if let Some(feature) = moments.tap(tap).squares.iter().position(|sum| !sum.is_finite()) {
            let message = format!("calibration activations are not finite (tap {tap:?}, feature {feature})");
            return Err(Error::numeric(message));
        }
    }
    Ok(())
}

/// Prunes one layer in place and checks the result.
fn prune_layer(
    spec: &ModelSpec,
    block: usize,
    linear: &mut LinearWeights,
    statistics: &LayerStatistics,
    method: &Method,
    whole: Pattern,
) -> Result<LayerRecord> {
    let target = Target {
        pattern: method.allocator.layer(spec, block, linear.role, whole)?,
        group: method.group,
        selection: method.selection,
    };
    let layer = Layer {
        weight: linear.weight.view(),
        statistics,
    };
    let mut solution = method.solver.solve(&layer, method.criterion.as_ref(), &target)?;
    // What is evaluated is what would be saved: updated weights are rounded to the checkpoint's type.
    solution.weight.mapv_inplace(|weight| linear.storage.round(weight));
    check(&solution, &target)?;
    let zeros = solution.weight.iter().filter(|weight| **weight == 0.0).count();
    let record = LayerRecord {
        tensor: linear.name.clone(),
        shape: linear.weight.dim().into(),
        removed: solution.mask.removed(),
        zeros,
        damping: solution.damping,
    };
    linear.weight = solution.weight;
    Ok(record)
}

/// Holds a solver to its promises.
fn check(solution: &Solution, target: &Target) -> Result<()> {
    solution.mask.check(target)?;
    for ((place, weight), removed) in solution.weight.indexed_iter().zip(solution.mask.entries()) {
        if !weight.is_finite() {
            return Err(Error::numeric(format!("the pruned weight at {place:?} is {weight}")));
        }
        if *removed && *weight != 0.0 {
            return Err(Error::numeric(format!(
                "the removed weight at {place:?} is {weight}, not 0"
            )));
        }
    }
    Ok(())
}
