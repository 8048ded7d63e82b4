//! The types of a resolved experiment, and the grid of its cells.

use super::axis::Axis;
use super::file_names;
use super::machine::{Foreseen, Machine, MachinePlan};
pub use super::method::{
    CheckpointPlan, ComponentPlan, Method, MethodKind, MethodPlan, RecipePlan, StepPlans, UnitRemoval, UnitsPlan,
};
use super::origin::Origin;
use super::protocol::{Averaged, Named};
pub use super::texts::{CalibrationPlan, EvaluationPlan, GenerationPlan, GenerationSettings, TaskPlan};
use crate::calibrate::Stage;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::error::{Error, Located, Result};
use crate::hub::Repository;
use crate::hub::datasets::PREFIX;
use crate::linalg::Provider;
use crate::model::layer_file::Content;
use crate::prune::allocation;
use crate::prune::pattern::{Pattern, Selection};
use crate::prune::recipe::Recipe;
use crate::prune::units::UnitMethod;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Label of the unpruned model in tables.
pub const DENSE: &str = "dense";

/// An experiment with everything decided that its file leaves open: what is computed, on what, and how it is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Name of the experiment, and of its results folder.
    pub name: String,
    /// One question, in a sentence.
    pub description: String,
    /// Confidence of the intervals that reports show, such as 0.95.
    pub confidence: f64,
    /// Pairs of axes of which the report has tables: the values of the first are rows, those of the second columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<[Axis; 2]>,
    /// The backend that is to compute, its precision and its memory.
    #[serde(flatten)]
    pub machine: MachinePlan,
    /// The library that factorises matrices.
    pub linear_algebra: Provider,
    /// The protocol that the settings follow, if they follow one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether texts start with the tokenizer's special tokens.
    #[serde(default, skip_serializing_if = "Bos::is_default")]
    pub bos: Bos,
    /// How many weights are removed if scores are equal.
    pub selection: Selection,
    /// The seeds with which calibration windows are drawn; methods that calibrate have a cell for each.
    pub seeds: Vec<u64>,
    /// The sparsity patterns; every method has cells for each.
    pub patterns: Vec<Pattern>,
    /// Where calibration windows come from; `None` if no method calibrates.
    pub calibration: Option<CalibrationPlan>,
    /// The models that are pruned and measured.
    pub models: Vec<ModelPlan>,
    /// The pruning methods that are compared.
    pub methods: Vec<MethodPlan>,
    /// The texts on which perplexity is measured.
    pub evaluations: Vec<EvaluationPlan>,
    /// Families of comparisons; without any, every pair of methods is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Published values that reports show beside ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// The zero-shot tasks that every cell's model is scored on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskPlan>,
    /// The prompts that every cell's model answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationPlan>,
    /// Where it was written, for messages about files that it names.
    #[serde(skip)]
    pub origin: Origin,
}

/// A model that is pruned and measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Label of the model in tables.
    pub name: String,
    /// Model directory; for a model of the hub, `hub:` and its repository.
    pub path: PathBuf,
    /// The commit the hub's revision stood for when the experiment ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How the user can get what is missing: a sentence for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// Where on the hub the model is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<Repository>,
    /// What the unpruned model is known to score, by evaluation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<String, Expected>,
}

/// A perplexity that is known beforehand: where the dense run is off, tokens, context or weights are not
/// those of the run one compares with, and pruning would be wasted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The perplexity that is known.
    pub perplexity: f64,
    /// How far the dense run may be off, as a fraction of it.
    pub tolerance: f64,
}

/// A family: one method against others, on every model, pattern, evaluation and task named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the family in tables.
    pub family: String,
    /// Label of the method that is compared.
    pub ours: String,
    /// Labels of the methods it is compared with.
    pub against: Vec<String>,
    /// Labels of methods that are compared along an axis, each with the one it is compared with; then there are no `ours`
    /// and `against`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<(String, String)>,
    /// Labels of the models on which the methods are compared.
    pub models: Vec<String>,
    /// The patterns under which the methods are compared.
    pub patterns: Vec<Pattern>,
    /// Labels of the evaluations by which the methods are compared.
    pub evaluations: Vec<String>,
    /// Names of the zero-shot tasks by which the methods are compared.
    pub tasks: Vec<String>,
}

/// Published values of several methods on one model, under one pattern, by one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Where the values are printed.
    pub source: String,
    /// How they were obtained, as far as the source says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Label of the model that the values are of.
    pub model: String,
    /// The pattern; none where there is only the unpruned model's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Label of the evaluation, for perplexities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<String>,
    /// Name of the zero-shot task, for accuracies in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Number of documents of the task that the values rest on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<usize>,
    /// Values by label of the method.
    pub values: BTreeMap<String, f64>,
    /// Standard deviations over calibration seeds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deviations: BTreeMap<String, f64>,
}

