//! How what features ask of other servers goes out: through the guarded client.

use crate::auth;
use crate::config::Config;
use crate::http::outbound::{Outbound, Request};
use crate::queues::javascript::services::{Directory, HttpAnswer, HttpCall, Settings};
use anyhow::Context as _;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Fetches the keys of an issuer of tokens.
pub(super) fn fetch(outbound: Outbound) -> auth::Fetch {
    Arc::new(move |url| {
        let outbound = outbound.clone();
        Box::pin(async move {
            let request = Request {
                method: Method::GET,
                url: url.parse()?,
                headers: HeaderMap::new(),
                body: Bytes::new(),
                timeout: Duration::from_secs(5),
                max_response: 1 << 20,
            };
            let answer = outbound.send(&request).await?;
            anyhow::ensure!(answer.status.is_success(), "the issuer answered {}", answer.status);
            Ok(answer.body)
        })
    })
}

/// The services of JavaScript handlers, as `services.json` in the queues directory configures them.
pub(super) fn directory(config: &Config, outbound: Outbound) -> anyhow::Result<Directory> {
    let settings = match &config.queues_dir {
        Some(directory) => Settings::load(directory).context("cannot read services.json")?,
        None => Settings::default(),
    };
    let send = Arc::new(move |call: HttpCall| {
        let outbound = outbound.clone();
        let request = Request {
            method: call.method,
            url: call.url,
            headers: call.headers,
            body: call.body.unwrap_or_default().into(),
            timeout: Duration::from_mins(1),
            max_response: 4 << 20,
        };
        Box::pin(async move {
            let answer = outbound.send(&request).await.map_err(|failure| failure.to_string())?;
            Ok(HttpAnswer { status: answer.status, headers: answer.headers, body: answer.body.to_vec() })
        }) as futures::future::BoxFuture<'static, Result<HttpAnswer, String>>
    });
    Ok(Directory::new(settings, send))
}
