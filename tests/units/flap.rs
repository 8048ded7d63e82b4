//! FLAP surveys, keeps and computes what the independent implementation does.

use crate::gpu;
use crate::reference::{Golden, MODELS, close, golden, keeps, on_cpu, opened, some_logits};
use zprune::backend::cpu::Cpu;
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::model::edit::{Edit, Edited};
use zprune::model::forward::Ends;
use zprune::prune::units::UnitMethod;
use zprune::prune::units::Widths;
use zprune::prune::units::cost::Cost;
use zprune::prune::units::flap::{Flap, Grouping, Metric, Structure};
use zprune::prune::units::survey::survey;
use zprune::spec::Role;

fn flap_surveys<B: Backend>(backend: &B, place: &str) {
    let golden_values = Golden::new();
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(backend, &dense).expect("room");
        let features = survey(backend, &dense, &ends, &windows).expect("computes");
        for (index, features) in features.iter().enumerate() {
            let block = dense.spec().block(index);
            for (role, features) in [(Role::Output, &features.heads), (Role::Down, &features.neurons)] {
                let linear = block.linears.iter().find(|linear| linear.role == role).expect("there");
                let name = format!("{}{}", block.prefix_of(index), linear.tensor);
                let what = format!("{place}, {model}, {name}");
                let want = |part: &str| golden_values.values(&format!("{model}/flap/{part}/{name}"));
                close(&format!("{what}: mean"), &features.mean, &want("mean"));
                close(&format!("{what}: fluctuation"), &features.fluctuation, &want("fluc"));
                let weight = dense.linear(index, linear).expect("there").weight;
                for (metric, part) in [(Metric::Wifv, "wifv"), (Metric::Wifn, "wifn"), (Metric::Ifv, "fluc")] {
                    let flap = Flap {
                        metric,
                        ..Flap::default()
                    };
                    close(
                        &format!("{what}: {part}"),
                        &flap.metric(weight.view(), features),
                        &want(part),
                    );
                }
            }
        }
    }
}

#[test]
fn fluctuations_are_those_of_the_reference() {
    flap_surveys(&Cpu, "CPU");
    if let Some(tier) = gpu::best_tier() {
        flap_surveys(&gpu::open(tier, Compute::F32), "GPU");
    }
}

#[test]
fn flap_keeps_what_the_reference_keeps_and_computes_the_same() {
    let golden_values = Golden::new();
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let model_there = on_cpu(&dense, &ends, &windows);
        let facts = &golden_values.facts[model]["flap"];
        let cost = Cost::of(dense.spec().block(0));
        assert_eq!(
            [cost.group, cost.neuron],
            ["cost_group", "cost_neuron"].map(|key| facts[key].as_u64().expect("a number") as usize)
        );
        for (set, want) in facts["sets"].as_object().expect("sets") {
            let parts: Vec<&str> = set.split('/').collect();
            let share: f64 = parts[1].parse().expect("a share");
            let flap = Flap {
                structure: Some(match parts[0] {
                    "alam" => Structure::AlAm,
                    _ => Structure::UlUm,
                }),
                group: match parts.get(2) {
                    Some(&"sum") => Grouping::Sum,
                    _ => Grouping::Mean,
                },
                ..Flap::default()
            };
            let edit = flap.edit(&model_there, share, Widths::PerBlock).expect("possible");
            keeps(&format!("{model}, {set}"), &edit, dense.spec(), want);
            let edited = Edited::new(&dense, &edit).expect("possible");
            if let Some(count) = want["parameters"].as_u64() {
                let counts = edit.counts(dense.spec()).expect("possible");
                assert_eq!(counts.parameters, count, "{model}, {set}");
            }
            if parts.get(2) != Some(&"mean") {
                continue;
            }
            for edit in &edit.blocks {
                let block = dense.spec().block(edit.block);
                for (role, bias) in &edit.biases {
                    let linear = block.linears.iter().find(|linear| linear.role == *role).expect("there");
                    let name = format!(
                        "{model}/flap/{set}/bias/{}{}",
                        block.prefix_of(edit.block),
                        linear.tensor
                    );
                    let bias: Vec<f64> = bias.iter().map(|value| f64::from(*value)).collect();
                    close(&name, &bias, &golden_values.values(&name));
                }
            }
            let name = format!("{model}/flap/{set}/logits");
            close(&name, &some_logits(&edited, &windows), &golden_values.values(&name));
            let plain = Flap { bias: false, ..flap }
                .edit(&model_there, share, Widths::PerBlock)
                .expect("possible");
            let plain = Edited::new(&dense, &plain).expect("possible");
            let name = format!("{model}/flap/{set}/logits_without_bias");
            close(&name, &some_logits(&plain, &windows), &golden_values.values(&name));
        }
    }
}

#[test]
fn other_ways_of_flap_remove_what_they_are_asked_to() {
    let golden_values = Golden::new();
    let dense = opened(&golden("gradients/llama_gqa_tied"));
    let ends = Ends::upload(&Cpu, &dense).expect("room");
    let windows = golden_values.windows("llama_gqa_tied");
    let model_there = on_cpu(&dense, &ends, &windows);
    let cost = Cost::of(dense.spec().block(0));
    let all = 3 * (4 * cost.group + 96 * cost.neuron);
    for (structure, remove_heads, share) in [
        (Structure::UlMm, 6, 0.3),
        (Structure::AlMm, 6, 0.3),
        (Structure::AlMm, 0, 0.2),
        (Structure::AlAm, 0, 0.0),
        (Structure::AlAm, 0, 0.9),
    ] {
        let flap = Flap {
            structure: Some(structure),
            remove_heads,
            bias: false,
            ..Flap::default()
        };
        flap.validate().expect("legal");
        let edit = flap.edit(&model_there, share, Widths::PerBlock).expect("possible");
        let spec = edit.applied(dense.spec()).expect("possible");
        let removed = (dense.spec().prunable() - spec.prunable()) as f64 / all as f64;
        // A head costs as much as 24 neurons, and three blocks are rounded.
        assert!(
            (removed - share).abs() < 0.1,
            "{structure:?}: {removed} and not {share}"
        );
        if remove_heads > 0 {
            let heads: usize = edit.blocks.iter().map(|edit| edit.heads.len()).sum();
            assert_eq!(heads, 24 - remove_heads, "{structure:?}");
            assert!(
                (removed - share).abs() < 0.005,
                "{structure:?}: {removed} and not {share}"
            );
        }
        assert_eq!(share == 0.0, edit == Edit::whole(dense.spec()));
    }
    let wrong = Flap {
        remove_heads: 2,
        ..Flap::default()
    };
    assert!(wrong.validate().is_err(), "only by hand");
    let one = TokenWindows::new((0..32).collect(), 32).expect("a window");
    let error = survey(&Cpu, &dense, &ends, &one).expect_err("one window").to_string();
    assert!(error.contains("at least two"), "{error}");
}
