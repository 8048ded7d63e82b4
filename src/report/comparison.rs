//! Which differences are real: paired comparisons, corrected within their family.
//!
//! A comparison starts from the differences on the same texts, seed by seed where both methods have seeds. Its p-value
//! allows for both sources of chance, the texts measured on and the texts calibrated on ([`VarianceComponents`]); accuracies must
//! also pass the exact test on documents ([`sign_flip`]). A method without calibration has no seeds, and none are invented
//! for it.

use super::found::keeps_more;
use super::results::{Measure, MethodResult, Results, Section};
use crate::experiment::method::MethodPlan;
use crate::prune::pattern::Pattern;
use crate::stats::Interval;
use crate::stats::bootstrap::{Bootstrap, RESAMPLES, SEED};
use crate::stats::multiplicity::holm;
use crate::stats::power::POWER;
use crate::stats::proportion::unseen_share;
use crate::stats::rank::wilcoxon;
use crate::stats::signs::sign_flip;
use crate::stats::variance::VarianceComponents;
use std::collections::BTreeSet;

/// Name of the family if the experiment declares none.
const EVERY_PAIR: &str = "every pair of methods";

/// Most pairs that are compared if no family is declared. Memory and time grow with their number, and after a
/// correction for more pairs no difference would be significant.
pub const MOST_PAIRS: usize = 10_000;

/// What a comparison shows after the correction for its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestVerdict {
    /// The first method is better.
    Better,
    /// The first method is worse.
    Worse,
    /// The difference is not significant on these texts and seeds.
    NotTold,
}

/// The comparison of two methods by one measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Name of the model.
    pub model: String,
    /// What is compared, such as the perplexity in an evaluation.
    pub measure: Measure,
    /// Pattern of both methods, or of the pruned one if the other is the dense model.
    pub pattern: Pattern,
    /// Name of the first method.
    pub ours: String,
    /// Name of the second method.
    pub other: String,
    /// The first method minus the second, in nats per token or as a fraction of documents.
    pub difference: VarianceComponents,
    /// The difference for every seed, in the same unit.
    pub seeds: Vec<f64>,
    /// Interval that covers the choice of texts, for the given seeds: BCa, or Student's t if `resampled` does not hold.
    pub over_texts: Interval,
    /// Whether `over_texts` comes from resampling, which a handful of texts do not allow.
    pub resampled: bool,
    /// Student's t-interval that covers the choice of texts and seeds.
    pub over_both: Interval,
    /// p-value of Wilcoxon's test over seeds; `None` for fewer than two seeds.
    pub wilcoxon: Option<f64>,
    /// p-value before the correction for the family.
    pub p: f64,
    /// p-value after Holm's correction for the family; 1 if the comparison is `lone`.
    pub adjusted: f64,
    /// The smallest true difference that would be found with probability 0.8 at the first, strictest step of Holm's
    /// correction. `None` if there is no spread from which to tell, if seeds do not tell how much they differ, or if no
    /// difference would be found.
    pub detectable: Option<f64>,
    /// Why hardly any difference would be found, if it is so.
    pub hopeless: Option<Hopeless>,
    /// Whether a method that calibrates has one seed here, so that interval and p-value are those of texts alone.
    pub one_seed: bool,
    /// Whether it is of one seed, and other results beside it are of several. Its test is not theirs: it is never significant, and does
    /// not count as a comparison of the two methods.
    pub lone: bool,
    /// Whether the family has the same cells under other names before. It counts once, and has the same corrected p-value.
    pub repeated: bool,
}

/// Why a comparison could show nothing, whatever the methods were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// So few documents have no small p-value, even if one method had been right in all of them and the other in none.
    Documents,
    /// Seeds or texts differ too much for their number: what would be found is larger than differences can be, or than any that is of
    /// interest.
    Spread,
    /// There are two seeds, or all seeds have the same difference, which does not tell how much seeds differ.
    Seeds,
}

