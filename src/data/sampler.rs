//! Calibration sampling: which windows of a corpus the statistics see.
//!
//! Both samplers draw from CPython's generator in the order the papers' code does (SparseGPT's data
//! loader and its descendants), so a seed means the same windows there and here.

use crate::data::answers::Answer;
use crate::data::corpus::{Corpus, Join};
use crate::data::python_random::PythonRandom;
use crate::data::tokenizer::{Bos, Tokenizer};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How calibration windows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Draw a document, with replacement, until one is longer than a window; then draw a start in it.
    /// The papers' sampling of C4.
    Documents,
    /// Join and tokenise the whole corpus once; draw starts in the token stream.
    Packed,
    /// Draw prompts with their answers, each at most once; only the answers' tokens count.
    Answers,
}

/// Number of documents that may be drawn in a row without one that is long enough, before the corpus is called too
/// short. With 1 usable document in 1000, this happens by chance with probability `1e-43`.
const FRUITLESS_DRAWS: usize = 100_000;

/// The prepared corpus that calibration windows are drawn from; used for all seeds.
pub struct CalibrationSource {
    sampling: Sampling,
    bos: Bos,
    documents: Vec<String>,
    stream: Vec<u32>,
    answers: Vec<Answer>,
}

impl CalibrationSource {
    /// Prepares a corpus: for [`Sampling::Packed`], joins and tokenises it.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn new(
        corpus: Corpus,
        join: Join,
        sampling: Sampling,
        bos: Bos,
        tokenizer: &Tokenizer,
        vocabulary: usize,
    ) -> Result<Self> {
        Ok(match sampling {
            Sampling::Documents => CalibrationSource {
                sampling,
                bos,
                documents: corpus.into_documents(),
                stream: Vec::new(),
                answers: Vec::new(),
            },
            Sampling::Packed => CalibrationSource {
                sampling,
                bos,
                documents: Vec::new(),
                stream: tokenizer.encode(&corpus.into_joined(join), bos, vocabulary)?,
                answers: Vec::new(),
            },
            Sampling::Answers => return Err(Error::config("answers come with their prompts, not as a text")),
        })
    }

    /// Prepares prompts with answers, for [`Sampling::Answers`].
    pub fn of_answers(answers: Vec<Answer>, bos: Bos) -> Self {
        CalibrationSource {
            sampling: Sampling::Answers,
            bos,
            documents: Vec::new(),
            stream: Vec::new(),
            answers,
        }
    }

    /// Draws `count` windows of `length` tokens.
    ///
    /// # Errors
    /// No document, or not the stream, is longer than a window.
    pub fn draw(
        &self,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        seed: u64,
        count: usize,
        length: usize,
    ) -> Result<TokenWindows> {
        let mut random = PythonRandom::new(seed);
        let ids = match self.sampling {
            Sampling::Packed => draw_packed(&self.stream, &mut random, count, length)?,
            Sampling::Documents => {
                let encode = |document: &str| tokenizer.encode(document, self.bos, vocabulary);
                draw_documents(&self.documents, encode, &mut random, count, length)?
            }
            Sampling::Answers => {
                let encode = |text: &str, bos: Bos| tokenizer.encode(text, bos, vocabulary);
                let (ids, weights) = draw_answers(&self.answers, encode, self.bos, &mut random, (count, length))?;
                return TokenWindows::new(ids, length)?.weighted(weights);
            }
        };
        TokenWindows::new(ids, length)
    }
}

fn draw_packed(stream: &[u32], random: &mut PythonRandom, count: usize, length: usize) -> Result<Vec<u32>> {
    if stream.len() <= length {
        return Err(Error::input(format!(
            "the calibration text has {} tokens; a window of {length} needs at least one more",
            stream.len()
        )));
    }
    let mut ids = Vec::with_capacity(count * length);
    for _ in 0..count {
        let start = random.up_to((stream.len() - length - 1) as u64) as usize;
        ids.extend_from_slice(&stream[start..start + length]);
    }
    Ok(ids)
}

/// Draws prompts with answers until `count` have an answer inside a window; returns their tokens and weights. Shorter ones
/// are filled up with their last token, which does not count.
fn draw_answers(
    answers: &[Answer],
    encode: impl Fn(&str, Bos) -> Result<Vec<u32>>,
    bos: Bos,
    random: &mut PythonRandom,
    (count, length): (usize, usize),
) -> Result<(Vec<u32>, Vec<f32>)> {
    let (mut ids, mut weights) = (Vec::with_capacity(count * length), Vec::with_capacity(count * length));
    let mut left: Vec<usize> = (0..answers.len()).collect();
    while ids.len() < count * length {
        if left.is_empty() {
            return Err(Error::input(format!(
                "{} prompts with answers, of which {} have a part of the answer among their first {length} tokens; \
                 `sequences` asks for {count}",
                answers.len(),
                ids.len() / length
            )));
        }
        let place = random.up_to(left.len() as u64 - 1) as usize;
        let answer = &answers[left.swap_remove(place)];
        let mut tokens = encode(&answer.prompt, bos)?;
        let prompt = tokens.len();
        tokens.extend(encode(&answer.answer, Bos::Never)?);
        tokens.truncate(length);
        if tokens.len() <= prompt || answer.weight == 0.0 {
            continue;
        }
        let mut counts = vec![0.0; length];
        counts[prompt..tokens.len()].fill(answer.weight);
        let last = tokens[tokens.len() - 1];
        tokens.resize(length, last);
        ids.extend(tokens);
        weights.extend(counts);
    }
    Ok((ids, weights))
}

