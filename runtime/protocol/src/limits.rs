//! How much a peer may send and how long it may take.

use std::time::Duration;

/// Caps on one message of a peer, checked before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message with all its frames.
    pub message_bytes: u64,
    /// Frames of one message.
    pub frames: u64,
    /// Containers within containers. More than [`Limits::MOST_DEPTH`] counts as that.
    pub depth: usize,
    /// Values in one message, those in containers included. Each takes some 40 bytes of memory.
    pub items: u64,
}

impl Limits {
    /// Decoding recurses: deeper could end the stack.
    pub const MOST_DEPTH: usize = 256;
}

impl Default for Limits {
    /// An identity of 1,000 workers has 1.5 MB and some 100,000 values.
    fn default() -> Self {
        Self { message_bytes: 64 << 20, frames: 1024, depth: 64, items: 4 << 20 }
    }
}

/// How long to wait for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the TCP connection, and then again until TLS, is up.
    pub connect: Duration,
    /// Until both sides have introduced themselves.
    pub handshake: Duration,
    /// Until a call is answered. A scheduler that takes a graph of a million tasks is silent for 36 s.
    pub call: Duration,
    /// Until workers are retired: their data is copied to others first.
    pub retire: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            call: Duration::from_mins(1),
            retire: Duration::from_mins(2),
        }
    }
}
