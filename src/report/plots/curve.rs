//! Perplexity by pattern.

use super::canvas::{Anchor, GRID, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::plot::{Cast, Drawn, heading};
use crate::error::Result;
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::csv::CsvRow;
use crate::report::format::percent;
use crate::report::results::{MethodResult, Section};
use serde_json::json;

const TOP: i32 = 40;
const BOTTOM: i32 = 320;
const LEFT: i32 = 66;
const RIGHT: i32 = WIDTH - 12;

/// Most pixels between two methods in the band of a pattern.
const STEP: i32 = 12;

/// Caption and picture; `None` if there is nothing to draw. Every pattern has a band, since a sparsity and N:M groups of
/// the same sparsity are not the same; in each band the methods stand beside each other, so that none hides another. A line
/// joins a method's unstructured patterns.
pub fn plot(section: &Section, cast: &Cast, confidence: f64) -> Result<Option<Drawn>> {
    let points: Vec<&MethodResult> = section.entries.iter().filter(|entry| entry.summary.is_some()).collect();
    let heights = points
        .iter()
        .filter_map(|entry| entry.summary.as_ref())
        .flat_map(|summary| {
            let interval = summary.interval.map(|interval| [interval.low, interval.high]);
            [summary.min, summary.max]
                .into_iter()
                .chain(interval.into_iter().flatten())
        });
    // A wide interval may reach below zero, which a logarithmic axis cannot show.
    let heights = heights.chain(section.dense_value()).filter(|height| *height > 0.0);
    let bands = bands(&points);
    let (false, Some((low, high))) = (bands.is_empty(), extent(heights)) else {
        return Ok(None);
    };
    let up = PlotAxis::logarithmic(low / 1.05, high * 1.05, BOTTOM, TOP);
    let shown: Vec<&str> = cast
        .methods
        .iter()
        .copied()
        .filter(|method| points.iter().any(|entry| entry.method == *method))
        .collect();
    let mut items: Vec<Item> = shown
        .iter()
        .map(|method| Item {
            key: Key::Method(cast.looks.look(method)),
            text: cast.labels.label(method).to_string(),
        })
        .collect();
    if section.dense_value().is_some() {
        items.push(Item {
            key: Key::Dashed,
            text: DENSE.to_string(),
        });
    }
    if points
        .iter()
        .any(|entry| entry.summary.as_ref().is_some_and(|it| it.interval.is_some()))
    {
        items.push(Item {
            key: Key::Whisker,
            text: format!("{} over seeds", percent(confidence)),
        });
    }

    let count = bands.len() as i32;
    let edge = |band: i32| LEFT + (RIGHT - LEFT) * band / count;
    let band = (RIGHT - LEFT) / count;
    let step = f64::from((band * 4 / 5 / (shown.len() as i32).max(1)).min(STEP));
    let legend = BOTTOM + 50;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&heading(section))?;
        canvas.vertical(&up, LEFT, RIGHT)?;
        for (index, pattern) in bands.iter().enumerate() {
            let (from, to) = (edge(index as i32), edge(index as i32 + 1));
            canvas.line(&[(to, TOP), (to, BOTTOM)], GRID, 1)?;
            // Where bands are narrow, every name gets the room of several.
            let every = (44 / band.max(1)).max(1);
            if (index as i32) % every == 0 {
                let name = pattern.to_string();
                canvas.text(&name, ((from + to) / 2, BOTTOM + 13), TEXT - 1, Anchor::Middle)?;
            }
        }
        canvas.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], super::canvas::INK, 1)?;
        canvas.text(
            "share of weights removed, or N:M kept",
            ((LEFT + RIGHT) / 2, BOTTOM + 34),
            TEXT,
            Anchor::Middle,
        )?;
        canvas.upright("perplexity (log scale)", (16, (TOP + BOTTOM) / 2))?;
        if let Some(dense) = section.dense_value() {
            let y = up.place(dense);
            canvas.dashed((LEFT, y), (RIGHT, y), super::canvas::INK)?;
        }
        for (order, method) in shown.iter().enumerate() {
            let look = cast.looks.look(method);
            let aside = step * (order as f64 - (shown.len() as f64 - 1.0) / 2.0);
            let across = |index: usize| (edge(index as i32) + edge(index as i32 + 1)) / 2 + aside.round() as i32;
            let mut line = Vec::new();
            let mut marks = Vec::new();
            for (index, pattern) in bands.iter().enumerate() {
                let own = |entry: &&&MethodResult| entry.method == *method && entry.pattern == Some(*pattern);
                let Some(summary) = points.iter().find(own).and_then(|entry| entry.summary.as_ref()) else {
                    continue;
                };
                let (x, y) = (across(index), up.place(summary.mean));
                if let Some(interval) = summary.interval {
                    canvas.line(
                        &[(x, up.place(interval.low)), (x, up.place(interval.high))],
                        look.colour,
                        2,
                    )?;
                }
                if matches!(pattern, Pattern::Unstructured { .. }) {
                    line.push((x, y));
                }
                marks.push((x, y));
            }
            canvas.line(&line, look.colour, 1)?;
            for place in marks {
                canvas.marker(place, look, 5, false)?;
            }
        }
        canvas.legend(&items, legend)
    })?;
    let joined = bands
        .iter()
        .filter(|it| matches!(it, Pattern::Unstructured { .. }))
        .count()
        > 1;
    let caption = format!(
        "Perplexity by pattern, {}: a column per pattern, with the methods beside each other{}.",
        heading(section),
        if joined {
            "; lines join the unstructured patterns of a method"
        } else {
            ""
        }
    );
    let dense = std::iter::once(&section.dense).filter(|entry| entry.summary.is_some());
    let data = dense.chain(points.iter().copied()).map(row).collect();
    Ok(Some(Drawn { caption, svg, data }))
}

/// The patterns that have results: unstructured ones first, each kind by sparsity.
fn bands(points: &[&MethodResult]) -> Vec<Pattern> {
    let mut bands: Vec<Pattern> = Vec::new();
    for pattern in points.iter().filter_map(|entry| entry.pattern) {
        if !bands.contains(&pattern) {
            bands.push(pattern);
        }
    }
    let grouped = |pattern: &Pattern| matches!(pattern, Pattern::NofM { .. });
    bands.sort_by(|a, b| grouped(a).cmp(&grouped(b)).then(a.sparsity().total_cmp(&b.sparsity())));
    bands
}

fn row(entry: &MethodResult) -> CsvRow {
    let summary = entry.summary.as_ref();
    let interval = summary.and_then(|summary| summary.interval);
    vec![
        ("method", json!(entry.method)),
        ("pattern", json!(entry.pattern.map(|pattern| pattern.to_string()))),
        (
            "target_sparsity",
            json!(entry.pattern.map(|pattern| pattern.sparsity())),
        ),
        ("runs", json!(entry.runs.len())),
        ("perplexity", json!(summary.map(|summary| summary.mean))),
        ("low", json!(interval.map(|interval| interval.low))),
        ("high", json!(interval.map(|interval| interval.high))),
    ]
}
