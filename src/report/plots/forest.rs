//! Paired differences with their intervals, one below the other; those of all tasks of a model in one picture.

use super::canvas::{Anchor, Canvas, FAINT, INK, Item, Key, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::look::Look;
use super::plot::{Drawn, ROWS, cut, heading};
use super::rows::Rows;
use crate::error::Result;
use crate::report::comparison::{ComparisonFamily, Test, TestVerdict};
use crate::report::csv::CsvRow;
use crate::report::format::percent;
use crate::report::labels::Labels;
use crate::report::results::{Measure, Section};
use crate::stats::Interval;
use serde_json::json;

const ROW: i32 = 21;
const TOP: i32 = 44;
const RIGHT: i32 = WIDTH - 20;

/// Height of a panel in addition to its rows, in pixels: the pattern's name and the numbers of the axis.
const PANEL: i32 = 54;

/// Caption and picture of a family's comparisons in some sections, of one model and of measures with one unit, with a panel per measure
/// and pattern; `None` if there are none.
pub fn plot(
    sections: &[&Section],
    family: &ComparisonFamily,
    labels: &Labels,
    confidence: f64,
) -> Result<Option<Drawn>> {
    let Some(section) = sections.first() else {
        return Ok(None);
    };
    let several = sections.len() > 1;
    let mut tests: Vec<&Test> = Vec::new();
    let mut panels: Vec<(String, Vec<&Test>)> = Vec::new();
    for section in sections {
        let here = |test: &&Test| test.model == section.model && test.measure == section.measure;
        let own: Vec<&Test> = family.tests.iter().filter(here).collect();
        for test in &own {
            let name = match several {
                true => format!("{}, {}", test.measure.label(), test.pattern),
                false => test.pattern.to_string(),
            };
            match panels.iter_mut().find(|(panel, _)| *panel == name) {
                Some((_, own)) => own.push(test),
                None => panels.push((name, vec![test])),
            }
        }
        tests.extend(own);
    }
    if tests.is_empty() {
        return Ok(None);
    }
    let data = tests.iter().map(|test| row(test, several, confidence)).collect();
    let heading = match several {
        true => section.model.clone(),
        false => heading(section),
    };
    let all = panels.iter().map(|(_, own)| own.len()).max().unwrap_or(0);
    for (_, own) in &mut panels {
        own.truncate(ROWS);
    }
    let tests: Vec<&Test> = panels.iter().flat_map(|(_, own)| own.iter().copied()).collect();
    let names: Vec<String> = tests.iter().map(|test| label(test, labels)).collect();
    let rows = Rows::new(names.iter().map(String::as_str), WIDTH / 2, ROW);
    let bottom = TOP + rows.height * tests.len() as i32 + PANEL * panels.len() as i32;
    let unit = match section.measure {
        Measure::Perplexity { .. } => "difference in perplexity, % (below 0: first is better)",
        Measure::Divergence { .. } => "difference in KL divergence, nats (below 0: first is better)",
        Measure::Agreement { .. } => "difference in agreement, points (above 0: first is better)",
        Measure::Accuracy { .. } => "difference in accuracy, points (above 0: first is better)",
    };
    let percent = percent(confidence);
    let item = |key, text: String| Item { key, text };
    let told = |test: &&&Test| test.verdict(confidence) != TestVerdict::NotTold;
    let covered = match tests.iter().any(|test| test.seeds.len() > 1) {
        true => "texts and seeds",
        false => "texts",
    };
    let mut items = Vec::new();
    if tests.iter().any(|test| told(&test)) {
        items.push(item(
            Key::Filled(false),
            "significant after Holm's correction".to_string(),
        ));
    }
    if tests.iter().any(|test| !told(&test)) {
        items.push(item(Key::Filled(true), "may be chance".to_string()));
    }
    items.push(item(Key::Bar, format!("{percent} over {covered}")));
    if tests.iter().any(|test| test.seeds.len() > 1) {
        items.push(item(Key::Dot, "one seed".to_string()));
    }
    let legend = bottom + 34;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.title(&format!("{heading}: paired differences"))?;
        let mut top = TOP;
        for (name, tests) in &panels {
            let (from, to) = (top + 20, top + 20 + rows.height * tests.len() as i32);
            canvas.text(name, (10, top + 8), TEXT, Anchor::Left)?;
            panel(canvas, tests, labels, (rows, from, to), confidence)?;
            top = to + PANEL - 20;
        }
        canvas.text(unit, (WIDTH / 2, bottom + 10), TEXT, Anchor::Middle)?;
        canvas.legend(&items, legend)
    })?;
    let any = |what: fn(&Test) -> bool| tests.iter().any(|test| what(test));
    let wide = match any(|test| test.over_both != drawn(test)) {
        true => " Intervals that reach farther than 100 points, as no difference can, end there.",
        false => "",
    };
    let one_seed = match (any(|test| test.one_seed), any(|test| test.lone)) {
        (_, true) => {
            " A difference of one seed, which has no dots, has an interval over texts only, and is not tested with the others."
        }
        (true, false) => " Differences are of one seed: intervals are over texts only.",
        (false, false) => "",
    };
    let caption = format!(
        "Paired differences of the family “{}”, {heading}: the first method less the second on the same texts. Each panel has its own \
         scale.{one_seed}{wide}{}",
        family.name,
        cut(all.min(ROWS), all, "comparisons of a panel")
    );
    Ok(Some(Drawn { caption, svg, data }))
}

