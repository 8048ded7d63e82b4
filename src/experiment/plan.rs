//! What an experiment means: components looked up, defaults filled in, contradictions refused, the grid
//! of cells laid out. Looks at no file but the experiment's own.

use super::comparison::Comparison;
use super::machine::{Machine, Processor, Request};
use super::protocol::{Length, Named, agree};
use super::raw::{
    RawCalibration, RawComponent, RawEvaluation, RawExperiment, RawMethod, RawModel, RawPattern, RawTask, Source,
};
use super::reference::Reference;
use crate::calibrate::{Goal, Stage};
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::error::{Error, Located, Result};
use crate::eval::tasks::{Harness, TASKS};
use crate::files::names;
use crate::hub::Repository;
use crate::hub::datasets::{self, Use};
use crate::linalg::Provider;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::{Build, Built};
use crate::prune::criterion::CRITERIA;
use crate::prune::pattern::{Group, Pattern, Selection};
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::recipe::Recipe;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::registry::{Registry, suggestion};
use serde::{Deserialize, Serialize};
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// More calibration tokens than this are a slip: 67 million, where papers take 262 thousand. The activations of a model
/// of width 4096 would take a terabyte.
const MOST_CALIBRATION_TOKENS: usize = 1 << 26;

/// Of all seeds together, and of an evaluation: their ids are in memory at once and take 1 GiB.
const MOST_TOKENS: usize = 1 << 28;

/// More cells than this are a slip, too: a plan holds all of them.
const MOST_CELLS: usize = 100_000;

/// Label of the unpruned model in tables.
pub const DENSE: &str = "dense";

/// A resolved experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Names the results folder.
    pub name: String,
    /// One question, in a sentence.
    pub description: String,
    /// Confidence of intervals.
    pub confidence: f64,
    /// Who computes, and how.
    #[serde(flatten)]
    pub machine: Machine,
    /// Provider of factorisations.
    pub linear_algebra: Provider,
    /// The protocol that the settings follow, if they follow one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether texts start with the tokenizer's special tokens.
    #[serde(default, skip_serializing_if = "Bos::is_default")]
    pub bos: Bos,
    /// What happens to ties.
    pub selection: Selection,
    /// Calibration seeds.
    pub seeds: Vec<u64>,
    /// Sparsity patterns.
    pub patterns: Vec<Pattern>,
    /// Calibration, when any method needs it.
    pub calibration: Option<CalibrationPlan>,
    /// Models.
    pub models: Vec<ModelPlan>,
    /// Methods.
    pub methods: Vec<MethodPlan>,
    /// Evaluations.
    pub evaluations: Vec<EvaluationPlan>,
    /// Families of comparisons; without any, every pair of methods is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Published values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Zero-shot tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskPlan>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Label.
    pub name: String,
    /// Model directory; for a model of the hub, `hub:` and its repository.
    pub path: PathBuf,
    /// The commit the hub's revision stood for when the experiment ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How to get it.
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
    /// The known value.
    pub perplexity: f64,
    /// How far the dense run may be off, as a fraction of it.
    pub tolerance: f64,
}

/// Calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPlan {
    /// Corpus; a file, or `hub:` and what it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus; `{seed}` stands for the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// How the corpus's rows become one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// How windows are drawn from the corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Number of windows.
    pub sequences: usize,
    /// Tokens per window.
    pub length: Length,
    /// What a layer's statistics are gathered on.
    #[serde(rename = "propagate")]
    pub stage: Stage,
}

/// A component by name, with all its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentPlan {
    /// Registry name.
    pub name: String,
    /// All parameters, defaults filled in.
    pub parameters: serde_json::Value,
}

/// One method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodPlan {
    /// Label.
    pub name: String,
    /// Among which weights.
    pub group: Group,
    /// Whether it looks at calibration inputs; one that does not has no seeds.
    pub calibrated: bool,
    /// What to remove.
    pub criterion: ComponentPlan,
    /// How to make up for it.
    pub solver: ComponentPlan,
    /// From where.
    pub allocator: ComponentPlan,
    /// The other steps.
    #[serde(flatten)]
    pub steps: StepPlans,
}

