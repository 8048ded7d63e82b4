//! A criterion that is a formula in the experiment file: `criterion = { expression = "abs(w) * x2 ^ (alpha / 2)", alpha = 0.5 }`.
//!
//! It becomes the same tree as a criterion in Rust, so that it runs where these run and asks for the same statistics. In the formulas
//! that [`Score`] prints, all names mean what they mean here.

pub mod words;

use super::step::Criterion;
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::formula::written::{Part, Sign, Written, read, shortened, wrong};
use crate::prune::pattern::Group;
use crate::prune::ranking::{below_zero, told_apart};
use crate::prune::score::{Quantity, Score, Shape, column_sums, entries, greatest, least, row_sums, shape, sum};
use crate::registry::{of_parameter, plain, suggestion};
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use words::{FUNCTIONS, Function, VALUES, Value, columns, rows};

/// The most parts that a formula may have when all functions are written out. Z-Pruner's has some hundreds.
const MOST_PARTS: usize = 2000;

/// The most parameters that a formula may have.
const MOST_PARAMETERS: usize = 32;

/// Functions as they are called elsewhere, and how they are written here.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("ln", "log(a)"),
    ("avg", "mean(a)"),
    ("average", "mean(a)"),
    ("norm", "sqrt(sum(square(a)))"),
    ("var", "square(std(a))"),
];

/// A formula and its parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Typed")]
pub struct Expression {
    /// The formula, in its normal form.
    pub expression: String,
    /// The group that scores are compared in: `row`.
    pub group: Group,
    /// Values of the names in the formula that are not known here.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, f64>,
    /// The formula as a tree, once it was asked for: reading it for every layer would take longer than a GPU needs for a small one.
    #[serde(skip)]
    tree: OnceLock<Score>,
}

/// What a user typed.
#[derive(Deserialize)]
struct Typed {
    expression: String,
    #[serde(default = "by_row", deserialize_with = "group_by_name")]
    group: Group,
    #[serde(flatten, deserialize_with = "numbers_by_name")]
    parameters: BTreeMap<String, f64>,
}

/// The parameters. What is no number is told with its name, which serde has forgotten by then.
fn numbers_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, f64>, D::Error> {
    struct ByName;

    impl<'de> Visitor<'de> for ByName {
        type Value = BTreeMap<String, f64>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("parameters")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut parameters = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let value = map.next_value::<f64>().map_err(|error| {
                    // toml ends a message with the end of its line.
                    let what = plain(error.to_string().trim_end());
                    let several = match what.ends_with("not a list") {
                        true => "; for several values, write a [[method]] for each, or a [search]",
                        false => "",
                    };
                    de::Error::custom(format!("{}{several}", of_parameter(&name, &what)))
                })?;
                parameters.insert(name, value);
            }
            Ok(parameters)
        }
    }

    deserializer.deserialize_map(ByName)
}

fn by_row() -> Group {
    Group::Row
}

/// A group. Who writes a number meant a parameter.
fn group_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Group, D::Error> {
    struct ByName;

    impl Visitor<'_> for ByName {
        type Value = Group;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("enum Group")
        }

        fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Group, E> {
            Group::deserialize(name.into_deserializer())
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> std::result::Result<Group, E> {
            Err(E::custom(key_of_the_table("group")))
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> std::result::Result<Group, E> {
            Err(E::custom(key_of_the_table("group")))
        }
    }

    deserializer.deserialize_any(ByName)
}

/// The keys of a formula's table that are no parameters, with what they are.
const KEYS: [(&str, &str); 3] = [
    ("expression", "the formula"),
    (
        "group",
        "the group that scores are compared in, such as group = \"row\"",
    ),
    ("name", "the name of the criterion"),
];

/// Says that a key of a formula's table cannot be a parameter.
pub fn key_of_the_table(name: &str) -> String {
    let what = KEYS.iter().find(|(key, _)| *key == name).map_or("", |(_, what)| what);
    format!(
        "`{name}` is {what}, and cannot be a parameter of the formula; call the parameter otherwise, such as `{name}_1`"
    )
}

