//! `postrider token`: signs a token with the secret that the server verifies with.

use super::database::existing_secret;
use crate::auth;
use crate::config::Config;
use std::time::Duration;

/// Whose token.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A role of the token; may be given several times, or several with commas
    #[arg(long = "role", value_delimiter = ',', required = true)]
    roles: Vec<String>,
    /// Its subject
    #[arg(long, default_value = "developer")]
    sub: String,
    /// How long it is good
    #[arg(long, default_value = "12h", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let secret = match &config.jwt.secret {
        Some(secret) => Some(secret.clone()),
        None => existing_secret(config)?,
    };
    let secret = secret.ok_or_else(|| {
        anyhow::anyhow!("tokens are signed by your issuer: only POSTRIDER_JWT_SECRET can sign here")
    })?;
    println!("{}", auth::sign(&secret, &config.jwt, &args.sub, &args.roles, args.ttl)?);
    Ok(())
}
