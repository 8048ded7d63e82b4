//! An experiment file that was edited since its last run: what of the run's plan still holds.
//!
//! Names, the order of methods, comparisons, references and what reports ask for take effect without a run. A cell whose settings are those of
//! a cell of the plan has its id; another one has none, since only a run hashes what it depends on.

use super::plan::{DENSE, EvaluationPlan, Experiment, MethodKind, MethodPlan, ModelPlan};
use super::plan_file::{PlanFile, PlannedCell};
use crate::prune::pattern::Pattern;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// What the file of an experiment says now, beside the plan of its last run.
pub enum Now {
    /// The plan of what the file has now.
    Plan {
        /// The plan; cells that were not run with their settings have an empty id.
        plan: Box<PlanFile>,
        /// Number of cells that were not run with their settings.
        new: usize,
        /// Number of cells of the last run that the file does not have any more.
        gone: usize,
    },
    /// No cell was run with the settings that the file has now; these parts of it were changed.
    Other(Vec<&'static str>),
}

/// Keys of files and folders, which have other names from another working directory.
const PATHS: [&str; 8] = [
    "path",
    "corpus",
    "tokens",
    "gradients",
    "data",
    "prompts",
    "examples",
    "checkpoint",
];

/// Keys that decide no number: `obtain` is for messages, the commit is known only after a run, and what is expected is checked in a run.
const FREE: [&str; 3] = ["obtain", "commit", "expected"];

/// Model, method, pattern as JSON, and seed of a cell of a plan.
type Place<'a> = (&'a str, &'a str, String, Option<u64>);

/// The plan of what the file of an experiment has now, by the plan of its last run.
pub fn edited(plan: &PlanFile, now: &Experiment) -> Now {
    let before = &plan.experiment;
    let unlabelled = |experiment: &Experiment| -> Vec<EvaluationPlan> {
        let plans = experiment.evaluations.iter().cloned();
        plans
            .map(|it| EvaluationPlan {
                name: String::new(),
                ..it
            })
            .collect()
    };
    let parts = [
        ("bos", before.bos == now.bos),
        ("[[evaluation]]", alike(&unlabelled(before), &unlabelled(now))),
        ("[[task]]", alike(&before.tasks, &now.tasks)),
        ("[[generation]]", alike(&before.generations, &now.generations)),
    ];
    let changed: Vec<&str> = parts.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
    if !changed.is_empty() {
        return Now::Other(changed);
    }
    let calibration = before.linear_algebra == now.linear_algebra && alike(&before.calibration, &now.calibration);
    let matching = Matching {
        models: now.models.iter().map(|model| model_before(before, model)).collect(),
        methods: now
            .methods
            .iter()
            .map(|method| methods_before(before, method))
            .collect(),
        cells: plan.cell.iter().map(|cell| (place(cell), cell.id.as_str())).collect(),
        calibration,
        selection: before.selection == now.selection,
    };
    let cells = now.cells().into_iter().map(|cell| {
        let pruning = cell.pruning;
        PlannedCell {
            id: matching.id(now, &cell).unwrap_or_default().to_string(),
            model: now.models[cell.model].name.clone(),
            method: now.method_name(&cell).to_string(),
            seed: pruning.and_then(|pruning| pruning.seed),
            pattern: pruning.map(|pruning| pruning.pattern),
        }
    });
    let cells: Vec<PlannedCell> = cells.collect();
    let kept: BTreeSet<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
    let pruned = cells.iter().any(|cell| cell.method != DENSE && !cell.id.is_empty());
    if !pruned {
        let parts = [("[calibration]", calibration), ("selection", matching.selection)];
        let changed: Vec<&str> = parts.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
        return Now::Other(match changed.is_empty() {
            true => vec!["[[model]], [[method]] or [sweep]"],
            false => changed,
        });
    }
    let (new, gone) = (
        cells.iter().filter(|cell| cell.id.is_empty()).count(),
        plan.cell.iter().filter(|cell| !kept.contains(cell.id.as_str())).count(),
    );
    let plan = PlanFile {
        zprune: plan.zprune.clone(),
        experiment: matching.experiment(before, now),
        cell: cells,
    };
    Now::Plan {
        plan: Box::new(plan),
        new,
        gone,
    }
}

/// Which parts of an experiment are those of the plan before.
struct Matching<'a> {
    /// For each model its plan before.
    models: Vec<Option<&'a ModelPlan>>,
    /// For each method those of the plan that do the same, whatever they are called; one of the same name first.
    methods: Vec<Vec<&'a MethodPlan>>,
    /// The ids of the plan.
    cells: BTreeMap<Place<'a>, &'a str>,
    /// Whether calibration is the same.
    calibration: bool,
    /// Whether ties are decided as before.
    selection: bool,
}

