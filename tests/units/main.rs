//! Claims about models from which whole units were removed: the smaller model computes what the original computes with zeros in
//! their place; FLAP, LLM-Pruner, Olica, 2SSP and dropping blocks choose and compute what an independent implementation in float64 does
//! (`tests/golden/units`).

#[path = "../gpu/mod.rs"]
mod gpu;

use ndarray::{Array2, s};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::GradientNeeds;
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::eval::perplexity::{PerplexityScorer, perplexity};
use zprune::model::backward::gradients;
use zprune::model::blocks;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::edit::{BlockEdit, Edit, Edited, Factors, LowRank, Masked};
use zprune::model::families::read_spec;
use zprune::model::forward::{Ends, Hidden};
use zprune::model::padded::Padded;
use zprune::model::source::WeightSource;
use zprune::prune::units::cost::Cost;
use zprune::prune::units::dense::Dense;
use zprune::prune::units::drop::{greedy, least, without};
use zprune::prune::units::flap::{Flap, Grouping, Metric, Structure};
use zprune::prune::units::llm_pruner::{Gqa, LlmPruner, Taylor};
use zprune::prune::units::olica::{Olica, Rule, scores};
use zprune::prune::units::scores::UnitScores;
use zprune::prune::units::survey::survey;
use zprune::prune::units::turning::{Tokens, turning};
use zprune::prune::units::{DenseModel, Summed, TwoSsp, UNITS, UnitMethod, UnitSum, Wanted, Widths};
use zprune::spec::{ModelSpec, Role, SubLayer};

/// The reference's models, and where they are.
const MODELS: [(&str, &str); 2] = [("llama_gqa_tied", "gradients"), ("opt_pre", "units")];

/// Single precision may differ from the reference by this fraction of a tensor's largest entry.
const TOLERANCE: f64 = 1e-4;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn opened(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder, read_spec(folder).expect("supported")).expect("a golden checkpoint")
}

struct Golden {
    tensors: Vec<u8>,
    facts: Value,
}

impl Golden {
    fn new() -> Self {
        Golden::of("units")
    }

    fn of(name: &str) -> Self {
        let read = |ending: &str| std::fs::read(golden("units").join(format!("{name}.{ending}"))).expect("committed");
        Golden {
            tensors: read("safetensors"),
            facts: serde_json::from_slice(&read("json")).expect("JSON"),
        }
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (bytes, wide) = (tensor.data(), tensor.dtype() == safetensors::Dtype::F64);
        match wide {
            true => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect(),
            false => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .collect(),
        }
    }

    fn windows(&self, model: &str) -> TokenWindows {
        let file = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let tensor = file.tensor(&format!("{model}/ids")).expect("there");
        let ids = tensor
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes) as u32);
        TokenWindows::new(ids.collect(), tensor.shape()[1]).expect("whole windows")
    }
}

fn close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= TOLERANCE * largest,
            "{what}, entry {index}: {got} and not {want}"
        );
    }
}

/// Logits of all tokens.
fn logits<B: Backend>(backend: &B, source: &dyn WeightSource, windows: &TokenWindows) -> Array2<f32> {
    let ends = Ends::upload(backend, source).expect("room");
    let mut hidden = Hidden::embed(backend, source.spec(), &ends, windows).expect("room");
    blocks::each(backend, source, |_, block| {
        hidden.advance(backend, source.spec(), &block, |_, _| Ok(()))
    })
    .expect("computes");
    hidden.logits(backend, &ends).expect("room")
}

/// Those of every fourth token.
fn some_logits(source: &dyn WeightSource, windows: &TokenWindows) -> Vec<f64> {
    let all = logits(&Cpu, source, windows);
    all.slice(s![..;4, ..]).iter().map(|value| f64::from(*value)).collect()
}

fn ids(value: &Value) -> Vec<usize> {
    let ids = value.as_array().expect("a list").iter();
    ids.map(|id| id.as_u64().expect("a number") as usize).collect()
}

