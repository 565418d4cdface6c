//! Nodes that die, come back, and get their ranges.

use crate::cluster::{Cluster, deployment, is_ready};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use orch_controllers::ControllerConfig;
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

async fn on(cluster: &Cluster, node: &str) -> Vec<Arc<Pod>> {
    let pods: Vec<Arc<Pod>> = cluster.list().await;
    pods.into_iter()
        .filter(|p| p.spec.as_ref().unwrap().node_name.as_deref() == Some(node))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_pods_are_replaced_after_the_default_times() {
    let cluster = Cluster::new(1, 5, ControllerConfig::default()).await;
    cluster.apply::<Deployment>(deployment(10, "v1")).await;
    cluster.run(60).await;
    assert_eq!(on(&cluster, "node-3").await.len(), 2);
    cluster.dead.lock().insert("node-3".into());
    cluster.run(62).await;
    let node = cluster.of::<Node>("").get("node-3").await.unwrap();
    let ready = node
        .status
        .as_ref()
        .unwrap()
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap()
        .clone();
    assert_eq!(
        (ready.status.as_str(), ready.message.as_deref()),
        ("Unknown", Some("Kubelet stopped posting node status."))
    );
    let taints: BTreeSet<String> = node
        .spec
        .as_ref()
        .unwrap()
        .taints
        .iter()
        .flatten()
        .map(|t| format!("{}:{}", t.key, t.effect))
        .collect();
    assert_eq!(
        taints,
        ["NoExecute", "NoSchedule"]
            .map(|e| format!("node.kubernetes.io/unreachable:{e}"))
            .into()
    );
    assert!(on(&cluster, "node-3").await.iter().all(|p| !is_ready(p)));
    assert_eq!(cluster.ready_pods().await, 8, "seen as eight");
    cluster.run(290).await;
    assert_eq!(cluster.ready_pods().await, 8, "they may tolerate it for 300 s");
    cluster.run(30).await;
    assert_eq!(cluster.ready_pods().await, 10, "two new ones elsewhere");
    cluster.dead.lock().clear();
    cluster.run(30).await;
    let node = cluster.of::<Node>("").get("node-3").await.unwrap();
    assert!(
        node.spec
            .as_ref()
            .unwrap()
            .taints
            .as_ref()
            .is_none_or(Vec::is_empty)
    );
    assert_eq!(
        on(&cluster, "node-3").await.len(),
        0,
        "the old pods are gone with their agent back"
    );
    assert_eq!(cluster.ready_pods().await, 10);
}

#[tokio::test(start_paused = true)]
async fn short_times_replace_within_ten_seconds() {
    let config = ControllerConfig {
        node_monitor_grace: Duration::from_secs(6),
        node_monitor_period: Duration::from_millis(500),
        ..ControllerConfig::default()
    };
    let cluster = Cluster::new(2, 5, config).await;
    let mut web = deployment(10, "v1");
    for toleration in web["spec"]["template"]["spec"]["tolerations"]
        .as_array_mut()
        .unwrap()
    {
        toleration["tolerationSeconds"] = json!(1);
    }
    cluster.apply::<Deployment>(web).await;
    cluster.run(60).await;
    cluster.dead.lock().insert("node-2".into());
    cluster.run(10).await;
    assert_eq!(cluster.ready_pods().await, 10);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_evicted_when_all_nodes_seem_dead() {
    let cluster = Cluster::new(3, 3, ControllerConfig::default()).await;
    cluster.apply::<Deployment>(deployment(6, "v1")).await;
    cluster.run(60).await;
    cluster.dead.lock().extend((1..=3).map(|n| format!("node-{n}")));
    cluster.run(1000).await;
    let pods: Vec<Arc<Pod>> = cluster.list().await;
    assert_eq!(
        pods.iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none())
            .count(),
        6
    );
    cluster.dead.lock().clear();
    cluster.run(60).await;
    assert_eq!(cluster.ready_pods().await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_removed_nodes_pods_are_collected() {
    let cluster = Cluster::new(4, 3, ControllerConfig::default()).await;
    cluster.apply::<Deployment>(deployment(6, "v1")).await;
    cluster.run(60).await;
    cluster.dead.lock().insert("node-1".into());
    cluster
        .of::<Node>("")
        .delete("node-1", json!(null))
        .await
        .unwrap();
    cluster.run(90).await;
    assert!(on(&cluster, "node-1").await.is_empty());
    assert_eq!(cluster.ready_pods().await, 6);
}

#[tokio::test(start_paused = true)]
async fn each_node_gets_a_range() {
    let cluster = Cluster::new(5, 3, ControllerConfig::default()).await;
    cluster.run(10).await;
    let nodes: Vec<Arc<Node>> = cluster.list().await;
    let ranges: BTreeSet<String> = nodes
        .iter()
        .map(|n| n.spec.as_ref().unwrap().pod_cidr.clone().unwrap())
        .collect();
    assert_eq!(
        ranges,
        ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
            .map(String::from)
            .into()
    );
}
