//! Runs the cells of one model on one backend.

mod beside;

use super::dense::DenseStreams;
use super::prepared::Prepared;
use super::size::{multiply_adds, parameters, sample, seconds_per_token};
use super::tasks::{TaskFindings, TaskScores};
use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::calibrate::gradients::ModelGradients;
use crate::calibrate::passes::dense_moments;
use crate::calibrate::statistics::Factoring;
use crate::calibrate::{BlockMoments, Stage};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::eval::perplexity::{PerplexityScorer, perplexity};
use crate::experiment::on_device::{DeviceForecast, OnDevice};
use crate::experiment::plan::{Experiment, UnitRemoval};
use crate::experiment::{asked, forecast};
use crate::memory::Reserved;
use crate::model::edit::Edited;
use crate::model::forward::{Block, Ends, Hidden};
use crate::model::layer_file::LayerFile;
use crate::model::lineage::turned_round;
use crate::model::pruned_before::PrunedBefore;
use crate::model::source::WeightSource;
use crate::progress::Progress;
use crate::prune::allocation::{allocate, survey};
use crate::prune::allocator::{Question, Survey};
use crate::prune::found;
use crate::prune::layer::LayerRecord;
use crate::prune::model::{
    Calibration, PruneTime, PrunedBlock, Supplied, TapStatistics, first_statistics, prune_allocated,
};
use crate::prune::pattern::Pattern;
use crate::prune::recipe::Recipe;
use crate::prune::score::no_file;
use crate::prune::units::dense::Dense;
use crate::prune::workbench::Workbench;
use crate::record::{BlockWidths, EvaluationRecord, StructureRecord};
use crate::spec::ModelSpec;
use std::path::Path;
use std::time::Instant;

/// What is done to a model in one cell.
#[derive(Clone, Copy)]
pub struct Treatment<'a> {
    /// How it is pruned.
    pub recipe: &'a Recipe,
    /// How much is removed.
    pub pattern: Pattern,
    /// The seed of the calibration windows; `None` for recipes that look at weights only.
    pub seed: Option<u64>,
    /// The file that the criterion takes values from, if it does.
    pub file: Option<&'a Path>,
}

/// What the cells of a model ask for together, so that it is computed once.
#[derive(Debug, Clone, Copy)]
pub struct Sharing {
    /// Cells that calibrate with the same seed.
    pub cells_per_seed: usize,
    /// The statistics that all of them need.
    pub needs: Needs,
    /// The gradients that all of them need.
    pub gradients: GradientNeeds,
}

impl Sharing {
    /// One cell alone.
    pub const NONE: Sharing = Sharing {
        cells_per_seed: 1,
        needs: Needs::NOTHING,
        gradients: GradientNeeds::NOTHING,
    };

    /// What the cells of an experiment share.
    ///
    /// # Errors
    /// As [`Experiment::method`].
    pub fn of(experiment: &Experiment) -> Result<Sharing> {
        Ok(Sharing {
            cells_per_seed: experiment.cells_per_seed(),
            needs: asked::needs(experiment)?,
            gradients: asked::gradients(experiment)?,
        })
    }
}

/// Runs the cells of one model, and keeps what they share: the weights outside the blocks, what allocators measured of the dense
/// model and, per seed, the statistics of block 0 or, under [`Stage::Dense`], of all blocks.
pub struct Runner<'a, B: Workbench> {
    backend: &'a B,
    model: &'a Prepared<'a>,
    sharing: Sharing,
    ends: Ends<B>,
    dense: Option<DensePass<B>>,
    first: Option<FirstBlock<B>>,
    /// The gradients of the dense model's loss, and the seed of the windows.
    gradients: Option<(u64, ModelGradients)>,
    surveys: Vec<Surveyed>,
    /// The dense model's streams after its last block, if pruned models are compared with it.
    streams: Option<DenseStreams<B>>,
}

/// What an allocator measured of the dense model.
struct Surveyed {
    question: Question,
    /// The seed of the windows; `None` where only the weights were looked at.
    seed: Option<u64>,
    survey: Survey,
}

/// The moments of all blocks of the dense model.
struct DensePass<B: Workbench> {
    seed: u64,
    needs: Needs,
    moments: Vec<BlockMoments<B>>,
}

