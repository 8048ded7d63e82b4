//! `zprune run` and `zprune plan`.

use super::common::{Target, around, elsewhere};
use super::display::Display;
use super::forecast;
use super::piped;
use super::search;
use super::streams::{note, print, print_lines, say, width};
use super::{units, worker, workers};
use crate::cell::{Amount, Amounts};
use crate::choices;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::machine::{Foreseen, MachineRequest, Processor, Wanted};
use crate::experiment::plan::{CalibrationPlan, Cell, EvaluationPlan, Experiment};
use crate::experiment::resolve::{self, Described};
use crate::files::names::quoted;
use crate::hub::Parts;
use crate::progress::Progress;
use crate::record::{self, Record};
use crate::registry::counted;
use crate::report::{self, Report};
use crate::run::{self, Options, Outcome, State};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Arguments of `zprune run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    target: Target,
    /// Run only the cell with this id, which `zprune plan` shows, and write no tables; may be repeated
    #[arg(long, value_name = "ID")]
    cell: Vec<String>,
    /// End if other processes are working on all cells that are left, instead of waiting for them
    #[arg(long)]
    no_wait: bool,
    /// Use several GPUs, one worker each: all, or numbers (or addresses, or parts of names) of `zprune devices`, such as 0,1,3
    #[arg(long, value_name = "GPUS", conflicts_with_all = ["adapter", "no_wait"])]
    gpus: Option<String>,
    /// Work for another process, which is told the progress
    #[arg(long, hide = true, conflicts_with = "gpus")]
    worker: bool,
}

/// Arguments of `zprune plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    target: Target,
    /// Plan for `zprune run --gpus`: with the ids that cells have on a GPU
    #[arg(long, value_name = "GPUS", conflicts_with = "adapter")]
    gpus: Option<String>,
    /// Print the cells as JSON, for another program
    #[arg(long)]
    json: bool,
}

/// Asks for GPUs where `--gpus` names some.
fn on_gpus(request: &mut MachineRequest, gpus: Option<&String>) -> Result<()> {
    if gpus.is_none() {
        return Ok(());
    }
    if request.backend == Some(Wanted::Cpu) {
        return Err(Error::config(
            "--gpus and --backend cpu contradict each other; leave one of them out",
        ));
    }
    request.backend = Some(Wanted::Gpu);
    Ok(())
}

pub(super) fn run(arguments: &Run) -> Result<()> {
    let Target {
        experiment: path,
        results,
        machine,
    } = &arguments.target;
    let mut request = machine.request();
    if arguments.gpus.is_some() {
        piped::refuse("an experiment that several workers read", Some(path))?;
    }
    on_gpus(&mut request, arguments.gpus.as_ref())?;
    let alone = arguments.cell.is_empty() && !arguments.no_wait && arguments.gpus.is_none();
    let experiment = match resolve::read_described(path, &request)? {
        Described::Experiment(experiment) => experiment,
        Described::Search(plan) if alone => {
            return search::carry_out(&plan, path, results);
        }
        Described::Search(_) => {
            let message = "it is a search, in which each rung needs the results of the one before: leave `--cell`, `--no-wait` and \
                           `--gpus` out; several processes may share its cells";
            return Err(Error::config(message).at(path.display()));
        }
    };
    let options = Options {
        cells: arguments.cell.clone(),
        wait: !arguments.no_wait,
        ..Options::default()
    };
    let results = &around(results, &experiment.name);
    match &arguments.gpus {
        _ if arguments.worker => worker::work(
            &experiment,
            results,
            Options {
                others: true,
                ..options
            },
        ),
        Some(gpus) => share_out(*experiment, path, results, options, gpus),
        None => carry_out(&experiment, path, results, options),
    }
}

/// Runs the experiment of the file `path` until a signal ends it; makes its report, unless only some cells are run.
pub(super) fn carry_out(experiment: &Experiment, path: &Path, results: &Path, options: Options) -> Result<()> {
    let folder = results.join(&experiment.name);
    report::check(experiment, &folder)?;
    note(&going_to(&folder));
    lie_elsewhere(path, results, &experiment.name)
        .iter()
        .for_each(|line| note(line));
    // The run looks again; here it is known which file asks for what is not there, and nothing has taken long yet.
    experiment.machine_here().at(path.display())?;
    let (progress, inputs) = begin(experiment)?;
    let options = Options {
        stop: progress.stop_on_signals()?,
        ..options
    };
    let outcome = run::run(experiment, &inputs, &folder, &options, &progress)?;
    close(&folder, &options.cells, outcome)
}

