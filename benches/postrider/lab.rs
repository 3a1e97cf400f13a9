//! Where workloads are measured: the server, and instances on schemas of their own.

use super::client::{Client, request};
use super::processes::{self, Cpu};
use super::server::{BINARY, Server as Database};
use super::sizes::Sizes;
use super::table::Setting;
use anyhow::Context as _;
use parking_lot::Mutex;
use postrider::config::{Config, Jwt};
use postrider::internals::auth;
use postrider::internals::queues::pushes::{self, Push};
use postrider::internals::traces::Origin;
use postrider::migrate;
use postrider::{App, Parts, Server};
use secrecy::SecretString;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use uuid::Uuid;

/// A message that the document's schema accepts.
pub(super) const BODY: &str = r#"{"hello":"there","world":"yes"}"#;
/// A role that the document's queue asks for.
const ROLE: &str = "one";
/// How many messages one statement stores.
const FILL: usize = 1000;

/// The server that the whole run uses.
pub(super) struct Lab {
    pub(super) sizes: Sizes,
    config: Config,
    database: Database,
    /// Of the private server.
    postmaster: Option<u32>,
    /// What is to be dropped.
    schemas: Mutex<Vec<String>>,
}

impl Lab {
    pub(super) async fn open(config: Config, sizes: Sizes) -> anyhow::Result<Self> {
        let database = Database::apart(&config).await?;
        let mut lab = Self { sizes, config, database, postmaster: None, schemas: Mutex::default() };
        if lab.is_private() {
            lab.postmaster = processes::postmaster(&mut lab.connect("public").await?).await;
        }
        Ok(lab)
    }

    /// Whether the server was made for this run.
    pub(super) fn is_private(&self) -> bool {
        self.database.is_private()
    }

    /// How a client that is not ours connects to the server.
    pub(super) fn url(&self) -> &str {
        &self.database.url
    }

    /// What the figures are measured on.
    pub(super) async fn setting(&self, repeats: u16) -> anyhow::Result<Setting> {
        let mut connection = self.connect("public").await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
        let version = version.split(' ').next().unwrap_or_default();
        Ok(Setting {
            version: env!("CARGO_PKG_VERSION"),
            postgresql: format!("PostgreSQL {version}"),
            private_server: self.is_private(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            repeats,
            held_seconds: self.sizes.held.as_secs(),
            backlog_waiting: self.sizes.backlog.1,
        })
    }

    /// A new schema, to be dropped by [`Lab::drop_schema`] or at the latest by [`Lab::close`].
    pub(super) fn schema(&self) -> String {
        let name = format!("postrider_bench_{:08x}", rand::random::<u32>());
        self.schemas.lock().push(name.clone());
        name
    }

    pub(super) async fn drop_schema(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = self.connect("public").await?;
        connection.execute(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {name} CASCADE"))).await?;
        self.schemas.lock().retain(|schema| schema != name);
        Ok(())
    }

    /// A connection that nothing of ours bounds, with its names in `schema`.
    pub(super) async fn connect(&self, schema: &str) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options(schema)).await?)
    }

    pub(super) fn options(&self, schema: &str) -> PgConnectOptions {
        let options = [("search_path", schema), ("client_min_messages", "error")];
        self.database.options.clone().application_name("postrider bench").options(options)
    }

    /// CPU time used so far.
    pub(super) fn cpu(&self) -> Option<Cpu> {
        Cpu::now(self.postmaster)
    }

    /// Drops what is left, and stops the private server.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if !self.is_private() {
            let left = self.schemas.lock().clone();
            for schema in left {
                self.drop_schema(&schema).await?;
            }
        }
        self.database.close().await;
        Ok(())
    }
}

/// A running Postrider on a schema of its own.
pub(super) struct Instance<'a> {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    pub(super) schema: String,
    lab: &'a Lab,
    admin: SecretString,
    pusher: SecretString,
}

