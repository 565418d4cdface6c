//! The `resize` subresource: CPU and memory of running containers (KEP-1287, KEP-5419).

use super::metadata_and_spec;
use crate::field::{FieldErrors, Path};
use crate::json::{Json, JsonMut};
use crate::strategy::{qos_class, semantic_eq};
use crate::validate::meta;
use serde_json::{Map, Value};

pub(in crate::validate) fn resize(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    metadata_and_spec(errors, new);
    let root = Path::new("");
    let refused = if old
        .dig(&["metadata", "annotations"])
        .has("kubernetes.io/config.mirror")
    {
        Some("static pods cannot be resized")
    } else if old.dig(&["spec", "os"]).text("name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(why) = refused {
        *errors = FieldErrors::new();
        errors.forbidden(&root, why);
        return;
    }
    let path = Path::new("spec");
    let held_class = old.at("status").text("qosClass");
    let class = if held_class.is_empty() {
        qos_class(old)
    } else {
        held_class
    };
    if class != qos_class(new) {
        errors.invalid(
            &path,
            new.at("status").text("qosClass"),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let running = old
        .at("status")
        .list("containerStatuses")
        .iter()
        .find(|s| s.at("state").has("running"));
    if running.is_some_and(|s| !s.has("resources")) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let (spec, held) = (new.at("spec"), old.at("spec"));
    let mut copy = spec.clone();
    pod_level(errors, &path, &mut copy, held);
    if !old
        .at("status")
        .list("nodeAllocatableResourceClaimStatuses")
        .is_empty()
    {
        errors.forbidden(
            &path,
            "pods with node allocatable resource claims cannot be resized",
        );
    }
    if !same_containers(errors, &path, spec, held) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (i, (now, before)) in spec.list(list).iter().zip(held.list(list)).enumerate() {
            let path = path.child(list);
            let path = path.index(i);
            let path = path.child("resources");
            for which in ["requests", "limits"] {
                let (now, before) = (now.dig(&["resources", which]), before.dig(&["resources", which]));
                if removed(now, before) {
                    errors.forbidden(&path.child(which), format!("resource {which} cannot be removed"));
                }
            }
        }
    }
    only_cpu_and_memory(errors, &path, &mut copy, held);
    if errors.is_empty() && !semantic_eq(&copy, held) {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
}

fn removed(new: &Value, old: &Value) -> bool {
    old.as_object()
        .into_iter()
        .flatten()
        .any(|(name, _)| !new.has(name))
}

fn same_containers(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, held: &Value) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        let path = path.child(list);
        if spec.list(list).len() != held.list(list).len() {
            errors.forbidden(&path, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (i, (now, held)) in spec.list(list).iter().zip(held.list(list)).enumerate() {
            if now.text("name") != held.text("name") {
                let here = path.index(i);
                errors.forbidden(
                    &here.child("name"),
                    format!("{list} may not be renamed or reordered on resize"),
                );
            }
        }
    }
    errors.len() == before
}

fn only_cpu_and_memory(errors: &mut FieldErrors, path: &Path<'_>, copy: &mut Value, held: &Value) {
    for list in ["containers", "initContainers"] {
        for (i, (now, before)) in copy.list_mut(list).iter_mut().zip(held.list(list)).enumerate() {
            let changed = !semantic_eq(now, before);
            if changed {
                restore(now, before);
            }
            let list_path = path.child(list);
            let here = list_path.index(i);
            if !semantic_eq(now, before) {
                if list == "containers" {
                    errors.forbidden(path, "only cpu and memory resources are mutable");
                } else {
                    errors.forbidden(
                        &here,
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    );
                }
            }
            let restarts = now
                .list("resizePolicy")
                .iter()
                .any(|p| p.text("restartPolicy") == "RestartContainer");
            if list == "initContainers" && changed && now.text("restartPolicy") != "Always" && restarts {
                errors.forbidden(
                    &here,
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                );
            }
        }
    }
}

/// Puts the old CPU and memory amounts back into `now`.
fn restore(now: &mut Value, before: &Value) {
    let Some(resources) = now.ensure("resources") else {
        return;
    };
    for which in ["requests", "limits"] {
        let old = before.dig(&["resources", which]);
        let mut list: Map<String, Value> = resources.at(which).as_object().cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            match old.at(name).some() {
                Some(amount) => drop(list.insert(name.into(), amount.clone())),
                None => drop(list.remove(name)),
            }
        }
        if list.is_empty() && !old.is_object() {
            resources.take_key(which);
        } else {
            resources.set(which, list);
        }
    }
}

fn pod_level(errors: &mut FieldErrors, path: &Path<'_>, copy: &mut Value, held: &Value) {
    let is_set = |spec: &Value| {
        ["requests", "limits"].iter().any(|w| {
            spec.dig(&["resources", w])
                .as_object()
                .is_some_and(|m| !m.is_empty())
        })
    };
    if !is_set(copy) && !is_set(held) {
        return;
    }
    let path_of = path.child("resources");
    if held.has("resources") && !copy.has("resources") {
        errors.forbidden(&path_of, "pod-level resources cannot be removed");
        return;
    }
    for (which, what) in [("requests", "requests"), ("limits", "limits")] {
        if removed(copy.dig(&["resources", which]), held.dig(&["resources", which])) {
            errors.forbidden(
                &path_of.child(which),
                format!("pod-level resource {what} cannot be removed"),
            );
        }
    }
    restore(copy, held);
    if !held.has("resources") && copy.at("resources").as_object().is_some_and(Map::is_empty) {
        copy.take_key("resources");
    }
    if !semantic_eq(copy.at("resources"), held.at("resources")) {
        errors.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}
