//! Pruning one model into a directory of its own.
//!
//! The output is a dense Hugging Face directory with the source's files, shards, tensors and types, and beside them
//! [`PRUNING`] and a card for its readers. It appears under its name when it is complete and was opened as a loader opens it.

use super::begins;
use super::card::{self, CARD};
use super::provenance::{Fingerprints, Kept, PruningFile, SCHEMA, base, digests};
use crate::cell::{Findings, Opened, Prepared, Runner, Sharing, Treatment, Work};
use crate::data::digest::FileDigest;
use crate::data::tokenizer;
use crate::error::{Error, Located, Result};
use crate::experiment::identity::{PruningIdentity, identify};
use crate::experiment::inputs::{self, Inputs, ModelInput};
use crate::experiment::outside::check_outside;
use crate::experiment::plan::Experiment;
use crate::files::{Access, Staging, input};
use crate::hub::{Parts, datasets};
use crate::memory;
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{ModelWriter, PRUNING};
use crate::model::families::read_spec;
use crate::model::folder::{Found, Links, ModelFolder};
use crate::model::neurons;
use crate::progress::Progress;
use crate::prune::layer::LayerRecord;
use crate::prune::workbench::Workbench;
use crate::spec::{ModelSpec, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The result of pruning a model, for what the user is told.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The content of the `pruning.json` that was written.
    pub file: PruningFile,
    /// Folder of the model that was pruned; for a model of the hub, its folder in the cache.
    pub original: PathBuf,
    /// Seconds spent in forward passes, for statistics and to move calibration data through pruned blocks.
    pub calibrate_seconds: f64,
    /// Seconds spent on scoring, selecting and updating weights.
    pub prune_seconds: f64,
    /// The largest resident set in bytes, if the system tells.
    pub peak_resident_bytes: Option<u64>,
}

/// How the pruned model is written.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    /// What symbolic links in the model's folder may lead to.
    pub links: Links,
    /// Whether the neurons of each MLP are put into the order in which its second layer was pruned, if it has a permutation, so that
    /// the file has its N:M groups side by side. The model computes the same.
    pub fold: bool,
}

