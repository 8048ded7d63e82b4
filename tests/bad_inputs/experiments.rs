//! Experiments that make no sense, and keys that nobody knows.

use super::Change::*;
use super::tiny::Folder;
use super::{Case, refuses_all};

const EXPERIMENTS: &[Case] = &[
    Case {
        name: "more cells than a plan can hold",
        change: Other(|folder| {
            let seeds: Vec<String> = (0..30_000).map(|seed| seed.to_string()).collect();
            folder.replace(
                "experiment.toml",
                "seeds = [0, 1]",
                &format!("seeds = [{}]", seeds.join(", ")),
            );
        }),
        expect: &[
            "experiment.toml:",
            "models, methods, patterns and seeds make 120001 cells, but an experiment has at most 100000: divide it into several",
        ],
    },
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
        expect: &[
            "experiment.toml:",
            "a number of tokens, \"max_position_embeddings\", or the smaller of both",
        ],
    },
    Case {
        name: "an expectation of nothing that is measured",
        change: Experiment(
            "obtain = \"train it\"",
            "obtain = \"train it\"\nexpected.novels = { perplexity = 300.0, tolerance = 0.1 }",
        ),
        expect: &["experiment.toml:7:1: `expected` names no evaluation `novels`; did you mean `novel`?"],
    },
    Case {
        name: "an expectation that holds for nothing",
        change: Experiment(
            "obtain = \"train it\"",
            "obtain = \"train it\"\nexpected.novel = { perplexity = 0.5, tolerance = 0.1 }",
        ),
        expect: &["experiment.toml:7:1: expected.novel: a perplexity is at least 1"],
    },
    Case {
        name: "all mistakes of a first attempt",
        change: ExperimentFile("first_attempt.toml"),
        expect: &[
            "experiment.toml has 7 mistakes",
            "experiment.toml:2:1: unknown key `model_path`",
            "experiment.toml:3:1: unknown key `sparsities`: how much is removed is written `patterns = [0.5, \"2:4\"]`",
            "experiment.toml:8:1: `length` is missing: the number of tokens in a window, such as `length = 2048`",
            "experiment.toml:14:18: each value of `patterns` must be a pattern, such as 0.5, \"50%\" or \"2:4\", not the text \"half\"",
            "14 │ patterns = [0.5, \"half\"]",
            "experiment.toml:17:13: unknown method `wnada`; did you mean `wanda`?",
            "experiment.toml:18:1: unknown key `slover`; did you mean `solver`?",
            "experiment.toml:21:8: `name` is only a label: write `recipe = \"sparsegpt\"`",
        ],
    },
    Case {
        name: "a step that could not be read, and so another name than the method has",
        change: Other(|folder| {
            folder.replace("experiment.toml", "name = \"wanda\"\n", "");
            folder.replace(
                "experiment.toml",
                "name = \"sparsegpt\"\ncriterion = \"obs\"\nsolver = \"obs\"",
                "criterion = \"wanda\"\nsolver = { damping = 0.02 }",
            );
        }),
        // It would be `wanda` without its solver, and that is no mistake of its own.
        expect: &["error: experiment.toml:24:10: `name` is missing"],
    },
    Case {
        name: "mistakes, and paths at which nothing is",
        change: Other(|folder| {
            folder.replace("experiment.toml", "criterion = \"wanda\"", "criterion = \"wnada\"");
            folder.replace("experiment.toml", "path = \"model\"", "path = \"modell\"");
            folder.replace("experiment.toml", "corpus = \"novel.txt\"", "corpus = \"novels.txt\"");
        }),
        expect: &[
            "experiment.toml:21:13: unknown method `wnada`",
            "Besides, nothing is at these paths of the file:\n  line 5: `modell`\n  line 30: `novels.txt`",
        ],
    },
    Case {
        name: "a method of another step",
        change: Experiment("criterion = \"wanda\"", "criterion = \"least-squares\""),
        expect: &[
            "experiment.toml:21:13: `least-squares` is no criterion; it is a solver: write `solver = \"least-squares\"`",
            "21 │ criterion = \"least-squares\"",
        ],
    },
    Case {
        name: "no experiment file",
        change: Absent("experiment.toml"),
        expect: &["experiment.toml: no such file"],
    },
    Case {
        name: "not UTF-8",
        change: Content("experiment.toml", b"name = \"tiny\"\n# \xff\n"),
        expect: &["experiment.toml: line 2: not valid UTF-8"],
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
        expect: &[
            "experiment.toml: there is no [sweep]; it has the `patterns`, such as [0.5, \"2:4\"], and the `seeds`",
        ],
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
            "experiment.toml:8:8: ",
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
            "experiment.toml:2:1: unknown key `descripton`",
            "did you mean `description`?",
        ],
    },
    Case {
        name: "an unknown key in [sweep]",
        change: Experiment("seeds = ", "seed = "),
        expect: &["experiment.toml:16:1: unknown key `seed`", "did you mean `seeds`?"],
    },
    Case {
        name: "an unknown key in [[method]]",
        change: Experiment("solver = \"obs\"", "solvr = \"obs\""),
        expect: &["experiment.toml:26:1: unknown key `solvr`", "did you mean `solver`?"],
    },
    Case {
        name: "an unknown key in a pattern",
        change: Experiment("{ sparsity = 0.5 }", "{ sparsty = 0.5 }"),
        expect: &[
            "experiment.toml:17:15: unknown key `sparsty`",
            "did you mean `sparsity`?",
        ],
    },
    Case {
        name: "an unknown criterion",
        change: Experiment("criterion = \"wanda\"", "criterion = \"wnada\""),
        expect: &[
            "experiment.toml:21:13: unknown method `wnada`; did you mean `wanda`?",
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
        expect: &["experiment.toml:26:9: unknown value `rows`", "did you mean `row`?"],
    },
    Case {
        name: "an unknown join",
        change: Experiment("length = 16\nwindows", "join = \"wikitxt\"\nlength = 16\nwindows"),
        expect: &[
            "experiment.toml:32:8: unknown value `wikitxt`",
            "did you mean `wikitext`?",
        ],
    },
    Case {
        name: "an unknown sampling",
        change: Experiment("sampling = \"documents\"", "sampling = \"document\""),
        expect: &[
            "experiment.toml:11:12: unknown value `document`",
            "did you mean `documents`?",
        ],
    },
    Case {
        name: "an unknown stage",
        change: Experiment("sequences = 4", "stage = \"block by block\"\nsequences = 4"),
        expect: &["experiment.toml:12:9: unknown value `block by block`", "`staged`"],
    },
    Case {
        name: "the dense model's outputs with statistics of a whole block",
        change: Experiment("sequences = 4", "target = \"dense\"\nsequences = 4"),
        expect: &[
            "sparsegpt: target = \"dense\" needs statistics that are gathered again for each group of layers",
            "add stage = \"staged\" or stage = \"separate\"",
        ],
    },
    Case {
        name: "the dense model's outputs and a solver that reproduces none",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\nstage = \"staged\"\ntarget = \"dense\"",
        ),
        expect: &[
            "target = \"dense\": solver `one-shot` only removes weights and reproduces no outputs; leave `target` out",
        ],
    },
    Case {
        name: "a damping that is none",
        change: Experiment("solver = \"obs\"", "solver = { name = \"obs\", damping = -1.0 }"),
        expect: &["solver `obs`: parameter `damping` = -1 must be between 0 and 1"],
    },
    Case {
        name: "an unknown refinement",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\nrefine = \"sparse-swap\"",
        ),
        expect: &["unknown mask refinement `sparse-swap`; did you mean `sparse-swaps`?"],
    },
    Case {
        name: "a refinement that may swap nothing",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\nrefine = { name = \"sparse-swaps\", max_swaps = 0 }",
        ),
        expect: &["mask refinement `sparse-swaps`: parameter `max_swaps` = 0 must be at least 1"],
    },
    Case {
        name: "a permutation without groups",
        change: Experiment("criterion = \"wanda\"", "criterion = \"wanda\"\npermutation = \"ria\""),
        expect: &[
            "wanda: permutation `ria` decides which columns share an N:M group, and the pattern 50 % has no such groups",
        ],
    },
    Case {
        name: "an unknown compensation",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\ncompensate = { name = \"bais\" }",
        ),
        expect: &["unknown compensation `bais`; did you mean `bias`?"],
    },
    Case {
        name: "layers that a compensation does not know",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\ncompensate = { name = \"bias\", layers = \"output\" }",
        ),
        expect: &[
            "compensation `bias`: parameter `layers`: unknown value `output`",
            "did you mean `outputs`?",
        ],
    },
    Case {
        name: "an unknown transform",
        change: Experiment("criterion = \"wanda\"", "criterion = \"wanda\"\ntransform = \"center\""),
        expect: &["unknown transform `center`; did you mean `centre`?"],
    },
    Case {
        name: "a power that is none",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\ntransform = { name = \"scale\", beta = -1.0 }",
        ),
        expect: &["transform `scale`: parameter `beta` = -1 must be between 0 and 2"],
    },
    Case {
        name: "shifts of inputs and a compensation",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\ntransform = \"centre\"\ncompensate = \"bias\"",
        ),
        expect: &["and `compensate` changes them, too", "leave out one of them"],
    },
    Case {
        name: "learning without text for it",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\ntransform = \"sparsity-induction\"\nstage = \"dense\"",
        ),
        expect: &["the transform learns from the outputs of blocks", "use another stage"],
    },
    Case {
        name: "gradients in other variables",
        change: Experiment("criterion = \"wanda\"", "criterion = \"taylor\"\ntransform = \"scale\""),
        expect: &["uses gradients of the original weights", "leave `transform` out"],
    },
    Case {
        name: "a centred solver without a bias",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = \"wanda\"\nsolver = { name = \"least-squares\", centred = true }",
        ),
        expect: &[
            "`centred` leaves the means of outputs to a bias",
            "add compensate = \"bias\"",
        ],
    },
    Case {
        name: "an unknown stage by its name of earlier versions",
        change: Experiment("sequences = 4", "propagate = \"blocks\"\nsequences = 4"),
        expect: &["experiment.toml:12:13: unknown value `blocks`", "did you mean `block`?"],
    },
    Case {
        name: "an unknown selection",
        change: Experiment("seeds = [0, 1]", "seeds = [0, 1]\nselection = \"exactly\""),
        expect: &[
            "experiment.toml:17:13: unknown value `exactly`",
            "did you mean `exact`?",
        ],
    },
    Case {
        name: "an unknown backend",
        change: Experiment("[sweep]", "[compute]\nbackend = \"cpi\"\n\n[sweep]"),
        expect: &["experiment.toml:16:11: unknown value `cpi`", "did you mean `cpu`?"],
    },
    Case {
        name: "bfloat16 on a GPU",
        change: Experiment("[sweep]", "[compute]\nbackend = \"gpu\"\ncompute = \"bf16\"\n\n[sweep]"),
        expect: &["experiment.toml:17:11: compute = \"bf16\" is for backend = \"cpu\""],
    },
    Case {
        name: "memory without a unit",
        change: Experiment("[sweep]", "[compute]\nmemory = \"12\"\n\n[sweep]"),
        expect: &["experiment.toml:16:10: memory `12` has no unit", "12GiB"],
    },
    Case {
        name: "memory that is no amount",
        change: Experiment("[sweep]", "[compute]\nmemory = \"plenty\"\n\n[sweep]"),
        expect: &["experiment.toml:16:10: memory `plenty` is not an amount of memory"],
    },
    Case {
        name: "memory for a GPU",
        change: Experiment(
            "[sweep]",
            "[compute]\nbackend = \"gpu\"\ncompute = \"f32\"\nmemory = \"12GiB\"\n\n[sweep]",
        ),
        expect: &["experiment.toml:18:10: `memory` limits the memory of backend = \"cpu\""],
    },
    Case {
        name: "a scratch folder without a budget",
        change: Experiment("[sweep]", "[compute]\nscratch = \"/somewhere\"\n\n[sweep]"),
        expect: &[
            "experiment.toml:16:11: `scratch` is the folder for activations",
            "`memory`",
        ],
    },
    Case {
        name: "half precision on the CPU",
        change: Experiment("[sweep]", "[compute]\nbackend = \"cpu\"\ncompute = \"f16\"\n\n[sweep]"),
        expect: &["experiment.toml:17:11: compute = \"f16\" needs a GPU"],
    },
    Case {
        name: "a GPU that is not there",
        change: Experiment("[sweep]", "[compute]\nadapter = \"Voodoo 2\"\n\n[sweep]"),
        expect: &["experiment.toml: no GPU", "Voodoo 2"],
    },
    Case {
        name: "an unknown provider of factorisations",
        change: Experiment("[sweep]", "[compute]\nlinear_algebra = \"fear\"\n\n[sweep]"),
        expect: &["experiment.toml:16:18: unknown value `fear`", "did you mean `faer`?"],
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
            "experiment.toml:21:29: criterion `ria`: unknown key `activation_powr`",
            "did you mean `activation_power`?",
        ],
    },
    Case {
        name: "a parameter of a criterion that has none",
        change: Experiment("criterion = \"wanda\"", "criterion = { name = \"wanda\", power = 1.0 }"),
        expect: &[
            "experiment.toml:21:31: criterion `wanda`: unknown key `power`",
            "there are no keys here",
        ],
    },
    Case {
        name: "a parameter below its range",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"ria\", activation_power = -0.5 }",
        ),
        expect: &[
            "experiment.toml:21:48: criterion `ria`: parameter `activation_power` = -0.5 must be a number of at least 0",
        ],
    },
    Case {
        name: "a parameter above its range",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"z-pruner\", row_weight = 1.5 }",
        ),
        expect: &["experiment.toml:21:47: criterion `z-pruner`: parameter `row_weight` = 1.5 must be between 0 and 1"],
    },
    Case {
        name: "a parameter of the wrong type",
        change: Experiment(
            "criterion = \"wanda\"",
            "criterion = { name = \"ria\", activation_power = \"half\" }",
        ),
        expect: &[
            "experiment.toml:21:48: criterion `ria`: parameter `activation_power` must be a number, such as 0.5, not the text \"half\"",
        ],
    },
    Case {
        name: "a component without a name",
        change: Experiment("criterion = \"wanda\"", "criterion = { activation_power = 0.5 }"),
        expect: &["experiment.toml:21:13: `name` is missing"],
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
        expect: &["experiment.toml:17:26: `sparsity` must be a number, such as 0.5, not the text \"half\""],
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
        expect: &["experiment.toml:16:16: seed 0 is listed twice"],
    },
    Case {
        name: "a negative seed",
        change: Experiment("seeds = [0, 1]", "seeds = [0, -1]"),
        expect: &[
            "experiment.toml:16:13: each value of `seeds` must be a whole number, 0 or larger, not the number -1",
        ],
    },
    Case {
        name: "two methods of one name",
        change: Experiment("name = \"sparsegpt\"", "name = \"wanda\""),
        expect: &[
            "experiment.toml:24:8: method name `wanda` is used twice; write another `name` below one of them, such as name = \"wanda 2\"",
        ],
    },
    Case {
        name: "a method called dense",
        change: Experiment("name = \"sparsegpt\"", "name = \"dense\""),
        expect: &["experiment.toml:24:8: method name `dense` is taken by the unpruned model"],
    },
    Case {
        name: "a method without a criterion",
        change: Experiment("criterion = \"wanda\"", ""),
        expect: &["experiment.toml:20:8: `name` is only a label: write `criterion = \"wanda\"`"],
    },
    Case {
        name: "an experiment name that leaves the results folder",
        change: Experiment("name = \"tiny\"", "name = \"../tiny\""),
        expect: &[
            "experiment.toml:1:8: name `../tiny` becomes the name of a folder: use only letters, digits, `-`, `_` and `.`",
        ],
    },
    Case {
        name: "an empty experiment name",
        change: Experiment("name = \"tiny\"", "name = \"\""),
        expect: &["experiment.toml:1:8: name `` becomes the name of a folder"],
    },
    Case {
        name: "no calibration sequences",
        change: Experiment("sequences = 4", "sequences = 0"),
        expect: &["experiment.toml:12:13: calibration needs at least one window of at least 2 tokens"],
    },
    Case {
        name: "calibration windows of one token",
        change: Experiment("sequences = 4\nlength = 16", "sequences = 4\nlength = 1"),
        expect: &["experiment.toml:13:10: calibration needs at least one window of at least 2 tokens"],
    },
    Case {
        name: "more calibration tokens than any memory holds",
        change: Experiment("sequences = 4", "sequences = 4_000_000_000_000_000_000"),
        expect: &["experiment.toml:12:13: ", "4000000000000000000 windows of 16 tokens"],
    },
    Case {
        name: "a thousand million calibration tokens",
        change: Experiment("sequences = 4\nlength = 16", "sequences = 500_000\nlength = 2_048"),
        expect: &["experiment.toml:12:13: 500000 windows of 2048 tokens are more than 67108864 calibration tokens"],
    },
    Case {
        name: "more calibration tokens of all seeds than any memory holds",
        change: Other(|folder| {
            let seeds: Vec<String> = (0..40).map(|seed| seed.to_string()).collect();
            folder.replace(
                "experiment.toml",
                "seeds = [0, 1]",
                &format!("seeds = [{}]", seeds.join(", ")),
            );
            folder.replace(
                "experiment.toml",
                "sequences = 4\nlength = 16",
                "sequences = 32_768\nlength = 2_048",
            );
        }),
        expect: &["experiment.toml:12:13: 32768 windows of 2048 tokens for each of 40 seeds are more than"],
    },
    Case {
        name: "more evaluation windows than any memory holds",
        change: Experiment("windows = 4", "windows = 1_152_921_504_606_846_977"),
        expect: &["experiment.toml:33:11: 1152921504606846977 windows of 16 tokens are more than 268435456 tokens"],
    },
    Case {
        name: "no evaluation windows",
        change: Experiment("windows = 4", "windows = 0"),
        expect: &["experiment.toml:33:11: ", "at least one window"],
    },
    Case {
        name: "evaluation windows of one token",
        change: Experiment("length = 16\nwindows", "length = 1\nwindows"),
        expect: &["experiment.toml:32:10: ", "`length` of at least 2"],
    },
    Case {
        name: "a confidence above 1",
        change: Experiment("[sweep]", "[report]\nconfidence = 2\n\n[sweep]"),
        expect: &["experiment.toml:16:14: confidence 2 must be between 0.5 and 0.999"],
    },
];

