//! Points of a space of methods: how many there are, each of them, and random ones.

use super::space::{Node, RawRange};
use crate::data::python_random::PythonRandom;
use crate::error::{Error, Result};
use serde_spanned::Spanned;
use std::collections::HashSet;
use std::ops::Range;

/// Numbers of a range are rounded so that about so many different ones are left: more digits make no difference that could be seen.
const RESOLUTION: i32 = 3;

/// Tables in tables beyond this depth are a slip.
const DEEPEST: usize = 8;

/// A space: values for the keys of a method.
pub type Space<'a> = [(&'a str, &'a Spanned<Node>)];

/// One method of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which of the spaces it is from.
    pub space: usize,
    /// The keys of the method and their values.
    pub keys: Vec<(String, toml::Value)>,
    /// What was chosen: axis and value.
    pub settings: Vec<(String, Setting)>,
}

/// A value on an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// One of several values.
    Chosen(String),
    /// A number of a range.
    Number(f64),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Chosen(text) => f.write_str(text),
            Setting::Number(value) => write!(f, "{value}"),
        }
    }
}

/// The points of spaces that are tried.
pub struct Drawn {
    /// The points, all different.
    pub points: Vec<Point>,
    /// How many the spaces have; none if a range has no end of numbers.
    pub all: Option<u64>,
}

/// Checks a value of a space; an error comes with its place.
///
/// # Errors
/// A choice of nothing, a range without numbers, or too many tables in each other.
pub fn check(node: &Spanned<Node>) -> std::result::Result<(), (Range<usize>, Error)> {
    check_within(node, 0)
}

fn check_within(node: &Spanned<Node>, depth: usize) -> std::result::Result<(), (Range<usize>, Error)> {
    let fail = |message: String| Err((node.span(), Error::config(message)));
    if depth > DEEPEST {
        return fail(format!(
            "a space has at most {DEEPEST} lists and tables inside each other"
        ));
    }
    match node.get_ref() {
        Node::Value(_) => Ok(()),
        Node::Choice(choices) if choices.is_empty() => {
            fail("an empty list: there is nothing to choose from".to_string())
        }
        Node::Choice(choices) => choices.iter().try_for_each(|choice| check_within(choice, depth + 1)),
        Node::Table(keys) => keys.iter().try_for_each(|(_, value)| check_within(value, depth + 1)),
        Node::Range(range) => match check_range(range) {
            Ok(()) => Ok(()),
            Err(error) => Err((node.span(), error)),
        },
    }
}

fn check_range(range: &RawRange) -> Result<()> {
    let RawRange { from, to, .. } = *range;
    let message = if !(from.is_finite() && to.is_finite()) {
        format!("a range from {from} to {to} is not finite")
    } else if from > to {
        format!("`from` must be less than `to`: write {{ from = {to}, to = {from} }}")
    } else if from == to {
        format!("a range from {from} to {to} is one number; write the number alone")
    } else if !(to - from).is_finite() {
        format!("a range from {from} to {to} is too wide")
    } else if range.log && from <= 0.0 {
        format!("a range with `log = true` must begin above 0, but this one begins at {from}")
    } else if range.steps.is_some_and(|steps| !(2..=1_000_000).contains(&steps)) {
        "`steps` counts the values of a range, both ends among them: at least 2, at most 1000000".to_string()
    } else {
        return Ok(());
    };
    Err(Error::config(message))
}

/// How many points spaces have; none if a range has no end of numbers.
pub fn count_of(spaces: &[&Space]) -> Option<u64> {
    let mut sizes = spaces.iter().map(|space| size_of(space));
    sizes.try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)))
}

/// Draws `count` different points of spaces, which were [checked](check); all, if there are no more or no number is given. None if
/// all are asked for and a range has no end of them.
pub fn draw(spaces: &[&Space], count: Option<usize>, seed: u64) -> Option<Drawn> {
    let sizes: Vec<Option<u64>> = spaces.iter().map(|space| size_of(space)).collect();
    let all = count_of(spaces);
    let wanted = match (count, all) {
        (Some(count), Some(all)) => all.min(count as u64),
        (Some(count), None) => count as u64,
        (None, all) => all?,
    };
    let nth = |index: u64| {
        let mut left = index;
        let mut space = 0;
        while let Some(size) = sizes[space].filter(|size| left >= *size) {
            left -= size;
            space += 1;
        }
        point(spaces[space], space, &mut How::Nth(left))
    };
    let mut random = PythonRandom::new(seed);
    let points = match all {
        Some(all) if all == wanted => (0..all).map(nth).collect(),
        Some(all) => {
            let mut taken = HashSet::new();
            while (taken.len() as u64) < wanted {
                taken.insert(random.up_to(all - 1));
            }
            // In the order of the space, so that tables can be read.
            let mut taken: Vec<u64> = taken.into_iter().collect();
            taken.sort_unstable();
            taken.into_iter().map(nth).collect()
        }
        None => {
            let mut points: Vec<Point> = Vec::new();
            let mut seen = HashSet::new();
            let mut attempts = 1000 + 100 * wanted;
            while (points.len() as u64) < wanted && attempts > 0 {
                attempts -= 1;
                let space = random.up_to(spaces.len() as u64 - 1) as usize;
                let drawn = point(spaces[space], space, &mut How::Random(&mut random));
                if seen.insert(format!("{space} {:?}", drawn.keys)) {
                    points.push(drawn);
                }
            }
            points
        }
    };
    Some(Drawn { points, all })
}

