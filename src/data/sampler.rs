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
use std::collections::{HashMap, HashSet};
use std::ops::Range;

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

/// Most tokens of documents that are remembered, since a document may be drawn again: 64 MiB.
const MOST_KEPT: usize = 1 << 24;

/// The prepared corpus that calibration windows are drawn from; used for all seeds.
pub struct CalibrationSource {
    sampling: Sampling,
    bos: Bos,
    documents: Vec<String>,
    stream: Vec<u32>,
    /// The parts of the stream that nothing was taken out of.
    free: Vec<Range<usize>>,
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
                free: Vec::new(),
                answers: Vec::new(),
            },
            Sampling::Packed => {
                let stream = tokenizer.encode(&corpus.into_joined(join), bos, vocabulary)?;
                CalibrationSource {
                    sampling,
                    bos,
                    documents: Vec::new(),
                    free: std::iter::once(0..stream.len()).collect(),
                    stream,
                    answers: Vec::new(),
                }
            }
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
            free: Vec::new(),
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
            Sampling::Packed => draw_packed(&self.stream, &self.free, &mut random, count, length)?,
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

    /// Says so where `count` windows of `length` tokens are more than the text has, so that it is drawn more than once.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn repeats(
        &self,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        count: usize,
        length: usize,
    ) -> Result<Option<String>> {
        let (has, there) = match self.sampling {
            Sampling::Packed => ("the text has", self.free.iter().map(Range::len).sum()),
            Sampling::Documents => {
                let encode = |document: &str| tokenizer.encode(document, self.bos, vocabulary);
                (
                    "the documents that are longer than a window have about",
                    about_tokens(&self.documents, encode, length)?,
                )
            }
            // Each of them is drawn once.
            Sampling::Answers => return Ok(None),
        };
        let asked = count.saturating_mul(length);
        Ok((asked > there).then(|| {
            format!(
                "{count} windows of {length} tokens are {asked} tokens, and {has} {there}, the tokens of {} windows: the same \
                 text is drawn again and again, which adds little; use more text, or fewer `sequences`",
                there / length.max(1)
            )
        }))
    }

    /// Takes `count` windows of `length` tokens out of the text and returns them in its order: of a stream, windows that are spread over
    /// all of it; of documents, one each of documents that are drawn. Windows that are drawn later have nothing of them: no token of the
    /// stream, and no window of these documents or of others with the same text.
    ///
    /// # Errors
    /// The text has not so many windows that as many again are left.
    pub fn hold_out(
        &mut self,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        seed: u64,
        count: usize,
        length: usize,
    ) -> Result<TokenWindows> {
        match self.sampling {
            Sampling::Packed => {
                let held = spread(self.stream.len(), count, length)?;
                let ids = held.iter().flat_map(|window| &self.stream[window.clone()]);
                let windows = TokenWindows::new(ids.copied().collect(), length);
                self.free = between(&held, self.stream.len());
                windows
            }
            Sampling::Documents => {
                let bos = self.bos;
                let encode = |document: &str| tokenizer.encode(document, bos, vocabulary);
                let ids = take_documents(&mut self.documents, encode, &mut PythonRandom::new(seed), count, length)?;
                TokenWindows::new(ids, length)
            }
            Sampling::Answers => Err(Error::config(
                "windows cannot be held out of prompts with answers; use another `sampling`",
            )),
        }
    }
}

/// Documents of so many bytes tell how many tokens all of them have.
const SAMPLE: usize = 1 << 16;

/// The number of tokens, about, of all documents that have more than `length`: windows are drawn from these alone. The first documents
/// tell how many tokens a byte has.
fn about_tokens(documents: &[String], encode: impl Fn(&str) -> Result<Vec<u32>>, length: usize) -> Result<usize> {
    let (mut bytes, mut tokens) = (0, 0);
    for document in documents {
        tokens += encode(document)?.len();
        bytes += document.len();
        if bytes > SAMPLE {
            break;
        }
    }
    let of_a_byte = tokens as f64 / bytes.max(1) as f64;
    let about = documents.iter().map(|document| document.len() as f64 * of_a_byte);
    let long = about.filter(|tokens| *tokens > length as f64);
    Ok(long.sum::<f64>().round() as usize)
}

/// `count` windows of a stream, as far from each other as they can be.
fn spread(stream: usize, count: usize, length: usize) -> Result<Vec<Range<usize>>> {
    let all = stream / length;
    if count > all / 2 {
        return Err(Error::input(format!(
            "the calibration text has {all} windows of {length} tokens, but {count} are to be held out; at most half of them can be, \
             which are {}",
            all / 2
        )));
    }
    let window = |index: usize| {
        let start = (2 * index + 1) * all / (2 * count) * length;
        start..start + length
    };
    Ok((0..count).map(window).collect())
}

