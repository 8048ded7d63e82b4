//! Several results folders in one report: their methods in the same tables, compared on the models and texts that they share.
//!
//! Models are the same if their weights are, evaluations if their texts are cut in the same way, whatever they are called. What has the
//! same name and is not the same gets the experiment's name behind its own, so that no row mixes results of two things. A method that has
//! another name than an earlier one with the same recipe is in that one's row, so that it is not compared with itself.

use super::results::{Found, Measured, Results};
use crate::error::{Error, Result};
use crate::experiment::identity::{
    CalibrationIdentity, EvaluationIdentity, GenerationIdentity, Identity, TaskIdentity,
};
use crate::experiment::inputs::ModelIdentity;
use crate::experiment::plan::{
    Comparison, DENSE, EvaluationPlan, Experiment, GenerationPlan, MethodPlan, ModelPlan, Reference, TaskPlan,
};
use crate::experiment::plan_file::{PlanFile, PlannedCell};
use crate::prune::pattern::Pattern;
use crate::record::{self, Record};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Which methods of several experiments share a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowsBy {
    /// Methods with the same settings are one row, with the seeds of all experiments, whatever they are called.
    #[default]
    Method,
    /// Every experiment's methods have rows of their own.
    Experiment,
}

/// A results folder: a plan and its records.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultsFolder {
    /// The plan.
    pub plan: PlanFile,
    /// All records, also of cells that the plan does not have.
    pub records: Vec<Record>,
}

impl ResultsFolder {
    /// Reads a results folder.
    ///
    /// # Errors
    /// The plan or the records are missing or damaged.
    pub fn read(folder: &Path) -> Result<ResultsFolder> {
        Ok(ResultsFolder {
            plan: PlanFile::read(folder)?,
            records: record::read(folder)?,
        })
    }
}

/// Joins the results of several folders, in their order.
///
/// # Errors
/// Two experiments score one task on different documents, answer different prompts under one name, or ask for intervals of different
/// confidence.
pub fn union(folders: &[ResultsFolder], rows: RowsBy) -> Result<Results> {
    let mut union = Union::default();
    let names = names(folders);
    let parts: Vec<Part> = folders
        .iter()
        .zip(&names)
        .map(|(folder, name)| Part {
            name,
            plan: &folder.plan,
            standing: record::standing(&folder.records),
        })
        .collect();
    for part in &parts {
        union.add(part, rows)?;
    }
    let experiment = union.experiment(&parts)?;
    // Means do not depend on the order in which experiments are named.
    let place = |seed: Option<u64>| union.seeds.iter().position(|known| Some(*known) == seed);
    let mut cells: Vec<&UnionCell> = union.cells.iter().collect();
    cells.sort_by_key(|it| place(it.cell.seed));
    let found = cells.iter().map(|it| Found {
        cell: &it.cell,
        record: it.record,
        measured: &union.measured[it.part],
    });
    let found: Vec<Found> = found.collect();
    let plan = PlanFile {
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        experiment,
        cell: union.cells.iter().map(|it| it.cell.clone()).collect(),
    };
    Ok(Results::of(&found, plan))
}

/// Makes these comparisons and no others. They were declared for the report of several experiments.
pub fn declare(results: &mut Results, comparisons: Vec<Comparison>) {
    let experiment = &mut results.plan.experiment;
    experiment.comparisons = comparisons;
    experiment.description = experiment.description.replace(
        EVERY_PAIR,
        "Only comparisons that were declared for this report are made.",
    );
}

/// What the description of several experiments says of comparisons where none are declared.
const EVERY_PAIR: &str =
    "Comparisons that the experiments declared are not used: every pair of methods is compared, in one family.";

/// What experiments are called; of two with one name, the second has a number.
fn names(folders: &[ResultsFolder]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for folder in folders {
        let name = &folder.plan.experiment.name;
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let free = std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}

/// One of the experiments.
struct Part<'a> {
    name: &'a str,
    plan: &'a PlanFile,
    standing: record::Standing<'a>,
}

