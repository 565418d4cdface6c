//! Custom resources through the same registry.

use crate::util::{call_with, get, list, patch, post};
use futures::StreamExt;
use http::{Method, header};
use orch_api::testing::TestCluster;
use orch_core::client::{ApiClient, ResponseBody};
use serde_json::{Value, json};
use std::sync::Arc;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

fn crd() -> Value {
    json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"]},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale":
                {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
             "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
             "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["size"], "properties": {
                    "size": {"type": "string", "enum": ["s", "m"]},
                    "replicas": {"type": "integer", "minimum": 0, "default": 1}}},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}},
            {"name": "v2", "served": true, "storage": false,
             "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

async fn established(client: &Arc<dyn ApiClient>) -> Value {
    let request = crate::util::request(Method::GET, &format!("{CRDS}?watch=1"), Value::Null);
    let mut events = client.watch(request).await.unwrap();
    while let Some(event) = events.next().await {
        let object = event.unwrap().object.value().clone();
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
        {
            return object;
        }
    }
    panic!("not established");
}

#[tokio::test(start_paused = true)]
async fn life_of_a_custom_resource() {
    let client = TestCluster::start().await.client();
    assert_eq!(post(&client, FOOS, json!({})).await.unwrap_err().code, 404);
    post(&client, CRDS, crd()).await.unwrap();
    let served = established(&client).await;
    assert_eq!(served["status"]["acceptedNames"]["singular"], "foo");
    assert_eq!(served["status"]["storedVersions"], json!(["v1"]));

    let foo = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"size": "s", "no": 1}});
    let created = post(&client, FOOS, foo).await.unwrap();
    assert_eq!(
        created["spec"],
        json!({"size": "s", "replicas": 1}),
        "pruned and defaulted"
    );
    assert_eq!(created["metadata"]["generation"], 1);
    let bad = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "b"}, "spec": {"size": "x", "replicas": -1}});
    let refused = post(&client, FOOS, bad).await.unwrap_err();
    assert_eq!(
        refused.message,
        r#"Foo.example.com "b" is invalid: [spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0, spec.size: Unsupported value: "x": supported values: "s", "m"]"#
    );

    let scaled = patch(
        &client,
        &format!("{FOOS}/a/scale"),
        "application/merge-patch+json",
        json!({"spec": {"replicas": 3}}),
    )
    .await;
    assert_eq!(scaled.unwrap()["spec"]["replicas"], 3);
    let status = patch(
        &client,
        &format!("{FOOS}/a/status"),
        "application/merge-patch+json",
        json!({"spec": {"replicas": 9}, "status": {"replicas": 3}}),
    )
    .await
    .unwrap();
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 2);

    let other = get(&client, "/apis/example.com/v2/namespaces/default/foos/a")
        .await
        .unwrap();
    assert_eq!(
        (&other["apiVersion"], &other["spec"]["size"]),
        (&json!("example.com/v2"), &json!("s"))
    );
    let table = call_with(
        &client,
        Method::GET,
        FOOS,
        Value::Null,
        header::ACCEPT,
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    );
    let ResponseBody::Raw { bytes, .. } = table.await.unwrap().body else {
        panic!("no table")
    };
    let table: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Replicas");
    assert_eq!(table["rows"][0]["cells"][1], 3);

    let gone = crate::util::object(
        &client,
        Method::DELETE,
        &format!("{CRDS}/foos.example.com"),
        Value::Null,
    )
    .await
    .unwrap();
    assert!(gone["metadata"]["deletionTimestamp"].is_string(), "{gone}");
    for _ in 0..100 {
        if get(&client, &format!("{CRDS}/foos.example.com")).await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(
        get(&client, &format!("{CRDS}/foos.example.com"))
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert_eq!(list(&client, FOOS).await.unwrap_err().code, 404);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_is_refused() {
    let client = TestCluster::start().await.client();
    let mut webhook = crd();
    webhook["spec"]["conversion"] = json!({"strategy": "Webhook"});
    let refused = post(&client, CRDS, webhook).await.unwrap_err();
    assert!(
        refused.message.contains("conversion webhooks are not supported"),
        "{refused}"
    );
}
