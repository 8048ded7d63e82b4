//! What was found, in one sentence: which method has the best score where, and of how many differences to the others chance is no
//! likely explanation.

use super::comparison::{ComparisonFamily, Contest, contests};
use super::format::{digits, list};
use super::results::{Results, Section};
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
                (_, true) => format!("{}; {}", leaders(&contests), significant(&contests, true)),
                (_, false) => format!("{}; {}", counted(&contests), significant(&contests, false)),
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

fn shown(value: f64) -> String {
    format!("{:.*}", digits(value), Shown(value))
}

/// The value at a pattern, such as `50 % (41.58)`.
fn value(contest: &Contest) -> String {
    format!("{} ({})", contest.pattern, shown(contest.standing.value))
}

/// What a section measures, and its dense value: `perplexity on persuasion`.
fn measured(section: &Section) -> String {
    match section.measure.higher_is_better() {
        true => format!("accuracy on {}", section.measure.label()),
        false => format!("perplexity on {}", section.measure.label()),
    }
}

fn dense(section: &Section) -> String {
    let dense = section.dense_value();
    dense.map_or(String::new(), |dense| format!(" (dense: {})", shown(dense)))
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
        match first.section.measure.higher_is_better() {
            true => "an ".to_string() + &measured(first.section),
            false => "a ".to_string() + &measured(first.section),
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
    let mut best: Vec<(&str, Vec<String>)> = Vec::new();
    for contest in contests {
        match best.iter_mut().find(|(name, _)| *name == contest.standing.best) {
            Some((_, values)) => values.push(value(contest)),
            None => best.push((contest.standing.best, vec![value(contest)])),
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

/// How often each method is best, over many sections and patterns.
fn counted(contests: &[Contest]) -> String {
    let mut best: Vec<(&str, usize)> = Vec::new();
    for contest in contests {
        match best.iter_mut().find(|(name, _)| *name == contest.standing.best) {
            Some((_, count)) => *count += 1,
            None => best.push((contest.standing.best, 1)),
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
    format!(
        "Of {} combinations of model, measure and pattern, the best score is that of {}",
        contests.len(),
        list(&counts)
    )
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
    match untested {
        0 => format!("{share}{corrected}"),
        _ => format!("{share}{corrected}; {untested} more were not compared"),
    }
}
