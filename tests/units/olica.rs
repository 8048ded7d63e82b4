//! Olica keeps and computes what the independent implementation does.

use crate::reference::{Golden, MODELS, close, golden, ids, on_cpu, opened, parameters, some_logits};
use ndarray::Array2;
use serde_json::Value;
use std::collections::BTreeMap;
use zprune::backend::cpu::Cpu;
use zprune::model::edit::{Edit, Edited};
use zprune::model::forward::Ends;
use zprune::model::source::WeightSource;
use zprune::prune::units::olica::{Olica, Rule, scores};
use zprune::prune::units::{DenseModel, UnitMethod};
use zprune::prune::units::{UNITS, Wanted, Widths};
use zprune::spec::Role;

#[test]
fn olica_keeps_and_computes_what_the_reference_does() {
    let golden_values = Golden::of("olica");
    let released = Olica {
        rule: Rule::Released,
        ratio: 0.1,
        calibrated: 1,
        guard: 0.01,
        floor: 0.0,
        ..Olica::default()
    };
    for (model, folder) in [("llama_mha", "units"), MODELS[0], MODELS[1]] {
        let dense = opened(&golden(folder).join(model));
        let spec = dense.spec();
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = on_cpu(&dense, &ends, &windows);
        let facts = &golden_values.facts[model];
        let want = |name: &str| golden_values.values(&format!("{model}/olica/{name}"));
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let whole = |matrix: &Array2<f32>| -> Vec<f64> { matrix.iter().map(|value| f64::from(*value)).collect() };

        let budget = released.budget(spec, 0.2, Widths::PerBlock).expect("possible");
        let counts = ["vo_removed_per_head", "neurons_removed", "guard_kept"].map(|key| number(&facts["budget"][key]));
        assert_eq!([budget.values, budget.neurons, budget.guarded], counts, "{model}");

        // The first pass changes nothing, and finds the MLP that is calibrated.
        let (turned, correlations) = released.first_pass(&there).expect("computes");
        close("correlations", &correlations, &want("mlp_pearson_mean"));
        assert_eq!(
            released.calibrated(&correlations),
            ids(&facts["calibrated_blocks"]),
            "{model}"
        );
        let edited = Edited::new(&dense, &turned).expect("possible");
        let (before, after) = (some_logits(&dense, &windows), some_logits(&edited, &windows));
        close(&format!("{model}: turned values"), &after, &before);
        if model == "llama_gqa_tied" {
            for index in 0..spec.blocks {
                for linear in edited.spec().block(index).linears.iter() {
                    if matches!(linear.role, Role::Value | Role::Output) {
                        let weights = edited.linear(index, linear).expect("there");
                        close(
                            &weights.name,
                            &whole(&weights.weight),
                            &want(&format!("rotated/{}", weights.name)),
                        );
                    }
                }
            }
        }
        let mut first = BTreeMap::new();
        there
            .in_turn(&turned, &mut |block| {
                if block.index() == 0 {
                    first = block.observe(Wanted::default())?.squares;
                }
                Ok(turned.blocks[block.index()].clone())
            })
            .expect("computes");
        let norms = |role: Role| -> Vec<f64> { first[&role.place()].iter().map(|square| square.sqrt()).collect() };
        let [values, neurons] = scores(&edited, 0, spec.block(0), norms).expect("there");
        close(&format!("{model}: values"), &values, &want("score_vo/0"));
        close(&format!("{model}: neurons"), &neurons, &want("score_neuron/0"));

        let computes = |edit: &Edit, name: &str| {
            let edited = Edited::new(&dense, edit).expect("possible");
            close(
                &format!("{model}: {name}"),
                &some_logits(&edited, &windows),
                &want(name),
            );
        };
        let edit = released.edit(&there, 0.2, Widths::PerBlock).expect("possible");
        let edited = Edited::new(&dense, &edit).expect("possible");
        for edit in &edit.blocks {
            let facts = &facts["blocks"][edit.block.to_string()];
            assert_eq!(
                edit.neurons,
                ids(&facts["neurons_kept"]),
                "{model}, block {}",
                edit.block
            );
            let kept: Vec<Vec<usize>> = facts["vo_kept"].as_array().expect("heads").iter().map(ids).collect();
            assert_eq!(edit.low_rank.values, kept, "{model}, block {}", edit.block);
            for (role, key) in [(Role::Query, "q_proj"), (Role::Key, "k_proj")] {
                let factors = &edit.low_rank.factors[&role];
                assert_eq!(
                    factors.first.nrows(),
                    number(&facts[format!("{key}_rank")]),
                    "{model}, {key}"
                );
                if model == "llama_gqa_tied" {
                    let name = format!("model.layers.{}.self_attn.{key}.weight", edit.block);
                    close(&name, &whole(&factors.product()), &want(&format!("expanded/{name}")));
                }
            }
            match &edit.low_rank.branch {
                Some(branch) => {
                    assert_eq!(branch.first.nrows(), number(&facts["branch_rank"]), "{model}");
                    let name = format!("calib/{}/branch", edit.block);
                    close(&format!("{model}: {name}"), &whole(&branch.product()), &want(&name));
                }
                None => assert!(facts.get("branch_rank").is_none(), "{model}, block {}", edit.block),
            }
        }
        computes(&edit, "logits");
        let loss = there.perplexity(&edit).expect("computes").ln();
        assert!(
            (loss - facts["loss"].as_f64().expect("a number")).abs() < 1e-5,
            "{model}: {loss}"
        );
        let counted = edit.counts(spec).expect("possible");
        assert_eq!(
            counted.parameters,
            facts["parameters"].as_u64().expect("a number"),
            "{model}"
        );
        // The branch is more than what it is made of when it is written as neurons.
        assert!(parameters(edited.spec()) as u64 > counted.parameters, "{model}");

        let mut without = edit.clone();
        without.blocks.iter_mut().for_each(|edit| edit.low_rank.branch = None);
        computes(&without, "logits_branch_removed_at_the_end");
        let floored = Olica {
            floor: 0.05,
            ..released.clone()
        };
        let floored = floored.edit(&there, 0.2, Widths::PerBlock).expect("possible");
        computes(&floored, "omega_clamp_0.05/logits");
        let unguarded = Olica {
            guard: 0.0,
            ..released.clone()
        };
        let unguarded = unguarded.edit(&there, 0.2, Widths::PerBlock).expect("possible");
        assert_eq!(
            unguarded.blocks[0].neurons,
            ids(&facts["blocks"]["0"]["neurons_kept_without_guard"]),
            "{model}"
        );

        // The sound rule removes what is asked for.
        for (share, calibrated) in [(0.1, 0), (0.2, 1), (0.3, 2), (0.45, 1)] {
            let sound = Olica {
                calibrated,
                ratio: 0.05,
                ..Olica::default()
            };
            let edit = sound.edit(&there, share, Widths::PerBlock).expect("possible");
            let left = edit.counts(spec).expect("possible").weights;
            let removed = 1.0 - left as f64 / spec.prunable() as f64;
            assert!((removed - share).abs() < 0.01, "{model}, {share}: {removed}");
            let branches = edit.blocks.iter().filter(|edit| edit.low_rank.branch.is_some()).count();
            assert_eq!(branches, calibrated, "{model}, {share}");
        }
        assert_eq!(
            Olica::default().edit(&there, 0.0, Widths::Uniform).expect("possible"),
            Edit::whole(spec)
        );
        let error = Olica::default()
            .budget(spec, 0.8, Widths::Uniform)
            .expect_err("too much")
            .to_string();
        assert!(error.contains("`units` = 0.8"), "{error}");
    }
    let fused = opened(&golden("logits/gpt2"));
    let error = Olica::default()
        .budget(fused.spec(), 0.2, Widths::Uniform)
        .expect_err("fused")
        .to_string();
    assert!(error.contains("of their own"), "{error}");
    for wrong in [
        toml::toml! { k = 0.0 },
        toml::toml! { rule = "fair" },
        toml::toml! { guard = 0.6 },
    ] {
        assert!(UNITS.build("olica", &wrong).is_err(), "{wrong}");
    }
}

#[test]
fn olica_leaves_the_published_counts() {
    let llama = r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32}"#;
    let spec = zprune::model::families::parse_spec(llama).expect("supported");
    let released = Olica {
        rule: Rule::Released,
        ..Olica::default()
    };
    let budget = released.budget(&spec, 0.2, Widths::PerBlock).expect("possible");
    assert_eq!((budget.values, budget.neurons), (12, 2062));
    assert_eq!(budget.ranks, BTreeMap::from([(Role::Query, 1229), (Role::Key, 1229)]));
    // Where nothing is to go, the released code halves the ranks all the same, which saves nothing.
    let none = released.budget(&spec, 0.0, Widths::PerBlock).expect("possible");
    assert_eq!(none.ranks[&Role::Query], 2048);
    let sound = Olica::default().budget(&spec, 0.0, Widths::PerBlock).expect("possible");
    assert!(sound.ranks.is_empty());
}
