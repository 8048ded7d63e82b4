//! A disk that forgets: what is left of a folder when the power fails after some operations of a log.
//!
//! What POSIX promises and no more: the bytes of a file are there once the file was synchronised, its name (made, changed or
//! removed) once the folder was. Of what came after, a file's appended bytes may be there up to any point, its other writes
//! each or not, and a folder's changes up to any of them, since file systems that keep a journal write them in order.

use crate::traced::{Inode, Operation, Place};
use rand::{Rng, RngExt};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What may be left of what was not synchronised.
pub enum Left<'a> {
    Nothing,
    Everything,
    Some(&'a mut dyn Rng),
}

/// What is left: the bytes of files, and folders without bytes.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

type Object = usize;

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone)]
enum Naming {
    Added(String, Object),
    Removed(String),
    /// In one folder, at once.
    Renamed(String, String),
}

#[derive(Clone)]
enum Stored {
    File {
        bytes: Vec<u8>,
        after: Vec<Change>,
    },
    Folder {
        names: BTreeMap<String, Object>,
        after: Vec<Naming>,
    },
}

/// The disk under a folder.
#[derive(Clone)]
pub struct Disk {
    objects: Vec<Stored>,
    /// The file system uses a number again when its file is gone.
    numbers: BTreeMap<Inode, Object>,
}

impl Disk {
    /// The folder as it is now, all of it on disk.
    pub fn of(folder: &Path) -> Disk {
        let mut disk = Disk {
            objects: Vec::new(),
            numbers: BTreeMap::new(),
        };
        disk.scan(folder);
        disk
    }

    fn scan(&mut self, path: &Path) -> Object {
        let inode = std::fs::symlink_metadata(path).expect("readable").ino();
        let object = self.add(
            inode,
            Stored::Folder {
                names: BTreeMap::new(),
                after: Vec::new(),
            },
        );
        if path.is_dir() {
            let mut found = BTreeMap::new();
            for entry in std::fs::read_dir(path).expect("readable") {
                let entry = entry.expect("readable");
                let name = entry.file_name().into_string().expect("names of the tests are UTF-8");
                found.insert(name, self.scan(&entry.path()));
            }
            self.objects[object] = Stored::Folder {
                names: found,
                after: Vec::new(),
            };
        } else {
            self.objects[object] = Stored::File {
                bytes: std::fs::read(path).expect("readable"),
                after: Vec::new(),
            };
        }
        object
    }

    fn add(&mut self, inode: Inode, stored: Stored) -> Object {
        self.objects.push(stored);
        self.numbers.insert(inode, self.objects.len() - 1);
        self.objects.len() - 1
    }

    /// Carries out one operation of a log.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(place, inode) | Operation::Link(place, inode) => {
                let empty = Stored::File {
                    bytes: Vec::new(),
                    after: Vec::new(),
                };
                let object = self.add(*inode, empty);
                self.name(place.folder, Naming::Added(place.name.clone(), object));
            }
            Operation::Folder(place, inode) => {
                let empty = Stored::Folder {
                    names: BTreeMap::new(),
                    after: Vec::new(),
                };
                let object = self.add(*inode, empty);
                self.name(place.folder, Naming::Added(place.name.clone(), object));
            }
            Operation::Write { file, offset, bytes } => self.change(
                *file,
                Change::Write {
                    offset: *offset as usize,
                    bytes: bytes.clone(),
                },
            ),
            Operation::Truncate(file, size) => self.change(*file, Change::Truncate(*size as usize)),
            Operation::Sync(inode) => self.synchronise(*inode),
            Operation::Rename(from, to) if from.folder == to.folder => {
                self.name(from.folder, Naming::Renamed(from.name.clone(), to.name.clone()));
            }
            Operation::Rename(from, to) => {
                let object = self.found(from);
                self.name(to.folder, Naming::Added(to.name.clone(), object));
                self.name(from.folder, Naming::Removed(from.name.clone()));
            }
            Operation::Remove(place) => self.name(place.folder, Naming::Removed(place.name.clone())),
            Operation::Said(_) | Operation::Failed(..) => {}
        }
    }

    /// The object that a place names now.
    fn found(&self, place: &Place) -> Object {
        let Stored::Folder { names, after } = &self.objects[self.numbers[&place.folder]] else {
            panic!("{place:?} is not in a folder");
        };
        named(names.clone(), after)[&place.name]
    }

    fn change(&mut self, inode: Inode, change: Change) {
        // A file without a name (a scratch file) is not known, and nothing of it survives.
        if let Some(object) = self.numbers.get(&inode)
            && let Stored::File { after, .. } = &mut self.objects[*object]
        {
            after.push(change);
        }
    }

    fn name(&mut self, folder: Inode, naming: Naming) {
        match &mut self.objects[self.numbers[&folder]] {
            Stored::Folder { after, .. } => after.push(naming),
            Stored::File { .. } => panic!("a file has no names in it"),
        }
    }

    fn synchronise(&mut self, inode: Inode) {
        let Some(object) = self.numbers.get(&inode) else {
            return;
        };
        match &mut self.objects[*object] {
            Stored::File { bytes, after } => {
                for change in std::mem::take(after) {
                    carry_out(bytes, &change);
                }
            }
            Stored::Folder { names, after } => {
                *names = named(std::mem::take(names), after);
                after.clear();
            }
        }
    }

    /// What is left if the power fails now.
    pub fn after_power_loss(&self, mut left: Left<'_>) -> Tree {
        let mut tree = Tree::new();
        // The folder itself was there before.
        self.collect(0, Path::new(""), &mut left, &mut tree);
        tree
    }

    fn collect(&self, object: Object, path: &Path, left: &mut Left<'_>, tree: &mut Tree) {
        match &self.objects[object] {
            Stored::File { bytes, after } => {
                let mut bytes = bytes.clone();
                match left {
                    Left::Nothing => {}
                    Left::Everything => after.iter().for_each(|change| carry_out(&mut bytes, change)),
                    Left::Some(random) => carry_out_some(&mut bytes, after, *random),
                }
                tree.insert(path.to_path_buf(), Some(bytes));
            }
            Stored::Folder { names, after } => {
                let count = match left {
                    Left::Nothing => 0,
                    Left::Everything => after.len(),
                    Left::Some(random) => random.random_range(0..=after.len()),
                };
                if !path.as_os_str().is_empty() {
                    tree.insert(path.to_path_buf(), None);
                }
                for (name, object) in named(names.clone(), &after[..count]) {
                    self.collect(object, &path.join(name), left, tree);
                }
            }
        }
    }
}