/// The edit keeps what the reference keeps; blocks that it does not name keep all.
fn keeps(what: &str, edit: &Edit, spec: &ModelSpec, facts: &Value) {
    for edit in &edit.blocks {
        let whole = BlockEdit::whole(edit.block, spec.block(edit.block));
        let want = match &facts["kept"][edit.block.to_string()] {
            Value::Null => [whole.heads, whole.kv_heads, whole.neurons],
            kept => ["q", "kv", "n"].map(|kind| ids(&kept[kind])),
        };
        let got = [&edit.heads, &edit.kv_heads, &edit.neurons];
        assert_eq!(got, want.each_ref(), "{what}, block {}", edit.block);
    }
}

fn parameters(spec: &ModelSpec) -> usize {
    spec.tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// An edit that takes a little of everything.
fn some(spec: &ModelSpec) -> Edit {
    let fused = |block: usize| {
        spec.block(block)
            .linears
            .iter()
            .any(|linear| matches!(linear.role, Role::Fused(_)))
    };
    let mut blocks = Vec::new();
    for index in (0..spec.blocks).filter(|index| *index != 1 || spec.blocks < 3) {
        let block = spec.block(index);
        let mut edit = BlockEdit::whole(index, block);
        let attention = &block.attention;
        if !fused(index) && attention.kv_heads > 1 {
            let groups: Vec<usize> = (0..attention.kv_heads).filter(|group| *group != index % 2).collect();
            edit.keep_groups(&groups, block);
        } else if !fused(index) && attention.heads > 1 {
            edit.heads.remove(index % 2);
        }
        edit.neurons = (0..block.neurons()).filter(|neuron| neuron % 3 != index % 3).collect();
        if index == 0 {
            edit.biases.insert(
                Role::Down,
                (0..spec.width).map(|output| output as f32 * 0.01 - 0.2).collect(),
            );
        }
        blocks.push(edit);
    }
    Edit { blocks }
}

/// An edit that removes the whole MLP of the first block and the whole attention of the last.
fn parts(spec: &ModelSpec) -> Edit {
    let mut edit = Edit::whole(spec);
    edit.blocks[0].remove(SubLayer::Mlp);
    edit.blocks[spec.blocks - 1].remove(SubLayer::Attention);
    edit
}

/// An edit with narrow matrices, fewer features of values and a branch, in blocks that lose other things too.
fn narrow(spec: &ModelSpec) -> Edit {
    let mut edit = some(spec);
    for edit in &mut edit.blocks {
        let block = spec.block(edit.block);
        let wave = |rows: usize, columns: usize| {
            Array2::from_shape_fn((rows, columns), |(row, column)| {
                ((row * 7 + column * 3 + edit.block) as f32).sin() * 0.1
            })
        };
        let of = |role| block.linears.iter().find(|linear| linear.role == role);
        let (up, down) = (of(Role::Up).expect("an MLP"), of(Role::Down).expect("an MLP"));
        edit.low_rank.branch = Some(Factors {
            first: wave(2, up.inputs),
            second: wave(down.outputs, 2),
        });
        let Some(query) = of(Role::Query) else { continue };
        edit.low_rank.factors.insert(
            Role::Query,
            Factors {
                first: wave(3, query.inputs),
                second: wave(query.outputs, 3),
            },
        );
        let dim = block.attention.head_dim;
        let mut basis = Array2::eye(dim);
        (basis[[0, 0]], basis[[1, 1]], basis[[0, 1]], basis[[1, 0]]) = (0.6, 0.6, 0.8, -0.8);
        edit.low_rank.basis = vec![basis; block.attention.kv_heads];
        edit.low_rank.values = (0..block.attention.kv_heads)
            .map(|head| (0..dim).filter(|feature| *feature != head % dim).collect())
            .collect();
    }
    edit
}

/// Calls `check` with a model of every kind and two short windows.
fn every_kind(mut check: impl FnMut(&str, &Checkpoint, &TokenWindows)) {
    let folder = golden("logits");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("committed") {
        let path = entry.expect("readable").path();
        if !path.join("config.json").exists() {
            continue;
        }
        let dense = opened(&path);
        let spec = dense.spec();
        let length = 12.min(spec.max_positions);
        let vocabulary = spec.vocabulary as u32;
        let tokens = (0..2 * length as u32).map(|token| token * 37 % vocabulary);
        let windows = TokenWindows::new(tokens.collect(), length).expect("two windows");
        check(&path.display().to_string(), &dense, &windows);
        seen += 1;
    }
    assert!(seen > 10, "only {seen} models");
}

#[test]
fn a_smaller_model_computes_what_zeros_in_its_place_do() {
    every_kind(|path, dense, windows| {
        let spec = dense.spec();
        for edit in [some(spec), parts(spec), narrow(spec)] {
            let edited = Edited::new(dense, &edit).unwrap_or_else(|error| panic!("{path}: {error}"));
            let masked = Masked::new(dense, &edit).expect("the same");
            let padded = Padded::new(&edited).expect("the same");
            assert!(parameters(edited.spec()) < parameters(masked.spec()), "{path}");
            assert!(parameters(padded.spec()) <= parameters(masked.spec()), "{path}");
            let counts = edit.counts(spec).expect("possible");
            let low_rank = edit.blocks.iter().any(|edit| edit.low_rank != LowRank::default());
            assert_eq!(counts.weights < edited.spec().prunable() as u64, low_rank, "{path}");
            assert_eq!(padded.spec().kinds().count(), 1, "{path}: equal blocks");
            let wide = |source: &dyn WeightSource| -> Vec<f64> {
                logits(&Cpu, source, windows)
                    .iter()
                    .map(|value| f64::from(*value))
                    .collect()
            };
            let small = wide(&edited);
            close(path, &small, &wide(&masked));
            close(path, &wide(&padded), &small);
            let whole = wide(dense);
            assert!(whole.iter().zip(&small).any(|(a, b)| (a - b).abs() > 1e-3), "{path}");
        }
    });
}

#[test]
fn gradients_pass_blocks_without_attention_or_mlp() {
    every_kind(|path, dense, windows| {
        let edit = parts(dense.spec());
        let edited = Edited::new(dense, &edit).expect("possible");
        let masked = Masked::new(dense, &edit).expect("possible");
        let of = |source: &dyn WeightSource| {
            let ends = Ends::upload(&Cpu, source).expect("room");
            let needs = GradientNeeds {
                sum: true,
                squares: false,
                magnitudes: false,
            };
            let mut found = BTreeMap::new();
            gradients(&Cpu, source, &ends, windows, needs, |index, block, layers| {
                for (id, gradient) in layers.into_layers() {
                    let sum = Cpu.download(&gradient.sum.expect("asked for"))?;
                    let sum: Vec<f64> = sum.iter().map(|value| f64::from(*value)).collect();
                    found.insert((index, block.spec().linear(id).role), sum);
                }
                Ok(())
            })
            .expect("computes");
            found
        };
        let (small, zeros) = (of(&edited), of(&masked));
        assert!(small.len() < zeros.len(), "{path}");
        for (layer, gradient) in small {
            close(&format!("{path}, {layer:?}"), &gradient, &zeros[&layer]);
        }
    });
}

#[test]
fn two_ssp_keeps_what_the_reference_keeps() {
    let golden_values = Golden::new();
    let text = std::fs::read_to_string(golden("units/two_ssp.json")).expect("committed");
    let facts: Value = serde_json::from_str(&text).expect("JSON");
    let numbers = |value: &Value| -> Vec<f64> {
        let numbers = value.as_array().expect("a list").iter();
        numbers.map(|number| number.as_f64().expect("a number")).collect()
    };
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = Dense {
            backend: &Cpu,
            source: &dense,
            ends: &ends,
            windows: Some(&windows),
        };
        let norms = there.neuron_norms().expect("computes");
        for (got, want) in norms.iter().zip(facts[model]["norms"].as_array().expect("a list")) {
            close(&format!("{model}: norms"), got, &numbers(want));
        }
        for want in facts[model]["sets"].as_array().expect("a list") {
            let [share, alpha, loss] = ["share", "alpha", "loss"].map(|key| want[key].as_f64().expect("a number"));
            let method = TwoSsp { alpha, windows: 1 };
            let what = format!("{model}, {share}, alpha {alpha}");
            let edit = method.edit(&there, share, Widths::PerBlock).expect("possible");
            let kept: Vec<Vec<usize>> = edit.blocks.iter().map(|edit| edit.neurons.clone()).collect();
            let neurons = want["neurons"].as_array().expect("a list").iter();
            assert_eq!(kept, neurons.map(ids).collect::<Vec<_>>(), "{what}");
            let removed = want["removed"].as_array().expect("a list");
            let blocks: Vec<usize> = removed
                .iter()
                .map(|it| it["block"].as_u64().expect("a number") as usize)
                .collect();
            for edit in &edit.blocks {
                assert_eq!(edit.has(SubLayer::Attention), !blocks.contains(&edit.block), "{what}");
            }
            // The perplexities that chose them, in their order.
            let mut before = edit.clone();
            blocks.iter().for_each(|block| {
                before.blocks[*block] = BlockEdit {
                    neurons: kept[*block].clone(),
                    ..BlockEdit::whole(*block, dense.spec().block(*block))
                }
            });
            for (block, want) in blocks.iter().zip(removed) {
                let measured = there.without_attention(&before, 1).expect("computes");
                let (_, found) = measured.iter().find(|(place, _)| place == block).expect("it was there");
                let want = want["perplexity"].as_f64().expect("a number");
                assert!((found - want).abs() < 1e-4 * want, "{what}: {found} and not {want}");
                before.blocks[*block].remove(SubLayer::Attention);
            }
            let found = there.perplexity(&edit).expect("computes").ln();
            assert!((found - loss).abs() < 1e-5, "{what}: loss {found} and not {loss}");
            let removed =
                1.0 - edit.applied(dense.spec()).expect("possible").prunable() as f64 / dense.spec().prunable() as f64;
            assert!((removed - share).abs() < 0.01, "{what}: {removed}");
        }
        let refused = TwoSsp {
            windows: 5,
            ..TwoSsp::default()
        }
        .edit(&there, 0.5, Widths::Uniform);
        let error = refused.expect_err("there are 4").to_string();
        assert!(error.contains("the calibration text has 4"), "{error}");
        let whole = TwoSsp::default().edit(&there, 0.0, Widths::Uniform).expect("possible");
        assert_eq!(whole, Edit::whole(dense.spec()));
    }
    for wrong in [toml::toml! { alpha = 0.0 }, toml::toml! { windows = 0 }] {
        assert!(UNITS.build("two-ssp", &wrong).is_err(), "{wrong}");
    }
}

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
        let there = Dense {
            backend: &Cpu,
            source: &dense,
            ends: &ends,
            windows: Some(&windows),
        };
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
        close(
            &format!("{model}: logits"),
            &some_logits(&edited, &windows),
            &want("logits"),
        );
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
        let without = Edited::new(&dense, &without).expect("possible");
        let name = "logits_branch_removed_at_the_end";
        close(
            &format!("{model}: {name}"),
            &some_logits(&without, &windows),
            &want(name),
        );
        let floored = Olica {
            floor: 0.05,
            ..released.clone()
        };
        let floored = floored.edit(&there, 0.2, Widths::PerBlock).expect("possible");
        let floored = Edited::new(&dense, &floored).expect("possible");
        let name = "omega_clamp_0.05/logits";
        close(
            &format!("{model}: {name}"),
            &some_logits(&floored, &windows),
            &want(name),
        );
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

        // By the sound rule, what is asked for goes.
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
fn a_gpu_chooses_what_the_cpu_does() {
    let Some(tier) = gpu::best_tier() else { return };
    let gpu = gpu::open(tier, Compute::F32);
    let dense = opened(&golden("gradients/llama_gqa_tied"));
    let windows = Golden::of("olica").windows("llama_gqa_tied");
    fn there<'a, B: Backend>(
        backend: &'a B,
        source: &'a dyn WeightSource,
        ends: &'a Ends<B>,
        windows: &'a TokenWindows,
    ) -> Dense<'a, B> {
        Dense {
            backend,
            source,
            ends,
            windows: Some(windows),
        }
    }
    let (here, away) = (
        Ends::upload(&Cpu, &dense).expect("room"),
        Ends::upload(&gpu, &dense).expect("room"),
    );
    for (name, parameters) in [
        ("two-ssp", toml::Table::new()),
        ("olica", toml::toml! { ratio = 0.1 calibrated = 1 }),
    ] {
        let method = UNITS.build(name, &parameters).expect("legal").component;
        let edit = |model: &dyn DenseModel| method.edit(model, 0.3, Widths::Uniform).expect("possible");
        let (cpu, gpu) = (
            edit(&there(&Cpu, &dense, &here, &windows)),
            edit(&there(&gpu, &dense, &away, &windows)),
        );
        for (cpu, gpu) in cpu.blocks.iter().zip(&gpu.blocks) {
            assert_eq!((&cpu.heads, &cpu.neurons), (&gpu.heads, &gpu.neurons), "{name}");
            assert_eq!(cpu.low_rank.values, gpu.low_rank.values, "{name}");
        }
        let [cpu, gpu] = [&cpu, &gpu].map(|edit| some_logits(&Edited::new(&dense, edit).expect("possible"), &windows));
        close(name, &gpu, &cpu);
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

#[test]
fn edits_that_no_model_can_have_are_refused() {
    let spec = read_spec(&golden("gradients/llama_gqa_tied")).expect("supported");
    let refused = |change: &dyn Fn(&mut Edit), says: &str| {
        let mut edit = Edit::whole(&spec);
        change(&mut edit);
        let error = edit.applied(&spec).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(&|edit| edit.blocks.clear(), "at least one");
    refused(&|edit| edit.blocks.swap(0, 1), "ascending order");
    refused(&|edit| edit.blocks[2].block = 3, "block 3 is not one of 3");
    refused(
        &|edit| {
            edit.blocks[0].neurons.clear();
            edit.blocks[0].remove(SubLayer::Attention);
        },
        "block 0: no head and no neuron is left",
    );
    refused(&|edit| edit.blocks[0].heads.clear(), "do not share out");
    refused(
        &|edit| {
            edit.blocks[0].biases.insert(Role::Down, vec![0.0; 48].into());
            edit.blocks[0].remove(SubLayer::Mlp);
        },
        "a bias of 48 values",
    );
    refused(
        &|edit| edit.blocks[1].neurons = vec![96],
        "block 1: the neurons that are left must be some of 96",
    );
    refused(
        &|edit| edit.blocks[1].heads = vec![0, 1, 2],
        "3 query heads do not share out among 4 key-value heads",
    );
    refused(&|edit| edit.blocks[1].kv_heads = vec![0, 1, 2], "do not share out");
    refused(&|edit| edit.blocks[0].heads = vec![0, 1, 4, 5], "do not share out");
    refused(
        &|edit| drop(edit.blocks[0].biases.insert(Role::Down, vec![0.0; 3].into())),
        "a bias of 3 values",
    );
    let gpt2 = golden("logits/gpt2");
    let fused = read_spec(&gpt2).expect("supported");
    let mut edit = Edit::whole(&fused);
    edit.blocks[0].keep_groups(&[0], fused.block(0));
    let error = edit.applied(&fused).expect_err("fused").to_string();
    assert!(error.contains("in one matrix"), "{error}");
}

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
        let model_there = Dense {
            backend: &Cpu,
            source: &dense,
            ends: &ends,
            windows: Some(&windows),
        };
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
                let without = Edit {
                    blocks: edit
                        .blocks
                        .iter()
                        .cloned()
                        .map(|block| BlockEdit {
                            biases: BTreeMap::new(),
                            ..block
                        })
                        .collect(),
                };
                let without = without.applied(dense.spec()).expect("possible");
                // Biases that no layer has are counted for all layers that write to the stream.
                let biased = dense.spec().block(0).linears.iter().any(|linear| linear.bias);
                let added = if biased { 0 } else { 2 * without.width * without.blocks };
                assert_eq!((parameters(&without) + added) as u64, count, "{model}, {set}");
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
    let model_there = Dense {
        backend: &Cpu,
        source: &dense,
        ends: &ends,
        windows: Some(&windows),
    };
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

#[test]
fn blocks_are_dropped_in_the_order_of_the_reference() {
    let golden_values = Golden::new();
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let spec = dense.spec();
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let facts = &golden_values.facts[model]["drop"];
        let turns = |run, tokens| turning(&Cpu, &dense, &ends, &windows, run, tokens).expect("computes");
        let drop_values = |name: &str| golden_values.values(&format!("{model}/drop/{name}"));
        let one = turns(1, Tokens::All);
        close("influence", &one.influence, &drop_values("block_influence"));
        close(
            "of last tokens",
            &turns(1, Tokens::Last).influence,
            &drop_values("block_influence_last_token"),
        );
        for run in [1, 2] {
            for (tokens, name) in [(Tokens::All, "all_tokens"), (Tokens::Last, "last_token")] {
                close(
                    name,
                    &turns(run, tokens).angle,
                    &drop_values(&format!("angular/{run}/{name}")),
                );
            }
        }
        let order = ids(&facts["order_by_influence"]);
        for count in [1, 2] {
            let dropped = least(&one.influence, count);
            let mut want = order[..count].to_vec();
            want.sort_unstable();
            assert_eq!(dropped, want, "{model}");
            let edit = without(spec, &dropped);
            let edited = Edited::new(&dense, &edit).expect("possible");
            assert_eq!(
                parameters(spec) - parameters(edited.spec()),
                count * facts["parameters_per_block"].as_u64().expect("a number") as usize
            );
            close(
                model,
                &some_logits(&edited, &windows),
                &drop_values(&format!("influence/{count}/logits")),
            );
        }
        let measure = |edit: &Edit| {
            let edited = Edited::new(&dense, edit)?;
            let mut scorer = PerplexityScorer::new(&Cpu, edited.spec(), &ends, &windows)?;
            blocks::each(&Cpu, &edited, |_, block| scorer.advance(&Cpu, edited.spec(), &block))?;
            perplexity(&scorer.finish(&Cpu, &ends, |_| {})?)
        };
        let removed = greedy(spec, 2, measure).expect("computes");
        for ((block, found), want) in removed.iter().zip(facts["greedy_by_ppl"].as_array().expect("steps")) {
            assert_eq!(*block as u64, want["removed"].as_u64().expect("a number"), "{model}");
            let want = want["ppl"].as_f64().expect("a number");
            assert!((found - want).abs() < 1e-4 * want, "{model}: {found} and not {want}");
        }
        assert!(greedy(spec, 3, measure).is_err(), "nothing would be left");
        assert!(
            turning(&Cpu, &dense, &ends, &windows, 4, Tokens::All).is_err(),
            "longer than the model"
        );
    }
}

#[test]
fn every_method_removes_what_it_is_asked_to_in_equal_widths() {
    let golden_values = Golden::new();
    let mut kept = BTreeMap::new();
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = Dense {
            backend: &Cpu,
            source: &dense,
            ends: &ends,
            windows: Some(&windows),
        };
        let blind = Dense { windows: None, ..there };
        let spec = dense.spec();
        for (name, parameters) in [
            ("flap", toml::Table::new()),
            ("flap", toml::toml! { metric = "wifn" bias = false }),
            ("llm-pruner", toml::Table::new()),
            ("llm-pruner", toml::toml! { taylor = "vectorize" }),
            ("unit-sum", toml::Table::new()),
            ("unit-sum", toml::toml! { score = "magnitude" }),
            ("block-drop", toml::Table::new()),
            ("block-drop", toml::toml! { by = "angle" tokens = "last" }),
            ("block-drop", toml::toml! { by = "perplexity" }),
        ] {
            let method = UNITS.build(name, &parameters).expect("legal").component;
            let what = format!("{model}, {name} {parameters}");
            assert_eq!(blind_edit(&*method, &blind).is_err(), method.calibrates(), "{what}");
            let whole = method.edit(&there, 0.0, Widths::Uniform).expect("possible");
            assert_eq!(whole.applied(spec).expect("possible"), *spec, "{what}");
            for share in [0.2, 0.34, 0.5] {
                let edit = method.edit(&there, share, Widths::Uniform).expect("possible");
                let left = edit.applied(spec).expect("possible");
                let unit = if name == "block-drop" { 0.17 } else { 0.01 };
                let removed = 1.0 - left.prunable() as f64 / spec.prunable() as f64;
                assert!((removed - share).abs() < unit, "{what}: {removed} and not {share}");
                assert_eq!(left.kinds().count(), 1, "{what}: blocks of equal size");
                kept.insert(format!("{what} {share}"), format!("{edit:?}"));
            }
            assert!(
                method.edit(&there, 0.99, Widths::Uniform).is_err(),
                "{what}: hardly anything left"
            );
        }
    }
    let different: std::collections::BTreeSet<&String> = kept.values().collect();
    assert!(
        different.len() > kept.len() * 2 / 3,
        "methods differ: {} of {}",
        different.len(),
        kept.len()
    );
    for (name, parameters) in [
        ("flap", toml::toml! { structure = "al-am" }),
        ("flap", toml::toml! { remove_heads = 3 }),
        ("llm-pruner", toml::toml! { first = 1 }),
        ("llm-pruner", toml::toml! { gqa = "equal-q" }),
    ] {
        let refused = UNITS
            .build(name, &parameters)
            .and_then(|built| built.component.check(Widths::Uniform));
        assert!(refused.is_err(), "{name} {parameters}");
    }
    let sums = UNITS.build("unit-sum", &toml::Table::new()).expect("legal").component;
    assert!(sums.check(Widths::PerBlock).is_err(), "sums of blocks are not compared");
}

