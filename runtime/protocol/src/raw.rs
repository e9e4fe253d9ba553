//! A message that was checked and is not decoded: it is walked over, and only what is wanted is built. A list of ten
//! thousand workers takes the memory of its bytes, where the tree of its values would take five times as much.

use rmpv::Value;

use crate::{
    MessageLimits, message,
    text::{self, LONGEST},
    value,
};

/// How large a value may be to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Values in it, itself included.
    pub(crate) items: u64,
    /// Its bytes.
    pub(crate) bytes: usize,
}

impl Size {
    /// A number, or the four fields of an enumeration.
    pub(crate) const WORD: Self = Self { items: 16, bytes: 1 << 10 };
    /// An answer that is no list.
    pub(crate) const ANSWER: Self = Self { items: MessageLimits::SMALL.items, bytes: 1 << 20 };
    /// A worker in a list: 1.5 kB and 100 values were measured, more with metrics of the user's own.
    pub(crate) const WORKER: Self = Self { items: 20_000, bytes: 256 << 10 };
}

/// The bytes of one value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    bytes: &'a [u8],
    /// Containers within containers that the check allowed.
    depth: usize,
}

impl<'a> Raw<'a> {
    /// A message within the limits.
    pub(crate) fn checked(bytes: &'a [u8], limits: &MessageLimits) -> Result<Self, message::Error> {
        message::check(bytes, limits)?;
        Ok(Self { bytes, depth: limits.depth })
    }

    /// Builds the value; `None` if it is larger than `most`.
    pub(crate) fn value(self, most: Size) -> Option<Value> {
        let (_, items) = message::take(&mut &self.bytes[..])?;
        if items > most.items || self.bytes.len() > most.bytes {
            return None;
        }
        message::build(self.bytes, self.depth).ok()
    }

    /// The value, if it is no larger than a number or an enumeration.
    pub(crate) fn word(self) -> Option<Value> {
        self.value(Size::WORD)
    }

    /// How many bytes it has.
    pub(crate) fn bytes(self) -> usize {
        self.bytes.len()
    }

    /// Whether it stands for nothing.
    pub(crate) fn is_nil(self) -> bool {
        self.bytes == [0xc0]
    }

