use super::*;
use serde_json::json;

/// A length-delimited field.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(content);
    out
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        bytes(1, &meta),
        bytes(2, raw),
        bytes(3, b""),
        bytes(4, b""),
    ]
    .concat()
}

#[test]
fn a_config_map() {
    let meta = [
        bytes(1, b"a"),
        bytes(2, b""),
        bytes(3, b"ns"),
        varint(7, 0),
        bytes(8, b""),
    ]
    .concat();
    let entry = |k: &[u8], v: &[u8]| [bytes(1, k), bytes(2, v)].concat();
    let raw = [
        bytes(1, &meta),
        bytes(2, &entry(b"x", b"y")),
        bytes(2, &entry(b"e", b"")),
        bytes(3, &entry(b"b", b"\x00\xff")),
    ];
    assert_eq!(
        decode(&body("v1", "ConfigMap", &raw.concat())).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"},
            "data": {"x": "y", "e": ""}, "binaryData": {"b": "AP8="}})
    );
}

#[test]
fn a_pod_with_inlined_parts_quantities_and_zeroes_that_mean_something() {
    let source = bytes(2, &bytes(1, b"")); // volumeSource.emptyDir.medium
    let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
    let quantity = [bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat();
    let port = [varint(1, 1), varint(2, 0), bytes(3, b"http")].concat();
    let handler = bytes(1, &bytes(2, &[bytes(1, b"/x"), bytes(2, &port)].concat()));
    let probe = [handler, varint(2, 0), varint(3, 5)].concat();
    let container = [
        bytes(1, b"c"),
        bytes(2, b"i"),
        bytes(8, &bytes(2, &quantity)),
        bytes(10, &probe),
    ];
    let spec = [
        bytes(1, &volume),
        bytes(2, &container.concat()),
        varint(4, 0),
        varint(11, 0),
        bytes(10, b""),
    ]
    .concat();
    let found = decode(&body("v1", "Pod", &[bytes(2, &spec), bytes(3, b"")].concat())).unwrap();
    assert_eq!(
        found,
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"path": "/x", "port": "http"}, "timeoutSeconds": 5}}]}})
    );
}

#[test]
fn options_of_any_group_and_times() {
    let found = decode(&body(
        "apps/v1",
        "DeleteOptions",
        &[varint(1, 0), bytes(4, b"Foreground")].concat(),
    ))
    .unwrap();
    assert_eq!(
        found,
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground"})
    );
    let time = |seconds: u8, nanos: u8| [varint(1, seconds), varint(2, nanos)].concat();
    let spec = [
        bytes(1, b"me"),
        bytes(3, &time(60, 0)),
        bytes(4, &[varint(1, 61), vec![2 << 3, 0x80, 0xad, 0xe2, 0x04]].concat()),
    ];
    let found = decode(&body(
        "coordination.k8s.io/v1",
        "Lease",
        &bytes(2, &spec.concat()),
    ))
    .unwrap();
    assert_eq!(
        found["spec"],
        json!({"holderIdentity": "me", "acquireTime": "1970-01-01T00:01:00.000000Z",
        "renewTime": "1970-01-01T00:01:01.010000Z"})
    );
}

#[test]
fn nonsense_is_refused_without_panic() {
    for bad in [&b""[..], b"k8s", b"{}", b"k8s\0\xff", b"k8s\0\x0a\x7f"] {
        assert_eq!(decode(bad).unwrap_err().code, 400);
    }
    assert_eq!(decode(&body("v1", "Nope", b"")).unwrap_err().code, 400);
    // Numbers where messages belong, and lengths beyond the end.
    assert_eq!(decode(&body("v1", "Pod", &varint(2, 1))).unwrap_err().code, 400);
    assert_eq!(
        decode(&body("v1", "Pod", &[2 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f]))
            .unwrap_err()
            .code,
        400
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_in_a_value_or_an_error(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for kind in ["Pod", "Service", "Node"] {
            drop(decode(&body("v1", kind, &raw)));
        }
        drop(decode(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw)));
    }
}
