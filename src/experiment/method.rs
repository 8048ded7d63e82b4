//! The plan of a pruning method, ready to be built: a component for every step of a recipe, what removes whole units, or a checkpoint
//! of another program.

use crate::calibrate::{Goal, Stage};
use crate::choices;
use crate::error::{Error, Result};
use crate::experiment::file_names::{SEED, names_pattern};
use crate::linalg::Provider;
use crate::model::layer_file::Content;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::pattern::{Group, Pattern, Selection};
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::recipe::Recipe;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::uniform::MOST_UNITS;
use crate::prune::units::{UNITS, UnitMethod, Widths};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A component by name, with all its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentPlan {
    /// The name by which the component is registered.
    pub name: String,
    /// The version of a component that the program added; built-in ones have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// All parameters, defaults filled in.
    pub parameters: serde_json::Value,
}

/// A pruning method of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodPlan {
    /// Label of the method in tables.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub kind: MethodKind,
    /// Whether it looks at calibration text.
    pub calibrated: bool,
    /// The only pattern that it is run with, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// The only seed that it is run with, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// What a method removes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MethodKind {
    /// Single weights, by a recipe.
    Recipe(Box<RecipePlan>),
    /// Heads, neurons or blocks.
    Units(UnitsPlan),
    /// What another program removed.
    Checkpoint(CheckpointPlan),
}

/// A model that another program pruned, which is measured as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPlan {
    /// Its directory, or `hub:org/name`; `{model}`, `{pattern}` and `{seed}` stand for those of a cell.
    pub checkpoint: PathBuf,
    /// Whether nothing of the model may be left in its weights, because it was trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retrained: bool,
}

/// A recipe: a component for every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipePlan {
    /// The group of weights among which the lowest scores are removed.
    pub group: Group,
    /// Decides how important each weight is.
    pub criterion: ComponentPlan,
    /// Computes the new values of the weights that are kept.
    pub solver: ComponentPlan,
    /// Decides how much is removed from each layer.
    pub allocator: ComponentPlan,
    /// The steps that the method may do without.
    #[serde(flatten)]
    pub steps: StepPlans,
    /// What a layer's statistics are gathered on, if it is not what the calibration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The outputs that the solver reproduces.
    #[serde(default, skip_serializing_if = "Goal::is_default")]
    pub target: Goal,
}

/// A method that removes whole units until as many weights are gone as the pattern says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitsPlan {
    /// Decides which units are left.
    pub units: ComponentPlan,
    /// Whether blocks have the same sizes afterwards.
    pub widths: Widths,
}

/// A method that is ready to use.
pub enum Method {
    /// Removes single weights.
    Recipe(Box<Recipe>),
    /// Removes whole units.
    Units(UnitRemoval),
    /// Was pruned by another program.
    Checkpoint,
}

/// A method of whole units with what it leaves open.
pub struct UnitRemoval {
    /// Decides which units are left.
    pub method: Box<dyn UnitMethod>,
    /// Whether blocks have the same sizes afterwards.
    pub widths: Widths,
}

/// The steps that a method may do without.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepPlans {
    /// Chooses the variables in which layers are pruned; without it, they are what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<ComponentPlan>,
    /// Decides which columns share an N:M group; without it, neighbouring columns do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permutation: Option<ComponentPlan>,
    /// Looks for a better mask of the same size; without it, the criterion's mask is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refine: Option<ComponentPlan>,
    /// Changes the bias to make up for removed weights; without it, the bias stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<ComponentPlan>,
}

/// One line: the steps by name, with their parameters, and what is unlike the usual.
impl fmt::Display for RecipePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StepPlans {
            transform,
            permutation,
            refine,
            compensate,
        } = &self.steps;
        if self.allocator.name != "uniform" {
            write!(f, "allocator {}, ", self.allocator)?;
        }
        if let Some(plan) = transform {
            write!(f, "transform {plan}, ")?;
        }
        // A criterion's own group is only what it compares in if nobody says another.
        let mut criterion = self.criterion.clone();
        if let Some(parameters) = criterion.parameters.as_object_mut() {
            parameters.remove("group");
        }
        write!(f, "criterion {criterion} by {}", self.group)?;
        for (step, plan) in [("permutation", permutation), ("refine", refine)] {
            if let Some(plan) = plan {
                write!(f, ", {step} {plan}")?;
            }
        }
        if self.solver.name != "one-shot" {
            write!(f, ", solver {}", self.solver)?;
        }
        if let Some(plan) = compensate {
            write!(f, ", compensate {plan}")?;
        }
        if let Some(stage) = &self.stage {
            write!(f, ", stage {}", choices::name(stage))?;
        }
        match self.target.is_default() {
            true => Ok(()),
            false => write!(f, ", target {}", choices::name(&self.target)),
        }
    }
}

/// One line: the component with its parameters, and whether blocks keep equal sizes.
impl fmt::Display for UnitsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "whole units by {}, widths {}",
            self.units,
            choices::name(&self.widths)
        )
    }
}

