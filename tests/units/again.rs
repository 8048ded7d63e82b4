//! Claim: a model that lost units already loses more, or the method says before it computes why it cannot take such a model, and which
//! ones can.

use crate::reference::{Golden, close, golden, logits, opened};
use zprune::backend::cpu::Cpu;
use zprune::model::edit::{Edit, Edited, Masked};
use zprune::model::forward::Ends;
use zprune::model::padded::Padded;
use zprune::model::source::WeightSource;
use zprune::prune::units::dense::Dense;
use zprune::prune::units::{UNITS, Widths};
use zprune::spec::SubLayer;

#[test]
fn blocks_without_attention_lose_neurons_or_are_refused_first() {
    let dense = opened(&golden("gradients/llama_gqa_tied"));
    let windows = Golden::new().windows("llama_gqa_tied");
    let mut before = Edit::whole(dense.spec());
    before.blocks[1].remove(SubLayer::Attention);
    let smaller = Edited::new(&dense, &before).expect("possible");
    let ends = Ends::upload(&Cpu, &smaller).expect("room");
    let there = Dense {
        backend: &Cpu,
        source: &smaller,
        ends: &ends,
        windows: Some(&windows),
    };
    let spec = smaller.spec();
    let others = "`llm-pruner` with --widths per-block, and `block-drop`, can make";
    for (name, parameters, widths, refused) in [
        ("llm-pruner", "", Widths::PerBlock, ""),
        ("llm-pruner", "gqa = \"equal-q\"", Widths::PerBlock, ""),
        ("llm-pruner", "", Widths::Uniform, "different sizes already"),
        ("block-drop", "by = \"perplexity\"", Widths::Uniform, ""),
        ("flap", "", Widths::PerBlock, "block 1 has no attention"),
        ("flap", "", Widths::Uniform, "block 1 has no attention"),
        ("unit-sum", "", Widths::Uniform, "block 1 has no attention"),
        (
            "unit-sum",
            "score = \"magnitude\"",
            Widths::Uniform,
            "block 1 has no attention",
        ),
        ("olica", "", Widths::PerBlock, "block 1 has no attention"),
        ("two-ssp", "", Widths::PerBlock, "block 1 has no attention"),
    ] {
        let what = format!("{name} {parameters} {widths:?}");
        let built = UNITS.build(name, &parameters.parse().expect("TOML")).expect("legal");
        let method = built.component;
        let (checked, edit) = (method.check_model(spec, 0.5, widths), method.edit(&there, 0.5, widths));
        if !refused.is_empty() {
            for error in [checked.expect_err(&what), edit.expect_err(&what)] {
                let error = error.to_string();
                assert!(error.contains(refused) && error.contains(others), "{what}: {error}");
            }
            continue;
        }
        checked.unwrap_or_else(|error| panic!("{what}: {error}"));
        let edit = edit.unwrap_or_else(|error| panic!("{what}: {error}"));
        let small = Edited::new(&smaller, &edit).expect("possible");
        assert!(small.spec().prunable() < spec.prunable(), "{what}");
        let masked = Masked::new(&smaller, &edit).expect("possible");
        let of = |source: &dyn WeightSource| -> Vec<f64> {
            let logits = logits(&Cpu, source, &windows);
            logits.iter().map(|value| f64::from(*value)).collect()
        };
        close(&what, &of(&small), &of(&masked));
        let padded = Padded::new(&small)
            .map(drop)
            .expect_err("no zeros for a block without attention");
        assert!(padded.to_string().contains("leave out --pad"), "{padded}");
    }
    let error = Padded::check(spec).expect_err("known without an edit").to_string();
    assert!(error.contains("leave out --pad"), "{error}");
    Padded::check(dense.spec()).expect("all blocks are whole");
}

#[test]
fn blocks_of_different_sizes_are_taken_by_methods_that_can() {
    let dense = opened(&golden("gradients/llama_gqa_tied"));
    let mut before = Edit::whole(dense.spec());
    before.blocks[1].neurons.truncate(40);
    let smaller = Edited::new(&dense, &before).expect("possible");
    for (name, widths, possible) in [
        ("flap", Widths::PerBlock, true),
        ("llm-pruner", Widths::PerBlock, true),
        ("block-drop", Widths::Uniform, true),
        ("flap", Widths::Uniform, false),
        ("llm-pruner", Widths::Uniform, false),
        ("unit-sum", Widths::Uniform, false),
        ("olica", Widths::PerBlock, false),
        ("two-ssp", Widths::PerBlock, false),
    ] {
        let method = UNITS.build(name, &toml::Table::new()).expect("legal").component;
        let checked = method.check_model(smaller.spec(), 0.5, widths);
        match possible {
            true => checked.unwrap_or_else(|error| panic!("{name} {widths:?}: {error}")),
            false => {
                let error = checked.expect_err(name).to_string();
                assert!(
                    error.contains("`flap` and `llm-pruner` with --widths per-block"),
                    "{name}: {error}"
                );
            }
        }
    }
    let mut one = dense.spec().clone();
    one.blocks = 1;
    let method = UNITS.build("block-drop", &toml::Table::new()).expect("legal").component;
    let error = method
        .check_model(&one, 0.5, Widths::Uniform)
        .expect_err("one block")
        .to_string();
    assert!(error.contains("only one block"), "{error}");
}
