//! What is at a place where a model directory should be, and what to do about it.
//!
//! Messages only: a folder that lacks a configuration, weights or a tokenizer usually holds a model in another form, and
//! the user can make this one of it.

use crate::files::json;
use crate::files::names::quoted;
use crate::files::near;
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the file that an archive of `zprune compress` has, and no model.
pub const ARCHIVE: &str = "zprune-archive.json";

/// Most names that one message lists.
const LISTED: usize = 4;

/// What a program looked for in a folder and did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// A model: its `config.json`, or the whole folder.
    Model,
    /// Weights in safetensors files.
    Weights,
    /// The file `tokenizer.json`.
    Tokenizer,
}

/// A sentence that says what is at `path` instead, and how to get what is wanted; `None` if nothing useful can be
/// said.
pub fn instead(path: &Path, wanted: Sought) -> Option<String> {
    if path.is_file() {
        return Some(file(path));
    }
    if !path.is_dir() {
        return match path.exists() {
            true => Some("it is a pipe or a device; give the folder that holds the model".to_string()),
            // A slip is likelier than a model of the hub whose name is nearly that of a folder here.
            false => near::meant(path).or_else(|| repository(path)),
        };
    }
    let names = names(path);
    match wanted {
        Sought::Model => without_configuration(path, &names),
        Sought::Weights => Some(without_weights(path, &names)),
        Sought::Tokenizer => Some(without_tokenizer(&names)),
    }
}

/// The names in a folder, sorted; names of folders end with a slash.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() { name + "/" } else { name }
    };
    entries.map(name).collect()
}

fn having<'a>(names: &'a BTreeSet<String>, of_kind: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
    names.iter().map(String::as_str).filter(move |name| of_kind(name))
}

/// The first few names, in backquotes.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(LISTED) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..LISTED].join(", ")),
    }
}

fn import(folder: &Path, file: &str) -> String {
    format!(
        "make a model folder of it with `zprune import {} --out DIR`",
        quoted(&folder.join(file))
    )
}

/// What to say about a file in place of a folder.
fn file(path: &Path) -> String {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.extension().is_some_and(|extension| extension == "gguf") {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return format!("it is a GGUF file; {}", import(folder, &name));
    }
    format!(
        "it is a file; give the folder that holds config.json, tokenizer.json and the weights, such as {}",
        quoted(folder)
    )
}

/// What to say about a path that does not exist and looks like a name on the hub; `None` for other paths.
fn repository(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if let Some(name) = text.strip_prefix("hub:") {
        return Some(format!(
            "this command takes a folder of this machine: `huggingface-cli download {name} --local-dir DIR` makes one"
        ));
    }
    let name = ["https://huggingface.co/", "http://huggingface.co/", "huggingface.co/"]
        .iter()
        .find_map(|address| text.strip_prefix(address))
        .unwrap_or(text)
        .trim_end_matches('/');
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| {
        let known = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c));
        known && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    if parts.len() > 2 || !parts.iter().all(plain) {
        return None;
    }
    let (repository, revision) = name
        .split_once('@')
        .map_or((name, None), |(name, revision)| (name, Some(revision)));
    let revision = revision.map_or(String::new(), |revision| format!(", `revision = \"{revision}\"`"));
    Some(format!(
        "if it is a model of the Hugging Face hub, write `hub:{name}` (in a [[model]] of an experiment file \
         `hub = \"{repository}\"`{revision} instead of `path`)"
    ))
}

/// What to say about an archive in place of a model.
pub fn archive(folder: &Path) -> String {
    format!(
        "it is an archive and no model: `zprune expand {} --out DIR` restores the model",
        quoted(folder)
    )
}

