//! The content-derived id of a cell: a hash of everything that decides its numbers, and of nothing else.
//!
//! Labels, paths, descriptions and the place of a cell in its sweep are left out, so renaming a method
//! or moving a model folder does not throw results away; changing one weight, one parameter or one
//! byte of a corpus does.

use super::inputs::{self, FileInput, Inputs, ModelIdentity};
use super::machine::{Machine, Processor};
use super::plan::{
    CalibrationPlan, Cell, ComponentPlan, Experiment, GenerationSettings, MethodKind, MethodPlan, Pruning, RecipePlan,
    StepPlans, UnitsPlan,
};
use super::texts::is_false;
use crate::backend::Compute;
use crate::calibrate::{Goal, Stage};
use crate::data::corpus::Join;
use crate::data::digest;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::eval::tasks::{Harness, TASKS};
use crate::linalg::Provider;
use crate::model::layer_file::Content;
use crate::prune::criterion::normal_form;
use crate::prune::pattern::{Group, Pattern, Selection};
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};

/// Raised by every change of zprune that changes numbers, so that old records are not mistaken for new ones.
pub const NUMBERS: u32 = 3;

/// The same for changes that only a GPU sees.
pub const GPU_NUMBERS: u32 = 5;

/// Added to either for weights that are removed by statistics of the dense model ([`Stage::Dense`]). Raised by changes that only
/// these cells see.
pub const DENSE_NUMBERS: u32 = 1;

/// The parameter of a criterion that names a file.
const PATH: &str = "path";

/// What stands for it in an id: the SHA-256 of the file.
pub const CONTENT: &str = "sha256";

/// The first [`NUMBERS`] that came after every record and every `pruning.json` had a checksum.
const SEALED: u32 = 3;

/// The first [`GPU_NUMBERS`] that came after every record and every `pruning.json` had a checksum.
const GPU_SEALED: u32 = 4;

/// Everything that decides a cell's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// [`NUMBERS`] of the zprune that computes; on a GPU, [`GPU_NUMBERS`]. [`DENSE_NUMBERS`] are added under [`Stage::Dense`].
    pub numbers: u32,
    /// Who computed: `cpu` or `gpu`.
    pub backend: String,
    /// What weights and activations were stored in.
    #[serde(default, skip_serializing_if = "Compute::is_default")]
    pub compute: Compute,
    /// Hashes of the files of the model.
    pub model: ModelIdentity,
    /// What was done to it; absent for the dense model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruning: Option<PruningIdentity>,
    /// What was measured, in the experiment's order.
    pub evaluations: Vec<EvaluationIdentity>,
    /// Zero-shot tasks, in the experiment's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskIdentity>,
    /// Prompts that were answered, in the experiment's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationIdentity>,
}

/// A pruning run without its labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruningIdentity {
    /// What was done.
    #[serde(flatten)]
    pub kind: PruningKind,
    /// Calibration; absent for methods that look at weights only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationIdentity>,
}

/// What was removed, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PruningKind {
    /// Single weights, by a recipe.
    Recipe(Box<RecipeIdentity>),
    /// Heads, neurons or blocks.
    Units(UnitsIdentity),
    /// What another program removed.
    Checkpoint(CheckpointIdentity),
}

/// A recipe under a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeIdentity {
    /// Decided how important each weight is.
    pub criterion: ComponentPlan,
    /// Computed the new values of the weights that were kept.
    pub solver: ComponentPlan,
    /// Decided how much was removed from each layer.
    pub allocator: ComponentPlan,
    /// The steps that a method may do without.
    #[serde(flatten)]
    pub steps: StepPlans,
    /// The outputs that the solver reproduced.
    #[serde(default, skip_serializing_if = "Goal::is_default")]
    pub target: Goal,
    /// The group of weights among which the lowest scores were removed; absent for N:M patterns, which have groups of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// How much was removed: the pattern that the allocator started from.
    pub pattern: Pattern,
    /// How many weights were removed if scores were equal.
    pub selection: Selection,
}

/// A method of whole units under a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitsIdentity {
    /// Decided which units are left, and whether blocks have equal sizes.
    #[serde(flatten)]
    pub plan: UnitsPlan,
    /// How much was to be removed: always a fraction.
    pub pattern: Pattern,
}

