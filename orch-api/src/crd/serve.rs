//! The loop that follows CustomResourceDefinitions: gives them their names, serves them, cleans up after them.

use super::{
    CLEANUP, is_true, items,
    names::{Taken, accept},
    set_condition,
    strategy::{Custom, accepted, facts},
    text,
};
use crate::{
    LocalClient,
    registry::{
        Resource, meta,
        resource::{Conversion, prefix_of},
    },
    server::{ApiServer, ServedResource, WeakServer},
};
use http::{HeaderValue, Method, header};
use orch_core::{
    ApiClient, GroupVersionKind, GroupVersionResource, Object, Status,
    client::{ApiRequest, ResponseBody},
};
use orch_kinds::resources::{ResourceDef, SubresourceDef};
use orch_store::Durability;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const GROUP: &str = "apiextensions.k8s.io";
const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// How soon a pass that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Serves the definitions as long as the server lives. `first` is told when the stored ones are served.
pub(crate) async fn follow(server: WeakServer, first: tokio::sync::oneshot::Sender<()>) {
    let mut first = Some(first);
    let mut served = Vec::new();
    loop {
        let Some(strong) = server.upgrade() else { return };
        let Some(mut changes) = strong.changes_of(GROUP, "customresourcedefinitions") else {
            return;
        };
        changes.mark_unchanged();
        let done = pass(&strong, &mut served).await;
        if let Some(first) = first.take() {
            // Whoever built the server may have given up meanwhile.
            let _ = first.send(());
        }
        let clock = strong.env().clock.clone();
        drop(strong);
        match done {
            Ok(()) => {
                if changes.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if !error.is_conflict() {
                    tracing::warn!(%error, "serving custom resources");
                }
                let retry = clock.sleep(RETRY);
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = retry => {}
                }
            }
        }
    }
}

/// The state of one definition when it was last served.
type Key = (String, i64, Value);

fn key_of(crd: &Value) -> Key {
    let generation = meta::field(crd, "generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    (
        meta::text(crd, "uid").to_owned(),
        generation,
        crd["status"]["acceptedNames"].clone(),
    )
}

