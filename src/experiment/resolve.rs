//! What an experiment file means: components looked up, defaults filled in, contradictions refused.
//!
//! Looks at nothing of this machine, and reads no file but the experiment's own and those whose shares the allocator `file` takes, which
//! become its parameters: the same texts mean the same everywhere. Whether a file is there is asked only to explain paths that
//! are meant from another folder, and to name absent files beside the mistakes of a file that is refused anyway.

mod comparison;
pub(super) mod methods;
pub(super) mod models;
mod names;
pub(crate) mod paths;
mod places;
mod reference;
mod search;
pub(super) mod texts;

use super::axes::alike;
use super::axis::Axis;
use super::machine::MachineRequest;
use super::origin::Origin;
use super::plan::{DENSE, Experiment, ModelPlan, RecipePlan, check_confidence};
use super::problems::{AtKey, Problems, WHOLE};
use super::protocol::{Named, agree};
use super::raw::{ListedMethod, RawComponent, RawExperiment, RawMethod};
use super::search::SearchPlan;
use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use crate::linalg::Provider;
use crate::prune::limits::Limits;
use crate::prune::units::UNITS;
use comparison::comparison;
pub use comparison::families;
use methods::{keys_of, method, pattern};
use models::{expectations, model_place};
use names::distinct;
use reference::reference;
use serde_spanned::Spanned;
use std::ops::Range;
use std::path::Path;
use texts::{calibration, evaluation, generation, task};

/// More cells than this are a slip: a plan holds all of them.
const MOST_CELLS: usize = 100_000;

/// What a file describes.
pub enum Described {
    /// An experiment.
    Experiment(Box<Experiment>),
    /// A search for the best method of a space.
    Search(Box<SearchPlan>),
}

/// Reads and resolves a file that may have a section `[search]`, for the machine that a command line asks for instead of the file's.
///
/// # Errors
/// As [`read`].
pub fn read_described(path: &Path, request: &MachineRequest) -> Result<Described> {
    resolve(&Source::read(path)?, request)
}

/// Resolves the text of a file that may have a section `[search]`.
///
/// # Errors
/// As [`read`].
pub fn parse_described(source: &Source) -> Result<Described> {
    resolve(source, &MachineRequest::default())
}

/// Reads and resolves an experiment file; the path `-` is standard input.
///
/// # Errors
/// Everything that can be known without the model and the texts: all mistakes at once, each with its place in the file.
pub fn read(path: &Path) -> Result<Experiment> {
    read_for(path, &MachineRequest::default())
}

/// As [`read`], for the machine that a command line asks for instead of the file's.
///
/// # Errors
/// As [`read`].
pub fn read_for(path: &Path, request: &MachineRequest) -> Result<Experiment> {
    plain(&Source::read(path)?, request)
}

/// Resolves the text of an experiment file.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source) -> Result<Experiment> {
    plain(source, &MachineRequest::default())
}

/// Resolves an experiment that is no search.
fn plain(source: &Source, request: &MachineRequest) -> Result<Experiment> {
    match resolve(source, request)? {
        Described::Experiment(experiment) => Ok(*experiment),
        Described::Search(_) => {
            let message = "it has a [search]: `zprune search` runs it, and its report is made again when it has run; every rung has a \
                           results folder of its own";
            Err(Error::config(message).at(source.path.display()))
        }
    }
}

fn resolve(source: &Source, request: &MachineRequest) -> Result<Described> {
    let mut problems = Problems::default();
    let mut absent = Vec::new();
    let described = source.parse(&mut problems).and_then(|mut raw| {
        let search = search::taken(&mut raw, &mut problems);
        paths::place(&mut raw, &source.path, &mut problems);
        absent = paths::absent(&mut raw);
        let resolving = Resolving {
            raw: &raw,
            methods: all_methods(&raw),
            source,
            searching: search.is_some(),
        };
        let mut experiment = resolving.experiment(request, &mut problems)?;
        let places = places::of_files(&raw, &resolving.methods, &experiment, &problems);
        experiment.origin = Origin::new(&source.path, &source.text, places);
        Some(match search {
            None => Described::Experiment(Box::new(experiment)),
            Some(search) => Described::Search(Box::new(search.plan(experiment, &raw, source, &mut problems)?)),
        })
    });
    // Whoever mends the mistakes of the file would be told the others only afterwards.
    problems
        .in_file(&source.path, &source.text)
        .map_err(|error| match absent.is_empty() {
            true => error,
            false => Error::new(error.kind(), format!("{error}\n\n{}", paths::besides(source, &absent))),
        })?;
    // Without a problem there is an experiment.
    described.ok_or_else(|| Error::config("cannot be read").at(source.path.display()))
}

