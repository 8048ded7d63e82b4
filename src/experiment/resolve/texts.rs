//! Texts: calibration, evaluations, zero-shot tasks.

use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::eval::tasks::TASKS;
use crate::experiment::plan::{CalibrationPlan, EvaluationPlan, SEED, TaskPlan};
use crate::experiment::protocol::{Named, agree};
use crate::experiment::raw::{RawCalibration, RawEvaluation, RawTask};
use crate::hub::datasets::{self, Use};
use std::path::{Path, PathBuf};

/// The evaluation that was typed, with what it leaves to the protocol.
pub fn evaluation(evaluation: &RawEvaluation, protocol: Option<Named>) -> Result<EvaluationPlan> {
    one_text(&evaluation.corpus, &evaluation.tokens, evaluation.join.is_some(), false)?;
    if evaluation.rows == Some(0) || (evaluation.rows.is_some() && evaluation.corpus.is_none()) {
        return Err(Error::config("`rows` is a number of rows of the `corpus`, at least 1"));
    }
    let text = evaluation.corpus.as_deref();
    let text = text.map(|corpus| text_plan(corpus, evaluation.join, Use::Evaluation));
    let (corpus, join) = text.transpose()?.unzip();
    let join = join.map(|(known, join)| match protocol {
        Some(protocol) if !known => protocol.settings.join,
        _ => join,
    });
    let length = agree(protocol, "length", evaluation.length, |it| it.context)?;
    let evaluation = EvaluationPlan {
        name: evaluation.name.clone(),
        corpus,
        tokens: evaluation.tokens.clone(),
        obtain: evaluation.obtain.clone(),
        join,
        rows: evaluation.rows,
        length: length.ok_or_else(|| missing("length"))?,
        windows: evaluation.windows,
    };
    evaluation.validate()?;
    Ok(evaluation)
}

/// The zero-shot task that was typed, with the data set's own place on the hub if it names none.
pub fn task(raw: &RawTask) -> Result<TaskPlan> {
    let task = &TASKS.find(&raw.name)?.item;
    if raw.limit == Some(0) {
        return Err(Error::config("`limit` is a number of documents, at least 1"));
    }
    let data = raw.data.clone().unwrap_or_else(|| task.hub.into());
    // A mistake in a path on the hub is reported now, not when the file is wanted.
    datasets::file(&data)?;
    Ok(TaskPlan {
        name: raw.name.clone(),
        data,
        obtain: raw.obtain.clone(),
        limit: raw.limit,
        harness: raw.harness.unwrap_or_default(),
    })
}

/// The calibration that was typed, with what it leaves to the protocol.
pub fn calibration(calibration: &RawCalibration, protocol: Option<Named>, seeds: &[u64]) -> Result<CalibrationPlan> {
    one_text(
        &calibration.corpus,
        &calibration.tokens,
        calibration.join.is_some(),
        calibration.sampling.is_some(),
    )?;
    let sampling = match &calibration.corpus {
        None => None,
        Some(_) => {
            let sampling = agree(protocol, "sampling", calibration.sampling, |it| it.sampling)?;
            let message = "missing field `sampling`: `documents` or `packed`";
            Some(sampling.ok_or_else(|| Error::config(message))?)
        }
    };
    let length = agree(protocol, "length", calibration.length, |it| it.context)?;
    let stage = agree(protocol, "stage", calibration.stage, |it| it.stage)?;
    let sequences = calibration.sequences.or(protocol.map(|it| it.settings.sequences));
    if let Some(tokens) = &calibration.tokens {
        one_draw(tokens, seeds)?;
    }
    let text = calibration.corpus.as_deref();
    // Documents are drawn one by one: how they would be joined decides nothing, so it is left alone.
    let alone = matches!(sampling, Some(Sampling::Documents | Sampling::Answers));
    let join = calibration.join.or(alone.then_some(Join::None));
    let text = text.map(|corpus| text_plan(corpus, join, Use::Calibration));
    let (corpus, join) = text.transpose()?.unzip();
    let join = join.map(|(_, join)| join);
    let calibration = CalibrationPlan {
        corpus,
        tokens: calibration.tokens.clone(),
        obtain: calibration.obtain.clone(),
        join,
        sampling,
        sequences: sequences.ok_or_else(|| missing("sequences"))?,
        length: length.ok_or_else(|| missing("length"))?,
        stage: stage.unwrap_or_default(),
    };
    calibration.validate()?;
    calibration.check_size(calibration.length.fixed().unwrap_or(1), seeds.len())?;
    Ok(calibration)
}

/// Refuses a text that is neither a corpus nor token windows, or both.
fn one_text(corpus: &Option<PathBuf>, tokens: &Option<PathBuf>, joined: bool, sampled: bool) -> Result<()> {
    let message = match (corpus, tokens) {
        (Some(_), Some(_)) => "`tokens` takes the place of `corpus`; give one of them",
        (None, None) => "missing field `corpus`: a text, or `tokens` with a token windows file in its place",
        (None, Some(_)) if joined => "`tokens` are windows already; `join` belongs to a `corpus`",
        (None, Some(_)) if sampled => "`tokens` are windows already; `sampling` belongs to a `corpus`",
        _ => return Ok(()),
    };
    Err(Error::config(message))
}

/// A tokens file is one draw, so it cannot stand for several seeds unless its name tells them apart.
fn one_draw(tokens: &Path, seeds: &[u64]) -> Result<()> {
    if seeds.len() > 1 && !tokens.to_string_lossy().contains(SEED) {
        let message = format!(
            "`{}` is one draw, but there are {} seeds; name it with `{SEED}`, or give one seed",
            tokens.display(),
            seeds.len()
        );
        return Err(Error::config(message));
    }
    Ok(())
}

/// A corpus with everything spelled out, and how its rows are joined.
/// Whether that was said, by the experiment or by the data set, comes with it.
fn text_plan(corpus: &Path, join: Option<Join>, purpose: Use) -> Result<(PathBuf, (bool, Join))> {
    let (corpus, own) = datasets::spelled_out(corpus, purpose)?;
    let known = join.or(own);
    Ok((corpus, (known.is_some(), known.unwrap_or(Join::None))))
}

fn missing(key: &str) -> Error {
    Error::config(format!("missing field `{key}`; a `protocol` would set it"))
}
