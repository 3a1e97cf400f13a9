//! The reports over HTTP: what there is to ask, and the answers as JSON or CSV.

use super::{Format, Parameters, REPORTS, Report, store};
use crate::auth::role::{HUB_ADMIN, QUEUE_ADMIN, REPORT_READER, SYSTEM_ADMIN};
use crate::auth::{Authenticated, Caller, Verifier};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::http::duration::{self, DurationText};
use crate::http::extract::{Path, Query};
use crate::http::openapi::{OpenApiRouter, Problems, routes};
use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Who may read reports.
const READERS: [&str; 4] = [REPORT_READER, QUEUE_ADMIN, HUB_ADMIN, SYSTEM_ADMIN];
/// Reports that run at a time: they may not take all connections from the requests.
const AT_ONCE: usize = 2;
/// How long one waits for its turn, and then for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The furthest that a report looks.
const FURTHEST: Duration = Duration::from_hours(366 * 24);

/// What the routes of the reports work with.
#[derive(Clone)]
pub struct Reports {
    db: Database,
    verifier: Arc<Verifier>,
    turns: Arc<Semaphore>,
}

impl Reports {
    /// Reports on this database, for callers that `verifier` knows.
    pub fn new(db: Database, verifier: Arc<Verifier>) -> Self {
        Self { db, verifier, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl FromRef<Reports> for Arc<Verifier> {
    fn from_ref(reports: &Reports) -> Self {
        Arc::clone(&reports.verifier)
    }
}

/// All routes of the reports.
pub fn routes() -> OpenApiRouter<Reports> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// A report that can be asked for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedReport {
    /// Its name.
    #[schema(example = "queue_depth")]
    name: &'static str,
    /// What it answers.
    #[schema(example = "How much waits in each queue?")]
    question: &'static str,
    /// What its columns mean, its parameters, what to do about the answer.
    #[schema(example = "waiting: messages that are due and not claimed")]
    notes: String,
}

/// Lists the reports.
#[utoipa::path(
    get, path = "/reports", tag = "reports", operation_id = "list_reports",
    responses((status = 200, description = "All reports, by name", body = Vec<ListedReport>), Problems),
)]
pub(super) async fn list(Authenticated(caller): Authenticated) -> Result<Json<Vec<ListedReport>>> {
    require_reader(&caller)?;
    let listed = |report: &Report| ListedReport {
        name: report.name,
        question: report.question(),
        notes: report.notes(),
    };
    Ok(Json(REPORTS.iter().map(listed).collect()))
}

/// The name of a report.
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_length = 1, example = "queue_depth")]
pub(super) struct ReportName(#[expect(dead_code, reason = "it only describes")] String);

/// What a report is answered as.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReportFormat {
    Json,
    Csv,
}

/// How to answer.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// `json` or `csv`; absent, what `Accept` prefers.
    #[param(inline, value_type = Option<ReportFormat>)]
    format: Option<String>,
    /// How far to look back, such as `6h`; absent, as the report says.
    #[param(inline, value_type = Option<DurationText>)]
    period: Option<String>,
    /// How long before that a message may have been pushed to count, such as `1day`.
    #[param(inline, value_type = Option<DurationText>)]
    lookback: Option<String>,
    /// How long an attempt may run before it counts as stuck, such as `10m`.
    #[param(inline, value_type = Option<DurationText>)]
    long: Option<String>,
}

/// Answers a report: an array of objects, or CSV with a header line, with the columns of its statement.
#[utoipa::path(
    get, path = "/reports/{name}", tag = "reports", operation_id = "get_report",
    params(("name" = inline(ReportName), Path, description = "The report\'s name"), Asked),
    responses(
        (status = 200, description = "The rows", content(
            (Vec<std::collections::HashMap<String, serde_json::Value>> = "application/json"),
            (String = "text/csv"),
        )),
        Problems,
    ),
)]
pub(super) async fn show(
    Authenticated(caller): Authenticated,
    State(reports): State<Reports>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response> {
    require_reader(&caller)?;
    let report = Report::find(&name).ok_or_else(|| Error::NotFound("there is no such report".to_owned()))?;
    let format = match asked.format.as_deref() {
        None if prefers_csv(&headers) => Format::Csv,
        None | Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some(_) => return Err(Error::BadRequest("`format` must be json or csv".to_owned())),
    };
    let parameters = Parameters {
        period: span("period", asked.period.as_deref())?,
        lookback: span("lookback", asked.lookback.as_deref())?,
        long: span("long", asked.long.as_deref())?,
    };
    let busy = || Error::Unavailable("other reports are being made".to_owned(), Duration::from_secs(1));
    let turn = tokio::time::timeout(PATIENCE, reports.turns.acquire()).await.map_err(|_| busy())?;
    let answer = store::run(&reports.db.api, report, parameters, PATIENCE).await.map_err(too_long)?;
    drop(turn);
    let body = answer.write(format).map_err(Error::internal)?;
    Ok(match format {
        Format::Csv => {
            let file = HeaderValue::try_from(format!("attachment; filename=\"{}.csv\"", report.name));
            let file = file.map_err(Error::internal)?;
            let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
            ([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, file)], body).into_response()
        }
        Format::Json | Format::Table => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
    })
}

fn require_reader(caller: &Caller) -> Result<()> {
    caller.require(&READERS)
}

fn span(name: &str, text: Option<&str>) -> Result<Option<Duration>> {
    let Some(text) = text else { return Ok(None) };
    match duration::read(text) {
        Some(duration) if duration <= FURTHEST => Ok(Some(duration)),
        _ => Err(Error::BadRequest(format!("`{name}` must be a duration such as 6h, at most 366 days"))),
    }
}

/// The statement timeout is not the database's fault, and the caller can do something about it.
fn too_long(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("57014") => Error::Unavailable(
            "the report takes longer than 10 s: ask for a shorter period or lookback".to_owned(),
            Duration::from_secs(10),
        ),
        _ => error.into(),
    }
}

/// Whether `Accept` prefers `text/csv` to JSON (RFC 9110, 12.5.1).
fn prefers_csv(headers: &HeaderMap) -> bool {
    let (mut csv, mut json) = (0.0, 0.0);
    for range in headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match kind.as_str() {
            "text/csv" => csv = f32::max(csv, weight),
            "application/json" | "application/*" | "*/*" => json = f32::max(json, weight),
            _ => {}
        }
    }
    csv > json
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses_csv_only_when_it_weighs_more() {
        let asked = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            prefers_csv(&headers)
        };
        for accept in [
            "text/csv",
            "Text/CSV; charset=utf-8",
            "text/csv, */*;q=0.5",
            "application/json;q=0.1, text/csv;q=0.2",
        ] {
            assert!(asked(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "application/json",
            "text/csv, application/json",
            "text/csv;q=0.1, */*",
            "text/html",
            "text/csv;q=x",
        ] {
            assert!(!asked(accept), "{accept}");
        }
        assert!(!prefers_csv(&HeaderMap::new()));
    }
}
