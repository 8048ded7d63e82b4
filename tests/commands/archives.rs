//! Claim: `expand` restores every file of the directory that `compress` archived, byte for byte, and refuses an archive
//! of which one bit is not what was archived.

use super::layouts::shard;
use super::tiny::{self, Files, Folder, Tensor};
use super::{PRUNE, QUERY, lay_out, left_nothing, refused, run, says, tree, works};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zprune::data::digest::FileDigest;
use zprune::jobs::archive::manifest::{Archived, FORMAT, MANIFEST, Manifest};
use zprune::jobs::archive::{ENDING, MARK};

const WEIGHTS: &str = "model.safetensors";
/// What stands for them in an archive.
const ARCHIVED: &str = "model.safetensors.zprune";
const EXPAND: &str = "expand archive --out out";

/// Compresses a folder, expands the archive, and holds the two against each other.
fn comes_back(folder: &Folder, name: &str) {
    let text = works(&run(folder, &format!("compress {name} --out {name}-archive")));
    assert!(text.contains("storage only"), "{text}");
    works(&run(folder, &format!("expand {name}-archive --out {name}-back")));
    let (before, after) = (tree(&folder.path(name)), tree(&folder.path(format!("{name}-back"))));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (file, content) in &before {
        assert!(*content == after[file], "{name}: {} is another", file.display());
    }
}

#[test]
fn archives_restore_every_bit() {
    let folder = Folder::new();
    // A negative zero is not what pruning writes, and must come back.
    let mut tensors = tiny::weights();
    let shape = tensors[QUERY].shape.clone();
    let values = (0..shape.iter().product()).map(|index| [0.0, -0.0, 1.0, 0.0][index % 4]);
    tensors.insert(QUERY.to_string(), Tensor::new(&shape, values));
    tiny::save(&tensors, &folder.path("model/model.safetensors"));
    works(&run(&folder, &PRUNE.replace("--out out", "--out pruned")));
    for source in ["model", "pruned"] {
        comes_back(&folder, source);
    }
    works(&run(&folder, "verify model-back --against model"));
    works(&run(&folder, "verify pruned-back --against model"));
    let size = |name: &str| std::fs::metadata(folder.path(name)).expect("written").len();
    assert!(size("pruned-archive/model.safetensors.zprune") < size("pruned/model.safetensors") * 8 / 10);
    refused(
        &folder,
        "compress pruned-archive --out out",
        2,
        &["holds an archive already"],
    );
    refused(
        &folder,
        "eval --model pruned-archive --corpus novel.txt --length 16",
        2,
        &["it is an archive and no model: `zprune expand pruned-archive --out DIR` restores the model"],
    );
}

#[test]
fn no_other_program_takes_an_archive_for_a_model() {
    for sharded in [false, true] {
        let (folder, files) = archived(sharded);
        for (name, content) in &files {
            let name = name.to_string_lossy();
            assert!(!name.ends_with(".safetensors"), "{name}");
            if name.ends_with(ENDING) {
                assert!(content.starts_with(b"zprune archive, not a model"), "{name}");
                assert!(safetensors::SafeTensors::deserialize(content).is_err(), "{name}");
                safetensors::SafeTensors::deserialize(&content[MARK.len()..]).expect("tensors follow");
            }
        }
        for (command, code) in [
            ("eval --model archive --corpus novel.txt --length 16", 2),
            ("verify archive", 1),
        ] {
            refused(
                &folder,
                command,
                code,
                &["it is an archive and no model: `zprune expand archive --out DIR`"],
            );
        }
        // Two files that would be one.
        folder.write("pruned/other.safetensors.zprune", "somebody else's");
        comes_back(&folder, "pruned");
        let first = if sharded {
            "model-00001-of-00002.safetensors"
        } else {
            WEIGHTS
        };
        folder.write(format!("pruned/{first}{ENDING}"), "somebody else's");
        refused(
            &folder,
            "compress pruned --out out",
            2,
            &["has the name that an archive gives its weights"],
        );
    }
}

#[test]
fn the_size_is_held_against_that_of_zstd() {
    let (folder, _) = archived(false);
    std::fs::remove_dir_all(folder.path("archive")).expect("ours");
    let text = works(&run(&folder, "compress pruned --out archive"));
    // Random single-precision values have nothing that zstd could use but the zeros.
    assert!(
        text.contains(" of weights take ") && text.contains("zstd would need about "),
        "{text}"
    );
    let percent = |after: &str| -> f64 {
        let rest = text.split_once(after).expect(after).1;
        let number = rest
            .split_once(" (")
            .expect("a share")
            .1
            .split_once(" %)")
            .expect("a share")
            .0;
        number.parse().expect("a number")
    };
    let (stored, zstd) = (percent(" of weights take "), percent("zstd would need about "));
    assert!(
        (stored - 100.0).abs() < 60.0 && (zstd / stored - 1.0).abs() < 0.2,
        "{text}"
    );
    assert_eq!(zstd < stored, text.contains("use zstd on the model instead"), "{text}");
}

