//! Tables of what whole units cost and what their removal buys.

use super::view::View;
use crate::experiment::plan::DENSE;
use crate::report::format::digits;
use crate::report::results::{MeasureKind, MethodResult, Section};
use crate::report::sheet::{Column, Sheet, SheetCell, number};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// The column of the time that scoring a token takes.
const MILLISECONDS: &str = "ms a token";

impl View<'_> {
    /// A table per perplexity measure of the models that lost whole units, beside the dense one.
    pub(super) fn sizes(&self) -> Vec<Sheet> {
        self.sections(MeasureKind::Perplexity)
            .filter_map(|section| self.sizes_of(section))
            .collect()
    }

    fn sizes_of(&self, section: &Section) -> Option<Sheet> {
        let smaller = |entry: &&MethodResult| entry.sizes.is_some() && self.shows(&entry.method);
        let entries: Vec<&MethodResult> = section.entries.iter().filter(smaller).collect();
        let before = entries.first()?.sizes.as_ref()?;
        let columns = vec![
            Column::words("method"),
            Column::words("asked"),
            Column::numbers("perplexity"),
            Column::numbers("removed, %"),
            Column::numbers("parameters, M"),
            Column::numbers("stored, MiB").aside(),
            Column::numbers("multiply-adds, M"),
            Column::time(MILLISECONDS),
            Column::time("time, %"),
        ];
        let dense = [
            Some(0.0),
            Some(before.parameters[0] / 1e6),
            Some(before.bytes[0] / MEBIBYTE),
            Some(before.multiply_adds[0] / 1e6),
            None,
            None,
        ];
        let mut rows = vec![row(self.named(DENSE), String::new(), section.dense_value(), dense)];
        for entry in entries {
            let Some(sizes) = &entry.sizes else {
                continue;
            };
            let asked = entry.pattern.map_or(String::new(), |pattern| pattern.to_string());
            let seconds = sizes.seconds_per_token;
            let numbers = [
                entry.sparsity.map(|removed| 100.0 * removed),
                Some(sizes.parameters[1] / 1e6),
                Some(sizes.bytes[1] / MEBIBYTE),
                Some(sizes.multiply_adds[1] / 1e6),
                Some(1e3 * seconds[1]),
                Some(100.0 * sizes.time_share),
            ];
            let value = entry.summary.as_ref().map(|summary| summary.mean);
            rows.push(row(self.named(&entry.method), asked, value, numbers));
        }
        let of_machines = self.of_machines(section, MILLISECONDS);
        Some(Sheet {
            title: format!("{}: sizes and times, with {}", section.model, section.measure.label()),
            columns,
            rows,
            notes: [
                "Removed: the share of the weights of the blocks' linear layers that went with whole units; it is not exactly what was \
                 asked for, since units have fixed sizes. Parameters include the embedding and the head. Multiply-adds are those of a token \
                 in linear layers and the head. Means over seeds."
                    .to_string(),
                "Parameters, stored size, multiply-adds and time are those of the model that was measured and that `zprune shrink` writes. \
                 In it, narrow matrices (olica) are multiplied out, since no loader knows them: it is hardly smaller or faster than the \
                 dense one. Only the removed share counts them as they are."
                    .to_string(),
                "Ms a token, time: what scoring a text takes (embedding, blocks, log-likelihoods of the next tokens), without reading \
                 weights, on the machine that ran the cell; time is the share of what the dense model took in the same minute. Sparse \
                 weights without whole units save no time here, so these methods have no row."
                    .to_string(),
            ]
            .into_iter()
            .chain(of_machines)
            .collect(),
        })
    }
}

fn row(
    method: SheetCell,
    asked: String,
    perplexity: Option<f64>,
    [removed, parameters, bytes, multiply_adds, milliseconds, share]: [Option<f64>; 6],
) -> Vec<SheetCell> {
    vec![
        method,
        SheetCell::plain(asked),
        number(perplexity, perplexity.map_or(2, digits)),
        number(removed, 1),
        number(parameters, 2),
        number(bytes, 1),
        number(multiply_adds, 2),
        number(milliseconds, 3),
        number(share, 1),
    ]
}
