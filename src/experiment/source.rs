//! The text of an experiment file, and how it is read: past each mistake, so that all of them are found at once.

use super::misplaced;
use super::problems::{Problems, WHOLE};
use super::raw::RawExperiment;
use super::schema::sections_with;
use super::syntax;
use crate::error::{Error, Located, Result};
use crate::files::input;
use crate::files::near::meant;
use crate::registry::{HERE, nearest, plain};
use serde::Deserialize;
use serde_spanned::Spanned;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

/// More mistakes than this end the reading: it begins anew after each of them.
const MOST: usize = 100;

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Keys that people write for others, and what is meant.
const MEANT: [(&str, &str); 10] = [
    (
        "sparsities",
        "how much is removed is written `patterns = [0.5, \"2:4\"]`",
    ),
    ("sparsity", "how much is removed is written `patterns = [0.5, \"2:4\"]`"),
    (
        "models",
        "a model is written `[[model]]`, with its `path` or `hub` below",
    ),
    (
        "model",
        "a model is written `[[model]]`, with its `path` or `hub` below",
    ),
    ("tasks", "a task is written `[[task]]`, with its `name` below"),
    (
        "evaluations",
        "a text to measure is written `[[evaluation]]`, with its `name` and `corpus` below",
    ),
    (
        "dataset",
        "the text is written `corpus = \"c4.jsonl\"`, or `corpus = \"hub:c4\"`",
    ),
    ("nsamples", "the number of windows is written `sequences = 128`"),
    ("samples", "the number of windows is written `sequences = 128`"),
    ("seqlen", "the number of tokens in a window is written `length = 2048`"),
];

/// Values that other programs have for those of zprune.
pub const OTHER_NAMES: [(&str, &str); 10] = [
    ("cuda", "gpu"),
    ("vulkan", "gpu"),
    ("metal", "gpu"),
    ("mps", "gpu"),
    ("bfloat16", "bf16"),
    ("float16", "f16"),
    ("fp16", "f16"),
    ("half", "f16"),
    ("float32", "f32"),
    ("fp32", "f32"),
];

/// The text of an experiment file.
pub struct Source {
    /// Path of the file, for messages; the paths that the file names are relative to its folder.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
}

impl Source {
    /// Reads the file; the path `-` is standard input, whose paths are relative to the working directory.
    ///
    /// # Errors
    /// The file is missing, not a regular file, not UTF-8 or too large.
    pub fn read(path: &Path) -> Result<Self> {
        if path == Path::new(STANDARD_INPUT) {
            let path = PathBuf::from("standard input");
            let text = standard_input().at(path.display())?;
            return Ok(Source { path, text });
        }
        let text = input::read_text(path, input::SMALL).map_err(|error| {
            if path.exists() {
                return error;
            }
            let how =
                meant(path).unwrap_or_else(|| "`zprune init FILE` writes an experiment to start from".to_string());
            Error::input(format!("no such file or directory; {how}")).at(path.display())
        })?;
        Ok(Source {
            path: path.to_path_buf(),
            text,
        })
    }

