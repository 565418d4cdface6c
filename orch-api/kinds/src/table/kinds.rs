//! Rows of the kinds other than pods.

use super::{age, name, pod, since};
use crate::json::Json;
use jiff::Timestamp;
use orch_core::GroupVersionKind;
use orch_core::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The cells of `object`, or `None` if its kind has only the default columns.
pub(super) fn cells(kind: &GroupVersionKind, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let named = |cells: Vec<Value>| {
        let mut row = vec![name(object)];
        row.extend(cells);
        row
    };
    Some(match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod::cells(object, now),
        ("", "Node") => named(node(object, now)),
        ("", "Service") => named(service(object, now)),
        ("", "Namespace") => named(vec![object.at("status").text("phase").into(), age(object, now)]),
        ("", "ConfigMap") => {
            let count = object.entries("data").count() + object.entries("binaryData").count();
            named(vec![count.into(), age(object, now)])
        }
        ("", "Secret") => named(vec![
            object.text("type").into(),
            object.entries("data").count().into(),
            age(object, now),
        ]),
        ("", "ServiceAccount") => named(vec![age(object, now)]),
        ("", "Endpoints") => named(vec![endpoints(object).into(), age(object, now)]),
        ("", "PodTemplate") => {
            let [containers, images] = containers(object.at("template"));
            let labels = format_labels(object.dig(&["template", "metadata", "labels"]));
            named(vec![containers, images, labels.into()])
        }
        ("" | "events.k8s.io", "Event") => event(object, now),
        ("apps", "Deployment") => named(deployment(object, now)),
        ("apps", "ReplicaSet") => named(replica_set(object, now)),
        ("apps", "ControllerRevision") => {
            let revision = object.int("revision").unwrap_or(0);
            named(vec![controller(object).into(), revision.into(), age(object, now)])
        }
        ("batch", "Job") => named(job(object, now)),
        ("discovery.k8s.io", "EndpointSlice") => named(endpoint_slice(object, now)),
        ("coordination.k8s.io", "Lease") => named(vec![
            object.at("spec").text("holderIdentity").into(),
            age(object, now),
        ]),
        ("policy", "PodDisruptionBudget") => named(disruption_budget(object, now)),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            named(role_binding(object, now))
        }
        ("scheduling.k8s.io", "PriorityClass") => named(vec![
            object.int("value").unwrap_or(0).into(),
            object.flag("globalDefault").into(),
            age(object, now),
            object.text("preemptionPolicy").into(),
        ]),
        ("node.k8s.io", "RuntimeClass") => named(vec![object.text("handler").into(), age(object, now)]),
        ("storage.k8s.io", "CSINode") => named(vec![
            object.at("spec").list("drivers").len().into(),
            age(object, now),
        ]),
        ("storage.k8s.io", "StorageClass") => storage_class(object, now),
        _ => return None,
    })
}

/// Names and images of the containers of a template.
fn containers(template: &Value) -> [Value; 2] {
    let join = |key: &str| {
        let parts: Vec<&str> = template
            .at("spec")
            .list("containers")
            .iter()
            .map(|c| c.text(key))
            .collect();
        Value::from(parts.join(","))
    };
    [join("name"), join("image")]
}

fn format_labels(labels: &Value) -> String {
    let parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.string()))
        .collect();
    if parts.is_empty() {
        "<none>".into()
    } else {
        parts.join(",")
    }
}