/// A formula in its normal form: of the names for the same thing it has the first of [`words`], so that a formula has one normal form
/// whichever of them were typed. `None` if the text is no formula.
pub fn normal_form(text: &str) -> Option<String> {
    let renamed = |name: &str, values: Option<usize>| {
        let names = match values {
            None => Value::find(name).map(|value| value.names),
            Some(_) => Function::find(name).map(|function| function.normal),
        };
        names.map_or(name, |names| names[0]).to_string()
    };
    Some(read(text).ok()?.renamed(&renamed).to_string())
}

impl From<Typed> for Expression {
    fn from(typed: Typed) -> Self {
        Expression {
            // What cannot be read is told when parameters are checked.
            expression: normal_form(&typed.expression).unwrap_or(typed.expression),
            group: typed.group,
            parameters: typed.parameters,
            tree: OnceLock::new(),
        }
    }
}

impl Criterion for Expression {
    fn validate(&self) -> Result<()> {
        self.meaning().map(|_| ())
    }

    fn group(&self) -> Group {
        self.group
    }

    /// Pivots are those of the weights that are left.
    fn follows_update(&self) -> bool {
        uses_pivots(&self.score())
    }

    fn given_by(&self) -> Option<String> {
        Some(format!("the formula `{}`", shortened(&self.expression)))
    }

    fn score(&self) -> Score {
        let read = || {
            self.meaning()
                .expect("the formula was checked when the criterion was made")
        };
        self.tree.get_or_init(read).clone()
    }
}

impl Expression {
    /// The formula as a tree.
    ///
    /// # Errors
    /// It is none, has unknown names or parameters that it does not use, gives all weights the same score, or some of them surely a
    /// negative one.
    fn meaning(&self) -> Result<Score> {
        if self.parameters.len() > MOST_PARAMETERS {
            return Err(Error::config(format!(
                "a formula has at most {MOST_PARAMETERS} parameters"
            )));
        }
        for (name, value) in &self.parameters {
            if KEYS.iter().any(|(key, _)| key == name) {
                return Err(Error::config(key_of_the_table(name)));
            }
            if is_known(name) {
                return Err(Error::config(format!(
                    "parameter `{name}` has the name of something that formulas know already; choose another"
                )));
            }
            if !value.is_finite() {
                return Err(Error::config(format!("parameter `{name}` = {value} is not finite")));
            }
        }
        let written = read(&self.expression)?;
        let mut reading = Reading {
            text: &self.expression,
            parameters: &self.parameters,
            used: Vec::new(),
        };
        let score = reading.score(&written)?;
        if let Some(name) = self.parameters.keys().find(|name| !reading.used.contains(name)) {
            return Err(Error::config(format!(
                "parameter `{name}` is not in the formula `{}`",
                shortened(&self.expression)
            )));
        }
        match told_apart(&score) {
            Shape::One => Err(wrong(
                &self.expression,
                0,
                "the formula gives every weight the same score",
            )),
            _ => match below_zero(&score) {
                Some(which) => Err(wrong(
                    &self.expression,
                    0,
                    &format!(
                        "the formula gives {which} a score below 0, and a score must not be negative; compare sizes, as with `abs(w)`"
                    ),
                )),
                None => Ok(score),
            },
        }
    }
}

fn is_known(name: &str) -> bool {
    Value::find(name).is_some() || Function::find(name).is_some()
}

/// A written formula that is given its meaning.
struct Reading<'a> {
    text: &'a str,
    parameters: &'a BTreeMap<String, f64>,
    /// The parameters that were found.
    used: Vec<&'a String>,
}

