//! LLM-Pruner scores and keeps what the independent implementation does.

use crate::reference::{Golden, MODELS, close, golden, keeps, logits, on_cpu, opened, parameters};
use zprune::backend::cpu::Cpu;
use zprune::model::edit::{Edited, Masked};
use zprune::model::forward::Ends;
use zprune::model::padded::Padded;
use zprune::model::source::WeightSource;
use zprune::prune::units::Widths;
use zprune::prune::units::llm_pruner::{Gqa, LlmPruner, Taylor};
use zprune::prune::units::scores::UnitScores;
use zprune::prune::units::{DenseModel, UnitMethod};

/// The forms of the first-order expansion, and what the reference calls them.
const MODES: [(Taylor, &str); 4] = [
    (Taylor::Vectorize, "vectorize"),
    (Taylor::ParamFirst, "param_first"),
    (Taylor::ParamSecond, "param_second"),
    (Taylor::ParamMix, "param_mix"),
];

#[test]
fn llm_pruner_scores_and_keeps_what_the_reference_does() {
    let golden_values = Golden::new();
    let mut sets = 0;
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = on_cpu(&dense, &ends, &windows);
        let grouped = dense.spec().block(0).attention.heads > dense.spec().block(0).attention.kv_heads;
        for (taylor, mode) in MODES {
            let want = |name: &str| golden_values.values(&format!("{model}/llmp/{mode}/{name}"));
            let scores = |gqa| {
                let method = LlmPruner {
                    taylor,
                    gqa,
                    ..LlmPruner::default()
                };
                let scores = method.scores(&there).expect("computes");
                let joined = |of: fn(&UnitScores) -> &Vec<f64>| {
                    scores.iter().flat_map(|it| of(it).clone()).collect::<Vec<f64>>()
                };
                [
                    joined(|it| &it.heads),
                    joined(|it| &it.groups),
                    joined(|it| &it.neurons),
                ]
            };
            let [heads, groups, neurons] = scores(Gqa::Group);
            close(&format!("{model} {mode} heads"), &heads, &want("score_query_head"));
            close(&format!("{model} {mode} groups"), &groups, &want("score_kv_group"));
            close(&format!("{model} {mode} neurons"), &neurons, &want("score_neuron"));
            if grouped {
                let [_, released, _] = scores(Gqa::LlmPruner);
                close(mode, &released, &want("score_kv_group_released_misgrouped"));
            }
        }
        for (set, want) in golden_values.facts[model]["llmp"]["sets"].as_object().expect("sets") {
            let parts: Vec<&str> = set.split('/').collect();
            let inner = parts[2] == "inner";
            let method = LlmPruner {
                taylor: match parts[0] {
                    "vectorize" => Taylor::Vectorize,
                    "param_first" => Taylor::ParamFirst,
                    "param_second" => Taylor::ParamSecond,
                    _ => Taylor::ParamMix,
                },
                gqa: match parts[3] {
                    "equal_q" => Gqa::EqualQ,
                    "released_misgrouped" => Gqa::LlmPruner,
                    _ => Gqa::Group,
                },
                first: usize::from(inner),
                end: inner.then_some(dense.spec().blocks - 1),
            };
            let share: f64 = parts[1].parse().expect("a share");
            let edit = method.edit(&there, share, Widths::PerBlock).expect("possible");
            keeps(&format!("{model}, {set}"), &edit, dense.spec(), want);
            let left = edit.applied(dense.spec()).expect("possible");
            assert_eq!(
                parameters(&left) as u64,
                want["parameters"].as_u64().expect("a number"),
                "{model}, {set}"
            );
            let loss = there.perplexity(&edit).expect("computes").ln();
            let wanted = want["loss"].as_f64().expect("a number");
            assert!(
                (loss - wanted).abs() < 1e-5,
                "{model}, {set}: loss {loss} and not {wanted}"
            );
            sets += 1;
        }
    }
    assert!(sets > 60, "only {sets} sets");
}

