//! `zprune-archive.json`: what the model directory held that an archive was made from, to the last bit.
//!
//! Owns the file's layout and the checks that it can be used: reading it is a function of its bytes, and nothing
//! in it can lead out of the directory that is restored, whoever wrote it.

use super::layout::ENDING;
use crate::data::digest::FileDigest;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::files::header::Header;
use crate::files::{Access, input};
use crate::jobs::seal;
use crate::model::found::ARCHIVE;
use crate::model::index::INDEX;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// File name of the manifest in an archive.
pub const MANIFEST: &str = ARCHIVE;

/// Version of the layout of an archive. 1 has files and hashes, 2 added permissions, 3 gave weight files an ending and a beginning
/// of their own and keeps the index as it is.
pub const FORMAT: u32 = 3;

/// The first format whose weight files no other program takes for weights.
const MARKED: u32 = 3;

/// The oldest layout that can be read.
const OLDEST_FORMAT: u32 = 1;

/// The name of the model directory itself in [`Manifest::permissions`].
pub(super) const ITSELF: &str = ".";

/// The longest manifest that is read, in bytes: with the headers of 100,000 tensors it has 15 MB.
const LARGEST: u64 = 512 << 20;

/// What an archive restores, and how to check it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`], or an older one.
    pub format: u32,
    /// Version of zprune that made the archive.
    pub zprune: String,
    /// Every file of the model directory, by its path with `/` between its parts.
    pub files: BTreeMap<String, FileDigest>,
    /// Folders of the model directory that are empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_folders: Vec<String>,
    /// The files that hold the model's weights. The archive has other files in their place, whose names end in `.zprune`; up to
    /// format 2 they have the same names.
    pub weights: BTreeMap<String, Archived>,
    /// Up to format 2 the index of the weight files, if there was one: the archive has another file under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<ArchivedIndex>,
    /// Access rights of each file and folder, and of the directory itself (`.`); absent in format 1, and if the
    /// system does not tell them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, Access>,
    /// SHA-256 of this file, computed with 64 zeros in place of the checksum.
    pub checksum: String,
}

/// A weight file of the original, and the file that replaces it in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archived {
    /// Digest of the file in the archive.
    pub archived: FileDigest,
    /// The safetensors header of the original, as it is stored.
    pub header: String,
    /// SHA-256 of the data of each of the original's tensors, by name.
    pub tensors: BTreeMap<String, String>,
}

/// The index of the original, and the file that replaces it in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedIndex {
    /// Digest of the file in the archive.
    pub archived: FileDigest,
    /// The text of the original index.
    pub text: String,
}

impl Manifest {
    /// Reads the manifest of the archive in `folder`.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if path
            .metadata()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            let message = format!(
                "holds no {MANIFEST}, so it is not an archive that zprune can restore; `zprune compress` makes one"
            );
            return Err(Error::input(message).at(folder.display()));
        }
        let bytes = input::read(&path, LARGEST)?;
        Self::parse(&bytes).at(path.display())
    }

    /// Reads a manifest from its bytes.
    ///
    /// # Errors
    /// It cannot be understood, contradicts itself, or was changed after zprune wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let unreadable = |error| Error::input(format!("does not describe an archive: {error}"));
        let Version { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
            let message = format!("has format {format}, but this zprune reads formats {OLDEST_FORMAT} to {FORMAT}");
            return Err(Error::input(message));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !seal::is_intact(bytes, &manifest.checksum) {
            let message = "was changed after zprune wrote it: its checksum does not fit its content";
            return Err(Error::input(message));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The content of the file, sealed with its checksum.
    ///
    /// # Errors
    /// None that a manifest of text and whole numbers could cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let open = Manifest {
            checksum: seal::OPEN.to_string(),
            ..self.clone()
        };
        let text =
            serde_json::to_string_pretty(&open).map_err(|error| Error::new(ErrorKind::Output, error).at(MANIFEST))?;
        Ok(seal::seal(text + "\n").into_bytes())
    }

    /// Number of bytes of all files that the archive restores; `None` if it does not fit in 64 bits.
    pub fn bytes(&self) -> Option<u64> {
        self.files
            .values()
            .try_fold(0u64, |all, file| all.checked_add(file.bytes))
    }

    /// The folders below the directory; each comes after its parent.
    pub(super) fn folders(&self) -> BTreeSet<&Path> {
        let files = self.files.keys().flat_map(|path| Path::new(path).ancestors().skip(1));
        let empty = self.empty_folders.iter().flat_map(|path| Path::new(path).ancestors());
        files.chain(empty).filter(|path| *path != Path::new("")).collect()
    }

    /// Whether the archive's weight files begin with a mark.
    pub(super) fn is_marked(&self) -> bool {
        self.format >= MARKED
    }

    /// The path in the archive of a file of the model directory.
    pub(super) fn stored(&self, name: &str) -> String {
        match self.is_marked() && self.weights.contains_key(name) {
            true => format!("{name}{ENDING}"),
            false => name.to_string(),
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |place: &str, what: &str| Err(Error::input(what).at(format!("`{place}`")));
        for path in self.files.keys().chain(&self.empty_folders) {
            if !stays_inside(path) || path == MANIFEST {
                return refuse(path, "is not the path of a file in a model folder");
            }
        }
        let folders = self.folders();
        for path in self.permissions.keys() {
            if !(path == ITSELF || self.files.contains_key(path) || folders.contains(Path::new(path))) {
                return refuse(path, "has permissions, but is no file or folder of the archive");
            }
        }
        if self.bytes().is_none() {
            return Err(Error::input("its files are larger than 64 bits can count"));
        }
        if let Some(index) = &self.index
            && self.files.get(INDEX) != Some(&FileDigest::of_bytes(index.text.as_bytes()))
        {
            return refuse(INDEX, "is not the text that the manifest holds");
        }
        for (name, weights) in &self.weights {
            if self.files.contains_key(&format!("{name}{ENDING}")) && self.is_marked() {
                return refuse(name, "and another file would have the same name in the archive");
            }
            let header = weights.header().at(format!("`{name}`"))?;
            let bytes = header.data().checked_add(header.data_bytes());
            if self.files.get(name).is_none_or(|file| Some(file.bytes) != bytes) {
                return refuse(name, "is not as long as its header says");
            }
            let names = header.tensors.iter().map(|tensor| &tensor.name);
            if header.tensors.len() != weights.tensors.len()
                || !names.into_iter().all(|it| weights.tensors.contains_key(it))
            {
                return refuse(name, "does not have a hash for each tensor of its header");
            }
        }
        Ok(())
    }
}

