//! Weight files as they are stored: `model.safetensors`, or shards with `model.safetensors.index.json`, or the factored form alone,
//! headers through memory maps, data from the file: one that is cut while it is in use must end in an error, and reading
//! what a map has lost ends the process.
//!
//! Owns finding and reading the files; knows names, types and shapes, and nothing of what a tensor is
//! for. A truncated or malformed file is refused by name.

use crate::data::digest::{FileDigest, RunningDigest};
use crate::error::{Error, Located, Result};
use crate::files::header::{Header, SHORTER};
use crate::files::input;
use crate::model::factored::FACTORS;
use crate::model::found::{ARCHIVE, Sought, archive, instead};
use crate::model::index::{self, INDEX};
use memmap2::Mmap;
use safetensors::Dtype;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// Name of the only weight file of a small checkpoint.
pub const SINGLE: &str = "model.safetensors";

/// The beginning of the small files that stand for large ones in a clone without Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
    /// The entry `__metadata__` of the file's header.
    metadata: BTreeMap<String, String>,
    /// Tensor names in the order of their data.
    order: Vec<String>,
}

/// Number of bytes hashed at a time.
const PIECE: usize = 4 << 20;

impl Shard {
    /// Name of the shard's file.
    fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or(SINGLE)
    }

    /// Fills `buffer` with the file's bytes, beginning at position `start`.
    fn read(&self, start: usize, buffer: &mut [u8]) -> Result<()> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, start as u64);
        // A file that is mapped cannot be cut on Windows.
        #[cfg(not(unix))]
        let read = std::io::Read::read_exact(&mut &self.map[start..], buffer);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::input(SHORTER).at(self.path.display()),
            _ => Error::reading(&self.path, error),
        })
    }
}

/// One weight file of a checkpoint, with everything that its header says.
pub struct StoredFile<'a> {
    /// Name of the file.
    pub name: &'a str,
    /// The entry `__metadata__` of the file's header.
    pub metadata: &'a BTreeMap<String, String>,
    /// All tensors of the file in the order of their data, including those that the model does not use.
    pub tensors: Vec<StoredTensor<'a>>,
}

/// A tensor of a weight file, with its bytes.
#[derive(Clone, Copy)]
pub struct StoredTensor<'a> {
    /// Name of the tensor in the file.
    pub name: &'a str,
    /// Number format of the elements.
    pub dtype: Dtype,
    /// Shape of the tensor in the file.
    pub shape: &'a [usize],
    /// The tensor's data as stored.
    pub bytes: &'a [u8],
}

