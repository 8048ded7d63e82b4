//! What an experiment file says, key by key. Nothing is interpreted here but shorthands, and unknown keys are refused.

use super::machine::Wanted;
use super::plan::Expected;
use super::protocol::Length;
pub use super::shorthand::{RawComponent, RawPattern};
use super::space::RawSpaces;
use crate::backend::Compute;
use crate::calibrate::{Goal, Stage};
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::eval::matching::Match;
use crate::eval::tasks::Harness;
use crate::experiment::axis::Axis;
use crate::linalg::Provider;
use crate::prune::pattern::{Group, Selection};
use crate::prune::units::Widths;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// An experiment file as it was typed; the keys that were left out are absent here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExperiment {
    /// Name of the experiment, and of its results folder; the file's name without its ending by default.
    #[schemars(with = "Option<String>")]
    pub name: Option<Spanned<String>>,
    /// One question, in a sentence.
    #[serde(default)]
    pub description: String,
    /// What a paper's code sets together.
    #[schemars(with = "Option<String>")]
    pub protocol: Option<Spanned<String>>,
    /// Whether texts start with the tokenizer's special tokens.
    pub bos: Option<Bos>,
    /// The models to prune and to measure, `[[model]]`.
    #[serde(default)]
    #[schemars(with = "Vec<RawModel>")]
    pub model: Vec<Spanned<RawModel>>,
    /// Where calibration statistics come from; needed unless every method looks at weights only.
    #[schemars(with = "Option<RawCalibration>")]
    pub calibration: Option<Spanned<RawCalibration>>,
    /// The patterns and seeds that every method is run with, `[sweep]`; needed.
    #[schemars(with = "Option<RawSweep>")]
    pub sweep: Option<Spanned<RawSweep>>,
    /// The pruning methods to compare, by their names: `["wanda", "sparsegpt"]`.
    #[serde(default)]
    #[schemars(with = "Vec<ListedMethod>")]
    pub methods: Vec<Spanned<ListedMethod>>,
    /// The pruning methods to compare, `[[method]]`.
    #[serde(default)]
    #[schemars(with = "Vec<RawMethod>")]
    pub method: Vec<Spanned<RawMethod>>,
    /// The texts on which perplexity is measured, `[[evaluation]]`.
    #[serde(default)]
    #[schemars(with = "Vec<RawEvaluation>")]
    pub evaluation: Vec<Spanned<RawEvaluation>>,
    /// Families of comparisons, declared before anything has run.
    #[serde(default)]
    #[schemars(with = "Vec<RawComparison>")]
    pub comparison: Vec<Spanned<RawComparison>>,
    /// Published values to show beside ours.
    #[serde(default)]
    #[schemars(with = "Vec<RawReference>")]
    pub reference: Vec<Spanned<RawReference>>,
    /// The zero-shot tasks that models are scored on, `[[task]]`.
    #[serde(default)]
    #[schemars(with = "Vec<RawTask>")]
    pub task: Vec<Spanned<RawTask>>,
    /// Prompts that models answer, `[[generation]]`.
    #[serde(default)]
    #[schemars(with = "Vec<RawGeneration>")]
    pub generation: Vec<Spanned<RawGeneration>>,
    /// The backend that computes, its precision and its memory, `[compute]`.
    #[serde(default)]
    pub compute: RawCompute,
    /// Settings of the report, `[report]`.
    #[schemars(with = "Option<RawReport>")]
    pub report: Option<Spanned<RawReport>>,
    /// Makes the experiment a search for the best method of a space, `[search]`; `zprune search` runs it.
    #[schemars(with = "Option<RawSearch>")]
    pub search: Option<Spanned<RawSearch>>,
}

