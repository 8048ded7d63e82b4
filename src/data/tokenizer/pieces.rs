//! Long texts in pieces, with the ids of the whole: the crate `tokenizers` needs about a hundred bytes of memory for
//! every byte of a text that it encodes at once.
//!
//! A text is cut only where it can be shown from `tokenizer.json` that no step sees across the place:
//!
//! - Where a pre-tokenizer makes words: before the space between two small Latin letters (`foo| bar`). All known
//!   patterns end a word there and none looks at what stands before it; normalizers leave these three characters alone
//!   and do not join them; every model takes word by word. Where one of the known regular expressions makes the words,
//!   and no space is put in front of a text, also between Latin letters and digits (`ab|12`), and before the marks that
//!   end the parts of a Chinese or Japanese sentence.
//! - Where a BPE model takes a text as one word: before a line feed that follows a letter, a digit, a space or a mark, if
//!   no token has the two within it, so that no merge can cross. What the tokenizer puts in front of a text, and of what
//!   follows an added token, is one token, which is taken off the later pieces.
//!
//! In both, no added token may contain the place or take white space from behind it. Other tokenizers get their texts
//! whole, as does a text without such a place (one word without an end), if there is memory for that.

use super::file::{TokenizerFile, kind, pattern};
use super::words::{GPT2_WORDS, LLAMA3_WORDS, QWEN2_WORDS, TEKKEN_WORDS};
use serde_json::Value;
use tokenizers::AddedToken;

/// Least length of a piece, in bytes. Longer pieces save no more time, and each needs about 25 MB.
pub(super) const PIECE: usize = 1 << 18;

/// The visible character that SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// A place where texts may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the space between two small Latin letters.
    Word {
        /// Also between a Latin letter and a digit.
        digits: bool,
        /// Also before a punctuation mark in a Chinese or Japanese sentence.
        marks: bool,
    },
    /// Before a line feed that follows one of the characters that usually end a line.
    Line {
        /// A token that the tokenizer puts before every piece, if it does; it is removed from all pieces but the
        /// first.
        prefix: Option<u32>,
    },
}

impl Place {
    /// The place where texts may be cut for this tokenizer, if there is one.
    pub(super) fn of(file: &TokenizerFile, tokenizer: &tokenizers::Tokenizer) -> Option<Place> {
        let added = tokenizer.get_added_tokens_decoder();
        let clear = |place: Place| added.values().all(|token| place.is_clear_of(token));
        if !makes_words(file) {
            return single_word(file, tokenizer).filter(|place| clear(*place));
        }
        let only = |digits, marks| Place::Word { digits, marks };
        let narrow = makes_words_by_pattern(file);
        let digits = narrow && clear(only(true, false));
        let marks = narrow && !decomposes(file) && clear(only(false, true));
        Some(only(digits, marks)).filter(|place| clear(*place))
    }

    /// Whether a text may be cut between `before` and `after`; neither of them is empty.
    fn is_between(self, before: &str, after: &str) -> bool {
        let (Some(last), Some(next)) = (before.chars().next_back(), after.chars().next()) else {
            return false;
        };
        match self {
            Place::Word { digits, marks } => match next {
                ' ' => last.is_ascii_lowercase() && after[1..].starts_with(|c: char| c.is_ascii_lowercase()),
                '0'..='9' => digits && last.is_ascii_alphabetic(),
                'a'..='z' | 'A'..='Z' => digits && last.is_ascii_digit(),
                _ => marks && is_mark(next) && is_east_asian(last),
            },
            Place::Line { .. } => next == '\n' && ends_line(last),
        }
    }

    /// Whether a cut cannot change where an added token is found in the text.
    fn is_clear_of(self, token: &AddedToken) -> bool {
        let characters: Vec<char> = token.content.chars().collect();
        let (Some(first), Some(last)) = (characters.first(), characters.last()) else {
            return true;
        };
        // White space of any kind may become a space or a line feed by normalisation, a capital a small letter.
        let crosses = |pair: &[char]| match self {
            Place::Word { digits, marks } => {
                let space = pair[0].is_alphabetic() && pair[1].is_whitespace();
                let digit = (pair[0].is_alphabetic() && pair[1].is_numeric())
                    || (pair[0].is_numeric() && pair[1].is_alphabetic());
                let mark = !pair[0].is_ascii() && pair[0].is_alphabetic() && !pair[1].is_alphanumeric();
                space || (digits && digit) || (marks && mark)
            }
            Place::Line { .. } => pair[0] != '\n' && pair[1].is_whitespace() && pair[1] != ' ',
        };
        let within = characters.windows(2).any(crosses);
        // One that takes the white space behind it, one behind which a text begins anew, and one that counts only where
        // no word ends before it.
        let behind = match self {
            Place::Word { .. } => token.rstrip && last.is_alphabetic(),
            Place::Line { .. } => token.rstrip || ends_line(*last),
        };
        let before = token.single_word && first.is_whitespace();
        // One that counts only where no word goes on at its sides: at these places a piece would seem to end one.
        let alone = match self {
            Place::Word { digits, marks } => token.single_word && (digits || marks),
            Place::Line { .. } => false,
        };
        !(within || behind || before || alone)
    }

