//! Greedy generation: the likeliest token, again and again.
//!
//! Every step computes the whole sequences again; what several of them begin with, such as the examples of a few-shot prompt, once. So
//! nothing is kept between steps, and the numbers are those of the forward pass that everything else uses. Of equally likely tokens the
//! one with the lowest id is taken, as PyTorch's `argmax` does. Where two are almost equally likely, rounding decides, and another
//! backend or precision may write something else from there on.

use crate::backend::Backend;
use crate::error::Result;
use crate::model::forward::{Block, Ends, Layout, Packed};
use crate::spec::ModelSpec;

/// A model all of whose blocks are in the backend's memory.
pub struct Greedy<'a, B: Backend> {
    /// The backend that has them.
    pub backend: &'a B,
    /// The architecture.
    pub spec: &'a ModelSpec,
    /// The weights outside the blocks.
    pub ends: &'a Ends<B>,
    /// The blocks, in order.
    pub blocks: &'a [Block<B>],
}

impl<B: Backend> Greedy<'_, B> {
    /// Continues each prompt by at most `limit` tokens; none is empty. `more` receives a prompt's index and its tokens so far after each
    /// token, and says whether it goes on.
    ///
    /// # Errors
    /// The backend fails, a logit is not finite, or `more` fails.
    pub fn generate(
        &self,
        prompts: &[&[u32]],
        limit: usize,
        mut more: impl FnMut(usize, &[u32]) -> Result<bool>,
    ) -> Result<()> {
        let room = Packed::batch_tokens(self.backend, self.spec);
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].len()));
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let longest = prompts[*first].len() + limit;
            let (batch, behind) = rest.split_at((room / longest).clamp(1, rest.len()));
            rest = behind;
            let mut running: Vec<(usize, Vec<u32>)> =
                batch.iter().map(|index| (*index, prompts[*index].to_vec())).collect();
            for _ in 0..limit {
                if running.is_empty() {
                    break;
                }
                let sequences = running.iter().map(|(_, tokens)| tokens.as_slice()).collect();
                let next = self.next(sequences)?;
                let mut left = Vec::with_capacity(running.len());
                for ((index, mut tokens), token) in running.into_iter().zip(next) {
                    tokens.push(token);
                    if more(index, &tokens[prompts[index].len()..])? {
                        left.push((index, tokens));
                    }
                }
                running = left;
            }
        }
        Ok(())
    }

    /// The likeliest token after each sequence.
    fn next(&self, sequences: Vec<&[u32]>) -> Result<Vec<u32>> {
        let (layout, paths) = Layout::new(&[sequences]);
        let last: Vec<u32> = paths.iter().flatten().filter_map(|path| path.last().copied()).collect();
        let mut stream = Packed::embed(self.backend, self.spec, self.ends, vec![layout])?;
        for block in self.blocks {
            stream.advance(self.backend, self.spec, block)?;
        }
        stream.likeliest(self.backend, self.ends, 0, &last)
    }
}
