//! The study's pages: what their blocks say is what `zprune report` makes of the committed records, and their sentences quote nothing else.
//!
//! A block is what stands between `<!-- zprune report ... -->` and `<!-- end -->`: the command, and what it prints. With
//! `ZPRUNE_WRITE_PAGES=1` the test writes the blocks in place of comparing them. The list of its questions says what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use zprune::experiment::machine::MachineRequest;
use zprune::experiment::plan_file::PlanFile;
use zprune::experiment::resolve::{self, Described};
use zprune::report::results::Results;
use zprune::report::union::{ResultsFolder, RowsBy, union};

/// The findings; each section links the page that has its tables.
const PAGE: &str = "docs/study.md";

/// The folder of the pages with tables.
const TABLES: &str = "docs/study";

const BEGINNING: &str = "<!-- zprune ";
const END: &str = "<!-- end -->";

/// A part of a page.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    /// A line as somebody wrote it.
    Line(&'a str),
    /// A command with what stands below it.
    Block(&'a str, String),
}

/// The parts of a page, in order.
fn parts(page: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix(BEGINNING) else {
            parts.push(Part::Line(line));
            continue;
        };
        let command = command.strip_suffix(" -->").expect("a command ends in its line");
        let mut content = String::new();
        loop {
            match lines.next().unwrap_or_else(|| panic!("`{command}` has no {END}")) {
                END => break,
                line => content += &format!("{line}\n"),
            }
        }
        parts.push(Part::Block(command, content));
    }
    parts
}

/// The words of a command; those in double quotes may have spaces.
fn words(command: &str) -> Vec<String> {
    let pieces = command.split('"').enumerate();
    pieces
        .flat_map(|(index, piece)| match index % 2 {
            0 => piece.split_whitespace().map(String::from).collect(),
            _ => vec![piece.to_string()],
        })
        .collect()
}

/// What a command prints, as it stands in a page: its headings are below those of the page.
fn printed(command: &str) -> String {
    let words = words(command);
    assert_eq!(words[0], "report", "{command}");
    let output = Command::new(env!("CARGO_BIN_EXE_zprune"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(&words)
        .args(["--format", "markdown"])
        .output()
        .expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    let lines = text.lines().map(|line| match line.strip_prefix("## ") {
        Some(title) => format!("#### {title}\n"),
        None => format!("{line}\n"),
    });
    format!("\n{}\n", lines.collect::<String>())
}

/// The figures in a text: words with digits and without letters, without signs and marks. What is in code or the target of a link is a
/// name or a setting.
fn figures(text: &str) -> BTreeSet<String> {
    let mut plain = String::new();
    for (index, piece) in text.split('`').enumerate() {
        if index % 2 == 0 {
            plain.push_str(piece);
        }
    }
    while let Some(from) = plain.find("](") {
        let to = plain[from..].find(')').map_or(plain.len(), |length| from + length + 1);
        plain.replace_range(from..to, "]");
    }
    let figure = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        let digits = word.contains(|c: char| c.is_ascii_digit());
        (digits && !word.contains(char::is_alphabetic)).then(|| word.to_string())
    };
    let letters = |word: &&str| !word.contains(|c: char| c.is_alphabetic());
    plain.split_whitespace().filter(letters).filter_map(figure).collect()
}

fn read(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The pages with tables, by their names in links.
fn tables() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLES);
    let entries = std::fs::read_dir(folder).expect("pages are in the repository");
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    let pages = names.filter(|name| name.ends_with(".md"));
    pages
        .map(|name| (format!("study/{name}"), read(&format!("{TABLES}/{name}"))))
        .collect()
}

#[test]
fn the_pages_blocks_are_what_their_commands_print() {
    let mut blocks = 0;
    for (name, page) in tables() {
        let (mut made, before) = (String::new(), blocks);
        for part in parts(&page) {
            match part {
                Part::Line(line) => made += &format!("{line}\n"),
                Part::Block(command, _) => {
                    blocks += 1;
                    made += &format!("{BEGINNING}{command} -->\n{}{END}\n", printed(command));
                }
            }
        }
        assert!(blocks > before, "{name} has no block");
        if std::env::var_os("ZPRUNE_WRITE_PAGES").is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name), made).expect("writable");
            continue;
        }
        for (old, new) in page.lines().zip(made.lines()) {
            assert_eq!(
                old, new,
                "docs/{name} is not what the records give: ZPRUNE_WRITE_PAGES=1 cargo test --release --test report study"
            );
        }
        assert_eq!(page.len(), made.len());
    }
}

#[test]
fn the_pages_sentences_quote_figures_of_the_blocks_that_they_name() {
    let tables = tables();
    let known = |page: &str| -> BTreeSet<String> {
        let contents = parts(page).into_iter().filter_map(|part| match part {
            Part::Block(_, content) => Some(figures(&content)),
            Part::Line(_) => None,
        });
        contents.flatten().collect()
    };
    let mut checked = 0;
    let mut check = |name: &str, text: &str, known: &BTreeSet<String>| {
        for part in parts(text) {
            let Part::Line(line) = part else { continue };
            for figure in figures(line) {
                assert!(
                    known.contains(&figure),
                    "{name}: {figure} is in none of its tables: {line}"
                );
                checked += 1;
            }
        }
    };
    for (name, page) in &tables {
        check(name, page, &known(page));
    }
    let findings = read(PAGE);
    let mut linked = BTreeSet::new();
    for (index, section) in findings.split("\n## ").enumerate() {
        let own: Vec<&String> = tables
            .keys()
            .filter(|name| section.contains(&format!("]({name})")))
            .collect();
        assert!(
            index == 0 || !own.is_empty(),
            "{PAGE} has a section without tables: {section}"
        );
        // What stands before the first section is about the whole page.
        let all: Vec<&String> = tables.keys().collect();
        let of = if index == 0 { &all } else { &own };
        let figures: BTreeSet<String> = of.iter().flat_map(|name| known(&tables[*name])).collect();
        check(PAGE, section, &figures);
        linked.extend(own);
    }
    assert_eq!(linked.len(), tables.len(), "{PAGE} links {linked:?}");
    assert!(checked > 0, "{PAGE} quotes no figure");
}

