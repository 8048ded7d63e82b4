//! Claim: whatever a `structure.json` says that its folder can tell is counted again, so that a forged number is found although the
//! checksum fits; what only the original can tell is found with `--against`.

use super::shrink::{SHRINK, json, sealed};
use super::*;
use safetensors::SafeTensors;
use serde_json::Value;

/// Every method, with equal blocks, with blocks that differ, and with zeros that make them equal.
const MODELS: [(&str, &str); 13] = [
    ("taylor", "--method llm-pruner --units 0.3"),
    (
        "taylor-apart",
        "--method llm-pruner --set first=1 --widths per-block --units 0.4",
    ),
    (
        "taylor-padded",
        "--method llm-pruner --set first=1 --widths per-block --units 0.4 --pad",
    ),
    ("flap", "--method flap --units 0.4"),
    ("flap-apart", "--method flap --widths per-block --units 0.4"),
    ("flap-padded", "--method flap --widths per-block --units 0.4 --pad"),
    ("olica", "--method olica --set ratio=0.1 --set calibrated=1 --units 0.3"),
    (
        "olica-apart",
        "--method olica --set ratio=0.1 --set calibrated=1 --widths per-block --units 0.3",
    ),
    (
        "olica-padded",
        "--method olica --set ratio=0.1 --set calibrated=1 --units 0.3 --pad",
    ),
    ("short", "--method block-drop --units 0.5"),
    ("two-ssp", "--method two-ssp --units 0.5"),
    ("two-ssp-padded", "--method two-ssp --units 0.5 --pad"),
    ("sums", "--method unit-sum --units 0.3"),
];

/// Changes what the file says, and says what `verify` must find.
type Lie = (String, Value, String);

/// The file with another value at a place.
fn with(said: &Value, place: &str, value: Value) -> Value {
    let mut said = said.clone();
    *said.pointer_mut(place).expect("it is there") = value;
    said
}

/// A list without its last entry.
fn shorter(list: &Value) -> Value {
    let mut list = list.as_array().expect("a list").clone();
    list.pop();
    list.into()
}

/// Lies about numbers and words outside of the blocks.
fn lies_about_sizes(said: &Value) -> Vec<Lie> {
    let mut lies = Vec::new();
    for (place, field) in [
        ("/left/weights", "left, weights"),
        ("/left/parameters", "left, parameters"),
        ("/after/parameters", "after, parameters"),
        ("/after/bytes", "after, bytes"),
        ("/after/multiply_adds", "after, multiply-adds"),
        ("/before/parameters", "before, bytes"),
        ("/before/bytes", "before, bytes"),
        ("/before/multiply_adds", "removed"),
        ("/factored/parameters", "factored, parameters"),
        ("/factored/bytes", "factored, bytes"),
    ] {
        let Some(number) = said.pointer(place).and_then(Value::as_u64) else {
            continue;
        };
        for lie in [number + 1, number - 1] {
            lies.push((
                format!("{place} {lie}"),
                with(said, place, lie.into()),
                field.to_string(),
            ));
        }
    }
    for (place, lie, field) in [
        ("/removed", 0.51.into(), "removed"),
        ("/loaders", "zprune".into(), "loaders"),
        ("/families/0", "gemma".into(), "families"),
        ("/padded", Value::from(said["padded"] == false), ""),
        ("/blocks", shorter(&said["blocks"]), "blocks"),
        (
            "/blocks",
            serde_json::json!([said["blocks"][0], said["blocks"][0]]),
            "blocks",
        ),
    ] {
        lies.push((place.to_string(), with(said, place, lie), field.to_string()));
    }
    let mut without = said.clone();
    without["compared_without_blocks"] = true.into();
    lies.push((
        "without blocks".to_string(),
        without,
        "compared_without_blocks".to_string(),
    ));
    let mut none = said.clone();
    if none.as_object_mut().expect("an object").remove("factored").is_some() {
        lies.push(("no factors".to_string(), none, "block 0, ranks".to_string()));
    }
    lies
}

