//! The quickstart of the program alone, in a folder that has nothing else.

use super::{refused, says, works};
use crate::tiny::Folder;
use std::path::Path;

/// A folder whose results of the quickstart are those that the repository keeps.
fn with_results() -> Folder {
    let folder = Folder::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    std::fs::create_dir_all(folder.path("results/quickstart")).expect("writable");
    for name in ["runs.jsonl", "plan.toml"] {
        let content = std::fs::read(kept.join(name)).expect("the repository keeps it");
        folder.write(format!("results/quickstart/{name}"), content);
    }
    folder
}

#[test]
fn the_embedded_experiment_has_the_cells_of_the_one_in_the_repository() {
    let folder = with_results();
    // An earlier start was interrupted, and somebody has changed a file.
    std::fs::create_dir_all(folder.path("own/models/tiny-llama")).expect("writable");
    folder.write("own/models/tiny-llama/config.json", "{}");
    let output = folder.zprune(&["quickstart", "--inputs", "own"]).output();
    let text = works(&output.expect("the program starts"));
    for part in [
        "0 cells run, 40 had results already",
        "choose another folder with --results",
        "own/experiments/quickstart.toml",
        "sparsegpt",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(folder.path("results/quickstart/report.html").is_file());
}

#[test]
fn inputs_can_be_unpacked_without_a_run() {
    let folder = Folder::new();
    let output = folder.zprune(&["quickstart", "--inputs", "own", "--no-run"]).output();
    works(&output.expect("the program starts"));
    assert!(folder.path("own/models/tiny-llama/model.safetensors").is_file());
    assert!(folder.path("own/corpora/persuasion.txt").is_file());
    assert!(!folder.path("results").exists());
    super::refused(&folder, "quickstart --no-run", 2, &["--inputs"]);
}

#[test]
fn inputs_are_kept_where_the_system_keeps_what_can_be_made_again() {
    let folder = with_results();
    let quickstart = |cache: &str| {
        let mut command = folder.zprune(&["quickstart"]);
        for name in ["XDG_CACHE_HOME", "LOCALAPPDATA"] {
            command.env(name, folder.path(cache));
        }
        command.env("HOME", folder.path("home"));
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", says(&output));
        says(&output)
    };
    let text = quickstart("cache");
    assert!(text.contains("zprune/quickstart-"), "{text}");
    // A file is where the folder would be.
    folder.write("blocked", "");
    let text = quickstart("blocked");
    if cfg!(not(target_os = "macos")) {
        assert!(
            text.contains("in a temporary folder; --inputs DIR keeps them"),
            "{text}"
        );
    }
    refused(
        &folder,
        "quickstart --inputs blocked",
        3,
        &["blocked: cannot write: something that is not a folder has this name"],
    );
}
