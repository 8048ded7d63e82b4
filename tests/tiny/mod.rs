//! A tiny language model, its corpora and an experiment in a temporary folder, and the program started there.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A stored tensor.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A checkpoint's tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The content of files, by path.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Tensor {
    /// A tensor of single-precision values.
    pub fn new(shape: &[usize], values: impl Iterator<Item = f32>) -> Tensor {
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        assert_eq!(bytes.len(), 4 * shape.iter().product::<usize>());
        Tensor {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes,
        }
    }
}

/// Random weights for `tests/fixtures/tiny/config.json`.
pub fn weights() -> Tensors {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        // Norms have gain 1, matrices are uniform with a standard deviation of 0.12.
        let mut value = |_| {
            if shape.len() == 1 {
                1.0
            } else {
                0.4 * (random.random::<f32>() - 0.5)
            }
        };
        tensors.insert(name, Tensor::new(shape, (0..shape.iter().product()).map(&mut value)));
    };
    add("model.embed_tokens.weight".into(), &[259, 32]);
    for block in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[32][..]),
            ("self_attn.q_proj", &[32, 32]),
            ("self_attn.k_proj", &[16, 32]),
            ("self_attn.v_proj", &[16, 32]),
            ("self_attn.o_proj", &[32, 32]),
            ("post_attention_layernorm", &[32]),
            ("mlp.gate_proj", &[64, 32]),
            ("mlp.up_proj", &[64, 32]),
            ("mlp.down_proj", &[32, 64]),
        ] {
            add(format!("model.layers.{block}.{name}.weight"), shape);
        }
    }
    add("model.norm.weight".into(), &[32]);
    tensors
}

/// Writes tensors to a safetensors file.
pub fn save(tensors: &Tensors, path: &Path) {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("bytes fit the shape");
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).expect("a small checkpoint");
    std::fs::write(path, bytes).expect("the temporary folder is writable");
}

/// Random words, about six bytes each, twelve to a line.
pub fn text(seed: u64, words: usize) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::new();
    for index in 1..=words {
        for _ in 0..random.random_range(2..8) {
            text.push(char::from(random.random_range(b'a'..=b'z')));
        }
        text.push(if index % 12 == 0 { '\n' } else { ' ' });
    }
    text
}

/// A temporary folder in which `zprune experiment.toml` works.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Lays out the model, the corpora and the experiment.
    pub fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        std::fs::create_dir(folder.path("model")).expect("the temporary folder is writable");
        for (from, to) in [
            ("config.json", "model/config.json"),
            ("tokenizer.json", "model/tokenizer.json"),
            ("experiment.toml", "experiment.toml"),
        ] {
            std::fs::copy(fixtures.join(from), folder.path(to)).expect("fixtures are in the repository");
        }
        save(&weights(), &folder.path("model/model.safetensors"));
        let documents = (0..6).map(|seed| format!("{}\n", serde_json::json!({ "text": text(seed, 20) })));
        folder.write("calibration.jsonl", documents.collect::<String>());
        folder.write("novel.txt", text(100, 100));
        folder
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("the temporary folder is writable");
    }

    /// Replaces the one occurrence of `old` in a text file.
    pub fn replace(&self, name: &str, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.path(name)).expect("a fixture is UTF-8");
        assert_eq!(text.matches(old).count(), 1, "`{old}` must occur once in {name}");
        self.write(name, text.replace(old, new));
    }

    /// The program, about to be started in the folder.
    pub fn zprune(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zprune"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .env_remove("ZPRUNE_LOG")
            .env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs the experiment to its end.
    pub fn run(&self) -> Output {
        self.zprune(&["experiment.toml"]).output().expect("the program starts")
    }

    /// Every file under `results`, by its path in the folder.
    pub fn results(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.path("results")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("a readable folder").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = std::fs::read(&path).expect("a readable file");
                    files.insert(
                        path.strip_prefix(&self.0).expect("a path in the folder").to_path_buf(),
                        content,
                    );
                }
            }
        }
        files
    }
}
