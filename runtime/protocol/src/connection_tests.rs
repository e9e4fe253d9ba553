use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::*;
use crate::{Budget, message::map, value};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

fn room() -> Room {
    Limits::default().budget.room(LONG)
}

fn deadlines(handshake: Duration) -> Deadlines {
    Deadlines { handshake, ..Deadlines::default() }
}

/// A peer that answers each question with the next of these bytes.
fn peer(answers: Vec<Vec<u8>>) -> (DuplexStream, JoinHandle<Vec<Value>>) {
    let (ours, mut theirs) = duplex(1 << 16);
    let limits = MessageLimits::SMALL;
    let task = tokio::spawn(async move {
        handshake::exchange(&mut theirs, &mut room()).await.unwrap();
        let mut asked = Vec::new();
        for answer in answers {
            let question = frame::read(&mut theirs, &limits, &mut room()).await.unwrap().first.unwrap();
            asked.push(message::decode(&question, &limits).unwrap());
            theirs.write_all(&answer).await.unwrap();
        }
        // Until the client goes.
        while let Ok(frames) = frame::read(&mut theirs, &limits, &mut room()).await {
            asked.push(message::decode(&frames.first.unwrap(), &limits).unwrap());
        }
        asked
    });
    (ours, task)
}

async fn connected(answers: Vec<Vec<u8>>) -> (Connection, JoinHandle<Vec<Value>>) {
    let (stream, task) = peer(answers);
    (Connection::over(stream, Limits::default(), deadlines(LONG)).await.unwrap(), task)
}

fn answer(value: &Value) -> Vec<u8> {
    frame::encode(&message::encode(value))
}

fn exception_of(text: &str) -> Value {
    map([
        ("status", "uncaught-error".into()),
        ("exception_text", text.into()),
        ("exception", map([("__Serialized__", 1.into())])),
    ])
}

#[tokio::test]
async fn questions_are_answered_one_after_the_other() {
    let answers = vec![answer(&7.into()), answer(&exception_of("KeyError('x')")), answer(&Value::Nil)];
    let (mut connection, peer) = connected(answers).await;
    assert_eq!(connection.peer().python, [3, 11, 0]);
    assert_eq!(connection.call("one", vec![("n", 1.into())], LONG).await.unwrap(), Value::from(7));
    let error = connection.call("two", vec![], LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to call two: KeyError('x')");
    assert!(error.is_exception("KeyError") && connection.is_usable());
    assert_eq!(connection.call("three", vec![], LONG).await.unwrap(), Value::Nil);
    connection.close(LONG).await;
    let asked: Vec<_> = peer.await.unwrap();
    let ops: Vec<_> =
        asked.iter().map(|request| value::field(request, "op").unwrap().as_str().unwrap()).collect();
    assert_eq!(ops, ["one", "two", "three", "close"]);
    assert_eq!(value::field(&asked[0], "n"), Some(&Value::from(1)));
    assert_eq!(value::field(&asked[3], "reply"), Some(&Value::from(false)));
}

#[rstest]
#[case::not_msgpack(frame::encode(b"\xc1"))]
#[case::too_large(vec![0xff; 16])]
#[case::nothing_at_all(frame::encode(b""))]
#[tokio::test]
async fn garbled_answer_ends_the_connection(#[case] bytes: Vec<u8>) {
    let (mut connection, _peer) = connected(vec![bytes]).await;
    let error = connection.call("identity", vec![], LONG).await.unwrap_err();
    assert!(matches!(&error, Error::Garbled { step: Step::Call(op), .. } if op == "identity"), "{error:?}");
    assert!(!connection.is_usable());
    let error = connection.call("identity", vec![], LONG).await.unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
}

async fn asked_with(limits: Limits, answer: Vec<u8>) -> (Result<Value, Error>, Connection) {
    let (stream, _peer) = peer(vec![answer]);
    let mut connection = Connection::over(stream, limits, deadlines(LONG)).await.unwrap();
    (connection.call("identity", vec![], LONG).await, connection)
}

#[tokio::test]
async fn an_answer_beyond_the_limits_is_told_apart_from_garbage() {
    let small = MessageLimits { message_bytes: 5_000, items: 50, ..MessageLimits::SMALL };
    let limits = || Limits { small, ..Limits::default() };
    for value in [Value::from("x".repeat(6_000)), Value::Array(vec![Value::Nil; 60])] {
        let (result, connection) = asked_with(limits(), answer(&value)).await;
        let error = result.unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
        assert!(!connection.is_usable());
    }
    let (result, _) = asked_with(limits(), answer(&"x".repeat(4_000).into())).await;
    result.unwrap();
}

#[tokio::test]
async fn the_text_of_an_exception_is_cut_and_escaped() {
    let text = format!("KeyError('\n{}", "x".repeat(500_000));
    let (result, connection) = asked_with(Limits::default(), answer(&exception_of(&text))).await;
    let Error::Remote { exception_text, .. } = result.unwrap_err() else { panic!("an exception") };
    assert!(exception_text.len() <= 256 && exception_text.starts_with("KeyError('\\nxx"), "{exception_text}");
    assert!(connection.is_usable());
}

#[tokio::test]
async fn a_large_answer_takes_from_the_budget_and_gives_back() {
    let budget = Budget::new(4 << 20);
    let (mut connection, _peer) = {
        let (stream, task) = peer(vec![answer(&"x".repeat(900_000).into())]);
        (Connection::over(stream, Limits::sharing(&budget), deadlines(LONG)).await.unwrap(), task)
    };
    let limits = connection.limits().small;
    let question = Question { op: "x", arguments: vec![], deadline: LONG, limits, workers: 0 };
    let measure = |reply: Raw<'_>| (reply.bytes(), reply.len());
    let ((bytes, _), room) = connection.ask(question, measure).await.unwrap();
    assert_eq!((bytes, room.taken() > 800_000), (900_005, true));
    assert!(connection.take_decoding_time() > Duration::ZERO);
    drop(room);
    assert_eq!(budget.available(), budget.total());
}

/// A peer that sends a part of an answer and then nothing.
#[tokio::test(start_paused = true)]
async fn a_slow_peer_has_little_time_once_it_has_taken_from_the_budget() {
    let budget = Budget::new(1 << 20);
    let whole = answer(&"x".repeat(100_000).into());
    for (sent, after) in [(10_000, LONG), (50_000, Deadlines::default().transfer)] {
        let (stream, _peer) = peer(vec![whole[..sent].to_vec()]);
        let mut connection =
            Connection::over(stream, Limits::sharing(&budget), deadlines(LONG)).await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = connection.call("identity", vec![], LONG).await.unwrap_err();
        assert!(error.is_timeout() && !connection.is_usable(), "{error:?}");
        assert_eq!(begun.elapsed(), after, "{sent}");
        assert_eq!(budget.available(), budget.total());
    }
}

#[tokio::test]
async fn an_answer_too_many_ends_the_connection() {
    let twice = [answer(&1.into()), answer(&2.into())].concat();
    let (mut connection, _peer) = connected(vec![twice]).await;
    assert_eq!(connection.call("one", vec![], LONG).await.unwrap(), Value::from(1));
    let error = connection.call("two", vec![], LONG).await.unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "{error:?}");
    assert!(!connection.is_usable());
}