/// Lies about what is left of each block.
fn lies_about_blocks(said: &Value) -> Vec<Lie> {
    let mut lies = Vec::new();
    let mut lie = |index: usize, field: &str, value: Value, expect: &str| {
        let mut changed = said.clone();
        changed["blocks"][index][field] = value.clone();
        let what = format!("block {index}, {field}: {value}");
        lies.push((what, changed, format!("block {index}, {expect}")));
    };
    for (index, block) in said["blocks"].as_array().expect("blocks").iter().enumerate() {
        for (field, name) in [
            ("heads", "heads"),
            ("kv_heads", "key-value heads"),
            ("neurons", "neurons"),
        ] {
            let mut longer = block[field].as_array().expect("a list").clone();
            longer.push(
                longer
                    .last()
                    .map_or(0, |last| last.as_u64().expect("a number") + 1)
                    .into(),
            );
            if longer.len() > 1 {
                lie(index, field, shorter(&block[field]), name);
                let mut twice = longer.clone();
                twice.pop();
                twice[0] = twice[twice.len() - 1].clone();
                if twice.len() > 1 {
                    lie(index, field, twice.into(), name);
                }
            }
            lie(index, field, longer.into(), name);
        }
        for (layer, rank) in block["ranks"].as_object().into_iter().flatten() {
            let rank = rank.as_u64().expect("a number");
            for other in [rank - 1, rank + 1] {
                let mut ranks = block["ranks"].clone();
                ranks[layer] = other.into();
                lie(index, "ranks", ranks, &format!("ranks, {layer}"));
            }
            let mut ranks = block["ranks"].clone();
            ranks.as_object_mut().expect("an object").remove(layer);
            lie(index, "ranks", ranks, &format!("ranks, {layer}"));
        }
        if let Some(values) = block.get("values") {
            let mut fewer = values.clone();
            fewer[1] = shorter(&values[1]);
            lie(index, "values", fewer, "values of key-value head 1");
            lie(index, "values", serde_json::json!([]), "values of key-value head 0");
        }
        let branch = block.get("branch").and_then(Value::as_u64);
        lie(index, "branch", (branch.unwrap_or(0) + 1).into(), "branch");
        if branch.is_some() {
            lie(index, "branch", Value::Null, "branch");
        }
    }
    lies
}

