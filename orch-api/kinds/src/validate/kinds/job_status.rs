//! The status of jobs, whose writers may be controllers other than the built-in one (KEP-4368).

use crate::field::{BadValue, FieldErrors, Path};
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::check::nonnegative;
use crate::validate::meta;
use serde_json::Value;
use std::collections::BTreeSet;

/// Intervals of an index list such as `1,3-5`.
pub(super) fn indexes(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(found);
    }
    for part in text.split(',') {
        let (x, y) = interval(part, completions)?;
        if let Some((_, last)) = found.last().filter(|(_, last)| *last >= x) {
            return Err(format!("non-increasing order, previous: {last}, current: {x}"));
        }
        found.push((x, y));
    }
    Ok(found)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        ));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(n) if n >= completions => Err(format!("too large index: {text:?}")),
        Ok(n) => Ok(n),
    };
    let x = number(limits.first().copied().unwrap_or(""))?;
    match limits.get(1) {
        None => Ok((x, x)),
        Some(text) => {
            let y = number(text)?;
            if x >= y {
                return Err(format!("non-increasing order, previous: {x}, current: {y}"));
            }
            Ok((x, y))
        }
    }
}

struct Job<'a> {
    spec: &'a Value,
    status: &'a Value,
}

impl<'a> Job<'a> {
    fn of(object: &'a Value) -> Self {
        Self {
            spec: object.at("spec"),
            status: object.at("status"),
        }
    }
    fn is(&self, condition: &str) -> bool {
        self.status
            .list("conditions")
            .iter()
            .any(|c| c.text("type") == condition && c.text("status") == "True")
    }
    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
    fn count(&self, key: &str) -> i64 {
        self.status.int(key).unwrap_or(0)
    }
}

/// Rules apply to what an update changes, so that a status that was wrong before can still be written.
pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let (now, held) = (Job::of(new), Job::of(old));
    let path = Path::new("status");
    counters(errors, &path, &now);
    conditions(errors, &path, &now, &held);
    times(errors, &path, &now, &held);
    pods_of_finished(errors, &path, &now, &held);
    index_lists(errors, &path, &now, &held);
    transitions(errors, &path, &now, &held);
}

fn changed(now: &Job<'_>, held: &Job<'_>, key: &str) -> bool {
    !semantic_eq(now.status.at(key), held.status.at(key))
}

fn counters(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>) {
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        nonnegative(errors, &path.child(key), now.status.int(key));
    }
    let mut seen = BTreeSet::new();
    let path = path.child("uncountedTerminatedPods");
    for list in ["succeeded", "failed"] {
        for (i, uid) in now
            .status
            .at("uncountedTerminatedPods")
            .list(list)
            .iter()
            .map(Json::string)
            .enumerate()
        {
            let path = path.child(list);
            if uid.is_empty() {
                errors.invalid(&path.index(i), uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&path.index(i), uid);
            }
        }
    }
}

