//! The pages of `docs/methods`, which are parts of the program.

/// Each page by its file's name.
macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../docs/methods/", $name, ".md")))),*]
    };
}

const PAGES: &[(&str, &str)] = pages![
    "admm",
    "alpha-pruning",
    "alps",
    "atp",
    "bias",
    "centre",
    "d2prune",
    "dlp",
    "dsnot",
    "error",
    "expression",
    "fista",
    "gblm",
    "least-squares",
    "magnitude",
    "nowag",
    "olica",
    "one-shot",
    "owl",
    "pruner-zero",
    "ria",
    "ria-permutation",
    "row-scale",
    "scale",
    "scores-and-mask",
    "sparse-fw",
    "sparse-swaps",
    "sparsegpt",
    "sparsity-induction",
    "stade",
    "swap-solve",
    "table-and-file",
    "taylor",
    "two-ssp",
    "uniform",
    "wanda",
    "wanda-pp",
    "wanda-variant",
    "z-pruner",
];

/// A page about a component or a recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// Name of its file, without the ending.
    pub(super) name: &'static str,
    text: &'static str,
}

impl Page {
    /// The page about a component or a recipe; `kind` tells components of one name apart. None about those that programs add.
    pub(super) fn of(kind: &str, name: &str) -> Option<Page> {
        let file = match (kind, name) {
            ("permutation", "ria") => "ria-permutation",
            (_, "obs" | "thanos") => "sparsegpt",
            (_, "fistapruner") => "fista",
            (_, "table" | "file") => "table-and-file",
            (_, "scores" | "mask") => "scores-and-mask",
            (_, name) => name,
        };
        let found = PAGES.iter().find(|(page, _)| *page == file);
        found.map(|(name, text)| Page { name, text })
    }

    /// What is computed, with the formula and the paper: the page from below its title to its parameters, or to what deviates
    /// from the paper.
    pub(super) fn about(&self) -> String {
        let ends = |line: &str| {
            let heading = line.trim_start_matches('#').trim();
            let other = line.starts_with('#') && heading != "Formula";
            other
                || line.starts_with("| parameter")
                || line.starts_with("It has no parameters")
                || line.starts_with("Deviations:")
        };
        let lines = self.text.lines().skip(1).take_while(|line| !ends(line));
        let text = paragraphs(lines.filter(|line| line.trim() != "## Formula"));
        without_links(&text.trim().replace("\n\n\n", "\n\n"))
    }

    /// The cells of the table of parameters for one of them, without the first, which is its name: the default, perhaps the
    /// range, and the meaning.
    pub(super) fn cells(&self, parameter: &str) -> Option<Vec<String>> {
        let start = format!("| `{parameter}` |");
        let line = self.text.lines().find_map(|line| line.strip_prefix(&start))?;
        // A `|` within a cell is written with a backslash.
        let mut cells = vec![String::new()];
        let mut escaped = false;
        for c in line.trim().trim_end_matches('|').chars() {
            match (c, cells.last_mut()) {
                ('|', _) if !escaped => cells.push(String::new()),
                (c, Some(cell)) if c != '\\' => cell.push(c),
                _ => {}
            }
            escaped = c == '\\';
        }
        Some(cells.iter().map(|cell| cell.trim().to_string()).collect())
    }

    /// What a parameter means.
    pub(super) fn meaning(&self, parameter: &str) -> Option<String> {
        self.cells(parameter)?.pop().map(|cell| without_links(&cell))
    }
}

/// The text with what links of Markdown show, and where they lead behind it: a path in the repository, or an address.
fn without_links(text: &str) -> String {
    let (mut said, mut rest) = (String::new(), text);
    while let Some(start) = rest.find('[') {
        let (before, link) = rest.split_at(start);
        said.push_str(before);
        let parts = link[1..].split_once("](").and_then(|(label, tail)| {
            let (target, after) = tail.split_once(')')?;
            let plain = !label.contains(['[', ']', '\n']) && !target.contains(char::is_whitespace);
            plain.then_some((label, target, after))
        });
        let Some((label, target, after)) = parts else {
            said.push('[');
            rest = &link[1..];
            continue;
        };
        let place = match (target.contains("://"), target.strip_prefix("../")) {
            (true, _) => target.to_string(),
            (false, Some(above)) => format!("docs/{above}"),
            (false, None) => format!("docs/methods/{target}"),
        };
        said.push_str(&format!("{label} ({place})"));
        rest = after;
    }
    said + rest
}

/// Lines of Markdown as text in which every paragraph and every item of a list is one line. Formulas and tables stay as they are.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let as_it_is = |line: &str| line.is_empty() || line.starts_with("    ") || line.starts_with(['|', '#']);
    let mut text = String::new();
    let mut before = "";
    for line in lines {
        let line = line.trim_end();
        let goes_on = !as_it_is(before) && !as_it_is(line) && !is_item(line);
        match (goes_on, text.is_empty()) {
            (true, _) => text.push_str(&format!(" {}", line.trim_start())),
            (false, true) => text.push_str(line),
            (false, false) => text.push_str(&format!("\n{line}")),
        }
        before = line;
    }
    text
}

/// Whether a line begins an item of a list, with a dash or with a number.
fn is_item(line: &str) -> bool {
    let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = line.len() - after.len();
    line.starts_with("- ") || ((1..=2).contains(&digits) && after.starts_with(". "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_folder_is_here() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/methods");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        let mut files: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .filter(|name| name != "README.md")
            .collect();
        files.sort();
        let mut pages: Vec<String> = PAGES.iter().map(|(name, _)| format!("{name}.md")).collect();
        pages.sort();
        assert_eq!(files, pages);
    }

    #[test]
    fn paragraphs_are_single_lines_and_formulas_stay() {
        let page = "A solver. It\nis slow.\n\n    x = a\n      + b\n\n- one\n  more\n- two\n\n1. first\n   still\n2. second\n| a |\n| b |\n";
        assert_eq!(
            paragraphs(page.lines()),
            "A solver. It is slow.\n\n    x = a\n      + b\n\n- one more\n- two\n\n1. first still\n2. second\n| a |\n| b |"
        );
    }

    #[test]
    fn links_are_told_as_text_and_no_page_has_one_left() {
        assert_eq!(
            without_links("see [`a` and b](x.md), w[i] and [c](../prune.md#d) or [e](https://f.g)"),
            "see `a` and b (docs/methods/x.md), w[i] and c (docs/prune.md#d) or e (https://f.g)"
        );
        for (name, text) in PAGES {
            let about = Page { name, text }.about();
            assert!(!about.contains("]("), "{name}: {about}");
        }
    }

    #[test]
    fn a_page_is_cut_at_its_parameters() {
        let page = Page::of("solver", "fista").expect("there is one");
        let about = page.about();
        assert!(
            about.starts_with("A solver") && about.contains("||(V - W) X||^2"),
            "{about}"
        );
        assert!(
            about.contains("arXiv 2408.03728") && !about.contains("| parameter"),
            "{about}"
        );
        assert_eq!(
            page.meaning("refit").as_deref(),
            Some("least squares on the final mask")
        );
        assert!(
            page.meaning("lambda")
                .is_some_and(|meaning| meaning.contains("largest `|W G|`"))
        );
        assert_eq!(page.meaning("nothing"), None);
        assert_eq!(
            Page::of("permutation", "ria").expect("there is one").name,
            "ria-permutation"
        );
    }
}