#[test]
fn forged_numbers_are_found_without_the_original() {
    let folder = Folder::new();
    let mut failures = Vec::new();
    for (out, arguments) in MODELS {
        works(&run(&folder, &format!("{SHRINK} {arguments} --out {out}")));
        let told = works(&run(&folder, &format!("verify {out}")));
        assert!(told.contains("give --against ORIGINAL"), "{told}");
        works(&run(&folder, &format!("verify {out} --against model")));
        let path = format!("{out}/structure.json");
        let said = json(&folder, &path);
        let text = std::fs::read_to_string(folder.path(&path)).expect("written");
        for (what, lie, expect) in lies_about_sizes(&said).into_iter().chain(lies_about_blocks(&said)) {
            folder.write(&path, sealed(lie));
            let output = run(&folder, &format!("verify {out}"));
            let told = says(&output);
            if output.status.code() != Some(1) || !told.contains(&expect) || !told.contains("structure.json") {
                failures.push(format!("{out}, {what}: no `{expect}` in {told}"));
            }
        }
        folder.write(&path, text);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn lies_that_agree_with_each_other_are_found() {
    let folder = Folder::new();
    for (out, arguments) in MODELS {
        works(&run(&folder, &format!("{SHRINK} {arguments} --out {out}")));
        let path = format!("{out}/structure.json");
        let mut said = json(&folder, &path);
        let block = said["blocks"].as_array().expect("blocks").len() - 1;
        let neurons = shorter(&said["blocks"][block]["neurons"]);
        said["blocks"][block]["neurons"] = neurons;
        // A neuron of the tiny model: a row of 16 in two layers, a column of 16 in one.
        let width = json(&folder, "model/config.json")["hidden_size"]
            .as_u64()
            .expect("a number");
        let fewer = 3 * width;
        let weights = said["left"]["weights"].as_u64().expect("a number");
        let parameters = said["left"]["parameters"].as_u64().expect("a number");
        let removed = said["removed"].as_f64().expect("a number");
        let all = weights as f64 / (1.0 - removed);
        said["left"] = serde_json::json!({"parameters": parameters - fewer, "weights": weights - fewer});
        said["removed"] = (1.0 - (weights - fewer) as f64 / all.round()).into();
        folder.write(&path, sealed(said));
        let output = run(&folder, &format!("verify {out}"));
        assert_eq!(output.status.code(), Some(1), "{out}: {}", says(&output));
        for field in [
            format!("block {block}, neurons"),
            "left, weights".to_string(),
            "removed: ".to_string(),
        ] {
            assert!(
                says(&output).contains(&field),
                "{out}: no `{field}` in {}",
                says(&output)
            );
        }
    }
}

#[test]
fn what_only_the_original_tells_is_found_with_it() {
    let folder = Folder::new();
    for (out, arguments) in MODELS {
        works(&run(&folder, &format!("{SHRINK} {arguments} --out {out}")));
        let path = format!("{out}/structure.json");
        let said = json(&folder, &path);
        let refuse = |what: &str, lie: Value, expect: &str| {
            folder.write(&path, sealed(lie));
            let output = run(&folder, &format!("verify {out} --against model"));
            assert_eq!(output.status.code(), Some(1), "{out}, {what}: {}", says(&output));
            assert!(
                says(&output).contains(expect),
                "{out}, {what}: no `{expect}` in {}",
                says(&output)
            );
        };
        refuse(
            "the original's family",
            with(&said, "/families/1", "gemma".into()),
            "families, the original's",
        );
        let mut sizes = said.clone();
        for (field, more) in [("parameters", 1), ("bytes", 4)] {
            sizes["before"][field] = (said["before"][field].as_u64().expect("a number") + more).into();
        }
        refuse("the original's sizes", sizes, "before, parameters");
        // Another neuron in place of the last that is left.
        let all = json(&folder, "model/config.json")["intermediate_size"]
            .as_u64()
            .expect("a number");
        let left = said["blocks"].as_array().expect("blocks");
        let some = left
            .iter()
            .position(|block| (block["neurons"].as_array().expect("a list").len() as u64) < all);
        if let Some(index) = some {
            let mut neurons: Vec<u64> = serde_json::from_value(left[index]["neurons"].clone()).expect("numbers");
            let gone = (0..all).find(|neuron| !neurons.contains(neuron)).expect("one is gone");
            neurons.pop();
            neurons.push(gone);
            neurons.sort_unstable();
            let place = format!("/blocks/{index}/neurons");
            refuse(
                "another neuron",
                with(&said, &place, serde_json::json!(neurons)),
                "has other weights than the original",
            );
            *neurons.last_mut().expect("some are left") = all;
            refuse(
                "no such neuron",
                with(&said, &place, serde_json::json!(neurons)),
                "the original has no such units",
            );
        }
        if left.len() == 1 {
            let other = 1 - left[0]["block"].as_u64().expect("a number");
            refuse(
                "another block",
                with(&said, "/blocks/0/block", other.into()),
                "has other weights than the original",
            );
        }
    }
}

/// Claim: a unit of the original that has only zeros looks like padding, so that the original decides.
#[test]
fn zeros_of_the_original_are_no_padding() {
    let folder = Folder::new();
    let path = folder.path("model/model.safetensors");
    let mut bytes = std::fs::read(&path).expect("a model");
    let places: Vec<(usize, usize)> = {
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let of = |name: &str| {
            let tensor = file
                .tensor(&format!("model.layers.0.mlp.{name}_proj.weight"))
                .expect("a layer");
            let start = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
            let (rows, columns) = (tensor.shape()[0], tensor.shape()[1]);
            let each = tensor.data().len() / (rows * columns);
            match name {
                "down" => (0..rows)
                    .map(|row| (start + ((row + 1) * columns - 1) * each, each))
                    .collect::<Vec<_>>(),
                _ => vec![(start + (rows - 1) * columns * each, columns * each)],
            }
        };
        ["gate", "up", "down"].into_iter().flat_map(of).collect()
    };
    for (start, length) in places {
        bytes[start..start + length].fill(0);
    }
    std::fs::write(&path, bytes).expect("writable");
    let shrink = "--method llm-pruner --set first=1 --widths per-block --units 0.4 --pad --out padded";
    works(&run(&folder, &format!("{SHRINK} {shrink}")));
    let output = run(&folder, "verify padded");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains("block 0, neurons: ")
            && says(&output).contains("if the original has them, give --against ORIGINAL"),
        "{}",
        says(&output)
    );
    works(&run(&folder, "verify padded --against model"));
}

/// Claim: without the file in which narrow matrices are counted, nothing passes.
#[test]
fn a_factored_form_that_was_taken_away_is_missed() {
    let folder = Folder::new();
    let (_, arguments) = MODELS[7];
    works(&run(&folder, &format!("{SHRINK} {arguments} --out narrow")));
    std::fs::remove_file(folder.path("narrow/factors.safetensors")).expect("ours");
    let mut said = json(&folder, "narrow/structure.json");
    let files = said["files"].as_object_mut().expect("files");
    files.remove("factors.safetensors").expect("it was written");
    folder.write("narrow/structure.json", sealed(said));
    let output = run(&folder, "verify narrow");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(
        says(&output).contains("factors.safetensors: is missing, but structure.json counts what it has"),
        "{}",
        says(&output)
    );
}