impl<'a> Matching<'a> {
    /// The id of a cell, if the plan has it with the same settings.
    fn id(&self, now: &Experiment, cell: &super::plan::Cell) -> Option<&'a str> {
        let model = self.models[cell.model]?.name.as_str();
        let Some(pruning) = cell.pruning else {
            return self.cells.get(&(model, DENSE, pattern_key(None), None)).copied();
        };
        let method = &now.methods[pruning.method];
        let recipe = matches!(method.kind, MethodKind::Recipe(_));
        if (method.calibrated && !self.calibration) || (recipe && !self.selection) {
            return None;
        }
        let pattern = pattern_key(Some(pruning.pattern));
        let mut same = self.methods[pruning.method].iter();
        same.find_map(|before| {
            let place = (model, before.name.as_str(), pattern.clone(), pruning.seed);
            self.cells.get(&place).copied()
        })
    }

    /// The experiment with what the file says now. What is the same keeps the paths of the run, which may have been started in another
    /// folder.
    fn experiment(&self, before: &Experiment, now: &Experiment) -> Experiment {
        let models = now.models.iter().zip(&self.models);
        let models = models.map(|(model, before)| match before {
            None => model.clone(),
            Some(before) => ModelPlan {
                name: model.name.clone(),
                expected: model.expected.clone(),
                ..(*before).clone()
            },
        });
        let methods = now.methods.iter().zip(&self.methods);
        let methods = methods.map(|(method, before)| match before.first() {
            None => method.clone(),
            Some(before) => MethodPlan {
                name: method.name.clone(),
                pattern: method.pattern,
                seed: method.seed,
                ..(*before).clone()
            },
        });
        let evaluations = now.evaluations.iter().zip(&before.evaluations);
        let evaluations = evaluations.map(|(evaluation, before)| EvaluationPlan {
            name: evaluation.name.clone(),
            ..before.clone()
        });
        Experiment {
            machine: before.machine.clone(),
            calibration: match self.calibration {
                true => before.calibration.clone(),
                false => now.calibration.clone(),
            },
            models: models.collect(),
            methods: methods.collect(),
            evaluations: evaluations.collect(),
            tasks: before.tasks.clone(),
            generations: before.generations.clone(),
            ..now.clone()
        }
    }
}

fn place(cell: &PlannedCell) -> Place<'_> {
    (&cell.model, &cell.method, pattern_key(cell.pattern), cell.seed)
}

/// A pattern as a text that no other pattern has.
fn pattern_key(pattern: Option<Pattern>) -> String {
    serde_json::to_string(&pattern).unwrap_or_default()
}

/// The model of the plan before that is this one, whatever it is called; of several the one with the same name.
fn model_before<'a>(before: &'a Experiment, model: &ModelPlan) -> Option<&'a ModelPlan> {
    let unlabelled = |model: &ModelPlan| ModelPlan {
        name: String::new(),
        ..model.clone()
    };
    let same = |known: &&ModelPlan| alike(&unlabelled(known), &unlabelled(model));
    let mut found = before.models.iter().filter(same);
    let first = found.clone().next();
    found.find(|known| known.name == model.name).or(first)
}

