//! CustomResourceDefinitions.
//!
//! As in upstream, what all versions share (schema, subresources, columns) is reported under `spec.validation`,
//! `spec.subresources` and `spec.additionalPrinterColumns`, where the first versions of the API had it.

use super::crd_conversion::conversion;
use super::crd_schema;
use crate::field::{BadValue, FieldErrors, Path, quote};
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::check::{immutable, required_one_of, strings};
use crate::validate::meta;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn create(errors: &mut FieldErrors, crd: &Value) {
    name(errors, crd);
    let mut generic = FieldErrors::new();
    meta::generic(
        &mut generic,
        &Path::new("metadata"),
        crd.at("metadata"),
        false,
        meta::NameRule::PathSegment,
    );
    errors.append(generic);
    spec(errors, crd.at("spec"));
    status_names(errors, crd);
    stored_versions(errors, crd);
    approval(errors, crd, &Value::Null);
    preserve_unknown(errors, crd.at("spec"), &Value::Null);
}

fn name(errors: &mut FieldErrors, crd: &Value) {
    let (name, spec) = (crd.at("metadata").text("name"), crd.at("spec"));
    let path = Path::new("metadata");
    if name.is_empty() {
        return;
    }
    for message in format::dns1123_subdomain(name) {
        errors.invalid(&path.child("name"), name, message);
    }
    if name != format!("{}.{}", spec.at("names").text("plural"), spec.text("group")) {
        errors.invalid(
            &path.child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
}

pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update_generic(errors, new, old);
    spec(errors, new.at("spec"));
    let (now, held, path) = (new.at("spec"), old.at("spec"), Path::new("spec"));
    let names = path.child("names");
    let established = old
        .at("status")
        .list("conditions")
        .iter()
        .any(|c| c.text("type") == "Established" && c.text("status") == "True");
    if established {
        immutable(errors, &path.child("scope"), now.at("scope"), held.at("scope"));
        immutable(
            errors,
            &names.child("kind"),
            now.at("names").at("kind"),
            held.at("names").at("kind"),
        );
    }
    immutable(errors, &path.child("group"), now.at("group"), held.at("group"));
    immutable(
        errors,
        &names.child("plural"),
        now.at("names").at("plural"),
        held.at("names").at("plural"),
    );
    status_names(errors, new);
    stored_versions(errors, new);
    approval(errors, new, old);
    preserve_unknown(errors, now, held);
}

pub(super) fn update_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update_generic(errors, new, old);
    status_names(errors, new);
}

fn status_names(errors: &mut FieldErrors, crd: &Value) {
    let path = Path::new("status");
    names(
        errors,
        &path.child("acceptedNames"),
        crd.at("status").at("acceptedNames"),
    );
}

fn stored_versions(errors: &mut FieldErrors, crd: &Value) {
    let path = Path::new("status");
    let path = path.child("storedVersions");
    let stored = crd.at("status").list("storedVersions");
    if stored.is_empty() {
        errors.invalid(&path, stored.to_vec(), "must have at least one stored version");
        return;
    }
    let versions = crd.at("spec").list("versions");
    for version in versions
        .iter()
        .filter(|v| v.flag("storage") && !stored.contains(v.at("name")))
    {
        errors.invalid(
            &path,
            stored.to_vec(),
            format!("must have the storage version {}", version.text("name")),
        );
    }
    for (i, name) in strings(stored).enumerate() {
        if !versions.iter().any(|v| v.text("name") == name) {
            errors.invalid(
                &path.index(i),
                name,
                format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                     {name} from status.storedVersions"
                ),
            );
        }
    }
}

fn preserve_unknown(errors: &mut FieldErrors, spec: &Value, old: &Value) {
    if spec.flag("preserveUnknownFields") && !old.flag("preserveUnknownFields") {
        let path = Path::new("spec");
        errors.invalid(
            &path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead",
        );
    }
}

/// Groups of the Kubernetes community need an annotation that says that the API was approved.
fn approval(errors: &mut FieldErrors, crd: &Value, old: &Value) {
    const KEY: &str = "api-approved.kubernetes.io";
    let group = crd.at("spec").text("group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|d| group == *d || group.ends_with(&format!(".{d}")));
    if !protected {
        return;
    }
    let state = |crd: &Value| {
        let text = crd.dig(&["metadata", "annotations"]).text(KEY);
        let url = text.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty() && !rest.split('/').next().unwrap_or("").is_empty()
        });
        match text {
            "" => 0,
            t if t.starts_with("unapproved") => 1,
            _ if url => 2,
            _ => 3,
        }
    };
    let now = state(crd);
    if !old.is_null() && state(old) == now {
        return;
    }
    let path = Path::new("metadata");
    let path = path.child("annotations");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match now {
        0 => errors.required(
            &path.key(KEY),
            format!("protected groups must have approval annotation \"{KEY}\", {see}"),
        ),
        3 => errors.invalid(
            &path.key(KEY),
            crd.dig(&["metadata", "annotations"]).text(KEY),
            format!(
                "protected groups must have approval annotation \"{KEY}\" with either a URL or a reason starting with \
                 \"unapproved\", {see}"
            ),
        ),
        _ => {}
    }
}

