//! Warnings about pods and templates of pods.

use crate::field::{Path, quote};
use crate::json::Json;
use crate::validate::ip;
use orch_core::quantity::Quantity;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const DEPRECATED_NODE_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

pub(super) fn deprecated(label: &str) -> Option<&'static str> {
    DEPRECATED_NODE_LABELS
        .iter()
        .find(|(key, _)| *key == label)
        .map(|(_, why)| *why)
}

pub(super) fn template(path: &Path<'_>, template: &Value, out: &mut Vec<String>) {
    pod_spec(&path.child("spec"), &path.child("metadata"), template, true, out);
}

pub(super) fn pod_spec(
    spec_path: &Path<'_>,
    meta_path: &Path<'_>,
    pod: &Value,
    in_template: bool,
    out: &mut Vec<String>,
) {
    let spec = pod.at("spec");
    let annotations = pod.dig(&["metadata", "annotations"]);
    scheduling(spec_path, spec, out);
    for (key, message) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if annotations.has(key) {
            out.push(format!("{}: {message}", meta_path.child("annotations").key(key)));
        }
    }
    for (i, volume) in spec.list("volumes").iter().enumerate() {
        for (source, message) in [
            (
                "photonPersistentDisk",
                "deprecated in v1.11, non-functional in v1.16+",
            ),
            (
                "gitRepo",
                "deprecated in v1.11, and disabled by default in v1.33+",
            ),
            ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
            ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
            ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
            ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            if volume.has(source) {
                let shown = if source == "storageos" {
                    "storageOS"
                } else {
                    source
                };
                out.push(format!(
                    "{}: {message}",
                    spec_path.child("volumes").index(i).child(shown)
                ));
            }
        }
    }
    duplicates(spec_path, spec, "hostAliases", "ip", out);
    duplicates(spec_path, spec, "imagePullSecrets", "name", out);
    for (i, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            out.push(format!(
                "{}: invalid empty name \"\"",
                spec_path.child("imagePullSecrets").index(i).child("name")
            ));
        }
    }
    fractional(&spec_path.child("overhead"), spec.at("overhead"), out);
    if !spec.at("securityContext").has("seccompProfile")
        && annotations.has("seccomp.security.alpha.kubernetes.io/pod")
    {
        let path = meta_path.child("annotations");
        out.push(format!(
            "{}: non-functional in v1.27+; use the \"seccompProfile\" field instead",
            path.key("seccomp.security.alpha.kubernetes.io/pod")
        ));
    }
    containers(spec_path, meta_path, spec, annotations, in_template, out);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            spec_path.child("terminationGracePeriodSeconds")
        ));
    }
    affinity_selectors(spec_path, spec, out);
    for (i, server) in spec.at("dnsConfig").list("nameservers").iter().enumerate() {
        let path = spec_path.child("dnsConfig");
        out.extend(ip::ip_warnings(
            &path.child("nameservers").index(i),
            server.string(),
        ));
    }
    for (i, alias) in spec.list("hostAliases").iter().enumerate() {
        let path = spec_path.child("hostAliases");
        out.extend(ip::ip_warnings(&path.index(i).child("ip"), alias.text("ip")));
    }
}

fn scheduling(path: &Path<'_>, spec: &Value, out: &mut Vec<String>) {
    for (key, _) in spec.entries("nodeSelector") {
        if let Some(why) = deprecated(key) {
            out.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = path.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    let node = spec.dig(&["affinity", "nodeAffinity"]);
    let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = node
        .at("requiredDuringSchedulingIgnoredDuringExecution")
        .list("nodeSelectorTerms");
    for (i, term) in terms.iter().enumerate() {
        node_term(&required.child("nodeSelectorTerms").index(i), term, false, out);
    }
    let preferred = affinity.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in node
        .list("preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .enumerate()
    {
        node_term(
            &preferred.index(i).child("preference"),
            term.at("preference"),
            true,
            out,
        );
    }
    let constraints = path.child("topologySpreadConstraints");
    for (i, constraint) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let key = constraint.text("topologyKey");
        if let Some(why) = deprecated(key) {
            out.push(format!(
                "{}: {key} is {why}",
                constraints.index(i).child("topologyKey")
            ));
        }
        if !constraint.has("labelSelector") {
            let path = constraints.index(i);
            out.push(format!(
                "{}: a null labelSelector results in matching no pod",
                path.child("labelSelector")
            ));
        }
    }
}

fn node_term(path: &Path<'_>, term: &Value, check_values: bool, out: &mut Vec<String>) {
    for (i, expression) in term.list("matchExpressions").iter().enumerate() {
        let here = path.child("matchExpressions");
        let here = here.index(i);
        let key = expression.text("key");
        if let Some(why) = deprecated(key) {
            out.push(format!("{}: {key} is {why}", here.child("key")));
        }
        for (j, value) in expression
            .list("values")
            .iter()
            .enumerate()
            .filter(|_| check_values)
        {
            for why in format::label_value(value.string()) {
                out.push(format!(
                    "{}: {} is invalid, {why}",
                    here.child("values").index(j),
                    value.string()
                ));
            }
        }
    }
}

fn affinity_selectors(path: &Path<'_>, spec: &Value, out: &mut Vec<String>) {
    let base = path.child("affinity");
    let message = "a null labelSelector results in matching no pod";
    for side in ["podAffinity", "podAntiAffinity"] {
        let (terms, here) = (spec.at("affinity").at(side), base.child(side));
        let key = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in terms.list(key).iter().enumerate() {
            if !term.has("labelSelector") {
                out.push(format!(
                    "{}: {message}",
                    here.child(key).index(i).child("labelSelector")
                ));
            }
        }
        let key = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, weighted) in terms.list(key).iter().enumerate() {
            if !weighted.at("podAffinityTerm").has("labelSelector") {
                let path = here.child(key);
                let path = path.index(i);
                out.push(format!(
                    "{}: {message}",
                    path.child("podAffinityTerm").child("labelSelector")
                ));
            }
        }
    }
}

fn duplicates(path: &Path<'_>, spec: &Value, list: &str, key: &str, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, item) in spec.list(list).iter().enumerate() {
        if !seen.insert(item.text(key)) {
            let path = path.child(list);
            out.push(format!(
                "{}: duplicate {key} {}",
                path.index(i).child(key),
                quote(item.text(key))
            ));
        }
    }
}

