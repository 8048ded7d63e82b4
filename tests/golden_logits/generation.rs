//! Claim: greedy generation writes the tokens that transformers' `generate` writes, for every family and option, alone and in batches.
//!
//! `tests/golden/generation/tokens.json` was made by `tools/make_golden_generation.py` from the checkpoints of `tests/golden/logits`.

use crate::gpu;
use serde_json::Value;
use std::path::{Path, PathBuf};
use zprune::backend::cpu::Cpu;
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::eval::generate::Greedy;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends, Hidden};

/// What follows each prompt of a model in a directory.
pub fn written<B: Backend>(backend: &B, case: &Path, prompts: &[&[u32]], limit: usize) -> Result<Vec<Vec<u32>>> {
    let checkpoint = Checkpoint::open(case, read_spec(case)?)?;
    let spec = checkpoint.spec();
    let blocks = (0..spec.blocks).map(|index| Block::load(backend, &checkpoint, index)?.copy(backend));
    let model = Greedy {
        backend,
        spec,
        ends: &Ends::upload(backend, &checkpoint)?,
        blocks: &blocks.collect::<Result<Vec<_>>>()?,
    };
    let mut written = vec![Vec::new(); prompts.len()];
    model.generate(prompts, limit, |index, tokens| {
        written[index] = tokens.to_vec();
        Ok(true)
    })?;
    Ok(written)
}

fn tokens(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|id| id.as_u64().expect("a token") as u32).collect()
}

/// A golden case: its prompts, and the tokens that follow each.
struct Case {
    name: String,
    path: PathBuf,
    prompts: Vec<Vec<u32>>,
    wanted: Vec<Vec<u32>>,
}

impl Case {
    fn together(&self) -> Vec<&[u32]> {
        self.prompts.iter().map(Vec::as_slice).collect()
    }
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text =
        std::fs::read_to_string(root.join("generation/tokens.json")).expect("golden files are in the repository");
    let golden: Value = serde_json::from_str(&text).expect("golden files are valid");
    let cases = golden["cases"].as_object().expect("cases");
    assert!(cases.len() >= super::CASES, "only {} golden cases", cases.len());
    let each = cases.iter().map(|(name, case)| {
        let case = case.as_array().expect("prompts");
        Case {
            name: name.clone(),
            path: root.join("logits").join(name),
            prompts: case.iter().map(|one| tokens(&one["prompt"])).collect(),
            wanted: case.iter().map(|one| tokens(&one["tokens"])).collect(),
        }
    });
    each.collect()
}

#[test]
fn generation_equals_transformers_token_for_token() {
    for case in cases() {
        let (together, name) = (case.together(), &case.name);
        let Case {
            path, prompts, wanted, ..
        } = &case;
        let got = written(&Cpu, path, &together, wanted[0].len()).expect("an answer");
        assert_eq!(&got, wanted, "{name}");
        let alone = written(&Cpu, path, &together[1..2], wanted[1].len()).expect("an answer");
        assert_eq!(alone[0], wanted[1], "{name}, alone");
        // A prompt that begins with another one and its answer goes on as that does.
        let longer = [&prompts[0][..], &wanted[0][..4]].concat();
        let got = written(&Cpu, path, &[&prompts[0], &longer], 8).expect("an answer");
        assert_eq!(
            (&got[0][..], &got[1][..]),
            (&wanted[0][..8], &wanted[0][4..12]),
            "{name}, with a shared beginning"
        );
    }
}

#[test]
fn generation_on_a_gpu_writes_the_same_tokens() {
    let Some(tier) = gpu::best_tier() else { return };
    let backend = gpu::open(tier, Compute::F32);
    for case in cases() {
        let got = written(&backend, &case.path, &case.together(), case.wanted[0].len()).expect("an answer");
        assert_eq!(got, case.wanted, "{}", case.name);
    }
}

/// The last logits of a window, by blocks as they were read or by their copies.
fn last_logits<B: Backend>(backend: &B, checkpoint: &Checkpoint, copied: bool) -> Result<Vec<f32>> {
    let spec = checkpoint.spec();
    let tokens = (0..12).map(|token| token * 37 % spec.vocabulary as u32);
    let windows = TokenWindows::new(tokens.collect(), 12)?;
    let ends = Ends::upload(backend, checkpoint)?;
    let mut hidden = Hidden::embed(backend, spec, &ends, &windows)?;
    for index in 0..spec.blocks {
        let mut block = Block::load(backend, checkpoint, index)?;
        if copied {
            block = block.copy(backend)?;
        }
        hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
    }
    Ok(hidden.logits(backend, &ends)?.row(11).to_vec())
}

#[test]
fn a_copy_of_a_block_computes_the_same_on_a_gpu() {
    let Some(tier) = gpu::best_tier() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits");
    for compute in [Compute::F32, Compute::F16] {
        let backend = gpu::open(tier, compute);
        // With norms that have biases, biases of linear layers, and norms of queries and keys.
        for name in ["llama_gqa_tied", "opt_base", "qwen3"] {
            let path = root.join(name);
            let checkpoint =
                Checkpoint::open(&path, read_spec(&path).expect("supported")).expect("a golden checkpoint");
            let logits = |copied| last_logits(&backend, &checkpoint, copied).expect("computes");
            assert_eq!(logits(true), logits(false), "{name}, {compute:?}");
        }
    }
}
