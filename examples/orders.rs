//! An application that keeps its orders in the database in which Postrider keeps its messages. It stores an order and
//! enqueues what is to be done about it in one transaction, and does that itself, in a handler written in Rust.
//!
//!     DATABASE_URL=postgres://… cargo run --example orders

use postrider::Config;
use postrider::client::{Client, Options};
use postrider::{App, Parts};
use postrider::{Failure, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    order: i64,
}

/// The handler of a receipt. It may run again after a crash: what it does is the same done twice.
async fn send(pool: PgPool, message: Message) -> Result<Value, Failure> {
    let Receipt { order } = message.json()?;
    let sent: String =
        sqlx::query_scalar("UPDATE public.orders SET receipt_sent = true WHERE id = $1 RETURNING email")
            .bind(order)
            .fetch_one(&pool)
            .await
            // Tried again, later and later, until the definition's `max_attempts`.
            .map_err(|error| {
                Failure::Retry(json!({ "name": "Database", "message": error.to_string() }), None)
            })?;
    Ok(json!({ "sent_to": sent }))
}

async fn place(db: &mut PgConnection, postrider: &Client, email: &str) -> anyhow::Result<i64> {
    let mut tx = db.begin().await?;
    let order = sqlx::query_scalar("INSERT INTO public.orders (email) VALUES ($1) RETURNING id")
        .bind(email)
        .fetch_one(&mut *tx)
        .await?;
    // A worker sees it when, and only when, the order is there.
    postrider.enqueue(&mut tx, "receipts", &Receipt { order }, &Options::default()).await?;
    tx.commit().await?;
    Ok(order)
}

/// Places an order and waits for its receipt; `database` has Postrider's schema. Returns whether it was sent.
pub(crate) async fn run(config: Config, database: &PgConnectOptions) -> anyhow::Result<bool> {
    let pool = PgPool::connect_with(database.clone()).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS public.orders (
            id bigserial PRIMARY KEY, email text NOT NULL, receipt_sent boolean NOT NULL DEFAULT false
        )",
    )
    .execute(&pool)
    .await?;
    let (postrider, orders) = (Client::in_schema(&config.schema), pool.clone());
    let server = App::new(config)
        .handler("send", move |message| send(orders.clone(), message))
        .queue(
            "receipts",
            json!({ "handler": { "kind": "native", "name": "send" }, "options": { "max_attempts": 5 } }),
        )
        .start(database, Parts::Worker)
        .await?;
    let mut db = PgConnection::connect_with(database).await?;
    let order = place(&mut db, &postrider, "ada@example.com").await?;
    server.run_until_idle().await?;
    server.stop().await;
    let sent = sqlx::query_scalar("SELECT receipt_sent FROM public.orders WHERE id = $1");
    Ok(sent.bind(order).fetch_one(&pool).await?)
}

#[tokio::main]
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]
async fn main() -> anyhow::Result<()> {
    let (config, database) = (Config::from_env()?, std::env::var("DATABASE_URL")?.parse()?);
    postrider::migrate(&database, &config.schema).await?;
    println!("the receipt was sent: {}", run(config, &database).await?);
    Ok(())
}