/// What to say about a model in a form that cannot be read, whichever form that is.
fn other_form(folder: &Path, names: &BTreeSet<String>) -> Option<String> {
    let save = "load it with transformers and write it out again with `save_pretrained(DIR)`";
    if names.contains(ARCHIVE) {
        return Some(archive(folder));
    }
    if names.contains("adapter_config.json") {
        let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap_or_default();
        let settings: serde_json::Value = serde_json::from_str(&json::standard(&text)).unwrap_or_default();
        let of = settings.get("base_model_name_or_path").and_then(|base| base.as_str());
        return Some(format!(
            "there is an adapter only (`adapter_config.json`{}); merge it into its model with peft's \
             `merge_and_unload()`, then `save_pretrained(DIR)`",
            of.map_or(String::new(), |base| format!(", of `{base}`"))
        ));
    }
    let gguf = having(names, |name| name.ends_with(".gguf")).next();
    if let Some(file) = gguf {
        return Some(format!("there is `{file}`; {}", import(folder, file)));
    }
    let original = |name: &str| name.starts_with("consolidated.") || name == "params.json";
    if having(names, original).next().is_some() {
        return Some(format!(
            "there is the original release's form ({}); take the same model in the form of transformers, with \
             model.safetensors, or convert it with transformers' conversion script for its family",
            listed(having(names, original))
        ));
    }
    let pickled = |name: &str| {
        let ending = [".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"]
            .iter()
            .any(|ending| name.ends_with(ending));
        ending && !["training_args.bin", "optimizer.pt", "scheduler.pt"].contains(&name)
    };
    if having(names, pickled).next().is_some() {
        return Some(format!(
            "there are weights in PyTorch's own format ({}), which can hold programs and are not read; {save}",
            listed(having(names, pickled))
        ));
    }
    let foreign = |name: &str| name.ends_with(".h5") || name.ends_with(".msgpack") || name.ends_with(".onnx");
    having(names, foreign).next().is_some().then(|| {
        format!(
            "there are weights for another program ({}); {save}",
            listed(having(names, foreign))
        )
    })
}

fn without_configuration(folder: &Path, names: &BTreeSet<String>) -> Option<String> {
    if names.is_empty() {
        return Some("the folder is empty".to_string());
    }
    if let Some(form) = other_form(folder, names) {
        return Some(form);
    }
    // One level too high, or in the hub's cache, whose folders lie three levels down.
    let below = |prefix: &str| -> Vec<String> {
        let within = self::names(&folder.join(prefix));
        let folders = within.into_iter().filter(|name| name.ends_with('/'));
        let with_model = folders.filter(|name| folder.join(prefix).join(name).join("config.json").exists());
        with_model.map(|name| format!("{prefix}{name}")).collect()
    };
    let inside: Vec<String> = [below(""), below("snapshots/")].concat();
    if let Some(first) = inside.first() {
        return Some(format!(
            "the model is in a folder below ({}); give {}",
            listed(inside.iter().map(String::as_str)),
            quoted(Path::new(folder.join(first).to_string_lossy().trim_end_matches('/')))
        ));
    }
    let found = listed(names.iter().map(String::as_str));
    if having(names, |name| name.ends_with(".safetensors")).next().is_some() {
        return Some(format!(
            "there are weights without the configuration that belongs to them ({found})"
        ));
    }
    if having(names, |name| name.starts_with("tokenizer")).next().is_some() {
        return Some(format!(
            "there is a tokenizer only ({found}); put config.json and the weights beside it"
        ));
    }
    Some(format!(
        "there is only {found}; a model has config.json, tokenizer.json and weights"
    ))
}

fn without_weights(folder: &Path, names: &BTreeSet<String>) -> String {
    let variant = |name: &str| {
        // model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, model.safetensors.index.fp16.json
        let rest = name.strip_prefix("model.").unwrap_or("safetensors");
        (rest.ends_with(".safetensors") || rest.ends_with(".json")) && rest != "safetensors.index.json"
    };
    let part = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
    if having(names, variant).next().is_some() {
        return format!(
            "there is a variant of them ({}); rename its files to model.safetensors, or for several \
             model.safetensors.index.json and what it names, if this variant is meant",
            listed(having(names, variant))
        );
    }
    if having(names, part).next().is_some() {
        return format!(
            "there are shards ({}) without model.safetensors.index.json, which says what is in which; get that file too",
            listed(having(names, part))
        );
    }
    if let Some(form) = other_form(folder, names) {
        return form;
    }
    let stored = || having(names, |name| name.ends_with(".safetensors"));
    if stored().next().is_some() {
        return format!(
            "there is {} under a name that transformers does not look for; rename it if these are the weights",
            listed(stored())
        );
    }
    format!(
        "the folder has no weights at all ({}); get model.safetensors from where the model is from",
        listed(names.iter().map(String::as_str))
    )
}

