//! Security contexts, of pods and containers.

use super::Context;
use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{each_number, local_descending_path, one_of};
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn container(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let Some(sc) = container.at("securityContext").some() else {
        return;
    };
    ids(errors, path, sc, &["runAsUser", "runAsGroup"]);
    if sc.has("procMount") {
        let (path, kind) = (path.child("procMount"), sc.text("procMount"));
        one_of(errors, &path, kind, &["Default", "Unmasked"]);
        if context.host_users && kind == "Unmasked" {
            errors.invalid(&path, kind, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(errors, &path.child("seccompProfile"), sc.at("seccompProfile"));
    if sc.at("allowPrivilegeEscalation").as_bool() == Some(false) {
        if sc.flag("privileged") {
            errors.invalid(
                path,
                sc.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        for capability in sc.at("capabilities").list("add") {
            if capability == "CAP_SYS_ADMIN" {
                errors.invalid(
                    path,
                    sc.clone(),
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                );
            }
        }
    }
    windows_options(errors, &path.child("windowsOptions"), sc.at("windowsOptions"));
    app_armor(errors, &path.child("appArmorProfile"), sc.at("appArmorProfile"));
}

fn ids(errors: &mut FieldErrors, path: &Path<'_>, sc: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(id) = sc.int(key) {
            each_number(errors, &path.child(key), id, format::user_or_group_id(id));
        }
    }
}

pub(super) fn pod(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let Some(sc) = spec.at("securityContext").some() else {
        return;
    };
    ids(errors, path, sc, &["fsGroup", "runAsUser", "runAsGroup"]);
    for (i, group) in sc.list("supplementalGroups").iter().enumerate() {
        if let Some(id) = crate::json::number(group) {
            each_number(
                errors,
                &path.child("supplementalGroups").index(i),
                id,
                format::user_or_group_id(id),
            );
        }
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(errors, &path.child("sysctls"), sc, spec);
    for (key, supported) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        if key == "supplementalGroupsPolicy" {
            seccomp(errors, &path.child("seccompProfile"), sc.at("seccompProfile"));
            windows_options(errors, &path.child("windowsOptions"), sc.at("windowsOptions"));
            app_armor(errors, &path.child("appArmorProfile"), sc.at("appArmorProfile"));
        }
        if sc.has(key) {
            one_of(errors, &path.child(key), sc.text(key), supported);
        }
    }
}

fn seccomp(errors: &mut FieldErrors, path: &Path<'_>, profile: &Value) {
    if profile.is_null() {
        return;
    }
    let kind = profile.text("type");
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => {
            errors.not_supported(
                &path.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            );
        }
    }
    let local = profile.at("localhostProfile").as_str();
    let path = path.child("localhostProfile");
    match (kind == "Localhost", local) {
        (true, None) => errors.required(&path, "must be set when seccomp type is Localhost"),
        (true, Some(file)) => local_descending_path(errors, &path, file),
        (false, Some(_)) => {
            errors.invalid(
                &path,
                profile.clone(),
                "can only be set when seccomp type is Localhost",
            );
        }
        (false, None) => {}
    }
}

fn app_armor(errors: &mut FieldErrors, path: &Path<'_>, profile: &Value) {
    if profile.is_null() {
        return;
    }
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    let local = profile.at("localhostProfile").as_str();
    let local_path = path.child("localhostProfile");
    match (profile.text("type"), local) {
        ("Localhost", None) => errors.required(&local_path, MISSING),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local_path, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&local_path, MISSING);
            }
            if name.len() > 4095 {
                errors.push(FieldError::too_long(&local_path, 4095));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(
                &local_path,
                name,
                "can only be set when AppArmor type is Localhost",
            );
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(
            &path.child("type"),
            "type is required when appArmorProfile is set",
        ),
        (other, _) => {
            errors.not_supported(
                &path.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            );
        }
    }
}

const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(errors: &mut FieldErrors, path: &Path<'_>, sc: &Value, spec: &Value) {
    let mut names = BTreeSet::new();
    for (i, sysctl) in sc.list("sysctls").iter().enumerate() {
        let here = path.index(i);
        let here = here.child("name");
        let name = sysctl.text("name");
        let part = |p: &str| {
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            edge(p.as_bytes().first()) && edge(p.as_bytes().last()) && p.bytes().all(inner)
        };
        if name.is_empty() {
            errors.required(&here, "");
        } else if name.len() > 253 || !name.split(['.', '/']).all(part) {
            errors.invalid(
                &here,
                name,
                format!("must have at most 253 characters and match regex {SYSCTL}"),
            );
        } else if names.contains(name) {
            errors.duplicate(&here, name);
        }
        let normal = normal_sysctl(name);
        let ipc = normal.starts_with("kernel.shm")
            || normal.starts_with("kernel.msg")
            || normal.starts_with("fs.mqueue.")
            || normal == "kernel.sem";
        if spec.flag("hostNetwork") && normal.starts_with("net.") {
            errors.invalid(&here, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && ipc {
            errors.invalid(&here, name, "may not be specified when 'hostIPC' is true");
        }
        names.insert(name);
    }
}

/// A sysctl's name with dots between its parts, whichever separator it was written with.
fn normal_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(i) if name.as_bytes().get(i) == Some(&b'/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn windows_options(errors: &mut FieldErrors, path: &Path<'_>, options: &Value) {
    if let Some(name) = options.at("gmsaCredentialSpecName").as_str() {
        let path = path.child("gmsaCredentialSpecName");
        for message in format::dns1123_subdomain(name) {
            errors.invalid(&path, name, message);
        }
    }
    if let Some(spec) = options.at("gmsaCredentialSpec").as_str() {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            errors.invalid(&path, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(user) = options.at("runAsUserName").as_str() {
        let path = path.child("runAsUserName");
        if user.is_empty() {
            errors.invalid(&path, user, "runAsUserName cannot be an empty string");
        } else if user.chars().any(char::is_control) {
            errors.invalid(&path, user, "runAsUserName cannot contain control characters");
        } else if user.matches('\\').count() > 1 {
            errors.invalid(
                &path,
                user,
                "runAsUserName cannot contain more than one backslash",
            );
        }
    }
}

/// What a pod of one operating system may not set.
pub(super) fn operating_system(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let Some(os) = spec.at("os").some() else { return };
    match os.text("name") {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => linux(errors, path, spec),
        "windows" => windows(errors, path, spec),
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn linux(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    if spec.at("securityContext").has("windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), WHY);
    }
    super::for_each_container(path, spec, &mut |path, container| {
        if container.at("securityContext").has("windowsOptions") {
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), WHY);
        }
    });
}

fn windows(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    const WHY: &str = "cannot be set for a windows pod";
    let sc = spec.at("securityContext");
    for key in ["hostUsers", "shareProcessNamespace"] {
        if spec.has(key) {
            errors.forbidden(&path.child(key), WHY);
        }
    }
    for key in ["hostPID", "hostIPC"] {
        if spec.flag(key) {
            errors.forbidden(&path.child(key), WHY);
        }
    }
    for key in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        if sc.has(key) {
            errors.forbidden(&path.child("securityContext").child(key), WHY);
        }
    }
    super::for_each_container(path, spec, &mut |path, container| {
        let sc = container.at("securityContext");
        for key in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if sc.has(key) {
                errors.forbidden(&path.child("securityContext").child(key), WHY);
            }
        }
    });
}
