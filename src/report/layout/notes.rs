//! What stands below tables of scores: how their values came about, what marks say, and what could not have been seen.

use super::detection::detection;
use super::view::View;
use crate::experiment::asked::{few_tokens, uses_hessian};
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::comparison::{ComparisonFamily, Test};
use crate::report::format::{counted, list, percent, sentence};
use crate::report::found;
use crate::report::results::{Measure, MethodResult, Section};
use crate::report::sheet::Mark;
use crate::stats::proportion::FEW;
use std::collections::BTreeMap;

impl View<'_> {
    /// Why cells failed, a line for each method and pattern.
    fn failures(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        /// Most failures that are explained; `runs.jsonl` has all.
        const EXPLAINED: usize = 10;
        let Some(section) = sections.first() else {
            return Vec::new();
        };
        let dense = (section.dense.failed > 0).then_some(&section.dense);
        let entries = self.entries(section, patterns).filter(|entry| entry.failed > 0);
        let said = dense.into_iter().chain(entries).filter_map(|entry| {
            let pattern = entry.pattern.map_or(String::new(), |pattern| format!(", {pattern}"));
            let why = entry.failure.as_ref()?;
            Some(format!("Failed: {}{pattern}: {why}.", self.labels.label(&entry.method)))
        });
        let mut said: Vec<String> = said.collect();
        if said.len() > EXPLAINED {
            let more = said.len() - EXPLAINED;
            said.truncate(EXPLAINED);
            said.push(format!("`runs.jsonl` says why {} failed.", counted(more, "more row")));
        }
        said
    }

    /// The results of the methods that tables show, at some patterns.
    fn entries<'a>(&'a self, section: &'a Section, patterns: &'a [Pattern]) -> impl Iterator<Item = &'a MethodResult> {
        section.entries.iter().filter(|entry| {
            let here = entry.pattern.is_some_and(|pattern| patterns.contains(&pattern));
            here && self.shows(&entry.method)
        })
    }

    /// What was found in checkpoints and masks of other programs where it is not what their rows say.
    fn found_otherwise(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let outside = |method: &str| {
            let mut methods = self.results.plan.experiment.methods.iter();
            methods.any(|plan| plan.name == method && plan.outside().is_some())
        };
        let entries = sections.iter().flat_map(|section| self.entries(section, patterns));
        let mut found: Vec<String> = entries
            .filter(|entry| outside(&entry.method))
            .filter_map(found::otherwise)
            .collect();
        found.dedup();
        (!found.is_empty()).then(|| {
            format!(
                "Models and masks of other programs are not exactly what their rows say: {}. A model that keeps more weights than its row \
                 says gets no mark and is not called the best.",
                found.join("; ")
            )
        })
    }

    /// What `say` says of the results of a table, each text once.
    fn said_of(
        &self,
        sections: &[&Section],
        patterns: &[Pattern],
        say: impl Fn(&MethodResult, Pattern) -> Option<String>,
    ) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let entries = sections.iter().flat_map(|section| self.entries(section, patterns));
        for said in entries.filter_map(|entry| say(entry, entry.pattern?)) {
            if !found.contains(&said) {
                found.push(said);
            }
        }
        found
    }

    /// The share that went with whole units where it is not what the column says.
    fn of_units(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let found = self.said_of(sections, patterns, |entry, asked| {
            let removed = found::of_units(entry)?;
            Some(format!(
                "{} {removed:.1} % at {asked}",
                self.labels.label(&entry.method)
            ))
        });
        (!found.is_empty()).then(|| {
            format!(
                "Whole units have fixed sizes, so these methods did not remove exactly the share that was asked for: {}. Their scores \
                 belong to the share that was removed.",
                found.join("; ")
            )
        })
    }

    /// The masks of other programs in which 0 and 1 seem to be exchanged.
    fn turned_round(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let found = self.said_of(sections, patterns, |entry, pattern| {
            let (times, label) = (entry.turned_round?, self.labels.label(&entry.method));
            Some(format!("{label} at {pattern} ({times:.1} times as large)"))
        });
        (!found.is_empty()).then(|| {
            format!(
                "These masks remove larger weights than they keep: {}. Are 0 and 1 exchanged in them? 1 must stand for a weight that is \
                 kept.",
                list(&found)
            )
        })
    }

    /// The methods of other programs with one result, whose own calibration no interval covers.
    fn of_one_run(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let plans = &self.results.plan.experiment.methods;
        let outside = |name: &str| {
            plans
                .iter()
                .any(|plan| plan.name == name && plan.outside().is_some() && !plan.seeded())
        };
        let mut found: Vec<String> = Vec::new();
        for entry in sections.iter().flat_map(|section| self.entries(section, patterns)) {
            let label = self.labels.label(&entry.method).to_string();
            if !entry.runs.is_empty() && outside(&entry.method) && !found.contains(&label) {
                found.push(label);
            }
        }
        (!found.is_empty()).then(|| {
            format!(
                "From another program, with one result: {}. If it was calibrated, other calibration texts would change it by an amount that \
                 no interval or test here covers.",
                list(&found)
            )
        })
    }

    /// Where calibration had few tokens for methods that use the Hessian of a layer's inputs.
    fn few_tokens(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        let experiment = &self.results.plan.experiment;
        let hessian = |method: &str| {
            let place = experiment.methods.iter().position(|plan| plan.name == method);
            place.is_some_and(|place| uses_hessian(experiment, place).is_ok_and(|uses| uses))
        };
        let mut found: Vec<((usize, usize), Vec<String>)> = Vec::new();
        for entry in sections.iter().flat_map(|section| self.entries(section, patterns)) {
            let Some(numbers) = entry.calibration_tokens.zip(entry.widest_inputs) else {
                continue;
            };
            if !hessian(&entry.method) {
                continue;
            }
            let label = self.labels.label(&entry.method).to_string();
            match found.iter_mut().find(|(known, _)| *known == numbers) {
                Some((_, methods)) if methods.contains(&label) => {}
                Some((_, methods)) => methods.push(label),
                None => found.push((numbers, vec![label])),
            }
        }
        let said = found.into_iter().filter_map(|((tokens, widest), methods)| {
            let few = few_tokens(tokens, widest, &methods.join(", "))?;
            Some(format!("Few calibration tokens: {few}."))
        });
        said.collect()
    }

    /// The models that had many zeros before they were pruned.
    fn pruned_before(&self, sections: &[&Section]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for section in sections {
            let Some(before) = &section.pruned_before else { continue };
            let said = format!(
                "The model {} was pruned before: {}. The sparsities in the table count these zeros.",
                section.model,
                before.said()
            );
            if !found.contains(&said) {
                found.push(said);
            }
        }
        found
    }

    /// What the column `times` must not be read as, where its times were measured on several machines.
    pub(super) fn of_machines(&self, section: &Section, times: &str) -> Option<String> {
        let patterns = &self.results.plan.experiment.patterns;
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        for machine in self.entries(section, patterns).flat_map(|entry| &entry.machines) {
            *runs.entry(machine).or_default() += 1;
        }
        (runs.len() > 1).then(|| {
            let each = runs
                .iter()
                .map(|(machine, count)| format!("{machine}: {}", counted(*count, "run")));
            format!(
                "{times}: the times are of {} machines, so that rows differ in the machine, too. {}.",
                runs.len(),
                each.collect::<Vec<_>>().join("; ")
            )
        })
    }

    /// Notes that explain how to read a table of scores.
    pub(super) fn notes(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        let experiment = &self.results.plan.experiment;
        let confidence = percent(self.confidence());
        let Some(measure) = sections.first().map(|section| &section.measure) else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        if self.methods.is_some() {
            notes.push("Not every method is shown; marks and comparisons are those of all.".to_string());
        }
        let mut sizes = sections.iter().filter_map(|it| Some((it.measure.label(), it.texts()?)));
        let entries = || sections.iter().flat_map(|section| self.entries(section, patterns));
        // Of several experiments, each has its own seeds.
        let planned = entries().filter(|entry| entry.seeded).map(|entry| entry.planned);
        let seeds = match planned.max().unwrap_or(experiment.seeds.len()) {
            0 => "no calibration seeds".to_string(),
            1 => "one calibration seed".to_string(),
            n => format!("{n} calibration seeds"),
        };
        match measure {
            Measure::Perplexity { .. } | Measure::Divergence { .. } | Measure::Agreement { .. } => {
                let windows = sizes
                    .next()
                    .map_or(String::new(), |(_, n)| format!("{}, ", counted(n, "window")));
                let mut text = sentence(&format!("{windows}{seeds}. "));
                match entries().any(|entry| entry.runs.len() > 1) {
                    true => text.push_str(&format!(
                        "Mean ± half of the {confidence} t-interval over calibration seeds; a value without ± has one run{}. Differences \
                         between evaluation texts are not in these intervals.",
                        match entries().any(|entry| entry.seeded && entry.runs.len() == 1) {
                            true => "",
                            false => " (dense, or a method that uses no calibration)",
                        }
                    )),
                    false => text.push_str("Every value has one run, so there are no intervals."),
                }
                notes.push(text);
            }
            Measure::Accuracy { .. } => {
                let documents: Vec<String> = sizes.map(|(label, n)| format!("{label} {n}")).collect();
                notes.push(format!(
                    "Documents: {}; {seeds}. With several seeds a value is their mean. In brackets is the {confidence} interval over the \
                     documents of one run: Wilson's, or the exact one below {FEW} documents. In the average, all tasks have the same \
                     weight; its ± is half of the {confidence} interval over documents.",
                    documents.join(", ")
                ));
            }
        }
        notes.extend(self.failures(sections, patterns));
        notes.extend(self.found_otherwise(sections, patterns));
        notes.extend(self.of_units(sections, patterns));
        notes.extend(self.turned_round(sections, patterns));
        notes.extend(self.of_one_run(sections, patterns));
        // Once for a model: tables of tasks stand below those of perplexity.
        if measure.evaluation().is_some() || experiment.evaluations.is_empty() {
            notes.extend(self.pruned_before(sections));
            notes.extend(self.few_tokens(sections, patterns));
        }
        notes.extend(self.marks(sections, patterns));
        let tests: Vec<&Test> = self.tests(sections, patterns).map(|(_, test)| test).collect();
        notes.extend(detection(&tests, measure));
        notes
    }

    /// The comparisons of a table, with their families.
    fn tests<'a>(
        &'a self,
        sections: &'a [&'a Section],
        patterns: &'a [Pattern],
    ) -> impl Iterator<Item = (&'a ComparisonFamily, &'a Test)> {
        let families = self.families.iter();
        let tests = families.flat_map(|family| family.tests.iter().map(move |test| (family, test)));
        tests.filter(|(_, test)| {
            let here = |section: &Section| section.model == test.model && section.measure == test.measure;
            sections.iter().any(|section| here(section)) && patterns.contains(&test.pattern)
        })
    }

    /// What the marks in a table of scores say, as far as it has them; nothing without comparisons.
    pub(super) fn marks(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let mut families: Vec<String> = Vec::new();
        let (mut declared, mut one_seed, mut lone) = (false, false, false);
        for (family, test) in self.tests(sections, patterns) {
            lone |= test.lone;
            if test.lone {
                continue;
            }
            declared |= family.declared;
            one_seed |= test.one_seed;
            let text = format!("“{}” ({})", family.name, counted(family.tested(), "comparison"));
            if !families.contains(&text) {
                families.push(text);
            }
        }
        let shown: Vec<&str> = self.methods().into_iter().map(|(name, _)| name).collect();
        let has = |mark: Mark| {
            sections.iter().any(|section| {
                let mut places = patterns
                    .iter()
                    .flat_map(|pattern| shown.iter().map(move |name| (pattern, name)));
                places.any(|(pattern, name)| *name != DENSE && self.mark(section, name, *pattern) == mark)
            })
        };
        let families = list(&families);
        let mut said = Vec::new();
        if has(Mark::Best) {
            said.push(format!(
                "Bold: better than every other method it is compared with, after Holm's correction over {families}."
            ));
        }
        if has(Mark::Tied) {
            let correction = match said.is_empty() {
                true => format!(", after Holm's correction over {families}"),
                false => String::new(),
            };
            said.push(format!(
                "≈: the best method, and each method that was compared with it if no method is significantly better{correction}."
            ));
        }
        if !said.is_empty() && declared {
            said.push("No mark: worse than the best, or not compared with it.".to_string());
        }
        if one_seed && !said.is_empty() {
            said.push(
                "The comparisons have one calibration seed: they say what other evaluation texts could change, not what other calibration \
                 texts could."
                    .to_string(),
            );
        }
        if lone {
            said.push(
                "One seed: the method was run with one calibration seed, and others with several. It has no mark, since its differences \
                 cannot be tested for other calibration texts, as those of the others are."
                    .to_string(),
            );
        }
        (!said.is_empty()).then(|| said.join(" "))
    }
}
