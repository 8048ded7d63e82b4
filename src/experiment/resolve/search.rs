//! Searches: the space becomes the methods that are tried, each of them resolved and checked as if it had been typed.

use super::methods::method;
use super::names::distinct;
use super::paths::place_method;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::experiment::draw::{self, Drawn, Point, Space};
use crate::experiment::identity::PruningKind;
use crate::experiment::plan::{Experiment, MethodPlan};
use crate::experiment::problems::Problems;
use crate::experiment::protocol::Named;
use crate::experiment::raw::{RawComponent, RawExperiment, RawMethod, RawSearch};
use crate::experiment::search::{CONFIRMING, SAME_TEXT, SELECTING, SearchPlan, Trial};
use crate::experiment::source::Source;
use crate::experiment::space::RawSpace;
use crate::prune::limits::Limits;
use crate::registry::plain;
use serde::de::DeserializeOwned;
use serde_spanned::Spanned;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// More trials than this are a slip.
const MOST_TRIALS: usize = 10_000;

/// Fewer held-out windows than this have no two halves with a spread.
const LEAST_HELD_OUT: usize = 4;

/// The choice of a step that a method does without.
const WITHOUT: &str = "none";

/// A search whose own settings are looked at.
pub struct Taken {
    span: Range<usize>,
    spaces: Vec<RawSpace>,
    trials: Option<Spanned<usize>>,
    seed: u64,
    halve: usize,
    sequences: Vec<usize>,
    held_out: usize,
    confirm: Option<Spanned<Vec<u64>>>,
}

/// Takes the search out of what was typed, if there is one: the methods that the winner is compared with become those of the experiment,
/// and the windows of the last rung those of its calibration.
pub fn taken(raw: &mut RawExperiment, problems: &mut Problems) -> Option<Taken> {
    let search = raw.search.take()?;
    let (span, search) = (search.span(), search.into_inner());
    let misplaced = [
        (raw.methods.first().map(Spanned::span), "methods"),
        (raw.method.first().map(Spanned::span), "[[method]]"),
        (raw.comparison.first().map(Spanned::span), "[[comparison]]"),
        (raw.reference.first().map(Spanned::span), "[[reference]]"),
    ];
    for (place, what) in misplaced {
        if let Some(place) = place {
            let message = format!(
                "a search has no `{what}`: the methods that are tried are in [search.method], and those that the winner is compared with in \
                 `against` of [search]"
            );
            problems.add(place, Error::config(message));
        }
    }
    if let Some(second) = raw.model.get(1) {
        problems.add(second.span(), Error::config("a search has one [[model]]"));
    }
    (raw.methods, raw.method) = (search.against.clone(), Vec::new());
    if search.against.is_empty() {
        let message =
            "`against` is missing: the methods that the winner is compared with, such as `against = [\"wanda\"]`";
        problems.missing(&span, "against", message);
    }
    let spaces = search.method.as_ref().map(|spaces| spaces.get_ref().0.clone());
    let spaces = spaces.unwrap_or_default();
    if spaces.is_empty() {
        let message = "there is no [search.method]; it is the space: a [[method]] in which values may be lists, such as `solver = \
                       [\"one-shot\", \"obs\"]`, or ranges, such as `{ from = 0.0, to = 1.0 }`";
        problems.missing(&span, "method", message);
    }
    let sequences = rungs(&search, &span, problems);
    if let Some(calibration) = &mut raw.calibration {
        let place = calibration.span();
        let calibration = calibration.get_mut();
        if calibration.sequences.is_some() {
            let message = "the numbers of windows of all rungs are in `sequences` of [search]; leave this one out";
            problems.add(problems.place(&place, &["sequences"]), Error::config(message));
        } else if let Some(tokens) = &calibration.tokens {
            let message =
                "a search draws its windows from a `corpus`, and holds some out; `tokens` are windows already";
            problems.add(tokens.span(), Error::config(message));
        }
        calibration.sequences = Some(sequences.last().copied().unwrap_or(1));
    }
    let limited = |value: &Option<Spanned<usize>>,
                   default: usize,
                   range: Range<usize>,
                   message: &str,
                   problems: &mut Problems| {
        let Some(value) = value else { return default };
        if !range.contains(value.get_ref()) {
            problems.add(value.span(), Error::config(message));
        }
        *value.get_ref()
    };
    let message = format!("`trials` is a number of methods to try: at least 1, at most {MOST_TRIALS}");
    limited(&search.trials, 1, 1..MOST_TRIALS + 1, &message, problems);
    let message = "`halve = N` means that one of N methods goes on to the next rung; N must be at least 2";
    let halve = limited(&search.halve, 3, 2..usize::MAX, message, problems).max(2);
    let message = format!(
        "`held_out` is a number of windows, at least {LEAST_HELD_OUT}: one half selects methods, the other half tests the winner"
    );
    let held_out = limited(&search.held_out, 32, LEAST_HELD_OUT..usize::MAX, &message, problems);
    Some(Taken {
        span,
        spaces,
        trials: search.trials,
        seed: search.seed,
        halve,
        sequences,
        held_out,
        confirm: search.confirm,
    })
}

