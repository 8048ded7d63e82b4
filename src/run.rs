//! Executes a resolved experiment: prepares tokens, runs the cells that have no record yet, records each.
//!
//! Everything that can be refused is refused before the first cell: missing files, weights that are not
//! finite, texts too short for their windows. A cell that fails is recorded and the rest go on. A cell
//! with a good record is never run again; a failed one is.

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::moments::Needs;
use crate::calibrate::BlockMoments;
use crate::data::corpus::Corpus;
use crate::data::sampler::CalibrationSource;
use crate::data::tokenizer::Tokenizer;
use crate::data::windows::TokenWindows;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::eval::perplexity::{PerplexityScorer, perplexity};
use crate::experiment::identity::Identity;
use crate::experiment::inputs::{Inputs, ModelInput};
use crate::experiment::plan::{Cell, DENSE, Experiment, Pruning};
use crate::model::checkpoint::{BlockWeights, Checkpoint};
use crate::model::forward::{Block, Ends};
use crate::progress::Progress;
use crate::prune::{Calibration, LayerRecord, Propagate, PruneTime, dense_moments, prune_model};
use crate::record::{EvaluationRecord, Label, Record, RecordFile, RunInfo, SCHEMA, Status, write_whole};
use crate::report::{PlanFile, PlannedCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Cells run now.
    pub ran: usize,
    /// Of these, cells that failed.
    pub failed: usize,
    /// Cells that had a good record already.
    pub skipped: usize,
}

/// The ids of all cells, in the experiment's order; `None` where a file they depend on is missing.
pub fn identify(experiment: &Experiment, inputs: &Inputs) -> Vec<Option<Identity>> {
    experiment
        .cells()
        .iter()
        .map(|cell| {
            let model = inputs.models[cell.model].as_ref()?;
            let evaluations = inputs.evaluations.as_ref()?;
            let seeded = cell.pruning.is_some_and(|pruning| pruning.seed.is_some());
            let corpus = inputs.calibration.as_deref();
            if seeded && corpus.is_none() {
                return None;
            }
            Some(Identity::of(experiment, cell, model, corpus, evaluations))
        })
        .collect()
}

/// Runs every cell of an experiment that has no good record in `folder`.
///
/// # Errors
/// Unusable inputs (nothing is written then) and unwritable results. Failures of single cells are
/// recorded and counted, not returned.
pub fn run(experiment: &Experiment, inputs: &Inputs, folder: &Path, progress: &dyn Progress) -> Result<Outcome> {
    inputs.require_all()?;
    let cells: Vec<(Cell, Identity)> = experiment
        .cells()
        .into_iter()
        .zip(identify(experiment, inputs))
        .filter_map(|(cell, identity)| Some((cell, identity?)))
        .collect();
    let models = inputs
        .models
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, input)| PreparedModel::new(experiment, index, input, progress))
        .collect::<Result<Vec<_>>>()?;

    std::fs::create_dir_all(folder).map_err(|error| Error::output(folder, error))?;
    let mut file = RecordFile::open(folder)?;
    let plan = plan_file(experiment, &cells);
    write_whole(&folder.join("plan.toml"), plan.text()?.as_bytes())?;

    let pending: Vec<&(Cell, Identity)> = cells.iter().filter(|(_, identity)| !file.has(&identity.id())).collect();
    let steps = pending
        .iter()
        .map(|(cell, _)| models[cell.model].checkpoint.spec().blocks)
        .sum();
    let mut outcome = Outcome {
        ran: 0,
        failed: 0,
        skipped: cells.len() - pending.len(),
    };
    progress.start(pending.len(), steps);
    let mut runner: Option<(usize, Runner<Cpu>)> = None;
    for (cell, identity) in pending {
        // Two methods may be the same under different names: the first one's record serves both.
        if file.has(&identity.id()) {
            outcome.skipped += 1;
            continue;
        }
        if runner.as_ref().is_none_or(|(model, _)| *model != cell.model) {
            runner = Some((cell.model, Runner::new(Cpu, experiment, &models[cell.model])?));
        }
        let (_, runner) = runner.as_mut().expect("a runner for this cell's model was just made");
        let label = experiment.describe(cell);
        progress.cell(&label);
        let record = runner.record(cell, identity, progress);
        outcome.ran += 1;
        outcome.failed += usize::from(record.status == Status::Failed);
        progress.cell_done(&label, &summary(&record));
        file.append(record)?;
    }
    progress.finish();
    Ok(outcome)
}

/// A record in a few words.
fn summary(record: &Record) -> String {
    match &record.error {
        Some(error) => format!("failed: {error}"),
        None => {
            let results = record
                .evaluations
                .iter()
                .map(|it| format!("{} {:.2}", it.name, it.perplexity));
            let seconds = record.run.total_seconds;
            format!("perplexity {} ({seconds:.1} s)", results.collect::<Vec<_>>().join(", "))
        }
    }
}

