//! How much work a schema can ask for at one value of a message, found before the schema is ever run.
//!
//! Two kilobytes of `$ref`s that double at each step ask for millions of checks of a single `null`, and a
//! schema that refers to itself at the same value never ends. Both are properties of the schema alone: its
//! subschemas and references form a graph, and the checks at one value are the paths through the edges that
//! stay at that value (`allOf`, `anyOf`, `$ref`, … but not `properties` or `items`). They are counted here,
//! from the leaves up. What depends on the message, recursion into its parts, is counted while it runs: see
//! [`super::meter`].

use super::graph::{self, Node, members};
use crate::error::Violation;
use jsonschema::Draft;
use serde_json::{Map, Value};

/// Checks that a schema may ask for at one value. One that doubles nothing and fits into 64 KiB stays below.
const MAX_CHECKS: u64 = 50_000;
/// Subschemas nested in one another at one value: each is some frames of stack.
const MAX_DEPTH: u32 = 128;

/// Keywords that look at the value, whatever it is.
const LOOKING: [&str; 8] = ["type", "enum", "const", "required", "properties", "items", "pattern", "minimum"];

/// What a schema can ask for at one value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checks {
    /// Checks of any kind.
    pub(super) all: u64,
    /// Those among them that do not even look at the value, such as the schemas `true` and `{}`.
    pub(super) silent: u64,
}

impl Checks {
    const fn plus(self, other: Self) -> Self {
        Self { all: self.all.saturating_add(other.all), silent: self.silent.saturating_add(other.silent) }
    }
}

/// What a subschema that only refers to another does itself.
const REFERENCE: Checks = Checks { all: 1, silent: 1 };

/// The checks of one value that `schema` can ask for.
///
/// # Errors
/// The violation, if that is too much, endless, or if a reference leads nowhere.
pub(super) fn measure(schema: &Value, draft: Draft) -> Result<Checks, Violation> {
    graph::walk(schema, draft, count)
}

/// What the keywords of one subschema do themselves.
fn own_checks(keywords: &Map<String, Value>) -> Checks {
    let length = |keyword: &str| keywords.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
    let lists = (length("enum") + length("required")) / 8;
    // All of them for each property: that is one look.
    let patterns = members(keywords, "patternProperties").count() * 4;
    let all = 1 + keywords.len() + lists + patterns;
    let looks = LOOKING.iter().any(|keyword| keywords.contains_key(*keyword));
    let silent = usize::from(!looks) + patterns;
    Checks { all: all as u64, silent: silent as u64 }
}

fn looks_for_unevaluated(keywords: &Map<String, Value>) -> bool {
    keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems")
}

/// The checks of one value that the heaviest node asks for: a sum along the edges, from the leaves up.
fn count(nodes: &[Node<'_>]) -> Result<Checks, Violation> {
    let mut waiting: Vec<usize> = nodes.iter().map(|node| node.in_place.len()).collect();
    let mut parents: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (id, node) in nodes.iter().enumerate() {
        for &child in &node.in_place {
            parents[child].push(id);
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&id| waiting[id] == 0).collect();
    // What `unevaluatedProperties` does: it asks every branch again which properties that one has seen.
    let mut marks = vec![Checks::default(); nodes.len()];
    let mut checks = vec![Checks::default(); nodes.len()];
    let mut depths = vec![0_u32; nodes.len()];
    let mut done = 0;
    while let Some(id) = ready.pop() {
        done += 1;
        let node = &nodes[id];
        for &child in &node.in_place {
            checks[id] = checks[id].plus(checks[child]);
            marks[id] = marks[id].plus(checks[child]).plus(marks[child]);
            depths[id] = depths[id].max(depths[child] + 1);
        }
        let booleans = Checks { all: node.booleans, silent: node.booleans };
        checks[id] = checks[id].plus(booleans).plus(node.keywords.map_or(REFERENCE, own_checks));
        if node.keywords.is_some_and(looks_for_unevaluated) {
            checks[id] = checks[id].plus(marks[id]);
        }
        for &parent in &parents[id] {
            waiting[parent] -= 1;
            if waiting[parent] == 0 {
                ready.push(parent);
            }
        }
    }
    let refused = |reason: String| Err(Violation::new("", "$ref", reason));
    if done < nodes.len() {
        return refused("the schema applies itself to the same value again, endlessly".to_owned());
    }
    if depths.iter().any(|&depth| depth > MAX_DEPTH) {
        return refused(format!("more than {MAX_DEPTH} subschemas inside one another"));
    }
    let all = checks.iter().map(|checks| checks.all).max().unwrap_or(1);
    let silent = checks.iter().map(|checks| checks.silent).max().unwrap_or(1);
    if all > MAX_CHECKS {
        return refused(format!("its references multiply to more than {MAX_CHECKS} checks of one value"));
    }
    Ok(Checks { all, silent })
}