/// A model that another program pruned, under the pattern in whose row it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointIdentity {
    /// Hashes of its files; its tokenizer is not used.
    pub checkpoint: ModelIdentity,
    /// The pattern that it was said to have.
    pub pattern: Pattern,
    /// The seed that it was said to come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl PruningIdentity {
    /// The recipe; none where whole units were removed, or where another program pruned the model.
    pub fn recipe(&self) -> Option<&RecipeIdentity> {
        match &self.kind {
            PruningKind::Recipe(recipe) => Some(recipe.as_ref()),
            PruningKind::Units(_) | PruningKind::Checkpoint(_) => None,
        }
    }

    /// Whether whole units were removed.
    pub fn is_of_units(&self) -> bool {
        matches!(self.kind, PruningKind::Units(_))
    }

    /// Whether another program pruned the model.
    pub fn is_checkpoint(&self) -> bool {
        matches!(self.kind, PruningKind::Checkpoint(_))
    }

    /// How much was removed.
    pub fn pattern(&self) -> Pattern {
        match &self.kind {
            PruningKind::Recipe(recipe) => recipe.pattern,
            PruningKind::Units(units) => units.pattern,
            PruningKind::Checkpoint(checkpoint) => checkpoint.pattern,
        }
    }

    /// The components of all steps.
    pub fn components(&self) -> impl Iterator<Item = &ComponentPlan> {
        let (recipe, units) = match &self.kind {
            PruningKind::Recipe(recipe) => (Some(recipe.as_ref()), None),
            PruningKind::Units(units) => (None, Some(&units.plan.units)),
            PruningKind::Checkpoint(_) => (None, None),
        };
        recipe.into_iter().flat_map(RecipeIdentity::components).chain(units)
    }
}

impl PruningKind {
    /// What a method removes under a pattern; `None` if another program did. `file` is the file of another program that its criterion
    /// takes values from, and the seed that it came from.
    pub fn of(
        method: &MethodPlan,
        pattern: Pattern,
        selection: Selection,
        file: Option<(&FileInput, Option<u64>)>,
    ) -> Option<Self> {
        match &method.kind {
            MethodKind::Recipe(recipe) => {
                let recipe = RecipeIdentity::of(recipe, pattern, selection, file);
                Some(PruningKind::Recipe(Box::new(recipe)))
            }
            MethodKind::Units(plan) => Some(PruningKind::Units(UnitsIdentity {
                plan: plan.clone(),
                pattern,
            })),
            MethodKind::Checkpoint(_) => None,
        }
    }
}

impl RecipeIdentity {
    /// `file` is the file of another program that the criterion takes values from, and the seed that it came from.
    fn of(
        recipe: &RecipePlan,
        pattern: Pattern,
        selection: Selection,
        file: Option<(&FileInput, Option<u64>)>,
    ) -> Self {
        RecipeIdentity {
            criterion: match file {
                Some((file, seed)) => read_from(&recipe.criterion, file, seed),
                None => settled(&recipe.criterion),
            },
            solver: recipe.solver.clone(),
            allocator: recipe.allocator.clone(),
            steps: recipe.steps.clone(),
            target: recipe.target,
            group: match pattern {
                Pattern::Unstructured { .. } => Some(recipe.group),
                Pattern::NofM { .. } => None,
            },
            pattern,
            selection,
        }
    }

    /// Whether every layer was given the pattern of the whole: a mask from a file has one for each layer.
    pub fn is_even(&self) -> bool {
        self.allocator.name == "uniform" && self.criterion.name != "mask"
    }

    /// The components of all steps.
    pub fn components(&self) -> impl Iterator<Item = &ComponentPlan> {
        let required = [&self.criterion, &self.solver, &self.allocator];
        required.into_iter().chain(self.steps.components())
    }
}

/// Everything about calibration that decides numbers: hashes in place of paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationIdentity {
    /// SHA-256 of the corpus file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<String>,
    /// SHA-256 of the token windows file that took the corpus's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// SHA-256 of the file whose gradients the method used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<String>,
    /// How the corpus's rows became one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// How windows were drawn from the corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Whether texts started with the tokenizer's special tokens.
    #[serde(default, skip_serializing_if = "Bos::is_default")]
    pub bos: Bos,
    /// Number of windows that were drawn.
    pub sequences: usize,
    /// Number of tokens in a window.
    pub length: usize,
    /// What a layer's statistics were gathered on.
    #[serde(rename = "propagate")]
    pub stage: Stage,
    /// The seed with which the windows were drawn.
    pub seed: u64,
    /// The library that factorised matrices.
    pub linear_algebra: Provider,
}

/// An evaluation without its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationIdentity {
    /// SHA-256 of the corpus file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<String>,
    /// SHA-256 of the token windows file that took the corpus's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// How the corpus's rows became one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Number of rows of the corpus, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Whether texts started with the tokenizer's special tokens.
    #[serde(default, skip_serializing_if = "Bos::is_default")]
    pub bos: Bos,
    /// Number of tokens in a window.
    pub length: usize,
    /// Number of windows, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
    /// Whether predictions were compared with the dense model's; never those of the dense model itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compare_to_dense: bool,
}

