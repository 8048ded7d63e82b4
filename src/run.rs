//! Executes a resolved experiment: prepares tokens, runs the cells that have no record yet, records each.
//!
//! Everything that can be refused is refused before the first cell: missing files, weights that are not
//! finite, texts too short for their windows. A cell that fails is recorded and the rest go on. A cell
//! with a good record is never run again; a failed one is.

use crate::backend::cpu::Cpu;
use crate::backend::gpu::Gpu;
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
use crate::experiment::machine::{Machine, Processor};
use crate::experiment::plan::{Cell, DENSE, Experiment, Pruning};
use crate::model::checkpoint::Checkpoint;
use crate::model::forward::{Block, Ends};
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::prune::{Calibration, LayerRecord, Propagate, PruneTime, PrunedBlock, dense_moments, prune_model};
use crate::record::{EvaluationRecord, Label, Record, RecordFile, RunInfo, SCHEMA, Status, write_whole};
use crate::report::{PlanFile, PlannedCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
            let seed = cell.pruning.and_then(|pruning| pruning.seed);
            let file = seed.map(|seed| inputs.calibration.get(&seed));
            if file.is_some_and(|file| file.is_none()) {
                return None;
            }
            let digest = file.flatten().map(|file| file.digest.as_str());
            Some(Identity::of(experiment, cell, model, digest, evaluations))
        })
        .collect()
}

/// The backend of an experiment, ready to compute.
pub(crate) enum Opened {
    /// This machine's cores.
    Cpu(Cpu),
    /// A GPU.
    Gpu(Box<Gpu>),
}

impl Opened {
    /// Opens it.
    pub(crate) fn new(machine: &Machine) -> Result<Opened> {
        Ok(match machine.backend {
            Processor::Cpu => Opened::Cpu(Cpu),
            Processor::Gpu => Opened::Gpu(Box::new(Gpu::open(&machine.choice()?, machine.compute)?)),
        })
    }
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
        .map(|(index, input)| PreparedModel::new(experiment, inputs, index, input, progress))
        .collect::<Result<Vec<_>>>()?;

    std::fs::create_dir_all(folder).map_err(|error| Error::output(folder, error))?;
    let mut file = RecordFile::open(folder)?;
    remove_unfinished(folder);
    let plan = plan_file(experiment, inputs, &cells);
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
    // Opened late, so that an experiment without pending cells needs no GPU.
    if !pending.is_empty() {
        let sweep = Sweep {
            experiment,
            cells: &cells,
            models: &models,
            progress,
        };
        match Opened::new(&experiment.machine)? {
            Opened::Cpu(cpu) => sweep.run(&cpu, &pending, &mut file, &mut outcome)?,
            Opened::Gpu(gpu) => sweep.run(gpu.as_ref(), &pending, &mut file, &mut outcome)?,
        }
    }
    progress.finish();
    Ok(outcome)
}

/// The cells of an experiment, and what they compute with.
struct Sweep<'a> {
    experiment: &'a Experiment,
    cells: &'a [(Cell, Identity)],
    models: &'a [PreparedModel<'a>],
    progress: &'a dyn Progress,
}

impl Sweep<'_> {
    /// Runs the pending cells on a backend.
    fn run<B: Workbench>(
        &self,
        backend: &B,
        pending: &[&(Cell, Identity)],
        file: &mut RecordFile,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let Sweep {
            experiment,
            cells,
            models,
            progress,
        } = self;
        let mut runner: Option<(usize, Runner<B>)> = None;
        for (cell, identity) in pending {
            // Two methods may be the same under different names: the first one's record serves both.
            if file.has(&identity.id()) {
                outcome.skipped += 1;
                continue;
            }
            if runner.as_ref().is_none_or(|(model, _)| *model != cell.model) {
                runner = Some((cell.model, Runner::new(backend, experiment, &models[cell.model])?));
            }
            if cell.pruning.is_some() {
                check_dense(experiment, cells, cell.model, file.records())?;
            }
            let (_, runner) = runner.as_mut().expect("a runner for this cell's model was just made");
            let label = experiment.describe(cell);
            progress.cell(&label);
            let record = runner.record(cell, identity, *progress);
            outcome.ran += 1;
            outcome.failed += usize::from(record.status == Status::Failed);
            progress.cell_done(&label, &summary(&record));
            file.append(record)?;
        }
        Ok(())
    }
}

