//! Volumes of a pod: names, and one source each.

use super::projected::{downward_file, key_to_path, mode, projected};
use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{
    dns_label, dns_subdomain, each, local_descending_path, no_backsteps, one_of, required, required_one_of,
};
use orch_core::quantity::Quantity;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Volumes by name: those without errors, which mounts may name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// Sources in the order in which they are looked at; after the first, others are refused.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

pub(super) fn volumes<'a>(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    spec: &'a Value,
    pod_name: &str,
    is_pod: bool,
) -> Volumes<'a> {
    let list = spec.list("volumes");
    let claims: BTreeSet<String> = list
        .iter()
        .filter(|v| !pod_name.is_empty() && v.has("ephemeral"))
        .map(|v| format!("{pod_name}-{}", v.text("name")))
        .collect();
    let mut found = Volumes::new();
    for (i, volume) in list.iter().enumerate() {
        let here = path.index(i);
        let name = volume.text("name");
        let before = errors.len();
        source(errors, &here, volume, pod_name, is_pod);
        let name_path = here.child("name");
        if name.is_empty() {
            errors.required(&name_path, "");
        } else {
            dns_label(errors, &name_path, name);
        }
        if found.contains_key(name) {
            errors.duplicate(&name_path, name);
        }
        if errors.len() == before {
            found.insert(name, volume);
        }
        let claim = volume.at("persistentVolumeClaim").text("claimName");
        if volume.has("persistentVolumeClaim") && claims.contains(claim) {
            errors.invalid(
                &here.child("persistentVolumeClaim").child("claimName"),
                claim,
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
    found
}

fn source(errors: &mut FieldErrors, path: &Path<'_>, volume: &Value, pod_name: &str, is_pod: bool) {
    let mut found = false;
    for kind in SOURCES {
        let Some(source) = volume.at(kind).some() else {
            continue;
        };
        if found {
            let shown = match kind {
                "cephfs" => "cephFS",
                // As upstream spells it.
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            errors.forbidden(&path.child(shown), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let here = path.child(if kind == "gcePersistentDisk" {
            "persistentDisk"
        } else {
            kind
        });
        match kind {
            "projected" => projected(errors, &here, source),
            "downwardAPI" => {
                mode(errors, &here.child("defaultMode"), source, "defaultMode");
                for file in source.list("items") {
                    downward_file(errors, &here, file);
                }
            }
            "ephemeral" => ephemeral(errors, path, &here, volume, source, pod_name),
            "image" => {
                if is_pod {
                    required(errors, &here.child("reference"), source.text("reference"));
                }
                let policies = ["Always", "IfNotPresent", "Never"];
                required_one_of(
                    errors,
                    &here.child("pullPolicy"),
                    source.text("pullPolicy"),
                    &policies,
                );
            }
            "secret" | "configMap" => {
                let name = if kind == "secret" { "secretName" } else { "name" };
                required(errors, &here.child(name), source.text(name));
                mode(errors, &here.child("defaultMode"), source, "defaultMode");
                for (i, item) in source.list("items").iter().enumerate() {
                    key_to_path(errors, &here.child("items").index(i), item);
                }
            }
            _ => plain(errors, &here, kind, source, volume.text("name"), path),
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

/// Sources that need few checks.
fn plain(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    kind: &str,
    source: &Value,
    volume_name: &str,
    volume_path: &Path<'_>,
) {
    let need = |errors: &mut FieldErrors, keys: &[&str]| {
        for key in keys {
            required(errors, &path.child(key), source.text(key));
        }
    };
    match kind {
        "emptyDir" => {
            let limit = source.text("sizeLimit").parse::<Quantity>();
            if limit.is_ok_and(|l| l.sign() < 0) {
                errors.forbidden(
                    &path.child("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "hostPath" => host_path(errors, path, source),
        "gitRepo" => {
            need(errors, &["repository"]);
            local_descending_path(errors, &path.child("directory"), source.text("directory"));
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            need(
                errors,
                &[if kind == "gcePersistentDisk" {
                    "pdName"
                } else {
                    "volumeID"
                }],
            );
            let partition = source.int("partition").unwrap_or(0);
            if !(0..=255).contains(&partition) {
                errors.invalid(
                    &path.child("partition"),
                    partition,
                    format::inclusive_range_error(1, 255),
                );
            }
        }
        "nfs" => {
            need(errors, &["server", "path"]);
            if !source.text("path").starts_with('/') {
                errors.invalid(
                    &path.child("path"),
                    source.text("path"),
                    "must be an absolute path",
                );
            }
        }
        "iscsi" => iscsi(errors, path, source, volume_name, volume_path),
        "glusterfs" => need(errors, &["endpoints", "path"]),
        "flocker" => flocker(errors, path, source),
        "persistentVolumeClaim" => need(errors, &["claimName"]),
        "rbd" | "cephfs" => {
            if source.list("monitors").is_empty() {
                errors.required(&path.child("monitors"), "");
            }
            if kind == "rbd" {
                need(errors, &["image"]);
            }
        }
        "cinder" | "portworxVolume" => {
            need(errors, &["volumeID"]);
            secret_name(errors, path, source);
        }
        "quobyte" => quobyte(errors, path, source),
        "fc" => fibre_channel(errors, path, source),
        "flexVolume" => flex(errors, path, source),
        "azureFile" => need(errors, &["secretName", "shareName"]),
        "vsphereVolume" => need(errors, &["volumePath"]),
        "photonPersistentDisk" => need(errors, &["pdID"]),
        "azureDisk" => azure_disk(errors, path, source),
        "storageos" => {
            need(errors, &["volumeName"]);
            for key in ["volumeName", "volumeNamespace"] {
                if !source.text(key).is_empty() {
                    dns_label(errors, &path.child(key), source.text(key));
                }
            }
            secret_name(errors, path, source);
        }
        "scaleIO" => need(errors, &["gateway", "system", "volumeName"]),
        "csi" => csi(errors, path, source),
        _ => {}
    }
}

fn secret_name(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    if let Some(secret) = source.at("secretRef").some() {
        required(
            errors,
            &path.child("secretRef").child("name"),
            secret.text("name"),
        );
    }
}

fn host_path(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    let target = source.text("path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(errors, &path.child("path"), target);
    if source.has("type") {
        let kinds = [
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ];
        one_of(errors, &path.child("type"), source.text("type"), &kinds);
    }
}

fn iscsi_name(name: &str) -> bool {
    let alnum = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("iqn.") {
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let (date, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let date_ok = date
            .split_once('-')
            .is_some_and(|(y, m)| y.len() == 4 && m.len() == 2 && digits(y) && digits(m));
        let (authority, unique) = rest.split_once(':').unwrap_or((rest, ""));
        let authority_ok = !authority.is_empty()
            && authority
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        let unique_ok =
            !unique.is_empty() && !unique.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n']);
        return date_ok && authority_ok && unique_ok;
    }
    name.strip_prefix("eui.").is_some_and(|r| alnum(r, 16))
        || name.strip_prefix("naa.").is_some_and(|r| alnum(r, 32))
}

fn iscsi(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    source: &Value,
    volume_name: &str,
    volume_path: &Path<'_>,
) {
    required(errors, &path.child("targetPortal"), source.text("targetPortal"));
    let known = |name: &str| ["iqn", "eui", "naa"].iter().any(|p| name.starts_with(p));
    for (key, shown) in [("iqn", "iqn"), ("initiatorName", "initiatorname")] {
        let name = source.text(key);
        if key == "iqn" && name.is_empty() {
            errors.required(&path.child("iqn"), "");
        } else if source.has(key) && !known(name) {
            errors.invalid(
                &path.child(shown),
                name,
                "must be valid format starting with iqn, eui, or naa",
            );
        } else if source.has(key) && !iscsi_name(name) {
            errors.invalid(&path.child(shown), name, "must be valid format");
        }
        if key == "iqn" {
            let lun = source.int("lun").unwrap_or(0);
            if !(0..=255).contains(&lun) {
                errors.invalid(&path.child("lun"), lun, format::inclusive_range_error(0, 255));
            }
            let chap = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
            if chap && !source.has("secretRef") {
                errors.required(&path.child("secretRef"), "");
            }
        }
    }
    if source.has("initiatorName") && volume_name.len() + 1 + source.text("targetPortal").len() > 64 {
        errors.invalid(
            &volume_path.child("name"),
            volume_name,
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is \
             specified.",
        );
    }
}

fn flocker(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(
            path,
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        );
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), WHY);
    } else if source.text("tenant").len() >= 65 {
        errors.required(
            &path.child("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else {
        for pair in registry.split(',') {
            if pair.matches(':').count() != 1 {
                errors.invalid(&path.child("registry"), registry, WHY);
            }
        }
    }
    required(errors, &path.child("volume"), source.text("volume"));
}

fn fibre_channel(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    let (names, ids) = (source.list("targetWWNs"), source.list("wwids"));
    if names.is_empty() && ids.is_empty() {
        errors.required(
            &path.child("targetWWNs"),
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if !names.is_empty() && !ids.is_empty() {
        errors.invalid(
            &path.child("targetWWNs"),
            names.to_vec(),
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if !names.is_empty() {
        match source.int("lun") {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, format::inclusive_range_error(0, 255));
            }
            Some(_) => {}
        }
    }
}

fn flex(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    required(errors, &path.child("driver"), source.text("driver"));
    for (key, _) in source.entries("options") {
        let namespace = key
            .split_once('/')
            .map_or(key.as_str(), |(n, _)| n)
            .to_lowercase();
        let reserved = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
        if reserved("kubernetes.io") || reserved("k8s.io") {
            errors.invalid(
                &path.child("options").key(key),
                key.as_str(),
                "kubernetes.io and k8s.io namespaces are reserved",
            );
        }
    }
}

fn azure_disk(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    for key in ["diskName", "diskURI"] {
        required(errors, &path.child(key), source.text(key));
    }
    if source.has("cachingMode") {
        let modes = ["None", "ReadOnly", "ReadWrite"];
        one_of(
            errors,
            &path.child("cachingMode"),
            source.text("cachingMode"),
            &modes,
        );
    }
    if !source.has("kind") {
        return;
    }
    let (kind, uri) = (source.text("kind"), source.text("diskURI"));
    one_of(
        errors,
        &path.child("kind"),
        kind,
        &["Dedicated", "Managed", "Shared"],
    );
    let (start, shape) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !uri.starts_with(start) {
        errors.not_supported(&path.child("diskURI"), uri, &[shape]);
    }
}

fn csi(errors: &mut FieldErrors, path: &Path<'_>, source: &Value) {
    csi_driver_name(errors, &path.child("driver"), source.text("driver"));
    if let Some(secret) = source.at("nodePublishSecretRef").some() {
        let name = secret.text("name");
        if name.is_empty() {
            errors.required(&path.child("nodePublishSecretRef").child("name"), "");
        } else {
            dns_subdomain(errors, &path.child("name"), name);
        }
    }
}

pub(in crate::validate) fn csi_driver_name(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    each(
        errors,
        path,
        name,
        format::dns1123_subdomain(&name.to_lowercase()),
    );
}

fn ephemeral(
    errors: &mut FieldErrors,
    volume_path: &Path<'_>,
    path: &Path<'_>,
    volume: &Value,
    source: &Value,
    pod_name: &str,
) {
    let path = path.child("volumeClaimTemplate");
    match source.at("volumeClaimTemplate").some() {
        None => errors.required(&path, ""),
        Some(template) => {
            let meta = template.at("metadata");
            let meta_path = path.child("metadata");
            crate::validate::meta::annotations(
                errors,
                &meta_path.child("annotations"),
                meta.at("annotations"),
            );
            crate::validate::check::labels(errors, &meta_path.child("labels"), meta.at("labels"));
            for (key, _) in template.entries("metadata") {
                if !matches!(key.as_str(), "annotations" | "labels") {
                    errors.forbidden(&meta_path.child(key), "cannot be set");
                }
            }
            claim_spec(errors, &path.child("spec"), template.at("spec"));
        }
    }
    let name = volume.text("name");
    if !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{name}");
        for message in format::dns1123_subdomain(&claim) {
            errors.invalid(
                &volume_path.child("name"),
                name,
                format!("PVC name \"{claim}\": {message}"),
            );
        }
    }
}

fn claim_spec(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let modes = spec.list("accessModes");
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    crate::validate::check::label_selector(errors, &path.child("selector"), spec.at("selector"));
    let supported = [
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    for mode in modes.iter().map(Json::string) {
        one_of(errors, &path.child("accessModes"), mode, &supported);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.forbidden(
            &path.child("accessModes"),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
    let storage_path = path.child("resources");
    let storage_path = storage_path.key("storage");
    match spec.dig(&["resources", "requests", "storage"]).as_str() {
        None => errors.required(&storage_path, ""),
        Some(text) => {
            if let Ok(amount) = text.parse::<Quantity>()
                && amount.sign() <= 0
            {
                errors.invalid(&storage_path, amount.to_string(), "must be greater than zero");
            }
        }
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        dns_subdomain(errors, &path.child("storageClassName"), class);
    }
    if spec.has("volumeMode") {
        one_of(
            errors,
            &path.child("volumeMode"),
            spec.text("volumeMode"),
            &["Block", "Filesystem"],
        );
    }
}
