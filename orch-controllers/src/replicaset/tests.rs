use super::plan::*;
use crate::shared::text;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use orch_core::testing::builders::pod;
use proptest::prelude::*;
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn observed(replicas: i32, active: Vec<Pod>) -> Observed {
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {"replicas": replicas, "minReadySeconds": 10, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web", "tier": "x"}}}},
    }))
    .unwrap();
    let active = active.into_iter().map(Arc::new).collect();
    Observed {
        set: Arc::new(set),
        active,
        terminating: Vec::new(),
        related: Vec::new(),
    }
}

fn some_pods(count: usize) -> Vec<Pod> {
    (0..count)
        .map(|n| pod("n", &format!("p{n}")).label("app", "web").ready().build())
        .collect()
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).unwrap()
}

#[test]
fn scales_to_what_is_asked() {
    for (replicas, pods, expected) in [
        (3, 0, "create 3"),
        (3, 3, "keep"),
        (1, 3, "delete 2"),
        (0, 0, "keep"),
        (900, 0, "create 500"),
    ] {
        let got = match scale(&observed(replicas, some_pods(pods)), at(100), 500) {
            Scale::Keep => "keep".to_string(),
            Scale::Create(n) => format!("create {n}"),
            Scale::Delete(pods) => format!("delete {}", pods.len()),
        };
        assert_eq!(got, expected, "{replicas} {pods}");
    }
    let mut deleting = observed(3, Vec::new());
    Arc::make_mut(&mut deleting.set).metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    assert_eq!(scale(&deleting, at(100), 500), Scale::Keep);
}

#[test]
fn the_unready_go_first() {
    let mut pods = some_pods(2);
    pods.push(pod("n", "bad").node("x").phase("Running").build());
    pods.iter_mut()
        .for_each(|p| p.spec.as_mut().unwrap().node_name = Some("x".into()));
    match scale(&observed(2, pods), at(100), 500) {
        Scale::Delete(pods) => assert_eq!(text(&pods[0].metadata.name), "bad"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_counts_and_reports_failure() {
    let mut o = observed(3, some_pods(2));
    let late = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(95));
    Arc::make_mut(&mut o.active[1])
        .status
        .as_mut()
        .unwrap()
        .conditions
        .as_mut()
        .unwrap()[0]
        .last_transition_time = Some(late);
    let s = status(&o, Some("quota"), at(100));
    assert_eq!(
        (
            s.replicas,
            s.ready_replicas,
            s.available_replicas,
            s.fully_labeled_replicas
        ),
        (2, Some(2), Some(1), None)
    );
    assert_eq!(s.observed_generation, Some(3));
    let condition = &s.conditions.as_ref().unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_deref()),
        ("ReplicaFailure", Some("FailedCreate"))
    );
    assert_eq!(next_check(&o, at(100)), Some(Duration::from_secs(5)));
    Arc::make_mut(&mut o.set).status = Some(s);
    assert_eq!(status(&o, None, at(100)).conditions, None);
}

proptest! {
    #[test]
    fn one_pass_reaches_the_goal(replicas in 0i32..40, pods in 0usize..40) {
        let left = match scale(&observed(replicas, some_pods(pods)), at(100), 500) {
            Scale::Keep => pods,
            Scale::Create(n) => pods + n,
            Scale::Delete(gone) => pods - gone.len(),
        };
        prop_assert_eq!(left as i32, replicas);
    }
}