/// The steps that a method may do without.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepPlans {
    /// Which columns share an N:M group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permutation: Option<ComponentPlan>,
    /// Which mask of the same size is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refine: Option<ComponentPlan>,
    /// What a bias makes up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<ComponentPlan>,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationPlan {
    /// Label.
    pub name: String,
    /// Corpus; a file, or `hub:` and what it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// How the corpus's rows become one text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Number of rows of the corpus, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Tokens per window.
    pub length: Length,
    /// Number of windows, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
}

/// One zero-shot task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// Registry name.
    pub name: String,
    /// File, folder of files, or `hub:` and what it is there.
    pub data: PathBuf,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
    /// Number of documents, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Whose scores are wanted.
    pub harness: Harness,
}

/// One run of the grid, by position in the experiment's lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Index of the model.
    pub model: usize,
    /// What is done to it; `None` measures the dense model.
    pub pruning: Option<Pruning>,
}

/// What a cell does to its model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// Index of the method.
    pub method: usize,
    /// The pattern.
    pub pattern: Pattern,
    /// Calibration seed, for methods that calibrate.
    pub seed: Option<u64>,
}

/// Reads and resolves an experiment file.
///
/// # Errors
/// Everything that can be known without opening another file, with its place in this one.
pub fn read(path: &Path) -> Result<Experiment> {
    read_on(path, &Request::default())
}

/// As [`read`], on the machine that a command line asks for instead of the file's.
///
/// # Errors
/// As [`read`].
pub fn read_on(path: &Path, request: &Request) -> Result<Experiment> {
    let source = Source::read(path)?;
    resolve(&source.parse()?, &source, request)
}

/// Resolves the text of an experiment file.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source) -> Result<Experiment> {
    resolve(&source.parse()?, source, &Request::default())
}

