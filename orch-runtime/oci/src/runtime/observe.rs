//! [`seam::Observe`]: events, use of resources, readiness.

use super::OciRuntime;
use super::container::Phase;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use orch_runtime::runtime::{self as seam, ContainerStats, RuntimeEvent, RuntimeInfo};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::sync::broadcast::error::RecvError;

#[async_trait]
impl seam::Observe for OciRuntime {
    fn subscribe(&self) -> BoxStream<'static, RuntimeEvent> {
        let events = self.0.events.subscribe();
        futures::stream::unfold(events, |mut events| async move {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(_)) => Some((RuntimeEvent::Lagged, events)),
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }

    async fn stats(&self) -> seam::Result<Vec<ContainerStats>> {
        let runtime = self.clone();
        Ok(self.blocking(move || Ok(runtime.measure())).await?)
    }

    async fn info(&self) -> seam::Result<RuntimeInfo> {
        let gone = !self.0.config.data_dir.join("containers").is_dir();
        Ok(RuntimeInfo {
            name: "orch".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            not_ready: gone
                .then(|| format!("the data directory {} is gone", self.0.config.data_dir.display())),
            network_not_ready: None,
        })
    }
}

impl OciRuntime {
    fn measure(&self) -> Vec<ContainerStats> {
        let containers: Vec<_> = self.0.state.lock().containers.values().cloned().collect();
        let mut all = Vec::new();
        for container in containers {
            if !matches!(container.phase(), Phase::Running { .. }) {
                continue;
            }
            let (id, sandbox, cgroup) = {
                let meta = container.meta.lock();
                (meta.id.clone(), meta.sandbox.clone(), meta.cgroup.clone())
            };
            // Ended in the meantime.
            let Some(usage) = self.0.hierarchy.group(&cgroup).usage() else {
                continue;
            };
            let (rootfs_used_bytes, rootfs_used_inodes) = disk_usage(&container.dir.join("upper"));
            all.push(ContainerStats {
                id: id.as_str().into(),
                sandbox: sandbox.as_str().into(),
                at: self.0.env.clock.now(),
                cpu_usage_ns: usage.cpu_ns,
                memory_usage_bytes: usage.memory_bytes,
                memory_working_set_bytes: usage.working_set_bytes,
                memory_rss_bytes: usage.rss_bytes,
                page_faults: usage.page_faults,
                major_page_faults: usage.major_page_faults,
                pids: usage.pids,
                rootfs_used_bytes,
                rootfs_used_inodes,
            });
        }
        all
    }
}

/// Bytes and inodes below a directory. What cannot be read counts nothing.
fn disk_usage(dir: &Path) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes += meta.blocks() * 512;
            inodes += 1;
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}
