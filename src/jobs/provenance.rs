//! `pruning.json`: what was done to a model, to which one, and what was written.
//!
//! Owns the file's layout and the checks that it can be trusted as it stands: it seals itself with a checksum,
//! so that a record that was weakened afterwards is told from one that zprune wrote. Reading it is a function of
//! its bytes; holding files against it is [`verify`](super::verify)'s work.

use super::seal;
use crate::data::digest::FileDigest;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::experiment::identity::{Identity, PruningIdentity, RecipeIdentity};
use crate::experiment::inputs::ConfiguredModel;
use crate::experiment::plan::{ComponentPlan, Experiment};
use crate::files::{Staging, input};
use crate::model::export::{CONFIG, PRUNING};
use crate::model::folder::{Links, ModelFolder};
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::layer::LayerRecord;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Version of the layout of [`PruningFile`]. 2 added fingerprints and a checksum, 3 the pattern of each layer,
/// 4 the order of its columns, what refinement changed, and the goal of its solver, 5 what compensation added to its bias,
/// 6 whether the order of its columns is that of the file, 7 the names of the model and of the calibration text.
pub const SCHEMA: u32 = 7;

/// The layout that has no fingerprints yet.
const WITHOUT_FINGERPRINTS: u32 = 1;

/// What the user can do about a file that is not as zprune wrote it.
const MEND: &str = "put it back from a copy, or prune the model again";

/// The longest file that is read, in bytes: with 100,000 layers it has 30 MB.
const LARGEST: u64 = 256 << 20;

/// The content of `pruning.json`: how the weights in the same folder were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruningFile {
    /// [`SCHEMA`], or an older one.
    pub schema: u32,
    /// Version of zprune that pruned the model.
    pub zprune: String,
    /// Name of the pruning method.
    pub method: String,
    /// The protocol, if the user named one. The settings that it implies are part of `cell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Name of the model that was pruned: `org/name` if it came from the hub, else that of its folder. `cell` has its hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// The commit of that model on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_revision: Option<String>,
    /// Name of the text or of the token windows that were calibrated with: `hub:` and the file on the hub, or the name of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_corpus: Option<String>,
    /// Everything that decided the weights: hashes of the source, method, pattern, calibration and seed.
    pub cell: Identity,
    /// Fraction of prunable weights removed.
    pub sparsity: f64,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<String>,
    /// What pruning did to each layer.
    pub layers: Vec<LayerRecord>,
    /// Digests of the original's files and of the files that were written; absent in schema 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Fingerprints>,
    /// SHA-256 of this file, computed with 64 zeros in place of the checksum; absent in schema 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// Digests of the files that a model was pruned from, and of the files that were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprints {
    /// What the method did to the weights that were kept.
    pub kept_weights: Kept,
    /// Files of the original by name: its weights, their index, and every file that was copied.
    pub original: BTreeMap<String, FileDigest>,
    /// Files of the pruned model by name, without `pruning.json` itself.
    pub output: BTreeMap<String, FileDigest>,
}

/// What a method does to the weights that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// They are the same as in the original, bit for bit.
    Unchanged,
    /// They were changed to make up for the removed weights.
    Updated,
}

