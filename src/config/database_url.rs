//! What the URL of a database must look like.

use anyhow::{Result, bail};

/// What one looks like.
const EXAMPLE: &str = "postgres://user:password@host:5432/database";

/// Refuses what names no PostgreSQL server. The URL is not repeated: there is a password in it.
pub(super) fn check(name: &str, url: &str) -> Result<()> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => {}
        Some(scheme)
            if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') =>
        {
            bail!(
                "{name}: {scheme}:// names no PostgreSQL server, and Postrider runs on nothing else: {EXAMPLE}"
            )
        }
        _ => bail!("{name}: a URL has a scheme, as in {EXAMPLE}"),
    }
    match url::Url::parse(url) {
        Ok(_) => Ok(()),
        Err(error) => bail!("{name} is not a URL such as {EXAMPLE}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_of_postgresql_is_refused_in_a_sentence_without_its_password() {
        for (url, says) in [
            ("mysql://root:hunter2@db/x", "mysql:// names no PostgreSQL server"),
            ("https://db/hunter2", "https:// names no PostgreSQL server"),
            ("user:hunter2@db/x", "a URL has a scheme"),
            ("db.example.com", "a URL has a scheme"),
            ("hunter2!://db", "a URL has a scheme"),
            ("postgres://db:hunter2/x", "is not a URL such as postgres://"),
        ] {
            let refusal = check("DATABASE_URL", url).map_err(|error| format!("{error:#}"));
            let Err(refusal) = refusal else { panic!("{url} is accepted") };
            assert!(refusal.starts_with("DATABASE_URL") && refusal.contains(says), "{url}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        assert!(check("DATABASE_URL", "postgresql:///x?host=/run/postgresql").is_ok());
        assert!(check("DATABASE_URL", "postgres://me:p%40ss@db/x").is_ok());
    }
}
