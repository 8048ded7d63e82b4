//! A method is a recipe: one component for each step that a layer goes through.

use super::allocator::{Allocator, Uniform};
use super::compensation::Compensation;
use super::criterion::Criterion;
use super::limits::Limits;
use super::operands;
use super::pattern::{Group, Pattern, Selection, Target};
use super::permutation::Permutation;
use super::ranking;
use super::refiner::Refiner;
use super::solver::Solver;
use super::transform::Transform;
use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::calibrate::gradients::Loss;
use crate::calibrate::statistics::Factoring;
use crate::calibrate::{Goal, Stage};
use crate::error::{Error, Located, Result};
use crate::linalg::Provider;
use crate::model::families::with_biases;
use crate::model::layer_file::Content;
use crate::spec::{LinearSpec, ModelSpec};

/// A pruning method, given by its steps and their settings.
pub struct Recipe {
    /// Decides how much is removed from each layer.
    pub allocator: Box<dyn Allocator>,
    /// Chooses the variables in which layers are pruned; without it, they are what they are.
    pub transform: Option<Box<dyn Transform>>,
    /// Decides how important each weight is.
    pub criterion: Box<dyn Criterion>,
    /// Decides which columns share an N:M group; without it, neighbouring columns do.
    pub permutation: Option<Box<dyn Permutation>>,
    /// Looks for a better mask of the same size; without it, the criterion's mask is kept.
    pub refiner: Option<Box<dyn Refiner>>,
    /// Computes the new values of the weights that are kept.
    pub solver: Box<dyn Solver>,
    /// Changes the bias to make up for removed weights; without it, the bias stays as it is.
    pub compensation: Option<Box<dyn Compensation>>,
    /// The group of weights among which the lowest scores are removed.
    pub group: Group,
    /// How many weights are removed if scores are equal.
    pub selection: Selection,
    /// The library that factorises matrices.
    pub provider: Provider,
    /// The state of the model in which statistics are gathered.
    pub stage: Stage,
    /// The outputs that a solver reproduces.
    pub goal: Goal,
}

impl Recipe {
    /// A criterion and a solver for every layer alike, in their own comparison group, and nothing else.
    pub fn new(criterion: Box<dyn Criterion>, solver: Box<dyn Solver>) -> Self {
        Recipe {
            allocator: Box::new(Uniform {}),
            group: solver.group().unwrap_or(criterion.group()),
            transform: None,
            criterion,
            permutation: None,
            refiner: None,
            solver,
            compensation: None,
            selection: Selection::default(),
            provider: Provider::default(),
            stage: Stage::default(),
            goal: Goal::default(),
        }
    }

