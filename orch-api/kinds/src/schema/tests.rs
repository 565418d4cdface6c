//! Tables for decoding and the type table.

use super::*;
use serde_json::json;

fn ty(group: &str, version: &str, kind: &str) -> TypeRef {
    builtin(&GroupVersionKind::new(group, version, kind)).unwrap()
}

#[test]
fn table_agrees_with_the_facts() {
    let facts = include_str!("../../data/schema-facts-v1.36.tsv");
    let mut checked = 0;
    for line in facts.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let c: Vec<&str> = line.split('\t').collect();
        let ty = builtin_definition(c[0]).unwrap_or_else(|| panic!("{}", c[0]));
        let Kind::Struct(fields) = ty.ty().kind() else {
            panic!("{line}")
        };
        if matches!(c[2], "union") {
            continue; // not used by merging
        }
        if c[2] == "required" && c[1].is_empty() {
            for name in c[3].split(',') {
                assert!(fields.get(name).is_some_and(Field::required), "{line}");
            }
            continue;
        }
        if c[1].is_empty() {
            if c[2] == "map-type" {
                assert!(fields.atomic(), "{line}");
                checked += 1;
            }
            continue;
        }
        let field = fields.get(c[1]).unwrap_or_else(|| panic!("{line}"));
        let kind = fields.type_of(field).kind();
        let ok = match (c[2], kind) {
            ("map-type", Kind::Struct(f)) => f.atomic() == (c[3] == "atomic"),
            ("map-type", Kind::Map { atomic, .. }) => atomic == (c[3] == "atomic"),
            ("list-type", Kind::List { kind, .. }) => match kind {
                ListKind::Atomic => c[3] == "atomic",
                ListKind::Set => c[3] == "set",
                ListKind::Map(_) => c[3] == "map",
            },
            // Bytes are a list in Go, but a string here.
            ("list-type", Kind::Scalar(Scalar::Bytes)) => true,
            (
                "list-map-keys",
                Kind::List {
                    kind: ListKind::Map(k),
                    ..
                },
            ) => k.iter().eq(c[3].split(',')),
            ("required", _) => field.required(),
            ("default", _) => {
                field
                    .default()
                    .is_some_and(|d| d.to_string().trim_matches('"') == c[3].trim_matches('"'))
                    || field.zero_default()
            }
            ("patch-merge-key", _) => field.merge_key() == Some(c[3]),
            ("patch-strategy", _) => {
                field.strategy().merge == c[3].contains("merge")
                    && field.strategy().retain_keys == c[3].contains("retainKeys")
            }
            _ => false,
        };
        assert!(ok, "{line}");
        checked += 1;
    }
    assert!(checked > 600, "{checked}");
}

#[test]
fn kinds_are_found() {
    assert!(builtin(&GroupVersionKind::new("apps", "v1", "Deployment")).is_some());
    assert!(builtin(&GroupVersionKind::new("apps", "v1beta1", "Deployment")).is_none());
    assert!(builtin_definition("io.k8s.api.core.v1.PodSpec").is_some());
}

#[test]
fn strict_errors_are_upstreams() {
    let bytes = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","name":"a","foo":1},
        "spec":{"foo":1,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"c","imagee":"x"}]}}}}"#;
    let decoded = decode(&ty("apps", "v1", "Deployment"), bytes).unwrap();
    assert_eq!(
        strict_error(&decoded.strict).unwrap(),
        "strict decoding error: duplicate field \"metadata.name\", unknown field \"metadata.foo\", \
         unknown field \"spec.foo\", duplicate field \"spec.replicas\", \
         unknown field \"spec.template.spec.containers[0].imagee\""
    );
    assert_eq!(decoded.value["spec"]["replicas"], 2);
    assert!(decoded.value["spec"].get("foo").is_none());
    let parsed: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(
        unknown_fields(&ty("apps", "v1", "Deployment"), &parsed),
        [
            "metadata.foo",
            "spec.foo",
            "spec.template.spec.containers[0].imagee"
        ]
    );
    assert_eq!(
        duplicate_fields(bytes),
        [
            "duplicate field \"metadata.name\"",
            "duplicate field \"spec.replicas\""
        ]
    );
}

