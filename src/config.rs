//! Every setting, from the environment, once. A setting that cannot work is refused here, with its name.
//!
//! `.env.example` lists the same settings with their defaults; a test holds the two together.

mod database_url;
mod dotenv;
mod network;
mod origins;
mod traces;

pub use network::Network;
pub use origins::Origins;
pub use traces::{Sampler, Traces};

use anyhow::Context as _;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every setting with its meaning and its default, as a person reads them.
pub(crate) const EXPLAINED: &str = include_str!("../.env.example");
/// The file of settings in the current directory.
const FILE: &str = ".env";

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL`: the server to use; absent, the private embedded one.
    pub database_url: Option<SecretString>,
    /// `POSTRIDER_LISTEN_URL`: a direct connection past a pooler, for hearing the other processes.
    pub listen_url: Option<SecretString>,
    /// `POSTRIDER_DATA_DIR`: the embedded server's cluster and the development secret.
    pub data_dir: PathBuf,
    /// `POSTRIDER_LISTEN`: where the API listens.
    pub listen: SocketAddr,
    /// `POSTRIDER_DATABASE_SCHEMA`: one instance, one schema.
    pub schema: String,
    /// `POSTRIDER_JWT_*` and `POSTRIDER_JWKS_URL`: how tokens are verified.
    pub jwt: Jwt,
    /// `POSTRIDER_SECRET_KEY`: encryption at rest; several with commas, of which the first seals.
    pub secret_key: Option<SecretString>,
    /// `POSTRIDER_QUEUES_DIR`: definition file pairs, loaded at start and on change.
    pub queues_dir: Option<PathBuf>,
    /// `POSTRIDER_EXAMPLES`: whether `examples/` is loaded too.
    pub examples: bool,
    /// `POSTRIDER_ALLOW_NETWORKS`: private networks that outbound requests may reach.
    pub allow_networks: Vec<Network>,
    /// `POSTRIDER_ALLOW_ORIGINS`: the origins whose pages browsers let read our answers.
    pub allow_origins: Origins,
    /// `POSTRIDER_QUERY_ACCESS_KEYS`: whether a stream takes its access key in the query, as an `EventSource` sends it.
    pub query_access_keys: bool,
    /// `POSTRIDER_SDK_FILE`: who logs in with the vendor's client to the job channels; absent, nobody.
    pub sdk_file: Option<PathBuf>,
    /// `POSTRIDER_LEASE`: how long a worker counts as alive after its last heartbeat.
    pub lease: Duration,
    /// `POSTRIDER_GRACE`: how long what runs may go on after the signal to stop.
    pub grace: Duration,
    /// `POSTRIDER_COMMAND_TIMEOUT`: how long a command such as `report` waits for the database.
    pub command_timeout: Duration,
    /// `POSTRIDER_METRICS`: who may read `/metrics`.
    pub metrics: Metrics,
    /// `POSTRIDER_MAX_BODY`: the largest request body, in bytes.
    pub max_body: usize,
    /// `POSTRIDER_HUB_RETRY_BASE` and `POSTRIDER_HUB_RETRY_CAP`: the backoff of deliveries.
    pub hub_retry: (Duration, Duration),
    /// `POSTRIDER_HUB_DESCENDANTS`: how many messages may come of one from outside before the rest is parked.
    pub hub_descendants: u32,
    /// `POSTRIDER_JOB_TIMEOUT`: how long a job may take.
    pub job_timeout: Duration,
    /// `POSTRIDER_CREDENTIAL_TIMEOUT`: what each request to the owner adds to it.
    pub credential_timeout: Duration,
    /// `POSTRIDER_BROADCAST_RETENTION`: how long a broadcast can be read again.
    pub broadcast_retention: Duration,
    /// `POSTRIDER_JOB_RETENTION`: how long a finished job is kept.
    pub job_retention: Duration,
    /// `POSTRIDER_LOG`: a filter such as `info` or `postrider=debug,sqlx=warn`.
    pub log: String,
    /// `POSTRIDER_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `OTEL_*`: where spans go; `None` when no collector is named.
    pub traces: Option<Traces>,
}

