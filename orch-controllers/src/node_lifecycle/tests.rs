use super::{
    NOT_READY, UNREACHABLE,
    eviction::due,
    health::{Health, Moment, Zone, unknown_status},
    taints::{no_execute, no_schedule, tolerates},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use orch_core::{clock::Monotonic, testing::builders};
use serde_json::{Value, json};
use std::time::Duration;

const S: fn(u64) -> Duration = Duration::from_secs;

fn moment(s: u64) -> Moment {
    let wall = Timestamp::from_second(1_000_000 + i64::try_from(s).unwrap()).unwrap();
    Moment {
        wall,
        monotonic: Monotonic(S(1_000_000 + s)),
    }
}

fn node(value: Value) -> Node {
    let mut all = json!({"metadata": {"name": "n"}});
    orch_core::testing::merge_patch(&mut all, &value);
    serde_json::from_value(all).unwrap()
}

fn lease(renewed: &str) -> Lease {
    serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap()
}

#[test]
fn heartbeats_and_leases_keep_a_node_alive() {
    let ready = node(json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}));
    let (a, b) = (
        lease("2026-01-01T00:00:00.000000Z"),
        lease("2026-01-01T00:00:10.000000Z"),
    );
    let mut health = Health::first(&ready, Some(&a), moment(0));
    health.observe(&ready, Some(&a), moment(40));
    assert!(!health.is_silent(&ready, S(50), S(60), moment(50)));
    assert!(health.is_silent(&ready, S(50), S(60), moment(51)));
    health.observe(&ready, Some(&b), moment(51));
    assert!(!health.is_silent(&ready, S(50), S(60), moment(101)));
    let later = node(json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:05:00Z"}]}}));
    health.observe(&later, Some(&b), moment(102));
    assert!(!health.is_silent(&later, S(50), S(60), moment(150)));
    let created = moment(0).wall.to_string();
    let never = node(json!({"metadata": {"creationTimestamp": created}}));
    assert!(!Health::first(&never, None, moment(60)).is_silent(&never, S(50), S(60), moment(60)));
    assert!(Health::first(&never, None, moment(61)).is_silent(&never, S(50), S(60), moment(61)));
}

#[test]
fn a_silent_node_knows_nothing() {
    let ready = node(
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Custom", "status": "True"}]}}),
    );
    let status = unknown_status(&ready, moment(0).wall).unwrap();
    let conditions = status.conditions.clone().unwrap();
    let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind).unwrap();
    assert_eq!(
        (of("Ready").status.as_str(), of("Ready").reason.as_deref()),
        ("Unknown", Some("NodeStatusUnknown"))
    );
    assert_eq!(
        of("DiskPressure").reason.as_deref(),
        Some("NodeStatusNeverUpdated")
    );
    assert_eq!(of("Custom").status, "True");
    assert_eq!(
        unknown_status(
            &Node {
                status: Some(status),
                ..ready
            },
            moment(9).wall
        ),
        None
    );
}

#[test]
fn taints_follow_conditions() {
    let keys = |taints: Vec<Taint>| {
        taints
            .into_iter()
            .map(|t| format!("{}:{}", t.key, t.effect))
            .collect::<Vec<_>>()
    };
    let bad = node(json!({
        "spec": {"unschedulable": true, "taints": [
            {"key": "mine", "effect": "NoSchedule"}, {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "DiskPressure", "status": "False"}]},
    }));
    assert_eq!(
        keys(no_schedule(&bad).unwrap()),
        [
            "mine:NoSchedule",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule"
        ]
    );
    assert_eq!(no_schedule(&builders::node("ok")), None);
    let now = Time(moment(0).wall);
    let tainted = no_execute(&builders::node("a"), Some(UNREACHABLE), &now).unwrap();
    assert_eq!(tainted[0].time_added, Some(now.clone()));
    let mut down = builders::node("a");
    down.spec.get_or_insert_default().taints = Some(tainted);
    assert_eq!(
        no_execute(&down, Some(UNREACHABLE), &Time(moment(9).wall)),
        None,
        "the time stays"
    );
    assert_eq!(
        keys(no_execute(&down, Some(NOT_READY), &now).unwrap()),
        ["node.kubernetes.io/not-ready:NoExecute"]
    );
    assert_eq!(no_execute(&down, None, &now), Some(Vec::new()));
}

#[test]
fn tolerations() {
    let t = |v: Value| serde_json::from_value::<Toleration>(v).unwrap();
    let taint = Taint {
        key: "k".into(),
        value: Some("v".into()),
        effect: "NoExecute".into(),
        time_added: None,
    };
    for (toleration, expected) in [
        (json!({"operator": "Exists"}), true),
        (json!({"key": "k", "operator": "Exists"}), true),
        (json!({"key": "k", "value": "v"}), true),
        (json!({"key": "k", "value": "w"}), false),
        (
            json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}),
            false,
        ),
        (json!({"key": "j", "operator": "Exists"}), false),
        (json!({}), false),
    ] {
        assert_eq!(
            tolerates(&t(toleration.clone()), &taint),
            expected,
            "{toleration}"
        );
    }
}

#[test]
fn evictions_are_due_when_the_shortest_toleration_ends() {
    let at = |s| moment(s).wall;
    let taints = [
        Taint {
            key: UNREACHABLE.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(at(100))),
            value: None,
        },
        Taint {
            key: "other".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        },
    ];
    let pod = |tolerations: Value| -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
    };
    let due = |p: &Pod| due(p, &taints, |t| t.time_added.as_ref().map_or(at(0), |t| t.0));
    assert_eq!(due(&pod(json!([]))), Some(at(100)));
    let seconds = |s: i64| json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": s});
    assert_eq!(due(&pod(json!([seconds(300)]))), Some(at(400)));
    assert_eq!(due(&pod(json!([seconds(300), seconds(5)]))), Some(at(105)));
    assert_eq!(due(&pod(json!([{"operator": "Exists"}]))), None);
}

#[test]
fn zones() {
    for (ready, not_ready, expected) in [
        (5, 0, Zone::Normal),
        (4, 1, Zone::Normal),
        (0, 1, Zone::Full),
        (1, 2, Zone::Normal),
        (2, 3, Zone::Partial),
        (0, 0, Zone::Normal),
    ] {
        assert_eq!(Zone::of(ready, not_ready), expected, "{ready} {not_ready}");
    }
    assert_eq!(Zone::Normal.pause(5, 100), Some(S(10)));
    assert_eq!(Zone::Partial.pause(5, 100), None);
    assert_eq!(Zone::Partial.pause(51, 100), Some(S(100)));
}