impl Test {
    /// What the comparison shows at level `confidence`.
    pub fn verdict(&self, confidence: f64) -> TestVerdict {
        let better = (self.difference.mean > 0.0) == self.measure.higher_is_better();
        match self.adjusted <= 1.0 - confidence {
            false => TestVerdict::NotTold,
            true if better => TestVerdict::Better,
            true => TestVerdict::Worse,
        }
    }

    /// A difference as tables show it; see [`Measure::difference`].
    pub fn shown(&self, difference: f64) -> f64 {
        self.measure.difference(difference)
    }
}

/// Comparisons whose p-values are corrected together.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonFamily {
    /// Name of the family.
    pub name: String,
    /// Whether the experiment declared the family.
    pub declared: bool,
    /// All comparisons for which there are results.
    pub tests: Vec<Test>,
    /// Number of comparisons for which results are missing.
    pub missing: usize,
    /// Number of pairs that are not compared because both names stand for the same cells. A comparison group, for one, changes nothing
    /// where the pattern has groups of its own.
    pub same: usize,
    /// Number of pairs that are not compared because there are more than [`MOST_PAIRS`]; 0 if all are compared.
    pub refused: usize,
}

impl ComparisonFamily {
    /// Number of comparisons that are tested, and for which p-values are corrected.
    pub fn tested(&self) -> usize {
        self.tests.iter().filter(|test| !test.lone && !test.repeated).count()
    }

    /// The comparisons in one place of a table.
    fn here<'a>(&'a self, section: &'a Section, pattern: Pattern) -> impl Iterator<Item = &'a Test> {
        self.tests.iter().filter(move |test| {
            test.model == section.model && test.measure == section.measure && test.pattern == pattern
        })
    }

    /// Whether the comparison of two methods in one place of a table is [lone](Test::lone).
    fn is_lone(&self, section: &Section, pattern: Pattern, first: &str, second: &str) -> bool {
        let pair = [first, second];
        let mut tests = self.here(section, pattern);
        tests.any(|test| test.lone && pair.contains(&test.ours.as_str()) && pair.contains(&test.other.as_str()))
    }

    /// What the family says about two methods in one place of a table, from the point of view of the first.
    pub fn verdict(
        &self,
        section: &Section,
        pattern: Pattern,
        first: &str,
        second: &str,
        confidence: f64,
    ) -> Option<TestVerdict> {
        self.here(section, pattern).filter(|test| !test.lone).find_map(|test| {
            let verdict = test.verdict(confidence);
            if test.ours == first && test.other == second {
                Some(verdict)
            } else if test.ours == second && test.other == first {
                Some(match verdict {
                    TestVerdict::Better => TestVerdict::Worse,
                    TestVerdict::Worse => TestVerdict::Better,
                    TestVerdict::NotTold => TestVerdict::NotTold,
                })
            } else {
                None
            }
        })
    }
}

/// How the best method of a pattern stands to the others, by one measure on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing<'a> {
    /// The method with the best score.
    pub best: &'a str,
    /// Its score, as tables show it.
    pub value: f64,
    /// Methods that it is better than, after the correction.
    pub beaten: Vec<&'a str>,
    /// Methods that are not told apart from it, or have the same score.
    pub tied: Vec<&'a str>,
    /// Those of them that have the same score.
    pub equal: Vec<&'a str>,
    /// Pairs of methods without the best one of which the first is significantly better than the second.
    pub told: Vec<(&'a str, &'a str)>,
    /// Methods with results that it is not compared with.
    pub untested: Vec<&'a str>,
    /// Methods whose comparison with it is of one seed, where other results are of several.
    pub lone: Vec<&'a str>,
}

impl Standing<'_> {
    /// Number of other methods with results.
    pub fn others(&self) -> usize {
        self.beaten.len() + self.tied.len() + self.untested.len() + self.lone.len()
    }
}

/// A pattern of a model by one measure, where a pruned model has a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest<'a> {
    /// The model and the measure.
    pub section: &'a Section,
    /// The pattern of the pruned models.
    pub pattern: Pattern,
    /// How the best method there stands to the others.
    pub standing: Standing<'a>,
}