/// Archives that zprune wrote when its format was 2: of a pruned model of two shards.
#[test]
fn what_older_versions_wrote_is_still_restored() {
    let folder = Folder::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archive_2");
    lay_out(&folder.path("archive"), &tree(&fixture));
    let text = works(&run(&folder, "expand archive --out back"));
    assert!(text.contains("7 files are as they were archived"), "{text}");
    works(&run(&folder, "verify back"));
    let error = "it is an archive and no model";
    refused(
        &folder,
        "eval --model archive --corpus novel.txt --length 16",
        2,
        &[error],
    );
    let name = "archive/model-00001-of-00002.safetensors";
    let mut bytes = std::fs::read(folder.path(name)).expect("there");
    *bytes.last_mut().expect("it has bytes") ^= 1;
    folder.write(name, bytes);
    refused(&folder, EXPAND, 2, &[name]);
}

#[test]
fn everything_in_the_directory_comes_back() {
    for shards in [1, 3] {
        let folder = Folder::new();
        shard(&folder, shards);
        for (name, content) in [
            ("README.md", "---\nlicense: mit\n---\n"),
            ("LICENSE", ""),
            ("vocab.tiktoken", "IQ== 0\n"),
            (".gitattributes", "*.safetensors filter=lfs\n"),
            ("figures/deep/plot.svg", "<svg/>"),
            ("original/consolidated.safetensors", "not one at all"),
        ] {
            let path = folder.path("model").join(name);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
            folder.write(path, content);
        }
        std::fs::create_dir_all(folder.path("model/empty/er")).expect("writable");
        std::fs::create_dir_all(folder.path("model/.git/objects")).expect("writable");
        comes_back_without_git(&folder);
        works(&run(&folder, &PRUNE.replace("--out out", "--out pruned")));
        comes_back(&folder, "pruned");
    }
}

#[cfg(unix)]
#[test]
fn permissions_come_back() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("model/code/private")).expect("writable");
    std::fs::create_dir_all(folder.path("model/empty")).expect("writable");
    folder.write("model/code/convert.sh", "#!/bin/sh\n");
    folder.write("model/code/private/key", "secret");
    let modes = [
        ("code/convert.sh", 0o755),
        ("code/private/key", 0o600),
        ("code/private", 0o700),
        ("empty", 0o711),
        ("config.json", 0o444),
        ("model.safetensors", 0o640),
        ("", 0o750),
    ];
    for (name, mode) in modes {
        std::fs::set_permissions(folder.path("model").join(name), std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    comes_back(&folder, "model");
    let mode = |path: PathBuf| path.metadata().expect("it is there").permissions().mode() & 0o777;
    // What the tests' own umask takes away stays away.
    std::fs::create_dir(folder.path("usual")).expect("writable");
    let umask = mode(folder.path("usual"));
    for (name, wanted) in modes {
        assert_eq!(mode(folder.path("model-back").join(name)), wanted & umask, "{name}");
        let stored = if name == WEIGHTS { ARCHIVED } else { name };
        let archived = mode(folder.path("model-archive").join(stored));
        assert_eq!(archived & !(wanted | 0o200), 0, "{name} is wider in the archive");
    }
    // An archive of a system without permissions has those of its files.
    let path = folder.path("model-archive").join(MANIFEST);
    let manifest = Manifest::parse(&std::fs::read(&path).expect("written")).expect("whole");
    let older = Manifest {
        permissions: BTreeMap::new(),
        ..manifest
    };
    std::fs::write(&path, older.to_bytes().expect("text and numbers")).expect("writable");
    works(&run(&folder, "expand model-archive --out older"));
    assert_eq!(mode(folder.path("older/code/private/key")), 0o600);
    assert_eq!(mode(folder.path("older/code/convert.sh")), 0o755 & umask);
}

fn comes_back_without_git(folder: &Folder) {
    folder.write("model/.git/objects/pack", "a second copy of everything");
    let text = works(&run(folder, "compress model --out model-archive"));
    assert!(text.contains("left out, not part of the model: .git"), "{text}");
    std::fs::remove_dir_all(folder.path("model/.git")).expect("ours");
    std::fs::remove_dir_all(folder.path("model-archive")).expect("ours");
    comes_back(folder, "model");
    assert!(folder.path("model-back/empty/er").is_dir());
}

/// A folder with an archive of a pruned model of two shards, or of one file without an index.
fn archived(sharded: bool) -> (Folder, Files) {
    let folder = Folder::new();
    if sharded {
        shard(&folder, 2);
    }
    works(&run(&folder, &PRUNE.replace("--out out", "--out pruned")));
    folder.write("pruned/README.md", "a card\n");
    works(&run(&folder, "compress pruned --out archive"));
    let files = tree(&folder.path("archive"));
    (folder, files)
}

/// Where the data of a tensor of the archive are.
fn place(bytes: &[u8], name: &str) -> (usize, usize) {
    let parsed = safetensors::SafeTensors::deserialize(bytes).expect("valid");
    let data = parsed.tensor(name).expect("compressed").data();
    (data.as_ptr() as usize - bytes.as_ptr() as usize, data.len())
}

/// The archived weights as tensors, to be changed and stored again.
fn changed(bytes: &[u8], change: impl FnOnce(&mut tiny::Tensors)) -> Vec<u8> {
    let parsed = safetensors::SafeTensors::deserialize(bytes).expect("valid");
    let mut tensors: tiny::Tensors = parsed
        .iter()
        .map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            let bytes = view.data().to_vec();
            (name.to_string(), Tensor { dtype, shape, bytes })
        })
        .collect();
    change(&mut tensors);
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::save(&tensors, &folder.path().join("x"));
    std::fs::read(folder.path().join("x")).expect("written")
}

