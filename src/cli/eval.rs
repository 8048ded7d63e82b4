//! `zprune eval`.

use super::choice::{JOINS, choice};
use super::common::Common;
use super::display::Display;
use super::generation::Generation;
use super::json::{self, JsonOutput};
use super::piped;
use super::streams::{note, print, print_lines, say, width};
use super::sweep::unlike_papers;
use crate::data::corpus::Join;
use crate::error::{Error, Result};
use crate::eval::tasks::Harness;
use crate::experiment::inputs;
use crate::experiment::plan::{EvaluationPlan, Experiment};
use crate::experiment::protocol::Length;
use crate::experiment::raw::{RawEvaluation, RawTask};
use crate::experiment::single::{self, SingleModel, typed};
use crate::jobs;
use crate::report;
use crate::stats::Shown;
use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::{Path, PathBuf};

/// Arguments of `zprune eval`.
#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    common: Common,
    /// Evaluation corpus: text, JSONL, gzipped JSONL or parquet, or `hub:wikitext2`; `-` reads text or JSONL from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    corpus: Option<PathBuf>,
    /// Evaluation windows: safetensors with `input_ids` [n, length]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How the corpus's documents become one text [default: the named corpus's own, else the protocol's, else none]
    #[arg(long, value_parser = choice::<Join>(&JOINS))]
    join: Option<Join>,
    /// Tokens per window [default: the protocol's, that of --tokens, or 2048, but no more than the model was made for]
    #[arg(long, value_name = "L")]
    length: Option<usize>,
    /// Number of windows; all by default
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// The dense model, to compare predictions with it: KL divergence, and how often the likeliest token is the same
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Zero-shot tasks instead of a text, by name, separated by commas; `zprune list` has them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tasks: Vec<String>,
    #[command(flatten)]
    generation: Generation,
    /// Folder with one JSONL or parquet file per task, named after it, or the file of a single task
    /// [default: the tasks' data sets on the hub]
    #[arg(long, value_name = "DIR", requires = "tasks")]
    data: Option<PathBuf>,
    /// Documents per task, or prompts to answer; all by default
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The version of lm-evaluation-harness whose results you want [default: 0.4.9.2, which is the current one]
    #[arg(long, requires = "tasks", value_parser = choice::<Harness>(&[
        "The master branch of 2023 (`hf-causal`), which pruning papers used: no BOS, an empty context is the end-of-text \
         token, a limit takes documents shuffled with seed 42. (The tagged release 0.3.0 also tokenised continuations alone; \
         zprune does not do that.)",
        "0.4.0 to 0.4.9.1: no BOS, an empty context is the end-of-text token, a limit takes the first documents",
        "0.4.9.2 and later: special tokens as the tokenizer adds them, an empty context is the BOS token if there is one",
    ]))]
    harness: Option<Harness>,
    /// File for the result as JSON, with the likelihood of every window, or of every document and choice
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Layout of the file of --json [default: zprune]
    #[arg(long, requires = "json", value_parser = choice::<JsonLayout>(&[
        "Everything that zprune knows about the result",
        "The result file of lm-evaluation-harness (`results`, `versions`, `n-shot`, `configs`), for programs that read it; only with --tasks",
    ]))]
    format: Option<JsonLayout>,
    /// Replace the file of --json even if it is not an earlier result
    #[arg(long, requires = "json")]
    force: bool,
}

/// Layouts of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum JsonLayout {
    Zprune,
    LmEval,
}

/// Carries out the command `zprune eval`.
pub fn run(arguments: &Eval) -> Result<()> {
    let generation = arguments.generation.raw(arguments.limit)?;
    if !arguments.tasks.is_empty() {
        return score(arguments);
    }
    if let Some(raw) = generation {
        let experiment = single::generating(&arguments.common.resolved(), &raw)?;
        return answered(arguments, &experiment);
    }
    if arguments.limit.is_some() {
        let message =
            "--limit is a number of documents of --tasks, or of prompts of --generate; for a text, use --windows";
        return Err(Error::config(message));
    }
    if arguments.format == Some(JsonLayout::LmEval) {
        let message = "--format lm-eval is only for scores of tasks; add --tasks, or leave --format out";
        return Err(Error::config(message));
    }
    if arguments.corpus.is_none() && arguments.tokens.is_none() {
        let message = "say what to measure: give --corpus FILE (perplexity on a text), --tokens FILE (on windows of \
                       tokens), --tasks NAMES (zero-shot accuracy), or --generate FILE (answers to prompts)";
        return Err(Error::config(message));
    }
    piped::refuse("--tokens", arguments.tokens.as_deref())?;
    let text = piped::text(arguments.corpus.as_deref())?;
    let free = arguments.common.protocol.is_none() && arguments.tokens.is_none();
    let raw = RawEvaluation {
        name: "perplexity".to_string(),
        corpus: text.path.clone().map(typed),
        tokens: arguments.tokens.clone().map(typed),
        obtain: None,
        join: arguments.join,
        rows: None,
        length: arguments.length.map(Length::Tokens).or(free.then_some(Length::USUAL)),
        windows: arguments.windows,
        compare_to_dense: arguments.against.is_some(),
    };
    let common = arguments.common.resolved();
    let dense = arguments.against.clone().map(|model| SingleModel {
        model,
        ..common.clone()
    });
    let dense = dense.map(|dense| single::measuring(&dense, raw.clone())).transpose()?;
    let experiment = single::measuring(&common, raw)?;
    let mut reads = inputs::local(&experiment);
    reads.extend(dense.iter().flat_map(inputs::local));
    let output = JsonOutput::new(arguments.json.as_deref(), &reads, arguments.force, is_earlier)?;
    let join = experiment.evaluations.first().and_then(|evaluation| evaluation.join);
    experiment
        .evaluations
        .iter()
        .filter_map(|it| unlike_papers(it, ["--join none", "--join wikitext"]))
        .for_each(|line| say(&line));
    super::sweep::on_cpu(&experiment)?;
    let found = match &dense {
        Some(dense) => jobs::eval::compare(&experiment, dense, &Display::new())?,
        None => jobs::eval::eval(&experiment, &Display::new())?,
    };
    output.write(&found)?;
    let length = found.tokens / found.windows.len();
    let shortened = |plan: &EvaluationPlan| matches!(plan.length, Length::AtMost(most) if length < most);
    if experiment.evaluations.iter().any(shortened) {
        note(&format!(
            "windows have {length} tokens, since the model was made for at most so many; --length sets another number"
        ));
    }
    let distance = found.to_dense.as_ref().map_or(String::new(), |it| {
        format!(
            "\nKL divergence {:.6} nats a token, same likeliest token {:.2} %",
            Shown(it.kl),
            100.0 * it.agreement
        )
    });
    print_lines(&format!(
        "perplexity {:.4} ({} windows of {} tokens{}, {}){distance}",
        Shown(found.perplexity),
        found.windows.len(),
        length,
        Join::setting(join),
        common.model.display(),
    ))
}