/// The statistics of block 0 that all cells of a seed find.
struct FirstBlock<B: Workbench> {
    seed: u64,
    needs: Needs,
    factoring: Factoring,
    statistics: TapStatistics<B>,
    /// Their part of the budget.
    _place: Reserved,
}

impl<B: Workbench> FirstBlock<B> {
    /// Whether these are the statistics that a recipe asks for.
    fn serves(&self, seed: u64, recipe: &Recipe) -> bool {
        self.seed == seed && self.needs.cover(recipe.layer_needs()) && self.factoring == recipe.factoring()
    }
}

/// What a cell found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What happened to every layer; empty for the dense model.
    pub layers: Vec<LayerRecord>,
    /// The fraction of the prunable weights that was removed; `None` for the dense model.
    pub sparsity: Option<f64>,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words; `None` where there was no calibration.
    pub calibration_tokens: Option<String>,
    /// How long pruning took.
    pub time: PruneTime,
    /// The perplexities, in the order of [`Prepared::evaluations`].
    pub evaluations: Vec<EvaluationRecord>,
    /// The scores on zero-shot tasks, in the order of [`Prepared::tasks`], and on prompts, in that of [`Prepared::generations`].
    pub tasks: Vec<TaskFindings>,
    /// What is left of a model that lost whole units.
    pub structure: Option<StructureRecord>,
    /// How much larger the weights are that a mask from a file removed, if it seems to be turned round.
    pub turned_round: Option<f64>,
    /// Measured seconds per token of scoring text, of such a model before and after.
    pub seconds_per_token: Option<[f64; 2]>,
}

impl<'a, B: Workbench> Runner<'a, B> {
    /// Uploads what is outside the blocks.
    ///
    /// # Errors
    /// The weights are unusable, or the backend has no room for them.
    pub fn new(backend: &'a B, model: &'a Prepared<'a>, sharing: Sharing) -> Result<Self> {
        Ok(Runner {
            ends: Ends::upload(backend, model.source)?.within(model.room.clone()),
            backend,
            model,
            sharing,
            dense: None,
            first: None,
            gradients: None,
            surveys: Vec::new(),
            streams: None,
        })
    }

    /// The memory of a device of its own that pruning with a recipe and measuring takes; `None` where there is no such memory.
    pub fn device_forecast(&self, recipe: Option<&Recipe>, windows: Option<&TokenWindows>) -> Option<DeviceForecast> {
        self.backend.free_bytes()?;
        let spec = self.model.source.spec();
        let texts = || self.model.evaluations.iter().map(|text| &text.windows);
        let batches = texts().chain(windows);
        let batches = batches.map(|it| Hidden::windows_of_a_batch(self.backend, spec, it.length()) * it.length());
        let models = if self.compares() { 2 } else { 1 };
        Some(DeviceForecast::new(
            spec,
            &OnDevice {
                recipes: recipe.as_slice(),
                calibrated: windows.map_or(0, |windows| windows.ids().len()),
                evaluated: models * texts().map(|windows| windows.ids().len()).sum::<usize>(),
                stored: self.ends.bytes_per_weight(self.backend),
                batch: batches.max().unwrap_or(0),
            },
        ))
    }

    /// Has residual streams leave the memory on the device that the work beside them takes.
    fn leave_room(&self, recipe: Option<&Recipe>, windows: Option<&TokenWindows>) {
        if let Some(forecast) = self.device_forecast(recipe, windows) {
            self.model.room.leave_on_device(forecast.beside_streams());
        }
    }

    /// The device that computes, where the machine does not say it all.
    pub fn device(&self) -> Option<String> {
        self.backend.device()
    }

    /// The zeros that the model had before any cell, if these are many.
    pub fn pruned_before(&self) -> Option<&PrunedBefore> {
        self.model.pruned_before.as_ref()
    }

    /// Bytes that the model's cells have written to scratch files so far.
    pub fn spilled(&self) -> u64 {
        self.model.room.spilled()
    }

    /// Runs one cell: measures the model as it is, or prunes it first. `take` receives every pruned block as soon as it
    /// is ready, in order.
    ///
    /// # Errors
    /// The weights are unusable, arithmetic breaks down, the backend fails, `take` fails, or `progress` stops it.
    pub fn run(
        &mut self,
        treatment: Option<Treatment>,
        progress: &dyn Progress,
        take: impl FnMut(&PrunedBlock<B>) -> Result<()>,
    ) -> Result<Findings> {
        match treatment {
            Some(treatment) => self.pruned(treatment, progress, take),
            None => {
                let (found, scorers) = self.scored(self.model.source, &self.ends, progress)?;
                if self.compares() {
                    self.streams = Some(DenseStreams::scored(&self.model.evaluations, scorers));
                }
                Ok(found)
            }
        }
    }

