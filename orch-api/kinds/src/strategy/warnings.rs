//! Warnings: what is accepted but likely not meant. They travel in `Warning` headers and kubectl prints them.

use super::warnings_pod::{deprecated, pod_spec, template};
use crate::field::Path;
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::ip;
use orch_core::GroupVersionKind;
use orch_core::validate as format;
use serde_json::Value;

/// Warnings about a new object.
#[must_use]
pub fn warnings_on_create(gvk: &GroupVersionKind, object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let name = object.at("metadata").text("name");
    let spec = Path::new("spec");
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => {
            name_is_hostname(name, "the Pod's hostname", &mut out);
            pod_spec(
                &Path::new("spec"),
                &Path::new("metadata"),
                object,
                false,
                &mut out,
            );
        }
        ("apps", "Deployment" | "ReplicaSet") | ("batch", "Job") => {
            name_is_hostname(name, "Pod names and hostnames", &mut out);
            if gvk.kind == "Job" {
                job(object, &mut out);
            }
            template(
                &spec.child("template"),
                object.at("spec").at("template"),
                &mut out,
            );
        }
        ("", "PodTemplate") => template(&Path::new("template"), object.at("template"), &mut out),
        ("", "Service") => service(object, &mut out),
        ("", "Node") => node(object, &mut out),
        ("", "Endpoints") => endpoints(object, &mut out),
        ("", "ServiceAccount") => mountable_secrets(object, &mut out),
        ("discovery.k8s.io", "EndpointSlice") => {
            if object.text("addressType") == "FQDN" {
                out.push("spec.addressType: FQDN endpoints are deprecated".into());
            }
            endpoint_slice(object, &mut out);
        }
        ("node.k8s.io", "RuntimeClass") => {
            for (key, _) in object.at("scheduling").entries("nodeSelector") {
                if let Some(why) = deprecated(key) {
                    out.push(format!("scheduling.nodeSelector: {why}"));
                }
            }
        }
        _ => {}
    }
    out
}

/// Warnings about a changed object.
#[must_use]
pub fn warnings_on_update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> Vec<String> {
    let mut out = Vec::new();
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet") | ("batch", "Job")
            if !semantic_eq(new.at("spec"), old.at("spec")) =>
        {
            if gvk.kind == "Job" {
                job(new, &mut out);
            }
            template(
                &Path::new("spec").child("template"),
                new.at("spec").at("template"),
                &mut out,
            );
        }
        ("", "PodTemplate") if !semantic_eq(new.at("template"), old.at("template")) => {
            template(&Path::new("template"), new.at("template"), &mut out);
        }
        ("", "Service") => service(new, &mut out),
        ("", "Node") => node(new, &mut out),
        ("", "Endpoints") => endpoints(new, &mut out),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(new, &mut out),
        ("node.k8s.io", "RuntimeClass") => out = warnings_on_create(gvk, new),
        ("", "ServiceAccount") if !old.dig(&["metadata", "annotations"]).has(MOUNTABLE) => {
            mountable_secrets(new, &mut out);
        }
        _ => {}
    }
    out
}

fn name_is_hostname(name: &str, what: &str, out: &mut Vec<String>) {
    let why = format::dns1123_label(name);
    if !why.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            why.join(" ")
        ));
    }
}

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

fn mountable_secrets(account: &Value, out: &mut Vec<String>) {
    if account.dig(&["metadata", "annotations"]).has(MOUNTABLE) {
        out.push(format!(
            "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access \
             to mounted secrets"
        ));
    }
}

fn job(job: &Value, out: &mut Vec<String>) {
    let spec = job.at("spec");
    let above = |key: &str, limit: i64| spec.int(key).unwrap_or(0) > limit;
    if spec.text("completionMode") == "Indexed"
        && above("completions", 100_000)
        && above("parallelism", 10_000)
    {
        out.push(
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .into(),
        );
    }
}

fn node(node: &Value, out: &mut Vec<String>) {
    let spec = node.at("spec");
    if spec.has("configSource") {
        out.push("spec.configSource: the feature is removed".into());
    }
    if !spec.text("externalID").is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    let base = Path::new("spec");
    for (i, cidr) in spec.list("podCIDRs").iter().enumerate() {
        out.extend(ip::cidr_warnings(&base.child("podCIDRs").index(i), cidr.string()));
    }
}

fn endpoints(endpoints: &Value, out: &mut Vec<String>) {
    if endpoints
        .dig(&["metadata", "labels"])
        .text("endpoints.kubernetes.io/managed-by")
        == "endpoint-controller"
    {
        return;
    }
    let base = Path::new("subsets");
    for (i, subset) in endpoints.list("subsets").iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.list(list).iter().enumerate() {
                let path = base.index(i);
                out.extend(ip::ip_warnings(
                    &path.child(list).index(j).child("ip"),
                    address.text("ip"),
                ));
            }
        }
    }
}

fn endpoint_slice(slice: &Value, out: &mut Vec<String>) {
    let manager = slice
        .dig(&["metadata", "labels"])
        .text("endpointslice.kubernetes.io/managed-by");
    if manager.ends_with(".k8s.io") && manager.starts_with("endpointslice")
        || slice.text("addressType") == "FQDN"
    {
        return;
    }
    let base = Path::new("endpoints");
    for (i, endpoint) in slice.list("endpoints").iter().enumerate() {
        for (j, address) in endpoint.list("addresses").iter().enumerate() {
            out.extend(ip::ip_warnings(
                &base.index(i).child("addresses").index(j),
                address.string(),
            ));
        }
    }
}

fn service(service: &Value, out: &mut Vec<String>) {
    let spec = service.at("spec");
    let base = Path::new("spec");
    if service
        .dig(&["metadata", "annotations"])
        .has("service.kubernetes.io/topology-aware-hints")
    {
        out.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead"
                .into(),
        );
    }
    let kind = spec.text("type");
    let headless = spec.text("clusterIP") == "None";
    if !headless && !spec.text("clusterIP").is_empty() {
        for (i, address) in spec.list("clusterIPs").iter().enumerate() {
            out.extend(ip::ip_warnings(
                &base.child("clusterIPs").index(i),
                address.string(),
            ));
        }
    }
    let external = spec.list("externalIPs");
    if headless {
        if !spec.text("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if spec.text("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    for (i, address) in external.iter().enumerate() {
        out.extend(ip::ip_warnings(
            &base.child("externalIPs").index(i),
            address.string(),
        ));
    }
    if !external.is_empty() && !headless && kind != "ExternalName" {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if !spec.text("loadBalancerIP").is_empty() {
        out.extend(ip::ip_warnings(
            &base.child("loadBalancerIP"),
            spec.text("loadBalancerIP"),
        ));
    }
    for (i, cidr) in spec.list("loadBalancerSourceRanges").iter().enumerate() {
        out.extend(ip::cidr_warnings(
            &base.child("loadBalancerSourceRanges").index(i),
            cidr.string(),
        ));
    }
    if kind == "ExternalName" && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !spec.text("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}
