//! How custom resources are converted between their versions.

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{required_one_of, strings};
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn conversion(errors: &mut FieldErrors, path: &Path<'_>, conversion: &Value) {
    if conversion.is_null() {
        return;
    }
    let strategy = conversion.text("strategy");
    required_one_of(errors, &path.child("strategy"), strategy, &["None", "Webhook"]);
    let webhook = conversion.at("webhook");
    let client_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let versions = webhook.list("conversionReviewVersions");
    if strategy != "Webhook" {
        const WHY: &str = "should not be set when strategy is not set to Webhook";
        if webhook.has("clientConfig") {
            errors.forbidden(&client_path, WHY);
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_path, WHY);
        }
        return;
    }
    match webhook.at("clientConfig").some() {
        None => errors.required(&client_path, "required when strategy is set to Webhook"),
        Some(config) => match (config.at("url").as_str(), config.at("service").some()) {
            (Some(url), None) => webhook_url(errors, &client_path.child("url"), url),
            (None, Some(service)) => webhook_service(errors, &client_path.child("service"), service),
            _ => errors.required(&client_path, "exactly one of url or service is required"),
        },
    }
    if versions.is_empty() {
        errors.required(&versions_path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in strings(versions).enumerate() {
        if !seen.insert(version) {
            errors.invalid(&versions_path.index(i), version, "duplicate version");
            continue;
        }
        for message in format::dns1035_label(version) {
            errors.invalid(&versions_path.index(i), version, message);
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.invalid(
            &versions_path,
            versions.to_vec(),
            "must include at least one of v1, v1beta1",
        );
    }
}

fn webhook_url(errors: &mut FieldErrors, path: &Path<'_>, url: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or("")
    };
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    if scheme != "https" {
        errors.invalid(
            path,
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn webhook_service(errors: &mut FieldErrors, path: &Path<'_>, service: &Value) {
    for key in ["name", "namespace"] {
        if service.text(key).is_empty() {
            errors.required(&path.child(key), "");
        }
    }
    let port = service.int("port").unwrap_or(443);
    let wrong = format::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(
            &path.child("port"),
            port,
            format!("port is not valid: {}", wrong.join(", ")),
        );
    }
    let text = service.text("path");
    let path = path.child("path");
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        errors.invalid(&path, text, "segment[0] may not be empty");
        return;
    }
    if !text.starts_with('/') {
        errors.invalid(&path, text, "must start with a '/'");
    }
    // Whatever the first character is, it is not part of the first segment.
    let steps = text.char_indices().nth(1).map_or("", |(i, _)| &text[i..]);
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, text, format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in format::dns1123_subdomain(step) {
            errors.invalid(&path, text, format!("segment[{i}]: {message}"));
        }
    }
}
