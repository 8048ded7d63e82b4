//! What is measured of a cell beside perplexity: distances from the dense model, and answers to prompts.

use super::{id, plan, said, shown, zprune};
use crate::tiny::Folder;
use ndarray::Array2;
use serde_json::Value;
use zprune::backend::cpu::Cpu;
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::data::windows::TokenWindows;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::prune::pattern::Pattern;

/// KL divergence and agreement of two models' logits, from single-precision logits in double precision: window by window.
fn distances(dense: &Array2<f32>, other: &Array2<f32>, length: usize) -> Vec<(f64, f64)> {
    let token = |row: usize| {
        let logarithms = |logits: &Array2<f32>| {
            let row = logits.row(row).mapv(f64::from);
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = largest + row.mapv(|it| (it - largest).exp()).sum().ln();
            row - sum
        };
        let greatest = |row: &ndarray::Array1<f64>| {
            let after =
                |best: (usize, f64), next: (usize, &f64)| if *next.1 > best.1 { (next.0, *next.1) } else { best };
            row.iter().enumerate().fold((0, f64::NEG_INFINITY), after).0
        };
        let (p, q) = (logarithms(dense), logarithms(other));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        (kl, f64::from(u8::from(greatest(&p) == greatest(&q))))
    };
    let windows = 0..dense.nrows() / length;
    let window = |index: usize| {
        let tokens: Vec<(f64, f64)> = (0..length - 1).map(|at| token(index * length + at)).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| tokens.iter().map(of).sum::<f64>() / tokens.len() as f64;
        (mean(|it| it.0), mean(|it| it.1))
    };
    windows.map(window).collect()
}

/// The logits of a model directory on windows of the tiny novel.
fn logits(folder: &Folder, model: &str, windows: &TokenWindows) -> Array2<f32> {
    let path = folder.path(model);
    let checkpoint = Checkpoint::open(&path, read_spec(&path).expect("a model")).expect("a model");
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    zprune::cell::size::logits(&Cpu, &checkpoint, &ends, windows).expect("logits")
}

