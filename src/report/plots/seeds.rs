//! What every calibration seed scored, method by method, a panel per pattern.

use super::canvas::{Anchor, GRID, INK, Item, Key, Look, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::plot::{ROWS, cut, heading};
use crate::error::Result;
use crate::report::results::{MethodResult, Section};

const ROW: i32 = 22;
const TOP: i32 = 40;
const RIGHT: i32 = WIDTH - 24;

/// Caption and picture; `None` if no method has more than one seed.
pub fn plot(section: &Section, methods: &[&str]) -> Result<Option<(String, String)>> {
    let mut panels: Vec<(String, Vec<(usize, &MethodResult)>)> = Vec::new();
    for entry in section.entries.iter().filter(|entry| !entry.runs.is_empty()) {
        let (Some(pattern), Some(index)) = (entry.pattern, methods.iter().position(|it| *it == entry.method)) else {
            continue;
        };
        let name = pattern.to_string();
        match panels.iter_mut().find(|(other, _)| *other == name) {
            Some((_, entries)) => entries.push((index, entry)),
            None => panels.push((name, vec![(index, entry)])),
        }
    }
    if !section.entries.iter().any(|entry| entry.runs.len() > 1) {
        return Ok(None);
    }
    let all = panels.iter().map(|(_, entries)| entries.len()).max().unwrap_or(0);
    for (_, entries) in &mut panels {
        entries.truncate(ROWS);
    }
    let longest = methods.iter().map(|it| it.chars().count()).max().unwrap_or(0) as i32;
    let left = (28 + longest * TEXT / 2).clamp(80, 260);
    let height = |entries: &[(usize, &MethodResult)]| ROW * entries.len() as i32 + 66;
    let total: i32 = panels.iter().map(|(_, entries)| height(entries)).sum();
    let item = |key, text: &str| Item {
        key,
        text: text.to_string(),
    };
    let items = [
        item(Key::Filled(true), "one seed"),
        item(Key::Filled(false), "runs without calibration"),
    ];
    let legend = TOP + total + 24;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.text(
            &format!("{}: seed by seed", heading(section)),
            (WIDTH / 2, 20),
            TEXT + 3,
            Anchor::Middle,
        )?;
        let mut top = TOP;
        for (name, entries) in &panels {
            let values = entries.iter().flat_map(|(_, entry)| entry.values());
            let Some((low, high)) = extent(values) else { continue };
            let room = 0.04 * (high - low);
            let axis = PlotAxis::new(low - room, high + room, left, RIGHT);
            let (from, to) = (top + 24, top + 24 + ROW * entries.len() as i32);
            canvas.text(name, (10, top + 12), TEXT, Anchor::Left)?;
            canvas.horizontal(&axis, from, to)?;
            for (place, (index, entry)) in entries.iter().enumerate() {
                let y = from + ROW / 2 + ROW * place as i32;
                canvas.line(&[(left, y), (RIGHT, y)], GRID, 1)?;
                canvas.text(&entry.method, (left - 10, y), TEXT - 1, Anchor::Right)?;
                for run in &entry.runs {
                    canvas.marker((axis.place(run.value), y), Look::of(*index), 5, run.seed.is_some())?;
                }
            }
            canvas.line(&[(left, from), (left, to)], INK, 1)?;
            top += height(entries);
        }
        canvas.text(
            "perplexity (each panel has its own scale)",
            ((left + RIGHT) / 2, top + 4),
            TEXT,
            Anchor::Middle,
        )?;
        canvas.legend(&items, legend)
    })?;
    Ok(Some((
        format!(
            "Perplexity of every calibration seed, {}; a panel per pattern.{}",
            heading(section),
            cut(all.min(ROWS), all, "methods")
        ),
        svg,
    )))
}
