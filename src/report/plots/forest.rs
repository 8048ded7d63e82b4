//! Paired differences with their intervals, one below the other.

use super::canvas::{Anchor, Axis, FAINT, GRID, INK, Item, Key, Look, TEXT, WIDTH, draw, extent, legend_height};
use super::heading;
use crate::error::Result;
use crate::prune::pattern::Pattern;
use crate::report::comparison::{Family, Test, Verdict};
use crate::report::layout::percent;
use crate::report::results::{Measure, Section};

const ROW: i32 = 21;
const TOP: i32 = 44;
const RIGHT: i32 = WIDTH - 20;

/// Caption and picture of a family's comparisons in one section; `None` without any.
pub fn plot(section: &Section, family: &Family, confidence: f64) -> Result<Option<(String, String)>> {
    let here = |test: &&Test| test.model == section.model && test.measure == section.measure;
    let tests: Vec<&Test> = family.tests.iter().filter(here).collect();
    let ends = tests.iter().flat_map(|test| {
        let intervals = [test.over_both, test.over_texts];
        let ends = intervals.into_iter().flat_map(|interval| [interval.low, interval.high]);
        ends.chain(test.seeds.iter().copied())
            .map(|end| test.shown(end))
            .collect::<Vec<_>>()
    });
    let Some((low, high)) = extent(ends.chain([0.0])) else {
        return Ok(None);
    };
    if tests.is_empty() {
        return Ok(None);
    }
    let mut patterns: Vec<Pattern> = Vec::new();
    for test in &tests {
        if !patterns.contains(&test.pattern) {
            patterns.push(test.pattern);
        }
    }
    let longest = tests.iter().map(|test| label(test).chars().count()).max().unwrap_or(0) as i32;
    let left = (24 + longest * TEXT / 2).clamp(120, 300);
    let room = 0.03 * (high - low).max(1e-6);
    let axis = Axis::new(low - room, high + room, left, RIGHT);
    let bottom = TOP + ROW * (tests.len() + patterns.len()) as i32 + 6;
    let unit = match section.measure {
        Measure::Perplexity { .. } => "difference in perplexity, % (below 0: the first method is better)",
        Measure::Accuracy { .. } => "difference in accuracy, points (above 0: the first method is better)",
    };
    let percent = percent(confidence);
    let item = |key, text: String| Item { key, text };
    let mut items = vec![
        item(Key::Filled(false), "survives Holm's correction".to_string()),
        item(Key::Filled(true), "not told apart".to_string()),
        item(Key::Thick, format!("{percent} over texts")),
        item(Key::Thin, format!("{percent} over texts and seeds")),
    ];
    if tests.iter().any(|test| test.seeds.len() > 1) {
        items.push(item(Key::Dot, "one seed".to_string()));
    }
    let legend = bottom + 52;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.text(
            &format!("{}: paired differences", heading(section)),
            (WIDTH / 2, 22),
            TEXT + 3,
            Anchor::Middle,
        )?;
        canvas.horizontal(&axis, TOP, bottom)?;
        canvas.line(&[(axis.place(0.0), TOP), (axis.place(0.0), bottom)], INK, 1)?;
        canvas.text(unit, (WIDTH / 2, bottom + 36), TEXT, Anchor::Middle)?;
        let mut y = TOP + ROW / 2;
        for pattern in patterns {
            canvas.line(&[(10, y + ROW / 2), (RIGHT, y + ROW / 2)], GRID, 1)?;
            canvas.text(&pattern.to_string(), (10, y), TEXT, Anchor::Left)?;
            y += ROW;
            for test in tests.iter().filter(|test| test.pattern == pattern) {
                canvas.text(&label(test), (left - 10, y), TEXT - 1, Anchor::Right)?;
                let at = |value: f64| axis.place(test.shown(value));
                let colour = Look::of(0).colour;
                canvas.line(&[(at(test.over_both.low), y), (at(test.over_both.high), y)], colour, 1)?;
                canvas.line(
                    &[(at(test.over_texts.low), y), (at(test.over_texts.high), y)],
                    colour,
                    5,
                )?;
                let told = test.verdict(confidence) != Verdict::NotTold;
                canvas.marker((at(test.difference.mean), y), Look::of(0), 5, !told)?;
                if test.seeds.len() > 1 {
                    for seed in &test.seeds {
                        canvas.marker((at(*seed), y + 7), Look::round(FAINT), 2, false)?;
                    }
                }
                y += ROW;
            }
        }
        canvas.legend(&items, legend)
    })?;
    let caption = format!(
        "Paired differences of the family “{}”, {}: the first method less the second on the same texts.",
        family.name,
        heading(section)
    );
    Ok(Some((caption, svg)))
}

fn label(test: &Test) -> String {
    format!("{} − {}", test.ours, test.other)
}
