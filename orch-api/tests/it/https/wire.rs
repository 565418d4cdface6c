//! What goes over the wire: discovery, lists, watches, compression, tags, YAML.

use super::{Cluster, create, get, json as body, run, text};
use futures::StreamExt;
use orch_core::{
    ApiClient,
    client::{ApiRequest, RequestBody, ResponseBody, WatchEventType},
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
        assert!(
            body(get(&admin, "/").await.unwrap())["paths"]
                .as_array()
                .unwrap()
                .contains(&json!("/apis/apps/v1"))
        );
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
        // The client does not unpack, so what it gives is what came.
        let ResponseBody::Raw { bytes, .. } = admin.call(request).await.unwrap().body else {
            panic!("not packed")
        };
        assert!(bytes.len() < 10_000);
        let object: serde_json::Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(&bytes[..])).unwrap();
        assert_eq!(object["metadata"]["name"], "big");
    });
}

#[test]
fn protobuf_bodies_are_understood() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        // What kubectl sends for `create configmap a --from-literal=x=y`, put together by hand.
        let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
        let data = [field(1, b"x"), field(2, b"y")].concat();
        let object = [field(1, &field(1, b"a")), field(2, &data)].concat();
        let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let mut request = ApiRequest::new(http::Method::POST, "/api/v1/namespaces/default/configmaps")
            .header(http::header::CONTENT_TYPE, "application/vnd.kubernetes.protobuf")
            .header(
                http::header::ACCEPT,
                "application/vnd.kubernetes.protobuf,application/json",
            );
        request.body = RequestBody::Bytes(
            [b"k8s\0".to_vec(), field(1, &kind), field(2, &object)]
                .concat()
                .into(),
        );
        let made = admin.call(request).await.unwrap().into_object().unwrap();
        assert_eq!(made.value()["data"], json!({"x": "y"}));
        let mut request = ApiRequest::new(http::Method::POST, "/api/v1/namespaces/default/configmaps")
            .header(http::header::CONTENT_TYPE, "application/vnd.kubernetes.protobuf");
        request.body = RequestBody::Bytes("{}".into());
        assert_eq!(admin.call(request).await.unwrap_err().code, 400);
    });
}

#[test]
fn openapi_documents_are_served() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        let index = body(get(&admin, "/openapi/v3").await.unwrap());
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap();
        let (path, hash) = url.split_once("?hash=").unwrap();
        let document = body(
            admin
                .call(ApiRequest::get(path).param("hash", hash))
                .await
                .unwrap(),
        );
        assert!(document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"].is_object());
        assert_eq!(
            get(&admin, "/openapi/v3/apis/nope/v1").await.unwrap_err().code,
            404
        );
    });
}

#[test]
fn stopping_ends_watches_and_lets_requests_finish() {
    run(async {
        let mut cluster = Cluster::start().await;
        let admin = cluster.admin();
        let path = "/api/v1/namespaces/default/configmaps";
        let watch = ApiRequest::get(path)
            .param("watch", "true")
            .param("resourceVersion", "0");
        let mut events = admin.watch(watch).await.unwrap();
        create(&admin, path, json!({"metadata": {"name": "last"}}))
            .await
            .unwrap();
        while events.next().await.unwrap().unwrap().object.name() != "last" {}
        cluster.shutdown.trigger();
        assert!(events.next().await.is_none(), "the watch ends without an error");
        cluster.stopped.take().unwrap().await.unwrap();
        assert_eq!(get(&admin, "/version").await.unwrap_err().code, 503);
    });
}

#[test]
fn what_is_not_served_is_not_found_and_collections_are_not_written_whole() {
    use http::Method;
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        for (method, path, code) in [
            (Method::POST, "/apis/batch/v1/namespaces/default/bogus", 404),
            (Method::POST, "/api/v1/bogus", 404),
            (Method::DELETE, "/api/v1/namespaces/default/bogus/x", 404),
            (Method::GET, "/apis/batch/v1/bogus", 404),
            (Method::POST, "/apis/batch/v1", 405),
            (Method::POST, "/api", 405),
            (Method::PATCH, "/api/v1/namespaces/default/configmaps", 405),
            (Method::PUT, "/api/v1/namespaces/default/configmaps", 405),
            (Method::POST, "/api/v1/namespaces/default/configmaps/x", 405),
        ] {
            let request = ApiRequest::new(method.clone(), path).value(json!({}));
            assert_eq!(
                admin.call(request).await.unwrap_err().code,
                code,
                "{method} {path}"
            );
        }
    });
}
