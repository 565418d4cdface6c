use super::*;
use crate::{Api, client::Patch, testing::sim_env};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::json;

fn pod(name: &str, extra: Value) -> Pod {
    let mut value = json!({"metadata": {"name": name}, "spec": {"containers": []}});
    merge_patch(&mut value, &extra);
    serde_json::from_value(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn graceful_deletion_and_finalizers() {
    let api: Api<Pod> = Api::namespaced(FakeApi::new(&sim_env(1)), "n");
    api.create(&pod("a", json!({"spec": {"nodeName": "x"}})))
        .await
        .unwrap();
    api.delete("a", Value::Null).await.unwrap();
    let meta = api.get("a").await.unwrap().metadata.clone();
    assert_eq!(meta.deletion_grace_period_seconds, Some(30));
    assert!(meta.deletion_timestamp.is_some());
    api.delete("a", json!({"gracePeriodSeconds": 0})).await.unwrap();
    assert!(api.get("a").await.unwrap_err().is_not_found());

    api.create(&pod("b", json!({"metadata": {"finalizers": ["x/y"]}})))
        .await
        .unwrap();
    api.delete("b", Value::Null).await.unwrap();
    assert!(api.get("b").await.unwrap().metadata.deletion_timestamp.is_some());
    api.patch("b", Patch::merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    assert!(api.get("b").await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart() {
    let api: Api<Pod> = Api::namespaced(FakeApi::new(&sim_env(1)), "n");
    let made = api.create(&pod("a", json!({}))).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let both = json!({"status": {"phase": "Running"}, "spec": {"nodeName": "x"}});
    let after = api
        .patch_subresource("a", "status", Patch::merge(both.clone()))
        .await
        .unwrap();
    assert_eq!(after.spec.as_ref().unwrap().node_name, None);
    assert_eq!(after.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(after.metadata.generation, Some(1));
    let after = api
        .patch(
            "a",
            Patch::merge(json!({"spec": {"nodeName": "x"}, "status": {"phase": "Failed"}})),
        )
        .await
        .unwrap();
    assert_eq!(after.metadata.generation, Some(2));
    assert_eq!(after.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn a_terminating_namespace_takes_nothing_and_goes_when_finalized() {
    let client = FakeApi::new(&sim_env(1));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ns: Namespace = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    namespaces.create(&ns).await.unwrap();
    namespaces.delete("n", Value::Null).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "n");
    let refused = pods.create(&pod("a", json!({}))).await.unwrap_err();
    assert_eq!(refused.reason, StatusReason::Forbidden);
    let patch = Patch::merge(json!({"spec": {"finalizers": []}}));
    namespaces
        .patch_subresource("n", "finalize", patch)
        .await
        .unwrap();
    assert!(namespaces.get("n").await.unwrap_err().is_not_found());
}