/// Brings everything to where the definitions want it.
async fn pass(server: &ApiServer, served: &mut Vec<Key>) -> Result<(), Status> {
    use crate::server::ObjectReader;
    let mut crds: Vec<Value> = server
        .list(GROUP, "customresourcedefinitions", "")
        .iter()
        .map(|o| o.value().clone())
        .collect();
    // Older definitions come first: they keep the names that younger ones want too.
    crds.sort_by(|a, b| {
        let key = |v: &Value| {
            (
                meta::text(v, "creationTimestamp").to_owned(),
                meta::text(v, "name").to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    let now = meta::time(server.env().clock.now());
    let mut changed = Vec::new();
    for i in 0..crds.len() {
        let group = text(&crds[i]["spec"], "group").to_owned();
        let others = crds
            .iter()
            .enumerate()
            .filter(|(j, c)| *j != i && text(&c["spec"], "group") == group);
        let taken = Taken::of(others.map(|(_, c)| c));
        if accept(&mut crds[i], &taken, &now) {
            changed.push(i);
        }
    }
    let established = |c: &&Value| is_true(c, "Established");
    let keys: Vec<Key> = crds.iter().filter(established).map(key_of).collect();
    if keys != *served {
        let mut resources = Vec::new();
        for crd in crds.iter().filter(established) {
            resources.extend(resources_of(server, crd).await);
        }
        server.serve_custom(resources);
        *served = keys;
    }
    let client = LocalClient::privileged(server.clone());
    // Only now that it is served does a definition say so.
    for i in changed {
        put_status(&client, &crds[i]).await?;
    }
    for crd in crds
        .iter()
        .filter(|c| meta::field(c, "deletionTimestamp").is_some())
    {
        if meta::finalizers(crd).iter().any(|f| f == CLEANUP) {
            clean_up(&client, crd, &now).await?;
        }
    }
    Ok(())
}

/// The resources of an established definition, one for each served version.
async fn resources_of(server: &ApiServer, crd: &Value) -> Vec<Arc<Resource>> {
    let spec = &crd["spec"];
    let names = &crd["status"]["acceptedNames"];
    let (group, plural) = (text(spec, "group"), text(names, "plural"));
    let prefix = prefix_of(group, plural, true);
    let Some(cache) = server.caches().add(&prefix).await else {
        return Vec::new();
    };
    let mut resources = Vec::new();
    for version in items(spec, "versions").iter().filter(|v| v["served"] == true) {
        let facts = facts(crd, version);
        let storage = format!("{group}/{}", facts.storage_version);
        let def = definition_of(crd, version);
        let strategy = match Custom::new(version, def.namespaced, &facts) {
            Ok(strategy) => strategy,
            Err(error) => {
                tracing::error!(%error, crd = facts.crd, "a custom resource can't be served");
                continue;
            }
        };
        let own = def.gvr.group_version().to_string();
        let served = Arc::new(ServedResource {
            def,
            custom: Some(Arc::new(facts)),
        });
        resources.push(Arc::new(Resource {
            group_resource: served.gvr.group_resource(),
            gvk: served.gvk(),
            strategy: Arc::new(strategy),
            cache: cache.clone(),
            conversion: Conversion::Relabel(storage, own),
            ttl: None,
            durability: Durability::Synced,
            served,
        }));
    }
    resources
}

fn definition_of(crd: &Value, version: &Value) -> ResourceDef {
    let (spec, names) = (&crd["spec"], &crd["status"]["acceptedNames"]);
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (group, kind) = (text(spec, "group"), text(names, "kind"));
    let gvk = GroupVersionKind::new(group, text(version, "name"), kind);
    let mut subresources = Vec::new();
    let view = own(&["get", "patch", "update"]);
    if !version["subresources"]["scale"].is_null() {
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        subresources.push(SubresourceDef {
            name: "scale".into(),
            gvk,
            verbs: view.clone(),
        });
    }
    if !version["subresources"]["status"].is_null() {
        subresources.push(SubresourceDef {
            name: "status".into(),
            gvk,
            verbs: view,
        });
    }
    ResourceDef {
        gvr: GroupVersionResource::new(group, text(version, "name"), text(names, "plural")),
        kind: kind.into(),
        list_kind: text(names, "listKind").into(),
        singular: text(names, "singular").into(),
        namespaced: text(spec, "scope") == "Namespaced",
        short_names: accepted(crd, "shortNames"),
        categories: accepted(crd, "categories"),
        verbs: own(&verbs),
        subresources,
    }
}

fn request(method: Method, path: String) -> ApiRequest {
    let mut request = ApiRequest::new(method, path);
    request
        .headers
        .insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver"));
    request
}

async fn put_status(client: &LocalClient, crd: &Value) -> Result<(), Status> {
    let path = format!("{PATH}/{}/status", meta::text(crd, "name"));
    match client.call(request(Method::PUT, path).value(crd.clone())).await {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

/// Deletes the objects of a deleted definition; when none is left, lets it go.
async fn clean_up(client: &LocalClient, crd: &Value, now: &str) -> Result<(), Status> {
    let mut crd = crd.clone();
    let (spec, names) = (&crd["spec"], &crd["status"]["acceptedNames"]);
    let served = items(spec, "versions")
        .iter()
        .find(|v| v["served"] == true)
        .map(|v| text(v, "name").to_owned());
    let left = match served.filter(|_| is_true(&crd, "Established")) {
        None => 0,
        Some(version) => {
            let gvr = GroupVersionResource::new(text(spec, "group"), version, text(names, "plural"));
            let namespaced = text(spec, "scope") == "Namespaced";
            delete_all(client, &gvr, namespaced).await?
        }
    };
    if left > 0 {
        let message = format!("CustomResource deletion is in progress: {left} remaining");
        if set_condition(
            &mut crd,
            "Terminating",
            "True",
            "InstanceDeletionInProgress",
            &message,
            now,
        ) {
            put_status(client, &crd).await?;
        }
        // Their finalizers decide; there is no event here when the last one goes, so the pass is repeated.
        return Err(Status::conflict(
            &orch_core::GroupResource {
                group: GROUP.into(),
                resource: "customresourcedefinitions".into(),
            },
            meta::text(&crd, "name"),
            "objects are left",
        ));
    }
    let finalizers: Vec<String> = meta::finalizers(&crd)
        .into_iter()
        .filter(|f| f != CLEANUP)
        .collect();
    let patch = json!({"metadata": {"finalizers": if finalizers.is_empty() { Value::Null } else { finalizers.into() },
        "uid": meta::text(&crd, "uid")}});
    let mut request = request(Method::PATCH, format!("{PATH}/{}", meta::text(&crd, "name"))).value(patch);
    request.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/merge-patch+json"),
    );
    match client.call(request).await {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

/// Deletes every object of a resource; how many are left, waiting for finalizers.
async fn delete_all(
    client: &LocalClient,
    gvr: &GroupVersionResource,
    namespaced: bool,
) -> Result<usize, Status> {
    let list = |body: ResponseBody| -> Vec<Arc<Object>> {
        if let ResponseBody::List { items, .. } = body {
            items
        } else {
            Vec::new()
        }
    };
    let all = list(
        client
            .call(request(Method::GET, gvr.collection_path(None)))
            .await?
            .body,
    );
    for object in all
        .iter()
        .filter(|o| meta::field(o.value(), "deletionTimestamp").is_none())
    {
        let namespace = namespaced.then(|| object.namespace());
        let path = format!("{}/{}", gvr.collection_path(namespace), object.name());
        match client.call(request(Method::DELETE, path)).await {
            Err(e) if !e.is_not_found() => return Err(e),
            _ => {}
        }
    }
    Ok(list(
        client
            .call(request(Method::GET, gvr.collection_path(None)))
            .await?
            .body,
    )
    .len())
}
