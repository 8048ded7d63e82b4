//! The command line: arguments become calls of the library, events become progress bars.
//!
//! Owns everything that is printed. Data (tables, plans, lists) goes to standard output; progress and
//! logs go to standard error, as bars on a terminal and as plain lines elsewhere.

mod archive;
mod bench;
mod calibration;
mod card;
mod choice;
mod common;
mod display;
mod eval;
mod forecast;
mod formulas;
mod generation;
mod init;
mod json;
mod lines;
mod list;
mod log_lines;
mod machine;
mod merge;
mod moment;
mod pages;
mod piped;
mod prune;
#[cfg(feature = "embedded")]
mod quickstart;
mod report;
mod rotate;
mod search;
mod shells;
mod shrink;
mod signals;
mod slips;
mod statistics;
mod streams;
mod submit;
mod sweep;
mod threads;
mod units;
mod verify;
mod worker;
mod workers;

use crate::backend::adapter;
use crate::backend::cpu::{Bf16Kernel, CpuBf16};
use crate::error::{Error, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::resolve;
use crate::files::names::quoted;
use crate::files::near::near;
use crate::gguf::dequantise::BlockType;
use crate::gguf::{export, import, quantise};
use crate::hub::Parts;
use crate::progress::Progress;
use crate::tensor::StorageType;
use crate::{experiment, files, jobs, processor};
use bytesize::ByteSize;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use display::Display;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use streams::{InWords, Lossy, note, print, print_lines, say};

/// Paragraphs are single lines: clap breaks them where the terminal ends.
const HELP: &str = "\
Start here:
  zprune quickstart
      prune a small built-in model with five methods, and print the table
  zprune init mine.toml --model DIR
      write an experiment file for your model, with comments
  zprune plan mine.toml
      what it would run, and how long that takes; runs nothing
  zprune mine.toml
      run it; tables, plots and a page are then in results/mine
  zprune list
      every method, pattern, corpus and task; `zprune list wanda` shows one of them in full

An experiment file names models, methods, sparsity patterns and seeds. Each combination is a cell. The result of every cell \
is written to results/<name>/runs.jsonl as soon as it ends. The same command again runs only what is missing, so a sweep may \
be interrupted at any moment.

Several processes may run one experiment at the same time; they share the cells. Ctrl-C stops after the current block, a \
second Ctrl-C stops at once.

Exit codes: 0 all cells have results; 1 a cell failed or arithmetic broke down; 2 an input cannot be used; 3 results cannot \
be written; 130 stopped by Ctrl-C or a request to terminate.

-v logs more, and ZPRUNE_LOG takes a tracing filter. RAYON_NUM_THREADS is the number of threads that compute. Tables fit \
the terminal; in a file or a pipe they have their full width, unless COLUMNS sets another.";

/// Removes weights from trained language models without retraining, and measures what that costs.
#[derive(Debug, Parser)]
#[command(name = "zprune", version, after_help = HELP, max_term_width = 110)]
struct Arguments {
    /// Show no progress, only results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more; -vv logs everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prune a small model that is a part of the program: 40 cells and their report, in about a minute on two recent cores; needs no other file
    #[cfg(feature = "embedded")]
    Quickstart(quickstart::Quickstart),
    /// Run an experiment (`zprune X.toml` does the same)
    Run(sweep::Run),
    /// Show the cells, what is done and what is to do; runs nothing
    Plan(sweep::Plan),
    /// Search for the best method of a space: many recipes on little text, the best of them on more
    Search(search::Search),
    /// Make job scripts that run an experiment's cells on a cluster; shows them, and --write writes them
    Submit(Box<submit::Submit>),
    /// Make the tables, plots and page again from the records, or print some of the tables
    Report(report::ReportCommand),
    /// Join the results folders of one experiment that was run on several machines
    Merge(merge::Merge),
    /// Prune one model into a folder that other programs load, too
    Prune(Box<prune::Prune>),
    /// Make one model smaller: remove whole heads, neurons or blocks; most methods also make it faster
    Shrink(Box<shrink::Shrink>),
    /// Turn the residual stream of one model by an orthogonal matrix; the model computes the same as before, with other weights
    Rotate(rotate::Rotate),
    /// Measure the perplexity of one model, its accuracy on tasks, or its answers to prompts
    Eval(eval::Eval),
    /// Check a model folder: finite weights, zeros, patterns, nothing else changed
    Verify(verify::Verify),
    /// Put what `zprune eval` measured into the model card (README.md) of a pruned model
    Card(card::Card),
    /// Store a pruned model without its zeros, losslessly; loading it needs `expand` first
    Compress(archive::Compress),
    /// Restore the model folder that an archive was made from
    Expand(archive::Expand),
    /// Write the tokens an experiment calibrates with and is measured on, for another program; needs no weights
    Tokens {
        /// Experiment file
        experiment: PathBuf,
        /// Folder for one folder per model
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replace files there that zprune did not write
        #[arg(long)]
        force: bool,
    },
    /// Write squares, means and Gram matrices of the inputs of a model's layers, for a program that computes scores or masks from them; or
    /// gradients of the model's loss
    ExportStatistics(Box<statistics::ExportStatistics>),
    /// Turn a GGUF file (LLaMA, Gemma 3, Qwen 2 or 3) into a Hugging Face folder
    Import {
        /// GGUF file
        model: PathBuf,
        /// Folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Type of the stored weights: f32 (exact), f16 or bf16
        #[arg(long, default_value = "f32", value_parser = StorageType::named)]
        dtype: StorageType,
    },
    /// Turn a model folder (LLaMA, Mistral, Qwen 2, Granite) into a GGUF file for llama.cpp, even if blocks differ in size
    Export {
        /// Hugging Face model folder
        #[arg(value_name = "DIR")]
        model: PathBuf,
        /// File to make; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Format of the matrices: f32, f16, bf16 or q8_0; norms and biases are f32
        #[arg(long, default_value = "f16", value_parser = quantise::named)]
        dtype: BlockType,
    },
    /// Time pruning on random weights of a model's shape
    Bench(bench::Bench),
    /// List model families, methods and their components, patterns, corpora and tasks by name; or show all about one of them
    List {
        /// A component or a recipe: its formula, parameters with defaults and legal values, paper, group, and what it needs
        name: Option<String>,
    },
    /// List the devices zprune can compute on
    Devices,
    /// Write a commented experiment file to start from; it never replaces a file
    Init(init::Init),
    /// Print the JSON Schema of experiment files, for editors
    Schema,
    /// Print what makes a shell complete zprune's arguments
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages: zprune.1, and one for each command
    Man {
        /// Folder for the pages; it is made if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the program; returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = with_implied_run(arguments);
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(mut error) => {
            // Help and version are not errors, but they were asked for.
            if !error.use_stderr() {
                return ended(streams::printed(error.print()));
            }
            if error.kind() == ErrorKind::UnknownArgument {
                // How to pass an unknown option as the name of a file helps nobody.
                error.remove(ContextKind::Suggested);
            }
            if let Some(meant) = slips::meant(&error, &arguments) {
                // What clap would suggest only looks like it.
                error.remove(ContextKind::SuggestedArg);
                error.remove(ContextKind::SuggestedValue);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![meant.into()]));
            }
            let text = error.render();
            let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            match coloured {
                true => say(text.ansi().to_string().trim_end()),
                false => say(text.to_string().trim_end()),
            }
            if let Some(file) = experiment_meant(&error) {
                say(&format!(
                    "\nto run the experiment {file}: zprune {}",
                    quoted(Path::new(&file))
                ));
            }
            return error.exit_code() as u8;
        }
    };
    let level = match (parsed.quiet, parsed.verbose) {
        // Warnings say what may be wrong with results, which nobody asks not to know.
        (true, _) | (_, 0) => "warn",
        (_, 1) => "zprune=info,warn",
        _ => "zprune=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZPRUNE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lossy)
        .with_ansi(false)
        .event_format(InWords)
        .init();
    streams::be_quiet(parsed.quiet);
    ended(threads::start().and_then(|()| dispatch(parsed.command, parsed.verbose > 0)))
}

