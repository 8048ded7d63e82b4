//! Claims: on every task zprune renders the texts that lm-evaluation-harness renders and gets its scores, in both
//! generations of it and on both backends; data that cannot be used is refused with file, line and field; what is
//! scored in a sweep is the pruned model.
//!
//! The documents under `tests/fixtures/tasks` were written for these tests; `tests/golden/tasks` holds what
//! lm_eval 0.4.13 (transformers 5.24, float32) makes of them with `models/tiny-llama`. `tools/check_tasks.py` made it.

mod gpu;
#[allow(dead_code, reason = "only the folder is of use here")]
mod tiny;

use serde_json::Value;
use std::path::{Path, PathBuf};
use zprune::backend::Compute;
use zprune::cell::Sample;
use zprune::data::tokenizer::Tokenizer;
use zprune::eval::choice::Encoder;
use zprune::eval::tasks::{self, Document, Harness, Request as Asked, TASKS};
use zprune::experiment::machine::{MachineRequest, Wanted};
use zprune::experiment::raw::RawTask;
use zprune::experiment::single::{self, SingleModel};
use zprune::jobs::eval::{TaskEvaluation, score};
use zprune::model::families::read_spec;
use zprune::progress::Silent;

/// Log-likelihoods of whole continuations, in nats; transformers' own kernels differ by as much.
const CLOSE: f64 = 1e-3;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(root("tests/golden/tasks").join(name)).expect("a file of the repository");
    serde_json::from_str(&text).expect("golden files are JSON")
}

