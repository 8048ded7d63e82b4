//! Rotary positions in a GGUF's metadata, as `config.json` has them.

use super::description::{ROPE_FACTORS, Shared};
use crate::error::{Error, Located, Result};
use crate::gguf::Tensor;
use serde_json::json;
use std::f64::consts::TAU;

/// The base of rotary frequencies where the metadata are silent (llama.cpp's default).
const BASE: f64 = 10_000.0;

/// The base of rotary frequencies that the key `name` has.
///
/// # Errors
/// It is not a number.
pub fn base(shared: &Shared, name: &str) -> Result<f64> {
    let key = shared.architecture.key(name);
    Ok(shortest(shared.gguf.number(&key)?.unwrap_or(BASE)))
}

/// The shortest decimal that is this number in single precision, as which the metadata hold it:
/// 0.00001 and not 0.000009999999747378752.
pub fn shortest(number: f64) -> f64 {
    let decimal: Option<f64> = (number as f32).to_string().parse().ok();
    // Only a file that holds double precision can leave the range; its number stands as it is.
    decimal.filter(|decimal| decimal.is_finite()).unwrap_or(number)
}

/// The values of `rope_theta` and `rope_scaling`: the base of the rotary frequencies, and how they are scaled for longer texts.
///
/// # Errors
/// A value is malformed, or the scaling is not one that `config.json` can say.
pub fn rotary(shared: &Shared) -> Result<(f64, serde_json::Value)> {
    let (gguf, keys, head) = (shared.gguf, shared.architecture, shared.head_dim);
    let theta = base(shared, "rope.freq_base")?;
    // A factor of 0 means none, and one without a type is linear (llama.cpp's defaults).
    let factor = match gguf.number(&keys.key("rope.scaling.factor"))? {
        None => gguf.number(&keys.key("rope.scale_linear"))?,
        factor => factor,
    };
    let factor = factor.map(shortest).filter(|factor| *factor != 0.0 && *factor != 1.0);
    let kind = keys.key("rope.scaling.type");
    let scaling = match (gguf.text(&kind)?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => serde_json::Value::Null,
        ("linear", Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (other, _) => {
            return Err(Error::input(format!(
                "key `{kind}`: rotary scaling \"{other}\" is not supported (supported: none, linear)"
            )));
        }
    };
    let factors = gguf.tensors().get(ROPE_FACTORS);
    let Some(tensor) = factors.filter(|_| keys.rope_factors) else {
        return Ok((theta, scaling));
    };
    let original = gguf.count(&keys.key("rope.scaling.original_context_length"))?;
    let bands = bands(tensor, head, theta, original.filter(|original| *original > 0))
        .at(format_args!("tensor `{ROPE_FACTORS}`"))?;
    match (bands, scaling) {
        (None, scaling) => Ok((theta, scaling)),
        (Some(bands), serde_json::Value::Null) => Ok((theta, bands)),
        (Some(_), _) => Err(Error::input(format!(
            "tensor `{ROPE_FACTORS}` and linear rotary scaling together are not supported"
        ))),
    }
}

/// LLaMA 3.1's scaling, found again from the factors llama.cpp divides the rotary frequencies by; `None` if
/// all are 1. The file does not hold the settings themselves, so all published models' are tried.
///
/// # Errors
/// The factors are no published model's.
pub fn bands(tensor: &Tensor, head: usize, theta: f64, original: Option<usize>) -> Result<Option<serde_json::Value>> {
    /// Settings of LLaMA 3.1, 3.2 and 3.3.
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL: usize = 8192;
    /// llama.cpp computes the factors in single precision.
    const TOLERANCE: f64 = 1e-5;
    if head == 0 || tensor.shape != [head / 2] {
        return Err(Error::input(format!(
            "has shape {:?}, but heads of {head} features need [{}]",
            tensor.shape,
            head / 2
        )));
    }
    let mut stored = vec![0.0f32; head / 2];
    tensor.kind.dequantise(tensor.data, &mut stored);
    if stored.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let factor = stored.iter().copied().fold(1.0f32, f32::max);
    let (factor, original) = (f64::from(factor), original.unwrap_or(ORIGINAL));
    let expected = |pair: usize| {
        let length = original as f64;
        let wavelength = TAU * theta.powf(2.0 * pair as f64 / head as f64);
        if wavelength < length / HIGH {
            1.0
        } else if wavelength > length / LOW {
            factor
        } else {
            let kept = (length / wavelength - LOW) / (HIGH - LOW);
            1.0 / ((1.0 - kept) / factor + kept)
        }
    };
    let fits = |(pair, stored): (usize, &f32)| (f64::from(*stored) / expected(pair) - 1.0).abs() <= TOLERANCE;
    if !stored.iter().enumerate().all(fits) {
        return Err(Error::input(format!(
            "these factors are not LLaMA 3.1's (low {LOW}, high {HIGH}, original context {original}); others are not supported"
        )));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": original,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::dequantise::BlockType;

    #[test]
    fn llama_3_scaling_is_found_again_and_nothing_else() {
        let (head, theta) = (64, 500_000.0);
        let stored = |scale: &dyn Fn(f64) -> f64| -> Vec<u8> {
            let wavelength = |pair: usize| TAU * f64::powf(theta, 2.0 * pair as f64 / head as f64);
            (0..head / 2)
                .flat_map(|pair| (scale(wavelength(pair)) as f32).to_le_bytes())
                .collect()
        };
        let find = |bytes: &[u8]| {
            let tensor = Tensor {
                kind: BlockType::F32,
                shape: vec![head / 2],
                data: bytes,
            };
            bands(&tensor, head, theta, None)
        };
        let llama = stored(&|wavelength| {
            let kept = ((8192.0 / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
            1.0 / ((1.0 - kept) / 32.0 + kept)
        });
        let found = find(&llama).expect("LLaMA 3.2's factors").expect("they are not 1");
        assert_eq!(found["factor"], 32.0);
        assert!(find(&stored(&|_| 1.0)).expect("no scaling").is_none());
        assert!(find(&stored(&|wavelength| 1.0 + wavelength)).is_err());
    }
}