fn blind_edit(method: &dyn UnitMethod, model: &dyn DenseModel) -> zprune::error::Result<Edit> {
    method.edit(model, 0.3, Widths::Uniform)
}

#[test]
fn sums_are_those_of_the_weights_of_a_unit() {
    // The first head has weights of 0 only: it is removed first, whatever its inputs are.
    let dense = opened(&golden("gradients/llama_gqa_tied"));
    let spec = dense.spec();
    let mut edit = Edit::whole(spec);
    for (index, edit) in edit.blocks.iter_mut().enumerate() {
        edit.keep_groups(
            &(0..4).filter(|group| *group != index).collect::<Vec<_>>(),
            spec.block(index),
        );
        edit.neurons = (0..96).filter(|neuron| *neuron != 5 * index + 7).collect();
    }
    let masked = Masked::new(&dense, &edit).expect("possible");
    let ends = Ends::upload(&Cpu, &masked).expect("room");
    let windows = Golden::new().windows("llama_gqa_tied");
    let there = Dense {
        backend: &Cpu,
        source: &masked,
        ends: &ends,
        windows: Some(&windows),
    };
    for score in [Summed::Wanda, Summed::Magnitude] {
        let found = UnitSum { score }.edit(&there, 0.25, Widths::Uniform).expect("possible");
        for (index, found) in found.blocks.iter().enumerate() {
            assert!(!found.kv_heads.contains(&index), "{score:?}: {:?}", found.kv_heads);
            assert!(!found.neurons.contains(&(5 * index + 7)), "{score:?}");
        }
    }
}

#[test]
fn llm_pruner_scores_and_keeps_what_the_reference_does() {
    let golden_values = Golden::new();
    let mut sets = 0;
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = Dense {
            backend: &Cpu,
            source: &dense,
            ends: &ends,
            windows: Some(&windows),
        };
        let grouped = dense.spec().block(0).attention.heads > dense.spec().block(0).attention.kv_heads;
        for (taylor, mode) in [
            (Taylor::Vectorize, "vectorize"),
            (Taylor::ParamFirst, "param_first"),
            (Taylor::ParamSecond, "param_second"),
            (Taylor::ParamMix, "param_mix"),
        ] {
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
