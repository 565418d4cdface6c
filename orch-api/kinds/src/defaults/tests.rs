use super::*;
use serde_json::json;

fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    let gv = orch_core::GroupVersion::parse(api_version).unwrap();
    GroupVersionKind::new(gv.group, gv.version, kind)
}

#[track_caller]
fn check(api_version: &str, kind: &str, input: Value, expected: Value) {
    let mut got = input;
    apply(&gvk(api_version, kind), &mut got);
    assert_eq!(got, expected);
    apply(&gvk(api_version, kind), &mut got);
    assert_eq!(got, expected, "a second time");
}

fn container(name: &str, image: &str, policy: &str) -> Value {
    json!({"name": name, "image": image, "imagePullPolicy": policy, "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
}

#[test]
fn pod() {
    check(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{"name": "a", "image": "nginx"}]}}),
        json!({"spec": {"containers": [container("a", "nginx", "Always")], "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true, "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30}, "status": {}}),
    );
}

#[test]
fn pod_in_depth() {
    let mut pod = json!({"spec": {
        "hostNetwork": true, "serviceAccount": "old", "nodeName": null,
        "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "x"}}, {"name": "h", "hostPath": {"path": "/"}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
            {"name": "s", "emptyDir": {"sizeLimit": "1024Mi"}},
            {"name": "d", "downwardAPI": {"items": [{"path": "c", "resourceFieldRef": {"resource": "limits.cpu"}}]}}],
        "containers": [{"name": "a", "image": "nginx:1",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 1}, "periodSeconds": 3},
            "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
            "resources": {"limits": {"cpu": "0.5", "memory": "1000Ki"}, "requests": {"cpu": 0.1}}}]}});
    apply(&gvk("v1", "Pod"), &mut pod);
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "old");
    assert_eq!(spec.get("nodeName"), None);
    assert_eq!(
        spec["volumes"],
        json!([{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "h", "hostPath": {"path": "/", "type": ""}},
            {"name": "p", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"path": "l",
                    "fieldRef": {"fieldPath": "metadata.labels", "apiVersion": "v1"}}]}}]}},
            {"name": "s", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "d", "downwardAPI": {"defaultMode": 420,
                "items": [{"path": "c", "resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}]}}])
    );
    let a = &spec["containers"][0];
    assert_eq!(a["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        a["ports"],
        json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(a["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        a["livenessProbe"],
        json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(a["readinessProbe"]["grpc"]["service"], "");
    assert_eq!(a["readinessProbe"]["periodSeconds"], 3);
    assert_eq!(a["lifecycle"]["preStop"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(
        a["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1000Ki"}, "requests": {"cpu": "100m", "memory": "1000Ki"}})
    );
}

#[test]
fn pod_level_resources() {
    let mut pod = json!({"spec": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}, "containers": [
        {"name": "a", "resources": {"requests": {"cpu": "100m"}}},
        {"name": "b", "resources": {"requests": {"cpu": "200m"}}}]}});
    apply(&gvk("v1", "Pod"), &mut pod);
    assert_eq!(
        pod["spec"]["resources"]["requests"],
        json!({"cpu": "300m", "memory": "1Gi"})
    );
}

#[test]
fn aggregate_counts_sidecars_and_the_init_peak() {
    let of = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = json!({"containers": [{"resources": of("1")}], "initContainers": [
        {"resources": of("500m"), "restartPolicy": "Always"}, {"resources": of("2")}]});
    assert_eq!(aggregate_requests(&spec, "requests")["cpu"].to_string(), "2500m");
}

#[test]
fn deployment() {
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}),
        json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "template": {"metadata": {}, "spec": {"containers": [container("a", "a:1", "IfNotPresent")],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30}}}, "status": {}}),
    );
}

