//! What a record holds, field by field.

use crate::eval::to_dense::{ToDense, mean};
use crate::experiment::identity::Identity;
use crate::model::edit::BlockEdit;
use crate::model::pruned_before::PrunedBefore;
use crate::prune::layer::LayerRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the record's layout. It rises when records gain a field, because older versions of zprune refuse fields
/// that they do not know; with the version they can say why.
///
/// 1: perplexity. 2: tasks. 3: a checksum, and records that withdraw others. 4: the pattern of each layer.
/// 5: the order of its columns, what refinement changed, and the goal of its solver. 6: what compensation added to its bias.
/// 7: what is left of a model that lost whole units, how long it takes, and the file that gradients came from.
/// 8: how far predictions are from the dense model's.
/// 9: models that another program pruned.
/// 10: answers to prompts.
/// 11: prompts that are turns of a conversation.
/// 12: parts that a copy was made without.
/// 13: masks that remove larger weights than they keep.
/// 14: models that were pruned before; the inputs of the widest layer in copies without layers.
pub const SCHEMA: u32 = 14;

/// The first layout in which records have a checksum.
pub(super) const CHECKED: u32 = 3;

/// The oldest layout that can be read. Fields that were added later are absent from older records.
pub const OLDEST_SCHEMA: u32 = 1;

/// How the run of a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The cell has a result: all numbers are there.
    Ok,
    /// It failed; `error` says why. A rerun tries it again.
    Failed,
    /// The good record that the cell had so far cannot be trusted; `error` says why. A rerun makes another.
    Withdrawn,
}

/// A part of a record that a copy may be without: scores and comparisons do not need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What pruning did to each layer: most of the record's length.
    Layers,
    /// The scores of every document and what was written, in files of their own beside the records.
    Samples,
}

/// The result of one cell: one line of `runs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`] of the zprune that wrote it.
    pub schema: u32,
    /// Id of the cell, computed from its content.
    pub id: String,
    /// How the run of the cell ended.
    pub status: Status,
    /// Why the cell failed, or why its good record was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Names that the experiment gave the cell; they are not part of the id.
    pub label: Label,
    /// All settings and inputs that decide the cell's numbers; the id is computed from them.
    pub cell: Identity,
    /// Fraction of prunable weights removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<String>,
    /// Perplexities, one entry per evaluation of the experiment.
    pub evaluations: Vec<EvaluationRecord>,
    /// Zero-shot results, one entry per task of the experiment; after them, answers to prompts, whose accuracy is the share of right ones.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tasks: Vec<TaskRecord>,
    /// What pruning did to each layer.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub layers: Vec<LayerRecord>,
    /// What is left of the model, if whole units were removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub structure: Option<StructureRecord>,
    /// How many times as large as the weights that it kept the removed ones are, if a mask from a file seems to be turned round
    /// ([`turned_round`](crate::model::lineage::turned_round)).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub turned_round: Option<f64>,
    /// The zeros that the model had before the cell, if these are many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pruned_before: Option<PrunedBefore>,
    /// The number of inputs of the widest of the layers that were pruned, in a copy that is without them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub widest_inputs: Option<usize>,
    /// What the cell's first record had and this copy of it has not; empty in a record as a run writes it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub without: Vec<Part>,
    /// Where and when the cell ran. Reruns of the same cell differ only here.
    pub run: RunInfo,
    /// Checksum of all other fields, as it stands in the file; absent in memory, and before schema 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

/// The names that the experiment gives a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Name of the model.
    pub model: String,
    /// Name of the method; `dense` for the unpruned model.
    pub method: String,
    /// Name of the protocol, if the experiment uses one. The settings that it implies are part of `cell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// The perplexity of a cell's model in one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRecord {
    /// Name of the evaluation in the experiment.
    pub name: String,
    /// `exp` of the mean of `windows`; lower is better.
    pub perplexity: f64,
    /// Number of tokens in all windows.
    pub tokens: usize,
    /// SHA-256 of the tokens, as little-endian 32-bit words.
    pub token_digest: String,
    /// Mean negative log-likelihood of every window, in nats per predicted token.
    pub windows: Vec<f64>,
    /// How far the model's predictions are from the dense model's; only of pruned models, where the experiment compares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_dense: Option<ToDenseRecord>,
}

