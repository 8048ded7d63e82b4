//! The memory that the CPU will need for an experiment's model, from its shape alone.
//!
//! Memory is what the program holds at its fullest: the weights outside the blocks, two blocks (the one under work
//! and the next one being read), either a batch of activations passing a block or the scores, Gram matrices and
//! factor of a layer, the residual streams of all windows, statistics that cells share, tokens, and the program itself with
//! what its allocator keeps. Only the streams can be put on disk. This is an
//! estimate from above; runs record what they used.

mod units;

use super::asked::{gradients, needs, regional};
use super::machine::{Machine, Processor};
use super::plan::{Experiment, MethodKind, MethodPlan};
use crate::backend::cpu::{Cpu, CpuBf16, GRADIENT_LOGIT_ROWS, LOGIT_ROWS, Packed, SCORE_ROWS, WIDENED_ROWS};
use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::backend::{Backend, Compute};
use crate::calibrate::SAMPLE;
use crate::calibrate::Stage;
use crate::error::{Error, Result};
use crate::memory::{self, Room};
use crate::prune::recipe::Recipe;
use crate::prune::units::UnitMethod;
use crate::spec::{BlockSpec, ModelSpec, Role, TapPlace};
use bytesize::ByteSize;
use std::fmt;
use units::Removing;
pub use units::{TIMED_TOKENS, timed_windows};

/// The memory that a run is expected to take, in bytes, by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Embedding, positions and head: the weights outside the blocks.
    pub ends: u64,
    /// The weights of two blocks: the one that is worked on, and the next; and of all blocks, if the model answers prompts.
    pub blocks: u64,
    /// The largest of: activations of one batch inside a block; scores, mask, Gram matrices and factor of a layer; a layer
    /// on its way to a file; the stored bytes of a matrix that is read.
    pub work: u64,
    /// Gram matrices of all blocks, with `stage = "dense"`.
    pub dense: u64,
    /// Gram matrices and factors of block 0, which the cells of a seed share where there is room for them, and gradients of all layers.
    pub shared: u64,
    /// Residual streams of all calibration and evaluation windows, and the dense model's that pruned ones are compared with.
    pub streams: u64,
    /// Token windows of all seeds and evaluations.
    pub tokens: u64,
    /// The program, its threads, and what its allocator keeps beside what was asked of it.
    pub program: u64,
}

/// The program's code, tables, buffers and a small tokenizer, measured.
const PROGRAM: u64 = 64 << 20;

/// What a thread keeps: its stack, and its own part of the allocator.
const THREAD: u64 = 4 << 20;

/// The allocator keeps what was freed for a while: at most so much of the buffers that come and go with a batch or a layer,
/// and beside that one byte for so many of those in use. Measured on models of 3 MB to 10 GB.
const KEPT: u64 = 256 << 20;
const SLACK: u64 = 16;

/// Memory that must stay free beside a run: one byte for so many of the run's, within limits. Other programs want some, and
/// a forecast is one.
const RESERVE: u64 = 32;
const LEAST_RESERVE: u64 = 128 << 20;
const MOST_RESERVE: u64 = 2 << 30;

impl Forecast {
    /// The memory of a model in an experiment whose evaluations have so many tokens.
    ///
    /// # Errors
    /// The experiment needs more than any machine can address.
    pub fn new(experiment: &Experiment, spec: &ModelSpec, evaluated: usize) -> Result<Self> {
        let removals = experiment.removals()?;
        let methods = removals.iter().map(|(_, removal)| removal.method.as_ref());
        let removing = Removing::in_sweep(spec, methods);
        Self::with(experiment, spec, evaluated, &removing)
    }

    /// The memory of making the experiment's model smaller with a method, and writing it.
    ///
    /// # Errors
    /// As [`Forecast::new`].
    pub fn of_shrinking(experiment: &Experiment, spec: &ModelSpec, method: &dyn UnitMethod) -> Result<Self> {
        Self::with(
            experiment,
            spec,
            TIMED_TOKENS,
            &Removing::and_writing(experiment, spec, method),
        )
    }

