//! Claims about single cells: their ids depend on what decides their numbers and on nothing else, one of them can be run
//! by its id, and scripts that run all of them on a cluster can be had.

#[path = "../tiny/mod.rs"]
mod tiny;

mod beside;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use tiny::Folder;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn zprune(folder: &Folder, arguments: &[&str]) -> Output {
    folder.zprune(arguments).output().expect("the program starts")
}

fn plan_with(folder: &Folder, arguments: &[&str]) -> Value {
    let arguments = [&["plan", "experiment.toml", "--json"], arguments].concat();
    let output = zprune(folder, &arguments);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_str(&shown(&output)).expect("the plan is JSON")
}

fn plan(folder: &Folder) -> Vec<Value> {
    plan_with(folder, &[])["cells"]
        .as_array()
        .expect("a plan has cells")
        .clone()
}

fn id(cell: &Value) -> String {
    cell["id"].as_str().expect("a cell has an id").to_string()
}

fn ids(cells: &[Value]) -> BTreeSet<String> {
    cells.iter().map(id).collect()
}

type Change = fn(&Folder);

#[test]
fn an_id_does_not_depend_on_what_does_not_change_numbers() {
    let changes: &[(&str, Change)] = &[
        ("the model's folder", |folder| {
            std::fs::rename(folder.path("model"), folder.path("elsewhere")).expect("the folder is writable");
            folder.replace("experiment.toml", "path = \"model\"", "path = \"elsewhere\"");
        }),
        ("a corpus's name", |folder| {
            std::fs::rename(folder.path("novel.txt"), folder.path("book.txt")).expect("the folder is writable");
            folder.replace("experiment.toml", "corpus = \"novel.txt\"", "corpus = \"book.txt\"");
        }),
        ("the experiment's name", |folder| {
            folder.replace("experiment.toml", "name = \"tiny\"", "name = \"small\"");
        }),
        ("a method's label", |folder| {
            folder.replace("experiment.toml", "name = \"sparsegpt\"", "name = \"surgeon\"");
        }),
        ("the order of the seeds", |folder| {
            folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [1, 0]");
        }),
        ("defaults written out", |folder| {
            folder.replace(
                "experiment.toml",
                "seeds = [0, 1]",
                "selection = \"exact\"\nseeds = [0, 1]",
            );
        }),
    ];
    let wanted = ids(&plan(&Folder::new()));
    for (what, change) in changes {
        let folder = Folder::new();
        change(&folder);
        assert_eq!(ids(&plan(&folder)), wanted, "{what}");
    }
    let folder = Folder::new();
    for threads in ["1", "3"] {
        let mut command = folder.zprune(&["plan", "experiment.toml", "--json", "--results", threads]);
        let output = command
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("the program starts");
        let plan: Value = serde_json::from_str(&shown(&output)).expect("the plan is JSON");
        assert_eq!(
            ids(plan["cells"].as_array().expect("cells")),
            wanted,
            "{threads} threads"
        );
    }
}

#[test]
fn cells_that_are_added_leave_the_ids_of_the_others() {
    let before = ids(&plan(&Folder::new()));
    let folder = Folder::new();
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [2, 0, 1]");
    let after = ids(&plan(&folder));
    assert!(after.is_superset(&before) && after.len() == before.len() + 4);
}

