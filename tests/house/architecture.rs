//! The tables of `lib.rs` that say who may import whom, and who writes which table, hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may import whom; `main`, `lib`, `app` and `cli` may import all below them.
const IMPORTS: &[(&str, &[&str])] = &[
    ("queues", &["flow", "worker", "auth", "http", "db", "error", "config", "seal", "traces"]),
    ("jobs", &["worker", "auth", "http", "db", "error", "config", "seal", "traces"]),
    ("hub", &["flow", "worker", "auth", "http", "db", "error", "config", "seal", "traces"]),
    ("reports", &["worker", "auth", "http", "db", "error", "config"]),
    ("flow", &["http", "db", "error", "config"]),
    ("worker", &["db", "error", "config", "traces"]),
    ("auth", &["db", "error", "config"]),
    ("http", &["db", "error", "config", "traces"]),
    ("db", &["error", "config"]),
    ("seal", &["error", "config"]),
    ("traces", &["error", "config"]),
    ("error", &[]),
    ("config", &[]),
];

/// The rooms of the hub, from the top: each may import those in the lines below its own.
const ROOMS: &[&[&str]] = &[
    &["start"],
    &["routes", "upkeep", "jump"],
    &["delivery", "polling"],
    &["notices"],
    &["routing"],
    &["state"],
    &["definitions"],
    &["key", "listing", "parked_by", "purpose", "roles"],
];

/// Which part writes a table. Producers insert into `dispatch` and `scheduled`, `lines` and `line_waits` in the statement
/// that stores the item, so that both commit together; so does each into `lanes`, `circuits` and `series` what it makes one for.
const WRITERS: &[(&str, &str)] = &[
    ("dispatch", "worker"),
    ("scheduled", "worker"),
    ("workers", "worker"),
    ("leases", "worker"),
    ("lane_askers", "worker"),
    ("lanes", "worker"),
    ("catalog", "worker"),
    ("duties", "worker"),
    ("weeks", "worker"),
    ("rates", "flow"),
    ("grants", "db"),
    ("circuits", "flow"),
    ("circuit_parts", "flow"),
    ("series", "flow"),
    ("lines", "flow"),
    ("line_waits", "flow"),
    ("schedules", "flow"),
    ("ticks", "flow"),
    ("queues", "queues"),
    ("queue_schedules", "queues"),
    ("unique_holders", "queues"),
    ("messages", "queues"),
    ("outcomes", "queues"),
    ("attempts", "queues"),
    ("idempotency_keys", "queues"),
    ("job_types", "jobs"),
    ("jobs", "jobs"),
    ("job_safes", "jobs"),
    ("cardholders", "jobs"),
    ("sdk_sessions", "jobs"),
    ("job_idempotency_keys", "jobs"),
    ("broadcasts", "jobs"),
    ("registrations", "jobs"),
    ("envelopes", "jobs"),
    ("endpoints", "hub"),
    ("endpoint_failures", "hub"),
    ("parameters", "hub"),
    ("mappings", "hub"),
    ("learned_parameters", "hub"),
    ("stores", "hub"),
    ("hub_messages", "hub"),
    ("hub_descendants", "hub"),
    ("hub_idempotency_keys", "hub"),
    ("deliveries", "hub"),
    ("delivery_attempts", "hub"),
    ("delivered_identifiers", "hub"),
    ("held_deliveries", "hub"),
    ("log_entries", "hub"),
    ("pollers", "hub"),
    ("poller_bookmarks", "hub"),
    ("poller_snapshots", "hub"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 50, "the sources are where the tests run");
    found
}

/// The part that a file belongs to: the first name below `src`.
fn part(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The names that follow `crate::` in code, one level deep.
fn imports(text: &str) -> BTreeSet<String> {
    names_after("crate::", text)
}

/// The names that follow `prefix` in code.
fn names_after(prefix: &str, text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split(prefix).skip(1) {
            let inner = rest.strip_prefix('{').map_or(rest, |inner| inner.split('}').next().unwrap_or(inner));
            let many = rest.starts_with('{');
            for item in inner.split(',').take(if many { usize::MAX } else { 1 }) {
                let name: String =
                    item.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                names.insert(name);
            }
        }
    }
    names
}

#[test]
fn parts_import_only_what_lies_below_them() {
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let part = part(&path);
        let Some(allowed) = table.get(part.as_str()) else { continue };
        for import in imports(&text) {
            if table.contains_key(import.as_str()) && import != part && !allowed.contains(&import.as_str())
                || ["app", "cli"].contains(&import.as_str())
            {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_of_the_hub_import_only_what_lies_below_them() {
    let level = |room: &str| ROOMS.iter().position(|rooms| rooms.contains(&room));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in sources() {
        let Ok(inner) = path.strip_prefix("src/hub") else { continue };
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs");
        if room == "mod" {
            continue;
        }
        let Some(own) = level(room) else {
            wrong.push(format!("{} is in no room", path.display()));
            continue;
        };
        let depth = inner.components().count() - usize::from(inner.ends_with("mod.rs"));
        if text.contains(&format!("use {}", "super::".repeat(depth))) && !text.contains("mod tests {") {
            wrong.push(format!("{} leaves its room by `super`", path.display()));
        }
        for import in names_after("crate::hub::", &text) {
            seen += 1;
            let below = level(&import).is_some_and(|level| level > own);
            // The routes of definitions work with the state, which knows the definitions.
            let state = import == "state" && inner.starts_with("definitions/routes");
            if import != room && !below && !state && !import.is_empty() {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_table_is_written_by_one_part() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let part = part(&path);
        // What is planted is in no build that is used.
        if part == "planted" {
            continue;
        }
        for (table, owner) in WRITERS {
            let producer = ["dispatch", "scheduled", "lanes", "circuits", "series", "lines", "line_waits"]
                .contains(table);
            for verb in ["INSERT INTO", "UPDATE", "DELETE FROM"] {
                let written = text.match_indices(&format!("{verb} {table}")).any(|(at, found)| {
                    let next = text[at + found.len()..].chars().next();
                    next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '_')
                });
                if written && part != *owner && !(producer && verb == "INSERT INTO") {
                    wrong.push(format!("{}: {verb} {table}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_small_enough_to_be_read_at_one_sitting() {
    let mut large: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > 400)
        .map(|(lines, path)| format!("{lines} lines: {}", path.display()))
        .collect();
    large.sort();
    assert!(large.is_empty(), "which decision leaves? {large:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
