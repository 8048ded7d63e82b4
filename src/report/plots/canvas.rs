//! What all plots share: a canvas in pixels, axes with round ticks, colours and shapes of methods, legends.
//!
//! Plots are 480 pixels wide, so that their text can still be read when a page shrinks them to a telephone's width.

use super::look::Look;
use crate::error::{Error, Result};
use crate::stats::Shown;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// Width of every plot in pixels.
pub const WIDTH: i32 = 480;

/// Height of one row of a legend, in pixels.
const LEGEND_ROW: i32 = 24;

/// Size of ordinary text in pixels.
pub const TEXT: i32 = 15;

/// Colour of the lines of the grid.
pub const GRID: RGBColor = RGBColor(224, 224, 224);

/// Colour of text and axes.
pub const INK: RGBColor = BLACK;

/// Colour of what is drawn in the background: single seeds.
pub const FAINT: RGBColor = RGBColor(127, 127, 127);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Which point of a text is placed at the given position.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// The left end of the text.
    Left,
    /// The middle of the text.
    Middle,
    /// The right end of the text.
    Right,
}

/// A picture that is drawn on; positions are in pixels from the upper left corner.
pub struct Canvas<'a> {
    area: Area<'a>,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::output(Path::new("a plot"), error)
}

/// Draws a picture of this height in pixels; returns the text of an SVG file.
///
/// # Errors
/// The drawing library fails.
pub fn draw(height: i32, content: impl FnOnce(&Canvas) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height.max(1) as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let canvas = Canvas { area };
    content(&canvas)?;
    canvas.area.present().map_err(failed)?;
    drop(canvas);
    Ok(svg)
}

