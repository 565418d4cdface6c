//! What a namespace in deletion says of its progress; pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use orch_core::GroupVersionResource;
use std::collections::BTreeMap;

/// Type, and reason and message while nothing is wrong.
const CONDITIONS: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What went wrong; the pass is to be repeated.
    pub(super) errors: Vec<String>,
    /// How long what is left may still take.
    pub(super) wait_s: i64,
    discovery: Option<String>,
    content: Vec<String>,
    left: BTreeMap<(String, String), usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Findings {
    pub(super) fn discovery_failed(&mut self, why: &str) {
        self.errors.push(why.into());
        self.discovery = Some(why.into());
    }
    pub(super) fn content_failed(&mut self, why: String) {
        self.errors.push(why.clone());
        self.content.push(why);
    }
    pub(super) fn add(
        &mut self,
        gvr: &GroupVersionResource,
        count: usize,
        finalizers: BTreeMap<String, usize>,
        wait_s: i64,
    ) {
        if count > 0 {
            *self
                .left
                .entry((gvr.resource.clone(), gvr.group.clone()))
                .or_default() += count;
        }
        for (finalizer, count) in finalizers {
            *self.finalizers.entry(finalizer).or_default() += count;
        }
        self.wait_s = self.wait_s.max(wait_s);
    }
    pub(super) fn remaining(&self) -> usize {
        self.left.values().sum()
    }

    /// Reason and message of a condition that is true.
    fn wrong(&self, kind: &str) -> Option<(&'static str, String)> {
        match kind {
            "NamespaceDeletionDiscoveryFailure" => self.discovery.clone().map(|m| ("DiscoveryFailed", m)),
            "NamespaceDeletionContentFailure" if !self.content.is_empty() => {
                let mut all = self.content.clone();
                all.sort();
                let (count, list) = (all.len(), all.join(", "));
                Some((
                    "ContentDeletionFailed",
                    format!("Failed to delete all resource types, {count} remaining: {list}"),
                ))
            }
            "NamespaceContentRemaining" if !self.left.is_empty() => {
                let list: Vec<_> = self
                    .left
                    .iter()
                    .map(|((resource, group), n)| format!("{resource}.{group} has {n} resource instances"))
                    .collect();
                Some((
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", list.join(", ")),
                ))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let list: Vec<_> = self
                    .finalizers
                    .iter()
                    .map(|(f, n)| format!("{f} in {n} resource instances"))
                    .collect();
                let message = format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    list.join(", ")
                );
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        }
    }
}

pub(super) fn status(old: Option<&NamespaceStatus>, findings: &Findings, now: Timestamp) -> NamespaceStatus {
    let mut status = old.cloned().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let time = Timestamp::from_second(now.as_second()).ok().map(Time);
    let conditions = status.conditions.get_or_insert_default();
    for (kind, ok_reason, ok_message) in CONDITIONS {
        let wrong = findings.wrong(kind);
        let value = if wrong.is_some() { "True" } else { "False" };
        let (reason, message) = wrong.unwrap_or((ok_reason, ok_message.into()));
        let new = NamespaceCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: time.clone(),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => conditions.push(new),
            Some(old) => {
                let since = if old.status == new.status {
                    old.last_transition_time.clone()
                } else {
                    time.clone()
                };
                *old = NamespaceCondition {
                    last_transition_time: since,
                    ..new
                };
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_the_findings() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut findings = Findings::default();
        let pods = GroupVersionResource::new("", "v1", "pods");
        findings.add(&pods, 2, BTreeMap::from([("x/y".into(), 1)]), 30);
        let first = status(None, &findings, at(1));
        let get = |s: &NamespaceStatus, kind: &str| {
            let c = s
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == kind)
                .unwrap()
                .clone();
            (
                c.status,
                c.message.unwrap(),
                c.last_transition_time.unwrap().0.as_second(),
            )
        };
        assert_eq!(
            get(&first, "NamespaceContentRemaining"),
            (
                "True".into(),
                "Some resources are remaining: pods. has 2 resource instances".into(),
                1
            )
        );
        assert_eq!(
            get(&first, "NamespaceFinalizersRemaining").1,
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        );
        assert_eq!(get(&first, "NamespaceDeletionContentFailure").0, "False");
        let second = status(Some(&first), &Findings::default(), at(9));
        assert_eq!(
            get(&second, "NamespaceContentRemaining"),
            ("False".into(), "All content successfully removed".into(), 9)
        );
        assert_eq!(get(&second, "NamespaceDeletionContentFailure").2, 1);
    }
}
