//! Claim: `verify --against` finds every change to a pruned model, names the file or tensor, and says what it cannot check.
//!
//! Each kind of damage is tried on a model with the hashes that `prune` writes, and on the same one with a `pruning.json`
//! of the time before there were any.

use super::tiny::{Files, Folder};
use super::{PRUNE, QUERY, lay_out, run, says, tree, works};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use zprune::jobs::provenance::{PruningFile, SCHEMA};

const WEIGHTS: &str = "model.safetensors";

/// Bytes of a kept weight's value.
const WIDTH: usize = 4;

struct Damage {
    /// What happened, in words.
    name: &'static str,
    /// Changes the pruned model, or with it the original that it is held against.
    apply: fn(&mut Model),
    /// What is said with hashes.
    expect: &'static str,
    /// What is said without hashes; `None` where nothing can tell, so that the text must say what was not checked.
    older: Option<&'static str>,
}

/// A pruned model and its original, about to be damaged.
struct Model {
    pruned: Files,
    original: Files,
}

impl Model {
    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.pruned.get_mut(Path::new(name)).expect("it is there")
    }

    /// A text file of the pruned model with its one `old` replaced.
    fn replace(&mut self, name: &str, old: &str, new: &str) {
        let text = String::from_utf8(self.file(name).clone()).expect("UTF-8");
        assert_eq!(text.matches(old).count(), 1, "`{old}` in {name}");
        *self.file(name) = text.replace(old, new).into_bytes();
    }

    /// The data of a tensor.
    fn tensor(&mut self, name: &str) -> &mut [u8] {
        data_of(self.file(WEIGHTS), name)
    }

    /// `pruning.json`, changed as JSON.
    fn record(&mut self, change: impl FnOnce(&mut serde_json::Value)) {
        let bytes = self.file("pruning.json");
        let mut record = serde_json::from_slice(bytes).expect("JSON");
        change(&mut record);
        *bytes = serde_json::to_vec_pretty(&record).expect("JSON");
    }

    /// Makes it the output of a zprune without hashes.
    fn grow_older(&mut self) {
        self.record(|record| {
            let record = record.as_object_mut().expect("an object");
            record.remove("fingerprints");
            record.remove("checksum");
            record["schema"] = 1.into();
            // What the last zprune without hashes had.
            record["cell"]["numbers"] = 2.into();
        });
    }

    fn header(&mut self, old: &str, new: &str) {
        let bytes = self.file(WEIGHTS);
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let text = String::from_utf8(bytes[8..8 + length].to_vec()).expect("UTF-8");
        assert!(text.contains(old), "`{old}` in {text}");
        let text = text.replacen(old, new, 1);
        *bytes = [
            &(text.len() as u64).to_le_bytes(),
            text.as_bytes(),
            &bytes[8 + length..],
        ]
        .concat();
    }
}

/// The data of a tensor in a stored file.
fn data_of<'a>(bytes: &'a mut [u8], name: &str) -> &'a mut [u8] {
    let parsed = safetensors::SafeTensors::deserialize(bytes).expect("valid");
    let data = parsed.tensor(name).expect("there").data();
    let (start, length) = (data.as_ptr() as usize - bytes.as_ptr() as usize, data.len());
    &mut bytes[start..start + length]
}

fn is_zero(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0)
}

/// Places of the elements that are zero, or not.
fn places(data: &[u8], zero: bool) -> Vec<usize> {
    let elements = data.chunks_exact(WIDTH).enumerate();
    elements
        .filter(|(_, value)| is_zero(value) == zero)
        .map(|(place, _)| place * WIDTH)
        .collect()
}

fn kept(model: &mut Model, name: &str) -> Vec<usize> {
    places(model.tensor(name), false)
}

/// Keeps another weight of the first group in which the method had a choice, at the original's value.
fn move_mask(model: &mut Model) {
    let original = data_of(model.original.get_mut(Path::new(WEIGHTS)).expect("there"), QUERY).to_vec();
    let data = model.tensor(QUERY);
    let (kept, removed) = (places(data, false)[0], places(data, true)[0]);
    assert_eq!(
        kept / (4 * WIDTH),
        removed / (4 * WIDTH),
        "both in the first group of four"
    );
    data[kept..kept + WIDTH].fill(0);
    data[removed..removed + WIDTH].copy_from_slice(&original[removed..removed + WIDTH]);
}

