//! Models whose configuration cannot be computed.

use super::Change::*;
use super::{Case, refuses_all};

const CONFIGURATIONS: &[Case] = &[
    Case {
        name: "no configuration",
        change: Absent("model/config.json"),
        expect: &["model: `model/config.json` is not there; to get it: train it", " │ path = \"model\""],
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
        name: "a missing size, whose default is another model's",
        change: Config("\"hidden_size\": 32,", ""),
        expect: &[
            "config.json: key `hidden_size` is missing; 4096 is taken, as transformers does",
            "tensor `model.embed_tokens.weight` has shape [259, 32], but config.json implies [259, 4096]",
        ],
    },
    Case {
        name: "a null where transformers takes none",
        change: Config("\"hidden_size\": 32,", "\"hidden_size\": null,"),
        expect: &["model/config.json: key `hidden_size` must be a positive integer, but is null; for the default, leave the key out"],
    },
    Case {
        name: "no heads",
        change: Config("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"),
        expect: &["model/config.json: key `num_attention_heads` must be a positive integer, but is 0"],
    },
    Case {
        name: "heads of no width",
        change: Config("\"num_attention_heads\": 4", "\"num_attention_heads\": 4, \"head_dim\": 0"),
        expect: &["model/config.json: key `head_dim` must be a positive integer, but is 0"],
    },
    Case {
        name: "a vocabulary that no memory holds",
        change: Config("\"vocab_size\": 259", "\"vocab_size\": 4294967295"),
        expect: &["model/config.json: key `vocab_size` = 4294967295 is too large; the limit is 16777216"],
    },
    Case {
        name: "sizes that are absurd together",
        change: Config(
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 90000, \"intermediate_size\": 16000000",
        ),
        expect: &["model/config.json: the sizes make a model of ", "parameters", "; the limit is 35184372088832"],
    },
    Case {
        name: "attention to what comes after",
        change: Config("\"vocab_size\"", "\"is_causal\": null, \"vocab_size\""),
        expect: &["model/config.json: key `is_causal` = null changes the model's mathematics"],
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
        change: Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4294967295"),
        expect: &["model/config.json: key `num_hidden_layers` = 4294967295 is too large; the limit is 100000"],
    },
    Case {
        name: "more blocks than the checkpoint has",
        change: Config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000"),
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
        change: Config("\"llama\"", "\"qwen2\", \"layer_types\": [\"full_attention\"]"),
        expect: &["model/config.json: key `layer_types` must list one kind for each of 2 blocks"],
    },
    Case {
        name: "an unsupported kind of layer",
        change: Config("\"llama\"", "\"qwen2\", \"layer_types\": [\"full_attention\", \"linear_attention\"]"),
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
