//! The `kube` client in process.

use super::{Cluster, run};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use orch_api::kube_service::KubeService;
use orch_core::UserInfo;

#[test]
fn the_kube_client_works_without_a_socket() {
    run(async {
        let cluster = Cluster::start().await;
        let user = UserInfo::new("me", &["system:masters"]);
        let client = Client::new(KubeService::new(cluster.api.clone(), user), "default");
        assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let mut map = ConfigMap::default();
        map.metadata.name = Some("a".into());
        let made = maps.create(&PostParams::default(), &map).await.unwrap();
        let revision = made.metadata.resource_version.unwrap();
        let mut events = maps
            .watch(&WatchParams::default(), &revision)
            .await
            .unwrap()
            .boxed();
        let patch = serde_json::json!({"data": {"k": "v"}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
        let event = events.try_next().await.unwrap().unwrap();
        assert!(matches!(event, WatchEvent::Modified(m) if m.data.as_ref().unwrap()["k"] == "v"));
        assert!(
            maps.list(&ListParams::default())
                .await
                .unwrap()
                .items
                .iter()
                .any(|m| m.metadata.name.as_deref() == Some("a"))
        );
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(maps.get_opt("a").await.unwrap().is_none());
        let eve = Client::new(
            KubeService::new(cluster.api.clone(), UserInfo::new("eve", &[])),
            "default",
        );
        let error = Api::<ConfigMap>::default_namespaced(eve)
            .get("a")
            .await
            .unwrap_err();
        assert!(matches!(error, kube::Error::Api(e) if e.code == 403));
    });
}
