//! Tables by axes: the values of one axis as rows, those of another as columns, for methods that are alike on all other axes.

use super::view::View;
use crate::experiment::axes::Axis;
use crate::experiment::plan::MethodPlan;
use crate::prune::pattern::Pattern;
use crate::report::results::Section;
use crate::report::sheet::{Column, Sheet, SheetCell};
use std::collections::BTreeMap;

impl View<'_> {
    /// A table for each pair of axes that the experiment asks for, each model, measure, pattern, and each set of methods
    /// that are alike on all other axes.
    pub(super) fn by_axes(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        for axes in &experiment.tables {
            let groups = alike(*axes, &experiment.methods);
            for section in &self.results.sections {
                for pattern in &experiment.patterns {
                    for (rest, methods) in &groups {
                        sheets.push(self.crossed(*axes, section, *pattern, rest, methods));
                    }
                }
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
        let all = &self.results.plan.experiment.methods;
        let values = |axis: Axis| {
            let mut values = Vec::new();
            for value in methods.iter().map(|method| axis.value(method, all)) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            values
        };
        let (rows, columns) = (values(down), values(across));
        let cell = |row: &String, column: &String| {
            let has = |method: &&&MethodPlan| down.value(method, all) == *row && across.value(method, all) == *column;
            match methods.iter().find(has) {
                Some(method) => self.value(section, &method.name, pattern),
                None => SheetCell::default(),
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

/// Methods that are alike on all axes but two, with their values on those others that are not the same for all methods. A
/// method that is alone is in no table.
fn alike([down, across]: [Axis; 2], methods: &[MethodPlan]) -> BTreeMap<Vec<String>, Vec<&MethodPlan>> {
    let others = Axis::ALL.into_iter().filter(|axis| *axis != down && *axis != across);
    let differs = |axis: &Axis| {
        let mut values = methods.iter().map(|method| axis.value(method, methods));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let others: Vec<Axis> = others.filter(differs).collect();
    let mut groups: BTreeMap<Vec<String>, Vec<&MethodPlan>> = BTreeMap::new();
    for method in methods {
        let rest = others
            .iter()
            .map(|axis| format!("{axis} {}", axis.value(method, methods)));
        groups.entry(rest.collect()).or_default().push(method);
    }
    groups.retain(|_, methods| methods.len() > 1);
    groups
}