fn without_tokenizer(names: &BTreeSet<String>) -> String {
    let slow = |name: &str| {
        [
            "tokenizer.model",
            "spiece.model",
            "vocab.json",
            "merges.txt",
            "vocab.txt",
            "tokenizer_config.json",
        ]
        .contains(&name)
    };
    if having(names, slow).next().is_some() {
        return format!(
            "there is its older form ({}); load it with transformers' AutoTokenizer, which converts it, and \
             `save_pretrained(DIR)` into the model's folder",
            listed(having(names, slow))
        );
    }
    format!(
        "the folder has no tokenizer in any form ({}); get tokenizer.json from where the model is from",
        listed(names.iter().map(String::as_str))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("writable");
            std::fs::write(path, "{\"base_model_name_or_path\": \"org/base\", \"x\": NaN}").expect("writable");
        }
        folder
    }

    #[test]
    fn what_was_found_is_named_with_what_to_do() {
        use Sought::{Model, Tokenizer, Weights};
        let cases: &[(&[&str], Sought, &[&str])] = &[
            (&[], Model, &["the folder is empty"]),
            (
                &["config.json", "pytorch_model.bin"],
                Weights,
                &["`pytorch_model.bin`", "save_pretrained"],
            ),
            (
                &["config.json", "model.pt", "training_args.bin"],
                Weights,
                &["(`model.pt`)", "save_pretrained"],
            ),
            (
                &["config.json", "consolidated.00.pth"],
                Weights,
                &["`consolidated.00.pth`", "conversion script"],
            ),
            (
                &["params.json", "consolidated.safetensors"],
                Model,
                &["`consolidated.safetensors`, `params.json`"],
            ),
            (
                &["adapter_config.json", "adapter_model.safetensors"],
                Model,
                &["of `org/base`", "merge_and_unload"],
            ),
            (
                &["config.json", "adapter_config.json", "adapter_model.bin"],
                Weights,
                &["merge_and_unload"],
            ),
            (
                &["config.json", "model.fp16.safetensors"],
                Weights,
                &["`model.fp16.safetensors`", "rename"],
            ),
            (
                &["config.json", "model.safetensors.index.bf16.json"],
                Weights,
                &["variant", "rename"],
            ),
            (
                &["config.json", "model-00001-of-00002.safetensors"],
                Weights,
                &["without model.safetensors.index.json"],
            ),
            (
                &["config.json", "weights.safetensors"],
                Weights,
                &["`weights.safetensors`", "rename"],
            ),
            (
                &["config.json", "tf_model.h5"],
                Weights,
                &["`tf_model.h5`", "save_pretrained"],
            ),
            (
                &["a model-Q4.gguf"],
                Model,
                &["zprune import '", "a model-Q4.gguf' --out"],
            ),
            (
                &["inner/config.json", "other/x"],
                Model,
                &["a folder below (`inner/`)", "inner"],
            ),
            (
                &["snapshots/0123/config.json", "refs/main"],
                Model,
                &["`snapshots/0123/`"],
            ),
            (
                &["tokenizer.json", "tokenizer_config.json"],
                Model,
                &["a tokenizer only"],
            ),
            (&["model.safetensors"], Model, &["weights without the configuration"]),
            (&["notes.txt"], Model, &["there is only `notes.txt`"]),
            (
                &["config.json", "model.safetensors"],
                Tokenizer,
                &[
                    "no tokenizer in any form (`config.json`, `model.safetensors`)",
                    "get tokenizer.json",
                ],
            ),
            (
                &["config.json", "tokenizer.json"],
                Weights,
                &[
                    "no weights at all (`config.json`, `tokenizer.json`)",
                    "get model.safetensors",
                ],
            ),
            (
                &["config.json", "tokenizer.model"],
                Tokenizer,
                &["`tokenizer.model`", "AutoTokenizer"],
            ),
        ];
        for (files, wanted, expect) in cases {
            let folder = folder(files);
            let said = instead(folder.path(), *wanted).expect("something is there");
            for part in *expect {
                assert!(said.contains(part), "{files:?}: `{said}` does not say `{part}`");
            }
        }
    }

    #[test]
    fn files_and_names_of_the_hub_are_recognised() {
        let folder = folder(&["my model/config.json", "x.gguf"]);
        let said = |name: &str| instead(&folder.path().join(name), Sought::Model).unwrap_or_default();
        assert!(
            said("my model/config.json").contains("my model'"),
            "{}",
            said("my model/config.json")
        );
        assert!(said("x.gguf").contains("zprune import"), "{}", said("x.gguf"));
        assert_eq!(instead(Path::new("/no/such/folder"), Sought::Model), None);
        #[cfg(unix)]
        {
            let said = instead(Path::new("/dev/null"), Sought::Model).expect("a device");
            assert!(said.contains("a pipe or a device"), "{said}");
        }
        assert_eq!(instead(Path::new("./a/b"), Sought::Model), None);
        for name in ["org/name", "https://huggingface.co/org/name/"] {
            let said = instead(Path::new(name), Sought::Model).expect("a name of the hub");
            assert!(
                said.contains("`hub:org/name`") && said.contains("`hub = \"org/name\"`"),
                "{said}"
            );
        }
        let said = instead(Path::new("org/name@v1"), Sought::Model).expect("a name of the hub");
        assert!(said.contains("`hub = \"org/name\"`, `revision = \"v1\"`"), "{said}");
    }
}
