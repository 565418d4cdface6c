use super::*;

fn service() -> Value {
    let mut service = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80}], "selector": {"a": "b"}}});
    crate::defaults::apply(&gvk("", "Service"), &mut service);
    service
}

#[track_caller]
fn check(changes: &[(&str, Value)], expected: &[&str]) {
    check_create(&gvk("", "Service"), &with(&service(), changes), expected);
}

#[test]
fn create() {
    check(&[], &[]);
    check(&[("/spec/ports", json!([]))], &["spec.ports: Required value"]);
    check(
        &[(
            "/spec/ports",
            json!([{"port": 0, "protocol": "X", "targetPort": 0}]),
        )],
        &[
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    let port = json!({"port": 80, "protocol": "TCP", "targetPort": 80});
    check(
        &[("/spec/ports", json!([port, port]))],
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
            "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
             \"TargetPort\":0,\"NodePort\":0}",
        ],
    );
    check(
        &[("/spec/type", json!("Odd"))],
        &[
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
           \"NodePort\"",
        ],
    );
    check(
        &[
            ("/spec/clusterIP", json!("x")),
            ("/spec/clusterIPs", json!(["x"])),
        ],
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    check(
        &[("/spec/clusterIP", json!("10.0.0.2"))],
        &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`"],
    );
    check(
        &[("/spec/ports/0/nodePort", json!(30000))],
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check(
        &[
            ("/spec/sessionAffinity", json!("ClientIP")),
            (
                "/spec/sessionAffinityConfig",
                json!({"clientIP":
            {"timeoutSeconds": 0}}),
            ),
        ],
        &[
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than \
           86400",
        ],
    );
    check(
        &[
            ("/spec/externalIPs", json!(["127.0.0.1"])),
            ("/spec/externalTrafficPolicy", json!("Cluster")),
        ],
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    check(
        &[("/spec/externalTrafficPolicy", json!("Local"))],
        &[
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ],
    );
    check(
        &[("/spec/loadBalancerSourceRanges", json!(["10.0.0.0/40"]))],
        &[
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/40\": must be a valid CIDR value, (e.g. \
             10.9.8.0/24 or 2001:db8::/64)",
        ],
    );
    check(&[("/metadata/name", json!("9s"))], &[]);
}

#[test]
fn external_name() {
    let named = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"type": "ExternalName", "sessionAffinity": "None"}});
    let kind = gvk("", "Service");
    check_create(&kind, &named, &["spec.externalName: Required value"]);
    check_create(
        &kind,
        &with(&named, &[("/spec/externalName", json!("a.b."))]),
        &[],
    );
    check_create(
        &kind,
        &with(
            &named,
            &[
                ("/spec/externalName", json!("a")),
                ("/spec/clusterIPs", json!(["None"])),
            ],
        ),
        &["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
    );
}

#[test]
fn update() {
    let kind = gvk("", "Service");
    let old = with(&service(), &[("/metadata/resourceVersion", json!("1"))]);
    let check = |changes: &[(&str, Value)], expected: &[&str]| {
        check_update(&kind, &with(&old, changes), &old, expected);
    };
    check(&[("/spec/selector", json!({"x": "y"}))], &[]);
    check(
        &[
            ("/spec/clusterIP", json!("10.0.0.2")),
            ("/spec/clusterIPs", json!(["10.0.0.2"])),
        ],
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
    check(
        &[("/spec/ipFamilies", json!(["IPv6"]))],
        &[
            "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ],
    );
}

#[test]
fn status() {
    let kind = gvk("", "Service");
    let old = with(&service(), &[("/metadata/resourceVersion", json!("1"))]);
    let new = with(
        &old,
        &[(
            "/status",
            json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        )],
    );
    let got = validate_status_update(&kind, &new, &old).to_string();
    assert_eq!(
        got,
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    );
}
