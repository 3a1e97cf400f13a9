//! The series of this process: what the macros of `metrics` record, and how long it is kept.
//!
//! Definitions come and go, and may be tens of thousands: a series is there from its first use, those of what is
//! defined go with it or when they have not changed for long, and of each metric there are at most so many names. What
//! is counted of the rest is counted as `other`; gauges do not add up, and are left out. So who records by such a name asks for the series anew for each batch of events:
//! one that is held on to records into nothing once it is over.

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString,
    Unit,
};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of the histograms.
pub(super) const SECONDS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The labels that are names of definitions.
const NAMES: [&str; 3] = ["queue", "store", "endpoint"];
/// What stands for the names beyond the most.
const OTHER: &str = "other";

/// All series. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    pub(super) families: Arc<RwLock<BTreeMap<String, Family>>>,
    /// The most names of definitions that one metric tells.
    most: usize,
    /// How long a series of a definition is kept that does not change.
    idle: Duration,
}

/// The series of one metric.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) help: String,
    pub(super) series: BTreeMap<Labels, Series>,
    /// The names of definitions that it tells.
    names: HashSet<Vec<String>>,
}

/// Names and values of labels, in the order in which they were given.
pub(super) type Labels = Vec<(String, String)>;

/// One series, and since when it has not changed, as far as was seen.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) value: Value,
    seen: Option<(u64, Instant)>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Counter(Arc<AtomicU64>),
    /// The bits of a float.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// How many values lie below each bound, and their sum.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) counts: [AtomicU64; SECONDS.len() + 1],
    /// The bits of a float.
    pub(super) sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = SECONDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        GaugeFn::increment(&self.sum, value);
    }
}

impl Value {
    /// Another number whenever it has changed.
    fn state(&self) -> u64 {
        match self {
            Self::Counter(value) | Self::Gauge(value) => value.load(Relaxed),
            Self::Histogram(buckets) => buckets.counts.iter().map(|count| count.load(Relaxed)).sum(),
        }
    }
}

impl Registry {
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self { families: Arc::default(), most, idle }
    }

    /// The series of this key; where its metric has no room for another name, the series of `other`, and of a gauge
    /// none.
    fn value(&self, key: &Key, new: impl Fn() -> Value) -> Option<Value> {
        let labels: Labels =
            key.labels().map(|label: &Label| (label.key().to_owned(), label.value().to_owned())).collect();
        let found = self.families.read().get(key.name()).and_then(|family| family.find(&labels, self.most));
        if let Some(value) = found {
            return Some(value);
        }
        let mut families = self.families.write();
        let family = families.entry(key.name().to_owned()).or_default();
        let value = new();
        let labels = match &value {
            _ if family.has_room_for(&labels, self.most) => {
                family.names.insert(names(&labels));
                labels
            }
            Value::Gauge(_) => return None,
            _ => as_other(labels),
        };
        Some(family.series.entry(labels).or_insert(Series { value, seen: None }).value.clone())
    }

    /// Forgets the series of definitions that have not changed for long.
    pub(super) fn sweep(&self, now: Instant) {
        for family in self.families.write().values_mut() {
            family.retain(|labels, series| {
                if names(labels).is_empty() {
                    return true;
                }
                let state = series.value.state();
                match series.seen {
                    Some((before, since)) if before == state => {
                        now.saturating_duration_since(since) <= self.idle
                    }
                    _ => {
                        series.seen = Some((state, now));
                        true
                    }
                }
            });
        }
    }

    /// Forgets what has this label.
    pub(super) fn forget(&self, label: &str, value: &str) {
        for family in self.families.write().values_mut() {
            family.retain(|labels, _| !labels.iter().any(|(key, is)| key == label && is == value));
        }
    }

    fn describe(&self, name: &KeyName, help: &SharedString) {
        help.as_ref()
            .clone_into(&mut self.families.write().entry(name.as_str().to_owned()).or_default().help);
    }
}

