//! Files that a user names for a result: whether they may be written, decided before the work and again when it is done.

use super::access::Access;
use super::unfinished::{UNFINISHED, parent, temporary_file, without_name};
use super::whole::{remove_unfinished, write_for};
use crate::error::{Error, Result};
use std::fs::{File, FileType, Metadata};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Most links that are followed, one after the other.
const MOST_LINKS: usize = 40;

/// A file that a user named for a result.
///
/// A pipe or a device (`/dev/stdout`, `/dev/null`, a FIFO) is written to and stays what it is. A link stays, and what it leads to
/// is written. A file that is there is replaced if it is empty, if `ours` knows it as an earlier result, or with `force`; never
/// if the command reads it.
#[derive(Clone, Copy)]
pub struct OutputFile<'a> {
    /// The file as the user named it.
    pub path: &'a Path,
    /// Files that the command reads, and folders that it reads files from. Paths that do not exist are ignored.
    pub inputs: &'a [PathBuf],
    /// Whether the user allowed replacing a file that this command did not write.
    pub force: bool,
    /// Whether the content of a plain file is of the kind that this command writes.
    pub ours: fn(&Path) -> bool,
    /// Who may read the result, if it is a plain file.
    pub access: Access,
}

/// The place that the bytes are written to.
enum Place {
    /// Standard output of this process, whatever it leads to.
    StandardOutput,
    /// A pipe or a device, which is written to and stays.
    Stream(PathBuf),
    /// A plain file, which exists or will be made.
    File(PathBuf),
}

impl OutputFile<'_> {
    /// Checks, before the work begins, that the file could be written now. Changes nothing.
    ///
    /// # Errors
    /// It is a folder, somebody else's file, or one that the command reads, or its folder cannot be written.
    pub fn check(&self) -> Result<()> {
        match self.place()? {
            Place::StandardOutput => Ok(()),
            // A FIFO cannot be opened before somebody reads it.
            Place::Stream(path) if is_fifo(&path) => Ok(()),
            Place::Stream(path) => open_stream(&path).map(drop).map_err(|error| self.fail(error)),
            Place::File(path) => {
                let missing = |folder: &&Path| {
                    let there = folder.symlink_metadata();
                    there.is_err_and(|error| error.kind() == ErrorKind::NotFound)
                };
                let mut folders = path
                    .ancestors()
                    .skip(1)
                    .map(|folder| match folder.as_os_str().is_empty() {
                        true => Path::new("."),
                        false => folder,
                    });
                let folder = folders.find(|folder| !missing(folder)).unwrap_or(Path::new("."));
                // Only the system knows who may write here, and it answers no question but an attempt.
                let attempt = temporary_file(folder, UNFINISHED, Access::OPEN);
                let closed = |file: NamedTempFile| match file.close() {
                    // Another process removed it as left over. It was made, so the folder can be written.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    closed => closed.map_err(without_name),
                };
                attempt
                    .and_then(closed)
                    .map_err(|error| Error::writing(folder, error).at(self.path.display()))
            }
        }
    }

    /// Writes the content; a plain file is written completely or not at all.
    ///
    /// # Errors
    /// As [`OutputFile::check`], or the disk is full.
    pub fn write(&self, content: &[u8]) -> Result<()> {
        let wrote = match self.place()? {
            Place::StandardOutput => {
                let mut output = std::io::stdout().lock();
                match output.write_all(content).and_then(|()| output.flush()) {
                    // Whoever read it has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                    wrote => wrote,
                }
            }
            Place::Stream(path) => open_stream(&path).and_then(|mut stream| stream.write_all(content)),
            Place::File(path) => {
                remove_unfinished(parent(&path));
                return write_for(&path, content, self.access);
            }
        };
        wrote.map_err(|error| self.fail(error))
    }

    fn fail(&self, message: impl std::fmt::Display) -> Error {
        Error::output(self.path, message)
    }

    fn place(&self) -> Result<Place> {
        let named_as_folder = self.path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if self.path.file_name().is_none() || named_as_folder {
            return Err(self.fail("this is no name of a file"));
        }
        let there = match self.path.metadata() {
            Ok(there) => Some(there),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.fail(error)),
        };
        let Some(there) = there else {
            return Ok(Place::File(self.followed()?));
        };
        if is_standard_output(&there) {
            return Ok(Place::StandardOutput);
        }
        if there.is_dir() {
            return Err(self.fail("it is a folder; name a file"));
        }
        if !there.is_file() {
            return match is_stream(there.file_type()) {
                true => Ok(Place::Stream(self.path.to_path_buf())),
                false => Err(self.fail("it is neither a file, nor a pipe, nor a device that takes text")),
            };
        }
        let ours = (self.ours)(self.path);
        if let Some(input) = self.inputs.iter().find(|input| reads(input, self.path, &there, ours)) {
            return Err(self.fail(format!(
                "this command reads it ({}); choose another name",
                input.display()
            )));
        }
        if there.permissions().readonly() {
            return Err(self.fail("it is read-only"));
        }
        if !(self.force || ours || there.len() == 0) {
            return Err(self.fail(
                "the file exists, and is no earlier result of this command; choose another name, or replace it with --force",
            ));
        }
        Ok(Place::File(self.followed()?))
    }

    /// The path that the links from this path lead to; it need not exist.
    fn followed(&self) -> Result<PathBuf> {
        let mut path = self.path.to_path_buf();
        for _ in 0..MOST_LINKS {
            match std::fs::read_link(&path) {
                Ok(next) => path = parent(&path).join(next),
                Err(_) => return Ok(path),
            }
        }
        Err(self.fail("too many links"))
    }
}