#[test]
fn an_id_changes_with_what_changes_numbers() {
    let changes: &[(&str, Change, &[&str])] = &[
        (
            "a byte of the evaluation's text",
            |folder| {
                let novel = std::fs::read_to_string(folder.path("novel.txt")).expect("text");
                folder.write("novel.txt", novel.replacen(' ', ".", 1));
            },
            &[],
        ),
        (
            "a weight",
            |folder| {
                let mut weights = std::fs::read(folder.path("model/model.safetensors")).expect("weights");
                *weights.last_mut().expect("there are weights") ^= 1;
                folder.write("model/model.safetensors", weights);
            },
            &[],
        ),
        (
            "a setting of the model",
            |folder| {
                folder.replace(
                    "model/config.json",
                    "\"rms_norm_eps\": 1e-05",
                    "\"rms_norm_eps\": 1e-06",
                )
            },
            &[],
        ),
        (
            "windows",
            |folder| folder.replace("experiment.toml", "windows = 4", "windows = 3"),
            &[],
        ),
        ("the backend", |_| {}, &["--backend", "gpu", "--compute", "f32"]),
        ("the precision", |_| {}, &["--backend", "gpu", "--compute", "f16"]),
    ];
    let mut seen = ids(&plan(&Folder::new()));
    for (what, change, arguments) in changes {
        let folder = Folder::new();
        change(&folder);
        let plan = plan_with(&folder, arguments);
        for id in ids(plan["cells"].as_array().expect("cells")) {
            assert!(seen.insert(id), "{what}: an id was used again");
        }
    }
}

#[test]
fn a_file_of_gradients_counts_in_the_ids_of_the_cells_that_use_it() {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "[[method]]\nname = \"wanda\"",
        "[[method]]\ncriterion = \"gblm\"\n\n[[method]]\nname = \"wanda\"",
    );
    let gblm = |cells: &[Value]| -> BTreeSet<String> {
        let of = |cell: &&Value| cell["pruning"]["criterion"]["name"] == "gblm" || cell["method"] == "gblm";
        cells.iter().filter(of).map(id).collect()
    };
    let computed = plan(&folder);
    assert_eq!(gblm(&computed).len(), 4, "{computed:?}");
    // A file with the names and shapes of the weights: the weights themselves.
    std::fs::copy(
        folder.path("model/model.safetensors"),
        folder.path("gradients.safetensors"),
    )
    .expect("room");
    folder.replace(
        "experiment.toml",
        "length = 16\n\n[sweep]",
        "length = 16\ngradients = \"gradients.safetensors\"\n\n[sweep]",
    );
    let read = plan(&folder);
    let unlike = |a: &[Value], b: &[Value]| -> BTreeSet<String> { ids(a).difference(&ids(b)).cloned().collect() };
    assert_eq!(unlike(&read, &computed), gblm(&read));
    let run = zprune(&folder, &["experiment.toml"]);
    assert!(run.status.success(), "{}", said(&run));
    // Other gradients are other cells; the file's name is nothing.
    std::fs::rename(folder.path("gradients.safetensors"), folder.path("g.safetensors")).expect("room");
    folder.replace(
        "experiment.toml",
        "gradients = \"gradients.safetensors\"",
        "gradients = \"g.safetensors\"",
    );
    assert_eq!(ids(&plan(&folder)), ids(&read));
    let mut bytes = std::fs::read(folder.path("g.safetensors")).expect("there");
    *bytes.last_mut().expect("there are values") ^= 1;
    folder.write("g.safetensors", bytes);
    let other = plan(&folder);
    assert_eq!(unlike(&other, &read), gblm(&other));
    // One that is not there, one that does not fit, and one that nobody uses.
    std::fs::remove_file(folder.path("g.safetensors")).expect("there");
    let missing = said(&zprune(&folder, &["experiment.toml"]));
    assert!(
        missing.contains("file of gradients") && missing.contains("g.safetensors"),
        "{missing}"
    );
    let mut tensors = tiny::weights();
    tensors.remove("model.layers.1.mlp.up_proj.weight").expect("there");
    tiny::save(&tensors, &folder.path("g.safetensors"));
    let unfit = said(&zprune(&folder, &["experiment.toml"]));
    assert!(
        unfit.contains("model.layers.1.mlp.up_proj.weight") && unfit.contains("g.safetensors"),
        "{unfit}"
    );
    folder.replace("experiment.toml", "criterion = \"gblm\"", "criterion = \"magnitude\"");
    let unused = said(&zprune(&folder, &["plan", "experiment.toml"]));
    assert!(unused.contains("no method uses them"), "{unused}");
}

