//! Whatever happens on the way, the same objects are there in the end, and none was there twice or without an owner.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use integration_tests::fault::{Call, Refusal, every_nth_write, listed};
use integration_tests::scenario::{self, Outcome};
use integration_tests::{ApiServer, Fault, Faults, objects};
use serde_json::Value;
use tokio::sync::OnceCell;

/// Scenarios of one test that run at a time: they mostly wait.
const AT_ONCE: usize = 8;

/// A run of the scenario with its faults.
struct Variant {
    name: String,
    faults: Faults,
}

impl Variant {
    fn new(name: impl Into<String>, plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) -> Self {
        Self { name: name.into(), faults: Faults::plan(plan) }
    }
}

/// The scenario without faults, to compare with; once for all tests.
async fn clean_run() -> &'static Outcome {
    static CLEAN: OnceCell<Outcome> = OnceCell::const_new();
    CLEAN
        .get_or_init(|| async {
            let server = ApiServer::shared().await;
            scenario::run(server, "clean", &Faults::recorder()).await
        })
        .await
}

/// Runs all variants; each must end with the objects of the clean run. Returns how many requests each spoiled.
async fn all_converge(variants: Vec<Variant>) -> Vec<usize> {
    let expected = &clean_run().await.objects;
    let total = variants.len();
    let results =
        stream::iter(variants).map(|variant| converges(variant, expected)).buffer_unordered(AT_ONCE);
    let results: Vec<Result<usize, String>> = results.collect().await;
    let (spoiled, failures): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let failures: Vec<String> = failures.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} of {total} failed:\n\n{}", failures.len(), failures.join("\n\n"));
    spoiled.into_iter().filter_map(Result::ok).collect()
}

async fn converges(variant: Variant, expected: &BTreeMap<String, Value>) -> Result<usize, String> {
    let server = ApiServer::shared().await;
    let run = scenario::run(server, &variant.name, &variant.faults);
    let outcome = AssertUnwindSafe(run).catch_unwind().await.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let spoiled: Vec<_> = variant.faults.calls().into_iter().filter(|call| call.spoiled).collect();
        format!("{}: {}\nspoiled:{}", variant.name, words.unwrap_or("panicked"), listed(&spoiled))
    })?;
    let difference = objects::difference(expected, &outcome.objects);
    if difference.is_empty() {
        return Ok(outcome.spoiled);
    }
    Err(format!("{}:\n  {}", variant.name, difference.join("\n  ")))
}

#[tokio::test]
async fn clean() {
    let outcome = clean_run().await;
    let names: Vec<&str> = outcome.objects.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "ConfigMap sim-dask-operator",
            "DaskCluster sim",
            "DaskWorkerGroup sim-default",
            "DaskWorkerGroup sim-extra",
            "Deployment sim-scheduler",
            "Pod sim-default-worker-#0",
            "Pod sim-default-worker-#1",
            "Pod sim-default-worker-#2",
            "Pod sim-default-worker-#3",
            "Pod sim-extra-worker-#0",
            "Service sim-scheduler",
        ]
    );
    // 2 + 3 created, 3 + 1 + 1 removed and made again: each worker costs one creation, and one deletion if it goes.
    let count =
        |verb, path| outcome.writes.iter().filter(|call| call.verb == verb && call.is_about(path)).count();
    assert_eq!((count("create", "pods"), count("delete", "pods")), (9, 4));
    assert_eq!((count("create", "services"), count("create", "deployments")), (1, 1));
    assert_eq!(count("create", "daskworkergroups"), 1);
    assert_eq!(outcome.spoiled, 0);
}

#[tokio::test]
async fn killed_after_each_write() {
    let writes = clean_run().await.writes.len();
    let variants = (1..=writes).map(|number| {
        Variant::new(format!("crash-{number}"), move |call| {
            if call.write == Some(number) { Fault::Crash } else { Fault::None }
        })
    });
    let spoiled = all_converge(variants.collect()).await;
    // How often a status is written depends on the pace, so the last numbers may not come.
    let crashes = spoiled.iter().filter(|count| **count == 1).count();
    assert!(crashes * 10 >= writes * 8, "{crashes} of {writes} runs were killed");
}