    /// Whether it is a map.
    pub(crate) fn is_map(self) -> bool {
        matches!(self.bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf))
    }

    /// Whether it is an array.
    pub(crate) fn is_array(self) -> bool {
        matches!(self.bytes.first(), Some(0x90..=0x9f | 0xdc | 0xdd))
    }

    /// Entries of a map, or elements of an array; 0 of anything else.
    pub(crate) fn len(self) -> u64 {
        let values = message::open(self.bytes).map_or(0, |(values, _)| values);
        if self.is_map() { values / 2 } else { values }
    }

    /// The elements of an array; none of anything else.
    pub(crate) fn elements(self) -> Elements<'a> {
        let opened = if self.is_array() { message::open(self.bytes) } else { None };
        self.walk(opened)
    }

    /// The entries of a map; none of anything else.
    pub(crate) fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let opened = if self.is_map() { message::open(self.bytes) } else { None };
        let mut values = self.walk(opened);
        std::iter::from_fn(move || Some((values.next()?, values.next()?)))
    }

    /// Whether it stands for a Python object that msgpack cannot express.
    pub(crate) fn is_opaque(self) -> bool {
        ["__Serialized__", "__Pickled__"].iter().any(|mark| self.field(mark).is_some())
    }

    /// The value of a field of a map.
    pub(crate) fn field(self, name: &str) -> Option<Self> {
        let (_, value) = self.entries().find(|(key, _)| key.is_text(name))?;
        Some(value)
    }

    /// Text fit to be shown, cut where it is too long; a number as such, as [`value::text`] tells it.
    pub(crate) fn text(self) -> Option<String> {
        match self.characters() {
            Some(bytes) => {
                // One byte more shows that there is more.
                let part = &bytes[..bytes.len().min(LONGEST + 1)];
                let part = match std::str::from_utf8(part) {
                    Ok(text) => text,
                    // Cut within a character.
                    Err(error) if error.error_len().is_none() && part.len() < bytes.len() => {
                        std::str::from_utf8(&part[..error.valid_up_to()]).ok()?
                    }
                    Err(_) => return None,
                };
                let text = text::printable(part, LONGEST);
                Some(if part.len() < bytes.len() {
                    text::printable(&format!("{text}…"), LONGEST)
                } else {
                    text
                })
            }
            None => value::text(&self.word()?).map(|text| text::printable(&text, LONGEST)),
        }
    }

    /// The address of a worker, whole and as it is; `None` if it cannot be one.
    pub(crate) fn address(self) -> Option<String> {
        let text = std::str::from_utf8(self.characters()?).ok()?;
        text::is_address(text).then(|| text.to_owned())
    }

    /// Whether it is this text.
    pub(crate) fn is_text(self, text: &str) -> bool {
        self.characters() == Some(text.as_bytes())
    }

    /// The bytes of a text; `None` of anything else.
    fn characters(self) -> Option<&'a [u8]> {
        let head = match self.bytes.first()? {
            0xa0..=0xbf => 1,
            0xc4 | 0xd9 => 2,
            0xc5 | 0xda => 3,
            0xc6 | 0xdb => 5,
            _ => return None,
        };
        self.bytes.get(head..)
    }

    fn walk(self, opened: Option<(u64, &'a [u8])>) -> Elements<'a> {
        let (left, rest) = opened.unwrap_or((0, &[]));
        Elements { left, rest, depth: self.depth }
    }
}

/// Values one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'a> {
    left: u64,
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (bytes, _) = message::take(&mut self.rest)?;
        Some(Raw { bytes, depth: self.depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{encode, map};

    const MOST: Size = Size::ANSWER;

    fn with<T>(value: &Value, look: impl FnOnce(Raw<'_>) -> T) -> T {
        let bytes = encode(value);
        look(Raw::checked(&bytes, &MessageLimits::SMALL).unwrap())
    }

    #[test]
    fn maps_are_walked_over_without_being_built() {
        let inner = Value::Array(vec![1.into(), map([("deep", Value::Nil)]), "x".into()]);
        let value = Value::Map(vec![
            (Value::Array(vec!["a".into(), 1.into()]), 7.into()),
            ("list".into(), inner.clone()),
            (Value::Nil, "text".into()),
            ("name".into(), 3.into()),
        ]);
        with(&value, |raw| {
            assert!(raw.is_map() && !raw.is_array() && raw.len() == 4);
            let list = raw.field("list").unwrap();
            assert!(list.is_array() && list.len() == 3);
            let elements: Vec<_> = list.elements().map(|raw| raw.value(MOST).unwrap()).collect();
            assert_eq!(Value::Array(elements), inner);
            assert_eq!(raw.field("name").unwrap().text().as_deref(), Some("3"));
            assert!(raw.field("nam").is_none() && raw.field("names").is_none());
            assert_eq!(raw.value(MOST), Some(value.clone()));
        });
    }

    #[test]
    fn what_is_no_container_has_nothing_in_it() {
        for value in [Value::Nil, 3.into(), "text".into(), Value::Binary(vec![0x81, 0, 0])] {
            with(&value, |raw| {
                assert_eq!((raw.len(), raw.entries().count(), raw.elements().count()), (0, 0, 0), "{value}");
                assert_eq!(raw.is_nil(), value.is_nil());
            });
        }
    }

    #[test]
    fn text_of_any_length_is_recognised() {
        for length in [0, 31, 32, 255, 256, 70_000] {
            let text = "x".repeat(length);
            with(&map([(text.as_str(), 1.into())]), |raw| {
                assert!(raw.field(&text).is_some(), "{length}");
                assert!(raw.field(&format!("{text}x")).is_none(), "{length}");
            });
        }
    }

    #[test]
    fn more_values_than_wanted_are_not_built() {
        with(&Value::Array(vec![Value::Nil; 9]), |raw| {
            assert_eq!(raw.value(Size { items: 9, ..MOST }), None);
            assert_eq!(raw.value(Size { bytes: 9, ..MOST }), None);
            assert!(raw.value(Size { items: 10, bytes: 10 }).is_some());
        });
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general enough in its lifetime"
    )]
    fn text_is_cut_and_escaped() {
        let told = |value: Value| with(&value, |raw| raw.text());
        assert_eq!(told("Scheduler-1\n".into()).as_deref(), Some("Scheduler-1\\n"));
        assert_eq!(told(Value::Binary(b"w\xff".to_vec())), None);
        assert_eq!(told(Value::Nil), None);
        assert_eq!(
            told(map([("__Enum__", true.into()), ("name", "paused".into())])).as_deref(),
            Some("paused")
        );
        for long in ["x".repeat(LONGEST + 1), "x".repeat(70_000), "ö".repeat(LONGEST)] {
            let text = told(long.as_str().into()).unwrap();
            let kept = text.strip_suffix('…').unwrap();
            assert!(text.len() <= LONGEST && long.starts_with(kept) && kept.len() > LONGEST - 9, "{text}");
        }
        let whole = "x".repeat(LONGEST);
        assert_eq!(told(whole.as_str().into()), Some(whole));
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general enough in its lifetime"
    )]
    fn addresses_are_whole_or_none() {
        let told = |value: Value| with(&value, |raw| raw.address());
        assert_eq!(told("tcp://10.0.0.7:1".into()).as_deref(), Some("tcp://10.0.0.7:1"));
        for other in ["".into(), "tcp://a\n".into(), Value::from("x".repeat(LONGEST + 1)), 3.into()] {
            assert_eq!(told(other), None);
        }
    }

    #[test]
    fn the_limits_hold() {
        let limits = MessageLimits { items: 2, ..MessageLimits::SMALL };
        let error = Raw::checked(&encode(&Value::Array(vec![1.into(), 2.into()])), &limits).unwrap_err();
        assert_eq!(error, message::Error::TooMany(2));
        assert!(Raw::checked(b"\x92\x01", &MessageLimits::SMALL).is_err());
    }
}
