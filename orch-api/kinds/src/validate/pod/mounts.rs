//! Volume mounts and block devices of a container.

use super::Context;
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{local_descending_path, one_of, required};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn mounts(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let devices = container.list("volumeDevices");
    let mut paths = BTreeSet::new();
    for (i, mount) in container.list("volumeMounts").iter().enumerate() {
        let here = path.index(i);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        required(errors, &here.child("name"), name);
        if !context.volumes.contains_key(name) {
            errors.not_found(&here.child("name"), name);
        }
        required(errors, &here.child("mountPath"), target);
        if !paths.insert(target) {
            errors.invalid(&here.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|d| d.text("name") == name) {
            errors.invalid(
                &here.child("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.iter().any(|d| d.text("devicePath") == target) {
            errors.invalid(
                &here.child("mountPath"),
                target,
                "must not already exist as a path in volumeDevices",
            );
        }
        let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub_path.is_empty() {
            local_descending_path(errors, &path.child("subPath"), sub_path);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                errors.invalid(
                    &here.child("subPathExpr"),
                    expression,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
            local_descending_path(errors, &path.child("subPathExpr"), expression);
        }
        propagation(errors, &path.child("mountPropagation"), mount, container);
        recursive_read_only(errors, &path.child("recursiveReadOnly"), mount);
    }
}

fn propagation(errors: &mut FieldErrors, path: &Path<'_>, mount: &Value, container: &Value) {
    if !mount.has("mountPropagation") {
        return;
    }
    let mode = mount.text("mountPropagation");
    one_of(errors, path, mode, &["Bidirectional", "HostToContainer", "None"]);
    if mode == "Bidirectional" && !container.at("securityContext").flag("privileged") {
        errors.forbidden(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
}

fn recursive_read_only(errors: &mut FieldErrors, path: &Path<'_>, mount: &Value) {
    if !mount.has("recursiveReadOnly") {
        return;
    }
    match mount.text("recursiveReadOnly") {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if mount.has("mountPropagation") && mount.text("mountPropagation") != "None" {
                errors.forbidden(
                    path,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn devices(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let mounts = container.list("volumeMounts");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.list("volumeDevices").iter().enumerate() {
        let here = path.index(i);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        required(errors, &here.child("name"), name);
        if names.contains(name) {
            errors.invalid(&here.child("name"), name, "must be unique");
        }
        match context.volumes.get(name) {
            None => errors.not_found(&here.child("name"), name),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => errors
                .invalid(
                    &here.child("name"),
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ),
            Some(_) => {}
        }
        required(errors, &here.child("devicePath"), target);
        if paths.contains(target) {
            errors.invalid(&here.child("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|element| element == "..") {
            errors.invalid(
                &here.child("devicePath"),
                target,
                "can not contain backsteps ('..')",
            );
        } else {
            paths.insert(target);
        }
        if mounts.iter().any(|m| m.text("name") == name) {
            errors.invalid(
                &here.child("name"),
                name,
                "must not already exist in volumeMounts",
            );
        }
        if mounts.iter().any(|m| m.text("mountPath") == target) {
            errors.invalid(
                &here.child("devicePath"),
                target,
                "must not already exist as a path in volumeMounts",
            );
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
