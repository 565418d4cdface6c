use super::*;
use crate::{
    agent::testkit::{at, container, exited, pod, running, sandbox, up},
    probe::ProbeKind,
};
use serde_json::{Value, json};

/// What is done, in short.
fn short(actions: &[Action]) -> String {
    let one = |action: &Action| match action {
        Action::PrepareVolumes => "volumes".to_owned(),
        Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
        Action::AttachNetwork => "network".to_owned(),
        Action::Start { name, .. } => format!("start {name}"),
        Action::BackOff { name, delay, .. } => format!("back-off {name} {}s", delay.as_secs()),
        Action::Kill { name, restart, .. } => {
            format!("kill {name}{}", if *restart { " to restart" } else { "" })
        }
        Action::Resize { name, .. } => format!("resize {name}"),
        Action::KillPod => "kill all".to_owned(),
        Action::StopSandboxes => "stop sandboxes".to_owned(),
        Action::Remove { id } => format!("remove {id}"),
        Action::TearDownVolumes => "unmount".to_owned(),
        Action::Fail { reason, .. } => format!("fail {reason}"),
        Action::Finalize => "finalize".to_owned(),
        Action::WakeAt(t) => format!("wake {}", t.as_second() - at(0).as_second()),
    };
    actions.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check(state: &PodState, pod: &Pod, now: i64, expected: &str) {
    assert_eq!(short(&step(state, pod, at(now))), expected);
}

fn simple(policy: &str) -> Pod {
    pod(json!({"containers": [{"name": "a", "image": "i"}], "restartPolicy": policy}))
}

#[test]
fn comes_up_in_order() {
    let p = simple("Always");
    let mut state = PodState::default();
    check(&state, &p, 0, "volumes");
    state.volumes_ready = true;
    check(&state, &p, 0, "sandbox 0");
    state.view = PodView::of("u", &[sandbox(true)], &[]);
    check(&state, &p, 0, "network");
    state.ips = vec!["10.0.0.5".parse().unwrap()];
    check(&state, &p, 0, "start a");
    check(&up(vec![container("a", 0, running(0))]), &p, 0, "");
}

#[test]
fn infrastructure_failures_wait() {
    let p = simple("Always");
    let state = PodState {
        infra_retry_at: Some(at(10)),
        ..PodState::default()
    };
    check(&state, &p, 5, "wake 10");
    check(&state, &p, 10, "volumes");
}

#[test]
fn restart_policies() {
    for (policy, code, expected) in [
        ("Always", 0, "start a"),
        ("OnFailure", 0, ""),
        ("OnFailure", 1, "start a"),
        ("Never", 1, ""),
    ] {
        check(
            &up(vec![container("a", 0, exited(code, 5))]),
            &simple(policy),
            6,
            expected,
        );
    }
}

#[test]
fn crash_loop_backs_off_and_says_so_once() {
    let p = simple("Always");
    let mut state = up(vec![container("a", 1, exited(1, 100))]);
    state.backoff.insert(
        "a".into(),
        Backoff {
            delay: Duration::from_secs(20),
            set_at: at(90),
        },
    );
    check(&state, &p, 105, "back-off a 20s, wake 120");
    let failure = StartFailure {
        reason: "CrashLoopBackOff".into(),
        message: String::new(),
        retry_at: at(120),
    };
    state.failures.insert("a".into(), failure);
    check(&state, &p, 106, "wake 120");
    check(&state, &p, 120, "start a");
}

#[test]
fn a_failed_start_waits_for_its_time() {
    let p = simple("Always");
    let mut state = up(vec![]);
    let failure = StartFailure {
        reason: "ErrImagePull".into(),
        message: String::new(),
        retry_at: at(10),
    };
    state.failures.insert("a".into(), failure);
    check(&state, &p, 5, "wake 10");
    check(&state, &p, 11, "start a");
}

#[test]
fn failed_probes_restart_by_policy() {
    for (policy, expected) in [
        ("Always", "kill a to restart"),
        ("OnFailure", "kill a to restart"),
        ("Never", "kill all"),
    ] {
        let mut state = up(vec![container("a", 0, running(0))]);
        state.probes.set(&"a-0".into(), ProbeKind::Liveness, Some(false));
        check(&state, &simple(policy), 9, expected);
    }
    // Killed to be restarted, it restarts even if it then exits with success.
    let mut state = up(vec![container("a", 0, exited(0, 5))]);
    state.killed_to_restart.insert("a-0".into());
    check(&state, &simple("OnFailure"), 6, "start a");
}

#[test]
fn a_changed_image_restarts() {
    let p = pod(json!({"containers": [{"name": "a", "image": "other"}], "restartPolicy": "Never"}));
    check(
        &up(vec![container("a", 0, running(0))]),
        &p,
        1,
        "kill a to restart",
    );
}

fn with_init(init: Value) -> Pod {
    pod(
        json!({"initContainers": init, "containers": [{"name": "a", "image": "i"}], "restartPolicy": "Always"}),
    )
}

#[test]
fn init_containers_run_one_by_one() {
    let p = with_init(json!([{"name": "x", "image": "i"}, {"name": "y", "image": "i"}]));
    check(&up(vec![]), &p, 0, "start x");
    check(&up(vec![container("x", 0, running(0))]), &p, 0, "");
    check(&up(vec![container("x", 0, exited(1, 0))]), &p, 0, "start x");
    check(&up(vec![container("x", 0, exited(0, 0))]), &p, 0, "start y");
    let done = vec![container("x", 0, exited(0, 0)), container("y", 0, exited(0, 0))];
    check(&up(done.clone()), &p, 0, "start a");
    // Only the last one must be remembered.
    check(&up(done[1..].to_vec()), &p, 0, "start a");
    let mut crashed = done;
    crashed.push(container("a", 0, exited(1, 5)));
    check(&up(crashed), &p, 6, "start a");
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let mut p = with_init(json!([{"name": "x", "image": "i"}]));
    p.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    check(&up(vec![container("x", 0, exited(1, 0))]), &p, 0, "kill all");
}

#[test]
fn sidecars_start_in_order_and_stay() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always"});
    let p = with_init(json!([sidecar, {"name": "x", "image": "i"}]));
    check(&up(vec![]), &p, 0, "start s");
    check(&up(vec![container("s", 0, running(0))]), &p, 0, "start x");
    let both = |s, x| up(vec![container("s", 0, s), container("x", 0, x)]);
    check(&both(running(0), running(0)), &p, 1, "");
    check(&both(running(0), exited(0, 1)), &p, 1, "start a");
    // A sidecar that ends is restarted, also when the pod is initialized.
    check(&both(exited(0, 1), running(0)), &p, 1, "start s");
    let all = vec![
        container("s", 0, exited(0, 1)),
        container("x", 0, exited(0, 1)),
        container("a", 0, running(0)),
    ];
    check(&up(all), &p, 1, "start s");
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_up_the_next() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}});
    let p = with_init(json!([sidecar]));
    let mut state = up(vec![container("s", 0, running(0))]);
    check(&state, &p, 0, "");
    state.probes.set(&"s-0".into(), ProbeKind::Startup, Some(true));
    check(&state, &p, 0, "start a");
    state.probes.set(&"s-0".into(), ProbeKind::Startup, Some(false));
    check(&state, &p, 0, "kill s to restart");
}

