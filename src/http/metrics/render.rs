//! The text format of Prometheus, version 0.0.4.

use super::registry::{Buckets, Labels, Registry, SECONDS, Series, Value};
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

impl Registry {
    /// All series, in the order of their names.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.families.read() {
            let Some(first) = family.series.values().next() else { continue };
            if !family.help.is_empty() {
                line(&mut text, format_args!("# HELP {name} {}", escaped(&family.help, false)));
            }
            line(&mut text, format_args!("# TYPE {name} {}", kind(first)));
            for (labels, series) in &family.series {
                match &series.value {
                    Value::Counter(value) => sample(&mut text, name, labels, None, value.load(Relaxed)),
                    Value::Gauge(value) => {
                        sample(&mut text, name, labels, None, f64::from_bits(value.load(Relaxed)));
                    }
                    Value::Histogram(buckets) => histogram(&mut text, name, labels, buckets),
                }
            }
            text.push('\n');
        }
        text
    }
}

fn kind(series: &Series) -> &'static str {
    match series.value {
        Value::Counter(_) => "counter",
        Value::Gauge(_) => "gauge",
        Value::Histogram(_) => "histogram",
    }
}

fn histogram(text: &mut String, name: &str, labels: &Labels, buckets: &Buckets) {
    let mut count = 0;
    let (bucket, bounds) = (format!("{name}_bucket"), SECONDS.iter().map(ToString::to_string));
    for (bound, within) in bounds.chain(["+Inf".to_owned()]).zip(&buckets.counts) {
        count += within.load(Relaxed);
        sample(text, &bucket, labels, Some(&bound), count);
    }
    sample(text, &format!("{name}_sum"), labels, None, f64::from_bits(buckets.sum.load(Relaxed)));
    sample(text, &format!("{name}_count"), labels, None, count);
}

fn sample(
    text: &mut String,
    name: &str,
    labels: &Labels,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels: Vec<String> = labels
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(key, value)| format!("{key}=\"{}\"", escaped(value, true)))
        .collect();
    if labels.is_empty() {
        line(text, format_args!("{name} {value}"));
    } else {
        line(text, format_args!("{name}{{{}}} {value}", labels.join(",")));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    _ = writeln!(text, "{line}");
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::{counter, describe_histogram, histogram, with_local_recorder};
    use std::time::Duration;

    #[test]
    fn names_are_escaped_and_buckets_add_up() {
        let registry = Registry::new(10, Duration::from_mins(1));
        with_local_recorder(&registry, || {
            counter!("odd", "store" => "a\"b\\c\nd").increment(3);
            describe_histogram!("took_seconds", "How long");
            for seconds in [0.0005, 0.2, 0.3, 1000.0] {
                histogram!("took_seconds").record(seconds);
            }
        });
        let text = registry.render();
        for line in [
            r#"odd{store="a\"b\\c\nd"} 3"#,
            "# HELP took_seconds How long",
            "# TYPE took_seconds histogram",
            r#"took_seconds_bucket{le="0.0005"} 1"#,
            r#"took_seconds_bucket{le="0.25"} 2"#,
            r#"took_seconds_bucket{le="300"} 3"#,
            r#"took_seconds_bucket{le="+Inf"} 4"#,
            "took_seconds_sum 1000.5005",
            "took_seconds_count 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
