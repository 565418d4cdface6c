//! From informers to the backends: whenever something changed, everything is compiled anew and the backends write what
//! differs. Changes that come while a sync runs are taken together by the next one.

use crate::{
    dns::{DnsServer, Zone},
    pod::link,
    proxy::{ServiceProxy, compile},
};
use ipnet::Ipv4Net;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service},
    discovery::v1::EndpointSlice,
};
use orch_core::{
    Env,
    client::NamespacedOrCluster,
    informer::{Delta, SharedInformers},
    spawn::Shutdown,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Wait before a sync that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
const FOREIGN: &str = "service.kubernetes.io/service-proxy-name";

fn wake_on<K: NamespacedOrCluster>(
    informers: &SharedInformers,
    wake: &Arc<Notify>,
    matters: fn(&Delta<K>) -> bool,
) {
    let wake = wake.clone();
    informers.informer::<K>().on_change(move |delta| {
        if matters(delta) {
            wake.notify_one();
        }
    });
}

/// Waits for a change, or at once again after a failure; `false` when it is time to stop.
async fn next(env: &Env, wake: &Notify, failed: bool, shutdown: &Shutdown) -> bool {
    let retry = async {
        if failed {
            env.clock.sleep(RETRY).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wake.notified() => true,
        () = retry => true,
        () = shutdown.wait() => false,
    }
}

/// Keeps `proxy` in step with Services and EndpointSlices until `shutdown`. `local_nodes` are the nodes of this machine.
pub async fn run_proxy(
    env: &Env,
    informers: &SharedInformers,
    proxy: Arc<dyn ServiceProxy>,
    local_nodes: BTreeSet<String>,
    shutdown: Shutdown,
) {
    let wake = Arc::new(Notify::new());
    wake_on::<Service>(informers, &wake, |_| true);
    wake_on::<EndpointSlice>(informers, &wake, |_| true);
    let (services, slices) = (informers.lister::<Service>(), informers.lister::<EndpointSlice>());
    informers.wait_synced().await;
    loop {
        let (services, slices) = (services.list(), slices.list());
        let table = compile(
            services.iter().map(|s| &**s),
            slices.iter().map(|s| &**s),
            |node| local_nodes.contains(node),
        );
        let failed = match proxy.sync(&table).await {
            Ok(applied) => {
                tracing::debug!(?applied, "service rules");
                false
            }
            Err(e) => {
                tracing::warn!("service rules not written: {e}");
                true
            }
        };
        if !next(env, &wake, failed, &shutdown).await {
            return;
        }
    }
}

/// Keeps the records of `server` in step with the cluster until `shutdown`.
pub async fn run_dns(informers: &SharedInformers, server: Arc<DnsServer>, domain: &str, shutdown: Shutdown) {
    let wake = Arc::new(Notify::new());
    wake_on::<Service>(informers, &wake, |_| true);
    // Only headless Services have records per endpoint; the others' slices change with every rollout for nothing, but to
    // know which are which takes the same look-up as to build the zone.
    wake_on::<EndpointSlice>(informers, &wake, |_| true);
    wake_on::<Namespace>(informers, &wake, |delta| delta.old().is_none());
    let (services, slices) = (informers.lister::<Service>(), informers.lister::<EndpointSlice>());
    let namespaces = informers.lister::<Namespace>();
    informers.wait_synced().await;
    loop {
        let names = namespaces
            .list()
            .into_iter()
            .filter_map(|n| n.metadata.name.clone())
            .collect::<Vec<_>>();
        server.set_zone(Zone::build(domain, &services.list(), &slices.list(), names));
        tokio::select! {
            () = wake.notified() => {}
            () = shutdown.wait() => return,
        }
    }
}

fn route_of(node: &Node) -> Option<(Ipv4Net, Ipv4Addr)> {
    let range = node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let ip = addresses
        .iter()
        .find(|a| a.type_ == "InternalIP")?
        .address
        .parse()
        .ok()?;
    Some((range, ip))
}

/// Keeps a route to the pod range of every node that is not of this machine, through the node's address, until
/// `shutdown`.
pub async fn run_routes(
    env: &Env,
    informers: &SharedInformers,
    local_nodes: BTreeSet<String>,
    shutdown: Shutdown,
) {
    let wake = Arc::new(Notify::new());
    wake_on::<Node>(informers, &wake, |delta| {
        matches!(delta, Delta::Deleted(_))
            || delta
                .old()
                .is_none_or(|old| route_of(old) != route_of(delta.object()))
    });
    let nodes = informers.lister::<Node>();
    informers.wait_synced().await;
    let mut held: BTreeMap<Ipv4Net, Ipv4Addr> = BTreeMap::new();
    loop {
        let foreign = nodes.list();
        let foreign = foreign
            .iter()
            .filter(|n| !n.metadata.name.as_ref().is_some_and(|n| local_nodes.contains(n)));
        let wanted: BTreeMap<Ipv4Net, Ipv4Addr> = foreign.filter_map(|n| route_of(n)).collect();
        let mut failed = false;
        for (range, via) in &wanted {
            if held.get(range) == Some(via) {
                continue;
            }
            match link::replace_route(*range, *via).await {
                Ok(()) => drop(held.insert(*range, *via)),
                Err(e) => {
                    tracing::warn!("route to pods {range} not set: {e}");
                    failed = true;
                }
            }
        }
        let gone: Vec<Ipv4Net> = held
            .keys()
            .filter(|range| !wanted.contains_key(*range))
            .copied()
            .collect();
        for range in gone {
            match link::remove_route(range).await {
                Ok(()) => drop(held.remove(&range)),
                Err(e) => {
                    tracing::warn!("route to pods {range} not removed: {e}");
                    failed = true;
                }
            }
        }
        if !next(env, &wake, failed, &shutdown).await {
            return;
        }
    }
}

/// Labels that mark a Service as proxied by somebody else: for the cluster's own DNS Service, whose address every node
/// answers itself.
#[must_use]
pub fn foreign_proxy_label() -> (&'static str, &'static str) {
    (FOREIGN, "orch-node-dns")
}
