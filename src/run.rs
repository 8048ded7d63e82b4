//! Executes a resolved experiment: prepares tokens, runs the cells that have no record yet, records each.
//!
//! Everything that can be refused is refused before the first cell: missing files, weights that are not
//! finite, texts too short for their windows. A cell that fails is recorded and the rest go on. A cell
//! with a good record is never run again; a failed one is. This file runs one cell; `sweep` decides which.

mod claims;
mod events;
mod pace;
mod sweep;
mod tasks;
mod tokens;

pub use sweep::{Options, Outcome, Prospect, State, identify, prospects, run};
pub use tasks::Sample;
pub use tokens::{ModelTokens, write_tokens};

use crate::backend::Compute;
use crate::backend::cpu::{Cpu, CpuBf16};
use crate::backend::gpu::Gpu;
use crate::backend::moments::Needs;
use crate::calibrate::BlockMoments;
use crate::calibrate::Stage;
use crate::calibrate::passes::dense_moments;
use crate::data::windows::TokenWindows;
use crate::error::{ErrorKind, Located, Result};
use crate::eval::perplexity::{PerplexityScorer, perplexity};
use crate::experiment::forecast::{self, Forecast};
use crate::experiment::identity::Identity;
use crate::experiment::inputs::{Inputs, ModelInput};
use crate::experiment::machine::{Machine, Processor};
use crate::experiment::plan::{Cell, DENSE, Experiment, Pruning};
use crate::memory::{self, Reserved, Room};
use crate::model::checkpoint::Checkpoint;
use crate::model::forward::{Block, Ends};
use crate::progress::Progress;
use crate::prune::layer::LayerRecord;
use crate::prune::model::{Calibration, PruneTime, PrunedBlock, TapStatistics, first_statistics, prune_model};
use crate::prune::workbench::Workbench;
use crate::record::{EvaluationRecord, Label, Record, RunInfo, SCHEMA, Status};
use std::collections::BTreeMap;
use std::time::Instant;
use tasks::{PreparedTask, TaskFindings, TaskScores};

/// The backend of an experiment, ready to compute.
pub(crate) enum Opened {
    /// This machine's cores.
    Cpu(Cpu),
    /// The same, with products of bfloat16.
    CpuBf16(CpuBf16),
    /// A GPU.
    Gpu(Box<Gpu>),
}

impl Opened {
    /// Opens it.
    pub(crate) fn new(machine: &Machine) -> Result<Opened> {
        Ok(match machine.backend {
            Processor::Cpu if machine.compute == Compute::Bf16 => Opened::CpuBf16(CpuBf16::new()),
            Processor::Cpu => Opened::Cpu(Cpu),
            Processor::Gpu => Opened::Gpu(Box::new(Gpu::open(&machine.choice()?, machine.compute)?)),
        })
    }
}

/// A model with every token it will see.
pub(crate) struct PreparedModel<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) evaluations: Vec<TokenWindows>,
    pub(crate) calibration: BTreeMap<u64, TokenWindows>,
    /// What the budget leaves for activations.
    room: Room,
    tasks: Vec<PreparedTask>,
}

impl<'a> PreparedModel<'a> {
    pub(crate) fn new(
        experiment: &Experiment,
        inputs: &Inputs,
        index: usize,
        input: &'a ModelInput,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let name = &experiment.models[index].name;
        progress.stage(&format!("tokenising for {name}"));
        let tokens = ModelTokens::new(experiment, inputs, index)?;
        let tasks = match &inputs.folders[index] {
            Some(folder) => PreparedTask::all(experiment, inputs, folder)?,
            None => Vec::new(),
        };
        let evaluated = tokens
            .evaluations
            .iter()
            .map(|windows| windows.ids().len())
            .sum::<usize>()
            + tasks.iter().map(PreparedTask::tokens).sum::<usize>();
        let room = Forecast::new(experiment, input.checkpoint.spec(), evaluated)?
            .room(experiment)
            .at(name)?;
        progress.stage(&format!("checking the weights of {name}"));
        input.checkpoint.check_finite()?;
        Ok(PreparedModel {
            room,
            checkpoint: &input.checkpoint,
            evaluations: tokens.evaluations,
            calibration: tokens.calibration,
            tasks,
        })
    }
}

/// Runs the cells of one model, sharing what they share: the weights outside the blocks and, per seed, the
/// statistics of block 0 or, with `stage = "dense"`, of all blocks.
pub(crate) struct Runner<'a, B: Workbench> {
    backend: &'a B,
    experiment: &'a Experiment,
    model: &'a PreparedModel<'a>,
    ends: Ends<B>,
    dense: Option<(u64, Vec<BlockMoments<B>>)>,
    first: Option<FirstBlock<B>>,
}

/// The statistics of block 0 that all cells of a seed find.
struct FirstBlock<B: Workbench> {
    seed: u64,
    needs: Needs,
    statistics: TapStatistics<B>,
    /// Their part of the budget.
    _place: Reserved,
}

