//! A whole control plane inside this program, used through the ordinary `kube` client, without a socket.
//!
//! `cargo run -p orch-examples --bin embedded_control_plane`

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::api::{Api, ListParams, PostParams};
use orch::ControlPlane;
use serde_json::json;
use std::time::Duration;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plane = ControlPlane::builder().start().await?;
    let client = plane.kube_client();
    println!("Kubernetes {}", client.apiserver_version().await?.git_version);

    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let web: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]},
            },
        },
    }))?;
    deployments.create(&PostParams::default(), &web).await?;

    // The controllers run in this program too: the pods come by themselves (and wait, since there is no node).
    let pods: Api<Pod> = Api::default_namespaced(client);
    let of_web = ListParams::default().labels("app=web");
    let pods = loop {
        let found = pods.list(&of_web).await?;
        if found.items.len() == 3 {
            break found;
        }
        plane.api().env().clock.sleep(Duration::from_millis(10)).await;
    };
    for pod in &pods.items {
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("unknown");
        println!(
            "{phase}: {} owned by web",
            pod.metadata.owner_references.iter().flatten().count()
        );
    }
    plane.stop().await;
    Ok(())
}