    fn with(experiment: &Experiment, spec: &ModelSpec, evaluated: usize, removing: &Removing) -> Result<Self> {
        let needs = needs(experiment)?;
        let largest = Sizes::largest(spec);
        let Sizes {
            block,
            layer,
            attention,
            mlp,
            taps,
        } = largest;
        let [before, after] = spec.outer_tensors();
        let width = spec.width as u128;
        let evaluated = evaluated as u128;
        let calibrated = experiment.calibration.as_ref();
        let (sequences, length) = calibrated.map_or((0, 0), |plan| (plan.sequences, plan.length.of(spec)));
        let tokens = sequences as u128 * length as u128;
        let windows = experiment.evaluations.iter().map(|plan| plan.length.of(spec));
        let longest = windows.chain([length]).max().unwrap_or(0);
        let batch = (Cpu.batch_tokens(spec.width) as u128)
            .min(tokens.max(evaluated))
            .max(longest as u128);
        let squares = |bytes: u128| taps.map(|width| bytes * width.pow(2));
        let grams: u128 = if needs.gram { squares(8).iter().sum() } else { 0 };
        let grams = grams * (1 + u128::from(needs.cross) + u128::from(needs.goal_gram));
        let sums = sums_bytes(taps.iter().sum(), sequences, needs);
        let widest = taps.into_iter().max().unwrap_or(0);
        let widened = if needs.gram {
            8 * WIDENED_ROWS as u128 * widest
        } else {
            0
        };
        let threads = rayon::current_num_threads() as u128;
        // Before the head, the batch is normalised once more. Where models are compared, the dense one's batch and logits are there, too.
        let models = if compares(experiment) { 2 } else { 1 };
        let logits = models * (threads * LOGIT_ROWS as u128 * spec.vocabulary as u128 * 4 + 4 * batch * width);
        let scores = threads * SCORE_ROWS as u128 * longest as u128 * 4;
        // Operands rounded to bfloat16 are copies: of activations for a product, of weights as long as these are used.
        let each = match experiment.machine.compute {
            Some(Compute::Bf16) => CpuBf16::or_environment()?.kernel().bytes() as u128,
            _ => 0,
        };
        let rounded = |values: u128| each * values;
        let head = spec.vocabulary as u128 * spec.embedding.width as u128;
        // In single precision, a weight may be packed for the time of a product. Where two models are timed in turns, the allocator may
        // still have that of the one while the other's is packed.
        let timed = 1 + u128::from(removing.writes);
        let packed = match experiment.machine.compute {
            None | Some(Compute::F32) => timed * Packed::bytes(layer.max(head)),
            Some(Compute::F16 | Compute::Bf16) => 0,
        };
        let passing = grams
            + sums.max(removing.sums(taps.iter().sum(), sequences))
            + widened
            + (4 * batch * attention.max(mlp) + scores).max(logits)
            + rounded(batch * widest + block + head)
            + packed;
        // On the way back: what a block computed and the gradients with respect to it, the sums of one block, and one of them on its way
        // to where all are kept; before that, logits and their gradients.
        let (gradients, regional) = (gradients(experiment)?, regional(experiment)?);
        let inside = 4 * batch * (2 * attention + 3 * mlp) + 2 * scores + 4 * layer;
        let of_logits = threads * GRADIENT_LOGIT_ROWS as u128 * spec.vocabulary as u128 * 4 + 12 * batch * width;
        let on_the_way_back = |gradients: GradientNeeds| match gradients.anything() {
            true => (inside + 4 * gradients.count() as u128 * block).max(of_logits) + packed,
            false => 0,
        };
        let back = on_the_way_back(gradients).max(on_the_way_back(removing.gradients));
        // Those of a block's outputs wait for their layers' turn.
        let waiting = 4 * regional.count() as u128 * block;
        let back = match regional.anything() {
            true => back.max(inside + 2 * waiting),
            false => back,
        };
        // The Gram matrices that are still to be used, and either the matrix under factorisation and what comes of it, which is
        // used in single precision, or what a solver holds.
        let recipes = experiment.recipes()?;
        let solving = |width: u128| recipes.iter().map(move |recipe| recipe.solver.room(layer, width)).max();
        let factoring = |place: usize| {
            let left: u128 = squares(8)[place..].iter().sum();
            left + (squares(16)[place] + squares(4)[place]).max(solving(taps[place]).unwrap_or(0))
        };
        let factoring = (0..taps.len()).map(factoring).max().unwrap_or(0);
        let factoring = if needs.gram { factoring } else { 0 };
        // Scores, the mask and the one before it, and the scores among which the threshold lies.
        let gradients_read = experiment.calibration.iter().any(|plan| plan.gradients.is_some());
        let read = gradients_read || recipes.iter().any(|recipe| recipe.criterion.file().is_some());
        let pruning = factoring + 7 * layer + if read { 16 * layer } else { 0 };
        // In other variables: the weights before and after they were scaled, and statistics of a layer's own.
        let mut transforms = recipes.iter().filter_map(|recipe| recipe.transform.as_deref());
        let pruning = match transforms.clone().next() {
            Some(_) if needs.gram => pruning + 8 * layer + 8 * widest * widest,
            Some(_) => pruning + 8 * layer,
            None => pruning,
        };
        // The masked block, its dense and its removed weights, and the sums of their gradients.
        let learned = match transforms.any(|transform| transform.learning().is_some()) {
            true => 4 * block,
            false => 0,
        };
        let back = if learned > 0 { back.max(inside) } else { back };
        // A layer as it was, as it became, and as it is stored, while the next is read.
        let written = 12 * layer;
        let read = elements(&before).max(elements(&after)).max(layer) * 4;
        let statistics = |block: &BlockSpec| {
            let widths = tap_widths(block);
            let grams: u128 = widths.iter().map(|width| 8 * width.pow(2)).sum();
            let samples = 4 * SAMPLE as u128 * widths.iter().sum::<u128>();
            samples + sums_bytes(widths.iter().sum(), sequences, needs) + if needs.gram { grams } else { 0 }
        };
        let all_statistics = spec.kinds().map(|(block, count)| count as u128 * statistics(block));
        let staged = |stage: Stage| {
            let methods = experiment.methods.iter().filter(|method| method.calibrated);
            let mut methods = methods.filter(|method| method.recipe().is_some());
            calibrated.is_some() && methods.any(|method| experiment.stage(method) == stage)
        };
        let dense = staged(Stage::Dense);
        // The dense block beside the one that is pruned, and the dense model's stream beside the pruned model's.
        let mut plans = experiment.methods.iter().filter_map(MethodPlan::recipe);
        let reproduced = plans.any(|recipe| !recipe.target.is_default());
        let twice = if reproduced || staged(Stage::Separate) { 2 } else { 1 };
        let bytes = |count: u128| {
            // All parts together must be a number of bytes, too.
            let bytes = u64::try_from(count).ok().filter(|bytes| *bytes <= u64::MAX / 16);
            bytes.ok_or_else(|| {
                Error::config(format!(
                    "{sequences} calibration windows of {length} tokens and {} blocks of width {width} need {count} bytes of memory at \
                     once, which is more than a machine can have; use fewer windows",
                    spec.blocks
                ))
            })
        };
        let shared = match staged(Stage::Block) && experiment.cells_per_seed() > 1 {
            true => statistics_bytes(spec, sequences, needs),
            false => 0,
        };
        // Gradients of all layers, those of trials beside those of the whole text, and the streams that the way back needs.
        let tried = |recipe: &Recipe| recipe.gradients().anything() && recipe.allocator.tries();
        let kept = if recipes.iter().any(tried) { 2 } else { 1 };
        let layers = kept * spec.prunable() as u128;
        let taped = match gradients.anything() || removing.gradients.anything() {
            true => spec.blocks as u128,
            false => 0,
        };
        let seeds = experiment.seeds.len().max(1) as u128;
        // A checkpoint of another program has an embedding and a head of its own.
        let mut kinds = experiment.methods.iter().map(|method| &method.kind);
        let others = kinds.any(|kind| matches!(kind, MethodKind::Checkpoint(_))) || removing.writes;
        let ends = 1 + u128::from(others);
        // A model that answers prompts is in memory as a whole.
        let whole = match experiment.generations.is_empty() {
            true => 0,
            false => {
                let kinds = spec.kinds().enumerate();
                let sizes =
                    kinds.map(|(index, (block, count))| count as u128 * elements(&spec.tensors_of(block, index)));
                sizes.sum::<u128>()
            }
        };
        let mut forecast = Forecast {
            ends: bytes(4 * ends * (elements(&before) + elements(&after)))?,
            blocks: bytes(4 * (twice * 2 * block + layer + whole + learned))?,
            work: bytes(
                removing
                    .beside(passing, logits)
                    .max(back)
                    .max(pruning + waiting)
                    .max(written)
                    .max(read)
                    + removing.room,
            )?,
            dense: if dense { bytes(all_statistics.sum())? } else { 0 },
            shared: bytes(u128::from(shared) + 4 * layers * gradients.count() as u128)?,
            streams: bytes(4 * width * ((twice + taped) * tokens + models * evaluated))?,
            tokens: bytes(4 * (seeds * tokens + evaluated))?,
            program: PROGRAM + THREAD * threads as u64,
        };
        forecast.program += forecast.work.min(KEPT) + forecast.whole() / SLACK;
        Ok(forecast)
    }

