//! What every cluster has from its first moment: namespaces, roles and bindings, priority classes, and the Service
//! through which pods reach the API server.

use crate::{
    LocalClient,
    server::{ApiServer, BuildError, RequestInfo, WeakServer},
};
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderValue, Method, header};
use orch_core::{ApiClient, Object, Status, client::ApiRequest, selector::LabelSelector};
use serde_json::{Map, Value, json};
use std::{net::IpAddr, time::Duration};

/// The facts: a map from collection path to objects without kind.
const OBJECTS: &str = include_str!("../data/bootstrap-objects.json");
/// How often what must always be there is looked at. Upstream's interval for its own endpoints.
const OWN_OBJECTS_PERIOD: Duration = Duration::from_secs(10);
/// Namespaces that come back when they are deleted.
const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How many are made at once.
const AT_ONCE: usize = 32;

fn request(method: Method, path: String) -> ApiRequest {
    let mut request = ApiRequest::new(method, path);
    request
        .headers
        .insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver"));
    request
}

/// Makes what is missing.
pub(crate) async fn ensure(server: &ApiServer, advertise: &[IpAddr], port: u16) -> Result<(), BuildError> {
    let client = LocalClient::privileged(server.clone());
    let mut objects: Map<String, Value> = serde_json::from_str(OBJECTS)
        .map_err(|e| BuildError::Parameter(format!("bootstrap objects: {e}")))?;
    objects.retain(|path, _| is_served(server, path));
    if let Some(Value::Array(roles)) = objects.get_mut("/apis/rbac.authorization.k8s.io/v1/clusterroles") {
        aggregate(roles);
    }
    // Namespaces first: the rest lives in them.
    let (namespaces, others): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .partition(|(path, _)| path.ends_with("/namespaces"));
    for group in [namespaces, others] {
        let all = group.into_iter().flat_map(|(path, list)| {
            let list = if let Value::Array(list) = list {
                list
            } else {
                Vec::new()
            };
            list.into_iter().map(move |object| (path.clone(), object))
        });
        let creations = all.map(|(path, object)| create(&client, path, object));
        let outcome: Result<Vec<()>, Status> = stream::iter(creations)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await;
        outcome.map_err(BuildError::Bootstrap)?;
    }
    service(&client, server, advertise, port)
        .await
        .map_err(BuildError::Bootstrap)
}

/// Makes the system namespaces and Service `default/kubernetes` again when someone deleted them, until the server is
/// gone.
pub(crate) async fn keep(server: WeakServer, advertise: Vec<IpAddr>, port: u16) {
    let Some(clock) = server.upgrade().map(|s| s.env().clock.clone()) else {
        return;
    };
    loop {
        clock.sleep(OWN_OBJECTS_PERIOD).await;
        let Some(server) = server.upgrade() else { return };
        let client = LocalClient::privileged(server.clone());
        let namespaces = SYSTEM_NAMESPACES.map(|name| json!({"metadata": {"name": name}}));
        let made: Result<(), Status> = async {
            for namespace in namespaces {
                create(&client, "/api/v1/namespaces".into(), namespace).await?;
            }
            service(&client, &server, &advertise, port).await
        }
        .await;
        if let Err(error) = made {
            tracing::warn!(%error, "the cluster's own objects could not be checked");
        }
    }
}

fn is_served(server: &ApiServer, path: &str) -> bool {
    let info = RequestInfo::of(&ApiRequest::get(path));
    server
        .resources()
        .get(&info.group, &info.version, &info.resource)
        .is_some()
}

/// The path of one collection, with the namespace of an object that has one.
fn collection(path: &str, object: &Value) -> String {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    match (namespace, path.rsplit_once('/')) {
        (Some(namespace), Some((base, resource))) => format!("{base}/namespaces/{namespace}/{resource}"),
        _ => path.to_owned(),
    }
}

