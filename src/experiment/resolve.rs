//! What an experiment file means: components looked up, defaults filled in, contradictions refused.
//!
//! Looks at nothing of this machine, and at no file but the experiment's own and those whose shares the allocator `file` takes, which
//! become its parameters: the same texts mean the same everywhere.

mod comparison;
pub(super) mod methods;
pub(super) mod models;
mod names;
mod reference;
pub(super) mod texts;

use super::axes::alike;
use super::axis::Axis;
use super::machine::MachineRequest;
use super::plan::{DENSE, Experiment, ModelPlan, check_confidence};
use super::protocol::{Named, agree};
use super::raw::{RawExperiment, Source};
use crate::error::{Error, Located, Result};
use crate::files;
use crate::linalg::Provider;
use crate::prune::limits::Limits;
use comparison::comparison;
use methods::{method, pattern};
use models::{expectations, model_place};
use names::{distinct, not_empty};
use reference::reference;
use std::path::Path;
use texts::{calibration, evaluation, task};

/// More cells than this are a slip: a plan holds all of them.
const MOST_CELLS: usize = 100_000;

/// Reads and resolves an experiment file.
///
/// # Errors
/// Everything that can be known without the model and the texts, with its place in the file.
pub fn read(path: &Path) -> Result<Experiment> {
    read_for(path, &MachineRequest::default())
}

/// As [`read`], for the machine that a command line asks for instead of the file's.
///
/// # Errors
/// As [`read`].
pub fn read_for(path: &Path, request: &MachineRequest) -> Result<Experiment> {
    let source = Source::read(path)?;
    resolve(&source.parse()?, &source, request)
}

/// Resolves the text of an experiment file.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source) -> Result<Experiment> {
    resolve(&source.parse()?, source, &MachineRequest::default())
}

fn resolve(raw: &RawExperiment, source: &Source, request: &MachineRequest) -> Result<Experiment> {
    check_name(raw.name.get_ref()).at(source.place(raw.name.span().start))?;
    let protocol = match &raw.protocol {
        None => None,
        Some(name) => Some(Named::find(name.get_ref()).at(source.place(name.span().start))?),
    };
    let resolving = Resolving { raw, source, protocol };
    resolving.check_lists()?;
    let mut experiment = resolving.settings(request)?;
    resolving.models(&mut experiment)?;
    resolving.patterns(&mut experiment)?;
    resolving.methods(&mut experiment)?;
    resolving.measures(&mut experiment)?;
    for (model, raw) in experiment.models.iter().zip(&raw.model) {
        expectations(&model.expected, &experiment.evaluations).at(source.place(raw.span().start))?;
    }
    resolving.calibration(&mut experiment)?;
    resolving.families(&mut experiment)?;
    resolving.check_tables(&experiment)?;
    for raw in &raw.reference {
        let reference = reference(raw.get_ref(), &experiment).at(source.place(raw.span().start))?;
        experiment.references.push(reference);
    }
    resolving.check_grid(&experiment)?;
    Ok(experiment)
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
            "name `{name}` becomes a folder: use letters, digits, `-`, `_` and `.`, and no name of a device"
        )));
    }
    if name.len() > files::names::LONGEST {
        return Err(Error::config(format!(
            "name becomes a folder, whose name has at most {} bytes; it has {}",
            files::names::LONGEST,
            name.len()
        )));
    }
    Ok(())
}

/// A file that is being resolved, part by part.
struct Resolving<'a> {
    raw: &'a RawExperiment,
    source: &'a Source,
    protocol: Option<Named>,
}

