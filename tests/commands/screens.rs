//! Claims about what is printed on a terminal: tables, help and progress fit it.

use super::{run, works};
use crate::tiny::Folder;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program prints to standard output where a terminal of this width is.
fn printed(folder: &Path, width: usize, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_zprune"))
        .current_dir(folder)
        .env("COLUMNS", width.to_string())
        .stdin(Stdio::null())
        .args(words)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fits(text: &str, width: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= width, "wider than {width}: {line}");
    }
}

/// The names of the commands in the help.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).expect("commands");
    let list = list.split("\n\n").next().expect("a list").lines();
    let named = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_string)
        .collect()
}

#[test]
fn help_fits_80_columns_and_has_no_word_alone_on_a_line_within_a_paragraph() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let help = printed(here, 80, &["--help"]);
    let commands = commands(&help);
    assert!(commands.len() > 10, "{commands:?}");
    let mut pages = vec![help];
    for command in commands.iter().filter(|it| *it != "help") {
        pages.push(printed(here, 80, &[command, "--help"]));
    }
    for page in pages {
        fits(&page, 80);
        for paragraph in page.split("\n\n") {
            let lines: Vec<&str> = paragraph.lines().collect();
            for pair in lines.windows(2) {
                // A line that is further in or out begins something else.
                let indent = |line: &str| line.len() - line.trim_start().len();
                if indent(pair[0]) != indent(pair[1]) {
                    continue;
                }
                let [line, next] = [pair[0], pair[1]].map(str::trim);
                // Names of options, headings and items of lists stand alone on purpose.
                let named = |text: &str| text.starts_with(['-', '<', '[']) || text.ends_with(':');
                let alone = !line.contains(' ') && !line.is_empty() && !next.is_empty() && !named(line);
                assert!(!alone || named(next), "`{line}` is alone in:\n{paragraph}");
            }
        }
    }
}

#[test]
fn tables_of_a_report_fit_80_100_and_140_columns_and_are_whole_where_there_is_no_terminal() {
    let folder = Folder::new();
    works(&run(&folder, "run experiment.toml"));
    let everything = works(&run(&folder, "report results/tiny"));
    for width in [80, 100, 140] {
        let text = printed(&folder.path("."), width, &["report", "results/tiny"]);
        fits(&text, width);
        for row in ["dense", "sparsegpt", "wanda"] {
            assert!(text.contains(row), "{width}: no {row} in {text}");
        }
    }
    assert!(
        everything.contains("group") && !everything.contains("left out"),
        "{everything}"
    );
}

#[test]
fn lists_and_plans_fit_the_terminal_and_are_whole_lines_where_there_is_none() {
    let folder = Folder::new();
    for words in [
        &["list"][..],
        &["list", "wanda"],
        &["list", "fista"],
        &["list", "sparsegpt"],
        &["list", "expression"],
        &["plan", "experiment.toml"],
    ] {
        let whole = works(&run(&folder, &words.join(" ")));
        assert!(whole.lines().any(|line| line.chars().count() > 80), "{whole}");
        for width in [80, 140] {
            let text = printed(&folder.path("."), width, words);
            fits(&text, width);
            let timeless = |text: &str| text.split("memory, ").next().expect("a first part").to_string();
            assert!(
                timeless(&text)
                    .split_whitespace()
                    .eq(timeless(&whole).split_whitespace()),
                "{text}"
            );
        }
    }
}

#[test]
fn messages_fit_the_terminal_and_are_whole_lines_where_there_is_none() {
    let folder = Folder::new();
    folder.replace("experiment.toml", "name = \"tiny\"", "name = \"tiny\"\nunknown_key = 3");
    for words in [
        &["plan", "experiment.toml"][..],
        &[
            "prune",
            "--model",
            "nothing",
            "--method",
            "wnda",
            "--sparsity",
            "0.5",
            "--out",
            "out",
        ],
        &["eval", "--model", "model"],
        &["nonsense", "--with", "options"],
    ] {
        let said = |width: Option<&str>| {
            let mut command = folder.zprune(words);
            match width {
                Some(width) => command.env("COLUMNS", width),
                None => command.env_remove("COLUMNS"),
            };
            let output = command.output().expect("the program starts");
            assert!(!output.status.success(), "{words:?}");
            String::from_utf8(output.stderr).expect("UTF-8")
        };
        let whole = said(None);
        let narrow = said(Some("60"));
        // What is drawn of a file stays as it is.
        let drawn = |line: &&str| line.contains(|c: char| ('\u{2500}'..='\u{257f}').contains(&c));
        for line in narrow.lines().filter(|line| !drawn(line)) {
            let long = line.chars().count();
            assert!(long <= 60 || line.split_whitespace().count() == 1, "{words:?}: {line}");
        }
        assert!(narrow.split_whitespace().eq(whole.split_whitespace()), "{narrow}");
    }
}

#[test]
fn comparisons_of_long_names_are_one_table_at_80_columns() {
    let folder = Folder::new();
    let methods = "methods = [{ criterion = \"ria\", name = \"relative importance with activations\" }]";
    folder.replace(
        "experiment.toml",
        "name = \"tiny\"",
        &format!("name = \"tiny\"\n{methods}"),
    );
    works(&run(&folder, "run experiment.toml"));
    let text = printed(
        &folder.path("."),
        80,
        &["report", "results/tiny", "--table", "comparisons"],
    );
    fits(&text, 80);
    assert_eq!(
        text.matches("p (Holm)").count() + text.matches("(Holm)").count(),
        1,
        "one table: {text}"
    );
    let name = "relative importance with activations against wanda\n";
    assert!(text.lines().any(|line| format!("{line}\n") == name), "{text}");
    assert!(text.contains("left out: detectable."), "{text}");
}