fn spec(errors: &mut FieldErrors, spec: &Value) {
    let path = Path::new("spec");
    let group = spec.text("group");
    let wrong = format::dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    } else if !wrong.is_empty() {
        errors.invalid(&path.child("group"), group, wrong.join(","));
    } else if !group.contains('.') {
        errors.invalid(
            &path.child("group"),
            group,
            "should be a domain with at least one dot",
        );
    }
    required_one_of(
        errors,
        &path.child("scope"),
        spec.text("scope"),
        &["Cluster", "Namespaced"],
    );
    let versions = spec.list("versions");
    let shared = |key: &str| {
        versions.first().is_some_and(|first| {
            first.has(key) && versions.iter().all(|v| semantic_eq(v.at(key), first.at(key)))
        })
    };
    let versions_path = path.child("versions");
    for (i, version) in versions.iter().enumerate() {
        let here = versions_path.index(i);
        if !version.at("schema").has("openAPIV3Schema") {
            errors.required(&here.child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (i, one) in versions.iter().enumerate() {
        let here = versions_path.index(i);
        let wrong = format::dns1035_label(one.text("name"));
        if !wrong.is_empty() {
            errors.invalid(&here.child("name"), one.text("name"), wrong.join(","));
        }
        version(
            errors,
            &here,
            one,
            [
                shared("schema"),
                shared("subresources"),
                shared("additionalPrinterColumns"),
            ],
        );
    }
    let mut seen = BTreeSet::new();
    if !versions.iter().all(|v| seen.insert(v.text("name"))) {
        errors.invalid(
            &versions_path,
            versions_shown(versions),
            "must contain unique version names",
        );
    }
    if versions.iter().filter(|v| v.flag("storage")).count() != 1 {
        errors.invalid(
            &versions_path,
            versions_shown(versions),
            "must have exactly one version marked as storage version",
        );
    }
    let names_path = path.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if spec.at("names").text(key).is_empty() {
            errors.required(&names_path.child(key), "");
        }
    }
    names(errors, &names_path, spec.at("names"));
    if let Some(first) = versions.first() {
        let status = versions.iter().any(|v| v.at("subresources").has("status"));
        if shared("schema") {
            crd_schema::schema(errors, &path.child("validation"), first.at("schema"), status);
        }
        if shared("subresources") {
            subresources(errors, &path.child("subresources"), first.at("subresources"));
        }
        if shared("additionalPrinterColumns") {
            columns(errors, &path.child("additionalPrinterColumns"), first);
        }
    }
    conversion(errors, &path.child("conversion"), spec.at("conversion"));
}

/// Versions as messages show them: names and flags, in upstream's internal form.
fn versions_shown(versions: &[Value]) -> BadValue {
    let parts: Vec<String> = versions
        .iter()
        .map(|v| {
            format!(
                "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":null,\
                 \"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}}",
                quote(v.text("name")),
                v.flag("served"),
                v.flag("storage"),
                v.flag("deprecated")
            )
        })
        .collect();
    BadValue::Raw(format!("[{}]", parts.join(",")))
}

fn version(errors: &mut FieldErrors, path: &Path<'_>, version: &Value, shared: [bool; 3]) {
    if let Some(warning) = version.at("deprecationWarning").as_str() {
        let path = path.child("deprecationWarning");
        if !version.flag("deprecated") {
            errors.invalid(&path, warning, "can only be set for deprecated versions");
        } else {
            if warning.len() > 256 {
                errors.invalid(&path, warning, "must be <= 256 characters long");
            }
            if warning.is_empty() {
                errors.invalid(&path, warning, "must not be an empty string");
            }
        }
    }
    if !shared[0] {
        let status = version.at("subresources").has("status");
        crd_schema::schema(errors, &path.child("schema"), version.at("schema"), status);
    }
    if !shared[1] {
        subresources(errors, &path.child("subresources"), version.at("subresources"));
    }
    if !shared[2] {
        columns(errors, &path.child("additionalPrinterColumns"), version);
    }
    selectable_fields(errors, &path.child("selectableFields"), version);
}

fn names(errors: &mut FieldErrors, path: &Path<'_>, names: &Value) {
    for (key, folds) in [
        ("plural", false),
        ("singular", false),
        ("kind", true),
        ("listKind", true),
    ] {
        let name = names.text(key);
        let checked = if folds {
            name.to_lowercase()
        } else {
            name.to_owned()
        };
        let wrong = format::dns1035_label(&checked);
        if name.is_empty() || wrong.is_empty() {
            continue;
        }
        let lead = if folds {
            "may have mixed case, but should otherwise match: "
        } else {
            ""
        };
        errors.invalid(&path.child(key), name, format!("{lead}{}", wrong.join(",")));
    }
    let list = |errors: &mut FieldErrors, key: &str| {
        for (i, name) in strings(names.list(key)).enumerate() {
            let wrong = format::dns1035_label(name);
            if !wrong.is_empty() {
                errors.invalid(&path.child(key).index(i), name, wrong.join(","));
            }
        }
    };
    list(errors, "shortNames");
    let (kind, list_kind) = (names.text("kind"), names.text("listKind"));
    if !kind.is_empty() && kind == list_kind {
        errors.invalid(
            &path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        );
    }
    list(errors, "categories");
}

fn simple_path(errors: &mut FieldErrors, path: &Path<'_>, text: &str) -> bool {
    let right = text.starts_with('.');
    if !right {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
    right
}

fn subresources(errors: &mut FieldErrors, path: &Path<'_>, subresources: &Value) {
    let Some(scale) = subresources.at("scale").some() else {
        return;
    };
    for (key, shown, under) in [
        ("specReplicasPath", "scale.specReplicasPath", ".spec."),
        ("statusReplicasPath", "scale.statusReplicasPath", ".status."),
    ] {
        let (path, text) = (path.child(shown), scale.text(key));
        if text.is_empty() {
            errors.required(&path, "");
        } else if simple_path(errors, &path, text) && !text.starts_with(under) {
            let under = under.trim_end_matches('.');
            errors.invalid(&path, text, format!("should be a json path under {under}"));
        }
    }
    let text = scale.text("labelSelectorPath");
    let path = path.child("scale.labelSelectorPath");
    if !text.is_empty()
        && simple_path(errors, &path, text)
        && !text.starts_with(".spec.")
        && !text.starts_with(".status.")
    {
        errors.invalid(&path, text, "should be a json path under either .spec or .status");
    }
}

fn columns(errors: &mut FieldErrors, path: &Path<'_>, version: &Value) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    for (i, column) in version.list("additionalPrinterColumns").iter().enumerate() {
        let here = path.index(i);
        if column.text("name").is_empty() {
            errors.required(&here.child("name"), "");
        }
        let kind = column.text("type");
        let one = format!("must be one of {}", TYPES.join(","));
        if kind.is_empty() {
            errors.required(&here.child("type"), one);
        } else if !TYPES.contains(&kind) {
            errors.invalid(&here.child("type"), kind, one);
        }
        let shape = column.text("format");
        if !shape.is_empty() && !FORMATS.contains(&shape) {
            errors.invalid(
                &here.child("format"),
                shape,
                format!("must be one of {}", FORMATS.join(",")),
            );
        }
        let json_path = column.text("jsonPath");
        if json_path.is_empty() {
            errors.required(&here.child("JSONPath"), "");
        } else {
            simple_path(errors, &here.child("JSONPath"), json_path);
        }
    }
}

fn selectable_fields(errors: &mut FieldErrors, path: &Path<'_>, version: &Value) {
    let fields = version.list("selectableFields");
    let mut seen = BTreeSet::new();
    for (i, field) in fields.iter().enumerate() {
        let here = path.index(i);
        let (here, text) = (here.child("jsonPath"), field.text("jsonPath"));
        if text.is_empty() {
            errors.required(&here, "");
            continue;
        }
        let mut schema = version.dig(&["schema", "openAPIV3Schema"]);
        for part in text.split('.').skip(1) {
            schema = schema.at("properties").at(part);
        }
        if schema.is_null() || !text.starts_with('.') {
            errors.invalid(&here, text, "is an invalid path: does not refer to a valid field");
            continue;
        }
        if text == ".metadata" || text.starts_with(".metadata.") {
            errors.invalid(&here, text, "must not point to fields in metadata");
        }
        if !matches!(schema.text("type"), "string" | "boolean" | "integer") {
            errors.invalid(
                &here,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            );
        }
        if !seen.insert(text) {
            errors.duplicate(&here, text);
        }
    }
    if seen.len() > 8 {
        errors.push(crate::field::FieldError::too_many(path, seen.len(), 8));
    }
}
