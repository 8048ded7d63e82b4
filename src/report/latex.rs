//! Tables in LaTeX, for papers; they need the package `booktabs`, and `longtable` where one is longer than a page.

use super::sheet::{Chapter, Mark, Sheet, SheetCell};
use crate::files::names;

/// Tables with more rows than this do not fit on a page.
const PAGE: usize = 40;

/// How all LaTeX files of a report begin.
pub(super) const BEGINNING: &str = "% Written by zprune.";

/// A chapter as LaTeX: one `table` environment per sheet, or a `longtable` if the sheet has many rows. Each has a label:
/// `tab:EXPERIMENT-CHAPTER`, with a number behind it if the chapter has several.
pub fn latex(chapter: &Chapter, experiment: &str) -> String {
    let long = match chapter.sheets.iter().any(|sheet| sheet.rows.len() > PAGE) {
        true => ",longtable",
        false => "",
    };
    let head = format!("{BEGINNING} Needs \\usepackage{{booktabs{long}}}.\n");
    let several = chapter.sheets.len() > 1;
    let sheets = chapter.sheets.iter().enumerate().map(|(index, it)| {
        let number = if several {
            format!("-{}", index + 1)
        } else {
            String::new()
        };
        sheet(it, &format!("tab:{}-{}{number}", key(experiment), chapter.file))
    });
    [head].into_iter().chain(sheets).collect::<Vec<_>>().join("\n")
}

/// A name as part of a label: letters, digits and hyphens, which no package gives a meaning.
fn key(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

fn sheet(sheet: &Sheet, label: &str) -> String {
    if sheet.says_why_empty() {
        let lines = std::iter::once(&sheet.title).chain(&sheet.notes);
        return lines.map(|line| format!("\\par {}\n", escaped(line))).collect();
    }
    let columns: String = sheet
        .columns
        .iter()
        .map(|it| if it.numbers { 'r' } else { 'l' })
        .collect();
    let heads: Vec<String> = sheet.columns.iter().map(|column| escaped(&column.title)).collect();
    let head = format!("\\toprule\n{} \\\\\n\\midrule\n", heads.join(" & "));
    let title = escaped(&sheet.title);
    let (open, close, end) = match sheet.rows.len() > PAGE {
        true => (
            format!(
                "\\begingroup\n\\begin{{longtable}}{{{columns}}}\n\\caption{{{title}}}\\label{{{label}}} \\\\\n{head}\\endhead\n"
            ),
            "\\bottomrule\n\\end{longtable}\n",
            "\\par\\endgroup\n",
        ),
        false => (
            format!(
                "\\begin{{table}}\n\\centering\n\\caption{{{title}}}\n\\label{{{label}}}\n\\begin{{tabular}}{{{columns}}}\n{head}"
            ),
            "\\bottomrule\n\\end{tabular}\n",
            "\\end{table}\n",
        ),
    };
    let mut text = open;
    for row in &sheet.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        text.push_str(&format!("{} \\\\\n", cells.join(" & ")));
    }
    text.push_str(close);
    for note in &sheet.notes {
        text.push_str(&format!("\\par\\footnotesize {}\n", escaped(note)));
    }
    text.push_str(end);
    text
}

fn cell(cell: &SheetCell) -> String {
    let text = escaped(&cell.text);
    match cell.mark {
        Mark::None => text,
        Mark::Best => format!("\\textbf{{{text}}}"),
        Mark::Tied => format!("{text}\\,$\\approx$"),
    }
}

/// Escapes text so that LaTeX prints it as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '[' | ']' => out.extend(['{', c, '}']),
            '±' => out.push_str("$\\pm$"),
            '|' => out.push_str("\\textbar{}"),
            '≈' => out.push_str("$\\approx$"),
            '×' => out.push_str("$\\times$"),
            '“' => out.push_str("``"),
            '”' => out.push_str("''"),
            // A line of its own would end the row or the paragraph.
            hidden if names::is_hidden(hidden) => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sheet::Column;
    use super::*;

    #[test]
    fn what_latex_would_read_as_commands_is_printed() {
        assert_eq!(escaped("50 % of a_b & <1 ± 2"), "50 \\% of a\\_b \\& $<$1 $\\pm$ 2");
        assert_eq!(escaped("\\input{x}"), "\\textbackslash{}input\\{x\\}");
        assert_eq!(
            escaped("a|b\n\n$c^2~"),
            "a\\textbar{}b  \\$c\\textasciicircum{}2\\textasciitilde{}"
        );
    }

    #[test]
    fn what_is_longer_than_a_page_may_be_broken() {
        let sheet = |rows: usize| Sheet {
            title: "t".to_string(),
            columns: vec![Column::words("a"), Column::numbers("b")],
            rows: vec![vec![SheetCell::plain("x"), SheetCell::plain("1")]; rows],
            notes: Vec::new(),
        };
        let of = |rows| {
            let chapter = Chapter {
                file: "f",
                title: "t",
                sheets: vec![sheet(rows)],
            };
            latex(&chapter, "My sweep")
        };
        let (short, long) = (of(PAGE), of(PAGE + 1));
        assert!(short.contains("\\usepackage{booktabs}") && short.contains("\\begin{table}"));
        assert!(long.contains("\\usepackage{booktabs,longtable}") && long.contains("\\endhead"));
        assert_eq!(long.matches("x & 1 \\\\").count(), PAGE + 1);
        for text in [&short, &long] {
            assert_eq!(text.matches("\\label{tab:my-sweep-f}").count(), 1, "{text}");
        }
    }

    #[test]
    fn the_best_is_bold() {
        let best = SheetCell {
            text: "5.47 ± 0.01".to_string(),
            mark: Mark::Best,
        };
        assert_eq!(cell(&best), "\\textbf{5.47 $\\pm$ 0.01}");
    }
}
