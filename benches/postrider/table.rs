//! Shows figures: as a table, row by row, or as one JSON document.

use super::measure::{Row, Unit};
use serde::Serialize;

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) version: &'static str,
    pub(super) postgresql: String,
    /// Whether the server was made for the run.
    pub(super) private_server: bool,
    pub(super) cores: usize,
    pub(super) repeats: u16,
    pub(super) held_seconds: u64,
    pub(super) backlog_waiting: usize,
}

/// Prints what the run is, and the names of the columns.
pub(super) fn head(setting: &Setting) {
    let Setting { postgresql, cores, repeats, held_seconds, backlog_waiting, .. } = setting;
    let server = if setting.private_server { "private, made for this run" } else { "from DATABASE_URL" };
    println!(
        "Postrider {} on {postgresql} ({server}), durable; {cores} cores for the load, the server and PostgreSQL",
        setting.version
    );
    println!(
        "Median of {repeats}; held for {held_seconds} s, backlog of {} (60 s and 2,000,000 with --full)\n",
        grouped(*backlog_waiting as f64)
    );
    println!(
        "{:<11} {:<35} {:>11} {:>21} {:>6}  beside",
        "workload", "figure", "median", "min – max", "ratio"
    );
}

/// Prints a row.
pub(super) fn row(row: &Row) {
    let range = if row.samples.len() > 1 {
        format!("{} – {}", number(row.min, row.unit), number(row.max, row.unit))
    } else {
        String::new()
    };
    let (ratio, beside) = row.beside.as_ref().map_or_else(Default::default, |beside| {
        (format!("{:.2}", beside.ratio), format!("{} {}", shown(beside.median, row.unit), beside.what))
    });
    let line = format!(
        "{:<11} {:<35} {:>11} {range:>21} {ratio:>6}  {beside}",
        row.workload,
        row.what,
        shown(row.median, row.unit)
    );
    println!("{}", line.trim_end());
    for some in row.details.chunks(6) {
        let details: Vec<String> = some
            .iter()
            .map(|detail| format!("{} {}", detail.what, shown(detail.median, detail.unit)))
            .collect();
        println!("{:<11}   {}", "", details.join(", "));
    }
}

/// Prints everything as JSON.
pub(super) fn json(setting: &Setting, rows: &[Row]) -> serde_json::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        setting: &'a Setting,
        rows: &'a [Row],
    }
    println!("{}", serde_json::to_string_pretty(&Document { setting, rows })?);
    Ok(())
}

pub(super) fn shown(value: f64, unit: Unit) -> String {
    let number = number(value, unit);
    match unit {
        Unit::PerSecond => format!("{number}/s"),
        Unit::Milliseconds => format!("{number} ms"),
        Unit::Microseconds => format!("{number} µs"),
        Unit::Bytes => format!("{number} B"),
        Unit::Mebibytes => format!("{number} MiB"),
        Unit::Count => number,
    }
}

/// As many digits as say something.
fn number(value: f64, unit: Unit) -> String {
    match unit {
        _ if !value.is_finite() => "–".to_owned(),
        Unit::Count | Unit::Bytes => grouped(value),
        _ if value.abs() >= 1000.0 => grouped(value),
        _ if value.abs() >= 100.0 => format!("{value:.0}"),
        _ if value.abs() >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Whole, with a comma after every three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}