/// What a cell found.
pub(crate) struct Findings {
    pub(crate) layers: Vec<LayerRecord>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) calibration_tokens: Option<String>,
    pub(crate) time: PruneTime,
    pub(crate) evaluations: Vec<EvaluationRecord>,
    pub(crate) tasks: Vec<TaskFindings>,
}

impl<'a, B: Workbench> Runner<'a, B> {
    pub(crate) fn new(backend: &'a B, experiment: &'a Experiment, model: &'a PreparedModel<'a>) -> Result<Self> {
        Ok(Runner {
            ends: Ends::upload(backend, model.checkpoint)?.within(model.room.clone()),
            backend,
            experiment,
            model,
            dense: None,
            first: None,
        })
    }

    /// Runs a cell; a failure becomes part of the record. What its tasks found comes with it.
    ///
    /// # Errors
    /// The run was asked to stop: the cell has no record.
    fn record(
        &mut self,
        cell: &Cell,
        identity: &Identity,
        progress: &dyn Progress,
    ) -> Result<(Record, Vec<TaskFindings>)> {
        let started = Instant::now();
        memory::forget_peak();
        let spilled = self.model.room.spilled();
        let result = match &cell.pruning {
            Some(pruning) => self.pruned(pruning, progress, |_| Ok(())),
            None => self.unpruned(progress),
        };
        let (findings, error) = match result {
            Ok(findings) => (Some(findings), None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => (None, Some(error.to_string())),
        };
        let time = findings.as_ref().map_or(PruneTime::default(), |findings| findings.time);
        let tasks = findings.as_ref().map_or(Vec::new(), |findings| findings.tasks.clone());
        let record = Record {
            schema: SCHEMA,
            id: identity.id(),
            status: if error.is_none() { Status::Ok } else { Status::Failed },
            error,
            label: Label {
                model: self.experiment.models[cell.model].name.clone(),
                method: method_name(self.experiment, cell),
                protocol: self.experiment.protocol.clone(),
            },
            cell: identity.clone(),
            sparsity: findings.as_ref().and_then(|findings| findings.sparsity),
            calibration_tokens: findings
                .as_ref()
                .and_then(|findings| findings.calibration_tokens.clone()),
            run: RunInfo {
                version: env!("CARGO_PKG_VERSION").to_string(),
                machine: format!(
                    "{} {}, {} cores",
                    std::env::consts::OS,
                    std::env::consts::ARCH,
                    rayon::current_num_threads()
                ),
                device: self.backend.device(),
                finished: jiff::Timestamp::now()
                    .round(jiff::Unit::Second)
                    .map_or(String::new(), |t| t.to_string()),
                calibrate_seconds: time.passes().as_secs_f64(),
                prune_seconds: time.prune.as_secs_f64(),
                total_seconds: started.elapsed().as_secs_f64(),
                peak_resident_bytes: memory::peak_resident(),
                spilled_bytes: Some(self.model.room.spilled() - spilled).filter(|bytes| *bytes > 0),
            },
            evaluations: findings
                .as_ref()
                .map_or(Vec::new(), |findings| findings.evaluations.clone()),
            tasks: tasks.iter().map(|task| task.record.clone()).collect(),
            layers: findings.map_or(Vec::new(), |findings| findings.layers),
            check: None,
        };
        Ok((record, tasks))
    }

    pub(crate) fn unpruned(&mut self, progress: &dyn Progress) -> Result<Findings> {
        let spec = self.model.checkpoint.spec();
        let (backend, ends) = (self.backend, &self.ends);
        let mut scorers = self.scorers()?;
        let mut tasks = TaskScores::new(&self.model.tasks);
        for (pass, range) in tasks.passes(backend, spec).into_iter().enumerate() {
            let first = range.start;
            let mut choices = tasks.scorer(backend, spec, ends, range)?;
            for index in 0..spec.blocks {
                let block = Block::load(backend, self.model.checkpoint, index)?;
                choices.advance(backend, spec, &block)?;
                if pass == 0 {
                    for scorer in &mut scorers {
                        scorer.advance(backend, spec, &block)?;
                    }
                    progress.step()?;
                }
            }
            tasks.collect(choices, first, backend, ends, progress)?;
        }
        Ok(Findings {
            layers: Vec::new(),
            sparsity: None,
            calibration_tokens: None,
            time: PruneTime::default(),
            evaluations: self.finish(scorers, progress)?,
            tasks: tasks.findings()?,
        })
    }

    /// Prunes and measures; `take` receives every pruned block, in order.
    pub(crate) fn pruned(
        &mut self,
        pruning: &Pruning,
        progress: &dyn Progress,
        mut take: impl FnMut(&PrunedBlock<B>) -> Result<()>,
    ) -> Result<Findings> {
        let checkpoint = self.model.checkpoint;
        let spec = checkpoint.spec();
        let method = self.experiment.method(pruning.method)?;
        let windows = pruning.seed.map(|seed| (seed, &self.model.calibration[&seed]));
        let stage = self
            .experiment
            .calibration
            .as_ref()
            .map_or(Stage::Block, |plan| plan.stage);
        let mut sharing = PruneTime::default();
        if let (Some((seed, windows)), Stage::Dense) = (windows, stage) {
            let started = Instant::now();
            self.share_dense(seed, windows)?;
            sharing.calibrate = started.elapsed();
        }
        if let (Some((seed, windows)), Stage::Block) = (windows, stage) {
            let started = Instant::now();
            self.share_first(seed, windows, method.needs())?;
            sharing.calibrate = started.elapsed();
        }
        let calibration = match (windows, &self.dense) {
            (None, _) => Calibration::Nothing,
            (Some((_, windows)), Some((_, moments))) if stage == Stage::Dense => Calibration::Dense {
                moments,
                sequences: windows.count(),
            },
            (Some((_, windows)), _) if stage == Stage::Staged => Calibration::Staged(windows),
            (Some((seed, windows)), _) => match &self.first {
                Some(first) if first.seed == seed && first.needs.cover(method.needs()) => Calibration::Continued {
                    windows,
                    first: &first.statistics,
                },
                _ => Calibration::Windows(windows),
            },
        };
        let mut scorers = self.scorers()?;
        // A pruned block exists once, so all documents go through it together.
        let mut tasks = TaskScores::new(&self.model.tasks);
        let mut choices = tasks.scorer(self.backend, spec, &self.ends, tasks.everything())?;
        let (layers, mut time) = prune_model(
            self.backend,
            checkpoint,
            &self.ends,
            &method,
            pruning.pattern,
            &calibration,
            |pruned| {
                take(&pruned)?;
                for scorer in &mut scorers {
                    scorer.advance(self.backend, spec, pruned.block)?;
                }
                choices.advance(self.backend, spec, pruned.block)?;
                progress.step()
            },
        )?;
        time += sharing;
        tasks.collect(choices, 0, self.backend, &self.ends, progress)?;
        let removed: usize = layers.iter().map(|layer| layer.removed).sum();
        Ok(Findings {
            layers,
            sparsity: Some(removed as f64 / spec.prunable() as f64),
            calibration_tokens: windows.map(|(_, windows)| windows.digest()),
            time,
            evaluations: self.finish(scorers, progress)?,
            tasks: tasks.findings()?,
        })
    }

    /// Makes sure that the dense pass of this seed is there, with everything any method will ask of it.
    fn share_dense(&mut self, seed: u64, windows: &TokenWindows) -> Result<()> {
        if self.dense.as_ref().is_some_and(|(known, _)| *known == seed) {
            return Ok(());
        }
        let needs = forecast::needs(self.experiment)?;
        self.dense = None;
        let moments = dense_moments(self.backend, self.model.checkpoint, &self.ends, windows, needs)?;
        self.dense = Some((seed, moments));
        Ok(())
    }

    /// Sees to it that block 0's statistics of this seed are there, if more than one cell may ask for them and the
    /// budget has a place for them: Gram matrices, and their factors. Made for the method at hand and made again for
    /// the first that needs more, so that a process with few of the cells makes nothing in vain.
    fn share_first(&mut self, seed: u64, windows: &TokenWindows, needs: Needs) -> Result<()> {
        let experiment = self.experiment;
        let known = self.first.as_ref();
        let there = known.is_some_and(|first| first.seed == seed && first.needs.cover(needs));
        if there || experiment.cells_per_seed() < 2 {
            return Ok(());
        }
        self.first = None;
        let bytes = forecast::statistics_bytes(self.model.checkpoint.spec(), needs);
        let Some(place) = self.model.room.reserve(bytes) else {
            return Ok(());
        };
        let (checkpoint, provider) = (self.model.checkpoint, experiment.linear_algebra);
        let statistics = first_statistics(self.backend, checkpoint, &self.ends, windows, needs, provider)?;
        self.first = Some(FirstBlock {
            seed,
            needs,
            statistics,
            _place: place,
        });
        Ok(())
    }

    fn scorers(&self) -> Result<Vec<PerplexityScorer<'a, B>>> {
        let spec = self.model.checkpoint.spec();
        self.model
            .evaluations
            .iter()
            .map(|windows| PerplexityScorer::new(self.backend, spec, &self.ends, windows))
            .collect()
    }

    fn finish(&self, scorers: Vec<PerplexityScorer<'a, B>>, progress: &dyn Progress) -> Result<Vec<EvaluationRecord>> {
        let plans = self.experiment.evaluations.iter().zip(&self.model.evaluations);
        scorers
            .into_iter()
            .zip(plans)
            .map(|(scorer, (plan, tokens))| {
                let scored = |means: &[f64]| progress.scored(&plan.name, means, tokens.count());
                let windows = scorer.finish(self.backend, &self.ends, scored).at(&plan.name)?;
                Ok(EvaluationRecord {
                    name: plan.name.clone(),
                    perplexity: perplexity(&windows).at(&plan.name)?,
                    tokens: tokens.ids().len(),
                    token_digest: tokens.digest(),
                    windows,
                })
            })
            .collect()
    }
}

fn method_name(experiment: &Experiment, cell: &Cell) -> String {
    match &cell.pruning {
        Some(pruning) => experiment.methods[pruning.method].name.clone(),
        None => DENSE.to_string(),
    }
}