    /// Runs one cell whose method removes whole units, `share` of the weights of the blocks' linear layers. What is left is measured
    /// without being written.
    ///
    /// # Errors
    /// As [`Runner::run`], and for units that the model does not have.
    pub fn run_smaller(
        &mut self,
        removal: &UnitRemoval,
        share: f64,
        seed: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Findings> {
        let model = self.model;
        removal.method.check_model(model.source.spec(), share, removal.widths)?;
        let windows = self.windows(seed)?.map(|(_, windows)| windows);
        self.share_streams(progress)?;
        let started = Instant::now();
        let dense = Dense {
            backend: self.backend,
            source: model.source,
            ends: &self.ends,
            windows,
        };
        let edit = removal.method.edit(&dense, share, removal.widths)?;
        let time = PruneTime {
            prune: started.elapsed(),
            ..PruneTime::default()
        };
        let edited = Edited::new(model.source, &edit)?;
        let [before, after] = [model.source.spec(), edited.spec()];
        let (found, scorers) = self.scored(&edited, &self.ends, progress)?;
        let evaluations = self.compared(found.evaluations, (&scorers, &self.ends), self.dense_streams())?;
        drop(scorers);
        let text = sample(windows, before)?;
        let models: [(&dyn WeightSource, &Ends<B>); 2] = [(model.source, &self.ends), (&edited, &self.ends)];
        let seconds_per_token = seconds_per_token(self.backend, models, &text, progress)?;
        // The model is counted as it is measured and would be written, with narrow matrices multiplied out. If no configuration has the
        // biases that it has, it cannot be written.
        let written = Edited::new(model.source, &edit)?.sayable();
        let counts = [
            parameters(before),
            parameters(written.as_ref().map_or(after, |written| written.spec())),
        ];
        let stored = model.stored as f64 / counts[0] as f64 * counts[1] as f64;
        Ok(Findings {
            sparsity: Some(1.0 - edit.counts(before)?.weights as f64 / before.prunable() as f64),
            calibration_tokens: windows.map(TokenWindows::digest),
            time,
            structure: Some(StructureRecord {
                parameters: counts,
                bytes: [model.stored, stored.round() as u64],
                multiply_adds: [before, after].map(multiply_adds),
                blocks: edit.blocks.iter().map(BlockWidths::of).collect(),
            }),
            seconds_per_token: Some(seconds_per_token),
            evaluations,
            ..found
        })
    }

    /// Runs one cell whose model another program pruned: counts its zeros, and measures it as it is.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_given(&mut self, given: &dyn WeightSource, asked: Pattern, progress: &dyn Progress) -> Result<Findings> {
        let layers = found::layers(given, asked)?;
        let removed: usize = layers.iter().map(|layer| layer.removed).sum();
        // Another program may have changed what is outside the blocks, too.
        let ends = Ends::upload(self.backend, given)?.within(self.model.room.clone());
        self.share_streams(progress)?;
        let (found, scorers) = self.scored(given, &ends, progress)?;
        Ok(Findings {
            sparsity: Some(removed as f64 / given.spec().prunable() as f64),
            layers,
            evaluations: self.compared(found.evaluations, (&scorers, &ends), self.dense_streams())?,
            tasks: found.tasks,
            ..Findings::default()
        })
    }

    /// The calibration windows of a seed.
    fn windows(&self, seed: Option<u64>) -> Result<Option<(u64, &'a TokenWindows)>> {
        let of_seed = |seed: u64| {
            let windows = self.model.calibration.get(&seed);
            let missing = || Error::config(format!("there are no calibration windows for seed {seed}"));
            Ok((seed, windows.ok_or_else(missing)?))
        };
        seed.map(of_seed).transpose()
    }

