//! Asks a storefront for a page of what changed.

use super::definition::{Collection, Definition};
use super::page::{self, Page};
use super::paging::{Paging, Place, next_link};
use super::pollers::Poller;
use crate::db::Ids;
use crate::http::outbound::{Outbound, Request};
use crate::http::retry_after::retry_after;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use std::time::Duration;
use url::Url;

/// The largest page, in bytes.
const MAX_PAGE: usize = 1 << 20;

/// Why a collection was not read.
#[derive(Debug)]
pub(super) struct Failure {
    /// In coarse words: they hold nothing of the answer.
    pub(super) why: String,
    /// How long the storefront wants to be left alone at least.
    pub(super) after: Duration,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, after: Duration::ZERO }
    }
}

/// Reads a page of what changed in a collection since this place.
pub(super) async fn page(
    outbound: &Outbound,
    ids: &Ids,
    poller: &Poller,
    collection: &Collection,
    since: Option<&str>,
    place: &Place,
) -> Result<Page, Failure> {
    let definition = &poller.definition;
    let request = Request {
        method: Method::GET,
        url: definition.paging.address(list(definition, collection, since), definition.page_size, place)?,
        headers: headers(poller),
        body: Bytes::new(),
        timeout: poller.definition.timeout,
        max_response: MAX_PAGE,
    };
    let answer = outbound.send(&request).await.map_err(|failure| failure.to_string())?;
    if answer.status != 200 {
        let why = answer.redirect().map_or_else(
            || format!("the storefront answered {}", answer.status.as_u16()),
            |redirect| redirect.to_string(),
        );
        let after = retry_after(&answer.headers, ids.now().unwrap_or_default()).unwrap_or_default();
        return Err(Failure { why, after });
    }
    let mut page = page::read(&answer.body, collection, definition.paging.next_member())?;
    match &definition.paging {
        Paging::Link { next: None, .. } => {
            page.next =
                answer.headers.get_all(header::LINK).iter().find_map(|link| next_link(link.to_str().ok()?));
        }
        // A member of another name would have every run end after its first page, and nobody notice.
        Paging::Cursor { next, .. }
            if !page.has_next_member && page.length >= definition.page_size.into() =>
        {
            return Err(
                format!("its page is full and has no member {next} that names the next (`paging`)").into()
            );
        }
        _ => {}
    }
    Ok(page)
}

fn headers(poller: &Poller) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = &poller.token
        && let Ok(mut token) = HeaderValue::from_str(token.expose_secret())
    {
        token.set_sensitive(true);
        headers.insert(poller.definition.token_header.clone(), token);
    }
    headers
}

/// `{api}/{path}?since=…`, whatever slashes and query the API's URL has.
fn list(definition: &Definition, collection: &Collection, since: Option<&str>) -> Url {
    let mut url = definition.api.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(collection.path.trim_matches('/').split('/'));
    }
    if let Some(since) = since {
        url.query_pairs_mut().append_pair("since", since);
    }
    url
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::hub::polling::document::PutPoller;
    use serde_json::json;

    #[test]
    fn the_address_of_a_page_keeps_the_path_and_the_query_of_the_api() {
        for (api, expected) in [
            ("https://shop.example", "https://shop.example/v1/orders?"),
            ("https://shop.example/api/", "https://shop.example/api/v1/orders?"),
            ("https://shop.example/api?shop=1", "https://shop.example/api/v1/orders?shop=1&"),
        ] {
            let collections = json!([{ "name": "orders", "path": "/v1/orders", "key": "order" }]);
            let document = json!({ "api": api, "every": "5m", "page_size": 50, "collections": collections });
            let definition = PutPoller::read(&document).unwrap().definition;
            let list = list(&definition, &definition.collections[0], Some("2026-07-01T12:00:00+02:00"));
            let url = definition.paging.address(list, definition.page_size, &Place::Number(2)).unwrap();
            let query = "since=2026-07-01T12%3A00%3A00%2B02%3A00&page=2&per_page=50";
            assert_eq!(url.as_str(), format!("{expected}{query}"));
        }
    }
}