/// The methods of the plan before that do the same, those of the same name first.
fn methods_before<'a>(before: &'a Experiment, method: &MethodPlan) -> Vec<&'a MethodPlan> {
    let same = |known: &&MethodPlan| known.calibrated == method.calibrated && alike(&known.kind, &method.kind);
    let mut found: Vec<&MethodPlan> = before.methods.iter().filter(same).collect();
    found.sort_by_key(|known| known.name != method.name);
    found
}

/// Whether two parts of experiments decide the same numbers.
fn alike<T: Serialize>(one: &T, other: &T) -> bool {
    match (serde_json::to_value(one), serde_json::to_value(other)) {
        (Ok(one), Ok(other)) => same_values(Some(&one), Some(&other), ""),
        _ => false,
    }
}

fn same_values(one: Option<&Value>, other: Option<&Value>, key: &str) -> bool {
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let mut keys = keys.into_iter().filter(|key| !FREE.contains(&key.as_str()));
            keys.all(|key| same_values(one.get(key), other.get(key), key))
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            let pairs = one.iter().zip(other);
            one.len() == other.len()
                && pairs
                    .into_iter()
                    .all(|(one, other)| same_values(Some(one), Some(other), key))
        }
        (Some(Value::String(one)), Some(Value::String(other))) if PATHS.contains(&key) => {
            same_file(Path::new(one), Path::new(other))
        }
        (one, other) => one == other,
    }
}

