//! Where spans go, by the standard variables of OpenTelemetry.

use anyhow::Context as _;
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderName, HeaderValue};
use std::time::Duration;
use url::Url;

/// Where spans go, and which.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or `/v1/traces` below `OTEL_EXPORTER_OTLP_ENDPOINT`: spans are posted here.
    pub endpoint: Url,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: what is sent along. They are marked sensitive, and do not show in `Debug`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`: how long one request may take.
    pub timeout: Duration,
    /// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`: what the spans say of this process; the service's name first.
    pub resource: Vec<(String, String)>,
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`: which traces are exported.
    pub sampler: Sampler,
}

/// Which traces are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether what began elsewhere goes by what was decided there.
    pub follows_parent: bool,
    /// The share of the others, from 0 to 1.
    pub ratio: f64,
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const SERVICE: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const RATIO: &str = "OTEL_TRACES_SAMPLER_ARG";
const DISABLED: &str = "OTEL_SDK_DISABLED";

impl Traces {
    /// What `get` knows; `None` when no endpoint is named, or all of it is disabled.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        let is_disabled = match get(DISABLED).map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => anyhow::bail!("{DISABLED}: `{other}` is neither true nor false"),
        };
        let endpoint = match (get(TRACES_ENDPOINT), get(ENDPOINT)) {
            (Some(whole), _) => Some(endpoint(TRACES_ENDPOINT, &whole)?),
            (None, Some(base)) => Some(below(endpoint(ENDPOINT, &base)?)),
            (None, None) => None,
        };
        let headers = headers(get(HEADERS).as_deref().unwrap_or_default())?;
        let timeout = get(TIMEOUT).map_or(Ok(10_000), |text| {
            text.parse().ok().filter(|milliseconds| *milliseconds > 0).with_context(|| {
                format!("{TIMEOUT}: `{text}` is not a whole number of milliseconds such as 10000")
            })
        })?;
        let mut resource = pairs(RESOURCE, get(RESOURCE).as_deref().unwrap_or_default())?;
        let named = resource.iter().position(|(name, _)| name == "service.name");
        let named = named.map(|place| resource.remove(place).1);
        let name = get(SERVICE).or(named).unwrap_or_else(|| "postrider".to_owned());
        resource.insert(0, ("service.name".to_owned(), name));
        let sampler = sampler(get(SAMPLER).as_deref(), get(RATIO).as_deref())?;
        let timeout = Duration::from_millis(timeout);
        Ok(endpoint.filter(|_| !is_disabled).map(|endpoint| Self {
            endpoint,
            headers,
            timeout,
            resource,
            sampler,
        }))
    }
}

fn endpoint(name: &str, text: &str) -> anyhow::Result<Url> {
    let url = text.parse::<Url>().ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // The address may hold a password.
    url.with_context(|| format!("{name}: not a URL such as http://127.0.0.1:4318"))
}

/// `/v1/traces` below this address.
fn below(mut base: Url) -> Url {
    base.set_path(&format!("{}/v1/traces", base.path().trim_end_matches('/')));
    base
}

fn headers(text: &str) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let header = |(name, value): (String, String)| {
        let name = name.parse::<HeaderName>().ok();
        let value = HeaderValue::try_from(value).ok();
        let (name, mut value) = name
            .zip(value)
            .with_context(|| format!("{HEADERS}: what stands there cannot be sent as headers"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs(HEADERS, text)?.into_iter().map(header).collect()
}

/// `name=value,name=value`, each value percent-encoded. What is wrong with it is said without showing it.
fn pairs(setting: &str, text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value))
    };
    parts
        .map(|part| pair(part).with_context(|| format!("{setting}: not of the form name=value,name=value")))
        .collect()
}

fn sampler(name: Option<&str>, ratio: Option<&str>) -> anyhow::Result<Sampler> {
    let share = ratio.map_or(Ok(1.0), |text| {
        text.parse()
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
            .with_context(|| format!("{RATIO}: `{text}` is not a number from 0 to 1"))
    })?;
    let name = name.unwrap_or("parentbased_always_on");
    let (follows_parent, root) = name.strip_prefix("parentbased_").map_or((false, name), |root| (true, root));
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => share,
        _ => anyhow::bail!(
            "{SAMPLER}: `{name}` is none of always_on, always_off, traceidratio, and these with parentbased_ before them"
        ),
    };
    Ok(Sampler { follows_parent, ratio })
}
