//! No files of the crate import each other in a circle: a constant or a type that would close one lies in the wrong file.
//!
//! An import leads to the file that defines what is imported, through re-exports. Tests do not count, nor what is
//! planted, which is in no build that is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Module = Vec<String>;

/// The modules of the crate: of each its file, and its text without comments and tests.
struct Modules(BTreeMap<Module, (String, String)>);

/// What a file imports: the path, and whether it is a re-export.
type Use = (Vec<String>, bool);

fn modules() -> Modules {
    fn walk(directory: &Path, found: &mut BTreeMap<Module, (String, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !name.ends_with("tests.rs")
                && !["main.rs", "planted.rs"].contains(&name)
            {
                let file = path.to_str().unwrap().to_owned();
                let mut module: Module =
                    file["src/".len()..file.len() - 3].split('/').map(str::to_owned).collect();
                if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                    module.pop();
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let code: Vec<&str> = text
                    .lines()
                    .take_while(|line| !line.starts_with("mod tests {"))
                    .map(|line| line.split("//").next().unwrap_or(line))
                    .collect();
                found.insert(module, (file, code.join("\n")));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 50, "the sources are where the tests run");
    Modules(found)
}

/// The paths of one `use`, its braces multiplied out.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let names = |path: &str| -> Vec<String> {
        let path = path.split(" as ").next().unwrap_or(path);
        path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let Some((before, rest)) = tree.split_once('{') else { return vec![names(tree)] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let filled = parts.into_iter().filter(|part| !part.trim().is_empty());
    filled.flat_map(leaves).map(|leaf| [names(before), leaf].concat()).collect()
}

/// The imports of a file, and the rest of its code.
fn uses(code: &str) -> (Vec<Use>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        let is_public = trimmed.starts_with("pub");
        let after = if is_public { trimmed.split_once(" use ") } else { trimmed.split_once("use ") };
        let is_use = after.is_some_and(|(before, _)| {
            before.is_empty() || before == "pub" || before.starts_with("pub(") && before.ends_with(')')
        });
        if let (Some((_, first)), true) = (after, is_use) {
            let mut tree = first.to_owned();
            while !tree.contains(';') {
                tree += lines.next().expect("a `use` ends");
            }
            let tree = tree.split(';').next().unwrap_or_default();
            uses.extend(leaves(tree).into_iter().map(|leaf| (leaf, is_public)));
        } else {
            rest += line;
            rest.push('\n');
        }
    }
    (uses, rest)
}

/// Paths of two names and more in code. Who may see something (`pub(in crate::hub)`) is no import.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    let mut parts = code.split("pub(in ");
    let mut visible = parts.next().unwrap_or_default().to_owned();
    visible.extend(parts.map(|part| part.split_once(')').map_or(part, |(_, after)| after)));
    let is_in_path = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    visible
        .split(|character| !is_in_path(character))
        .filter(|path| path.contains("::") && !path.starts_with(':'))
        .map(|path| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect())
        .collect()
}

impl Modules {
    /// The module in which what `path` names, as `from` sees it, is defined.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (mut module, mut rest) = (from.clone(), path);
        match path.first()?.as_str() {
            "crate" => (module, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let child = [from.clone(), vec![first.to_owned()]].concat();
                if !self.0.contains_key(&child) {
                    return None;
                }
            }
        }
        while let Some(name) = rest.first() {
            let child = [module.clone(), vec![name.clone()]].concat();
            if !self.0.contains_key(&child) {
                break;
            }
            (module, rest) = (child, &rest[1..]);
        }
        if let Some(name) = rest.first().filter(|_| depth < 8) {
            let (reexported, _) = uses(&self.0.get(&module)?.1);
            let passed_on = reexported.iter().filter(|(leaf, _)| leaf.last() == Some(name));
            for (leaf, _) in passed_on {
                let rest = [leaf.clone(), rest[1..].to_vec()].concat();
                if let Some(found) = self.resolve(&module, &rest, depth + 1) {
                    return Some(found);
                }
            }
        }
        self.0.contains_key(&module).then_some(module)
    }

    /// Which files each file needs.
    fn needs(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let needs = self.0.iter().filter(|(module, _)| !module.is_empty()).map(|(module, (file, code))| {
            let (imports, rest) = uses(code);
            let words: BTreeSet<&str> = rest.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let used = imports.into_iter().filter(|(leaf, is_public)| {
                !is_public || leaf.last().is_some_and(|name| words.contains(name.as_str()))
            });
            let used = used.map(|(leaf, _)| leaf).chain(paths(&rest));
            let needed = used
                .filter_map(|path| self.resolve(module, &path, 0))
                .filter(|needed| needed != module && !needed.is_empty());
            (file.as_str(), needed.filter_map(|needed| Some(self.0.get(&needed)?.0.as_str())).collect())
        });
        needs.collect()
    }
}

/// The files that can be reached from one.
fn reached<'a>(needs: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = needs.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(needs.get(file).into_iter().flatten().copied());
        }
    }
    found
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let modules = modules();
    let needs = modules.needs();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        needs.keys().map(|file| (*file, reached(&needs, file))).collect();
    let circles: BTreeSet<BTreeSet<&str>> = reached
        .iter()
        .filter(|(file, found)| found.contains(*file))
        .map(|(file, found)| found.iter().copied().filter(|other| reached[other].contains(file)).collect())
        .collect();
    assert!(circles.is_empty(), "what lies in the wrong file? {circles:#?}");
}
