//! What was found, in a few short sentences: which method has the best score where, and of how many differences to the others chance is
//! no likely explanation.

use super::comparison::{ComparisonFamily, Contest, TestVerdict, contests};
use super::format::list;
use super::results::{Measure, Results, Section};
use crate::stats::Shown;

/// Most patterns that are listed one by one.
const FEW: usize = 6;

/// The sentences for a report; they claim no more than the comparisons, after their correction.
pub fn sentence(results: &Results, families: &[ComparisonFamily]) -> String {
    let contests = spoken_of(contests(results, families));
    let (Some(first), Some(last)) = (contests.first(), contests.last()) else {
        return match results.failed {
            0 => "No pruned model has a result yet.".to_string(),
            failed => format!(
                "No pruned model has a result: of {} cells, {failed} failed.",
                results.planned
            ),
        };
    };
    let alone = contests.iter().all(|it| it.standing.others() == 0);
    let close = std::ptr::eq(first.section, last.section) && contests.len() <= FEW;
    let mut said: Vec<String> = progress(results).into_iter().collect();
    match alone && close {
        true => said.push(only(&contests)),
        false => {
            said.push(if close { leaders(&contests) } else { counted(&contests) });
            let tests = declared(families, results.plan.experiment.confidence);
            said.push(tests.unwrap_or_else(|| significant(&contests, close)));
        }
    }
    said.extend(seeds(results, &contests));
    said.join(" ")
}

/// The contests that a sentence is about: those of several methods. If there is none yet, those of one method on one model by one
/// measure.
fn spoken_of(mut contests: Vec<Contest>) -> Vec<Contest> {
    let alone = |contest: &Contest| contest.standing.others() == 0;
    if !contests.iter().all(alone) {
        contests.retain(|contest| !alone(contest));
    } else if let Some(first) = contests.first() {
        let (section, best) = (first.section, first.standing.best);
        contests.retain(|contest| std::ptr::eq(contest.section, section) && contest.standing.best == best);
        contests.truncate(FEW);
    }
    contests
}

/// How much of the experiment is done, unless it is all.
fn progress(results: &Results) -> Option<String> {
    let Results {
        done, failed, planned, ..
    } = results;
    let failures = match failed {
        0 => String::new(),
        failed => format!(", and {failed} failed"),
    };
    match done + failed == *planned {
        true => (*failed > 0).then(|| format!("Of {planned} cells, {failed} failed.")),
        false => Some(format!("So far, {done} of {planned} cells have results{failures}.")),
    }
}

/// What one seed cannot tell.
fn seeds(results: &Results, contests: &[Contest]) -> Option<String> {
    let calibrated = results.plan.experiment.methods.iter().any(|method| method.calibrated);
    let compared = contests.iter().any(|it| it.standing.others() > 0);
    (results.plan.experiment.seeds.len() == 1 && calibrated && compared).then(|| {
        "There is only one calibration seed, so it is not known how much the results would change with other calibration texts.".to_string()
    })
}

fn shown(measure: &Measure, value: f64) -> String {
    format!("{:.*}", measure.digits(value), Shown(value))
}

/// The value at a pattern, such as `50 % (41.58)`.
fn value(contest: &Contest) -> String {
    let value = shown(&contest.section.measure, contest.standing.value);
    format!("{} ({value})", contest.pattern)
}

/// What a section measures, and its dense value: `perplexity on persuasion`.
fn measured(section: &Section) -> String {
    let measure = &section.measure;
    let on = measure.evaluation().cloned().unwrap_or_else(|| measure.label());
    format!("{} on {on}", measure.quantity())
}

fn dense(section: &Section) -> String {
    let dense = section.dense_value();
    dense.map_or(String::new(), |dense| {
        format!(" (dense: {})", shown(&section.measure, dense))
    })
}

/// The sentences for a single method.
fn only(contests: &[Contest]) -> String {
    let [first, ..] = contests else {
        return String::new();
    };
    let values: Vec<String> = contests
        .iter()
        .map(|it| format!("{} at {}", shown(&it.section.measure, it.standing.value), it.pattern))
        .collect();
    format!(
        "The {} of {}, pruned with {}, is {}{}. No other method has results to compare it with.",
        measured(first.section),
        first.section.model,
        named(first.standing.best),
        list(&values),
        dense(first.section)
    )
}

