//! The definition of an endpoint: `{url, wire?, token?, signing_secrets?, sign?, headers?, events?, options?,
//! concurrency?, rate?, timeout?, breaker?, disable?, enabled?}`.

use crate::error::Result;
use crate::flow::circuit::Breaker;
use crate::flow::rate::Rate;
use crate::http::json_text::to_value;
use crate::http::reader::Reader;
use crate::http::signature::is_secret;
use crate::hub::definitions::documents::mapping::{take_events, take_options};
use crate::hub::definitions::documents::secret::PutSecret;
use crate::hub::definitions::documents::signing::{PutWire, keep_numbers, one_of, take_headers, take_sign};
use crate::hub::definitions::documents::{REDACTED, read};
use crate::hub::definitions::endpoint::{Definition, Disable, Wire};
use crate::hub::definitions::fit::fits;
use crate::hub::definitions::mapping::Options;
use axum::http::HeaderValue;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;
use url::Url;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
/// How long a request may take where nobody says otherwise: the guide's figure.
const TIMEOUT: Duration = Duration::from_mins(3);
/// Two during a rotation; more only make each request larger.
const MOST_SECRETS: usize = 4;
/// The longest token and URL, in bytes.
const LONGEST: usize = 2000;
const TOO_LONG: &str = "must be at most 2000 bytes long";

/// A definition as it was put.
#[derive(Debug)]
pub struct PutEndpoint {
    /// Where it is and what it bears.
    pub definition: Definition,
    /// Its token, if it has one.
    pub token: Option<PutSecret>,
    /// Its signing secrets. A stand-in at a place means the one that is stored at that place.
    pub signing_secrets: Vec<PutSecret>,
    /// What of its headers and signatures is sealed. A stand-in means what is stored of the same header.
    pub wire: PutWire,
}

impl PutEndpoint {
    /// Reads a definition as it was put, whose numbers stay what they are. Whether the addresses behind its URL may be asked
    /// is not looked at.
    ///
    /// # Errors
    /// 422 with every violation; they do not repeat what was put.
    pub fn of(document: &RawValue) -> Result<Self> {
        let mut put = Self::read(&to_value(document.get()).unwrap_or_default())?;
        keep_numbers(&mut put.definition.sign, document);
        Ok(put)
    }

    /// Reads a definition of which nobody needs the claims. Whether the addresses behind its URL may be asked is not looked at.
    ///
    /// # Errors
    /// 422 with every violation; they do not repeat what was put.
    pub fn read(document: &Value) -> Result<Self> {
        read(document, take)
    }
}

impl PutEndpoint {
    /// Whether there is anything to be sealed.
    pub fn has_secrets(&self) -> bool {
        self.token.is_some() || !self.signing_secrets.is_empty() || !self.wire.is_empty()
    }
}

