use super::{annotations, plan::*, sets, sets::Limits, status::condition};
use crate::shared::text;
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + s).unwrap()
}

fn deployment(replicas: i32, image: &str, more: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    });
    orch_core::testing::merge_patch(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

/// A world in which plans are applied and ReplicaSets behave.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    clock: i64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            clock: 0,
        }
    }

    fn step(&mut self) -> Plan {
        let observed = Observed {
            deployment: Arc::new(self.deployment.clone()),
            sets: self.sets.iter().cloned().map(Arc::new).collect(),
            live_pods: self
                .sets
                .iter()
                .filter(|s| sets::actual(s) > 0)
                .map(|s| text(&s.metadata.uid).into())
                .collect(),
        };
        let plan = plan(&observed, at(self.clock)).unwrap();
        self.clock += 1;
        if let Some(set) = &plan.create {
            let mut set = set.clone();
            set.metadata.uid = Some(format!("u{}", self.clock));
            set.metadata.generation = Some(1);
            set.metadata.creation_timestamp = Some(Time(at(self.clock)));
            self.sets.push(set);
        }
        for change in &plan.changes {
            let set = self
                .sets
                .iter_mut()
                .find(|s| s.metadata.uid == change.set.metadata.uid)
                .unwrap();
            set.metadata
                .annotations
                .get_or_insert_default()
                .extend(change.annotations.clone());
            if let Some(replicas) = change.replicas {
                set.spec.as_mut().unwrap().replicas = Some(replicas);
            }
        }
        let gone: Vec<_> = plan.delete.iter().map(|s| s.metadata.uid.clone()).collect();
        self.sets.retain(|s| !gone.contains(&s.metadata.uid));
        if let Some(revision) = &plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(annotations::REVISION.into(), revision.clone());
        }
        self.deployment.status = Some(plan.status.clone());
        plan
    }

    /// Lets up to `steps` pods appear, become available or go, as ReplicaSets make them.
    fn pods(
        &mut self,
        mut pick: impl FnMut(usize) -> usize,
        steps: usize,
        healthy: impl Fn(&ReplicaSet) -> bool,
    ) {
        for _ in 0..steps {
            let count = self.sets.len();
            if count == 0 {
                return;
            }
            let set = &mut self.sets[pick(count)];
            let (asked, ok) = (sets::asked(set), healthy(set));
            let generation = set.metadata.generation;
            let status = set.status.get_or_insert_default();
            status.observed_generation = generation;
            let (has, up) = (status.replicas, status.available_replicas.unwrap_or(0));
            let (has, up) = if has > asked {
                // The unavailable go first.
                (has - 1, up.min(has - 1))
            } else if up < has && ok {
                (has, up + 1)
            } else if has < asked {
                (has + 1, up)
            } else {
                (has, up)
            };
            status.replicas = has;
            status.available_replicas = Some(up);
            status.ready_replicas = Some(up);
        }
    }

    fn settle(&mut self) -> Option<usize> {
        for round in 0..500 {
            let before = (self.sets.clone(), self.deployment.status.clone());
            self.step();
            let mut turn = 0;
            self.pods(
                |n| {
                    turn += 1;
                    turn % n
                },
                40,
                |_| true,
            );
            if before == (self.sets.clone(), self.deployment.status.clone()) {
                return Some(round);
            }
        }
        None
    }

    fn total(&self, of: fn(&ReplicaSet) -> i32) -> i32 {
        self.sets.iter().map(of).sum()
    }
}

fn reason(world: &World, kind: &str) -> String {
    condition(world.deployment.status.as_ref().unwrap(), kind)
        .map(|c| format!("{}/{}", c.status, text(&c.reason)))
        .unwrap_or_default()
}