/// Where the results of a run are written, in one line: the whole path, since a relative one begins where zprune is started.
pub(super) fn going_to(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    format!("results are written to {}", whole.display())
}

/// Says so where the results folder has no records and the folder of the experiment's file has some.
fn lie_elsewhere(path: &Path, results: &Path, name: &str) -> Option<String> {
    let there = elsewhere(path, results, name)?;
    Some(format!(
        "note: {} has results of an experiment with this name, but they are not used here. If they belong to this experiment, add \
         --results {} to go on with them",
        there.join(name).display(),
        quoted(&there)
    ))
}

/// Says so where a GPU would have been taken and there is none.
pub(super) fn on_cpu(experiment: &Experiment) -> Result<()> {
    if experiment.machine.backend == Wanted::Auto && experiment.machine_here()?.backend == Processor::Cpu {
        note("backend = \"auto\": there is no GPU that zprune can use, so the CPU computes");
    }
    Ok(())
}

/// Makes what a run needs ready, and says what of the experiment is unlike papers.
fn begin(experiment: &Experiment) -> Result<(Display, Inputs)> {
    on_cpu(experiment)?;
    experiment
        .evaluations
        .iter()
        .filter_map(|it| unlike_papers(it, IN_FILES))
        .for_each(|line| say(&line));
    let progress = Display::new().with_confidence(experiment.confidence);
    inputs::fetch(experiment, Parts::Everything, &progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    units::notes(experiment, &inputs)?.iter().for_each(|line| note(line));
    forecast::few_tokens(experiment, &inputs)?.lines().for_each(note);
    Ok((progress, inputs))
}

/// Runs the experiment with one worker on each of these GPUs; makes its report, unless only some cells are run.
fn share_out(mut experiment: Experiment, path: &Path, results: &Path, options: Options, gpus: &str) -> Result<()> {
    let folder = results.join(&experiment.name);
    report::check(&experiment, &folder)?;
    let mut gpus = workers::chosen(gpus)?;
    let machine = workers::machine(&experiment, &gpus).at(path.display())?;
    note(&going_to(&folder));
    lie_elsewhere(path, results, &experiment.name)
        .iter()
        .for_each(|line| note(line));
    // Only workers open GPUs; here, ids of cells are made.
    experiment.machine.compute = Some(machine.compute);
    let (progress, inputs) = begin(&experiment)?;
    inputs.require_all()?;
    let stop = progress.stop_on_signals()?;
    let open = |state: &State| matches!(state, State::Pending | State::Running | State::Failed);
    let found = || -> Result<(Vec<run::Prospect>, Vec<Record>)> {
        let records = record::read_if_any(&folder)?;
        let found = run::prospects(&experiment, machine, &inputs, &records, &folder);
        Ok((found, records))
    };
    let states = || -> Result<Vec<State>> {
        let (found, _) = found()?;
        let asked =
            |id: &Option<String>| options.cells.is_empty() || id.as_ref().is_some_and(|id| options.cells.contains(id));
        Ok(found
            .into_iter()
            .filter(|it| asked(&it.id))
            .map(|it| it.state)
            .collect())
    };
    let before = states()?;
    let pending = before.iter().filter(|state| open(state)).count();
    let (cells, records) = found()?;
    let others = run::of_others(&records, cells.iter().filter_map(|cell| cell.id.as_deref()), &folder);
    for line in run::goes_on(before.len() - pending, before.len()).iter().chain(&others) {
        progress.say(line);
    }
    let mut ended = Ok(());
    // A cell that is not there is refused by the first worker as by any run.
    if pending > 0 || !options.cells.is_empty() {
        gpus.truncate(pending.max(1));
        let orders = workers::Orders {
            experiment: path,
            results,
            machine,
            cells: &options.cells,
        };
        ended = workers::run(&orders, gpus, pending, &stop, &progress);
    }
    let after = states()?;
    let count = |wanted: State| after.iter().filter(|state| **state == wanted).count();
    let left = count(State::Pending) + count(State::Running);
    if left > 0 || before.is_empty() {
        ended?;
    }
    let outcome = Outcome {
        ran: pending - left,
        failed: count(State::Failed),
        skipped: before.len() - pending,
        left,
        elsewhere: 0,
    };
    close(&folder, &options.cells, outcome)
}

/// Makes the report of a run that has ended, and tells how it ended.
fn close(folder: &Path, cells: &[String], outcome: Outcome) -> Result<()> {
    if outcome.ran + outcome.elsewhere + outcome.left == 0 {
        note(&format!(
            "nothing was run: all {} have results in {} already. To run them again, choose another folder with --results, or remove that \
             folder",
            counted(outcome.skipped, "cell"),
            folder.display()
        ));
    }
    let mut wrote = vec!["runs.jsonl".to_string()];
    // One cell of many makes no table; `zprune report` makes it from all of them.
    if cells.is_empty() {
        let report = Report::read(folder)?;
        let files = report::write(&report, folder)?;
        print(&report.terminal(width()))?;
        let below = |folder: &str| files.iter().filter(|file| file.starts_with(folder)).count();
        let (tables, plots) = (below("tables"), below("plots"));
        let (tables, plots) = (counted(tables, "file"), counted(plots, "file"));
        wrote.push(format!(
            "report.html, report.json, {tables} of tables, {plots} of plots"
        ));
    }
    let also = |count: usize, what: &str| match count {
        0 => String::new(),
        count => format!(", {count} {what}"),
    };
    note(&format!(
        "{} run, {} had results already{}{}; wrote {}: {}",
        counted(outcome.ran, "cell"),
        outcome.skipped,
        also(outcome.elsewhere, "run by other processes"),
        also(outcome.left, "left to other processes"),
        folder.display(),
        wrote.join(", ")
    ));
    outcome.check(folder)
}

/// What `zprune plan --json` prints, for another program.
#[derive(Serialize)]
struct Planned<'a> {
    /// Version of the layout of this output.
    schema: u32,
    experiment: &'a str,
    /// Path of the experiment's results folder.
    results: &'a Path,
    cells: Vec<ListedCell<'a>>,
    /// The inputs that are missing, and how to get them.
    missing: Vec<&'a str>,
}

