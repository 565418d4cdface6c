use super::*;

#[track_caller]
fn check_sub(group: &str, kind: &str, name: &str, new: &Value, old: &Value, expected: &[&str]) {
    let got: Vec<String> = validate_subresource_update(&gvk(group, kind), name, new, old)
        .into_iter()
        .map(|e| e.to_string())
        .collect();
    assert_eq!(got, expected);
}

fn meta() -> Value {
    json!({"name": "x", "namespace": "d", "resourceVersion": "1"})
}

#[test]
fn config_maps() {
    let kind = gvk("", "ConfigMap");
    let base = json!({"metadata": meta(), "data": {"a": "1"}});
    check_create(&kind, &base, &[]);
    check_create(
        &kind,
        &with(&base, &[("/binaryData", json!({"a": "MQ=="}))]),
        &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
    );
    check_create(
        &kind,
        &with(&base, &[("/data", json!({"a b": "1"}))]),
        &[
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or \
             '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check_create(
        &kind,
        &with(&base, &[("/data/a", json!("x".repeat(1024 * 1024 + 1)))]),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    let frozen = with(&base, &[("/immutable", json!(true))]);
    check_update(&kind, &frozen, &base, &[]);
    check_update(
        &kind,
        &with(&base, &[("/data/a", json!("2"))]),
        &frozen,
        &[
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ],
    );
}

#[test]
fn secrets() {
    let kind = gvk("", "Secret");
    let base = json!({"metadata": meta(), "type": "Opaque"});
    check_create(&kind, &base, &[]);
    for (name, data, expected) in [
        (
            "kubernetes.io/tls",
            json!({"tls.crt": ""}),
            &["data[tls.key]: Required value"][..],
        ),
        (
            "kubernetes.io/basic-auth",
            json!({}),
            &["data[username]: Required value", "data[password]: Required value"],
        ),
        ("kubernetes.io/basic-auth", json!({"password": ""}), &[]),
        (
            "kubernetes.io/ssh-auth",
            json!({}),
            &["data[ssh-privatekey]: Required value"],
        ),
        (
            "kubernetes.io/dockercfg",
            json!({}),
            &["data[.dockercfg]: Required value"],
        ),
        (
            "kubernetes.io/dockerconfigjson",
            json!({".dockerconfigjson": ""}),
            &[
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input",
            ],
        ),
        (
            "kubernetes.io/service-account-token",
            json!({}),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ] {
        let object = with(&base, &[("/type", json!(name)), ("/data", data)]);
        check_create(&kind, &object, expected);
    }
    check_update(
        &kind,
        &with(&base, &[("/type", json!("other"))]),
        &base,
        &["type: Invalid value: \"other\": field is immutable"],
    );
}

#[test]
fn nodes() {
    let kind = gvk("", "Node");
    let base = json!({"metadata": {"name": "n", "resourceVersion": "1"},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "status": {}});
    check_create(&kind, &base, &[]);
    check_create(
        &kind,
        &with(
            &base,
            &[(
                "/spec/taints",
                json!([{"key": "k", "effect": "NoSchedule"}, {"key": "k", "value": "v", "effect": "NoSchedule"},
                    {"key": "l"}, {"key": "m", "effect": "Odd"}]),
            )],
        ),
        &[
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"k\",\"value\":\"v\"}: taints must \
             be unique by key and effect pair",
            "metadata.taints[2].effect: Required value",
            "metadata.taints[3].effect: Unsupported value: \"Odd\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    check_create(
        &kind,
        &with(
            &base,
            &[("/spec/podCIDRs", json!(["10.0.0.0/24", "10.0.1.0/24"]))],
        ),
        &[
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each \
             IP family",
        ],
    );
    let held = with(
        &base,
        &[
            ("/spec/podCIDRs", json!(["10.0.0.0/24"])),
            ("/spec/providerID", json!("p")),
        ],
    );
    check_update(&kind, &held, &base, &[]);
    let changed = with(
        &held,
        &[
            ("/spec/podCIDRs/0", json!("10.0.1.0/24")),
            ("/spec/providerID", json!("q")),
            (
                "/status/addresses",
                json!([{"type": "Hostname", "address": "n"}, {"type": "Hostname", "address": "n"}]),
            ),
        ],
    );
    check_update(
        &kind,
        &changed,
        &held,
        &[
            "status.addresses[1]: Duplicate value: {\"address\":\"n\",\"type\":\"Hostname\"}",
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ],
    );
    check_sub("", "Node", "status", &held, &base, &[]);
}

#[test]
fn namespaces() {
    let base = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"}});
    let kind = gvk("", "Namespace");
    check_create(&kind, &base, &[]);
    check_create(
        &kind,
        &with(&base, &[("/metadata/name", json!("a.b"))]),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check_sub(
        "",
        "Namespace",
        "status",
        &with(&base, &[("/status/phase", json!("Terminating"))]),
        &base,
        &[
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
        ],
    );
    check_sub(
        "",
        "Namespace",
        "finalize",
        &with(&base, &[("/spec/finalizers", json!(["odd"]))]),
        &base,
        &[
            "spec.finalizers[0]: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
}

#[test]
fn endpoints() {
    let kind = gvk("", "Endpoints");
    let base = json!({"metadata": meta(), "subsets": [{"addresses": [{"ip": "10.0.0.1"}],
        "ports": [{"port": 80, "protocol": "TCP"}]}]});
    check_create(&kind, &base, &[]);
    let check =
        |changes: &[(&str, Value)], expected: &[&str]| check_create(&kind, &with(&base, changes), expected);
    check(
        &[("/subsets/0/addresses", json!([]))],
        &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    );
    check(
        &[("/subsets/0/addresses/0/ip", json!("127.0.0.1"))],
        &[
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    check(
        &[(
            "/subsets/0/ports/-",
            json!({"name": "b", "port": 0, "protocol": "TCP"}),
        )],
        &[
            "subsets[0].ports[0].name: Required value",
            "subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    // What is untouched stays.
    let wrong = with(&base, &[("/subsets/0/addresses", json!([]))]);
    check_update(
        &kind,
        &with(&wrong, &[("/metadata/labels", json!({"a": "b"}))]),
        &wrong,
        &[],
    );
}

#[test]
fn endpoint_slices() {
    let kind = gvk("discovery.k8s.io", "EndpointSlice");
    let base = json!({"metadata": meta(), "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "protocol": "TCP", "port": 80}]});
    check_create(&kind, &base, &[]);
    let check =
        |changes: &[(&str, Value)], expected: &[&str]| check_create(&kind, &with(&base, changes), expected);
    check(
        &[("/addressType", json!("Odd"))],
        &["addressType: Unsupported value: \"Odd\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
    );
    check(
        &[("/endpoints/0/addresses", json!([]))],
        &["endpoints[0].addresses: Required value: must contain at least 1 address"],
    );
    check(
        &[("/ports/-", json!({"name": "", "protocol": "Odd", "port": 81}))],
        &[
            "ports[1].name: Duplicate value: \"\"",
            "ports[1].protocol: Unsupported value: \"Odd\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    let domain = |name: &str| {
        with(
            &base,
            &[
                ("/addressType", json!("FQDN")),
                ("/endpoints/0/addresses", json!([name])),
            ],
        )
    };
    check_create(&kind, &domain("a.example."), &[]);
    check_create(
        &kind,
        &domain("a."),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by \
             dots",
        ],
    );
    check_update(
        &kind,
        &domain("a.example"),
        &base,
        &["addressType: Invalid value: \"FQDN\": field is immutable"],
    );
}

#[test]
fn events() {
    let core = json!({"metadata": meta(), "involvedObject": {"namespace": "d"}, "reason": "R"});
    check_create(&gvk("", "Event"), &core, &[]);
    check_create(
        &gvk("", "Event"),
        &with(&core, &[("/involvedObject/namespace", json!("e"))]),
        &["involvedObject.namespace: Invalid value: \"e\": does not match event.namespace"],
    );
    let kind = gvk("events.k8s.io", "Event");
    let newer = json!({"metadata": meta(), "regarding": {"namespace": "d"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "a.b/c", "reportingInstance": "i", "action": "A", "reason": "R", "type": "Normal"});
    check_create(&kind, &newer, &[]);
    check_create(
        &kind,
        &with(
            &newer,
            &[
                ("/type", json!("Odd")),
                ("/action", json!("")),
                ("/series", json!({"count": 1})),
            ],
        ),
        &[
            "action: Required value",
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
        ],
    );
    check_update(
        &kind,
        &with(&newer, &[("/note", json!("changed"))]),
        &newer,
        &["message: Invalid value: \"changed\": field is immutable"],
    );
}

#[test]
fn roles_and_bindings() {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": "a:b", "namespace": "d"}, "rules": [{"verbs": ["get"], "apiGroups": [""],
        "resources": ["pods"]}]});
    check_create(&gvk(group, "Role"), &role, &[]);
    check_create(
        &gvk(group, "Role"),
        &with(
            &role,
            &[(
                "/rules",
                json!([{}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]),
            )],
        ),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        ],
    );
    let binding = json!({"metadata": {"name": "b", "resourceVersion": "1"}, "roleRef": {"apiGroup": group,
        "kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "apiGroup": group, "name": "u"}]});
    let kind = gvk(group, "ClusterRoleBinding");
    check_create(&kind, &binding, &[]);
    check_create(
        &kind,
        &with(
            &binding,
            &[
                ("/roleRef/kind", json!("Role")),
                (
                    "/subjects",
                    json!([{"kind": "ServiceAccount", "name": "s"}, {"kind": "Odd", "name": "o"}]),
                ),
            ],
        ),
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[0].namespace: Required value",
            "subjects[1].kind: Unsupported value: \"Odd\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ],
    );
    check_update(
        &kind,
        &with(&binding, &[("/roleRef/name", json!("s"))]),
        &binding,
        &[
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"s\"}: \
             cannot change roleRef",
        ],
    );
}

fn job() -> Value {
    let mut object = json!({"metadata": {"name": "x", "namespace": "d", "uid": "u", "resourceVersion": "1"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let kind = gvk("batch", "Job");
    crate::defaults::apply(&kind, &mut object);
    crate::strategy::prepare_for_create(&kind, &mut object);
    object
}

#[test]
fn jobs() {
    let kind = gvk("batch", "Job");
    let base = job();
    check_create(&kind, &base, &[]);
    let check =
        |changes: &[(&str, Value)], expected: &[&str]| check_create(&kind, &with(&base, changes), expected);
    check(
        &[("/spec/template/spec/restartPolicy", json!("Always"))],
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
    check(
        &[
            ("/spec/parallelism", json!(-1)),
            ("/spec/backoffLimit", json!(-1)),
        ],
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    check(
        &[
            ("/spec/completionMode", json!("Indexed")),
            ("/spec/completions", Value::Null),
        ],
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check(
        &[("/spec/managedBy", json!("me"))],
        &["spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
    );
    check(
        &[(
            "/spec/podFailurePolicy",
            json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2, 0]}}]}),
        )],
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0]: must be ordered",
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
        ],
    );
    check_update(
        &kind,
        &with(&base, &[("/spec/parallelism", json!(3))]),
        &base,
        &[],
    );
    let mut got: Vec<String> = validate_update(
        &kind,
        &with(
            &base,
            &[
                ("/spec/completions", json!(7)),
                ("/spec/template/spec/containers/0/image", json!("j")),
            ],
        ),
        &base,
    )
    .into_iter()
    .map(|e| e.path)
    .collect();
    got.dedup();
    assert_eq!(got, ["spec.completions", "spec.template"]);
    // A suspended job that runs nothing may be scheduled elsewhere.
    let suspended = with(&base, &[("/spec/suspend", json!(true))]);
    check_update(
        &kind,
        &with(
            &suspended,
            &[("/spec/template/spec/nodeSelector", json!({"a": "b"}))],
        ),
        &suspended,
        &[],
    );
}

#[test]
fn job_status() {
    let base = with(
        &job(),
        &[("/status", json!({"startTime": "2026-01-01T00:00:00Z"}))],
    );
    let check = |status: Value, expected: &[&str]| {
        check_sub(
            "batch",
            "Job",
            "status",
            &with(&base, &[("/status", status)]),
            &base,
            expected,
        );
    };
    check(json!({"startTime": "2026-01-01T00:00:00Z", "active": 1}), &[]);
    check(
        json!({"startTime": "2026-01-01T00:00:00Z", "active": -1}),
        &["status.active: Invalid value: -1: must be greater than or equal to 0"],
    );
}

#[test]
fn small_kinds() {
    let lease = json!({"metadata": meta(), "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1,
        "preferredHolder": "h"}});
    check_create(
        &gvk("coordination.k8s.io", "Lease"),
        &lease,
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    );
    let budget =
        json!({"metadata": meta(), "spec": {"minAvailable": "200%", "unhealthyPodEvictionPolicy": "Odd"}});
    check_create(
        &gvk("policy", "PodDisruptionBudget"),
        &budget,
        &[
            "spec.minAvailable: Invalid value: \"200%\": must not be greater than 100%",
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Odd\": supported values: \"AlwaysAllow\", \
             \"IfHealthyBudget\"",
        ],
    );
    let class = json!({"metadata": {"name": "p", "resourceVersion": "1"}, "value": 1_000_000_001});
    check_create(
        &gvk("scheduling.k8s.io", "PriorityClass"),
        &class,
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check_create(
        &gvk("scheduling.k8s.io", "PriorityClass"),
        &with(&class, &[("/metadata/name", json!("system-x"))]),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
             error: system-x is not a known system priority class",
        ],
    );
    check_update(
        &gvk("scheduling.k8s.io", "PriorityClass"),
        &with(&class, &[("/value", json!(2))]),
        &with(&class, &[("/value", json!(1))]),
        &["value: Forbidden: may not be changed in an update."],
    );
    check_create(
        &gvk("node.k8s.io", "RuntimeClass"),
        &json!({"metadata": {"name": "r"}}),
        &["handler: Required value"],
    );
    check_create(
        &gvk("storage.k8s.io", "StorageClass"),
        &json!({"metadata": {"name": "s"}, "reclaimPolicy": "Recycle"}),
        &[
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Required value",
        ],
    );
    check_create(
        &gvk("storage.k8s.io", "CSINode"),
        &json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "a.b", "nodeID": "n"}, {"name": "a.b"}]}}),
        &[
            "spec.drivers[1].nodeID: Required value",
            "spec.drivers[1].name: Duplicate value: \"a.b\"",
        ],
    );
    check_create(
        &gvk("authorization.k8s.io", "SubjectAccessReview"),
        &json!({"spec": {}}),
        &[
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes \
             must be specified",
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ],
    );
    check_create(
        &gvk("authentication.k8s.io", "TokenRequest"),
        &json!({"spec": {"expirationSeconds": 1}}),
        &["spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"],
    );
}

fn definition(schema: Value) -> Value {
    let mut object = json!({"metadata": {"name": "widgets.example.com", "resourceVersion": "1"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let kind = gvk("apiextensions.k8s.io", "CustomResourceDefinition");
    crate::defaults::apply(&kind, &mut object);
    crate::strategy::prepare_for_create(&kind, &mut object);
    object
}

#[track_caller]
fn check_definition(changes: &[(&str, Value)], expected: &[&str]) {
    check_create(
        &gvk("apiextensions.k8s.io", "CustomResourceDefinition"),
        &with(&definition(json!({"type": "object"})), changes),
        expected,
    );
}

#[track_caller]
fn check_schema(schema: Value, expected: &[&str]) {
    check_create(
        &gvk("apiextensions.k8s.io", "CustomResourceDefinition"),
        &definition(schema),
        expected,
    );
}

#[test]
fn definitions() {
    check_definition(&[], &[]);
    check_definition(
        &[("/metadata/name", json!("x.example.com"))],
        &["metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group"],
    );
    check_definition(
        &[("/spec/scope", json!("Odd"))],
        &["spec.scope: Unsupported value: \"Odd\": supported values: \"Cluster\", \"Namespaced\""],
    );
    check_definition(
        &[("/spec/names/listKind", json!("Widget"))],
        &["spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same"],
    );
    check_definition(
        &[("/spec/conversion", json!({"strategy": "Webhook"}))],
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    check_definition(
        &[(
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "http://u@h/p?q#f"}}}),
        )],
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; \
             desired format: https://host[/path]",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
        ],
    );
    check_definition(
        &[(
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "s", "path": "/a//"}}}}),
        )],
        &[
            "spec.conversion.webhookClientConfig.service.namespace: Required value",
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"/a//\": segment[1] may not be empty",
        ],
    );
    let kind = gvk("apiextensions.k8s.io", "CustomResourceDefinition");
    let base = definition(json!({"type": "object"}));
    check_update(
        &kind,
        &with(&base, &[("/status/storedVersions", json!(["v1", "v0"]))]),
        &base,
        &[
            "status.storedVersions[1]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage \
             version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 \
             and removes v0 from status.storedVersions",
        ],
    );
}