fn draw_documents(
    documents: &[String],
    encode: impl Fn(&str) -> Result<Vec<u32>>,
    random: &mut PythonRandom,
    count: usize,
    length: usize,
) -> Result<Vec<u32>> {
    // Rejected documents are remembered: a corpus of short documents would tokenise each many times.
    let mut rejected: HashMap<usize, usize> = HashMap::new();
    let mut ids = Vec::with_capacity(count * length);
    for _ in 0..count {
        let tokens = 'accepted: {
            for _ in 0..FRUITLESS_DRAWS {
                let index = random.up_to(documents.len() as u64 - 1) as usize;
                if rejected.contains_key(&index) {
                    continue;
                }
                let tokens = encode(&documents[index])?;
                if tokens.len() > length {
                    break 'accepted tokens;
                }
                rejected.insert(index, tokens.len());
                if rejected.len() == documents.len() {
                    break;
                }
            }
            let longest = rejected.values().max().copied().unwrap_or(0);
            return Err(Error::input(format!(
                "none of {} calibration documents drawn is longer than a window of {length} tokens (the longest has {longest}); \
                 use `sampling = \"packed\"` or a shorter `length`",
                documents.len()
            )));
        };
        let start = random.up_to((tokens.len() - length - 1) as u64) as usize;
        ids.extend_from_slice(&tokens[start..start + length]);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_and_prompts_and_filling_do_not() {
        // One token a character; the beginning of a text has a token of its own.
        let encode = |text: &str, bos: Bos| -> Result<Vec<u32>> {
            let begin = (bos == Bos::Tokenizer).then_some(999);
            Ok(begin.into_iter().chain(text.chars().map(u32::from)).collect())
        };
        let answer = |prompt: &str, answer: &str, weight: f32| Answer {
            prompt: prompt.to_string(),
            answer: answer.to_string(),
            weight,
        };
        let answers = [
            answer("ab", "cd", 1.0),
            answer("a long prompt", "beyond the window", 1.0),
            answer("x", "yzyzyzyz", 0.5),
            answer("no", "weight", 0.0),
        ];
        let draw = |count| draw_answers(&answers, encode, Bos::Tokenizer, &mut PythonRandom::new(3), (count, 6));
        let (ids, weights) = draw(2).expect("two have an answer in the window");
        let mut windows: Vec<(Vec<u32>, Vec<f32>)> = ids
            .chunks(6)
            .zip(weights.chunks(6))
            .map(|(ids, weights)| (ids.to_vec(), weights.to_vec()))
            .collect();
        windows.sort_by_key(|(ids, _)| ids[1]);
        let text = |ids: &[u32]| -> String { ids[1..].iter().filter_map(|id| char::from_u32(*id)).collect() };
        assert_eq!(
            (text(&windows[0].0).as_str(), &windows[0].1[..]),
            ("abcdd", &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0][..])
        );
        assert_eq!(
            (text(&windows[1].0).as_str(), &windows[1].1[..]),
            ("xyzyz", &[0.0, 0.0, 0.5, 0.5, 0.5, 0.5][..])
        );
        let error = draw(3).expect_err("there are two").to_string();
        assert!(
            error.starts_with("4 prompts with answers, of which 2 have a part of the answer"),
            "{error}"
        );
    }

    #[test]
    fn packed_starts_equal_the_published_ones() {
        // A stream of 470,057 tokens and windows of 2048: starts made with CPython's random.randint.
        let stream: Vec<u32> = (0..470_057).collect();
        for (seed, starts) in [
            (0, [442_720, 201_979, 397_386]),
            (1, [70_445, 298_426, 444_299]),
            (2, [452_517, 445_149, 29_649]),
        ] {
            let ids = draw_packed(&stream, &mut PythonRandom::new(seed), 3, 2048).expect("long enough");
            assert_eq!([ids[0], ids[2048], ids[4096]], starts, "seed {seed}");
        }
    }

    #[test]
    fn short_documents_are_rejected_and_consume_draws() {
        let documents: Vec<String> = ["short", "a much longer document", "tiny"].map(String::from).to_vec();
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let ids = draw_documents(&documents, encode, &mut PythonRandom::new(0), 2, 8).expect("one is long enough");
        // CPython after random.seed(0): document 1 from 12, then (after rejections) document 1 from 0.
        let text: String = ids.iter().map(|id| *id as u8 as char).collect();
        assert_eq!(text, "r documea much l");
    }

    #[test]
    fn a_corpus_without_long_documents_is_refused() {
        let documents = vec!["short".to_string(), "tiny".to_string()];
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let error = draw_documents(&documents, encode, &mut PythonRandom::new(0), 1, 8).expect_err("too short");
        assert!(error.to_string().contains("the longest has 5"), "{error}");
    }
}