/// Claim: where queries, keys and values are one matrix, a head has the scores of its own rows in it, and loses these rows.
#[test]
fn llm_pruner_scores_and_removes_heads_in_one_matrix() {
    for (family, share) in [("gpt2", 0.25), ("gpt2", 0.5), ("gpt_neox", 0.25), ("gpt_neox", 0.5)] {
        let folder = golden("gradients").join(family);
        let golden_values = Golden::beside(&folder);
        let dense = opened(&folder);
        let windows = golden_values.windows_in("ids");
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = on_cpu(&dense, &ends, &windows);
        let spec = dense.spec();
        let count = spec.block(0).attention.heads;
        for (taylor, mode) in MODES {
            let method = LlmPruner {
                taylor,
                ..LlmPruner::default()
            };
            let scores = method.scores(&there).expect("computes");
            let what = format!("{family} {mode}");
            let [wanted_heads, wanted_neurons] =
                ["head", "neuron"].map(|unit| golden_values.values(&format!("llmp/{mode}/{unit}")));
            let neurons = scores.iter().flat_map(|it| it.neurons.clone()).collect::<Vec<f64>>();
            close(&what, &neurons, &wanted_neurons);
            for of in [|it: &UnitScores| it.heads.clone(), |it: &UnitScores| it.groups.clone()] {
                let heads = scores.iter().flat_map(of).collect::<Vec<f64>>();
                close(&what, &heads, &wanted_heads);
            }
            let edit = method.edit(&there, share, Widths::PerBlock).expect("possible");
            for (block, wanted) in edit.blocks.iter().zip(wanted_heads.chunks(count)) {
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by(|a, b| wanted[*b].total_cmp(&wanted[*a]));
                order.truncate(count - (share * count as f64) as usize);
                order.sort_unstable();
                assert_eq!(block.heads, order, "{what}, block {}", block.block);
            }
            let edited = Edited::new(&dense, &edit).expect("possible");
            let masked = Masked::new(&dense, &edit).expect("possible");
            let padded = Padded::new(&edited).expect("possible");
            assert_eq!(
                padded.spec().block(0).attention.heads,
                count,
                "no key says how large a head is"
            );
            let all = |source: &dyn WeightSource| -> Vec<f64> {
                let logits = logits(&Cpu, source, &windows);
                logits.iter().map(|value| f64::from(*value)).collect()
            };
            let small = all(&edited);
            close(&what, &small, &all(&masked));
            close(&what, &all(&padded), &small);
        }
    }
}

#[test]
fn llm_pruner_leaves_the_published_counts() {
    // (configuration, share, first and end of what loses units, parameters before and after)
    let llama = r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32}"#;
    let llama3 = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}"#;
    for (config, before, after) in [
        (llama, 6_738_415_616, 5_422_977_024),
        (llama3, 8_030_261_248, 6_612_586_496),
    ] {
        let spec = zprune::model::families::parse_spec(config).expect("supported");
        assert_eq!(parameters(&spec), before);
        let method = LlmPruner {
            first: 4,
            end: Some(30),
            ..LlmPruner::default()
        };
        let scores: Vec<UnitScores> = (0..spec.blocks)
            .map(|index| {
                let block = spec.block(index);
                let some = |count: usize| {
                    (0..count)
                        .map(|place| (place * 7919 % 1009) as f64)
                        .collect::<Vec<f64>>()
                };
                UnitScores {
                    heads: some(block.attention.heads),
                    groups: some(block.attention.kv_heads),
                    neurons: some(block.neurons()),
                }
            })
            .collect();
        let edit = method.per_block(&spec, &scores, 0.25).expect("possible");
        assert_eq!(parameters(&edit.applied(&spec).expect("possible")), after);
        assert!(
            LlmPruner {
                first: 30,
                end: Some(30),
                ..LlmPruner::default()
            }
            .per_block(&spec, &scores, 0.25)
            .is_err()
        );
        assert!(
            LlmPruner {
                end: Some(33),
                ..LlmPruner::default()
            }
            .per_block(&spec, &scores, 0.25)
            .is_err()
        );
    }
}
