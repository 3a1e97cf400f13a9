//! How much work a schema can ask for at one value of a message, found before the schema is ever run.
//!
//! Two kilobytes of `$ref`s that double at each step ask for millions of checks of a single `null`, and a
//! schema that refers to itself at the same value never ends. Both are properties of the schema alone: its
//! subschemas and references form a graph, and the checks at one value are the paths through the edges that
//! stay at that value (`allOf`, `anyOf`, `$ref`, … but not `properties` or `items`). They are counted here,
//! by walking the graph as the compiler will; the walk is bounded as well, and so the compiler is. What
//! depends on the message, recursion into its parts, is counted while it runs: see [`super::meter`].

use crate::error::Violation;
use jsonschema::{Draft, ReferencingError, Registry, Retrieve, Uri, uri};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Checks that a schema may ask for at one value. One that doubles nothing and fits into 64 KiB stays below.
const MAX_CHECKS: u64 = 50_000;
/// Subschemas nested in one another at one value: each is some frames of stack.
const MAX_DEPTH: u32 = 128;
/// Subschemas to compile; through `$dynamicRef`, one may count several times.
const MAX_NODES: usize = 50_000;
/// Different regular expressions: compiling one may take some milliseconds.
const MAX_PATTERNS: usize = 256;

/// Keywords with a subschema, or a list of them, that applies to the same value.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// The same for keywords with a map of them.
const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords that hold subschemas without applying them.
const HOLDERS: [&str; 2] = ["definitions", "$defs"];

/// A subschema in the graph.
#[derive(Default)]
struct Node {
    own: u64,
    unevaluated: bool,
    in_place: Vec<usize>,
}

/// Fetches nothing: a reference must stay inside the schema or name a meta-schema of JSON Schema.
pub(super) struct Offline;

impl Retrieve for Offline {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("references are not fetched".into())
    }
}

/// The checks of one value that `schema`, which is valid under its meta-schema, can ask for.
///
/// # Errors
/// The violation, if that is too much, endless, or if a reference leads nowhere.
pub(super) fn measure(schema: &Value, draft: Draft) -> Result<u64, Violation> {
    count(&walk(schema, draft)?)
}

enum Step<E, K> {
    /// Visit a subschema, which its parent applies to the same value or not.
    Enter(E, Option<usize>),
    /// All below it is visited.
    Leave(K),
}

/// The graph of all subschemas that the compiler will visit, in an order that puts the first at the root.
fn walk(schema: &Value, draft: Draft) -> Result<Vec<Node>, Violation> {
    let lost = |error: ReferencingError| unresolved(schema, &error);
    let root = draft.create_resource_ref(schema);
    let base = root.id().unwrap_or("json-schema:///");
    let registry = Registry::new().retriever(Offline).draft(draft).add(base, root).map_err(lost)?;
    let registry = registry.prepare().map_err(lost)?;
    let base = uri::from_str(base.trim_end_matches('#')).map_err(lost)?;

    let mut nodes: Vec<Node> = Vec::new();
    // As the compiler does: a subschema is compiled again under another dynamic scope, but not inside itself.
    let mut known = HashMap::new();
    let mut open: HashMap<usize, usize> = HashMap::new();
    let mut patterns: HashSet<&str> = HashSet::new();
    let mut steps = vec![Step::Enter((schema, draft, registry.resolver(base)), None)];
    while let Some(step) = steps.pop() {
        let ((contents, draft, resolver), parent) = match step {
            Step::Enter(subschema, parent) => (subschema, parent),
            Step::Leave(address) => {
                open.remove(&address);
                continue;
            }
        };
        let Value::Object(keywords) = contents else {
            if let Some(parent) = parent {
                nodes[parent].own += 1;
            }
            continue;
        };
        let address = std::ptr::from_ref(contents).addr();
        let key = (address, resolver.base_uri(), resolver.dynamic_scope());
        if let Some(&id) = open.get(&address).or_else(|| known.get(&key)) {
            if let Some(parent) = parent {
                nodes[parent].in_place.push(id);
            }
            continue;
        }
        let id = nodes.len();
        if id == MAX_NODES {
            return Err(Violation::new("", "schema", format!("more than {MAX_NODES} subschemas to compile")));
        }
        if let Some(parent) = parent {
            nodes[parent].in_place.push(id);
        }
        known.insert(key, id);
        open.insert(address, id);
        steps.push(Step::Leave(address));

        let adjacent = !matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7);
        let reference =
            |keyword: &str| keywords.get(keyword).and_then(Value::as_str).filter(|r| !r.is_empty());
        let mut targets = Vec::new();
        for keyword in ["$ref", "$dynamicRef"] {
            if let Some(reference) = reference(keyword) {
                targets.push(resolver.lookup(reference).map_err(lost)?);
            }
        }
        if draft == Draft::Draft201909 && reference("$recursiveRef").is_some() {
            targets.push(resolver.lookup_recursive_ref().map_err(lost)?);
        }
        for target in targets {
            let (target, resolver, draft) = target.into_inner();
            // The compiler leaves a reference to itself out.
            if !std::ptr::eq(target, contents) {
                steps.push(Step::Enter((target, draft, resolver), Some(id)));
            }
        }
        if !adjacent && keywords.contains_key("$ref") {
            nodes.push(Node { own: 1, ..Node::default() });
            continue;
        }
        let (own, unevaluated) = own_checks(keywords);
        nodes.push(Node { own, unevaluated, in_place: Vec::new() });
        patterns.extend(keywords.get("pattern").and_then(Value::as_str));
        patterns.extend(members(keywords, "patternProperties").map(|(pattern, _)| pattern.as_str()));
        if patterns.len() > MAX_PATTERNS {
            return Err(Violation::new(
                "",
                "pattern",
                format!("more than {MAX_PATTERNS} regular expressions"),
            ));
        }
        let held: HashSet<usize> = HOLDERS
            .iter()
            .flat_map(|keyword| members(keywords, keyword))
            .map(|(_, s)| address_of(s))
            .collect();
        let here = in_place(keywords);
        let same: HashSet<usize> = here.iter().map(|subschema| address_of(subschema)).collect();
        let below = draft.subresources_of(contents).filter(|s| !same.contains(&address_of(s)));
        let below = below.filter(|s| !held.contains(&address_of(s))).map(|subschema| (subschema, None));
        for (subschema, parent) in here.iter().map(|subschema| (*subschema, Some(id))).chain(below) {
            let draft = draft.detect(subschema);
            if draft == Draft::Unknown {
                return Err(Violation::new("", "$schema", "an unknown dialect inside the schema"));
            }
            let resolver = resolver.in_subresource(draft.create_resource_ref(subschema)).map_err(lost)?;
            steps.push(Step::Enter((subschema, draft, resolver), parent));
        }
    }
    Ok(nodes)
}

