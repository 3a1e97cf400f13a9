//! The reports of `sql/reports/`, built in: questions about the work, each answered by one statement.
//!
//! The same files run in psql and in Grafana as they are; here they run for `GET /reports/{name}` and for
//! `postrider report`. A file begins with its question, what its columns mean, its parameters and what to do
//! about the answer. A parameter is a setting with a default (`report.period`), which psql sets with `SET` and
//! we set for one transaction.

mod cell;
mod csv;
mod text;

pub mod routes;
pub mod store;

use cell::Cell;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::time::Duration;

/// A question about the work, and the statement that answers it.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its name: that of its file.
    pub name: &'static str,
    /// The file.
    sql: &'static str,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(Report { name: $name, sql: include_str!(concat!("../../sql/reports/", $name, ".sql")) }),*]
    };
}

/// All reports, by name.
pub const REPORTS: &[Report] = built_in![
    "attempts_by_outcome",
    "delivery_attempts_by_outcome",
    "delivery_latency",
    "error_rate",
    "failing_endpoints",
    "job_terminations",
    "latency_percentiles",
    "oldest_due",
    "queue_depth",
    "retry_backlog",
    "schedule_runs",
    "stuck_work",
    "subscriber_lag",
    "table_health",
    "throughput_by_minute",
    "time_to_answer",
];

impl Report {
    /// The report of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        REPORTS.iter().find(|report| report.name == name)
    }

    /// What it answers: the first line of its file.
    pub fn question(&self) -> &'static str {
        self.sql.lines().next().unwrap_or_default().trim_start_matches("--").trim()
    }

    /// What its columns mean, its parameters, what to do: the rest of its file's header.
    pub fn notes(&self) -> String {
        let header = self.sql.lines().skip(1).map_while(|line| line.strip_prefix("--"));
        header.map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

/// How far a report looks; what is absent is as its file says.
#[derive(Debug, Default, Clone, Copy)]
pub struct Parameters {
    /// `report.period`: how far back.
    pub period: Option<Duration>,
    /// `report.lookback`: how long before that a message may have been pushed.
    pub lookback: Option<Duration>,
    /// `report.long`: how long an attempt may run before it counts as stuck.
    pub long: Option<Duration>,
}

/// What a report answered.
#[derive(Debug)]
pub struct Answer {
    /// The names of the columns, in order.
    columns: Vec<String>,
    /// The rows: JSON objects whose members are in the order of the columns.
    rows: Vec<Box<RawValue>>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns of text, for people.
    Table,
    /// RFC 4180, for spreadsheets.
    Csv,
    /// An array of objects, for programs.
    Json,
}

impl Answer {
    /// The answer as text.
    ///
    /// # Errors
    /// A row that is no JSON object, which PostgreSQL does not make.
    pub fn write(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Json => serde_json::to_string(&self.rows),
            Format::Csv => Ok(csv::write(&self.columns, &self.cells()?)),
            Format::Table => Ok(text::write(&self.columns, &self.cells()?)),
        }
    }

    /// The values of each row, in the order of the columns.
    fn cells(&self) -> serde_json::Result<Vec<Vec<Cell>>> {
        let row = |row: &RawValue| {
            let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(row.get())?;
            self.columns.iter().map(|column| Cell::of(members.remove(column))).collect()
        };
        self.rows.iter().map(|raw| row(raw)).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_built_in_and_says_what_it_is_for() {
        let mut files: Vec<String> = std::fs::read_dir("sql/reports")
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let names: Vec<String> = REPORTS.iter().map(|report| format!("{}.sql", report.name)).collect();
        assert_eq!(files, names);
        for report in REPORTS {
            assert!(report.question().ends_with('?'), "{}: {}", report.name, report.question());
            let notes = report.notes();
            assert!(notes.contains("Parameters: ") && notes.contains("What to do: "), "{}", report.name);
            assert!(report.sql.trim_end().ends_with(';'), "{} runs in psql", report.name);
        }
    }

    #[test]
    fn an_answer_keeps_the_order_of_its_columns_and_the_digits_of_its_numbers() {
        let rows = [r#"{"queue":"a","p":10.0,"big":12345678901234567890,"none":null,"is":true}"#];
        let answer = Answer {
            columns: ["queue", "p", "big", "none", "is"].map(str::to_owned).to_vec(),
            rows: rows.iter().map(|row| RawValue::from_string((*row).to_owned()).unwrap()).collect(),
        };
        assert_eq!(answer.write(Format::Json).unwrap(), format!("[{}]", rows[0]));
        let csv = "queue,p,big,none,is\r\na,10.0,12345678901234567890,,true\r\n";
        assert_eq!(answer.write(Format::Csv).unwrap(), csv);
        let table = "queue     p                   big  none  is\n\
                     a      10.0  12345678901234567890        true\n";
        assert_eq!(answer.write(Format::Table).unwrap(), table);
    }
}