/// A search for the best method of a space, `[search]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSearch {
    /// Number of methods to try, drawn at random; the whole space, if it has no more, and by default.
    #[schemars(with = "Option<usize>")]
    pub trials: Option<Spanned<usize>>,
    /// Decides which methods are drawn, and which windows are held out; 0 by default.
    #[serde(default)]
    pub seed: u64,
    /// Of so many methods, one goes on to the next rung; 3 by default.
    #[schemars(with = "Option<usize>")]
    pub halve: Option<Spanned<usize>>,
    /// Numbers of calibration windows, one for each rung: `[8, 24, 72]`; needed.
    #[schemars(with = "Option<Vec<usize>>")]
    pub sequences: Option<Spanned<Vec<usize>>>,
    /// Number of windows of the calibration corpus that nothing is calibrated on: one half selects, the other half tests the winner. 32 by
    /// default.
    #[schemars(with = "Option<usize>")]
    pub held_out: Option<Spanned<usize>>,
    /// The methods with which the winner is compared, by name or with the keys of a `[[method]]`; needed.
    #[serde(default)]
    #[schemars(with = "Vec<ListedMethod>")]
    pub against: Vec<Spanned<ListedMethod>>,
    /// Calibration seeds of that comparison, none of which the search has; three by default.
    #[schemars(with = "Option<Vec<u64>>")]
    pub confirm: Option<Spanned<Vec<u64>>>,
    /// The space: a `[[method]]` in which values may be lists to choose from, or ranges; needed.
    #[schemars(with = "RawSpaces")]
    pub method: Option<Spanned<RawSpaces>>,
}

/// A model of the experiment, `[[model]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    /// Label in tables; the folder's or the repository's name by default.
    pub name: Option<String>,
    /// The model's folder, in the format of Hugging Face.
    #[schemars(with = "Option<PathBuf>")]
    pub path: Option<Spanned<PathBuf>>,
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCalibration {
    /// Text, JSONL or parquet file, or one on the hub (`hub:c4`).
    #[schemars(with = "Option<PathBuf>")]
    pub corpus: Option<Spanned<PathBuf>>,
    /// Token windows file in place of a corpus; `{seed}` in its name stands for the seed.
    #[schemars(with = "Option<PathBuf>")]
    pub tokens: Option<Spanned<PathBuf>>,
    /// File with the gradients of the model's loss, for methods that use them; they are computed without it.
    #[schemars(with = "Option<PathBuf>")]
    pub gradients: Option<Spanned<PathBuf>>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// How the documents of the corpus become one text; the named corpus's own way, or `none`, by default.
    pub join: Option<Join>,
    /// How windows are drawn from a corpus; the protocol's way, or `documents`, by default.
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSweep {
    /// The seeds with which calibration windows are drawn.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// The sparsity patterns that every method is run with.
    #[serde(default)]
    #[schemars(with = "Vec<RawPattern>")]
    pub patterns: Vec<Spanned<RawPattern>>,
    /// How many weights are removed if scores are equal; the protocol's by default.
    pub selection: Option<Selection>,
}

/// A method in the list `methods`: a name, or a table with the keys of a `[[method]]`.
#[derive(Debug, Clone)]
pub enum ListedMethod {
    /// The name of a criterion or of a recipe, or `criterion+solver`.
    Name(String),
    /// The keys of a `[[method]]`.
    Keys(Box<RawMethod>),
}

impl<'de> Deserialize<'de> for ListedMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MethodVisitor;

        impl<'de> Visitor<'de> for MethodVisitor {
            type Value = ListedMethod;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a method in quotes, or a table with the keys of a [[method]]")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<ListedMethod, E> {
                Ok(ListedMethod::Name(name.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ListedMethod, A::Error> {
                let method = RawMethod::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ListedMethod::Keys(Box::new(method)))
            }
        }

        deserializer.deserialize_any(MethodVisitor)
    }
}

/// The keys of the steps of a recipe, whose values are components.
pub(super) const STEPS: [&str; 7] = [
    "criterion",
    "solver",
    "allocator",
    "transform",
    "permutation",
    "refine",
    "compensate",
];

