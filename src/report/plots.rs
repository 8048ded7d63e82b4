//! Plots in SVG. Returns text, opens no file.

use super::{Entry, Section};
use crate::error::{Error, Result};
use crate::prune::pattern::Pattern;
use plotters::prelude::*;
use std::path::Path;

/// Width and height in pixels.
const SIZE: (u32, u32) = (820, 480);

/// Colours that stay apart in print and for the colour-blind (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// Perplexity over sparsity on a logarithmic axis: a line per method through its unstructured patterns,
/// with intervals, and open squares for N:M patterns. `None` while there is nothing to draw.
///
/// # Errors
/// The drawing library fails.
pub fn perplexity(section: &Section, confidence: f64) -> Result<Option<String>> {
    let points: Vec<&Entry> = section.entries.iter().filter(|entry| entry.summary.is_some()).collect();
    if points.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(section, &points, confidence, &mut svg).map_err(|error| Error::output(Path::new("perplexity plot"), error))?;
    Ok(Some(svg))
}

/// The values an axis must cover.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

/// Round numbers between the ends of a logarithmic axis: multiples of a round step while the ends are
/// near each other, 1, 2 and 5 times powers of ten beyond.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
    let decades = (-3..9).map(|power| 10f64.powi(power));
    let rounds: Vec<f64> = decades.flat_map(|decade| STEPS.map(|step| step * decade)).collect();
    if high / low > 8.0 {
        return rounds.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
    }
    let step = rounds
        .into_iter()
        .find(|step| (high - low) / step <= 8.0)
        .unwrap_or(high);
    let first = (low / step).ceil() as u64;
    (first..)
        .map(|index| index as f64 * step)
        .take_while(|tick| *tick <= high)
        .collect()
}

fn draw(
    section: &Section,
    points: &[&Entry],
    confidence: f64,
    svg: &mut String,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let sparsity = |entry: &Entry| 100.0 * entry.pattern.map_or(0.0, |pattern| pattern.sparsity());
    let (left, right) = extent(points.iter().map(|entry| sparsity(entry)));
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
    let (low, high) = extent(heights.chain(section.dense).filter(|height| *height > 0.0));

    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (plot, legend) = area.split_horizontally(SIZE.0 - 190);
    let mut chart = ChartBuilder::on(&plot)
        .caption(
            format!("{} on {}", section.model, section.evaluation),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (left - 4.0)..(right + 4.0),
            (low / 1.06..high * 1.06)
                .log_scale()
                .with_key_points(ticks(low / 1.06, high * 1.06)),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(228, 228, 228))
        .x_desc("sparsity, % of weights removed")
        .y_desc("perplexity (log scale)")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| {
            if *y < 100.0 {
                format!("{y:.1}")
            } else {
                format!("{y:.0}")
            }
        })
        .label_style(("sans-serif", 13))
        .draw()?;
    if let Some(dense) = section.dense {
        let line = [(left - 4.0, dense), (right + 4.0, dense)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, BLACK.stroke_width(1)))?;
    }

    let mut methods: Vec<&str> = Vec::new();
    for entry in points {
        if !methods.contains(&entry.method.as_str()) {
            methods.push(&entry.method);
        }
    }
    for (index, method) in methods.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        // Intervals at the same sparsity would hide each other: every method steps a little aside.
        let aside = 0.5 * (index as f64 - (methods.len() as f64 - 1.0) / 2.0);
        let own = points.iter().filter(|entry| entry.method == *method);
        let mut line = Vec::new();
        for entry in own {
            let Some(summary) = &entry.summary else { continue };
            let place = (sparsity(entry) + aside, summary.mean);
            if let Some(interval) = summary.interval {
                let ends = [(place.0, interval.low.max(low / 1.06)), (place.0, interval.high)];
                chart.draw_series(LineSeries::new(ends, colour.stroke_width(2)))?;
            }
            if matches!(entry.pattern, Some(Pattern::Structured { .. })) {
                let square = EmptyElement::at(place) + Rectangle::new([(-4, -4), (4, 4)], colour.stroke_width(2));
                chart.draw_series(std::iter::once(square))?;
            } else {
                line.push(place);
                chart.draw_series(std::iter::once(Circle::new(place, 4, colour.filled())))?;
            }
        }
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(line, colour.stroke_width(1)))?;
    }

    let text = ("sans-serif", 14).into_font();
    for (index, method) in methods.iter().enumerate() {
        let y = 48 + 22 * index as i32;
        let colour = COLOURS[index % COLOURS.len()];
        legend.draw(&PathElement::new([(4, y), (24, y)], colour.stroke_width(2)))?;
        legend.draw(&Circle::new((14, y), 4, colour.filled()))?;
        legend.draw(&Text::new(method.to_string(), (32, y - 7), text.clone()))?;
    }
    let mut y = 48 + 22 * methods.len() as i32;
    if section.dense.is_some() {
        for x in [4, 12, 20] {
            legend.draw(&PathElement::new([(x, y), (x + 5, y)], BLACK.stroke_width(1)))?;
        }
        legend.draw(&Text::new("dense", (32, y - 7), text.clone()))?;
        y += 22;
    }
    let structured: Vec<String> = structured_names(points);
    if !structured.is_empty() {
        legend.draw(&Rectangle::new([(10, y - 4), (18, y + 4)], BLACK.stroke_width(2)))?;
        legend.draw(&Text::new(structured.join(", "), (32, y - 7), text.clone()))?;
        y += 22;
    }
    if points
        .iter()
        .any(|entry| entry.summary.as_ref().is_some_and(|summary| summary.interval.is_some()))
    {
        let small = ("sans-serif", 12).into_font();
        let percent = Pattern::Unstructured { sparsity: confidence };
        legend.draw(&PathElement::new([(14, y - 7), (14, y + 7)], BLACK.stroke_width(2)))?;
        legend.draw(&Text::new(format!("{percent} t-interval"), (32, y - 7), small.clone()))?;
        legend.draw(&Text::new("over seeds", (32, y + 7), small))?;
    }
    area.present()?;
    drop(chart);
    Ok(())
}

fn structured_names(points: &[&Entry]) -> Vec<String> {
    let mut names = Vec::new();
    for entry in points {
        if let Some(pattern @ Pattern::Structured { .. }) = entry.pattern
            && !names.contains(&pattern.to_string())
        {
            names.push(pattern.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(ticks(38.2, 81.7), [40.0, 50.0, 60.0, 70.0, 80.0]);
        assert_eq!(
            ticks(5.0, 3000.0),
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
        );
    }
}
