//! Experiments of one cell, from the command line instead of a file: what `zprune prune` and `zprune eval` run.

use super::known::stands_for;
use super::machine::MachineRequest;
use super::origin::Origin;
use super::plan::{Experiment, MethodPlan, ModelPlan, RecipePlan};
use super::problems::{Problems, WHOLE};
use super::protocol::{Length, Named, agree};
use super::raw::{
    RawCalibration, RawComponent, RawEvaluation, RawGeneration, RawMethod, RawModel, RawPattern, RawTask, STEPS,
};
use super::resolve::methods;
use super::resolve::methods::method;
use super::resolve::models::model_place;
use super::resolve::texts::{calibration, evaluation, generation, task};
use crate::calibrate::Goal;
use crate::data::tokenizer::Bos;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::hub::datasets::PREFIX;
use crate::linalg::Provider;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::limits::Limits;
use crate::prune::pattern::{Group, Pattern, Selection};
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::recipe::Recipe;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::UNITS;
use crate::registry;
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What pruning and measuring one model have in common.
#[derive(Debug, Clone)]
pub struct SingleModel {
    /// Directory of the model; for a model of the hub, `hub:org/name`.
    pub model: PathBuf,
    /// Name of the protocol whose settings hold; without it, those of the arguments.
    pub protocol: Option<String>,
    /// Whether texts start with the tokenizer's special tokens; the protocol's way, or the tokenizer's.
    pub bos: Option<Bos>,
    /// The backend that is asked for, its precision and its memory.
    pub machine: MachineRequest,
}

/// How one model is pruned.
#[derive(Debug)]
pub struct SinglePruning {
    /// Criterion (`wanda`), criterion+solver (`ria+obs`), or `sparsegpt`.
    pub method: String,
    /// Name of the allocator; without it, all layers lose the same.
    pub allocator: Option<String>,
    /// Name of the mask refinement; without it, the criterion's mask is kept.
    pub refine: Option<String>,
    /// Name of the permutation of columns; without it, neighbouring columns share a group.
    pub permutation: Option<String>,
    /// Name of the transform; without it, layers are pruned as they are.
    pub transform: Option<String>,
    /// Name of the compensation; without it, the bias stays as it is.
    pub compensate: Option<String>,
    /// Parameters as `key=value`, and with the step before it (`solver.key=value`).
    pub settings: Vec<String>,
    /// Comparison group; the protocol's or the criterion's own by default.
    pub group: Option<Group>,
    /// How many weights are removed if scores are equal; the protocol's by default.
    pub selection: Option<Selection>,
    /// The pattern that is left of every layer.
    pub pattern: Pattern,
    /// Calibration, as an experiment file would say it; without corpus and tokens there is none.
    pub calibration: RawCalibration,
    /// The seed with which calibration windows are drawn.
    pub seed: u64,
}

/// The pattern that a text on the command line stands for: `0.5`, `50%` or `2:4`.
///
/// # Errors
/// It is none.
pub fn pattern(text: &str) -> Result<Pattern> {
    let raw = RawPattern::typed(text).ok_or_else(|| match RawPattern::meant(text) {
        meant if meant.is_empty() => Error::config(
            "is no pattern; give a fraction, such as 0.5, a percentage, such as 50%, or an N:M pattern, such as 2:4",
        ),
        // On a command line, nothing needs quotes.
        meant => Error::config(meant.trim_start().replace('"', "")),
    })?;
    methods::pattern(&raw)
}

/// The share that a text on the command line stands for: `0.2` or `20%`.
///
/// # Errors
/// It is none.
pub fn fraction(text: &str) -> Result<f64> {
    let raw = RawPattern::typed(text).and_then(|raw| raw.sparsity);
    raw.ok_or_else(|| match RawPattern::meant(text) {
        meant if meant.is_empty() || meant.contains(':') => {
            Error::config("is no share; give a fraction, such as 0.2, or a percentage, such as 20%")
        }
        meant => Error::config(meant.trim_start().replace("pattern", "share").replace('"', "")),
    })
}

/// A path as the command line has it, relative to the working directory.
pub fn typed(path: PathBuf) -> Spanned<PathBuf> {
    Spanned::new(WHOLE, path)
}

