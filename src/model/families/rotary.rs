//! Rotary frequencies: the settings of every family, wherever a configuration keeps them.
//!
//! Read from `rope_parameters` (transformers 5) or from top-level keys and `rope_scaling` (transformers 4).

use super::configuration::Config;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::f64::consts::TAU;

/// Most features per head. More are a mistake, and their frequencies would be computed before a tensor could show it.
const WIDEST_HEAD: usize = 65_536;

/// Rotary settings of one kind of block, gathered from all keys of the configuration that can have them.
pub struct Rotary {
    /// The key of the object with the settings, for messages.
    key: String,
    map: Map<String, Value>,
    /// The base of the frequencies if the settings have none.
    theta: f64,
    /// For families that rotate a fraction of a head: the fraction if the settings have none. `None` for families
    /// that rotate the whole head.
    fraction: Option<f64>,
    /// A fraction outside the settings, in families that rotate the whole head.
    partial: Option<Value>,
    /// Number of positions in pretraining, if a key outside the settings gives it; it has priority over the settings.
    original: Option<f64>,
    /// Number of positions in pretraining if no key gives it.
    max_positions: f64,
}

impl Rotary {
    /// Settings of a family whose blocks are all alike. A `rope_scaling` that says something replaces
    /// `rope_parameters`, and both come before the top-level `rope_theta`.
    ///
    /// # Errors
    /// Names the key that is malformed or unsupported.
    pub fn shared(config: &mut Config, max_positions: usize) -> Result<Rotary> {
        let theta = base_of(config, "rope_theta", 10_000.0)?;
        let partial = config.get(PARTIAL).cloned();
        let flat = Rotary::flat(config, max_positions, theta, None)?;
        Ok(Rotary { partial, ..flat })
    }

    /// Settings of GPT-NeoX, whose names for base and fraction are its own. Those of later versions stand beside them
    /// in files of transformers 4.45 to 4.57, and are not looked at.
    ///
    /// # Errors
    /// As [`Rotary::shared`].
    pub fn neox(config: &mut Config, max_positions: usize) -> Result<Rotary> {
        let theta = base_of(config, "rotary_emb_base", 10_000.0)?;
        let fraction = config.number("rotary_pct")?.unwrap_or(0.25);
        for (other, own, value) in [
            ("rope_theta", "rotary_emb_base", theta),
            ("partial_rotary_factor", "rotary_pct", fraction),
        ] {
            // A copy of what is said already needs no word.
            if config
                .get(other)
                .and_then(Value::as_f64)
                .is_some_and(|other| other != value)
            {
                tracing::warn!("config.json: key `{other}` is ignored beside `{own}` = {value}, as in transformers");
            }
        }
        Rotary::flat(config, max_positions, theta, Some(fraction))
    }

    fn flat(config: &mut Config, max_positions: usize, theta: f64, fraction: Option<f64>) -> Result<Rotary> {
        let scaling = object(config, "rope_scaling")?.filter(|map| !map.is_empty());
        let parameters = object(config, "rope_parameters")?;
        let (key, map) = match (scaling, parameters) {
            (Some(map), _) => ("rope_scaling", map),
            (None, map) => ("rope_parameters", map.unwrap_or_default()),
        };
        for kind in ["full_attention", "sliding_attention"] {
            if map.contains_key(kind) {
                return Err(Error::input(format!(
                    "key `{key}.{kind}`: settings for each kind of block are not supported for this family"
                )));
            }
        }
        Ok(Rotary {
            key: key.to_string(),
            map,
            theta,
            fraction,
            partial: None,
            original: config
                .count_or_null("original_max_position_embeddings", None)?
                .map(|tokens| tokens as f64),
            max_positions: max_positions as f64,
        })
    }

