//! RBAC, the Node authorizer and reviews, over the network.

use super::{Cluster, create, eventually, get, json as body, run};
use orch_core::{ApiClient, client::ApiRequest};
use serde_json::{Value, json};

#[test]
fn a_role_binding_lets_a_user_in_and_its_deletion_out() {
    run(async {
        let cluster = Cluster::start().await;
        let (admin, alice) = (cluster.admin(), cluster.as_user("alice", &["dev"]));
        let list = "/api/v1/namespaces/default/configmaps";
        let error = get(&alice, list).await.unwrap_err();
        assert_eq!(
            error.message,
            "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API group \"\" in the \
             namespace \"default\""
        );
        let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dev"}]});
        create(&admin, bindings, binding.clone()).await.unwrap();
        eventually("alice may list", async || get(&alice, list).await.is_ok()).await;
        assert_eq!(
            get(&alice, "/api/v1/namespaces/default/secrets")
                .await
                .unwrap_err()
                .code,
            403
        );
        // Having `view` does not let one hand out `admin`.
        let error = create(&alice, bindings, binding).await.unwrap_err();
        assert_eq!(error.code, 403);

        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}});
        let answer = create(
            &alice,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            review,
        )
        .await
        .unwrap();
        assert_eq!(body(answer)["status"]["allowed"], true);
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
        let answer = create(
            &alice,
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            review,
        )
        .await
        .unwrap();
        assert!(
            !body(answer)["status"]["resourceRules"]
                .as_array()
                .unwrap()
                .is_empty()
        );

        admin
            .call(ApiRequest::new(http::Method::DELETE, format!("{bindings}/b")))
            .await
            .unwrap();
        eventually("alice may not list", async || get(&alice, list).await.is_err()).await;
    });
}

#[test]
fn whoever_may_write_roles_cannot_make_themselves_admin() {
    run(async {
        let cluster = Cluster::start().await;
        let (admin, eve) = (cluster.admin(), cluster.as_user("eve", &[]));
        let group = "/apis/rbac.authorization.k8s.io/v1";
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "rbac-writer"},
            "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["create", "update", "get"]}]});
        create(&admin, &format!("{group}/clusterroles"), role)
            .await
            .unwrap();
        let binding = |name: &str, role: &str| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]})
        };
        let bindings = format!("{group}/clusterrolebindings");
        create(&admin, &bindings, binding("eve", "rbac-writer"))
            .await
            .unwrap();
        let roles = format!("{group}/clusterroles/rbac-writer");
        eventually("eve may read roles", async || get(&eve, &roles).await.is_ok()).await;
        let error = create(&eve, &bindings, binding("mine", "cluster-admin"))
            .await
            .unwrap_err();
        assert_eq!(error.code, 403);
        assert!(
            error
                .message
                .contains("is attempting to grant RBAC permissions not currently held:"),
            "{error}"
        );
        let all = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        assert_eq!(
            create(&eve, &format!("{group}/clusterroles"), all)
                .await
                .unwrap_err()
                .code,
            403
        );
        assert!(
            create(&eve, &bindings, binding("same", "rbac-writer"))
                .await
                .is_ok()
        );
    });
}

#[test]
fn a_node_is_confined_to_itself() {
    run(async {
        let cluster = Cluster::start().await;
        let (admin, node) = (
            cluster.admin(),
            cluster.as_user("system:node:n1", &["system:nodes"]),
        );
        let named = |name: &str| json!({"metadata": {"name": name}});
        create(&node, "/api/v1/nodes", named("n1")).await.unwrap();
        assert_eq!(
            create(&node, "/api/v1/nodes", named("n2"))
                .await
                .unwrap_err()
                .code,
            403
        );
        for name in ["used", "unused"] {
            create(&admin, "/api/v1/namespaces/default/secrets", named(name))
                .await
                .unwrap();
        }
        create(&admin, "/api/v1/namespaces/default/serviceaccounts", named("sa"))
            .await
            .unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": "used"}}]}});
        let made: Value = body(
            create(&admin, "/api/v1/namespaces/default/pods", pod)
                .await
                .unwrap(),
        );
        let secret = |name: &str| format!("/api/v1/namespaces/default/secrets/{name}");
        eventually("the node may read its pod's secret", async || {
            get(&node, &secret("used")).await.is_ok()
        })
        .await;
        let error = get(&node, &secret("unused")).await.unwrap_err();
        assert!(
            error
                .message
                .ends_with("no relationship found between node 'n1' and this object"),
            "{error}"
        );
        assert_eq!(get(&node, "/api/v1/secrets").await.unwrap_err().code, 403);

        let token = |uid: &str| {
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
        };
        let path = "/api/v1/namespaces/default/serviceaccounts/sa/token";
        assert_eq!(create(&node, path, token("other")).await.unwrap_err().code, 403);
        let uid = made["metadata"]["uid"].as_str().unwrap();
        // An empty audience is the one of the token volume that every pod gets.
        let answer = create(&node, path, token(uid)).await;
        if made["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|v| v.get("projected").is_some())
        {
            let token = body(answer.unwrap())["status"]["token"]
                .as_str()
                .unwrap()
                .to_owned();
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
            let review = create(&admin, "/apis/authentication.k8s.io/v1/tokenreviews", review)
                .await
                .unwrap();
            let status = &body(review)["status"];
            assert_eq!(status["user"]["username"], "system:serviceaccount:default:sa");
            assert_eq!(
                status["user"]["extra"]["authentication.kubernetes.io/node-name"],
                json!(["n1"])
            );
        }
        let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        create(&node, leases, lease("n1")).await.unwrap();
        assert_eq!(create(&node, leases, lease("n2")).await.unwrap_err().code, 403);
    });
}
