//! A log entry: what an endpoint, or the hub itself, has to say to people.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The most characters of a subject and of a reference.
const SHORT: usize = 255;
/// The most characters of a description.
const LONG: usize = 10_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "log_level", rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    /// The level that is nearest to this word of severity, in whatever letters. A number is none: 3 is an error to one
    /// and a trace to another.
    pub fn of(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "emergency" | "emerg" | "panic" | "alert" | "fatal" | "critical" | "crit" | "severe"
            | "error" | "err" | "failure" | "failed" | "fail" | "danger" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" | "information" | "informational" | "notice" | "success" | "ok" | "debug" | "trace"
            | "verbose" => Some(Self::Info),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What is said, before it is known about what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub level: Level,
    /// In a few words.
    pub subject: String,
    /// In more.
    pub description: String,
    /// What it is about in the endpoint's own words: a kind, such as `order`, and which one.
    pub reference: (Option<String>, Option<String>),
}

impl Note {
    /// A note of the hub's own.
    pub fn new(level: Level, subject: &str, description: impl Into<String>) -> Self {
        Self { level, subject: subject.to_owned(), description: description.into(), reference: (None, None) }
    }
}

/// A log entry to be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The store.
    pub store_id: i32,
    /// The message it is about.
    pub message_id: Option<Uuid>,
    /// What is said.
    pub note: Note,
    /// SHA-256 of what makes it the same when it is said again.
    pub digest: [u8; 32],
}

impl Entry {
    /// An entry about a message, said by `origin`: the same of the same origin counts its occurrences.
    pub fn new(store_id: i32, message_id: Option<Uuid>, origin: &[u8], note: Note) -> Self {
        let cut = |text: String, most: usize| match text.char_indices().nth(most) {
            Some((end, _)) => text[..end].to_owned(),
            None => text,
        };
        // What the database cannot hold is not what somebody wanted to say.
        let clean = |text: String, most| cut(text.replace('\0', "\u{fffd}"), most);
        let (kind, which) = note.reference;
        let note = Note {
            level: note.level,
            subject: clean(note.subject, SHORT),
            description: clean(note.description, LONG),
            reference: (kind.map(|kind| clean(kind, SHORT)), which.map(|which| clean(which, SHORT))),
        };
        let mut digest = Sha256::new();
        let parts =
            [origin, note.level.name().as_bytes(), note.subject.as_bytes(), note.description.as_bytes()];
        let reference =
            [&note.reference.0, &note.reference.1].map(|part| part.as_deref().unwrap_or_default());
        for part in parts.into_iter().chain(reference.map(str::as_bytes)) {
            // With its length, so that no two lists of parts run into one.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self { store_id, message_id, note, digest: digest.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_the_same_when_everything_said_is_the_same() {
        let digest = |origin: &[u8], subject: &str, description: &str| {
            Entry::new(1, None, origin, Note::new(Level::Info, subject, description)).digest
        };
        assert_eq!(digest(b"d", "a", "b"), digest(b"d", "a", "b"));
        let others = [digest(b"e", "a", "b"), digest(b"d", "ab", ""), digest(b"d", "", "ab")];
        assert!(others.iter().all(|other| *other != digest(b"d", "a", "b")));
    }

    #[test]
    fn a_word_of_severity_is_the_nearest_level() {
        for (words, level) in [
            (&["critical", "CRIT", "Fatal", "emergency", "error", "err", " alert "][..], Some(Level::Error)),
            (&["warn", "Warning"], Some(Level::Warn)),
            (&["info", "INFO", "notice", "success", "debug"], Some(Level::Info)),
            (&["whatever", "7", ""], None),
        ] {
            for word in words {
                assert_eq!(Level::of(word), level, "{word}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let entry = Entry::new(1, None, b"", Note::new(Level::Info, &"é".repeat(300), "a\0b".repeat(9000)));
        assert_eq!(entry.note.subject.chars().count(), SHORT);
        assert_eq!(entry.note.description.chars().count(), LONG);
        assert!(!entry.note.description.contains('\0'));
    }
}
