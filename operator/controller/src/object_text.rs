//! The JSON text of an object, before anything is built of it.
//!
//! An object of 1.5 MB, the most that etcd takes, can hold 450,000 times `{}`. Decoded, each of them takes up to 464 B
//! as a volume's source, or half of 3.2 kB as a volume: hundreds of megabytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// Most values of an object that is watched. Two pod templates with 100 variables each have some 1,500, and what has
/// 10,000 takes at most 16 MB, as 5,000 volumes.
pub(crate) const MOST_VALUES: usize = 10_000;
/// Most values of an object that the API server returns: it adds its defaults.
pub(crate) const MOST_RETURNED: usize = 2 * MOST_VALUES;

/// An object has more values than are read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the object has {values} values, more than {most}; make it smaller")]
pub(crate) struct TooManyValues {
    values: usize,
    most: usize,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// The object without `metadata.managedFields`, which nobody reads here and which can be as large as all the rest; unless
/// it has more values than `most`.
pub(crate) fn bounded(text: &str, most: usize) -> Result<Cow<'_, str>, TooManyValues> {
    let text = without_managed_fields(text).map_or(Cow::Borrowed(text), Cow::Owned);
    let values = count(text.as_bytes());
    if values > most { Err(TooManyValues { values, most }) } else { Ok(text) }
}

fn without_managed_fields(text: &str) -> Option<String> {
    let Object { metadata } = serde_json::from_str(text).ok()?;
    let Metadata { managed_fields } = serde_json::from_str(metadata?.get()).ok()?;
    let fields = managed_fields?.get();
    // It is a part of the text.
    let start = fields.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    Some([text.get(..start)?, "[]", text.get(start + fields.len()..)?].concat())
}

/// How many values there are in a JSON text: objects, arrays and what they hold, but not the names of fields.
fn count(text: &[u8]) -> usize {
    let mut values = 1;
    let mut opened = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                values += usize::from(opened);
                opened = true;
                continue;
            }
            // What was just opened holds nothing.
            b'}' | b']' => {}
            b',' => values += 1,
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            _ => values += usize::from(opened),
        }
        opened = false;
        if *byte == b'"' {
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    b'"' => break,
                    _ => {}
                }
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{collection, proptest};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case("7", 1)]
    #[case("{}", 1)]
    #[case("[ ]", 1)]
    #[case("[{}, {},\n{}]", 4)]
    #[case(r#"{"a": [1, "b", null], "c": {"d": true}}"#, 7)]
    #[case(r#"["[{,", "\"[,", "\\", "é,"]"#, 5)]
    #[case("[[[]]]", 3)]
    #[case("", 1)]
    #[case("\"[\\", 1)]
    fn values_are_counted(#[case] text: &str, #[case] expected: usize) {
        assert_eq!(count(text.as_bytes()), expected);
    }

    fn values(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(values).sum(),
            Value::Object(fields) => fields.values().map(values).sum(),
            _ => 0_usize,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), ".*".prop_map(Value::from)];
        scalar.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                collection::btree_map(".*", inner, 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_what_would_be_built(value in any_value()) {
            assert_eq!(count(value.to_string().as_bytes()), values(&value));
            assert_eq!(count(serde_json::to_string_pretty(&value).unwrap().as_bytes()), values(&value));
        }
    }

    #[test]
    fn the_bookkeeping_of_fields_does_not_count() {
        let fields: Value = (0..MOST_VALUES).map(|n| (format!("f:{n}"), json!({}))).collect();
        let object =
            json!({"metadata": {"managedFields": [{"fieldsV1": fields}], "name": "n"}, "spec": {"a": 1}});
        let text = object.to_string();
        let read: Value = serde_json::from_str(&bounded(&text, 20).unwrap()).unwrap();
        assert_eq!(read, json!({"metadata": {"managedFields": [], "name": "n"}, "spec": {"a": 1}}));
    }

    #[rstest]
    #[case(r#"{"metadata": {"name": "n"}}"#)]
    #[case(r#"{"metadata": null}"#)]
    #[case(r#"{"metadata": 7, "spec": "managedFields"}"#)]
    #[case("[]")]
    #[case("no JSON")]
    fn what_has_none_stays_as_it_is(#[case] text: &str) {
        assert_eq!(bounded(text, MOST_VALUES), Ok(Cow::Borrowed(text)));
    }

    #[test]
    fn too_many_are_counted_and_named() {
        let object = json!({"spec": {"sources": vec![json!({}); MOST_VALUES]}}).to_string();
        let error = bounded(&object, MOST_VALUES).unwrap_err().to_string();
        assert_eq!(error, "the object has 10003 values, more than 10000; make it smaller");
        assert!(bounded(&object, MOST_VALUES + 3).is_ok());
    }

    #[test]
    fn counting_takes_no_time() {
        let text = format!("[{}{{}}]", "{},".repeat(450_000));
        let start = std::time::Instant::now();
        assert_eq!(count(text.as_bytes()), 450_002);
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
