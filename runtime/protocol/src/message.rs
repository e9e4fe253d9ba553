//! The msgpack in the first frame.
//!
//! Keys of maps may be anything (arrays too), names may be numbers, there may be fields nobody has heard of: nothing of
//! that is an error. `__Serialized__` and `__Pickled__` stand for Python objects in other frames, which are never opened.

use rmpv::Value;

use crate::MessageLimits;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends in the middle of a value.
    #[error("failed to decode message: it is cut short")]
    Truncated,
    /// It goes on after its value.
    #[error("failed to decode message: {0} bytes too many")]
    Trailing(usize),
    /// A byte that means nothing in msgpack.
    #[error("failed to decode message: it is not msgpack")]
    Malformed,
    /// More containers in each other than allowed.
    #[error("failed to decode message: nested deeper than {0}")]
    TooDeep(usize),
    /// More values than allowed.
    #[error("failed to decode message: more than {0} values")]
    TooMany(u64),
}

/// Decodes one message, after it has been seen to keep to the limits: nothing is built of one that does not.
///
/// # Errors
/// When it is not one value of msgpack within the limits.
pub fn decode(bytes: &[u8], limits: &MessageLimits) -> Result<Value, Error> {
    check(bytes, limits)?;
    build(bytes, limits.depth)
}

/// Whether these bytes are one value within the limits. Takes no memory but a number for each open container.
///
/// # Errors
/// When they are not.
pub fn check(bytes: &[u8], limits: &MessageLimits) -> Result<(), Error> {
    let length = scan(bytes, limits.depth.min(MessageLimits::MOST_DEPTH), limits.items)?;
    if length == bytes.len() { Ok(()) } else { Err(Error::Trailing(bytes.len() - length)) }
}

/// Builds a value of bytes that were checked.
pub(crate) fn build(bytes: &[u8], depth: usize) -> Result<Value, Error> {
    // It counts every container twice, as a value and as what is in it; the scan has seen to the depth.
    let depth = 2 * depth.min(MessageLimits::MOST_DEPTH) + 4;
    rmpv::decode::read_value_with_max_depth(&mut &bytes[..], depth).map_err(|_| Error::Malformed)
}

/// Takes one value off the front, of bytes that were checked; gives its bytes and how many values are in it.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], u64)> {
    let start = *rest;
    let (mut open, mut items) = (1_u64, 0_u64);
    while open > 0 {
        let Head { skip, children } = head(rest).ok()?;
        *rest = rest.get(usize::try_from(skip).ok()?..)?;
        open = (open - 1).checked_add(children)?;
        items += 1;
    }
    let value = start.get(..start.len() - rest.len())?;
    Some((value, items))
}

/// What a container announces: the number of values in it, keys included, and the bytes after the announcement.
pub(crate) fn open(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = bytes;
    let Head { children, .. } = head(&mut rest).ok()?;
    Some((children, rest))
}

/// The bytes of a message.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = rmpv::encode::write_value(&mut bytes, value);
    bytes
}

/// What one byte announces: bytes that follow it, and values in it.
struct Head {
    skip: u64,
    children: u64,
}

/// Walks over one value without building anything, and returns its length.
fn scan(bytes: &[u8], depth: usize, most: u64) -> Result<usize, Error> {
    let mut rest = bytes;
    let mut items = 1_u64;
    // How many values are still to come in each open container.
    let mut open: Vec<u64> = Vec::new();
    loop {
        let Head { skip, children } = head(&mut rest)?;
        let skip = usize::try_from(skip).map_err(|_| Error::Truncated)?;
        rest = rest.get(skip..).ok_or(Error::Truncated)?;
        items = items.saturating_add(children);
        if items > most {
            return Err(Error::TooMany(most));
        }
        if children > rest.len() as u64 {
            return Err(Error::Truncated);
        }
        if children > 0 {
            if open.len() >= depth {
                return Err(Error::TooDeep(depth));
            }
            open.push(children);
        }
        // The value just walked over was the last one of every container that has none left.
        loop {
            match open.last_mut() {
                None => return Ok(bytes.len() - rest.len()),
                Some(0) => {
                    open.pop();
                }
                Some(left) => {
                    *left -= 1;
                    break;
                }
            }
        }
    }
}

fn head(rest: &mut &[u8]) -> Result<Head, Error> {
    let marker = number(rest, 1)?;
    let leaf = |skip| Ok(Head { skip, children: 0 });
    let container = |children| Ok(Head { skip: 0, children });
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => leaf(0),
        0x80..=0x8f => container(2 * (marker & 0x0f)),
        0x90..=0x9f => container(marker & 0x0f),
        0xa0..=0xbf => leaf(marker & 0x1f),
        0xc4 | 0xd9 => leaf(number(rest, 1)?),
        0xc5 | 0xda => leaf(number(rest, 2)?),
        0xc6 | 0xdb => leaf(number(rest, 4)?),
        // Extensions, which Dask does not use, have a type before their bytes; 0xd4 to 0xd8 as well.
        0xc7 => leaf(1 + number(rest, 1)?),
        0xc8 => leaf(1 + number(rest, 2)?),
        0xc9 => leaf(1 + number(rest, 4)?),
        0xd5 => leaf(3),
        0xd6 => leaf(5),
        0xd7 => leaf(9),
        0xd8 => leaf(17),
        0xcc | 0xd0 => leaf(1),
        0xcd | 0xd1 | 0xd4 => leaf(2),
        0xca | 0xce | 0xd2 => leaf(4),
        0xcb | 0xcf | 0xd3 => leaf(8),
        0xdc => container(number(rest, 2)?),
        0xdd => container(number(rest, 4)?),
        0xde => container(2 * number(rest, 2)?),
        0xdf => container(2 * number(rest, 4)?),
        _ => Err(Error::Malformed),
    }
}

/// Takes a big-endian number off the front.
fn number(rest: &mut &[u8], bytes: usize) -> Result<u64, Error> {
    let (digits, after) = rest.split_at_checked(bytes).ok_or(Error::Truncated)?;
    *rest = after;
    Ok(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

/// A call of an operation, with its arguments beside `op`.
#[must_use]
pub fn request(op: &str, reply: bool, arguments: Vec<(&str, Value)>) -> Value {
    let head = [("op", Value::from(op)), ("reply", Value::from(reply))];
    map(head.into_iter().chain(arguments))
}

/// A map with text as keys.
pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