/// All contests that have results, section by section.
pub fn contests<'a>(results: &'a Results, families: &[ComparisonFamily]) -> Vec<Contest<'a>> {
    let patterns = &results.plan.experiment.patterns;
    let mut contests = Vec::new();
    for section in &results.sections {
        for pattern in patterns {
            contests.extend(standing(results, families, section, *pattern).map(|standing| Contest {
                section,
                pattern: *pattern,
                standing,
            }));
        }
    }
    contests
}

/// How the best method stands to the others; `None` if no pruned model has a result there.
fn standing<'a>(
    results: &'a Results,
    families: &[ComparisonFamily],
    section: &Section,
    pattern: Pattern,
) -> Option<Standing<'a>> {
    let experiment = &results.plan.experiment;
    let score = |plan: &MethodPlan| {
        let entry = section
            .entry(&plan.name, pattern)
            .filter(|entry| !keeps_more(plan, entry))?;
        let mean = entry.summary.as_ref()?.mean;
        Some(if section.measure.higher_is_better() {
            -mean
        } else {
            mean
        })
    };
    let methods = experiment.methods.iter();
    let scored: Vec<(&str, f64)> = methods
        .filter_map(|plan| Some((plan.name.as_str(), score(plan)?)))
        .collect();
    let (best, least) = *scored.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut standing = Standing {
        best,
        value: least.abs(),
        beaten: Vec::new(),
        tied: Vec::new(),
        equal: Vec::new(),
        told: Vec::new(),
        untested: Vec::new(),
        lone: Vec::new(),
    };
    let lone = |other: &str| {
        families
            .iter()
            .any(|family| family.is_lone(section, pattern, best, other))
    };
    let verdict = |first: &str, second: &str| {
        let mut families = families.iter();
        families.find_map(|family| family.verdict(section, pattern, first, second, experiment.confidence))
    };
    let others: Vec<(&str, f64)> = scored.into_iter().filter(|(name, _)| *name != best).collect();
    for (first, _) in &others {
        let worse = others
            .iter()
            .filter(|(second, _)| verdict(first, second) == Some(TestVerdict::Better));
        standing.told.extend(worse.map(|(second, _)| (*first, *second)));
    }
    for (other, value) in others {
        if value == least {
            standing.equal.push(other);
        }
        match verdict(best, other) {
            None if lone(other) => standing.lone.push(other),
            _ if value == least => standing.tied.push(other),
            Some(TestVerdict::Better) => standing.beaten.push(other),
            // The means may point the other way than the comparison, which is over the seeds that both have.
            Some(TestVerdict::NotTold | TestVerdict::Worse) => standing.tied.push(other),
            None => standing.untested.push(other),
        }
    }
    Some(standing)
}

/// All families of an experiment. If it declares none, there is one family of every pair of methods with results: no
/// pair is chosen after the results are known, but the correction is strict.
pub fn families(results: &Results) -> Vec<ComparisonFamily> {
    let experiment = &results.plan.experiment;
    if experiment.comparisons.is_empty() {
        let methods = &experiment.methods;
        let pairs = methods.len() * methods.len().saturating_sub(1) / 2;
        let refused = pairs.saturating_mul(experiment.patterns.len() * results.sections.len());
        if refused > MOST_PAIRS {
            return vec![ComparisonFamily {
                name: EVERY_PAIR.to_string(),
                declared: false,
                tests: Vec::new(),
                missing: 0,
                same: 0,
                refused,
            }];
        }
        let mut wanted = Vec::new();
        for section in &results.sections {
            for pattern in &experiment.patterns {
                for (index, first) in methods.iter().enumerate() {
                    for second in &methods[index + 1..] {
                        wanted.push((section, *pattern, first.name.as_str(), second.name.as_str()));
                    }
                }
            }
        }
        return match wanted.is_empty() {
            true => Vec::new(),
            false => vec![family(EVERY_PAIR, false, &wanted, experiment.confidence)],
        };
    }
    let of_declared = experiment.comparisons.iter().map(|declared| {
        let mut wanted = Vec::new();
        for section in &results.sections {
            let measured = match &section.measure {
                Measure::Accuracy { task, .. } => declared.tasks.contains(task),
                windows => windows.evaluation().is_some_and(|it| declared.evaluations.contains(it)),
            };
            if !declared.models.contains(&section.model) || !measured {
                continue;
            }
            for pattern in &declared.patterns {
                for other in &declared.against {
                    wanted.push((section, *pattern, declared.ours.as_str(), other.as_str()));
                }
                for (ours, other) in &declared.pairs {
                    wanted.push((section, *pattern, ours.as_str(), other.as_str()));
                }
            }
        }
        family(&declared.family, true, &wanted, experiment.confidence)
    });
    of_declared.collect()
}

