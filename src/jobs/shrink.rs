//! Making one model smaller by whole units: heads, neurons or blocks.
//!
//! The output is a Hugging Face directory with smaller tensors, a `config.json` that says so, and [`STRUCTURE`], which tells what is left
//! of the original. Before it gets its name it is opened as a loader opens it, and its logits are held against those of the original
//! with zeros in place of what was removed.

use super::begins;
use super::card::{self, CARD};
use super::directory::{Directory, storage};
use super::factors;
use super::provenance::{base, digests};
use super::seal;
use super::structure::{BlockLeft, Factored, Loaders, Size, Structure};
use crate::backend::Compute;
use crate::cell::size::{difference, logits, multiply_adds, parameters, sample, seconds_per_token, tolerance};
use crate::cell::{Opened, Work, calibration_windows};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::forecast::Forecast;
use crate::experiment::inputs::{self, Inputs, ModelIdentity};
use crate::experiment::plan::Experiment;
use crate::files::{Access, Staging, input};
use crate::hub::{Parts, datasets};
use crate::memory::Room;
use crate::model::checkpoint::Checkpoint;
use crate::model::edit::{Edit, Edited, Masked};
use crate::model::export::{CONFIG, STRUCTURE, emitted};
use crate::model::factored::FACTORS;
use crate::model::families::read_spec;
use crate::model::folder::{Links, ModelFolder};
use crate::model::forward::Ends;
use crate::model::padded::Padded;
use crate::model::pruned_before::PrunedBefore;
use crate::model::source::WeightSource;
use crate::progress::Progress;
use crate::prune::units::dense::Dense;
use crate::prune::units::{UnitMethod, Widths};
use crate::prune::workbench::Workbench;
use crate::spec::ModelSpec;
use crate::tensor::StorageType;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is done to the model.
pub struct Shrinking<'a> {
    /// The method's name.
    pub name: &'a str,
    /// Its parameters, for the record.
    pub parameters: Value,
    /// The method.
    pub method: &'a dyn UnitMethod,
    /// The fraction of the weights of the blocks' linear layers that is to go.
    pub share: f64,
    /// Whether blocks have the same sizes afterwards.
    pub widths: Widths,
    /// Whether zeros make the blocks of the written model equal where they are not.
    pub pad: bool,
}

