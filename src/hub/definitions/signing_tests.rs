//! Signatures against what their inventors have published, and tokens against their public keys.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::hub::definitions::documents::PutEndpoint;
use axum::http::Method;
use chrono::DateTime;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

/// The signature of such a definition.
fn sign(mut members: Value) -> Sign {
    members["header"] = json!("X-Signature");
    members["secrets"] = json!(["[redacted]"]);
    let put = PutEndpoint::read(&json!({ "url": "https://e.example", "sign": [members] })).unwrap();
    put.definition.sign[0].clone()
}

struct Said<'a> {
    body: &'a [u8],
    url: &'a str,
    now: i64,
}

const HELLO: Said<'_> = Said { body: b"Hello, World!", url: "https://e.example/", now: 0 };

fn signed(members: Value, secrets: &[&str], said: &Said<'_>) -> String {
    let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    let url: Url = said.url.parse().unwrap();
    let values = Values {
        message: "invoice.created",
        message_id: Uuid::max(),
        id: Uuid::nil(),
        now: DateTime::from_timestamp(said.now, 0).unwrap(),
        url: &url,
        method: &Method::POST,
        body: said.body,
    };
    let value = sign(members).signer(&secrets).unwrap().sign(&values).unwrap();
    value.to_str().unwrap().to_owned()
}