#[test]
fn records_of_the_first_schema_are_read_and_their_ids_hold() {
    // Written by an earlier zprune, and named by what decided their numbers then.
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
    let text = std::fs::read_to_string(fixture.join("runs.jsonl")).expect("the fixture is in the repository");
    assert!(text.lines().all(|line| line.starts_with("{\"schema\":1,")));
    let records = zprune::record::read(&fixture).expect("this zprune reads them");
    let found: Vec<(&str, bool)> = records
        .iter()
        .map(|record| (record.id.as_str(), record.error.is_none()))
        .collect();
    assert_eq!(
        found,
        [
            ("347f591fda734546", true),
            ("2127f405161e7f7f", true),
            ("31f839b94e7755ac", true),
            ("48eb95d66c63c56f", true),
            ("68db31c9cfa578fc", false),
        ]
    );
    for record in &records {
        assert_eq!(record.cell.id(), record.id);
    }
    // A new run appends to an old file and leaves its lines as they are.
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("results/tiny")).expect("the folder is writable");
    folder.write("results/tiny/runs.jsonl", &text);
    assert!(folder.run().status.success());
    let after = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    assert!(after.starts_with(&text));
    let schemas: BTreeMap<u32, usize> = after.lines().fold(BTreeMap::new(), |mut counts, line| {
        let record: Value = serde_json::from_str(line).expect("a record is JSON");
        *counts
            .entry(record["schema"].as_u64().expect("a number") as u32)
            .or_default() += 1;
        counts
    });
    assert_eq!(schemas, BTreeMap::from([(1, 5), (zprune::record::SCHEMA, 9)]));
}

#[test]
fn records_of_later_schemas_are_read_and_their_ids_hold() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
    for schema in 2..zprune::record::SCHEMA {
        let fixture = fixtures.join(format!("schema_{schema}"));
        let text = std::fs::read_to_string(fixture.join("runs.jsonl")).expect("the fixture is in the repository");
        let records = zprune::record::read(&fixture).expect("this zprune reads them");
        assert_eq!(records.len(), 3);
        for (record, line) in records.iter().zip(text.lines()) {
            assert!(line.starts_with(&format!("{{\"schema\":{schema},")));
            assert_eq!(record.cell.id(), record.id);
            assert_eq!(
                record.line().expect("its numbers fit each other"),
                line,
                "written again it is the same"
            );
        }
    }
}

#[test]
fn a_checksum_is_that_of_what_a_record_says_and_not_of_its_spelling() {
    let folder = Folder::new();
    assert!(folder.run().status.success());
    let path = folder.path("results/tiny/runs.jsonl");
    let text = std::fs::read_to_string(&path).expect("records");
    let before = zprune::record::read(&folder.path("results/tiny")).expect("its own records");
    // Python writes spaces after colons, and some numbers in another way.
    let spaced = text.replace("\":", "\": ");
    let respelt = spaced.replace("\": 0.5,", "\": 5e-1,");
    assert!(spaced != text && respelt != spaced);
    std::fs::write(&path, respelt).expect("the folder is writable");
    assert_eq!(
        zprune::record::read(&folder.path("results/tiny")).expect("they say the same"),
        before
    );
}

