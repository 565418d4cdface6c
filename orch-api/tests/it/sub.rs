//! Pods, Services and the subresources with a kind of their own.

use crate::util::{get, object, patch, post};
use http::Method;
use orch_api::{
    ApiServer,
    admission::{AdmissionPlugin, Attributes as AdmissionAttributes, Operation},
    authz::{Attributes, Authorizer, Decision},
    testing::TestCluster,
};
use orch_core::{Status, UserInfo};
use serde_json::{Value, json};
use std::sync::Arc;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(start_paused = true)]
async fn pods_are_admitted_bound_and_deleted_gracefully() {
    let client = TestCluster::start().await.client();
    let created = post(&client, PODS, pod("a")).await.unwrap();
    let spec = &created["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["priority"]),
        (&json!("default"), &json!(0))
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        spec["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created["status"]["phase"], "Pending");

    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = post(&client, &format!("{PODS}/a/binding"), binding.clone())
        .await
        .unwrap();
    assert_eq!(
        (&bound["status"], &bound["code"]),
        (&json!("Success"), &json!(201))
    );
    let now = get(&client, &format!("{PODS}/a")).await.unwrap();
    assert_eq!(
        (&now["spec"]["nodeName"], &now["status"]["conditions"][0]["type"]),
        (&json!("n1"), &json!("PodScheduled"))
    );
    let twice = post(&client, &format!("{PODS}/a/binding"), binding)
        .await
        .unwrap_err();
    assert_eq!(
        twice.message,
        r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1""#
    );

    let going = object(&client, Method::DELETE, &format!("{PODS}/a"), Value::Null)
        .await
        .unwrap();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(get(&client, &format!("{PODS}/a")).await.is_ok());
    object(
        &client,
        Method::DELETE,
        &format!("{PODS}/a?gracePeriodSeconds=0"),
        Value::Null,
    )
    .await
    .unwrap();
    assert!(
        get(&client, &format!("{PODS}/a"))
            .await
            .unwrap_err()
            .is_not_found()
    );
    // A pod that no node has goes at once.
    post(&client, PODS, pod("b")).await.unwrap();
    object(&client, Method::DELETE, &format!("{PODS}/b"), Value::Null)
        .await
        .unwrap();
    assert!(get(&client, &format!("{PODS}/b")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_checked() {
    let client = TestCluster::start().await.client();
    let absent = post(
        &client,
        "/api/v1/namespaces/no/configmaps",
        json!({"metadata": {"name": "a"}}),
    )
    .await
    .unwrap_err();
    assert_eq!(absent.message, r#"namespaces "no" not found"#);
    let immortal = object(&client, Method::DELETE, "/api/v1/namespaces/default", Value::Null)
        .await
        .unwrap_err();
    assert_eq!(
        immortal.message,
        r#"namespaces "default" is forbidden: this namespace may not be deleted"#
    );
    post(&client, "/api/v1/namespaces", json!({"metadata": {"name": "x"}}))
        .await
        .unwrap();
    let going = object(&client, Method::DELETE, "/api/v1/namespaces/x", Value::Null)
        .await
        .unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = post(
        &client,
        "/api/v1/namespaces/x/configmaps",
        json!({"metadata": {"name": "a"}}),
    )
    .await
    .unwrap_err();
    assert_eq!(
        refused.message,
        r#"configmaps "a" is forbidden: unable to create new content in namespace x because it is being terminated"#
    );
    let mut last = get(&client, "/api/v1/namespaces/x").await.unwrap();
    last["spec"]["finalizers"] = json!([]);
    object(&client, Method::PUT, "/api/v1/namespaces/x/finalize", last)
        .await
        .unwrap();
    assert!(
        get(&client, "/api/v1/namespaces/x")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test(start_paused = true)]
async fn services_get_addresses_and_ports() {
    let client = TestCluster::start().await.client();
    let kubernetes = get(&client, &format!("{SERVICES}/kubernetes")).await.unwrap();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let a = post(
        &client,
        SERVICES,
        service(
            "a",
            json!({"ports": ports, "selector": {"a": "b"}, "type": "NodePort"}),
        ),
    )
    .await
    .unwrap();
    let ip = a["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10."), "{ip}");
    assert_eq!(
        (&a["spec"]["clusterIPs"][0], &a["spec"]["ipFamilies"][0]),
        (&json!(ip), &json!("IPv4"))
    );
    let port = a["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    let taken = post(
        &client,
        SERVICES,
        service("b", json!({"ports": ports, "clusterIP": ip})),
    )
    .await
    .unwrap_err();
    assert_eq!(
        taken.message,
        format!(
            r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["{ip}"]: failed to allocate IP {ip}: provided IP is already allocated"#
        )
    );
    let taken = post(
        &client,
        SERVICES,
        service(
            "b",
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}),
        ),
    )
    .await
    .unwrap_err();
    assert!(
        taken.message.contains("provided port is already allocated"),
        "{taken}"
    );
    let headless = post(
        &client,
        SERVICES,
        service(
            "h",
            json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": ports}),
        ),
    )
    .await
    .unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let changed = patch(
        &client,
        &format!("{SERVICES}/a"),
        "application/merge-patch+json",
        json!({"metadata": {"labels": {"x": "y"}}}),
    )
    .await
    .unwrap();
    assert_eq!(changed["spec"]["clusterIP"], json!(ip));
    object(&client, Method::DELETE, &format!("{SERVICES}/a"), Value::Null)
        .await
        .unwrap();
    post(
        &client,
        SERVICES,
        service(
            "c",
            json!({"ports": [{"port": 80, "nodePort": port}], "type": "NodePort", "clusterIP": ip}),
        ),
    )
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn evictions_respect_budgets() {
    let client = TestCluster::start().await.client();
    post(&client, PODS, pod("a")).await.unwrap();
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    patch(
        &client,
        &format!("{PODS}/a/status"),
        "application/merge-patch+json",
        running,
    )
    .await
    .unwrap();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    post(&client, budgets, json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}})).await.unwrap();
    let eviction = json!({"metadata": {"name": "a"}});
    let refused = post(&client, &format!("{PODS}/a/eviction"), eviction.clone())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            429,
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
    );
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    patch(
        &client,
        &format!("{budgets}/b/status"),
        "application/merge-patch+json",
        status,
    )
    .await
    .unwrap();
    post(&client, &format!("{PODS}/a/eviction"), eviction)
        .await
        .unwrap();
    assert!(get(&client, &format!("{PODS}/a")).await.is_err());
    let budget = get(&client, &format!("{budgets}/b")).await.unwrap();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
}

#[tokio::test(start_paused = true)]
async fn scale_and_apply() {
    let client = TestCluster::start().await.client();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let intent = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let apply = "application/apply-patch+yaml";
    let path = format!("{deployments}/web?fieldManager=me");
    let created = patch(&client, &path, apply, intent.clone()).await.unwrap();
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "me");
    let again = patch(&client, &path, apply, intent.clone()).await.unwrap();
    assert_eq!(
        again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"],
        "nothing changed"
    );
    let scale = get(&client, &format!("{deployments}/web/scale")).await.unwrap();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    let scaled = patch(
        &client,
        &format!("{deployments}/web/scale"),
        "application/merge-patch+json",
        json!({"spec": {"replicas": 5}}),
    )
    .await;
    assert_eq!(scaled.unwrap()["spec"]["replicas"], 5);
    assert_eq!(
        get(&client, &format!("{deployments}/web")).await.unwrap()["spec"]["replicas"],
        5
    );
    let parent = get(&client, &format!("{deployments}/web")).await.unwrap();
    assert_eq!(parent["metadata"]["generation"], 2, "scaling counts as a change");
    let conflict = patch(&client, &path, apply, intent).await.unwrap_err();
    assert_eq!(conflict.code, 409);
    assert!(
        conflict
            .message
            .starts_with("Apply failed with 1 conflict: conflict with "),
        "{conflict}"
    );
}