fn selector_text(object: &Value, invalid: &str, empty: &str) -> Value {
    match LabelSelector::from_value(object.at("spec").at("selector").some()) {
        Err(_) => invalid.into(),
        Ok(selector) => {
            let text = selector.to_string();
            if text.is_empty() {
                empty.into()
            } else {
                text.into()
            }
        }
    }
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.at("spec"), object.at("status"));
    let count = |key: &str| status.int(key).unwrap_or(0);
    let [names, images] = containers(spec.at("template"));
    vec![
        format!("{}/{}", count("readyReplicas"), spec.int("replicas").unwrap_or(0)).into(),
        count("updatedReplicas").into(),
        count("availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector_text(object, "<invalid>", ""),
    ]
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.at("spec"), object.at("status"));
    let [names, images] = containers(spec.at("template"));
    vec![
        spec.int("replicas").unwrap_or(0).into(),
        status.int("replicas").unwrap_or(0).into(),
        status.int("readyReplicas").unwrap_or(0).into(),
        age(object, now),
        names,
        images,
        selector_text(object, "<error>", "<none>"),
    ]
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.at("spec"), object.at("status"));
    let done = status.int("succeeded").unwrap_or(0);
    let parallelism = spec.int("parallelism").unwrap_or(0);
    let completions = match spec.int("completions") {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    };
    let time = |key: &str| status.text(key).parse::<Timestamp>().ok();
    let duration = time("startTime").map_or_else(String::new, |start| {
        super::human_duration(time("completionTime").unwrap_or(now).duration_since(start))
    });
    let has = |kind: &str| {
        status
            .list("conditions")
            .iter()
            .any(|c| c.text("type") == kind && c.text("status") == "True")
    };
    let state = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if object.at("metadata").has("deletionTimestamp") {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|k| has(k))
            .unwrap_or("Running")
    };
    let [names, images] = containers(spec.at("template"));
    vec![
        state.into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector_text(object, "<error>", "<none>"),
    ]
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (object.at("spec"), object.at("status"));
    let ready = status
        .list("conditions")
        .iter()
        .rfind(|c| c.text("type") == "Ready");
    let mut state = match ready {
        Some(c) if c.text("status") == "True" => String::from("Ready"),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if spec.flag("unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (key, value) in object.at("metadata").entries("labels") {
        if let Some(role) = key
            .strip_prefix("node-role.kubernetes.io/")
            .filter(|r| !r.is_empty())
        {
            roles.insert(role);
        } else if key == "kubernetes.io/role" && !value.string().is_empty() {
            roles.insert(value.string());
        }
    }
    let roles: Vec<&str> = roles.into_iter().collect();
    let roles = if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    };
    let info = status.at("nodeInfo");
    let known = |key: &str| match info.text(key) {
        "" => "<unknown>",
        text => text,
    };
    let address = |kind: &str| {
        let found = status.list("addresses").iter().find(|a| a.text("type") == kind);
        Value::from(found.map_or("<none>", |a| a.text("address")))
    };
    let mut kernel = known("kernelVersion").to_owned();
    if !info.text("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info.text("architecture"));
    }
    vec![
        state.into(),
        roles.into(),
        age(object, now),
        info.text("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = object.at("spec");
    let ports: Vec<String> = spec
        .list("ports")
        .iter()
        .map(|p| {
            let (port, protocol) = (p.int("port").unwrap_or(0), p.text("protocol"));
            match p.int("nodePort").unwrap_or(0) {
                node if node > 0 => format!("{port}:{node}/{protocol}"),
                _ => format!("{port}/{protocol}"),
            }
        })
        .collect();
    let ports = if ports.is_empty() {
        "<none>".to_owned()
    } else {
        ports.join(",")
    };
    let ip = spec.list("clusterIPs").first().map_or("<none>", Json::string);
    vec![
        spec.text("type").into(),
        ip.into(),
        external_ip(object).into(),
        ports.into(),
        age(object, now),
        format_labels(spec.at("selector")).into(),
    ]
}

fn external_ip(object: &Value) -> String {
    let spec = object.at("spec");
    let mut ips: Vec<&str> = spec.list("externalIPs").iter().map(Json::string).collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" => {
            if ips.is_empty() {
                "<none>".into()
            } else {
                ips.join(",")
            }
        }
        "LoadBalancer" => {
            let balancer: BTreeSet<&str> = object
                .dig(&["status", "loadBalancer"])
                .list("ingress")
                .iter()
                .map(|i| {
                    if i.text("ip").is_empty() {
                        i.text("hostname")
                    } else {
                        i.text("ip")
                    }
                })
                .filter(|a| !a.is_empty())
                .collect();
            let mut all: Vec<&str> = balancer.into_iter().collect();
            all.append(&mut ips);
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => spec.text("externalName").into(),
        _ => "<unknown>".into(),
    }
}

/// The first three, and how many more there are.
fn first_three(all: &[String], empty: &str) -> String {
    const SHOWN: usize = 3;
    let text = all
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",");
    if all.len() > SHOWN {
        format!("{text} + {} more...", all.len() - SHOWN)
    } else if text.is_empty() {
        empty.into()
    } else {
        text
    }
}

