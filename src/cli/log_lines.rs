//! The lines that a log gets where standard error is no terminal: now and then one says what is being done and how long it still takes.
//!
//! A thread looks after them, since work may bring no news for minutes. Where the system refuses one, lines come with news only.

use super::moment::short;
use super::streams::note;
use crate::threads::{self, lock};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a log has no new line.
const SILENCE: Duration = Duration::from_secs(30);

/// How often the thread looks whether a line is due.
const LOOK: Duration = Duration::from_secs(1);

/// What a log is told of the work.
pub(super) struct LogLines(Arc<Mutex<Now>>);

/// What is known now.
struct Now {
    /// Time of the last line.
    spoke: Instant,
    doing: Option<Doing>,
}

/// Work that goes on.
struct Doing {
    what: String,
    since: Instant,
    /// The time that was left, and when that was known.
    left: Option<(Duration, Instant)>,
}

impl Doing {
    /// The line that says so at this time.
    fn line(&self, at: Instant) -> String {
        let left = self.left.and_then(|(left, known)| left.checked_sub(at - known));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => format!("{}, {} left", self.what, short(left)),
            None => match at - self.since {
                since if since < SILENCE / 2 => self.what.clone(),
                since => format!("{}, for {} so far", self.what, short(since)),
            },
        }
    }
}

impl Now {
    /// The line that is due at this time, if one is.
    fn due(&mut self, at: Instant) -> Option<String> {
        let doing = self.doing.as_ref().filter(|_| at - self.spoke >= SILENCE)?;
        let line = doing.line(at);
        self.spoke = at;
        Some(line)
    }
}

impl LogLines {
    /// A log in which nothing is being done yet.
    pub(super) fn new() -> Self {
        let now = Arc::new(Mutex::new(Now {
            spoke: Instant::now(),
            doing: None,
        }));
        let watched = Arc::downgrade(&now);
        let _without_it_lines_come_with_news = threads::start("lines of progress", move || {
            loop {
                std::thread::sleep(LOOK);
                let Some(now) = watched.upgrade() else { return };
                speak(&now);
            }
        });
        LogLines(now)
    }

    /// Takes what is being done, and the time left, if it is known.
    pub(super) fn doing(&self, what: &str, left: Option<Duration>) {
        let at = Instant::now();
        let mut now = lock(&self.0);
        let same = now.doing.as_ref().filter(|doing| doing.what == what);
        now.doing = Some(Doing {
            since: same.map_or(at, |doing| doing.since),
            what: what.to_string(),
            left: left.map(|left| (left, at)),
        });
        drop(now);
        speak(&self.0);
    }

    /// Takes note that the log got a line from elsewhere.
    pub(super) fn spoke(&self) {
        lock(&self.0).spoke = Instant::now();
    }

    /// Takes note that nothing is being done.
    pub(super) fn idle(&self) {
        lock(&self.0).doing = None;
    }
}

/// Prints the line that is due, if one is.
fn speak(now: &Mutex<Now>) {
    let due = lock(now).due(Instant::now());
    if let Some(line) = due {
        note(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_every_half_minute_with_the_time_left_or_spent() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut now = Now {
            spoke: start,
            doing: None,
        };
        assert_eq!(now.due(after(100)), None, "nothing is being done");
        now.doing = Some(Doing {
            what: "hashing the inputs".to_string(),
            since: after(25),
            left: None,
        });
        assert_eq!(now.due(after(29)), None);
        assert_eq!(now.due(after(30)).as_deref(), Some("hashing the inputs"));
        assert_eq!(now.due(after(59)), None);
        assert_eq!(
            now.due(after(60)).as_deref(),
            Some("hashing the inputs, for 35 s so far")
        );
        now.doing = Some(Doing {
            what: "block 5 of 30: perplexity".to_string(),
            since: after(60),
            left: Some((Duration::from_secs(300), after(70))),
        });
        assert_eq!(
            now.due(after(100)).as_deref(),
            Some("block 5 of 30: perplexity, 5 min left")
        );
        // An estimate that has run out says nothing.
        assert_eq!(
            now.due(after(400)).as_deref(),
            Some("block 5 of 30: perplexity, for 6 min so far")
        );
    }

    #[test]
    fn news_of_the_same_work_does_not_begin_it_anew() {
        let log = LogLines::new();
        log.doing("writing", None);
        let since = lock(&log.0).doing.as_ref().map(|doing| doing.since);
        log.doing("writing", Some(Duration::from_secs(5)));
        assert_eq!(lock(&log.0).doing.as_ref().map(|doing| doing.since), since);
        log.idle();
        assert!(lock(&log.0).doing.is_none());
    }
}
