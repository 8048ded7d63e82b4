//! Perplexities that papers print, beside those that were measured: only where the model, the protocol, the pattern and the method are the
//! same. Of everything else it is said why it cannot be compared.
//!
//! The figures are in `papers.toml`, which is a part of the program.

use super::format::{counted, digits};
use super::results::{Measure, MethodResult, Results, Section};
use super::sheet::{Chapter, Column, Sheet, SheetCell, number};
use crate::calibrate::Stage;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::experiment::identity::EvaluationIdentity;
use crate::experiment::method::{MethodPlan, RecipePlan};
use crate::experiment::plan::{DENSE, EvaluationPlan, Experiment, ModelPlan};
use crate::experiment::resolve;
use crate::experiment::source::Source;
use crate::hub::datasets;
use crate::prune::pattern::Pattern;
use crate::record::{Record, Status};
use crate::stats::Shown;
use serde::Deserialize;
use std::collections::BTreeMap;

const TEXT: &str = include_str!("papers.toml");

/// SHA-256 of the test split of WikiText-2 (raw) as one text, the file `wiki.test.raw` of its release.
const WIKITEXT: &str = "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08";

/// The same text on the hub.
const ON_THE_HUB: [&str; 2] = [
    "hub:wikitext2:test",
    "hub:Salesforce/wikitext/wikitext-2-raw-v1/test-00000-of-00001.parquet",
];

/// The fraction by which the perplexity of the dense model may differ from the printed one. Half precision is worth 0.1 %, another
/// tokenizer, text or model several per cent.
const DENSE_TOLERANCE: f64 = 0.01;

/// Windows that all tables calibrate with.
const SEQUENCES: usize = 128;

/// All tables.
struct Papers {
    models: BTreeMap<String, Vec<String>>,
    methods: BTreeMap<String, RecipePlan>,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    models: BTreeMap<String, Vec<String>>,
    methods: BTreeMap<String, String>,
    table: Vec<Table>,
}

/// A printed table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    paper: String,
    /// Where in the paper or the repository.
    place: String,
    read: Read,
    /// Tokens of a window.
    length: usize,
    #[serde(default)]
    note: String,
    models: Vec<String>,
    rows: Vec<Row>,
}

/// Where figures were read.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Read {
    Paper,
    Repository,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    method: String,
    #[serde(default)]
    pattern: String,
    /// One for each model of the table; NaN where there is none.
    values: Vec<f64>,
    /// Standard deviations over seeds, as the values.
    #[serde(default)]
    deviations: Vec<f64>,
}

/// A printed figure.
struct Figure<'a> {
    table: &'a Table,
    row: &'a Row,
    value: f64,
    deviation: Option<f64>,
}

/// What was measured for one model in one evaluation.
struct Place<'a> {
    experiment: &'a Experiment,
    section: &'a Section,
    evaluation: &'a EvaluationPlan,
    /// How it was measured, by its first record.
    measured: Option<&'a EvaluationIdentity>,
}

impl Papers {
    /// The tables that are a part of the program.
    fn embedded() -> Result<Papers> {
        let wrong = |error: toml::de::Error| Error::input(error.to_string()).at("papers.toml");
        let typed: Typed = toml::from_str(TEXT).map_err(wrong)?;
        let methods = typed.methods.iter();
        let methods: String = methods
            .map(|(name, lines)| format!("[[method]]\nname = \"{name}\"\n{lines}\n"))
            .collect();
        let text = format!(
            "name = \"papers\"\n[[model]]\npath = \"model\"\n[calibration]\ncorpus = \"c4\"\nsequences = {SEQUENCES}\nlength = 2048\n\
             [sweep]\nseeds = [0]\npatterns = [0.5]\n{methods}[[evaluation]]\nname = \"wikitext2\"\ncorpus = \"wikitext2\"\nlength = 2048\n"
        );
        let source = Source {
            path: "papers.toml".into(),
            text,
        };
        let methods = resolve::parse(&source)?.methods.into_iter();
        let recipe = |method: MethodPlan| Some((method.name.clone(), method.recipe()?.clone()));
        Ok(Papers {
            models: typed.models,
            methods: methods.filter_map(recipe).collect(),
            tables: typed.table,
        })
    }

    /// The name that tables have for a model.
    fn model(&self, plan: &ModelPlan) -> Option<&str> {
        let path = plan.path.to_string_lossy();
        let path = plan.hub.as_ref().map_or(path.as_ref(), |hub| hub.name.as_str());
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let ours = [last.to_lowercase(), plan.name.to_lowercase()];
        let mut models = self.models.iter();
        let found = models.find(|(_, names)| names.iter().any(|name| ours.contains(name)));
        found.map(|(model, _)| model.as_str())
    }

