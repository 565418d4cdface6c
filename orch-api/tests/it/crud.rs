//! Create, read, update, delete and watch through the in-process client.

use crate::util::{list, object};
use futures::StreamExt;
use http::Method;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use orch_api::testing::TestCluster;
use orch_core::{
    Api,
    client::{ListParams, Patch, WatchEventType},
};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": data})
}

#[tokio::test(start_paused = true)]
async fn crud() {
    let client = TestCluster::start().await.client();
    let created = object(&client, Method::POST, MAPS, map("a", json!({"k": "1"})))
        .await
        .unwrap();
    let meta = &created["metadata"];
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["uid"].as_str().unwrap().len(), 36);
    assert!(
        meta["creationTimestamp"]
            .as_str()
            .unwrap()
            .starts_with("2026-01-01T")
    );
    let first: u64 = meta["resourceVersion"].as_str().unwrap().parse().unwrap();

    let again = object(&client, Method::POST, MAPS, map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        (again.message.as_str(), again.code),
        (r#"configmaps "a" already exists"#, 409)
    );
    let absent = object(&client, Method::GET, &format!("{MAPS}/b"), Value::Null)
        .await
        .unwrap_err();
    assert_eq!(
        (absent.message.as_str(), absent.code),
        (r#"configmaps "b" not found"#, 404)
    );

    let mut changed = created.clone();
    changed["data"]["k"] = "2".into();
    let updated = object(&client, Method::PUT, &format!("{MAPS}/a"), changed.clone())
        .await
        .unwrap();
    assert_eq!(updated["data"]["k"], "2");
    assert!(
        updated["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > first
    );
    changed["data"]["k"] = "3".into();
    let stale = object(&client, Method::PUT, &format!("{MAPS}/a"), changed)
        .await
        .unwrap_err();
    assert_eq!(
        stale.message,
        r#"Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#
    );
    let same = object(&client, Method::PUT, &format!("{MAPS}/a"), updated.clone())
        .await
        .unwrap();
    assert_eq!(
        same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"],
        "a no-op writes nothing"
    );

    let gone = object(&client, Method::DELETE, &format!("{MAPS}/a"), Value::Null)
        .await
        .unwrap();
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("a"))
    );
    assert!(
        object(&client, Method::GET, &format!("{MAPS}/a"), Value::Null)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test(start_paused = true)]
async fn patches() {
    let cluster = TestCluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let map: ConfigMap = serde_json::from_value(map("a", json!({"k": "1", "l": "1"}))).unwrap();
    api.create(&map).await.unwrap();
    let data = |m: &ConfigMap| serde_json::to_value(&m.data).unwrap();
    let m = api
        .patch("a", Patch::merge(json!({"data": {"k": null, "m": "2"}})))
        .await
        .unwrap();
    assert_eq!(data(&m), json!({"l": "1", "m": "2"}));
    let m = api
        .patch(
            "a",
            Patch::json(json!([{"op": "replace", "path": "/data/l", "value": "3"}])),
        )
        .await
        .unwrap();
    assert_eq!(data(&m), json!({"l": "3", "m": "2"}));
    let m = api
        .patch("a", Patch::strategic(json!({"data": {"n": "4"}})))
        .await
        .unwrap();
    assert_eq!(data(&m), json!({"l": "3", "m": "2", "n": "4"}));
}

#[tokio::test(start_paused = true)]
async fn lists_in_pages_and_by_selector() {
    let client = TestCluster::start().await.client();
    for name in ["a", "b", "c", "d", "e"] {
        object(&client, Method::POST, MAPS, map(name, json!({})))
            .await
            .unwrap();
    }
    let (names, version, _) = list(&client, MAPS).await.unwrap();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let (names, first, token) = list(&client, &format!("{MAPS}?limit=2")).await.unwrap();
    assert_eq!(
        (names.as_slice(), &first),
        (&["a".to_owned(), "b".to_owned()][..], &version)
    );
    object(&client, Method::DELETE, &format!("{MAPS}/c"), Value::Null)
        .await
        .unwrap();
    let (names, second, token) = list(&client, &format!("{MAPS}?limit=2&continue={}", token.unwrap()))
        .await
        .unwrap();
    assert_eq!(names, ["c", "d"], "pages are of one revision");
    assert_eq!(first, second);
    let (names, _, token) = list(&client, &format!("{MAPS}?limit=2&continue={}", token.unwrap()))
        .await
        .unwrap();
    assert_eq!((names.as_slice(), token), (&["e".to_owned()][..], None));
    assert_eq!(
        list(
            &client,
            &format!("{MAPS}?labelSelector=app%3Db").replace("%3D", "\u{3d}")
        )
        .await
        .unwrap()
        .0,
        ["b"]
    );
    assert_eq!(
        list(&client, &format!("{MAPS}?fieldSelector=metadata.name!=b"))
            .await
            .unwrap()
            .0,
        ["a", "d", "e"]
    );
    let bad = list(&client, &format!("{MAPS}?fieldSelector=spec.x=b"))
        .await
        .unwrap_err();
    assert_eq!(bad.message, "field label not supported: spec.x");
    let old = list(
        &client,
        &format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"),
    )
    .await
    .unwrap();
    assert_eq!((old.0.len(), old.1), (5, version));
    let future = list(&client, &format!("{MAPS}?resourceVersion=100000"))
        .await
        .unwrap_err();
    assert!(
        future
            .message
            .starts_with("Timeout: Too large resource version: 100000, current: "),
        "{future}"
    );
}

#[tokio::test(start_paused = true)]
async fn watches() {
    let cluster = TestCluster::start().await;
    let client = cluster.client();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    object(&client, Method::POST, MAPS, map("a", json!({})))
        .await
        .unwrap();
    let from = api.list(&ListParams::default()).await.unwrap().resource_version;
    let params = ListParams {
        resource_version: from.clone(),
        labels: "app in (a,b)".into(),
        ..ListParams::default()
    };
    let mut events = api.watch(&params).await.unwrap();
    object(&client, Method::POST, MAPS, map("b", json!({})))
        .await
        .unwrap();
    object(&client, Method::POST, MAPS, map("c", json!({})))
        .await
        .unwrap();
    api.patch("b", Patch::merge(json!({"data": {"x": "y"}})))
        .await
        .unwrap();
    api.patch("b", Patch::merge(json!({"metadata": {"labels": {"app": "z"}}})))
        .await
        .unwrap();
    api.patch("b", Patch::merge(json!({"metadata": {"labels": {"app": "a"}}})))
        .await
        .unwrap();
    api.delete("a", Value::Null).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = events.next().await.unwrap().unwrap();
        if let Some(object) = event.object {
            seen.push((event.kind, object.metadata.name.clone().unwrap()));
        }
    }
    use WatchEventType::{Added, Deleted, Modified};
    let expected = [
        (Added, "b"),
        (Modified, "b"),
        (Deleted, "b"),
        (Added, "b"),
        (Deleted, "a"),
    ];
    assert_eq!(seen, expected.map(|(k, n)| (k, n.to_owned())));
    // An idle watch gets bookmarks.
    let bookmark = events.next().await.unwrap().unwrap();
    assert_eq!(bookmark.kind, WatchEventType::Bookmark);
    assert!(bookmark.resource_version.parse::<u64>().unwrap() > from.parse().unwrap());
    let old = api
        .watch(&ListParams {
            resource_version: "1".into(),
            ..ListParams::default()
        })
        .await;
    let _ = old.map(drop);
}

#[tokio::test(start_paused = true)]
async fn deployments_and_generated_names() {
    let cluster = TestCluster::start().await;
    let api: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"generateName": "web-"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:v1"}]}}}
    }))
    .unwrap();
    let created = api.create(&deployment).await.unwrap();
    assert_eq!(created.metadata.name.as_ref().unwrap().len(), 9);
    assert_eq!(
        created.spec.as_ref().unwrap().replicas,
        Some(1),
        "defaults are filled in"
    );
}