#[test]
fn definition_schemas() {
    let root = "spec.validation.openAPIV3Schema";
    let at = |rest: &str| format!("{root}{rest}");
    check_schema(
        json!({"type": "object", "properties": {"spec": {}}}),
        &[&at(
            ".properties[spec].type: Required value: must not be empty for specified object fields",
        )],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "array"}}}),
        &[&at(".properties[a].items: Required value: must be specified")],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "nullable": true}}, "nullable": true}),
        &[&at(".nullable: Forbidden: nullable cannot be true at the root")],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
        &[&at(
            ".properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, \
             so it must have a default or be a required property",
        )],
    );
    check_schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [
            {"rule": " "}, {"rule": "a\nb"}, {"rule": "a", "message": "x\ny", "reason": "Odd"}]}}}),
        &[
            &at(".properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified"),
            &at(
                ".properties[a].x-kubernetes-validations[1].message: Required value: message must be specified if rule \
                 contains line breaks",
            ),
            &at(
                ".properties[a].x-kubernetes-validations[2].message: Invalid value: \"x\\ny\": must not contain line \
                 breaks",
            ),
            &at(
                ".properties[a].x-kubernetes-validations[2].reason: Unsupported value: \"Odd\": supported values: \
                 \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ),
        ],
    );
}