impl Canvas<'_> {
    /// Draws a line through points; `width` is in pixels.
    pub fn line(&self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()> {
        self.area
            .draw(&PathElement::new(points.to_vec(), colour.stroke_width(width)))
            .map_err(failed)
    }

    /// A horizontal or vertical dashed line.
    pub fn dashed(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        let length = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        let at = |place: i32| {
            let place = place.min(length);
            (
                from.0 + (to.0 - from.0) * place / length,
                from.1 + (to.1 - from.1) * place / length,
            )
        };
        (0..length)
            .step_by(9)
            .try_for_each(|place| self.line(&[at(place), at(place + 5)], colour, 1))
    }

    /// Draws a filled rectangle between two corners.
    pub fn rectangle(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        self.area
            .draw(&Rectangle::new([from, to], colour.filled()))
            .map_err(failed)
    }

    /// Draws a method's marker, filled or open; `radius` is in pixels.
    pub fn marker(&self, (x, y): (i32, i32), look: Look, radius: i32, open: bool) -> Result<()> {
        if look.shape.is_empty() {
            let inside = if open { WHITE } else { look.colour };
            let circle = |style: ShapeStyle| self.area.draw(&Circle::new((x, y), radius, style)).map_err(failed);
            circle(inside.filled())?;
            return circle(look.colour.stroke_width(2));
        }
        // An outline as a line would have a gap where it ends; one shape upon the other has none.
        let tenths = 10 * radius;
        let filled = |tenths: i32, colour: RGBColor| {
            let place = |(right, down): &(i32, i32)| (x + right * tenths / 100, y + down * tenths / 100);
            let points: Vec<(i32, i32)> = look.shape.iter().map(place).collect();
            self.area.draw(&Polygon::new(points, colour.filled())).map_err(failed)
        };
        filled(tenths + 12, look.colour)?;
        match open {
            true => filled((tenths - 18).max(0), WHITE),
            false => Ok(()),
        }
    }

    /// Draws a title at the top: smaller if it is long, and in several lines if it is longer.
    pub fn title(&self, text: &str) -> Result<()> {
        let (lines, size) = title_lines(text);
        let apart = if lines.len() > 2 { size + 1 } else { size + 3 };
        let first = 20 - apart * (lines.len() as i32 - 1) / 2;
        for (line, y) in lines.iter().zip((first..).step_by(apart as usize)) {
            self.text(line, (WIDTH / 2, y), size, Anchor::Middle)?;
        }
        Ok(())
    }

    /// Draws text whose middle height is at `place`.
    pub fn text(&self, text: &str, place: (i32, i32), size: i32, anchor: Anchor) -> Result<()> {
        let style = TextStyle::from(("sans-serif", size).into_font())
            .color(&INK)
            .pos(anchor.position());
        self.area
            .draw(&Text::new(text.to_string(), place, style))
            .map_err(failed)
    }

    /// Draws text that runs from bottom to top, with its middle at `place`.
    pub fn upright(&self, text: &str, place: (i32, i32)) -> Result<()> {
        let font = ("sans-serif", TEXT).into_font().transform(FontTransform::Rotate270);
        let style = TextStyle::from(font).color(&INK).pos(Anchor::Middle.position());
        self.area
            .draw(&Text::new(text.to_string(), place, style))
            .map_err(failed)
    }

    /// Draws the grid lines of an axis between two heights, and its numbers below the plot.
    pub fn horizontal(&self, axis: &PlotAxis, top: i32, bottom: i32) -> Result<()> {
        for tick in axis.ticks() {
            let x = axis.place(tick);
            self.line(&[(x, top), (x, bottom)], GRID, 1)?;
            self.text(&axis.label(tick), (x, bottom + 13), TEXT - 1, Anchor::Middle)?;
        }
        self.line(&[(axis.from, bottom), (axis.to, bottom)], INK, 1)
    }

    /// Draws the grid lines of an axis between `left` and `right`, and its numbers at the left of the plot.
    pub fn vertical(&self, axis: &PlotAxis, left: i32, right: i32) -> Result<()> {
        for tick in axis.ticks() {
            let y = axis.place(tick);
            self.line(&[(left, y), (right, y)], GRID, 1)?;
            self.text(&axis.label(tick), (left - 8, y), TEXT - 1, Anchor::Right)?;
        }
        self.line(&[(left, axis.from), (left, axis.to)], INK, 1)
    }

    /// Draws a legend from `top` downwards; its height is [`legend_height`].
    pub fn legend(&self, items: &[Item], top: i32) -> Result<()> {
        let columns = legend_columns(items);
        let width = (WIDTH - 40) / columns as i32;
        for (index, item) in items.iter().enumerate() {
            let x = 20 + width * (index % columns) as i32;
            let y = top + LEGEND_ROW / 2 + LEGEND_ROW * (index / columns) as i32;
            match item.key {
                Key::Method(look) => {
                    self.line(&[(x, y), (x + 24, y)], look.colour, 1)?;
                    self.marker((x + 12, y), look, 5, false)?;
                }
                Key::Marker(look) => self.marker((x + 12, y), look, 5, false)?,
                Key::Dashed => self.dashed((x, y), (x + 24, y), INK)?,
                Key::Whisker => self.line(&[(x + 12, y - 9), (x + 12, y + 9)], INK, 2)?,
                Key::Bar => self.line(&[(x, y), (x + 24, y)], INK, 2)?,
                Key::Dot => self.marker((x + 12, y), Look::round(FAINT), 2, false)?,
                Key::Filled(open) => self.marker((x + 12, y), Look::round(INK), 5, open)?,
            }
            self.text(
                &shortened(&item.text, width - 32, TEXT),
                (x + 32, y),
                TEXT,
                Anchor::Left,
            )?;
        }
        Ok(())
    }
}

