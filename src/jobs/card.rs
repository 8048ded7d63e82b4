//! `README.md` of a pruned model: the card that the Hugging Face hub shows.
//!
//! Owns its text: what hubs read (front matter), how the model was made, and what was measured. A card is made with the model.
//! Afterwards only the part between two marks is ever replaced, so people may edit the rest.

use super::provenance::PruningFile;
use crate::choices;
use crate::data::{digest, tokenizer};
use crate::error::{Error, Located, Result};
use crate::experiment::identity::{
    CalibrationIdentity, EvaluationIdentity, PruningIdentity, PruningKind, RecipeIdentity,
};
use crate::experiment::inputs::ModelIdentity;
use crate::experiment::plan::{ComponentPlan, StepPlans};
use crate::files::{Access, OutputFile, input};
use crate::model::export::{CONFIG, PRUNING};
use crate::model::weights::WeightFiles;
use crate::record::TaskRecord;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Name of the card's file.
pub const CARD: &str = "README.md";

/// Keys of the original's front matter that hold for a pruned model, too.
const KEPT: [&str; 6] = [
    "license",
    "license_name",
    "license_link",
    "language",
    "pipeline_tag",
    "library_name",
];

/// The lines that what was measured stands between.
const BEGIN: &str = "<!-- Measured: written by `zprune card`. -->";
const END: &str = "<!-- End of what was measured. -->";

/// The longest result of `zprune eval --json` that is read, in bytes: the likelihoods of all documents of all tasks.
const LARGEST: u64 = 1 << 30;

/// The card of a model that was just pruned. `original` is the card of the model it was made from, if that has one.
pub fn written(file: &PruningFile, original: Option<&str>) -> String {
    let kept = original.map(kept).unwrap_or_default();
    let short = file.base_model.as_deref().unwrap_or("model");
    let short = short.rsplit('/').next().unwrap_or(short);
    let pattern = file.cell.pruning.as_ref().map(|pruning| pruning.pattern().to_string());
    let pattern = pattern.unwrap_or_default();
    let mut text = String::from("---\n");
    let hub = hub_name(file);
    if let Some(name) = hub {
        text.push_str(&format!("base_model: {name}\n"));
    }
    kept.iter().for_each(|(_, lines)| text.push_str(lines));
    let has = |key: &str| kept.iter().any(|(kept, _)| kept == key);
    if !has("library_name") {
        text.push_str("library_name: transformers\n");
    }
    if !has("pipeline_tag") {
        text.push_str("pipeline_tag: text-generation\n");
    }
    text.push_str("tags:\n- zprune\n- pruning\n- sparse\n");
    text.push_str(&format!(
        "---\n\n# {short}, {pattern} pruned by {}\n\n",
        plain(&file.method)
    ));
    let mut missing = Vec::new();
    if !has("license") {
        missing.push("`license`, which the original's card does not name here");
    }
    if hub.is_none() {
        missing.push("`base_model`, the original's name on the hub (`org/name`)");
    }
    if !missing.is_empty() {
        let missing = missing.join("; ");
        text.push_str(&format!(
            "<!-- Before you publish it, add to the lines above: {missing}. -->\n\n"
        ));
    }
    text.push_str(&format!(
        "This is {}, pruned with zprune {} and not trained afterwards. {:.2} % of the weights of its linear layers are zero.\n\n",
        of(file, hub),
        file.zprune,
        100.0 * file.sparsity
    ));
    if let Some(pruning) = &file.cell.pruning {
        text.push_str("| step | setting |\n|---|---|\n");
        for (step, setting) in settings(file, pruning) {
            text.push_str(&format!("| {step} | {} |\n", plain(&setting).replace('|', "\\|")));
        }
    }
    text.push_str(&format!(
        "\nThe zeros are stored like any other value: the model loads like the original, and takes as much memory and time. `{PRUNING}` \
         has all settings, what was done to each layer, and the SHA-256 of every file; `zprune verify` checks the files.\n\n\
         {BEGIN}\n<!-- Nothing yet. `zprune eval --model DIR --corpus FILE --json found.json` measures, and \
         `zprune card DIR --measured found.json` writes it here. -->\n{END}\n"
    ));
    text
}