/// One model pruned once.
///
/// # Errors
/// Unknown names and keys, contradictions, an impossible pattern, nothing to calibrate on.
pub fn pruning(common: &SingleModel, pruning: SinglePruning) -> Result<Experiment> {
    let (mut experiment, protocol) = empty(common)?;
    pruning.pattern.validate()?;
    let steps = [
        &pruning.transform,
        &pruning.permutation,
        &pruning.refine,
        &pruning.compensate,
    ]
    .map(|name| name.as_deref());
    let (allocator, settings) = (pruning.allocator.as_deref(), &pruning.settings);
    let mut raw = named_method(&pruning.method, allocator, steps, settings, pruning.group)?;
    // What is typed goes before what the recipe says.
    raw.target = pruning.calibration.target.or(raw.target);
    raw.stage = raw.stage.filter(|_| pruning.calibration.stage.is_none());
    let method = named(raw, protocol)?;
    let selection = agree(protocol, "selection", pruning.selection, |it| it.selection)?;
    experiment.selection = selection.unwrap_or_default();
    experiment.patterns = vec![pruning.pattern];
    if method.calibrated {
        calibrate(
            &mut experiment,
            protocol,
            &method.name,
            pruning.calibration,
            pruning.seed,
        )?;
    } else if method.seeded() {
        experiment.seeds = vec![pruning.seed];
    }
    experiment.check(&method)?;
    experiment.methods = vec![method];
    experiment.check_gradients()?;
    let recipe = experiment.recipe(0)?.ok_or_else(|| whole_units(&pruning.method))?;
    recipe.check(pruning.pattern, &Limits::NONE)?;
    Ok(experiment)
}

/// One model that something of this name is done to which is no recipe: whole units are removed, or statistics are written. It looks
/// at calibration text if there is a `calibration`, for the windows of a seed.
///
/// # Errors
/// As [`pruning`].
pub fn calibrating(common: &SingleModel, method: &str, text: Option<RawCalibration>, seed: u64) -> Result<Experiment> {
    let (mut experiment, protocol) = empty(common)?;
    if let Some(raw) = text {
        calibrate(&mut experiment, protocol, method, raw, seed)?;
    }
    Ok(experiment)
}

/// Gives an experiment of one model its calibration.
fn calibrate(
    experiment: &mut Experiment,
    protocol: Option<Named>,
    method: &str,
    mut raw: RawCalibration,
    seed: u64,
) -> Result<()> {
    if raw.corpus.is_none() && raw.tokens.is_none() {
        return Err(Error::config(format!(
            "method `{method}` needs calibration: give --calibration FILE, or --tokens FILE"
        )));
    }
    let shape = shape(raw.tokens.as_ref())?;
    raw.sequences = raw.sequences.or(shape.map(|(count, _)| count));
    raw.length = raw.length.or(shape.map(|(_, length)| Length::Tokens(length)));
    let mut problems = Problems::default();
    let plan = calibration(&Spanned::new(WHOLE, raw), protocol, &[seed], &mut problems);
    problems.in_argument("calibration")?;
    experiment.calibration = plan;
    experiment.seeds = vec![seed];
    Ok(())
}

/// The parameters that `--set key=value` gives a method without steps.
///
/// # Errors
/// One is not of that form.
pub fn parameters(settings: &[String]) -> Result<toml::Table> {
    let each = settings.iter().map(|setting| {
        let (key, value) = assignment(setting)?;
        Ok((key.to_string(), value_of(value)))
    });
    each.collect()
}

/// Key and value of a `--set`.
fn assignment(setting: &str) -> Result<(&str, &str)> {
    let parts = setting.split_once('=');
    let parts = parts.map(|(key, value)| (key.trim(), value.trim()));
    parts.ok_or_else(|| Error::config(format!("--set {setting} must have the form key=value")))
}

/// A method by name, perhaps with an allocator and a mask refinement, in its own comparison group; `settings` are parameters of its
/// steps. What a recipe says of calibration (stage and target) is left out.
///
/// # Errors
/// Unknown names, or parameters out of range.
pub fn method_alone(name: &str, allocator: Option<&str>, refine: Option<&str>, settings: &[String]) -> Result<Recipe> {
    let raw = named_method(name, allocator, [None, None, refine, None], settings, None)?;
    let plan = named(raw, None)?;
    let recipe = plan.recipe().ok_or_else(|| whole_units(name))?;
    let recipe = RecipePlan {
        target: Goal::default(),
        ..recipe.clone()
    };
    recipe.build(Selection::Exact, Provider::Faer)
}

