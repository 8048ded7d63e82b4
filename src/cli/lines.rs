//! Lines of text that fit a terminal.

/// The text with each line that is wider than `width` broken between words. What goes on stands below the last column of its line, if
/// the line has columns (two spaces or more between them), and else two spaces further in than the line. Where the width is not
/// known, the text stays as it is.
pub(super) fn broken(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_string();
    };
    let lines: Vec<String> = text.split('\n').map(|line| line_of(line, width)).collect();
    lines.join("\n")
}

/// A message with its lines broken as [`broken`] does, but for those of a drawing: a part of a file with a place that is marked.
pub(super) fn message(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_string();
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let marks = |line: Option<&&str>| line.is_some_and(|line| line.trim() == "^");
    let drawn = |line: &str| line.contains(|c: char| ('\u{2500}'..='\u{257f}').contains(&c));
    let each = lines.iter().enumerate().map(|(index, line)| {
        let stays = drawn(line) || marks(Some(line)) || marks(lines.get(index + 1));
        match stays {
            true => line.to_string(),
            false => line_of(line, width),
        }
    });
    each.collect::<Vec<_>>().join("\n")
}

/// The columns that a text takes on a terminal, without what colours it.
fn columns(text: &str) -> usize {
    let (mut count, mut coloured) = (0, false);
    for c in text.chars() {
        match c {
            '\u{1b}' => coloured = true,
            'm' if coloured => coloured = false,
            _ => count += usize::from(!coloured),
        }
    }
    count
}

fn line_of(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_string();
    }
    let hang = last_column(line, width);
    let (mut broken, mut used, mut gap) = (String::new(), 0, 0);
    let mut begun = false;
    for (index, word) in line.split(' ').enumerate() {
        gap += usize::from(index > 0);
        // Between two spaces.
        if word.is_empty() {
            continue;
        }
        let long = columns(word);
        if begun && used + gap + long > width {
            broken.push('\n');
            broken.push_str(&" ".repeat(hang));
            used = hang;
        } else {
            broken.push_str(&" ".repeat(gap));
            used += gap;
        }
        broken.push_str(word);
        used += long;
        gap = 0;
        begun = true;
    }
    broken
}

/// Where the last column of a line begins that leaves half of the width for what is in it.
fn last_column(line: &str, width: usize) -> usize {
    let mut begins = line.chars().take_while(|c| *c == ' ').count() + 2;
    let (mut spaces, mut begun) = (0, false);
    for (at, c) in line.chars().enumerate().take_while(|(at, _)| *at <= width / 2) {
        match c {
            ' ' => spaces += 1,
            _ => {
                if begun && spaces > 1 {
                    begins = at;
                }
                begun = true;
                spaces = 0;
            }
        }
    }
    begins.min(width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_go_on_below_their_last_column() {
        let text = "solvers\n  obs           removes weights column by column and updates the others\n\nshort";
        assert_eq!(
            broken(text, Some(40)),
            "solvers\n  obs           removes weights column\n                by column and updates\n                the others\n\nshort"
        );
        assert_eq!(broken(text, None), text);
        assert_eq!(broken("one two three four", Some(9)), "one two\n  three\n  four");
    }

    #[test]
    fn messages_are_broken_and_drawings_are_not() {
        let drawing = "  ╭─[ mine.toml:2:1 ]\n2 │ foo = \"one two three four\"";
        let marked = "  abs(w * sqrt(x2) * y2\n    ^";
        let text = format!("error: mine.toml:2:1: unknown key `foo`\n{drawing}\n\n`)` is missing\n{marked}");
        let expected = format!("error: mine.toml:2:1:\n  unknown key `foo`\n{drawing}\n\n`)` is missing\n{marked}");
        assert_eq!(message(&text, Some(21)), expected);
        assert_eq!(message(&text, None), text);
        let coloured = "\u{1b}[31merror\u{1b}[0m: one two";
        assert_eq!(message(coloured, Some(10)), "\u{1b}[31merror\u{1b}[0m: one\n  two");
    }

    #[test]
    fn words_that_are_too_wide_stay_whole_and_nothing_is_lost() {
        let text = "  0123456789abcdef   to do    a/very/long/path/that/fits/nowhere of  the model";
        for width in 1..100 {
            let said = broken(text, Some(width));
            assert!(said.split_whitespace().eq(text.split_whitespace()), "{width}: {said}");
            for line in said.lines() {
                assert_eq!(line, line.trim_end(), "{width}: {said}");
                let fits = line.chars().count() <= width || line.split_whitespace().count() <= 2;
                assert!(fits, "{width}: {said}");
            }
        }
    }
}