#[test]
fn the_vectors_that_senders_publish_come_out() {
    let github = json!({ "kind": "hmac", "prefix": "sha256=" });
    assert_eq!(
        signed(github, &["It's a Secret to Everybody"], &HELLO),
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );

    let slack = json!({ "kind": "hmac", "over": "v0:{timestamp}:{body}", "prefix": "v0=" });
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        signed(slack, &["8f742231b10e8888abcd99yyyzzz85a5"], &Said { body, now: 1_531_420_618, ..HELLO }),
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );

    // RFC 2202, RFC 4231: keys of twenty bytes 0x0b, "Hi There".
    let key = "0b".repeat(20);
    let of = |hash: &str| {
        let members = json!({ "kind": "hmac", "hash": hash, "secret_encoding": "hex" });
        signed(members, &[&key], &Said { body: b"Hi There", ..HELLO })
    };
    assert_eq!(of("sha1"), "b617318655057264e28bc0b6fb378c8ef146be00");
    assert_eq!(of("sha256"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_eq!(
        of("sha384"),
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"
    );
    assert_eq!(
        of("sha512"),
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
    );

    // The example of the documentation has a key of five bytes, which a definition may not: the key is what it is in hex.
    let twilio = json!({
        "kind": "hmac", "hash": "sha1", "over": "{url}{body}", "encoding": "base64", "secret_encoding": "hex",
    });
    let said = Said {
        body: b"CallSidCA1234567890ABCDECaller+14158675309Digits1234From+14158675309To+18005551212",
        url: "https://mycompany.com/myapp.php?foo=1&bar=2",
        now: 0,
    };
    assert_eq!(signed(twilio, &["3132333435"], &said), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
}

#[test]
fn several_secrets_are_several_signatures_with_the_separator_between() {
    let stripe = json!({
        "kind": "hmac", "over": "{timestamp}.{body}", "start": "t={timestamp},", "prefix": "v1=", "separator": ",",
    });
    let said = Said { now: 1_492_774_577, ..HELLO };
    let (old, new) = ("whsec_of_the_old", "whsec_of_the_new");
    let one = |secret| signed(stripe.clone(), &[secret], &said);
    let (first, second) = (one(old), one(new));
    assert!(first.starts_with("t=1492774577,v1=") && first.len() == 80, "{first}");
    let second = second.strip_prefix("t=1492774577,").unwrap();
    assert_eq!(signed(stripe.clone(), &[old, new], &said), format!("{first},{second}"));
    // Standard Webhooks by hand: the example of its reference libraries.
    let standard = json!({
        "kind": "hmac", "over": "msg_p5jXN8AQM9LWM0D4loKWxJek.{timestamp}.{body}", "encoding": "base64",
        "secret_encoding": "base64", "prefix": "v1,", "separator": " ",
    });
    let said = Said { body: br#"{"test": 2432232314}"#, now: 1_614_265_330, ..HELLO };
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(signed(standard, &[secret, secret], &said), format!("{signature} {signature}"));
}

#[test]
fn a_token_carries_its_claims_and_holds_under_the_public_key_alone() {
    type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
    let rsa: Read = DecodingKey::from_rsa_pem;
    for (alg, private, public, read) in [
        (
            Algorithm::RS256,
            include_str!("../../../tests/keys/rs256.private.pem"),
            include_str!("../../../tests/keys/rs256.public.pem"),
            rsa,
        ),
        (
            Algorithm::PS256,
            include_str!("../../../tests/keys/rs256.private.pem"),
            include_str!("../../../tests/keys/rs256.public.pem"),
            rsa,
        ),
        (
            Algorithm::ES256,
            include_str!("../../../tests/keys/es256.private.pem"),
            include_str!("../../../tests/keys/es256.public.pem"),
            DecodingKey::from_ec_pem,
        ),
        (
            Algorithm::EdDSA,
            include_str!("../../../tests/keys/eddsa.private.pem"),
            include_str!("../../../tests/keys/eddsa.public.pem"),
            DecodingKey::from_ed_pem,
        ),
    ] {
        let members = json!({
            "kind": "jwt", "alg": format!("{alg:?}"), "kid": "k1", "lifetime": "5m", "prefix": "Bearer ",
            "claims": { "iss": "acme", "aud": "{url}", "request_body_sha256": "{body_sha256}", "version": 2 },
        });
        let said = Said { now: 1_614_265_330, ..HELLO };
        let token = signed(members, &[private], &said);
        let token = token.strip_prefix("Bearer ").unwrap();
        assert_eq!(decode_header(token).unwrap().kid.as_deref(), Some("k1"));
        let mut validation = Validation::new(alg);
        validation.validate_exp = false;
        validation.set_audience(&[HELLO.url]);
        let claims = decode::<Value>(token, &read(public.as_bytes()).unwrap(), &validation).unwrap().claims;
        let expected = json!({
            "iat": 1_614_265_330, "exp": 1_614_265_630, "iss": "acme", "aud": HELLO.url, "version": 2,
            "request_body_sha256": "dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f",
        });
        assert_eq!(claims, expected, "{alg:?}");
    }
}

#[test]
fn what_rsa_signs_takes_long_and_a_key_of_it_is_proven() {
    let slow = |alg: &str, key: &str| {
        let signer = sign(json!({ "kind": "jwt", "alg": alg })).signer(&[SecretString::from(key)]).unwrap();
        signer.prove().unwrap();
        signer.is_slow()
    };
    let rsa = include_str!("../../../tests/keys/rs256.private.pem");
    assert!(slow("RS256", rsa) && slow("PS512", rsa));
    assert!(
        !slow("ES256", include_str!("../../../tests/keys/es256.private.pem"))
            && !slow("HS256", "a key of it")
    );
    let hmac = sign(json!({ "kind": "hmac" })).signer(&[SecretString::from("a key of it")]).unwrap();
    assert!(hmac.prove().is_ok() && !hmac.is_slow());
}

#[test]
fn what_is_no_key_of_its_signature_is_said_by_its_place_and_never_shown() {
    let secret = |text: &str| SecretString::from(text);
    let base64 = sign(json!({ "kind": "hmac", "secret_encoding": "base64" }));
    let refused = base64.signer(&[secret("c2VjcmV0LXNlY3JldA=="), secret("not a hush")]).unwrap_err();
    assert_eq!(refused.0, 1);
    let hex = sign(json!({ "kind": "hmac", "secret_encoding": "hex" }));
    for wrong in ["abc", "zz", "+1+1+1+1"] {
        assert!(hex.signer(&[secret(wrong)]).is_err(), "{wrong}");
    }
    let es256 = include_str!("../../../tests/keys/es256.private.pem");
    for (alg, key) in [
        ("RS256", es256),
        ("ES384", es256),
        ("EdDSA", es256),
        ("ES256", include_str!("../../../tests/keys/es256.public.pem")),
        ("ES256", "a hush of some length"),
    ] {
        let jwt = sign(json!({ "kind": "jwt", "alg": alg }));
        assert!(jwt.signer(&[secret(key)]).and_then(|signer| signer.prove()).is_err(), "{alg}");
    }
    let signer = hex.signer(&[secret("00112233")]).unwrap();
    assert!(!format!("{signer:?}").contains("0011"));
}
