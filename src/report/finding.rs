//! What was found, in one sentence: which method has the best score where, and of how many differences to the others chance is no
//! likely explanation.

use super::comparison::{ComparisonFamily, Contest, TestVerdict, contests};
use super::format::list;
use super::results::{Measure, Results, Section};
use crate::stats::Shown;

/// Most patterns that are listed one by one.
const FEW: usize = 6;

/// The sentence for a report; it claims no more than the comparisons, after their correction.
pub fn sentence(results: &Results, families: &[ComparisonFamily]) -> String {
    let contests = contests(results, families);
    let said = match (contests.first(), contests.last()) {
        (Some(first), Some(last)) => {
            let alone = contests.iter().all(|it| it.standing.others() == 0);
            let close = std::ptr::eq(first.section, last.section) && contests.len() <= FEW;
            match (alone, close) {
                (true, true) => only(&contests),
                (_, close) => {
                    let scores = if close { leaders(&contests) } else { counted(&contests) };
                    let tests = declared(families, results.plan.experiment.confidence);
                    format!("{scores}; {}", tests.unwrap_or_else(|| significant(&contests, close)))
                }
            }
        }
        _ => "No pruned model has a result yet".to_string(),
    };
    format!(
        "{}{said}{}.",
        progress(results, contests.is_empty()),
        seeds(results, &contests)
    )
}

/// How much of the experiment is done, unless it is all.
fn progress(results: &Results, nothing: bool) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let (mut done, mut planned) = (0, 0);
    for section in &results.sections {
        if !seen.contains(&section.model.as_str()) {
            seen.push(&section.model);
            let entries = || std::iter::once(&section.dense).chain(&section.entries);
            done += entries().map(|entry| entry.runs.len()).sum::<usize>();
            planned += entries().map(|entry| entry.planned).sum::<usize>();
        }
    }
    match done < planned && !nothing {
        true => format!("So far, with results of {done} of {planned} cells: "),
        false => String::new(),
    }
}

/// What one seed cannot tell.
fn seeds(results: &Results, contests: &[Contest]) -> &'static str {
    let calibrated = results.plan.experiment.methods.iter().any(|method| method.calibrated);
    let compared = contests.iter().any(|it| it.standing.others() > 0);
    match results.plan.experiment.seeds.len() {
        1 if calibrated && compared => {
            "; with one calibration seed nothing is known of what another draw of calibration texts would change"
        }
        _ => "",
    }
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

/// The sentence for a single method.
fn only(contests: &[Contest]) -> String {
    let [first, ..] = contests else {
        return String::new();
    };
    let values: Vec<String> = contests.iter().map(value).collect();
    format!(
        "On {}, {} has {}{} at {}; no other method has results to compare it with",
        first.section.model,
        first.standing.best,
        match measured(first.section) {
            vowel if vowel.starts_with('a') => format!("an {vowel}"),
            other => format!("a {other}"),
        },
        dense(first.section),
        list(&values)
    )
}

/// Which method is best at which pattern of one section.
fn leaders(contests: &[Contest]) -> String {
    let [first, ..] = contests else {
        return String::new();
    };
    let mut best: Vec<(String, Vec<String>)> = Vec::new();
    for contest in contests {
        let winner = winner(contest);
        match best.iter_mut().find(|(name, _)| *name == winner) {
            Some((_, values)) => values.push(value(contest)),
            None => best.push((winner, vec![value(contest)])),
        }
    }
    let extreme = match first.section.measure.higher_is_better() {
        true => "highest",
        false => "lowest",
    };
    let (name, values) = &best[0];
    let mut text = format!(
        "On {}, {name} has the {extreme} {}{} at {}",
        first.section.model,
        measured(first.section),
        dense(first.section),
        list(values)
    );
    for (name, values) in &best[1..] {
        text.push_str(&format!(", {name} at {}", list(values)));
    }
    text
}

/// The method with the best score, with others that have the same.
fn winner(contest: &Contest) -> String {
    let standing = &contest.standing;
    match standing.equal.as_slice() {
        [] => standing.best.to_string(),
        equal => {
            let names = std::iter::once(standing.best).chain(equal.iter().copied());
            format!("{} (equal)", list(&names.map(String::from).collect::<Vec<_>>()))
        }
    }
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
        format!("{ours} against {other}: {scores}, {told}")
    });
    let mut said: Vec<String> = said.collect();
    if pairs.len() > MOST {
        said.push(format!(
            "{} more pairs are in the table of comparisons",
            pairs.len() - MOST
        ));
    }
    (!said.is_empty()).then(|| format!("{}, after Holm's correction", said.join("; ")))
}

