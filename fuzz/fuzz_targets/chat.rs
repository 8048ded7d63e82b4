//! A chat template: read, and a conversation written with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use zprune::data::chat::{Chat, Turn};
use zprune::data::tokenizer::Tokenizer;

fuzz_target!(|text: &str| {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = include_str!("../../tests/fixtures/tiny/tokenizer.json");
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).expect("writable");
        let config = r#"{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).expect("writable");
        folder
    });
    static TOKENIZER: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::load(FOLDER.path()).expect("the fixture is a tokenizer"));
    std::fs::write(FOLDER.path().join("chat_template.jinja"), text).expect("writable");
    let Ok(chat) = Chat::read(FOLDER.path(), &TOKENIZER) else {
        return;
    };
    let turns = [("user", " What? "), ("assistant", "That.\n"), ("user", "{{ 1 }} \u{e9}")];
    let turns = turns.map(|(role, content)| Turn { role, content });
    if let Ok(written) = chat.write(&turns) {
        assert_eq!(chat.write(&turns).expect("it did before"), written);
    }
});
