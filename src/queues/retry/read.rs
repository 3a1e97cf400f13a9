//! The member `retry` of a definition's options.

use super::pause::{Curve, Pause};
use super::terms::{Rule, Terms};
use crate::http::reader::{Reader, is_word, token};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

/// Errors that a definition may name, and pauses that it may list.
const MOST: usize = 100;

/// What a definition says of retries, as far as it says anything.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    general: Written,
    by: BTreeMap<String, Option<Written>>,
}

#[derive(Debug, Clone, Default)]
struct Written {
    max_attempts: Option<u16>,
    kind: Option<Kind>,
    base: Option<Duration>,
    cap: Option<Duration>,
    power: Option<u8>,
    after: Option<Vec<Duration>>,
    jitter: Option<u16>,
    max_age: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exponential,
    Linear,
    Polynomial,
    Fixed,
}

impl Retry {
    /// Reads the member; what breaks a rule is noted in `reader` and left out.
    pub(in crate::queues) fn read(reader: &mut Reader<'_>) -> Self {
        let general = Written::read(reader, None);
        let mut by = BTreeMap::new();
        for (name, value) in reader.entries("by", MOST) {
            let pointer = format!("/by/{}", token(name));
            let mut written = None;
            match value {
                _ if !is_word(name) => {
                    reader.note(&pointer, "word", "must stand under a simple name of at most 100 characters");
                }
                Value::String(text) if text == "final" => {}
                Value::Object(_) => reader.nested(value, &pointer, |reader| {
                    let max_attempts = reader.integer("max_attempts", 1..=1_000);
                    written = Some(Written { max_attempts, ..Written::read(reader, Some(&general)) });
                }),
                _ => reader.note(&pointer, "type", "must be \"final\" or an object"),
            }
            by.insert(name.clone(), written);
        }
        Self { general, by }
    }

    /// What decides, with the definition's `max_attempts`.
    pub(in crate::queues) fn terms(self, max_attempts: Option<u16>) -> Terms {
        let general = Written { max_attempts, ..self.general };
        let by = self
            .by
            .into_iter()
            .map(|(name, written)| (name, written.map(|written| written.over(&general).rule())));
        let by = by.collect();
        Terms::new(general.rule(), by)
    }
}

impl Written {
    /// `beneath` is what holds where this says nothing.
    fn read(reader: &mut Reader<'_>, beneath: Option<&Self>) -> Self {
        let kind = reader.choice(
            "kind",
            &[
                ("exponential", Kind::Exponential),
                ("linear", Kind::Linear),
                ("polynomial", Kind::Polynomial),
                ("fixed", Kind::Fixed),
            ],
        );
        let written = Self {
            max_attempts: None,
            kind,
            base: reader.duration("base", MILLISECOND..=DAY),
            cap: reader.duration("cap", MILLISECOND..=7 * DAY),
            power: reader.integer("power", 1..=10),
            after: reader.has("after").then(|| {
                let longest = 30 * DAY;
                let words = "must be a duration from 1ms to 30days, such as \"30s\"";
                let pauses = reader.texts("after", MOST, words, |text| {
                    crate::http::duration::read(text).filter(|pause| (MILLISECOND..=longest).contains(pause))
                });
                if reader.is_empty_list("after") {
                    reader.note("/after", "minItems", "must name a pause");
                }
                pauses
            }),
            jitter: reader.fraction("jitter"),
            max_age: reader.duration("max_age", MILLISECOND..=365 * DAY),
        };
        written.check(reader, beneath);
        written
    }

    /// Members that would have no effect beside others, or contradict them.
    fn check(&self, reader: &mut Reader<'_>, beneath: Option<&Self>) {
        let (kind, base, cap) = (self.kind.is_some(), self.base.is_some(), self.cap.is_some());
        if self.after.is_some() {
            for (name, there) in
                [("/kind", kind), ("/base", base), ("/cap", cap), ("/power", self.power.is_some())]
            {
                if there {
                    reader.note(name, "alone", "has no effect beside after");
                }
            }
            return;
        }
        let whole = beneath.map_or_else(|| self.clone(), |beneath| self.clone().over(beneath));
        if whole.after.is_none() {
            match whole.kind {
                Some(Kind::Fixed) if cap => {
                    reader.note("/cap", "alone", "has no effect where the pause is fixed");
                }
                Some(Kind::Polynomial) => {}
                _ if self.power.is_some() => {
                    reader.note("/power", "alone", "has an effect only where kind is polynomial");
                }
                _ => {}
            }
        }
        // The one that is absent moves out of the way of the other.
        if let (Some(base), Some(cap)) = (self.base, self.cap)
            && base > cap
        {
            reader.note("/cap", "minimum", "must not be shorter than base");
        }
    }

    /// What this says, and where it says nothing, what `beneath` does.
    fn over(self, beneath: &Self) -> Self {
        let curved = self.kind.is_some() || self.base.is_some() || self.cap.is_some() || self.power.is_some();
        // The one that is inherited moves out of the way of the other.
        let base = self.base.or_else(|| beneath.base.map(|base| base.min(self.cap.unwrap_or(DAY))));
        let cap = self.cap.or_else(|| beneath.cap.map(|cap| cap.max(self.base.unwrap_or_default())));
        Self {
            max_attempts: self.max_attempts.or(beneath.max_attempts),
            kind: self.kind.or(beneath.kind),
            base,
            cap,
            power: self.power.or(beneath.power),
            after: self.after.or_else(|| beneath.after.clone().filter(|_| !curved)),
            jitter: self.jitter.or(beneath.jitter),
            max_age: self.max_age.or(beneath.max_age),
        }
    }

    fn rule(&self) -> Rule {
        let kind = self.kind.unwrap_or(Kind::Exponential);
        let longest = if kind == Kind::Exponential { Duration::from_mins(5) } else { DAY };
        let base = self.base.unwrap_or_else(|| Duration::from_secs(1).min(self.cap.unwrap_or(DAY)));
        let cap = self.cap.unwrap_or_else(|| longest.max(base));
        let curve = match (&self.after, kind) {
            (Some(pauses), _) => Curve::Listed { pauses: pauses.clone() },
            (None, Kind::Exponential) => Curve::Exponential { base, cap },
            (None, Kind::Linear) => Curve::Linear { base, cap },
            (None, Kind::Polynomial) => Curve::Polynomial { base, cap, power: self.power.unwrap_or(2) },
            (None, Kind::Fixed) => Curve::Fixed { base },
        };
        let full = matches!(curve, Curve::Exponential { .. });
        let jitter = self.jitter.unwrap_or(if full { 1000 } else { 0 });
        Rule { max_attempts: self.max_attempts, max_age: self.max_age, pause: Pause { curve, jitter } }
    }
}