    /// What no disk can take over, and no run does without.
    pub fn fixed(&self) -> u64 {
        [self.ends, self.blocks, self.work, self.dense, self.tokens, self.program]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Everything, with nothing on disk.
    pub fn whole(&self) -> u64 {
        self.fixed().saturating_add(self.shared).saturating_add(self.streams)
    }

    /// The room that a budget leaves for residual streams and for what cells may share.
    ///
    /// # Errors
    /// The budget, or without one the memory that is free, does not hold what must be in memory.
    pub fn room(&self, experiment: &Experiment, machine: Machine) -> Result<Room> {
        let Some(budget) = experiment.machine.memory else {
            return match self.too_much(experiment, machine) {
                None => Ok(Room::unlimited()),
                Some(why) => Err(Error::config(why)),
            };
        };
        match budget.0.checked_sub(self.fixed()) {
            Some(left) => Ok(Room::new(left, &experiment.machine.scratch_folder())),
            None => {
                let hint = match self.dense {
                    0 => "",
                    _ => "; stage = \"block\" keeps the Gram matrices of one block only",
                };
                Err(Error::config(format!(
                    "memory = \"{budget}\" is not enough: about {} must be in memory ({self}){hint}",
                    ByteSize(self.fixed())
                )))
            }
        }
    }
}

impl Forecast {
    /// Why this machine's memory will not do for a run on its CPU without a budget, if so.
    pub fn too_much(&self, experiment: &Experiment, machine: Machine) -> Option<String> {
        if experiment.machine.memory.is_some() || machine.backend != Processor::Cpu {
            return None;
        }
        let wanted = self.whole();
        let reserve = (wanted / RESERVE).clamp(LEAST_RESERVE, MOST_RESERVE);
        let free = memory::available().filter(|free| free.saturating_sub(reserve) < wanted)?;
        let hint = match self.fixed() < free.saturating_sub(reserve) {
            true => "; with `memory` (--memory), what does not fit goes to scratch files or is computed again",
            false => "",
        };
        let (wanted, reserve, free) = (ByteSize(wanted), ByteSize(reserve), ByteSize(free));
        Some(format!(
            "about {wanted} of memory are needed ({self}) and {reserve} are kept free, but only {free} are free{hint}"
        ))
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "embedding and head {}, two blocks {}",
            ByteSize(self.ends),
            ByteSize(self.blocks)
        )?;
        write!(f, ", a batch or a layer under work {}", ByteSize(self.work))?;
        if self.dense > 0 {
            write!(f, ", statistics of all blocks {}", ByteSize(self.dense))?;
        }
        if self.shared > 0 {
            write!(f, ", statistics that cells share {}", ByteSize(self.shared))?;
        }
        write!(
            f,
            ", activations {}, tokens {}, the program {}",
            ByteSize(self.streams),
            ByteSize(self.tokens),
            ByteSize(self.program)
        )
    }
}