/// One cell of the plan. Its id is absent while a file that it depends on is missing.
#[derive(Serialize)]
struct ListedCell<'a> {
    id: Option<String>,
    label: String,
    model: &'a str,
    method: &'a str,
    pattern: Option<crate::prune::pattern::Pattern>,
    seed: Option<u64>,
    state: State,
    /// Expected time in seconds; see [`run::Prospect::seconds`].
    estimated_seconds: Option<f64>,
}

pub(super) fn plan(arguments: &Plan) -> Result<()> {
    let Target {
        experiment: path,
        results,
        machine,
    } = &arguments.target;
    let mut request = machine.request();
    on_gpus(&mut request, arguments.gpus.as_ref())?;
    let experiment = match resolve::read_described(path, &request)? {
        Described::Experiment(experiment) => *experiment,
        Described::Search(plan) => return search::plan(&plan, results, arguments.json),
    };
    let results = &around(results, &experiment.name);
    let folder = results.join(&experiment.name);
    report::check(&experiment, &folder)?;
    let foreseen = experiment.machine_foreseen().at(path.display())?;
    let inputs = Inputs::inspect(&experiment)?;
    let records = record::read_if_any(&folder)?;
    let cells = run::prospects(&experiment, foreseen.machine, &inputs, &records, &folder);
    if arguments.json {
        let missing = inputs.missing.iter().map(|missing| missing.message.as_str());
        let missing = missing.chain(foreseen.assumed.as_deref()).collect();
        let planned = Planned {
            schema: 1,
            experiment: &experiment.name,
            results: &folder,
            cells: cells.iter().map(|prospect| planned(&experiment, prospect)).collect(),
            missing,
        };
        let text = serde_json::to_string_pretty(&planned);
        print(&text.map_err(|error| Error::writing(Path::new("standard output"), error))?)?;
        return inputs.require_local();
    }
    let amounts = Amounts::new(&experiment, &inputs, &Display::new())?;
    let mut text = header(&experiment, &foreseen, &amounts);
    for prospect in &cells {
        let (id, state) = match (&prospect.id, prospect.state) {
            (None, _) => ("(needs its files)", "to do"),
            (Some(id), State::Done) => (id.as_str(), "done"),
            (Some(id), State::Running) => (id.as_str(), "running"),
            (Some(id), State::Failed) => (id.as_str(), "failed"),
            (Some(id), State::Pending) => (id.as_str(), "to do"),
        };
        let label = experiment.describe(&prospect.cell);
        text.push_str(&format!("  {id:<17}  {state:<7}  {label}\n"));
    }
    let finished = cells.iter().filter(|prospect| prospect.state == State::Done).count();
    let left = cells.len() - finished;
    text.push_str(&format!(
        "{}: {finished} done, {left} to do; results in {}\n",
        counted(cells.len(), "cell"),
        folder.display()
    ));
    if experiment.seeds.len() == 2 && experiment.methods.iter().any(|method| method.calibrated) {
        text.push_str("note: with two seeds, intervals over seeds are so wide that they rarely show a difference; five are better\n");
    }
    for note in units::notes(&experiment, &inputs)? {
        text.push_str(&format!("{note}\n"));
    }
    text.push_str(&forecast::few_tokens(&experiment, &inputs)?);
    text.push_str(&forecast::shared(&experiment)?);
    let recorded = recorded(&cells);
    if left > 0 && foreseen.machine.backend == Processor::Cpu {
        let to_do = cells.iter().filter(|prospect| prospect.state != State::Done);
        let to_do: Vec<Cell> = to_do.map(|prospect| prospect.cell).collect();
        text.push_str(&forecast::expected(
            &experiment,
            foreseen.machine,
            &inputs,
            &amounts.models,
            &to_do,
            recorded.is_empty(),
        )?);
    }
    text.push_str(&recorded);
    for line in experiment
        .evaluations
        .iter()
        .filter_map(|it| unlike_papers(it, IN_FILES))
    {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(wanted) = cells.iter().map(|it| it.id.as_deref()).collect::<Option<Vec<&str>>>() {
        let others = run::of_others(&records, wanted.into_iter(), &folder);
        others.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    if let Some(line) = lie_elsewhere(path, results, &experiment.name) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&forecast::not_here(&inputs, &foreseen));
    print_lines(&text)?;
    inputs.require_local()?;
    match left {
        0 => Ok(()),
        _ => forecast::check_budget(&experiment, foreseen.machine, &inputs, &amounts.models),
    }
}

/// How long the cells that are left take, by those that are recorded; empty if too little is.
fn recorded(cells: &[run::Prospect]) -> String {
    let left = cells.iter().filter(|prospect| prospect.state != State::Done);
    let seconds: Option<Vec<f64>> = left.map(|prospect| prospect.seconds).collect();
    let time = seconds
        .filter(|seconds| !seconds.is_empty())
        .map(|seconds| seconds.iter().sum());
    let time = time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map_or(String::new(), |time| {
        format!(
            "time, by the cells that are recorded: about {}\n",
            indicatif::HumanDuration(time)
        )
    })
}

fn planned<'a>(experiment: &'a Experiment, prospect: &run::Prospect) -> ListedCell<'a> {
    let cell = &prospect.cell;
    ListedCell {
        id: prospect.id.clone(),
        label: experiment.describe(cell),
        model: &experiment.models[cell.model].name,
        method: experiment.method_name(cell),
        pattern: cell.pruning.map(|pruning| pruning.pattern),
        seed: cell.pruning.and_then(|pruning| pruning.seed),
        state: prospect.state,
        estimated_seconds: prospect.seconds,
    }
}

