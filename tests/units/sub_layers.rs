//! 2SSP and dropping blocks: whole attention, MLP and blocks go in the order of the independent implementation.

use crate::reference::{Golden, MODELS, close, golden, ids, on_cpu, opened, parameters, some_logits};
use serde_json::Value;
use zprune::backend::cpu::Cpu;
use zprune::eval::perplexity::{PerplexityScorer, perplexity};
use zprune::model::blocks;
use zprune::model::edit::{BlockEdit, Edit, Edited};
use zprune::model::forward::Ends;
use zprune::model::source::WeightSource;
use zprune::prune::units::drop::{greedy, least, without};
use zprune::prune::units::turning::{Tokens, turning};
use zprune::prune::units::{DenseModel, UnitMethod};
use zprune::prune::units::{TwoSsp, UNITS, Widths};
use zprune::spec::SubLayer;

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
        let there = on_cpu(&dense, &ends, &windows);
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
