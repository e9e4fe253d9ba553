//! The outermost layer: a message is a list of frames, the first of which is msgpack.
//!
//! ```text
//! u64 L        bytes of what follows in one piece: the next two lines and the first frames
//! u64 n        number of frames
//! u64 len[n]   their lengths
//! bytes        the frames
//! ```
//! All little-endian. `L` covers all frames, or only the first of them: large buffers follow after it. As everything is
//! in order on the wire, `L` tells nothing that the lengths do not; it is checked all the same, as it is the first sign
//! of a stream that got out of step.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    MessageLimits,
    budget::{Late, Room},
};

/// One of the numbers of the header.
const WORD: u64 = 8;
/// A terabyte: whoever announces more announces nothing, but speaks of something else. Any text is more.
const MOST_PLAUSIBLE: u64 = 1 << 40;
/// A frame grows by as much as there is of it, within these bounds.
const SMALLEST_STEP: usize = 1 << 10;
const LARGEST_STEP: usize = 1 << 20;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream ended or broke.
    #[error("failed to transfer message")]
    Io(#[from] io::Error),
    /// The peer announced more than the limits allow. How much is not told: it may be eight bytes of anything.
    #[error("failed to read message: more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much would be allowed.
        limit: u64,
    },
    /// It began to come, and did not end in time.
    #[error("failed to read message: it comes too slowly")]
    TooSlow,
    /// The numbers of the header contradict each other.
    #[error("failed to read message: {0}")]
    Malformed(&'static str),
}

impl From<Late> for Error {
    fn from(_: Late) -> Self {
        Self::TooSlow
    }
}

/// What is kept of a message. All frames but the first hold serialized Python objects: read, and thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// The msgpack; none in a message without frames, which means nil.
    pub first: Option<Vec<u8>>,
    /// How many frames followed.
    pub skipped: u64,
}

/// Reads one message. Memory for the first frame grows with what arrives, not with what is announced, and is taken from
/// `room` before.
///
/// Not cancel-safe: after a dropped read the stream is out of step.
///
/// # Errors
/// When the stream ends or is too slow, the limits are exceeded or the header is wrong.
pub async fn read<R: AsyncRead + Unpin>(
    stream: &mut R,
    limits: &MessageLimits,
    room: &mut Room,
) -> Result<Frames, Error> {
    let contiguous = stream.read_u64_le().await?;
    if contiguous > MOST_PLAUSIBLE {
        return Err(Error::Malformed("it does not begin with its size"));
    }
    within("bytes", contiguous, limits.message_bytes)?;
    if contiguous < WORD {
        return Err(Error::Malformed("no room for the number of frames"));
    }
    let count = stream.read_u64_le().await?;
    within("frames", count, limits.frames)?;
    let header = count.checked_mul(WORD).and_then(|bytes| bytes.checked_add(WORD));
    let Some(mut packed) = header.and_then(|header| contiguous.checked_sub(header)) else {
        return Err(Error::Malformed("no room for the lengths of the frames"));
    };
    let (mut first, mut rest, mut total, mut outside) = (None, 0_u64, contiguous - packed, false);
    for _ in 0..count {
        let length = stream.read_u64_le().await?;
        total = total.saturating_add(length);
        within("bytes", total, limits.message_bytes)?;
        match packed.checked_sub(length) {
            Some(left) if !outside => packed = left,
            _ => outside = true,
        }
        match first {
            None => first = Some(length),
            Some(_) => rest += length,
        }
    }
    if packed != 0 {
        return Err(Error::Malformed("first part does not end with a frame"));
    }
    let first = match first {
        Some(length) => Some(read_exactly(stream, length, room).await?),
        None => None,
    };
    let (mut skipped, mut sink) = (stream.take(rest), tokio::io::sink());
    if room.in_time(tokio::io::copy(&mut skipped, &mut sink)).await?? != rest {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Frames { first, skipped: count.saturating_sub(1) })
}

async fn read_exactly<R: AsyncRead + Unpin>(
    stream: &mut R,
    length: u64,
    room: &mut Room,
) -> Result<Vec<u8>, Error> {
    let length = usize::try_from(length).map_err(|_| Error::Malformed("a frame larger than memory"))?;
    let mut frame = Vec::new();
    while frame.len() < length {
        let end = length.min(frame.len() + frame.len().clamp(SMALLEST_STEP, LARGEST_STEP));
        room.cover(end).await?;
        frame.reserve_exact(end - frame.len());
        while frame.len() < end {
            let mut step = (&mut *stream).take((end - frame.len()) as u64);
            if room.in_time(step.read_buf(&mut frame)).await?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
    Ok(frame)
}

fn within(what: &'static str, announced: u64, limit: u64) -> Result<(), Error> {
    if announced <= limit { Ok(()) } else { Err(Error::TooLarge { what, limit }) }
}

/// The bytes of a message of one frame.
#[must_use]
pub fn encode(frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u64;
    let mut bytes = Vec::with_capacity(frame.len() + 24);
    for word in [2 * WORD + length, 1, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(frame);
    bytes
}

/// Writes a message of one frame in one go.
///
/// # Errors
/// When the stream is broken.
pub async fn write<W: AsyncWrite + Unpin>(stream: &mut W, frame: &[u8]) -> Result<(), Error> {
    stream.write_all(&encode(frame)).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
