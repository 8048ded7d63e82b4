//! Tables for a terminal, no wider than it.
//!
//! A table that is too wide gets headings of several lines. If that is not enough, columns that the table can do without are
//! left out, and a line below names them. If that is not enough either, and what names the rows is wide, every row gets its names in
//! a line of their own, above its numbers. If it is narrow, the table becomes several, one below the other, and each repeats the
//! columns that name its rows. Where the width is not known (a file, a pipe), a table is as wide as it is.

use super::sheet::{Chapter, Mark, Sheet, SheetCell};
use super::text::table;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// Lines above and below a table and under its headings, and none between rows.
const LINES: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('═').junction('═'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// A chapter as text, no line of it wider than `width` columns. A note that several tables have stands below the last of them.
pub fn chapter(chapter: &Chapter, width: Option<usize>) -> String {
    let sheets = chapter.sheets.iter().enumerate().map(|(index, it)| {
        let again = |note: &String| {
            chapter.sheets[index + 1..]
                .iter()
                .any(|later| later.notes.contains(note))
        };
        let notes = it.notes.iter().filter(|note| !again(note)).cloned().collect();
        sheet(&Sheet { notes, ..it.clone() }, width)
    });
    sheets.collect::<Vec<_>>().join("\n")
}

/// A table with its title and notes as text, no line of it wider than `width` columns.
pub fn sheet(sheet: &Sheet, width: Option<usize>) -> String {
    let (table, left_out) = laid_out(sheet, width);
    let mut text = paragraph(&sheet.title, width);
    text.push_str(&table);
    if !left_out.is_empty() {
        text.push_str(&paragraph(
            &format!("Too wide for this terminal, so left out: {}.", left_out.join("; ")),
            width,
        ));
    }
    // A note that begins with the title of a column explains it.
    let gone = |note: &&String| {
        let (title, _) = note.split_once(':').unwrap_or_default();
        left_out.iter().any(|column| column.eq_ignore_ascii_case(title))
    };
    for note in sheet.notes.iter().filter(|note| !gone(note)) {
        let note = note
            .replace("Bold differences", "Differences with *")
            .replace("Bold", "*");
        text.push_str(&paragraph(&note, width));
    }
    text
}

/// A text with a line break at its end, broken between words where a line would be wider than `width`.
pub fn paragraph(text: &str, width: Option<usize>) -> String {
    if text.is_empty() {
        return String::new();
    }
    let Some(width) = width else {
        return format!("{text}\n");
    };
    let mut lines = Table::new();
    lines.load_style(NOTHING);
    lines.set_content_arrangement(ContentArrangement::Dynamic);
    lines.set_width(narrow(width)).add_row([text]);
    for column in lines.column_iter_mut() {
        column.set_padding((0, 0));
    }
    format!("{}\n", lines.trim_fmt())
}

/// A width as the table library takes it.
fn narrow(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// Names take more than this part of a terminal before they get lines of their own.
const WIDE_NAMES: usize = 3;

/// The table as text, and the titles of the columns that are left out.
fn laid_out(sheet: &Sheet, width: Option<usize>) -> (String, Vec<&str>) {
    if sheet.says_why_empty() {
        return Default::default();
    }
    let all: Vec<usize> = (0..sheet.columns.len()).collect();
    let Some(width) = width else {
        return (format!("{}\n", drawn(sheet, &all, false).trim_fmt()), Vec::new());
    };
    let aside: Vec<usize> = all.iter().copied().filter(|it| sheet.columns[*it].aside).collect();
    // As few as possible are left out, the last ones first.
    let without = |count: usize| {
        let gone = &aside[aside.len() - count..];
        let kept: Vec<usize> = all.iter().copied().filter(|it| !gone.contains(it)).collect();
        let titles: Vec<&str> = gone.iter().map(|it| sheet.columns[*it].title.as_str()).collect();
        (kept, titles)
    };
    let choices: Vec<(Vec<usize>, Vec<&str>)> = (0..=aside.len()).map(without).collect();
    for (columns, left_out) in &choices {
        for folded in [false, true] {
            let table = drawn(sheet, columns, folded);
            if wide(&table) <= width {
                return (format!("{}\n", table.trim_fmt()), left_out.clone());
            }
        }
    }
    for (columns, left_out) in &choices {
        if let Some(text) = below_names(sheet, columns, width) {
            return (text, left_out.clone());
        }
    }
    // Columns are left out only where words would be broken otherwise, or where that makes fewer tables.
    let cost = |(columns, _): &(Vec<usize>, Vec<&str>)| {
        let tables = several(sheet, columns, width);
        (tables.iter().any(|table| wide(table) > width), tables.len())
    };
    let (kept, left_out) = choices.into_iter().min_by_key(cost).unwrap_or_default();
    let tables = several(sheet, &kept, width);
    let tables = tables.iter().map(|table| format!("{}\n", table.trim_fmt()));
    (tables.collect(), left_out)
}

/// The columns that name the rows, and the others.
fn named<'a>(sheet: &Sheet, columns: &'a [usize]) -> (&'a [usize], &'a [usize]) {
    let words = columns.iter().skip(1).take_while(|it| !sheet.columns[**it].numbers);
    columns.split_at((words.count() + 1).min(columns.len()))
}

/// The table with the names of every row in a line above its numbers; names that rows have in common stand above them once, and names
/// with a heading before them have a line each. `None` where names leave room for numbers beside them, or numbers are too wide even so.
fn below_names(sheet: &Sheet, columns: &[usize], width: usize) -> Option<String> {
    const INDENT: usize = 2;
    let (names, numbers) = named(sheet, columns);
    let (last, common) = names.split_last()?;
    let table = drawn(sheet, numbers, true);
    let narrow = wide(&drawn(sheet, names, true)) <= width / WIDE_NAMES;
    if numbers.is_empty() || narrow || wide(&table) + INDENT > width {
        return None;
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().collect();
    // Headings and a line above and below them, the rows, and a line at the end.
    let head = lines.len().checked_sub(sheet.rows.len() + 1)?;
    let mut before: Option<Vec<&str>> = None;
    let line_of = |column: usize, row: &[SheetCell]| {
        let text = &row[column].text;
        let line = match &sheet.columns[column] {
            it if it.headed => format!("{}: {text}", it.title),
            _ => text.clone(),
        };
        paragraph(&line, Some(width))
    };
    let mut found = String::new();
    let indented = |line: &str| format!("{}{}\n", " ".repeat(INDENT), line.trim_end());
    found.extend(lines[..head].iter().map(|line| indented(line)));
    for (row, line) in sheet.rows.iter().zip(&lines[head..]) {
        let shared: Vec<&str> = common.iter().map(|it| row[*it].text.as_str()).collect();
        if !shared.is_empty() && before.as_ref() != Some(&shared) {
            let (headed, plain): (Vec<usize>, Vec<usize>) = common.iter().partition(|it| sheet.columns[**it].headed);
            let plain: Vec<&str> = plain.iter().map(|it| row[*it].text.as_str()).collect();
            found.push_str(&paragraph(&plain.join(", "), Some(width)));
            found.extend(headed.iter().map(|it| line_of(*it, row)));
        }
        before = Some(shared);
        found.push_str(&line_of(*last, row));
        found.push_str(&indented(line));
    }
    found.extend(lines[head + sheet.rows.len()..].iter().map(|line| indented(line)));
    Some(found)
}

/// Tables of some of the columns each, which all have the columns that name the rows.
fn several(sheet: &Sheet, columns: &[usize], width: usize) -> Vec<Table> {
    let (names, rest) = named(sheet, columns);
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    for group in groups(sheet, rest) {
        if let Some(block) = blocks.last_mut() {
            let longer = [&block[..], &group[..]].concat();
            if wide(&drawn(sheet, &longer, true)) <= width {
                *block = longer;
                continue;
            }
        }
        blocks.push([names, &group[..]].concat());
    }
    if blocks.is_empty() {
        blocks.push(names.to_vec());
    }
    let tables = blocks.iter().map(|block| {
        let mut table = drawn(sheet, block, true);
        if wide(&table) > width {
            // Nothing is left but to break lines within cells.
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(narrow(width));
        }
        table
    });
    tables.collect()
}

/// Columns that stay together.
fn groups(sheet: &Sheet, columns: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for column in columns {
        match groups.last_mut().filter(|_| sheet.columns[*column].beside) {
            Some(group) => group.push(*column),
            None => groups.push(vec![*column]),
        }
    }
    groups
}

/// The width of a table whose cells are not broken: every column has a space on both sides, and another one between two.
fn wide(table: &Table) -> usize {
    let widths = table.column_max_content_widths();
    widths
        .iter()
        .map(|it| usize::from(*it) + 3)
        .sum::<usize>()
        .saturating_sub(1)
}

/// Some columns of a sheet as a table; `folded` breaks headings that are wider than what is below them.
fn drawn(sheet: &Sheet, columns: &[usize], folded: bool) -> Table {
    // In a column with marks, two spaces at the end keep the digits below each other.
    let marked = |index: usize| sheet.rows.iter().any(|row| row[index].mark != Mark::None);
    let marked: Vec<bool> = (0..sheet.columns.len()).map(marked).collect();
    let text = |index: usize, cell: &SheetCell| match cell.mark {
        Mark::Best => format!("{} *", cell.text),
        Mark::Tied => format!("{} ≈", cell.text),
        Mark::None if marked[index] && !cell.text.is_empty() => format!("{}  ", cell.text),
        Mark::None => cell.text.clone(),
    };
    let head = |index: usize| {
        let title = &sheet.columns[index].title;
        match folded {
            false => title.clone(),
            true => {
                let below = sheet
                    .rows
                    .iter()
                    .map(|row| text(index, &row[index]).chars().count())
                    .max();
                folded_at(title, below.unwrap_or(0))
            }
        }
    };
    table(sheet, columns, LINES, &head, &text)
}

/// A heading with line breaks between words, where a line would be wider than `width`; a word that is wider stays whole.
fn folded_at(title: &str, width: usize) -> String {
    let longest = title.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    let width = width.max(longest);
    let mut lines: Vec<String> = Vec::new();
    for word in title.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::sheet::Column;
    use super::*;

    fn wide_sheet() -> Sheet {
        let mut columns = vec![Column::words("method"), Column::words("group").aside()];
        for pattern in ["50 %", "60 %", "70 %", "2:4"] {
            columns.push(Column::numbers(pattern));
            columns.push(Column::numbers("published value").beside());
        }
        let row = |method: &str| {
            let mut row = vec![SheetCell::plain(method), SheetCell::plain("column-block")];
            row.extend((0..8).map(|it| SheetCell::plain(format!("{it}2.18 ± 0.17"))));
            row
        };
        Sheet {
            title: "tiny-llama: perplexity on persuasion, context 256 (lower is better)".to_string(),
            columns,
            rows: vec![row("wanda"), row("z-pruner")],
            notes: vec![
                "A note of a few words that is longer than a narrow terminal is wide, so it is broken.".to_string(),
            ],
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_every_column_is_shown_or_named() {
        let sheet = wide_sheet();
        for width in [40, 60, 80, 100, 140, 200] {
            let text = super::sheet(&sheet, Some(width));
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            for column in &sheet.columns {
                let first = column.title.split(' ').next().expect("a title");
                assert!(text.contains(first), "{width}: {first} in {text}");
            }
            let numbers: Vec<String> = (0..8).map(|it| format!("{it}2.18")).collect();
            assert!(
                numbers.iter().all(|it| text.matches(it.as_str()).count() == 2),
                "{text}"
            );
        }
    }

    #[test]
    fn a_note_of_several_tables_is_printed_once() {
        let sheet = wide_sheet();
        let mut other = sheet.clone();
        other.notes.insert(0, "Of this table.".to_string());
        let chapter = Chapter {
            file: "perplexity",
            title: "Perplexity",
            sheets: vec![other, sheet.clone(), sheet],
        };
        let text = super::chapter(&chapter, None);
        assert_eq!(text.matches("A note of a few words").count(), 1, "{text}");
        assert!(
            text.trim_end().ends_with("so it is broken.") && text.contains("Of this table."),
            "{text}"
        );
    }

    #[test]
    fn a_table_that_does_not_fit_becomes_several_that_repeat_the_names_of_rows() {
        let sheet = wide_sheet();
        let kept: Vec<usize> = (0..sheet.columns.len()).filter(|it| *it != 1).collect();
        let tables = several(&sheet, &kept, 80);
        assert_eq!(tables.len(), 2);
        for table in &tables {
            let text = table.to_string();
            assert!(text.contains("wanda") && text.contains("z-pruner"), "{text}");
            // A published value stays beside ours.
            assert_eq!(
                text.matches("published").count() * 2,
                table.clone().column_count() - 1,
                "{text}"
            );
        }
        let (text, left_out) = laid_out(&sheet, Some(80));
        let joined: String = tables.iter().map(|table| format!("{}\n", table.trim_fmt())).collect();
        assert_eq!((text, left_out), (joined, vec!["group"]));
        let (whole, left_out) = laid_out(&sheet, None);
        assert_eq!((whole.lines().count(), left_out.len()), (6, 0));
    }

    #[test]
    fn long_names_stand_above_the_numbers_of_their_rows() {
        let row = |measure: &str, pair: &str, value: &str| {
            let numbers = [value, "-2.21 to -0.35 %", "3 of 3 (p 0.25)", "0.0021", "0.0126"];
            let names = ["SmolLM2-135M", measure, "50 %", pair];
            names.into_iter().chain(numbers).map(SheetCell::plain).collect()
        };
        let words = ["model", "measure", "pattern", "comparison"].map(Column::words);
        let numbers = ["difference", "95 %", "seeds agree", "p", "p (Holm)"].map(Column::numbers);
        let sheet = Sheet {
            title: String::new(),
            columns: words.into_iter().chain(numbers).collect(),
            rows: vec![
                row("wikitext2", "sparsegpt+sparse-swaps against wanda (owl)", "-1.28 %"),
                row("wikitext2", "ria+ria-permutation against wanda", "+0.11 %"),
                row("arc_easy", "ria+ria-permutation against wanda", "-0.75"),
            ],
            notes: Vec::new(),
        };
        for width in [76, 80, 100] {
            let text = super::sheet(&sheet, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert_eq!(text.matches("difference").count(), 1, "one table, not several: {text}");
            let lines: Vec<&str> = text.lines().collect();
            let at = |part: &str| lines.iter().position(|line| line.contains(part)).expect(part);
            assert_eq!(lines[at("-1.28 %") - 1], "sparsegpt+sparse-swaps against wanda (owl)");
            assert_eq!(lines[at("-1.28 %") - 2], "SmolLM2-135M, wikitext2, 50 %");
            assert_eq!(lines[at("+0.11 %") - 1], "ria+ria-permutation against wanda");
            assert_eq!(text.matches("SmolLM2-135M, wikitext2").count(), 1, "{text}");
            assert_eq!(lines[at("-0.75") - 2], "SmolLM2-135M, arc_easy, 50 %");
        }
        assert!(super::sheet(&sheet, None).lines().count() == 7);
    }

    #[test]
    fn what_no_table_can_hold_is_broken_within_cells() {
        let sheet = Sheet {
            title: String::new(),
            columns: vec![Column::words("method"), Column::words("what became of it")],
            rows: vec![vec![
                SheetCell::plain("wanda"),
                SheetCell::plain("a long story of many words ".repeat(4)),
            ]],
            notes: Vec::new(),
        };
        let text = super::sheet(&sheet, Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert_eq!(text.split_whitespace().filter(|word| *word == "story").count(), 4);
    }
}