/// One run of the grid, by position in the experiment's lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Index of the model in the experiment's list.
    pub model: usize,
    /// What is done to it; `None` measures the dense model.
    pub pruning: Option<Pruning>,
}

/// What a cell does to its model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// Index of the method in the experiment's list.
    pub method: usize,
    /// How much is removed: the pattern that the allocator starts from.
    pub pattern: Pattern,
    /// Calibration seed, or that of the file of another program, for methods that have one.
    pub seed: Option<u64>,
}

/// Confidence that intervals may have. Their ends are quantiles of resampled means: above, an end rests on less than five
/// of them, and soon on none. Below, an interval misses more often than it covers.
pub const CONFIDENCE: RangeInclusive<f64> = 0.5..=0.999;

/// Checks the confidence of a report's intervals.
///
/// # Errors
/// It is no such fraction.
pub fn check_confidence(confidence: f64) -> Result<()> {
    match CONFIDENCE.contains(&confidence) {
        true => Ok(()),
        false => Err(Error::config(format!(
            "confidence {confidence} must be between {} and {}, such as 0.95",
            CONFIDENCE.start(),
            CONFIDENCE.end()
        ))),
    }
}

impl Experiment {
    /// Makes a method ready to use.
    ///
    /// # Errors
    /// Never for a resolved experiment; a plan file edited by hand may name things that do not exist.
    pub fn method(&self, index: usize) -> Result<Method> {
        let method = &self.methods[index];
        Ok(match &method.kind {
            MethodKind::Recipe(recipe) => Method::Recipe(Box::new(Recipe {
                stage: self.stage(method),
                ..recipe.build(self.selection, self.linear_algebra)?
            })),
            MethodKind::Units(units) => Method::Units(units.build()?),
            MethodKind::Checkpoint(_) => Method::Checkpoint,
        })
    }

    /// The recipe of a method; none if it removes whole units, or if another program pruned the model.
    ///
    /// # Errors
    /// As [`Experiment::method`].
    pub fn recipe(&self, index: usize) -> Result<Option<Recipe>> {
        Ok(match self.method(index)? {
            Method::Recipe(recipe) => Some(*recipe),
            Method::Units(_) | Method::Checkpoint => None,
        })
    }

