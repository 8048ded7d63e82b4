//! Perplexity by two axes: a panel per pattern, a line per value of the first axis, the values of the second side by side.

use super::canvas::{
    Anchor, GRID, INK, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height, shortened, width,
};
use super::look::Looks;
use super::plot::{Drawn, heading};
use crate::error::Result;
use crate::experiment::axes::{alike, value};
use crate::experiment::axis::Axis;
use crate::experiment::plan::{Experiment, MethodPlan};
use crate::prune::pattern::Pattern;
use crate::report::csv::CsvRow;
use crate::report::format::percent;
use crate::report::results::Section;
use crate::stats::Summary;
use serde_json::json;

const TOP: i32 = 44;

/// Height of a panel without its heading and the names below it.
const PANEL: i32 = 150;

/// Height of a panel with both.
const ROOM: i32 = PANEL + 56;

/// Size of the names below a panel.
const SMALL: i32 = TEXT - 4;

/// Pixels between panels.
const MARGIN: i32 = 16;

/// Pixels at the left of a panel for the numbers of its axis.
const NUMBERS: i32 = 52;

/// The pictures of a section: one for each set of methods that are alike on all axes but the first pair that the experiment has
/// tables of. Each has the end of its name.
pub fn plots(section: &Section, experiment: &Experiment) -> Result<Vec<(String, Drawn)>> {
    let mut drawn = Vec::new();
    for (name, axes, rest, methods) in pictures(experiment) {
        if let Some(picture) = plot(section, experiment, axes, &rest, &methods)? {
            drawn.push((name, picture));
        }
    }
    Ok(drawn)
}

/// What an experiment's pictures are called, without model and measure.
pub fn names(experiment: &Experiment) -> Vec<String> {
    pictures(experiment).into_iter().map(|(name, ..)| name).collect()
}

type Picture<'a> = (String, [Axis; 2], String, Vec<&'a MethodPlan>);

fn pictures(experiment: &Experiment) -> Vec<Picture<'_>> {
    let Some(axes) = experiment.tables.first() else {
        return Vec::new();
    };
    let groups = alike(*axes, experiment).into_iter();
    let pictures = groups.map(|(rest, methods)| {
        let [lines, across] = axes;
        let rest = rest.join(", ");
        let name = match rest.is_empty() {
            true => format!("axes-{lines}-{across}"),
            false => format!("axes-{lines}-{across}-{rest}"),
        };
        (name, *axes, rest, methods)
    });
    pictures.collect()
}

/// What one method scored under one pattern.
struct Point<'a> {
    line: String,
    across: String,
    pattern: Pattern,
    summary: &'a Summary,
}

