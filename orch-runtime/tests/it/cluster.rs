//! A node on an API server in memory, with simulated containers, in virtual time.

use async_trait::async_trait;
use http::header;
use k8s_openapi::api::core::v1::{Event, Node, Pod, PodStatus};
use orch_core::{
    Api, Env, Status,
    client::{ApiClient, ApiRequest, ApiResponse, EventStream, RequestBody, Upgraded},
    node::{NetworkBackend, NetworkError, PodNetwork, PodNetworkRequest},
    spawn::Shutdown,
    testing::{FakeApi, sim_env},
};
use orch_runtime::{
    agent::{NodeAgent, NodeConfig, machine::FixedMachine},
    probe::SimProbes,
    runtime::sim::{SimOptions, SimRuntime},
    volume::NoFiles,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// Addresses by order of attachment.
#[derive(Default)]
pub(crate) struct SimNetwork(pub(crate) Mutex<BTreeMap<String, PodNetwork>>, Mutex<u8>);

#[async_trait]
impl NetworkBackend for SimNetwork {
    async fn attach(&self, pod: &PodNetworkRequest) -> Result<PodNetwork, NetworkError> {
        let mut next = self.1.lock();
        let mut all = self.0.lock();
        let made = all.entry(pod.uid.clone()).or_insert_with(|| {
            *next += 1;
            PodNetwork {
                pod_uid: pod.uid.clone(),
                ips: vec![format!("10.1.0.{next}").parse().unwrap()],
                interface: "eth0".into(),
            }
        });
        Ok(made.clone())
    }
    async fn detach(&self, uid: &str, _: &Path) -> Result<(), NetworkError> {
        self.0.lock().remove(uid);
        Ok(())
    }
    async fn list(&self) -> Result<Vec<PodNetwork>, NetworkError> {
        Ok(self.0.lock().values().cloned().collect())
    }
}

/// Merges the lists of strategic patches by their keys, which the server in memory does not.
pub(crate) struct Strategic(pub(crate) Arc<FakeApi>);

fn merge(list: &mut Vec<Value>, patch: &[Value], key: &str) {
    for item in patch {
        let at = list.iter().position(|o| o[key] == item[key]);
        if item["$patch"] == "replace" {
            list.clear();
        } else if item["$patch"] == "delete" {
            list.retain(|o| o[key] != item[key]);
        } else if let Some(at) = at {
            orch_core::testing::merge_patch(&mut list[at], item);
        } else {
            list.push(item.clone());
        }
    }
}

#[async_trait]
impl ApiClient for Strategic {
    async fn call(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        let strategic = request
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t == "application/strategic-merge-patch+json");
        if let RequestBody::Value(body) = &mut request.body
            && strategic
        {
            let path = request.path.trim_end_matches("/status").to_owned();
            let current = self.0.call(ApiRequest::get(path)).await?.into_object()?;
            for (list, key) in [
                ("conditions", "type"),
                ("podIPs", "ip"),
                ("hostIPs", "ip"),
                ("addresses", "type"),
            ] {
                let Some(patch) = body["status"].get(list).and_then(Value::as_array).cloned() else {
                    continue;
                };
                let mut now = current.value()["status"][list]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                merge(&mut now, &patch, key);
                body["status"][list] = now.into();
            }
        }
        self.0.call(request).await
    }
    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        self.0.watch(request).await
    }
    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        self.0.connect(request).await
    }
}

pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) api: Arc<FakeApi>,
    pub(crate) client: Arc<dyn ApiClient>,
    pub(crate) runtime: Arc<SimRuntime>,
    pub(crate) network: Arc<SimNetwork>,
    pub(crate) shutdown: Shutdown,
    pub(crate) config: NodeConfig,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let env = sim_env(1);
        let api = FakeApi::new(&env);
        let options = SimOptions {
            all_images_present: true,
            unpullable: ["bad".to_owned()].into(),
            write_logs: false,
            ..SimOptions::default()
        };
        Self {
            client: Arc::new(Strategic(api.clone())),
            runtime: SimRuntime::new(env.clone(), options),
            network: Arc::default(),
            shutdown: Shutdown::new(),
            config: NodeConfig::new("n1", "192.168.0.1".parse().unwrap(), "/nowhere"),
            api,
            env,
        }
    }

    pub(crate) async fn started() -> Self {
        let cluster = Self::new();
        cluster.start();
        cluster.settle().await;
        cluster
    }

    pub(crate) fn start(&self) {
        let agent = NodeAgent::new(
            self.config.clone(),
            self.env.clone(),
            self.client.clone(),
            self.runtime.clone(),
            self.network.clone(),
        )
        .with_files(Arc::new(NoFiles))
        .with_probes(Arc::new(SimProbes(self.runtime.clone())))
        .with_machine(Arc::new(FixedMachine::new(4, 8 << 30)));
        self.env
            .spawner
            .spawn("agent", Box::pin(agent.run(self.shutdown.clone())));
    }

    /// Ends the agent and starts another one over the same machine.
    pub(crate) async fn restart_agent(&mut self) {
        self.stop().await;
        self.shutdown = Shutdown::new();
        self.start();
        self.settle().await;
    }

    pub(crate) async fn stop(&self) {
        self.shutdown.trigger();
        self.settle().await;
    }

    pub(crate) async fn settle(&self) {
        self.pass(Duration::from_millis(400)).await;
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.env.clock.sleep(time).await;
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create(&self, name: &str, spec: Value, annotations: Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        if spec.get("terminationGracePeriodSeconds").is_none() {
            spec["terminationGracePeriodSeconds"] = json!(30);
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": spec,
        }))
        .unwrap();
        self.pods().create(&pod).await.unwrap()
    }

    pub(crate) async fn simple(&self, name: &str) -> Arc<Pod> {
        self.create(
            name,
            json!({"containers": [{"name": "a", "image": "web:1"}]}),
            json!({}),
        )
        .await
    }

    pub(crate) async fn status(&self, name: &str) -> PodStatus {
        self.pods()
            .get(name)
            .await
            .unwrap()
            .status
            .clone()
            .unwrap_or_default()
    }

    pub(crate) async fn value(&self, name: &str) -> Value {
        serde_json::to_value(self.status(name).await).unwrap()
    }

    pub(crate) async fn node(&self) -> Arc<Node> {
        Api::<Node>::all(self.client.clone()).get("n1").await.unwrap()
    }

    /// Events about an object, as `reason: message`.
    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        let events = self.api.dump("events");
        let mut found: Vec<(_, String)> = events
            .iter()
            .map(|o| o.typed::<Event>().unwrap())
            .filter(|e| e.involved_object.name.as_deref() == Some(name))
            .map(|e| {
                let text = format!(
                    "{}: {}",
                    e.reason.as_deref().unwrap_or(""),
                    e.message.as_deref().unwrap_or("")
                );
                (e.metadata.name.clone(), text)
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, text)| text).collect()
    }
}

pub(crate) fn condition(status: &Value, type_: &str) -> String {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|c| c["type"] == type_);
    found.map_or("none".into(), |c| c["status"].as_str().unwrap_or("").to_owned())
}