/// Prunes the experiment's only model with its only method, pattern and seed, and writes it to the directory `out`.
///
/// # Errors
/// The experiment is not one model pruned once. Unusable inputs, arithmetic that breaks down, a disk that refuses; nothing is left under `out` then.
pub fn prune(experiment: &Experiment, out: &Path, writing: Writing, progress: &dyn Progress) -> Result<Pruned> {
    let staging = Staging::new(out)?;
    inputs::fetch(experiment, Parts::Everything, progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    inputs.require_all()?;
    let machine = experiment.machine_here()?;
    let cells = experiment.cells();
    let mut pruning = cells
        .iter()
        .zip(identify(experiment, machine, &inputs))
        .filter_map(|(cell, identity)| Some((cell, cell.pruning?, identity?)));
    let (cell, pruning, identity) = match (pruning.next(), pruning.next()) {
        (Some(only), None) => only,
        _ => return Err(not_one(experiment)),
    };
    let there = inputs.models.first().and_then(Option::as_ref);
    let folder = inputs.folders.first().and_then(Option::as_ref);
    let (Some(input), Some(configured)) = (there, folder) else {
        return Err(not_one(experiment));
    };
    let folder = &configured.path;
    let recipe = experiment.recipe(pruning.method)?.ok_or_else(|| not_one(experiment))?;
    let backend = Opened::new(&experiment.machine, machine)?;
    backend.check(&recipe, pruning.pattern)?;
    let model = Prepared::of(experiment, machine, &inputs, 0, progress)?;
    check_outside(experiment, &inputs, std::iter::once(cell), progress)?;
    let file = experiment.file(cell).map(|(path, _)| path);
    let original = ModelFolder::open(folder, writing.links)?.files(|name| name == CARD)?;
    let spec = recipe.biased(input.checkpoint.spec())?;
    let mut writer = ModelWriter::begin(&input.checkpoint, &spec, folder, &staging, writing.links)?;
    let blocks = input.checkpoint.spec().blocks;
    let name = &experiment.methods[pruning.method].name;
    let done = format!("is pruned with {name} to {}", pruning.pattern);
    let windows = pruning.seed.and_then(|seed| model.calibration.get(&seed));
    let begins = begins::changing(experiment, &done, model.source.spec(), windows, pruning.seed);
    begins::pruned_before(
        experiment,
        model.pruned_before.as_ref(),
        begins::COUNTED_BY_SPARSITY,
        progress,
    );
    progress.begins(&begins, begins::time(experiment, machine, cell, &model)?);
    progress.start(1, blocks);
    progress.cell(&format!("{name}, {}", pruning.pattern), blocks);
    let findings = backend.run(Prune {
        model: &model,
        treatment: Treatment {
            recipe: &recipe,
            pattern: pruning.pattern,
            seed: pruning.seed,
            file: file.as_deref(),
        },
        writer: &mut writer,
        fold: writing.fold,
        progress,
    });
    let mut findings = findings.at(experiment.models[0].path.display())?;
    if writing.fold {
        mark_folded(&mut findings.layers, input.checkpoint.spec());
    }
    progress.stage("writing");
    let remade = writer.remade().to_vec();
    let copied = writer.finish()?;
    progress.stage("reading it back");
    let output = loadable(&staging).map_err(|error| staging.renamed(error))?;
    let fingerprints = Fingerprints {
        kept_weights: match identity.pruning.as_ref().and_then(PruningIdentity::recipe) {
            Some(recipe) => Kept::by(&recipe.solver)?,
            None => Kept::Unchanged,
        },
        original: unchanged(input, folder, (&copied, &remade), &output).at(folder.display())?,
        output,
    };
    let (base_model, base_revision) = base(experiment, configured)?;
    let mut file = PruningFile {
        schema: SCHEMA,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        method: name.clone(),
        protocol: experiment.protocol.clone(),
        base_model,
        base_revision,
        calibration_corpus: calibration(experiment, pruning.seed),
        cell: identity,
        sparsity: findings.sparsity.unwrap_or(0.0),
        calibration_tokens: findings.calibration_tokens,
        layers: findings.layers,
        fingerprints: Some(fingerprints),
        checksum: None,
    };
    let text = original
        .first()
        .map(|found| input::read_text(&found.place, input::SMALL));
    let card = card::of_pruned(&file, text.transpose()?.as_deref());
    if let Some(fingerprints) = &mut file.fingerprints {
        let digest = FileDigest::of_bytes(card.as_bytes());
        fingerprints.output.insert(CARD.to_string(), digest);
    }
    let all: Vec<Found> = copied.into_iter().chain(remade).chain(original).collect();
    let access = narrowest(input, &all)?;
    staging.write(CARD, card.as_bytes(), access)?;
    staging.write(PRUNING, &file.to_bytes()?, access)?;
    staging.commit()?;
    progress.finish();
    Ok(Pruned {
        file,
        original: folder.clone(),
        calibrate_seconds: findings.time.passes().as_secs_f64(),
        prune_seconds: findings.time.prune.as_secs_f64(),
        peak_resident_bytes: memory::peak_resident(),
    })
}

/// What the text was called that windows were drawn from with this seed, or the file of the windows.
fn calibration(experiment: &Experiment, seed: Option<u64>) -> Option<String> {
    let plan = experiment.calibration.as_ref()?;
    Some(datasets::name(&plan.file(seed?)))
}

/// The access rights that hold for all files of the original. `pruning.json` and the card describe them, so nobody else
/// may read these.
fn narrowest(input: &ModelInput, others: &[Found]) -> Result<Access> {
    let weights = input.checkpoint.files().paths();
    let mut places = weights
        .into_iter()
        .chain(others.iter().map(|found| found.place.as_path()));
    places.try_fold(Access::OPEN, |access, place| Ok(access.and(Access::of(place)?)))
}

/// The digests of the original's files: the weights, those that were copied, and those in whose place others were made. Checks that
/// they have not changed since pruning began.
fn unchanged(
    input: &ModelInput,
    folder: &Path,
    (copied, remade): (&[Found], &[Found]),
    output: &BTreeMap<String, FileDigest>,
) -> Result<BTreeMap<String, FileDigest>> {
    let changed = |what: &str| {
        let message =
            format!("{what} changed while the model was pruned; prune it again when no other program writes to it");
        Err(Error::input(message))
    };
    let (mut digests, weights) = input.checkpoint.files().digests()?;
    for found in copied {
        let (name, digest) = (found.text(), FileDigest::of_file(&found.place)?);
        if output.get(&name) != Some(&digest) {
            return changed(&name);
        }
        digests.insert(name, digest);
    }
    for found in remade {
        digests.insert(found.text(), FileDigest::of_file(&found.place)?);
    }
    let config = digests.get("config.json").map_or("", |digest| digest.sha256.as_str());
    let tokenizer = tokenizer::digest(folder)?;
    let known = &input.identity;
    for (what, now, before) in [
        ("its weights", weights.as_str(), &known.weights),
        ("config.json", config, &known.config),
        ("its tokenizer", tokenizer.as_str(), &known.tokenizer),
    ] {
        if now != before {
            return changed(what);
        }
    }
    Ok(digests)
}

/// The digests of the files that were written. Checks that the model loads, since one that does not must not get its
/// final name. Files that somebody else put beside it are ignored.
fn loadable(staging: &Staging) -> Result<BTreeMap<String, FileDigest>> {
    let folder = staging.path("");
    Checkpoint::open(&folder, read_spec(&folder)?)?;
    digests(staging)
}

/// Notes in the records of the layers which permutations the files have.
fn mark_folded(layers: &mut [LayerRecord], spec: &ModelSpec) {
    let blocks = (0..spec.blocks).map(|index| spec.block(index)).enumerate();
    let linears = blocks.flat_map(|(index, block)| {
        block
            .linears
            .iter()
            .map(move |linear| (block.weight_of(index, linear), linear))
    });
    let down = linears.filter(|(_, linear)| linear.role == Role::Down);
    let down: BTreeSet<String> = down.map(|(name, _)| name).collect();
    for layer in layers {
        layer.folded = layer.permutation.is_some() && down.contains(&layer.tensor);
    }
}

/// The error of an experiment that is not one model pruned once.
fn not_one(experiment: &Experiment) -> Error {
    Error::config(format!(
        "experiment `{}` is not one model pruned once: a pruned model is written for one model, method, pattern and seed",
        experiment.name
    ))
}

/// Prunes a model; every block is written as soon as it is ready.
struct Prune<'a, 'w> {
    model: &'a Prepared<'a>,
    treatment: Treatment<'a>,
    writer: &'a mut ModelWriter<'w>,
    fold: bool,
    progress: &'a dyn Progress,
}

impl Work for Prune<'_, '_> {
    type Output = Findings;

    fn on<B: Workbench>(self, backend: &B) -> Result<Findings> {
        let Prune { writer, fold, .. } = self;
        Runner::new(backend, self.model, Sharing::NONE)?.run(Some(self.treatment), self.progress, |pruned| {
            let layers = pruned.block.layers().into_iter().zip(pruned.layers);
            let order = layers
                .filter(|((id, ..), _)| fold && pruned.block.spec().linear(*id).role == Role::Down)
                .find_map(|(_, record)| record.permutation.as_deref());
            pruned.weights().try_for_each(|linear| {
                let mut linear = linear?;
                if let Some(order) = order {
                    neurons::reorder(&mut linear, order);
                }
                writer.put(&linear)
            })
        })
    }
}
