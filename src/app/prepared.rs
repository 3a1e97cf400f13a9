//! What can be found wrong before anything is made or changed: the settings, and the address. Then the database, and
//! what this process is called.

use super::outside::{directory, fetch};
use crate::auth::Verifier;
use crate::config::Config;
use crate::db::{self, Database};
use crate::http::outbound::Outbound;
use crate::jobs::sdk::Sdk;
use crate::queues::javascript::services::Directory;
use crate::queues::runners::Runners;
use crate::seal::Sealer;
use crate::worker::why::runs_key;
use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What the settings come to, and the address.
pub(super) struct Checked {
    pub(super) outbound: Outbound,
    pub(super) verifier: Arc<Verifier>,
    pub(super) sealer: Option<Arc<Sealer>>,
    pub(super) directory: Arc<Directory>,
    /// Who logs in with the vendor's client.
    pub(super) sdk: Option<Arc<Sdk>>,
    /// Where the other processes are heard, past a pooler.
    pub(super) listen_on: Option<PgConnectOptions>,
    /// The address of the API. Nobody is let in before there is somebody to answer.
    pub(super) socket: Option<TcpSocket>,
}

impl Checked {
    /// `secret` and `secret_key` stand in for those that the settings do not name.
    pub(super) fn new(
        config: &Config,
        secret: Option<&SecretString>,
        secret_key: Option<&SecretString>,
        serves: bool,
    ) -> anyhow::Result<Self> {
        let socket = serves.then(|| reserve(config.listen)).transpose()?;
        let outbound = Outbound::new(config.allow_networks.clone())?;
        let fetch = fetch(outbound.clone());
        let verifier = if serves {
            Verifier::from_config(&config.jwt, secret, fetch)?
        } else {
            // Nobody can ask it for anything.
            Verifier::of_nobody(&config.jwt)
        };
        let verifier = Arc::new(verifier);
        let key = config.secret_key.as_ref().or(secret_key);
        let sealer = key.map(Sealer::new).transpose()?.map(Arc::new);
        let directory = Arc::new(directory(config, outbound.clone())?);
        let sdk = config.sdk_file.as_ref().filter(|_| serves).map(|path| Sdk::load(path)).transpose()?;
        anyhow::ensure!(
            sdk.is_none() || sealer.is_some(),
            "POSTRIDER_SDK_FILE needs POSTRIDER_SECRET_KEY, which seals the keys of its sessions"
        );
        let sdk = sdk.map(Arc::new);
        let listen_on =
            config.listen_url.as_ref().map(|url| db::parse("POSTRIDER_LISTEN_URL", url)).transpose()?;
        Ok(Self { outbound, verifier, sealer, directory, sdk, listen_on, socket })
    }
}

/// The database, if this process can work on it. What takes longer the more lies there is done beside the work.
pub(super) async fn open(
    database: &PgConnectOptions,
    schema: &str,
    listen_on: Option<&PgConnectOptions>,
) -> anyhow::Result<Database> {
    let mut db = Database::new(database, schema);
    if let Some(options) = listen_on {
        db = db.listening_on(options);
    }
    db.check().await?;
    Ok(db)
}

/// Takes the address, without listening yet.
fn reserve(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        // What a former process of ours left in TIME_WAIT does not stand in the way.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.with_context(|| unheard(address))
}

/// Listens on the address that [`reserve`] took.
pub(super) fn listen(socket: TcpSocket, address: SocketAddr) -> anyhow::Result<TcpListener> {
    socket.listen(BACKLOG).with_context(|| unheard(address))
}

fn unheard(address: SocketAddr) -> String {
    format!("cannot listen on {address} (POSTRIDER_LISTEN)")
}

/// What this process can run, and open, and another may not.
pub(super) fn runs(runners: &Runners, sealer: Option<&Sealer>) -> Vec<String> {
    let keys = sealer.into_iter().flat_map(Sealer::keys).map(runs_key);
    runners.runs().into_iter().chain(keys).collect()
}

/// Who this process is, for people: host and process id.
pub(super) fn name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}
