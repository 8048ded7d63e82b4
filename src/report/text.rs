//! Tables as Markdown.

use super::sheet::{Chapter, Mark, Sheet, SheetCell};
use crate::files::names;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table, TableStyle};

/// A chapter as Markdown; the text `before` is put above its tables.
pub fn markdown(chapter: &Chapter, before: &str) -> String {
    let mut text = before.to_string();
    for sheet in &chapter.sheets {
        let all: Vec<usize> = (0..sheet.columns.len()).collect();
        let head = |index: usize| escaped(&sheet.columns[index].title);
        let cell = |_: usize, cell: &SheetCell| match cell.mark {
            Mark::Best => format!("**{}**", escaped(&cell.text)),
            Mark::Tied => format!("{} ≈", escaped(&cell.text)),
            Mark::None => escaped(&cell.text),
        };
        text.push_str(&format!("## {}\n\n", escaped(&sheet.title)));
        if !sheet.says_why_empty() {
            text.push_str(&format!("{}\n\n", table(sheet, &all, ASCII_MARKDOWN, &head, &cell)));
        }
        for note in &sheet.notes {
            text.push_str(&format!("{}\n\n", escaped(note)));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Escapes text for Markdown and puts it into one line; it cannot make columns, HTML, emphasis or links.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied().unwrap_or(' ');
        match c {
            '\\' | '|' | '`' | '*' => out.extend(['\\', c]),
            // Where these could begin a tag, an entity, or the target of a link or a picture.
            '<' if next.is_ascii_alphabetic() || "/!?".contains(next) => out.push_str("\\<"),
            '&' if next.is_ascii_alphabetic() || next == '#' => out.push_str("\\&"),
            ']' if "([:".contains(next) => out.push_str("\\]"),
            hidden if names::is_hidden(hidden) => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// The given columns of a sheet as a table, with numbers to the right.
pub(super) fn table(
    sheet: &Sheet,
    columns: &[usize],
    style: TableStyle,
    head: &dyn Fn(usize) -> String,
    text: &dyn Fn(usize, &SheetCell) -> String,
) -> Table {
    let mut table = Table::new();
    table.load_style(style);
    table.set_header(columns.iter().map(|index| head(*index)));
    for row in &sheet.rows {
        table.add_row(columns.iter().map(|index| text(*index, &row[*index])));
    }
    for (laid_out, index) in table.column_iter_mut().zip(columns) {
        if sheet.columns[*index].numbers {
            laid_out.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_markdown_would_read_as_markup_is_shown() {
        for (text, shown) in [
            (
                "5.47 ± 0.01, p < 0.0001 [1.2, 3.4] & more",
                "5.47 ± 0.01, p < 0.0001 [1.2, 3.4] & more",
            ),
            ("a|b\\|c", "a\\|b\\\\\\|c"),
            ("<script>alert(1)</script>", "\\<script>alert(1)\\</script>"),
            ("![x](http://y) [z][1]", "![x\\](http://y) [z\\][1]"),
            ("&lt;b&gt; *bold* `code`", "\\&lt;b\\&gt; \\*bold\\* \\`code\\`"),
            ("two\nlines\tand\ra tab", "two lines and a tab"),
            ("tiny_llama-7b", "tiny_llama-7b"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }
}
