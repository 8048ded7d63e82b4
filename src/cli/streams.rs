//! Standard output and standard error. Either may be closed, a full disk, or a pipe that nobody reads any more.
//!
//! What was asked for goes to standard output, and losing it is an error. Progress and logs go to standard error, and losing
//! them ends nothing.

use super::lines::{broken, message};
use crate::error::{Error, Result};
use comfy_table::Table;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Prints to standard output; a closed pipe (`zprune list | head`) ends quietly.
///
/// # Errors
/// The text is lost: a full disk, say.
pub(super) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    let wrote = writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush());
    printed(wrote)
}

/// Turns the outcome of a write to standard output into the command's result; a closed pipe is no error.
///
/// # Errors
/// The text is lost.
pub(super) fn printed(wrote: io::Result<()>) -> Result<()> {
    match wrote {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::writing(Path::new("standard output"), error)),
        _ => Ok(()),
    }
}

/// The columns of the terminal that standard output is. `None` if it is none (a file, a pipe), unless the environment variable
/// `COLUMNS` says how wide the text shall be.
pub(super) fn width() -> Option<usize> {
    width_of(&Table::new())
}

/// The columns of the terminal that standard error is, as [`width`].
pub(super) fn error_width() -> Option<usize> {
    width_of(Table::new().use_stderr())
}

/// The columns of the place where this table would be printed.
fn width_of(table: &Table) -> Option<usize> {
    let terminal = table.width().map(usize::from);
    let wanted = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(wanted).filter(|columns| *columns > 0)
}

/// Prints text to standard output with its lines broken between words where they are wider than the terminal.
///
/// # Errors
/// The text is lost.
pub(super) fn print_lines(text: &str) -> Result<()> {
    print(&broken(text, width()))
}

/// Whether progress and notes are left out.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves progress and notes out, or not.
pub(super) fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether progress and notes are left out.
pub(super) fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a note to standard error, unless they are left out. What may be wrong with numbers is no note: [`say`] it.
pub(super) fn note(text: &str) {
    if !quiet() {
        say(text);
    }
}

/// Prints a message to standard error; a terminal gets it broken between words. If printing fails, the message is dropped.
pub(super) fn say(text: &str) {
    // Unlike `eprintln!`, which panics.
    let _ = writeln!(io::stderr(), "{}", message(text, error_width()));
}

/// Lines of a log as the program's own messages: the level in a word, a colon, and what is said.
pub(super) struct InWords;

impl<S, N> FormatEvent<S, N> for InWords
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let word = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "{word}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Standard error for logs, a line in each write; a terminal gets it broken between words. What cannot be written is dropped.
pub(super) struct Lossy;

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let _ = io::stderr().write_all(message(&text, error_width()).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}
