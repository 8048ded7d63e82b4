//! Claim: `shrink` writes smaller models that say what they are and predict, and refuses what cannot be.

use super::*;
use safetensors::SafeTensors;
use serde_json::Value;

/// Number of values in a safetensors file of the folder.
fn stored(folder: &Folder, name: &str) -> usize {
    let bytes = std::fs::read(folder.path(name)).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let shapes = file.tensors().into_iter().map(|(_, tensor)| tensor.shape().to_vec());
    shapes.map(|shape| shape.iter().product::<usize>()).sum()
}

/// A JSON file of the folder.
pub(super) fn json(folder: &Folder, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.path(name)).expect("written");
    serde_json::from_str(&text).expect("JSON")
}

/// Nothing is wrong with a smaller model, with its original or without.
fn verified(folder: &Folder, model: &str, original: &str) {
    works(&run(folder, &format!("verify {model}")));
    works(&run(folder, &format!("verify {model} --against {original}")));
}

pub(super) const SHRINK: &str = "shrink --model model --calibration calibration.jsonl --sequences 4 --length 16";

#[test]
fn a_smaller_model_says_what_it_is_and_predicts() {
    let folder = Folder::new();
    place_windows(&folder);
    let told = works(&run(
        &folder,
        &format!("{SHRINK} --method flap --units 0.4 --out small"),
    ));
    assert!(told.contains("blocks      2 left, with 2 heads and 4"), "{told}");
    assert!(told.contains("Checked: the logits are those of the original"), "{told}");
    let config = json(&folder, "small/config.json");
    assert_eq!(
        [
            &config["num_attention_heads"],
            &config["num_key_value_heads"],
            &config["head_dim"]
        ],
        [2, 1, 8]
    );
    assert_eq!(
        [&config["attention_bias"], &config["mlp_bias"]],
        [true, true],
        "biases make up for the means"
    );
    let structure = json(&folder, "small/structure.json");
    assert_eq!(structure["blocks"][1]["heads"].as_array().map(Vec::len), Some(2));
    let (before, after) = (&structure["before"], &structure["after"]);
    assert!(after["parameters"].as_u64() < before["parameters"].as_u64());
    // What is told is what is in the file; FLAP itself has biases in two layers of a block.
    let count = stored(&folder, "small/model.safetensors");
    assert_eq!(after["parameters"], count);
    assert!(told.contains(&format!("-> {count} (")), "{told}");
    let own = structure["left"]["parameters"].as_u64().expect("a number") as usize;
    assert!(
        told.contains(&format!("{} of the parameters are biases that are 0", count - own)),
        "{told}"
    );
    assert!(structure["logit_difference"].as_f64().expect("a number") < 1e-4);
    let removed = structure["removed"].as_f64().expect("a number");
    assert!((removed - 0.4).abs() < 0.02, "{removed}");
    predicts(&folder, "small");
    // Without biases, and with the weights alone.
    let plain = works(&run(
        &folder,
        &format!("{SHRINK} --method flap --set bias=false --units 0.4 --out plain"),
    ));
    assert!(plain.contains("39.6 % of the weights"), "{plain}");
    assert!(
        json(&folder, "plain/config.json")
            .get("mlp_bias")
            .is_none_or(|bias| *bias == false)
    );
    works(&run(
        &folder,
        "shrink --model model --method unit-sum --set score=magnitude --units 0.3 --out sums",
    ));
    assert!(json(&folder, "sums/structure.json").get("calibration").is_none());
    predicts(&folder, "sums");
    // The same seed gives the same model.
    works(&run(
        &folder,
        &format!("{SHRINK} --method flap --units 0.4 --out again"),
    ));
    let weights = |name: &str| std::fs::read(folder.path(format!("{name}/model.safetensors"))).expect("written");
    assert!(weights("small") == weights("again"));
    assert!(weights("small") != weights("plain"));
}

