//! Claim: every input that cannot be used is refused before anything is written, with exit code 2 and
//! a message that says where the fault is and, where there is one, how to mend it.
//!
//! Each case is one change to a folder in which the experiment runs (`tests/tiny`). It is tried twice:
//! where there are no results yet, and where the undamaged experiment has left some.

mod tiny;

use Change::*;
use safetensors::Dtype;
use std::io::Write;
use std::path::Path;
use std::process::Output;
use tiny::{Files, Folder, Tensor, Tensors};

struct Case {
    /// What is wrong, in words.
    name: &'static str,
    change: Change,
    /// What the message must say.
    expect: &'static [&'static str],
}

/// One piece of damage.
enum Change {
    /// This text of `experiment.toml` becomes that.
    Experiment(&'static str, &'static str),
    /// This file of `tests/bad_toml` is the experiment.
    ExperimentFile(&'static str),
    /// This text of `config.json` becomes that.
    Config(&'static str, &'static str),
    /// The checkpoint's tensors change before they are stored.
    Weights(fn(&mut Tensors)),
    /// The stored checkpoint changes.
    Stored(fn(&mut Vec<u8>)),
    /// A file has this content.
    Content(&'static str, &'static [u8]),
    /// A file is not there.
    Absent(&'static str),
    /// Anything else.
    Other(fn(&Folder)),
}

impl Change {
    fn apply(&self, folder: &Folder) {
        const WEIGHTS: &str = "model/model.safetensors";
        match self {
            Experiment(old, new) => folder.replace("experiment.toml", old, new),
            ExperimentFile(name) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_toml").join(name);
                folder.write(
                    "experiment.toml",
                    std::fs::read(path).expect("a file of the repository"),
                );
            }
            Config(old, new) => folder.replace("model/config.json", old, new),
            Weights(change) => {
                let mut tensors = tiny::weights();
                change(&mut tensors);
                tiny::save(&tensors, &folder.path(WEIGHTS));
            }
            Stored(change) => {
                let mut bytes = std::fs::read(folder.path(WEIGHTS)).expect("the folder has weights");
                change(&mut bytes);
                folder.write(WEIGHTS, bytes);
            }
            Content(name, content) => folder.write(name, content),
            Absent(name) => std::fs::remove_file(folder.path(name)).expect("the file is there"),
            Other(change) => change(folder),
        }
    }
}

/// What the undamaged experiment leaves behind.
fn results() -> Files {
    let folder = Folder::new();
    let output = folder.run();
    assert!(output.status.success(), "the undamaged experiment failed: {output:?}");
    folder.results()
}

/// A folder that holds these results.
fn folder_with(results: &Files) -> Folder {
    let folder = Folder::new();
    for (path, content) in results {
        let parent = folder.path(path.parent().expect("results lie in folders"));
        std::fs::create_dir_all(parent).expect("the temporary folder is writable");
        folder.write(path, content);
    }
    folder
}

/// What is wrong with a refusal, if anything is; nothing may have changed since `before`.
fn complaint(case: &Case, folder: &Folder, before: &Files, output: &Output) -> Option<String> {
    let message = String::from_utf8_lossy(&output.stderr);
    let mut complaints = Vec::new();
    if output.status.code() != Some(2) {
        complaints.push(format!("ended with {}", output.status));
    }
    if message.contains("panicked") {
        complaints.push("panicked".to_string());
    }
    if !output.stdout.is_empty() {
        complaints.push("wrote to standard output".to_string());
    }
    complaints.extend(
        case.expect
            .iter()
            .filter(|part| !message.contains(**part))
            .map(|part| format!("does not say `{part}`")),
    );
    if folder.path("results").exists() == before.is_empty() || folder.results() != *before {
        complaints.push("changed the results folder".to_string());
    }
    if complaints.is_empty() {
        return None;
    }
    Some(format!(
        "{}: {}\n  {}",
        case.name,
        complaints.join(", "),
        message.trim_end().replace('\n', "\n  ")
    ))
}

/// Tries all cases and fails with everything that was not as it should be.
fn refuses_all(cases: &[Case]) {
    let results = results();
    let mut failures = Vec::new();
    for case in cases {
        for before in [&Files::new(), &results] {
            let folder = folder_with(before);
            case.change.apply(&folder);
            failures.extend(complaint(case, &folder, before, &folder.run()));
        }
    }
    failures.dedup();
    assert!(
        failures.is_empty(),
        "{} cases went wrong:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

const EXPERIMENTS: &[Case] = &[
    Case {
        name: "an unknown protocol",
        change: Experiment("name = \"tiny\"", "name = \"tiny\"\nprotocol = \"wandas\""),
        expect: &["experiment.toml:2:12: unknown protocol `wandas`; did you mean `wanda`?"],
    },
    Case {
        name: "a protocol and another length",
        change: Experiment("name = \"tiny\"", "name = \"tiny\"\nprotocol = \"ria\""),
        expect: &[
            "experiment.toml:",
            "protocol `ria` sets length = 2048, but here it is 16; leave out one of them",
        ],
    },
    Case {
        name: "a length that is no number",
        change: Experiment("length = 16\nwindows", "length = \"all\"\nwindows"),
        expect: &["experiment.toml:", "a number of tokens, or \"max_position_embeddings\""],
    },
    Case {
        name: "an expectation of nothing that is measured",
        change: Experiment(
            "obtain = \"train it\"",
            "obtain = \"train it\"\nexpected.novels = { perplexity = 300.0, tolerance = 0.1 }",
        ),
        expect: &["experiment.toml:4:1: `expected` names no evaluation `novels`; did you mean `novel`?"],
    },
    Case {
        name: "an expectation that holds for nothing",
        change: Experiment(
            "obtain = \"train it\"",
            "obtain = \"train it\"\nexpected.novel = { perplexity = 0.5, tolerance = 0.1 }",
        ),
        expect: &["experiment.toml:4:1: expected.novel: a perplexity is at least 1"],
    },
    Case {
        name: "no experiment file",
        change: Absent("experiment.toml"),
        expect: &["experiment.toml: no such file"],
    },
    Case {
        name: "not UTF-8",
        change: Content("experiment.toml", b"name = \"tiny\"\n# \xff\n"),
        expect: &["experiment.toml:2:", "not valid UTF-8"],
    },
    Case {
        name: "broken syntax",
        change: ExperimentFile("unclosed_string.toml"),
        expect: &["experiment.toml:6:14: ", "string"],
    },
    Case {
        name: "no methods",
        change: ExperimentFile("no_methods.toml"),
        expect: &["experiment.toml: there is no [[method]]; at least one is needed"],
    },
    Case {
        name: "an empty list of methods",
        change: ExperimentFile("empty_methods.toml"),
        expect: &["experiment.toml: there is no [[method]]; at least one is needed"],
    },
    Case {
        name: "no sweep",
        change: ExperimentFile("no_sweep.toml"),
        expect: &["experiment.toml:1:1: missing field `sweep`"],
    },
    Case {
        name: "no calibration",
        change: ExperimentFile("no_calibration.toml"),
        expect: &["experiment.toml: method `wanda` needs calibration, but there is no [calibration]"],
    },
    Case {
        name: "two models of one name",
        change: ExperimentFile("two_models_one_name.toml"),
        expect: &[
            "experiment.toml:7:1: ",
            "model name `model` is used twice",
            "another `name`",
        ],
    },
    Case {
        name: "no patterns",
        change: Experiment("patterns = [{ sparsity = 0.5 }, { keep = 2, of = 4 }]", "patterns = []"),
        expect: &["experiment.toml:15:1: there is no sweep.patterns; at least one is needed"],
    },
    Case {
        name: "no seeds",
        change: Experiment("seeds = [0, 1]", "seeds = []"),
        expect: &["experiment.toml:15:1: method `wanda` needs calibration seeds: `seeds = [0, 1, 2]`"],
    },
    Case {
        name: "an unknown key at the top",
        change: Experiment("description =", "descripton ="),
        expect: &[
            "experiment.toml:2:1: unknown field `descripton`",
            "did you mean `description`?",
        ],
    },
    Case {
        name: "an unknown key in [sweep]",
        change: Experiment("seeds = ", "seed = "),
        expect: &["experiment.toml:16:1: unknown field `seed`", "did you mean `seeds`?"],
    },
    Case {
        name: "an unknown key in [[method]]",
        change: Experiment("solver = \"obs\"", "solvr = \"obs\""),
        expect: &["experiment.toml:26:1: unknown field `solvr`", "did you mean `solver`?"],
    },
    Case {
        name: "an unknown key in a pattern",
        change: Experiment("{ sparsity = 0.5 }", "{ sparsty = 0.5 }"),
        expect: &[
            "experiment.toml:17:15: unknown field `sparsty`",
            "did you mean `sparsity`?",
        ],
    },
    Case {
        name: "an unknown criterion",
        change: Experiment("criterion = \"wanda\"", "criterion = \"wnada\""),
        expect: &[
            "experiment.toml:21:13: unknown criterion `wnada`; did you mean `wanda`?",
            "`z-pruner`",
        ],
    },
    Case {
        name: "an unknown solver",
        change: Experiment("solver = \"obs\"", "solver = \"oneshot\""),
        expect: &["experiment.toml:26:10: unknown solver `oneshot`; did you mean `one-shot`?"],
    },
    Case {
        name: "an unknown allocator",
        change: Experiment("solver = \"obs\"", "allocator = \"unifrom\""),
        expect: &["experiment.toml:26:13: unknown allocator `unifrom`; did you mean `uniform`?"],
    },
    Case {
        name: "an unknown group",
        change: Experiment("solver = \"obs\"", "group = \"rows\""),
        expect: &["experiment.toml:26:9: unknown variant `rows`", "did you mean `row`?"],
    },
    Case {
        name: "an unknown join",
        change: Experiment("length = 16\nwindows", "join = \"wikitxt\"\nlength = 16\nwindows"),
        expect: &[
            "experiment.toml:32:8: unknown variant `wikitxt`",
            "did you mean `wikitext`?",
        ],
    },
    Case {
        name: "an unknown sampling",
        change: Experiment("sampling = \"documents\"", "sampling = \"document\""),
        expect: &[
            "experiment.toml:11:12: unknown variant `document`",
            "did you mean `documents`?",
        ],
    },
    Case {
        name: "an unknown propagation",
        change: Experiment("sequences = 4", "propagate = \"blocks\"\nsequences = 4"),
        expect: &[
            "experiment.toml:12:13: unknown variant `blocks`",
            "did you mean `block`?",
        ],
    },
    Case {
        name: "an unknown selection",
        change: Experiment("seeds = [0, 1]", "seeds = [0, 1]\nselection = \"exactly\""),
        expect: &[
            "experiment.toml:17:13: unknown variant `exactly`",
            "did you mean `exact`?",
        ],
    },
    Case {
        name: "an unknown backend",
        change: Experiment("[sweep]", "[compute]\nbackend = \"cpi\"\n\n[sweep]"),
        expect: &["experiment.toml:16:11: unknown variant `cpi`", "did you mean `cpu`?"],
    },
    Case {
        name: "bfloat16 on a GPU",
        change: Experiment("[sweep]", "[compute]\nbackend = \"gpu\"\ncompute = \"bf16\"\n\n[sweep]"),
        expect: &["experiment.toml: compute = \"bf16\" is for backend = \"cpu\""],
    },
    Case {
        name: "memory without a unit",
        change: Experiment("[sweep]", "[compute]\nmemory = \"12\"\n\n[sweep]"),
        expect: &["experiment.toml: memory `12` has no unit", "12GiB"],
    },
    Case {
        name: "memory that is no amount",
        change: Experiment("[sweep]", "[compute]\nmemory = \"plenty\"\n\n[sweep]"),
        expect: &["experiment.toml: memory `plenty` is not an amount of memory"],
    },
    Case {
        name: "memory for a GPU",
        change: Experiment(
            "[sweep]",
            "[compute]\nbackend = \"gpu\"\ncompute = \"f32\"\nmemory = \"12GiB\"\n\n[sweep]",
        ),
        expect: &["experiment.toml: `memory` limits what backend = \"cpu\" keeps"],
    },
    Case {
        name: "a scratch folder without a budget",
        change: Experiment("[sweep]", "[compute]\nscratch = \"/somewhere\"\n\n[sweep]"),
        expect: &["experiment.toml: `scratch` is where activations go", "`memory`"],
    },
    Case {
        name: "half precision on the CPU",
        change: Experiment("[sweep]", "[compute]\nbackend = \"cpu\"\ncompute = \"f16\"\n\n[sweep]"),
        expect: &["experiment.toml: compute = \"f16\" needs a GPU"],
    },
    Case {
        name: "a GPU that is not there",
        change: Experiment("[sweep]", "[compute]\nadapter = \"Voodoo 2\"\n\n[sweep]"),
        expect: &["experiment.toml: no GPU", "Voodoo 2"],
    },
    Case {
        name: "an unknown provider of factorisations",
        change: Experiment("[sweep]", "[compute]\nlinear_algebra = \"fear\"\n\n[sweep]"),
        expect: &["experiment.toml:16:18: unknown variant `fear`", "did you mean `faer`?"],
    },
    #[cfg(not(feature = "lapack"))]
    Case {
        name: "a provider that is not in this build",
        change: Experiment("[sweep]", "[compute]\nlinear_algebra = \"lapack\"\n\n[sweep]"),
        expect: &[
            "experiment.toml:16:18: ",
            "needs a build with `cargo build --release --features lapack`",
        ],
    },
    Case {
        name: "an unknown parameter of a criterion",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"ria\", activation_powr = 1.0 }",
        ),
        expect: &[
            "experiment.toml:21:13: criterion `ria`: unknown field `activation_powr`",
            "did you mean `activation_power`?",
        ],
    },
    Case {
        name: "a parameter of a criterion that has none",
        change: Experiment("criterion = \"wanda\"", "criterion = { name = \"wanda\", power = 1.0 }"),
        expect: &[
            "experiment.toml:21:13: criterion `wanda`: unknown field `power`",
            "there are no fields",
        ],
    },
    Case {
        name: "a parameter below its range",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"ria\", activation_power = -0.5 }",
        ),
        expect: &[
            "experiment.toml:21:13: criterion `ria`: parameter `activation_power` = -0.5 must be a number of at least 0",
        ],
    },
    Case {
        name: "a parameter above its range",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"z-pruner\", row_weight = 1.5 }",
        ),
        expect: &["experiment.toml:21:13: criterion `z-pruner`: parameter `row_weight` = 1.5 must be between 0 and 1"],
    },
    Case {
        name: "a parameter of the wrong type",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"ria\", activation_power = \"half\" }",
        ),
        expect: &[
            "experiment.toml:21:13: criterion `ria`: invalid type: string \"half\", expected f64 in `activation_power`",
        ],
    },
    Case {
        name: "a component without a name",
        change: Experiment("criterion = \"wanda\"", "criterion = { activation_power = 0.5 }"),
        expect: &["experiment.toml:21:13: missing field `name`"],
    },
    Case {
        name: "sparsity 0",
        change: Experiment("sparsity = 0.5", "sparsity = 0.0"),
        expect: &[
            "experiment.toml:17:13: sparsity 0 is not between 0 and 1",
            "for example 0.5",
        ],
    },
    Case {
        name: "sparsity 1",
        change: Experiment("sparsity = 0.5", "sparsity = 1"),
        expect: &["experiment.toml:17:13: sparsity 1 is not between 0 and 1"],
    },
    Case {
        name: "a negative sparsity",
        change: Experiment("sparsity = 0.5", "sparsity = -0.1"),
        expect: &["experiment.toml:17:13: sparsity -0.1 is not between 0 and 1"],
    },
    Case {
        name: "sparsity above 1",
        change: Experiment("sparsity = 0.5", "sparsity = 1.5"),
        expect: &["experiment.toml:17:13: sparsity 1.5 is not between 0 and 1"],
    },
    Case {
        name: "sparsity not a number",
        change: Experiment("sparsity = 0.5", "sparsity = nan"),
        expect: &["experiment.toml:17:13: sparsity NaN is not between 0 and 1"],
    },
    Case {
        name: "a string for a number",
        change: Experiment("sparsity = 0.5", "sparsity = \"half\""),
        expect: &["experiment.toml:17:26: invalid type: string \"half\", expected f64"],
    },
    Case {
        name: "keeping as many as there are",
        change: Experiment("keep = 2, of = 4", "keep = 4, of = 4"),
        expect: &["experiment.toml:17:33: keep = 4, of = 4: keep must be at least 1 and less than of"],
    },
    Case {
        name: "keeping none",
        change: Experiment("keep = 2, of = 4", "keep = 0, of = 4"),
        expect: &["experiment.toml:17:33: keep = 0, of = 4: keep must be at least 1 and less than of"],
    },
    Case {
        name: "a pattern of both kinds",
        change: Experiment("keep = 2, of = 4", "sparsity = 0.5, keep = 2, of = 4"),
        expect: &["experiment.toml:17:33: a pattern is either { sparsity = 0.5 } or { keep = 2, of = 4 }"],
    },
    Case {
        name: "half of an N:M pattern",
        change: Experiment("keep = 2, of = 4", "keep = 2"),
        expect: &["experiment.toml:17:33: a pattern is either { sparsity = 0.5 } or { keep = 2, of = 4 }"],
    },
    Case {
        name: "a pattern listed twice",
        change: Experiment("keep = 2, of = 4", "sparsity = 0.5"),
        expect: &["experiment.toml:17:33: pattern 50 % is listed twice"],
    },
    Case {
        name: "a seed listed twice",
        change: Experiment("seeds = [0, 1]", "seeds = [0, 1, 0]"),
        expect: &["experiment.toml:15:1: seed 0 is listed twice"],
    },
    Case {
        name: "a negative seed",
        change: Experiment("seeds = [0, 1]", "seeds = [0, -1]"),
        expect: &["experiment.toml:16:", "integer `-1`"],
    },
    Case {
        name: "two methods of one name",
        change: Experiment("name = \"sparsegpt\"", "name = \"wanda\""),
        expect: &[
            "experiment.toml:23:1: method name `wanda` is used twice",
            "another `name`",
        ],
    },
    Case {
        name: "a method called dense",
        change: Experiment("name = \"sparsegpt\"", "name = \"dense\""),
        expect: &["experiment.toml:23:1: method name `dense` is taken by the unpruned model"],
    },
    Case {
        name: "a method without a criterion",
        change: Experiment("criterion = \"wanda\"", ""),
        expect: &["experiment.toml:19:1: missing field `criterion`"],
    },
    Case {
        name: "an experiment name that leaves the results folder",
        change: Experiment("name = \"tiny\"", "name = \"../tiny\""),
        expect: &["experiment.toml:1:8: name `../tiny` becomes a folder: use letters, digits, `-`, `_` and `.`"],
    },
    Case {
        name: "an empty experiment name",
        change: Experiment("name = \"tiny\"", "name = \"\""),
        expect: &["experiment.toml:1:8: name `` becomes a folder"],
    },
    Case {
        name: "no calibration sequences",
        change: Experiment("sequences = 4", "sequences = 0"),
        expect: &["experiment.toml:8:1: calibration needs at least one sequence of at least 2 tokens"],
    },
    Case {
        name: "calibration windows of one token",
        change: Experiment("sequences = 4\nlength = 16", "sequences = 4\nlength = 1"),
        expect: &["experiment.toml:8:1: calibration needs at least one sequence of at least 2 tokens"],
    },
    Case {
        name: "more calibration tokens than any memory holds",
        change: Experiment("sequences = 4", "sequences = 4_000_000_000_000_000_000"),
        expect: &["experiment.toml:8:1: ", "4000000000000000000 sequences of 16 tokens"],
    },
    Case {
        name: "no evaluation windows",
        change: Experiment("windows = 4", "windows = 0"),
        expect: &["experiment.toml:28:1: ", "at least one window"],
    },
    Case {
        name: "evaluation windows of one token",
        change: Experiment("length = 16\nwindows", "length = 1\nwindows"),
        expect: &["experiment.toml:28:1: ", "`length` of at least 2"],
    },
    Case {
        name: "a confidence above 1",
        change: Experiment("[sweep]", "[report]\nconfidence = 2\n\n[sweep]"),
        expect: &["experiment.toml:15:1: confidence 2 is not between 0 and 1"],
    },
];

