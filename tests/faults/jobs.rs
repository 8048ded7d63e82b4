//! The commands that write something, each in a folder where it can run.

use crate::tiny::Folder;
use crate::traced;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A command.
pub struct Job {
    arguments: &'static [&'static str],
    /// Commands that come before it.
    before: &'static [&'static [&'static str]],
    /// The file or folder it makes.
    pub makes: &'static str,
}

/// Cells of the experiment: dense, Wanda, SparseGPT.
pub const CELLS: usize = 3;

const PRUNE: &[&str] = &[
    "prune",
    "--model",
    "model",
    "--method",
    "wanda",
    "--sparsity",
    "0.5",
    "--calibration",
    "calibration.jsonl",
    "--sampling",
    "documents",
    "--sequences",
    "4",
    "--length",
    "16",
    "--out",
    "pruned",
];
const COMPRESS: &[&str] = &["compress", "pruned", "--out", "archive"];

const MEASURE: &[&str] = &[
    "eval",
    "--model",
    "pruned",
    "--corpus",
    "novel.txt",
    "--length",
    "16",
    "--windows",
    "4",
    "--json",
    "measured.json",
];

/// All cells of a sweep, by their ids: then it writes no report, which takes longer than everything else and is a job of its
/// own here.
pub const SWEEP: Job = Job {
    arguments: &["run", "experiment.toml"],
    before: &[],
    makes: "results/tiny",
};

pub const PRUNING: Job = Job {
    arguments: PRUNE,
    before: &[],
    makes: "pruned",
};

pub const CARD: Job = Job {
    arguments: &["card", "pruned", "--measured", "measured.json"],
    before: &[PRUNE, MEASURE],
    makes: "pruned/README.md",
};

pub const ARCHIVE: Job = Job {
    arguments: COMPRESS,
    before: &[PRUNE],
    makes: "archive",
};

pub const EXPANSION: Job = Job {
    arguments: &["expand", "archive", "--out", "expanded"],
    before: &[PRUNE, COMPRESS],
    makes: "expanded",
};

pub const TOKENS: Job = Job {
    arguments: &["tokens", "experiment.toml", "--out", "tokens"],
    before: &[],
    makes: "tokens",
};

pub const STATISTICS: Job = Job {
    arguments: &[
        "export-statistics",
        "--model",
        "model",
        "--calibration",
        "calibration.jsonl",
        "--sequences",
        "4",
        "--length",
        "16",
        "--gram",
        "--out",
        "statistics.safetensors",
    ],
    before: &[],
    makes: "statistics.safetensors",
};

pub const REPORT: Job = Job {
    arguments: &["report", "results/tiny"],
    before: &[],
    makes: "results/tiny",
};

pub const MERGE: Job = Job {
    arguments: &["merge", "results/tiny", "--into", "merged"],
    before: &[],
    makes: "merged",
};

pub const ROTATION: Job = Job {
    arguments: &[
        "rotate",
        "model",
        "--rotation",
        "rotation.safetensors",
        "--out",
        "turned",
    ],
    before: &[],
    makes: "turned",
};

pub const IMPORT: Job = Job {
    arguments: &["import", "model.gguf", "--out", "imported"],
    before: &[],
    makes: "imported",
};

pub const EXPORT: Job = Job {
    arguments: &["export", "model", "--out", "exported.gguf"],
    before: &[],
    makes: "exported.gguf",
};

pub const EVALUATION: Job = Job {
    arguments: &[
        "eval",
        "--model",
        "model",
        "--corpus",
        "novel.txt",
        "--length",
        "16",
        "--windows",
        "4",
        "--json",
        "found.json",
    ],
    before: &[],
    makes: "found.json",
};

