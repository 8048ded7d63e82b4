//! What happened to every layer: kinds of layers by blocks, a panel per method; how sparse it became, and what that did to its
//! output.

use super::canvas::{Anchor, INK, TEXT, WIDTH, draw, extent};
use super::plot::{Cast, Drawn, PANELS, cut};
use crate::error::Result;
use crate::prune::layer::LayerRecord;
use crate::prune::pattern::Pattern;
use crate::report::csv::CsvRow;
use crate::report::format::list;
use crate::report::results::{MethodResult, Section};
use plotters::style::RGBColor;
use serde_json::json;
use std::collections::BTreeSet;

const ROW: i32 = 15;
const TOP: i32 = 44;
const LEFT: i32 = 104;
const RIGHT: i32 = WIDTH - 12;

/// Ends of the colour scale, from light to dark; readers can tell its colours apart by lightness alone.
const SCALE: [RGBColor; 2] = [RGBColor(232, 240, 250), RGBColor(8, 48, 107)];

/// A number that is recorded for every layer and can be drawn.
pub struct LayerQuantity {
    /// The part that the quantity adds to the picture's file name.
    pub name: &'static str,
    /// The text that the quantity adds to the picture's title.
    title: &'static str,
    /// The text after the number at the upper end of the colour scale.
    unit: &'static str,
    /// The beginning of the picture's caption.
    caption: &'static str,
    /// The least range of the colour scale, in percentage points: differences that come from rounding must not look
    /// like a pattern.
    span: f64,
    /// The value of a layer in percent, if its record has it.
    of: fn(&LayerRecord) -> Option<f64>,
    /// By how much, in percentage points, the value of a layer may differ from others without meaning anything: whole weights
    /// of a row are removed.
    rounding: fn(&LayerRecord) -> f64,
}

/// All quantities that are drawn, each in its own picture.
pub const QUANTITIES: [LayerQuantity; 2] = [
    LayerQuantity {
        name: "layers-sparsity",
        title: "sparsity per layer",
        unit: "% removed",
        caption: "Fraction of weights removed from every layer",
        span: 4.0,
        of: |layer| Some(100.0 * layer.removed as f64 / (layer.shape[0] * layer.shape[1]).max(1) as f64),
        rounding: |layer| 100.0 / layer.shape[1].max(1) as f64,
    },
    LayerQuantity {
        name: "layers-error",
        title: "output error per layer",
        unit: "%",
        caption: "Squared error of every layer's output on a few calibration tokens, relative to the output's square,",
        span: 1.0,
        of: |layer| layer.output_error.map(|error| 100.0 * error),
        rounding: |_| 0.0,
    },
];

