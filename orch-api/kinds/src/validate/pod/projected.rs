//! Files that volumes project: keys of config maps and secrets, fields of the pod, tokens and certificates.

use super::env;
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{local_path, one_of, required};
use serde_json::Value;
use std::collections::BTreeSet;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn mode(errors: &mut FieldErrors, path: &Path<'_>, of: &Value, key: &str) {
    if let Some(mode) = of.int(key).filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(path, mode, MODE);
    }
}

pub(super) fn key_to_path(errors: &mut FieldErrors, path: &Path<'_>, item: &Value) {
    required(errors, &path.child("key"), item.text("key"));
    required(errors, &path.child("path"), item.text("path"));
    local_path(errors, &path.child("path"), item.text("path"));
    mode(errors, &path.child("mode"), item, "mode");
}

pub(super) fn downward_file(errors: &mut FieldErrors, path: &Path<'_>, file: &Value) {
    required(errors, &path.child("path"), file.text("path"));
    local_path(errors, &path.child("path"), file.text("path"));
    if let Some(field) = file.at("fieldRef").some() {
        env::field_ref(errors, &path.child("fieldRef"), field, &env::VOLUME_FIELDS);
        if file.has("resourceFieldRef") {
            errors.invalid(
                path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if let Some(resource) = file.at("resourceFieldRef").some() {
        env::resource_field_ref(errors, &path.child("resourceFieldRef"), resource, true);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(errors, &path.child("mode"), file, "mode");
}

/// Paths taken by earlier sources of a projected volume.
struct Taken<'a>(BTreeSet<&'a str>);

impl<'a> Taken<'a> {
    fn claim(&mut self, errors: &mut FieldErrors, volume: &Path<'_>, path: &'a str, shown: &str) {
        if !path.is_empty() && !self.0.insert(path) {
            errors.invalid(volume, shown, "conflicting duplicate paths");
        }
    }
}

pub(super) fn projected(errors: &mut FieldErrors, path: &Path<'_>, volume: &Value) {
    mode(errors, &path.child("defaultMode"), volume, "defaultMode");
    let mut taken = Taken(BTreeSet::new());
    for (i, source) in volume.list("sources").iter().enumerate() {
        let list = path.child("sources");
        let here = list.index(i);
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(keys) = source.at(kind).some() else {
                continue;
            };
            kinds += 1;
            let here = here.child(kind);
            required(errors, &here.child("name"), keys.text("name"));
            for (j, item) in keys.list("items").iter().enumerate() {
                key_to_path(errors, &here.child("items").index(j), item);
                taken.claim(errors, path, item.text("path"), keys.text("name"));
            }
        }
        if let Some(downward) = source.at("downwardAPI").some() {
            kinds += 1;
            for file in downward.list("items") {
                downward_file(errors, &here.child("downwardAPI"), file);
                taken.claim(errors, path, file.text("path"), file.text("path"));
            }
        }
        if let Some(token) = source.at("serviceAccountToken").some() {
            kinds += 1;
            service_account_token(errors, path, &here.child("serviceAccountToken"), token);
        }
        if let Some(bundle) = source.at("clusterTrustBundle").some() {
            kinds += 1;
            trust_bundle(errors, &here.child("clusterTrustBundle"), bundle);
            taken.claim(errors, path, bundle.text("path"), bundle.text("path"));
        }
        if let Some(certificate) = source.at("podCertificate").some() {
            kinds += 1;
            let here = here.child("podCertificate");
            pod_certificate(errors, &here, certificate);
            for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let target = certificate.text(key);
                if !target.is_empty() {
                    local_path(errors, &here.child(key), target);
                    taken.claim(errors, path, target, target);
                }
            }
        }
        if kinds > 1 {
            errors.forbidden(&here, "may not specify more than 1 volume type per source");
        }
    }
}

fn service_account_token(errors: &mut FieldErrors, volume: &Path<'_>, path: &Path<'_>, token: &Value) {
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    let here = path.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(&here, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(
            &here,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    let target = token.text("path");
    if target.is_empty() {
        errors.required(&volume.child("path"), "");
    } else {
        local_path(errors, &volume.child("path"), target);
    }
}

fn trust_bundle(errors: &mut FieldErrors, path: &Path<'_>, bundle: &Value) {
    match (bundle.at("name").as_str(), bundle.at("signerName").as_str()) {
        (Some(_), Some(_)) => {
            errors.invalid(
                path,
                bundle.clone(),
                "only one of name and signerName may be used",
            );
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&path.child("name"), "must be a valid object name");
            }
            if bundle.has("labelSelector") {
                errors.invalid(
                    &path.child("labelSelector"),
                    bundle.at("labelSelector").clone(),
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.required(&path.child("signerName"), "must be a valid signer name");
            }
            crate::validate::check::label_selector(
                errors,
                &path.child("labelSelector"),
                bundle.at("labelSelector"),
            );
        }
        (None, None) => errors.required(path, "either name or signerName must be specified"),
    }
    required(errors, &path.child("path"), bundle.text("path"));
    local_path(errors, &path.child("path"), bundle.text("path"));
}

fn pod_certificate(errors: &mut FieldErrors, path: &Path<'_>, certificate: &Value) {
    required(errors, &path.child("signerName"), certificate.text("signerName"));
    let kinds = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    one_of(
        errors,
        &path.child("keyType"),
        certificate.text("keyType"),
        &kinds,
    );
    if let Some(seconds) = certificate.int("maxExpirationSeconds") {
        let here = path.child("maxExpirationSeconds");
        let ours = certificate
            .text("signerName")
            .split('/')
            .next()
            .is_some_and(|d| d.ends_with("kubernetes.io"));
        let most = if ours { 86_400 } else { 91 * 86_400 };
        if seconds < 3600 {
            errors.invalid(
                &here,
                seconds,
                "if provided, maxExpirationSeconds must be >= 3600",
            );
        }
        if seconds > most {
            errors.invalid(
                &here,
                seconds,
                format!("if provided, maxExpirationSeconds must be <= {most}"),
            );
        }
    }
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if paths.iter().all(|key| certificate.text(key).is_empty()) {
        errors.required(
            path,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        );
    }
}