    /// All steps; see [`Recipe::steps_for`].
    pub fn steps(&self) -> Steps<'_> {
        Steps {
            transform: self.transform.as_deref(),
            criterion: self.criterion.as_ref(),
            permutation: self.permutation.as_deref(),
            refiner: self.refiner.as_deref(),
            solver: self.solver.as_ref(),
            compensation: self.compensation.as_deref(),
        }
    }

    /// The steps that this layer goes through.
    pub fn steps_for(&self, linear: &LinearSpec) -> Steps<'_> {
        let steps = self.steps();
        Steps {
            transform: steps.transform.filter(|it| it.transforms(linear)),
            refiner: steps.refiner.filter(|refiner| refiner.refines(linear.role)),
            compensation: steps.compensation.filter(|it| it.compensates(linear)),
            ..steps
        }
    }

    /// What the pruned model is: the same, with the biases that the compensation adds, or a transform that shifts inputs.
    ///
    /// # Errors
    /// A layer that is compensated cannot have a bias, or one that must be compensated is not; names the layers.
    pub fn biased(&self, spec: &ModelSpec) -> Result<ModelSpec> {
        if let Some(transform) = self.transform.as_deref().filter(|it| it.shifts()) {
            return with_biases(spec, |linear| transform.transforms(linear)).at("the transform changes biases");
        }
        let Some(compensation) = &self.compensation else {
            return Ok(spec.clone());
        };
        let mut linears = spec.kinds().flat_map(|(block, _)| &block.linears);
        if let Some(linear) = linears.find(|linear| self.solver.centres() && !compensation.compensates(linear)) {
            return Err(Error::config(format!(
                "the solver leaves the means of outputs to a bias (`centred`), and {} does not get one; let the compensation change all \
                 layers, or leave `centred` out",
                linear.tensor
            )));
        }
        with_biases(spec, |linear| compensation.compensates(linear)).at("the compensation changes biases")
    }

    /// Checks that a workbench can take layers through the steps under a pattern, before anything is computed.
    ///
    /// # Errors
    /// A step needs more than the workbench has room for, or cannot keep the groups of the pattern.
    pub fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        let steps = self.steps();
        let target = self.target(pattern);
        self.check_trials()?;
        self.check_regional()?;
        self.check_mask()?;
        self.check_transform()?;
        if steps.solver.centres() && steps.compensation.is_none() {
            return Err(Error::config(
                "`centred` leaves the means of outputs to a bias, which nothing changes here: add compensate = \"bias\", or leave \
                 `centred` out",
            ));
        }
        ranking::check(&steps.criterion.score(), &target)?;
        // Scores of all columns that are left are like any others.
        let follows = steps.follows(&target) && !steps.solver.rescores();
        operands::check(&steps.criterion.score(), follows, limits)?;
        if let Some(refiner) = steps.refiner {
            if steps.solver.replaces_mask() {
                return Err(Error::config(
                    "the solver, or the solver that it starts from, chooses the mask itself, so a refinement before it would have no \
                     effect; leave `refine` out, or use a solver that keeps the mask, such as least-squares",
                ));
            }
            refiner.check(&target)?;
        }
        steps.solver.check(pattern, limits)
    }

    /// What the mask of a layer is held against that is given this pattern. A mask from a file has exactly its own zeros.
    pub fn target(&self, pattern: Pattern) -> Target {
        Target {
            pattern,
            group: self.group,
            selection: match self.takes_mask() {
                true => Selection::Exact,
                false => self.selection,
            },
        }
    }

    /// Whether the mask comes from a file.
    pub fn takes_mask(&self) -> bool {
        self.criterion.file().is_some_and(|file| file.content == Content::Mask)
    }

    /// Checks that no step chooses a mask in place of the one from a file.
    ///
    /// # Errors
    /// One does.
    pub fn check_mask(&self) -> Result<()> {
        let message = match self.takes_mask() {
            false => return Ok(()),
            true if self.solver.replaces_mask() || self.solver.rescores() => {
                "the mask comes from a file, but the solver chooses another mask; use a solver that keeps the mask, such as least-squares"
            }
            true if self.permutation.is_some() => {
                "the mask comes from a file, and its groups of columns are fixed; leave `permutation` out"
            }
            true => return Ok(()),
        };
        Err(Error::config(message))
    }

    /// Checks that the steps can be taken in the variables of the transform.
    ///
    /// # Errors
    /// A step uses values that are those of the layer's own variables, or changes the bias as the transform does.
    pub fn check_transform(&self) -> Result<()> {
        let Some(transform) = self.transform.as_deref() else {
            return Ok(());
        };
        let message = match () {
            () if self.criterion.file().is_some() => {
                "the scores come from a file, but `transform` changes the weights that they were computed for; leave `transform` out, or \
                 use a criterion that computes its scores here"
            }
            () if self.gradients().and(self.regional()).anything() => {
                "the criterion uses gradients of the original weights, but `transform` changes the weights; leave `transform` out, or use \
                 a criterion without gradients"
            }
            () if transform.shifts() && self.compensation.is_some() => {
                "the transform changes biases, to make up for what it subtracts from the inputs, and `compensate` changes them, too; \
                 leave out one of them"
            }
            () if transform.shifts() && self.solver.centres() => {
                "with `centred`, the solver leaves the means of outputs to a bias, but the transform has its own shifts of the inputs; \
                 leave `centred` out"
            }
            () if transform.learning().is_some() && self.stage == Stage::Dense => {
                "the transform learns from the outputs of blocks on calibration text, but stage = \"dense\" keeps only statistics; use \
                 another stage"
            }
            () => return Ok(()),
        };
        Err(Error::config(message))
    }

    /// Checks that the allocator can try shares out where it wants to.
    ///
    /// # Errors
    /// There are no statistics of part of the calibration text.
    pub fn check_trials(&self) -> Result<()> {
        match self.allocator.tries() && self.stage == Stage::Dense {
            false => Ok(()),
            true => Err(Error::config(
                "the allocator tests shares on calibration windows that it holds out, but stage = \"dense\" has only statistics of all \
                 windows; use stage = \"block\" or stage = \"staged\"",
            )),
        }
    }

    /// Whether the recipe looks at calibration text.
    pub fn calibrates(&self) -> bool {
        let gradients = self.gradients().and(self.regional());
        self.needs().anything() || gradients.anything() || self.allocator.tries()
    }

    /// The gradients of the dense model's loss that the criterion asks for.
    pub fn gradients(&self) -> GradientNeeds {
        self.criterion.gradients(Loss::Likelihood)
    }

    /// The gradients of the norms of blocks' outputs that the criterion asks for.
    pub fn regional(&self) -> GradientNeeds {
        self.criterion.gradients(Loss::Outputs)
    }

    /// Checks that calibration text comes to every block if gradients of its outputs are asked for.
    ///
    /// # Errors
    /// There are only statistics.
    pub fn check_regional(&self) -> Result<()> {
        match self.regional().anything() && self.stage == Stage::Dense {
            false => Ok(()),
            true => Err(Error::config(
                "the criterion uses gradients of the outputs of blocks, which are computed block by block on calibration text, but stage \
                 = \"dense\" keeps only statistics; use another stage",
            )),
        }
    }

    /// The statistics that the steps and the allocator's survey ask for together; calibration gathers them once.
    pub fn needs(&self) -> Needs {
        let surveyed = self
            .allocator
            .survey()
            .map_or(Needs::NOTHING, |question| question.needs);
        self.layer_needs().and(surveyed)
    }

    /// The statistics that the steps ask for when a layer is pruned.
    pub fn layer_needs(&self) -> Needs {
        let needs = self.steps().needs();
        Needs {
            cross: self.reproduces_dense() && self.solver.updates(),
            goal_gram: self.reproduces_dense() && self.solver.updates() && needs.goal_gram,
            goal_means: self.reproduces_dense() && needs.means,
            ..needs
        }
    }

    /// How the Hessian is factorised for the steps.
    pub fn factoring(&self) -> Factoring {
        Factoring {
            provider: self.provider,
            damping: self.solver.damping(),
        }
    }

    /// Whether the dense model's outputs are the goal of a step that can do something about them.
    pub fn reproduces_dense(&self) -> bool {
        let shifts = self.transform.as_deref().is_some_and(Transform::shifts);
        self.goal == Goal::Dense && (self.solver.updates() || self.compensation.is_some() || shifts)
    }
}

