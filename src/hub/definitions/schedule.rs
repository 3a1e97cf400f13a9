//! The schedule of a mapping: when its service is sent a poll message, and which.
//!
//! `{every, message}` or `{cron, timezone?, message}`.

use crate::flow::timing::Timing;
use crate::http::reader::Reader;
use crate::hub::key::{RESERVED, WANTED, is_key, is_reserved};

/// When the service of a mapping is sent a poll message, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// When.
    pub timing: Timing,
    /// The key of the message.
    pub message: String,
}

impl Schedule {
    /// Reads the members of a schedule; `None` if a rule is broken, which is noted.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let timing = Timing::read(reader, "timezone");
        let message = reader.required("message", |reader, name| {
            let text = reader.text(name)?;
            if !is_key(text) {
                reader.note("/message", "pattern", WANTED);
            }
            if is_reserved(text) {
                reader.note("/message", "reserved", RESERVED);
            }
            (is_key(text) && !is_reserved(text)).then(|| text.to_owned())
        });
        Some(Self { timing: timing?, message: message? })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn read(document: &Value) -> (Option<Schedule>, Vec<(String, String)>) {
        let (mut schedule, mut violations) = (None, Vec::new());
        Reader::within(document, "/schedule".to_owned(), &mut violations, |reader| {
            schedule = Schedule::read(reader);
        });
        let found = violations.into_iter().map(|violation| (violation.pointer, violation.keyword));
        (schedule, found.collect())
    }

    #[test]
    fn it_has_a_timing_and_a_message_of_somebody_elses_than_the_hubs() {
        let found = |document| read(&document).1;
        let one = |pointer: &str, keyword: &str| vec![(pointer.to_owned(), keyword.to_owned())];
        assert_eq!(found(json!({ "message": "orders:poll" })), one("/schedule", "required"));
        assert_eq!(found(json!({ "every": "5m" })), one("/schedule", "required"));
        assert_eq!(found(json!({ "every": "5m", "message": "po/ll" })), one("/schedule/message", "pattern"));
        let own = json!({ "every": "5m", "message": "hub:poll" });
        assert_eq!(found(own), one("/schedule/message", "reserved"));
        let several = found(json!({ "cron": "x", "message": 1, "a/b": 1 }));
        let pointers: Vec<&str> = several.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/schedule/cron", "/schedule/message", "/schedule/a~1b"]);
        let schedule = read(&json!({ "every": "5m", "message": "orders:poll" })).0.unwrap();
        assert_eq!(schedule.timing, Timing::Every(Duration::from_mins(5)));
    }
}
