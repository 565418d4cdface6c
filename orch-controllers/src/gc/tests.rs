use super::{
    graph::{Graph, Node},
    plan::{Owner, Plan, of_deleting, of_owned},
};
use orch_core::{GroupVersionResource, Object};
use serde_json::{Value, json};

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "things")
}

fn object(uid: &str, owners: &[&str], more: Value) -> Object {
    let owners: Vec<Value> = owners
        .iter()
        .map(
            |o| json!({"apiVersion": "v1", "kind": "Thing", "name": o, "uid": o, "blockOwnerDeletion": true}),
        )
        .collect();
    let mut value = json!({"metadata": {"name": uid, "uid": uid, "ownerReferences": owners}});
    orch_core::testing::merge_patch(&mut value, &json!({"metadata": more}));
    Object::from_value(value)
}

fn node(uid: &str, owners: &[&str], more: Value) -> Node {
    Node::of(&gvr(), &object(uid, owners, more))
}

fn foreground() -> Value {
    json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]})
}

#[test]
fn the_graph_says_whom_to_look_at() {
    let mut graph = Graph::default();
    let work = graph.upsert(&gvr(), &object("child", &["parent"], json!({})));
    assert!(work.contains("child"), "its owner is not known");
    assert!(graph.upsert(&gvr(), &object("parent", &[], json!({}))).is_empty());
    assert!(
        graph
            .upsert(
                &gvr(),
                &object("child", &["parent"], json!({"labels": {"a": "b"}}))
            )
            .is_empty()
    );
    let work = graph.upsert(&gvr(), &object("parent", &[], foreground()));
    assert_eq!(work.into_iter().collect::<Vec<_>>(), ["child", "parent"]);
    assert_eq!(graph.dependents("parent").len(), 1);
    let work = graph.remove("child");
    assert_eq!(
        work.into_iter().collect::<Vec<_>>(),
        ["parent"],
        "which waited for it"
    );
    assert_eq!(graph.dependents("parent").len(), 0);
    graph.upsert(&gvr(), &object("other", &["parent"], json!({})));
    assert_eq!(graph.remove("parent").into_iter().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn owned_objects() {
    use Owner::{Dangling, Solid, Waiting};
    let two = node("c", &["a", "b"], json!({}));
    let background = Plan::Delete {
        policy: "Background",
        unblock: None,
    };
    assert_eq!(of_owned(&two, &[Solid, Solid], &[]), Plan::Nothing);
    assert_eq!(
        of_owned(&two, &[Solid, Dangling], &[]),
        Plan::DropOwners(vec![two.owners[0].clone()])
    );
    assert_eq!(
        of_owned(&two, &[Waiting, Solid], &[]),
        Plan::DropOwners(vec![two.owners[1].clone()])
    );
    assert_eq!(of_owned(&two, &[Dangling, Dangling], &[]), background);
    assert_eq!(of_owned(&two, &[Waiting, Dangling], &[]), background);
    assert_eq!(of_owned(&node("x", &[], json!({})), &[], &[]), Plan::Nothing);
    let child = node("d", &["c"], json!({}));
    assert_eq!(
        of_owned(&two, &[Waiting, Dangling], &[child]),
        Plan::Delete {
            policy: "Foreground",
            unblock: None
        }
    );
    let waiting_child = node("d", &["c"], foreground());
    match of_owned(&two, &[Waiting, Waiting], &[waiting_child]) {
        Plan::Delete {
            policy: "Foreground",
            unblock: Some(owners),
        } => {
            assert!(owners.iter().all(|o| o.block_owner_deletion == Some(false)));
        }
        other => panic!("{other:?}"),
    }
    let orphan = node("c", &["a"], json!({"finalizers": ["orphan"]}));
    assert_eq!(
        of_owned(&orphan, &[Dangling], &[]),
        Plan::Delete {
            policy: "Orphan",
            unblock: None
        }
    );
}

#[test]
fn deleting_objects() {
    let parent = node("p", &[], foreground());
    assert_eq!(
        of_deleting(&parent, &[]),
        Some(Plan::RemoveFinalizer("foregroundDeletion"))
    );
    let child = node("c", &["p"], json!({}));
    assert_eq!(
        of_deleting(&parent, std::slice::from_ref(&child)),
        Some(Plan::Visit(vec!["c".into()]))
    );
    let going = node("c", &["p"], json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
    assert_eq!(of_deleting(&going, &[]), Some(Plan::Nothing));
    let orphans = node(
        "p",
        &[],
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]}),
    );
    assert_eq!(
        of_deleting(&orphans, std::slice::from_ref(&child)),
        Some(Plan::Orphan(vec![child.clone()]))
    );
    assert_eq!(of_deleting(&child, &[]), None);
}