/// Elements of tensors, wide enough for products of any sizes that a configuration and an experiment may have.
pub(super) fn elements(tensors: &[(String, Vec<usize>)]) -> u128 {
    let shapes = tensors.iter().map(|(_, shape)| shape);
    shapes
        .map(|shape| shape.iter().map(|size| *size as u128).product::<u128>())
        .sum()
}

/// Features of a token at each tap of a block, 0 where it has none.
pub(super) fn tap_widths(block: &BlockSpec) -> [u128; TapPlace::ALL.len()] {
    TapPlace::ALL.map(|place| block.tap(place).map_or(0, |tap| tap.width as u128))
}

/// Sizes of a block that memory depends on, in elements.
#[derive(Default)]
pub(super) struct Sizes {
    /// Number of elements of all tensors of a block.
    pub block: u128,
    /// The weight of the largest layer.
    pub layer: u128,
    /// Features of a token that exist at one time in attention, and in the MLP.
    attention: u128,
    mlp: u128,
    /// Number of features at every tap.
    pub taps: [u128; TapPlace::ALL.len()],
}

impl Sizes {
    /// The largest of each among the blocks of a model.
    pub fn largest(spec: &ModelSpec) -> Self {
        let width = spec.width as u128;
        spec.kinds().fold(Sizes::default(), |largest, (block, _)| {
            let outputs = |place: TapPlace| -> u128 {
                let linears = block.linears.iter().filter(|linear| linear.role.place() == place);
                linears.map(|linear| linear.outputs as u128).sum()
            };
            let layers = block.linears.iter();
            let layer = layers.map(|linear| linear.outputs as u128 * linear.inputs as u128);
            let taps = tap_widths(block);
            let [_, mixed, ..] = taps;
            // A batch that was on disk, its normalised copy, and what is made of it: queries, keys and values, twice where
            // one layer gives all three, what attention makes of them, and its output.
            let projected = outputs(TapPlace::AttentionIn);
            let mut roles = block.linears.iter().map(|linear| linear.role);
            let fused = roles.any(|role| matches!(role, Role::Fused(_)));
            let projected = if fused { 2 * projected } else { projected };
            Sizes {
                block: largest.block.max(elements(&spec.tensors_of(block, 0))),
                layer: largest.layer.max(layer.max().unwrap_or(0)),
                attention: largest.attention.max(2 * width + projected + mixed + width),
                // The attention's output and its sum with the stream stay until the end.
                mlp: largest.mlp.max(4 * width + outputs(TapPlace::MlpIn)),
                taps: std::array::from_fn(|place| taps[place].max(largest.taps[place])),
            }
        })
    }
}