    /// All figures for a model, in windows of this length if it is said.
    fn figures<'a>(&'a self, model: &'a str, length: Option<usize>) -> impl Iterator<Item = Figure<'a>> {
        let tables = self.tables.iter();
        let tables = tables.filter(move |table| length.is_none_or(|length| table.length == length));
        let columns = tables.filter_map(move |table| Some((table, table.models.iter().position(|it| it == model)?)));
        columns.flat_map(|(table, column)| {
            let figure = move |row: &'a Row| {
                let at = |values: &[f64]| values.get(column).copied().filter(|value| value.is_finite());
                Some(Figure {
                    table,
                    row,
                    value: at(&row.values)?,
                    deviation: at(&row.deviations),
                })
            };
            table.rows.iter().filter_map(figure)
        })
    }
}

impl Table {
    fn source(&self) -> String {
        let read = match self.read {
            Read::Paper => "",
            Read::Repository => "its authors' repository: ",
        };
        let note = if self.note.is_empty() { "" } else { "; " };
        format!("{}, {read}{}{note}{}", self.paper, self.place, self.note)
    }
}

impl Place<'_> {
    /// What of the protocol is unlike that of all tables, if anything is.
    fn unlike(&self) -> Vec<String> {
        let Some(measured) = self.measured else {
            return vec!["it has no result yet".to_string()];
        };
        let mut found = Vec::new();
        let corpus = self.evaluation.corpus.as_deref();
        let named = corpus.is_some_and(|corpus| ON_THE_HUB.iter().any(|name| corpus.to_string_lossy() == *name));
        let read = measured.corpus.as_deref() == Some(WIKITEXT);
        match (&self.evaluation.corpus, measured.join) {
            (Some(corpus), _) if !(named || read) => {
                let name = datasets::name(corpus);
                found.push(format!(
                    "its text is {name}, and the tables are about the test split of WikiText-2 (raw)"
                ));
            }
            (None, _) => found.push("its tokens come from a file, so the text is not known".to_string()),
            (_, join) if join != Some(Join::Wikitext) => {
                found.push("its rows are not joined as `join = \"wikitext\"` does".to_string());
            }
            _ => {}
        }
        if measured.rows.is_some() || measured.windows.is_some() {
            found.push("a part of the text is measured, and the tables are about all of it".to_string());
        }
        found
    }

    /// How the calibration of a method is unlike that of a table, if it is.
    fn calibration(&self, table: &Table) -> String {
        let Some(plan) = &self.experiment.calibration else {
            return String::new();
        };
        let corpus = plan.corpus.as_deref().map(datasets::name);
        let c4 = corpus.as_deref().is_some_and(|name| name.starts_with("hub:c4"));
        let alike = plan.sequences == SEQUENCES && plan.length.fixed() == Some(table.length);
        if c4 && alike && plan.sampling == Some(Sampling::Documents) {
            return "as printed".to_string();
        }
        let corpus = corpus.unwrap_or_else(|| "a file of tokens".to_string());
        format!("ours: {} x {} tokens of {corpus}", plan.sequences, plan.length)
    }

    /// Whether a method is the printed one.
    fn is(&self, ours: &MethodPlan, pattern: Pattern, theirs: &RecipePlan) -> bool {
        let Some(recipe) = ours.recipe() else {
            return false;
        };
        let calibration = self.experiment.calibration.as_ref().map(|plan| plan.stage);
        let stage = recipe.stage.or(calibration).filter(|_| ours.calibrated);
        let mut alike = RecipePlan {
            stage: None,
            ..recipe.clone()
        };
        // N:M patterns are their own groups.
        if let Pattern::NofM { .. } = pattern {
            alike.group = theirs.group;
        }
        alike == *theirs && stage.is_none_or(|stage| stage == Stage::Block)
    }

    /// The dense model's perplexity, where it is not the printed one.
    fn another_dense(&self, figures: &[Figure]) -> Option<String> {
        let ours = self.section.dense_value()?;
        let printed = figures.iter().find(|figure| figure.row.method == DENSE)?;
        let off = ours / printed.value - 1.0;
        (off.abs() > DENSE_TOLERANCE).then(|| {
            format!(
                "the dense model has {:.2} here and {} in {}: weights, tokens or text are not the same, whatever they are called",
                Shown(ours),
                printed.value,
                printed.table.paper
            )
        })
    }
}