    /// The experiment as it was typed, without what could not be read; all of that is a problem. `None` if nothing could be read.
    pub fn parse(&self, problems: &mut Problems) -> Option<RawExperiment> {
        let (mut table, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            syntax::take(&self.text, errors, problems);
            return None;
        }
        for _ in 0..MOST {
            let error = match RawExperiment::deserialize(Deserializer::from(table.clone())) {
                Ok(raw) => {
                    note_places(table.get_ref(), &WHOLE, problems);
                    return Some(raw);
                }
                Err(error) => error,
            };
            let span = error.span().unwrap_or(WHOLE);
            let message = error.message();
            let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
            let (name, known) = names
                .split_first()
                .map_or(("", &[][..]), |(name, known)| (*name, known));
            let unknown = message.starts_with("unknown field");
            let misplaced = misplaced::said(&self.text, table.get_ref(), &span, message);
            let place = removed(table.get_mut(), &WHOLE, &span);
            // Names of methods, each of which would be told the same.
            let names = place.as_ref().is_some_and(|(table, key, _)| {
                *table == WHOLE && key == "method" && message.starts_with("invalid type: string")
            });
            let lacks = message.starts_with("missing field") && problems.lost(&span, name);
            let told = names && problems.lost(&WHOLE, "method");
            if !lacks && !told {
                let said = match &place {
                    Some(_) if names => {
                        "methods by name are written `methods = [\"wanda\", \"sparsegpt\"]`; [[method]] begins a section with the keys \
                         of one method"
                            .to_string()
                    }
                    Some((_, key, _)) if message == SINGLE_SECTION => format!(
                        "there may be several of this section: write its name in two pairs of brackets, [[{key}]]"
                    ),
                    Some((_, key, _)) if key == "seeds" && message.ends_with("expected a sequence") => {
                        match name.parse() {
                            Ok(count @ 2..=8u64) => {
                                let seeds: Vec<String> = (0..count).map(|seed| seed.to_string()).collect();
                                format!(
                                    "`seeds` must be a list: {count} seeds are [{}], and the seed {count} alone is [{count}]",
                                    seeds.join(", ")
                                )
                            }
                            _ => "`seeds` must be a list, such as [0, 1, 2]".to_string(),
                        }
                    }
                    Some((_, key, _)) if key == "memory" => {
                        "`memory` must be an amount of memory, in quotes, such as \"12GiB\"".to_string()
                    }
                    place => {
                        let said = misplaced.unwrap_or_else(|| said(message, (name, known), unknown));
                        match (said.strip_prefix(HERE), place) {
                            (Some(wanted), Some((_, key, Part::Value))) => format!("`{key}` must be {wanted}"),
                            (Some(wanted), Some((_, key, Part::Element))) => {
                                format!("each value of `{key}` must be {wanted}")
                            }
                            _ => said,
                        }
                    }
                };
                problems.add(span.clone(), Error::config(said));
            }
            let (table, key, _) = place?;
            // What a misspelt key was meant for is not missing, either.
            if let Some(near) = nearest(name, known).filter(|_| unknown) {
                problems.lose(table.clone(), near);
            }
            problems.lose(table, &key);
        }
        None
    }
}

/// The text of standard input.
fn standard_input() -> Result<String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(input::SMALL + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::input(format!("cannot read: {error}")).caused_by(error))?;
    match bytes.len() as u64 > input::SMALL {
        true => Err(Error::input(format!(
            "an experiment has at most {} bytes",
            input::SMALL
        ))),
        false => input::text(bytes),
    }
}

/// What the reader says of `[name]` where `[[name]]` is meant.
const SINGLE_SECTION: &str = "invalid type: map, expected a sequence";

/// How like a key of its section a key must be, to be taken for a slip of the pen.
const SLIP: f64 = 0.9;

/// What the reader of keys and values says, in plain words; `name` is the key or value that it is about, `known` are those that could be
/// there.
fn said(message: &str, (name, known): (&str, &[&str]), unknown: bool) -> String {
    let other = OTHER_NAMES
        .iter()
        .find(|(typed, meant)| !unknown && *typed == name && known.contains(meant));
    if let Some((_, meant)) = other {
        return format!("unknown value `{name}`; did you mean `{meant}`?");
    }
    let meant = MEANT.iter().find(|(typed, _)| unknown && *typed == name);
    if let Some((_, meant)) = meant {
        return format!("unknown key `{name}`: {meant}");
    }
    // What is nearly a key of its own section is meant to be that one.
    let slip = known.iter().any(|key| strsim::jaro_winkler(key, name) > SLIP);
    let places = if unknown && !slip {
        sections_with(name)
    } else {
        Vec::new()
    };
    match places.as_slice() {
        [] => plain(message),
        [top] if top.is_empty() => format!(
            "unknown key `{name}` here: it belongs at the top of the file, before the first section; what follows a section's name is part \
             of that section"
        ),
        places => {
            let places: Vec<&str> = places
                .iter()
                .map(String::as_str)
                .filter(|place| !place.is_empty())
                .collect();
            format!("unknown key `{name}` here: it belongs in {}", places.join(" or "))
        }
    }
}

/// Takes note of where the values of a table stand, which itself stands at `place`.
fn note_places(table: &DeTable, place: &Range<usize>, problems: &mut Problems) {
    for (key, value) in table.iter() {
        note_place((key.get_ref(), key.span()), value, place, problems);
    }
}