/// The experiment file that was meant by the name of a command that there is none of: it has nearly that name.
fn experiment_meant(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => near(Path::new(name)).filter(|file| file.ends_with(".toml")),
        _ => None,
    }
}

/// The exit code for a command's result; prints what went wrong.
fn ended(result: Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("error: {error}"));
            error.kind().exit_code()
        }
    }
}

/// Inserts `run` where it was left out: `zprune X.toml` means `zprune run X.toml`, also behind `-q` and `-v`.
fn with_implied_run(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_option = |argument: &OsString| argument.to_string_lossy().starts_with('-');
    let first = arguments.iter().skip(1).position(|argument| !is_option(argument));
    let place = first.map_or(arguments.len(), |place| place + 1);
    let is_toml = arguments.get(place).is_some_and(|argument| {
        let extension = Path::new(argument).extension();
        extension.is_some_and(|extension| extension == "toml")
    });
    if is_toml {
        arguments.insert(place, "run".into());
    }
    arguments
}

/// What is said of a command that takes long and that a signal ended.
fn stopped(command: &Command) -> Option<&'static str> {
    match command {
        Command::Prune(_) | Command::Shrink(_) | Command::Rotate(_) | Command::Import { .. } | Command::Expand(_) => {
            Some("\nstopped: the folder was not made")
        }
        Command::Compress(_) | Command::Export { .. } | Command::ExportStatistics(_) => {
            Some("\nstopped: the file was not made")
        }
        Command::Eval(_) => Some("\nstopped: there is no result"),
        _ => None,
    }
}