/// As its recipe or its units.
impl fmt::Display for MethodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MethodKind::Recipe(recipe) => recipe.fmt(f),
            MethodKind::Units(units) => units.fmt(f),
            MethodKind::Checkpoint(plan) => write!(f, "checkpoint {}", plan.checkpoint.display()),
        }
    }
}

/// The name, with the parameters in brackets if there are any.
impl fmt::Display for ComponentPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let Some(parameters) = self.parameters.as_object().filter(|parameters| !parameters.is_empty()) else {
            return Ok(());
        };
        let named = parameters.iter().map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{name} {text}"),
            value => format!("{name} {value}"),
        });
        write!(f, " ({})", named.collect::<Vec<_>>().join(", "))
    }
}

impl MethodPlan {
    /// Its recipe; none if it removes whole units, or if another program pruned the model.
    pub fn recipe(&self) -> Option<&RecipePlan> {
        match &self.kind {
            MethodKind::Recipe(recipe) => Some(recipe.as_ref()),
            MethodKind::Units(_) | MethodKind::Checkpoint(_) => None,
        }
    }

    /// What competes with each other, as tables say it: a comparison group, or whole units. Of a checkpoint nobody knows, nor of a mask,
    /// unless a group is written beside it.
    pub fn group(&self) -> String {
        match &self.kind {
            MethodKind::Recipe(recipe) if recipe.criterion.name == "mask" && recipe.group == Group::Matrix => {
                "mask".to_string()
            }
            MethodKind::Recipe(recipe) => recipe.group.to_string(),
            MethodKind::Units(_) => "units".to_string(),
            MethodKind::Checkpoint(_) => "checkpoint".to_string(),
        }
    }

    /// Whether it was asked to run with this pattern.
    pub fn wants(&self, pattern: &Pattern) -> bool {
        self.pattern.is_none_or(|only| only == *pattern)
    }

    /// The file of another program that it takes values from, and what these are. The name is that of a cell once it is
    /// [filled](super::file_names::filled).
    pub fn file(&self) -> Option<(String, Content)> {
        let criterion = self.recipe()?.criterion.build(&CRITERIA).ok()?;
        let file = criterion.file()?;
        Some((file.name.to_string(), file.content))
    }

    /// The name of what another program made, if the method has such: its file, or its checkpoint.
    pub fn outside(&self) -> Option<String> {
        match &self.kind {
            MethodKind::Checkpoint(plan) => Some(plan.checkpoint.to_string_lossy().into_owned()),
            _ => self.file().map(|(name, _)| name),
        }
    }

    /// Whether it has a cell for each seed, or for one: because it looks at calibration text, or because what another program made has
    /// a seed.
    pub fn seeded(&self) -> bool {
        let named = || self.outside().is_some_and(|name| name.contains(SEED));
        self.calibrated || self.seed.is_some() || named()
    }