impl<'a> Part<'a> {
    fn record(&self, cell: &PlannedCell) -> Option<&'a Record> {
        self.standing.get(cell.id.as_str()).copied()
    }

    /// The identities of the cells for which `of` holds, as far as there are records.
    fn identities(&self, of: impl Fn(&PlannedCell) -> bool) -> impl Iterator<Item = (&'a PlannedCell, &'a Identity)> {
        let cells: Vec<&PlannedCell> = self.plan.cell.iter().filter(|cell| of(cell)).collect();
        let found: Vec<(&PlannedCell, &Identity)> = cells
            .into_iter()
            .filter_map(|cell| Some((cell, &self.record(cell)?.cell)))
            .collect();
        found.into_iter()
    }
}

/// A cell of the union, and the experiment that it comes from.
struct UnionCell<'a> {
    cell: PlannedCell,
    record: Option<&'a Record>,
    part: usize,
}

/// What the experiments have between them, under names that each stand for one thing.
#[derive(Default)]
struct Union<'a> {
    models: Vec<(ModelPlan, Option<ModelIdentity>)>,
    evaluations: Vec<(EvaluationPlan, Option<EvaluationIdentity>)>,
    tasks: Vec<(TaskPlan, Option<TaskIdentity>)>,
    /// With what decided the answers of each model.
    generations: Vec<(GenerationPlan, Vec<(String, GenerationIdentity)>)>,
    methods: Vec<MethodPlan>,
    patterns: Vec<Pattern>,
    seeds: Vec<u64>,
    references: Vec<Reference>,
    cells: Vec<UnionCell<'a>>,
    measured: Vec<Measured>,
    /// Which methods are in the rows of others that have another name, a sentence for each.
    under_other_names: Vec<String>,
}

impl<'a> Union<'a> {
    fn add(&mut self, part: &Part<'a>, rows: RowsBy) -> Result<()> {
        let experiment = &part.plan.experiment;
        let mut models: BTreeMap<&str, String> = BTreeMap::new();
        for model in &experiment.models {
            let used: Vec<String> = models.values().cloned().collect();
            models.insert(&model.name, self.model(part, model, &used));
        }
        let mut evaluations: Vec<String> = Vec::new();
        for place in 0..experiment.evaluations.len() {
            evaluations.push(self.evaluation(part, place, &evaluations));
        }
        for task in &experiment.tasks {
            self.task(part, task)?;
        }
        for prompts in &experiment.generations {
            self.generation(part, prompts, &models)?;
        }
        extend(&mut self.patterns, &experiment.patterns);
        extend(&mut self.seeds, &experiment.seeds);
        let mut methods: BTreeMap<&str, String> = BTreeMap::from([(DENSE, DENSE.to_string())]);
        for method in &experiment.methods {
            let used: Vec<String> = methods.values().cloned().collect();
            methods.insert(&method.name, self.method(part, method, &models, &used, rows));
        }
        for reference in &experiment.references {
            self.reference(reference, experiment, (&models, &methods, &evaluations));
        }
        let place = self.measured.len();
        self.measured.push(Measured {
            evaluations,
            tasks: Some(experiment.answered().map(String::from).collect()),
        });
        for cell in &part.plan.cell {
            let named = |names: &BTreeMap<&str, String>, name: &str| names.get(name).cloned().unwrap_or_default();
            self.cells.push(UnionCell {
                cell: PlannedCell {
                    model: named(&models, &cell.model),
                    method: named(&methods, &cell.method),
                    ..cell.clone()
                },
                record: part.record(cell),
                part: place,
            });
        }
        Ok(())
    }

