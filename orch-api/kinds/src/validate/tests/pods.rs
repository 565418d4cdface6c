use super::*;

fn pod() -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "c", "image": "c", "resources": {"limits": {}, "requests": {}}, "env": [], "ports": []}],
        "tolerations": []}});
    crate::defaults::apply(&gvk("", "Pod"), &mut pod);
    pod
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[track_caller]
fn check(changes: &[(&str, Value)], expected: &[&str]) {
    check_create(&gvk("", "Pod"), &with(&pod(), changes), expected);
}

#[test]
fn containers() {
    check(&[], &[]);
    check(
        &[("/spec/containers", json!([]))],
        &["spec.containers: Required value"],
    );
    check(
        &[("/spec/containers/0/name", json!(""))],
        &["spec.containers[0].name: Required value"],
    );
    check(
        &[("/spec/containers/0/name", json!("A"))],
        &[&format!("spec.containers[0].name: Invalid value: \"A\": {LABEL}")],
    );
    check(
        &[("/spec/containers/0/image", json!(""))],
        &["spec.containers[0].image: Required value"],
    );
    check(
        &[("/spec/containers/0/image", json!(" c"))],
        &["spec.containers[0].image: Invalid value: \" c\": must not have leading or trailing whitespace"],
    );
    check(
        &[("/spec/initContainers/0/name", json!("c"))],
        &["spec.initContainers[0].name: Duplicate value: \"c\""],
    );
    check(
        &[("/spec/containers/0/imagePullPolicy", json!("Odd"))],
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Odd\": supported values: \"Always\", \
           \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        &[("/spec/containers/0/terminationMessagePolicy", json!("Odd"))],
        &[
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Odd\": supported values: \"File\", \
           \"FallbackToLogsOnError\"",
        ],
    );
    check(
        &[(
            "/spec/initContainers/0/livenessProbe",
            json!({"exec": {"command": ["a"]}}),
        )],
        &[
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
           restartPolicy=Always",
        ],
    );
    check(
        &[(
            "/spec/ephemeralContainers",
            json!([{"name": "e", "image": "e", "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]),
        )],
        &[
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ],
    );
}

#[test]
fn ports_and_env() {
    check(
        &[(
            "/spec/containers/0/ports",
            json!([{"name": "UP", "containerPort": 0, "hostPort": 70000, "protocol": "ICMP"}]),
        )],
        &[
            "spec.containers[0].ports[0].name: Invalid value: \"UP\": must contain only alpha-numeric characters (a-z, \
             0-9), and hyphens (-)",
            "spec.containers[0].ports[0].name: Invalid value: \"UP\": must contain at least one letter (a-z)",
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \
             \"UDP\"",
        ],
    );
    let port = json!({"containerPort": 1, "hostPort": 9, "protocol": "TCP"});
    check(
        &[("/spec/containers/0/ports", json!([port, port]))],
        &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
    );
    check(
        &[(
            "/spec/containers/0/env",
            json!([{"name": ""}, {"name": "a=b"}, {"name": "c", "valueFrom": {}},
            {"name": "d", "value": "x", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "e", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}},
            {"name": "f", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "odd"}}},
            {"name": "g", "valueFrom": {"secretKeyRef": {"name": "s", "key": ""}}}]),
        )],
        &[
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only \
             of printable ASCII characters other than '='",
            "spec.containers[0].env[2].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
             `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            "spec.containers[0].env[3].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported \
             values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
             \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[5].valueFrom.fieldRef.fieldPath: Invalid value: \"odd\": error converting fieldPath: \
             field label not supported: odd",
            "spec.containers[0].env[6].valueFrom.secretKeyRef.key: Required value",
        ],
    );
}

#[test]
fn volumes_and_mounts() {
    check(
        &[(
            "/spec/volumes",
            json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}},
            {"name": "b", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "c", "configMap": {"name": ""}},
            {"name": "h", "hostPath": {"path": "/a/../b", "type": "Odd"}}, {"name": "n"}]),
        )],
        &[
            "spec.volumes[1].name: Duplicate value: \"v\"",
            "spec.volumes[2].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[3].configMap.name: Required value",
            "spec.volumes[4].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.volumes[4].hostPath.type: Unsupported value: \"Odd\": supported values: \"\", \"BlockDevice\", \
             \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            "spec.volumes[5]: Required value: must specify a volume type",
        ],
    );
    check(
        &[(
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a"},
            {"name": "v", "mountPath": "/c", "subPath": "/x", "mountPropagation": "Bidirectional"}]),
        )],
        &[
            "spec.containers[0].volumeMounts[1].name: Not found: \"w\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"/x\": must be a relative path",
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available \
             only to privileged containers",
        ],
    );
    check(
        &[(
            "/spec/volumes/-",
            json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t",
            "expirationSeconds": 1}}]}}),
        )],
        &[
            "spec.volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not \
             specify a duration less than 10 minutes",
            "spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when \
             serviceAccountName is not set",
        ],
    );
}

#[test]
fn resources() {
    let limits = "/spec/containers/0/resources/limits";
    let requests = "/spec/containers/0/resources/requests";
    check(
        &[(limits, json!({"cpu": "-1"}))],
        &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ],
    );
    check(
        &[(limits, json!({"cpu": "1"})), (requests, json!({"cpu": "2"}))],
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    check(
        &[(limits, json!({"odd": "1"}))],
        &[
            "spec.containers[0].resources.limits[odd]: Invalid value: \"odd\": must be a standard resource type or fully \
             qualified",
            "spec.containers[0].resources.limits[odd]: Invalid value: \"odd\": must be a standard resource for containers",
        ],
    );
    check(
        &[(requests, json!({"example.com/gpu": "1"}))],
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ],
    );
    check(
        &[
            (limits, json!({"example.com/gpu": "1500m"})),
            (requests, json!({"example.com/gpu": "1500m"})),
        ],
        &[
            "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
            "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
        ],
    );
    check(
        &[
            (limits, json!({"hugepages-2Mi": "2Mi"})),
            (requests, json!({"hugepages-2Mi": "2Mi"})),
        ],
        &["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
    );
    check(
        &[
            ("/spec/resources", json!({"requests": {"cpu": "1"}})),
            (requests, json!({"cpu": "2"})),
        ],
        &[
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container \
           requests of 2",
        ],
    );
}

#[test]
fn probes() {
    let probe = |handler: Value| {
        let mut probe =
            json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
        probe
            .as_object_mut()
            .unwrap()
            .extend(handler.as_object().unwrap().clone());
        ("/spec/containers/0/livenessProbe", probe)
    };
    check(
        &[probe(
            json!({"httpGet": {"path": "/", "port": 70000, "scheme": "FTP"}}),
        )],
        &[
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \
             \"HTTPS\"",
        ],
    );
    check(
        &[probe(
            json!({"exec": {"command": []}, "tcpSocket": {"port": 1}, "successThreshold": 2, "periodSeconds": -1}),
        )],
        &[
            "spec.containers[0].livenessProbe.exec.command: Required value",
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    check(
        &[probe(json!({}))],
        &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    );
    check(
        &[(
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 31}}}),
        )],
        &[
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
           terminationGracePeriodSeconds (30)",
        ],
    );
}

#[test]
fn spec_fields() {
    check(
        &[("/spec/restartPolicy", json!("Odd"))],
        &[
            "spec.restartPolicy: Unsupported value: \"Odd\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        &[("/spec/dnsPolicy", json!("None"))],
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    check(
        &[("/spec/activeDeadlineSeconds", json!(0))],
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    check(
        &[("/spec/hostname", json!("a.b"))],
        &["spec.hostname: Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        &[(
            "/spec/tolerations",
            json!([{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "b"},
            {"key": "a", "effect": "Odd"}, {"key": "a", "operator": "Odd"}]),
        )],
        &[
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
             means \"match all values and all keys\"",
            "spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[2].effect: Unsupported value: \"Odd\": supported values: \"NoSchedule\", \
             \"PreferNoSchedule\", \"NoExecute\"",
            "spec.tolerations[3].operator: Unsupported value: \"Odd\": supported values: \"Equal\", \"Exists\"",
        ],
    );
    check(
        &[(
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Odd"}]),
        )],
        &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Odd\": supported values: \
             \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
    check(
        &[(
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "preference": {}}]}}),
        )],
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].\
             matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: \
             must be in the range 1-100",
        ],
    );
    check(
        &[("/spec/hostAliases", json!([{"ip": "x", "hostnames": ["a"]}]))],
        &[
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    check(
        &[
            (
                "/spec/securityContext",
                json!({"runAsUser": -1, "sysctls": [{"name": "net.ipv4.x"}]}),
            ),
            ("/spec/hostNetwork", json!(true)),
        ],
        &[
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.x\": may not be specified when \
             'hostNetwork' is true",
        ],
    );
    check(
        &[
            ("/spec/nodeName", json!("n")),
            ("/spec/schedulingGates", json!([{"name": "a.b/c"}])),
        ],
        &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
    );
}

#[test]
fn updates() {
    let kind = gvk("", "Pod");
    let old = with(
        &pod(),
        &[
            ("/metadata/resourceVersion", json!("1")),
            ("/spec/tolerations", json!([{"key": "a", "operator": "Exists"}])),
        ],
    );
    let check = |changes: &[(&str, Value)], expected: &[&str]| {
        check_update(&kind, &with(&old, changes), &old, expected);
    };
    check(&[], &[]);
    check(&[("/spec/containers/0/image", json!("new"))], &[]);
    check(
        &[("/spec/tolerations/-", json!({"key": "b", "operator": "Exists"}))],
        &[],
    );
    check(
        &[("/spec/tolerations", json!([]))],
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ],
    );
    check(
        &[("/spec/containers", json!([]))],
        &[
            "spec.containers: Required value",
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ],
    );
    check(
        &[("/spec/nodeName", json!("n"))],
        &[
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
           `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
           tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
           + nodeName: \"n\"\n",
        ],
    );
    check(
        &[("/spec/schedulingGates", json!([{"name": "a.b/c"}]))],
        &[
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a.b/c'",
        ],
    );
    let gated = with(&old, &[("/spec/schedulingGates", json!([{"name": "a.b/c"}]))]);
    let narrowed = with(
        &gated,
        &[
            ("/spec/nodeSelector", json!({"a": "b"})),
            ("/spec/schedulingGates", Value::Null),
        ],
    );
    check_update(&kind, &narrowed, &gated, &[]);
}

