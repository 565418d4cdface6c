//! Reading a Deployment's parameters and its ReplicaSets; pure.

use super::POD_TEMPLATE_HASH;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use orch_core::{
    controller::Error,
    intstr::{Rounding, scaled_value},
};
use std::{borrow::Cow, sync::Arc};

/// A Deployment's numbers, defaulted and resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) rolling: bool,
    pub(super) max_surge: i32,
    pub(super) max_unavailable: i32,
}

impl Limits {
    pub(super) fn of(spec: &DeploymentSpec) -> Result<Self, Error> {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.clone().unwrap_or_default();
        let rolling = match strategy.type_.as_deref() {
            None | Some("" | "RollingUpdate") => true,
            Some("Recreate") => false,
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "unexpected deployment strategy type: {other}"
                )));
            }
        };
        if !rolling {
            return Ok(Self {
                replicas,
                rolling,
                max_surge: 0,
                max_unavailable: 0,
            });
        }
        let update = strategy.rolling_update.unwrap_or_default();
        let default = || IntOrString::String("25%".into());
        let resolve = |value: Option<IntOrString>, rounding| {
            scaled_value(&value.unwrap_or_else(default), replicas, rounding)
                .map_err(|e| Error::Invalid(e.to_string()))
        };
        let surge = resolve(update.max_surge, Rounding::Up)?;
        let mut unavailable = resolve(update.max_unavailable, Rounding::Down)?;
        if surge == 0 && unavailable == 0 {
            // Validation refuses two zeros, but percentages may round down to them; then something must give.
            unavailable = 1;
        }
        let max_unavailable = unavailable.min(replicas);
        Ok(Self {
            replicas,
            rolling,
            max_surge: surge,
            max_unavailable,
        })
    }

    /// The least number of pods that must be available during a rollout.
    pub(super) fn min_available(self) -> i32 {
        self.replicas - self.max_unavailable
    }
    /// The largest number of pods during a rollout.
    pub(super) fn max_total(self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }
}

/// The pods a ReplicaSet is asked for.
pub(super) fn asked(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}
/// The pods a ReplicaSet has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}
pub(super) fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
}
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|s| s.available_replicas)
        .unwrap_or(0)
}

pub(super) fn total<'a>(
    sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>,
    of: fn(&ReplicaSet) -> i32,
) -> i32 {
    sets.into_iter().map(|s| of(s)).fold(0, i32::saturating_add)
}

fn without_hash(template: &PodTemplateSpec) -> Cow<'_, PodTemplateSpec> {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let strip_labels = labels.is_some_and(|l| l.is_empty() || l.contains_key(POD_TEMPLATE_HASH));
    let strip_meta = template.metadata.is_some();
    if !strip_labels && !strip_meta {
        return Cow::Borrowed(template);
    }
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(POD_TEMPLATE_HASH);
        }
        // An empty map and none mean the same.
        meta.labels = meta.labels.take().filter(|l| !l.is_empty());
        meta.annotations = meta.annotations.take().filter(|a| !a.is_empty());
        meta.creation_timestamp = None;
        if *meta == k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default() {
            template.metadata = None;
        }
    }
    Cow::Owned(template)
}

/// Whether two templates make the same pods.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

/// The position of the ReplicaSet of the Deployment's template; the oldest, if there are several.
pub(super) fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<usize> {
    let template = &deployment.spec.as_ref()?.template;
    let matches = |s: &Arc<ReplicaSet>| {
        s.spec
            .as_ref()
            .and_then(|s| s.template.as_ref())
            .is_some_and(|t| same_template(t, template))
    };
    sets.iter().position(matches)
}

/// The name suffix and label value of a template: FNV-1a over its JSON and the number of collisions so far, spelt in
/// the alphabet of generated names.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    feed(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        feed(&u64::from(collisions.unsigned_abs()).to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()]))
        .collect()
}