fn conditions(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>, held: &Job<'_>) {
    let path = path.child("conditions");
    let differs = |condition: &str| now.is(condition) != held.is(condition);
    let (complete, failed) = (differs("Complete"), differs("Failed"));
    let mut wrong = |when: bool, why: &str| {
        if when {
            errors.invalid(&path, BadValue::Omitted, why);
        }
    };
    wrong(
        (complete || failed) && now.is("Complete") && now.is("Failed"),
        "cannot set Complete=True and Failed=true conditions",
    );
    wrong(
        (complete || differs("FailureTarget")) && now.is("Complete") && now.is("FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    wrong(
        (failed || changed(now, held, "failedIndexes")) && now.is("Failed") && !now.is("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    wrong(
        (complete || differs("SuccessCriteriaMet")) && now.is("Complete") && !now.is("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    wrong(
        now.is("SuccessCriteriaMet") && now.is("Failed"),
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    wrong(
        now.is("SuccessCriteriaMet") && now.is("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    wrong(
        now.spec.has("successPolicy") && !now.is("SuccessCriteriaMet") && now.is("Complete"),
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>, held: &Job<'_>) {
    let (start, end) = (now.status.at("startTime"), now.status.at("completionTime"));
    let path = path.child("completionTime");
    let start_changed = changed(now, held, "startTime");
    let end_changed = changed(now, held, "completionTime");
    if now.is("Complete") != held.is("Complete") || end_changed {
        if !end.is_null() && !now.is("Complete") {
            errors.invalid(
                &path,
                end.clone(),
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
        if end.is_null() && now.is("Complete") {
            errors.required(&path, "completionTime is required for Complete jobs");
        }
    }
    let time = |v: &Value| v.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    if let (Some(start), Some(finish)) = (time(start), time(end))
        && (start_changed || end_changed)
        && finish < start
    {
        errors.invalid(&path, end.clone(), "must be equal to or after `startTime`");
    }
}

fn pods_of_finished(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>, held: &Job<'_>) {
    let finish_changed = now.finished() != held.finished();
    if now.finished() {
        for (key, why) in [
            ("active", "active>0 is invalid for finished job"),
            ("terminating", "terminating>0 is invalid for finished job"),
        ] {
            if (finish_changed || changed(now, held, key)) && now.count(key) > 0 {
                errors.invalid(&path.child(key), now.count(key), why);
            }
        }
        let empty = now.spec.flag("suspend") && now.spec.int("completions") == Some(0);
        let start_changed = changed(now, held, "startTime");
        if (finish_changed || start_changed) && !empty && !now.status.has("startTime") {
            errors.required(&path.child("startTime"), "startTime is required for finished job");
        }
        let pods = now.status.at("uncountedTerminatedPods");
        let any = ["succeeded", "failed"]
            .iter()
            .any(|list| !pods.list(list).is_empty());
        if any && (finish_changed || changed(now, held, "uncountedTerminatedPods")) {
            errors.invalid(
                &path.child("uncountedTerminatedPods"),
                pods.clone(),
                "must be empty for finished job",
            );
        }
    }
    let ready_changed = changed(now, held, "ready") || changed(now, held, "active");
    if ready_changed && now.status.has("ready") && now.count("ready") > now.count("active") {
        errors.invalid(
            &path.child("ready"),
            now.count("ready"),
            "cannot set more ready pods than active",
        );
    }
}

fn index_lists(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>, held: &Job<'_>) {
    let completions = now.spec.int("completions");
    let per_index = now.spec.has("backoffLimitPerIndex");
    let indexed = now.spec.text("completionMode") == "Indexed";
    let (completed_path, failed_path) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let completed = now.status.text("completedIndexes");
    let failed = now.status.at("failedIndexes").as_str();
    let (completed_changed, failed_changed) = (
        changed(now, held, "completedIndexes"),
        changed(now, held, "failedIndexes"),
    );
    if completed_changed {
        if let Some(Err(why)) = completions.map(|c| indexes(completed, c)) {
            errors.invalid(
                &completed_path,
                completed,
                format!("error parsing completedIndexes: {why}"),
            );
        }
        if !completed.is_empty() && !indexed {
            errors.invalid(
                &completed_path,
                completed,
                "cannot set non-empty completedIndexes when non-indexed completion mode",
            );
        }
    }
    let Some(failed) = failed else { return };
    if failed_changed {
        if per_index && let Some(Err(why)) = completions.map(|c| indexes(failed, c)) {
            errors.invalid(
                &failed_path,
                failed,
                format!("error parsing failedIndexes: {why}"),
            );
        }
        if !per_index {
            errors.invalid(
                &failed_path,
                failed,
                "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            );
        }
    }
    if (completed_changed || failed_changed)
        && let Some(completions) = completions
        && let Some(index) = overlap(completed, failed, completions)
    {
        errors.invalid(
            &failed_path,
            failed,
            format!("failedIndexes and completedIndexes overlap at index: {index}"),
        );
    }
}

fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let all = |text: &str| -> Vec<(i64, i64)> {
        text.split(',')
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let failed = all(failed);
    all(completed)
        .into_iter()
        .flat_map(|c| failed.iter().map(move |f| (c, *f)))
        .find(|((cx, cy), (fx, fy))| cx <= fy && fx <= cy)
        .map(|((cx, _), (fx, _))| cx.max(fx))
}

fn transitions(errors: &mut FieldErrors, path: &Path<'_>, now: &Job<'_>, held: &Job<'_>) {
    let conditions = path.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if held.is(kind) && !now.is(kind) {
            errors.invalid(
                &conditions,
                BadValue::Omitted,
                format!("cannot disable the terminal {kind}=True condition"),
            );
        }
    }
    if now.count("failed") < held.count("failed") {
        errors.invalid(
            &path.child("failed"),
            now.count("failed"),
            "cannot decrease the failed counter",
        );
    }
    // A job of equal parallelism and completions can be scaled down.
    let elastic = now.spec.text("completionMode") == "Indexed"
        && now.spec.int("completions") == now.spec.int("parallelism");
    if !elastic && now.count("succeeded") < held.count("succeeded") {
        errors.invalid(
            &path.child("succeeded"),
            now.count("succeeded"),
            "cannot decrease the succeeded counter",
        );
    }
    let (end, held_end) = (now.status.at("completionTime"), held.status.at("completionTime"));
    if !end.is_null() && !held_end.is_null() && end != held_end {
        errors.invalid(&path.child("completionTime"), end.clone(), "field is immutable");
    }
    let (start, held_start) = (now.status.at("startTime"), held.status.at("startTime"));
    let resumed = held.is("Suspended")
        && now
            .status
            .list("conditions")
            .iter()
            .any(|c| c.text("type") == "Suspended" && c.text("status") == "False");
    if !held_start.is_null() && start != held_start && !now.spec.flag("suspend") && !resumed {
        errors.invalid(
            &path.child("startTime"),
            start.clone(),
            "field is immutable for unsuspended job once set",
        );
    }
    if held.is("SuccessCriteriaMet") && !now.is("SuccessCriteriaMet") {
        errors.invalid(
            &conditions,
            BadValue::Omitted,
            "cannot disable the SuccessCriteriaMet=True condition",
        );
    }
    if held.is("Complete") && !held.is("SuccessCriteriaMet") && now.is("SuccessCriteriaMet") {
        errors.invalid(
            &conditions,
            BadValue::Omitted,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}
