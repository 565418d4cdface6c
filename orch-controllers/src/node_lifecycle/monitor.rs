//! Looks at all nodes every few seconds.

use super::{
    NOT_READY, UNREACHABLE,
    health::{self, Health, Moment, Zone},
    taints, write_taints,
};
use crate::shared::{Context, PODS_BY_NODE, pods, text};
use futures::future::join_all;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use orch_core::{
    clock::Monotonic,
    controller::{
        Error, EventRecorder,
        events::EventType::{Normal, Warning},
    },
    informer::Lister,
    spawn::Shutdown,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const LEASES: &str = "kube-node-lease";

struct Monitor {
    ctx: Context,
    nodes: Lister<Node>,
    leases: Lister<Lease>,
    pods: Lister<Pod>,
    recorder: EventRecorder,
    health: BTreeMap<String, Health>,
    /// Whether all nodes were down in the last round; nothing before the first.
    all_down: Option<bool>,
    /// When the next node of a zone may be tainted.
    next_taint: BTreeMap<String, Monotonic>,
}

/// Runs the monitor until `shutdown`.
pub async fn run(ctx: Context, shutdown: Shutdown) {
    let nodes = ctx.informers.informer::<Node>();
    let leases = ctx.informers.informer::<Lease>();
    let pods = ctx.pods();
    let synced = async {
        nodes.wait_synced().await;
        leases.wait_synced().await;
        pods.wait_synced().await;
    };
    tokio::select! {
        () = synced => {}
        () = shutdown.wait() => return,
    }
    let mut monitor = Monitor {
        recorder: ctx.recorder("node-controller"),
        nodes: nodes.lister(),
        leases: leases.lister(),
        pods: pods.lister(),
        health: BTreeMap::new(),
        all_down: None,
        next_taint: BTreeMap::new(),
        ctx,
    };
    let clock = monitor.ctx.env.clock.clone();
    while !shutdown.is_triggered() {
        let next = clock.monotonic() + monitor.ctx.config.node_monitor_period;
        monitor.round().await;
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = shutdown.wait() => {}
        }
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(key))
            .cloned()
            .unwrap_or_default()
    };
    format!(
        "{}:{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

fn is_excluded(node: &Node) -> bool {
    node.metadata
        .labels
        .as_ref()
        .is_some_and(|l| l.contains_key("node.kubernetes.io/exclude-disruption"))
}

fn readiness(node: &Node) -> &str {
    taints::condition(node, "Ready").map_or("", |c| c.status.as_str())
}

impl Monitor {
    async fn round(&mut self) {
        let now = Moment {
            wall: self.ctx.env.clock.now(),
            monotonic: self.ctx.env.clock.monotonic(),
        };
        let nodes = self.nodes.list();
        let names: BTreeSet<String> = nodes.iter().map(|n| text(&n.metadata.name).to_owned()).collect();
        self.health.retain(|name, _| names.contains(name));
        let mut current = Vec::new();
        for node in nodes {
            current.push(self.look_at(node, now).await);
        }
        let (zones, all_down) = self.zones(&current, now);
        if all_down {
            let cleared = current.iter().map(|node| self.taint(node, None, now));
            join_all(cleared).await;
            return;
        }
        for node in &current {
            if let Err(error) = self.execute(node, &zones, now).await {
                tracing::debug!(node = text(&node.metadata.name), %error, "taints not written");
            }
            if readiness(node) == "Unknown" {
                self.mark_pods(node, now).await;
            }
        }
    }

    /// Notices heartbeats; says in a silent node's status that nothing is known of it. Answers with the node after.
    async fn look_at(&mut self, node: Arc<Node>, now: Moment) -> Arc<Node> {
        let name = text(&node.metadata.name).to_owned();
        let lease = self.leases.find(LEASES, &name);
        let health = match self.health.get_mut(&name) {
            Some(health) => {
                health.observe(&node, lease.as_deref(), now);
                health
            }
            None => {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder.record(&*node, Normal, "RegisteredNode", message);
                self.health
                    .entry(name.clone())
                    .or_insert_with(|| Health::first(&node, lease.as_deref(), now))
            }
        };
        let config = &self.ctx.config;
        if !health.is_silent(&node, config.node_monitor_grace, config.node_startup_grace, now) {
            return node;
        }
        let Some(status) = health::unknown_status(&node, now.wall) else {
            return node;
        };
        let was_ready = readiness(&node) == "True";
        let mut new = (*node).clone();
        new.status = Some(status);
        match self.ctx.api::<Node>("").replace_status(&new).await {
            Ok(written) => {
                if was_ready {
                    let message = format!("Node {name} status is now: NodeNotReady");
                    self.recorder.record(&*node, Normal, "NodeNotReady", message);
                }
                // The next copy shows this write; it must not look like a heartbeat.
                health.observe(
                    &written,
                    lease.as_deref(),
                    Moment {
                        monotonic: health.heard,
                        ..now
                    },
                );
                written
            }
            Err(error) => {
                tracing::debug!(node = name, %error, "node status not written");
                node
            }
        }
    }

    /// How each zone is, and whether all nodes are down: then it is rather this controller that is cut off.
    fn zones(&mut self, nodes: &[Arc<Node>], now: Moment) -> (BTreeMap<String, (Zone, usize)>, bool) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for node in nodes.iter().filter(|n| !is_excluded(n)) {
            let (ready, not_ready) = counts.entry(zone_of(node)).or_default();
            *(if readiness(node) == "True" {
                ready
            } else {
                not_ready
            }) += 1;
        }
        let zones: BTreeMap<String, (Zone, usize)> = counts
            .into_iter()
            .map(|(zone, (r, n))| (zone, (Zone::of(r, n), r + n)))
            .collect();
        let all_down = !zones.is_empty() && zones.values().all(|(zone, _)| *zone == Zone::Full);
        if self.all_down == Some(true) && !all_down {
            // Back again: every node gets its whole grace period anew.
            self.health.values_mut().for_each(|h| h.heard = now.monotonic);
        }
        self.all_down = Some(all_down);
        (zones, all_down)
    }

    /// Sets the NoExecute taint that the node's readiness calls for.
    async fn execute(
        &mut self,
        node: &Arc<Node>,
        zones: &BTreeMap<String, (Zone, usize)>,
        now: Moment,
    ) -> Result<(), Error> {
        let wanted = match readiness(node) {
            "True" => None,
            "False" => Some(NOT_READY),
            "Unknown" => Some(UNREACHABLE),
            _ => return Ok(()),
        };
        let tainted =
            taints::has(node, NOT_READY, "NoExecute") || taints::has(node, UNREACHABLE, "NoExecute");
        if wanted.is_some() && !tainted {
            // A new taint waits for its turn in the zone; a removal or an exchange does not.
            let zone = zone_of(node);
            let (state, size) = zones.get(&zone).copied().unwrap_or((Zone::Normal, 1));
            let Some(pause) = state.pause(size, self.ctx.config.eviction_rate_milli) else {
                return Ok(());
            };
            if self.next_taint.get(&zone).is_some_and(|at| *at > now.monotonic) {
                return Ok(());
            }
            self.taint(node, wanted, now).await?;
            self.next_taint.insert(zone, now.monotonic + pause);
            return Ok(());
        }
        self.taint(node, wanted, now).await
    }

    async fn taint(&self, node: &Arc<Node>, key: Option<&str>, now: Moment) -> Result<(), Error> {
        let time = Time(jiff::Timestamp::from_second(now.wall.as_second()).unwrap_or(now.wall));
        match taints::no_execute(node, key, &time) {
            Some(taints) => write_taints(&self.ctx, node, taints).await.map(drop),
            None => Ok(()),
        }
    }

    /// Marks the pods of a node nobody hears of as not ready, so that Services leave them out.
    async fn mark_pods(&self, node: &Node, now: Moment) {
        let name = text(&node.metadata.name);
        for pod in self
            .pods
            .by_index(PODS_BY_NODE, name)
            .iter()
            .filter(|p| pods::is_ready(p))
        {
            let mut new = (**pod).clone();
            let conditions = new
                .status
                .iter_mut()
                .flat_map(|s| s.conditions.iter_mut().flatten());
            for condition in conditions.filter(|c| c.type_ == "Ready") {
                condition.status = "False".into();
                condition.last_transition_time =
                    jiff::Timestamp::from_second(now.wall.as_second()).ok().map(Time);
            }
            let api = self.ctx.api::<Pod>(text(&pod.metadata.namespace));
            match api.replace_status(&new).await {
                Ok(_) => self
                    .recorder
                    .record(&**pod, Warning, "NodeNotReady", "Node is not ready"),
                Err(error) => tracing::debug!(node = name, %error, "pod not marked"),
            }
        }
    }
}
