//! `tokenizer.json` as data: what its neighbours and the cutting of texts ask about it, and what must be known before
//! the crate `tokenizers` reads it: that crate reserves memory by sizes in the file, and where there is no such memory
//! the program ends, while a panic could be caught.

use crate::error::{Error, Located, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

/// The longest replacement that is accepted, in bytes; the longest one in SentencePiece's own rules has 33.
const LONGEST_REPLACEMENT: usize = 256;

/// How many times longer a text may become by all replacements together. Real files stay below 6000 at worst.
const MOST_GROWTH: usize = 1 << 16;

/// How many times longer NFKC and NFKD can make a text: one character of 3 bytes becomes 33 bytes.
const COMPATIBILITY_GROWTH: usize = 11;

/// The parts of `tokenizer.json` that zprune looks at itself.
#[derive(Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub(super) added_tokens: Vec<OwnToken>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    pub(super) model: OwnModel,
}

/// An added token and its id.
#[derive(Deserialize)]
pub(super) struct OwnToken {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) token: AddedToken,
}

/// The model without its vocabulary and merges.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct OwnModel {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

impl OwnModel {
    /// Plain BPE with these settings.
    pub(super) fn bpe(unk_token: Option<String>, fuse_unk: bool, byte_fallback: bool) -> Self {
        OwnModel {
            kind: Some("BPE".to_string()),
            unk_token,
            fuse_unk: Some(fuse_unk),
            byte_fallback: Some(byte_fallback),
            ..OwnModel::default()
        }
    }

    /// Whether it is a BPE model that does not mark the parts of a word; files that name no kind have this one.
    pub(super) fn is_plain_bpe(&self) -> bool {
        let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        self.kind.as_deref().is_none_or(|kind| kind == "BPE")
            && empty(&self.continuing_subword_prefix)
            && empty(&self.end_of_word_suffix)
    }

    /// Whether a word that is a token itself is taken as it is, without applying merges.
    pub(super) fn ignores_merges(&self) -> bool {
        self.ignore_merges.unwrap_or(false)
    }

    /// Whether text that is not in the vocabulary becomes the tokens of its bytes.
    pub(super) fn falls_back_to_bytes(&self) -> bool {
        self.byte_fallback.unwrap_or(false)
    }

    /// The token for text that is not in the vocabulary, and whether several of them in a row become one.
    pub(super) fn unknown(&self) -> Option<(&str, bool)> {
        let token = self.unk_token.as_deref().filter(|token| !token.is_empty());
        token.map(|token| (token, self.fuse_unk.unwrap_or(false)))
    }
}

impl TokenizerFile {
    /// Parses the file and refuses what the tokenizers crate cannot handle.
    ///
    /// # Errors
    /// Broken JSON, and by name: malformed or overlong replacements, random tokens.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let file: TokenizerFile = serde_json::from_str(text)
            .map_err(|error| Error::input(format!("not a tokenizer: {error}")).caused_by(error))?;
        let growth = growth(&file.normalizer).at("`normalizer`")?;
        if growth > MOST_GROWTH {
            let message =
                format!("`normalizer` can make a text {growth} times as long; {MOST_GROWTH} times is the limit");
            return Err(Error::input(message));
        }
        if let Some(dropout) = file.model.dropout.filter(|dropout| *dropout != 0.0) {
            let message = format!("`model.dropout` = {dropout} makes the tokens of a text random; set it to null");
            return Err(Error::input(message));
        }
        Ok(file)
    }

    /// The steps of `normalizer` or `pre_tokenizer`, in order, including those inside sequences.
    pub(super) fn steps(part: &Value) -> Vec<&Value> {
        let inner = ["normalizers", "pretokenizers"]
            .iter()
            .find_map(|key| part.get(*key)?.as_array());
        match inner {
            Some(list) => list.iter().flat_map(TokenizerFile::steps).collect(),
            None if part.is_null() => Vec::new(),
            None => vec![part],
        }
    }
}

/// The name of a step's kind, such as `Replace`.
pub(super) fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The literal text or the regular expression that a step looks for.
pub(super) fn pattern<'a>(step: &'a Value, sort: &str) -> Option<&'a str> {
    step.get("pattern")?.get(sort)?.as_str()
}