/// A pruning method of the experiment, `[[method]]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMethod {
    /// Label in tables; by default made from the steps, with the parameters that are not at their defaults.
    pub name: Option<String>,
    /// A recipe by name, whose steps are used where none are typed here.
    #[schemars(with = "Option<String>")]
    pub recipe: Option<Spanned<String>>,
    /// Decides how important each weight is; needed where no recipe is named. A recipe's name stands for the recipe, and
    /// `criterion+solver` for both steps.
    #[schemars(with = "Option<RawComponent>")]
    pub criterion: Option<Spanned<RawComponent>>,
    /// Computes the new values of the weights that are kept; `one-shot`, which leaves them, by default.
    #[schemars(with = "Option<RawComponent>")]
    pub solver: Option<Spanned<RawComponent>>,
    /// Chooses the variables in which layers are pruned; by default, they are what they are.
    #[schemars(with = "Option<RawComponent>")]
    pub transform: Option<Spanned<RawComponent>>,
    /// Decides how much is removed from each layer; `uniform` by default.
    #[schemars(with = "Option<RawComponent>")]
    pub allocator: Option<Spanned<RawComponent>>,
    /// Decides which columns share an N:M group; by default, neighbouring columns.
    #[schemars(with = "Option<RawComponent>")]
    pub permutation: Option<Spanned<RawComponent>>,
    /// Looks for a better mask of the same size; the criterion's mask is kept by default.
    #[schemars(with = "Option<RawComponent>")]
    pub refine: Option<Spanned<RawComponent>>,
    /// Changes the bias to make up for removed weights; the bias stays as it is by default.
    #[schemars(with = "Option<RawComponent>")]
    pub compensate: Option<Spanned<RawComponent>>,
    /// The group of weights among which the lowest scores are removed; the criterion's own by default.
    pub group: Option<Group>,
    /// What a layer's statistics are gathered on; the calibration's by default.
    pub stage: Option<Stage>,
    /// Whose outputs the solver reproduces; the calibration's by default.
    pub target: Option<Goal>,
    /// In place of a criterion: removes whole heads, neurons or blocks, as much as a pattern that is a fraction says.
    #[schemars(with = "Option<RawComponent>")]
    pub units: Option<Spanned<RawComponent>>,
    /// Beside `units`: whether blocks have equal sizes afterwards; `uniform` by default.
    pub widths: Option<Widths>,
    /// In place of a criterion: file of safetensors with the scores of another program. `{model}`, `{pattern}` and `{seed}` in its name
    /// are those of the cell.
    #[schemars(with = "Option<PathBuf>")]
    pub scores: Option<Spanned<PathBuf>>,
    /// In place of a criterion: file of safetensors with the mask of another program, 1 for what is kept; names as with `scores`.
    #[schemars(with = "Option<PathBuf>")]
    pub mask: Option<Spanned<PathBuf>>,
    /// In place of a criterion: a model that another program pruned, as its folder or `hub:org/name`, to be measured as it is; names as
    /// with `scores`.
    #[schemars(with = "Option<PathBuf>")]
    pub checkpoint: Option<Spanned<PathBuf>>,
    /// Beside `checkpoint`: it was trained until its weights no longer resemble the model's; such a checkpoint is refused otherwise.
    #[serde(default)]
    pub retrained: bool,
    /// The only pattern that the method is run with; all by default.
    #[schemars(with = "Option<RawPattern>")]
    pub pattern: Option<Spanned<RawPattern>>,
    /// The only seed that the method is run with, or that a file of another program came from; all by default.
    pub seed: Option<u64>,
}

/// A text on which perplexity is measured, `[[evaluation]]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEvaluation {
    /// Label of the evaluation in tables.
    pub name: String,
    /// Text, JSONL or parquet file, or one on the hub (`hub:wikitext2`).
    #[schemars(with = "Option<PathBuf>")]
    pub corpus: Option<Spanned<PathBuf>>,
    /// Token windows file in place of a corpus.
    #[schemars(with = "Option<PathBuf>")]
    pub tokens: Option<Spanned<PathBuf>>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// How the documents of the corpus become one text; the named corpus's own way, or `none`, by default.
    pub join: Option<Join>,
    /// Use only the first so many rows of the corpus; all by default.
    pub rows: Option<usize>,
    /// Number of tokens in a window; the protocol's by default.
    pub length: Option<Length>,
    /// Number of windows; all by default.
    pub windows: Option<usize>,
    /// Whether the predictions of pruned models are compared with the dense model's: KL divergence, and how often the likeliest token is
    /// the same; not by default.
    #[serde(default)]
    pub compare_to_dense: bool,
}

