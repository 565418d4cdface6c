use super::*;
use crate::{
    agent::{
        step::StartFailure,
        testkit::{at, container, exited, pod, running, sandbox, up},
        view::PodView,
    },
    probe::ProbeKind,
    runtime::ContainerState,
};
use serde_json::{Value, json};

fn compute(pod: &Pod, state: &PodState, old: &PodStatus) -> PodStatus {
    pod_status(&StatusInputs {
        pod,
        state,
        old,
        node_ips: &["192.168.0.1".parse().unwrap()],
        runtime_name: "sim",
        messages: &BTreeMap::new(),
        now: at(100),
    })
}

fn of(pod: &Pod, state: &PodState) -> Value {
    serde_json::to_value(compute(pod, state, &PodStatus::default())).unwrap()
}

fn simple(policy: &str) -> Pod {
    pod(json!({"containers": [{"name": "a", "image": "i"}], "restartPolicy": policy}))
}

fn conditions(status: &Value) -> String {
    let one = |c: &Value| {
        let reason = c["reason"].as_str().map(|r| format!(" {r}")).unwrap_or_default();
        format!(
            "{}={}{reason}",
            c["type"].as_str().unwrap(),
            c["status"].as_str().unwrap()
        )
    };
    status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn a_new_pod_is_pending() {
    let status = of(&simple("Always"), &PodState::default());
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    assert_eq!(
        conditions(&status),
        "PodReadyToStartContainers=False, Initialized=True, Ready=False ContainersNotReady, \
         ContainersReady=False ContainersNotReady, PodScheduled=True"
    );
    assert_eq!(
        status["conditions"][2]["message"],
        "containers with unready status: [a]"
    );
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["hostIP"], "192.168.0.1");
}

#[test]
fn a_running_pod_is_ready() {
    let status = of(&simple("Always"), &up(vec![container("a", 2, running(1))]));
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.0.0.5");
    let c = &status["containerStatuses"][0];
    assert_eq!(
        (&c["ready"], &c["started"], &c["restartCount"]),
        (&json!(true), &json!(true), &json!(2))
    );
    assert_eq!(
        (&c["containerID"], &c["imageID"]),
        (&json!("sim://a-2"), &json!("sha256:1"))
    );
    assert_eq!(
        conditions(&status),
        "PodReadyToStartContainers=True, Initialized=True, Ready=True, ContainersReady=True, PodScheduled=True"
    );
}

#[test]
fn probes_decide_started_and_ready() {
    let probe = json!({"tcpSocket": {"port": 80}});
    let p = pod(
        json!({"containers": [{"name": "a", "image": "i", "startupProbe": probe, "readinessProbe": probe}]}),
    );
    let mut state = up(vec![container("a", 0, running(1))]);
    let ready = |state: &PodState| {
        let status = of(&p, state);
        let c = &status["containerStatuses"][0];
        (c["started"].as_bool().unwrap(), c["ready"].as_bool().unwrap())
    };
    assert_eq!(ready(&state), (false, false));
    state.probes.set(&"a-0".into(), ProbeKind::Readiness, Some(true));
    assert_eq!(ready(&state), (false, false));
    state.probes.set(&"a-0".into(), ProbeKind::Startup, Some(true));
    assert_eq!(ready(&state), (true, true));
    state.probes.set(&"a-0".into(), ProbeKind::Readiness, Some(false));
    assert_eq!(ready(&state), (true, false));
}

#[test]
fn phases() {
    let two = |policy: &str| {
        pod(
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}], "restartPolicy": policy}),
        )
    };
    let (run, ok, bad) = (|| running(1), || exited(0, 5), || exited(1, 5));
    for (policy, a, b, expected) in [
        ("Always", run(), run(), "Running"),
        ("Always", ok(), bad(), "Running"),
        ("OnFailure", ok(), run(), "Running"),
        ("OnFailure", ok(), ok(), "Succeeded"),
        ("OnFailure", ok(), bad(), "Running"),
        ("Never", ok(), bad(), "Failed"),
        ("Never", ok(), ok(), "Succeeded"),
    ] {
        let state = up(vec![container("a", 0, a.clone()), container("b", 0, b.clone())]);
        assert_eq!(
            of(&two(policy), &state)["phase"],
            expected,
            "{policy} {a:?} {b:?}"
        );
    }
    assert_eq!(
        of(&two("Always"), &up(vec![container("a", 0, run())]))["phase"],
        "Pending"
    );
}