impl Resolving<'_> {
    fn at(&self, offset: usize) -> String {
        self.source.place(offset)
    }

    fn sweep_place(&self) -> String {
        self.at(self.raw.sweep.span().start)
    }

    fn check_lists(&self) -> Result<()> {
        let raw = self.raw;
        not_empty(&raw.model, "[[model]]").at(self.source.path.display())?;
        not_empty(&raw.method, "[[method]]").at(self.source.path.display())?;
        if raw.task.is_empty() {
            not_empty(&raw.evaluation, "[[evaluation]]").at(self.source.path.display())?;
        }
        not_empty(&raw.sweep.get_ref().patterns, "sweep.patterns").at(self.sweep_place())
    }

    /// An experiment with the settings that hold for all of it; its lists are still empty.
    fn settings(&self, request: &MachineRequest) -> Result<Experiment> {
        let (raw, protocol, path) = (self.raw, self.protocol, &self.source.path);
        let sweep = raw.sweep.get_ref();
        let selection = agree(protocol, "selection", sweep.selection, |it| it.selection).at(self.sweep_place())?;
        let bos = agree(protocol, "bos", raw.bos, |it| it.bos).at(path.display())?;
        let linear_algebra = self.provider()?;
        let asked = MachineRequest {
            backend: raw.compute.backend,
            compute: raw.compute.compute,
            adapter: raw.compute.adapter.clone(),
            memory: raw.compute.memory.clone(),
            scratch: raw.compute.scratch.clone(),
        };
        let machine = request.or(&asked).resolve(linear_algebra).at(path.display())?;
        let confidence = match &raw.report {
            None => 0.95,
            Some(report) => {
                let confidence = report.get_ref().confidence.unwrap_or(0.95);
                check_confidence(confidence).at(self.at(report.span().start))?;
                confidence
            }
        };
        Ok(Experiment {
            name: raw.name.get_ref().clone(),
            description: raw.description.clone(),
            confidence,
            tables: self.raw.report.as_ref().map_or(Ok(Vec::new()), |report| {
                tables(&report.get_ref().tables).at(self.at(report.span().start))
            })?,
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
        })
    }

    fn provider(&self) -> Result<Provider> {
        let Some(provider) = &self.raw.compute.linear_algebra else {
            return Ok(Provider::Faer);
        };
        if !provider.get_ref().available() {
            let message = "linear_algebra = \"lapack\" needs a build with `cargo build --release --features lapack`";
            return Err(Error::config(message).at(self.at(provider.span().start)));
        }
        Ok(*provider.get_ref())
    }

    fn models(&self, experiment: &mut Experiment) -> Result<()> {
        for raw in &self.raw.model {
            let place = self.at(raw.span().start);
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
        Ok(())
    }

    fn patterns(&self, experiment: &mut Experiment) -> Result<()> {
        for raw in &self.raw.sweep.get_ref().patterns {
            let place = self.at(raw.span().start);
            let pattern = pattern(raw.get_ref()).at(&place)?;
            if experiment.patterns.contains(&pattern) {
                return Err(Error::config(format!("pattern {pattern} is listed twice")).at(place));
            }
            experiment.patterns.push(pattern);
        }
        Ok(())
    }

    fn methods(&self, experiment: &mut Experiment) -> Result<()> {
        for raw in &self.raw.method {
            let place = self.at(raw.span().start);
            let target = self.raw.calibration.as_ref().and_then(|raw| raw.get_ref().target);
            let method = method(raw, target, self.protocol, &|offset| self.at(offset))?;
            let others = experiment.methods.iter().map(|method| &method.name);
            distinct(&method.name, others, "method name").at(&place)?;
            if method.name == DENSE {
                return Err(Error::config(format!("method name `{DENSE}` is taken by the unpruned model")).at(place));
            }
            let recipe = method
                .build(experiment.selection, experiment.linear_algebra)
                .at(&place)?;
            for pattern in &experiment.patterns {
                recipe.check(*pattern, &Limits::NONE).at(&place)?;
            }
            experiment.methods.push(method);
        }
        Ok(())
    }

    /// Resolves the evaluations and the zero-shot tasks.
    fn measures(&self, experiment: &mut Experiment) -> Result<()> {
        for raw in &self.raw.evaluation {
            let place = self.at(raw.span().start);
            let others = experiment.evaluations.iter().map(|it| &it.name);
            distinct(&raw.get_ref().name, others, "evaluation name").at(&place)?;
            let evaluation = evaluation(raw.get_ref(), self.protocol).at(&place)?;
            experiment.evaluations.push(evaluation);
        }
        for raw in &self.raw.task {
            let place = self.at(raw.span().start);
            let task = task(raw.get_ref()).at(&place)?;
            distinct(&task.name, experiment.tasks.iter().map(|it| &it.name), "task").at(&place)?;
            experiment.tasks.push(task);
        }
        Ok(())
    }

    fn families(&self, experiment: &mut Experiment) -> Result<()> {
        for raw in &self.raw.comparison {
            let place = self.at(raw.span().start);
            let comparison = comparison(raw.get_ref(), experiment).at(&place)?;
            let others = experiment.comparisons.iter().map(|other| &other.family);
            distinct(&comparison.family, others, "family").at(place)?;
            experiment.comparisons.push(comparison);
        }
        Ok(())
    }

    /// Refuses tables by axes that would be empty.
    fn check_tables(&self, experiment: &Experiment) -> Result<()> {
        let Some(report) = &self.raw.report else {
            return Ok(());
        };
        for axes in &experiment.tables {
            let [down, across] = axes;
            let message = match alike(*axes, experiment) {
                groups if groups.is_empty() => format!(
                    "tables: no two methods are alike but for `{down}` and `{across}`; under unstructured patterns their `group` \
                     counts, too"
                ),
                _ => continue,
            };
            return Err(Error::config(message).at(self.at(report.span().start)));
        }
        Ok(())
    }

    fn calibration(&self, experiment: &mut Experiment) -> Result<()> {
        if let Some(raw) = &self.raw.calibration {
            let place = self.at(raw.span().start);
            let plan = calibration(raw.get_ref(), self.protocol, &experiment.seeds).at(place)?;
            experiment.calibration = Some(plan);
        }
        for (method, raw) in experiment.methods.iter().zip(&self.raw.method) {
            let checked = experiment.check(method);
            checked.at(&method.name).at(self.at(raw.span().start))?;
        }
        let Some(method) = experiment.methods.iter().find(|method| method.calibrated) else {
            return Ok(());
        };
        if experiment.calibration.is_none() {
            let message = format!(
                "method `{}` needs calibration, but there is no [calibration]",
                method.name
            );
            return Err(Error::config(message).at(self.source.path.display()));
        }
        if experiment.seeds.is_empty() {
            let message = format!("method `{}` needs calibration seeds: `seeds = [0, 1, 2]`", method.name);
            return Err(Error::config(message).at(self.sweep_place()));
        }
        Ok(())
    }

    fn check_grid(&self, experiment: &Experiment) -> Result<()> {
        let (cells, seeds) = (experiment.count(), &experiment.seeds);
        if cells.max(seeds.len()) > MOST_CELLS {
            let message = format!(
                "models, methods, patterns and seeds make {cells} cells, and an experiment has at most {MOST_CELLS}: divide it into several"
            );
            return Err(Error::config(message).at(self.sweep_place()));
        }
        let twice = (1..seeds.len()).find(|index| seeds[..*index].contains(&seeds[*index]));
        if let Some(index) = twice {
            let message = format!("seed {} is listed twice", seeds[index]);
            return Err(Error::config(message).at(self.sweep_place()));
        }
        Ok(())
    }
}
