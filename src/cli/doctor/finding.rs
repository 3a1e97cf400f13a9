//! What a check of the doctor found, and what to do about it.

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    /// It works, and something wants a look.
    Warn,
    /// It does not work, or would lose messages.
    Fail,
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) what: String,
    /// What to do; empty when nothing is to be done.
    pub(super) advice: &'static str,
}

pub(super) fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), advice: "" }
}

pub(super) fn warn(what: impl Into<String>, advice: &'static str) -> Finding {
    Finding { level: Level::Warn, what: what.into(), advice }
}

pub(super) fn fail(what: impl Into<String>, advice: &'static str) -> Finding {
    Finding { level: Level::Fail, what: what.into(), advice }
}