#[test]
fn predictions_are_compared_with_the_dense_models() {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "[[method]]\nname = \"wanda\"\ncriterion = \"wanda\"\n",
        "[[method]]\ncriterion = \"magnitude\"\n[[method]]\nunits = { name = \"unit-sum\", score = \"magnitude\" }\n",
    );
    let before = plan(&folder);
    folder.replace("experiment.toml", "windows = 4", "windows = 4\ncompare_to_dense = true");
    let after = plan(&folder);
    for (before, after) in before.iter().zip(&after) {
        // The dense model is compared with nothing, so its result stays.
        assert_eq!(id(before) == id(after), before["method"] == "dense", "{after}");
    }
    assert!(folder.run().status.success());
    let records = zprune::record::read(&folder.path("results/tiny")).expect("records");
    let found = |method: &str, nm: bool| {
        let is = |record: &&zprune::record::Record| {
            let pruning = record.cell.pruning.as_ref();
            let of_four = pruning.is_some_and(|it| matches!(it.pattern(), Pattern::NofM { .. }));
            record.label.method == method && of_four == nm
        };
        records.iter().find(is).expect("a record").evaluations[0]
            .to_dense
            .clone()
    };
    assert_eq!(found("dense", false), None);
    for (method, nm) in [
        ("magnitude", false),
        ("magnitude", true),
        ("sparsegpt", true),
        ("unit-sum (score magnitude)", false),
    ] {
        let found = found(method, nm).expect("it was compared");
        assert!(found.kl > 0.01 && found.agreement < 1.0, "{method}: {found:?}");
    }

    // The same models from directories, against each other, and against logits in double precision.
    let pruned = [
        &[
            "prune",
            "--model",
            "model",
            "--method",
            "magnitude",
            "--sparsity",
            "0.5",
            "--out",
            "sparse",
        ][..],
        &[
            "shrink",
            "--model",
            "model",
            "--method",
            "unit-sum",
            "--set",
            "score=magnitude",
            "--units",
            "0.5",
            "--out",
            "smaller",
        ],
    ];
    for arguments in pruned {
        let output = zprune(&folder, arguments);
        assert!(output.status.success(), "{}", said(&output));
    }
    let text = std::fs::read_to_string(folder.path("novel.txt")).expect("a fixture");
    let ids = Tokenizer::load(&folder.path("model")).and_then(|it| it.encode(&text, Bos::Tokenizer, 259));
    let windows = TokenWindows::consecutive(&ids.expect("tokens"), 16, Some(4)).expect("windows");
    let dense = logits(&folder, "model", &windows);
    for (method, model) in [("magnitude", "sparse"), ("unit-sum (score magnitude)", "smaller")] {
        let swept = found(method, false).expect("it was compared");
        let measure = ["eval", "--model", model, "--against", "model", "--corpus", "novel.txt"];
        let sizes = ["--length", "16", "--windows", "4", "--json", "found.json", "--force"];
        let output = zprune(&folder, &[&measure[..], &sizes].concat());
        assert!(output.status.success(), "{}", said(&output));
        let said = format!("KL divergence {:.6} nats a token, same likeliest token", swept.kl);
        assert!(shown(&output).contains(&said), "{}", shown(&output));
        let json = std::fs::read(folder.path("found.json")).expect("a result");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let alone: zprune::record::ToDenseRecord = serde_json::from_value(json["to_dense"].clone()).expect("distances");
        assert!(json["against"]["weights"].is_string());
        let reference = distances(&dense, &logits(&folder, model, &windows), 16);
        for (index, (kl, agreement)) in reference.iter().enumerate() {
            for found in [&swept, &alone] {
                assert!((found.kl_windows[index] - kl).abs() < 1e-6, "{method}: {found:?}, {kl}");
                assert!(
                    (found.agreement_windows[index] - agreement).abs() < 1e-12,
                    "{method}: {found:?}, {agreement}"
                );
            }
        }
    }
    // A model has no distance from itself.
    let output = zprune(
        &folder,
        &[
            "eval",
            "--model",
            "model",
            "--against",
            "model",
            "--corpus",
            "novel.txt",
            "--length",
            "16",
        ],
    );
    assert!(
        shown(&output).contains("KL divergence 0.000000 nats a token, same likeliest token 100.00 %"),
        "{}",
        shown(&output)
    );
}