async fn create(client: &LocalClient, path: String, object: Value) -> Result<(), Status> {
    let path = collection(&path, &object);
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if exists(client, &format!("{path}/{name}")).await?.is_some() {
        return Ok(());
    }
    match client.call(request(Method::POST, path).value(object)).await {
        Ok(_) => Ok(()),
        Err(e) if e.is_already_exists() => Ok(()),
        Err(e) => Err(e),
    }
}

async fn exists(client: &LocalClient, path: &str) -> Result<Option<std::sync::Arc<Object>>, Status> {
    match client
        .call(request(Method::GET, path.to_owned()).param("resourceVersion", "0"))
        .await
    {
        Ok(response) => response.into_object().map(Some),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Fills the rules of aggregated roles from those that they select, as the aggregation controller will keep them.
fn aggregate(roles: &mut [Value]) {
    // Aggregated roles select each other (view, then edit, then admin), so this is repeated until nothing is added.
    for _ in 0..roles.len() {
        let known = roles.to_vec();
        for role in roles.iter_mut() {
            let selectors = role
                .pointer("/aggregationRule/clusterRoleSelectors")
                .and_then(Value::as_array)
                .cloned();
            let selectors: Vec<LabelSelector> = selectors
                .iter()
                .flatten()
                .filter_map(|s| LabelSelector::from_value(Some(s)).ok())
                .collect();
            if selectors.is_empty() {
                continue;
            }
            let name = role.pointer("/metadata/name").cloned();
            let mut rules: Vec<Value> = Vec::new();
            for other in known
                .iter()
                .filter(|o| o.pointer("/metadata/name") != name.as_ref())
            {
                let labels = other.pointer("/metadata/labels");
                let of = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
                if selectors.iter().any(|s| s.matches_with(of)) {
                    for rule in other.get("rules").and_then(Value::as_array).into_iter().flatten() {
                        if !rules.contains(rule) {
                            rules.push(rule.clone());
                        }
                    }
                }
            }
            role["rules"] = rules.into();
        }
        if *roles == *known {
            return;
        }
    }
}

/// Service `default/kubernetes` at the first cluster IP, and where it leads.
async fn service(
    client: &LocalClient,
    server: &ApiServer,
    advertise: &[IpAddr],
    port: u16,
) -> Result<(), Status> {
    const BASE: &str = "/api/v1/namespaces/default";
    let first = server.pools().lock().first_ip();
    if let Some(ip) = first {
        let ports = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]);
        let object = json!({
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()], "ports": ports,
                "sessionAffinity": "None", "type": "ClusterIP"},
        });
        create(
            client,
            format!("{BASE}/services").replace("/namespaces/default", ""),
            object,
        )
        .await?;
    }
    let usable = |ip: &&IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    let Some(family) = advertise.iter().find(usable).map(IpAddr::is_ipv4) else {
        return Ok(());
    };
    let ips: Vec<String> = advertise
        .iter()
        .filter(usable)
        .filter(|ip| ip.is_ipv4() == family)
        .map(ToString::to_string)
        .collect();
    let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    put(
        client,
        &format!("{BASE}/endpoints/kubernetes"),
        endpoints,
        "subsets",
    )
    .await?;
    let ready: Vec<Value> = ips
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if family { "IPv4" } else { "IPv6" },
        "endpoints": ready,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    put(
        client,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        slice,
        "endpoints",
    )
    .await
}

/// Creates the object, or replaces the one that is there if it differs in `field` or its ports.
async fn put(client: &LocalClient, path: &str, mut object: Value, field: &str) -> Result<(), Status> {
    let Some(held) = exists(client, path).await? else {
        let (collection, _) = path.rsplit_once('/').unwrap_or((path, ""));
        return client
            .call(request(Method::POST, collection.to_owned()).value(object))
            .await
            .map(drop);
    };
    let held = held.value();
    if held.get(field) == object.get(field) && held.get("ports") == object.get("ports") {
        return Ok(());
    }
    object["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
    client
        .call(request(Method::PUT, path.to_owned()).value(object))
        .await
        .map(drop)
}