    /// The pieces of a text, each of `least` bytes or more but for the last.
    pub(super) fn pieces(self, text: &str, least: usize) -> Vec<&str> {
        let bytes = text.as_bytes();
        let mut pieces = Vec::new();
        let mut start = 0;
        let mut at = least.max(1);
        while at < bytes.len() {
            if text.is_char_boundary(at) && self.is_between(&text[..at], &text[at..]) {
                pieces.push(&text[start..at]);
                start = at;
                at += least.max(1);
            } else {
                at += 1;
            }
        }
        pieces.push(&text[start..]);
        pieces
    }
}

/// Whether a piece may begin with a line feed after this character. A tokenizer with an added token that ends with
/// such a character is not cut here.
fn ends_line(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || " .,;:!?\"'".contains(character)
        || is_east_asian(character)
        || is_mark(character)
}

/// Whether this is a letter of Chinese or Japanese that no normalizer joins with what follows.
fn is_east_asian(character: char) -> bool {
    matches!(character, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}')
}

/// Whether this is a mark between parts of a sentence: ideographic comma and full stop, and `,!?:;` in full width.
fn is_mark(character: char) -> bool {
    "\u{3001}\u{3002}\u{ff0c}\u{ff01}\u{ff1f}\u{ff1a}\u{ff1b}".contains(character)
}

/// The regular expressions that are known to end words where scripts change.
const KNOWN: [&str; 4] = [GPT2_WORDS, LLAMA3_WORDS, QWEN2_WORDS, TEKKEN_WORDS];

/// Whether one of the known regular expressions divides the text into words, and no step puts a space before a text.
fn makes_words_by_pattern(file: &TokenizerFile) -> bool {
    let flag = |step: &Value, key: &str| step.get(key).and_then(Value::as_bool).unwrap_or(true);
    let steps = TokenizerFile::steps(&file.pre_tokenizer);
    let known = |step: &Value| match kind(step) {
        "ByteLevel" => flag(step, "use_regex"),
        "Split" => pattern(step, "Regex").is_some_and(|regex| KNOWN.contains(&regex)),
        _ => false,
    };
    let space = |step: &Value| kind(step) == "ByteLevel" && flag(step, "add_prefix_space");
    steps.iter().any(|step| known(step)) && !steps.iter().any(|step| space(step))
}

/// Whether the normalizer decomposes letters, so that a letter may end with a combining mark.
fn decomposes(file: &TokenizerFile) -> bool {
    let steps = TokenizerFile::steps(&file.normalizer);
    steps
        .into_iter()
        .any(|step| matches!(kind(step), "NFD" | "NFKD" | "StripAccents"))
}

/// Whether normalizer and pre-tokenizer are known to end a word before the space between two small letters, and to
/// treat each side of it in the same way without the other side.
fn makes_words(file: &TokenizerFile) -> bool {
    let local = |step: &Value| {
        matches!(
            kind(step),
            "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Nmt"
        )
    };
    // Some is a step that sees no further than a word; true, that it ends one at the space.
    let ends_words = |step: &Value| match kind(step) {
        "ByteLevel" => Some(step.get("use_regex").and_then(Value::as_bool).unwrap_or(true)),
        "Split" => {
            let whole = step.get("behavior").and_then(Value::as_str) == Some("Isolated")
                && step.get("invert").and_then(Value::as_bool) == Some(false);
            pattern(step, "Regex")
                .filter(|regex| whole && KNOWN.contains(regex))
                .map(|_| true)
        }
        "Digits" | "Punctuation" => Some(false),
        "Whitespace" | "WhitespaceSplit" | "BertPreTokenizer" => Some(true),
        _ => None,
    };
    let steps = TokenizerFile::steps(&file.pre_tokenizer);
    let steps: Option<Vec<bool>> = steps.into_iter().map(ends_words).collect();
    let words = steps.is_some_and(|steps| steps.contains(&true));
    words && TokenizerFile::steps(&file.normalizer).into_iter().all(local)
}

