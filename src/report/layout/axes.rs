//! Tables by axes: the values of one axis as rows, those of another as columns, for methods that are alike on all other axes.

use super::view::View;
use crate::experiment::axes::{alike, value};
use crate::experiment::axis::Axis;
use crate::experiment::plan::MethodPlan;
use crate::prune::pattern::Pattern;
use crate::report::results::Section;
use crate::report::sheet::{Column, Sheet, SheetCell};

impl View<'_> {
    /// A table for each pair of axes that the experiment asks for, each model, measure, pattern, and each set of methods
    /// that are alike on all other axes.
    pub(super) fn by_axes(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        for axes in &experiment.tables {
            let groups = alike(*axes, experiment);
            let first = sheets.len();
            for section in &self.results.sections {
                for pattern in &experiment.patterns {
                    for (rest, methods) in &groups {
                        sheets.push(self.crossed(*axes, section, *pattern, rest, methods));
                    }
                }
            }
            let shown = |method: &MethodPlan| groups.values().flatten().any(|it| it.name == method.name);
            let alone = experiment.methods.iter().filter(|method| !shown(method));
            let alone: Vec<&str> = alone.map(|method| method.name.as_str()).collect();
            if let (Some(sheet), false) = (sheets[first..].last_mut(), alone.is_empty()) {
                let [down, across] = axes;
                let alone = alone.join(", ");
                let note = format!(
                    "In no table by {down} and {across}, since no other method is like them but for these: {alone}."
                );
                sheet.notes.push(note);
            }
        }
        sheets
    }

    fn crossed(
        &self,
        [down, across]: [Axis; 2],
        section: &Section,
        pattern: Pattern,
        rest: &[String],
        methods: &[&MethodPlan],
    ) -> Sheet {
        let experiment = &self.results.plan.experiment;
        let values = |axis: Axis| {
            let mut values = Vec::new();
            for value in methods.iter().map(|method| value(axis, method, experiment)) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            values
        };
        let (rows, columns) = (values(down), values(across));
        let cell = |row: &String, column: &String| {
            let has = |method: &&&MethodPlan| {
                value(down, method, experiment) == *row && value(across, method, experiment) == *column
            };
            match methods.iter().find(has) {
                Some(method) if self.shows(&method.name) => self.value(section, &method.name, pattern),
                _ => SheetCell::default(),
            }
        };
        let row = |value: &String| {
            let cells = columns.iter().map(|column| cell(value, column));
            std::iter::once(SheetCell::plain(value)).chain(cells).collect()
        };
        let rest = match rest.is_empty() {
            true => String::new(),
            false => format!(" ({})", rest.join(", ")),
        };
        let better = if section.measure.higher_is_better() {
            "higher"
        } else {
            "lower"
        };
        Sheet {
            title: format!(
                "{}, {pattern}: {} by {down} and {across}{rest} ({better} is better)",
                section.model,
                section.measure.label()
            ),
            columns: std::iter::once(Column::words(down.to_string()))
                .chain(columns.iter().map(Column::numbers))
                .collect(),
            rows: rows.iter().map(row).collect(),
            notes: Vec::new(),
        }
    }
}
