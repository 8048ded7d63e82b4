//! Tables of what perplexity hides: by each other measure, the methods again, and whether their order is the same.

use super::view::View;
use crate::experiment::plan::EvaluationPlan;
use crate::prune::pattern::Pattern;
use crate::report::results::{Measure, MeasureKind, Section};
use crate::report::sheet::{Column, Sheet, SheetCell};
use crate::stats::rank::kendall;

impl View<'_> {
    /// A table per model, evaluation and pattern: perplexity, KL divergence, agreement and answers to prompts, as far as they are
    /// measured, each with the methods' ranks.
    pub(super) fn to_dense(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        for model in &experiment.models {
            let beside = |it: &&EvaluationPlan| it.compare_to_dense || !experiment.generations.is_empty();
            for evaluation in experiment.evaluations.iter().filter(beside) {
                let own = |section: &&Section| {
                    section.model == model.name && section.measure.evaluation() == Some(&evaluation.name)
                };
                let perplexity = self.sections(MeasureKind::Perplexity).filter(own);
                let distances = self.sections(MeasureKind::ToDense).filter(own);
                let answers = self.sections(MeasureKind::Accuracy).filter(|section| {
                    let written = |task: &String| experiment.generations.iter().any(|it| it.name == *task);
                    let is_written = matches!(&section.measure, Measure::Accuracy { task, .. } if written(task));
                    section.model == model.name && is_written
                });
                let sections: Vec<&Section> = perplexity.chain(distances).chain(answers).collect();
                let patterns = experiment.patterns.iter();
                sheets.extend(patterns.filter_map(|pattern| self.beside(&sections, *pattern)));
            }
        }
        sheets
    }

    /// The methods by several measures of one model; `None` before a pruned model has results by the last of them.
    fn beside(&self, sections: &[&Section], pattern: Pattern) -> Option<Sheet> {
        let (first, last) = (sections.first()?, sections.last()?);
        let methods = self.results.plan.experiment.methods.iter();
        let methods: Vec<&str> = methods.map(|method| method.name.as_str()).collect();
        let mean = |section: &Section, method: &str| Some(section.entry(method, pattern)?.summary.as_ref()?.mean);
        methods.iter().find_map(|method| mean(last, method))?;
        let mut columns = vec![Column::words("method")];
        for section in sections {
            let measure = &section.measure;
            let title = match measure {
                Measure::Perplexity { .. } => "perplexity".to_string(),
                Measure::Divergence { .. } => "KL divergence, nats".to_string(),
                Measure::Agreement { .. } => "agreement, %".to_string(),
                Measure::Accuracy { task, .. } => format!("{task}, %"),
            };
            columns.push(Column::numbers(title));
            columns.push(Column::numbers("rank").beside());
        }
        // Smaller is better of what is ranked.
        let scores = |section: &Section| -> Vec<Option<f64>> {
            let sign = if section.measure.higher_is_better() { -1.0 } else { 1.0 };
            methods
                .iter()
                .map(|method| Some(sign * mean(section, method)?))
                .collect()
        };
        let rank = |section: &Section, method: &str| {
            let scores = scores(section);
            let place = methods.iter().position(|it| *it == method)?;
            let own = scores[place]?;
            Some(1 + scores.iter().flatten().filter(|other| **other < own).count())
        };
        let row = |method: &str| {
            let mut row = vec![self.named(method)];
            for section in sections {
                row.push(self.value(section, method, pattern));
                let rank = rank(section, method).map_or(String::new(), |rank| rank.to_string());
                row.push(SheetCell::plain(rank));
            }
            row
        };
        let rows = self.methods().into_iter().map(|(name, _)| row(name)).collect();
        let order = |section: &&Section| {
            let (before, after): (Vec<f64>, Vec<f64>) = scores(first)
                .into_iter()
                .zip(scores(section))
                .filter_map(|(before, after)| before.zip(after))
                .unzip();
            let tau = kendall(&before, &after)?;
            let name = match &section.measure {
                Measure::Accuracy { task, .. } => task,
                other => other.quantity(),
            };
            Some(format!("{name} {tau:.2}"))
        };
        let orders: Vec<String> = sections.iter().skip(1).filter_map(order).collect();
        let mut notes = Vec::new();
        if sections
            .iter()
            .any(|section| section.measure.kind() == MeasureKind::ToDense)
        {
            notes.push(
                "KL divergence: of the pruned model's distribution of the next token from the dense model's, in nats, mean over the tokens \
                 of the same windows. Agreement: how often both models find the same token likeliest. The dense model itself has 0 nats \
                 and 100 %."
                    .to_string(),
            );
        }
        if let Some(written) = sections
            .iter()
            .find(|section| section.measure.kind() == MeasureKind::Accuracy)
        {
            let documents = written.texts().map_or(String::new(), |count| format!(" (of {count})"));
            notes.push(format!(
                "{}: how many prompts{documents} are answered right, written greedily.",
                written.measure.label()
            ));
        }
        if !orders.is_empty() {
            notes.push(format!(
                "Rank: the order of the methods by their means; 1 is the best. Kendall's tau between this order and the order by {}: {}; \
                 1 means the same order, -1 the opposite order.",
                first.measure.quantity(),
                orders.join(", ")
            ));
        }
        notes.extend(self.marks(sections, &[pattern]));
        Some(Sheet {
            title: format!("{}, {pattern}, on {}", first.model, first.measure.label()),
            columns,
            rows,
            notes,
        })
    }
}
