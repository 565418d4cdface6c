use super::*;

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn resource(kind: &GroupVersionKind) -> GroupVersionResource {
    crate::resources::by_kind(kind).unwrap().gvr.clone()
}

#[track_caller]
fn check(group: &str, kind: &str, mut object: Value, expected: Value) {
    let kind = GroupVersionKind::new(group, "v1", kind);
    object["metadata"]["name"] = json!("x");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let cells = row(&kind, &object, now());
    assert_eq!(json!(cells), expected);
    assert_eq!(cells.len(), columns(&resource(&kind)).len(), "one cell a column");
}

#[track_caller]
fn check_pod(spec: Value, status: Value, ready: &str, reason: &str, restarts: &str) {
    let object = json!({"metadata": {"name": "x"}, "spec": spec, "status": status});
    let cells = row(&GroupVersionKind::new("", "v1", "Pod"), &object, now());
    assert_eq!(json!(cells[1..4]), json!([ready, reason, restarts]));
}

#[test]
fn pods() {
    check(
        "",
        "Pod",
        json!({"metadata": {}, "spec": {"nodeName": "n", "containers": [{"name": "a"}]}, "status": {"phase": "Running",
            "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{"name": "a", "ready": true, "restartCount": 3,
            "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}}]}}),
        json!([
            "x",
            "1/1",
            "Running",
            "3 (5m ago)",
            "24h",
            "10.0.0.1",
            "n",
            "<none>",
            "<none>"
        ]),
    );
    let one = json!({"containers": [{"name": "a"}]});
    let with_init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    let sidecar =
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let main =
        |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": state}]});
    let init =
        |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": state}]});
    for (spec, status, ready, reason, restarts) in [
        (&one, json!({"phase": "Pending"}), "0/1", "Pending", "0"),
        (
            &one,
            json!({"phase": "Failed", "reason": "Evicted"}),
            "0/1",
            "Evicted",
            "0",
        ),
        (
            &one,
            main(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            "0/1",
            "CrashLoopBackOff",
            "0",
        ),
        (
            &one,
            main(json!({"terminated": {"exitCode": 0, "reason": "Completed"}})),
            "0/1",
            "Completed",
            "0",
        ),
        (
            &one,
            main(json!({"terminated": {"exitCode": 2}})),
            "0/1",
            "ExitCode:2",
            "0",
        ),
        (
            &one,
            main(json!({"terminated": {"exitCode": 137, "signal": 9}})),
            "0/1",
            "Signal:9",
            "0",
        ),
        (&with_init, init(json!({"running": {}})), "0/1", "Init:0/2", "0"),
        (
            &with_init,
            init(json!({"waiting": {"reason": "ErrImagePull"}})),
            "0/1",
            "Init:ErrImagePull",
            "0",
        ),
        (
            &with_init,
            init(json!({"terminated": {"exitCode": 1}})),
            "0/1",
            "Init:ExitCode:1",
            "0",
        ),
        (
            &with_init,
            init(json!({"terminated": {"exitCode": 1, "reason": "Error"}})),
            "0/1",
            "Init:Error",
            "0",
        ),
        (
            &sidecar,
            json!({"phase": "Running", "initContainerStatuses": [{"name": "s", "started": true, "ready": true,
                "restartCount": 1, "state": {"running": {}}}], "containerStatuses": [{"name": "a", "ready": true,
                "restartCount": 1, "state": {"running": {}}}]}),
            "2/2",
            "Running",
            "2",
        ),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
            "0",
        ),
    ] {
        check_pod(spec.clone(), status, ready, reason, restarts);
    }
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let half_done = |conditions: Value| {
        json!({"phase": "Running", "conditions": conditions, "containerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "b", "ready": true, "state": {"running": {}}}]})
    };
    check_pod(two.clone(), half_done(json!([])), "1/2", "NotReady", "0");
    check_pod(
        two,
        half_done(json!([{"type": "Ready", "status": "True"}])),
        "1/2",
        "Running",
        "0",
    );
    let dying = json!({"metadata": {"name": "x", "deletionTimestamp": "t"}, "status": {"phase": "Running"}});
    assert_eq!(
        row(&GroupVersionKind::new("", "v1", "Pod"), &dying, now())[2],
        "Terminating"
    );
    let ended = json!({"status": {"phase": "Succeeded"}});
    assert_eq!(
        row_conditions(&GroupVersionKind::new("", "v1", "Pod"), &ended),
        [
            json!({"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."})
        ]
    );
}

#[test]
fn workloads() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}});
    let selector = json!({"matchLabels": {"app": "web"}});
    check(
        "apps",
        "Deployment",
        json!({"spec": {"replicas": 3, "template": template, "selector": selector}, "status": {"readyReplicas": 2,
            "updatedReplicas": 3, "availableReplicas": 1}}),
        json!(["x", "2/3", 3, 1, "24h", "a,b", "i:1,j:2", "app=web"]),
    );
    check(
        "apps",
        "ReplicaSet",
        json!({"spec": {"replicas": 3, "template": template, "selector": selector}, "status": {"replicas": 2}}),
        json!(["x", 3, 2, 0, "24h", "a,b", "i:1,j:2", "app=web"]),
    );
    check(
        "batch",
        "Job",
        json!({"spec": {"completions": 1, "template": template}, "status": {"succeeded": 1,
            "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:07Z",
            "conditions": [{"type": "Complete", "status": "True"}]}}),
        json!(["x", "Complete", "1/1", "7s", "24h", "a,b", "i:1,j:2", "<none>"]),
    );
    check(
        "batch",
        "Job",
        json!({"spec": {"parallelism": 3}, "status": {"startTime": "2026-01-01T23:59:00Z"}}),
        json!(["x", "Running", "0/1 of 3", "60s", "24h", "", "", "<none>"]),
    );
    check(
        "apps",
        "ControllerRevision",
        json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d",
            "controller": true}]}, "revision": 2}),
        json!(["x", "daemonset.apps/d", 2, "24h"]),
    );
}