/// Printed perplexities beside those of a results folder, and what cannot be compared.
///
/// # Errors
/// The experiment measures no perplexity.
pub fn chapter(results: &Results, records: &[Record]) -> Result<Chapter> {
    let papers = Papers::embedded()?;
    let (mut rows, mut reasons, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for section in &results.sections {
        let Some(place) = place(results, records, section) else {
            continue;
        };
        let mut why = |what: String, why: String| {
            let cells = [section.model.clone(), section.measure.label(), what, why];
            reasons.push(cells.map(SheetCell::plain).to_vec());
        };
        let everything = || "everything".to_string();
        let plan = results
            .plan
            .experiment
            .models
            .iter()
            .find(|it| it.name == section.model);
        let Some(model) = plan.and_then(|plan| papers.model(plan)) else {
            why(everything(), "no table has a model of this name".to_string());
            continue;
        };
        let unlike = place.unlike();
        if !unlike.is_empty() {
            why(everything(), unlike.join("; "));
            continue;
        }
        let length = place.measured.map(|measured| measured.length);
        let figures: Vec<Figure> = papers.figures(model, length).collect();
        if figures.is_empty() {
            let mut lengths: Vec<usize> = papers.figures(model, None).map(|figure| figure.table.length).collect();
            lengths.sort_unstable();
            lengths.dedup();
            let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
            let message = format!(
                "windows have {} tokens, and those of the tables {}",
                length.unwrap_or_default(),
                lengths.join(" or ")
            );
            why(everything(), message);
            continue;
        }
        if let Some(another) = place.another_dense(&figures) {
            why(everything(), another);
            continue;
        }
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for entry in std::iter::once(&section.dense).chain(&section.entries) {
            let (Some(summary), before) = (&entry.summary, rows.len()) else {
                continue;
            };
            for figure in figures
                .iter()
                .filter(|figure| stands_for(&papers, &place, entry, figure))
            {
                let source = figure.table.source();
                if !sources.contains(&source) {
                    sources.push(source);
                }
                let number_of = sources
                    .iter()
                    .position(|it| *it == figure.table.source())
                    .unwrap_or_default()
                    + 1;
                rows.push(compared(&place, entry, summary.mean, figure, number_of));
            }
            if rows.len() == before {
                let pattern = entry.pattern.map_or(String::new(), |pattern| pattern.to_string());
                missing.entry(&entry.method).or_default().push(pattern);
            }
        }
        for (method, patterns) in missing {
            let at = patterns.join(", ");
            let message = match method {
                DENSE => "no table of this model has the dense one in windows of this length".to_string(),
                _ => "no table of this model in windows of this length has this method, with these settings, at this pattern".to_string(),
            };
            why(format!("{method} {at}").trim_end().to_string(), message);
        }
    }
    let mut sheets = Vec::new();
    if !rows.is_empty() {
        sheets.push(beside(rows, &sources));
    }
    if !reasons.is_empty() {
        sheets.push(not_compared(reasons, &papers));
    }
    match sheets.is_empty() {
        true => Err(Error::config(
            "it measures no perplexity, and the published tables that zprune knows have nothing else; accuracies can be cited as a \
             [[reference]] (experiments/README.md)",
        )),
        false => Ok(Chapter {
            file: "papers",
            title: "Beside published tables",
            sheets,
        }),
    }
}

/// The evaluation that a section is about; none if it is no perplexity.
fn place<'a>(results: &'a Results, records: &'a [Record], section: &'a Section) -> Option<Place<'a>> {
    let Measure::Perplexity { evaluation } = &section.measure else {
        return None;
    };
    let experiment = &results.plan.experiment;
    let at = experiment.evaluations.iter().position(|it| it.name == *evaluation)?;
    let own = |record: &&Record| {
        let mut cells = results.plan.cell.iter();
        record.status == Status::Ok && cells.any(|cell| cell.id == record.id && cell.model == section.model)
    };
    let measured = records.iter().find(own);
    Some(Place {
        experiment,
        section,
        evaluation: &experiment.evaluations[at],
        measured: measured.and_then(|record| record.cell.evaluations.get(at)),
    })
}

/// Whether a figure is about what an entry measured.
fn stands_for(papers: &Papers, place: &Place, entry: &MethodResult, figure: &Figure) -> bool {
    let Some(pattern) = entry.pattern else {
        return figure.row.method == DENSE;
    };
    if figure.row.pattern != pattern.to_string() {
        return false;
    }
    let methods = &place.experiment.methods;
    let ours = methods.iter().find(|method| method.name == entry.method);
    let theirs = papers.methods.get(&figure.row.method);
    ours.zip(theirs)
        .is_some_and(|(ours, theirs)| place.is(ours, pattern, theirs))
}

