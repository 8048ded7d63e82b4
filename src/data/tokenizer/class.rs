//! Classes of transformers (5.24) that make a tokenizer anew.
//!
//! Most classes take `tokenizer.json` as it is. These take its vocabulary, its merges and, with two exceptions, its
//! post-processor, and put a normalizer, a pre-tokenizer and settings of the model of their own in place of the file's;
//! of the added tokens they have those that the files beside it list, or the file's where no list is there.

use super::file::{OwnModel, TokenizerFile};
use super::words::QWEN2_WORDS;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// A tokenizer class of transformers that does not use `tokenizer.json` as it is, but builds its tokenizer from the
/// file's vocabulary.
pub(super) struct Class {
    pub(super) name: &'static str,
    /// Model types whose tokenizers are of this class if no file says otherwise.
    models: &'static [&'static str],
    /// The tokens that the class names if the files do not, in the order of the class.
    pub(super) tokens: &'static [(&'static str, &'static str)],
    /// Whether the class puts BOS before and EOS after a text; `None` if the post-processor of `tokenizer.json`
    /// decides.
    pub(super) around: Option<(bool, bool)>,
    /// Whether the class adds its special tokens a second time, without properties.
    pub(super) plain: bool,
    /// `None` if the class ignores `add_prefix_space`, otherwise the value that it has if no file sets it.
    pub(super) space: Option<bool>,
    parts: fn(space: bool, legacy: bool) -> Parts,
}

/// The parts of `tokenizer.json` that a class replaces.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    /// Whether text that is not in the vocabulary becomes the unknown token.
    unknown: bool,
    fuse_unknown: bool,
    byte_fallback: bool,
}

/// GPT-2's token for the end of a text.
const END: &str = "<|endoftext|>";

const CLASSES: [Class; 6] = [
    Class {
        name: "LlamaTokenizer",
        models: &[],
        tokens: &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
        around: None,
        plain: false,
        space: Some(true),
        parts: |space, legacy| match (space, legacy) {
            (false, _) => pieces("never", false),
            (true, true) => pieces("always", false),
            (true, false) => pieces("first", false),
        },
    },
    Class {
        name: "CodeLlamaTokenizer",
        models: &[],
        tokens: &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("unk_token", "<unk>"),
            ("prefix_token", "\u{2581}<PRE>"),
            ("middle_token", "\u{2581}<MID>"),
            ("suffix_token", "\u{2581}<SUF>"),
            ("eot_token", "\u{2581}<EOT>"),
            ("fill_token", "<FILL_ME>"),
        ],
        around: Some((true, false)),
        plain: false,
        space: Some(true),
        parts: |space, _| pieces(if space { "first" } else { "never" }, true),
    },
    Class {
        name: "GPT2Tokenizer",
        models: &["gpt2", "opt"],
        tokens: &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
        around: None,
        plain: false,
        space: Some(false),
        parts: |space, _| bytes(Value::Null, words(space)),
    },
    Class {
        name: "GPTNeoXTokenizer",
        models: &["gpt_neox"],
        tokens: &[
            ("bos_token", END),
            ("eos_token", END),
            ("unk_token", END),
            ("pad_token", "<|padding|>"),
        ],
        around: Some((false, false)),
        plain: false,
        space: Some(false),
        parts: |space, _| bytes(json!({"type": "NFC"}), words(space)),
    },
    Class {
        name: "Qwen2Tokenizer",
        models: &["qwen2", "qwen3"],
        tokens: &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
        around: None,
        plain: true,
        space: Some(false),
        parts: |space, _| {
            let split =
                json!({"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false});
            let bytes_of =
                json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": false});
            let both = json!({"type": "Sequence", "pretokenizers": [split, bytes_of]});
            bytes(json!({"type": "NFC"}), both)
        },
    },
    Class {
        name: "GemmaTokenizer",
        models: &["gemma2", "gemma3_text"],
        tokens: &[
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        around: None,
        plain: false,
        space: None,
        parts: |_, _| Parts {
            normalizer: json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}),
            pre_tokenizer: json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            ..pieces("never", true)
        },
    },
];

