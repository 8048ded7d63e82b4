//! Shows progress: one bar of one line with the time left on a terminal, plain lines elsewhere.

use super::log_lines::LogLines;
use super::moment::{Moment, accuracy_so_far, block_after, perplexity_so_far, short};
use super::signals::{self, refused};
use super::streams::{error_width, note, quiet};
use crate::error::Result;
use crate::progress::{Progress, Running};
use crate::threads;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A bar, and how many columns it takes with the space behind it.
const BAR: &str = "{bar:16} {wide_msg}";
const BAR_COLUMNS: usize = 17;

/// What turns where nobody knows how much there is to do.
const SPINNER: &str = "{spinner} {wide_msg}";

/// A terminal of fewer columns has no bar: the percents say the same.
const ROOM_FOR_A_BAR: usize = 70;

/// Columns of a terminal that does not tell.
const USUAL: usize = 80;

/// Confidence level of the intervals of running scores, unless an experiment has its own.
const CONFIDENCE: f64 = 0.95;

/// Shows the progress of a run: a bar in a terminal, or lines in a log.
pub(super) struct Display {
    bar: ProgressBar,
    terminal: bool,
    /// The lines of a log; none in a terminal.
    log: Option<LogLines>,
    /// Columns of the terminal, asked for whenever a line is made, since it may change.
    width: Box<dyn Fn() -> Option<usize>>,
    confidence: f64,
    counts: Cell<Counts>,
    /// Label of the current cell.
    label: RefCell<String>,
    /// Blocks of the current cell that are done, and all of them; 0 if its work is not in blocks.
    blocks: Cell<(usize, usize)>,
    /// Steps that each of its blocks counts as.
    weight: Cell<usize>,
    /// Time left for everything, as the run estimates it; `None` if nobody does.
    left: Cell<Option<Duration>>,
    /// What is being scored after the last block, and since when.
    scoring: RefCell<Option<(String, Instant)>>,
    /// When the last block was finished.
    stepped: Cell<Instant>,
    downloading: RefCell<Option<String>>,
    waiting: Cell<bool>,
    /// The notes that were shown.
    noted: RefCell<BTreeSet<String>>,
    /// When what comes before the first cell began.
    started: Cell<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    cells: usize,
    done: usize,
}

