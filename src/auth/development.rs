//! The secrets of a development server: each made once, kept in the data directory.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::SecretString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use uuid::Uuid;

/// The secret in `<data_dir>/<name>`, readable by its owner alone. The first call makes it; of several at
/// once, one wins and all return the same.
///
/// # Errors
/// When the directory cannot be written, or the file cannot be read or is empty.
pub fn development_secret(data_dir: &Path, name: &str) -> Result<SecretString> {
    let path = data_dir.join(name);
    let named = || path.display().to_string();
    if !path.try_exists().with_context(named)? {
        make(data_dir, &path).with_context(named)?;
    }
    let text = fs::read_to_string(&path).with_context(named)?;
    ensure!(!text.trim().is_empty(), "{} is empty: remove it, and a new one is made", path.display());
    Ok(SecretString::from(text.trim()))
}

fn make(data_dir: &Path, path: &Path) -> Result<()> {
    let mut secret = [0; 32];
    SysRng.try_fill_bytes(&mut secret)?;
    fs::create_dir_all(data_dir)?;
    let draft = data_dir.join(format!(".secret-{}", Uuid::new_v4()));
    let written = write(&draft, &STANDARD.encode(secret)).and_then(|()| match fs::hard_link(&draft, path) {
        // A link is made whole or not at all, and never over another's.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    written?;
    Ok(removed?)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use secrecy::ExposeSecret;
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("new/data");
        let secrets: HashSet<String> = std::thread::scope(|scope| {
            let make = || development_secret(&data, "jwt-secret").unwrap().expose_secret().to_owned();
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(secrets.len(), 1);
        assert_eq!(STANDARD.decode(secrets.iter().next().unwrap()).unwrap().len(), 32);
        assert_eq!(
            development_secret(&data, "jwt-secret").unwrap().expose_secret(),
            secrets.iter().next().unwrap()
        );

        let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["jwt-secret"]);
        let mode = fs::metadata(data.join("jwt-secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("jwt-secret"), "\n").unwrap();
        let refusal = development_secret(directory.path(), "jwt-secret").unwrap_err().to_string();
        assert!(refusal.contains("jwt-secret is empty"), "{refusal}");
    }
}
