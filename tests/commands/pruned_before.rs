//! Claim: whoever prunes a model that is pruned already is told how many zeros it has, and by which method they were made.

use super::{run, works};
use crate::tiny::Folder;
use safetensors::SafeTensors;

/// The share of exact zeros of a model's linear layers, in percent, counted in its file.
fn zeros(folder: &Folder, model: &str) -> f64 {
    let bytes = std::fs::read(folder.path(model).join("model.safetensors")).expect("a model");
    let tensors = SafeTensors::deserialize(&bytes).expect("a model");
    let (mut zeros, mut all) = (0, 0);
    for (name, tensor) in tensors.tensors().iter().filter(|(name, _)| name.contains("_proj.")) {
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
        let values = tensor.data().chunks_exact(4);
        let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        all += tensor.shape().iter().product::<usize>();
        zeros += values.filter(|value| *value == 0.0).count();
    }
    100.0 * zeros as f64 / all as f64
}

const PRUNE: &str = "prune --calibration calibration.jsonl --sequences 4 --length 16";

#[test]
fn pruning_a_pruned_model_says_how_many_zeros_it_has_and_by_which_method() {
    let folder = Folder::new();
    let first = works(&run(
        &folder,
        &format!("{PRUNE} --model model --method wanda --sparsity 0.375 --out half"),
    ));
    assert!(!first.contains("zeros already"), "{first}");
    let percent = zeros(&folder, "half");
    assert!((37.0..38.0).contains(&percent), "{percent}");
    let said = format!(
        "note: half: {percent:.2} % of the weights of its linear layers are zeros already (pruned with wanda)."
    );
    let told = works(&run(
        &folder,
        &format!("{PRUNE} --model half --method magnitude --sparsity 0.5 --out more"),
    ));
    let counted = "The sparsity that you asked for counts these zeros";
    assert!(told.contains(&said) && told.contains(counted), "{told}");
    // They are among the removed ones.
    assert!((49.0..51.0).contains(&zeros(&folder, "more")));
    let told = works(&run(
        &folder,
        "shrink --calibration calibration.jsonl --sequences 4 --length 16 --model half --method unit-sum --units 0.3 --out smaller",
    ));
    assert!(told.contains(&said) && told.contains("The share in --units"), "{told}");
    // Without the file that names the method, the zeros are told all the same.
    std::fs::remove_file(folder.path("half/pruning.json")).expect("it is there");
    let told = works(&run(
        &folder,
        &format!("{PRUNE} --model half --method magnitude --sparsity 0.5 --out again"),
    ));
    let said = format!("half: {percent:.2} % of the weights of its linear layers are zeros already.");
    assert!(told.contains(&said), "{told}");
}

#[test]
fn an_experiment_on_a_pruned_model_says_so_at_its_start_and_below_its_tables() {
    let folder = Folder::new();
    works(&run(
        &folder,
        &format!("{PRUNE} --model model --method ria --sparsity 0.25 --out half"),
    ));
    let percent = zeros(&folder, "half");
    std::fs::remove_dir_all(folder.path("model")).expect("it is there");
    std::fs::rename(folder.path("half"), folder.path("model")).expect("one folder");
    let said = format!("{percent:.2} % of the weights of its linear layers are zeros already (pruned with ria).");
    let told = works(&run(&folder, "run experiment.toml"));
    assert!(told.contains(&said) && told.contains("count these zeros"), "{told}");
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/perplexity.md")).expect("a table");
    assert_eq!(table.matches(&said).count(), 1, "{table}");
    let records = zprune::record::read(&folder.path("results/tiny")).expect("records");
    for record in &records {
        let before = record.pruned_before.as_ref().expect("the model was pruned");
        assert_eq!(before.method.as_deref(), Some("ria"));
        assert!((100.0 * before.zeros - percent).abs() < 1e-9, "{}", before.zeros);
    }
    // A copy without layers says the same.
    works(&run(&folder, "merge results/tiny --into small/tiny --without layers"));
    works(&run(&folder, "report small/tiny"));
    let copy = std::fs::read_to_string(folder.path("small/tiny/tables/perplexity.md")).expect("a table");
    assert_eq!(copy, table);
}
