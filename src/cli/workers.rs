//! `zprune run --gpus`: one process for each GPU, which share the cells of an experiment as any processes do, and one progress display
//! for all of them.
//!
//! Processes and not threads: a driver that fails ends the process that uses it, and the others go on.

use super::display::Display;
use super::moment::block_after;
use super::streams::say;
use super::worker::{Reason, Said};
use crate::backend::adapter;
use crate::backend::choice::{self, Listed};
use crate::error::{Error, ErrorKind, Result};
use crate::experiment::machine::{Machine, MachinePlan};
use crate::experiment::plan::Experiment;
use crate::progress::Progress;
use crate::threads;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often it is looked whether the run shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// The GPUs that an argument of `--gpus` names: `all`, or numbers, addresses or parts of names with commas between them. A GPU that is
/// named twice gets two workers.
///
/// # Errors
/// There is no GPU, or none of that name.
pub(super) fn chosen(wanted: &str) -> Result<Vec<Listed>> {
    let all = adapter::list();
    let found = match wanted.trim() {
        "all" => all.iter().filter(|it| !it.software).cloned().collect(),
        list => named(list, &all)?,
    };
    match found.is_empty() {
        // It knows all that can be said of missing GPUs.
        true => adapter::best(&choice::Choice::default()).map(|it| vec![it]),
        false => Ok(found),
    }
}

fn named(list: &str, all: &[Listed]) -> Result<Vec<Listed>> {
    let listed: Vec<&Listed> = all.iter().collect();
    let find = |entry: &str| {
        let found = choice::named(entry, &listed).filter(|_| !entry.trim().is_empty());
        found.map(|place| all[place].clone()).ok_or_else(|| {
            let names: Vec<String> = all.iter().map(Listed::brief).collect();
            let message = format!(
                "--gpus {list}: there is no GPU `{entry}`; write `all`, or some of: {}",
                names.join(", ")
            );
            Error::config(message)
        })
    };
    list.split(',').map(find).collect()
}

/// The machine that all of these GPUs are, so that ids of cells do not depend on which of them runs a cell.
///
/// # Errors
/// They differ in what they can do, and the experiment leaves the precision to them.
pub(super) fn machine(experiment: &Experiment, gpus: &[Listed]) -> Result<Machine> {
    let mut machines = gpus.iter().map(|gpu| {
        let plan = MachinePlan {
            adapter: Some(name(gpu)),
            ..experiment.machine.clone()
        };
        plan.here(experiment.linear_algebra)
    });
    let first = machines.next().unwrap_or_else(|| experiment.machine_here())?;
    for (machine, gpu) in machines.zip(&gpus[1..]) {
        if machine? != first {
            let message = format!(
                "GPU {} cannot compute in the format that GPU {} has by default ({}): give --compute, so that all cells are computed in \
                 the same way",
                gpu.brief(),
                gpus[0].brief(),
                first.compute.name()
            );
            return Err(Error::config(message));
        }
    }
    Ok(first)
}

/// What tells a worker which GPU is its own: an address stays the same when another GPU is lost.
fn name(gpu: &Listed) -> String {
    match gpu.address.is_empty() {
        true => gpu.index.to_string(),
        false => gpu.address.clone(),
    }
}

/// What all workers are told.
pub(super) struct Orders<'a> {
    /// The experiment file.
    pub(super) experiment: &'a Path,
    /// The folder of results folders.
    pub(super) results: &'a Path,
    /// The machine that each of them is.
    pub(super) machine: Machine,
    /// Ids of the cells to run; empty for all.
    pub(super) cells: &'a [String],
}