#[test]
fn wrong_types_read_as_upstream() {
    let check = |kind: (&str, &str, &str), text: &str, expected: &str| {
        assert_eq!(
            decode(&ty(kind.0, kind.1, kind.2), text.as_bytes())
                .unwrap_err()
                .to_string(),
            expected
        );
    };
    let deploy = ("apps", "v1", "Deployment");
    let pod = ("", "v1", "Pod");
    check(
        deploy,
        r#"{"spec":{"replicas":"x"}}"#,
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        deploy,
        r#"{"spec":{"replicas":1.5}}"#,
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        deploy,
        r#"{"spec":[]}"#,
        "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
    );
    check(
        deploy,
        "[]",
        "json: cannot unmarshal array into Go value of type v1.Deployment",
    );
    check(
        pod,
        r#"{"metadata":{"labels":{"a":1}}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check(
        pod,
        r#"{"spec":{"containers":{}}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    check(
        pod,
        r#"{"spec":{"containers":[{"ports":[{"containerPort":"x"}]}]}}"#,
        "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
    );
    check(
        pod,
        r#"{"spec":{"restartPolicy":1}}"#,
        "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
    );
    check(
        pod,
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check(pod, r#"{"spec":"#, "unexpected end of JSON input");
    check(
        pod,
        r#"{"spec":x}"#,
        "invalid character 'x' looking for beginning of value",
    );
    check(
        ("", "v1", "Secret"),
        r#"{"data":{"a":"!"}}"#,
        "illegal base64 data at input byte 0",
    );
}

#[test]
fn canonical_form_is_gos() {
    let check = |kind: (&str, &str, &str), given: serde_json::Value, expected: serde_json::Value| {
        let ty = ty(kind.0, kind.1, kind.2);
        let decoded = decode(&ty, given.to_string().as_bytes()).unwrap();
        assert_eq!(decoded.value, expected);
        assert_eq!(normalize(&ty, given).unwrap().value, expected);
        assert_eq!(
            normalize(&ty, expected.clone()).unwrap().value,
            expected,
            "canonical form is stable"
        );
    };
    check(
        ("", "v1", "Pod"),
        json!({"metadata":{"name":"a","labels":{},"creationTimestamp":null,"generation":0},
            "spec":{"hostNetwork":false,"volumes":[],"nodeName":"","terminationGracePeriodSeconds":0,
                "containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},
                    "env":[{"name":"e","value":""}],
                    "livenessProbe":{"httpGet":{"port":80}}}]}}),
        json!({"metadata":{"name":"a"},
            "spec":{"terminationGracePeriodSeconds":0,
                "containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"500m","memory":"1Gi"}},
                    "env":[{"name":"e"}],
                    "livenessProbe":{"httpGet":{"port":80}}}]},"status":{}}),
    );
    check(
        ("", "v1", "Service"),
        json!({"spec":{"ports":[{"port":80,"targetPort":"web"}],"clusterIP":""}}),
        json!({"metadata":{},"spec":{"ports":[{"port":80,"targetPort":"web"}]},"status":{"loadBalancer":{}}}),
    );
    check(
        ("coordination.k8s.io", "v1", "Lease"),
        json!({"metadata":{"creationTimestamp":"2026-01-01T02:00:00+02:00"},"spec":{"renewTime":"2026-01-01T00:00:00Z"}}),
        json!({"metadata":{"creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}),
    );
}

#[test]
fn custom_types_prune_and_keep() {
    let schema = json!({"type":"object","properties":{
        "spec":{"type":"object","properties":{
            "size":{"type":"integer"},
            "port":{"x-kubernetes-int-or-string":true},
            "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
            "map":{"type":"object","additionalProperties":{"type":"object","properties":{"a":{"type":"string"}}}},
            "pod":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},
            "list":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
                "items":{"type":"object","properties":{"k":{"type":"string"}}}}}}}});
    let ty = from_crd(Some(&schema)).unwrap();
    let mut value = json!({"apiVersion":"x/v1","kind":"X","metadata":{"name":"a"},
        "spec":{"size":"wrong","port":"a","free":{"x":{"y":1}},"map":{"k":{"a":"b","z":1}},
            "pod":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","bogus":1},"spec":{"any":1}},
            "list":[{"k":"a","z":null}],"gone":1},"other":null});
    let unknown = unknown_fields(&ty, &value);
    assert_eq!(
        unknown,
        [
            "other",
            "spec.gone",
            "spec.list[0].z",
            "spec.map.k.z",
            "spec.pod.metadata.bogus"
        ]
    );
    let decoded = decode(&ty, value.to_string().as_bytes()).unwrap();
    assert_eq!(prune(&ty, &mut value), unknown);
    assert_eq!(decoded.value, value);
    assert_eq!(decoded.strict.len(), 5);
    assert!(unknown_fields(&from_crd(None).unwrap(), &json!({"a":{"b":1}})).is_empty());
}
