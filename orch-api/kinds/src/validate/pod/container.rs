//! Containers: regular, init and ephemeral.

use super::{Context, env, mounts, probe, resources, security};
use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{dns_label, one_of, required, required_one_of};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

fn common(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        dns_label(errors, &path.child("name"), name);
    }
    required(errors, &path.child("image"), container.text("image"));
    required_one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        container.text("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    env::ports(errors, &path.child("ports"), container);
    env::env(errors, &path.child("env"), container);
    env::env_from(errors, &path.child("envFrom"), container);
    mounts::mounts(errors, &path.child("volumeMounts"), container, context);
    mounts::devices(errors, &path.child("volumeDevices"), container, context);
    required_one_of(
        errors,
        &path.child("imagePullPolicy"),
        container.text("imagePullPolicy"),
        &PULL_POLICIES,
    );
    resources::container(
        errors,
        &path.child("resources"),
        container.at("resources"),
        context,
    );
    resize_policy(errors, &path.child("resizePolicy"), container, context);
    security::container(errors, &path.child("securityContext"), container, context);
}

fn resize_policy(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let mut seen = BTreeSet::new();
    for (i, entry) in container.list("resizePolicy").iter().enumerate() {
        let (resource, policy) = (entry.text("resourceName"), entry.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&path.index(i), resource);
        }
        required_one_of(errors, path, resource, &["cpu", "memory"]);
        required_one_of(errors, path, policy, &["NotRequired", "RestartContainer"]);
        if context.restart_policy == "Never" && policy != "NotRequired" {
            errors.invalid(
                path,
                policy,
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            );
        }
    }
}

/// Restart policy and rules of one container.
fn restart_rules(errors: &mut FieldErrors, path: &Path<'_>, container: &Value) {
    let rules = container.list("restartPolicyRules");
    if !container.has("restartPolicy") {
        if !rules.is_empty() {
            errors.required(
                &path.child("restartPolicy"),
                "must specify restartPolicy when restart rules are used",
            );
        }
    } else {
        let policies = ["Always", "Never", "OnFailure"];
        one_of(
            errors,
            &path.child("restartPolicy"),
            container.text("restartPolicy"),
            &policies,
        );
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(
            &path.child("restartPolicyRules"),
            rules.len(),
            20,
        ));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("restartPolicyRules");
        let here = path.index(i);
        one_of(
            errors,
            &here.child("action"),
            rule.text("action"),
            &["Restart", "RestartAllContainers"],
        );
        let codes_path = here.child("exitCodes");
        match rule.at("exitCodes").some() {
            None => errors.required(&codes_path, "must be specified"),
            Some(codes) => {
                one_of(
                    errors,
                    &codes_path.child("operator"),
                    codes.text("operator"),
                    &["In", "NotIn"],
                );
                let count = codes.list("values").len();
                if count > 255 {
                    errors.push(FieldError::too_many(&codes_path.child("values"), count, 255));
                }
            }
        }
    }
}

pub(super) fn regular(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, context: &Context<'_>) {
    let list = spec.list("containers");
    if list.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (i, container) in list.iter().enumerate() {
        let here = path.index(i);
        common(errors, &here, container, context);
        if !names.insert(container.text("name")) {
            errors.duplicate(&here.child("name"), container.text("name"));
        }
        probe::lifecycle(errors, &here.child("lifecycle"), container, context);
        probe::probes(errors, &here, container, context);
        restart_rules(errors, &here, container);
    }
    host_ports(errors, path, list.iter().enumerate());
}

fn host_ports<'a>(errors: &mut FieldErrors, path: &Path<'_>, list: impl Iterator<Item = (usize, &'a Value)>) {
    let mut seen = BTreeSet::new();
    for (i, container) in list {
        for (j, port) in container.list("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or(0);
            if host == 0 {
                continue;
            }
            let key = format!("{}/{}/{host}", port.text("protocol"), port.text("hostIP"));
            if !seen.insert(key.clone()) {
                let here = path.index(i);
                let here = here.child("ports");
                errors.duplicate(&here.index(j).child("hostPort"), key);
            }
        }
    }
}

pub(super) fn init(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, context: &Context<'_>) {
    let mut names: BTreeSet<&str> = spec.list("containers").iter().map(|c| c.text("name")).collect();
    for (i, container) in spec.list("initContainers").iter().enumerate() {
        let here = path.index(i);
        common(errors, &here, container, context);
        restart_rules(errors, &here, container);
        let name = container.text("name");
        if names.contains(name) {
            errors.duplicate(&here.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        host_ports(errors, path, std::iter::once((0, container)));
        if container.text("restartPolicy") == "Always" {
            probe::lifecycle(errors, &here.child("lifecycle"), container, context);
            probe::probes(errors, &here, container, context);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(key) {
                errors.forbidden(
                    &here.child(key),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
        for (j, policy) in container.list("resizePolicy").iter().enumerate() {
            if policy.text("restartPolicy") == "RestartContainer" {
                errors.invalid(
                    &here.child("resizePolicy").index(j).child("restartPolicy"),
                    "RestartContainer",
                    "must not be set to 'RestartContainer' for non-sidecar initContainers",
                );
            }
        }
    }
}

pub(super) fn ephemeral(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, context: &Context<'_>) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let list = spec.list("ephemeralContainers");
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| spec.list(l))
        .map(|c| c.text("name"))
        .collect();
    let mut names = others.clone();
    for (i, container) in list.iter().enumerate() {
        let here = path.index(i);
        common(errors, &here, container, context);
        image_whitespace(errors, &here, container);
        let name = container.text("name");
        if !names.insert(name) {
            errors.duplicate(&here.child("name"), name);
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&here.child("targetContainerName"), target);
        }
        for key in [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            let value = container.at(key);
            let unset = value.is_null()
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            if !unset {
                errors.forbidden(&here.child(key), WHY);
            }
        }
        for (j, mount) in container.list("volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !mount.text(key).is_empty() {
                    errors.forbidden(&here.child("volumeMounts").index(j).child(key), WHY);
                }
            }
        }
    }
}

/// An image name without white space around it: checked in pods, but not in templates.
pub(super) fn image_whitespace(errors: &mut FieldErrors, path: &Path<'_>, container: &Value) {
    let image = container.text("image");
    if image.trim() != image {
        errors.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
}
