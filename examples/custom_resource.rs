//! A custom resource with its reconciler: a ConfigMap for every `Greeting`, in a control plane inside this program.
//!
//! `cargo run -p orch-examples --bin custom_resource`

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use orch::ControlPlane;
use orch_core::{
    ApiClient, GroupVersionResource, ObjectKey,
    client::{ApiRequest, Patch},
    controller::{Action, Error, Reconciler},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

struct Greeter {
    client: Arc<dyn ApiClient>,
    greetings: GroupVersionResource,
}

#[async_trait]
impl Reconciler for Greeter {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let path = format!(
            "{}/{}",
            self.greetings.collection_path(Some(&key.namespace)),
            key.name
        );
        let greeting = match self.client.call(ApiRequest::get(path)).await {
            Ok(found) => found.into_object()?,
            // Gone: the garbage collector removes what it owned.
            Err(e) if e.is_not_found() => return Ok(Action::AwaitChange),
            Err(e) => return Err(e.into()),
        };
        let name = greeting
            .value()
            .pointer("/spec/name")
            .and_then(Value::as_str)
            .unwrap_or("world");
        let owner = json!({"apiVersion": "example.org/v1", "kind": "Greeting", "name": key.name, "uid": greeting.uid()});
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": format!("hello, {name}")},
            "metadata": {"name": key.name, "ownerReferences": [owner]}});
        let maps = orch_core::Api::<ConfigMap>::namespaced(self.client.clone(), key.namespace.clone());
        maps.patch(&key.name, Patch::apply("greeter", wanted)).await?;
        Ok(Action::AwaitChange)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plane = ControlPlane::builder().start().await?;
    let (client, clock) = (plane.client(), plane.api().env().clock.clone());
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"name": {"type": "string"}}}}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "greetings.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
        "names": {"kind": "Greeting", "plural": "greetings", "singular": "greeting"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let create =
        |path: String, body: Value| ApiRequest::new("POST".parse().unwrap_or_default(), path).value(body);
    client
        .call(create(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".into(),
            crd,
        ))
        .await?;

    let greetings = GroupVersionResource::new("example.org", "v1", "greetings");
    let greeting = json!({"apiVersion": "example.org/v1", "kind": "Greeting", "metadata": {"name": "first"}, "spec": {"name": "Orch"}});
    while client
        .call(create(
            greetings.collection_path(Some("default")),
            greeting.clone(),
        ))
        .await
        .is_err()
    {
        // Served a moment after its definition was created.
        clock.sleep(Duration::from_millis(10)).await;
    }
    let greeter = Greeter {
        client: client.clone(),
        greetings,
    };
    greeter.reconcile(&ObjectKey::new("default", "first")).await?;
    let map = orch_core::Api::<ConfigMap>::namespaced(client, "default")
        .get("first")
        .await?;
    println!(
        "{}",
        map.data
            .iter()
            .flatten()
            .map(|(k, v)| format!("{k}: {v}"))
            .collect::<String>()
    );
    plane.stop().await;
    Ok(())
}
