//! Weeks of the past, and one more instance that tidies them up.

use super::app::{TestApp, database};
use postrider::App;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

/// An instance on a new database that does not tidy up by itself for three minutes: somebody else has the duties.
pub(crate) async fn untidy(build: impl FnOnce(App) -> App) -> TestApp {
    let database = database().await;
    let taken = "INSERT INTO postrider.duties (name, holder, until)
        SELECT name, gen_random_uuid(), now() + interval '3 minutes' FROM unnest(ARRAY['retention', 'hub']) AS d (name)";
    sqlx::raw_sql(taken).execute(&mut database.connect().await.unwrap()).await.unwrap();
    TestApp::on(database, &[], build).await
}

/// Makes the week of a feature that begins on this Monday.
pub(crate) async fn make_week(db: &mut PgConnection, feature: &str, monday: &str) {
    let tables = match feature {
        "queues" => "outcomes,attempts,messages",
        _ => "delivery_attempts,deliveries,hub_messages",
    };
    let statement = format!(
        "SELECT make_week('{feature}', string_to_array('{tables}', ','), timestamptz '{monday}', \
         timestamptz '{monday}' + interval '7 days')"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await.unwrap();
}

/// How many weeks of the past there are.
pub(crate) async fn past_weeks(db: &mut PgConnection) -> i64 {
    let partitions =
        "SELECT count(*) FROM pg_class WHERE relname ~ '_20[012][0-5]_[0-9_]+$' AND relkind = 'r'";
    let rows = "SELECT count(*) FROM weeks WHERE starts < '2026-01-01'";
    let partitions: i64 = sqlx::query_scalar(partitions).fetch_one(&mut *db).await.unwrap();
    let rows: i64 = sqlx::query_scalar(rows).fetch_one(db).await.unwrap();
    assert!(partitions >= rows, "a week without partitions");
    rows
}

/// One more instance, which tidies up when it starts.
pub(crate) async fn tidier(app: &TestApp) -> TestApp {
    // The duties are the first one's until they are long overdue.
    let overdue = "UPDATE duties SET until = until - interval '1 day'";
    sqlx::raw_sql(overdue).execute(&mut app.connect().await).await.unwrap();
    TestApp::on(app.database.clone(), &[], |app| app).await
}
