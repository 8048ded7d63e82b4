//! A directory against the one it was made from: that it is that one, and what differs.

use super::files;
use super::verdict::Verdict;
use crate::data::digest::{self, FileDigest};
use crate::data::tokenizer;
use crate::error::{Located, Result};
use crate::experiment::inputs::ModelIdentity;
use crate::files::header::METADATA;
use crate::jobs::provenance::{Kept, PruningFile};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{PRUNING, bias_of, copied, remade};
use crate::model::families::{read_spec, with_biases};
use crate::model::folder::{Found, Links};
use crate::model::neurons::{Moved, is_order};
use crate::model::weights::StoredTensor;
use crate::spec::{LinearSpec, ModelSpec, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How the weights of a prunable tensor may differ from those of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// They may not differ: nothing says that the tensor was changed.
    Nothing,
    /// Some may be zero: the method does not change the weights that it keeps.
    Zeros,
    /// They may all differ: the method updates the weights that it keeps.
    Anything,
}

/// How a bias may differ from the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// It may be another: compensation changed it.
    Freely,
    /// It was added because no configuration tells it from one that compensation changed, and is 0.
    ToZeros,
}

/// The order in which the rows or columns of a stored tensor of the original stand in the checked one.
struct Order<'a> {
    /// The dimension of the stored tensor: 0 for rows.
    dimension: usize,
    /// The `j`-th is the original's `order[j]`.
    order: &'a [usize],
}

/// The directory that the checked one is compared with.
pub(super) struct Original<'a> {
    path: PathBuf,
    checkpoint: Checkpoint,
    claim: Option<&'a PruningFile>,
    allowed: Allowed,
    /// The weights of the layers whose biases compensation changed.
    compensated: BTreeSet<&'a str>,
    /// How the tensors of MLPs were moved whose neurons stand in another order, by the names under which they are stored.
    moved: BTreeMap<String, Order<'a>>,
    /// What the pruned model must be.
    pruned: ModelSpec,
    /// Files of the original that pruning copies unchanged.
    copied: Vec<Found>,
}

/// Whether `path` is the pruned directory itself or has the same `pruning.json`; then it cannot be the original.
pub(super) fn is_copy(path: &Path, folder: &Path) -> bool {
    let record = |folder: &Path| std::fs::read(folder.join(PRUNING)).ok();
    let place = |folder: &Path| folder.canonicalize().ok();
    let both = |one: Option<_>, other| one.is_some() && one == other;
    both(record(path), record(folder)) || place(path).is_some() && place(path) == place(folder)
}

/// What of a model has other hashes than those that were recorded.
pub(super) fn unlike(path: &Path, checkpoint: &Checkpoint, recorded: &ModelIdentity) -> Result<Vec<String>> {
    let mut others = Vec::new();
    let sha256 = |name: &str| digest::of_file(&path.join(name)).ok();
    if sha256("config.json").as_ref() != Some(&recorded.config) {
        others.push("config.json".to_string());
    }
    // What zprune records of a tokenizer was the hash of this file, and is that of all that it goes by; none of a model without one.
    let tokenizer = [sha256("tokenizer.json"), tokenizer::digest(path).ok()];
    if !recorded.tokenizer.is_empty() && !tokenizer.contains(&Some(recorded.tokenizer.clone())) {
        others.push("tokenizer.json".to_string());
    }
    if checkpoint.files().digest()? != recorded.weights {
        others.push("the weights".to_string());
    }
    Ok(others)
}

/// What is said of a directory that is not the recorded original; nothing if it is.
pub(super) fn no_original(path: &Path, record: &str, others: &[String]) -> Option<String> {
    (!others.is_empty()).then(|| {
        format!(
            "{} is not the model that was pruned: {record} has other hashes of {}",
            path.display(),
            others.join(", ")
        )
    })
}