/// Measures the model on zero-shot tasks and prints the results.
fn score(arguments: &Eval) -> Result<()> {
    let of_texts = [
        ("--corpus", arguments.corpus.is_some()),
        ("--tokens", arguments.tokens.is_some()),
        ("--join", arguments.join.is_some()),
        ("--length", arguments.length.is_some()),
        ("--windows", arguments.windows.is_some()),
        ("--against", arguments.against.is_some()),
    ];
    if let Some((option, _)) = of_texts.into_iter().find(|(_, given)| *given) {
        let text = matches!(option, "--corpus" | "--tokens");
        return Err(Error::config(match text {
            true => format!(
                "{option} measures perplexity on a text, and --tasks measures accuracy on tasks. `zprune eval` measures one of them at a \
                 time: run it twice"
            ),
            false => format!(
                "{option} belongs to perplexity on a text, and --tasks measures accuracy on tasks; leave {option} out"
            ),
        }));
    }
    piped::refuse("--data", arguments.data.as_deref())?;
    // `piqa, arc_easy` and a comma at the end are no slips.
    let names = arguments.tasks.iter().map(|name| name.trim());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let single_file = arguments.data.as_ref().is_some_and(|data| !data.is_dir());
    if single_file && names.len() > 1 {
        return Err(Error::config(
            "--data is one file, but there are several tasks; give the folder that their files are in",
        ));
    }
    let raw = |name: &&str| RawTask {
        name: (*name).to_string(),
        data: arguments.data.clone().map(typed),
        obtain: None,
        limit: arguments.limit,
        harness: arguments.harness,
    };
    let tasks: Vec<RawTask> = names.iter().map(raw).collect();
    if tasks.is_empty() {
        return Err(Error::config("--tasks names no task; `zprune list` has their names"));
    }
    let experiment = single::scoring(&arguments.common.resolved(), &tasks)?;
    answered(arguments, &experiment)
}

/// Measures the model on what it answers, and prints the results.
fn answered(arguments: &Eval, experiment: &Experiment) -> Result<()> {
    let reads = inputs::local(experiment);
    let output = JsonOutput::new(arguments.json.as_deref(), &reads, arguments.force, is_earlier)?;
    super::sweep::on_cpu(experiment)?;
    let found = jobs::eval::score(experiment, &Display::new())?;
    match arguments.format {
        Some(JsonLayout::LmEval) => output.write(&jobs::harness::results(&found, &arguments.common.model)?)?,
        Some(JsonLayout::Zprune) | None => output.write(&found)?,
    }
    print(&report::terminal::sheet(&report::tasks::sheet(&found.tasks), width()))
}

/// Whether a file holds what an earlier `zprune eval` wrote, in either layout.
fn is_earlier(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Harness {
        zprune: HarnessOrigin,
        #[serde(rename = "results")]
        _results: IgnoredAny,
        #[serde(rename = "n-shot")]
        _shots: IgnoredAny,
    }
    #[derive(Deserialize)]
    struct HarnessOrigin {
        version: String,
    }
    if json::read(path).is_some_and(|it: Harness| !it.zprune.version.is_empty()) {
        return true;
    }
    #[derive(Deserialize)]
    struct Earlier {
        zprune: String,
        #[serde(rename = "model")]
        _model: IgnoredAny,
        #[serde(rename = "protocol")]
        _protocol: IgnoredAny,
        perplexity: Option<IgnoredAny>,
        samples: Option<IgnoredAny>,
    }
    json::read(path)
        .is_some_and(|it: Earlier| !it.zprune.is_empty() && (it.perplexity.is_some() || it.samples.is_some()))
}