#[test]
fn blocks_may_differ_or_be_dropped() {
    let folder = Folder::new();
    place_windows(&folder);
    works(&run(
        &folder,
        &format!("{SHRINK} --method flap --set bias=false --widths per-block --units 0.35 --out apart"),
    ));
    predicts(&folder, "apart");
    let told = works(&run(
        &folder,
        &format!("{SHRINK} --method block-drop --set by=perplexity --units 0.5 --out short"),
    ));
    assert!(told.contains("blocks      1 left"), "{told}");
    assert_eq!(json(&folder, "short/config.json")["num_hidden_layers"], 1);
    predicts(&folder, "short");
}

#[test]
fn whole_attentions_go_and_the_program_says_who_loads_what_is_left() {
    let folder = Folder::new();
    place_windows(&folder);
    let told = works(&run(
        &folder,
        &format!("{SHRINK} --method two-ssp --units 0.5 --out apart"),
    ));
    assert!(told.contains("one block has no attention"), "{told}");
    assert!(told.contains("transformers with trust_remote_code=True"), "{told}");
    let [structure, config] = ["apart/structure.json", "apart/config.json"].map(|name| json(&folder, name));
    assert_eq!(
        (&structure["loaders"], &structure["padded"]),
        (&"class".into(), &false.into())
    );
    let class = std::fs::read_to_string(folder.path("apart/modeling_zprune.py")).expect("the class");
    assert!(class.contains("Family = CONFIG_MAPPING[\"llama\"]"), "{class}");
    assert_eq!(config["auto_map"]["AutoConfig"], "modeling_zprune.BlocksConfig");
    assert!(structure["files"].get("modeling_zprune.py").is_some());
    let blocks = structure["blocks"].as_array().expect("a list");
    let gone = blocks
        .iter()
        .position(|block| block["heads"] == serde_json::json!([]))
        .expect("one");
    assert_eq!(config["per_layer_config"][gone.to_string()]["num_attention_heads"], 0);
    assert!((structure["removed"].as_f64().expect("a number") - 0.5).abs() < 0.02);
    predicts(&folder, "apart");
    // The same with zeros.
    let told = works(&run(
        &folder,
        &format!("{SHRINK} --method two-ssp --units 0.5 --pad --out padded"),
    ));
    assert!(
        told.contains("Blocks that are smaller than the widest one have zeros"),
        "{told}"
    );
    let [padded, config] = ["padded/structure.json", "padded/config.json"].map(|name| json(&folder, name));
    assert_eq!((&padded["loaders"], &padded["padded"]), (&"stock".into(), &true.into()));
    assert_eq!(
        (&padded["removed"], &padded["blocks"]),
        (&structure["removed"], &structure["blocks"])
    );
    assert!(padded["after"]["parameters"].as_u64() > structure["after"]["parameters"].as_u64());
    assert!(config.get("per_layer_config").is_none() && config.get("auto_map").is_none());
    assert!(!folder.path("padded/modeling_zprune.py").exists());
    predicts(&folder, "padded");
    // A pruned copy has the class, too.
    works(&run(
        &folder,
        "prune --model apart --method magnitude --sparsity 0.5 --out sparse",
    ));
    assert_eq!(
        std::fs::read_to_string(folder.path("sparse/modeling_zprune.py")).expect("the class"),
        class
    );
    works(&run(&folder, "verify sparse --against apart"));
    // It can lose more. What cannot be is said before anything is computed.
    works(&run(
        &folder,
        "shrink --model apart --tokens tokens.safetensors --method llm-pruner --set gqa=equal-q --widths per-block --units 0.4 --out less",
    ));
    verified(&folder, "less", "apart");
    for (words, says) in [
        ("block-drop --units 0.5 --pad", "leave out --pad"),
        ("flap --widths per-block --units 0.4", "has no attention"),
        ("unit-sum --set score=magnitude --units 0.4", "has no attention"),
        ("llm-pruner --units 0.4", "different sizes already"),
    ] {
        let shrink = format!("shrink --model apart --tokens tokens.safetensors --method {words} --out none");
        refused(&folder, &shrink, 2, &[says]);
    }
    let perplexity = |name: &str| {
        let text = std::fs::read_to_string(folder.path(format!("{name}.json"))).expect("written");
        number(&text, "perplexity")
    };
    assert!((perplexity("padded") / perplexity("apart") - 1.0).abs() < 1e-5);
    // OPT's configuration says nothing of heads.
    place(&folder, "opt_base", true);
    let shrink = "shrink --model opt_base --tokens tokens.safetensors --method two-ssp --units 0.5 --out opt";
    refused(
        &folder,
        shrink,
        2,
        &["a `opt` configuration has no key for that", "(--pad)"],
    );
    works(&run(&folder, &format!("{shrink} --pad")));
    predicts(&folder, "opt");
    verified(&folder, "opt", "opt_base");
    // Zeros for heads that no block has left, too.
    let shrink = "shrink --model opt_base --tokens tokens.safetensors --method llm-pruner --widths per-block --units 0.5 --out heads";
    refused(
        &folder,
        shrink,
        2,
        &["a `opt` configuration has no key for the size of a head", "(--pad)"],
    );
    works(&run(&folder, &format!("{shrink} --pad")));
    assert_eq!(json(&folder, "heads/structure.json")["loaders"], "stock");
    predicts(&folder, "heads");
    verified(&folder, "heads", "opt_base");
    // The same where queries, keys and values are one matrix. This is said before calibration.
    for (family, heads) in [("gpt2", 4), ("gpt_neox", 2)] {
        place(&folder, family, true);
        let flap = if family == "gpt2" {
            "flap"
        } else {
            "flap --set bias=false"
        };
        for (method, out) in [(flap, "flap"), ("llm-pruner", "taylor")] {
            let out = format!("{family}-{out}");
            let shrink = format!(
                "shrink --model {family} --tokens tokens.safetensors --method {method} --widths per-block --units 0.5 --out {out}"
            );
            let says = "configuration has no key for the size of a head";
            refused(&folder, &shrink, 2, &[says, "(--pad)"]);
            works(&run(&folder, &format!("{shrink} --pad")));
            let structure = json(&folder, &format!("{out}/structure.json"));
            assert_eq!(structure["loaders"], "stock", "{out}");
            for block in structure["blocks"].as_array().expect("blocks") {
                let left = block["heads"].as_array().map(Vec::len);
                assert!(
                    method != "llm-pruner" || left == Some(heads / 2),
                    "{out}: {left:?} heads"
                );
            }
            verified(&folder, &out, family);
            predicts(&folder, &out);
        }
    }
}

