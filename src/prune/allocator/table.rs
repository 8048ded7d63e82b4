//! A table of shares, written by hand: `shares = { "mlp.*" = 0.6, "0-3" = 0.4 }`.
//!
//! A key is the number of a block or a range of them (`"0"`, `"0-3"`), or a pattern of names: `*` stands for any characters, and
//! the pattern for any run of whole parts of the tensor's name (`"q_proj"`, `"mlp.*"`, `"layers.0.self_attn.*"`). Where several keys
//! name a layer, blocks go before names, and longer names before shorter ones. Layers that no key names share evenly what is left for
//! the whole to lose what the pattern asks.

use super::step::{Allocator, PlacedLinear, Survey, Trial};
use crate::error::{Error, Located, Result};
use crate::prune::range::within;
use crate::prune::shares::MOST;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The allocator of shares that are given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareTable {
    /// The fraction of its weights that a layer loses, by block or by pattern of names.
    pub shares: BTreeMap<String, f64>,
}

/// How far the mean of a table or a file that names every layer may be off what the pattern asks: what rounding may do.
pub const MEAN_TOLERANCE: f64 = 1e-3;

impl Allocator for ShareTable {
    fn validate(&self) -> Result<()> {
        if self.shares.is_empty() {
            return Err(Error::config(
                "`shares` is empty; for example shares = { \"mlp.*\" = 0.6 }",
            ));
        }
        for (key, share) in &self.shares {
            within(&format!("shares.\"{key}\""), *share, 0.0..=MOST)?;
            LayerKey::new(key)?;
        }
        Ok(())
    }

    fn allocate(&self, layers: &[PlacedLinear], sparsity: f64, _: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        let keys = self
            .shares
            .iter()
            .map(|(key, share)| Ok((LayerKey::new(key)?, key, *share)));
        let keys: Vec<(LayerKey, &String, f64)> = keys.collect::<Result<_>>()?;
        for (key, written, _) in &keys {
            if !layers.iter().any(|layer| key.names(layer)) {
                let example = layers.first().map_or("", |layer| layer.tensor.as_str());
                let message =
                    format!("`shares` has \"{written}\", which names no layer; a layer's name is `{example}`");
                return Err(Error::config(message));
            }
        }
        let named = layers.iter().map(|layer| named(&keys, layer));
        let named: Vec<Option<f64>> = named.collect::<Result<_>>()?;
        filled(layers, &named, sparsity)
    }
}

/// The shares of all layers, given those of some: the others share evenly what is left to lose.
///
/// # Errors
/// That is less than nothing, or more than there is; or there are no others, and the mean is not what the pattern asks.
fn filled(layers: &[PlacedLinear], named: &[Option<f64>], sparsity: f64) -> Result<Vec<f64>> {
    let (mut all, mut free, mut lost) = (0.0, 0.0, 0.0);
    for (layer, share) in layers.iter().zip(named) {
        let weights = layer.weights() as f64;
        all += weights;
        match share {
            Some(share) => lost += share * weights,
            None => free += weights,
        }
    }
    if free == 0.0 {
        check_mean(lost / all, sparsity)?;
        return Ok(named.iter().flatten().copied().collect());
    }
    let rest = (sparsity * all - lost) / free;
    if !(0.0..=MOST).contains(&rest) {
        return Err(Error::config(format!(
            "the named layers lose {:.4} of all weights, but the sparsity of the pattern is {sparsity}: each of the other layers would \
             have to lose {rest:.4}, which is not between 0 and {MOST}; change the shares or the pattern",
            lost / all
        )));
    }
    Ok(named.iter().map(|share| share.unwrap_or(rest)).collect())
}

/// Checks that shares of all layers have the mean that the pattern asks.
///
/// # Errors
/// They have another.
pub fn check_mean(mean: f64, sparsity: f64) -> Result<()> {
    match (mean - sparsity).abs() <= MEAN_TOLERANCE {
        true => Ok(()),
        false => Err(Error::config(format!(
            "the shares of all layers have the mean {mean:.6}, and the sparsity of the pattern is {sparsity}; use the pattern \
             {{ sparsity = {mean:.6} }}, or name fewer layers"
        ))),
    }
}

/// The share of a layer by the key that names it most closely; `None` if none does.
///
/// # Errors
/// Two keys name it equally closely and differ.
fn named(keys: &[(LayerKey, &String, f64)], layer: &PlacedLinear) -> Result<Option<f64>> {
    let mut best: Option<&(LayerKey, &String, f64)> = None;
    let mut rival: Option<&(LayerKey, &String, f64)> = None;
    for each in keys.iter().filter(|(key, ..)| key.names(layer)) {
        let closer = |than: &(LayerKey, &String, f64)| each.0.closeness().cmp(&than.0.closeness());
        match best.map(closer) {
            None | Some(std::cmp::Ordering::Greater) => (best, rival) = (Some(each), None),
            Some(std::cmp::Ordering::Equal) => rival = Some(each),
            Some(std::cmp::Ordering::Less) => {}
        }
    }
    match (best, rival) {
        (Some((_, one, share)), Some((_, other, another))) if share != another => {
            let message =
                format!("\"{one}\" and \"{other}\" name it equally exactly, with different shares; change one of them");
            Err(Error::config(message)).at(&layer.tensor)
        }
        (best, _) => Ok(best.map(|(.., share)| *share)),
    }
}

