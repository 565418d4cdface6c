//! Defaults of pod volumes, by source.

use crate::defaults::image;
use crate::json::{Json, JsonMut, empty};
use serde_json::Value;

pub(super) fn volume(volume: &mut Value) {
    let Some(members) = volume.as_object() else { return };
    if members.iter().all(|(k, v)| k == "name" || v.is_null()) {
        volume.set("emptyDir", empty());
        return;
    }
    if let Some(image_volume) = volume.at_mut("image") {
        let policy = image::pull_policy(image_volume.text("reference"));
        image_volume.default_text("pullPolicy", policy);
    }
    if let Some(source) = volume.at_mut("hostPath") {
        source.default("type", "");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.at_mut(source) {
            source.default("defaultMode", 0o644);
        }
    }
    if let Some(source) = volume.at_mut("downwardAPI") {
        downward_items(source);
    }
    if let Some(source) = volume.at_mut("projected") {
        for projection in source.list_mut("sources") {
            if let Some(downward) = projection.at_mut("downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = projection.at_mut("serviceAccountToken") {
                token.default("expirationSeconds", 3600);
            }
        }
    }
    if let Some(source) = volume.at_mut("iscsi") {
        source.default_text("iscsiInterface", "default");
    }
    if let Some(source) = volume.at_mut("rbd") {
        source.default_text("pool", "rbd");
        source.default_text("user", "admin");
        source.default_text("keyring", "/etc/ceph/keyring");
    }
    if let Some(source) = volume.at_mut("azureDisk") {
        source.default("cachingMode", "ReadWrite");
        source.default("fsType", "ext4");
        source.default("readOnly", false);
        source.default("kind", "Shared");
    }
    if let Some(source) = volume.at_mut("scaleIO") {
        source.default_text("storageMode", "ThinProvisioned");
        source.default_text("fsType", "xfs");
    }
    if let Some(template) = volume
        .at_mut("ephemeral")
        .and_then(|e| e.at_mut("volumeClaimTemplate"))
        && let Some(spec) = template.ensure("spec")
    {
        spec.default("volumeMode", "Filesystem");
        spec.ensure("resources");
    }
}

fn downward_items(source: &mut Value) {
    for item in source.list_mut("items") {
        if let Some(field) = item.at_mut("fieldRef") {
            field.default_text("apiVersion", "v1");
        }
    }
}
