//! What a bar says at one moment, in one line of any width: what matters least is shortened first, and then left out.

use crate::progress::Running;
use crate::stats::paired::{TextMean, Texts};
use crate::stats::{Shown, mean};
use std::time::Duration;

/// What is known of a run at one moment.
pub(super) struct Moment<'a> {
    /// How much of the work is done.
    pub percent: u64,
    /// Time that is left, in words.
    pub left: Option<String>,
    /// The number of the current cell, from 1, and how many there are, if there are several.
    pub cell: Option<(usize, usize)>,
    /// What is done with it, from long to short.
    pub doing: Option<[String; 3]>,
    /// The current cell: its model, a comma and the rest if there are several.
    pub label: &'a str,
}

/// How much of a model's name is shown.
#[derive(Clone, Copy)]
enum Name {
    Whole,
    /// Its first letters.
    Begun,
    None,
}

/// Letters of a model's name that is shortened.
const BEGUN: usize = 10;

/// One way to say it.
struct Wording {
    percent: bool,
    left: bool,
    /// Whether numbers are `3 of 9`, or else `3/9`.
    counted_in_words: bool,
    /// Which of the texts about what is done.
    doing: Option<usize>,
    name: Name,
}

/// From long to short. The method, the pattern and the number of the cell stay to the end; a bar shows the percents, too.
const WORDINGS: [Wording; 8] = [
    wording(true, true, true, Some(0), Name::Whole),
    wording(true, true, false, Some(1), Name::Whole),
    wording(true, true, false, Some(2), Name::Whole),
    wording(false, true, false, Some(2), Name::Whole),
    wording(false, true, false, Some(2), Name::Begun),
    wording(false, true, false, Some(2), Name::None),
    wording(false, true, false, None, Name::None),
    wording(false, false, false, None, Name::None),
];

const fn wording(percent: bool, left: bool, counted_in_words: bool, doing: Option<usize>, name: Name) -> Wording {
    Wording {
        percent,
        left,
        counted_in_words,
        doing,
        name,
    }
}

impl Moment<'_> {
    /// All of it, without percents and time.
    pub fn whole(&self) -> String {
        self.worded(&wording(false, false, true, Some(0), Name::Whole))
    }

    /// The longest way to say it that has room; where none has, the end of the shortest is cut off.
    pub fn fitted(&self, room: usize) -> String {
        let mut lines = WORDINGS.iter().map(|wording| self.worded(wording));
        let fits = lines.find(|line| line.chars().count() <= room);
        fits.unwrap_or_else(|| cut(&self.worded(&WORDINGS[WORDINGS.len() - 1]), room))
    }

    fn worded(&self, wording: &Wording) -> String {
        let mut parts = Vec::new();
        if let Some((number, all)) = self.cell {
            parts.push(match wording.counted_in_words {
                true => format!("cell {number} of {all}"),
                false => format!("{number}/{all}"),
            });
        }
        if let (Some(doing), Some(which)) = (&self.doing, wording.doing) {
            parts.push(doing[which].clone());
        }
        let label = match (self.cell, self.label.split_once(", "), wording.name) {
            (Some(_), Some((_, rest)), Name::None) => rest.to_string(),
            (Some(_), Some((model, rest)), Name::Begun) => format!("{}, {rest}", cut(model, BEGUN)),
            _ => self.label.to_string(),
        };
        let line = match parts.is_empty() {
            true => label,
            false => format!("{}: {label}", parts.join(", ")),
        };
        let percent = wording.percent.then(|| format!("{} %", self.percent));
        let left = self.left.as_ref().filter(|_| wording.left);
        let left = left.map(|left| format!("{left} left"));
        let times: Vec<String> = percent.into_iter().chain(left).collect();
        match times.is_empty() {
            true => line,
            false => format!("{}; {line}", times.join(", ")),
        }
    }
}

/// A running perplexity with the interval that tables give it, from long to short.
pub(super) fn perplexity_so_far(evaluation: &str, means: &[f64], windows: usize, confidence: f64) -> [String; 3] {
    let spread = TextMean::of(means, Texts::Stream).and_then(|it| it.robust_interval(confidence));
    let interval = spread.map_or(String::new(), |interval| {
        format!(
            " ({:.2} to {:.2})",
            Shown(interval.low.exp()),
            Shown(interval.high.exp())
        )
    });
    let (value, scored) = (Shown(mean(means).exp()), means.len());
    [
        format!("{evaluation} {value:.2}{interval}, {scored} of {windows} windows"),
        format!("{evaluation} {value:.2}{interval}, {scored}/{windows}"),
        format!("{evaluation} {value:.2}, {scored}/{windows}"),
    ]
}