    /// Measures a model as it is, with this embedding and this head. The scorers come with what was found.
    fn scored(
        &self,
        source: &dyn WeightSource,
        ends: &Ends<B>,
        progress: &dyn Progress,
    ) -> Result<(Findings, Vec<PerplexityScorer<'a, B>>)> {
        let spec = source.spec();
        let backend = self.backend;
        self.leave_room(None, None);
        let mut scorers = self.scorers(spec, ends)?;
        let mut tasks = TaskScores::new(&self.model.tasks);
        let passes = tasks.passes(backend, spec);
        if passes.len() > 1 {
            progress.more((passes.len() - 1) * spec.blocks);
        }
        for (pass, range) in passes.into_iter().enumerate() {
            let first = range.start;
            let mut choices = tasks.scorer(backend, spec, ends, range)?;
            for index in 0..spec.blocks {
                let block = Block::load(backend, source, index)?;
                choices.advance(backend, spec, &block)?;
                if pass == 0 {
                    for scorer in &mut scorers {
                        scorer.advance(backend, spec, &block)?;
                    }
                }
                progress.step()?;
            }
            tasks.collect(choices, first, backend, ends, progress)?;
        }
        let evaluations = self.finish(&scorers, ends, progress)?;
        let mut tasks = tasks.findings()?;
        tasks.extend(self.answered_by(source, ends, progress)?);
        let found = Findings {
            evaluations,
            tasks,
            ..Findings::default()
        };
        Ok((found, scorers))
    }

    fn pruned(
        &mut self,
        treatment: Treatment,
        progress: &dyn Progress,
        mut take: impl FnMut(&PrunedBlock<B>) -> Result<()>,
    ) -> Result<Findings> {
        let Treatment {
            recipe,
            pattern,
            seed,
            file,
        } = treatment;
        let model = self.model;
        let spec = model.source.spec();
        let file = match (recipe.criterion.file(), file) {
            (Some(wanted), Some(path)) => Some(LayerFile::open(path, spec, wanted.content)?),
            (Some(_), None) => return Err(no_file()),
            (None, _) => None,
        };
        // The seed of a file says which of several files it is, and not that text is looked at.
        let windows = self.windows(seed.filter(|_| recipe.calibrates()))?;
        self.leave_room(Some(recipe), windows.map(|(_, windows)| windows));
        self.share_streams(progress)?;
        let mut sharing = PruneTime::default();
        if let Some((seed, windows)) = windows {
            let started = Instant::now();
            match recipe.stage {
                Stage::Dense => self.share_dense(seed, windows, recipe.needs())?,
                Stage::Block => self.share_first(seed, windows, recipe)?,
                Stage::Staged | Stage::Separate => {}
            }
            sharing.calibrate = started.elapsed();
        }
        let started = Instant::now();
        let survey = self.surveyed(recipe, windows)?;
        let patterns = {
            let windows = windows.map(|(_, windows)| windows);
            let mut gradients = None;
            let mut trial = |patterns: &[Pattern]| {
                let (file, gradients) = (file.as_ref(), &mut gradients);
                self.tried(recipe, windows, patterns, (file, gradients), progress)
            };
            match file.as_ref().filter(|_| recipe.takes_mask()) {
                Some(mask) => found::patterns(mask, recipe, pattern)?,
                None => allocate(recipe, spec, pattern, &survey, &mut trial)?,
            }
        };
        sharing.allocate = started.elapsed();
        if let Some((seed, windows)) = windows.filter(|_| recipe.gradients().anything()) {
            let started = Instant::now();
            self.share_gradients(seed, windows, recipe.gradients())?;
            sharing.gradients = started.elapsed();
        }
        let calibration = match (windows, recipe.stage, &self.dense) {
            (None, ..) => Calibration::Nothing,
            (Some((_, windows)), Stage::Dense, Some(dense)) => Calibration::Dense {
                moments: &dense.moments,
                sequences: windows.count(),
            },
            (Some((_, windows)), Stage::Staged, _) => Calibration::Staged(windows),
            (Some((_, windows)), Stage::Separate, _) => Calibration::Separate(windows),
            (Some((seed, windows)), ..) => match &self.first {
                Some(first) if first.serves(seed, recipe) => Calibration::Continued {
                    windows,
                    first: &first.statistics,
                },
                _ => Calibration::Windows(windows),
            },
        };
        let mut scorers = self.scorers(spec, &self.ends)?;
        let mut kept = Vec::new();
        // A pruned block exists once, so all documents go through it together.
        let mut tasks = TaskScores::new(&model.tasks);
        let mut choices = tasks.scorer(self.backend, spec, &self.ends, tasks.everything())?;
        let (layers, mut time) = prune_allocated(
            self.backend,
            model.source,
            &self.ends,
            recipe,
            &patterns,
            &calibration,
            Supplied {
                gradients: self.gradients.as_ref().map(|(_, gradients)| gradients),
                file: file.as_ref(),
            },
            |pruned| {
                take(&pruned)?;
                for scorer in &mut scorers {
                    scorer.advance(self.backend, spec, pruned.block)?;
                }
                choices.advance(self.backend, spec, pruned.block)?;
                if self.answers() {
                    kept.push(pruned.block.copy(self.backend)?);
                }
                progress.step()
            },
        )?;
        time += sharing;
        tasks.collect(choices, 0, self.backend, &self.ends, progress)?;
        let mut tasks = tasks.findings()?;
        tasks.extend(self.answered((spec, &self.ends), &kept, progress)?);
        let removed: usize = layers.iter().map(|layer| layer.removed).sum();
        let mask = file.as_ref().filter(|_| recipe.takes_mask());
        Ok(Findings {
            layers,
            sparsity: Some(removed as f64 / spec.prunable() as f64),
            turned_round: mask.map(|mask| turned_round(model.source, mask)).transpose()?.flatten(),
            calibration_tokens: windows.map(|(_, windows)| windows.digest()),
            time,
            evaluations: self.compared(
                self.finish(&scorers, &self.ends, progress)?,
                (&scorers, &self.ends),
                self.dense_streams(),
            )?,
            tasks,
            ..Findings::default()
        })
    }

