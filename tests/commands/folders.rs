//! Claim: commands that read folders leave them as they are, and say what they leave out.

use super::{Folder, refused, run, says, works};

#[test]
fn a_report_is_not_written_over_one_it_is_made_of() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    works(&run(&folder, "run experiment.toml --results others"));
    let words = "report results/tiny others/tiny --out";
    for out in ["results/tiny", "others/../others/tiny"] {
        refused(
            &folder,
            &format!("{words} {out}"),
            2,
            &["whose own report would be replaced"],
        );
    }
    works(&run(&folder, &format!("{words} both")));
    assert!(folder.path("both/report.html").exists());
}

#[test]
fn a_merge_says_that_it_left_out_an_unfinished_line() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    let records = std::fs::read(folder.path("results/tiny/runs.jsonl")).expect("records");
    folder.write("results/tiny/runs.jsonl", &records[..records.len() - 50]);
    let told = works(&run(&folder, "merge results/tiny --into merged"));
    assert!(
        told.contains("results/tiny: the last line of runs.jsonl is unfinished"),
        "{told}"
    );
    assert!(told.contains("1 cell has no result yet"), "{told}");
    let told = works(&run(&folder, "merge merged --into again"));
    assert!(!told.contains("unfinished"), "{told}");
}

#[test]
fn a_pruned_model_is_turned_only_if_somebody_says_so() {
    let folder = Folder::new();
    works(&run(
        &folder,
        "prune --model model --method magnitude --sparsity 0.5 --out pruned",
    ));
    let mut turn = super::tiny::Tensors::new();
    let identity = (0..32 * 32).map(|place| f32::from(u8::from(place % 33 == 0)));
    turn.insert("residual".into(), super::tiny::Tensor::new(&[32, 32], identity));
    super::tiny::save(&turn, &folder.path("q.safetensors"));
    let words = "rotate pruned --rotation q.safetensors --out out";
    refused(
        &folder,
        words,
        2,
        &["50.0 % of the prunable weights are 0", "--lose-zeros"],
    );
    let told = works(&run(&folder, &format!("{words} --lose-zeros")));
    assert!(told.contains("50.0 % of the prunable weights were 0"), "{told}");
    assert!(!folder.path("out/pruning.json").exists());
    works(&run(&folder, "rotate model --rotation q.safetensors --out turned"));
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let folder = Folder::new();
    let words = "eval --model model --corpus novel.txt --length 16 --windows 2";
    let text = says(&run(&folder, &format!("{words} --chat")));
    assert!(text.contains("--chat belongs to --generate"), "{text}");
    folder.replace(
        "experiment.toml",
        "name = \"wanda\"\ncriterion = \"wanda\"",
        "name = \"mine\"\nscores = \"scores-{sed}.safetensors\"",
    );
    let text = says(&run(&folder, "plan experiment.toml"));
    assert!(text.contains("{sed} stands for nothing"), "{text}");
    let text = says(&run(&folder, "plan experiment.toml --gpus 0 --backend cpu"));
    assert!(text.contains("contradict each other"), "{text}");
}
