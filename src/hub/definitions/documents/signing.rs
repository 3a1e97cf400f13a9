//! The signatures and headers of an endpoint's definition: `sign: [{kind, header, …, secrets}]`,
//! `headers: {name: text | {"secret": text}}`.

use crate::http::reader::Reader;
use crate::hub::definitions::documents::REDACTED;
use crate::hub::definitions::documents::secret::PutSecret;
use crate::hub::definitions::documents::shown::last_members;
use crate::hub::definitions::header::{self, Header, Text};
use crate::hub::definitions::signing::{
    Claim, Encoding, Hash, Hmac, Jwt, LENGTH, MOST, MOST_SECRETS, Scheme, Sign,
};
use crate::hub::definitions::template::Template;
use axum::http::HeaderName;
use jsonwebtoken::Algorithm;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// The most claims of a token.
const MOST_CLAIMS: usize = 20;
const HASHES: [(&str, Hash); 4] =
    [("sha256", Hash::Sha256), ("sha1", Hash::Sha1), ("sha384", Hash::Sha384), ("sha512", Hash::Sha512)];
const ENCODINGS: [(&str, Encoding); 3] =
    [("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];
const SECRET_ENCODINGS: [(&str, Encoding); 4] = [
    ("text", Encoding::Text),
    ("hex", Encoding::Hex),
    ("base64", Encoding::Base64),
    ("base64url", Encoding::Base64Url),
];
/// What only one kind has.
const OF_HMAC: [&str; 6] = ["hash", "over", "encoding", "secret_encoding", "start", "separator"];
const OF_JWT: [&str; 4] = ["alg", "kid", "claims", "lifetime"];
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// What of the signatures and headers of an endpoint is sealed, as it was put.
#[derive(Debug, Default)]
pub struct PutWire {
    /// The secrets of each signature, in the order of the definition.
    pub sign: Vec<Vec<PutSecret>>,
    /// The headers that are secrets, each with where it stands.
    pub headers: Vec<(HeaderName, String, PutSecret)>,
}

impl PutWire {
    /// Whether there is nothing to be sealed.
    pub fn is_empty(&self) -> bool {
        self.sign.is_empty() && self.headers.is_empty()
    }
}

/// The signatures, each with its secrets.
pub(super) fn take_sign(reader: &mut Reader<'_>) -> (Vec<Sign>, Vec<Vec<PutSecret>>) {
    let (mut signs, mut secrets): (Vec<Sign>, Vec<Vec<PutSecret>>) = (Vec::new(), Vec::new());
    reader.objects("sign", MOST, |reader| {
        let Some((sign, put)) = take_one(reader) else { return };
        if signs.iter().any(|other| other.header == sign.header) {
            reader.note("/header", "uniqueItems", "is the header of another signature already");
            return;
        }
        signs.push(sign);
        secrets.push(put);
    });
    (signs, secrets)
}

fn take_one(reader: &mut Reader<'_>) -> Option<(Sign, Vec<PutSecret>)> {
    let kind =
        reader.required("kind", |reader, name| one_of(reader, name, &[("hmac", true), ("jwt", false)]));
    let header = reader.required("header", |reader, name| {
        let text = reader.text(name)?;
        header::name(text).map_err(|why| reader.note("/header", "header", why)).ok()
    });
    let prefix = take_within(reader, "prefix");
    let scheme = match kind {
        Some(true) => {
            refuse(reader, &OF_JWT, "is for the kind jwt");
            Some(Scheme::Hmac(take_hmac(reader)))
        }
        Some(false) => {
            refuse(reader, &OF_HMAC, "is for the kind hmac");
            take_jwt(reader).map(Scheme::Jwt)
        }
        None => {
            // What belongs to either kind is no further mistake.
            take_hmac(reader);
            for name in OF_JWT {
                reader.take(name);
            }
            None
        }
    };
    let secrets = reader.required("secrets", |reader, name| {
        let wanted = format!("must be a text of {} to {} bytes", LENGTH.start(), LENGTH.end());
        let secrets = reader.texts(name, MOST_SECRETS, &wanted, take_secret);
        if reader.is_empty_list(name) {
            reader.note("/secrets", "minItems", "must have a secret");
        }
        Some(secrets)
    })?;
    let several = match &scheme {
        Some(Scheme::Jwt(_)) => Some("must be one: a token has one signature"),
        Some(Scheme::Hmac(hmac)) if hmac.separator.is_empty() => {
            Some("may be several only if separator says what stands between their signatures")
        }
        _ => None,
    };
    if let Some(words) = several.filter(|_| secrets.len() > 1) {
        reader.note("/secrets", "separator", words);
    }
    Some((Sign { header: header?, prefix, scheme: scheme? }, secrets))
}

/// Refuses what belongs to the other kind.
fn refuse(reader: &mut Reader<'_>, names: &[&'static str], words: &str) {
    for name in names {
        if reader.take(name).is_some() {
            reader.note(&format!("/{name}"), "kind", words);
        }
    }
}

fn take_hmac(reader: &mut Reader<'_>) -> Hmac {
    let over = reader.text("over").map(|text| {
        Template::over(text).unwrap_or_else(|wrong| {
            reader.note("/over", wrong.keyword, wrong.words);
            Template::default()
        })
    });
    let separator = take_within(reader, "separator");
    let separator = separator.fixed().unwrap_or_else(|| {
        reader.note("/separator", "template", "must be a text without places");
        String::new()
    });
    Hmac {
        hash: one_of(reader, "hash", &HASHES).unwrap_or(Hash::Sha256),
        over: over.unwrap_or_else(Template::body),
        encoding: one_of(reader, "encoding", &ENCODINGS).unwrap_or(Encoding::Hex),
        secret_encoding: one_of(reader, "secret_encoding", &SECRET_ENCODINGS).unwrap_or(Encoding::Text),
        start: take_within(reader, "start"),
        separator,
    }
}

fn take_jwt(reader: &mut Reader<'_>) -> Option<Jwt> {
    let alg = reader.required("alg", |reader, name| one_of(reader, name, &ALGORITHMS));
    let kid = reader.word("kid");
    let lifetime = reader.duration("lifetime", SECOND..=DAY);
    let mut claims = Vec::new();
    match reader.take("claims") {
        None => {}
        Some(Value::Object(members)) if members.len() <= MOST_CLAIMS => {
            for (name, value) in members {
                claims.extend(take_claim(reader, name, value).map(|claim| (name.clone(), claim)));
            }
        }
        Some(_) => {
            reader.note("/claims", "type", format!("must be an object of at most {MOST_CLAIMS} claims"));
        }
    }
    Some(Jwt { alg: alg?, kid, claims, lifetime })
}

fn take_claim(reader: &mut Reader<'_>, name: &str, value: &Value) -> Option<Claim> {
    let pointer = format!("/claims/{}", escaped(name));
    if ["iat", "exp"].contains(&name) {
        reader.note(&pointer, "claim", "is set by itself: iat always, exp by lifetime");
        return None;
    }
    match value {
        Value::Number(_) | Value::Bool(_) => Some(Claim::Literal(value.to_string().into())),
        Value::String(text) => {
            let template =
                Template::over(text).map_err(|wrong| reader.note(&pointer, wrong.keyword, wrong.words));
            template.ok().map(Claim::Text)
        }
        _ => {
            reader.note(&pointer, "type", "must be a text, a number, true or false");
            None
        }
    }
}

/// Gives the claims the numbers of the definition that they were read from: a value has those alone that a double holds.
pub(super) fn keep_numbers(signs: &mut [Sign], document: &RawValue) {
    let member = |object: &RawValue, name: &str| -> Option<Box<RawValue>> {
        let members = last_members(object)?;
        members.into_iter().find(|(own, ..)| own == name).map(|(.., value)| value.to_owned())
    };
    let Some(list) = member(document, "sign") else { return };
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
    for (sign, item) in signs.iter_mut().zip(items) {
        let Scheme::Jwt(jwt) = &mut sign.scheme else { continue };
        let Some(put) = member(item, "claims") else { continue };
        for (name, _, value) in last_members(&put).unwrap_or_default() {
            for (_, claim) in jwt.claims.iter_mut().filter(|(own, _)| *own == name) {
                if let Claim::Literal(literal) = claim {
                    *literal = value.get().into();
                }
            }
        }
    }
}

/// The headers, and those of them that are secrets.
pub(super) fn take_headers(reader: &mut Reader<'_>) -> (Vec<Header>, Vec<(HeaderName, String, PutSecret)>) {
    let mut secrets = Vec::new();
    let headers = each_header(reader, |reader, name, pointer, value| {
        if let Value::String(text) = value {
            if text == REDACTED {
                let words = "is the stand-in of a secret, which {\"secret\": \"[redacted]\"} keeps";
                reader.note(pointer, "secret", words);
                return None;
            }
            let template = take_template(reader, pointer, text)?;
            return Some(Header { name, text: Text::Template(template) });
        }
        let secret = value.as_object().filter(|members| members.len() == 1);
        let Some(text) = secret.and_then(|members| members.get("secret")).and_then(Value::as_str) else {
            reader.note(pointer, "type", "must be a text, or {\"secret\": \"…\"} with a text");
            return None;
        };
        if text != REDACTED && !LENGTH.contains(&text.len()) {
            let words = format!("must be a text of {} to {} bytes", LENGTH.start(), LENGTH.end());
            reader.note(&format!("{pointer}/secret"), "pattern", words);
            return None;
        }
        if !text.is_ascii() || text.trim() != text || header::secret(text).is_none() {
            let words = "must be visible ASCII characters and spaces, none of these at the ends";
            reader.note(&format!("{pointer}/secret"), "pattern", words);
            return None;
        }
        secrets.extend(take_secret(text).map(|secret| (name.clone(), format!("{pointer}/secret"), secret)));
        Some(Header { name, text: Text::Secret })
    });
    (headers, secrets)
}

/// The headers of a mapping: none is a secret.
pub(super) fn take_plain_headers(reader: &mut Reader<'_>) -> Vec<(HeaderName, Template)> {
    each_header(reader, |reader, name, pointer, value| {
        let Some(text) = value.as_str() else {
            reader.note(pointer, "type", "must be a text; secrets are among the headers of an endpoint");
            return None;
        };
        if text == REDACTED {
            let words = "is the stand-in of a secret; secrets are among the headers of an endpoint";
            reader.note(pointer, "secret", words);
            return None;
        }
        take_template(reader, pointer, text).map(|template| (name, template))
    })
}

fn each_header<T>(
    reader: &mut Reader<'_>,
    mut take: impl FnMut(&mut Reader<'_>, HeaderName, &str, &Value) -> Option<T>,
) -> Vec<T> {
    let members = match reader.take("headers") {
        None => return Vec::new(),
        Some(Value::Object(members)) if members.len() <= header::MOST => members,
        Some(_) => {
            let words = format!("must be an object of at most {} headers", header::MOST);
            reader.note("/headers", "type", words);
            return Vec::new();
        }
    };
    let mut taken: Vec<HeaderName> = Vec::new();
    let mut headers = Vec::new();
    for (name, value) in members {
        let pointer = format!("/headers/{}", escaped(name));
        match header::name(name) {
            Err(why) => reader.note(&pointer, "header", why),
            Ok(name) if taken.contains(&name) => {
                reader.note(&pointer, "uniqueItems", "is named twice, in other letters");
            }
            Ok(name) => {
                taken.push(name.clone());
                headers.extend(take(reader, name, &pointer, value));
            }
        }
    }
    headers
}

fn take_template(reader: &mut Reader<'_>, pointer: &str, text: &str) -> Option<Template> {
    Template::header(text, false).map_err(|wrong| reader.note(pointer, wrong.keyword, wrong.words)).ok()
}

/// A text in a header that something stands around; nothing if it is absent.
fn take_within(reader: &mut Reader<'_>, name: &'static str) -> Template {
    let Some(text) = reader.text(name) else { return Template::default() };
    Template::header(text, true).unwrap_or_else(|wrong| {
        reader.note(&format!("/{name}"), wrong.keyword, wrong.words);
        Template::default()
    })
}

fn take_secret(text: &str) -> Option<PutSecret> {
    match text {
        REDACTED => Some(PutSecret::Stored),
        text => LENGTH.contains(&text.len()).then(|| PutSecret::New(SecretString::from(text))),
    }
}

/// One of these words.
pub(super) fn one_of<T: Copy>(reader: &mut Reader<'_>, name: &'static str, words: &[(&str, T)]) -> Option<T> {
    let value = reader.take(name)?;
    let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    if found.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        reader.note(&format!("/{name}"), "enum", format!("must be one of {}", words.join(", ")));
    }
    found.map(|(_, meant)| *meant)
}

/// A name in a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