/// How windows are drawn from a corpus, in words.
pub(super) fn drawn(calibration: &CalibrationPlan) -> String {
    match calibration.sampling {
        None => String::new(),
        Some(Sampling::Packed) => format!(", drawn from one stream of tokens{}", Join::setting(calibration.join)),
        Some(Sampling::Documents) => {
            ", drawn from its documents (sampling = \"documents\", as the papers do)".to_string()
        }
        Some(Sampling::Answers) => ", prompts with answers".to_string(),
    }
}

/// How an experiment file says that rows are not joined, and that they are joined as in papers.
const IN_FILES: [&str; 2] = ["join = \"none\"", "join = \"wikitext\""];

/// Says so where a text seems to be WikiText and its rows are not joined as in papers, whose perplexities are others then; `none` and
/// `wikitext` are how the ways to join are said.
pub(super) fn unlike_papers(evaluation: &EvaluationPlan, [none, wikitext]: [&str; 2]) -> Option<String> {
    let file = evaluation.corpus.as_ref()?;
    let name = file.file_name()?.to_string_lossy().to_lowercase();
    // What is not there is reported as that.
    let plain = evaluation.join == Some(Join::None) && name.contains("wiki") && file.exists();
    plain.then(|| {
        format!(
            "note: {} is read as it is ({none}). If it is WikiText, papers join its rows with two newlines, which gives other \
             perplexities: {wikitext} does so",
            file.display()
        )
    })
}

