//! Claim: models and corpora named on the hub arrive whole in the cache that other programs share, whatever
//! happens on the way, and what cannot be had is refused with what to do. A hub that means ill gets nothing for it: no file
//! outside the cache, no token, no endless run.
//!
//! A server on the loopback interface plays the hub; every test has its own, and its own cache.

mod corpora;
mod hostile;
mod liveness;
mod models;
mod names;
mod secrets;
mod server;
mod trust;
#[path = "../tiny/mod.rs"]
mod tiny;

use server::Server;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use tiny::Folder;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = "models/org/tiny";

/// The tiny model's files, and others that zprune must leave alone.
fn model_files() -> BTreeMap<String, Vec<u8>> {
    let folder = Folder::new();
    let read = |name: &str| std::fs::read(folder.path("model").join(name)).expect("a file of the model");
    let mut files: BTreeMap<String, Vec<u8>> = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| (name.to_string(), read(name)))
        .into();
    for (name, content) in [
        ("generation_config.json", "{}"),
        ("pytorch_model.bin", "pickled"),
        ("onnx/config.json", "{}"),
        ("README.md", "---\nlicense: mit\n---\n# Tiny"),
    ] {
        files.insert(name.to_string(), content.into());
    }
    files
}

/// A folder whose experiment takes its model from the hub.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.replace("experiment.toml", "path = \"model\"", "hub = \"org/tiny\"");
    std::fs::remove_dir_all(folder.path("model")).expect("the model was there");
    folder
}

fn run(folder: &Folder, server: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = folder.zprune(arguments);
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(name);
    }
    for name in ["HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", folder.path("hf"))
        .env("HF_ENDPOINT", &server.address)
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

fn says(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[track_caller]
fn works(output: &Output) -> String {
    let text = says(output);
    assert!(output.status.success(), "{text}");
    text
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = says(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in parts {
        assert!(text.contains(part), "does not say `{part}`: {text}");
    }
}

const RUN: &[&str] = &["experiment.toml"];

fn snapshot(folder: &Folder) -> PathBuf {
    folder.path("hf/hub/models--org--tiny/snapshots").join(COMMIT)
}

/// All files and links under a folder, by relative path.
fn tree(root: &Path) -> Vec<String> {
    let (mut folders, mut found) = (vec![root.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() && !entry.path().is_symlink() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
