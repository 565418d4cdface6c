use super::{
    plan::*,
    policy::{Backoff, Verdict, judge},
    status,
};
use crate::shared::text;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + s).unwrap()
}

/// A world in which plans are applied and pods end as told.
struct World {
    job: Job,
    pods: Vec<Pod>,
    backoff: Backoff,
    clock: i64,
    serial: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut value = json!({"metadata": {"name": "j", "namespace": "n", "uid": "j"},
            "spec": {"parallelism": 2, "completions": 4, "backoffLimit": 3, "template": {"spec": {"containers": []}}}});
        orch_core::testing::merge_patch(&mut value, &json!({"spec": spec}));
        Self {
            job: serde_json::from_value(value).unwrap(),
            pods: Vec::new(),
            backoff: Backoff::default(),
            clock: 0,
            serial: 0,
        }
    }

    /// One whole pass: plan, pods, status, finalizers, status again.
    fn step(&mut self) -> Option<Duration> {
        let observed = Observed {
            job: Arc::new(self.job.clone()),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            released: BTreeSet::new(),
            backoff: self.backoff.clone(),
            burst: 500,
        };
        let mut plan = plan(&observed, at(self.clock));
        let named = |list: &[Arc<Pod>]| {
            list.iter()
                .map(|p| text(&p.metadata.uid).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let (deleted, released) = (named(&plan.delete), named(&plan.release));
        // A deleted pod ends at once and is seen as failed in the next pass.
        for pod in self
            .pods
            .iter_mut()
            .filter(|p| deleted.contains(text(&p.metadata.uid)))
        {
            pod.metadata.deletion_timestamp = status::time(at(self.clock));
            pod.status.get_or_insert_default().phase = Some("Failed".into());
        }
        for index in &plan.create {
            self.serial += 1;
            let mut pod = Pod::default();
            pod.metadata.uid = Some(format!("u{}", self.serial));
            pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
            pod.metadata.annotations = index.map(|i| [(INDEX.to_string(), i.to_string())].into());
            pod.metadata.creation_timestamp = status::time(at(self.clock));
            pod.status.get_or_insert_default().phase = Some("Running".into());
            self.pods.push(pod);
        }
        for pod in self
            .pods
            .iter_mut()
            .filter(|p| released.contains(text(&p.metadata.uid)))
        {
            pod.metadata.finalizers = None;
            plan.tracked.remove(text(&pod.metadata.uid));
        }
        self.pods
            .retain(|p| p.metadata.finalizers.is_some() || p.metadata.deletion_timestamp.is_none());
        let indexed = is_indexed(self.job.spec.as_ref().unwrap());
        status::settle(&mut plan.status, &plan.tracked, indexed);
        if let Some(end) = &plan.end {
            status::finish(&mut plan.status, end, at(self.clock));
        }
        self.job.status = Some(plan.status);
        self.backoff = plan.backoff;
        self.clock += 1;
        plan.next_check
    }

    fn running(&self) -> Vec<usize> {
        let runs = |p: &Pod| p.status.as_ref().unwrap().phase.as_deref() == Some("Running");
        (0..self.pods.len()).filter(|n| runs(&self.pods[*n])).collect()
    }

    fn end(&mut self, pod: usize, phase: &str) {
        let finished = status::time(at(self.clock)).unwrap();
        let exit = i32::from(phase == "Failed") * 42;
        self.pods[pod].status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [{"name": "c", "ready": false,
            "restartCount": 0, "image": "", "imageID": "", "state": {"terminated": {"exitCode": exit, "finishedAt": finished}}}]})).unwrap();
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn ended(&self) -> Option<String> {
        let status = self.status();
        let end = status
            .conditions
            .iter()
            .flatten()
            .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed"))?;
        Some(format!("{}/{}", end.type_, text(&end.reason)))
    }
}

#[test]
fn runs_to_completion() {
    let mut world = World::new(json!({}));
    world.step();
    assert_eq!(world.running().len(), 2);
    assert_eq!(world.status().active, Some(2));
    for _ in 0..4 {
        let next = world.running()[0];
        world.end(next, "Succeeded");
        world.step();
    }
    assert_eq!(world.status().succeeded, Some(4));
    assert_eq!(world.ended().as_deref(), Some("Complete/CompletionsReached"));
    assert_eq!(
        (world.pods.len(), world.running().len()),
        (4, 0),
        "never more than asked for"
    );
    let status = world.status();
    assert!(status.completion_time.is_some() && status.active.is_none());
    assert!(
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "SuccessCriteriaMet")
    );
}

