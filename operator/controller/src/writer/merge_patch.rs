//! JSON merge patches (RFC 7386) as small as possible. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::WriteError;

/// The smallest merge patch that turns `before` into `after`, or `None` if they are the same already.
///
/// Keys that are gone become explicit nulls, without which a merge patch would keep them. A null in `after`
/// counts as absent, as merge patches cannot express it.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| without_nulls(after));
    };
    let gone = old.iter().filter(|(key, value)| !value.is_null() && new.get(*key).is_none_or(Value::is_null));
    let mut patch: Map<String, Value> = gone.map(|(key, _)| (key.clone(), Value::Null)).collect();
    for (key, value) in new.iter().filter(|(_, value)| !value.is_null()) {
        let change = match old.get(key) {
            None | Some(Value::Null) => Some(without_nulls(value)),
            Some(old) => diff(old, value),
        };
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// [`diff`] of anything that can be written as JSON.
///
/// # Errors
/// When one of them cannot.
pub fn merge_patch_between<T: Serialize>(before: &T, after: &T) -> Result<Option<Value>, WriteError> {
    Ok(diff(&serde_json::to_value(before)?, &serde_json::to_value(after)?))
}

/// Objects within a new value must not have nulls: there they would delete nothing, but be compared again.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskWorkerGroupStatus;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// Section 2 of RFC 7386.
    fn apply(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut fields = match target {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        for (key, value) in patch {
            if value.is_null() {
                fields.remove(key);
            } else {
                let old = fields.remove(key).unwrap_or(Value::Null);
                fields.insert(key.clone(), apply(old, value));
            }
        }
        Value::Object(fields)
    }

    #[rstest]
    #[case(json!({"a": 1}), json!({"a": 1}), None)]
    #[case(json!({"a": 1}), json!({"a": 2}), Some(json!({"a": 2})))]
    #[case(json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"a": 1, "b": {"c": 1, "d": 3}}), Some(json!({"b": {"d": 3}})))]
    #[case(json!({"a": 1, "b": {"c": 1}}), json!({"a": 1}), Some(json!({"b": null})))]
    #[case(json!({"a": [1, 2]}), json!({"a": [1]}), Some(json!({"a": [1]})))]
    #[case(json!({}), json!({"a": {"b": null, "c": 1}}), Some(json!({"a": {"c": 1}})))]
    #[case(json!({"a": null}), json!({}), None)]
    #[case(json!({"a": 1}), json!({"a": null}), Some(json!({"a": null})))]
    #[case(json!({"a": {"b": 1}}), json!({"a": 1}), Some(json!({"a": 1})))]
    #[case(json!(null), json!({"a": 1}), Some(json!({"a": 1})))]
    fn smallest_patches(#[case] before: Value, #[case] after: Value, #[case] patch: Option<Value>) {
        assert_eq!(diff(&before, &after), patch);
    }

    #[test]
    fn a_field_that_became_none_is_cleared() {
        let before =
            DaskWorkerGroupStatus { selector: Some("a=b".to_owned()), ..DaskWorkerGroupStatus::default() };
        let after = DaskWorkerGroupStatus { replicas: 2, ..DaskWorkerGroupStatus::default() };
        let patch = merge_patch_between(&before, &after).unwrap();
        assert_eq!(patch, Some(json!({"replicas": 2, "selector": null})));
        assert_eq!(merge_patch_between(&after, &after).unwrap(), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4_i64).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from), object(inner)]
        })
    }

    fn object(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[abc]", of, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_patch_leads_from_one_to_the_other(before in object(value()), after in object(value())) {
            let (before, after) = (without_nulls(&before), without_nulls(&after));
            let patched = diff(&before, &after).map_or(before.clone(), |patch| apply(before.clone(), &patch));
            prop_assert_eq!(&patched, &after);
            prop_assert_eq!(diff(&patched, &after), None, "the second write is not needed");
        }
    }
}