#[test]
fn init_containers_and_sidecars_in_the_phase() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always"});
    let p = pod(json!({"initContainers": [sidecar, {"name": "x", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}], "restartPolicy": "Never"}));
    let c = |name: &str, phase| container(name, 0, phase);
    for (list, expected) in [
        (vec![], "Pending"),
        (vec![c("s", running(0)), c("x", running(0))], "Pending"),
        (vec![c("s", running(0)), c("x", exited(1, 1))], "Pending"),
        (vec![c("x", exited(1, 1)), c("s", exited(0, 1))], "Failed"),
        (
            vec![c("s", running(0)), c("x", exited(0, 1)), c("a", running(1))],
            "Running",
        ),
        (
            vec![c("s", running(0)), c("x", exited(0, 1)), c("a", exited(0, 2))],
            "Running",
        ),
        (
            vec![c("s", exited(143, 3)), c("x", exited(0, 1)), c("a", exited(0, 2))],
            "Succeeded",
        ),
    ] {
        let text = format!(
            "{:?}",
            list.iter()
                .map(|c: &ContainerState| (&c.name, &c.phase))
                .collect::<Vec<_>>()
        );
        let status = of(&p, &up(list));
        assert_eq!(status["phase"], expected, "{text}");
        assert_eq!(status["initContainerStatuses"][0]["name"], "s");
    }
    let status = of(&p, &up(vec![c("s", running(0))]));
    assert!(conditions(&status).contains("Initialized=False ContainersNotInitialized"));
    assert_eq!(
        status["conditions"][1]["message"],
        "containers with incomplete status: [x]"
    );
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
}

#[test]
fn crash_loop_waits_with_its_last_end() {
    let p = simple("Always");
    let mut state = up(vec![container("a", 3, exited(2, 50))]);
    let failure = StartFailure {
        reason: "CrashLoopBackOff".into(),
        message: "back-off".into(),
        retry_at: at(200),
    };
    state.failures.insert("a".into(), failure);
    let status = of(&p, &state);
    let c = &status["containerStatuses"][0];
    assert_eq!(status["phase"], "Running");
    assert_eq!(
        c["state"]["waiting"],
        json!({"reason": "CrashLoopBackOff", "message": "back-off"})
    );
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(c["restartCount"], 3);
    // After the restart the previous end stays in view.
    let state = up(vec![
        container("a", 3, exited(2, 50)),
        container("a", 4, running(60)),
    ]);
    let status = of(&p, &state);
    assert_eq!(
        status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        2
    );
    assert_eq!(status["containerStatuses"][0]["restartCount"], 4);
}

#[test]
fn a_bad_image_keeps_the_pod_pending() {
    let mut state = up(vec![]);
    let failure = StartFailure {
        reason: "ErrImagePull".into(),
        message: "no".into(),
        retry_at: at(200),
    };
    state.failures.insert("a".into(), failure);
    let status = of(&simple("Always"), &state);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ErrImagePull"
    );
}

#[test]
fn a_container_that_vanished_has_ended() {
    let p = simple("Always");
    let before = compute(
        &p,
        &up(vec![container("a", 0, running(1))]),
        &PodStatus::default(),
    );
    let after = compute(&p, &up(vec![]), &before);
    let c = &after.container_statuses.as_ref().unwrap()[0];
    assert_eq!(c.restart_count, 1);
    assert_eq!(
        c.last_state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        137
    );
    assert_eq!(after.phase.as_deref(), Some("Running"));
}

