//! The first message of both sides: what they can unpack. Neither waits for the other.

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{MessageLimits, budget::Room, frame, message, value};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// The msgpack.
    #[error(transparent)]
    Message(#[from] message::Error),
    /// It is something else.
    #[error("failed to read handshake: no Dask peer")]
    Foreign,
}

/// What the peer said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Version of Python, such as `[3, 11, 7]`.
    pub python: Vec<u64>,
}

/// What we say: no compression, whatever the peer has. Without the version of pickle, of which we make no use, it would
/// raise an exception.
fn ours() -> Value {
    let python = [3, 11, 0].map(Value::from).to_vec();
    message::map([
        ("compression", Value::Nil),
        ("python", Value::Array(python)),
        ("pickle-protocol", Value::from(5)),
    ])
}

/// Introduces us and waits for the peer to do the same. It needs nothing of a budget.
///
/// # Errors
/// When the stream breaks, or the peer speaks something else.
pub async fn exchange<S>(stream: &mut S, room: &mut Room) -> Result<Peer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frame::write(stream, &message::encode(&ours())).await?;
    let limits = MessageLimits::HANDSHAKE;
    let first = frame::read(stream, &limits, room).await?.first.ok_or(Error::Foreign)?;
    understand(&message::decode(&first, &limits)?)
}

fn understand(theirs: &Value) -> Result<Peer, Error> {
    let python = value::field(theirs, "python").and_then(value::list).ok_or(Error::Foreign)?;
    Ok(Peer { python: python.iter().take(3).filter_map(value::count).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake needs nothing of a budget.
    fn room() -> Room {
        crate::Budget::new(0).room(std::time::Duration::from_secs(1))
    }

    #[tokio::test]
    async fn more_than_an_introduction_is_refused() {
        let letters = Value::Array(vec!["a".into(); 4_000_000]);
        let named = message::map([("python", Value::Array(vec![3.into(); 1_000]))]);
        for hello in [letters, named, Value::from("x".repeat(5_000))] {
            let (mut client, mut server) = tokio::io::duplex(1 << 16);
            let bytes = frame::encode(&message::encode(&hello));
            let sending = tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut server, &bytes).await;
            });
            exchange(&mut client, &mut room()).await.unwrap_err();
            drop(client);
            sending.await.unwrap();
        }
    }

    /// As facts were taken from the wire.
    const WIRE: &[u8] = b"\x3a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0\
        \x83\xabcompression\xc0\xa6python\x93\x03\x0b\x00\xafpickle-protocol\x05";

    #[test]
    fn ours_is_byte_for_byte_what_dask_accepts() {
        assert_eq!(frame::encode(&message::encode(&ours())), WIRE);
    }

    #[tokio::test]
    async fn both_sides_may_start() {
        let (mut client, mut server) = tokio::io::duplex(4096);
        let (mut a, mut b) = (room(), room());
        let (one, other) = tokio::join!(exchange(&mut client, &mut a), exchange(&mut server, &mut b));
        assert_eq!(one.unwrap(), Peer { python: vec![3, 11, 0] });
        assert_eq!(other.unwrap().python, [3, 11, 0]);
    }

    #[tokio::test]
    async fn strangers_are_told_apart_from_broken_streams() {
        let (mut client, mut server) = tokio::io::duplex(4096);
        frame::write(&mut server, &message::encode(&Value::from("hello"))).await.unwrap();
        assert!(matches!(exchange(&mut client, &mut room()).await, Err(Error::Foreign)));

        let (mut client, mut server) = tokio::io::duplex(4096);
        tokio::io::AsyncWriteExt::write_all(&mut server, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let error = exchange(&mut client, &mut room()).await.unwrap_err();
        assert!(matches!(error, Error::Frame(frame::Error::Malformed(_))), "{error:?}");

        let (mut client, server) = tokio::io::duplex(4096);
        drop(server);
        assert!(matches!(exchange(&mut client, &mut room()).await, Err(Error::Frame(frame::Error::Io(_)))));
    }
}