fn resolve(raw: &RawExperiment, source: &Source, request: &Request) -> Result<Experiment> {
    let at = |offset: usize| source.place(offset);
    let name = raw.name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || names::plain(name) != *name {
        let message =
            format!("name `{name}` becomes a folder: use letters, digits, `-`, `_` and `.`, and no name of a device");
        return Err(Error::config(message).at(at(raw.name.span().start)));
    }
    if name.len() > names::LONGEST {
        let message = format!(
            "name becomes a folder, whose name has at most {} bytes; it has {}",
            names::LONGEST,
            name.len()
        );
        return Err(Error::config(message).at(at(raw.name.span().start)));
    }
    let sweep = raw.sweep.get_ref();
    let sweep_place = at(raw.sweep.span().start);
    not_empty(&raw.model, "[[model]]").at(source.path.display())?;
    not_empty(&raw.method, "[[method]]").at(source.path.display())?;
    if raw.task.is_empty() {
        not_empty(&raw.evaluation, "[[evaluation]]").at(source.path.display())?;
    }
    not_empty(&sweep.patterns, "sweep.patterns").at(&sweep_place)?;

    let protocol = match &raw.protocol {
        None => None,
        Some(name) => Some(Named::find(name.get_ref()).at(at(name.span().start))?),
    };
    let selection = agree(protocol, "selection", sweep.selection, |it| it.selection).at(&sweep_place)?;
    let bos = agree(protocol, "bos", raw.bos, |it| it.bos).at(source.path.display())?;
    let linear_algebra = raw
        .compute
        .linear_algebra
        .as_ref()
        .map_or(Provider::Faer, |provider| *provider.get_ref());
    if !linear_algebra.available() {
        let place = raw
            .compute
            .linear_algebra
            .as_ref()
            .map_or(0, |provider| provider.span().start);
        let message = "linear_algebra = \"lapack\" needs a build with `cargo build --release --features lapack`";
        return Err(Error::config(message).at(at(place)));
    }
    let asked = Request {
        backend: raw.compute.backend,
        compute: raw.compute.compute,
        adapter: raw.compute.adapter.clone(),
        memory: raw.compute.memory.clone(),
        scratch: raw.compute.scratch.clone(),
    };
    let machine = request.or(&asked).resolve().at(source.path.display())?;
    if machine.backend == Processor::Gpu && linear_algebra != Provider::Faer {
        let message = "linear_algebra = \"lapack\" is for backend = \"cpu\": a GPU factors matrices itself";
        return Err(Error::config(message).at(source.path.display()));
    }
    let confidence = match &raw.report {
        None => 0.95,
        Some(report) => {
            let confidence = report.get_ref().confidence.unwrap_or(0.95);
            check_confidence(confidence).at(at(report.span().start))?;
            confidence
        }
    };

    let mut experiment = Experiment {
        name: name.clone(),
        description: raw.description.clone(),
        confidence,
        machine,
        linear_algebra,
        protocol: protocol.map(|protocol| protocol.name.to_string()),
        bos: bos.unwrap_or_default(),
        selection: selection.unwrap_or_default(),
        seeds: sweep.seeds.clone(),
        patterns: Vec::new(),
        calibration: None,
        models: Vec::new(),
        methods: Vec::new(),
        evaluations: Vec::new(),
        comparisons: Vec::new(),
        references: Vec::new(),
        tasks: Vec::new(),
    };
    for raw in &raw.model {
        let place = at(raw.span().start);
        let model = raw.get_ref();
        let (path, hub) = model_place(model).at(&place)?;
        // `hub:org/name` has the repository's own name as its last part, too.
        let folder = || path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = model.name.clone().or_else(folder).unwrap_or_default();
        distinct(&name, experiment.models.iter().map(|model| &model.name), "model name").at(&place)?;
        experiment.models.push(ModelPlan {
            name,
            path,
            commit: None,
            obtain: model.obtain.clone(),
            hub,
            expected: model.expected.clone(),
        });
    }
    for raw in &sweep.patterns {
        let place = at(raw.span().start);
        let pattern = pattern(raw.get_ref()).at(&place)?;
        if experiment.patterns.contains(&pattern) {
            return Err(Error::config(format!("pattern {pattern} is listed twice")).at(place));
        }
        experiment.patterns.push(pattern);
    }
    for raw in &raw.method {
        let place = at(raw.span().start);
        let method = method(raw.get_ref(), protocol, &at)?;
        distinct(
            &method.name,
            experiment.methods.iter().map(|method| &method.name),
            "method name",
        )
        .at(&place)?;
        if method.name == DENSE {
            return Err(Error::config(format!("method name `{DENSE}` is taken by the unpruned model")).at(place));
        }
        experiment.methods.push(method);
    }
    for raw in &raw.evaluation {
        let place = at(raw.span().start);
        let name = &raw.get_ref().name;
        distinct(
            name,
            experiment.evaluations.iter().map(|it| &it.name),
            "evaluation name",
        )
        .at(&place)?;
        let evaluation = evaluation(raw.get_ref(), protocol).at(&place)?;
        experiment.evaluations.push(evaluation);
    }
    for raw in &raw.task {
        let place = at(raw.span().start);
        let task = task(raw.get_ref()).at(&place)?;
        distinct(&task.name, experiment.tasks.iter().map(|it| &it.name), "task").at(&place)?;
        experiment.tasks.push(task);
    }
    for (model, raw) in experiment.models.iter().zip(&raw.model) {
        expectations(&model.expected, &experiment.evaluations).at(at(raw.span().start))?;
    }
    for raw in &raw.comparison {
        let place = at(raw.span().start);
        let comparison = Comparison::resolve(raw.get_ref(), &experiment).at(&place)?;
        let others = experiment.comparisons.iter().map(|other| &other.family);
        distinct(&comparison.family, others, "family").at(place)?;
        experiment.comparisons.push(comparison);
    }
    for raw in &raw.reference {
        let reference = Reference::resolve(raw.get_ref(), &experiment).at(at(raw.span().start))?;
        experiment.references.push(reference);
    }
    if let Some(raw) = &raw.calibration {
        let place = at(raw.span().start);
        experiment.calibration = Some(calibration(raw.get_ref(), protocol, &sweep.seeds).at(place)?);
    }
    if let Some(method) = experiment.methods.iter().find(|method| method.calibrated) {
        if experiment.calibration.is_none() {
            let message = format!(
                "method `{}` needs calibration, but there is no [calibration]",
                method.name
            );
            return Err(Error::config(message).at(source.path.display()));
        }
        if experiment.seeds.is_empty() {
            let message = format!("method `{}` needs calibration seeds: `seeds = [0, 1, 2]`", method.name);
            return Err(Error::config(message).at(sweep_place));
        }
    }
    let cells = experiment.count();
    if cells.max(experiment.seeds.len()) > MOST_CELLS {
        let message = format!(
            "models, methods, patterns and seeds make {cells} cells, and an experiment has at most {MOST_CELLS}: divide it into several"
        );
        return Err(Error::config(message).at(sweep_place));
    }
    if let Some(seed) = (1..experiment.seeds.len())
        .map(|index| (experiment.seeds[index], &experiment.seeds[..index]))
        .find_map(|(seed, earlier)| earlier.contains(&seed).then_some(seed))
    {
        return Err(Error::config(format!("seed {seed} is listed twice")).at(sweep_place));
    }
    Ok(experiment)
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
            "confidence {confidence} is not between {} and {}: the ends of intervals are quantiles of resampled means, \
             of which too few are farther out, and below one half they miss more often than not; 0.95 is usual",
            CONFIDENCE.start(),
            CONFIDENCE.end()
        ))),
    }
}