#[test]
fn nodes_and_services() {
    check(
        "",
        "Node",
        json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1.36.0",
            "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64"}}}),
        json!([
            "x",
            "Ready,SchedulingDisabled",
            "control-plane,edge",
            "24h",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1 (amd64)",
            "<unknown>"
        ]),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"a": "b"}, "ports": [
            {"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}}),
        json!([
            "x",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30080/TCP,53/UDP",
            "24h",
            "a=b"
        ]),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}, "status": {"loadBalancer": {"ingress": [
            {"ip": "2.2.2.2"}, {"hostname": "1.example.com"}]}}}),
        json!([
            "x",
            "LoadBalancer",
            "<none>",
            "1.example.com,2.2.2.2,9.9.9.9",
            "<none>",
            "24h",
            "<none>"
        ]),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer"}}),
        json!([
            "x",
            "LoadBalancer",
            "<none>",
            "<pending>",
            "<none>",
            "24h",
            "<none>"
        ]),
    );
    check(
        "",
        "Endpoints",
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        json!(["x", "1.1.1.1:80,[::1]:80,1.1.1.1:81 + 1 more...", "24h"]),
    );
    check("", "Endpoints", json!({}), json!(["x", "<none>", "24h"]));
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4", "ports": [{"port": 80, "name": "a"}], "endpoints": [{"addresses": ["1.1.1.1"]},
            {"addresses": ["1.1.1.2"]}]}),
        json!(["x", "IPv4", "80", "1.1.1.1,1.1.1.2", "24h"]),
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4"}),
        json!(["x", "IPv4", "<unset>", "<unset>", "24h"]),
    );
}