/// Removes what a run that was killed left of files it was writing. Needs the lock of the folder's records.
fn remove_unfinished(folder: &Path) {
    for sub in [folder.to_path_buf(), folder.join("tables"), folder.join("plots")] {
        for entry in std::fs::read_dir(sub).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".tmp") && name.ends_with(".tmp") {
                // A file that cannot be removed does no harm; the next run tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Stops a sweep whose dense perplexity is not the expected one, before anything is pruned for nothing.
fn check_dense(experiment: &Experiment, cells: &[(Cell, Identity)], model: usize, records: &[Record]) -> Result<()> {
    let plan = &experiment.models[model];
    if plan.expected.is_empty() {
        return Ok(());
    }
    let dense = cells
        .iter()
        .find(|(cell, _)| cell.model == model && cell.pruning.is_none())
        .map(|(_, identity)| identity.id());
    let fail = |message: String| Error::new(ErrorKind::Mismatch, message).at(&plan.name);
    let record = records
        .iter()
        .rev()
        .find(|record| Some(&record.id) == dense.as_ref() && record.status == Status::Ok)
        .ok_or_else(|| fail("the dense model has no result to hold against `expected`".to_string()))?;
    // The record may have been made under other labels; evaluations keep the experiment's order.
    for (plan_of, found) in experiment.evaluations.iter().zip(&record.evaluations) {
        let Some(expected) = plan.expected.get(&plan_of.name) else {
            continue;
        };
        let off = (found.perplexity - expected.perplexity).abs() / expected.perplexity;
        if off > expected.tolerance {
            return Err(fail(format!(
                "the dense perplexity on {} is {:.4}, but {:.4} is expected, within {} %: it is off by {:.3} %. \
                 Weights, tokens, BOS, join or context length differ from the run it comes from; nothing was pruned",
                plan_of.name,
                found.perplexity,
                expected.perplexity,
                100.0 * expected.tolerance,
                100.0 * off
            )));
        }
    }
    Ok(())
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

fn plan_file(experiment: &Experiment, inputs: &Inputs, cells: &[(Cell, Identity)]) -> PlanFile {
    let planned = cells
        .iter()
        .map(|(cell, identity)| PlannedCell {
            id: identity.id(),
            model: experiment.models[cell.model].name.clone(),
            method: method_name(experiment, cell),
            seed: cell.pruning.and_then(|pruning| pruning.seed),
            pattern: cell.pruning.map(|pruning| pruning.pattern),
        })
        .collect();
    let mut experiment = experiment.clone();
    for (plan, folder) in experiment.models.iter_mut().zip(&inputs.folders) {
        plan.commit = folder.as_ref().and_then(|folder| folder.commit.clone());
    }
    PlanFile {
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        experiment,
        cell: planned,
    }
}

fn method_name(experiment: &Experiment, cell: &Cell) -> String {
    match &cell.pruning {
        Some(pruning) => experiment.methods[pruning.method].name.clone(),
        None => DENSE.to_string(),
    }
}

/// Every token a model sees in an experiment.
pub struct ModelTokens {
    /// One per evaluation.
    pub evaluations: Vec<TokenWindows>,
    /// The calibration windows of every seed; empty where no method calibrates.
    pub calibration: BTreeMap<u64, TokenWindows>,
}

impl ModelTokens {
    /// Tokenises an experiment's texts, or reads its token windows files, for the model at `index`. Needs
    /// its folder and all texts in `inputs`.
    ///
    /// # Errors
    /// Something is missing, a text is too short for its windows, or a token windows file does not fit
    /// the experiment or the vocabulary.
    pub fn new(experiment: &Experiment, inputs: &Inputs, index: usize) -> Result<Self> {
        let missing = || Error::input(inputs.missing.join("\n"));
        let folder = inputs.folders[index].as_ref().ok_or_else(missing)?;
        let files = inputs.evaluations.as_ref().ok_or_else(missing)?;
        let tokenizer = Tokenizer::load(&folder.path)?;
        let vocabulary = folder.spec.vocabulary;
        let bos = experiment.bos;
        let evaluations = experiment
            .evaluations
            .iter()
            .zip(files)
            .map(|(plan, file)| match plan.join {
                None => stored(&file.path, plan.length.of(&folder.spec), plan.windows, vocabulary),
                Some(join) => {
                    let mut corpus = Corpus::read(&file.path, join)?;
                    if let Some(rows) = plan.rows {
                        corpus.keep(rows).at(plan.source().display())?;
                    }
                    let text = corpus.joined(join);
                    let ids = tokenizer.encode(&text, bos, vocabulary)?;
                    TokenWindows::consecutive(&ids, plan.length.of(&folder.spec), plan.windows)
                        .at(plan.source().display())
                }
            })
            .collect::<Result<_>>()?;
        let mut calibration = BTreeMap::new();
        if let Some(plan) = &experiment.calibration
            && experiment.methods.iter().any(|method| method.calibrated)
        {
            let mut source = None;
            let length = plan.length.of(&folder.spec);
            for seed in &experiment.seeds {
                let file = inputs.calibration.get(seed).ok_or_else(missing)?;
                let (Some(join), Some(sampling)) = (plan.join, plan.sampling) else {
                    let windows = stored(&file.path, length, Some(plan.sequences), vocabulary)?;
                    calibration.insert(*seed, windows);
                    continue;
                };
                // One corpus serves all seeds; it is read and tokenised once.
                if source.is_none() {
                    let corpus = Corpus::read(&file.path, join)?;
                    source = Some(CalibrationSource::new(
                        &corpus, join, sampling, bos, &tokenizer, vocabulary,
                    )?);
                }
                let source = source.as_ref().expect("the source was just made");
                let windows = source.draw(&tokenizer, vocabulary, *seed, plan.sequences, length);
                calibration.insert(*seed, windows.at(plan.source().display())?);
            }
        }
        Ok(ModelTokens {
            evaluations,
            calibration,
        })
    }
}

/// The first `count` windows (all by default) of a token windows file.
fn stored(path: &Path, length: usize, count: Option<usize>, vocabulary: usize) -> Result<TokenWindows> {
    let windows = TokenWindows::read(path)?;
    windows.check_vocabulary(vocabulary).at(path.display())?;
    if windows.length() != length {
        let message = format!("windows have {} tokens, but `length` is {length}", windows.length());
        return Err(Error::input(message).at(path.display()));
    }
    TokenWindows::consecutive(windows.ids(), length, count).at(path.display())
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
        inputs: &Inputs,
        index: usize,
        input: &'a ModelInput,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let name = &experiment.models[index].name;
        progress.stage(&format!("checking the weights of {name}"));
        input.checkpoint.check_finite()?;
        progress.stage(&format!("tokenising for {name}"));
        let tokens = ModelTokens::new(experiment, inputs, index)?;
        Ok(PreparedModel {
            checkpoint: &input.checkpoint,
            evaluations: tokens.evaluations,
            calibration: tokens.calibration,
        })
    }
}

/// Runs the cells of one model, sharing what they share: the weights outside the blocks and, with
/// `propagate = "dense"`, one pass of statistics per seed.
pub(crate) struct Runner<'a, B: Workbench> {
    backend: &'a B,
    experiment: &'a Experiment,
    model: &'a PreparedModel<'a>,
    ends: Ends<B>,
    dense: Option<(u64, Vec<BlockMoments<B>>)>,
}

/// What a cell found.
pub(crate) struct Findings {
    pub(crate) layers: Vec<LayerRecord>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) calibration_tokens: Option<String>,
    pub(crate) time: PruneTime,
    pub(crate) evaluations: Vec<EvaluationRecord>,
}