fn plan_file(experiment: &Experiment, cells: &[(Cell, Identity)]) -> PlanFile {
    let planned = cells.iter().map(|(cell, identity)| PlannedCell {
        id: identity.id(),
        model: experiment.models[cell.model].name.clone(),
        method: method_name(experiment, cell),
        seed: cell.pruning.and_then(|pruning| pruning.seed),
        pattern: cell.pruning.map(|pruning| pruning.pattern),
    });
    PlanFile {
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        experiment: experiment.clone(),
        cell: planned.collect(),
    }
}

fn method_name(experiment: &Experiment, cell: &Cell) -> String {
    match &cell.pruning {
        Some(pruning) => experiment.methods[pruning.method].name.clone(),
        None => DENSE.to_string(),
    }
}

/// A model with every token it will see.
pub(crate) struct PreparedModel<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) evaluations: Vec<TokenWindows>,
    pub(crate) calibration: BTreeMap<u64, TokenWindows>,
}

impl<'a> PreparedModel<'a> {
    pub(crate) fn new(
        experiment: &Experiment,
        index: usize,
        input: &'a ModelInput,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let plan = &experiment.models[index];
        let checkpoint = &input.checkpoint;
        progress.stage(&format!("checking the weights of {}", plan.name));
        checkpoint.check_finite()?;
        progress.stage(&format!("tokenising for {}", plan.name));
        let tokenizer = Tokenizer::load(&plan.path)?;
        let vocabulary = checkpoint.spec().vocabulary;
        let evaluations = experiment
            .evaluations
            .iter()
            .map(|plan| {
                let text = Corpus::read(&plan.corpus, plan.join)?.joined(plan.join);
                let ids = tokenizer.encode(&text, vocabulary)?;
                TokenWindows::consecutive(&ids, plan.length, plan.windows).at(plan.corpus.display())
            })
            .collect::<Result<_>>()?;
        let mut calibration = BTreeMap::new();
        if let Some(plan) = &experiment.calibration
            && experiment.methods.iter().any(|method| method.calibrated)
        {
            let corpus = Corpus::read(&plan.corpus, plan.join)?;
            let source = CalibrationSource::new(&corpus, plan.join, plan.sampling, &tokenizer, vocabulary)?;
            for seed in &experiment.seeds {
                let windows = source.draw(&tokenizer, vocabulary, *seed, plan.sequences, plan.length);
                calibration.insert(*seed, windows.at(plan.corpus.display())?);
            }
        }
        Ok(PreparedModel {
            checkpoint,
            evaluations,
            calibration,
        })
    }
}

/// Runs the cells of one model, sharing what they share: the weights outside the blocks and, with
/// `propagate = "dense"`, one pass of statistics per seed.
pub(crate) struct Runner<'a, B: Backend> {
    backend: B,
    experiment: &'a Experiment,
    model: &'a PreparedModel<'a>,
    ends: Ends<B>,
    dense: Option<(u64, Vec<BlockMoments>)>,
}

/// What a cell found.
pub(crate) struct Findings {
    pub(crate) layers: Vec<LayerRecord>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) calibration_tokens: Option<String>,
    pub(crate) time: PruneTime,
    pub(crate) evaluations: Vec<EvaluationRecord>,
}

impl<'a, B: Backend> Runner<'a, B> {
    pub(crate) fn new(backend: B, experiment: &'a Experiment, model: &'a PreparedModel<'a>) -> Result<Self> {
        Ok(Runner {
            ends: Ends::upload(&backend, model.checkpoint)?,
            backend,
            experiment,
            model,
            dense: None,
        })
    }

