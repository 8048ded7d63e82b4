//! Claims about models from which whole units were removed: the smaller model computes what the original computes with zeros in
//! their place; FLAP, LLM-Pruner, Olica, 2SSP and dropping blocks choose and compute what an independent implementation in float64 does
//! (`tests/golden/units`).

#[path = "../gpu/mod.rs"]
mod gpu;

mod again;
mod flap;
mod llm_pruner;
mod olica;
mod reference;
mod sub_layers;

use ndarray::Array2;
use reference::{Golden, MODELS, close, golden, logits, on_cpu, opened, parameters, some_logits};
use std::collections::BTreeMap;
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::GradientNeeds;
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::model::backward::gradients;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::edit::{BlockEdit, Edit, Edited, Factors, LowRank, Masked};
use zprune::model::export::emitted;
use zprune::model::families::{is_stock, parse_spec, read_spec};
use zprune::model::forward::Ends;
use zprune::model::padded::Padded;
use zprune::model::random::RandomWeights;
use zprune::model::source::WeightSource;
use zprune::prune::units::dense::Dense;
use zprune::prune::units::scores::UnitScores;
use zprune::prune::units::uniform::uniform;
use zprune::prune::units::{DenseModel, Summed, UNITS, UnitMethod, UnitSum, Widths};
use zprune::spec::{ModelSpec, Role, SubLayer};
use zprune::tensor::StorageType;

