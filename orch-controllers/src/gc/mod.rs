//! The garbage collector: what is owned goes with its owners, at once, first, or never, as the delete asked
//! (`propagationPolicy` Background, Foreground, Orphan). Behaviour of upstream's `pkg/controller/garbagecollector`.
//!
//! A graph of all objects and their owner references is kept from the informers of every resource that can be
//! listed, watched and deleted (Events aside). What to do with an object is planned from the graph and the object's
//! live state; an owner that the graph does not know is asked for before anything is deleted on its account.

mod graph;
mod plan;
mod reconcile;

use crate::shared::{
    Context,
    discovery::{Discovery, ResourceInfo},
};
use graph::Graph;
use orch_core::{
    GroupVersionResource, ObjectKey,
    controller::Controller,
    informer::{RawDelta, RawInformer},
    spawn::Shutdown,
    workqueue::{Backoff, WorkQueue},
};
use parking_lot::Mutex;
use reconcile::Collector;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// State shared by the watches and the workers.
struct Shared {
    graph: Mutex<Graph>,
    /// Resources by group and kind, for owners.
    kinds: Mutex<BTreeMap<(String, String), ResourceInfo>>,
}

fn is_watched(resource: &ResourceInfo) -> bool {
    resource.supports(&["list", "watch", "delete"]) && resource.gvr.resource != "events"
}

/// Keys are UIDs; the queue knows only keys of objects.
fn key(uid: &str) -> ObjectKey {
    ObjectKey::new("", uid)
}

/// Runs the garbage collector until `shutdown`.
pub async fn run(ctx: Context, discovery: Arc<dyn Discovery>, shutdown: Shutdown) {
    let shared = Arc::new(Shared {
        graph: Mutex::new(Graph::default()),
        kinds: Mutex::new(BTreeMap::new()),
    });
    let queue = WorkQueue::new(&ctx.env);
    let mut known: BTreeMap<GroupVersionResource, Arc<RawInformer>> = BTreeMap::new();
    let mut backoff = Backoff::new(Duration::from_millis(200), ctx.config.discovery_period);
    while !discover(&ctx, &*discovery, &shared, &queue, &mut known).await {
        tokio::select! {
            () = backoff.wait(&ctx.env) => {}
            () = shutdown.wait() => return,
        }
    }
    // Without all of the graph, dependents of owners not seen yet would cause needless questions.
    let synced = futures::future::join_all(known.values().map(|i| i.wait_synced()));
    tokio::select! {
        _ = synced => {}
        () = ctx.env.clock.sleep(ctx.config.discovery_period) => {}
        () = shutdown.wait() => return,
    }
    let reconciler = Arc::new(Collector {
        ctx: ctx.clone(),
        shared: shared.clone(),
        queue: queue.clone(),
    });
    let workers = ctx.config.workers;
    let controller = Controller::with_queue("garbage-collector", reconciler, queue.clone()).workers(workers);
    let resync = async {
        loop {
            ctx.env.clock.sleep(ctx.config.discovery_period).await;
            discover(&ctx, &*discovery, &shared, &queue, &mut known).await;
        }
    };
    tokio::select! {
        () = controller.run(shutdown.clone()) => {}
        () = resync => {}
    }
}

/// Starts to watch resources that are new. Answers whether the server could be asked.
async fn discover(
    ctx: &Context,
    discovery: &dyn Discovery,
    shared: &Arc<Shared>,
    queue: &Arc<WorkQueue<ObjectKey>>,
    known: &mut BTreeMap<GroupVersionResource, Arc<RawInformer>>,
) -> bool {
    let found = match discovery.discover().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "discovery failed");
            return false;
        }
    };
    for resource in found.resources {
        shared.kinds.lock().insert(
            (resource.gvr.group.clone(), resource.kind.clone()),
            resource.clone(),
        );
        if !is_watched(&resource) || known.contains_key(&resource.gvr) {
            continue;
        }
        let informer = ctx.informers.raw(&resource.gvr);
        let (shared, queue, gvr) = (shared.clone(), queue.clone(), resource.gvr.clone());
        informer.on_change(move |delta| {
            let mut graph = shared.graph.lock();
            let work = match delta {
                RawDelta::Added(object) => graph.upsert(&gvr, object),
                RawDelta::Updated { old, new } if old.uid() != new.uid() => {
                    let mut work = graph.remove(old.uid());
                    work.extend(graph.upsert(&gvr, new));
                    work
                }
                RawDelta::Updated { new, .. } => graph.upsert(&gvr, new),
                RawDelta::Deleted(object) => graph.remove(object.uid()),
            };
            drop(graph);
            work.iter().for_each(|uid| queue.add(key(uid)));
        });
        known.insert(resource.gvr, informer);
    }
    true
}

#[cfg(test)]
mod tests;
