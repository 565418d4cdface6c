//! Starting one container: image, environment, mounts, files, hook.

use super::PodWorker;
use crate::{
    agent::{
        backoff::{Backoff, go_duration, plus},
        container_spec::{Prepared, container_spec},
        hooks,
        objects::pull_secrets,
        spec,
        spec::ContainerKind,
        step::{KillReason, StartFailure},
    },
    env::{environment, expand, host_name, hosts_file, resolv_conf},
    image::{ImageNote, credentials},
    runtime::{ContainerId, Mount, Propagation, RegistryCredential, RuntimeError},
    volume::{MountRequest, VolumePlan},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, VolumeMount};
use std::{path::PathBuf, time::Duration};

/// How soon a start that failed is tried again when nothing else says.
const RETRY: Duration = Duration::from_secs(10);

type Env = Vec<(String, String)>;

impl PodWorker {
    fn failure(&self, reason: &str, message: impl Into<String>) -> StartFailure {
        let retry_at = plus(self.ctx.env.clock.now(), RETRY);
        StartFailure {
            reason: reason.into(),
            message: message.into(),
            retry_at,
        }
    }

    pub(super) fn back_off(
        &mut self,
        kind: ContainerKind,
        name: &str,
        delay: Duration,
        until: Timestamp,
    ) -> bool {
        let place = spec::describe(&self.pod);
        let message = format!("Back-off restarting failed container {name} in pod {place}");
        self.ctx
            .event_at(&self.pod, Some((kind, name)), true, "BackOff", message);
        let failure = StartFailure {
            reason: "CrashLoopBackOff".into(),
            message: format!(
                "back-off {} restarting failed container={name} pod={place}",
                go_duration(delay)
            ),
            retry_at: until,
        };
        self.state.failures.insert(name.into(), failure);
        true
    }

    pub(super) async fn start(&mut self, kind: ContainerKind, name: &str) -> bool {
        let Some((_, container)) = self.container(name) else {
            return false;
        };
        let now = self.ctx.env.clock.now();
        let exits = self
            .state
            .view
            .containers
            .iter()
            .filter(|c| c.name == name)
            .find_map(|c| c.phase.exit());
        if let Some(exit) = exits {
            let next = Backoff::next(
                self.state.backoff.get(name),
                exit.finished_at,
                now,
                self.state.limits,
            );
            self.state.backoff.insert(name.into(), next);
        }
        let place = spec::describe(&self.pod);
        match self.try_start(kind, &container).await {
            Ok(()) => {
                self.state.failures.remove(name);
                true
            }
            Err(failure) => {
                tracing::info!(
                    pod = place,
                    container = name,
                    reason = failure.reason,
                    message = failure.message,
                    "container does not start"
                );
                self.state.failures.insert(name.into(), failure);
                // An init container that does not start holds up the others, the rest does not.
                kind != ContainerKind::Init
            }
        }
    }

    async fn try_start(&mut self, kind: ContainerKind, container: &Container) -> Result<(), StartFailure> {
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        let at = Some((kind, container.name.as_str()));
        let failed = |message: &str| ctx.event_at(&pod, at, true, "Failed", format!("Error: {message}"));
        let wrong = |this: &Self, message: String| {
            failed(&message);
            this.failure("CreateContainerConfigError", message)
        };
        let image_name = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let note = |n: ImageNote| ctx.event_at(&pod, at, n.warning, n.reason, n.message);
        let logins = self.registry_logins(&image_name).await;
        let image = ctx
            .images
            .ensure(spec::uid(&pod), &image_name, policy, &logins, &note)
            .await
            .map_err(|f| {
                failed(f.reason);
                StartFailure {
                    reason: f.reason.into(),
                    message: f.message,
                    retry_at: f.retry_at,
                }
            })?;
        let env = self.container_env(container).await.map_err(|e| wrong(self, e))?;
        let attempt = self.attempt(&container.name);
        let mut mounts = self
            .volume_mounts(container, &env)
            .await
            .map_err(|e| wrong(self, e))?;
        let termination_file = self
            .own_files(container, attempt, &mut mounts)
            .await
            .map_err(|e| wrong(self, e))?;
        let log_dir = ctx
            .config
            .pod_log_dir(spec::namespace(&pod), spec::name(&pod), spec::uid(&pod))
            .join(&container.name);
        ctx.files
            .make_log_dir(&log_dir)
            .await
            .map_err(|e| wrong(self, e.to_string()))?;
        let target = self.target(kind, container).map_err(|e| wrong(self, e))?;
        let prepared = Prepared {
            pod: &pod,
            container,
            kind,
            attempt,
            image: &image,
            env,
            mounts,
            log_path: log_dir.join(format!("{attempt}.log")),
            termination_file,
            cgroup_parent: self.cgroup_parent(),
            target,
            memory_capacity_bytes: ctx.machine.facts().memory_bytes,
            seccomp_dir: ctx.config.root_dir.join("seccomp"),
        };
        let wanted = container_spec(prepared, &ctx.config.name).map_err(|e| wrong(self, e))?;
        let sandbox = self.state.view.ready_sandbox().map(|s| s.id.clone());
        let sandbox = sandbox.ok_or_else(|| self.failure("CreateContainerError", "the sandbox is gone"))?;
        let id = ctx.runtime.create(&sandbox, &wanted).await.map_err(|error| {
            failed(&error.to_string());
            self.failure("CreateContainerError", error.to_string())
        })?;
        ctx.event_at(&pod, at, false, "Created", "Container created");
        ctx.runtime.start(&id).await.map_err(|error| {
            failed(&error.to_string());
            // The container has ended with the same message; its restart is a matter of back-off.
            let retry_at = match error {
                RuntimeError::StartFailed { .. } => ctx.env.clock.now(),
                _ => plus(ctx.env.clock.now(), RETRY),
            };
            StartFailure {
                retry_at,
                ..self.failure("RunContainerError", error.to_string())
            }
        })?;
        ctx.event_at(&pod, at, false, "Started", "Container started");
        self.post_start(kind, container, &id).await
    }