const KEPT: &str = "layers.1.self_attn.q_proj.weight: weights that stayed are not the original's";
const FILE: &str = "model.safetensors: is not what zprune wrote";
const SEAL: &str = "pruning.json: was changed after zprune wrote it";

const DAMAGE: &[Damage] = &[
    Damage {
        name: "a flipped bit in a weight that stayed",
        apply: |model| {
            let place = kept(model, QUERY)[7];
            model.tensor(QUERY)[place] ^= 1;
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "the weights that stayed in a row, reversed",
        apply: |model| {
            let data = model.tensor(QUERY);
            let places: Vec<usize> = places(&data[..32 * WIDTH], false);
            let values: Vec<[u8; WIDTH]> = places
                .iter()
                .map(|at| data[*at..*at + WIDTH].try_into().expect("a value"))
                .collect();
            for (place, value) in places.iter().rev().zip(values) {
                data[*place..*place + WIDTH].copy_from_slice(&value);
            }
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "a negated layer",
        apply: |model| {
            kept(model, QUERY)
                .into_iter()
                .for_each(|place| model.tensor(QUERY)[place + 3] ^= 0x80)
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "a scaled layer",
        apply: |model| {
            for place in kept(model, QUERY) {
                let value = &mut model.tensor(QUERY)[place..place + WIDTH];
                let doubled = 2.0 * f32::from_le_bytes(value.try_into().expect("a value"));
                value.copy_from_slice(&doubled.to_le_bytes());
            }
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "two weights of a group swapped",
        apply: |model| {
            let data = model.tensor(QUERY);
            let (a, b) = (places(data, false)[0], places(data, false)[1]);
            let value = data[a..a + WIDTH].to_vec();
            data.copy_within(b..b + WIDTH, a);
            data[b..b + WIDTH].copy_from_slice(&value);
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "a weight of another place in the pattern kept instead",
        apply: move_mask,
        expect: FILE,
        older: None,
    },
    Damage {
        name: "a removed weight that is back",
        apply: |model| {
            let place = places(model.tensor(QUERY), true)[0];
            model.tensor(QUERY)[place..place + WIDTH].copy_from_slice(&0.5f32.to_le_bytes());
        },
        expect: "has 511 zeros, but pruning.json says 512",
        older: Some("has 511 zeros, but pruning.json says 512"),
    },
    Damage {
        name: "one more weight removed",
        apply: |model| {
            let place = kept(model, QUERY)[0];
            model.tensor(QUERY)[place..place + WIDTH].fill(0);
        },
        expect: "has 513 zeros, but pruning.json says 512",
        older: Some("has 513 zeros, but pruning.json says 512"),
    },
    Damage {
        name: "a negative zero in place of a zero",
        apply: |model| {
            let place = places(model.tensor(QUERY), true)[0];
            model.tensor(QUERY)[place + 3] = 0x80;
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "two layers of one shape swapped",
        apply: |model| {
            let other = QUERY.replace("layers.1", "layers.0");
            let (one, two) = (model.tensor(QUERY).to_vec(), model.tensor(&other).to_vec());
            model.tensor(QUERY).copy_from_slice(&two);
            model.tensor(&other).copy_from_slice(&one);
        },
        expect: KEPT,
        older: Some(KEPT),
    },
    Damage {
        name: "a changed norm",
        apply: |model| model.tensor("model.norm.weight")[..4].copy_from_slice(&1.25f32.to_le_bytes()),
        expect: "model.norm.weight: is not prunable, but differs from the original",
        older: Some("model.norm.weight: is not prunable, but differs from the original"),
    },
    Damage {
        name: "a changed embedding",
        apply: |model| model.tensor("model.embed_tokens.weight")[400] ^= 1,
        expect: "model.embed_tokens.weight: is not prunable, but differs from the original",
        older: Some("model.embed_tokens.weight: is not prunable, but differs from the original"),
    },
    Damage {
        name: "another eps",
        apply: |model| model.replace("config.json", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-02"),
        expect: "config.json: is not what zprune wrote",
        older: Some("config.json: differs from the original's"),
    },
    Damage {
        name: "another rope_theta",
        apply: |model| model.replace("config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": 77.0"),
        expect: "config.json: is not what zprune wrote",
        older: Some("config.json: differs from the original's"),
    },
    Damage {
        name: "one more key of the configuration",
        apply: |model| model.replace("config.json", "\"rms_norm_eps\"", "\"auto_map\": {}, \"rms_norm_eps\""),
        expect: "config.json: is not what zprune wrote",
        older: Some("config.json: differs from the original's"),
    },
    Damage {
        name: "another tokenizer",
        apply: |model| model.file("tokenizer.json").push(b'\n'),
        expect: "tokenizer.json: is not what zprune wrote",
        older: Some("tokenizer.json: differs from the original's"),
    },
    Damage {
        name: "no tokenizer",
        apply: |model| drop(model.pruned.remove(Path::new("tokenizer.json"))),
        expect: "tokenizer.json: is missing; zprune wrote it",
        older: Some("tokenizer.json: is missing; the original has it"),
    },
    Damage {
        name: "no generation settings",
        apply: |model| drop(model.pruned.remove(Path::new("generation_config.json"))),
        expect: "generation_config.json: is missing; zprune wrote it",
        older: Some("generation_config.json: is missing; the original has it"),
    },
    Damage {
        name: "no configuration",
        apply: |model| drop(model.pruned.remove(Path::new("config.json"))),
        expect: "config.json: is missing; zprune wrote it",
        older: Some("config.json: is not there"),
    },
    Damage {
        name: "a file that was added",
        apply: |model| drop(model.pruned.insert("adapter_config.json".into(), b"{}".to_vec())),
        expect: "adapter_config.json: was added; zprune did not write it",
        older: Some("adapter_config.json: was added; zprune did not write it"),
    },
    Damage {
        name: "a folder that was added",
        apply: |model| drop(model.pruned.insert("code/model.py".into(), b"pass".to_vec())),
        expect: "code: was added; zprune did not write it",
        older: Some("code: was added; zprune did not write it"),
    },
    Damage {
        name: "another original, with one weight that is gone in the pruned one",
        apply: |model| {
            let place = places(model.tensor(QUERY), true)[0];
            data_of(model.original.get_mut(Path::new(WEIGHTS)).expect("there"), QUERY)[place] ^= 1;
        },
        expect: "is not the model that was pruned: pruning.json has other hashes of model.safetensors",
        older: Some("is not the model that was pruned: pruning.json has other hashes of the weights"),
    },
    Damage {
        name: "another original, with another tokenizer",
        apply: |model| {
            model
                .original
                .get_mut(Path::new("tokenizer.json"))
                .expect("there")
                .push(b' ')
        },
        expect: "is not the model that was pruned: pruning.json has other hashes of tokenizer.json",
        older: Some("is not the model that was pruned: pruning.json has other hashes of tokenizer.json"),
    },
    Damage {
        name: "no pruning.json",
        apply: |model| drop(model.pruned.remove(Path::new("pruning.json"))),
        expect: "differs from the original, and there is no pruning.json that says why",
        older: Some("differs from the original, and there is no pruning.json that says why"),
    },
    Damage {
        name: "a layer that pruning.json does not mention any more",
        apply: |model| model.record(|record| drop(record["layers"].as_array_mut().expect("a list").remove(0))),
        expect: SEAL,
        older: Some("pruning.json does not mention it"),
    },
    Damage {
        name: "no layers in pruning.json",
        apply: |model| model.record(|record| record["layers"] = serde_json::json!([])),
        expect: SEAL,
        older: Some("pruning.json does not mention it"),
    },
    Damage {
        name: "a weaker pattern in pruning.json, and one more weight",
        apply: |model| {
            model.record(|record| {
                record["cell"]["pruning"]["pattern"]["keep"] = 3.into();
                record["layers"][7]["zeros"] = 511.into();
                record["layers"][7]["removed"] = 511.into();
            });
            let place = places(model.tensor(QUERY), true)[0];
            model.tensor(QUERY)[place..place + WIDTH].copy_from_slice(&0.5f32.to_le_bytes());
        },
        expect: SEAL,
        older: Some("of all weights were removed, but its layers add up to"),
    },
    Damage {
        name: "other numbers of zeros in pruning.json",
        apply: |model| model.record(|record| record["layers"][0]["zeros"] = 600.into()),
        expect: SEAL,
        older: Some("zeros, but pruning.json says 600"),
    },
    Damage {
        name: "another method in pruning.json, of which nothing could be compared",
        apply: |model| {
            model.record(|record| record["cell"]["pruning"]["solver"]["name"] = "obs".into());
            model.tensor(QUERY)[3] ^= 0x80;
        },
        expect: SEAL,
        older: None,
    },
    Damage {
        name: "pruning.json in another layout of the same values",
        apply: |model| {
            let record: serde_json::Value = serde_json::from_slice(model.file("pruning.json")).expect("JSON");
            *model.file("pruning.json") = record.to_string().into_bytes();
        },
        expect: SEAL,
        // There the layout says nothing.
        older: None,
    },
    Damage {
        name: "a pruning.json without its hashes, made to look older than they are",
        apply: |model| {
            model.record(|record| {
                let record = record.as_object_mut().expect("an object");
                record.remove("fingerprints");
                record.remove("checksum");
                record["schema"] = 1.into();
                record["cell"]["numbers"] = zprune::experiment::identity::NUMBERS.into();
            });
            model.tensor(QUERY)[3] ^= 0x80;
        },
        expect: SEAL,
        older: Some(SEAL),
    },
    Damage {
        name: "a pruning.json that is not JSON",
        apply: |model| model.file("pruning.json").truncate(100),
        expect: "pruning.json: not a record of pruning",
        older: Some("pruning.json: not a record of pruning"),
    },
    Damage {
        name: "another type of the same size",
        apply: |model| model.header("\"dtype\":\"F32\"", "\"dtype\":\"I32\""),
        expect: FILE,
        older: Some("I32"),
    },
    Damage {
        name: "other metadata",
        apply: |model| model.header("\"format\":\"pt\"", "\"format\":\"pt\",\"source\":\"elsewhere\""),
        expect: FILE,
        older: Some("model.safetensors: its __metadata__ is"),
    },
    Damage {
        name: "a tensor that was added",
        apply: |model| {
            let data = model.file(WEIGHTS).len() as u64 - 8;
            let header = u64::from_le_bytes(model.file(WEIGHTS)[..8].try_into().expect("eight bytes"));
            let start = data - header;
            let info = format!(
                ",\"extra\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{start},{}]}}}}",
                start + 1
            );
            let bytes = model.file(WEIGHTS);
            let text = String::from_utf8(bytes[8..8 + header as usize].to_vec()).expect("UTF-8");
            let text = text.trim_end().strip_suffix('}').expect("an object").to_string() + &info;
            *bytes = [
                &(text.len() as u64).to_le_bytes(),
                text.as_bytes(),
                &bytes[8 + header as usize..],
                b"x",
            ]
            .concat();
        },
        expect: "extra: the original has no such tensor",
        older: Some("extra: the original has no such tensor"),
    },
    Damage {
        name: "a truncated weight file",
        apply: |model| model.file(WEIGHTS).truncate(1000),
        expect: FILE,
        older: Some("truncated or corrupt"),
    },
    Damage {
        name: "no weights",
        apply: |model| drop(model.pruned.remove(Path::new(WEIGHTS))),
        expect: "model.safetensors: is missing; zprune wrote it",
        older: Some("model.safetensors"),
    },
    Damage {
        name: "a reversed row, another rope_theta and no tokenizer at once",
        apply: |model| {
            model.tensor(QUERY)[..32 * WIDTH].reverse();
            model.replace("config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": 77.0");
            model.pruned.remove(Path::new("tokenizer.json"));
        },
        expect: "tokenizer.json: is missing",
        older: Some("tokenizer.json: is missing"),
    },
];

/// A folder with a model pruned by this method.
fn pruned(method: &str) -> (Folder, Model) {
    let folder = Folder::new();
    folder.write("model/generation_config.json", "{\"eos_token_id\": 2}");
    let command = PRUNE
        .replace("--out out", "--out pruned")
        .replace("--sparsity 0.5", "--keep 2 --of 4")
        .replace("sparsegpt", method);
    works(&run(&folder, &command));
    let model = Model {
        pruned: tree(&folder.path("pruned")),
        original: tree(&folder.path("model")),
    };
    (folder, model)
}

/// What `verify --against` says of the model, and whether it is content.
fn verdict(folder: &Folder, model: &Model) -> (String, bool) {
    lay_out(&folder.path("damaged"), &model.pruned);
    lay_out(&folder.path("original"), &model.original);
    let output = run(folder, "verify damaged --against original");
    let text = says(&output);
    assert!(!text.contains("panicked"), "{text}");
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{text}");
    (text, code == Some(0))
}

#[test]
fn every_kind_of_damage_is_found_and_named() {
    let (folder, whole) = pruned("wanda");
    let copy = || Model {
        pruned: whole.pruned.clone(),
        original: whole.original.clone(),
    };
    let (text, content) = verdict(&folder, &whole);
    assert!(content && !text.contains("not checked"), "{text}");
    assert!(text.contains("14 pruned tensors: every kept weight"), "{text}");
    assert!(text.contains("5 files are what zprune wrote"), "{text}");
    let mut older = copy();
    older.grow_older();
    let (text, content) = verdict(&folder, &older);
    assert!(content && text.contains("not checked: hashes of the files"), "{text}");

    let mut complaints = Vec::new();
    for damage in DAMAGE {
        for hashes in [true, false] {
            let mut model = copy();
            if !hashes {
                model.grow_older();
            }
            (damage.apply)(&mut model);
            let (text, content) = verdict(&folder, &model);
            let right = match (hashes, damage.older) {
                (true, _) => !content && text.contains(damage.expect),
                (false, Some(expect)) => !content && text.contains(expect),
                (false, None) => content && text.contains("not checked: "),
            };
            if !right {
                complaints.push(format!(
                    "{}, hashes: {hashes}, content: {content}:\n{text}",
                    damage.name
                ));
            }
        }
    }
    assert!(DAMAGE.len() > 21);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn damage_to_an_updated_model_is_found_by_its_hashes() {
    let (folder, mut model) = pruned("sparsegpt");
    let (text, content) = verdict(&folder, &model);
    let said = "not checked: weights that stayed against the original's: `obs` changes them on purpose";
    assert!(content && text.contains(said), "{text}");
    let place = kept(&mut model, QUERY)[0];
    model.tensor(QUERY)[place] ^= 1;
    let (text, content) = verdict(&folder, &model);
    assert!(!content && text.contains(FILE), "{text}");
    let output = run(&folder, "verify damaged");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    model.grow_older();
    let (text, content) = verdict(&folder, &model);
    assert!(
        content && text.contains("not checked: hashes") && text.contains(said),
        "{text}"
    );
}

#[test]
fn components_of_another_program_are_named_and_no_fault() {
    let (folder, whole) = pruned("sparsegpt");
    for (step, named) in [
        ("criterion", "criterion `own`"),
        ("solver", "solver `own`"),
        ("allocator", "allocator `own`"),
        ("permutation", "permutation `own`"),
        ("refine", "mask refinement `own`"),
        ("compensate", "compensation `own`"),
    ] {
        let mut model = Model {
            pruned: whole.pruned.clone(),
            original: whole.original.clone(),
        };
        let own = serde_json::json!({"name": "own", "version": 1, "parameters": {"strength": 0.5}});
        model.record(|record| record["cell"]["pruning"][step] = own);
        // As the program writes it that has the component.
        let file: PruningFile = serde_json::from_slice(model.file("pruning.json")).expect("as written");
        *model.file("pruning.json") = file.to_bytes().expect("plain numbers");
        let (text, content) = verdict(&folder, &model);
        let said = format!("not checked: {named}: it is not built in; it is not run");
        assert!(content && text.contains(&said), "{step}: {text}");
        // What the record says of the files and the pattern is held all the same.
        let place = kept(&mut model, QUERY)[0];
        model.tensor(QUERY)[place] ^= 1;
        let (text, content) = verdict(&folder, &model);
        assert!(
            !content && text.contains(FILE) && text.contains(&said),
            "{step}: {text}"
        );
    }
}

#[test]
fn what_people_add_to_publish_a_model_is_said_and_no_fault() {
    let (folder, mut model) = pruned("wanda");
    for name in ["README.md", ".gitattributes"] {
        model.pruned.insert(name.into(), b"ours".to_vec());
    }
    let (text, content) = verdict(&folder, &model);
    assert!(
        content && text.contains("not checked: README.md: it was edited"),
        "{text}"
    );
}

#[test]
fn a_pruned_model_is_not_its_own_original() {
    let (folder, model) = pruned("wanda");
    lay_out(&folder.path("copy"), &model.pruned);
    #[cfg(unix)]
    std::os::unix::fs::symlink("pruned", folder.path("link")).expect("writable");
    let mut older = Model {
        pruned: model.pruned.clone(),
        original: model.original.clone(),
    };
    older.grow_older();
    lay_out(&folder.path("older"), &older.pruned);
    lay_out(&folder.path("older-copy"), &older.pruned);
    // Nothing was done to it, and nothing says so; it is still no other model.
    let mut cases = vec![
        ("pruned", "pruned"),
        ("pruned", "./pruned"),
        ("pruned", "copy"),
        ("copy", "pruned"),
        ("older", "older-copy"),
        ("model", "model"),
    ];
    if cfg!(unix) {
        cases.push(("pruned", "link"));
    }
    for (folder_of, against) in cases {
        let output = run(&folder, &format!("verify {folder_of} --against {against}"));
        let text = says(&output);
        assert_eq!(output.status.code(), Some(1), "{folder_of} {against}: {text}");
        assert!(
            text.contains(&format!(
                "{against} is not the original: it is this model, or a copy of it"
            )),
            "{text}"
        );
        assert!(text.contains("nothing was compared"), "{text}");
        assert!(!text.contains("of the original, bit for bit"), "{text}");
    }
    // A copy that lost or changed its record is another model than the one that was pruned.
    let mut changed = model.pruned.clone();
    changed.remove(Path::new("pruning.json"));
    lay_out(&folder.path("copy"), &changed);
    let output = run(&folder, "verify pruned --against copy");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains("copy is not the model that was pruned"),
        "{}",
        says(&output)
    );
    // Two directories of which nothing is said are what they are.
    lay_out(&folder.path("same"), &model.original);
    works(&run(&folder, "verify same --against model"));
}

#[test]
fn files_that_cannot_be_opened_are_a_finding_where_their_hashes_say_more() {
    let (folder, whole) = pruned("wanda");
    type Change = fn(&mut Model);
    let changes: [(&str, Change); 5] = [
        ("truncated weights", |model| model.file(WEIGHTS).truncate(1000)),
        ("no weights", |model| drop(model.pruned.remove(Path::new(WEIGHTS)))),
        ("no configuration", |model| {
            drop(model.pruned.remove(Path::new("config.json")))
        }),
        ("a configuration that is none", |model| {
            model.file("config.json").truncate(20)
        }),
        ("weights of another sort", |model| {
            *model.file(WEIGHTS) = b"no tensors".to_vec()
        }),
    ];
    for (name, change) in changes {
        let mut model = Model {
            pruned: whole.pruned.clone(),
            original: whole.original.clone(),
        };
        change(&mut model);
        lay_out(&folder.path("damaged"), &model.pruned);
        for command in ["verify damaged", "verify damaged --against model"] {
            let output = run(&folder, command);
            let text = says(&output);
            assert_eq!(output.status.code(), Some(1), "{name}: {text}");
            let said = ["is not what zprune wrote", "is missing; zprune wrote it"];
            assert!(said.iter().any(|part| text.contains(part)), "{name}: {text}");
        }
    }
    // An original that is none is a mistake, but what was found before is said.
    std::fs::create_dir(folder.path("empty")).expect("writable");
    let output = run(&folder, "verify pruned --against empty");
    assert_eq!(output.status.code(), Some(2), "{}", says(&output));
    let mut record = whole.pruned[Path::new("pruning.json")].clone();
    record.truncate(100);
    folder.write("pruned/pruning.json", record);
    let text = says(&run(&folder, "verify pruned"));
    assert!(
        text.contains("put it back from a copy, or prune the model again"),
        "{text}"
    );
}

#[test]
fn a_file_that_somebody_puts_into_the_unfinished_folder_is_not_taken_for_the_programs_own() {
    let folder = Folder::new();
    folder.write("calibration.jsonl", {
        let document = serde_json::json!({ "text": super::tiny::text(3, 20_000) });
        format!("{document}\n")
    });
    let command = PRUNE
        .replace("--out out", "--sampling packed --out out")
        .replace("--sequences 4 --length 16", "--sequences 400 --length 128");
    let words: Vec<&str> = command.split(' ').collect();
    let mut child = folder
        .zprune(&words)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let since = std::time::Instant::now();
    let unfinished = loop {
        let entries = std::fs::read_dir(folder.path(".")).expect("readable").flatten();
        let mut folders = entries
            .map(|entry| entry.path())
            .filter(|path| path.join(WEIGHTS).exists());
        let begun = folders.find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(".zprune-"))
        });
        if let Some(found) = begun {
            break found;
        }
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it ended before anything could be put there"
        );
        assert!(
            since.elapsed() < std::time::Duration::from_secs(60),
            "nothing was begun"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    std::fs::write(unfinished.join("notes.json"), "{}").expect("writable");
    let output = child.wait_with_output().expect("it ends");
    let text = works(&output);
    assert!(
        text.contains("out/notes.json: another program put this file there"),
        "{text}"
    );
    let record = std::fs::read_to_string(folder.path("out/pruning.json")).expect("written");
    assert!(!record.contains("notes.json"), "{record}");
    let output = run(&folder, "verify out");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains("notes.json: was added; zprune did not write it"),
        "{}",
        says(&output)
    );
}

#[test]
fn no_flipped_bit_of_any_file_goes_unnoticed() {
    const FLIPS: usize = 60;
    let (folder, model) = pruned("sparsegpt");
    let mut random = ChaCha8Rng::seed_from_u64(16);
    let names: Vec<PathBuf> = model.pruned.keys().cloned().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    // The card may be edited.
    for name in names.into_iter().filter(|name| name != Path::new("README.md")) {
        for _ in 0..FLIPS {
            let whole = &model.pruned[&name];
            let (place, bit) = (random.random_range(0..whole.len()), random.random_range(0..8));
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << bit;
            std::fs::write(folder.path("pruned").join(&name), bytes).expect("writable");
            let output = run(&folder, "verify pruned");
            let what = format!("{}, byte {place}, bit {bit}: {}", name.display(), says(&output));
            assert!(matches!(output.status.code(), Some(1 | 2)), "{what}");
            assert!(!what.contains("panicked"), "{what}");
            std::fs::write(folder.path("pruned").join(&name), whole).expect("writable");
        }
    }
    works(&run(&folder, "verify pruned --against model"));
}

#[test]
fn records_of_pruning_that_cannot_be_are_refused() {
    let (folder, model) = pruned("wanda");
    type Change = fn(&mut serde_json::Value);
    let changes: &[(&str, Change)] = &[
        ("a schema of the future", |record| record["schema"] = 9.into()),
        ("a negative number", |record| record["layers"][0]["zeros"] = (-1).into()),
        ("a number beyond all", |record| {
            record["layers"][0]["zeros"] = u64::MAX.into()
        }),
        ("a fraction beyond 1", |record| record["sparsity"] = 7.into()),
        ("a text for a number", |record| record["sparsity"] = "half".into()),
        ("an unknown key", |record| record["sparsiti"] = 0.5.into()),
        ("an impossible pattern", |record| {
            record["cell"]["pruning"]["pattern"] = serde_json::json!({"keep": 0, "of": 0})
        }),
        ("an unknown solver", |record| {
            record["cell"]["pruning"]["solver"]["name"] = "magic".into()
        }),
        ("parameters that are none", |record| {
            record["cell"]["pruning"]["allocator"]["parameters"] = serde_json::json!([null, 1e300])
        }),
        ("parameters of no table", |record| {
            record["cell"]["pruning"]["criterion"]["parameters"] = "none".into()
        }),
        ("nothing about the pruning", |record| {
            record["cell"].as_object_mut().expect("an object").remove("pruning");
        }),
        ("a layer twice", |record| {
            let layer = record["layers"][0].clone();
            record["layers"].as_array_mut().expect("a list").push(layer);
        }),
    ];
    for (name, change) in changes {
        let mut model = Model {
            pruned: model.pruned.clone(),
            original: model.original.clone(),
        };
        model.grow_older();
        model.record(change);
        let (text, content) = verdict(&folder, &model);
        assert!(!content && text.contains("pruning.json"), "{name}: {text}");
    }
    let schema = model.pruned[Path::new("pruning.json")].clone();
    let schema = String::from_utf8(schema)
        .expect("JSON")
        .replace(&format!("\"schema\": {SCHEMA}"), "\"schema\": 99");
    folder.write("pruned/pruning.json", schema);
    let output = run(&folder, "verify pruned");
    assert_eq!(output.status.code(), Some(2));
    let expect = format!("pruned/pruning.json: has schema 99, but this zprune reads schemas 1 to {SCHEMA}");
    assert!(says(&output).contains(&expect), "{}", says(&output));
}