#[test]
fn archives_that_were_altered_are_refused_by_tensor() {
    let (folder, files) = archived(false);
    let stem = QUERY.strip_suffix(".weight").expect("a weight");
    let part = |ending: &str| format!("{stem}.{ending}");
    let weights = &files[Path::new(ARCHIVED)][MARK.len()..];
    let at = |ending: &str| place(weights, &part(ending)).0;
    let tensor = format!("archive/{ARCHIVED}: tensor `{QUERY}`: ");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = weights.to_vec();
        change(&mut bytes);
        bytes
    };
    // A bit moved to another column of its row: as many bits as values, and other weights.
    let moved = with(&|bytes| {
        let row = &mut bytes[at("bitmask")..at("bitmask") + 4];
        let before = u32::from_le_bytes(row.try_into().expect("a row of 32"));
        row.copy_from_slice(&before.rotate_left(1).to_le_bytes());
        assert_ne!(before, before.rotate_left(1));
    });
    let dense = tiny::weights()[QUERY].clone();
    let cases = [
        ("a moved bit", moved, "is not what was archived"),
        (
            "one more or less bit",
            with(&|bytes| bytes[at("bitmask")] ^= 1),
            "one bit for each value",
        ),
        (
            "a value",
            with(&|bytes| bytes[at("compressed") + 1] ^= 4),
            "is not what was archived",
        ),
        (
            "a row offset",
            with(&|bytes| bytes[at("row_offsets") + 16] ^= 1),
            "row offsets say",
        ),
        (
            "the first row offset",
            with(&|bytes| bytes[at("row_offsets")] ^= 1),
            "not at 0",
        ),
        (
            "a shape",
            with(&|bytes| bytes[at("shape")] ^= 64),
            "its archived shape says otherwise",
        ),
        (
            "both forms of a tensor",
            changed(weights, |tensors| {
                drop(tensors.insert(QUERY.to_string(), dense.clone()))
            }),
            "is archived twice",
        ),
        (
            "no bitmask",
            changed(weights, |tensors| drop(tensors.remove(&part("bitmask")))),
            "is missing from the archive, whole or in part",
        ),
        (
            "a smaller bitmask",
            changed(weights, |tensors| {
                let mask = tensors.get_mut(&part("bitmask")).expect("there");
                mask.shape = vec![16, 8];
            }),
            "has another shape or type",
        ),
        (
            "values of another type",
            changed(weights, |tensors| {
                tensors.get_mut(&part("compressed")).expect("there").dtype = safetensors::Dtype::I32;
            }),
            "has another shape or type",
        ),
    ];
    let write = |bytes: Vec<u8>| folder.write(format!("archive/{ARCHIVED}"), [&MARK[..], &bytes].concat());
    for (name, bytes, expect) in cases {
        println!("{name}");
        write(bytes);
        refused(&folder, EXPAND, 2, &[&tensor, expect]);
    }
    let extra = changed(weights, |tensors| {
        drop(tensors.insert("extra".into(), Tensor::new(&[1], [1.0].into_iter())))
    });
    write(extra);
    refused(&folder, EXPAND, 2, &["tensor `extra`: was not in the archived model"]);
    // The same tensors under another header.
    write(changed(weights, |_| ()));
    let expect = format!("archive/{ARCHIVED}: its tensors are what was archived, but its header");
    refused(&folder, EXPAND, 2, &[&expect]);
    for bytes in [weights, &MARK[..20], &[]] {
        folder.write(format!("archive/{ARCHIVED}"), bytes);
        refused(
            &folder,
            EXPAND,
            2,
            &[ARCHIVED, "is no archived weight file of this format"],
        );
    }

    lay_out(&folder.path("archive"), &files);
    std::fs::remove_file(folder.path("archive").join(MANIFEST)).expect("there");
    refused(&folder, EXPAND, 2, &["archive: holds no zprune-archive.json"]);
    lay_out(&folder.path("archive"), &files);
    folder.write("archive/config.json", "{}");
    refused(&folder, EXPAND, 2, &["archive/config.json: is not what was archived"]);
    std::fs::remove_file(folder.path("archive/config.json")).expect("there");
    refused(
        &folder,
        EXPAND,
        2,
        &["archive/config.json: is missing from the archive"],
    );
    lay_out(&folder.path("archive"), &files);
    folder.write("archive/notes.txt", "added");
    let text = works(&run(&folder, "expand archive --out back"));
    assert!(text.contains("left out, not part of the model: notes.txt"), "{text}");
    assert!(!folder.path("back/notes.txt").exists());
}