/// A zero-shot task without its path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskIdentity {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// The harness's version number of the task.
    pub version: u32,
    /// SHA-256 of the data file.
    pub data: String,
    /// Number of documents, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The generation of lm-evaluation-harness whose scores were reproduced.
    pub harness: Harness,
}

/// Prompts without their paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationIdentity {
    /// Label of the prompts.
    pub name: String,
    /// SHA-256 of the file of prompts.
    pub prompts: String,
    /// SHA-256 of the file of examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<String>,
    /// What decides the result beside the files.
    #[serde(flatten)]
    pub settings: GenerationSettings,
    /// SHA-256 of the chat template and of the tokens that it may name, where conversations are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// The tokens that end an answer.
    pub ends: Vec<u32>,
}

impl Identity {
    /// The identity of a cell, from the plan, the machine and the hashes of the files the cell depends on; `None` where one
    /// of these is missing.
    pub fn of(experiment: &Experiment, machine: Machine, inputs: &Inputs, cell: &Cell) -> Option<Identity> {
        let model = inputs.models[cell.model].as_ref()?;
        let (evaluations, tasks) = (inputs::all(&inputs.evaluations)?, inputs::all(&inputs.tasks)?);
        let generations = inputs::all(&inputs.generations)?;
        let folder = inputs.folders[cell.model].as_ref()?;
        let calibrated = |pruning: &Pruning| experiment.methods[pruning.method].calibrated;
        let seed = cell.pruning.filter(calibrated).and_then(|pruning| pruning.seed);
        let (file, selection) = match experiment.file(cell) {
            // A mask from a file has no equal scores to decide between.
            Some((path, Content::Mask)) => (Some(inputs.values.get(&path)?), Selection::Exact),
            Some((path, _)) => (Some(inputs.values.get(&path)?), experiment.selection),
            None => (None, experiment.selection),
        };
        let checkpoint = match experiment.checkpoint(cell).ok()? {
            Some((path, _)) => Some(inputs.checkpoints.get(&path)?.identity.clone()),
            None => None,
        };
        let calibration_file = match seed {
            Some(seed) => Some(inputs.calibration.get(&seed)?.digest.as_str()),
            None => None,
        };
        let spec = model.checkpoint.spec();
        let read = experiment.calibration.iter().any(|plan| plan.gradients.is_some());
        let used = |method: usize| {
            let recipe = experiment.recipe(method);
            recipe.is_ok_and(|recipe| recipe.is_some_and(|recipe| recipe.gradients().anything()))
        };
        let gradients = match cell.pruning.is_some_and(|pruning| read && used(pruning.method)) {
            true => Some(inputs.gradients.as_ref()?.digest.clone()),
            false => None,
        };
        let pruned = |pruning: Pruning| {
            let method = &experiment.methods[pruning.method];
            let calibration = experiment.calibration.as_ref().zip(seed).zip(calibration_file);
            let own_seed = pruning.seed.filter(|_| seed.is_none());
            let file = file.map(|file| (file, own_seed));
            Some(PruningIdentity {
                kind: match &checkpoint {
                    Some(checkpoint) => PruningKind::Checkpoint(CheckpointIdentity {
                        checkpoint: checkpoint.clone(),
                        pattern: pruning.pattern,
                        seed: own_seed,
                    }),
                    None => PruningKind::of(method, pruning.pattern, selection, file)?,
                },
                calibration: calibration.map(|((plan, seed), digest)| CalibrationIdentity {
                    stage: experiment.stage(method),
                    gradients: gradients.clone(),
                    ..CalibrationIdentity::of(plan, seed, digest, experiment, spec)
                }),
            })
        };
        let pruning = match cell.pruning {
            Some(pruning) => Some(pruned(pruning)?),
            None => None,
        };
        let evaluations = experiment
            .evaluations
            .iter()
            .zip(evaluations)
            .map(|(plan, input)| EvaluationIdentity {
                corpus: plan.corpus.as_ref().map(|_| input.digest.clone()),
                tokens: plan.tokens.as_ref().map(|_| input.digest.clone()),
                join: plan.join,
                rows: plan.rows,
                bos: bos(experiment, plan.tokens.is_some()),
                length: plan.length.of(spec),
                windows: plan.windows,
                compare_to_dense: plan.compare_to_dense && cell.pruning.is_some(),
            })
            .collect();
        let dense = |pruning: &PruningIdentity| {
            let staged = pruning.calibration.as_ref().map(|calibration| calibration.stage);
            pruning.recipe().is_some() && staged == Some(Stage::Dense)
        };
        let numbers = match machine.backend {
            Processor::Cpu => NUMBERS,
            Processor::Gpu => GPU_NUMBERS,
        };
        Some(Identity {
            numbers: match pruning.as_ref().is_some_and(dense) {
                true => numbers + DENSE_NUMBERS,
                false => numbers,
            },
            backend: machine.backend.to_string(),
            compute: machine.compute,
            model: model.identity.clone(),
            pruning,
            evaluations,
            tasks: experiment
                .tasks
                .iter()
                .zip(tasks)
                .map(|(plan, input)| TaskIdentity {
                    name: plan.name.clone(),
                    version: TASKS.find(&plan.name).map_or(0, |entry| entry.item.version),
                    data: input.digest.clone(),
                    limit: plan.limit,
                    harness: plan.harness,
                })
                .collect(),
            generations: experiment
                .generations
                .iter()
                .zip(generations)
                .map(|(plan, files)| GenerationIdentity {
                    name: plan.name.clone(),
                    prompts: files.prompts.digest.clone(),
                    examples: files.examples.as_ref().map(|file| file.digest.clone()),
                    settings: plan.settings.clone(),
                    chat_template: folder
                        .chat
                        .as_ref()
                        .filter(|_| plan.settings.chat)
                        .map(|chat| chat.digest().to_string()),
                    ends: folder.ends.clone(),
                })
                .collect(),
        })
    }

