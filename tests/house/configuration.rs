//! Settings: the example file and the program name the same ones, and what cannot work is refused by name.

use postrider::config::{Config, SETTINGS};
use std::collections::{BTreeSet, HashMap};

fn load(settings: &[(&str, &str)]) -> Result<Config, String> {
    let settings: HashMap<&str, &str> = settings.iter().copied().collect();
    Config::from_lookup(|name| settings.get(name).map(|value| (*value).to_owned()))
        .map_err(|error| error.to_string())
}

#[test]
fn the_example_file_names_every_setting_once_with_its_default() {
    let example = std::fs::read_to_string(".env.example").unwrap();
    let lines: Vec<(&str, &str)> = example
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    let named: BTreeSet<&str> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(named.len(), lines.len(), "a setting is named twice");
    assert_eq!(named, SETTINGS.iter().copied().collect());

    // Read as it stands, the example changes nothing.
    let uncommented: Vec<(&str, &str)> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(format!("{:?}", load(&uncommented)), format!("{:?}", load(&[])));
}

#[test]
fn every_setting_is_read_and_no_other() {
    let asked = std::sync::Mutex::new(BTreeSet::new());
    Config::from_lookup(|name| {
        asked.lock().unwrap().insert(name.to_owned());
        None
    })
    .unwrap();
    let asked = asked.into_inner().unwrap();
    assert_eq!(asked.iter().map(String::as_str).collect::<BTreeSet<_>>(), SETTINGS.iter().copied().collect());
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    for (name, value) in [
        ("POSTRIDER_LISTEN", "here"),
        ("POSTRIDER_DATABASE_SCHEMA", "Robert'); DROP TABLE"),
        ("POSTRIDER_DATABASE_SCHEMA", "pg_mine"),
        ("POSTRIDER_JWT_REQUIRE_EXP", "maybe"),
        ("POSTRIDER_EXAMPLES", "2"),
        ("POSTRIDER_ALLOW_NETWORKS", "10.0.0.0"),
        ("POSTRIDER_ALLOW_NETWORKS", "10.0.0.0/33"),
        ("POSTRIDER_ALLOW_ORIGINS", "shop.example"),
        ("POSTRIDER_ALLOW_ORIGINS", "https://shop.example/"),
        ("POSTRIDER_ALLOW_ORIGINS", "https://Shop.example"),
        ("POSTRIDER_ALLOW_ORIGINS", "https://shop.example:443"),
        ("POSTRIDER_ALLOW_ORIGINS", "https://shop.example, *"),
        ("POSTRIDER_ALLOW_ORIGINS", "null"),
        ("POSTRIDER_QUERY_ACCESS_KEYS", "sometimes"),
        ("POSTRIDER_LISTEN_URL", "postgres://db/x"),
        ("POSTRIDER_METRICS", "closed"),
        ("POSTRIDER_LEASE", "1s"),
        ("POSTRIDER_LEASE", "soon"),
        ("POSTRIDER_MAX_BODY", "1"),
        ("POSTRIDER_MAX_BODY", "1TiB"),
        ("POSTRIDER_JOB_TIMEOUT", "0s"),
        ("POSTRIDER_LOG_FORMAT", "xml"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector/v1/traces"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=a%0Ab"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=production"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_SDK_DISABLED", "maybe"),
    ] {
        let refusal = load(&[(name, value)]).map(drop).unwrap_err();
        assert!(refusal.contains(name), "{name}={value}: {refusal}");
    }
    let two_keys = [("POSTRIDER_JWT_SECRET", "x"), ("POSTRIDER_JWKS_URL", "https://issuer.example")];
    assert!(load(&two_keys).is_err());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let config = load(&[
        ("DATABASE_URL", "postgres://me:hunter2@db/x"),
        ("POSTRIDER_JWT_SECRET", "hunter2-hunter2-hunter2-hunter2-"),
        ("POSTRIDER_SECRET_KEY", "hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
    ]);
    assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
}
