//! Figures, and what several measurements of the same figure come to.

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    PerSecond,
    Milliseconds,
    Microseconds,
    Bytes,
    Mebibytes,
    Count,
}

/// One figure of one measurement.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    what: String,
    unit: Unit,
    value: f64,
    /// What it is held against, and how much that reached in the same run.
    beside: Option<(&'static str, f64)>,
    details: Vec<(String, Unit, f64)>,
}

impl Measure {
    pub(super) fn new(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { what: what.into(), unit, value, beside: None, details: Vec::new() }
    }

    /// Holds it against what something else reached.
    #[must_use]
    pub(super) fn beside(mut self, what: &'static str, value: f64) -> Self {
        self.beside = Some((what, value));
        self
    }

    /// Adds what else is known of it.
    #[must_use]
    pub(super) fn with(mut self, what: impl Into<String>, unit: Unit, value: f64) -> Self {
        self.details.push((what.into(), unit, value));
        self
    }
}

/// A figure over all repeats.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) workload: String,
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) samples: Vec<f64>,
    pub(super) beside: Option<Beside>,
    pub(super) details: Vec<Detail>,
}

/// What a figure is held against: the median of the same repeats.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    pub(super) what: &'static str,
    pub(super) median: f64,
    /// The figure's median by this one's.
    pub(super) ratio: f64,
}

/// What else is known of a figure: the median of the repeats.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) median: f64,
}

/// The rows of a workload. Every repeat measured the same figures in the same order.
pub(super) fn summarize(workload: &str, repeats: &[Vec<Measure>]) -> Vec<Row> {
    let Some(first) = repeats.first() else { return Vec::new() };
    first
        .iter()
        .enumerate()
        .map(|(index, figure)| {
            let same: Vec<&Measure> = repeats.iter().filter_map(|measures| measures.get(index)).collect();
            let samples: Vec<f64> = same.iter().map(|measure| measure.value).collect();
            let median_value = median(&samples);
            let beside = figure.beside.map(|(what, _)| {
                let values: Vec<f64> =
                    same.iter().filter_map(|measure| measure.beside).map(|(_, value)| value).collect();
                let beside = median(&values);
                Beside { what, median: beside, ratio: median_value / beside }
            });
            let details = figure
                .details
                .iter()
                .enumerate()
                .map(|(place, (what, unit, _))| {
                    let values: Vec<f64> = same
                        .iter()
                        .filter_map(|measure| measure.details.get(place))
                        .map(|(_, _, value)| *value)
                        .collect();
                    Detail { what: what.clone(), unit: *unit, median: median(&values) }
                })
                .collect();
            Row {
                workload: workload.to_owned(),
                what: figure.what.clone(),
                unit: figure.unit,
                median: median_value,
                min: samples.iter().copied().fold(f64::INFINITY, f64::min),
                max: samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                samples,
                beside,
                details,
            }
        })
        .collect()
}

/// The value in the middle; of an even number, the mean of the two.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}
