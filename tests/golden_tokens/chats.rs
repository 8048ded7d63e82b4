//! Claim: conversations are written as transformers' `apply_chat_template` writes them, letter for letter, and have its tokens.
//!
//! `tests/golden/chats.json` was made by `tools/make_golden_chats.py` from the templates of `tests/fixtures/chats`, which use what the
//! templates of Llama, Qwen, Mistral, Gemma, Phi and SmolLM use.

use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use zprune::data::chat::{Chat, Turn};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::error::Result;

/// The tiny tokenizer of the tests with other files beside it.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/tokenizer.json");
    std::fs::copy(fixture, folder.path().join("tokenizer.json")).expect("writable");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("writable");
    }
    folder
}

fn chat(folder: &TempDir) -> Result<(Chat, Tokenizer)> {
    let tokenizer = Tokenizer::load(folder.path())?;
    Ok((Chat::read(folder.path(), &tokenizer)?, tokenizer))
}

fn turns(said: &[String]) -> Vec<Turn<'_>> {
    let each = said.iter().enumerate();
    each.map(|(at, content)| Turn {
        role: ["user", "assistant"][at % 2],
        content,
    })
    .collect()
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list");
    list.iter().map(|it| it.as_str().expect("a text").to_string()).collect()
}

#[test]
fn conversations_equal_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text =
        std::fs::read_to_string(root.join("tests/golden/chats.json")).expect("golden files are in the repository");
    let golden: Value = serde_json::from_str(&text).expect("golden files are JSON");
    let cases = golden["cases"].as_array().expect("cases");
    assert!(cases.len() >= 24, "only {} cases", cases.len());
    for case in cases {
        let name = case["template"].as_str().expect("a name");
        let template = std::fs::read_to_string(root.join("tests/fixtures/chats").join(name)).expect("a template");
        let mut config = golden["named"].clone();
        config["tokenizer_class"] = json!("PreTrainedTokenizerFast");
        let with = |template: Value| {
            let mut config = config.clone();
            config["chat_template"] = template;
            config.to_string()
        };
        let named = json!([{ "name": "other", "template": "no" }, { "name": "default", "template": template }]);
        // The file goes before what the configuration has.
        for files in [
            vec![
                ("tokenizer_config.json", with(json!("no"))),
                ("chat_template.jinja", template.clone()),
            ],
            vec![("tokenizer_config.json", with(json!(template)))],
            vec![("tokenizer_config.json", with(named))],
            // Jinja reads every end of a line as a line feed.
            vec![("tokenizer_config.json", with(json!(template.replace('\n', "\r\n"))))],
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let (chat, tokenizer) = chat(&folder(&files)).expect("a template");
            let said = strings(&case["said"]);
            let written = chat.write(&turns(&said));
            if let Some(wanted) = case["error"].as_str() {
                let error = written.expect_err(name).to_string();
                assert!(error.contains(wanted), "{name}: {error}");
                continue;
            }
            let written = written.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(written, case["text"].as_str().expect("a text"), "{name}, {said:?}");
            let ids: Vec<u64> = case["ids"]
                .as_array()
                .expect("ids")
                .iter()
                .filter_map(Value::as_u64)
                .collect();
            let got = tokenizer.encode(&written, Bos::Never, 259).expect("tokens");
            assert!(got.into_iter().map(u64::from).eq(ids), "{name}, {said:?}");
        }
    }
}

#[test]
fn a_template_that_is_missing_or_fails_is_named_with_its_line() {
    let config = |template: Value| json!({ "bos_token": "<s>", "chat_template": template }).to_string();
    for (files, wanted) in [
        (vec![], "has no chat template"),
        (vec![("tokenizer_config.json", config(Value::Null))], "leave `chat` out"),
        (
            vec![("tokenizer_config.json", config(json!(3)))],
            "tokenizer_config.json: `chat_template`: is neither",
        ),
        (
            vec![(
                "tokenizer_config.json",
                config(json!([{ "name": "rag", "template": "" }])),
            )],
            "(rag) is named `default`",
        ),
        (
            vec![("chat_template.jinja", "a\n{% if %}".to_string())],
            "chat_template.jinja: line 2: the template fails: syntax error",
        ),
        (vec![("chat_template.jinja", "{% include 'x' %}".to_string())], "line 1"),
        (
            vec![("chat_template.jinja", "a".repeat(140_000))],
            "at most 131072 are read",
        ),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let error = chat(&folder(&files)).err().expect(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let said = ["a".to_string()];
    let turns = turns(&said);
    for (template, wanted) in [
        (
            "\n{{ raise_exception('not so') }}",
            "chat_template.jinja: line 2: the template fails: not so",
        ),
        ("{{ 'a' + nothing }}", "line 1: the template fails"),
        ("{{ nothing.at_all }}", "line 1: the template fails"),
        ("{{ strftime_now('%!') }}", "line 1: the template fails"),
        ("{{ messages | tojson(indent=100000) }}", "`indent` is above 64"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
            "does not end within",
        ),
        ("{{ 'a' * 1000000000 }}", "does not end within"),
        // Two to the power of forty values, which nothing counts.
        (
            "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
            "does not end within 10 seconds",
        ),
        (
            "{% for turn in messages %}{% with %}{% continue %}{% endwith %}{% endfor %}",
            "chat_template.jinja: the template fails",
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "the template fails"),
    ] {
        let (chat, _) = chat(&folder(&[("chat_template.jinja", template)])).expect("a template");
        let error = chat.write(&turns).expect_err(template).to_string();
        assert!(error.contains(wanted), "{template}: {error}");
    }
}

#[test]
fn the_digest_of_a_template_shows_all_that_decides_what_is_written() {
    let of = |template: &str, bos: &str| {
        let config = json!({ "bos_token": bos, "chat_template": template }).to_string();
        let (chat, _) = chat(&folder(&[("tokenizer_config.json", &config)])).expect("a template");
        chat.digest().to_string()
    };
    let one = of("{{ bos_token }}", "<s>");
    assert_eq!(one, of("{{ bos_token }}", "<s>"));
    assert_ne!(one, of("{{ bos_token }} ", "<s>"));
    assert_ne!(one, of("{{ bos_token }}", "</s>"));
}

#[test]
fn expressions_and_lists_may_be_nested_as_deep_as_a_template_is_long() {
    let said = ["a".to_string()];
    let turns = turns(&said);
    let most = (128 << 10) - 20;
    for template in [
        format!("{{{{ {}1 }}}}", "-".repeat(most)),
        format!("{{{{ {}1 }}}}", "not ".repeat(most / 4)),
        format!("{{{{ 1{} }}}}", "+1".repeat(most / 2)),
        format!("{{{{ x{} }}}}", "[0]".repeat(most / 3)),
        format!("{{{{ x{} }}}}", ".a".repeat(most / 2)),
        format!("{{{{ 1{} }}}}", "|string".repeat(most / 7)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{%elif 0%}".repeat(most / 10 - 4)),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}".to_string(),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}".to_string(),
    ] {
        // What comes of it is its own business; it comes back.
        if let Ok((chat, _)) = chat(&folder(&[("chat_template.jinja", &template)])) {
            let _ = chat.write(&turns);
        }
    }
    let (chat, _) = chat(&folder(&[(
        "chat_template.jinja",
        &format!("{{{{ {}1 }}}}", "-".repeat(20_000)),
    )]))
    .expect("a template");
    assert_eq!(chat.write(&turns).expect("a number"), "1");
}