#[test]
fn services() {
    check(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]}}),
        json!({"spec": {"ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"},
            {"port": 81, "targetPort": "web", "protocol": "UDP"}], "sessionAffinity": "None", "type": "ClusterIP",
            "internalTrafficPolicy": "Cluster"}, "status": {"loadBalancer": {}}}),
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a"}]}}}),
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "a"}]}}}),
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
        json!({"spec": {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"},
            "status": {"loadBalancer": {}}}),
    );
}

#[test]
fn small_kinds() {
    check(
        "v1",
        "Secret",
        json!({"data": {"a": "YQ=="}, "stringData": {"b": "hello", "a": "é"}}),
        json!({"data": {"a": "w6k=", "b": "aGVsbG8="}, "type": "Opaque"}),
    );
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "n"}}),
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}, "spec": {},
            "status": {"phase": "Active"}}),
    );
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a": null}, "immutable": null}),
        json!({"data": {"a": ""}}),
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s"}]}),
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s"}]}),
    );
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"value": 5}),
        json!({"value": 5, "preemptionPolicy": "PreemptLowerPriority"}),
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"ports": [{"port": 80}], "endpoints": []}),
        json!({"ports": [{"port": 80, "name": "", "protocol": "TCP"}], "endpoints": []}),
    );
}

#[test]
fn job() {
    let mut job = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never",
        "containers": []}}}});
    apply(&gvk("batch/v1", "Job"), &mut job);
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let spec = &job["spec"];
    for (key, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    let mut parallel = json!({"spec": {"parallelism": 3, "backoffLimitPerIndex": 1}});
    apply(&gvk("batch/v1", "Job"), &mut parallel);
    assert_eq!(parallel["spec"].get("completions"), None);
    assert_eq!(parallel["spec"]["backoffLimit"], 2_147_483_647);
}

#[test]
fn custom_resource_definition() {
    let mut crd = json!({"spec": {"names": {"kind": "Widget", "plural": "widgets"}, "versions": [
        {"name": "v1alpha1", "storage": false}, {"name": "v1", "storage": true, "schema": {"openAPIV3Schema":
            {"properties": {"a": {"default": null, "nullable": true}}}}}]}});
    apply(
        &gvk("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        &mut crd,
    );
    assert_eq!(crd["spec"]["names"]["singular"], "widget");
    assert_eq!(crd["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    let a = &crd["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["a"];
    assert_eq!(a.get("default"), Some(&Value::Null));
}

#[test]
fn malformed_quantity_is_reported_by_canonicalize_and_kept() {
    let mut pod =
        json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1mm", "memory": "1024Ki"}}}]}});
    let error = canonicalize(&gvk("v1", "Pod"), &mut pod).unwrap_err();
    assert_eq!(error.to_string(), "unable to parse quantity's suffix");
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "1mm", "memory": "1Mi"})
    );
}

#[test]
fn wrong_types_never_panic() {
    let kinds: Vec<_> = crate::resources::all()
        .iter()
        .map(crate::resources::ResourceDef::gvk)
        .collect();
    let odd = [
        json!(null),
        json!(1),
        json!([]),
        json!("x"),
        json!({}),
        json!({"x": [null, 1, "s", {}]}),
    ];
    for gvk in &kinds {
        for a in &odd {
            for mut object in [
                a.clone(),
                json!({"metadata": a, "spec": a, "status": a, "data": a, "stringData": a, "subjects": a, "ports": a}),
                json!({"spec": {"template": a, "strategy": a, "containers": a, "volumes": a, "ports": a, "names": a,
                    "versions": a, "resources": a, "podFailurePolicy": a}, "template": a}),
                json!({"spec": {"containers": [a], "volumes": [a], "ports": [a], "template": {"spec": a}}}),
                json!({"spec": {"containers": [{"resources": a, "ports": a, "env": a, "livenessProbe": a,
                    "image": a, "lifecycle": a}], "volumes": [{"projected": a}, {"ephemeral": a}, {"image": a}]}}),
            ] {
                apply(gvk, &mut object);
            }
        }
    }
}
