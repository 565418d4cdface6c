//! [`seam::ContainerRuntime`].

use super::container::{Container, Meta, Phase};
use super::{OciRuntime, Result};
use crate::error::{Attempt, Error};
use crate::shim::protocol::Request;
use async_trait::async_trait;
use orch_runtime::runtime::{
    self as seam, ContainerId, ContainerSpec, ContainerState, Resources, RuntimeError, SandboxId, Seccomp,
};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the kernel gets to end a killed process before a stop gives up.
const KILL_WAIT: Duration = Duration::from_secs(30);

#[async_trait]
impl seam::ContainerRuntime for OciRuntime {
    async fn create(&self, sandbox: &SandboxId, spec: &ContainerSpec) -> seam::Result<ContainerId> {
        let (runtime, sandbox, spec) = (self.clone(), sandbox.clone(), spec.clone());
        let task = async move { runtime.create_container(&sandbox, spec).await };
        self.through("orch-oci-create", Box::pin(task)).await
    }

    async fn start(&self, id: &ContainerId) -> seam::Result<()> {
        let container = self
            .container(id.as_str())
            .ok_or_else(|| RuntimeError::no_container(id))?;
        let runtime = self.clone();
        self.through(
            "orch-oci-start",
            Box::pin(async move { runtime.launch(container).await }),
        )
        .await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> seam::Result<()> {
        match self.container(id.as_str()) {
            Some(container) => self.stop_container(&container, grace).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, id: &ContainerId) -> seam::Result<()> {
        let Some(container) = self.container(id.as_str()) else {
            return Ok(());
        };
        let runtime = self.clone();
        self.through(
            "orch-oci-remove",
            Box::pin(async move { runtime.remove_container(&container).await }),
        )
        .await
    }

    async fn list(&self) -> seam::Result<Vec<ContainerState>> {
        let containers: Vec<Arc<Container>> = self.0.state.lock().containers.values().cloned().collect();
        let mut states = Vec::with_capacity(containers.len());
        for container in containers {
            // Removed by hand while it did not run: there is nothing left of it.
            if !container.dir.is_dir()
                && !matches!(container.phase(), Phase::Starting | Phase::Running { .. })
            {
                self.forget(&container);
                continue;
            }
            states.push(container.state());
        }
        Ok(states)
    }

    async fn update(&self, id: &ContainerId, resources: &Resources) -> seam::Result<()> {
        let container = self
            .container(id.as_str())
            .ok_or_else(|| RuntimeError::no_container(id))?;
        let _changing = container.changing.lock().await;
        let running = match container.phase() {
            Phase::Running { .. } => true,
            Phase::Created => false,
            Phase::Starting | Phase::Exited(_) => {
                return Err(RuntimeError::WrongState {
                    what: format!("container {id}"),
                    state: "exited".into(),
                });
            }
        };
        let mut meta = container.meta.lock().clone();
        meta.spec.resources = resources.clone();
        let (runtime, dir, changed) = (self.clone(), container.dir.clone(), meta.clone());
        self.blocking(move || {
            if running {
                runtime
                    .0
                    .hierarchy
                    .group(&changed.cgroup)
                    .apply(&changed.spec.resources)?;
            }
            changed.save(&dir)
        })
        .await?;
        *container.meta.lock() = meta;
        Ok(())
    }

    async fn reopen_log(&self, id: &ContainerId) -> seam::Result<()> {
        let container = self.running_container(id)?;
        self.ask(&container, &Request::ReopenLog).await
    }
}

impl OciRuntime {
    /// A container that runs.
    pub(super) fn running_container(&self, id: &ContainerId) -> seam::Result<Arc<Container>> {
        let container = self
            .container(id.as_str())
            .ok_or_else(|| RuntimeError::no_container(id))?;
        let state = match container.phase() {
            Phase::Running { .. } => return Ok(container),
            Phase::Created | Phase::Starting => "created",
            Phase::Exited(_) => "exited",
        };
        Err(RuntimeError::WrongState {
            what: format!("container {id}"),
            state: state.into(),
        })
    }

    async fn create_container(
        &self,
        sandbox_id: &SandboxId,
        spec: ContainerSpec,
    ) -> seam::Result<ContainerId> {
        check(&spec)?;
        let sandbox = self
            .sandbox(sandbox_id.as_str())
            .ok_or_else(|| RuntimeError::no_sandbox(sandbox_id))?;
        if !sandbox.ready(&self.sandbox_dir(&sandbox.id)) {
            let what = format!("sandbox {sandbox_id}");
            return Err(RuntimeError::WrongState {
                what,
                state: "not ready".into(),
            });
        }
        let pod_uid = sandbox.spec.pod.uid.clone();
        let identity = (pod_uid.clone(), spec.name.clone(), spec.attempt);
        {
            let mut state = self.0.state.lock();
            let taken = state.containers.values().any(|c| {
                let meta = c.meta.lock();
                (&meta.pod_uid, &meta.spec.name, meta.spec.attempt) == (&identity.0, &identity.1, identity.2)
            });
            if taken || !state.containers_in_making.insert(identity.clone()) {
                let what = format!(
                    "container {} attempt {} of pod {pod_uid}",
                    spec.name, spec.attempt
                );
                return Err(RuntimeError::AlreadyExists { what });
            }
        }
        let (warming, pod_cgroup) = (self.clone(), sandbox.cgroup.clone());
        self.0
            .env
            .spawner
            .spawn_blocking(Box::new(move || warming.0.hierarchy.group(&pod_cgroup).warm()));
        let id = self.new_id();
        let cgroup = match spec.cgroup_parent.trim_matches('/') {
            "" => format!("{}/{id}", sandbox.cgroup),
            parent => format!("{parent}/{id}"),
        };
        let (runtime, dir, own_id) = (self.clone(), self.container_dir(&id), id.clone());
        let created_at = self.0.env.clock.now();
        let made = self
            .blocking(move || {
                let image = runtime.0.images.pin(&own_id, &spec.image)?;
                let meta = Meta {
                    id: own_id.clone(),
                    sandbox: sandbox.id.clone(),
                    pod_uid,
                    image_id: image.id,
                    created_at,
                    layers: image.layers,
                    image_config: image.config,
                    cgroup,
                    spec,
                };
                let done = (|| {
                    fs::create_dir(&dir).at("create", &dir)?;
                    meta.save(&dir)
                })();
                if let Err(e) = done {
                    runtime.discard_container_dir(&dir)?;
                    return Err(e);
                }
                Ok(Container::new(dir, meta, Phase::Created))
            })
            .await;
        let container = {
            let mut state = self.0.state.lock();
            state.containers_in_making.remove(&identity);
            let container = Arc::new(made?);
            state.containers.insert(id.clone(), container.clone());
            if state
                .sandboxes
                .get(sandbox_id.as_str())
                .is_some_and(|s| !s.stopped)
            {
                return Ok(id.as_str().into());
            }
            container
        };
        // The sandbox was stopped or removed meanwhile, perhaps without seeing this container.
        self.remove_container(&container).await?;
        Err(RuntimeError::WrongState {
            what: format!("sandbox {sandbox_id}"),
            state: "stopped".into(),
        })
    }

    /// Stops a container and returns when it has ended.
    pub(super) async fn stop_container(
        &self,
        container: &Arc<Container>,
        grace: Duration,
    ) -> seam::Result<()> {
        if container.phase() == Phase::Starting {
            // The start holds this until it is decided.
            drop(container.changing.lock().await);
        }
        if !matches!(container.phase(), Phase::Running { .. }) {
            return Ok(());
        }
        if !grace.is_zero() {
            if !container.stop_sent.swap(true, Ordering::SeqCst) {
                let number = stop_signal(&container.meta.lock());
                self.signal(container, number).await?;
            }
            tokio::select! {
                () = container.wait() => return Ok(()),
                () = self.0.env.clock.sleep(grace) => {}
            }
        }
        self.signal(container, 9).await?;
        tokio::select! {
            () = container.wait() => Ok(()),
            () = self.0.env.clock.sleep(KILL_WAIT) => Err(RuntimeError::Unavailable {
                reason: format!("container {} does not end although it was killed", container.meta.lock().id),
                source: None,
            }),
        }
    }

    /// Sends a signal. A container that is just ending needs none.
    async fn signal(&self, container: &Arc<Container>, number: i32) -> seam::Result<()> {
        match self.ask(container, &Request::Signal(number)).await {
            Err(e) if matches!(container.phase(), Phase::Running { .. }) => {
                // The shim hangs up when the container has ended; that becomes known in a moment.
                let moment = self.0.env.clock.sleep(Duration::from_secs(2));
                tokio::select! {
                    () = container.wait() => return Ok(()),
                    () = moment => {}
                }
                if number != 9 {
                    return Err(e);
                }
                // Its directory was removed by hand, say. There is another way to kill.
                let (runtime, cgroup) = (self.clone(), container.meta.lock().cgroup.clone());
                self.blocking(move || {
                    runtime.0.hierarchy.group(&cgroup).kill();
                    Ok(())
                })
                .await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Removes a container with everything that was made for it.
    pub(super) async fn remove_container(&self, container: &Arc<Container>) -> seam::Result<()> {
        self.stop_container(container, Duration::ZERO).await?;
        let _changing = container.changing.lock().await;
        let (runtime, dir, meta) = (self.clone(), container.dir.clone(), container.meta.lock().clone());
        self.blocking(move || {
            runtime.0.hierarchy.group(&meta.cgroup).kill();
            runtime.0.hierarchy.group(&meta.cgroup).remove()?;
            runtime.discard_container_dir(&dir)
        })
        .await?;
        self.forget(container);
        Ok(())
    }

    fn forget(&self, container: &Container) {
        let id = container.meta.lock().id.clone();
        self.0.state.lock().containers.remove(&id);
    }
}

fn check(spec: &ContainerSpec) -> Result<()> {
    let invalid = |field: &str, reason: String| {
        Err(Error::Invalid {
            field: field.into(),
            reason,
        })
    };
    if let Some(signal) = &spec.stop_signal
        && crate::spec::signal_number(signal).is_none()
    {
        return invalid("stop_signal", format!("{signal:?} is no signal"));
    }
    for (i, mount) in spec.mounts.iter().enumerate() {
        if !mount.host_path.is_absolute() || !mount.container_path.is_absolute() {
            return invalid(&format!("mounts[{i}]"), "both paths must be absolute".into());
        }
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return invalid(
                "env",
                format!("{name:?} is no name of a variable, or its value holds a NUL"),
            );
        }
    }
    if spec.command.iter().chain(&spec.args).any(|a| a.contains('\0')) {
        return invalid("command", "holds a NUL".into());
    }
    match &spec.security.seccomp {
        Seccomp::Localhost(path) if !spec.security.privileged && !path.is_file() => {
            invalid("seccomp", format!("{} is no file", path.display()))
        }
        _ => Ok(()),
    }
}

/// The signal that asks a container to end.
fn stop_signal(meta: &Meta) -> i32 {
    let wanted = meta
        .spec
        .stop_signal
        .as_deref()
        .or(Some(meta.image_config.stop_signal.as_str()));
    wanted.and_then(crate::spec::signal_number).unwrap_or(15)
}