    /// The name of a model in the union; `used` are those of the experiment's other models.
    fn model(&mut self, part: &Part, model: &ModelPlan, used: &[String]) -> String {
        let identity = part.identities(|cell| cell.model == model.name).next();
        let identity = identity.map(|(_, identity)| identity.model.clone());
        let known = self
            .models
            .iter()
            .map(|(known, other)| (known.name.as_str(), other.as_ref()));
        if let Some(place) = same(known, &model.name, identity.as_ref(), used) {
            let (known, other) = &mut self.models[place];
            *other = other.take().or(identity);
            return known.name.clone();
        }
        let taken = self.models.iter().map(|(known, _)| known.name.as_str());
        let name = free(&model.name, part.name, taken);
        let renamed = ModelPlan {
            name: name.clone(),
            ..model.clone()
        };
        self.models.push((renamed, identity));
        name
    }

    /// The name of an experiment's evaluation in the union; `used` are those of its other evaluations.
    fn evaluation(&mut self, part: &Part, place: usize, used: &[String]) -> String {
        let evaluation = &part.plan.experiment.evaluations[place];
        let identity = part.identities(|_| true).find_map(|(_, it)| it.evaluations.get(place));
        let known = self
            .evaluations
            .iter()
            .map(|(known, other)| (known.name.as_str(), other.as_ref()));
        if let Some(place) = same(known, &evaluation.name, identity, used) {
            let (known, other) = &mut self.evaluations[place];
            known.compare_to_dense |= evaluation.compare_to_dense;
            *other = other.take().or(identity.cloned());
            return known.name.clone();
        }
        let taken = self.evaluations.iter().map(|(known, _)| known.name.as_str());
        let name = free(&evaluation.name, part.name, taken);
        let renamed = EvaluationPlan {
            name: name.clone(),
            ..evaluation.clone()
        };
        self.evaluations.push((renamed, identity.cloned()));
        name
    }

    /// A task has the harness's name, and cannot have another.
    fn task(&mut self, part: &Part, task: &TaskPlan) -> Result<()> {
        let mut identities = part.identities(|_| true).flat_map(|(_, it)| &it.tasks);
        let identity = identities.find(|it| it.name == task.name).cloned();
        match self.tasks.iter_mut().find(|(known, _)| known.name == task.name) {
            None => self.tasks.push((task.clone(), identity)),
            Some((_, other)) => match (&identity, &other) {
                (Some(one), Some(before)) if one != before => {
                    return Err(Error::input(format!(
                        "`{}` scores {} on other documents, or by another version of the harness, than an experiment before \
                         it; one table cannot show both: make a report of it alone",
                        part.name, task.name
                    )));
                }
                _ => *other = other.take().or(identity),
            },
        }
        Ok(())
    }

    /// Prompts keep their name, under which there can be no others. Their files are the same for all models; each model says itself how a
    /// conversation is written and what ends an answer.
    fn generation(&mut self, part: &Part<'a>, plan: &GenerationPlan, models: &BTreeMap<&str, String>) -> Result<()> {
        let of = |model: &str| {
            let mut identities = part.identities(|cell| cell.model == model);
            identities.find_map(|(_, it)| it.generations.iter().find(|it| it.name == plan.name))
        };
        let place = self.generations.iter().position(|(known, _)| known.name == plan.name);
        let place = place.unwrap_or_else(|| {
            self.generations.push((plan.clone(), Vec::new()));
            self.generations.len() - 1
        });
        let (known, before) = &mut self.generations[place];
        let mut same = known.settings == plan.settings;
        for (own, name) in models {
            let Some(one) = of(own) else { continue };
            same &= before.iter().all(|(model, it)| {
                let files = it.prompts == one.prompts && it.examples == one.examples;
                files && (model != name || it == one)
            });
            before.push((name.clone(), one.clone()));
        }
        match same {
            true => Ok(()),
            false => Err(Error::input(format!(
                "the prompts `{}` of `{}`, or the examples before them, are others than those of an experiment before it, or answered in \
                 another way; one table cannot show both: make a report of it alone",
                plan.name, part.name
            ))),
        }
    }

