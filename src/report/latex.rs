//! Tables in LaTeX, for papers; they need the package `booktabs`.

use super::sheet::{Cell, Chapter, Mark, Sheet};

/// A chapter, one `table` environment per sheet.
pub fn latex(chapter: &Chapter) -> String {
    let head = "% Written by zprune. Needs \\usepackage{booktabs}.\n".to_string();
    let sheets = chapter.sheets.iter().map(sheet);
    [head].into_iter().chain(sheets).collect::<Vec<_>>().join("\n")
}

fn sheet(sheet: &Sheet) -> String {
    let columns: String = sheet
        .columns
        .iter()
        .map(|it| if it.numbers { 'r' } else { 'l' })
        .collect();
    let heads: Vec<String> = sheet.columns.iter().map(|column| escaped(&column.title)).collect();
    let mut text = format!(
        "\\begin{{table}}\n\\centering\n\\caption{{{}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        escaped(&sheet.title),
        heads.join(" & ")
    );
    for row in &sheet.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        text.push_str(&format!("{} \\\\\n", cells.join(" & ")));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    for note in &sheet.notes {
        text.push_str(&format!("\\par\\footnotesize {}\n", escaped(note)));
    }
    text.push_str("\\end{table}\n");
    text
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    match cell.mark {
        Mark::None => text,
        Mark::Best => format!("\\textbf{{{text}}}"),
        Mark::Tied => format!("{text}\\,$\\approx$"),
    }
}

/// Text that LaTeX prints as it stands.
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
            '≈' => out.push_str("$\\approx$"),
            '×' => out.push_str("$\\times$"),
            '“' => out.push_str("``"),
            '”' => out.push_str("''"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_latex_would_read_as_commands_is_printed() {
        assert_eq!(escaped("50 % of a_b & <1 ± 2"), "50 \\% of a\\_b \\& $<$1 $\\pm$ 2");
        assert_eq!(escaped("\\input{x}"), "\\textbackslash{}input\\{x\\}");
    }

    #[test]
    fn the_best_is_bold() {
        let best = Cell {
            text: "5.47 ± 0.01".to_string(),
            mark: Mark::Best,
        };
        assert_eq!(cell(&best), "\\textbf{5.47 $\\pm$ 0.01}");
    }
}