fn named(mut names: BTreeMap<String, Object>, after: &[Naming]) -> BTreeMap<String, Object> {
    for naming in after {
        match naming {
            Naming::Added(name, object) => {
                names.insert(name.clone(), *object);
            }
            Naming::Removed(name) => {
                names.remove(name);
            }
            Naming::Renamed(from, to) => {
                let object = names.remove(from).expect("what is renamed has a name");
                names.insert(to.clone(), object);
            }
        }
    }
    names
}

fn carry_out(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(size) => bytes.resize(*size, 0),
        Change::Write { offset, bytes: new } => {
            bytes.resize(bytes.len().max(offset + new.len()), 0);
            bytes[*offset..offset + new.len()].copy_from_slice(new);
        }
    }
}

fn carry_out_some(bytes: &mut Vec<u8>, after: &[Change], random: &mut dyn Rng) {
    for change in after {
        match change {
            Change::Write { offset, bytes: new } if *offset == bytes.len() => {
                let length = random.random_range(0..=new.len());
                bytes.extend_from_slice(&new[..length]);
                if length < new.len() {
                    return;
                }
            }
            other if random.random() => carry_out(bytes, other),
            _ => {}
        }
    }
}

#[test]
fn what_is_not_synchronised_may_be_gone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = std::fs::metadata(folder.path()).expect("it is there").ino();
    let mut disk = Disk::of(folder.path());
    let place = |folder, name: &str| Place {
        folder,
        name: name.to_string(),
    };
    let write = |bytes: &[u8]| Operation::Write {
        file: 7,
        offset: 0,
        bytes: bytes.to_vec(),
    };
    disk.apply(&Operation::Create(place(root, ".tmp"), 7));
    disk.apply(&write(b"whole"));
    disk.apply(&Operation::Rename(place(root, ".tmp"), place(root, "a")));
    let file = |name: &str, bytes: &[u8]| Tree::from([(name.into(), Some(bytes.to_vec()))]);
    assert_eq!(disk.after_power_loss(Left::Nothing), Tree::new());
    assert_eq!(disk.after_power_loss(Left::Everything), file("a", b"whole"));
    disk.apply(&Operation::Sync(root));
    assert_eq!(
        disk.after_power_loss(Left::Nothing),
        file("a", b""),
        "the name without the bytes"
    );
    disk.apply(&Operation::Sync(7));
    assert_eq!(disk.after_power_loss(Left::Nothing), file("a", b"whole"));
    disk.apply(&Operation::Remove(place(root, "a")));
    assert_eq!(
        disk.after_power_loss(Left::Nothing),
        file("a", b"whole"),
        "it may come back"
    );
    assert_eq!(disk.after_power_loss(Left::Everything), Tree::new());
}