/// The row of a figure and what was measured.
fn compared(place: &Place, entry: &MethodResult, ours: f64, figure: &Figure, source: usize) -> Vec<SheetCell> {
    let experiment = place.experiment;
    let calibrated = experiment
        .methods
        .iter()
        .any(|it| it.name == entry.method && it.calibrated);
    let calibration = match calibrated {
        true => place.calibration(figure.table),
        false => String::new(),
    };
    let printed = match figure.deviation {
        Some(deviation) => format!("{} (sd {deviation})", figure.value),
        None => figure.value.to_string(),
    };
    let text = |text: String| SheetCell::plain(text);
    vec![
        text(place.section.model.clone()),
        text(entry.pattern.map_or(String::new(), |pattern| pattern.to_string())),
        text(entry.method.clone()),
        number(Some(ours), digits(ours)),
        text(entry.runs.len().to_string()),
        text(printed),
        number(Some(ours / figure.value), 3),
        text(calibration),
        text(format!("[{source}]")),
    ]
}

/// The table of what can be compared.
fn beside(rows: Vec<Vec<SheetCell>>, sources: &[String]) -> Sheet {
    let words = Column::words;
    let mut notes = vec![
        "Printed figures stand beside ours where model, text, windows, pattern, method and all its settings are the same, and the dense \
         model's perplexity agrees to 1 %. Ratio: ours divided by the printed figure. Calibration may differ: see its column. Papers remove \
         equal scores by a threshold (`selection = \"reference\"`)."
            .to_string(),
    ];
    let listed = sources.iter().enumerate();
    notes.extend(listed.map(|(index, source)| format!("[{}] {source}.", index + 1)));
    Sheet {
        title: format!("Printed perplexities beside ours ({})", counted(rows.len(), "figure")),
        columns: vec![
            words("model"),
            words("pattern"),
            words("method"),
            Column::numbers("ours"),
            Column::numbers("seeds").aside(),
            Column::numbers("printed"),
            Column::numbers("ratio"),
            words("calibration").aside(),
            words("source"),
        ],
        rows,
        notes,
    }
}

/// The table of what cannot be compared, and why.
fn not_compared(reasons: Vec<Vec<SheetCell>>, papers: &Papers) -> Sheet {
    let models: Vec<&str> = papers.models.keys().map(String::as_str).collect();
    Sheet {
        title: "What cannot be compared".to_string(),
        columns: ["model", "evaluation", "what", "why"].map(Column::words).to_vec(),
        rows: reasons,
        notes: vec![format!(
            "The tables have {}. A model is known by its label, or by the last part of its name on the hub or of its folder.",
            models.join(", ")
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tables_are_whole_and_their_dense_models_agree() {
        let papers = Papers::embedded().expect("the tables");
        let mut figures = 0;
        let mut dense: BTreeMap<(&str, usize), f64> = BTreeMap::new();
        for table in &papers.tables {
            assert!(!table.place.is_empty() && !table.source().is_empty());
            for row in &table.rows {
                let place = format!("{}, {}: {} {}", table.paper, table.place, row.method, row.pattern);
                assert_eq!(row.values.len(), table.models.len(), "{place}");
                assert!([0, row.values.len()].contains(&row.deviations.len()), "{place}");
                assert_eq!(row.method == DENSE, row.pattern.is_empty(), "{place}");
                assert!(
                    row.method == DENSE || papers.methods.contains_key(&row.method),
                    "{place}"
                );
            }
            for model in &table.models {
                assert!(papers.models.contains_key(model), "{model}");
            }
        }
        for model in papers.models.keys() {
            let mut seen = 0;
            for figure in papers.figures(model, None) {
                seen += 1;
                assert!(figure.value > 1.0, "{model}");
                if figure.row.method == DENSE {
                    let known = dense.entry((model, figure.table.length)).or_insert(figure.value);
                    assert!(
                        (*known / figure.value - 1.0).abs() < 0.001,
                        "{model}: {known} and {}",
                        figure.value
                    );
                }
            }
            assert!(seen > 0, "{model} is in no table");
            figures += seen;
        }
        assert!(figures > 450, "only {figures} figures");
    }

    #[test]
    fn printed_methods_are_told_apart() {
        let papers = Papers::embedded().expect("the tables");
        let methods: Vec<(&String, &RecipePlan)> = papers.methods.iter().collect();
        assert!(methods.len() >= 12, "{}", methods.len());
        for (index, (name, plan)) in methods.iter().enumerate() {
            for (other, their) in &methods[..index] {
                assert!(plan != their, "{name} and {other} are the same");
            }
        }
    }
}
