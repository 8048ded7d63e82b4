//! Perplexity over sparsity.

use super::canvas::{Anchor, Item, Key, Look, PlotAxis, TEXT, WIDTH, draw, extent, legend_height};
use super::plot::heading;
use crate::error::Result;
use crate::prune::pattern::Pattern;
use crate::report::format::percent;
use crate::report::results::{MethodResult, Section};

const TOP: i32 = 44;
const BOTTOM: i32 = 390;
const LEFT: i32 = 74;
const RIGHT: i32 = WIDTH - 16;

/// Caption and picture; `None` if there is nothing to draw. Each method has a line through its unstructured patterns
/// and open markers for its N:M patterns, with intervals over seeds, on a logarithmic axis.
pub fn plot(section: &Section, methods: &[&str], confidence: f64) -> Result<Option<(String, String)>> {
    let points: Vec<&MethodResult> = section.entries.iter().filter(|entry| entry.summary.is_some()).collect();
    let sparsity = |entry: &MethodResult| 100.0 * entry.pattern.map_or(0.0, |pattern| pattern.sparsity());
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
    let (Some((left, right)), Some((low, high))) = (extent(points.iter().map(|it| sparsity(it))), extent(heights))
    else {
        return Ok(None);
    };
    let across = PlotAxis::new(left - 4.0, right + 4.0, LEFT, RIGHT);
    let up = PlotAxis::logarithmic(low / 1.05, high * 1.05, BOTTOM, TOP);
    let shown: Vec<usize> = (0..methods.len())
        .filter(|index| points.iter().any(|entry| entry.method == methods[*index]))
        .collect();
    let structured = |entry: &MethodResult| matches!(entry.pattern, Some(Pattern::NofM { .. }));

    let mut items: Vec<Item> = shown
        .iter()
        .map(|index| Item {
            key: Key::Method(Look::of(*index)),
            text: methods[*index].to_string(),
        })
        .collect();
    if section.dense_value().is_some() {
        items.push(Item {
            key: Key::Dashed,
            text: "dense".to_string(),
        });
    }
    let mut groups: Vec<String> = Vec::new();
    for entry in points.iter().filter(|entry| structured(entry)) {
        let name = entry.pattern.map(|pattern| pattern.to_string()).unwrap_or_default();
        if !groups.contains(&name) {
            groups.push(name);
        }
    }
    if !groups.is_empty() {
        items.push(Item {
            key: Key::Filled(true),
            text: format!("open: {}", groups.join(", ")),
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

    let legend = BOTTOM + 50;
    let svg = draw(legend + legend_height(&items) + 8, |canvas| {
        canvas.text(&heading(section), ((LEFT + RIGHT) / 2, 22), TEXT + 3, Anchor::Middle)?;
        canvas.horizontal(&across, TOP, BOTTOM)?;
        canvas.vertical(&up, LEFT, RIGHT)?;
        canvas.text(
            "sparsity, % of weights removed",
            ((LEFT + RIGHT) / 2, BOTTOM + 34),
            TEXT,
            Anchor::Middle,
        )?;
        canvas.upright("perplexity (log scale)", (18, (TOP + BOTTOM) / 2))?;
        if let Some(dense) = section.dense_value() {
            let y = up.place(dense);
            canvas.dashed((LEFT, y), (RIGHT, y), super::canvas::INK)?;
        }
        for (order, index) in shown.iter().enumerate() {
            let look = Look::of(*index);
            // Values at the same sparsity would hide each other: every method steps a little aside.
            let aside = 7 * order as i32 - 7 * (shown.len() as i32 - 1) / 2;
            let own = points.iter().filter(|entry| entry.method == methods[*index]);
            let place = |entry: &MethodResult, mean: f64| (across.place(sparsity(entry)) + aside, up.place(mean));
            let mut line = Vec::new();
            let mut marks = Vec::new();
            for entry in own {
                let Some(summary) = &entry.summary else { continue };
                let (x, y) = place(entry, summary.mean);
                if let Some(interval) = summary.interval {
                    canvas.line(
                        &[(x, up.place(interval.low)), (x, up.place(interval.high))],
                        look.colour,
                        2,
                    )?;
                }
                if !structured(entry) {
                    line.push((x, y));
                }
                marks.push(((x, y), structured(entry)));
            }
            line.sort_unstable();
            canvas.line(&line, look.colour, 1)?;
            for (place, open) in marks {
                canvas.marker(place, look, 5, open)?;
            }
        }
        canvas.legend(&items, legend)
    })?;
    let caption = format!(
        "Perplexity over sparsity, {}: a line per method through its unstructured patterns{}.",
        heading(section),
        if groups.is_empty() {
            ""
        } else {
            ", open markers for N:M patterns"
        }
    );
    Ok(Some((caption, svg)))
}
