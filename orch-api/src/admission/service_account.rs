//! `ServiceAccount`: every pod has a service account, and its token where the pod expects it.

use super::{AdmissionPlugin, Attributes, Operation};
use crate::server::{ApiServer, ObjectReader};
use async_trait::async_trait;
use orch_core::{Object, Status};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Life of a mounted token, in seconds: an hour and some, so that clients that never reload are noticed.
const TOKEN_SECONDS: u32 = 3607;
/// How long to wait for the service account that a controller makes in each new namespace.
const DEFAULT_WAIT: Duration = Duration::from_millis(1500);

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceAccount;

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations")
        .and_then(|a| a.get(MIRROR))
        .is_some()
}

async fn account(
    server: &ApiServer,
    a: &Attributes<'_>,
    name: &str,
    pod: &Value,
) -> Result<Arc<Object>, Status> {
    if let Some(found) = server.get("", "serviceaccounts", a.namespace, name) {
        return Ok(found);
    }
    let mut seen = server.caches().revisions();
    let wait = if name == DEFAULT {
        DEFAULT_WAIT
    } else {
        Duration::ZERO
    };
    let mut deadline = server.env().clock.sleep(wait);
    if let Some(found) = server
        .look_up("", "v1", "serviceaccounts", a.namespace, name)
        .await?
    {
        return Ok(found);
    }
    loop {
        tokio::select! {
            biased;
            changed = seen.changed() => {
                if let Some(found) = server.get("", "serviceaccounts", a.namespace, name) {
                    return Ok(found);
                }
                if changed.is_ok() {
                    continue;
                }
            }
            () = &mut deadline => {}
        }
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            a.namespace
        );
        return Err(a.forbidden(Some(pod), why));
    }
}

/// Mounts the token into every container that has nothing at its place.
fn mount_token(server: &ApiServer, pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let existing = volumes
        .filter_map(|v| v.get("name").and_then(Value::as_str))
        .find(|n| n.starts_with(VOLUME));
    let existing = existing.map(ToOwned::to_owned);
    let name = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME}{}", server.env().rng.name_suffix(5)));
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        for container in spec
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if list(container, "volumeMounts")
                .iter()
                .any(|m| m["mountPath"] == MOUNT_PATH)
            {
                continue;
            }
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if mounts.is_null() {
                *mounts = json!([]);
            }
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed && existing.is_none() {
        let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}});
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume);
        }
    }
}

fn check_mirror(a: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty()) {
        return Err(a.forbidden(Some(pod), "a mirror pod may not reference service accounts"));
    }
    if references_secrets(spec) {
        return Err(a.forbidden(Some(pod), "a mirror pod may not reference secrets"));
    }
    let projected = list(spec, "volumes")
        .iter()
        .flat_map(|v| list(&v["projected"], "sources"));
    if projected.into_iter().any(|s| !s["serviceAccountToken"].is_null()) {
        return Err(a.forbidden(
            Some(pod),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ));
    }
    Ok(())
}

fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let of = |field: &'static str, word: &'static str| list(spec, field).iter().map(move |c| (word, c));
    of("initContainers", "init container").chain(of("containers", "container"))
}

fn references_secrets(spec: &Value) -> bool {
    let in_containers = containers(spec).any(|(_, c)| {
        list(c, "env")
            .iter()
            .any(|e| !e["valueFrom"]["secretKeyRef"].is_null())
            || list(c, "envFrom").iter().any(|e| !e["secretRef"].is_null())
    });
    let in_volumes = list(spec, "volumes").iter().any(|v| {
        !v["secret"].is_null()
            || list(&v["projected"], "sources")
                .iter()
                .any(|s| !s["secret"].is_null())
    });
    in_containers || in_volumes || !list(spec, "imagePullSecrets").is_empty()
}

