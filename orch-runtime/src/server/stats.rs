//! `/stats/summary`: use of resources by node, pods and containers.

use super::Server;
use crate::{
    agent::{backoff::elapsed, spec},
    runtime::{ContainerId, ContainerPhase, ContainerState, ContainerStats, RuntimeError},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Turns counters of CPU time into rates: remembers the counter that was seen before.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<BTreeMap<ContainerId, (Timestamp, u64, u64)>>);

impl Rates {
    /// Nanoseconds of CPU time a second since the last look; the last rate if the looks are too close.
    fn rate(&self, id: &ContainerId, at: Timestamp, total: u64) -> u64 {
        let mut seen = self.0.lock();
        let (rate, keep) = match seen.get(id) {
            Some((before, had, rate)) => {
                let nanos = elapsed(*before, at).as_nanos();
                if nanos < 500_000_000 {
                    (*rate, true)
                } else {
                    let used = u128::from(total.saturating_sub(*had));
                    (
                        u64::try_from(used * 1_000_000_000 / nanos.max(1)).unwrap_or(u64::MAX),
                        false,
                    )
                }
            }
            None => (0, false),
        };
        if !keep {
            seen.insert(id.clone(), (at, total, rate));
        }
        rate
    }

    fn retain(&self, alive: &[ContainerStats]) {
        self.0.lock().retain(|id, _| alive.iter().any(|s| s.id == *id));
    }
}

/// Sums over containers.
#[derive(Default, Clone, Copy)]
pub(super) struct Sum {
    pub(super) cpu_ns: u64,
    pub(super) cpu_rate: u64,
    pub(super) memory: u64,
    pub(super) working_set: u64,
    pub(super) rss: u64,
    pub(super) page_faults: u64,
    pub(super) major_page_faults: u64,
}

impl Sum {
    fn add(&mut self, s: &ContainerStats, rate: u64) {
        self.cpu_ns += s.cpu_usage_ns;
        self.cpu_rate += rate;
        self.memory += s.memory_usage_bytes;
        self.working_set += s.memory_working_set_bytes;
        self.rss += s.memory_rss_bytes;
        self.page_faults += s.page_faults;
        self.major_page_faults += s.major_page_faults;
    }
    fn cpu(&self, at: Timestamp) -> Value {
        json!({"time": at.to_string(), "usageNanoCores": self.cpu_rate, "usageCoreNanoSeconds": self.cpu_ns})
    }
    fn memory(&self, at: Timestamp, available: Option<u64>) -> Value {
        let mut value = json!({
            "time": at.to_string(),
            "usageBytes": self.memory,
            "workingSetBytes": self.working_set,
            "rssBytes": self.rss,
            "pageFaults": self.page_faults,
            "majorPageFaults": self.major_page_faults,
        });
        if let Some(available) = available {
            value["availableBytes"] = available.into();
        }
        value
    }
}

/// A running container with its statistics and the rate of its CPU time.
pub(super) struct Measured {
    pub(super) stats: ContainerStats,
    pub(super) state: ContainerState,
    pub(super) rate: u64,
}

impl Server {
    pub(super) async fn measured(&self) -> Result<Vec<Measured>, RuntimeError> {
        let (stats, states) = futures::try_join!(self.view.runtime().stats(), self.view.runtime().list())?;
        self.stats.retain(&stats);
        let mut states: BTreeMap<ContainerId, ContainerState> =
            states.into_iter().map(|c| (c.id.clone(), c)).collect();
        let join = |s: ContainerStats| {
            let state = states.remove(&s.id)?;
            let rate = self.stats.rate(&s.id, s.at, s.cpu_usage_ns);
            Some(Measured {
                stats: s,
                state,
                rate,
            })
        };
        Ok(stats.into_iter().filter_map(join).collect())
    }

    pub(super) async fn summary(&self) -> Result<Value, RuntimeError> {
        let measured = self.measured().await?;
        let now = self.view.env().clock.now();
        let facts = self.view.machine().facts();
        let mut node = Sum::default();
        let mut pods = Vec::new();
        for pod in self.view.pods() {
            let mut whole = Sum::default();
            let mut containers = Vec::new();
            for m in measured.iter().filter(|m| is_of(m, &pod)) {
                let mut own = Sum::default();
                own.add(&m.stats, m.rate);
                whole.add(&m.stats, m.rate);
                let started = match &m.state.phase {
                    ContainerPhase::Running { started_at, .. } => *started_at,
                    _ => m.state.created_at,
                };
                containers.push(json!({
                    "name": m.state.name,
                    "startTime": started.to_string(),
                    "cpu": own.cpu(m.stats.at),
                    "memory": own.memory(m.stats.at, None),
                    "rootfs": {
                        "time": m.stats.at.to_string(),
                        "usedBytes": m.stats.rootfs_used_bytes,
                        "inodesUsed": m.stats.rootfs_used_inodes,
                    },
                }));
            }
            if containers.is_empty() {
                continue;
            }
            node.cpu_ns += whole.cpu_ns;
            node.cpu_rate += whole.cpu_rate;
            node.memory += whole.memory;
            node.working_set += whole.working_set;
            node.rss += whole.rss;
            let started = spec::status(&pod).start_time.as_ref().map(|t| t.0.to_string());
            pods.push(json!({
                "podRef": {"name": spec::name(&pod), "namespace": spec::namespace(&pod), "uid": spec::uid(&pod)},
                "startTime": started,
                "containers": containers,
                "cpu": whole.cpu(now),
                "memory": whole.memory(now, None),
            }));
        }
        Ok(json!({
            "node": {
                "nodeName": self.view.name(),
                "startTime": self.view.started_at().to_string(),
                "cpu": node.cpu(now),
                "memory": node.memory(now, Some(facts.memory_bytes.saturating_sub(node.working_set))),
                "fs": {"time": now.to_string(), "capacityBytes": facts.storage_bytes},
            },
            "pods": pods,
        }))
    }
}

/// Whether a container is one of a pod.
pub(super) fn is_of(m: &Measured, pod: &Arc<k8s_openapi::api::core::v1::Pod>) -> bool {
    m.state
        .labels
        .get(crate::agent::view::POD_UID)
        .is_some_and(|uid| uid == spec::uid(pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testkit::at;

    #[test]
    fn rates() {
        let rates = Rates::default();
        let id = ContainerId("a".into());
        assert_eq!(rates.rate(&id, at(0), 0), 0);
        assert_eq!(rates.rate(&id, at(10), 5_000_000_000), 500_000_000);
        assert_eq!(rates.rate(&id, at(10), 5_000_000_001), 500_000_000);
        assert_eq!(rates.rate(&id, at(12), 5_000_000_000), 0);
    }
}
