//! A custom resource with its reconciler: a ConfigMap for every `Greeting`, in a control plane inside this program.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use orch_core::{
    Api, ApiClient, GroupVersionResource, ObjectKey,
    client::{ApiRequest, Patch},
    controller::{Action, Error, Reconciler},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const DEFINITION: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
    "names": {"kind": "Greeting", "plural": "greetings", "singular": "greeting"},
    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
        "properties": {"spec": {"type": "object", "properties": {"name": {"type": "string"}}}}}}}]}}"#;
const GREETING: &str =
    r#"{"apiVersion":"example.org/v1","kind":"Greeting","metadata":{"name":"first"},"spec":{"name":"Orch"}}"#;

struct Greeter {
    client: Arc<dyn ApiClient>,
    greetings: GroupVersionResource,
}

#[async_trait]
impl Reconciler for Greeter {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let collection = self.greetings.collection_path(Some(&key.namespace));
        let found = self
            .client
            .call(ApiRequest::get(format!("{collection}/{}", key.name)))
            .await;
        if found.as_ref().is_err_and(|e| e.is_not_found()) {
            return Ok(Action::AwaitChange);
        }
        let greeting = found?.into_object()?;
        let name = greeting.value().pointer("/spec/name").and_then(Value::as_str);
        let text = format!("hello, {}", name.unwrap_or("world"));
        let owner = json!({"apiVersion": "example.org/v1", "kind": "Greeting",
            "name": key.name, "uid": greeting.uid()});
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": text},
            "metadata": {"name": key.name, "ownerReferences": [owner]}});
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), key.namespace.clone());
        maps.patch(&key.name, Patch::apply("greeter", wanted)).await?;
        Ok(Action::AwaitChange)
    }
}

fn create(path: &str, body: &str) -> anyhow::Result<ApiRequest> {
    Ok(ApiRequest::new("POST".parse()?, path).value(serde_json::from_str(body)?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plane = orch::ControlPlane::builder().start().await?;
    let client = plane.client();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    client.call(create(definitions, DEFINITION)?).await?;
    let greetings = GroupVersionResource::new("example.org", "v1", "greetings");
    let collection = greetings.collection_path(Some("default"));
    while client.call(create(&collection, GREETING)?).await.is_err() {
        plane.api().env().clock.sleep(Duration::from_millis(10)).await;
    }
    let greeter = Greeter {
        client: client.clone(),
        greetings,
    };
    greeter.reconcile(&ObjectKey::new("default", "first")).await?;
    let map = Api::<ConfigMap>::namespaced(client, "default")
        .get("first")
        .await?;
    map.data
        .iter()
        .flatten()
        .for_each(|(key, value)| println!("{key}: {value}"));
    plane.stop().await;
    Ok(())
}