    /// Settings of Gemma 3: for blocks with full attention and for those with a window. A `rope_scaling` is merged into
    /// the former's, and the top-level bases count where these say none.
    ///
    /// # Errors
    /// As [`Rotary::shared`].
    pub fn by_kind(config: &mut Config, max_positions: usize) -> Result<[Rotary; 2]> {
        config.ignore(PARTIAL);
        let bases = [
            base_of(config, "rope_theta", 1_000_000.0)?,
            base_of(config, "rope_local_base_freq", 10_000.0)?,
        ];
        let parameters = object(config, "rope_parameters")?;
        let scaling = object(config, "rope_scaling")?;
        // As transformers: where neither is written, both kinds say "default", and a scaling must say otherwise.
        let plain = || Map::from_iter([("rope_type".to_string(), Value::from("default"))]);
        let of = |kind: &str| match parameters.as_ref().map(|parameters| parameters.get(kind)) {
            None | Some(None | Some(Value::Null)) => Ok(None),
            Some(Some(Value::Object(map))) => Ok(Some(map.clone())),
            Some(Some(other)) => Err(Error::input(format!(
                "key `rope_parameters.{kind}` must be an object, but is {other}"
            ))),
        };
        if let Some(stray) = parameters
            .iter()
            .flat_map(Map::keys)
            .find(|key| !["full_attention", "sliding_attention"].contains(&key.as_str()))
        {
            return Err(Error::input(format!(
                "key `rope_parameters.{stray}`: this family has settings for each kind of block, in `full_attention` and \
                 `sliding_attention`"
            )));
        }
        let (full, sliding) = (of("full_attention")?, of("sliding_attention")?);
        let merged = match (full, scaling) {
            (None, Some(_)) if parameters.is_some() => {
                return Err(Error::input(
                    "key `rope_scaling` belongs to `rope_parameters.full_attention`, which is missing",
                ));
            }
            (full, scaling) => {
                let mut map = full.unwrap_or_else(plain);
                map.extend(scaling.unwrap_or_default());
                map
            }
        };
        let settings = |kind: &str, map, theta| Rotary {
            key: format!("rope_parameters.{kind}"),
            map,
            theta,
            fraction: None,
            partial: None,
            original: None,
            max_positions: max_positions as f64,
        };
        // Only other families look at it.
        config.get("original_max_position_embeddings");
        Ok([
            settings("full_attention", merged, bases[0]),
            settings("sliding_attention", sliding.unwrap_or_else(plain), bases[1]),
        ])
    }