/// The numbers of calibration windows; one window if they are wrong.
fn rungs(search: &RawSearch, span: &Range<usize>, problems: &mut Problems) -> Vec<usize> {
    let Some(sequences) = &search.sequences else {
        let message =
            "`sequences` is missing: the number of calibration windows of each rung, such as `sequences = [8, 24, 72]`";
        problems.missing(span, "sequences", message);
        return vec![1];
    };
    let numbers = sequences.get_ref();
    let message = if numbers.is_empty() {
        "`sequences` is empty: it has the number of calibration windows of each rung, such as [8, 24, 72]"
    } else if numbers.contains(&0) {
        "a rung calibrates with at least one window"
    } else if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
        "`sequences` must ascend: every rung calibrates with more windows than the one before it"
    } else {
        return numbers.clone();
    };
    problems.add(sequences.span(), Error::config(message));
    vec![1]
}

impl Taken {
    /// The search, given what its rungs have in common. `None` if it has a problem.
    pub fn plan(
        self,
        base: Experiment,
        raw: &RawExperiment,
        source: &Source,
        problems: &mut Problems,
    ) -> Option<SearchPlan> {
        let place = |span: Option<Range<usize>>| span.unwrap_or(self.span.clone());
        let calibration = base.calibration.clone();
        let texts = place(raw.calibration.as_ref().map(Spanned::span));
        match &calibration {
            None => {
                let message =
                    "a search needs [calibration], with a `corpus` and a `length`: it holds windows of this text out";
                problems.missing(&self.span, "calibration", message);
            }
            Some(plan) if plan.sampling == Some(Sampling::Answers) => {
                let message = "a search cannot hold windows out of prompts with answers: use another `sampling`";
                problems.add(problems.place(&texts, &["sampling"]), Error::config(message));
            }
            Some(_) => {}
        }
        if base.seeds.is_empty() {
            let message = "a search needs calibration seeds: `seeds = [0]`";
            problems.missing(&place(raw.sweep.as_ref().map(Spanned::span)), "seeds", message);
        }
        for (own, raw) in base.evaluations.iter().zip(&raw.evaluation) {
            if [SELECTING, CONFIRMING].contains(&own.name.as_str()) {
                let message = format!("evaluation name `{}` is taken by held-out windows", own.name);
                problems.add(problems.place(&raw.span(), &["name"]), Error::config(message));
            }
            let text = calibration.as_ref().and_then(|plan| plan.corpus.as_ref());
            if text.is_some() && text == own.corpus.as_ref() {
                let place = raw.get_ref().corpus.as_ref().map_or(raw.span(), Spanned::span);
                problems.add(place, Error::config(SAME_TEXT));
            }
        }
        let confirm = self.confirming(&base.seeds, problems);
        if let Some(plan) = &calibration {
            let seeds = base.seeds.len() + confirm.len();
            let length = plan.length.fixed().unwrap_or(1);
            problems.take(&texts, plan.check_size(length, seeds));
        }
        let drawn = self.drawn(problems)?;
        let (trials, merged) = self.trials(&drawn.points, &base, raw, source, problems);
        if !problems.is_empty() {
            return None;
        }
        Some(SearchPlan {
            base,
            calibration: calibration?,
            trials,
            merged,
            points: drawn.all,
            halve: self.halve,
            sequences: self.sequences,
            held_out: self.held_out,
            confirm,
            seed: self.seed,
        })
    }