fn take(reader: &mut Reader<'_>) -> Option<PutEndpoint> {
    let url = take_url(reader, "url");
    let wire =
        one_of(reader, "wire", &[("messages", Wire::Messages), ("raw", Wire::Raw)]).unwrap_or_default();
    let token = take_token(reader);
    if wire == Wire::Raw && token.is_some() {
        let words = "is sent as X-Hub-Token, which the wire raw does not have: put it among the headers, as \
                     {\"Authorization\": {\"secret\": \"…\"}}";
        reader.note("/token", "wire", words);
    }
    let wanted = "must be whsec_ and 24 to 64 bytes in base64";
    let signing_secrets = reader.texts("signing_secrets", MOST_SECRETS, wanted, |text| match text {
        REDACTED => Some(PutSecret::Stored),
        text => is_secret(text).then(|| PutSecret::New(SecretString::from(text))),
    });
    let concurrency = reader.integer("concurrency", 1..=1000_u16).map_or(8, usize::from);
    let mut rate = None;
    reader.object("rate", |reader| rate = take_rate(reader));
    let timeout = reader.duration("timeout", MILLISECOND..=HOUR).unwrap_or(TIMEOUT);
    let mut breaker = Breaker { failures: 5, cooldown: Duration::from_secs(30) };
    reader.object("breaker", |reader| {
        breaker.failures = reader.integer("failures", 1..=1_000_000).unwrap_or(breaker.failures);
        breaker.cooldown = reader.duration("cooldown", MILLISECOND..=24 * HOUR).unwrap_or(breaker.cooldown);
    });
    let mut disable = None;
    reader.object("disable", |reader| disable = Some(take_disable(reader)));
    let (sign, sign_secrets) = take_sign(reader);
    let (headers, secret_headers) = take_headers(reader);
    for twice in sign.iter().filter(|sign| headers.iter().any(|header| header.name == sign.header)) {
        let words = format!("names {}, which carries a signature", twice.header);
        reader.note("/headers", "uniqueItems", words);
    }
    let events = take_events(reader, "events");
    let mut options = Options::default();
    if reader.has("options") && events.is_empty() && reader.is_empty_list("events") {
        let words =
            "are those of the mapping that events makes: without events put them into a mapping's options";
        reader.note("/options", "dependentRequired", words);
    }
    reader.object("options", |reader| options = take_options(reader));
    let enabled = reader.boolean("enabled").unwrap_or(true);
    let definition = Definition {
        url: url?,
        wire,
        concurrency,
        rate,
        timeout,
        breaker,
        disable,
        events,
        headers,
        sign,
        enabled,
    };
    for misfit in fits(&options, &[], &definition) {
        reader.note(&misfit.pointer, misfit.keyword, misfit.words);
    }
    let wire = PutWire { sign: sign_secrets, headers: secret_headers };
    Some(PutEndpoint { definition, token, signing_secrets, wire })
}

fn take_disable(reader: &mut Reader<'_>) -> Disable {
    if !reader.has("failures") && !reader.has("after") {
        reader.note("", "minProperties", "must say after how many failures, or after how long");
    }
    let failures = reader.integer("failures", 1..=1_000_000).unwrap_or(1);
    let after = reader.duration("after", MILLISECOND..=366 * 24 * HOUR).unwrap_or_default();
    Disable { failures, after }
}

/// The URL of a server of somebody else.
pub(in crate::hub) fn take_url(reader: &mut Reader<'_>, name: &'static str) -> Option<Url> {
    let text = reader.required(name, Reader::text)?;
    if text.len() > LONGEST {
        reader.note(&format!("/{name}"), "maxLength", TOO_LONG);
        return None;
    }
    base(text).map_err(|why| reader.note(&format!("/{name}"), "url", why)).ok()
}

/// What is shown to that server.
pub(in crate::hub) fn take_token(reader: &mut Reader<'_>) -> Option<PutSecret> {
    let text = reader.text("token")?;
    if text == REDACTED {
        return Some(PutSecret::Stored);
    }
    if text.len() > LONGEST {
        reader.note("/token", "maxLength", TOO_LONG);
        return None;
    }
    if text.trim() != text || HeaderValue::from_str(text).is_err() || !text.is_ascii() {
        let words = "must be visible ASCII characters that a header can carry, with no space at its ends";
        reader.note("/token", "token", words);
        return None;
    }
    Some(PutSecret::New(SecretString::from(text)))
}

fn take_rate(reader: &mut Reader<'_>) -> Option<Rate> {
    let per_second = reader.required("per_second", |reader, name| {
        let number = reader.take(name)?.as_f64().filter(|number| (0.001..=10_000.0).contains(number));
        if number.is_none() {
            reader.note("/per_second", "range", "must be a number from 0.001 to 10000");
        }
        number
    });
    let burst = reader.integer("burst", 1..=10_000);
    let per_second = per_second?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 10000, at least 1")]
    let second = per_second.ceil().max(1.0) as u32;
    Some(Rate { per_second, burst: burst.unwrap_or(second) })
}

/// A URL below which services are.
fn base(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok();
    let url = url.ok_or("must be a URL such as https://example.com/hub")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or a password");
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment");
    }
    Ok(url)
}