impl Orders<'_> {
    fn arguments(&self, gpu: &Listed) -> Vec<OsString> {
        let backend = self.machine.backend.to_string();
        let mut arguments: Vec<OsString> = vec!["run".into(), "--results".into(), self.results.into()];
        let words = [
            "--backend",
            &backend,
            "--compute",
            self.machine.compute.name(),
            "--adapter",
            &name(gpu),
            "--worker",
        ];
        arguments.extend(words.map(OsString::from));
        arguments.extend(
            self.cells
                .iter()
                .flat_map(|cell| [OsString::from("--cell"), OsString::from(cell)]),
        );
        // A file may be called like an option.
        arguments.extend([OsString::from("--"), self.experiment.into()]);
        arguments
    }

    /// Starts the worker of a GPU; what it tells goes to `news`, under its place in the list of workers.
    fn start(&self, gpu: Listed, threads: usize, place: usize, news: &Sender<(usize, News)>) -> Result<Worker> {
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Device,
                format!("the worker for GPU {} cannot start: {error}", gpu.brief()),
            )
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(self.arguments(&gpu))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        // Ctrl-C reaches all processes of a group; workers are told by the one that started them.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        {
            const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
            std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NEW_PROCESS_GROUP);
        }
        let mut child = command.spawn().map_err(failed)?;
        let (output, errors, orders) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let heard = news.clone();
        threads::start("a worker's progress", move || {
            for line in output
                .into_iter()
                .flat_map(|output| BufReader::new(output).lines())
                .map_while(|line| line.ok())
            {
                let said = serde_json::from_str(&line).map_or(News::Line(line), News::Said);
                let _ = heard.send((place, said));
            }
            let _ = heard.send((place, News::Closed));
        })?;
        let heard = news.clone();
        threads::start("a worker's messages", move || {
            for line in errors
                .into_iter()
                .flat_map(|errors| BufReader::new(errors).lines())
                .map_while(|line| line.ok())
            {
                let _ = heard.send((place, News::Line(line)));
            }
        })?;
        Ok(Worker {
            gpu,
            child,
            orders,
            state: State::default(),
            reason: None,
            closed: false,
        })
    }
}

/// What comes from a worker.
enum News {
    Said(Said),
    /// A line that is for people.
    Line(String),
    /// Its standard output has ended.
    Closed,
}

/// A process that works with one GPU.
struct Worker {
    gpu: Listed,
    child: Child,
    /// Where it is told to stop; it ends at once when this is closed.
    orders: Option<ChildStdin>,
    state: State,
    /// Why it stopped, unless it has done all there is to do.
    reason: Option<Reason>,
    closed: bool,
}

/// What a worker does.
#[derive(Default)]
struct State {
    label: String,
    blocks: (usize, usize),
    so_far: Option<String>,
}

impl State {
    fn line(&self) -> String {
        match (&self.so_far, self.blocks) {
            (Some(so_far), _) => format!("{}, {so_far}", self.label),
            (None, (_, 0)) => self.label.clone(),
            (None, (done, all)) => format!("{}, block {} of {all}", self.label, block_after(done, all)),
        }
    }

    fn of(label: &str) -> State {
        State {
            label: label.to_string(),
            ..State::default()
        }
    }
}

/// Runs one worker on each GPU until all of them have ended.
///
/// # Errors
/// No worker starts, or all of them stopped before everything was done: the reason of the first.
pub(super) fn run(
    orders: &Orders,
    gpus: Vec<Listed>,
    cells: usize,
    stop: &AtomicBool,
    display: &Display,
) -> Result<()> {
    let (sender, news) = channel();
    let threads = (rayon::current_num_threads() / gpus.len()).max(1);
    let mut workers = Vec::new();
    for (place, gpu) in gpus.into_iter().enumerate() {
        workers.push(orders.start(gpu, threads, place, &sender)?);
    }
    drop(sender);
    watch(&mut workers, cells, &news, stop, display);
    display.finish();
    let mut reasons = Vec::new();
    let mut finished = false;
    for worker in workers {
        match worker.ended() {
            None => finished = true,
            Some(reason) => reasons.push(reason),
        }
    }
    // Whoever ended without a reason saw that nothing is left.
    match reasons
        .into_iter()
        .min_by_key(|reason| reason.kind == ErrorKind::Interrupted)
    {
        Some(reason) if !finished => Err(Error::new(reason.kind, reason.message)),
        _ => Ok(()),
    }
}