/// How far a pruned model's predictions are from the dense model's, on the windows of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToDenseRecord {
    /// Kullback-Leibler divergence from the dense model, in nats per predicted token: the mean of `kl_windows`.
    pub kl: f64,
    /// The share of predicted tokens of which both models find the same likeliest: the mean of `agreement_windows`.
    pub agreement: f64,
    /// Mean divergence of every window.
    pub kl_windows: Vec<f64>,
    /// Agreement in every window.
    pub agreement_windows: Vec<f64>,
}

impl ToDenseRecord {
    /// What was found, with the means over windows.
    pub fn of(found: ToDense) -> Self {
        ToDenseRecord {
            kl: mean(&found.kl),
            agreement: mean(&found.agreement),
            kl_windows: found.kl,
            agreement_windows: found.agreement,
        }
    }
}

/// The result of a cell's model on one zero-shot task. It has the outcome of every document, so that two cells can be
/// compared on the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Name of the task, as lm-evaluation-harness calls it.
    pub name: String,
    /// Version number that the harness gives the task.
    pub version: u32,
    /// SHA-256 of the data file.
    pub data_digest: String,
    /// Number of documents that were scored.
    pub documents: usize,
    /// Metrics by name: `acc`, `acc_norm`, `perplexity`.
    pub metrics: BTreeMap<String, Metric>,
    /// One character per document: `1` if the right choice has the highest log-likelihood (`acc`), otherwise `0`.
    pub correct: String,
    /// The same for log-likelihoods divided by the choices' lengths (`acc_norm`), if the task has that metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_norm: Option<String>,
    /// For each document the number of its source (a passage, a video), which documents can share; absent if the data
    /// does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<u32>>,
}

/// A metric with its uncertainty over documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Value of the metric; an accuracy is a fraction.
    pub value: f64,
    /// Standard error as the harness computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// 95 % interval of an accuracy, the one that tables show: Wilson's, or the exact one below 300 documents; documents that share a
    /// source count for less. Records of zprune 0.1.0 have Wilson's for any number of documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

/// Where and when a cell ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Version of zprune that ran the cell.
    pub version: String,
    /// Operating system, architecture, name of the processor and number of cores used.
    pub machine: String,
    /// The GPU that was used, with driver and tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Date and time (UTC) at which the run ended.
    pub finished: String,
    /// Seconds spent in forward passes, for statistics and to move calibration data through pruned blocks.
    pub calibrate_seconds: f64,
    /// Seconds spent on scoring, selecting and updating weights.
    pub prune_seconds: f64,
    /// Seconds for the whole cell.
    pub total_seconds: f64,
    /// The largest resident set while the cell ran, in bytes; absent if the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_resident_bytes: Option<u64>,
    /// Bytes of activations written to scratch files, counted each time they are written; absent if everything fitted
    /// in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spilled_bytes: Option<u64>,
    /// Measured seconds per token of scoring text, without reading weights: of the original and of what is left of it, in turn, the
    /// fastest of several passes; only where whole units were removed. In records that were finished before 28 November 2026, all
    /// logits were kept, and the next block was read meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_per_token: Option<[f64; 2]>,
}

impl RunInfo {
    /// Where times were measured: the GPU without its driver, if there is one, and the machine.
    pub fn measured_on(&self) -> String {
        let gpu = self.device.as_deref().and_then(|device| device.split(", ").next());
        gpu.map_or(self.machine.clone(), |gpu| format!("{gpu} ({})", self.machine))
    }
}

/// The sizes of a model before and after whole units were removed: of the model that is measured and that `shrink` writes, in which narrow
/// matrices are multiplied out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructureRecord {
    /// Number of parameters.
    pub parameters: [u64; 2],
    /// Bytes of all tensors, in the types in which the original stores them.
    pub bytes: [u64; 2],
    /// Multiply-adds of a token in linear layers and the head.
    pub multiply_adds: [u64; 2],
    /// The blocks that are left, by their numbers in the original.
    pub blocks: Vec<BlockWidths>,
}

/// How much is left of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockWidths {
    /// The block's number in the original.
    pub block: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key-value heads.
    pub kv_heads: usize,
    /// Number of neurons of the MLP.
    pub neurons: usize,
}

impl BlockWidths {
    /// What an edit leaves of a block.
    pub fn of(edit: &BlockEdit) -> Self {
        BlockWidths {
            block: edit.block,
            heads: edit.heads.len(),
            kv_heads: edit.kv_heads.len(),
            neurons: edit.neurons.len(),
        }
    }
}
