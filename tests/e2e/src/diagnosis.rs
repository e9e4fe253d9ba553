//! What a person needs to see when something did not work.

use std::fmt::Write as _;

use testbed::chain;

use crate::{Kubernetes, operator};

/// Lines of Events and of logs: the end tells the story.
const LINES: usize = 30;

/// A heading and what was found under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub title: String,
    /// What was found.
    pub body: String,
}

/// Conditions, Events, pods and the end of the operator's log. What cannot be had says so in its place.
pub async fn diagnose(kubernetes: &Kubernetes, namespace: &str) -> Vec<Section> {
    let conditions = "jsonpath={range .items[*]}{.kind} {.metadata.name}: {.spec.worker.replicas} wanted\
                      {range .status.conditions[*]}{\"\\n  \"}{.type}={.status} {.reason}: {.message}{end}{\"\\n\"}{end}";
    let conditions = kubernetes
        .kubectl(&format!("get daskclusters,daskworkergroups --namespace {namespace} --output"))
        .args([conditions]);
    let command = |line: String| kubernetes.kubectl(&line);
    let commands = [
        ("conditions", conditions),
        ("pods", command(format!("get pods --namespace {namespace} --output wide"))),
        (
            "events",
            command(format!("get events --namespace {namespace} --sort-by=.metadata.creationTimestamp")),
        ),
        ("nodes", command("get nodes --output wide".to_owned())),
        ("the operator's pods", command(format!("get pods --namespace {} --output wide", operator::RELEASE))),
        (
            "the operator's log",
            command(format!(
                "logs --namespace {} --selector {} --tail {LINES} --prefix",
                operator::RELEASE,
                operator::SELECTOR
            )),
        ),
    ];
    let sections = commands.map(async |(title, command)| {
        let body = command.run().await.unwrap_or_else(|error| chain(&error));
        Section { title: title.to_owned(), body }
    });
    futures::future::join_all(sections).await
}

/// The sections one after the other.
#[must_use]
pub fn render(sections: &[Section]) -> String {
    let mut text = String::new();
    for Section { title, body } in sections {
        let _ = writeln!(text, "--- {title}");
        let lines: Vec<_> = body.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            text.push_str("none\n");
        }
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &str, body: &str) -> Section {
        Section { title: title.to_owned(), body: body.to_owned() }
    }

    #[test]
    fn sections_have_headings_and_empty_ones_say_so() {
        let text = render(&[section("pods", "a\n\nb\n"), section("events", "\n")]);
        assert_eq!(text, "--- pods\na\nb\n--- events\nnone\n");
    }

    #[test]
    fn only_the_end_of_a_long_section_is_shown() {
        let body = (0..1000).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        let text = render(&[section("log", &body)]);
        assert!(text.ends_with("line 999\n") && !text.contains("line 0\n"), "{text}");
    }
}
