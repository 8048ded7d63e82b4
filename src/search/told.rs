//! What is said of a search: tables, the winner as it can be written into an experiment file, and the numbers for another program.

use super::found::{Found, Rung};
use crate::error::{Error, Result};
use crate::experiment::draw::Setting;
use crate::experiment::search::{CONFIRMING, SELECTING, SearchPlan, Trial};
use crate::report::comparison::{Test, TestVerdict};
use crate::report::format::{counted, digits, list, p_value, percent};
use crate::report::results::{Measure, MethodResult};
use crate::report::sheet::{Chapter, Column, Sheet, SheetCell, number};
use crate::report::{terminal, text};
use crate::stats::{Shown, mean};
use serde_json::json;
use std::path::{Path, PathBuf};

/// More values of an axis that are numbers are put into so many groups.
const GROUPS: usize = 3;

/// What is said of a search.
pub struct Told<'a> {
    plan: &'a SearchPlan,
    found: &'a Found,
}

impl<'a> Told<'a> {
    /// What there is to say.
    pub fn new(plan: &'a SearchPlan, found: &'a Found) -> Told<'a> {
        Told { plan, found }
    }

    /// Finding, tables and winner for a terminal of this width.
    pub fn terminal(&self, width: Option<usize>) -> String {
        let sheets = [self.rungs(), self.compared(), self.halves(), self.axes()];
        let sheets = sheets.iter().filter(|it| !it.rows.is_empty());
        let sheets: Vec<String> = sheets.map(|it| terminal::sheet(it, width)).collect();
        let finding = terminal::paragraph(&self.finding(), width);
        format!("{finding}\n{}\n{}", sheets.join("\n"), self.winner().block)
    }

    /// The content of all files, with paths relative to the folder of the search.
    ///
    /// # Errors
    /// Never: all numbers can be written.
    pub fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let base = &self.plan.base;
        let mut before = format!("# {}\n\n", text::escaped(&base.name));
        if !base.description.is_empty() {
            before.push_str(&format!("{}\n\n", text::escaped(&base.description)));
        }
        before.push_str(&format!(
            "{}\n\n```toml\n{}```\n\n",
            text::escaped(&self.finding()),
            self.winner().block
        ));
        let sheets = vec![self.rungs(), self.compared(), self.halves(), self.axes(), self.trials()];
        let chapter = Chapter {
            file: "report",
            title: "Search",
            sheets: sheets.into_iter().filter(|it| !it.rows.is_empty()).collect(),
        };
        let page = text::markdown(&chapter, &before);
        let numbers = serde_json::to_string_pretty(&self.numbers());
        let numbers = numbers.map_err(|error| Error::writing(Path::new("search.json"), error))?;
        Ok(vec![
            ("report.md".into(), page.into_bytes()),
            ("search.json".into(), format!("{numbers}\n").into_bytes()),
            ("winner.toml".into(), self.winner().block.clone().into_bytes()),
        ])
    }

    fn winner(&self) -> &Trial {
        &self.plan.trials[self.found.winner]
    }

    fn name(&self, trial: usize) -> &str {
        &self.plan.trials[trial].method.name
    }

    /// What was found, in a few sentences.
    pub fn finding(&self) -> String {
        let (plan, found) = (self.plan, self.found);
        let failed = found.rungs.iter().map(failures).sum::<usize>();
        let mut aside = Vec::new();
        if !plan.merged.is_empty() {
            aside.push(match plan.merged.len() {
                1 => "one more that was drawn means the same as one of them".to_string(),
                more => format!("{more} more that were drawn mean the same as one of them"),
            });
        }
        if failed > 0 {
            aside.push(format!("{failed} failed"));
        }
        let aside = match aside.is_empty() {
            true => String::new(),
            false => format!(" ({})", aside.join("; ")),
        };
        let count = plan.trials.len();
        let mut said = format!(
            "Of {count} {} tried{aside}, {} had the least loss on the {SELECTING}: {}.",
            if count == 1 { "method" } else { "methods" },
            self.winner().method.name,
            self.winner().method
        );
        let tests = self.tests();
        let confidence = plan.base.confidence;
        for (verdict, what) in [
            (TestVerdict::Better, "it is better than"),
            (TestVerdict::Worse, "it is worse than"),
            (TestVerdict::NotTold, "it does not differ significantly from"),
        ] {
            let of: Vec<String> = tests
                .iter()
                .filter(|test| test.verdict(confidence) == verdict)
                .map(|test| match plan.base.patterns.len() {
                    1 => test.other.clone(),
                    _ => format!("{} at {}", test.other, test.pattern),
                })
                .collect();
            if !of.is_empty() {
                said.push_str(&format!(
                    " On the {CONFIRMING} and with other seeds, {what} {}.",
                    list(&of)
                ));
            }
        }
        said
    }

    fn tests(&self) -> Vec<&Test> {
        let families = self.found.comparison.families.iter();
        families.flat_map(|family| &family.tests).collect()
    }

    /// The rungs, one in a row.
    fn rungs(&self) -> Sheet {
        let rows = self.found.rungs.iter().enumerate().map(|(index, rung)| {
            let best = rung.kept.first();
            let score = best.and_then(|best| score(rung, *best));
            vec![
                SheetCell::plain((index + 1).to_string()),
                SheetCell::plain(rung.sequences.to_string()),
                SheetCell::plain(rung.tried.len().to_string()),
                SheetCell::plain(failures(rung).to_string()),
                SheetCell::plain(best.map_or("", |best| self.name(*best))),
                perplexity(score),
                SheetCell::plain(rung.kept.len().to_string()),
            ]
        });
        let held = self.plan.held_out;
        let of = match self.plan.points {
            Some(1) => "The space has one method.".to_string(),
            Some(points) => format!("The space has {points} methods."),
            None => "The space has a range of numbers, and so it has infinitely many methods.".to_string(),
        };
        let mut notes = vec![format!(
            "{of} {} were tried. Perplexities are over the {} of {held} held-out windows that decide, and over all seeds and patterns. \
             The other {} windows were not used.",
            self.plan.trials.len(),
            self.plan.selecting(),
            held - self.plan.selecting()
        )];
        for (name, same) in &self.plan.merged {
            notes.push(format!("{name} means the same as {same}, and was not tried again."));
        }
        Sheet {
            title: "Rungs".to_string(),
            columns: vec![
                Column::numbers("rung"),
                Column::numbers("calibration windows"),
                Column::numbers("tried"),
                Column::numbers("failed"),
                Column::words("best"),
                Column::numbers("perplexity"),
                Column::numbers("kept"),
            ],
            rows: rows.collect(),
            notes,
        }
    }

    /// The winner against the methods that were not searched for.
    fn compared(&self) -> Sheet {
        let confidence = self.plan.base.confidence;
        let tests = self.tests();
        let rows = tests.iter().map(|test| {
            let interval = test.over_both.map(|difference| test.shown(difference));
            let value = |method: &str| {
                let entry = self.entry(CONFIRMING, method, test);
                let mean = entry
                    .and_then(|entry| entry.summary.as_ref())
                    .map(|summary| summary.mean);
                perplexity(mean.map(f64::ln))
            };
            vec![
                SheetCell::plain(test.pattern.to_string()),
                SheetCell::plain(&test.other),
                value(&test.ours),
                value(&test.other),
                SheetCell::plain(format!("{:+.2} %", Shown(test.shown(test.difference.mean)))),
                SheetCell::plain(format!("{:+.2} to {:+.2} %", Shown(interval.low), Shown(interval.high))),
                SheetCell::plain(p_value(test.p)),
                SheetCell::plain(p_value(test.adjusted)),
            ]
        });
        let seeds: Vec<String> = self.plan.confirm.iter().map(u64::to_string).collect();
        let name = &self.winner().method.name;
        Sheet {
            title: format!("{name} against methods that were not searched for"),
            columns: vec![
                Column::words("pattern"),
                Column::words("against"),
                Column::numbers(name.clone()),
                Column::numbers("other"),
                Column::numbers("difference"),
                Column::numbers(format!("{} interval", percent(confidence))),
                Column::numbers("p").aside(),
                Column::numbers("p, corrected"),
            ],
            rows: rows.collect(),
            notes: vec![format!(
                "Perplexities on the {CONFIRMING} of the held-out windows, calibrated with {} windows and seeds {}. Neither these windows \
                 nor these seeds were used to choose {name}, so its p-values need no correction for the {} that were tried. {}",
                self.plan.sequences.last().copied().unwrap_or_default(),
                list(&seeds),
                self.plan.trials.len(),
                match tests.len() {
                    1 => "It is the only comparison.".to_string(),
                    count => format!(
                        "They are corrected (Holm) for the {count} comparisons of this table; intervals are for each by itself."
                    ),
                }
            )],
        }
    }

    /// The winner's score where it was chosen, and where it was not.
    fn halves(&self) -> Sheet {
        let name = &self.winner().method.name;
        let others: Vec<&str> = self
            .plan
            .base
            .methods
            .iter()
            .map(|method| method.name.as_str())
            .collect();
        let searched = self.found.rungs.last().and_then(|rung| score(rung, self.found.winner));
        let row = |windows: &str, seeds: &str, values: Vec<Option<f64>>| {
            let words = [SheetCell::plain(windows), SheetCell::plain(seeds)];
            words
                .into_iter()
                .chain(values.into_iter().map(perplexity))
                .collect::<Vec<_>>()
        };
        let measured = |windows: &str| {
            let methods = std::iter::once(name.as_str()).chain(others.iter().copied());
            methods.map(|method| self.loss(windows, method)).collect::<Vec<_>>()
        };
        let mut first = vec![searched];
        first.resize(1 + others.len(), None);
        let titles = [name.as_str()].into_iter().chain(others.iter().copied());
        Sheet {
            title: "How much too good the winner looks on the windows that it was chosen by".to_string(),
            columns: ["windows", "seeds"]
                .into_iter()
                .map(Column::words)
                .chain(titles.map(Column::numbers))
                .collect(),
            rows: vec![
                row(SELECTING, "of the search", first),
                row(SELECTING, "others", measured(SELECTING)),
                row(CONFIRMING, "others", measured(CONFIRMING)),
            ],
            notes: vec![
                "Perplexities over all patterns and seeds, as geometric means; the comparison has arithmetic means over seeds, which are a \
                 little higher. The winner was chosen for its first value, so a part of that value is luck, and it is too low. The rows \
                 differ in text and in seeds: compare the winner with the other methods of the same row only."
                    .to_string(),
            ],
        }
    }

    /// What the values of each axis gave in the first rung.
    fn axes(&self) -> Sheet {
        let Some(rung) = self.found.rungs.first() else {
            return axes_sheet(Vec::new());
        };
        let mut axes: Vec<(&str, Vec<(&Setting, f64)>)> = Vec::new();
        for tried in &rung.tried {
            let Ok(score) = &tried.score else { continue };
            for (axis, value) in &self.plan.trials[tried.trial].settings {
                match axes.iter_mut().find(|(known, _)| known == axis) {
                    Some((_, values)) => values.push((value, *score)),
                    None => axes.push((axis, vec![(value, *score)])),
                }
            }
        }
        let rows = axes.into_iter().flat_map(|(axis, values)| {
            let groups = grouped(values);
            groups.into_iter().map(move |(label, losses)| {
                vec![
                    SheetCell::plain(axis),
                    SheetCell::plain(label),
                    SheetCell::plain(losses.len().to_string()),
                    perplexity(Some(mean(&losses))),
                    perplexity(losses.iter().copied().reduce(f64::min)),
                ]
            })
        });
        axes_sheet(rows.collect())
    }

    /// All trials, those that came farthest first.
    fn trials(&self) -> Sheet {
        let rungs = &self.found.rungs;
        let scores = |trial: usize| -> Vec<Option<std::result::Result<f64, String>>> {
            let own = rungs.iter().map(|rung| rung.tried.iter().find(|it| it.trial == trial));
            own.map(|it| it.map(|it| it.score.clone())).collect()
        };
        let mut rows: Vec<(usize, f64, usize)> = (0..self.plan.trials.len())
            .map(|trial| {
                let scored: Vec<f64> = scores(trial)
                    .into_iter()
                    .flatten()
                    .filter_map(|score| score.ok())
                    .collect();
                (scored.len(), scored.last().copied().unwrap_or(f64::INFINITY), trial)
            })
            .collect();
        rows.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let rows = rows.into_iter().map(|(_, _, trial)| {
            let words = [self.name(trial).to_string(), settings(&self.plan.trials[trial])];
            let scores = scores(trial).into_iter().map(|score| match score {
                None => SheetCell::default(),
                Some(Ok(score)) => perplexity(Some(score)),
                Some(Err(why)) => SheetCell::plain(format!("failed: {why}")),
            });
            words.into_iter().map(SheetCell::plain).chain(scores).collect()
        });
        let columns = ["trial", "chosen"].into_iter().map(Column::words);
        let of_rungs = rungs
            .iter()
            .map(|rung| Column::numbers(counted(rung.sequences, "window")));
        Sheet {
            title: "Trials".to_string(),
            columns: columns.chain(of_rungs).collect(),
            rows: rows.collect(),
            notes: vec![format!(
                "Perplexities on the {SELECTING}, by the number of calibration windows."
            )],
        }
    }

    /// The result of a method where a test was made.
    fn entry(&self, windows: &str, method: &str, test: &Test) -> Option<&MethodResult> {
        let sections = &self.found.comparison.results.sections;
        let of = |measure: &Measure| matches!(measure, Measure::Perplexity { evaluation } if evaluation == windows);
        sections.iter().find(|it| of(&it.measure))?.entry(method, test.pattern)
    }

    /// The mean loss of a method over all patterns; `None` where a result is missing.
    fn loss(&self, windows: &str, method: &str) -> Option<f64> {
        let sections = &self.found.comparison.results.sections;
        let of = |measure: &Measure| matches!(measure, Measure::Perplexity { evaluation } if evaluation == windows);
        let section = sections.iter().find(|it| of(&it.measure))?;
        let of_pattern = self.plan.base.patterns.iter().map(|pattern| {
            let runs = &section.entry(method, *pattern)?.runs;
            let means: Vec<f64> = runs.iter().map(|run| mean(&run.texts)).collect();
            (!means.is_empty()).then(|| mean(&means))
        });
        Some(mean(&of_pattern.collect::<Option<Vec<f64>>>()?))
    }

    /// Everything for another program.
    fn numbers(&self) -> serde_json::Value {
        let trials = self.plan.trials.iter().enumerate().map(|(index, trial)| {
            let rungs = self.found.rungs.iter().flat_map(|rung| {
                let own = rung.tried.iter().filter(move |it| it.trial == index);
                own.map(move |it| match &it.score {
                    Ok(loss) => json!({ "sequences": rung.sequences, "loss": loss }),
                    Err(error) => json!({ "sequences": rung.sequences, "error": error }),
                })
            });
            let settings: serde_json::Map<String, serde_json::Value> = trial
                .settings
                .iter()
                .map(|(axis, value)| {
                    let value = match value {
                        Setting::Chosen(text) => json!(text),
                        Setting::Number(number) => json!(number),
                    };
                    (axis.clone(), value)
                })
                .collect();
            json!({
                "name": trial.method.name,
                "method": trial.method.to_string(),
                "settings": settings,
                "rungs": rungs.collect::<Vec<_>>(),
            })
        });
        let tests = self.tests().into_iter().map(|test| {
            json!({
                "pattern": test.pattern.to_string(),
                "against": test.other,
                "difference": test.difference.mean,
                "interval": [test.over_both.low, test.over_both.high],
                "p": test.p,
                "p_corrected": test.adjusted,
            })
        });
        json!({
            "schema": 1,
            "search": self.plan.base.name,
            "points": self.plan.points,
            "winner": self.winner().method.name,
            "trials": trials.collect::<Vec<_>>(),
            "same": self.plan.merged.iter().map(|(name, same)| json!({ "name": name, "as": same })).collect::<Vec<_>>(),
            "comparisons": tests.collect::<Vec<_>>(),
        })
    }
}