/// Files, and folders without content, by their paths in a folder.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Job {
    /// What follows the program's name.
    pub fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = self.arguments.to_vec();
        if self.arguments[0] == "run" {
            arguments.extend(cells().iter().flat_map(|id| ["--cell", id]));
        }
        arguments
    }

    /// What the program is told to do.
    pub fn name(&self) -> &'static str {
        self.arguments[0]
    }

    /// A folder where the job has all it needs, and what is not its business.
    pub fn folder(&self) -> Folder {
        let folder = Folder::new();
        folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0]");
        folder.replace("experiment.toml", ", { keep = 2, of = 4 }", "");
        let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/q8_0.gguf");
        std::fs::copy(gguf, folder.path("model.gguf")).expect("a file of the repository");
        folder.write("rotation.safetensors", rotation());
        for arguments in self.before {
            let output = folder.zprune(arguments).output().expect("the program starts");
            assert!(output.status.success(), "{output:?}");
        }
        if ["report", "merge"].contains(&self.arguments[0]) {
            // A sweep without its report.
            let swept = SWEEP.folder();
            let done = traced::run(&root(&swept), &SWEEP.arguments(), "none");
            assert_eq!(done.code, 0, "{}", done.stderr);
            for name in ["plan.toml", "runs.jsonl"] {
                let content = std::fs::read(swept.path("results/tiny").join(name)).expect("a sweep leaves it");
                std::fs::create_dir_all(folder.path("results/tiny")).expect("writable");
                folder.write(format!("results/tiny/{name}"), content);
            }
        }
        for foreign in [
            "results/tiny/notes.md",
            "results/other/keep.txt",
            "pruned-by-hand/model.safetensors",
        ] {
            std::fs::create_dir_all(folder.path(foreign).parent().expect("it has one")).expect("writable");
            folder.write(foreign, "somebody else's");
        }
        folder
    }

    /// What the job has made in a folder, in a form that is the same for every run that did the same.
    pub fn made(&self, folder: &Path) -> Tree {
        let mut tree = tree(folder);
        tree.retain(|path, _| path.starts_with(self.makes) && !is_rescued(path));
        // Who was when at which cell, and which files were about to be written: a run that goes on adds to them.
        tree.remove(Path::new("results/tiny/events.jsonl"));
        tree.remove(Path::new("results/tiny/written.jsonl"));
        // A claim that could not be removed does no harm.
        tree.remove(Path::new("results/tiny/claims"));
        if let Some(Some(lines)) = tree.get_mut(&Path::new(self.makes).join("runs.jsonl")) {
            // A cell that failed, or whose record was withdrawn, is run again and then has the same record.
            let mut good = timeless(lines);
            good.retain(|record| is_good(record));
            good.dedup();
            *lines = good.join("\n").into_bytes();
        }
        tree
    }
}

/// A rotation of the tiny model: its features in the opposite order.
fn rotation() -> Vec<u8> {
    let config = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/config.json"));
    let config: Value = serde_json::from_slice(&config.expect("a file of the repository")).expect("JSON");
    let width = config["hidden_size"].as_u64().expect("a size") as usize;
    let bytes: Vec<u8> = (0..width * width)
        .flat_map(|at| (f32::from(u8::from(at / width + at % width == width - 1))).to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![width, width], &bytes).expect("bytes fit the shape");
    safetensors::serialize([("residual", view)], None).expect("a small file")
}

/// The ids of the experiment's cells.
fn cells() -> &'static [String] {
    static CELL_IDS: OnceLock<Vec<String>> = OnceLock::new();
    CELL_IDS.get_or_init(|| {
        let folder = EVALUATION.folder();
        let plan = folder.zprune(&["plan", "experiment.toml", "--json"]).output();
        let plan: Value = serde_json::from_slice(&plan.expect("the program starts").stdout).expect("a plan is JSON");
        let cells = plan["cells"].as_array().expect("a plan has cells").iter();
        let ids: Vec<String> = cells
            .map(|cell| cell["id"].as_str().expect("all files are there").to_string())
            .collect();
        assert_eq!(ids.len(), CELLS);
        ids
    })
}

/// The records in these bytes without where and when they were made, in the order of their cells; only whole lines.
pub fn timeless(lines: &[u8]) -> Vec<String> {
    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&lines[..end]).expect("records are UTF-8");
    let mut records: Vec<String> = text.lines().map(timeless_line).collect();
    records.sort();
    records
}

fn timeless_line(line: &str) -> String {
    let mut record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let fields = record.as_object_mut().expect("a record is an object");
    fields.remove("run").expect("a record says how it ran");
    // The checksum of all of it.
    fields.remove("check");
    record.to_string()
}

/// Whether records were put here because the file that is to hold them could not be read. The message says so, and they are
/// the user's to append.
pub fn is_rescued(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("runs.rescued-"))
}

/// Whether a record says that its cell went well; one that did not, and one that withdraws another, is run again.
pub fn is_good(record: &str) -> bool {
    record.contains("\"status\":\"ok\"")
}

/// The folder's own path.
pub fn root(folder: &Folder) -> PathBuf {
    let file = folder.path("experiment.toml");
    file.parent().expect("it is in the folder").to_path_buf()
}

/// Everything in a folder.
pub fn tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(folder).expect("it is in the folder").to_path_buf();
            if path.is_dir() {
                tree.insert(name, None);
                folders.push(path);
            } else {
                tree.insert(name, Some(std::fs::read(&path).expect("readable")));
            }
        }
    }
    tree
}

/// Lays a tree out in an empty folder.
pub fn lay_out(tree: &Tree, folder: &Path) {
    // A folder comes before what is in it.
    for (name, content) in tree {
        let path = folder.join(name);
        match content {
            None => std::fs::create_dir(&path).expect("writable"),
            Some(bytes) => std::fs::write(&path, bytes).expect("writable"),
        }
    }
}