/// Classes that have other parts, or another implementation altogether. No family that is pruned here uses them, so a
/// configuration that names one is refused.
const OTHERS: &[&str] = &[
    "AlbertTokenizer",
    "BartTokenizer",
    "BarthezTokenizer",
    "BartphoTokenizer",
    "BertGenerationTokenizer",
    "BertJapaneseTokenizer",
    "BertTokenizer",
    "BertTokenizerLegacy",
    "BertweetTokenizer",
    "BigBirdTokenizer",
    "BioGptTokenizer",
    "BlenderbotSmallTokenizer",
    "BlenderbotTokenizer",
    "ByT5Tokenizer",
    "CLIPTokenizer",
    "CTRLTokenizer",
    "CamembertTokenizer",
    "CanineTokenizer",
    "ClvpTokenizer",
    "CodeGenTokenizer",
    "CohereTokenizer",
    "ConvBertTokenizer",
    "CpmAntTokenizer",
    "CpmTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "DiaTokenizer",
    "DistilBertTokenizer",
    "EsmTokenizer",
    "EsmcTokenizer",
    "FNetTokenizer",
    "FSMTTokenizer",
    "FlaubertTokenizer",
    "FunnelTokenizer",
    "GPTNeoXJapaneseTokenizer",
    "GPTSw3Tokenizer",
    "HerbertTokenizer",
    "LEDTokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "LxmertTokenizer",
    "M2M100Tokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MPNetTokenizer",
    "MarianTokenizer",
    "MarkupLMTokenizer",
    "MgpstrTokenizer",
    "MistralCommonBackend",
    "MobileBertTokenizer",
    "MvpTokenizer",
    "MyT5Tokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PLBartTokenizer",
    "PegasusTokenizer",
    "PerceiverTokenizer",
    "PhobertTokenizer",
    "ProphetNetTokenizer",
    "Qwen3_5Tokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RoCBertTokenizer",
    "RoFormerTokenizer",
    "RobertaTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SiglipTokenizer",
    "Speech2TextTokenizer",
    "SpeechT5Tokenizer",
    "SplinterTokenizer",
    "SqueezeBertTokenizer",
    "T5Tokenizer",
    "TapasTokenizer",
    "Tipsv2Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "VitsTokenizer",
    "Wav2Vec2CTCTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
    "XLMTokenizer",
    "XLNetTokenizer",
];

/// GPT-2's division into words, as bytes; `space` says whether a space is put before the text.
fn words(space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true})
}

fn bytes(normalizer: Value, pre_tokenizer: Value) -> Parts {
    Parts {
        normalizer,
        pre_tokenizer,
        unknown: false,
        fuse_unknown: false,
        byte_fallback: false,
    }
}

/// SentencePiece's division: the whole text is one word, with visible spaces, and characters that are not in the
/// vocabulary become bytes.
fn pieces(scheme: &str, unknown: bool) -> Parts {
    Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false}),
        unknown,
        fuse_unknown: true,
        byte_fallback: true,
    }
}

/// The class that builds the tokenizer again, if there is one: chosen as `AutoTokenizer` does, from
/// `tokenizer_config.json`, `config.json` and whether the text of `tokenizer.json` mentions bytes.
///
/// # Errors
/// A class that is not supported.
pub(super) fn class(
    config: &Map<String, Value>,
    model: &Map<String, Value>,
    byte_level: bool,
) -> Result<Option<&'static Class>> {
    let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(String::from);
    let model_type = text(model, "model_type").unwrap_or_default();
    let registered = CLASSES.iter().find(|class| class.models.contains(&model_type.as_str()));
    let said = text(config, "tokenizer_class")
        .or_else(|| text(model, "tokenizer_class"))
        .filter(|said| !said.is_empty());
    let Some(said) = said else {
        return Ok(registered);
    };
    let said = said.strip_suffix("Fast").unwrap_or(&said);
    match model_type.as_str() {
        // Known there for files that name the wrong class.
        "qwen2" => return Ok(registered),
        // Takes the file as it is, whatever class is named.
        "mistral" => return Ok(None),
        _ => {}
    }
    if OTHERS.contains(&said) {
        return Err(Error::input(format!(
            "`tokenizer_class` = \"{said}\": transformers builds such a tokenizer by rules that zprune does not have; if tokenizer.json \
             is right as it is, write \"PreTrainedTokenizerFast\""
        )));
    }
    let class = CLASSES.iter().find(|class| class.name == said);
    Ok(class.filter(|class| class.name != "LlamaTokenizer" || !byte_level))
}

impl Class {
    /// `tokenizer.json` as this class builds it again, with `unknown` as the unknown token.
    ///
    /// # Errors
    /// The file has another kind of model.
    pub(super) fn remade(
        &self,
        own: &TokenizerFile,
        space: bool,
        legacy: bool,
        unknown: &str,
    ) -> Result<TokenizerFile> {
        if !own.model.is_plain_bpe() {
            let kind = own.model.kind.as_deref().unwrap_or("BPE");
            return Err(Error::input(format!(
                "the tokenizer is a {}, which transformers builds from plain BPE, but tokenizer.json has a model of the kind {kind}; \
                 write \"tokenizer_class\": \"PreTrainedTokenizerFast\" in tokenizer_config.json if tokenizer.json is right as it is",
                self.name
            )));
        }
        let parts = (self.parts)(space, legacy);
        Ok(TokenizerFile {
            added_tokens: Vec::new(),
            normalizer: parts.normalizer,
            pre_tokenizer: parts.pre_tokenizer,
            post_processor: own.post_processor.clone(),
            model: OwnModel::bpe(
                parts.unknown.then(|| unknown.to_string()),
                parts.fuse_unknown,
                parts.byte_fallback,
            ),
        })
    }
}
