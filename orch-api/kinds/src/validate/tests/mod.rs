use super::*;
use serde_json::json;

mod kinds;
mod pods;
mod services;
mod workloads;

pub(super) fn gvk(group: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::new(group, "v1", kind)
}

/// `base` with the value at each JSON pointer replaced, or removed where null is given.
pub(super) fn with(base: &Value, changes: &[(&str, Value)]) -> Value {
    let mut object = base.clone();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        match object
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no {parent}"))
        {
            Value::Object(map) if value.is_null() => drop(map.remove(&last)),
            Value::Object(map) => drop(map.insert(last, value.clone())),
            Value::Array(list) if last == "-" => list.push(value.clone()),
            Value::Array(list) => list[last.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("{parent} is {other}"),
        }
    }
    object
}

#[track_caller]
pub(super) fn check_create(gvk: &GroupVersionKind, object: &Value, expected: &[&str]) {
    let got: Vec<String> = validate_create(gvk, object)
        .into_iter()
        .map(|e| e.to_string())
        .collect();
    assert_eq!(got, expected);
}

#[track_caller]
pub(super) fn check_update(gvk: &GroupVersionKind, new: &Value, old: &Value, expected: &[&str]) {
    let mut got: Vec<String> = validate_update(gvk, new, old)
        .into_iter()
        .map(|e| e.to_string())
        .collect();
    got.dedup();
    assert_eq!(got, expected);
}

#[test]
fn metadata() {
    let kind = gvk("", "ConfigMap");
    let base = json!({"metadata": {"name": "a", "namespace": "d"}});
    let check =
        |changes: &[(&str, Value)], expected: &[&str]| check_create(&kind, &with(&base, changes), expected);
    check(&[], &[]);
    check(
        &[("/metadata/name", json!(""))],
        &["metadata.name: Required value: name or generateName is required"],
    );
    check(
        &[("/metadata/name", json!("A"))],
        &[
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
           characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
           used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    check(
        &[("/metadata/namespace", Value::Null)],
        &["metadata.namespace: Required value"],
    );
    check(
        &[("/metadata/labels", json!({"a/b/c": "x y"}))],
        &[
            "metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
             used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix \
             and '/' (e.g. 'example.com/MyName')",
            "metadata.labels: Invalid value: \"x y\": a valid label must be an empty string or consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    check(
        &[("/metadata/annotations", json!({"a": "x".repeat(262_145)}))],
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        &[("/metadata/finalizers", json!(["odd"]))],
        &[
            "metadata.finalizers[0]: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully \
           qualified",
        ],
    );
    check(
        &[(
            "/metadata/ownerReferences",
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": ""}]),
        )],
        &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
    );
    let owner =
        |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
    let two = json!([owner("a"), owner("b")]);
    let text = format!(
        "metadata.ownerReferences: Invalid value: {two}: Only one reference can have Controller set to true. Found \
         \"true\" in references for Pod/a and Pod/b"
    );
    check(&[("/metadata/ownerReferences", two)], &[&text]);
    let node = json!({"metadata": {"name": "n", "namespace": "d"}});
    check_create(
        &gvk("scheduling.k8s.io", "PriorityClass"),
        &node,
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
}

#[test]
fn metadata_update() {
    let kind = gvk("", "ConfigMap");
    let old = json!({"metadata": {"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let check = |changes: &[(&str, Value)], expected: &[&str]| {
        let mut got: Vec<String> = validate_update(&kind, &with(&old, changes), &old)
            .into_iter()
            .map(|e| e.to_string())
            .collect();
        got.sort();
        got.dedup();
        assert_eq!(got, expected);
    };
    check(&[], &[]);
    check(
        &[("/metadata/name", json!("b"))],
        &["metadata.name: Invalid value: \"b\": field is immutable"],
    );
    check(
        &[("/metadata/uid", json!("v"))],
        &["metadata.uid: Invalid value: \"v\": field is immutable"],
    );
    check(
        &[("/metadata/resourceVersion", json!(""))],
        &["metadata.resourceVersion: Invalid value: \"\": must be specified for an update"],
    );
    check(
        &[("/metadata/creationTimestamp", Value::Null)],
        &["metadata.creationTimestamp: Invalid value: null: field is immutable"],
    );
    let dying = with(
        &old,
        &[
            ("/metadata/deletionTimestamp", json!("t")),
            ("/metadata/finalizers", json!(["a.b/c"])),
        ],
    );
    let more = with(&dying, &[("/metadata/finalizers", json!(["a.b/c", "a.b/d"]))]);
    check_update(
        &kind,
        &more,
        &dying,
        &[
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
           finalizers []string{\"a.b/d\"}",
        ],
    );
}

#[test]
fn wrong_types_never_panic() {
    let odd = [
        json!(null),
        json!(1),
        json!(-1.5),
        json!([]),
        json!("x"),
        json!({}),
        json!([null, 1, "s", {}, []]),
        json!(true),
    ];
    let shapes = |a: &Value| {
        vec![
            a.clone(),
            json!({"metadata": a, "spec": a, "status": a, "data": a, "subsets": a, "rules": a, "roleRef": a, "subjects": a,
                "endpoints": a, "ports": a, "involvedObject": a, "webhooks": a, "scheduling": a, "overhead": a}),
            json!({"metadata": {"name": a, "labels": a, "annotations": a, "finalizers": a, "ownerReferences": a}}),
            json!({"spec": {"template": a, "strategy": a, "containers": a, "volumes": a, "ports": a, "names": a, "versions": a,
                "selector": a, "tolerations": a, "affinity": a, "securityContext": a, "clusterIPs": a, "taints": a}}),
            json!({"spec": {"containers": [a], "volumes": [a], "ports": [a], "tolerations": [a], "versions": [a],
                "template": {"spec": a, "metadata": a}, "topologySpreadConstraints": [a], "hostAliases": [a],
                "schedulingGates": [a], "resourceClaims": [a], "affinity": {"nodeAffinity": a, "podAffinity": a}}}),
            json!({"spec": {"containers": [{"name": a, "resources": {"limits": a, "requests": {"cpu": a}}, "ports": [a],
                "env": [a, {"name": "x", "valueFrom": a}], "livenessProbe": {"httpGet": a, "exec": a}, "image": a,
                "lifecycle": {"preStop": a}, "volumeMounts": [a], "securityContext": a}],
                "volumes": [{"projected": {"sources": [a]}}, {"ephemeral": a}, {"image": a}, {"csi": a}, {"iscsi": a}]}}),
            json!({"status": {"conditions": [a], "containerStatuses": [a], "podIPs": [a], "loadBalancer": {"ingress": [a]}}}),
        ]
    };
    for def in crate::resources::all() {
        let gvk = def.gvk();
        for a in &odd {
            for object in shapes(a) {
                let _ = validate_create(&gvk, &object);
                for b in &odd {
                    let _ = validate_update(&gvk, &object, b);
                }
                let _ = validate_update(&gvk, &object, &json!({"spec": {"containers": [{"name": "a"}]}}));
                for name in ["status", "finalize", "ephemeralcontainers", "resize"] {
                    let _ = validate_subresource_update(&gvk, name, &object, a);
                }
                let _ = crate::strategy::warnings_on_create(&gvk, &object);
                let mut copy = object.clone();
                crate::strategy::prepare_for_create(&gvk, &mut copy);
                crate::strategy::prepare_for_update(&gvk, &mut copy, &object);
            }
        }
    }
}