struct OnlyGet;

#[async_trait::async_trait]
impl Authorizer for OnlyGet {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        if a.verb == "get" || a.group == "authorization.k8s.io" {
            Decision::Allow("yes".into())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn authorization_and_its_questions() {
    let cluster = TestCluster::start_with(|b| b.authorizer(Arc::new(OnlyGet))).await;
    let client = cluster.client_as(UserInfo::new("x", &[]));
    let refused = crate::util::list(&client, "/api/v1/namespaces/y/pods")
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#
    );
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "y"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        post(&client, path, ask("get")).await.unwrap()["status"],
        json!({"allowed": true, "reason": "yes"})
    );
    assert_eq!(
        post(&client, path, ask("list")).await.unwrap()["status"],
        json!({"allowed": false})
    );
}

/// Refuses every creation of a subresource.
struct NoSubresources;

#[async_trait::async_trait]
impl AdmissionPlugin for NoSubresources {
    fn name(&self) -> &'static str {
        "NoSubresources"
    }
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }
    async fn validate(
        &self,
        _: &ApiServer,
        a: &AdmissionAttributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        if a.subresource.is_empty() {
            Ok(())
        } else {
            Err(a.forbidden(object, "no"))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn admission_sees_what_is_created_as_a_subresource() {
    let cluster = TestCluster::start_with(|b| b.admission_plugin(Arc::new(NoSubresources))).await;
    let client = cluster.client();
    post(&client, PODS, pod("a")).await.unwrap();
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    for (subresource, body) in [
        ("binding", binding),
        ("eviction", json!({"metadata": {"name": "a"}})),
    ] {
        let refused = post(&client, &format!("{PODS}/a/{subresource}"), body)
            .await
            .unwrap_err();
        assert_eq!(refused.message, r#"pods "a" is forbidden: no"#, "{subresource}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_clusters_own_objects_come_back() {
    let cluster = TestCluster::start().await;
    let client = cluster.client();
    let path = "/api/v1/namespaces/default/services/kubernetes";
    let before = object(&client, Method::GET, path, Value::Null).await.unwrap();
    object(&client, Method::DELETE, path, Value::Null).await.unwrap();
    assert_eq!(
        object(&client, Method::GET, path, Value::Null)
            .await
            .unwrap_err()
            .code,
        404
    );
    cluster.env.clock.sleep(std::time::Duration::from_secs(11)).await;
    let after = object(&client, Method::GET, path, Value::Null).await.unwrap();
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
}
