//! Protocols: what a paper's code sets together, by name.
//!
//! A protocol fixes what makes two tables comparable: context length, BOS, sampling of calibration
//! windows, rule for ties, and the comparison group of one-shot methods. Where an experiment names one,
//! those settings may be left out; one that is written and differs is refused. Numbers of windows, corpora
//! and joins of other corpora than WikiText-2 stay free.

use crate::calibrate::Stage;
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::data::tokenizer::Bos;
use crate::error::{Error, Result};
use crate::prune::pattern::{Group, Selection};
use crate::registry::{Entry, Registry};
use crate::spec::ModelSpec;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Settings that belong together, because a paper's code has them all.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Tokens per window of evaluation.
    pub context: Length,
    /// Tokens per window of calibration.
    pub calibration: Length,
    /// Whether a text starts with the tokenizer's special tokens.
    pub bos: Bos,
    /// How the rows of an evaluation corpus become one text, unless the corpus has a way of its own.
    pub join: Join,
    /// How calibration windows are drawn.
    pub sampling: Sampling,
    /// Calibration windows, unless another number is written.
    pub sequences: usize,
    /// How many weights are removed if scores are equal.
    pub selection: Selection,
    /// The comparison group of every one-shot method, where it is not the criterion's own.
    pub one_shot: Option<Group>,
    /// What a layer's statistics are gathered on.
    pub stage: Stage,
    /// Which accuracy of a task counts in the average over tasks.
    pub averaged: Averaged,
}

/// Which accuracy of a task counts in the average over tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaged {
    /// `acc`.
    Plain,
    /// The larger of `acc` and `acc_norm`.
    Larger,
}

/// SparseGPT's code for LLaMA: 2048 tokens, 128 documents of C4, thresholds that remove ties.
const SPARSEGPT: Protocol = Protocol {
    context: Length::Tokens(2048),
    calibration: Length::Tokens(2048),
    bos: Bos::Tokenizer,
    join: Join::Wikitext,
    sampling: Sampling::Documents,
    sequences: 128,
    selection: Selection::Reference,
    one_shot: None,
    stage: Stage::Block,
    averaged: Averaged::Plain,
};

/// All protocols, by the names that experiment files give them.
pub const PROTOCOLS: Registry<Protocol> = Registry {
    kind: "protocol",
    entries: &[
        Entry {
            name: "sparsegpt",
            summary: "context 2048; documents; ties removed; each criterion's own group (arXiv 2301.00774)",
            item: SPARSEGPT,
        },
        Entry {
            name: "wanda",
            summary: "as sparsegpt, but context = max_position_embeddings, 4096 for LLaMA-2 (arXiv 2306.11695)",
            item: Protocol {
                context: Length::MaxPositions,
                calibration: Length::MaxPositions,
                ..SPARSEGPT
            },
        },
        Entry {
            name: "ria",
            summary: "as sparsegpt, but one-shot methods, Wanda too, compare whole matrices (ICLR 2024, default flags)",
            item: Protocol {
                one_shot: Some(Group::Matrix),
                ..SPARSEGPT
            },
        },
        Entry {
            name: "z-pruner",
            summary: "as ria; the paper calibrates on brando/small-c4-dataset, not on C4 itself (arXiv 2508.15828)",
            item: Protocol {
                one_shot: Some(Group::Matrix),
                ..SPARSEGPT
            },
        },
        Entry {
            name: "llm-pruner",
            summary: "context 128; 10 windows of 64 tokens; each criterion's own group (arXiv 2305.11627)",
            item: Protocol {
                context: Length::Tokens(128),
                calibration: Length::Tokens(64),
                sequences: 10,
                selection: Selection::Exact,
                ..SPARSEGPT
            },
        },
        Entry {
            name: "olica",
            summary: "context 128; 256 windows of 128 tokens; tasks by the larger of acc and acc_norm (ICML 2025)",
            item: Protocol {
                context: Length::Tokens(128),
                calibration: Length::Tokens(128),
                sequences: 256,
                selection: Selection::Exact,
                averaged: Averaged::Larger,
                ..SPARSEGPT
            },
        },
    ],
};

/// A protocol under the name an experiment gave.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The name by which the protocol is registered.
    pub name: &'static str,
    /// The settings that it stands for.
    pub settings: Protocol,
}

impl Named {
    /// Looks a protocol up.
    ///
    /// # Errors
    /// An unknown name, with the nearest known one.
    pub fn find(name: &str) -> Result<Self> {
        let entry = PROTOCOLS.find(name)?;
        Ok(Named {
            name: entry.name,
            settings: entry.item,
        })
    }
}

/// The value of a setting: what is written, or else what the protocol says.
///
/// # Errors
/// Both are there and differ.
pub fn agree<T: PartialEq + Serialize>(
    protocol: Option<Named>,
    key: &str,
    written: Option<T>,
    of: impl Fn(&Protocol) -> T,
) -> Result<Option<T>> {
    let Some(protocol) = protocol else {
        return Ok(written);
    };
    let set = of(&protocol.settings);
    match written {
        Some(written) if written != set => {
            let show = |value: &T| serde_json::to_string(value).unwrap_or_default();
            Err(Error::config(format!(
                "protocol `{}` sets {key} = {}, but here it is {}; leave out one of them",
                protocol.name,
                show(&set),
                show(&written)
            )))
        }
        _ => Ok(Some(set)),
    }
}

