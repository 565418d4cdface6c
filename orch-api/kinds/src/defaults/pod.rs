//! Defaults of pods and of pod templates.

use super::{image, pod_resources, volume};
use crate::json::{Json, JsonMut};
use serde_json::Value;

/// A Pod: the spec's defaults and those that only a pod gets, a template does not.
pub(super) fn pod(object: &mut Value) {
    if let Some(spec) = object.ensure("spec") {
        pod_spec(spec);
        only_in_pods(spec);
    }
    if let Some(status) = object.ensure("status") {
        for list in [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            for status in status.list_mut(list) {
                status.ensure("state");
                status.ensure("lastState");
            }
        }
    }
}

/// The pod template `object.{key}`, made if absent.
pub(super) fn template_of(object: &mut Value, key: &str) {
    if let Some(template) = object.ensure(key) {
        template.ensure("metadata");
        if let Some(spec) = template.ensure("spec") {
            pod_spec(spec);
        }
    }
}

fn pod_spec(spec: &mut Value) {
    spec.default_text("dnsPolicy", "ClusterFirst");
    spec.default_text("restartPolicy", "Always");
    spec.ensure("securityContext");
    spec.default("terminationGracePeriodSeconds", 30);
    spec.default_text("schedulerName", "default-scheduler");
    // The older name of the same field; both are always the same.
    match (
        spec.text("serviceAccountName").to_owned(),
        spec.text("serviceAccount").to_owned(),
    ) {
        (name, old) if !name.is_empty() && name != old => spec.set("serviceAccount", name),
        (name, old) if name.is_empty() && !old.is_empty() => spec.set("serviceAccountName", old),
        _ => {}
    }
    spec.list_mut("volumes").iter_mut().for_each(volume::volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.list_mut(list).iter_mut().for_each(container);
    }
}

fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    let policy = image::pull_policy(container.text("image"));
    container.default_text("imagePullPolicy", policy);
    container.default_text("terminationMessagePath", "/dev/termination-log");
    container.default_text("terminationMessagePolicy", "File");
    container.ensure("resources");
    for port in container.list_mut("ports") {
        port.default_text("protocol", "TCP");
    }
    for env in container.list_mut("env") {
        if let Some(from) = env.at_mut("valueFrom") {
            if let Some(field) = from.at_mut("fieldRef") {
                field.default_text("apiVersion", "v1");
            }
            if let Some(key) = from.at_mut("fileKeyRef") {
                key.default("optional", false);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = container.at_mut(name) {
            probe(p);
        }
    }
    if let Some(lifecycle) = container.at_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(http) = lifecycle.at_mut(hook).and_then(|h| h.at_mut("httpGet")) {
                http_get(http);
            }
        }
    }
}

fn probe(probe: &mut Value) {
    probe.default_number("timeoutSeconds", 1);
    probe.default_number("periodSeconds", 10);
    probe.default_number("successThreshold", 1);
    probe.default_number("failureThreshold", 3);
    if let Some(http) = probe.at_mut("httpGet") {
        http_get(http);
    }
    if let Some(grpc) = probe.at_mut("grpc") {
        grpc.default("service", "");
    }
}

fn http_get(http: &mut Value) {
    http.default_text("path", "/");
    http.default_text("scheme", "HTTP");
}

fn only_in_pods(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in spec.list_mut(list) {
            requests_from_limits(container);
        }
    }
    pod_resources::pod_level(spec);
    spec.default("enableServiceLinks", true);
    if spec.flag("hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in spec.list_mut(list) {
                for port in container.list_mut("ports") {
                    if let Some(number) = port.int("containerPort") {
                        port.default_number("hostPort", number);
                    }
                }
            }
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.at_mut("resources") else {
        return;
    };
    let Some(limits) = resources.at("limits").as_object().cloned() else {
        return;
    };
    let Some(requests) = resources.ensure("requests") else {
        return;
    };
    for (name, amount) in limits {
        requests.default(&name, amount);
    }
}
