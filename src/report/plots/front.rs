//! Time against quality: which methods nothing else beats in both.
//!
//! The time is that of pruning, or that of scoring text with what is left.

use super::canvas::{Anchor, GRID, INK, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::plot::{Cast, Drawn, heading};
use crate::error::Result;
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::csv::CsvRow;
use crate::report::results::{MethodResult, Section};
use serde_json::json;

const TOP: i32 = 40;
const PANEL: i32 = 200;
const LEFT: i32 = 66;
const RIGHT: i32 = WIDTH - 12;

/// Time and perplexity of a method.
struct Point {
    index: usize,
    time: f64,
    value: f64,
}

/// What takes the time that a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Calibrating and pruning, in seconds.
    Pruning,
    /// Scoring a token with a model that lost whole units, in percent of what the dense model took in the same minute. The dense model is
    /// one of the points.
    Scoring,
}

impl Clock {
    fn time(self, entry: &MethodResult) -> Option<f64> {
        let time = match self {
            Clock::Pruning => entry.seconds,
            Clock::Scoring if entry.method == DENSE => Some(100.0),
            Clock::Scoring => entry.sizes.map(|sizes| 100.0 * sizes.time_share),
        };
        time.filter(|time| *time > 0.0)
    }

    /// What the time is of, for a title, an axis, a caption, and a column of numbers.
    fn words(self) -> [&'static str; 4] {
        match self {
            Clock::Pruning => [
                "time and quality",
                "seconds to calibrate and prune (log scale)",
                "the time to calibrate and prune",
                "seconds",
            ],
            Clock::Scoring => [
                "speed and quality",
                "measured time of a token, % of the dense model's (log scale)",
                "the measured time of a token",
                "percent_of_dense",
            ],
        }
    }
}

/// Caption and picture, with a panel per pattern that has at least two methods; `None` without panels.
pub fn plot(section: &Section, cast: &Cast, clock: Clock) -> Result<Option<Drawn>> {
    let dense: &[&str] = match clock {
        Clock::Pruning => &[],
        Clock::Scoring => &[DENSE],
    };
    let methods: Vec<&str> = dense.iter().chain(&cast.methods).copied().collect();
    let [title, axis, time, column] = clock.words();
    let mut patterns: Vec<Pattern> = Vec::new();
    for pattern in section.entries.iter().filter_map(|entry| entry.pattern) {
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let panels: Vec<(Pattern, Vec<Point>)> = patterns
        .into_iter()
        .map(|pattern| {
            let points = methods.iter().enumerate().filter_map(|(index, method)| {
                let entry = section.entry(method, pattern)?;
                Some(Point {
                    index,
                    time: clock.time(entry)?,
                    value: entry.summary.as_ref()?.mean,
                })
            });
            (pattern, points.collect::<Vec<_>>())
        })
        .filter(|(_, points)| points.len() > 1)
        .collect();
    let Some((first, last)) = extent(panels.iter().flat_map(|(_, points)| points.iter().map(|it| it.time))) else {
        return Ok(None);
    };
    let across = PlotAxis::logarithmic(first / 1.2, last * 1.2, LEFT, RIGHT);
    let mut items: Vec<Item> = methods
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            panels
                .iter()
                .any(|(_, points)| points.iter().any(|it| it.index == *index))
        })
        .map(|(_, method)| Item {
            key: Key::Marker(cast.looks.look(method)),
            text: cast.labels.label(method).to_string(),
        })
        .collect();
    // One method that is fastest and best is no line.
    let has_front = panels.iter().any(|(_, points)| front(points).len() > 1);
    if has_front {
        items.push(Item {
            key: Key::Dashed,
            text: "nothing faster is better".to_string(),
        });
    }
    let below = TOP + PANEL * panels.len() as i32;
    let legend = below + 30;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&format!("{}: {title}", heading(section)))?;
        for (place, (pattern, points)) in panels.iter().enumerate() {
            let (top, bottom) = (TOP + 26 + PANEL * place as i32, TOP + PANEL * (place as i32 + 1) - 30);
            let Some((low, high)) = extent(points.iter().map(|it| it.value)) else {
                continue;
            };
            let up = PlotAxis::logarithmic(low / 1.03, high * 1.03, bottom, top);
            canvas.text(&pattern.to_string(), (LEFT, top - 13), TEXT, Anchor::Left)?;
            canvas.horizontal(&across, top, bottom)?;
            canvas.vertical(&up, LEFT, RIGHT)?;
            canvas.line(&[(LEFT, top), (RIGHT, top)], GRID, 1)?;
            let at = |point: &Point| (across.place(point.time), up.place(point.value));
            let front = front(points);
            for step in front.windows(2) {
                let (from, to) = (at(step[0]), at(step[1]));
                canvas.dashed(from, (to.0, from.1), INK)?;
                canvas.dashed((to.0, from.1), to, INK)?;
            }
            for point in points {
                canvas.marker(at(point), cast.looks.look(methods[point.index]), 6, false)?;
            }
        }
        let middle = (TOP + below) / 2;
        canvas.upright("perplexity (log scale)", (16, middle))?;
        canvas.text(axis, ((LEFT + RIGHT) / 2, below + 8), TEXT, Anchor::Middle)?;
        canvas.legend(&items, legend)
    })?;
    let mut data: Vec<CsvRow> = Vec::new();
    for (pattern, points) in &panels {
        let best = front(points);
        for point in points {
            data.push(vec![
                ("pattern", json!(pattern.to_string())),
                ("method", json!(methods[point.index])),
                (column, json!((point.time * 1e3).round() / 1e3)),
                ("perplexity", json!(point.value)),
                ("on_front", json!(best.iter().any(|it| it.index == point.index))),
            ]);
        }
    }
    let caption = format!(
        "Perplexity against {time}, {}{}.",
        heading(section),
        if has_front {
            "; the dashed line joins the methods for which no other is both faster and better"
        } else {
            ""
        }
    );
    Ok(Some(Drawn { caption, svg, data }))
}

/// The points for which no other point is both faster and better, beginning with the fastest.
fn front(points: &[Point]) -> Vec<&Point> {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.value.total_cmp(&b.value)));
    let mut best = f64::INFINITY;
    sorted.retain(|point| {
        let better = point.value < best;
        best = best.min(point.value);
        better
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_leaves_out_what_is_slower_and_worse() {
        let point = |index, time, value| Point { index, time, value };
        let points = [
            point(0, 1.0, 9.0),
            point(1, 2.0, 9.5),
            point(2, 3.0, 7.0),
            point(3, 4.0, 7.0),
        ];
        let kept: Vec<usize> = front(&points).iter().map(|it| it.index).collect();
        assert_eq!(kept, [0, 2]);
    }
}