#[tokio::test]
async fn timeout_and_dropped_call_end_the_connection() {
    let (mut connection, _peer) = connected(vec![Vec::new()]).await;
    let error = connection.call("identity", vec![], SHORT).await.unwrap_err();
    assert!(error.is_timeout() && !connection.is_usable(), "{error:?}");

    let (mut connection, _peer) = connected(vec![Vec::new()]).await;
    let dropped = timeout(SHORT, connection.call("identity", vec![], LONG)).await;
    assert!(dropped.is_err() && !connection.is_usable());
}

#[tokio::test]
async fn end_of_stream_is_told_as_such() {
    let (stream, peer) = peer(vec![Vec::new()]);
    let mut connection = Connection::over(stream, Limits::default(), deadlines(LONG)).await.unwrap();
    peer.abort();
    let error = connection.call("identity", vec![], LONG).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }) && !connection.is_usable(), "{error:?}");
}

#[tokio::test]
async fn silent_peer_and_stranger_fail_the_handshake() {
    let (ours, _theirs) = duplex(64);
    let error = Connection::over(ours, Limits::default(), deadlines(SHORT)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { step: Step::Handshake, .. }), "{error:?}");

    let (ours, mut theirs) = duplex(4096);
    theirs.write_all(&answer(&"hello".into())).await.unwrap();
    let error = Connection::over(ours, Limits::default(), deadlines(LONG)).await.unwrap_err();
    assert!(matches!(error, Error::Garbled { step: Step::Handshake, .. }), "{error:?}");

    let (ours, theirs) = duplex(64);
    drop(theirs);
    let error = Connection::over(ours, Limits::default(), deadlines(LONG)).await.unwrap_err();
    assert!(matches!(error, Error::Closed { step: Step::Handshake, .. }), "{error:?}");
}

#[tokio::test]
async fn refused_connection_names_the_peer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = dial(&format!("tcp://{address}"), LONG).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to connect to {address}"));
}

#[tokio::test]
async fn unusable_connection_is_closed_without_a_word() {
    let (ours, mut theirs) = duplex(4096);
    let server = tokio::spawn(async move {
        handshake::exchange(&mut theirs, &mut room()).await.unwrap();
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let mut connection = Connection::over(ours, Limits::default(), deadlines(LONG)).await.unwrap();
    connection.usable = false;
    connection.close(LONG).await;
    assert_eq!(server.await.unwrap(), b"");
}