impl Anchor {
    fn position(self) -> Pos {
        let horizontal = match self {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        Pos::new(horizontal, VPos::Center)
    }
}

/// The symbol of an item in a legend.
#[derive(Debug, Clone, Copy)]
pub enum Key {
    /// A method's marker on a line, as in plots with a line per method.
    Method(Look),
    /// A marker without a line.
    Marker(Look),
    /// A dashed line without a marker.
    Dashed,
    /// An upright line, for intervals.
    Whisker,
    /// A horizontal line, for intervals.
    Bar,
    /// A small grey dot, for single seeds.
    Dot,
    /// A round marker that belongs to no method, filled or open.
    Filled(bool),
}

/// An entry of a legend.
#[derive(Debug, Clone)]
pub struct Item {
    /// The symbol of the entry.
    pub key: Key,
    /// The text beside the symbol.
    pub text: String,
}

/// The width of a text in pixels, about: a letter is half as wide as high.
pub fn width(text: &str, size: i32) -> i32 {
    text.chars().count() as i32 * size * 11 / 20
}

/// The lines of a title, and their size. There is room for three above a plot; what is longer still is shortened.
fn title_lines(text: &str) -> (Vec<String>, i32) {
    const ROOM: i32 = WIDTH - 10;
    let letters = text.chars().count() as i32;
    let size = (2 * (WIDTH - 20) / letters.max(1)).clamp(TEXT - 3, TEXT + 3);
    if width(text, size) <= ROOM {
        return (vec![text.to_string()], size);
    }
    for (most, size) in [(2, TEXT - 1), (2, TEXT - 3), (3, TEXT - 3)] {
        let lines = broken(text, ROOM, size);
        if lines.len() <= most {
            // As narrow as so many lines can be, so that no word is alone in the last one.
            let longest = text
                .split(' ')
                .map(|word| width(word, size) + size)
                .max()
                .unwrap_or(ROOM);
            let mut narrower = (longest.min(ROOM)..=ROOM).map(|room| broken(text, room, size));
            let even = narrower.find(|narrow| narrow.len() == lines.len());
            return (even.unwrap_or(lines), size);
        }
    }
    let size = TEXT - 3;
    let lines = broken(text, ROOM, size);
    let rest = shortened(&lines[2..].join(" "), ROOM, size);
    (vec![lines[0].clone(), lines[1].clone(), rest], size)
}

/// A text in lines that are no wider than `room` pixels, broken between words, and within a word that is wider.
fn broken(text: &str, room: i32, size: i32) -> Vec<String> {
    let letters = (20 * room / (11 * size)).max(1) as usize;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let word: Vec<char> = word.chars().collect();
        for (piece, part) in word.chunks(letters).enumerate() {
            let part: String = part.iter().collect();
            let long = part.chars().count() + 1;
            match lines.last_mut().filter(|_| piece == 0) {
                Some(line) if line.chars().count() + long <= letters => line.push_str(&format!(" {part}")),
                _ => lines.push(part),
            }
        }
    }
    lines
}

/// A text that is no wider than `room` pixels; what is cut off at the end leaves an ellipsis.
pub fn shortened(text: &str, room: i32, size: i32) -> String {
    if width(text, size) <= room {
        return text.to_string();
    }
    let letters = (20 * room / (11 * size) - 1).max(1) as usize;
    text.chars().take(letters).chain(['…']).collect()
}

/// Number of items that fit beside each other.
fn legend_columns(items: &[Item]) -> usize {
    let width = 44 + items.iter().map(|item| width(&item.text, TEXT)).max().unwrap_or(0);
    ((WIDTH - 40) / width.max(1)).clamp(1, 4) as usize
}

/// Height of a legend in pixels.
pub fn legend_height(items: &[Item]) -> i32 {
    LEGEND_ROW * items.len().div_ceil(legend_columns(items)) as i32
}

/// A scale that places numbers along a line of pixels.
#[derive(Debug, Clone, Copy)]
pub struct PlotAxis {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: i32,
    to: i32,
    most_ticks: f64,
}

impl PlotAxis {
    /// A linear scale from `low` at pixel `from` to `high` at pixel `to`. Ends that are equal are moved apart.
    pub fn new(low: f64, high: f64, from: i32, to: i32) -> PlotAxis {
        let room = if high > low { 0.0 } else { 0.05 * low.abs().max(1e-3) };
        // Numbers need about 60 pixels beside each other and 30 above each other.
        let most_ticks = if to > from {
            f64::from(to - from) / 60.0
        } else {
            f64::from(from - to) / 30.0
        };
        PlotAxis {
            low: low - room,
            high: high + room,
            logarithmic: false,
            from,
            to,
            most_ticks: most_ticks.clamp(2.0, 9.0),
        }
    }

