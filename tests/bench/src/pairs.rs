//! Rounds of both sides in turn, and what they say when they are laid side by side.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::api_metrics::Requests;
use crate::processes::CpuSeconds;
use crate::results::{Bar, Figure, Measurement};
use crate::statistics::median;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The baseline.
    RawWriter,
    /// What is measured.
    Operator,
}

/// The order within a pair: A B, B A, and so on, so that neither side always comes after the other.
#[must_use]
pub fn order(pair: usize) -> [Side; 2] {
    if pair.is_multiple_of(2) { [Side::RawWriter, Side::Operator] } else { [Side::Operator, Side::RawWriter] }
}

/// One timed round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// From the start until every object was seen.
    pub seconds: f64,
    /// CPU time of that time.
    pub cpu: CpuSeconds,
    /// Writes of the side, also those that followed when every object was there.
    pub writes: f64,
    /// Requests of everybody in the same time as `writes`.
    pub requests: Requests,
}

/// What a comparison is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The figure.
    pub name: Figure,
    /// Unit of the rates.
    pub unit: &'static str,
    /// Objects that are made in a round.
    pub objects: usize,
    /// What writes are counted by, and how many of them there are in a round.
    pub per: (&'static str, usize),
}

/// A round of each side, one right after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// Of the raw writer.
    pub raw_writer: Round,
    /// Of the operator.
    pub operator: Round,
}

impl Pair {
    /// The part of the machine that others took in the worse round, from 0 to 1.
    #[must_use]
    pub fn disturbance(&self) -> f64 {
        self.raw_writer.cpu.disturbance().max(self.operator.cpu.disturbance())
    }
}

/// The pairs of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Pairs(Vec<Pair>);

impl Pairs {
    /// Of these pairs the `count` that were disturbed least. They are not chosen by their outcome.
    #[must_use]
    pub fn least_disturbed(mut pairs: Vec<Pair>, count: usize) -> Self {
        pairs.sort_by(|one, other| one.disturbance().total_cmp(&other.disturbance()));
        pairs.truncate(count);
        Self(pairs)
    }

    /// The median rate of the operator, compared with the raw writer's; `None` without pairs.
    #[must_use]
    pub fn measurement(&self, subject: &Subject, bar: Bar) -> Option<Measurement> {
        let rate = |rounds: &[&Round]| median(&rates(rounds, subject.objects));
        let (value, baseline) = (rate(&self.operator())?, rate(&self.raw_writer())?);
        Some(Measurement::new(subject.name, value, subject.unit, baseline, bar))
    }

    fn raw_writer(&self) -> Vec<&Round> {
        self.0.iter().map(|pair| &pair.raw_writer).collect()
    }

    fn operator(&self) -> Vec<&Round> {
        self.0.iter().map(|pair| &pair.operator).collect()
    }

    /// Where the time went, for people: each pair, CPU time and requests of the median round.
    #[must_use]
    pub fn explanation(&self, subject: &Subject) -> String {
        let Subject { name, unit, objects, per } = *subject;
        let (raw, operator) = (rates(&self.raw_writer(), objects), rates(&self.operator(), objects));
        let ratios: Vec<f64> = operator.iter().zip(&raw).map(|(operator, raw)| operator / raw).collect();
        let mut text = format!(
            "{name}: {objects} objects a round\n{:<34}{:>12}{:>12}{:>8}\n",
            "", "raw writer", "operator", "ratio"
        );
        // Writing to a String cannot fail.
        let mut line = |label: &str, raw: String, operator: String, ratio: String| {
            let _ = writeln!(text, "  {label:<32}{raw:>12}{operator:>12}{ratio:>8}");
        };
        for (number, ((raw, operator), ratio)) in raw.iter().zip(&operator).zip(&ratios).enumerate() {
            let label = format!("pair {}, {unit}", number + 1);
            line(&label, format!("{raw:.0}"), format!("{operator:.0}"), format!("{ratio:.3}"));
        }
        let middle = median(&ratios).map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        line("median of the pairs' ratios", String::new(), String::new(), middle);

        let mut compare = |label: &str, decimals: usize, figure: &dyn Fn(&Round) -> f64| {
            let of = |rounds: Vec<&Round>| {
                median(&rounds.into_iter().map(figure).collect::<Vec<_>>()).unwrap_or_default()
            };
            let (raw, operator) = (of(self.raw_writer()), of(self.operator()));
            let ratio = if raw > 0.0 { format!("{:.3}", operator / raw) } else { String::new() };
            line(label, format!("{raw:.decimals$}"), format!("{operator:.decimals$}"), ratio);
        };
        compare("seconds", 2, &|round| round.seconds);
        compare("CPU s of kube-apiserver", 2, &|round| round.cpu.api_server);
        compare("CPU s of etcd", 2, &|round| round.cpu.etcd);
        compare("CPU s of the operator", 2, &|round| round.cpu.operator);
        compare("CPU s of driver, raw writer", 2, &|round| round.cpu.bench);
        compare("CPU s of others", 2, &|round| round.cpu.machine * round.cpu.disturbance());
        compare("CPU s of the machine", 2, &|round| round.cpu.machine);
        compare("cores busy", 2, &|round| round.cpu.machine / round.seconds);
        let (item, items) = per;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let items = items as f64;
        compare(&format!("writes a {item}"), 2, &|round| round.writes / items);
        for request in self.kinds_of_request() {
            compare(request, 0, &|round| round.requests.get(request).copied().unwrap_or(0.0));
        }
        text
    }

