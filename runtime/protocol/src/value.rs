//! Reading values of which nothing is sure.

use rmpv::Value;

/// The value of a field of a map.
#[must_use]
pub fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let (_, value) = entries(map).iter().find(|(key, _)| key.as_str() == Some(name))?;
    Some(value)
}

/// The value at the end of a path of fields.
#[must_use]
pub fn at<'a>(map: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(map, |value, name| field(value, name))
}

/// What is in a map; nothing if it is none.
#[must_use]
pub fn entries(value: &Value) -> &[(Value, Value)] {
    match value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// What is in an array, or in a Python set.
#[must_use]
pub fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        Value::Map(_) if is_marked(value, "__Set__") => list(field(value, "as-list")?),
        _ => None,
    }
}

/// Text. Names that look like numbers are sent as such; of an enumeration it is the name of its member.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.as_str().map(str::to_owned),
        Value::Binary(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::Integer(number) => Some(number.to_string()),
        Value::Map(_) if is_marked(value, "__Enum__") => text(field(value, "name")?),
        _ => None,
    }
}

/// More than this counts as this: 280 TB, and thousands of such counts still have a sum.
pub const MOST_COUNT: u64 = 1 << 48;

/// A count, [`MOST_COUNT`] at most; Python computes some of them as floating-point numbers.
#[must_use]
pub fn count(value: &Value) -> Option<u64> {
    /// Up to here every integer is a floating-point number too: 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let count = match value {
        Value::Integer(number) => number.as_u64(),
        Value::F32(_) | Value::F64(_) => {
            let number = value.as_f64().filter(|number| (0.0..=EXACT).contains(number))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
            Some(number as u64)
        }
        _ => None,
    };
    count.map(|count| count.min(MOST_COUNT))
}

/// A count of things that could be in memory.
#[must_use]
pub fn size(value: &Value) -> Option<usize> {
    usize::try_from(count(value)?).ok()
}

/// A finite number.
#[must_use]
pub fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

/// Whether this stands for a Python object that msgpack cannot express.
#[must_use]
pub fn is_opaque(value: &Value) -> bool {
    ["__Serialized__", "__Pickled__"].iter().any(|mark| field(value, mark).is_some())
}

fn is_marked(value: &Value, mark: &str) -> bool {
    field(value, mark).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::message::map;

    #[rstest]
    #[case(Value::from("w1"), Some("w1"))]
    #[case(Value::from(3), Some("3"))]
    #[case(Value::from(-3), Some("-3"))]
    #[case(Value::from(b"w1".as_slice()), Some("w1"))]
    #[case(Value::from(b"\xff".as_slice()), None)]
    #[case(Value::Nil, None)]
    #[case(map([("__Enum__", true.into()), ("name", "paused".into())]), Some("paused"))]
    #[case(map([("name", "paused".into())]), None)]
    fn texts(#[case] value: Value, #[case] expected: Option<&str>) {
        assert_eq!(text(&value).as_deref(), expected);
    }

    #[rstest]
    #[case(Value::from(7), Some(7))]
    #[case(Value::from(u64::MAX), Some(MOST_COUNT))]
    #[case(Value::from(-1), None)]
    #[case(Value::from(2.9), Some(2))]
    #[case(Value::from(f64::NAN), None)]
    #[case(Value::from(f64::INFINITY), None)]
    #[case(Value::from(1e300), None)]
    #[case(Value::from(-0.5), None)]
    #[case(Value::from("7"), None)]
    fn counts(#[case] value: Value, #[case] expected: Option<u64>) {
        assert_eq!(count(&value), expected);
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(number(&Value::from(1.5)), Some(1.5));
        assert_eq!(number(&Value::from(2)), Some(2.0));
        assert_eq!(number(&Value::from(f64::NAN)), None);
        assert_eq!(number(&Value::Nil), None);
    }

    #[test]
    fn fields_are_found_among_other_keys() {
        let inner = map([("x", 1.into())]);
        let outer = Value::Map(vec![
            (Value::Array(vec!["a".into()]), 0.into()),
            (Value::Nil, 0.into()),
            ("metrics".into(), inner),
        ]);
        assert_eq!(at(&outer, &["metrics", "x"]), Some(&Value::from(1)));
        assert_eq!(at(&outer, &["metrics", "y"]), None);
        assert_eq!(at(&outer, &["metrics", "x", "y"]), None);
        assert!(entries(&Value::Nil).is_empty());
    }

    #[test]
    fn sets_are_lists_and_pickles_are_opaque() {
        let values = vec![Value::from(1), Value::from(2)];
        let set = map([("__Set__", true.into()), ("as-list", Value::Array(values.clone()))]);
        assert_eq!(list(&set), Some(values.as_slice()));
        assert_eq!(list(&Value::Array(values.clone())), Some(values.as_slice()));
        assert_eq!(list(&map([("as-list", Value::Array(values))])), None);
        assert!(is_opaque(&map([("__Pickled__", 1.into())])));
        assert!(is_opaque(&map([("__Serialized__", 1.into())])));
        assert!(!is_opaque(&set) && !is_opaque(&Value::Nil));
    }
}
