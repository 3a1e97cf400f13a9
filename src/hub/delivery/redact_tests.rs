//! Secrets in every spelling in which endpoints echo them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use serde_json::json;
use std::fmt::Write as _;

const SECRET: &str = "s3cr\"et/ k+y&é\u{1f511}\n1";

fn hiding(secret: &str) -> Redactor {
    let mut redactor = Redactor::default();
    redactor.hide_value(&raw(&json!(secret)), true);
    redactor
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// As a serializer writes it that keeps to ASCII.
fn ascii(secret: &str) -> String {
    let units = secret.encode_utf16().map(|unit| match u8::try_from(unit) {
        Ok(b'"') => "\\\"".to_owned(),
        Ok(b'\\') => "\\\\".to_owned(),
        Ok(b'/') => "\\/".to_owned(),
        Ok(plain @ 0x20..0x7f) => char::from(plain).to_string(),
        _ => format!("\\u{unit:04X}"),
    });
    units.collect()
}

fn html(secret: &str) -> String {
    secret.replace('&', "&amp;").replace('"', "&quot;").replace('/', "&#x2F;")
}

/// A percent-encoded text with the small digits that some write.
fn lower_case(percent: &str) -> String {
    let (mut text, mut digits) = (String::new(), 0);
    for c in percent.chars() {
        text.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { digits.max(1) - 1 };
    }
    text
}

fn hex(secret: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn spellings(secret: &str) -> Vec<String> {
    let escaped = json!(secret).to_string();
    let escaped = escaped[1..escaped.len() - 1].to_owned();
    let twice = json!(escaped).to_string();
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    vec![
        secret.to_owned(),
        escaped.clone(),
        twice[1..twice.len() - 1].to_owned(),
        ascii(secret),
        percent.clone(),
        lower_case(&percent),
        percent.replace("%20", "+"),
        utf8_percent_encode(&escaped, NON_ALPHANUMERIC).to_string(),
        html(secret),
        html(&escaped),
        STANDARD.encode(secret),
        URL_SAFE.encode(secret),
        hex(secret),
        hex(secret).to_uppercase(),
    ]
}

#[test]
fn every_spelling_is_blotted_out() {
    let redactor = hiding(SECRET);
    for spelling in spellings(SECRET) {
        let shown = redactor.text(&format!("<a>{spelling}</a>")).into_owned();
        assert!(shown.starts_with("<a>[redacted]"), "{spelling}: {shown}");
        assert!(shown.len() < "<a>[redacted]</a>".len() + 4, "{spelling}: {shown}");
    }
}

#[test]
fn a_secret_is_found_inside_of_base64_wherever_it_begins() {
    let redactor = hiding("hunter2!");
    for before in ["", "a", "ab", "abc", "login:"] {
        let encoded = STANDARD.encode(format!("{before}hunter2!"));
        let shown = redactor.text(&encoded).into_owned();
        assert!(shown.contains(REDACTED), "{encoded}");
        let left = shown.replace(REDACTED, "");
        assert!(left.len() <= before.len() * 4 / 3 + 5, "{encoded}: {shown}");
    }
}

#[test]
fn a_secret_is_found_in_large_letters_and_a_key_in_the_other_spelling_of_its_bytes() {
    let key: Vec<u8> = (0..24_u8).map(|n| n.wrapping_mul(83)).collect();
    let digits: String = key.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    });
    let (standard, for_urls) = (STANDARD.encode(&key), URL_SAFE.encode(&key));
    for (secret, quoted) in [
        ("key-of-acme-1", "KEY-OF-ACME-1"),
        ("Key-Of-Acme-1", "key-of-acme-1"),
        (&*digits, &*digits.to_uppercase()),
        (&*digits, &*standard),
        (&*digits.to_uppercase(), &*for_urls),
        (&*standard, &*digits),
        (&*for_urls, &*digits.to_uppercase()),
        (&*format!("whsec_{standard}"), &*digits.to_uppercase()),
        (&*format!("whsec_{digits}"), &*standard),
        (&*format!("Bearer {digits}"), &*standard),
    ] {
        let shown = hiding(secret).text(&format!("<{quoted}>")).into_owned();
        assert!(shown.starts_with("<[redacted]"), "{secret} {quoted}: {shown}");
        assert!(shown.len() <= "<[redacted]>".len() + 3, "{secret} {quoted}: {shown}");
    }
}

