//! What an experiment file says, key by key. Nothing is interpreted here; unknown keys are refused with
//! their line, their column and the nearest known name.

use super::machine::Wanted;
use super::plan::Expected;
use super::protocol::Length;
use crate::backend::Compute;
use crate::calibrate::{Goal, Stage};
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::error::{Error, Result};
use crate::eval::tasks::Harness;
use crate::experiment::axis::Axis;
use crate::files::input;
use crate::linalg::Provider;
use crate::prune::pattern::{Group, Selection};
use crate::registry::with_suggestion;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// An experiment file as it was typed; the keys that were left out are absent here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExperiment {
    /// Name of the experiment, and of its results folder.
    pub name: Spanned<String>,
    /// One question, in a sentence.
    #[serde(default)]
    pub description: String,
    /// What a paper's code sets together.
    pub protocol: Option<Spanned<String>>,
    /// Whether texts start with the tokenizer's special tokens.
    pub bos: Option<Bos>,
    /// The models to prune and to measure, `[[model]]`.
    #[serde(default)]
    pub model: Vec<Spanned<RawModel>>,
    /// Where calibration statistics come from; needed unless every method looks at weights only.
    pub calibration: Option<Spanned<RawCalibration>>,
    /// The axes of the sweep.
    pub sweep: Spanned<RawSweep>,
    /// The pruning methods to compare, `[[method]]`.
    #[serde(default)]
    pub method: Vec<Spanned<RawMethod>>,
    /// The texts on which perplexity is measured, `[[evaluation]]`.
    #[serde(default)]
    pub evaluation: Vec<Spanned<RawEvaluation>>,
    /// Families of comparisons, declared before anything has run.
    #[serde(default)]
    pub comparison: Vec<Spanned<RawComparison>>,
    /// Published values to show beside ours.
    #[serde(default)]
    pub reference: Vec<Spanned<RawReference>>,
    /// The zero-shot tasks that models are scored on, `[[task]]`.
    #[serde(default)]
    pub task: Vec<Spanned<RawTask>>,
    /// The backend that computes, its precision and its memory, `[compute]`.
    #[serde(default)]
    pub compute: RawCompute,
    /// Settings of the report, `[report]`.
    pub report: Option<Spanned<RawReport>>,
}

/// A model of the experiment, `[[model]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    /// Label in tables; the folder's or the repository's name by default.
    pub name: Option<String>,
    /// The model's directory, in the format of Hugging Face.
    pub path: Option<PathBuf>,
    /// Repository on the Hugging Face hub, in place of a path.
    pub hub: Option<String>,
    /// Branch, tag or commit of that repository; `main` by default.
    pub revision: Option<String>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// What the unpruned model is known to score, by evaluation.
    #[serde(default)]
    pub expected: BTreeMap<String, Expected>,
}

/// Where the windows come from on which statistics are gathered, `[calibration]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCalibration {
    /// Text, JSONL or parquet file, or one on the hub (`hub:c4`).
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus; `{seed}` in its name stands for the seed.
    pub tokens: Option<PathBuf>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// How rows become one text; the data set's own way, or `none`, by default.
    pub join: Option<Join>,
    /// How windows are drawn from a corpus.
    pub sampling: Option<Sampling>,
    /// Number of windows to draw for each seed; the protocol's by default.
    pub sequences: Option<usize>,
    /// Number of tokens in a window; the protocol's by default.
    pub length: Option<Length>,
    /// What a layer's statistics are gathered on; `propagate` in files of earlier versions.
    #[serde(alias = "propagate")]
    pub stage: Option<Stage>,
    /// The outputs that solvers are to reproduce: those of the layer as it is now, or those of the dense model.
    pub target: Option<Goal>,
}

/// What every method is run with, `[sweep]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSweep {
    /// The seeds with which calibration windows are drawn.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// The sparsity patterns that every method is run with.
    #[serde(default)]
    pub patterns: Vec<Spanned<RawPattern>>,
    /// How many weights are removed if scores are equal; the protocol's by default.
    pub selection: Option<Selection>,
}

