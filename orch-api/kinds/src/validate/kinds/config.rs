//! ConfigMaps and Secrets.

use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::check::{each, immutable};
use crate::validate::meta::{self, NameRule};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use orch_core::validate as format;
use serde_json::Value;

/// Most bytes of data that an object can hold.
const MAX: usize = 1024 * 1024;

/// How many bytes base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub(super) fn config_map(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    let mut size = 0;
    let path = Path::new("data");
    for (key, value) in object.entries("data") {
        each(errors, &path.key(key), key, format::config_map_key(key));
        if object.at("binaryData").has(key) {
            errors.invalid(
                &path.key(key),
                key.as_str(),
                "duplicate of key present in binaryData",
            );
        }
        size += value.string().len();
    }
    let path = Path::new("binaryData");
    for (key, value) in object.entries("binaryData") {
        each(errors, &path.key(key), key, format::config_map_key(key));
        size += decoded_len(value.string());
    }
    if size > MAX {
        // The whole object has no path; upstream renders that so.
        errors.push(FieldError::too_long(&Path::new("[]"), MAX));
    }
}

/// Nothing of an object that is marked immutable changes, the mark included.
fn frozen(errors: &mut FieldErrors, new: &Value, old: &Value, lists: &[&str]) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        errors.forbidden(&Path::new("immutable"), WHY);
    }
    for list in lists {
        if !semantic_eq(new.at(list), old.at(list)) {
            errors.forbidden(&Path::new(list), WHY);
        }
    }
}

pub(super) fn update_config_map(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    frozen(errors, new, old, &["data", "binaryData"]);
    config_map(errors, new);
}

pub(super) fn secret(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in object.entries("data") {
        each(errors, &path.key(key), key, format::config_map_key(key));
        size += decoded_len(value.string());
    }
    if size > MAX {
        errors.push(FieldError::too_long(&path, MAX));
    }
    let data = object.at("data");
    let need = |errors: &mut FieldErrors, key: &str| {
        if !data.has(key) {
            errors.required(&path.key(key), "");
        }
    };
    match object.text("type") {
        "kubernetes.io/service-account-token" => {
            const KEY: &str = "kubernetes.io/service-account.name";
            if object.dig(&["metadata", "annotations"]).text(KEY).is_empty() {
                let meta = Path::new("metadata");
                errors.required(&meta.child("annotations").key(KEY), "");
            }
        }
        "kubernetes.io/dockercfg" => docker_config(errors, &path, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => docker_config(errors, &path, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            need(errors, "username");
            need(errors, "password");
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            need(errors, "tls.crt");
            need(errors, "tls.key");
        }
        _ => {}
    }
}

fn docker_config(errors: &mut FieldErrors, path: &Path<'_>, data: &Value, key: &str) {
    let path = path.key(key);
    let Some(text) = data.at(key).as_str() else {
        errors.required(&path, "");
        return;
    };
    let bytes = BASE64.decode(text).unwrap_or_default();
    let why = match serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        Ok(_) => return,
        Err(_) if bytes.is_empty() => "unexpected end of JSON input".to_owned(),
        Err(e) => e.to_string(),
    };
    errors.invalid(&path, "<secret contents redacted>", why);
}

pub(super) fn update_secret(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    immutable(errors, &Path::new("type"), new.at("type"), old.at("type"));
    frozen(errors, new, old, &["data"]);
    secret(errors, new);
}