/// A running accuracy with its interval, from long to short.
pub(super) fn accuracy_so_far(running: &Running) -> [String; 3] {
    let [low, high] = running.interval.map(|bound| 100.0 * bound);
    let accuracy = 100.0 * running.accuracy;
    let Running {
        task,
        metric,
        done,
        total,
        ..
    } = running;
    [
        format!("{task} ({metric}) {accuracy:.1} % ({low:.1} to {high:.1}), {done} of {total} documents"),
        format!("{task} ({metric}) {accuracy:.1} % ({low:.1} to {high:.1}), {done}/{total}"),
        format!("{task} {accuracy:.1} %, {done}/{total}"),
    ]
}

/// The number of the block that is being worked on, from 1, after so many. Tasks may need several passes over all blocks.
pub(super) fn block_after(done: usize, all: usize) -> usize {
    match done % all.max(1) {
        // The last one stays to the end.
        0 if done > 0 => all,
        within => within + 1,
    }
}

/// A duration in its largest unit, two for hours: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
pub(super) fn short(duration: Duration) -> String {
    let minutes = (duration.as_secs() + 30) / 60;
    match duration.as_secs() {
        0..90 => format!("{} s", duration.as_secs().max(1)),
        90..5370 => format!("{minutes} min"),
        5370..172_800 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1440, minutes % 1440 / 60),
    }
}

/// The first characters of a text, with a sign at the end if there are more.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    match room {
        0 => kept,
        _ => format!("{}…", kept.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment<'static> {
        Moment {
            percent: 23,
            left: Some("3 min".to_string()),
            cell: Some((3, 9)),
            doing: Some(["block 5 of 30", "block 5/30", "block 5/30"].map(str::to_string)),
            label: "SmolLM2-135M-Instruct, z-pruner, 50 %, seed 0",
        }
    }

    #[test]
    fn a_line_fits_every_width_and_loses_the_method_last() {
        let lines = [
            (
                91,
                "23 %, 3 min left; cell 3 of 9, block 5 of 30: SmolLM2-135M-Instruct, z-pruner, 50 %, seed 0",
            ),
            (
                90,
                "23 %, 3 min left; 3/9, block 5/30: SmolLM2-135M-Instruct, z-pruner, 50 %, seed 0",
            ),
            (
                79,
                "3 min left; 3/9, block 5/30: SmolLM2-135M-Instruct, z-pruner, 50 %, seed 0",
            ),
            (73, "3 min left; 3/9, block 5/30: SmolLM2-1…, z-pruner, 50 %, seed 0"),
            (62, "3 min left; 3/9, block 5/30: z-pruner, 50 %, seed 0"),
            (50, "3 min left; 3/9: z-pruner, 50 %, seed 0"),
            (30, "3/9: z-pruner, 50 %, seed 0"),
            (20, "3/9: z-pruner, 50 %…"),
        ];
        for (room, expected) in lines {
            assert_eq!(moment().fitted(room), expected, "{room}");
        }
        let mut before = 0;
        for room in 0..120 {
            let line = moment().fitted(room);
            let long = line.chars().count();
            assert!(long <= room && long >= before, "{room}: {line}");
            assert!(room < 14 || line.contains("z-pruner"), "{room}: {line}");
            before = long;
        }
    }

    #[test]
    fn a_single_cell_keeps_its_whole_label() {
        let single = Moment {
            cell: None,
            label: "wanda, 50 %",
            ..moment()
        };
        assert_eq!(single.whole(), "block 5 of 30: wanda, 50 %");
        assert_eq!(single.fitted(35), "3 min left; block 5/30: wanda, 50 %");
        assert_eq!(single.fitted(34), "3 min left; wanda, 50 %");
        assert_eq!(single.fitted(12), "wanda, 50 %");
    }
    #[test]
    fn blocks_are_counted_within_each_pass() {
        let shown: Vec<usize> = (0..8).map(|done| block_after(done, 3)).collect();
        assert_eq!(shown, [1, 2, 3, 3, 2, 3, 3, 2]);
        assert_eq!(block_after(0, 0), 1);
    }

    #[test]
    fn durations_are_short() {
        let cases = [
            (45, "45 s"),
            (89, "89 s"),
            (100, "2 min"),
            (3600, "60 min"),
            (5400, "1 h 30 min"),
            (100_000, "27 h 47 min"),
            (200_000, "2 d 7 h"),
        ];
        for (seconds, said) in cases {
            assert_eq!(short(Duration::from_secs(seconds)), said);
        }
    }
}
