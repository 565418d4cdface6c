//! Volumes, sandbox and network of a pod.

use super::PodWorker;
use crate::{
    agent::{
        backoff::{elapsed, plus},
        container_spec, spec,
    },
    env::host_name,
    runtime::RuntimeError,
    volume::{self, Ownership, VolumePlan},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use orch_core::node::{HostPort, PodNetworkRequest};
use std::{collections::BTreeMap, time::Duration};

impl PodWorker {
    /// Sets the time of the next try after a failure of volumes, sandbox or network.
    fn infra_failed(&mut self, warning: &str, message: String) -> bool {
        self.ctx.event(&self.pod, true, warning, message.clone());
        tracing::warn!(pod = %spec::describe(&self.pod), reason = warning, message, "pod is held up");
        let delay = Duration::from_millis(500) * 2u32.saturating_pow(self.infra_failures.min(6));
        self.infra_failures += 1;
        self.state.infra_retry_at = Some(plus(self.ctx.env.clock.now(), delay));
        false
    }

    fn infra_succeeded(&mut self) -> bool {
        self.infra_failures = 0;
        self.state.infra_retry_at = None;
        false
    }

    fn ownership(pod: &Pod) -> Ownership {
        let spec = spec::spec(pod);
        let shared = spec.security_context.clone().unwrap_or_default();
        let id = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let users = spec
            .containers
            .iter()
            .chain(spec::init_containers(spec))
            .map(|c| {
                let own = c.security_context.as_ref().and_then(|s| s.run_as_user);
                id(own.or(shared.run_as_user))
            });
        let mut users: Vec<Option<u32>> = users.collect();
        users.dedup();
        Ownership {
            group: id(shared.fs_group),
            user: if let [one] = users[..] { one } else { None },
            on_root_mismatch: shared.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
        }
    }

    async fn plan_volumes(&mut self) -> Result<BTreeMap<String, VolumePlan>, String> {
        let sources = self.ctx.objects.sources(&self.pod).await?;
        let first = spec::spec(&self.pod)
            .volumes
            .iter()
            .flatten()
            .find(|v| v.projected.is_some());
        let (tokens, refresh) = self.ctx.tokens.of(&self.pod).await.map_err(|e| {
            let volume = first.map_or("", |v| v.name.as_str());
            format!("MountVolume.SetUp failed for volume {volume:?} : failed to fetch token: {e}")
        })?;
        self.refresh_at = refresh;
        let facts = self.ctx.facts(&self.pod, &self.state.ips);
        volume::plan(&self.pod, &sources, &tokens, &facts).map_err(|e| e.to_string())
    }

    pub(super) async fn prepare_volumes(&mut self) -> bool {
        let planned = match self.plan_volumes().await {
            Ok(planned) => planned,
            Err(message) => return self.infra_failed("FailedMount", message),
        };
        self.state.volumes_exist = true;
        let owner = Self::ownership(&self.pod);
        if let Err(error) = self.ctx.files.mount(spec::uid(&self.pod), owner, &planned).await {
            return self.infra_failed("FailedMount", error.to_string());
        }
        self.plans = planned;
        self.state.volumes_ready = true;
        self.infra_succeeded();
        true
    }

    /// Brings mounted files up to date when what they are made of has changed.
    pub(super) async fn follow_changes(&mut self, old: &Pod, dirty: bool, now: Timestamp) {
        if dirty {
            // What was missing may be there now.
            self.state.infra_retry_at = None;
            self.state
                .failures
                .retain(|_, f| f.reason != "CreateContainerConfigError");
        }
        let due = self.refresh_at.is_some_and(|at| at <= now);
        let (a, b) = (&old.metadata, &self.pod.metadata);
        let described_anew = a.labels != b.labels || a.annotations != b.annotations;
        let has_files = self.plans.values().any(|p| matches!(p, VolumePlan::Files { .. }));
        if !self.state.volumes_ready || !has_files || !(dirty || due || described_anew) {
            return;
        }
        let planned = match self.plan_volumes().await {
            Ok(planned) => planned,
            // An object that a running pod has mounted was deleted: what is mounted stays.
            Err(message) => {
                self.ctx.event(&self.pod, true, "FailedMount", message);
                self.refresh_at = Some(plus(now, Duration::from_secs(60)));
                return;
            }
        };
        if planned == self.plans {
            return;
        }
        match self
            .ctx
            .files
            .mount(spec::uid(&self.pod), Self::ownership(&self.pod), &planned)
            .await
        {
            Ok(()) => self.plans = planned,
            Err(error) => {
                self.ctx.event(&self.pod, true, "FailedMount", error.to_string());
                self.refresh_at = Some(plus(now, Duration::from_secs(60)));
            }
        }
    }

    pub(super) fn cgroup_parent(&self) -> String {
        let qos = match crate::agent::resources::qos_class(&self.pod) {
            "Guaranteed" => "",
            "Burstable" => "/burstable",
            _ => "/besteffort",
        };
        format!("{}{qos}/pod{}", self.ctx.config.cgroup_root, spec::uid(&self.pod))
    }

    pub(super) async fn run_sandbox(&mut self, attempt: u32) -> bool {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx.event(&self.pod, false, "SandboxChanged", message);
        }
        let config = &self.ctx.config;
        let logs = config.pod_log_dir(
            spec::namespace(&self.pod),
            spec::name(&self.pod),
            spec::uid(&self.pod),
        );
        let (hostname, domain) = host_name(&self.pod, &config.cluster_domain);
        let as_fqdn = spec::spec(&self.pod).set_hostname_as_fqdn.unwrap_or(false);
        let hostname = if as_fqdn && !domain.is_empty() {
            format!("{hostname}.{domain}")
        } else {
            hostname
        };
        if hostname.len() > 64 {
            let message =
                format!("Failed to create pod sandbox: host name {hostname:?} is longer than 64 characters");
            return self.infra_failed("FailedCreatePodSandBox", message);
        }
        let wanted = container_spec::sandbox_spec(
            &self.pod,
            attempt,
            &config.name,
            &hostname,
            logs,
            config.pod_pids_limit,
            self.cgroup_parent(),
        );
        match self.ctx.runtime.run_sandbox(&wanted).await {
            // Ours from before an interruption: the next look finds it.
            Ok(_) | Err(RuntimeError::AlreadyExists { .. }) => {
                self.state.ips.clear();
                self.infra_succeeded()
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.infra_failed("FailedCreatePodSandBox", message)
            }
        }
    }

    pub(super) async fn attach_network(&mut self) -> bool {
        let Some(netns_path) = self.state.view.ready_sandbox().and_then(|s| s.netns.clone()) else {
            return false;
        };
        let spec_ = spec::spec(&self.pod);
        let sidecars = spec::init_containers(spec_)
            .iter()
            .filter(|c| spec::is_sidecar(c));
        let ports = spec_
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|c| c.ports.iter().flatten());
        let host_ports = ports.filter_map(|p| {
            Some(HostPort {
                protocol: p
                    .protocol
                    .clone()
                    .filter(|p| !p.is_empty())
                    .unwrap_or_else(|| "TCP".into()),
                host_ip: p.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: p
                    .host_port
                    .and_then(|n| u16::try_from(n).ok())
                    .filter(|n| *n > 0)?,
                container_port: u16::try_from(p.container_port).ok()?,
            })
        });
        let request = PodNetworkRequest {
            namespace: spec::namespace(&self.pod).into(),
            name: spec::name(&self.pod).into(),
            uid: spec::uid(&self.pod).into(),
            netns_path,
            host_ports: host_ports.collect(),
        };
        let started = self.ctx.env.clock.now();
        match self.ctx.network.attach(&request).await {
            Ok(network) if !network.ips.is_empty() => {
                tracing::debug!(
                    pod = %spec::describe(&self.pod),
                    millis = elapsed(started, self.ctx.env.clock.now()).as_millis(),
                    "pod network attached"
                );
                self.state.ips = network.ips;
                self.infra_succeeded()
            }
            Ok(_) => {
                let message = "Failed to create pod sandbox: the pod network gave no address";
                self.infra_failed("FailedCreatePodSandBox", message.into())
            }
            Err(orch_core::node::NetworkError::NotReady { reason }) => {
                self.infra_failed("NetworkNotReady", format!("network is not ready: {reason}"))
            }
            Err(error) => {
                let why = std::error::Error::source(&error)
                    .map(|s| format!(": {s}"))
                    .unwrap_or_default();
                self.infra_failed(
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}{why}"),
                )
            }
        }
    }
}