impl Archived {
    /// The safetensors header of the original file, parsed.
    ///
    /// # Errors
    /// It is none.
    pub fn header(&self) -> Result<Header> {
        Header::parse(self.header.clone())
    }
}

/// Whether a path leads to a place below the folder that it starts in, on every system.
pub(super) fn stays_inside(path: &str) -> bool {
    let plain = |part: &str| matches!(Path::new(part).components().collect::<Vec<_>>()[..], [Component::Normal(it)] if it == part);
    !path.contains('\\') && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let header = r#"{"a.weight":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#.to_string();
        let archived = FileDigest::of_bytes(b"archived");
        Manifest {
            format: FORMAT,
            zprune: "0.1.0".to_string(),
            files: BTreeMap::from([
                (
                    "model.safetensors".to_string(),
                    FileDigest {
                        bytes: 8 + header.len() as u64 + 2,
                        sha256: "x".to_string(),
                    },
                ),
                ("sub/LICENSE".to_string(), FileDigest::of_bytes(b"MIT")),
            ]),
            empty_folders: vec!["sub/empty".to_string()],
            weights: BTreeMap::from([(
                "model.safetensors".to_string(),
                Archived {
                    archived,
                    header,
                    tensors: BTreeMap::from([("a.weight".to_string(), "y".to_string())]),
                },
            )]),
            index: None,
            permissions: BTreeMap::from([ITSELF, "sub", "sub/LICENSE", "sub/empty"].map(|path| {
                let access = Access::try_from("755".to_string()).expect("octal digits");
                (path.to_string(), access)
            })),
            checksum: String::new(),
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_no_bit_of_it_may_change() {
        let bytes = manifest().to_bytes().expect("text and numbers");
        let read = Manifest::parse(&bytes).expect("as written");
        let checksum = read.checksum.clone();
        assert_eq!(read, Manifest { checksum, ..manifest() });
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert!(Manifest::parse(&changed).is_err(), "byte {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn no_manifest_leads_out_of_its_directory_or_contradicts_itself() {
        let file = |path: &str| {
            let mut manifest = manifest();
            manifest.files.insert(path.to_string(), FileDigest::of_bytes(b""));
            manifest
        };
        let of_weights = |change: fn(&mut Archived)| {
            let mut manifest = manifest();
            manifest.weights.values_mut().for_each(change);
            manifest
        };
        let mut endless = manifest();
        endless.files.values_mut().for_each(|file| file.bytes = u64::MAX);
        let folder = Manifest {
            empty_folders: vec!["..".to_string()],
            ..manifest()
        };
        let permissions = Manifest {
            permissions: BTreeMap::from([("../evil".to_string(), Access::OPEN)]),
            ..manifest()
        };
        let (one, two) = ("model.safetensors", "model.safetensors.zprune");
        let older = |manifest| Manifest { format: 2, ..manifest };
        assert_eq!(
            (manifest().stored(one), older(manifest()).stored(one)),
            (two.into(), one.into())
        );
        let bytes = older(file(two)).to_bytes().expect("text and numbers");
        Manifest::parse(&bytes).expect("two files then");
        let index = Manifest {
            index: Some(ArchivedIndex {
                archived: FileDigest::of_bytes(b"{}"),
                text: "{}".to_string(),
            }),
            ..manifest()
        };
        for (manifest, expect) in [
            (file("../evil"), "not the path"),
            (file("a/../../evil"), "not the path"),
            (file("/etc/passwd"), "not the path"),
            (file("a//b"), "not the path"),
            (file("./a"), "not the path"),
            (file("a/."), "not the path"),
            (file(""), "not the path"),
            (file("..\\evil"), "not the path"),
            (file(MANIFEST), "not the path"),
            (file(two), "would have the same name in the archive"),
            (folder, "not the path"),
            (permissions, "no file or folder of the archive"),
            (endless, "64 bits"),
            (index, "is not the text"),
            (
                of_weights(|it| it.header = "{}".to_string()),
                "as long as its header says",
            ),
            (of_weights(|it| it.header = "{".to_string()), "the header is not valid"),
            (of_weights(|it| it.tensors.clear()), "a hash for each tensor"),
        ] {
            let bytes = manifest.to_bytes().expect("text and numbers");
            let error = Manifest::parse(&bytes).expect_err(expect).to_string();
            assert!(error.contains(expect), "{expect}: {error}");
        }
    }
}