impl Display {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet();
        let target = match terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let display = Display::on(target, terminal, Box::new(error_width));
        // Without a thread of its own, the bar moves when there is news.
        if terminal && threads::check("the progress bar").is_ok() {
            display.bar.enable_steady_tick(Duration::from_millis(200));
        }
        display
    }

    fn on(target: ProgressDrawTarget, terminal: bool, width: Box<dyn Fn() -> Option<usize>>) -> Self {
        let display = Display {
            terminal,
            log: (!terminal).then(LogLines::new),
            width,
            bar: ProgressBar::with_draw_target(None, target),
            confidence: CONFIDENCE,
            counts: Cell::default(),
            label: RefCell::default(),
            blocks: Cell::default(),
            weight: Cell::new(1),
            left: Cell::default(),
            scoring: RefCell::default(),
            stepped: Cell::new(Instant::now()),
            downloading: RefCell::default(),
            waiting: Cell::default(),
            noted: RefCell::default(),
            started: Cell::new(Instant::now()),
        };
        display.style(SPINNER);
        display
    }

    /// Shows running scores with intervals at this level.
    pub(super) fn with_confidence(self, confidence: f64) -> Self {
        Display { confidence, ..self }
    }

    /// Every template ends with a message that is cut at the width of the terminal, so that a bar is always one line.
    fn style(&self, template: &str) {
        if self.terminal {
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            self.bar.set_style(style);
        }
    }

    /// The first Ctrl-C, or request to terminate, sets the flag that is returned; a second one ends the program at once.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn stop_on_signals(&self) -> Result<Arc<AtomicBool>> {
        let stop = Arc::new(AtomicBool::new(false));
        let ending = signals::ending();
        for signal in ending.iter().copied() {
            signals::stop_or_end(signal, stop.clone())?;
        }
        #[cfg(unix)]
        {
            let mut signals = signal_hook::iterator::Signals::new(&ending).map_err(refused)?;
            let bar = self.bar.clone();
            let wait = move || {
                if signals.forever().next().is_some() {
                    bar.suspend(|| note("stopping after this step; an unfinished cell starts again next time (Ctrl-C again: stop at \
                                         once)"));
                }
            };
            threads::start("signals", wait)?;
        }
        Ok(stop)
    }

    /// So many steps are finished.
    pub(super) fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
    }

    /// The number of cells that ended, and of all.
    pub(super) fn ended(&self) -> (usize, usize) {
        let Counts { cells, done } = self.counts.get();
        (done, cells)
    }

    /// Prints a line, above the bar if there is one.
    pub(super) fn say(&self, line: &str) {
        if let Some(log) = &self.log {
            log.spoke();
        }
        self.bar.suspend(|| note(line));
    }

    /// Tells a log what is being done, and how long it still takes.
    fn log(&self, what: &str, left: Option<Duration>) {
        if let Some(log) = &self.log {
            log.doing(what, left);
        }
    }

    /// Time left for everything: the run's estimate, which knows what cells cost, or the bar's own, which takes all blocks for
    /// equal.
    fn remaining(&self) -> Option<Duration> {
        let left = self.left.get().or_else(|| Some(self.bar.eta()));
        left.filter(|left| !left.is_zero())
    }

    /// Time left for what is scored after the last block, of which so much is done, where nobody has estimated the whole.
    fn left_to_score(&self, what: &str, done: usize, all: usize) -> Option<Duration> {
        let mut scoring = self.scoring.borrow_mut();
        let since = match &*scoring {
            Some((known, since)) if known == what => *since,
            Some(_) => Instant::now(),
            // The first of them began when the last block ended.
            None => self.stepped.get(),
        };
        *scoring = Some((what.to_string(), since));
        let share = all.saturating_sub(done) as f64 / done.max(1) as f64;
        Some(since.elapsed().mul_f64(share)).filter(|left| done > 0 && !left.is_zero())
    }

    /// How progress is drawn on this terminal, and the columns that are left for words.
    fn template(&self) -> (&'static str, usize) {
        match (self.width)().unwrap_or(USUAL) {
            columns if columns < ROOM_FOR_A_BAR => ("{wide_msg}", columns),
            columns => (BAR, columns - BAR_COLUMNS),
        }
    }

    /// How much of the work is done.
    fn percent(&self) -> u64 {
        let length = self.bar.length().unwrap_or(0).max(1);
        100 * self.bar.position().min(length) / length
    }

    /// Shows the current cell and its result so far, from long to short, with the time left where only the result tells it; or else the
    /// block of it that is being worked on.
    fn show(&self, result: Option<([String; 3], Option<Duration>)>) {
        let Counts { cells, done } = self.counts.get();
        let (block, blocks) = self.blocks.get();
        let block = block_after(block, blocks);
        let blocks = (blocks > 0).then(|| {
            [
                format!("block {block} of {blocks}"),
                format!("block {block}/{blocks}"),
                format!("block {block}/{blocks}"),
            ]
        });
        let (result, left_to_score) = result.unzip();
        let left = self.remaining().or(left_to_score.flatten());
        let moment = Moment {
            percent: self.percent(),
            left: left.map(short),
            cell: (cells > 1).then_some((done + 1, cells)),
            doing: result.or(blocks),
            label: &self.label.borrow(),
        };
        if self.terminal {
            let (template, room) = self.template();
            self.style(template);
            self.bar.set_message(moment.fitted(room));
        } else {
            self.log(&moment.whole(), left);
        }
    }

    /// Shows a line after the share that is done and the time left.
    pub(super) fn show_line(&self, line: &str) {
        if self.terminal {
            let left = self.remaining();
            let left = left.map_or(String::new(), |left| format!(", {} left", short(left)));
            self.bar.set_message(format!("{} %{left}; {line}", self.percent()));
        } else {
            self.log(line, self.remaining());
        }
    }

    /// A plain line with the time left, if it is known.
    fn with_left(&self, line: &str) -> String {
        match self.remaining().filter(|_| !self.terminal) {
            Some(left) => format!("{line}, {} left", short(left)),
            None => line.to_string(),
        }
    }
}

impl Progress for Display {
    fn stage(&self, what: &str) {
        self.bar.set_message(what.to_string());
        self.log(what, None);
    }

    fn begins(&self, what: &str, time: Option<Duration>) {
        let time = time.map_or(String::new(), |time| format!("; about {}", short(time)));
        self.say(&format!("{what}{time}"));
    }

    fn note(&self, line: &str) {
        // The rungs of a search, and several workers, look at the same models.
        if self.noted.borrow_mut().insert(line.to_string()) {
            self.say(&format!("note: {line}"));
        }
    }