#[test]
fn sidecars_do_not_keep_a_finished_pod_alive() {
    let mut p = with_init(json!([{"name": "s", "image": "i", "restartPolicy": "Always"}]));
    p.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into());
    let state = up(vec![
        container("s", 0, running(0)),
        container("a", 0, exited(0, 3)),
    ]);
    check(&state, &p, 4, "kill all");
}

#[test]
fn ephemeral_containers_start_once() {
    let p = pod(json!({"containers": [{"name": "a", "image": "i"}],
        "ephemeralContainers": [{"name": "e", "image": "i"}]}));
    check(&up(vec![container("a", 0, running(0))]), &p, 0, "start e");
    let state = up(vec![
        container("a", 0, running(0)),
        container("e", 0, exited(1, 1)),
    ]);
    check(&state, &p, 2, "");
}

#[test]
fn a_lost_sandbox_is_replaced_unless_the_pod_is_over() {
    let lost = |containers: Vec<ContainerState>, policy: &str, expected: &str| {
        let mut state = up(vec![]);
        state.view = PodView::of("u", &[sandbox(false)], &containers);
        check(&state, &simple(policy), 9, expected);
    };
    lost(vec![], "Always", "sandbox 1");
    lost(vec![container("a", 0, running(0))], "Always", "kill all");
    lost(vec![container("a", 0, exited(1, 0))], "Always", "sandbox 1");
    lost(vec![container("a", 0, exited(1, 0))], "Never", "");
    lost(vec![container("a", 0, exited(0, 0))], "OnFailure", "");
    lost(vec![], "Never", "sandbox 1");
}

