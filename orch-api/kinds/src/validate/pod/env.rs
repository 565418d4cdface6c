//! Environment variables and container ports.

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{dns_label, each, each_number, no_backsteps, one_of, qualified_name, required};
use orch_core::quantity::Quantity;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a downward API file can show.
pub(super) const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn ports(errors: &mut FieldErrors, path: &Path<'_>, container: &Value) {
    let mut names = BTreeSet::new();
    for (i, port) in container.list("ports").iter().enumerate() {
        let here = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            let messages = format::port_name(name);
            if !messages.is_empty() {
                each(errors, &here.child("name"), name, messages);
            } else if !names.insert(name) {
                errors.duplicate(&here.child("name"), name);
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(&here.child("containerPort"), ""),
            number => each_number(
                errors,
                &here.child("containerPort"),
                number,
                format::port_number(number),
            ),
        }
        let host = port.int("hostPort").unwrap_or(0);
        if host != 0 {
            each_number(errors, &here.child("hostPort"), host, format::port_number(host));
        }
        protocol(errors, &here.child("protocol"), port.text("protocol"));
    }
}

/// A required transport protocol.
pub(in crate::validate) fn protocol(errors: &mut FieldErrors, path: &Path<'_>, protocol: &str) {
    if protocol.is_empty() {
        errors.required(path, "");
    } else {
        one_of(errors, path, protocol, &["SCTP", "TCP", "UDP"]);
    }
}

pub(super) fn env(errors: &mut FieldErrors, path: &Path<'_>, container: &Value) {
    for (i, var) in container.list("env").iter().enumerate() {
        let here = path.index(i);
        let name = var.text("name");
        if name.is_empty() {
            errors.required(&here.child("name"), "");
        } else {
            each(
                errors,
                &here.child("name"),
                name,
                format::relaxed_env_var_name(name),
            );
        }
        value_from(errors, &here.child("valueFrom"), var);
    }
}

fn value_from(errors: &mut FieldErrors, path: &Path<'_>, var: &Value) {
    let from = var.at("valueFrom");
    if from.is_null() {
        return;
    }
    let mut sources = 0;
    if let Some(source) = from.at("fieldRef").some() {
        sources += 1;
        field_ref(errors, &path.child("fieldRef"), source, &ENV_FIELDS);
    }
    if let Some(source) = from.at("resourceFieldRef").some() {
        sources += 1;
        resource_field_ref(errors, &path.child("resourceFieldRef"), source, false);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(source) = from.at(name).some() {
            sources += 1;
            key_ref(errors, &path.child(name), source);
        }
    }
    if let Some(source) = from.at("fileKeyRef").some() {
        sources += 1;
        file_key_ref(errors, &path.child("fileKeyRef"), source);
    }
    if sources == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !var.text("value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// Splits `metadata.labels['x']` into path and subscript.
fn subscript(field: &str) -> Option<(&str, &str)> {
    let (path, key) = field.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

pub(super) fn field_ref(errors: &mut FieldErrors, path: &Path<'_>, source: &Value, supported: &[&str]) {
    let version = source.text("apiVersion");
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let field = source.text("fieldPath");
    let field_path = path.child("fieldPath");
    if field.is_empty() {
        errors.required(&field_path, "");
        return;
    }
    let convertible = matches!(
        field,
        "metadata.annotations"
            | "metadata.labels"
            | "metadata.name"
            | "metadata.namespace"
            | "metadata.uid"
            | "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.serviceAccountName"
            | "spec.schedulerName"
            | "status.phase"
            | "status.hostIP"
            | "status.hostIPs"
            | "status.podIP"
            | "status.podIPs"
            | "spec.host"
    );
    let split = subscript(field);
    let why = match split {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.annotations" | "metadata.labels", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {field}")),
        None if !convertible => Some(format!("field label not supported: {field}")),
        None => None,
    };
    if let Some(why) = why {
        errors.invalid(&field_path, field, format!("error converting fieldPath: {why}"));
        return;
    }
    match split {
        Some(("metadata.annotations", key)) => qualified_name(errors, path, &key.to_lowercase()),
        Some((_, key)) => qualified_name(errors, path, key),
        None => {
            let field = if field == "spec.host" {
                "spec.nodeName"
            } else {
                field
            };
            one_of(errors, &field_path, field, supported);
        }
    }
}

pub(super) fn resource_field_ref(errors: &mut FieldErrors, path: &Path<'_>, source: &Value, in_volume: bool) {
    let resource = source.text("resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && source.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !huge {
        one_of(errors, &path.child("resource"), resource, &RESOURCE_FIELDS);
    }
    let divisor = source.text("divisor");
    if divisor.parse::<Quantity>().map_or(true, |d| d.is_zero()) {
        return;
    }
    let sizes = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let (right, what) = match resource {
        "limits.cpu" | "requests.cpu" => (matches!(divisor, "1" | "1m"), "cpu"),
        "limits.memory" | "requests.memory" => (sizes.contains(&divisor), "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (sizes.contains(&divisor), "local ephemeral storage")
        }
        _ if huge => (sizes.contains(&divisor), "hugepages"),
        _ => return,
    };
    if !right {
        let allowed = if what == "cpu" {
            "1m and 1".to_owned()
        } else {
            sizes.join(", ")
        };
        errors.invalid(
            &path.child("divisor"),
            resource,
            format!("only divisor's values {allowed} are supported with the {what} resource"),
        );
    }
}

fn key_ref(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    let (name, key) = (source.text("name"), source.text("key"));
    each(errors, &path.child("name"), name, format::dns1123_subdomain(name));
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        each(errors, &path.child("key"), key, format::config_map_key(key));
    }
}