#[test]
fn what_was_compared_is_said() {
    let folder = Folder::new();
    place_windows(&folder);
    for (family, without) in [("opt_base", false), ("opt_post_norm", true)] {
        place(&folder, family, true);
        let out = format!("{family}-short");
        let shrink =
            format!("shrink --model {family} --tokens tokens.safetensors --method block-drop --units 50% --out {out}");
        let told = works(&run(&folder, &shrink));
        assert_eq!(told.contains("without the removed blocks"), without, "{told}");
        let structure = json(&folder, &format!("{out}/structure.json"));
        assert_eq!(structure.get("compared_without_blocks").is_some(), without);
        // A model of equal blocks has no zeros, and takes no more time for a reason.
        let told = works(&run(
            &folder,
            &shrink.replace("-short", "-padded").replace("--out", "--pad --out"),
        ));
        assert!(!told.contains("have zeros"), "{told}");
        assert_eq!(
            json(&folder, &format!("{family}-padded/structure.json"))["padded"],
            false
        );
    }
}

#[test]
fn low_rank_matrices_are_written_multiplied_out_and_counted_as_they_are() {
    let folder = Folder::new();
    place_windows(&folder);
    let olica = format!("{SHRINK} --method olica --set ratio=0.1 --set calibrated=1 --units 0.3");
    let told = works(&run(&folder, &format!("{olica} --pad --out padded")));
    assert!(
        told.contains("neurons for the branch beside an MLP") && told.contains("They are not stored"),
        "{told}"
    );
    assert!(!folder.path("padded/factors.safetensors").exists());
    let structure = json(&folder, "padded/structure.json");
    let block = &structure["blocks"][0];
    assert!(block["ranks"]["self_attn.q_proj"].as_u64() > Some(0));
    assert_eq!(block["values"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&block["branch"], &structure["blocks"][1].get("branch")),
        (&3.into(), &None)
    );
    assert!((structure["removed"].as_f64().expect("a number") - 0.3).abs() < 0.02);
    let left = structure["left"]["parameters"].as_u64();
    assert!(left > Some(0) && structure["after"]["parameters"].as_u64() > left);
    // The branch needs biases of the MLP, which LLaMA's configuration has.
    assert_eq!(json(&folder, "padded/config.json")["mlp_bias"], true);
    predicts(&folder, "padded");

    // Without zeros, what is counted is what is stored, and zprune loads it where the dense equivalent is not.
    let told = works(&run(&folder, &format!("{olica} --widths per-block --out both")));
    let structure = json(&folder, "both/structure.json");
    let left = structure["left"]["parameters"].as_u64().expect("a number");
    assert_eq!(structure["factored"]["parameters"], left);
    assert_eq!(stored(&folder, "both/factors.safetensors") as u64, left);
    assert!(
        told.contains("which zprune loads where model.safetensors is not"),
        "{told}"
    );
    works(&run(&folder, "verify both"));
    works(&run(&folder, "verify both --against model"));
    std::fs::create_dir(folder.path("narrow")).expect("writable");
    for name in ["config.json", "factors.safetensors", "tokenizer.json"] {
        std::fs::copy(
            folder.path(format!("both/{name}")),
            folder.path(format!("narrow/{name}")),
        )
        .expect("there");
    }
    let [dense, factored] = ["both", "narrow"].map(|model| {
        let eval = format!("eval --model {model} --tokens tokens.safetensors --json {model}.json");
        works(&run(&folder, &eval));
        number(
            &std::fs::read_to_string(folder.path(format!("{model}.json"))).expect("written"),
            "perplexity",
        )
    });
    assert!((dense / factored - 1.0).abs() < 1e-5, "{dense} {factored}");
    // What only has meaning for whole matrices is refused.
    refused(
        &folder,
        "prune --model narrow --method magnitude --sparsity 0.5 --out out",
        2,
        &["narrow matrices in its place"],
    );
    let changed_file = folder.path("narrow/factors.safetensors");
    let mut bytes = std::fs::read(&changed_file).expect("written");
    // Matrices that do not fit the branch beside them.
    for name in ["up_proj", "down_proj"] {
        let turned = with_turned_shape(&bytes, &format!("model.layers.0.mlp.{name}.weight"));
        std::fs::write(&changed_file, turned).expect("writable");
        let why = format!("model.layers.0.mlp.{name}.weight`: a matrix of");
        refused(&folder, "eval --model narrow --tokens tokens.safetensors", 2, &[&why]);
    }
    // Other factors are another model, which both checks see.
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let first = file
        .tensor("model.layers.0.self_attn.q_proj.first")
        .expect("a factor")
        .data();
    let start = first.as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[start..start + 4].copy_from_slice(&3.0f32.to_le_bytes());
    std::fs::write(&changed_file, &bytes).expect("writable");
    works(&run(
        &folder,
        "eval --model narrow --tokens tokens.safetensors --json narrow.json",
    ));
    let changed = number(
        &std::fs::read_to_string(folder.path("narrow.json")).expect("written"),
        "perplexity",
    );
    assert_ne!(changed, factored, "factors are read");
    std::fs::copy(&changed_file, folder.path("both/factors.safetensors")).expect("writable");
    let told = says(&run(&folder, "verify both"));
    assert!(
        told.contains("model.layers.0.self_attn.q_proj.weight: is not what factors.safetensors gives"),
        "{told}"
    );

    // Without a branch all blocks are equal; with one, a family without such biases is refused.
    place(&folder, "qwen2", true);
    let qwen = "shrink --model qwen2 --tokens tokens.safetensors --method olica --units 0.3";
    works(&run(&folder, &format!("{qwen} --set calibrated=0 --out equal")));
    assert_eq!(json(&folder, "equal/structure.json")["loaders"], "stock");
    predicts(&folder, "equal");
    verified(&folder, "equal", "qwen2");
    refused(
        &folder,
        &format!("{qwen} --pad --out out"),
        2,
        &["cannot have a bias", "--set calibrated=0"],
    );
    // Without gates, a branch is pairs of neurons.
    place(&folder, "opt_base", true);
    let opt = "shrink --model opt_base --tokens tokens.safetensors --method olica --set calibrated=1 --set ratio=0.1 --units 0.3";
    for (out, more) in [("pairs", "--pad"), ("pairs-apart", "--widths per-block --pad")] {
        works(&run(&folder, &format!("{opt} {more} --out {out}")));
        verified(&folder, out, "opt_base");
        let structure = json(&folder, &format!("{out}/structure.json"));
        let blocks = structure["blocks"].as_array().expect("blocks");
        assert_eq!(
            blocks.iter().filter(|block| block.get("branch").is_some()).count(),
            1,
            "{out}"
        );
    }
    place(&folder, "gpt2", true);
    let gpt2 = "shrink --model gpt2 --tokens tokens.safetensors --method olica --units 0.3 --out out";
    refused(&folder, gpt2, 2, &["queries, keys and values of their own"]);
}

