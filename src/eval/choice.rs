//! The scoring engine: log-likelihoods of continuations behind contexts, tokenised and cut as
//! lm-evaluation-harness does, so that the scores are the same.
//!
//! Context and continuation are tokenised together, and what goes beyond the number of the context's own
//! tokens is the continuation (a token across the boundary counts by number). White space at a context's end
//! moves to the continuation first. What is longer than the model's context loses tokens on the left. Log
//! softmax is computed from `f32` logits and summed in `f64`. Requests of one document share what their
//! tokens have in common ([`Layout`]); answers of one token take one forward pass for all of them.

use super::tasks::{Document, Harness, is_space};
use crate::backend::Backend;
use crate::data::tokenizer::{Bos, Special, Tokenizer};
use crate::error::{Error, Located, Result};
use crate::model::forward::{Block, Ends, Layout, Packed};
use crate::spec::ModelSpec;
use std::ops::Range;

/// Turns documents of zero-shot tasks into the tokens that a model sees.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    vocabulary: usize,
    bos: Bos,
    /// The token that stands in for an empty context. The tokenizer names it, whatever `config.json` says. The
    /// tokenizer adds no special tokens to a text that begins with it.
    prefix: Option<Special>,
    /// The most tokens that the model sees at once; longer requests lose tokens on the left.
    longest: usize,
}

/// A document of a zero-shot task as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// One request per choice, in the order of the choices.
    pub requests: Vec<EncodedRequest>,
    /// Index of the right choice.
    pub gold: usize,
    /// Where the document stands in its file, for error messages (`line 3`).
    pub place: String,
}

/// One choice of a document as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedRequest {
    /// The tokens that the model sees: the context and the continuation without its last token.
    pub input: Vec<u32>,
    /// The continuation; its first token follows `input[input.len() - targets.len()]`.
    pub targets: Vec<u32>,
    /// Number of Unicode characters in the choice itself, without the delimiter; divides the score for `acc_norm`.
    pub characters: usize,
    /// Number of tokens that were cut off on the left because the model's context is too short.
    pub truncated: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder for a model.
    pub fn new(tokenizer: &'a Tokenizer, spec: &ModelSpec, harness: Harness) -> Self {
        let end = tokenizer.special("eos_token");
        let prefix = match harness {
            Harness::V0_3 | Harness::V0_4_0 => end,
            Harness::V0_4_9_2 => tokenizer.special("bos_token").or(end),
        };
        Encoder {
            tokenizer,
            vocabulary: spec.vocabulary,
            bos: harness.bos(),
            prefix,
            longest: spec.longest_window.unwrap_or(usize::MAX).min(spec.max_positions),
        }
    }

    /// Tokenises a document.
    ///
    /// # Errors
    /// A continuation has no tokens or more than the model's context; an empty context that no token stands for.
    pub fn encode(&self, document: &Document, place: &str) -> Result<Encoded> {
        let mut requests = Vec::with_capacity(document.requests.len());
        // Choices of one document mostly have one context; it is tokenised once.
        let mut known: Option<(&str, Vec<u32>)> = None;
        for (index, request) in document.requests.iter().enumerate() {
            let mut encode = || -> Result<EncodedRequest> {
                let (context, targets) = if request.context.is_empty() {
                    self.alone(&request.continuation)?
                } else {
                    let stem = request.context.trim_end_matches(is_space);
                    let context = match &known {
                        Some((same, tokens)) if *same == stem => tokens.clone(),
                        _ => self.tokens(stem)?,
                    };
                    known = Some((stem, context.clone()));
                    let whole = self.tokens(&format!("{}{}", request.context, request.continuation))?;
                    let targets = whole.get(context.len()..).unwrap_or(&[]).to_vec();
                    (context, targets)
                };
                self.cut(context, targets, request.characters)
            };
            requests.push(encode().at(format_args!("choice {index}")).at(place)?);
        }
        Ok(Encoded {
            requests,
            gold: document.gold,
            place: place.to_string(),
        })
    }

    /// Encodes a continuation whose context is empty; returns the tokens that the model sees, and the continuation's.
    fn alone(&self, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let Some(prefix) = &self.prefix else {
            return Err(Error::input(
                "its context is empty, and the files beside tokenizer.json name no `bos_token` or `eos_token` to take its place",
            ));
        };
        if prefix.id as usize >= self.vocabulary {
            return Err(Error::input(format!(
                "its context is empty, and the token `{}` ({}) that takes its place is outside the model's vocabulary of {}",
                prefix.text, prefix.id, self.vocabulary
            )));
        }
        let mut tokens = self.tokenizer.encode(continuation, Bos::Never, self.vocabulary)?;
        if tokens.first() == Some(&prefix.id) {
            let targets = tokens.split_off(1);
            return Ok((tokens, targets));
        }
        Ok((vec![prefix.id], tokens))
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let begun = |prefix: &Special| text.starts_with(&prefix.text);
        let bos = match self.prefix.as_ref().is_some_and(begun) {
            true => Bos::Never,
            false => self.bos,
        };
        self.tokenizer.encode(text, bos, self.vocabulary)
    }

    fn cut(&self, mut context: Vec<u32>, targets: Vec<u32>, characters: usize) -> Result<EncodedRequest> {
        if context.is_empty() || targets.is_empty() {
            let part = if context.is_empty() { "context" } else { "continuation" };
            return Err(Error::input(format!("its {part} has no tokens")));
        }
        if targets.len() > self.longest {
            return Err(Error::input(format!(
                "it has {} tokens, more than the model's context of {}",
                targets.len(),
                self.longest
            )));
        }
        context.extend(&targets[..targets.len() - 1]);
        let truncated = context.len().saturating_sub(self.longest);
        Ok(EncodedRequest {
            input: context.split_off(truncated),
            targets,
            characters,
            truncated,
        })
    }
}