/// Caption and picture at the highest unstructured sparsity of the sweep, or at the highest of its N:M patterns if it has no other;
/// `None` if no record has the quantity, or if all layers have the same value. A method whose layers all have the same value
/// has no panel.
pub fn plot(section: &Section, cast: &Cast, quantity: &LayerQuantity) -> Result<Option<Drawn>> {
    let unstructured = |entry: &&MethodResult| matches!(entry.pattern, Some(Pattern::Unstructured { .. }));
    let has = |entry: &&MethodResult| entry.layers.iter().any(|layer| (quantity.of)(layer).is_some());
    let there = || section.entries.iter().filter(has);
    let highest = |entries: &mut dyn Iterator<Item = &MethodResult>| {
        let patterns = entries.filter_map(|entry| entry.pattern);
        patterns.max_by(|a, b| a.sparsity().total_cmp(&b.sparsity()))
    };
    let highest = highest(&mut there().filter(unstructured)).or_else(|| highest(&mut there()));
    let Some(pattern) = highest else {
        return Ok(None);
    };
    let entries = cast.methods.iter();
    let entries =
        entries.filter_map(|method| there().find(|entry| entry.method == *method && entry.pattern == Some(pattern)));
    let (mut entries, same): (Vec<&MethodResult>, Vec<&MethodResult>) =
        entries.partition(|entry| quantity.varies(&entry.layers));
    let data: Vec<CsvRow> = entries.iter().flat_map(|entry| quantity.rows(entry)).collect();
    let all = entries.len();
    entries.truncate(PANELS);
    let mut kinds: Vec<String> = Vec::new();
    let mut blocks = BTreeSet::new();
    for layer in entries.iter().flat_map(|entry| &entry.layers) {
        let Some((block, kind)) = place(&layer.tensor) else {
            continue;
        };
        blocks.insert(block);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let values = entries
        .iter()
        .flat_map(|entry| entry.layers.iter().filter_map(quantity.of));
    let (Some((low, high)), Some(last)) = (extent(values), blocks.last().copied()) else {
        return Ok(None);
    };
    let (least, most) = (low, high);
    let room = 0.5 * (quantity.span - (high - low)).max(0.0);
    let (low, high) = ((low - room).max(0.0), (high + room).min(100.0));
    let count = last as i32 + 1;
    let width = |block: i32| LEFT + (RIGHT - LEFT) * block / count;
    let panel = ROW * kinds.len() as i32 + 34;
    let bottom = TOP + panel * entries.len() as i32;
    let colour = |value: f64| {
        let part = (value - low) / (high - low);
        let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
        let [light, dark] = SCALE;
        RGBColor(mix(light.0, dark.0), mix(light.1, dark.1), mix(light.2, dark.2))
    };
    let svg = draw(bottom + 74, |canvas| {
        let title = format!("{}, {pattern}: {}", section.model, quantity.title);
        canvas.title(&title)?;
        for (index, entry) in entries.iter().enumerate() {
            let top = TOP + 22 + panel * index as i32;
            canvas.text(cast.labels.label(&entry.method), (LEFT, top - 11), TEXT, Anchor::Left)?;
            for (row, kind) in kinds.iter().enumerate() {
                let y = top + ROW * row as i32;
                canvas.text(kind, (LEFT - 8, y + ROW / 2), TEXT - 2, Anchor::Right)?;
                for layer in &entry.layers {
                    let here = place(&layer.tensor).filter(|(_, of)| of == kind);
                    if let Some(((block, _), value)) = here.zip((quantity.of)(layer)) {
                        let block = block as i32;
                        canvas.rectangle((width(block), y), (width(block + 1) - 1, y + ROW - 1), colour(value))?;
                    }
                }
            }
        }
        let every = (count / 8).max(1);
        for block in (0..count).step_by(every as usize) {
            let middle = (width(block) + width(block + 1)) / 2;
            canvas.text(&block.to_string(), (middle, bottom), TEXT - 1, Anchor::Middle)?;
        }
        canvas.text("block", ((LEFT + RIGHT) / 2, bottom + 18), TEXT, Anchor::Middle)?;
        let (from, to) = (LEFT + 50, RIGHT - 100);
        for x in from..to {
            let part = f64::from(x - from) / f64::from(to - from);
            // Each reaches to the end and the next covers it: scaled, stripes side by side would show their seams.
            canvas.rectangle((x, bottom + 38), (to, bottom + 52), colour(low + part * (high - low)))?;
        }
        canvas.line(&[(from, bottom + 52), (to, bottom + 52)], INK, 1)?;
        canvas.text(&format!("{low:.0} %"), (from - 8, bottom + 46), TEXT - 1, Anchor::Right)?;
        canvas.text(
            &format!("{high:.0} {}", quantity.unit),
            (to + 4, bottom + 46),
            TEXT - 1,
            Anchor::Left,
        )?;
        Ok(())
    })?;
    let same: Vec<String> = same
        .iter()
        .map(|entry| cast.labels.label(&entry.method).to_string())
        .collect();
    let same = match same.is_empty() {
        true => String::new(),
        false => format!(" The same for all layers, so not drawn: {}.", list(&same)),
    };
    let caption = format!(
        "{} of {} at {pattern}, first seed: {least:.2} % to {most:.2} %.{same}{}",
        quantity.caption,
        section.model,
        cut(entries.len(), all, "methods")
    );
    Ok(Some(Drawn { caption, svg, data }))
}

impl LayerQuantity {
    /// Whether layers differ by more than rounding: whether no single value is within rounding of all of them.
    fn varies(&self, layers: &[LayerRecord]) -> bool {
        let values = || {
            layers
                .iter()
                .filter_map(|layer| Some(((self.of)(layer)?, (self.rounding)(layer))))
        };
        let low = values()
            .map(|(value, rounding)| value + rounding)
            .fold(f64::INFINITY, f64::min);
        let high = values()
            .map(|(value, rounding)| value - rounding)
            .fold(f64::NEG_INFINITY, f64::max);
        high > low
    }

    /// The numbers of a panel.
    fn rows(&self, entry: &MethodResult) -> Vec<CsvRow> {
        let row = |layer: &LayerRecord| {
            let (block, kind) = place(&layer.tensor)?;
            Some(vec![
                ("method", json!(entry.method)),
                ("tensor", json!(layer.tensor)),
                ("block", json!(block)),
                ("kind", json!(kind)),
                ("percent", json!((self.of)(layer)?)),
            ])
        };
        entry.layers.iter().filter_map(row).collect()
    }
}

/// Block index and kind of a layer, from its tensor's name: the first number in the name, and the last part that says
/// what the layer is.
fn place(tensor: &str) -> Option<(u32, String)> {
    let block = tensor.split('.').find_map(|part| part.parse().ok())?;
    let kind = tensor.split('.').rfind(|part| *part != "weight")?;
    Some((block, kind.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensors_name_says_block_and_kind() {
        let found = place("model.layers.11.self_attn.q_proj.weight");
        assert_eq!(found, Some((11, "q_proj".to_string())));
        assert_eq!(place("lm_head.weight"), None);
    }
}
