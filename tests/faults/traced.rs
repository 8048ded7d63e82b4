//! The program under `tracer.c`: what it did to the files of a folder, and what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file or folder, as the file system numbers it.
pub type Inode = u64;

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub folder: Inode,
    pub name: String,
}

/// An operation that changed something, or was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Create(Place, Inode),
    Folder(Place, Inode),
    Link(Place, Inode),
    Write {
        file: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate(Inode, u64),
    Sync(Inode),
    Rename(Place, Place),
    Remove(Place),
    /// Something was written to standard output or standard error.
    Said(String),
    /// The tracer made an operation fail: its letter, the number of the system call, and the path.
    Failed(String, PathBuf),
}

/// How a run went.
#[derive(Debug)]
pub struct Traced {
    pub operations: Vec<Operation>,
    /// The exit code, or 128 and the signal.
    pub code: i32,
    /// Operations that could have failed with the error asked for.
    pub failable: usize,
    pub stdout: String,
    pub stderr: String,
}

impl Traced {
    /// The operations that the tracer made fail.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Failed(what, path) => Some((what.as_str(), path.as_path())),
            _ => None,
        })
    }
}

/// Compiles the tracer, once.
fn tracer() -> &'static Path {
    static TRACER: OnceLock<PathBuf> = OnceLock::new();
    TRACER.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/tracer.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tracer-{}", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O1", "-Wall", "-Wextra", "-o"])
            .arg(&program)
            .arg(source);
        let status = compiler
            .status()
            .expect("a C compiler, which building zprune needs as well");
        assert!(status.success(), "tracer.c does not compile");
        program
    })
}

/// Runs zprune in `folder` and watches what it does to files there; `fault` is as in `tracer.c`.
pub fn run(folder: &Path, arguments: &[&str], fault: &str) -> Traced {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("operations-{}-{number}", std::process::id()));
    let output = Command::new(tracer())
        .arg(&log)
        .arg(folder)
        .args([fault, env!("CARGO_BIN_EXE_zprune")])
        .args(arguments)
        .current_dir(folder)
        .env_remove("ZPRUNE_LOG")
        .env("RUST_BACKTRACE", "0")
        // The same operations in the same order, and a thread for every core of the machine would only be in the way.
        .env("RAYON_NUM_THREADS", "1")
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .output()
        .expect("the tracer starts");
    let bytes = std::fs::read(&log).expect("the tracer leaves a log");
    std::fs::remove_file(&log).expect("the log can be removed");
    let mut traced = parse(&bytes);
    traced.stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    traced.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let whole = traced.code >= 0 && !traced.stderr.contains("tracer: ");
    assert!(whole, "{fault} {arguments:?}: {}", traced.stderr);
    traced
}

/// Reads a log.
fn parse(mut rest: &[u8]) -> Traced {
    let mut traced = Traced {
        operations: Vec::new(),
        code: -1,
        failable: 0,
        stdout: String::new(),
        stderr: String::new(),
    };
    while !rest.is_empty() {
        let line = take(&mut rest, b'\n');
        let line = String::from_utf8(line.to_vec()).expect("paths of the tests are UTF-8");
        let (kind, text) = line.split_at(2);
        let operation = match kind {
            "C " => with_inode(text, Operation::Create),
            "D " => with_inode(text, Operation::Folder),
            "L " => with_inode(text, Operation::Link),
            "W " => {
                let [file, offset, length] = numbers(text);
                Operation::Write {
                    file,
                    offset,
                    bytes: take_bytes(&mut rest, length),
                }
            }
            "T " => {
                let [file, size] = numbers(text);
                Operation::Truncate(file, size)
            }
            "S " => {
                let [inode] = numbers(text);
                Operation::Sync(inode)
            }
            "R " => {
                let (from, to) = text.split_once('\t').expect("two places");
                Operation::Rename(place(from), place(to))
            }
            "U " => Operation::Remove(place(text)),
            "E " => {
                let [length] = numbers(text);
                Operation::Said(String::from_utf8_lossy(&take_bytes(&mut rest, length)).into_owned())
            }
            "! " => {
                let mut parts = text.splitn(3, ' ');
                let what = parts.by_ref().take(2).collect::<Vec<_>>().join(" ");
                Operation::Failed(what, parts.next().unwrap_or_default().into())
            }
            "= " => {
                let [code, failable] = numbers(text);
                traced.code = code as i32;
                traced.failable = failable as usize;
                continue;
            }
            _ => panic!("not a line of the tracer's log: {line}"),
        };
        traced.operations.push(operation);
    }
    traced
}

fn take<'a>(rest: &mut &'a [u8], end: u8) -> &'a [u8] {
    let length = rest.iter().position(|byte| *byte == end).expect("a whole log");
    let (line, behind) = rest.split_at(length);
    *rest = &behind[1..];
    line
}

fn take_bytes(rest: &mut &[u8], length: u64) -> Vec<u8> {
    let (bytes, behind) = rest.split_at(length as usize);
    *rest = &behind[1..];
    bytes.to_vec()
}

fn numbers<const N: usize>(text: &str) -> [u64; N] {
    let numbers: Vec<u64> = text.split(' ').map(|it| it.parse().expect("a number")).collect();
    numbers.try_into().expect("as many numbers as the operation has")
}

fn place(text: &str) -> Place {
    let (folder, name) = text.split_once(' ').expect("a folder and a name");
    Place {
        folder: folder.parse().expect("a number"),
        name: name.to_string(),
    }
}

fn with_inode(text: &str, operation: fn(Place, Inode) -> Operation) -> Operation {
    let (at, inode) = text.split_once('\t').expect("a place and a number");
    operation(place(at), inode.parse().expect("a number"))
}