    /// One angular frequency per rotated pair of a head's features.
    ///
    /// # Errors
    /// Names the key that is malformed or unsupported.
    pub fn frequencies(&self, head_dim: usize) -> Result<Vec<f32>> {
        let Rotary { key, map, .. } = self;
        if head_dim > WIDEST_HEAD || (self.fraction.is_none() && !head_dim.is_multiple_of(2)) {
            return Err(Error::input(format!(
                "key `head_dim` = {head_dim} must be even and at most {WIDEST_HEAD} for rotary positions"
            )));
        }
        let number = |name: &str| match map.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
                Some(x) => Ok(Some(x)),
                None => Err(Error::input(format!(
                    "key `{key}.{name}` must be a positive number, but is {value}"
                ))),
            },
        };
        let need = |name: &str| number(name)?.ok_or_else(|| Error::input(format!("key `{key}.{name}` is missing")));
        let fraction = match self.fraction {
            Some(default) => number(PARTIAL)?.unwrap_or(default),
            None => 1.0,
        };
        let features = rotated(head_dim, fraction, key)?;
        let plain = base(features, number("rope_theta")?.unwrap_or(self.theta));
        // The old name counts where the new one is not written.
        let kind = match ["rope_type", "type"]
            .into_iter()
            .find_map(|name| Some((name, map.get(name)?)))
        {
            None => "default",
            Some((_, Value::String(kind))) => kind,
            Some((name, other)) => {
                return Err(Error::input(format!(
                    "key `{key}.{name}` must be a string, but is {other}"
                )));
            }
        };
        if self.fraction.is_none() {
            self.without_fraction(kind)?;
        }
        let known = ["rope_type", "type", "rope_theta", PARTIAL];
        let (frequencies, used): (Vec<f32>, &[&str]) = match kind {
            "default" => (plain, &[]),
            "linear" => {
                let factor = need("factor")? as f32;
                (
                    plain.into_iter().map(|frequency| frequency / factor).collect(),
                    &["factor"],
                )
            }
            "llama3" => {
                let original = number("original_max_position_embeddings")?;
                let bands = Bands {
                    factor: need("factor")?,
                    low: need("low_freq_factor")?,
                    high: need("high_freq_factor")?,
                    original: self.original.or(original).unwrap_or(self.max_positions),
                };
                if bands.low >= bands.high {
                    return Err(Error::input(format!(
                        "key `{key}.low_freq_factor` = {} must be less than `high_freq_factor` = {}",
                        bands.low, bands.high
                    )));
                }
                let used = &[
                    "factor",
                    "low_freq_factor",
                    "high_freq_factor",
                    "original_max_position_embeddings",
                ];
                (
                    plain.into_iter().map(|frequency| bands.scale(frequency)).collect(),
                    used,
                )
            }
            other => {
                return Err(Error::input(format!(
                    "key `{key}.rope_type` = \"{other}\" is not supported (supported: default, linear, llama3)"
                )));
            }
        };
        for (name, value) in map {
            if !value.is_null() && !known.contains(&name.as_str()) && !used.contains(&name.as_str()) {
                tracing::warn!("config.json: key `{key}.{name}` = {value} means nothing for `{kind}` and was ignored");
            }
        }
        Ok(frequencies)
    }

    /// Looks at a fraction in the settings of a family that rotates all of a head. In its plain kind, transformers does not
    /// look at it; in every other it makes too few frequencies, and the model fails.
    fn without_fraction(&self, kind: &str) -> Result<()> {
        let (key, value) = match (self.map.get(PARTIAL), &self.partial) {
            (Some(value), _) => (format!("{}.{PARTIAL}", self.key), value),
            (None, Some(value)) => (PARTIAL.to_string(), value),
            (None, None) => return Ok(()),
        };
        if value.is_null() || value.as_f64() == Some(1.0) {
            return Ok(());
        }
        if kind == "default" {
            tracing::warn!("config.json: key `{key}` = {value} is ignored, as transformers ignores it for this family");
            return Ok(());
        }
        Err(Error::input(format!(
            "key `{key}` = {value} with `rope_type` \"{kind}\": models of this family rotate all of a head, and fail in transformers \
             with these settings; remove the key"
        )))
    }
}

/// Key of the fraction of a head that is rotated.
const PARTIAL: &str = "partial_rotary_factor";

/// An object that may be absent or null.
fn object(config: &mut Config, key: &str) -> Result<Option<Map<String, Value>>> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone())),
        Some(other) => Err(Error::input(format!("key `{key}` must be an object, but is {other}"))),
    }
}

/// The base of the frequencies at the top level of the configuration.
fn base_of(config: &mut Config, key: &str, default: f64) -> Result<f64> {
    let theta = config.number(key)?.unwrap_or(default);
    if theta <= 0.0 {
        return Err(Error::input(format!("key `{key}` must be positive, but is {theta}")));
    }
    Ok(theta)
}

/// The number of features of a head that are rotated. An odd number is rounded up when features are paired.
fn rotated(head_dim: usize, fraction: f64, key: &str) -> Result<usize> {
    let features = (head_dim as f64 * fraction) as usize;
    if fraction > 1.0 || features == 0 || features.next_multiple_of(2) > head_dim {
        return Err(Error::input(format!(
            "key `{key}`: a fraction of {fraction} rotates {features} of {head_dim} features, which cannot be paired"
        )));
    }
    Ok(features)
}

/// `theta^(-2i / features)` for every pair `i`.
fn base(features: usize, theta: f64) -> Vec<f32> {
    (0..features.div_ceil(2))
        .map(|pair| theta.powf(-((2 * pair) as f64) / features as f64) as f32)
        .collect()
}

/// LLaMA 3.1's scaling: long wavelengths are multiplied by `factor`, and short ones are kept. Between them (`original
/// / high` to `original / low` tokens), the inverse wavelength is interpolated linearly.
struct Bands {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Bands {
    fn scale(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let wavelength = TAU / frequency;
        let scaled = if wavelength < self.original / self.high {
            frequency
        } else if wavelength > self.original / self.low {
            frequency / self.factor
        } else {
            let kept = (self.original / wavelength - self.low) / (self.high - self.low);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        };
        scaled as f32
    }
}