    fn kinds_of_request(&self) -> BTreeSet<&str> {
        let rounds = self.0.iter().flat_map(|pair| [&pair.raw_writer, &pair.operator]);
        rounds.flat_map(|round| round.requests.keys()).map(String::as_str).collect()
    }
}

fn rates(rounds: &[&Round], objects: usize) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand objects")]
    let objects = objects as f64;
    rounds.iter().map(|round| objects / round.seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject =
        Subject { name: Figure::ScaleUp, unit: "pods/s", objects: 100, per: ("pod", 100) };

    fn pairs() -> Pairs {
        let round = |seconds: f64, events: f64| Round {
            seconds,
            cpu: CpuSeconds { machine: seconds * 2.0, ..CpuSeconds::default() },
            writes: 101.0,
            requests: [("POST pods".to_owned(), 100.0), ("POST events".to_owned(), events)].into(),
        };
        let seconds = [(1.0, 2.0), (2.0, 2.0), (4.0, 5.0)];
        Pairs(
            seconds
                .map(|(raw, operator)| Pair { raw_writer: round(raw, 0.0), operator: round(operator, 1.0) })
                .into(),
        )
    }

    #[test]
    fn the_pairs_that_count_are_chosen_by_disturbance_alone() {
        let pair = |seconds: f64, api_server: f64| {
            let cpu = CpuSeconds { api_server, machine: 2.0, ..CpuSeconds::default() };
            let operator = Round { seconds, cpu, ..Round::default() };
            Pair { raw_writer: Round { seconds, ..Round::default() }, operator }
        };
        let pairs = Pairs::least_disturbed(vec![pair(1.0, 0.5), pair(2.0, 2.0), pair(3.0, 1.9)], 2);
        let seconds: Vec<f64> = pairs.operator().iter().map(|round| round.seconds).collect();
        assert_eq!(seconds, [2.0, 3.0]);
    }

    #[test]
    fn sides_take_turns_in_going_first() {
        assert_eq!(order(0), [Side::RawWriter, Side::Operator]);
        assert_eq!(order(1), [Side::Operator, Side::RawWriter]);
        assert_eq!(order(2), order(0));
    }

    #[test]
    fn medians_are_compared() {
        let figure = pairs().measurement(&SUBJECT, Bar::RatioAtLeast(0.9)).unwrap();
        assert_eq!((figure.value, figure.baseline, figure.ratio), (50.0, 50.0, Some(1.0)));
        assert_eq!(Pairs::default().measurement(&SUBJECT, Bar::RatioAtLeast(0.9)), None);
    }

    #[test]
    fn the_explanation_has_pairs_processes_and_requests() {
        let text = pairs().explanation(&SUBJECT);
        let words = |start: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default();
            line.trim_start().trim_start_matches(start).split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(words("pair 1, pods/s"), ["100", "50", "0.500"]);
        assert_eq!(words("median of the pairs' ratios"), ["0.800"]);
        assert_eq!(words("cores busy"), ["2.00", "2.00", "1.000"]);
        assert_eq!(words("writes a pod"), ["1.01", "1.01", "1.000"]);
        assert_eq!(words("POST pods"), ["100", "100", "1.000"]);
        assert_eq!(words("POST events"), ["0", "1"]);
    }
}
