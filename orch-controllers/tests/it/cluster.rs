//! A cluster in one thread: API server in memory, all controllers, nodes that run what they are told.

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use orch_controllers::{ControllerConfig, ControllerSet, ResourceInfo};
use orch_core::{
    Api, ApiClient, Env, GroupVersionResource,
    client::{ListParams, NamespacedOrCluster, Patch},
    spawn::Shutdown,
    testing::{FakeApi, FaultClient, builders, sim_env},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) api: Arc<FakeApi>,
    /// What the controllers talk through.
    pub(crate) faults: Arc<FaultClient>,
    pub(crate) shutdown: Shutdown,
    /// Nodes whose agent is dead.
    pub(crate) dead: Arc<Mutex<BTreeSet<String>>>,
    /// Images that never become ready.
    pub(crate) bad_images: Arc<Mutex<BTreeSet<String>>>,
}

fn resources() -> Vec<ResourceInfo> {
    let info = |group: &str, resource: &str, kind: &str, namespaced: bool| ResourceInfo {
        gvr: GroupVersionResource::new(group, "v1", resource),
        kind: kind.into(),
        namespaced,
        verbs: ["list", "watch", "get", "delete", "deletecollection"]
            .map(String::from)
            .into(),
    };
    vec![
        info("", "pods", "Pod", true),
        info("", "services", "Service", true),
        info("", "endpoints", "Endpoints", true),
        info("", "configmaps", "ConfigMap", true),
        info("", "serviceaccounts", "ServiceAccount", true),
        info("", "events", "Event", true),
        info("", "nodes", "Node", false),
        info("", "namespaces", "Namespace", false),
        info("apps", "deployments", "Deployment", true),
        info("apps", "replicasets", "ReplicaSet", true),
        info("batch", "jobs", "Job", true),
        info("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    ]
}

impl Cluster {
    pub(crate) async fn new(seed: u64, nodes: usize, config: ControllerConfig) -> Self {
        let env = sim_env(seed);
        let api = FakeApi::new(&env);
        let cluster = Self {
            faults: FaultClient::new(&env, api.clone()),
            api,
            shutdown: Shutdown::new(),
            dead: Arc::default(),
            bad_images: Arc::default(),
            env,
        };
        for namespace in ["default", "kube-node-lease"] {
            cluster
                .api
                .seed(serde_json::from_value::<Namespace>(json!({"metadata": {"name": namespace}})).unwrap())
                .await;
        }
        for n in 1..=nodes {
            cluster.api.seed(builders::node(&format!("node-{n}"))).await;
            cluster.agent(format!("node-{n}"));
        }
        cluster.schedule();
        let set = ControllerSet::new(
            cluster.env.clone(),
            cluster.faults.clone() as Arc<dyn ApiClient>,
            config,
        )
        .with_discovery(Arc::new(resources()));
        cluster
            .env
            .spawner
            .spawn("controllers", Box::pin(set.run(cluster.shutdown.clone())));
        cluster
    }

    pub(crate) fn of<K: NamespacedOrCluster>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.api.clone(), namespace)
    }

    pub(crate) async fn run(&self, seconds: u64) {
        self.env.clock.sleep(Duration::from_secs(seconds)).await;
    }

    pub(crate) async fn apply<K: NamespacedOrCluster>(&self, object: Value) -> Arc<K> {
        self.api.seed(serde_json::from_value::<K>(object).unwrap()).await
    }

    pub(crate) async fn patch<K: NamespacedOrCluster>(&self, name: &str, patch: Value) {
        self.of::<K>("default")
            .patch(name, Patch::merge(patch))
            .await
            .unwrap();
    }

    pub(crate) async fn list<K: NamespacedOrCluster>(&self) -> Vec<Arc<K>> {
        self.of::<K>("").list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn ready_pods(&self) -> usize {
        let pods: Vec<Arc<Pod>> = self.list().await;
        pods.iter()
            .filter(|p| is_ready(p) && p.metadata.deletion_timestamp.is_none())
            .count()
    }

    /// Binds pods to the live node with the fewest.
    fn schedule(&self) {
        let (env, api, stop) = (self.env.clone(), self.api.clone(), self.shutdown.clone());
        let work = async move {
            while !stop.is_triggered() {
                env.clock.sleep(Duration::from_millis(100)).await;
                let nodes: Vec<Arc<Node>> = Api::all(api.clone())
                    .list(&ListParams::default())
                    .await
                    .unwrap()
                    .items;
                let pods: Vec<Arc<Pod>> = Api::all(api.clone())
                    .list(&ListParams::default())
                    .await
                    .unwrap()
                    .items;
                let load = |name: &str| {
                    pods.iter()
                        .filter(|p| p.spec.as_ref().unwrap().node_name.as_deref() == Some(name))
                        .count()
                };
                let usable = |n: &&Arc<Node>| {
                    n.spec
                        .as_ref()
                        .and_then(|s| s.taints.as_ref())
                        .is_none_or(|t| t.iter().all(|t| t.effect == "PreferNoSchedule"))
                };
                let best = nodes
                    .iter()
                    .filter(usable)
                    .min_by_key(|n| load(n.metadata.name.as_deref().unwrap()));
                let waiting = pods.iter().find(|p| {
                    p.spec.as_ref().unwrap().node_name.is_none() && p.metadata.deletion_timestamp.is_none()
                });
                if let (Some(node), Some(pod)) = (best, waiting) {
                    let target = json!({"target": {"kind": "Node", "name": node.metadata.name}});
                    let api: Api<Pod> = Api::namespaced(api.clone(), pod.metadata.namespace.clone().unwrap());
                    drop(
                        api.create_subresource(pod.metadata.name.as_deref().unwrap(), "binding", target)
                            .await,
                    );
                }
            }
        };
        self.env.spawner.spawn("scheduler", Box::pin(work));
    }

    /// A node's agent: renews its lease, runs its pods, removes deleted ones.
    fn agent(&self, name: String) {
        let (env, api, stop) = (self.env.clone(), self.api.clone(), self.shutdown.clone());
        let (dead, bad) = (self.dead.clone(), self.bad_images.clone());
        let work = async move {
            let mut tick = 0u64;
            while !stop.is_triggered() {
                env.clock.sleep(Duration::from_millis(200)).await;
                if dead.lock().contains(&name) {
                    continue;
                }
                if tick.is_multiple_of(25) {
                    renew(&env, &api, &name).await;
                }
                tick += 1;
                let params = ListParams {
                    fields: format!("spec.nodeName={name}"),
                    ..ListParams::default()
                };
                let pods: Vec<Arc<Pod>> = Api::all(api.clone()).list(&params).await.unwrap().items;
                for pod in pods {
                    run_pod(&env, &api, &pod, &bad).await;
                }
            }
        };
        self.env.spawner.spawn("agent", Box::pin(work));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn renew(env: &Env, api: &Arc<FakeApi>, name: &str) {
    let leases: Api<Lease> = Api::namespaced(api.clone(), "kube-node-lease");
    let renewed = json!({"metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": MicroTime(env.clock.now())}});
    if leases.patch(name, Patch::merge(renewed.clone())).await.is_err() {
        drop(leases.create(&serde_json::from_value(renewed).unwrap()).await);
    }
    let nodes: Api<Node> = Api::all(api.clone());
    let Ok(node) = nodes.get(name).await else { return };
    let mut node = (*node).clone();
    for condition in node
        .status
        .iter_mut()
        .flat_map(|s| s.conditions.iter_mut().flatten())
        .filter(|c| c.type_ == "Ready")
    {
        condition.status = "True".into();
        condition.last_heartbeat_time = Some(Time(env.clock.now()));
    }
    drop(nodes.replace_status(&node).await);
}

async fn run_pod(env: &Env, api: &Arc<FakeApi>, pod: &Pod, bad: &Mutex<BTreeSet<String>>) {
    let pods: Api<Pod> = Api::namespaced(api.clone(), pod.metadata.namespace.clone().unwrap());
    let name = pod.metadata.name.as_deref().unwrap();
    let phase = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        if !matches!(phase, "Succeeded" | "Failed") {
            let failed = json!({"status": {"phase": "Failed"}});
            drop(pods.patch_subresource(name, "status", Patch::merge(failed)).await);
        }
        drop(pods.delete(name, json!({"gracePeriodSeconds": 0})).await);
        return;
    }
    if matches!(phase, "Succeeded" | "Failed") {
        return;
    }
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let image = container.image.as_deref().unwrap_or_default();
    let since = pod.metadata.creation_timestamp.as_ref().unwrap().0;
    let age = env.clock.now().duration_since(since).as_secs();
    let hash = u32::from_str_radix(&pod.metadata.uid.as_deref().unwrap()[..6], 16).unwrap();
    let ip = format!("10.1.{}.{}", hash >> 8 & 255, hash & 255);
    let (phase, ready) = match image {
        "succeeds" if age >= 2 => ("Succeeded", "False"),
        "fails" if age >= 2 => ("Failed", "False"),
        image if bad.lock().contains(image) => ("Pending", "False"),
        _ => ("Running", "True"),
    };
    if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase)
        && is_ready(pod) == (ready == "True")
    {
        return;
    }
    let now = Time(env.clock.now());
    let exit = json!([{"name": container.name, "ready": ready == "True", "restartCount": 0, "image": image, "imageID": "",
        "state": if phase == "Running" || phase == "Pending" { json!({"running": {"startedAt": now}}) }
                 else { json!({"terminated": {"exitCode": i32::from(phase == "Failed"), "finishedAt": now}}) }}]);
    let status = json!({"status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "containerStatuses": exit,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}]}});
    drop(pods.patch_subresource(name, "status", Patch::merge(status)).await);
}

pub(crate) fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "main", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}],
                    "tolerations": [
                        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    ],
                },
            },
        },
    })
}