fn endpoints(object: &Value) -> String {
    let subsets = object.list("subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || subset.list("addresses").iter().map(|a| a.text("ip"));
        if subset.list("ports").is_empty() {
            all.extend(ips().map(String::from));
        }
        for port in subset.list("ports") {
            let number = port.int("port").unwrap_or(0);
            all.extend(ips().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    first_three(&all, "")
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = object
        .list("ports")
        .iter()
        .map(|p| match (p.int("port"), p.at("name").as_str()) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.into(),
            (None, None) => "*".into(),
        })
        .collect();
    let addresses: Vec<String> = object
        .list("endpoints")
        .iter()
        .flat_map(|e| e.list("addresses"))
        .map(|a| a.string().to_owned())
        .collect();
    vec![
        object.text("addressType").into(),
        first_three(&ports, "<unset>").into(),
        first_three(&addresses, "<unset>").into(),
        age(object, now),
    ]
}

/// Events of both groups; the newer one names some members differently.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |a: &str, b: &str| {
        if object.has(a) {
            object.at(a).clone()
        } else {
            object.at(b).clone()
        }
    };
    let time = |a: &str, b: &str| either(a, b);
    let first = time("firstTimestamp", "deprecatedFirstTimestamp");
    let first = if first.is_null() {
        since(object.at("eventTime"), now)
    } else {
        since(&first, now)
    };
    let last = time("lastTimestamp", "deprecatedLastTimestamp");
    let mut last = if last.is_null() {
        first.clone()
    } else {
        since(&last, now)
    };
    let mut count = crate::json::number(&either("count", "deprecatedCount")).unwrap_or(0);
    if let Some(series) = object.at("series").some() {
        last = since(series.at("lastObservedTime"), now);
        count = series.int("count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let about = either("involvedObject", "regarding");
    let kind = about.text("kind").to_lowercase();
    let target = if about.text("name").is_empty() {
        kind
    } else {
        format!("{kind}/{}", about.text("name"))
    };
    let source = either("source", "deprecatedSource");
    let reporter = either("reportingComponent", "reportingController");
    let pick = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component = pick(source.text("component"), reporter.string());
    let instance = pick(source.text("host"), object.text("reportingInstance"));
    let source = if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    };
    vec![
        last.into(),
        object.text("type").into(),
        object.text("reason").into(),
        target.into(),
        about.text("fieldPath").into(),
        source.into(),
        either("message", "note").string().trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

fn controller(object: &Value) -> String {
    let owner = object
        .at("metadata")
        .list("ownerReferences")
        .iter()
        .find(|r| r.flag("controller"));
    let Some(owner) = owner else {
        return "<none>".into();
    };
    let group = owner.text("apiVersion").split_once('/').map_or("", |(g, _)| g);
    let kind = owner.text("kind").to_lowercase();
    let kind = if group.is_empty() {
        kind
    } else {
        format!("{kind}.{group}")
    };
    format!("{kind}/{}", owner.text("name"))
}

fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |key: &str| match object.at("spec").at(key) {
        Value::Null => json!("N/A"),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    };
    vec![
        amount("minAvailable"),
        amount("maxUnavailable"),
        object.at("status").int("disruptionsAllowed").unwrap_or(0).into(),
        age(object, now),
    ]
}

fn role_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = object.at("roleRef");
    let subjects = |kind: &str| {
        let of_kind = object.list("subjects").iter().filter(|s| s.text("kind") == kind);
        let names: Vec<String> = of_kind
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", s.text("namespace"), s.text("name")),
                _ => s.text("name").into(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        format!("{}/{}", role.text("kind"), role.text("name")).into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = object.at("metadata").at("annotations");
    let default = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .iter()
    .any(|key| annotations.text(key) == "true");
    let mut shown = object.at("metadata").text("name").to_owned();
    if default {
        shown.push_str(" (default)");
    }
    let or = |key: &str, otherwise: &str| match object.text(key) {
        "" => Value::from(otherwise),
        text => text.into(),
    };
    vec![
        shown.into(),
        object.text("provisioner").into(),
        or("reclaimPolicy", "Delete"),
        or("volumeBindingMode", "Immediate"),
        object.flag("allowVolumeExpansion").into(),
        age(object, now),
    ]
}