impl Reading<'_> {
    fn wrong(&self, at: &Written, what: &str) -> Error {
        wrong(self.text, at.place, what)
    }

    fn score(&mut self, written: &Written) -> Result<Score> {
        let score = match &written.part {
            Part::Number(value) => Formula::Number(*value),
            Part::Name(name) => self.value(written, name)?,
            Part::Negative(of) => -self.score(of)?,
            Part::Pair(sign, pair) => {
                let [a, b] = pair.as_ref();
                let (a, b) = (self.score(a)?, self.score(b)?);
                match sign {
                    Sign::Plus => a + b,
                    Sign::Minus => a - b,
                    Sign::Times => a * b,
                    Sign::Over => a / b,
                    Sign::Power => power(a, b),
                }
            }
            Part::Call(name, arguments) => self.call(written, name, arguments)?,
        };
        let score = folded(score);
        if matches!(score, Formula::Number(value) if !value.is_finite()) {
            return Err(self.wrong(written, "this part is no finite number"));
        }
        match size(&score) > MOST_PARTS {
            true => Err(self.wrong(
                written,
                &format!("the formula has more than {MOST_PARTS} parts when this is written out"),
            )),
            false => Ok(score),
        }
    }

    fn value(&mut self, at: &Written, name: &str) -> Result<Score> {
        if let Some((known, value)) = self.parameters.get_key_value(name) {
            self.used.push(known);
            return Ok(Formula::Number(*value));
        }
        if let Some(value) = Value::find(name) {
            return Ok((value.score)());
        }
        if Function::find(name).is_some() {
            return Err(self.wrong(at, &format!("`{name}` is a function: write `{name}(...)`")));
        }
        if KEYS.iter().any(|(key, _)| *key == name) {
            return Err(self.wrong(at, &key_of_the_table(name)));
        }
        let names = VALUES.iter().flat_map(|value| value.names).copied();
        let names: Vec<&str> = names.chain(self.parameters.keys().map(String::as_str)).collect();
        Err(self.wrong(
            at,
            &format!(
                "unknown value `{0}`{1}. A parameter has its value beside the formula: `{0} = 0.5`",
                shortened(name),
                suggestion(name, &names)
            ),
        ))
    }

    fn call(&mut self, at: &Written, name: &str, arguments: &[Written]) -> Result<Score> {
        let Some(function) = Function::find(name) else {
            if self.parameters.contains_key(name) || Value::find(name).is_some() {
                return Err(self.wrong(at, &format!("`{name}` is a value and no function; is a `*` missing?")));
            }
            let names = FUNCTIONS.iter().flat_map(|function| function.names).copied();
            let names: Vec<&str> = names.collect();
            let other = OTHER_NAMES.iter().find(|(typed, _)| *typed == name);
            let suggested = match other {
                Some((_, meant)) => format!("; write `{meant}`"),
                None => suggestion(name, &names),
            };
            let what = format!("unknown function `{}`{suggested}", shortened(name));
            return Err(self.wrong(at, &what));
        };
        let (fewest, most) = function.takes;
        if !(fewest..=most).contains(&arguments.len()) {
            let wanted = match (fewest, most) {
                (1, 1) => "one value".to_string(),
                (a, b) if a == b => format!("{a} values"),
                (a, b) => format!("{a} or {b} values"),
            };
            return Err(self.wrong(at, &format!("`{name}` takes {wanted}, not {}", arguments.len())));
        }
        let values = arguments.iter().map(|argument| self.score(argument));
        let mut values = values.collect::<Result<Vec<_>>>()?.into_iter();
        let Some(of) = values.next() else {
            return Err(self.wrong(at, &format!("`{name}` of nothing")));
        };
        let other = values.next();
        let whole = shape(&of) == Shape::PerWeight;
        let over_weights = |what: &str| {
            format!(
                "`{name}` adds up the values of each {what}, and this has no value for each weight; use `sum` for a row or a column"
            )
        };
        Ok(match (name, other) {
            ("abs", _) => of.abs(),
            ("square", _) => of.square(),
            ("cube", _) => of.cube(),
            ("sqrt" | "root", _) => of.root(),
            ("inverse", _) => of.inverse(),
            ("sign", _) => of.sign(),
            ("exp", _) => of.exp(),
            ("log", _) => of.log(),
            ("min" | "minimum", Some(other)) => of.minimum(other),
            ("max" | "maximum", Some(other)) => of.maximum(other),
            ("power", Some(exponent)) => of.power(exponent),
            ("below", Some(bound)) => of.below(bound),
            ("min" | "least", _) => least(of),
            ("max" | "greatest", _) => greatest(of),
            ("row_sum" | "row_sums" | "row_mean" | "row_std", _) if !whole => {
                return Err(self.wrong(at, &over_weights("row")));
            }
            ("col_sum" | "column_sums" | "col_mean" | "col_std", _) if !whole => {
                return Err(self.wrong(at, &over_weights("column")));
            }
            ("row_sum" | "row_sums", _) => row_sums(of),
            ("col_sum" | "column_sums", _) => column_sums(of),
            ("row_mean", _) => row_sums(of) / columns(),
            ("col_mean", _) => column_sums(of) / rows(),
            ("row_std", _) => deviation(row_sums, &of, columns()),
            ("col_std", _) => deviation(column_sums, &of, rows()),
            ("sum", _) if whole => sum(row_sums(of)),
            ("sum", _) => match shape(&of) {
                Shape::One => return Err(self.wrong(at, "`sum` of a single value; it has nothing to add up")),
                _ => sum(of),
            },
            ("mean" | "std", _) => {
                let (total, count): (fn(Score) -> Score, Score) = match shape(&of) {
                    Shape::One => return Err(self.wrong(at, &format!("`{name}` of a single value"))),
                    Shape::PerRow => (sum, rows()),
                    Shape::PerColumn => (sum, columns()),
                    Shape::PerWeight => (|of| sum(row_sums(of)), entries()),
                };
                match name {
                    "mean" => total(of) / count,
                    _ => deviation(total, &of, count),
                }
            }
            _ => return Err(self.wrong(at, &format!("`{name}` takes two values"))),
        })
    }
}

