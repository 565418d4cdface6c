//! Namespaces, owners, ServiceAccounts.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
};
use orch_controllers::ControllerConfig;
use serde_json::json;

fn config() -> ControllerConfig {
    ControllerConfig {
        root_ca_pem: Some("PEM".into()),
        ..ControllerConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_own_and_goes_with_everything() {
    let cluster = Cluster::new(1, 1, config()).await;
    cluster
        .apply::<Namespace>(json!({"metadata": {"name": "team"}}))
        .await;
    cluster.run(5).await;
    assert!(
        cluster
            .of::<ServiceAccount>("team")
            .get_opt("default")
            .await
            .unwrap()
            .is_some()
    );
    let map = cluster
        .of::<ConfigMap>("team")
        .get("kube-root-ca.crt")
        .await
        .unwrap();
    assert_eq!(map.data.as_ref().unwrap()["ca.crt"], "PEM");
    cluster
        .of::<ServiceAccount>("team")
        .delete("default", json!(null))
        .await
        .unwrap();
    cluster.run(5).await;
    assert!(
        cluster
            .of::<ServiceAccount>("team")
            .get_opt("default")
            .await
            .unwrap()
            .is_some(),
        "made again"
    );
    let mut web = deployment(3, "v1");
    web["metadata"]["namespace"] = json!("team");
    cluster.apply::<Deployment>(web).await;
    cluster.run(20).await;
    cluster
        .of::<Namespace>("")
        .delete("team", json!(null))
        .await
        .unwrap();
    cluster.run(60).await;
    assert!(
        cluster
            .of::<Namespace>("")
            .get_opt("team")
            .await
            .unwrap()
            .is_none()
    );
    for collection in [
        "pods",
        "apps/deployments",
        "apps/replicasets",
        "configmaps",
        "serviceaccounts",
    ] {
        assert!(
            cluster
                .api
                .dump(collection)
                .iter()
                .all(|o| o.namespace() != "team"),
            "{collection}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_waits_for_finalizers_and_says_so() {
    let cluster = Cluster::new(2, 1, config()).await;
    cluster
        .apply::<Namespace>(json!({"metadata": {"name": "team"}}))
        .await;
    cluster
        .apply::<ConfigMap>(json!({"metadata": {"name": "held", "namespace": "team", "finalizers": ["x/y"]}}))
        .await;
    cluster
        .of::<Namespace>("")
        .delete("team", json!(null))
        .await
        .unwrap();
    cluster.run(30).await;
    let namespace = cluster.of::<Namespace>("").get("team").await.unwrap();
    let conditions = namespace.status.clone().unwrap().conditions.unwrap();
    let remaining = conditions
        .iter()
        .find(|c| c.type_ == "NamespaceFinalizersRemaining")
        .unwrap();
    assert_eq!(
        remaining.message.as_deref(),
        Some("Some content in the namespace has finalizers remaining: x/y in 1 resource instances")
    );
    let patch = orch_core::client::Patch::merge(json!({"metadata": {"finalizers": null}}));
    cluster
        .of::<ConfigMap>("team")
        .patch("held", patch)
        .await
        .unwrap();
    cluster.run(60).await;
    assert!(
        cluster
            .of::<Namespace>("")
            .get_opt("team")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn owned_objects_go_behind_before_or_not_at_all() {
    for (seed, policy) in [(3, "Background"), (4, "Foreground"), (5, "Orphan")] {
        let cluster = Cluster::new(seed, 2, config()).await;
        cluster.apply::<Deployment>(deployment(3, "v1")).await;
        cluster.run(20).await;
        let deployments = cluster.of::<Deployment>("default");
        deployments
            .delete("web", json!({"propagationPolicy": policy}))
            .await
            .unwrap();
        if policy == "Foreground" {
            assert!(
                deployments.get_opt("web").await.unwrap().is_some(),
                "it waits for what it owns"
            );
        }
        cluster.run(60).await;
        assert!(deployments.get_opt("web").await.unwrap().is_none(), "{policy}");
        let (sets, pods) = (cluster.list::<ReplicaSet>().await, cluster.list::<Pod>().await);
        if policy == "Orphan" {
            assert_eq!((sets.len(), pods.len()), (1, 3));
            assert!(
                sets[0]
                    .metadata
                    .owner_references
                    .as_ref()
                    .is_none_or(Vec::is_empty)
            );
            assert!(
                pods.iter()
                    .all(|p| p.metadata.owner_references.as_ref().is_some_and(|o| o.len() == 1))
            );
        } else {
            assert_eq!((sets.len(), pods.len()), (0, 0), "{policy}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_names_an_owner_that_never_was_is_collected() {
    let cluster = Cluster::new(6, 1, config()).await;
    cluster.run(5).await;
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "nobody", "uid": "none"}]);
    cluster
        .apply::<ConfigMap>(
            json!({"metadata": {"name": "lost", "namespace": "default", "ownerReferences": owner}}),
        )
        .await;
    cluster.run(5).await;
    assert!(
        cluster
            .of::<ConfigMap>("default")
            .get_opt("lost")
            .await
            .unwrap()
            .is_none()
    );
}