    fn download(&self, what: &str, done: u64, total: u64) {
        let first = self
            .downloading
            .replace(Some(what.to_string()))
            .is_none_or(|before| before != what);
        if first && self.terminal {
            self.style(BAR);
            self.bar.set_length(total);
            // What is here already says nothing about the pace.
            self.bar.set_position(done);
            self.bar.reset_eta();
        } else if first {
            let here = match done {
                0 => String::new(),
                done => format!(", {} here already", HumanBytes(done)),
            };
            self.say(&format!("downloading {what} ({}{here})", HumanBytes(total)));
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.reset_eta();
        }
        self.bar.set_position(done);
        let left = self.remaining();
        let so_far = format!("{} of {}", HumanBytes(done), HumanBytes(total));
        if self.terminal {
            let pace = HumanBytes(self.bar.per_sec() as u64);
            let left = left.map_or(String::new(), |left| format!(", {} left", short(left)));
            self.bar.set_message(format!("{so_far}, {pace}/s{left}; {what}"));
        } else {
            self.log(&format!("downloading {what}: {so_far}"), left);
        }
        if done >= total {
            self.downloading.replace(None);
            self.style(SPINNER);
        }
    }

    fn start(&self, cells: usize, steps: usize) {
        self.counts.set(Counts { cells, done: 0 });
        self.bar.set_length(steps as u64);
        self.bar.reset();
        self.style(self.template().0);
        if !self.terminal && cells > 1 {
            let ready = self.started.get().elapsed().as_secs_f64();
            self.say(&format!("{cells} cells to run (inputs ready after {ready:.1} s)"));
        }
    }

    fn weighs(&self, steps: usize) {
        self.weight.set(steps);
    }

    fn cell(&self, label: &str, blocks: usize) {
        self.label.replace(label.to_string());
        self.blocks.set((0, blocks));
        self.stepped.set(Instant::now());
        self.scoring.replace(None);
        self.waiting.set(false);
        self.show(None);
    }

    fn more(&self, blocks: usize) {
        self.bar.inc_length((blocks * self.weight.get()) as u64);
    }

    fn step(&self) -> Result<()> {
        self.advance(self.weight.get());
        let (done, all) = self.blocks.get();
        self.blocks.set((done + 1, all));
        self.stepped.set(Instant::now());
        self.scoring.replace(None);
        self.show(None);
        Ok(())
    }

    fn scored(&self, evaluation: &str, means: &[f64], windows: usize) {
        let left = self.left_to_score(evaluation, means.len(), windows);
        let result = perplexity_so_far(evaluation, means, windows, self.confidence);
        self.show(Some((result, left)));
    }

    fn answered(&self, running: &Running) {
        let left = self.left_to_score(running.task, running.done, running.total);
        self.show(Some((accuracy_so_far(running), left)));
    }

    fn left(&self, _cell: Option<Duration>, sweep: Option<Duration>) {
        // One time is enough: that of everything.
        self.left.set(sweep);
    }

    fn cell_done(&self, label: &str, result: &str) {
        let Counts { cells, done } = self.counts.get();
        self.counts.set(Counts { cells, done: done + 1 });
        self.say(&self.with_left(&format!("{}/{cells} {label}: {result}", done + 1)));
    }

    fn elsewhere(&self, cells: usize, steps: usize) {
        let Counts { cells: all, done } = self.counts.get();
        self.counts.set(Counts {
            cells: all.saturating_sub(cells),
            done,
        });
        self.bar.dec_length(steps as u64);
    }

    fn waiting(&self, cells: usize) {
        let message = match cells {
            1 => "waiting for a cell that another process is working on".to_string(),
            cells => format!("waiting for {cells} cells that other processes are working on"),
        };
        if let Some(log) = &self.log {
            // One line is enough, however long it takes.
            log.idle();
        }
        if !self.waiting.replace(true) && !self.terminal {
            self.say(&message);
        }
        self.bar.set_message(message);
    }

