//! Claim: `prune` writes the files that it found, in the layout that it found, and nothing that links smuggle in.

use super::tiny::{self, Folder, Tensors};
use super::{PRUNE, refused, run, works};
use std::path::Path;

/// A weight file with its header in an order and with spaces of its own, as other programs write them.
pub fn file(tensors: &Tensors, metadata: &str) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        let (start, shape) = (data.len(), &tensor.shape);
        data.extend(&tensor.bytes);
        let end = data.len();
        entries.push(format!(
            "\"{name}\": {{ \"shape\": {shape:?}, \"data_offsets\": [{start}, {end}], \"dtype\": \"{:?}\" }}",
            tensor.dtype
        ));
    }
    entries.reverse();
    let header = format!("{{{}, \"__metadata__\": {metadata} }}     ", entries.join(",  "));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Puts the checkpoint into so many shards, with an index that says more than it must.
pub fn shard(folder: &Folder, shards: usize) {
    let mut rest = tiny::weights();
    let mut map = serde_json::Map::new();
    let most = rest.len().div_ceil(shards);
    for number in 1..=shards {
        let name = format!("model-{number:05}-of-{shards:05}.safetensors");
        let later = rest.keys().nth(most).cloned().map(|first| rest.split_off(&first));
        map.extend(rest.keys().map(|tensor| (tensor.clone(), name.clone().into())));
        folder.write(
            format!("model/{name}"),
            file(&rest, "{\"format\": \"pt\", \"b\": \"2\", \"a\": \"1\"}"),
        );
        rest = later.unwrap_or_default();
    }
    assert!(rest.is_empty());
    std::fs::remove_file(folder.path("model/model.safetensors")).expect("there");
    let index = serde_json::json!({
        "metadata": {"total_parameters": 29_504, "total_size": 118_016, "note": "ours"},
        "weight_map": map,
    });
    folder.write("model/model.safetensors.index.json", format!("{index:#}\n\n"));
}

#[test]
fn the_layout_that_was_found_is_written() {
    for shards in [1, 3] {
        let folder = Folder::new();
        shard(&folder, shards);
        let pruned = PRUNE.replace("--out out", "--out pruned");
        works(&run(&folder, &pruned));
        let index = "model.safetensors.index.json";
        let read = |name: &str| std::fs::read(folder.path(name).join(index)).expect("there is an index");
        assert_eq!(read("model"), read("pruned"), "{shards} shards");
        let text = works(&run(&folder, "verify pruned --against model"));
        assert!(
            text.contains(&format!("{} files are what zprune wrote", shards + 4)),
            "{text}"
        );
        works(&run(
            &folder,
            "eval --model pruned --corpus novel.txt --length 16 --windows 4",
        ));
    }
}

#[test]
fn of_equal_copies_the_one_stays_that_the_index_names() {
    const NORM: &str = "model.norm.weight";
    for named in ["first.safetensors", "second.safetensors"] {
        let folder = Folder::new();
        let mut first = tiny::weights();
        let second = first.split_off("model.layers.1");
        first.insert(NORM.into(), second[NORM].clone());
        let metadata = "{\"format\": \"pt\"}";
        folder.write("model/first.safetensors", file(&first, metadata));
        folder.write("model/second.safetensors", file(&second, metadata));
        std::fs::remove_file(folder.path("model/model.safetensors")).expect("there");
        let place = |name: &String| match name {
            name if name == NORM => named,
            name if first.contains_key(name) => "first.safetensors",
            _ => "second.safetensors",
        };
        let map: serde_json::Map<String, serde_json::Value> = first
            .keys()
            .chain(second.keys())
            .map(|name| (name.clone(), place(name).into()))
            .collect();
        let index = serde_json::json!({ "weight_map": map });
        folder.write("model/model.safetensors.index.json", index.to_string());
        works(&run(&folder, &PRUNE.replace("--out out", "--out pruned")));
        works(&run(&folder, "verify pruned --against model"));
        for (name, file) in &map {
            let file = file.as_str().expect("a file");
            let bytes = std::fs::read(folder.path("pruned").join(file)).expect("the index names it");
            let held = safetensors::SafeTensors::deserialize(&bytes).expect("a weight file");
            assert!(held.tensor(name).is_ok(), "{named}: {name} is not in {file}");
        }
    }
}