/// The methods in the list `methods`, and then those that have a `[[method]]`.
fn all_methods(raw: &RawExperiment) -> Vec<Spanned<RawMethod>> {
    let listed = raw.methods.iter().map(|method| {
        let span = method.span();
        let keys = match method.get_ref() {
            ListedMethod::Keys(keys) => (**keys).clone(),
            ListedMethod::Name(name) => {
                let component = RawComponent {
                    name: name.clone(),
                    parameters: toml::Table::new(),
                };
                let component = Some(Spanned::new(span.clone(), component));
                match UNITS.find(name).is_ok() {
                    true => RawMethod {
                        units: component,
                        ..RawMethod::default()
                    },
                    false => RawMethod {
                        criterion: component,
                        ..RawMethod::default()
                    },
                }
            }
        };
        Spanned::new(span, keys)
    });
    listed.chain(raw.method.iter().cloned()).collect()
}

/// Tables by two axes each.
fn tables(raw: &[Vec<Axis>]) -> Result<Vec<[Axis; 2]>> {
    let pair = |axes: &Vec<Axis>| match axes[..] {
        [down, across] if down != across => Ok([down, across]),
        _ => Err(Error::config(
            "tables: a table has two axes that differ, such as [\"criterion\", \"solver\"]",
        )),
    };
    raw.iter().map(pair).collect()
}

/// Refuses a name of the experiment that cannot be the name of a folder.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || files::names::plain(name) != name {
        return Err(Error::config(format!(
            "name `{name}` becomes the name of a folder: use only letters, digits, `-`, `_` and `.`, and not the name of a device"
        )));
    }
    if name.len() > files::names::LONGEST {
        return Err(Error::config(format!(
            "`name` becomes the name of a folder and can have at most {} bytes; it has {}",
            files::names::LONGEST,
            name.len()
        )));
    }
    Ok(())
}

/// A file that is being resolved, part by part.
struct Resolving<'a> {
    raw: &'a RawExperiment,
    methods: Vec<Spanned<RawMethod>>,
    source: &'a Source,
    /// Whether it is a search, which has its own texts and methods.
    searching: bool,
}