    fn finish(&self) {
        if let Some(log) = &self.log {
            log.idle();
        }
        self.bar.finish_and_clear();
        self.started.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::paired::Texts;
    use indicatif::TermLike;
    use std::io;
    use std::sync::Mutex;

    /// A terminal of this width that remembers every line that is drawn.
    #[derive(Debug, Clone)]
    struct Paper {
        width: u16,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl Paper {
        fn of(width: u16) -> Paper {
            Paper {
                width,
                lines: Arc::default(),
            }
        }

        fn display(&self) -> Display {
            let width = usize::from(self.width);
            let target = ProgressDrawTarget::term_like(Box::new(self.clone()));
            Display::on(target, true, Box::new(move || Some(width)))
        }

        /// What is drawn last.
        fn last(&self) -> String {
            let lines = self.lines.lock().expect("nothing panicked");
            lines.iter().rfind(|line| !line.is_empty()).cloned().unwrap_or_default()
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.width
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            assert_eq!(n, 0, "a bar of one line is drawn over itself");
            Ok(())
        }
        fn move_cursor_down(&self, _n: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _n: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _n: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            let mut lines = self.lines.lock().expect("nothing panicked");
            lines.push(text.trim_end().to_string());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sweep of nine cells on a model of thirty blocks, in its third cell.
    fn third_cell(paper: &Paper) -> Display {
        let display = paper.display();
        display.start(9, 270);
        for method in ["dense", "magnitude, 50 %", "z-pruner, 50 %, seed 0"] {
            if method != "dense" {
                display.counts.set(Counts {
                    cells: 9,
                    done: display.counts.get().done + 1,
                });
            }
            display.left(Some(Duration::from_secs(6)), Some(Duration::from_secs(190)));
            display.cell(&format!("SmolLM2-135M, {method}"), 30);
            for _ in 0..if method.starts_with("z-pruner") { 4 } else { 30 } {
                display.step().expect("nobody stops it");
            }
        }
        display.bar.tick();
        display
    }

    #[test]
    fn a_bar_is_one_line_at_every_width_and_tells_one_time_and_the_block_of_this_model() {
        for width in [40, 60, 80, 100, 140] {
            let paper = Paper::of(width);
            let display = third_cell(&paper);
            let line = paper.last();
            let shown = match width {
                140 | 100 => "23 %, 3 min left; cell 3 of 9, block 5 of 30: SmolLM2-135M, z-pruner, 50 %, seed 0",
                80 => "3 min left; 3/9, block 5/30: SmolLM2-1…, z-pruner, 50 %, seed 0",
                60 => "3 min left; 3/9, block 5/30: z-pruner, 50 %, seed 0",
                _ => "3 min left; 3/9: z-pruner, 50 %, seed 0",
            };
            assert!(line.ends_with(shown), "{width}: {line:?}");
            display.scored("wikitext2", &[3.0, 3.1, 3.2, 3.05], 40);
            display.bar.tick();
            let long: Vec<String> = paper.lines.lock().expect("nothing panicked").clone();
            for line in long {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line:?}");
                assert!(line.matches(" left").count() <= 1, "{line:?}");
                assert!(!line.contains("seed 0") || line.contains("z-pruner, 50 %"), "{line:?}");
            }
        }
    }

    #[test]
    fn a_download_is_one_line_too() {
        let paper = Paper::of(80);
        let display = paper.display();
        let what = "model-00001-of-00002.safetensors of meta-llama/Llama-2-7b-hf (revision main)";
        for done in [0, 1 << 30, 2 << 30] {
            display.download(what, done, 10 << 30);
            display.bar.tick();
        }
        let line = paper.last();
        assert!(
            line.contains("2.00 GiB of 10.00 GiB") && line.chars().count() <= 80,
            "{line:?}"
        );
    }

    #[test]
    fn blocks_count_by_what_they_weigh() {
        let display = Paper::of(80).display();
        display.start(2, 400);
        display.weighs(50);
        display.cell("cheap", 2);
        for _ in 0..2 {
            display.step().expect("nothing stops it");
        }
        assert_eq!(display.percent(), 25);
        display.weighs(150);
        display.cell("dear", 2);
        display.step().expect("nothing stops it");
        assert_eq!(display.percent(), 62);
        // Its blocks are passed once more.
        display.more(2);
        assert_eq!(display.percent(), 35);
    }

    #[test]
    fn the_interval_of_a_running_perplexity_is_that_of_the_tables() {
        let means: Vec<f64> = (0..40).map(|it| 3.0 + 0.1 * f64::from(it % 7)).collect();
        let paper = Paper::of(140);
        let display = paper.display().with_confidence(0.9);
        display.start(1, 1);
        display.scored("text", &means, 40);
        display.bar.tick();
        let whole = crate::stats::variance::VarianceComponents::of(&[means], Texts::Stream).expect("forty windows");
        let table = whole.texts.robust_interval(0.9).expect("forty windows");
        let said = format!("({:.2} to {:.2})", table.low.exp(), table.high.exp());
        assert!(paper.last().contains(&said), "{said}: {}", paper.last());
    }
}