fn note_place(
    (key, key_place): (&str, Range<usize>),
    value: &Spanned<DeValue>,
    table: &Range<usize>,
    problems: &mut Problems,
) {
    let place = value.span();
    problems.note(table, key, [key_place, place.clone()]);
    match value.get_ref() {
        DeValue::Table(inner) => note_places(inner, &place, problems),
        DeValue::Array(list) => {
            for (index, element) in list.iter().enumerate() {
                note_place((&index.to_string(), element.span()), element, &place, problems);
            }
        }
        _ => {}
    }
}

/// What a key has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its value.
    Value,
    /// An element of the list that is its value.
    Element,
}

/// Removes what stands at `span`, a key or a value, from the table that stands at `place`; the innermost, if there are
/// several. Returns the place of the table, the key that lost its value or a part of it, and which of the two.
fn removed(table: &mut DeTable, place: &Range<usize>, span: &Range<usize>) -> Option<(Range<usize>, String, Part)> {
    let mut own = None;
    for (key, value) in table.iter_mut() {
        let at = value.span();
        let here = key.span() == *span || at == *span;
        let within = match value.get_mut() {
            DeValue::Table(inner) => removed(inner, &at, span),
            DeValue::Array(array) => removed_element(array, (place, key.get_ref()), span),
            _ => None,
        };
        if within.is_some() {
            return within;
        }
        if here {
            own = Some(key.get_ref().to_string());
        }
    }
    let key = own?;
    table.remove(key.as_str());
    Some((place.clone(), key, Part::Value))
}