/// How a point is found.
enum How<'a> {
    /// By its number, of which each value takes its part.
    Nth(u64),
    /// By chance.
    Random(&'a mut PythonRandom),
}

impl How<'_> {
    /// A number below `count`.
    fn below(&mut self, count: u64) -> u64 {
        match self {
            How::Nth(left) => {
                let place = *left % count;
                *left /= count;
                place
            }
            How::Random(random) => random.up_to(count - 1),
        }
    }
}

/// The number of points of a space.
fn size_of(space: &Space) -> Option<u64> {
    space.iter().try_fold(1u64, |product, (_, node)| {
        Some(product.saturating_mul(size(node.get_ref())?))
    })
}

/// The number of values of a node.
fn size(node: &Node) -> Option<u64> {
    match node {
        Node::Value(_) => Some(1),
        Node::Choice(choices) => {
            let mut sizes = choices.iter().map(|choice| size(choice.get_ref()));
            sizes.try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)))
        }
        Node::Table(keys) => {
            let mut sizes = keys.iter().map(|(_, value)| size(value.get_ref()));
            sizes.try_fold(1u64, |product, size| Some(product.saturating_mul(size?)))
        }
        Node::Range(range) => values(range),
    }
}

/// The number of values of a range; none if there is no end of them, or if they are not alike.
fn values(range: &RawRange) -> Option<u64> {
    match range.steps {
        Some(steps) => Some(steps as u64),
        None if range.whole && !range.log => Some(((range.to - range.from) as u64).saturating_add(1)),
        None => None,
    }
}

fn point(space: &Space, number: usize, how: &mut How) -> Point {
    let mut settings = Vec::new();
    let keys = space.iter().map(|(key, node)| {
        let value = value(node.get_ref(), key, how, &mut settings);
        (key.to_string(), value)
    });
    Point {
        space: number,
        keys: keys.collect(),
        settings,
    }
}

fn value(node: &Node, axis: &str, how: &mut How, settings: &mut Vec<(String, Setting)>) -> toml::Value {
    match node {
        Node::Value(value) => value.clone(),
        Node::Choice(choices) => {
            let place = chosen(choices, how);
            let choice = choices[place].get_ref();
            if choices.len() > 1 {
                let named = choices.iter().map(|choice| name(choice.get_ref()));
                let unique = named.filter(|other| *other == name(choice)).count() == 1;
                let label = match unique {
                    true => name(choice),
                    false => format!("{} ({})", name(choice), place + 1),
                };
                settings.push((axis.to_string(), Setting::Chosen(label)));
            }
            value(choice, axis, how, settings)
        }
        Node::Table(keys) => {
            let keys = keys.iter().map(|(key, node)| {
                let value = value(node.get_ref(), &format!("{axis}.{key}"), how, settings);
                (key.clone(), value)
            });
            toml::Value::Table(keys.collect())
        }
        Node::Range(range) => {
            let number = number(range, how);
            settings.push((axis.to_string(), Setting::Number(number)));
            match range.whole {
                true => toml::Value::Integer(number as i64),
                false => toml::Value::Float(number),
            }
        }
    }
}

/// Which of the choices is taken: by chance each alike, by number each as often as it has values.
fn chosen(choices: &[Spanned<Node>], how: &mut How) -> usize {
    let How::Nth(left) = how else {
        return how.below(choices.len() as u64) as usize;
    };
    let sizes: Vec<u64> = choices
        .iter()
        .map(|choice| size(choice.get_ref()).unwrap_or(1))
        .collect();
    let all = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size)).max(1);
    let (mut place, rest) = (*left % all, *left / all);
    let mut index = 0;
    while place >= sizes[index] {
        place -= sizes[index];
        index += 1;
    }
    // What the choice itself is left to decide comes first, then what comes after it.
    *left = rest * sizes[index] + place;
    index
}

/// What a choice is called.
fn name(node: &Node) -> String {
    match node {
        Node::Value(toml::Value::String(text)) => text.clone(),
        Node::Value(value) => value.to_string(),
        Node::Choice(_) => "one of several".to_string(),
        Node::Range(range) => format!("{} to {}", range.from, range.to),
        Node::Table(keys) => {
            let text = |wanted: &str| {
                let found = keys.iter().find(|(key, _)| key == wanted);
                found.map(|(_, value)| name(value.get_ref()))
            };
            text("name")
                .or(text("expression"))
                .unwrap_or_else(|| "a table".to_string())
        }
    }
}

/// A number of a range.
fn number(range: &RawRange, how: &mut How) -> f64 {
    let RawRange {
        from, to, whole, log, ..
    } = *range;
    let share = match (values(range), how) {
        (Some(count), how) => how.below(count) as f64 / (count - 1) as f64,
        (None, How::Random(random)) => random.bits(53) as f64 / (1u64 << 53) as f64,
        // Where points have numbers, ranges have a number of values.
        (None, How::Nth(_)) => 0.0,
    };
    let exact = match log {
        true => from * (to / from).powf(share),
        false => from + share * (to - from),
    };
    let rounded = match whole {
        true => exact.round(),
        false if log => rounded(exact, exact),
        false => rounded(exact, to - from),
    };
    rounded.clamp(from, to)
}

/// A number with the digits that matter where values have this size.
fn rounded(value: f64, size: f64) -> f64 {
    let digits = RESOLUTION - size.abs().log10().floor() as i32;
    // As text, so that it is the number that people would type.
    match digits {
        0..=300 => format!("{value:.*}", digits as usize).parse().unwrap_or(value),
        301.. => value,
        _ => (value / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
    }
}
