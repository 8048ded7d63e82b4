//! Scores a model on a text: its perplexity, block by block, so that no more than one block is in memory.

use std::path::Path;
use zprune::backend::cpu::Cpu;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::eval::perplexity::{PerplexityScorer, perplexity};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends};

/// The perplexity of a model on the first windows of a text.
pub fn run(folder: &Path, text: &Path, windows: usize) -> Result<f64> {
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let spec = checkpoint.spec();
    let corpus = Corpus::read(text, Join::None)?;
    let ids = Tokenizer::load(folder)?.encode(&corpus.joined(Join::None), Bos::Tokenizer, spec.vocabulary)?;
    let windows = TokenWindows::consecutive(&ids, 256, Some(windows))?;

    let ends = Ends::upload(&Cpu, &checkpoint)?;
    let mut scorer = PerplexityScorer::new(&Cpu, spec, &ends, &windows)?;
    for index in 0..spec.blocks {
        let block = Block::load(&Cpu, &checkpoint, index)?;
        scorer.advance(&Cpu, spec, &block)?;
    }
    perplexity(&scorer.finish(&Cpu, &ends, |_| {})?)
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    let (model, text) = (Path::new("models/tiny-llama"), Path::new("corpora/persuasion.txt"));
    println!("perplexity of {}: {:.4}", model.display(), run(model, text, 40)?);
    Ok(())
}
