//! All controllers together.

use crate::{
    config::ControllerConfig,
    deployment, endpoints, endpointslice, gc, job, namespace, node_ipam, node_lifecycle, pod_gc, replicaset,
    root_ca, serviceaccount,
    shared::{
        ClientHandle, Context,
        discovery::{ClientDiscovery, Discovery},
    },
};
use futures::future::{BoxFuture, join_all};
use orch_core::{ApiClient, Env, controller::Controller, informer::SharedInformers, spawn::Shutdown};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Every controller of this crate over one set of shared informers: one watch per resource.
///
/// ```no_run
/// # use orch_controllers::{ControllerConfig, ControllerSet};
/// # async fn run(env: orch_core::Env, client: std::sync::Arc<dyn orch_core::ApiClient>) {
/// let shutdown = orch_core::spawn::Shutdown::new();
/// ControllerSet::new(env, client, ControllerConfig::default()).run(shutdown).await;
/// # }
/// ```
pub struct ControllerSet {
    env: Env,
    client: Arc<dyn ApiClient>,
    config: ControllerConfig,
    discovery: Arc<dyn Discovery>,
    informers: Option<SharedInformers>,
}

impl ControllerSet {
    /// All controllers, with the resources that the server's discovery documents name.
    pub fn new(env: Env, client: Arc<dyn ApiClient>, config: ControllerConfig) -> Self {
        let discovery = Arc::new(ClientDiscovery(client.clone()));
        Self {
            env,
            client,
            config,
            discovery,
            informers: None,
        }
    }

    /// With another way to find out which resources there are (for namespaces and garbage collection).
    #[must_use]
    pub fn with_discovery(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.discovery = discovery;
        self
    }

    /// Over informers that others in the process use too. They must be over an all-powerful client.
    #[must_use]
    pub fn with_informers(mut self, informers: SharedInformers) -> Self {
        self.informers = Some(informers);
        self
    }

    /// Runs all controllers until `shutdown`, and returns when the last has finished what it had in work.
    ///
    /// To run one of several candidates at a time, wrap it in [`orch_core::lease::lead`].
    pub async fn run(self, shutdown: Shutdown) {
        let informers = self
            .informers
            .unwrap_or_else(|| SharedInformers::new(&self.env, self.client.clone(), &shutdown));
        let ctx = Context {
            env: self.env.clone(),
            client: ClientHandle(self.client),
            informers,
            config: self.config.clone(),
        };
        let mut controllers = vec![
            replicaset::controller(&ctx),
            deployment::controller(&ctx),
            endpointslice::controller(&ctx),
            endpoints::controller(&ctx),
            job::controller(&ctx),
            serviceaccount::controller(&ctx),
            namespace::controller(&ctx, self.discovery.clone()),
            node_lifecycle::controller(&ctx),
            node_lifecycle::eviction::controller(&ctx),
        ];
        controllers.extend(
            self.config
                .pod_cidr
                .map(|range| node_ipam::controller(&ctx, range)),
        );
        controllers.extend(
            self.config
                .root_ca_pem
                .clone()
                .map(|pem| root_ca::controller(&ctx, pem)),
        );
        let mut loops: Vec<(&'static str, BoxFuture<'static, ()>)> = controllers
            .into_iter()
            .map(|c: Controller| {
                let stop = shutdown.clone();
                (c.name(), Box::pin(c.run(stop)) as BoxFuture<'static, ()>)
            })
            .collect();
        loops.push((
            "garbage-collector",
            Box::pin(gc::run(ctx.clone(), self.discovery, shutdown.clone())),
        ));
        loops.push((
            "node-monitor",
            Box::pin(node_lifecycle::run_monitor(ctx.clone(), shutdown.clone())),
        ));
        loops.push(("pod-gc", Box::pin(pod_gc::run(ctx, shutdown))));
        let mut ends = Vec::new();
        for (name, work) in loops {
            let (done, end) = oneshot::channel::<()>();
            self.env.spawner.spawn(
                name,
                Box::pin(async move {
                    work.await;
                    drop(done);
                }),
            );
            ends.push(end);
        }
        drop(join_all(ends).await);
    }
}

impl std::fmt::Debug for ControllerSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControllerSet({:?})", self.config)
    }
}
