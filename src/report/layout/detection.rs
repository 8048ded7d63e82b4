//! What comparisons could have shown: the smallest true difference that would have been found, or why hardly any would.

use crate::report::comparison::{Hopeless, Test};
use crate::report::format::{counted, percent};
use crate::report::results::Measure;
use crate::stats::Shown;
use crate::stats::power::POWER;

/// Largest difference of two shares, in points, and the largest change of a perplexity, in percent, that anybody asks about.
const MOST: f64 = 100.0;

/// What could have been detected, over all comparisons of a table: the range, and how many comparisons could show nothing. What holds for
/// more of them comes first.
pub(super) fn detection(tests: &[&Test], measure: &Measure) -> Option<String> {
    let tests: Vec<&Test> = tests.iter().copied().filter(|test| !test.lone).collect();
    let (hopeless, able): (Vec<&Test>, Vec<&Test>) = tests.iter().copied().partition(|test| test.hopeless.is_some());
    let mut told: Vec<(f64, &Test)> = able.iter().filter_map(|it| Some((it.detectable?, *it))).collect();
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    let power = percent(POWER);
    let unit = match measure {
        Measure::Perplexity { .. } => "% of the perplexity",
        Measure::Divergence { .. } => "nats",
        Measure::Agreement { .. } | Measure::Accuracy { .. } => "percentage points",
    };
    let most_are_hopeless = 2 * hopeless.len() > tests.len();
    let mut said = Vec::new();
    if let (Some((_, least)), Some((_, most))) = (told.first(), told.last()) {
        let (least, most) = (detectable(least, 2)?, detectable(most, 2)?);
        let range = match least == most {
            true => format!("{least} {unit}"),
            false => format!("{least} to {most} {unit}, depending on the pair"),
        };
        let of = match (most_are_hopeless, told.len()) {
            (false, _) => String::new(),
            (true, 1) => " of 1 other".to_string(),
            (true, others) => format!(" of {others} others"),
        };
        said.push(format!("Minimum detectable difference{of} at {power} power: {range}."));
    }
    if !hopeless.is_empty() {
        let place = if most_are_hopeless { 0 } else { said.len() };
        said.insert(place, almost_nothing(&hopeless, tests.len(), measure));
    }
    let alike = able.len() - told.len();
    if alike > 0 && !said.is_empty() {
        said.push(format!(
            "In {} the methods do not differ in any text, so it is not known what {} could show.",
            counted(alike, "comparison"),
            if alike == 1 { "it" } else { "they" }
        ));
    }
    (!said.is_empty()).then(|| said.join(" "))
}

/// How many of `all` comparisons can show almost nothing, and why.
fn almost_nothing(hopeless: &[&Test], all: usize, measure: &Measure) -> String {
    let of = |cause| hopeless.iter().filter(move |test| test.hopeless == Some(cause));
    let power = percent(POWER);
    let documents = of(Hopeless::Documents).map(|test| test.difference.texts.n).max();
    let documents = documents.map(|most| format!("{} are too few", counted(most, "document")));
    let seeds = of(Hopeless::Spread).map(|test| test.seeds.len()).max();
    let spread = seeds.map(|seeds| match seeds {
        2..=4 => format!("{seeds} seeds tell too little about how much seeds differ (use more)"),
        _ => "there are too few texts, or they differ too much".to_string(),
    });
    let remedy: Vec<String> = documents.into_iter().chain(spread).collect();
    let remedy = remedy.join(", or ");
    let difference = match measure {
        Measure::Perplexity { .. } => "of 100 %",
        Measure::Divergence { .. } => "of 100 nats",
        Measure::Agreement { .. } | Measure::Accuracy { .. } => "of 100 points",
    };
    let two = of(Hopeless::Seeds).any(|test| test.seeds.len() == 2);
    let two = two.then_some("there are only two seeds (use three or more)");
    let equal = of(Hopeless::Seeds).any(|test| test.seeds.len() > 2);
    let equal = equal.then_some("all seeds happen to have the same difference (use more seeds)");
    let unknown: Vec<&str> = two.into_iter().chain(equal).collect();
    let unknown = unknown.join(", or ");
    let (of_seeds, far) = (
        of(Hopeless::Seeds).count(),
        hopeless.len() - of(Hopeless::Seeds).count(),
    );
    let far_reason =
        format!("even one {difference} would be found with less than {power} probability, because {remedy}");
    let seed_reason = format!("it is not known how much seeds differ, because {unknown}");
    let share = match (hopeless.len(), all) {
        (1, 1) => "The one comparison".to_string(),
        (some, all) if some == all => format!("Each of the {all} comparisons"),
        (some, all) => format!("{some} of {all} comparisons"),
    };
    let why = match (far, of_seeds) {
        (_, 0) => format!(": {far_reason}."),
        (0, _) => format!(": {seed_reason}."),
        (far, of_seeds) => format!(". In {of_seeds} of them {seed_reason}. In the other {far}, {far_reason}."),
    };
    format!("{share} can find almost no difference{why}")
}

/// The smallest difference that would be found, as text, if it is known. One over 100 % or 100 points is none that says
/// anything.
pub(super) fn detectable(test: &Test, digits: usize) -> Option<String> {
    match test.hopeless {
        Some(Hopeless::Seeds) => None,
        Some(Hopeless::Documents | Hopeless::Spread) => Some(format!("over {MOST}")),
        None => Some(format!("{:.digits$}", Shown(test.shown(test.detectable?)))),
    }
}

/// Whether an interval of a difference between shares reaches beyond what differences can be.
pub(super) fn beyond(test: &Test) -> bool {
    let shares = matches!(test.measure, Measure::Agreement { .. } | Measure::Accuracy { .. });
    let ends = [test.over_both.low, test.over_both.high];
    shares && ends.iter().any(|end| test.shown(*end).abs() > MOST)
}