#[test]
fn choosing_units_is_timed_on_random_weights() {
    let folder = Folder::new();
    let bench = "bench --shape smollm2-135m --layers 2 --sequences 2 --length 8 --sparsity 0.3 --method";
    let told = works(&run(
        &folder,
        &format!("{bench} llm-pruner --memory 1GiB --json bench.json"),
    ));
    assert!(
        told.contains("s for 2 of 30 blocks") && told.contains("of memory in use"),
        "{told}"
    );
    let measured = json(&folder, "bench.json");
    assert!(measured["seconds"].as_f64() > Some(0.0));
    assert!(
        (measured["removed"].as_f64().expect("a number") - 0.3).abs() < 0.02,
        "{measured}"
    );
    refused(&folder, &format!("{bench} flap --refine dsnot"), 2, &["single weights"]);
}

#[test]
fn every_family_becomes_smaller() {
    let folder = Folder::new();
    place_windows(&folder);
    for family in [
        "gemma2",
        "gemma3",
        "gpt2",
        "gpt_neox",
        "mistral",
        "opt_base",
        "opt_post_norm",
        "opt_proj_pre_norm",
        "qwen2",
        "qwen3",
    ] {
        place(&folder, family, true);
        let shrink = format!("shrink --model {family} --tokens tokens.safetensors");
        works(&run(
            &folder,
            &format!("{shrink} --method unit-sum --units 0.3 --out {family}-narrow"),
        ));
        predicts(&folder, &format!("{family}-narrow"));
        verified(&folder, &format!("{family}-narrow"), family);
        works(&run(
            &folder,
            &format!("{shrink} --method block-drop --units 0.4 --out {family}-short"),
        ));
        predicts(&folder, &format!("{family}-short"));
        verified(&folder, &format!("{family}-short"), family);
        let apart = format!("{shrink} --method llm-pruner --widths per-block --units 0.4 --pad --out {family}-padded");
        works(&run(&folder, &apart));
        verified(&folder, &format!("{family}-padded"), family);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = Folder::new();
    place_windows(&folder);
    for (words, code, expect) in [
        (
            "--method flop --units 0.2",
            2,
            &["unknown method of whole units `flop`", "did you mean `flap`?"][..],
        ),
        (
            "--method flap --units 1.5",
            2,
            &["--units 1.5 must be a fraction of the weights between 0 and 0.95"],
        ),
        ("--method flap --units 0", 2, &["--units 0 removes nothing"]),
        (
            "--method flap --units 2:4",
            2,
            &["is no share; give a fraction, such as 0.2"],
        ),
        ("--method flap --units 0.001", 2, &["nothing would be removed"]),
        (
            "--method block-drop --units 0.1",
            2,
            &["nothing would be removed", "give at least 0.250"],
        ),
        (
            "--method block-drop --units 90%",
            2,
            &["one must be left: give less than 0.75"],
        ),
        (
            "--method two-ssp --units 95%",
            2,
            &["all 2 blocks would lose their attention", "(--pad)"],
        ),
        (
            "--method flap --units 0.2 --set metrik=ifv",
            2,
            &["unknown key `metrik`; did you mean `metric`?"],
        ),
        (
            "--method flap --units 0.2 --set structure=al-am",
            2,
            &["--widths per-block"],
        ),
        (
            "--method flap --units 0.2 --set remove_heads=3",
            2,
            &["has an effect only with structure"],
        ),
        (
            "--method unit-sum --units 0.2 --widths per-block",
            2,
            &["use --widths uniform"],
        ),
    ] {
        refused(&folder, &format!("{SHRINK} {words} --out out"), code, expect);
    }
    refused(
        &folder,
        "shrink --model model --method flap --units 0.2 --out out",
        2,
        &["needs calibration: give --calibration"],
    );
    refused(
        &folder,
        "shrink --model model --calibration calibration.jsonl --sequences 1 --length 16 --method flap --units 0.2 --out out",
        2,
        &["needs at least two of them"],
    );
    // No Mistral model has biases where FLAP wants them.
    place(&folder, "mistral", true);
    refused(
        &folder,
        "shrink --model mistral --tokens tokens.safetensors --method flap --units 0.3 --out out",
        2,
        &["cannot have a bias", "--set bias=false"],
    );
    // That is said before any text is looked at.
    let beyond = TokenWindows::new((0..32).map(|token| token * 100).collect(), 16).expect("whole windows");
    beyond.write(&folder.path("beyond.safetensors")).expect("writable");
    let shrink = "shrink --model mistral --tokens beyond.safetensors --method flap --units 0.3 --out out";
    refused(&folder, shrink, 2, &["--set bias=false"]);
    refused(
        &folder,
        &format!("{shrink} --set bias=false"),
        2,
        &["outside the model's vocabulary"],
    );
    std::fs::create_dir(folder.path("there")).expect("writable");
    folder.write("there/file", "somebody's");
    let output = run(&folder, &format!("{SHRINK} --method flap --units 0.2 --out there"));
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));
    assert_eq!(
        std::fs::read_to_string(folder.path("there/file")).expect("kept"),
        "somebody's"
    );
}