fn dispatch(command: Command, verbose: bool) -> Result<()> {
    signals::outlive_limits_of_files()?;
    // A run stops after the block it is at; everything else has nothing to record.
    let is_run = match command {
        #[cfg(feature = "embedded")]
        Command::Quickstart(_) => true,
        Command::Run(_) | Command::Search(_) => true,
        _ => false,
    };
    if !is_run {
        let stopped = stopped(&command);
        files::remove_on_signals(&signals::ending(), move || stopped.into_iter().for_each(note))?;
    }
    match command {
        #[cfg(feature = "embedded")]
        Command::Quickstart(arguments) => quickstart::run(&arguments),
        Command::Run(arguments) => sweep::run(&arguments),
        Command::Plan(arguments) => sweep::plan(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Submit(arguments) => submit::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Prune(arguments) => prune::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Rotate(arguments) => rotate::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments, verbose),
        Command::Card(arguments) => card::run(&arguments),
        Command::Compress(arguments) => archive::compress(&arguments),
        Command::Expand(arguments) => archive::expand(&arguments),
        Command::Tokens { experiment, out, force } => write_tokens(&experiment, &out, force),
        Command::ExportStatistics(arguments) => statistics::run(&arguments),
        Command::Import { model, out, dtype } => import_model(&model, &out, dtype),
        Command::Export { model, out, dtype } => export_model(&model, &out, dtype),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::List { name: None } => print_lines(&list::listing()),
        Command::List { name: Some(name) } => print_lines(&list::about(&name)?),
        Command::Devices => print_lines(&devices()),
        Command::Init(arguments) => init::run(&arguments),
        Command::Schema => schema(),
        Command::Completions { shell } => shells::completions(shell, Arguments::command()),
        Command::Man { out } => shells::manual(&out, Arguments::command()),
    }
}

fn write_tokens(path: &Path, out: &Path, force: bool) -> Result<()> {
    let experiment = resolve::read(path)?;
    let progress = Display::new();
    inputs::fetch(&experiment, Parts::Tokenizer, &progress)?;
    progress.stage("tokenising");
    let mut reads = inputs::local(&experiment);
    reads.push(path.to_path_buf());
    let files = jobs::tokens::write_tokens(&experiment, &Inputs::inspect_texts(&experiment)?, out, &reads, force)?;
    progress.finish();
    let list: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    print(&list.join("\n"))
}

fn import_model(model: &Path, out: &Path, dtype: StorageType) -> Result<()> {
    let options = import::ImportOptions {
        dtype,
        ..Default::default()
    };
    print_lines(&import::import(model, out, options, &Display::new())?.to_string())
}

fn export_model(model: &Path, out: &Path, dtype: BlockType) -> Result<()> {
    print_lines(&export::export(model, out, dtype, &Display::new())?.to_string())
}

fn schema() -> Result<()> {
    let text = serde_json::to_string_pretty(&experiment::schema::schema());
    print(&text.map_err(|error| Error::writing(Path::new("standard output"), error))?)
}

fn devices() -> String {
    let cores = rayon::current_num_threads();
    let mut text = format!(
        "cpu: {} {}, {}{cores} threads{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH,
        processor::name().map_or(String::new(), |name| format!("{name}, ")),
        instruction_sets()
    );
    match CpuBf16::or_environment() {
        Ok(cpu) => {
            let slow = match cpu.kernel() {
                Bf16Kernel::F32 => ", which is no faster than f32",
                _ => "",
            };
            text.push_str(&format!("cpu, compute = \"bf16\": {}{slow}\n", cpu.kernel().describe()));
        }
        Err(error) => text.push_str(&format!("cpu, compute = \"bf16\": {error}\n")),
    }
    let adapters = adapter::list();
    for adapter in &adapters {
        let memory = adapter.memory.map(|bytes| format!(", {} of memory", ByteSize(bytes)));
        text.push_str(&format!(
            "gpu {} ({}, {}){}, tier {}, {} MiB per binding, {} KiB of workgroup memory{}\n",
            adapter.brief(),
            adapter.interface,
            adapter.driver,
            memory.unwrap_or_default(),
            adapter.tier,
            adapter.binding >> 20,
            adapter.workgroup >> 10,
            if adapter.software {
                "; software, used only when asked for"
            } else {
                ""
            },
        ));
    }
    for (reason, count) in adapter::hidden() {
        text.push_str(&format!(
            "{reason} hides {count} GPU{}\n",
            if count == 1 { "" } else { "s" }
        ));
    }
    if adapters.is_empty() {
        text.push_str("gpu: none found (through Vulkan, Metal or DirectX 12)\n");
    }
    text
}

/// Names of the vector instructions that decide how fast matrix products are.
fn instruction_sets() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("AVX-512F", is_x86_feature_detected!("avx512f")),
            ("AVX-512 BF16", is_x86_feature_detected!("avx512bf16")),
        ];
        let found: Vec<&str> = known
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| *name)
            .collect();
        format!(", {}", found.join(", "))
    }
    #[cfg(not(target_arch = "x86_64"))]
    String::new()
}
