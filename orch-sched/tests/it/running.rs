//! The shell over a client that keeps state.
use crate::decisions::{node, pod};
use k8s_openapi::api::core::v1::{Node, Pod};
use orch_core::{Api, ApiClient, Env, informer::SharedInformers, spawn::Shutdown, testing};
use orch_sched::{Scheduler, SchedulerConfig};
use serde_json::json;
use std::{sync::Arc, time::Duration};

async fn eventually(env: &Env, what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if check().await {
            return;
        }
        env.clock.sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_and_waiting_ones_go_where_room_appears() {
    let env = testing::sim_env(1);
    let client: Arc<dyn ApiClient> = testing::FakeApi::new(&env);
    let nodes = Api::<Node>::all(client.clone());
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    nodes
        .create(&node("n0", json!({"status": {"allocatable": {"cpu": "1"}}})))
        .await
        .unwrap();
    let big = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "800m"}}}]});
    for name in ["a", "b"] {
        let mut pod = pod(name, big.clone());
        pod.metadata.uid = None;
        pods.create(&pod).await.unwrap();
    }
    let shutdown = Shutdown::new();
    let informers = SharedInformers::new(&env, client.clone(), &shutdown);
    let scheduler = Scheduler::new(&env, client.clone(), SchedulerConfig::default());
    let stop = shutdown.clone();
    env.spawner.spawn(
        "scheduler",
        Box::pin(async move { scheduler.run(&informers, stop).await }),
    );
    let bound = async || {
        let list = pods.list(&Default::default()).await.unwrap();
        list.items
            .iter()
            .filter(|p| p.spec.as_ref().is_some_and(|s| s.node_name.is_some()))
            .count()
    };
    eventually(&env, "one pod bound", async || bound().await == 1).await;
    eventually(&env, "the other marked", async || {
        let list = pods.list(&Default::default()).await.unwrap();
        list.items.iter().any(|p| {
            p.status
                .iter()
                .flat_map(|s| s.conditions.iter().flatten())
                .any(|c| {
                    c.reason.as_deref() == Some("Unschedulable")
                        && c.message.as_deref() == Some("0/1 nodes are available: 1 Insufficient cpu.")
                })
        })
    })
    .await;
    nodes.create(&node("n1", json!({}))).await.unwrap();
    eventually(&env, "both bound", async || bound().await == 2).await;
    shutdown.trigger();
}
