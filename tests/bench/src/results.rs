//! The table and the JSON of a run.

use std::fmt::Write;

use serde::Serialize;
use strum::{Display, EnumString};

/// What is measured. The names stay the same from run to run.
#[derive(Clone, Copy, Debug, Display, EnumString, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Figure {
    /// Rate of objects while many small clusters are created.
    CreateClusters,
    /// Rate of pods while one cluster grows.
    ScaleUp,
    /// Memory that each worker pod adds.
    RssPerPod,
    /// Memory without objects.
    RssIdle,
    /// Writes when there is nothing to do.
    WritesAtRest,
    /// Time until a cluster is Running.
    #[serde(rename = "running-p99")]
    #[strum(serialize = "running-p99")]
    RunningP99,
    /// Time until the operator acts for one namespace while another is full of broken clusters.
    NoisyNeighbour,
    /// CPU that links to idle schedulers take, in cores.
    LinksIdleCores,
    /// Memory that each link to a scheduler adds.
    RssPerLink,
    /// Keys that random scale-downs cost.
    KeysLost,
    /// Tasks that ran twice because of random scale-downs.
    Recomputed,
    /// Time of a scale-down with data.
    #[serde(rename = "drain-10-to-3")]
    #[strum(serialize = "drain-10-to-3")]
    DrainTenToThree,
    /// Time of a scale-down without data.
    #[serde(rename = "drain-10-to-3-empty")]
    #[strum(serialize = "drain-10-to-3-empty")]
    DrainTenToThreeEmpty,
    /// Rate of pods beside that of the Python operator.
    ScaleUpVsDaskKubernetes,
    /// Clusters created at once that reach Running.
    #[serde(rename = "running-50-at-once")]
    #[strum(serialize = "running-50-at-once")]
    RunningFiftyAtOnce,
    /// Time from `KubeCluster()` to the first result, beside that with the Python operator.
    KubeclusterFirstResult,
}

impl Figure {
    /// Those that need no more than an API server.
    pub const ON_API_SERVER: [Self; 8] = [
        Self::CreateClusters,
        Self::ScaleUp,
        Self::RssPerPod,
        Self::RssIdle,
        Self::WritesAtRest,
        Self::RunningP99,
        Self::LinksIdleCores,
        Self::RssPerLink,
    ];
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// What it is of.
    pub name: Figure,
    /// What was measured.
    pub value: f64,
    /// Unit of `value` and `baseline`.
    pub unit: &'static str,
    /// What it is compared with: the raw writer's figure in the same run, or the bar.
    pub baseline: f64,
    /// `value / baseline`; absent where the baseline is 0.
    pub ratio: Option<f64>,
    /// What is demanded.
    #[serde(skip)]
    pub bar: Bar,
}

/// What is demanded of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The ratio must not be below this.
    RatioAtLeast(f64),
    /// The value must not be above the baseline.
    AtMostBaseline,
}

impl Measurement {
    /// A figure and what it is compared with.
    #[must_use]
    pub fn new(name: Figure, value: f64, unit: &'static str, baseline: f64, bar: Bar) -> Self {
        let ratio = (baseline != 0.0).then(|| value / baseline);
        Self { name, value, unit, baseline, ratio, bar }
    }

    /// Whether the bar is met.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.bar {
            Bar::RatioAtLeast(least) => self.ratio.is_some_and(|ratio| ratio >= least),
            Bar::AtMostBaseline => self.value <= self.baseline,
        }
    }

    fn bar_text(&self) -> String {
        match self.bar {
            Bar::RatioAtLeast(least) => format!("ratio ≥ {least}"),
            Bar::AtMostBaseline => format!("≤ {}", number(self.baseline)),
        }
    }
}

/// The figures as a table for people.
#[must_use]
pub fn table(measurements: &[Measurement]) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>10} {:>6}  {:<10} {:<12} {}\n",
        "name", "value", "baseline", "ratio", "unit", "bar", "met"
    );
    for figure in measurements {
        let ratio = figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<28} {:>10} {:>10} {ratio:>6}  {:<10} {:<12} {}",
            figure.name.to_string(),
            number(figure.value),
            number(figure.baseline),
            figure.unit,
            figure.bar_text(),
            if figure.passes() { "yes" } else { "NO" },
        );
    }
    text
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(Figure::CreateClusters, "create-clusters")]
    #[case(Figure::ScaleUp, "scale-up")]
    #[case(Figure::RssPerPod, "rss-per-pod")]
    #[case(Figure::RssIdle, "rss-idle")]
    #[case(Figure::WritesAtRest, "writes-at-rest")]
    #[case(Figure::RunningP99, "running-p99")]
    #[case(Figure::NoisyNeighbour, "noisy-neighbour")]
    #[case(Figure::LinksIdleCores, "links-idle-cores")]
    #[case(Figure::RssPerLink, "rss-per-link")]
    #[case(Figure::KeysLost, "keys-lost")]
    #[case(Figure::Recomputed, "recomputed")]
    #[case(Figure::DrainTenToThree, "drain-10-to-3")]
    #[case(Figure::DrainTenToThreeEmpty, "drain-10-to-3-empty")]
    #[case(Figure::ScaleUpVsDaskKubernetes, "scale-up-vs-dask-kubernetes")]
    #[case(Figure::RunningFiftyAtOnce, "running-50-at-once")]
    #[case(Figure::KubeclusterFirstResult, "kubecluster-first-result")]
    fn figures_have_one_name(#[case] figure: Figure, #[case] name: &str) {
        assert_eq!(name.parse(), Ok(figure));
        assert_eq!(figure.to_string(), name);
        assert_eq!(serde_json::to_value(figure).unwrap(), name);
    }

    #[test]
    fn ratios_and_bars() {
        let rate = |value| {
            Measurement::new(Figure::CreateClusters, value, "objects/s", 400.0, Bar::RatioAtLeast(0.9))
        };
        assert_eq!(rate(380.0).ratio, Some(0.95));
        assert!(rate(380.0).passes() && !rate(300.0).passes());
        let rest =
            |value| Measurement::new(Figure::WritesAtRest, value, "writes/min", 0.0, Bar::AtMostBaseline);
        assert_eq!(rest(0.0).ratio, None);
        assert!(rest(0.0).passes() && !rest(1.0).passes());
    }

    #[test]
    fn the_table_says_what_was_missed() {
        let text = table(&[
            Measurement::new(Figure::ScaleUp, 300.0, "pods/s", 400.0, Bar::RatioAtLeast(0.9)),
            Measurement::new(Figure::RunningP99, 0.61, "s", 1.0, Bar::AtMostBaseline),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("scale-up") && lines[1].contains("0.75") && lines[1].ends_with("NO"));
        assert!(lines[2].contains("≤ 1.00") && lines[2].ends_with("yes"));
    }

    #[test]
    fn the_json_has_the_agreed_keys() {
        let figure = Measurement::new(Figure::ScaleUp, 300.0, "pods/s", 400.0, Bar::RatioAtLeast(0.9));
        let json = serde_json::to_value([figure]).unwrap();
        let expected = serde_json::json!([{
            "name": "scale-up", "value": 300.0, "unit": "pods/s", "baseline": 400.0, "ratio": 0.75,
        }]);
        assert_eq!(json, expected);
    }
}