impl<'a> Original<'a> {
    /// Opens the directory `path` to compare with a directory that is described by `claim`.
    ///
    /// # Errors
    /// It cannot be loaded, the solver is none that this zprune knows, or no model of its kind has the biases that were added.
    pub(super) fn open(path: &Path, claim: Option<&'a PruningFile>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path, read_spec(path)?)?;
        // Nothing is copied here, so links may lead where they want.
        let copied = copied(checkpoint.files(), path, Links::Follow)?;
        let allowed = match claim.map(PruningFile::kept).transpose().at(PRUNING)? {
            Some(Kept::Unchanged) => Allowed::Zeros,
            Some(Kept::Updated) => Allowed::Anything,
            None => Allowed::Nothing,
        };
        let compensated = claim.map(PruningFile::compensated).unwrap_or_default();
        let spec = checkpoint.spec();
        let in_any_block = |linear: &LinearSpec| {
            let mut weights = (0..spec.blocks).map(|index| spec.block(index).weight_of(index, linear));
            weights.any(|weight| compensated.contains(weight.as_str()))
        };
        let pruned = match compensated.is_empty() {
            true => spec.clone(),
            false => with_biases(spec, in_any_block).at(PRUNING)?,
        };
        let moved = Self::moved(&checkpoint, claim)?;
        Ok(Original {
            path: path.to_path_buf(),
            checkpoint,
            claim,
            allowed,
            compensated,
            moved,
            pruned,
            copied,
        })
    }