impl Resolving<'_> {
    /// The experiment; `None` if anything is wrong. What refers to other parts is looked at only once these are right.
    fn experiment(&self, request: &MachineRequest, problems: &mut Problems) -> Option<Experiment> {
        let protocol = match &self.raw.protocol {
            None => Some(None),
            Some(name) => problems.take(&name.span(), Named::find(name.get_ref())).map(Some),
        };
        let named = protocol.flatten();
        let mut experiment = self.settings(named, request, problems)?;
        self.check_lists(problems);
        self.models(&mut experiment, problems);
        self.patterns(&mut experiment, problems);
        self.methods(&mut experiment, named, problems);
        self.tasks(&mut experiment, problems);
        self.generations(&mut experiment, problems);
        // Of a protocol that is not known, nobody knows what it would set.
        if protocol.is_some() {
            self.texts(&mut experiment, named, problems);
        }
        self.check_calibration(&experiment, problems);
        if !problems.is_empty() {
            return None;
        }
        for (method, raw) in experiment.methods.iter().zip(&self.methods) {
            if let Err(error) = experiment.check(method) {
                let place = problems.place(&raw.span(), &keys_of(raw.get_ref(), &error));
                problems.add(place, error.at(&method.name));
            }
        }
        if let Some(gradients) = self
            .raw
            .calibration
            .as_ref()
            .and_then(|raw| raw.get_ref().gradients.as_ref())
        {
            problems.take(&gradients.span(), experiment.check_gradients());
        }
        for (model, raw) in experiment.models.iter().zip(&self.raw.model) {
            let expected = expectations(&model.expected, &experiment.evaluations);
            problems.take_keyed(&raw.span(), expected.at_key("expected"));
        }
        self.families(&mut experiment, problems);
        self.check_tables(&experiment, problems);
        for raw in &self.raw.reference {
            let reference = problems.take_keyed(&raw.span(), reference(raw.get_ref(), &experiment));
            experiment.references.extend(reference);
        }
        self.check_grid(&experiment, problems);
        problems.is_empty().then_some(experiment)
    }

    fn sweep_place(&self) -> Range<usize> {
        self.raw.sweep.as_ref().map_or(WHOLE, Spanned::span)
    }

    /// The name that was typed, or that of the file.
    fn name(&self, problems: &mut Problems) -> String {
        if let Some(name) = &self.raw.name {
            problems.take(&name.span(), check_name(name.get_ref()));
            return name.get_ref().clone();
        }
        let stem = self.source.path.file_stem().unwrap_or_default().to_string_lossy();
        if check_name(&stem).is_err() {
            let message = "`name` is missing: the name of the results folder, such as `name = \"tiny\"`";
            problems.missing(&WHOLE, "name", message);
        }
        stem.into_owned()
    }

    fn check_lists(&self, problems: &mut Problems) {
        let raw = self.raw;
        let needed = |list: &str, how: &str| format!("there is no {list}; at least one is needed, {how}");
        if raw.model.is_empty() {
            let message = needed("[[model]]", "with its `path` or `hub`");
            problems.missing(&WHOLE, "model", message);
        }
        if self.methods.is_empty() && !self.searching && !problems.lost(&WHOLE, "methods") {
            let message = needed("[[method]]", "or a list: `methods = [\"wanda\", \"sparsegpt\"]`");
            problems.missing(&WHOLE, "method", message);
        }
        let nothing = raw.task.is_empty() && raw.evaluation.is_empty() && raw.generation.is_empty();
        let lost = ["evaluation", "task", "generation"].map(|key| problems.lost(&WHOLE, key));
        if nothing && !self.searching && !lost.contains(&true) {
            let message = needed(
                "[[evaluation]]",
                "with its `name`, `corpus` and `length`, or a [[task]] or [[generation]]",
            );
            problems.missing(&WHOLE, "evaluation", message);
        }
        match &raw.sweep {
            None => {
                let message = "there is no [sweep]; it has the `patterns`, such as [0.5, \"2:4\"], and the `seeds`, such as [0, 1, 2]";
                problems.missing(&WHOLE, "sweep", message);
            }
            Some(sweep) if sweep.get_ref().patterns.is_empty() => {
                let message = needed("sweep.patterns", "such as `patterns = [0.5, \"2:4\"]`");
                problems.missing(&sweep.span(), "patterns", message);
            }
            Some(_) => {}
        }
    }

    /// An experiment with the settings that hold for all of it; its lists are still empty. Where a setting is wrong, it has
    /// another one.
    fn settings(
        &self,
        protocol: Option<Named>,
        request: &MachineRequest,
        problems: &mut Problems,
    ) -> Option<Experiment> {
        let raw = self.raw;
        let sweep = raw.sweep.as_ref().map(Spanned::get_ref);
        let selection = agree(protocol, "selection", sweep.and_then(|it| it.selection), |it| {
            it.selection
        });
        let selection = problems.take_keyed(&self.sweep_place(), selection.at_key("selection"));
        let bos = agree(protocol, "bos", raw.bos, |it| it.bos);
        let bos = problems.take_keyed(&WHOLE, bos.at_key("bos")).flatten();
        let linear_algebra = self.provider(problems);
        let asked = MachineRequest {
            backend: raw.compute.backend,
            compute: raw.compute.compute,
            adapter: raw.compute.adapter.clone(),
            memory: raw.compute.memory.clone(),
            scratch: raw.compute.scratch.as_ref().map(|path| path.get_ref().clone()),
        };
        let compute = problems.place(&WHOLE, &["compute"]);
        let machine = match request.or(&asked).resolved(linear_algebra) {
            // What the command line says stands nowhere in the file.
            Err((key, error)) if request.says(key) => problems.take(&WHOLE, Err(error)),
            machine => problems.take_keyed(&compute, machine),
        };
        let (mut confidence, mut asked_tables) = (0.95, Vec::new());
        if let Some(report) = &raw.report {
            let (span, report) = (report.span(), report.get_ref());
            confidence = report.confidence.unwrap_or(confidence);
            problems.take_keyed(&span, check_confidence(confidence).at_key("confidence"));
            let tables = tables(&report.tables).at_key("tables");
            asked_tables = problems.take_keyed(&span, tables).unwrap_or_default();
        }
        Some(Experiment {
            name: self.name(problems),
            description: raw.description.clone(),
            confidence,
            tables: asked_tables,
            machine: machine.or_else(|| MachineRequest::default().resolve(Provider::Faer).ok())?,
            linear_algebra,
            protocol: protocol.map(|protocol| protocol.name.to_string()),
            bos: bos.unwrap_or_default(),
            selection: selection.flatten().unwrap_or_default(),
            seeds: sweep.map(|sweep| sweep.seeds.clone()).unwrap_or_default(),
            patterns: Vec::new(),
            calibration: None,
            models: Vec::new(),
            methods: Vec::new(),
            evaluations: Vec::new(),
            comparisons: Vec::new(),
            references: Vec::new(),
            tasks: Vec::new(),
            generations: Vec::new(),
            origin: Origin::default(),
        })
    }

    fn provider(&self, problems: &mut Problems) -> Provider {
        let Some(provider) = &self.raw.compute.linear_algebra else {
            return Provider::Faer;
        };
        if !provider.get_ref().available() {
            let message = "linear_algebra = \"lapack\" needs a build with `cargo build --release --features lapack`";
            problems.add(provider.span(), Error::config(message));
        }
        *provider.get_ref()
    }

    fn models(&self, experiment: &mut Experiment, problems: &mut Problems) {
        for raw in &self.raw.model {
            let (span, model) = (raw.span(), raw.get_ref());
            if model.path.is_none() && (problems.lost(&span, "path") || problems.lost(&span, "hub")) {
                continue;
            }
            let Some((path, hub)) = problems.take_keyed(&span, model_place(model)) else {
                continue;
            };
            // A path that is empty was told where it stands.
            if path == Path::new("") {
                continue;
            }
            // `hub:org/name` has the repository's own name as its last part, too.
            let folder = || path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = model.name.clone().or_else(folder).unwrap_or_default();
            let others = experiment.models.iter().map(|model| &model.name);
            let place = problems.place(&span, &["name", "path", "hub"]);
            problems.take(&place, distinct(&name, others, "model name"));
            experiment.models.push(ModelPlan {
                name,
                path,
                commit: None,
                obtain: model.obtain.clone(),
                hub,
                expected: model.expected.clone(),
            });
        }
    }

    fn patterns(&self, experiment: &mut Experiment, problems: &mut Problems) {
        let patterns = self.raw.sweep.iter().flat_map(|sweep| &sweep.get_ref().patterns);
        for raw in patterns {
            let Some(pattern) = problems.take(&raw.span(), pattern(raw.get_ref())) else {
                continue;
            };
            if experiment.patterns.contains(&pattern) {
                let message = format!("pattern {pattern} is listed twice");
                problems.add(raw.span(), Error::config(message));
            }
            experiment.patterns.push(pattern);
        }
    }

    fn methods(&self, experiment: &mut Experiment, protocol: Option<Named>, problems: &mut Problems) {
        // The default name of a method of which a key could not be read is not the one that it is going to have.
        let mut unsure: Vec<String> = Vec::new();
        for raw in &self.methods {
            let span = raw.span();
            let target = self.raw.calibration.as_ref().and_then(|raw| raw.get_ref().target);
            let Some(method) = method(raw, target, protocol, problems) else {
                continue;
            };
            let others = experiment.methods.iter().map(|method| &method.name);
            if raw.get_ref().name.is_none() && problems.lost_any(&span) {
                unsure.push(method.name.clone());
            }
            let distinct = match method.name == DENSE {
                true => Err(Error::config(format!(
                    "method name `{DENSE}` is taken by the unpruned model"
                ))),
                false if unsure.contains(&method.name) => Ok(()),
                false => distinct(&method.name, others, "method name"),
            };
            let mut wrong = |key: Option<&'static str>, error: Error| {
                let keys: Vec<&str> = key.into_iter().chain(keys_of(raw.get_ref(), &error)).collect();
                problems.add(problems.place(&span, &keys), error);
            };
            if let Err(error) = distinct {
                wrong(Some("name"), error);
            }
            let build = |plan: &RecipePlan| plan.build(experiment.selection, experiment.linear_algebra);
            let recipe = method.recipe().map(build).transpose();
            match recipe {
                Err(error) => wrong(None, error),
                Ok(recipe) => {
                    let patterns = experiment.patterns.iter().filter(|it| method.wants(it));
                    let checks = patterns.filter_map(|pattern| recipe.as_ref()?.check(*pattern, &Limits::NONE).err());
                    checks.for_each(|error| wrong(None, error));
                }
            }
            experiment.methods.push(method);
        }
    }

    fn tasks(&self, experiment: &mut Experiment, problems: &mut Problems) {
        for raw in &self.raw.task {
            let span = raw.span();
            let Some(task) = problems.take_keyed(&span, task(raw.get_ref())) else {
                continue;
            };
            let others = experiment.tasks.iter().map(|it| &it.name);
            problems.take_keyed(&span, distinct(&task.name, others, "task").at_key("name"));
            experiment.tasks.push(task);
        }
    }

    fn generations(&self, experiment: &mut Experiment, problems: &mut Problems) {
        for raw in &self.raw.generation {
            let span = raw.span();
            let Some(plan) = problems.take_keyed(&span, generation(raw.get_ref())) else {
                continue;
            };
            let tasks = experiment.tasks.iter().map(|it| &it.name);
            let others = tasks.chain(experiment.generations.iter().map(|it| &it.name));
            problems.take_keyed(&span, distinct(&plan.name, others, "task").at_key("name"));
            experiment.generations.push(plan);
        }
    }

    /// Resolves the evaluations and the calibration.
    fn texts(&self, experiment: &mut Experiment, protocol: Option<Named>, problems: &mut Problems) {
        for raw in &self.raw.evaluation {
            let others = experiment.evaluations.iter().map(|it| &it.name);
            let distinct = distinct(&raw.get_ref().name, others, "evaluation name");
            problems.take_keyed(&raw.span(), distinct.at_key("name"));
            experiment.evaluations.extend(evaluation(raw, protocol, problems));
        }
        if let Some(raw) = &self.raw.calibration {
            experiment.calibration = calibration(raw, protocol, &experiment.seeds, problems);
        }
    }

    fn families(&self, experiment: &mut Experiment, problems: &mut Problems) {
        for raw in &self.raw.comparison {
            let span = raw.span();
            let Some(comparison) = problems.take_keyed(&span, comparison(raw.get_ref(), experiment)) else {
                continue;
            };
            let others = experiment.comparisons.iter().map(|other| &other.family);
            let distinct = distinct(&comparison.family, others, "family");
            problems.take_keyed(&span, distinct.at_key("family"));
            experiment.comparisons.push(comparison);
        }
    }

    /// Refuses tables by axes that would be empty.
    fn check_tables(&self, experiment: &Experiment, problems: &mut Problems) {
        let Some(report) = &self.raw.report else {
            return;
        };
        for (index, axes) in experiment.tables.iter().enumerate() {
            let [down, across] = axes;
            if alike(*axes, experiment).is_empty() {
                let message = format!(
                    "tables: no two methods are alike but for `{down}` and `{across}`; under unstructured patterns their `group` \
                     counts, too"
                );
                problems.add(
                    problems.element(&report.span(), "tables", index),
                    Error::config(message),
                );
            }
        }
    }

    /// Refuses methods that calibrate where there is nothing to calibrate on.
    fn check_calibration(&self, experiment: &Experiment, problems: &mut Problems) {
        let calibrated = experiment.methods.iter().find(|method| method.calibrated);
        if let Some(method) = calibrated.filter(|_| self.raw.calibration.is_none()) {
            let message = format!(
                "method `{}` needs calibration, but there is no [calibration]; it has a `corpus`, `sequences` and `length`",
                method.name
            );
            problems.missing(&WHOLE, "calibration", message);
        }
        // One with a seed of its own is told that the sweep does not have it.
        let mut seeded = experiment.methods.iter().filter(|method| method.seed.is_none());
        let Some(method) = seeded.find(|method| method.seeded()) else {
            return;
        };
        if experiment.seeds.is_empty() && self.raw.sweep.is_some() {
            let message = match method.calibrated {
                true => format!("method `{}` needs calibration seeds: `seeds = [0, 1, 2]`", method.name),
                false => format!(
                    "the name of the file of method `{}` has `{{seed}}`, and there are no `seeds = [0, 1, 2]`",
                    method.name
                ),
            };
            problems.missing(&self.sweep_place(), "seeds", message);
        }
    }

    fn check_grid(&self, experiment: &Experiment, problems: &mut Problems) {
        let (cells, seeds) = (experiment.count(), &experiment.seeds);
        if cells.max(seeds.len()) > MOST_CELLS {
            let message = format!(
                "models, methods, patterns and seeds make {cells} cells, but an experiment has at most {MOST_CELLS}: divide it into \
                 several experiments"
            );
            problems.add(self.sweep_place(), Error::config(message));
            return;
        }
        let twice = (1..seeds.len()).find(|index| seeds[..*index].contains(&seeds[*index]));
        if let Some(index) = twice {
            let message = format!("seed {} is listed twice", seeds[index]);
            problems.add(
                problems.element(&self.sweep_place(), "seeds", index),
                Error::config(message),
            );
        }
    }
}
