//! A smaller directory for the same model: zeros are left out, a bit says where they were.
//!
//! The layout of every compressed tensor is the one that compressed-tensors called `sparse-bitmask` (its
//! releases up to 0.14 read it): `X.weight` becomes `X.compressed` (the non-zero elements, row-major),
//! `X.bitmask` (rows of bits, lowest bit first), `X.row_offsets` and `X.shape`. It saves storage and
//! nothing else: programs expand it before they compute.
//!
//! Owns both directions, which undo each other: [`expand`] restores every file of the directory byte for byte, with its
//! permissions as far as the umask allows, and checks each against the SHA-256 in the [`manifest`]. Neither holds more of a tensor than a part of a row, and
//! [`compress`] gives its archive a name when it has seen that it restores everything. A matrix that would not
//! become smaller is left as it is.

mod layout;
pub mod manifest;
mod pack;
mod rival;
mod unpack;

use crate::data::digest::FileDigest;
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging};
use crate::model::export::copy;
use crate::model::folder::{Found, Links, Listing, ModelFolder};
use crate::model::index::INDEX;
use crate::model::weights::WeightFiles;
use crate::progress::Progress;
use bytesize::ByteSize;
use layout::BITMASK;
pub use layout::{ENDING, MARK, Sizes};
use manifest::{FORMAT, MANIFEST, Manifest};
use rival::Rival;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The result of restoring an archive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expanded {
    /// Number of files that were restored and checked.
    pub files: usize,
    /// Number of tensors that were expanded.
    pub tensors: usize,
    /// Files in the archive's folder that do not belong to the archive and were not restored.
    pub left_out: Vec<PathBuf>,
}

/// Writes an archive of the model directory `folder` to `out`.
///
/// # Errors
/// The directory cannot be read, holds an archive already or what cannot be copied, or the disk refuses.
pub fn compress(folder: &Path, out: &Path, links: Links, progress: &dyn Progress) -> Result<Sizes> {
    if folder.join(MANIFEST).exists() {
        let message = format!("holds an archive already ({MANIFEST})");
        return Err(Error::input(message).at(folder.display()));
    }
    let weights = weight_files(folder)?;
    // Before anything is written, so that an archive made inside the directory is no part of itself.
    let listing =
        ModelFolder::open(folder, links)?.everything(|name| weights.iter().any(|it| Path::new(it) == name))?;
    if let Some(name) = weights.iter().find_map(|name| {
        let stored = format!("{name}{ENDING}");
        let taken = listing.files.iter().any(|found| found.name == Path::new(&stored));
        taken.then_some(stored)
    }) {
        let message = "has the name that an archive gives its weights; rename it, or move it out of the model";
        return Err(Error::input(message).at(folder.join(name).display()));
    }
    let staging = Staging::new(out)?;
    let mut sizes = Sizes::default();
    let mut manifest = Manifest {
        format: FORMAT,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        files: BTreeMap::new(),
        empty_folders: listing.empty.iter().map(|path| portable(path)).collect::<Result<_>>()?,
        weights: BTreeMap::new(),
        index: None,
        permissions: BTreeMap::new(),
        checksum: String::new(),
    };
    let mut permit = |name: &str, access: Access| {
        // Elsewhere there are none.
        if cfg!(unix) {
            manifest.permissions.insert(name.to_string(), access);
        }
    };
    let own = Access::of(folder)?;
    staging.restrict(own)?;
    permit(manifest::ITSELF, own);
    for below in folders(&listing) {
        let access = Access::of(&folder.join(below))?;
        staging.folder(below, access)?;
        permit(&portable(below).at(folder.display())?, access);
    }
    progress.start(1, listing.files.len());
    let mut bytes = 0;
    for found in listing.files.iter().filter(|found| weights.contains(&found.text())) {
        bytes += found.place.metadata().map_or(0, |there| there.len());
    }
    let mut rival = Rival::new(bytes);
    // What is said of all files is for nobody else than those who may use all of them.
    let mut narrowest = Access::OPEN;
    for found in &listing.files {
        let name = portable(&found.name).at(folder.display())?;
        progress.cell(&name, 0);
        let access = Access::of(&found.place)?;
        narrowest = narrowest.and(access);
        permit(&name, access);
        let digest = if weights.contains(&name) {
            let stored = format!("{name}{ENDING}");
            let (archived, digest) = pack::pack(found, &stored, access, &staging, &mut sizes, &mut rival)?;
            manifest.weights.insert(name.clone(), archived);
            digest
        } else {
            copy(found, &staging, access)?
        };
        manifest.files.insert(name, digest);
        progress.step()?;
    }
    staging.write(MANIFEST, &manifest.to_bytes()?, narrowest)?;

    progress.stage("reading it back");
    let written = Manifest::read(&staging.path("")).map_err(|error| staging.renamed(error))?;
    for (name, archived) in &written.weights {
        let stored = staging.path(written.stored(name));
        unpack::unpack(
            &stored,
            archived,
            &written.files[name],
            written.is_marked(),
            &mut |_| Ok(()),
        )
        .map_err(|error| {
            let error = staging.renamed(error);
            let message = format!(
                "is not the same after it was packed and restored (does another program write to it?): {error}"
            );
            Error::input(message).at(folder.join(name).display())
        })?;
    }
    staging.commit()?;
    progress.finish();
    sizes.zstd = rival.of(sizes.dense);
    sizes.left_out = listing.left_out;
    Ok(sizes)
}

