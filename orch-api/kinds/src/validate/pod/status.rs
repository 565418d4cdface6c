//! The `status` subresource of pods.

use super::annotations;
use crate::field::{BadValue, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{dns_subdomain, immutable, qualified_name};
use crate::validate::{ip, meta};
use serde_json::Value;

pub(in crate::validate) fn update_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let meta_path = Path::new("metadata");
    annotations::update(errors, &meta_path.child("annotations"), new, old);
    let path = Path::new("status");
    let (status, held) = (new.at("status"), old.at("status"));
    for (i, condition) in status.list("conditions").iter().enumerate() {
        let path = path.child("conditions");
        let here = path.index(i);
        if let Some(generation) = condition.int("observedGeneration").filter(|g| *g < 0) {
            errors.invalid(
                &here.child("observedGeneration"),
                generation,
                "must be a non-negative integer",
            );
        }
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            qualified_name(errors, &here.child("Type"), kind);
        }
    }
    if new.at("spec").text("nodeName") != old.at("spec").text("nodeName") {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    nominated_node(errors, &path.child("nominatedNodeName"), status, old);
    if let Some(generation) = status.int("observedGeneration").filter(|g| *g < 0) {
        errors.invalid(
            &path.child("observedGeneration"),
            generation,
            "must be a non-negative integer",
        );
    }
    let class = |s: &Value| Value::from(s.text("qosClass"));
    immutable(errors, &path.child("qosClass"), &class(status), &class(held));
    let spec = old.at("spec");
    for (list, containers) in [
        ("containerStatuses", Some("containers")),
        ("initContainerStatuses", Some("initContainers")),
        ("ephemeralContainerStatuses", None),
    ] {
        transitions(
            errors,
            &path.child(list),
            status.list(list),
            held.list(list),
            spec,
            containers,
        );
    }
    addresses(errors, &path, status, held, "podIPs");
    if !status.list("hostIPs").is_empty() {
        let first = status.list("hostIPs").first().map_or("", |ip| ip.text("ip"));
        if first != status.text("hostIP") {
            errors.invalid(
                &path.child("hostIPs").index(0).child("ip"),
                first,
                "must be equal to `hostIP`",
            );
        }
        addresses(errors, &path, status, held, "hostIPs");
    }
}

fn nominated_node(errors: &mut FieldErrors, path: &Path<'_>, status: &Value, old: &Value) {
    let node = status.text("nominatedNodeName");
    if node.is_empty() || node == old.at("status").text("nominatedNodeName") {
        return;
    }
    dns_subdomain(errors, path, node);
    if !old.at("spec").text("nodeName").is_empty() {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

/// A container that has ended for good may not come back to life.
fn transitions(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    new: &[Value],
    old: &[Value],
    spec: &Value,
    containers: Option<&str>,
) {
    let all_may_restart = containers.is_some()
        && ["containers", "initContainers"]
            .iter()
            .flat_map(|l| spec.list(l))
            .any(|c| {
                c.list("restartPolicyRules")
                    .iter()
                    .any(|r| r.text("action") == "RestartAllContainers")
            });
    if all_may_restart {
        return;
    }
    for (i, before) in old.iter().enumerate() {
        let Some(ended) = before.at("state").at("terminated").some() else {
            continue;
        };
        let name = before.text("name");
        let Some(now) = new.iter().find(|s| s.text("name") == name) else {
            continue;
        };
        if now.at("state").has("terminated") {
            continue;
        }
        let code = ended.int("exitCode").unwrap_or(0);
        let container = containers.and_then(|l| spec.list(l).iter().find(|c| c.text("name") == name));
        if !container.is_some_and(|c| should_restart(c, spec, code)) {
            errors.forbidden(
                &path.index(i).child("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}

/// Whether a container that ended with `code` is started again: its rules decide, then its policy, then the pod's.
fn should_restart(container: &Value, spec: &Value, code: i64) -> bool {
    let policy = container.at("restartPolicy").as_str();
    if policy.is_some() {
        for rule in container.list("restartPolicyRules") {
            let codes = rule.at("exitCodes");
            let listed = codes
                .list("values")
                .iter()
                .any(|v| crate::json::number(v) == Some(code));
            let applies = match codes.text("operator") {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            if applies && matches!(rule.text("action"), "Restart" | "RestartAllContainers") {
                return true;
            }
        }
    }
    match policy.unwrap_or_else(|| spec.text("restartPolicy")) {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn addresses(errors: &mut FieldErrors, path: &Path<'_>, status: &Value, held: &Value, list: &str) {
    let path = path.child(list);
    let all = |status: &Value| -> Vec<String> {
        status
            .list(list)
            .iter()
            .map(|ip| ip.text("ip").to_owned())
            .collect()
    };
    let (now, before) = (all(status), all(held));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let now: Vec<&str> = now.iter().map(String::as_str).collect();
    for (i, address) in now.iter().enumerate() {
        ip::address(errors, &path.index(i), address, &before);
    }
    if now.len() > 1 && (now.len() > 2 || !ip::is_dual_stack(&now)) {
        let shown: Vec<String> = now.iter().map(|ip| format!("{{\"IP\":\"{ip}\"}}")).collect();
        errors.invalid(
            &path,
            BadValue::Raw(format!("[{}]", shown.join(","))),
            "may specify no more than one IP for each IP family",
        );
    }
}