#[test]
fn the_first_rollout() {
    let mut world = World::new(deployment(3, "v1", json!({})));
    let plan = world.step();
    let set = plan.create.unwrap();
    assert_eq!(sets::asked(&set), 3);
    let hash = set.metadata.labels.as_ref().unwrap()["pod-template-hash"].clone();
    assert_eq!(text(&set.metadata.name), format!("web-{hash}"));
    assert_eq!(
        set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()["pod-template-hash"],
        hash
    );
    let annotations = set.metadata.annotations.unwrap();
    assert_eq!(
        (
            annotations[annotations::REVISION].as_str(),
            annotations[annotations::MAX].as_str()
        ),
        ("1", "4")
    );
    assert_eq!(plan.revision.as_deref(), Some("1"));
    assert_eq!(reason(&world, "Progressing"), "True/NewReplicaSetCreated");
    assert_eq!(reason(&world, "Available"), "False/MinimumReplicasUnavailable");
    world.settle().unwrap();
    assert_eq!(reason(&world, "Progressing"), "True/NewReplicaSetAvailable");
    assert_eq!(reason(&world, "Available"), "True/MinimumReplicasAvailable");
    let status = world.deployment.status.as_ref().unwrap();
    assert_eq!(
        (
            status.replicas,
            status.updated_replicas,
            status.unavailable_replicas
        ),
        (Some(3), Some(3), None)
    );
}

#[test]
fn a_bad_template_halts_with_the_old_pods_serving_and_undo_goes_back() {
    let mut world = World::new(deployment(10, "v1", json!({})));
    world.settle().unwrap();
    let good = world.sets[0].metadata.name.clone();
    world.deployment = Deployment {
        status: world.deployment.status.clone(),
        ..deployment(10, "bad", json!({"metadata": {"generation": 2}}))
    };
    for _ in 0..50 {
        world.step();
        let mut turn = 0;
        world.pods(
            |n| {
                turn += 1;
                turn % n
            },
            10,
            |s| s.metadata.name == good,
        );
    }
    let by = |world: &World, name: &Option<String>| {
        world
            .sets
            .iter()
            .find(|s| s.metadata.name == *name)
            .cloned()
            .unwrap()
    };
    assert_eq!(sets::available(&by(&world, &good)), 8, "10 less 25%");
    assert_eq!(world.total(sets::asked), 13, "10 and 25%");
    world.clock += 700;
    world.step();
    assert_eq!(reason(&world, "Progressing"), "False/ProgressDeadlineExceeded");
    world.deployment = Deployment {
        status: world.deployment.status.clone(),
        ..deployment(10, "v1", json!({"metadata": {"generation": 3}}))
    };
    world.settle().unwrap();
    let back = by(&world, &good);
    assert_eq!((sets::asked(&back), world.total(sets::asked)), (10, 10));
    let annotations = back.metadata.annotations.unwrap();
    assert_eq!(
        (
            annotations[annotations::REVISION].as_str(),
            annotations[annotations::HISTORY].as_str()
        ),
        ("3", "1")
    );
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let strategy = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let mut world = World::new(deployment(4, "v1", strategy.clone()));
    world.settle().unwrap();
    world.deployment = Deployment {
        status: world.deployment.status.clone(),
        ..deployment(4, "v2", strategy)
    };
    let plan = world.step();
    assert!(plan.create.is_none() && plan.changes[0].replicas == Some(0));
    assert!(world.step().create.is_none(), "old pods are still there");
    world.pods(|_| 0, 10, |_| true);
    assert!(world.step().create.is_some());
    world.settle().unwrap();
    assert_eq!((world.total(sets::actual), sets::actual(&world.sets[1])), (4, 4));
}

#[test]
fn paused_deployments_scale_in_proportion_but_do_not_roll() {
    let mut world = World::new(deployment(10, "v1", json!({})));
    world.settle().unwrap();
    world.deployment = Deployment {
        status: world.deployment.status.clone(),
        ..deployment(10, "v2", json!({}))
    };
    world.step();
    let mut turn = 0;
    world.pods(
        |n| {
            turn += 1;
            turn % n
        },
        6,
        |_| true,
    );
    world.step();
    let sizes = |w: &World| w.sets.iter().map(sets::asked).collect::<Vec<_>>();
    let before = sizes(&world);
    assert_eq!(before.iter().sum::<i32>(), 13);
    world.deployment = Deployment {
        status: world.deployment.status.clone(),
        ..deployment(20, "v2", json!({"spec": {"paused": true}}))
    };
    world.step();
    assert_eq!(reason(&world, "Progressing"), "Unknown/DeploymentPaused");
    let after = sizes(&world);
    assert_eq!(
        after.iter().sum::<i32>(),
        25,
        "20 and 25%: {before:?} to {after:?}"
    );
    assert!(
        after.iter().zip(&before).all(|(a, b)| a > b),
        "{before:?} to {after:?}"
    );
    world.deployment.spec.as_mut().unwrap().paused = None;
    world.step();
    assert_eq!(reason(&world, "Progressing"), "Unknown/DeploymentResumed");
    world.settle().unwrap();
    assert_eq!(world.total(sets::asked), 20);
}