/// How much is used, in words: of how much, if it was counted; `limit` is what the experiment says.
fn amount(limit: Option<usize>, counted: Option<Amount>) -> String {
    match (limit, counted) {
        (None, None) => "all".to_string(),
        (Some(limit), None) => limit.to_string(),
        (None, Some(Amount { there, .. })) => format!("all {there}"),
        // There may be fewer than were asked for.
        (Some(_), Some(Amount { used, there })) => format!("{used} of {there}"),
    }
}

/// The windows of an evaluation, in words; where models have different tokenizers or windows, those of each model.
fn windows(experiment: &Experiment, index: usize, amounts: &Amounts) -> String {
    let plan = &experiment.evaluations[index];
    let seen: Vec<Option<Amount>> = amounts.models.iter().map(|seen| seen.windows[index]).collect();
    let alike = seen.iter().all(|amount| *amount == seen[0]);
    let source = plan.source().display();
    let of = format!("of {} tokens from {source}{}", plan.length, Join::setting(plan.join));
    if alike {
        let amount = amount(plan.windows, seen.first().copied().flatten());
        return format!("{amount} {} {of}", if amount == "1" { "window" } else { "windows" });
    }
    let named = experiment.models.iter().zip(&seen);
    let named: Vec<String> = named
        .map(|(model, seen)| format!("{} for {}", amount(plan.windows, *seen), model.name))
        .collect();
    format!("windows {of}: {}", named.join(", "))
}

/// The settings of the experiment, one per line.
fn header(experiment: &Experiment, foreseen: &Foreseen, amounts: &Amounts) -> String {
    let mut text = match experiment.description.is_empty() {
        true => format!("{}\n", experiment.name),
        false => format!("{}: {}\n", experiment.name, experiment.description),
    };
    let machine = foreseen.machine;
    let taken = match foreseen.assumed {
        Some(_) => " (assumed)",
        None => "",
    };
    text.push_str(&format!(
        "backend: {}, compute {}{taken}\n",
        machine.backend,
        machine.compute.name()
    ));
    if let Some(protocol) = &experiment.protocol {
        text.push_str(&format!("protocol: {protocol}\n"));
    }
    if let Some(calibration) = &experiment.calibration {
        text.push_str(&format!(
            "calibration: {} of {} tokens from {}{}, inputs from {}\n",
            counted(calibration.sequences, "window"),
            calibration.length,
            calibration.source().display(),
            drawn(calibration),
            match calibration.stage {
                crate::calibrate::Stage::Block => "pruned blocks",
                crate::calibrate::Stage::Staged => "pruned blocks and layers",
                crate::calibrate::Stage::Separate => "dense blocks and pruned layers",
                crate::calibrate::Stage::Dense => "dense blocks",
            }
        ));
        if let Some(file) = &calibration.gradients {
            text.push_str(&format!("gradients: from {}\n", file.display()));
        }
    }
    for (index, evaluation) in experiment.evaluations.iter().enumerate() {
        let windows = windows(experiment, index, amounts);
        text.push_str(&format!("evaluation: {}, {windows}\n", evaluation.name));
    }
    for (task, counted) in experiment.tasks.iter().zip(&amounts.tasks) {
        text.push_str(&format!(
            "task: {}, {} documents from {}, as lm-evaluation-harness {} scores them\n",
            task.name,
            amount(task.limit, *counted),
            task.data.display(),
            choices::name(&task.harness)
        ));
    }
    for (plan, counted) in experiment.generations.iter().zip(&amounts.prompts) {
        let settings = &plan.settings;
        text.push_str(&format!(
            "generation: {}, {} prompts from {}{}, at most {} tokens, compared by {}\n",
            plan.name,
            amount(settings.limit, *counted),
            plan.prompts.display(),
            if settings.chat { " as conversations" } else { "" },
            settings.max_tokens,
            choices::name(&settings.matching)
        ));
    }
    for method in &experiment.methods {
        text.push_str(&format!("method: {} = {method}\n", method.name));
    }
    for family in &experiment.comparisons {
        let mut pairs = vec![format!("{} against {}", family.ours, family.against.join(", "))];
        if family.ours.is_empty() {
            let pair = |(ours, against): &(String, String)| format!("{ours} against {against}");
            pairs = family.pairs.iter().map(pair).collect();
        }
        text.push_str(&format!("family: {}: {}\n", family.family, pairs.join("; ")));
    }
    text
}