/// Which method is best at which pattern of one section.
fn leaders(contests: &[Contest]) -> String {
    let [first, ..] = contests else {
        return String::new();
    };
    let best = grouped(contests.iter().map(|contest| (winner(contest), value(contest))));
    let extreme = match first.section.measure.higher_is_better() {
        true => "highest",
        false => "lowest",
    };
    let (model, measured, dense) = (&first.section.model, measured(first.section), dense(first.section));
    match best.as_slice() {
        [(winner, values)] => format!(
            "On {model}, {} the {extreme} {measured}{dense} at {}.",
            winner.with_verb(),
            list(values)
        ),
        several => {
            let those = several
                .iter()
                .map(|(winner, values)| format!("that of {} at {}", winner.text(), list(values)));
            format!(
                "On {model}, the {extreme} {measured}{dense} is {}.",
                list(&those.collect::<Vec<_>>())
            )
        }
    }
}

/// What was found under each key, keys in the order in which they come.
fn grouped<K: PartialEq, V>(found: impl Iterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    for (key, value) in found {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// The name of a method in a sentence, between quotation marks where the sentence could not be read without them.
fn named(method: &str) -> String {
    match method.contains([' ', ',']) {
        true => format!("“{method}”"),
        false => method.to_string(),
    }
}

/// The methods with the best score: one, or several that have the same.
#[derive(PartialEq)]
struct Winner(Vec<String>);

impl Winner {
    fn text(&self) -> String {
        match self.0.as_slice() {
            [one] => one.clone(),
            equal => format!("{} (equal)", list(equal)),
        }
    }

    fn with_verb(&self) -> String {
        let verb = if self.0.len() == 1 { "has" } else { "have" };
        format!("{} {verb}", self.text())
    }
}

fn winner(contest: &Contest) -> Winner {
    let standing = &contest.standing;
    let names = std::iter::once(standing.best).chain(standing.equal.iter().copied());
    Winner(names.map(named).collect())
}

/// What the comparisons that the experiment declared show; none if it declared none or if nothing was compared.
fn declared(families: &[ComparisonFamily], confidence: f64) -> Option<String> {
    /// Most pairs that are named.
    const MOST: usize = 3;
    let mut pairs: Vec<(&str, &str, [usize; 5])> = Vec::new();
    for test in families
        .iter()
        .filter(|family| family.declared)
        .flat_map(|it| &it.tests)
    {
        let place = pairs
            .iter()
            .position(|(ours, other, _)| (*ours, *other) == (&test.ours, &test.other));
        let place = place.unwrap_or_else(|| {
            pairs.push((&test.ours, &test.other, [0; 5]));
            pairs.len() - 1
        });
        let [all, better, worse, told_better, told_worse] = &mut pairs[place].2;
        *all += 1;
        let zero = test.difference.mean == 0.0;
        let ahead = (test.difference.mean > 0.0) == test.measure.higher_is_better();
        *better += usize::from(ahead && !zero);
        *worse += usize::from(!ahead && !zero);
        *told_better += usize::from(test.verdict(confidence) == TestVerdict::Better);
        *told_worse += usize::from(test.verdict(confidence) == TestVerdict::Worse);
    }
    let said = pairs.iter().take(MOST).map(|(ours, other, counts)| {
        let [all, better, worse, told_better, told_worse] = counts;
        let scores = match (better, worse) {
            (better, 0) if better == all => format!("better in all {all}"),
            (0, worse) if worse == all => format!("worse in all {all}"),
            _ => format!("better in {better} and worse in {worse} of {all}"),
        };
        let told = match (told_better, told_worse) {
            (0, 0) => "no difference is significant".to_string(),
            (some, 0) => format!("significantly better in {some}"),
            (0, some) => format!("significantly worse in {some}"),
            (some, others) => format!("significantly better in {some} and worse in {others}"),
        };
        let said = match counts {
            [1, 0, 0, ..] => "no difference".to_string(),
            [1, better, _, told_better, told_worse] => {
                let word = if *better > 0 { "better" } else { "worse" };
                match told_better + told_worse {
                    0 => format!("{word}, but not significantly"),
                    _ => format!("significantly {word}"),
                }
            }
            _ => format!("{scores}, {told}"),
        };
        format!("{} against {}: {said}", named(ours), named(other))
    });
    let said: Vec<String> = said.collect();
    let more = match pairs.len().saturating_sub(MOST) {
        0 => String::new(),
        1 => " One more pair is in the table of comparisons.".to_string(),
        more => format!(" {more} more pairs are in the table of comparisons."),
    };
    (!said.is_empty()).then(|| format!("After Holm's correction, {}.{more}", said.join("; ")))
}

/// How often each method is best, over many sections and patterns.
fn counted(contests: &[Contest]) -> String {
    let mut best = grouped(contests.iter().map(|contest| (winner(contest), ())));
    best.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    let rest: usize = best.iter().skip(FEW).map(|(_, places)| places.len()).sum();
    let mut counts: Vec<String> = best
        .iter()
        .take(FEW)
        .map(|(winner, places)| format!("of {} in {}", winner.text(), places.len()))
        .collect();
    if rest > 0 {
        counts.push(format!("of others in {rest}"));
    }
    let text = format!(
        "There are {} combinations of model, measure and pattern. The best score is that {}.",
        contests.len(),
        counts.join("; ")
    );
    let example = contests.first().map(|first| {
        format!(
            " For example, on {} at {}, {} the best {}: {}{}.",
            first.section.model,
            first.pattern,
            winner(first).with_verb(),
            measured(first.section),
            shown(&first.section.measure, first.standing.value),
            dense(first.section)
        )
    });
    text + &example.unwrap_or_default()
}

/// The significant differences between methods of which neither is the best; nothing if there are none.
fn told(contests: &[Contest], few: bool) -> Option<String> {
    let told = contests.iter().flat_map(|contest| {
        // What is worse than the best is said already.
        let told = contest.standing.told.iter();
        let told = told.filter(|(_, worse)| !contest.standing.beaten.contains(worse));
        told.map(|(better, worse)| ((*better, *worse), contest.pattern.to_string()))
    });
    let pairs = grouped(told);
    let count: usize = pairs.iter().map(|(_, patterns)| patterns.len()).sum();
    match (count, few && pairs.len() <= 3) {
        (0, _) => None,
        (_, true) => {
            let said = pairs.iter().map(|((better, worse), patterns)| {
                format!(
                    "{} is significantly better than {} at {}",
                    named(better),
                    named(worse),
                    list(patterns)
                )
            });
            Some(format!("Of the other methods, {}.", list(&said.collect::<Vec<_>>())))
        }
        (1, false) => Some("One difference between other methods is significant.".to_string()),
        (some, false) => Some(format!("{some} differences between other methods are significant.")),
    }
}

/// How many of the comparisons of the best with others are significant, and if there are few, which.
fn significant(contests: &[Contest], few: bool) -> String {
    let sum = |of: fn(&Contest) -> usize| contests.iter().map(of).sum::<usize>();
    let beaten = sum(|it| it.standing.beaten.len());
    let compared = beaten + sum(|it| it.standing.tied.len());
    let untested = sum(|it| it.standing.untested.len());
    let lone = sum(|it| it.standing.lone.len());
    let losers = grouped(contests.iter().flat_map(|contest| {
        let losers = contest.standing.beaten.iter();
        losers.map(|loser| (*loser, contest.pattern.to_string()))
    }));
    let which = losers
        .iter()
        .map(|(name, patterns)| format!("to {} at {}", named(name), list(patterns)));
    let which = match few && (1..=3).contains(&losers.len()) {
        true => format!(": {}", list(&which.collect::<Vec<_>>())),
        false => String::new(),
    };
    let corrected = "significant after Holm's correction";
    let share = match (beaten, compared) {
        (0, 0) if lone > 0 => {
            "This may be chance: it was not tested, since a method with one calibration seed is not tested beside methods with several."
                .to_string()
        }
        (0, 0) => "The best was not compared with any other method, so this may be chance.".to_string(),
        (0, 1) => "Its one difference to another method may be chance.".to_string(),
        (0, _) => format!("Each of the {compared} differences between the best and another method may be chance."),
        (1, 1) => format!("Its one difference to another method is {corrected}{which}."),
        (some, all) if some == all => {
            format!("All {all} differences between the best and another method are {corrected}{which}.")
        }
        (some, all) => format!(
            "Of the {all} differences between the best and another method, {some} {} {corrected}{which}. The others may be chance.",
            if some == 1 { "is" } else { "are" }
        ),
    };
    let more = |count: usize, one: &str, several: &str| match count {
        0 => None,
        1 => Some(format!("One more {one}.")),
        count => Some(format!("{count} more {several}.")),
    };
    let parts = [
        Some(share),
        more(untested, "was not compared", "were not compared").filter(|_| compared > 0),
        more(
            lone,
            "difference is of one calibration seed and was not tested",
            "differences are of one calibration seed and were not tested",
        )
        .filter(|_| compared > 0),
        told(contests, few),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
