//! What every calibration seed scored, method by method, a panel per pattern.

use super::canvas::{Anchor, GRID, INK, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::plot::{Cast, Drawn, ROWS, cut, heading};
use super::rows::Rows;
use crate::error::Result;
use crate::report::csv::CsvRow;
use crate::report::results::{MethodResult, Run, Section};
use serde_json::json;

const ROW: i32 = 22;
const TOP: i32 = 40;
const RIGHT: i32 = WIDTH - 24;

/// Caption and picture; `None` if no method has more than one seed.
pub fn plot(section: &Section, cast: &Cast) -> Result<Option<Drawn>> {
    let methods = &cast.methods;
    let mut panels: Vec<(String, Vec<&MethodResult>)> = Vec::new();
    for entry in section.entries.iter().filter(|entry| !entry.runs.is_empty()) {
        let Some(pattern) = entry.pattern.filter(|_| methods.contains(&entry.method.as_str())) else {
            continue;
        };
        let name = pattern.to_string();
        match panels.iter_mut().find(|(other, _)| *other == name) {
            Some((_, entries)) => entries.push(entry),
            None => panels.push((name, vec![entry])),
        }
    }
    if !section.entries.iter().any(|entry| entry.runs.len() > 1) {
        return Ok(None);
    }
    let data = panels
        .iter()
        .flat_map(|(_, entries)| entries.iter().flat_map(|entry| rows(entry)));
    let data = data.collect();
    let all = panels.iter().map(|(_, entries)| entries.len()).max().unwrap_or(0);
    for (_, entries) in &mut panels {
        entries.truncate(ROWS);
    }
    let names = Rows::new(methods.iter().map(|it| cast.labels.label(it)), WIDTH * 2 / 5, ROW);
    let left = names.left;
    let height = |entries: &[&MethodResult]| names.height * entries.len() as i32 + 66;
    let total: i32 = panels.iter().map(|(_, entries)| height(entries)).sum();
    let item = |key, text: &str| Item {
        key,
        text: text.to_string(),
    };
    let runs = || {
        panels
            .iter()
            .flat_map(|(_, entries)| entries.iter().flat_map(|entry| &entry.runs))
    };
    let mut items = vec![item(Key::Filled(true), "one seed")];
    if runs().any(|run| run.seed.is_none()) {
        items.push(item(Key::Filled(false), "without calibration"));
    }
    let legend = TOP + total + 24;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&format!("{}: seed by seed", heading(section)))?;
        let mut top = TOP;
        for (name, entries) in &panels {
            let values = entries.iter().flat_map(|entry| entry.values());
            let Some((low, high)) = extent(values) else { continue };
            let room = 0.04 * (high - low);
            let axis = PlotAxis::new(low - room, high + room, left, RIGHT);
            let (from, to) = (top + 24, top + 24 + names.height * entries.len() as i32);
            canvas.text(name, (10, top + 12), TEXT, Anchor::Left)?;
            canvas.horizontal(&axis, from, to)?;
            for (place, entry) in entries.iter().enumerate() {
                let y = names.middle(from, place);
                canvas.line(&[(left, y), (RIGHT, y)], GRID, 1)?;
                names.name(canvas, cast.labels.label(&entry.method), y)?;
                for run in &entry.runs {
                    canvas.marker(
                        (axis.place(run.value), y),
                        cast.looks.look(&entry.method),
                        5,
                        run.seed.is_some(),
                    )?;
                }
            }
            canvas.line(&[(left, from), (left, to)], INK, 1)?;
            top += height(entries);
        }
        canvas.text(
            "perplexity (each panel has its own scale)",
            (WIDTH / 2, top + 4),
            TEXT,
            Anchor::Middle,
        )?;
        canvas.legend(&items, legend)
    })?;
    let caption = format!(
        "Perplexity of every calibration seed, {}; a panel per pattern.{}",
        heading(section),
        cut(all.min(ROWS), all, "methods")
    );
    Ok(Some(Drawn { caption, svg, data }))
}

fn rows(entry: &MethodResult) -> Vec<CsvRow> {
    let row = |run: &Run| {
        vec![
            ("pattern", json!(entry.pattern.map(|pattern| pattern.to_string()))),
            ("method", json!(entry.method)),
            ("seed", json!(run.seed)),
            ("perplexity", json!(run.value)),
        ]
    };
    entry.runs.iter().map(row).collect()
}