#[test]
fn prompts_are_answered_by_dense_and_pruned_models() {
    let folder = Folder::new();
    folder.write("model/generation_config.json", "{\"eos_token_id\": [1, 2]}");
    let rows = |answers: &[(usize, String)]| -> String {
        let each = answers.iter();
        each.map(|(index, answer)| {
            let question = format!("word {index} of {}", 3 * index);
            format!("{}\n", serde_json::json!({ "question": question, "answer": answer }))
        })
        .collect()
    };
    folder.write(
        "prompts.jsonl",
        rows(&(0..16).map(|index| (index, "x".to_string())).collect::<Vec<_>>()),
    );
    folder.write("examples.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");
    let ask = |more: &[&str]| {
        let ask = [
            "eval",
            "--model",
            "model",
            "--generate",
            "prompts.jsonl",
            "--template",
            "Q: {question} A:",
            "--max-tokens",
            "6",
            "--json",
            "found.json",
            "--force",
        ];
        zprune(&folder, &[&ask[..], more].concat())
    };
    let exact = ["--match", "exact", "--examples", "examples.jsonl"];
    let written = || -> Vec<String> {
        let output = ask(&exact);
        assert!(output.status.success(), "{}", said(&output));
        let json: Value =
            serde_json::from_slice(&std::fs::read(folder.path("found.json")).expect("a result")).expect("JSON");
        let samples = json["samples"]["prompts"].as_array().expect("samples").clone();
        assert!(
            samples
                .iter()
                .all(|it| it["tokens"].as_array().is_some_and(|tokens| tokens.len() <= 6))
        );
        let trimmed = |it: &Value| it["text"].as_str().expect("a text").trim().to_string();
        samples.iter().map(trimmed).collect()
    };
    // Nothing, or nothing but spaces, cannot be expected of a model.
    let mut answers: Vec<(usize, String)> = written().into_iter().enumerate().collect();
    assert_eq!(answers.len(), 16);
    answers.retain(|(_, answer)| !answer.is_empty());
    answers.truncate(12);
    assert_eq!(answers.len(), 12);
    // Expected of the model is what it writes: it is right everywhere, and a pruned one is not.
    folder.write("prompts.jsonl", rows(&answers));
    assert!(written().iter().eq(answers.iter().map(|(_, answer)| answer)));
    let text = shown(&ask(&exact));
    assert!(text.contains("100.00 %"), "{text}");
    folder.replace(
        "experiment.toml",
        "[[evaluation]]",
        "[[generation]]\nname = \"words\"\nprompts = \"prompts.jsonl\"\nexamples = \"examples.jsonl\"\nshots = 1\n\
         template = \"Q: {question} A:\"\nmax_tokens = 6\nmatch = \"exact\"\n\n[[evaluation]]",
    );
    let output = folder.run();
    assert!(output.status.success(), "{}", said(&output));
    let records = zprune::record::read(&folder.path("results/tiny")).expect("records");
    let mut wrong = 0;
    for record in &records {
        let [task] = &record.tasks[..] else {
            panic!("one task: {:?}", record.tasks);
        };
        assert_eq!((task.name.as_str(), task.documents), ("words", 12));
        if record.cell.pruning.is_none() {
            assert_eq!(task.correct, "1".repeat(12));
        } else {
            wrong += task.correct.matches('0').count();
        }
        let samples = std::fs::read_to_string(folder.path(format!("results/tiny/samples/{}/words.jsonl", record.id)));
        assert_eq!(samples.expect("samples").lines().count(), 12);
        assert_eq!(record.cell.generations[0].ends, [1, 2]);
    }
    assert!(wrong > 0, "pruned models answer everything as the dense one");
    let report = std::fs::read_to_string(folder.path("results/tiny/tables/to_dense.md")).expect("a table");
    assert!(
        report.contains("words, %") && report.contains("Kendall's tau"),
        "{report}"
    );

    // What cannot be asked or answered is said with its place.
    for (content, arguments, expected) in [
        ("{\"question\": \"a\"\n", &[][..], "prompts.jsonl: line 1"),
        (
            "{\"question\": \"a\", \"answer\": \"1\"}\n{\"answer\": \"1\"}\n",
            &[],
            "line 2: has no field `question`",
        ),
        (
            "{\"question\": \"a\", \"answer\": \"many\"}\n",
            &[],
            "line 1: field `answer` has no number",
        ),
        (
            "{\"question\": \"a\", \"answer\": \"\"}\n",
            &[],
            "field `answer` is empty",
        ),
        (
            "{\"question\": \" \", \"answer\": \"1\"}\n",
            &["--template", "{question}"],
            "line 1: its prompt is empty",
        ),
        ("", &[], "has no rows"),
        (
            "{\"question\": \"a\", \"answer\": \"1\"}\n",
            &["--examples", "examples.jsonl", "--shots", "2"],
            "fewer than shots = 2",
        ),
        (
            "{\"question\": \"a\", \"answer\": \"1\"}\n",
            &["--template", "{question"],
            "not closed",
        ),
        (
            "{\"question\": \"a\", \"answer\": \"1\"}\n",
            &["--stop", ""],
            "is empty, so every answer would be",
        ),
    ] {
        folder.write("prompts.jsonl", content);
        let kept: Vec<&str> = ["eval", "--model", "model", "--generate", "prompts.jsonl"].to_vec();
        let template = match arguments.contains(&"--template") {
            true => &[][..],
            false => &["--template", "Q: {question} A:"],
        };
        let output = zprune(&folder, &[&kept[..], template, arguments].concat());
        assert!(!output.status.success(), "{content}");
        assert!(said(&output).contains(expected), "{expected}: {}", said(&output));
    }
    let long = serde_json::json!({ "question": "word ".repeat(30), "answer": "1" });
    folder.write("prompts.jsonl", format!("{long}\n"));
    let output = ask(&[]);
    assert!(
        said(&output).contains("line 1: its prompt has") && said(&output).contains("have at most 64 tokens"),
        "{}",
        said(&output)
    );
    // Without a number the answer is wrong, which is no error.
    folder.write("prompts.jsonl", "{\"question\": \"a\", \"answer\": \"123456\"}\n");
    let output = ask(&[]);
    assert!(
        output.status.success() && shown(&output).contains("0.00 %"),
        "{}{}",
        said(&output),
        shown(&output)
    );
}