/// Whether a command that reads `input` reads the file at `path`. An earlier result in a folder that it reads is not
/// an input.
fn reads(input: &Path, path: &Path, there: &Metadata, ours: bool) -> bool {
    let Ok(read) = input.metadata() else {
        return false;
    };
    if !read.is_dir() {
        return same(input, &read, path, there);
    }
    if ours {
        return false;
    }
    let inside =
        matches!((path.canonicalize(), input.canonicalize()), (Ok(path), Ok(input)) if path.starts_with(&input));
    // A folder of links, as the hub's cache has them, reads files that are elsewhere.
    let mut entries = std::fs::read_dir(input).into_iter().flatten().flatten();
    inside
        || entries.any(|entry| {
            let read = entry.path().metadata();
            read.is_ok_and(|read| same(&entry.path(), &read, path, there))
        })
}

/// Whether two paths lead to the same file.
#[cfg(unix)]
fn same(_: &Path, one: &Metadata, _: &Path, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether two paths lead to the same file.
#[cfg(not(unix))]
fn same(one: &Path, _: &Metadata, other: &Path, _: &Metadata) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Whether standard output goes to this file. Opening a plain file a second time would overwrite what is printed.
#[cfg(unix)]
fn is_standard_output(there: &Metadata) -> bool {
    use std::os::fd::AsFd;
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    let output = output.and_then(|output| File::from(output).metadata());
    output.is_ok_and(|output| same(Path::new(""), &output, Path::new(""), there))
}

/// Whether this is what standard output goes to.
#[cfg(not(unix))]
fn is_standard_output(_: &Metadata) -> bool {
    false
}

/// Whether bytes are written to it one after the other. A disk is a device, too, but writing to it would destroy what
/// is on it.
#[cfg(unix)]
fn is_stream(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_fifo() || kind.is_char_device()
}

/// Whether something takes bytes one after the other.
#[cfg(not(unix))]
fn is_stream(_: FileType) -> bool {
    false
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|there| there.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_fifo(_: &Path) -> bool {
    false
}

fn open_stream(path: &Path) -> std::io::Result<File> {
    File::options().write(true).open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::whole::create_whole;
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn nobody(_: &Path) -> bool {
        false
    }

    fn starts_with_ours(path: &Path) -> bool {
        std::fs::read(path).is_ok_and(|content| content.starts_with(b"ours"))
    }

    fn output<'a>(path: &'a Path, inputs: &'a [PathBuf], force: bool) -> OutputFile<'a> {
        OutputFile {
            path,
            inputs,
            force,
            ours: starts_with_ours,
            access: Access::OPEN,
        }
    }

    fn write(path: &Path, content: &str) {
        std::fs::write(path, content).expect("a temporary folder is writable");
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn only_results_of_the_command_are_replaced_unless_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        write(&at("notes"), "the user's own");
        write(&at("result"), "ours, from yesterday");
        write(&at("empty"), "");
        let error = output(&at("notes"), &[], false).check().expect_err("not ours");
        assert!(error.to_string().contains("--force"), "{error}");
        assert!(output(&at("notes"), &[], false).write(b"new").is_err());
        assert_eq!(read(&at("notes")), "the user's own");
        for name in ["result", "empty", "new", "deep/er/new"] {
            output(&at(name), &[], false).check().expect(name);
            output(&at(name), &[], false).write(b"ours, from today").expect(name);
            assert_eq!(read(&at(name)), "ours, from today");
        }
        output(&at("notes"), &[], true).write(b"new").expect("it was allowed");
        assert_eq!(read(&at("notes")), "new");
    }

    #[test]
    fn what_the_command_reads_is_never_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["model", "blobs"] {
            std::fs::create_dir(at(name)).expect("writable");
        }
        write(&at("model/config.json"), "{}");
        write(&at("blobs/weights"), "weights");
        write(&at("corpus.txt"), "a text");
        symlink(at("blobs/weights"), at("model/model.safetensors")).expect("writable");
        symlink(at("corpus.txt"), at("link.json")).expect("writable");
        std::fs::hard_link(at("corpus.txt"), at("other_name.txt")).expect("writable");
        let inputs = [at("model"), at("corpus.txt"), at("missing")];
        for name in [
            "model/config.json",
            "model/../model/./config.json",
            "blobs/weights",
            "model/model.safetensors",
            "corpus.txt",
            "link.json",
            "other_name.txt",
        ] {
            let error = output(&at(name), &inputs, true).check().expect_err(name).to_string();
            assert!(error.contains("this command reads it"), "{name}: {error}");
            assert!(output(&at(name), &inputs, true).write(b"new").is_err(), "{name}");
        }
        assert_eq!(
            (read(&at("corpus.txt")), read(&at("blobs/weights"))),
            ("a text".into(), "weights".into())
        );
        output(&at("model/result.json"), &inputs, false)
            .write(b"ours")
            .expect("nobody's name");
        output(&at("model/result.json"), &inputs, false)
            .write(b"ours too")
            .expect("an earlier result");
    }

    #[test]
    fn links_stay_and_lead_to_the_result() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        write(&at("real"), "ours");
        symlink("real", at("link")).expect("writable");
        symlink("link", at("link to link")).expect("writable");
        symlink("not yet", at("dangling")).expect("writable");
        symlink("circle", at("circle")).expect("writable");
        output(&at("link to link"), &[], false).write(b"new").expect("writable");
        output(&at("dangling"), &[], false).write(b"new").expect("writable");
        assert_eq!((read(&at("real")), read(&at("not yet"))), ("new".into(), "new".into()));
        for link in ["link", "link to link", "dangling"] {
            assert!(at(link).is_symlink(), "{link}");
        }
        assert!(output(&at("circle"), &[], false).check().is_err());
    }

    #[test]
    fn devices_are_written_through_and_stay() {
        for (device, fails) in [("/dev/null", false), ("/dev/full", true)] {
            let path = Path::new(device);
            if !path.exists() {
                continue;
            }
            let output = OutputFile {
                ours: nobody,
                ..output(path, &[], false)
            };
            output.check().expect(device);
            assert_eq!(output.write(b"a result").is_err(), fails, "{device}");
            let kind = path.metadata().expect("it is there").file_type();
            assert!(kind.is_char_device(), "{device}");
        }
    }

    #[test]
    fn impossible_names_are_refused_before_the_work() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(&folder.path().join("file"), "a file");
        let long = "x".repeat(300);
        for name in ["", "file/below", "new/", "..", long.as_str()] {
            let error = output(&folder.path().join(name), &[], true).check().expect_err(name);
            assert_eq!(error.kind().exit_code(), 3, "{error}");
        }
        assert!(output(Path::new(""), &[], true).check().is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    /// Claim: what a file is checked and made with may be taken for left over by another process, between its creation and its lock;
    /// nobody notices.
    #[test]
    fn a_file_may_be_checked_and_made_while_others_remove_what_is_left_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        remove_unfinished(folder.path());
                    }
                });
            }
            let wrote: Vec<Result<()>> = (0..2000)
                .map(|index| {
                    let path = folder.path().join(format!("{}.json", index % 3));
                    let output = OutputFile {
                        path: &path,
                        inputs: &[],
                        force: true,
                        ours: |_| true,
                        access: Access::OPEN,
                    };
                    output.check()?;
                    std::fs::remove_file(&path).ok();
                    create_whole(&path, b"{}").map(drop)
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            let failed: Vec<String> = wrote
                .into_iter()
                .filter_map(|wrote| wrote.err().map(|error| error.to_string()))
                .collect();
            assert!(failed.is_empty(), "{} of 2000: {}", failed.len(), failed[0]);
        });
    }
}
