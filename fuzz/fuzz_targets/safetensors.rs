//! A checkpoint, a rotation, or a file of scores, masks or gradients: opened against a small configuration, checked and read as pruning reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::data::windows::TokenWindows;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::source::WeightSource;
use zprune::model::families::parse_spec;
use zprune::model::layer_file::{Content, LayerFile};
use zprune::model::rotated::Rotation;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5, "tie_word_embeddings": true}"#;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, bytes).expect("writable");
    let _ = TokenWindows::read(&file);
    let spec = parse_spec(CONFIG).expect("a configuration");
    for content in [Content::Gradients, Content::Scores, Content::Mask] {
        if let Ok(file) = LayerFile::open_whole(&file, &spec, content) {
            for linear in &spec.block(0).linears {
                let values = file.layer(0, linear).expect("what was checked can be read");
                let fits = |value: &f32| value.is_finite() && (content == Content::Gradients || *value >= 0.0);
                assert!(values.iter().all(fits), "{content:?}: {values}");
            }
        }
    }
    let _ = Rotation::read(&file, &spec);
    if let Ok(checkpoint) = Checkpoint::open(folder.path(), spec) {
        for stored in checkpoint.files().each() {
            assert!(stored.tensors.iter().all(|tensor| !tensor.name.is_empty() || tensor.bytes.len() < bytes.len()));
        }
        if checkpoint.check_finite().is_ok() {
            for linear in &checkpoint.spec().block(0).linears {
                checkpoint.linear(0, linear).expect("what was checked can be read");
            }
            checkpoint.norms(0).expect("what was checked can be read");
        }
    }
});