fn family(name: &str, declared: bool, wanted: &[(&Section, Pattern, &str, &str)], confidence: f64) -> ComparisonFamily {
    // What both names stand for is no comparison, and what is there under other names is none more.
    let (mut apart, mut seen, mut same) = (Vec::new(), Vec::new(), 0);
    for pair in wanted {
        let (section, pattern, ours, other) = *pair;
        let (ours, other) = (cells(section, pattern, ours), cells(section, pattern, other));
        if !ours.is_empty() && ours == other {
            same += 1;
            continue;
        }
        let there = !ours.is_empty() && !other.is_empty();
        let known = (&section.model, &section.measure, ours, other);
        let first = seen.iter().position(|it| there && *it == known);
        apart.push((*pair, first));
        seen.push(known);
    }
    let counted = apart.iter().filter(|(_, first)| first.is_none()).count();
    let alpha = (1.0 - confidence) / counted.max(1) as f64;
    let mut made: Vec<Option<Test>> = apart
        .iter()
        .map(|((section, pattern, ours, other), first)| {
            let test = test(section, *pattern, ours, other, confidence, alpha)?;
            Some(Test {
                repeated: first.is_some(),
                ..test
            })
        })
        .collect();
    // What is of one seed among others is not tested with them, so it is not corrected for either.
    let tested = made.iter_mut().flatten().filter(|test| !test.lone && !test.repeated);
    let mut tested: Vec<&mut Test> = tested.collect();
    let raw: Vec<f64> = tested.iter().map(|test| test.p).collect();
    for (test, adjusted) in tested.iter_mut().zip(holm(&raw)) {
        test.adjusted = adjusted;
    }
    for place in 0..made.len() {
        let of_first = apart[place].1.and_then(|first| Some(made[first].as_ref()?.adjusted));
        if let (Some(test), Some(adjusted)) = (&mut made[place], of_first) {
            test.adjusted = adjusted;
        }
    }
    let tests: Vec<Test> = made.into_iter().flatten().collect();
    ComparisonFamily {
        name: name.to_string(),
        declared,
        missing: apart.len() - tests.len(),
        tests,
        same,
        refused: 0,
    }
}

/// The ids of a method's cells with results.
fn cells<'a>(section: &'a Section, pattern: Pattern, method: &str) -> Vec<&'a str> {
    let runs = section.entry(method, pattern).map(|entry| &entry.runs);
    runs.into_iter().flatten().map(|run| run.cell.as_str()).collect()
}

/// Differences of two entries on the same texts, with one row per seed that both have. A method without seeds has the
/// same values in every row.
fn differences(first: &MethodResult, second: &MethodResult) -> Vec<Vec<f64>> {
    let seeds = |entry: &MethodResult| -> Vec<Option<u64>> {
        let distinct: BTreeSet<Option<u64>> = entry.runs.iter().map(|run| run.seed).collect();
        distinct.into_iter().collect()
    };
    let wanted = if first.seeded { seeds(first) } else { seeds(second) };
    let of = |entry: &MethodResult, seed: Option<u64>| {
        let mut runs = entry.runs.iter();
        runs.position(|run| run.seed == seed || !entry.seeded)
    };
    let pairs = wanted.into_iter().filter_map(|seed| {
        let (a, b) = (&first.runs[of(first, seed)?], &second.runs[of(second, seed)?]);
        let same = a.digest == b.digest && a.texts.len() == b.texts.len();
        same.then(|| a.texts.iter().zip(&b.texts).map(|(a, b)| a - b).collect())
    });
    pairs.collect()
}