/// Bytes of the sums of this many features over each sequence.
fn sums_bytes(features: u128, sequences: usize, needs: Needs) -> u128 {
    // Those of the layer's own inputs, and those of the dense model's.
    let kinds = u128::from(needs.means) + u128::from(needs.goal_means);
    kinds * 8 * features * sequences as u128
}

/// Bytes of the Gram matrices of block 0 and their factors, and of its sums over sequences.
pub fn statistics_bytes(spec: &ModelSpec, sequences: usize, needs: Needs) -> u64 {
    let widths = tap_widths(spec.block(0));
    let per_pair = if needs.gram { 2 * 8 } else { 0 };
    let bytes: u128 = widths.iter().map(|width| per_pair * width * width + 8 * width).sum();
    let bytes = bytes + sums_bytes(widths.iter().sum(), sequences, needs);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Whether predictions of pruned models are compared with the dense model's.
fn compares(experiment: &Experiment) -> bool {
    experiment.evaluations.iter().any(|plan| plan.compare_to_dense)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::experiment::resolve::parse;
    use crate::experiment::source::Source;
    use crate::model::families::parse_spec;

    fn experiment(extra: &str, method: &str) -> Experiment {
        let text = format!(
            "name = \"x\"\n[[model]]\npath = \"m\"\n[calibration]\ncorpus = \"c.txt\"\nsampling = \"packed\"\n\
             sequences = 4\nlength = 512\n{extra}\n[sweep]\nseeds = [0]\npatterns = [{{ sparsity = 0.5 }}]\n\
             [[method]]\n{method}\n[[evaluation]]\nname = \"e\"\ncorpus = \"e.txt\"\nlength = 512\nwindows = 4\n"
        );
        let source = Source {
            path: "x.toml".into(),
            text,
        };
        parse(&source).expect("a good experiment")
    }

    const CPU: Machine = Machine {
        backend: Processor::Cpu,
        compute: Compute::F32,
    };

    /// The architecture of LLaMA-2-7B.
    fn shape() -> ModelSpec {
        parse_spec(
            r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false}"#,
        )
        .expect("a model")
    }

    #[test]
    fn memory_counts_what_the_shape_says() {
        let found = Forecast::new(&experiment("", "criterion = \"wanda\""), &shape(), 0).expect("known");
        assert_eq!(found.ends, 4 * (2 * 32000 * 4096 + 4096));
        let block = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096;
        assert_eq!(found.blocks, 4 * (2 * block + 4096 * 11008));
        assert_eq!(found.streams, 4 * 4096 * 2048);
        assert_eq!(found.dense, 0);
        let gram = "criterion = \"obs\"\nsolver = \"obs\"";
        let sparse = Forecast::new(&experiment("", gram), &shape(), 0).expect("known");
        assert!(sparse.work > found.work + 8 * 11008 * 11008, "{sparse}");
        let dense = Forecast::new(&experiment("stage = \"dense\"", gram), &shape(), 0).expect("known");
        let (grams, samples) = (8 * (3 * 4096u64.pow(2) + 11008u64.pow(2)), 4 * 128 * (3 * 4096 + 11008));
        assert_eq!(dense.dense, 32 * (grams + samples));
    }

    #[test]
    fn a_budget_below_what_must_be_in_memory_is_refused_with_the_estimate() {
        let mut small = experiment("stage = \"dense\"", "criterion = \"obs\"\nsolver = \"obs\"");
        small.machine.memory = Some(ByteSize::gib(20));
        let forecast = Forecast::new(&small, &shape(), 2048).expect("known");
        let error = forecast.room(&small, CPU).expect_err("too little").to_string();
        assert!(
            error.contains("20.0 GiB") && error.contains("stage = \"block\""),
            "{error}"
        );
        small.machine.memory = Some(ByteSize::gib(60));
        assert!(forecast.room(&small, CPU).is_ok());
        // Without a budget, what the machine has free is the limit; a tiny model fits any.
        small.machine.memory = None;
        let tiny = parse_spec(include_str!("../../models/tiny-llama/config.json")).expect("the embedded model's");
        let forecast = Forecast::new(&small, &tiny, 2048).expect("known");
        let unlimited = forecast.room(&small, CPU).expect("no limit");
        assert!(unlimited.reserve(1 << 50).is_some());
    }
}
