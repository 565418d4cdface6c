//! Tables and laws of the patch formats.

use super::*;
use crate::schema::{TypeRef, builtin};
use orch_core::GroupVersionKind;
use proptest::prelude::*;
use serde_json::json;

fn ty(group: &str, kind: &str) -> TypeRef {
    builtin(&GroupVersionKind::new(group, "v1", kind)).unwrap()
}

#[test]
fn json_patch_applies_or_explains() {
    let doc = json!({"spec":{"replicas":1,"list":["a","b"]},"metadata":{"labels":{"a":"b"}}});
    let check = |patch: Value, expected: Result<Value, &str>| {
        assert_eq!(
            json(&doc, &patch).map_err(|e| e.to_string()),
            expected.map_err(str::to_owned)
        );
    };
    check(
        json!([{"op":"replace","path":"/spec/replicas","value":3},{"op":"add","path":"/spec/list/-","value":"c"},
            {"op":"remove","path":"/metadata/labels/a"},{"op":"test","path":"/spec/list/0","value":"a"}]),
        Ok(json!({"spec":{"replicas":3,"list":["a","b","c"]},"metadata":{"labels":{}}})),
    );
    check(
        json!([{"op":"test","path":"/spec/replicas","value":2}]),
        Err("testing value /spec/replicas failed: test failed"),
    );
    check(
        json!([{"op":"add","path":"/a/b","value":2}]),
        Err("add operation does not apply: doc is missing path: \"/a/b\": missing value"),
    );
    check(
        json!([{"op":"remove","path":"/metadata/labels/x"}]),
        Err(
            "error in remove for path: '/metadata/labels/x': Unable to remove nonexistent key: x: missing value",
        ),
    );
    check(
        json!([{"op":"replace","path":"/spec/x","value":1}]),
        Err("replace operation does not apply: doc is missing key: /spec/x: missing value"),
    );
    check(
        json!([{"op":"add","path":"/spec/list/7","value":1}]),
        Err(
            "error in add for path: '/spec/list/7': Unable to access invalid index: 7: invalid index referenced",
        ),
    );
    check(json!([{"op":"bogus","path":"/x"}]), Err("Unexpected kind: bogus"));
    check(
        json!({}),
        Err("json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
    );
}

#[test]
fn json_patch_strict_errors() {
    let patch = json!([{"op":"add","path":"/a","value":1,"foo":2}]);
    assert_eq!(json_strict(&patch), ["json patch unknown field \"[0].foo\""]);
}

#[test]
fn merge_patch_deletes_by_null() {
    let doc = json!({"a":{"b":1,"c":2},"l":[1,2]});
    assert_eq!(
        merge(&doc, &json!({"a":{"b":null,"d":{"e":null}},"l":[3]})).unwrap(),
        json!({"a":{"c":2,"d":{}},"l":[3]})
    );
    assert_eq!(
        merge(&doc, &json!([])).unwrap_err(),
        PatchError::BadRequest("Invalid JSON Patch".into())
    );
    assert_eq!(
        parse(br#"{"a":1,"a":2}"#).unwrap().strict,
        ["duplicate field \"a\""]
    );
}

#[test]
fn strategic_merges_by_key() {
    let pod = ty("", "Pod");
    let check = |original: Value, patch: Value, expected: Value| {
        assert_eq!(strategic(&original, &patch, &pod).unwrap(), expected, "{patch}");
    };
    let two =
        || json!({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1","args":["x"]}]}});
    check(
        two(),
        json!({"spec":{"containers":[{"name":"b","image":"2"}]}}),
        json!({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2","args":["x"]}]}}),
    );
    check(
        two(),
        json!({"spec":{"containers":[{"name":"c","image":"3"}]}}),
        json!({"spec":{"containers":[{"name":"c","image":"3"},{"name":"a","image":"1"},{"name":"b","image":"1","args":["x"]}]}}),
    );
    check(
        two(),
        json!({"spec":{"containers":[{"name":"a","$patch":"delete"}]}}),
        json!({"spec":{"containers":[{"name":"b","image":"1","args":["x"]}]}}),
    );
    check(
        two(),
        json!({"spec":{"containers":[{"name":"z"},{"$patch":"replace"}]}}),
        json!({"spec":{"containers":[{"name":"z"}]}}),
    );
    check(
        two(),
        json!({"spec":{"$patch":"replace","nodeName":"n"}}),
        json!({"spec":{"nodeName":"n"}}),
    );
    check(two(), json!({"spec":{"$patch":"delete"}}), json!({"spec":{}}));
    check(two(), json!({"spec":{"containers":null}}), json!({"spec":{}}));
    check(
        two(),
        json!({"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"9"}]}}),
        json!({"spec":{"containers":[{"name":"b","image":"1","args":["x"]},{"name":"a","image":"9"}]}}),
    );
    // Lists without the merge strategy are replaced, and new values lose their nulls and directives.
    check(
        two(),
        json!({"spec":{"containers":[{"name":"b","args":["y"],"env":[{"name":"e","value":null}]}]}}),
        json!({"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1","args":["y"],"env":[{"name":"e"}]}]}}),
    );
    check(
        json!({"metadata":{"finalizers":["a","b"]}}),
        json!({"metadata":{"finalizers":["c","a"]}}),
        json!({"metadata":{"finalizers":["c","a","b"]}}),
    );
    check(
        json!({"metadata":{"finalizers":["a","b"]}}),
        json!({"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["b"]}}),
        json!({"metadata":{"finalizers":["b"]}}),
    );
    check(
        json!({"metadata":{"labels":{"a":"1","b":"2"}}}),
        json!({"metadata":{"labels":{"b":null,"c":"3"}}}),
        json!({"metadata":{"labels":{"a":"1","c":"3"}}}),
    );
}

#[test]
fn strategic_retains_keys() {
    let deployment = ty("apps", "Deployment");
    let original = json!({"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}});
    let patch = json!({"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}});
    assert_eq!(
        strategic(&original, &patch, &deployment).unwrap(),
        json!({"spec":{"strategy":{"type":"Recreate"}}})
    );
    let wrong = json!({"spec":{"strategy":{"$retainKeys":["rollingUpdate"],"type":"Recreate"}}});
    assert_eq!(
        strategic(&original, &wrong, &deployment).unwrap_err(),
        PatchError::BadRequest("invalid patch format of retainKeys".into())
    );
}

#[test]
fn strategic_refuses() {
    let pod = ty("", "Pod");
    let check = |original: Value, patch: Value, expected: &str| {
        assert_eq!(
            strategic(&original, &patch, &pod).unwrap_err().to_string(),
            expected
        );
    };
    check(
        json!({"spec":{"containers":[{"name":"a"}]}}),
        json!({"spec":{"containers":[{"image":"x"}]}}),
        "map: map[image:x] does not contain declared merge key: name",
    );
    check(
        json!({"spec":{}}),
        json!({"spec":{"$patch":"bogus"}}),
        "unknown patch type: bogus in map: map[$patch:bogus]",
    );
    check(
        json!({"metadata":{"finalizers":["a"]}}),
        json!({"metadata":{"$setElementOrder/finalizers":"x"}}),
        "expected a []interface {}, but received a string",
    );
    let custom = crate::schema::from_crd(None).unwrap();
    assert_eq!(
        strategic(&json!({}), &json!({}), &custom)
            .unwrap_err()
            .to_string(),
        "strategic merge patch format is not supported"
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0i64..9).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-d]", any_value(), 0..4)
        .prop_map(|m| Value::Object(m.into_iter().collect()))
}

/// The merge patch that turns one object into another.
fn merge_diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let mut patch: serde_json::Map<String, Value> = from
        .keys()
        .filter(|k| !to.contains_key(*k))
        .map(|k| (k.clone(), Value::Null))
        .collect();
    for (key, value) in to {
        match from.get(key) {
            Some(old) if old == value => {}
            Some(old) if old.is_object() && value.is_object() => {
                patch.insert(key.clone(), merge_diff(old, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// Containers with distinct names, in any order.
fn any_containers() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::btree_map(
        "[a-e]",
        (0u8..3, proptest::collection::btree_map("[x-z]", 0u8..3, 0..3)),
        1..5,
    )
    .prop_map(|m| {
        m.into_iter()
            .map(|(name, (image, env))| {
                let env: Vec<Value> = env
                    .into_iter()
                    .map(|(n, v)| json!({"name": n, "value": v.to_string()}))
                    .collect();
                json!({"name": name, "image": image.to_string(), "env": env})
            })
            .collect::<Vec<_>>()
    })
    .prop_shuffle()
}

/// The patch that kubectl makes for a list with a merge key: changed items, deletions, and the order.
fn list_diff(field: &str, from: &[Value], to: &[Value], patch: &mut serde_json::Map<String, Value>) {
    let named = |list: &[Value], n: &Value| list.iter().find(|i| i["name"] == *n).cloned();
    let mut items = Vec::new();
    for item in to {
        match named(from, &item["name"]) {
            Some(old) if old == *item => {}
            Some(old) if field == "containers" => {
                let mut change = serde_json::Map::from_iter([("name".to_owned(), item["name"].clone())]);
                if old["image"] != item["image"] {
                    change.insert("image".into(), item["image"].clone());
                }
                list_diff(
                    "env",
                    old["env"].as_array().unwrap(),
                    item["env"].as_array().unwrap(),
                    &mut change,
                );
                items.push(Value::Object(change));
            }
            _ => items.push(item.clone()),
        }
    }
    items.extend(
        from.iter()
            .filter(|i| named(to, &i["name"]).is_none())
            .map(|i| json!({"name": i["name"], "$patch": "delete"})),
    );
    let order: Vec<Value> = to.iter().map(|i| json!({"name": i["name"]})).collect();
    patch.insert(format!("$setElementOrder/{field}"), Value::Array(order));
    patch.insert(field.to_owned(), Value::Array(items));
}

proptest! {
    #[test]
    fn merge_patch_of_the_difference_gives_the_target(a in any_object(), b in any_object()) {
        prop_assert_eq!(merge(&a, &merge_diff(&a, &b)).unwrap(), b);
    }

    #[test]
    fn json_patch_of_the_difference_gives_the_target(a in any_object(), b in any_object()) {
        let patch = serde_json::to_value(json_patch::diff(&a, &b)).unwrap();
        prop_assert_eq!(json(&a, &patch).unwrap(), b);
    }

    #[test]
    fn strategic_patch_of_the_difference_gives_the_target(a in any_containers(), b in any_containers()) {
        let mut spec = serde_json::Map::new();
        list_diff("containers", &a, &b, &mut spec);
        let pod = ty("", "Pod");
        let patched = strategic(&json!({"spec":{"containers":a}}), &json!({"spec":spec}), &pod).unwrap();
        prop_assert_eq!(&patched["spec"]["containers"], &json!(b));
    }

    #[test]
    fn no_patch_panics(a in any_object(), b in any_object()) {
        let pod = ty("", "Pod");
        drop(strategic(&json!({"spec":a, "metadata":b}), &json!({"spec":b, "metadata":a}), &pod));
        drop(json(&a, &json!([b])));
    }
}
