//! Weight files as they are stored: `model.safetensors`, or shards with `model.safetensors.index.json`,
//! read through memory maps.
//!
//! Owns finding and reading the files; knows names, types and shapes, and nothing of what a tensor is
//! for. A truncated or malformed file is refused by name.

use crate::error::{Error, Result};
use crate::files::input;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

/// The only weight file of a small checkpoint.
pub const SINGLE: &str = "model.safetensors";
/// Which tensor is in which shard.
pub const INDEX: &str = "model.safetensors.index.json";

struct Shard {
    path: PathBuf,
    map: Mmap,
    /// `__metadata__` of the header.
    metadata: BTreeMap<String, String>,
    /// Tensor names in the order of their data.
    order: Vec<String>,
}

/// Bytes hashed before their pages are released.
const PIECE: usize = 64 << 20;

impl Shard {
    /// Takes pages out of this process. Only advice: where it is not taken, nothing is lost but memory.
    fn release(&self, start: usize, length: usize) {
        #[cfg(unix)]
        {
            // SAFETY: the map is of a file, shared or private and never written through: dropped pages come back
            // from the file with the same bytes, so no reference into the map ever sees another value.
            #[allow(unsafe_code)]
            let advised = unsafe {
                self.map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, start, length)
            };
            if let Err(error) = advised {
                tracing::debug!("{}: pages are not released: {error}", self.path.display());
            }
        }
        #[cfg(not(unix))]
        let _ = (start, length);
    }
}

/// One weight file of a checkpoint, as it is stored.
pub struct StoredFile<'a> {
    /// File name.
    pub name: &'a str,
    /// `__metadata__` of the header.
    pub metadata: &'a BTreeMap<String, String>,
    /// Its tensors, in the order of their data; also those the forward pass does not read.
    pub tensors: Vec<StoredTensor<'a>>,
}

/// A tensor as it is stored.
pub struct StoredTensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Shape in the file.
    pub shape: &'a [usize],
    /// Its data.
    pub bytes: &'a [u8],
}

/// Where a tensor is.
pub(super) struct Location {
    shard: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// The weight files of a model directory.
pub struct WeightFiles {
    shards: Vec<Shard>,
    tensors: HashMap<String, Location>,
}

impl WeightFiles {
    /// Opens the files in `dir`.
    ///
    /// # Errors
    /// Missing, truncated or malformed files.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut files = WeightFiles {
            shards: Vec::new(),
            tensors: HashMap::new(),
        };
        if dir.join(SINGLE).exists() {
            files.add_shard(dir.join(SINGLE))?;
        } else if dir.join(INDEX).exists() {
            files.add_index(dir)?;
        } else {
            return Err(Error::input(format!("holds neither {SINGLE} nor {INDEX}")).at(dir.display()));
        }
        Ok(files)
    }

    /// Whether `dir` holds a checkpoint, whole or not.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(SINGLE).exists() || dir.join(INDEX).exists()
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<()> {
        let file = input::open(&path)?;
        // SAFETY: the map is read-only and private to this process's view of the file. As with every
        // memory-mapped checkpoint reader, another process truncating the file meanwhile is outside
        // what can be defended against; shards are checked for size when they are opened.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::reading(&path, source))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| Error::input(explain(&error)).at(path.display()))?;
        // The format: eight bytes of header length, the header, then the data the offsets count from.
        let data = 8 + header;
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let location = Location {
                shard,
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + info.data_offsets.0,
                end: data + info.data_offsets.1,
            };
            self.tensors.insert(name, location);
        }
        let order = metadata.offset_keys();
        let metadata = metadata.metadata().clone().unwrap_or_default();
        self.shards.push(Shard {
            path,
            map,
            metadata: metadata.into_iter().collect(),
            order,
        });
        Ok(())
    }

    fn add_index(&mut self, dir: &Path) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let path = dir.join(INDEX);
        let text = input::read_text(&path, input::SMALL)?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("not a shard index: {error}")).at(path.display()))?;
        let mut files: Vec<&String> = index.weight_map.values().collect();
        files.sort();
        files.dedup();
        for file in files {
            // `..` and `/` are single components too, but they lead out of the folder.
            if !matches!(
                Path::new(file).components().collect::<Vec<_>>()[..],
                [Component::Normal(_)]
            ) {
                let message = format!("shard `{file}` is not a plain file name");
                return Err(Error::input(message).at(path.display()));
            }
            self.add_shard(dir.join(file))?;
        }
        for (name, file) in &index.weight_map {
            let found = self
                .tensors
                .get(name)
                .is_some_and(|location| self.shards[location.shard].path.file_name() == Some(file.as_ref()));
            if !found {
                let message = format!("tensor `{name}` is not in `{file}` as the index says");
                return Err(Error::input(message).at(path.display()));
            }
        }
        Ok(())
    }

    /// A tensor by its stored name.
    pub(super) fn get(&self, name: &str) -> Option<(&str, &Location)> {
        self.tensors
            .get_key_value(name)
            .map(|(name, location)| (name.as_str(), location))
    }

    /// A tensor's data.
    pub(super) fn bytes(&self, location: &Location) -> &[u8] {
        &self.shards[location.shard].map[location.start..location.end]
    }

    /// Takes a tensor's pages out of this process. They stay in the system's cache, and reading them again works
    /// as before; but a run's resident memory is then what it computes with, not what it has ever read.
    pub(super) fn release(&self, location: &Location) {
        self.shards[location.shard].release(location.start, location.end - location.start);
    }

    /// The file a tensor is in.
    pub(super) fn path(&self, location: &Location) -> &Path {
        &self.shards[location.shard].path
    }

    /// The files, with all their tensors.
    pub fn each(&self) -> impl Iterator<Item = StoredFile<'_>> {
        self.shards.iter().enumerate().map(|(index, shard)| {
            let stored = |name: &'_ String| {
                let (name, location) = self.tensors.get_key_value(name)?;
                // A tensor that two shards hold is read from the later one, and belongs to it alone.
                (location.shard == index).then(|| StoredTensor {
                    name,
                    dtype: location.dtype,
                    shape: &location.shape,
                    bytes: self.bytes(location),
                })
            };
            StoredFile {
                name: shard.path.file_name().and_then(|name| name.to_str()).unwrap_or(SINGLE),
                metadata: &shard.metadata,
                tensors: shard.order.iter().filter_map(stored).collect(),
            }
        })
    }

    /// SHA-256 of all weight files, in order of their names.
    pub fn digest(&self) -> String {
        let mut order: Vec<&Shard> = self.shards.iter().collect();
        order.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = Sha256::new();
        for shard in order {
            for (index, bytes) in shard.map.chunks(PIECE).enumerate() {
                hash.update(bytes);
                shard.release(index * PIECE, bytes.len());
            }
        }
        crate::data::digest::hexadecimal(&hash.finalize())
    }
}

fn explain(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as Cause;
    let reason = match error {
        Cause::HeaderTooSmall => "the file is shorter than a header",
        Cause::HeaderTooLarge | Cause::InvalidHeaderLength => "the header's length does not fit the file",
        Cause::InvalidHeader(_) | Cause::InvalidHeaderDeserialization(_) => "the header is not valid",
        Cause::MetadataIncompleteBuffer => "the data does not fill the file as the header says",
        Cause::TensorInvalidInfo => "a tensor's offsets do not fit its shape and type",
        Cause::InvalidOffset(name) => {
            return format!("truncated or corrupt safetensors file: tensor `{name}` overlaps or leaves a gap");
        }
        _ => return format!("truncated or corrupt safetensors file: {error}"),
    };
    format!("truncated or corrupt safetensors file: {reason}")
}
