//! Tables as Markdown and for a terminal.

use super::sheet::{Cell, Chapter, Mark, Sheet};
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_HORIZONTAL_ONLY};
use comfy_table::{CellAlignment, Table, TableStyle};

/// A chapter for a terminal.
pub fn terminal(chapter: &Chapter) -> String {
    let of = |sheet: &Sheet| {
        // A star and a space at the end keep the digits of a column below each other.
        let marked = sheet.rows.iter().flatten().any(|cell| cell.mark != Mark::None);
        let text = |cell: &Cell| match cell.mark {
            Mark::Best => format!("{} *", cell.text),
            Mark::Tied => format!("{} ≈", cell.text),
            Mark::None if marked && cell.text.ends_with(|c: char| c.is_ascii_digit() || c == '%') => {
                format!("{}  ", cell.text)
            }
            Mark::None => cell.text.clone(),
        };
        let notes = sheet.notes.join("\n").replace("Bold", "*");
        format!(
            "{}\n{}\n{notes}\n",
            sheet.title,
            table(sheet, UTF8_HORIZONTAL_ONLY, &text)
        )
    };
    chapter.sheets.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// A chapter in Markdown; `before` comes above its tables.
pub fn markdown(chapter: &Chapter, before: &str) -> String {
    let mut text = before.to_string();
    let escaped = |text: &str| text.replace('|', "\\|");
    for sheet in &chapter.sheets {
        let cell = |cell: &Cell| match cell.mark {
            Mark::Best => format!("**{}**", escaped(&cell.text)),
            Mark::Tied => format!("{} ≈", escaped(&cell.text)),
            Mark::None => escaped(&cell.text),
        };
        text.push_str(&format!(
            "## {}\n\n{}\n\n",
            sheet.title,
            table(sheet, ASCII_MARKDOWN, &cell)
        ));
        for note in &sheet.notes {
            text.push_str(&format!("{note}\n\n"));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn table(sheet: &Sheet, style: TableStyle, text: &dyn Fn(&Cell) -> String) -> Table {
    let mut table = Table::new();
    table.load_style(style);
    table.set_header(sheet.columns.iter().map(|column| column.title.as_str()));
    for row in &sheet.rows {
        table.add_row(row.iter().map(text));
    }
    for (index, column) in sheet.columns.iter().enumerate() {
        if let Some(laid_out) = table.column_mut(index).filter(|_| column.numbers) {
            laid_out.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