#[test]
fn small_kinds() {
    check(
        "",
        "ConfigMap",
        json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}),
        json!(["x", 3, "24h"]),
    );
    check(
        "",
        "Secret",
        json!({"type": "Opaque", "data": {"a": ""}}),
        json!(["x", "Opaque", 1, "24h"]),
    );
    check("", "ServiceAccount", json!({}), json!(["x", "24h"]));
    check(
        "",
        "Namespace",
        json!({"status": {"phase": "Active"}}),
        json!(["x", "Active", "24h"]),
    );
    check(
        "coordination.k8s.io",
        "Lease",
        json!({"spec": {"holderIdentity": "me"}}),
        json!(["x", "me", "24h"]),
    );
    check(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
        json!(["x", "50%", "N/A", 1, "24h"]),
    );
    check(
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "Group", "name": "g"}, {"kind": "Group", "name": "h"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        json!(["x", "ClusterRole/r", "24h", "u", "g, h", "n/s"]),
    );
    check(
        "rbac.authorization.k8s.io",
        "Role",
        json!({}),
        json!(["x", "2026-01-01T00:00:00Z"]),
    );
    check(
        "scheduling.k8s.io",
        "PriorityClass",
        json!({"value": 5, "preemptionPolicy": "Never"}),
        json!(["x", 5, false, "24h", "Never"]),
    );
    check(
        "node.k8s.io",
        "RuntimeClass",
        json!({"handler": "h"}),
        json!(["x", "h", "24h"]),
    );
    check(
        "storage.k8s.io",
        "StorageClass",
        json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"}),
        json!(["x (default)", "p", "Delete", "Immediate", false, "24h"]),
    );
    check(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        json!({}),
        json!(["x", "2026-01-01T00:00:00Z"]),
    );
    check(
        "",
        "PodTemplate",
        json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}),
        json!(["x", "c", "i", "a=b"]),
    );
}

#[test]
fn events() {
    check(
        "",
        "Event",
        json!({"type": "Normal", "reason": "Pulled", "message": " done \n", "count": 2, "involvedObject": {"kind": "Pod",
            "name": "p", "fieldPath": "spec.containers{a}"}, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T23:50:00Z", "lastTimestamp": "2026-01-01T23:59:30Z"}),
        json!([
            "30s",
            "Normal",
            "Pulled",
            "pod/p",
            "spec.containers{a}",
            "kubelet, n",
            "done",
            "10m",
            2,
            "x"
        ]),
    );
    check(
        "events.k8s.io",
        "Event",
        json!({"type": "Normal", "reason": "Scheduled", "note": "ok", "regarding": {"kind": "Pod", "name": "p"},
            "reportingController": "sched", "eventTime": "2026-01-01T23:59:00.000000Z"}),
        json!([
            "60s",
            "Normal",
            "Scheduled",
            "pod/p",
            "",
            "sched",
            "ok",
            "60s",
            1,
            "x"
        ]),
    );
}

#[test]
fn custom_resources() {
    let declared = [
        json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}),
        json!({"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1}),
        json!({"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
        json!({"name": "Map", "type": "string", "jsonPath": ".spec.map"}),
        json!({"name": "Gone", "type": "string", "jsonPath": ".spec.gone"}),
        json!({"name": "Odd", "type": "boolean", "jsonPath": ".spec.replicas"}),
    ];
    let table = CustomTable::new(&declared).unwrap();
    assert_eq!(table.columns().len(), 7);
    assert_eq!(
        table.columns()[1].description,
        "Custom resource definition column (in JSONPath format): .status.conditions[?(@.type==\"Ready\")].status"
    );
    assert_eq!(table.columns()[2].priority, 1);
    let object = json!({"metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 3,
        "map": {"a": 1}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        json!(table.row(&object, now())),
        json!(["w", "True", 3, "24h", "{\"a\":1}", null, null])
    );
    let plain = CustomTable::new(&[]).unwrap();
    assert_eq!(json!(plain.row(&object, now())), json!(["w", "24h"]));
    let wrong = CustomTable::new(&[json!({"jsonPath": "nope["})]).unwrap_err();
    assert_eq!(wrong.to_string(), "unrecognized column definition \"nope[\"");
}

#[test]
fn every_served_kind_has_as_many_cells_as_columns() {
    let odd = [
        json!(null),
        json!([]),
        json!("x"),
        json!({"metadata": 1, "spec": [], "status": "s"}),
    ];
    for def in crate::resources::all().iter().filter(|d| d.is_stored()) {
        for object in &odd {
            let cells = row(&def.gvk(), object, now());
            assert_eq!(cells.len(), columns(&def.gvr).len(), "{}", def.gvr);
        }
        for column in columns(&def.gvr) {
            assert!(!column.description.is_empty(), "{} {}", def.gvr, column.name);
        }
    }
}