impl PruningFile {
    /// Reads the file in a pruned model directory; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be understood, or was changed after zprune wrote it.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(PRUNING);
        if path
            .metadata()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(None);
        }
        let bytes = input::read(&path, LARGEST)?;
        Self::parse(&bytes).at(path.display()).map(Some)
    }

    /// Reads the file from its bytes.
    ///
    /// # Errors
    /// It cannot be understood ([`ErrorKind::Input`]), or was changed after zprune wrote it ([`ErrorKind::Mismatch`]).
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let unreadable = |error| Error::input(format!("not a record of pruning: {error}; {MEND}"));
        let Version { schema } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !(WITHOUT_FINGERPRINTS..=SCHEMA).contains(&schema) {
            let message = format!(
                "has schema {schema}, but this zprune reads schemas {WITHOUT_FINGERPRINTS} to {SCHEMA}; use the zprune that wrote it"
            );
            return Err(Error::input(message));
        }
        let file: PruningFile = serde_json::from_slice(bytes).map_err(unreadable)?;
        let changed = |what: &str| {
            let message = format!("was changed after zprune wrote it ({what}), so it proves nothing; {MEND}");
            Err(Error::new(ErrorKind::Mismatch, message))
        };
        match (schema, &file.checksum, &file.fingerprints) {
            (2..=SCHEMA, Some(checksum), Some(_)) if !seal::is_intact(bytes, checksum) => {
                return changed("its checksum does not fit its content");
            }
            (2..=SCHEMA, Some(_), Some(_)) => {}
            (WITHOUT_FINGERPRINTS, None, None) if !file.cell.is_sealed() => {}
            _ => return changed("its schema does not fit its content"),
        }
        file.check()?;
        Ok(file)
    }

    /// The content of the file, sealed with its checksum.
    ///
    /// # Errors
    /// A number is none that JSON has.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let open = PruningFile {
            checksum: Some(seal::OPEN.to_string()),
            ..self.clone()
        };
        let text = serde_json::to_string_pretty(&open).map_err(|error| Error::numeric(error).at(PRUNING))?;
        Ok(seal::seal(text + "\n").into_bytes())
    }

    /// What the method did to the weights that were kept: as recorded, or as its solver is known to do.
    ///
    /// # Errors
    /// This zprune does not know the solver.
    pub fn kept(&self) -> Result<Kept> {
        match (&self.fingerprints, self.recipe()) {
            (Some(fingerprints), _) => Ok(fingerprints.kept_weights),
            (None, Some(recipe)) => Kept::by(&recipe.solver),
            (None, None) => Ok(Kept::Unchanged),
        }
    }

    /// The recipe of the method.
    fn recipe(&self) -> Option<&RecipeIdentity> {
        self.cell.pruning.as_ref()?.recipe()
    }

    /// The weights of the layers whose biases compensation, or a transform that shifts inputs, changed.
    pub fn compensated(&self) -> BTreeSet<&str> {
        let layers = self.layers.iter().filter(|layer| layer.compensated.is_some());
        layers.map(|layer| layer.tensor.as_str()).collect()
    }

    /// The components of the method that this program does not know, each with its kind: another program added them.
    pub fn unknown(&self) -> Vec<String> {
        fn of<T: ?Sized>(components: &Components<T>, plan: Option<&ComponentPlan>) -> Option<String> {
            let name = &plan?.name;
            let unknown = components.find(name).is_err();
            unknown.then(|| format!("{} `{name}`", components.kind()))
        }
        let Some(pruning) = self.recipe() else {
            return Vec::new();
        };
        let steps = &pruning.steps;
        let all = [
            of(&ALLOCATORS, Some(&pruning.allocator)),
            of(&CRITERIA, Some(&pruning.criterion)),
            of(&TRANSFORMS, steps.transform.as_ref()),
            of(&PERMUTATIONS, steps.permutation.as_ref()),
            of(&REFINERS, steps.refine.as_ref()),
            of(&SOLVERS, Some(&pruning.solver)),
            of(&COMPENSATIONS, steps.compensate.as_ref()),
        ];
        all.into_iter().flatten().collect()
    }

    /// Checks that the numbers do not contradict each other.
    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::input(format!("not a record of pruning: {what}; {MEND}")));
        if let Some(Err(error)) = self.cell.pruning.as_ref().map(|pruning| pruning.pattern().validate()) {
            return refuse(error.to_string());
        }
        for component in self.cell.pruning.iter().flat_map(PruningIdentity::components) {
            if !component.parameters.is_object() {
                return refuse(format!("the parameters of `{}` are no table", component.name));
            }
        }
        if !(0.0..=1.0).contains(&self.sparsity) {
            return refuse(format!("sparsity {} is not between 0 and 1", self.sparsity));
        }
        let mut names = BTreeSet::new();
        for layer in &self.layers {
            let [outputs, inputs] = layer.shape;
            if !names.insert(&layer.tensor) {
                return refuse(format!("layer `{}` stands twice", layer.tensor));
            }
            let all = outputs.checked_mul(inputs);
            if all.is_none_or(|all| layer.zeros > all || layer.removed > layer.zeros) {
                let (removed, zeros) = (layer.removed, layer.zeros);
                return refuse(format!(
                    "layer `{}` of {outputs} x {inputs} cannot have {removed} weights removed and {zeros} zeros",
                    layer.tensor
                ));
            }
            if layer.folded && layer.permutation.is_none() {
                return refuse(format!(
                    "layer `{}` has no permutation that could be folded",
                    layer.tensor
                ));
            }
        }
        let pruning = self.recipe();
        if let Some(layer) = self.compensated().first()
            && pruning.is_none_or(|pruning| pruning.steps.of_biases().is_none())
        {
            return refuse(format!(
                "the bias of layer `{layer}` was changed by a method without compensation"
            ));
        }
        if let (Some(fingerprints), Some(pruning)) = (&self.fingerprints, pruning) {
            // A solver that this zprune does not know says nothing here.
            if Kept::by(&pruning.solver).is_ok_and(|kept| kept != fingerprints.kept_weights) {
                return refuse(format!(
                    "solver `{}` does not do to the kept weights what `kept_weights` says",
                    pruning.solver.name
                ));
            }
            let config = fingerprints.original.get(CONFIG);
            if config.is_some_and(|config| config.sha256 != self.cell.model.config) {
                return refuse(format!("it has two hashes of the original's {CONFIG}"));
            }
            let same = |layer: &LayerRecord| layer.pattern.is_none_or(|pattern| pattern == pruning.pattern);
            if let Some(layer) = self.layers.iter().find(|layer| !same(layer))
                && pruning.is_even()
            {
                return refuse(format!("layer `{}` has not the pattern of all layers", layer.tensor));
            }
        }
        let names = self
            .fingerprints
            .iter()
            .flat_map(|it| it.original.keys().chain(it.output.keys()));
        for name in names {
            if !is_plain(name) {
                return refuse(format!("`{name}` is not the name of a file"));
            }
        }
        Ok(())
    }
}