/// Draws the comparisons of one pattern between two heights.
fn panel(
    canvas: &Canvas,
    tests: &[&Test],
    labels: &Labels,
    (rows, from, to): (Rows, i32, i32),
    confidence: f64,
) -> Result<()> {
    let ends = tests.iter().flat_map(|test| {
        let ends = [drawn(test).low, drawn(test).high].into_iter();
        let ends = ends.chain(test.seeds.iter().copied());
        ends.map(|end| test.shown(end)).collect::<Vec<_>>()
    });
    let Some((low, high)) = extent(ends.chain([0.0])) else {
        return Ok(());
    };
    // Methods that answer every document alike have no spread at all.
    let room = match high > low {
        true => 0.03 * (high - low),
        false => 1.0,
    };
    let axis = PlotAxis::new(low - room, high + room, rows.left, RIGHT);
    canvas.horizontal(&axis, from, to)?;
    canvas.line(&[(axis.place(0.0), from), (axis.place(0.0), to)], INK, 1)?;
    for (row, test) in tests.iter().enumerate() {
        let y = rows.middle(from, row);
        let at = |value: f64| axis.place(test.shown(value));
        rows.name(canvas, &label(test, labels), y)?;
        canvas.line(&[(at(drawn(test).low), y), (at(drawn(test).high), y)], INK, 2)?;
        let told = test.verdict(confidence) != TestVerdict::NotTold;
        // A difference belongs to two methods, so it has the colour of neither.
        canvas.marker((at(test.difference.mean), y), Look::round(INK), 5, !told)?;
        if test.seeds.len() > 1 {
            for seed in &test.seeds {
                canvas.marker((at(*seed), y + 7), Look::round(FAINT), 2, false)?;
            }
        }
    }
    Ok(())
}

/// The interval as it is drawn: one of shares has no end farther from 0 than all of them.
fn drawn(test: &Test) -> Interval {
    match test.measure {
        Measure::Perplexity { .. } | Measure::Divergence { .. } => test.over_both,
        Measure::Agreement { .. } | Measure::Accuracy { .. } => test.over_both.map(|end| end.clamp(-1.0, 1.0)),
    }
}

fn label(test: &Test, labels: &Labels) -> String {
    format!("{} − {}", labels.label(&test.ours), labels.label(&test.other))
}

fn row(test: &Test, several: bool, confidence: f64) -> CsvRow {
    let seeds: Vec<String> = test.seeds.iter().map(|seed| test.shown(*seed).to_string()).collect();
    let measure = several.then(|| ("measure", json!(test.measure.label())));
    let rest = vec![
        ("pattern", json!(test.pattern.to_string())),
        ("ours", json!(test.ours)),
        ("against", json!(test.other)),
        ("difference", json!(test.shown(test.difference.mean))),
        ("low", json!(test.shown(test.over_both.low))),
        ("high", json!(test.shown(test.over_both.high))),
        ("survives", json!(test.verdict(confidence) != TestVerdict::NotTold)),
        ("by_seed", json!(seeds.join(";"))),
    ];
    measure.into_iter().chain(rest).collect()
}