/// A sparsity pattern: `{ sparsity = 0.5 }` or `{ keep = 2, of = 4 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPattern {
    /// Fraction of the weights that is removed.
    pub sparsity: Option<f64>,
    /// Number of weights that are kept in each group.
    pub keep: Option<usize>,
    /// Number of weights in each group.
    pub of: Option<usize>,
}

/// A pruning method of the experiment, `[[method]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMethod {
    /// Label in tables; made from the steps by default.
    pub name: Option<String>,
    /// A recipe by name, whose steps are used where none are typed here.
    pub recipe: Option<Spanned<String>>,
    /// Decides how important each weight is; needed where no recipe is named.
    pub criterion: Option<Spanned<RawComponent>>,
    /// Computes the new values of the weights that are kept; `one-shot`, which leaves them, by default.
    pub solver: Option<Spanned<RawComponent>>,
    /// Decides how much is removed from each layer; `uniform` by default.
    pub allocator: Option<Spanned<RawComponent>>,
    /// Decides which columns share an N:M group; those that stand together by default.
    pub permutation: Option<Spanned<RawComponent>>,
    /// Looks for a better mask of the same size; the criterion's mask is kept by default.
    pub refine: Option<Spanned<RawComponent>>,
    /// Changes the bias to make up for removed weights; the bias stays as it is by default.
    pub compensate: Option<Spanned<RawComponent>>,
    /// The group of weights among which the lowest scores are removed; the criterion's own by default.
    pub group: Option<Group>,
    /// What a layer's statistics are gathered on; the calibration's by default.
    pub stage: Option<Stage>,
    /// Whose outputs the solver reproduces; the calibration's by default.
    pub target: Option<Goal>,
}

/// A text on which perplexity is measured, `[[evaluation]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEvaluation {
    /// Label of the evaluation in tables.
    pub name: String,
    /// Text, JSONL or parquet file, or one on the hub (`hub:wikitext2`).
    pub corpus: Option<PathBuf>,
    /// Token windows file in place of a corpus.
    pub tokens: Option<PathBuf>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// How rows become one text; the data set's own way, or `none`, by default.
    pub join: Option<Join>,
    /// Use only the first so many rows of the corpus; all by default.
    pub rows: Option<usize>,
    /// Number of tokens in a window; the protocol's by default.
    pub length: Option<Length>,
    /// Number of windows; all by default.
    pub windows: Option<usize>,
}

/// A family of comparisons whose p-values are corrected together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawComparison {
    /// Name of the family in tables.
    pub family: String,
    /// Label of the method that is compared.
    pub ours: Option<String>,
    /// In place of `ours`: the axis on which methods are compared that are alike on all others.
    pub axis: Option<Axis>,
    /// Labels of the methods that `ours` is compared with, where `dense` is the unpruned model; or values on the axis.
    pub against: Vec<String>,
    /// Labels of models; all by default.
    pub models: Option<Vec<String>>,
    /// The patterns under which the methods are compared; all by default.
    pub patterns: Option<Vec<RawPattern>>,
    /// Labels of evaluations; all by default.
    pub evaluations: Option<Vec<String>>,
    /// Names of zero-shot tasks; all by default.
    pub tasks: Option<Vec<String>>,
}

/// Published values of several methods on one model, under one pattern, by one measure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReference {
    /// Where the values are printed.
    pub source: String,
    /// How they were obtained, as far as the source says.
    #[serde(default)]
    pub protocol: String,
    /// Label of the model that the values are of.
    pub model: String,
    /// The pattern; needed by every value but the unpruned model's.
    pub pattern: Option<RawPattern>,
    /// Label of the evaluation whose perplexity it is.
    pub evaluation: Option<String>,
    /// In place of an evaluation, the zero-shot task whose accuracy in percent it is.
    pub task: Option<String>,
    /// Number of documents of the task that the values rest on.
    pub documents: Option<usize>,
    /// Values by label of the method; `dense` is the unpruned model.
    pub values: BTreeMap<String, f64>,
    /// Standard deviations over calibration seeds, where the source has them.
    #[serde(default)]
    pub deviations: BTreeMap<String, f64>,
}