/// Resolves an evaluation.
pub(super) fn evaluation(evaluation: &RawEvaluation, protocol: Option<Named>) -> Result<EvaluationPlan> {
    one_text(&evaluation.corpus, &evaluation.tokens, evaluation.join.is_some(), false)?;
    if evaluation.rows == Some(0) || (evaluation.rows.is_some() && evaluation.corpus.is_none()) {
        return Err(Error::config("`rows` is a number of rows of the `corpus`, at least 1"));
    }
    let text = evaluation.corpus.as_deref();
    let text = text.map(|corpus| text_plan(corpus, evaluation.join, Use::Evaluation));
    let (corpus, join) = text.transpose()?.unzip();
    let join = join.map(|(known, join)| match protocol {
        Some(protocol) if !known => protocol.settings.join,
        _ => join,
    });
    let length = agree(protocol, "length", evaluation.length, |it| it.context)?;
    let evaluation = EvaluationPlan {
        name: evaluation.name.clone(),
        corpus,
        tokens: evaluation.tokens.clone(),
        obtain: evaluation.obtain.clone(),
        join,
        rows: evaluation.rows,
        length: length.ok_or_else(|| missing("length"))?,
        windows: evaluation.windows,
    };
    evaluation.validate()?;
    Ok(evaluation)
}

/// Resolves a zero-shot task.
pub(super) fn task(raw: &RawTask) -> Result<TaskPlan> {
    let task = &TASKS.find(&raw.name)?.item;
    if raw.limit == Some(0) {
        return Err(Error::config("`limit` is a number of documents, at least 1"));
    }
    let data = raw.data.clone().unwrap_or_else(|| task.hub.into());
    // A slip in a path into the hub is said now.
    datasets::file(&data)?;
    Ok(TaskPlan {
        name: raw.name.clone(),
        data,
        obtain: raw.obtain.clone(),
        limit: raw.limit,
        harness: raw.harness.unwrap_or_default(),
    })
}

/// Resolves calibration.
pub(super) fn calibration(
    calibration: &RawCalibration,
    protocol: Option<Named>,
    seeds: &[u64],
) -> Result<CalibrationPlan> {
    one_text(
        &calibration.corpus,
        &calibration.tokens,
        calibration.join.is_some(),
        calibration.sampling.is_some(),
    )?;
    let sampling = match &calibration.corpus {
        None => None,
        Some(_) => {
            let sampling = agree(protocol, "sampling", calibration.sampling, |it| it.sampling)?;
            let message = "missing field `sampling`: `documents` or `packed`";
            Some(sampling.ok_or_else(|| Error::config(message))?)
        }
    };
    let length = agree(protocol, "length", calibration.length, |it| it.context)?;
    let stage = agree(protocol, "stage", calibration.stage, |it| it.stage)?;
    if calibration.target == Some(Goal::Dense) {
        let message = "target = \"dense\": no solver here reproduces the dense model's outputs yet; leave `target` out";
        return Err(Error::config(message));
    }
    let sequences = calibration.sequences.or(protocol.map(|it| it.settings.sequences));
    if let Some(tokens) = &calibration.tokens {
        one_draw(tokens, seeds)?;
    }
    let text = calibration.corpus.as_deref();
    // Documents are drawn one by one: how they would be joined decides nothing, so it is left alone.
    let alone = sampling == Some(Sampling::Documents);
    let join = calibration.join.or(alone.then_some(Join::None));
    let text = text.map(|corpus| text_plan(corpus, join, Use::Calibration));
    let (corpus, join) = text.transpose()?.unzip();
    let join = join.map(|(_, join)| join);
    let calibration = CalibrationPlan {
        corpus,
        tokens: calibration.tokens.clone(),
        obtain: calibration.obtain.clone(),
        join,
        sampling,
        sequences: sequences.ok_or_else(|| missing("sequences"))?,
        length: length.ok_or_else(|| missing("length"))?,
        stage: stage.unwrap_or_default(),
    };
    calibration.validate()?;
    calibration.check_size(calibration.length.fixed().unwrap_or(1), seeds.len())?;
    Ok(calibration)
}

