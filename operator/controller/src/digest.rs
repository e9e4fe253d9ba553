//! Short digests, to tell whether something is still what it was.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Digest of some text: 16 hexadecimal digits.
#[must_use]
pub fn of_text(text: &str) -> String {
    let hash = Sha256::digest(text);
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}")
}

/// Digest of anything that can be written as JSON. Fields that are null or empty do not count, so that a field that
/// this operator did not know before changes nothing for those who do not use it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn of_json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    prune(&mut value);
    Ok(of_text(&value.to_string()))
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::order(json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true)]
    #[case::null(json!({"a": 1, "b": null}), json!({"a": 1}), true)]
    #[case::empty(json!({"a": 1, "b": {"c": []}}), json!({"a": 1}), true)]
    #[case::value(json!({"a": 1}), json!({"a": 2}), false)]
    #[case::falsehood(json!({"a": false}), json!({}), false)]
    #[case::order_of_a_list(json!([1, 2]), json!([2, 1]), false)]
    #[case::length_of_a_list(json!([1, {}]), json!([1]), false)]
    fn digests_follow_the_meaning(#[case] one: Value, #[case] other: Value, #[case] same: bool) {
        assert_eq!(of_json(&one).unwrap() == of_json(&other).unwrap(), same);
    }

    /// Digests are kept in annotations: another one would restart every worker there is.
    #[test]
    fn a_digest_is_the_same_in_every_release() {
        assert_eq!(of_text(""), "e3b0c44298fc1c14");
        assert_eq!(of_json(&json!({"containers": [{"name": "worker"}]})).unwrap(), "574f05a46e0ffa9c");
    }
}
