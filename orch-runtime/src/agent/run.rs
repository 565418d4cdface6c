//! The agent as a whole: watches, workers, housekeeping.

use super::{
    admit::{Rejection, admit},
    config::NodeConfig,
    context::{Context, PodHandle, PodInput, object_changed},
    machine::{HostMachine, Machine},
    node_view::NodeView,
    objects::Objects,
    pod::PodWorker,
    spec,
    tokens::Tokens,
    view::NODE,
};
use crate::{
    env::{DnsConfig, parse_resolv_conf},
    image::Images,
    probe::{NetProbes, ProbeTransport},
    runtime::{Runtime, RuntimeEvent},
    server::ServerConfig,
    volume::{DiskFiles, PodFiles},
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use orch_core::{
    Env,
    client::ApiClient,
    controller::events::EventRecorder,
    informer::{Delta, Informer, InformerScope},
    node::NetworkBackend,
    spawn::Shutdown,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, watch};

/// The agent of one node. Any number of them may live in a process: they share nothing but what they are given.
pub struct NodeAgent {
    config: NodeConfig,
    env: Env,
    client: Arc<dyn ApiClient>,
    runtime: Arc<dyn Runtime>,
    network: Arc<dyn NetworkBackend>,
    files: Arc<dyn PodFiles>,
    transport: Arc<dyn ProbeTransport>,
    machine: Arc<dyn Machine>,
    server: Option<ServerConfig>,
}

impl std::fmt::Debug for NodeAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeAgent({})", self.config.name)
    }
}

impl NodeAgent {
    /// An agent for this machine. Files go to the disk, probes over the network.
    #[must_use]
    pub fn new(
        config: NodeConfig,
        env: Env,
        client: Arc<dyn ApiClient>,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn NetworkBackend>,
    ) -> Self {
        Self {
            files: Arc::new(DiskFiles::new(env.clone(), config.root_dir.clone())),
            transport: Arc::new(NetProbes::new(env.clone())),
            machine: Arc::new(HostMachine::new(config.root_dir.clone())),
            config,
            env,
            client,
            runtime,
            network,
            server: None,
        }
    }

    /// With other files: [`crate::volume::NoFiles`] for a simulated node.
    #[must_use]
    pub fn with_files(mut self, files: Arc<dyn PodFiles>) -> Self {
        self.files = files;
        self
    }

    /// With other probes: [`crate::probe::SimProbes`] for a simulated node.
    #[must_use]
    pub fn with_probes(mut self, transport: Arc<dyn ProbeTransport>) -> Self {
        self.transport = transport;
        self
    }

    /// With another machine: [`super::machine::FixedMachine`] for a simulated node.
    #[must_use]
    pub fn with_machine(mut self, machine: Arc<dyn Machine>) -> Self {
        self.machine = machine;
        self
    }

    /// Also serves the agent's own HTTPS API. The port of the listener becomes the node's.
    #[must_use]
    pub fn with_server(mut self, server: ServerConfig) -> Self {
        if let Ok(address) = server.listener.local_addr() {
            self.config.port = address.port();
        }
        self.server = Some(server);
        self
    }

    /// Runs the node until `shutdown`. Containers run on after that, and the next agent finds them.
    pub async fn run(self, shutdown: Shutdown) {
        let agent = self.start(&shutdown).await;
        agent.watch().await;
    }

