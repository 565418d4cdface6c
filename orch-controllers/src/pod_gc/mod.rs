//! Collects pods nobody else will: ended ones beyond a number, those of nodes that are gone, those deleted before they
//! were bound, and terminating ones on nodes declared out of service. Behaviour of upstream's `pkg/controller/podgc`.

use crate::{
    node_lifecycle::eviction::disruption,
    shared::{Context, is_deleting, pods, text},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use orch_core::{Status, clock::Monotonic, spawn::Shutdown};
use serde_json::json;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a pod is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Ended,
    Unbound,
    OutOfService,
    NodeGone,
}

/// Runs the pod collector until `shutdown`.
pub async fn run(ctx: Context, shutdown: Shutdown) {
    let (pods, nodes) = (ctx.pods(), ctx.informers.informer::<Node>());
    let synced = async {
        pods.wait_synced().await;
        nodes.wait_synced().await;
    };
    tokio::select! {
        () = synced => {}
        () = shutdown.wait() => return,
    }
    let clock = ctx.env.clock.clone();
    let mut missing = BTreeMap::new();
    while !shutdown.is_triggered() {
        let (all, known) = (pods.lister().list(), nodes.lister().list());
        let gone = gone_nodes(&ctx, &all, &known, &mut missing).await;
        let plan = plan(&all, &known, &gone, ctx.config.terminated_pod_threshold);
        join_all(plan.into_iter().map(|(why, pod)| collect(&ctx, why, pod))).await;
        tokio::select! {
            () = clock.sleep(ctx.config.pod_gc_period) => {}
            () = shutdown.wait() => {}
        }
    }
}

/// Nodes that pods name, that have been missing for the quarantine, and that the server does not know either.
async fn gone_nodes(
    ctx: &Context,
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    missing: &mut BTreeMap<String, Monotonic>,
) -> BTreeSet<String> {
    let known: BTreeSet<&str> = nodes.iter().map(|n| text(&n.metadata.name)).collect();
    let named: BTreeSet<&str> = pods.iter().map(|p| pods::node_name(p)).collect();
    let now = ctx.env.clock.monotonic();
    missing.retain(|name, _| named.contains(name.as_str()) && !known.contains(name.as_str()));
    for name in named.into_iter().filter(|n| !n.is_empty() && !known.contains(n)) {
        missing.entry(name.to_owned()).or_insert(now);
    }
    let mut gone = BTreeSet::new();
    for (name, since) in missing.iter() {
        if now.since(*since) >= ctx.config.missing_node_quarantine
            && matches!(ctx.api::<Node>("").get_opt(name).await, Ok(None))
        {
            gone.insert(name.clone());
        }
    }
    gone
}

fn is_evicted(pod: &Pod) -> bool {
    pods::phase(pod) == "Failed" && pod.status.as_ref().is_some_and(|s| text(&s.reason) == "Evicted")
}

fn plan(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &BTreeSet<String>,
    threshold: usize,
) -> Vec<(Why, Arc<Pod>)> {
    let mut out: BTreeMap<String, (Why, Arc<Pod>)> = BTreeMap::new();
    let mut add = |why: Why, pod: &Arc<Pod>| {
        out.insert(text(&pod.metadata.uid).to_owned(), (why, pod.clone()));
    };
    let mut ended: Vec<&Arc<Pod>> = pods.iter().filter(|p| pods::is_terminal(p)).collect();
    if threshold > 0 && ended.len() > threshold {
        // Evicted ones first, then the oldest.
        ended.sort_by_key(|p| {
            (
                Reverse(is_evicted(p)),
                crate::shared::age_key(&p.metadata).0,
                p.metadata.name.clone(),
            )
        });
        ended[..ended.len() - threshold]
            .iter()
            .for_each(|p| add(Why::Ended, p));
    }
    let out_of_service: BTreeSet<&str> = nodes
        .iter()
        .filter(|n| {
            let ready = n.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let ready = ready.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
            !ready
                && n.spec
                    .iter()
                    .flat_map(|s| s.taints.iter().flatten())
                    .any(|t| t.key == OUT_OF_SERVICE)
        })
        .map(|n| text(&n.metadata.name))
        .collect();
    for pod in pods {
        let node = pods::node_name(pod);
        if is_deleting(&pod.metadata) && node.is_empty() {
            add(Why::Unbound, pod);
        } else if is_deleting(&pod.metadata) && out_of_service.contains(node) {
            add(Why::OutOfService, pod);
        } else if gone.contains(node) {
            add(Why::NodeGone, pod);
        }
    }
    out.into_values().collect()
}

async fn collect(ctx: &Context, why: Why, pod: Arc<Pod>) {
    if let Err(error) = force_delete(ctx, why, &pod).await
        && !error.is_not_found()
    {
        tracing::debug!(pod = text(&pod.metadata.name), %error, "pod not collected");
    }
}

/// Says that the pod failed, so that whoever waits for it knows, and deletes it without grace.
async fn force_delete(ctx: &Context, why: Why, pod: &Pod) -> Result<(), Status> {
    let api = ctx.api::<Pod>(text(&pod.metadata.namespace));
    if !pods::is_terminal(pod) {
        let mut failed = pod.clone();
        if why == Why::NodeGone {
            let message = "PodGC: node no longer exists";
            let marked = disruption(pod, "DeletionByPodGC", message, ctx.env.clock.now());
            failed = marked.unwrap_or(failed);
        }
        failed.status.get_or_insert_default().phase = Some("Failed".into());
        api.replace_status(&failed).await?;
    }
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}});
    api.delete(text(&pod.metadata.name), options).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use orch_core::testing::builders::{node, pod};

    #[test]
    fn who_is_collected() {
        let deleting = |mut p: Pod| {
            p.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            p
        };
        let mut dead = node("dead");
        dead.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "Unknown".into();
        dead.spec.get_or_insert_default().taints = Some(vec![k8s_openapi::api::core::v1::Taint {
            key: OUT_OF_SERVICE.into(),
            ..Default::default()
        }]);
        let mut evicted = pod("n", "evicted").node("live").phase("Failed").build();
        evicted.status.as_mut().unwrap().reason = Some("Evicted".into());
        let pods: Vec<Arc<Pod>> = [
            pod("n", "ended").node("live").phase("Succeeded").build(),
            evicted,
            deleting(pod("n", "unbound").build()),
            deleting(pod("n", "stuck").node("dead").build()),
            deleting(pod("n", "going").node("live").build()),
            pod("n", "lost").node("gone").phase("Running").build(),
            pod("n", "running").node("live").phase("Running").build(),
        ]
        .into_iter()
        .map(|mut p| {
            p.metadata.uid.clone_from(&p.metadata.name);
            Arc::new(p)
        })
        .collect();
        let nodes = [Arc::new(node("live")), Arc::new(dead)];
        let gone = BTreeSet::from(["gone".to_string()]);
        let mut found: Vec<(Why, &str)> = Vec::new();
        let planned = plan(&pods, &nodes, &gone, 1);
        found.extend(planned.iter().map(|(why, p)| (*why, text(&p.metadata.name))));
        found.sort();
        assert_eq!(
            found,
            [
                (Why::Ended, "evicted"),
                (Why::Unbound, "unbound"),
                (Why::OutOfService, "stuck"),
                (Why::NodeGone, "lost")
            ]
        );
        assert_eq!(plan(&pods, &nodes, &gone, 0).len(), 3, "0 keeps all ended ones");
    }
}