impl Family {
    fn find(&self, labels: &Labels, most: usize) -> Option<Value> {
        let known = self.series.get(labels);
        let other = || {
            if self.has_room_for(labels, most) { None } else { self.series.get(&as_other(labels.clone())) }
        };
        known.or_else(other).map(|series| series.value.clone())
    }

    fn has_room_for(&self, labels: &Labels, most: usize) -> bool {
        let names = names(labels);
        names.is_empty() || self.names.len() < most || self.names.contains(&names)
    }

    fn retain(&mut self, keep: impl FnMut(&Labels, &mut Series) -> bool) {
        let before = self.series.len();
        self.series.retain(keep);
        if self.series.len() < before {
            let others = |names: &Vec<String>| names.iter().all(|name| name == OTHER);
            self.names = self.series.keys().map(names).filter(|names| !others(names)).collect();
        }
    }
}

/// The names of definitions among the labels.
fn names(labels: &Labels) -> Vec<String> {
    labels.iter().filter(|(key, _)| NAMES.contains(&key.as_str())).map(|(_, value)| value.clone()).collect()
}

fn as_other(labels: Labels) -> Labels {
    let other = |(key, value): (String, String)| {
        if NAMES.contains(&key.as_str()) { (key, OTHER.to_owned()) } else { (key, value) }
    };
    labels.into_iter().map(other).collect()
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.value(key, || Value::Counter(Arc::default())) {
            Some(Value::Counter(value)) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.value(key, || Value::Gauge(Arc::default())) {
            Some(Value::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.value(key, || Value::Histogram(Arc::default())) {
            Some(Value::Histogram(value)) => Histogram::from_arc(value),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::{counter, gauge, histogram, with_local_recorder};

    #[test]
    fn what_is_beyond_the_most_names_is_counted_as_other() {
        let registry = Registry::new(2, Duration::from_mins(1));
        with_local_recorder(&registry, || {
            for queue in ["a", "b", "c", "d", "a"] {
                for outcome in ["completed", "failed"] {
                    counter!("ends", "queue" => queue, "outcome" => outcome).increment(1);
                }
                gauge!("depth", "queue" => queue).set(7.0);
            }
            counter!("routes", "route" => "/x").increment(1);
        });
        let text = registry.render();
        for line in [
            r#"ends{queue="a",outcome="completed"} 2"#,
            r#"ends{queue="b",outcome="failed"} 1"#,
            r#"ends{queue="other",outcome="failed"} 2"#,
            r#"depth{queue="b"} 7"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains(r#""c""#) && !text.contains(r#""d""#), "{text}");
        assert!(!text.contains(r#"depth{queue="other""#), "{text}");
        registry.forget("queue", "a");
        with_local_recorder(&registry, || {
            counter!("ends", "queue" => "d", "outcome" => "failed").increment(1);
        });
        assert!(registry.render().contains(r#"ends{queue="d",outcome="failed"} 1"#), "there is room again");
    }

    #[test]
    fn what_does_not_change_for_long_goes_and_comes_again_with_its_next_use() {
        let registry = Registry::new(100, Duration::from_mins(1));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let used = |queue: &'static str| {
            with_local_recorder(&registry, || {
                counter!("pushed", "queue" => queue).increment(1);
                histogram!("took_seconds", "queue" => queue).record(0.1);
            });
        };
        with_local_recorder(&registry, || gauge!("busy").set(1.0));
        used("idle");
        used("used");
        registry.sweep(at(0));
        used("used");
        registry.sweep(at(50));
        registry.sweep(at(61));
        let text = registry.render();
        assert!(!text.contains("idle") && text.contains(r#"pushed{queue="used"} 2"#), "{text}");
        assert!(text.contains("busy 1"), "{text}");
        used("idle");
        assert!(registry.render().contains(r#"took_seconds_count{queue="idle"} 1"#));
    }
}