/// Why the pod refers to a secret that its account does not list, for accounts that insist.
fn unlisted_secret(account: &Object, pod: &Value) -> Option<String> {
    let insists = account
        .value()
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(ENFORCE));
    if !insists
        .and_then(Value::as_str)
        .is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    {
        return None;
    }
    let names = |field: &str| {
        list(account.value(), field)
            .iter()
            .filter_map(|s| s["name"].as_str())
            .collect::<Vec<_>>()
    };
    let (secrets, pulls) = (names("secrets"), names("imagePullSecrets"));
    let who = account.name();
    let missing = |reference: &Value| {
        reference
            .as_str()
            .filter(|n| !secrets.contains(n))
            .map(ToOwned::to_owned)
    };
    let spec = &pod["spec"];
    for volume in list(spec, "volumes") {
        if let Some(name) = missing(&volume["secret"]["secretName"]) {
            return Some(format!(
                "volume with secret.secretName=\"{name}\" is not allowed because service account {who} does not reference that secret"
            ));
        }
    }
    for (word, container) in containers(spec) {
        let shown = container["name"].as_str().unwrap_or_default();
        for env in list(container, "env") {
            if let Some(name) = missing(&env["valueFrom"]["secretKeyRef"]["name"]) {
                let variable = env["name"].as_str().unwrap_or_default();
                return Some(format!(
                    "{word} {shown} with envVar {variable} referencing secret.secretName=\"{name}\" is not allowed because service account {who} does not reference that secret"
                ));
            }
        }
        for env in list(container, "envFrom") {
            if let Some(name) = missing(&env["secretRef"]["name"]) {
                return Some(format!(
                    "{word} {shown} with envFrom referencing secret.secretName=\"{name}\" is not allowed because service account {who} does not reference that secret"
                ));
            }
        }
    }
    for (i, pull) in list(spec, "imagePullSecrets").iter().enumerate() {
        let name = pull["name"].as_str().unwrap_or_default();
        if !pulls.contains(&name) {
            return Some(format!(
                "imagePullSecrets[{i}].name=\"{name}\" is not allowed because service account {who} does not reference that imagePullSecret"
            ));
        }
    }
    None
}

#[async_trait]
impl AdmissionPlugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, server: &ApiServer, a: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if !a.is("", "pods") || !object["spec"].is_object() {
            return Ok(());
        }
        if is_mirror(object) {
            return check_mirror(a, object);
        }
        let named = object["spec"]["serviceAccountName"]
            .as_str()
            .filter(|n| !n.is_empty())
            .unwrap_or(DEFAULT);
        let named = named.to_owned();
        let account = account(server, a, &named, object).await?;
        let spec = &mut object["spec"];
        spec["serviceAccountName"] = named.as_str().into();
        // The old name of the same field goes out with it.
        spec["serviceAccount"] = named.into();
        let wanted = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
        let wanted = wanted.or_else(|| {
            account
                .value()
                .get("automountServiceAccountToken")
                .and_then(Value::as_bool)
        });
        if list(spec, "imagePullSecrets").is_empty() {
            let pulls: Vec<Value> = list(account.value(), "imagePullSecrets")
                .iter()
                .map(|s| json!({"name": s["name"]}))
                .collect();
            if !pulls.is_empty() {
                spec["imagePullSecrets"] = pulls.into();
            }
        }
        if wanted.unwrap_or(true) {
            mount_token(server, object);
        }
        Ok(())
    }

    async fn validate(
        &self,
        server: &ApiServer,
        a: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(pod) = object.filter(|_| a.is("", "pods")) else {
            return Ok(());
        };
        if is_mirror(pod) {
            return check_mirror(a, pod);
        }
        let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if name.is_empty() {
            let shown = pod["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!("no service account specified for pod {}/{shown}", a.namespace);
            return Err(a.forbidden(Some(pod), why));
        }
        let account = account(server, a, name, pod).await?;
        match unlisted_secret(&account, pod) {
            Some(why) => Err(a.forbidden(Some(pod), why)),
            None => Ok(()),
        }
    }
}