/// Shows what the workers tell until all of them have ended, and tells them to stop when that is asked for.
fn watch(workers: &mut [Worker], cells: usize, news: &Receiver<(usize, News)>, stop: &AtomicBool, display: &Display) {
    let (mut told, mut started) = (false, false);
    while workers.iter().any(|worker| !worker.closed) {
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            for orders in workers.iter_mut().filter_map(|worker| worker.orders.as_mut()) {
                // A worker that has ended needs no orders.
                let _ = writeln!(orders, "stop").and_then(|()| orders.flush());
            }
        }
        let (place, news) = match news.recv_timeout(LOOK) {
            Ok(news) => news,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let worker = &mut workers[place];
        let index = worker.gpu.index;
        match news {
            News::Closed => worker.closed = true,
            News::Line(line) => display.say(&format!("GPU {index}: {line}")),
            News::Said(said) => match said {
                Said::Ready(steps) => {
                    if !started {
                        started = true;
                        display.start(cells, steps);
                    }
                    worker.state = State::default();
                }
                Said::Note(line) => display.note(&line),
                Said::More(steps) => display.more(steps),
                Said::Step(steps) => {
                    worker.state.blocks.0 += 1;
                    display.advance(steps);
                }
                Said::Stage(what) => worker.state = State::of(&what),
                Said::Cell(label, blocks) => {
                    worker.state = State {
                        label,
                        blocks: (0, blocks),
                        so_far: None,
                    }
                }
                Said::SoFar(result) => worker.state.so_far = Some(result),
                Said::Waits => worker.state = State::of("waits for the others"),
                Said::Ended(label, result) => {
                    worker.state = State::default();
                    display.cell_done(&format!("{label} on GPU {index}"), &result);
                }
                Said::Stops(reason) => {
                    worker.state = State::of("done");
                    if let Some(reason) = reason.as_ref().filter(|reason| reason.kind != ErrorKind::Interrupted) {
                        display.say(&format!("GPU {} stops: {}", worker.gpu.brief(), reason.message));
                    }
                    worker.reason = reason;
                }
            },
        }
        if started {
            let (done, all) = display.ended();
            let each: Vec<String> = workers
                .iter()
                .filter(|worker| !worker.closed)
                .map(|worker| format!("GPU {}: {}", worker.gpu.index, worker.state.line()))
                .collect();
            display.show_line(&format!("{done} of {all} cells; {}", each.join("; ")));
        }
    }
}

impl Worker {
    /// Waits for the process; why it ended before everything was done.
    fn ended(mut self) -> Option<Reason> {
        let status = self.child.wait();
        let failed = match &status {
            Ok(status) if status.success() => return self.reason,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let message = format!("the worker of GPU {} ended unexpectedly: {failed}", self.gpu.brief());
        say(&message);
        Some(Reason {
            kind: ErrorKind::DeviceLost,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::choice::Tier;

    fn card(index: usize) -> Listed {
        Listed {
            index,
            name: "H100".to_string(),
            address: format!("0000:0{index}:00.0"),
            memory: None,
            interface: "vulkan".to_string(),
            driver: String::new(),
            software: false,
            tier: Tier::F16,
            binding: 0,
            workgroup: 0,
        }
    }

    #[test]
    fn gpus_are_named_by_number_address_or_name() {
        let all = [card(0), card(1), card(2)];
        let indices =
            |list: &str| -> Vec<usize> { named(list, &all).expect("there").iter().map(|it| it.index).collect() };
        assert_eq!(indices("2,0"), [2, 0]);
        assert_eq!(indices("0, 0"), [0, 0]);
        assert_eq!(indices("01:00.0,h100"), [1, 0]);
        for wrong in ["3", "0,,1", "", "A100"] {
            let error = named(wrong, &all).expect_err(wrong).to_string();
            assert!(error.contains("2: H100 at 0000:02:00.0"), "{error}");
        }
    }
}