#[test]
fn no_flipped_bit_of_an_archive_goes_unnoticed() {
    const FLIPS: usize = 40;
    let (folder, files) = archived(true);
    let mut random = ChaCha8Rng::seed_from_u64(16);
    let names: Vec<PathBuf> = files.keys().cloned().collect();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in names {
        for _ in 0..FLIPS {
            let whole = &files[&name];
            let (place, bit) = (random.random_range(0..whole.len()), random.random_range(0..8));
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << bit;
            std::fs::write(folder.path("archive").join(&name), bytes).expect("writable");
            let output = run(&folder, EXPAND);
            let what = format!("{}, byte {place}, bit {bit}: {}", name.display(), says(&output));
            assert_eq!(output.status.code(), Some(2), "{what}");
            assert!(
                what.contains(&*name.to_string_lossy()) && !what.contains("panicked"),
                "{what}"
            );
            left_nothing(&folder, &what);
            std::fs::write(folder.path("archive").join(&name), whole).expect("writable");
        }
    }
    works(&run(&folder, EXPAND));
}

/// An archive that is all that a manifest of another maker says.
fn made(folder: &Folder, header: &str, files: BTreeMap<String, FileDigest>) {
    let archived = Archived {
        archived: FileDigest::of_bytes(b"x"),
        header: header.to_string(),
        tensors: BTreeMap::from([("a.weight".to_string(), "0".repeat(64))]),
    };
    let manifest = Manifest {
        format: FORMAT,
        zprune: "0.1.0".to_string(),
        files,
        empty_folders: Vec::new(),
        weights: BTreeMap::from([(WEIGHTS.to_string(), archived)]),
        index: None,
        permissions: BTreeMap::new(),
        checksum: String::new(),
    };
    std::fs::create_dir_all(folder.path("archive")).expect("writable");
    let bytes = manifest.to_bytes().expect("text and numbers");
    folder.write(Path::new("archive").join(MANIFEST), bytes);
}

#[test]
fn an_archive_that_asks_for_more_than_the_disk_has_is_refused_at_once() {
    let folder = Folder::new();
    let (rows, bytes) = (1u64 << 40, 1u64 << 50);
    let header = format!(r#"{{"a.weight":{{"dtype":"F32","shape":[{rows},256],"data_offsets":[0,{bytes}]}}}}"#);
    let size = 8 + header.len() as u64 + bytes;
    let digest = FileDigest {
        bytes: size,
        sha256: "0".repeat(64),
    };
    made(&folder, &header, BTreeMap::from([(WEIGHTS.to_string(), digest)]));
    refused(
        &folder,
        EXPAND,
        3,
        &["the archive restores 1.0 PiB, but there are only "],
    );
}

#[cfg(unix)]
#[test]
fn what_is_not_a_file_is_not_archived() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path("model/pipe"))
        .status();
    assert!(made.expect("mkfifo is there").success());
    refused(
        &folder,
        "compress model --out out",
        2,
        &["model/pipe: is neither a file nor a folder"],
    );
}
