//! The documents against what clients look for in them.

use super::*;
use orch_kinds::resources;

fn all() -> Vec<Served> {
    resources::all().iter().cloned().map(Into::into).collect()
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

#[test]
fn v3_has_what_kubectl_looks_for() {
    let openapi = OpenApi::new(all());
    let index = parsed(&openapi.v3_index());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let document = openapi.v3("apis/apps/v1").unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", document.hash));
    let v = parsed(&document);
    // Explain finds the kind by the path of the resource, then its schema by the kind.
    let item = &v["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(item["get"]["x-kubernetes-group-version-kind"], gvk);
    let schemas = &v["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([gvk]));
    // Server-side validation and dry run are found by the parameters of patch, strategic merge by its media types.
    let names: Vec<&str> = item["patch"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(
        item["patch"]["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_some()
    );
    // Three-way patches need the merge facts, through references.
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"];
    assert_eq!(
        spec["strategy"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}])
    );
    assert_eq!(spec["strategy"]["x-kubernetes-patch-strategy"], "retainKeys");
    assert_eq!(spec["strategy"]["default"], json!({}));
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(
        ports["x-kubernetes-list-map-keys"],
        json!(["containerPort", "protocol"])
    );
    let text = spec["replicas"]["description"].as_str().unwrap();
    assert!(text.starts_with("Number of desired pods."), "{text}");
    let policy = &schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"];
    assert_eq!(policy["enum"], json!(["Always", "IfNotPresent", "Never"]));
    // Every reference leads somewhere.
    let mut targets = Vec::new();
    definition::references(&v, &mut targets);
    for target in targets {
        assert!(schemas.get(&target).is_some(), "{target}");
    }
}

#[test]
fn every_definition_is_described() {
    let v = parsed(&OpenApi::new(all()).v2());
    let definitions = v["definitions"].as_object().unwrap();
    assert!(definitions.len() > 250, "{}", definitions.len());
    let (mut fields, mut missing) = (0, Vec::new());
    for (name, definition) in definitions {
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            fields += 1;
            if schema.get("description").is_none() && !name.contains("JSONSchemaProps") {
                missing.push(format!("{name}.{field}"));
            }
        }
    }
    // Upstream has no text for some fields either.
    assert!(
        missing.len() * 50 < fields,
        "{} of {fields}: {missing:?}",
        missing.len()
    );
    let mut targets = Vec::new();
    definition::references(&v, &mut targets);
    for target in targets {
        assert!(definitions.contains_key(&target), "{target}");
    }
}

/// Field number and content of each length-delimited field of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => drop(varint(&mut bytes).to_string()),
            1 => bytes = &bytes[8..],
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                found.push((tag >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

fn at<'a>(bytes: &'a [u8], path: &[u64]) -> &'a [u8] {
    path.iter().fold(bytes, |b, n| {
        fields(b).into_iter().find(|(f, _)| f == n).unwrap().1
    })
}

#[test]
fn v2_is_the_same_in_protobuf() {
    let openapi = OpenApi::new(all());
    let json = parsed(&openapi.v2());
    let document = openapi.v2_protobuf();
    assert_eq!(document.hash, openapi.v2().hash);
    let named = |list: &[u8], entry: u64| -> Vec<String> {
        fields(list)
            .into_iter()
            .filter(|(f, _)| *f == entry)
            .map(|(_, b)| String::from_utf8(at(b, &[1]).to_vec()).unwrap())
            .collect()
    };
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(at(&document.bytes, &[1]), b"2.0");
    assert_eq!(named(at(&document.bytes, &[9]), 1), keys(&json["definitions"]));
    assert_eq!(named(at(&document.bytes, &[8]), 2), keys(&json["paths"]));
    let pod = fields(at(&document.bytes, &[9]))
        .into_iter()
        .find(|(_, b)| at(b, &[1]) == b"io.k8s.api.core.v1.Pod")
        .unwrap()
        .1;
    assert_eq!(
        named(at(pod, &[2, 25]), 1),
        ["apiVersion", "kind", "metadata", "spec", "status"]
    );
    assert_eq!(at(pod, &[2, 31, 1]), b"x-kubernetes-group-version-kind");
    assert_eq!(
        at(pod, &[2, 31, 2, 2]),
        br#"[{"group":"","kind":"Pod","version":"v1"}]"#
    );
}

#[test]
fn custom_resources_join() {
    let mut resource = resources::all()
        .iter()
        .find(|r| r.kind == "Lease")
        .unwrap()
        .clone();
    resource.gvr.group = "stable.example.com".into();
    resource.gvr.resource = "crontabs".into();
    resource.kind = "CronTab".into();
    resource.list_kind = "CronTabList".into();
    let schema = json!({"type": "object", "description": "A cron tab.", "properties": {
        "spec": {"type": "object", "properties": {
            "cron": {"type": "string", "pattern": "^x$", "default": "x"},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {}}}}}}});
    let plain = OpenApi::new(all());
    let before = plain.v3("apis/apps/v1").unwrap();
    let mut more = all();
    more.push(Served {
        resource,
        schema: Some(Arc::new(schema)),
    });
    let openapi = plain.with(more);
    assert_eq!(
        openapi.v3("apis/apps/v1").unwrap().bytes.as_ptr(),
        before.bytes.as_ptr(),
        "unchanged documents are kept"
    );
    assert_ne!(openapi.v2().hash, plain.v2().hash);
    let v3 = parsed(&openapi.v3("apis/stable.example.com/v1").unwrap());
    let tab = &v3["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(tab["properties"]["spec"]["properties"]["cron"]["default"], "x");
    assert_eq!(tab["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    let patch = &v3["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_none()
    );
    assert!(
        v3["components"]["schemas"]
            .get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
            .is_some()
    );
    let v2 = parsed(&openapi.v2());
    let spec = &v2["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"];
    assert_eq!(spec["cron"], json!({"type": "string", "pattern": "^x$"}));
    assert_eq!(spec["port"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(
        spec["free"],
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    );
}
