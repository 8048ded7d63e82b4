//! Texts: calibration, evaluations, zero-shot tasks.

use crate::data::corpus::Join;
use crate::data::prompts::Template;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::eval::tasks::TASKS;
use crate::experiment::file_names::SEED;
use crate::experiment::plan::{CalibrationPlan, EvaluationPlan, GenerationPlan, GenerationSettings, TaskPlan};
use crate::experiment::problems::{AtKey, Keyed, Problems};
use crate::experiment::protocol::{Length, Named, agree};
use crate::experiment::raw::{RawCalibration, RawEvaluation, RawGeneration, RawTask};
use crate::files::names;
use crate::hub::datasets::{self, Use};
use serde_spanned::Spanned;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The evaluation that was typed, with what it leaves to the protocol. `None` if it has a problem.
pub fn evaluation(
    raw: &Spanned<RawEvaluation>,
    protocol: Option<Named>,
    problems: &mut Problems,
) -> Option<EvaluationPlan> {
    let (span, evaluation) = (raw.span(), raw.get_ref());
    let before = problems.count();
    one_text(
        &evaluation.corpus,
        &evaluation.tokens,
        [evaluation.join.is_some(), false],
        &span,
        problems,
    );
    if evaluation.rows == Some(0) || (evaluation.rows.is_some() && evaluation.corpus.is_none()) {
        let message = "`rows` is a number of rows of the `corpus`, at least 1";
        problems.add(problems.place(&span, &["rows"]), Error::config(message));
    }
    let text = text_plan(&evaluation.corpus, evaluation.join, Use::Evaluation, problems);
    let (corpus, join) = text.unzip();
    let join = join.map(|(known, join)| match protocol {
        Some(protocol) if !known => protocol.settings.join,
        _ => join,
    });
    let length = agree(protocol, "length", evaluation.length, |it| it.context);
    let length = problems.take_keyed(&span, length.at_key("length"));
    // One that the protocol does not have is wrong, and not missing.
    if length == Some(None) {
        problems.missing(&span, "length", missing("length", LENGTH));
    }
    let length = length.flatten();
    if problems.count() > before {
        return None;
    }
    let evaluation = EvaluationPlan {
        name: evaluation.name.clone(),
        corpus,
        tokens: typed(&evaluation.tokens),
        obtain: evaluation.obtain.clone(),
        join,
        rows: evaluation.rows,
        length: length?,
        windows: evaluation.windows,
        compare_to_dense: evaluation.compare_to_dense,
    };
    // Without a number of windows it is the length alone that is wrong.
    let place = problems.place(
        &span,
        &[wrong_size(evaluation.length, "windows", evaluation.windows), "length"],
    );
    problems.take(&place, evaluation.validate())?;
    Some(evaluation)
}

/// The zero-shot task that was typed, with the data set's own place on the hub if it names none.
///
/// # Errors
/// An unknown task, a limit of nothing, or a path that cannot be one of the hub.
pub fn task(raw: &RawTask) -> Keyed<TaskPlan> {
    let task = &TASKS.find(&raw.name).at_key("name")?.item;
    if raw.limit == Some(0) {
        let message = "`limit` is a number of documents, at least 1";
        return Err(("limit", Error::config(message)));
    }
    let data = typed(&raw.data).unwrap_or_else(|| task.hub.into());
    // A mistake in a path on the hub is reported now, not when the file is wanted.
    datasets::file(&data).at_key("data")?;
    Ok(TaskPlan {
        name: raw.name.clone(),
        data,
        obtain: raw.obtain.clone(),
        limit: raw.limit,
        harness: raw.harness.unwrap_or_default(),
    })
}

/// The prompts that were typed, with the template that is meant where none is.
///
/// # Errors
/// A name that cannot be that of a file, a number of nothing, examples that are missing, an empty text that ends answers, or a template or a
/// path that is none.
pub fn generation(raw: &RawGeneration) -> Keyed<GenerationPlan> {
    let wrong = |key, message: &str| Err((key, Error::config(message)));
    if names::plain(&raw.name) != raw.name || raw.name.is_empty() {
        let message = format!(
            "name `{}` becomes the name of a file: use letters, digits, `-`, `_` and `.`",
            raw.name
        );
        return wrong("name", &message);
    }
    for (key, number) in [("limit", raw.limit), ("max_tokens", Some(raw.max_tokens))] {
        if number == Some(0) {
            return wrong(key, &format!("`{key}` is a number of at least 1"));
        }
    }
    if raw.examples.is_none() && raw.shots.is_some_and(|shots| shots > 0) {
        return wrong("shots", "`shots` is a number of `examples`, a file of which is missing");
    }
    if raw.stop.iter().any(String::is_empty) {
        return wrong("stop", "a text in `stop` is empty, so every answer would be");
    }
    let template = raw.template.clone().unwrap_or_else(|| "{prompt}".to_string());
    Template::parse(&template).at_key("template")?;
    for (key, path) in [("prompts", Some(&raw.prompts)), ("examples", raw.examples.as_ref())] {
        path.map(|path| datasets::file(path.get_ref()))
            .transpose()
            .at_key(key)?;
    }
    Ok(GenerationPlan {
        name: raw.name.clone(),
        prompts: raw.prompts.get_ref().clone(),
        examples: typed(&raw.examples).filter(|_| raw.shots != Some(0)),
        obtain: raw.obtain.clone(),
        settings: GenerationSettings {
            shots: raw.shots.filter(|shots| *shots > 0),
            template,
            chat: raw.chat,
            max_tokens: raw.max_tokens,
            stop: raw.stop.clone(),
            matching: raw.matching,
            limit: raw.limit,
        },
    })
}