    /// The seeds of the comparison at the end: those that were typed, or three that follow the greatest seed of the search.
    fn confirming(&self, seeds: &[u64], problems: &mut Problems) -> Vec<u64> {
        let Some(typed) = &self.confirm else {
            let greatest = seeds.iter().max().copied().unwrap_or(0);
            return (1..=3).map(|step| greatest.wrapping_add(step)).collect();
        };
        let confirm = typed.get_ref();
        let twice = (1..confirm.len()).any(|index| confirm[..index].contains(&confirm[index]));
        let message = match confirm.iter().find(|seed| seeds.contains(seed)) {
            Some(seed) => format!("seed {seed} is one of the seeds of the search; the winner must be compared with other seeds"),
            None if confirm.is_empty() => {
                "`confirm` is empty: it has the calibration seeds with which the winner is compared, such as [100, 101, 102]".to_string()
            }
            None if twice => "a seed is listed twice".to_string(),
            None => return confirm.clone(),
        };
        problems.add(typed.span(), Error::config(message));
        confirm.clone()
    }

    /// The points that are tried. `None` if there is a problem.
    fn drawn(&self, problems: &mut Problems) -> Option<Drawn> {
        let before = problems.count();
        let spaces: Vec<Vec<_>> = self.spaces.iter().map(RawSpace::keys).collect();
        for (_, node) in spaces.iter().flatten() {
            if let Err((span, error)) = draw::check(node) {
                problems.add(span, error);
            }
        }
        if problems.count() > before || spaces.is_empty() {
            return None;
        }
        let spaces: Vec<&Space> = spaces.iter().map(Vec::as_slice).collect();
        let points = draw::count_of(&spaces);
        let count = self.trials.as_ref().map(|trials| *trials.get_ref());
        if count.is_none() && points.is_none_or(|points| points > MOST_TRIALS as u64) {
            let how_many = points.map_or("infinitely many".to_string(), |points| points.to_string());
            let message =
                format!("the space has {how_many} methods; say how many of them are tried, such as `trials = 27`");
            problems.missing(&self.span, "trials", message);
            return None;
        }
        if count.is_some_and(|count| count > MOST_TRIALS) {
            return None;
        }
        draw::draw(&spaces, count, self.seed)
    }

    /// The methods of the points, and those that mean the same as another one. Of points with the same mistake, one is told.
    fn trials(
        &self,
        points: &[Point],
        base: &Experiment,
        raw: &RawExperiment,
        source: &Source,
        problems: &mut Problems,
    ) -> (Vec<Trial>, Vec<(String, String)>) {
        let protocol = base.protocol.as_ref().and_then(|name| Named::find(name).ok());
        let target = raw.calibration.as_ref().and_then(|raw| raw.get_ref().target);
        let folder = source.path.parent().unwrap_or(Path::new(""));
        let digits = points.len().to_string().len();
        let (mut trials, mut merged): (Vec<Trial>, Vec<(String, String)>) = Default::default();
        let (mut meanings, mut told) = (Vec::new(), BTreeSet::new());
        for (index, point) in points.iter().enumerate() {
            let space = &self.spaces[point.space];
            let called = space.name.as_ref().map_or("trial", |name| name.get_ref());
            let name = format!("{called}-{:0digits$}", index + 1);
            let mut own = Problems::default();
            let typed = typed(space, point, &name, &self.span, &mut own);
            let made = typed.and_then(|mut typed| {
                place_method(typed.get_mut(), folder, &mut own);
                method(&typed, target, protocol, &mut own)
            });
            if let Some(made) = &made {
                let place = space.keys().first().map_or(self.span.clone(), |(_, node)| node.span());
                let others = base.methods.iter().map(|method| &method.name);
                own.take(&place, distinct(&made.name, others, "method name"));
                own.take(&place, suits(made, base));
            }
            if !own.is_empty() {
                problems.join(own, &said(&name, point), &mut told);
                continue;
            }
            let Some(made) = made else { continue };
            let meaning = meaning(&made, base);
            if let Some(same) = meanings.iter().position(|known| *known == meaning) {
                merged.push((name, trials[same].method.name.clone()));
                continue;
            }
            meanings.push(meaning);
            trials.push(Trial {
                block: block(&name, point),
                settings: point.settings.clone(),
                method: made,
            });
        }
        (trials, merged)
    }
}