    async fn start(self, shutdown: &Shutdown) -> Running {
        let pods: Arc<Mutex<BTreeMap<String, PodHandle>>> = Arc::default();
        let changed = pods.clone();
        let (env, client, server) = (self.env, self.client, self.server);
        let info = self.runtime.info().await;
        let host = self
            .files
            .read(&self.config.resolv_conf, 64 * 1024)
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        let dns = DnsConfig {
            cluster_dns: self.config.cluster_dns.clone(),
            cluster_domain: self.config.cluster_domain.clone(),
            host: parse_resolv_conf(&String::from_utf8_lossy(&host)),
        };
        let objects = Objects::new(env.clone(), client.clone(), move |uid| {
            object_changed(&changed, uid);
        });
        let ctx = Arc::new(Context {
            recorder: EventRecorder::new(&env, client.clone(), "kubelet", &self.config.name),
            objects,
            tokens: Tokens::new(env.clone(), client.clone()),
            images: Images::new(self.runtime.clone(), env.clock.clone(), self.config.image_backoff),
            services: Informer::start(&env, client.clone(), InformerScope::default(), shutdown),
            dns,
            node: RwLock::new(Node::default()),
            pods,
            shutdown: shutdown.clone(),
            runtime_name: info.map(|i| i.name).unwrap_or_else(|_| "runtime".into()),
            runtime: self.runtime,
            network: self.network,
            files: self.files,
            transport: self.transport,
            machine: self.machine,
            config: self.config,
            client,
            env,
        });
        ctx.provisional_node().await;
        if let Some(server) = server {
            let view = NodeView::new(ctx.clone());
            ctx.env.spawner.spawn(
                "node api",
                Box::pin(crate::server::serve(server, view, shutdown.clone())),
            );
        }
        Running {
            ctx,
            finished: BTreeSet::new(),
        }
    }
}

struct Running {
    ctx: Arc<Context>,
    /// Pods that are gone from the machine while their object may linger (finalizers).
    finished: BTreeSet<String>,
}

impl Running {
    fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.ctx.shutdown.clone();
        let task = async move {
            tokio::select! {
                () = shutdown.wait() => {}
                () = task => {}
            }
        };
        self.ctx.env.spawner.spawn(name, Box::pin(task));
    }

    async fn watch(mut self) {
        let ctx = self.ctx.clone();
        let shutdown = ctx.shutdown.clone();
        let name = ctx.config.name.clone();
        let scope = |fields: String| InformerScope {
            fields,
            ..InformerScope::default()
        };
        let pods: Informer<Pod> = Informer::start(
            &ctx.env,
            ctx.client.clone(),
            scope(format!("spec.nodeName={name}")),
            &shutdown,
        );
        let nodes: Informer<Node> = Informer::start(
            &ctx.env,
            ctx.client.clone(),
            scope(format!("metadata.name={name}")),
            &shutdown,
        );
        let held = ctx.clone();
        nodes.on_change(move |delta| {
            if !matches!(delta, Delta::Deleted(_)) {
                held.node_changed(delta.object());
            }
        });
        // Subscribed before anything runs, so that nothing is missed.
        let events = ctx.runtime.subscribe();
        self.spawn("runtime events", listen(ctx.clone(), events));
        self.spawn("node status", ctx.clone().keep_node());
        self.spawn("node lease", ctx.clone().keep_lease());
        self.spawn("log rotation", super::rotate::keep_logs(ctx.clone()));
        let mut deltas = pods.subscribe();
        let (gone, mut ended) = tokio::sync::mpsc::unbounded_channel::<String>();
        let synced = pods.clone();
        let (cleaner, lister) = (ctx.clone(), pods.lister());
        self.spawn("orphans", async move {
            synced.wait_synced().await;
            let known: BTreeSet<String> = lister.list().iter().map(|p| spec::uid(p).to_owned()).collect();
            clean_orphans(&cleaner, &known).await;
        });
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                Some(delta) = deltas.recv() => self.take(&delta, &gone),
                Some(uid) = ended.recv() => {
                    ctx.pods.lock().remove(&uid);
                    self.finished.insert(uid);
                }
            }
        }
    }

    fn take(&mut self, delta: &Delta<Pod>, gone: &tokio::sync::mpsc::UnboundedSender<String>) {
        match delta {
            Delta::Added(pod) => self.seen(pod, gone),
            Delta::Updated { old, new } => {
                if spec::uid(old) != spec::uid(new) {
                    self.removed(old);
                }
                self.seen(new, gone);
            }
            Delta::Deleted(pod) => self.removed(pod),
        }
    }

    fn removed(&mut self, pod: &Arc<Pod>) {
        self.finished.remove(spec::uid(pod));
        if let Some(handle) = self.ctx.pods.lock().get(spec::uid(pod)) {
            handle.input.send_replace(PodInput {
                pod: pod.clone(),
                removed: true,
            });
        }
    }

    fn seen(&mut self, pod: &Arc<Pod>, gone: &tokio::sync::mpsc::UnboundedSender<String>) {
        let uid = spec::uid(pod).to_owned();
        if self.finished.contains(&uid) {
            return;
        }
        if let Some(handle) = self.ctx.pods.lock().get(&uid) {
            handle.input.send_replace(PodInput {
                pod: pod.clone(),
                removed: false,
            });
            return;
        }
        let rejected = self.admit(pod);
        if let Some(rejection) = &rejected {
            self.ctx
                .event(pod, true, &rejection.reason, rejection.message.clone());
        }
        let handle = PodHandle {
            input: watch::channel(PodInput {
                pod: pod.clone(),
                removed: false,
            })
            .0,
            wake: Arc::new(Notify::new()),
            dirty: Arc::new(AtomicBool::new(false)),
            over: Arc::new(AtomicBool::new(
                rejected.is_some() || spec::is_terminal(spec::status(pod).phase.as_deref()),
            )),
            status: Arc::default(),
        };
        self.ctx.pods.lock().insert(uid.clone(), handle.clone());
        let worker = PodWorker::new(self.ctx.clone(), handle, rejected);
        let gone = gone.clone();
        self.spawn("pod", async move {
            worker.run().await;
            drop(gone.send(uid));
        });
    }

    /// Decides on a pod that this agent sees for the first time. One that an earlier agent has taken stays taken.
    fn admit(&self, pod: &Pod) -> Option<Rejection> {
        let status = spec::status(pod);
        if spec::is_deleted(pod) || status.start_time.is_some() {
            return None;
        }
        let pods = self.ctx.pods.lock();
        let taken: Vec<Arc<Pod>> = pods
            .values()
            .filter(|h| !h.over.load(Ordering::Relaxed))
            .map(PodHandle::pod)
            .collect();
        drop(pods);
        admit(pod, taken.iter().map(|p| &**p), &self.ctx.node.read()).err()
    }
}