    /// A logarithmic scale; both ends are positive.
    pub fn logarithmic(low: f64, high: f64, from: i32, to: i32) -> PlotAxis {
        PlotAxis {
            logarithmic: true,
            ..PlotAxis::new(low, high, from, to)
        }
    }

    /// The pixel of a value; values beyond an end are placed at that end.
    pub fn place(&self, value: f64) -> i32 {
        let share = match self.logarithmic {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        let length = f64::from(self.to - self.from);
        self.from + (share.clamp(0.0, 1.0) * length).round() as i32
    }

    /// Round numbers between the ends: multiples of a round step. On a logarithmic axis whose ends are far apart they
    /// are 1, 2 and 5 times powers of ten, or only the powers.
    fn ticks(&self) -> Vec<f64> {
        let within = |tick: &f64| (self.low..=self.high).contains(tick);
        if self.logarithmic && self.high / self.low > 8.0 {
            let decades = || (-9..15).map(|power| 10f64.powi(power));
            let rounds: Vec<f64> = decades()
                .flat_map(|ten| [ten, 2.0 * ten, 5.0 * ten])
                .filter(within)
                .collect();
            return match rounds.len() as f64 > self.most_ticks {
                true => decades().filter(within).collect(),
                false => rounds,
            };
        }
        let step = self.step();
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|index| index as f64 * step).collect()
    }

    /// The smallest round step that gives few enough ticks.
    fn step(&self) -> f64 {
        let least = (self.high - self.low) / self.most_ticks;
        let ten = 10f64.powf(least.log10().floor());
        [1.0, 2.0, 5.0]
            .into_iter()
            .map(|factor| factor * ten)
            .find(|step| *step >= least * 0.999)
            .unwrap_or(10.0 * ten)
    }

    /// The number at a tick, with enough digits to tell it from its neighbours.
    fn label(&self, tick: f64) -> String {
        let finest = match self.logarithmic && self.high / self.low > 8.0 {
            true => tick,
            false => self.step(),
        };
        let digits = (-finest.log10().floor()).clamp(0.0, 6.0) as usize;
        // Not "-0".
        let tick = if tick == 0.0 { 0.0 } else { tick };
        format!("{:.digits$}", Shown(tick))
    }
}

/// The smallest and largest value that an axis must cover; `None` without values.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_whole_in_one_to_three_lines() {
        let long =
            "SmolLM2-135M-Instruct-of-a-long-name: perplexity on wikitext2-test, context 2048: paired differences";
        let longer = format!(
            "{long} of methods that remove whole heads, neurons and blocks, and of methods that remove weights"
        );
        let word = "a".repeat(150);
        for (title, count) in [
            ("tiny-llama: perplexity", 1),
            (long, 2),
            (longer.as_str(), 3),
            (word.as_str(), 3),
        ] {
            let (lines, size) = title_lines(title);
            assert_eq!(lines.len(), count, "{lines:?}");
            assert!(lines.iter().all(|line| width(line, size) <= WIDTH), "{lines:?}");
            let together: String = lines.concat().split(' ').collect();
            assert_eq!(together, title.split(' ').collect::<String>());
        }
        let (lines, _) = title_lines(&"word ".repeat(100));
        assert!(lines.len() == 3 && lines[2].ends_with('…'), "{lines:?}");
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let axis = PlotAxis::logarithmic(38.2, 81.7, 300, 0);
        assert_eq!(axis.ticks(), [40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0]);
        let wide = PlotAxis::logarithmic(5.0, 3000.0, 400, 0);
        assert_eq!(
            wide.ticks(),
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
        );
        let line = PlotAxis::new(-0.31, 0.12, 0, 300);
        assert_eq!(line.ticks().len(), 5);
        assert_eq!(line.label(-0.2), "-0.2");
    }

    #[test]
    fn values_without_spread_have_an_axis_and_values_beyond_it_stay_inside() {
        let axis = PlotAxis::new(5.0, 5.0, 0, 100);
        assert_eq!(axis.place(5.0), 50);
        assert_eq!(axis.place(1e9), 100);
        assert!(!axis.ticks().is_empty());
    }
}