#[test]
fn a_smaller_model_is_verified_and_changes_are_found() {
    let folder = Folder::new();
    for (out, arguments) in [
        ("small", "--method flap --units 0.4"),
        ("padded", "--method flap --units 0.4 --widths per-block --pad"),
        ("short", "--method block-drop --units 0.5"),
    ] {
        works(&run(&folder, &format!("{SHRINK} {arguments} --out {out}")));
        let told = works(&run(&folder, &format!("verify {out} --against model")));
        assert!(told.contains("as structure.json says: "), "{told}");
        assert!(told.contains("pruned tensors: every kept weight"), "{told}");
    }
    // Another model is none to compare with, whatever it has.
    place(&folder, "llama_mqa", true);
    let output = run(&folder, "verify small --against llama_mqa");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains("llama_mqa is not the model that was pruned: structure.json has other hashes of"),
        "{}",
        says(&output)
    );
    assert!(
        !says(&output).contains("other weights than the original"),
        "{}",
        says(&output)
    );
    let refuse = |what: &str, expect: &[&str]| {
        let output = run(&folder, "verify small --against model");
        assert_eq!(output.status.code(), Some(1), "{what}: {}", says(&output));
        for part in expect {
            assert!(says(&output).contains(part), "{what}: no `{part}` in {}", says(&output));
        }
    };
    let path = folder.path("small/structure.json");
    let text = std::fs::read_to_string(&path).expect("written");
    folder.write("small/structure.json", text.replace("\"flap\"", "\"flip\""));
    refuse(
        "a changed record",
        &["structure.json: was changed after zprune wrote it"],
    );
    // Numbers are counted again, whatever the checksum is.
    for path in [
        "/before/parameters",
        "/before/bytes",
        "/before/multiply_adds",
        "/after/parameters",
        "/after/bytes",
        "/after/multiply_adds",
        "/left/weights",
        "/removed",
        "/loaders",
    ] {
        let mut said: Value = serde_json::from_str(&text).expect("JSON");
        let lie = said.pointer_mut(path).expect("a number or a word");
        *lie = match &*lie {
            Value::String(_) => "class".into(),
            number if number.is_f64() => 0.5.into(),
            _ => 5.into(),
        };
        folder.write("small/structure.json", sealed(said));
        let what = path.rsplit('/').next().expect("a name").replace('_', "-");
        refuse(path, &[&what, "but structure.json says "]);
    }
    folder.write("small/structure.json", &text);
    folder.write("small/extra.txt", "more");
    refuse("an added file", &["extra.txt: was added; zprune did not write it"]);
    std::fs::remove_file(folder.path("small/extra.txt")).expect("ours");
    let weights = folder.path("small/model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("written");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).expect("writable");
    refuse("a changed weight", &["model.safetensors: is not what zprune wrote"]);
}

