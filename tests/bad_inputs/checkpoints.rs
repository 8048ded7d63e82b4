//! Checkpoints that are damaged, incomplete, or not the configuration's.

use super::Change::*;
use super::tiny::{self, Folder, Tensor, Tensors};
use super::{Case, refuses_all};
use safetensors::Dtype;

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
        expect: &["model/model.safetensors: is a folder; a file is needed here"],
    },
    Case {
        name: "a pointer of Git LFS",
        change: Content(
            "model/model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        ),
        expect: &[
            "model/model.safetensors: a pointer of Git LFS and not the weights themselves; fetch these with `git lfs pull`",
        ],
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
        name: "a tensor twice in the header",
        change: Stored(|bytes| {
            let a = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
            *bytes = header_only(&format!("{{{a},{a}}}"));
        }),
        expect: &[
            "model/model.safetensors: truncated or corrupt",
            "tensor `a` stands twice in the header; download or copy it again",
        ],
    },
    Case {
        name: "overlapping data",
        change: Stored(|bytes| {
            let info = |range: &str| format!(r#"{{"dtype":"U8","shape":[2],"data_offsets":{range}}}"#);
            let header = format!(r#"{{"a":{},"b":{}}}"#, info("[0,2]"), info("[1,3]"));
            *bytes = [header_only(&header), vec![0; 3]].concat();
        }),
        expect: &["model/model.safetensors: truncated or corrupt", "tensor `b` overlaps"],
    },
    Case {
        name: "a gap in the data",
        change: Stored(|bytes| {
            let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
            *bytes = [header_only(header), vec![0; 3]].concat();
        }),
        expect: &["model/model.safetensors: truncated or corrupt", "leaves a gap"],
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
        name: "an index that names a tensor twice",
        change: Other(|folder| {
            let map = r#"{"model.norm.weight": "first.safetensors", "model.norm.weight": "second.safetensors"}"#;
            shard(folder, &format!("{{\"weight_map\": {map}}}"));
        }),
        expect: &[
            "model/model.safetensors.index.json: not a shard index: key `model.norm.weight` stands twice",
            "remove the entry that is out of date",
        ],
    },
    Case {
        name: "an index with two maps",
        change: Other(|folder| {
            let map = r#""weight_map": {"model.norm.weight": "first.safetensors"}"#;
            shard(folder, &format!("{{{map}, {map}}}"));
        }),
        expect: &["model/model.safetensors.index.json: not a shard index: duplicate field `weight_map`"],
    },
    Case {
        name: "an index that names a missing shard",
        change: Other(|folder| shard(folder, r#"{"weight_map": {"model.norm.weight": "third.safetensors"}}"#)),
        expect: &[
            "model/model.safetensors.index.json: shard `third.safetensors`, which holds 1 of the tensors, is not there",
        ],
    },
    Case {
        name: "an index that names a tensor which no shard has",
        change: Other(|folder| {
            let map = r#"{"model.norm.weight": "first.safetensors", "model.layers.1": "second.safetensors"}"#;
            shard(folder, &format!("{{\"weight_map\": {map}}}"));
            let mut second = tiny::weights().split_off("model.layers.1");
            second.remove("model.norm.weight").expect("it is the last one");
            tiny::save(&second, &folder.path("model/second.safetensors"));
        }),
        expect: &[
            "model: tensor `model.norm.weight` is missing: the index says it is in `first.safetensors`, but it is not",
        ],
    },
    Case {
        name: "a tensor in two shards with two values",
        change: Other(|folder| {
            let map = r#"{"model.norm.weight": "first.safetensors", "model.layers.1": "second.safetensors"}"#;
            shard(folder, &format!("{{\"weight_map\": {map}}}"));
            let mut first = tiny::weights();
            first.split_off("model.layers.1");
            first.insert("model.norm.weight".into(), Tensor::new(&[32], (0..32).map(|_| 2.0)));
            tiny::save(&first, &folder.path("model/first.safetensors"));
        }),
        expect: &[
            "model: tensor `model.norm.weight` is in `first.safetensors` and, with other values, in `second.safetensors`",
            "remove the copy that is out of date",
        ],
    },
    Case {
        name: "weights in PyTorch's own format only",
        change: Other(|folder| {
            let model = |name| folder.path("model").join(name);
            std::fs::rename(model("model.safetensors"), model("pytorch_model.bin")).expect("the file is there");
        }),
        expect: &[
            "checkpoint: `model/model.safetensors` is not there; to get it: train it; there are weights in PyTorch's own format \
             (`pytorch_model.bin`), which can hold programs and are not read; load it with transformers",
        ],
    },
    Case {
        name: "a variant only",
        change: Other(|folder| {
            let model = |name| folder.path("model").join(name);
            std::fs::rename(model("model.safetensors"), model("model.fp16.safetensors")).expect("the file is there");
        }),
        expect: &["there is a variant of them (`model.fp16.safetensors`); rename"],
    },
    Case {
        name: "a folder one level too high",
        change: Other(|folder| {
            std::fs::rename(folder.path("model"), folder.path("inner")).expect("the folder is there");
            std::fs::create_dir(folder.path("model")).expect("the name is free");
            std::fs::rename(folder.path("inner"), folder.path("model/my model")).expect("the folder is there");
        }),
        expect: &["the model is in a folder below (`my model/`); give 'model/my model'"],
    },
    Case {
        name: "a file for a model",
        change: Experiment("path = \"model\"", "path = \"model/config.json\""),
        expect: &[
            "model: `model/config.json` is not a model folder; it is a file; give the folder that holds config.json",
        ],
    },
    Case {
        name: "a name of the hub without its prefix",
        change: Experiment("path = \"model\"", "path = \"org/model\""),
        expect: &[
            "model: `org/model` is not there; to get it: train it; if it is a model of the Hugging Face hub, write `hub:org/model`",
        ],
    },
    Case {
        name: "a folder with nearly the same name",
        change: Experiment("path = \"model\"", "path = \"modle\""),
        expect: &[
            "model: `modle` is not there; to get it: train it; did you mean `model`, which is in the same folder?",
            " │ path = \"modle\"",
        ],
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
