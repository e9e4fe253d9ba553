//! The API server's own figures: what it was asked, and by whom.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

/// Number of requests by `<verb> <resource>`, such as `POST pods` and `PATCH daskclusters/status`; answers that
/// are no success have their code behind.
pub type Requests = BTreeMap<String, f64>;

/// One reading of the API server's metrics.
#[derive(Debug)]
pub struct ApiMetrics {
    text: String,
}

impl ApiMetrics {
    /// Reads them. It takes the API server some tens of milliseconds: not while something is timed.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(Self { text: client.request_text(request).await? })
    }

    /// Requests that were matched with a FlowSchema so far.
    #[must_use]
    pub fn dispatched(&self, flow_schema: &str) -> f64 {
        let samples = samples(&self.text, "apiserver_flowcontrol_dispatched_requests_total");
        samples
            .filter(|(labels, _)| label(labels, "flow_schema") == flow_schema)
            .map(|(_, value)| value)
            .sum()
    }

    /// Requests about resources so far, of all clients. Watches, and the leases by which the API server tells that
    /// it lives, are left out.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let mut requests = Requests::new();
        for (labels, value) in samples(&self.text, "apiserver_request_total") {
            let [verb, resource, part, code] =
                ["verb", "resource", "subresource", "code"].map(|key| label(labels, key));
            if ["", "leases"].contains(&resource) || ["WATCH", "CONNECT"].contains(&verb) {
                continue;
            }
            let slash = if part.is_empty() { "" } else { "/" };
            let failure = if code.starts_with('2') { String::new() } else { format!(" → {code}") };
            *requests.entry(format!("{verb} {resource}{slash}{part}{failure}")).or_default() += value;
        }
        requests
    }
}

/// What came between two readings.
#[must_use]
pub fn between(before: &Requests, after: &Requests) -> Requests {
    let since = |(key, value): (&String, &f64)| (key.clone(), value - before.get(key).unwrap_or(&0.0));
    after.iter().map(since).filter(|(_, value)| *value > 0.0).collect()
}

/// Labels and value of each sample of a metric.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels, value.parse().ok()?))
    })
}

/// The value of a label, empty without one.
fn label<'a>(labels: &'a str, key: &str) -> &'a str {
    let value =
        labels.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'));
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> ApiMetrics {
        let request = |verb: &str, resource: &str, part: &str, code: u16, count: u32| {
            format!(
                "apiserver_request_total{{code=\"{code}\",resource=\"{resource}\",subresource=\"{part}\",\
                 verb=\"{verb}\"}} {count}\n"
            )
        };
        let flow = |schema: &str, count: u32| {
            format!(
                "apiserver_flowcontrol_dispatched_requests_total{{flow_schema=\"{schema}\",\
                 priority_level=\"workload-low\"}} {count}\n"
            )
        };
        let text = [
            "# HELP apiserver_request_total Requests\n".to_owned(),
            request("POST", "pods", "", 201, 600),
            request("POST", "pods", "", 409, 2),
            request("PATCH", "daskclusters", "status", 200, 400),
            request("WATCH", "pods", "", 200, 9),
            request("PUT", "leases", "", 200, 9),
            request("GET", "", "", 200, 9),
            "apiserver_request_total_other{verb=\"POST\",resource=\"pods\"} 1e9\n".to_owned(),
            flow("bench-operator-writes", 1_002),
            flow("bench-operator-writes-not", 7),
        ];
        ApiMetrics { text: text.concat() }
    }

    #[test]
    fn requests_are_told_apart_by_verb_resource_and_failure() {
        let expected = [("PATCH daskclusters/status", 400.0), ("POST pods", 600.0), ("POST pods → 409", 2.0)];
        assert_eq!(metrics().requests(), expected.map(|(key, count)| (key.to_owned(), count)).into());
    }

    #[test]
    fn a_flow_schema_is_found_by_its_whole_name() {
        assert!((metrics().dispatched("bench-operator-writes") - 1_002.0).abs() < 0.5);
        assert!(metrics().dispatched("bench-operator").abs() < 0.5);
    }

    #[test]
    fn only_what_grew_is_a_difference() {
        let of = |pairs: &[(&str, f64)]| -> Requests {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
        };
        let (before, after) = (of(&[("a", 1.0), ("b", 2.0)]), of(&[("a", 1.0), ("b", 5.0), ("c", 1.0)]));
        assert_eq!(between(&before, &after), of(&[("b", 3.0), ("c", 1.0)]));
    }
}