fn uses_pivots(score: &Score) -> bool {
    let mut found = false;
    score.leaves(&mut |quantity| {
        found |= match quantity {
            Quantity::Pivots => true,
            Quantity::Sum(_, of) | Quantity::Extreme(_, of) => uses_pivots(of),
            _ => false,
        };
    });
    found
}

/// How many parts a formula has, with those inside of sums.
fn size(score: &Score) -> usize {
    1 + match score {
        Formula::Number(_) => 0,
        Formula::Leaf(Quantity::Sum(_, of) | Quantity::Extreme(_, of)) => size(of),
        Formula::Leaf(_) => 0,
        Formula::Unary(_, of) => size(of),
        Formula::Binary(_, a, b) => size(a) + size(b),
    }
}

/// The standard deviation of `count` values that `total` adds up, with `count` in the denominator.
fn deviation(total: fn(Score) -> Score, of: &Score, count: Score) -> Score {
    let mean = || total(of.clone()) / count.clone();
    (total(of.clone().square()) / count.clone() - mean().square())
        .maximum(0.0)
        .root()
}

/// A power; whole exponents take signs, too.
fn power(base: Score, exponent: Score) -> Score {
    match exponent {
        Formula::Number(2.0) => base.square(),
        Formula::Number(3.0) => base.cube(),
        Formula::Number(0.5) => base.root(),
        exponent => base.power(exponent),
    }
}

