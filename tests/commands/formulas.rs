//! Claim: formulas have what they use gathered, and what is not a number in them is refused.

use super::axes::with;
use super::{Folder, run, works};
use zprune::experiment::identity::PruningKind;
use zprune::prune::criterion::words::VALUES;
use zprune::record::{self, Record};

#[test]
fn every_value_can_be_used_alone() {
    // A second name for the same thing would be the same cell.
    let names = || VALUES.iter().map(|value| value.names[0]);
    assert!(names().count() > 15);
    let method = |name: &str| {
        format!("[[method]]\nname = \"{name}\"\ncriterion = {{ expression = \"abs(w) * (abs({name}) + 1)\" }}\n\n")
    };
    let methods: String = names().map(method).collect();
    let folder = with(&methods);
    let told = works(&run(&folder, "experiment.toml"));
    assert!(told.contains(" cells run, 0 had results already"), "{told}");
}

#[test]
fn a_score_that_is_no_number_names_its_layer() {
    for formula in [
        "minimum(abs(w), sqrt(0 - abs(w)))",
        "maximum(abs(w), log(0 - abs(w)))",
        "below(sqrt(w), 1) * abs(w)",
        "inverse(sqrt(w)) * abs(w)",
        "max(sqrt(w)) + abs(w)",
        "min(sqrt(w)) + abs(w)",
    ] {
        let folder = Folder::new();
        let set = format!("expression={formula}");
        let words = "prune --model model --sparsity 0.5 --method expression --out out --set";
        let mut words: Vec<&str> = words.split(' ').collect();
        words.push(&set);
        let output = folder.zprune(&words).output().expect("the program starts");
        let text = super::says(&output);
        assert!(!output.status.success(), "{formula}: {text}");
        assert!(text.contains("layers.0") && text.contains("NaN"), "{formula}: {text}");
    }
}

#[test]
fn a_formula_that_cannot_rank_is_refused_before_anything_is_loaded() {
    for (formula, group, pattern, says) in [
        ("y2", "row", "0.5", "with group = \"row\" the inputs of one output"),
        ("row_sum(abs(w)) * depth", "row", "0.5", "row_sums(abs(w)) * depth"),
        ("y2", "matrix", "\"2:4\"", "under 2:4 the 4 neighbouring inputs"),
        ("abs(w) ^ 0", "matrix", "0.5", "gives every weight the same score"),
        ("w - w + fan_in", "matrix", "0.5", "gives every weight the same score"),
    ] {
        let method = format!("criterion = {{ expression = \"{formula}\" }}\ngroup = \"{group}\"\npattern = {pattern}");
        let folder = with(&format!("[[method]]\n{method}\n"));
        std::fs::remove_dir_all(folder.path("model")).expect("writable");
        let output = run(&folder, "plan experiment.toml");
        let text = super::says(&output);
        assert_eq!(output.status.code(), Some(2), "{formula}: {text}");
        for part in [says, "experiment.toml", "^"] {
            assert!(text.contains(part), "{formula}: no `{part}` in {text}");
        }
    }
    // Rows can be ranked where they are compared with each other.
    let folder = with("[[method]]\ncriterion = { expression = \"y2\" }\ngroup = \"matrix\"\npattern = 0.5\n");
    works(&run(&folder, "plan experiment.toml"));
}