/// What is left of a stream between windows, which are in its order.
fn between(windows: &[Range<usize>], stream: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(windows.iter().map(|window| window.end));
    let ends = windows.iter().map(|window| window.start).chain([stream]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

fn draw_packed(
    stream: &[u32],
    free: &[Range<usize>],
    random: &mut PythonRandom,
    count: usize,
    length: usize,
) -> Result<Vec<u32>> {
    // As the papers' code has it, no window ends with the last token.
    let starts = |part: &Range<usize>| part.len().saturating_sub(length);
    let all: usize = free.iter().map(starts).sum();
    if all == 0 {
        return Err(Error::input(format!(
            "the calibration text has {} tokens{}; a window of {length} needs at least one more",
            free.iter().map(Range::len).max().unwrap_or(0),
            if free.len() > 1 { " in a row" } else { "" }
        )));
    }
    let mut ids = Vec::with_capacity(count * length);
    for _ in 0..count {
        let mut place = random.up_to((all - 1) as u64) as usize;
        for part in free {
            if place < starts(part) {
                let start = part.start + place;
                ids.extend_from_slice(&stream[start..start + length]);
                break;
            }
            place -= starts(part);
        }
    }
    Ok(ids)
}

/// Takes `count` documents that are longer than a window out of all documents, with those of the same text; returns a window of each, in
/// the order of the documents.
fn take_documents(
    documents: &mut Vec<String>,
    encode: impl Fn(&str) -> Result<Vec<u32>>,
    random: &mut PythonRandom,
    count: usize,
    length: usize,
) -> Result<Vec<u32>> {
    let mut left: Vec<usize> = (0..documents.len()).collect();
    let mut texts: HashSet<&str> = HashSet::new();
    let mut windows: Vec<(usize, Vec<u32>)> = Vec::new();
    while windows.len() < count {
        if left.is_empty() {
            return Err(Error::input(format!(
                "{} different texts among {} calibration documents are longer than a window of {length} tokens, and {count} are to be \
                 held out; use `sampling = \"packed\"`, a shorter `length` or fewer windows",
                windows.len(),
                documents.len()
            )));
        }
        let index = left.swap_remove(random.up_to(left.len() as u64 - 1) as usize);
        let document = documents[index].as_str();
        if texts.contains(document) {
            continue;
        }
        let tokens = encode(document)?;
        if tokens.len() > length {
            texts.insert(document);
            let start = random.up_to((tokens.len() - length - 1) as u64) as usize;
            windows.push((index, tokens[start..start + length].to_vec()));
        }
    }
    windows.sort_unstable_by_key(|(index, _)| *index);
    let kept = documents.iter().filter(|document| !texts.contains(document.as_str()));
    let kept = kept.cloned().collect();
    *documents = kept;
    Ok(windows.into_iter().flat_map(|(_, ids)| ids).collect())
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
    // Documents are remembered: a corpus of few documents, or of short ones, would tokenise each many times.
    let mut rejected: HashMap<usize, usize> = HashMap::new();
    let mut known: HashMap<usize, Vec<u32>> = HashMap::new();
    let mut kept = 0;
    let mut ids = Vec::with_capacity(count * length);
    for _ in 0..count {
        let (index, fresh) = 'accepted: {
            for _ in 0..FRUITLESS_DRAWS {
                let index = random.up_to(documents.len() as u64 - 1) as usize;
                if rejected.contains_key(&index) {
                    continue;
                }
                if known.contains_key(&index) {
                    break 'accepted (index, None);
                }
                let tokens = encode(&documents[index])?;
                if tokens.len() > length {
                    break 'accepted (index, Some(tokens));
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
        let tokens = fresh.as_ref().unwrap_or_else(|| &known[&index]);
        let start = random.up_to((tokens.len() - length - 1) as u64) as usize;
        ids.extend_from_slice(&tokens[start..start + length]);
        if let Some(tokens) = fresh.filter(|tokens| kept + tokens.len() <= MOST_KEPT) {
            kept += tokens.len();
            known.insert(index, tokens);
        }
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
    fn the_tokens_of_all_documents_are_told_by_the_first() {
        // One token for each byte, and one at the beginning.
        let encode =
            |text: &str| -> Result<Vec<u32>> { Ok(std::iter::once(0).chain(text.bytes().map(u32::from)).collect()) };
        let few = ["ab".to_string(), "c".to_string()];
        assert_eq!(about_tokens(&few, encode, 0).expect("tokens"), 5);
        assert_eq!(about_tokens(&[], encode, 0).expect("tokens"), 0);
        let many = vec!["x".repeat(999); 1000];
        assert_eq!(about_tokens(&many, encode, 500).expect("tokens"), 1_000_000);
        // No window comes from documents that are not longer than one.
        let short = ["x".repeat(99), "y".repeat(9)];
        assert_eq!(about_tokens(&short, encode, 50).expect("tokens"), 101);
        assert_eq!(about_tokens(&short, encode, 200).expect("tokens"), 0);
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
            let whole: Vec<_> = std::iter::once(0..stream.len()).collect();
            let ids = draw_packed(&stream, &whole, &mut PythonRandom::new(seed), 3, 2048).expect("long enough");
            assert_eq!([ids[0], ids[2048], ids[4096]], starts, "seed {seed}");
        }
    }

    #[test]
    fn a_document_that_is_drawn_often_is_tokenised_once() {
        let documents = ["one document".repeat(50), "short".to_string(), "another one".repeat(50)];
        let encoded = std::cell::RefCell::new(Vec::new());
        let encode = |text: &str| -> Result<Vec<u32>> {
            encoded.borrow_mut().push(text.len());
            Ok(text.bytes().map(u32::from).collect())
        };
        let ids = draw_documents(&documents, encode, &mut PythonRandom::new(0), 200, 64).expect("two are long enough");
        assert_eq!(ids.len(), 200 * 64);
        encoded.borrow_mut().sort_unstable();
        assert_eq!(*encoded.borrow(), [5, 550, 600]);
        // Windows of both, and each is a part of its document.
        let text = |ids: &[u32]| -> String { ids.iter().filter_map(|id| char::from_u32(*id)).collect() };
        let of = |document: &str| ids.chunks(64).filter(|window| document.contains(&text(window))).count();
        let (one, other) = (of(&documents[0]), of(&documents[2]));
        assert!(one > 50 && other > 50 && one + other == 200, "{one}, {other}");
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
    fn nothing_that_is_held_out_of_a_stream_is_drawn() {
        // Every token is another one, so that a token tells its place.
        let stream: Vec<u32> = (0..1000).collect();
        for (count, length) in [(1, 10), (7, 10), (50, 10), (2, 160)] {
            let held = spread(stream.len(), count, length).expect("enough windows");
            assert!(held.windows(2).all(|pair| pair[0].end <= pair[1].start), "{held:?}");
            assert!(held.iter().all(|window| window.end <= stream.len()));
            let taken: HashSet<usize> = held.iter().cloned().flatten().collect();
            assert_eq!(taken.len(), count * length);
            let free = between(&held, stream.len());
            let drawn = draw_packed(&stream, &free, &mut PythonRandom::new(3), 500, length);
            let Ok(drawn) = drawn else {
                // Windows of 10 with gaps of 10 between them leave no window that is longer.
                assert_eq!((count, length), (50, 10));
                continue;
            };
            assert!(drawn.iter().all(|id| !taken.contains(&(*id as usize))));
            for window in drawn.chunks(length) {
                assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1), "{window:?}");
            }
            let starts: HashSet<u32> = drawn.chunks(length).map(|window| window[0]).collect();
            assert!(starts.iter().any(|start| *start < 500) && starts.iter().any(|start| *start >= 500));
        }
        let error = spread(1000, 51, 10).expect_err("more than half").to_string();
        assert!(
            error.contains("100 windows of 10 tokens") && error.contains("are 50"),
            "{error}"
        );
    }

    #[test]
    fn documents_that_are_held_out_are_gone_with_those_of_the_same_text() {
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let text = |index: usize| format!("document {} of the corpus", index % 20);
        let all: Vec<String> = (0..40).map(text).chain(["short".to_string()]).collect();
        let mut documents = all.clone();
        let ids = take_documents(&mut documents, encode, &mut PythonRandom::new(5), 6, 8).expect("twenty texts");
        assert_eq!(ids.len(), 6 * 8);
        // Every text is there twice.
        assert_eq!(documents.len(), all.len() - 12);
        let again = take_documents(&mut all.clone(), encode, &mut PythonRandom::new(5), 6, 8).expect("the same");
        assert_eq!(ids, again);
        let error = take_documents(&mut documents, encode, &mut PythonRandom::new(5), 15, 8).expect_err("14 are left");
        assert!(error.to_string().starts_with("14 different texts among 29"), "{error}");
    }

    #[test]
    fn a_corpus_without_long_documents_is_refused() {
        let documents = vec!["short".to_string(), "tiny".to_string()];
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        let error = draw_documents(&documents, encode, &mut PythonRandom::new(0), 1, 8).expect_err("too short");
        assert!(error.to_string().contains("the longest has 5"), "{error}");
    }
}