#[test]
fn experiments_that_make_no_sense_are_refused() {
    refuses_all(EXPERIMENTS);
}

const CONFIGURATIONS: &[Case] = &[
    Case {
        name: "no configuration",
        change: Absent("model/config.json"),
        expect: &["model/config.json is not there; to get it: train it"],
    },
    Case {
        name: "broken JSON",
        change: Config("\"hidden_size\": 32,", "\"hidden_size\": 32"),
        expect: &["model/config.json: not valid JSON: ", "line 4 column 3"],
    },
    Case {
        name: "not an object",
        change: Content("model/config.json", b"[]"),
        expect: &["model/config.json: not a JSON object"],
    },
    Case {
        name: "a missing key",
        change: Config("\"hidden_size\": 32,", ""),
        expect: &["model/config.json: key `hidden_size` is missing"],
    },
    Case {
        name: "no model type",
        change: Config("\"model_type\": \"llama\",", ""),
        expect: &["model/config.json: key `model_type` is missing"],
    },
    Case {
        name: "an unknown family",
        change: Config("\"llama\"", "\"lama\""),
        expect: &["model/config.json: key `model_type`: unknown model family `lama`; did you mean `llama`?"],
    },
    Case {
        name: "heads that do not share the width",
        change: Config("\"num_attention_heads\": 4", "\"num_attention_heads\": 6"),
        expect: &["model/config.json: key `hidden_size` = 32 is not divisible by `num_attention_heads` = 6"],
    },
    Case {
        name: "heads that do not share the keys",
        change: Config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
        expect: &["model/config.json: key `num_attention_heads` = 4 is not divisible by `num_key_value_heads` = 3"],
    },
    Case {
        name: "an unsupported activation",
        change: Config("\"silu\"", "\"quick_gelu\""),
        expect: &["model/config.json: key `hidden_act`: activation \"quick_gelu\" is not supported", "supported: relu, silu, gelu, gelu_new"],
    },
    Case {
        name: "an unsupported rotary scaling",
        change: Config("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\", \"factor\": 4.0"),
        expect: &["model/config.json: key `rope_parameters.rope_type` = \"yarn\" is not supported", "supported: default, linear, llama3"],
    },
    Case {
        name: "a rotary scaling that is no name",
        change: Config("\"rope_type\": \"default\"", "\"rope_type\": 3"),
        expect: &["model/config.json: key `rope_parameters.rope_type` must be a string, but is 3"],
    },
    Case {
        name: "a rotary scaling without its factor",
        change: Config("\"rope_type\": \"default\"", "\"rope_type\": \"linear\""),
        expect: &["model/config.json: key `rope_parameters.factor` is missing"],
    },
    Case {
        name: "heads of an absurd width",
        change: Config("\"num_attention_heads\": 4", "\"num_attention_heads\": 4, \"head_dim\": 4000000000"),
        expect: &["model/config.json: key `head_dim` = 4000000000 must be even and at most 65536"],
    },
    Case {
        name: "heads of an odd width",
        change: Config("\"num_attention_heads\": 4", "\"num_attention_heads\": 4, \"head_dim\": 7"),
        expect: &["model/config.json: key `head_dim` = 7 must be even"],
    },
    Case {
        name: "logits that are capped",
        change: Config("\"vocab_size\"", "\"final_logit_softcapping\": 30.0, \"vocab_size\""),
        expect: &["model/config.json: key `final_logit_softcapping` = 30.0 changes the model's mathematics"],
    },
    Case {
        name: "a mixture of experts",
        change: Config("\"vocab_size\"", "\"num_local_experts\": 8, \"vocab_size\""),
        expect: &["model/config.json: key `num_local_experts` = 8 changes the model's mathematics"],
    },
    Case {
        name: "a string for a number",
        change: Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": \"two\""),
        expect: &["model/config.json: key `num_hidden_layers` must be a positive integer, but is \"two\""],
    },
    Case {
        name: "a negative size",
        change: Config("\"intermediate_size\": 64", "\"intermediate_size\": -64"),
        expect: &["model/config.json: key `intermediate_size` must be a positive integer, but is -64"],
    },
    Case {
        name: "more blocks than the checkpoint has, by far",
        change: Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000000000"),
        expect: &["model: tensor `model.layers.2.input_layernorm.weight` is missing"],
    },
    Case {
        name: "a pattern that does not divide a layer's inputs",
        change: Experiment("keep = 2, of = 4", "keep = 2, of = 5"),
        expect: &["model: self_attn.q_proj: pattern 2:5 needs input features in multiples of 5, but a layer has 32"],
    },
    Case {
        name: "windows longer than OPT's table of positions",
        change: Content(
            "model/config.json",
            br#"{"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
                "max_position_embeddings": 8, "vocab_size": 259}"#,
        ),
        expect: &["model: calibration: windows of 16 tokens are longer than the model's limit of 8"],
    },
    Case {
        name: "a mixture of experts",
        change: Config("\"llama\"", "\"qwen3_moe\""),
        expect: &["model/config.json: key `model_type`: `qwen3_moe` is a mixture of experts: its router"],
    },
    Case {
        name: "kinds of layers for other blocks",
        change: Config("\"llama\"", "\"mistral\", \"layer_types\": [\"full_attention\"]"),
        expect: &["model/config.json: key `layer_types` must list one kind for each of 2 blocks"],
    },
    Case {
        name: "an unsupported kind of layer",
        change: Config("\"llama\"", "\"mistral\", \"layer_types\": [\"full_attention\", \"linear_attention\"]"),
        expect: &["model/config.json: key `layer_types`: \"linear_attention\" is not supported"],
    },
    Case {
        name: "bands of rotary scaling that overlap",
        change: Config(
            "\"rope_type\": \"default\"",
            "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32",
        ),
        expect: &["model/config.json: key `rope_parameters.low_freq_factor` = 4 must be less than `high_freq_factor` = 4"],
    },
];