/// A family of comparisons whose p-values are corrected together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawComparison {
    /// Name of the family in tables.
    pub family: String,
    /// Label of the method that is compared.
    pub ours: Option<String>,
    /// In place of `ours`: the axis on which methods are compared that are alike on all others.
    pub axis: Option<Axis>,
    /// Labels of the methods that `ours` is compared with, where `dense` is the unpruned model; or values on the axis, with parameters as in
    /// a `[[method]]`.
    pub against: Vec<RawComponent>,
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
#[derive(Debug, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTask {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// JSONL or parquet file in the hub's field names, a folder of such files named after their tasks, or a file
    /// on the hub; the task's own data set on the hub by default.
    #[schemars(with = "Option<PathBuf>")]
    pub data: Option<Spanned<PathBuf>>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// Number of documents; all by default.
    pub limit: Option<usize>,
    /// The version of lm-evaluation-harness whose results are wanted; the current one by default.
    pub harness: Option<Harness>,
}

/// Prompts that models answer, and the answers that are expected, `[[generation]]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGeneration {
    /// Label in tables, and name of the files of samples.
    pub name: String,
    /// JSONL or parquet file, or one on the hub, with the fields of the template and an `answer` in each row.
    #[schemars(with = "PathBuf")]
    pub prompts: Spanned<PathBuf>,
    /// The same for examples, which stand with their answers before every prompt; none by default.
    #[schemars(with = "Option<PathBuf>")]
    pub examples: Option<Spanned<PathBuf>>,
    /// How to get it, shown when it is not there.
    pub obtain: Option<String>,
    /// Number of examples; all of their file by default.
    pub shots: Option<usize>,
    /// How a row becomes a prompt, where `{field}` stands for a field of the row; `{prompt}` by default.
    pub template: Option<String>,
    /// Whether prompt and examples are turns of a conversation, written with the chat template of the model's tokenizer.
    #[serde(default)]
    pub chat: bool,
    /// The most tokens that an answer has.
    pub max_tokens: usize,
    /// Texts that end an answer, beside the model's own end.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Which part of the model's text must be equal to the answer.
    #[serde(rename = "match")]
    pub matching: Match,
    /// Number of prompts; all by default.
    pub limit: Option<usize>,
}

/// The backend that computes, its precision and its memory, `[compute]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCompute {
    /// `cpu`, `gpu` or `auto`; `cpu` by default.
    pub backend: Option<Wanted>,
    /// `f32` or `f16`; `f16` by default on a GPU that has it.
    pub compute: Option<Compute>,
    /// The GPU's number, PCI address or part of its name, as `zprune devices` lists it.
    pub adapter: Option<String>,
    /// Memory a run may use, such as `12GiB`; no limit by default.
    pub memory: Option<String>,
    /// Folder of scratch files; the system's for temporary files by default.
    #[schemars(with = "Option<PathBuf>")]
    pub scratch: Option<Spanned<PathBuf>>,
    /// Provider of factorisations; `faer` by default.
    #[schemars(with = "Option<Provider>")]
    pub linear_algebra: Option<Spanned<Provider>>,
}

/// Settings of the report, `[report]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawReport {
    /// Confidence of intervals; 0.95 by default.
    pub confidence: Option<f64>,
    /// Tables of methods by two of their steps: `[["criterion", "solver"]]` makes tables with a row for each criterion and a column for
    /// each solver.
    #[serde(default)]
    pub tables: Vec<Vec<Axis>>,
}