fn test(section: &Section, pattern: Pattern, ours: &str, other: &str, confidence: f64, alpha: f64) -> Option<Test> {
    let (first, second) = (section.entry(ours, pattern)?, section.entry(other, pattern)?);
    let rows = differences(first, second);
    let texts = first.texts(&section.measure);
    let difference = VarianceComponents::of(&rows, texts)?;
    let count = rows[0].len();
    let means: Vec<f64> = (0..count)
        .map(|text| rows.iter().map(|row| row[text]).sum::<f64>() / rows.len() as f64)
        .collect();
    let bootstrap = Bootstrap::new(&texts.units(&means), texts.block(count), RESAMPLES, SEED)?;
    let resampled = bootstrap.interval(confidence);
    let seeds: Vec<f64> = rows.iter().map(|row| crate::stats::mean(row)).collect();
    let signs = documents(&rows, first.sources.as_deref());
    let exact = match section.measure {
        Measure::Accuracy { .. } => Some(sign_flip(&signs)),
        _ => None,
    };
    // Documents that all agree have no spread, yet few of them do not show that none would differ.
    let agree = exact.is_some() && rows.iter().flatten().all(|difference| *difference == 0.0);
    let unseen = agree.then(|| Interval::around(0.0, unseen_share(signs.len(), 1.0 - confidence)));
    let p = match (exact, rows.len()) {
        // One run of each: McNemar's test says it all.
        (Some(exact), 1) => exact,
        (Some(exact), _) => exact.max(difference.p()?),
        (None, _) => difference.p()?,
    };
    let over_texts = match (unseen, resampled) {
        (Some(unseen), _) => unseen,
        (None, Some(resampled)) => resampled,
        (None, None) => difference.texts.robust_interval(confidence)?,
    };
    let detectable = difference.minimum_detectable(alpha, POWER);
    // Had one method been right in every document in which the other was wrong, p would be this.
    let out_of_reach = exact.is_some() && 2.0 * 0.5f64.powf(signs.len() as f64) > alpha;
    let spread = difference.standard_error > 0.0;
    let differ = rows.iter().flatten().any(|difference| *difference != 0.0);
    let far = |detectable: f64| section.measure.difference(detectable) > 100.0;
    let hopeless = if out_of_reach {
        Some(Hopeless::Documents)
    } else if difference.seeds_tell_nothing() {
        differ.then_some(Hopeless::Seeds)
    } else {
        (spread && detectable.is_none_or(far)).then_some(Hopeless::Spread)
    };
    let one_seed = rows.len() == 1 && (first.seeded || second.seeded);
    Some(Test {
        model: section.model.clone(),
        measure: section.measure.clone(),
        pattern,
        ours: ours.to_string(),
        other: other.to_string(),
        over_texts,
        resampled: unseen.is_none() && resampled.is_some(),
        over_both: match unseen {
            Some(interval) => interval,
            None => difference.interval(confidence)?,
        },
        wilcoxon: (seeds.len() > 1).then(|| wilcoxon(&seeds)).flatten(),
        seeds,
        p,
        adjusted: 1.0,
        detectable: detectable.filter(|_| !out_of_reach),
        hopeless,
        one_seed,
        lone: one_seed && section.entries.iter().any(|entry| entry.runs.len() > 1),
        repeated: false,
        difference,
    })
}

/// Differences in the number of right answers, added up over seeds and over the documents of each source.
fn documents(rows: &[Vec<f64>], sources: Option<&[u32]>) -> Vec<i64> {
    let count = rows.first().map_or(0, Vec::len);
    let of_document = |document: usize| rows.iter().map(|row| row[document] as i64).sum::<i64>();
    match sources {
        None => (0..count).map(of_document).collect(),
        Some(sources) => {
            let mut sums = std::collections::BTreeMap::<u32, i64>::new();
            for (document, source) in sources.iter().enumerate().take(count) {
                *sums.entry(*source).or_default() += of_document(document);
            }
            sums.into_values().collect()
        }
    }
}
