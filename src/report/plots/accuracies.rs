//! Accuracies on zero-shot tasks with their intervals: a panel per pattern, a group of rows per task, a row per method.

use super::canvas::{Anchor, Canvas, GRID, INK, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::look::Look;
use super::plot::{Cast, Drawn, ROWS, cut};
use super::rows::Rows;
use crate::error::Result;
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::csv::CsvRow;
use crate::report::format::percent;
use crate::report::results::Section;
use crate::stats::proportion::Accuracy;
use serde_json::json;

/// Height of the row of a method, and of the space between two tasks.
const ROW: i32 = 14;
const BETWEEN: i32 = 8;
const TOP: i32 = 44;
const RIGHT: i32 = WIDTH - 20;

/// Height of a panel in addition to its tasks, in pixels: the pattern's name and the numbers of the axis.
const PANEL: i32 = 54;

/// One task under a pattern: every method that has a result, with what it found.
struct Group<'a> {
    task: String,
    found: Vec<(&'a str, Accuracy)>,
}

impl Group<'_> {
    fn height(&self) -> i32 {
        ROW * self.found.len() as i32 + BETWEEN
    }
}

/// Caption and picture of a model's accuracies; `None` if there are none. The sections are those of one model.
pub fn plot(sections: &[&Section], cast: &Cast, confidence: f64) -> Result<Option<Drawn>> {
    let methods: Vec<&str> = std::iter::once(DENSE).chain(cast.methods.iter().copied()).collect();
    let mut panels: Vec<(Pattern, Vec<Group>)> = Vec::new();
    let patterns = sections.iter().flat_map(|section| &section.entries);
    for pattern in patterns.filter_map(|entry| entry.pattern) {
        if panels.iter().any(|(known, _)| *known == pattern) {
            continue;
        }
        let groups = sections.iter().filter_map(|section| {
            let found = methods.iter().filter_map(|method| {
                let accuracy = section.entry(method, pattern)?.accuracy(confidence)?;
                Some((*method, accuracy))
            });
            let found: Vec<(&str, Accuracy)> = found.collect();
            // Without a pruned model there is nothing to see.
            let pruned = found.iter().any(|(method, _)| *method != DENSE);
            let task = section.measure.label();
            pruned.then_some(Group { task, found })
        });
        let groups: Vec<Group> = groups.collect();
        if !groups.is_empty() {
            panels.push((pattern, groups));
        }
    }
    let data = panels.iter().flat_map(|(pattern, groups)| {
        groups.iter().flat_map(move |group| {
            let row = move |(method, found): &(&str, Accuracy)| row(*pattern, &group.task, method, found);
            group.found.iter().map(row)
        })
    });
    let data: Vec<CsvRow> = data.collect();
    let all = panels.iter().map(|(_, groups)| groups.len()).max().unwrap_or(0);
    let most = (ROWS / methods.len()).max(1);
    for (_, groups) in &mut panels {
        groups.truncate(most);
    }
    let ends = panels
        .iter()
        .flat_map(|(_, groups)| groups)
        .flat_map(|group| &group.found);
    let ends = ends.flat_map(|(_, found)| [found.interval.low, found.interval.high]);
    let Some((low, high)) = extent(ends.map(|end| 100.0 * end)) else {
        return Ok(None);
    };
    let tasks = panels
        .iter()
        .flat_map(|(_, groups)| groups)
        .map(|group| group.task.as_str());
    let names = Rows::new(tasks, WIDTH / 3, ROW);
    let axis = PlotAxis::new((low - 1.0).max(0.0), (high + 1.0).min(100.0), names.left, RIGHT);
    let shown = |method: &&&str| data.iter().any(|row| row.iter().any(|(_, value)| value == **method));
    let mut items: Vec<Item> = methods
        .iter()
        .filter(shown)
        .map(|method| Item {
            key: Key::Marker(look(cast, method)),
            text: cast.labels.label(method).to_string(),
        })
        .collect();
    items.push(Item {
        key: Key::Bar,
        text: format!("{} over documents", percent(confidence)),
    });
    let above = names.height - ROW;
    let height = |groups: &[Group]| groups.iter().map(|group| group.height() + above).sum::<i32>();
    let bottom = TOP + panels.iter().map(|(_, groups)| height(groups) + PANEL).sum::<i32>();
    let legend = bottom + 34;
    let model = sections.first().map_or("", |section| section.model.as_str());
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&format!("{model}: accuracy"))?;
        let mut top = TOP;
        for (pattern, groups) in &panels {
            canvas.text(&pattern.to_string(), (10, top + 8), TEXT, Anchor::Left)?;
            let from = top + 20;
            let to = from + height(groups);
            canvas.horizontal(&axis, from, to)?;
            let mut at = from;
            for group in groups {
                draw_group(canvas, group, (at, above), (&names, &axis), cast)?;
                at += group.height() + above;
                if at < to {
                    canvas.line(&[(names.left, at), (RIGHT, at)], GRID, 1)?;
                }
            }
            canvas.line(&[(names.left, from), (names.left, to)], INK, 1)?;
            top = to + PANEL - 20;
        }
        canvas.text(
            "accuracy, % (higher is better)",
            (WIDTH / 2, bottom + 10),
            TEXT,
            Anchor::Middle,
        )?;
        canvas.legend(&items, legend)
    })?;
    let caption = format!(
        "Accuracy of {model} on each task with its {} interval over documents; a panel per pattern.{}",
        percent(confidence),
        cut(all.min(most), all, "tasks")
    );
    Ok(Some(Drawn { caption, svg, data }))
}

/// Draws a task from this height on, with its name, which may stand above its rows.
fn draw_group(
    canvas: &Canvas,
    group: &Group,
    (top, above): (i32, i32),
    (names, axis): (&Rows, &PlotAxis),
    cast: &Cast,
) -> Result<()> {
    let rows = top + above + BETWEEN / 2;
    let middle = match above {
        0 => rows + ROW * group.found.len() as i32 / 2,
        _ => rows + ROW / 2,
    };
    names.name(canvas, &group.task, middle)?;
    for (index, (method, found)) in group.found.iter().enumerate() {
        let look = look(cast, method);
        let y = rows + ROW * index as i32 + ROW / 2;
        let place = |share: f64| axis.place(100.0 * share);
        let ends = [(place(found.interval.low), y), (place(found.interval.high), y)];
        canvas.line(&ends, look.colour, 2)?;
        canvas.marker((place(found.value), y), look, 4, false)?;
    }
    Ok(())
}

/// The colour and marker of a method; the dense model is no method.
fn look(cast: &Cast, method: &str) -> Look {
    match method {
        DENSE => Look::round(INK),
        method => cast.looks.look(method),
    }
}

fn row(pattern: Pattern, task: &str, method: &str, found: &Accuracy) -> CsvRow {
    vec![
        ("pattern", json!(pattern.to_string())),
        ("task", json!(task)),
        ("method", json!(method)),
        ("accuracy", json!(100.0 * found.value)),
        ("low", json!(100.0 * found.interval.low)),
        ("high", json!(100.0 * found.interval.high)),
    ]
}
