//! Rotary frequencies: the settings of every family, wherever a configuration keeps them.
//!
//! Read from `rope_parameters` (transformers 5) or from top-level keys and `rope_scaling` (transformers 4).

use super::Config;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::f64::consts::TAU;

/// Wider heads are a slip; their rotary frequencies would be computed before any tensor shows it.
const WIDEST_HEAD: usize = 65_536;

/// What a family says about its rotary positions.
pub struct Rotary<'a> {
    /// Top-level key of the base, and the base where nothing is written.
    pub theta: (&'a str, f64),
    /// Fraction of a head's features that is rotated where nothing is written; `None` for families that
    /// always rotate all and do not know the setting.
    pub partial: Option<f64>,
    /// The kind of layer, for families whose settings differ by kind.
    pub layer: Option<&'a str>,
    /// Whether `rope_scaling` concerns this kind of layer.
    pub scaled: bool,
}

impl Rotary<'_> {
    /// All of a head rotated, base 10,000: what most families do where nothing is written.
    pub const PLAIN: Rotary<'static> = Rotary {
        theta: ("rope_theta", 10_000.0),
        partial: None,
        layer: None,
        scaled: true,
    };

    /// One angular frequency per rotated pair of a head's features.
    ///
    /// # Errors
    /// Names the key that is malformed or unsupported.
    pub fn frequencies(&self, config: &mut Config, head_dim: usize) -> Result<Vec<f32>> {
        if !head_dim.is_multiple_of(2) || head_dim > WIDEST_HEAD {
            return Err(Error::input(format!(
                "key `head_dim` = {head_dim} must be even and at most {WIDEST_HEAD} for rotary positions"
            )));
        }
        let top_theta = config.number(self.theta.0)?;
        let default_theta = top_theta.unwrap_or(self.theta.1);
        let Some((key, map)) = self.settings(config)? else {
            return base(
                rotated(head_dim, self.partial.unwrap_or(1.0), "partial_rotary_factor")?,
                default_theta,
            );
        };
        let number = |name: &str| match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
                Some(x) => Ok(Some(x)),
                None => Err(Error::input(format!(
                    "key `{key}.{name}` must be a positive number, but is {value}"
                ))),
            },
        };
        let need = |name: &str| number(name)?.ok_or_else(|| Error::input(format!("key `{key}.{name}` is missing")));
        let fraction = match (number("partial_rotary_factor")?, self.partial) {
            (Some(fraction), None) if fraction != 1.0 => {
                return Err(Error::input(format!(
                    "key `{key}.partial_rotary_factor` is not supported for this family"
                )));
            }
            (written, default) => written.or(default).unwrap_or(1.0),
        };
        let features = rotated(head_dim, fraction, &format!("{key}.partial_rotary_factor"))?;
        let plain = base(features, number("rope_theta")?.unwrap_or(default_theta))?;
        let kind = ["rope_type", "type"].into_iter().find_map(|name| {
            let value = map.get(name).filter(|value| !value.is_null())?;
            Some((name, value))
        });
        let kind = match kind {
            None => "default",
            Some((_, Value::String(kind))) => kind,
            Some((name, other)) => {
                return Err(Error::input(format!(
                    "key `{key}.{name}` must be a string, but is {other}"
                )));
            }
        };
        let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
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
                let bands = Bands {
                    factor: need("factor")?,
                    low: need("low_freq_factor")?,
                    high: need("high_freq_factor")?,
                    original: need("original_max_position_embeddings")?,
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
        for (name, value) in &map {
            if !value.is_null() && !known.contains(&name.as_str()) && !used.contains(&name.as_str()) {
                tracing::warn!("config.json: key `{key}.{name}` = {value} means nothing for `{kind}` and was ignored");
            }
        }
        Ok(frequencies)
    }

    /// The settings object for this kind of layer, with its key. As in transformers, a `rope_scaling`
    /// that says something comes before `rope_parameters`.
    fn settings(&self, config: &mut Config) -> Result<Option<(String, Map<String, Value>)>> {
        let object = |key: &str, value: Option<&Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) if map.is_empty() => Ok(None),
            Some(Value::Object(map)) => Ok(Some((key.to_string(), map.clone()))),
            Some(other) => Err(Error::input(format!("key `{key}` must be an object, but is {other}"))),
        };
        let scaling = object("rope_scaling", config.get("rope_scaling"))?;
        let parameters = object("rope_parameters", config.get("rope_parameters"))?;
        let parameters = match (parameters, self.layer) {
            (Some((key, map)), Some(layer)) => object(&format!("{key}.{layer}"), map.get(layer))?,
            (parameters, _) => parameters,
        };
        Ok(scaling.filter(|_| self.scaled).or(parameters))
    }
}

/// The rotated features of a head.
fn rotated(head_dim: usize, fraction: f64, key: &str) -> Result<usize> {
    let features = (head_dim as f64 * fraction) as usize;
    if fraction > 1.0 || features < 2 || !features.is_multiple_of(2) {
        return Err(Error::input(format!(
            "key `{key}` = {fraction} rotates {features} of {head_dim} features; an even number of at least 2 is needed"
        )));
    }
    Ok(features)
}

/// `theta^(-2i / features)` for every pair `i`.
fn base(features: usize, theta: f64) -> Result<Vec<f32>> {
    if theta <= 0.0 {
        return Err(Error::input(format!(
            "key `rope_theta` must be positive, but is {theta}"
        )));
    }
    Ok((0..features / 2)
        .map(|pair| theta.powf(-((2 * pair) as f64) / features as f64) as f32)
        .collect())
}

/// LLaMA 3.1's scaling: long wavelengths are stretched by `factor`, short ones kept, the band between
/// (`original / high` to `original / low` tokens) blended linearly in inverse wavelength.
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
