//! Claim: methods are grouped and compared by the axes they differ in, stages and targets are a method's own, and a
//! permuted model is verified in its own order.

use super::{Folder, refused, run, works};

/// Criteria with and without an update, alike in everything else.
const METHODS: &str = r#"[[method]]
criterion = "wanda"

[[method]]
criterion = "wanda"
solver = "obs"

[[method]]
criterion = "magnitude"
group = "row"

[[method]]
criterion = "magnitude"
group = "row"
solver = "obs"

[[method]]
criterion = "wanda"
solver = "obs"
stage = "staged"
target = "dense"

[[comparison]]
family = "update"
axis = "solver"
against = ["one-shot"]

[report]
tables = [["criterion", "solver"]]
"#;

/// A folder whose experiment has these methods in place of its own.
pub(super) fn with(methods: &str) -> Folder {
    let folder = Folder::new();
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
    let from = text.find("[[method]]").expect("there are methods");
    let to = text.find("[[evaluation]]").expect("there is an evaluation");
    folder.write(
        "experiment.toml",
        format!("{}{methods}\n{}", &text[..from], &text[to..]),
    );
    folder
}

#[test]
fn a_report_has_tables_and_comparisons_by_axes() {
    let folder = with(METHODS);
    works(&run(&folder, "experiment.toml"));
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/axes.md")).expect("a table by axes");
    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert!(table.contains("novel by criterion and solver"), "{table}");
    assert!(lines[0].contains("one-shot") && lines[0].contains("obs"), "{table}");
    let row = |name: &str| lines.iter().find(|line| line.starts_with(&format!("| {name} ")));
    for name in ["wanda", "magnitude"] {
        let cells: Vec<&str> = row(name).expect("a row").split('|').map(str::trim).collect();
        assert!(
            cells[2..4]
                .iter()
                .all(|cell| cell.starts_with(|c: char| c.is_ascii_digit())),
            "{table}"
        );
    }
    // Three pairs: the update of each criterion. The staged one has nothing to be compared with.
    let compared = std::fs::read_to_string(folder.path("results/tiny/tables/comparisons.md")).expect("comparisons");
    assert!(compared.contains("wanda+obs against wanda"), "{compared}");
    assert!(compared.contains("magnitude+obs against magnitude"), "{compared}");
    assert!(!compared.contains("staged"), "{compared}");
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    let staged = records
        .lines()
        .filter(|line| line.contains("wanda+obs (staged, target dense)"));
    for line in staged.clone() {
        assert!(
            line.contains(r#""propagate":"staged""#) && line.contains(r#""target":"dense""#),
            "{line}"
        );
    }
    assert_eq!(staged.count(), 4);
    works(&run(&folder, "report results/tiny"));
}

#[test]
fn axes_that_compare_nothing_are_refused() {
    for (old, new, says) in [
        (
            "axis = \"solver\"",
            "axis = \"refine\"",
            "there is no refine `one-shot`",
        ),
        (
            "against = [\"one-shot\"]",
            "against = [\"one-shot\"]\nours = \"wanda\"",
            "either `ours`",
        ),
        ("\"one-shot\"]", "\"one-shot\", \"one-shot\"]", "listed twice"),
        (
            "axis = \"solver\"\nagainst = [\"one-shot\"]",
            "axis = \"target\"\nagainst = [\"pruned\"]",
            "no two methods are alike but for `target`",
        ),
        (
            "[[\"criterion\", \"solver\"]]",
            "[[\"criterion\", \"sovler\"]]",
            "did you mean `solver`?",
        ),
        (
            "[[\"criterion\", \"solver\"]]",
            "[[\"criterion\", \"criterion\"]]",
            "a table has two axes that differ",
        ),
        (
            "[[\"criterion\", \"solver\"]]",
            "[[\"criterion\", \"solver\", \"group\"]]",
            "a table has two axes that differ",
        ),
        (
            "[[\"criterion\", \"solver\"]]",
            "[[\"allocator\", \"refine\"]]",
            "no two methods are alike but for `allocator` and `refine`",
        ),
    ] {
        let folder = with(&METHODS.replace(old, new));
        refused(&folder, "plan experiment.toml", 2, &["experiment.toml:", says]);
    }
}

#[test]
fn methods_that_differ_in_their_group_too_are_named_and_n_of_m_patterns_have_no_groups() {
    let methods = "[[method]]\ncriterion = \"wanda\"\n\n[[method]]\ncriterion = \"ria\"\n\n[[comparison]]\nfamily = \"score\"\n\
                   axis = \"criterion\"\nagainst = [\"wanda\"]\n";
    let folder = with(methods);
    let says = "`ria` and `wanda` also differ in `group` (matrix and row): give both the same";
    refused(&folder, "plan experiment.toml", 2, &["experiment.toml:", says]);
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("there");
    let begin = text.find("patterns = [").expect("there are patterns");
    let end = begin + text[begin..].find('\n').expect("a line");
    let text = format!("{}patterns = [{{ keep = 2, of = 4 }}]{}", &text[..begin], &text[end..]);
    folder.write("experiment.toml", text);
    let plan = works(&run(&folder, "plan experiment.toml"));
    assert!(plan.contains("family: score: ria against wanda\n"), "{plan}");
}

#[test]
fn a_method_without_a_stage_has_the_calibrations() {
    let methods = METHODS
        .replace("target = \"dense\"\n", "")
        .replace("axis = \"solver\"", "axis = \"stage\"");
    let folder = with(&methods.replace("against = [\"one-shot\"]", "against = [\"block\"]"));
    let plan = works(&run(&folder, "plan experiment.toml"));
    assert!(
        plan.contains("family: update: wanda+obs (staged) against wanda+obs\n"),
        "{plan}"
    );
}

#[test]
fn a_permuted_model_is_verified_in_its_own_order() {
    const PRUNE: &str =
        "prune --model model --method ria --calibration calibration.jsonl --sequences 4 --length 16 --out pruned";
    let folder = Folder::new();
    let done = works(&run(&folder, &format!("{PRUNE} --keep 2 --of 4 --permutation ria")));
    assert!(done.contains("ria+ria-permutation"), "{done}");
    let verified = works(&run(&folder, "verify pruned --against model"));
    // Side by side, the columns are no groups.
    assert!(!verified.contains("2:4 in every"), "{verified}");
    let record = std::fs::read_to_string(folder.path("pruned/pruning.json")).expect("there");
    assert!(record.contains("\"permutation\": ["), "the layers' orders are there");
    let folder = Folder::new();
    refused(
        &folder,
        &format!("{PRUNE} --sparsity 0.5 --permutation ria"),
        2,
        &["has no such groups"],
    );
}

#[test]
fn answers_calibrate_without_their_prompts() {
    const PRUNE: &str = "prune --model model --method wanda --calibration answers.jsonl --sampling answers --sequences 3 --length 16 --sparsity 0.5";
    let lines = |prompts: &str| -> String {
        let texts = std::fs::read_to_string(Folder::new().path("calibration.jsonl")).expect("there");
        let mut lines = String::new();
        for (index, line) in texts.lines().take(6).enumerate() {
            let row: serde_json::Value = serde_json::from_str(line).expect("an object");
            let answer = row["text"].as_str().expect("a text");
            let row = serde_json::json!({ "prompt": prompts.repeat(1 + index % 2), "answer": answer });
            lines.push_str(&format!("{row}\n"));
        }
        lines
    };
    let folder = Folder::new();
    folder.write("answers.jsonl", lines("a "));
    works(&run(&folder, &format!("{PRUNE} --out pruned")));
    works(&run(&folder, "verify pruned --against model"));
    // Of whole units, only a loss has weights for tokens.
    let shrink = PRUNE
        .replace("prune ", "shrink ")
        .replace("--sparsity 0.5", "--units 0.4 --out small");
    works(&run(&folder, &shrink.replace("wanda", "llm-pruner")));
    for method in ["flap", "unit-sum", "olica", "two-ssp", "block-drop"] {
        let says = &["for this method all tokens count the same", "`llm-pruner`"];
        refused(
            &folder,
            &shrink.replace("wanda", method).replace("small", "other"),
            2,
            says,
        );
    }
    works(&run(
        &folder,
        &shrink
            .replace("wanda", "unit-sum --set score=magnitude")
            .replace("small", "sums"),
    ));
    for (content, says) in [
        (
            "{\"prompt\":\"a\",\"answer\":\"b\",\"weight\":-1}\n".to_string(),
            "answers.jsonl: line 1: weight -1",
        ),
        ("{\"text\":\"a\"}\n".to_string(), "answers.jsonl: line 1"),
        (
            "{\"prompt\":\"a\",\"answer\":\"b\",\"weight\":0}\n".to_string(),
            "answers.jsonl: every answer has the weight 0",
        ),
        (
            lines("a ").lines().next().expect("a line").to_string(),
            "`sequences` asks for 3",
        ),
    ] {
        folder.write("answers.jsonl", content);
        refused(&folder, &format!("{PRUNE} --out other"), 2, &[says]);
    }
}

#[test]
fn a_value_of_an_axis_with_parameters_is_written_as_tables_show_it_or_as_in_a_method() {
    let methods = |against: &str| {
        format!(
            "[[method]]\nname = \"soft\"\ncriterion = {{ name = \"ria\", activation_power = 0.25 }}\n\n\
             [[method]]\nname = \"whole\"\ncriterion = {{ name = \"ria\", activation_power = 1.0 }}\n\n\
             [[comparison]]\nfamily = \"power\"\naxis = \"criterion\"\nagainst = [{against}]\n"
        )
    };
    for against in [
        "\"ria (activation_power = 1.0)\"",
        "{ name = \"ria\", activation_power = 1.0 }",
        "{ name = \"ria\", activation_power = 1 }",
    ] {
        let folder = with(&methods(against));
        let plan = works(&run(&folder, "plan experiment.toml"));
        assert!(
            plan.contains("family: power: soft against whole\n"),
            "{against}: {plan}"
        );
    }
    for (against, says) in [
        (
            "{ name = \"ria\", activation_power = 2.0 }",
            "no method has `ria` with these parameters as its criterion",
        ),
        (
            "{ name = \"ria\", power = 1.0 }",
            "no method has `ria` with these parameters as its criterion",
        ),
        ("\"ria\"", "there is no criterion `ria`"),
    ] {
        let folder = with(&methods(against));
        refused(&folder, "plan experiment.toml", 2, &["experiment.toml:", says]);
    }
    let ours = methods("{ name = \"ria\", activation_power = 1.0 }").replace("axis = \"criterion\"", "ours = \"soft\"");
    refused(
        &with(&ours),
        "plan experiment.toml",
        2,
        &["`against` has labels of methods beside `ours`"],
    );
}