/// How many times longer the normalizer can make a text.
fn growth(normalizer: &Value) -> Result<usize> {
    let mut growth: usize = 1;
    for step in TokenizerFile::steps(normalizer) {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let longer = match kind(step) {
            "Precompiled" => {
                longest_rule(text("precompiled_charsmap").unwrap_or_default()).at("`precompiled_charsmap`")?
            }
            "Replace" => text("content").unwrap_or_default().len(),
            "Prepend" => 1 + text("prepend").unwrap_or_default().len(),
            "NFKC" | "NFKD" => COMPATIBILITY_GROWTH,
            "NFC" | "NFD" | "Lowercase" | "BertNormalizer" | "ByteLevel" => 3,
            _ => 1,
        };
        if longer > LONGEST_REPLACEMENT {
            let message = format!("a replacement has {longer} bytes; {LONGEST_REPLACEMENT} is the limit");
            return Err(Error::input(message).at(format_args!("`{}`", kind(step))));
        }
        growth = growth.saturating_mul(longer.max(1));
    }
    Ok(growth)
}

/// The length in bytes of the longest replacement in SentencePiece's rules. The format is: the size of a trie in
/// bytes (32 bits), the trie, and texts that end with a zero byte.
fn longest_rule(encoded: &str) -> Result<usize> {
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|error| Error::input(format!("not base64: {error}")).caused_by(error))?;
    let truncated = || {
        Error::input(format!(
            "truncated: {} bytes do not hold the trie they announce",
            bytes.len()
        ))
    };
    let (size, rest) = bytes.split_first_chunk().ok_or_else(truncated)?;
    let size = u32::from_le_bytes(*size) as usize;
    if !size.is_multiple_of(4) {
        return Err(Error::input(format!(
            "a trie of {size} bytes is not made of 32-bit units"
        )));
    }
    if size == 0 {
        return Err(Error::input(
            "its trie is empty; take `normalizer` from the original tokenizer.json, or set it to null",
        ));
    }
    let texts = rest.get(size..).ok_or_else(truncated)?;
    Ok(texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(normalizer: Value) -> Result<TokenizerFile> {
        TokenizerFile::parse(&json!({ "normalizer": normalizer }).to_string())
    }

    #[test]
    fn a_charsmap_that_announces_more_than_it_holds_is_refused() {
        let rules =
            |bytes: &[u8]| parsed(json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)}));
        for (bytes, why) in [
            (&[][..], "truncated: 0 bytes"),
            (&[0xff, 0xff, 0xff, 0xff, 0, 0], "not made of 32-bit units"),
            (&[0xfc, 0xff, 0xff, 0xff, 0, 0], "truncated: 6 bytes"),
            (&[0, 0, 0, 0, b'a', 0], "its trie is empty"),
            (
                &[&[4, 0, 0, 0, 0, 0, 0, 0][..], &[b'a'; 300]].concat(),
                "a replacement has 300 bytes",
            ),
        ] {
            let error = rules(bytes).err().expect("malformed").to_string();
            assert!(error.contains("`normalizer`: ") && error.contains(why), "{error}");
        }
        let mut whole = vec![4, 0, 0, 0, 1, 2, 3, 4];
        whole.extend(b"ab\0c\0");
        rules(&whole).expect("well-formed");
        let error = parsed(json!({"type": "Precompiled", "precompiled_charsmap": "*"}));
        assert!(error.err().expect("not base64").to_string().contains("not base64"));
    }

    #[test]
    fn replacements_that_multiply_are_refused() {
        let eight = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
        parsed(json!({"type": "Sequence", "normalizers": vec![eight.clone(); 5]})).expect("32768 times");
        let error = parsed(json!({"type": "Sequence", "normalizers": vec![eight; 30]}))
            .err()
            .expect("8^30");
        assert!(error.to_string().contains("times as long"), "{error}");
    }

    #[test]
    fn random_tokens_are_refused() {
        let error = TokenizerFile::parse(r#"{"model": {"type": "BPE", "dropout": 0.1}}"#).err();
        assert!(error.expect("random").to_string().contains("`model.dropout` = 0.1"));
        TokenizerFile::parse(r#"{"model": {"type": "BPE", "dropout": 0.0}}"#).expect("never drops");
    }
}
