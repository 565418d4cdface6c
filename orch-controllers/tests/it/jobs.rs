//! Jobs.

use crate::cluster::Cluster;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use orch_controllers::ControllerConfig;
use orch_core::testing::Faults;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn job(image: &str, more: Value) -> Value {
    let mut value = json!({
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "parallelism": 3, "completions": 7, "backoffLimit": 2, "selector": {"matchLabels": {"job": "work"}},
            "template": {"metadata": {"labels": {"job": "work"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}},
        },
    });
    orch_core::testing::merge_patch(&mut value, &json!({"spec": more}));
    value
}

async fn end(cluster: &Cluster) -> String {
    let work = cluster.of::<Job>("default").get("work").await.unwrap();
    let conditions = work
        .status
        .clone()
        .unwrap_or_default()
        .conditions
        .unwrap_or_default();
    let ended = conditions
        .into_iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed"));
    ended
        .map(|c| format!("{}/{}", c.type_, c.reason.unwrap_or_default()))
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_its_pods_and_is_forgotten_in_time() {
    let cluster = Cluster::new(1, 2, ControllerConfig::default()).await;
    cluster
        .apply::<Job>(job("succeeds", json!({"ttlSecondsAfterFinished": 100})))
        .await;
    cluster.run(30).await;
    assert_eq!(end(&cluster).await, "Complete/CompletionsReached");
    let work = cluster.of::<Job>("default").get("work").await.unwrap();
    assert_eq!(work.status.as_ref().unwrap().succeeded, Some(7));
    let pods: Vec<Arc<Pod>> = cluster.list().await;
    assert_eq!(pods.len(), 7);
    assert!(
        pods.iter()
            .all(|p| p.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
    );
    let events: Vec<Arc<Event>> = cluster.list().await;
    assert!(events.iter().any(|e| e.reason.as_deref() == Some("Completed")));
    cluster.run(150).await;
    assert!(
        cluster
            .of::<Job>("default")
            .get_opt("work")
            .await
            .unwrap()
            .is_none(),
        "its time to live has passed"
    );
    assert!(cluster.list::<Pod>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failing_job_gives_up() {
    let cluster = Cluster::new(2, 2, ControllerConfig::default()).await;
    cluster
        .apply::<Job>(job("fails", json!({"parallelism": 1})))
        .await;
    cluster.run(120).await;
    assert_eq!(end(&cluster).await, "Failed/BackoffLimitExceeded");
    let work = cluster.of::<Job>("default").get("work").await.unwrap();
    assert_eq!(work.status.as_ref().unwrap().failed, Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_survives_faults() {
    for seed in 3..7 {
        let cluster = Cluster::new(seed, 2, ControllerConfig::default()).await;
        let faults = Faults {
            error_before: 0.2,
            error_after: 0.02,
            watch_break: 0.05,
            delay_max: Duration::from_millis(50),
        };
        cluster.faults.set(faults);
        cluster
            .apply::<Job>(job("succeeds", json!({"completionMode": "Indexed"})))
            .await;
        cluster.run(90).await;
        cluster.faults.set(Faults::default());
        cluster.run(300).await;
        assert_eq!(end(&cluster).await, "Complete/CompletionsReached", "seed {seed}");
        let status = cluster
            .of::<Job>("default")
            .get("work")
            .await
            .unwrap()
            .status
            .clone()
            .unwrap();
        assert_eq!(
            (status.completed_indexes.as_deref(), status.failed),
            (Some("0-6"), None),
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_job_leaves_no_pod_behind() {
    let cluster = Cluster::new(8, 2, ControllerConfig::default()).await;
    cluster.apply::<Job>(job("runs", json!({}))).await;
    cluster.run(10).await;
    assert_eq!(cluster.ready_pods().await, 3);
    cluster
        .of::<Job>("default")
        .delete("work", json!({"propagationPolicy": "Background"}))
        .await
        .unwrap();
    cluster.run(60).await;
    assert!(cluster.list::<Pod>().await.is_empty());
}