fn file_key_ref(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    let (key, volume, file) = (source.text("key"), source.text("volumeName"), source.text("path"));
    required(errors, &path.child("key"), key);
    if !key.is_empty() {
        each(errors, &path.child("key"), key, format::relaxed_env_var_name(key));
    }
    required(errors, &path.child("volumeName"), volume);
    if !volume.is_empty() {
        dns_label(errors, &path.child("volumeName"), volume);
    }
    required(errors, &path.child("path"), file);
    if !file.is_empty() {
        no_backsteps(errors, &path.child("path"), file);
    }
}

pub(super) fn env_from(errors: &mut FieldErrors, path: &Path<'_>, container: &Value) {
    for (i, from) in container.list("envFrom").iter().enumerate() {
        let here = path.index(i);
        let prefix = from.text("prefix");
        if !prefix.is_empty() {
            each(
                errors,
                &here.child("prefix"),
                prefix,
                format::relaxed_env_var_name(prefix),
            );
        }
        let mut sources = 0;
        for source in ["configMapRef", "secretRef"] {
            if let Some(reference) = from.at(source).some() {
                sources += 1;
                let path = here.child(source);
                let name = reference.text("name");
                if name.is_empty() {
                    errors.required(&path.child("name"), "");
                } else {
                    let masked = format::mask_trailing_dash(name);
                    each(
                        errors,
                        &path.child("name"),
                        name,
                        format::dns1123_subdomain(&masked),
                    );
                }
            }
        }
        if sources == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

/// Files that environment variables come from must lie in an `emptyDir`.
pub(super) fn file_key_volumes(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    for list in super::CONTAINER_LISTS {
        let list_path = path.child(list);
        for (i, container) in spec.list(list).iter().enumerate() {
            let here = list_path.index(i);
            for (j, var) in container.list("env").iter().enumerate() {
                let Some(reference) = var.dig(&["valueFrom", "fileKeyRef"]).some() else {
                    continue;
                };
                let name = reference.text("volumeName");
                let here = here.child("env");
                let here = here.index(j);
                let here = here.child("valueFrom");
                let here = here.child("fileKeyRef");
                let here = here.child("volumeName");
                match spec.list("volumes").iter().rfind(|v| v.text("name") == name) {
                    None => errors.not_found(&here, name),
                    Some(volume) if !volume.has("emptyDir") => {
                        errors.invalid(&here, name, "referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
