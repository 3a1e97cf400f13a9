//! What a signed token claims, and whether that holds here and now: time, issuer, audience, roles.

use super::{Caller, unauthorized};
use crate::config;
use crate::error::Result;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::Duration;

/// How far the issuer's clock may be off, in seconds.
const LEEWAY: i64 = 30;

/// The claims that are looked at (RFC 7519, section 4.1, and the roles); all others are ignored.
///
/// serde refuses a member that comes twice, whichever way its name is escaped: of two `roles`, one reader
/// would believe the first and another the last.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    role: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    roles: Option<Value>,
}

/// A `null` is a value of the wrong type, not an absent member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What the configuration asks of the claims.
#[derive(Debug, Default)]
pub(super) struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    require_exp: bool,
}

impl Rules {
    pub(super) fn from_config(jwt: &config::Jwt) -> Self {
        Self { issuer: jwt.issuer.clone(), audience: jwt.audience.clone(), require_exp: jwt.require_exp }
    }
}

/// When a token holds: seconds since the Unix epoch, the leeway included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    from: i64,
    until: i64,
}

impl Window {
    /// How long the token still holds; none when it has no end.
    pub(super) fn left(self, now: i64) -> Option<Duration> {
        let seconds = self.until.saturating_sub(now);
        (self.until < i64::MAX).then(|| Duration::from_secs(seconds.try_into().unwrap_or_default()))
    }

    /// Refuses a token that has expired or does not hold yet.
    pub(super) fn check(self, now: i64) -> Result<()> {
        if now >= self.until {
            return Err(unauthorized("the token has expired"));
        }
        if now < self.from {
            return Err(unauthorized("the token is not valid yet (nbf)"));
        }
        Ok(())
    }
}

impl Claims {
    /// Holds the claims against the rules at the time `now`, in seconds since the Unix epoch.
    pub(super) fn admit(self, rules: &Rules, now: i64) -> Result<(Caller, Window)> {
        let until = match date("exp", self.exp.as_ref())? {
            Some(exp) => exp.saturating_add(LEEWAY),
            None if rules.require_exp => return Err(unauthorized("the token has no expiry (exp)")),
            None => i64::MAX,
        };
        let from = date("nbf", self.nbf.as_ref())?.map_or(i64::MIN, |nbf| nbf.saturating_sub(LEEWAY));
        let window = Window { from, until };
        window.check(now)?;
        if let Some(issuer) = &rules.issuer
            && self.iss.as_ref().and_then(Value::as_str) != Some(issuer)
        {
            return Err(unauthorized("the token is from another issuer (iss)"));
        }
        if let Some(audience) = &rules.audience
            && !strings("aud", self.aud)?.contains(audience)
        {
            return Err(unauthorized("the token is for another audience (aud)"));
        }
        let subject = match self.sub {
            None => String::new(),
            // PostgreSQL cannot store NUL, and a log should not be written by a token.
            Some(Value::String(subject)) if !subject.contains(char::is_control) => subject,
            Some(_) => return Err(unauthorized("the claim `sub` must be a string of printable characters")),
        };
        let mut granted = strings("role", self.role)?;
        granted.extend(strings("roles", self.roles)?);
        Ok((Caller::new(subject, granted), window))
    }
}

/// A `NumericDate`: seconds since the Unix epoch, a fraction allowed.
fn date(name: &str, claim: Option<&Value>) -> Result<Option<i64>> {
    match claim {
        None => Ok(None),
        Some(Value::Number(number)) => {
            #[expect(clippy::cast_possible_truncation, reason = "beyond the range, the nearest end is meant")]
            let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
            Ok(seconds)
        }
        Some(_) => Err(unauthorized(format!("the claim `{name}` must be a number"))),
    }
}