impl<'a, B: Workbench> Runner<'a, B> {
    pub(crate) fn new(backend: &'a B, experiment: &'a Experiment, model: &'a PreparedModel<'a>) -> Result<Self> {
        Ok(Runner {
            ends: Ends::upload(backend, model.checkpoint)?,
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
            },
            evaluations: findings
                .as_ref()
                .map_or(Vec::new(), |findings| findings.evaluations.clone()),
            tasks: Vec::new(),
            layers: findings.map_or(Vec::new(), |findings| findings.layers),
        }
    }

    pub(crate) fn unpruned(&mut self, progress: &dyn Progress) -> Result<Findings> {
        let spec = self.model.checkpoint.spec();
        let mut scorers = self.scorers()?;
        for index in 0..spec.blocks {
            let block = Block::upload(self.backend, &self.model.checkpoint.block(index)?)?;
            for scorer in &mut scorers {
                scorer.advance(self.backend, spec, &block)?;
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
        mut take: impl FnMut(&PrunedBlock<B>) -> Result<()>,
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
                progress.step();
                Ok(())
            },
        )?;
        time += sharing;
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
        let moments = dense_moments(self.backend, self.model.checkpoint, &self.ends, windows, needs)?;
        self.dense = Some((seed, moments));
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

    fn finish(&self, scorers: Vec<PerplexityScorer<'a, B>>) -> Result<Vec<EvaluationRecord>> {
        let plans = self.experiment.evaluations.iter().zip(&self.model.evaluations);
        scorers
            .into_iter()
            .zip(plans)
            .map(|(scorer, (plan, tokens))| {
                let windows = scorer.finish(self.backend, &self.ends).at(&plan.name)?;
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

/// Writes the tokens every model of an experiment sees, for other programs: per model a folder with
/// `calibration_seed<seed>.safetensors` and `evaluation_<name>.safetensors`. Needs no weights.
/// Returns the files.
///
/// # Errors
/// Unusable inputs (nothing is written then), and files that cannot be written.
pub fn write_tokens(experiment: &Experiment, inputs: &Inputs, folder: &Path) -> Result<Vec<PathBuf>> {
    inputs.require_all()?;
    let mut files = Vec::new();
    for (index, model) in experiment.models.iter().enumerate() {
        let tokens = ModelTokens::new(experiment, inputs, index)?;
        let folder = folder.join(file_name(&model.name));
        for (seed, windows) in tokens.calibration {
            files.push((folder.join(format!("calibration_seed{seed}.safetensors")), windows));
        }
        for (plan, windows) in experiment.evaluations.iter().zip(tokens.evaluations) {
            let name = format!("evaluation_{}.safetensors", file_name(&plan.name));
            files.push((folder.join(name), windows));
        }
    }
    // Two labels may become one file name ("a b" and "a_b").
    for (index, (path, _)) in files.iter().enumerate() {
        if files[..index].iter().any(|(earlier, _)| earlier == path) {
            let message = format!("two labels become the file {}; rename one of them", path.display());
            return Err(Error::config(message));
        }
    }
    for (path, windows) in &files {
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::output(parent, error))?;
        windows.write(path)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// A label as part of a file name.
fn file_name(label: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = label.chars().map(plain).collect();
    // `.` and `..` are folders.
    if name.starts_with('.') {
        format!("_{name}")
    } else {
        name
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