    /// The name of a method in the union; `used` are those of the experiment's other methods.
    fn method(
        &mut self,
        part: &Part<'a>,
        method: &MethodPlan,
        models: &BTreeMap<&str, String>,
        used: &[String],
        rows: RowsBy,
    ) -> String {
        let taken = |name: &str| self.methods.iter().any(|known| known.name == name);
        let own = format!("{} ({})", method.name, part.name);
        let name = match rows {
            RowsBy::Experiment => own,
            RowsBy::Method => match self.known(part, method, models, used) {
                Some(known) => {
                    if known != method.name {
                        let said = format!(
                            "`{}` of {} is in the row of `{known}`, whose recipe it has.",
                            method.name, part.name
                        );
                        self.under_other_names.push(said);
                    }
                    return known;
                }
                None if taken(&method.name) => own,
                None => method.name.clone(),
            },
        };
        let names = self.methods.iter().map(|known| known.name.as_str());
        let name = match taken(&name) {
            true => free(&name, part.name, names),
            false => name,
        };
        self.methods.push(MethodPlan {
            name: name.clone(),
            ..method.clone()
        });
        name
    }

    /// The name of an earlier method that does what this one does: the one of the same name or, where cells of both were computed, of
    /// another.
    fn known(
        &self,
        part: &Part<'a>,
        method: &MethodPlan,
        models: &BTreeMap<&str, String>,
        used: &[String],
    ) -> Option<String> {
        let same_name = |known: &&MethodPlan| known.name == method.name;
        let first = self.methods.iter().filter(same_name);
        let others = self.methods.iter().filter(|known| !same_name(known));
        let likely = first.chain(others).filter(|known| !used.contains(&known.name));
        let mut alike = likely.filter(|known| {
            let named = MethodPlan {
                name: known.name.clone(),
                ..method.clone()
            };
            **known == named && self.is_known(part, method, &known.name, models)
        });
        alike.next().map(|known| known.name.clone())
    }

    /// Whether the cells of a method were computed as those of the earlier one of this name, as far as records tell.
    fn is_known(&self, part: &Part<'a>, method: &MethodPlan, known: &str, models: &BTreeMap<&str, String>) -> bool {
        let earlier: Vec<(&PlannedCell, &Identity)> = self
            .cells
            .iter()
            .filter(|it| it.cell.method == known)
            .filter_map(|it| Some((&it.cell, &it.record?.cell)))
            .collect();
        let (mut shared, mut alike) = (false, true);
        let (mut compared, mut apart) = (false, true);
        for (cell, identity) in part.identities(|cell| cell.method == method.name) {
            for (other, before) in &earlier {
                let computed = |it: &Identity| (it.numbers, it.backend.clone(), it.compute);
                let same = computed(identity) == computed(before);
                let place = |cell: &PlannedCell| (cell.pattern, cell.seed);
                compared = true;
                if models.get(cell.model.as_str()) == Some(&other.model) && place(cell) == place(other) {
                    shared = true;
                    alike &= same && identity.pruning == before.pruning;
                }
                apart &= same && unseeded(identity) == unseeded(before);
            }
        }
        match shared {
            true => alike,
            // Without records, only the name says that they are the same.
            false => apart && (compared || method.name == known),
        }
    }

    fn reference(
        &mut self,
        reference: &Reference,
        experiment: &Experiment,
        (models, methods, evaluations): (&BTreeMap<&str, String>, &BTreeMap<&str, String>, &[String]),
    ) {
        let method = |name: &String| methods.get(name.as_str()).unwrap_or(name).clone();
        let renamed = |values: &BTreeMap<String, f64>| values.iter().map(|(name, it)| (method(name), *it)).collect();
        let evaluation = |name: &String| {
            let mut all = experiment.evaluations.iter();
            let place = all.position(|it| it.name == *name);
            place.map_or(name, |place| &evaluations[place]).clone()
        };
        let renamed = Reference {
            model: models.get(reference.model.as_str()).unwrap_or(&reference.model).clone(),
            evaluation: reference.evaluation.as_ref().map(evaluation),
            values: renamed(&reference.values),
            deviations: renamed(&reference.deviations),
            ..reference.clone()
        };
        extend(&mut self.references, &[renamed]);
    }