/// A trial in words.
fn said(name: &str, point: &Point) -> String {
    let settings = point.settings.iter().map(|(axis, value)| format!("{axis} = {value}"));
    match point.settings.is_empty() {
        true => name.to_string(),
        false => format!("{name} ({})", settings.collect::<Vec<_>>().join(", ")),
    }
}

/// Checks that a method can be a trial: that it suits the patterns, and has cells for all of them.
fn suits(method: &MethodPlan, base: &Experiment) -> Result<()> {
    if method.pattern.is_some() || method.seed.is_some() || method.outside().is_some() {
        return Err(Error::config(
            "a search tries every method under all patterns and on its own windows: leave out `pattern`, `seed`, and what another program \
             made (`scores`, `mask`, `checkpoint`)",
        ));
    }
    if let Some(pattern) = base.patterns.iter().find(|pattern| !method.takes(pattern)) {
        return Err(Error::config(format!(
            "whole units cannot make N:M groups, so no method could have a score under {pattern}; leave the pattern out"
        )));
    }
    if let Some(recipe) = method.recipe() {
        let recipe = recipe.build(base.selection, base.linear_algebra)?;
        base.patterns
            .iter()
            .try_for_each(|pattern| recipe.check(*pattern, &Limits::NONE))?;
    }
    base.check(method)
}

/// Everything of a method that decides its numbers, as it is in the ids of its cells.
fn meaning(method: &MethodPlan, base: &Experiment) -> String {
    let kinds: Vec<PruningKind> = base
        .patterns
        .iter()
        .filter_map(|pattern| PruningKind::of(method, *pattern, base.selection, None))
        .collect();
    let stage = method.calibrated.then(|| base.stage(method));
    format!("{kinds:?} {stage:?}")
}

/// A point as if it had been typed. `None` if a value is none for its key.
fn typed(
    space: &RawSpace,
    point: &Point,
    name: &str,
    whole: &Range<usize>,
    problems: &mut Problems,
) -> Option<Spanned<RawMethod>> {
    let mut method = RawMethod {
        name: Some(name.to_string()),
        ..RawMethod::default()
    };
    let places = space.keys();
    for (key, value) in &point.keys {
        let span = places
            .iter()
            .find(|(known, _)| known == key)
            .map_or(whole.clone(), |(_, node)| node.span());
        if left_out(key, value) {
            continue;
        }
        fn read<T: DeserializeOwned>(value: &toml::Value, key: &str) -> Result<T> {
            let read = T::deserialize(value.clone());
            read.map_err(|error| Error::config(format!("`{key}`: {}", plain(error.message()))))
        }
        let component = |problems: &mut Problems| {
            let component = problems.take(&span, read::<RawComponent>(value, key));
            component.map(|component| Spanned::new(span.clone(), component))
        };
        match key.as_str() {
            "recipe" => {
                let recipe = problems.take(&span, read::<String>(value, key));
                method.recipe = recipe.map(|recipe| Spanned::new(span.clone(), recipe));
            }
            "criterion" => method.criterion = component(problems),
            "solver" => method.solver = component(problems),
            "allocator" => method.allocator = component(problems),
            "transform" => method.transform = component(problems),
            "permutation" => method.permutation = component(problems),
            "refine" => method.refine = component(problems),
            "compensate" => method.compensate = component(problems),
            "units" => method.units = component(problems),
            "group" => method.group = problems.take(&span, read(value, key)),
            "stage" => method.stage = problems.take(&span, read(value, key)),
            "target" => method.target = problems.take(&span, read(value, key)),
            _ => method.widths = problems.take(&span, read(value, key)),
        }
    }
    let place = places.first().map_or(whole.clone(), |(_, node)| node.span());
    problems.is_empty().then(|| Spanned::new(place, method))
}

/// Whether a step is left out: of those that a method may do without.
fn left_out(key: &str, value: &toml::Value) -> bool {
    matches!(key, "transform" | "permutation" | "refine" | "compensate") && value.as_str() == Some(WITHOUT)
}

/// A method as it can be written into an experiment file.
fn block(name: &str, point: &Point) -> String {
    let mut text = format!("[[method]]\nname = {}\n", toml::Value::from(name));
    for (key, value) in &point.keys {
        if !left_out(key, value) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}