/// One model measured as it is, as an experiment file would say it.
///
/// # Errors
/// Contradictions, no text, windows too short to predict anything.
pub fn measuring(common: &SingleModel, mut raw: RawEvaluation) -> Result<Experiment> {
    let (mut experiment, protocol) = empty(common)?;
    let shape = shape(raw.tokens.as_ref())?;
    raw.length = raw.length.or(shape.map(|(_, length)| Length::Tokens(length)));
    let mut problems = Problems::default();
    let plan = evaluation(&Spanned::new(WHOLE, raw), protocol, &mut problems);
    problems.in_argument("evaluation")?;
    experiment.evaluations.extend(plan);
    Ok(experiment)
}

/// One model scored on zero-shot tasks, as an experiment file would name them.
///
/// # Errors
/// Unknown tasks, a task named twice, and settings that belong to perplexity.
pub fn scoring(common: &SingleModel, tasks: &[RawTask]) -> Result<Experiment> {
    if common.protocol.is_some() || common.bos.is_some() {
        return Err(Error::config(
            "--protocol and --bos are for perplexity; for tasks, --harness decides how texts start, and prompts start as the tokenizer says",
        ));
    }
    let (mut experiment, _) = empty(common)?;
    for raw in tasks {
        if experiment.tasks.iter().any(|task| task.name == raw.name) {
            return Err(Error::config(format!("task `{}` is named twice", raw.name)));
        }
        let task = task(raw).map_err(|(_, error)| error);
        experiment.tasks.push(task.at("--tasks")?);
    }
    Ok(experiment)
}

/// One model that answers prompts, as an experiment file would name them.
///
/// # Errors
/// As [`scoring`].
pub fn generating(common: &SingleModel, raw: &RawGeneration) -> Result<Experiment> {
    let mut experiment = scoring(common, &[])?;
    let generation = generation(raw).map_err(|(_, error)| error);
    experiment.generations.push(generation.at("--generate")?);
    Ok(experiment)
}

/// The method that `--method` and the arguments for its steps name.
fn named(raw: RawMethod, protocol: Option<Named>) -> Result<MethodPlan> {
    let mut problems = Problems::default();
    let plan = method(&Spanned::new(WHOLE, raw), None, protocol, &mut problems);
    problems.in_argument("--method")?;
    plan.ok_or_else(|| Error::config("cannot be resolved").at("--method"))
}

/// Number and length of the windows in a file.
fn shape(tokens: Option<&Spanned<PathBuf>>) -> Result<Option<(usize, usize)>> {
    let windows = tokens.map(|path| TokenWindows::read(path.get_ref())).transpose()?;
    Ok(windows.map(|windows| (windows.count(), windows.length())))
}

fn empty(common: &SingleModel) -> Result<(Experiment, Option<Named>)> {
    let protocol = common.protocol.as_deref().map(Named::find).transpose()?;
    let bos = agree(protocol, "bos", common.bos, |it| it.bos)?;
    let name = common.model.to_str().and_then(|path| path.strip_prefix(PREFIX));
    let raw = RawModel {
        name: None,
        path: name.is_none().then(|| Spanned::new(WHOLE, common.model.clone())),
        hub: name.map(|name| name.split('@').next().unwrap_or(name).to_string()),
        revision: name
            .and_then(|name| name.split_once('@'))
            .map(|(_, revision)| revision.to_string()),
        obtain: None,
        expected: BTreeMap::new(),
    };
    let place = model_place(&raw).map_err(|(_, error)| error);
    let (path, hub) = place.at("--model")?;
    let experiment = Experiment {
        name: "single".to_string(),
        description: String::new(),
        confidence: 0.95,
        tables: Vec::new(),
        machine: common.machine.resolve(Provider::Faer)?,
        linear_algebra: Provider::Faer,
        protocol: protocol.map(|protocol| protocol.name.to_string()),
        bos: bos.unwrap_or_default(),
        selection: Selection::Exact,
        seeds: Vec::new(),
        patterns: Vec::new(),
        calibration: None,
        models: vec![ModelPlan {
            name: common.model.display().to_string(),
            path,
            commit: None,
            obtain: None,
            hub,
            expected: BTreeMap::new(),
        }],
        methods: Vec::new(),
        evaluations: Vec::new(),
        comparisons: Vec::new(),
        references: Vec::new(),
        tasks: Vec::new(),
        generations: Vec::new(),
        origin: Origin::default(),
    };
    Ok((experiment, protocol))
}

