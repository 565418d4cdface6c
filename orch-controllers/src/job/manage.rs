//! How many pods a Job wants now, and which; pure.

use super::{
    plan::{Pass, count, index_of, is_indexed, replaces_only_failed},
    status,
};
use crate::shared::pods;
use k8s_openapi::api::core::v1::Pod;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Pass<'_> {
    fn wanted(&self) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        match self.spec.completions {
            // Once one has succeeded, no new ones are begun.
            None if self.succeeded > 0 => count(self.active.len()),
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        }
    }

    /// Pods to delete or to make.
    pub(super) fn manage(&mut self, suspended: bool) {
        if suspended {
            self.plan.delete = self.active.clone();
            return;
        }
        let (active, wanted) = (count(self.active.len()), self.wanted());
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        let mut delete = self.superfluous(surplus);
        delete.truncate(self.observed.burst);
        if !delete.is_empty() {
            self.plan.delete = delete;
            return;
        }
        let waiting = if replaces_only_failed(&self.spec) {
            self.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - waiting - active)
            .unwrap_or(0)
            .min(self.observed.burst);
        if missing == 0 {
            return;
        }
        let wait = self.plan.backoff.remaining(self.now);
        if !wait.is_zero() {
            return self.check_in(wait);
        }
        self.plan.create = if is_indexed(&self.spec) {
            self.free_indexes(missing)
        } else {
            vec![None; missing]
        };
    }

    /// At least `surplus` active pods to delete: doubles and pods without a place first, then the least worthy.
    fn superfluous(&self, surplus: usize) -> Vec<Arc<Pod>> {
        let (mut go, mut stay) = (Vec::new(), self.active.clone());
        pods::sort_for_deletion(&mut stay, &[], self.now);
        if is_indexed(&self.spec) {
            let mut last: BTreeMap<i32, usize> = BTreeMap::new();
            for (at, pod) in stay.iter().enumerate() {
                if let Some(index) = index_of(pod).filter(|_| self.has_place(pod)) {
                    last.insert(index, at);
                }
            }
            let keep: BTreeSet<usize> = last.into_values().collect();
            let all = std::mem::take(&mut stay);
            for (at, pod) in all.into_iter().enumerate() {
                if keep.contains(&at) {
                    stay.push(pod);
                } else {
                    go.push(pod);
                }
            }
        }
        let more = surplus.saturating_sub(go.len());
        go.extend(stay.into_iter().take(more));
        go
    }

    fn free_indexes(&self, missing: usize) -> Vec<Option<i32>> {
        let mut taken: BTreeSet<i32> = self.active.iter().filter_map(|p| index_of(p)).collect();
        if replaces_only_failed(&self.spec) {
            taken.extend(
                self.observed
                    .pods
                    .iter()
                    .filter(|p| pods::is_terminating(p))
                    .filter_map(|p| index_of(p)),
            );
        }
        (0..self.spec.completions.unwrap_or(0))
            .filter(|i| !taken.contains(i) && !self.done.contains(*i))
            .take(missing)
            .map(Some)
            .collect()
    }

    pub(super) fn note_suspension(&mut self, suspended: bool) {
        let (value, reason, message) = if suspended {
            ("True", "JobSuspended", "Job suspended")
        } else {
            ("False", "JobResumed", "Job resumed")
        };
        if status::ensure(
            &mut self.plan.status,
            "Suspended",
            value,
            reason,
            message,
            self.now,
        ) {
            if suspended {
                self.plan.status.start_time = None;
                self.plan.events.push(("Suspended", message));
            } else {
                self.plan.status.start_time = status::time(self.now);
                self.plan.events.push(("Resumed", message));
            }
        }
    }
}
