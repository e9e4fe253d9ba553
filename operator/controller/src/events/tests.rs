use std::sync::Mutex;

use tokio::sync::watch;

use super::*;

type Delivered = Arc<Mutex<Vec<KubernetesEvent>>>;

fn settings(level: EventLevel) -> EventSettings {
    EventSettings { enabled: true, level, reporter: "test".to_owned() }
}

fn start(settings: EventSettings, leadership: Leadership) -> (EventSink, JoinHandle<()>, Delivered) {
    let delivered = Delivered::default();
    let log = delivered.clone();
    let (sink, task) = EventSink::start(settings, leadership, Metrics::new().unwrap(), move |event| {
        log.lock().unwrap().push(event);
        std::future::ready(Ok::<(), std::io::Error>(()))
    });
    (sink, task, delivered)
}

fn object() -> ObjectReference {
    ObjectReference { name: Some("demo".to_owned()), namespace: Some("ns".to_owned()), ..Default::default() }
}

fn event(type_: EventType, message: &str) -> Event {
    Event { type_, reason: Reason::Scaling, action: "Reconcile", message: message.to_owned() }
}

fn messages(delivered: &Delivered) -> Vec<String> {
    delivered.lock().unwrap().iter().filter_map(|event| event.note.clone()).collect()
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn in_order_and_without_repetition() {
    let (sink, task, delivered) = start(settings(EventLevel::Normal), Leadership::always());
    for words in ["one", "two", "one"] {
        sink.publish(object(), event(EventType::Normal, words));
    }
    sink.flush(LIMIT).await;
    assert_eq!(messages(&delivered), ["one", "two"]);
    let text = sink.metrics.render().unwrap();
    assert!(text.contains("dask_operator_events_total{outcome=\"published\"} 2"), "{text}");
    assert!(text.contains("dask_operator_events_total{outcome=\"duplicate\"} 1"), "{text}");
    drop(sink);
    task.await.unwrap();
}

#[tokio::test]
async fn only_the_leader_and_only_the_wanted() {
    let (lead, state) = watch::channel(false);
    let (sink, _task, delivered) = start(settings(EventLevel::Warning), Leadership::follow(state));
    sink.publish(object(), event(EventType::Warning, "as follower"));
    lead.send_replace(true);
    sink.publish(object(), event(EventType::Normal, "not severe enough"));
    sink.publish(object(), event(EventType::Warning, "as leader"));
    sink.flush(LIMIT).await;
    assert_eq!(messages(&delivered), ["as leader"]);

    let off = EventSettings { enabled: false, ..settings(EventLevel::Normal) };
    let (sink, _task, delivered) = start(off, Leadership::always());
    sink.publish(object(), event(EventType::Warning, "off"));
    sink.flush(LIMIT).await;
    assert_eq!(messages(&delivered), Vec::<String>::new());
}

#[tokio::test]
async fn long_messages_are_cut_between_characters() {
    let (sink, _task, delivered) = start(settings(EventLevel::Normal), Leadership::always());
    sink.publish(object(), event(EventType::Normal, &"ü".repeat(2_000)));
    sink.flush(LIMIT).await;
    assert_eq!(messages(&delivered), ["ü".repeat(500)]);
}

#[tokio::test]
async fn what_is_too_much_or_fails_is_counted() {
    let (release, gate) = watch::channel(false);
    let metrics = Metrics::new().unwrap();
    let (sink, _task) =
        EventSink::start(settings(EventLevel::Normal), Leadership::always(), metrics.clone(), move |_| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                Err(std::io::Error::other("refused"))
            }
        });
    for number in 0..150 {
        let object = ObjectReference { name: Some(number.to_string()), ..object() };
        sink.publish(object, event(EventType::Normal, "x"));
    }
    release.send_replace(true);
    sink.flush(LIMIT).await;
    let text = metrics.render().unwrap();
    assert!(text.contains("dask_operator_events_total{outcome=\"failed\"} 100"), "of one namespace: {text}");
    assert!(text.contains("dask_operator_events_total{outcome=\"rate_limited\"} 50"), "{text}");
}

#[tokio::test]
async fn events_of_one_namespace_do_not_wait_for_those_of_another() {
    let delivered = Delivered::default();
    let log = delivered.clone();
    let deliver = move |event: KubernetesEvent| {
        let hangs = event.metadata.namespace.as_deref() == Some("noisy");
        if !hangs {
            log.lock().unwrap().push(event);
        }
        async move { if hangs { std::future::pending().await } else { Ok::<(), std::io::Error>(()) } }
    };
    let metrics = Metrics::new().unwrap();
    let (sink, _task) =
        EventSink::start(settings(EventLevel::Normal), Leadership::always(), metrics, deliver);
    let about = |namespace: &str, number: usize| ObjectReference {
        namespace: Some(namespace.to_owned()),
        name: Some(number.to_string()),
        ..ObjectReference::default()
    };
    for number in 0..500 {
        sink.publish(about("noisy", number), event(EventType::Normal, "x"));
    }
    sink.publish(about("quiet", 0), event(EventType::Normal, "heard"));
    let mut open = sink.shared.open.subscribe();
    let sent = open.wait_for(|_| !delivered.lock().unwrap().is_empty());
    tokio::time::timeout(LIMIT, sent).await.expect("it is sent at once").unwrap();
    assert_eq!(messages(&delivered), ["heard"]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_ever() {
    let (sink, _task) =
        EventSink::start(settings(EventLevel::Normal), Leadership::always(), Metrics::new().unwrap(), |_| {
            std::future::pending::<Result<(), std::io::Error>>()
        });
    sink.publish(object(), event(EventType::Normal, "x"));
    let started = tokio::time::Instant::now();
    sink.flush(LIMIT).await;
    assert_eq!(started.elapsed(), LIMIT);
}