/// Restores in `out` the model directory that the archive `folder` was made from.
///
/// # Errors
/// The archive cannot be read, something in it is not what was archived, or the disk refuses or is too small.
pub fn expand(folder: &Path, out: &Path, progress: &dyn Progress) -> Result<Expanded> {
    let manifest = Manifest::read(folder)?;
    let staging = Staging::new(out)?;
    room_for(&manifest, &staging, out)?;
    let mut expanded = Expanded::default();
    staging.restrict(restored(&manifest, folder, manifest::ITSELF)?)?;
    for below in manifest.folders() {
        let access = match folder.join(below).exists() {
            true => restored(&manifest, folder, below.to_str().unwrap_or_default())?,
            // An empty folder may have been lost on the way.
            false => Access::OPEN,
        };
        staging.folder(below, access)?;
    }
    progress.start(1, manifest.files.len());
    for (name, digest) in &manifest.files {
        progress.cell(name, 0);
        let path = folder.join(manifest.stored(name));
        let target = Path::new(name);
        if !path.exists() {
            return Err(Error::input("is missing from the archive").at(path.display()));
        }
        let access = restored(&manifest, folder, name)?;
        if let Some(archived) = manifest.weights.get(name) {
            let fail = |error| Error::output(&staging.named(target), error);
            let mut file = staging.create(target, access)?;
            let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(fail);
            expanded.tensors += unpack::unpack(&path, archived, digest, manifest.is_marked(), &mut write)?;
            file.sync_all().map_err(fail)?;
        } else if name == INDEX
            && let Some(index) = &manifest.index
        {
            is_archived(&path, FileDigest::of_file(&path)?, &index.archived)?;
            staging.write(INDEX, index.text.as_bytes(), access)?;
        } else {
            let found = Found {
                name: target.to_path_buf(),
                place: path.clone(),
            };
            is_archived(&path, copy(&found, &staging, access)?, digest)?;
        }
        expanded.files += 1;
        progress.step()?;
    }
    expanded.left_out = others(folder, &manifest)?;
    staging.commit()?;
    progress.finish();
    Ok(expanded)
}

/// Checks that a file of the archive has the digest in the manifest.
fn is_archived(path: &Path, found: FileDigest, wanted: &FileDigest) -> Result<()> {
    if found == *wanted {
        return Ok(());
    }
    let message = format!("is not what was archived: it has {found}, but {MANIFEST} says {wanted}");
    Err(Error::input(message).at(path.display()))
}

/// Names of the files that hold the model's weights.
fn weight_files(folder: &Path) -> Result<Vec<String>> {
    let files = WeightFiles::open(folder)?;
    let mut names = Vec::new();
    for stored in files.each() {
        if let Some(tensor) = stored.tensors.iter().find(|tensor| tensor.name.ends_with(BITMASK)) {
            let message = format!("holds an archive already (tensor `{}`)", tensor.name);
            return Err(Error::input(message).at(stored.name).at(folder.display()));
        }
        names.push(stored.name.to_string());
    }
    Ok(names)
}

/// A path below a model directory as manifests write it, with `/`.
fn portable(path: &Path) -> Result<String> {
    let parts = path.iter().map(|part| part.to_str()).collect::<Option<Vec<_>>>();
    let portable = parts.map(|parts| parts.join("/"));
    portable
        .filter(|path| manifest::stays_inside(path))
        .ok_or_else(|| Error::input("its name is not UTF-8, or has a backslash in it; rename it").at(path.display()))
}

/// The folders of a directory; each comes after its parent.
fn folders(listing: &Listing) -> BTreeSet<&Path> {
    let files = listing.files.iter().flat_map(|found| found.name.ancestors().skip(1));
    let empty = listing.empty.iter().flat_map(|folder| folder.ancestors());
    files.chain(empty).filter(|path| *path != Path::new("")).collect()
}

/// The access rights of a restored file or folder: as in the original, but without those who may not read it in the
/// archive.
fn restored(manifest: &Manifest, folder: &Path, name: &str) -> Result<Access> {
    let there = Access::of(&folder.join(manifest.stored(name)))?;
    Ok(match manifest.permissions.get(name) {
        Some(before) => before.and(there.with_executing()),
        None => there,
    })
}

/// Refuses an archive whose files do not fit on the disk: a small archive can claim to restore a lot.
fn room_for(manifest: &Manifest, staging: &Staging, out: &Path) -> Result<()> {
    let wanted = manifest.bytes().unwrap_or(u64::MAX);
    // Where the system does not tell, a full disk is an error as everywhere else.
    match fs4::available_space(staging.path("")) {
        Ok(free) if free < wanted => {
            let (wanted, free) = (ByteSize(wanted), ByteSize(free));
            Err(Error::output(
                out,
                format!("the archive restores {wanted}, but there are only {free} free"),
            ))
        }
        _ => Ok(()),
    }
}

/// Files and folders in the archive's folder that do not belong to the archive.
fn others(folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let listing = ModelFolder::open(folder, Links::Follow)?.everything(|_| true)?;
    let stored: BTreeSet<String> = manifest.files.keys().map(|name| manifest.stored(name)).collect();
    let ours = |path: &Path| portable(path).is_ok_and(|name| name == MANIFEST || stored.contains(&name));
    let files = listing.files.into_iter().map(|found| found.name);
    Ok(files.filter(|path| !ours(path)).chain(listing.left_out).collect())
}
