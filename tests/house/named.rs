//! The architecture in `lib.rs` names only what is there: its modules are private, so rustdoc checks no link to them.

use std::path::Path;

/// The text of a module, if there is one of this path.
fn module(path: &[&str]) -> Option<String> {
    let base = format!("src/{}", path.join("/"));
    [format!("{base}.rs"), format!("{base}/mod.rs")]
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
}

/// Whether the path leads to a module, or to what a module declares or re-exports.
fn is_there(path: &[&str]) -> bool {
    module(path).is_some()
        || path.split_last().is_some_and(|(item, parent)| {
            let words = |text: String| {
                text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *item)
            };
            module(parent).is_some_and(words)
        })
}

#[test]
fn the_architecture_names_modules_and_tests_that_exist() {
    let text = std::fs::read_to_string("src/lib.rs").unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in text.lines().filter_map(|line| line.strip_prefix("//!")) {
        for span in line.split('`').skip(1).step_by(2) {
            let path: Vec<&str> = span.split("::").collect();
            let is_path = path.len() > 1 && module(&path[..1]).is_some();
            let is_file = span.starts_with("tests/")
                || Path::new(span).extension().is_some_and(|end| end == "rs") && span != "lib.rs";
            let found = match (is_path, is_file) {
                (true, _) => is_there(&path),
                (_, true) => Path::new(span).exists() || Path::new("src").join(span).exists(),
                _ => continue,
            };
            seen += 1;
            if !found {
                wrong.push(span.to_owned());
            }
        }
    }
    assert!(seen > 60, "only {seen} names were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