/// Stands for the seed in the name of a token windows file.
const SEED: &str = "{seed}";

/// Where a model is: its path as shown and, for one of the hub, its repository.
pub(super) fn model_place(model: &RawModel) -> Result<(PathBuf, Option<Repository>)> {
    match (&model.path, &model.hub) {
        (Some(path), None) if model.revision.is_none() => {
            if let Some(repository) = path.to_str().and_then(|path| path.strip_prefix(datasets::PREFIX)) {
                let message = format!("a model of the hub is written `hub = \"{repository}\"`, not as a path");
                return Err(Error::config(message));
            }
            Ok((path.clone(), None))
        }
        (None, Some(name)) => {
            let repository = Repository::model(name, model.revision.as_deref())?;
            Ok((format!("{}{name}", datasets::PREFIX).into(), Some(repository)))
        }
        (Some(_), None) => Err(Error::config(
            "`revision` belongs to a model of the `hub`, not to a `path`",
        )),
        (Some(_), Some(_)) => Err(Error::config("a model has either `path` or `hub`, not both")),
        (None, None) => Err(Error::config(
            "missing field `path`: a model directory, or `hub = \"org/name\"` in its place",
        )),
    }
}

/// Refuses a text that is neither a corpus nor token windows, or both.
fn one_text(corpus: &Option<PathBuf>, tokens: &Option<PathBuf>, joined: bool, sampled: bool) -> Result<()> {
    let message = match (corpus, tokens) {
        (Some(_), Some(_)) => "`tokens` takes the place of `corpus`; give one of them",
        (None, None) => "missing field `corpus`: a text, or `tokens` with a token windows file in its place",
        (None, Some(_)) if joined => "`tokens` are windows already; `join` belongs to a `corpus`",
        (None, Some(_)) if sampled => "`tokens` are windows already; `sampling` belongs to a `corpus`",
        _ => return Ok(()),
    };
    Err(Error::config(message))
}

/// A tokens file is one draw, so it cannot stand for several seeds unless its name tells them apart.
fn one_draw(tokens: &Path, seeds: &[u64]) -> Result<()> {
    if seeds.len() > 1 && !tokens.to_string_lossy().contains(SEED) {
        let message = format!(
            "`{}` is one draw, but there are {} seeds; name it with `{SEED}`, or give one seed",
            tokens.display(),
            seeds.len()
        );
        return Err(Error::config(message));
    }
    Ok(())
}

/// A corpus with everything spelled out, and how its rows are joined.
/// Whether that was said, by the experiment or by the data set, comes with it.
fn text_plan(corpus: &Path, join: Option<Join>, purpose: Use) -> Result<(PathBuf, (bool, Join))> {
    let (corpus, own) = datasets::spelled_out(corpus, purpose)?;
    let known = join.or(own);
    Ok((corpus, (known.is_some(), known.unwrap_or(Join::None))))
}

/// Refuses a label that is none of the known ones.
pub(super) fn known(what: &str, name: &str, known: &[&str]) -> Result<()> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(Error::config(format!(
        "there is no {what} `{name}`{}",
        suggestion(name, known)
    )))
}

