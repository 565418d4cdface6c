//! The two strategies, and scaling in the middle of a rollout; pure.

use super::{
    annotations,
    plan::Pass,
    sets::{self, actual, asked, available},
};
use crate::shared::uid;
use k8s_openapi::api::apps::v1::ReplicaSet;
use std::{cmp::Reverse, sync::Arc};

impl Pass<'_> {
    /// Rolling update: up within the surge, down within what may be unavailable.
    pub(super) fn roll(&mut self) {
        self.create_new();
        let Some(new) = self.new.clone() else { return };
        // What was just planned to be created has its size already.
        if self.plan.create.is_none() && self.grow_new(&new) {
            return;
        }
        if self.shrink_old() {
            return;
        }
        if self.is_complete_before() {
            self.clean_up();
        }
    }

    fn grow_new(&mut self, new: &Arc<ReplicaSet>) -> bool {
        let size = match asked(new).cmp(&self.limits.replicas) {
            std::cmp::Ordering::Equal => return false,
            std::cmp::Ordering::Greater => self.limits.replicas,
            std::cmp::Ordering::Less => self.replicas_of_new(asked(new)),
        };
        self.resize(new, size, false)
    }

    /// Takes pods away from old ReplicaSets: first those that are not available anyway, then as many available ones
    /// as the rest can do without.
    fn shrink_old(&mut self) -> bool {
        let mut old = self.active_old();
        if old.is_empty() {
            return false;
        }
        let min_available = self.limits.min_available();
        let new_unavailable = self.new.as_ref().map_or(0, |n| asked(n) - available(n));
        let most = sets::total(self.all(), asked) - min_available - new_unavailable;
        if most <= 0 {
            return false;
        }
        let mut shrunk = 0;
        for set in &mut old {
            let useless = (asked(set) - available(set)).min(most - shrunk);
            if shrunk >= most || useless <= 0 {
                continue;
            }
            shrunk += useless;
            let size = asked(set) - useless;
            self.resize(set, size, false);
            Arc::make_mut(set).spec.get_or_insert_default().replicas = Some(size);
        }
        // Pods that are already asked to go count no more, though their ReplicaSet may not have said so yet.
        let spare = sets::total(self.all(), |s| available(s).min(asked(s))) - min_available;
        let mut taken = 0;
        for set in &old {
            let count = asked(set).min(spare - taken).min(most - shrunk - taken);
            if count <= 0 {
                continue;
            }
            taken += count;
            self.resize(set, asked(set) - count, false);
        }
        shrunk + taken > 0
    }

    /// Recreate: everything old goes before anything new comes.
    pub(super) fn recreate(&mut self) {
        let mut scaled = false;
        for set in self.active_old() {
            scaled |= self.resize(&set, 0, false);
        }
        if scaled || self.old_pods_live() {
            return;
        }
        if self.new.is_none() {
            self.create_new();
        } else if let Some(new) = self.new.clone() {
            self.resize(&new, self.limits.replicas, false);
        }
        if self.is_complete_before() {
            self.clean_up();
        }
    }

    fn old_pods_live(&self) -> bool {
        let new = self.new.as_ref().map_or("", |n| uid(&n.metadata));
        sets::total(&self.old, actual) > 0 || self.live_pods.iter().any(|set| set != new)
    }
}

/// Spreads a change of the Deployment's size over its active ReplicaSets in proportion to their sizes.
pub(super) fn scale_in_proportion(pass: &mut Pass<'_>) {
    let mut active: Vec<Arc<ReplicaSet>> = pass.all().filter(|s| asked(s) > 0).cloned().collect();
    let allowed = if pass.limits.replicas > 0 {
        pass.limits.max_total()
    } else {
        0
    };
    let to_add = allowed - sets::total(&active, asked);
    let created = |s: &Arc<ReplicaSet>| s.metadata.creation_timestamp.as_ref().map(|t| t.0);
    // Largest first; of equals, grow the newest and shrink the oldest first.
    if to_add > 0 {
        active.sort_by_key(|s| (Reverse(asked(s)), Reverse(created(s))));
    } else if to_add < 0 {
        active.sort_by_key(|s| (Reverse(asked(s)), created(s)));
    }
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &active {
        let share = if to_add == 0 {
            0
        } else {
            proportion(pass, set, to_add, added)
        };
        added += share;
        sizes.push(asked(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        // Rounding's remainder goes to the largest.
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in active.iter().zip(sizes) {
        pass.resize(set, size, true);
    }
}

fn proportion(pass: &Pass<'_>, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if to_add == added {
        return 0;
    }
    let (share, left) = (fraction(pass, set), to_add - added);
    if to_add > 0 {
        share.min(left)
    } else {
        share.max(left)
    }
}

/// By how much a ReplicaSet would change if it kept its part of the whole.
fn fraction(pass: &Pass<'_>, set: &ReplicaSet) -> i32 {
    if pass.limits.replicas == 0 {
        return -asked(set);
    }
    let before = annotations::replicas(set, annotations::MAX)
        .filter(|m| *m != 0)
        .or(pass.deployment.status.as_ref().and_then(|s| s.replicas))
        .unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let size = f64::from(asked(set)) * f64::from(pass.limits.max_total()) / f64::from(before);
    size.round() as i32 - asked(set)
}