#[test]
fn failures_back_off_and_end_the_job() {
    let mut world = World::new(json!({"parallelism": 1, "backoffLimit": 2}));
    world.step();
    for expected in [10, 20] {
        let pod = world.running()[0];
        world.end(pod, "Failed");
        let wait = world.step().expect("a wait");
        assert!(
            wait <= Duration::from_secs(expected) && wait > Duration::from_secs(expected / 2),
            "{wait:?}"
        );
        assert!(world.running().is_empty());
        world.clock += i64::try_from(expected).unwrap();
        world.step();
        assert_eq!(world.running().len(), 1);
    }
    let pod = world.running()[0];
    world.end(pod, "Failed");
    world.step();
    world.step();
    assert_eq!(world.ended().as_deref(), Some("Failed/BackoffLimitExceeded"));
    assert_eq!(world.status().failed, Some(3));
}

#[test]
fn the_deadline_kills_and_suspension_stops() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30}));
    assert_eq!(world.step(), Some(Duration::from_secs(30)));
    world.clock = 31;
    world.step();
    world.step();
    assert_eq!(world.ended().as_deref(), Some("Failed/DeadlineExceeded"));
    assert!(world.running().is_empty());

    let mut world = World::new(json!({}));
    world.step();
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.step();
    world.step();
    assert!(world.running().is_empty());
    let status = world.status();
    assert!(
        status::condition(&status, "Suspended").is_some_and(|c| c.status == "True")
            && status.start_time.is_none()
    );
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.clock += 60;
    world.step();
    assert_eq!(world.running().len(), 2);
}

#[test]
fn indexed_jobs_fill_their_indexes() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    world.step();
    let index = |p: &Pod| p.metadata.annotations.as_ref().unwrap()[INDEX].clone();
    assert_eq!(world.pods.iter().map(index).collect::<Vec<_>>(), ["0", "1", "2"]);
    world.end(0, "Succeeded");
    world.end(2, "Succeeded");
    world.end(1, "Failed");
    world.clock += 60;
    world.step();
    assert_eq!(text(&world.status().completed_indexes), "0,2");
    let again = world.running();
    assert_eq!(
        again.iter().map(|n| index(&world.pods[*n])).collect::<Vec<_>>(),
        ["1"]
    );
    world.end(again[0], "Succeeded");
    world.step();
    assert_eq!(text(&world.status().completed_indexes), "0-2");
    assert_eq!(world.ended().as_deref(), Some("Complete/CompletionsReached"));
}

#[test]
fn failure_policies() {
    let rule = |action: &str, code: i32| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [code]}}]});
    let mut world = World::new(json!({"podFailurePolicy": rule("FailJob", 42)}));
    world.step();
    world.end(0, "Failed");
    world.step();
    world.step();
    assert_eq!(world.ended().as_deref(), Some("Failed/PodFailurePolicy"));
    let mut world = World::new(json!({"podFailurePolicy": rule("Ignore", 42), "backoffLimit": 0}));
    world.step();
    world.end(0, "Failed");
    world.step();
    assert_eq!((world.ended(), world.status().failed), (None, None));
    let pod: Pod = serde_json::from_value(
        json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}),
    )
    .unwrap();
    let policy = serde_json::from_value(json!({"rules": [{"action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}))
    .unwrap();
    assert_eq!(judge(Some(&policy), &pod), Verdict::Ignore);
    assert_eq!(judge(None, &pod), Verdict::Count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// However pods end, each end is counted once, parallelism is kept, and the Job ends.
    #[test]
    fn every_end_is_counted_once(
        parallelism in 1i32..5, completions in 1i32..8, limit in 0i32..4, indexed in any::<bool>(),
        ends in proptest::collection::vec((0usize..10, any::<bool>()), 60),
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut world = World::new(json!({"parallelism": parallelism, "completions": completions, "backoffLimit": limit, "completionMode": mode}));
        let (mut ok, mut bad) = (0, 0);
        for (pick, success) in ends {
            world.clock += 700;
            world.step();
            let running = world.running();
            prop_assert!(running.len() <= usize::try_from(parallelism).unwrap());
            if running.is_empty() {
                break;
            }
            world.end(running[pick % running.len()], if success { "Succeeded" } else { "Failed" });
            if success { ok += 1 } else { bad += 1 }
        }
        for _ in 0..3 { world.step(); }
        let status = world.status();
        if bad > limit {
            prop_assert_eq!(world.ended(), Some("Failed/BackoffLimitExceeded".to_string()));
        } else {
            prop_assert_eq!(world.ended(), Some("Complete/CompletionsReached".to_string()));
            prop_assert_eq!(status.succeeded.unwrap_or(0), completions);
            prop_assert_eq!(ok, completions);
            prop_assert_eq!(status.failed.unwrap_or(0), bad);
        }
        prop_assert!(world.pods.iter().all(|p| p.metadata.finalizers.is_none()));
    }
}