/// The place for a BPE model that treats a whole text, or the text between two spaces, as one word.
fn single_word(file: &TokenizerFile, tokenizer: &tokenizers::Tokenizer) -> Option<Place> {
    let model = &file.model;
    if model.kind.is_none() || !model.is_plain_bpe() || model.ignores_merges() {
        return None;
    }
    let mut prefixed = false;
    for step in TokenizerFile::steps(&file.normalizer) {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        match kind(step) {
            "Replace" if pattern(step, "String") == Some(" ") && text("content") == Some(SPACE) => {}
            "Prepend" if text("prepend") == Some(SPACE) => prefixed = true,
            _ => return None,
        }
    }
    for step in TokenizerFile::steps(&file.pre_tokenizer) {
        match kind(step) {
            "Metaspace" => {
                let replaced = step.get("replacement").and_then(Value::as_str) == Some(SPACE);
                let scheme = step.get("prepend_scheme").and_then(Value::as_str)?;
                if !replaced || prefixed {
                    return None;
                }
                prefixed = scheme != "never";
            }
            "Split" if pattern(step, "String") == Some(" ") => {}
            _ => return None,
        }
    }
    let vocabulary = tokenizer.get_vocab(true);
    // A character without a token of its own could be taken together with its neighbour.
    if !["\n", "<0x0A>"].iter().any(|feed| vocabulary.contains_key(*feed)) {
        return None;
    }
    let crosses = |token: &String| {
        token
            .as_bytes()
            .windows(2)
            .any(|pair| pair[1] == b'\n' && pair[0] != b'\n')
    };
    if vocabulary.keys().any(crosses) {
        return None;
    }
    let prefix = prefixed.then(|| vocabulary.get(SPACE).copied());
    match prefix {
        Some(None) => None,
        found => Some(Place::Line {
            prefix: found.flatten(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Place = Place::Word {
        digits: false,
        marks: false,
    };

    #[test]
    fn pieces_are_the_text_and_begin_at_their_places() {
        let text = "It was the best of times,\nit was the worst.\n\n\u{e9}t\u{e9} de lumi\u{e8}re ab cd ef";
        for least in 0..text.len() {
            for (place, begin) in [(WORD, ' '), (Place::Line { prefix: None }, '\n')] {
                let pieces = place.pieces(text, least);
                assert_eq!(pieces.concat(), text);
                assert!(pieces[1..].iter().all(|piece| piece.starts_with(begin)), "{pieces:?}");
                assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= least));
            }
        }
        let pieces = WORD.pieces("ab cd E fg\n hi jk", 1);
        assert_eq!(pieces, ["ab", " cd E fg\n hi", " jk"]);
        let everywhere = Place::Word {
            digits: true,
            marks: true,
        };
        let pieces = everywhere.pieces("ab12cd 3\u{5b57}\u{3002}\u{5b57}\u{ff0c}x\u{3002}\u{e9}1", 1);
        assert_eq!(
            pieces,
            [
                "ab",
                "12",
                "cd 3\u{5b57}",
                "\u{3002}\u{5b57}",
                "\u{ff0c}x\u{3002}\u{e9}1"
            ]
        );
        let pieces = Place::Line { prefix: None }.pieces("a\n\nb\n", 1);
        assert_eq!(pieces, ["a", "\n\nb", "\n"]);
    }

    #[test]
    fn added_tokens_that_reach_across_a_place_forbid_it() {
        let line = Place::Line { prefix: None };
        for (content, rstrip, single_word, word, at_line) in [
            ("<|endoftext|>", false, false, true, true),
            ("<|endoftext|>", true, false, true, false),
            ("two words", false, false, false, false),
            ("mask", true, false, false, false),
            ("\n\n", false, false, true, true),
            ("a\nb", false, false, false, false),
            (" x", false, true, false, false),
            ("x", false, true, true, false),
            ("two words>", false, false, false, true),
        ] {
            let token = AddedToken::from(content, false).rstrip(rstrip).single_word(single_word);
            assert_eq!(WORD.is_clear_of(&token), word, "{token:?}");
            assert_eq!(line.is_clear_of(&token), at_line, "{token:?}");
        }
    }
}
