use std::ffi::OsString;
use std::time::Duration;

use rstest::rstest;

use super::*;

fn settings(arguments: &[&str]) -> Settings {
    Settings::from_arguments(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn command(arguments: &[&str]) -> Result<Command, clap::Error> {
    let arguments = std::iter::once("dask-operator").chain(arguments.iter().copied()).map(OsString::from);
    Cli::from_arguments(arguments).map(|cli| cli.command)
}

fn run(arguments: &[&str]) -> Settings {
    match command(arguments) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn defaults() {
    let settings = settings(&[]);
    assert_eq!(settings.namespaces(), NamespaceSelection::All);
    assert!(settings.leader_election());
    assert_eq!(settings.worker_allocation(), WorkerAllocation { batch_size: None, delay: Duration::ZERO });
    assert!(settings.events_enabled && settings.telemetry().is_on());
    assert_eq!(settings.events_level, EventLevel::Normal);
    assert_eq!(settings.max_in_flight, 32);
    assert_eq!(settings.log_filter(), "info");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.warnings(), Vec::<String>::new());
    let ProbeServer::At { address, health_path } = settings.liveness else { panic!("the server is on") };
    assert_eq!((address.port(), health_path.as_str()), (8080, "/healthz"));
}

#[test]
fn the_arguments_of_the_upstream_chart() {
    let settings = run(&["--liveness=http://0.0.0.0:8080/healthz", "--verbose", "--all-namespaces"]);
    assert_eq!(settings.namespaces(), NamespaceSelection::All);
    assert_eq!(settings.log_filter(), "info,dask_operator=debug");
    assert_eq!(settings.warnings(), Vec::<String>::new());
}

#[test]
fn every_argument_of_kopf() {
    let settings = run(&[
        "run",
        "-L",
        "http://:1/",
        "-n",
        "a",
        "-n",
        "b",
        "-P",
        "peers",
        "-p",
        "-5",
        "-m",
        "one",
        "-m",
        "two",
        "--standalone",
        "--dev",
        "-v",
        "-d",
        "-q",
        "--log-format",
        "[%(levelname)s]",
        "--log-prefix",
        "--no-log-prefix",
        "--log-refkey",
        "ref",
        "controller.py",
    ]);
    assert!(!settings.leader_election(), "--standalone is kopf's word for it");
    assert_eq!(settings.log_filter(), "debug");
    let warnings = settings.warnings().join("\n");
    for ignored in
        ["--dev", "--peering", "--priority", "--module", "--log-refkey", "Python files", "[%(levelname)s]"]
    {
        assert!(warnings.contains(ignored), "{ignored} is not in: {warnings}");
    }
}

#[test]
fn arguments_given_twice_as_by_a_chart_and_its_user() {
    let settings = run(&["--all-namespaces", "--log-format=json", "--all-namespaces", "--log-format=text"]);
    assert!(settings.all_namespaces);
    assert_eq!(settings.log_format, LogFormat::Text, "the last one wins");
    let settings = run(&["--namespace=a", "-n=b,team-*"]);
    assert_eq!(settings.namespaces.len(), 3);
}

#[rstest]
#[case(&[], true)]
#[case(&["--leader-elect"], true)]
#[case(&["--leader-elect=true"], true)]
#[case(&["--leader-elect=false"], false)]
#[case(&["--standalone"], false)]
#[case(&["--standalone", "--leader-elect=true"], true)]
fn election(#[case] arguments: &[&str], #[case] expected: bool) {
    assert_eq!(settings(arguments).leader_election(), expected);
}

#[rstest]
#[case(&["-q"], "warn")]
#[case(&["--log-level=trace", "-q"], "trace")]
#[case(&["--log-level="], "info")]
fn log_filters(#[case] arguments: &[&str], #[case] expected: &str) {
    assert_eq!(settings(arguments).log_filter(), expected);
}

#[test]
fn other_commands() {
    assert!(matches!(command(&["crd"]), Ok(Command::Crd)));
    assert!(matches!(command(&["version"]), Ok(Command::Version)));
    assert!(matches!(command(&["metrics-reference"]), Ok(Command::MetricsReference)));
    assert!(matches!(command(&[]), Ok(Command::Run(_))));
    assert!(matches!(command(&["/src/controller.py", "-A"]), Ok(Command::Run(_))));
    for about in ["--help", "--version"] {
        assert!(!command(&[about]).unwrap_err().use_stderr(), "{about} is not an error");
    }
}

/// Flag, value and cure of each mistake.
#[rstest]
#[case(&["--liveness=https://0.0.0.0:1/"], &["--liveness", "https://0.0.0.0:1/", "http://"])]
#[case(&["--namespace=Team A"], &["--namespace", "Team A", "lower-case"])]
#[case(&["-A", "-n", "a"], &["--all-namespaces", "--namespace", "cannot be used with"])]
#[case(&["--worker-batch-size=0"], &["--worker-batch-size", "'0'", "from 1 on"])]
#[case(&["--worker-batch-delay=soon"], &["--worker-batch-delay", "soon", "seconds"])]
#[case(&["--events-enabled=maybe"], &["--events-enabled", "maybe", "true or false"])]
#[case(&["--events-level=loud"], &["--events-level", "loud", "WARNING"])]
#[case(&["--max-in-flight=0"], &["--max-in-flight", "'0'", "1..=1024"])]
#[case(&["--log-level=a=b=c"], &["--log-level", "a=b=c", "directives"])]
#[case(&["--leader-elect=perhaps"], &["--leader-elect", "perhaps", "true, false"])]
#[case(&["--leader-elekt=true"], &["--leader-elekt", "--leader-elect"])]
#[case(&["crds"], &["crds", "crd"])]
fn mistakes_are_named(#[case] arguments: &[&str], #[case] words: &[&str]) {
    let error = command(arguments).unwrap_err();
    assert!(error.use_stderr());
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn a_given_identity_is_kept() {
    assert_eq!(settings(&["--identity=operator-0"]).identity(), "operator-0");
    assert_eq!(settings(&["--lease-namespace=dask"]).lease_namespace().as_deref(), Some("dask"));
}