#[test]
fn prompts_may_be_turns_of_a_conversation() {
    let folder = Folder::new();
    folder.write("model/generation_config.json", "{\"eos_token_id\": [1, 2]}");
    let config = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"bos_token\": \"<s>\"}";
    folder.write("model/tokenizer_config.json", config);
    let rows: Vec<String> = (0..8)
        .map(|index| format!("{{\"question\": \"w {index}\", \"answer\": \"x\"}}\n"))
        .collect();
    folder.write("prompts.jsonl", rows.concat());
    folder.write("examples.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");
    let ask = |more: &[&str]| {
        let ask = [
            "eval",
            "--model",
            "model",
            "--generate",
            "prompts.jsonl",
            "--examples",
            "examples.jsonl",
        ];
        let how = [
            "--match",
            "exact",
            "--max-tokens",
            "6",
            "--json",
            "found.json",
            "--force",
        ];
        zprune(&folder, &[&ask[..], &how, more].concat())
    };
    let written = |more: &[&str]| -> Vec<Value> {
        let output = ask(more);
        assert!(output.status.success(), "{}", said(&output));
        let json = std::fs::read(folder.path("found.json")).expect("a result");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let samples = json["samples"]["prompts"].as_array().expect("samples");
        samples.iter().map(|it| it["tokens"].clone()).collect()
    };
    let chat = ["--chat", "--template", "{question}"];
    let output = ask(&chat);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("model: has no chat template"),
        "{}",
        said(&output)
    );

    // Text that the template writes, and the same text written into the prompt: one `<s>` stands before each.
    let template = "{{ bos_token }}{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\
                    {{ '\\n' if turn.role == 'user' else '\\n\\n' }}{% endfor %}[assistant]";
    folder.write("model/chat_template.jinja", template);
    let plain = written(&["--template", "[user] {question}\n[assistant]"]);
    assert_eq!(plain.len(), 8);
    assert_eq!(written(&chat), plain);
    folder.write("model/chat_template.jinja", format!("{template} "));
    assert_ne!(written(&chat), plain);
    folder.write(
        "model/chat_template.jinja",
        "{{ messages[0].content }}\n{{ raise_exception('too short') }}",
    );
    let output = ask(&chat);
    let message = "prompts.jsonl: line 1: model/chat_template.jinja: line 2: the template fails: too short";
    assert!(said(&output).contains(message), "{}", said(&output));

    // In a sweep, the template is a part of what a cell is.
    let generation = "[[generation]]\nname = \"words\"\nprompts = \"prompts.jsonl\"\ntemplate = \"{question}\"\nmax_tokens = 6\n\
                      match = \"exact\"\n\n[[evaluation]]";
    folder.write("model/chat_template.jinja", template);
    folder.replace("experiment.toml", "[[evaluation]]", generation);
    let ids = || -> Vec<String> { plan(&folder).iter().map(id).collect() };
    let without = ids();
    folder.replace("experiment.toml", "max_tokens = 6", "max_tokens = 6\nchat = false");
    assert_eq!(ids(), without);
    folder.replace("experiment.toml", "chat = false", "chat = true");
    let with = ids();
    assert!(with.iter().all(|id| !without.contains(id)));
    folder.write("model/chat_template.jinja", format!("{template} "));
    assert!(ids().iter().all(|id| !with.contains(id)));
    let output = folder.run();
    assert!(output.status.success(), "{}", said(&output));
    let records = zprune::record::read(&folder.path("results/tiny")).expect("records");
    for record in &records {
        assert!(record.cell.generations[0].settings.chat && record.cell.generations[0].chat_template.is_some());
    }
}