fn scored(harness: Harness, machine: MachineRequest) -> TaskEvaluation {
    let common = SingleModel {
        model: root("models/tiny-llama"),
        protocol: None,
        bos: None,
        machine,
    };
    let raw = |name: &str| RawTask {
        name: name.to_string(),
        data: Some(single::typed(root("tests/fixtures/tasks"))),
        obtain: None,
        limit: None,
        harness: Some(harness),
    };
    let tasks: Vec<RawTask> = TASKS.entries.iter().map(|entry| raw(entry.name)).collect();
    let experiment = single::scoring(&common, &tasks).expect("all tasks exist");
    score(&experiment, &Silent).expect("all documents can be scored")
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// Every document's scores and every metric are the harness's.
fn agrees(found: &TaskEvaluation, golden: &Value) {
    assert_eq!(found.tasks.len(), TASKS.entries.len());
    for record in &found.tasks {
        let want = &golden["tasks"][&record.name];
        let documents = want["documents"].as_array().expect("documents");
        let samples = &found.samples[&record.name];
        assert_eq!(samples.len(), documents.len(), "{}", record.name);
        for (sample, document) in samples.iter().zip(documents) {
            let Sample::Choices(sample) = sample else {
                panic!("{}: a zero-shot task has choices", record.name);
            };
            let place = format!("{}, document {}", record.name, sample.doc);
            let likelihoods = numbers(&document["loglikelihood"]);
            assert_eq!(sample.loglikelihood.len(), likelihoods.len(), "{place}");
            for (got, want) in sample.loglikelihood.iter().zip(likelihoods) {
                assert!((got - want).abs() < CLOSE, "{place}: {got}, not {want}");
            }
            assert_eq!(serde_json::json!(sample.greedy), document["greedy"], "{place}");
        }
        for (name, metric) in &record.metrics {
            let want_value = want["metrics"][name].as_f64().expect("the harness has the metric");
            if name == "perplexity" {
                assert!(
                    (metric.value / want_value - 1.0).abs() < 1e-4,
                    "{}: {}",
                    record.name,
                    metric.value
                );
                continue;
            }
            assert_eq!(metric.value, want_value, "{} {name}", record.name);
            let error = want["metrics"][format!("{name}_stderr")]
                .as_f64()
                .expect("a standard error");
            let got = metric.stderr.expect("several documents");
            assert!(
                (got - error).abs() < 1e-12,
                "{} {name}: {got}, not {error}",
                record.name
            );
        }
    }
}

#[test]
fn scores_are_the_harness_s_with_the_tokenizer_s_bos() {
    agrees(
        &scored(Harness::V0_4_9_2, MachineRequest::default()),
        &golden("tokenizer.json"),
    );
}

#[test]
fn scores_are_the_older_harness_s_without_bos() {
    let (never, tokenizer) = (golden("never.json"), golden("tokenizer.json"));
    agrees(&scored(Harness::V0_4_0, MachineRequest::default()), &never);
    let first = |golden: &Value| golden["tasks"]["boolq"]["documents"][0]["loglikelihood"].clone();
    assert_ne!(
        first(&never),
        first(&tokenizer),
        "this tokenizer adds a BOS, and it matters"
    );
}

#[test]
fn scores_are_the_harness_s_on_a_gpu() {
    if gpu::best_tier().is_none() {
        return;
    }
    let adapters = zprune::backend::gpu::adapter::list();
    let best = adapters
        .iter()
        .min_by_key(|adapter| adapter.software)
        .expect("there is one");
    let machine = MachineRequest {
        backend: Some(Wanted::Gpu),
        compute: Some(Compute::F32),
        adapter: Some(best.name.clone()),
        ..MachineRequest::default()
    };
    agrees(&scored(Harness::V0_4_9_2, machine), &golden("tokenizer.json"));
}

#[test]
fn texts_are_the_harness_s_to_the_character() {
    let golden = golden("tokenizer.json");
    for entry in TASKS.entries {
        let path = root("tests/fixtures/tasks").join(format!("{}.jsonl", entry.name));
        let read = tasks::read(&entry.item, &path, None, Harness::default()).expect("fixtures are good");
        let documents = golden["tasks"][entry.name]["documents"].as_array().expect("documents");
        assert_eq!(read.len(), documents.len());
        for ((_, place, document), want) in read.iter().zip(documents) {
            let texts: Vec<[&str; 2]> = document
                .requests
                .iter()
                .map(|request| [request.context.as_str(), request.continuation.as_str()])
                .collect();
            assert_eq!(serde_json::json!(texts), want["texts"], "{} {place}", entry.name);
        }
    }
}

#[test]
fn rows_of_parquet_are_the_rows_of_json_lines() {
    let task = &TASKS.find("arc_easy").expect("a task").item;
    let read = |path| tasks::read(task, &root(path), None, Harness::default()).expect("fixtures are good");
    let documents = |path| {
        read(path)
            .into_iter()
            .map(|(row, _, document)| (row, document))
            .collect::<Vec<_>>()
    };
    let lines = documents("tests/fixtures/tasks/arc_easy.jsonl");
    assert_eq!(documents("tests/fixtures/parquet/arc_easy.parquet"), lines);
    assert_eq!(read("tests/fixtures/parquet/arc_easy.parquet")[1].1, "row 2");
}

fn asked(context: &str, continuation: &str) -> Document {
    Document {
        requests: vec![Asked {
            context: context.to_string(),
            continuation: continuation.to_string(),
            characters: continuation.chars().count(),
        }],
        gold: 0,
        source: None,
    }
}

#[test]
fn what_is_too_long_is_cut_on_the_left_and_a_continuation_never() {
    let model = root("models/tiny-llama");
    let spec = read_spec(&model).expect("the embedded model");
    let tokenizer = Tokenizer::load(&model).expect("the embedded model");
    let encoder = Encoder::new(&tokenizer, &spec, Harness::default());
    let text = "the sea was calm and ".repeat(300).trim_end().to_string();
    let encoded = encoder
        .encode(&asked(&text, " said the captain"), "line 1")
        .expect("it is cut");
    let request = &encoded.requests[0];
    assert_eq!(request.input.len(), 512, "the model's context");
    assert!(request.truncated > 500);
    let whole = encoder
        .encode(&asked("the sea was calm and", " said the captain"), "line 1")
        .expect("short");
    assert_eq!(whole.requests[0].targets, request.targets);
    assert_eq!(whole.requests[0].input[0], 1, "<s>");
    assert_ne!(request.input[0], 1, "<s> was cut off");
    let error = encoder
        .encode(&asked("He said", &text), "line 7")
        .expect_err("longer than the context")
        .to_string();
    assert!(
        error.contains("line 7: choice 0: it has ") && error.contains("context of 512"),
        "{error}"
    );
}

#[test]
fn white_space_at_the_end_of_a_context_belongs_to_the_continuation() {
    let model = root("models/tiny-llama");
    let spec = read_spec(&model).expect("the embedded model");
    let tokenizer = Tokenizer::load(&model).expect("the embedded model");
    let encoder = Encoder::new(&tokenizer, &spec, Harness::V0_4_0);
    let moved = encoder.encode(&asked("the captain ", "said"), "").expect("short");
    let plain = encoder.encode(&asked("the captain", " said"), "").expect("short");
    assert_eq!(moved.requests[0].input, plain.requests[0].input);
    assert_eq!(moved.requests[0].targets, plain.requests[0].targets);
    let alone = encoder
        .encode(&asked("", " said"), "")
        .expect("an empty context is the end of a text");
    assert_eq!(alone.requests[0].input, [2], "</s>");
    let blank = encoder
        .encode(&asked(" \n", "said"), "line 2")
        .expect_err("no context")
        .to_string();
    assert!(blank.contains("line 2: choice 0: its context has no tokens"), "{blank}");
}

/// The first token of an empty context, where these files are beside the tokenizer of a model that says BOS is 1.
fn prefix(files: &[(&str, &str)], harness: Harness) -> Result<u32, String> {
    let fixtures = root("tests/fixtures/tiny");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(fixtures.join(name), folder.path().join(name)).expect("fixtures are in the repository");
    }
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("writable");
    }
    let spec = read_spec(folder.path()).expect("the tiny model");
    let tokenizer = Tokenizer::load(folder.path()).expect("the tiny tokenizer");
    let encoder = Encoder::new(&tokenizer, &spec, harness);
    let encoded = encoder.encode(&asked("", " said"), "line 1");
    encoded
        .map(|it| it.requests[0].input[0])
        .map_err(|error| error.to_string())
}