    /// Registry credentials of the pod for an image. A missing secret is told and passed over.
    async fn registry_logins(&self, image: &str) -> Vec<RegistryCredential> {
        let wanted = pull_secrets(&self.pod);
        if wanted.is_empty() {
            return Vec::new();
        }
        let secrets = self
            .ctx
            .objects
            .sources(&self.pod)
            .await
            .map(|s| s.secrets)
            .unwrap_or_default();
        let missing: Vec<&str> = wanted
            .iter()
            .map(String::as_str)
            .filter(|n| !secrets.contains_key(*n))
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.ctx
                .event(&self.pod, true, "FailedToRetrieveImagePullSecret", message);
        }
        let found: Vec<_> = wanted.iter().filter_map(|n| secrets.get(n).cloned()).collect();
        credentials(image, &found)
    }

    async fn post_start(
        &mut self,
        kind: ContainerKind,
        container: &Container,
        id: &ContainerId,
    ) -> Result<(), StartFailure> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        let Err(message) = hooks::run(&ctx, &pod, container, id, &self.pod_ip(), hook).await else {
            return Ok(());
        };
        let at = Some((kind, container.name.as_str()));
        ctx.event_at(&pod, at, true, "FailedPostStartHook", "PostStartHook failed");
        self.kill(id, &container.name, "FailedPostStartHook", KillReason::Other)
            .await;
        Err(StartFailure {
            retry_at: ctx.env.clock.now(),
            ..self.failure("PostStartHookError", message)
        })
    }

    /// How many containers of this name came before.
    fn attempt(&self, name: &str) -> u32 {
        if let Some(latest) = self.state.view.latest(name) {
            return latest.attempt + 1;
        }
        // The runtime may have forgotten what the API remembers.
        let lists = [
            &self.status.container_statuses,
            &self.status.init_container_statuses,
            &self.status.ephemeral_container_statuses,
        ];
        let told = lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|s| s.name == name && s.container_id.is_some());
        told.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0) + 1)
    }

    fn target(&self, kind: ContainerKind, container: &Container) -> Result<Option<ContainerId>, String> {
        if kind != ContainerKind::Ephemeral {
            return Ok(None);
        }
        let spec_ = spec::spec(&self.pod);
        let ephemeral = spec::ephemeral_containers(spec_)
            .iter()
            .find(|e| e.name == container.name);
        let Some(name) = ephemeral
            .and_then(|e| e.target_container_name.as_deref())
            .filter(|n| !n.is_empty())
        else {
            return Ok(None);
        };
        let found = self.state.view.latest(name).filter(|c| c.phase.is_running());
        found
            .map(|c| Some(c.id.clone()))
            .ok_or_else(|| format!("unable to find target container {name}"))
    }

    async fn container_env(&self, container: &Container) -> Result<Env, String> {
        tokio::select! {
            () = self.ctx.services.wait_synced() => {}
            () = self.ctx.env.clock.sleep(RETRY) => {
                return Err("services have not yet been read at least once, cannot construct envvars".into());
            }
        }
        let sources = self.ctx.objects.sources(&self.pod).await?;
        let services = self.ctx.services.lister();
        let mut relevant = services.list_in(spec::namespace(&self.pod));
        if spec::namespace(&self.pod) != "default" {
            relevant.extend(services.find("default", "kubernetes"));
        }
        let facts = self.ctx.facts(&self.pod, &self.state.ips);
        environment(&self.pod, container, &sources, &relevant, &facts).map_err(|e| e.to_string())
    }

    async fn volume_mounts(&self, container: &Container, env: &Env) -> Result<Vec<Mount>, String> {
        let mut out = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let plan = self.plans.get(&mount.name);
            let plan = plan.ok_or_else(|| {
                format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    mount.name, container.name
                )
            })?;
            let sub_path = sub_path(mount, env)?;
            let request = MountRequest {
                pod_uid: spec::uid(&self.pod),
                container: &container.name,
                volume: &mount.name,
                plan,
                sub_path: &sub_path,
                index,
            };
            let host_path = self
                .ctx
                .files
                .mount_path(request)
                .await
                .map_err(|e| e.to_string())?;
            let read_only = mount.read_only.unwrap_or(false) || matches!(plan, VolumePlan::Files { .. });
            let recursive = matches!(
                mount.recursive_read_only.as_deref(),
                Some("Enabled" | "IfPossible")
            );
            let container_path = if mount.mount_path.starts_with('/') {
                mount.mount_path.clone()
            } else {
                format!("/{}", mount.mount_path)
            };
            out.push(Mount {
                host_path,
                container_path: container_path.into(),
                read_only,
                recursive_read_only: read_only && recursive,
                propagation: match mount.mount_propagation.as_deref() {
                    Some("HostToContainer") => Propagation::HostToContainer,
                    Some("Bidirectional") => Propagation::Bidirectional,
                    _ => Propagation::Private,
                },
            });
        }
        Ok(out)
    }

    /// The files that the agent itself puts into a container. Returns the one for the termination message.
    async fn own_files(
        &self,
        container: &Container,
        attempt: u32,
        mounts: &mut Vec<Mount>,
    ) -> Result<PathBuf, String> {
        let (ctx, uid) = (&self.ctx, spec::uid(&self.pod));
        let text = |e: crate::volume::VolumeError| e.to_string();
        let add = |mounts: &mut Vec<Mount>, host_path: &PathBuf, path: &str| {
            // A mount of the pod's own takes precedence.
            if !mounts.iter().any(|m| m.container_path.as_os_str() == path) {
                mounts.push(Mount {
                    host_path: host_path.clone(),
                    container_path: path.into(),
                    ..Mount::default()
                });
            }
        };
        let host_network = spec::host_network(&self.pod);
        let node_hosts = match host_network {
            true => ctx
                .files
                .read("/etc/hosts".as_ref(), 1 << 20)
                .await
                .map_err(text)?
                .unwrap_or_default(),
            false => Vec::new(),
        };
        let node_hosts = String::from_utf8_lossy(&node_hosts).into_owned();
        let hosts = hosts_file(
            &self.pod,
            &self.state.ips,
            &ctx.config.cluster_domain,
            &node_hosts,
        );
        let path = ctx
            .files
            .write(uid, "etc-hosts", hosts.as_bytes(), 0o644)
            .await
            .map_err(text)?;
        add(mounts, &path, "/etc/hosts");
        let resolv = resolv_conf(&self.pod, &ctx.dns).to_string();
        let path = ctx
            .files
            .write(uid, "resolv.conf", resolv.as_bytes(), 0o644)
            .await
            .map_err(text)?;
        add(mounts, &path, "/etc/resolv.conf");
        if !host_network {
            let name = format!("{}\n", host_name(&self.pod, &ctx.config.cluster_domain).0);
            let path = ctx
                .files
                .write(uid, "hostname", name.as_bytes(), 0o644)
                .await
                .map_err(text)?;
            add(mounts, &path, "/etc/hostname");
        }
        let message_path = container
            .termination_message_path
            .as_deref()
            .unwrap_or("/dev/termination-log");
        if message_path.is_empty() {
            return Ok(PathBuf::new());
        }
        let name = format!("containers/{}/{attempt}", container.name);
        // Whatever user the container runs as writes it.
        let path = ctx.files.write(uid, &name, b"", 0o666).await.map_err(text)?;
        add(mounts, &path, message_path);
        Ok(path)
    }
}

fn sub_path(mount: &VolumeMount, env: &Env) -> Result<String, String> {
    let plain = mount.sub_path.clone().unwrap_or_default();
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
        return Ok(plain);
    };
    let missing = std::cell::Cell::new(false);
    let path = expand(expression, |name| {
        let found = env.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        missing.set(missing.get() || found.is_none());
        found
    });
    if missing.get() {
        return Err(format!(
            "failed to expand subPath: missing value for a variable in {expression:?}"
        ));
    }
    if path.starts_with('/') || path.split('/').any(|p| p == "..") {
        return Err(format!("subPath {path:?} must be a relative path without '..'"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_path_expressions() {
        let env = vec![
            ("POD".to_owned(), "a".to_owned()),
            ("UP".to_owned(), "..".to_owned()),
        ];
        let of = |expr: &str| {
            sub_path(
                &VolumeMount {
                    sub_path_expr: Some(expr.into()),
                    ..VolumeMount::default()
                },
                &env,
            )
        };
        assert_eq!(of("logs/$(POD)"), Ok("logs/a".into()));
        assert!(of("$(NONE)").is_err());
        assert!(of("$(UP)/x").is_err());
        assert!(of("/x").is_err());
    }
}
