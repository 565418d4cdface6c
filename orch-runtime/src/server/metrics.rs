//! `/metrics` and `/metrics/resource` in the Prometheus text format.

use super::{Server, stats::is_of};
use crate::agent::spec;
use std::fmt::Write as _;

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Server {
    pub(super) async fn metrics(&self) -> String {
        let mut out = String::new();
        let running = self.measured().await.unwrap_or_default();
        let pods = self.view.pods();
        let up = pods
            .iter()
            .filter(|p| running.iter().any(|m| is_of(m, p)))
            .count();
        head(
            &mut out,
            "kubelet_node_name",
            "gauge",
            "The node's name. The count is always 1.",
        );
        let _ = writeln!(
            out,
            "kubelet_node_name{{node=\"{}\"}} 1",
            quoted(self.view.name())
        );
        head(
            &mut out,
            "kubelet_running_pods",
            "gauge",
            "Number of pods that have a running pod sandbox",
        );
        let _ = writeln!(out, "kubelet_running_pods {up}");
        head(
            &mut out,
            "kubelet_running_containers",
            "gauge",
            "Number of containers currently running",
        );
        let _ = writeln!(
            out,
            "kubelet_running_containers{{container_state=\"running\"}} {}",
            running.len()
        );
        out
    }

    pub(super) async fn resource_metrics(&self) -> String {
        let mut out = String::new();
        let Ok(measured) = self.measured().await else {
            head(
                &mut out,
                "resource_scrape_error",
                "gauge",
                "1 if there was an error while getting container metrics, 0 otherwise",
            );
            out.push_str("resource_scrape_error 1\n");
            return out;
        };
        let pods = self.view.pods();
        let (mut cpu, mut memory, mut start) = (String::new(), String::new(), String::new());
        let (mut pod_cpu, mut pod_memory) = (String::new(), String::new());
        let (mut node_cpu, mut node_memory) = (0, 0);
        for pod in &pods {
            let (name, namespace) = (quoted(spec::name(pod)), quoted(spec::namespace(pod)));
            let (mut all_cpu, mut all_memory, mut any) = (0, 0, false);
            for m in measured.iter().filter(|m| is_of(m, pod)) {
                let labels = format!(
                    "container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"",
                    quoted(&m.state.name)
                );
                let millis = m.stats.at.as_millisecond();
                let _ = writeln!(
                    cpu,
                    "container_cpu_usage_seconds_total{{{labels}}} {} {millis}",
                    seconds(m.stats.cpu_usage_ns)
                );
                let _ = writeln!(
                    memory,
                    "container_memory_working_set_bytes{{{labels}}} {} {millis}",
                    m.stats.memory_working_set_bytes
                );
                if let crate::runtime::ContainerPhase::Running { started_at, .. } = &m.state.phase {
                    let at = started_at.as_millisecond() as f64 / 1e3;
                    let _ = writeln!(start, "container_start_time_seconds{{{labels}}} {at}");
                }
                all_cpu += m.stats.cpu_usage_ns;
                all_memory += m.stats.memory_working_set_bytes;
                any = true;
            }
            if any {
                let labels = format!("namespace=\"{namespace}\",pod=\"{name}\"");
                let _ = writeln!(
                    pod_cpu,
                    "pod_cpu_usage_seconds_total{{{labels}}} {}",
                    seconds(all_cpu)
                );
                let _ = writeln!(
                    pod_memory,
                    "pod_memory_working_set_bytes{{{labels}}} {all_memory}"
                );
            }
            node_cpu += all_cpu;
            node_memory += all_memory;
        }
        let families = [
            (
                "container_cpu_usage_seconds_total",
                "counter",
                "Cumulative cpu time consumed by the container in core-seconds",
                cpu,
            ),
            (
                "container_memory_working_set_bytes",
                "gauge",
                "Current working set of the container in bytes",
                memory,
            ),
            (
                "container_start_time_seconds",
                "gauge",
                "Start time of the container since unix epoch in seconds",
                start,
            ),
            (
                "pod_cpu_usage_seconds_total",
                "counter",
                "Cumulative cpu time consumed by the pod in core-seconds",
                pod_cpu,
            ),
            (
                "pod_memory_working_set_bytes",
                "gauge",
                "Current working set of the pod in bytes",
                pod_memory,
            ),
            (
                "node_cpu_usage_seconds_total",
                "counter",
                "Cumulative cpu time consumed by the node in core-seconds",
                format!("node_cpu_usage_seconds_total {}\n", seconds(node_cpu)),
            ),
            (
                "node_memory_working_set_bytes",
                "gauge",
                "Current working set of the node in bytes",
                format!("node_memory_working_set_bytes {node_memory}\n"),
            ),
            (
                "resource_scrape_error",
                "gauge",
                "1 if there was an error while getting container metrics, 0 otherwise",
                "resource_scrape_error 0\n".to_owned(),
            ),
        ];
        for (name, kind, help, lines) in families {
            if !lines.is_empty() {
                head(&mut out, name, kind, help);
                out.push_str(&lines);
            }
        }
        out
    }
}