/// How tokens are verified. At most one of the three keys is set.
#[derive(Debug, Clone, Default)]
pub struct Jwt {
    /// `POSTRIDER_JWT_SECRET`: HS256, at least 32 bytes.
    pub secret: Option<SecretString>,
    /// `POSTRIDER_JWT_PUBLIC_KEY_FILE`: a PEM file for RS256, ES256 or `EdDSA`.
    pub public_key_file: Option<PathBuf>,
    /// `POSTRIDER_JWKS_URL`: an issuer's key set.
    pub jwks_url: Option<String>,
    /// `POSTRIDER_JWT_ISSUER`: `iss` must be this.
    pub issuer: Option<String>,
    /// `POSTRIDER_JWT_AUDIENCE`: `aud` must name this.
    pub audience: Option<String>,
    /// `POSTRIDER_JWT_REQUIRE_EXP`: whether a token without `exp` is refused.
    pub require_exp: bool,
}

impl Jwt {
    /// Whether any key is configured.
    pub fn has_key(&self) -> bool {
        self.secret.is_some() || self.public_key_file.is_some() || self.jwks_url.is_some()
    }
}

/// Who may read `/metrics`, which tells names of queues, stores and endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// Whoever has a token with the role.
    Token,
    /// Everybody.
    Open,
}

