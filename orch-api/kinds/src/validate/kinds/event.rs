//! Events, of both groups.

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::check::{each, immutable, qualified_name};
use crate::validate::meta::{self, NameRule};
use orch_core::validate as format;
use serde_json::Value;

/// The member under the name of either group.
fn either<'a>(event: &'a Value, core: &str, newer: &str) -> &'a Value {
    if event.has(core) {
        event.at(core)
    } else {
        event.at(newer)
    }
}

/// What events of the older group must satisfy, and of the newer too.
fn legacy(errors: &mut FieldErrors, event: &Value, strict: bool) {
    let about = either(event, "involvedObject", "regarding");
    let path = Path::new("involvedObject");
    let path = path.child("namespace");
    let (namespace, theirs) = (event.at("metadata").text("namespace"), about.text("namespace"));
    const WHY: &str = "does not match event.namespace";
    if event.has("eventTime") {
        if theirs.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.invalid(&path, theirs, WHY);
        }
        let reporter = either(event, "reportingComponent", "reportingController").string();
        let name = Path::new(if strict {
            "reportingController"
        } else {
            "reportingComponent"
        });
        if reporter.is_empty() {
            errors.required(&name, "");
        }
        qualified_name(errors, &name, reporter);
        for key in ["reportingInstance", "action", "reason"] {
            let (path, text) = (Path::new(key), event.text(key));
            if text.is_empty() {
                errors.required(&path, "");
            }
            if text.len() > 128 {
                errors.invalid(&path, "", "can have at most 128 characters");
            }
        }
        if either(event, "message", "note").string().len() > 1024 {
            errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
        }
    } else {
        let agrees = if theirs.is_empty() {
            matches!(namespace, "" | "default")
        } else {
            namespace == theirs
        };
        if !agrees {
            errors.invalid(&path, theirs, WHY);
        }
    }
    each(
        errors,
        &Path::new("namespace"),
        namespace,
        format::dns1123_subdomain(namespace),
    );
}

fn series(errors: &mut FieldErrors, event: &Value) {
    let Some(series) = event.at("series").some() else {
        return;
    };
    if series.int("count").unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

pub(super) fn create(errors: &mut FieldErrors, event: &Value, strict: bool) {
    legacy(errors, event, strict);
    if !strict {
        return;
    }
    meta::create(errors, event, true, NameRule::Subdomain);
    series(errors, event);
    if !event.has("eventTime") {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    const UNSET: &str = "needs to be unset";
    for (core, newer) in [
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
    ] {
        if !either(event, core, newer).is_null() {
            errors.invalid(&Path::new(core), "", UNSET);
        }
    }
    if crate::json::number(either(event, "count", "deprecatedCount")).unwrap_or(0) != 0 {
        errors.invalid(&Path::new("count"), "", UNSET);
    }
    let source = either(event, "source", "deprecatedSource");
    if !source.text("component").is_empty() || !source.text("host").is_empty() {
        errors.invalid(&Path::new("source"), "", UNSET);
    }
}

pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value, strict: bool) {
    legacy(errors, new, strict);
    if !strict {
        return;
    }
    meta::update(errors, new, old);
    if !semantic_eq(new.at("series"), old.at("series")) {
        series(errors, new);
    }
    for (core, newer) in [
        ("involvedObject", "regarding"),
        ("reason", "reason"),
        ("message", "note"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let shown = if core == "reportingComponent" { newer } else { core };
        immutable(
            errors,
            &Path::new(shown),
            either(new, core, newer),
            either(old, core, newer),
        );
    }
}