/// Puts what `zprune eval --json` found into the card of the pruned model in `folder`: of this model and, in a column beside it,
/// of the original. A card that is not there is made.
///
/// # Errors
/// The folder was not pruned by zprune, a result is none or is of another model, the card has no place for it, or it cannot be
/// written.
pub fn update(folder: &Path, results: &[PathBuf]) -> Result<()> {
    let Some(file) = PruningFile::read(folder)? else {
        let message = format!("has no {PRUNING}, so zprune did not prune it");
        return Err(Error::input(message).at(folder.display()));
    };
    let own = ModelIdentity {
        config: digest::of_file(&folder.join(CONFIG))?,
        weights: WeightFiles::open(folder)?.digest()?,
        tokenizer: tokenizer::digest(folder)?,
    };
    let mut rows: Vec<Measure> = Vec::new();
    for path in results {
        let text = input::read_text(path, LARGEST)?;
        let result: EvalResult = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("is no result of `zprune eval --json`: {error}")))
            .at(path.display())?;
        let column = match &result.model {
            model if *model == own => 1,
            model if *model == file.cell.model => 0,
            _ => {
                let message = format!(
                    "was measured on a model that is neither {} nor the one it was made from, by the SHA-256 of their files",
                    folder.display()
                );
                return Err(Error::input(message).at(path.display()));
            }
        };
        for (what, value) in result.values().at(path.display())? {
            match rows.iter_mut().find(|row| row.what == what) {
                Some(row) => row.values[column] = Some(value),
                None => {
                    let mut values = [None, None];
                    values[column] = Some(value);
                    rows.push(Measure { what, values });
                }
            }
        }
    }
    let path = folder.join(CARD);
    let card = match path.exists() {
        true => input::read_text(&path, input::SMALL)?,
        false => written(&file, None),
    };
    let places = card.find(BEGIN).zip(card.find(END)).filter(|(begin, end)| begin < end);
    let (begin, end) = places.ok_or_else(|| {
        let message =
            format!("has no place for what was measured; put these two lines where it is to stand:\n{BEGIN}\n{END}");
        Error::input(message).at(path.display())
    })?;
    let text = format!("{}{BEGIN}\n{}{}", &card[..begin], table(&rows), &card[end..]);
    let output = OutputFile {
        path: &path,
        inputs: &[],
        // It was just read, and only the part between the marks is another.
        force: true,
        ours: |_| true,
        access: Access::of(&folder.join(PRUNING))?,
    };
    output.write(text.as_bytes())
}

/// Keys of a card's front matter that a pruned model keeps, each with its lines as they stand there.
fn kept(card: &str) -> Vec<(String, String)> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let mut keys: Vec<(String, String)> = Vec::new();
    for line in lines {
        let line = line.trim_end();
        if line == "---" {
            keys.retain(|(key, _)| KEPT.contains(&key.as_str()));
            return keys;
        }
        let begins = !line.starts_with([' ', '\t', '-', '#']);
        match (line.split_once(':'), keys.last_mut()) {
            (Some((key, _)), _) if begins => keys.push((key.to_string(), format!("{line}\n"))),
            (_, Some((_, lines))) if !line.is_empty() => lines.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    // It never ended, so it is no front matter.
    Vec::new()
}

/// The original's name, if it is one of the hub.
fn hub_name(file: &PruningFile) -> Option<&str> {
    file.base_model.as_deref().filter(|name| name.contains('/'))
}

/// The original in words, with a link where the hub has it.
fn of(file: &PruningFile, hub: Option<&str>) -> String {
    match (hub, &file.base_revision, &file.base_model) {
        (Some(name), Some(commit), _) => {
            let short: String = commit.chars().take(7).collect();
            format!(
                "[{name}](https://huggingface.co/{name}) at commit [{short}](https://huggingface.co/{name}/tree/{commit})"
            )
        }
        (Some(name), None, _) => format!("[{name}](https://huggingface.co/{name})"),
        (None, _, Some(name)) => format!("`{}`", plain(name)),
        (None, _, None) => "a model".to_string(),
    }
}

/// How the model was pruned: each step with its setting.
fn settings(file: &PruningFile, pruning: &PruningIdentity) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("method", format!("`{}`", file.method)),
        ("pattern", pruning.pattern().to_string()),
    ];
    match &pruning.kind {
        PruningKind::Recipe(recipe) => rows.extend(steps(recipe)),
        PruningKind::Units(units) => rows.push(("whole units", component(&units.plan.units))),
    }
    if let Some(calibration) = &pruning.calibration {
        rows.push(("calibration", calibrated(file, calibration)));
    }
    if let Some(protocol) = &file.protocol {
        rows.push(("protocol", format!("`{protocol}`")));
    }
    rows
}

