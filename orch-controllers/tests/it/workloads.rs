//! Deployments, ReplicaSets, Services.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Endpoints, Event, Pod, Service},
    discovery::v1::EndpointSlice,
};
use orch_controllers::ControllerConfig;
use orch_core::testing::Faults;
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn config() -> ControllerConfig {
    ControllerConfig::default()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_scales_and_rolls() {
    let cluster = Cluster::new(1, 5, config()).await;
    cluster.apply::<Deployment>(deployment(10, "v1")).await;
    cluster.run(30).await;
    assert_eq!(cluster.ready_pods().await, 10);
    for replicas in [30, 3] {
        cluster
            .patch::<Deployment>("web", json!({"spec": {"replicas": replicas}}))
            .await;
        cluster.run(30).await;
        assert_eq!(cluster.ready_pods().await, usize::try_from(replicas).unwrap());
    }
    cluster
        .patch::<Deployment>("web", json!({"spec": {"replicas": 10}}))
        .await;
    cluster.run(30).await;
    let template = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
    cluster.patch::<Deployment>("web", template("v2")).await;
    for _ in 0..600 {
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
        let ready = cluster.ready_pods().await;
        assert!(
            (8..=13).contains(&ready),
            "{ready} ready in the middle of the rollout"
        );
    }
    let web = cluster.of::<Deployment>("default").get("web").await.unwrap();
    let status = web.status.clone().unwrap();
    assert_eq!(
        (
            status.updated_replicas,
            status.ready_replicas,
            status.unavailable_replicas
        ),
        (Some(10), Some(10), None)
    );
    let reasons: Vec<String> = status
        .conditions
        .unwrap()
        .into_iter()
        .map(|c| c.reason.unwrap())
        .collect();
    assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    assert_eq!(
        web.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"],
        "2"
    );
    let pods: Vec<Arc<Pod>> = cluster.list().await;
    assert!(
        pods.iter()
            .all(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2"))
    );

    cluster.bad_images.lock().insert("bad".into());
    cluster.patch::<Deployment>("web", template("bad")).await;
    cluster.run(700).await;
    assert_eq!(cluster.ready_pods().await, 8, "the old pods go on serving");
    let status = cluster
        .of::<Deployment>("default")
        .get("web")
        .await
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert!(
        status
            .conditions
            .unwrap()
            .iter()
            .any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
    );
    cluster.patch::<Deployment>("web", template("v2")).await;
    cluster.run(30).await;
    assert_eq!(cluster.ready_pods().await, 10);
    let sets: Vec<Arc<ReplicaSet>> = cluster.list().await;
    assert_eq!(sets.len(), 3, "v1, v2, bad");
    let events: Vec<Arc<Event>> = cluster.list().await;
    let said = |text: &str| {
        events
            .iter()
            .any(|e| e.message.as_deref().unwrap_or_default().starts_with(text))
    };
    assert!(
        said("Scaled up replica set web-")
            && said("Scaled down replica set web-")
            && said("Created pod: web-")
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_nothing_changes() {
    let cluster = Cluster::new(2, 2, config()).await;
    cluster.apply::<Deployment>(deployment(4, "v1")).await;
    cluster.apply::<Service>(json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.9", "ipFamilies": ["IPv4"], "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})).await;
    cluster.run(60).await;
    let versions = |cluster: &Cluster| {
        [
            "pods",
            "apps/deployments",
            "apps/replicasets",
            "discovery.k8s.io/endpointslices",
            "endpoints",
            "services",
            "namespaces",
            "serviceaccounts",
        ]
        .iter()
        .flat_map(|c| cluster.api.dump(c))
        .map(|o| (o.key(), o.resource_version().to_owned()))
        .collect::<Vec<_>>()
    };
    let before = versions(&cluster);
    cluster.run(600).await;
    assert_eq!(versions(&cluster), before);
}

#[tokio::test(start_paused = true)]
async fn a_service_finds_its_ready_pods() {
    let cluster = Cluster::new(3, 3, config()).await;
    cluster.apply::<Deployment>(deployment(3, "v1")).await;
    cluster.apply::<Service>(json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.9", "ipFamilies": ["IPv4"], "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})).await;
    cluster.run(30).await;
    let ready = |slices: &[Arc<EndpointSlice>]| {
        slices
            .iter()
            .flat_map(|s| s.endpoints.iter().flatten())
            .filter(|e| e.conditions.as_ref().unwrap().ready == Some(true))
            .count()
    };
    let slices: Vec<Arc<EndpointSlice>> = cluster.list().await;
    assert_eq!((slices.len(), ready(&slices)), (1, 3));
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
    let endpoints: Vec<Arc<Endpoints>> = cluster.list().await;
    assert_eq!(
        endpoints[0].subsets.as_ref().unwrap()[0]
            .addresses
            .as_ref()
            .unwrap()
            .len(),
        3
    );
    cluster
        .patch::<Deployment>("web", json!({"spec": {"replicas": 0}}))
        .await;
    cluster.run(30).await;
    let slices: Vec<Arc<EndpointSlice>> = cluster.list().await;
    assert_eq!((slices.len(), ready(&slices)), (1, 0), "an empty slice stays");
    cluster
        .of::<Service>("default")
        .delete("web", json!(null))
        .await
        .unwrap();
    cluster.run(60).await;
    assert!(
        cluster.list::<EndpointSlice>().await.is_empty(),
        "collected with their Service"
    );
    assert!(cluster.list::<Endpoints>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strays_released() {
    let cluster = Cluster::new(4, 1, config()).await;
    let pod = orch_core::testing::builders::pod("default", "stray")
        .label("app", "web")
        .build();
    cluster.api.seed(pod).await;
    let set = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}}}});
    cluster.apply::<ReplicaSet>(set).await;
    cluster.run(10).await;
    let stray = cluster.of::<Pod>("default").get("stray").await.unwrap();
    assert_eq!(stray.metadata.owner_references.as_ref().unwrap()[0].name, "web");
    assert_eq!(cluster.list::<Pod>().await.len(), 2);
    cluster
        .patch::<Pod>("stray", json!({"metadata": {"labels": {"app": "other"}}}))
        .await;
    cluster.run(10).await;
    let stray = cluster.of::<Pod>("default").get("stray").await.unwrap();
    assert!(stray.metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(
        cluster.list::<Pod>().await.len(),
        3,
        "the stray and two of the set"
    );
}

#[tokio::test(start_paused = true)]
async fn faults_delay_but_do_not_break() {
    for seed in 10..16 {
        let cluster = Cluster::new(seed, 3, config()).await;
        cluster.faults.set(Faults {
            error_before: 0.2,
            error_after: 0.05,
            watch_break: 0.05,
            delay_max: Duration::from_millis(100),
        });
        cluster.apply::<Deployment>(deployment(6, "v1")).await;
        cluster.run(60).await;
        let image = json!({"spec": {"replicas": 9, "template": {"spec": {"containers": [{"name": "main", "image": "v2"}]}}}});
        cluster.patch::<Deployment>("web", image).await;
        cluster.run(60).await;
        cluster.faults.set(Faults::default());
        cluster.run(300).await;
        let pods: Vec<Arc<Pod>> = cluster.list().await;
        let images: Vec<_> = pods
            .iter()
            .map(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap())
            .collect();
        assert_eq!(images, vec!["v2"; 9], "seed {seed}");
        let status = cluster
            .of::<Deployment>("default")
            .get("web")
            .await
            .unwrap()
            .status
            .clone()
            .unwrap();
        assert_eq!(
            (status.available_replicas, status.replicas),
            (Some(9), Some(9)),
            "seed {seed}"
        );
    }
}