fn fractional(path: &Path<'_>, list: &Value, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Ok(amount) = list.text(name).parse::<Quantity>()
            && amount.milli_value() % 1000 != 0
        {
            let shown = quote(&amount.to_string());
            out.push(format!(
                "{}: fractional byte value {shown} is invalid, must be an integer",
                path.key(name)
            ));
        }
    }
}

fn containers(
    path: &Path<'_>,
    meta_path: &Path<'_>,
    spec: &Value,
    annotations: &Value,
    in_template: bool,
    out: &mut Vec<String>,
) {
    let mut ports: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    let mut port_names: BTreeMap<&str, String> = BTreeMap::new();
    let (mut port_warnings, mut name_warnings) = (Vec::new(), Vec::new());
    let annotations_path = meta_path.child("annotations");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (i, container) in spec.list(list).iter().enumerate() {
            let here = list_path.index(i);
            let context = container.at("securityContext");
            let seccomp = format!(
                "container.seccomp.security.alpha.kubernetes.io/{}",
                container.text("name")
            );
            if !context.has("seccompProfile") && annotations.has(&seccomp) {
                out.push(format!(
                    "{}: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                    annotations_path.key(&seccomp)
                ));
            }
            let apparmor = format!(
                "container.apparmor.security.beta.kubernetes.io/{}",
                container.text("name")
            );
            if in_template && !context.has("appArmorProfile") && annotations.has(&apparmor) {
                out.push(format!(
                    "{}: deprecated since v1.30; use the \"appArmorProfile\" field instead",
                    annotations_path.key(&apparmor)
                ));
            }
            let resources = here.child("resources");
            fractional(
                &resources.child("limits"),
                container.dig(&["resources", "limits"]),
                out,
            );
            fractional(
                &resources.child("requests"),
                container.dig(&["resources", "requests"]),
                out,
            );
            hidden_env(&here, container, out);
            for (j, port) in container.list("ports").iter().enumerate() {
                let port_path = here.child("ports").index(j).to_string();
                port_overlaps(&port_path, port, &mut ports, &mut port_warnings);
                let name = port.text("name");
                if let Some(other) = port_names.get(name) {
                    name_warnings.push(format!(
                        "{port_path}: duplicate port name {} with {other}, services and probes that select ports by \
                         name will use {other}",
                        quote(name)
                    ));
                } else if !name.is_empty() {
                    port_names.insert(name, port_path);
                }
            }
        }
    }
    out.append(&mut port_warnings);
    out.append(&mut name_warnings);
}

fn hidden_env(path: &Path<'_>, container: &Value, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, env) in container.list("env").iter().enumerate() {
        let name = env.text("name");
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = env.text("value");
        if env.has("valueFrom") || value == reference || !value.contains(&reference) {
            out.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.child("env").index(i),
                quote(name)
            ));
        }
    }
}

fn port_overlaps<'a>(
    path: &str,
    port: &'a Value,
    seen: &mut BTreeMap<(i64, &'a str), Vec<(String, &'a Value)>>,
    out: &mut Vec<String>,
) {
    let host = |p: &Value| p.int("hostPort").unwrap_or(0);
    let others = seen
        .entry((port.int("containerPort").unwrap_or(0), port.text("protocol")))
        .or_default();
    for (other_path, other) in others.iter() {
        let (a, b) = (port.text("hostIP"), other.text("hostIP"));
        if a == b && host(port) == host(other) {
            out.push(format!("{path}: duplicate port definition with {other_path}"));
        } else if host(port) == 0 || host(other) == 0 {
            out.push(format!("{path}: overlapping port definition with {other_path}"));
        } else if host(port) == host(other) && (a.is_empty() != b.is_empty()) {
            out.push(format!(
                "{path}: dangerously ambiguous port definition with {other_path}"
            ));
        }
    }
    others.push((path.to_owned(), port));
}