/// Checks what is expected of a model.
fn expectations(expected: &BTreeMap<String, Expected>, evaluations: &[EvaluationPlan]) -> Result<()> {
    let known: Vec<&str> = evaluations.iter().map(|it| it.name.as_str()).collect();
    for (name, Expected { perplexity, tolerance }) in expected {
        if !known.contains(&name.as_str()) {
            let message = format!("`expected` names no evaluation `{name}`{}", suggestion(name, &known));
            return Err(Error::config(message));
        }
        if !(*perplexity >= 1.0 && *tolerance >= 0.0 && perplexity.is_finite() && *tolerance < 1.0) {
            return Err(Error::config(format!(
                "expected.{name}: a perplexity is at least 1, and its tolerance a fraction of it below 1"
            )));
        }
    }
    Ok(())
}

fn missing(key: &str) -> Error {
    Error::config(format!("missing field `{key}`; a `protocol` would set it"))
}

fn not_empty<T>(list: &[T], what: &str) -> Result<()> {
    if list.is_empty() {
        return Err(Error::config(format!("there is no {what}; at least one is needed")));
    }
    Ok(())
}

fn distinct<'a>(name: &String, mut others: impl Iterator<Item = &'a String>, what: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::config(format!("a {what} is empty")));
    }
    if let Some(hidden) = name.chars().find(|c| names::is_hidden(*c)) {
        return Err(Error::config(format!(
            "{what} {name:?} has a line break or another control character or one that is not seen (U+{:04X}); choose \
             another `name`",
            u32::from(hidden)
        )));
    }
    if others.any(|other| other == name) {
        return Err(Error::config(format!(
            "{what} `{name}` is used twice; give one of them another `name`"
        )));
    }
    Ok(())
}

/// Resolves a pattern.
pub(super) fn pattern(raw: &RawPattern) -> Result<Pattern> {
    let pattern = match (raw.sparsity, raw.keep, raw.of) {
        (Some(sparsity), None, None) => Pattern::Unstructured { sparsity },
        (None, Some(keep), Some(of)) => Pattern::NofM { keep, of },
        _ => {
            return Err(Error::config(
                "a pattern is either { sparsity = 0.5 } or { keep = 2, of = 4 }, not both and not half of one",
            ));
        }
    };
    pattern.validate()?;
    Ok(pattern)
}

/// Looks a component up and builds it once, to check its parameters.
fn component<T: ?Sized>(
    registry: &'static Registry<Build<T>>,
    raw: &RawComponent,
) -> Result<(ComponentPlan, Built<T>)> {
    let entry = registry.find(&raw.name)?;
    let built = (entry.item)(&raw.parameters).at(format_args!("{} `{}`", registry.kind, raw.name))?;
    let plan = ComponentPlan {
        name: raw.name.clone(),
        parameters: built.parameters.clone(),
    };
    Ok((plan, built))
}