/// Sizes and hashes of the files of a model that was written, by their names.
///
/// # Errors
/// A file cannot be read.
pub(super) fn digests(staging: &Staging) -> Result<BTreeMap<String, FileDigest>> {
    let files = ModelFolder::open(&staging.path(""), Links::Inside)?.files(|_| true)?;
    let own = files.iter().filter(|found| staging.has_made(&found.name));
    own.map(|found| Ok((found.text(), FileDigest::of_file(&found.place)?)))
        .collect()
}

impl Kept {
    /// What the solver in a record does to the weights that are kept.
    ///
    /// # Errors
    /// This zprune does not know it.
    pub fn by(solver: &ComponentPlan) -> Result<Self> {
        Ok(match solver.build(&SOLVERS)?.updates() {
            true => Kept::Updated,
            false => Kept::Unchanged,
        })
    }
}

/// Whether a name can only mean an entry of the folder itself, and no other place.
fn is_plain(name: &str) -> bool {
    let parts: Vec<_> = Path::new(name).components().collect();
    matches!(parts[..], [std::path::Component::Normal(part)] if part == name)
}

/// What the experiment's model is called, and which commit of the hub it is.
pub(super) fn base(experiment: &Experiment, model: &ConfiguredModel) -> Result<(Option<String>, Option<String>)> {
    if let Some(repository) = experiment.models.first().and_then(|plan| plan.hub.as_ref()) {
        return Ok((Some(repository.name.clone()), model.commit.clone()));
    }
    // The name itself and no more of the path, which is nobody else's business. A link has the name that was typed.
    let place = match model.path.file_name() {
        Some(_) => model.path.clone(),
        None => {
            let place = model.path.canonicalize();
            place.map_err(|source| Error::reading(&model.path, source))?
        }
    };
    Ok((place.file_name().map(|name| name.to_string_lossy().into_owned()), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::inputs::ModelIdentity;
    use crate::prune::pattern::Pattern;

    fn file() -> PruningFile {
        let digest = |bytes| FileDigest {
            bytes,
            sha256: crate::data::digest::of_bytes(b"x"),
        };
        PruningFile {
            schema: SCHEMA,
            zprune: "0.1.0".to_string(),
            method: "wanda".to_string(),
            protocol: None,
            base_model: Some("org/name".to_string()),
            base_revision: None,
            calibration_corpus: None,
            cell: Identity {
                numbers: 2,
                backend: "cpu".to_string(),
                compute: Default::default(),
                model: ModelIdentity {
                    config: "c".to_string(),
                    weights: "w".to_string(),
                    tokenizer: "t".to_string(),
                },
                pruning: None,
                evaluations: Vec::new(),
                tasks: Vec::new(),
                generations: Vec::new(),
            },
            sparsity: 0.5,
            calibration_tokens: None,
            layers: vec![LayerRecord {
                pattern: None,
                tensor: "a.weight".to_string(),
                shape: [2, 4],
                removed: 4,
                zeros: 4,
                permutation: None,
                folded: false,
                refined: None,
                compensated: None,
                damping: None,
                output_error: Some(0.125),
            }],
            fingerprints: Some(Fingerprints {
                kept_weights: Kept::Unchanged,
                original: BTreeMap::from([("model.safetensors".to_string(), digest(8))]),
                output: BTreeMap::from([("model.safetensors".to_string(), digest(8))]),
            }),
            checksum: None,
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_no_bit_of_it_may_change() {
        let bytes = file().to_bytes().expect("plain numbers");
        let read = PruningFile::parse(&bytes).expect("as written");
        assert_eq!(PruningFile { checksum: None, ..read }, file());
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert!(PruningFile::parse(&changed).is_err(), "byte {place}, bit {bit}");
            }
        }
        let text = String::from_utf8(bytes).expect("JSON");
        // Made to look like a file from before there were fingerprints.
        let older = text.replace(&format!("\"schema\": {SCHEMA}"), "\"schema\": 1");
        let error = PruningFile::parse(older.as_bytes()).expect_err("weakened");
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }

    #[test]
    fn what_contradicts_itself_is_refused_whatever_its_checksum() {
        let component = |name: &str| serde_json::json!({"name": name, "parameters": {}});
        let mut whole = file();
        let pruning = serde_json::json!({
            "criterion": component("wanda"), "solver": component("one-shot"), "allocator": component("uniform"),
            "group": "row", "pattern": {"sparsity": 0.5}, "selection": "exact",
        });
        whole.cell.pruning = Some(serde_json::from_value(pruning).expect("an identity"));
        whole.layers[0].pattern = Some(Pattern::Unstructured { sparsity: 0.5 });
        let read = |file: &PruningFile| PruningFile::parse(&file.to_bytes().expect("plain numbers"));
        read(&whole).expect("nothing contradicts");
        type Change = fn(&mut PruningFile);
        let changes: [(Change, &str); 4] = [
            (
                |file| file.layers[0].compensated = Some(0.5),
                "the bias of layer `a.weight` was changed by a method without compensation",
            ),
            (
                |file| file.fingerprints.as_mut().expect("there").kept_weights = Kept::Updated,
                "`one-shot` does not do to the kept weights what `kept_weights` says",
            ),
            (
                |file| file.layers[0].pattern = Some(Pattern::Unstructured { sparsity: 0.25 }),
                "layer `a.weight` has not the pattern of all layers",
            ),
            (
                |file| {
                    let digest = FileDigest::of_bytes(b"another");
                    let fingerprints = file.fingerprints.as_mut().expect("there");
                    fingerprints.original.insert(CONFIG.to_string(), digest);
                },
                "two hashes of the original's config.json",
            ),
        ];
        for (change, says) in changes {
            let mut changed = whole.clone();
            change(&mut changed);
            let error = read(&changed).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_file_without_hashes_is_older_than_they_are() {
        let without = |numbers, backend: &str| {
            let mut value = serde_json::to_value(file()).expect("plain numbers");
            value.as_object_mut().expect("an object").remove("fingerprints");
            value["schema"] = WITHOUT_FINGERPRINTS.into();
            value["cell"]["numbers"] = serde_json::Value::from(numbers);
            value["cell"]["backend"] = backend.into();
            PruningFile::parse(value.to_string().as_bytes())
        };
        for (numbers, backend) in [(1, "cpu"), (2, "cpu"), (3, "gpu")] {
            without(numbers, backend).expect("zprune wrote such files");
        }
        for (numbers, backend) in [(3, "cpu"), (4, "gpu"), (9, "cpu")] {
            let error = without(numbers, backend).expect_err("its hashes were taken away");
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
            assert!(
                error.to_string().contains("was changed after zprune wrote it"),
                "{error}"
            );
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let layer = |change: fn(&mut LayerRecord)| {
            let mut file = file();
            change(&mut file.layers[0]);
            file
        };
        let twice = PruningFile {
            layers: [file().layers, file().layers].concat(),
            ..file()
        };
        let elsewhere = |name: &str| {
            let mut file = file();
            let of = file.fingerprints.as_mut().expect("made so");
            of.output
                .insert(name.to_string(), of.output["model.safetensors"].clone());
            file
        };
        for (file, expect) in [
            (layer(|layer| layer.zeros = usize::MAX), "cannot have"),
            (layer(|layer| layer.shape = [usize::MAX, 2]), "cannot have"),
            (layer(|layer| layer.removed = 5), "cannot have"),
            (twice, "stands twice"),
            (
                PruningFile {
                    sparsity: 7.0,
                    ..file()
                },
                "not between 0 and 1",
            ),
            (elsewhere("../x"), "not the name of a file"),
            (elsewhere("/etc/passwd"), "not the name of a file"),
            (elsewhere(""), "not the name of a file"),
        ] {
            let bytes = file.to_bytes().expect("plain numbers");
            let error = PruningFile::parse(&bytes).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
        for text in [
            "",
            "{",
            "[]",
            "{\"schema\": -1}",
            "{\"schema\": 1e99}",
            "{\"schema\": 2}",
            "null",
        ] {
            assert!(PruningFile::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
