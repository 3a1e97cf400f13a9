//! An answer for people: columns of text, numbers to the right.

use super::cell::Cell;

/// A header line and one line a row; of an empty answer only the header.
pub(super) fn write(columns: &[String], rows: &[Vec<Cell>]) -> String {
    let cells: Vec<Vec<(String, bool)>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let widest = cells.iter().map(|row| row[at].0.chars().count()).max().unwrap_or(0);
            widest.max(name.chars().count())
        })
        .collect();
    // A column's name stands above its numbers.
    let right = |at: usize| cells.iter().any(|row| row[at].1);
    let header = columns.iter().enumerate().map(|(at, name)| (name.clone(), right(at))).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(&cells) {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(
                |((cell, right), width)| {
                    if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The cell as it is shown, and whether it is a number.
fn shown(cell: &Cell) -> (String, bool) {
    match cell {
        Cell::Null => (String::new(), false),
        Cell::Plain(text) => (text.clone(), text.starts_with(|c: char| c == '-' || c.is_ascii_digit())),
        // A terminal obeys control characters, and this text may be anyone's.
        Cell::Text(text) => (text.chars().flat_map(visible).collect(), false),
    }
}

fn visible(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_text() {
        assert_eq!(shown(&Cell::Text("a\u{1b}[2J\n".to_owned())).0, "a\\u{1b}[2J\\n");
    }

    #[test]
    fn an_empty_answer_has_a_header() {
        assert_eq!(write(&["queue".to_owned(), "ready".to_owned()], &[]), "queue  ready\n");
    }
}