    /// Whether the zprune that had these numbers wrote a checksum with them: then a file without one was changed.
    pub fn is_sealed(&self) -> bool {
        let first = if self.backend == "gpu" { GPU_SEALED } else { SEALED };
        self.numbers >= first
    }

    /// The identity that the same cell has now, if a formula in it was written down with other names for the same things, or with a group
    /// that another one took the place of.
    pub fn renamed(&self) -> Option<Identity> {
        let mut identity = self.clone();
        let Some(PruningKind::Recipe(recipe)) = identity.pruning.as_mut().map(|pruning| &mut pruning.kind) else {
            return None;
        };
        let criterion = settled(&recipe.criterion);
        if criterion == recipe.criterion {
            return None;
        }
        recipe.criterion = criterion;
        Some(identity)
    }

    /// The first sixteen hexadecimal digits of the identity's SHA-256; among a million cells a clash has probability 3e-8.
    pub fn id(&self) -> String {
        let text = serde_json::to_vec(self).expect("an identity holds nothing that JSON cannot");
        digest::of_bytes(&text)[..16].to_string()
    }
}

impl CalibrationIdentity {
    fn of(plan: &CalibrationPlan, seed: u64, digest: &str, experiment: &Experiment, spec: &ModelSpec) -> Self {
        CalibrationIdentity {
            corpus: plan.corpus.as_ref().map(|_| digest.to_string()),
            tokens: plan.tokens.as_ref().map(|_| digest.to_string()),
            gradients: None,
            join: plan.join,
            sampling: plan.sampling,
            bos: bos(experiment, plan.tokens.is_some()),
            sequences: plan.sequences,
            length: plan.length.of(spec),
            stage: plan.stage,
            seed,
            linear_algebra: experiment.linear_algebra,
        }
    }
}

/// The identities of all cells, in the experiment's order; `None` where a file they depend on is missing.
pub fn identify(experiment: &Experiment, machine: Machine, inputs: &Inputs) -> Vec<Option<Identity>> {
    let cells = experiment.cells();
    let of = |cell: &Cell| Identity::of(experiment, machine, inputs, cell);
    cells.iter().map(of).collect()
}

/// The criterion that is a formula, and the keys of its formula and of its group.
const EXPRESSION: &str = "expression";
const GROUP: &str = "group";

/// A criterion as ids have it. A formula is in its normal form. Its own group is always the usual one, since the group that counts is the
/// recipe's.
fn settled(criterion: &ComponentPlan) -> ComponentPlan {
    let mut criterion = criterion.clone();
    if criterion.name != EXPRESSION {
        return criterion;
    }
    if let Some(parameters) = criterion.parameters.as_object_mut() {
        if let Some(group) = parameters.get_mut(GROUP) {
            *group = Group::Row.to_string().into();
        }
        if let Some(text) = parameters.get_mut(EXPRESSION)
            && let Some(normal) = text.as_str().and_then(normal_form)
        {
            *text = normal.into();
        }
    }
    criterion
}

/// A criterion whose file stands for its content.
fn read_from(criterion: &ComponentPlan, file: &FileInput, seed: Option<u64>) -> ComponentPlan {
    let mut criterion = criterion.clone();
    if let Some(parameters) = criterion.parameters.as_object_mut() {
        parameters.remove(PATH);
        parameters.insert(CONTENT.to_string(), file.digest.clone().into());
        // Two seeds may have the same file, and have a cell each nevertheless.
        parameters.extend(seed.map(|seed| ("seed".to_string(), seed.into())));
    }
    criterion
}

/// Tokens that come from a file are what they are, whatever a tokenizer would have done.
fn bos(experiment: &Experiment, from_tokens: bool) -> Bos {
    if from_tokens { Bos::default() } else { experiment.bos }
}
