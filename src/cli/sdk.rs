//! `postrider sdk`: prints the parts of `POSTRIDER_SDK_FILE`, an integrator with a new key and a user from its password.

use crate::jobs::sdk::file::ROLES;
use crate::jobs::sdk::keys::{Key, of_password};
use anyhow::ensure;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use std::io::Read as _;

/// Which part.
#[derive(Debug, Subcommand)]
pub(super) enum Sdk {
    /// Print an integrator with a new key, as a member of `integrators`
    Integrator {
        /// Its name, as the client is given it
        name: String,
    },
    /// Print a user, as a member of `users`; its password comes on standard input, and only a key made of it is printed
    User {
        /// Its name, which owns its jobs
        name: String,
        /// The number by which the client knows it
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// Its role
        #[arg(long, value_parser = PossibleValuesParser::new(ROLES))]
        role: String,
    },
}

pub(super) fn run(part: &Sdk) -> anyhow::Result<()> {
    let printed = match part {
        Sdk::Integrator { name } => json!({ name: [Key::random()?.to_base64()] }),
        Sdk::User { name, id, role } => {
            let password_key = of_password(name, &password()?).to_base64();
            json!({ name: { "id": id, "role": role, "password_key": password_key } })
        }
    };
    println!("{printed}");
    Ok(())
}

/// The password on standard input, without the line break at its end.
fn password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    ensure!(!password.is_empty(), "there is no password on standard input");
    Ok(password.to_owned())
}