/// Makes the experiment's only model smaller, and writes it to the directory `out`.
///
/// # Errors
/// Unusable inputs, units that the model does not have, nothing that would be removed, a configuration that cannot say what is left, too
/// little memory, a disk that refuses; nothing is left under `out` then.
pub fn shrink(
    experiment: &Experiment,
    shrinking: &Shrinking,
    out: &Path,
    links: Links,
    progress: &dyn Progress,
) -> Result<Structure> {
    shrinking.method.check(shrinking.widths)?;
    experiment.check_tokens(shrinking.method)?;
    let staging = Staging::new(out)?;
    inputs::fetch(experiment, Parts::Everything, progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    inputs.require_all()?;
    let missing = || inputs.lacks();
    let input = inputs.models.first().and_then(Option::as_ref).ok_or_else(missing)?;
    let configured = inputs.folders.first().and_then(Option::as_ref).ok_or_else(missing)?;
    let folder = &configured.path;
    let machine = experiment.machine_here()?;
    let checkpoint = &input.checkpoint;
    let Shrinking {
        method,
        share,
        widths,
        pad,
        ..
    } = *shrinking;
    let spec = checkpoint.spec();
    method.check_model(spec, share, widths).at(folder.display())?;
    method.check_writing(spec, share, widths, pad).at(folder.display())?;
    if pad {
        Padded::check(spec).at(folder.display())?;
    }
    let room = Forecast::of_shrinking(experiment, spec, method)?.room(experiment, machine);
    let room = room.at(folder.display())?;
    progress.stage("tokenising");
    let windows = calibration_windows(experiment, &inputs, 0)?;
    let seed = windows.keys().next().copied();
    progress.stage("checking the weights");
    let zeros = checkpoint.check_finite()?;
    let before = PrunedBefore::of(checkpoint, zeros, folder);
    let storage = storage(checkpoint)?;
    let backend = Opened::new(&experiment.machine, machine)?;
    begins::pruned_before(experiment, before.as_ref(), begins::COUNTED_BY_UNITS, progress);
    let done = format!("is made {} % smaller with {}", 100.0 * share, shrinking.name);
    let windows = windows.into_values().next();
    progress.begins(&begins::changing(experiment, &done, spec, windows.as_ref(), seed), None);
    let found = backend.run(Shrink {
        shrinking,
        checkpoint,
        original: &input.identity,
        windows,
        storage,
        compute: machine.compute,
        room,
        folder,
        links,
        staging: &staging,
        progress,
    });
    let found = found.at(folder.display()).map_err(|error| staging.renamed(error))?;
    let calibration = experiment.calibration.as_ref().zip(seed);
    let (base_model, base_revision) = base(experiment, configured)?;
    let mut structure = Structure {
        base_model,
        base_revision,
        calibration: calibration.map(|(plan, seed)| datasets::name(&plan.file(seed))),
        seed,
        ..found
    };
    let original = ModelFolder::open(folder, links)?.files(|name| name == CARD)?;
    let text = original
        .first()
        .map(|found| input::read_text(&found.place, input::SMALL));
    let text = card::of_smaller(&structure, text.transpose()?.as_deref());
    staging.write(CARD, text.as_bytes(), Access::of(folder)?.of_data())?;
    progress.stage("hashing the files");
    structure.files = digests(&staging)?;
    let text = serde_json::to_string_pretty(&structure)
        .map_err(|error| Error::writing(&staging.named(Path::new(STRUCTURE)), error))?;
    let text = seal::seal(format!("{text}\n"));
    staging.write(STRUCTURE, text.as_bytes(), Access::of(folder)?.of_data())?;
    staging.commit()?;
    progress.finish();
    Ok(structure)
}

/// The work of [`shrink`] on a backend.
struct Shrink<'a> {
    shrinking: &'a Shrinking<'a>,
    checkpoint: &'a Checkpoint,
    original: &'a ModelIdentity,
    windows: Option<TokenWindows>,
    storage: StorageType,
    compute: Compute,
    /// Memory that is left for activations.
    room: Room,
    folder: &'a Path,
    links: Links,
    staging: &'a Staging,
    progress: &'a dyn Progress,
}

impl Work for Shrink<'_> {
    type Output = Structure;

    fn on<B: Workbench>(self, backend: &B) -> Result<Structure> {
        let Shrinking {
            method,
            share,
            widths,
            pad,
            ..
        } = *self.shrinking;
        let spec = self.checkpoint.spec();
        let ends = Ends::upload(backend, self.checkpoint)?.within(self.room.clone());
        self.progress.stage("choosing units");
        let dense = Dense {
            backend,
            source: self.checkpoint,
            ends: &ends,
            windows: self.windows.as_ref(),
        };
        // Narrow matrices in the type in which they are stored, so that the dense equivalent is what they give.
        let edit = method.edit(&dense, share, widths)?.rounded(self.storage);
        if edit == Edit::whole(spec) {
            return Err(Error::config(format!(
                "nothing would be removed: `--units {share}` is less than half of the smallest part that `{}` can remove here; give a \
                 larger share",
                self.shrinking.name
            )));
        }
        let edited = Edited::new(self.checkpoint, &edit)?.sayable()?;
        let left = edit.counts(spec)?;
        let removed = 1.0 - left.weights as f64 / spec.prunable() as f64;
        let padded = pad.then(|| Padded::new(&edited)).transpose()?;
        let padded = padded.filter(|padded| padded.spec() != edited.spec());
        let model: &dyn WeightSource = match &padded {
            Some(padded) => padded,
            None => &edited,
        };
        let is_padded = padded.is_some();
        self.progress.stage("writing");
        let with_factors = !is_padded && edit.blocks.iter().any(factors::is_narrow);
        let family = self.write(model, &edit, with_factors.then_some(&edited))?;
        self.progress.stage("reading it back");
        let written = self.staging.path("");
        let reopened = Checkpoint::open(&written, read_spec(&written)?)?;
        let factored = with_factors.then(|| self.factored(&written, &reopened)).transpose()?;
        let small_ends = Ends::upload(backend, &reopened)?.within(self.room.clone());
        let sample = sample(self.windows.as_ref(), spec)?;
        let masked = Masked::new(self.checkpoint, &edit)?;
        let compared_without_blocks = masked.leaves_out();
        let logit_difference = {
            let zeros = logits(backend, &masked, &ends, &sample)?;
            let small = logits(backend, &reopened, &small_ends, &sample)?;
            difference(&small, &zeros)
        };
        if logit_difference > tolerance(self.compute, spec.blocks) {
            return Err(Error::numeric(format!(
                "the smaller model's logits differ by {logit_difference:.1e} of the largest from those of the original with zeros in place \
                 of what was removed; this is a mistake of zprune, and nothing was kept"
            )));
        }
        self.progress
            .stage("timing both models, for a minute at most, or two passes of each");
        let models: [(&dyn WeightSource, &Ends<B>); 2] = [(self.checkpoint, &ends), (&reopened, &small_ends)];
        let seconds = seconds_per_token(backend, models, &sample, self.progress)?;
        let size = |spec: &ModelSpec, seconds_per_token: f64| {
            let parameters = parameters(spec);
            Size {
                parameters,
                bytes: parameters * self.storage.bytes() as u64,
                multiply_adds: multiply_adds(spec),
                seconds_per_token,
            }
        };
        let blocks = edit.blocks.into_iter();
        let blocks = blocks.map(|edit| {
            let before = spec.block(edit.block);
            BlockLeft::new(edit, before)
        });
        Ok(Structure {
            schema: 1,
            zprune: env!("CARGO_PKG_VERSION").to_string(),
            base_model: None,
            base_revision: None,
            original: self.original.clone(),
            method: self.shrinking.name.to_string(),
            parameters: self.shrinking.parameters.clone(),
            share,
            removed,
            widths,
            padded: is_padded,
            loaders: Loaders::of(reopened.spec())?,
            left,
            factored,
            calibration: None,
            calibration_tokens: self.windows.as_ref().map_or(0, |windows| windows.ids().len()),
            seed: None,
            families: [family, spec.family.to_string()],
            blocks: blocks.collect(),
            before: size(spec, seconds[0]),
            after: size(reopened.spec(), seconds[1]),
            logit_difference,
            compared_without_blocks,
            files: BTreeMap::new(),
            checksum: seal::OPEN.to_string(),
        })
    }
}