/// An edit that takes a little of everything.
fn some(spec: &ModelSpec) -> Edit {
    let mut blocks = Vec::new();
    for index in (0..spec.blocks).filter(|index| *index != 1 || spec.blocks < 3) {
        let block = spec.block(index);
        let mut edit = BlockEdit::whole(index, block);
        let attention = &block.attention;
        if attention.kv_heads > 1 {
            let groups: Vec<usize> = (0..attention.kv_heads).filter(|group| *group != index % 2).collect();
            edit.keep_groups(&groups, block);
        } else if attention.heads > 1 {
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
            let dropped = edit.blocks.len() < spec.blocks;
            assert_eq!(masked.leaves_out(), dropped && !spec.block(0).norm_first, "{path}");
            assert_eq!(masked.spec().blocks == spec.blocks, !masked.leaves_out(), "{path}");
            assert!(
                is_stock(padded.spec()).expect("known") || spec.family == "llama",
                "{path}"
            );
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
    let left = edit.applied(&fused).expect("rows of three parts");
    assert_eq!(left.block(0).linears[0].outputs * 4, fused.block(0).linears[0].outputs);
    let text = std::fs::read_to_string(gpt2.join("config.json")).expect("there");
    let error = emitted(&text, &left, &[0, 1]).expect_err("no key").to_string();
    assert!(error.contains("(--pad)"), "{error}");
}

#[test]
fn every_method_removes_what_it_is_asked_to_in_equal_widths() {
    let golden_values = Golden::new();
    let mut kept = BTreeMap::new();
    for (model, folder) in MODELS {
        let dense = opened(&golden(folder).join(model));
        let windows = golden_values.windows(model);
        let ends = Ends::upload(&Cpu, &dense).expect("room");
        let there = on_cpu(&dense, &ends, &windows);
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

/// Claim: with equal widths and with zeros, no model has a number of heads that loaders of its family refuse, and its configuration says
/// the number that it has.
#[test]
fn heads_are_as_many_as_loaders_take() {
    let sizes = r#""num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16,
        "intermediate_size": 48, "vocab_size": 96"#;
    let opt = r#"{"model_type": "opt", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8, "ffn_dim": 48,
        "word_embed_proj_dim": 64, "vocab_size": 96, "max_position_embeddings": 32}"#;
    let of = |family: &str| format!("{{\"model_type\": \"{family}\", {sizes}}}");
    // The heads with equal widths, where a third of eight is to go, and those with zeros, where six are left.
    for (text, narrow, wide) in [
        (of("gemma2"), 4, 8),
        (of("gemma3_text"), 4, 8),
        (of("llama"), 6, 6),
        (of("mistral"), 6, 6),
        (of("qwen3"), 6, 6),
        (opt.to_string(), 8, 8),
    ] {
        let spec = parse_spec(&text).expect("supported");
        let model = RandomWeights::new(spec.clone(), 0, StorageType::F32);
        let config =
            |spec: &ModelSpec| parse_spec(&emitted(&text, spec, &[0, 1]).expect("sayable")).expect("supported");
        let scores = (0..spec.blocks).map(|index| {
            let block = spec.block(index);
            let some = |count: usize| (0..count).map(|place| (place * 7 % 5) as f64).collect::<Vec<f64>>();
            UnitScores {
                heads: some(block.attention.heads),
                groups: some(block.attention.kv_heads),
                neurons: some(block.neurons()),
            }
        });
        let edit = uniform(&spec, &scores.collect::<Vec<_>>(), 0.34).expect("possible");
        let left = edit.applied(&spec).expect("possible");
        assert_eq!(left.block(0).attention.heads, narrow, "{text}");
        assert!(is_stock(&config(&left)).expect("known"), "{text}");
        let mut edit = Edit::whole(&spec);
        for edit in &mut edit.blocks {
            let block = spec.block(edit.block);
            let groups = block.attention.kv_heads * 3 / 4;
            edit.keep_groups(&(0..groups).collect::<Vec<_>>(), block);
        }
        let edited = Edited::new(&model, &edit).expect("possible");
        let padded = Padded::new(&edited).expect("possible");
        assert_eq!(padded.spec().block(0).attention.heads, wide, "{text}");
        assert!(is_stock(&config(padded.spec())).expect("known"), "{text}");
        let windows = TokenWindows::new((0..16).collect(), 8).expect("whole windows");
        let wide = |source: &dyn WeightSource| -> Vec<f64> {
            logits(&Cpu, source, &windows)
                .iter()
                .map(|value| f64::from(*value))
                .collect()
        };
        close(&text, &wide(&padded), &wide(&edited));
    }
    let six = of("gemma2")
        .replace("heads\": 8", "heads\": 6")
        .replace("heads\": 4", "heads\": 3");
    let six = parse_spec(&six).expect("supported");
    assert!(!is_stock(&six).expect("known"), "transformers refuses it");
}

/// Claim: what a configuration decides is known before anything is computed, with what helps.
#[test]
fn what_a_configuration_decides_is_said_first() {
    let spec = |family: &str| {
        parse_spec(&format!("{{\"model_type\": \"{family}\", \"num_hidden_layers\": 4}}")).expect("supported")
    };
    let per_block = Widths::PerBlock;
    for (name, parameters, family, share, widths, says) in [
        ("flap", "", "qwen2", 0.3, Widths::Uniform, "--set bias=false"),
        ("flap", "bias = false", "qwen2", 0.3, Widths::Uniform, ""),
        ("flap", "", "llama", 0.3, Widths::Uniform, ""),
        ("olica", "", "mistral", 0.2, Widths::Uniform, "--set calibrated=0"),
        ("olica", "calibrated = 0", "mistral", 0.2, Widths::Uniform, ""),
        (
            "olica",
            "calibrated = 4",
            "llama",
            0.2,
            Widths::Uniform,
            "parameter `calibrated` = 4: the model has 4 blocks, and the MLP of the last one gets no branch; give at most 3",
        ),
        ("olica", "calibrated = 3", "llama", 0.2, Widths::Uniform, ""),
        // The default is as many as there can be.
        ("olica", "", "llama", 0.2, Widths::Uniform, ""),
        (
            "olica",
            "",
            "gpt2",
            0.2,
            Widths::Uniform,
            "queries, keys and values of their own",
        ),
        (
            "two-ssp",
            "",
            "llama",
            0.95,
            Widths::Uniform,
            "all 4 blocks would lose their attention",
        ),
        ("two-ssp", "", "llama", 0.5, Widths::Uniform, ""),
        ("two-ssp", "", "opt", 0.5, Widths::Uniform, "(--pad)"),
        ("two-ssp", "alpha = 0.1", "opt", 0.5, Widths::Uniform, ""),
        ("llm-pruner", "", "opt", 0.5, per_block, "(--pad)"),
        ("llm-pruner", "", "gpt2", 0.5, per_block, "(--pad)"),
        ("llm-pruner", "", "gpt_neox", 0.5, per_block, "(--pad)"),
        (
            "llm-pruner",
            "end = 5",
            "llama",
            0.5,
            per_block,
            "`end` at most the number of blocks",
        ),
        ("llm-pruner", "", "opt", 0.5, Widths::Uniform, ""),
        ("block-drop", "", "llama", 0.9, Widths::Uniform, "give less than 0.88"),
        ("block-drop", "", "llama", 0.1, Widths::Uniform, "give at least 0.125"),
        ("block-drop", "", "llama", 0.125, Widths::Uniform, ""),
    ] {
        let table = parameters.parse().expect("TOML");
        let method = UNITS.build(name, &table).expect("legal").component;
        let spec = spec(family);
        let checked = method.check_model(&spec, share, widths);
        let checked = checked.and_then(|()| method.check_writing(&spec, share, widths, false));
        let what = format!("{name} {parameters} on {family}, {share}");
        match says {
            "" => checked.unwrap_or_else(|error| panic!("{what}: {error}")),
            says => {
                let error = checked.expect_err(&what).to_string();
                assert!(error.contains(says), "{what}: {error}");
            }
        }
    }
    let two_ssp = UNITS.build("two-ssp", &toml::Table::new()).expect("legal").component;
    for (family, share) in [("llama", 0.95), ("opt", 0.5)] {
        two_ssp
            .check_writing(&spec(family), share, Widths::Uniform, true)
            .expect("zeros can be written");
    }
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
