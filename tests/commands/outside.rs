//! Claim: masks and scores of other programs are methods like any other. The same mask and the same scores give the same numbers, to
//! the last bit, and what does not fit the model or the pattern is refused by name.

use super::axes::with;
use super::{Folder, QUERY, run, says, works};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// The matrices of a file: the type, the shape and the bytes of each.
type Matrices = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn write(folder: &Folder, name: &str, matrices: &Matrices) {
    let views = matrices.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).expect("a small file");
    folder.write(name, bytes);
}

/// The weights of the linear layers of a pruned model, and where they are kept.
fn pruned(folder: &Folder, model: &str) -> (Matrices, Matrices) {
    let bytes = std::fs::read(folder.path(format!("{model}/model.safetensors"))).expect("weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (mut scores, mut masks) = (Matrices::new(), Matrices::new());
    for (name, tensor) in tensors.tensors() {
        if !name.contains("_proj") {
            continue;
        }
        let values: Vec<f32> = tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let shape = tensor.shape().to_vec();
        let kept = values.iter().map(|value| u8::from(*value != 0.0)).collect();
        let sizes = values.iter().flat_map(|value| value.abs().to_le_bytes()).collect();
        masks.insert(name.clone(), (Dtype::BOOL, shape.clone(), kept));
        scores.insert(name, (Dtype::F32, shape, sizes));
    }
    (scores, masks)
}

/// Wanda's masks, and scores that choose the same weights, for two patterns and two seeds.
fn from_elsewhere(folder: &Folder) {
    for seed in [0, 1] {
        for (pattern, arguments) in [("0.5", "--sparsity 0.5"), ("2-4", "--keep 2 --of 4")] {
            let out = format!("wanda-{pattern}-{seed}");
            works(&run(
                folder,
                &format!(
                    "prune --model model --method wanda {arguments} --calibration calibration.jsonl --sequences 4 --length 16 --seed {seed} \
                     --out {out}"
                ),
            ));
            let (scores, masks) = pruned(folder, &out);
            write(folder, &format!("scores-model-{pattern}-{seed}.safetensors"), &scores);
            write(folder, &format!("mask-{pattern}-{seed}.safetensors"), &masks);
        }
    }
}

const METHODS: &str = r#"[[method]]
criterion = "wanda"

[[method]]
name = "their mask"
mask = "mask-{pattern}-{seed}.safetensors"

[[method]]
name = "their scores"
scores = "scores-{model}-{pattern}-{seed}.safetensors"

[[method]]
name = "updated"
mask = "mask-{pattern}-{seed}.safetensors"
solver = "obs"
compensate = "bias"

[[method]]
name = "one of them"
mask = "mask-0.5-1.safetensors"
pattern = 0.5
seed = 1
group = "row"
refine = "sparse-swaps"
"#;

fn records(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

#[test]
fn the_same_mask_and_the_same_scores_give_the_same_numbers() {
    let folder = with(METHODS);
    from_elsewhere(&folder);
    let told = works(&run(&folder, "plan experiment.toml"));
    // Dense; four methods by two patterns and two seeds; one that has one place.
    assert!(told.contains("18 cells"), "{told}");
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    assert_eq!(records.len(), 18);
    let own = |method: &str| -> Vec<&Value> {
        records
            .iter()
            .filter(|record| record["label"]["method"] == method)
            .collect()
    };
    let wanda = own("wanda");
    for method in ["their mask", "their scores"] {
        let theirs = own(method);
        assert_eq!(theirs.len(), 4, "{method}");
        for (wanda, theirs) in wanda.iter().zip(&theirs) {
            assert_eq!(wanda["evaluations"], theirs["evaluations"], "{method}");
            assert_eq!(wanda["sparsity"], theirs["sparsity"], "{method}");
            let pruning = &theirs["cell"]["pruning"];
            assert!(pruning.get("calibration").is_none(), "{method}: {pruning}");
            let parameters = &pruning["criterion"]["parameters"];
            assert!(parameters.get("path").is_none(), "{method}: {parameters}");
            assert_eq!(parameters["sha256"].as_str().expect("a hash").len(), 64, "{method}");
            assert_eq!(
                parameters["seed"], wanda["cell"]["pruning"]["calibration"]["seed"],
                "{method}"
            );
        }
    }
    let updated = own("updated");
    assert_eq!(updated.len(), 4);
    for (wanda, updated) in wanda.iter().zip(&updated) {
        assert_ne!(wanda["evaluations"], updated["evaluations"]);
        let removed = |record: &Value| -> Vec<u64> {
            let layers = record["layers"].as_array().expect("layers").iter();
            layers
                .map(|layer| layer["removed"].as_u64().expect("a count"))
                .collect()
        };
        assert_eq!(removed(wanda), removed(updated));
    }
    assert_eq!(own("one of them").len(), 1);
    assert!(own("one of them")[0]["layers"][0]["refined"].as_u64() > Some(0));
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/comparisons.md")).expect("paired tests");
    assert!(table.contains("their mask"), "{table}");
    // A record is found again by what is in the file, wherever the file is.
    std::fs::rename(
        folder.path("mask-0.5-1.safetensors"),
        folder.path("elsewhere.safetensors"),
    )
    .expect("writable");
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
    let from = text.find("[[method]]").expect("methods");
    let to = text.find("[[evaluation]]").expect("an evaluation");
    let one = "[[method]]\nname = \"moved\"\nmask = \"elsewhere.safetensors\"\npattern = 0.5\nseed = 1\ngroup = \"row\"\n\
               refine = \"sparse-swaps\"\n\n";
    folder.write("experiment.toml", format!("{}{one}{}", &text[..from], &text[to..]));
    works(&run(&folder, "experiment.toml"));
    assert_eq!(
        std::fs::read_to_string(folder.path("results/tiny/runs.jsonl"))
            .expect("records")
            .lines()
            .count(),
        18
    );
}

#[test]
fn a_pruned_model_has_exactly_the_zeros_of_the_mask() {
    let folder = Folder::new();
    from_elsewhere(&folder);
    let (_, masks) = pruned(&folder, "wanda-0.5-0");
    works(&run(
        &folder,
        "prune --model model --method mask+least-squares --set path=mask-0.5-0.safetensors --sparsity 0.5 --calibration calibration.jsonl \
         --sequences 4 --length 16 --out refitted",
    ));
    assert!(pruned(&folder, "refitted").1 == masks, "other zeros");
    let told = works(&run(&folder, "verify refitted --against model"));
    assert!(told.contains("mask"), "{told}");
    // Layers may differ, as long as all together lose what the pattern says.
    let mut uneven = masks.clone();
    for (name, from, to) in [
        ("model.layers.0.mlp.up_proj.weight", 1, 0),
        ("model.layers.1.mlp.up_proj.weight", 0, 1),
    ] {
        let (.., bytes) = uneven.get_mut(name).expect("a layer");
        bytes
            .iter_mut()
            .filter(|byte| **byte == from)
            .take(100)
            .for_each(|byte| *byte = to);
    }
    write(&folder, "uneven.safetensors", &uneven);
    works(&run(
        &folder,
        "prune --model model --method mask --set path=uneven.safetensors --sparsity 0.5 --out uneven",
    ));
    assert!(pruned(&folder, "uneven").1 == uneven, "other zeros");
    works(&run(&folder, "verify uneven --against model"));
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = Folder::new();
    from_elsewhere(&folder);
    let (scores, masks) = pruned(&folder, "wanda-0.5-0");
    let mask = "prune --model model --method mask --set path=x.safetensors --sparsity 0.5 --out out";
    let score = "prune --model model --method scores --set path=x.safetensors --sparsity 0.5 --out out";
    let refused = |command: &str, matrices: &Matrices, expect: &[&str]| {
        write(&folder, "x.safetensors", matrices);
        super::refused(&folder, command, 2, expect);
    };
    let changed = |all: &Matrices, change: &dyn Fn(&mut Matrices)| {
        let mut all = all.clone();
        change(&mut all);
        all
    };
    let missing = |all: &mut Matrices| drop(all.remove(QUERY));
    refused(
        mask,
        &changed(&masks, &missing),
        &[QUERY, "is missing", "x.safetensors"],
    );
    let empty = |all: &mut Matrices| all.retain(|name, _| name.contains("mlp"));
    refused(score, &changed(&scores, &empty), &["is missing and 7 more"]);
    let surplus = |all: &mut Matrices| {
        let head = all[QUERY].clone();
        all.insert("lm_head.weight".to_string(), head);
    };
    refused(
        mask,
        &changed(&masks, &surplus),
        &["lm_head.weight", "belongs to no linear layer"],
    );
    let turned = |all: &mut Matrices| {
        let (_, shape, _) = all.get_mut("model.layers.0.mlp.up_proj.weight").expect("there");
        shape.reverse();
    };
    refused(score, &changed(&scores, &turned), &["up_proj", "has shape [32, 64]"]);
    refused(mask, &scores, &["has type F32, and a mask is BOOL or U8"]);
    refused(score, &masks, &["has type BOOL, and scores are F32"]);
    let two = |all: &mut Matrices| {
        let (dtype, _, bytes) = all.get_mut(QUERY).expect("there");
        (*dtype, bytes[33]) = (Dtype::U8, 2);
    };
    refused(mask, &changed(&masks, &two), &[QUERY, "element [1, 1] is 2"]);
    for (value, says) in [(f32::NAN, "is NaN"), (f32::INFINITY, "is inf"), (-1.0, "is -1")] {
        let wrong = |all: &mut Matrices| {
            let (.., bytes) = all.get_mut(QUERY).expect("there");
            bytes[4..8].copy_from_slice(&value.to_le_bytes());
        };
        refused(score, &changed(&scores, &wrong), &[QUERY, "element [0, 1]", says]);
    }
    let equal = |all: &mut Matrices| {
        let (.., bytes) = all.get_mut(QUERY).expect("there");
        let one: [u8; 4] = 0.25f32.to_le_bytes();
        bytes.chunks_exact_mut(4).for_each(|score| score.copy_from_slice(&one));
    };
    refused(
        score,
        &changed(&scores, &equal),
        &["x.safetensors", QUERY, "scores are 0.25", "cannot rank the weights"],
    );
    // Equal within every comparison group, but not from group to group.
    for (index, (width, command)) in [
        (32, score.to_string()),
        (32, score.replace("--out", "--group row-share --out")),
        (4, score.replace("--sparsity 0.5", "--keep 2 --of 4")),
    ]
    .into_iter()
    .enumerate()
    {
        let in_groups = |all: &mut Matrices| {
            let (.., bytes) = all.get_mut(QUERY).expect("there");
            for (place, score) in bytes.chunks_exact_mut(4).enumerate() {
                score.copy_from_slice(&((1 + place / width) as f32).to_le_bytes());
            }
        };
        let matrices = changed(&scores, &in_groups);
        let says = "the file cannot rank weights: ";
        refused(
            &command,
            &matrices,
            &["x.safetensors", QUERY, says, "all scores of such a group are the same"],
        );
        let by_matrix = score.replace("--out out", &format!("--group matrix --out by-matrix-{index}"));
        works(&run(&folder, &by_matrix));
    }
    let wide = |all: &mut Matrices| {
        let (dtype, _, bytes) = all.get_mut(QUERY).expect("there");
        let values: Vec<f64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|it| f64::from(f32::from_le_bytes(*it)))
            .collect();
        *dtype = Dtype::F64;
        *bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    };
    refused(
        score,
        &changed(&scores, &wide),
        &[
            QUERY,
            "has type F64, and scores are F32, F16 or BF16: write them as `x.float()`",
        ],
    );
    refused(
        mask,
        &changed(&scores, &wide),
        &["and a mask is BOOL or U8: write it as `mask.to(torch.bool)`"],
    );
    // A mask of another pattern.
    refused(
        &mask.replace("--sparsity 0.5", "--keep 2 --of 4"),
        &masks,
        &["the mask is not 2:4", ".weight", "in all,"],
    );
    refused(
        &mask.replace("0.5", "0.6"),
        &masks,
        &["which is 50.00 %", "the pattern 60 %", "farthest from it"],
    );
    let unequal = |all: &mut Matrices| {
        let (.., bytes) = all.get_mut(QUERY).expect("there");
        let place = bytes.iter().position(|byte| *byte == 0).expect("a zero");
        bytes[place] = 1;
    };
    let by_row = mask.replace("--out", "--group row --out");
    refused(
        &by_row,
        &changed(&masks, &unequal),
        &[
            QUERY,
            "does not remove the same number of weights from every group `row`",
            "row 1",
        ],
    );
    std::fs::remove_file(folder.path("x.safetensors")).expect("there");
    super::refused(
        &folder,
        mask,
        2,
        &["file of method `mask`: `x.safetensors` is not there"],
    );
}

/// Claim: gradients that were written to a file prune as those that are computed, whatever the layout of the weights is; those of another
/// text do not.
#[test]
fn gradients_may_have_a_text_of_their_own() {
    let folder = Folder::new();
    super::place_windows(&folder);
    super::place(&folder, "gpt2", true);
    let other: Vec<u32> = (0..4 * 16).map(|t| t * 41 % 96).collect();
    let other = zprune::data::windows::TokenWindows::new(other, 16).expect("whole windows");
    other.write(&folder.path("other.safetensors")).expect("writable");
    let weights = |name: &str| std::fs::read(folder.path(format!("{name}/model.safetensors"))).expect("weights");
    for model in ["model", "gpt2"] {
        for (method, added) in [
            ("gblm", "l2"),
            ("gblm --set norm=l1", "l1"),
            ("pruner-zero", "l2"),
            ("taylor", "mean"),
        ] {
            let what = format!("{model}-{}-{added}", &method[..4]);
            for text in ["tokens", "other"] {
                works(&run(
                    &folder,
                    &format!(
                        "export-statistics --model {model} --tokens {text}.safetensors --gradients {added} --out {what}-{text}.safetensors"
                    ),
                ));
            }
            let prune = format!(
                "prune --model {model} --tokens tokens.safetensors --method {method} --sparsity 0.5 --out {what}"
            );
            works(&run(&folder, &prune));
            for text in ["tokens", "other"] {
                works(&run(
                    &folder,
                    &format!("{prune}-{text} --gradients {what}-{text}.safetensors"),
                ));
                let same = weights(&what) == weights(&format!("{what}-{text}"));
                assert_eq!(same, text == "tokens", "{what} {text}");
            }
        }
    }
    super::refused(
        &folder,
        "export-statistics --model model --tokens tokens.safetensors --gradients l2 --gram --out both.safetensors",
        2,
        &["cannot be used with"],
    );
}

#[test]
fn what_was_made_for_another_model_is_told() {
    let folder = Folder::new();
    from_elsewhere(&folder);
    works(&run(
        &folder,
        "export-statistics --model model --calibration calibration.jsonl --sequences 4 --length 16 --out statistics.safetensors",
    ));
    let bytes = std::fs::read(folder.path("statistics.safetensors")).expect("statistics");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
    let own = header.metadata().as_ref().expect("metadata")["model_weights_sha256"].clone();
    let (_, masks) = pruned(&folder, "wanda-0.5-0");
    let written = |made_for: &str| {
        let views = masks.iter().map(|(name, (dtype, shape, bytes))| {
            (
                name.clone(),
                TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape"),
            )
        });
        let metadata = [("model_weights_sha256".to_string(), made_for.to_string())];
        let bytes = safetensors::serialize(views, Some(metadata.into_iter().collect())).expect("a small file");
        folder.write("x.safetensors", bytes);
    };
    let mask = "prune --model model --method mask --set path=x.safetensors --sparsity 0.5 --out out";
    written(&"0".repeat(64));
    super::refused(&folder, mask, 2, &["x.safetensors", "made for another model", &own]);
    written(&own);
    let told = says(&run(&folder, mask));
    assert!(told.contains("out") && !told.contains("larger weights"), "{told}");
    // Turned round, it removes what should be kept.
    let mut turned = masks.clone();
    turned
        .values_mut()
        .flat_map(|(.., bytes)| bytes)
        .for_each(|byte| *byte = 1 - *byte);
    write(&folder, "x.safetensors", &turned);
    let turned = run(&folder, &mask.replace("--out out", "--out turned"));
    works(&turned);
    let told = says(&turned);
    assert!(told.contains("removes larger weights than it keeps"), "{told}");
    assert!(told.contains("It is 1 for what is kept"), "{told}");
    // Nobody asks not to be told what may be wrong.
    let quiet = run(&folder, &mask.replace("--out out", "--out quiet --quiet"));
    works(&quiet);
    let told = String::from_utf8_lossy(&quiet.stderr).into_owned();
    assert!(told.contains("removes larger weights than it keeps"), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
}

#[test]
fn a_report_says_that_a_mask_seems_to_be_turned_round() {
    let folder = with(
        "[[method]]\nname = \"theirs\"\nmask = \"mask-{pattern}-0.safetensors\"\n\n[[method]]\nname = \"turned\"\n\
         mask = \"turned-{pattern}.safetensors\"\n",
    );
    from_elsewhere(&folder);
    for pattern in ["0.5", "2-4"] {
        let (_, mut masks) = pruned(&folder, &format!("wanda-{pattern}-0"));
        masks
            .values_mut()
            .flat_map(|(.., bytes)| bytes)
            .for_each(|byte| *byte = 1 - *byte);
        write(&folder, &format!("turned-{pattern}.safetensors"), &masks);
    }
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    let turned = records.iter().filter(|record| record["turned_round"].is_number());
    let labels: Vec<&str> = turned.filter_map(|record| record["label"]["method"].as_str()).collect();
    assert_eq!(labels, ["turned"; 2]);
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/perplexity.md")).expect("a table");
    // Nobody knows which weights competed with each other.
    let row = table.lines().find(|line| line.starts_with("| theirs "));
    assert_eq!(
        row.and_then(|row| row.split('|').nth(2)).map(str::trim),
        Some("mask"),
        "{table}"
    );
    let note = table
        .lines()
        .find(|line| line.contains("remove larger weights than they keep"));
    let note = note.unwrap_or_else(|| panic!("no note: {table}"));
    assert!(
        note.contains("turned (path ") && note.contains(" at 50 % (") && note.contains(" at 2:4 ("),
        "{note}"
    );
    assert!(!note.contains("theirs"), "{note}");
}

#[test]
fn a_checkpoint_of_another_model_is_refused_unless_it_is_said() {
    let folder = with("[[method]]\nname = \"theirs\"\ncheckpoint = \"theirs\"\npattern = 0.5\n");
    std::fs::create_dir(folder.path("theirs")).expect("writable");
    let bytes = std::fs::read(folder.path("model/model.safetensors")).expect("weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut others = Matrices::new();
    for (name, tensor) in tensors.tensors() {
        // The same weights in another order are as good as another training.
        let mut values: Vec<[u8; 4]> = tensor.data().as_chunks().0.to_vec();
        values.rotate_left(5);
        others.insert(name, (Dtype::F32, tensor.shape().to_vec(), values.concat()));
    }
    write(&folder, "theirs/model.safetensors", &others);
    std::fs::copy(folder.path("model/config.json"), folder.path("theirs/config.json")).expect("writable");
    super::refused(
        &folder,
        "experiment.toml",
        2,
        &[
            "method theirs",
            "tensor `model.layers.",
            "nothing in common",
            "`retrained = true`",
        ],
    );
    folder.replace(
        "experiment.toml",
        "checkpoint = \"theirs\"",
        "checkpoint = \"theirs\"\nretrained = true",
    );
    works(&run(&folder, "experiment.toml"));
    let page = std::fs::read_to_string(folder.path("results/tiny/report.html")).expect("a report");
    assert!(
        page.contains("need not resemble the model"),
        "the settings do not say it"
    );
    let alone = with("[[method]]\ncriterion = \"magnitude\"\nretrained = true\n");
    super::refused(
        &alone,
        "plan experiment.toml",
        2,
        &["`retrained`", "belongs to a method with `checkpoint`"],
    );
}

#[test]
fn what_contradicts_itself_is_refused_with_its_place() {
    for (method, expect) in [
        ("mask = \"m\"\nscores = \"s\"", "leave out one of them"),
        (
            "mask = \"m\"\ncriterion = \"wanda\"",
            "`mask` takes the place of a criterion",
        ),
        (
            "mask = \"{pattern}\"\nsolver = \"alps\"",
            "the solver chooses another mask",
        ),
        (
            "mask = \"m\"\npattern = \"2:4\"\npermutation = \"ria\"",
            "leave `permutation` out",
        ),
        ("mask = \"{pattern}\"\nallocator = \"owl\"", "leave `allocator` out"),
        ("mask = \"m\"", "`m` is of one pattern, and the sweep has 2"),
        ("mask = \"m\"\npattern = 0.6", "none of the sweep's `patterns`"),
        ("mask = \"m\"\npattern = 0.5\nseed = 7", "none of the sweep's `seeds`"),
        (
            "criterion = \"magnitude\"\nseed = 0",
            "`seed` is for methods that calibrate",
        ),
        ("units = \"flap\"\nmask = \"m\"", "leave out `mask`"),
        ("scores = \"\"", "parameter `path` is empty"),
    ] {
        let folder = with(&format!("[[method]]\n{method}\n"));
        let output = run(&folder, "plan experiment.toml");
        let text = says(&output);
        assert_eq!(output.status.code(), Some(2), "{method}: {text}");
        assert!(
            text.contains(expect) && text.contains("experiment.toml"),
            "{method}: {text}"
        );
    }
    // What is not there yet is listed with everything else that is missing.
    let folder = with("[[method]]\nmask = \"{pattern}-{seed}.safetensors\"\n");
    let output = run(&folder, "plan experiment.toml");
    let told = says(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for name in ["0.5-0", "2-4-0", "0.5-1", "2-4-1"] {
        assert!(told.contains(&format!("{name}.safetensors` is not there")), "{told}");
    }
    // They have one name, whose place is shown once.
    assert_eq!(
        told.matches("mask = \"{pattern}-{seed}.safetensors\"").count(),
        1,
        "{told}"
    );
    folder.replace("experiment.toml", "seeds = [0, 1]\n", "");
    let told = says(&run(&folder, "plan experiment.toml"));
    assert!(told.contains("has `{seed}`"), "{told}");
}

const CHECKPOINTS: &str = r#"[[method]]
criterion = "wanda"

[[method]]
name = "their model"
checkpoint = "wanda-{pattern}-{seed}"

[[method]]
checkpoint = "wanda-0.5-1"
pattern = 0.5
seed = 1

[[method]]
name = "mislabelled"
checkpoint = "wanda-0.5-0"
pattern = "2:4"

[[method]]
name = "untouched"
checkpoint = "model"
pattern = 0.5
"#;

#[test]
fn a_checkpoint_scores_what_the_method_does_that_made_it() {
    let folder = with(CHECKPOINTS);
    from_elsewhere(&folder);
    let told = works(&run(&folder, "plan experiment.toml"));
    // Dense, two methods by two patterns and two seeds, three that have one place each.
    assert!(told.contains("12 cells"), "{told}");
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    let own = |method: &str| -> Vec<&Value> {
        records
            .iter()
            .filter(|record| record["label"]["method"] == method)
            .collect()
    };
    let (wanda, theirs) = (own("wanda"), own("their model"));
    assert_eq!((wanda.len(), theirs.len(), own("wanda-0.5-1").len()), (4, 4, 0));
    for (wanda, theirs) in wanda.iter().zip(&theirs) {
        assert_eq!(wanda["evaluations"], theirs["evaluations"]);
        assert_eq!(wanda["sparsity"], theirs["sparsity"]);
        let (by, found) = (&wanda["cell"]["pruning"], &theirs["cell"]["pruning"]);
        assert_eq!(by["pattern"], found["pattern"]);
        assert_eq!(by["calibration"]["seed"], found["seed"]);
        assert!(found.get("calibration").is_none(), "{found}");
        assert_eq!(found["checkpoint"]["weights"].as_str().expect("a hash").len(), 64);
        let layers = |record: &Value| record["layers"].as_array().expect("layers").clone();
        for (by, found) in layers(wanda).iter().zip(&layers(theirs)) {
            assert_eq!(
                (&by["tensor"], &by["zeros"], &by["pattern"]),
                (&found["tensor"], &found["zeros"], &found["pattern"])
            );
        }
    }
    let dense = own("dense")[0];
    let untouched = own("untouched")[0];
    assert_eq!(dense["evaluations"], untouched["evaluations"]);
    assert_eq!(untouched["sparsity"], 0.0);
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/perplexity.md")).expect("a table");
    for note in [
        "untouched at 50 %: 0.00 % zeros",
        "mislabelled at 2:4: 50.00 % zeros, and 14 of 14 layers are not 2:4",
    ] {
        assert!(table.contains(note), "no `{note}` in\n{table}");
    }
    assert!(!table.contains("their model at"), "{table}");
    // The untouched model has the lowest perplexity, and is no result of its row.
    let report = std::fs::read_to_string(folder.path("results/tiny/report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let finding = report["finding"].as_str().expect("a sentence");
    assert!(
        !finding.contains("untouched") && !finding.contains("mislabelled"),
        "{finding}"
    );
    for row in table
        .lines()
        .filter(|line| line.starts_with("| untouched") || line.starts_with("| mislabelled"))
    {
        assert!(!row.contains('≈') && !row.contains("**"), "{row}");
    }
    // A cell under another name, and the same directory in another place, are the same cell.
    let count = records.len();
    std::fs::rename(folder.path("wanda-0.5-1"), folder.path("moved")).expect("writable");
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
    let (from, to) = (text.find("[[method]]").expect("methods"), text.find("[[evaluation]]"));
    let to = to.expect("an evaluation");
    let one = "[[method]]\ncheckpoint = \"moved\"\npattern = 0.5\nseed = 1\n\n";
    folder.write("experiment.toml", format!("{}{one}{}", &text[..from], &text[to..]));
    works(&run(&folder, "experiment.toml"));
    assert_eq!(self::records(&folder).len(), count);
    let mut weights = std::fs::read(folder.path("moved/model.safetensors")).expect("weights");
    *weights.last_mut().expect("bytes") ^= 1;
    folder.write("moved/model.safetensors", weights);
    works(&run(&folder, "experiment.toml"));
    assert_eq!(self::records(&folder).len(), count + 1);
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_by_what_is_different() {
    let folder = with("[[method]]\nname = \"theirs\"\ncheckpoint = \"theirs\"\npattern = 0.5\n");
    let refused = |expect: &[&str]| {
        let output = run(&folder, "experiment.toml");
        let text = says(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in expect {
            assert!(text.contains(part), "does not say `{part}`:\n{text}");
        }
    };
    refused(&[
        "checkpoint of method `theirs`: `theirs` is not there",
        "checkpoint = \"theirs\"",
    ]);
    let files = ["config.json", "model.safetensors"];
    std::fs::create_dir(folder.path("theirs")).expect("writable");
    for name in files {
        std::fs::copy(
            folder.path(format!("model/{name}")),
            folder.path(format!("theirs/{name}")),
        )
        .expect("writable");
    }
    folder.replace(
        "theirs/config.json",
        "\"rms_norm_eps\": 1e-05",
        "\"rms_norm_eps\": 1e-06",
    );
    refused(&["method theirs", "another architecture", "last norm"]);
    folder.replace(
        "theirs/config.json",
        "\"rms_norm_eps\": 1e-06",
        "\"rms_norm_eps\": 1e-05",
    );
    let mut weights = std::fs::read(folder.path("theirs/model.safetensors")).expect("weights");
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("theirs/model.safetensors", weights);
    refused(&["theirs/model.safetensors", "NaN"]);
    for (method, expect) in [
        ("checkpoint = \"c\"", "is of one pattern, and the sweep has 2"),
        (
            "checkpoint = \"c\"\npattern = 0.5\ncriterion = \"wanda\"",
            "leave out `criterion`",
        ),
        (
            "checkpoint = \"c\"\npattern = 0.5\nsolver = \"obs\"",
            "leave out `solver`",
        ),
        ("checkpoint = \"c\"\nunits = \"flap\"", "leave out `checkpoint`"),
        ("checkpoint = \"\"", "this path is empty"),
        ("checkpoint = \"hub:a/b/c\"\npattern = 0.5", "a/b/c"),
    ] {
        let folder = with(&format!("[[method]]\n{method}\n"));
        let output = run(&folder, "plan experiment.toml");
        let text = says(&output);
        assert_eq!(output.status.code(), Some(2), "{method}: {text}");
        assert!(text.contains(expect), "{method}: {text}");
    }
}

#[test]
fn exported_statistics_give_scores_that_come_back() {
    let folder = with("[[method]]\ncriterion = \"wanda\"\n\n[[method]]\nscores = \"scores-{seed}.safetensors\"\n");
    folder.replace("experiment.toml", "sequences = 4", "stage = \"dense\"\nsequences = 4");
    let weights = std::fs::read(folder.path("model/model.safetensors")).expect("weights");
    let weights = SafeTensors::deserialize(&weights).expect("safetensors");
    let export = |seed: usize, more: &str| {
        format!(
            "export-statistics --model model --calibration calibration.jsonl --sequences 4 --length 16 --seed {seed} --out \
             statistics-{seed}.safetensors {more}"
        )
    };
    for seed in [0, 1] {
        let told = works(&run(&folder, &export(seed, "--gram")));
        assert!(told.contains("14 layers on 64 tokens"), "{told}");
        let bytes = std::fs::read(folder.path(format!("statistics-{seed}.safetensors"))).expect("written");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let from = header.metadata().clone().expect("it says where it comes from");
        assert_eq!(
            (from["seed"].as_str(), from["sequences"].as_str()),
            (["0", "1"][seed], "4")
        );
        assert_eq!(from["calibration"], "calibration.jsonl");
        for key in [
            "model_weights_sha256",
            "model_config_sha256",
            "calibration_sha256",
            "tokens_sha256",
        ] {
            assert_eq!(from[key].len(), 64, "{key}");
        }
        let statistics = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(statistics.len(), 4 * 14);
        let floats = |name: &str| -> Vec<f64> {
            let tensor = statistics
                .tensor(name)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            match tensor.dtype() {
                Dtype::F64 => tensor
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b))
                    .collect(),
                _ => {
                    let singles = tensor.data().as_chunks().0.iter();
                    singles.map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
                }
            }
        };
        let mut scores = Matrices::new();
        for name in weights.names().into_iter().filter(|name| name.contains("_proj")) {
            let layer = name.strip_suffix(".weight").expect("a weight");
            let [squares, means, variances, gram] = ["input_squares", "input_means", "input_variances", "gram"]
                .map(|what| floats(&format!("{layer}.{what}")));
            let inputs = squares.len();
            // 64 tokens in 4 sequences.
            for (column, squares) in squares.iter().enumerate() {
                let (mean, variance) = (means[column], variances[column]);
                let expected = (variance * 63.0 + mean * mean * 64.0) / 4.0;
                assert!(
                    (squares / expected - 1.0).abs() < 1e-6,
                    "{layer}: {squares} and {expected}"
                );
                let diagonal = gram[column * inputs + column];
                assert!(
                    (squares / diagonal - 1.0).abs() < 1e-5,
                    "{layer}: {squares} and {diagonal}"
                );
            }
            let tensor = weights.tensor(name).expect("there");
            let values = tensor
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            let scored = values.zip(squares.iter().cycle());
            let scored = scored.flat_map(|(weight, squares)| (weight.abs() * squares.sqrt() as f32).to_le_bytes());
            scores.insert(
                name.to_string(),
                (Dtype::F32, tensor.shape().to_vec(), scored.collect()),
            );
        }
        write(&folder, &format!("scores-{seed}.safetensors"), &scores);
    }
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    let own = |method: &str| -> Vec<&Value> {
        let own = records.iter().filter(|record| record["label"]["method"] == method);
        own.collect()
    };
    assert_eq!((own("wanda").len(), own("scores").len()), (4, 4));
    for (wanda, theirs) in own("wanda").iter().zip(own("scores")) {
        assert_eq!(wanda["evaluations"], theirs["evaluations"]);
    }
    // Nothing is written over, and nothing is made up.
    super::refused(&folder, &export(0, ""), 3, &["statistics-0.safetensors"]);
    super::refused(
        &folder,
        "export-statistics --model model --out out",
        2,
        &["--calibration FILE"],
    );
    let without = export(2, "");
    works(&run(&folder, &without));
    let bytes = std::fs::read(folder.path("statistics-2.safetensors")).expect("written");
    assert_eq!(SafeTensors::deserialize(&bytes).expect("safetensors").len(), 3 * 14);
}
