//! Settings that the program accepts one by one, and that do not work together.

use super::finding::{Finding, fail, ok, warn};
use crate::auth::Verifier;
use crate::cli::database::existing_secret;
use crate::config::Config;
use crate::error::explain;
use crate::jobs::sdk::Sdk;
use std::sync::Arc;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    [key(config), listen(config)].into_iter().chain(sdk(config)).collect()
}

/// Whether there is a key to verify tokens with, and whether it can be read.
fn key(config: &Config) -> Finding {
    let secret = match existing_secret(config) {
        Ok(secret) => secret,
        Err(error) => return fail(explain(error.as_ref()), "without a key `serve` does not start"),
    };
    // It fetches nothing before the first token.
    let fetch = Arc::new(|_| Box::pin(async { anyhow::bail!("not now") }) as _);
    match Verifier::from_config(&config.jwt, secret.as_ref(), fetch) {
        Err(error) => fail(
            format!("no token can be verified: {}", explain(error.as_ref())),
            "correct the setting it names",
        ),
        Ok(_) if secret.is_some() => {
            ok("tokens are verified by the development secret in the data directory")
        }
        Ok(_) if !config.jwt.require_exp => warn(
            "tokens without an end are accepted",
            "set POSTRIDER_JWT_REQUIRE_EXP=true unless your issuer cannot",
        ),
        Ok(_) => ok("tokens are verified by the configured key"),
    }
}

/// Whether those who log in with the vendor's client can, if anybody is to.
fn sdk(config: &Config) -> Option<Finding> {
    Some(match Sdk::load(config.sdk_file.as_ref()?) {
        Ok(_) => ok("POSTRIDER_SDK_FILE says who logs in with the vendor's client"),
        Err(error) => fail(explain(error.as_ref()), "correct the file: with it `serve` does not start"),
    })
}

fn listen(config: &Config) -> Finding {
    let address = config.listen;
    if address.ip().is_loopback() {
        return ok(format!("the API listens on {address}, for this machine alone"));
    }
    warn(
        format!("the API listens on {address}, without TLS"),
        "put a proxy that speaks TLS in front of it: tokens are sent in the clear",
    )
}
