//! Queue definitions from a directory: pairs of `<name>.queue.json` and `<name>.queue.js`.
//!
//! The `.json` is the definition, as it would be put; the `.js` beside it is the source of its JavaScript
//! handler. There need not be a `.js` if the definition names a handler itself, but there must not be both.
//!
//! A file that cannot be read, is no JSON or breaks a rule is reported, and the definition that is in force
//! stays. So it does when its file is removed: messages may be waiting, and to delete a queue is an act of
//! the admin API. Hidden files and other names are left alone, subdirectories too.

use super::definition::{Definition, handler_of, with_handler};
use crate::error::{Error, Result};
use crate::http::body;
use crate::http::json_text::{raw, to_value};
use crate::http::state_member::without_state;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DEFINITION: &str = ".queue.json";
const SOURCE: &str = ".queue.js";

/// What happened to a queue's files since the last look.
#[derive(Debug)]
pub enum Change {
    /// There is a definition, new or changed. It holds to every rule but those of its schema, which is not
    /// compiled here.
    Defined {
        /// The queue.
        name: String,
        /// The document, with the handler's source in it.
        document: Box<RawValue>,
    },
    /// The files say nothing that can be used; the error names them.
    Broken {
        /// The queue.
        name: String,
        /// What is wrong.
        error: Error,
    },
    /// The files are gone.
    Removed {
        /// The queue.
        name: String,
    },
}

/// The directory, and what its files looked like when they were last read.
#[derive(Debug)]
pub struct Watcher {
    directory: PathBuf,
    seen: BTreeMap<String, Pair>,
}

/// The files of one queue, as far as they are there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pair {
    definition: Option<Stamp>,
    source: Option<Stamp>,
}

/// Changes whenever the file is written or replaced, even within one second and to the same length.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Watcher {
    /// Watches `directory`, of which nothing is known yet: the first look reports every definition.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), seen: BTreeMap::new() }
    }

    /// What has changed since the last look, by name. Meant to be asked about once a second; it looks at the
    /// files' metadata and reads only those that changed. A file that is caught half written is reported as
    /// broken, and again when it is whole.
    ///
    /// # Errors
    /// If the directory cannot be listed. Nothing is forgotten then.
    pub fn changed(&mut self) -> io::Result<Vec<Change>> {
        let mut now: BTreeMap<String, Pair> = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let file = entry?.file_name();
            let Some(file) = file.to_str().filter(|file| !file.starts_with('.')) else { continue };
            let (name, is_source) = match (file.strip_suffix(DEFINITION), file.strip_suffix(SOURCE)) {
                (Some(name), _) => (name, false),
                (_, Some(name)) => (name, true),
                _ => continue,
            };
            // It may be gone again, or a link to nowhere: then it is not there.
            let Ok(metadata) = fs::metadata(self.directory.join(file)) else { continue };
            let pair = now.entry(name.to_owned()).or_default();
            *(if is_source { &mut pair.source } else { &mut pair.definition }) = Some(Stamp {
                inode: metadata.ino(),
                length: metadata.len(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            });
        }
        let gone = self.seen.keys().filter(|name| !now.contains_key(*name));
        let mut changes: Vec<Change> = gone.map(|name| Change::Removed { name: name.clone() }).collect();
        for (name, _) in now.iter().filter(|(name, pair)| self.seen.get(*name) != Some(pair)) {
            changes.push(match read(&self.directory, name) {
                Ok(document) => Change::Defined { name: name.clone(), document },
                Err(error) => Change::Broken { name: name.clone(), error },
            });
        }
        self.seen = now;
        Ok(changes)
    }
}