impl Metrics {
    fn read(text: Option<&str>) -> anyhow::Result<Self> {
        match text {
            None | Some("token") => Ok(Self::Token),
            Some("open") => Ok(Self::Open),
            Some(other) => anyhow::bail!("POSTRIDER_METRICS: `{other}` is neither token nor open"),
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    fn read(text: Option<&str>) -> anyhow::Result<Self> {
        match text {
            None | Some("auto") => Ok(Self::Auto),
            Some("pretty") => Ok(Self::Pretty),
            Some("json") => Ok(Self::Json),
            Some(other) => anyhow::bail!("POSTRIDER_LOG_FORMAT: `{other}` is none of auto, pretty, json"),
        }
    }
}

/// The names of all settings, as `.env.example` lists them.
pub const SETTINGS: &[&str] = &[
    "DATABASE_URL",
    "POSTRIDER_LISTEN_URL",
    "POSTRIDER_DATA_DIR",
    "POSTRIDER_LISTEN",
    "POSTRIDER_DATABASE_SCHEMA",
    "POSTRIDER_JWT_SECRET",
    "POSTRIDER_JWT_PUBLIC_KEY_FILE",
    "POSTRIDER_JWKS_URL",
    "POSTRIDER_JWT_ISSUER",
    "POSTRIDER_JWT_AUDIENCE",
    "POSTRIDER_JWT_REQUIRE_EXP",
    "POSTRIDER_SECRET_KEY",
    "POSTRIDER_QUEUES_DIR",
    "POSTRIDER_EXAMPLES",
    "POSTRIDER_ALLOW_NETWORKS",
    "POSTRIDER_ALLOW_ORIGINS",
    "POSTRIDER_QUERY_ACCESS_KEYS",
    "POSTRIDER_SDK_FILE",
    "POSTRIDER_LEASE",
    "POSTRIDER_GRACE",
    "POSTRIDER_COMMAND_TIMEOUT",
    "POSTRIDER_METRICS",
    "POSTRIDER_MAX_BODY",
    "POSTRIDER_HUB_RETRY_BASE",
    "POSTRIDER_HUB_RETRY_CAP",
    "POSTRIDER_HUB_DESCENDANTS",
    "POSTRIDER_JOB_TIMEOUT",
    "POSTRIDER_CREDENTIAL_TIMEOUT",
    "POSTRIDER_BROADCAST_RETENTION",
    "POSTRIDER_JOB_RETENTION",
    "POSTRIDER_LOG",
    "POSTRIDER_LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SDK_DISABLED",
];

/// The name of the schema, which statements and channels may carry as it is.
fn schema(name: Option<String>) -> anyhow::Result<String> {
    let schema = name.unwrap_or_else(|| "postrider".to_owned());
    let plain = schema.len() <= 63
        && schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    anyhow::ensure!(
        plain && !schema.starts_with("pg_"),
        "POSTRIDER_DATABASE_SCHEMA: `{schema}` must be lower-case letters, digits and _, at most 63"
    );
    Ok(schema)
}

fn max_body(size: Option<String>) -> anyhow::Result<usize> {
    let size = size.unwrap_or_else(|| "1MiB".to_owned());
    let bytes = size
        .parse::<bytesize::ByteSize>()
        .map_err(|_| anyhow::anyhow!("POSTRIDER_MAX_BODY: `{size}` is not a size such as 1MiB"))?;
    let bytes = usize::try_from(bytes.as_u64()).unwrap_or(usize::MAX);
    anyhow::ensure!(
        (1024..=256 << 20).contains(&bytes),
        "POSTRIDER_MAX_BODY must lie between 1KiB and 256MiB"
    );
    Ok(bytes)
}

fn descendants(most: Option<String>) -> anyhow::Result<u32> {
    let most = most.unwrap_or_else(|| "10000".to_owned());
    most.parse().ok().filter(|most| *most > 0).ok_or_else(|| {
        anyhow::anyhow!("POSTRIDER_HUB_DESCENDANTS: `{most}` is not a whole number above zero")
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// Says which setting cannot work, and why.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::from_lookup(environment)
    }

    /// The settings of the program: of its environment, and of a file `.env` in the current directory where the
    /// environment does not name them.
    ///
    /// # Errors
    /// As [`Config::from_env`]; or the file cannot be read.
    pub(crate) fn of_program() -> anyhow::Result<Self> {
        let file = match std::fs::read_to_string(Path::new(FILE)) {
            Ok(text) => dotenv::parse(&text).context(FILE)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => dotenv::Settings::new(),
            Err(error) => return Err(error).context(FILE),
        };
        Self::from_lookup(|name| environment(name).or_else(|| file.get(name).cloned()))
    }

    /// The settings that `lookup` knows; an empty value counts as absent.
    ///
    /// # Errors
    /// Says which setting cannot work, and why.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let get =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let secret = |name: &str| get(name).map(SecretString::from);
        let duration = |name: &str, default: &str| {
            let text = get(name).unwrap_or_else(|| default.to_owned());
            let duration = humantime::parse_duration(&text).map_err(|error| {
                anyhow::anyhow!("{name}: `{text}` is not a duration such as 15s: {error}")
            })?;
            anyhow::ensure!(duration.subsec_nanos() % 1_000_000 == 0, "{name}: finer than a millisecond");
            anyhow::ensure!(!duration.is_zero(), "{name} must be longer than nothing");
            Ok(duration)
        };
        let boolean = |name: &str, default: bool| match get(name).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some("false" | "0" | "no" | "off") => Ok(false),
            Some(other) => Err(anyhow::anyhow!("{name}: `{other}` is neither true nor false")),
        };
        let parse_or = |name: &str, default: &str| -> anyhow::Result<SocketAddr> {
            let text = get(name).unwrap_or_else(|| default.to_owned());
            text.parse()
                .map_err(|_| anyhow::anyhow!("{name}: `{text}` is not an address such as 127.0.0.1:8080"))
        };

        let url = |name: &str| {
            get(name).map(|url| database_url::check(name, &url).map(|()| url.into())).transpose()
        };
        let database_url: Option<SecretString> = url("DATABASE_URL")?;
        let listen_url = url("POSTRIDER_LISTEN_URL")?;
        anyhow::ensure!(
            listen_url.is_none() || database_url.is_some(),
            "POSTRIDER_LISTEN_URL: another way to the database of DATABASE_URL, which is not set"
        );
        let metrics = Metrics::read(get("POSTRIDER_METRICS").as_deref())?;
        let jwt = Jwt {
            secret: secret("POSTRIDER_JWT_SECRET"),
            public_key_file: get("POSTRIDER_JWT_PUBLIC_KEY_FILE").map(PathBuf::from),
            jwks_url: get("POSTRIDER_JWKS_URL"),
            issuer: get("POSTRIDER_JWT_ISSUER"),
            audience: get("POSTRIDER_JWT_AUDIENCE"),
            require_exp: boolean("POSTRIDER_JWT_REQUIRE_EXP", true)?,
        };
        let keys = [jwt.secret.is_some(), jwt.public_key_file.is_some(), jwt.jwks_url.is_some()];
        anyhow::ensure!(
            keys.iter().filter(|set| **set).count() <= 1,
            "set one of POSTRIDER_JWT_SECRET, POSTRIDER_JWT_PUBLIC_KEY_FILE and POSTRIDER_JWKS_URL: \
             the key decides the algorithm"
        );
        let schema = schema(get("POSTRIDER_DATABASE_SCHEMA"))?;
        let lease = duration("POSTRIDER_LEASE", "15s")?;
        anyhow::ensure!(
            lease >= Duration::from_secs(2),
            "POSTRIDER_LEASE: shorter than 2s, the time in which a heartbeat may need to be tried again"
        );
        let max_body = max_body(get("POSTRIDER_MAX_BODY"))?;
        let allow_networks = get("POSTRIDER_ALLOW_NETWORKS")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(|why| anyhow::anyhow!("POSTRIDER_ALLOW_NETWORKS: {why}")))
            .collect::<anyhow::Result<Vec<Network>>>()?;
        let allow_origins = Origins::read(get("POSTRIDER_ALLOW_ORIGINS").as_deref())?;
        let broadcast_retention = duration("POSTRIDER_BROADCAST_RETENTION", "1h")?;
        let job_retention = duration("POSTRIDER_JOB_RETENTION", "30d")?;
        let outlives = job_retention >= broadcast_retention;
        anyhow::ensure!(outlives, "POSTRIDER_JOB_RETENTION: shorter than POSTRIDER_BROADCAST_RETENTION");
        let log_format = LogFormat::read(get("POSTRIDER_LOG_FORMAT").as_deref())?;
        Ok(Self {
            data_dir: get("POSTRIDER_DATA_DIR").unwrap_or_else(|| "./data".to_owned()).into(),
            listen: parse_or("POSTRIDER_LISTEN", "127.0.0.1:8080")?,
            schema,
            jwt,
            secret_key: secret("POSTRIDER_SECRET_KEY"),
            queues_dir: get("POSTRIDER_QUEUES_DIR").map(PathBuf::from),
            examples: boolean("POSTRIDER_EXAMPLES", database_url.is_none())?,
            allow_networks,
            allow_origins,
            query_access_keys: boolean("POSTRIDER_QUERY_ACCESS_KEYS", true)?,
            sdk_file: get("POSTRIDER_SDK_FILE").map(PathBuf::from),
            lease,
            grace: duration("POSTRIDER_GRACE", "20s")?,
            command_timeout: duration("POSTRIDER_COMMAND_TIMEOUT", "30s")?,
            metrics,
            max_body,
            hub_retry: (
                duration("POSTRIDER_HUB_RETRY_BASE", "5s")?,
                duration("POSTRIDER_HUB_RETRY_CAP", "1h")?,
            ),
            hub_descendants: descendants(get("POSTRIDER_HUB_DESCENDANTS"))?,
            job_timeout: duration("POSTRIDER_JOB_TIMEOUT", "300s")?,
            credential_timeout: duration("POSTRIDER_CREDENTIAL_TIMEOUT", "240s")?,
            broadcast_retention,
            job_retention,
            log: get("POSTRIDER_LOG").unwrap_or_else(|| "info".to_owned()),
            log_format,
            traces: Traces::read(get)?,
            listen_url,
            database_url,
        })
    }
}