/// The steps of a recipe with their settings.
fn steps(recipe: &RecipeIdentity) -> Vec<(&'static str, String)> {
    let StepPlans {
        permutation,
        refine,
        compensate,
    } = &recipe.steps;
    let mut rows = vec![("criterion", component(&recipe.criterion))];
    if let Some(group) = &recipe.group {
        rows.push(("comparison group", choices::name(group)));
    }
    rows.push(("allocator", component(&recipe.allocator)));
    let given = |(step, plan): (&'static str, &Option<ComponentPlan>)| Some((step, component(plan.as_ref()?)));
    rows.extend(
        [("permutation", permutation), ("mask refinement", refine)]
            .into_iter()
            .filter_map(given),
    );
    rows.push(("solver", component(&recipe.solver)));
    rows.extend(given(("compensation", compensate)));
    rows
}

/// A component with its parameters.
fn component(plan: &ComponentPlan) -> String {
    let parameters = plan.parameters.as_object();
    let parameters: Vec<String> = parameters
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    match parameters.is_empty() {
        true => format!("`{}`", plan.name),
        false => format!("`{}` ({})", plan.name, parameters.join(", ")),
    }
}

fn calibrated(file: &PruningFile, calibration: &CalibrationIdentity) -> String {
    let corpus = file.calibration_corpus.as_ref();
    let corpus = corpus.map_or(String::new(), |corpus| format!(" from `{corpus}`"));
    let sampling = calibration.sampling.as_ref();
    let sampling = sampling.map_or(String::new(), |sampling| {
        format!(", sampling `{}`", choices::name(sampling))
    });
    format!(
        "{} windows of {} tokens{corpus}{sampling}, seed {}, stage `{}`",
        calibration.sequences,
        calibration.length,
        calibration.seed,
        choices::name(&calibration.stage)
    )
}

/// A text without line ends, so that it stays in its row.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One measure of the original and of the pruned model.
struct Measure {
    what: String,
    values: [Option<String>; 2],
}

fn table(rows: &[Measure]) -> String {
    let mut text = String::from("## Measured\n\n| measure | original | this model |\n|---|---:|---:|\n");
    for row in rows {
        let value = |column: usize| row.values[column].as_deref().unwrap_or("");
        let what = plain(&row.what).replace('|', "\\|");
        text.push_str(&format!("| {what} | {} | {} |\n", value(0), value(1)));
    }
    text.push_str("\nMeasured with `zprune eval`.\n");
    text
}

/// What is read of a result of `zprune eval --json`, of perplexity or of tasks.
#[derive(Deserialize)]
struct EvalResult {
    model: ModelIdentity,
    perplexity: Option<f64>,
    corpus: Option<String>,
    #[serde(default)]
    tasks: Vec<TaskRecord>,
    windows: Option<Vec<f64>>,
    protocol: serde_json::Value,
}

impl EvalResult {
    /// What was measured, in words, and the values.
    fn values(&self) -> Result<Vec<(String, String)>> {
        let mut values = Vec::new();
        if let Some(perplexity) = self.perplexity {
            let protocol: EvaluationIdentity = serde_json::from_value(self.protocol.clone())
                .map_err(|error| Error::input(format!("is no result of `zprune eval --json`: {error}")))?;
            let text = protocol.corpus.as_ref().or(protocol.tokens.as_ref());
            // Earlier versions did not say what the text was called.
            let known = || text.map_or(String::new(), |digest| digest.chars().take(12).collect());
            let text = self.corpus.clone().unwrap_or_else(known);
            let windows = self.windows.as_ref().map_or(0, Vec::len);
            let what = format!(
                "perplexity on `{text}`, {windows} windows of {} tokens",
                protocol.length
            );
            values.push((what, format!("{perplexity:.2}")));
        }
        for task in &self.tasks {
            for (name, metric) in &task.metrics {
                let what = format!("{} {name}, {} documents", task.name, task.documents);
                let value = match name.starts_with("acc") {
                    true => format!("{:.1} %", 100.0 * metric.value),
                    false => format!("{:.2}", metric.value),
                };
                values.push((what, value));
            }
        }
        match values.is_empty() {
            true => Err(Error::input("has neither a perplexity nor results of tasks")),
            false => Ok(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_for_a_pruned_model_is_kept_of_a_card() {
        let card = "\u{feff}---\r\nlicense: other\r\nlicense_name: ours\r\n# a remark\r\nlanguage:\r\n- en\r\n  - de\r\nbase_model: a/b\r\n\
                    tags:\r\n- license\r\nextra_gated_prompt: >-\r\n  license: mine\r\nlicense_link: https://x/y\r\n---\r\nlicense: no\r\n";
        let kept = kept(card);
        let keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["license", "license_name", "language", "license_link"]);
        assert_eq!(kept[2].1, "language:\n- en\n  - de\n");
        for none in [
            "",
            "license: mit\n",
            "---\nlicense: mit\n",
            "# Title\n---\nlicense: mit\n---\n",
        ] {
            assert!(super::kept(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn rows_keep_their_columns() {
        let rows = [Measure {
            what: "a | b\nc".to_string(),
            values: [None, Some("5.00".to_string())],
        }];
        assert!(table(&rows).contains("\n| a \\| b c |  | 5.00 |\n"), "{}", table(&rows));
    }
}