#[test]
fn a_formula_that_ranks_nothing_in_a_layer_names_layer_and_formula() {
    for (formula, set, refused) in [
        // 0 in the first block.
        ("depth * abs(w)", "", true),
        ("max(abs(w), 1000000000)", "", true),
        ("abs(w) * 1e-60", "", true),
        ("row_sum(abs(w)) + min(abs(w), 1e-30)", "", true),
        ("row_sum(abs(w)) + min(abs(w), 1e-30)", "--group matrix", false),
        ("(depth + 1) * abs(w)", "", false),
    ] {
        let folder = Folder::new();
        let words = format!("prune --model model --sparsity 0.5 --method expression {set} --out out");
        let expression = format!("expression={formula}");
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.extend(["--set", &expression]);
        let output = folder.zprune(&words).output().expect("the program starts");
        let text = super::says(&output);
        if !refused {
            works(&output);
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{formula}: {text}");
        for part in [
            "model.layers.0.",
            &format!("the formula `{formula}` cannot rank weights"),
        ] {
            assert!(text.contains(part), "{formula}: no `{part}` in {text}");
        }
        super::left_nothing(&folder, formula);
    }
}

/// Claim: of a formula of ten thousand characters, a message shows what is around the mistake.
#[test]
fn a_long_formula_is_not_said_whole() {
    let ones = " + 1.00000000000000000000000000000".repeat(150);
    assert!(2 * ones.len() > 10_000);
    for (formula, more, says) in [
        (format!("abs(w){ones} + y9{ones}"), "", "unknown value `y9`"),
        (format!("abs(w{ones}{ones}"), "", "`)` is missing"),
        (format!("0 - abs(w){ones}{ones} w"), "", "the formula could end here"),
        (
            format!("1{ones}{ones}"),
            "",
            "the formula gives every weight the same score",
        ),
        (
            format!("w * (1{ones}{ones})"),
            "",
            "the formula gives every weight below 0 a score below 0",
        ),
        (
            format!("abs(w) * (1{ones}{ones})"),
            ", a = 1.0",
            "parameter `a` is not in the formula",
        ),
        (
            format!("y2 * (1{ones}{ones})"),
            "",
            "this is one number for each output (row)",
        ),
        (format!("abs(w) + {}", "y9".repeat(5000)), "", "unknown value `y9y9"),
    ] {
        let folder = with(&format!(
            "[[method]]\ncriterion = {{ expression = \"{formula}\"{more} }}\n"
        ));
        let output = run(&folder, "plan experiment.toml");
        let text = super::says(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "no `{says}` in {text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(1000), "{text}");
        let set = format!("expression={formula}");
        let words = [
            "prune",
            "--model",
            "model",
            "--sparsity",
            "0.5",
            "--method",
            "expression",
            "--out",
            "out",
            "--set",
            &set,
        ];
        let output = folder.zprune(&words).output().expect("the program starts");
        let text = super::says(&output);
        assert!(!output.status.success() || !more.is_empty(), "{text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(1000), "{text}");
    }
    // What only weights tell.
    let folder = Folder::new();
    let set = format!("expression=depth * abs(w) * (1{ones}{ones})");
    let words = [
        "prune",
        "--model",
        "model",
        "--sparsity",
        "0.5",
        "--method",
        "expression",
        "--out",
        "out",
        "--set",
        &set,
    ];
    let text = super::says(&folder.zprune(&words).output().expect("the program starts"));
    assert!(
        text.contains("model.layers.0.") && text.contains("the formula `depth * abs(w) * (1 + 1"),
        "{text}"
    );
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(1000), "{text}");
}

/// Claim: a formula with the sign of the weight is refused before anything is loaded, since half of its scores would be negative.
#[test]
fn a_formula_that_is_surely_negative_is_refused_in_the_plan() {
    for (formula, says) in [
        ("w * sqrt(x2)", "every weight below 0 a score below 0"),
        ("-abs(w)", "weights a score below 0"),
    ] {
        let folder = with(&format!("[[method]]\ncriterion = {{ expression = \"{formula}\" }}\n"));
        std::fs::remove_dir_all(folder.path("model")).expect("writable");
        let output = run(&folder, "plan experiment.toml");
        let text = super::says(&output);
        assert_eq!(output.status.code(), Some(2), "{formula}: {text}");
        for part in [says, "`abs(w)`", formula, "^", "experiment.toml:"] {
            assert!(text.contains(part), "{formula}: no `{part}` in {text}");
        }
    }
    // Only weights tell.
    let folder = with("[[method]]\ncriterion = { expression = \"w + 0.001\" }\n");
    works(&run(&folder, "plan experiment.toml"));
    let text = super::says(&run(&folder, "experiment.toml"));
    assert!(text.contains("is negative") || text.contains(" is -"), "{text}");
}

#[test]
fn a_layer_of_zeros_fails_no_method() {
    let folder = Folder::new();
    let path = folder.path("model/model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    let (header, mut data) = bytes.split_at(8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize);
    let known: serde_json::Value = serde_json::from_slice(&header[8..]).expect("a header");
    let places = &known["model.layers.0.self_attn.q_proj.weight"]["data_offsets"];
    let at = |index: usize| places[index].as_u64().expect("a place") as usize;
    let mut changed = std::mem::take(&mut data).to_vec();
    changed[at(0)..at(1)].fill(0);
    std::fs::write(&path, [header, &changed].concat()).expect("writable");
    let methods = ["magnitude", "wanda", "expression --set expression=abs(w)*(depth+1)"];
    for (index, method) in methods.iter().enumerate() {
        works(&run(
            &folder,
            &format!(
                "prune --model model --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16 --out out-{index} --method {method}"
            ),
        ));
    }
}

#[test]
fn a_formula_is_the_same_cell_whichever_names_it_is_written_with() {
    let method =
        |formula: &str, group: &str| format!("[[method]]\ncriterion = {{ expression = \"{formula}\"{group} }}\n");
    let folder = with(&method("abs(w) * sqrt(x2)", ""));
    works(&run(&folder, "experiment.toml"));
    let experiment = |methods: &str| {
        let text = std::fs::read_to_string(with(methods).path("experiment.toml")).expect("there");
        folder.write("experiment.toml", text);
    };
    let nothing_is_run = |what: &str| {
        let told = works(&run(&folder, "experiment.toml"));
        assert!(told.contains("0 cells run"), "{what}: {told}");
    };
    for (formula, group) in [
        ("abs(w)*root(input_squares)", ""),
        ("abs(w) * sqrt(input_squares)", ", group = \"row\""),
    ] {
        experiment(&method(formula, group));
        nothing_is_run(formula);
    }
    // Where a group is said, it does not matter where.
    experiment(&method("abs(w) * sqrt(x2)", ", group = \"matrix\""));
    works(&run(&folder, "experiment.toml"));
    experiment(&(method("abs(w) * root(x2)", "") + "group = \"matrix\"\n"));
    nothing_is_run("the group beside the formula");

    // Records of a zprune that wrote the names down as they were typed, and the group.
    let path = folder.path("results/tiny/runs.jsonl");
    let older = |mut record: Record| {
        if let Some(pruning) = &mut record.cell.pruning
            && let PruningKind::Recipe(recipe) = &mut pruning.kind
        {
            recipe.criterion.parameters["expression"] = "abs(w) * root(input_squares)".into();
            recipe.criterion.parameters["group"] = "matrix".into();
        }
        record.id = record.cell.id();
        record.line().expect("a record")
    };
    let records = record::read(&folder.path("results/tiny")).expect("records");
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    let lines: Vec<String> = records.into_iter().map(older).collect();
    std::fs::write(&path, lines.join("\n") + "\n").expect("writable");
    let changed = record::read(&folder.path("results/tiny")).expect("still records");
    assert!(changed.iter().filter(|record| !ids.contains(&record.id)).count() > 3);
    nothing_is_run("older records");
    works(&run(&folder, "report results/tiny"));
}

#[test]
fn groups_that_contradict_each_other_are_refused_with_their_place() {
    let formula = "criterion = { expression = \"abs(w) * sqrt(x2)\", group = \"row\" }";
    let folder = with(&format!("[[method]]\n{formula}\ngroup = \"matrix\"\n"));
    let output = run(&folder, "plan experiment.toml");
    let text = super::says(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let says =
        "the table of the formula says group = \"row\", and the method group = \"matrix\"; leave out one of them";
    let line = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
    let line = line
        .lines()
        .position(|line| line.contains("expression"))
        .expect("the formula")
        + 1;
    for part in [says, &format!("experiment.toml:{line}:")] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    let folder = with(&format!("[[method]]\n{formula}\ngroup = \"row\"\n"));
    works(&run(&folder, "plan experiment.toml"));
    let folder = with(&format!(
        "[[method]]\n{}\n",
        formula.replace("\"row\"", "0.5").replace("sqrt(x2)", "group")
    ));
    let text = super::says(&run(&folder, "plan experiment.toml"));
    assert!(
        text.contains("`group` is the group that scores are compared in"),
        "{text}"
    );
}
