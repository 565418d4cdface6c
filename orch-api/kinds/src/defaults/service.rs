//! Defaults of Services.

use crate::json::{Json, JsonMut, empty};
use serde_json::{Value, json};

pub(super) fn service(object: &mut Value) {
    let Some(spec) = object.ensure("spec") else { return };
    spec.default_text("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => drop(spec.take_key("sessionAffinityConfig")),
        "ClientIP"
            if !spec
                .dig(&["sessionAffinityConfig", "clientIP"])
                .has("timeoutSeconds") =>
        {
            spec.set(
                "sessionAffinityConfig",
                json!({"clientIP": {"timeoutSeconds": 10_800}}),
            );
        }
        _ => {}
    }
    spec.default_text("type", "ClusterIP");
    for port in spec.list_mut("ports") {
        port.default_text("protocol", "TCP");
        let target = port.at("targetPort");
        if (target.is_null() || target == &json!(0) || target == &json!(""))
            && let Some(number) = port.int("port")
        {
            port.set("targetPort", number);
        }
    }
    let kind = spec.text("type").to_owned();
    let external_ips = !spec.list("externalIPs").is_empty();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips) {
        spec.default_text("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        spec.default("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default("allocateLoadBalancerNodePorts", true);
    }
    let Some(status) = object.ensure("status") else {
        return;
    };
    status.default("loadBalancer", empty());
    if kind == "LoadBalancer"
        && let Some(balancer) = status.at_mut("loadBalancer")
    {
        for ingress in balancer.list_mut("ingress") {
            if !ingress.text("ip").is_empty() {
                ingress.default("ipMode", "VIP");
            }
        }
    }
}