#[test]
fn what_is_shorter_than_six_characters_stands_in_any_text_and_is_left_there() {
    let mut redactor = Redactor::default();
    for value in [json!("ab"), json!("abcde"), json!(true), json!(12345), json!(null), json!(["ab", false])] {
        redactor.hide_value(&raw(&value), false);
        redactor.hide_value(&raw(&value), true);
    }
    let text = "ab abcde true 12345 null YWJjZGU 6162636465";
    assert_eq!(redactor.text(text), text);
    redactor.hide_value(&raw(&json!("q7q7q7")), true);
    redactor.hide_value(&raw(&json!(123_456)), false);
    redactor.hide_value(&raw(&json!([{ "amazon": "Express Next Day" }])), false);
    assert_eq!(
        redactor.text("x q7q7q7 y 123456 Express Next Day amazon"),
        "x [redacted] y [redacted] [redacted] amazon"
    );
}

#[test]
fn what_begins_before_the_limit_is_blotted_out_whole() {
    let redactor = hiding("0123456789");
    for at in 85..100 {
        let body = format!("{}0123456789{}", "x".repeat(at), "y".repeat(1000));
        let shown = redactor.beginning(body.as_bytes(), 100);
        assert_eq!(shown, format!("{}[redacted]{}", "x".repeat(at), "y".repeat(90_usize.saturating_sub(at))));
    }
    let hidden = ascii(&"é".repeat(100));
    let shown = hiding(&"é".repeat(100)).beginning(hidden.as_bytes(), 50);
    assert_eq!(shown, REDACTED);
}

#[test]
fn a_body_of_any_bytes_becomes_text_that_the_database_holds() {
    assert_eq!(Redactor::default().beginning(b"a\0b\xffc", 100), "a\u{fffd}b\u{fffd}c");
    let shown = Redactor::default().beginning("é".repeat(100).as_bytes(), 3);
    assert_eq!(shown, "é");
}

#[test]
fn a_long_secret_is_found_whole_and_in_part() {
    for length in [255, 256, 257, 511, 512, 700, 5000] {
        let secret: String =
            (0..length).map(|n| char::from(b'!' + u8::try_from(n * n % 89).unwrap())).collect();
        let redactor = hiding(&secret);
        assert_eq!(redactor.text(&format!("<{secret}>")), "<[redacted]>", "{length}");
        assert!(redactor.text(&STANDARD.encode(&secret)).contains(REDACTED));
    }
}

#[test]
fn a_piece_of_a_long_secret_that_begins_within_a_character_is_found() {
    // Characters of two bytes behind one of one: pieces of 256 bytes begin and end within characters.
    let letter = |n: u32| char::from_u32(0xe0 + n * n % 31).unwrap();
    let secret = format!("a{}", (0..300).map(letter).collect::<String>());
    let middle = &secret[255..513];
    let redactor = hiding(&secret);
    assert_eq!(redactor.text(&format!("<{middle}>")), "<[redacted]>");
    assert_eq!(redactor.beginning(format!("<{middle}>").as_bytes(), 40), "<[redacted]");
}

#[test]
fn json_stays_json() {
    let mut redactor = hiding("1234567");
    redactor.hide("k\"ey!!");
    let redacted = redactor
        .json(raw(&json!({ "a": 1_234_567, "k\"ey!!": ["x k\"ey!! y", 1], "b": { "c": "1234567" } })));
    let expected =
        json!({ "a": "[redacted]", "[redacted]": ["x [redacted] y", 1], "b": { "c": "[redacted]" } });
    assert_eq!(serde_json::from_str::<Value>(redacted.get()).unwrap(), expected);
    let untouched = RawValue::from_string("{ \"b\" : 1.0 , \"a\":2}".to_owned()).unwrap();
    assert_eq!(redactor.json(untouched.clone()).get(), untouched.get());
}

#[test]
fn a_large_list_and_a_large_body_take_no_time() {
    let mut redactor = Redactor::default();
    let list: Vec<String> = (0..50_000).map(|n| format!("value {n:05}")).collect();
    redactor.hide_value(&raw(&json!(list)), false);
    let body = "%41\\u0042&amp;+".repeat(70_000);
    let shown = redactor.beginning(body.as_bytes(), 4096);
    assert!(shown.len() <= 4096);
    assert_eq!(redactor.text("my value 04711!"), "my [redacted]!");
}

proptest! {
    #[test]
    fn no_spelling_leaves_the_secret(secret in "[ -~é]{6,30}", before in "[ -$'-\\[\\]-~é]{0,20}", after in ".{0,20}") {
        let redactor = hiding(&secret);
        for spelling in spellings(&secret) {
            let shown = redactor.text(&format!("{before}{spelling}{after}")).into_owned();
            prop_assert!(!shown.replace(REDACTED, "").contains(&spelling), "{}", shown);
        }
    }
}