/// The error of a name that stands for a method of whole units where weights are pruned.
fn whole_units(name: &str) -> Error {
    Error::config(format!(
        "`{name}` removes whole units, which makes a model smaller and not sparser: use `zprune shrink --method {name} --units 0.2`"
    ))
}

/// A method as the command line names it, with its allocator, transform, permutation, refinement and compensation.
fn named_method(
    name: &str,
    allocator: Option<&str>,
    [transform, permutation, refine, compensate]: [Option<&str>; 4],
    settings: &[String],
    group: Option<Group>,
) -> Result<RawMethod> {
    if UNITS.find(name).is_ok() {
        return Err(whole_units(name));
    }
    let spanned = |name: &str| Spanned::new(WHOLE, component(name));
    let mut method = stands_for(name).unwrap_or_else(|| RawMethod {
        criterion: Some(spanned(name)),
        ..RawMethod::default()
    });
    let typed = [allocator, transform, permutation, refine, compensate].map(|name| name.map(spanned));
    let [allocator, transform, permutation, refine, compensate] = typed;
    method.allocator = allocator;
    method.transform = transform;
    method.permutation = permutation;
    method.refine = refine;
    method.compensate = compensate;
    method.group = group;
    for setting in settings {
        let (key, value) = assignment(setting)?;
        let (step, key) = match key.split_once('.') {
            Some(named) => named,
            None => {
                refuse_of_other_step(&method, key, value)?;
                ("criterion", key)
            }
        };
        let part = match step {
            "criterion" => &mut method.criterion,
            "solver" => &mut method.solver,
            "allocator" => &mut method.allocator,
            "transform" => &mut method.transform,
            "permutation" => &mut method.permutation,
            "refine" => &mut method.refine,
            "compensate" => &mut method.compensate,
            _ => return Err(registry::unknown("step in --set", step, &STEPS)),
        };
        let part = part.as_mut().ok_or_else(|| absent(step))?;
        part.get_mut().parameters.insert(key.to_string(), value_of(value));
    }
    Ok(method)
}

/// Refuses a parameter without a step that the criterion does not have, and another step of the method has.
fn refuse_of_other_step(method: &RawMethod, key: &str, value: &str) -> Result<()> {
    fn has<T: ?Sized>(components: &Components<T>, step: Option<&Spanned<RawComponent>>, key: &str) -> Option<String> {
        let name = &step?.get_ref().name;
        let parameters = components.parameters(name).ok()?;
        parameters
            .iter()
            .any(|parameter| parameter.name == key)
            .then(|| name.clone())
    }
    if has(&CRITERIA, method.criterion.as_ref(), key).is_some() {
        return Ok(());
    }
    let steps = [
        ("solver", has(&SOLVERS, method.solver.as_ref(), key)),
        ("allocator", has(&ALLOCATORS, method.allocator.as_ref(), key)),
        ("transform", has(&TRANSFORMS, method.transform.as_ref(), key)),
        ("permutation", has(&PERMUTATIONS, method.permutation.as_ref(), key)),
        ("refine", has(&REFINERS, method.refine.as_ref(), key)),
        ("compensate", has(&COMPENSATIONS, method.compensate.as_ref(), key)),
    ];
    match steps.into_iter().find_map(|(step, name)| Some((step, name?))) {
        None => Ok(()),
        Some((step, name)) => {
            let criterion = method.criterion.as_ref().map_or("", |typed| &typed.get_ref().name);
            Err(Error::config(format!(
                "--set {key}={value}: the criterion `{criterion}` has no parameter `{key}`, but `{name}`, which is the method's {step}, has \
                 one: write --set {step}.{key}={value}"
            )))
        }
    }
}

/// The error of a setting for a step that the method does not have.
fn absent(step: &str) -> Error {
    let give = match step {
        "solver" => "--method CRITERION+SOLVER".to_string(),
        step => format!("--{step} NAME"),
    };
    Error::config(format!(
        "--set {step}.…: the method has no such step; add it with {give}"
    ))
}

fn component(name: &str) -> RawComponent {
    RawComponent {
        name: name.to_string(),
        parameters: toml::Table::new(),
    }
}

/// A value as it would stand in TOML; what is none there is a string.
fn value_of(text: &str) -> toml::Value {
    let table: std::result::Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_string()))
}