/// The calibration that was typed, with what it leaves to the protocol. Windows of a corpus are drawn from its documents, as the
/// papers draw them from C4, unless anything else is said. `None` if it has a problem.
pub fn calibration(
    raw: &Spanned<RawCalibration>,
    protocol: Option<Named>,
    seeds: &[u64],
    problems: &mut Problems,
) -> Option<CalibrationPlan> {
    let (span, calibration) = (raw.span(), raw.get_ref());
    let before = problems.count();
    let said = [calibration.join.is_some(), calibration.sampling.is_some()];
    one_text(&calibration.corpus, &calibration.tokens, said, &span, problems);
    let sampling = match &calibration.corpus {
        None => None,
        Some(_) => {
            let sampling = agree(protocol, "sampling", calibration.sampling, |it| it.sampling);
            let sampling = problems.take_keyed(&span, sampling.at_key("sampling")).flatten();
            Some(sampling.unwrap_or(Sampling::Documents))
        }
    };
    let length = agree(protocol, "length", calibration.length, |it| it.calibration);
    let length = problems.take_keyed(&span, length.at_key("length"));
    // One that the protocol does not have is wrong, and not missing.
    if length == Some(None) {
        problems.missing(&span, "length", missing("length", LENGTH));
    }
    let length = length.flatten();
    let stage = agree(protocol, "stage", calibration.stage, |it| it.stage);
    let stage = problems
        .take(&problems.place(&span, &["stage", "propagate"]), stage)
        .flatten();
    let sequences = calibration.sequences.or(protocol.map(|it| it.settings.sequences));
    if sequences.is_none() {
        let what = "the number of windows that are drawn, such as `sequences = 128`";
        problems.missing(&span, "sequences", missing("sequences", what));
    }
    if let Some(tokens) = &calibration.tokens {
        problems.take(&tokens.span(), one_draw(tokens.get_ref(), seeds));
    }
    // Documents are drawn one by one: how they would be joined decides nothing, so it is left alone.
    let alone = matches!(sampling, Some(Sampling::Documents | Sampling::Answers));
    let join = calibration.join.or(alone.then_some(Join::None));
    let (corpus, join) = text_plan(&calibration.corpus, join, Use::Calibration, problems).unzip();
    let join = join.map(|(_, join)| join);
    if problems.count() > before {
        return None;
    }
    let calibration = CalibrationPlan {
        corpus,
        tokens: typed(&calibration.tokens),
        gradients: typed(&calibration.gradients),
        obtain: calibration.obtain.clone(),
        join,
        sampling,
        sequences: sequences?,
        length: length?,
        stage: stage.unwrap_or_default(),
    };
    let length = calibration.length.fixed().unwrap_or(1);
    let checked = calibration
        .validate()
        .and_then(|()| calibration.check_size(length, seeds.len()));
    let key = wrong_size(calibration.length, "sequences", Some(calibration.sequences));
    problems.take(&problems.place(&span, &[key, "sequences", "length"]), checked)?;
    Some(calibration)
}

/// Refuses a text that is neither a corpus nor token windows, or both; `said` is whether `join` and `sampling` are there.
fn one_text(
    corpus: &Option<Spanned<PathBuf>>,
    tokens: &Option<Spanned<PathBuf>>,
    [joined, sampled]: [bool; 2],
    span: &Range<usize>,
    problems: &mut Problems,
) {
    let (key, message) = match (corpus, tokens) {
        (Some(_), Some(_)) => ("tokens", "`tokens` takes the place of `corpus`; give one of them"),
        (None, None) => {
            let message = "`corpus` is missing: a text, such as `corpus = \"hub:c4\"`, or `tokens` with a token windows file in its place";
            if !problems.lost(span, "tokens") {
                problems.missing(span, "corpus", message);
            }
            return;
        }
        (None, Some(_)) if joined => ("join", "`tokens` are windows already; `join` belongs to a `corpus`"),
        (None, Some(_)) if sampled => (
            "sampling",
            "`tokens` are windows already; `sampling` belongs to a `corpus`",
        ),
        _ => return,
    };
    problems.add(problems.place(span, &[key]), Error::config(message));
}

/// The key that an error about the size of windows is about: their length if it is none, else their number.
fn wrong_size(length: Length, number: &'static str, windows: Option<usize>) -> &'static str {
    match length.fixed() {
        Some(length) if length < 2 && windows != Some(0) => "length",
        _ => number,
    }
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
/// Whether that was said, by the experiment or by the data set, comes with it. `None` without a corpus, and if it has a problem.
fn text_plan(
    corpus: &Option<Spanned<PathBuf>>,
    join: Option<Join>,
    purpose: Use,
    problems: &mut Problems,
) -> Option<(PathBuf, (bool, Join))> {
    let corpus = corpus.as_ref()?;
    let spelled_out = datasets::spelled_out(corpus.get_ref(), purpose);
    let (path, own) = problems.take(&corpus.span(), spelled_out)?;
    let known = join.or(own);
    Some((path, (known.is_some(), known.unwrap_or(Join::None))))
}

/// The path without its place in the file.
fn typed(path: &Option<Spanned<PathBuf>>) -> Option<PathBuf> {
    path.as_ref().map(|path| path.get_ref().clone())
}

/// What `length` is, for those who left it out.
const LENGTH: &str = "the number of tokens in a window, such as `length = 2048`";

fn missing(key: &str, what: &str) -> String {
    format!("`{key}` is missing: {what}; a `protocol` would set it")
}
