//! The report as one page that needs no network and no script: tables, plots in place, light and dark.

use super::plots::Plot;
use super::settings::settings;
use super::sheet::{Chapter, Column, Mark, Sheet, SheetCell};
use crate::experiment::plan_file::PlanFile;
use crate::files::names;

/// The style sheet of the page. Plots are drawn in black on white; the style gives them the colours of the page.
const STYLE: &str = include_str!("page.css");

/// The beginning of the page, up to its title.
pub(super) const BEGINNING: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n<title>";

/// Tables with more rows than this are folded, so that readers find what follows.
const LONG: usize = 14;

/// The report as one HTML page, with what was found at the top, tables and plots. `lacking` says which plots could not be drawn.
pub fn page(plan: &PlanFile, finding: &str, chapters: &[Chapter], plots: &[Plot], lacking: Option<&str>) -> String {
    let experiment = &plan.experiment;
    let mut sections: Vec<(&str, &str, String)> = Vec::new();
    for chapter in chapters {
        // Curves and times explain scores, forests and seeds comparisons.
        let kinds: &[&str] = match chapter.file {
            "perplexity" => &["perplexity-", "time-"],
            "accuracy" => &["accuracy-"],
            "axes" => &["axes-"],
            "comparisons" => &["differences", "seeds-"],
            _ => &[],
        };
        let own = gallery(plots, kinds);
        let tables: String = chapter.sheets.iter().map(sheet).collect();
        let content = match chapter.file {
            "perplexity" | "accuracy" => format!("{tables}{own}"),
            _ => format!("{own}{tables}"),
        };
        sections.push((chapter.file, chapter.title, content));
    }
    let lacking = lacking.map_or(String::new(), |text| {
        format!("<p class=\"note\">{}</p>\n", escaped(text))
    });
    let layers = gallery(plots, &["layers-"]) + &lacking;
    if !layers.is_empty() {
        sections.push(("layers", "Layers", layers));
    }
    sections.push(("settings", "Settings", listed(&settings(plan))));
    let links: Vec<String> = sections
        .iter()
        .map(|(id, title, _)| format!("<a href=\"#{id}\">{}</a>", escaped(title)))
        .collect();
    let body: String = sections
        .iter()
        .map(|(id, title, content)| {
            format!(
                "<section id=\"{id}\">\n<h2>{}</h2>\n{content}</section>\n",
                escaped(title)
            )
        })
        .collect();
    let title = escaped(&experiment.name);
    let lead = match experiment.description.is_empty() {
        true => String::new(),
        false => format!("<p class=\"lead\">{}</p>\n", escaped(&experiment.description)),
    };
    let finding = format!("<p class=\"finding\">{}</p>\n", escaped(finding));
    format!(
        "{BEGINNING}{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>{title}</h1>\n{lead}{finding}<nav>{}</nav>\n</header>\n<main>\n{body}</main>\n</body>\n</html>\n",
        links.join(" ")
    )
}

fn sheet(sheet: &Sheet) -> String {
    let heads: String = sheet
        .columns
        .iter()
        .map(|column| format!("<th scope=\"col\"{}>{}</th>", class(column), escaped(&column.title)))
        .collect();
    let row = |row: &Vec<SheetCell>| {
        let cells = row
            .iter()
            .zip(&sheet.columns)
            .enumerate()
            .map(|(index, (cell, column))| match index {
                0 => format!("<th scope=\"row\">{}</th>", escaped(&cell.text)),
                _ => format!("<td{}>{}</td>", class(column), marked(cell)),
            });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = sheet.rows.iter().map(row).collect();
    let table = match sheet.says_why_empty() {
        true => String::new(),
        false => format!(
            "<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
        ),
    };
    let notes: String = sheet
        .notes
        .iter()
        .map(|note| format!("<p class=\"note\">{}</p>\n", escaped(note)))
        .collect();
    let notes = match notes.is_empty() {
        true => notes,
        false => format!("<div class=\"notes\">\n{notes}</div>\n"),
    };
    let title = escaped(&sheet.title);
    match sheet.rows.len() > LONG {
        true => format!(
            "<h3>{title}</h3>\n<details>\n<summary>Table of {} rows</summary>\n{table}</details>\n{notes}",
            sheet.rows.len()
        ),
        false => format!("<h3>{title}</h3>\n{table}{notes}"),
    }
}

fn class(column: &Column) -> String {
    let names: Vec<&str> = [("number", column.numbers), ("time", column.time)]
        .into_iter()
        .filter_map(|(name, is)| is.then_some(name))
        .collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" class=\"{}\"", names.join(" ")),
    }
}

fn marked(cell: &SheetCell) -> String {
    let text = escaped(&cell.text);
    match cell.mark {
        Mark::None => text,
        Mark::Best => format!("<strong>{text}</strong>"),
        Mark::Tied => {
            format!(
                "{text}<span title=\"the best method, or one that no method is significantly better than\">&nbsp;≈</span>"
            )
        }
    }
}

/// Plots whose names begin with one of these, beside each other where the page is wide enough.
fn gallery(plots: &[Plot], kinds: &[&str]) -> String {
    let belongs = |plot: &&Plot| kinds.iter().any(|kind| plot.name.starts_with(kind));
    let figures: String = plots.iter().filter(belongs).map(figure).collect();
    match figures.is_empty() {
        true => figures,
        false => format!("<div class=\"gallery\">\n{figures}</div>\n"),
    }
}

fn figure(plot: &Plot) -> String {
    let class = if plot.time { " class=\"time\"" } else { "" };
    let caption = escaped(&plot.caption);
    // A page has one document; the drawing's own title makes it readable without eyes.
    let svg = plot
        .svg
        .replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{caption}\" "), 1);
    format!("<figure{class}>\n<div class=\"plot\">{svg}</div>\n<figcaption>{caption}</figcaption>\n</figure>\n")
}

fn listed(items: &[(String, String)]) -> String {
    let rows: String = items
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value)))
        .collect();
    format!("<dl>\n{rows}</dl>\n")
}

/// Escapes text for HTML; no character in it can change the direction of the text that follows.
fn escaped(text: &str) -> String {
    let hidden = |c: char| names::is_hidden(c) && c != '\n';
    text.replace(hidden, " ")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