#[test]
fn an_empty_context_is_the_token_that_the_tokenizer_names() {
    const CONFIG: &str = "tokenizer_config.json";
    for (files, newest, before) in [
        // As Qwen 2.5: no BOS, whatever the model's configuration says of one.
        (&[(CONFIG, r#"{"bos_token": null, "eos_token": "</s>"}"#)][..], 2, 2),
        (&[(CONFIG, r#"{"eos_token": "</s>"}"#)], 2, 2),
        (&[(CONFIG, r#"{"bos_token": "<s>", "eos_token": "</s>"}"#)], 1, 2),
        (
            &[(CONFIG, r#"{"bos_token": {"content": "<unk>"}, "eos_token": "</s>"}"#)],
            0,
            2,
        ),
        // The map goes before the configuration, but for one that lists the added tokens itself.
        (
            &[
                (CONFIG, r#"{"bos_token": "<s>", "eos_token": "</s>"}"#),
                (
                    "special_tokens_map.json",
                    r#"{"bos_token": "</s>", "eos_token": {"content": "<s>"}}"#,
                ),
            ],
            2,
            1,
        ),
        (
            &[
                (
                    CONFIG,
                    r#"{"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": {}}"#,
                ),
                (
                    "special_tokens_map.json",
                    r#"{"bos_token": "</s>", "eos_token": "<s>"}"#,
                ),
            ],
            1,
            2,
        ),
        // A class of tokenizers has names of its own.
        (
            &[(
                CONFIG,
                r#"{"tokenizer_class": "GPT2Tokenizer", "bos_token": "<unk>", "eos_token": "</s>"}"#,
            )],
            0,
            2,
        ),
    ] {
        assert_eq!(prefix(files, Harness::default()), Ok(newest), "{files:?}");
        assert_eq!(prefix(files, Harness::V0_4_0), Ok(before), "{files:?}");
    }
    for files in [
        &[][..],
        &[(CONFIG, "{}")],
        &[(CONFIG, r#"{"bos_token": null, "eos_token": null}"#)],
    ] {
        let error = prefix(files, Harness::default()).expect_err("no name");
        assert!(error.contains("line 1: choice 0: its context is empty"), "{error}");
    }
    let error = prefix(&[(CONFIG, r#"{"bos_token": "<new>"}"#)], Harness::default()).expect_err("a token too many");
    assert!(
        error.contains("`<new>` (259) that takes its place is outside"),
        "{error}"
    );
}

#[test]
fn bad_data_is_refused_with_file_line_and_field() {
    let good = r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}"#;
    let arc = r#"{"question": "a", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "A"}"#;
    for (name, task, line, expect) in [
        (
            "missing field",
            "piqa",
            r#"{"goal": "a", "sol1": "b", "label": 0}"#,
            "line 2: has no field `sol2`",
        ),
        (
            "label out of range",
            "piqa",
            r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": 2}"#,
            "line 2: field `label`: 2 is not in 0..=1",
        ),
        (
            "no labels",
            "piqa",
            r#"{"goal": "a", "sol1": "b", "sol2": "c", "label": -1}"#,
            "is it a split without labels?",
        ),
        (
            "wrong type",
            "piqa",
            r#"{"goal": ["a"], "sol1": "b", "sol2": "c", "label": 0}"#,
            "line 2: field `goal` is not a string",
        ),
        (
            "empty choice",
            "piqa",
            r#"{"goal": "a", "sol1": "b", "sol2": "", "label": 0}"#,
            "line 2: field `sol2` is empty",
        ),
        (
            "broken JSON",
            "piqa",
            r#"{"goal": "a", "#,
            "line 2: not a JSON object: EOF while parsing",
        ),
        (
            "key without label",
            "arc_easy",
            &arc.replace("\"A\"}", "\"C\"}"),
            "line 2: field `answerKey`: \"C\" is none of the labels",
        ),
        (
            "empty answer",
            "arc_easy",
            &arc.replace("\"c\"", "\"\""),
            "line 2: field `choices.text`: element 1 is empty",
        ),
        (
            "labels too few",
            "arc_easy",
            &arc.replace("[\"A\", \"B\"]", "[\"A\"]"),
            "line 2: field `choices` has 2 texts, but 1 labels",
        ),
        (
            "no blank",
            "winogrande",
            r#"{"sentence": "a", "option1": "b", "option2": "c", "answer": "1"}"#,
            "line 2: field `sentence` has no blank `_`",
        ),
        (
            "no last word",
            "lambada_openai",
            r#"{"text": "a b "}"#,
            "line 2: field `text` ends with a space",
        ),
        (
            "markup only",
            "hellaswag",
            r#"{"activity_label": "a", "ctx_a": "b", "ctx_b": "", "endings": ["[x]", "c"], "label": "1"}"#,
            "line 2: choice 0 is empty",
        ),
    ] {
        let folder = tiny::Folder::new();
        let first = match task {
            "piqa" => good.to_string(),
            "arc_easy" => arc.to_string(),
            "winogrande" => r#"{"sentence": "a _ d", "option1": "b", "option2": "c", "answer": "1"}"#.to_string(),
            "lambada_openai" => r#"{"text": "a b"}"#.to_string(),
            _ => r#"{"query": "a", "choices": ["b", "c"], "gold": 1}"#.to_string(),
        };
        folder.write("data.jsonl", format!("{first}\n{line}\n"));
        let arguments = [
            "eval",
            "--model",
            "model",
            "--tasks",
            task,
            "--data",
            "data.jsonl",
            "--json",
            "out.json",
        ];
        let output = folder.zprune(&arguments).output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        assert!(
            text.contains("data.jsonl: ") && text.contains(expect),
            "{name}: does not say `{expect}`:\n{text}"
        );
        assert!(
            !text.contains("panicked") && !folder.path("out.json").exists(),
            "{name}: {text}"
        );
    }
}

#[test]
fn scores_can_be_written_as_lm_evaluation_harness_writes_them() {
    let folder = tiny::Folder::new();
    let rows = (0..5).map(|it| format!("{{\"query\": \"a{it}\", \"choices\": [\"b\", \"cc\"], \"gold\": 1}}\n"));
    let arc = (0..4).map(|it| {
        format!(
            "{{\"question\": \"q{it}\", \"choices\": {{\"text\": [\"x\", \"yy\"], \"label\": [\"A\", \"B\"]}}, \"answerKey\": \"B\"}}\n"
        )
    });
    std::fs::create_dir(folder.path("tasks")).expect("writable");
    folder.write("tasks/hellaswag.jsonl", rows.collect::<String>());
    folder.write("tasks/arc_easy.jsonl", arc.collect::<String>());
    folder.write(
        "tasks/lambada_openai.jsonl",
        "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n",
    );
    let tasks = "hellaswag,arc_easy,lambada_openai";
    let eval = |more: &[&str]| {
        let words = ["eval", "--model", "model", "--tasks", tasks, "--data", "tasks"];
        folder
            .zprune(&[&words, more].concat())
            .output()
            .expect("the program starts")
    };
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.path(file)).expect("written")).expect("JSON")
    };
    for (file, format) in [
        ("own.json", "zprune"),
        ("theirs.json", "lm-eval"),
        ("theirs.json", "lm-eval"),
    ] {
        let output = eval(&["--json", file, "--format", format, "--limit", "4"]);
        assert!(output.status.success(), "{output:?}");
    }
    let (own, theirs) = (read("own.json"), read("theirs.json"));
    for (index, name) in tasks.split(',').enumerate() {
        let (record, scores) = (&own["tasks"][index], &theirs["results"][name]);
        assert_eq!(record["name"], name);
        assert_eq!(scores["alias"], name);
        for (metric, value) in record["metrics"].as_object().expect("metrics") {
            assert_eq!(scores[format!("{metric},none")], value["value"], "{name} {metric}");
            let error = &scores[format!("{metric}_stderr,none")];
            match value.get("stderr") {
                Some(stderr) => assert_eq!(error, stderr),
                None => assert_eq!(error, "N/A"),
            }
            assert_eq!(theirs["higher_is_better"][name][metric], metric != "perplexity");
        }
        assert_eq!(theirs["versions"][name].as_f64(), record["version"].as_f64());
        assert_eq!(theirs["n-shot"][name], 0);
        assert_eq!(theirs["n-samples"][name]["effective"], record["documents"]);
        assert_eq!(theirs["configs"][name]["task"], name);
        assert_eq!(theirs["configs"][name]["num_fewshot"], 0);
        assert_eq!(theirs["configs"][name]["metadata"]["version"], theirs["versions"][name]);
        assert!(theirs["group_subtasks"][name].is_array());
    }
    // Two documents are fewer than the limit, so they are all there are; of the others nobody knows.
    assert_eq!(theirs["n-samples"]["lambada_openai"]["original"], 2);
    assert!(theirs["n-samples"]["hellaswag"]["original"].is_null());
    assert_eq!(theirs["configs"]["arc_easy"]["dataset_path"], "allenai/ai2_arc");
    assert_eq!(
        theirs["configs"]["lambada_openai"]["dataset_path"],
        "EleutherAI/lambada_openai"
    );
    assert_eq!(theirs["configs"]["lambada_openai"]["output_type"], "loglikelihood");
    assert_eq!(theirs["config"]["limit"], 4);
    assert_eq!(theirs["lm_eval_version"], "0.4.9.2");
    for key in [
        "model",
        "model_args",
        "batch_size",
        "device",
        "bootstrap_iters",
        "random_seed",
    ] {
        assert!(theirs["config"].get(key).is_some(), "{key}");
    }
    // A foreign file stays, and a text has no such layout.
    folder.write("foreign.json", "{\"results\": {}, \"n-shot\": {}}");
    assert!(
        !eval(&["--json", "foreign.json", "--format", "lm-eval"])
            .status
            .success()
    );
    let words = [
        "eval",
        "--model",
        "model",
        "--corpus",
        "novel.txt",
        "--length",
        "16",
        "--json",
        "p.json",
    ];
    let output = folder
        .zprune(&[&words[..], &["--format", "lm-eval"]].concat())
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("add --tasks, or leave --format out"),
        "{said}"
    );
}

#[test]
fn a_plan_says_what_is_scored_by_whose_rules_and_what_is_compared() {
    let folder = tiny::Folder::new();
    let experiment = root("experiments/zpruner_table.toml");
    let arguments = ["plan", experiment.to_str().expect("a path in UTF-8")];
    let output = folder.zprune(&arguments).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "task: wnli, all documents from hub:nyu-mll/glue/wnli/validation-00000-of-00001.parquet, as lm-evaluation-harness 0.3 scores them\n",
        "family: Z-Pruner against each baseline: z-pruner against magnitude, wanda, sparsegpt, ria\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn the_pruned_model_is_what_is_scored() {
    let folder = tiny::Folder::new();
    let novel = std::fs::read_to_string(root("corpora/austen_calibration.txt")).expect("a text of the repository");
    let words: Vec<&str> = novel.split_whitespace().collect();
    let passages = words.chunks_exact(40).take(100);
    let lines = passages.map(|words| format!("{}\n", serde_json::json!({ "text": words.join(" ") })));
    folder.write("lambada_openai.jsonl", lines.collect::<String>());
    let model = root("models/tiny-llama");
    folder.write(
        "tasks.toml",
        format!(
            "name = \"tasks\"\n[[model]]\npath = '{}'\n[sweep]\npatterns = [{{ sparsity = 0.95 }}]\n\
             [[method]]\ncriterion = \"magnitude\"\n[[task]]\nname = \"lambada_openai\"\ndata = \"lambada_openai.jsonl\"\n",
            model.display()
        ),
    );
    let output = folder.zprune(&["tasks.toml"]).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs = std::fs::read_to_string(folder.path("results/tasks/runs.jsonl")).expect("there are records");
    let records: Vec<Value> = runs
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [dense, pruned] = &records[..] else {
        panic!("two cells, not {}", records.len());
    };
    let metric = |record: &Value, name: &str| record["tasks"][0]["metrics"][name]["value"].as_f64().expect("a value");
    assert!(
        metric(dense, "acc") >= 0.1,
        "the model knows the novel it read: {}",
        metric(dense, "acc")
    );
    assert!(
        metric(pruned, "acc") < metric(dense, "acc") / 2.0,
        "{}",
        metric(pruned, "acc")
    );
    assert!(metric(pruned, "perplexity") > 10.0 * metric(dense, "perplexity"));
    for record in [dense, pruned] {
        assert_eq!(record["tasks"][0]["documents"], 100);
        assert_eq!(record["cell"]["tasks"][0]["data"], record["tasks"][0]["data_digest"]);
        let id = record["id"].as_str().expect("an id");
        let samples = folder.path(format!("results/tasks/samples/{id}/lambada_openai.jsonl"));
        let samples = std::fs::read_to_string(samples).expect("every cell has its samples");
        let log = |line: &str| -> f64 {
            let sample: Value = serde_json::from_str(line).expect("a sample is JSON");
            sample["loglikelihood"][0].as_f64().expect("a number")
        };
        let mean = samples.lines().map(log).sum::<f64>() / 100.0;
        let perplexity = metric(record, "perplexity");
        assert!(
            ((-mean).exp() / perplexity - 1.0).abs() < 1e-9,
            "the record follows from its samples"
        );
    }
}