#[tokio::test]
async fn each_reply_is_lost_once() {
    let writes = clean_run().await.writes.len();
    let variants = (1..=writes).map(|number| {
        Variant::new(format!("lost-{number}"), move |call| {
            if call.write == Some(number) { Fault::LoseReply } else { Fault::None }
        })
    });
    let spoiled = all_converge(variants.collect()).await;
    let lost = spoiled.iter().filter(|count| **count == 1).count();
    assert!(lost * 10 >= writes * 8, "{lost} of {writes} runs lost a reply");
}

/// Each write is spoiled in one of `STRIDE` runs, and most of their repetitions pass.
const STRIDE: usize = 4;

#[rstest::rstest]
#[case::unsent("unsent", Fault::FailBeforeSending)]
#[case::forbidden("forbidden", Fault::Refuse(Refusal::FORBIDDEN))]
#[case::conflict("conflict", Fault::Refuse(Refusal::CONFLICT))]
#[case::invalid("invalid", Fault::Refuse(Refusal::INVALID))]
#[case::too_many_requests("too-many", Fault::Refuse(Refusal::TOO_MANY_REQUESTS))]
#[case::internal_error("internal", Fault::Refuse(Refusal::INTERNAL_ERROR))]
#[case::unavailable("unavailable", Fault::Refuse(Refusal::UNAVAILABLE))]
#[case::gateway_timeout("timeout", Fault::Refuse(Refusal::TIMEOUT))]
#[tokio::test]
async fn every_write_fails_in_one_of_the_runs(#[case] name: &str, #[case] fault: Fault) {
    let variants = (0..STRIDE).map(|phase| {
        let plan = every_nth_write(STRIDE, phase, fault.clone());
        // Without the ConfigMap pods are made without modules, which is no fault: it has tests of its own.
        let plan = move |call: &Call| if call.is_about("configmaps") { Fault::None } else { plan(call) };
        Variant::new(format!("{name}-{phase}"), plan)
    });
    let spoiled = all_converge(variants.collect()).await;
    assert!(spoiled.iter().all(|count| *count > 0), "{spoiled:?}");
}

/// Longer than the operator waits for an answer.
const NO_ANSWER: Duration = Duration::from_secs(45);

#[tokio::test]
async fn an_answer_of_each_kind_does_not_come() {
    let writes = &clean_run().await.writes;
    let kinds: BTreeSet<(&str, String)> =
        writes.iter().filter_map(|call| Some((call.verb, call.resource.as_ref()?.path()))).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let variants = kinds.into_iter().map(|(verb, path)| {
        let first = std::sync::atomic::AtomicBool::new(true);
        let name = format!("silent-{verb}-{}", path.replace('/', "-"));
        Variant::new(name, move |call| {
            let meant = call.verb == verb && call.is_about(&path);
            if meant && first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                Fault::DelayReply(NO_ANSWER)
            } else {
                Fault::None
            }
        })
    });
    let spoiled = all_converge(variants.collect()).await;
    assert!(spoiled.iter().all(|count| *count == 1), "{spoiled:?}");
}

#[tokio::test]
async fn watches_are_unreliable() {
    let ms = Duration::from_millis;
    let is_watch = |call: &Call| call.verb == "watch";
    let spoiled = all_converge(vec![
        Variant::new("slow-api", |call| {
            if call.verb == "watch" { Fault::None } else { Fault::DelayReply(Duration::from_millis(300)) }
        }),
        Variant::new(
            "watches-end",
            move |call| if is_watch(call) { Fault::EndWatchAfter(3) } else { Fault::None },
        ),
        Variant::new("watches-expire", move |call| match call.number % 2 {
            _ if !is_watch(call) => Fault::None,
            0 => Fault::Refuse(Refusal::GONE),
            _ => Fault::EndWatchAfter(4),
        }),
        Variant::new("all-stale", move |call| {
            if is_watch(call) { Fault::HoldBackWatch { period: ms(900), open: ms(60) } } else { Fault::None }
        }),
        Variant::new("pods-stale", move |call| {
            let pods = is_watch(call) && call.is_about("pods");
            if pods { Fault::HoldBackWatch { period: ms(1500), open: ms(100) } } else { Fault::None }
        }),
        Variant::new("groups-stale", move |call| {
            let groups = is_watch(call) && call.is_about("daskworkergroups");
            if groups { Fault::HoldBackWatch { period: ms(1500), open: ms(100) } } else { Fault::None }
        }),
    ])
    .await;
    assert!(spoiled.iter().all(|count| *count > 0), "{spoiled:?}");
}