/// The text of a `structure.json` with the checksum that fits it.
pub(super) fn sealed(mut said: Value) -> String {
    let open = "0".repeat(64);
    said["checksum"] = open.clone().into();
    let said = serde_json::to_string_pretty(&said).expect("JSON");
    let checksum = zprune::data::digest::of_bytes(said.as_bytes());
    said.replace(&open, &checksum)
}

/// Claim: whoever takes the class away, or lies about the factored form, is found out, although the checksum fits.
#[test]
fn other_files_are_counted_again() {
    let folder = Folder::new();
    place_windows(&folder);
    let lie = |out: &str, change: &dyn Fn(&mut Value), expect: &str| {
        let path = format!("{out}/structure.json");
        let mut said = json(&folder, &path);
        let text = std::fs::read_to_string(folder.path(&path)).expect("written");
        works(&run(&folder, &format!("verify {out}")));
        change(&mut said);
        folder.write(&path, sealed(said));
        let output = run(&folder, &format!("verify {out}"));
        assert_eq!(output.status.code(), Some(1), "{out}: {}", says(&output));
        assert!(
            says(&output).contains(expect),
            "{out}: no `{expect}` in {}",
            says(&output)
        );
        folder.write(&path, text);
    };
    works(&run(
        &folder,
        &format!("{SHRINK} --method two-ssp --units 0.5 --out apart"),
    ));
    lie(
        "apart",
        &|said| said["left"]["parameters"] = 10.into(),
        "but structure.json says 10",
    );
    lie(
        "apart",
        &|said| said["padded"] = true.into(),
        "padded: no block has less than the model",
    );
    let class = "modeling_zprune.py";
    lie(
        "apart",
        &|said| {
            let files = said["files"].as_object_mut().expect("files");
            files.remove(class).expect("the class");
            std::fs::remove_file(folder.path(format!("apart/{class}"))).expect("ours");
        },
        "loaders: the model has zprune, but structure.json says class",
    );
    works(&run(
        &folder,
        &format!("{SHRINK} --method olica --units 0.3 --out narrow"),
    ));
    lie(
        "narrow",
        &|said| said["factored"]["bytes"] = 5.into(),
        "factored, bytes: the model has ",
    );
}

/// The bytes of a safetensors file whose header names the sides of a matrix the other way round.
fn with_turned_shape(bytes: &[u8], tensor: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).expect("text");
    let start = header.find(&format!("\"{tensor}\"")).expect("the tensor");
    let start = start + header[start..].find("\"shape\":[").expect("its shape") + "\"shape\":[".len();
    let end = start + header[start..].find(']').expect("an end");
    let (rows, columns) = header[start..end].split_once(',').expect("a matrix");
    let turned = format!("{}{columns},{rows}{}", &header[..start], &header[end..]);
    [&bytes[..8], turned.as_bytes(), &bytes[8 + length..]].concat()
}