fn address_of(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

fn members<'a>(
    keywords: &'a Map<String, Value>,
    keyword: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    keywords.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

/// The subschemas that apply to the same value as `keywords` do, references aside.
fn in_place(keywords: &Map<String, Value>) -> Vec<&Value> {
    let direct = IN_PLACE.iter().filter_map(|keyword| keywords.get(*keyword)).flat_map(|value| match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    let mapped = IN_PLACE_MAPS.iter().flat_map(|keyword| members(keywords, keyword)).map(|(_, s)| s);
    // A list of names, not a schema: the other form of `dependencies`.
    direct.chain(mapped.filter(|subschema| !subschema.is_array())).collect()
}

/// What the keywords of one subschema do themselves, and whether they look for unevaluated parts.
fn own_checks(keywords: &Map<String, Value>) -> (u64, bool) {
    let length = |keyword: &str| keywords.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
    let lists = (length("enum") + length("required")) / 8;
    let patterns = members(keywords, "patternProperties").count() * 4;
    let unevaluated =
        keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems");
    ((1 + keywords.len() + lists + patterns) as u64, unevaluated)
}

/// The checks of one value that the heaviest node asks for: a sum along the edges, from the leaves up.
fn count(nodes: &[Node]) -> Result<u64, Violation> {
    let mut waiting: Vec<usize> = nodes.iter().map(|node| node.in_place.len()).collect();
    let mut parents: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (id, node) in nodes.iter().enumerate() {
        for &child in &node.in_place {
            parents[child].push(id);
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&id| waiting[id] == 0).collect();
    // What `unevaluatedProperties` does: it asks every branch again which properties that one has seen.
    let mut marks = vec![0_u64; nodes.len()];
    let mut checks = vec![0_u64; nodes.len()];
    let mut depths = vec![0_u32; nodes.len()];
    let mut done = 0;
    while let Some(id) = ready.pop() {
        done += 1;
        let node = &nodes[id];
        for &child in &node.in_place {
            checks[id] = checks[id].saturating_add(checks[child]);
            marks[id] = marks[id].saturating_add(checks[child]).saturating_add(marks[child]);
            depths[id] = depths[id].max(depths[child] + 1);
        }
        checks[id] = checks[id].saturating_add(node.own);
        if node.unevaluated {
            checks[id] = checks[id].saturating_add(marks[id]);
        }
        for &parent in &parents[id] {
            waiting[parent] -= 1;
            if waiting[parent] == 0 {
                ready.push(parent);
            }
        }
    }
    if done < nodes.len() {
        return Err(Violation::new(
            "",
            "$ref",
            "the schema applies itself to the same value again, endlessly",
        ));
    }
    if depths.iter().any(|&depth| depth > MAX_DEPTH) {
        return Err(Violation::new(
            "",
            "$ref",
            format!("more than {MAX_DEPTH} subschemas inside one another"),
        ));
    }
    let heaviest = checks.into_iter().max().unwrap_or(1);
    if heaviest > MAX_CHECKS {
        return Err(Violation::new(
            "",
            "$ref",
            format!("its references multiply to more than {MAX_CHECKS} checks of one value"),
        ));
    }
    Ok(heaviest)
}

/// The violation for a reference that cannot be resolved, at the `$ref`s it may mean.
fn unresolved(schema: &Value, error: &ReferencingError) -> Violation {
    match error {
        ReferencingError::Unretrievable { uri, .. } => Violation::new(
            pointer_to_reference(schema, uri, "").unwrap_or_default(),
            "$ref",
            "leads outside of the schema: references to other documents are not fetched",
        ),
        ReferencingError::UnknownSpecification { .. } => {
            Violation::new("", "$schema", "an unknown dialect inside the schema")
        }
        ReferencingError::InvalidUri(_) => Violation::new("", "$ref", "not a URI reference"),
        _ => Violation::new("", "$ref", "leads nowhere"),
    }
}

/// The pointer to a reference that may have meant the document `uri`.
fn pointer_to_reference(value: &Value, uri: &str, at: &str) -> Option<String> {
    let document = |reference: &str| reference.split('#').next().unwrap_or_default().to_owned();
    match value {
        Value::Object(members) => members.iter().find_map(|(name, child)| {
            let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            let refers = matches!(name.as_str(), "$ref" | "$dynamicRef")
                && child.as_str().map(document).is_some_and(|named| {
                    let named = named.trim_start_matches(['.', '/']);
                    !named.is_empty() && document(uri).ends_with(named)
                });
            if refers { Some(at) } else { pointer_to_reference(child, uri, &at) }
        }),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, child)| pointer_to_reference(child, uri, &format!("{at}/{index}")))
        }
        _ => None,
    }
}
