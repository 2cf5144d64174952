//! Lays a message's raw vendor fields over what an adapter has built.

use serde_json::{Map, Value};

/// Lays `above` over `below`: objects are merged, everything else is replaced.
pub fn merge(below: &mut Map<String, Value>, above: &Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            _ => {
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_keeps_what_is_not_named() {
        let mut below = json!({"a": {"b": 1, "c": 2}, "d": 3});
        let above = json!({"a": {"c": {"x": 1}}, "d": null});
        merge(below.as_object_mut().unwrap(), above.as_object().unwrap());
        assert_eq!(below, json!({"a": {"b": 1, "c": {"x": 1}}, "d": null}));
    }
}