#[test]
fn tokens_from_a_file_need_no_tokenizer() {
    let folder = Folder::new();
    let ids: Vec<u32> = (0..64).map(|id| id * 3 % 259).collect();
    let windows = zprune::data::windows::TokenWindows::new(ids, 16).expect("four windows");
    windows.write(&folder.path("tokens.safetensors")).expect("writable");
    let eval = "eval --model model --tokens tokens.safetensors";
    let with = works(&run(&folder, eval));
    std::fs::remove_file(folder.path("model/tokenizer.json")).expect("there");
    let without = works(&run(&folder, eval));
    assert!(with.contains("perplexity") && with == without, "{with}{without}");
    refused(
        &folder,
        "eval --model model --corpus novel.txt --length 16",
        2,
        &["model/tokenizer.json` is not there; the folder has no tokenizer in any form"],
    );
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_of_the_directory_are_not_copied_unasked() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    folder.write("secret", "a private key");
    symlink("../secret", folder.path("model/LICENSE")).expect("writable");
    let expect: &[&str] = &[
        "model/LICENSE: is a link to ",
        "outside of the model folder",
        "--follow-links",
    ];
    refused(&folder, PRUNE, 2, expect);
    refused(&folder, "compress model --out out", 2, expect);
    for (command, out) in [
        (PRUNE.replace("--out out", "--out pruned"), "pruned"),
        ("compress model --out archive".into(), "archive"),
    ] {
        works(&run(&folder, &format!("{command} --follow-links")));
        let copied = std::fs::read(folder.path(out).join("LICENSE")).expect("somebody asked for it");
        assert_eq!(copied, b"a private key");
    }
    // In a folder below, only `compress` copies.
    std::fs::remove_file(folder.path("model/LICENSE")).expect("there");
    std::fs::create_dir(folder.path("model/assets")).expect("writable");
    symlink("../../secret", folder.path("model/assets/key.json")).expect("writable");
    works(&run(&folder, &PRUNE.replace("--out out", "--out second")));
    assert!(!folder.path("second/assets").exists());
    refused(
        &folder,
        "compress model --out out",
        2,
        &["model/assets/key.json: is a link to "],
    );
    std::fs::remove_file(folder.path("model/assets/key.json")).expect("there");
    symlink("../..", folder.path("model/assets/up")).expect("writable");
    refused(
        &folder,
        "compress model --out out",
        2,
        &["model/assets/up: is a link to "],
    );
    refused(
        &folder,
        "compress model --out out --follow-links",
        2,
        &["model/assets/up: is a link to a folder"],
    );
    std::fs::remove_dir_all(folder.path("model/assets")).expect("there");

    // Weights are what was asked for, wherever they are; links inside the directory stay inside.
    std::fs::rename(folder.path("model/model.safetensors"), folder.path("weights")).expect("writable");
    symlink("../weights", folder.path("model/model.safetensors")).expect("writable");
    symlink("config.json", folder.path("model/LICENSE")).expect("writable");
    works(&run(&folder, &PRUNE.replace("--out out", "--out third")));
    works(&run(&folder, "verify third --against model"));
    works(&run(&folder, "compress model --out third-archive"));
    let plain = |name: &str| folder.path(name).symlink_metadata().expect("written").is_file();
    assert!(
        plain("third/model.safetensors") && plain("third/LICENSE") && plain("third-archive/model.safetensors.zprune")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_no_record_can_hold_is_refused_before_the_work() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    folder.write(
        Path::new("model").join(std::ffi::OsStr::from_bytes(b"b\xff.json")),
        "{}",
    );
    refused(&folder, PRUNE, 2, &["its name is not UTF-8; rename it"]);
    refused(
        &folder,
        "compress model --out out",
        2,
        &["its name is not UTF-8; rename it"],
    );
}

#[test]
fn the_original_and_the_output_are_recorded_with_their_hashes() {
    let folder = Folder::new();
    // What zprune knows of a tokenizer is then not the hash of its file.
    folder.write("model/tokenizer_config.json", "{\"split_special_tokens\": true}");
    works(&run(&folder, &PRUNE.replace("--out out", "--out pruned")));
    works(&run(&folder, "verify pruned --against model"));
    let recorded = std::fs::read_to_string(folder.path("pruned/pruning.json")).expect("written");
    let recorded: serde_json::Value = serde_json::from_str(&recorded).expect("JSON");
    let names = |key: &str| -> Vec<String> {
        let files = recorded["fingerprints"][key].as_object().expect("files by name");
        files.keys().cloned().collect()
    };
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(
        (names("original"), names("output")),
        (
            files.map(String::from).into(),
            [&["README.md"][..], &files]
                .concat()
                .into_iter()
                .map(String::from)
                .collect()
        )
    );
    assert_eq!(recorded["fingerprints"]["kept_weights"], "updated");
    for (name, file) in recorded["fingerprints"]["original"].as_object().expect("files by name") {
        let bytes = std::fs::read(Path::new(&folder.path("model")).join(name)).expect("there");
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(file["sha256"], zprune::data::digest::of_bytes(&bytes));
    }
}