#[test]
fn a_plan_as_json_says_what_is_done_and_what_the_rest_may_take() {
    let folder = Folder::new();
    let before = plan_with(&folder, &[]);
    assert_eq!((&before["schema"], &before["experiment"]), (&1.into(), &"tiny".into()));
    assert_eq!(before["missing"], Value::Array(Vec::new()));
    let cells = plan(&folder);
    assert_eq!(cells.len(), 9);
    assert!(
        cells
            .iter()
            .all(|cell| cell["state"] == "pending" && cell["estimated_seconds"].is_null())
    );
    assert_eq!(
        (&cells[0]["method"], &cells[0]["pattern"], &cells[0]["seed"]),
        (&"dense".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&cells[4]["method"], &cells[4]["seed"]),
        (&"sparsegpt".into(), &0.into())
    );
    assert_eq!(
        (&cells[4]["pattern"]["keep"], &cells[4]["pattern"]["of"]),
        (&2.into(), &4.into())
    );

    // One of sparsegpt's four cells tells what the other three may take, and nothing about wanda's.
    assert!(
        zprune(&folder, &["run", "experiment.toml", "--cell", &id(&cells[4])])
            .status
            .success()
    );
    for (index, cell) in plan(&folder).iter().enumerate() {
        assert_eq!(cell["state"], if index == 4 { "done" } else { "pending" });
        assert_eq!(
            cell["estimated_seconds"].is_number(),
            cell["method"] == "sparsegpt",
            "{cell}"
        );
    }

    std::fs::remove_file(folder.path("novel.txt")).expect("the folder is writable");
    // The plan is printed, and a script that waits for its success does not go on.
    let output = zprune(&folder, &["plan", "experiment.toml", "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let missing: Value = serde_json::from_str(&shown(&output)).expect("the plan is JSON");
    assert!(missing["cells"][0]["id"].is_null());
    assert!(
        missing["missing"][0]
            .as_str()
            .is_some_and(|what| what.contains("novel.txt")),
        "{missing}"
    );
}

#[test]
fn chosen_cells_run_alone_and_make_the_records_of_a_whole_run() {
    let whole = Folder::new();
    assert!(whole.run().status.success());
    let folder = Folder::new();
    let cells = plan(&folder);
    let (first, second) = (id(&cells[6]), id(&cells[2]));
    let output = zprune(
        &folder,
        &["run", "experiment.toml", "--cell", &first, "--cell", &second],
    );
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("2 cells run, 0 had results already"),
        "{}",
        said(&output)
    );
    assert!(output.stdout.is_empty() && !folder.path("results/tiny/tables").exists());
    for cell in &cells {
        let output = zprune(&folder, &["run", "experiment.toml", "--cell", &id(cell)]);
        assert!(output.status.success(), "{}", said(&output));
    }
    let output = zprune(&folder, &["report", "experiment.toml"]);
    assert!(
        shown(&output).contains("9 cells: 9 done, 0 failed"),
        "{}",
        shown(&output)
    );
    let records = |folder: &Folder| {
        let text = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
        let parse = |line: &str| {
            let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
            record["run"].take();
            record["check"].take();
            (id(&record), record)
        };
        assert_eq!(text.lines().count(), 9);
        text.lines().map(parse).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(records(&folder), records(&whole));
}

#[test]
fn an_unknown_cell_is_answered_with_a_near_one() {
    let folder = Folder::new();
    let known = id(&plan(&folder)[1]);
    let slip = format!("{}0", &known[..15]);
    let slip = if slip == known {
        format!("{}1", &known[..15])
    } else {
        slip
    };
    let output = zprune(&folder, &["run", "experiment.toml", "--cell", &slip]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let wanted = format!("tiny has no cell {slip}; did you mean {known} (model, wanda, 50 %, seed 0)");
    assert!(said(&output).contains(&wanted), "{}", said(&output));
    assert!(!folder.path("results").exists(), "something was written");
}

#[test]
fn a_chosen_cell_waits_for_the_dense_perplexity_that_was_promised() {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "obtain = \"train it\"",
        "obtain = \"train it\"\nexpected.novel = { perplexity = 2.0, tolerance = 0.001 }",
    );
    let output = zprune(&folder, &["run", "experiment.toml", "--cell", &id(&plan(&folder)[1])]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("but 2.0000 is expected"), "{}", said(&output));
    let plan = plan(&folder);
    assert_eq!(
        (&plan[0]["state"], &plan[1]["state"]),
        (&"done".into(), &"pending".into())
    );
}

#[test]
fn a_job_array_has_a_task_for_every_cell_that_is_left() {
    let folder = Folder::new();
    let cells = plan(&folder);
    assert!(
        zprune(&folder, &["run", "experiment.toml", "--cell", &id(&cells[0])])
            .status
            .success()
    );
    let before = folder.results();
    let arguments = [
        "submit",
        "experiment.toml",
        "--engine",
        "slurm",
        "--partition",
        "gpu",
        "--time",
        "4h",
        "--mem",
        "16G",
    ];
    let output = zprune(&folder, &arguments);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(folder.results(), before, "a dry run wrote something");
    let text = shown(&output);
    for line in [
        "--array=0-7",
        "--requeue",
        "--partition=gpu",
        "--time=240",
        "--mem=16384M",
        "--cpus-per-task=1",
    ] {
        assert!(text.contains(&format!("#SBATCH {line}\n")), "{line} is not in\n{text}");
    }
    assert!(
        text.contains("--dependency=afterany:") && text.contains("zprune report "),
        "{text}"
    );
    assert!(!text.contains(&id(&cells[0])), "a finished cell is in\n{text}");
    for cell in &cells[1..] {
        let line = format!(
            "    '--cell {}' # {}\n",
            id(cell),
            cell["label"].as_str().expect("a label")
        );
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }

    let chunks = [
        &arguments[..],
        &["--chunk", "3", "--cores", "4", "--line", "--gres=gpu:1", "--write"],
    ]
    .concat();
    let output = zprune(&folder, &chunks);
    assert!(shown(&output).contains("start it with: bash "), "{}", shown(&output));
    let script = std::fs::read_to_string(folder.path("results/tiny/submit/cells.sbatch")).expect("it was written");
    for line in ["--array=0-2", "--cpus-per-task=4", "--gres=gpu:1"] {
        assert!(
            script.contains(&format!("#SBATCH {line}\n")),
            "{line} is not in\n{script}"
        );
    }
    for name in ["cells.sbatch", "report.sbatch", "submit.sh"] {
        let path = folder.path("results/tiny/submit").join(name);
        let checked = std::process::Command::new("bash")
            .arg("-n")
            .arg(path)
            .output()
            .expect("the system has bash");
        assert!(checked.status.success(), "{name}: {}", said(&checked));
    }
}

#[test]
fn a_workflow_has_a_rule_for_every_method_and_its_cells() {
    let folder = Folder::new();
    let output = zprune(
        &folder,
        &[
            "submit",
            "experiment.toml",
            "--engine",
            "snakemake",
            "--time",
            "90m",
            "--write",
        ],
    );
    assert!(output.status.success(), "{}", said(&output));
    let file = std::fs::read_to_string(folder.path("results/tiny/submit/Snakefile")).expect("it was written");
    for rule in [
        "rule all:",
        "rule report:",
        "# model, dense\nrule cells_0:",
        "# model, wanda\nrule cells_1:",
        "# model, sparsegpt\nrule cells_2:",
    ] {
        assert!(file.contains(rule), "{rule} is not in\n{file}");
    }
    assert_eq!(file.matches("resources: runtime=90\n").count(), 3);
    for cell in plan(&folder) {
        assert_eq!(
            file.matches(&id(&cell)).count(),
            2,
            "in the list and in one rule:\n{file}"
        );
    }
}

#[test]
fn submissions_that_cannot_work_are_refused() {
    let folder = Folder::new();
    for (arguments, expect) in [
        (
            &["--engine", "slrum"][..],
            "unknown engine `slrum`; did you mean `slurm`?",
        ),
        (&["--engine", "slurm", "--time", "4"], "write it as 90m, 4h or 2d"),
        (&["--engine", "slurm", "--mem", "16"], "write it as 900M, 16G or 1T"),
        (&["--engine", "slurm", "--chunk", "0"], "0 is not in 1.."),
        (&["--engine", "snakemake", "--chunk", "2"], "--chunk is for slurm"),
    ] {
        let output = zprune(&folder, &[&["submit", "experiment.toml"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(expect), "{arguments:?}: {}", said(&output));
    }
    std::fs::remove_file(folder.path("model/model.safetensors")).expect("the folder is writable");
    let output = zprune(&folder, &["submit", "experiment.toml", "--engine", "slurm"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("model.safetensors` is not there"),
        "{}",
        said(&output)
    );
}

#[test]
fn nothing_is_submitted_when_everything_is_done() {
    let folder = Folder::new();
    assert!(folder.run().status.success());
    let output = zprune(&folder, &["submit", "experiment.toml", "--engine", "slurm", "--write"]);
    assert!(
        shown(&output).contains("tiny: all cells have results; nothing to submit"),
        "{}",
        shown(&output)
    );
    assert!(!folder.path("results/tiny/submit").exists());
}

/// The program where no GPU can be found, not even a software one.
fn without_gpu(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = folder.zprune(arguments);
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nonexistent");
    }
    command.env("WGPU_BACKEND", "vulkan").env_remove("ZPRUNE_GPU_TIER");
    command.output().expect("the program starts")
}

fn on_gpu(settings: &str) -> Folder {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "[sweep]",
        &format!("[compute]\nbackend = \"gpu\"\n{settings}\n[sweep]"),
    );
    folder
}

fn planned_ids(output: &Output) -> BTreeSet<String> {
    assert!(output.status.success(), "{}", said(output));
    let plan: Value = serde_json::from_str(&shown(output)).expect("the plan is JSON");
    ids(plan["cells"].as_array().expect("a list"))
}

#[test]
fn what_an_experiment_for_a_gpu_means_is_known_without_one() {
    let json = ["plan", "experiment.toml", "--json"];
    for (settings, compute, assumed) in [("", "f16", true), ("compute = \"f32\"\n", "f32", false)] {
        let folder = on_gpu(settings);
        let plan = without_gpu(&folder, &["plan", "experiment.toml"]);
        assert!(plan.status.success(), "{}", said(&plan));
        let text = shown(&plan);
        assert!(text.contains(&format!("backend: gpu, compute {compute}")), "{text}");
        assert_eq!(text.contains("(assumed)"), assumed, "{text}");
        assert_eq!(text.contains("no GPU was found"), assumed, "{text}");
        // The ids are those of a machine that has what was taken for granted.
        let told = [&json[..], &["--compute", compute]].concat();
        let found = planned_ids(&without_gpu(&folder, &json));
        assert_eq!(found, planned_ids(&without_gpu(&folder, &told)));
        let on_cpu = [&json[..], &["--backend", "cpu", "--compute", "f32"]].concat();
        assert!(found.is_disjoint(&planned_ids(&without_gpu(&folder, &on_cpu))));

        for engine in ["slurm", "snakemake"] {
            let scripts = without_gpu(&folder, &["submit", "experiment.toml", "--engine", engine]);
            assert!(scripts.status.success(), "{}", said(&scripts));
            let pinned = format!("--backend gpu --compute {compute}");
            assert!(shown(&scripts).contains(&pinned), "{}", shown(&scripts));
            assert!(found.iter().all(|id| shown(&scripts).contains(id)), "an id is missing");
        }
        let slurm = ["submit", "experiment.toml", "--engine", "slurm"];
        for (arguments, wanted, missing) in [
            (&[][..], "#SBATCH --gres=gpu:1\n", "--gpus"),
            (&["--gpus", "3"], "#SBATCH --gres=gpu:3\n", "#SBATCH --array=0-8\n"),
            (&["--gpus", "3"], " --gpus all ", "gres=gpu:1"),
            (&["--gpus", "0"], "#SBATCH", "gres"),
            (&["--line=--gpus=h100:1"], "#SBATCH --gpus=h100:1\n", "gres"),
        ] {
            let scripts = without_gpu(&folder, &[&slurm, arguments].concat());
            let text = shown(&scripts);
            assert!(
                text.contains(wanted) && !text.contains(missing),
                "{arguments:?}: {text}{}",
                said(&scripts)
            );
        }
        let snakemake = ["submit", "experiment.toml", "--engine", "snakemake"];
        assert!(shown(&without_gpu(&folder, &snakemake)).contains("resources: gpu=1\n"));
        for refused in [
            &["--gpus", "2"][..],
            &["--backend", "cpu", "--compute", "f32", "--gpus", "1"],
        ] {
            let refused = without_gpu(&folder, &[&snakemake, refused].concat());
            assert_eq!(refused.status.code(), Some(2), "{}", shown(&refused));
            assert!(said(&refused).contains("--gpus"), "{}", said(&refused));
        }
    }
}

#[test]
fn results_of_a_gpu_are_reported_without_one() {
    let folder = on_gpu("");
    let run = without_gpu(&folder, &["run", "experiment.toml", "--backend", "cpu"]);
    assert!(run.status.success(), "{}", said(&run));
    for command in [
        &["report", "experiment.toml"][..],
        &["tokens", "experiment.toml", "--out", "out"],
    ] {
        let output = without_gpu(&folder, command);
        assert!(output.status.success(), "{command:?}: {}", said(&output));
    }
    let plan = std::fs::read_to_string(folder.path("results/tiny/plan.toml")).expect("a run writes it");
    assert!(plan.contains("backend = \"cpu\""), "a plan says who computed: {plan}");
}

#[test]
fn a_gpu_that_is_not_there_is_refused_before_anything_is_written() {
    for settings in ["", "compute = \"f16\"\n", "adapter = \"Voodoo\"\n"] {
        let folder = on_gpu(settings);
        let run = without_gpu(&folder, &["run", "experiment.toml"]);
        assert_eq!(run.status.code(), Some(2), "{settings}: {}", said(&run));
        assert!(
            said(&run).contains("backend = \"cpu\" works everywhere"),
            "{}",
            said(&run)
        );
        assert!(!folder.path("results").exists(), "{settings}: something was written");
    }
}

#[test]
fn auto_is_what_the_machine_has_and_must_fit_it() {
    let folder = Folder::new();
    folder.replace("experiment.toml", "[sweep]", "[compute]\nbackend = \"auto\"\n\n[sweep]");
    let json = ["plan", "experiment.toml", "--json"];
    let on_cpu = [&json[..], &["--backend", "cpu"]].concat();
    assert_eq!(
        planned_ids(&without_gpu(&folder, &json)),
        planned_ids(&without_gpu(&folder, &on_cpu))
    );
    let half = without_gpu(&folder, &["run", "experiment.toml", "--compute", "f16"]);
    assert_eq!(half.status.code(), Some(2), "{}", said(&half));
    assert!(said(&half).contains("needs a GPU"), "{}", said(&half));
    // No machine fits both.
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("readable");
    let text = text.replace("\"auto\"", "\"auto\"\ncompute = \"f16\"\nmemory = \"1GiB\"");
    folder.write("never.toml", text);
    let never = without_gpu(&folder, &["tokens", "never.toml", "--out", "out"]);
    assert_eq!(never.status.code(), Some(2), "{}", said(&never));
    assert!(said(&never).contains("needs a GPU"), "{}", said(&never));
}

#[test]
fn a_job_that_is_given_another_experiment_says_so() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sweep = zprune::experiment::resolve::read(&root.join("experiments/quickstart.toml")).expect("resolves");
    let nothing = zprune::experiment::plan::Experiment {
        models: Vec::new(),
        ..sweep.clone()
    };
    let folder = tempfile::tempdir().expect("room");
    let out = folder.path().join("out");
    for experiment in [&sweep, &nothing] {
        let writing = zprune::jobs::prune::Writing {
            links: zprune::model::folder::Links::Inside,
            fold: false,
        };
        let pruned = zprune::jobs::prune::prune(experiment, &out, writing, &zprune::progress::Silent);
        let error = pruned.err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("is not one model pruned once")));
        assert!(!out.exists());
    }
    let measured = zprune::jobs::eval::eval(&nothing, &zprune::progress::Silent);
    let error = measured.err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("has no model to measure")));
    let without = zprune::experiment::plan::Experiment {
        evaluations: Vec::new(),
        ..sweep
    };
    let measured = zprune::jobs::eval::eval(&without, &zprune::progress::Silent);
    let error = measured.err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("has no evaluation")));
}
