//! How the demo is told. Pure: no terminal, no clock, no cluster.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use crate::notebook::Shrinking;

/// Width of the column of titles.
const TITLE: usize = 12;
/// Width of the column of details; a longer one moves the time of its line.
const DETAIL: usize = 64;

/// Whether the reader can see colours and changing lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A file, a pipe, or somebody who said so.
    Plain,
    /// A terminal.
    Terminal,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Terminal => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// What is being done, on a line that its outcome will replace. Nothing where lines cannot be replaced.
#[must_use]
pub fn running(style: Style, title: &str, doing: &str) -> String {
    match style {
        Style::Plain => String::new(),
        Style::Terminal => format!("  {} {title:<TITLE$}{}", style.paint("33", "…"), style.paint("2", doing)),
    }
}

/// What was done, and how long it took.
#[must_use]
pub fn done(style: Style, title: &str, detail: &str, elapsed: Duration) -> String {
    let mark = style.paint("32", "✓");
    let time = style.paint("2", &format!("{:>6.1} s", elapsed.as_secs_f32()));
    format!("{}  {mark} {title:<TITLE$}{detail:<DETAIL$}{time}\n", fresh_line(style))
}

/// What failed, and why.
#[must_use]
pub fn failed(style: Style, title: &str, why: &str) -> String {
    format!("{}  {} {title:<TITLE$}{why}\n", fresh_line(style), style.paint("31", "✗"))
}

fn fresh_line(style: Style) -> &'static str {
    match style {
        Style::Plain => "",
        Style::Terminal => "\r\x1b[K",
    }
}

/// What was seen, once everything went well.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Name of the DaskCluster.
    pub cluster: String,
    /// Name of the pod that Python runs in.
    pub notebook: String,
    /// Workers connected to the scheduler, in the order of the counts.
    pub workers: Vec<usize>,
    /// What every computation gave.
    pub total: f64,
    /// What was seen while the cluster shrank.
    pub shrinking: Shrinking,
    /// What `kubectl get daskcluster` printed.
    pub table: String,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// kubectl, if it is not in the reader's PATH.
    pub kubectl: Option<PathBuf>,
    /// Whether the Kubernetes is the local one.
    pub local: bool,
}

/// The end: what happened, how to look at it, what to try.
#[must_use]
pub fn summary(summary: &Summary, surroundings: &Surroundings, elapsed: Duration) -> String {
    let Summary { cluster, notebook, workers, total, shrinking, table } = summary;
    let counts: Vec<_> = workers.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "\n  Workers {}, the result {} each time, {:.1} s in all.\n",
        counts.join(" → "),
        grouped(*total),
        elapsed.as_secs_f32()
    );
    text.push_str(&recomputed(shrinking));
    text.push_str("\n  $ kubectl get daskcluster\n");
    for line in table.lines() {
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text.push_str("\n  The dashboard, at http://localhost:8787/status:\n");
    let mut commands = vec![format!("export KUBECONFIG={}", surroundings.kubeconfig.display())];
    if let Some(kubectl) = &surroundings.kubectl {
        commands.push(format!("alias kubectl={}", kubectl.display()));
    }
    commands.push(format!("kubectl port-forward service/{cluster}-scheduler 8787"));
    write_commands(&mut text, &commands);
    text.push_str("\n  Try next:\n");
    let mut commands = vec![
        format!("kubectl scale daskcluster {cluster} --replicas=3"),
        format!("kubectl describe daskcluster {cluster}"),
        format!("kubectl exec -it {notebook} -- python"),
        "  >>> from dask_kubernetes.operator import KubeCluster".to_owned(),
        format!("  >>> cluster = KubeCluster.from_name(\"{cluster}\"); cluster.scale(5)"),
        "  >>> cluster.get_client().submit(sum, range(1000)).result()".to_owned(),
    ];
    if surroundings.local {
        commands.push("make down    # ends the local Kubernetes and everything on it".to_owned());
    } else {
        commands.push(format!("kubectl delete daskcluster/{cluster} pod/{notebook}"));
        commands
            .push(format!("kubectl delete rolebinding/{notebook} role/{notebook} serviceaccount/{notebook}"));
        commands.push("helm uninstall dask-operator --namespace dask-operator".to_owned());
    }
    write_commands(&mut text, &commands);
    text
}

/// By the scheduler's own records, and by traces that each execution of a task left.
fn recomputed(seen: &Shrinking) -> String {
    let again = seen.executions.saturating_sub(seen.tasks);
    let [before, after] = seen.workers;
    format!(
        "  While {} went, {} tasks ran {} times ({} of them on these workers): {} computed again, {} lost.\n",
        counted(before.saturating_sub(after), "worker"),
        seen.tasks,
        seen.executions,
        seen.on_gone,
        if again == 0 { "nothing".to_owned() } else { counted(again, "task") },
        counted(seen.lost, "result")
    )
}

fn write_commands(text: &mut String, commands: &[String]) {
    for command in commands {
        let _ = writeln!(text, "    {command}");
    }
}

/// A number with its digits in groups of three, without fraction.
#[must_use]
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

/// `1 worker`, `2 workers`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