/// The steps that every layer goes through, in this order.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// Chooses the variables in which the layer is pruned.
    pub transform: Option<&'a dyn Transform>,
    /// Decides how important each weight is.
    pub criterion: &'a dyn Criterion,
    /// Decides which columns share an N:M group.
    pub permutation: Option<&'a dyn Permutation>,
    /// Looks for a better mask of the same size.
    pub refiner: Option<&'a dyn Refiner>,
    /// Computes the new values of the weights that are kept.
    pub solver: &'a dyn Solver,
    /// Changes the bias to make up for removed weights.
    pub compensation: Option<&'a dyn Compensation>,
}

impl<'a> Steps<'a> {
    /// Steps with a criterion and a solver only.
    pub fn new(criterion: &'a dyn Criterion, solver: &'a dyn Solver) -> Self {
        Steps {
            transform: None,
            criterion,
            permutation: None,
            refiner: None,
            solver,
            compensation: None,
        }
    }

    /// The statistics that all steps use.
    pub fn needs(&self) -> Needs {
        let optional = [
            self.transform.map(Transform::needs),
            self.permutation.map(Permutation::needs),
            self.refiner.map(Refiner::needs),
            self.compensation.map(Compensation::needs),
        ];
        let all = optional.into_iter().flatten();
        all.fold(self.criterion.needs().and(self.solver.needs()), Needs::and)
    }

    /// Whether the solver chooses the mask while it updates, from the criterion's scores of the updated weights. It
    /// does if criterion and solver can do so, no refiner needs a finished mask, and no comparison group is larger
    /// than the block of columns that is updated at a time, unless the solver scores all columns that are left.
    pub fn follows(&self, target: &Target) -> bool {
        let within_block = match target.pattern {
            Pattern::NofM { .. } => true,
            Pattern::Unstructured { .. } => target.group == Group::ColumnBlock,
        };
        let on_the_way = self.criterion.follows_update() && within_block;
        self.solver.follows() && self.refiner.is_none() && (on_the_way || self.solver.rescores())
    }
}