/// Pictures of the page and the README: their files, the results and the plots that they are.
const PICTURES: [(&str, &str, &str); 1] = [(
    "docs/study/criterion.svg",
    "results/study/criterion",
    "axes-criterion-solver-group_row-smollm2-135m-wikitext2",
)];

#[test]
fn the_pictures_are_plots_of_the_records() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, results, name) in PICTURES {
        let results = Results::read(&root.join(results)).expect("records");
        let plots = zprune::report::plots::all(&results, &[]).expect("drawable");
        let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
        let plot = plots.iter().find(|plot| plot.name == name);
        let plot = plot.unwrap_or_else(|| panic!("{name} is none of {names:?}"));
        if std::env::var_os("ZPRUNE_WRITE_PAGES").is_some() {
            std::fs::write(root.join(file), &plot.svg).expect("writable");
            continue;
        }
        let committed = std::fs::read_to_string(root.join(file)).expect("the picture is in the repository");
        assert!(
            committed == plot.svg,
            "{file} is not what the records give: ZPRUNE_WRITE_PAGES=1 cargo test --release --test report study"
        );
        for part in ["50 %", "4:8", "least-squares", "stade", "95 % over seeds"] {
            assert!(plot.svg.contains(part), "{file} has no {part}");
        }
        let shown = ["README.md", PAGE].map(read);
        let names = [format!("({file})"), format!("({})", &file["docs/".len()..])];
        assert!(
            shown.iter().zip(&names).all(|(page, name)| page.contains(name)),
            "{file} is not shown"
        );
    }
}

#[test]
fn blocks_and_figures_are_found_as_they_are_written() {
    let page = "one\n<!-- zprune report a --rows \"50 %|x\" -->\n| 1 |\n<!-- end -->\ntwo";
    let found = [
        Part::Line("one"),
        Part::Block("report a --rows \"50 %|x\"", "| 1 |\n".to_string()),
        Part::Line("two"),
    ];
    assert_eq!(parts(page), found);
    assert_eq!(
        words("report a --rows \"50 %|x\" b"),
        ["report", "a", "--rows", "50 %|x", "b"]
    );
    let text = "At 50 % it is **41.8** (-0.3 to +1.2 %, p < 0.0001) with `128 x 2048`, SmolLM2-135M, f16, 2:4 and [C4](a7.md#1).";
    let figures = figures(text);
    assert_eq!(
        figures.iter().map(String::as_str).collect::<Vec<_>>(),
        ["0.0001", "0.3", "1.2", "2:4", "41.8", "50"]
    );
}

#[test]
fn every_question_resolves_and_has_the_cells_that_its_list_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/study");
    let list = std::fs::read_to_string(folder.join("README.md")).expect("a list");
    let (mut calibrations, mut cells) = (Vec::new(), BTreeMap::<String, usize>::new());
    for entry in std::fs::read_dir(&folder).expect("experiments are in the repository") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".toml") || name == "calibration_families.toml" {
            continue;
        }
        let described = resolve::read_described(&path, &MachineRequest::default());
        let Described::Experiment(experiment) = described.unwrap_or_else(|error| panic!("{error}")) else {
            assert!(list.contains(&format!("`{name}`")), "{name} is not in the list");
            continue;
        };
        let many = name.starts_with("calibration_");
        let listed = if many { "calibration_*.toml".to_string() } else { name };
        *cells.entry(listed).or_default() += experiment.cells().len();
        if many {
            calibrations.push(ResultsFolder {
                plan: PlanFile {
                    zprune: String::new(),
                    experiment: *experiment,
                    cell: Vec::new(),
                },
                records: Vec::new(),
            });
        }
    }
    for (name, count) in &cells {
        let line = list.lines().find(|line| line.contains(&format!("`{name}`")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the list"));
        let alike = |other: &&String| line.contains(&format!("`{other}`"));
        let all: usize = cells.keys().filter(alike).map(|other| cells[other]).sum();
        let said = line.trim_end_matches(" |").rsplit("| ").next().expect("a column");
        let numbers: Vec<usize> = said.split(", ").map(|number| number.parse().expect("cells")).collect();
        assert!(
            numbers.contains(&all) || numbers.contains(count),
            "{name} has {count} cells: {line}"
        );
    }
    // What is compared between files is declared by names that a report of them has.
    let joined = union(&calibrations, RowsBy::Experiment).expect("they go together");
    let file = folder.join("calibration_families.toml");
    let declared = resolve::families(&file, &joined.plan.experiment).expect("families");
    let pairs: usize = declared.iter().map(|family| family.pairs.len()).sum();
    assert_eq!((declared.len(), pairs, calibrations.len()), (2, 15, 6));
}
