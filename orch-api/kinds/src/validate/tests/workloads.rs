use super::*;

fn deployment() -> Value {
    let mut object = json!({"metadata": {"name": "x", "namespace": "d", "resourceVersion": "1"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    crate::defaults::apply(&gvk("apps", "Deployment"), &mut object);
    object
}

#[track_caller]
fn check(changes: &[(&str, Value)], expected: &[&str]) {
    check_create(
        &gvk("apps", "Deployment"),
        &with(&deployment(), changes),
        expected,
    );
}

#[test]
fn deployments() {
    check(&[], &[]);
    check(
        &[("/spec/replicas", json!(-1))],
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        &[("/spec/selector", Value::Null)],
        &[
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        &[("/spec/selector/matchLabels", json!({"app": "b"}))],
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        &[("/spec/selector", json!({}))],
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        &[("/spec/strategy", json!({"type": "Odd"}))],
        &[
            "spec.strategy: Unsupported value: {\"Type\":\"Odd\",\"RollingUpdate\":null}: supported values: \"Recreate\", \
           \"RollingUpdate\"",
        ],
    );
    check(
        &[("/spec/strategy/type", json!("Recreate"))],
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    check(
        &[(
            "/spec/strategy/rollingUpdate",
            json!({"maxUnavailable": 0, "maxSurge": "0%"}),
        )],
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
    );
    check(
        &[(
            "/spec/strategy/rollingUpdate",
            json!({"maxUnavailable": "101%", "maxSurge": "x"}),
        )],
        &[
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string \
             followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        &[
            ("/spec/progressDeadlineSeconds", json!(5)),
            ("/spec/minReadySeconds", json!(5)),
        ],
        &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    );
    check(
        &[("/spec/template/spec/restartPolicy", json!("Never"))],
        &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
    );
    check(
        &[("/spec/template/spec/containers", json!([]))],
        &["spec.template.spec.containers: Required value"],
    );
    // White space around an image is only refused in pods.
    check(&[("/spec/template/spec/containers/0/image", json!(" "))], &[]);
}

#[test]
fn immutable_selector() {
    let old = deployment();
    let new = with(
        &old,
        &[
            ("/spec/selector/matchLabels", json!({"app": "b"})),
            ("/spec/template/metadata/labels", json!({"app": "b"})),
        ],
    );
    check_update(
        &gvk("apps", "Deployment"),
        &new,
        &old,
        &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
    );
    let status =
        validate_update(&gvk("apps", "Deployment"), &new, &old).into_status(&gvk("apps", "Deployment"), "x");
    assert_eq!(
        status.message,
        "Deployment.apps \"x\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"
    );
}

#[test]
fn status_counts() {
    let old = deployment();
    let new = with(
        &old,
        &[(
            "/status",
            json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 1}),
        )],
    );
    let got = validate_status_update(&gvk("apps", "Deployment"), &new, &old).to_string();
    assert_eq!(
        got,
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    );
}

#[test]
fn replica_sets() {
    let mut object = json!({"metadata": {"name": "x", "namespace": "d"}, "spec": {"replicas": -1, "selector": {"matchLabels":
        {"app": "a"}}, "template": {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    crate::defaults::apply(&gvk("apps", "ReplicaSet"), &mut object);
    check_create(
        &gvk("apps", "ReplicaSet"),
        &object,
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
}

#[test]
fn controller_revisions() {
    let kind = gvk("apps", "ControllerRevision");
    let object = json!({"metadata": {"name": "x", "namespace": "d", "resourceVersion": "1"}, "revision": 1, "data": {"a": null}});
    check_create(&kind, &object, &[]);
    check_create(
        &kind,
        &with(&object, &[("/data", Value::Null)]),
        &["data: Required value: data is mandatory"],
    );
    check_update(
        &kind,
        &with(&object, &[("/data", json!({"a": 1}))]),
        &object,
        &["data: Invalid value: {\"a\":1}: field is immutable"],
    );
}