/// The number of tokens in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many, for every model.
    Tokens(usize),
    /// As many as the model was made for.
    MaxPositions,
    /// So many, but no more than the model was made for.
    AtMost(usize),
}

/// How the second kind of [`Length`] is written, and what surrounds the number of the third.
const MAX_POSITIONS: &str = "max_position_embeddings";
const AT_MOST: [&str; 2] = ["min(", ", max_position_embeddings)"];

impl Length {
    /// Tokens per window if nobody says how many: as papers have, or as many as the model was made for.
    pub const USUAL: Length = Length::AtMost(2048);

    /// Tokens per window for a model.
    pub fn of(self, spec: &ModelSpec) -> usize {
        match self {
            Length::Tokens(tokens) => tokens,
            Length::MaxPositions => spec.max_positions,
            Length::AtMost(tokens) => {
                let longest = spec.longest_window.unwrap_or(usize::MAX);
                tokens.min(spec.max_positions).min(longest)
            }
        }
    }

    /// Tokens per window, where every model has the same.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Length::Tokens(tokens) => Some(tokens),
            Length::MaxPositions | Length::AtMost(_) => None,
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Tokens(tokens) => write!(f, "{tokens}"),
            Length::MaxPositions => f.write_str(MAX_POSITIONS),
            Length::AtMost(tokens) => write!(f, "{}{tokens}{}", AT_MOST[0], AT_MOST[1]),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Length::Tokens(tokens) => tokens.serialize(serializer),
            Length::MaxPositions | Length::AtMost(_) => self.to_string().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct LengthVisitor;

        impl Visitor<'_> for LengthVisitor {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                let of_both = Length::USUAL;
                write!(
                    f,
                    "a number of tokens, \"{MAX_POSITIONS}\", or the smaller of both, as in \"{of_both}\""
                )
            }

            fn visit_u64<E: de::Error>(self, tokens: u64) -> std::result::Result<Length, E> {
                let tokens = usize::try_from(tokens).map_err(|_| E::custom("too many tokens"))?;
                Ok(Length::Tokens(tokens))
            }

            fn visit_i64<E: de::Error>(self, tokens: i64) -> std::result::Result<Length, E> {
                let tokens =
                    u64::try_from(tokens).map_err(|_| E::invalid_value(de::Unexpected::Signed(tokens), &self))?;
                self.visit_u64(tokens)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Length, E> {
                let [before, behind] = AT_MOST;
                let tokens = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
                match tokens.and_then(|tokens| tokens.parse().ok()) {
                    // A window of one token predicts nothing.
                    Some(tokens) if tokens >= 2 => Ok(Length::AtMost(tokens)),
                    None if name == MAX_POSITIONS => Ok(Length::MaxPositions),
                    _ => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
                }
            }
        }

        deserializer.deserialize_any(LengthVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_they_are_read() {
        #[derive(Serialize, Deserialize)]
        struct File {
            length: Length,
        }
        let typed = [
            "512",
            "\"max_position_embeddings\"",
            "\"min(2048, max_position_embeddings)\"",
        ];
        let lengths = [Length::Tokens(512), Length::MaxPositions, Length::USUAL];
        for (typed, expected) in typed.into_iter().zip(lengths) {
            let text = format!("length = {typed}\n");
            let read: File = toml::from_str(&text).expect(typed);
            assert_eq!(read.length, expected);
            assert_eq!(toml::to_string(&read).expect("TOML"), text);
        }
        for wrong in [
            "min(1, max_position_embeddings)",
            "min(x, max_position_embeddings)",
            "min(2048)",
        ] {
            assert!(
                toml::from_str::<File>(&format!("length = \"{wrong}\"")).is_err(),
                "{wrong}"
            );
        }
        let config = include_str!("../../models/tiny-llama/config.json");
        let spec = crate::model::families::parse_spec(config).expect("the embedded model's");
        let most = spec.max_positions;
        assert_eq!(Length::AtMost(most + 1).of(&spec), most);
        assert_eq!(Length::AtMost(most - 1).of(&spec), most - 1);
    }

    #[test]
    fn what_is_written_may_repeat_a_protocol_but_not_contradict_it() {
        let wanda = Named::find("wanda").ok();
        let length = |written| agree(wanda, "length", written, |protocol| protocol.context);
        assert_eq!(length(None).expect("nothing is written"), Some(Length::MaxPositions));
        assert!(length(Some(Length::MaxPositions)).is_ok());
        let error = length(Some(Length::Tokens(2048))).expect_err("Wanda's context is the model's");
        assert_eq!(
            error.to_string(),
            "protocol `wanda` sets length = \"max_position_embeddings\", but here it is 2048; leave out one of them"
        );
        let free = agree(None, "length", Some(Length::Tokens(7)), |protocol| protocol.context);
        assert_eq!(free.expect("no protocol"), Some(Length::Tokens(7)));
    }
}
