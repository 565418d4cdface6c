use super::{pod::MIRROR, *};
use crate::authz::AlwaysAllow;
use serde_json::json;

struct Cluster;

#[async_trait]
impl ObjectLookup for Cluster {
    async fn lookup(&self, resource: &str, _: &str, name: &str) -> Result<Arc<Object>, Status> {
        let value = match (resource, name) {
            ("nodes", "n1") => json!({"metadata": {"name": "n1", "uid": "n1-uid"}}),
            ("pods", "mine") => {
                json!({"metadata": {"name": "mine", "uid": "p-uid"}, "spec": {"nodeName": "n1"}})
            }
            ("pods", "theirs") => {
                json!({"metadata": {"name": "theirs", "uid": "q-uid"}, "spec": {"nodeName": "n2"}})
            }
            _ => {
                return Err(Status::not_found(
                    &GroupResource {
                        group: String::new(),
                        resource: resource.into(),
                    },
                    name,
                ));
            }
        };
        Ok(Arc::new(Object::from_value(value)))
    }
}

async fn check_write(operation: Operation, what: &str, name: &str, new: Value, old: Value, says: &str) {
    let user = UserInfo::new("system:node:n1", &["system:nodes"]);
    let (group, resource) = what.split_once(':').unwrap_or(("", what));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let namespace = if resource == "leases" {
        "kube-node-lease"
    } else {
        "ns"
    };
    let write = NodeWrite {
        user: &user,
        operation,
        group,
        resource,
        subresource,
        namespace,
        name,
        object: Some(&new).filter(|v| !v.is_null()),
        old: Some(&old).filter(|v| !v.is_null()),
    };
    match (check(&write, &Cluster, &AlwaysAllow).await, says) {
        (Ok(()), "") => {}
        (Err(e), says) if !says.is_empty() => assert!(e.message.contains(says), "{says}: {e}"),
        (found, _) => panic!("{what} {name}: expected {says:?}, found {found:?}"),
    }
}

#[tokio::test]
async fn a_node_writes_its_own_and_no_more() {
    use Operation::{Create, Delete, Update};
    let node = |labels: Value, taints: Value| json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}});
    let plain = || node(json!({}), json!([]));
    check_write(
        Update,
        "nodes",
        "n1",
        node(json!({"kubernetes.io/hostname": "h"}), json!(null)),
        plain(),
        "",
    )
    .await;
    check_write(
        Update,
        "nodes",
        "n2",
        plain(),
        plain(),
        "not allowed to modify node \"n2\"",
    )
    .await;
    check_write(
        Update,
        "nodes",
        "n1",
        node(json!({}), json!([{"key": "k"}])),
        plain(),
        "modify taints",
    )
    .await;
    check_write(
        Update,
        "nodes",
        "n1",
        node(json!({"node-role.kubernetes.io/x": ""}), json!([])),
        plain(),
        "modify labels",
    )
    .await;
    check_write(
        Create,
        "nodes",
        "",
        node(json!({"a.node-restriction.kubernetes.io/x": ""}), json!([])),
        Value::Null,
        "following labels: a.node-restriction",
    )
    .await;
    check_write(
        Create,
        "nodes",
        "",
        node(json!({"own/label": "", "node.kubernetes.io/x": ""}), json!([])),
        Value::Null,
        "",
    )
    .await;

    let pod = |node: &str, owner: Value, extra: Value| {
        let mut pod = json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}, "ownerReferences": owner}, "spec": extra});
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1-uid", "controller": true}]);
    check_write(
        Create,
        "pods",
        "",
        pod("n1", owner.clone(), json!({})),
        Value::Null,
        "",
    )
    .await;
    check_write(
        Create,
        "pods",
        "",
        pod("n2", owner.clone(), json!({})),
        Value::Null,
        "spec.nodeName set to itself",
    )
    .await;
    check_write(
        Create,
        "pods",
        "",
        pod("n1", json!([]), json!({})),
        Value::Null,
        "an owner reference",
    )
    .await;
    let steals = json!({"volumes": [{"secret": {"secretName": "x"}}]});
    check_write(
        Create,
        "pods",
        "",
        pod("n1", owner, steals),
        Value::Null,
        "secrets (via secret volumes)",
    )
    .await;
    check_write(
        Create,
        "pods",
        "",
        json!({"metadata": {}, "spec": {"nodeName": "n1"}}),
        Value::Null,
        "mirror",
    )
    .await;
    check_write(Delete, "pods", "mine", Value::Null, Value::Null, "").await;
    check_write(
        Delete,
        "pods",
        "theirs",
        Value::Null,
        Value::Null,
        "can only delete pods",
    )
    .await;
    let status =
        |node: &str, label: &str| json!({"metadata": {"labels": {"a": label}}, "spec": {"nodeName": node}});
    check_write(
        Update,
        "pods/status",
        "p",
        status("n1", "x"),
        status("n1", "x"),
        "",
    )
    .await;
    check_write(
        Update,
        "pods/status",
        "p",
        status("n1", "y"),
        status("n1", "x"),
        "cannot update labels",
    )
    .await;
    check_write(
        Update,
        "pods/status",
        "p",
        status("n2", "x"),
        status("n2", "x"),
        "can only update pod status",
    )
    .await;

    let lease = json!({"metadata": {"name": "n2"}});
    check_write(
        Create,
        "coordination.k8s.io:leases",
        "",
        lease,
        Value::Null,
        "same name as the requesting node",
    )
    .await;
    let request = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
    check_write(
        Create,
        "serviceaccounts/token",
        "sa",
        request("mine", "p-uid"),
        Value::Null,
        "",
    )
    .await;
    check_write(
        Create,
        "serviceaccounts/token",
        "sa",
        request("mine", "old"),
        Value::Null,
        "does not match the UID",
    )
    .await;
    check_write(
        Create,
        "serviceaccounts/token",
        "sa",
        request("theirs", "q-uid"),
        Value::Null,
        "different node",
    )
    .await;
    check_write(
        Create,
        "serviceaccounts/token",
        "sa",
        json!({"spec": {}}),
        Value::Null,
        "not bound to a pod",
    )
    .await;
}