/// Wakes the pods whose containers did something.
async fn listen(ctx: Arc<Context>, mut events: futures::stream::BoxStream<'static, RuntimeEvent>) {
    while let Some(event) = events.next().await {
        match event {
            RuntimeEvent::Started { pod_uid, .. }
            | RuntimeEvent::Exited { pod_uid, .. }
            | RuntimeEvent::SandboxLost { pod_uid, .. } => ctx.wake(&pod_uid),
            RuntimeEvent::Lagged => {
                let pods: Vec<PodHandle> = ctx.pods.lock().values().cloned().collect();
                pods.iter().for_each(|p| p.wake.notify_one());
            }
        }
    }
}

/// Ends what runs for pods that the API does not know any more, and removes what is left of them. Only what this node
/// made is touched.
async fn clean_orphans(ctx: &Context, known: &BTreeSet<String>) {
    let sandboxes = ctx.runtime.list_sandboxes().await.unwrap_or_default();
    let ours = |s: &&crate::runtime::SandboxState| {
        s.labels.get(NODE).is_some_and(|n| *n == ctx.config.name) && !known.contains(&s.pod.uid)
    };
    for sandbox in sandboxes.iter().filter(ours) {
        tracing::info!(pod = sandbox.pod.uid, sandbox = %sandbox.id, "removing the sandbox of a pod that is gone");
        let containers = ctx.runtime.list().await.unwrap_or_default();
        let running = containers
            .iter()
            .filter(|c| c.sandbox == sandbox.id && c.phase.is_running());
        let stops = running.map(|c| ctx.runtime.stop(&c.id, std::time::Duration::from_secs(30)));
        drop(futures::future::join_all(stops).await);
        if let Some(netns) = &sandbox.netns {
            drop(ctx.network.detach(&sandbox.pod.uid, netns).await);
        }
        if let Err(error) = ctx.runtime.remove_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "cannot remove the sandbox of a pod that is gone");
            continue;
        }
        let logs = ctx
            .config
            .pod_log_dir(&sandbox.pod.namespace, &sandbox.pod.name, &sandbox.pod.uid);
        drop(ctx.files.remove_logs(&logs).await);
    }
    for uid in ctx.files.pods().await.unwrap_or_default() {
        let has_worker = ctx.pods.lock().contains_key(&uid);
        if !known.contains(&uid) && !has_worker {
            drop(ctx.files.remove_pod(&uid).await);
        }
    }
}