impl Encoded {
    /// About how many different tokens the document needs in memory. The number is exact if the choices share nothing
    /// but their context.
    pub fn tokens(&self) -> usize {
        let answers: usize = self.requests.iter().map(|request| request.targets.len() - 1).sum();
        let contexts = self
            .requests
            .iter()
            .map(|request| request.input.len() + 1 - request.targets.len());
        contexts.max().unwrap_or(0) + answers
    }

    fn longest(&self) -> usize {
        self.requests
            .iter()
            .map(|request| request.input.len())
            .max()
            .unwrap_or(0)
    }
}

/// How likely a model finds a continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceScore {
    /// Log-likelihood of the whole continuation, in nats.
    pub log_likelihood: f64,
    /// Whether every token of the continuation is the likeliest one at its position.
    pub greedy: bool,
}

/// Splits documents into ranges of at most `tokens` tokens each (a single document may have more), so that the
/// residual streams of one range fit in memory. Without documents the result is one empty range.
pub fn passes(documents: &[&Encoded], tokens: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for (index, document) in documents.iter().enumerate() {
        if index > first && sum + document.tokens() > tokens {
            ranges.push(first..index);
            (first, sum) = (index, 0);
        }
        sum += document.tokens();
    }
    ranges.push(first..documents.len());
    ranges
}

/// Scores documents block by block, so that only one block of the model is needed in memory at a time.
pub struct ChoiceScorer<'a, B: Backend> {
    documents: Vec<&'a Encoded>,
    stream: Packed<B>,
    batches: Vec<Batch>,
}

/// What is to be scored in one batch of the residual stream.
struct Batch {
    /// Indices into `documents` of the scorer.
    documents: Vec<usize>,
    /// Indices of the batch's tokens that predict, continuation after continuation.
    rows: Vec<u32>,
    /// For each of `rows`, the token that it has to predict.
    targets: Vec<u32>,
}

impl<'a, B: Backend> ChoiceScorer<'a, B> {
    /// Sorts the documents into batches by length and embeds them.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new(backend: &B, spec: &ModelSpec, ends: &Ends<B>, documents: Vec<&'a Encoded>) -> Result<Self> {
        let room = Packed::batch_tokens(backend, spec);
        let mut order: Vec<usize> = (0..documents.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(documents[*index].longest()));
        let mut members: Vec<Vec<usize>> = Vec::new();
        let (mut tokens, mut sequences, mut length) = (0, 0, 0);
        for index in order {
            let document = documents[index];
            tokens += document.tokens();
            sequences += document.requests.len();
            match members.last_mut() {
                Some(batch) if tokens <= room && sequences * length <= room => batch.push(index),
                _ => {
                    members.push(vec![index]);
                    (tokens, sequences, length) = (document.tokens(), document.requests.len(), document.longest());
                }
            }
        }
        let (mut layouts, mut batches) = (Vec::new(), Vec::new());
        for members in members {
            let inputs = |index: &usize| {
                documents[*index]
                    .requests
                    .iter()
                    .map(|it| it.input.as_slice())
                    .collect()
            };
            let (layout, paths) = Layout::new(&members.iter().map(inputs).collect::<Vec<_>>());
            let mut batch = Batch {
                documents: members,
                rows: Vec::new(),
                targets: Vec::new(),
            };
            for (index, paths) in batch.documents.iter().zip(paths) {
                for (request, path) in documents[*index].requests.iter().zip(paths) {
                    batch.rows.extend(&path[path.len() - request.targets.len()..]);
                    batch.targets.extend(&request.targets);
                }
            }
            layouts.push(layout);
            batches.push(batch);
        }
        Ok(ChoiceScorer {
            documents,
            stream: Packed::embed(backend, spec, ends, layouts)?,
            batches,
        })
    }

    /// Moves the documents through the next block.
    ///
    /// # Errors
    /// The backend fails.
    pub fn advance(&mut self, backend: &B, spec: &ModelSpec, block: &Block<B>) -> Result<()> {
        self.stream.advance(backend, spec, block)
    }

    /// To be called after the last block: gives every document's index and its scores, one per choice, to `take`.
    /// Batches come one by one, the longest documents first.
    ///
    /// # Errors
    /// The backend fails, or a log-likelihood is not finite; then with the document's position.
    pub fn finish(
        self,
        backend: &B,
        ends: &Ends<B>,
        mut take: impl FnMut(Vec<(usize, Vec<ChoiceScore>)>),
    ) -> std::result::Result<(), (Option<usize>, Error)> {
        for (index, batch) in self.batches.iter().enumerate() {
            let likelihoods = self
                .stream
                .likelihoods(backend, ends, index, &batch.rows, &batch.targets);
            let likelihoods = likelihoods.map_err(|error| (None, error))?;
            let mut rest = &likelihoods[..];
            let mut scored = Vec::with_capacity(batch.documents.len());
            for index in &batch.documents {
                let document = self.documents[*index];
                let mut scores = Vec::with_capacity(document.requests.len());
                for request in &document.requests {
                    let (tokens, behind) = rest.split_at(request.targets.len());
                    rest = behind;
                    let log_likelihood: f64 = tokens.iter().map(|token| token.log).sum();
                    if !log_likelihood.is_finite() {
                        let message = format!("the log-likelihood of choice {} is not finite", scores.len());
                        return Err((Some(*index), Error::numeric(message).at(&document.place)));
                    }
                    scores.push(ChoiceScore {
                        log_likelihood,
                        greedy: tokens.iter().all(|token| token.greatest),
                    });
                }
                scored.push((*index, scores));
            }
            take(scored);
        }
        Ok(())
    }
}