/// How often each method is best, over many sections and patterns.
fn counted(contests: &[Contest]) -> String {
    let mut best: Vec<(String, usize)> = Vec::new();
    for contest in contests {
        let winner = winner(contest);
        match best.iter_mut().find(|(name, _)| *name == winner) {
            Some((_, count)) => *count += 1,
            None => best.push((winner, 1)),
        }
    }
    best.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest: usize = best.iter().skip(FEW).map(|(_, count)| count).sum();
    let mut counts: Vec<String> = best
        .iter()
        .take(FEW)
        .map(|(name, count)| format!("{name} in {count}"))
        .collect();
    if rest > 0 {
        counts.push(format!("others in {rest}"));
    }
    let text = format!(
        "The best score of {} combinations of model, measure and pattern is that of {}",
        contests.len(),
        list(&counts)
    );
    let example = contests.first().map(|first| {
        format!(
            "; for example, {} at {} is {} with {}{}",
            measured(first.section),
            first.pattern,
            shown(&first.section.measure, first.standing.value),
            winner(first),
            dense(first.section)
        )
    });
    text + &example.unwrap_or_default()
}

/// The significant differences to methods that are not told apart from the best; empty if there are none.
fn told(contests: &[Contest], named: bool) -> String {
    let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
    let mut count = 0;
    for contest in contests {
        // What is worse than the best is said already.
        let told = contest.standing.told.iter();
        for (better, worse) in told.filter(|(_, worse)| !contest.standing.beaten.contains(worse)) {
            count += 1;
            let said = format!("{better} is better than {worse}");
            match pairs.iter_mut().find(|(known, _)| *known == said) {
                Some((_, patterns)) => patterns.push(contest.pattern.to_string()),
                None => pairs.push((said, vec![contest.pattern.to_string()])),
            }
        }
    }
    match (count, named && pairs.len() <= 3) {
        (0, _) => String::new(),
        (_, true) => {
            let said = pairs
                .iter()
                .map(|(said, patterns)| format!("{said} at {}", list(patterns)));
            format!(
                "; of the other methods, {}, significantly",
                said.collect::<Vec<_>>().join(", and ")
            )
        }
        (1, false) => "; one difference between other methods is significant".to_string(),
        (some, false) => format!("; {some} differences between other methods are significant"),
    }
}

/// How many of the comparisons of the best with others are significant, and if there are few, which.
fn significant(contests: &[Contest], named: bool) -> String {
    let beaten: usize = contests.iter().map(|it| it.standing.beaten.len()).sum();
    let compared: usize = beaten + contests.iter().map(|it| it.standing.tied.len()).sum::<usize>();
    let untested: usize = contests.iter().map(|it| it.standing.untested.len()).sum();
    if compared == 0 {
        return "the best was not compared with any other method, so this may be chance".to_string();
    }
    let mut losers: Vec<(&str, Vec<String>)> = Vec::new();
    for contest in contests {
        for loser in &contest.standing.beaten {
            match losers.iter_mut().find(|(name, _)| name == loser) {
                Some((_, patterns)) => patterns.push(contest.pattern.to_string()),
                None => losers.push((loser, vec![contest.pattern.to_string()])),
            }
        }
    }
    let which: Vec<String> = losers
        .iter()
        .map(|(name, patterns)| format!("{name} at {}", list(patterns)))
        .collect();
    let which = match named && (1..=3).contains(&which.len()) {
        true => format!(" (over {})", which.join("; ")),
        false => String::new(),
    };
    let share = match (beaten, compared) {
        (0, 1) => "its one difference to another method may be chance".to_string(),
        (0, _) => format!("each of the {compared} differences between the best and another method may be chance"),
        (1, 1) => format!("its one difference to another method is significant{which}"),
        (some, all) if some == all => {
            format!("all {all} differences between the best and another method are significant{which}")
        }
        (some, all) => format!(
            "of the {all} differences between the best and another method, {some} {} significant{which} and the others may \
             be chance",
            if some == 1 { "is" } else { "are" }
        ),
    };
    let corrected = if beaten > 0 { ", after Holm's correction" } else { "" };
    let others = told(contests, named);
    match untested {
        0 => format!("{share}{corrected}{others}"),
        _ => format!("{share}{corrected}{others}; {untested} more were not compared"),
    }
}
