//! Rows of pods.

use super::{age, name, since};
use crate::json::Json;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                since(&json!(time.to_string()), now)
            )
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let ip = status.list("podIPs").first().map_or("", |ip| ip.text("ip"));
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        gates(spec, status).into(),
    ]
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

fn ended_at(container: &Value) -> Option<Timestamp> {
    container
        .dig(&["lastState", "terminated", "finishedAt"])
        .as_str()?
        .parse()
        .ok()
}

/// Why a container ended: its reason, or its signal or exit code.
fn end_reason(ended: &Value, prefix: &str) -> String {
    let reason = ended.text("reason");
    let signal = ended.int("signal").unwrap_or(0);
    if !reason.is_empty() {
        format!("{prefix}{reason}")
    } else if signal != 0 {
        format!("{prefix}Signal:{signal}")
    } else {
        format!("{prefix}ExitCode:{}", ended.int("exitCode").unwrap_or(0))
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status.list("conditions").iter().find(|c| c.text("type") == kind)
}

fn is_true(status: &Value, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c.text("status") == "True")
}

fn summarize(pod: &Value) -> Summary {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let phase = status.text("phase");
    let said = status.text("reason");
    let mut reason = String::from(if said.is_empty() { phase } else { said });
    if status
        .list("conditions")
        .iter()
        .any(|c| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let is_sidecar = |name: &str| {
        let found = spec
            .list("initContainers")
            .iter()
            .rfind(|c| c.text("name") == name);
        found.is_some_and(|c| c.text("restartPolicy") == "Always")
    };
    let sidecars = spec
        .list("initContainers")
        .iter()
        .filter(|c| c.text("restartPolicy") == "Always")
        .count();
    let mut summary = Summary {
        ready: 0,
        total: spec.list("containers").len() + sidecars,
        restarts: 0,
        last_restart: None,
        reason: String::new(),
    };
    let (mut sidecar_restarts, mut sidecar_restart) = (0, None);
    let mut initializing = false;
    for (i, container) in status.list("initContainerStatuses").iter().enumerate() {
        let count = container.int("restartCount").unwrap_or(0);
        let sidecar = is_sidecar(container.text("name"));
        summary.restarts += count;
        summary.last_restart = summary.last_restart.max(ended_at(container));
        if sidecar {
            sidecar_restarts += count;
            sidecar_restart = sidecar_restart.max(ended_at(container));
        }
        let state = container.at("state");
        let waiting = state.at("waiting").text("reason");
        if let Some(ended) = state.at("terminated").some() {
            if ended.int("exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if !(sidecar && container.flag("started")) {
                reason = end_reason(ended, "Init:");
                initializing = true;
                break;
            }
        }
        if sidecar && container.flag("started") {
            summary.ready += usize::from(container.flag("ready"));
            continue;
        }
        reason = if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", spec.list("initContainers").len())
        };
        initializing = true;
        break;
    }
    if !initializing || is_true(status, "Initialized") {
        summary.restarts = sidecar_restarts;
        summary.last_restart = sidecar_restart;
        running(status, &mut summary, &mut reason);
    }
    let deleted = pod.at("metadata").has("deletionTimestamp");
    if deleted && said == "NodeLost" {
        reason = "Unknown".into();
    } else if deleted && !matches!(phase, "Failed" | "Succeeded") {
        reason = "Terminating".into();
    }
    summary.reason = reason;
    summary
}

/// The main containers, last first: the first one that says something decides.
fn running(status: &Value, summary: &mut Summary, reason: &mut String) {
    let (mut has_running, mut error) = (false, String::new());
    for container in status.list("containerStatuses").iter().rev() {
        summary.restarts += container.int("restartCount").unwrap_or(0);
        summary.last_restart = summary.last_restart.max(ended_at(container));
        let state = container.at("state");
        let waiting = state.at("waiting").text("reason");
        if !waiting.is_empty() {
            *reason = waiting.into();
        } else if let Some(ended) = state.at("terminated").some() {
            *reason = end_reason(ended, "");
            if ended.int("exitCode").unwrap_or(0) != 0 {
                error.clone_from(reason);
            }
        } else if container.flag("ready") && state.has("running") {
            has_running = true;
            summary.ready += 1;
        }
    }
    if reason == "Completed" {
        if has_running && is_true(status, "Ready") {
            *reason = "Running".into();
        } else if !error.is_empty() {
            *reason = error;
        } else if has_running {
            *reason = "NotReady".into();
        }
    }
}

fn gates(spec: &Value, status: &Value) -> String {
    let gates = spec.list("readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let passed = gates
        .iter()
        .filter(|g| is_true(status, g.text("conditionType")))
        .count();
    format!("{passed}/{}", gates.len())
}