/// A zero-shot task that models are scored on, `[[task]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTask {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// JSONL or parquet file in the hub's field names, a folder of such files named after their tasks, or a file
    /// on the hub; the task's own data set on the hub by default.
    pub data: Option<PathBuf>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// Number of documents; all by default.
    pub limit: Option<usize>,
    /// Whose scores are wanted; those of the current lm-evaluation-harness by default.
    pub harness: Option<Harness>,
}

/// The backend that computes, its precision and its memory, `[compute]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCompute {
    /// `cpu`, `gpu` or `auto`; `cpu` by default.
    pub backend: Option<Wanted>,
    /// `f32` or `f16`; `f16` by default on a GPU that has it.
    pub compute: Option<Compute>,
    /// Part of the GPU's name.
    pub adapter: Option<String>,
    /// Memory a run may use, such as `12GiB`; no limit by default.
    pub memory: Option<String>,
    /// Folder of scratch files; the system's for temporary files by default.
    pub scratch: Option<PathBuf>,
    /// Provider of factorisations; `faer` by default.
    pub linear_algebra: Option<Spanned<Provider>>,
}

/// Settings of the report, `[report]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReport {
    /// Confidence of intervals; 0.95 by default.
    pub confidence: Option<f64>,
    /// Pairs of axes, each of which gets tables with the values of the first as rows and of the second as columns.
    #[serde(default)]
    pub tables: Vec<Vec<Axis>>,
}

/// A component by name, `"ria"`, or with parameters, `{ name = "ria", activation_power = 1.0 }`.
#[derive(Debug, Clone)]
pub struct RawComponent {
    /// The name by which the component is registered.
    pub name: String,
    /// Everything else that was typed.
    pub parameters: toml::Table,
}

impl<'de> Deserialize<'de> for RawComponent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ComponentVisitor;

        impl<'de> Visitor<'de> for ComponentVisitor {
            type Value = RawComponent;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name, or a table with `name` and parameters")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<RawComponent, E> {
                Ok(RawComponent {
                    name: name.to_string(),
                    parameters: toml::Table::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawComponent, A::Error> {
                let mut parameters = toml::Table::new();
                while let Some((key, value)) = map.next_entry::<String, toml::Value>()? {
                    parameters.insert(key, value);
                }
                match parameters.remove("name") {
                    Some(toml::Value::String(name)) => Ok(RawComponent { name, parameters }),
                    Some(_) => Err(de::Error::custom("`name` of a component must be a string")),
                    None => Err(de::Error::missing_field("name")),
                }
            }
        }

        deserializer.deserialize_any(ComponentVisitor)
    }
}

/// The text of an experiment file, to turn byte offsets into places.
pub struct Source {
    /// Path of the file, for messages.
    pub path: PathBuf,
    /// The file's text, in which places are looked up.
    pub text: String,
}

impl Source {
    /// Reads the file.
    ///
    /// # Errors
    /// The file is missing, not a regular file, not UTF-8 or too large.
    pub fn read(path: &Path) -> Result<Self> {
        let text = input::read_text(path, input::SMALL)?;
        Ok(Source {
            path: path.to_path_buf(),
            text,
        })
    }

    /// Parses the text.
    ///
    /// # Errors
    /// Broken TOML, unknown or missing keys, wrong types; with line, column and the nearest known name.
    pub fn parse(&self) -> Result<RawExperiment> {
        toml::from_str(&self.text).map_err(|error| {
            let place = self.place(error.span().map_or(0, |span| span.start));
            Error::config(with_suggestion(error.message())).at(place)
        })
    }

    /// `file:line:column` of a byte offset.
    pub fn place(&self, offset: usize) -> String {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }
}