/// Whether two paths, which may be from two working directories, are of the same file. Where the files are not there to tell, they are if
/// one path ends with the other.
fn same_file(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    if let (Ok(one), Ok(other)) = (one.canonicalize(), other.canonicalize()) {
        return one == other;
    }
    let names = |path: &Path| -> Vec<String> {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        parts
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect()
    };
    let (one, other) = (names(one), names(other));
    one.ends_with(&other) || other.ends_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::resolve;
    use crate::experiment::source::Source;

    const FILE: &str = "name = \"made\"\nmethods = [\"magnitude\", \"wanda\"]\n[[model]]\npath = \"models/a\"\n\
                        [calibration]\ncorpus = \"c\"\nsequences = 4\nlength = 64\n\
                        [sweep]\nseeds = [0, 1]\npatterns = [0.5, \"2:4\"]\n\
                        [[evaluation]]\nname = \"text\"\ncorpus = \"t\"\nlength = 64\n";

    fn read(text: &str, path: &str) -> Experiment {
        let source = Source {
            path: path.into(),
            text: text.to_string(),
        };
        resolve::parse(&source).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The plan of the file, as it is read from a results folder.
    fn run() -> PlanFile {
        let experiment = read(FILE, "made.toml");
        let cells = experiment.cells();
        let cell = cells.iter().enumerate().map(|(index, cell)| PlannedCell {
            id: format!("{index:016x}"),
            model: experiment.models[cell.model].name.clone(),
            method: experiment.method_name(cell).to_string(),
            seed: cell.pruning.and_then(|it| it.seed),
            pattern: cell.pruning.map(|it| it.pattern),
        });
        let plan = PlanFile {
            zprune: "test".to_string(),
            cell: cell.collect(),
            experiment,
        };
        toml::from_str(&plan.text().expect("TOML")).expect("a plan")
    }

    fn now(edits: &[(&str, &str)], path: &str) -> Now {
        let text = edits.iter().fold(FILE.to_string(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        edited(&run(), &read(&text, path))
    }

    fn plan(edits: &[(&str, &str)], path: &str) -> (PlanFile, usize, usize) {
        match now(edits, path) {
            Now::Plan { plan, new, gone } => (*plan, new, gone),
            Now::Other(parts) => panic!("{edits:?}: {parts:?}"),
        }
    }

    #[test]
    fn a_file_that_was_not_edited_has_the_plan_of_its_run_from_every_folder() {
        for path in ["made.toml", "../made.toml", "/somewhere/else/made.toml"] {
            assert_eq!(plan(&[], path), (run(), 0, 0), "{path}");
        }
    }

    #[test]
    fn names_comparisons_and_what_reports_ask_for_take_effect() {
        let more = "[report]\nconfidence = 0.9\n[[comparison]]\nfamily = \"f\"\nours = \"our own\"\nagainst = [\"magnitude\"]\n\
                    [[method]]\nname = \"our own\"\ncriterion = \"wanda\"\n[sweep]";
        let edits = [
            ("[sweep]", more),
            ("methods = [\"magnitude\", \"wanda\"]", "methods = [\"magnitude\"]"),
            ("name = \"text\"", "name = \"novel\""),
            ("path = \"models/a\"", "path = \"models/a\"\nname = \"small\""),
        ];
        let (plan, new, gone) = plan(&edits, "made.toml");
        assert_eq!((new, gone), (0, 0));
        let ids: BTreeSet<String> = plan.cell.iter().map(|cell| cell.id.clone()).collect();
        assert_eq!(ids, run().cell.into_iter().map(|cell| cell.id).collect());
        assert!(
            plan.cell
                .iter()
                .any(|cell| cell.method == "our own" && cell.model == "small")
        );
        assert_eq!(
            (plan.experiment.confidence, plan.experiment.comparisons.len()),
            (0.9, 1)
        );
        assert_eq!(plan.experiment.evaluations[0].name, "novel");
    }

    #[test]
    fn cells_that_are_gone_are_left_out_and_new_ones_have_no_id() {
        let edits = [("[0.5, \"2:4\"]", "[0.5, 0.6]"), ("seeds = [0, 1]", "seeds = [1, 0]")];
        let (plan, new, gone) = plan(&edits, "made.toml");
        // Magnitude has one cell at each pattern, and Wanda one for each seed, too.
        assert_eq!((new, gone), (3, 3));
        let without: Vec<&PlannedCell> = plan.cell.iter().filter(|cell| cell.id.is_empty()).collect();
        let sixty = |cell: &&PlannedCell| cell.pattern == Some(Pattern::Unstructured { sparsity: 0.6 });
        assert!(without.len() == 3 && without.iter().all(sixty), "{without:?}");
    }

    #[test]
    fn what_calibrates_is_new_after_an_edit_of_its_calibration() {
        let (plan, new, gone) = plan(&[("sequences = 4", "sequences = 8")], "made.toml");
        assert_eq!((new, gone), (4, 4));
        let with = plan.cell.iter().filter(|cell| !cell.id.is_empty());
        assert!(with.clone().count() == 3 && with.into_iter().all(|cell| cell.method != "wanda"));
        assert_eq!(plan.experiment.calibration.map(|plan| plan.sequences), Some(8));
        let other = |edits: &[(&str, &str)]| match now(edits, "made.toml") {
            Now::Other(parts) => parts,
            Now::Plan { new, .. } => panic!("{edits:?}: {new} new"),
        };
        let edits = [
            ("[\"magnitude\", \"wanda\"]", "[\"wanda\"]"),
            ("sequences = 4", "sequences = 8"),
        ];
        assert_eq!(other(&edits), ["[calibration]"]);
        assert_eq!(other(&[("corpus = \"t\"", "corpus = \"t2\"")]), ["[[evaluation]]"]);
        assert_eq!(
            other(&[("[\"magnitude\", \"wanda\"]", "[\"ria\"]")]),
            ["[[model]], [[method]] or [sweep]"]
        );
    }

    #[test]
    fn paths_from_two_folders_are_the_same_if_their_ends_are() {
        let same = |one: &str, other: &str| same_file(Path::new(one), Path::new(other));
        assert!(same("corpora/a.jsonl", "/home/u/corpora/a.jsonl") && same("../corpora/a.jsonl", "corpora/a.jsonl"));
        assert!(!same("corpora/a.jsonl", "data/a.jsonl") && !same("a-train.jsonl", "train.jsonl"));
        // These are there, and they are two.
        assert!(!same("Cargo.toml", "fuzz/Cargo.toml"));
    }
}