/// A part that holds numbers only, as one number.
fn folded(score: Score) -> Score {
    match &score {
        Formula::Unary(function, of) => match of.as_ref() {
            Formula::Number(value) => Formula::Number(function.of(*value)),
            _ => score,
        },
        Formula::Binary(function, a, b) => match (a.as_ref(), b.as_ref()) {
            (Formula::Number(a), Formula::Number(b)) => Formula::Number(function.of(*a, *b)),
            _ => score,
        },
        _ => score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::criterion::CRITERIA;

    fn made(text: &str) -> Result<Expression> {
        let table: toml::Table = toml::from_str(text).expect("a table");
        let expression: Expression = crate::registry::parameters(&table)?;
        expression.validate()?;
        Ok(expression)
    }

    #[test]
    fn every_criterion_written_as_a_formula_is_the_same_tree() {
        let mut compared = 0;
        for entry in CRITERIA.entries() {
            let Ok(built) = CRITERIA.build(entry.name, &toml::Table::new()) else {
                continue;
            };
            let score = built.component.score();
            let text = toml::to_string(&toml::toml! { expression = (score.to_string()) }).expect("TOML");
            let made = made(&text).expect(entry.name);
            assert_eq!(made.score(), score, "{}: {score}", entry.name);
            assert_eq!(
                made.follows_update(),
                built.component.follows_update(),
                "{}",
                entry.name
            );
            compared += 1;
        }
        assert!(compared >= 10, "{compared}");
    }

    #[test]
    fn short_names_and_signs_mean_what_they_say() {
        for (short, long) in [
            ("abs(w) * sqrt(x2)", "abs(w) * root(input_squares)"),
            ("w ^ 2 * variance", "square(w) * input_variances"),
            (
                "abs(w) * x2 ^ (alpha / 2)\" \nalpha = \"0.5",
                "abs(w) * power(input_squares, 0.25)",
            ),
            ("-w - -2 * 3", "-w - -6"),
            ("abs(w) * max(w)", "abs(w) * greatest(w)"),
            ("max(w, 0)", "maximum(w, 0)"),
            ("abs(w) / row_mean(abs(w))", "abs(w) / (row_sums(abs(w)) / columns)"),
            ("abs(w) / sum(abs(w))", "abs(w) / sum(row_sums(abs(w)))"),
            ("abs(w) * mean(mean)", "abs(w) * (sum(input_means) / columns)"),
            ("abs(w * grad)", "abs(w * (gradients / sequences))"),
            ("fan_in * abs(w) / fan_out", "columns * abs(w) / rows"),
        ] {
            let text = match short.contains("alpha") {
                true => "expression = \"abs(w) * x2 ^ (alpha / 2)\"\nalpha = 0.5".to_string(),
                false => format!("expression = \"{short}\""),
            };
            assert_eq!(made(&text).expect(short).score().to_string(), long);
        }
    }

    #[test]
    fn every_name_of_the_table_can_be_used_in_a_formula() {
        for name in VALUES.iter().flat_map(|value| value.names) {
            made(&format!("expression = \"abs(w) + {name}\"")).expect(name);
        }
        for function in FUNCTIONS {
            for name in function.names {
                for count in function.takes.0..=function.takes.1 {
                    let values = ["abs(w)", "2"][..count].join(", ");
                    let made = made(&format!("expression = \"abs(w) + {name}({values})\"")).expect(name);
                    // Only what reduces makes something that is no value for each weight.
                    let alone = format!("{name}({values})");
                    let mut reading = Reading {
                        text: &alone,
                        parameters: &made.parameters,
                        used: Vec::new(),
                    };
                    let score = reading.score(&read(&alone).expect(name)).expect(name);
                    let reduces = function.reduces && count == 1;
                    assert_eq!(shape(&score) != Shape::PerWeight, reduces, "{alone}");
                }
            }
        }
        let names = VALUES.iter().map(|value| value.names);
        let names = names.chain(FUNCTIONS.iter().map(|function| function.names)).flatten();
        // `mean` is a value and a function.
        let mut seen: Vec<&&str> = names.filter(|name| **name != "mean").collect();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn names_for_the_same_thing_have_one_normal_form() {
        for (one, other) in [
            ("abs(w) * sqrt(x2)", "abs(w) * root(input_squares)"),
            (
                "abs(w) * mean / row_sum(abs(w))",
                "abs(w) * input_means / row_sums(abs(w))",
            ),
            ("w ^ 2 * variance / pivot", "w ^ 2 * input_variances / pivots"),
            ("max(abs(w), 2) + max(w)", "maximum(abs(w), 2) + greatest(w)"),
            ("min(abs(w), 2) - min(w)", "minimum(abs(w), 2) - least(w)"),
            (
                "col_sum(abs(w)) * y2 * fan_in / fan_out",
                "column_sums(abs(w)) * output_squares * columns / rows",
            ),
        ] {
            let made = |text: &str| made(&format!("expression = \"{text}\"")).expect(text);
            assert_eq!(made(other).expression, one);
            assert_eq!(made(one).expression, one);
            assert_eq!(made(one).score(), made(other).score());
        }
        // Two names for one thing are the same tree, and the same text.
        for value in VALUES {
            for name in value.names {
                let made = made(&format!("expression = \"abs(w) + {name}\"")).expect(name);
                assert_eq!(made.expression, format!("abs(w) + {}", value.names[0]));
            }
        }
        for function in FUNCTIONS {
            for name in function.names {
                let values = if function.takes.0 == 2 { "w, 2" } else { "w" };
                let made = |name: &str| made(&format!("expression = \"abs(w) + {name}({values})\"")).expect(name);
                assert_eq!(
                    made(name).expression,
                    format!("abs(w) + {}({values})", function.normal[0])
                );
                assert_eq!(made(name).score(), made(function.normal[0]).score(), "{name}");
            }
        }
    }

    #[test]
    fn the_normal_form_and_the_parameters_are_recorded() {
        let made = made("expression = \"abs( w )*x2^alpha\"\nalpha = 1\ngroup = \"matrix\"").expect("a formula");
        let recorded = serde_json::to_value(&made).expect("JSON");
        let expected = serde_json::json!({"expression": "abs(w) * x2 ^ alpha", "group": "matrix", "alpha": 1.0});
        assert_eq!(recorded, expected);
        let again: Expression = serde_json::from_value(recorded).expect("recorded");
        assert_eq!(again.score(), made.score());
    }

    #[test]
    fn what_makes_no_score_is_refused_with_its_place() {
        let nested = format!("w * {}w{}", "row_std(w * ".repeat(14), ")".repeat(14));
        for (typed, says) in [
            (
                "expression = \"abs(w) * x3\"",
                "A parameter has its value beside the formula: `x3 = 0.5`",
            ),
            ("expression = \"abs(w) * x3\"", "character 10: unknown value"),
            (
                "expression = \"abs(w) * x2 ^ alpha\"",
                "A parameter has its value beside the formula: `alpha = 0.5`",
            ),
            (
                "expression = \"abs(w)\"\nbeta = 1.0",
                "parameter `beta` is not in the formula",
            ),
            (
                "expression = \"abs(w)\"\nw = 1.0",
                "has the name of something that formulas know",
            ),
            (
                "expression = \"abs(w) * group\"\ngroup = 0.5",
                "`group` is the group that scores are compared in, such as group = \"row\", and cannot be a parameter",
            ),
            (
                "expression = \"abs(w)\"\ngroup = 2",
                "and cannot be a parameter of the formula",
            ),
            ("expression = \"abs(w)\"\ngroup = \"rows\"", "did you mean `row`?"),
            (
                "expression = \"abs(w) * a\"\na = \"x\"",
                "parameter `a` must be a number, such as 0.5, not the text \"x\"",
            ),
            (
                "expression = \"abs(w) * a\"\na = [1.0, 2.0]",
                "parameter `a` must be a number, such as 0.5, not a list; for several values, write a [[method]] for each",
            ),
            ("expression = \"abs(w) * group\"", "character 10: `group` is the group"),
            (
                "expression = \"abs(w) * name\"",
                "call the parameter otherwise, such as `name_1`",
            ),
            (
                "expression = \"abs(w) * name\"\nname = 0.5",
                "`name` is the name of the criterion",
            ),
            (
                "expression = \"abs(w) * a\"\na = nan",
                "parameter `a` = NaN is not finite",
            ),
            ("expression = \"w * (0 / 0)\"", "this part is no finite number"),
            ("expression = \"w * log(0)\"", "this part is no finite number"),
            (
                "expression = \"w * varience\"",
                "unknown value `varience`; did you mean `variance`",
            ),
            (
                "expression = \"abss(w)\"",
                "unknown function `abss`; did you mean `abs`",
            ),
            ("expression = \"w * ln(x2)\"", "unknown function `ln`; write `log(a)`"),
            ("expression = \"abs\"", "`abs` is a function: write `abs(...)`"),
            (
                "expression = \"w(2)\"",
                "`w` is a value and no function; is a `*` missing?",
            ),
            ("expression = \"abs(w, 2)\"", "`abs` takes one value, not 2"),
            ("expression = \"max(w, 2, 3)\"", "`max` takes 1 or 2 values, not 3"),
            ("expression = \"2 + fan_in\"", "gives every weight the same score"),
            (
                "expression = \"w * row_sum(x2)\"",
                "`row_sum` adds up the values of each row",
            ),
            ("expression = \"w * sum(2)\"", "`sum` of a single value"),
            ("expression = \"w * 1e999\"", "no finite number"),
            (&format!("expression = \"{nested}\""), "more than 2000 parts"),
        ] {
            let error = made(typed).expect_err(typed).to_string();
            assert!(error.contains(says), "{typed}: no `{says}` in {error}");
        }
    }
}