#[test]
fn status() {
    let kind = gvk("", "Pod");
    let old = with(
        &pod(),
        &[
            ("/metadata/resourceVersion", json!("1")),
            ("/spec/restartPolicy", json!("Never")),
            (
                "/status",
                json!({"qosClass": "BestEffort", "containerStatuses": [{"name": "c",
            "state": {"terminated": {"exitCode": 0}}}]}),
            ),
        ],
    );
    let check = |changes: &[(&str, Value)], expected: &[&str]| {
        let got: Vec<String> = validate_status_update(&kind, &with(&old, changes), &old)
            .into_iter()
            .map(|e| e.to_string())
            .collect();
        assert_eq!(got, expected);
    };
    check(&[], &[]);
    check(
        &[("/status/containerStatuses/0/state", json!({"running": {}}))],
        &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
    );
    check(
        &[("/status/qosClass", json!("Guaranteed"))],
        &["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
    );
    check(
        &[("/status/podIPs", json!([{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}]))],
        &[
            "status.podIPs: Invalid value: [{\"IP\":\"1.2.3.4\"},{\"IP\":\"1.2.3.5\"}]: may specify no more than one IP for \
           each IP family",
        ],
    );
}

#[test]
fn resize() {
    let kind = gvk("", "Pod");
    let cpu = |n: &str| json!({"limits": {"cpu": n}, "requests": {"cpu": n}});
    let old = with(
        &pod(),
        &[
            ("/metadata/resourceVersion", json!("1")),
            ("/spec/containers/0/resources", cpu("1")),
        ],
    );
    let check = |changes: &[(&str, Value)], expected: &[&str]| {
        let errors = validate_subresource_update(&kind, "resize", &with(&old, changes), &old);
        let got: Vec<String> = errors.into_iter().map(|e| e.to_string()).collect();
        assert_eq!(got, expected);
    };
    check(&[("/spec/containers/0/resources", cpu("2"))], &[]);
    check(
        &[("/spec/containers/0/resources", json!({}))],
        &[
            "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing",
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ],
    );
    check(
        &[("/spec/containers/0/name", json!("z"))],
        &["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"],
    );
}

#[test]
fn bindings() {
    let kind = gvk("", "Binding");
    check_create(&kind, &json!({"target": {"kind": "Node", "name": "n"}}), &[]);
    check_create(
        &kind,
        &json!({"target": {"kind": "Pod"}}),
        &[
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value",
        ],
    );
}