/// Slips in one value each, and what of the file is marked.
const SLIPS: &[(&str, &str, &str, &str)] = &[
    ("sequences = 4", "sequences = 0", "0", "at least one window"),
    ("length = 16\n\n", "length = 1\n\n", "1", "at least 2 tokens"),
    ("seeds = [0, 1]", "seeds = [7, 3, 7]", "7", "seed 7 is listed twice"),
    ("name = \"novel\"", "name = \"\"", "\"\"", "evaluation name is empty"),
    ("windows = 4", "windows = 0", "0", "at least one window"),
    ("windows = 4", "windows = 4\nrows = 0", "0", "`rows` is a number"),
    (
        "windows = 4",
        "windows = 4\ntokens = \"x\"",
        "\"x\"",
        "`tokens` takes the place of `corpus`",
    ),
    (
        "path = \"model\"",
        "path = \"model\"\nhub = \"a/b\"",
        "\"a/b\"",
        "either `path` or `hub`",
    ),
    (
        "path = \"model\"",
        "path = \"model\"\nrevision = \"v1\"",
        "\"v1\"",
        "`revision` belongs to a model of the `hub`",
    ),
    (
        "path = \"model\"",
        "path = \"hub:a/b\"",
        "\"hub:a/b\"",
        "a model of the hub is written `hub = \"a/b\"`",
    ),
    (
        "path = \"model\"",
        "path = \"model\"\nname = \"\"",
        "\"\"",
        "a model name is empty",
    ),
    ("[sweep]", "[compute]\nmemory = \"much\"\n\n[sweep]", "\"much\"", "much"),
    (
        "[sweep]",
        "[compute]\nbackend = \"gpu\"\nmemory = \"1GiB\"\n\n[sweep]",
        "\"1GiB\"",
        "leave it out",
    ),
    (
        "[sweep]",
        "[compute]\ncompute = \"f16\"\n\n[sweep]",
        "\"f16\"",
        "needs a GPU",
    ),
    (
        "[sweep]",
        "[compute]\nscratch = \"x\"\n\n[sweep]",
        "\"x\"",
        "give `memory`, too",
    ),
    (
        "[sweep]",
        "[report]\nconfidence = 2.0\n\n[sweep]",
        "2.0",
        "must be between",
    ),
    (
        "[sweep]",
        "[report]\ntables = [[\"solver\", \"solver\"]]\n\n[sweep]",
        "[[\"solver\", \"solver\"]]",
        "two axes that differ",
    ),
    (
        "[sweep]",
        "[[task]]\nname = \"pica\"\n\n[sweep]",
        "\"pica\"",
        "unknown task `pica`",
    ),
    (
        "[sweep]",
        "[[task]]\nname = \"piqa\"\nlimit = 0\n\n[sweep]",
        "0",
        "`limit` is a number of documents",
    ),
    (
        "[sweep]",
        "[[task]]\nname = \"piqa\"\ndata = \"hub:a\"\n\n[sweep]",
        "\"hub:a\"",
        "hub",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = \"wanda\"\nwidths = \"uniform\"",
        "\"uniform\"",
        "belongs to a method with `units`",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = \"wanda\"\nretrained = true",
        "true",
        "belongs to a method with `checkpoint`",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = \"wanda\"\ntarget = \"dense\"",
        "\"dense\"",
        "leave `target` out",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = \"wanda\"\nmask = \"m\"",
        "\"wanda\"",
        "takes the place of a criterion",
    ),
    (
        "criterion = \"wanda\"",
        "units = \"flap\"\nsolver = \"obs\"",
        "\"obs\"",
        "leave out `solver`",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = { name = \"ria\", activation_power = \"x\" }",
        "\"x\"",
        "parameter `activation_power`",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = { expression = \"abs(w) * a\", a = \"x\" }",
        "\"x\"",
        "parameter `a` must be a number",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = { expression = \"abs(w) * name\", name = 0.5 }",
        "{ expression",
        "`name` is the name of the criterion, and cannot be a parameter",
    ),
    (
        "criterion = \"wanda\"",
        "criterion = { expression = \"abs(w) * x3\" }",
        "\"abs(w) * x3\"",
        "unknown value `x3`",
    ),
];

#[test]
fn a_mistake_is_marked_at_the_value_that_it_is_about() {
    for (typed, slip, marked, said) in SLIPS {
        let folder = Folder::new();
        folder.replace("experiment.toml", typed, slip);
        let output = folder.zprune(&["plan", "experiment.toml"]).output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{slip}: {told}");
        assert!(
            told.replace("\n  ", " ").contains(said),
            "{slip}: no `{said}` in:\n{told}"
        );
        let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
        // The value of the last line of the slip whose value it is.
        let line = text
            .lines()
            .position(|line| line.contains(marked) && slip.lines().any(|of_slip| of_slip == line));
        let line = line.unwrap_or_else(|| panic!("{slip}: no line of the file has {marked}"));
        let column = text
            .lines()
            .nth(line)
            .and_then(|text| text.rfind(marked))
            .map_or(0, |at| at + 1);
        let place = format!("experiment.toml:{}:{column}: ", line + 1);
        assert!(told.contains(&place), "{slip}: no `{place}` in:\n{told}");
    }
}

#[test]
fn experiments_that_make_no_sense_are_refused() {
    refuses_all(EXPERIMENTS);
}

#[test]
fn a_path_that_is_meant_from_another_folder_is_refused_with_the_right_one() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("experiments")).expect("the temporary folder is writable");
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("a fixture is UTF-8");
    folder.write("experiments/x.toml", &text);
    let run = |arguments: &[&str]| folder.zprune(arguments).output().expect("the program starts");
    let refused = run(&["plan", "experiments/x.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    for (place, typed, meant) in [
        ("x.toml:5:8", "model", "../model"),
        ("x.toml:9:10", "calibration.jsonl", "../calibration.jsonl"),
        ("x.toml:30:10", "novel.txt", "../novel.txt"),
    ] {
        let message = format!(
            "{place}: `{typed}` is not in the folder of this file, and paths are relative to the file that they stand in: \
             write \"{meant}\""
        );
        assert!(said.contains(&message), "no `{message}` in:\n{said}");
    }
    // With what the messages say, the cells are those of the same files from elsewhere.
    let text = text
        .replace("\"model\"", "\"../model\"")
        .replace("\"calibration", "\"../calibration");
    folder.write("experiments/x.toml", text.replace("\"novel.txt\"", "\"../novel.txt\""));
    let there = run(&["plan", "experiments/x.toml"]);
    let here = run(&["plan", "experiment.toml"]);
    assert!(there.status.success(), "{}", String::from_utf8_lossy(&there.stderr));
    // What the time is expected to be depends on what else runs.
    let lines = |output: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(output).into_owned();
        text.lines()
            .filter(|line| !line.starts_with("time,"))
            .map(String::from)
            .collect()
    };
    assert_eq!(lines(&there.stdout), lines(&here.stdout));
}