/// `None` if there are no two values of each axis with results.
fn plot(
    section: &Section,
    experiment: &Experiment,
    [lines, across]: [Axis; 2],
    rest: &str,
    methods: &[&MethodPlan],
) -> Result<Option<Drawn>> {
    let mut points = Vec::new();
    for pattern in &experiment.patterns {
        for method in methods {
            let entry = section.entry(&method.name, *pattern);
            points.extend(entry.and_then(|entry| entry.summary.as_ref()).map(|summary| Point {
                line: value(lines, method, experiment),
                across: value(across, method, experiment),
                pattern: *pattern,
                summary,
            }));
        }
    }
    let [names, columns] = [
        distinct(points.iter().map(|point| point.line.clone())),
        distinct(points.iter().map(|point| point.across.clone())),
    ];
    let patterns = distinct(points.iter().map(|point| point.pattern));
    if names.len() < 2 || columns.len() < 2 {
        return Ok(None);
    }
    let looks = Looks::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut items: Vec<Item> = names
        .iter()
        .map(|name| Item {
            key: Key::Method(looks.look(name)),
            text: name.clone(),
        })
        .collect();
    if points.iter().any(|point| point.summary.interval.is_some()) {
        items.push(Item {
            key: Key::Whisker,
            text: format!("{} over seeds", percent(experiment.confidence)),
        });
    }
    let abreast = if columns.len() <= 4 { 2.min(patterns.len()) } else { 1 } as i32;
    let wide = (WIDTH - 2 * MARGIN) / abreast;
    let deep = (patterns.len() as i32 + abreast - 1) / abreast;
    let legend = TOP + deep * ROOM + 8;
    let title = match rest.is_empty() {
        true => format!("{} by {lines} and {across}", heading(section)),
        false => format!("{} by {lines} and {across} ({rest})", heading(section)),
    };
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&title)?;
        for (index, pattern) in patterns.iter().enumerate() {
            let own: Vec<&Point> = points.iter().filter(|point| point.pattern == *pattern).collect();
            let heights = own
                .iter()
                .flat_map(|point| ends(point.summary))
                .filter(|height| *height > 0.0);
            let Some((low, high)) = extent(heights) else { continue };
            let left = MARGIN + NUMBERS + wide * (index as i32 % abreast);
            let right = left - NUMBERS + wide - MARGIN;
            let top = TOP + ROOM * (index as i32 / abreast) + 22;
            let bottom = top + PANEL;
            let up = PlotAxis::logarithmic(low / 1.05, high * 1.05, bottom, top);
            canvas.text(
                &pattern.to_string(),
                ((left + right) / 2, top - 12),
                TEXT,
                Anchor::Middle,
            )?;
            canvas.vertical(&up, left, right)?;
            canvas.line(&[(left, bottom), (right, bottom)], INK, 1)?;
            let band = (right - left) / columns.len() as i32;
            let middle = |column: &String| {
                let place = columns.iter().position(|it| it == column).unwrap_or(0) as i32;
                left + band * place + band / 2
            };
            let rooms = rooms(&columns, band);
            for (column, room) in columns.iter().zip(&rooms) {
                let x = middle(column);
                canvas.line(&[(x, top), (x, bottom)], GRID, 1)?;
                let name = shortened(column, *room, SMALL);
                canvas.text(&name, (x, bottom + 13), SMALL, Anchor::Middle)?;
            }
            for (order, name) in names.iter().enumerate() {
                let look = looks.look(name);
                let aside = 3 * (2 * order as i32 - (names.len() as i32 - 1)) / 2;
                let of_line: Vec<&&Point> = own.iter().filter(|point| point.line == *name).collect();
                let place = |point: &Point| (middle(&point.across) + aside, up.place(point.summary.mean));
                let line: Vec<(i32, i32)> = of_line.iter().map(|point| place(point)).collect();
                canvas.line(&line, look.colour, 1)?;
                for point in of_line {
                    let (x, y) = place(point);
                    if let Some(interval) = point.summary.interval {
                        canvas.line(
                            &[(x, up.place(interval.low)), (x, up.place(interval.high))],
                            look.colour,
                            2,
                        )?;
                    }
                    canvas.marker((x, y), look, 4, false)?;
                }
            }
        }
        canvas.legend(&items, legend)
    })?;
    let caption = format!(
        "Perplexity (log scale) by {lines} and {across}, {}{}: a panel per pattern, each with its own scale, and a line per {lines}.",
        heading(section),
        match rest.is_empty() {
            true => String::new(),
            false => format!(", {rest}"),
        }
    );
    let data = points.iter().map(|point| row(point, [lines, across])).collect();
    Ok(Some(Drawn { caption, svg, data }))
}

/// Pixels for each name below a panel: its band, and what its neighbours leave of theirs.
fn rooms(names: &[String], band: i32) -> Vec<i32> {
    let spare = |place: Option<usize>| match place.and_then(|place| names.get(place)) {
        Some(name) => (band - width(name, SMALL)).max(0) / 2,
        None => MARGIN,
    };
    let room = |place: usize| band + 2 * spare(place.checked_sub(1)).min(spare(Some(place + 1)));
    (0..names.len()).map(room).collect()
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// What an axis must reach.
fn ends(summary: &Summary) -> impl Iterator<Item = f64> {
    let interval = summary.interval.map(|interval| [interval.low, interval.high]);
    [summary.mean].into_iter().chain(interval.into_iter().flatten())
}

fn row(point: &Point, [lines, across]: [Axis; 2]) -> CsvRow {
    let interval = point.summary.interval;
    vec![
        ("pattern", json!(point.pattern.to_string())),
        ("axis", json!(lines.to_string())),
        ("value", json!(point.line)),
        ("other_axis", json!(across.to_string())),
        ("other_value", json!(point.across)),
        ("perplexity", json!(point.summary.mean)),
        ("low", json!(interval.map(|interval| interval.low))),
        ("high", json!(interval.map(|interval| interval.high))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_takes_the_room_that_its_neighbours_leave() {
        let names = ["one-shot", "obs", "least-squares"].map(String::from);
        let band = 52;
        let rooms = rooms(&names, band);
        for (name, room) in names.iter().zip(&rooms) {
            assert_eq!(shortened(name, *room, SMALL), *name);
        }
        let long = ["least-squares", "least-squares"].map(String::from);
        assert_eq!(super::rooms(&long, band), [band, band]);
    }
}
