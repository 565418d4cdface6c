//! Jobs.

use crate::field::{BadValue, FieldError, FieldErrors, Path};
use crate::json::{Json, JsonMut};
use crate::strategy::semantic_eq;
use crate::validate::check::{
    dns_subdomain, immutable, label_selector, nonnegative, one_of, ordered, qualified_name,
};
use crate::validate::kinds::job_status::indexes;
use crate::validate::meta::{self, NameRule};
use crate::validate::pod;
use orch_core::selector::LabelSelector;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

pub(super) fn create(errors: &mut FieldErrors, job: &Value, prefixed: bool) {
    meta::create(errors, job, true, NameRule::Subdomain);
    generated_selector(errors, job, prefixed);
    spec(errors, job.at("spec"));
    let spec = job.at("spec");
    let completions = spec.int("completions").unwrap_or(0);
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        // The last pod's host name must be a label too.
        let name = job.at("metadata").text("name");
        let last = format!("{name}-{}", completions - 1);
        if !format::dns1123_label(&last).is_empty() {
            let path = Path::new("metadata");
            errors.invalid(
                &path.child("name"),
                name,
                format!("will not able to create pod with invalid DNS label: {last}"),
            );
        }
    }
}

fn generated_selector(errors: &mut FieldErrors, job: &Value, prefixed: bool) {
    let spec = job.at("spec");
    let selector = spec.at("selector");
    if spec.flag("manualSelector") || selector.is_null() {
        return;
    }
    let (name, uid) = (job.at("metadata").text("name"), job.at("metadata").text("uid"));
    let meta = Path::new("metadata");
    if uid.is_empty() {
        errors.required(&meta.child("uid"), "");
    }
    let labels = spec.dig(&["template", "metadata", "labels"]);
    let path = Path::new("spec");
    let path = path.child("template");
    let path = path.child("metadata");
    let path = path.child("labels");
    let all = [
        (UID_LABELS[0], uid),
        (NAME_LABELS[0], name),
        (UID_LABELS[1], uid),
        (NAME_LABELS[1], name),
    ];
    let expected = if prefixed { &all[..] } else { &all[..2] };
    for (key, value) in expected {
        match labels.at(key).as_str() {
            None => errors.required(&path.key(key), format!("must be '{value}'")),
            Some(held) if held != *value => {
                errors.invalid(&path.key(key), labels.clone(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    if let Ok(parsed) = LabelSelector::from_value(Some(selector)) {
        let matches = parsed.matches_with(|key| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v));
        if !matches {
            let spec = Path::new("spec");
            errors.invalid(
                &spec.child("selector"),
                ordered(selector),
                "`selector` not auto-generated",
            );
        }
    }
}

fn spec(errors: &mut FieldErrors, spec: &Value) {
    let path = Path::new("spec");
    numbers(errors, &path, spec);
    completion_mode(errors, &path, spec);
    if let Some(policy) = spec.at("podFailurePolicy").some() {
        failure_policy(errors, &path.child("podFailurePolicy"), policy, spec);
    }
    if let Some(policy) = spec.at("successPolicy").some() {
        let path = path.child("successPolicy");
        if spec.text("completionMode") == "Indexed" {
            success_policy(errors, &path, policy, spec.int("completions").unwrap_or(0));
        } else {
            errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        }
    }
    if spec.has("podReplacementPolicy") {
        let allowed: &[&str] = if spec.has("podFailurePolicy") {
            &["Failed"]
        } else {
            &["Failed", "TerminatingOrFailed"]
        };
        one_of(
            errors,
            &path.child("podReplacementPolicy"),
            spec.text("podReplacementPolicy"),
            allowed,
        );
    }
    let template = spec.at("template");
    let template_path = path.child("template");
    pod::template(errors, &template_path, template);
    let policy_path = template_path.child("spec");
    let policy_path = policy_path.child("restartPolicy");
    match template.at("spec").text("restartPolicy") {
        "" | "Always" => errors.required(&policy_path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => errors.invalid(
            &policy_path,
            "OnFailure",
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" => {}
        other => errors.not_supported(&policy_path, other, &["OnFailure", "Never"]),
    }
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
    } else {
        label_selector(errors, &path.child("selector"), selector);
    }
    if let Ok(parsed) = LabelSelector::from_value(selector.some()) {
        let labels = template.dig(&["metadata", "labels"]);
        if !parsed.matches_with(|key| labels.at(key).as_str()) {
            errors.invalid(
                &template_path.child("metadata").child("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
    }
}

fn numbers(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        nonnegative(errors, &path.child(key), spec.int(key));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(
            &path.child("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = spec.at("managedBy").as_str() {
        let path = path.child("managedBy");
        match manager.split_once('/') {
            _ if manager.is_empty() => errors.required(&path, ""),
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
                dns_subdomain(errors, &path, domain)
            }
            _ => errors.invalid(
                &path,
                manager,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        }
        if manager.len() > 63 {
            errors.push(FieldError::too_long(&path, 63));
        }
    }
}

fn completion_mode(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let mode = spec.text("completionMode");
    if spec.has("completionMode") {
        one_of(
            errors,
            &path.child("completionMode"),
            mode,
            &["NonIndexed", "Indexed"],
        );
    }
    if mode != "Indexed" {
        if mode.is_empty() || mode == "NonIndexed" {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(number) = spec.int(key) {
                    errors.invalid(&path.child(key), number, "requires indexed completion mode");
                }
            }
        }
        return;
    }
    let (completions, parallelism) = (spec.int("completions"), spec.int("parallelism"));
    let failed = spec.int("maxFailedIndexes");
    let failed_path = path.child("maxFailedIndexes");
    let above = |value: Option<i64>, limit: i64| value.filter(|v| *v > limit);
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if let Some(number) = above(parallelism, 100_000) {
        errors.invalid(
            &path.child("parallelism"),
            number,
            "must be less than or equal to 100000 when completion mode is Indexed",
        );
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        errors.invalid(&failed_path, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = above(failed, 100_000) {
        errors.invalid(&failed_path, failed, "must be less than or equal to 100000");
    }
    if above(completions, 100_000).is_none() || !spec.has("backoffLimitPerIndex") {
        return;
    }
    const WHEN: &str = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
    if failed.is_none() {
        errors.required(&failed_path, "must be specified when completions is above 100000");
    }
    if let Some(number) = above(parallelism, 10_000) {
        errors.invalid(&path.child("parallelism"), number, WHEN);
    }
    if let Some(failed) = above(failed, 10_000) {
        errors.invalid(&failed_path, failed, WHEN);
    }
}

fn failure_policy(errors: &mut FieldErrors, path: &Path<'_>, policy: &Value, spec: &Value) {
    let path = path.child("rules");
    let rules = policy.list("rules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    let body = spec.dig(&["template", "spec"]);
    let names: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| body.list(l))
        .map(|c| c.text("name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        let here = path.index(i);
        let action = here.child("action");
        match rule.text("action") {
            "" => {
                errors.required(
                    &action,
                    "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
                );
            }
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                errors.invalid(
                    &action,
                    "FailIndex",
                    "requires the backoffLimitPerIndex to be set",
                );
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            other => errors.not_supported(&action, other, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        let conditions = rule.list("onPodConditions");
        if let Some(codes) = rule.at("onExitCodes").some() {
            exit_codes(errors, &here.child("onExitCodes"), codes, &names);
        }
        pod_conditions(errors, &here.child("onPodConditions"), conditions);
        match (rule.has("onExitCodes"), conditions.is_empty()) {
            (true, false) => errors.invalid(
                &here,
                BadValue::Omitted,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, true) => errors.invalid(
                &here,
                BadValue::Omitted,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn pod_conditions(errors: &mut FieldErrors, path: &Path<'_>, conditions: &[Value]) {
    if conditions.len() > 20 {
        errors.push(FieldError::too_many(path, conditions.len(), 20));
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let here = path.index(i);
        qualified_name(errors, &here.child("type"), pattern.text("type"));
        match pattern.text("status") {
            "" => errors.required(
                &here.child("status"),
                "valid values: [\"False\" \"True\" \"Unknown\"]",
            ),
            status => one_of(
                errors,
                &here.child("status"),
                status,
                &["False", "True", "Unknown"],
            ),
        }
    }
}

fn exit_codes(errors: &mut FieldErrors, path: &Path<'_>, codes: &Value, names: &BTreeSet<&str>) {
    let operator = codes.text("operator");
    if operator.is_empty() {
        errors.required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]");
    } else {
        one_of(errors, &path.child("operator"), operator, &["In", "NotIn"]);
    }
    if let Some(name) = codes.at("containerName").as_str().filter(|n| !names.contains(n)) {
        errors.invalid(
            &path.child("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let list = codes.list("values");
    let path = path.child("values");
    if list.is_empty() {
        errors.invalid(&path, list.to_vec(), "at least one value is required");
    } else if list.len() > 255 {
        errors.push(FieldError::too_many(&path, list.len(), 255));
    }
    let numbers: Vec<i64> = list.iter().map(|v| crate::json::number(v).unwrap_or(0)).collect();
    let mut seen = BTreeSet::new();
    for (i, code) in numbers.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.invalid(&path.index(i), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(*code) {
            errors.duplicate(&path.index(i), *code);
        }
    }
    if !numbers.is_sorted() {
        errors.invalid(&path, list.to_vec(), "must be ordered");
    }
}

fn success_policy(errors: &mut FieldErrors, path: &Path<'_>, policy: &Value, completions: i64) {
    let path = path.child("rules");
    let rules = policy.list("rules");
    if rules.is_empty() {
        errors.required(
            &path,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let here = path.index(i);
        let (count, list) = (rule.int("succeededCount"), rule.at("succeededIndexes").as_str());
        if count.is_none() && list.is_none() {
            errors.required(
                &here,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut total = 0;
        if let Some(list) = list {
            let path = here.child("succeededIndexes");
            if list.len() > 64 * 1024 {
                errors.push(FieldError::too_long(&path, 64 * 1024));
            }
            match indexes(list, completions) {
                Ok(found) => total = found.iter().map(|(x, y)| y - x + 1).sum(),
                Err(why) => errors.invalid(&path, list, format!("error parsing succeededIndexes: {why}")),
            }
        }
        let Some(count) = count else { continue };
        let path = here.child("succeededCount");
        nonnegative(errors, &path, Some(count));
        if count > completions {
            errors.invalid(
                &path,
                count,
                format!("must be less than or equal to {completions} (the number of specified completions)"),
            );
        }
        if list.is_some() && count > total {
            errors.invalid(
                &path,
                count,
                format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes \
                     field)"
                ),
            );
        }
    }
}

pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    let held_labels = old.dig(&["spec", "template", "metadata", "labels"]);
    create(
        errors,
        new,
        held_labels.has(UID_LABELS[1]) && held_labels.has(NAME_LABELS[1]),
    );
    meta::update(errors, new, old);
    let (now, held) = (new.at("spec"), old.at("spec"));
    spec(errors, now);
    let path = Path::new("spec");
    let completions = path.child("completions");
    if now.text("completionMode") != "Indexed" {
        immutable(
            errors,
            &completions,
            now.at("completions"),
            held.at("completions"),
        );
    } else if let Some(number) = now.int("completions")
        && held.int("completions") != Some(number)
        && now.int("parallelism") != Some(number)
    {
        errors.invalid(
            &completions,
            number,
            "can only be modified in tandem with spec.parallelism",
        );
    }
    immutable(
        errors,
        &path.child("selector"),
        now.at("selector"),
        held.at("selector"),
    );
    template_update(errors, &path, new, old);
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(errors, &path.child(key), now.at(key), held.at(key));
    }
}

/// The template of a suspended job that runs nothing may get other resources and scheduling; else it is fixed.
fn template_update(errors: &mut FieldErrors, path: &Path<'_>, new: &Value, old: &Value) {
    let status = old.at("status");
    let is_suspended = status
        .list("conditions")
        .iter()
        .any(|c| c.text("type") == "Suspended" && c.text("status") == "True");
    let suspended = old.at("spec").flag("suspend");
    let open =
        suspended && (!status.has("startTime") || is_suspended) && status.int("active").unwrap_or(0) == 0;
    let template = new.dig(&["spec", "template"]);
    let mut held = old.dig(&["spec", "template"]).clone();
    if !open {
        immutable(errors, &path.child("template"), template, &held);
        return;
    }
    let take = |to: &mut Value, from: &Value, keys: &[&str]| {
        for key in keys {
            match from.at(key).some() {
                Some(value) => to.set(key, value.clone()),
                None => drop(to.take_key(key)),
            }
        }
    };
    if let Some(meta) = held.ensure("metadata") {
        take(meta, template.at("metadata"), &["annotations", "labels"]);
    }
    let body = template.at("spec");
    if let Some(spec) = held.ensure("spec") {
        take(spec, body, &["nodeSelector", "tolerations", "schedulingGates"]);
        if let Some(affinity) = spec.ensure("affinity") {
            take(affinity, body.at("affinity"), &["nodeAffinity"]);
        }
        if spec
            .at("affinity")
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
            && !body.has("affinity")
        {
            spec.take_key("affinity");
        }
        for list in ["containers", "initContainers"] {
            let now = body.list(list);
            if now.len() != spec.list(list).len() {
                continue;
            }
            for (held, now) in spec.list_mut(list).iter_mut().zip(now) {
                if held.at("name") == now.at("name") {
                    take(held, now, &["resources"]);
                }
            }
        }
    }
    if !semantic_eq(body, held.at("spec")) {
        let path = path.child("template.spec");
        immutable(errors, &path, body, held.at("spec"));
    }
}