#[test]
fn a_deleted_pod_ends_in_a_final_phase_only_when_all_has_ended() {
    let mut p = simple("Always");
    p.metadata.deletion_timestamp = Some(time(at(90)));
    let alive = compute(
        &p,
        &up(vec![container("a", 0, running(1))]),
        &PodStatus::default(),
    );
    assert_eq!(alive.phase.as_deref(), Some("Running"));
    for (code, expected) in [(0, "Succeeded"), (137, "Failed")] {
        let ended = compute(&p, &up(vec![container("a", 0, exited(code, 95))]), &alive);
        assert_eq!(ended.phase.as_deref(), Some(expected));
        assert!(conditions(&serde_json::to_value(&ended).unwrap()).contains("Ready=False Pod"));
        // And it stays.
        let later = compute(&p, &up(vec![]), &ended);
        assert_eq!(later.phase.as_deref(), Some(expected));
    }
    let never = compute(&p, &PodState::default(), &PodStatus::default());
    assert_eq!(never.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_failed_pod_is_running_until_its_containers_have_ended() {
    let p = simple("Always");
    let mut state = up(vec![container("a", 0, running(1))]);
    let before = compute(&p, &state, &PodStatus::default());
    state.failed = Some(("DeadlineExceeded".into(), "too long".into()));
    let killing = compute(&p, &state, &before);
    assert_eq!(
        (killing.phase.as_deref(), killing.reason.as_deref()),
        (Some("Running"), None)
    );
    state.view = PodView::of("u", &[sandbox(false)], &[container("a", 0, exited(0, 95))]);
    let over = compute(&p, &state, &killing);
    assert_eq!(
        (over.phase.as_deref(), over.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn rejected() {
    let failed = Some((
        "OutOfcpu".to_owned(),
        "Node didn't have enough resource".to_owned(),
    ));
    let state = PodState {
        rejected: true,
        failed,
        ..PodState::default()
    };
    let status = of(&simple("Always"), &state);
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("OutOfcpu"))
    );
    assert_eq!(
        status["message"],
        "Pod was rejected: Node didn't have enough resource"
    );
}

#[test]
fn readiness_gates() {
    let mut p = simple("Always");
    let gate = json!([{"conditionType": "example.com/ok"}]);
    p.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(gate).unwrap();
    let state = up(vec![container("a", 0, running(1))]);
    let status = of(&p, &state);
    assert!(conditions(&status).contains("Ready=False ReadinessGatesNotReady, ContainersReady=True"));
    let ok = json!({"conditions": [{"type": "example.com/ok", "status": "True"}]});
    p.status = Some(serde_json::from_value(ok).unwrap());
    assert!(conditions(&of(&p, &state)).contains("Ready=True, ContainersReady=True"));
}

#[test]
fn transition_times_change_with_the_status_only() {
    let p = simple("Always");
    let first = compute(&p, &up(vec![]), &PodStatus::default());
    let inputs_state = up(vec![container("a", 0, running(1))]);
    let later = pod_status(&StatusInputs {
        pod: &p,
        state: &inputs_state,
        old: &first,
        node_ips: &[],
        runtime_name: "sim",
        messages: &BTreeMap::new(),
        now: at(500),
    });
    let at_of = |s: &PodStatus, t: &str| {
        let all = s.conditions.clone().unwrap();
        all.into_iter()
            .find(|c| c.type_ == t)
            .unwrap()
            .last_transition_time
            .unwrap()
            .0
    };
    assert_eq!(at_of(&later, "PodScheduled"), at(100));
    assert_eq!(at_of(&later, "Ready"), at(500));
    assert_eq!(later.start_time, first.start_time);
}

#[test]
fn patches_are_minimal() {
    let p = simple("Always");
    let mut before = compute(&p, &up(vec![]), &PodStatus::default());
    assert_eq!(status_patch("u", &before, &before), None);
    // Somebody else's condition and field are left alone.
    before.conditions.as_mut().unwrap().push(PodCondition {
        type_: "example.com/ok".into(),
        status: "True".into(),
        ..PodCondition::default()
    });
    before.nominated_node_name = Some("n".into());
    before.reason = Some("Old".into());
    let mut after = compute(&p, &up(vec![container("a", 0, running(1))]), &before);
    after.reason = None;
    let patch = status_patch("u", &before, &after).unwrap();
    let status = patch["status"].as_object().unwrap();
    let keys: Vec<&str> = status.keys().map(String::as_str).collect();
    assert_eq!(keys, ["conditions", "containerStatuses", "phase", "reason"]);
    assert_eq!(status["reason"], Value::Null);
    let changed: Vec<&str> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["Ready", "ContainersReady"]);
    // Reason and message of the old condition are taken away.
    assert_eq!(status["conditions"][0]["reason"], Value::Null);
    after.pod_ips = Some(vec![PodIP {
        ip: "10.0.0.6".into(),
    }]);
    let patch = status_patch("u", &before, &after).unwrap();
    assert_eq!(
        patch["status"]["podIPs"],
        json!([{"ip": "10.0.0.6"}, {"$patch": "delete", "ip": "10.0.0.5"}])
    );
}