/// The definition of the queue `name` in `directory`, with its handler.
fn read(directory: &Path, name: &str) -> Result<Box<RawValue>> {
    let (json, js) =
        (directory.join(format!("{name}{DEFINITION}")), directory.join(format!("{name}{SOURCE}")));
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Error::BadRequest(format!("{}: {error}", path.display()))
    };
    let text = fs::read_to_string(&json).map_err(|error| unreadable(&json, &error))?;
    let document = body::parse(text.as_bytes()).map_err(|error| unreadable(&json, &error))?;
    // A file may be what a server answered.
    let mut document = without_state(document).raw;
    match fs::read_to_string(&js) {
        Ok(_) if handler_of(&document).is_some() => {
            return Err(unreadable(&js, &"the definition names a handler itself; keep one of the two"));
        }
        Ok(source) => {
            document = with_handler(&document, &raw(&json!({ "kind": "javascript", "source": source })));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(&js, &error)),
    }
    match Definition::read(name, &to_value(document.get()).unwrap_or_default()) {
        Ok(_) => Ok(document),
        Err(Error::Invalid(title, violations)) => {
            Err(Error::Invalid(format!("{}: {title}", json.display()), violations))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn write(directory: &Path, file: &str, text: &str) {
        fs::write(directory.join(file), text).unwrap();
    }

    /// What a look found, as one word and the name.
    fn words(changes: &[Change]) -> Vec<String> {
        let words = changes.iter().map(|change| match change {
            Change::Defined { name, .. } => format!("defined {name}"),
            Change::Broken { name, .. } => format!("broken {name}"),
            Change::Removed { name } => format!("removed {name}"),
        });
        words.collect()
    }

    #[test]
    fn a_pair_is_one_definition_and_only_what_changes_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write(at, "a.queue.json", r#"{"name":"a"}"#);
        write(at, "a.queue.js", "module.exports = 1");
        write(at, "b.queue.json", r#"{"handler":{"kind":"worker"}}"#);
        write(at, "notes.txt", "none of ours");
        write(at, ".c.queue.json", "hidden");
        let mut watcher = Watcher::new(at);
        let changes = watcher.changed().unwrap();
        assert_eq!(words(&changes), ["defined a", "defined b"]);
        let Change::Defined { document, .. } = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(
            to_value(document.get()).unwrap(),
            json!({"name": "a", "handler": {"kind": "javascript", "source": "module.exports = 1"}})
        );
        assert!(watcher.changed().unwrap().is_empty());
        write(at, "a.queue.js", "module.exports = 2");
        assert_eq!(words(&watcher.changed().unwrap()), ["defined a"]);
        fs::remove_file(at.join("b.queue.json")).unwrap();
        assert_eq!(words(&watcher.changed().unwrap()), ["removed b"]);
        assert!(watcher.changed().unwrap().is_empty());
    }

    #[test]
    fn a_broken_file_is_reported_once_and_its_neighbours_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write(at, "bad.queue.json", "{");
        write(at, "both.queue.json", r#"{"handler":{"kind":"worker"}}"#);
        write(at, "both.queue.js", "module.exports = 1");
        write(at, "good.queue.json", "{}");
        write(at, "misspelt.queue.json", r#"{"role":{}}"#);
        write(at, "orphan.queue.js", "module.exports = 1");
        write(at, "system.queue.json", "{}");
        let mut watcher = Watcher::new(at);
        let changes = watcher.changed().unwrap();
        assert_eq!(
            words(&changes),
            [
                "broken bad",
                "broken both",
                "defined good",
                "broken misspelt",
                "broken orphan",
                "broken system"
            ]
        );
        for change in &changes {
            if let Change::Broken { name, error } = change {
                assert!(error.to_string().contains(&format!("{name}.queue.js")), "{error}");
                let misspelt = error.whole().ends_with("; at `/role`: is not known here");
                assert_eq!(misspelt, name == "misspelt", "{}", error.whole());
            }
        }
        assert!(watcher.changed().unwrap().is_empty());
        write(at, "bad.queue.json", "{}");
        assert_eq!(words(&watcher.changed().unwrap()), ["defined bad"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_forgets_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (at, moved) = (directory.path().join("queues"), directory.path().join("moved"));
        fs::create_dir(&at).unwrap();
        write(&at, "a.queue.json", "{}");
        let mut watcher = Watcher::new(&at);
        assert_eq!(words(&watcher.changed().unwrap()), ["defined a"]);
        fs::rename(&at, &moved).unwrap();
        assert!(watcher.changed().is_err());
        fs::rename(&moved, &at).unwrap();
        assert!(watcher.changed().unwrap().is_empty());
    }

    #[tokio::test]
    async fn every_shipped_example_is_whole_and_its_schema_compiles() {
        let mut watcher = Watcher::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
        let mut names = Vec::new();
        for change in watcher.changed().unwrap() {
            let Change::Defined { name, document } = change else { panic!("{change:?}") };
            let definition = Definition::read(&name, &to_value(document.get()).unwrap()).unwrap();
            assert!(definition.handler.is_some(), "{name}");
            assert!(definition.compile_schema().await.unwrap().is_some(), "{name}");
            names.push(name);
        }
        assert_eq!(names, ["greet", "myQueue", "resize", "thumbnails"]);
    }
}