    /// The recipes of all methods that have one.
    ///
    /// # Errors
    /// As [`Experiment::method`].
    pub fn recipes(&self) -> Result<Vec<Recipe>> {
        let recipes = (0..self.methods.len()).map(|index| self.recipe(index));
        Ok(recipes.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The methods that remove whole units, ready to use, each with its place.
    ///
    /// # Errors
    /// As [`Experiment::method`].
    pub fn removals(&self) -> Result<Vec<(usize, UnitRemoval)>> {
        let mut removals = Vec::new();
        for index in 0..self.methods.len() {
            if let Method::Units(removal) = self.method(index)? {
                removals.push((index, removal));
            }
        }
        Ok(removals)
    }

    /// Checks that a method's steps suit its calibration and the patterns.
    ///
    /// # Errors
    /// A target that needs another stage, a permutation without N:M groups, trials or gradients without calibration windows for them, or
    /// whole units that cannot make up the patterns.
    pub fn check(&self, method: &MethodPlan) -> Result<()> {
        method.check_place(&self.patterns, &self.seeds)?;
        let patterns = self.patterns.iter().copied().filter(|it| method.wants(it));
        let patterns: Vec<Pattern> = patterns.collect();
        let plan = match &method.kind {
            MethodKind::Recipe(plan) => plan,
            MethodKind::Units(units) => {
                units.check(&patterns)?;
                return self.check_tokens(units.build()?.method.as_ref());
            }
            MethodKind::Checkpoint(_) => return Ok(()),
        };
        let stage = self.stage(method);
        plan.target.check(stage)?;
        plan.check_patterns(&patterns)?;
        let recipe = plan.build(self.selection, self.linear_algebra)?;
        let recipe = Recipe { stage, ..recipe };
        plan.check_allocator(&recipe)?;
        recipe.check_trials()?;
        recipe.check_regional()?;
        recipe.check_transform()?;
        let weighted = self.weighs_tokens();
        let transform = recipe.transform.as_deref();
        if weighted && transform.is_some_and(|transform| transform.learning().is_some()) {
            return Err(Error::config(
                "sampling = \"answers\" gives calibration tokens different weights, but the transform learns from a loss in which all \
                 tokens count the same; use another `sampling` or another transform",
            ));
        }
        match weighted && recipe.regional().anything() {
            false => Ok(()),
            true => Err(Error::config(
                "sampling = \"answers\" gives calibration tokens different weights, but in gradients of a block's outputs all tokens \
                 count the same; use another `sampling`, or a method without such gradients",
            )),
        }
    }

    /// Whether calibration tokens have weights.
    fn weighs_tokens(&self) -> bool {
        let mut plans = self.calibration.iter();
        plans.any(|plan| plan.sampling == Some(Sampling::Answers))
    }

    /// Checks that a method of whole units can use the calibration tokens.
    ///
    /// # Errors
    /// They have weights, and the method has no use for these.
    pub fn check_tokens(&self, method: &dyn UnitMethod) -> Result<()> {
        match self.weighs_tokens() && method.calibrates() && !method.weighs_tokens() {
            false => Ok(()),
            true => Err(Error::config(
                "sampling = \"answers\" gives calibration tokens different weights, but for this method all tokens count the same; use \
                 another `sampling`, or `llm-pruner`, whose loss has these weights",
            )),
        }
    }

    /// The file of another program that a cell's method takes values from, and what these are.
    pub fn file(&self, cell: &Cell) -> Option<(PathBuf, Content)> {
        let pruning = cell.pruning.as_ref()?;
        let (name, content) = self.methods[pruning.method].file()?;
        let model = &self.models[cell.model].name;
        let filled = file_names::filled(&name, model, &pruning.pattern, pruning.seed);
        Some((filled.into(), content))
    }

    /// The path that the experiment has for what another program made for a cell, with the parts that each cell fills in; empty for other
    /// cells.
    pub fn named(&self, cell: &Cell) -> PathBuf {
        let outside = cell.pruning.and_then(|pruning| self.methods[pruning.method].outside());
        PathBuf::from(outside.unwrap_or_default())
    }

    /// Where the checkpoint of a cell is that another program pruned, if it is such a cell: its path or its name on the hub, and its
    /// repository there.
    ///
    /// # Errors
    /// The name cannot be one of the hub.
    pub fn checkpoint(&self, cell: &Cell) -> Result<Option<(PathBuf, Option<Repository>)>> {
        let Some(pruning) = cell.pruning else {
            return Ok(None);
        };
        let MethodKind::Checkpoint(plan) = &self.methods[pruning.method].kind else {
            return Ok(None);
        };
        let (name, model) = (plan.checkpoint.to_string_lossy(), &self.models[cell.model].name);
        let filled = file_names::filled(&name, model, &pruning.pattern, pruning.seed);
        let repository = filled.strip_prefix(PREFIX).map(|name| match name.split_once('@') {
            Some((name, revision)) => Repository::model(name, Some(revision)),
            None => Repository::model(name, None),
        });
        Ok(Some((PathBuf::from(&filled), repository.transpose()?)))
    }

    /// Whether the checkpoint of a cell need not resemble the model in whose row it stands.
    pub fn retrained(&self, cell: &Cell) -> bool {
        let kind = cell.pruning.map(|pruning| &self.methods[pruning.method].kind);
        matches!(kind, Some(MethodKind::Checkpoint(plan)) if plan.retrained)
    }

    /// Checks that a file of gradients is of use to some method.
    ///
    /// # Errors
    /// No method uses gradients of the model's loss.
    pub fn check_gradients(&self) -> Result<()> {
        let there = self.calibration.iter().any(|plan| plan.gradients.is_some());
        if !there {
            return Ok(());
        }
        match self.recipes()?.iter().any(|recipe| recipe.gradients().anything()) {
            true => Ok(()),
            false => Err(Error::config(
                "`gradients` is a file of gradients of the model's loss, and no method uses them; leave it out, or use a method such as gblm",
            )),
        }
    }

    /// Checks the shares that methods give a model's layers, as far as its shape decides them.
    ///
    /// # Errors
    /// An allocator names layers that the model does not have, or its shares are impossible.
    pub fn check_shares(&self, spec: &ModelSpec) -> Result<()> {
        for (index, method) in self.methods.iter().enumerate() {
            let Some(recipe) = self.recipe(index)? else {
                continue;
            };
            for pattern in self.patterns.iter().filter(|it| method.takes(it)) {
                allocation::check(&recipe, spec, *pattern).at(&method.name)?;
            }
        }
        Ok(())
    }

    /// What a method's statistics are gathered on: which units are left is decided on the dense model.
    pub fn stage(&self, method: &MethodPlan) -> Stage {
        let calibration = self.calibration.as_ref();
        match &method.kind {
            MethodKind::Recipe(recipe) => recipe.stage.or(calibration.map(|plan| plan.stage)).unwrap_or_default(),
            MethodKind::Units(_) | MethodKind::Checkpoint(_) => Stage::Dense,
        }
    }

    /// Which accuracy of a task counts in averages over tasks: the protocol says it.
    pub fn averaged(&self) -> Averaged {
        let named = self.protocol.as_ref().and_then(|name| Named::find(name).ok());
        named.map_or(Averaged::Plain, |protocol| protocol.settings.averaged)
    }

    /// What is answered right or wrong, document by document, by name: zero-shot tasks and prompts.
    pub fn answered(&self) -> impl Iterator<Item = &str> {
        let tasks = self.tasks.iter().map(|plan| plan.name.as_str());
        tasks.chain(self.generations.iter().map(|plan| plan.name.as_str()))
    }

    /// Whether any text is tokenised; otherwise a model needs no tokenizer.
    pub fn reads_texts(&self) -> bool {
        let calibration = self.calibration.iter().any(|plan| plan.corpus.is_some());
        let evaluations = self.evaluations.iter().any(|plan| plan.corpus.is_some());
        calibration || evaluations || !self.tasks.is_empty() || !self.generations.is_empty()
    }

    /// All cells, in the order they run: per model the dense one, then seed by seed, so that an
    /// interrupted sweep has whole tables of fewer seeds. A method without seeds runs once.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        let seeded: Vec<bool> = self.methods.iter().map(MethodPlan::seeded).collect();
        for model in 0..self.models.len() {
            cells.push(Cell { model, pruning: None });
            let mut seeds: Vec<Option<u64>> = self.seeds.iter().copied().map(Some).collect();
            if seeds.is_empty() {
                seeds.push(None);
            }
            for (round, seed) in seeds.into_iter().enumerate() {
                for pattern in &self.patterns {
                    for (method, plan) in self.methods.iter().enumerate() {
                        let wanted = match plan.seed {
                            Some(only) => seed == Some(only),
                            None => seeded[method] || round == 0,
                        };
                        if plan.takes(pattern) && wanted {
                            let pruning = Pruning {
                                method,
                                pattern: *pattern,
                                seed: seed.filter(|_| seeded[method]),
                            };
                            cells.push(Cell {
                                model,
                                pruning: Some(pruning),
                            });
                        }
                    }
                }
            }
        }
        cells
    }

    /// Cells of one model that calibrate with the same seed.
    pub fn cells_per_seed(&self) -> usize {
        let calibrated = self.methods.iter().filter(|method| method.calibrated);
        calibrated.map(|method| self.patterns_of(method)).sum()
    }

    /// How many of the patterns a method has cells for.
    fn patterns_of(&self, method: &MethodPlan) -> usize {
        self.patterns.iter().filter(|pattern| method.takes(pattern)).count()
    }

    /// How many cells there are.
    pub(super) fn count(&self) -> usize {
        let cells = self.methods.iter().map(|method| {
            let rounds = match (method.seed, method.seeded()) {
                (None, true) => self.seeds.len().max(1),
                _ => 1,
            };
            rounds.saturating_mul(self.patterns_of(method))
        });
        let of_model = cells.fold(1, usize::saturating_add);
        of_model.saturating_mul(self.models.len())
    }

    /// Who computes the experiment on this machine.
    ///
    /// # Errors
    /// As [`MachinePlan::here`].
    pub fn machine_here(&self) -> Result<Machine> {
        self.machine.here(self.linear_algebra)
    }

    /// Who would compute it, for those who only plan.
    ///
    /// # Errors
    /// As [`MachinePlan::foreseen`].
    pub fn machine_foreseen(&self) -> Result<Foreseen> {
        self.machine.foreseen(self.linear_algebra)
    }

    /// The label of a cell's method.
    pub fn method_name(&self, cell: &Cell) -> &str {
        match &cell.pruning {
            Some(pruning) => &self.methods[pruning.method].name,
            None => DENSE,
        }
    }

    /// A cell in words: `tiny-llama, wanda, 50 %, seed 0`.
    pub fn describe(&self, cell: &Cell) -> String {
        let model = &self.models[cell.model].name;
        match &cell.pruning {
            None => format!("{model}, {DENSE}"),
            Some(pruning) => {
                let seed = pruning.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
                format!(
                    "{model}, {}, {}{seed}",
                    self.methods[pruning.method].name, pruning.pattern
                )
            }
        }
    }
}