/// Where a tensor is stored, and in which form.
pub(super) struct Location {
    shard: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// The weight files of a model directory.
pub struct WeightFiles {
    /// Whether an index names these files.
    indexed: bool,
    shards: Vec<Shard>,
    tensors: HashMap<String, Location>,
    /// Copies of tensors in earlier files that are equal to those in a later file.
    copies: Vec<(String, Location)>,
    /// Tensors that are not in the file that the index names. This is an error only if one of them is needed.
    promised: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens the weight files in `dir`.
    ///
    /// # Errors
    /// Missing, truncated or malformed files.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut files = WeightFiles {
            copies: Vec::new(),
            indexed: !dir.join(SINGLE).exists(),
            shards: Vec::new(),
            tensors: HashMap::new(),
            promised: BTreeMap::new(),
        };
        // Older archives have a file by the name of the weights.
        if dir.join(ARCHIVE).exists() {
            return Err(Error::input(archive(dir)).at(dir.display()));
        }
        if dir.join(SINGLE).exists() {
            files.add_shard(dir.join(SINGLE))?;
        } else if dir.join(INDEX).exists() {
            files.add_index(dir)?;
        } else if dir.join(FACTORS).exists() {
            files.indexed = false;
            files.add_shard(dir.join(FACTORS))?;
        } else {
            let found = instead(dir, Sought::Weights).map_or(String::new(), |found| format!("; {found}"));
            return Err(Error::input(format!("holds neither {SINGLE} nor {INDEX}{found}")).at(dir.display()));
        }
        Ok(files)
    }

    /// Opens one weight file, whatever its name.
    ///
    /// # Errors
    /// It is missing, truncated or malformed.
    pub fn one(path: &Path) -> Result<Self> {
        let mut files = WeightFiles {
            copies: Vec::new(),
            indexed: false,
            shards: Vec::new(),
            tensors: HashMap::new(),
            promised: BTreeMap::new(),
        };
        files.add_shard(path.to_path_buf())?;
        Ok(files)
    }

    /// Whether `dir` has weight files of a checkpoint, complete or not.
    pub fn is_in(dir: &Path) -> bool {
        [SINGLE, INDEX, FACTORS].iter().any(|name| dir.join(name).exists())
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<()> {
        let file = input::open(&path)?;
        // SAFETY: the map is read-only and private to this process's view of the file. As with every
        // memory-mapped checkpoint reader, another process truncating the file meanwhile is outside
        // what can be defended against; shards are checked for size when they are opened.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::reading(&path, source))?;
        if map.starts_with(LFS_POINTER) {
            let message = "a pointer of Git LFS and not the weights themselves; fetch these with `git lfs pull`";
            return Err(Error::input(message).at(path.display()));
        }
        let header = Header::read(&map[..], map.len() as u64).at(path.display())?;
        let data = header.data() as usize;
        let shard = self.shards.len();
        let (mut order, mut twice) = (Vec::new(), Vec::new());
        for tensor in header.tensors {
            // The data fill the map, so every offset fits.
            let location = Location {
                shard,
                dtype: tensor.dtype,
                shape: tensor.shape,
                start: data + tensor.start as usize,
                end: data + tensor.end as usize,
            };
            if let Some(before) = self.tensors.insert(tensor.name.clone(), location) {
                twice.push((tensor.name.clone(), before));
            }
            order.push(tensor.name);
        }
        self.shards.push(Shard {
            path,
            file,
            map,
            metadata: header.metadata,
            order,
        });
        twice
            .iter()
            .try_for_each(|(name, before)| self.check_copy(name, before))?;
        self.copies.append(&mut twice);
        Ok(())
    }

    /// Checks that two copies of a tensor are equal. transformers reads the one in the later file, other programs the
    /// one that the index names; if they differed, the checkpoint would be two models.
    fn check_copy(&self, name: &str, before: &Location) -> Result<()> {
        let after = &self.tensors[name];
        if before.dtype == after.dtype && before.shape == after.shape && self.read(before)? == self.read(after)? {
            return Ok(());
        }
        let file = |location: &Location| self.shards[location.shard].name().to_string();
        let (first, second) = (file(before), file(after));
        Err(Error::input(format!(
            "tensor `{name}` is in `{first}` and, with other values, in `{second}`; programs differ in which one they \
             read: remove the copy that is out of date"
        ))
        .at(self.path(after).parent().unwrap_or(Path::new(".")).display()))
    }

    fn add_index(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join(INDEX);
        let weight_map = index::read(dir)?;
        let mut files: Vec<&String> = weight_map.values().collect();
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
            let shard = dir.join(file);
            if !shard.exists() {
                let tensors = weight_map.values().filter(|named| *named == file).count();
                let message = format!(
                    "shard `{file}`, which holds {tensors} of the tensors, is not there; get it from where the model is from"
                );
                return Err(Error::input(message).at(path.display()));
            }
            self.add_shard(shard)?;
        }
        // Of equal copies the one counts that the index names, so that a model that is written anew has it there.
        for (name, copy) in std::mem::take(&mut self.copies) {
            if weight_map.get(&name).map(String::as_str) == Some(self.shards[copy.shard].name()) {
                self.tensors.insert(name, copy);
            }
        }
        let elsewhere = |name: &str, file: &str| {
            let location = self.tensors.get(name);
            location.is_none_or(|location| self.shards[location.shard].name() != file)
        };
        let promised = weight_map.into_iter().filter(|(name, file)| elsewhere(name, file));
        self.promised = promised.collect();
        Ok(())
    }

    /// Whether [`INDEX`] names these files, be there one or many.
    pub fn indexed(&self) -> bool {
        self.indexed
    }

    /// The file in which the index expects a tensor, if the tensor is not there.
    pub(super) fn promised(&self, name: &str) -> Option<&str> {
        self.promised.get(name).map(String::as_str)
    }

    /// A tensor's name and place, looked up by its stored name.
    pub(super) fn get(&self, name: &str) -> Option<(&str, &Location)> {
        self.tensors
            .get_key_value(name)
            .map(|(name, location)| (name.as_str(), location))
    }

    /// Reads the data of a tensor.
    ///
    /// # Errors
    /// The file cannot be read, or became shorter.
    pub(super) fn read(&self, location: &Location) -> Result<Vec<u8>> {
        let mut bytes = vec![0; location.end - location.start];
        self.shards[location.shard].read(location.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Path of the file that has the tensor.
    pub(super) fn path(&self, location: &Location) -> &Path {
        &self.shards[location.shard].path
    }

    /// The files, with all their tensors.
    pub fn each(&self) -> impl Iterator<Item = StoredFile<'_>> {
        self.shards.iter().enumerate().map(|(index, shard)| {
            let stored = |name: &'_ String| {
                let (name, location) = self.tensors.get_key_value(name)?;
                // A tensor that two shards hold belongs to one of them alone.
                (location.shard == index).then(|| StoredTensor {
                    name,
                    dtype: location.dtype,
                    shape: &location.shape,
                    bytes: &shard.map[location.start..location.end],
                })
            };
            StoredFile {
                name: shard.name(),
                metadata: &shard.metadata,
                tensors: shard.order.iter().filter_map(stored).collect(),
            }
        })
    }

    /// Paths of the weight files, in order of their names.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.shards.iter().map(|shard| shard.path.as_path()).collect();
        paths.sort();
        paths
    }

    /// SHA-256 of all weight files, in order of their names.
    ///
    /// # Errors
    /// A file cannot be read, or became shorter.
    pub fn digest(&self) -> Result<String> {
        let mut all = RunningDigest::default();
        self.pieces(|_, bytes| all.update(bytes))?;
        Ok(all.finish().sha256)
    }

    /// The digest of every weight file by name, and the digest of [`WeightFiles::digest`].
    ///
    /// # Errors
    /// As [`WeightFiles::digest`].
    pub fn digests(&self) -> Result<(BTreeMap<String, FileDigest>, String)> {
        let (mut all, mut each) = (RunningDigest::default(), BTreeMap::<String, RunningDigest>::new());
        self.pieces(|shard, bytes| {
            all.update(bytes);
            each.entry(shard.name().to_string()).or_default().update(bytes);
        })?;
        let each = each.into_iter().map(|(name, running)| (name, running.finish()));
        Ok((each.collect(), all.finish().sha256))
    }

    /// Passes the content of all files to `take`, in order of their names.
    fn pieces(&self, mut take: impl FnMut(&Shard, &[u8])) -> Result<()> {
        let mut order: Vec<&Shard> = self.shards.iter().collect();
        order.sort_by(|a, b| a.path.cmp(&b.path));
        let mut buffer = vec![0; PIECE];
        for shard in order {
            for start in (0..shard.map.len()).step_by(PIECE) {
                let piece = &mut buffer[..PIECE.min(shard.map.len() - start)];
                shard.read(start, piece)?;
                take(shard, piece);
            }
        }
        Ok(())
    }
}
