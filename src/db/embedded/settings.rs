//! The settings of the embedded server: what it is started with, beside what initdb chose for this machine.

use std::fmt::Write;

/// Settings for a machine that is shared with other work. `fsync` and `synchronous_commit` stay on, as
/// they are by default: an acknowledged message is on disk.
const SETTINGS: [(&str, &str); 12] = [
    ("max_connections", "100"),
    ("shared_buffers", "256MB"),
    // Every checkpoint makes the next change of each page write the whole page: let them be rare.
    ("checkpoint_timeout", "15min"),
    ("max_wal_size", "4GB"),
    ("min_wal_size", "256MB"),
    ("wal_compression", "on"),
    // Rows of the queues live for milliseconds; their remains must not pile up for a minute.
    ("autovacuum_naptime", "10s"),
    // Short statements on short tables: compiling them never pays.
    ("jit", "off"),
    ("log_line_prefix", "%m [%p] %q%a "),
    // The detail of an error quotes rows, and rows hold what users sent.
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("log_checkpoints", "off"),
];

/// The configuration file: the cluster's own first, then ours, then `extra`. What is set by `ALTER SYSTEM`
/// counts over all of it.
pub(super) fn file(extra: &[(String, String)]) -> String {
    let mut text = "# Written at every start. To change a setting, use ALTER SYSTEM.\n\
                    include = 'cluster/postgresql.conf'\n"
        .to_owned();
    let ours = SETTINGS.iter().map(|(name, value)| (*name, *value));
    for (name, value) in ours.chain(extra.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        let value = value.replace('\'', "''");
        let _ = writeln!(text, "{name} = '{value}'");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_adds_comes_last_so_that_it_counts() {
        let text = file(&[("shared_buffers".to_owned(), "it's".to_owned())]);
        assert!(text.contains("shared_buffers = '256MB'\n"));
        assert!(text.ends_with("shared_buffers = 'it''s'\n"));
    }
}