#[test]
fn configurations_that_cannot_be_computed_are_refused() {
    refuses_all(CONFIGURATIONS);
}

const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";

/// Replaces element 5 of a query projection.
fn poison(tensors: &mut Tensors, value: f32) {
    tensors.get_mut(QUERY).expect("the model has queries").bytes[20..24].copy_from_slice(&value.to_le_bytes());
}

/// A safetensors file with this header and nothing else.
fn header_only(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// Splits the checkpoint into two shards and writes this as their index.
fn shard(folder: &Folder, index: &str) {
    let mut first = tiny::weights();
    let second = first.split_off("model.layers.1");
    tiny::save(&first, &folder.path("model/first.safetensors"));
    tiny::save(&second, &folder.path("model/second.safetensors"));
    std::fs::remove_file(folder.path("model/model.safetensors")).expect("the file is there");
    folder.write("model/model.safetensors.index.json", index);
}

const WEIGHTS: &[Case] = &[
    Case {
        name: "no weights",
        change: Absent("model/model.safetensors"),
        expect: &["model/model.safetensors", "is not there; to get it: train it"],
    },
    Case {
        name: "an empty file",
        change: Content("model/model.safetensors", b""),
        expect: &["model/model.safetensors: truncated or corrupt", "shorter than a header"],
    },
    Case {
        name: "a folder",
        change: Other(|folder| {
            std::fs::remove_file(folder.path("model/model.safetensors")).expect("the file is there");
            std::fs::create_dir(folder.path("model/model.safetensors")).expect("the name is free");
        }),
        expect: &["model/model.safetensors: cannot read: "],
    },
    Case {
        name: "a truncated header",
        change: Stored(|bytes| bytes.truncate(100)),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the header's length does not fit the file",
        ],
    },
    Case {
        name: "a header longer than the file",
        change: Stored(|bytes| bytes[..8].copy_from_slice(&50_000_000_u64.to_le_bytes())),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the header's length does not fit the file",
        ],
    },
    Case {
        name: "a header longer than any memory",
        change: Stored(|bytes| bytes[..8].fill(0xff)),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the header's length does not fit the file",
        ],
    },
    Case {
        name: "a header that is not JSON",
        change: Stored(|bytes| bytes[9..12].fill(b'?')),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the header is not valid",
        ],
    },
    Case {
        name: "a header of another shape",
        change: Stored(|bytes| *bytes = header_only(r#"{"model.norm.weight": [32]}"#)),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the header is not valid",
        ],
    },
    Case {
        name: "a shape larger than any memory",
        change: Stored(|bytes| {
            let info = r#"{"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}"#;
            *bytes = header_only(&format!(r#"{{"model.norm.weight": {info}}}"#));
        }),
        expect: &["model/model.safetensors: truncated or corrupt"],
    },
    Case {
        name: "truncated data",
        change: Stored(|bytes| bytes.truncate(bytes.len() - 1)),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "the data does not fill the file",
        ],
    },
    Case {
        name: "a missing tensor",
        change: Weights(|tensors| drop(tensors.remove(QUERY))),
        expect: &["model: tensor `model.layers.1.self_attn.q_proj.weight` is missing"],
    },
    Case {
        name: "a tensor of another shape",
        change: Weights(|tensors| tensors.get_mut(QUERY).expect("the model has queries").shape = vec![16, 64]),
        expect: &[
            "model/model.safetensors: tensor `model.layers.1.self_attn.q_proj.weight` has shape [16, 64]",
            "config.json implies [32, 32]",
        ],
    },
    Case {
        name: "a tensor of integers",
        change: Weights(|tensors| tensors.get_mut(QUERY).expect("the model has queries").dtype = Dtype::I32),
        expect: &[
            "model/model.safetensors: tensor `model.layers.1.self_attn.q_proj.weight` has type I32",
            "only F32, F16 and BF16",
        ],
    },
    Case {
        name: "a NaN",
        change: Weights(|tensors| poison(tensors, f32::NAN)),
        expect: &["model/model.safetensors: tensor `model.layers.1.self_attn.q_proj.weight`: element 5 is NaN"],
    },
    Case {
        name: "an infinity",
        change: Weights(|tensors| poison(tensors, f32::NEG_INFINITY)),
        expect: &["model/model.safetensors: tensor `model.layers.1.self_attn.q_proj.weight`: element 5 is -inf"],
    },
    Case {
        name: "a tied head that differs",
        change: Weights(|tensors| {
            let head = Tensor::new(&[259, 32], (0..259 * 32).map(|_| 0.1));
            tensors.insert("lm_head.weight".into(), head);
        }),
        expect: &[
            "model/model.safetensors: `tie_word_embeddings` is true, but tensor `lm_head.weight` differs from the embedding",
        ],
    },
    Case {
        name: "an untied head that is not there",
        change: Config("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
        expect: &["model: tensor `lm_head.weight` is missing"],
    },
    Case {
        name: "an index that is not JSON",
        change: Other(|folder| shard(folder, "{\"weight_map\": {\n\"model.norm.weight\"}}")),
        expect: &[
            "model/model.safetensors.index.json: not a shard index: ",
            "line 2 column",
        ],
    },
    Case {
        name: "an index without its map",
        change: Other(|folder| shard(folder, "{\"metadata\": {}}")),
        expect: &["model/model.safetensors.index.json: not a shard index: missing field `weight_map`"],
    },
    Case {
        name: "an index that names a missing shard",
        change: Other(|folder| shard(folder, r#"{"weight_map": {"model.norm.weight": "third.safetensors"}}"#)),
        expect: &["model/third.safetensors: no such file"],
    },
    Case {
        name: "an index that names a tensor of another shard",
        change: Other(|folder| {
            let map = r#"{"model.norm.weight": "first.safetensors", "model.embed_tokens.weight": "first.safetensors"}"#;
            shard(folder, &format!("{{\"weight_map\": {map}}}"));
        }),
        expect: &["model/model.safetensors.index.json: tensor `model.norm.weight` is not in `first.safetensors`"],
    },
    Case {
        name: "an index that leaves tensors out",
        change: Other(|folder| {
            shard(
                folder,
                r#"{"weight_map": {"model.embed_tokens.weight": "first.safetensors"}}"#,
            )
        }),
        expect: &["model: tensor `model.layers.1.", "is missing"],
    },
    Case {
        name: "an index that leads out of the folder",
        change: Other(|folder| {
            shard(
                folder,
                r#"{"weight_map": {"model.norm.weight": "../second.safetensors"}}"#,
            )
        }),
        expect: &["model/model.safetensors.index.json: shard `../second.safetensors` is not a plain file name"],
    },
    Case {
        name: "an index that names the folder above",
        change: Other(|folder| shard(folder, r#"{"weight_map": {"model.norm.weight": ".."}}"#)),
        expect: &["model/model.safetensors.index.json: shard `..` is not a plain file name"],
    },
];

#[test]
fn checkpoints_that_cannot_be_trusted_are_refused() {
    refuses_all(WEIGHTS);
}

/// Gzips bytes.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

const TEXTS: &[Case] = &[
    Case {
        name: "no tokenizer",
        change: Absent("model/tokenizer.json"),
        expect: &["model/tokenizer.json is not there; to get it: train it"],
    },
    Case {
        name: "a tokenizer that is not JSON",
        change: Content("model/tokenizer.json", b"{\n  \"version\": \"1.0\",\n  \"model\": {\n"),
        expect: &["model/tokenizer.json: not a tokenizer: ", "line 4"],
    },
    Case {
        name: "a tokenizer without a model",
        change: Content("model/tokenizer.json", b"{\"version\": \"1.0\"}"),
        expect: &["model/tokenizer.json: not a tokenizer: "],
    },
    // The crate `tokenizers` panics on the next three.
    Case {
        name: "a tokenizer that is broken within its decoder",
        change: Other(|folder| folder.replace("model/tokenizer.json", "\"decoder\": {", "\"decoder\": {,")),
        expect: &["model/tokenizer.json: not a tokenizer: ", "line: 18"],
    },
    Case {
        name: "a tokenizer that merges unknown tokens",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"merges\": []",
                "\"merges\": [[\"a\", \"zz\"]]",
            );
        }),
        expect: &["model/tokenizer.json: not a tokenizer: ", "zz"],
    },
    Case {
        name: "a tokenizer that adds an unknown token",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"special_tokens\": {\"<s>\"",
                "\"special_tokens\": {\"<b>\"",
            );
        }),
        expect: &["model/tokenizer.json: cannot encode the text: "],
    },
    Case {
        name: "tokens beyond the vocabulary",
        change: Other(|folder| {
            folder.replace("model/config.json", "\"vocab_size\": 259", "\"vocab_size\": 64");
            let mut tensors = tiny::weights();
            tensors.insert(
                "model.embed_tokens.weight".into(),
                Tensor::new(&[64, 32], (0..64 * 32).map(|_| 0.1)),
            );
            tiny::save(&tensors, &folder.path("model/model.safetensors"));
        }),
        expect: &[
            "model/tokenizer.json: token id ",
            "vocabulary of 64; tokenizer and config.json do not belong together",
        ],
    },
    Case {
        name: "no evaluation corpus",
        change: Absent("novel.txt"),
        expect: &["evaluation corpus novel.txt is not there; to get it: print it"],
    },
    Case {
        name: "no calibration corpus, and no word on how to get it",
        change: Other(|folder| {
            folder.replace("experiment.toml", "obtain = \"write it\"\n", "");
            Absent("calibration.jsonl").apply(folder);
        }),
        expect: &[
            "calibration corpus calibration.jsonl is not there; paths are relative to the folder zprune is started in",
        ],
    },
    Case {
        name: "nothing there at all",
        change: Other(|folder| {
            for name in ["model/config.json", "novel.txt", "calibration.jsonl"] {
                Absent(name).apply(folder);
            }
        }),
        expect: &["to get it: train it", "to get it: print it", "to get it: write it"],
    },
    Case {
        name: "an empty corpus",
        change: Content("novel.txt", b""),
        expect: &["novel.txt: contains no text"],
    },
    Case {
        name: "a corpus of blanks",
        change: Content("novel.txt", b" \n\n \n"),
        expect: &["novel.txt: contains no text"],
    },
    Case {
        name: "a corpus that is not UTF-8",
        change: Content("novel.txt", b"It was\nthe best of\ntimes \xe9t\xe9\n"),
        expect: &["novel.txt: line 3: not valid UTF-8"],
    },
    Case {
        name: "a corpus too short for a window",
        change: Content("novel.txt", b"It was"),
        expect: &["novel.txt: the text has 7 tokens, which fill 0 windows of 16, but 4 are needed"],
    },
    Case {
        name: "a corpus too short for all windows",
        change: Experiment("windows = 4", "windows = 4000"),
        expect: &["novel.txt: the text has ", " windows of 16, but 4000 are needed"],
    },
    Case {
        name: "a corpus that is a folder",
        change: Experiment("corpus = \"novel.txt\"", "corpus = \"model\""),
        expect: &["model: cannot read: "],
    },
    Case {
        name: "JSONL broken at a line",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n\n{\"text\": \"two\"\n"),
        expect: &[
            "calibration.jsonl: line 3: not an object with a string `text`: ",
            "at column 14",
        ],
    },
    Case {
        name: "JSONL without texts",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n{\"txt\": \"two\"}\n"),
        expect: &["calibration.jsonl: line 2: ", "missing field `text` at column 14"],
    },
    Case {
        name: "JSONL with a number for a text",
        change: Content("calibration.jsonl", b"{\"text\": 1}\n"),
        expect: &[
            "calibration.jsonl: line 1: ",
            "invalid type: integer `1`, expected a string",
        ],
    },
    Case {
        name: "documents that are all too short",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n{\"text\": \"three\"}\n"),
        expect: &[
            "calibration.jsonl: none of 2 calibration documents drawn is longer than a window of 16 tokens (the longest has 6)",
            "use `sampling = \"packed\"` or a shorter `length`",
        ],
    },
    Case {
        name: "a packed calibration text that is too short",
        change: Other(|folder| {
            folder.replace("experiment.toml", "\"documents\"", "\"packed\"");
            folder.write("calibration.jsonl", "{\"text\": \"one\"}\n");
        }),
        expect: &["calibration.jsonl: the calibration text has 4 tokens; a window of 16 needs at least one more"],
    },
    Case {
        name: "a truncated gzip file",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.txt.gz");
            let whole = packed(tiny::text(100, 100).as_bytes());
            folder.write("novel.txt.gz", &whole[..whole.len() / 2]);
        }),
        expect: &["novel.txt.gz: line ", "cannot read: "],
    },
    Case {
        name: "a gzip file that is none",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.txt.gz");
            folder.write("novel.txt.gz", "It was the best of times");
        }),
        expect: &["novel.txt.gz: line 1: cannot read: invalid gzip header"],
    },
];

