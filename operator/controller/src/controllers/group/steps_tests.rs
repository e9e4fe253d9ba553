use dask_operator_api::Reason;

use super::*;
use crate::controllers::group::paced::Written;
use crate::writer::{Target, WriteError};

fn group() -> ObjectMeta {
    ObjectMeta { uid: Some("a".to_owned()), generation: Some(1), ..ObjectMeta::default() }
}

fn key() -> ObjectKey {
    ObjectKey::new("ns", "g")
}

fn conflict(kind: &'static str) -> WriteError {
    WriteError::Conflict { target: Target { verb: "patch", kind: kind.into(), key: key() } }
}

fn not_found(kind: &'static str) -> WriteError {
    let target = Target { verb: "patch", kind: kind.into(), key: key() };
    WriteError::NotFound { target, message: "not found".to_owned() }
}

fn refused() -> Outcome {
    Outcome { refused: Some(Obstacle::new(Reason::AdmissionRefused, "no")), ..Outcome::default() }
}

fn done() -> impl Future<Output = Outcome> {
    std::future::ready(Outcome::of(Ok(Written::Done)))
}

#[tokio::test]
async fn a_failure_skips_nothing_and_is_told_at_the_end() {
    let (obstacles, key, group) = (Obstacles::default(), key(), group());
    let mut steps = Steps::new(&obstacles, &key, &group, Instant::now());
    let failed = steps.take(Purpose::Creation, true, async { Outcome::of(Err(conflict("Pod"))) }).await;
    assert_eq!(failed.done, 0);
    steps.take(Purpose::Mark, true, async { Outcome::of(Err(conflict("DaskWorkerGroup"))) }).await;
    assert_eq!(steps.take(Purpose::Deletion, true, done()).await.done, 1);
    let error = steps.end().unwrap_err().to_string();
    assert!(error.contains("failed to apply"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_kept_and_bars_only_its_own_kind() {
    let (obstacles, key, group, now) = (Obstacles::default(), key(), group(), Instant::now());
    let mut steps = Steps::new(&obstacles, &key, &group, now);
    steps.take(Purpose::Mark, true, async { refused() }).await;
    assert_eq!(steps.end().unwrap(), Some(Duration::from_secs(2)));
    let told: Vec<_> = obstacles.all(&key).into_iter().map(|(purpose, _)| purpose).collect();
    assert_eq!(told, [Purpose::Mark]);

    let mut steps = Steps::new(&obstacles, &key, &group, now);
    assert_eq!(steps.take(Purpose::Mark, true, done()).await.done, 0, "it is not tried yet");
    assert_eq!(steps.take(Purpose::Deletion, true, done()).await.done, 1);
    assert!(steps.end().unwrap().is_some_and(|wait| wait > Duration::ZERO));

    let mut steps = Steps::new(&obstacles, &key, &group, now + Duration::from_secs(3));
    assert_eq!(steps.take(Purpose::Mark, true, done()).await.done, 1);
    assert_eq!((steps.end().unwrap(), obstacles.all(&key)), (None, vec![]));
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_no_obstacle() {
    let (obstacles, key, group) = (Obstacles::default(), key(), group());
    let mut steps = Steps::new(&obstacles, &key, &group, Instant::now());
    steps.take(Purpose::Creation, true, async { refused() }).await;
    steps.take(Purpose::Creation, false, done()).await;
    assert_eq!(obstacles.all(&key), []);
}

#[tokio::test]
async fn what_was_left_goes_on_at_once_and_what_changed_a_little_later() {
    let (obstacles, key, group) = (Obstacles::default(), key(), group());
    let mut steps = Steps::new(&obstacles, &key, &group, Instant::now());
    let changed = Outcome { changed: true, ..Outcome::default() };
    steps.take(Purpose::Mark, true, async { changed }).await;
    assert_eq!(steps.wait, Some(CHANGED_PAUSE));
    let left = Outcome { left: true, ..Outcome::default() };
    steps.take(Purpose::Creation, true, async { left }).await;
    assert_eq!(steps.end().unwrap(), Some(Duration::ZERO));
}

#[tokio::test]
async fn that_the_group_is_gone_matters_more_than_another_failure() {
    let (obstacles, key, group) = (Obstacles::default(), key(), group());
    let mut steps = Steps::new(&obstacles, &key, &group, Instant::now());
    steps.take(Purpose::Creation, true, async { Outcome::of(Err(conflict("Pod"))) }).await;
    assert!(!steps.is_gone());
    steps.fail(not_found("DaskWorkerGroup"));
    steps.fail(conflict("Pod"));
    assert!(steps.is_gone() && steps.end().unwrap_err().means_gone("DaskWorkerGroup", &key));
}