/// Resolves a method; `at` turns a byte offset of the file into a place.
pub(super) fn method(raw: &RawMethod, protocol: Option<Named>, at: &dyn Fn(usize) -> String) -> Result<MethodPlan> {
    let place = |raw: &Spanned<RawComponent>| at(raw.span().start);
    let default = |name: &str| RawComponent {
        name: name.to_string(),
        parameters: toml::Table::new(),
    };
    let (criterion, score) = component(&CRITERIA, raw.criterion.get_ref()).at(place(&raw.criterion))?;
    let (solver, solve) = match &raw.solver {
        Some(solver) => component(&SOLVERS, solver.get_ref()).at(place(solver))?,
        None => component(&SOLVERS, &default("one-shot"))?,
    };
    let (allocator, _) = match &raw.allocator {
        Some(allocator) => component(&ALLOCATORS, allocator.get_ref()).at(place(allocator))?,
        None => component(&ALLOCATORS, &default("uniform"))?,
    };
    let mut needs = score.component.needs().and(solve.component.needs());
    let mut steps = StepPlans::default();
    if let Some(raw) = &raw.permutation {
        let (plan, built) = component(&PERMUTATIONS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.permutation = Some(plan);
    }
    if let Some(raw) = &raw.refine {
        let (plan, built) = component(&REFINERS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.refine = Some(plan);
    }
    if let Some(raw) = &raw.compensate {
        let (plan, built) = component(&COMPENSATIONS, raw.get_ref()).at(place(raw))?;
        needs = needs.and(built.component.needs());
        steps.compensate = Some(plan);
    }
    let label = || match (criterion.name.as_str(), solver.name.as_str()) {
        ("obs", "obs") => "sparsegpt".to_string(),
        (criterion, "one-shot") => criterion.to_string(),
        (criterion, solver) => format!("{criterion}+{solver}"),
    };
    // A criterion that follows a solver's updates is scored block by block; no paper compares it otherwise.
    let own = score.component.group();
    let group = agree(protocol, "group", raw.group, |it| {
        it.one_shot.filter(|_| !score.component.follows_update()).unwrap_or(own)
    });
    Ok(MethodPlan {
        name: raw.name.clone().unwrap_or_else(label),
        group: group.at(place(&raw.criterion))?.unwrap_or(own),
        calibrated: needs.anything(),
        criterion,
        solver,
        allocator,
        steps,
    })
}

impl MethodPlan {
    /// Makes the method ready to use.
    pub(crate) fn build(&self, selection: Selection, provider: Provider) -> Result<Recipe> {
        Ok(Recipe {
            criterion: self.criterion.build(&CRITERIA)?,
            solver: self.solver.build(&SOLVERS)?,
            allocator: self.allocator.build(&ALLOCATORS)?,
            permutation: optional(&self.steps.permutation, &PERMUTATIONS)?,
            refiner: optional(&self.steps.refine, &REFINERS)?,
            compensation: optional(&self.steps.compensate, &COMPENSATIONS)?,
            group: self.group,
            selection,
            provider,
        })
    }
}

/// Makes a step that a method may do without.
fn optional<T: ?Sized>(plan: &Option<ComponentPlan>, registry: &'static Registry<Build<T>>) -> Result<Option<Box<T>>> {
    plan.as_ref().map(|plan| plan.build(registry)).transpose()
}

impl CalibrationPlan {
    /// Checks the numbers on their own.
    ///
    /// # Errors
    /// No window, windows too short to predict anything, or more tokens than anybody means.
    pub fn validate(&self) -> Result<()> {
        let (sequences, length) = (self.sequences, self.length);
        self.check_size(length.fixed().unwrap_or(1), 1)?;
        if sequences == 0 || length.fixed().is_some_and(|length| length < 2) {
            return Err(Error::config(
                "calibration needs at least one sequence of at least 2 tokens",
            ));
        }
        Ok(())
    }

    /// Checks that the windows of so many seeds, each of `length` tokens, can be held.
    ///
    /// # Errors
    /// They are more tokens than anybody means.
    pub fn check_size(&self, length: usize, seeds: usize) -> Result<()> {
        let sequences = self.sequences;
        let tokens = sequences.checked_mul(length);
        if tokens.is_none_or(|tokens| tokens > MOST_CALIBRATION_TOKENS) {
            return Err(Error::config(format!(
                "{sequences} sequences of {length} tokens are more than {MOST_CALIBRATION_TOKENS} calibration tokens"
            )));
        }
        let all = tokens.and_then(|tokens| tokens.checked_mul(seeds));
        if all.is_none_or(|tokens| tokens > MOST_TOKENS) {
            return Err(Error::config(format!(
                "{sequences} sequences of {length} tokens for each of {seeds} seeds are more than {MOST_TOKENS} \
                 calibration tokens"
            )));
        }
        Ok(())
    }
}

impl EvaluationPlan {
    /// Checks the numbers on their own.
    ///
    /// # Errors
    /// No window, windows too short to predict anything, or more tokens than can be held.
    pub fn validate(&self) -> Result<()> {
        if self.length.fixed().is_some_and(|length| length < 2) || self.windows == Some(0) {
            return Err(Error::config(
                "an evaluation needs `length` of at least 2 and at least one window",
            ));
        }
        self.check_size(self.length.fixed().unwrap_or(1))
    }

    /// Checks that the windows, each of `length` tokens, can be held.
    ///
    /// # Errors
    /// They are more tokens than anybody means.
    pub fn check_size(&self, length: usize) -> Result<()> {
        let windows = self.windows.unwrap_or(1);
        if windows.checked_mul(length).is_none_or(|tokens| tokens > MOST_TOKENS) {
            let message = format!("{windows} windows of {length} tokens are more than {MOST_TOKENS} tokens");
            return Err(Error::config(message));
        }
        Ok(())
    }
}

impl ComponentPlan {
    /// Makes the component again from its recorded parameters.
    pub(crate) fn build<T: ?Sized>(&self, registry: &'static Registry<Build<T>>) -> Result<Box<T>> {
        let table = toml::Table::try_from(&self.parameters)
            .map_err(|error| Error::config(format!("parameters of `{}`: {error}", self.name)))?;
        Ok((registry.find(&self.name)?.item)(&table)?.component)
    }
}

impl CalibrationPlan {
    /// The file that a seed's windows come from.
    pub fn file(&self, seed: u64) -> PathBuf {
        match (&self.corpus, &self.tokens) {
            (None, Some(tokens)) => tokens.to_string_lossy().replace(SEED, &seed.to_string()).into(),
            (corpus, _) => corpus.clone().unwrap_or_default(),
        }
    }

    /// The file as the experiment names it, for messages.
    pub fn source(&self) -> &Path {
        named(&self.corpus, &self.tokens)
    }
}

impl TaskPlan {
    /// The file that the documents come from: in a folder, the one named after the task.
    pub fn file(&self) -> PathBuf {
        let files = TASKS.find(&self.name).map_or(&[][..], |entry| entry.item.files);
        let named = || {
            let endings = ["jsonl", "json", "jsonl.gz", "json.gz", "parquet"];
            files
                .iter()
                .flat_map(move |file| endings.map(|ending| self.data.join(format!("{file}.{ending}"))))
        };
        match self.data.is_dir() {
            false => self.data.clone(),
            true => named()
                .find(|path| path.exists())
                .or(named().next())
                .unwrap_or_default(),
        }
    }
}

impl EvaluationPlan {
    /// The file that the windows come from.
    pub fn source(&self) -> &Path {
        named(&self.corpus, &self.tokens)
    }
}

/// A resolved plan has exactly one of the two; one edited by hand may have none, and then no file is there.
fn named<'a>(corpus: &'a Option<PathBuf>, tokens: &'a Option<PathBuf>) -> &'a Path {
    let file = corpus.as_deref().or(tokens.as_deref());
    file.unwrap_or(Path::new(""))
}

impl Experiment {
    /// Makes a method ready to use.
    ///
    /// # Errors
    /// Never for a resolved experiment; a plan file edited by hand may name things that do not exist.
    pub fn method(&self, index: usize) -> Result<Recipe> {
        self.methods[index].build(self.selection, self.linear_algebra)
    }

    /// Whether any text is tokenised; otherwise a model needs no tokenizer.
    pub fn reads_texts(&self) -> bool {
        let calibration = self.calibration.iter().any(|plan| plan.corpus.is_some());
        let evaluations = self.evaluations.iter().any(|plan| plan.corpus.is_some());
        calibration || evaluations || !self.tasks.is_empty()
    }

    /// All cells, in the order they run: per model the dense one, then seed by seed, so that an
    /// interrupted sweep has whole tables of fewer seeds. A method that does not calibrate runs once.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for model in 0..self.models.len() {
            cells.push(Cell { model, pruning: None });
            let mut seeds: Vec<Option<u64>> = self.seeds.iter().copied().map(Some).collect();
            if seeds.is_empty() {
                seeds.push(None);
            }
            for (round, seed) in seeds.into_iter().enumerate() {
                for pattern in &self.patterns {
                    for (method, plan) in self.methods.iter().enumerate() {
                        if plan.calibrated || round == 0 {
                            let pruning = Pruning {
                                method,
                                pattern: *pattern,
                                seed: seed.filter(|_| plan.calibrated),
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
        self.patterns.len() * self.methods.iter().filter(|method| method.calibrated).count()
    }

    /// How many cells there are.
    fn count(&self) -> usize {
        let calibrated = self.methods.iter().filter(|method| method.calibrated).count();
        let rounds = calibrated.saturating_mul(self.seeds.len().max(1));
        let methods = rounds.saturating_add(self.methods.len() - calibrated);
        let of_model = methods.saturating_mul(self.patterns.len()).saturating_add(1);
        of_model.saturating_mul(self.models.len())
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
