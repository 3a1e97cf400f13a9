//! What was handed in is there, once, and has come to its end; nothing else is.

use super::Finding;
use crate::history::{Event, Phase, What};
use std::collections::{BTreeMap, BTreeSet};

/// What clients know of a tag.
#[derive(Default)]
struct Known<'a> {
    into: &'a str,
    keyed: bool,
    /// The ids that it was acknowledged with.
    acknowledged: BTreeSet<&'a str>,
    /// Whether any try may have stored it.
    possible: bool,
}

/// What is stored at the end.
struct Stored<'a> {
    id: &'a str,
    /// Why it is not over.
    open: Option<String>,
}

pub(super) fn check(events: &[Event], found: &mut Vec<Finding>) {
    let (known, stored) = (known(events), stored(events));
    let of = |tag: &str| stored.get(tag).map(Vec::as_slice).unwrap_or_default();
    for (tag, known) in &known {
        let there = of(tag);
        for id in &known.acknowledged {
            match there.iter().find(|stored| stored.id == *id) {
                None => {
                    found
                        .push(Finding::new("lost", format!("{tag} in {}, acknowledged as {id}", known.into)));
                }
                Some(Stored { open: Some(open), .. }) => {
                    let words = format!("{tag} in {}, acknowledged as {id}, has no end: {open}", known.into);
                    found.push(Finding::new("lost", words));
                }
                Some(_) => {}
            }
        }
        if !known.possible && !there.is_empty() {
            let words = format!("{tag} in {} was refused or rolled back, and is there", known.into);
            found.push(Finding::new("unexpected", words));
        }
        if there.len() > 1 || known.acknowledged.len() > 1 {
            let kind = if known.keyed { "a key made two" } else { "stored twice" };
            let ids: BTreeSet<&str> =
                there.iter().map(|stored| stored.id).chain(known.acknowledged.iter().copied()).collect();
            found.push(Finding::new(kind, format!("{tag} in {}: {ids:?}", known.into)));
        }
    }
    for (tag, all) in &stored {
        let Some(known) = known.get(tag) else {
            found.push(Finding::new("unexpected", format!("{tag}: nobody pushed it")));
            continue;
        };
        for Stored { id, open } in all.iter().filter(|stored| !known.acknowledged.contains(stored.id)) {
            if let Some(open) = open {
                found.push(Finding::new("unfinished", format!("{tag} in {}, {id}: {open}", known.into)));
            }
        }
    }
    children(events, found);
}

fn known(events: &[Event]) -> BTreeMap<&str, Known<'_>> {
    let mut all: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for event in events {
        let What::Push { phase, into, tags, key, ids, .. } = &event.what else { continue };
        for (at, tag) in tags.iter().enumerate() {
            let known = all.entry(tag).or_default();
            known.into = into;
            known.keyed |= key.is_some();
            match phase {
                Phase::Invoke | Phase::Fail => {}
                Phase::Unknown => known.possible = true,
                Phase::Ok => {
                    known.possible = true;
                    known.acknowledged.extend(ids.get(at).map(String::as_str));
                }
            }
        }
    }
    // An operation that never came to an end is unknown.
    let mut open: BTreeMap<u64, &Vec<String>> = BTreeMap::new();
    for event in events {
        let What::Push { op, phase, tags, .. } = &event.what else { continue };
        match phase {
            Phase::Invoke => _ = open.insert(*op, tags),
            _ => _ = open.remove(op),
        }
    }
    for tag in open.values().copied().flatten() {
        if let Some(known) = all.get_mut(tag.as_str()) {
            known.possible = true;
        }
    }
    all
}

fn stored(events: &[Event]) -> BTreeMap<&str, Vec<Stored<'_>>> {
    let mut all: BTreeMap<&str, Vec<Stored<'_>>> = BTreeMap::new();
    let undelivered: BTreeMap<&str, String> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::LastDelivery { id, tag, status, .. } if status != "COMPLETE" => {
                Some((tag.as_str(), format!("the delivery {id} is {status}")))
            }
            _ => None,
        })
        .collect();
    for event in events {
        match &event.what {
            What::LastMessage { id, tag, status, .. } => {
                let open = (!matches!(status.as_str(), "COMPLETE" | "ERROR")).then(|| status.clone());
                all.entry(tag).or_default().push(Stored { id, open });
            }
            What::LastHubMessage { id, tag, child: false } => {
                let open = undelivered.get(tag.as_str()).cloned();
                all.entry(tag).or_default().push(Stored { id, open });
            }
            What::LastJob { id, tag, finished, .. } => {
                let open = (!finished).then(|| "not finished".to_owned());
                all.entry(tag).or_default().push(Stored { id, open });
            }
            _ => {}
        }
    }
    all
}

/// What an answer brings is there once, if its delivery is COMPLETE.
fn children(events: &[Event], found: &mut Vec<Finding>) {
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        if let What::LastHubMessage { tag, child: true, .. } = &event.what {
            *there.entry(tag).or_insert(0) += 1;
        }
    }
    let mut due: BTreeSet<&str> = BTreeSet::new();
    for event in events {
        let What::LastDelivery { id, status, brings, .. } = &event.what else { continue };
        for tag in brings {
            if status == "COMPLETE" {
                due.insert(tag);
                if !there.contains_key(tag.as_str()) {
                    found.push(Finding::new("children lost", format!("{tag} of the delivery {id}")));
                }
            }
        }
    }
    for (tag, count) in there {
        if count > 1 {
            found.push(Finding::new("children twice", format!("{tag}, {count} times")));
        }
        if !due.contains(tag) {
            found.push(Finding::new(
                "unexpected",
                format!("{tag}: the child of no delivery that is COMPLETE"),
            ));
        }
    }
}