    /// How the tensors of MLPs were moved whose second layers have folded permutations.
    fn moved(checkpoint: &Checkpoint, claim: Option<&'a PruningFile>) -> Result<BTreeMap<String, Order<'a>>> {
        let layers = claim
            .iter()
            .flat_map(|claim| &claim.layers)
            .filter(|layer| layer.folded);
        let orders = layers.filter_map(|layer| Some((layer.tensor.as_str(), layer.permutation.as_deref()?)));
        let orders: BTreeMap<&str, &[usize]> = orders.collect();
        let mut moved = BTreeMap::new();
        for index in 0..checkpoint.spec().blocks {
            let block = checkpoint.spec().block(index);
            let down = block.linears.iter().find(|linear| linear.role == Role::Down);
            let named = down.and_then(|down| Some((orders.get(block.weight_of(index, down).as_str())?, down.inputs)));
            let Some((order, _)) = named.filter(|(order, neurons)| is_order(order, *neurons)) else {
                continue;
            };
            for linear in &block.linears {
                let Some(how) = Moved::of(linear.role) else { continue };
                let name = checkpoint.stored_name(&block.weight_of(index, linear))?;
                let dimension = usize::from((how == Moved::Columns) != linear.transposed);
                if how == Moved::Rows && linear.bias {
                    moved.insert(bias_of(name), Order { dimension: 0, order });
                }
                moved.insert(name.to_string(), Order { dimension, order });
            }
        }
        Ok(moved)
    }

    /// Adds to the verdict whether this is the recorded original, and which of its other files differ in `folder`.
    pub(super) fn check_files(&self, folder: &Path, verdict: &mut Verdict) -> Result<()> {
        self.identify(verdict)?;
        let named = self.copied.iter().map(|found| found.text());
        let copied: BTreeMap<String, &Found> = named.zip(&self.copied).collect();
        let made = remade(&self.checkpoint, &self.pruned, &self.path)?;
        let made: BTreeMap<&str, &String> = made.iter().map(|(name, text)| (*name, text)).collect();
        for (name, found) in &copied {
            let path = folder.join(name);
            let known = |verdict: &Verdict| {
                verdict
                    .faults
                    .iter()
                    .any(|fault| fault.starts_with(&format!("{name}: ")))
            };
            if !path.is_file() {
                if !known(verdict) {
                    verdict.faults.push(format!("{name}: is missing; the original has it"));
                }
            } else {
                let wanted = match made.get(name.as_str()) {
                    Some(text) => FileDigest::of_bytes(text.as_bytes()),
                    None => FileDigest::of_file(&found.place)?,
                };
                match FileDigest::of_file(&path) {
                    Ok(digest) if digest == wanted => {}
                    Ok(_) => verdict.faults.push(match made.contains_key(name.as_str()) {
                        true => format!("{name}: differs from the original's in more than the biases that were added"),
                        false => format!("{name}: differs from the original's"),
                    }),
                    Err(error) if !known(verdict) => verdict.faults.push(format!("{name}: {error}")),
                    Err(_) => {}
                }
            }
        }
        let fingerprints = self.claim.and_then(|claim| claim.fingerprints.as_ref());
        if fingerprints.is_none() {
            let mut belongs: BTreeMap<String, ()> = copied.into_keys().map(|name| (name, ())).collect();
            belongs.extend(self.checkpoint.files().each().map(|file| (file.name.to_string(), ())));
            files::added(folder, &belongs, PRUNING, verdict)?;
        }
        Ok(())
    }

    /// Checks whether this is the model that was pruned.
    fn identify(&self, verdict: &mut Verdict) -> Result<()> {
        let Some(claim) = self.claim else {
            return Ok(());
        };
        let mut others = Vec::new();
        if let Some(fingerprints) = &claim.fingerprints {
            let (mut now, _) = self.checkpoint.files().digests()?;
            for found in &self.copied {
                let name = found.text();
                now.insert(name, FileDigest::of_file(&found.place)?);
            }
            let names: BTreeSet<&String> = now.keys().chain(fingerprints.original.keys()).collect();
            let differs = |name: &&String| now.get(*name) != fingerprints.original.get(*name);
            others.extend(names.into_iter().filter(differs).cloned());
        } else {
            others = unlike(&self.path, &self.checkpoint, &claim.cell.model)?;
        }
        verdict.faults.extend(no_original(&self.path, PRUNING, &others));
        Ok(())
    }

    /// The biases that need not be the original's, by the names under which they are stored. The others that were added are 0.
    fn biases(&self) -> BTreeMap<String, Changed> {
        let mut biases = BTreeMap::new();
        for index in 0..self.pruned.blocks {
            let (block, before) = (self.pruned.block(index), self.checkpoint.spec().block(index));
            for (linear, before) in block.linears.iter().zip(&before.linears) {
                let weight = block.weight_of(index, linear);
                let changed = match self.compensated.contains(weight.as_str()) {
                    true => Changed::Freely,
                    false if linear.bias && !before.bias => Changed::ToZeros,
                    false => continue,
                };
                biases.extend(
                    self.checkpoint
                        .stored_name(&weight)
                        .ok()
                        .map(|name| (bias_of(name), changed)),
                );
            }
        }
        biases
    }

    /// Adds to the verdict which tensors differ from the original: tensors that are not prunable must be the same,
    /// prunable ones and biases as the method leaves them, and no other tensor may be lost, added, or changed in type or place.
    pub(super) fn check_tensors(&self, checkpoint: &Checkpoint, prunable: &BTreeSet<String>, verdict: &mut Verdict) {
        let stored: BTreeSet<&str> = prunable
            .iter()
            .filter_map(|name| checkpoint.stored_name(name).ok())
            .collect();
        let (ours, theirs) = (tensors(checkpoint), tensors(&self.checkpoint));
        let biases = self.biases();
        let (mut identical, mut kept) = (0, 0);
        for (name, (file, tensor)) in &ours {
            let reordered;
            let theirs = match (theirs.get(name), self.moved.get(*name)) {
                (Some((place, other)), Some(order)) if other.shape.get(order.dimension) == Some(&order.order.len()) => {
                    reordered = order.of(other);
                    let bytes = reordered.as_slice();
                    Some((*place, StoredTensor { bytes, ..*other }))
                }
                (there, _) => there.copied(),
            };
            let fault = match &theirs {
                None => match biases.get(*name) {
                    Some(Changed::Freely) => None,
                    Some(Changed::ToZeros) if tensor.bytes.iter().all(|byte| *byte == 0) => None,
                    Some(Changed::ToZeros) => Some("was added beside a bias and should be 0".to_string()),
                    None => Some("the original has no such tensor".to_string()),
                },
                Some((_, other)) if other.dtype != tensor.dtype || other.shape != tensor.shape => Some(format!(
                    "is {:?} {:?}, in the original {:?} {:?}",
                    tensor.dtype, tensor.shape, other.dtype, other.shape
                )),
                Some((place, _)) if place != file => Some(format!("is in {file}, in the original in {place}")),
                Some((_, other)) if stored.contains(name) => {
                    let fault = self.changed(tensor, other);
                    kept += usize::from(fault.is_none());
                    fault
                }
                Some(_) if biases.get(*name) == Some(&Changed::Freely) => None,
                Some((_, other)) if other.bytes != tensor.bytes => {
                    Some("is not prunable, but differs from the original".to_string())
                }
                Some(_) => {
                    identical += 1;
                    None
                }
            };
            verdict.faults.extend(fault.map(|fault| format!("{name}: {fault}")));
        }
        if !self.compensated.is_empty() {
            let plan = self
                .claim
                .and_then(|claim| claim.cell.pruning.as_ref()?.recipe()?.steps.of_biases());
            let name = plan.map_or("the method", |plan| &plan.name);
            let what = format!("biases against the original's: `{name}` changes them on purpose");
            verdict.unchecked.push(what);
        }
        let lost = theirs.keys().filter(|name| !ours.contains_key(*name));
        verdict
            .faults
            .extend(lost.map(|name| format!("{name}: is missing; the original has it")));
        self.check_metadata(checkpoint, verdict);
        verdict.identical = Some(identical);
        match self.allowed {
            Allowed::Anything => {
                let solver = self.claim.and_then(|claim| claim.cell.pruning.as_ref()?.recipe());
                let solver = solver.map_or("the method", |pruning| &pruning.solver.name);
                verdict.unchecked.push(format!(
                    "weights that stayed against the original's: `{solver}` changes them on purpose"
                ));
            }
            Allowed::Nothing | Allowed::Zeros => verdict.kept = Some(kept),
        }
    }

    /// What is wrong with a prunable tensor; `None` if nothing is.
    fn changed(&self, tensor: &StoredTensor, other: &StoredTensor) -> Option<String> {
        let width = (tensor.dtype.bitsize() / 8).max(1);
        let zeros = self.allowed == Allowed::Zeros;
        if self.allowed == Allowed::Anything || tensor.bytes == other.bytes {
            return None;
        }
        let pairs = tensor.bytes.chunks_exact(width).zip(other.bytes.chunks_exact(width));
        let mut wrong = pairs
            .enumerate()
            .filter(|(_, (ours, theirs))| ours != theirs && !(zeros && ours.iter().all(|byte| *byte == 0)))
            .map(|(element, _)| element);
        let first = wrong.next()?;
        let count = 1 + wrong.count();
        let columns = tensor.shape.last().copied().unwrap_or(1).max(1);
        let place = format!(
            "{count} elements, the first at [{}, {}]",
            first / columns,
            first % columns
        );
        Some(match zeros {
            true => format!("weights that stayed are not the original's, and the method does not change them: {place}"),
            false => format!("differs from the original, and there is no {PRUNING} that says why: {place}"),
        })
    }

    /// Compares the metadata of the weight files. One key may be added by pruning if the original lacks it.
    fn check_metadata(&self, checkpoint: &Checkpoint, verdict: &mut Verdict) {
        let ours: BTreeMap<&str, _> = checkpoint
            .files()
            .each()
            .map(|file| (file.name, file.metadata))
            .collect();
        for file in self.checkpoint.files().each() {
            let mut wanted = file.metadata.clone();
            let plain = ours.get(file.name) == Some(&&wanted);
            wanted.entry("format".to_string()).or_insert_with(|| "pt".to_string());
            match ours.get(file.name) {
                Some(found) if !plain && **found != wanted => {
                    let name = file.name;
                    verdict.faults.push(format!(
                        "{name}: its {METADATA} is {found:?}, in the original {:?}",
                        file.metadata
                    ));
                }
                Some(_) => {}
                None => verdict
                    .faults
                    .push(format!("{}: is missing; the original has it", file.name)),
            }
        }
    }
}

impl Order<'_> {
    /// The bytes of a tensor of the original in this order.
    fn of(&self, tensor: &StoredTensor) -> Vec<u8> {
        // Of what is moved as one piece, and of what holds all pieces once.
        let width = (tensor.dtype.bitsize() / 8).max(1);
        let piece = width * tensor.shape[self.dimension + 1..].iter().product::<usize>();
        let run = piece * tensor.shape[self.dimension];
        let pieces = tensor.bytes.chunks_exact(run.max(1)).flat_map(|run| {
            let piece_at = move |place: &usize| &run[place * piece..][..piece];
            self.order.iter().map(piece_at)
        });
        pieces.flatten().copied().collect()
    }
}

/// All tensors by name, each with the name of the file that it is in.
fn tensors(checkpoint: &Checkpoint) -> BTreeMap<&str, (&str, StoredTensor<'_>)> {
    let files = checkpoint.files().each();
    let all = files.flat_map(|file| {
        file.tensors
            .into_iter()
            .map(move |tensor| (tensor.name, (file.name, tensor)))
    });
    all.collect()
}
