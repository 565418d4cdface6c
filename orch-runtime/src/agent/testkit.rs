//! Builders for this module's tests.

use super::{
    step::PodState,
    view::{IMAGE_ASKED, PodView},
};
use crate::runtime::{
    ContainerId, ContainerPhase, ContainerState, Exit, ExitReason, PodIdentity, SandboxId, SandboxState,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

pub(crate) fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn running(since: i64) -> ContainerPhase {
    ContainerPhase::Running {
        started_at: at(since),
        pid: None,
    }
}

pub(crate) fn exited(code: i32, finished: i64) -> ContainerPhase {
    ContainerPhase::Exited(Exit {
        code,
        reason: if code == 0 {
            ExitReason::Completed
        } else {
            ExitReason::Error
        },
        message: String::new(),
        started_at: Some(at(finished - 1)),
        finished_at: at(finished),
    })
}

pub(crate) fn container(name: &str, attempt: u32, phase: ContainerPhase) -> ContainerState {
    ContainerState {
        id: ContainerId(format!("{name}-{attempt}")),
        sandbox: SandboxId("s0".into()),
        name: name.into(),
        attempt,
        image: "i".into(),
        image_id: "sha256:1".into(),
        labels: [].into(),
        annotations: [(IMAGE_ASKED.to_owned(), "i".to_owned())].into(),
        created_at: at(i64::from(attempt)),
        phase,
        log_path: "/log".into(),
    }
}

pub(crate) fn sandbox(ready: bool) -> SandboxState {
    SandboxState {
        id: SandboxId("s0".into()),
        pod: PodIdentity {
            namespace: "default".into(),
            name: "p".into(),
            uid: "u".into(),
            attempt: 0,
        },
        ready,
        created_at: at(0),
        netns: Some("/netns".into()),
        ips: vec![],
        labels: [].into(),
        annotations: [].into(),
    }
}

/// A pod with a sandbox, network and volumes, and these containers.
pub(crate) fn up(containers: Vec<ContainerState>) -> PodState {
    PodState {
        view: PodView::of("u", &[sandbox(true)], &containers),
        ips: vec!["10.0.0.5".parse().unwrap()],
        volumes_ready: true,
        volumes_exist: true,
        start_time: Some(at(0)),
        ..PodState::default()
    }
}