    /// Makes sure that the dense pass of this seed is there, with everything that any cell will ask of it.
    fn share_dense(&mut self, seed: u64, windows: &TokenWindows, needs: Needs) -> Result<()> {
        let known = self.dense.as_ref();
        if known.is_some_and(|dense| dense.seed == seed && dense.needs.cover(needs)) {
            return Ok(());
        }
        self.dense = None;
        // Other cells may reproduce the dense model's outputs. This pass has only the dense model's inputs, and a solver that
        // found products with others among its statistics would take these for its goal.
        let needs = self.sharing.needs.and(needs).of_one_model();
        let moments = dense_moments(self.backend, self.model.source, &self.ends, windows, needs)?;
        self.dense = Some(DensePass { seed, needs, moments });
        Ok(())
    }

    /// Makes sure that the gradients of this seed are there if a recipe needs some, with everything that any cell will ask of them.
    fn share_gradients(&mut self, seed: u64, windows: &TokenWindows, needs: GradientNeeds) -> Result<()> {
        let known = self.gradients.as_ref();
        if !needs.anything() || known.is_some_and(|(of, gradients)| *of == seed && gradients.cover(needs)) {
            return Ok(());
        }
        self.gradients = None;
        let gradients = self.gradients_on(windows, self.sharing.gradients.and(needs))?;
        self.gradients = Some((seed, gradients));
        Ok(())
    }

    /// The gradients of the dense model's loss on these windows, or those of the file.
    fn gradients_on(&self, windows: &TokenWindows, needs: GradientNeeds) -> Result<ModelGradients> {
        match &self.model.gradients {
            Some(file) => Ok(ModelGradients::read(file.clone())),
            None => ModelGradients::gather(self.backend, self.model.source, &self.ends, windows, needs),
        }
    }

    /// Sees to it that block 0's statistics of this seed are there, if more than one cell may ask for them and the
    /// budget has a place for them: Gram matrices, and their factors. Made for the recipe at hand and made again for
    /// the first that needs more, so that a process with few of the cells makes nothing in vain.
    fn share_first(&mut self, seed: u64, windows: &TokenWindows, recipe: &Recipe) -> Result<()> {
        let needs = recipe.layer_needs();
        let there = self.first.as_ref().is_some_and(|first| first.serves(seed, recipe));
        if there || self.sharing.cells_per_seed < 2 {
            return Ok(());
        }
        self.first = None;
        let source = self.model.source;
        let bytes = forecast::statistics_bytes(source.spec(), windows.count(), needs);
        let Some(place) = self.model.room.reserve(bytes) else {
            return Ok(());
        };
        let statistics = first_statistics(self.backend, source, &self.ends, windows, needs, recipe.factoring())?;
        self.first = Some(FirstBlock {
            seed,
            needs,
            factoring: recipe.factoring(),
            statistics,
            _place: place,
        });
        Ok(())
    }