    /// Runs a cell; a failure becomes part of the record.
    fn record(&mut self, cell: &Cell, identity: &Identity, progress: &dyn Progress) -> Record {
        let started = Instant::now();
        let result = match &cell.pruning {
            Some(pruning) => self.pruned(pruning, progress, |_| Ok(())),
            None => self.unpruned(progress),
        };
        let (findings, error) = match result {
            Ok(findings) => (Some(findings), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let time = findings.as_ref().map_or(PruneTime::default(), |findings| findings.time);
        Record {
            schema: SCHEMA,
            id: identity.id(),
            status: if error.is_none() { Status::Ok } else { Status::Failed },
            error,
            label: Label {
                model: self.experiment.models[cell.model].name.clone(),
                method: method_name(self.experiment, cell),
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
                finished: jiff::Timestamp::now()
                    .round(jiff::Unit::Second)
                    .map_or(String::new(), |t| t.to_string()),
                calibrate_seconds: time.calibrate.as_secs_f64(),
                prune_seconds: time.prune.as_secs_f64(),
                total_seconds: started.elapsed().as_secs_f64(),
            },
            evaluations: findings
                .as_ref()
                .map_or(Vec::new(), |findings| findings.evaluations.clone()),
            layers: findings.map_or(Vec::new(), |findings| findings.layers),
        }
    }

    pub(crate) fn unpruned(&mut self, progress: &dyn Progress) -> Result<Findings> {
        let spec = self.model.checkpoint.spec();
        let mut scorers = self.scorers()?;
        for index in 0..spec.blocks {
            let block = Block::upload(&self.backend, &self.model.checkpoint.block(index)?)?;
            for scorer in &mut scorers {
                scorer.advance(&self.backend, spec, &block)?;
            }
            progress.step();
        }
        Ok(Findings {
            layers: Vec::new(),
            sparsity: None,
            calibration_tokens: None,
            time: PruneTime::default(),
            evaluations: self.finish(scorers)?,
        })
    }

    /// Prunes and measures; `take` receives every pruned block, in order.
    pub(crate) fn pruned(
        &mut self,
        pruning: &Pruning,
        progress: &dyn Progress,
        mut take: impl FnMut(&BlockWeights) -> Result<()>,
    ) -> Result<Findings> {
        let checkpoint = self.model.checkpoint;
        let spec = checkpoint.spec();
        let method = self.experiment.method(pruning.method)?;
        let windows = pruning.seed.map(|seed| (seed, &self.model.calibration[&seed]));
        let propagate = self
            .experiment
            .calibration
            .as_ref()
            .map_or(Propagate::Block, |plan| plan.propagate);
        let mut sharing = PruneTime::default();
        if let (Some((seed, windows)), Propagate::Dense) = (windows, propagate) {
            let started = Instant::now();
            self.share_dense(seed, windows)?;
            sharing.calibrate = started.elapsed();
        }
        let calibration = match (windows, &self.dense) {
            (None, _) => Calibration::Nothing,
            (Some((_, windows)), Some((_, moments))) if propagate == Propagate::Dense => Calibration::Dense {
                moments,
                sequences: windows.count(),
            },
            (Some((_, windows)), _) => Calibration::Windows(windows),
        };
        let mut scorers = self.scorers()?;
        let (layers, mut time) = prune_model(
            &self.backend,
            checkpoint,
            &self.ends,
            &method,
            pruning.pattern,
            &calibration,
            |_, block, weights| {
                take(weights)?;
                for scorer in &mut scorers {
                    scorer.advance(&self.backend, spec, block)?;
                }
                progress.step();
                Ok(())
            },
        )?;
        time.calibrate += sharing.calibrate;
        let removed: usize = layers.iter().map(|layer| layer.removed).sum();
        Ok(Findings {
            layers,
            sparsity: Some(removed as f64 / spec.prunable() as f64),
            calibration_tokens: windows.map(|(_, windows)| windows.digest()),
            time,
            evaluations: self.finish(scorers)?,
        })
    }

    /// Makes sure that the dense pass of this seed is there, with everything any method will ask of it.
    fn share_dense(&mut self, seed: u64, windows: &TokenWindows) -> Result<()> {
        if self.dense.as_ref().is_some_and(|(known, _)| *known == seed) {
            return Ok(());
        }
        let mut needs = Needs::NOTHING;
        for index in 0..self.experiment.methods.len() {
            needs = needs.and(self.experiment.method(index)?.needs());
        }
        self.dense = None;
        let moments = dense_moments(&self.backend, self.model.checkpoint, &self.ends, windows, needs)?;
        self.dense = Some((seed, moments));
        Ok(())
    }

    fn scorers(&self) -> Result<Vec<PerplexityScorer<'a, B>>> {
        let spec = self.model.checkpoint.spec();
        self.model
            .evaluations
            .iter()
            .map(|windows| PerplexityScorer::new(&self.backend, spec, &self.ends, windows))
            .collect()
    }

    fn finish(&self, scorers: Vec<PerplexityScorer<'a, B>>) -> Result<Vec<EvaluationRecord>> {
        let plans = self.experiment.evaluations.iter().zip(&self.model.evaluations);
        scorers
            .into_iter()
            .zip(plans)
            .map(|(scorer, (plan, tokens))| {
                let windows = scorer.finish(&self.backend, &self.ends).at(&plan.name)?;
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

impl Outcome {
    /// An error when cells failed, for the exit code.
    ///
    /// # Errors
    /// Says how many failed.
    pub fn check(&self, folder: &Path) -> Result<()> {
        if self.failed == 0 {
            return Ok(());
        }
        let message = format!(
            "{} of {} cells failed; runs.jsonl says why, and the same command tries them again",
            self.failed, self.ran
        );
        Err(Error::new(ErrorKind::CellsFailed, message).at(folder.display()))
    }
}
