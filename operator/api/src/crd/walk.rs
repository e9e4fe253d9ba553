//! Walking a schema.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Calls `visit` with every property below `schema` and its name, parents first.
pub(super) fn for_each_property(
    schema: &mut JSONSchemaProps,
    visit: &mut impl FnMut(&str, &mut JSONSchemaProps),
) {
    for (name, property) in schema.properties.iter_mut().flatten() {
        visit(name, property);
        for_each_property(property, visit);
    }
    if let Some(values) = items_mut(schema) {
        for_each_property(values, visit);
    }
    if let Some(values) = map_values_mut(schema) {
        for_each_property(values, visit);
    }
}

/// The schema of an array's items.
pub(super) fn items_mut(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// The schema of a map's values.
pub(super) fn map_values_mut(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values),
        _ => None,
    }
}

/// The property of this name.
pub(super) fn property_mut<'a>(
    schema: &'a mut JSONSchemaProps,
    name: &str,
) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut().and_then(|properties: &mut BTreeMap<_, _>| properties.get_mut(name))
}

/// The property at the end of a path of property names.
pub(super) fn at_mut<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |schema, name| property_mut(schema, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> JSONSchemaProps {
        serde_json::from_value(json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "object", "properties": {"in-list": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"in-map": {"type": "string"}}}},
            "object": {"type": "object", "properties": {"in-object": {"type": "string"}}},
        }}))
        .unwrap()
    }

    #[test]
    fn every_property_is_visited_once_and_parents_come_first() {
        let mut names = Vec::new();
        for_each_property(&mut schema(), &mut |name, _| names.push(name.to_owned()));
        assert_eq!(names, ["list", "in-list", "map", "in-map", "object", "in-object"]);
    }

    #[test]
    fn paths_lead_to_properties() {
        let mut schema = schema();
        assert_eq!(at_mut(&mut schema, &["object", "in-object"]).unwrap().type_.as_deref(), Some("string"));
        assert!(at_mut(&mut schema, &["object", "absent"]).is_none());
        assert!(at_mut(&mut schema, &["list", "in-list"]).is_none(), "items are not properties");
    }
}