    /// What the recipe's allocator measures of the dense model: once for all cells whose allocators ask the same of the same text.
    fn surveyed(&mut self, recipe: &Recipe, windows: Option<(u64, &TokenWindows)>) -> Result<Survey> {
        let Some(question) = recipe.allocator.survey() else {
            return Ok(Survey::default());
        };
        let seed = windows.map(|(seed, _)| seed).filter(|_| question.needs.anything());
        let known = self
            .surveys
            .iter()
            .find(|known| known.question == question && known.seed == seed);
        if let Some(known) = known {
            return Ok(known.survey.clone());
        }
        let dense = self.dense.as_ref().zip(windows);
        let dense = dense.filter(|(dense, (seed, _))| dense.seed == *seed && dense.needs.cover(question.needs));
        let survey = survey(
            self.backend,
            self.model.source,
            &self.ends,
            recipe.allocator.as_ref(),
            recipe.provider,
            windows.map(|(_, windows)| windows),
            dense.map(|(dense, (_, windows))| (&dense.moments[..], windows.count())),
        )?;
        self.surveys.push(Surveyed {
            question,
            seed,
            survey: survey.clone(),
        });
        Ok(survey)
    }

    /// The perplexity of the model pruned with these patterns. The last quarter of the calibration windows is held out: the model
    /// is pruned with the others and scored on these, so that no evaluation has a say. `known` keeps the gradients on the others, which
    /// are the same in every trial.
    fn tried(
        &self,
        recipe: &Recipe,
        windows: Option<&TokenWindows>,
        patterns: &[Pattern],
        (file, known): (Option<&LayerFile>, &mut Option<ModelGradients>),
        progress: &dyn Progress,
    ) -> Result<f64> {
        recipe.check_trials()?;
        let few = || {
            Error::config(
                "an allocator that tests shares needs at least 2 calibration windows, because it holds one out; use more \
                           `sequences`",
            )
        };
        let windows = windows.filter(|windows| windows.count() > 1).ok_or_else(few)?;
        let count = windows.count();
        let first = count - count.div_ceil(4);
        let (used, held) = (windows.part(0..first)?, windows.part(first..count)?);
        let calibration = match recipe.stage {
            _ if !recipe.layer_needs().anything() && !recipe.regional().anything() => Calibration::Nothing,
            Stage::Block | Stage::Dense => Calibration::Windows(&used),
            Stage::Staged => Calibration::Staged(&used),
            Stage::Separate => Calibration::Separate(&used),
        };
        let (backend, source) = (self.backend, self.model.source);
        let needs = recipe.gradients();
        if needs.anything() && known.is_none() {
            *known = Some(self.gradients_on(&used, needs)?);
        }
        let mut scorer = PerplexityScorer::new(backend, source.spec(), &self.ends, &held)?;
        prune_allocated(
            backend,
            source,
            &self.ends,
            recipe,
            patterns,
            &calibration,
            Supplied {
                gradients: known.as_ref(),
                file,
            },
            |pruned| {
                scorer.advance(backend, source.spec(), pruned.block)?;
                progress.tried()
            },
        )?;
        perplexity(&scorer.finish(backend, &self.ends, |_| ())?)
    }

    fn scorers(&self, spec: &ModelSpec, ends: &Ends<B>) -> Result<Vec<PerplexityScorer<'a, B>>> {
        let texts = self.model.evaluations.iter();
        texts
            .map(|text| PerplexityScorer::new(self.backend, spec, ends, &text.windows))
            .collect()
    }

    fn finish(
        &self,
        scorers: &[PerplexityScorer<B>],
        ends: &Ends<B>,
        progress: &dyn Progress,
    ) -> Result<Vec<EvaluationRecord>> {
        let each = scorers.iter().zip(&self.model.evaluations);
        each.map(|(scorer, text)| {
            let (name, tokens) = (&text.name, &text.windows);
            let scored = |means: &[f64]| progress.scored(name, means, tokens.count());
            let windows = scorer.finish(self.backend, ends, scored).at(name)?;
            Ok(EvaluationRecord {
                name: name.clone(),
                perplexity: perplexity(&windows).at(name)?,
                tokens: tokens.ids().len(),
                token_digest: tokens.digest(),
                windows,
                to_dense: None,
            })
        })
        .collect()
    }
}