    /// The experiment that has everything. What the experiments do not agree on it does not say.
    fn experiment(&self, parts: &[Part]) -> Result<Experiment> {
        let Some((first, others)) = parts.split_first() else {
            return Err(Error::config("a report needs at least one results folder"));
        };
        let first_plan = &first.plan.experiment;
        if let Some(other) = others
            .iter()
            .find(|it| it.plan.experiment.confidence != first_plan.confidence)
        {
            return Err(Error::config(format!(
                "the intervals of `{}` have confidence {} and those of `{}` {}; give both files the same `confidence`, and name \
                 the files (A.toml B.toml) in place of their folders",
                first.name, first_plan.confidence, other.name, other.plan.experiment.confidence
            )));
        }
        let plans = || others.iter().map(|part| &part.plan.experiment);
        let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
        let name = names.join(" + ");
        Ok(Experiment {
            description: [
                &[format!("The results of {name} in one report. {EVERY_PAIR}")],
                self.under_other_names.as_slice(),
            ]
            .concat()
            .join(" "),
            name,
            tables: Vec::new(),
            protocol: first_plan
                .protocol
                .clone()
                .filter(|protocol| plans().all(|it| it.protocol.as_ref() == Some(protocol))),
            seeds: self.seeds.clone(),
            patterns: self.patterns.clone(),
            calibration: first_plan
                .calibration
                .clone()
                .filter(|plan| plans().all(|it| it.calibration.as_ref() == Some(plan))),
            models: self.models.iter().map(|(plan, _)| plan.clone()).collect(),
            methods: self.methods.clone(),
            evaluations: self.evaluations.iter().map(|(plan, _)| plan.clone()).collect(),
            comparisons: Vec::new(),
            references: self.references.clone(),
            tasks: self.tasks.iter().map(|(plan, _)| plan.clone()).collect(),
            generations: self.generations.iter().map(|(plan, _)| plan.clone()).collect(),
            ..first_plan.clone()
        })
    }
}

/// The place of what is the same thing: its identity is, or, where one of the two is not known, its name. Of several, the one with
/// the same name. What has one of the `used` names is another thing.
fn same<'a, T: PartialEq + 'a>(
    known: impl Iterator<Item = (&'a str, Option<&'a T>)>,
    name: &str,
    identity: Option<&T>,
    used: &[String],
) -> Option<usize> {
    let free = known
        .enumerate()
        .filter(|(_, (known, _))| !used.iter().any(|used| used == known));
    let alike = free.filter(|(_, (known, other))| match (identity, other) {
        (Some(one), Some(other)) => one == *other,
        _ => *known == name,
    });
    let alike: Vec<(usize, &str)> = alike.map(|(place, (known, _))| (place, known)).collect();
    let named = alike.iter().find(|(_, known)| *known == name);
    named.or(alike.first()).map(|(place, _)| *place)
}

/// A calibration without what differs from seed to seed.
fn unseeded(identity: &Identity) -> Option<CalibrationIdentity> {
    let calibration = identity.pruning.as_ref()?.calibration.clone()?;
    Some(CalibrationIdentity {
        seed: 0,
        tokens: calibration.tokens.map(|_| String::new()),
        ..calibration
    })
}

/// Adds what is not there yet.
fn extend<T: PartialEq + Clone>(known: &mut Vec<T>, new: &[T]) {
    for one in new {
        if !known.contains(one) {
            known.push(one.clone());
        }
    }
}

/// The name itself, or with the experiment's behind it if something else has it.
fn free<'a>(name: &str, part: &str, taken: impl Iterator<Item = &'a str>) -> String {
    let taken: Vec<&str> = taken.collect();
    let numbered = (2..).map(|number| format!("{name} ({part}, {number})"));
    let mut wanted = [name.to_string(), format!("{name} ({part})")]
        .into_iter()
        .chain(numbered);
    wanted
        .find(|wanted| !taken.contains(&wanted.as_str()))
        .unwrap_or_default()
}
