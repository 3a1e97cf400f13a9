//! `postrider grant` and `postrider revoke`: which roles of PostgreSQL may call the SQL functions, and for what.

use super::database::{Database, advised};
use crate::config::Config;
use crate::db;
use crate::db::grants::{self, Grant, Standing};
use anyhow::{bail, ensure};
use futures::future::BoxFuture;
use sqlx::postgres::PgConnection;

/// What a role may do.
#[derive(Debug, clap::Args)]
#[group(id = "what", multiple = true)]
struct What {
    /// `enqueue` and `enqueue_many` into this queue; may be given several times. With `*` at its end: all queues
    /// whose names begin so
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<String>,
    /// `publish` into this store; as --queue
    #[arg(long = "store", value_name = "NAME")]
    stores: Vec<String>,
    /// `broadcast` about jobs of this type; as --queue
    #[arg(long = "job-type", value_name = "NAME")]
    job_types: Vec<String>,
    /// Read what the reports read
    #[arg(long)]
    reports: bool,
}

/// What whom is granted.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// The role of PostgreSQL, as `CREATE ROLE` made it
    role: String,
    #[command(flatten)]
    what: What,
}

/// What is taken back from whom.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// The role of PostgreSQL
    role: String,
    #[command(flatten)]
    what: What,
    /// Everything that it was granted
    #[arg(long, conflicts_with = "what")]
    all: bool,
}

impl What {
    fn grants(&self) -> anyhow::Result<Vec<Grant>> {
        let named = [("queue", &self.queues), ("store", &self.stores), ("job type", &self.job_types)];
        let mut grants = Vec::new();
        for (kind, names) in named {
            for name in names {
                ensure!(
                    is_name(name),
                    "`{name}` cannot be the name of a {kind}, nor its beginning with * behind it"
                );
                grants.push(Grant { kind, name: name.clone() });
            }
        }
        if self.reports {
            grants.push(Grant { kind: "reports", name: String::new() });
        }
        ensure!(!grants.is_empty(), "for what? --queue NAME, --store NAME, --job-type NAME or --reports");
        Ok(grants)
    }
}

fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let all = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    !text.is_empty() && name.len() <= 100 && all && !name.starts_with(['.', '_', '-'])
}

/// Grants, and says what the role has.
pub(super) async fn grant(config: Config, args: GrantArgs) -> anyhow::Result<()> {
    let grants = args.what.grants()?;
    let role = args.role.clone();
    change(config, args.role, move |tx| {
        Box::pin(async move {
            match grants::standing(tx, &role).await? {
                Standing::Absent => bail!("there is no role {role}: make it with CREATE ROLE first"),
                Standing::Owner => {
                    bail!("the role {role} owns the schema: it may do everything and needs no grant")
                }
                Standing::Other => {}
            }
            grants::grant(tx, &role, &grants).await.map_err(advised)
        })
    })
    .await
}

/// Revokes, and says what the role still has.
pub(super) async fn revoke(config: Config, args: RevokeArgs) -> anyhow::Result<()> {
    let grants = if args.all { None } else { Some(args.what.grants()?) };
    let role = args.role.clone();
    change(config, args.role, move |tx| {
        Box::pin(async move {
            let had = grants::revoke(tx, &role, grants.as_deref()).await.map_err(advised)?;
            ensure!(had > 0, "{role} has no such grant{}", told(&grants::of(tx, &role).await?));
            Ok(())
        })
    })
    .await
}

async fn change<F>(config: Config, role: String, work: F) -> anyhow::Result<()>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<()>> + Send + 'static,
{
    let database = Database::join(&config).await?;
    let db = database.checked_pools(&config).await?;
    let asked = role.clone();
    let has = db::transaction::<_, anyhow::Error, _>(&db.api, move |tx| {
        Box::pin(async move {
            work(&mut *tx).await?;
            Ok(grants::of(tx, &asked).await?)
        })
    })
    .await?;
    println!(
        "{role} {}",
        if has.is_empty() { "has no grant".to_owned() } else { format!("may{}", told(&has)) }
    );
    db.close().await;
    database.close().await;
    Ok(())
}

/// Grants in words, each in a line.
fn told(grants: &[(String, String)]) -> String {
    let each = grants.iter().map(|(kind, name)| match kind.as_str() {
        "queue" => format!("\n  enqueue into {name}"),
        "store" => format!("\n  publish into {name}"),
        "job type" => format!("\n  broadcast about {name}"),
        _ => "\n  read the reports".to_owned(),
    });
    each.collect()
}