impl<'a> Instance<'a> {
    /// Starts one, with the native handlers that `build` registers.
    pub(super) async fn start(lab: &'a Lab, build: impl FnOnce(App) -> App) -> anyhow::Result<Self> {
        let schema = lab.schema();
        let secret = SecretString::from(format!("{}{}", Uuid::new_v4(), Uuid::new_v4()));
        let key = SecretString::from(format!("{}{}", Uuid::new_v4(), Uuid::new_v4()));
        let mut config = lab.config.clone();
        config.jwt = Jwt { secret: Some(secret.clone()), require_exp: true, ..Jwt::default() };
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.schema.clone_from(&schema);
        config.queues_dir = None;
        config.allow_networks = vec!["127.0.0.0/8".parse().map_err(anyhow::Error::msg)?];
        let sign = |role: &str| {
            let token =
                auth::sign(&secret, &config.jwt, "bench", &[role.to_owned()], Duration::from_hours(24));
            token.map(SecretString::from)
        };
        let (admin, pusher) = (sign("system_admin")?, sign(ROLE)?);
        migrate(&lab.database.options, &schema).await?;
        let app = build(App::new(config).development_key(key).javascript(BINARY));
        let server = app.start(&lab.database.options, Parts::Everything).await?;
        let address = server.address().context("the instance does not listen")?;
        Ok(Self { server, address, schema, lab, admin, pusher })
    }

    /// Defines a queue with this handler and these options, like the document's in all else; returns its id.
    pub(super) async fn define(&self, name: &str, handler: Value, options: Value) -> anyhow::Result<i32> {
        let mut definition: Value = serde_json::from_str(include_str!("../../examples/myQueue.queue.json"))?;
        definition["name"] = name.into();
        definition["handler"] = handler;
        definition["options"] = options;
        self.administer("PUT", &format!("/queues/{name}"), &definition.to_string()).await?;
        let id = sqlx::query_scalar("SELECT id FROM queues WHERE name = $1").bind(name);
        Ok(id.fetch_one(&self.server.db.api).await?)
    }

    /// As [`Instance::define`], with the native handler `noop` and room for many messages at once; paused.
    pub(super) async fn define_paused(
        &self,
        name: &str,
        handler: Value,
        concurrency: u16,
    ) -> anyhow::Result<i32> {
        let id = self.define(name, handler, serde_json::json!({ "concurrency": concurrency })).await?;
        self.administer("POST", &format!("/queues/{name}/pause"), "").await?;
        Ok(id)
    }

    /// Lets a paused queue run.
    pub(super) async fn resume(&self, name: &str) -> anyhow::Result<()> {
        self.administer("POST", &format!("/queues/{name}/resume"), "").await
    }

    /// A request of an administrator, which must succeed.
    pub(super) async fn administer(&self, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        let mut client = Client::connect(self.address).await?;
        client.exchange(&request(method, path, &self.admin, body)).await?.success()?;
        Ok(())
    }

    /// A token that may do anything, of the subject `bench`.
    pub(super) fn admin(&self) -> &SecretString {
        &self.admin
    }

    /// The bytes of a push, as somebody sends it who may do no more than that.
    pub(super) fn push_request(&self, queue: &str) -> Vec<u8> {
        request("POST", &format!("/queues/{queue}/messages"), &self.pusher, BODY)
    }

    /// The bytes of a push of so many messages.
    pub(super) fn batch_request(&self, queue: &str, messages: usize) -> Vec<u8> {
        let body = format!("[{}]", vec![BODY; messages].join(","));
        request("POST", &format!("/queues/{queue}/messages:batch"), &self.pusher, &body)
    }

    /// Stores messages by the statement of the pushes, past HTTP.
    pub(super) async fn fill(&self, queue_id: i32, messages: usize) -> anyhow::Result<()> {
        let body: Box<RawValue> = RawValue::from_string(BODY.to_owned())?;
        let mut left = messages;
        while left > 0 {
            let batch: Vec<Push> = (0..left.min(FILL))
                .map(|_| Push {
                    queue_id,
                    id: self.server.db.ids.next(),
                    request: body.clone(),
                    rank: 0,
                    delay: Duration::ZERO,
                    key: None,
                    own_key: None,
                    unique: None,
                    origin: Origin::default(),
                })
                .collect();
            let stored = pushes::push(&self.server.db.api, &batch.iter().collect::<Vec<_>>()).await?;
            anyhow::ensure!(stored.stored.len() == batch.len(), "the queue is gone");
            left -= batch.len();
        }
        Ok(())
    }

    /// A connection beside those of the instance, which nothing bounds.
    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.lab.connect(&self.schema).await
    }

    /// How many bytes of write-ahead log the server has written.
    pub(super) async fn wal(&self) -> anyhow::Result<f64> {
        let written =
            sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8");
        Ok(written.fetch_one(&self.server.db.api).await?)
    }

    /// Stops it, and drops its schema.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.server.stop_within(Duration::from_secs(5)).await;
        self.lab.drop_schema(&self.schema).await
    }
}