    /// Checks the pattern and the seed that it alone is run with, and that masks and checkpoints have a single pattern.
    ///
    /// # Errors
    /// They are none of the experiment's, or it is not said of which pattern a mask or a checkpoint is.
    pub fn check_place(&self, patterns: &[Pattern], seeds: &[u64]) -> Result<()> {
        if let Some(pattern) = self.pattern.filter(|pattern| !patterns.contains(pattern)) {
            return Err(Error::config(format!(
                "`pattern` is {pattern}, which is none of the sweep's `patterns`; add it there"
            )));
        }
        let outside = self.outside();
        if let Some(seed) = self.seed {
            if !self.calibrated && outside.is_none() {
                return Err(Error::config(
                    "`seed` is for methods that calibrate, or that take what another program made; leave it out",
                ));
            }
            if !seeds.contains(&seed) {
                return Err(Error::config(format!(
                    "`seed` is {seed}, which is none of the sweep's `seeds`; add it there"
                )));
            }
        }
        // The same scores may serve all patterns.
        let scores = matches!(self.file(), Some((_, content)) if content != Content::Mask);
        match outside.filter(|name| !scores && !names_pattern(name)) {
            Some(name) if self.pattern.is_none() && patterns.len() > 1 => Err(Error::config(format!(
                "`{name}` is of one pattern, and the sweep has {}: write {{pattern}} into its name, or say which one with \
                 `pattern`",
                patterns.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether it has cells for this pattern: whole units make no N:M groups.
    pub fn takes(&self, pattern: &Pattern) -> bool {
        self.wants(pattern)
            && match self.kind {
                MethodKind::Recipe(_) | MethodKind::Checkpoint(_) => true,
                MethodKind::Units(_) => matches!(pattern, Pattern::Unstructured { .. }),
            }
    }

    /// The components of all its steps.
    pub fn components(&self) -> impl Iterator<Item = &ComponentPlan> {
        let (recipe, units) = match &self.kind {
            MethodKind::Recipe(recipe) => (Some(recipe.as_ref()), None),
            MethodKind::Units(units) => (None, Some(&units.units)),
            MethodKind::Checkpoint(_) => (None, None),
        };
        recipe.into_iter().flat_map(RecipePlan::components).chain(units)
    }
}

impl RecipePlan {
    /// The components of all steps.
    pub fn components(&self) -> impl Iterator<Item = &ComponentPlan> {
        let required = [&self.criterion, &self.solver, &self.allocator];
        required.into_iter().chain(self.steps.components())
    }

    /// Checks that the recipe's steps make sense under the patterns.
    ///
    /// # Errors
    /// A permutation without N:M groups.
    pub fn check_patterns(&self, patterns: &[Pattern]) -> Result<()> {
        let free = patterns
            .iter()
            .find(|pattern| matches!(pattern, Pattern::Unstructured { .. }));
        match (&self.steps.permutation, free) {
            (Some(permutation), Some(pattern)) => Err(Error::config(format!(
                "permutation `{}` decides which columns share an N:M group, and the pattern {pattern} has no such groups; \
                 leave `permutation` out, or list only patterns like {{ keep = 2, of = 4 }}",
                permutation.name
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that nothing but the mask decides how much each layer loses, if the mask comes from a file.
    ///
    /// # Errors
    /// There is an allocator.
    pub fn check_allocator(&self, recipe: &Recipe) -> Result<()> {
        match recipe.takes_mask() && self.allocator.name != "uniform" {
            false => Ok(()),
            true => Err(Error::config(
                "the mask comes from a file and says itself how much is removed from each layer; leave `allocator` out",
            )),
        }
    }

    /// Makes the recipe ready to use.
    pub(crate) fn build(&self, selection: Selection, provider: Provider) -> Result<Recipe> {
        Ok(Recipe {
            criterion: self.criterion.build(&CRITERIA)?,
            solver: self.solver.build(&SOLVERS)?,
            allocator: self.allocator.build(&ALLOCATORS)?,
            transform: optional(&self.steps.transform, &TRANSFORMS)?,
            permutation: optional(&self.steps.permutation, &PERMUTATIONS)?,
            refiner: optional(&self.steps.refine, &REFINERS)?,
            compensation: optional(&self.steps.compensate, &COMPENSATIONS)?,
            group: self.group,
            selection,
            provider,
            stage: Stage::default(),
            goal: self.target,
        })
    }
}

impl StepPlans {
    /// The step that changes biases: a compensation, or a transform that shifts inputs. A transform that this program does not know may.
    pub fn of_biases(&self) -> Option<&ComponentPlan> {
        let shifts = |plan: &&ComponentPlan| plan.build(&TRANSFORMS).map_or(true, |transform| transform.shifts());
        self.compensate.as_ref().or(self.transform.as_ref().filter(shifts))
    }

    /// The components of the steps that there are.
    pub fn components(&self) -> impl Iterator<Item = &ComponentPlan> {
        [&self.transform, &self.permutation, &self.refine, &self.compensate]
            .into_iter()
            .flatten()
    }
}

impl UnitsPlan {
    /// Checks that units can make up the patterns.
    ///
    /// # Errors
    /// There is none that is a fraction, or one that leaves hardly anything; or the method cannot leave such widths.
    pub fn check(&self, patterns: &[Pattern]) -> Result<()> {
        let shares = patterns.iter().filter_map(|pattern| match pattern {
            Pattern::Unstructured { sparsity } => Some(*sparsity),
            Pattern::NofM { .. } => None,
        });
        let mut shares = shares.peekable();
        if shares.peek().is_none() {
            return Err(Error::config(
                "it removes whole units, and all patterns are N:M, which units cannot make; list a fraction, such as 0.2",
            ));
        }
        if let Some(share) = shares.find(|share| *share > MOST_UNITS) {
            return Err(Error::config(format!(
                "whole units can be at most {MOST_UNITS} of the weights, and the pattern {} asks for more",
                Pattern::Unstructured { sparsity: share }
            )));
        }
        self.build()?.method.check(self.widths)
    }

    /// Makes the method ready to use.
    pub(crate) fn build(&self) -> Result<UnitRemoval> {
        Ok(UnitRemoval {
            method: self.units.build(&UNITS)?,
            widths: self.widths,
        })
    }
}

/// Makes a step that a method may do without.
fn optional<T: ?Sized>(plan: &Option<ComponentPlan>, components: &Components<T>) -> Result<Option<Box<T>>> {
    plan.as_ref().map(|plan| plan.build(components)).transpose()
}

impl ComponentPlan {
    /// Makes the component again from its recorded parameters.
    ///
    /// # Errors
    /// The program does not know it, or has another version of it.
    pub(crate) fn build<T: ?Sized>(&self, components: &Components<T>) -> Result<Box<T>> {
        let table = toml::Table::try_from(&self.parameters)
            .map_err(|error| Error::config(format!("parameters of `{}`: {error}", self.name)))?;
        let built = components.build(&self.name, &table)?;
        if built.version != self.version {
            let version = |version: Option<u32>| version.map_or("no version".into(), |it| format!("version {it}"));
            return Err(Error::config(format!(
                "`{}` had {} when this was written, and has {} in this program",
                self.name,
                version(self.version),
                version(built.version)
            )));
        }
        Ok(built.component)
    }
}