impl Shrink<'_> {
    /// What the factored form is that was written beside a dense equivalent.
    ///
    /// # Errors
    /// The two are different models.
    fn factored(&self, written: &Path, dense: &Checkpoint) -> Result<Factored> {
        let factored = Checkpoint::open_factored(written, dense.spec().clone())?;
        let different = factors::differences(dense, &factored)?;
        if let Some(first) = different.first() {
            return Err(Error::numeric(format!(
                "{FACTORS}: {first} is not the dense equivalent's; this is a mistake of zprune, and nothing was kept"
            )));
        }
        Ok(Factored {
            file: FACTORS.to_string(),
            parameters: factored.factored_parameters().unwrap_or_default(),
            bytes: factored.stored_bytes()?,
        })
    }

    /// Writes a model's files, and the factored form of another if one is given; returns the family that its configuration names.
    fn write(&self, model: &dyn WeightSource, edit: &Edit, factored: Option<&Edited>) -> Result<String> {
        let spec = model.spec();
        let path = self.folder.join(CONFIG);
        let text = input::read_text(&path, input::SMALL)?;
        let originals: Vec<usize> = edit.blocks.iter().map(|edit| edit.block).collect();
        let config = emitted(&text, spec, &originals).at(path.display())?;
        let kept = |index: Option<usize>, name: &str| {
            let before = index.and_then(|index| {
                // Norms are the original's, under the numbers that its blocks have now.
                let block = spec.block(index);
                let own = name.strip_prefix(&block.prefix_of(index))?;
                Some(format!("{}{own}", block.prefix_of(originals[index])))
            });
            self.checkpoint.elements(before.as_deref().unwrap_or(name))
        };
        let directory = Directory {
            checkpoint: self.checkpoint,
            folder: self.folder,
            links: self.links,
            staging: self.staging,
            storage: self.storage,
        };
        directory.write(model, &config, &kept)?;
        if let Some(edited) = factored {
            let access = directory.access()?;
            factors::write(edited, &kept, self.storage, self.staging, access)?;
        }
        let said: Value = serde_json::from_str(&config).unwrap_or_default();
        Ok(said["model_type"].as_str().unwrap_or(spec.family).to_string())
    }
}