/// What a key of the table names.
enum LayerKey {
    /// Blocks, from the first to the last.
    Blocks(usize, usize),
    /// Layers by a pattern of their names.
    Names(String),
}

impl LayerKey {
    fn new(text: &str) -> Result<LayerKey> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let range = match text.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(text).map(|block| (block, block)),
        };
        match range {
            Some((first, last)) if first > last => Err(Error::config(format!(
                "`shares` has \"{text}\", a range that ends before it begins"
            ))),
            Some((first, last)) => Ok(LayerKey::Blocks(first, last)),
            None if text.trim().is_empty() => Err(Error::config("`shares` has an empty key")),
            None => Ok(LayerKey::Names(text.to_string())),
        }
    }

    fn names(&self, layer: &PlacedLinear) -> bool {
        match self {
            LayerKey::Blocks(first, last) => (*first..=*last).contains(&layer.block),
            LayerKey::Names(pattern) => {
                // Dots at both ends make every part whole.
                matches(
                    format!("*.{pattern}.*").as_bytes(),
                    format!(".{}.", layer.tensor).as_bytes(),
                )
            }
        }
    }

    /// Larger for what names a layer more closely.
    fn closeness(&self) -> (bool, usize) {
        match self {
            LayerKey::Blocks(first, last) => (true, usize::MAX - (last - first)),
            LayerKey::Names(pattern) => (false, pattern.bytes().filter(|byte| *byte != b'*').count()),
        }
    }
}

/// Whether a text is what a pattern says, in which `*` stands for any characters.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how far it reached.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((place, reached)) = star {
            star = Some((place, reached + 1));
            (p, t) = (place + 1, reached + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::families::parse_spec;

    fn layers() -> Vec<PlacedLinear> {
        let spec = parse_spec(include_str!("../../../models/tiny-llama/config.json")).expect("the embedded model's");
        PlacedLinear::all(&spec)
    }

    fn shares(table: &str, sparsity: f64) -> Result<Vec<f64>> {
        let table: toml::Table = toml::from_str(table).expect("TOML");
        let table: ShareTable = table.try_into().expect("a table of shares");
        table.validate()?;
        let mut none = |_: &[f64]| panic!("nothing is tried");
        table.allocate(&layers(), sparsity, &Survey::default(), &mut none)
    }

    fn refused(table: &str, sparsity: f64) -> String {
        shares(table, sparsity).expect_err("refused").to_string()
    }

    #[test]
    fn the_closest_key_counts_and_the_others_share_what_is_left() {
        let found = shares(
            r#"shares = { "mlp.*" = 0.6, "mlp.down_proj" = 0.5, "1-2" = 0.4, "0" = 0.1, "q_proj" = 0.3 }"#,
            0.4,
        );
        let found = found.expect("possible");
        let layers = layers();
        let (mut lost, mut all) = (0.0, 0.0);
        for (layer, share) in layers.iter().zip(&found) {
            lost += share * layer.weights() as f64;
            all += layer.weights() as f64;
            let want = match layer.block {
                0 => Some(0.1),
                1 | 2 => Some(0.4),
                _ if layer.tensor.contains("down_proj") => Some(0.5),
                _ if layer.tensor.contains("mlp") => Some(0.6),
                _ if layer.tensor.contains("q_proj") => Some(0.3),
                _ => None,
            };
            assert!(want.is_none_or(|want| want == *share), "{}: {share}", layer.tensor);
        }
        assert!((lost / all - 0.4).abs() < 1e-12);
    }

    #[test]
    fn names_are_matched_by_whole_parts() {
        let layer = &layers()[0];
        assert_eq!(layer.tensor, "model.layers.0.self_attn.q_proj.weight");
        for pattern in [
            "q_proj",
            "self_attn.*",
            "layers.0.*",
            "*",
            "self_attn.q_*",
            "model.*.q_proj",
            "*.weight",
        ] {
            assert!(LayerKey::new(pattern).expect("a key").names(layer), "{pattern}");
        }
        for pattern in [
            "proj",
            "layers.1.*",
            "attn.*",
            "mlp.*",
            "q_proj.bias",
            "self_attn.*.k_proj",
        ] {
            assert!(!LayerKey::new(pattern).expect("a key").names(layer), "{pattern}");
        }
    }

    #[test]
    fn tables_that_cannot_be_are_refused_with_what_to_do() {
        assert!(refused("shares = {}", 0.5).contains("is empty"));
        assert!(refused(r#"shares = { "mlp.*" = 1.5 }"#, 0.5).contains("between 0 and 0.99"));
        assert!(refused(r#"shares = { "3-1" = 0.5 }"#, 0.5).contains("ends before"));
        let unknown = refused(r#"shares = { "fc1" = 0.5 }"#, 0.5);
        assert!(
            unknown.contains("names no layer") && unknown.contains("q_proj"),
            "{unknown}"
        );
        assert!(refused(r#"shares = { "mlp.*" = 0.1 }"#, 0.7).contains("would have to lose"));
        assert!(refused(r#"shares = { "*" = 0.6 }"#, 0.5).contains("sparsity = 0.600000"));
        let both = refused(
            r#"shares = { "mlp.up*" = 0.6, "*.up_pro" = 0.5, "*up_proj" = 0.5 }"#,
            0.5,
        );
        assert!(both.contains("names no layer"), "{both}");
        let both = refused(r#"shares = { "up_*oj" = 0.6, "up_p*j" = 0.5 }"#, 0.5);
        assert!(both.contains("equally exactly"), "{both}");
    }
}
