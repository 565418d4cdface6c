//! The annotations by which ReplicaSets remember their part in a Deployment's history; pure.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of the Deployment that are not its ReplicaSets' business.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
const HISTORY_MAX: usize = 2000;

pub(super) type Annotations = BTreeMap<String, String>;

pub(super) fn get<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A ReplicaSet's revision; 0 without one, `None` if it can't be read.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    get(&set.metadata, REVISION).map_or(Some(0), |r| r.parse().ok())
}

/// A number of replicas kept in an annotation.
pub(super) fn replicas(set: &ReplicaSet, key: &str) -> Option<i32> {
    get(&set.metadata, key)?.parse().ok().filter(|n| *n >= 0)
}

/// What is to be set so that `set` serves `deployment` as revision `revision_wanted`.
pub(super) fn for_new_set(
    deployment: &Deployment,
    current: Option<&Annotations>,
    revision_wanted: i64,
) -> Annotations {
    let mut changes = Annotations::new();
    let has = |key: &str| current.and_then(|a| a.get(key));
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) && has(key) != Some(value) {
            changes.insert(key.clone(), value.clone());
        }
    }
    let old = has(REVISION);
    let old_number = match old.map(|o| o.parse::<i64>()) {
        None => 0,
        Some(Ok(n)) => n,
        Some(Err(_)) => return changes,
    };
    if old_number < revision_wanted {
        changes.insert(REVISION.into(), revision_wanted.to_string());
        if let Some(old) = old {
            changes.insert(
                HISTORY.into(),
                with_history(has(HISTORY).map_or("", String::as_str), old),
            );
        }
    }
    changes
}

/// The history with one more revision, the oldest dropped as long as it is too long.
fn with_history(history: &str, revision: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    revisions.push(revision);
    let length = |r: &[&str]| r.iter().map(|r| r.len() + 1).sum::<usize>();
    while revisions.len() > 1 && length(&revisions) > HISTORY_MAX + 1 {
        revisions.remove(0);
    }
    revisions.join(",")
}

/// The annotations that record what the Deployment wanted when it last scaled a ReplicaSet.
pub(super) fn for_scale(desired: i32, max: i32) -> Annotations {
    Annotations::from([
        (DESIRED.into(), desired.to_string()),
        (MAX.into(), max.to_string()),
    ])
}
