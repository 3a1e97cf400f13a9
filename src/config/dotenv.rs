//! A file of settings: `NAME=value` a line, as shells, containers and service managers read them.

use anyhow::{Context as _, Result, ensure};
use std::collections::HashMap;

/// What the file names, each with its value.
pub(super) type Settings = HashMap<String, String>;

/// Reads the file's text. Empty lines and lines that begin with `#` are left out, a leading `export` too. A value in
/// single quotes stands as it is; in double quotes `\` stands before what is meant as it is, and `\n` for a line
/// break; without quotes it ends with the line, or before ` #`. Nothing is put in for `$`: secrets have it in them.
///
/// # Errors
/// Names the line, and does not repeat it: it may hold a secret.
pub(super) fn parse(text: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = setting(line).with_context(|| format!("line {}", number + 1))?;
        settings.insert(name.to_owned(), value);
    }
    Ok(settings)
}

fn setting(line: &str) -> Result<(&str, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').context("not NAME=value")?;
    let name = name.trim();
    ensure!(
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')),
        "not NAME=value"
    );
    let value = value.trim();
    let (value, rest) = match value.chars().next() {
        Some('\'') => {
            let (value, rest) = value[1..].split_once('\'').context("a quote is not closed")?;
            (value.to_owned(), rest)
        }
        Some('"') => quoted(&value[1..])?,
        _ => (value.split(" #").next().unwrap_or_default().trim().to_owned(), ""),
    };
    let rest = rest.trim();
    ensure!(rest.is_empty() || rest.starts_with('#'), "something stands after the closing quote");
    Ok((name, value))
}

/// The value up to the closing double quote, and what comes after it.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().context("a quote is not closed")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    anyhow::bail!("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_shells_and_containers_read_them() {
        let text = "\u{feff}# a comment\n\n A=1\nexport B = two words # and why\nC='it is # \"so\"' # x\r\n\
                    D=\"a \\\"b\\\" \\\\ \\$x\\n\"\nE=\nF=pa$$word#1\nB=three";
        let settings = parse(text).unwrap_or_default();
        let expected = [
            ("A", "1"),
            ("B", "three"),
            ("C", "it is # \"so\""),
            ("D", "a \"b\" \\ $x\n"),
            ("E", ""),
            ("F", "pa$$word#1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(settings, Settings::from(expected));
    }

    #[test]
    fn a_line_that_is_no_setting_is_named_by_its_number_alone() {
        for line in
            ["hunter2", "=hunter2", "A='hunter2", "A=\"hunter2", "A=\"\\", "A='x' hunter2", "A B=hunter2"]
        {
            let refusal = parse(&format!("X=1\n{line}")).map(drop).map_err(|error| format!("{error:#}"));
            let Err(refusal) = refusal else { panic!("{line} is read") };
            assert!(refusal.starts_with("line 2: ") && !refusal.contains("hunter2"), "{refusal}");
        }
    }
}
