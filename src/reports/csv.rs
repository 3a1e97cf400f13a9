//! An answer for spreadsheets: RFC 4180, with cells that no spreadsheet takes for a formula.

use super::cell::Cell;

/// What makes a spreadsheet calculate when a cell begins with it, full-width forms included.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A header line and one line a row.
pub(super) fn write(columns: &[String], rows: &[Vec<Cell>]) -> String {
    let mut csv = String::new();
    line(&mut csv, columns.iter().map(|name| quoted(name)));
    for row in rows {
        line(&mut csv, row.iter().map(cell));
    }
    csv
}

fn line(csv: &mut String, cells: impl Iterator<Item = String>) {
    csv.push_str(&cells.collect::<Vec<_>>().join(","));
    csv.push_str("\r\n");
}

/// Numbers stay numbers, negative ones too; only text can be someone's.
fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Plain(text) => text.clone(),
        Cell::Text(text) if text.starts_with(FORMULA) => quoted(&format!("'{text}")),
        Cell::Text(text) => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        cell(&Cell::Text(value.to_owned()))
    }

    #[test]
    fn what_a_spreadsheet_would_calculate_is_text() {
        assert_eq!(text(r#"=HYPERLINK("http://x","y")"#), r#""'=HYPERLINK(""http://x"",""y"")""#);
        for start in FORMULA {
            let guarded = text(&format!("{start}1"));
            assert!(guarded.trim_start_matches('"').starts_with('\''), "{guarded}");
        }
        assert_eq!(text("a=1"), "a=1");
        assert_eq!(cell(&Cell::Plain("-1.5".to_owned())), "-1.5");
    }

    #[test]
    fn separators_and_quotes_are_quoted() {
        assert_eq!(text("a,b"), "\"a,b\"");
        assert_eq!(text("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("a\nb"), "\"a\nb\"");
        assert_eq!(cell(&Cell::Null), "");
    }
}