#[test]
fn tokenizers_and_texts_that_cannot_be_used_are_refused() {
    refuses_all(TEXTS);
}

const RECORDS: &str = "results/tiny/runs.jsonl";

/// Damage to the records of an experiment that has run, with what the message must say.
const DAMAGED_RECORDS: &[Case] = &[
    Case {
        name: "a line that ends too early",
        change: Other(|folder| change_line(folder, 2, |line| line.truncate(100))),
        expect: &["results/tiny/runs.jsonl:3: not a record: ", "at column 100"],
    },
    Case {
        name: "a line that is not JSON",
        change: Other(|folder| change_line(folder, 0, |line| *line = "<<<<<<< HEAD".to_string())),
        expect: &["results/tiny/runs.jsonl:1: not a record: expected value at column 1"],
    },
    Case {
        name: "a record of a newer zprune",
        change: Other(|folder| change_line(folder, 4, |line| *line = line.replace("\"schema\":2", "\"schema\":3"))),
        expect: &[
            "results/tiny/runs.jsonl:5: the record has schema 3, but this zprune reads schemas 1 to 2",
            "use the zprune that wrote it, or another results folder",
        ],
    },
    Case {
        name: "a record with an edited id",
        change: Other(|folder| {
            change_line(folder, 1, |line| {
                let start = line.find("\"id\":\"").expect("a record has an id") + 6;
                line.replace_range(start..start + 16, "0123456789abcdef");
            });
        }),
        expect: &[
            "results/tiny/runs.jsonl:2: the record's id 0123456789abcdef is not the hash of its cell; it was edited",
        ],
    },
    Case {
        name: "a record with edited settings",
        change: Other(|folder| change_line(folder, 1, |line| *line = line.replace("\"length\":16", "\"length\":17"))),
        expect: &["results/tiny/runs.jsonl:2: the record's id ", "it was edited"],
    },
    Case {
        name: "a record with an unknown field",
        change: Other(|folder| change_line(folder, 3, |line| line.insert_str(1, "\"note\":\"mine\","))),
        expect: &["results/tiny/runs.jsonl:4: not a record: unknown field `note`"],
    },
];

fn change_line(folder: &Folder, index: usize, change: impl Fn(&mut String)) {
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("the experiment has run");
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    change(&mut lines[index]);
    folder.write(RECORDS, lines.join("\n") + "\n");
}

#[test]
fn damaged_records_are_refused_and_left_alone() {
    let results = results();
    let mut failures = Vec::new();
    for case in DAMAGED_RECORDS {
        for command in ["run", "plan", "report"] {
            let folder = folder_with(&results);
            case.change.apply(&folder);
            let before = folder.results();
            let output = folder
                .zprune(&[command, "experiment.toml"])
                .output()
                .expect("the program starts");
            failures.extend(complaint(case, &folder, &before, &output));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