/// A string, or an array of strings; nothing when absent.
fn strings(name: &str, claim: Option<Value>) -> Result<Vec<String>> {
    let texts = match claim {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(items)) => {
            let text = |item| if let Value::String(text) = item { Some(text) } else { None };
            items.into_iter().map(text).collect()
        }
        Some(_) => None,
    };
    texts.ok_or_else(|| unauthorized(format!("the claim `{name}` must be a string or an array of strings")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    fn admit(claims: &Value, rules: &Rules) -> Result<Caller, String> {
        let claims: Claims = serde_json::from_value(claims.clone()).unwrap();
        claims.admit(rules, NOW).map(|(caller, _)| caller).map_err(|error| error.to_string())
    }

    fn roles(claims: &Value) -> Result<Vec<String>, String> {
        admit(claims, &Rules::default()).map(|caller| caller.roles().map(str::to_owned).collect())
    }

    #[test]
    fn roles_are_the_union_of_role_and_roles() {
        assert_eq!(roles(&json!({})).unwrap(), [""; 0]);
        assert_eq!(roles(&json!({"role": "a"})).unwrap(), ["a"]);
        assert_eq!(roles(&json!({"roles": "a b,c"})).unwrap(), ["a b,c"]);
        assert_eq!(roles(&json!({"role": ["b", "A"], "roles": ["a", "b"]})).unwrap(), ["A", "a", "b"]);
        assert_eq!(roles(&json!({"realm_access": {"roles": ["a"]}, "Roles": ["b"]})).unwrap(), [""; 0]);
    }

    #[test]
    fn roles_of_any_other_type_are_refused() {
        for odd in [json!(null), json!(1), json!(true), json!({"a": true}), json!(["a", 1]), json!([["a"]])] {
            assert!(roles(&json!({"roles": odd})).unwrap_err().contains("`roles`"), "{odd}");
            assert!(roles(&json!({"role": odd})).unwrap_err().contains("`role`"), "{odd}");
        }
    }

    #[test]
    fn a_member_that_comes_twice_is_refused() {
        for claims in [
            r#"{"roles": ["a"], "roles": ["system_admin"]}"#,
            r#"{"role": "a", "role": "a"}"#,
            r#"{"roles": ["a"], "ro\u006ces": ["system_admin"]}"#,
            r#"{"exp": 1, "exp": 9999999999}"#,
            r#"{"sub": "a", "sub": "b"}"#,
        ] {
            assert!(serde_json::from_str::<Claims>(claims).is_err(), "{claims}");
        }
        assert!(serde_json::from_str::<Claims>(r#"{"x": 1, "x": 2}"#).is_ok());
    }

    #[test]
    fn time_holds_with_thirty_seconds_of_leeway() {
        let rules = Rules { require_exp: true, ..Rules::default() };
        let at = |claims: Value| admit(&claims, &rules).map(|_| ());
        assert_eq!(at(json!({"exp": NOW - 29})), Ok(()));
        assert_eq!(at(json!({"exp": NOW - 30})), Err("the token has expired".to_owned()));
        assert_eq!(at(json!({"exp": 1_800_000_000.5})), Ok(()));
        assert_eq!(at(json!({"exp": 1e300, "nbf": -1e300})), Ok(()));
        assert_eq!(at(json!({"exp": -1})), Err("the token has expired".to_owned()));
        assert_eq!(at(json!({"exp": NOW, "nbf": NOW + 30})), Ok(()));
        let early = Err("the token is not valid yet (nbf)".to_owned());
        assert_eq!(at(json!({"exp": NOW + 60, "nbf": NOW + 31})), early);
    }

    #[test]
    fn exp_is_asked_for_unless_told_otherwise_and_is_always_a_number() {
        let strict = Rules { require_exp: true, ..Rules::default() };
        let lax = Rules::default();
        assert_eq!(admit(&json!({}), &strict).unwrap_err(), "the token has no expiry (exp)");
        assert!(admit(&json!({}), &lax).is_ok());
        assert_eq!(admit(&json!({"exp": 1}), &lax).unwrap_err(), "the token has expired");
        for odd in [json!(null), json!("9999999999"), json!([9_999_999_999_i64]), json!(true)] {
            assert_eq!(admit(&json!({"exp": odd}), &lax).unwrap_err(), "the claim `exp` must be a number");
            assert_eq!(admit(&json!({"nbf": odd}), &lax).unwrap_err(), "the claim `nbf` must be a number");
        }
    }

    #[test]
    fn issuer_and_audience_count_only_when_configured() {
        let odd = json!({"iss": ["x"], "aud": {"y": 1}});
        assert!(admit(&odd, &Rules::default()).is_ok());
        let issuer = Rules { issuer: Some("https://id.example".to_owned()), ..Rules::default() };
        assert!(admit(&json!({"iss": "https://id.example"}), &issuer).is_ok());
        for iss in [json!({}), json!({"iss": "https://id.example/"}), json!({"iss": ["https://id.example"]})]
        {
            let refusal = admit(&iss, &issuer).unwrap_err();
            assert_eq!(refusal, "the token is from another issuer (iss)", "{iss}");
        }
        let audience = Rules { audience: Some("postrider".to_owned()), ..Rules::default() };
        assert!(admit(&json!({"aud": "postrider"}), &audience).is_ok());
        assert!(admit(&json!({"aud": ["other", "postrider"]}), &audience).is_ok());
        for aud in [json!({}), json!({"aud": "Postrider"}), json!({"aud": []}), json!({"aud": 7})] {
            assert!(admit(&aud, &audience).unwrap_err().contains("aud"), "{aud}");
        }
    }

    #[test]
    fn a_subject_is_text_or_absent() {
        assert_eq!(admit(&json!({}), &Rules::default()).unwrap().subject, "");
        assert_eq!(admit(&json!({"sub": "ann é"}), &Rules::default()).unwrap().subject, "ann é");
        for odd in [json!(null), json!(7), json!(["ann"]), json!("an\u{0}n"), json!("ann\nroot")] {
            assert!(admit(&json!({"sub": odd}), &Rules::default()).unwrap_err().contains("`sub`"), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_admitted_exactly_from_nbf_to_exp(exp: i64, nbf: i64, now: i64) {
            let claims: Claims = serde_json::from_value(json!({"exp": exp, "nbf": nbf})).unwrap();
            let holds = i128::from(now) < i128::from(exp).saturating_add(30).min(i64::MAX.into())
                && i128::from(now) >= i128::from(nbf) - 30;
            prop_assert_eq!(claims.admit(&Rules::default(), now).is_ok(), holds);
        }

        #[test]
        fn no_claims_make_it_panic(text in r#"\{("(exp|nbf|sub|role|roles|aud|iss)":(-?[0-9]{1,30}(e[0-9]{1,3})?|"[a-z]*"|null|\[("a"|1)?\]),?){0,4}\}"#) {
            if let Ok(claims) = serde_json::from_str::<Claims>(&text) {
                let _ = claims.admit(&Rules::default(), NOW);
            }
        }
    }
}