/// As [`removed`], for the list that is the value of `owner`: the place of a table, and a key in it.
fn removed_element(
    array: &mut DeArray,
    owner: (&Range<usize>, &str),
    span: &Range<usize>,
) -> Option<(Range<usize>, String, Part)> {
    for element in array.iter_mut() {
        let at = element.span();
        let within = match element.get_mut() {
            DeValue::Table(inner) => removed(inner, &at, span),
            DeValue::Array(inner) => removed_element(inner, owner, span),
            _ => None,
        };
        if within.is_some() {
            return within;
        }
    }
    let kept = array
        .iter()
        .filter(|element| element.span() != *span)
        .cloned()
        .collect();
    let before = std::mem::replace(array, kept).len();
    (array.len() < before).then(|| (owner.0.clone(), owner.1.to_string(), Part::Element))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> (Option<RawExperiment>, String) {
        let mut problems = Problems::default();
        let source = Source {
            path: "x.toml".into(),
            text: text.to_string(),
        };
        let raw = source.parse(&mut problems);
        let said = problems.in_file(&source.path, text).err();
        (raw, said.map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn reading_goes_on_after_each_mistake() {
        let text = "nmae = \"x\"\nsparsities = [0.5]\n[sweep]\nseeds = [0, -1]\npatterns = [0.5, true, \"2:4\"]\n\
                    [[method]]\ncriterion = \"wanda\"\nslover = \"obs\"\n[[method]]\ncriterion = { power = 1 }\n\
                    [[evaluation]]\nlength = \"all\"\n[[evaluation]]\nname = \"b\"\nwindows = 2\n";
        let (raw, said) = problems(text);
        let raw = raw.expect("what is left can be read");
        assert_eq!((raw.method.len(), raw.evaluation.len()), (2, 1));
        assert!(raw.method[0].get_ref().criterion.is_some() && raw.method[1].get_ref().criterion.is_none());
        let sweep = raw.sweep.expect("a sweep");
        assert_eq!((sweep.get_ref().seeds.len(), sweep.get_ref().patterns.len()), (1, 2));
        for part in [
            "x.toml has 8 mistakes",
            "x.toml:1:1: unknown key `nmae`; did you mean `name`?",
            "x.toml:2:1: unknown key `sparsities`: how much is removed is written `patterns = [0.5, \"2:4\"]`",
            "x.toml:4:13: each value of `seeds` must be a whole number, 0 or larger, not the number -1",
            "x.toml:5:18: each value of `patterns` must be a pattern, such as 0.5, \"50%\" or \"2:4\"",
            "x.toml:8:1: unknown key `slover`; did you mean `solver`?",
            "x.toml:10:13: `name` is missing",
            "x.toml:11:1: `name` is missing",
            "x.toml:12:10: `length` must be a number of tokens, \"max_position_embeddings\", or the smaller of both, as in \
             \"min(2048, max_position_embeddings)\", not the text \"all\"",
        ] {
            assert!(said.contains(part), "no `{part}` in:\n{said}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_told_where_it_belongs() {
        let says = |text: &str, expect: &str| {
            let (_, said) = problems(text);
            assert!(said.contains(expect), "{text}: {said}");
        };
        says(
            "backend = \"gpu\"\n",
            "unknown key `backend` here: it belongs in [compute]\n",
        );
        says(
            "[calibration]\nseeds = [0]\n",
            "unknown key `seeds` here: it belongs in [sweep]\n",
        );
        says(
            "[sweep]\nbos = \"never\"\n",
            "unknown key `bos` here: it belongs at the top of the file",
        );
        says("sequences = 3\n", "it belongs in [calibration] or [search]\n");
        says("windows = 3\n", "it belongs in [[evaluation]]\n");
        // A slip of the pen is one in its own section.
        says("[sweep]\npaterns = [0.5]\n", "did you mean `patterns`?");
    }

    #[test]
    fn a_section_with_too_few_brackets_is_named() {
        let (_, said) = problems("[model]\npath = \"m\"\n");
        assert!(said.contains("in two pairs of brackets, [[model]]"), "{said}");
    }

    #[test]
    fn no_message_has_words_of_the_program() {
        for text in [
            "name = 3",
            "bos = 3",
            "bos = \"x\"",
            "model = 3",
            "model = \"x\"",
            "[model]",
            "[[model]]\npath = 3",
            "sweep = 3",
            "[[sweep]]",
            "[sweep]\nseeds = 0",
            "[sweep]\npatterns = 0.5",
            "[sweep]\npatterns = [[0.5]]",
            "[sweep]\npatterns = [{ keep = 0.5 }]",
            "[sweep]\nselection = 3",
            "methods = [3]",
            "methods = \"wanda\"",
            "[[method]]\ncriterion = 3",
            "[[method]]\ncriterion = { name = 3 }",
            "[[method]]\ngroup = []",
            "[[task]]\nlimit = \"all\"",
            "[compute]\nmemory = 3",
            "[report]\ntables = [\"solver\"]",
            "[report]\ntables = [[\"solvr\", \"refine\"]]",
            "[[model]]\nexpected = 3",
            "[[model]]\nexpected.x = 3",
            "[[reference]]\nvalues = []",
            "[[comparison]]\nagainst = \"x\"",
            "[calibration]\nlength = -3",
            "[calibration]\nlength = 0.5",
            "name = 1979-05-27",
        ] {
            let (_, said) = problems(text);
            assert!(!said.is_empty(), "{text}");
            for word in [
                "struct", "enum", "f64", "usize", "u64", "Raw", "sequence", "map", "field", "variant", "serde",
            ] {
                assert!(!said.contains(word), "`{word}` for {text}:\n{said}");
            }
        }
    }

    #[test]
    fn slips_that_hide_others_are_named_themselves() {
        for (text, part) in [
            (
                "methods = [\"wanda\", \"sparsegpt]\n[sweep]\nseeds = [0]\n",
                "x.toml:1:32: this text does not end",
            ),
            ("name = “wanda”\n", "x.toml:1:8: “ is not a quote in TOML"),
            (
                "method = [\"wanda\", \"ria\"]\n",
                "x.toml:1:11: methods by name are written `methods = [\"wanda\", \"sparsegpt\"]`",
            ),
            (
                "method = \"wanda\"\n",
                "x.toml:1:10: methods by name are written `methods = [\"wanda\", \"sparsegpt\"]`",
            ),
            (
                "[sweep]\nseeds = 3\n",
                "x.toml:2:9: `seeds` must be a list: 3 seeds are [0, 1, 2], and the seed 3 alone is [3]",
            ),
        ] {
            let (_, said) = problems(text);
            assert!(said.contains(part), "{text}: {said}");
            assert!(!said.contains("this list does not end"), "{said}");
        }
    }

    #[test]
    fn every_line_that_is_no_toml_is_shown() {
        let (raw, said) = problems("name = \"x\nbos = tokenizer\n[sweep]\nseeds = [0]\nseeds = [1]\n");
        assert!(raw.is_none());
        for part in [
            "x.toml:1:",
            "does not end",
            "x.toml:2:7: a text must be in quotes",
            "x.toml:5:1: this key is there already",
        ] {
            assert!(said.contains(part), "no `{part}` in:\n{said}");
        }
    }
}
