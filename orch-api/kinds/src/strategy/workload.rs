//! Jobs: the selector that they get.

use super::set_generation;
use crate::json::{Json, JsonMut, empty};
use serde_json::Value;

pub(super) fn create_job(job: &mut Value) {
    if !job.at("spec").flag("manualSelector") {
        generate_selector(job);
    }
    job.set("status", empty());
    set_generation(job, 1);
}

/// Labels the template with the job's name and UID and selects by the UID. Labels that the user set stay; validation
/// refuses wrong ones.
fn generate_selector(job: &mut Value) {
    let meta = job.at("metadata");
    let (name, uid) = (meta.text("name").to_owned(), meta.text("uid").to_owned());
    let Some(spec) = job.ensure("spec") else { return };
    if let Some(labels) = spec
        .ensure("template")
        .and_then(|t| t.ensure("metadata"))
        .and_then(|m| m.ensure("labels"))
    {
        for (key, value) in [
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("batch.kubernetes.io/controller-uid", &uid),
        ] {
            labels.default(key, value.as_str());
        }
    }
    if let Some(labels) = spec.ensure("selector").and_then(|s| s.ensure("matchLabels")) {
        labels.default("batch.kubernetes.io/controller-uid", uid);
    }
}