#[test]
fn deadline() {
    let mut p = simple("Always");
    p.spec.as_mut().unwrap().active_deadline_seconds = Some(30);
    let state = up(vec![container("a", 0, running(0))]);
    check(&state, &p, 5, "wake 30");
    check(&state, &p, 30, "fail DeadlineExceeded");
}

#[test]
fn goes_down_in_order() {
    let mut p = simple("Always");
    p.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(10)));
    let mut state = up(vec![container("a", 0, running(0))]);
    check(&state, &p, 10, "kill all");
    state.view = PodView::of("u", &[sandbox(true)], &[container("a", 0, exited(0, 11))]);
    check(&state, &p, 11, "stop sandboxes");
    state.view = PodView::of("u", &[sandbox(false)], &[container("a", 0, exited(0, 11))]);
    check(&state, &p, 11, "unmount");
    state.volumes_exist = false;
    check(&state, &p, 11, "finalize");
    // A finished pod that nobody deletes keeps its containers for their logs.
    p.metadata.deletion_timestamp = None;
    state.phase_is_terminal = true;
    check(&state, &p, 11, "");
    state.removed = true;
    check(&state, &p, 11, "finalize");
}

#[test]
fn old_containers_are_removed_and_half_made_ones_too() {
    let p = simple("Always");
    let many = vec![
        container("a", 0, exited(1, 1)),
        container("a", 1, exited(1, 2)),
        container("a", 2, running(3)),
    ];
    check(&up(many), &p, 4, "remove a-0");
    check(
        &up(vec![container("a", 0, ContainerPhase::Created)]),
        &p,
        4,
        "remove a-0",
    );
}

mod settles {
    use super::*;
    use proptest::prelude::*;

    fn phase() -> impl Strategy<Value = Option<ContainerPhase>> {
        prop_oneof![
            Just(None),
            Just(Some(running(0))),
            (0..3, 0i64..100).prop_map(|(code, t)| Some(exited(code, t))),
            Just(Some(ContainerPhase::Created)),
            Just(Some(ContainerPhase::Unknown)),
        ]
    }

    proptest! {
        /// Whatever state a pod is in, a pod that is deleted is gone after a bounded number of steps.
        #[test]
        fn deletion_ends(a in phase(), x in phase(), s in phase(), ready: bool, volumes: bool) {
            let mut p = with_init(json!([
                {"name": "s", "image": "i", "restartPolicy": "Always"}, {"name": "x", "image": "i"}]));
            p.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(10)));
            let named = [("a", a), ("x", x), ("s", s)];
            let list = named.into_iter().filter_map(|(n, ph)| Some(container(n, 0, ph?))).collect::<Vec<_>>();
            let mut state = up(vec![]);
            state.volumes_exist = volumes;
            state.view = PodView::of("u", &[sandbox(ready)], &list);
            let mut finalized = false;
            for _ in 0..5 {
                for action in step(&state, &p, at(50)) {
                    match action {
                        Action::KillPod => {
                            for c in &mut state.view.containers {
                                if c.phase.exit().is_none() { c.phase = exited(137, 51); }
                            }
                        }
                        Action::StopSandboxes => state.view.sandboxes.iter_mut().for_each(|s| s.ready = false),
                        Action::TearDownVolumes => state.volumes_exist = false,
                        Action::Finalize => finalized = true,
                        other => prop_assert!(false, "{other:?} while terminating"),
                    }
                }
            }
            prop_assert!(finalized);
        }

        /// A living pod never starts a container that runs, and never starts an ordinary container before the init
        /// containers are done.
        #[test]
        fn starts_are_sound(a in phase(), x in phase(), now in 0i64..1000) {
            let p = with_init(json!([{"name": "x", "image": "i"}]));
            let named = [("a", a.clone()), ("x", x.clone())];
            let list = named.into_iter().filter_map(|(n, ph)| Some(container(n, 0, ph?))).collect::<Vec<_>>();
            let state = up(list);
            for action in step(&state, &p, at(now)) {
                if let Action::Start { name, .. } = action {
                    prop_assert!(!state.view.latest(&name).is_some_and(|c| c.phase.is_running()));
                    if name == "a" {
                        let done = matches!(&x, Some(ContainerPhase::Exited(e)) if e.code == 0);
                        prop_assert!(done);
                    }
                }
            }
        }
    }
}