fn axes_sheet(rows: Vec<Vec<SheetCell>>) -> Sheet {
    Sheet {
        title: "What mattered".to_string(),
        columns: vec![
            Column::words("axis"),
            Column::words("value"),
            Column::numbers("trials"),
            Column::numbers("mean"),
            Column::numbers("best"),
        ],
        rows,
        notes: vec![
            "Perplexities of the first rung, which has all trials: the mean of those with this value, and the best of them. Other axes \
             were drawn with them, so small differences may be theirs."
                .to_string(),
        ],
    }
}

/// Losses by value; numbers of which there are many are put into groups of as many trials each.
fn grouped(values: Vec<(&Setting, f64)>) -> Vec<(String, Vec<f64>)> {
    let mut numbers: Vec<(f64, f64)> = Vec::new();
    let mut groups: Vec<(String, Vec<f64>)> = Vec::new();
    let mut put = |label: String, loss: f64| match groups.iter_mut().find(|(known, _)| *known == label) {
        Some((_, losses)) => losses.push(loss),
        None => groups.push((label, vec![loss])),
    };
    for (value, loss) in values {
        match value {
            Setting::Chosen(text) => put(text.clone(), loss),
            Setting::Number(number) => numbers.push((*number, loss)),
        }
    }
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut different: Vec<f64> = numbers.iter().map(|(number, _)| *number).collect();
    different.dedup();
    if different.len() <= 2 * GROUPS {
        numbers.iter().for_each(|(number, loss)| put(number.to_string(), *loss));
        return groups;
    }
    for group in numbers.chunks(numbers.len().div_ceil(GROUPS)) {
        let label = format!("{} to {}", group[0].0, group[group.len() - 1].0);
        groups.push((label, group.iter().map(|(_, loss)| *loss).collect()));
    }
    groups
}

fn score(rung: &Rung, trial: usize) -> Option<f64> {
    let tried = rung.tried.iter().find(|it| it.trial == trial)?;
    tried.score.as_ref().ok().copied()
}

fn failures(rung: &Rung) -> usize {
    rung.tried.iter().filter(|it| it.score.is_err()).count()
}

fn settings(trial: &Trial) -> String {
    let settings = trial.settings.iter().map(|(axis, value)| format!("{axis} {value}"));
    match trial.settings.is_empty() {
        true => trial.method.to_string(),
        false => settings.collect::<Vec<_>>().join(", "),
    }
}

/// A loss as the perplexity that it is.
fn perplexity(loss: Option<f64>) -> SheetCell {
    let value = loss.map(f64::exp);
    number(value, value.map_or(0, digits).max(2))
}
