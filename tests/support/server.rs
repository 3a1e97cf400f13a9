//! The PostgreSQL server of a test process: private, started when the first test asks, gone with the process.

use postrider::internals::db::embedded::{self, Options, Server};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use std::path::PathBuf;
use tokio::sync::OnceCell;

/// Our binary, which has the guard in it.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_postrider");

static SERVER: OnceCell<TestServer> = OnceCell::const_new();

/// One server for all tests of this process.
pub(crate) struct TestServer {
    server: Server,
    log: PathBuf,
}

/// The server; the first call starts it. The end of the process stops and removes it, whatever ends it.
pub(crate) async fn server() -> &'static TestServer {
    SERVER.get_or_init(TestServer::start).await
}

impl TestServer {
    async fn start() -> Self {
        let data_dir = std::env::temp_dir().join(format!("postrider-test-{}", uuid::Uuid::now_v7().simple()));
        let log = data_dir.join("postgres").join("server.log");
        let mut options = Options::new(data_dir, BINARY);
        options.ephemeral = true;
        // Hundreds of short-lived databases: the launcher would go round them all the time.
        options.settings = vec![("autovacuum_naptime".to_owned(), "1min".to_owned())];
        let server = embedded::start(options).await.expect("tests need PostgreSQL's programs");
        // Another name for its log, where somebody wants to look at it when the server is gone: see .ci/run.
        if let Some(kept) = std::env::var_os("POSTRIDER_TEST_SERVER_LOG") {
            std::fs::hard_link(&log, kept).expect("both are on one file system");
        }
        Self { server, log }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// How to connect to `database` as the superuser.
    pub(crate) fn connect_options(&self, database: &str) -> PgConnectOptions {
        self.server.connect_options().database(database)
    }

    /// The URL of the database `postrider`, from which databases are made.
    pub(crate) fn admin_url(&self) -> String {
        self.server.url()
    }

    /// Makes the database `name` as a copy of `template`, to which nobody may be connected.
    ///
    /// Copies files, which took 30 to 65 ms where the default of PostgreSQL 15 and newer, through the log,
    /// took 120 to 200 ms. Before 15 there was no other way.
    pub(crate) async fn create_database(&self, name: &str, template: &str) {
        let strategy = if self.server.version() >= 15 { "STRATEGY FILE_COPY" } else { "" };
        self.administer(format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}")).await;
    }

    /// Removes the database `name`, and cuts off who is connected to it.
    pub(crate) async fn drop_database(&self, name: &str) {
        self.administer(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    async fn administer(&self, statement: String) {
        let mut connection =
            self.server.connect_options().connect().await.expect("the server accepts connections");
        connection.execute(AssertSqlSafe(statement)).await.expect("the statement is good");
    }
}