#[test]
fn old_sets_are_collected_by_revision_beyond_the_limit() {
    let more = json!({"spec": {"revisionHistoryLimit": 1}});
    let mut world = World::new(deployment(1, "v1", more.clone()));
    for image in ["v1", "v2", "v3", "v4"] {
        world.deployment = Deployment {
            status: world.deployment.status.clone(),
            ..deployment(1, image, more.clone())
        };
        world.settle().unwrap();
    }
    let revisions: Vec<_> = world.sets.iter().filter_map(annotations::revision).collect();
    assert_eq!(revisions, [3, 4]);
}

#[test]
fn the_deadline_is_checked_when_it_passes() {
    let mut world = World::new(deployment(
        1,
        "v1",
        json!({"spec": {"progressDeadlineSeconds": 60}}),
    ));
    world.step();
    let plan = world.step();
    assert_eq!(plan.next_check, Some(Duration::from_secs(60)));
    world.clock += 61;
    world.step();
    assert_eq!(reason(&world, "Progressing"), "False/ProgressDeadlineExceeded");
}

#[test]
fn limits() {
    for (replicas, surge, unavailable, expected) in [
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (4, json!(0), json!("10%"), (0, 1)),
        (3, json!(1), json!(9), (1, 3)),
    ] {
        let strategy = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
        let limits = Limits::of(&deployment(replicas, "i", strategy).spec.unwrap()).unwrap();
        assert_eq!((limits.max_surge, limits.max_unavailable), expected, "{replicas}");
    }
    assert_eq!(
        sets::template_hash(&deployment(1, "i", json!({})).spec.unwrap().template, None)
            .len()
            .clamp(8, 10),
        sets::template_hash(&deployment(1, "i", json!({})).spec.unwrap().template, None).len()
    );
    let template = deployment(1, "i", json!({})).spec.unwrap().template;
    assert_ne!(
        sets::template_hash(&template, None),
        sets::template_hash(&template, Some(1))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever the order in which pods come and go, a rollout keeps its bounds and ends.
    #[test]
    fn rollouts_keep_their_bounds_and_end(
        replicas in 0i32..20, surge in 0i32..5, unavailable in 0i32..5, percent in any::<bool>(),
        picks in proptest::collection::vec(0usize..100, 200), batch in 1usize..6, images in 1usize..4,
    ) {
        let (surge, unavailable) = if percent {
            (json!(format!("{}%", surge * 20)), json!(format!("{}%", unavailable * 20)))
        } else {
            (json!(surge), json!(unavailable))
        };
        let strategy = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
        let mut world = World::new(deployment(replicas, "v0", strategy.clone()));
        prop_assert!(world.settle().is_some());
        let mut picks = picks.into_iter().cycle();
        for image in 1..=images {
            let status = world.deployment.status.clone();
            world.deployment = Deployment { status, ..deployment(replicas, &format!("v{image}"), strategy.clone()) };
            let limits = Limits::of(world.deployment.spec.as_ref().unwrap()).unwrap();
            for _ in 0..15 {
                world.step();
                prop_assert!(world.total(sets::asked) <= limits.max_total().max(replicas));
                world.pods(|n| picks.next().unwrap() % n, batch, |_| true);
                prop_assert!(world.total(sets::available) >= limits.min_available(), "too few available");
            }
        }
        prop_assert!(world.settle().is_some());
        prop_assert_eq!(world.total(sets::asked), replicas);
        prop_assert_eq!(reason(&world, "Progressing"), "True/NewReplicaSetAvailable");
    }
}

#[test]
fn unused_status_type() {
    // A ReplicaSet that reported nothing counts as empty.
    let set = ReplicaSet {
        status: Some(ReplicaSetStatus::default()),
        ..ReplicaSet::default()
    };
    assert_eq!((sets::actual(&set), sets::available(&set)), (0, 0));
}
